"""The fleet in the loop: so many MW that follow a product's curve, late, lagged, limited, and looked at now and then.

The order is that of the real line: the frequency is measured (`measure_s`), sampled (`sample_s`), felt by the product
(its curve, delay, lag and ramp, by `droop.dynamics`, which is what runs live), commanded, and carried out by chargers
after their dead times (`delays_s`), through their ramps and their lag, until energy runs out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from droop.dynamics import OLRT_TO_TAU
from droop.products import Product
from droop.promises import Freedoms, at_least
from droop.stability.grid import Grid
from droop.stability.nyquist import Complexes, Floats, Ints

MW_TO_KW: Final = 1e3
ATOMS: Final = 16
# A vertical in a curve is a switch, not a slope: what lies between its ends is nowhere to stay.
STEEP_HZ: Final = 1e-6
DELAY_MOST_S: Final = 30.0


class FleetError(ValueError):
    """A fleet that cannot be studied in this grid; the message names the field and the remedy."""


@dataclass(frozen=True)
class Fleet:
    """A fleet and how it answers.

    product          : what it follows; on frequency
    fleet_mw         : power sold
    delays_s, shares : when a command shows, and for which share of the fleet: latency and the chargers' dead times
    lag_s            : first-order lag of the chargers
    ramp_pu_s        : fastest change of the whole fleet, of `fleet_mw` a second
    sample_s         : time between two decisions
    measure_s        : first-order lag of the frequency measurement
    energy_h         : how long full power can be given each way
    """

    product: Product
    fleet_mw: float
    delays_s: tuple[float, ...] = (0.0,)
    shares: tuple[float, ...] = (1.0,)
    lag_s: float = 0.0
    ramp_pu_s: float = math.inf
    sample_s: float = 0.02
    measure_s: float = 0.0
    energy_h: float = math.inf

    def __post_init__(self) -> None:
        try:
            at_least(self, "fleet_mw", "lag_s", "measure_s")
            at_least(self, "sample_s", above=True)
        except ValueError as error:
            raise FleetError(str(error)) from None
        if not self.ramp_pu_s > 0 or not self.energy_h > 0:
            raise FleetError("fields `ramp_pu_s` and `energy_h` take a number above 0; leave out what has no limit")
        if len(self.delays_s) != len(self.shares) or not self.delays_s:
            raise FleetError("fields `delays_s` and `shares`: give as many of the one as of the other")
        if not all(0.0 <= delay_s <= DELAY_MOST_S for delay_s in self.delays_s):
            raise FleetError(f"field `delays_s` takes times of 0 to {DELAY_MOST_S:g} s")
        if any(not share >= 0.0 for share in self.shares) or not math.isclose(sum(self.shares), 1.0, abs_tol=1e-9):
            raise FleetError("field `shares` takes numbers of 0 or more that add up to 1")
        if self.product.input != "frequency":
            raise FleetError(f"product `{self.product.id}` answers a signal, which closes no loop with the frequency; "
                             "give a product on frequency")  # fmt: skip

    @property
    def delay_s(self) -> float:
        """The mean delay [s]."""
        return float(np.dot(self.delays_s, self.shares))

    def delayed(self, delay_s: float) -> Fleet:
        """The same with another mean delay: all chargers are later, or earlier, by the same, and none before 0."""
        shift_s = delay_s - self.delay_s
        earliest_s = min(self.delays_s)
        if earliest_s + shift_s >= 0.0:
            return replace(self, delays_s=tuple(max(one + shift_s, 0.0) for one in self.delays_s))
        # There is no room to come earlier: what is spread comes nearer together.
        scale = delay_s / self.delay_s
        return replace(self, delays_s=tuple(scale * one for one in self.delays_s))

    def sized(self, fleet_mw: float) -> Fleet:
        """The same in another size."""
        return replace(self, fleet_mw=fleet_mw)

    def plain(self) -> Product:
        """The product without its energy management, which works over minutes and steers what is left unused here."""
        return replace(self.product, reservoir=None, freedoms=Freedoms())


def check(grid: Grid, fleet: Fleet) -> None:
    """Raises FleetError for a fleet that this grid cannot have."""
    product = fleet.product
    if product.nominal_hz != grid.nominal_hz:
        raise FleetError(f"product `{product.id}` is of a {product.nominal_hz:g} Hz grid and `{grid.id}` is one of "
                         f"{grid.nominal_hz:g} Hz; choose another of the two")  # fmt: skip
    if fleet.fleet_mw > grid.size_mw:
        raise FleetError(f"field `fleet_mw`: {fleet.fleet_mw:g} MW is more than the whole of `{grid.id}`, "
                         f"{grid.size_mw:g} MW; give less, in MW and not in kW")  # fmt: skip


def spread(low_s: float, high_s: float, delay_s: float = 0.0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(delays_s, shares) of dead times that lie evenly from `low_s` to `high_s`, all behind a delay."""
    if not 0.0 <= low_s <= high_s:
        raise FleetError("dead times: give the shortest first, of 0 s or more")
    count = 1 if high_s == low_s else ATOMS
    middles = low_s + (high_s - low_s) * (np.arange(count) + 0.5) / count
    return tuple((delay_s + middles).tolist()), (1.0 / count,) * count


def measured(dead_s: Floats, delay_s: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(delays_s, shares) of measured dead times, as equally many between quantiles. dead_s : float64[n]"""
    if dead_s.size == 0:
        return (delay_s,), (1.0,)
    # Means of equal parts: they keep the mean of all.
    parts = np.array_split(np.sort(dead_s), min(ATOMS, dead_s.size))
    shares = np.array([part.size for part in parts]) / dead_s.size
    return tuple(delay_s + float(part.mean()) for part in parts), tuple(shares.tolist())


def slopes(product: Product) -> list[tuple[float, float, float]]:
    """(from Hz, to Hz, share a hertz) of each stretch of the curve on which power changes, deviations ascending.

    The share a hertz is positive where the product counters a deviation. Triggers and a step dead band's edge are
    jumps, and no stretch. Within a step dead band there is no answer.
    """
    if product.trigger is not None:
        return []
    band_hz = product.deadband_hz if product.deadband_kind == "step" else 0.0
    found = []
    for x0, x1, y0, y1 in zip(
        product.curve_hz, product.curve_hz[1:], product.curve_frac, product.curve_frac[1:], strict=False
    ):  # fmt: skip
        if y1 < y0 and x1 - x0 > STEEP_HZ:
            slope = (y0 - y1) / (x1 - x0)
            below, above = (x0, min(x1, -band_hz)), (max(x0, band_hz), x1)
            found += [(a, b, slope) for a, b in ((below, above) if band_hz else ((x0, x1),)) if b - a > STEEP_HZ]
    return found


def transfer(fleet: Fleet, s: Complexes, share_hz: float) -> Complexes:
    """From a fall of the frequency to power into the grid, F(s) [MW/Hz], on a stretch of this slope."""
    product = fleet.product
    lags = (1.0 + product.olrt_s * OLRT_TO_TAU * s) * (1.0 + fleet.lag_s * s) * (1.0 + fleet.measure_s * s)
    late = np.zeros_like(s)
    for delay_s, share in zip(fleet.delays_s, fleet.shares, strict=True):
        late += share * np.exp(-(product.delay_s + delay_s) * s)
    return np.asarray(fleet.fleet_mw * share_hz * late * held(fleet.sample_s * s) / lags, np.complex128)


def held(z: Complexes) -> Complexes:
    """What holding a sample does, (1 - exp(-z))/z with z = s T: half a period of delay, and a little less of it."""
    small = np.abs(z) < 1e-4
    safe = np.where(small, 1.0, z)
    return np.asarray(np.where(small, 1.0 - z / 2.0 + z * z / 6.0, -np.expm1(-safe) / safe))


def taps(fleet: Fleet, step_s: float) -> tuple[Ints, Floats]:
    """(int64[k], float64[k]): how many steps ago a command was given that shows now, and for which share.

    A delay between two steps is shared among them.
    """
    steps = np.array(fleet.delays_s) / step_s
    whole = np.floor(steps + 1e-9).astype(np.int64)
    part = np.clip(steps - whole, 0.0, 1.0)
    found = np.zeros(int(whole.max()) + 2)
    np.add.at(found, whole, np.array(fleet.shares) * (1.0 - part))
    np.add.at(found, whole + 1, np.array(fleet.shares) * part)
    ago = np.flatnonzero(found > 0.0)
    return ago, found[ago]
