"""The bounds the split sees: each vehicle's own (`refresh`), narrowed by its least power and the caps of its site.

`renew_due` refreshes the segments whose time has come and narrows them again, `cap` then folds what lies above them
into the bounds; nothing else is looked at.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from droop import minimum, sites
from droop.fleet import PLUGGED, SEGMENTS, Column, Fleet, Totals, column
from droop.folding import fold
from droop.limits import Ages, Derating
from droop.minimum import Desk, Nodes, Turns, able, apply, furthest
from droop.numerics import kernel
from droop.plans import Tariff
from droop.reasons import Reason
from droop.refresh import Scratch, refresh, scratch
from droop.relief import relieve
from droop.response import commandable
from droop.sites import Tree, limits_of, touched
from droop.weights import Means

STALE: Final = int(Reason.STALE)
REFUSED: Final = int(Reason.REFUSED)


class Rules(NamedTuple):
    """How bounds are made.

    period_ns : every vehicle is looked at again after this time [ns]
    meter_ns  : age from which a site's meter is no longer believed [ns]
    energies  : whether a product sold has rules about the energy left in the fleet (`modes.heeds`)
    """

    ages: Ages = Ages()
    derating: Derating = Derating()
    turns: Turns = Turns()
    period_ns: int = 1_000_000_000
    meter_ns: int = 10_000_000_000
    energies: bool = True


class Room(NamedTuple):
    """What the bounds are made with, beside the fleet: the caps, the active set's sums, and scratch."""

    scratch: Scratch
    tree: Tree
    nodes: Nodes  # the tree's columns, as `minimum` names them
    desk: Desk  # its sums are the totals' own
    heard: Column  # bool[n]  may be moved past its bounds for a cap
    least_kw: Column  # float32[n]  how far, each way
    most_kw: Column


def room(tree: Tree, totals: Totals, rows: int, prices: Tariff | None = None) -> Room:
    """Room for a fleet of `rows` under the caps of `tree`."""
    nodes = Nodes(tree.parent, tree.upper_kw, tree.lower_kw, tree.lo_sum_kw, tree.hi_sum_kw)
    desk = minimum.desk()._replace(lo_kw=totals.lo_kw, hi_kw=totals.hi_kw)
    return Room(
        scratch(prices), tree, nodes, desk, column(0, rows, np.bool_), column(1, rows, np.float32),
        column(2, rows, np.float32),
    )  # fmt: skip


def no_tree(rows: int) -> Tree:
    """No caps at all."""
    return sites.tree([], rows)[0]


@kernel
def warm(fleet: Fleet, first: int, last: int, bypass_k: float) -> None:
    """Write the temperature from which each vehicle of rows first..last is bypassed: its site's mean and `bypass_k`.

    A site that lies across the edge of the range is taken whole.
    """
    site, temp, warm_c = fleet.site, fleet.temp_c, fleet.warm_c
    while first > 0 and site[first - 1] == site[first]:
        first -= 1
    a = first
    while a < last:
        b, total, known = a, 0.0, 0
        while b < site.size and site[b] == site[a]:
            if temp[b] == temp[b] and fleet.state[b] == PLUGGED:
                total += temp[b]
                known += 1
            b += 1
        warm_c[a:b] = np.float32(total / known + bypass_k) if known > 0 and site[a] >= 0 else np.float32(np.inf)
        a = b


@kernel
def total(fleet: Fleet, totals: Totals, segment: int) -> None:
    """Sum the bounds of a segment [kW]."""
    n = fleet.state.size
    first, last = segment * n // SEGMENTS, (segment + 1) * n // SEGMENTS
    lo, hi = fleet.lo_kw[first:last], fleet.hi_kw[first:last]
    lo_sum = hi_sum = 0.0
    for i in range(lo.size):
        lo_sum += lo[i]
        hi_sum += hi[i]
    totals.lo_kw[segment] = lo_sum
    totals.hi_kw[segment] = hi_sum


@kernel
def leasts(state: Column, min_kw: Column) -> int:
    """How many vehicles have a least power."""
    count = 0
    for i in range(state.size):
        count += 1 if (state[i] == PLUGGED) & (min_kw[i] > 0.0) else 0
    return count


@kernel
def again(fleet: Fleet, first: int, last: int, now_ns: int) -> tuple[float, float]:
    """Bounds of rows first..last from the free ones, as no cap has seen them; returns the furthest sums [kW]."""
    own_up, own_down = fleet.own_up[first:last], fleet.own_down[first:last]
    why_up, why_down = fleet.reason_up[first:last], fleet.reason_down[first:last]
    free_lo, free_hi = fleet.free_lo_kw[first:last], fleet.free_hi_kw[first:last]
    lo, hi = fleet.lo_kw[first:last], fleet.hi_kw[first:last]
    far_lo = far_hi = 0.0
    for i in range(lo.size):
        why_up[i] = own_up[i]
        why_down[i] = own_down[i]
    if leasts(fleet.state[first:last], fleet.min_kw[first:last]) > 0:
        _, _, far_lo, far_hi, _ = apply(fleet, first, last, now_ns)
    else:
        for i in range(lo.size):
            lo[i] = free_lo[i]
            hi[i] = free_hi[i]
            far_lo += free_lo[i]
            far_hi += free_hi[i]
    return far_lo, far_hi


@kernel
def narrow(fleet: Fleet, totals: Totals, segment: int, now_ns: int) -> None:
    """Set lo_kw and hi_kw of one segment from the free bounds, and sum them; caps come later."""
    n = fleet.state.size
    first, last = segment * n // SEGMENTS, (segment + 1) * n // SEGMENTS
    far_lo, far_hi = again(fleet, first, last, now_ns)
    totals.least[segment] = leasts(fleet.state[first:last], fleet.min_kw[first:last])
    totals.far_lo_kw[segment] = far_lo
    totals.far_hi_kw[segment] = far_hi
    total(fleet, totals, segment)


@kernel
def cap(fleet: Fleet, totals: Totals, room: Room, first: int, last: int, now_ns: int, rules: Rules) -> None:
    """Fold the caps above rows first..last into the bounds of all vehicles under them, and sum again."""
    tree = room.tree
    limits_of(tree, now_ns, rules.meter_ns)
    first_node, last_node, a, b = touched(tree, first, last)
    if first_node == last_node:
        return
    again(fleet, a, b, now_ns)
    relieve(fleet, a, b, now_ns, room.nodes, room.desk)
    state, why_up, free_lo, free_hi = fleet.state, fleet.reason_up, fleet.free_lo_kw, fleet.free_hi_kw
    heard, least_kw, most_kw = room.heard, room.least_kw, room.most_kw
    least, least_dn, mode, lo, hi = fleet.min_kw, fleet.least_dn_kw, fleet.mode, fleet.lo_kw, fleet.hi_kw
    for i in range(a, b):
        heard[i] = commandable(state[i], why_up[i])
        # A cap comes before the driver's departure energy: charging that was needed may stop, nothing more. It stops at
        # a least power: `relieve` has turned off and on what it takes.
        least_kw[i] = min(free_lo[i], np.float32(0.0)) if least[i] == 0.0 else lo[i]
        edge = max(hi[i], -least_dn[i]) if mode[i] < 0 else hi[i]
        most_kw[i] = max(free_hi[i], np.float32(0.0)) if least[i] == 0.0 else edge
    fold(
        tree, fleet.site, fleet.plan_kw, fleet.slope_up, fleet.slope_dn, fleet.lo_kw, fleet.hi_kw, least_kw, most_kw,
        heard, fleet.reason_up, fleet.reason_down, first_node, last_node,
    )  # fmt: skip
    for i in range(a, b):
        # Turned off although its driver needs it: shed as well.
        if heard[i] and least[i] > 0.0 and mode[i] == 0 and fleet.site[i] >= 0 and free_hi[i] < 0.0:
            needed = not able(0, least[i], least_dn[i], free_lo[i], free_hi[i])
            tree.shed_kw[fleet.site[i]] -= np.float64(free_hi[i]) if needed else 0.0
    for segment in range(SEGMENTS):
        total(fleet, totals, segment)
    if totals.least.sum() > 0:
        cut(fleet, tree, first_node, last_node, a, b)


@kernel
def cut(fleet: Fleet, tree: Tree, first_node: int, last_node: int, first: int, last: int) -> None:
    """Write what whole trees' caps take off the furthest that their vehicles (rows first..last) could be switched."""
    site, least, least_dn = fleet.site, fleet.min_kw, fleet.least_dn_kw
    free_lo, free_hi, why_up = fleet.free_lo_kw, fleet.free_hi_kw, fleet.reason_up
    far_lo, far_hi = tree.room_kw, tree.part
    far_lo[first_node:last_node] = 0.0
    far_hi[first_node:last_node] = 0.0
    for i in range(first, last):
        switched = least[i] > 0.0 and why_up[i] != STALE and why_up[i] != REFUSED
        far = furthest(least[i], least_dn[i], free_lo[i], free_hi[i]) if switched else (free_lo[i], free_hi[i])
        if site[i] >= 0:
            far_lo[site[i]] += far[0]
            far_hi[site[i]] += far[1]
    for k in range(first_node, last_node):
        lo, hi = max(far_lo[k], tree.lower_kw[k]), min(far_hi[k], tree.upper_kw[k])
        tree.cut_lo_kw[k], tree.cut_hi_kw[k] = lo - far_lo[k], far_hi[k] - hi
        if tree.parent[k] >= 0:
            far_lo[tree.parent[k]] += lo
            far_hi[tree.parent[k]] += hi


@kernel
def means(totals: Totals) -> Means:
    """The fleet's mean vehicle, of those that count as capacity."""
    window, usable = totals.window_kwh.sum(), totals.usable_kwh.sum()
    fill = totals.stored_kwh.sum() / window if window > 0.0 else 0.5
    moved = totals.moved_kwh.sum() / usable if usable > 0.0 else 0.0
    return Means(fill, moved)


@kernel
def renew_due(fleet: Fleet, totals: Totals, room: Room, now_ns: int, rules: Rules) -> int:
    """Renew the segments whose time has come; return them as bits.

    The first call renews all of them, and staggers the later ones over the period.
    """
    mean = means(totals)
    n = fleet.state.size
    done = never = 0
    for segment in range(SEGMENTS):
        first_time = totals.refreshed_ns[segment] == 0
        # A report that turns stale, and a silent charger that falls back to its safe profile, do not wait.
        waited = now_ns - totals.refreshed_ns[segment] >= rules.period_ns or now_ns >= totals.due_ns[segment]
        done |= 1 << segment if first_time or waited else 0
        never |= 1 << segment if first_time else 0
    segment = 0
    while segment < SEGMENTS:
        end = segment
        while end < SEGMENTS and done >> end & 1:
            end += 1
        if end > segment:
            first, last = segment * n // SEGMENTS, end * n // SEGMENTS
            if room.tree.first.size > 0 and first < last:
                warm(fleet, first, last, rules.derating.bypass_k)
            refresh(fleet, totals, segment, end, now_ns, rules.ages, rules.derating, mean, room.scratch, rules.energies)
        segment = end + 1
    for segment in range(SEGMENTS):
        if done >> segment & 1:
            narrow(fleet, totals, segment, now_ns)
        if never >> segment & 1:
            totals.refreshed_ns[segment] = now_ns - segment * rules.period_ns // SEGMENTS
    return done
