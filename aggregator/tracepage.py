"""A recorded trace as one page to look at: frequency, gaps, rejected rows, voltage, and how often each frequency was.

One HTML file that needs no network: plotly's script is inside. What is drawn was gathered in one pass with bounded
memory (`telemetry.traces.picture`): no peak is lost, of many rejected rows only every so many is marked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from telemetry.traces.cells import Floats, Ints
from telemetry.traces.picture import Picture
from telemetry.traces.report import TraceReport

LINE, VOLTS, BINS_COLOR = "#2f6fde", "#7a4fd0", "#2f6fde"
GAP_COLOR: Final = "rgba(120, 120, 120, 0.25)"
REASONS: Final = ("#c0392b", "#c98a00", "#12855a", "#8e44ad", "#34495e", "#d35400", "#16a085", "#7f8c8d")
GAPS: Final = 500  # shaded at most, the longest first
BINS: Final = 200


def page(title: str, report: TraceReport, picture: Picture, facts: Mapping[str, str]) -> str:
    """The page as HTML. facts : what stands in the table under the charts"""
    volts = picture.volts.points()
    figure = make_subplots(
        rows=4, cols=1, vertical_spacing=0.06, row_heights=[0.33, 0.13, 0.2, 0.34],
        specs=[[{}], [{}], [{}], [{"type": "table"}]],
        subplot_titles=(
            "Frequency", "Voltage, share of nominal" if volts[0].size else "Voltage: none in this file",
            "How often each frequency was", "In sum",
        ),
    )  # fmt: skip
    line = _broken(*picture.line.points(), report)
    figure.add_trace(go.Scattergl(x=line[0], y=line[1], name="frequency", line={"color": LINE, "width": 1}), 1, 1)
    _rejected(figure, picture, line[1])
    _shade(figure, report)
    figure.add_trace(
        go.Scattergl(x=_times(volts[0]), y=volts[1], name="voltage", line={"color": VOLTS, "width": 1}), 2, 1
    )
    edges, counts = picture.histogram(BINS)
    middles = (edges[1:] + edges[:-1]) / 2
    figure.add_trace(go.Bar(x=middles, y=counts, name="rows", marker={"color": BINS_COLOR}, showlegend=False), 3, 1)
    figure.add_trace(
        go.Table(
            header={"values": ["", ""], "height": 0, "fill": {"color": "white"}},
            cells={"values": [list(facts), list(facts.values())], "align": "left", "fill": {"color": "white"}},
        ),
        4,
        1,
    )
    figure.update_xaxes(matches="x", row=2)
    figure.update_yaxes(title="Hz", row=1)
    figure.update_xaxes(title="Hz", row=3)
    figure.update_layout(title=title, height=1400, template="plotly_white", bargap=0)
    html: Any = figure.to_html(include_plotlyjs=True, full_html=True)
    return str(html)


def write(path: Path, title: str, report: TraceReport, picture: Picture, facts: Mapping[str, str]) -> None:
    """`page(...)` into a file."""
    path.write_text(page(title, report, picture, facts), encoding="utf-8")


def _times(t_ns: Ints) -> Any:
    return t_ns.astype("datetime64[ns]")


def _broken(t_ns: Ints, hz: Floats, report: TraceReport) -> tuple[Any, Floats]:
    """The line, with a break in every gap: no value is drawn where none was recorded."""
    breaks = np.array([begin + 1 for begin, _ in report.gaps_ns], np.int64)
    at = np.searchsorted(t_ns, breaks)
    return _times(np.insert(t_ns, at, breaks)), np.insert(hz, at, np.nan)


def _rejected(figure: Any, picture: Picture, hz: Floats) -> None:
    """Crosses where rejected rows lie; those without a number at the foot of the chart."""
    foot = float(np.nanmin(hz)) if np.isfinite(hz).any() else picture.nominal_hz
    for k, (name, marks) in enumerate(sorted(picture.marks.items())):
        label = f"{name}: {marks.count}" + (f" (every {marks.every}th drawn)" if marks.every > 1 else "")
        figure.add_trace(
            go.Scattergl(
                x=_times(marks.t_ns), y=np.where(np.isnan(marks.hz), foot, marks.hz), mode="markers", name=label,
                marker={"symbol": "x", "size": 5, "color": REASONS[k % len(REASONS)]},
            ),
            1, 1,
        )  # fmt: skip


def _shade(figure: Any, report: TraceReport) -> None:
    longest = sorted(report.gaps_ns, key=lambda gap: gap[0] - gap[1])[:GAPS]
    shapes = [
        {
            "type": "rect", "xref": "x", "yref": "y domain", "y0": 0, "y1": 1, "layer": "below",
            "x0": str(np.datetime64(begin, "ns")), "x1": str(np.datetime64(end, "ns")),
            "fillcolor": GAP_COLOR, "line": {"width": 0},
        }
        for begin, end in longest
    ]  # fmt: skip
    figure.update_layout(shapes=shapes)
