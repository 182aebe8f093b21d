"""Vehicles with a least power take turns: who is owed the most energy is on, and like vehicles share alike."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from droop.fleet import PLUGGED, SEGMENTS, Fleet
from droop.minimum import Desk, Nodes, Turns, able, held_by, offer, put
from droop.numerics import kernel
from droop.response import commandable
from droop.switching import gap

Column = npt.NDArray[Any]


@kernel
def owe(
    segment: int, lam: float, price: float, elapsed_s: float, fleet: Fleet, turns: Turns, sums: Desk
) -> None:  # fmt: skip
    """Add to `owed_kwh` of one segment what the last while brought: optimum less power held.

    What all vehicles are owed on average fades: it comes from requests nobody could serve, and nobody can pay it
    back.
    """
    n = fleet.state.size
    first, last = segment * n // SEGMENTS, (segment + 1) * n // SEGMENTS
    state, least, owed_kwh = fleet.state[first:last], fleet.min_kw[first:last], fleet.owed_kwh[first:last]
    plan_kw, power_kw = fleet.plan_kw[first:last], fleet.power_kw[first:last]
    slope_kw = fleet.slope_up[first:last] if lam >= 0.0 else fleet.slope_dn[first:last]
    free_lo, free_hi = fleet.free_lo_kw[first:last], fleet.free_hi_kw[first:last]
    beyond = lam - min(max(lam, -price), price)
    rows = sums.rows.sum()
    mean = sums.owed_kwh.sum() / rows if rows > 0 else 0.0
    faded = mean * min(elapsed_s / turns.forget_s, 1.0)
    hours = elapsed_s / 3600.0
    total = np.float64(0.0)
    count = 0
    for i in range(state.size):
        takes = (state[i] == PLUGGED) & (least[i] > 0.0)
        before = owed_kwh[i]
        optimum = min(max(plan_kw[i] + slope_kw[i] * beyond, np.float64(free_lo[i])), np.float64(free_hi[i]))
        owed = before + (optimum - power_kw[i]) * hours - faded
        after = np.float32(min(max(owed, -turns.most_kwh), turns.most_kwh)) if takes else before
        owed_kwh[i] = after
        total += after if takes else 0.0
        count += 1 if takes else 0
    sums.owed_kwh[segment] = total
    sums.rows[segment] = count


# Bits of `ready`.
DOWN: Final = 1
UP: Final = 2


@kernel
def ready(
    first: int, last: int, request_kw: float, margin_kw: float, now_ns: int, fleet: Fleet, turns: Turns, may: Column
) -> None:  # fmt: skip
    """Write which of the rows first..last, no more than `may` has room for, could go a mode DOWN or UP now."""
    state, reason_up, mode = fleet.state[first:last], fleet.reason_up[first:last], fleet.mode[first:last]
    least, least_dn = fleet.min_kw[first:last], fleet.least_dn_kw[first:last]
    free_lo, free_hi = fleet.free_lo_kw[first:last], fleet.free_hi_kw[first:last]
    owed_kwh, switched_ns = fleet.owed_kwh[first:last], fleet.switched_ns[first:last]
    for i in range(mode.size):
        m, lo, hi, least_up, least_down = mode[i], free_lo[i], free_hi[i], least[i], least_dn[i]
        owed, rests_ns = owed_kwh[i], now_ns - switched_ns[i]
        rested = (least_up > 0.0) & (rests_ns >= turns.dwell_ns) & commandable(state[i], reason_up[i])
        # A sum near zero has no direction: an opposed pair may be all that serves it.
        down = ((m - 1) * request_kw >= -margin_kw) | (-owed >= turns.far_kwh)
        up = ((m + 1) * request_kw >= -margin_kw) | (owed >= turns.far_kwh)
        down = down & rested & (m >= 0) & able(m - 1, least_up, least_down, lo, hi)
        up = up & rested & (m <= 0) & able(m + 1, least_up, least_down, lo, hi)
        may[i] = (DOWN if down else 0) | (UP if up else 0)


@kernel
def swap(
    request_kw: float, riser: int, faller: int, now_ns: int, fleet: Fleet, nodes: Nodes, sums: Desk
) -> bool:  # fmt: skip
    """Move one vehicle a mode up and another a mode down, if the set still serves the request."""
    # The one that is turned off goes first: it makes room below a cap that both share.
    head, step = (riser, 1) if fleet.mode[riser] < 0 else (faller, -1)
    held = held_by(fleet)
    tail = riser + faller - head
    mode, since_ns, old_lo, old_hi = fleet.mode[head], fleet.switched_ns[head], fleet.lo_kw[head], fleet.hi_kw[head]
    lo, hi = offer(
        mode + step, fleet.min_kw[head], fleet.least_dn_kw[head], fleet.free_lo_kw[head], fleet.free_hi_kw[head],
        fleet.site[head], old_lo,
        old_hi, nodes,
    )  # fmt: skip
    if lo > hi:
        return False
    put(head, mode + step, lo, hi, now_ns, held, nodes, sums)
    to = fleet.mode[tail] - step
    lo, hi = offer(
        to, fleet.min_kw[tail], fleet.least_dn_kw[tail], fleet.free_lo_kw[tail], fleet.free_hi_kw[tail],
        fleet.site[tail], fleet.lo_kw[tail],
        fleet.hi_kw[tail], nodes,
    )  # fmt: skip
    lo_sum, hi_sum = sums.lo_kw.sum() + lo - fleet.lo_kw[tail], sums.hi_kw.sum() + hi - fleet.hi_kw[tail]
    fits = lo <= hi and gap(request_kw, lo_sum, hi_sum) == 0.0
    if fits:
        put(tail, to, lo, hi, now_ns, held, nodes, sums)
    else:
        put(head, mode, old_lo, old_hi, since_ns, held, nodes, sums)
    return fits


@kernel
def rotate(
    segment: int, request_kw: float, margin_kw: float, lam: float, price: float, elapsed_s: float, now_ns: int,
    fleet: Fleet, turns: Turns, nodes: Nodes, sums: Desk,
) -> int:  # fmt: skip
    """Account what one segment is owed, then let vehicles take turns where the set goes on serving the request.

    lam       : multiplier that would divide the request over the *free* bounds
    price     : |lam| below which nobody leaves the plan
    elapsed_s : since this segment's last call [s]

    A vehicle owed more than `swap_kwh` changes by itself where the range allows, else with a partner that is owed
    the opposite. Against the fleet's direction it works only when owed `far_kwh`, and no longer than it is owed.

    returns how many modes changed
    """
    owe(segment, lam, price, elapsed_s, fleet, turns, sums)
    n = fleet.state.size
    first, last = segment * n // SEGMENTS, (segment + 1) * n // SEGMENTS
    mode, site, may = fleet.mode, fleet.site, sums.may
    least, least_dn, free_lo, free_hi = fleet.min_kw, fleet.least_dn_kw, fleet.free_lo_kw, fleet.free_hi_kw
    lo_kw, hi_kw, owed_kwh = fleet.lo_kw, fleet.hi_kw, fleet.owed_kwh
    most = max(int(turns.swap_frac * (last - first)), 2)
    start = sums.start[0] % max(last - first, 1)
    all_lo, all_hi = sums.lo_kw.sum(), sums.hi_kw.sum()
    changed = 0
    held = held_by(fleet)
    riser, faller = -1, -1
    piece = end = first
    for k in range(last - first):
        if changed >= most:
            break
        i = first + (start + k if start + k < last - first else start + k - (last - first))
        if k == 0 or i in (first, end):
            piece, end = i, min(i + may.size, last)
            ready(piece, end, request_kw, margin_kw, now_ns, fleet, turns, may)
        if may[i - piece] == 0:
            continue
        for side in range(-1, 2, 2):
            if may[i - piece] & (UP if side > 0 else DOWN) == 0:
                continue
            to, owed = mode[i] + side, side * owed_kwh[i]
            opposed = mode[i] * request_kw < -margin_kw
            if owed > (-turns.swap_kwh if opposed else turns.swap_kwh):
                lo, hi = offer(to, least[i], least_dn[i], free_lo[i], free_hi[i], site[i], lo_kw[i], hi_kw[i], nodes)
                lo_sum, hi_sum = all_lo + lo - lo_kw[i], all_hi + hi - hi_kw[i]
                if lo <= hi and lo_sum <= request_kw - margin_kw and hi_sum >= request_kw + margin_kw:
                    put(i, to, lo, hi, now_ns, held, nodes, sums)
                    all_lo, all_hi = sums.lo_kw.sum(), sums.hi_kw.sum()
                    changed += 1
                    # Who has just changed is nobody's partner.
                    faller = -1 if faller == i else faller
                    break
            better = False
            if side > 0 and (riser < 0 or owed_kwh[i] > owed_kwh[riser]):
                riser, better = i, True
            if side < 0 and (faller < 0 or owed_kwh[i] < owed_kwh[faller]):
                faller, better = i, True
            if not better or riser < 0 or faller < 0:
                continue
            if owed_kwh[riser] - owed_kwh[faller] > 2.0 * turns.swap_kwh:
                swapped = swap(request_kw, riser, faller, now_ns, fleet, nodes, sums)
                # A swap taken back leaves its rounding in the sums.
                all_lo, all_hi = sums.lo_kw.sum(), sums.hi_kw.sum()
                if swapped:
                    changed += 2
                    riser, faller = -1, -1
                    break
    sums.start[0] += changed
    return changed
