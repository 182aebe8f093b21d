"""Dynamic Containment, Moderation and Regulation: the response between two bounds, and the factor K.

The algorithm is that of the performance-monitoring script that the operator published for Dynamic Containment
(rulebook 4.3, mark V2). The upper bound is the largest response that any frequency of the lag window, 0.2 to 0.55 s
ago, asks for, and may rise fast and must fall no slower than slowly; the lower bound is the smallest, and rises slowly
and falls fast. What lies outside for at least four samples (0.2 s) counts with its depth: the error of a settlement
period is the largest of the rolling minima. K is 1 up to an error of 3 % and 0 from 7 % on; both figures and the
scope of K are from memory (mark M), and so are lag and ramps of Dynamic Regulation. All are parameters.

Bounds are taken from the expected response itself: the curve is monotone, so the extreme of the curve over a window is
the curve of the frequency's extreme. Cells in which frequency, meter or baseline is unknown are unavailability, as in
the script; a period available for less than 99.9 % is not paid (mark V2), so silence earns nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.scores import availability
from settlement.scores.rolling import extreme, run_least, slew
from settlement.scores.rule import ROUNDING, Delivery, Params, Reach, Rule, ScoreError, Verdict, cells, coarse, sign

RATE_HZ: Final = 20.0
LAG_S: Final = (0.2, 0.55)
RAMP_PU_S: Final = (2.0, 4.0)
LEAST_RUN: Final = 4  # samples at RATE_HZ
K_ERROR: Final = (0.03, 0.07)  # mark M
GAP_S: Final = 29 * 60.0
START_S: Final = 1.0


class Timing(NamedTuple):
    """How late and how fast a response may be.

    lag_s : window of the past that may be answered; ramp_pu_s : slowest and fastest rate; run_s : shortest excursion
    gap_s : a longer break in the data begins anew; start_s : after a beginning anything within 0..1 is admissible
    """

    lag_s: tuple[float, float] = LAG_S
    ramp_pu_s: tuple[float, float] = RAMP_PU_S
    run_s: float = LEAST_RUN / RATE_HZ
    gap_s: float = GAP_S
    start_s: float = START_S


PUBLISHED: Final = Timing()


class BoundsScore(NamedTuple):
    """One settlement period."""

    error_frac: float | None  # largest rolling error, of the contracted power; None: never available
    k: float | None
    available_frac: float
    worst_cell: int | None  # where the largest error lies; None where there is none


def bounds(target_pu: Floats, step_s: float, timing: Timing = PUBLISHED) -> tuple[Floats, Floats]:
    """Lower and upper bound of the response, before the rule of beginnings.

    target_pu : float64[n]  expected response of a product towards its own direction, 0..1, no NaN
    returns lower, upper : float64[n]
    """
    near, far = cells(timing.lag_s[0], step_s), cells(timing.lag_s[1], step_s, up=True)
    slow, fast = (rate * step_s for rate in timing.ramp_pu_s)
    lower = slew(extreme(target_pu, near, far, largest=False), slow, fast)
    upper = slew(extreme(target_pu, near, far, largest=True), fast, slow)
    return lower, upper


def beginnings(known: Bools, step_s: float, timing: Timing = PUBLISHED) -> Bools:
    """Cells so soon after the data begin, or go on after a long gap, that no lagged frequency is known."""
    place = np.arange(known.size)
    seen = np.maximum.accumulate(np.where(known, place, -1)) if known.size else place
    before = np.concatenate([[-1], seen[:-1]])  # the last known cell before each
    fresh = known & ((before < 0) | ((place - before - 1) * step_s > timing.gap_s))
    starts = np.flatnonzero(fresh)
    since = place - np.concatenate([[-known.size - 1], starts])[np.searchsorted(starts, place, side="right")]
    soon: Bools = since <= cells(timing.start_s, step_s)
    return soon


def score(
    response_pu: Floats,
    target_pu: Floats,
    available: Bools,
    step_s: float,
    timing: Timing = PUBLISHED,
    k_error: tuple[float, float] = K_ERROR,
    inside: slice = slice(None),
) -> BoundsScore:
    """Score one settlement period.

    response_pu, target_pu : float64[n]  towards the product's direction, in units of the contracted power
    available              : bool[n]     False: unknown, or not offered; the bounds are infinite there
    inside                 : cells that count; the others are history

    Raises ScoreError where lengths differ or a figure makes no sense.
    """
    if not response_pu.shape == target_pu.shape == available.shape:
        raise ScoreError("fields `response_pu`, `target_pu` and `available` must be rows of one length")
    if step_s <= 0 or timing.ramp_pu_s[0] <= 0 or k_error[1] <= k_error[0]:
        raise ScoreError("fields `step_s`, `ramp` and `k` take times and rates above 0 and two ascending errors")
    lower, upper = bounds(target_pu, step_s, timing)
    begun = beginnings(available, step_s, timing)
    lower, upper = np.where(begun, 0.0, lower), np.where(begun, 1.0, upper)
    outside = np.maximum(np.maximum(lower - response_pu, response_pu - upper), 0.0)
    outside = np.where(available & (outside > ROUNDING), outside, 0.0)
    rolling = run_least(outside, max(1, round(timing.run_s / step_s)))[inside]
    share = availability.share(available[inside])
    if share is None or share == 0.0:
        return BoundsScore(None, None, 0.0, None)
    worst = int(rolling.argmax())
    error = float(rolling[worst])
    return BoundsScore(error, factor(error, k_error), share, worst if error > 0 else None)


def factor(error_frac: float, k_error: tuple[float, float] = K_ERROR) -> float:
    """K of an error: 1 up to the first, 0 from the second on, linear between (mark M)."""
    full, none = k_error
    return min(1.0, max(0.0, (none - error_frac) / (none - full)))


def scoped(ks: Sequence[float], scope: Literal["sp", "block"]) -> list[float]:
    """K by which each settlement period of a block is paid: its own, or the block's least (mark M)."""
    return list(ks) if scope == "sp" or not ks else [min(ks)] * len(ks)


def timing_of(params: Params) -> Timing:
    """Lag, ramps and shortest excursion as the product's file says."""
    rate_hz = params.number("rate_hz", RATE_HZ, 0.1, 1000.0)
    return Timing(
        params.pair("lag", LAG_S),
        params.pair("ramp", RAMP_PU_S),
        params.number("min_run", LEAST_RUN, 1.0) / rate_hz,
        params.number("gap_s", GAP_S),
        params.number("start_s", START_S),
    )


def reach(product: Product) -> Reach:
    """20 Hz where the data have it."""
    params = Params(product)
    timing = timing_of(params)
    ramp_s = 1.0 / max(timing.ramp_pu_s[0], 1e-3)
    step_s = 1.0 / params.number("rate_hz", RATE_HZ, 0.1, 1000.0)
    return Reach(step_s, max(32, round(timing.lag_s[1] + ramp_s + 1)), 0, True)


def judge(delivery: Delivery, product: Product) -> Verdict:
    """K of the period, 0 where it is not paid for want of availability."""
    params, towards = Params(product), sign(product) / delivery.sold_kw
    params.text("k_scope", "sp", "block")  # money's business; refused here if it is neither
    known = delivery.asked_known & delivery.given_known
    found = score(
        towards * delivery.given_kw(), towards * delivery.target_kw, known, delivery.step_s,
        timing_of(params), params.pair("k", K_ERROR), delivery.inside,
    )  # fmt: skip
    least = availability.least_of(product)
    paid = availability.paid(found.available_frac, least)
    worst_s = None if found.worst_cell is None else found.worst_cell * delivery.step_s
    kpis: dict[str, float | bool | None] = {
        "error_frac": found.error_frac, "k": found.k, "available_frac": found.available_frac, "paid": paid,
        "worst_at_s": worst_s, "step_s": delivery.step_s,
    }  # fmt: skip
    if found.error_frac is None or found.k is None:
        return Verdict(None, "no cell in which frequency, meter and baseline are all known", kpis)
    ending = coarse(delivery.step_s, reach(product).step_s)
    if not paid:
        note = f"not paid: available for {found.available_frac:.3%}, {least:.1%} is asked; error {found.error_frac:.2%}"
        return Verdict(0.0, note + ending, kpis)
    return Verdict(found.k, f"K = {found.k:.3f} [M], largest rolling error {found.error_frac:.2%}{ending}", kpis)


RULE: Final = Rule(judge, reach)
