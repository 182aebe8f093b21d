"""Bytes of many rows to fields and numbers at once, a few array operations per character position.

This file knows no format and no file. What the array form cannot do with certainty it leaves to the caller
(mask False), who reads that row on its own with `number` or by its format's own rules; both give the same bits.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

NEWLINE: Final = 10
SPACE: Final = 32
MINUS, PLUS, COMMA, POINT = (ord(c) for c in "-+,.")
WIDEST: Final = 32  # characters of a cell that the array forms look at
LARGEST: Final = 1e32  # what so many digits can write; no physical value needs more
EXACT: Final = 1 << 53  # integers up to here are exact in float64
DIGITS: Final = 18  # and mantissas of so many digits cannot overflow int64
POWERS: Final = 10.0 ** np.arange(DIGITS + 1)  # exact up to 1e22, so one division rounds correctly
NUMBER: Final = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
MISSING_CELLS: Final = frozenset({"", "n/a", "na", "nan", "null", "none", "leer", "-", "--"})


class Fields(NamedTuple):
    """Where the cells of a chunk lie: field k of row i is `data[begin[k][i] : begin[k][i] + length[k][i]]`."""

    line_begin: Ints  # int64[lines] of every line, blank ones included
    line_end: Ints
    rows: Ints  # int64[rows] lines that have the expected number of fields
    begin: list[Ints]  # per field, int64[rows]
    length: list[Ints]


def split(data: Bytes, delimiter: int, count: int) -> Fields:
    """The fields of all lines in `data`, which ends with a newline; blanks before a cell are not part of it.

    count : fields per row; lines with another number are not in `rows`
    """
    ends = np.flatnonzero(data == NEWLINE)
    begins = np.empty_like(ends)
    begins[:1] = 0
    begins[1:] = ends[:-1] + 1
    marks = np.flatnonzero(data == delimiter)
    inner = count - 1
    rows = np.arange(ends.size)
    grid = marks.reshape(-1, inner) if inner and marks.size == ends.size * inner else None
    # As many delimiters as expected in sum may still be spread unevenly: look at each line's first and last.
    if inner and (grid is None or not ((grid[:, 0] >= begins) & (grid[:, -1] < ends)).all()):
        first = np.searchsorted(marks, begins)
        per_line = np.diff(np.append(first, marks.size))
        rows = np.flatnonzero(per_line == inner)
        grid = marks[first[rows][:, None] + np.arange(inner)]
    edges = [begins[rows] - 1, *([grid[:, k] for k in range(inner)] if grid is not None else []), ends[rows]]
    begin = [edge + 1 for edge in edges[:-1]]
    length = [edges[k + 1] - begin[k] for k in range(count)]
    for k in range(count):
        while (blank := (data[begin[k]] == SPACE) & (length[k] > 0)).any():
            begin[k] = begin[k] + blank
            length[k] = length[k] - blank
    return Fields(begins, ends, rows, begin, length)


def numbers(data: Bytes, begin: Ints, length: Ints) -> tuple[Floats, Mask]:
    """Decimal numbers, point or comma, rounded exactly as `float` does.

    data : uint8[m], with WIDEST spare bytes behind the last cell
    Returns values float64[n] and a mask of those that were read; exponents, blanks and words are not.
    """
    n = begin.size
    mantissa, decimals, digits = np.zeros(n, np.int64), np.zeros(n, np.int8), np.zeros(n, np.int8)
    points, ok = np.zeros(n, np.int8), (length > 0) & (length <= WIDEST)
    head = data[begin]
    signed = (head == MINUS) | (head == PLUS)
    for k in range(min(int(length.max(initial=0)), WIDEST)):
        char = data[begin + k]
        inside = length > k
        digit = char - np.uint8(48)  # wraps: everything below "0" becomes large
        is_digit = (digit < 10) & inside
        is_point = ((char == POINT) | (char == COMMA)) & inside
        ok &= is_digit | is_point | ~inside if k else is_digit | is_point | signed
        np.copyto(mantissa, mantissa * 10 + digit, where=is_digit & (digits < DIGITS))
        digits += is_digit
        decimals += is_digit & (points > 0)
        points += is_point
    ok &= (points <= 1) & (digits > 0)
    np.negative(mantissa, out=mantissa, where=head == MINUS)
    exact = ok & (digits <= DIGITS) & (np.abs(mantissa) <= EXACT)
    values = mantissa / POWERS[np.minimum(decimals, DIGITS)]
    values[(mantissa == 0) & (head == MINUS)] = -0.0
    long = np.flatnonzero(ok & ~exact)
    if long.size:
        values[long] = _long_numbers(data, begin[long], length[long])
    return values, ok


def _long_numbers(data: Bytes, begin: Ints, length: Ints) -> Floats:
    """Well-formed numbers with more digits than float64 keeps, by numpy's own correctly rounding parser."""
    width = int(length.max())
    place = np.arange(width)
    text = np.where(place < length[:, None], data[begin[:, None] + place], 0)
    text[text == COMMA] = POINT
    values: Floats = np.ascontiguousarray(text, np.uint8).view(f"S{width}").ravel().astype(np.float64)
    return values


def digits_at(data: Bytes, begin: Ints, first: int, last: int) -> tuple[Ints, Mask]:
    """The unsigned integers at characters first..last-1 of each cell, and a mask of those that are digits."""
    value, ok = np.zeros(begin.size, np.int64), np.ones(begin.size, np.bool_)
    for k in range(first, last):
        digit = data[begin + k] - np.uint8(48)
        ok &= digit < 10
        value *= 10
        value += digit
    return value, ok


def number(text: str) -> float | None:
    """One cell as a number, None where it stands for a missing one.

    Raises ValueError where it is neither.
    """
    text = text.strip()
    if text.lower() in MISSING_CELLS:
        return None
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a number")
    value = float(text.replace(",", "."))
    if not abs(value) < LARGEST:
        raise ValueError(f"{text[:40]!r} is out of range")
    return value
