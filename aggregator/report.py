"""A backtest as one page to look at: frequency, what was asked and given, and every interval's verdict.

One HTML file that needs no network: plotly's script is inside. Series are thinned for the eye to the smallest and
largest of each stretch, so that no peak is lost; the numbers behind them lie beside it in Parquet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from settlement.statement import Statement

POINTS: Final = 4_000
FREQUENCY, ASKED, GIVEN, SCORED = "#2f6fde", "#c98a00", "#12855a", "#7a4fd0"

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def thinned(t_ns: Ints, value: Floats, points: int = POINTS) -> tuple[Ints, Floats]:
    """At most about `points` of a series: the smallest and the largest of each stretch, in order of time.

    Values that are not a number are left out.
    """
    known = np.isfinite(value)
    t_ns, value = t_ns[known], value[known]
    stretch = -(-value.size * 2 // points)
    if stretch <= 2:
        return t_ns, value
    whole = value.size // stretch * stretch
    cut = value[:whole].reshape(-1, stretch)
    first = np.arange(0, whole, stretch)
    kept = np.concatenate([first + cut.argmin(axis=1), first + cut.argmax(axis=1), np.arange(whole, value.size)])
    kept = np.unique(kept)
    return t_ns[kept], value[kept]


def page(
    title: str, samples: tuple[Ints, Floats], asked: tuple[Ints, Floats], given: tuple[Ints, Floats],
    statements: Sequence[Statement], facts: Mapping[str, str],
) -> str:  # fmt: skip
    """The page as HTML. samples [Hz], asked and given [kW, relative to the baseline] : (t_ns, value) each

    facts : what stands in the table under the charts
    """
    figure = make_subplots(
        rows=4, cols=1, vertical_spacing=0.05, row_heights=[0.24, 0.32, 0.14, 0.30],
        specs=[[{}], [{}], [{}], [{"type": "table"}]],
        subplot_titles=("Frequency", "Response: asked and given", "Score of each interval", "In sum"),
    )  # fmt: skip
    for series, name, color, row in (
        (samples, "frequency", FREQUENCY, 1), (asked, "asked", ASKED, 2), (given, "given", GIVEN, 2)
    ):  # fmt: skip
        t_ns, value = thinned(*series)
        times = t_ns.astype("datetime64[ns]")
        figure.add_trace(go.Scattergl(x=times, y=value, name=name, line={"color": color, "width": 1}), row, 1)
    scored = [item for item in statements if item.score is not None]
    figure.add_trace(
        go.Bar(
            x=[np.datetime64(item.start_ns, "ns") for item in scored],
            y=[item.score for item in scored],
            offset=0,
            width=[(item.end_ns - item.start_ns) / 1e6 for item in scored],
            name="score",
            marker={"color": SCORED},
            customdata=[item.score_note for item in scored],
            hovertemplate="%{x}: %{y:.3f}<br>%{customdata}",
        ),
        3,
        1,
    )
    figure.add_trace(
        go.Table(
            header={"values": ["", ""], "height": 0, "fill": {"color": "white"}},
            cells={"values": [list(facts), list(facts.values())], "align": "left", "fill": {"color": "white"}},
        ),
        4,
        1,
    )
    figure.update_xaxes(matches="x")
    figure.update_xaxes(showticklabels=False, row=1)
    figure.update_xaxes(showticklabels=False, row=2)
    figure.update_yaxes(title="Hz", row=1)
    figure.update_yaxes(title="kW", row=2)
    figure.update_yaxes(title="", range=[0, 1.05], row=3)
    figure.update_layout(title=title, height=1300, template="plotly_white", hovermode="x unified")
    html: Any = figure.to_html(include_plotlyjs=True, full_html=True)
    return str(html)


def write(path: Path, *parts: Any) -> None:
    """`page(*parts)` into a file."""
    path.write_text(page(*parts), encoding="utf-8")
