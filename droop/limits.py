"""What each vehicle may do until it is looked at again: its bounds by itself, and the reason for each.

Order of application (rulebook 9.1): session state, report age, driver's energy, SoC window and depth of
discharge on the capacity that is left, ratings with their derating, the day's throughput, the owner's wish.
Least power, ramp and the caps of a site come after, on top of these (`minimum`, `ramp`, `sites`). Where they
conflict: safety, then the driver's departure energy, then the product. The bound in energy is for the horizon
until the next refresh, never for the product's endurance: bounding a tick by endurance starves delivery
(endurance limits what is sold).

Reports have three states. Fresh: full capability. Held: capability shrinks with age towards what the vehicle
is predicted to be doing. Older: lo = hi = that prediction, so it stays in the sum and counts as no capacity. A
charger that does not follow its commands counts with what it measures.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from droop.energy import NS_PER_H, standing_kwh
from droop.fleet import PLUGGED, SEGMENTS, UNPLUGGED, Column, Fleet, Totals, Wish, column
from droop.numerics import kernel
from droop.reasons import Reason
from droop.weights import LEAST, Means, factors, share

RATING: Final = int(Reason.RATING)
SOC: Final = int(Reason.SOC)
SOH: Final = int(Reason.SOH)
DOD: Final = int(Reason.DOD)
DEPARTURE: Final = int(Reason.DEPARTURE)
STALE: Final = int(Reason.STALE)
HELD: Final = int(Reason.HELD)
REFUSED: Final = int(Reason.REFUSED)
TEMPERATURE: Final = int(Reason.TEMPERATURE)
TAPER: Final = int(Reason.TAPER)
THROUGHPUT: Final = int(Reason.THROUGHPUT)
OVERRIDE: Final = int(Reason.OVERRIDE)
RESPONSE: Final = int(Reason.RESPONSE)
NO_VEHICLE: Final = int(Reason.UNPLUGGED)
FAULTY: Final = int(Reason.FAULT)
CHARGE_NOW: Final = int(Wish.CHARGE_NOW)
NO_DISCHARGE: Final = int(Wish.NO_DISCHARGE)
LEAVE_ALONE: Final = int(Wish.LEAVE_ALONE)

NEVER: Final = np.iinfo(np.int64).max
DAY_NS: Final = 86_400_000_000_000


class Ages(NamedTuple):
    """Times that shape the bounds.

    fresh_s, stale_s : age of a report up to which capability is full, and from which it is none [s]
    horizon_s        : time the energy bounds must last: the refresh period and a report's delay [s]
    ramp_s           : time a charger has to change before it is looked at again: the refresh period [s]
    """

    fresh_s: float = 3.0
    stale_s: float = 5.0
    horizon_s: float = 2.0
    ramp_s: float = 1.0


class Derating(NamedTuple):
    """How ratings fall near the edges of the state of charge, in the cold and in the heat; parameters, no standard's.

    taper_from_frac, taper_least_frac : SoC from which charging tapers, and what is left of it when full
    weak_below_frac, weak_least_frac  : SoC below which discharging weakens, and what is left of it when empty
    cold_c, cold_stop_c               : battery temperature below which charging falls, and where it ends [degC]
    hot_c, hot_stop_c                 : battery temperature above which both fall, and where they end [degC]
    bypass_k                          : a battery this far above its site's mean follows its plan alone [K]
    """

    taper_from_frac: float = 0.85
    taper_least_frac: float = 0.1
    weak_below_frac: float = 0.08
    weak_least_frac: float = 0.2
    cold_c: float = 5.0
    cold_stop_c: float = -10.0
    hot_c: float = 45.0
    hot_stop_c: float = 55.0
    bypass_k: float = 5.0


# Functions of one vehicle take its numbers, never the fleet: a fleet passed per vehicle costs a reference count
# per column, a hundred times the arithmetic. They choose instead of branching wherever they can, so that the loop
# over the fleet runs on whole vectors.


@kernel
def derated(soc_frac: float, temp_c: float, gain: float, derating: Derating) -> tuple[float, int, float, int]:
    """Share of the rating that is left, and what took most of it: (discharging, reason, charging, reason).

    temp_c : NaN where unknown: then nothing is taken
    gain   : what the charger delivers of what it is told; above 1 counts as 1
    """
    d = derating
    weak = d.weak_least_frac + (1.0 - d.weak_least_frac) * soc_frac / d.weak_below_frac
    taper = d.taper_least_frac + (1.0 - d.taper_least_frac) * (1.0 - soc_frac) / (1.0 - d.taper_from_frac)
    heat = max((d.hot_stop_c - temp_c) / (d.hot_stop_c - d.hot_c), 0.0) if temp_c > d.hot_c else 1.0
    cold = max((temp_c - d.cold_stop_c) / (d.cold_c - d.cold_stop_c), 0.0) if temp_c < d.cold_c else 1.0
    cold = min(cold, heat)
    out = min(gain, 1.0)
    into = out
    why_out = why_in = RESPONSE if gain < 1.0 else RATING
    if weak < out:
        out = weak
        why_out = TAPER
    if taper < into:
        into = taper
        why_in = TAPER
    if heat < out:
        out = heat
        why_out = TEMPERATURE
    if cold < into:
        into = cold
        why_in = TEMPERATURE
    return out, why_out, into, why_in


@kernel
def upper(
    energy_kwh: float, soc_floor_kwh: float, dod_floor_kwh: float, ceiling_kwh: float, soh_frac: float,
    discharge_kw: float, why: int, charge_kw: float, eta_charge: float, eta_discharge: float,
    depart_in_h: float, depart_kwh: float, horizon_h: float,
) -> tuple[float, int]:  # fmt: skip
    """hi_kw from energy, rating and the driver's wish, and the reason that binds.

    discharge_kw, charge_kw : what is left of the ratings; why : what took the rest of the first
    depart_in_h             : hours to the departure, 0 when it is past; infinite when unknown
    """
    hi = discharge_kw
    reason = why
    # The window and the DoD floor stop a discharge; neither forces a charge.
    per_h = eta_discharge / horizon_h
    window = max(energy_kwh - soc_floor_kwh, 0.0) * per_h
    # Both edges of the window scale with SoH: without ageing the same SoC would hold 1/SoH as much.
    aged_out = SOH if window >= discharge_kw * soh_frac else SOC
    if window < hi:
        hi = window
        reason = aged_out
    depth = max(energy_kwh - dod_floor_kwh, 0.0) * per_h
    if depth < hi:
        hi = depth
        reason = DOD
    # Energy that must be aboard at the end of the horizon, so that full charging still makes it in time.
    needed = min(depart_kwh, ceiling_kwh) - eta_charge * charge_kw * max(depart_in_h - horizon_h, 0.0)
    spare_kwh = energy_kwh - needed
    # A driver who leaves before the horizon ends needs what is missing by then, not by its end.
    leaving = spare_kwh < 0.0 and 0.0 < depart_in_h < horizon_h
    spare = spare_kwh / (depart_in_h if leaving else horizon_h)
    allowed = spare * eta_discharge if spare > 0.0 else spare / eta_charge
    if allowed < hi:
        hi = max(allowed, -charge_kw)
        reason = DEPARTURE
    return hi, reason


@kernel
def lower(
    energy_kwh: float, ceiling_kwh: float, soh_frac: float, charge_kw: float, why: int, eta_charge: float,
    horizon_h: float,
) -> tuple[float, int]:  # fmt: skip
    """lo_kw from energy and what is left of the rating, and the reason that binds."""
    room = max(ceiling_kwh - energy_kwh, 0.0) / (eta_charge * horizon_h)
    short = room < charge_kw
    full = SOH if room >= charge_kw * soh_frac else SOC
    return -(room if short else charge_kw), (full if short else why)


@kernel
def plan(
    energy_kwh: float, ceiling_kwh: float, charge_max_kw: float, eta_charge: float, depart_in_h: float,
    depart_kwh: float,
) -> float:  # fmt: skip
    """Even charging up to the departure: the power the vehicle would take if nobody asked [kW, <= 0]."""
    need = min(depart_kwh, ceiling_kwh) - energy_kwh
    even = min(need / (eta_charge * depart_in_h), charge_max_kw) if depart_in_h > 0.0 else charge_max_kw
    return -even if need > 0.0 else 0.0


@kernel
def aged(lo: float, hi: float, doing: float, age_s: float, fresh_s: float, stale_s: float) -> tuple[float, float]:
    """Bounds of a vehicle whose report is `age_s` old, drawn towards what it is predicted to be doing."""
    # Equal ages mean that nothing is held: the share is never asked for then.
    left = (stale_s - age_s) / max(stale_s - fresh_s, 1e-9)
    centre = min(max(doing, lo), hi)
    gone = age_s >= stale_s
    near_lo, near_hi = centre + (lo - centre) * left, centre + (hi - centre) * left
    return (doing if gone else near_lo), (doing if gone else near_hi)


@kernel
def wished(wish: int, lo: float, hi: float, t: float) -> tuple[float, float, float, bool, bool]:
    """Bounds and plan under the owner's wish, and which side of them it binds: (lo, hi, t, below, above)."""
    now, never, alone = wish == CHARGE_NOW, wish == NO_DISCHARGE, wish == LEAVE_ALONE
    t = lo if now else t
    top = t if (now or alone) else (min(hi, 0.0) if never else hi)
    bottom = t if alone else lo
    return bottom, top, t, bottom > lo, top < hi


class Scratch(NamedTuple):
    """One block of the fleet between two steps of `refresh`."""

    energy_kwh: Column  # float64[BLOCK]  aboard now
    doing_kw: Column  # what the charger is predicted to be doing
    out_kw: Column  # what is left of the ratings
    into_kw: Column
    depart_h: Column  # hours to the departure; infinite when unknown
    lo_kw: Column
    hi_kw: Column
    plan_kw: Column


BLOCK: Final = 2048


def scratch() -> Scratch:
    """Room for one block."""
    return Scratch(*(column(place, BLOCK, np.float64) for place in range(len(Scratch._fields))))


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
    usable, temp, gain = fleet.usable_kwh[a:b], fleet.temp_c[a:b], fleet.gain[a:b]
    charge, discharge = fleet.charge_max_kw[a:b], fleet.discharge_max_kw[a:b]
    why_up, why_down = fleet.own_up[a:b], fleet.own_down[a:b]
    energy, out_kw, into_kw = s.energy_kwh[: b - a], s.out_kw[: b - a], s.into_kw[: b - a]
    for i in range(energy.size):
        # An empty charger's battery of nothing gives no number, and a comparison with that takes nothing away.
        out, up, into, down = derated(energy[i] / usable[i], np.float64(temp[i]), np.float64(gain[i]), derating)
        out_kw[i] = discharge[i] * out
        into_kw[i] = charge[i] * into
        why_up[i] = up
        why_down[i] = down


@kernel
def _bound_up(fleet: Fleet, a: int, b: int, now_ns: int, horizon_h: float, s: Scratch) -> None:
    """The upper bound from energy and the driver's departure."""
    floor, dod_floor, ceiling = fleet.soc_floor_kwh[a:b], fleet.dod_floor_kwh[a:b], fleet.ceiling_kwh[a:b]
    soh, eta_c, eta_d = fleet.soh_frac[a:b], fleet.eta_charge[a:b], fleet.eta_discharge[a:b]
    depart_ns, depart_kwh, why_up = fleet.depart_ns[a:b], fleet.depart_kwh[a:b], fleet.own_up[a:b]
    energy, out_kw, into_kw = s.energy_kwh[: b - a], s.out_kw[: b - a], s.into_kw[: b - a]
    depart_h, hi = s.depart_h[: b - a], s.hi_kw[: b - a]
    for i in range(energy.size):
        left_h = max((depart_ns[i] - now_ns) / NS_PER_H, 0.0) if depart_ns[i] > 0 else np.inf
        bound, why = upper(
            energy[i], floor[i], dod_floor[i], ceiling[i], np.float64(soh[i]), out_kw[i], why_up[i], into_kw[i],
            np.float64(eta_c[i]), np.float64(eta_d[i]), left_h, depart_kwh[i], horizon_h,
        )  # fmt: skip
        depart_h[i] = left_h
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
def _spend(fleet: Fleet, a: int, b: int, horizon_h: float, s: Scratch) -> None:
    """The day's throughput; a battery too warm for its site follows its plan."""
    budget, moved = fleet.budget_kwh[a:b], fleet.moved_kwh[a:b]
    eta_c, eta_d, temp, warm = (
        fleet.eta_charge[a:b], fleet.eta_discharge[a:b], fleet.temp_c[a:b], fleet.warm_c[a:b]
    )  # fmt: skip
    why_up, why_down = fleet.own_up[a:b], fleet.own_down[a:b]
    lo, hi, t = s.lo_kw[: b - a], s.hi_kw[: b - a], s.plan_kw[: b - a]
    for i in range(lo.size):
        left = max(budget[i] - moved[i], 0.0) / horizon_h
        most = left * eta_d[i]
        # Charging for the driver goes on when the day is spent.
        least = min(-left / eta_c[i], t[i])
        apart = temp[i] > warm[i]
        why_up[i] = TEMPERATURE if apart else (THROUGHPUT if most < hi[i] else why_up[i])
        why_down[i] = TEMPERATURE if apart else (THROUGHPUT if least > lo[i] else why_down[i])
        hi[i] = t[i] if apart else max(min(hi[i], most), t[i])
        lo[i] = t[i] if apart else max(lo[i], least)


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
def _due(fleet: Fleet, a: int, b: int, now_ns: int, stale_ns: int) -> int:
    """When the first vehicle's bounds change by themselves [ns]."""
    why_up, report_ns, valid_ns = fleet.own_up[a:b], fleet.report_ns[a:b], fleet.valid_until_ns[a:b]
    wish, until_ns = fleet.wish[a:b], fleet.wish_until_ns[a:b]
    due_ns = NEVER
    for i in range(why_up.size):
        here = (why_up[i] != NO_VEHICLE) & (why_up[i] != FAULTY)
        expires = valid_ns[i] if now_ns < valid_ns[i] else NEVER
        lapses = until_ns[i] if (wish[i] > 0) & (now_ns < until_ns[i]) else NEVER
        ages = report_ns[i] + stale_ns
        soonest = expires if why_up[i] == STALE else ages
        soonest = lapses if lapses < soonest else soonest
        soonest = soonest if here else NEVER
        due_ns = soonest if soonest < due_ns else due_ns
    return due_ns


@kernel
def begin(fleet: Fleet, totals: Totals, segment: int, now_ns: int) -> None:
    """Sums of a segment from nothing; at midnight (UTC) its vehicles' throughput as well."""
    n = fleet.state.size
    day = now_ns // DAY_NS
    if totals.day[segment] != day:
        totals.day[segment] = day
        fleet.moved_kwh[segment * n // SEGMENTS : (segment + 1) * n // SEGMENTS] = 0.0
    totals.plan_kw[segment] = totals.stored_kwh[segment] = totals.window_kwh[segment] = 0.0
    totals.moved_kwh[segment] = totals.usable_kwh[segment] = 0.0
    totals.free_lo_kw[segment] = totals.free_hi_kw[segment] = 0.0
    totals.fresh[segment] = 0
    totals.refreshed_ns[segment] = now_ns
    totals.due_ns[segment] = NEVER


@kernel
def refresh(
    fleet: Fleet, totals: Totals, from_segment: int, to_segment: int, now_ns: int, ages: Ages, derating: Derating,
    means: Means, s: Scratch,
) -> None:  # fmt: skip
    """Renew free bounds, plan, slopes, reasons and sums of some segments of the fleet: from_segment .. to_segment - 1.

    Several at once, for a small fleet's segments are short and every loop costs its preparation.
    """
    n = fleet.state.size
    horizon_h, stale_ns = ages.horizon_s / 3600.0, round(ages.stale_s * 1e9)
    for segment in range(from_segment, to_segment):
        begin(fleet, totals, segment, now_ns)
    first, last = from_segment * n // SEGMENTS, to_segment * n // SEGMENTS
    segment = from_segment
    for a in range(first, last, BLOCK):
        b = min(a + BLOCK, last)
        _stand(fleet, a, b, now_ns, s)
        _rate(fleet, a, b, derating, s)
        _bound_up(fleet, a, b, now_ns, horizon_h, s)
        _bound_down(fleet, a, b, horizon_h, s)
        _spend(fleet, a, b, horizon_h, s)
        _wish(fleet, a, b, now_ns, s)
        _age(fleet, a, b, now_ns, ages, s)
        _blame(fleet, a, b, now_ns, ages)
        _lean(fleet, a, b, means, s)
        row = a
        while row < b:
            end = min((segment + 1) * n // SEGMENTS, b)
            _count(fleet, row, end, row - a, totals, segment, s)
            totals.due_ns[segment] = min(totals.due_ns[segment], _due(fleet, row, end, now_ns, stale_ns))
            row = end
            if row == (segment + 1) * n // SEGMENTS:
                segment += 1
