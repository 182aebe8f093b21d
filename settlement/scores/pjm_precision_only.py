"""PJM regulation from 1 October 2025: precision alone. From memory (rulebook 5.1, mark M), no claim of conformity.

Correlation and delay were dropped; how the precision that stayed is computed is not verified, so it is that of the
earlier score (`pjm_v1`) and applies only where a product's file asks for it: `score.unverified = true`. Until then the
product has no score, and says so.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from droop.products import Product
from settlement.scores import pjm_v1
from settlement.scores.rule import Delivery, Kpis, Params, Rule, Verdict, mean_or_none, unmeasured


def judge(delivery: Delivery, product: Product) -> Verdict:
    """Mean precision of the interval's windows, where the product asks for it."""
    params = Params(product)
    if not params.flag("unverified"):
        note = "the score of 2025-10-01 is known from memory only [M]"
        return Verdict(None, f"{note}; `score.unverified = true` in the product applies it", {})
    signal_kw, response_kw = pjm_v1.columns(delivery)
    if not np.any(~np.isnan(response_kw[: signal_kw.size])):
        return unmeasured({"missing_frac": 1.0})
    found = pjm_v1.precisions(
        signal_kw, response_kw, delivery.sold_kw, step_s=delivery.step_s,
        propagation_s=params.number("propagation_s", 0.0, 0.0, 60.0), precision_norm=pjm_v1.norm_of(params),
    )  # fmt: skip
    value = mean_or_none(found)
    count = int(np.count_nonzero(~np.isnan(found)))
    kpis: Kpis = {"precision": value, "windows": count}
    if value is None:
        return Verdict(None, "no window of 5 minutes in which the signal is known and asks for anything", kpis)
    return Verdict(value, f"precision over {count} window(s), from memory [M]: no claim of conformity", kpis)


RULE: Final = Rule(judge, pjm_v1.reach)
