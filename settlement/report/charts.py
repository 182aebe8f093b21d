"""The charts of a report, each a plotly figure; drawn as vectors, so that paper shows what the screen shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from settlement.report.series import Series, errors_pu, thinned
from settlement.statement import Statement

POINTS: Final = 3_000
ASKED, GIVEN, BAND, BAD, GOOD, PLAIN = "#c98a00", "#12855a", "rgba(120,120,120,0.22)", "#c0392b", "#12855a", "#7a4fd0"
BINS: Final = 101


def response(series: Series, points: int = POINTS) -> Any:
    """Asked against given, with the corridor behind them where the rule has one."""
    figure = go.Figure()
    if np.isfinite(series.lower_kw).any():
        for value, fill in ((series.upper_kw, None), (series.lower_kw, "tonexty")):
            t_ns, kw = thinned(series.t_ns, value, points)
            figure.add_trace(
                go.Scatter(
                    x=_times(t_ns), y=kw, fill=fill, fillcolor=BAND, line={"width": 0}, hoverinfo="skip",
                    name="admissible", legendgroup="band", showlegend=fill is not None,
                )
            )  # fmt: skip
    for value, name, color in ((series.asked_kw, "asked", ASKED), (series.given_kw, "given", GIVEN)):
        t_ns, kw = thinned(series.t_ns, value, points)
        figure.add_trace(go.Scatter(x=_times(t_ns), y=kw, name=name, line={"color": color, "width": 1.2}))
    return _dressed(figure, "kW, positive into the grid", 380)


def frequency(series: Series, points: int = POINTS) -> Any:
    """The frequency of the same time."""
    t_ns, hz = thinned(series.t_ns, series.hz, points)
    figure = go.Figure(go.Scatter(x=_times(t_ns), y=hz, name="frequency", line={"color": "#2f6fde", "width": 1}))
    return _dressed(figure, "Hz", 220)


def errors(series: Series) -> Any:
    """How far what was given lay from what was asked, by how much of the time."""
    error = errors_pu(series)
    figure = go.Figure()
    if error.size:
        reach = max(float(np.quantile(np.abs(error), 0.999)), 0.01)
        counts, edges = np.histogram(np.clip(error, -reach, reach), BINS, (-reach, reach))
        share = 100.0 * counts / error.size
        figure.add_trace(go.Bar(x=100.0 * (edges[1:] + edges[:-1]) / 2, y=share, marker={"color": PLAIN}, name="time"))
    figure.update_layout(bargap=0)
    _dressed(figure, "% of the time", 260)
    figure.update_xaxes(title="given minus asked, % of the power sold; the outermost bars hold all beyond")
    return figure


def scores(statements: Sequence[Statement]) -> Any:
    """The score of each interval; red where the rule's verdict is against it."""
    scored = [item for item in statements if item.score is not None]
    figure = go.Figure(
        go.Bar(
            x=[np.datetime64(item.start_ns, "ns") for item in scored],
            y=[item.score for item in scored],
            offset=0,
            width=[(item.end_ns - item.start_ns) / 1e6 for item in scored],
            marker={"color": [BAD if item.kpis.get("adequate") is False else GOOD for item in scored]},
            customdata=[item.score_note for item in scored],
            hovertemplate="%{x}: %{y:.3f}<br>%{customdata}<extra></extra>",
        )
    )
    _dressed(figure, "score", 220)
    figure.update_yaxes(range=[0, 1.05])
    return figure


def income(rows: Sequence[tuple[int, int, float]], currency: str) -> Any:
    """Amount of each interval. rows : (start_ns, end_ns, amount)"""
    figure = go.Figure(
        go.Bar(
            x=[np.datetime64(start, "ns") for start, _, _ in rows],
            y=[amount for *_, amount in rows],
            offset=0,
            width=[(end - start) / 1e6 for start, end, _ in rows],
            marker={"color": [BAD if amount < 0 else GOOD for *_, amount in rows]},
            name=currency,
        )
    )
    return _dressed(figure, currency, 220)


def _times(t_ns: Any) -> Any:
    return t_ns.astype("datetime64[ns]")


def _dressed(figure: Any, unit: str, height: int) -> Any:
    figure.update_layout(
        template="plotly_white", height=height, hovermode="x unified", margin={"l": 60, "r": 15, "t": 10, "b": 40},
        legend={"orientation": "h", "y": 1.08}, showlegend=len(figure.data) > 1,
    )  # fmt: skip
    figure.update_yaxes(title=unit)
    return figure
