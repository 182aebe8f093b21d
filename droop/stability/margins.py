"""How much the loop of fleet and grid can still take: margins, sensitivity, and the mode that decays least.

Delays are exact throughout. Where a product's curve or a governor has several slopes each stretch is a loop of its
own, linearised there: the smallest margin of all counts, whether or not a contingency reaches it.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from droop.stability import swing
from droop.stability.fleet import Fleet, slopes, transfer
from droop.stability.grid import Grid
from droop.stability.nyquist import Complexes, Floats

LOW_RAD_S: Final = 1e-3
HIGH_RAD_S: Final = 1e2
POINTS: Final = 4000
AXIS_RAD: Final = 6.0
# Damping is asked of modes that one could see: up to 2 Hz, or beyond it the first that a short delay makes.
SEEN_RAD_S: Final = 4.0 * math.pi
SEEN_TURNS: Final = 5.0
RAY_POINTS: Final = 1500
ARC_POINTS: Final = 200
DAMPING: Final = (-0.95, 0.7)
DAMPING_EXACT: Final = 1e-3
NEWTON: Final = 30


@dataclass(frozen=True)
class Loop:
    """The open loop about one deviation: F(s) P(s), fleet and grid alike linear there.

    dev_hz  : the deviation;  share_hz : slope of the product's curve;  on : the governors that answer
    """

    grid: Grid
    fleet: Fleet
    dev_hz: float
    share_hz: float
    on: tuple[bool, ...]

    def at(self, s: Complexes) -> Complexes:
        """L(s)."""
        return np.asarray(transfer(self.fleet, s, self.share_hz) * swing.transfer(self.grid, s, self.on))

    def along(self, omega: Floats) -> Complexes:
        """L(j omega)."""
        return self.at(np.asarray(1j * omega, np.complex128))

    @property
    def gain_rad_s(self) -> float:
        """What the loop crosses 1 at when nothing but the mass is left of the grid [rad/s]."""
        one_mw_hz = self.grid.nominal_hz / (2.0 * self.grid.inertia_s * self.grid.size_mw)
        return self.fleet.fleet_mw * self.share_hz * one_mw_hz

    def poles(self) -> Complexes:
        """Of the grid alone."""
        return np.asarray(np.linalg.eigvals(swing.motion(self.grid, self.on).a), np.complex128)


class Margins(NamedTuple):
    """What is left of one loop.

    stable          : the closed loop decays
    gain            : the fleet may grow by this factor before it does not; inf: at any size
    phase_deg       : angle left at the crossover; inf: the loop never reaches 1
    delay_s         : further delay until it does not decay; inf: any
    crossover_rad_s : where that is decided; NaN: nowhere
    peak            : M_s, largest |1/(1 + L)|; 1/M_s is the distance from -1
    damping_frac, period_s : of the least damped mode that could be seen, 0.7 standing for all above; NaN period: none
    dev_hz          : the deviation about which this is so
    """

    stable: bool
    gain: float
    phase_deg: float
    delay_s: float
    crossover_rad_s: float
    peak: float
    damping_frac: float
    period_s: float
    dev_hz: float


def loops(grid: Grid, fleet: Fleet) -> list[Loop]:
    """The loop on each stretch on which fleet or governors have another slope; none where the fleet is a switch."""
    found: dict[tuple[float, tuple[bool, ...]], Loop] = {}
    edges = {sign * one.deadband_hz for one in grid.governor for sign in (-1.0, 1.0)}
    for one in grid.governor:
        full_hz = one.deadband_hz + one.reserve_mw / grid.strength_mw_hz(one)
        edges |= {-full_hz, full_hz} if math.isfinite(full_hz) else set()
    for low_hz, high_hz, share_hz in slopes(fleet.product):
        cuts = sorted({low_hz, high_hz, *(hz for hz in edges if low_hz < hz < high_hz)})
        for a, b in pairwise(cuts):
            middle_hz = 0.5 * (a + b)
            on = swing.active(grid, middle_hz)
            # Stretches that are alike are one; of both sides the one below nominal is named.
            key = (round(share_hz, 12), on)
            if key not in found or abs(middle_hz) < abs(found[key].dev_hz):
                found[key] = Loop(grid, fleet, middle_hz, share_hz, on)
    return list(found.values())


def frequencies(loop: Loop, turns: float = 0.0) -> Floats:
    """float64[n]: where the curve is looked at [rad/s]; beyond the last point the loop is far below 1.

    turns : angle that the delay has turned by there at least [rad]: a small loop may cross the real axis far out
    """
    late_s = loop.fleet.delay_s + loop.fleet.product.delay_s + 0.5 * loop.fleet.sample_s
    return np.geomspace(LOW_RAD_S, max(HIGH_RAD_S, 20.0 * loop.gain_rad_s, turns / late_s), POINTS)


def _refined(loop: Loop, low: float, high: float, imaginary: bool) -> float:
    """Where between two frequencies |L| passes 1, or L the real axis."""
    from scipy.optimize import brentq

    def gap(omega: float) -> float:
        value = complex(loop.along(np.array([omega]))[0])
        return value.imag if imaginary else abs(value) - 1.0

    found: float = brentq(gap, low, high, xtol=1e-12, rtol=1e-12)
    return found


def crossovers(loop: Loop, omega: Floats, curve: Complexes) -> list[tuple[float, float]]:
    """(omega, angle above -180 degrees in 0..2 pi) wherever |L| passes 1."""
    over = np.abs(curve) > 1.0
    found = []
    for k in np.flatnonzero(over[1:] != over[:-1]).tolist():
        at = _refined(loop, float(omega[k]), float(omega[k + 1]), imaginary=False)
        found.append((at, (math.pi + cmath.phase(complex(loop.along(np.array([at]))[0]))) % (2.0 * math.pi)))
    return found


def gain_margin(loop: Loop, omega: Floats, curve: Complexes) -> float:
    """The smallest factor above 1 that puts L on -1; inf where none does."""
    crosses = (curve.imag[1:] * curve.imag[:-1] <= 0.0) & (curve.real[1:] < 0.0)
    factors = []
    for k in np.flatnonzero(crosses).tolist():
        at = _refined(loop, float(omega[k]), float(omega[k + 1]), imaginary=True)
        factors.append(1.0 / abs(complex(loop.along(np.array([at]))[0])))
    return min((factor for factor in factors if factor > 1.0), default=math.inf)


def reach_rad_s(loop: Loop) -> float:
    """Up to where modes are looked at: beyond it they are the delay's own, and gone before they could be seen."""
    return max(SEEN_RAD_S, SEEN_TURNS / max(loop.fleet.delay_s + loop.fleet.product.delay_s, 1e-3))


def modes_below(loop: Loop, damping_frac: float) -> int:
    """How many swings of the closed loop, real roots included, are damped less than this and could be seen.

    By the argument principle, along the ray of this damping and back over the arc of the fastest mode looked at.
    """
    angle = 0.5 * math.pi + math.asin(damping_frac)
    reach = reach_rad_s(loop)
    ray = np.geomspace(1e-6, reach, RAY_POINTS) * cmath.exp(1j * angle)
    arc = reach * np.exp(1j * np.linspace(angle, 0.0, ARC_POINTS))
    path = 1.0 + loop.at(np.concatenate([[1e-6 + 0j], ray, arc[1:]]))
    turned = float(np.angle(path[1:] / path[:-1]).sum())
    poles = loop.poles()
    inside = (np.abs(np.angle(poles)) < angle - 1e-12) & (np.abs(poles) < reach) & (np.abs(poles) > 1e-6)
    # Clockwise about the region, and the mirror image turns as much: zeros - poles = -2 turned/(2 pi).
    return int(np.count_nonzero(inside)) - round(turned / math.pi)


def stable(loop: Loop) -> bool:
    """Whether the closed loop decays, by the whole Nyquist curve."""
    omega = frequencies(loop)
    path = 1.0 + np.concatenate([[loop.at(np.array([1e-9 + 0j]))[0].real], loop.along(omega), [0.0]])
    turned = float(np.angle(path[1:] / path[:-1]).sum())
    return bool(np.count_nonzero(loop.poles().real > 1e-12) == round(turned / math.pi))


def least_damped(loop: Loop) -> tuple[float, float]:
    """(damping ratio, period [s]) of the least damped mode; (0.7, NaN) where all are damped better."""
    low, high = DAMPING
    if modes_below(loop, high) == 0:
        return high, math.nan
    if modes_below(loop, low) > 0:
        return low, math.nan  # it runs away without a swing
    while high - low > DAMPING_EXACT:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if modes_below(loop, middle) == 0 else (low, middle)
    angle = 0.5 * math.pi + math.asin(0.5 * (low + high))
    ray: Complexes = np.asarray(
        np.geomspace(1e-3, reach_rad_s(loop), RAY_POINTS) * cmath.exp(1j * angle), np.complex128
    )
    root = _root(loop, complex(ray[np.abs(1.0 + loop.at(ray)).argmin()]))
    damping = -root.real / abs(root)
    if abs(damping - 0.5 * (low + high)) > 10.0 * DAMPING_EXACT or root.imag <= 0.0:
        return 0.5 * (low + high), math.nan  # Newton went elsewhere; the count stands
    return damping, 2.0 * math.pi / root.imag


def _root(loop: Loop, s: complex) -> complex:
    """A root of 1 + L by Newton, the slope by differences."""
    for _ in range(NEWTON):
        step = 1e-6 * max(abs(s), 1e-3)
        at, beside = 1.0 + loop.at(np.array([s, s + step]))
        if at == beside:
            break
        change = complex(at * step / (beside - at))
        s -= change
        if abs(change) < 1e-12 * max(abs(s), 1.0):
            break
    return s


def margins(loop: Loop) -> Margins:
    """Everything that is left of one loop."""
    omega = frequencies(loop, AXIS_RAD)
    curve = loop.along(omega)
    holds = stable(loop)
    crossed = crossovers(loop, omega, curve)
    peak = float((1.0 / np.abs(1.0 + curve)).max())
    damping, period_s = least_damped(loop)
    phase = min((min(angle, 2.0 * math.pi - angle) for _, angle in crossed), default=math.inf)
    at, delay_s = min(((w, angle / w) for w, angle in crossed), key=lambda pair: pair[1], default=(math.nan, math.inf))
    return Margins(
        holds, gain_margin(loop, omega, curve) if holds else 0.0, math.degrees(phase) if holds else 0.0,
        delay_s if holds else 0.0, at, peak, damping, period_s, loop.dev_hz,
    )  # fmt: skip


def worst(grid: Grid, fleet: Fleet) -> tuple[Margins, Loop] | None:
    """The stretch with the least left, by stability and distance from -1; None where there is no linear loop."""
    if fleet.fleet_mw == 0.0:
        return None
    found = [(margins(loop), loop) for loop in loops(grid, fleet)]
    return min(found, key=lambda pair: (pair[0].stable, -pair[0].peak), default=None)


def damped(grid: Grid, fleet: Fleet, damping_frac: float) -> bool:
    """Whether every stretch is stable, with every mode that could be seen damped at least so much."""
    if fleet.fleet_mw == 0.0:
        return True
    return all(modes_below(loop, damping_frac) == 0 and stable(loop) for loop in loops(grid, fleet))
