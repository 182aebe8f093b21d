"""A product as one page to look at: its curve, every figure with its confidence, its sources.

One HTML file that needs no network: plotly's script is inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aggregator.curvetext import MEANING, figures, span
from droop.curve import fractions
from droop.products import Product

CURVE, SHADE = "#2f6fde", "rgba(122,79,208,0.12)"
POINTS: Final = 2001


def page(product: Product, values: dict[str, str]) -> str:
    """The page as HTML. values : each figure's value as people read it, by its name"""
    signal = product.input == "signal"
    base = 0.0 if signal else product.nominal_hz
    figure = make_subplots(
        rows=2, cols=1, row_heights=[0.5, 0.5], vertical_spacing=0.08, specs=[[{}], [{"type": "table"}]]
    )
    low, high = span(product)
    step = (high - low) / (POINTS - 1)
    # The corners themselves as well: a trigger's flank is thinner than any grid.
    x = sorted({low + k * step for k in range(POINTS)} | set(product.curve_hz))
    figure.add_trace(
        go.Scatter(x=[base + at for at in x], y=fractions(product.response, x), name="response", line={"color": CURVE}),
        1, 1,
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[base + at for at in product.curve_hz], y=fractions(product.response, product.curve_hz), name="points",
            mode="markers", marker={"color": CURVE, "size": 8},
        ),
        1, 1,
    )  # fmt: skip
    if product.deadband_hz:
        figure.add_vrect(
            x0=base - product.deadband_hz, x1=base + product.deadband_hz, fillcolor=SHADE, line_width=0, row=1, col=1
        )
    found = figures(product)
    columns = [[one.name for one in found], [values[one.name] for one in found], [one.mark for one in found]]
    figure.add_trace(
        go.Table(
            header={"values": ["figure", "value", "confidence"], "align": "left"},
            cells={"values": columns, "align": "left"},
            columnwidth=[2, 5, 1],
        ),
        2, 1,
    )  # fmt: skip
    figure.update_xaxes(title="signal" if signal else "Hz", row=1)
    figure.update_yaxes(title="share of the power sold, + into the grid", row=1)
    said = "; ".join(f"{mark}: {text}" for mark, text in MEANING.items())
    figure.update_layout(
        title=f"{product.title} ({product.id})<br><sup>{said}</sup><br><sup>{'; '.join(product.sources)}</sup>",
        height=1000, template="plotly_white", showlegend=False,
    )  # fmt: skip
    html: Any = figure.to_html(include_plotlyjs=True, full_html=True)
    return str(html)


def write(path: Path, product: Product, values: dict[str, str]) -> None:
    """`page(product, values)` into a file."""
    path.write_text(page(product, values), encoding="utf-8")
