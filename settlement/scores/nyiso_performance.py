"""NYISO regulation: the performance index PI.

The rule book has what PI does to the payment, 1 - 1.1 (1 - PI) (rulebook 5.2, mark V2), and not how it is measured. The
form here is from memory (mark M): 1 minus the mean control error outside the band of recent base points, in units of
the capacity, plus an allowance of 0.10, kept within 0..1. Lag, allowance and step are parameters.
"""

from __future__ import annotations

from typing import Final

from droop.products import Product
from settlement.align import Floats
from settlement.scores import tracking
from settlement.scores.rule import Delivery, Params, Reach, Rule, Verdict, clamp, mean_or_none

STEP_S: Final = 6.0
LAG_S: Final = 30.0
ALLOWANCE: Final = 0.10


def index(errors_pu: Floats, allowance: float = ALLOWANCE) -> float | None:
    """PI of control errors in units of the capacity; None of none."""
    mean = mean_or_none(errors_pu)
    return None if mean is None else clamp(1.0 - mean + allowance)


def reach(product: Product) -> Reach:
    """Base points of 6 s (mark M)."""
    return tracking.reach(product, STEP_S, LAG_S)


def judge(delivery: Delivery, product: Product) -> Verdict:
    """PI of the interval."""

    def measure(errors: Floats, params: Params) -> float | None:
        return index(errors, params.number("allowance", ALLOWANCE, 0.0, 1.0))

    return tracking.judge(delivery, product, LAG_S, "pi", "PI =", measure)


RULE: Final = Rule(judge, reach)
