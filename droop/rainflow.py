"""Cycles of every battery, counted while they happen: rainflow (ASTM E1049-85, 5.4.4) in columns.

Two stages. A branch-free detector follows each state of charge and finds its turning points, one comparison a
vehicle and step; a reversal smaller than the threshold is none. A turning point goes onto the vehicle's own
stack, where the three-point rule of the standard closes full and half cycles at once. What is left on a stack,
the residue, is counted as half cycles when somebody reads, and stays on the stack.

Every vehicle moves on every step, few of them turn: the detector runs at the speed of memory over blocks, and
only a block in which something turned is looked at again.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.numerics import kernel, strict

Column = npt.NDArray[Any]

# Turning points kept a vehicle. Their ranges fall strictly from the oldest on, so 32 is far more than a day's walk
# needs; if it is full all the same, the oldest range is counted as a half cycle.
DEPTH: Final = 32

# Least reversal that counts, as a fraction of the state of charge.
THRESHOLD: Final = 1e-3

# Lower edges of the depth bins. Fine where regulation lives, a tenth apart where the ageing laws bend; the sum of
# ranges in a bin gives its mean depth, so that a law is read at the depth that was cycled and not at an edge.
EDGES: Final = (
    0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
)  # fmt: skip
BINS: Final = len(EDGES)

# Vehicles the detector takes at once: long enough to be worth the slices, short enough that most are without a turn.
STRIDE: Final = 256


class Counts(NamedTuple):
    """Cycles by depth, one row a vehicle. A full cycle is two half cycles."""

    halves: Column  # uint32[n, BINS]  half cycles
    depth: Column  # float64[n, BINS]  sum of count x range [fraction of the state of charge]
    mean: Column  # float64[n, BINS]  sum of count x mean state of charge
    square: Column  # float64[n]  sum of count x range^2


class Cycles(NamedTuple):
    """State of n vehicles: the detector, the stacks, and what was closed so far.

    extreme holds direction x the furthest state of charge since the last turning point, so that the detector needs
    no branch. The first point of a row is on its stack from the start.
    """

    extreme: Column  # float64[n]
    direction: Column  # float64[n]  +1 rising, -1 falling
    points: Column  # float64[n, DEPTH]  turning points, oldest first
    depth: Column  # int32[n]  how many there are
    closed: Counts
    scratch: Column  # float64[DEPTH + 1, 3]  range, mean, halves of what one turning point closes


@strict
def _close(points: Column, depth: int, value: float, out: Column) -> tuple[int, int]:
    """Put a turning point on one vehicle's stack; write the cycles it closes to `out` as (range, mean, halves).

    Returns the new depth and how many were closed.
    """
    found = 0
    if depth == points.size:
        depth = _drop_oldest(points, depth, out, found)
        found += 1
    points[depth] = value
    depth += 1
    while depth >= 3:
        latest = abs(points[depth - 1] - points[depth - 2])
        before = abs(points[depth - 2] - points[depth - 3])
        if latest < before:
            break
        if depth == 3:
            # The range before holds the starting point: half a cycle, and the start moves on.
            depth = _drop_oldest(points, depth, out, found)
        else:
            out[found, 0] = before
            out[found, 1] = 0.5 * (points[depth - 2] + points[depth - 3])
            out[found, 2] = 2.0
            points[depth - 3] = points[depth - 1]
            depth -= 2
        found += 1
    return depth, found


@strict
def _drop_oldest(points: Column, depth: int, out: Column, found: int) -> int:
    """Count the oldest range as half a cycle and forget its first point."""
    out[found, 0] = abs(points[1] - points[0])
    out[found, 1] = 0.5 * (points[1] + points[0])
    out[found, 2] = 1.0
    for k in range(depth - 1):
        points[k] = points[k + 1]
    return depth - 1


@strict
def _book(row: int, found: int, out: Column, halves: Column, depth: Column, mean: Column, square: Column) -> None:
    """Enter what was closed into one vehicle's bins."""
    for k in range(found):
        size, half = out[k, 0], out[k, 2]
        at = 0
        while at + 1 < BINS and size >= EDGES[at + 1]:
            at += 1
        halves[row, at] += np.uint32(half)
        depth[row, at] += 0.5 * half * size
        mean[row, at] += 0.5 * half * out[k, 1]
        square[row] += 0.5 * half * size * size


@kernel
def _turns(soc: Column, extreme: Column, direction: Column, threshold: float) -> int:
    """Follow a block; return how many of its vehicles have turned."""
    turned = 0
    for i in range(soc.size):
        here = direction[i] * soc[i]
        furthest = extreme[i]
        turned += 1 if furthest - here > threshold else 0
        extreme[i] = max(furthest, here)
    return turned


@kernel
def update(cycles: Cycles, soc: Column, threshold: float) -> int:
    """One step of all vehicles; return how many turning points it found.

    soc       : float64[n] or float32[n]  states of charge now [fraction]
    threshold : float  least reversal that counts [fraction]; 0 counts all
    """
    extreme, direction, points, depth = cycles.extreme, cycles.direction, cycles.points, cycles.depth
    closed, scratch = cycles.closed, cycles.scratch
    total = 0
    for start in range(0, soc.size, STRIDE):
        soc_ = soc[start : start + STRIDE]
        extreme_, direction_ = extreme[start : start + STRIDE], direction[start : start + STRIDE]
        if _turns(soc_, extreme_, direction_, threshold) == 0:
            continue
        for i in range(soc_.size):
            # What the detector saw is still there: a vehicle that turned did not move its extreme.
            here = direction_[i] * soc_[i]
            if extreme_[i] - here > threshold:
                row = start + i
                peak = direction_[i] * extreme_[i]
                # Before the first reversal of size the start is the only turning point there is.
                if depth[row] > 1 or abs(peak - points[row, 0]) > threshold:
                    depth[row], found = _close(points[row], depth[row], peak, scratch)
                    _book(row, found, scratch, closed.halves, closed.depth, closed.mean, closed.square)
                    total += 1
                direction_[i] = -direction_[i]
                extreme_[i] = -here
    return total


@strict
def _residue(cycles: Cycles, threshold: float, stack: Column, out: Column, counts: Counts) -> None:
    """Enter what each stack still holds into `counts`: the way run since the last turn closes what it can, the
    rest are half cycles. The stacks stay as they are."""
    for row in range(cycles.depth.size):
        depth = cycles.depth[row]
        stack[:depth] = cycles.points[row, :depth]
        depth, found = _finish(stack, depth, cycles.direction[row] * cycles.extreme[row], threshold, out)
        _book(row, found, out, counts.halves, counts.depth, counts.mean, counts.square)


@strict
def _finish(stack: Column, depth: int, last: float, threshold: float, out: Column) -> tuple[int, int]:
    """Close one stack with its last point, then count every range on it as half a cycle."""
    found = 0
    if depth > 1 or abs(last - stack[0]) > threshold:
        depth, found = _close(stack, depth, last, out)
    while depth > 1:
        depth = _drop_oldest(stack, depth, out, found)
        found += 1
    return depth, found


class Cycle(NamedTuple):
    """One entry of a rainflow count, in the unit of the history."""

    range: float
    mean: float
    number: float  # 1.0 full, 0.5 half


def begin(soc: Column) -> Cycles:
    """State of vehicles that stand at `soc` (float[n], fraction) and have no history."""
    start = _soc("soc", soc)
    n = start.size
    points = np.zeros((n, DEPTH))
    points[:, 0] = start
    return Cycles(start, np.ones(n), points, np.ones(n, np.int32), _empty(n), np.empty((DEPTH + 1, 3)))


def restart(cycles: Cycles, rows: Column, soc: Column) -> None:
    """Begin anew in these rows, whose vehicles have changed: history and counts are gone.

    rows : int[k];  soc : float[k]
    """
    start = _soc("soc", soc)
    if np.shape(rows) != start.shape:
        raise ValueError(f"rows: takes one row for each soc, got {np.shape(rows)} and {start.shape}")
    cycles.extreme[rows] = start
    cycles.direction[rows] = 1.0
    cycles.points[rows, 0] = start
    cycles.depth[rows] = 1
    for column in cycles.closed:
        column[rows] = 0


def observe(cycles: Cycles, soc: Column, threshold: float = THRESHOLD) -> int:
    """`update` with its arguments checked; ValueError names the one that is wrong."""
    now = _soc("soc", soc)
    if now.size != cycles.depth.size:
        raise ValueError(f"soc: takes {cycles.depth.size} numbers, got {now.size}")
    return int(update(cycles, now, _threshold(threshold)))


def read(cycles: Cycles, threshold: float = THRESHOLD) -> Counts:
    """What was counted so far, with the residue as half cycles; new arrays, the state goes on undisturbed.

    threshold : as given to `update`: a way from the start that is shorter is none
    """
    counts = Counts(*(column.copy() for column in cycles.closed))
    _residue(cycles, _threshold(threshold), np.empty(DEPTH), np.empty((DEPTH + 1, 3)), counts)
    return counts


def equivalent_full_cycles(counts: Counts) -> Column:
    """Sum of count x range of each vehicle: float64[n]."""
    return counts.depth.sum(axis=1)


def series(soc: Column, threshold: float = 0.0) -> list[Cycle]:
    """Rainflow count of one history, in the order in which its cycles close.

    soc : float[k], any unit: nothing but finiteness is asked of it;  threshold in the same unit
    """
    history = np.asarray(soc, np.float64)
    if history.ndim != 1 or not np.isfinite(history).all():
        raise ValueError("soc: takes one row of finite numbers")
    if history.size == 0:
        return []
    # Room for every point: here nothing is folded. No history has more ranges than points.
    room = history.size + 1
    out = np.empty((room, 3))
    found = _series(history, _threshold(threshold), np.empty(room), np.empty((room, 3)), out)
    return [Cycle(float(size), float(mean), 0.5 * float(halves)) for size, mean, halves in out[:found] if size > 0.0]


@strict
def _series(history: Column, threshold: float, stack: Column, scratch: Column, out: Column) -> int:
    """`update` for one vehicle over its whole history, every cycle kept."""
    stack[0] = history[0]
    depth, total = 1, 0
    direction, furthest = 1.0, history[0]
    for k in range(history.size):
        here = direction * history[k]
        if furthest - here > threshold:
            peak = direction * furthest
            if depth > 1 or abs(peak - stack[0]) > threshold:
                depth, found = _close(stack, depth, peak, scratch)
                out[total : total + found] = scratch[:found]
                total += found
            direction, furthest = -direction, -here
        else:
            furthest = max(furthest, here)
    depth, found = _finish(stack, depth, direction * furthest, threshold, scratch)
    out[total : total + found] = scratch[:found]
    return total + found


def _empty(n: int) -> Counts:
    """No cycles."""
    return Counts(np.zeros((n, BINS), np.uint32), np.zeros((n, BINS)), np.zeros((n, BINS)), np.zeros(n))


def _soc(name: str, soc: Column) -> Column:
    """A column of states of charge, copied."""
    column = np.array(soc, np.float64)
    if column.ndim != 1:
        raise ValueError(f"{name}: takes one row, got shape {column.shape}")
    if not ((column >= 0.0) & (column <= 1.0)).all():
        raise ValueError(f"{name}: takes fractions within 0..1")
    return column


def _threshold(threshold: float) -> float:
    """A least reversal: finite and not negative."""
    if not 0.0 <= threshold < np.inf:
        raise ValueError(f"threshold: takes a finite number not below 0, got {threshold}")
    return float(threshold)
