"""MISO regulation: the share of the instructed mileage that was made.

The rule book has what the score multiplies (rulebook 5.2, mark V2), and not how it is measured. The form here is from
memory (mark M): movement counts as made when it goes towards the set point, up to the distance there; the score is what
was made over what was instructed. Movement may come `lag_s` late: step and lag are parameters.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.scores.rule import Delivery, Kpis, Params, Reach, Rule, ScoreError, Verdict, cells, clamp, unmeasured

STEP_S: Final = 4.0
LAG_S: Final = 0.0


def made(set_point_kw: Floats, response_kw: Floats, lag: int = 0) -> tuple[Floats, Floats]:
    """Instructed and made movement of each cell.

    set_point_kw, response_kw : float64[n]  NaN: unknown; a response unknown before or after makes no movement
    lag                       : cells by which the response may follow
    returns instructed, made : float64[n - 1 - lag]  [kW], 0 or more; both NaN where the set point is unknown
    """
    if set_point_kw.shape != response_kw.shape:
        raise ScoreError("fields `set_point_kw` and `response_kw` must be rows of one length")
    wanted = np.diff(set_point_kw)[: max(0, set_point_kw.size - 1 - lag)]
    moved = np.nan_to_num(np.diff(response_kw))[lag:]
    instructed = np.abs(wanted)
    return instructed, np.where(np.isnan(wanted), np.nan, np.clip(moved * np.sign(wanted), 0.0, instructed))


def accuracy(instructed_kw: Floats, made_kw: Floats) -> float | None:
    """What was made over what was instructed; None where nothing was."""
    known: Bools = ~np.isnan(instructed_kw)
    total = float(instructed_kw[known].sum())
    return clamp(float(made_kw[known].sum()) / total) if total > 0 else None


def reach(product: Product) -> Reach:
    """Set points of 4 s; the answer to the last may follow the interval."""
    params = Params(product)
    lag_s = params.number("lag_s", LAG_S, 0.0, 600.0)
    return Reach(params.number("step_s", STEP_S, 0.1, 60.0), 32, -int(-lag_s // 1))


def judge(delivery: Delivery, product: Product) -> Verdict:
    """Mileage accuracy of the interval; the change into it counts in it."""
    params, inside = Params(product), delivery.inside
    lag = cells(params.number("lag_s", LAG_S, 0.0, 600.0), delivery.step_s)
    asked = delivery.asked_or_nan
    given = delivery.given_or_nan
    if np.isnan(given[inside]).all():
        return unmeasured()
    before = max(0, inside.start - 1)
    span = slice(before, min(inside.stop + lag, asked.size))
    instructed, done = (part[: inside.stop - before - 1] for part in made(asked[span], given[span], lag))
    value = accuracy(instructed, done)
    kpis: Kpis = {"instructed_mileage_kw": float(np.nansum(instructed)), "made_mileage_kw": float(np.nansum(done))}
    if value is None:
        return Verdict(None, "no movement was instructed", kpis)
    return Verdict(value, f"made {value:.1%} of the instructed mileage, from memory [M]", kpis)


RULE: Final = Rule(judge, reach)
