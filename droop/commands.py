"""Which vehicles to command this tick so that the sum of what was commanded is the request.

Set-points are cheap, messages are not. The vehicles whose last command is furthest from the split's optimum,
in the direction the fleet's sum has to move, are commanded until the sum is exact; they move a little further
than the optimum (`overshoot`), so that they need not hear again at once. The error goes into the division
among vehicles, never to the grid. (A dead band per vehicle is the trap: all err the same way.)

Always commanded, whatever the sum: a vehicle whose last command lies outside its bounds, and one whose
command is about to expire. Never commanded: a vehicle that does not report; it stays in the sum with what it
is predicted to be doing.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.energy import standing_kwh
from droop.fleet import PLUGGED, Fleet
from droop.numerics import kernel, strict
from droop.reasons import Reason

Column = npt.NDArray[Any]

BUCKETS: Final = 128
STALE: Final = int(Reason.STALE)


class Outbox(NamedTuple):
    """Commands of one tick, and the kernel's scratch."""

    slot: Column  # uint32[n]
    setpoint_kw: Column  # float32[n]
    place: Column  # int32[n]  where a vehicle's command lies in this tick's outbox; -1: none
    sent: Column  # int64[1]  commands in the outbox
    reach_kw: Column  # float64[2, BUCKETS]  what the vehicles of a bucket could move, down and up
    start: Column  # int64[1]  where the next selection begins, for fairness


class Sending(NamedTuple):
    """How commands are chosen.

    validity_ns    : life of a command [ns]
    renew_ns       : a command with less life left than this is renewed [ns]
    overshoot_frac : share of its range by which a chosen vehicle may pass its optimum
    largest_kw     : largest mismatch told apart [kW]
    closed_kw      : the sum counts as exact within this: some float32 steps of one set-point [kW]
    """

    validity_ns: int = 6_000_000_000
    renew_ns: int = 3_000_000_000
    overshoot_frac: float = 0.05
    largest_kw: float = 100.0
    closed_kw: float = 1e-5


def outbox(rows: int) -> Outbox:
    """Room for a command to every vehicle."""
    return Outbox(
        np.zeros(rows, np.uint32), np.zeros(rows, np.float32), np.full(rows, -1, np.int32), np.zeros(1, np.int64),
        np.zeros((2, BUCKETS)), np.zeros(1, np.int64),
    )  # fmt: skip


# Functions of one vehicle take its numbers, never the fleet: see `limits`.


@kernel
def commandable(state: int, reason_up: int) -> bool:
    """Whether the vehicle can hear us and is believed."""
    return state == PLUGGED and reason_up != STALE


@kernel
def send(slot: int, now_ns: int, fleet: Fleet, sending: Sending, out: Outbox) -> None:
    """Put vehicle `slot`, whose new command stands in its column, into the outbox once."""
    if out.place[slot] < 0:
        out.place[slot] = out.sent[0]
        out.slot[out.sent[0]] = slot
        out.sent[0] += 1
    fleet.valid_until_ns[slot] = now_ns + sending.validity_ns
    out.setpoint_kw[out.place[slot]] = fleet.command_kw[slot]


@kernel
def account(slot: int, now_ns: int, fleet: Fleet) -> None:
    """Bring a vehicle's energy up to now under the command that is about to end."""
    fleet.energy_kwh[slot] = standing_kwh(
        fleet.energy_kwh[slot], fleet.energy_ns[slot], now_ns, fleet.command_kw[slot], fleet.valid_until_ns[slot],
        fleet.safe_kw[slot], fleet.eta_charge[slot], fleet.eta_discharge[slot], fleet.usable_kwh[slot],
    )  # fmt: skip
    fleet.energy_ns[slot] = max(now_ns, fleet.energy_ns[slot])


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
def bucket(move_kw: float, largest_kw: float) -> int:
    """Index of a mismatch: equal steps of its square root, finer where mismatches are many."""
    share = min(abs(move_kw) / largest_kw, 1.0)
    return min(int(np.sqrt(share) * BUCKETS), BUCKETS - 1)


@kernel
def survey(fleet: Fleet, now_ns: int, sending: Sending, out: Outbox) -> float:
    """Send what must be sent; histogram what could be moved; return the sum of commands [kW]."""
    state, reason_up, command_kw, power_kw = fleet.state, fleet.reason_up, fleet.command_kw, fleet.power_kw
    lo_kw, hi_kw, valid_until_ns, reach_kw = fleet.lo_kw, fleet.hi_kw, fleet.valid_until_ns, out.reach_kw
    renew_ns, overshoot, largest_kw = sending.renew_ns, sending.overshoot_frac, sending.largest_kw
    reach_kw[:] = 0.0
    total = 0.0
    for i in range(state.size):
        if not commandable(state[i], reason_up[i]):
            # Unplugged: 0. Stale or faulty: what it is predicted to do, which is what the split gave it.
            total += power_kw[i]
            continue
        optimum, lo, hi = power_kw[i], lo_kw[i], hi_kw[i]
        if valid_until_ns[i] - now_ns < renew_ns or command_kw[i] < lo or command_kw[i] > hi:
            # A command about to expire keeps its value where that is allowed: renewing must not move power.
            expired = valid_until_ns[i] <= now_ns
            account(i, now_ns, fleet)
            command_kw[i] = optimum if expired else min(max(command_kw[i], lo), hi)
            send(i, now_ns, fleet, sending, out)
        held = command_kw[i]
        total += held
        if optimum != held:
            move = beyond(held, optimum, lo, hi, overshoot)
            reach_kw[1 if optimum > held else 0, bucket(optimum - held, largest_kw)] += abs(move)
    return total


@kernel
def threshold(reach_kw: Column, needed_kw: float) -> int:
    """Lowest bucket needed when the largest mismatches are taken first."""
    least = BUCKETS - 1
    reach = reach_kw[least]
    while least > 0 and reach < needed_kw:
        least -= 1
        reach += reach_kw[least]
    return least


@kernel
def close(
    fleet: Fleet, open_kw: float, least: int, whole: bool, now_ns: int, sending: Sending, out: Outbox
) -> float:  # fmt: skip
    """Move vehicles of the buckets above `least` (`whole`), or of `least` itself; return what stays open [kW]."""
    state, reason_up, command_kw, power_kw = fleet.state, fleet.reason_up, fleet.command_kw, fleet.power_kw
    lo_kw, hi_kw = fleet.lo_kw, fleet.hi_kw
    overshoot, largest_kw, closed_kw = sending.overshoot_frac, sending.largest_kw, sending.closed_kw
    n = state.size
    start = out.start[0] % n
    up = open_kw > 0.0
    for k in range(n):
        if abs(open_kw) <= closed_kw:
            break
        i = start + k if start + k < n else start + k - n
        mismatch = power_kw[i] - command_kw[i]
        if mismatch == 0.0 or (mismatch > 0.0) != up or not commandable(state[i], reason_up[i]):
            continue
        b = bucket(mismatch, largest_kw)
        if b <= least if whole else b != least:
            continue
        held = command_kw[i]
        move = beyond(held, power_kw[i], lo_kw[i], hi_kw[i], overshoot)
        changed, moved = stepped(held, open_kw if abs(move) > abs(open_kw) else move)
        if moved == 0.0:
            # What is left is below this set-point's float32 step: a message would say nothing.
            continue
        account(i, now_ns, fleet)
        command_kw[i] = changed
        send(i, now_ns, fleet, sending, out)
        open_kw -= moved
        if not whole:
            out.start[0] = i + 1
    return open_kw


@kernel
def choose(fleet: Fleet, request_kw: float, now_ns: int, sending: Sending, out: Outbox) -> float:
    """Fill the outbox; return the sum of all standing commands [kW].

    request_kw : what the commands shall sum to, within the fleet's bounds [kW]
    """
    for k in range(out.sent[0]):
        out.place[out.slot[k]] = -1
    out.sent[0] = 0
    total = survey(fleet, now_ns, sending, out)
    open_kw = request_kw - total
    if abs(open_kw) <= sending.closed_kw:
        return total
    least = threshold(out.reach_kw[1 if open_kw > 0.0 else 0], abs(open_kw))
    open_kw = close(fleet, open_kw, least, True, now_ns, sending, out)
    open_kw = close(fleet, open_kw, least, False, now_ns, sending, out)
    return request_kw - open_kw


@kernel
def broken_bounds(fleet: Fleet, tolerance_kw: float) -> int:
    """Vehicles whose standing command lies outside their band by more than the tolerance."""
    state, reason_up, command_kw = fleet.state, fleet.reason_up, fleet.command_kw
    lo_kw, hi_kw = fleet.lo_kw, fleet.hi_kw
    broken = 0
    for i in range(state.size):
        outside = command_kw[i] < lo_kw[i] - tolerance_kw or command_kw[i] > hi_kw[i] + tolerance_kw
        broken += 1 if outside and commandable(state[i], reason_up[i]) else 0
    return broken
