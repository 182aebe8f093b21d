"""The open loop of a reserve and a grid as a curve: how near -1 it comes, how often it goes round, how late it may be.

A response F and a plant G are functions of s = j omega; with the negative feedback of a grid the loop is L = F G, and
the closed loop is stable where L goes round -1 as often as the open loop has unstable poles. Delays are exact. This
file knows no product and no grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Complexes = npt.NDArray[np.complex128]
Response = Callable[[Floats], Complexes]
Function = Callable[[Complexes], Complexes]

# The whole curve: below, the grid's own damping rules; above, nothing is left of the loop.
WHOLE_RAD_S: Final = (1e-3, 1e2)
WHOLE_POINTS: Final = 6000
DELAY_MOST_S: Final = 5.0
DELAY_STEP_S: Final = 0.05
DELAY_EXACT_S: Final = 1e-5


def mass_plant(
    omega: Floats, mw_per_hz: float, nominal_hz: float, size_mw: float, inertia_s: float, load_per_hz: float
) -> Complexes:
    """A mass and its load behind a reserve of so much a hertz: (dP/df)(f0/S)/(2H s + Kf f0), at s = j omega.

    load_per_hz : Kf, share by which the load falls a hertz
    """
    return np.asarray(
        mw_per_hz * nominal_hz / size_mw / (2.0 * inertia_s * 1j * omega + load_per_hz * nominal_hz)
    )  # fmt: skip


def lagged(delay_s: float, *tau_s: float) -> Response:
    """A delay behind first-order lags: exp(-s delay) / ((1 + s tau) ...)."""

    def response(omega: Floats) -> Complexes:
        found = np.exp(-1j * omega * delay_s)
        for tau in tau_s:
            found = found / (1.0 + 1j * omega * tau)
        return np.asarray(found)

    return response


def distance(loop: Complexes) -> float:
    """Smallest |1 + L|."""
    return float(np.abs(1.0 + loop).min())


def encirclements(loop: Complexes, at_rest: float) -> int:
    """How often L goes round -1, from frequency 0 to infinity and back.

    loop    : complex128[n]  the curve over ascending frequency
    at_rest : the real value at frequency 0; at infinity L is 0

    What lies before the first and behind the last point is a straight line. Where F and G are stable, the closed loop
    is stable if the curve does not go round at all.
    """
    path = 1.0 + np.concatenate([[at_rest], loop, [0.0]])
    turned = np.angle(path[1:] / path[:-1]).sum()
    # The curve of the negative frequencies is the mirror image: it turns as much again.
    return round(float(turned) / np.pi)


def whole_distance(plant: Response, response: Response) -> float:
    """Smallest |1 + F G| on the whole curve, from the slowest swing to the fastest."""
    omega = np.geomspace(*WHOLE_RAD_S, WHOLE_POINTS)
    return distance(response(omega) * plant(omega))


def largest_delay_s(plant: Response, least: float, *tau_s: float) -> float:
    """Largest pure delay with which the loop, with first-order lags, keeps |1 + L| at `least` [s].

    0 where the lags alone are too slow, or unstable. A loop that is stable without delay stays so until the curve
    reaches the circle: the first crossing counts.
    """
    omega = np.geomspace(*WHOLE_RAD_S, WHOLE_POINTS)
    undelayed = lagged(0.0, *tau_s)(omega) * plant(omega)
    if encirclements(undelayed, float(plant(np.zeros(1))[0].real)):
        return 0.0

    def spare(delay_s: float) -> float:
        return whole_distance(plant, lagged(delay_s, *tau_s)) - least

    return first_crossing(spare, DELAY_STEP_S, DELAY_MOST_S, DELAY_EXACT_S)


def first_crossing(spare: Callable[[float], float], step: float, most: float, exact: float) -> float:
    """The first place from 0 up where `spare` is used up: equal steps find it, halving makes it exact.

    0 where nothing is spare at 0; `most` where some is left up to there.
    """
    low, high = 0.0, step
    if spare(low) <= 0.0:
        return 0.0
    while spare(min(high, most)) > 0.0:
        if high >= most:
            return most
        low, high = high, high + step
    high = min(high, most)
    while high - low > exact:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if spare(middle) > 0.0 else (low, middle)
    return low
