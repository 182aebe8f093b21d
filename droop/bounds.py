"""The bounds the split sees: each vehicle's own, narrowed by its least power, its ramp and the caps of its site.

`renew_due` is what a tick calls. It refreshes the segments whose time has come and narrows them again; nothing
else is looked at. The order is that of rulebook 9.1: what the vehicle can do, its least power, its ramp, its site.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from droop.fleet import SEGMENTS, Fleet, Totals
from droop.limits import Ages, Derating, Scratch, refresh
from droop.numerics import kernel
from droop.reasons import Reason
from droop.weights import Means

RAMP: Final = np.uint8(Reason.RAMP)


@kernel
def ramp(fleet: Fleet, first: int, last: int, now_ns: int, ramp_s: float) -> None:
    """Keep lo_kw and hi_kw within what a charger can change from what it does until it is looked at again.

    A bound that lies further off than that (a full battery, a site's cap) is not lifted: the command goes there, and
    the charger follows as fast as it can.
    """
    ramp_kw_s, command, safe = fleet.ramp_kw_s[first:last], fleet.command_kw[first:last], fleet.safe_kw[first:last]
    valid_ns, lo, hi = fleet.valid_until_ns[first:last], fleet.lo_kw[first:last], fleet.hi_kw[first:last]
    why_up, why_down = fleet.reason_up[first:last], fleet.reason_down[first:last]
    least = np.float32(np.inf)
    for i in range(ramp_kw_s.size):
        least = min(least, ramp_kw_s[i])
    if least == np.inf:
        return
    for i in range(ramp_kw_s.size):
        doing = command[i] if now_ns < valid_ns[i] else safe[i]
        reach = np.float32(ramp_kw_s[i] * ramp_s)
        low = min(max(doing - reach, lo[i]), hi[i])
        high = min(max(doing + reach, lo[i]), hi[i])
        why_up[i] = RAMP if high < hi[i] else why_up[i]
        why_down[i] = RAMP if low > lo[i] else why_down[i]
        lo[i] = low
        hi[i] = high


@kernel
def total(fleet: Fleet, totals: Totals, segment: int, first: int, last: int) -> None:
    """Sum the bounds of a segment [kW]."""
    lo, hi = fleet.lo_kw[first:last], fleet.hi_kw[first:last]
    lo_sum = hi_sum = 0.0
    for i in range(lo.size):
        lo_sum += lo[i]
        hi_sum += hi[i]
    totals.lo_kw[segment] = lo_sum
    totals.hi_kw[segment] = hi_sum


@kernel
def narrow(fleet: Fleet, totals: Totals, segment: int, now_ns: int, ages: Ages) -> None:
    """Set lo_kw and hi_kw of one segment from the free bounds, and sum them."""
    n = fleet.state.size
    first, last = segment * n // SEGMENTS, (segment + 1) * n // SEGMENTS
    fleet.lo_kw[first:last] = fleet.free_lo_kw[first:last]
    fleet.hi_kw[first:last] = fleet.free_hi_kw[first:last]
    ramp(fleet, first, last, now_ns, ages.ramp_s)
    total(fleet, totals, segment, first, last)


@kernel
def means(totals: Totals) -> Means:
    """The fleet's mean vehicle, of those that count as capacity."""
    window, usable = totals.window_kwh.sum(), totals.usable_kwh.sum()
    fill = totals.stored_kwh.sum() / window if window > 0.0 else 0.5
    moved = totals.moved_kwh.sum() / usable if usable > 0.0 else 0.0
    return Means(fill, moved)


@kernel
def renew_due(
    fleet: Fleet, totals: Totals, scratch: Scratch, now_ns: int, period_ns: int, ages: Ages, derating: Derating
) -> int:
    """Renew the segments whose time has come; return how many.

    The first call renews all of them, and staggers the later ones over the period.
    """
    mean = means(totals)
    done = 0
    for segment in range(SEGMENTS):
        never = totals.refreshed_ns[segment] == 0
        # A report that turns stale, and a silent charger that falls back to its safe profile, do not wait.
        waited = now_ns - totals.refreshed_ns[segment] >= period_ns or now_ns >= totals.due_ns[segment]
        if never or waited:
            refresh(fleet, totals, segment, now_ns, ages, derating, mean, scratch)
            narrow(fleet, totals, segment, now_ns, ages)
            done += 1
            if never:
                totals.refreshed_ns[segment] = now_ns - segment * period_ns // SEGMENTS
    return done
