"""The grid alone: its equation of motion as matrices, stepped exactly, as a transfer function, and in closed form.

States are per unit: speed deviation first, then one for each part of each governor (`Governor.blocks`), and the
integral of secondary control. Dead band and reserve of a governor are no linear matter: the matrices hold the plain
droop, and what the true command differs from it by comes in as an input, `u`, one a governor, with the external power
as the last. Where no governor is at a limit nothing is approximate.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.stability.grid import Governor, Grid

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]

# Above the damping of a real system, and below anything that it could be told from in a plot.
EDGE_HZ: Final = 1e-9


class Motion(NamedTuple):
    """dx/dt = a x + b u; the governors' power is c x + d u. Everything per unit.

    a : float64[n, n];  b : float64[n, m];  c : float64[n];  d : float64[m]
    """

    a: Floats
    b: Floats
    c: Floats
    d: Floats


class Stepped(NamedTuple):
    """x' = a x + b u for inputs held over a step."""

    a: Floats
    b: Floats


def active(grid: Grid, dev_hz: float) -> tuple[bool, ...]:
    """Which governors answer a small change about a deviation: beyond their dead band, and not at their reserve."""
    found = []
    for one in grid.governor:
        beyond_hz = abs(dev_hz) - one.deadband_hz
        found.append(beyond_hz >= 0.0 and grid.strength_mw_hz(one) * beyond_hz < one.reserve_mw)
    return tuple(found)


def motion(grid: Grid, on: tuple[bool, ...] | None = None) -> Motion:
    """The equation of motion. on : the governors that answer; all, where not given"""
    on = on or (True,) * len(grid.governor)
    parts = [governor.blocks() for governor in grid.governor]
    n = 1 + sum(map(len, parts)) + (grid.secondary_pu_s > 0)
    m = len(grid.governor) + 1
    rows = np.zeros((n, n + m))  # derivatives of the states, by states and inputs
    power = np.zeros(n + m)
    at = 1
    for k, (governor, blocks) in enumerate(zip(grid.governor, parts, strict=True)):
        signal = np.zeros(n + m)
        signal[0], signal[n + k] = -grid.gain_pu(governor) * on[k], 1.0
        for b, a in blocks:
            # (1 + b s)/(1 + a s): what passes at once, and one state for the rest.
            rows[at] = (1.0 - b / a) / a * signal
            rows[at, at] -= 1.0 / a
            signal = b / a * signal
            signal[at] += 1.0
            at += 1
        power += signal
    rows[0] = power
    rows[0, 0] -= grid.load_damping_pu
    rows[0, -1] += 1.0
    if grid.secondary_pu_s > 0:
        rows[0, at] += 1.0
        rows[at, 0] = -grid.secondary_pu_s
    rows[0] /= 2.0 * grid.inertia_s
    return Motion(rows[:, :n], rows[:, n:], power[:n], power[n:])


def stepped(grid: Grid, step_s: float) -> Stepped:
    """The motion over one step, exact for held inputs."""
    from scipy.linalg import expm  # a third of a second of import for those who simulate

    plain = motion(grid)
    n, m = plain.b.shape
    whole = np.zeros((n + m, n + m))
    whole[:n] = np.hstack([plain.a, plain.b]) * step_s
    moved: Any = expm(whole)
    return Stepped(np.ascontiguousarray(moved[:n, :n]), np.ascontiguousarray(moved[:n, n:]))


def poles(grid: Grid, dev_hz: float = 0.0) -> Complexes:
    """Eigenvalues of the grid alone about a deviation [1/s]."""
    return np.asarray(np.linalg.eigvals(motion(grid, active(grid, dev_hz)).a), np.complex128)


def transfer(grid: Grid, s: Complexes, on: tuple[bool, ...] | None = None) -> Complexes:
    """From power into the grid to frequency, P(s) [Hz/MW]. on : the governors that answer; all, where not given"""
    on = on or (True,) * len(grid.governor)
    back = 2.0 * grid.inertia_s * s + grid.load_damping_pu
    for governor, answers in zip(grid.governor, on, strict=True):
        if answers:
            back = back + grid.gain_pu(governor) * through(governor, s)
    if grid.secondary_pu_s > 0:
        back = back + grid.secondary_pu_s / s
    return np.asarray(grid.nominal_hz / grid.size_mw / back)


def through(governor: Governor, s: Complexes) -> Complexes:
    """From a governor's command to its power."""
    found = np.ones_like(s)
    for b, a in governor.blocks():
        found = found * (1.0 + b * s) / (1.0 + a * s)
    return found


# ---- in closed form, without dead band and limits ---------------------------------------------------------------


def rocof_hz_s(grid: Grid, loss_mw: float) -> float:
    """Slope in the first moment: -dP f0/(2 H S) [Hz/s]."""
    return -loss_mw * grid.nominal_hz / (2.0 * grid.inertia_s * grid.size_mw)


def steady_dev_hz(grid: Grid, loss_mw: float) -> float:
    """Where the deviation comes to rest: -dP/(D + sum K/R), in MW/Hz [Hz]; 0 with secondary control."""
    if grid.secondary_pu_s > 0:
        return 0.0
    return -loss_mw / (grid.damping_mw_hz + sum(map(grid.strength_mw_hz, grid.governor)))


class Nadir(NamedTuple):
    """The deepest point after a step loss, and the mode that leads there."""

    dev_hz: float
    at_s: float
    damping_frac: float
    natural_rad_s: float


def nadir(grid: Grid, loss_mw: float) -> Nadir:
    """Time and depth of the nadir of one reheat governor (Anderson and Mirheydar 1990, eq. 11 to 17).

    Raises GridError's base, ValueError, where the formula does not hold: it is of one reheat governor and a swing.
    """
    if len(grid.governor) != 1 or grid.secondary_pu_s > 0:
        raise ValueError(f"{grid.id}: the closed form is of one governor and no secondary control; simulate instead")
    (one,) = grid.governor
    if one.servo_s > 0 or one.water_s > 0 or one.transient_s > 0 or not one.reheat_s > 0:
        raise ValueError(f"{grid.id}: the closed form is of a reheat governor alone; simulate instead")
    stiff = grid.load_damping_pu + grid.gain_pu(one)
    reheat_s, mass_s = one.reheat_s, 2.0 * grid.inertia_s
    natural = math.sqrt(stiff / (mass_s * reheat_s))
    through_pu = grid.load_damping_pu + grid.gain_pu(one) * one.reheat_frac
    damping = (mass_s + through_pu * reheat_s) / (2.0 * stiff) * natural
    if damping >= 1.0:
        raise ValueError(f"{grid.id}: the closed form is of a swing, and this grid has none; simulate instead")
    swing = natural * math.sqrt(1.0 - damping**2)
    at_s = math.atan2(swing * reheat_s, damping * natural * reheat_s - 1.0) / swing
    # The response to a step, differentiated to zero at `at_s`.
    decay = math.exp(-damping * natural * at_s)
    cosine, sine = math.cos(swing * at_s), math.sin(swing * at_s)
    shape = 1.0 - decay * (cosine + (damping * natural - reheat_s * natural**2) / swing * sine)
    return Nadir(-loss_mw / grid.size_mw * grid.nominal_hz / stiff * shape, at_s, damping, natural)
