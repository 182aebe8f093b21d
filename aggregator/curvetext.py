"""A product for reading: its curve drawn with characters, and every figure with its confidence.

Plain text with styles that a terminal shows and a pipe leaves out; whatever is drawn is told by characters alone.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from rich.text import Text

from droop.curve import Floats, fractions
from droop.products import Product, to_table

ROWS: Final = 13  # odd: 0 has a row of its own where the curve has two sides
LEFT: Final = 7  # of the axis
ROOM: Final = 0.15  # beyond the curve's ends, of its span: it is flat there
FULL, ZERO = "█", "·"
LINE, SHADE = "blue", "bright_black"
# What is said elsewhere, or is no figure.
WORDS: Final = frozenset({"id", "title", "area", "aliases", "sources", "confidence", "marks", "notes", "curve"})
# Told even where they stand at their defaults: how long the product lasts, and how long it may be blind.
ALWAYS: Final = ("sustain_min", "interval_s", "hold_s")
MEANING: Final = {
    "V": "read in the primary document",
    "V2": "read in a secondary source",
    "D": "derived or computed",
    "M": "from memory, unverified",
}


class Figure(NamedTuple):
    """One figure of a product: `score.k`, its value, its confidence."""

    name: str
    value: Any
    mark: str


def figures(product: Product) -> list[Figure]:
    """Every figure that the product's file gives, tables flattened, the curve's points first."""
    table = to_table(product)
    rows = [Figure("curve", table["curve"], product.mark("curve_hz"))]
    rows += [Figure(name, getattr(product, name), product.mark(name)) for name in ALWAYS if name not in table]
    return rows + _flat(product, {key: value for key, value in table.items() if key not in WORDS}, "")


def _flat(product: Product, table: dict[str, Any], where: str) -> list[Figure]:
    rows: list[Figure] = []
    for key, value in table.items():
        name = f"{where}{key}"
        if isinstance(value, dict):
            rows += _flat(product, value, f"{name}.")
        else:
            rows.append(Figure(name, value, product.mark(name)))
    return rows


def span(product: Product) -> tuple[float, float]:
    """From where to where the curve is drawn: deviations [Hz], or the signal's values."""
    low, high = product.curve_hz[0], product.curve_hz[-1]
    room = ROOM * (high - low) if high - low > 1e-6 else 0.1  # a trigger is all in one place
    # Nominal is always in the picture.
    return min(low - room, 0.0), max(high + room, 0.0)


def axis(product: Product, x: float) -> str:
    """A place on the axis as people read it: hertz, or the signal's value."""
    return f"{x:g}" if product.input == "signal" else f"{product.nominal_hz + x:.3f}".rstrip("0").rstrip(".") + " Hz"


def drawing(product: Product, width: int) -> Text:
    """The curve, at most `width` characters wide."""
    columns = int(np.clip(width - LEFT - 1, 20, 72))
    low, high = span(product)
    edges = np.linspace(low, high, columns + 1)
    top, bottom = max(*product.curve_frac, 0.0), min(*product.curve_frac, 0.0)
    height = (top - bottom) / (ROWS - 1)
    out = Text()
    ends = _ends(product, edges)
    for row in range(ROWS):
        level = top - row * height
        label = f"{level:+.2f}" if row % 3 == 0 else ""
        out.append(f"{label:>{LEFT}} ")
        for least, most in ends:
            on = least - height / 2 <= level <= most + height / 2
            zero = abs(level) < height / 2
            out.append(*((FULL, LINE) if on else (ZERO if zero else " ", SHADE)))
        out.append("\n")
    middle = axis(product, 0.0) if low < 0.0 < high else ""
    place = round((0.0 - low) / (high - low) * columns)
    text = [" "] * (columns + 1)
    for word, at in ((axis(product, low), 0), (axis(product, high), columns - len(axis(product, high)))):
        text[at : at + len(word)] = word
    at = place - len(middle) // 2
    if middle and "".join(text[max(at - 1, 0) : at + len(middle) + 1]).isspace():
        text[at : at + len(middle)] = middle
    out.append(" " * (LEFT + 1) + "".join(text).rstrip() + "\n")
    return out


def _ends(product: Product, edges: Floats) -> list[tuple[float, float]]:
    """Smallest and largest share within each column: those at its ends, for no curve turns back."""
    at_begin = fractions(product.response, edges[:-1])
    at_end = fractions(product.response, np.nextafter(edges[1:], -math.inf))
    low, high = np.minimum(at_begin, at_end), np.maximum(at_begin, at_end)
    return list(zip(low.tolist(), high.tolist(), strict=True))
