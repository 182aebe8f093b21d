"""What each vehicle may do until it is looked at again: lo_kw, hi_kw, and the reason for each.

Order of application (rulebook 9.1): session state, report age, driver's energy, SoC window and depth of
discharge on the capacity that is left, ratings. Where they conflict: safety, then the driver's departure
energy, then the product. The bound in energy is for the horizon until the next refresh, never for the
product's endurance: bounding a tick by endurance starves delivery (endurance limits what is sold).

Reports have three states. Fresh: full capability. Held: capability shrinks with age towards what the vehicle
is predicted to be doing. Older: lo = hi = that prediction, so it stays in the sum and counts as no capacity.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from droop.energy import NS_PER_H, standing_kwh
from droop.fleet import PLUGGED, SEGMENTS, UNPLUGGED, Fleet, Totals
from droop.numerics import kernel
from droop.reasons import Reason
from droop.weights import LEAST, lean

RATING: Final = int(Reason.RATING)
SOC: Final = int(Reason.SOC)
SOH: Final = int(Reason.SOH)
DOD: Final = int(Reason.DOD)
DEPARTURE: Final = int(Reason.DEPARTURE)
STALE: Final = int(Reason.STALE)
HELD: Final = int(Reason.HELD)
NEVER: Final = np.iinfo(np.int64).max
NO_VEHICLE: Final = int(Reason.UNPLUGGED)
FAULTY: Final = int(Reason.FAULT)


class Ages(NamedTuple):
    """Times that shape the bounds.

    fresh_s, stale_s : age of a report up to which capability is full, and from which it is none [s]
    horizon_s        : time the energy bounds must last: the refresh period and a report's delay [s]
    """

    fresh_s: float = 3.0
    stale_s: float = 5.0
    horizon_s: float = 2.0


# Functions of one vehicle take its numbers, never the fleet: a fleet passed per vehicle costs a reference count
# per column, a hundred times the arithmetic.


@kernel
def upper(
    energy_kwh: float, soc_floor_kwh: float, dod_floor_kwh: float, ceiling_kwh: float, soh_frac: float,
    discharge_max_kw: float, charge_max_kw: float, eta_charge: float, eta_discharge: float,
    depart_in_h: float, depart_kwh: float, horizon_h: float,
) -> tuple[float, int]:  # fmt: skip
    """hi_kw from energy, rating and the driver's wish, and the reason that binds.

    depart_in_h : hours to the departure, 0 when it is past; infinite when unknown
    """
    hi = discharge_max_kw
    reason = RATING
    # Energies are compared before they are divided: most vehicles are bound by their rating, and divisions cost
    # more than all the rest. The window and the DoD floor stop a discharge; neither forces a charge.
    window_kwh = max(energy_kwh - soc_floor_kwh, 0.0) * eta_discharge
    if window_kwh < hi * horizon_h:
        hi = window_kwh / horizon_h
        # Both edges of the window scale with SoH: without ageing the same SoC would hold 1/SoH as much.
        reason = SOH if hi >= discharge_max_kw * soh_frac else SOC
    depth_kwh = max(energy_kwh - dod_floor_kwh, 0.0) * eta_discharge
    if depth_kwh < hi * horizon_h:
        hi = depth_kwh / horizon_h
        reason = DOD
    if depart_in_h < np.inf:
        # Energy that must be aboard at the end of the horizon, so that full charging still makes it in time.
        needed = min(depart_kwh, ceiling_kwh) - eta_charge * charge_max_kw * max(depart_in_h - horizon_h, 0.0)
        spare_kwh = energy_kwh - needed
        if spare_kwh * eta_discharge < hi * horizon_h:
            # A driver who leaves before the horizon ends needs what is missing by then, not by its end.
            leaving = spare_kwh < 0.0 and 0.0 < depart_in_h < horizon_h
            spare = spare_kwh / (depart_in_h if leaving else horizon_h)
            allowed = spare * eta_discharge if spare > 0.0 else spare / eta_charge
            if allowed < hi:
                hi = max(allowed, -charge_max_kw)
                reason = DEPARTURE
    return hi, reason


@kernel
def lower(
    energy_kwh: float, ceiling_kwh: float, soh_frac: float, charge_max_kw: float, eta_charge: float, horizon_h: float
) -> tuple[float, int]:  # fmt: skip
    """lo_kw from energy and rating, and the reason that binds."""
    room_kwh = max(ceiling_kwh - energy_kwh, 0.0)
    if room_kwh < charge_max_kw * eta_charge * horizon_h:
        room = room_kwh / (eta_charge * horizon_h)
        return -room, SOH if room >= charge_max_kw * soh_frac else SOC
    return -charge_max_kw, RATING


@kernel
def plan(
    energy_kwh: float, ceiling_kwh: float, charge_max_kw: float, eta_charge: float, depart_in_h: float,
    depart_kwh: float,
) -> float:  # fmt: skip
    """Even charging up to the departure: the power the vehicle would take if nobody asked [kW, <= 0]."""
    need = min(depart_kwh, ceiling_kwh) - energy_kwh
    if need <= 0.0 or depart_in_h == np.inf:
        return 0.0
    if depart_in_h <= 0.0:
        return -charge_max_kw
    return -min(need / (eta_charge * depart_in_h), charge_max_kw)


@kernel
def aged(lo: float, hi: float, doing: float, age_s: float, fresh_s: float, stale_s: float) -> tuple[float, float]:
    """Bounds of a vehicle whose report is `age_s` old, drawn towards what it is predicted to be doing."""
    if age_s >= stale_s:
        return doing, doing
    share = (stale_s - age_s) / (stale_s - fresh_s)
    centre = min(max(doing, lo), hi)
    return centre + (lo - centre) * share, centre + (hi - centre) * share


@kernel
def refresh(fleet: Fleet, totals: Totals, segment: int, now_ns: int, ages: Ages, mean_fill: float) -> None:
    """Renew bounds, plan, slopes and sums of one segment of the fleet."""
    n = fleet.state.size
    first, last = segment * n // SEGMENTS, (segment + 1) * n // SEGMENTS
    # Slices first: an index that the compiler cannot prove positive costs a check at every access.
    state, usable_kwh, soh = fleet.state[first:last], fleet.usable_kwh[first:last], fleet.soh_frac[first:last]
    soc_floor, ceiling = fleet.soc_floor_kwh[first:last], fleet.ceiling_kwh[first:last]
    dod_floor, charge = fleet.dod_floor_kwh[first:last], fleet.charge_max_kw[first:last]
    discharge, eta_charge = fleet.discharge_max_kw[first:last], fleet.eta_charge[first:last]
    eta_discharge, safe_kw = fleet.eta_discharge[first:last], fleet.safe_kw[first:last]
    depart_ns, depart_kwh = fleet.depart_ns[first:last], fleet.depart_kwh[first:last]
    report_ns, energy_kwh = fleet.report_ns[first:last], fleet.energy_kwh[first:last]
    energy_ns, plan_kw = fleet.energy_ns[first:last], fleet.plan_kw[first:last]
    lo_kw, hi_kw = fleet.lo_kw[first:last], fleet.hi_kw[first:last]
    slope_up, slope_dn = fleet.slope_up[first:last], fleet.slope_dn[first:last]
    reason_up, reason_down = fleet.reason_up[first:last], fleet.reason_down[first:last]
    command_kw, valid_until_ns = fleet.command_kw[first:last], fleet.valid_until_ns[first:last]
    lost_up, lost_down = totals.lost_up[segment], totals.lost_down[segment]
    fresh_s, stale_s, horizon_h = ages.fresh_s, ages.stale_s, ages.horizon_s / 3600.0

    lost_up[:] = 0.0
    lost_down[:] = 0.0
    lo_sum = hi_sum = plan_sum = stored = window = 0.0
    fresh = 0
    due_ns = NEVER
    stale_ns = round(stale_s * 1e9)
    for i in range(state.size):
        if state[i] != PLUGGED:
            why = NO_VEHICLE if state[i] == UNPLUGGED else FAULTY
            lo_kw[i] = hi_kw[i] = plan_kw[i] = 0.0
            slope_up[i] = slope_dn[i] = LEAST
            reason_up[i] = reason_down[i] = why
            if why == FAULTY:
                lost_up[why] += discharge[i]
                lost_down[why] += charge[i]
            continue
        doing = command_kw[i] if now_ns < valid_until_ns[i] else safe_kw[i]
        energy = standing_kwh(
            energy_kwh[i], energy_ns[i], now_ns, command_kw[i], valid_until_ns[i], safe_kw[i], eta_charge[i],
            eta_discharge[i], usable_kwh[i],
        )  # fmt: skip
        depart_in_h = max((depart_ns[i] - now_ns) / NS_PER_H, 0.0) if depart_ns[i] > 0 else np.inf
        hi, why_up = upper(
            energy, soc_floor[i], dod_floor[i], ceiling[i], soh[i], discharge[i], charge[i], eta_charge[i],
            eta_discharge[i], depart_in_h, depart_kwh[i], horizon_h,
        )  # fmt: skip
        lo, why_down = lower(energy, ceiling[i], soh[i], charge[i], eta_charge[i], horizon_h)
        # A full battery is safety and comes before the driver's wish for more.
        hi = max(hi, lo)
        age_s = (now_ns - report_ns[i]) / 1e9
        if age_s > fresh_s:
            lo, hi = aged(lo, hi, doing, age_s, fresh_s, stale_s)
            why_up = why_down = STALE if age_s >= stale_s else HELD
        t = min(max(plan(energy, ceiling[i], charge[i], eta_charge[i], depart_in_h, depart_kwh[i]), lo), hi)
        span = ceiling[i] - soc_floor[i]
        held = min(max(energy - soc_floor[i], 0.0), span)
        up, down = lean(held / span if span > 0.0 else mean_fill, mean_fill)
        lo_kw[i] = lo
        hi_kw[i] = hi
        plan_kw[i] = t
        # The slope is taken from the float32 numbers the split sees, so that it reaches the bound inside the
        # multiplier's bracket.
        slope_up[i] = max((hi_kw[i] - plan_kw[i]) * up, LEAST)
        slope_dn[i] = max((plan_kw[i] - lo_kw[i]) * down, LEAST)
        reason_up[i] = why_up
        reason_down[i] = why_down
        lo_sum += lo_kw[i]
        hi_sum += hi_kw[i]
        plan_sum += plan_kw[i]
        # From the float32 bounds as well: then what was lost explains a shortfall to the last digit.
        lost_up[why_up] += max(discharge[i] - hi_kw[i], 0.0)
        lost_down[why_down] += max(lo_kw[i] + charge[i], 0.0)
        if why_up == STALE:
            due_ns = min(due_ns, valid_until_ns[i] if now_ns < valid_until_ns[i] else NEVER)
        else:
            due_ns = min(due_ns, report_ns[i] + stale_ns)
            fresh += 1
            stored += held
            window += span
    totals.lo_kw[segment] = lo_sum
    totals.hi_kw[segment] = hi_sum
    totals.plan_kw[segment] = plan_sum
    totals.stored_kwh[segment] = stored
    totals.window_kwh[segment] = window
    totals.fresh[segment] = fresh
    totals.refreshed_ns[segment] = now_ns
    totals.due_ns[segment] = due_ns


@kernel
def refresh_due(fleet: Fleet, totals: Totals, now_ns: int, period_ns: int, ages: Ages) -> int:
    """Refresh the segments whose time has come; return how many.

    The first refresh is of all of them, and staggers the later ones over the period.
    """
    window = totals.window_kwh.sum()
    mean_fill = totals.stored_kwh.sum() / window if window > 0.0 else 0.5
    done = 0
    for segment in range(SEGMENTS):
        never = totals.refreshed_ns[segment] == 0
        # A report that turns stale, and a silent charger that falls back to its safe profile, do not wait.
        waited = now_ns - totals.refreshed_ns[segment] >= period_ns or now_ns >= totals.due_ns[segment]
        if never or waited:
            refresh(fleet, totals, segment, now_ns, ages, mean_fill)
            done += 1
            if never:
                totals.refreshed_ns[segment] = now_ns - segment * period_ns // SEGMENTS
    return done
