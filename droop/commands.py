"""Which vehicles to command this tick so that the sum of what was commanded is the request.

Set-points are cheap, messages are not. The vehicles whose last command is furthest from the split's optimum,
in the direction the fleet's sum has to move, are commanded until the sum is exact; they move a little further
than the optimum (`overshoot`), so that they need not hear again at once. Turning back costs: a vehicle whose
last move was the other way counts as nearer its optimum than it is (`reversal_kw`), so that the turns go
round instead of staying with the same few. The error goes into the division among vehicles, never to the
grid. (A dead band per vehicle is the trap: all err the same way.)

Always commanded, whatever the sum: a vehicle whose last command lies outside its bounds, and one whose
command is about to expire. Never commanded, but to stop on a dead bus: a vehicle that does not report or does not
follow; it stays in the sum with what it is predicted to be doing, which is what the split gave it.

One vectorised pass (`grading`) sums the commands and gives each row a grade: how urgently it would move in the
direction that the sum is expected to need. All else walks the few rows of the highest grades, and decides before it
writes: `outbox.dispatch` alone changes the fleet.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.fleet import PLUGGED, SEGMENTS, Fleet
from droop.grading import LAST_RESORT, MUST, Rows, bucket, expiring, listed, scan, urgency
from droop.numerics import kernel, strict
from droop.outbox import BUCKETS, Outbox, dispatch, put
from droop.response import commandable

Column = npt.NDArray[Any]

# Every segment's commands are read for those about to expire.
ALL: Final = (1 << SEGMENTS) - 1
# How much more than what is needed the rows looked at should be able to move, by the last looks.
AMPLE: Final = 1.3


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


@kernel
def beyond(command: float, optimum: float, lo: float, hi: float, overshoot_frac: float) -> float:
    """How far a vehicle may move from its command: past its optimum a little, never past its bound [kW]."""
    # In float64: rounded, the move could end a step past its bound.
    held, extra = np.float64(command), overshoot_frac * (np.float64(hi) - np.float64(lo))
    return (
        min(optimum + extra, np.float64(hi)) - held if optimum > held else max(optimum - extra, np.float64(lo)) - held
    )


@strict
def stepped(command: float, move_kw: float) -> tuple[np.float32, np.float64]:
    """A set-point moved, as float32 holds it, and how far that is, exactly [kW]."""
    # np.float64, not float: of a float32 numba's `float` makes a float32, and the difference would be rounded.
    before = np.float64(command)
    changed = np.float32(before + move_kw)
    return changed, np.float64(changed) - before


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


@kernel
def silence(
    state: Column, reason_up: Column, command_kw: Column, valid_until_ns: Column, now_ns: int, hush: int, out: Outbox
) -> None:  # fmt: skip
    """Tell those that do not report or do not follow to give, or move, no more; the sum counts on nothing of it."""
    for i in range(state.size):
        deaf = state[i] == PLUGGED and not commandable(state[i], reason_up[i])
        moves = command_kw[i] > 0.0 or (hush > 1 and command_kw[i] < 0.0)
        if deaf and moves and valid_until_ns[i] > now_ns:
            put(i, np.float32(0.0), out.place, out.slot, out.command_kw, out.sent)


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
    fleet: Fleet, request_kw: float, now_ns: int, sending: Sending, out: Outbox, renewed: int = ALL, hush: int = 0
) -> tuple[float, float, int]:  # fmt: skip
    """Fill the outbox and make its commands the standing ones.

    request_kw : what the commands shall sum to, within the fleet's bounds [kW]
    renewed    : segments, as bits, whose bounds, reasons or states are new, or whose commands others have cut short;
                 elsewhere lives of commands are not read before one of them can be due
    hush       : 1: whoever was last told to discharge is told not to, though nobody hears of it: for a dead bus;
                 2: or to charge: after a trip
    returns    the sum of all standing commands [kW], the request less that sum [kW], and how many standing
               commands lie outside their vehicle's bounds, which must be 0: those not sent were found inside
               by the pass, those sent are looked at again
    """
    total = fill_outbox(fleet, request_kw, now_ns, sending, renewed, out)
    out.total_kw[0] = total
    broken = dispatch(fleet, now_ns, sending.validity_ns, 0, out)
    if hush > 0:
        # Apart from the others: what they are counted with, and bounded by, is what they were last told.
        first = out.sent[0]
        silence(fleet.state, fleet.reason_up, fleet.command_kw, fleet.valid_until_ns, now_ns, hush, out)
        dispatch(fleet, now_ns, sending.validity_ns, first, out)
    return total, request_kw - total, broken
