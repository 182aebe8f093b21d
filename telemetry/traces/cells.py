"""Bytes of many rows to fields and numbers at once, a few array operations per character position.

This file knows no format and no file. What the array form cannot do with certainty it leaves to the caller
(mask False), who reads that row on its own with `number` or by its format's own rules; both give the same bits.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from telemetry.traces.words import BYTES, read_digits, words_of

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
TENS: Final = 10 ** np.arange(BYTES + 1)
NUMBER: Final = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
MISSING_CELLS: Final = frozenset({"", "n/a", "na", "nan", "null", "none", "leer", "-", "--"})


class Fields(NamedTuple):
    """Where the cells of a chunk lie."""

    data: Bytes
    line_begin: Ints  # int64[lines] of every line, blank ones included
    line_end: Ints
    rows: Ints | None  # int64[rows] lines that have the expected number of fields; None where all have it
    edges: list[Ints]  # int64[rows] each: what stands in front of a row's first cell, between two, behind the last

    def cell(self, k: int) -> tuple[Ints, Ints]:
        """(begin, length) of field k of each row; blanks before a cell are not part of it."""
        begin = self.edges[k] + 1
        length = self.edges[k + 1] - begin
        while (blank := (self.data[begin] == SPACE) & (length > 0)).any():
            begin = begin + blank
            length = length - blank
        return begin, length


def split(data: Bytes, delimiter: int, count: int) -> Fields:
    """The fields of all lines in `data`, which ends with a newline.

    count : fields per row; lines with another number are not in `rows`
    """
    newline = data == NEWLINE
    marks = np.flatnonzero(newline | (data == delimiter))
    lines = int(np.count_nonzero(newline))
    if marks.size == lines * count and (data[marks[count - 1 :: count]] == NEWLINE).all():
        edges = [marks[k::count] for k in range(count)]
        before = np.empty_like(edges[-1])
        before[:1] = -1
        before[1:] = edges[-1][:-1]
        return Fields(data, before + 1, edges[-1], None, [before, *edges])
    ends, marks = np.flatnonzero(newline), marks[data[marks] != NEWLINE]
    before = np.r_[-1, ends[:-1]] if ends.size else ends
    first = np.searchsorted(marks, before + 1)
    rows = np.flatnonzero(np.diff(np.append(first, marks.size)) == count - 1)
    inner = [marks[first[rows] + k] for k in range(count - 1)]
    return Fields(data, before + 1, ends, rows, [before[rows], *inner, ends[rows]])


def numbers(data: Bytes, begin: Ints, length: Ints) -> tuple[Floats, Mask]:
    """Decimal numbers, point or comma, rounded exactly as `float` does.

    data : uint8[m], with WIDEST spare bytes behind the last cell
    Returns values float64[n] and a mask of those that were read; exponents, blanks and words are not.
    """
    head = data[begin]
    signed = (head == MINUS) | (head == PLUS)
    if signed.any():
        begin, length = begin + signed, length - signed
    words = words_of(data)
    end = begin + length
    # The last eight characters, then those in front of them where there are more. Sixteen with a point among them are
    # fifteen digits, an exact mantissa; without one nothing is divided.
    low = read_digits(words[np.maximum(end - BYTES, begin)], np.minimum(np.maximum(length, 0), BYTES))
    mantissa, decimals = low.value, low.decimals
    ok = low.ok & (length > 0) & (length <= BYTES)
    wide = np.flatnonzero((length > BYTES) & (length <= 2 * BYTES) & low.ok)
    if wide.size:
        high = read_digits(words[begin[wide]], length[wide] - BYTES)
        shift = TENS[low.digits[wide]]
        mantissa[wide] += high.value * shift
        decimals[wide] += np.where(high.point, high.decimals + BYTES, 0)
        ok[wide] = high.ok & ~(high.point & low.point[wide])
    values = mantissa / POWERS[decimals]
    rest = np.flatnonzero(~ok & (length > 0) & (length <= WIDEST))
    if rest.size:
        values[rest], ok[rest] = _by_character(data, begin[rest], length[rest])
    np.negative(values, out=values, where=signed & (head == MINUS))
    return values, ok


def _by_character(data: Bytes, begin: Ints, length: Ints) -> tuple[Floats, Mask]:
    """Numbers without a sign that are longer than two words, and whatever is none."""
    n = begin.size
    mantissa, decimals, digits = np.zeros(n, np.int64), np.zeros(n, np.int8), np.zeros(n, np.int8)
    points, ok = np.zeros(n, np.int8), np.ones(n, np.bool_)
    for k in range(int(length.max(initial=0))):
        char = data[begin + k]
        inside = length > k
        digit = char - np.uint8(48)  # wraps: everything below "0" becomes large
        is_digit = (digit < 10) & inside
        is_point = ((char == POINT) | (char == COMMA)) & inside
        ok &= is_digit | is_point | ~inside
        np.copyto(mantissa, mantissa * 10 + digit, where=is_digit & (digits < DIGITS))
        digits += is_digit
        decimals += is_digit & (points > 0)
        points += is_point
    ok &= (points <= 1) & (digits > 0)
    exact = ok & (digits <= DIGITS) & (mantissa <= EXACT)
    values = mantissa / POWERS[np.minimum(decimals, DIGITS)]
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
