"""Bids as one page to look at: the offer of each block with what was taken off it, and the rule's own history.

One HTML file that needs no network: plotly's script is inside.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aggregator.bidding.answer import Answer, iso

OFFER, SEEN, FIRM, MEAN, FAILED = "#2f6fde", "rgba(90, 90, 90, 0.55)", "#12855a", "#c98a00", "#c0392b"
CUTS: Final = {
    "energy": "#8e44ad", "quantile": "#c98a00", "drift": "#16a085", "step": "#7f8c8d", "minimum": "#c0392b"
}  # fmt: skip


def page(answer: Answer) -> str:
    """The page as HTML."""
    figure = make_subplots(
        rows=3, cols=1, vertical_spacing=0.08, row_heights=[0.36, 0.32, 0.32],
        specs=[[{}], [{}], [{"type": "table"}]],
        subplot_titles=(
            f"{answer.day}: offer, and what was cut off for which reason; dots: the same block in history",
            "The rule on its own history: what it stood for, and what was there", "In sum",
        ),
    )  # fmt: skip
    _offers(figure, answer)
    _walk(figure, answer)
    _table(figure, answer)
    figure.update_yaxes(title="kW", row=1)
    figure.update_yaxes(title="kW", row=2)
    figure.update_layout(
        title=f"Bids for {answer.bundle.name} at {answer.rule.confidence:.4g}", barmode="stack", height=1300,
        template="plotly_white",
    )  # fmt: skip
    html: Any = figure.to_html(include_plotlyjs=True, full_html=True)
    return str(html)


def _offers(figure: Any, answer: Answer) -> None:
    names = [bid.block.name for bid in answer.bids]
    figure.add_trace(
        go.Bar(x=names, y=[bid.offer.kw for bid in answer.bids], name="offer", marker={"color": OFFER}), 1, 1
    )
    for reason, color in CUTS.items():
        taken = [sum(cut.kw for cut in bid.offer.cuts if cut.reason == reason) for bid in answer.bids]
        if any(kw > 0.0 for kw in taken):
            figure.add_trace(
                go.Bar(x=names, y=taken, name=f"cut: {reason}", marker={"color": color}, opacity=0.45), 1, 1
            )
    minutes = [answer.bundle.place(bid.block.start_ns)[0] for bid in answer.bids]
    for name, minute in zip(names, minutes, strict=True):
        seen = answer.model.blocks[answer.model.blocks["minute"] == minute]["kw"]
        figure.add_trace(
            go.Scatter(x=[name] * seen.size, y=seen, mode="markers", marker={"color": SEEN, "size": 4},
                       showlegend=bool(name == names[0]), name="available then"), 1, 1,
        )  # fmt: skip


def _walk(figure: Any, answer: Answer) -> None:
    if answer.walked is None:
        return
    walked = answer.walked
    times = np.array([bid.block.start_ns for bid in walked.bids]).astype("datetime64[ns]")
    firm = [bid.offer.firm_kw for bid in walked.bids]
    for name, values, color in (("stood for", firm, FIRM), ("available", walked.available_kw, MEAN)):
        figure.add_trace(
            go.Scatter(x=times, y=values, name=name, mode="lines", line={"color": color, "width": 1}), 2, 1
        )
    figure.add_trace(
        go.Scatter(
            x=np.array([bid.block.start_ns for bid, _ in walked.failed]).astype("datetime64[ns]"),
            y=[kw for _, kw in walked.failed], name="less than stood for", mode="markers",
            marker={"color": FAILED, "size": 8, "symbol": "x"},
        ), 2, 1,
    )  # fmt: skip


def _table(figure: Any, answer: Answer) -> None:
    rows = facts(answer)
    figure.add_trace(
        go.Table(
            header={"values": ["", ""], "height": 0, "fill": {"color": "white"}},
            cells={"values": [list(rows), list(rows.values())], "align": "left", "fill": {"color": "white"}},
        ), 3, 1,
    )  # fmt: skip


def facts(answer: Answer) -> dict[str, str]:
    """What a person wants told beside the offers."""
    used, presence, drift = answer.model.blocks, answer.model.presence, answer.rule.drift
    found = {
        "Learned from": f"{used.size} whole blocks, {iso(int(used['start_ns'].min()))} to "
        f"{iso(int(used['end_ns'].max()))}, {answer.model.chargers} chargers",
        "Correlation of presence": "none: nobody comes or goes" if presence is None
        else f"{presence.rho:.4f} +- {presence.error:.4f}",
        "What one is good for varies by": f"{answer.model.size_sd:.1%} of it",
        "Figures of the products": ", ".join(f"{p.id}: {p.confidence}" for p in answer.bundle.products),
    }  # fmt: skip
    if drift is not None:
        found["Drift an hour, of what is sold"] = (
            f"{drift.up_pu:+.4f} +- {drift.up_sd:.4f} of energy to give, {drift.down_pu:+.4f} +- "
            f"{drift.down_sd:.4f} of room to take, {drift.blocks} blocks"
        )
    if answer.walked is not None:
        verdict = answer.walked.verdict
        found["On its own history"] = (
            f"{'passed' if verdict.passed else 'FAILED'}: {verdict.exceeded} of {verdict.blocks} blocks fell short, "
            f"{verdict.expected:.1f} expected, p = {verdict.p_value:.3g}"
        )
    else:
        found["On its own history"] = f"not tested: {answer.untested}"
    for text in (answer.bundle.assumption, *answer.history.assumed):
        if text:
            found.setdefault("Assumed", "")
            found["Assumed"] = "; ".join(part for part in (found["Assumed"], text) if part)
    return found
