"""Day and month the wrong way round: told from what follows at midnight, put right only on request.

Software that guesses the order of `01/12/2017` takes the month first where it can: 1 to 12 December become 12 January,
12 February ... 12 December, and 13 December stays. Such a file ascends by months or steps back, where its clock goes
on from 23:59:50 to 00:00:00. That, and nothing weaker, is taken as evidence here.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

import numpy as np

from telemetry.traces.cells import Ints
from telemetry.traces.forms import DAY_NS, EPOCH

HOUR_NS: Final = DAY_NS // 24
REPAIR: Final = "day-month"
AS_WRITTEN: Final = "none"
REPAIRS: Final = (REPAIR, AS_WRITTEN)


class SwappedDates(ValueError):
    """Dates whose order makes sense with day and month exchanged, and only so."""


class Calendar:
    """Watches the dates of a file's rows, in order of the file.

    seen_both_ways : the first date that could be another with day and month exchanged
    written        : a midnight has shown that the dates are as they should be
    """

    def __init__(self) -> None:
        self.seen_both_ways: date | None = None
        self.written = False
        self._last_ns: int | None = None

    def look(self, wall: Ints) -> None:
        """The next rows' wall times [ns]. Raises SwappedDates at the first midnight that shows it."""
        if not wall.size:
            return
        chain = wall if self._last_ns is None else np.r_[self._last_ns, wall]
        self._last_ns = int(chain[-1])
        first, last = int(wall.min()) // DAY_NS, int(wall.max()) // DAY_NS
        days = [first] if first == last else np.unique(wall // DAY_NS).tolist()
        if self.seen_both_ways is None:
            self.seen_both_ways = next((day for day in map(_date, days) if exchanged(day) != day), None)
        if len(days) == 1 and int(chain[0]) // DAY_NS == first:
            return
        for before_ns, after_ns in _midnights(chain):
            before, after = _date(before_ns // DAY_NS), _date(after_ns // DAY_NS)
            as_written = after - before == timedelta(1)
            if as_written == (exchanged(after) - exchanged(before) == timedelta(1)):
                continue  # both, or neither: a gap of days
            if not as_written:
                raise SwappedDates(
                    f"midnight leads from {before} to {after}: day and month are swapped, {exchanged(before)} is meant"
                )
            self.written = True


def exchanged(day: date) -> date:
    """Day and month exchanged where that is a date at all."""
    return day.replace(month=day.day, day=day.month) if day.day <= 12 else day


def exchanged_walls(wall: Ints) -> Ints:
    """Wall times [ns] with day and month exchanged; a file has long runs of one date."""
    days = wall // DAY_NS
    distinct, which = np.unique(days, return_inverse=True)
    moved = np.array([(exchanged(_date(int(day))) - EPOCH).days for day in distinct], np.int64)
    return np.asarray(wall + (moved[which] - days) * DAY_NS)


def _midnights(wall: Ints) -> list[tuple[int, int]]:
    """Pairs of rows between which the clock passes midnight without a gap, whatever the dates say."""
    before, after = wall[:-1], wall[1:]
    late, early = before % DAY_NS >= DAY_NS - HOUR_NS, after % DAY_NS < HOUR_NS
    at = np.flatnonzero(late & early & (before // DAY_NS != after // DAY_NS))
    return list(zip(before[at].tolist(), after[at].tolist(), strict=True))


def _date(days: int) -> date:
    return EPOCH + timedelta(days)
