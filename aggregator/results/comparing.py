"""Two runs side by side: what was asked of them differently, and every result with its difference and ratio.

Runs are comparable when they lived through the same time of the same recording: otherwise a difference says nothing of
what was changed. What was asked is compared by name, down to a single figure of a product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from aggregator.exporting import table
from aggregator.results.writing import PRETTY, SETTINGS

RESULT: Final = "result.json"
# What must be the same for a difference to mean anything, and how a reader says it.
SAME: Final = {
    "traces": "another trace", "signal_sha256": "another signal", "start": "another span", "end": "another span",
}  # fmt: skip
# Lists of their own; by day they are compared as days.
LISTS: Final = frozenset({"days", "worst_blocks", "trace", "products"})
WORDS: Final = frozenset({"title", "notes", "sources"})
DAILY: Final = (
    "score", "requested_up_kwh", "requested_down_kwh", "delivered_up_kwh", "delivered_down_kwh", "unserved_kwh",
    "coverage_frac", "available_frac", "mileage", "throughput_kwh", "losses_kwh", "cycles", "commands", "reversals",
    "switches", "earned", "charged", "amount",
)  # fmt: skip

Row = dict[str, Any]


class CompareError(ValueError):
    """Runs that cannot be compared; one line that names the folder and the remedy."""


class Run(NamedTuple):
    """A run's folder as it was written."""

    name: str
    result: Mapping[str, Any]
    asked: Mapping[str, Any]


def load(folder: Path) -> Run:
    """A run's results. Raises CompareError for a folder without them."""
    found = []
    for name in (RESULT, SETTINGS):
        try:
            found.append(orjson.loads((folder / name).read_bytes()))
        except OSError:
            raise CompareError(
                f"{folder}: no {name} there; make it with `flyball backtest ... --out {folder}`"
            ) from None
        except orjson.JSONDecodeError as error:
            raise CompareError(f"{folder / name}: not JSON ({error}); run the backtest again") from None
        if not isinstance(found[-1], dict):
            raise CompareError(f"{folder / name}: not the result of a run; run the backtest again")
    result, asked = found
    if "days" not in result or "settings" not in asked:
        raise CompareError(f"{folder}: written by an older version; run the backtest again")
    return Run(folder.name or str(folder), result, asked)


def compare(first: Run, second: Run, *, anyway: bool = False) -> Row:
    """What differs, JSON-ready: `asked`, `results`, `days`.

    anyway : although they are of another trace or another span; `notes` says so
    Raises CompareError.
    """
    notes = unlike(first.asked, second.asked)
    if notes and not anyway:
        raise CompareError(f"{second.name}: of {' and '.join(notes)} than {first.name}; compare like with like, "
                           "or give --any")  # fmt: skip
    return {
        "a": first.name, "b": second.name, "notes": notes,
        "asked": differing(_spelt(first.asked), _spelt(second.asked)),
        "results": _results(first.result, second.result),
        "days": _days(first.result["days"], second.result["days"]),
    }  # fmt: skip


def unlike(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Why two runs are not comparable; empty where they are."""

    def plain(asked: Mapping[str, Any], name: str) -> Any:
        # A copy under another name is the same trace.
        return [item["sha256"] for item in asked[name]] if name == "traces" else asked.get(name)

    return list(dict.fromkeys(why for name, why in SAME.items() if plain(first, name) != plain(second, name)))


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Row]:
    """Names whose values differ, in the order of the first run's record."""
    names = dict.fromkeys([*first, *second])
    return [
        {"name": name, "a": first.get(name), "b": second.get(name)}
        for name in names if first.get(name) != second.get(name)
    ]  # fmt: skip


def _spelt(asked: Mapping[str, Any]) -> Row:
    """What was asked, by the full name of each figure; words about a product ask for nothing."""
    found = _flat({name: value for name, value in asked.items() if name not in SAME})
    return {name: value for name, value in found.items() if name.rpartition(".")[2] not in WORDS}


def _flat(value: Any, prefix: str = "") -> Row:
    """`settings.contracts.0.product.deadband_hz`: records and lists of records spelt out, other lists whole."""
    if isinstance(value, Mapping):
        items: Sequence[tuple[str, Any]] = list(value.items())
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = [(str(place), item) for place, item in enumerate(value)]
    else:
        return {prefix: value}
    found: Row = {}
    for name, item in items:
        found |= _flat(item, f"{prefix}.{name}" if prefix else name)
    return found


def _results(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Row]:
    a, b = (
        {
            name: value
            for name, value in _flat({k: v for k, v in run.items() if k not in LISTS}).items()
            if _plain(value)
        }
        for run in (first, second)
    )
    return [{"name": name, **_both(a.get(name), b.get(name))} for name in dict.fromkeys([*a, *b])]


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str | bool)


def _both(a: Any, b: Any) -> Row:
    """Two values; of numbers their difference b - a and their ratio b / a."""
    row: Row = {"a": a, "b": b}
    left, right = _number(a), _number(b)
    if left is not None and right is not None:
        row["difference"] = right - left
        row["ratio"] = right / left if left else None
    return row


def _number(value: Any) -> float | None:
    """A number; amounts are written as texts that keep their cents."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _days(first: Sequence[Row], second: Sequence[Row]) -> list[Row]:
    """One row a day and contract: where both have the day, `column`, `column_b` and `column_difference`."""
    a, b = (_by_day(rows) for rows in (first, second))
    found = []
    for key in sorted(a.keys() & b.keys()):
        left, right = a[key], b[key]
        row: Row = {"day": key[0], "product_a": left["product"], "product_b": right["product"]}
        for name in DAILY:
            if name in left and name in right:
                values = _both(left[name], right[name])
                row |= {f"{name}_a": _number(left[name]), f"{name}_b": _number(right[name]),
                        f"{name}_difference": values.get("difference")}  # fmt: skip
        found.append(row)
    return found


def _by_day(rows: Sequence[Row]) -> dict[tuple[str, int], Row]:
    """Rows by day and by the place of their contract: what is sold may have another name in the other run."""
    places: dict[str, int] = {}
    found: dict[tuple[str, int], Row] = {}
    for row in rows:
        place = places.get(row["day"], 0)
        places[row["day"]] = place + 1
        found[row["day"], place] = row
    return found


def write(out: Path, first: Run, second: Run, found: Row) -> None:
    """`compare.json`, `days.parquet` and `compare.html` into a folder of their own."""
    from aggregator.results.comparison_page import page  # a second of import for those who want it

    if out.exists() and not out.is_dir():
        raise CompareError(f"--out {out}: is a file; give a folder")
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.json").write_bytes(orjson.dumps(found, option=PRETTY) + b"\n")
    (out / "days.parquet").write_bytes(table(found["days"], "parquet"))
    (out / "compare.html").write_text(page(first, second, found), encoding="utf-8")
