"""What a PMU says of its own sample, as `Quality` bits, and its phase voltages as one share of nominal.

Pure. Clauses are those of IEEE C37.118.2-2011: STAT is table 7, the time-quality octet tables 3 and 4.

A clock whose error may exceed 10 ms, or is not known, gives CLOCK: that is where STAT's own scale ends, and half a
period of the grid. Both places that speak of it count: STAT is the PMU's, the octet that of whoever sends the frame.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from telemetry.c37118.configuration import Station
from telemetry.samples import Quality

# STAT
DATA_ERROR_SHIFT: Final = 14
DATA_GOOD: Final = 0
DATA_NOT_KNOWN: Final = 1  # PMU error, no information about data
DATA_TEST: Final = 2  # test mode, or absent data tags inserted: do not use
DATA_ERROR: Final = 3  # do not use
NOT_SYNCHRONISED: Final = 1 << 13
SORTED_BY_ARRIVAL: Final = 1 << 12
TRIGGER: Final = 1 << 11
CONFIGURATION_CHANGE: Final = 1 << 10
MODIFIED: Final = 1 << 9
PMU_TIME_SHIFT: Final = 6
PMU_TIME_UNKNOWN: Final = 7  # above 10 ms, or unknown; 0 is that of a 2005 unit, which does not tell
UNLOCKED_SHIFT: Final = 4

PHASES: Final = (4, 5, 6)  # components of CFG-3: A, B, C

# The octet above FRACSEC
LEAP_DELETE: Final = 0x40
LEAP_OCCURRED: Final = 0x20
LEAP_PENDING: Final = 0x10
TIME_CODE: Final = 0x0F  # n in 1..11: within 10**(n-10) s; 0 locked; 15 clock failure
WITHIN_10_MS: Final = 8
CLOCK_FAILURE: Final = 15

_DATA_BITS: Final = (0, int(Quality.INVALID), int(Quality.TEST), int(Quality.INVALID))
_CLOCK, _NAN = int(Quality.CLOCK), int(Quality.NAN)

# VA, VBY, Va-n, V_L1, UL2, VALPM, 4VC, V1N; a digit alone (V1) is a sequence component.
_PHASE = re.compile(r"\d*(?:PH)?[VU](?:PH|LN)?(?:[ABC](?!US|AT|OM|UX|VG)|[RST][NG]?$|L[123]|[123]N)")
_EMPTY_SEQUENCE = re.compile(r"\d*[VU](?:LN)?[02]|.*(?:ZERO|NEG|SEQ[02]|[02]SEQ)")


def source_quality(stat: int, time_quality: int, hz: float) -> int:
    """`Quality` bits that the source itself is answerable for.

    Data that was modified by post-processing (bit 9) or sorted by arrival keeps its value: both are a PDC's daily work.
    """
    bits = _DATA_BITS[stat >> DATA_ERROR_SHIFT]
    if (
        stat & NOT_SYNCHRONISED
        or stat >> PMU_TIME_SHIFT & 7 == PMU_TIME_UNKNOWN
        or time_quality & TIME_CODE > WITHIN_10_MS
    ):
        bits |= _CLOCK
    return bits if math.isfinite(hz) else bits | _NAN


def phase_voltages(station: Station, wanted: tuple[str, ...] = ()) -> tuple[int, ...]:
    """Which phasors are voltages of single phases: indices.

    wanted : channel names that decide; without them the phases that CFG-3 calls so, or the names that sound like
             phases, or else all voltages but the negative and zero sequence, which are nothing on a healthy grid

    Raises ValueError for a wanted name that is no voltage of the station.
    """
    volts = {k: re.sub(r"[^A-Z0-9]", "", p.name.upper()) for k, p in enumerate(station.phasors) if not p.current}
    if wanted:
        by_name = {station.phasors[k].name: k for k in volts}
        for name in wanted:
            if name not in by_name:
                there = ", ".join(by_name) or "none"
                raise ValueError(f"volt_channels: {name!r} is no voltage of {station.name}; there are {there}")
        return tuple(by_name[name] for name in wanted)
    told = tuple(k for k in volts if station.phasors[k].component in PHASES)
    if told:
        return told
    phases = tuple(k for k, name in volts.items() if _PHASE.match(name))
    return phases or tuple(k for k, name in volts.items() if not _EMPTY_SEQUENCE.match(name))


def smallest(station: Station, raw: tuple[Any, ...], channels: tuple[int, ...]) -> float:
    """The smallest magnitude [V]; absent phases are left out, NaN if there is none."""
    least = math.nan
    if station.plain:  # magnitudes as they stand: the usual case, asked at every frame
        for k in channels:
            volts = raw[1 + 2 * k]
            if volts == volts and not volts >= least:  # also while `least` is NaN
                least = volts
        return least
    for k in channels:
        volts = station.magnitude(raw, k)
        if volts == volts and not volts >= least:
            least = volts
    return least
