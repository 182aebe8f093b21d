"""How far a delivery is from what it may be: the arithmetic that several markets' texts share, with their own figures.

Arrays, a delivery and a product's table; no market. `errors_pu` and what follows it stand for NYISO and ISO New
England, which measure the distance from any set point of the last seconds; `shares` for aFRR and the Nordic FCR, which
count the time between two bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.scores.rolling import extreme
from settlement.scores.rule import Delivery, Kpis, Params, Reach, ScoreError, Verdict, cells

LAG_MAX_S = 600.0


class Shares(NamedTuple):
    """Shares of the time in which it is known what was owed; None: there is none."""

    inside_frac: float | None
    under_frac: float  # too little, or unknown
    over_frac: float  # too much


def shares(response_kw: Floats, lower: Floats, upper: Floats, counted: Bools | None = None) -> Shares:
    """Time between two bounds. Too little is what lies nearer to 0 than it must.

    response_kw : float64[n]  NaN: unknown, too little
    counted     : bool[n]     cells that count; None: all
    """
    unknown = np.isnan(response_kw)
    below, above = response_kw < lower, response_kw > upper
    under = unknown | (below & (lower > 0)) | (above & (upper < 0))
    over = (below | above) & ~under
    keep = np.ones(unknown.size, np.bool_) if counted is None else counted
    count = int(np.count_nonzero(keep))
    if count == 0:
        return Shares(None, 0.0, 0.0)
    within, low, high = (float(np.count_nonzero(part & keep)) / count for part in (~(under | over), under, over))
    return Shares(within, low, high)


def watched(delivery: Delivery) -> tuple[Floats, Bools] | None:
    """(delivery, NaN where unknown; cells of the interval that count); None where nothing was measured in it."""
    counted = np.zeros(delivery.net_kw.size, np.bool_)
    counted[delivery.inside] = delivery.asked_known[delivery.inside]
    given = delivery.given_or_nan
    return None if np.isnan(given[delivery.inside]).all() else (given, counted)


def errors_pu(set_point_kw: Floats, response_kw: Floats, capacity_kw: float, lag: int) -> Floats:
    """Distance from the band that the set points of the last `lag` cells and the present one span.

    set_point_kw : float64[n]  no NaN
    response_kw  : float64[n]  NaN: missing, an error of the whole capacity
    returns float64[n]         in units of the capacity
    """
    if not capacity_kw > 0:
        raise ScoreError(f"field `capacity_kw` takes a power above 0, not {capacity_kw}")
    low, high = (extreme(set_point_kw, 0, lag, largest=side) for side in (False, True))
    distance = np.maximum(np.maximum(low - response_kw, response_kw - high), 0.0) / capacity_kw
    return np.where(np.isnan(response_kw), 1.0, distance)


def of_delivery(delivery: Delivery, lag: int) -> Floats:
    """Errors of the interval's cells in which the set point is known; none at all if nothing was measured."""
    found = watched(delivery)
    if found is None:
        return np.zeros(0)
    given, counted = found
    return errors_pu(delivery.target_kw, given, delivery.sold_kw, lag)[counted]


def reach(product: Product, step_s: float, lag_s: float) -> Reach:
    """The set points' step, and as much history as they may be late. step_s, lag_s : where the product names none"""
    params = Params(product)
    lead_s = max(32, round(params.number("lag_s", lag_s, 0.0, LAG_MAX_S)))
    return Reach(params.number("step_s", step_s, 0.1, 60.0), lead_s)


def judge(
    delivery: Delivery, product: Product, lag_s: float, name: str, said: str,
    measure: Callable[[Floats, Params], float | None],
) -> Verdict:  # fmt: skip
    """The number that a market makes of the errors. name : of the indicator; said : in the note"""
    params = Params(product)
    errors = of_delivery(delivery, cells(params.number("lag_s", lag_s, 0.0, LAG_MAX_S), delivery.step_s))
    value = measure(errors, params)
    if value is None:
        return Verdict(None, "no telemetry, or no set point: nothing can be compared", {})
    kpis: Kpis = {name: value, "error_pu": float(errors.mean())}
    return Verdict(value, f"{said} {value:.3f}, from memory [M]", kpis)
