"""What each vehicle could give of a product, what the fleet firmly could, and what of that may be offered.

The chain from rated power to a bid, each step with what it takes away: energy, the quantile of the sum, drift of the
state of charge, the market's step and its smallest bid. Numbers only: who is plugged in when is the caller's to know.
Positive powers and energies are magnitudes, energies are at the grid.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.capability import CHARGE_NOW, LEAVE_ALONE, NO_DISCHARGE, STALE, Needs, offer
from droop.drift import Drift, limit_kw
from droop.energy import NS_PER_H
from droop.fleet import PLUGGED, Fleet
from droop.presence import Method, firm
from droop.response import GAIN_MOST, METER_FRAC, SHARE_LEAST

Floats = npt.NDArray[np.float64]

# A step is passed when it is missed by no more than this: sums of powers differ by rounding [kW].
ROUNDING_KW: Final = 1e-9
# What of a product without any energy need is assumed to be kept each way: the sanity reserve that bids in PJM are
# planned with, a planning value and no rule (rulebook 5.1, mark V2) [h].
ASSUMED_H: Final = 0.25
# Nordic pools that go one way keep so much of full activation; energy management does not apply to them (rulebook 3.6).
ONE_WAY_H: Final = 2.0


class Able(NamedTuple):
    """What each vehicle can do each way, float64[n]; all 0 for one that does not count."""

    up_kw: Floats
    down_kw: Floats
    up_kwh: Floats
    down_kwh: Floats
    least_kw: Floats


class Cut(NamedTuple):
    """What one reason takes of an offer [kW]; `reason` is energy, quantile, drift, step or minimum."""

    reason: str
    kw: float


class Offer(NamedTuple):
    """What may be offered for one block, and how it came about [kW].

    expected_kw : mean of what the vehicles' power could give; it less all cuts is `kw`
    firm_kw     : what the rule stands for: after energy, quantile and drift, before the market's rounding
    """

    kw: float
    firm_kw: float
    expected_kw: float
    cuts: tuple[Cut, ...]


def assumed(needs: Needs) -> tuple[Needs, str]:
    """The needs to size with, and what had to be assumed: a quarter of an hour each way where no energy is asked."""
    if needs.up_h > 0.0 or needs.down_h > 0.0:
        return needs, ""
    up_h, down_h = (ASSUMED_H if frac > 0.0 else 0.0 for frac in needs[:2])
    return needs._replace(up_h=up_h, down_h=down_h), (
        f"the product states no energy need; {ASSUMED_H * 60:g} min of full activation are kept (planning value, V2)"
    )


def able(fleet: Fleet, now_ns: int, hours: float, within_s: float = np.inf, silent_s: float = np.inf) -> Able:
    """What each vehicle of a fleet can do from now on (rulebook 9.1, 1.5), as `capability.sustained` counts it.

    hours    : how long the power may be asked; what can be charged after it need not be kept for the departure [h]
    within_s : chargers with a longer dead time count nothing [s]
    silent_s : those whose last report is older count nothing [s]

    Unlike there the energy is not divided by the hours: the product says how much of it a kW takes. A vehicle that
    leaves within the hours counts here; whether it is still there is for who looks again.
    """
    asked = np.where(now_ns < fleet.wish_until_ns, fleet.wish, 0)
    counts = (fleet.state == PLUGGED) & (fleet.reason_up != STALE) & (fleet.refused_ns == 0)
    counts &= (fleet.dead_s <= within_s) & (asked != CHARGE_NOW) & (asked != LEAVE_ALONE)
    if silent_s < math.inf:
        counts &= now_ns - fleet.report_ns <= round(silent_s * 1e9)
    gain_up, gain_dn = (_counted(gain) for gain in (fleet.gain_up, fleet.gain_dn))
    into = fleet.charge_max_kw.astype(np.float64) * np.minimum(gain_dn, 1.0)
    out = fleet.discharge_max_kw.astype(np.float64) * np.minimum(gain_up, 1.0) * (asked != NO_DISCHARGE)
    eta_c, eta_d = fleet.eta_charge.astype(np.float64), fleet.eta_discharge.astype(np.float64)
    floor = np.maximum(fleet.soc_floor_kwh, fleet.dod_floor_kwh)
    left_h = (fleet.depart_ns - now_ns) / NS_PER_H
    after = np.where(left_h > 0.0, eta_c * into * np.maximum(left_h - hours, 0.0), 0.0)
    wanted = np.minimum(fleet.depart_kwh, fleet.ceiling_kwh) - after
    floor = np.where(fleet.depart_ns > 0, np.maximum(floor, wanted), floor)
    left_kwh = np.maximum(fleet.budget_kwh - fleet.moved_kwh, 0.0)
    out_kwh = np.minimum(np.maximum(fleet.energy_kwh - floor, 0.0), left_kwh)
    in_kwh = np.minimum(np.maximum(fleet.ceiling_kwh - fleet.energy_kwh, 0.0), left_kwh)
    columns = (out, into, out_kwh * eta_d, in_kwh / eta_c, fleet.min_kw.astype(np.float64))
    return Able(*(np.where(counts, column, 0.0) for column in columns))


def _counted(gain: npt.NDArray[np.float32]) -> Floats:
    """`response.counted` of a column."""
    wide = gain.astype(np.float64)
    return np.where(np.abs(wide - 1.0) <= METER_FRAC, 1.0, np.clip(wide, SHARE_LEAST, GAIN_MOST))


def each_kw(able: Able, needs: Needs, one_way: Needs | None = None) -> Floats:
    """What can be sold of a product with each vehicle: `capability.offer`, nothing below its least power [kW].

    one_way : what the product takes of vehicles that only charge, where its rules tell them apart
    """
    kw = np.asarray(offer(able.up_kw, able.down_kw, able.up_kwh, able.down_kwh, needs), np.float64)
    if one_way is not None:
        charging = np.asarray(offer(able.up_kw, able.down_kw, able.up_kwh, able.down_kwh, one_way), np.float64)
        kw = np.where(able.up_kw > 0.0, kw, charging)
    return np.where(kw >= able.least_kw, kw, 0.0)


def power_kw(able: Able, needs: Needs, one_way: Needs | None = None) -> Floats:
    """The same with energy without end: what the energy takes is the difference [kW]."""
    endless = np.full(able.up_kw.shape, np.inf)
    return each_kw(able._replace(up_kwh=endless, down_kwh=endless), needs, one_way)


class Basis(NamedTuple):
    """What is expected of a fleet in one block.

    chargers     : vehicles that could be there
    present_frac : share of them that is expected to be, and to count
    profile_kw   : float64[m]  what one that counts can sell, as m equal parts of the fleet in ascending order
    power_kw     : mean of the fleet's offer with energy without end
    up_kwh, down_kwh : energy each way that the fleet is expected to have
    correlation  : of presence, with what is not known of it (`presence.widened`)
    size_sd      : relative standard deviation of what a vehicle is good for, from block to block
    worst_frac   : share of the expected sum that history has seen left, at the confidence; inf: not looked at
    """

    chargers: int
    present_frac: float
    profile_kw: Floats
    power_kw: float
    up_kwh: float
    down_kwh: float
    correlation: float = 0.0
    size_sd: float = 0.0
    worst_frac: float = math.inf


class Terms(NamedTuple):
    """What a product asks of who sells it: its needs, the market's rounding, what its signal does to the energy.

    hours    : length of the block [h]
    buy_back : the drift is bought back through the baseline meanwhile, at the cost of power
    """

    needs: Needs
    step_kw: float = 0.0
    min_kw: float = 0.0
    drift: Drift | None = None
    hours: float = 0.0
    buy_back: bool = False


def firm_kw(basis: Basis, profile_kw: Floats, confidence: float, method: Method) -> float:
    """Sum over the vehicles that is reached with the probability `confidence`; profile_kw : of what [kW].

    The quantile of the sum, not the sum of quantiles (rulebook 10): presence by `presence.firm`, then what a vehicle
    is good for, whose standard deviation is added to that of presence, which is more than their root sum of squares.
    Never more than the mean: an offer above it is a gamble.
    """
    check_confidence(confidence)
    if not 0.0 <= basis.size_sd < math.inf:
        raise ValueError(f"size_sd takes a finite number of 0 or more, got {basis.size_sd}")
    kw = firm(basis.chargers, basis.present_frac, profile_kw, confidence, basis.correlation, method)
    kw *= max(1.0 - NormalDist().inv_cdf(confidence) * basis.size_sd, 0.0)
    return min(kw, min(basis.worst_frac, 1.0) * expected_kw(basis, profile_kw))


def expected_kw(basis: Basis, profile_kw: Floats) -> float:
    """Mean of the sum [kW]."""
    return basis.chargers * basis.present_frac * float(profile_kw.mean()) if profile_kw.size else 0.0


def sized(basis: Basis, terms: Terms, confidence: float, method: Method = "beta_binomial") -> Offer:
    """What to offer for a block, with every cut by its reason.

    Raises ValueError for a confidence outside 0..1 and for negative or unknown energies and powers.
    """
    for name in ("power_kw", "up_kwh", "down_kwh"):
        if not getattr(basis, name) >= 0.0:
            raise ValueError(f"{name} takes a number of 0 or more, got {getattr(basis, name)}")
    mean_kw = expected_kw(basis, basis.profile_kw)
    power = max(basis.power_kw, mean_kw)
    firm = firm_kw(basis, basis.profile_kw, confidence, method)
    cuts, kept = [Cut("energy", float(power - mean_kw)), Cut("quantile", float(mean_kw - firm))], firm
    if terms.drift is not None and firm > 0.0:
        # The share of the energy that is there is that of the vehicles, whatever their sizes.
        one = np.ones(1)
        share = firm_kw(basis, one, confidence, method) / expected_kw(basis, one)
        most = limit_kw(
            terms.drift, terms.needs, terms.hours, share * power, share * basis.up_kwh, share * basis.down_kwh,
            confidence, terms.buy_back,
        )  # fmt: skip
        kept = min(firm, most)
        cuts.append(Cut("drift", float(firm - kept)))
    kw, rounding = rounded(kept, terms.step_kw, terms.min_kw)
    return Offer(kw, float(kept), float(power), (*cuts, *rounding))


def rounded(kw: float, step_kw: float, min_kw: float) -> tuple[float, tuple[Cut, ...]]:
    """Down to the market's step, and to nothing below its smallest bid; with what either takes."""
    if not 0.0 <= kw < math.inf or not 0.0 <= step_kw < math.inf or not 0.0 <= min_kw < math.inf:
        raise ValueError(f"an offer, its step and its least are finite numbers of 0 or more: {kw}, {step_kw}, {min_kw}")
    down = float(math.floor((kw + ROUNDING_KW) / step_kw) * step_kw if step_kw > 0.0 else kw)
    cuts = [Cut("step", float(max(kw - down, 0.0)))]
    if down + ROUNDING_KW < min_kw:
        cuts.append(Cut("minimum", down))
        down = 0.0
    return down, tuple(cuts)


def check_confidence(confidence: float) -> None:
    """Raises ValueError outside (0, 1)."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence takes a probability above 0 and below 1, got {confidence}; for example 0.99")
