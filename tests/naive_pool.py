"""One battery under one product, step by step: slow, obvious, written from the words and not from the code."""

from __future__ import annotations

import math
from itertools import pairwise


def run(hz, nominal_hz, step_s, case, block_s):
    """Sums as a dict, energies in kWh at the grid."""
    hours = step_s / 3600.0
    low, high = case.soc_min_frac * case.energy_kwh, case.soc_max_frac * case.energy_kwh
    middle = (low + high) / 2.0
    stored = least = most = case.soc_frac * case.energy_kwh
    sums = dict.fromkeys(("asked_up", "asked_down", "given_up", "given_down", "short", "bought", "sold", "loss"), 0.0)
    moved = short_s = base_kw = lean = 0.0
    for k, value in enumerate(hz):
        if k % max(round(block_s / step_s), 1) == 0:
            base_kw = (stored - middle) / case.restore_h if case.restore_h else 0.0
            lean = 0.0 if high == low else max(-1.0, min(1.0, (stored - middle) / (high - low) / 0.05))
        asked_kw = 0.0 if math.isnan(value) else case.sold_kw * share(case.curve, float(value) - nominal_hz)
        led_kw = asked_kw
        if asked_kw * lean > 0.0:  # what is due helps: more of it
            led_kw = asked_kw * (1.0 + (case.overfulfil_max - 1.0) * abs(lean))
        power_kw = max(-case.down_kw, min(case.up_kw, base_kw + led_kw))
        if power_kw >= 0.0:
            drawn = min(power_kw * hours / case.eta_discharge_frac, stored - low)
            stored, given_kw = stored - drawn, drawn * case.eta_discharge_frac / hours
            moved += drawn
            sums["loss"] += drawn * (1.0 - case.eta_discharge_frac)
        else:
            fed = min(-power_kw * hours * case.eta_charge_frac, high - stored)
            stored, given_kw = stored + fed, -fed / case.eta_charge_frac / hours
            moved += fed
            sums["loss"] += fed / case.eta_charge_frac - fed
        response_kw = given_kw - base_kw
        sums["asked_up"] += max(asked_kw, 0.0) * hours
        sums["asked_down"] += max(-asked_kw, 0.0) * hours
        sums["given_up"] += max(response_kw, 0.0) * hours
        sums["given_down"] += max(-response_kw, 0.0) * hours
        sums["bought"] += max(-base_kw, 0.0) * hours
        sums["sold"] += max(base_kw, 0.0) * hours
        towards_kw = response_kw if asked_kw > 0.0 else -response_kw
        missing_kw = max(abs(asked_kw) - max(towards_kw, 0.0), 0.0)
        sums["short"] += missing_kw * hours
        short_s += step_s if missing_kw > 1e-9 * case.sold_kw else 0.0
        least, most = min(least, stored), max(most, stored)
    named = {f"{name}_kwh": value for name, value in sums.items()}
    full = case.energy_kwh
    return named | {
        "cycles": moved / 2.0 / full, "soc_min_frac": least / full, "soc_max_frac": most / full,
        "soc_last_frac": stored / full, "short_s": short_s,
    }  # fmt: skip


def share(curve, dev_hz):
    """Share of sold power at a deviation, on the straight lines between the curve's points."""
    if abs(dev_hz) < curve.deadband_hz:
        return 0.0
    points = list(zip(curve.x_hz, curve.y_frac, strict=True))
    if dev_hz <= points[0][0]:
        return points[0][1]
    for (x, y), (x2, y2) in pairwise(points):
        if x <= dev_hz < x2:
            return y + (y2 - y) * (dev_hz - x) / (x2 - x)
    return points[-1][1]
