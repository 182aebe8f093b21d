"""What a study leaves behind: one row a case, as Parquet, CSV and JSON, and a page to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from rich.table import Table

from aggregator.results.html import text as shown
from aggregator.studies import page
from aggregator.studies.plan import Case, Study

# What a person looks at first, of either kind of case.
SHOWN: Final = ("score", "short_frac", "unserved_kwh", "cycles", "throughput_kwh", "loss_kwh", "soc_min_frac")
ROWS_SHOWN: Final = 40


def rows(study: Study, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One flat row a case: its number, its traces, its values, and its figures."""
    return [
        {"case": case.number, "trace": _named(case), **dict(case.values), **result}
        for case, result in zip(study.cases, results, strict=True)
    ]


def _named(case: Case) -> str:
    return " + ".join(Path(path).name for path in case.traces)


def write(out: Path, study: Study, found: list[dict[str, Any]]) -> None:
    """cases.parquet, cases.csv, study.json and study.html."""
    table = pa.table({name: _column(found, name) for name in _names(found)})
    pq.write_table(table, out / "cases.parquet")
    pc.write_csv(table, out / "cases.csv")
    whole = {"name": study.name, "varied": list(study.varied), "cases": found}
    (out / "study.json").write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    (out / "study.html").write_text(page.page(study, found), encoding="utf-8")


def text(study: Study, found: list[dict[str, Any]]) -> Table:
    """What varies, and the figures to see first."""
    names = [*study.varied, *(name for name in SHOWN if any(row.get(name) is not None for row in found))]
    more = f"; the first {ROWS_SHOWN} of {len(found)}" if len(found) > ROWS_SHOWN else ""
    table = Table(title=f"{study.name}: {len(found)} cases{more}", title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    for row in found[:ROWS_SHOWN]:
        table.add_row(*(shown(row.get(name)) for name in names))
    return table


def _names(found: Sequence[dict[str, Any]]) -> list[str]:
    """Columns in the order in which they first appear."""
    return list(dict.fromkeys(name for row in found for name in row))


def _column(found: Sequence[dict[str, Any]], name: str) -> list[Any]:
    """One column; what is no number or word is written as JSON."""
    values = [row.get(name) for row in found]
    if any(isinstance(value, (dict, list)) for value in values):
        return [None if value is None else orjson.dumps(value).decode() for value in values]
    kinds = {type(value) for value in values if value is not None}
    # 500 beside 500.5 is a number; "x" beside 5 is a word.
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values] if float in kinds else values
    return values if len(kinds) <= 1 else [None if value is None else str(value) for value in values]
