"""Chargers that give nothing or at least `min_kw`: which of them are on, so that the fleet's sum stays exact.

A charger's least power (6 A in IEC 61851-1: 1.38 kW on one phase, 4.14 kW on three) leaves a hole around zero.
The vehicles that are on, the *active set*, are held in `mode`; between two changes of the set every vehicle's band
is an interval, and the split stays continuous and exact. Three kernels keep the set: `apply` narrows a vehicle's
free bounds to its mode's; `switch` changes as few modes as a request outside the set's range needs; `rotate` lets
vehicles take turns.

Whose turn it is follows from `owed_kwh`, the energy of the vehicle's own optimum less that of the power it held:
error diffusion in time. A plan below the least power thus becomes a duty cycle, and like vehicles share alike.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.fleet import PLUGGED, SEGMENTS, Fleet
from droop.numerics import kernel
from droop.reasons import Reason

Column = npt.NDArray[Any]

BUCKETS: Final = 128
# Changes that may be tried to close a gap no single vehicle fills; six are three opposed pairs.
REPAIRS: Final = 6
NS_PER_H: Final = 3_600_000_000_000
MINIMUM: Final = int(Reason.MINIMUM)
SITE: Final = int(Reason.SITE)
STALE: Final = int(Reason.STALE)
REFUSED: Final = int(Reason.REFUSED)


class Turns(NamedTuple):
    """How vehicles take turns.

    dwell_ns  : least time between two changes of one vehicle, where another can serve the sum [ns]
    swap_kwh  : energy owed from which a vehicle asks for its turn [kWh]
    far_kwh   : energy owed from which it may work against the fleet's direction [kWh]
    most_kwh  : largest energy owed that is remembered [kWh]
    forget_s  : time in which what *all* are owed fades: nobody can pay it back [s]
    swap_frac : share of the rows that one `rotate` may change
    """

    dwell_ns: int = 60_000_000_000
    swap_kwh: float = 0.1
    far_kwh: float = 0.5
    most_kwh: float = 2.0
    forget_s: float = 3600.0
    swap_frac: float = 0.02


class Nodes(NamedTuple):
    """Caps above the vehicles, k nodes; sums are of the bounds as they stand [kW]."""

    parent: Column  # int32[k]  -1: root
    upper_kw: Column  # float64[k]  what hi_sum_kw may not pass
    lower_kw: Column  # float64[k]  what lo_sum_kw may not pass
    lo_sum_kw: Column  # float64[k]
    hi_sum_kw: Column  # float64[k]


class Desk(NamedTuple):
    """Sums of the active set by segment, and the kernels' scratch."""

    lo_kw: Column  # float64[SEGMENTS]
    hi_kw: Column  # float64[SEGMENTS]
    owed_kwh: Column  # float64[SEGMENTS]
    rows: Column  # int64[SEGMENTS]  vehicles with a least power, plugged
    reach_kw: Column  # float64[BUCKETS]
    start: Column  # int64[1]  row at which the next choice among equals begins
    tried: Column  # int64[REPAIRS, 3]  slot, mode and switched_ns before a trial
    tried_kw: Column  # float32[REPAIRS, 2]  its bounds before


class Held(NamedTuple):
    """The columns a change writes, and the vehicle's leaf: few, for it happens once a vehicle."""

    mode: Column
    switched_ns: Column
    lo_kw: Column
    hi_kw: Column
    site: Column


def no_nodes() -> Nodes:
    """No caps."""
    return Nodes(np.zeros(0, np.int32), np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0))


def desk() -> Desk:
    """Sums of an empty fleet."""
    return Desk(
        np.zeros(SEGMENTS), np.zeros(SEGMENTS), np.zeros(SEGMENTS), np.zeros(SEGMENTS, np.int64), np.zeros(BUCKETS),
        np.zeros(1, np.int64), np.zeros((REPAIRS, 3), np.int64), np.zeros((REPAIRS, 2), np.float32),
    )  # fmt: skip


# Functions of one vehicle take its numbers, never the fleet: see `limits`. Only a vehicle that does change its mode
# is worth the fleet's reference counts.


@kernel
def able(mode: int, least_up: float, least_dn: float, free_lo: float, free_hi: float) -> bool:
    """Whether a vehicle with these free bounds [kW] can be in a mode.

    least_up, least_dn : its least power while discharging, and while charging

    One that must charge cannot be off, nor one whose ramp does not let it.
    """
    if mode > 0:
        return free_hi >= least_up
    if mode < 0:
        return free_lo <= -least_dn and free_lo < 0.0
    return (free_hi >= 0.0 or free_lo > -least_dn) and free_lo <= least_up


@kernel
def band(mode: int, least_up: float, least_dn: float, free_lo: float, free_hi: float) -> tuple[float, float]:
    """Bounds of a vehicle in a mode it is able to be in [kW]."""
    if mode > 0:
        return max(least_up, free_lo), free_hi
    if mode < 0:
        return free_lo, min(free_hi, -least_dn)
    return 0.0 * least_up, 0.0 * least_up


@kernel
def furthest(least_up: float, least_dn: float, free_lo: float, free_hi: float) -> tuple[float, float]:
    """The least and the most power of a vehicle that could be switched any way [kW]."""
    lo, hi = 0.0 * least_up, 0.0 * least_up
    charges = able(-1, least_up, least_dn, free_lo, free_hi)
    if charges:
        lo = free_lo
        hi = min(free_hi, -least_dn) if free_hi < 0.0 else hi
    if able(1, least_up, least_dn, free_lo, free_hi):
        hi = free_hi
        lo = max(least_up, free_lo) if free_lo > least_up else lo
    return lo, hi


@kernel
def free_to(
    mode: int, to: int, least_up: float, least_dn: float, free_lo: float, free_hi: float, state: int, reason_up: int
) -> bool:  # fmt: skip
    """Whether a vehicle could change to another mode: it has a least power, hears us and is able."""
    hears = state == PLUGGED and reason_up != STALE and reason_up != REFUSED
    return least_up > 0.0 and to != mode and hears and able(to, least_up, least_dn, free_lo, free_hi)


@kernel
def room(leaf: int, lo: float, hi: float, nodes: Nodes) -> tuple[float, float]:
    """Bounds that a vehicle may have beside the others below every cap above it [kW]."""
    least, most = -np.inf, np.inf
    while leaf >= 0:
        least = max(least, lo - nodes.lo_sum_kw[leaf] + nodes.lower_kw[leaf])
        most = min(most, hi - nodes.hi_sum_kw[leaf] + nodes.upper_kw[leaf])
        leaf = nodes.parent[leaf]
    return least, most


@kernel
def offer(
    to: int, least_up: float, least_dn: float, free_lo: float, free_hi: float, leaf: int, lo: float, hi: float,
    nodes: Nodes,
) -> tuple[float, float]:  # fmt: skip
    """Bounds of a vehicle in mode `to`, its caps kept; lo > hi where they leave no room [kW]."""
    new_lo, new_hi = band(to, least_up, least_dn, free_lo, free_hi)
    if nodes.parent.size > 0 and leaf >= 0:
        lowest, highest = room(leaf, lo, hi, nodes)
        new_lo, new_hi = max(new_lo, lowest), min(new_hi, highest)
    return new_lo, new_hi


@kernel
def held_by(fleet: Fleet) -> Held:
    """The fleet's columns for `put`."""
    return Held(fleet.mode, fleet.switched_ns, fleet.lo_kw, fleet.hi_kw, fleet.site)


@kernel
def put(slot: int, mode: int, lo: float, hi: float, since_ns: int, held: Held, nodes: Nodes, sums: Desk) -> None:
    """Give a vehicle its mode and bounds; every sum follows."""
    before_lo, before_hi = np.float64(held.lo_kw[slot]), np.float64(held.hi_kw[slot])
    held.lo_kw[slot] = lo
    held.hi_kw[slot] = hi
    # From the columns, which round: the sums are of what the split sees.
    more_lo, more_hi = np.float64(held.lo_kw[slot]) - before_lo, np.float64(held.hi_kw[slot]) - before_hi
    segment = ((slot + 1) * SEGMENTS - 1) // held.mode.size
    sums.lo_kw[segment] += more_lo
    sums.hi_kw[segment] += more_hi
    node = held.site[slot] if nodes.parent.size > 0 else -1
    while node >= 0:
        nodes.lo_sum_kw[node] += more_lo
        nodes.hi_sum_kw[node] += more_hi
        node = nodes.parent[node]
    held.mode[slot] = mode
    held.switched_ns[slot] = since_ns


@kernel
def apply(fleet: Fleet, first: int, last: int, now_ns: int) -> tuple[float, float, float, float, int]:
    """Narrow the free bounds of rows first..last to their modes'.

    Modes that have become impossible change: to charging where the driver's energy leaves no choice, else to off.
    A vehicle that is not heard or not believed keeps the bounds it has.

    returns sums of lo and hi as set, sums of the least and the most the same vehicles could be switched to [kW],
    and the number of modes changed
    """
    state, least, mode = fleet.state[first:last], fleet.min_kw[first:last], fleet.mode[first:last]
    least_dn = fleet.least_dn_kw[first:last]
    owed_kwh, switched_ns = fleet.owed_kwh[first:last], fleet.switched_ns[first:last]
    free_lo, free_hi = fleet.free_lo_kw[first:last], fleet.free_hi_kw[first:last]
    lo_kw, hi_kw = fleet.lo_kw[first:last], fleet.hi_kw[first:last]
    reason_up, reason_down = fleet.reason_up[first:last], fleet.reason_down[first:last]
    lo_sum = hi_sum = far_lo = far_hi = 0.0
    changed = 0
    for i in range(state.size):
        lo, hi, m, c = free_lo[i], free_hi[i], least[i], least_dn[i]
        if state[i] != PLUGGED:
            mode[i] = 0
            owed_kwh[i] = 0.0
        if state[i] != PLUGGED or m == 0.0 or reason_up[i] == STALE or reason_up[i] == REFUSED:
            lowest, highest = lo, hi
        else:
            if not able(mode[i], m, c, lo, hi):
                mode[i] = -1 if hi < 0.0 and able(-1, m, c, lo, hi) else 0
                switched_ns[i] = now_ns
                changed += 1
            lowest, highest = furthest(m, c, lo, hi)
            lo, hi = band(mode[i], m, c, lo, hi)
            if hi < free_hi[i]:
                reason_up[i] = MINIMUM
            if lo > free_lo[i]:
                reason_down[i] = MINIMUM
        lo_kw[i] = lo
        hi_kw[i] = hi
        lo_sum += lo
        hi_sum += hi
        far_lo += lowest
        far_hi += highest
    return lo_sum, hi_sum, far_lo, far_hi, changed


@kernel
def crowded(leaf: int, mode: int, nodes: Nodes) -> bool:
    """Whether a cap above cannot bear what the active vehicles cannot go below, in the direction of `mode`."""
    while leaf >= 0:
        if (
            (nodes.lo_sum_kw[leaf] > nodes.upper_kw[leaf])
            if mode > 0
            else (nodes.hi_sum_kw[leaf] < nodes.lower_kw[leaf])
        ):
            return True
        leaf = nodes.parent[leaf]
    return False


@kernel
def tally(fleet: Fleet, first: int, last: int, nodes: Nodes) -> None:
    """Sum the bounds of rows first..last, whole trees, into their nodes."""
    site, lo_kw, hi_kw = fleet.site, fleet.lo_kw, fleet.hi_kw
    for again in range(2):
        for i in range(first, last):
            node = site[i]
            while node >= 0:
                nodes.lo_sum_kw[node] = nodes.lo_sum_kw[node] + lo_kw[i] if again else 0.0
                nodes.hi_sum_kw[node] = nodes.hi_sum_kw[node] + hi_kw[i] if again else 0.0
                node = nodes.parent[node]


# The stages of `relieve`: who may be turned off or on, in turn.
FREE: Final = 0  # off, who need not be on
FORCED: Final = 1  # off, who was forced on just now: an earlier call had turned it off
NEEDED: Final = 2  # off, whose charging the driver needs
HELPING: Final = 3  # on, against what flows in or out beside the vehicles
# Bounds are renewed once a second: what was switched since was so for this reason.
FORCED_NS: Final = 2_000_000_000


@kernel
def relieve(fleet: Fleet, first: int, last: int, now_ns: int, nodes: Nodes, sums: Desk) -> int:
    """Turn vehicles off whose least powers alone break a cap, or on where only that keeps one.

    Between `apply` and the fold of rows first..last, which are whole trees. A cap comes before the driver's energy;
    who has to wait for it goes on waiting, so that contactors rest. Returns how many modes changed.
    """
    tally(fleet, first, last, nodes)
    site, mode, state, switched_ns = fleet.site, fleet.mode, fleet.state, fleet.switched_ns
    least, least_dn, free_lo, free_hi = fleet.min_kw, fleet.least_dn_kw, fleet.free_lo_kw, fleet.free_hi_kw
    why_up, why_down = fleet.reason_up, fleet.reason_down
    held = held_by(fleet)
    changed = 0
    start = sums.start[0] % max(last - first, 1)
    for stage in range(4):
        for k in range(last - first):
            i = first + (start + k if start + k < last - first else start + k - (last - first))
            hears = state[i] == PLUGGED and why_up[i] != STALE and why_up[i] != REFUSED
            if least[i] == 0.0 or not hears or (mode[i] == 0) != (stage == HELPING):
                continue
            if stage == HELPING:
                for to in range(-1, 2, 2):
                    if crowded(site[i], -to, nodes) and able(to, least[i], least_dn[i], free_lo[i], free_hi[i]):
                        lo, hi = band(to, least[i], least_dn[i], free_lo[i], free_hi[i])
                        put(i, to, lo, hi, now_ns, held, nodes, sums)
                        why_up[i] = SITE if to < 0 else why_up[i]
                        why_down[i] = SITE if to > 0 else why_down[i]
                        changed += 1
                        break
            elif crowded(site[i], mode[i], nodes) and (
                stage == NEEDED
                or (stage == FORCED and now_ns - switched_ns[i] < FORCED_NS)
                or able(0, least[i], least_dn[i], free_lo[i], free_hi[i])
            ):
                why_up[i] = SITE if mode[i] > 0 else why_up[i]
                why_down[i] = SITE if mode[i] < 0 else why_down[i]
                put(i, 0, 0.0, 0.0, now_ns, held, nodes, sums)
                changed += 1
    if changed > 0:
        sums.start[0] += 1
    return changed


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
    total = 0.0
    count = 0
    for i in range(state.size):
        if state[i] == PLUGGED and least[i] > 0.0:
            optimum = min(max(plan_kw[i] + slope_kw[i] * beyond, np.float64(free_lo[i])), np.float64(free_hi[i]))
            owed = owed_kwh[i] + (optimum - power_kw[i]) * hours - faded
            owed_kwh[i] = min(max(owed, -turns.most_kwh), turns.most_kwh)
            total += owed_kwh[i]
            count += 1
    sums.owed_kwh[segment] = total
    sums.rows[segment] = count


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
    state, reason_up, mode, site = fleet.state, fleet.reason_up, fleet.mode, fleet.site
    least, least_dn, free_lo, free_hi = fleet.min_kw, fleet.least_dn_kw, fleet.free_lo_kw, fleet.free_hi_kw
    lo_kw, hi_kw = fleet.lo_kw, fleet.hi_kw
    owed_kwh, switched_ns = fleet.owed_kwh, fleet.switched_ns
    most = max(int(turns.swap_frac * (last - first)), 2)
    start = sums.start[0] % max(last - first, 1)
    changed = 0
    held = held_by(fleet)
    riser, faller = -1, -1
    for k in range(last - first):
        if changed >= most:
            break
        i = first + (start + k if start + k < last - first else start + k - (last - first))
        if least[i] == 0.0 or now_ns - switched_ns[i] < turns.dwell_ns:
            continue
        for side in range(-1, 2, 2):
            to = mode[i] + side
            if abs(to) > 1:
                continue
            if not free_to(mode[i], to, least[i], least_dn[i], free_lo[i], free_hi[i], state[i], reason_up[i]):
                continue
            owed = side * owed_kwh[i]
            # A sum near zero has no direction: an opposed pair may be all that serves it.
            if to * request_kw < -margin_kw and owed < turns.far_kwh:
                continue
            opposed = mode[i] * request_kw < -margin_kw
            if owed > (-turns.swap_kwh if opposed else turns.swap_kwh):
                lo, hi = offer(to, least[i], least_dn[i], free_lo[i], free_hi[i], site[i], lo_kw[i], hi_kw[i], nodes)
                lo_sum, hi_sum = sums.lo_kw.sum() + lo - lo_kw[i], sums.hi_kw.sum() + hi - hi_kw[i]
                if lo <= hi and lo_sum <= request_kw - margin_kw and hi_sum >= request_kw + margin_kw:
                    put(i, to, lo, hi, now_ns, held, nodes, sums)
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
            unlike = owed_kwh[riser] - owed_kwh[faller] > 2.0 * turns.swap_kwh
            if unlike and swap(request_kw, riser, faller, now_ns, fleet, nodes, sums):
                changed += 2
                riser, faller = -1, -1
                break
    sums.start[0] += changed
    return changed
