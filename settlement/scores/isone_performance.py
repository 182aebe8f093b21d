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
from settlement.scores.rule import Delivery, Kpis, Params, Reach, Rule, Verdict, cells, clamp, mean_or_none

STEP_S: Final = 4.0
LAG_S: Final = 8.0
TOLERANCE_PU: Final = 0.02


def performance(errors_pu: Floats, tolerance_pu: float = TOLERANCE_PU) -> float | None:
    """1 minus the mean of what exceeds the tolerance; None of no errors at all."""
    mean = mean_or_none(np.maximum(errors_pu - tolerance_pu, 0.0))
    return None if mean is None else clamp(1.0 - mean)


def reach(product: Product) -> Reach:
    """Set points of 4 s (mark M)."""
    params = Params(product)
    return Reach(params.number("step_s", STEP_S, 0.1, 60.0), max(32, round(params.number("lag_s", LAG_S, 0.0, 600.0))))


def judge(delivery: Delivery, product: Product) -> Verdict:
    """The interval's score."""
    params = Params(product)
    lag = cells(params.number("lag_s", LAG_S, 0.0, 600.0), delivery.step_s)
    errors = tracking.of_delivery(delivery, lag)
    value = performance(errors, params.number("tol_pu", TOLERANCE_PU, 0.0, 1.0))
    if value is None:
        return Verdict(None, "no telemetry, or no set point: nothing can be compared", {})
    kpis: Kpis = {"performance": value, "error_pu": float(errors.mean())}
    return Verdict(value, f"performance {value:.3f}, from memory [M]", kpis)


RULE: Final = Rule(judge, reach)
