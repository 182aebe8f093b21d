"""Long series for the eye: thinned to the smallest and largest of each stretch, so that no peak is lost."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from settlement.report import series

POINTS: Final = 4_000
FREQUENCY, ASKED, GIVEN, SCORED = "#2f6fde", "#c98a00", "#12855a", "#7a4fd0"

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def thinned(t_ns: Ints, value: Floats, points: int = POINTS) -> tuple[Ints, Floats]:
    """At most about `points` of a series: the smallest and the largest of each stretch, in order of time.

    Values that are not a number are left out.
    """
    known = np.isfinite(value)
    return series.thinned(t_ns[known], value[known], points)
