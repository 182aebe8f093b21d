"""Continental Europe FCR: the corridor around the expected response, and its two indicators.

Rulebook 2.5 (TenneT NL, FCR manual for BSPs, 4.7, mark V). The rule knows arrays on a regular grid only. Between the
fastest admissible response (at once) and the slowest (nothing for 2 s, half at 15 s, all at 30 s) lies the corridor,
wider by 5 % of the allocated volume on either side; there is no further meter tolerance.

The verdict `adequate` is the market's rule. `score` is our own one-number summary of the same two indicators, for
dashboards and comparisons: the share of time without under-delivery times how near the slope is to its admissible
band. No market pays by it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.scores.rule import ROUNDING, Delivery, Params, Reach, Rule, Verdict

DELAY_S: Final = 2.0
HALF_S: Final = 15.0
FULL_S: Final = 30.0
TOLERANCE_PU: Final = 0.05
OUT_OF_BOUND_MAX: Final = 0.05
SLOPE: Final = (0.9, 1.3)


class CorridorError(ValueError):
    """Arrays or parameters that cannot be scored; the message names the field and the remedy."""


class CorridorScore(NamedTuple):
    """The two indicators, the market's verdict and our summary."""

    time_out_of_bound_frac: float | None  # share of the scored time with under-delivery; None: nothing was scored
    slope_ratio: float | None  # None where frequency or target stood still
    adequate: bool | None
    score: float | None  # 0..1
    seconds: float  # scored
    under_seconds: float  # outside on the low-magnitude side
    outside_seconds: float  # outside on any side
    over_seconds: float  # outside, and not under
    under_max_kw: float = 0.0  # largest power missing to the corridor


def slowest(lag_s: Floats) -> Floats:
    """The slowest admissible step response g: 0 up to 2 s, half at 15 s, all at 30 s, linear between."""
    return np.interp(lag_s, [DELAY_S, HALF_S, FULL_S], [0.0, 0.5, 1.0])


def corridor(
    target_kw: Floats, capacity_kw: float, step_s: float = 1.0, tolerance_pu: float = TOLERANCE_PU
) -> tuple[Floats, Floats]:
    """Lower and upper bound of the admissible response.

    target_kw   : float64[n]  expected response on the grid; before the first cell it was 0; no NaN
    capacity_kw : float       allocated volume
    returns lower, upper : float64[n]  [kW]

    The slowest response is the target convolved with the increments of g (a filter of 30 s), which is the sum over
    past target steps of the step times g of its age.
    """
    if step_s <= 0:
        raise CorridorError(f"field `step_s` takes a time above 0, not {step_s}")
    if capacity_kw <= 0:
        raise CorridorError(f"field `capacity_kw` takes a power above 0, not {capacity_kw}")
    if np.isnan(target_kw).any():
        raise CorridorError("field `target_kw` takes known values; carry or zero the gaps and mark them not valid")
    ages_s: Floats = step_s * np.arange(int(np.ceil(FULL_S / step_s)) + 1, dtype=np.float64)
    taps = np.diff(slowest(ages_s), prepend=0.0)
    slow = np.convolve(target_kw, taps)[: target_kw.size]
    margin = tolerance_pu * capacity_kw
    return np.minimum(target_kw, slow) - margin, np.maximum(target_kw, slow) + margin


def slope(y: Floats, x: Floats) -> float | None:
    """Ordinary least squares slope of y over x; None where x does not vary."""
    if x.size < 2:
        return None
    dx = x - x.mean()
    spread = float(dx @ dx)
    if spread <= (1e-12 * max(1.0, float(np.abs(x).max()))) ** 2 * x.size:
        return None
    return float(dx @ (y - y.mean())) / spread


def summary(out_of_bound_frac: float, ratio: float | None, band: tuple[float, float] = SLOPE) -> float:
    """Our one number in 0..1: (1 - out of bound) x nearness of the slope to its band."""
    low, high = band
    if ratio is None:
        near = 1.0
    elif ratio < low:
        near = max(0.0, ratio / low)
    else:
        near = min(1.0, high / ratio)
    return (1.0 - out_of_bound_frac) * near


def score(
    net_kw: Floats,
    target_kw: Floats,
    dev_hz: Floats,
    capacity_kw: float,
    valid: Bools,
    *,
    step_s: float = 1.0,
    tolerance_pu: float = TOLERANCE_PU,
    out_of_bound_max: float = OUT_OF_BOUND_MAX,
    slope_band: tuple[float, float] = SLOPE,
) -> CorridorScore:
    """Score a delivery.

    net_kw, target_kw, dev_hz : float64[n]  on the grid; `target_kw` known everywhere, for its history
    valid                     : bool[n]     cells to count; the others serve as history only
    """
    if not (net_kw.shape == target_kw.shape == dev_hz.shape == valid.shape):
        raise CorridorError("fields `net_kw`, `target_kw`, `dev_hz` and `valid` must be rows of one length")
    if not (0 < slope_band[0] <= slope_band[1]):
        raise CorridorError(f"field `slope_band` takes two ascending ratios above 0, not {slope_band}")
    lower, upper = (bound[valid] for bound in corridor(target_kw, capacity_kw, step_s, tolerance_pu))
    net, target, dev = net_kw[valid], target_kw[valid], dev_hz[valid]
    if net.size == 0:
        return CorridorScore(None, None, None, None, 0.0, 0.0, 0.0, 0.0)
    if np.isnan(net).any() or np.isnan(dev).any():
        raise CorridorError("field `valid` marks cells in which `net_kw` or `dev_hz` is unknown; mask them out")
    edge = ROUNDING * capacity_kw
    below, above = net < lower - edge, net > upper + edge
    under = (below & (lower > 0)) | (above & (upper < 0))
    outside = below | above
    out_frac = float(np.count_nonzero(under)) / net.size
    ratio = _ratio(slope(net, dev), slope(target, dev), capacity_kw)
    low, high = slope_band[0] - ROUNDING, slope_band[1] + ROUNDING
    adequate = out_frac < out_of_bound_max and (ratio is None or low <= ratio <= high)
    return CorridorScore(
        time_out_of_bound_frac=out_frac,
        slope_ratio=ratio,
        adequate=adequate,
        score=summary(out_frac, ratio, slope_band),
        seconds=net.size * step_s,
        under_seconds=float(np.count_nonzero(under)) * step_s,
        outside_seconds=float(np.count_nonzero(outside)) * step_s,
        over_seconds=float(np.count_nonzero(outside & ~under)) * step_s,
        under_max_kw=float(np.max(np.where(below, lower - net, net - upper), initial=0.0, where=under)),
    )


def _ratio(net_slope: float | None, target_slope: float | None, capacity_kw: float) -> float | None:
    """Slope of the delivery over that of the target; a target that stands still has no slope to compare with."""
    if net_slope is None or target_slope is None or abs(target_slope) <= ROUNDING * capacity_kw:
        return None
    return net_slope / target_slope


def reach(product: Product) -> Reach:  # noqa: ARG001 - every rule is asked alike
    """Seconds, and the history of the slowest admissible response."""
    return Reach(1.0, 32)


def judge(delivery: Delivery, product: Product) -> Verdict:
    """Our summary as the number, the market's verdict in words; seconds that are not known are left out."""
    params = Params(product)
    found = score(
        *delivery[:5],
        step_s=delivery.step_s,
        tolerance_pu=params.number("tol_pu", TOLERANCE_PU, 0.0, 1.0),
        out_of_bound_max=params.number("oob_max", OUT_OF_BOUND_MAX, 0.0, 1.0),
        slope_band=params.pair("slope", SLOPE),
    )
    kpis: dict[str, float | bool | None] = {k: v for k, v in found._asdict().items() if k != "score"}
    if found.score is None:
        return Verdict(None, "no second in which frequency, meter and baseline are all known", kpis)
    verdict = "adequate" if found.adequate else "inadequate"
    slope = "no slope (frequency or target stood still)" if found.slope_ratio is None else "slope ratio "
    slope += "" if found.slope_ratio is None else f"{found.slope_ratio:.3f}"
    return Verdict(found.score, f"{verdict}: {found.time_out_of_bound_frac:.2%} of the time under, {slope}", kpis)


RULE: Final = Rule(judge, reach)
