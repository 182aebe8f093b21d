"""Chargers that give nothing or at least `min_kw`: which of them are on, so that the fleet's sum stays exact.

A charger's least power (6 A in IEC 61851-1: 1.38 kW on one phase, 4.14 kW on three) leaves a hole around zero.
The vehicles that are on, the *active set*, are held in `mode`; between two changes of the set every vehicle's band
is an interval, and the split stays continuous and exact. Four kernels keep the set: `apply` narrows a vehicle's
free bounds to its mode's; `relief.relieve` sees to caps that least powers break; `switching.switch` changes as few
modes as a request outside the set's range needs; `turns.rotate` lets vehicles take turns.

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
from droop.response import commandable

Column = npt.NDArray[Any]

MINIMUM: Final = int(Reason.MINIMUM)
BUCKETS: Final = 128
# Changes that may be tried to close a gap no single vehicle fills; six are three opposed pairs.
REPAIRS: Final = 6
# Rows that `turns` looks at together.
PIECE: Final = 512
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
    may: Column  # uint8[PIECE]  which way the rows of a piece could go


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
        np.zeros(PIECE, np.uint8),
    )  # fmt: skip


# Functions of one vehicle take its numbers, never the fleet: see `limits`. Only a vehicle that does change its mode
# is worth the fleet's reference counts.


@kernel
def able(mode: int, least_up: float, least_dn: float, free_lo: float, free_hi: float) -> bool:
    """Whether a vehicle with these free bounds [kW] can be in a mode.

    least_up, least_dn : its least power while discharging, and while charging

    One that must charge cannot be off, nor one whose ramp does not let it.
    """
    # With less than its charger's least it charges for its driver alone: the grid would count on what a car takes.
    charges = (free_lo <= -least_up) | ((free_hi < 0.0) & (free_lo <= -least_dn))
    rests = ((free_hi >= 0.0) | (free_lo > -least_dn)) & (free_lo <= least_up)
    gives = free_hi >= least_up
    return gives if mode > 0 else (charges if mode < 0 else rests)


@kernel
def band(mode: int, least_up: float, least_dn: float, free_lo: float, free_hi: float) -> tuple[float, float]:
    """Bounds of a vehicle in a mode it is able to be in [kW]."""
    nothing = 0.0 * least_up
    top = min(free_hi, -least_up if free_lo <= -least_up else -least_dn)
    lo = max(least_up, free_lo) if mode > 0 else (free_lo if mode < 0 else nothing)
    return lo, free_hi if mode > 0 else (top if mode < 0 else nothing)


@kernel
def furthest(least_up: float, least_dn: float, free_lo: float, free_hi: float) -> tuple[float, float]:
    """The least and the most power of a vehicle that could be switched any way [kW]."""
    nothing = 0.0 * least_up
    charges, gives = able(-1, least_up, least_dn, free_lo, free_hi), able(1, least_up, least_dn, free_lo, free_hi)
    top = band(-1, least_up, least_dn, free_lo, free_hi)[1]
    lo = free_lo if charges else nothing
    hi = top if charges & (free_hi < 0.0) else nothing
    return max(least_up, free_lo) if gives & (free_lo > least_up) else lo, free_hi if gives else hi


@kernel
def free_to(
    mode: int, to: int, least_up: float, least_dn: float, free_lo: float, free_hi: float, state: int, reason_up: int
) -> bool:  # fmt: skip
    """Whether a vehicle could change to another mode: it has a least power, hears us and is able."""
    hears = commandable(state, reason_up)
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
    # Without a branch: who can do what changes from row to row.
    for i in range(state.size):
        lo, hi, m, c, before = free_lo[i], free_hi[i], least[i], least_dn[i], mode[i]
        up, down, since_ns, owed = reason_up[i], reason_down[i], switched_ns[i], owed_kwh[i]
        plugged = state[i] == PLUGGED
        held = plugged & (m > 0.0) & (up != STALE) & (up != REFUSED)
        fails = held & (not able(before, m, c, lo, hi))
        forced = -1 if (hi < 0.0) & able(-1, m, c, lo, hi) else 0
        after = forced if fails else (before if plugged else 0)
        lowest, highest = furthest(m, c, lo, hi)
        low, high = band(after, m, c, lo, hi)
        low, high = (low if held else lo), (high if held else hi)
        mode[i] = after
        owed_kwh[i] = owed if plugged else 0.0
        switched_ns[i] = now_ns if fails else since_ns
        reason_up[i] = MINIMUM if high < hi else up
        reason_down[i] = MINIMUM if low > lo else down
        lo_kw[i] = low
        hi_kw[i] = high
        lo_sum += low
        hi_sum += high
        far_lo += lowest if held else lo
        far_hi += highest if held else hi
        changed += 1 if fails else 0
    return lo_sum, hi_sum, far_lo, far_hi, changed
