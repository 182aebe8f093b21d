"""The market's own time: days, blocks and settlement periods in local time, and stamps at the text door.

This file knows zones and a product's market table: no price, no power. A day is cut where its market cuts it (an EFA
day begins at 23:00 of the evening before). Blocks longer than an hour are cut by the clock on the wall, so that on a
day of daylight saving the block in which the clock moves is an hour shorter or longer; shorter blocks and settlement
periods are cut by time that passes: 46, 48 or 50 half hours, 92, 96 or 100 quarters (rulebook 4.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from droop.promises import Market
from settlement.align import NS

HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S
EVENING: Final = time(12)  # a day that begins after noon begins on the evening before
LEAP: Final = re.compile(r"^(.*\d\d:\d\d):60((?:\.\d+)?)(.*)$")


class CalendarError(ValueError):
    """A time or a market's calendar that cannot be used; the message names the value and the remedy."""


class Block(NamedTuple):
    """One stretch of a market's day: [start_ns, end_ns)."""

    name: str
    start_ns: int
    end_ns: int


class Instant(NamedTuple):
    """A time read from a text. leap : it was the second 60 and counts as the first of the next minute"""

    t_ns: int
    leap: bool = False


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """The zone by its IANA name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CalendarError(f"zone `{name}` is not known; give an IANA name, e.g. Europe/Berlin") from None


def nanoseconds(moment: datetime) -> int:
    """ns since 1970 UTC of an aware time, exact to its microseconds."""
    passed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (passed.days * DAY_S + passed.seconds) * NS + passed.microseconds * 1000


def local(t_ns: int, name: str) -> datetime:
    """Local time, to the second below."""
    return datetime.fromtimestamp(t_ns // NS, UTC).astimezone(zone(name))


def instant(text: str, name: str = "UTC") -> Instant:
    """A time as people and markets write it: ISO 8601 with its offset, or without one in the zone named.

    23:59:60 UTC at the end of June or December is a leap second: POSIX time has no room for it, so it counts as the
    second after it, and says so. Raises CalendarError: not a time, no leap second, a local time that does not exist
    or exists twice.
    """
    plain = text.strip()
    leap = LEAP.match(plain)
    try:
        moment = datetime.fromisoformat(f"{leap[1]}:59{leap[2]}{leap[3]}" if leap else plain)
    except ValueError:
        raise CalendarError(f"`{text}` is not a time; write it as 2026-01-31T16:00:00Z") from None
    t_ns = nanoseconds(moment) if moment.tzinfo else _resolved(moment, name, text)
    if not leap:
        return Instant(t_ns)
    last = datetime.fromtimestamp(t_ns // NS, UTC)
    if last.time().replace(microsecond=0) != time(23, 59, 59) or (last.month, last.day) not in ((6, 30), (12, 31)):
        raise CalendarError(f"`{text}`: no leap second there; they fall at 23:59:60 UTC, end of June or December")
    return Instant(t_ns + NS, True)


def _resolved(moment: datetime, name: str, text: str) -> int:
    """A wall-clock time without offset: it must exist once."""
    where = zone(name)
    early, late = (moment.replace(tzinfo=where, fold=fold) for fold in (0, 1))
    if early.utcoffset() == late.utcoffset():
        return nanoseconds(early)
    how = "exists twice" if early.utcoffset() > late.utcoffset() else "does not exist"  # type: ignore[operator]
    raise CalendarError(f"`{text}` {how} in {name}: the clock is moved; write it with an offset, e.g. +01:00")


@lru_cache(maxsize=4096)
def day_of(t_ns: int, market: Market) -> date:
    """The market's day that a time belongs to."""
    there, start = local(t_ns, market.zone), _day_start(market)
    if start > EVENING:
        return there.date() + timedelta(days=1) if there.time() >= start else there.date()
    return there.date() if there.time() >= start else there.date() - timedelta(days=1)


def day(which: date, market: Market) -> Block:
    """A market's day; 23 or 25 hours long where the clock is moved."""
    return Block(which.isoformat(), _begin_ns(which, market), _begin_ns(which + timedelta(days=1), market))


def blocks(which: date, market: Market, length_s: int = 0) -> tuple[Block, ...]:
    """The blocks of a market's day, in order; together they are the day.

    length_s : of a block; 0: the market's own
    Raises CalendarError where the length does not divide a day.
    """
    length_s = length_s or market.block_s
    if length_s <= 0 or DAY_S % length_s:
        raise CalendarError(f"field `market.block_s`: blocks of {length_s} s do not divide a day; give one that does")
    whole = day(which, market)
    borders = [whole.start_ns, *_borders(market, length_s, whole), whole.end_ns]
    return tuple(Block(_name(k, a, b, market, length_s), a, b) for k, (a, b) in enumerate(pairwise(borders)))


@lru_cache(maxsize=4096)  # the same few hours are asked for again and again
def block_at(t_ns: int, market: Market, length_s: int = 0) -> Block:
    """The block that a time lies in."""
    return next(b for b in _cached(day_of(t_ns, market), market, length_s) if b.start_ns <= t_ns < b.end_ns)


def period(t_ns: int, market: Market, length_s: int) -> tuple[date, int]:
    """Settlement period, from 1 at local midnight, and its settlement date (46, 48 or 50 half hours a day)."""
    there = local(t_ns, market.zone)
    midnight_ns = nanoseconds(datetime.combine(there.date(), time(), zone(market.zone)))
    return there.date(), (t_ns - midnight_ns) // (length_s * NS) + 1


@lru_cache(maxsize=512)
def _cached(which: date, market: Market, length_s: int) -> tuple[Block, ...]:
    return blocks(which, market, length_s)


def _day_start(market: Market) -> time:
    try:
        return time.fromisoformat(market.day_start)
    except ValueError:
        raise CalendarError(f"field `market.day_start` takes a local time as 23:00, not {market.day_start!r}") from None


def _begin_ns(which: date, market: Market) -> int:
    start = _day_start(market)
    on = which - timedelta(days=1) if start > EVENING else which
    return nanoseconds(datetime.combine(on, start, zone(market.zone)))


def _borders(market: Market, length_s: int, whole: Block) -> Iterator[int]:
    """Borders within the day: by the wall clock, or by time that passes for blocks of an hour and less."""
    if length_s <= HOUR_S:
        yield from range(whole.start_ns + length_s * NS, whole.end_ns, length_s * NS)
        return
    begin = local(whole.start_ns, market.zone).replace(tzinfo=None)
    for k in range(1, DAY_S // length_s):
        yield nanoseconds((begin + timedelta(seconds=k * length_s)).replace(tzinfo=zone(market.zone)))


def _name(k: int, start_ns: int, end_ns: int, market: Market, length_s: int) -> str:
    """EFA1..EFA6 in Britain; elsewhere the hours, with the offset where an hour comes twice."""
    if market.zone == "Europe/London" and market.day_start == "23:00" and length_s == 4 * HOUR_S:
        return f"EFA{k + 1}"
    first, last = local(start_ns, market.zone), local(end_ns, market.zone)
    text = f"{first:%H:%M}-{last:%H:%M}"
    twice = length_s <= HOUR_S and first.utcoffset() != first.replace(fold=1 - first.fold).utcoffset()
    return f"{text} {first:%z}" if twice else text
