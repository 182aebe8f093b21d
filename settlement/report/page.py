"""The page itself: a period's figures in words and tables, its charts, and its worst minutes to open.

It says what it rests on: how many statements, how much of the time was known, and the product's own confidence. What
is folded on the screen is open on paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any, Final

from droop.products import Product
from settlement.align import NS
from settlement.report import charts
from settlement.report.series import MINUTE_NS, Minute, Series, missing_kw, worst
from settlement.statement import Statement, iso

AROUND_NS: Final = 2 * MINUTE_NS
CONFIDENCE: Final = {
    "V": "read in the primary document", "V2": "read in a secondary source", "D": "derived", "M": "from memory",
}  # fmt: skip

STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;color:#1c1f24;max-width:1080px;margin:24px auto;padding:0 16px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:28px 0 6px}p.sub{color:#5b6470;margin:0 0 14px}
table{border-collapse:collapse;width:100%;font-size:14px}th,td{padding:4px 8px;text-align:right;
border-bottom:1px solid #e3e6ea;vertical-align:top}th:first-child,td:first-child,td.text,th.text{text-align:left}
.tiles{display:flex;flex-wrap:wrap;gap:10px}.tile{border:1px solid #e3e6ea;border-radius:6px;padding:8px 14px}
.tile b{display:block;font-size:20px}.bad{color:#c0392b}details{border-bottom:1px solid #e3e6ea;padding:4px 0}
summary{cursor:pointer}section{break-inside:avoid}
@media print{body{max-width:none;margin:0;font-size:11px}.plotly .modebar{display:none!important}
h2{break-after:avoid}tr,details{break-inside:avoid}}
"""
PRINT: Final = """
const all=()=>document.querySelectorAll('details');
const fit=()=>document.querySelectorAll('.plotly-graph-div').forEach(d=>window.Plotly&&Plotly.Plots.resize(d));
addEventListener('beforeprint',()=>{all().forEach(d=>d.open=true);fit()});
document.addEventListener('toggle',e=>{if(e.target.open)e.target.querySelectorAll('.plotly-graph-div')
.forEach(d=>Plotly.Plots.resize(d))},true);
"""


@dataclass(frozen=True)
class Money:
    """What a period came to. rows : (start_ns, end_ns, income, penalties) of each interval, exact"""

    currency: str
    rows: Sequence[tuple[int, int, Decimal, Decimal]]
    notes: Sequence[str] = ()

    @property
    def income(self) -> Decimal:
        """Paid for what was there and given."""
        return sum((row[2] for row in self.rows), Decimal(0))

    @property
    def penalties(self) -> Decimal:
        """Taken for what was not; 0 or less."""
        return sum((row[3] for row in self.rows), Decimal(0))


def page(
    product: Product, series: Series, statements: Sequence[Statement], money: Money | None = None,
    reasons: Mapping[str, float] | None = None,
) -> str:  # fmt: skip
    """The report of one product as HTML.

    statements : of the period, in order, of each interval the newest revision
    reasons    : energy unserved by reason [kWh]; taken from the statements where it is not given
    """
    first, last = statements[0], statements[-1]
    title = f"{product.title}: {iso(first.start_ns)} to {iso(last.end_ns)}"
    minutes = worst(series)
    parts = [
        f"<h1>{escape(product.title)}</h1>",
        f"<p class=sub>{escape(iso(first.start_ns))} to {escape(iso(last.end_ns))} &middot; "
        f"{first.sold_kw:g} kW of {escape(product.id)} sold &middot; {len(statements)} intervals &middot; "
        f"the product's figures: {CONFIDENCE[product.confidence]}</p>",
        _tiles(series, statements, money),
        _section("Asked and given", charts.response(series), script=True),
        _section("Frequency", charts.frequency(series)),
        _section("How far apart", charts.errors(series)),
        _section("Score of each interval", charts.scores(statements)) if _scored(statements) else "",
        _money(money) if money is not None else "",
        _reasons(_unserved(statements) if reasons is None else reasons),
        _worst(series, minutes),
        _intervals(statements, money),
    ]
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{STYLE}</style></head><body>{''.join(parts)}<script>{PRINT}</script></body></html>"
    )


def _scored(statements: Sequence[Statement]) -> bool:
    return any(item.score is not None for item in statements)


def _tiles(series: Series, statements: Sequence[Statement], money: Money | None) -> str:
    known_s = sum(item.coverage_frac * (item.until_ns - item.start_ns) for item in statements) / NS
    whole_s = sum(item.until_ns - item.start_ns for item in statements) / NS
    scored = [(item.score, item.coverage_frac) for item in statements if item.score is not None]
    weight = sum(share for _, share in scored)
    tiles = {
        "score": f"{sum(score * share for score, share in scored) / weight:.4f}" if weight else "none",
        "asked up / down, kWh": _pair(statements, "requested"),
        "given up / down, kWh": _pair(statements, "delivered"),
        "missing, kWh": f"{_kwh(series):.4g}",
        "meters' error, at most": _accuracy(statements),
        "of the time known": f"{100 * known_s / whole_s if whole_s else 0:.2f} %",
    }
    if money is not None:
        tiles["income"] = f"{money.income:.2f} {money.currency}"
        tiles["penalties"] = f"{money.penalties:.2f} {money.currency}"
    return "<div class=tiles>" + "".join(f"<div class=tile>{k}<b>{v}</b></div>" for k, v in tiles.items()) + "</div>"


def _accuracy(statements: Sequence[Statement]) -> str:
    """The largest error of the meters' sum, against the product's limit where it names one."""
    known = [item.accuracy for item in statements if item.accuracy is not None]
    errors = [one.error_frac for one in known if one.error_frac is not None]
    if not errors or len(errors) < len(statements):
        return "unknown"
    limit = known[0].limit_frac
    return f"{100 * max(errors):.2f} %" + (f" of {100 * limit:g} %" if limit is not None else "")


def _kwh(series: Series) -> float:
    short = missing_kw(series)
    return float(short[short > 0].sum()) * series.step_s / 3600.0


def _pair(statements: Sequence[Statement], name: str) -> str:
    up, down = (sum(getattr(item, f"{name}_{way}_kwh") for item in statements) for way in ("up", "down"))
    return f"{up:.5g} / {down:.5g}"


def _section(title: str, figure: Any, *, script: bool = False) -> str:
    chart: str = figure.to_html(full_html=False, include_plotlyjs=script, config={"displaylogo": False})
    return f"<section><h2>{title}</h2>{chart}</section>"


def _money(money: Money) -> str:
    rows = [(start, end, float(income + penalty)) for start, end, income, penalty in money.rows]
    notes = "".join(f"<p class=sub>{escape(note)}</p>" for note in money.notes)
    return _section("Income of each interval, penalties taken off", charts.income(rows, money.currency)) + notes


def _unserved(statements: Sequence[Statement]) -> dict[str, float]:
    total: dict[str, float] = {}
    for item in statements:
        for name, kwh in item.unserved_kwh.items():
            total[name] = total.get(name, 0.0) + kwh
    return total


def _reasons(reasons: Mapping[str, float]) -> str:
    if not reasons:
        return "<section><h2>Shortfalls by reason</h2><p>The fleet could serve all that was asked of it.</p></section>"
    whole = sum(reasons.values())
    body = "".join(
        f"<tr><td>{escape(name.replace('_', ' '))}<td>{kwh:.4g}<td>{100 * kwh / whole:.1f} %"
        for name, kwh in sorted(reasons.items(), key=lambda item: -item[1])
    )
    return f"<section><h2>Shortfalls by reason</h2><table><tr><th>reason<th>kWh<th>share{body}</table></section>"


def _worst(series: Series, minutes: Sequence[Minute]) -> str:
    if not minutes:
        return "<section><h2>Worst minutes</h2><p>In no minute was less given than asked.</p></section>"
    rows = []
    for minute in minutes:
        near = series.between(minute.start_ns - AROUND_NS, minute.start_ns + MINUTE_NS + AROUND_NS)
        chart: str = charts.response(near).to_html(full_html=False, include_plotlyjs=False)
        wave: str = charts.frequency(near).to_html(full_html=False, include_plotlyjs=False)
        unknown = f", {minute.unknown_s:g} s unknown" if minute.unknown_s else ""
        rows.append(
            f"<details><summary>{iso(minute.start_ns)}: {minute.missing_kwh:.4g} kWh missing of "
            f"{abs(minute.asked_kwh):.4g} asked, {minute.worst_kw:.4g} kW at worst{unknown}</summary>{chart}{wave}"
            "</details>"
        )
    return f"<h2>Worst minutes</h2>{''.join(rows)}"


def _intervals(statements: Sequence[Statement], money: Money | None) -> str:
    amounts = {start: income + penalty for start, _, income, penalty in money.rows} if money is not None else {}
    head = "<tr><th>from<th>asked up / down<th>given up / down<th>score<th>known" + ("<th>amount" if money else "")
    body = []
    for item in statements:
        notes = "; ".join((item.score_note, *item.notes)) if item.notes else item.score_note
        score = "-" if item.score is None else f"{item.score:.4f}"
        style = " class=bad" if item.kpis.get("adequate") is False else ""
        amount = f"<td>{amounts.get(item.start_ns, Decimal(0)):.2f}" if money else ""
        body.append(
            f"<tr><td>{iso(item.start_ns)}{' (revised)' if item.revision else ''}<td>{_pair([item], 'requested')}"
            f"<td>{_pair([item], 'delivered')}<td{style}>{score}<td>{100 * item.coverage_frac:.1f} %{amount}"
            f"<td class=text>{escape(notes)}"
        )
    return f"<h2>Intervals</h2><table>{head}<th class=text>note{''.join(body)}</table>"
