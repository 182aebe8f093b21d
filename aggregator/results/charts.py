"""The charts of a run's page, each a plotly figure: what they show is in the files beside the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aggregator.report import thinned
from aggregator.results.html import ASKED, BAD, DOWN, GIVEN, PLAIN, SHADES, UP, dressed

POINTS: Final = 3_000
FREQUENCY: Final = "#2f7fde"

Row = Mapping[str, Any]
Series = tuple[Any, Any]


def response(samples: Series, asked: Series, given: Series) -> Any:
    """Frequency above, asked and given below, on one axis of time. Each : (t_ns, value)"""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.4, 0.6])
    for series, name, color, row in (
        (samples, "frequency", FREQUENCY, 1), (asked, "asked", ASKED, 2), (given, "given", GIVEN, 2)
    ):  # fmt: skip
        t_ns, value = thinned(*series, POINTS)
        times = t_ns.astype("datetime64[ns]")
        figure.add_trace(go.Scatter(x=times, y=value, name=name, line={"color": color, "width": 1}), row, 1)
    dressed(figure, "", 460)
    figure.update_yaxes(title="Hz", row=1)
    figure.update_yaxes(title="kW, positive into the grid", row=2)
    return figure


def intervals(statements: Sequence[Any]) -> Any:
    """The score of each interval."""
    scored = [item for item in statements if item.score is not None]
    times = [np.datetime64(item.start_ns, "ns") for item in scored]
    figure = go.Figure(go.Scattergl(
        x=times, y=[item.score for item in scored], mode="markers", marker={"color": PLAIN, "size": 5}, name="score",
        customdata=[item.score_note for item in scored], hovertemplate="%{y:.4f}<br>%{customdata}<extra></extra>",
    ))  # fmt: skip
    return dressed(figure, "score", 240)


def scores(days: Sequence[Row]) -> Any:
    """Score of each day, and what it earned where that is known."""
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    paid = any("amount" in row for row in days)
    for name in _products(days):
        rows = [row for row in days if row["product"] == name]
        x = [row["day"] for row in rows]
        if paid:
            amounts = [float(row["amount"]) for row in rows]
            figure.add_trace(go.Bar(x=x, y=amounts, name=f"income, {name}", opacity=0.45), secondary_y=True)
        mode = "lines+markers"
        figure.add_trace(go.Scatter(x=x, y=[row["score"] for row in rows], name=f"score, {name}", mode=mode))
    dressed(figure, "score", 320)
    figure.update_yaxes(title="income" if paid else "", secondary_y=True, showgrid=False)
    figure.update_xaxes(type="category")
    return figure


def energy(days: Sequence[Row]) -> Any:
    """Asked and given each way, by day; down below the line."""
    figure = go.Figure()
    for name, color, pattern in (("requested", ASKED, "/"), ("delivered", GIVEN, "")):
        for way, sign in (("up", 1.0), ("down", -1.0)):
            figure.add_trace(go.Bar(
                x=[row["day"] for row in days], y=[sign * row[f"{name}_{way}_kwh"] for row in days],
                name=f"{'asked' if name == 'requested' else 'given'} {way}", offsetgroup=name,
                marker={"color": color, "pattern": {"shape": pattern}, "opacity": 1.0 if way == "up" else 0.65},
            ))  # fmt: skip
    dressed(figure, "kWh, down below the line", 320)
    figure.update_xaxes(type="category")
    return figure


def unserved(days: Sequence[Row]) -> Any:
    """Energy not served by reason, stacked over the days."""
    figure = go.Figure()
    for reason in sorted({name for row in days for name in row["unserved_by_reason"]}):
        values = [row["unserved_by_reason"].get(reason, 0.0) for row in days]
        figure.add_trace(go.Bar(x=[row["day"] for row in days], y=values, name=reason.replace("_", " ")))
    figure.update_layout(barmode="stack")
    dressed(figure, "kWh not served", 280)
    figure.update_xaxes(type="category")
    return figure


def fan(spans: Any) -> Any:
    """State of charge of the cars that are here: the middle, and between which nine tenths lie. spans : SPAN[n]"""
    known = spans[np.isfinite(spans["soc_p50_frac"])]
    times = known["t_ns"].astype("datetime64[ns]")
    figure = go.Figure()
    for name, fill in (("soc_p95_frac", None), ("soc_p05_frac", "tonexty")):
        figure.add_trace(go.Scatter(
            x=times, y=100.0 * known[name], fill=fill, fillcolor="rgba(47,127,222,0.25)", line={"width": 0.5},
            name="5 %" if fill else "95 %", marker={"color": UP},
        ))  # fmt: skip
    figure.add_trace(go.Scatter(x=times, y=100.0 * known["soc_p50_frac"], name="median", line={"color": UP}))
    dressed(figure, "% of what is left of the battery", 300)
    figure.update_yaxes(range=[0, 100])
    return figure


def satisfied(told: Row) -> Any:
    """How many drivers found how much of the energy they wanted."""
    places, counts = told["from_frac"], told["stays"]
    names = [f"{100 * low:.0f}-{100 * high:.0f} %" for low, high in pairwise(places)] + ["all"]
    colors = [BAD] * (len(counts) - 1) + [GIVEN]
    figure = go.Figure(go.Bar(x=names, y=counts, marker={"color": colors}, name="stays"))
    dressed(figure, "stays", 300)
    figure.update_xaxes(title="of the energy wanted that was aboard")
    return figure


def wear(told: Row, laws: Sequence[str]) -> Any:
    """Shares of a battery's life: what was done, and the plan alone."""
    figure = go.Figure()
    for share, color in (("cycle", PLAIN), ("calendar", DOWN)):
        for how, prefix, pattern in (("as it was", "", ""), ("plan alone", "alone_", "/")):
            figure.add_trace(go.Bar(
                x=[law.upper() for law in laws], y=[1e6 * told[law][f"{prefix}{share}_frac"] for law in laws],
                name=f"{share}, {how}", offsetgroup=how, marker={"color": color, "pattern": {"shape": pattern}},
            ))  # fmt: skip
    figure.update_layout(barmode="relative")
    return dressed(figure, "millionths of a life, all stays", 300)


def overlaid(first: Sequence[Row], second: Sequence[Row], column: str, names: tuple[str, str], unit: str) -> Any:
    """One column of two runs, day by day."""
    figure = go.Figure()
    for rows, name, color, dash in ((first, names[0], SHADES[0], "solid"), (second, names[1], SHADES[2], "dash")):
        figure.add_trace(go.Scatter(
            x=[row["day"] for row in rows], y=[row[column] for row in rows], name=name, mode="lines+markers",
            line={"color": color, "dash": dash},
        ))  # fmt: skip
    dressed(figure, unit, 260)
    figure.update_xaxes(type="category")
    return figure


def _products(days: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["product"] for row in days))
