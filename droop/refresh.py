"""The vehicles' own bounds, plans, slopes and reasons brought up to date, some segments of the fleet at a time.

The rules for one vehicle are `limits`; this is how they run over a fleet at the speed of memory.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from droop.energy import NS_PER_H, standing_kwh
from droop.fleet import PLUGGED, SEGMENTS, UNPLUGGED, Column, Fleet, Totals, column
from droop.limits import (
    FAULTY,
    HELD,
    NO_VEHICLE,
    OVERRIDE,
    RAMP,
    REFUSED,
    STALE,
    TEMPERATURE,
    THROUGHPUT,
    Ages,
    Derating,
    aged,
    derated,
    lower,
    needed_kwh,
    plan,
    ramped,
    upper,
    wished,
)
from droop.numerics import kernel
from droop.plans import EVEN, PRICE, Tariff, charging_frac, charging_h, look, target_kwh, tariff, until_h
from droop.weights import LEAST, Means, factors, share

NEVER: Final = np.iinfo(np.int64).max
DAY_NS: Final = 86_400_000_000_000


class Scratch(NamedTuple):
    """One block of the fleet between two steps of `refresh`."""

    energy_kwh: Column  # float64[BLOCK]  aboard now
    doing_kw: Column  # what the charger is predicted to be doing
    out_kw: Column  # what is left of the ratings
    into_kw: Column
    flat_kw: Column  # what is left of the charging rating before its taper
    depart_h: Column  # hours to the departure; infinite when unknown
    needed_kwh: Column  # aboard at the end of the horizon
    lo_kw: Column
    hi_kw: Column
    plan_kw: Column
    tariff: Tariff  # what plans by price go by


BLOCK: Final = 2048


def scratch(prices: Tariff | None = None) -> Scratch:
    """Room for one block, and the tariff; None: there is none."""
    columns = [column(place, BLOCK, np.float64) for place in range(len(Scratch._fields) - 1)]
    return Scratch._make([*columns, tariff() if prices is None else prices])


# The steps of a refresh, one loop each, over a block that stays in the cache: a single loop over forty columns would
# need more checks for overlapping memory than the compiler is ready to make, and would run on single numbers.


@kernel
def _stand(fleet: Fleet, a: int, b: int, now_ns: int, s: Scratch) -> None:
    """Energy aboard, and what each charger is predicted to be doing."""
    energy_kwh, energy_ns, command = fleet.energy_kwh[a:b], fleet.energy_ns[a:b], fleet.command_kw[a:b]
    valid_ns, safe, usable = fleet.valid_until_ns[a:b], fleet.safe_kw[a:b], fleet.usable_kwh[a:b]
    eta_c, eta_d = fleet.eta_charge[a:b], fleet.eta_discharge[a:b]
    idle, heat = fleet.idle_kw[a:b], fleet.heat_per_kw[a:b]
    energy, doing = s.energy_kwh[: b - a], s.doing_kw[: b - a]
    for i in range(energy.size):
        energy[i] = standing_kwh(
            energy_kwh[i], energy_ns[i], now_ns, command[i], valid_ns[i], safe[i], eta_c[i], eta_d[i], usable[i],
            idle[i], heat[i],
        )  # fmt: skip
        doing[i] = command[i] if now_ns < valid_ns[i] else safe[i]


@kernel
def _rate(fleet: Fleet, a: int, b: int, derating: Derating, s: Scratch) -> None:
    """What temperature, state of charge and the charger itself leave of the ratings."""
    usable, temp, gain_up, gain_dn = fleet.usable_kwh[a:b], fleet.temp_c[a:b], fleet.gain_up[a:b], fleet.gain_dn[a:b]
    charge, discharge = fleet.charge_max_kw[a:b], fleet.discharge_max_kw[a:b]
    why_up, why_down, least, least_dn = (
        fleet.own_up[a:b], fleet.own_down[a:b], fleet.min_kw[a:b], fleet.least_dn_kw[a:b]
    )  # fmt: skip
    energy, out_kw, into_kw, flat_kw = s.energy_kwh[: b - a], s.out_kw[: b - a], s.into_kw[: b - a], s.flat_kw[: b - a]
    for i in range(energy.size):
        # An empty charger's battery of nothing gives no number, and a comparison with that takes nothing away.
        out, up, into, down, flat = derated(
            energy[i] / usable[i], np.float64(temp[i]), np.float64(gain_up[i]), np.float64(gain_dn[i]), derating
        )
        out_kw[i] = discharge[i] * out
        into_kw[i] = charge[i] * into
        flat_kw[i] = charge[i] * flat
        # What a car takes may be less than the least its charger offers: then it is that, and nothing below.
        least_dn[i] = min(np.float64(least[i]), into_kw[i])
        why_up[i] = up
        why_down[i] = down


@kernel
def _leave(fleet: Fleet, a: int, b: int, now_ns: int, horizon_h: float, derating: Derating, s: Scratch) -> None:
    """Time to the departure, and the energy that must be aboard at the end of the horizon."""
    usable, ceiling, eta_c = fleet.usable_kwh[a:b], fleet.ceiling_kwh[a:b], fleet.eta_charge[a:b]
    depart_ns, depart_kwh = fleet.depart_ns[a:b], fleet.depart_kwh[a:b]
    idle, heat = fleet.idle_kw[a:b], fleet.heat_per_kw[a:b]
    flat_kw, depart_h, needed = s.flat_kw[: b - a], s.depart_h[: b - a], s.needed_kwh[: b - a]
    for i in range(usable.size):
        left_h = max((depart_ns[i] - now_ns) / NS_PER_H, 0.0) if depart_ns[i] > 0 else np.inf
        lost = np.float64(idle[i]) + np.float64(heat[i]) * flat_kw[i] * flat_kw[i]
        # Never nothing: nothing times an infinite time would be no number.
        per_h, after_h = np.float64(eta_c[i]) * max(flat_kw[i] - lost, LEAST), max(left_h - horizon_h, 0.0)
        depart_h[i] = left_h
        needed[i] = needed_kwh(min(depart_kwh[i], ceiling[i]), usable[i], per_h, after_h, derating)


@kernel
def _bound_up(fleet: Fleet, a: int, b: int, horizon_h: float, s: Scratch) -> None:
    """The upper bound from energy and the driver's departure."""
    floor, dod_floor, why_up = fleet.soc_floor_kwh[a:b], fleet.dod_floor_kwh[a:b], fleet.own_up[a:b]
    soh, eta_c, eta_d = fleet.soh_frac[a:b], fleet.eta_charge[a:b], fleet.eta_discharge[a:b]
    energy, out_kw, into_kw = s.energy_kwh[: b - a], s.out_kw[: b - a], s.into_kw[: b - a]
    depart_h, needed, hi = s.depart_h[: b - a], s.needed_kwh[: b - a], s.hi_kw[: b - a]
    for i in range(energy.size):
        bound, why = upper(
            energy[i], floor[i], dod_floor[i], np.float64(soh[i]), out_kw[i], why_up[i], into_kw[i],
            np.float64(eta_c[i]), np.float64(eta_d[i]), depart_h[i], needed[i], horizon_h,
        )  # fmt: skip
        hi[i] = bound
        why_up[i] = why


@kernel
def _bound_down(fleet: Fleet, a: int, b: int, horizon_h: float, s: Scratch) -> None:
    """The lower bound, and the charging plan within both."""
    ceiling, soh, eta_c = fleet.ceiling_kwh[a:b], fleet.soh_frac[a:b], fleet.eta_charge[a:b]
    depart_kwh, why_down = fleet.depart_kwh[a:b], fleet.own_down[a:b]
    energy, into_kw, depart_h = s.energy_kwh[: b - a], s.into_kw[: b - a], s.depart_h[: b - a]
    lo, hi, t = s.lo_kw[: b - a], s.hi_kw[: b - a], s.plan_kw[: b - a]
    for i in range(energy.size):
        eta = np.float64(eta_c[i])
        bound, why = lower(energy[i], ceiling[i], np.float64(soh[i]), into_kw[i], why_down[i], eta, horizon_h)
        lo[i] = bound
        why_down[i] = why
        # A full battery is safety and comes before the driver's wish for more.
        hi[i] = max(hi[i], bound)
        t[i] = min(max(plan(energy[i], ceiling[i], into_kw[i], eta, depart_h[i], depart_kwh[i]), bound), hi[i])


@kernel
def _planned(fleet: Fleet, a: int, b: int, now_ns: int, derating: Derating, s: Scratch) -> None:
    """The charging plan of those whose plan is another than the even one."""
    kind = fleet.plan_kind[a:b]
    most = 0
    for i in range(kind.size):
        most |= kind[i]
    if most == EVEN:
        return
    usable, ceiling, eta_c = fleet.usable_kwh[a:b], fleet.ceiling_kwh[a:b], fleet.eta_charge[a:b]
    depart_ns, depart_kwh = fleet.depart_ns[a:b], fleet.depart_kwh[a:b]
    idle, heat = fleet.idle_kw[a:b], fleet.heat_per_kw[a:b]
    energy, flat_kw, depart_h = s.energy_kwh[: b - a], s.flat_kw[: b - a], s.depart_h[: b - a]
    lo, hi, t = s.lo_kw[: b - a], s.hi_kw[: b - a], s.plan_kw[: b - a]
    priced = look(s.tariff, now_ns)
    for i in range(kind.size):
        # Where no price is known, and a departure is, charging is spread evenly.
        unpriced = kind[i] == PRICE and not priced and 0.0 < depart_h[i] < np.inf
        if kind[i] == EVEN or unpriced or not usable[i] > 0.0:
            continue
        lost = np.float64(idle[i]) + np.float64(heat[i]) * flat_kw[i] * flat_kw[i]
        per_h = np.float64(eta_c[i]) * max(flat_kw[i] - lost, LEAST)
        to_go_h = charging_h(
            energy[i], target_kwh(kind[i], depart_kwh[i], ceiling[i]), usable[i], per_h, derating
        )  # fmt: skip
        cheaper_h = 0.0
        if kind[i] == PRICE and depart_ns[i] > now_ns:
            prices = s.tariff
            since_ns = prices.start_ns[0] + prices.at[0] * prices.slot_ns[0]
            cheaper_h = until_h(prices, prices.cheaper_h, since_ns, depart_ns[i])
        share = charging_frac(kind[i], to_go_h, depart_h[i], cheaper_h)
        t[i] = min(max(-flat_kw[i] * share, lo[i]), hi[i])


@kernel
def _bypass(fleet: Fleet, a: int, b: int, s: Scratch) -> None:
    """A battery too warm for its site follows its plan."""
    temp, warm, why_up, why_down = fleet.temp_c[a:b], fleet.warm_c[a:b], fleet.own_up[a:b], fleet.own_down[a:b]
    lo, hi, t = s.lo_kw[: b - a], s.hi_kw[: b - a], s.plan_kw[: b - a]
    for i in range(lo.size):
        # All is loaded before it is chosen from: a load that depends is a branch.
        apart, up, down, low, high, plan_kw = temp[i] > warm[i], why_up[i], why_down[i], lo[i], hi[i], t[i]
        why_up[i] = TEMPERATURE if apart else up
        why_down[i] = TEMPERATURE if apart else down
        hi[i] = plan_kw if apart else high
        lo[i] = plan_kw if apart else low


@kernel
def _wish(fleet: Fleet, a: int, b: int, now_ns: int, s: Scratch) -> None:
    """The owner's override."""
    wish, until_ns = fleet.wish[a:b], fleet.wish_until_ns[a:b]
    why_up, why_down = fleet.own_up[a:b], fleet.own_down[a:b]
    lo, hi, t = s.lo_kw[: b - a], s.hi_kw[: b - a], s.plan_kw[: b - a]
    most = 0
    for i in range(wish.size):
        most |= wish[i]
    if most == 0:
        return
    for i in range(lo.size):
        asked = wish[i] if now_ns < until_ns[i] else 0
        bottom, top, kept, below, above = wished(asked, lo[i], hi[i], t[i])
        why_up[i] = OVERRIDE if above else why_up[i]
        why_down[i] = OVERRIDE if below else why_down[i]
        lo[i] = bottom
        hi[i] = top
        t[i] = kept


@kernel
def _spend(fleet: Fleet, a: int, b: int, horizon_h: float, s: Scratch) -> None:
    """The day's throughput."""
    budget, moved, eta_c, eta_d = (
        fleet.budget_kwh[a:b], fleet.moved_kwh[a:b], fleet.eta_charge[a:b], fleet.eta_discharge[a:b]
    )  # fmt: skip
    why_up, why_down = fleet.own_up[a:b], fleet.own_down[a:b]
    lo, hi, t = s.lo_kw[: b - a], s.hi_kw[: b - a], s.plan_kw[: b - a]
    for i in range(lo.size):
        left = max(budget[i] - moved[i], 0.0) / horizon_h
        most = left * eta_d[i]
        # Charging for the driver, by plan or by wish, goes on when the day is spent.
        least = min(-left / eta_c[i], t[i])
        why_up[i] = THROUGHPUT if most < hi[i] else why_up[i]
        why_down[i] = THROUGHPUT if least > lo[i] else why_down[i]
        hi[i] = max(min(hi[i], most), t[i])
        lo[i] = max(lo[i], least)


@kernel
def _age(fleet: Fleet, a: int, b: int, now_ns: int, ages: Ages, s: Scratch) -> None:
    """What is known of each charger, by the age of its report; free bounds and plan."""
    state, report_ns, measured = fleet.state[a:b], fleet.report_ns[a:b], fleet.measured_kw[a:b]
    refused_ns = fleet.refused_ns[a:b]
    free_lo, free_hi, plan_kw = fleet.free_lo_kw[a:b], fleet.free_hi_kw[a:b], fleet.plan_kw[a:b]
    doing, lo, hi, t = s.doing_kw[: b - a], s.lo_kw[: b - a], s.hi_kw[: b - a], s.plan_kw[: b - a]
    fresh_s, stale_s = ages.fresh_s, ages.stale_s
    for i in range(lo.size):
        age_s = (now_ns - report_ns[i]) / 1e9
        near_lo, near_hi = aged(lo[i], hi[i], doing[i], age_s, fresh_s, stale_s)
        held = age_s > fresh_s
        low, high = (near_lo if held else lo[i]), (near_hi if held else hi[i])
        # By products, not by choices: for a column read under a condition the compiler makes masked loads.
        lies = 1.0 if (refused_ns[i] > 0) & (age_s < stale_s) else 0.0
        here = 1.0 if state[i] == PLUGGED else 0.0
        low = (low * (1.0 - lies) + measured[i] * lies) * here
        high = (high * (1.0 - lies) + measured[i] * lies) * here
        free_lo[i] = low
        free_hi[i] = high
        plan_kw[i] = min(max(t[i], low), high)


@kernel
def _blame(fleet: Fleet, a: int, b: int, now_ns: int, ages: Ages) -> None:
    """The reasons that come with a charger's state and the age of its report; they go before all others."""
    state, report_ns, refused_ns = fleet.state[a:b], fleet.report_ns[a:b], fleet.refused_ns[a:b]
    why_up, why_down = fleet.own_up[a:b], fleet.own_down[a:b]
    fresh_s, stale_s = ages.fresh_s, ages.stale_s
    for i in range(state.size):
        age_s = (now_ns - report_ns[i]) / 1e9
        # The last of these that holds.
        why = np.int64(HELD) if age_s > fresh_s else 0
        why = REFUSED if refused_ns[i] > 0 else why
        why = STALE if age_s >= stale_s else why
        why = why if state[i] == PLUGGED else FAULTY
        why = NO_VEHICLE if state[i] == UNPLUGGED else why
        why_up[i] = why if why > 0 else why_up[i]
        why_down[i] = why if why > 0 else why_down[i]


@kernel
def _ramp(fleet: Fleet, a: int, b: int, at: int, anew: bool, ramp_s: float, s: Scratch) -> None:
    """The charger's ramp, counted anew or from the power it was counted from.

    However often bounds are renewed, a charger is given no more change than time. at : place of row a in the block
    """
    ramp_kw_s, least_up, least_dn = fleet.ramp_kw_s[a:b], fleet.min_kw[a:b], fleet.least_dn_kw[a:b]
    from_kw = fleet.ramp_from_kw[a:b]
    lo, hi, t, doing = fleet.free_lo_kw[a:b], fleet.free_hi_kw[a:b], fleet.plan_kw[a:b], s.doing_kw[at : at + b - a]
    why_up, why_down = fleet.own_up[a:b], fleet.own_down[a:b]
    limited = 0
    for i in range(ramp_kw_s.size):
        limited += 1 if ramp_kw_s[i] < np.inf else 0
    if limited == 0:
        return
    for i in range(ramp_kw_s.size):
        from_kw[i] = doing[i] if anew else from_kw[i]
        low, high = ramped(lo[i], hi[i], from_kw[i], ramp_kw_s[i] * ramp_s, least_up[i], least_dn[i])
        why_up[i] = RAMP if high < hi[i] else why_up[i]
        why_down[i] = RAMP if low > lo[i] else why_down[i]
        lo[i] = low
        hi[i] = high
        t[i] = min(max(t[i], low), high)


@kernel
def _lean(fleet: Fleet, a: int, b: int, means: Means, s: Scratch) -> None:
    """Slopes: how willing each vehicle is to leave its plan."""
    floor, ceiling, usable = fleet.soc_floor_kwh[a:b], fleet.ceiling_kwh[a:b], fleet.usable_kwh[a:b]
    moved, wear, plan_kw = fleet.moved_kwh[a:b], fleet.wear[a:b], fleet.plan_kw[a:b]
    free_lo, free_hi = fleet.free_lo_kw[a:b], fleet.free_hi_kw[a:b]
    slope_up, slope_dn = fleet.slope_up[a:b], fleet.slope_dn[a:b]
    energy, depart_h = s.energy_kwh[: b - a], s.depart_h[: b - a]
    for i in range(energy.size):
        span = ceiling[i] - floor[i]
        fill = min(max(energy[i] - floor[i], 0.0), span) / span if span > 0.0 else means.fill_frac
        done = moved[i] / usable[i] if usable[i] > 0.0 else means.moved_frac
        up, down = factors(fill, share(done, means.moved_frac, depart_h[i], np.float64(wear[i])), means.fill_frac)
        # The slope is taken from the float32 numbers the split sees, so that it reaches the bound inside the
        # multiplier's bracket.
        slope_up[i] = max((free_hi[i] - plan_kw[i]) * up, LEAST)
        slope_dn[i] = max((plan_kw[i] - free_lo[i]) * down, LEAST)


@kernel
def _count(fleet: Fleet, a: int, b: int, at: int, totals: Totals, segment: int, s: Scratch) -> None:
    """Sums over the vehicles that count as capacity. at : place of row a in the block"""
    floor, ceiling, usable, moved = (
        fleet.soc_floor_kwh[a:b], fleet.ceiling_kwh[a:b], fleet.usable_kwh[a:b], fleet.moved_kwh[a:b]
    )  # fmt: skip
    why_up, plan_kw, energy = fleet.own_up[a:b], fleet.plan_kw[a:b], s.energy_kwh[at : at + b - a]
    free_lo, free_hi = fleet.free_lo_kw[a:b], fleet.free_hi_kw[a:b]
    least = most = planned = stored = window = carried = holding = 0.0
    fresh = 0
    for i in range(energy.size):
        why = why_up[i]
        counts = (why != NO_VEHICLE) & (why != FAULTY) & (why != STALE) & (why != REFUSED)
        span = ceiling[i] - floor[i]
        held = min(max(energy[i] - floor[i], 0.0), span)
        least += free_lo[i]
        most += free_hi[i]
        planned += plan_kw[i]
        fresh += 1 if counts else 0
        stored += held if counts else 0.0
        window += span if counts else 0.0
        carried += moved[i] if counts else 0.0
        holding += usable[i] if counts else 0.0
    totals.free_lo_kw[segment] += least
    totals.free_hi_kw[segment] += most
    totals.plan_kw[segment] += planned
    totals.stored_kwh[segment] += stored
    totals.window_kwh[segment] += window
    totals.moved_kwh[segment] += carried
    totals.usable_kwh[segment] += holding
    totals.fresh[segment] += fresh


@kernel
def _left(fleet: Fleet, a: int, b: int, at: int, totals: Totals, segment: int, s: Scratch) -> None:
    """Energy left each way, at the grid, of the vehicles that go both ways and may be moved; for the energy rules.

    What the driver's departure and the floors keep is not counted. at : place of row a in the block
    """
    floor, dod_floor, ceiling = fleet.soc_floor_kwh[a:b], fleet.dod_floor_kwh[a:b], fleet.ceiling_kwh[a:b]
    eta_c, eta_d = fleet.eta_charge[a:b], fleet.eta_discharge[a:b]
    charge, discharge, why_up = fleet.charge_max_kw[a:b], fleet.discharge_max_kw[a:b], fleet.own_up[a:b]
    free_lo, free_hi = fleet.free_lo_kw[a:b], fleet.free_hi_kw[a:b]
    energy, needed = s.energy_kwh[at : at + b - a], s.needed_kwh[at : at + b - a]
    out = into = 0.0
    for i in range(energy.size):
        why = why_up[i]
        counts = (why != NO_VEHICLE) & (why != FAULTY) & (why != STALE) & (why != REFUSED)
        moves = counts & (charge[i] > 0.0) & (discharge[i] > 0.0) & (free_hi[i] > free_lo[i])
        kept = max(max(floor[i], dod_floor[i]), needed[i])
        up, down = max(energy[i] - kept, 0.0) * eta_d[i], max(ceiling[i] - energy[i], 0.0) / eta_c[i]
        out += up if moves else 0.0
        into += down if moves else 0.0
    totals.up_kwh[segment] += out
    totals.down_kwh[segment] += into


@kernel
def _due(fleet: Fleet, a: int, b: int, now_ns: int, stale_ns: int) -> int:
    """When the first vehicle's bounds change by themselves [ns]."""
    why_up, report_ns, wish = fleet.own_up[a:b], fleet.report_ns[a:b], fleet.wish[a:b]
    oldest_ns = NEVER
    other = 0
    for i in range(why_up.size):
        why = why_up[i]
        ages = (why != NO_VEHICLE) & (why != FAULTY) & (why != STALE)
        report = report_ns[i] if ages else NEVER
        oldest_ns = report if report < oldest_ns else oldest_ns
        other |= (1 if why == STALE else 0) | wish[i]
    due_ns = oldest_ns + stale_ns if oldest_ns < NEVER else NEVER
    return min(due_ns, _lapse(fleet, a, b, now_ns)) if other > 0 else due_ns


@kernel
def _lapse(fleet: Fleet, a: int, b: int, now_ns: int) -> int:
    """When the first silent charger falls back to its safe profile, or the first wish ends [ns]."""
    why_up, valid_ns = fleet.own_up[a:b], fleet.valid_until_ns[a:b]
    wish, until_ns = fleet.wish[a:b], fleet.wish_until_ns[a:b]
    due_ns = NEVER
    for i in range(why_up.size):
        here = (why_up[i] != NO_VEHICLE) & (why_up[i] != FAULTY)
        expires = valid_ns[i] if (why_up[i] == STALE) & (now_ns < valid_ns[i]) else NEVER
        lapses = until_ns[i] if here & (wish[i] > 0) & (now_ns < until_ns[i]) else NEVER
        soonest = lapses if lapses < expires else expires
        due_ns = soonest if soonest < due_ns else due_ns
    return due_ns


@kernel
def begin(fleet: Fleet, totals: Totals, segment: int, now_ns: int, ramp_s: float) -> None:
    """Sums of a segment from nothing; at midnight (UTC) its vehicles' throughput as well."""
    if totals.ramped_ns[segment] == 0 or now_ns - totals.ramped_ns[segment] >= ramp_s * 1e9:
        totals.ramped_ns[segment] = now_ns
    n = fleet.state.size
    day = now_ns // DAY_NS
    if totals.day[segment] != day:
        totals.day[segment] = day
        fleet.moved_kwh[segment * n // SEGMENTS : (segment + 1) * n // SEGMENTS] = 0.0
    totals.plan_kw[segment] = totals.stored_kwh[segment] = totals.window_kwh[segment] = 0.0
    totals.moved_kwh[segment] = totals.usable_kwh[segment] = 0.0
    totals.free_lo_kw[segment] = totals.free_hi_kw[segment] = 0.0
    totals.up_kwh[segment] = totals.down_kwh[segment] = 0.0
    totals.fresh[segment] = 0
    totals.refreshed_ns[segment] = now_ns
    totals.due_ns[segment] = NEVER


@kernel
def refresh(
    fleet: Fleet, totals: Totals, from_segment: int, to_segment: int, now_ns: int, ages: Ages, derating: Derating,
    means: Means, s: Scratch, energies: bool = True,
) -> None:  # fmt: skip
    """Renew free bounds, plan, slopes, reasons and sums of some segments of the fleet: from_segment .. to_segment - 1.

    energies : whether anybody asks for `totals.up_kwh`, `down_kwh`; they stay 0 otherwise

    Several at once, for a small fleet's segments are short and every loop costs its preparation.
    """
    n = fleet.state.size
    horizon_h, stale_ns = ages.horizon_s / 3600.0, round(ages.stale_s * 1e9)
    for segment in range(from_segment, to_segment):
        begin(fleet, totals, segment, now_ns, ages.ramp_s)
    first, last = from_segment * n // SEGMENTS, to_segment * n // SEGMENTS
    segment = from_segment
    for a in range(first, last, BLOCK):
        b = min(a + BLOCK, last)
        _stand(fleet, a, b, now_ns, s)
        _rate(fleet, a, b, derating, s)
        _leave(fleet, a, b, now_ns, horizon_h, derating, s)
        _bound_up(fleet, a, b, horizon_h, s)
        _bound_down(fleet, a, b, horizon_h, s)
        _planned(fleet, a, b, now_ns, derating, s)
        _bypass(fleet, a, b, s)
        _wish(fleet, a, b, now_ns, s)
        _spend(fleet, a, b, horizon_h, s)
        _age(fleet, a, b, now_ns, ages, s)
        _blame(fleet, a, b, now_ns, ages)
        row, at = a, segment
        while row < b:
            end = min((at + 1) * n // SEGMENTS, b)
            _ramp(fleet, row, end, row - a, totals.ramped_ns[at] == now_ns, ages.ramp_s, s)
            at += 1
            row = end
        _lean(fleet, a, b, means, s)
        row = a
        while row < b:
            end = min((segment + 1) * n // SEGMENTS, b)
            _count(fleet, row, end, row - a, totals, segment, s)
            if energies:
                _left(fleet, row, end, row - a, totals, segment, s)
            totals.due_ns[segment] = min(totals.due_ns[segment], _due(fleet, row, end, now_ns, stale_ns))
            row = end
            if row == (segment + 1) * n // SEGMENTS:
                segment += 1
