"""Availability: the share of time in which the sold capacity was maintained.

Arrays only. What was maintained is a capacity by cell (rulebook 3.6 for the Nordic formulas, 2.4 and 4.2 for the
markets' consequences); a cell in which it is unknown was not maintained. Great Britain does not pay a settlement
period below 99.9 % (rulebook 4.3, mark V2); the Nordic markets pay what was maintained, cell by cell.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.scores.rule import ROUNDING, ScoreError

NESO_LEAST: Final = 0.999


class Maintained(NamedTuple):
    """How much of the sold capacity was kept.

    full_frac     : share of time in which all of it was; None: no time at all
    capacity_frac : mean share of the sold capacity that was, never more than all of it
    missing_frac  : share of time in which it is not known
    """

    full_frac: float | None
    capacity_frac: float | None
    missing_frac: float


def share(available: Bools) -> float | None:
    """Share of the cells that are available; None of none."""
    return float(np.count_nonzero(available)) / available.size if available.size else None


def maintained(capacity_kw: Floats, sold_kw: float) -> Maintained:
    """Compare what was kept with what was sold.

    capacity_kw : float64[n]  kept in each cell; NaN where unknown, which counts as none
    sold_kw     : float       above 0
    """
    if not sold_kw > 0:
        raise ScoreError(f"field `sold_kw` takes a power above 0, not {sold_kw}")
    if capacity_kw.size == 0:
        return Maintained(None, None, 0.0)
    unknown = np.isnan(capacity_kw)
    kept = np.clip(np.where(unknown, 0.0, capacity_kw) / sold_kw, 0.0, 1.0)
    return Maintained(share(kept >= 1.0 - ROUNDING), float(kept.mean()), float(unknown.mean()))


def least_of(product: Product) -> float:
    """Availability below which a period is not paid: the product's own figure, or NESO's. Raises ScoreError."""
    least = product.availability.get("least_frac", NESO_LEAST)
    if isinstance(least, bool) or not isinstance(least, int | float) or not 0.0 <= least <= 1.0:
        raise ScoreError(f"{product.id}: field `availability.least_frac` takes a share of 0..1, not {least!r}")
    return float(least)


def paid(available_frac: float, least: float = NESO_LEAST) -> bool:
    """Whether a settlement period is paid at all (NESO); on the edge it is."""
    return available_frac >= least - ROUNDING
