"""The active set follows the request: as few modes changed as bring it into the set's range."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from droop.energy import NS_PER_H
from droop.fleet import Fleet
from droop.minimum import BUCKETS, REPAIRS, Desk, Nodes, Turns, band, free_to, held_by, offer, put
from droop.numerics import kernel

Column = npt.NDArray[Any]


@kernel
def gap(request_kw: float, lo_kw: float, hi_kw: float) -> float:
    """How far a request lies outside a range [kW]."""
    return max(request_kw - hi_kw, lo_kw - request_kw, 0.0)


@kernel
def bucket(owed_kwh: float, most_kwh: float) -> int:
    """Index of an energy owed within -most..most, equal steps."""
    return min(max(int((owed_kwh / most_kwh + 1.0) * 0.5 * BUCKETS), 0), BUCKETS - 1)


@kernel
def due(owed_kwh: float, plan_kw: float, dwell_ns: int) -> float:
    """What a vehicle would be owed after one dwell at rest: tells plans apart before they are owed anything [kWh]."""
    return owed_kwh + plan_kw * (dwell_ns / NS_PER_H)


@kernel
def take(
    request_kw: float, margin_kw: float, up: bool, engage: bool, rested: bool, now_ns: int, fleet: Fleet, turns: Turns,
    nodes: Nodes, sums: Desk,
) -> int:  # fmt: skip
    """Change vehicles of one kind, those owed most first, until the range passes the request by the margin.

    up     : towards discharging, else towards charging
    engage : vehicles that are off are turned on in that direction; else those on in the other are turned off
    rested : vehicles whose last change is longer ago than the dwell time; else the others

    returns how many changed
    """
    n = fleet.state.size
    state, reason_up, mode, site = fleet.state, fleet.reason_up, fleet.mode, fleet.site
    least, least_dn, free_lo, free_hi = fleet.min_kw, fleet.least_dn_kw, fleet.free_lo_kw, fleet.free_hi_kw
    lo_kw, hi_kw = fleet.lo_kw, fleet.hi_kw
    owed_kwh, plan_kw, switched_ns, reach_kw = fleet.owed_kwh, fleet.plan_kw, fleet.switched_ns, sums.reach_kw
    dwell_ns, most_kwh = turns.dwell_ns, turns.most_kwh
    side = 1 if up else -1
    before, to = (0, side) if engage else (-side, 0)
    lo_sum, hi_sum = sums.lo_kw.sum(), sums.hi_kw.sum()
    reach_kw[:] = 0.0
    for i in range(n):
        if mode[i] != before or (now_ns - switched_ns[i] >= dwell_ns) != rested:
            continue
        if free_to(before, to, least[i], least_dn[i], free_lo[i], free_hi[i], state[i], reason_up[i]):
            lo, hi = band(to, least[i], least_dn[i], free_lo[i], free_hi[i])
            more = hi - hi_kw[i] if up else lo_kw[i] - lo
            reach_kw[bucket(side * due(owed_kwh[i], plan_kw[i], dwell_ns), most_kwh)] += more
    needed = request_kw + margin_kw - hi_sum if up else lo_sum - request_kw + margin_kw
    last = threshold(reach_kw, needed)
    held = held_by(fleet)
    changed = 0
    # Above the threshold all are needed, in it some; below it those who stand in for vehicles that did not fit.
    for part in range(3):
        start = sums.start[0] % n
        for k in range(n):
            if (hi_sum >= request_kw + margin_kw) if up else (lo_sum <= request_kw - margin_kw):
                return changed
            i = start + k if start + k < n else start + k - n
            if mode[i] != before or (now_ns - switched_ns[i] >= dwell_ns) != rested:
                continue
            b = bucket(side * due(owed_kwh[i], plan_kw[i], dwell_ns), most_kwh)
            if (b <= last, b != last, b >= last)[part]:
                continue
            if not free_to(before, to, least[i], least_dn[i], free_lo[i], free_hi[i], state[i], reason_up[i]):
                continue
            lo, hi = offer(to, least[i], least_dn[i], free_lo[i], free_hi[i], site[i], lo_kw[i], hi_kw[i], nodes)
            new_lo, new_hi = lo_sum + lo - lo_kw[i], hi_sum + hi - hi_kw[i]
            # A step over the request would only have to be taken back.
            if lo > hi or (new_lo > request_kw if up else new_hi < request_kw):
                continue
            put(i, to, lo, hi, now_ns, held, nodes, sums)
            lo_sum, hi_sum = new_lo, new_hi
            changed += 1
            if part == 1:
                sums.start[0] = i + 1
    return changed


@kernel
def threshold(reach_kw: Column, needed_kw: float) -> int:
    """Lowest bucket needed when those owed most are taken first."""
    last = BUCKETS - 1
    reach = reach_kw[last]
    while last > 0 and reach < needed_kw:
        last -= 1
        reach += reach_kw[last]
    return last


@kernel
def nearest(
    request_kw: float, lo_sum: float, hi_sum: float, trials: int, now_ns: int, fleet: Fleet, turns: Turns, nodes: Nodes,
    sums: Desk,
) -> tuple[int, int, float]:  # fmt: skip
    """The one change that brings the range nearest to the request: (slot or -1, mode, distance left [kW]).

    Vehicles tried before are left out, so that no change takes another back; of equals the rested one comes first.
    """
    n = fleet.state.size
    state, reason_up, mode, site = fleet.state, fleet.reason_up, fleet.mode, fleet.site
    least, least_dn, free_lo, free_hi = fleet.min_kw, fleet.least_dn_kw, fleet.free_lo_kw, fleet.free_hi_kw
    lo_kw, hi_kw = fleet.lo_kw, fleet.hi_kw
    switched_ns, tried = fleet.switched_ns, sums.tried
    slot, chosen, distance, fresh = -1, 0, np.inf, False
    start = sums.start[0] % n
    for k in range(n):
        i = start + k if start + k < n else start + k - n
        if least[i] == 0.0:
            continue
        used = False
        for trial in range(trials):
            used |= tried[trial, 0] == i
        rested = now_ns - switched_ns[i] >= turns.dwell_ns
        for to in range(-1, 2):
            if used or not free_to(mode[i], to, least[i], least_dn[i], free_lo[i], free_hi[i], state[i], reason_up[i]):
                continue
            lo, hi = offer(to, least[i], least_dn[i], free_lo[i], free_hi[i], site[i], lo_kw[i], hi_kw[i], nodes)
            away = gap(request_kw, lo_sum + lo - lo_kw[i], hi_sum + hi - hi_kw[i])
            if lo <= hi and (away < distance or (away == distance and rested and not fresh)):
                slot, chosen, distance, fresh = i, to, away, rested
        if distance == 0.0 and fresh:
            break
    return slot, chosen, distance


@kernel
def repair(request_kw: float, now_ns: int, fleet: Fleet, turns: Turns, nodes: Nodes, sums: Desk) -> int:
    """Close a gap that no vehicle's step fits, by opposed pairs; keep the changes up to the nearest range found.

    Two vehicles held against each other reach what neither does alone: +6 and -4 where the least is 4 give 2.
    """
    best = gap(request_kw, sums.lo_kw.sum(), sums.hi_kw.sum())
    held = held_by(fleet)
    kept = trials = 0
    while best > 0.0 and trials < REPAIRS:
        i, to, away = nearest(
            request_kw, sums.lo_kw.sum(), sums.hi_kw.sum(), trials, now_ns, fleet, turns, nodes, sums
        )  # fmt: skip
        if i < 0:
            break
        sums.tried[trials, 0], sums.tried[trials, 1], sums.tried[trials, 2] = i, fleet.mode[i], fleet.switched_ns[i]
        sums.tried_kw[trials, 0], sums.tried_kw[trials, 1] = fleet.lo_kw[i], fleet.hi_kw[i]
        lo, hi = offer(
            to, fleet.min_kw[i], fleet.least_dn_kw[i], fleet.free_lo_kw[i], fleet.free_hi_kw[i], fleet.site[i],
            fleet.lo_kw[i], fleet.hi_kw[i], nodes,
        )  # fmt: skip
        put(i, to, lo, hi, now_ns, held, nodes, sums)
        sums.start[0] = i + 1
        trials += 1
        if away < best:
            best = away
            kept = trials
    while trials > kept:
        trials -= 1
        i, mode, since_ns = sums.tried[trials, 0], sums.tried[trials, 1], sums.tried[trials, 2]
        put(i, mode, sums.tried_kw[trials, 0], sums.tried_kw[trials, 1], since_ns, held, nodes, sums)
    return kept


@kernel
def switch(
    request_kw: float, margin_kw: float, now_ns: int, fleet: Fleet, turns: Turns, nodes: Nodes, sums: Desk
) -> tuple[int, float]:  # fmt: skip
    """Change as few modes as bring the request into the active set's range; called when it is outside.

    request_kw : within what the fleet could be switched to (`apply`) [kW]
    margin_kw  : how far the range shall pass the request, where that costs no step over it [kW]

    In the request's direction, what works against it is turned off before anything more is turned on, and rested
    vehicles come before the others; but the sum always wins.

    returns how many modes changed, and what of the request no set found can serve [kW]
    """
    changed = 0
    up = request_kw > sums.hi_kw.sum()
    if gap(request_kw, sums.lo_kw.sum(), sums.hi_kw.sum()) > 0.0:
        for tired in range(2):
            for engage in range(2):
                changed += take(
                    request_kw, margin_kw, up, engage == 1, tired == 0, now_ns, fleet, turns, nodes, sums
                )  # fmt: skip
                if gap(request_kw, sums.lo_kw.sum(), sums.hi_kw.sum()) == 0.0:
                    break
            if gap(request_kw, sums.lo_kw.sum(), sums.hi_kw.sum()) == 0.0:
                break
        changed += repair(request_kw, now_ns, fleet, turns, nodes, sums)
    lo_sum, hi_sum = sums.lo_kw.sum(), sums.hi_kw.sum()
    return changed, request_kw - min(max(request_kw, lo_sum), hi_sum)
