"""How far a resource is from its set points, when any set point of the last seconds may still be the one it answers.

Arrays only; shared by the rules of NYISO and ISO New England, whose texts measure the same thing with other figures.
"""

from __future__ import annotations

import numpy as np

from settlement.align import Floats
from settlement.scores.rolling import extreme
from settlement.scores.rule import Delivery, ScoreError


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
    given = np.where(delivery.given_known, delivery.net_kw, np.nan)
    found = errors_pu(delivery.target_kw, given, delivery.sold_kw, lag)
    inside = delivery.inside
    if np.isnan(given[inside]).all():
        return np.zeros(0)
    return found[inside][delivery.asked_known[inside]]
