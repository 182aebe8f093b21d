"""A recorded trace drawn with characters: frequency over time, gaps, rejected rows, and how often each frequency was.

Plain text with styles that a terminal shows and a pipe leaves out; whatever is drawn is told by characters alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from rich.text import Text

from telemetry.traces.cells import Floats, Ints, Mask
from telemetry.traces.picture import Picture
from telemetry.traces.report import TraceReport, iso

ROWS: Final = 12
LEFT: Final = 9  # of the axis
BINS: Final = 12
FULL, GAP, REJECTED, NOMINAL = "█", "░", "x", "·"
LINE, SHADE, WARNING = "blue", "bright_black", "red"


def drawing(report: TraceReport, picture: Picture, width: int) -> Text:
    """The whole drawing, at most `width` characters wide."""
    t_ns, hz = picture.line.points()
    begin, end = report.span_ns
    if not hz.size or begin == end:
        return Text("nothing to draw: no believed frequency over time")
    columns = int(np.clip(width - LEFT - 1, 10, 120))
    span = end - begin
    out = Text()
    low, high = _columns(t_ns, hz, begin, span, columns)
    _curve(out, low, high, _gaps(report, begin, span, columns), picture.nominal_hz)
    _marked(out, picture, begin, span, columns)
    first, last = (iso(at - at % 1_000_000_000) or "" for at in (begin, end))
    out.append(" " * (LEFT + 1) + first + last.rjust(columns - len(first)) + "\n")
    _histogram(out, picture, columns)
    return out


def _columns(t_ns: Ints, hz: Floats, begin: int, span: int, columns: int) -> tuple[Floats, Floats]:
    """Smallest and largest value of each column, NaN where there is none.

    A column between two points that are no farther apart than points are otherwise lies on the line between them.
    """
    at = np.minimum((t_ns - begin) * columns // (span + 1), columns - 1)
    low, high = np.full(columns, np.inf), np.full(columns, -np.inf)
    np.minimum.at(low, at, hz)
    np.maximum.at(high, at, hz)
    empty = np.flatnonzero(low > high)
    middle_ns = begin + (empty + 0.5) * (span / columns)
    after = np.searchsorted(t_ns, middle_ns)
    steps = np.r_[np.inf, np.diff(t_ns), np.inf]
    near = steps[after] <= 3 * np.median(steps)
    drawn = np.where(near, np.interp(middle_ns, t_ns, hz), np.nan)
    low[empty], high[empty] = drawn, drawn
    return low, high


def _gaps(report: TraceReport, begin: int, span: int, columns: int) -> Mask:
    """Columns that lie in a gap for the most part."""
    edges = begin + np.arange(columns + 1) * (span / columns)
    missing = np.zeros(columns)
    for first, last in report.gaps_ns:
        missing += np.clip(np.minimum(edges[1:], last) - np.maximum(edges[:-1], first), 0.0, None)
    return np.asarray(missing > 0.5 * span / columns)


def _curve(out: Text, low: Floats, high: Floats, gaps: Mask, nominal_hz: float) -> None:
    bottom, top = float(np.nanmin(low)), float(np.nanmax(high))
    room = max(top - bottom, 1e-4)
    step = room / ROWS
    for row in range(ROWS):
        upper, lower = top - row * step, top - (row + 1) * step
        label = f"{upper:{LEFT}.3f}" if row % 4 == 0 else f"{lower:{LEFT}.3f}" if row == ROWS - 1 else " " * LEFT
        out.append(label + " ")
        middle = NOMINAL if lower <= nominal_hz < upper else " "
        for gap, inside in zip(gaps.tolist(), ((low <= upper) & (high >= lower)).tolist(), strict=True):
            out.append(*((GAP, SHADE) if gap else (FULL, LINE) if inside else (middle, SHADE)))
        out.append("\n")


def _marked(out: Text, picture: Picture, begin: int, span: int, columns: int) -> None:
    """A line a reason: where its rows are, and how many."""
    for name, marks in sorted(picture.marks.items()):
        inside = marks.t_ns[(marks.t_ns >= begin) & (marks.t_ns <= begin + span)]
        hit = np.zeros(columns, np.bool_)
        hit[np.minimum((inside - begin) * columns // (span + 1), columns - 1)] = True
        out.append(f"{name[:LEFT]:>{LEFT}} ")
        out.append("".join(REJECTED if one else " " for one in hit), WARNING)
        out.append(f" {marks.count}\n")


def _histogram(out: Text, picture: Picture, columns: int) -> None:
    edges, counts = picture.histogram(BINS)
    total = int(counts.sum())
    for k in range(counts.size - 1, -1, -1):
        share = counts[k] / total
        bar = FULL * round(share / (counts.max() / total) * (columns - 10))
        out.append(f"{edges[k]:{LEFT}.4f} ")
        out.append(bar, LINE)
        out.append(f" {share:.1%}\n")
