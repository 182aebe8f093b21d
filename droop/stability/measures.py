"""What a course of the frequency amounts to: nadir, slope, rest, swing, and which thresholds it passed."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from droop.stability.grid import Grid
from droop.stability.nyquist import Floats
from droop.stability.simulation import Course

# ENTSO-E, Rate of change of frequency withstand capability, 2018: measured over a sliding window of 500 ms. [M]
WINDOW_S: Final = 0.5
# At the end of a course, over which the resting frequency is the mean.
REST_S: Final = 10.0
SETTLED_FRAC: Final = 0.05
# Swings below this are no swings: of the largest deviation, and in Hz.
SWING_FRAC: Final = 1e-3
SWING_HZ: Final = 1e-5
DECIDES: Final = 4


class Measures(NamedTuple):
    """One course in figures.

    nadir_hz, nadir_s   : the frequency furthest from nominal on the contingency's side, and when
    worst_dev_hz        : the largest deviation on either side
    rocof_hz_s          : steepest change over 500 ms, with its sign
    steady_hz           : mean of the last 10 s
    settling_s          : from here on within 5 % of the nadir's deviation about that; NaN: it never is
    damping_frac, period_s : of the swing by the heights of its last half waves; NaN: it does not swing
    shed_hz             : thresholds of load shedding that were passed
    fleet_mw            : the most that the fleet gave
    """

    nadir_hz: float
    nadir_s: float
    worst_dev_hz: float
    rocof_hz_s: float
    steady_hz: float
    settling_s: float
    damping_frac: float
    period_s: float
    shed_hz: tuple[float, ...]
    fleet_mw: float


def measure(grid: Grid, course: Course, falls: bool = True) -> Measures:
    """The figures of a course. falls : the contingency is a loss of generation, not of load"""
    dev = course.hz - grid.nominal_hz
    side = dev if falls else -dev
    deepest = int(side.argmin())
    steady = float(dev[course.t_s >= course.t_s[-1] - REST_S].mean())
    damping, period_s = swing(course.t_s, dev)
    lowest = float(course.hz.min())
    return Measures(
        float(course.hz[deepest]), float(course.t_s[deepest]), float(np.abs(dev).max()), rocof_hz_s(course),
        grid.nominal_hz + steady, settling_s(course.t_s, dev, steady), damping, period_s,
        tuple(hz for hz in sorted(grid.shed_hz, reverse=True) if lowest <= hz), float(np.abs(course.fleet_mw).max()),
    )  # fmt: skip


def rocof_hz_s(course: Course) -> float:
    """The steepest change over the window, with its sign [Hz/s]."""
    reach = max(round(WINDOW_S / float(course.t_s[1] - course.t_s[0])), 1)
    if course.hz.size <= reach:
        return math.nan
    slope = (course.hz[reach:] - course.hz[:-reach]) / WINDOW_S
    return float(slope[np.abs(slope).argmax()])


def settling_s(t_s: Floats, dev_hz: Floats, steady_hz: float) -> float:
    """From when on the deviation stays near where it rests; NaN where it does not before the last tenth."""
    within_hz = SETTLED_FRAC * float(np.abs(dev_hz).max())
    outside = np.flatnonzero(np.abs(dev_hz - steady_hz) > within_hz)
    if outside.size == 0:
        return 0.0
    last = float(t_s[outside[-1]])
    return last if last < 0.9 * float(t_s[-1]) else math.nan


def swing(t_s: Floats, dev_hz: Floats) -> tuple[float, float]:
    """(damping ratio, period [s]) of an oscillation by the logarithmic decrement of its half waves.

    The heights between successive extremes are taken, which a slow drift of the mean changes least; the last few
    decide. Negative where it grows. (NaN, NaN) where fewer than three half waves can be told.
    """
    after = t_s >= 0.0
    t_s, dev_hz = t_s[after], dev_hz[after]
    slope = np.diff(dev_hz)
    moves = np.flatnonzero(slope)  # an extreme may be flat
    rises = slope[moves] > 0.0
    turns = moves[1:][rises[1:] != rises[:-1]]
    if turns.size < DECIDES:
        return math.nan, math.nan
    heights = np.abs(np.diff(dev_hz[turns]))
    least_hz = max(SWING_FRAC * float(np.abs(dev_hz).max()), SWING_HZ)
    told = np.flatnonzero(heights >= least_hz)
    if told.size < DECIDES - 1:
        return math.nan, math.nan
    told = told[-4 * DECIDES :]
    # ln(height) falls by pi zeta/sqrt(1 - zeta^2) each half wave.
    slope_ln = float(np.polyfit(told, np.log(heights[told]), 1)[0])
    period_s = 2.0 * float(np.diff(t_s[turns[told[0] : told[-1] + 2]]).mean())
    return -slope_ln / math.hypot(slope_ln, math.pi), period_s
