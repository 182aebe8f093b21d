"""A study as one page: how each figure moves with what varies, and every case in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go

from aggregator.results.html import dressed, escape, section, table, text
from aggregator.results.html import page as document
from aggregator.studies.plan import Study

Row = Mapping[str, Any]
# (figure, what it is)
FIGURES: Final = (
    ("score", "score by the product's rule"),
    ("short_frac", "asked and not given, of what was asked"),
    ("unserved_kwh", "not served [kWh]"),
    ("cycles", "equivalent full cycles"),
    ("throughput_kwh", "moved by the fleet [kWh]"),
    ("loss_kwh", "lost in charging and discharging [kWh]"),
    ("bought_kwh", "bought back through the working point [kWh]"),
    ("soc_min_frac", "lowest state of charge"),
)
LINES_MAX: Final = 8


def page(study: Study, found: Sequence[Row]) -> str:
    """The page as HTML."""
    shown = [(name, what) for name, what in FIGURES if _moves(found, name)]
    head = ["case", *study.varied, *(name for name, _ in shown)]
    rows = [[row.get(name) for name in head] for row in found]
    same = {key: value for key, value in study.cases[0].values if key not in study.varied}
    told = ", ".join(f"{key} {text(value)}" for key, value in same.items())
    varied = ", ".join(study.varied) or "nothing"
    parts = [
        f"<h1>{escape(study.name)}</h1>",
        f"<p class=sub>{len(found)} cases; {escape(varied)} varies. In all: {escape(told)}</p>",
        *(section(what.capitalize(), chart(found, study.varied, name, what), f"{what} against what varies")
          for name, what in shown if study.varied),
        section("Every case", None, "", table("one row a case; all figures are in cases.parquet", head, rows)),
    ]  # fmt: skip
    return document(study.name, parts)


def _moves(found: Sequence[Row], name: str) -> bool:
    return len({row.get(name) for row in found if row.get(name) is not None}) > 1


def chart(found: Sequence[Row], varied: Sequence[str], name: str, what: str) -> Any:
    """One figure against the key with most values; a line for each combination of the others, up to `LINES_MAX`."""
    across = max(varied, key=lambda key: len({row[key] for row in found}))
    others = [key for key in varied if key != across]
    lines: dict[tuple[Any, ...], list[Row]] = {}
    for row in found:
        lines.setdefault(tuple(row[key] for key in others), []).append(row)
    figure = go.Figure()
    for key, rows in list(lines.items())[:LINES_MAX] if len(lines) <= LINES_MAX else [((), list(found))]:
        label = ", ".join(f"{other} {text(value)}" for other, value in zip(others, key, strict=False)) or name
        figure.add_trace(go.Scatter(
            x=[row[across] for row in rows], y=[row.get(name) for row in rows], name=label,
            mode="lines+markers" if key or len(lines) == 1 else "markers",
            customdata=[", ".join(f"{other} {text(row[other])}" for other in others) for row in rows],
            hovertemplate="%{y:.5g} %{customdata}<extra></extra>",
        ))  # fmt: skip
    dressed(figure, what, 320)
    figure.update_xaxes(title=across)
    return figure
