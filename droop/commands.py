"""Which vehicles to command this tick so that the sum of what was commanded is the request.

Set-points are cheap, messages are not. The vehicles whose last command is furthest from the split's optimum,
in the direction the fleet's sum has to move, are commanded until the sum is exact; they move a little further
than the optimum (`overshoot`), so that they need not hear again at once. Turning back costs: a vehicle whose
last move was the other way counts as nearer its optimum than it is (`reversal_kw`), so that the turns go
round instead of staying with the same few. The error goes into the
division among vehicles, never to the grid. (A dead band per vehicle is the trap: all err the same way.)

Always commanded, whatever the sum: a vehicle whose last command lies outside its bounds, and one whose
command is about to expire. Never commanded: a vehicle that does not report or does not follow; it stays in
the sum with what it is predicted to be doing, which is what the split gave it.

One vectorised pass sums the commands and gives each row a grade, a byte: how urgently it would move in the
direction that the sum is expected to need. All else walks the few rows of the highest grades, and decides before it
writes: `dispatch` alone changes the fleet.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.energy import standing_kwh
from droop.fleet import PLUGGED, SEGMENTS, Fleet, column
from droop.numerics import kernel, strict
from droop.reasons import Reason
from droop.response import setpoint_kw, settle_ns

Column = npt.NDArray[Any]

BUCKETS: Final = 120
STALE: Final = int(Reason.STALE)
REFUSED: Final = int(Reason.REFUSED)
# The pass goes over its rows in pieces that stay in the first cache.
PIECE: Final = 1024
NEVER: Final = np.iinfo(np.int64).max
# Grades: 0 for a row that need not move, 1 + its bucket for one that may, MUST for one that has to be commanded.
# The lowest is the last resort: many rows, all those forgiven for turning back among them.
LAST_RESORT: Final = 1
MUST: Final = 127
# Eight grades at once: a grade g or above sets the top bit of its byte once 128 - g is added to it.
EACH: Final = np.uint64(0x0101010101010101)
TOPS: Final = np.uint64(0x8080808080808080)
# Every segment's commands are read for those about to expire.
ALL: Final = (1 << SEGMENTS) - 1
# How much more than what is needed the rows looked at should be able to move, by the last looks.
AMPLE: Final = 1.3


class Outbox(NamedTuple):
    """Commands of one tick, what is remembered of each vehicle's last ones, and the kernel's scratch."""

    slot: Column  # uint32[n]
    setpoint_kw: Column  # float32[n]  what the charger is told: the command over its gain
    command_kw: Column  # float32[n]  what that is expected to be at the grid
    place: Column  # int32[n]  where a vehicle's command lies in this tick's outbox; -1: none
    sent: Column  # int64[1]  commands in the outbox
    start: Column  # int64[1]  where the next selection begins, for fairness
    heading: Column  # int8[n]  which way a vehicle last moved
    recent_kw: Column  # float32[n, 2]  as past_lo_kw, past_hi_kw, of the newer half of that time
    recent_ns: Column  # int64[n]  when that half began
    soonest_ns: Column  # int64[pieces]  no command of a piece's commandable rows ends before this
    total_kw: Column  # float64[1]  sum of commands after the last tick
    mark: Column  # uint8[8 x words]  grades
    words: Column  # uint64[words]  the same bytes, eight rows at a time
    near: Column  # uint32[n + 8]  rows that may be moved, in order
    grade: Column  # uint8[n]  their grades
    move_kw: Column  # float64[n]  how far they may move
    nears: Column  # int64[1]  how many
    reach_kw: Column  # float64[BUCKETS + 1]  what the vehicles of a grade could move
    tally: Column  # int64[BUCKETS + 1]  those of them that would need a message of their own
    seen_kw: Column  # float64[2, BUCKETS + 1]  reach_kw as last seen, down and up


class Sending(NamedTuple):
    """How commands are chosen.

    validity_ns    : life of a command [ns]
    renew_ns       : a command with less life left than this is renewed [ns]
    overshoot_frac : share of its range by which a chosen vehicle may pass its optimum
    largest_kw     : largest mismatch told apart [kW]
    closed_kw      : the sum counts as exact within this: some float32 steps of one set-point [kW]
    reversal_kw    : mismatch a vehicle is forgiven before it turns back [kW]
    most_frac      : most voluntary commands in a tick, of the fleet; those that must be sent come on top
    rest_ns        : least time from a change of a vehicle's command to a voluntary one [ns]

    A `most_frac` or `rest_ns` that binds leaves the sum short of the request; `choose` returns by how much.
    """

    validity_ns: int = 6_000_000_000
    renew_ns: int = 3_000_000_000
    overshoot_frac: float = 0.05
    largest_kw: float = 100.0
    closed_kw: float = 1e-5
    reversal_kw: float = 2.0
    most_frac: float = 1.0
    rest_ns: int = 0


def outbox(rows: int) -> Outbox:
    """Room for a command to every vehicle."""
    words = column(0, (rows + 7) // 8, np.uint64)
    places = column(4, rows, np.int32)
    places[:] = -1
    return Outbox(
        column(1, rows, np.uint32), column(2, rows, np.float32), column(3, rows, np.float32), places,
        np.zeros(1, np.int64), np.zeros(1, np.int64), column(5, rows, np.int8),
        column(6, 2 * rows, np.float32).reshape(rows, 2), column(7, rows, np.int64),
        np.zeros(rows // PIECE + 1, np.int64), np.zeros(1), words.view(np.uint8), words,
        column(8, rows + 8, np.uint32), column(9, rows, np.uint8), column(10, rows, np.float64),
        np.zeros(1, np.int64), np.zeros(BUCKETS + 1), np.zeros(BUCKETS + 1, np.int64), np.zeros((2, BUCKETS + 1)),
    )  # fmt: skip


def joined(out: Outbox) -> Outbox:
    """An outbox read back from a file: its words and its marks are one memory again."""
    return out._replace(mark=out.words.view(np.uint8))


class Rows(NamedTuple):
    """The fleet's columns that choosing reads: few, for a kernel that is handed a fleet takes long to compile."""

    command_kw: Column
    power_kw: Column
    lo_kw: Column
    hi_kw: Column


# Functions of one vehicle take its numbers, never the fleet: see `limits`.


@kernel
def commandable(state: int, reason_up: int) -> bool:
    """Whether the vehicle can hear us and is believed."""
    return (state == PLUGGED) & (reason_up != STALE) & (reason_up != REFUSED)


@kernel
def beyond(command: float, optimum: float, lo: float, hi: float, overshoot_frac: float) -> float:
    """How far a vehicle may move from its command: past its optimum a little, never past its bound [kW]."""
    extra = overshoot_frac * (hi - lo)
    return min(optimum + extra, hi) - command if optimum > command else max(optimum - extra, lo) - command


@strict
def stepped(command: float, move_kw: float) -> tuple[np.float32, np.float64]:
    """A set-point moved, as float32 holds it, and how far that is, exactly [kW]."""
    # np.float64, not float: of a float32 numba's `float` makes a float32, and the difference would be rounded.
    before = np.float64(command)
    changed = np.float32(before + move_kw)
    return changed, np.float64(changed) - before


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
def put(slot: int, command: Any, place: Column, slots: Column, new_kw: Column, sent: Column) -> None:
    """Put a command into the outbox, once a vehicle."""
    if place[slot] < 0:
        place[slot] = sent[0]
        slots[sent[0]] = slot
        sent[0] += 1
    new_kw[place[slot]] = command


@kernel
def force(rows: Rows, valid_until_ns: Column, now_ns: int, out: Outbox) -> float:
    """Command the rows marked as those that must be; return what that changes in the sum [kW]."""
    command_kw, power_kw, lo_kw, hi_kw = rows.command_kw, rows.power_kw, rows.lo_kw, rows.hi_kw
    words, place, new_kw, slots, sent = out.words, out.place, out.command_kw, out.slot, out.sent
    changed = 0.0
    for k in range(listed(words, MUST, command_kw.size, out.mark, out.near)):
        i = out.near[k]
        # A command about to expire keeps its value where that is allowed: renewing must not move power.
        held = command_kw[i]
        kept = power_kw[i] if valid_until_ns[i] <= now_ns else min(max(held, lo_kw[i]), hi_kw[i])
        put(i, kept, place, slots, new_kw, sent)
        changed += np.float64(kept) - np.float64(held)
    return changed


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


@kernel
def look(
    rows: Rows, sent_ns: Column, up: bool, least: int, now_ns: int, sending: Sending, out: Outbox
) -> None:  # fmt: skip
    """List the rows graded `least` or above, and what they could move up, or down, by grade."""
    command_kw, power_kw, lo_kw, hi_kw = rows.command_kw, rows.power_kw, rows.lo_kw, rows.hi_kw
    mark, near, grade, place, heading = out.mark, out.near, out.grade, out.place, out.heading
    reach_kw, count, new_kw, move_kw = out.reach_kw, out.tally, out.command_kw, out.move_kw
    largest_kw, overshoot, reversal_kw = sending.largest_kw, sending.overshoot_frac, sending.reversal_kw
    rested_ns = now_ns - sending.rest_ns
    reach_kw[:] = 0.0
    count[:] = 0
    kept = 0
    for k in range(listed(out.words, least, command_kw.size, mark, near)):
        i, g = near[k], mark[near[k]]
        power, held = power_kw[i], command_kw[i]
        free = False
        if g == MUST:
            # The message is sent anyway, so it may as well move.
            free = place[i] >= 0
            held = new_kw[place[i]] if free else held
            g = 1 + bucket(urgency(power - held, heading[i], reversal_kw), largest_kw)
            if power == held or (power > held) != up or g < least:
                continue
        elif sending.rest_ns > 0 and sent_ns[i] > rested_ns:
            continue
        move = beyond(held, power, lo_kw[i], hi_kw[i], overshoot)
        reach_kw[g] += abs(move)
        count[g] += 0 if free else 1
        near[kept], grade[kept], move_kw[kept] = i, g, move
        kept += 1
    out.nears[0] = kept


@kernel
def threshold(reach_kw: Column, count: Column, needed_kw: float, most: int, lowest: int) -> tuple[int, bool]:
    """Least grade needed when the most urgent are taken first, and no more messages than `most`; whether it is enough.

    lowest : grade below which nobody was looked at
    """
    least = BUCKETS
    reach = reach_kw[least]
    messages = count[least]
    while least > lowest and reach < needed_kw and messages <= most:
        least -= 1
        reach += reach_kw[least]
        messages += count[least]
    return least, reach >= needed_kw or messages > most


@kernel
def survey(
    rows: Rows, sent_ns: Column, up: bool, needed_kw: float, most: int, now_ns: int, sending: Sending, out: Outbox
) -> int:  # fmt: skip
    """List as many of the most urgent rows as are needed; return the least grade that is."""
    seen_kw = out.seen_kw[1 if up else 0]
    lowest, reach = BUCKETS, seen_kw[BUCKETS]
    # Where the last looks would have stopped, and a little further.
    while lowest > LAST_RESORT + 1 and reach < AMPLE * needed_kw:
        lowest -= 1
        reach += seen_kw[lowest]
    while True:
        look(rows, sent_ns, up, lowest, now_ns, sending, out)
        seen_kw[lowest:] = out.reach_kw[lowest:]
        least, enough = threshold(out.reach_kw, out.tally, needed_kw, most, lowest)
        if enough:
            return least
        if lowest == LAST_RESORT + 1:
            return LAST_RESORT
        lowest = max(lowest - 1 - lowest // 8, LAST_RESORT + 1)


@kernel
def close(
    rows: Rows, open_kw: float, least: int, whole: bool, most: int, closed_kw: float, out: Outbox
) -> tuple[float, int]:  # fmt: skip
    """Move vehicles of the grades above `least` (`whole`), or of `least` itself.

    Returns what stays open [kW], and how many more messages may be sent.
    """
    command_kw = rows.command_kw
    near, grade, move_kw, nears, place = out.near, out.grade, out.move_kw, out.nears[0], out.place
    new_kw, slots, sent = out.command_kw, out.slot, out.sent
    first = np.searchsorted(near[:nears], np.uint32(out.start[0]))
    for k in range(nears):
        if abs(open_kw) <= closed_kw:
            break
        at = first + k if first + k < nears else first + k - nears
        if grade[at] <= least if whole else grade[at] != least:
            continue
        i = near[at]
        free = place[i] >= 0
        if most <= 0 and not free:
            continue
        held = new_kw[place[i]] if free else command_kw[i]
        move = move_kw[at]
        changed, moved = stepped(held, open_kw if abs(move) > abs(open_kw) else move)
        if moved == 0.0:
            # What is left is below this set-point's float32 step: a message would say nothing.
            continue
        most -= 0 if free else 1
        put(i, changed, place, slots, new_kw, sent)
        open_kw -= moved
        if not whole:
            out.start[0] = i + 1
    return open_kw, most


@kernel
def sweep(
    rows: Rows, sent_ns: Column, open_kw: float, up: bool, most: int, now_ns: int, sending: Sending, out: Outbox
) -> float:  # fmt: skip
    """Move vehicles of the last resort in turn, until nothing is open; nobody lists them. Returns what is [kW]."""
    command_kw, power_kw, lo_kw, hi_kw = rows.command_kw, rows.power_kw, rows.lo_kw, rows.hi_kw
    mark, words, place, heading = out.mark, out.words, out.place, out.heading
    new_kw, slots, sent = out.command_kw, out.slot, out.sent
    largest_kw, overshoot, reversal_kw = sending.largest_kw, sending.overshoot_frac, sending.reversal_kw
    rested_ns, n = now_ns - sending.rest_ns, command_kw.size
    start = out.start[0]
    # The word that the turn begins in is looked at twice: from there on, and at the end up to there.
    for k in range(words.size + 1):
        word = (start // 8 + k) % words.size
        if words[word] == 0:
            continue
        first = start if k == 0 else 8 * word
        for i in range(first, start if k == words.size else min(8 * word + 8, n)):
            if abs(open_kw) <= sending.closed_kw:
                return open_kw
            if mark[i] != LAST_RESORT and mark[i] != MUST:
                continue
            free = place[i] >= 0
            held, power = (new_kw[place[i]] if free else command_kw[i]), power_kw[i]
            if power == held or (power > held) != up or (not free and (most <= 0 or sent_ns[i] > rested_ns)):
                continue
            if bucket(urgency(power - held, heading[i], reversal_kw), largest_kw) > 0:
                continue
            move = beyond(held, power, lo_kw[i], hi_kw[i], overshoot)
            changed, moved = stepped(held, open_kw if abs(move) > abs(open_kw) else move)
            if moved == 0.0:
                continue
            most -= 0 if free else 1
            put(i, changed, place, slots, new_kw, sent)
            open_kw -= moved
            out.start[0] = i + 1
    return open_kw


# What a command changes, one loop over the outbox for each part of it. A vehicle's numbers lie in as many places of
# the memory as it has columns; a short loop has the next vehicles' on their way while it works on this one's.


@kernel
def account(
    slots: Column, now_ns: int, energy_kwh: Column, energy_ns: Column, moved_kwh: Column, command_kw: Column,
    valid_until_ns: Column, safe_kw: Column, eta_charge: Column, eta_discharge: Column, usable_kwh: Column,
    idle_kw: Column, heat_per_kw: Column,
) -> None:  # fmt: skip
    """Bring each vehicle's energy up to now, under the command that ends."""
    for k in range(slots.size):
        i = slots[k]
        before = energy_kwh[i]
        aboard = standing_kwh(
            before, energy_ns[i], now_ns, command_kw[i], valid_until_ns[i], safe_kw[i], eta_charge[i],
            eta_discharge[i], usable_kwh[i], idle_kw[i], heat_per_kw[i],
        )  # fmt: skip
        moved_kwh[i] += abs(aboard - before)
        energy_kwh[i] = aboard
        energy_ns[i] = max(now_ns, energy_ns[i])


@kernel
def remember(
    slots: Column, new_kw: Column, now_ns: int, command_kw: Column, valid_until_ns: Column, safe_kw: Column,
    dead_s: Column, sent_ns: Column, past_lo_kw: Column, past_hi_kw: Column, from_kw: Column, recent_kw: Column,
    recent_ns: Column, heading: Column,
) -> None:  # fmt: skip
    """Keep what each vehicle may still be answering, and which way it goes."""
    for k in range(slots.size):
        i, new = slots[k], new_kw[k]
        before = command_kw[i] if now_ns < valid_until_ns[i] else safe_kw[i]
        if new == before:
            continue
        low, high = min(before, new), max(before, new)
        settle = settle_ns(dead_s[i])
        settled = now_ns - sent_ns[i] >= settle
        # What it was told within its settling time stays in the range, older things leave by halves.
        older = settled or now_ns - recent_ns[i] >= settle
        recent_lo, recent_hi = recent_kw[i, 0], recent_kw[i, 1]
        past_lo, past_hi = (recent_lo, recent_hi) if older else (past_lo_kw[i], past_hi_kw[i])
        past_lo_kw[i] = low if settled else min(past_lo, low)
        past_hi_kw[i] = high if settled else max(past_hi, high)
        recent_kw[i, 0] = low if older else min(recent_lo, low)
        recent_kw[i, 1] = high if older else max(recent_hi, high)
        recent_ns[i] = now_ns if older else recent_ns[i]
        from_kw[i] = before if settled else new
        heading[i] = 1 if new > before else -1
        sent_ns[i] = now_ns


@kernel
def tell(
    slots: Column, new_kw: Column, until_ns: int, gain: Column, charge_max_kw: Column, discharge_max_kw: Column,
    told_kw: Column, command_kw: Column, valid_until_ns: Column, lo_kw: Column, hi_kw: Column, setpoints: Column,
) -> int:  # fmt: skip
    """Make each command the standing one, and say what the charger is told; return how many break their bounds."""
    broken = 0
    for k in range(slots.size):
        i, new = slots[k], new_kw[k]
        command_kw[i] = new
        valid_until_ns[i] = until_ns
        setpoint = setpoint_kw(new, gain[i], charge_max_kw[i], discharge_max_kw[i])
        setpoints[k] = setpoint
        told_kw[i] = setpoint
        broken += 1 if (new < lo_kw[i]) | (new > hi_kw[i]) else 0
    return broken


@kernel
def dispatch(fleet: Fleet, now_ns: int, validity_ns: int, out: Outbox) -> int:
    """Make the outbox's commands the standing ones; return how many of them lie outside their bounds."""
    f = fleet
    slots, new_kw = out.slot[: out.sent[0]], out.command_kw[: out.sent[0]]
    account(
        slots, now_ns, f.energy_kwh, f.energy_ns, f.moved_kwh, f.command_kw, f.valid_until_ns, f.safe_kw,
        f.eta_charge, f.eta_discharge, f.usable_kwh, f.idle_kw, f.heat_per_kw,
    )  # fmt: skip
    remember(
        slots, new_kw, now_ns, f.command_kw, f.valid_until_ns, f.safe_kw, f.dead_s, f.sent_ns, f.past_lo_kw,
        f.past_hi_kw, f.from_kw, out.recent_kw, out.recent_ns, out.heading,
    )  # fmt: skip
    return tell(
        slots, new_kw, now_ns + validity_ns, f.gain, f.charge_max_kw, f.discharge_max_kw, f.told_kw, f.command_kw,
        f.valid_until_ns, f.lo_kw, f.hi_kw, out.setpoint_kw,
    )  # fmt: skip


@kernel
def fill_outbox(
    fleet: Fleet, request_kw: float, now_ns: int, sending: Sending, renewed: int, out: Outbox
) -> float:  # fmt: skip
    """Decide whom to command; return the sum that comes of it [kW]."""
    place, slots, state, reason_up, valid_ns = out.place, out.slot, fleet.state, fleet.reason_up, fleet.valid_until_ns
    largest_kw, reversal_kw = sending.largest_kw, sending.reversal_kw
    rows = Rows(fleet.command_kw, fleet.power_kw, fleet.lo_kw, fleet.hi_kw)
    for k in range(out.sent[0]):
        place[slots[k]] = -1
    out.sent[0] = 0
    # The sum has hardly changed since the last tick: which way it has to go is known before it is.
    up = request_kw > out.total_kw[0]
    total, outside = scan(state, reason_up, rows, out.heading, up, largest_kw, reversal_kw, out.mark)
    due = expiring(state, reason_up, valid_ns, now_ns + sending.renew_ns, renewed, out.soonest_ns, out.mark)
    if outside > 0.0 or due > 0:
        total += force(rows, valid_ns, now_ns, out)
    open_kw = request_kw - total
    if abs(open_kw) <= sending.closed_kw:
        return total
    if up != (open_kw > 0.0):
        up = not up
        # Those that must be commanded are in the outbox already, and may be moved from there.
        scan(state, reason_up, rows, out.heading, up, largest_kw, reversal_kw, out.mark)
        for k in range(out.sent[0]):
            out.mark[slots[k]] = MUST
    most = int(sending.most_frac * state.size)
    least = survey(rows, fleet.sent_ns, up, abs(open_kw), most, now_ns, sending, out)
    open_kw, most = close(rows, open_kw, least, True, most, sending.closed_kw, out)
    if least == LAST_RESORT:
        open_kw = sweep(rows, fleet.sent_ns, open_kw, up, most, now_ns, sending, out)
    else:
        open_kw, most = close(rows, open_kw, least, False, most, sending.closed_kw, out)
    return request_kw - open_kw


@kernel
def choose(
    fleet: Fleet, request_kw: float, now_ns: int, sending: Sending, out: Outbox, renewed: int = ALL
) -> tuple[float, float, int]:  # fmt: skip
    """Fill the outbox and make its commands the standing ones.

    request_kw : what the commands shall sum to, within the fleet's bounds [kW]
    renewed    : segments, as bits, whose bounds, reasons or states are new, or whose commands others have cut short;
                 elsewhere lives of commands are not read before one of them can be due
    returns    the sum of all standing commands [kW], the request less that sum [kW], and how many standing
               commands lie outside their vehicle's bounds, which must be 0: those not sent were found inside
               by the pass, those sent are looked at again
    """
    total = fill_outbox(fleet, request_kw, now_ns, sending, renewed, out)
    out.total_kw[0] = total
    broken = dispatch(fleet, now_ns, sending.validity_ns, out)
    return total, request_kw - total, broken
