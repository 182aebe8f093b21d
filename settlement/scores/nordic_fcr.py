"""Nordic FCR in operation: the share of time in which the response keeps the steady-state tolerance.

Requirement 1 asks for -5 % to +20 % of the theoretical response at full activation (technical requirements of 28 March
2025; rulebook 3.2, mark V). In operation the frequency never stands still, so the response is compared with the
smallest and the largest that the last seconds asked for: as long as the product's full activation may take (mark M).
Under the line 5 % of the capacity are admitted; over it 5 % at rest, growing to 20 % at full activation, as at the
corner points of the static requirement (mark M). Both are compared as moving means (`average_s`): 10 s by requirement
11 (mark V), 60 s by a public implementation of requirement 1; of both over the same cells, those in which both are
known. A cell whose delivery is unknown is outside.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.scores.rolling import extreme
from settlement.scores.rule import ROUNDING, Delivery, Kpis, Params, Reach, Rule, ScoreError, Verdict, cells, unmeasured
from settlement.scores.tracking import Shares, shares, watched

TOLERANCE: Final = (0.05, 0.20)
SETTLE_S: Final = 30.0
AVERAGE_S: Final = 10.0


def band(
    target_kw: Floats, capacity_kw: float, settle: int, tolerance: tuple[float, float] = TOLERANCE
) -> tuple[Floats, Floats]:
    """Lower and upper bound of the response.

    target_kw : float64[n]  expected, no NaN; settle : cells of the past that may still be answered
    """
    if not capacity_kw > 0 or not 0 <= tolerance[0] <= tolerance[1]:
        raise ScoreError("fields `capacity_kw` and `tolerance` take a power above 0 and two ascending shares")
    under, over = tolerance
    low, high = (extreme(target_kw, 0, settle, largest=side) for side in (False, True))

    def beyond(value: Floats) -> Floats:
        return under * capacity_kw + (over - under) * np.minimum(np.abs(value), capacity_kw)

    inward = under * capacity_kw
    lower = low - np.where(low >= 0, inward, beyond(low))
    upper = high + np.where(high <= 0, inward, beyond(high))
    return lower, upper


def moving_means(response_kw: Floats, target_kw: Floats, asked: Bools, count: int) -> tuple[Floats, Floats]:
    """Means of response and target over those of the last `count` cells in which both are known.

    response_kw : float64[n]  NaN: unknown, and so is its mean
    target_kw   : float64[n]  no NaN; where nothing is known of the last cells, the mean is the target itself
    asked       : bool[n]     cells in which the target is known

    The error of the running sums stays below 1e-9 of their largest value.
    """
    both = asked & ~np.isnan(response_kw)
    start = np.maximum(np.arange(both.size) + 1 - count, 0)

    def windowed(values: Floats) -> Floats:
        sums = np.concatenate([[0.0], np.cumsum(np.where(both, values, 0.0))])
        return np.asarray(sums[1:] - sums[start])

    seen = windowed(np.ones(both.size))
    given = np.where(np.isnan(response_kw), np.nan, windowed(response_kw) / np.maximum(seen, 1))
    return given, np.where(seen > 0, windowed(target_kw) / np.maximum(seen, 1), target_kw)


def score(
    response_kw: Floats, target_kw: Floats, capacity_kw: float, settle: int, counted: Bools | None = None, *,
    average: int = 1, tolerance: tuple[float, float] = TOLERANCE, asked: Bools | None = None,
) -> Shares:  # fmt: skip
    """Score a delivery.

    response_kw : float64[n]  NaN: unknown; target_kw : float64[n]  history included; counted : bool[n], None: all
    settle      : cells of the past that may still be answered; average : cells of the moving means
    asked       : bool[n]  cells in which the target is known; None: all
    """
    if response_kw.shape != target_kw.shape:
        raise ScoreError("fields `response_kw` and `target_kw` must be rows of one length")
    known = np.ones(target_kw.size, np.bool_) if asked is None else asked
    given, wanted = moving_means(response_kw, target_kw, known, average)
    lower, upper = band(wanted, capacity_kw, settle, tolerance)
    edge = ROUNDING * capacity_kw
    return shares(given, lower - edge, upper + edge, counted)


def settle_s(product: Product) -> float:
    """How much of the past may still be answered: the score's own figure, the product's activation time, or 30 s."""
    return Params(product).number("settle_s", product.full_s or SETTLE_S, 0.0, 900.0)


def reach(product: Product) -> Reach:
    """1 s, as operation is logged (rulebook 3.7)."""
    average_s = Params(product).number("average_s", AVERAGE_S, 1.0, 900.0)
    return Reach(1.0, max(32, int(np.ceil(settle_s(product) + average_s))))


def judge(delivery: Delivery, product: Product) -> Verdict:
    """Share of the interval inside the tolerance."""
    params = Params(product)
    low, high = params.numbers("ss_tol", (-TOLERANCE[0], TOLERANCE[1]))
    tolerance = (-low, high)
    average = max(1, cells(params.number("average_s", AVERAGE_S, 1.0, 900.0), delivery.step_s))
    measured = watched(delivery)
    if measured is None:
        return unmeasured()
    given, counted = measured
    settle = cells(settle_s(product), delivery.step_s, up=True)
    found = score(
        given, delivery.target_kw, delivery.sold_kw, settle, counted,
        average=average, tolerance=tolerance, asked=delivery.asked_known,
    )  # fmt: skip
    kpis: Kpis = dict(found._asdict())
    if found.inside_frac is None:
        return Verdict(None, "no second in which the frequency is known", kpis)
    note = f"{found.inside_frac:.2%} of the time within -{tolerance[0]:.0%}/+{tolerance[1]:.0%}"
    return Verdict(found.inside_frac, f"{note}: {found.under_frac:.2%} under, {found.over_frac:.2%} over", kpis)


RULE: Final = Rule(judge, reach)
