"""How urgently each vehicle would be commanded: one vectorised pass over the fleet, a byte a row.

The pass sums the standing commands as it goes. What must be commanded anyway stands out: a command outside its
vehicle's bounds, and one that is about to expire.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.fleet import SEGMENTS
from droop.numerics import kernel
from droop.outbox import BUCKETS, PIECE
from droop.response import commandable

Column = npt.NDArray[Any]

NEVER: Final = np.iinfo(np.int64).max
# Grades: 0 for a row that need not move, 1 + its bucket for one that may, MUST for one that has to be commanded.
# The lowest is the last resort: many rows, all those forgiven for turning back among them.
LAST_RESORT: Final = 1
MUST: Final = 127
# Eight grades at once: a grade g or above sets the top bit of its byte once 128 - g is added to it.
EACH: Final = np.uint64(0x0101010101010101)
TOPS: Final = np.uint64(0x8080808080808080)


class Rows(NamedTuple):
    """The fleet's columns that choosing reads: few, for a kernel that is handed a fleet takes long to compile."""

    command_kw: Column
    power_kw: Column
    lo_kw: Column
    hi_kw: Column


@kernel
def bucket(mismatch_kw: float, largest_kw: float) -> int:
    """Index of a mismatch: equal steps of its square root, finer where mismatches are many."""
    # In float32 as `scan`, which grades whole vectors: one mismatch has one grade.
    share = np.float32(abs(mismatch_kw)) * np.float32(BUCKETS**2 / largest_kw)
    return int(min(np.sqrt(share), np.float32(BUCKETS - 1)))


@kernel
def urgency(mismatch_kw: float, heading: int, reversal_kw: float) -> float:
    """A mismatch as it counts in the choice: less if the vehicle would have to turn back [kW]."""
    turns = mismatch_kw * heading < 0.0
    return max(abs(mismatch_kw) - reversal_kw, 0.0) if turns else abs(mismatch_kw)


@kernel
def scan(
    state: Column, reason_up: Column, rows: Rows, heading: Column, up: bool, largest_kw: float, reversal_kw: float,
    mark: Column,
) -> tuple[float, float]:  # fmt: skip
    """Grade the rows for a move up, or down: one pass, no branches.

    returns the sum of commands [kW], and above 0 if one lies outside its bounds [kW]
    """
    total = 0.0
    outside = np.float32(0.0)
    side = np.float32(1.0 if up else -1.0)
    steep, last = np.float32(BUCKETS**2 / largest_kw), np.float32(BUCKETS)
    price = np.float32(reversal_kw)
    zero, one, must = np.float32(0.0), np.float32(1.0), np.float32(MUST)
    for start in range(0, state.size, PIECE):
        # Slices first: see `split.fill`.
        state_, reason_ = state[start : start + PIECE], reason_up[start : start + PIECE]
        command_, power_ = rows.command_kw[start : start + PIECE], rows.power_kw[start : start + PIECE]
        lo_, hi_ = rows.lo_kw[start : start + PIECE], rows.hi_kw[start : start + PIECE]
        heading_, mark_ = heading[start : start + PIECE], mark[start : start + PIECE]
        piece = 0.0
        for i in range(state_.size):
            # All is loaded before it is chosen from: a load that depends is a branch.
            command, power, lo, hi = command_[i], power_[i], lo_[i], hi_[i]
            # Who cannot be commanded counts with the split's power: no mismatch, nothing outside its bounds.
            held = command if commandable(state_[i], reason_[i]) else power
            ahead = side * (power - held)
            back = price * max(-side * np.float32(heading_[i]), zero)
            graded = min(np.sqrt(max(ahead - back, zero) * steep) + one, last)
            graded = graded if ahead > zero else zero
            over = max(lo - held, zero) + max(held - hi, zero)
            outside += over
            mark_[i] = np.uint8(must if over > zero else graded)
            piece += np.float64(held)
        total += piece
    return total, np.float64(outside)


@kernel
def expiring(
    state: Column, reason_up: Column, valid_until_ns: Column, due_ns: int, renewed: int, soonest_ns: Column,
    mark: Column,
) -> int:  # fmt: skip
    """Mark the rows whose command ends before `due_ns`, and count them; read a piece only where there may be some.

    renewed : segments, as bits, in which others than `dispatch` may have touched commands, states or reasons
    """
    n = state.size
    count = 0
    for start in range(0, n, PIECE):
        piece, end = start // PIECE, min(start + PIECE, n)
        first, last = ((start + 1) * SEGMENTS - 1) // n, (end * SEGMENTS - 1) // n
        touched = renewed >> first & ((1 << last - first + 1) - 1)
        if touched == 0 and soonest_ns[piece] >= due_ns:
            continue
        state_, reason_ = state[start : start + PIECE], reason_up[start : start + PIECE]
        valid_, mark_ = valid_until_ns[start : start + PIECE], mark[start : start + PIECE]
        soonest = NEVER
        dues = 0
        for i in range(state_.size):
            hears, valid = commandable(state_[i], reason_[i]), valid_[i]
            due = hears & (valid < due_ns)
            # Those that are due are commanded now, and have the whole life of a command before them.
            soonest = min(soonest, valid if hears & (valid >= due_ns) else NEVER)
            dues += 1 if due else 0
        soonest_ns[piece] = soonest
        count += dues
        if dues > 0:
            for i in range(state_.size):
                mark_[i] = np.uint8(MUST) if commandable(state_[i], reason_[i]) & (valid_[i] < due_ns) else mark_[i]
    return count


@kernel
def listed(words: Column, least: int, n: int, mark: Column, near: Column) -> int:
    """List the rows graded `least` or above; return how many."""
    more = EACH * np.uint64(128 - least)
    found = 0
    for word in range(words.size):
        hits = (words[word] + more) & TOPS
        if hits == 0:
            continue
        for i in range(8 * word, min(8 * word + 8, n)):
            # Written and perhaps written over: cheaper than a branch that nobody can foresee.
            near[found] = i
            found += 1 if mark[i] >= least else 0
    return found
