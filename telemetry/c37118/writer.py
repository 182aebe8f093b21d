"""C37.118.2 frames as a PMU writes them: the simulator's half, which shares nothing with the reading half.

Pure: numbers in, octets out. Built octet by octet in the order of the standard's tables (IEEE C37.118.2-2011, tables 5,
8, 10 and 13), so that a mistake in the reader's layouts does not cancel out here.
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ABSENT: Final = 0x8000
MAX_INT: Final = 32767
PHASE_RAD: Final = (0.0, -2 * math.pi / 3, 2 * math.pi / 3)
HEADROOM: Final = 2.0  # times nominal voltage: what a 16-bit phasor can still say


@dataclass(frozen=True)
class Pmu:
    """One PMU of the stream: three phase voltages, frequency, its rate of change.

    name, idcode : as in the configuration
    polar        : phasors as magnitude and angle, else real and imaginary part
    floats       : everything in floating point, else 16-bit words
    nominal_hz   : 50 or 60
    nominal_volt : phase to neutral [V]
    changes      : CFGCNT
    """

    name: str = "FLYBALL"
    idcode: int = 1
    polar: bool = True
    floats: bool = True
    nominal_hz: float = 50.0
    nominal_volt: float = 230.0
    changes: int = 0

    @property
    def volts_a_bit(self) -> float:
        """Scale of 16-bit phasors, as PHUNIT can say it."""
        return self._factor * 1e-5

    @property
    def _factor(self) -> int:
        return min(0xFFFFFF, max(1, math.ceil(HEADROOM * self.nominal_volt / MAX_INT * 1e5)))

    def configuration(self) -> bytes:
        """Its part of CFG-1 and CFG-2: fields 8 to 19 of table 8."""
        octets = self.name.encode("ascii", "replace")[:16].ljust(16)
        octets += _u16(self.idcode) + _u16(self.polar | self.floats << 1 | self.floats << 2 | self.floats << 3)
        octets += _u16(3) + _u16(0) + _u16(0)
        for channel in (b"VA", b"VB", b"VC"):
            octets += channel.ljust(16)
        octets += 3 * _u32(self._factor)
        return octets + _u16(1 if self.nominal_hz == 50 else 0) + _u16(self.changes)

    def configuration3(self) -> bytes:
        """Its part of CFG-3: fields 10 to 28 of table 10."""
        octets = _name(self.name) + _u16(self.idcode) + bytes(16)
        octets += _u16(self.polar | self.floats << 1 | self.floats << 2 | self.floats << 3)
        octets += _u16(3) + _u16(0) + _u16(0)
        for channel in ("VA", "VB", "VC"):
            octets += _name(channel)
        for component in (4, 5, 6):
            octets += _u16(0) + bytes((component, 0))
            octets += struct.pack(">ff", 1.0 if self.floats else self.volts_a_bit, 0.0)
        octets += 3 * struct.pack(">f", math.inf) + b"P" + _u32(20_000) + _u32(0)
        return octets + _u16(1 if self.nominal_hz == 50 else 0) + _u16(self.changes)

    def data(self, stat: int, hz: float, volts: float, rocof_hz_s: float = 0.0) -> bytes:
        """Its part of a data frame, all three phases alike. Fields 7 to 12 of table 5.

        volts : magnitude [V]; NaN, like a NaN frequency, is sent as absent
        """
        octets = _u16(stat)
        for angle in PHASE_RAD:
            octets += self._phasor(volts, angle)
        if self.floats:
            return octets + struct.pack(">ff", hz, rocof_hz_s)
        return octets + _i16((hz - self.nominal_hz) * 1000) + _i16(rocof_hz_s * 100)

    def _phasor(self, volts: float, angle: float) -> bytes:
        if math.isnan(volts):
            return struct.pack(">ff", volts, volts) if self.floats else _u16(ABSENT) + _u16(ABSENT)
        pair = (volts, angle) if self.polar else (volts * math.cos(angle), volts * math.sin(angle))
        if self.floats:
            return struct.pack(">ff", *pair)
        if self.polar:
            return _u16(min(0xFFFF, round(volts / self.volts_a_bit))) + _i16(angle * 1e4)
        return _i16(pair[0] / self.volts_a_bit) + _i16(pair[1] / self.volts_a_bit)


def configuration(kind: int, stream: int, pmus: Sequence[Pmu], time_base: int, rate: int, t_ns: int) -> bytes:
    """A CFG-1 (kind 2) or CFG-2 (kind 3) frame. rate : DATA_RATE"""
    body = _u32(time_base) + _u16(len(pmus)) + b"".join(pmu.configuration() for pmu in pmus)
    return _frame(kind, stream, t_ns, time_base, 0, body + struct.pack(">h", rate))


def configuration3(
    stream: int, pmus: Sequence[Pmu], time_base: int, rate: int, t_ns: int, most: int = 65_000
) -> list[bytes]:  # fmt: skip
    """The frames of a CFG-3, one unless there are more than `most` octets. rate : DATA_RATE"""
    body = _u32(time_base) + _u16(len(pmus)) + b"".join(pmu.configuration3() for pmu in pmus)
    body += struct.pack(">h", rate)
    cut = [body[k : k + most] for k in range(0, len(body), most)]
    numbers = [0] if len(cut) == 1 else [*range(1, len(cut)), 0xFFFF]
    return [
        _frame(5, stream, t_ns, time_base, 0, _u16(number) + part, version=2)
        for number, part in zip(numbers, cut, strict=True)
    ]


def data(stream: int, parts: Sequence[bytes], time_base: int, t_ns: int, time_quality: int = 0) -> bytes:
    """A data frame of the parts that `Pmu.data` gives."""
    return _frame(0, stream, t_ns, time_base, time_quality, b"".join(parts))


def header(stream: int, text: str, time_base: int, t_ns: int) -> bytes:
    """A header frame: words for people."""
    return _frame(1, stream, t_ns, time_base, 0, text.encode("ascii", "replace"))


def _frame(
    kind: int, stream: int, t_ns: int, time_base: int, time_quality: int, body: bytes, version: int = 1
) -> bytes:  # fmt: skip
    """Raises ValueError for a time outside 1970..2106 or a body FRAMESIZE cannot say."""
    seconds, rest_ns = divmod(t_ns, 1_000_000_000)
    parts = round(rest_ns * time_base / 1_000_000_000)
    if parts >= time_base:
        seconds, parts = seconds + 1, 0
    if not 0 <= seconds < 1 << 32:
        raise ValueError(f"t_ns {t_ns} is outside 1970..2106, the range of SOC: give ns since 1970 UTC")
    size = 16 + len(body)
    if size > 0xFFFF:
        raise ValueError(f"a frame of {size} octets: 65535 is the most; give the stream fewer PMUs")
    octets = bytes((0xAA, kind << 4 | version)) + _u16(size) + _u16(stream)
    octets += _u32(seconds) + bytes((time_quality,)) + parts.to_bytes(3, "big") + body
    return octets + _u16(binascii.crc_hqx(octets, 0xFFFF))


def _name(text: str) -> bytes:
    octets = text.encode()[:255]
    return bytes((len(octets),)) + octets


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _i16(value: float) -> bytes:
    if math.isnan(value):
        return _u16(ABSENT)
    return round(min(MAX_INT, max(-MAX_INT, value))).to_bytes(2, "big", signed=True)
