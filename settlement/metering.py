"""How far a sum of meters can be wrong, and whether a product's rule is content with them.

Independent errors add as the root of their squares, so that a large pool measures better than any of its meters
(Nordic requirements eq. 32, rulebook 1.6). What all meters of a model have in common does not average out: it adds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import NS, Floats, ascending
from settlement.facts import Classes, Meters
from settlement.statement import Accuracy

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


def accuracy(product: Product, meters: Meters, classes: Classes, start_ns: int, until_ns: int) -> Accuracy:
    """The error of the fleet's sum in [start, until), by the mean magnitude that each meter read."""
    limit = product.sampling.power_accuracy_frac or None
    inside = (meters.t_ns >= start_ns) & (meters.t_ns < until_ns) & meters.usable & np.isfinite(meters.power_kw)
    numbers = np.unique(meters.meter[inside])
    unclassed = [str(number) for number in np.unique(meters.meter).tolist() if number not in classes.meter]
    if not numbers.size or unclassed:
        why = f"no class on record for meter {', '.join(unclassed)}" if unclassed else "no reading"
        return Accuracy(None, None, limit, None, f"unknown: {why}")
    read_kw = np.array([np.abs(meters.power_kw[inside & (meters.meter == number)]).mean() for number in numbers])
    place = [int(np.flatnonzero(classes.meter == number)[-1]) for number in numbers.tolist()]
    found = budget(read_kw, classes.random_frac[place], classes.common_frac[place])
    whole_kw = float(read_kw.sum())
    error_frac = found.total_kw / whole_kw if whole_kw > 0.0 else None
    precise = None if limit is None or error_frac is None else precise_enough(product, error_frac)
    note = "" if precise is not False else f"meters may be wrong by {error_frac:.2%}, {limit:.2%} are admitted"
    return Accuracy(found.total_kw, error_frac, limit, precise, note)


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
