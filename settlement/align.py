"""Irregular samples on a regular grid: exact time-weighted means, and how much of each cell was seen.

This file knows times and numbers only: no frequency, no meter, no product. A value holds from its own time to the
next one's, never longer than a stated limit; time that nothing covers stays uncovered (a fact, not an estimate),
and the integral over the covered time is preserved to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NS: Final = 1_000_000_000


class AlignError(ValueError):
    """Input that cannot be put on a grid; the message names the field and the remedy."""


@dataclass(frozen=True)
class Grid:
    """Cells of equal length: cell k is [start_ns + k step_ns, start_ns + (k + 1) step_ns)."""

    start_ns: int
    step_ns: int
    cells: int

    def __post_init__(self) -> None:
        if self.step_ns <= 0:
            raise AlignError(f"field `step_ns` takes a length above 0, not {self.step_ns}")
        if self.cells < 0:
            raise AlignError(f"field `cells` takes a count of 0 or more, not {self.cells}")

    @property
    def end_ns(self) -> int:
        """End of the last cell, exclusive."""
        return self.start_ns + self.cells * self.step_ns

    @property
    def step_s(self) -> float:
        """Length of a cell."""
        return self.step_ns / NS

    @property
    def edges_ns(self) -> Ints:
        """int64[cells + 1]  borders of the cells."""
        return self.start_ns + self.step_ns * np.arange(self.cells + 1, dtype=np.int64)


class Cells(NamedTuple):
    """One series on a grid.

    mean          : float64[cells]  time-weighted mean over the covered part; NaN where nothing is covered
    coverage_frac : float64[cells]  share of the cell that is covered, 0..1
    """

    mean: Floats
    coverage_frac: Floats


def of_segments(start_ns: Ints, end_ns: Ints, value: Floats, grid: Grid) -> Cells:
    """Constant pieces on the grid, exactly.

    start_ns, end_ns : int64[n]    pieces [start, end), ascending and disjoint
    value            : float64[n]  NaN covers nothing

    Every piece is cut at the borders of the cells and the parts are summed within their cell, so no error runs on
    from cell to cell as it would with a cumulative integral.
    """
    _same_length(start_ns=start_ns, end_ns=end_ns, value=value)
    if np.any(end_ns < start_ns):
        raise AlignError("field `end_ns`: a piece ends before it starts; order the pieces by time")
    if np.any(start_ns[1:] < end_ns[:-1]):
        raise AlignError("field `start_ns`: pieces overlap; cut the earlier one where the later begins")
    keep = ~np.isnan(value) & (end_ns > start_ns) & (end_ns > grid.start_ns) & (start_ns < grid.end_ns)
    first = np.maximum(start_ns[keep], grid.start_ns)
    last = np.minimum(end_ns[keep], grid.end_ns)
    value = value[keep]
    if first.size == 0 or grid.cells == 0:
        return Cells(np.full(grid.cells, np.nan), np.zeros(grid.cells))
    cuts = ascending(np.concatenate([first, last, grid.edges_ns]))
    left, length_ns = cuts[:-1], np.diff(cuts)
    piece = np.searchsorted(first, left, side="right") - 1
    seen = (piece >= 0) & (left < last[piece])
    cell = (left[seen] - grid.start_ns) // grid.step_ns
    held_ns = length_ns[seen].astype(np.float64)
    covered_ns = np.bincount(cell, held_ns, grid.cells)
    total = np.bincount(cell, held_ns * value[piece[seen]], grid.cells)
    mean = np.full(grid.cells, np.nan)
    np.divide(total, covered_ns, out=mean, where=covered_ns > 0)
    return Cells(mean, covered_ns / grid.step_ns)


def of_samples(t_ns: Ints, value: Floats, grid: Grid, hold_ns: int, usable: Bools | None = None) -> Cells:
    """Samples on the grid: each holds until the next one, at most `hold_ns`.

    t_ns   : int64[n]    source times in any order; of equal times the last row counts
    value  : float64[n]  NaN is a sample that says nothing
    usable : bool[n]     False: the sample covers nothing, and the one before it ends there
    """
    _same_length(t_ns=t_ns, value=value)
    if hold_ns <= 0:
        raise AlignError(f"field `hold_ns` takes a time above 0, not {hold_ns}")
    known = value.astype(np.float64)
    if usable is not None:
        _same_length(t_ns=t_ns, usable=usable)
        known = np.where(usable, known, np.nan)
    order = np.argsort(t_ns, kind="stable")
    start = np.ascontiguousarray(t_ns[order], np.int64)
    end = start + hold_ns
    end[:-1] = np.minimum(end[:-1], start[1:])
    return of_segments(start, end, known[order], grid)


def period_ns(t_ns: Ints) -> int:
    """Median spacing of samples, so that gaps do not stretch it; 0 of fewer than two."""
    spacing = np.diff(ascending(t_ns))
    return round(float(np.median(spacing))) if spacing.size else 0


def hold_limit_ns(t_ns: Ints, least_s: float, most_s: float = np.inf, periods: float = 3.0) -> int:
    """How long a sample may stand for what followed it: so many of the source's own periods, within limits.

    The period is the median spacing, so that gaps do not stretch it; a single sample has none (`least_s`).
    """
    spacing = np.diff(ascending(t_ns))
    held_s = periods * float(np.median(spacing)) / NS if spacing.size else least_s
    return round(NS * min(max(least_s, held_s), most_s))


def carry(value: Floats, cells: int) -> Floats:
    """Unknown cells take the last known value for at most `cells` cells, then stay NaN.

    For the history that a filter needs, not for what is counted: the coverage does not change.
    """
    place = np.arange(value.size)
    last = np.maximum.accumulate(np.where(np.isnan(value), -1, place)) if value.size else place
    fresh = (last >= 0) & (place - last <= cells)
    return np.where(fresh, value[last], np.nan)


def integral(cells: Cells, step_s: float) -> float:
    """Integral over the covered time [unit of the value x s]."""
    return float(np.nansum(cells.mean * cells.coverage_frac) * step_s)


def ascending(t_ns: Ints) -> Ints:
    """Each time once, in order. The stable sort merges rows that are ascending already, where `unique` hashes."""
    t_ns = np.sort(t_ns, kind="stable")
    return t_ns[np.concatenate([[True], t_ns[1:] != t_ns[:-1]])] if t_ns.size else t_ns


def _same_length(**columns: npt.NDArray[np.generic]) -> None:
    lengths = {name: column.shape for name, column in columns.items()}
    if len({*lengths.values()}) > 1 or any(len(shape) != 1 for shape in lengths.values()):
        raise AlignError(f"columns must be rows of one length: {lengths}")
