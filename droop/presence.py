"""How many of a fleet are there: the distribution of a sum of vehicles that come and go together, and its quantile.

Presence of one is a coin; the coins of a block share what drivers share (weather, a holiday, a jam), measured by the
correlation rho between any two. Mean n p P, standard deviation P sqrt(n p (1 - p) (1 + (n - 1) rho)) (rulebook 10).
`normal` takes the normal distribution with these two; `beta_binomial` is exact where the common share of a block is
beta distributed: a = p (1 - rho) / rho, b = (1 - p) (1 - rho) / rho. Numbers only.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Method = Literal["normal", "beta_binomial"]

# Shares and correlations nearer to none, or to all, cannot be told from it in these numbers.
TINY: Final = 1e-8


class Correlation(NamedTuple):
    """rho with its standard error, and the number of blocks and of days it rests on."""

    rho: float
    error: float
    blocks: int
    days: int


def log_probabilities(count: int, present_frac: float, correlation: float) -> Floats:
    """float64[count + 1]: log of the probability that 0, 1, .. count vehicles are there; 0 < present_frac < 1."""
    from scipy.special import betaln, gammaln, xlog1py, xlogy  # a fifth of a second of import for those who bid

    k = np.arange(count + 1, dtype=np.float64)
    ways = gammaln(count + 1.0) - gammaln(k + 1.0) - gammaln(count - k + 1.0)
    if correlation < TINY:
        return np.asarray(ways + xlogy(k, present_frac) + xlog1py(count - k, -present_frac))
    a, b = (share * (1.0 - correlation) / correlation for share in (present_frac, 1.0 - present_frac))
    return np.asarray(ways + betaln(k + a, count - k + b) - betaln(a, b))


def firm_count(count: int, present_frac: float, confidence: float, correlation: float, method: Method) -> float:
    """How many of `count` vehicles are there with the probability `confidence`, at least.

    `beta_binomial`: the largest whole number k with P(K >= k) >= confidence; `normal`: mean less z standard deviations.

    Raises ValueError for shares outside 0..1, a negative count and a confidence outside (0, 1).
    """
    for name, value in (("present_frac", present_frac), ("correlation", correlation)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} takes a share of 0..1, got {value}")
    if not 0.0 < confidence < 1.0 or count < 0:
        raise ValueError(f"a confidence above 0 and below 1 and a count of 0 or more, got {confidence} and {count}")
    if method not in ("normal", "beta_binomial"):
        raise ValueError(f"method takes normal or beta_binomial, got {method}")
    if count == 0 or not TINY < present_frac < 1.0 - TINY:
        return float(count) * (present_frac >= 0.5)
    if method == "normal":
        spread = math.sqrt(count * present_frac * (1.0 - present_frac) * (1.0 + (count - 1) * correlation))
        return min(max(count * present_frac - NormalDist().inv_cdf(confidence) * spread, 0.0), float(count))
    if correlation == 1.0:
        return float(count) if present_frac >= confidence else 0.0
    below = np.cumsum(np.exp(log_probabilities(count, present_frac, correlation)))
    # below[k] = P(K <= k): k + 1 vehicles are there with 1 - below[k]. Rounding must not cost a vehicle.
    return float(np.searchsorted(below, (1.0 - confidence) * (1.0 + 1e-12), side="right"))


def firm(
    count: int, present_frac: float, profile_kw: Floats, confidence: float, correlation: float = 0.0,
    method: Method = "beta_binomial",
) -> float:  # fmt: skip
    """Power that the vehicles which are there reach with the probability `confidence`, at least [kW].

    profile_kw : float64[m]  what a vehicle can do, of m equal parts of the fleet, in any order; 0 or more

    With one size it is that size times `firm_count`. With several the fleet is
    cut into layers, of those that reach at least so much, and their quantiles are added up: as if all layers had their
    bad moment at once, which they nearly have where drivers move together. So it is never above the quantile of the
    sum in the tail that bids are made in, and more vehicles or larger ones never make it less.
    """
    sizes = np.sort(np.asarray(profile_kw, np.float64))
    if sizes.size and not (sizes[0] >= 0.0 and math.isfinite(sizes[-1])):
        raise ValueError("profile_kw takes finite powers of 0 or more")
    total = before = 0.0
    for place, size in enumerate(sizes.tolist()):
        if size > before:
            reaching = count * (sizes.size - place) // sizes.size
            total += (size - before) * firm_count(reaching, present_frac, confidence, correlation, method)
            before = size
    return total


def widened(correlation: float, count: int, noise: float) -> float:
    """The correlation that also stands for the mean not being known: variance times 1 + noise.

    noise : variance of the estimated mean over the variance of one block, 1 / m for a mean of m blocks
    """
    if count < 2:
        return correlation
    return min(((1.0 + (count - 1) * correlation) * (1.0 + noise) - 1.0) / (count - 1), 1.0)


def correlation(present: Ints, chargers: Ints, expected_frac: Floats, day: Ints, used: float = 0.0) -> Correlation:
    """rho by the method of moments, with its standard error over days.

    present, chargers : int64[b]  vehicles that were there, of how many
    expected_frac     : float64[b]  share that was expected: the mean of the block's class
    day               : int64[b]  blocks of one day are not independent: errors are taken over days
    used              : degrees of freedom that the expectations took of the b blocks

    Solves sum (k/n - p)^2 b / (b - used) = sum p (1 - p) (1 + (n - 1) rho) / n for rho; a ratio of sums, its error
    that of a ratio estimator over days. Clipped to 0..1.

    Raises ValueError where there are too few blocks, or where nobody ever comes or goes.
    """
    share = present / np.maximum(chargers, 1)
    free = share.size - used
    kept = chargers >= 2
    if free < 1.0 or not kept.any():
        raise ValueError(f"{share.size} blocks are too few for {used:g} means and a correlation; give a longer history")
    square = (share - expected_frac) ** 2 * (share.size / free)
    # p (1 - p) of an estimated mean is too small by the variance of the mean.
    varies = expected_frac * (1.0 - expected_frac) + square * (used / share.size)
    more = np.where(kept, square - varies / np.maximum(chargers, 1), 0.0)
    most = np.where(kept, varies * (1.0 - 1.0 / np.maximum(chargers, 1)), 0.0)
    if not most.sum() > 0.0:
        raise ValueError("nobody ever comes or goes in this history: presence has no correlation; sell the sum itself")
    rho = float(more.sum() / most.sum())
    days, place = np.unique(day, return_inverse=True)
    left = np.bincount(place, more - rho * most)
    count = days.size
    error = math.sqrt(float((left**2).sum()) * count / max(count - 1, 1)) / float(most.sum())
    return Correlation(min(max(rho, 0.0), 1.0), error, int(share.size), int(count))
