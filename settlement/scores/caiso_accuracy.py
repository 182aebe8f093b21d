"""CAISO regulation: mileage and accuracy, per 15 minutes and direction, on set points of 4 s.

Mileage is the sum of |changes| of the set points (rulebook 5.2, mark V2). Accuracy is 1 - sum of |set point -
telemetry| / sum of |set point| (form from memory, mark M), kept within 0..1; where nothing was asked there is none. The
market also asks for 25 % accuracy over a month (mark M), which is settlement's to enforce.

A product that regulates one way is judged by all its cells. One that is sold both ways has its cells told apart by
the side of the set point, and where that is 0 by the side of the delivery. Telemetry that is missing counts as 0.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.mileage import mileage
from settlement.scores.rule import Delivery, Kpis, Params, Reach, Rule, ScoreError, Verdict, cells, clamp, unmeasured

STEP_S: Final = 4.0
PERIOD_S: Final = 900.0


class Accuracy(NamedTuple):
    """One direction over one or more periods."""

    accuracy: float | None  # None: nothing was asked
    asked_kw: float  # sum of |set point|
    mileage_kw: float


def accuracy(set_point_kw: Floats, telemetry_kw: Floats, before_kw: float = np.nan) -> Accuracy:
    """Accuracy and mileage of one direction over one period.

    set_point_kw : float64[n]  NaN where unknown: left out
    telemetry_kw : float64[n]  NaN where missing: counts as 0
    before_kw    : float       last set point before the period; NaN: none, the first change is not counted
    """
    if set_point_kw.shape != telemetry_kw.shape:
        raise ScoreError("fields `set_point_kw` and `telemetry_kw` must be rows of one length")
    known = ~np.isnan(set_point_kw)
    asked = float(np.abs(set_point_kw[known]).sum())
    error = float(np.abs(set_point_kw - np.nan_to_num(telemetry_kw))[known].sum())
    moved = mileage(np.concatenate([[before_kw], set_point_kw]))
    return Accuracy(clamp(1.0 - error / asked) if asked > 0 else None, asked, moved)


def combined(parts: list[Accuracy]) -> Accuracy:
    """Periods, or directions, together: accuracy weighted by what was asked."""
    known = [(part.accuracy, part.asked_kw) for part in parts if part.accuracy is not None]
    asked = sum(weight for _, weight in known)
    mean = sum(value * weight for value, weight in known) / asked if asked > 0 else None
    return Accuracy(mean, asked, sum(part.mileage_kw for part in parts))


def sides(set_point_kw: Floats, telemetry_kw: Floats) -> Bools:
    """bool[n]  True: the cell belongs to regulation up."""
    given = np.nan_to_num(telemetry_kw)
    return np.where(set_point_kw == 0, given >= 0, set_point_kw > 0)


def reach(product: Product) -> Reach:
    """Set points of 4 s."""
    return Reach(Params(product).number("step_s", STEP_S, 0.1, 60.0))


def judge(delivery: Delivery, product: Product) -> Verdict:
    """Accuracy of the interval's periods and directions, weighted by what each asked."""
    params, inside = Params(product), delivery.inside
    size = max(1, cells(params.number("period_s", PERIOD_S, 1.0), delivery.step_s))
    asked = delivery.asked_or_nan
    given = delivery.given_or_nan
    if not np.any(~np.isnan(given[inside])):
        return unmeasured()
    up = sides(asked, given)
    directions = ("up", "down") if product.direction == "symmetric" else (product.direction,)
    found: dict[str, Accuracy] = {}
    for name in directions:
        own = np.full(up.size, True) if len(directions) == 1 else up == (name == "up")
        # What the other side was asked is, to this side, a set point of 0.
        points = np.where(own | np.isnan(asked), asked, 0.0)
        output = np.where(own, given, 0.0)
        found[name] = combined([
            accuracy(points[low : low + size][: inside.stop - low], output[low : low + size][: inside.stop - low],
                     points[low - 1] if low else np.nan)
            for low in range(inside.start, inside.stop, size)
        ])  # fmt: skip
    whole = combined(list(found.values()))
    kpis: Kpis = {}
    for name, part in found.items():
        kpis |= {f"accuracy_{name}": part.accuracy, f"mileage_{name}_kw": part.mileage_kw}
    if whole.accuracy is None:
        return Verdict(None, "nothing was asked: every known set point is 0", kpis)
    return Verdict(whole.accuracy, f"accuracy {whole.accuracy:.3f} [M], mileage {whole.mileage_kw:.1f} kW", kpis)


RULE: Final = Rule(judge, reach)
