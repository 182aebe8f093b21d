"""Time cells to int64 ns UTC: dates, zones, times of day, running indices.

A written form is learnt from the first cell that needs it and then read in arrays; cells that fit no known form are
read one at a time. Reading gives wall time and its zone's offset per row; `resolve` turns them into UTC in row order,
because the repeated hour in autumn and midnight in a time of day are only told by what came before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import numpy as np

from telemetry.traces.cells import Bytes, Ints, Mask, numbers
from telemetry.traces.dates import AS_WRITTEN, REPAIR, Calendar, exchanged_walls
from telemetry.traces.forms import DAY_NS, KNOWN, NAIVE, NS, Form, day_ns, learn, match_time, offset_ns, wall_ns

QUARTER_NS: Final = 900 * NS  # zones change their offset at full quarters of an hour
LATEST_NS: Final = 9.2e18  # int64 nanoseconds end in 2262
TRIES: Final = 16  # cells looked at in a chunk to learn one from: the first may well be spoilt
FORMS: Final = 8  # written forms learnt per pass; a file has one, or two where zero fractions are left out
UNIX: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Stamps(Protocol):
    """How the time cells of one format become stamps; holds what a pass over the file must remember."""

    def read(self, data: Bytes, begin: Ints, length: Ints) -> tuple[Ints, Ints, Mask]:
        """Wall time [ns], zone offset [ns] (NAIVE where none) and a mask of the cells that were read."""

    def one(self, text: str) -> tuple[int, int]:
        """The same for a single cell; ValueError says why not."""

    def resolve(self, wall: Ints, offset: Ints) -> Ints:
        """UTC [ns] of the next rows of the file, in order. ValueError says why the dates cannot be believed."""


class Index:
    """A running integer: stamp = start + index x step."""

    def __init__(self, start_ns: int, step_ns: int) -> None:
        self._start_ns, self._step_ns = start_ns, step_ns

    def read(self, data: Bytes, begin: Ints, length: Ints) -> tuple[Ints, Ints, Mask]:
        values, ok = numbers(data, begin, length)
        ok &= (values >= 0) & (values == np.floor(values))
        ok &= np.abs(self._start_ns + values * self._step_ns) < LATEST_NS
        index = np.where(ok, values, 0).astype(np.int64)
        return self._start_ns + index * self._step_ns, np.zeros_like(index), ok

    def one(self, text: str) -> tuple[int, int]:
        raise ValueError(f"index {text[:40]!r} is not a whole number from 0")

    def resolve(self, wall: Ints, offset: Ints) -> Ints:
        return wall - offset


class Times:
    """Dates and times as people write them.

    zone       of cells that name none
    day        of cells that hold a time of day only; None refuses them
    day_first  dates with slashes are day/month/year; otherwise they are refused
    repair     one of `dates.REPAIRS`: day and month exchanged, or taken as written whatever they look like. With
               None, dates that are seen to be swapped are refused (`dates.SwappedDates`)
    """

    def __init__(self, zone: tzinfo, day: date | None, *, day_first: bool = False, repair: str | None = None) -> None:
        self._zone, self._day, self._day_first, self._repair = zone, day, day_first, repair
        self._calendar = Calendar()
        self._forms: list[Form] = []
        self._midnight_ns = 0 if day is None else day_ns(day)
        self._last_wall_ns: int | None = None
        self._wall_before_ns = 0
        self._second_pass = False  # within the hour that a zone repeats in autumn
        self._offsets: dict[int, tuple[int, int]] = {}

    def read(self, data: Bytes, begin: Ints, length: Ints) -> tuple[Ints, Ints, Mask]:
        n = begin.size
        wall, offset, ok = np.zeros(n, np.int64), np.full(n, NAIVE), np.zeros(n, np.bool_)
        for form in self._forms:
            form.read(data, begin, length, wall, offset, ok)
        if ok.all():
            return wall, offset, ok
        tried = ok.copy()
        for _ in range(TRIES):
            if len(self._forms) >= FORMS or tried.all():
                break
            i = int(np.argmin(tried))
            tried[i] = True
            cell = data[begin[i] : begin[i] + length[i]].tobytes().decode("latin-1")
            learnt = learn(cell, day_first=self._day_first)
            if learnt is None or learnt in self._forms:
                continue
            if self._day is not None or not learnt.time_of_day:
                self._forms.append(learnt)
                learnt.read(data, begin, length, wall, offset, ok)
                tried |= ok
        return wall, offset, ok

    def one(self, text: str) -> tuple[int, int]:
        match = match_time(text, day_first=self._day_first)
        if match is None:
            raise ValueError(f"time {text[:40]!r} is not understood (known: {KNOWN})")
        parts = match.groupdict()
        if parts.get("y") is None and self._day is None:
            raise ValueError(f"time {text[:40]!r} has no date: give --start")
        try:
            return wall_ns(parts), offset_ns(parts)
        except ValueError as error:
            raise ValueError(f"time {text[:40]!r}: {error}") from None

    def resolve(self, wall: Ints, offset: Ints) -> Ints:
        if self._day is not None:
            wall = self._with_dates(wall)
        if self._repair == REPAIR:
            wall = exchanged_walls(wall)
        if self._repair != AS_WRITTEN:
            self._calendar.look(wall)
        naive = offset == NAIVE
        if self._zone is UTC:
            return wall - np.where(naive, 0, offset)
        if naive.any():
            offset = offset.copy()
            offset[naive] = self._local(wall[naive])
        return wall - offset

    def _with_dates(self, wall: Ints) -> Ints:
        """Dates for times of day: a step back by more than half a day is midnight."""
        bare = wall < DAY_NS
        times = wall[bare]
        if not times.size:
            return wall
        before = times[0] if self._last_wall_ns is None else self._last_wall_ns
        midnights = np.cumsum(np.diff(times, prepend=before) < -DAY_NS // 2)
        wall = wall.copy()
        wall[bare] = times + self._midnight_ns + midnights * DAY_NS
        self._midnight_ns += int(midnights[-1]) * DAY_NS
        self._last_wall_ns = int(times[-1])
        return wall

    def _local(self, wall: Ints) -> Ints:
        """Offsets of the zone at wall times [ns]."""
        quarter = wall // QUARTER_NS
        begins = np.flatnonzero(np.r_[True, quarter[1:] != quarter[:-1]])
        pairs = [self._offset(q) for q in quarter[begins].tolist()]
        counts = np.diff(np.r_[begins, wall.size])
        first, second = (np.repeat(np.array([pair[k] for pair in pairs]), counts) for k in (0, 1))
        for i in np.flatnonzero(first > second).tolist():
            # The repeated hour: a step back of a quarter or more begins its second pass.
            before = int(wall[i - 1]) if i else self._wall_before_ns
            self._second_pass = self._second_pass or int(wall[i]) - before <= -QUARTER_NS
            if self._second_pass:
                first[i] = second[i]
            if i + 1 < wall.size and first[i + 1] <= second[i + 1]:
                self._second_pass = False
        self._wall_before_ns = int(wall[-1])
        if pairs[-1][0] <= pairs[-1][1]:
            self._second_pass = False
        return first

    def _offset(self, quarter: int) -> tuple[int, int]:
        if quarter not in self._offsets:
            at = UNIX + timedelta(seconds=quarter * 900)
            pair = [at.replace(tzinfo=self._zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1)]
            first, second = (round(delta.total_seconds()) * NS for delta in pair)
            # In spring's missing hour the offsets differ the other way round; the first is as good as any.
            self._offsets[quarter] = (first, second)
        return self._offsets[quarter]


class SecondsOfDay(Times):
    """Seconds since midnight, with decimals; after the last of a day comes the first of the next."""

    def read(self, data: Bytes, begin: Ints, length: Ints) -> tuple[Ints, Ints, Mask]:
        values, ok = numbers(data, begin, length)
        ok &= (values >= 0) & (values < DAY_NS // NS)
        wall = np.rint(np.where(ok, values, 0.0) * 1e9).astype(np.int64)
        return np.minimum(wall, DAY_NS - 1), np.full(begin.size, NAIVE), ok

    def one(self, text: str) -> tuple[int, int]:
        raise ValueError(f"{text[:40]!r} are not the seconds of a day")


def zone_of(name: str | None) -> tzinfo:
    """The zone called `name`: IANA name or fixed offset such as +02:00; None is UTC. Raises ValueError."""
    if name is None or name.upper() in {"UTC", "Z", "GMT"}:
        return UTC
    if fixed := re.fullmatch(r"([+-])(\d\d):?(\d\d)", name, re.ASCII):
        minutes = int(fixed[2]) * 60 + int(fixed[3])
        if minutes < 24 * 60 and int(fixed[3]) < 60:
            return timezone(timedelta(minutes=minutes if fixed[1] == "+" else -minutes))
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"no zone called {name!r}; write Europe/Madrid or +02:00") from None


def instant(value: str | datetime | int, zone: tzinfo) -> tuple[int, date]:
    """A caller's start as ns UTC and as the date on the zone's calendar. Raises ValueError."""
    if isinstance(value, int):
        return value, (UNIX + timedelta(seconds=value // NS)).astimezone(zone).date()
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if at.tzinfo is None:
        at = at.replace(tzinfo=zone)
    since = at - UNIX
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000, at.astimezone(zone).date()


MakeStamps = Callable[[], Stamps]
