"""How much a series moved: the sum of its absolute changes.

Numbers only. A change is counted between neighbours that are both known; a gap is no movement.
"""

from __future__ import annotations

import numpy as np

from settlement.align import Floats


def mileage(values: Floats) -> float:
    """Sum of |change| between consecutive known values, in the unit of the values."""
    change = np.abs(np.diff(values))
    return float(change[~np.isnan(change)].sum())
