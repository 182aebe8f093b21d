"""What each vehicle was asked, told and able to do since its account was opened: sums in float64, kept by the core.

An account is one session of one charger within one accounting interval. Commands change at any decision and are
integrated there, exactly, up to their expiry. Plan, bounds and the reason that binds are looked at once a second, a
piece of the fleet at a time, and hold until the next look; a silence longer than HOLD_NS is no availability. Nothing
is read back: no decision rests on an account.

The file knows numbers only. An account has its own copies of what it integrates, so that it can be brought up to date
after sessions, reports or commands have changed the fleet's columns.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.energy import NS_PER_H
from droop.fleet import PLUGGED, UNPLUGGED, Fleet
from droop.numerics import strict
from droop.reasons import COUNT

Column = npt.NDArray[Any]

LOOK_NS: Final = 1_000_000_000
HOLD_NS: Final = 2_000_000_000
# A charger is at its bound within this: the split's powers are float32.
TOUCHING_KW: Final = 1e-6

# One closed account, as it is journalled. Positive power is into the grid; energies named up or down are 0 or more.
ROW: Final = np.dtype(
    [
        ("vehicle", "S24"),
        ("slot", "<u4"),
        ("session", "<u4"),
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),
        ("asked_up_kwh", "<f8"),  # commanded above its plan, while a command stood
        ("asked_down_kwh", "<f8"),  # commanded below its plan
        ("commanded_kwh", "<f8"),  # what it was told; what it does left alone where no command stood
        ("plan_kwh", "<f8"),  # what it would have done by itself, as planned along the way
        ("baseline_kwh", "<f8"),  # its plan within the declared sum; 0 if it was not there when that was declared
        ("headroom_up_kwh", "<f8"),  # what it could have given above its plan
        ("headroom_down_kwh", "<f8"),
        ("unserved_kwh", "<f8"),  # its limits' part of what the fleet could not serve, either way
        ("bound_s", "<f8"),  # seconds in which `reason` held it at its bound
        ("commands", "<u4"),  # set-points sent
        ("acknowledged", "<u4"),  # of them, those that a later report bears out
        ("refused", "<u4"),  # of them, those after which a report says otherwise
        ("site", "<i4"),  # leaf of the tree of caps; -1: none
        ("reason", "<u4"),  # droop.reasons.Reason that bound it longest; 0: nothing did
        ("pad", "<u4"),
    ]
)

RUNNING: Final = np.dtype(
    [
        ("begun_ns", "<i8"),  # 0: no account
        ("told_ns", "<i8"),  # commands are integrated up to here
        ("looked_ns", "<i8"),  # plan and bounds are
        ("until_ns", "<i8"),  # expiry of the command
        ("heard_ns", "<i8"),  # source time of the report last seen
        ("declared_ns", "<i8"),  # from when its part of the baseline counts
        ("asked_up_kwh", "<f8"),
        ("asked_down_kwh", "<f8"),
        ("commanded_kwh", "<f8"),
        ("plan_kwh", "<f8"),
        ("headroom_up_kwh", "<f8"),
        ("headroom_down_kwh", "<f8"),
        ("unserved_kwh", "<f8"),
        ("command_kw", "<f4"),
        ("safe_kw", "<f4"),
        ("plan_kw", "<f4"),
        ("up_kw", "<f4"),  # headroom at the last look
        ("down_kw", "<f4"),
        ("declared_kw", "<f4"),
        ("next_kw", "<f4"),  # its part of the baseline declared for the next interval
        ("session", "<u4"),
        ("next_session", "<u4"),  # whose that is
        ("commands", "<u4"),
        ("acknowledged", "<u4"),
        ("refused", "<u4"),
        ("waiting", "<u4"),  # commands since the last look that no report has answered
        ("waited", "<u4"),  # older ones
        ("why", "<u4"),  # what binds since the last look; 0: nothing
        ("pad", "<u4"),
    ]
)


class Accounts(NamedTuple):
    """Running accounts of n chargers.

    rows      : RUNNING[n]
    bound_s   : float64[n, reasons]  seconds at a bound, by what set it
    turn_ns   : int64[turns]         when the accounts of a piece of the fleet were last looked at
    short_kwh : float64[2]           unserved up and down that is not shared out yet
    names     : S24[n]               whose account it is
    times_ns  : int64[5]             see `aggregator.accounting`
    """

    rows: Column
    bound_s: Column
    turn_ns: Column
    short_kwh: Column
    names: Column
    times_ns: Column


def allocate(n: int, turns: int = 1) -> Accounts:
    """No accounts at all; the fleet is looked at in so many pieces."""
    return Accounts(
        np.zeros(n, RUNNING), np.zeros((n, COUNT)), np.zeros(turns, np.int64), np.zeros(2), np.zeros(n, "S24"),
        np.zeros(5, np.int64),
    )  # fmt: skip


@strict
def bring(rows: Column, i: int, now_ns: int) -> None:
    """Integrate what account i was told up to now: its command to its expiry, then what it does left alone."""
    a = rows[i]
    if now_ns <= a.told_ns:
        return
    end_ns = min(max(a.until_ns, a.told_ns), now_ns)
    hours = (end_ns - a.told_ns) / NS_PER_H
    command_kw, plan_kw = np.float64(a.command_kw), np.float64(a.plan_kw)
    a.commanded_kwh += command_kw * hours + np.float64(a.safe_kw) * ((now_ns - end_ns) / NS_PER_H)
    # Where no command stands nobody asks for anything.
    a.asked_up_kwh += max(command_kw - plan_kw, 0.0) * hours
    a.asked_down_kwh += max(plan_kw - command_kw, 0.0) * hours
    a.plan_kwh += plan_kw * ((now_ns - a.told_ns) / NS_PER_H)
    a.told_ns = now_ns


@strict
def hold(rows: Column, bound_s: Column, i: int, now_ns: int) -> None:
    """Integrate what account i could have done, as last looked at, up to now."""
    a = rows[i]
    held_ns = min(now_ns - a.looked_ns, HOLD_NS)
    if held_ns <= 0:
        return
    a.headroom_up_kwh += np.float64(a.up_kw) * (held_ns / NS_PER_H)
    a.headroom_down_kwh += np.float64(a.down_kw) * (held_ns / NS_PER_H)
    if a.why > 0:
        bound_s[i, a.why] += held_ns / 1e9
    a.looked_ns = now_ns


@strict
def sent(rows: Column, slots: Column, command_kw: Column, valid_until_ns: Column, now_ns: int) -> None:
    """Commands have changed. slots : of those commanded; command_kw, valid_until_ns : the fleet's, as they are now"""
    for k in range(slots.size):
        i = slots[k]
        a = rows[i]
        if a.begun_ns == 0:
            continue
        bring(rows, i, now_ns)
        a.command_kw = command_kw[i]
        a.until_ns = valid_until_ns[i]
        a.commands += 1
        a.waiting += 1


@strict
def answer(rows: Column, i: int, source_ns: int, look_ns: int, follows: bool) -> None:
    """What a report says of the commands before it. look_ns : of the look before

    A command counts as answered by the first report that was measured after the look which followed it: by then the
    charger has had a second.
    """
    a = rows[i]
    if source_ns > a.heard_ns and source_ns >= look_ns:
        if follows:
            a.acknowledged += a.waited
        else:
            a.refused += a.waited
        a.waited = a.waiting
        a.waiting = np.uint32(0)
        a.heard_ns = source_ns
    elif a.waited == 0:
        a.waited = a.waiting
        a.waiting = np.uint32(0)


@strict
def look(fleet: Fleet, rows: Column, bound_s: Column, first: int, last: int, lam: float, now_ns: int) -> None:
    """Look at accounts first..last - 1 after a decision. lam : the split's multiplier, whose sign is what was asked"""
    for i in range(first, last):
        a = rows[i]
        if a.begun_ns == 0:
            continue
        bring(rows, i, now_ns)
        before_ns = a.looked_ns
        hold(rows, bound_s, i, now_ns)
        follows = fleet.misses[i] == 0 and fleet.refused_ns[i] == 0 and fleet.state[i] == PLUGGED
        answer(rows, i, fleet.source_ns[i], before_ns, follows)
        a.command_kw = fleet.command_kw[i]
        a.until_ns = fleet.valid_until_ns[i]
        a.safe_kw = fleet.safe_kw[i]
        plan_kw = fleet.plan_kw[i]
        a.plan_kw = plan_kw
        # A charger with a least power is here or there by turns; what it could do is what its own bounds say.
        own = fleet.min_kw[i] > 0.0
        lo_kw = fleet.free_lo_kw[i] if own else fleet.lo_kw[i]
        hi_kw = fleet.free_hi_kw[i] if own else fleet.hi_kw[i]
        here = fleet.state[i] == PLUGGED
        a.up_kw = max(hi_kw - plan_kw, np.float32(0.0)) if here else np.float32(0.0)
        a.down_kw = max(plan_kw - lo_kw, np.float32(0.0)) if here else np.float32(0.0)
        over = lam > 0.0 and fleet.power_kw[i] >= fleet.hi_kw[i] - TOUCHING_KW
        under = lam < 0.0 and fleet.power_kw[i] <= fleet.lo_kw[i] + TOUCHING_KW
        a.why = fleet.reason_up[i] if over else fleet.reason_down[i] if under else 0


@strict
def share_short(fleet: Fleet, rows: Column, short_kwh: float, hours: float, up: bool) -> None:
    """Share what the fleet could not serve over those whose limits took rated power away, by how much they took.

    As `shortfall.attribute` shares it over reasons; what no limit explains is nobody's. short_kwh : at least 0
    """
    rated = fleet.discharge_max_kw if up else fleet.charge_max_kw
    bound = fleet.hi_kw if up else fleet.lo_kw
    sign = 1.0 if up else -1.0
    taken = 0.0
    for i in range(rows.size):
        if fleet.state[i] != UNPLUGGED:
            taken += max(np.float64(rated[i]) - sign * np.float64(bound[i]), 0.0)
    if taken <= 0.0:
        return
    each = min(short_kwh / taken, hours)
    for i in range(rows.size):
        if fleet.state[i] != UNPLUGGED and rows[i].begun_ns != 0:
            rows[i].unserved_kwh += max(np.float64(rated[i]) - sign * np.float64(bound[i]), 0.0) * each


@strict
def write(rows: Column, bound_s: Column, i: int, end_ns: int, site: Column, row: Any) -> None:
    """Account i as it stands at `end_ns` into a ROW, and nothing in it from then on. It stays open."""
    bring(rows, i, end_ns)
    hold(rows, bound_s, i, end_ns)
    a = rows[i]
    row.slot, row.session, row.start_ns, row.end_ns = i, a.session, a.begun_ns, end_ns
    row.asked_up_kwh, row.asked_down_kwh = a.asked_up_kwh, a.asked_down_kwh
    row.commanded_kwh, row.plan_kwh = a.commanded_kwh, a.plan_kwh
    declared_ns = max(end_ns - max(a.declared_ns, a.begun_ns), 0) if a.declared_ns > 0 else 0
    row.baseline_kwh = np.float64(a.declared_kw) * (declared_ns / NS_PER_H)
    row.headroom_up_kwh, row.headroom_down_kwh = a.headroom_up_kwh, a.headroom_down_kwh
    row.unserved_kwh = a.unserved_kwh
    row.commands, row.acknowledged, row.refused = a.commands, a.acknowledged, a.refused
    row.site, row.pad = site[i], 0
    longest = 0
    for why in range(1, bound_s.shape[1]):
        if bound_s[i, why] > 0.0 and (longest == 0 or bound_s[i, why] > bound_s[i, longest]):
            longest = why
    row.reason = longest
    row.bound_s = bound_s[i, longest] if longest > 0 else 0.0
    bound_s[i, :] = 0.0
    a.asked_up_kwh = a.asked_down_kwh = a.commanded_kwh = a.plan_kwh = 0.0
    a.headroom_up_kwh = a.headroom_down_kwh = a.unserved_kwh = 0.0
    a.commands = a.acknowledged = a.refused = np.uint32(0)
    a.begun_ns = end_ns


@strict
def roll(rows: Column, bound_s: Column, site: Column, edge_ns: int, declared: int, out: Column) -> int:
    """Close every account at an edge of the accounting interval and open the next; returns how many rows of `out`.

    declared : what becomes of the baseline: -1 it ended, 0 it goes on, 1 the next one begins at the edge
    """
    count = 0
    for i in range(rows.size):
        a = rows[i]
        if a.begun_ns == 0:
            continue
        if a.begun_ns < edge_ns:
            write(rows, bound_s, i, edge_ns, site, out[count])
            count += 1
        if declared != 0:
            here = declared > 0 and a.next_session == a.session
            a.declared_kw = a.next_kw if here else np.float32(0.0)
            a.declared_ns = edge_ns if here else 0
    return count


@strict
def exchange(fleet: Fleet, rows: Column, bound_s: Column, now_ns: int, out: Column) -> int:
    """Close the accounts of sessions that have ended; returns how many rows of `out`.

    A session that is told once more goes on.
    """
    count = 0
    for i in range(rows.size):
        a = rows[i]
        if a.begun_ns == 0 or (fleet.state[i] != UNPLUGGED and fleet.session[i] == a.session):
            continue
        if now_ns > a.begun_ns:
            write(rows, bound_s, i, now_ns, fleet.site, out[count])
            count += 1
        a.begun_ns = 0
        bound_s[i, :] = 0.0
    return count


@strict
def arrive(fleet: Fleet, rows: Column, bound_s: Column, lam: float, now_ns: int) -> int:
    """Open accounts, after a decision, for those who are here and have none; returns for how many."""
    count = 0
    for i in range(rows.size):
        a = rows[i]
        if a.begun_ns != 0 or fleet.state[i] == UNPLUGGED:
            continue
        a.begun_ns = a.told_ns = a.looked_ns = now_ns
        a.session = fleet.session[i]
        a.heard_ns = fleet.source_ns[i]
        a.asked_up_kwh = a.asked_down_kwh = a.commanded_kwh = a.plan_kwh = 0.0
        a.headroom_up_kwh = a.headroom_down_kwh = a.unserved_kwh = 0.0
        a.commands = a.acknowledged = a.refused = a.waiting = a.waited = np.uint32(0)
        a.declared_kw, a.declared_ns = np.float32(0.0), 0
        look(fleet, rows, bound_s, i, i + 1, lam, now_ns)
        count += 1
    return count


@strict
def freeze(fleet: Fleet, rows: Column, start_ns: int, at_once: bool) -> None:
    """Keep each vehicle's part of a baseline that has just been declared: its plan. at_once : it counts in this row"""
    for i in range(rows.size):
        a = rows[i]
        a.next_kw = fleet.plan_kw[i]
        a.next_session = fleet.session[i] if fleet.state[i] != UNPLUGGED else np.uint32(0)
        if at_once:
            here = a.begun_ns != 0 and a.next_session == a.session
            a.declared_kw = a.next_kw if here else np.float32(0.0)
            a.declared_ns = start_ns if here else 0
