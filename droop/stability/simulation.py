"""A contingency lived through step by step: the grid exactly, the fleet by the engine's own dynamics.

The grid's linear part is stepped by its matrix exponential, so that the step's length decides nothing where inputs are
held. The fleet's power changes within a step and enters by its mean over it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.dynamics import at_rest, requested_kw, steps_of, terms
from droop.numerics import strict
from droop.promises import at_least
from droop.stability import swing
from droop.stability.fleet import MW_TO_KW, Fleet, FleetError, check, taps
from droop.stability.grid import Grid

Floats = npt.NDArray[np.float64]

STEP_S: Final = 0.01
BEGINS_S: Final = 1.0
SECONDS_MOST: Final = 3600.0
_H_S: Final = 3600.0


class ContingencyError(ValueError):
    """A contingency that cannot be played; the message names the field and the remedy."""


@dataclass(frozen=True)
class Contingency:
    """What happens to the grid.

    loss_mw  : power that is lost; negative: load that is
    ramp_s   : over which it goes; 0: at once
    noise_mw : standard deviation of the load's own wandering, `noise_s` its memory, `seed` which wandering
    """

    loss_mw: float
    ramp_s: float = 0.0
    noise_mw: float = 0.0
    noise_s: float = 5.0
    seed: int = 1

    def __post_init__(self) -> None:
        if not math.isfinite(self.loss_mw):
            raise ContingencyError("field `loss_mw` takes a number: power lost in MW, or below 0 load that is lost")
        try:
            at_least(self, "ramp_s", "noise_mw")
            at_least(self, "noise_s", above=True)
        except ValueError as error:
            raise ContingencyError(str(error)) from None

    def series(self, steps: int, step_s: float) -> Floats:
        """float64[steps]: external power into the grid, mean over each step [MW]."""
        edges = (np.arange(steps + 1) * step_s - BEGINS_S).clip(min=0.0)
        if self.ramp_s > 0.0:
            # Of a ramp the mean over a step is the difference of its integral.
            rising = np.minimum(edges, self.ramp_s) ** 2 / (2.0 * self.ramp_s) + np.maximum(edges - self.ramp_s, 0.0)
        else:
            rising = edges
        lost = -self.loss_mw * np.diff(rising) / step_s
        if self.noise_mw > 0.0:
            from scipy.signal import lfilter  # for those who want noise

            keep = np.exp(-step_s / self.noise_s)
            white = np.random.default_rng(self.seed).standard_normal(steps)
            lost = lost + self.noise_mw * np.sqrt(1.0 - keep**2) * lfilter([1.0], [1.0, -keep], white)
        return np.asarray(lost, np.float64)


class Course(NamedTuple):
    """What came of it, a row a step.

    t_s : float64[n]  from the contingency on, which is at 0;  hz : frequency at t_s
    fleet_mw, governors_mw, lost_mw : power into the grid at t_s
    """

    t_s: Floats
    hz: Floats
    fleet_mw: Floats
    governors_mw: Floats
    lost_mw: Floats


@strict
def _governed(dev_pu: float, gain: Any, band_pu: Any, reserve_pu: Any, u: Any) -> None:
    """What each governor's command differs by from the plain droop that the matrices hold."""
    for g in range(gain.size):
        beyond = max(abs(dev_pu) - band_pu[g], 0.0) * (-1.0 if dev_pu > 0.0 else 1.0)
        u[g] = min(max(gain[g] * beyond, -reserve_pu[g]), reserve_pu[g]) + gain[g] * dev_pu


@strict
def _moved(a: Any, b: Any, x: Any, u: Any, after: Any) -> None:
    """x becomes a x + b u."""
    for i in range(x.size):
        after[i] = 0.0
        for j in range(x.size):
            after[i] += a[i, j] * x[j]
        for j in range(u.size):
            after[i] += b[i, j] * u[j]
    x[:] = after


@strict
def _sum(weights: Any, values: Any) -> float:
    total = 0.0
    for i in range(weights.size):
        total += weights[i] * values[i]
    return total


@strict
def _shown(told: Any, at: int, ago: Any, weights: Any) -> float:
    """What shows now of the commands remembered, the newest at `at`; the memory is gone through round and round."""
    total = 0.0
    for j in range(ago.size):
        before = at - ago[j]
        total += weights[j] * told[before if before >= 0 else before + told.size]
    return total


@strict
def _run(
    a: Any, b: Any, c: Any, d: Any, gain: Any, band_pu: Any, reserve_pu: Any, motion: Any, sold: Any, ago: Any,
    weights: Any, lost_pu: Any, nominal_hz: float, mw_to_pu: float, step_ns: int, every: int, lag: float,
    measured: float, ramp_mw: float, energy_mws: float, hz: Any, fleet_mw: Any, governors_pu: Any,
) -> None:  # fmt: skip
    """All steps of a course; see `simulate`. lag, measured : share of the gap that is closed in a step"""
    x, after, u = np.zeros(a.shape[0]), np.zeros(a.shape[0]), np.zeros(b.shape[1])
    told = np.zeros(ago[-1] + 1)
    step_s = step_ns * 1e-9
    seen_hz = before_hz = command_mw = ramped_mw = given_mw = used_mws = 0.0
    for k in range(lost_pu.size):
        dev_hz = x[0] * nominal_hz
        seen_hz = dev_hz if measured >= 1.0 else seen_hz + measured * (0.5 * (dev_hz + before_hz) - seen_hz)
        before_hz = dev_hz
        if k % every == 0:
            elapsed_s = every * step_s if k > 0 else 0.0
            # Not from 0 on: to the engine 0 ns is no time.
            now_ns = (k + every) * step_ns
            command_mw = 1e-3 * requested_kw(motion, sold, nominal_hz + seen_hz, 1.0, True, now_ns, elapsed_s, 0.0, 0)
        told[k % told.size] = command_mw
        late_mw = _shown(told, k % told.size, ago, weights)
        ramped_mw += min(max(late_mw - ramped_mw, -ramp_mw), ramp_mw)
        held_mw = given_mw
        given_mw += lag * (ramped_mw - given_mw)
        given_mw = min(max(given_mw, (-energy_mws - used_mws) / step_s), (energy_mws - used_mws) / step_s)
        # Without a lag the power jumps as the step begins.
        held_mw = given_mw if lag >= 1.0 else held_mw
        mean_mw = 0.5 * (held_mw + given_mw)
        used_mws += mean_mw * step_s
        _governed(x[0], gain, band_pu, reserve_pu, u)
        u[-1] = mean_mw * mw_to_pu + lost_pu[k]
        hz[k], fleet_mw[k] = dev_hz, held_mw
        governors_pu[k] = _sum(c, x) + _sum(d, u)
        _moved(a, b, x, u, after)


def simulate(
    grid: Grid, contingency: Contingency, fleet: Fleet | None = None, *, seconds: float = 120.0, step_s: float = STEP_S
) -> Course:
    """The frequency before and after a contingency, which comes `BEGINS_S` into the course.

    fleet   : who answers beside the governors; None: nobody
    seconds : how long, from the contingency on;  step_s : whole steps make a sample

    Raises FleetError for a fleet that the grid cannot have, or a sampling that the steps cannot play.
    """
    if fleet is not None:
        check(grid, fleet)
    if not 0.0 < step_s <= 0.1 or not step_s < seconds <= SECONDS_MOST:
        raise FleetError(
            f"fields `seconds` and `step_s`: a study is of up to {SECONDS_MOST:g} s in steps of up to 0.1 s"
        )
    steps = round((seconds + BEGINS_S) / step_s)
    every = 1 if fleet is None else round(fleet.sample_s / step_s)
    if fleet is not None and (every < 1 or abs(every * step_s - fleet.sample_s) > 1e-9):
        raise FleetError(f"field `sample_s`: {fleet.sample_s:g} s is no whole number of steps of {step_s:g} s; "
                         "give a multiple of them")  # fmt: skip
    plain, exact = swing.motion(grid), swing.stepped(grid, step_s)
    sold = [] if fleet is None else [(fleet.plain(), fleet.fleet_mw * MW_TO_KW)]
    lost_mw = contingency.series(steps, step_s)
    dev_hz, fleet_mw, governors_pu = (np.empty(steps) for _ in range(3))
    mw = 0.0 if fleet is None else fleet.fleet_mw
    _run(
        exact.a, exact.b, plain.c, plain.d,
        np.array([grid.gain_pu(one) for one in grid.governor], np.float64),
        np.array([one.deadband_hz / grid.nominal_hz for one in grid.governor], np.float64),
        np.array([one.reserve_mw / grid.size_mw for one in grid.governor], np.float64),
        at_rest(len(sold), steps_of(sold)), terms(sold),
        *((np.zeros(1, np.int64), np.ones(1)) if fleet is None else taps(fleet, step_s)),
        lost_mw / grid.size_mw, grid.nominal_hz, 1.0 / grid.size_mw, round(step_s * 1e9), every,
        closed(fleet.lag_s if fleet else 0.0, step_s), closed(fleet.measure_s if fleet else 0.0, step_s),
        np.inf if fleet is None else fleet.ramp_pu_s * mw * step_s,
        np.inf if fleet is None else fleet.energy_h * _H_S * max(mw, 1e-300),
        dev_hz, fleet_mw, governors_pu,
    )  # fmt: skip
    t_s = np.asarray(np.arange(steps) * step_s - BEGINS_S, np.float64)
    return Course(t_s, grid.nominal_hz + dev_hz, fleet_mw, governors_pu * grid.size_mw, lost_mw)


def closed(tau_s: float, step_s: float) -> float:
    """Share of its gap that a first-order lag closes in a step; 1: there is no lag."""
    return float(-np.expm1(-step_s / tau_s)) if tau_s > 0.0 else 1.0


def rehearse() -> None:
    """Have the kernel compiled, or loaded."""
    from droop.products import load
    from droop.stability.grid import load as grid_of

    simulate(grid_of("ce"), Contingency(1.0), Fleet(load("ce_fcr"), 1.0), seconds=1.0)
