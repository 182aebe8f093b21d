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

One vectorised pass sums the commands and marks the few rows worth a look; all else walks those rows only, and
decides before it writes: `dispatch` alone changes the fleet.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.energy import standing_kwh
from droop.fleet import PLUGGED, Fleet
from droop.numerics import kernel, strict
from droop.reasons import Reason
from droop.response import setpoint_kw, settle_ns

Column = npt.NDArray[Any]

BUCKETS: Final = 128
STALE: Final = int(Reason.STALE)
REFUSED: Final = int(Reason.REFUSED)
# The pass goes over its rows twice, power and then time: a piece stays in the first cache in between.
PIECE: Final = 1024
NEVER: Final = np.iinfo(np.int64).max
# What a row is marked with, and eight rows at once.
MAY_RISE: Final = np.uint8(1)
MAY_FALL: Final = np.uint8(2)
MUST: Final = np.uint8(4)
EVERY_RISE: Final = np.uint64(0x0101010101010101)
EVERY_FALL: Final = np.uint64(0x0202020202020202)
EVERY_MUST: Final = np.uint64(0x0404040404040404)
# The floors a fleet begins with, as a bucket: 0.4 kW of 100 kW.
FIRST_FLOOR: Final = 8


class Outbox(NamedTuple):
    """Commands of one tick, what is remembered of each vehicle's last ones, and the kernel's scratch."""

    slot: Column  # uint32[n]
    setpoint_kw: Column  # float32[n]  what the charger is told: the command over its gain
    command_kw: Column  # float32[n]  what that is expected to be at the grid
    place: Column  # int32[n]  where a vehicle's command lies in this tick's outbox; -1: none
    sent: Column  # int64[1]  commands in the outbox
    start: Column  # int64[1]  where the next selection begins, for fairness
    heading: Column  # int8[n]  which way a vehicle last moved
    recent_lo_kw: Column  # float32[n]  as past_lo_kw, of the newer half of that time
    recent_hi_kw: Column  # float32[n]
    recent_ns: Column  # int64[n]  when that half began
    mark: Column  # uint8[8 x words]  rows worth a look
    words: Column  # uint64[words]  the same bytes, eight rows at a time
    near: Column  # uint32[n]  rows that may be moved, in order
    grade: Column  # uint8[n]  their buckets
    nears: Column  # int64[1]  how many
    floor: Column  # int64[2]  lowest bucket looked at, down and up
    reach_kw: Column  # float64[BUCKETS]  what the vehicles of a bucket could move
    tally: Column  # int64[BUCKETS]  those of them that would need a message of their own


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
    words = np.zeros((rows + 7) // 8, np.uint64)
    return Outbox(
        np.zeros(rows, np.uint32), np.zeros(rows, np.float32), np.zeros(rows, np.float32),
        np.full(rows, -1, np.int32), np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(rows, np.int8),
        np.zeros(rows, np.float32), np.zeros(rows, np.float32), np.zeros(rows, np.int64), words.view(np.uint8), words,
        np.zeros(rows, np.uint32), np.zeros(rows, np.uint8), np.zeros(1, np.int64), np.full(2, FIRST_FLOOR, np.int64),
        np.zeros(BUCKETS), np.zeros(BUCKETS, np.int64),
    )  # fmt: skip


def joined(out: Outbox) -> Outbox:
    """An outbox read back from a file: its words and its marks are one memory again."""
    return out._replace(mark=out.words.view(np.uint8))


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
    share = min(abs(mismatch_kw) / largest_kw, 1.0)
    return min(int(np.sqrt(share) * BUCKETS), BUCKETS - 1)


@kernel
def urgency(mismatch_kw: float, heading: int, reversal_kw: float) -> float:
    """A mismatch as it counts in the choice: less if the vehicle would have to turn back [kW]."""
    turns = mismatch_kw * heading < 0.0
    return max(abs(mismatch_kw) - reversal_kw, 0.0) if turns else abs(mismatch_kw)


@kernel
def edge(lowest: int, largest_kw: float) -> np.float32:
    """Least mismatch of a bucket, a hair less for what rounding does [kW]; above 0: no mismatch is none."""
    return np.float32(max(0.999 * largest_kw * (lowest / BUCKETS) ** 2, 1e-30))


@kernel
def scan(
    state: Column, reason_up: Column, command_kw: Column, power_kw: Column, lo_kw: Column, hi_kw: Column,
    valid_until_ns: Column, heading: Column, due_ns: int, floors: tuple[Any, Any], reversal_kw: Any, mark: Column,
) -> float:  # fmt: skip
    """Mark the rows worth a look and return the sum of commands [kW]: one pass, no branches.

    due_ns      : commands that end before this are renewed
    floors      : float32, urgency from which a row may be moved, down and up [kW]
    reversal_kw : float32
    """
    total = 0.0
    down_kw, up_kw = floors
    zero, none = np.float32(0.0), np.uint8(0)
    for start in range(0, state.size, PIECE):
        # Slices first: see `split.fill`.
        state_, reason_ = state[start : start + PIECE], reason_up[start : start + PIECE]
        command_, power_ = command_kw[start : start + PIECE], power_kw[start : start + PIECE]
        lo_, hi_ = lo_kw[start : start + PIECE], hi_kw[start : start + PIECE]
        valid_, mark_ = valid_until_ns[start : start + PIECE], mark[start : start + PIECE]
        heading_ = heading[start : start + PIECE]
        piece = 0.0
        soonest = NEVER
        for i in range(state_.size):
            # All is loaded before it is chosen from: a load that depends is a branch.
            command, power = command_[i], power_[i]
            # Who cannot be commanded counts with the split's power: no mismatch, nothing outside its bounds.
            held = command if commandable(state_[i], reason_[i]) else power
            mismatch = power - held
            back = reversal_kw * np.float32(heading_[i])
            marks = MAY_RISE if mismatch >= up_kw - min(back, zero) else none
            marks |= MAY_FALL if mismatch <= -down_kw - max(back, zero) else none
            marks |= MUST if (held < lo_[i]) | (held > hi_[i]) else none
            mark_[i] = marks
            piece += np.float64(held)
        for i in range(state_.size):
            soonest = min(soonest, valid_[i])
        if soonest < due_ns:
            for i in range(state_.size):
                mark_[i] |= MUST if commandable(state_[i], reason_[i]) & (valid_[i] < due_ns) else none
        total += piece
    return total


@kernel
def put(slot: int, command: Any, place: Column, slots: Column, new_kw: Column, sent: Column) -> None:
    """Put a command into the outbox, once a vehicle."""
    if place[slot] < 0:
        place[slot] = sent[0]
        slots[sent[0]] = slot
        sent[0] += 1
    new_kw[place[slot]] = command


@kernel
def force(fleet: Fleet, now_ns: int, out: Outbox) -> float:
    """Command the rows marked as those that must be; return what that changes in the sum [kW]."""
    state, reason_up, command_kw, power_kw = fleet.state, fleet.reason_up, fleet.command_kw, fleet.power_kw
    lo_kw, hi_kw, valid_until_ns = fleet.lo_kw, fleet.hi_kw, fleet.valid_until_ns
    mark, words, place, new_kw, slots, sent = out.mark, out.words, out.place, out.command_kw, out.slot, out.sent
    changed = 0.0
    for word in range(words.size):
        if words[word] & EVERY_MUST == 0:
            continue
        for i in range(8 * word, min(8 * word + 8, state.size)):
            if mark[i] & MUST == 0 or not commandable(state[i], reason_up[i]):
                continue
            # A command about to expire keeps its value where that is allowed: renewing must not move power.
            held = command_kw[i]
            kept = power_kw[i] if valid_until_ns[i] <= now_ns else min(max(held, lo_kw[i]), hi_kw[i])
            put(i, kept, place, slots, new_kw, sent)
            changed += np.float64(kept) - np.float64(held)
    return changed


@kernel
def look(fleet: Fleet, up: bool, now_ns: int, sending: Sending, out: Outbox) -> None:
    """List and bucket the marked rows that may be moved up, or down."""
    state, reason_up, command_kw, power_kw = fleet.state, fleet.reason_up, fleet.command_kw, fleet.power_kw
    lo_kw, hi_kw, sent_ns = fleet.lo_kw, fleet.hi_kw, fleet.sent_ns
    mark, words, near, grade, place, heading = out.mark, out.words, out.near, out.grade, out.place, out.heading
    reach_kw, count, new_kw = out.reach_kw, out.tally, out.command_kw
    largest_kw, overshoot, reversal_kw = sending.largest_kw, sending.overshoot_frac, sending.reversal_kw
    rested_ns = now_ns - sending.rest_ns
    # Those that must be commanded may be moved as well: the message is sent anyway.
    wanted = MUST | (MAY_RISE if up else MAY_FALL)
    every = EVERY_MUST | (EVERY_RISE if up else EVERY_FALL)
    reach_kw[:] = 0.0
    count[:] = 0
    nears = 0
    for word in range(words.size):
        if words[word] & every == 0:
            continue
        for i in range(8 * word, min(8 * word + 8, state.size)):
            if mark[i] & wanted == 0 or not commandable(state[i], reason_up[i]):
                continue
            free = place[i] >= 0
            held = new_kw[place[i]] if free else command_kw[i]
            mismatch = power_kw[i] - held
            if mismatch == 0.0 or (mismatch > 0.0) != up or (not free and sent_ns[i] > rested_ns):
                continue
            b = bucket(urgency(mismatch, heading[i], reversal_kw), largest_kw)
            reach_kw[b] += abs(beyond(held, power_kw[i], lo_kw[i], hi_kw[i], overshoot))
            count[b] += 0 if free else 1
            near[nears] = i
            grade[nears] = b
            nears += 1
    out.nears[0] = nears


@kernel
def threshold(reach_kw: Column, count: Column, needed_kw: float, most: int) -> int:
    """Lowest bucket needed when the largest mismatches are taken first, and no more messages than `most`."""
    least = BUCKETS - 1
    reach = reach_kw[least]
    messages = count[least]
    while least > 0 and reach < needed_kw and messages <= most:
        least -= 1
        reach += reach_kw[least]
        messages += count[least]
    return least


@kernel
def close(
    fleet: Fleet, open_kw: float, least: int, whole: bool, most: int, sending: Sending, out: Outbox
) -> tuple[float, int]:  # fmt: skip
    """Move vehicles of the buckets above `least` (`whole`), or of `least` itself.

    Returns what stays open [kW], and how many more messages may be sent.
    """
    command_kw, power_kw, lo_kw, hi_kw = fleet.command_kw, fleet.power_kw, fleet.lo_kw, fleet.hi_kw
    near, grade, nears, place = out.near, out.grade, out.nears[0], out.place
    new_kw, slots, sent = out.command_kw, out.slot, out.sent
    overshoot, closed_kw = sending.overshoot_frac, sending.closed_kw
    first = np.searchsorted(near[:nears], np.uint32(out.start[0]))
    for k in range(nears):
        if abs(open_kw) <= closed_kw:
            break
        at = first + k if first + k < nears else first + k - nears
        if grade[at] <= least if whole else grade[at] != least:
            continue
        i = near[at]
        if most <= 0 and place[i] < 0:
            continue
        held = new_kw[place[i]] if place[i] >= 0 else command_kw[i]
        move = beyond(held, power_kw[i], lo_kw[i], hi_kw[i], overshoot)
        changed, moved = stepped(held, open_kw if abs(move) > abs(open_kw) else move)
        if moved == 0.0:
            # What is left is below this set-point's float32 step: a message would say nothing.
            continue
        most -= 1 if place[i] < 0 else 0
        put(i, changed, place, slots, new_kw, sent)
        open_kw -= moved
        if not whole:
            out.start[0] = i + 1
    return open_kw, most


@kernel
def dispatch(fleet: Fleet, now_ns: int, validity_ns: int, out: Outbox) -> int:
    """Make the outbox's commands the standing ones; return how many of them lie outside their bounds."""
    command_kw, valid_until_ns, safe_kw, sent_ns = fleet.command_kw, fleet.valid_until_ns, fleet.safe_kw, fleet.sent_ns
    energy_kwh, energy_ns, usable_kwh = fleet.energy_kwh, fleet.energy_ns, fleet.usable_kwh
    moved_kwh, idle_kw, heat_per_kw = fleet.moved_kwh, fleet.idle_kw, fleet.heat_per_kw
    eta_charge, eta_discharge, gain, dead_s = fleet.eta_charge, fleet.eta_discharge, fleet.gain, fleet.dead_s
    charge_max_kw, discharge_max_kw, told_kw = fleet.charge_max_kw, fleet.discharge_max_kw, fleet.told_kw
    past_lo_kw, past_hi_kw, from_kw = fleet.past_lo_kw, fleet.past_hi_kw, fleet.from_kw
    recent_lo_kw, recent_hi_kw, recent_ns = out.recent_lo_kw, out.recent_hi_kw, out.recent_ns
    slots, new_kw, setpoints, heading = out.slot, out.command_kw, out.setpoint_kw, out.heading
    lo_kw, hi_kw = fleet.lo_kw, fleet.hi_kw
    broken = 0
    for k in range(out.sent[0]):
        i, new = slots[k], new_kw[k]
        # Its energy comes up to now under the command that ends.
        aboard = standing_kwh(
            energy_kwh[i], energy_ns[i], now_ns, command_kw[i], valid_until_ns[i], safe_kw[i], eta_charge[i],
            eta_discharge[i], usable_kwh[i], idle_kw[i], heat_per_kw[i],
        )  # fmt: skip
        moved_kwh[i] += abs(aboard - energy_kwh[i])
        energy_kwh[i] = aboard
        energy_ns[i] = max(now_ns, energy_ns[i])
        before = command_kw[i] if now_ns < valid_until_ns[i] else safe_kw[i]
        if new != before:
            low, high = min(before, new), max(before, new)
            settle = settle_ns(dead_s[i])
            if now_ns - sent_ns[i] >= settle:
                past_lo_kw[i] = recent_lo_kw[i] = low
                past_hi_kw[i] = recent_hi_kw[i] = high
                recent_ns[i] = now_ns
                from_kw[i] = before
            else:
                # What it was told within its settling time stays in the range, older things leave by halves.
                if now_ns - recent_ns[i] >= settle:
                    past_lo_kw[i], past_hi_kw[i] = recent_lo_kw[i], recent_hi_kw[i]
                    recent_lo_kw[i], recent_hi_kw[i], recent_ns[i] = low, high, now_ns
                recent_lo_kw[i], recent_hi_kw[i] = min(recent_lo_kw[i], low), max(recent_hi_kw[i], high)
                past_lo_kw[i], past_hi_kw[i] = min(past_lo_kw[i], low), max(past_hi_kw[i], high)
                from_kw[i] = new
            heading[i] = 1 if new > before else -1
            sent_ns[i] = now_ns
        command_kw[i] = new
        valid_until_ns[i] = now_ns + validity_ns
        setpoints[k] = told_kw[i] = setpoint_kw(new, gain[i], charge_max_kw[i], discharge_max_kw[i])
        broken += 1 if new < lo_kw[i] or new > hi_kw[i] else 0
    return broken


@kernel
def survey(fleet: Fleet, now_ns: int, sending: Sending, out: Outbox) -> float:
    """Scan with the present floors; return the sum of commands [kW]."""
    largest_kw = sending.largest_kw
    # Without a floor everybody is looked at: those who would turn back for little are the last resort.
    reversal_kw = np.float32(sending.reversal_kw if min(out.floor[0], out.floor[1]) > 0 else 0.0)
    return scan(
        fleet.state, fleet.reason_up, fleet.command_kw, fleet.power_kw, fleet.lo_kw, fleet.hi_kw,
        fleet.valid_until_ns, out.heading, now_ns + sending.renew_ns,
        (edge(out.floor[0], largest_kw), edge(out.floor[1], largest_kw)), reversal_kw, out.mark,
    )  # fmt: skip


@kernel
def fill_outbox(fleet: Fleet, request_kw: float, now_ns: int, sending: Sending, out: Outbox) -> float:
    """Decide whom to command; return the sum that comes of it [kW]."""
    place, slots = out.place, out.slot
    for k in range(out.sent[0]):
        place[slots[k]] = -1
    out.sent[0] = 0
    total = survey(fleet, now_ns, sending, out)
    total += force(fleet, now_ns, out)
    open_kw = request_kw - total
    if abs(open_kw) <= sending.closed_kw:
        return total
    most = int(sending.most_frac * fleet.state.size)
    up = open_kw > 0.0
    side = 1 if up else 0
    look(fleet, up, now_ns, sending, out)
    least = threshold(out.reach_kw, out.tally, abs(open_kw), most)
    while least < out.floor[side]:
        # Rows that were not looked at could be further off than the last of these: look lower.
        out.floor[side] -= 1 + out.floor[side] // 4
        survey(fleet, now_ns, sending, out)
        look(fleet, up, now_ns, sending, out)
        least = threshold(out.reach_kw, out.tally, abs(open_kw), most)
    # Up by one a tick: a single large mismatch says little of the next tick's.
    out.floor[side] = max(min(least, out.floor[side] + 1), 0)
    open_kw, most = close(fleet, open_kw, least, True, most, sending, out)
    open_kw, most = close(fleet, open_kw, least, False, most, sending, out)
    return request_kw - open_kw


@kernel
def choose(fleet: Fleet, request_kw: float, now_ns: int, sending: Sending, out: Outbox) -> tuple[float, float, int]:
    """Fill the outbox and make its commands the standing ones.

    request_kw : what the commands shall sum to, within the fleet's bounds [kW]
    returns    the sum of all standing commands [kW], the request less that sum [kW], and how many standing
               commands lie outside their vehicle's bounds, which must be 0: those not sent were found inside
               by the pass, those sent are looked at again
    """
    total = fill_outbox(fleet, request_kw, now_ns, sending, out)
    broken = dispatch(fleet, now_ns, sending.validity_ns, out)
    return total, request_kw - total, broken
