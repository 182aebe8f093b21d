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

NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * NS
NAIVE: Final = -(1 << 62)  # offset of a cell that names no zone
EPOCH: Final = date(1970, 1, 1)
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
        r"(?P<y>(?:19|20|21)\d\d)(?P<m>\d\d)(?P<d>\d\d)(?P<H>\d\d)(?P<M>\d\d)(?P<S>\d\d)",
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

    def read(self, data: Bytes, begin: Ints, length: Ints, wall: Ints, offset: Ints, ok: Mask) -> None:
        """Fill in `wall`, `offset` and `ok` for the cells of this form that are not read yet."""
        todo = np.flatnonzero((length == self.width) & ~ok)
        at = begin[todo]
        fits = np.ones(todo.size, np.bool_)
        for place, char in self.literals:
            fits &= data[at + place] == char
        part: dict[str, Ints] = {}
        for name, (first, last) in self.parts.items():
            if name == "mon":
                continue
            part[name], digits = digits_at(data, at, first, last)
            fits &= digits
        if not self.time_of_day:
            month = self._month(data, at) if "mon" in self.parts else part["m"]
            days, known = _days(part["y"] * 10_000 + month * 100 + part["d"])
            fits &= known
        else:
            days = np.zeros(todo.size, np.int64)
        seconds = part["H"] * 3600 + part["M"] * 60
        fits &= (part["H"] < 24) & (part["M"] < 60)
        if "S" in part:
            seconds += part["S"]
            fits &= part["S"] < 60
        ns = (days * 86_400 + seconds) * NS
        if "F" in part:
            first, last = self.parts["F"]
            ns += part["F"] * 10 ** (9 - (last - first))
        zone = np.full(todo.size, self.zone_ns)
        if "zh" in part:
            minutes = part["zh"] * 60 + part.get("zm", np.int64(0))
            zone = zone * minutes * 60
            fits &= (part["zh"] < 24) & (minutes % 60 == part.get("zm", np.int64(0)))
        took = todo[fits]
        wall[took], offset[took], ok[took] = ns[fits], zone[fits], True

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
    return Form(len(text), spans, literals, zone_ns, "y" not in spans)


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
    if hours > 23 or minutes > 59 or seconds > 59:
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
