"""The loop that a reserve closes with the grid, as the Nordic requirements model it, and how near -1 it comes.

Nordic TSOs, Technical requirements for FCR, 28 March 2025: G(s) = (dP/df)(f0/Sn) / (2H s + Kf f0), one parameter set
for stability and one for performance. F is the reserve's response from control error to power, in units of what it
owes; with the negative feedback of the grid both ways of writing it mean |1 + F G|. This file knows no recording; the
curve itself is `droop.stability.nyquist`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from droop.stability import nyquist
from droop.stability.nyquist import DELAY_MOST_S, Complexes, Response, distance, encirclements, lagged
from settlement.align import Floats

__all__ = [
    "DELAY_MOST_S", "FCR_D", "FCR_N", "Complexes", "Margins", "Response", "System", "delay_budget_s", "distance",
    "encirclements", "fine", "interpolated", "lagged", "margins", "whole_distance",
]  # fmt: skip

RADIUS: Final = 0.43
MARGIN: Final = 0.95  # share of the radius, and of the performance, that is accepted
FINE: Final = 400  # points between two tested periods
F0_HZ: Final = 50.0
LOAD_PU: Final = 0.01
PERFORMANCE_TAU_S: Final = 70.0


class System(NamedTuple):
    """The grid as one product sees it.

    mw_per_hz : reserve of the whole area;  stability, performance : (size in MW, energy in inertia in MWs)
    """

    mw_per_hz: float
    stability: tuple[float, float]
    performance: tuple[float, float]

    def plant(self, omega: Floats, performance: bool = False) -> Complexes:
        """G(j omega). omega : float64[n]  [rad/s]"""
        size_mw, energy_mws = self.performance if performance else self.stability
        return nyquist.mass_plant(omega, self.mw_per_hz, F0_HZ, size_mw, energy_mws / size_mw, LOAD_PU)


STABLE: Final = (23_000.0, 120_000.0)
PERFORMING: Final = (42_000.0, 190_000.0)
FCR_N: Final = System(600.0 / 0.1, STABLE, PERFORMING)
FCR_D: Final = System(1450.0 / 0.4, STABLE, PERFORMING)


def interpolated(omega: Floats, response: Complexes) -> Response:
    """Between tested points: magnitude and unwound phase over the logarithm of frequency; outside, the nearest point.

    omega : float64[n]  ascending [rad/s];  response : complex128[n]
    """
    place, gain, phase = np.log(omega), np.log(np.abs(response)), np.unwrap(np.angle(response))

    def between(at: Floats) -> Complexes:
        x = np.log(at)
        return np.asarray(np.exp(np.interp(x, place, gain) + 1j * np.interp(x, place, phase)))

    return between


def fine(omega: Floats) -> Floats:
    """The tested frequencies and many between: float64[m], ascending."""
    if omega.size < 2:
        return omega
    between = [np.geomspace(a, b, FINE, endpoint=False) for a, b in pairwise(omega)]
    return np.concatenate([*between, omega[-1:]])


class Margins(NamedTuple):
    """What the requirements ask of the loop."""

    distance: float  # smallest |1 + F G|, stability set
    encirclements: int
    performance: float  # largest 0.95 |G/(1 + F G)| |D|, performance set; below 1


def margins(system: System, omega: Floats, response: Complexes, *, between: bool = True) -> Margins:
    """Req. 8 and 9 on tested points, and on the curve between them.

    omega : float64[n]  ascending [rad/s];  response : complex128[n]  F at these
    between : False: the tested points alone
    """
    places = fine(omega) if between else omega
    f = interpolated(omega, response)(places) if between else response
    loop = f * system.plant(places)
    at_rest = float(np.abs(response[0])) * float(system.plant(np.zeros(1))[0].real)
    performing = system.plant(places, performance=True)
    wanted = 1.0 / np.abs(PERFORMANCE_TAU_S * 1j * places + 1.0)
    ratio = MARGIN * np.abs(performing / (1.0 + f * performing)) * wanted
    return Margins(distance(loop), encirclements(loop, at_rest), float(ratio.max()))


def whole_distance(system: System, response: Response) -> float:
    """Smallest |1 + F G| on the whole curve, from the slowest swing to the fastest."""
    return nyquist.whole_distance(system.plant, response)


def delay_budget_s(system: System, *tau_s: float) -> float:
    """Largest pure delay with which the loop, with first-order lags, keeps outside 0.43 x 0.95 about -1 [s].

    0 where the lags alone are too slow, or unstable.
    """
    return nyquist.largest_delay_s(system.plant, RADIUS * MARGIN, *tau_s)
