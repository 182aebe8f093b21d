"""Where more fleet or more delay starts to hurt: the map over both, and its edge found by halving.

A fleet hurts where the frequency goes further from nominal than without it, where a swing that could be seen is
damped less than 5 % (or less than the grid's own, if that is less), or where the loop does not decay at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np

from droop.stability import margins, swing
from droop.stability.fleet import Fleet
from droop.stability.grid import Grid
from droop.stability.measures import measure
from droop.stability.nyquist import DELAY_MOST_S, Floats, Ints, first_crossing
from droop.stability.simulation import Contingency, simulate

DAMPING_LEAST: Final = 0.05
# What a plot could not show is no harm.
SLACK_HZ: Final = 1e-4
HALVINGS: Final = 8
DELAY_STEP_S: Final = 0.2
DELAY_EXACT_S: Final = 2e-3
# The first swing decides; later ones are judged by their damping.
SECONDS: Final = 30.0

Progress = Callable[[int, int], bool]


class Effect(IntEnum):
    """What a fleet of some size and delay does."""

    HELPS = 0
    DEEPENS = 1  # the frequency goes further from nominal than without it
    SWINGS = 2  # a swing is damped too little
    UNSTABLE = 3


class StoppedError(RuntimeError):
    """Told to stop before the end."""


class Verdict(NamedTuple):
    """effect : what it does;  worst_dev_hz : largest deviation from nominal; NaN where the loop does not decay"""

    effect: Effect
    worst_dev_hz: float


@dataclass(frozen=True)
class Judge:
    """Judges fleets of one kind, by size and delay, in one grid and contingency; what it has judged it remembers."""

    grid: Grid
    contingency: Contingency
    step_s: float = 0.01
    seconds: float = SECONDS
    known: dict[tuple[float, tuple[float, ...]], Verdict] = field(default_factory=dict, repr=False, compare=False)

    def alone_hz(self, fleet: Fleet) -> float:
        """Largest deviation without the fleet."""
        return self._verdict(fleet.sized(0.0)).worst_dev_hz

    def damping_least(self) -> float:
        """The least damping that is asked for: 5 %, or what the grid has by itself."""
        found = swing.poles(self.grid)
        swings = found[np.abs(found.imag) > 1e-9]
        own = float((-swings.real / np.abs(swings)).min()) if swings.size else 1.0
        return max(min(DAMPING_LEAST, 0.98 * own), 0.0)

    def verdict(self, fleet: Fleet) -> Verdict:
        """What this fleet does."""
        found = self._verdict(fleet)
        if found.effect is Effect.HELPS and found.worst_dev_hz > self.alone_hz(fleet) + SLACK_HZ:
            return Verdict(Effect.DEEPENS, found.worst_dev_hz)
        return found

    def _verdict(self, fleet: Fleet) -> Verdict:
        key = fleet.fleet_mw, fleet.delays_s if fleet.fleet_mw > 0.0 else ()
        if key not in self.known:
            self.known[key] = self._judged(fleet)
        return self.known[key]

    def _judged(self, fleet: Fleet) -> Verdict:
        effect = Effect.HELPS
        if not margins.damped(self.grid, fleet, self.damping_least()):
            if not margins.damped(self.grid, fleet, 0.0):
                return Verdict(Effect.UNSTABLE, float("nan"))
            effect = Effect.SWINGS
        course = simulate(self.grid, self.contingency, fleet, seconds=self.seconds, step_s=self.step_s)
        return Verdict(effect, measure(self.grid, course).worst_dev_hz)

    def helps(self, fleet: Fleet) -> bool:
        """Whether it does no harm."""
        return self.verdict(fleet).effect is Effect.HELPS


def largest_delay_s(judge: Judge, fleet: Fleet) -> float:
    """The mean delay from which on a fleet of this size hurts [s]; 0: it hurts without any; inf: it never does."""
    found = first_crossing(
        lambda delay_s: 1.0 if judge.helps(fleet.delayed(delay_s)) else -1.0, DELAY_STEP_S, DELAY_MOST_S, DELAY_EXACT_S
    )
    return float("inf") if found >= DELAY_MOST_S else found


def largest_fleet_mw(judge: Judge, fleet: Fleet, sizes_mw: Floats) -> float:
    """The size from which on a fleet of this delay hurts [MW]; inf: none of these does. sizes_mw : ascending"""
    low = 0.0
    for size_mw in sizes_mw.tolist():
        if not judge.helps(fleet.sized(size_mw)):
            return _halved(lambda mw: judge.helps(fleet.sized(mw)), low, size_mw)
        low = size_mw
    return float("inf")


def _halved(holds: Callable[[float], bool], low: float, high: float) -> float:
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class Region:
    """The map.

    sizes_mw, delays_s : float64[n], float64[m]
    effect       : int64[n, m]  `Effect`
    worst_dev_hz : float64[n, m]  NaN where unstable
    edge_s       : float64[n]  the delay from which on each size hurts; inf beyond the last
    best_mw      : float64[m]  of these sizes the one with the smallest deviation, at each delay
    """

    sizes_mw: Floats
    delays_s: Floats
    effect: Ints
    worst_dev_hz: Floats
    edge_s: Floats
    best_mw: Floats


def region(
    judge: Judge, fleet: Fleet, sizes_mw: Floats, delays_s: Floats, progress: Progress = lambda *_: True
) -> Region:
    """The map over sizes and mean delays, both ascending and above 0.

    progress : told cells done and all; False stops, with StoppedError
    """
    shape = sizes_mw.size, delays_s.size
    effect, worst = np.zeros(shape, np.int64), np.full(shape, np.nan)
    edge_s = np.full(sizes_mw.size, np.inf)
    for i, size_mw in enumerate(sizes_mw.tolist()):
        sized = fleet.sized(size_mw)
        for j, delay_s in enumerate(delays_s.tolist()):
            effect[i, j], worst[i, j] = judge.verdict(sized.delayed(delay_s))
            if not progress(i * delays_s.size + j + 1, effect.size):
                raise StoppedError("stopped before the end of the sweep; nothing was written")
        edge_s[i] = _edge_s(judge, sized, delays_s, effect[i])
    better = np.where(effect == Effect.HELPS, worst, np.inf)
    best = np.where(np.isfinite(better).any(axis=0), sizes_mw[better.argmin(axis=0)], 0.0)
    return Region(sizes_mw, delays_s, effect, worst, edge_s, best)


def _edge_s(judge: Judge, fleet: Fleet, delays_s: Floats, effect: Ints) -> float:
    """Between the first delay of a row that hurts and the one before it."""
    hurts = np.flatnonzero(effect != Effect.HELPS)
    if hurts.size == 0:
        return float("inf")
    first = int(hurts[0])
    low_s = float(delays_s[first - 1]) if first > 0 else 0.0
    return _halved(lambda delay_s: judge.helps(fleet.delayed(delay_s)), low_s, float(delays_s[first]))
