"""ISO New England regulation: the performance score of an interval.

The rule book has what the score multiplies, mileage and capacity payments (rulebook 5.2, mark V2), and not how it is
measured. The form here is from memory (mark M): the share of the interval's set points that were followed within a
tolerance, each miss counted with its depth in units of the capacity. Lag, tolerance and step are parameters.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from droop.products import Product
from settlement.align import Floats
from settlement.scores import tracking
from settlement.scores.rule import Delivery, Params, Reach, Rule, Verdict, clamp, mean_or_none

STEP_S: Final = 4.0
LAG_S: Final = 8.0
TOLERANCE_PU: Final = 0.02


def performance(errors_pu: Floats, tolerance_pu: float = TOLERANCE_PU) -> float | None:
    """1 minus the mean of what exceeds the tolerance; None of no errors at all."""
    mean = mean_or_none(np.maximum(errors_pu - tolerance_pu, 0.0))
    return None if mean is None else clamp(1.0 - mean)


def reach(product: Product) -> Reach:
    """Set points of 4 s (mark M)."""
    return tracking.reach(product, STEP_S, LAG_S)


def judge(delivery: Delivery, product: Product) -> Verdict:
    """The interval's score."""

    def measure(errors: Floats, params: Params) -> float | None:
        return performance(errors, params.number("tol_pu", TOLERANCE_PU, 0.0, 1.0))

    return tracking.judge(delivery, product, LAG_S, "performance", "performance", measure)


RULE: Final = Rule(judge, reach)
