"""Tariffs for plans by price: a CSV of `time,price`, or a table for a day.

Slots are of one length. In a file each row begins one, and the last is as long as the others; a missing or irregular
row is refused, because a plan would take the wrong hour for the cheap one. A table for a day repeats; it is meant in a
fixed offset from UTC, for a clock with daylight saving give the file.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import Final

from aggregator.contracts import Tariff
from aggregator.fleets.errors import FleetError
from telemetry.sessions.errors import Fault
from telemetry.sessions.instants import iso_ns
from telemetry.traces.stamps import zone_of

NS: Final = 1_000_000_000
SLOT_S: Final = 900
DAY_S: Final = 86_400
SLOTS_MAX: Final = 400_000


def read(path: Path, tz: str | None = None) -> Tariff:
    """The tariff of a file. tz : zone of times that name none. Raises FleetError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FleetError(f"`fleet.tariff`: {path} cannot be read ({error}); give a CSV of time,price") from None
    zone = _zone(tz)
    times: list[int] = []
    prices: list[float] = []
    for line, cells in enumerate(csv.reader(lines), 1):
        if not cells or (line == 1 and cells[0].strip().lower() == "time"):
            continue
        try:
            if len(cells) != 2:
                raise Fault("time", "cells", f"{len(cells)} cells, takes time and price")
            times.append(iso_ns(cells[0], "time", zone))
            prices.append(_price(cells[1]))
        except Fault as fault:
            raise FleetError(f"{path}:{line}: field `{fault.field}`: {fault.text}") from None
    return Tariff(times[0] if times else 0, _slot_s(path, times), tuple(prices))


def of_day(table: Sequence[tuple[float, float]], tz: str | None = None) -> Tariff:
    """The tariff of a daily table: from which hour on, which price. Raises FleetError."""
    hours = [hour for hour, _ in table]
    quarters = [round(hour * 4) for hour in hours]
    whole = all(abs(hour * 4 - quarter) < 1e-9 for hour, quarter in zip(hours, quarters, strict=True))
    rises = all(a < b for a, b in pairwise(quarters))
    if not table or quarters[0] != 0 or not whole or not rises or quarters[-1] >= 96:
        raise FleetError("`fleet.tariff_day`: rows of [hour, price], from hour 0 on, rising, in quarters of an hour")
    if any(not math.isfinite(price) for _, price in table):
        raise FleetError("`fleet.tariff_day`: a price is no number")
    ends = [*quarters[1:], 96]
    prices = [
        price for (_, price), a, b in zip(table, quarters, ends, strict=True) for _ in range(a, b)
    ]  # fmt: skip
    offset = _zone(tz).utcoffset(None)
    if offset is None:
        raise FleetError(f"`fleet.tariff_tz`: {tz}: a day's table takes UTC or an offset as +01:00; else give a CSV")
    return Tariff(-int(offset / timedelta(microseconds=1)) * 1000, SLOT_S, tuple(prices), repeats=True)


def _zone(tz: str | None) -> tzinfo:
    try:
        return zone_of(tz) if tz else UTC
    except ValueError as error:
        raise FleetError(f"`fleet.tariff_tz`: {error}") from None


def _price(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Fault("price", "price", f"{text!r} is no number")
    return value


def _slot_s(path: Path, times: list[int]) -> int:
    if len(times) < 2 or len(times) > SLOTS_MAX:
        raise FleetError(f"{path}: {len(times)} rows; a tariff has from 2 to {SLOTS_MAX}")
    step = times[1] - times[0]
    for k, (a, b) in enumerate(pairwise(times), 2):
        if b - a != step or step < 60 * NS or step % NS:
            when = datetime.fromtimestamp(b / NS, UTC).isoformat()
            raise FleetError(f"{path}: price {k} ({when}) is not one slot after the one before; give every slot a row")
    return step // NS
