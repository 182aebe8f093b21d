"""What each vehicle may do until it is looked at again: its bounds by itself, and the reason for each.

Order of application (rulebook 9.1): ratings with their derating and the charger's gain, SoC window, depth of
discharge and the driver's energy, bypass of a warm battery, the owner's wish, the day's throughput, age of the report
and state of the session, the charger's ramp (`refresh`). Least power and the caps of a site come after, on top of
these (`minimum`, `folding`). Where they conflict: safety, then caps, then the driver's departure energy, then the
product. The bound in energy is for the horizon
until the next refresh, never for the product's endurance: bounding a tick by endurance starves delivery
(endurance limits what is sold).

Reports have three states. Fresh: full capability. Held: capability shrinks with age towards what the vehicle
is predicted to be doing. Older: lo = hi = that prediction, so it stays in the sum and counts as no capacity. A
charger that does not follow its commands counts with what it measures.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from droop.fleet import Wish
from droop.numerics import kernel
from droop.reasons import Reason
from droop.response import counted

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
RAMP: Final = int(Reason.RAMP)
NO_VEHICLE: Final = int(Reason.UNPLUGGED)
FAULTY: Final = int(Reason.FAULT)
CHARGE_NOW: Final = int(Wish.CHARGE_NOW)
NO_DISCHARGE: Final = int(Wish.NO_DISCHARGE)
LEAVE_ALONE: Final = int(Wish.LEAVE_ALONE)


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
def tapered(soc_frac: float, derating: Derating) -> float:
    """Share of the rating that charging has left at a state of charge; above 1 where it does not taper."""
    d = derating
    return d.taper_least_frac + (1.0 - d.taper_least_frac) * (1.0 - soc_frac) / (1.0 - d.taper_from_frac)


@kernel
def derated(
    soc_frac: float, temp_c: float, gain_up: float, gain_dn: float, derating: Derating
) -> tuple[float, int, float, int, float]:  # fmt: skip
    """Share of the rating that is left, and what took most of it: (discharging, reason, charging, reason).

    The last is the share that charging has left apart from its taper.

    temp_c           : NaN where unknown: then nothing is taken
    gain_up, gain_dn : what the charger delivers of what it is told, discharging and charging; above 1, and within the
                       meter's class, it counts as 1
    """
    d = derating
    weak = d.weak_least_frac + (1.0 - d.weak_least_frac) * soc_frac / d.weak_below_frac
    taper = tapered(soc_frac, d)
    heat = max((d.hot_stop_c - temp_c) / (d.hot_stop_c - d.hot_c), 0.0) if temp_c > d.hot_c else 1.0
    cold = max((temp_c - d.cold_stop_c) / (d.cold_c - d.cold_stop_c), 0.0) if temp_c < d.cold_c else 1.0
    cold = min(cold, heat)
    out = min(counted(gain_up), 1.0)
    into = min(counted(gain_dn), 1.0)
    flat = min(into, cold)
    why_out = RESPONSE if out < 1.0 else RATING
    why_in = RESPONSE if into < 1.0 else RATING
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
    return out, why_out, into, why_in, flat


@kernel
def needed_kwh(
    target_kwh: float, usable_kwh: float, kwh_per_h: float, left_h: float, derating: Derating
) -> float:  # fmt: skip
    """Least energy aboard from which charging, tapering as it does, reaches the target in `left_h` [kWh].

    kwh_per_h : what charging brings aboard before its taper

    Never too little, for time over energy is convex and energy over time concave: Simpson's rule takes the way
    through the taper for longer than it is, and the tangents at its beginning, middle and end lie above the curve.
    """
    slow_kwh = max(target_kwh - derating.taper_from_frac * usable_kwh, 0.0)
    last = min(tapered(target_kwh / usable_kwh, derating), 1.0)
    middle = 0.5 * (1.0 + last)
    brought_kwh = kwh_per_h * left_h
    # What would come without the taper in the time that its second half takes, and its first: from a share `a` down to
    # a share `b` Simpson's mean of 1 / share is (1/a + 8/(a + b) + 1/b) / 6, here with one division.
    late_kwh = slow_kwh / 12.0 * ((middle + last) ** 2 + 8.0 * middle * last) / (middle * last * (middle + last))
    early_kwh = slow_kwh / 12.0 * ((1.0 + middle) ** 2 + 8.0 * middle) / (middle * (1.0 + middle))
    at_last = target_kwh - last * brought_kwh
    at_middle = target_kwh - 0.5 * slow_kwh + middle * (late_kwh - brought_kwh)
    at_first = target_kwh - slow_kwh + late_kwh + early_kwh - brought_kwh
    return min(min(at_last, at_middle), at_first)


@kernel
def upper(
    energy_kwh: float, soc_floor_kwh: float, dod_floor_kwh: float, soh_frac: float, discharge_kw: float, why: int,
    charge_kw: float, eta_charge: float, eta_discharge: float, depart_in_h: float, needed_kwh: float, horizon_h: float,
) -> tuple[float, int]:  # fmt: skip
    """hi_kw from energy, rating and the driver's wish, and the reason that binds.

    discharge_kw, charge_kw : what is left of the ratings; why : what took the rest of the first
    depart_in_h             : hours to the departure, 0 when it is past; infinite when unknown
    needed_kwh              : what must be aboard at the end of the horizon, so that full charging still makes it
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
    spare_kwh = energy_kwh - needed_kwh
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


@kernel
def ramped(
    lo: float, hi: float, doing: float, reach: float, least_up: float, least_dn: float
) -> tuple[float, float]:  # fmt: skip
    """Bounds within what a charger can change from what it does until it is looked at again.

    A bound that lies further off than that (a full battery) is not lifted: the command goes there, and the charger
    follows as fast as it can. Between nothing and its least power it steps: no ramp leads through there.
    """
    top, bottom = doing + reach, doing - reach
    top = max(top, 0.0) if top > -least_dn else top
    top = max(top, least_up) if doing > -least_dn else top
    bottom = min(bottom, 0.0) if bottom < least_up else bottom
    bottom = min(bottom, -least_dn) if doing < least_up else bottom
    return min(max(bottom, lo), hi), min(max(top, lo), hi)
