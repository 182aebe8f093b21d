"""Slow, obvious money: local clocks walked hour by hour, and bills as one sum of exact fractions a nanosecond wide."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from zoneinfo import ZoneInfo


def half_hours(day, zone, start_hour=0, back=0):
    """Half hours of a local day, found by walking UTC and looking at the clock on the wall."""
    where = ZoneInfo(zone)
    first = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=2)
    at, found = first, []
    begin = (datetime(day.year, day.month, day.day) - timedelta(days=back)).replace(hour=start_hour)
    end = begin + timedelta(days=1)
    for _ in range(5 * 48):
        wall = at.astimezone(where).replace(tzinfo=None)
        if begin <= wall < end:
            found.append(at)
        at += timedelta(minutes=30)
    return found


def to_the_cent(value):
    """Rounded half even by the decimal module, with room for every digit."""
    with localcontext() as context:
        context.prec = 80
        plain = Decimal(value.numerator) / Decimal(value.denominator)
        # Fractions of a cent that decimals cannot hold exactly are never ties.
        return plain.quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def capacity(start_s, end_s, kw_of, price_of):
    """Capacity income second by second, exact. kw_of, price_of : second -> kW, price per MWh"""
    return sum((Fraction(kw_of(s)) * Fraction(price_of(s)) / 3_600_000 for s in range(start_s, end_s)), Fraction(0))


def k(error, full, none):
    """Quality factor by cases."""
    if error <= full:
        return 1.0
    if error >= none:
        return 0.0
    return (none - error) / (none - full)
