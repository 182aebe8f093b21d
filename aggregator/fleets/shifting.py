"""Sessions of one year over a trace of another: moved by whole days of the clock that they were recorded by.

A stay keeps its weekday, its clock time (through daylight saving) and its length; what the driver said moves along.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np

from aggregator.fleets.errors import FleetError
from aggregator.gateways.arrivals import I8
from telemetry.samples import Block
from telemetry.sessions import Stays
from telemetry.sessions.stays import HOUR_NS
from telemetry.traces.stamps import zone_of

NS: Final = 1_000_000_000
DAY_NS: Final = 24 * HOUR_NS
YEAR_D: Final = 365.2425
YEARS_MAX: Final = 60


def shifted(stays: Stays, first_ns: int, last_ns: int, shift: str = "auto") -> tuple[Stays, int]:
    """The stays as they lie over [first, last], and by how many days they were moved.

    shift : `auto`: not at all where they overlap, else by whole weeks near to whole years; `none`; or an ISO date: the
            day of the sessions that the first day of the trace is to show

    Raises FleetError where nothing of them lies there.
    """
    if not stays.rows.size:
        raise FleetError(f"{stays.path}: no session in it; `flyball inspect` says what is")
    days = _days(stays, first_ns, last_ns, shift)
    rows = stays.rows if days == 0 else moved(stays.rows, days, stays.zone)
    moved_stays = dataclasses.replace(stays, rows=rows)
    if not ((_ends(rows) > first_ns) & (rows["arrive_ns"] <= last_ns)).any():
        low_ns, high_ns = _span(rows)
        raise FleetError(
            f"{stays.path}: sessions of {_day(low_ns)} to {_day(high_ns)}, and the trace is of {_day(first_ns)} to "
            f"{_day(last_ns)}: they do not meet; choose others, or move them with --sessions-shift"
        )
    return moved_stays, days


def _days(stays: Stays, first_ns: int, last_ns: int, shift: str) -> int:
    if shift == "none":
        return 0
    if shift == "auto":
        return fitting_days(*_span(stays.rows), first_ns, last_ns)
    try:
        day = date.fromisoformat(shift)
    except ValueError:
        raise FleetError(f"--sessions-shift {shift}: takes auto, none, or a date as 2019-06-24") from None
    local = datetime.fromtimestamp(first_ns // NS, zone_of(stays.zone)).date()
    return (local - day).days


def fitting_days(low_ns: int, high_ns: int, first_ns: int, last_ns: int) -> int:
    """Days, whole weeks of them, by which [low, high] is best moved over [first, last]; 0 where they overlap."""
    if low_ns < last_ns and high_ns > first_ns:
        return 0

    def overlap(days: int) -> int:
        return min(high_ns + days * DAY_NS, last_ns) - max(low_ns + days * DAY_NS, first_ns)

    yearly = [7 * round(years * YEAR_D / 7) for years in range(-YEARS_MAX, YEARS_MAX + 1)]
    best = max(yearly, key=lambda days: (overlap(days), -abs(days)))
    if overlap(best) > 0:
        return best
    # Less than a year, of another season: its first week where the trace begins.
    return 7 * ((first_ns - low_ns) // (7 * DAY_NS))


def moved(rows: Block, days: int, zone: str) -> Block:
    """The rows with every time moved: arrivals by the clock, the rest along with them. rows : STAY[n]"""
    out = rows.copy()
    out["arrive_ns"] = _by_clock(rows["arrive_ns"], days, zone)
    step_ns = out["arrive_ns"] - rows["arrive_ns"]
    for name in ("leave_ns", "told_leave_ns", "done_ns"):
        out[name] = np.where(rows[name] > 0, rows[name] + step_ns, 0)
    return out[np.argsort(out["arrive_ns"], kind="stable")]


def _by_clock(t_ns: I8, days: int, zone: str) -> I8:
    clock, step = zone_of(zone), timedelta(days=days)
    whole_s = t_ns // NS
    later_s = [int((datetime.fromtimestamp(s, clock) + step).timestamp()) for s in whole_s.tolist()]
    return np.array(later_s, np.int64) * NS + t_ns % NS


def _ends(rows: Block) -> I8:
    ends: I8 = np.maximum(rows["leave_ns"], rows["arrive_ns"])
    return ends


def _span(rows: Block) -> tuple[int, int]:
    return int(rows["arrive_ns"].min()), int(_ends(rows).max())


def _day(t_ns: int) -> str:
    return datetime.fromtimestamp(t_ns // NS, UTC).date().isoformat()
