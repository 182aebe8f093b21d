"""The seconds of an interval as a report draws them: by the same functions that its statement rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from droop.products import Product
from settlement import expected, history, interval, window
from settlement.align import NS, Floats, Grid, carry
from settlement.facts import Facts
from settlement.interval import Sold
from settlement.report.series import Series
from settlement.scores import ce_corridor, nordic_fcr
from settlement.scores.rule import Params, ScoreError, cells


def seconds(sold: Sequence[Sold], facts: Facts, start_ns: int, until_ns: int) -> list[Series]:
    """One series a product, second by second over [start, until)."""
    lead = interval.lead_s(sold)
    grid = Grid(start_ns - lead * NS, NS, lead + (until_ns - start_ns) // NS)
    facts = window.cut(facts, start_ns - interval.heard_ns(sold), until_ns)
    facts = facts._replace(samples=history.fill(facts.samples, facts.history).samples)
    powers = interval.powers(sold, interval.based(sold, facts, grid), grid)
    found = []
    for (product, sold_kw), target, given_kw in zip(sold, powers.targets, powers.shares_kw, strict=True):
        hz = expected.deviation_hz(product, facts.samples, grid).mean + product.nominal_hz
        held = np.nan_to_num(carry(target.mean, max(1, round(product.hold_s))))
        lower, upper = corridor(product, held, sold_kw)
        columns: list[Any] = [grid.edges_ns[:-1], hz, target.mean, given_kw, lower, upper]
        found.append(Series._make([*(column[lead:] for column in columns), 1.0, sold_kw]))
    return found


def corridor(product: Product, target_kw: Floats, sold_kw: float) -> tuple[Floats, Floats]:
    """What the product's rule admits at 1 s; NaN where it has no such band, or one far finer than a second."""
    none = np.full(target_kw.size, np.nan)
    params = Params(product)
    try:
        if sold_kw > 0 and product.score.get("fn") == "ce_corridor":
            tolerance_pu = params.number("tol_pu", ce_corridor.TOLERANCE_PU, 0.0, 1.0)
            return ce_corridor.corridor(target_kw, sold_kw, 1.0, tolerance_pu)
        if sold_kw > 0 and product.score.get("fn") == "nordic_fcr":
            low, high = params.numbers("ss_tol", (-nordic_fcr.TOLERANCE[0], nordic_fcr.TOLERANCE[1]))
            settle = cells(nordic_fcr.settle_s(product), 1.0, up=True)
            return nordic_fcr.band(target_kw, sold_kw, settle, (-low, high))
    except ScoreError:
        pass  # the statement says so; there is nothing to draw
    return none, none
