"""The loop that a reserve closes with the grid, as the Nordic requirements model it, and how near -1 it comes.

Nordic TSOs, Technical requirements for FCR, 28 March 2025: G(s) = (dP/df)(f0/Sn) / (2H s + Kf f0), one parameter set
for stability and one for performance. F is the reserve's response from control error to power, in units of what it
owes; with the negative feedback of the grid both ways of writing it mean |1 + F G|. This file knows no recording.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from settlement.align import Floats

Complexes = npt.NDArray[np.complex128]
Response = Callable[[Floats], Complexes]

RADIUS: Final = 0.43
MARGIN: Final = 0.95  # share of the radius, and of the performance, that is accepted
FINE: Final = 400  # points between two tested periods
F0_HZ: Final = 50.0
LOAD_PU: Final = 0.01
PERFORMANCE_TAU_S: Final = 70.0
# The whole curve: below, the grid's own damping rules; above, nothing is left of the loop.
WHOLE_RAD_S: Final = (1e-3, 1e2)
WHOLE_POINTS: Final = 6000
DELAY_MOST_S: Final = 5.0
DELAY_STEP_S: Final = 0.05
DELAY_EXACT_S: Final = 1e-5


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
        inertia_s = energy_mws / size_mw
        return np.asarray(self.mw_per_hz * F0_HZ / size_mw / (2.0 * inertia_s * 1j * omega + LOAD_PU * F0_HZ))


STABLE: Final = (23_000.0, 120_000.0)
PERFORMING: Final = (42_000.0, 190_000.0)
FCR_N: Final = System(600.0 / 0.1, STABLE, PERFORMING)
FCR_D: Final = System(1450.0 / 0.4, STABLE, PERFORMING)


def lagged(delay_s: float, *tau_s: float) -> Response:
    """A delay behind first-order lags: exp(-s delay) / ((1 + s tau) ...)."""

    def response(omega: Floats) -> Complexes:
        found = np.exp(-1j * omega * delay_s)
        for tau in tau_s:
            found = found / (1.0 + 1j * omega * tau)
        return np.asarray(found)

    return response


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


def distance(loop: Complexes) -> float:
    """Smallest |1 + L|."""
    return float(np.abs(1.0 + loop).min())


def encirclements(loop: Complexes, at_rest: float) -> int:
    """How often L goes round -1, from frequency 0 to infinity and back.

    loop    : complex128[n]  the curve over ascending frequency
    at_rest : the real value at frequency 0; at infinity L is 0

    What lies before the first and behind the last point is a straight line. F and G are stable, so that the closed loop
    is stable where the curve does not go round at all.
    """
    path = 1.0 + np.concatenate([[at_rest], loop, [0.0]])
    turned = np.angle(path[1:] / path[:-1]).sum()
    # The curve of the negative frequencies is the mirror image: it turns as much again.
    return round(float(turned) / np.pi)


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
    omega = np.geomspace(*WHOLE_RAD_S, WHOLE_POINTS)
    return distance(response(omega) * system.plant(omega))


def delay_budget_s(system: System, *tau_s: float) -> float:
    """Largest pure delay with which the loop, with first-order lags, keeps outside 0.43 x 0.95 about -1 [s].

    0 where the lags alone are too slow, or unstable. A loop that is stable without delay stays so until the curve
    reaches the circle: the first crossing counts.
    """
    least, omega = RADIUS * MARGIN, np.geomspace(*WHOLE_RAD_S, WHOLE_POINTS)
    undelayed = lagged(0.0, *tau_s)(omega) * system.plant(omega)
    if encirclements(undelayed, float(system.plant(np.zeros(1))[0].real)):
        return 0.0

    def spare(delay_s: float) -> float:
        return whole_distance(system, lagged(delay_s, *tau_s)) - least

    low_s, high_s = 0.0, DELAY_STEP_S
    if spare(low_s) <= 0.0:
        return 0.0
    # Equal steps find the first crossing, halving the exact one.
    while spare(high_s) > 0.0:
        if high_s >= DELAY_MOST_S:
            return DELAY_MOST_S
        low_s, high_s = high_s, high_s + DELAY_STEP_S
    while high_s - low_s > DELAY_EXACT_S:
        middle_s = 0.5 * (low_s + high_s)
        low_s, high_s = (middle_s, high_s) if spare(middle_s) > 0.0 else (low_s, middle_s)
    return low_s
