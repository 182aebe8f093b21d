"""Static FCR-D: on at a threshold, slow to let go. Requirements 5 to 7, and 11 for what comes in steps.

Nordic TSOs, Technical requirements for FCR, 28 March 2025: activation within 7.5 s as for dynamic FCR-D (Req. 2, 3),
a delay of at most 2.5 s and at most 20 % too much (5), no release before the frequency was back above 49.9 Hz for 60
s without a break (6), at most 2.5 % of the capacity a second as a mean over 10 s and no step above 20 % (7), a pause
while the frequency is at 49.8 Hz or below, ready again 15 minutes after those 60 s. Step-wise resources: a steady
response within -5 % and +10 % of the line, as a mean over 10 s between 60 and 120 s after each step (11).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from droop.products import Product
from settlement.prequalification.figures import Figures
from settlement.prequalification.nordic import JUDGED_S, PROGRAM, RATE_D_HZ, REQUIREMENTS, mirrored, upwards
from settlement.prequalification.nordic_time import (
    BEFORE_S,
    FALL_PU,
    K_LEAST_D,
    REQ_1,
    REQ_2,
    REQ_2_KEPT,
    REQ_3,
    Limits,
    least_k,
    limits_of,
    reduction,
)
from settlement.prequalification.options import Options
from settlement.prequalification.plan import Part, Plan, hold, moved, until
from settlement.prequalification.recording import Played, Trace
from settlement.prequalification.rows import Row, Rule

STEADY: Final = (-0.05, 0.10)
RELEASE_S: Final = 60.0
READY_S: Final = 900.0
REST_S: Final = 1080.0  # let go, and ready again: what is played next finds all of it
STEPS_LEAST: Final = 7
K_DYN_LEAST: Final = 0.84
STEP_HOLD_S: Final = 125.0
STEP_AWAY_HZ: Final = 0.001
STARTED_PU: Final = 0.02

REQ_5A: Final = Rule("Req. 5a", "largest response", "of Pth", "V", REQUIREMENTS)
REQ_5B: Final = Rule("Req. 5b", "delay from the start of the ramp", "s", "V", REQUIREMENTS)
REQ_6: Final = Rule("Req. 6", "frequency back without a break before release", "s", "V", REQUIREMENTS)
PAUSE: Final = Rule("Req. 6, pause", "fall while the frequency is beyond the pause", "of Pth", "V", REQUIREMENTS)
REQ_7_RATE: Final = Rule("Req. 7, rate", "fastest release as a mean over 10 s", "of Pth/s", "V", REQUIREMENTS)
REQ_7_STEP: Final = Rule("Req. 7, step", "largest single step of the release", "of Pth", "V", REQUIREMENTS)
K_DYN: Final = Rule("K_dyn", "dynamic part of the reduction factor", "", "V", REQUIREMENTS)
READY: Final = Rule("ready", "second activation 15 min after release was allowed", "of Pth", "V", REQUIREMENTS)
REQ_11: Final = Rule("Req. 11", "distance of the step-wise response from the line", "of Pth", "V", REQUIREMENTS)
COUNT: Final = Rule("Req. 11, steps", "steps of a step-wise resource", "steps", "V", REQUIREMENTS)


def plan(product: Product, options: Options) -> Plan:
    """Activation, release with a break and a pause, a second activation; for step-wise resources the staircase too."""
    del options
    parts = [_release()]
    if _thresholds_hz(product):
        parts.append(_staircase(product))
    title = "static FCR-D, Nordic: activation and release"
    # The requirements are the document's; the order in which one test shows them all is ours.
    return Plan(("nordic_static",), title, RATE_D_HZ, mirrored(product, parts), "V2", PROGRAM)


def _release() -> Part:
    at = {"ramp": 60.0, "back": 120.0, "dip": 165.0, "allowed": 170.0 + RELEASE_S, "pause": 240.0, "go on": 260.0}
    at["again"] = at["allowed"] + READY_S
    pieces = [hold(49.95, 30.0), hold(49.9, 30.0), moved(49.9, 49.0, 0.24)]
    pieces += [until(pieces, 49.0, at["back"]), hold(49.95, 45.0), hold(49.88, 5.0)]
    pieces += [until(pieces, 49.95, at["pause"]), hold(49.79, 20.0)]
    pieces += [until(pieces, 49.95, at["again"] - 30.0), hold(49.9, 30.0), moved(49.9, 49.0, 0.24)]
    pieces += [until(pieces, 49.0, at["again"] + 60.0), hold(49.95, REST_S)]
    at["done"] = sum(piece.length_s for piece in pieces)
    return Part("static", "activation, release, second activation", tuple(pieces), at, {}, "Req. 1 to 3, 5 to 7")


def _thresholds_hz(product: Product) -> tuple[float, ...]:
    """Where a step-wise resource's steps lie; none: it does not come in steps."""
    return () if product.trigger is None else product.trigger.steps_hz


def _staircase(product: Product) -> Part:
    """Before and behind every threshold: there the distance from the line is largest."""
    turn = 100.0 if product.direction == "down" else 0.0
    places = sorted((abs(turn - hz) for hz in _thresholds_hz(product)), reverse=True)
    levels = [place for hz in places for place in (hz + STEP_AWAY_HZ, hz - STEP_AWAY_HZ)]
    pieces = [hold(49.95, 30.0), *(hold(level, STEP_HOLD_S) for level in levels), hold(49.95, 600.0)]
    at = {f"step {k}": 30.0 + k * STEP_HOLD_S for k in range(len(levels))}
    level = {f"step {k}": hz for k, hz in enumerate(levels)}
    return Part("staircase", "before and behind each threshold", tuple(pieces), at, level, "Req. 11")


def verdict(product: Product, played: Played, sold_kw: float, options: Options) -> list[Row]:
    """Rows of every part."""
    del options
    limits, rows = limits_of(product, K_LEAST_D), []
    for part, cut in played:
        p = upwards(product, cut, sold_kw)
        rows += _released(product, part, p, limits) if part.name == "static" else _stairs(product, part, p)
    return rows


def _released(product: Product, part: Part, p: Trace, limits: Limits) -> list[Row]:
    at, figures = part.at, Figures(product)
    before = p.mean(at["ramp"] - BEFORE_S, at["ramp"])
    risen = Trace(p.t_s, p.y - before)
    on_s, back_s, allowed_s = at["ramp"], at["back"], at["allowed"]
    reached, energy_s = risen.at(on_s + JUDGED_S), risen.integral(on_s, on_s + JUDGED_S)
    steady = risen.mean(back_s - 30.0, back_s)
    again = Trace(p.t_s, p.y - p.mean(at["again"] - BEFORE_S, at["again"]))
    return [
        REQ_1.within("activation", steady - 1.0, *STEADY),
        REQ_2.at_least("activation", reached, limits.reached_pu),
        REQ_2_KEPT.at_least("activation", risen.least(on_s + JUDGED_S, back_s) - reached, -FALL_PU),
        REQ_3.at_least("activation", energy_s, limits.energy_s),
        REQ_5A.at_most("activation", risen.most(on_s, allowed_s), 1.0 + figures.number("overshoot_max", 0.2)),
        REQ_5B.at_most("activation", risen.first(STARTED_PU, on_s, back_s), figures.number("delay_max_s", 2.5)),
        _held_on(risen, at, steady),
        _paused(risen, at),
        REQ_7_RATE.at_most("release", _fastest(risen, back_s, at["again"]), 0.025),
        REQ_7_STEP.at_most("release", _largest_step(risen, back_s, at["again"]), 0.2),
        READY.at_least("second activation", again.at(at["again"] + JUDGED_S), limits.reached_pu),
        K_DYN.at_least("activation", _k_dyn(reached, energy_s, limits), figures.number("k_dyn_min", K_DYN_LEAST)),
        reduction(least_k(steady, reached, energy_s, limits), limits),
    ]


def _k_dyn(reached: float, energy_s: float, limits: Limits) -> float:
    return min(1.0, reached / limits.reached_pu, energy_s / limits.energy_s)


def _held_on(p: Trace, at: Mapping[str, float], steady: float) -> Row:
    """How long the frequency had been back, without a break, when the response first fell."""
    fell = (p.t_s > at["back"] + 1e-6) & (p.t_s < at["again"]) & (p.y < steady - FALL_PU)
    if not fell.any():
        return REQ_6.not_applicable("release", "it never let go")
    fell_s = float(p.t_s[fell][0])
    back_s = at["back"] if fell_s <= at["dip"] else at["allowed"] - RELEASE_S
    return REQ_6.at_least("release", max(fell_s - back_s, 0.0), RELEASE_S)


def _paused(p: Trace, at: Mapping[str, float]) -> Row:
    """What was let go while the frequency stood beyond the pause; its first 2 s belong to the delay."""
    y = p.between(at["pause"] + 2.0, at["go on"])
    fall = float((np.maximum.accumulate(y) - y).max()) if y.size else float("nan")
    return PAUSE.at_most("release", fall, FALL_PU)


def _fastest(p: Trace, start_s: float, end_s: float) -> float:
    """Fastest fall, as the mean rate over 10 s [1/s]."""
    inside = (p.t_s >= start_s) & (p.t_s + 10.0 <= end_s)
    later = np.interp(p.t_s[inside] + 10.0, p.t_s, p.y)
    return float(((p.y[inside] - later) / 10.0).max()) if inside.any() else float("nan")


def _largest_step(p: Trace, start_s: float, end_s: float) -> float:
    y = p.between(start_s, end_s)
    return float((y[:-1] - y[1:]).max()) if y.size > 1 else float("nan")


def _stairs(product: Product, part: Part, p: Trace) -> list[Row]:
    """Distance from the line FCR-D up has between 49.9 and 49.5 Hz, behind and before every threshold."""
    smooth, rest = p.smoothed(10.0), p.mean(0.0, 30.0)
    rows = [
        COUNT.at_least(
            "staircase", float(len(_thresholds_hz(product))), Figures(product).number("steps_min", STEPS_LEAST)
        )
    ]
    for name, start_s in part.at.items():
        line = min(max((49.9 - part.level[name]) / 0.4, 0.0), 1.0)
        away = smooth.between(start_s + 60.0, start_s + 110.0) - rest - line
        worst = float(away[np.abs(away).argmax()]) if away.size else float("nan")
        rows.append(REQ_11.within(f"{part.level[name]:.3f} Hz", worst, *STEADY))
    return rows
