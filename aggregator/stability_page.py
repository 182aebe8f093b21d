"""A stability study as one page: the verdict, the frequency with and without the fleet, the loop, the map.

One HTML file that needs no network: plotly's script is inside, once. What colours say, words and numbers say too.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aggregator.prequalification_page import MARKS, STYLE
from aggregator.report import ASKED, FREQUENCY, GIVEN, SCORED, thinned
from aggregator.stability import WORDS, Delays, limit
from droop.stability.margins import Loop, frequencies
from droop.stability.region import Effect, Region
from droop.stability.study import Played, Study

LOST: Final = "#b3261e"
ALONE: Final = "#6b7280"
SHADES: Final = ("#cfe9dc", "#f4dfae", "#f3b98a", "#e79a94")
FAR: Final = 3.0  # of a Nyquist plot: what lies further out is not about -1
SHOWN: Final = (
    ("nadir_hz", "nadir [Hz]"), ("nadir_s", "at [s]"), ("rocof_hz_s", "steepest over 0.5 s [Hz/s]"),
    ("steady_hz", "rests at [Hz]"), ("settling_s", "settled after [s]"), ("damping_frac", "damping of the swing"),
    ("period_s", "its period [s]"), ("shed_hz", "shedding stages passed [Hz]"),
    ("fleet_mw", "most that the fleet gave [MW]"),
)  # fmt: skip


def page(study: Study, delays: Delays, result: Mapping[str, Any]) -> str:
    """The page as HTML. result : the study's document"""
    plots: list[str] = []

    def drawn(title: str, figure: go.Figure, words: str) -> str:
        script = "inline" if not plots else False
        plots.append("")
        body = figure.to_html(full_html=False, include_plotlyjs=script, config={"displaylogo": False})
        return f"<section><h2>{html.escape(title)}</h2><p>{html.escape(words)}</p>{body}</section>"

    sections = [
        drawn("The loss, without and with the fleet", _course(study),
              "Frequency above, what the fleet and the governors give below. Shedding is told, not played."),
        drawn("By size of the fleet", _sizes(study), "The same loss with fleets of other sizes."),
    ]  # fmt: skip
    if study.loop is not None and study.margins is not None:
        note = f"The open loop of fleet and grid, {result['margins_note']}; -1 is where swings neither grow nor fade."
        sections += [
            drawn("Nyquist", _nyquist(study.loop, study.margins.peak), note),
            drawn(
                "Sensitivity", _sensitivity(study.loop), "How much the loop enlarges (above 1) or damps a disturbance."
            ),
        ]
    if study.region is not None:
        sections.append(
            drawn("Size and delay", _map(study, study.region), "Where more fleet or more delay starts to hurt.")
        )
    head = html.escape(f"{study.grid.title}: {study.fleet.fleet_mw:g} MW of {study.fleet.product.title}")
    marks = "".join(f"<li>{mark}: {html.escape(text)}</li>" for mark, text in MARKS.items())
    sources = "".join(f"<li>{html.escape(text)}</li>" for text in (*study.grid.sources, *study.grid.notes))
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{head}</title><style>{STYLE}</style></head>"
        f"<body><h1>{head}</h1><p><b>{html.escape(str(result['sentence']))}</b></p>"
        f"{_figures(study, result)}{''.join(sections)}<h2>Delays</h2><p>{html.escape(delays.how)}</p>"
        f"<h2>The grid's figures</h2>{_table(('figure', 'value', 'mark'), _grid_rows(result))}"
        f"<ul>{marks}</ul><p>Sources and notes</p><ul>{sources}</ul>"
        "<p>A model of one mass: no network, no voltage, no protection. A figure marked M is a parameter from memory, "
        "and no claim of conformity rests on it.</p></body></html>"
    )


def write(path: Path, study: Study, delays: Delays, result: Mapping[str, Any]) -> None:
    """`page` into a file."""
    path.write_text(page(study, delays, result), encoding="utf-8")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _table(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(_text(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _figures(study: Study, result: Mapping[str, Any]) -> str:
    alone, played = result["alone"], result["with_fleet"]
    rows: list[tuple[Any, ...]] = [(label, alone[name], played[name]) for name, label in SHOWN]
    left = result["margins"] or {}
    names = {
        "gain": "gain margin", "phase_deg": "phase margin [deg]", "delay_s": "delay margin [s]",
        "peak": "sensitivity peak M_s", "damping_frac": "damping of the least damped mode (0.7: or more)",
        "period_s": "its period [s]",
    }  # fmt: skip
    rows += [(label, None, limit(left[name])) for name, label in names.items() if name in left]
    rows += [
        ("largest mean delay [s]", None, limit(result["largest_delay_s"])),
        ("largest size at this delay [MW]", None, limit(result["largest_mw"])),
    ]
    note = "" if study.linear else "<p>Beyond 6 % of nominal no linear model holds: machines would have tripped.</p>"
    return _table(("", "without", "with the fleet"), rows) + note


def _grid_rows(result: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [(row["name"], row["value"], row["mark"]) for row in result["grid_figures"]]


def _line(played: Played, what: str, color: str, name: str, dash: str = "solid") -> go.Scatter:
    course = played.course
    t_ns, value = thinned(np.rint(course.t_s * 1e9).astype(np.int64), getattr(course, what))
    return go.Scatter(x=t_ns / 1e9, y=value, name=name, mode="lines", line={"color": color, "width": 1.6, "dash": dash})


def _course(study: Study) -> go.Figure:
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=[0.6, 0.4])
    figure.add_trace(_line(study.alone, "hz", ALONE, "without", "dash"), 1, 1)
    figure.add_trace(_line(study.played, "hz", FREQUENCY, f"with {study.fleet.fleet_mw:g} MW"), 1, 1)
    figure.add_trace(_line(study.played, "fleet_mw", GIVEN, "fleet"), 2, 1)
    figure.add_trace(_line(study.played, "governors_mw", ASKED, "governors"), 2, 1)
    figure.add_trace(_line(study.played, "lost_mw", LOST, "lost"), 2, 1)
    lowest = min(study.alone.measures.nadir_hz, study.played.measures.nadir_hz)
    for hz in study.grid.shed_hz:
        if hz >= lowest - 0.2:
            line = {"color": LOST, "width": 1, "dash": "dot"}
            figure.add_hline(y=hz, line=line, annotation_text=f"shedding {hz:g} Hz", row=1)
    figure.update_yaxes(title="Hz", row=1)
    figure.update_yaxes(title="MW into the grid", row=2)
    return _styled(figure, "s after the loss", 620)


def _sizes(study: Study) -> go.Figure:
    figure = go.Figure(_line(study.alone, "hz", ALONE, "none", "dash"))
    for one, color in zip(study.sizes, (GIVEN, FREQUENCY, SCORED, ASKED), strict=False):
        figure.add_trace(_line(one, "hz", color, f"{one.fleet_mw:g} MW"))
    figure.update_yaxes(title="Hz")
    return _styled(figure, "s after the loss", 420)


def _styled(figure: go.Figure, below: str, height: int) -> go.Figure:
    lowest = {"xaxis2" if "xaxis2" in figure.layout else "xaxis": {"title": below}}
    figure.update_layout(
        height=height, template="plotly_white", margin={"t": 20, "b": 80},
        legend={"orientation": "h", "y": -60 / height - 0.06}, **lowest
    )  # fmt: skip
    return figure


def _nyquist(loop: Loop, peak: float) -> go.Figure:
    """About -1. peak : M_s, whose circle the curve touches"""
    omega = frequencies(loop)
    curve = loop.along(omega)
    near = np.abs(curve) < FAR
    ring = np.exp(2j * np.pi * np.linspace(0.0, 1.0, 200))
    figure = go.Figure()
    labels = [f"{2 * np.pi / w:.3g} s" for w in omega[near]]
    figure.add_trace(
        go.Scatter(x=curve[near].real, y=curve[near].imag, text=labels, name="open loop", mode="lines",
                   line={"color": GIVEN}, hovertemplate="%{x:.3f} %{y:+.3f}j, period %{text}")
    )  # fmt: skip
    for z, name, color in ((ring, "|L| = 1", ALONE), (ring / peak - 1.0, f"1/M_s = {1 / peak:.2f} about -1", LOST)):
        figure.add_trace(go.Scatter(x=z.real, y=z.imag, name=name, mode="lines", line={"color": color, "dash": "dot"}))
    figure.add_trace(go.Scatter(x=[-1.0], y=[0.0], name="-1", mode="markers", marker={"color": LOST, "symbol": "x"}))
    figure.update_yaxes(scaleanchor="x", title="imaginary")
    return _styled(figure, "real", 500)


def _sensitivity(loop: Loop) -> go.Figure:
    omega = frequencies(loop)
    curve = loop.along(omega)
    figure = go.Figure()
    for value, name, color in (
        (np.abs(1.0 / (1.0 + curve)), "sensitivity |1/(1 + L)|", SCORED), (np.abs(curve), "open loop |L|", GIVEN)
    ):  # fmt: skip
        figure.add_trace(go.Scatter(x=omega / (2 * np.pi), y=value, name=name, mode="lines", line={"color": color}))
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log", title="1")
    return _styled(figure, "swings a second [Hz]", 420)


def _map(study: Study, region: Region) -> go.Figure:
    """Effects as four flat colours, each named; the edge found by halving; where this fleet stands."""
    scale = [[(k + end) / len(SHADES), shade] for k, shade in enumerate(SHADES) for end in (0, 1)]
    words = [WORDS[effect] for effect in Effect]
    texts = [[f"{words[code]}; {_text(dev)} Hz" for code, dev in zip(codes, devs, strict=True)]
             for codes, devs in zip(region.effect.tolist(), region.worst_dev_hz.tolist(), strict=True)]  # fmt: skip
    figure = go.Figure(
        go.Heatmap(
            x=region.delays_s, y=region.sizes_mw, z=region.effect, text=texts, zmin=-0.5, zmax=len(SHADES) - 0.5,
            colorscale=scale, hovertemplate="%{x:.2f} s, %{y:.4g} MW: %{text}<extra></extra>",
            colorbar={"tickvals": list(range(len(SHADES))), "ticktext": ["helps", "deepens", "swings", "unstable"]},
        )
    )  # fmt: skip
    edge = np.isfinite(region.edge_s)
    line = {"color": LOST, "width": 2}
    figure.add_trace(
        go.Scatter(x=region.edge_s[edge], y=region.sizes_mw[edge], name="edge", mode="lines+markers", line=line)
    )
    here = {"color": "#1b1f24", "size": 11, "symbol": "diamond"}
    figure.add_trace(
        go.Scatter(x=[study.fleet.delay_s], y=[study.fleet.fleet_mw], name="this fleet", mode="markers", marker=here)
    )
    figure.update_yaxes(title="fleet [MW]")
    return _styled(figure, "mean delay [s]", 480)
