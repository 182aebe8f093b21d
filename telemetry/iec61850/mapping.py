"""One IEC 61850 measured value as one `FREQUENCY` row, and back: quality bits, time stamps, voltage.

Pure functions: no library, no clock, no connection. They see numbers and the eight octets of a UtcTime.

Sources: IEC 61850-7-3 (Quality), IEC 61850-8-1 8.1.3.6-8.1.3.7 (UtcTime and TimeQuality).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from telemetry.samples import FREQUENCY, Block, Quality

# Quality (7-3), bit 0 first: the integer whose bit i is bit i of the 13-bit string.
VALIDITY: Final = 0b11  # 0 good, 1 reserved, 2 invalid, 3 questionable
VALIDITY_GOOD: Final = 0
VALIDITY_INVALID: Final = 2
VALIDITY_QUESTIONABLE: Final = 3
OLD_DATA: Final = 1 << 7
SUBSTITUTED: Final = 1 << 10
TEST: Final = 1 << 11
QUALITY_BITS: Final = 13

# TimeQuality, the last octet of a UtcTime (8-1).
LEAP_SECONDS_KNOWN: Final = 0x80
CLOCK_FAILURE: Final = 0x40
CLOCK_NOT_SYNCHRONISED: Final = 0x20
ACCURACY_1_US: Final = 20  # significant bits of the fraction: 2**-20 s, time class T5
ACCURACY_UNSPECIFIED: Final = 31

_NS: Final = 1_000_000_000
_UTC: Final = struct.Struct(">II")
_MAX_S: Final = 2**32 - 1


class Report(NamedTuple):
    """What one report says about frequency, in the words of the standard."""

    sequence: int | None  # SqNum; None if OptFlds left it out
    reason: int  # reasons for inclusion of the frequency member, the bits below; 0: not included
    hz: float | None  # None: the report carries other members only
    quality: int  # Quality, bit 0 first
    utc: bytes  # UtcTime, 8 octets
    volts: float | None  # smallest phase voltage; None: not included, so unchanged
    entry: bytes = b""  # EntryID of a buffered report
    overflow: bool = False  # BufOvfl: reports before this one were lost in the device


DATA_CHANGE: Final = 1
QUALITY_CHANGE: Final = 2
DATA_UPDATE: Final = 4
INTEGRITY: Final = 8
GENERAL_INTERROGATION: Final = 16
REASON_UNKNOWN: Final = 32  # included, and OptFlds left the reason out


def time_quality(clock_ok: bool) -> int:
    """The TimeQuality octet of a unit whose clock is synchronised to a microsecond, or is not synchronised."""
    return LEAP_SECONDS_KNOWN | ACCURACY_1_US if clock_ok else CLOCK_NOT_SYNCHRONISED | ACCURACY_UNSPECIFIED


def encode_utc(t_ns: int, quality: int) -> bytes:
    """The UtcTime of an instant, to the nearest 2**-24 s (60 ns), with its TimeQuality octet.

    Raises ValueError outside 1970-01-01..2106-02-07, what 32 bits of seconds can say.
    """
    ticks = ((t_ns << 24) + _NS // 2) // _NS
    seconds, fraction = ticks >> 24, ticks & 0xFFFFFF
    if not 0 <= seconds <= _MAX_S:
        raise ValueError(f"t_ns {t_ns} is outside 1970..2106, the range of a UtcTime: give ns since 1970 UTC")
    return _UTC.pack(seconds, fraction << 8 | quality & 0xFF)


def decode_utc(octets: bytes) -> tuple[int, int]:
    """(ns since 1970, TimeQuality octet) of a UtcTime, rounded to the nearest ns.

    Raises ValueError unless there are eight octets.
    """
    if len(octets) != 8:
        raise ValueError(f"a UtcTime has 8 octets, not {len(octets)}")
    seconds, rest = _UTC.unpack(octets)
    return seconds * _NS + (((rest >> 8) * _NS + (1 << 23)) >> 24), rest & 0xFF


def source_quality(quality: int, octet: int, hz: float) -> Quality:
    """The bits of `Quality` that the source itself is answerable for; `octet` is the TimeQuality.

    A substituted value (7-3: source = substituted) was typed by an operator, not measured: INVALID like a bad validity.
    """
    flags = Quality.GOOD
    if quality & VALIDITY != VALIDITY_GOOD or quality & SUBSTITUTED:
        flags |= Quality.INVALID
    if quality & TEST:
        flags |= Quality.TEST
    if octet & (CLOCK_FAILURE | CLOCK_NOT_SYNCHRONISED):
        flags |= Quality.CLOCK
    if math.isnan(hz):
        flags |= Quality.NAN
    return flags


def smallest(volts: Iterable[float]) -> float:
    """The smallest phase voltage; phases without a number are left out, NaN if there is none."""
    numbers = [v for v in volts if not math.isnan(v)]
    return min(numbers) if numbers else math.nan


def frequency_block(
    hz: float, quality: int, utc: bytes, volts: float, nominal_volt: float, rx_ns: int, source: int
) -> Block:
    """FREQUENCY[1] of one reported value.

    hz, quality, utc : Hz.mag.f, Hz.q (bit 0 first), Hz.t (8 octets)
    volts            : smallest phase voltage [V]; NaN if the report has none
    nominal_volt     : what is 1.0 [V]

    Raises ValueError for a time that is not a UtcTime.
    """
    t_ns, octet = decode_utc(utc)
    flags = source_quality(quality, octet, hz)
    block = np.zeros(1, FREQUENCY)
    block[0] = (t_ns, rx_ns, hz, volts / nominal_volt, int(flags), source)
    return block


def quality_from_bits(octets: bytes) -> int:
    """Quality as an integer, bit 0 first, from the octets of its bit string (bit 0 is the first octet's highest)."""
    return sum(1 << i for i in range(min(QUALITY_BITS, 8 * len(octets))) if octets[i // 8] & (0x80 >> (i % 8)))


def quality_to_bits(quality: int) -> bytes:
    """The two octets of Quality's bit string; the inverse of `quality_from_bits`."""
    octets = bytearray(2)
    for i in range(QUALITY_BITS):
        if quality >> i & 1:
            octets[i // 8] |= 0x80 >> (i % 8)
    return bytes(octets)
