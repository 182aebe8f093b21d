"""What the fleet could sustain, and what of it may be sold: power each way, held for a time from the energy it has.

Endurance belongs here, into what is offered, and nowhere into the tick: a tick bounded by endurance starves
delivery. So the tick spends the energy of all vehicles alike, and those with little are empty while the others are
still limited by their ratings: the sum of what each could hold by itself is more than the fleet holds. What counts is
the power at which it is not. A vehicle that cannot be relied on for the whole time (silent, left out for not
following, withheld by its owner, about to leave, too slow) counts nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from droop.energy import NS_PER_H
from droop.fleet import PLUGGED, Column, Fleet, Wish
from droop.numerics import kernel
from droop.reasons import Reason
from droop.response import counted
from droop.sites import Tree

MINUTES: Final = (15, 30, 60)
# Times at which vehicles run empty are told apart to this share of the endurance.
BUCKETS: Final = 256
STALE: Final = int(Reason.STALE)
CHARGE_NOW: Final = int(Wish.CHARGE_NOW)
NO_DISCHARGE: Final = int(Wish.NO_DISCHARGE)
LEAVE_ALONE: Final = int(Wish.LEAVE_ALONE)
# aFRR's full activation time, which the reserve mode's limits of the state of charge must cover (rulebook 2.2).
RESERVE_MODE_MIN: Final = 5.0

Number = TypeVar("Number", float, npt.NDArray[np.float64])


class Needs(NamedTuple):
    """What one kW sold takes of the resource, each way; 0 where a product asks nothing that way (`entitlement.needs`).

    up_frac, down_frac : rated power [kW/kW]
    up_h, down_h       : energy at the grid [kWh/kW]
    """

    up_frac: float
    down_frac: float
    up_h: float
    down_h: float


class Held(NamedTuple):
    """What the vehicles can hold one way: by node, and by how long they last at their rating."""

    node_kw: Column  # float64[nodes + 1]  each by itself for the whole time; the last takes those below no node
    rating_kw: Column  # float64[BUCKETS + 1]  the last: those that last to the end
    energy_kwh: Column  # float64[BUCKETS + 1]  at the grid, of those in rating_kw; no more than to the end


def _held(nodes: int) -> Held:
    return Held(np.zeros(nodes + 1), np.zeros(BUCKETS + 1), np.zeros(BUCKETS + 1))


@kernel
def add(held: Held, node: int, rating_kw: float, grid_kwh: float, least_kw: float, hours: float) -> None:
    """Count one vehicle; not at all where it cannot hold its least power for the whole time."""
    holds = min(rating_kw, grid_kwh / hours)
    if holds <= 0.0 or holds < least_kw:
        return
    held.node_kw[node] += holds
    bucket = min(int(holds / rating_kw * BUCKETS), BUCKETS)
    held.rating_kw[bucket] += rating_kw
    held.energy_kwh[bucket] += holds * hours


@kernel
def gather(fleet: Fleet, now_ns: int, hours: float, within_s: float, up: Held, down: Held) -> None:
    """Count every vehicle both ways."""
    state, reason_up, site, dead_s = fleet.state, fleet.reason_up, fleet.site, fleet.dead_s
    energy_kwh, ceiling_kwh, soc_floor, dod_floor = (
        fleet.energy_kwh, fleet.ceiling_kwh, fleet.soc_floor_kwh, fleet.dod_floor_kwh
    )  # fmt: skip
    charge, discharge, least = fleet.charge_max_kw, fleet.discharge_max_kw, fleet.min_kw
    gain_up, gain_dn = fleet.gain_up, fleet.gain_dn
    eta_charge, eta_discharge, budget, moved = (
        fleet.eta_charge, fleet.eta_discharge, fleet.budget_kwh, fleet.moved_kwh
    )  # fmt: skip
    depart_ns, depart_kwh, wish, until_ns, refused_ns = (
        fleet.depart_ns, fleet.depart_kwh, fleet.wish, fleet.wish_until_ns, fleet.refused_ns
    )  # fmt: skip
    none = up.node_kw.size - 1
    for i in range(state.size):
        if state[i] != PLUGGED or reason_up[i] == STALE or refused_ns[i] > 0 or dead_s[i] > within_s:
            continue
        # A wish that lapses meanwhile holds for a part of the time, and power is sold for all of it.
        asked = wish[i] if now_ns < until_ns[i] else 0
        # One that should have left already is still here, and nobody knows for how long.
        left_h = (depart_ns[i] - now_ns) / NS_PER_H if depart_ns[i] > now_ns else np.inf
        if asked in (CHARGE_NOW, LEAVE_ALONE) or left_h < hours:
            continue
        into = np.float64(charge[i]) * min(counted(np.float64(gain_dn[i])), 1.0)
        out = np.float64(discharge[i]) * min(counted(np.float64(gain_up[i])), 1.0) if asked != NO_DISCHARGE else 0.0
        eta_c, eta_d, least_kw = np.float64(eta_charge[i]), np.float64(eta_discharge[i]), np.float64(least[i])
        floor = max(soc_floor[i], dod_floor[i])
        if depart_ns[i] > 0:
            # What the driver wants, less what can be charged after this; nothing where the departure is past.
            after_kwh = eta_c * into * (left_h - hours) if left_h < np.inf else 0.0
            floor = max(floor, min(depart_kwh[i], ceiling_kwh[i]) - after_kwh)
        left_kwh = max(np.float64(budget[i]) - moved[i], 0.0)
        out_kwh = min(max(energy_kwh[i] - floor, 0.0), left_kwh)
        in_kwh = min(max(ceiling_kwh[i] - energy_kwh[i], 0.0), left_kwh)
        node = site[i] if 0 <= site[i] < none else none
        add(up, node, out, out_kwh * eta_d, least_kw, hours)
        add(down, node, into, in_kwh / eta_c, least_kw, hours)


@kernel
def together(held: Held, hours: float) -> float:
    """Largest power the vehicles hold when all are used to the same share of their ratings until they are empty [kW].

    When those of a bucket run empty, after their mean time at full rating, the rest alone must still reach the power,
    and no more than what was left aboard can have been spent.
    """
    alive = held.rating_kw.sum()
    spent_kwh = most = 0.0
    for bucket in range(BUCKETS + 1):
        rating_kw, grid_kwh = held.rating_kw[bucket], held.energy_kwh[bucket]
        if rating_kw > 0.0:
            full_h = grid_kwh / rating_kw
            most = max(most, min(alive, (spent_kwh + full_h * alive) / hours))
            spent_kwh += grid_kwh
            alive -= rating_kw
    return most


def _under(held: Held, parent: Column, cap_kw: Column) -> float:
    """Sum over all vehicles, no node's above its cap [kW]."""
    # Children stand before their parents; -1, above the top, is the last element.
    for k in range(parent.size):
        held.node_kw[parent[k]] += min(held.node_kw[k], max(cap_kw[k], 0.0))
    return float(held.node_kw[-1])


def sustained(
    fleet: Fleet, now_ns: int, hours: float, tree: Tree | None = None, within_s: float = np.inf
) -> tuple[float, float]:  # fmt: skip
    """Power the fleet can hold for `hours`: (up, down), both positive, measured from zero [kW].

    Each vehicle: P_up <= min(P_dis, (E - E_min) eta_d / h), P_down <= min(P_ch, (E_max - E) / (eta_c h)) (rulebook
    1.5), with E_min raised to what the driver's departure still allows to be recharged afterwards, both energies kept
    to what is left of the day's throughput, and ratings to what the charger gives of what it is told. One that cannot
    hold its least power so counts nothing. The fleet: see `together`; never more than the sum. Ratings that fall near
    the edges of the state of charge, and with temperature, are not looked at.

    tree     : caps over the rows, with the limits they have now: what lies under a node counts with no more than its
               cap leaves, from the leaves to the root; how it is divided below is not looked at
    within_s : time in which the product wants an answer; chargers with a longer dead time count nothing [s]

    Raises ValueError for hours or within_s that are not positive.
    """
    if not 0.0 < hours < np.inf:
        raise ValueError(f"hours takes a finite time above 0, got {hours}; give the product's endurance in hours")
    if not within_s > 0.0:
        raise ValueError(f"within_s takes a time above 0, got {within_s}; leave it infinite where any answer will do")
    nodes = 0 if tree is None else tree.first.size
    up, down = _held(nodes), _held(nodes)
    gather(fleet, now_ns, hours, within_s, up, down)
    up_kw, down_kw = together(up, hours), together(down, hours)
    if tree is None:
        return up_kw, down_kw
    return min(up_kw, _under(up, tree.parent, tree.upper_kw)), min(down_kw, _under(down, tree.parent, -tree.lower_kw))


def table(fleet: Fleet, now_ns: int, tree: Tree | None = None) -> npt.NDArray[np.float64]:
    """float64[3, 2]: up and down [kW] for each of MINUTES. tree : see `sustained`"""
    return np.array([sustained(fleet, now_ns, minutes / 60.0, tree) for minutes in MINUTES])


def offer(up_kw: Number, down_kw: Number, up_kwh: Number, down_kwh: Number, needs: Needs) -> Number:
    """What can be sold of a product: min(P_up/r_up, P_dn/r_dn, E_up/e_up, E_dn/e_dn) (rulebook 10) [kW].

    up_kw, down_kw   : power each way, magnitudes [kW]
    up_kwh, down_kwh : energy each way, at the grid [kWh]

    One resource's numbers, or arrays with one vehicle an element. The pool sells no more than the sum of its
    vehicles' offers, which is no more than the offer of its sums. Raises ValueError for negative numbers and NaN, and
    for needs of nothing at all.
    """
    have = {"up_kw": up_kw, "down_kw": down_kw, "up_kwh": up_kwh, "down_kwh": down_kwh}
    for (name, value), need in zip(have.items(), needs, strict=True):
        if not np.all(np.asarray(value) >= 0.0):
            raise ValueError(f"{name} takes magnitudes of 0 or more; a vehicle that cannot go that way has 0")
        if not 0.0 <= need < np.inf:
            raise ValueError(f"the need of {name} is a finite factor of 0 or more, got {need}")
    if not any(needs):
        raise ValueError("a product that needs neither power nor energy has no largest offer; correct its needs")
    sold: Number = np.minimum.reduce([value / need for value, need in zip(have.values(), needs, strict=True) if need])
    return sold


def soc_window(power_kw: float, energy_kwh: float, minutes: float) -> tuple[float, float]:
    """SoC from which `power_kw` can be held for `minutes` either way: [P T / E, 1 - P T / E] (rulebook 2.2).

    With a product's endurance the range to be kept in the normal state; with RESERVE_MODE_MIN the limits at which a
    unit with a limited reservoir enters reserve mode. Losses are the caller's, in `energy_kwh`.

    Raises ValueError for numbers that are not positive and for a reservoir too small to leave any range.
    """
    for name, value in (("power_kw", power_kw), ("energy_kwh", energy_kwh), ("minutes", minutes)):
        if not 0.0 < value < np.inf:
            raise ValueError(f"{name} takes a finite number above 0, got {value}")
    edge = power_kw * minutes / 60.0 / energy_kwh
    if edge > 0.5:
        raise ValueError(
            f"{energy_kwh} kWh cannot hold {power_kw} kW for {minutes} min both ways; "
            f"sell at most {energy_kwh * 30.0 / minutes:g} kW"
        )
    return edge, 1.0 - edge
