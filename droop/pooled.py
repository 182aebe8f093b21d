"""A fleet as one battery: what years of frequency do to it under many choices at once.

The question before a backtest: how much to sell, with which dead band and droop, out of how much energy. One battery
stands for the pool; nobody comes or goes, and nothing is split. Eight cases advance side by side in the lanes of one
vector, in IEEE arithmetic in the order written: a case comes to the same bits whoever its neighbours are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.curve import Curve
from droop.freedoms import FULL_FRAC
from droop.numerics import strict

Floats = npt.NDArray[np.float64]

LANES: Final = 8
# Below this share of what is sold, a shortfall is rounding.
NEGLIGIBLE: Final = 1e-9
# Every curve of the catalogue without steps has one slope or two.
PIECES_MAX: Final = 2


class Case(NamedTuple):
    """One choice to be tried.

    curve           : what is sold, as a share of `sold_kw` by deviation
    sold_kw         : power sold [kW]
    energy_kwh      : of the battery, between empty and full [kWh]
    up_kw, down_kw  : most into and out of the grid, magnitudes [kW]
    eta_charge_frac, eta_discharge_frac : efficiencies, 0..1
    soc_min_frac, soc_max_frac, soc_frac : the window, and where it begins
    restore_h       : each block's working point aims at the middle of the window within this time [h]; 0: never
    overfulfil_max  : share of what is due that may be given where it helps; 1: no more than is due (`droop.freedoms`)
    """

    curve: Curve
    sold_kw: float
    energy_kwh: float
    up_kw: float
    down_kw: float
    eta_charge_frac: float = 0.95
    eta_discharge_frac: float = 0.95
    soc_min_frac: float = 0.0
    soc_max_frac: float = 1.0
    soc_frac: float = 0.5
    restore_h: float = 0.0
    overfulfil_max: float = 1.0


class Outcome(NamedTuple):
    """What it came to, at the grid; energies in kWh, all magnitudes.

    asked_*, given_* : of the product, each way
    short_kwh        : asked and not given
    bought_kwh, sold_kwh : through the working point
    loss_kwh         : in charging and discharging
    cycles           : equivalent full cycles
    soc_*_frac       : least, most and last state of charge
    short_s          : time in which something was missing [s]
    """

    asked_up_kwh: float
    asked_down_kwh: float
    given_up_kwh: float
    given_down_kwh: float
    short_kwh: float
    bought_kwh: float
    sold_kwh: float
    loss_kwh: float
    cycles: float
    soc_min_frac: float
    soc_max_frac: float
    soc_last_frac: float
    short_s: float


# Rows of one flat table, LANES numbers each: what is chosen, what stands for a block, and what is summed up; powers as
# energies of a step [kWh]. One table, because rows of one array a constant distance apart need no check at run
# time whether they overlap, and short loops with such checks are not turned into vectors.
(SOLD, UP, DOWN, PER_OUT, PER_IN, OUT_ETA, IN_ETA, LOW, HIGH, TARGET, RESTORE, OVER, FIRST, DEADBAND,
 BEGIN, END, SLOPE, BEGIN_2, END_2, SLOPE_2, BASE, PLUS, MINUS, ENERGY, ASKED, ASKED_NET, GIVEN, MOVED, SHORT, TIMES,
 LEAST, MOST, SINCE, BASE_UP, BASE_DOWN, ROWS) = range(36)  # fmt: skip


@strict
def _lead(width: int, w: Floats) -> None:
    """A block begins: its working point, and how far the freedoms are used in it."""
    for m in range(width):
        # Booked by whole blocks: cut in two, the sum would be another in its last bits.
        w[BASE_UP * LANES + m] += max(w[BASE * LANES + m], 0.0) * w[SINCE * LANES + m]
        w[BASE_DOWN * LANES + m] -= min(w[BASE * LANES + m], 0.0) * w[SINCE * LANES + m]
        w[SINCE * LANES + m] = 0.0
        away_kwh = w[ENERGY * LANES + m] - w[TARGET * LANES + m]
        w[BASE * LANES + m] = away_kwh * w[RESTORE * LANES + m]
        full_kwh = (w[HIGH * LANES + m] - w[LOW * LANES + m]) * FULL_FRAC
        lean = min(max(away_kwh / full_kwh, -1.0), 1.0) if full_kwh > 0.0 else 0.0
        w[PLUS * LANES + m] = 1.0 + w[OVER * LANES + m] * max(lean, 0.0)
        w[MINUS * LANES + m] = 1.0 - w[OVER * LANES + m] * min(lean, 0.0)


@strict
def _step(dev_hz: float, width: int, w: Floats) -> None:
    """One step of all lanes: what each curve asks at this deviation, and what the battery can give of it.

    One loop: several would each be unrolled, and no vectors be made of them.
    """
    known = not np.isnan(dev_hz)
    x, reach = (dev_hz, abs(dev_hz)) if known else (0.0, -1.0)  # what is unknown is within every dead band
    for m in range(width):
        # What each slope of the curve adds on the way from its left end.
        rise = (min(max(x, w[BEGIN * LANES + m]), w[END * LANES + m]) - w[BEGIN * LANES + m]) * w[SLOPE * LANES + m]
        second = min(max(x, w[BEGIN_2 * LANES + m]), w[END_2 * LANES + m]) - w[BEGIN_2 * LANES + m]
        share = w[FIRST * LANES + m] + rise + second * w[SLOPE_2 * LANES + m]
        due = w[SOLD * LANES + m] * (share if reach >= w[DEADBAND * LANES + m] else 0.0)
        out, into, base = max(due, 0.0), min(due, 0.0), w[BASE * LANES + m]
        led = base + (out * w[PLUS * LANES + m] + into * w[MINUS * LANES + m])
        led = min(max(led, w[DOWN * LANES + m]), w[UP * LANES + m])
        change = max(led, 0.0) * w[PER_OUT * LANES + m] + min(led, 0.0) * w[PER_IN * LANES + m]
        before = w[ENERGY * LANES + m]
        after = min(max(before - change, w[LOW * LANES + m]), w[HIGH * LANES + m])
        moved = before - after
        given = max(moved, 0.0) * w[OUT_ETA * LANES + m] + min(moved, 0.0) * w[IN_ETA * LANES + m] - base
        # More than is due makes up for nothing.
        missing = abs(due - min(max(given, into), out))
        w[ENERGY * LANES + m] = after
        w[ASKED * LANES + m] += abs(due)
        w[ASKED_NET * LANES + m] += due
        w[GIVEN * LANES + m] += abs(given)
        w[MOVED * LANES + m] += abs(moved)
        w[SHORT * LANES + m] += missing
        w[TIMES * LANES + m] += 1.0 if missing > NEGLIGIBLE * w[SOLD * LANES + m] else 0.0
        w[LEAST * LANES + m] = min(w[LEAST * LANES + m], after)
        w[MOST * LANES + m] = max(w[MOST * LANES + m], after)


@strict
def advance(hz: Floats, nominal_hz: float, done: int, block: int, width: int, w: Floats) -> None:
    """One group of `width` cases, LANES at most, over frequencies a step apart.

    hz   : float64[k] or float32[k]
    done : steps before these, so that blocks of `block` steps begin where they would have
    """
    at = 0
    while at < hz.size:
        within = (done + at) % block
        if within == 0:
            _lead(width, w)
        steps = min(block - within, hz.size - at)
        for k in range(at, at + steps):
            _step(np.float64(hz[k]) - nominal_hz, width, w)
        for m in range(width):
            w[SINCE * LANES + m] += steps
        at += steps


class Pool:
    """Cases side by side, fed with frequency as it is read.

    cases      : at least one; each is checked, ValueError names the field
    nominal_hz : of the grid
    step_s     : between two frequencies [s]
    block_s    : time for which a working point stands [s]
    """

    def __init__(self, cases: Sequence[Case], nominal_hz: float, step_s: float, block_s: float = 900.0) -> None:
        if not cases:
            raise ValueError("cases: give at least one")
        if not (math.isfinite(step_s) and step_s > 0.0):
            raise ValueError(f"step_s: takes a time above 0, got {step_s}")
        for case in cases:
            check(case)
        self.cases = tuple(cases)
        self._nominal_hz, self._step_h = nominal_hz, step_s / 3600.0
        self._block = max(round(block_s / step_s), 1)
        self._done = 0
        groups = [self.cases[at : at + LANES] for at in range(0, len(cases), LANES)]
        # A group that is not full advances as a full one, with lanes of nothing: a whole vector costs less than some of
        # its lanes one after the other. One case alone does not.
        self._groups = [(LANES if len(group) > 1 else 1, _table(group, self._step_h)) for group in groups]

    def feed(self, hz: npt.NDArray[Any], workers: int = 1) -> None:
        """Go on over float64[n] or float32[n] frequencies [Hz]; NaN: unknown, nothing is asked for.

        workers : threads; the result is the same to the last bit
        """
        hz = np.ascontiguousarray(hz)
        if hz.dtype not in (np.float32, np.float64):
            hz = hz.astype(np.float64)

        def go(group: tuple[int, Floats]) -> None:
            advance(hz, self._nominal_hz, self._done, self._block, *group)

        if workers > 1 and len(self._groups) > 1:
            with ThreadPoolExecutor(workers) as threads:
                list(threads.map(go, self._groups))
        else:
            for group in self._groups:
                go(group)
        self._done += int(hz.size)

    def outcomes(self) -> list[Outcome]:
        """One for each case, in their order."""
        return [
            _outcome(case, w.reshape(-1, LANES)[:, lane], self._step_h)
            for at, (_, w) in enumerate(self._groups)
            for lane, case in enumerate(self.cases[at * LANES : (at + 1) * LANES])
        ]


def check(case: Case) -> None:
    """Raises ValueError that names the field."""
    for name in ("sold_kw", "up_kw", "down_kw", "restore_h"):
        value = getattr(case, name)
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name}: takes a number from 0 on, got {value}")
    if not (math.isfinite(case.energy_kwh) and case.energy_kwh > 0.0):
        raise ValueError(f"energy_kwh: takes a number above 0, got {case.energy_kwh}")
    for name in ("eta_charge_frac", "eta_discharge_frac"):
        if not 0.0 < getattr(case, name) <= 1.0:
            raise ValueError(f"{name}: takes a share above 0 up to 1, got {getattr(case, name)}")
    if not 0.0 <= case.soc_min_frac <= case.soc_frac <= case.soc_max_frac <= 1.0:
        raise ValueError(
            f"soc_frac: takes 0 <= soc_min_frac <= soc_frac <= soc_max_frac <= 1, got {case.soc_min_frac}, "
            f"{case.soc_frac}, {case.soc_max_frac}"
        )
    pieces(case.curve)
    if not 1.0 <= case.overfulfil_max < math.inf:
        raise ValueError(f"overfulfil_max: takes a share from 1 on, got {case.overfulfil_max}")


def pieces(curve: Curve) -> list[tuple[float, float, float]]:
    """(begin [Hz], end [Hz], slope [1/Hz]) of each part of a curve that is not flat, from left to right."""
    x, y = curve.x_hz, curve.y_frac
    steep = np.flatnonzero(np.diff(y))
    if (np.diff(x)[steep] <= 0.0).any() or steep.size > PIECES_MAX:
        raise ValueError(
            f"curve: a pool takes one of at most {PIECES_MAX} slopes and no steps; run a backtest of this product"
        )
    return [(float(x[k]), float(x[k + 1]), float((y[k + 1] - y[k]) / (x[k + 1] - x[k]))) for k in steep]


def _table(group: Sequence[Case], step_h: float) -> Floats:
    """The table of LANES cases at most, flat."""
    w = np.zeros((ROWS, LANES))
    for m, case in enumerate(group):
        low, high = case.soc_min_frac * case.energy_kwh, case.soc_max_frac * case.energy_kwh
        w[[SOLD, UP, DOWN], m] = case.sold_kw * step_h, case.up_kw * step_h, -case.down_kw * step_h
        w[[PER_OUT, PER_IN], m] = 1.0 / case.eta_discharge_frac, case.eta_charge_frac
        w[[OUT_ETA, IN_ETA], m] = case.eta_discharge_frac, 1.0 / case.eta_charge_frac
        w[[LOW, HIGH, TARGET], m] = low, high, (low + high) / 2.0
        w[RESTORE, m] = step_h / case.restore_h if case.restore_h > 0.0 else 0.0
        w[OVER, m] = case.overfulfil_max - 1.0
        w[[FIRST, DEADBAND], m] = case.curve.y_frac[0], case.curve.deadband_hz
        w[[ENERGY, LEAST, MOST], m] = case.soc_frac * case.energy_kwh
        for row, piece in zip((BEGIN, BEGIN_2), pieces(case.curve), strict=False):
            w[row : row + 3, m] = piece  # one that is missing has no length and adds nothing
    return w.ravel()


def _outcome(case: Case, w: Floats, step_h: float) -> Outcome:
    gained = w[ENERGY] - case.soc_frac * case.energy_kwh
    drawn, fed = (w[MOVED] - gained) / 2.0, (w[MOVED] + gained) / 2.0  # from the battery, into it
    grid = drawn * case.eta_discharge_frac - fed / case.eta_charge_frac
    bought = w[BASE_DOWN] - min(w[BASE], 0.0) * w[SINCE]
    sold = w[BASE_UP] + max(w[BASE], 0.0) * w[SINCE]
    net = grid - (sold - bought)
    return Outcome(
        asked_up_kwh=float((w[ASKED] + w[ASKED_NET]) / 2.0),
        asked_down_kwh=float((w[ASKED] - w[ASKED_NET]) / 2.0),
        given_up_kwh=float((w[GIVEN] + net) / 2.0),
        given_down_kwh=float((w[GIVEN] - net) / 2.0),
        short_kwh=float(w[SHORT]),
        bought_kwh=float(bought),
        sold_kwh=float(sold),
        # What came in from the grid and neither stayed nor went back.
        loss_kwh=float(-grid - gained),
        cycles=float(w[MOVED] / (2.0 * case.energy_kwh)),
        soc_min_frac=float(w[LEAST] / case.energy_kwh),
        soc_max_frac=float(w[MOST] / case.energy_kwh),
        soc_last_frac=float(w[ENERGY] / case.energy_kwh),
        short_s=float(w[TIMES] * step_h * 3600.0),
    )
