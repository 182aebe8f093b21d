"""The report of a test as one page: the verdict, every requirement with its figure, and a plot of every part.

One HTML file that needs no network: plotly's script is inside, once. Readable in print: requirements are a table, and
colours repeat what words say. Series are thinned for the eye to the smallest and largest of each stretch.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aggregator.report import ASKED, FREQUENCY, GIVEN, thinned
from droop import curve
from droop.products import Product
from settlement.prequalification import (
    Options,
    Part,
    Plan,
    Recording,
    Row,
    Verdict,
    loop,
    nordic,
    nordic_loop,
    nordic_time,
)
from settlement.prequalification.recording import spacing_s
from settlement.scores import ce_corridor

CORRIDOR: Final = "rgba(120,120,120,0.22)"
WORDS: Final = {True: "pass", False: "FAIL", None: "not applicable"}
MARKS: Final = {
    "V": "read in the document", "V2": "by way of a public source that cites it", "M": "from memory: a parameter",
    "D": "derived",
}  # fmt: skip
STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#1b1f24}
table{border-collapse:collapse;width:100%;font-size:13px;margin:1em 0}
th,td{border-bottom:1px solid #d5d9de;padding:4px 8px;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.pass{color:#0d6b45}.FAIL{color:#b3261e;font-weight:700}.not{color:#6b7280}
h1{font-size:24px}h2{font-size:18px;margin-top:2em}section{page-break-inside:avoid}
@media print{body{max-width:none;margin:0}}
"""


def page(
    product: Product, plan: Plan, recording: Recording, sold_kw: float, verdict: Verdict, options: Options,
    facts: Mapping[str, str],
) -> str:  # fmt: skip
    """The page as HTML. facts : what stands under the verdict"""
    plots: list[str] = []

    def drawn(figure: go.Figure) -> str:
        script = "inline" if not plots else False
        plots.append("")
        return str(figure.to_html(full_html=False, include_plotlyjs=script, config={"displaylogo": False}))

    sections = []
    if any(part.test == "nordic_sines" for part in plan.parts):
        figure = _nyquist(product, plan, recording, sold_kw, options)
        if figure is not None:
            sections.append(f"<section><h2>The loop</h2>{drawn(figure)}</section>")
    for part, start_s, end_s in plan.spans():
        figure = _part(product, plan, part, recording.cut(start_s, end_s), sold_kw)
        rows = [row for row in verdict.rows if row.id != "data" and (row.part + ",").startswith(f"{part.name},")]
        title = html.escape(f"{part.name}: {part.title}")
        sections.append(f"<section><h2>{title}</h2>{drawn(figure)}{_table(rows) if rows else ''}</section>")
    word = "passed" if verdict.passed else "not passed"
    head = html.escape(f"{product.title}: {sold_kw:g} kW, {word}")
    told = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
    marks = "".join(f"<li>{mark}: {html.escape(text)}</li>" for mark, text in MARKS.items())
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{head}</title><style>{STYLE}</style></head>"
        f"<body><h1>{head}</h1><table>{told}</table>"
        "<p>This is our own evaluation of the test, not the operator's. A figure marked M is a parameter from memory; "
        f"passing it is no claim of conformity.</p><ul>{marks}</ul>"
        f"<h2>Requirements</h2>{_table(verdict.rows)}{''.join(sections)}</body></html>"
    )


def write(path: Path, *parts: Any) -> None:
    """`page(*parts)` into a file."""
    path.write_text(page(*parts), encoding="utf-8")


def _table(rows: list[Row]) -> str:
    cells = []
    for row in rows:
        word = WORDS[row.passed]
        measured = "-" if row.measured is None else f"{row.measured:.4g}"
        texts = (
            row.id,
            row.part,
            row.text,
            f"{row.limit} {row.unit}".strip(),
            measured,
            word,
            row.mark,
            row.source,
            row.note,
        )
        kinds = ("", "", "", "", " class=n", f' class="{word.split()[0]}"', "", "", "")
        told = zip(kinds, texts, strict=True)
        cells.append("<tr>" + "".join(f"<td{kind}>{html.escape(text)}</td>" for kind, text in told) + "</tr>")
    names = ("requirement", "part", "what", "limit", "measured", "", "mark", "source", "")
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>{''.join(cells)}</table>"


def _part(product: Product, plan: Plan, part: Part, recording: Recording, sold_kw: float) -> go.Figure:
    """What was injected, and asked and given power with the corridor where the market has one."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.32, 0.68])
    t_ns = np.rint(recording.t_s * 1e9).astype(np.int64)
    dev = recording.hz - (product.nominal_hz if product.input == "frequency" else 0.0)
    # Of a trigger the curve is its threshold: what is asked after it has been passed depends on what went before.
    asked = sold_kw * curve.fractions(product.response, dev)
    if part.test.startswith("ce_") and recording.t_s.size > 1:
        _band(figure, recording.t_s, *ce_corridor.corridor(asked, sold_kw, spacing_s(recording.t_s)))
    name = "frequency" if plan.input == "frequency" else "signal"
    for value, title, color, row in (
        (recording.hz, name, FREQUENCY, 1), (asked, "asked", ASKED, 2), (recording.net_kw, "given", GIVEN, 2)
    ):  # fmt: skip
        at, y = thinned(t_ns, value)
        line = {"color": color, "width": 1.4}
        figure.add_trace(go.Scatter(x=at / 1e9, y=y, name=title, line=line, mode="lines"), row, 1)
    for label, at_s in part.at.items():
        if label != "period":
            figure.add_vline(x=at_s, line={"color": "#9aa2ab", "width": 1, "dash": "dot"}, annotation_text=label, row=2)
    for start_s, end_s, low, high in _limits(product, part):
        kw = sorted((low * sold_kw, high * sold_kw))
        figure.add_shape(
            type="rect", x0=start_s, x1=end_s, y0=kw[0], y1=kw[1], line={"width": 0}, fillcolor=CORRIDOR, row=2, col=1,
            layer="below",
        )  # fmt: skip
    figure.update_yaxes(title="Hz" if plan.input == "frequency" else "1", row=1)
    figure.update_yaxes(title="kW", row=2)
    figure.update_xaxes(title="s", row=2)
    figure.update_layout(height=430, template="plotly_white", margin={"t": 20, "b": 40}, legend={"orientation": "h"})
    return figure


def _limits(product: Product, part: Part) -> list[tuple[float, float, float, float]]:
    """(from, to, low, high) in units of the power sold: where the Nordic tests in time look, and what they admit."""
    at, (short, much) = part.at, nordic_time.STEADY
    if part.test == "nordic_fcr_n_steps":
        ends = ((at["high"], 1.0), (at["end"], -1.0))
        return [(t - nordic_time.SETTLED_S, t, way * (1 + short), way * (1 + much)) for t, way in ends]
    if part.test == "nordic_fcr_d_ramps":
        way, limits = -1.0 if product.direction == "down" else 1.0, nordic_time.limits_of(product, 0.0)
        steady = (at["4"] - nordic_time.SETTLED_S, at["4"], way * (1 + short), way * (1 + much))
        return [steady, (at["5"] + nordic.JUDGED_S, at["6"], way * limits.reached_pu, way * (1 + much))]
    return []


def _band(figure: go.Figure, t_s: Any, lower: Any, upper: Any) -> None:
    at = np.rint(t_s * 1e9).astype(np.int64)
    for k, (edge, fill) in enumerate(((lower, None), (upper, "tonexty"))):
        x, y = thinned(at, edge)
        line = {"width": 0}
        figure.add_trace(
            go.Scatter(
                x=x / 1e9, y=y, mode="lines", line=line, fill=fill, fillcolor=CORRIDOR, name="corridor",
                showlegend=bool(k), hoverinfo="skip",
            ),
            2, 1,
        )  # fmt: skip


def _nyquist(product: Product, plan: Plan, recording: Recording, sold_kw: float, options: Options) -> go.Figure | None:
    """The open loop on the tested points and between them, with the circle of Req. 8."""
    played = [(p, recording.cut(a, b)) for p, a, b in plan.spans() if p.test == "nordic_sines"]
    measured = [item for item in nordic_loop.points(product, played, sold_kw) if item.response != 0]
    if len(measured) < 2:
        return None
    omega, response = nordic_loop.curve(measured, options.fme_s)
    system, places = nordic_loop.system_of(product), loop.fine(omega)
    between = loop.interpolated(omega, response)(places) * system.plant(places)
    points = response * system.plant(omega)
    circle = loop.RADIUS * loop.MARGIN * np.exp(2j * np.pi * np.linspace(0, 1, 200)) - 1.0
    figure = go.Figure()
    for z, name, color in ((between, "F G", GIVEN), (circle, "0.43 x 0.95 about -1", "#b3261e")):
        figure.add_trace(go.Scatter(x=z.real, y=z.imag, name=name, mode="lines", line={"color": color}))
    labels = [f"{2 * np.pi / w:.0f} s" for w in omega]
    figure.add_trace(
        go.Scatter(x=points.real, y=points.imag, text=labels, mode="markers+text", textposition="bottom right",
                   name="tested", marker={"color": GIVEN})
    )  # fmt: skip
    figure.update_yaxes(scaleanchor="x", title="imaginary")
    figure.update_layout(height=520, template="plotly_white", xaxis={"title": "real"}, margin={"t": 20})
    return figure
