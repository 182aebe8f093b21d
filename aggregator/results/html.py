"""Pieces of a page: a chart with its table beside it, light or dark as the reader has it, on paper and on a phone.

Self-contained: plotly's script is inside, nothing is fetched. Every chart has a sentence for those who do not see it,
and its numbers in a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape as escape
from typing import Any, Final

from plotly.offline import get_plotlyjs

UP, DOWN, ASKED, GIVEN, PLAIN, BAD = "#2f7fde", "#c98a00", "#c98a00", "#12936a", "#8a63d8", "#d1493a"
SHADES: Final = (PLAIN, GIVEN, ASKED, UP, BAD, "#6b7785", "#b05fa5", "#4aa3a2")
ROWS_SHOWN: Final = 400

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1c1f24;--soft:#56606c;--line:#dfe3e8;--page:#fff;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e7eaee;--soft:#a6afba;--line:#39414b;--page:#15181c;--bad:#ff8a80}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1180px;margin:20px auto;
padding:0 14px}h1{font-size:23px;margin:0 0 4px}h2{font-size:18px;margin:30px 0 6px}
.sub{color:var(--soft);margin:0 0 12px}
.pair{display:grid;grid-template-columns:minmax(0,3fr) minmax(0,2fr);gap:18px;align-items:start}
.pair figure{margin:0;min-width:0}.rows{max-height:340px;overflow:auto}.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:2px 0 4px}
th,td{padding:3px 8px;text-align:right;border-bottom:1px solid var(--line);vertical-align:top}
th:first-child,td:first-child{text-align:left}thead th{position:sticky;top:0;background:var(--page)}
.tiles{display:flex;flex-wrap:wrap;gap:10px}.tile{border:1px solid var(--line);border-radius:6px;padding:7px 13px}
.tile b{display:block;font-size:19px}.bad{color:var(--bad)}a{color:inherit}
@media (max-width:760px){.pair{grid-template-columns:minmax(0,1fr)}body{margin:10px auto}}
@media print{body{max-width:none}.rows{max-height:none;overflow:visible}section{break-inside:avoid}}
"""
# Charts take the page's ink, and its width when that changes.
SCRIPT: Final = """
const dark=matchMedia('(prefers-color-scheme: dark)');
function dress(){const ink=getComputedStyle(document.documentElement).getPropertyValue('--ink').trim();
const line=getComputedStyle(document.documentElement).getPropertyValue('--line').trim();
document.querySelectorAll('.plotly-graph-div').forEach(d=>{const change={'font.color':ink};
Object.keys(d.layout||{}).filter(k=>/^[xy]axis/.test(k)).forEach(k=>{change[k+'.gridcolor']=line;
change[k+'.zerolinecolor']=line});Plotly.relayout(d,change)})}
dark.addEventListener('change',dress);addEventListener('load',dress);
addEventListener('beforeprint',()=>document.querySelectorAll('.plotly-graph-div').forEach(d=>Plotly.Plots.resize(d)));
"""


def page(title: str, parts: Iterable[str]) -> str:
    """The whole document."""
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><main>{''.join(parts)}</main><script>{SCRIPT}</script></body></html>"
    )


def tiles(figures: Mapping[str, str]) -> str:
    """The figures to see first."""
    cells = (f"<div class=tile>{escape(name)}<b>{escape(text)}</b></div>" for name, text in figures.items())
    return f"<div class=tiles>{''.join(cells)}</div>"


def section(title: str, figure: Any | None, told: str, beside: str = "", note: str = "") -> str:
    """A chart and its table. told : what the chart shows, for those who do not see it"""
    chart = "" if figure is None else f"<figure role=img aria-label='{escape(told, True)}'>{_html(figure)}</figure>"
    extra = f"<p class=sub>{escape(note)}</p>" if note else ""
    body = f"<div class=pair>{chart}{beside}</div>" if chart and beside else f"<div class=wide>{chart}{beside}</div>"
    return f"<section><h2>{escape(title)}</h2>{extra}{body}</section>"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Numbers in rows; a long table says how many it leaves out."""
    names = "".join(f"<th scope=col>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text(value))}</td>" for value in row) + "</tr>" for row in rows[:ROWS_SHOWN]
    )
    rest = f"; {len(rows) - ROWS_SHOWN} more in the files beside this page" if len(rows) > ROWS_SHOWN else ""
    return (
        f"<div class=rows tabindex=0><table><caption>{escape(caption + rest)}</caption><thead><tr>{names}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def text(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    return str(value)


def dressed(figure: Any, unit: str, height: int = 320) -> Any:
    """The common look: no background of its own."""
    figure.update_layout(
        template="none", height=height, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", autosize=True,
        font={"size": 12, "color": "#6b7785"}, margin={"l": 58, "r": 12, "t": 26, "b": 40}, hovermode="x unified",
        hoverlabel={"font": {"color": "#1c1f24"}, "bgcolor": "#f4f5f7"},
        legend={"orientation": "h", "y": 1.14, "x": 0}, showlegend=len(figure.data) > 1, colorway=SHADES,
    )  # fmt: skip
    figure.update_xaxes(gridcolor="#c9ced6", zeroline=False)
    figure.update_yaxes(title=unit, gridcolor="#c9ced6", zerolinecolor="#c9ced6")
    return figure


def _html(figure: Any) -> str:
    html: Any = figure.to_html(
        full_html=False, include_plotlyjs=False, default_width="100%",
        config={"displaylogo": False, "responsive": True},
    )  # fmt: skip
    return str(html)
