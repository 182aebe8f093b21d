"""Great Britain, Dynamic Containment, Moderation and Regulation: steps, a sustained step, a ramp and sweeps, at 20 Hz.

Initiation, full delivery and sustained time are of NESO's page on the dynamic services; the knots are of the product's
curve (Response Service Terms, Table 1). Lengths of steps, the ramp and the sweeps are from memory: the operator's
testing guidance was not at hand. The error against the bounds is the product's own score.
"""

from __future__ import annotations

from typing import Final

from droop.products import Product
from settlement.prequalification import scored, steps
from settlement.prequalification.options import Options
from settlement.prequalification.plan import Part, Plan, hold, ramp, sine
from settlement.prequalification.recording import Played, Trace, shown
from settlement.prequalification.rows import Row, Rule

RATE_HZ: Final = 20.0
STEP_S: Final = 60.0
REST_S: Final = 60.0
RAMP_S: Final = 120.0
SWEEPS_S: Final = (60.0, 20.0, 10.0)
STEADY_PU: Final = 0.03
SETTLED_S: Final = 5.0  # what is slow at first is told by the steps
STARTED_PU: Final = 0.02
SUSTAIN_MOST_S: Final = 900.0
SOURCE: Final = "NESO, new dynamic services"
GUIDE: Final = "NESO, testing guidance for dynamic response"

START: Final = Rule("initiation", "response begins after a step", "s", "V", SOURCE)
FULL: Final = Rule("full delivery", "whole response after a step", "s", "V", SOURCE)
STEADY: Final = Rule("steady state", "error of the last half of a step", "of the power sold", "M", GUIDE)
SUSTAIN: Final = Rule("sustained", "least response while the step lasts", "of the power sold", "M", GUIDE)
BOUNDS: Final = Rule("performance", "score by the market's own bounds", "", "V2", "NESO, performance monitoring")


def plan(product: Product, options: Options) -> Plan:
    """Steps to every knot of the curve, a long one, a ramp and sines about the middle, each way the product has."""
    f0, parts = product.nominal_hz, []
    for up, way in ((True, "low"), (False, "high")):
        full_hz = steps.corner_hz(product, up)
        if full_hz == 0.0:
            continue
        knots = sorted((x for x in product.curve_hz if x * full_hz > 0 and steps.fraction(product, f0 + x)), key=abs)
        pieces, at, level = [hold(f0, REST_S)], {}, {}
        for k, knot in enumerate(knots):
            at[f"step {k}"] = sum(piece.length_s for piece in pieces)
            level[f"step {k}"] = f0 + knot
            pieces += [hold(f0 + knot, STEP_S), hold(f0, REST_S)]
        parts.append(Part(f"steps {way}", "a step to every knot of the curve", tuple(pieces), at, level))
        long_s = options.hold(min(product.sustain_min * 60.0, SUSTAIN_MOST_S))
        long = (hold(f0, REST_S), hold(f0 + full_hz, long_s), hold(f0, REST_S))
        at, level = {"long": REST_S, "end": REST_S + long_s}, {"long": f0 + full_hz}
        parts.append(Part(f"sustain {way}", "full response sustained", long, at, level))
        there = (hold(f0, 30.0), ramp(f0, f0 + full_hz, RAMP_S), ramp(f0 + full_hz, f0, RAMP_S), hold(f0, 30.0))
        parts.append(Part(f"ramp {way}", "a ramp to full response and back", there))
        middle = f0 + full_hz / 2
        swings = [sine(middle, full_hz / 4, period_s, 3) for period_s in SWEEPS_S]
        sweep = (hold(f0, 30.0), hold(middle, 30.0), *swings, hold(f0, 30.0))
        parts.append(Part(f"sweep {way}", "sines about half the deviation", sweep))
    return Plan(("neso_step",), f"{product.title}: steps, ramp, sweep", RATE_HZ, tuple(parts), "M", GUIDE)


def verdict(product: Product, played: Played, sold_kw: float, options: Options) -> list[Row]:
    """Rows of every part."""
    del options
    rows: list[Row] = []
    for part, cut in played:
        y = shown(cut, sold_kw)
        for name, step_s in part.at.items():
            if name.startswith("step"):
                rows += _step(product, part, y, name, step_s)
        if "long" in part.at:
            rows.append(_sustained(product, part, y))
        rows.append(scored.row(product, BOUNDS, part.name, cut, sold_kw, 1.0))
    return rows


def _step(product: Product, part: Part, y: Trace, name: str, step_s: float) -> list[Row]:
    share = steps.fraction(product, part.level[name])
    where, end_s = f"{part.name}, {part.level[name]:g} Hz", step_s + STEP_S
    rows = [STEADY.at_most(where, abs(y.mean(step_s + STEP_S / 2, end_s) - share), STEADY_PU)]
    if abs(share) < 1.0:
        return rows  # a first knot asks for too little to time its beginning
    rise = Trace(y.t_s, (y.y - y.mean(step_s - 10.0, step_s)) * share)
    rows.append(START.at_most(where, rise.first(STARTED_PU, step_s, end_s), product.delay_max_s))
    rows.append(FULL.at_most(where, rise.first(1.0 - STEADY_PU, step_s, end_s), product.full_s))
    return rows


def _sustained(product: Product, part: Part, y: Trace) -> Row:
    share = steps.fraction(product, part.level["long"])
    way = Trace(y.t_s, y.y * share)
    least = way.least(part.at["long"] + max(product.full_s, SETTLED_S), part.at["end"] - 0.1)
    return SUSTAIN.at_least(part.name, least, 1.0 - STEADY_PU)
