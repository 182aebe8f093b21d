"""Decimal digits eight at a time: a cell's characters as one 64-bit word, read with a dozen operations on all words.

The arithmetic is that of "SIMD within a register": each byte of a word is a character, and no operation lets one byte
spill into its neighbour unless it is meant to. Byte 0 is the first character (little-endian, whatever the machine).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from telemetry.traces.cells import Bytes, Ints, Mask

Words = npt.NDArray[np.uint64]

BYTES: Final = 8


def _each(byte: int) -> np.uint64:
    return np.uint64(int.from_bytes(bytes([byte] * BYTES), "little"))


def _u(value: int) -> np.uint64:
    return np.uint64(value)


ONES, SEVENTHS, ZEROS, POINTS, COMMA_TO_POINT = _each(0x01), _each(0x80), _each(0x30), _each(0x2E), _each(0x02)
HIGH, LOW, SIX, THREES = _each(0xF0), _each(0x0F), _each(0x06), _each(0x33)


class Digits(NamedTuple):
    """What the characters of each cell spell: an integer, how many digits, how many of them behind the point."""

    value: Ints
    digits: Ints
    decimals: Ints
    point: Mask
    ok: Mask  # digits with at most one point or comma among them, at least one digit


def words_of(data: Bytes) -> Words:
    """The eight bytes that begin at each byte of `data`, without copying: uint64[m - 7]."""
    return np.ndarray((max(data.size - BYTES + 1, 0),), np.dtype("<u8"), data, strides=(1,))


def read_digits(word: Words, length: Ints) -> Digits:
    """The first `length` (1..8) characters of each word."""
    # The last character goes to the top byte; what stood behind it is shifted out, zeros come in below.
    text = word << (_u(8) * (_u(BYTES) - length.astype(np.uint64)))
    # A byte that is zero here was a point, or a comma, which differs from it in one bit.
    odd = (text | COMMA_TO_POINT) ^ POINTS
    found = (odd - ONES) & ~odd & SEVENTHS
    point = found != 0
    below = (found >> _u(7)) - _u(1)  # all characters before the point; all, where there is none
    above = ~((found << _u(1)) - _u(1))
    # Close the gap that the point leaves, and write 0 into the bytes in front of the first digit.
    close = point.astype(np.uint64) << _u(3)
    digits = length - point
    front = (_u(1) << (_u(8) * (_u(BYTES) - digits.astype(np.uint64)))) - _u(1)
    text = (text & above) | ((text & below) << close) | (ZEROS & front)
    ok = ((text & HIGH) | (((text + SIX) & HIGH) >> _u(4))) == THREES  # 0x30..0x39, each
    ok &= digits > 0  # a second point has stayed where it was, and is no digit
    before = ((below & ONES) * ONES) >> _u(56)  # bytes before the point
    decimals = np.where(point, 7 - before.astype(np.int64), 0)
    # Pairs of digits, then fours, then all eight.
    text &= LOW
    text = ((text * _u(1 + (10 << 8))) >> _u(8)) & _u(0x00FF00FF00FF00FF)
    text = ((text * _u(1 + (100 << 16))) >> _u(16)) & _u(0x0000FFFF0000FFFF)
    text = (text * _u(1 + (10_000 << 32))) >> _u(32)
    return Digits(text.astype(np.int64), digits, decimals, point, ok)
