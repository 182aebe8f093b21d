"""Written forms of date and time: known to a few patterns, learnt from one cell, then read in arrays.

Pure text to numbers; zones, midnights and the order of rows are `stamps`' business. Day and month in numbers
with slashes are refused, 01/03 being two different days, unless the format is known to write the day first.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final, NamedTuple

import numpy as np

from telemetry.traces.cells import Bytes, Ints, Mask, digits_at
from telemetry.traces.words import BYTES, words_of

NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * NS
NAIVE: Final = -(1 << 62)  # offset of a cell that names no zone
EPOCH: Final = date(1970, 1, 1)
CENTURIES: Final = (19, 20, 21)  # of a date without separators, which is else any number of 14 digits
_CLOCK = r"(?P<H>\d{1,2}):(?P<M>\d\d)(:(?P<S>\d\d)([.,](?P<F>\d{1,9}))?)?"
_ZONE = r"( ?(?P<z>Z|UTC|GMT|(?P<sign>[+-])(?P<zh>\d\d)(:?(?P<zm>\d\d))?))?"
_DATES = (r"(?P<y>\d{4})([-/])(?P<m>\d\d?)\2(?P<d>\d\d?)", r"(?P<d>\d\d?)\.(?P<m>\d\d?)\.(?P<y>\d{4})")
_PATTERNS = tuple(
    re.compile(text, re.ASCII)
    for text in (
        rf"{_DATES[0]}[T ]{_CLOCK}{_ZONE}",
        rf"{_DATES[1]}[T ]{_CLOCK}{_ZONE}",
        rf"(?P<d>\d\d?)-(?P<mon>[A-Za-z]{{3}})-(?P<y>\d{{4}})[T ]{_CLOCK}{_ZONE}",
        rf"{_CLOCK}",
        rf"(?P<y>(?:{'|'.join(map(str, CENTURIES))})\d\d)(?P<m>\d\d)(?P<d>\d\d)(?P<H>\d\d)(?P<M>\d\d)(?P<S>\d\d)",
    )
)
_DAY_FIRST = re.compile(rf"(?P<d>\d\d?)/(?P<m>\d\d?)/(?P<y>\d{{4}})[T ]{_CLOCK}{_ZONE}", re.ASCII)
_MONTHS: Final = {
    name: i + 1
    for i, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
}
KNOWN: Final = "ISO 8601, dd.mm.yyyy HH:MM:SS, dd-Mon-yyyy HH:MM:SS, yyyymmddHHMMSS"


class Form(NamedTuple):
    """One written form: fixed width, where the numbers stand, and what stands between them."""

    width: int
    parts: dict[str, tuple[int, int]]
    literals: tuple[tuple[int, int], ...]
    zone_ns: int  # NAIVE, or the sign of the zone's digits where `parts` has them
    time_of_day: bool
    shared: int  # characters in front of the seconds, at least 8 and at most 16; 0 where it is not so

    def read(self, data: Bytes, begin: Ints, length: Ints, wall: Ints, offset: Ints, ok: Mask) -> None:
        """Fill in `wall`, `offset` and `ok` for the cells of this form that are not read yet."""
        todo: Ints | slice = np.flatnonzero((length == self.width) & ~ok)
        at = begin[todo]
        if at.size == begin.size:
            todo = slice(None)
        ns, zone, fits = self._cells(data, at)
        if isinstance(todo, slice) and fits.all():
            wall[:], offset[:], ok[:] = ns, zone, True
            return
        took = np.arange(begin.size)[todo][fits]
        wall[took], offset[took], ok[took] = ns[fits], zone[fits], True

    def _cells(self, data: Bytes, at: Ints) -> tuple[Ints, Ints, Mask]:
        """(wall time, zone, whether it is of this form) of the cells at `at`.

        Neighbours share all but their seconds for as long as a minute lasts: what they share is read once.
        """
        starts = self._runs(data, at) if self.shared else None
        if starts is None or starts.size * 4 > at.size:
            return self._span(data, at, 0, self.width)
        counts = np.diff(np.append(starts, at.size))
        ns, _, fits = self._span(data, at[starts], 0, self.shared)
        rest_ns, zone, rest_fits = self._span(data, at, self.shared, self.width)
        return np.repeat(ns, counts) + rest_ns, zone, np.repeat(fits, counts) & rest_fits

    def _runs(self, data: Bytes, at: Ints) -> Ints:
        """Where cells begin to differ from the one before in their first `shared` characters."""
        words, last = words_of(data), self.shared - BYTES
        first, second = words[at], words[at + last]
        changed = np.ones(at.size, np.bool_)
        changed[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
        return np.flatnonzero(changed)

    def _span(self, data: Bytes, at: Ints, begin: int, end: int) -> tuple[Ints, Ints, Mask]:
        """What characters begin..end-1 say; whole parts lie within."""
        fits = np.ones(at.size, np.bool_)
        for place, char in self.literals:
            if begin <= place < end:
                fits &= data[at + place] == char
        part: dict[str, Ints] = {}
        for name, (first, last) in self.parts.items():
            if name != "mon" and begin <= first and last <= end:
                part[name], digits = digits_at(data, at, first, last)
                fits &= digits
        ns = np.zeros(at.size, np.int64)
        if "d" in part:
            month = self._month(data, at) if "mon" in self.parts else part["m"]
            days, known = _days(part["y"] * 10_000 + month * 100 + part["d"])
            ns += days * DAY_NS
            fits &= known
            if not self.literals:
                fits &= np.isin(part["y"] // 100, CENTURIES)
        for name, unit_ns, limit in (("H", 3600 * NS, 24), ("M", 60 * NS, 60), ("S", NS, 60)):
            if name in part:
                ns += part[name] * unit_ns
                fits &= part[name] < limit
        if "F" in part:
            first, last = self.parts["F"]
            ns += part["F"] * 10 ** (9 - (last - first))
        return ns, self._zones(part, at.size, fits), fits

    def _zones(self, part: dict[str, Ints], n: int, fits: Mask) -> Ints:
        if "zh" not in part:
            return np.full(n, self.zone_ns)
        minutes = part["zh"] * 60 + part.get("zm", np.int64(0))
        fits &= (part["zh"] < 24) & (minutes % 60 == part.get("zm", np.int64(0)))
        return np.asarray(self.zone_ns * minutes * 60)

    def _month(self, data: Bytes, at: Ints) -> Ints:
        first, _ = self.parts["mon"]
        code = np.zeros(at.size, np.int64)
        for k in range(first, first + 3):
            code = code << 8 | (data[at + k] | 0x20)  # lower case
        month = np.zeros(at.size, np.int64)
        for name, number in _MONTHS.items():
            month[code == int.from_bytes(name.encode(), "big")] = number
        return month


def match_time(text: str, *, day_first: bool = False) -> re.Match[str] | None:
    patterns = (_DAY_FIRST, *_PATTERNS) if day_first else _PATTERNS
    return next((match for pattern in patterns if (match := pattern.fullmatch(text))), None)


def is_time(text: str, *, dated: bool = True) -> bool:
    """Whether a cell is written like a time; without `dated` only a bare time of day counts."""
    match = match_time(text)
    return match is not None and (dated or "y" not in match.re.groupindex)


def learn(text: str, *, day_first: bool = False) -> Form | None:
    match = match_time(text, day_first=day_first)
    if match is None:
        return None
    spans = {name: match.span(name) for name in match.re.groupindex if match[name] is not None}
    zone, sign = spans.pop("z", None), spans.pop("sign", None)
    zone_ns = NAIVE if zone is None else 0 if sign is None else NS if match["sign"] == "+" else -NS
    inside = {k for first, last in spans.values() for k in range(first, last)}
    literals = tuple((k, ord(char)) for k, char in enumerate(text) if k not in inside)
    return Form(len(text), spans, literals, zone_ns, "y" not in spans, _shared(spans, len(text)))


def _shared(spans: dict[str, tuple[int, int]], width: int) -> int:
    """The last place up to two words on that cuts no part, the date before it and the seconds behind it."""
    date_end = max((spans[name][1] for name in ("y", "m", "mon", "d") if name in spans), default=width)
    seconds = spans.get("S", (width, width))[0]
    for place in range(min(2 * BYTES, width - 1, seconds), max(BYTES, date_end) - 1, -1):
        if not any(first < place < last for first, last in spans.values()):
            return place
    return 0


def _days(code: Ints) -> tuple[Ints, Mask]:
    """Days since 1970 of dates yyyymmdd, and which of them exist; a trace has long runs of one date."""
    begins = np.flatnonzero(np.r_[True, code[1:] != code[:-1]]) if code.size else np.zeros(0, np.int64)
    days = [_day(value) for value in code[begins].tolist()]
    counts = np.diff(np.r_[begins, code.size])
    known = np.repeat(np.array([day is not None for day in days], np.bool_), counts)
    return np.repeat(np.array([day or 0 for day in days], np.int64), counts), known


def _day(code: int) -> int | None:
    try:
        return day_ns(date(code // 10_000, code // 100 % 100, code % 100)) // DAY_NS
    except ValueError:
        return None


def day_ns(day: date) -> int:
    if not 1678 <= day.year <= 2261:
        raise ValueError(f"year {day.year} does not fit 64-bit nanoseconds")
    return (day - EPOCH).days * DAY_NS


def wall_ns(parts: dict[str, str | None]) -> int:
    month = parts.get("m") or _MONTHS.get((parts.get("mon") or "jan").lower())
    if month is None:
        raise ValueError(f"month {parts['mon']!r}")
    year, day = parts.get("y"), parts.get("d")
    days_ns = 0 if year is None else day_ns(date(int(year), int(month), int(day or 1)))
    hours, minutes, seconds = (int(parts[name] or 0) for name in "HMS")
    # A leap second, 23:59:60 UTC and any hour elsewhere: seconds since 1970 have no number of its own for it, so it
    # stands at the second after and is counted as a time that repeats.
    leap = seconds == 60 and minutes == 59
    if hours > 23 or minutes > 59 or (seconds > 59 and not leap):
        raise ValueError("hour, minute or second out of range")
    return days_ns + (hours * 3600 + minutes * 60 + seconds) * NS + int((parts.get("F") or "").ljust(9, "0"))


def offset_ns(parts: dict[str, str | None]) -> int:
    if parts.get("z") is None:
        return NAIVE
    if parts["sign"] is None:
        return 0
    hours, minutes = int(parts["zh"] or 0), int(parts["zm"] or 0)
    if hours > 23 or minutes > 59:
        raise ValueError("zone out of range")
    return (1 if parts["sign"] == "+" else -1) * (hours * 60 + minutes) * 60 * NS
