"""How far a sum of meters can be wrong, and whether a product's rule is content with them.

Independent errors add as the root of their squares, so that a large pool measures better than any of its meters
(Nordic requirements eq. 32, rulebook 1.6). What all meters of a model have in common does not average out: it adds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import NS, Floats, ascending
from settlement.facts import Meters

# Refresh periods are quoted in whole seconds; a clock that is off by less is no violation.
SLACK_FRAC = 0.05


class Budget(NamedTuple):
    """Error of a sum, one standard class each [kW]."""

    random_kw: float
    common_kw: float

    @property
    def total_kw(self) -> float:
        """The whole: both at their limits."""
        return self.random_kw + self.common_kw


def budget(power_kw: Floats, random_frac: Floats, common_frac: Floats) -> Budget:
    """Error of the sum of meters.

    power_kw    : float64[n]  what each reads, or its nominal power where the class is of that
    random_frac : float64[n]  independent error of each, of its reading
    common_frac : float64[n]  error that all of its model share, signed or not: counted at its worst
    """
    for name, column in (("random_frac", random_frac), ("common_frac", common_frac)):
        if not (np.isfinite(column) & (np.abs(column) <= 1)).all():
            raise ValueError(f"field `{name}` takes shares within -1..1")
    random_kw = float(np.sqrt(np.square(power_kw * random_frac).sum()))
    return Budget(random_kw, float(np.abs(power_kw * common_frac).sum()))


def too_slow(product: Product, meters: Meters) -> list[str]:
    """Meters that report less often than the product asks, in words."""
    limit_s = product.sampling.meter_s
    if not limit_s:
        return []
    found = []
    for meter in np.unique(meters.meter):
        spacing = np.diff(ascending(meters.t_ns[meters.meter == meter]))
        period_s = float(np.median(spacing)) / NS if spacing.size else 0.0
        if period_s > limit_s * (1 + SLACK_FRAC):
            found.append(f"meter {meter} reports every {period_s:.3g} s; {product.id} asks for {limit_s:g} s or less")
    return found


def precise_enough(product: Product, error_frac: float) -> bool:
    """Whether a sum with this error, of its value, meets the product's limit; true where none is known."""
    limit = product.sampling.power_accuracy_frac
    return not limit or abs(error_frac) <= limit
