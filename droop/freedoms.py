"""What a provider may do of its own accord to steer its state of charge, where its market lets it.

Degrees of freedom of the German FCR: to give up to a fifth more than is required where that helps, to answer inside
the dead band or not, and to follow any admissible trajectory. TenneT NL forbids the first (manual 3.2.5): a product
states what it allows (`promises.Freedoms`), and one that states nothing allows nothing. Used in proportion to how far
the fleet is from the middle of its window, so that nothing jumps when it crosses it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from droop.numerics import strict

# Distance from the middle of the window, as a share of it, from which the freedoms are used in full.
FULL_FRAC: Final = 0.05
# Sums behind a slope, each of value times time: time, deviation, its product with what is due, what is due, and the
# same two of what is given beyond that.
SUMS: Final = 6
TIME, DEV, DEV_DUE, DUE, DEV_MORE, MORE = range(SUMS)
# The mean deviation of an interval is known at its end only: so much of the band is left for it.
MARGIN: Final = 0.02
# A silence is not counted in full: nobody knows what the frequency was.
LOOK_MAX_S: Final = 2.0


@strict
def leaning(up_kwh: float, down_kwh: float) -> float:
    """Which way energy should go, and how much so: 1 out of a fleet that is too full, -1 into one that is too empty."""
    window = up_kwh + down_kwh
    if not window > 0.0:
        return 0.0
    return min(max((up_kwh / window - 0.5) / FULL_FRAC, -1.0), 1.0)


@strict
def overfulfilled(fraction: float, lean: float, most: float) -> float:
    """The required share, more of it where that helps: never against `lean`, never beyond `most` times what is due."""
    return fraction * (1.0 + (most - 1.0) * abs(lean)) if fraction * lean > 0.0 else fraction


@strict
def within_deadband(proportional: float, lean: float) -> float:
    """Inside the dead band: the proportional response where it helps, nothing where it does not."""
    return proportional * abs(lean) if proportional * lean > 0.0 else 0.0


@strict
def paced(target: float, given: float, lean: float, elapsed_s: float, full_s: float) -> float:
    """The trajectory chosen: at once where the change helps, else no faster than full activation within `full_s`.

    The slower way is a ramp from the first moment on, above the slowest one admissible (half after half the time).
    """
    change = target - given
    if not change * lean < 0.0 or not full_s > 0.0:
        return target
    # The less the fleet needs it, the faster it follows; at full need it takes the time that is allowed.
    step = elapsed_s / (full_s * abs(lean))
    return given + min(max(change, -step), step)


def slope_band(score: Mapping[str, Any]) -> float:
    """The largest slope of delivery over target that a product's own score admits (`slope`); inf where it has none."""
    band = score.get("slope")
    if isinstance(band, list | tuple) and len(band) == 2 and isinstance(band[1], int | float) and band[1] >= 1.0:
        return float(band[1])
    return math.inf


@strict
def banded(
    sums: npt.NDArray[np.float64], dev_hz: float, due: float, answer: float, elapsed_s: float, band: float
) -> float:  # fmt: skip
    """What may be given freely: as much of `answer` as keeps the slope of all given in the interval within the band.

    sums : float64[SUMS]  of the interval so far; this moment is added
    due  : what the market wants; the rest of `answer` is given freely

    The corridor's second indicator (TenneT NL 4.7) is the least-squares slope of delivery over deviation, relative to
    that of the target. Inside the dead band nothing is due, so that what is given there adds to the slope and to no
    target: without a bound it would carry an ordinary quarter of an hour out of the band.
    """
    spent_s = min(elapsed_s, LOOK_MAX_S)
    sums[TIME] += spent_s
    sums[DEV] += spent_s * dev_hz
    sums[DEV_DUE] += spent_s * dev_hz * due
    sums[DUE] += spent_s * due
    if not spent_s > 0.0:
        return answer
    mean_hz = sums[DEV] / sums[TIME]
    # Both fall with the frequency: the slopes are turned, so that more is more.
    owed = mean_hz * sums[DUE] - sums[DEV_DUE]
    more = mean_hz * sums[MORE] - sums[DEV_MORE]
    lever = spent_s * (mean_hz - dev_hz)
    extra = answer - due
    if extra * lever > 0.0:
        room = max((band - MARGIN - 1.0) * owed - more, 0.0)
        extra *= min(room / (extra * lever), 1.0)
    sums[DEV_MORE] += spent_s * dev_hz * extra
    sums[MORE] += spent_s * extra
    return due + extra
