"""A stability study: a grid, a contingency and a fleet, in time, in frequency, by size, and over size and delay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from droop.stability import margins, swing
from droop.stability.fleet import Fleet, check
from droop.stability.grid import Grid, GridError
from droop.stability.margins import Loop, Margins
from droop.stability.measures import Measures, measure
from droop.stability.nyquist import Floats
from droop.stability.region import Effect, Judge, Progress, Region, largest_delay_s, largest_fleet_mw, region
from droop.stability.simulation import STEP_S, Contingency, ContingencyError, Course, simulate

SIZES: Final = (0.25, 0.5, 1.0, 2.0)
SWEEP_MOST: Final = 4.0  # of the fleet's size
CELLS: Final = 12
DELAY_LEAST_S: Final = 2.0  # the sweep reaches at least so far
# Small changes are seen in a linear model alone; beyond this it says nothing of a real grid.
LINEAR_FRAC: Final = 0.06


class Played(NamedTuple):
    """One size of the fleet, and what came of it."""

    fleet_mw: float
    course: Course
    measures: Measures


@dataclass(frozen=True)
class Study:
    """What was found.

    alone, played, sizes : without the fleet, with it, and with others of its kind
    margins, loop        : on the stretch with the least left; None where the fleet closes no linear loop
    effect               : what the fleet does
    largest_delay_s      : mean delay from which on it hurts; inf: never
    largest_mw           : size from which on it hurts at its delay; inf: not within the sizes looked at
    region               : the sweep, if asked for
    """

    grid: Grid
    fleet: Fleet
    contingency: Contingency
    alone: Played
    played: Played
    sizes: tuple[Played, ...]
    margins: Margins | None
    loop: Loop | None
    effect: Effect
    largest_delay_s: float
    largest_mw: float
    region: Region | None

    @property
    def linear(self) -> bool:
        """Whether the model still says something of a real grid: the frequency stays within 6 % of nominal."""
        return self.played.measures.worst_dev_hz <= LINEAR_FRAC * self.grid.nominal_hz


def study(
    grid: Grid, fleet: Fleet, contingency: Contingency, *, seconds: float = 120.0, step_s: float = STEP_S,
    sweep: bool = False, progress: Progress = lambda *_: True,
) -> Study:  # fmt: skip
    """Play the contingency without and with the fleet, and say how much of either it may be.

    seconds  : of each course;  step_s : of the simulation
    sweep    : the map over size and delay as well, some 10 s
    progress : of the sweep; False stops it with `region.StoppedError`

    Raises FleetError, GridError, ContingencyError: each one line with the field and the remedy.
    """
    check_all(grid, fleet, contingency)
    falls = contingency.loss_mw >= 0.0

    def play(fleet_mw: float) -> Played:
        course = simulate(grid, contingency, fleet.sized(fleet_mw), seconds=seconds, step_s=step_s)
        return Played(fleet_mw, course, measure(grid, course, falls))

    judge = Judge(grid, contingency, step_s)
    found = margins.worst(grid, fleet)
    most_mw = min(SWEEP_MOST * fleet.fleet_mw, grid.size_mw)
    sizes_mw = np.linspace(0.0, most_mw, CELLS + 1)[1:]
    return Study(
        grid, fleet, contingency, play(0.0), play(fleet.fleet_mw),
        tuple(play(share * fleet.fleet_mw) for share in SIZES if share * fleet.fleet_mw <= grid.size_mw),
        found[0] if found else None, found[1] if found else None, judge.verdict(fleet).effect,
        largest_delay_s(judge, fleet), largest_fleet_mw(judge, fleet, sizes_mw),
        region(judge, fleet, sizes_mw, delays_of(fleet), progress) if sweep else None,
    )  # fmt: skip


def delays_of(fleet: Fleet) -> Floats:
    """float64[m]: the mean delays that a sweep looks at [s]."""
    most_s = max(DELAY_LEAST_S, 3.0 * fleet.delay_s)
    return np.linspace(0.0, most_s, CELLS + 1)[1:]


def check_all(grid: Grid, fleet: Fleet, contingency: Contingency) -> None:
    """Raises FleetError, GridError, ContingencyError for what cannot be studied together."""
    check(grid, fleet)
    if abs(contingency.loss_mw) > grid.size_mw:
        raise ContingencyError(f"field `loss_mw`: {contingency.loss_mw:g} MW is more than the whole of `{grid.id}`, "
                               f"{grid.size_mw:g} MW; give less")  # fmt: skip
    if not fleet.fleet_mw > 0.0:
        raise ContingencyError("field `fleet_mw` takes a power above 0: a study compares with none by itself")
    growing = swing.poles(grid).real.max()
    if growing > 1e-9:
        raise GridError(
            f"grid `{grid.id}` swings ever wider without any fleet; look at `governor` and its time constants"
        )
