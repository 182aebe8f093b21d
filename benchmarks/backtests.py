"""A year of seconds through `flyball backtest`: measured on a few days and told for 365, or run whole.

    python -m benchmarks.backtests --full      the year itself

Days are files of a folder, each a generated day at 1 s; every run is a process of its own, its memory the most it held.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from benchmarks.fleets import trace_hz
from benchmarks.measure import Figure

VEHICLES = 1_000
YEAR = 365
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Ran(NamedTuple):
    """What one run took."""

    wall_s: float
    cpu_s: float
    peak_gb: float


def write_days(folder: Path, days: int) -> None:
    """One file a day, all with the same frequency: what is measured does not depend on it."""
    hz = [f"{value:.6f}" for value in trace_hz(864_000)[::10]]
    for day in range(days):
        begin = BEGIN + timedelta(days=day)
        rows = [f"{begin + timedelta(seconds=k):%Y-%m-%d %H:%M:%S},{value}" for k, value in enumerate(hz)]
        (folder / f"{begin:%Y-%m-%d}.csv").write_text("dtm,f\n" + "\n".join(rows) + "\n", encoding="utf-8")


def ran(folder: Path, days: int, *options: str) -> Ran:
    """The command over the first `days` of the folder."""
    until = f"{BEGIN + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
    command = [sys.executable, "-m", "aggregator.cli", "backtest", str(folder), "--vehicles", str(VEHICLES)]
    begun_s = time.perf_counter()
    with subprocess.Popen(
        [*command, "--to", until, *options, "--json", str(folder / "found.txt")], stdout=subprocess.DEVNULL
    ) as child:
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    taken_s = time.perf_counter() - begun_s
    assert child.returncode == 0
    assert json.loads((folder / "found.txt").read_bytes())["samples"] == days * 86_400
    return Ran(taken_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)


def figures(days: int) -> list[Figure]:
    """Of so many days; fewer than a year are told for one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_days(folder, days)
        # The first run on a machine compiles kernels.
        one = min(ran(folder, 1), ran(folder, 1))
        many = ran(folder, days) if days > 1 else one
        kept = ran(folder, days, "--out", str(folder / "out"))
    how = "the whole year" if days == YEAR else f"{days} day(s), times {YEAR / days:.3g}"
    return [
        Figure("backtest.year_1k_min", many.wall_s * YEAR / days / 60.0, "min", f"goal 6; {how}"),
        Figure("backtest.year_1k_cpu_min", many.cpu_s * YEAR / days / 60.0, "min", f"processor time; {how}"),
        Figure("backtest.year_1k_gb", many.peak_gb, "GB", f"goal 2; {days} day(s), {one.peak_gb:.3g} for one"),
        Figure("backtest.year_1k_out_gb", kept.peak_gb, "GB", f"with --out, {days} day(s)"),
    ]


def run(quick: bool) -> list[Figure]:
    """`backtest.year_1k_min`, its processor time and memory."""
    return figures(2 if quick else 7)


def main() -> None:
    """The same by itself, and for the whole year."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backtests", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the year itself, not a week")
    for figure in figures(YEAR if parser.parse_args().full else 7):
        print(f"{figure.name:45} {figure.value:>10.4g} {figure.unit:8} {figure.against}", flush=True)


if __name__ == "__main__":
    main()
