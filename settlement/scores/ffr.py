"""Fast reserves that are all or nothing: full in time, held, not too much, and let go gently.

Nordic FFR (rulebook 3.8): full activation after 1.3, 1.0 or 0.7 s, support of 5 or 30 s (mark V); over-delivery up to
35 %, deactivation of the short variant at most 20 %/s and in no step above 20 %, recovery not before 10 s after it and
at most 25 % of the capacity (mark M). ERCOT's RRS-FFR and the British static reserve are judged alike with their own
figures, which a product's trigger, activation time and table `score` carry.

The score is the share of the support that was given in full; `adequate` holds every criterion. A cell whose delivery
is unknown did not support. Of an activation that began earlier or lasts longer, an interval judges what lies in it; one
in which no support was owed has no score.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from droop.products import Product
from droop.promises import Trigger
from settlement.align import Bools, Floats
from settlement.scores.rolling import beginnings, first_of_runs
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
    unmeasured,
)  # fmt: skip

STEP_S: Final = 0.1
TOLERANCE_PU: Final = 0.05  # meter and rounding, mark M
OVER_MAX: Final = 0.35  # mark M
SINGLE: Final = 1e-6  # set-points travel in single precision: a rate kept to the letter may differ by so much
RECOVERY_MAX: Final = 0.25  # mark M
RECOVERY_AFTER_S: Final = 10.0  # mark M
FALL_WINDOW_S: Final = 1.0
FALLING_MAX_S: Final = 60.0
WATCH_S: Final = 30.0  # of the recovery


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
    held_frac: float | None  # share of the support given in full; None: none was owed here
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
    begins = np.zeros(passed.size, np.bool_)
    for cell in first_of_runs(passed):
        begins[cell] = passed[cell : cell + after + 1].all()
    return beginnings(begins, rest)


def activation(
    response_pu: Floats, known: Bools, start: int, step_s: float, demand: Demand, slack: int = 0,
    inside: slice = slice(None),
) -> Activation:  # fmt: skip
    """Judge the activation that begins in cell `start`, as far as it lies within `inside`.

    response_pu : float64[n]  towards the product's direction; 0 where unknown
    known       : bool[n]     False: not measured, no support
    slack       : cells of grace where the data are coarser than the market's
    """
    if step_s <= 0 or demand.hold_s <= 0:
        raise ScoreError("fields `step_s` and `trigger.hold_s` take times above 0")
    first, last, _ = inside.indices(response_pu.size)
    full = start + cells(demand.full_s, step_s, up=True) + slack
    # Of coarse cells those that lie wholly within the support, wherever in the cell before `start` it may have begun.
    end = start + max(1, cells(demand.full_s + demand.hold_s - slack * step_s, step_s, up=not slack))
    good = known & (response_pu >= 1.0 - demand.tolerance_pu - ROUNDING)
    reached = np.flatnonzero(good[start:])
    support = good[max(full, first) : min(end, last)]
    held = float(np.count_nonzero(support)) / support.size if support.size else None
    over = max(0.0, float(response_pu[max(start, first) : min(end, last)].max(initial=0.0)) - 1.0)
    # From the last cell of the support on; how it lets go, and what it takes back.
    after = response_pu[max(end - 1, first) : last]
    stopped = np.flatnonzero(after <= demand.tolerance_pu)
    fallen = after[: int(stopped[0]) + 1] if stopped.size else after
    step, rate = _fall(fallen, step_s)
    after = after[fallen.size - 1 :] if stopped.size else after[:0]
    recovery = max(0.0, -float(after.min(initial=0.0)))
    early = after[: cells(demand.recovery_after_s, step_s)]
    too_early = end - 1 >= first and bool((early < -demand.tolerance_pu - ROUNDING).any())
    adequate = (
        (held is None or held >= 1.0 - ROUNDING) and over <= demand.over_max + ROUNDING
        and rate <= demand.fall_pu_s + SINGLE and step <= demand.fall_step_pu + SINGLE
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


def trigger_of(product: Product) -> Trigger:
    """The product's trigger. Raises ScoreError where it has none."""
    if product.trigger is None:
        raise ScoreError(f"{product.id}: rule `ffr` needs the table `trigger`")
    return product.trigger


def demand_of(product: Product) -> Demand:
    """What the product's trigger, activation time and table `score` ask for. Raises ScoreError without a trigger."""
    trigger, params = trigger_of(product), Params(product)
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
    """100 ms where the data have it, and the history of one activation until the next may be promised."""
    demand, trigger = demand_of(product), trigger_of(product)
    lead_s = (
        trigger.after_s
        + demand.full_s
        + demand.hold_s
        + max(trigger.ready_s, demand.recovery_after_s)
        + FALLING_MAX_S
        + WATCH_S
    )
    return Reach(Params(product).number("step_s", STEP_S, 0.01, 10.0), math.ceil(lead_s), 0, True)


def judge(delivery: Delivery, product: Product) -> Verdict:
    """The worst of the activations that touch the interval."""
    demand, trigger = demand_of(product), trigger_of(product)
    towards, step_s, inside = sign(product), delivery.step_s, delivery.inside
    ending = coarse(step_s, reach(product).step_s)
    threshold_hz = towards * (product.nominal_hz - trigger.hz) - ROUNDING
    passed = -towards * np.nan_to_num(delivery.dev_hz) >= threshold_hz
    rest = cells(demand.full_s + demand.hold_s + trigger.ready_s, step_s, up=True)
    known = delivery.given_known
    response = towards * delivery.given_kw() / delivery.sold_kw
    # What follows an activation is its recovery; later it is none of its business.
    falling_s = min(1.0 / demand.fall_pu_s, FALLING_MAX_S)
    lasts = cells(demand.full_s + demand.hold_s + falling_s + demand.recovery_after_s + WATCH_S, step_s, up=True)
    found = [
        activation(
            response,
            known,
            cell,
            step_s,
            demand,
            int(bool(ending)),
            slice(inside.start, min(inside.stop, cell + lasts)),
        )
        for cell in activations(passed, cells(trigger.after_s, step_s), rest)
        if cell < inside.stop and cell + lasts > inside.start
    ]
    kpis: Kpis = {"activations": len(found), "step_s": step_s}
    if not known[inside].any():
        return unmeasured(kpis)
    if not found:
        return Verdict(None, f"not triggered: the frequency did not pass {trigger.hz:g} Hz", kpis)
    worst = min(found, key=lambda one: (one.adequate, 2.0 if one.held_frac is None else one.held_frac))
    kpis |= dict(worst._asdict())
    verdict = "adequate" if worst.adequate else "inadequate"
    reached = "never full" if worst.full_after_s is None else f"full after {worst.full_after_s:.2f} s"
    held = "no support owed in this interval" if worst.held_frac is None else f"{worst.held_frac:.1%} of the support"
    return Verdict(worst.held_frac, f"{verdict}: {reached}, {held}, {worst.over_frac:.1%} over{ending}", kpis)


RULE: Final = Rule(judge, reach)
