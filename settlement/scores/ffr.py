"""Fast reserves that are all or nothing: full in time, held, not too much, and let go gently.

Nordic FFR (rulebook 3.8): full activation after 1.3, 1.0 or 0.7 s, support of 5 or 30 s (mark V); over-delivery up to
35 %, deactivation of the short variant at most 20 %/s and in no step above 20 %, recovery not before 10 s after it and
at most 25 % of the capacity (mark M). ERCOT's RRS-FFR and the British static reserve are judged alike with their own
figures, which a product's trigger, activation time and table `score` carry.

The score is the share of the support that was given in full; `adequate` holds every criterion. A cell whose delivery
is unknown did not support. An interval in which the trigger was not passed has no score.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.scores.rolling import first_of_runs
from settlement.scores.rule import (
    ROUNDING,
    Delivery,
    Kpis,
    Params,
    Reach,
    Rule,
    ScoreError,
    Verdict,
    cells,
    coarse,
    sign,
)  # fmt: skip

STEP_S: Final = 0.1
TOLERANCE_PU: Final = 0.05  # meter and rounding, mark M
OVER_MAX: Final = 0.35  # mark M
RECOVERY_MAX: Final = 0.25  # mark M
RECOVERY_AFTER_S: Final = 10.0  # mark M
FALL_WINDOW_S: Final = 1.0


class Demand(NamedTuple):
    """What an activation must keep to; rates and shares in units of the capacity."""

    full_s: float
    hold_s: float
    tolerance_pu: float = TOLERANCE_PU
    over_max: float = OVER_MAX
    fall_pu_s: float = math.inf
    fall_step_pu: float = 1.0
    recovery_max: float = RECOVERY_MAX
    recovery_after_s: float = RECOVERY_AFTER_S


class Activation(NamedTuple):
    """One activation, as measured."""

    full_after_s: float | None  # None: never full
    held_frac: float  # share of the support given in full
    over_frac: float  # beyond the capacity
    fall_pu_s: float  # fastest decrease over a second, after the support
    fall_step_pu: float
    recovery_pu: float  # strongest power the other way
    recovery_early: bool
    adequate: bool


def activations(passed: Bools, after: int, rest: int) -> list[int]:
    """Cells in which an activation begins: the threshold is passed, and stays so for `after` cells.

    passed : bool[n]
    rest   : cells after a beginning in which no other is promised (support, and until it is ready again)
    """
    found: list[int] = []
    for cell in first_of_runs(passed):
        if passed[cell : cell + after + 1].all() and (not found or cell >= found[-1] + rest):
            found.append(cell)
    return found


def activation(
    response_pu: Floats, known: Bools, start: int, step_s: float, demand: Demand, slack: int = 0
) -> Activation:
    """Judge the activation that begins in cell `start`.

    response_pu : float64[n]  towards the product's direction; 0 where unknown
    known       : bool[n]     False: not measured, no support
    slack       : cells of grace where the data are coarser than the market's
    """
    if step_s <= 0 or demand.hold_s <= 0:
        raise ScoreError("fields `step_s` and `trigger.hold_s` take times above 0")
    full = start + cells(demand.full_s, step_s, up=True) + slack
    end = full + cells(demand.hold_s, step_s, up=True)
    good = known & (response_pu >= 1.0 - demand.tolerance_pu - ROUNDING)
    support = good[full:end]
    reached = np.flatnonzero(good[start:])
    # Of a support that the record does not hold to its end, what it holds is judged.
    held = float(np.count_nonzero(support)) / support.size if support.size else 0.0
    over = max(0.0, float(response_pu[start:end].max(initial=0.0)) - 1.0)
    after = response_pu[max(end - 1, 0) :]
    stopped = np.flatnonzero(after <= demand.tolerance_pu)
    fallen = after[: int(stopped[0]) + 1] if stopped.size else after
    step, rate = _fall(fallen, step_s)
    after = after[fallen.size - 1 :] if stopped.size else after[:0]
    recovery = max(0.0, -float(after.min(initial=0.0)))
    early = after[: cells(demand.recovery_after_s, step_s)]
    too_early = bool((early < -demand.tolerance_pu - ROUNDING).any())
    adequate = (
        held >= 1.0 - ROUNDING and support.size > 0 and over <= demand.over_max + ROUNDING
        and rate <= demand.fall_pu_s + ROUNDING and step <= demand.fall_step_pu + ROUNDING
        and recovery <= demand.recovery_max + ROUNDING and not too_early
    )  # fmt: skip
    full_after = float(reached[0]) * step_s if reached.size else None
    return Activation(full_after, held, over, rate, step, recovery, too_early, adequate)


def _fall(response_pu: Floats, step_s: float) -> tuple[float, float]:
    """Largest single step down and largest decrease over a second."""
    if response_pu.size < 2:
        return 0.0, 0.0
    step = max(0.0, -float(np.diff(response_pu).min()))
    span = min(max(1, cells(FALL_WINDOW_S, step_s)), response_pu.size - 1)
    drop = max(0.0, float((response_pu[:-span] - response_pu[span:]).max()))
    return step, drop / max(span * step_s, FALL_WINDOW_S)


def demand_of(product: Product) -> Demand:
    """What the product's trigger, activation time and table `score` ask for. Raises ScoreError without a trigger."""
    trigger, params = product.trigger, Params(product)
    if trigger is None:
        raise ScoreError(f"{product.id}: rule `ffr` needs the table `trigger`")
    return Demand(
        params.number("full_s", product.full_s, 0.0, 60.0),
        params.number("hold_s", trigger.hold_s or 60.0 * product.sustain_min, 0.1, 7200.0),
        params.number("tol_pu", TOLERANCE_PU, 0.0, 1.0),
        params.number("over_max", OVER_MAX),
        trigger.fall_pu_s,
        trigger.fall_step_pu,
        params.number("recovery_max", RECOVERY_MAX),
        params.number("recovery_after_s", RECOVERY_AFTER_S),
    )


def reach(product: Product) -> Reach:
    """100 ms where the data have it; the support, and a minute more, may lie beyond the interval."""
    demand = demand_of(product)
    after_s = product.trigger.after_s if product.trigger is not None else 0.0
    step_s = Params(product).number("step_s", STEP_S, 0.01, 10.0)
    return Reach(step_s, 32, math.ceil(after_s + demand.full_s + demand.hold_s + 60.0), True)


def judge(delivery: Delivery, product: Product) -> Verdict:
    """The worst activation that begins in the interval."""
    demand, towards, step_s, inside = demand_of(product), sign(product), delivery.step_s, delivery.inside
    trigger = product.trigger
    if trigger is None:
        raise ScoreError(f"{product.id}: rule `ffr` needs the table `trigger`")
    ending = coarse(step_s, reach(product).step_s)
    threshold_hz = -towards * (trigger.hz - product.nominal_hz) - ROUNDING
    passed = -towards * np.nan_to_num(delivery.dev_hz) >= threshold_hz
    rest = cells(demand.full_s + demand.hold_s + trigger.ready_s, step_s, up=True)
    begun = [
        cell for cell in activations(passed, cells(trigger.after_s, step_s), rest) if inside.start <= cell < inside.stop
    ]
    known = delivery.given_known
    response = towards * delivery.given_kw() / delivery.sold_kw
    found = [activation(response, known, cell, step_s, demand, int(bool(ending))) for cell in begun]
    kpis: Kpis = {"activations": len(found), "step_s": step_s}
    if not found:
        if not known[inside].any():
            return Verdict(None, "no telemetry: nothing was measured in this interval", kpis)
        return Verdict(None, f"not triggered: the frequency did not pass {trigger.hz:g} Hz", kpis)
    worst = min(found, key=lambda one: (one.adequate, one.held_frac))
    kpis |= dict(worst._asdict())
    verdict = "adequate" if worst.adequate else "inadequate"
    reached = "never full" if worst.full_after_s is None else f"full after {worst.full_after_s:.2f} s"
    note = f"{verdict}: {reached}, {worst.held_frac:.1%} of the support, {worst.over_frac:.1%} over"
    return Verdict(worst.held_frac, note + ending, kpis)


RULE: Final = Rule(judge, reach)
