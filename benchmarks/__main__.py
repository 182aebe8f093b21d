"""Run the benchmarks, print their figures, write them to `benchmarks/out`."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.measure import write

NAMES = (
    "split", "limits", "sites", "replay", "core", "full", "start", "line", "tick", "peers", "traces", "c37118",
    "iec61850", "utility", "journal", "streams", "scores", "settle", "billing", "results", "verify", "studies",
    "stability", "fleetdata", "bids", "backtests", "soak",
)  # fmt: skip
# Even their quick form would make the quick figures take too long.
LONG = ("soak", "backtests")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the quick figures, under three minutes")
    parser.add_argument("--only", choices=NAMES, action="append", help="one benchmark; may be repeated")
    asked = parser.parse_args()
    for name in asked.only or [name for name in NAMES if not (asked.quick and name in LONG)]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures = importlib.import_module(f"benchmarks.{name}").run(asked.quick)
        for figure in figures:
            value = "-" if figure.value is None else f"{figure.value:.4g}"
            print(f"{figure.name:45} {value:>10} {figure.unit:8} {figure.against}", flush=True)
        write(name, figures)


main()
