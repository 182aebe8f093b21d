"""What the plans come to in an interval ahead: the part of the declared baseline that the present plans do not tell.

An even plan is a constant power, and its present value stands for the interval. The others begin and end: declared by
their present value, charging that begins with a cheap hour would be missing from that hour's baseline, and would be
read as a response that nobody asked for. So for these the mean power over the interval is taken, from the energies
aboard now and along the plan itself. Numbers only; who declares, and when, is the caller's affair.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from droop.fleet import PLUGGED, Column, Fleet
from droop.limits import CHARGE_NOW, FAULTY, NO_VEHICLE, REFUSED, STALE, Derating, derated
from droop.numerics import kernel
from droop.plans import (
    AHEAD,
    DELAYED,
    EVEN,
    IMMEDIATE,
    LEAD_H,
    NS_PER_H,
    PRICE,
    Tariff,
    charged_kwh,
    charging_h,
    price_of,
    rank,
    slot_of,
    target_kwh,
    until_h,
)
from droop.weights import LEAST


@kernel
def _movable(fleet: Fleet, i: int, now_ns: int, priced: bool) -> bool:
    """Whether a vehicle follows a plan of its kind; otherwise what it does now stands."""
    kind, why = fleet.plan_kind[i], fleet.own_up[i]
    if kind == EVEN or (kind == PRICE and not priced and fleet.depart_ns[i] > now_ns):
        return False
    if fleet.state[i] != PLUGGED or why in (NO_VEHICLE, FAULTY, STALE, REFUSED):
        return False
    return not (fleet.wish[i] == CHARGE_NOW and now_ns < fleet.wish_until_ns[i])


@kernel
def _rates(fleet: Fleet, i: int, derating: Derating) -> tuple[float, float]:
    """Charging of vehicle i before its taper: at the grid [kW], and what it brings aboard in an hour [kWh]."""
    usable = fleet.usable_kwh[i]
    _, _, _, _, flat = derated(
        fleet.energy_kwh[i] / usable, np.float64(fleet.temp_c[i]), np.float64(fleet.gain_up[i]),
        np.float64(fleet.gain_dn[i]), derating,
    )  # fmt: skip
    flat_kw = np.float64(fleet.charge_max_kw[i]) * flat
    lost = np.float64(fleet.idle_kw[i]) + np.float64(fleet.heat_per_kw[i]) * flat_kw * flat_kw
    return flat_kw, np.float64(fleet.eta_charge[i]) * max(flat_kw - lost, LEAST)


@kernel
def _to_go(fleet: Fleet, priced: bool, now_ns: int, derating: Derating, to_go_h: Column) -> None:
    """Hours of charging that each vehicle's plan still holds; NaN for those whose present plan stands."""
    for i in range(to_go_h.size):
        to_go_h[i] = np.nan
        if _movable(fleet, i, now_ns, priced):
            _, per_h = _rates(fleet, i, derating)
            target = target_kwh(fleet.plan_kind[i], fleet.depart_kwh[i], fleet.ceiling_kwh[i])
            to_go_h[i] = charging_h(fleet.energy_kwh[i], target, fleet.usable_kwh[i], per_h, derating)


@kernel
def _without_prices(fleet: Fleet, now_ns: int, t_ns: int, to_go_h: Column, done_h: Column) -> None:
    """Hours that have been charged by `t_ns`, of the plans that know no price, or no departure to wait for."""
    for i in range(to_go_h.size):
        depart_ns, kind = fleet.depart_ns[i], fleet.plan_kind[i]
        passed_h = (t_ns - now_ns) / NS_PER_H
        if kind == IMMEDIATE or depart_ns <= now_ns:
            done_h[i] = min(passed_h, to_go_h[i])
        elif kind == DELAYED:
            # Late is from `to_go_h` before the departure on; earlier than now it cannot be.
            begin_h = max((depart_ns - now_ns) / NS_PER_H - to_go_h[i] - LEAD_H, 0.0)
            done_h[i] = min(max(passed_h - begin_h, 0.0), to_go_h[i])


@kernel
def _by_price(
    fleet: Fleet, prices: Tariff, now_ns: int, t_ns: int, to_go_h: Column, hours: Column, done_h: Column
) -> None:  # fmt: skip
    """The same of those that follow prices: slot by slot, from its beginning as long as something is left for it."""
    for slot in range(slot_of(prices, now_ns), slot_of(prices, t_ns - 1) + 1):
        if np.isnan(price_of(prices, slot)):
            continue
        rank(prices, now_ns, slot, hours)
        begin_ns = max(prices.start_ns[0] + slot * prices.slot_ns[0], now_ns)
        end_ns = prices.start_ns[0] + (slot + 1) * prices.slot_ns[0]
        for i in range(to_go_h.size):
            depart_ns = fleet.depart_ns[i]
            if fleet.plan_kind[i] != PRICE or depart_ns <= now_ns:
                continue
            left_h = max(to_go_h[i] - until_h(prices, hours, now_ns, depart_ns), 0.0)
            until_ns = min(min(end_ns, depart_ns), t_ns)
            done_h[i] += min(left_h, max((until_ns - begin_ns) / NS_PER_H, 0.0))


@kernel
def change_kw(held: Any, now_ns: int, start_ns: int, end_ns: int) -> float:
    """Mean power of the plans in [start, end), less what they are now: what the sum of the present ones lacks [kW].

    held : the `Running`'s handle
    """
    fleet, prices = held.engine.fleet, held.engine.room.scratch.tariff
    derating = held.settings.rules.derating
    n = fleet.state.size
    to_go_h, begun_h, ended_h = np.empty(n), np.zeros(n), np.zeros(n)
    hours = np.empty(AHEAD + 1)
    priced = not np.isnan(price_of(prices, slot_of(prices, start_ns)))
    _to_go(fleet, priced, now_ns, derating, to_go_h)
    for t_ns, done_h in ((start_ns, begun_h), (end_ns, ended_h)):
        _without_prices(fleet, now_ns, t_ns, to_go_h, done_h)
        if prices.price.size > 0:
            _by_price(fleet, prices, now_ns, t_ns, to_go_h, hours, done_h)
    change = 0.0
    for i in range(n):
        if np.isnan(to_go_h[i]):
            continue
        flat_kw, per_h = _rates(fleet, i, derating)
        energy, usable = fleet.energy_kwh[i], fleet.usable_kwh[i]
        aboard_kwh = (
            charged_kwh(energy, ended_h[i], usable, per_h, derating)
            - charged_kwh(energy, begun_h[i], usable, per_h, derating)
        )  # fmt: skip
        change -= aboard_kwh * (flat_kw / per_h) / ((end_ns - start_ns) / NS_PER_H) + np.float64(fleet.plan_kw[i])
    return change
