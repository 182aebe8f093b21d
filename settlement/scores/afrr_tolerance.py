"""aFRR: the delivery within a tolerance of the set point and of the slowest trajectory towards it.

A set point comes every 4 s and must be reached within the full activation time of 5 minutes (rulebook 8, mark V): the
slowest admissible trajectory moves at power sold / full activation time, always towards the last set point. What lies
between it and the set point, the tolerance added on either side, is inside. The tolerance is national (mark M, a
parameter). The score is the share of time inside; a cell whose delivery is unknown is outside.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.scores.rolling import slew
from settlement.scores.rule import ROUNDING, Delivery, Kpis, Params, Reach, Rule, ScoreError, Verdict, unmeasured
from settlement.scores.tracking import Shares, shares, watched

STEP_S: Final = 4.0
FULL_S: Final = 300.0
TOLERANCE_PU: Final = 0.05  # mark M


def trajectory(set_point_kw: Floats, capacity_kw: float, step_s: float, full_s: float = FULL_S) -> Floats:
    """The slowest admissible way: towards the set point of each cell by capacity / `full_s`.

    set_point_kw : float64[n]  no NaN; returns the power at the end of each cell, from 0 before the first
    """
    if not capacity_kw > 0 or not full_s > 0 or not step_s > 0:
        raise ScoreError("fields `capacity_kw`, `full_s` and `step_s` take numbers above 0")
    rate = capacity_kw * step_s / full_s
    return slew(np.concatenate([[0.0], set_point_kw]), rate, rate)[1:]


def score(
    response_kw: Floats, set_point_kw: Floats, capacity_kw: float, step_s: float = STEP_S, *,
    full_s: float = FULL_S, tolerance_pu: float = TOLERANCE_PU, counted: Bools | None = None,
) -> Shares:  # fmt: skip
    """Score a delivery.

    response_kw  : float64[n]  NaN: unknown
    set_point_kw : float64[n]  history included
    counted      : bool[n]     cells that count; None: all
    """
    if response_kw.shape != set_point_kw.shape:
        raise ScoreError("fields `response_kw` and `set_point_kw` must be rows of one length")
    end = trajectory(set_point_kw, capacity_kw, step_s, full_s)
    begin = np.concatenate([[0.0], end[:-1]])
    margin = (tolerance_pu + ROUNDING) * capacity_kw
    slow_low, slow_high = np.minimum(begin, end), np.maximum(begin, end)
    lower, upper = np.minimum(set_point_kw, slow_low) - margin, np.maximum(set_point_kw, slow_high) + margin
    return shares(response_kw, lower, upper, counted)


def full_s_of(product: Product) -> float:
    """Full activation time: the score's own figure, else the product's, else 5 minutes."""
    return Params(product).number("fat_s", product.full_s or FULL_S, 1.0, 3600.0)


def reach(product: Product) -> Reach:
    """4 s, and the history of one full activation."""
    step_s = Params(product).number("step_s", STEP_S, 0.1, 60.0)
    return Reach(step_s, int(np.ceil(full_s_of(product) / step_s) * step_s))


def judge(delivery: Delivery, product: Product) -> Verdict:
    """Share of the interval inside the tolerance."""
    params = Params(product)
    measured = watched(delivery)
    tolerance = params.number("tol_pu", TOLERANCE_PU, 0.0, 1.0)
    if measured is None:
        return unmeasured()
    given, counted = measured
    found = score(
        given, delivery.wanted_kw, delivery.sold_kw, delivery.step_s,
        full_s=full_s_of(product), tolerance_pu=tolerance, counted=counted,
    )  # fmt: skip
    kpis: Kpis = dict(found._asdict())
    if found.inside_frac is None:
        return Verdict(None, "no cell in which the set point is known", kpis)
    note = f"{found.inside_frac:.2%} of the time within {tolerance:.0%} [M]: {found.under_frac:.2%} under"
    return Verdict(found.inside_frac, f"{note}, {found.over_frac:.2%} over", kpis)


RULE: Final = Rule(judge, reach)
