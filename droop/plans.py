"""Charging plans: what a vehicle would do if nobody asked, and the prices that some of them go by.

`even` spreads what is missing up to the departure (`limits.plan`); `immediate` charges at once, as a charger does that
nobody manages; `delayed` as late as the departure allows; `price` in the cheapest slots before it, of slots as cheap in
the earlier ones. A plan is no promise to the driver: the bounds of `limits` keep the energy at departure whatever the
plan says, and a plan that puts charging off too long is overtaken by them.

Functions of one vehicle take numbers; the tariff alone is a record, for its table is common to all.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.fleet import Column
from droop.limits import Derating, tapered
from droop.numerics import kernel

# Slots ahead that are compared: two weeks of quarter hours. Later ones are taken for dearer than all of these, so that
# a longer stay charges sooner than it would have to, never too late.
AHEAD: Final = 1344
# A slot that is ranked for nobody yet.
NO_SLOT: Final = int(np.iinfo(np.int64).min)
NS_PER_H: Final = 3.6e12
# A delayed plan begins this long before the bounds would begin for it: reports are grained, and powers rounded.
LEAD_H: Final = 1.0 / 30.0
# The rest of what a plan holds for a slot is charged with this time constant.
SETTLE_H: Final = 1.0 / 12.0


class PlanKind(IntEnum):
    """How a vehicle's plan is made. The order is the wire code."""

    EVEN = 0
    IMMEDIATE = 1
    DELAYED = 2
    PRICE = 3


EVEN: Final = int(PlanKind.EVEN)
IMMEDIATE: Final = int(PlanKind.IMMEDIATE)
DELAYED: Final = int(PlanKind.DELAYED)
PRICE: Final = int(PlanKind.PRICE)


class Tariff(NamedTuple):
    """Prices in slots of one length.

    price              : float64[k]  of each slot; any unit, only their order counts; empty where there is no tariff
    start_ns, slot_ns  : int64[1]  when the first slot begins, and the length of each
    repeats            : int64[1]  1 where the slots come again and again (a table for a day)
    at                 : int64[1]  the slot that `cheaper_h` is made for
    cheaper_h          : float64[AHEAD + 1]  hours from the beginning of that slot to that of each later one, in slots
                         that come before it
    """

    price: Column
    start_ns: Column
    slot_ns: Column
    repeats: Column
    at: Column
    cheaper_h: Column


def tariff(price: npt.ArrayLike = (), start_ns: int = 0, slot_ns: int = 1, *, repeats: bool = False) -> Tariff:
    """A tariff as kernels take it; without prices there is none."""
    one = np.int64
    return Tariff(
        np.array(price, np.float64), np.full(1, start_ns, one), np.full(1, slot_ns, one), np.full(1, repeats, one),
        np.full(1, NO_SLOT, one), np.zeros(AHEAD + 1),
    )  # fmt: skip


@kernel
def slot_of(prices: Tariff, t_ns: int) -> int:
    """The number of the slot that a time lies in; slots before the first one are negative."""
    return (t_ns - prices.start_ns[0]) // prices.slot_ns[0]


@kernel
def price_of(prices: Tariff, slot: int) -> float:
    """The price in a slot; NaN where none is known."""
    size = prices.price.size
    if size == 0:
        return np.nan
    if prices.repeats[0] == 1:
        return prices.price[slot % size]
    return prices.price[slot] if 0 <= slot < size else np.nan


@kernel
def rank(prices: Tariff, now_ns: int, slot: int, hours: Column) -> None:
    """How long, from now on, slots last that are used before `slot`: cheaper ones, and earlier ones as cheap.

    hours : float64[AHEAD + 1]  written: up to the beginning of the slot that is j after the present one [h]; a slot
            whose price is not known comes after all others
    """
    first, own = slot_of(prices, now_ns), price_of(prices, slot)
    slot_h = prices.slot_ns[0] / NS_PER_H
    begun_h = (now_ns - prices.start_ns[0] - first * prices.slot_ns[0]) / NS_PER_H
    hours[0] = 0.0
    for j in range(AHEAD):
        other = price_of(prices, first + j)
        before = other < own or (other == own and first + j < slot)
        length_h = slot_h - begun_h if j == 0 else slot_h
        hours[j + 1] = hours[j] + (length_h if before else 0.0)


@kernel
def until_h(prices: Tariff, hours: Column, now_ns: int, t_ns: int) -> float:
    """Of what `rank` counted from `now_ns` on, that up to `t_ns` [h]."""
    if t_ns <= now_ns:
        return 0.0
    first, slot = slot_of(prices, now_ns), slot_of(prices, t_ns)
    j = slot - first
    if j >= AHEAD:
        return hours[AHEAD]
    begin_ns = prices.start_ns[0] + slot * prices.slot_ns[0]
    end_ns = begin_ns + prices.slot_ns[0]
    from_ns = max(begin_ns, now_ns)
    return hours[j] + (hours[j + 1] - hours[j]) * ((t_ns - from_ns) / (end_ns - from_ns))


@kernel
def look(prices: Tariff, now_ns: int) -> bool:
    """Have `cheaper_h` ready for the present slot; whether its price is known."""
    slot = slot_of(prices, now_ns)
    if np.isnan(price_of(prices, slot)):
        return False
    if prices.at[0] != slot:
        # From the beginning of the slot: it is not before itself, so that the rest of it does not count either.
        rank(prices, prices.start_ns[0] + slot * prices.slot_ns[0], slot, prices.cheaper_h)
        prices.at[0] = slot
    return True


@kernel
def fading(usable_kwh: float, kwh_per_h: float, derating: Derating) -> float:
    """Rate at which charging's share of its rating falls within the taper [1/h]: linear in SoC, so exponential."""
    return (1.0 - derating.taper_least_frac) / (1.0 - derating.taper_from_frac) * kwh_per_h / usable_kwh


@kernel
def charging_h(energy_kwh: float, target_kwh: float, usable_kwh: float, kwh_per_h: float, derating: Derating) -> float:
    """Hours of charging with all there is from one energy aboard to another, through the taper; 0 if it is there.

    kwh_per_h : what charging brings aboard before its taper
    """
    if target_kwh <= energy_kwh:
        return 0.0
    edge_kwh = derating.taper_from_frac * usable_kwh
    flat_h = max(min(target_kwh, edge_kwh) - energy_kwh, 0.0) / kwh_per_h
    if target_kwh <= edge_kwh or derating.taper_from_frac >= 1.0 or derating.taper_least_frac >= 1.0:
        return flat_h + max(target_kwh - max(energy_kwh, edge_kwh), 0.0) / kwh_per_h
    first = tapered(max(energy_kwh, edge_kwh) / usable_kwh, derating)
    last = tapered(target_kwh / usable_kwh, derating)
    return flat_h + np.log(first / last) / fading(usable_kwh, kwh_per_h, derating)


@kernel
def charged_kwh(energy_kwh: float, hours: float, usable_kwh: float, kwh_per_h: float, derating: Derating) -> float:
    """Energy aboard after some hours of charging with all there is: the inverse of `charging_h` [kWh]."""
    edge_kwh = derating.taper_from_frac * usable_kwh
    flat_h = min(max(edge_kwh - energy_kwh, 0.0) / kwh_per_h, hours)
    energy = energy_kwh + flat_h * kwh_per_h
    rest_h = hours - flat_h
    if rest_h <= 0.0:
        return energy
    if derating.taper_from_frac >= 1.0 or derating.taper_least_frac >= 1.0:
        return min(energy + rest_h * kwh_per_h, usable_kwh)
    share = tapered(energy / usable_kwh, derating) * np.exp(-fading(usable_kwh, kwh_per_h, derating) * rest_h)
    left = (share - derating.taper_least_frac) / (1.0 - derating.taper_least_frac)
    return min(usable_kwh * (1.0 - left * (1.0 - derating.taper_from_frac)), usable_kwh)


@kernel
def target_kwh(kind: int, depart_kwh: float, ceiling_kwh: float) -> float:
    """What a plan charges up to [kWh]. A charger that nobody manages fills the car of a driver who said nothing."""
    if kind == IMMEDIATE and depart_kwh <= 0.0:
        return ceiling_kwh
    return min(depart_kwh, ceiling_kwh)


@kernel
def charging_frac(kind: int, to_go_h: float, depart_in_h: float, cheaper_h: float) -> float:
    """Share of all there is that a plan, other than the even one, charges with now.

    to_go_h   : hours of charging that are missing
    cheaper_h : of the time up to the departure, what is used before the present slot [h]

    Who may leave at any moment can put nothing off; who puts it off to the end is called by the bounds in time. What is
    left for less than `SETTLE_H` is charged slower and slower: a plan that jumped between nothing and everything, as
    regulation takes and gives a little around the energy wanted, would be no baseline.
    """
    if to_go_h <= 0.0:
        return 0.0
    if kind == IMMEDIATE or depart_in_h == np.inf or depart_in_h <= 0.0:
        return min(to_go_h / SETTLE_H, 1.0)
    if kind == DELAYED:
        late = min(max((to_go_h + LEAD_H - depart_in_h) / LEAD_H, 0.0), 1.0)
        return min(to_go_h / SETTLE_H, late)
    return min(max((to_go_h - cheaper_h) / SETTLE_H, 0.0), 1.0)
