"""Commands of one tick, and what each of them changes in the fleet once it is sent."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.energy import standing_kwh
from droop.fleet import Fleet, column
from droop.numerics import kernel
from droop.response import setpoint_kw, settle_ns

Column = npt.NDArray[Any]

BUCKETS: Final = 120
"""Grades of urgency; see `commands`."""
# Passes go over their rows in pieces that stay in the first cache.
PIECE: Final = 1024


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


@kernel
def put(slot: int, command: Any, place: Column, slots: Column, new_kw: Column, sent: Column) -> None:
    """Put a command into the outbox, once a vehicle."""
    if place[slot] < 0:
        place[slot] = sent[0]
        slots[sent[0]] = slot
        sent[0] += 1
    new_kw[place[slot]] = command


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
    slots: Column, new_kw: Column, until_ns: int, gain_up: Column, gain_dn: Column, charge_max_kw: Column,
    discharge_max_kw: Column, min_kw: Column, least_dn_kw: Column, told_kw: Column, command_kw: Column,
    valid_until_ns: Column, lo_kw: Column, hi_kw: Column, setpoints: Column,
) -> int:  # fmt: skip
    """Make each command the standing one, and say what the charger is told; return how many break their bounds."""
    broken = 0
    for k in range(slots.size):
        i, new = slots[k], new_kw[k]
        command_kw[i] = new
        valid_until_ns[i] = until_ns
        setpoint = setpoint_kw(
            new, gain_up[i], gain_dn[i], charge_max_kw[i], discharge_max_kw[i], min_kw[i], least_dn_kw[i]
        )  # fmt: skip
        setpoints[k] = setpoint
        told_kw[i] = setpoint
        broken += 1 if (new < lo_kw[i]) | (new > hi_kw[i]) else 0
    return broken


@kernel
def dispatch(fleet: Fleet, now_ns: int, validity_ns: int, first: int, out: Outbox) -> int:
    """Make the outbox's commands from `first` on the standing ones; return how many lie outside their bounds."""
    f = fleet
    slots, new_kw = out.slot[first : out.sent[0]], out.command_kw[first : out.sent[0]]
    account(
        slots, now_ns, f.energy_kwh, f.energy_ns, f.moved_kwh, f.command_kw, f.valid_until_ns, f.safe_kw,
        f.eta_charge, f.eta_discharge, f.usable_kwh, f.idle_kw, f.heat_per_kw,
    )  # fmt: skip
    remember(
        slots, new_kw, now_ns, f.command_kw, f.valid_until_ns, f.safe_kw, f.dead_s, f.sent_ns, f.past_lo_kw,
        f.past_hi_kw, f.from_kw, out.recent_kw, out.recent_ns, out.heading,
    )  # fmt: skip
    return tell(
        slots, new_kw, now_ns + validity_ns, f.gain_up, f.gain_dn, f.charge_max_kw, f.discharge_max_kw, f.min_kw,
        f.least_dn_kw, f.told_kw, f.command_kw, f.valid_until_ns, f.lo_kw, f.hi_kw, out.setpoint_kw[first:],
    )  # fmt: skip
