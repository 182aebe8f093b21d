"""Fast reserves at a trigger: the frequency drops, all of it must be there at once, stay, and be ready again.

Nordic FFR (Fingrid, Svenska kraftnät): full activation 1.3, 1.0 or 0.7 s after 49.7, 49.6 or 49.5 Hz, support of 5 or
30 s, ready again within 15 minutes. How much more than the capacity may come, how fast the short variant may let go and
when it may recover are from memory. Any product with a trigger is tested so, by its own figures.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from droop.products import Product
from droop.promises import Trigger
from settlement.prequalification.options import Options
from settlement.prequalification.plan import Part, Plan, PrequalificationError, hold
from settlement.prequalification.recording import Played, Trace, shown
from settlement.prequalification.rows import Row, Rule

RATE_HZ: Final = 10.0
READY_S: Final = 900.0
MISS_HZ: Final = 0.05
PASS_HZ: Final = 0.01
NEAR_HZ: Final = 0.02  # below nominal while recovering: no answer is due, and no release is hurried
QUIET_PU: Final = 0.02
FULL_PU: Final = 0.99  # of the capacity: what a meter can tell from all of it
OVER_PU: Final = 1.35
RECOVER_AFTER_S: Final = 10.0
RECOVER_PU: Final = 0.25
SOURCE: Final = "Fingrid and Svenska kraftnät, FFR"

MISS: Final = Rule("no trigger", "response to a dip that stays short of the trigger", "of the capacity", "V", SOURCE)
FULL: Final = Rule("full activation", "whole capacity after the trigger", "s", "V", SOURCE)
SUPPORT: Final = Rule("support", "whole capacity without a break", "s", "V", SOURCE)
OVER: Final = Rule("over-delivery", "largest response", "of the capacity", "M", SOURCE)
FALL_RATE: Final = Rule("release rate", "fastest release as a mean over 1 s", "of the capacity/s", "M", SOURCE)
FALL_STEP: Final = Rule("release step", "largest step of the release", "of the capacity", "M", SOURCE)
WAIT: Final = Rule("recovery wait", "time from release to recovery", "s", "M", SOURCE)
RECOVERY: Final = Rule("recovery", "largest power of the recovery", "of the capacity", "M", SOURCE)
READY: Final = Rule("ready", "whole capacity at a second trigger", "s", "V", SOURCE)


def trigger_of(product: Product) -> Trigger:
    """Raises PrequalificationError for a product without a trigger."""
    if product.trigger is None:
        raise PrequalificationError(f"{product.id}: the test needs a field `trigger`; the product has none")
    return product.trigger


def plan(product: Product, options: Options) -> Plan:
    """A dip that misses the trigger, one that passes it, and a second one as soon as the product must be ready."""
    trigger, f0 = trigger_of(product), product.nominal_hz
    sign = 1.0 if trigger.hz > f0 else -1.0
    missed, passed, near = trigger.hz - sign * MISS_HZ, trigger.hz + sign * PASS_HZ, f0 + sign * NEAR_HZ
    ready_s = options.hold(trigger.ready_s or READY_S)
    dip_s = max(2.0, trigger.after_s + product.full_s + 0.5)
    pieces = [hold(f0, 60.0), hold(missed, 10.0), hold(f0, 50.0)]
    # The support's own time runs on while the frequency is back, and readiness may count from the end of the release.
    fall_s = 1.0 / trigger.fall_pu_s if math.isfinite(trigger.fall_pu_s) else 0.0
    again_s = trigger.after_s + product.full_s + max(dip_s, trigger.hold_s) + fall_s + ready_s
    at = {"miss": 60.0, "missed": 70.0, "first": 120.0, "second": 120.0 + math.ceil(again_s)}
    pieces += [hold(passed, dip_s), hold(near, at["second"] - 120.0 - dip_s)]
    pieces += [hold(passed, dip_s), hold(near, max(trigger.hold_s, 30.0) + 60.0)]
    at["done"] = sum(piece.length_s for piece in pieces)
    part = Part("drop", "a dip that misses the trigger, and two that pass it", tuple(pieces), at)
    return Plan(("ffr_drop",), "fast reserve: drop through the trigger", RATE_HZ, (part,), "V2", SOURCE)


def verdict(product: Product, played: Played, sold_kw: float, options: Options) -> list[Row]:
    """Rows of the test."""
    del options
    trigger = trigger_of(product)
    rows: list[Row] = []
    for part, cut in played:
        raw = shown(cut, -sold_kw if trigger.hz > product.nominal_hz else sold_kw)
        y = Trace(raw.t_s, raw.y - raw.mean(50.0, 60.0))
        rows += _rows(product, trigger, part, y)
    return rows


def _rows(product: Product, trigger: Trigger, part: Part, y: Trace) -> list[Row]:
    at = part.at
    first_s, second_s = at["first"], at["second"]
    limit_s = trigger.after_s + product.full_s
    full_s = y.first(FULL_PU, first_s, second_s)
    support_s = _support_s(y, first_s + full_s, second_s) if math.isfinite(full_s) else float("nan")
    return [
        MISS.at_most("dip short of the trigger", float(np.abs(y.between(at["miss"], first_s)).max()), QUIET_PU),
        FULL.at_most("first drop", full_s, limit_s),
        SUPPORT.at_least("first drop", support_s, trigger.hold_s),
        OVER.at_most("first drop", y.most(first_s, second_s), OVER_PU),
        *_release(trigger, y, first_s + full_s + support_s, second_s),
        READY.at_most("second drop", y.first(FULL_PU, second_s, at["done"]), limit_s),
    ]


def _support_s(y: Trace, start_s: float, end_s: float) -> float:
    """How long the whole capacity stays without a break."""
    inside = (y.t_s >= start_s - 1e-6) & (y.t_s <= end_s)
    t_s, short = y.t_s[inside], y.y[inside] < FULL_PU
    return float((t_s[short][0] if short.any() else t_s[-1]) - start_s) if t_s.size else float("nan")


def _release(trigger: Trigger, y: Trace, start_s: float, end_s: float) -> list[Row]:
    """How it lets go, where the variant is bound in that, and how it takes back what it gave."""
    if not math.isfinite(start_s):
        return [rule.at_most("release", float("nan"), 0.0) for rule in (FALL_RATE, FALL_STEP)]
    inside = y.between(start_s - 0.2, end_s)
    rows = []
    if math.isfinite(trigger.fall_pu_s):
        t_s = y.t_s[(y.t_s >= start_s - 1.0) & (y.t_s + 1.0 <= end_s)]
        fall = np.interp(t_s, y.t_s, y.y) - np.interp(t_s + 1.0, y.t_s, y.y)
        rows.append(FALL_RATE.at_most("release", float(fall.max(initial=0.0)), trigger.fall_pu_s))
    else:
        rows.append(FALL_RATE.not_applicable("release", "this variant may let go at once"))
    if trigger.fall_step_pu < 1.0:
        step = float((inside[:-1] - inside[1:]).max(initial=0.0))
        rows.append(FALL_STEP.at_most("release", step, trigger.fall_step_pu))
    gone_s = Trace(y.t_s, -y.y).first(-QUIET_PU, start_s, end_s)
    taking_s = Trace(y.t_s, -y.y).first(QUIET_PU, start_s, end_s)
    if math.isinf(taking_s):
        rows.append(WAIT.not_applicable("recovery", "nothing was taken back while recorded"))
        return rows
    rows.append(WAIT.at_least("recovery", taking_s - gone_s, RECOVER_AFTER_S))
    rows.append(RECOVERY.at_most("recovery", -y.least(start_s, end_s), RECOVER_PU))
    return rows
