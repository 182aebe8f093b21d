"""A CFG-1 or CFG-2 frame as what it says of the data frames to come: stations, channels, scales, layout.

Pure. Both have one layout (6.4, table 8); CFG-1 says what a unit could send, CFG-2 what it is sending; CFG-3 says the
same in another layout (`cfg3`). Text is Latin-1, padding removed and what cannot be printed shown as `?`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

from telemetry.c37118.errors import FrameError
from telemetry.c37118.frames import HEAD, SMALLEST, Head, Kind, body_of

NAME_BYTES: Final = 16
SCALE: Final = 1e-5  # PHUNIT: volts or amperes a bit, times 10**-5 (table 9)
# FORMAT (table 9)
POLAR: Final = 1
PHASORS_FLOAT: Final = 2
ANALOGS_FLOAT: Final = 4
FREQ_FLOAT: Final = 8
ABSENT: Final = -32768  # 0x8000 stands for absent data in 16-bit words; NaN in floating point (6.3)
ANGLE: Final = 1e-4  # radians a bit of a 16-bit angle (table 6)
_NS: Final = 1_000_000_000
_BEGIN: Final = struct.Struct(">IH")
_STATION: Final = struct.Struct(">16sHHHHH")
_END: Final = struct.Struct(">HH")
_RATE: Final = struct.Struct(">h")


class Phasor(NamedTuple):
    """A phasor channel."""

    name: str
    current: bool  # PHUNIT type: amperes instead of volts
    factor: float  # PHUNIT factor: 10**-5 V or A a bit of a 16-bit phasor, 0: unusable
    float_factor: float = 1.0  # V or A a unit of a floating-point one: CFG-2 has engineering units
    angle_rad: float = 0.0  # CFG-3: what to take from its angle; values are given as sent
    component: int | None = None  # CFG-3: 4, 5, 6 are the phases A, B, C (table 11); None: not told


class Analog(NamedTuple):
    """An analog channel."""

    name: str
    kind: int  # ANUNIT type: 0 point on wave, 1 rms, 2 peak, 65.. user's
    factor: int  # signed, 24 bits; the user's scaling


class Digital(NamedTuple):
    """A digital status word."""

    names: tuple[str, ...]  # of bits 0..15
    normal: int  # DIGUNIT: normal state
    valid: int  # DIGUNIT: inputs in use


Pair = tuple[float, float]  # real and imaginary, or magnitude and angle [rad], as the unit sends it


class Values(NamedTuple):
    """One station's part of a data frame, in engineering units; NaN for absent data."""

    stat: int  # STAT word
    phasors: tuple[Pair, ...]  # V or A
    hz: float
    rocof_hz_s: float
    analogs: tuple[float, ...]  # as sent
    digitals: tuple[int, ...]


@dataclass(frozen=True)
class Station:
    """One PMU of a stream."""

    name: str
    idcode: int
    format: int  # FORMAT word
    phasors: tuple[Phasor, ...]
    analogs: tuple[Analog, ...]
    digitals: tuple[Digital, ...]
    fnom: int  # FNOM word
    changes: int  # CFGCNT

    @property
    def nominal_hz(self) -> int:
        """50 or 60 (FNOM bit 0)."""
        return 50 if self.fnom & 1 else 60

    @property
    def polar(self) -> bool:
        """Whether phasors come as magnitude and angle."""
        return bool(self.format & POLAR)

    @cached_property
    def plain(self) -> bool:
        """Whether magnitudes stand in a data frame as they are, in V or A."""
        return bool(self.polar and self.format & PHASORS_FLOAT) and all(p.float_factor == 1.0 for p in self.phasors)

    @cached_property
    def layout(self) -> struct.Struct:
        """STAT, phasors, FREQ, DFREQ, analogs, digitals as they lie in a data frame (6.3, table 5)."""
        phasor = "ff" if self.format & PHASORS_FLOAT else "Hh" if self.polar else "hh"
        freq = "ff" if self.format & FREQ_FLOAT else "hh"
        analog = "f" if self.format & ANALOGS_FLOAT else "h"
        words = f"{len(self.digitals)}H" if self.digitals else ""
        return struct.Struct(">H" + phasor * len(self.phasors) + freq + analog * len(self.analogs) + words)

    def pair(self, raw: tuple[Any, ...], k: int) -> Pair:
        """Phasor k of the unpacked words, scaled; (NaN, NaN) where a 16-bit one is absent or has no scale."""
        first, second = raw[1 + 2 * k], raw[2 + 2 * k]
        if self.format & PHASORS_FLOAT:
            factor = self.phasors[k].float_factor
            return first * factor, second * (1.0 if self.polar else factor)
        scale = self.phasors[k].factor * SCALE or math.nan
        # The range of all words but a magnitude ends at -32767 (table 6).
        if second == ABSENT or (not self.polar and first == ABSENT):
            return math.nan, math.nan
        return first * scale, second * (ANGLE if self.polar else scale)

    def magnitude(self, raw: tuple[Any, ...], k: int) -> float:
        """Of phasor k [V or A]."""
        first, second = self.pair(raw, k)
        return first if self.polar else math.hypot(first, second)

    def hz(self, raw: tuple[Any, ...]) -> float:
        """Floats are hertz; 16-bit words are mHz away from nominal (table 6)."""
        value = raw[1 + 2 * len(self.phasors)]
        if self.format & FREQ_FLOAT:
            return float(value)
        return math.nan if value == ABSENT else (self.nominal_hz * 1000 + value) / 1000

    def values(self, raw: tuple[Any, ...]) -> Values:
        """All of the unpacked words, in their meaning."""
        at = 2 + 2 * len(self.phasors)
        rocof = raw[at]
        if not self.format & FREQ_FLOAT:
            rocof = math.nan if rocof == ABSENT else rocof / 100
        analogs = raw[at + 1 : at + 1 + len(self.analogs)]
        if not self.format & ANALOGS_FLOAT:
            analogs = tuple(math.nan if a == ABSENT else float(a) for a in analogs)
        return Values(
            stat=raw[0],
            phasors=tuple(self.pair(raw, k) for k in range(len(self.phasors))),
            hz=self.hz(raw),
            rocof_hz_s=rocof,
            analogs=analogs,
            digitals=raw[at + 1 + len(self.analogs) :],
        )


@dataclass(frozen=True)
class Configuration:
    """What a CFG-1, CFG-2 or CFG-3 says."""

    kind: Kind
    idcode: int  # of the stream
    time_base: int
    stations: tuple[Station, ...]
    rate: int  # DATA_RATE: frames a second, or, negative, seconds a frame

    @property
    def period_ns(self) -> int:
        """From one data frame to the next."""
        return round(_NS / self.rate) if self.rate > 0 else -self.rate * _NS

    @cached_property
    def data_bytes(self) -> int:
        """FRAMESIZE of its data frames."""
        return SMALLEST + sum(station.layout.size for station in self.stations)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each station's part begins in a data frame."""
        at, found = HEAD.size, []
        for station in self.stations:
            found.append(at)
            at += station.layout.size
        return tuple(found)

    def unpack(self, frame: bytes, index: int) -> tuple[Any, ...]:
        """The words of one station in a checked data frame. Raises FrameError: size."""
        if len(frame) != self.data_bytes:
            raise FrameError("size", f"{len(frame)} octets of data, the configuration says {self.data_bytes}")
        return self.stations[index].layout.unpack_from(frame, self.offsets[index])

    def read(self, frame: bytes) -> tuple[Values, ...]:
        """A checked data frame, all stations. Raises FrameError: size."""
        return tuple(station.values(self.unpack(frame, k)) for k, station in enumerate(self.stations))

    def find(self, idcode: int | None) -> int:
        """Index of the PMU of that IDCODE; None means the only one.

        Raises FrameError `idcode` where there is none, or more than one; it names those there are.
        """
        fits = [k for k, station in enumerate(self.stations) if idcode in (None, station.idcode)]
        if len(fits) == 1:
            return fits[0]
        there = ", ".join(f"{station.idcode} ({station.name})" for station in self.stations) or "none"
        wanted = "no PMU was chosen" if idcode is None else f"{len(fits)} PMUs have idcode {idcode}"
        raise FrameError("idcode", f"{wanted}; stream {self.idcode} carries {there}: set `idcode` to one of them")


def read_configuration(frame: bytes, head: Head) -> Configuration:
    """The configuration of a checked CFG-1 or CFG-2 frame.

    Raises FrameError: type for another kind, layout, time_base, rate.
    """
    if head.kind not in (Kind.CFG1, Kind.CFG2):
        raise FrameError("type", f"{head.kind.name} is no configuration that is read here")
    return configuration_of(Body(body_of(frame)), head, _station)


def configuration_of(body: Body, head: Head, station: Callable[[Body], Station]) -> Configuration:
    """TIME_BASE, NUM_PMU, the stations and DATA_RATE, which CFG-2 and CFG-3 have alike.

    Raises FrameError: layout, time_base, rate.
    """
    time_base, count = body.take(_BEGIN)
    time_base &= 0xFFFFFF  # the high octet is reserved for flags
    if not time_base:
        raise FrameError("time_base", "TIME_BASE is 0: times of the stream mean nothing")
    stations = tuple(station(body) for _ in range(count))
    (rate,) = body.take(_RATE)
    if body.left:
        raise FrameError("layout", f"{body.left} octets behind DATA_RATE")
    if not rate:
        raise FrameError("rate", "DATA_RATE is 0: set the unit's reporting rate")
    configuration = Configuration(head.kind, head.idcode, time_base, stations, rate)
    if configuration.data_bytes > 0xFFFF:
        raise FrameError("layout", f"its data frames would take {configuration.data_bytes} octets")
    return configuration


def _station(body: Body) -> Station:
    name, idcode, form, phasors, analogs, digitals = body.take(_STATION)
    names = body.names(phasors + analogs + 16 * digitals)
    units = [body.word() for _ in range(phasors)]
    scales = [body.word() for _ in range(analogs)]
    masks = [body.word() for _ in range(digitals)]
    fnom, changes = body.take(_END)
    words = names[phasors + analogs :]
    return Station(
        _text(name),
        idcode,
        form,
        tuple(Phasor(n, bool(unit >> 24 & 1), unit & 0xFFFFFF) for n, unit in zip(names, units, strict=False)),
        tuple(
            Analog(n, scale >> 24, (scale & 0xFFFFFF ^ 0x800000) - 0x800000)
            for n, scale in zip(names[phasors:], scales, strict=False)
        ),
        tuple(Digital(tuple(words[16 * k : 16 * k + 16]), mask >> 16, mask & 0xFFFF) for k, mask in enumerate(masks)),
        fnom,
        changes,
    )


class Body:
    """The octets of a configuration, taken from the front; FrameError `layout` where they end too soon."""

    def __init__(self, octets: bytes) -> None:
        self._octets, self._at = octets, 0

    @property
    def left(self) -> int:
        """How many are not taken."""
        return len(self._octets) - self._at

    def _advance(self, count: int) -> int:
        at, self._at = self._at, self._at + count
        if self._at > len(self._octets):
            raise FrameError("layout", f"its counts need {self._at} octets or more, there are {len(self._octets)}")
        return at

    def take(self, form: struct.Struct) -> tuple[Any, ...]:
        """The fields of a form."""
        return form.unpack_from(self._octets, self._advance(form.size))

    def octets(self, count: int) -> bytes:
        """So many."""
        at = self._advance(count)
        return self._octets[at : at + count]

    def word(self) -> int:
        """Four octets as a number."""
        at = self._advance(4)
        return int.from_bytes(self._octets[at : at + 4], "big")

    def names(self, count: int) -> list[str]:
        """Names of 16 octets each."""
        at = self._advance(NAME_BYTES * count)  # once for all: a wrong count is seen before anything is made
        return [_text(self._octets[at + k : at + k + NAME_BYTES]) for k in range(0, NAME_BYTES * count, NAME_BYTES)]


def _text(octets: bytes) -> str:
    return printable(octets.decode("latin-1"))


def printable(text: str) -> str:
    """Without padding, and `?` for what cannot be printed."""
    text = text.strip(" \0")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
