"""What each vehicle was asked, told and able to do since its account was opened: sums in float64, kept by the core.

An account is one session of one charger within one accounting interval. Commands change at any decision and are
integrated there, exactly, up to their expiry. Plan, bounds and the reason that binds are looked at once a second, a
piece of the fleet at a time, and hold until the next look; a silence longer than HOLD_NS is no availability. Nothing
is read back: no decision rests on an account.

The file knows numbers only. An account has its own copies of what it integrates, so that it can be brought up to date
after sessions, reports or commands have changed the fleet's columns. What a command changes is one record the size of
a cache line, for commands go to vehicles here and there; what a look changes are columns, for it goes along them.
Either is integrated only when what it is multiplied with changes.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.energy import NS_PER_H
from droop.fleet import LINE, PLUGGED, UNPLUGGED, Fleet, column
from droop.numerics import strict
from droop.reasons import COUNT

Column = npt.NDArray[Any]

LOOK_NS: Final = 1_000_000_000
HOLD_NS: Final = 2_000_000_000
# A charger is at its bound within this: the split's powers are float32.
TOUCHING_KW: Final = 1e-6
H_PER_NS: Final = 1.0 / NS_PER_H
S_PER_NS: Final = 1e-9
# Commands whose accounts are fetched at once.
AHEAD: Final = 64

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

# What an account was told, and what it is measured against: one cache line.
TOLD: Final = np.dtype(
    [
        ("told_ns", "<i8"),  # integrated up to here
        ("until_ns", "<i8"),  # expiry of the command
        ("asked_up_kwh", "<f8"),
        ("asked_down_kwh", "<f8"),
        ("commanded_kwh", "<f8"),
        ("plan_kwh", "<f8"),
        ("command_kw", "<f4"),
        ("safe_kw", "<f4"),
        ("plan_kw", "<f4"),
        ("commands", "<u4"),
    ]
)
assert TOLD.itemsize == LINE  # noqa: S101 - what the layout is for


class Accounts(NamedTuple):
    """Running accounts of n chargers.

    told    : TOLD[n]
    bound_s : float64[n, reasons]  seconds at a bound, by what set it; without those of `why_s`
    """

    told: Column
    bound_s: Column
    begun_ns: Column  # int64[n]  0: no account
    looked_ns: Column  # int64[n]  plan and bounds are integrated up to here
    heard_ns: Column  # int64[n]  source time of the report last seen
    declared_ns: Column  # int64[n]  from when its part of the baseline counts
    headroom_up_kwh: Column  # float64[n]
    headroom_down_kwh: Column
    unserved_kwh: Column
    why_s: Column  # float64[n]  seconds for which `why` has held it so far
    up_kw: Column  # float32[n]  headroom at the last look
    down_kw: Column
    declared_kw: Column
    next_kw: Column  # its part of the baseline declared for the next interval
    session: Column  # uint32[n]
    next_session: Column  # whose that is
    acknowledged: Column
    refused: Column
    waited: Column  # commands that a report measured after the last look will answer
    counted: Column  # int32[n]  of `told.commands`, those that are in `waited` or answered
    why: Column  # uint8[n]  what binds since the last look; 0: nothing
    turn_ns: Column  # int64[turns]  when the accounts of a piece of the fleet were last looked at
    short_kwh: Column  # float64[2]  unserved up and down that is not shared out yet
    names: Column  # S24[n]  whose account it is
    times_ns: Column  # int64[5]  see `aggregator.accounting`


KINDS: Final[dict[str, Any]] = (
    {"told": TOLD, "names": np.dtype("S24"), "counted": np.int32, "why": np.uint8}
    | dict.fromkeys(("begun_ns", "looked_ns", "heard_ns", "declared_ns", "turn_ns", "times_ns"), np.int64)
    | dict.fromkeys(("up_kw", "down_kw", "declared_kw", "next_kw"), np.float32)
    | dict.fromkeys(("session", "next_session", "acknowledged", "refused", "waited"), np.uint32)
)


def allocate(n: int, turns: int = 1) -> Accounts:
    """No accounts at all; the fleet is looked at in so many pieces."""
    sizes = {"bound_s": n * COUNT, "turn_ns": turns, "short_kwh": 2, "times_ns": 5}
    found = {
        name: column(place, sizes.get(name, n), KINDS.get(name, np.float64))
        for place, name in enumerate(Accounts._fields)
    }
    found["bound_s"] = found["bound_s"].reshape(n, COUNT)
    return Accounts(**found)


# Kernels called from outside take handles (`droop.handle`): `held` on a `droop.step.Running`, `book` on `Accounts`.


@strict
def bring(told: Column, i: int, now_ns: int) -> None:
    """Integrate what account i was told up to now: its command to its expiry, then what it does left alone."""
    a = told[i]
    if now_ns <= a.told_ns:
        return
    end_ns = min(max(a.until_ns, a.told_ns), now_ns)
    hours = (end_ns - a.told_ns) * H_PER_NS
    command_kw, plan_kw = np.float64(a.command_kw), np.float64(a.plan_kw)
    a.commanded_kwh += command_kw * hours + np.float64(a.safe_kw) * ((now_ns - end_ns) * H_PER_NS)
    # Where no command stands nobody asks for anything.
    a.asked_up_kwh += max(command_kw - plan_kw, 0.0) * hours
    a.asked_down_kwh += max(plan_kw - command_kw, 0.0) * hours
    a.plan_kwh += plan_kw * ((now_ns - a.told_ns) * H_PER_NS)
    a.told_ns = now_ns


@strict
def hold(book: Accounts, first: int, last: int, now_ns: int) -> None:
    """Integrate what accounts first..last - 1 could have done, as last looked at, up to now."""
    up_kw, down_kw, why, looked_ns = (
        book.up_kw[first:last], book.down_kw[first:last], book.why[first:last], book.looked_ns[first:last]
    )  # fmt: skip
    up_kwh, down_kwh, why_s = (
        book.headroom_up_kwh[first:last], book.headroom_down_kwh[first:last], book.why_s[first:last]
    )  # fmt: skip
    # One loop each and no branches, so that they run on whole vectors. Where there is no account all of it is 0.
    for i in range(looked_ns.size):
        up_kwh[i] += np.float64(up_kw[i]) * (max(min(now_ns - looked_ns[i], HOLD_NS), 0) * H_PER_NS)
    for i in range(looked_ns.size):
        down_kwh[i] += np.float64(down_kw[i]) * (max(min(now_ns - looked_ns[i], HOLD_NS), 0) * H_PER_NS)
    for i in range(looked_ns.size):
        why_s[i] += (1.0 if why[i] > 0 else 0.0) * (max(min(now_ns - looked_ns[i], HOLD_NS), 0) * S_PER_NS)
    for i in range(looked_ns.size):
        looked_ns[i] = max(now_ns, looked_ns[i])


@strict
def blame(book: Accounts, i: int, why: Any) -> None:
    """From now on `why` binds account i; what bound it so far gets its seconds."""
    if book.why_s[i] > 0.0:
        book.bound_s[i, book.why[i]] += book.why_s[i]
        book.why_s[i] = 0.0
    book.why[i] = why


@strict
def sent(book: Accounts, slots: Column, command_kw: Column, valid_until_ns: Column, now_ns: int) -> None:
    """Commands have changed. slots : of those commanded; command_kw, valid_until_ns : the fleet's, as they are now"""
    told = book.told
    for first in range(0, slots.size, AHEAD):
        piece = slots[first : first + AHEAD]
        # Accounts lie here and there: this loop is so short that they come from memory side by side.
        open_ = 0
        for k in range(piece.size):
            open_ += 1 if told[piece[k]].told_ns > 0 else 0
        if open_ == 0:
            continue
        for k in range(piece.size):
            i = piece[k]
            a = told[i]
            if a.told_ns == 0:
                continue
            # A command told again before it ends goes on, and is integrated in one piece.
            if a.command_kw != command_kw[i] or a.until_ns < now_ns:
                bring(told, i, now_ns)
                a.command_kw = command_kw[i]
            a.until_ns = valid_until_ns[i]
            a.commands += 1


@strict
def answer(fleet: Fleet, book: Accounts, first: int, last: int) -> None:
    """What reports say of the commands before them; ahead of the look that is due.

    A command counts as answered by the first report that was measured after the look which followed it: by then the
    charger has had a second.
    """
    told, begun_ns, looked_ns, heard_ns = (
        book.told[first:last], book.begun_ns[first:last], book.looked_ns[first:last], book.heard_ns[first:last]
    )  # fmt: skip
    waited, counted = book.waited[first:last], book.counted[first:last]
    acknowledged, refused = book.acknowledged[first:last], book.refused[first:last]
    source_ns, state = fleet.source_ns[first:last], fleet.state[first:last]
    misses, refused_ns = fleet.misses[first:last], fleet.refused_ns[first:last]
    none = np.uint32(0)
    # No branches: who has reported since comes in no order, and of two guesses one is wrong.
    for i in range(told.size):
        here, source, heard = begun_ns[i] != 0, source_ns[i], heard_ns[i]
        commands, waits, counts = np.int64(told[i].commands), waited[i], counted[i]
        said = here & (source > heard) & (source >= looked_ns[i])
        follows = (state[i] == PLUGGED) & (misses[i] == 0) & (refused_ns[i] == 0)
        heard_ns[i] = source if said else heard
        acknowledged[i] += waits if said & follows else none
        refused[i] += waits if said & (not follows) else none
        turns = here & (said | (waits == 0))
        waited[i] = np.uint32(commands - counts) if turns else waits
        counted[i] = np.int32(commands) if turns else counts


@strict
def compare(fleet: Fleet, book: Accounts, first: int, last: int, now_ns: int) -> None:
    """Plan, safe profile and commands as they are now; where one has changed, what was told is integrated first."""
    told, begun_ns = book.told[first:last], book.begun_ns[first:last]
    command_kw, until_ns, safe_kw, plan_kw = (
        fleet.command_kw[first:last], fleet.valid_until_ns[first:last], fleet.safe_kw[first:last],
        fleet.plan_kw[first:last],
    )  # fmt: skip
    for i in range(told.size):
        a = told[i]
        same = (plan_kw[i] == a.plan_kw) & (command_kw[i] == a.command_kw)
        same = same & (until_ns[i] == a.until_ns) & (safe_kw[i] == a.safe_kw)
        if not same and begun_ns[i] != 0:
            bring(told, i, now_ns)
            a.command_kw, a.until_ns, a.safe_kw, a.plan_kw = command_kw[i], until_ns[i], safe_kw[i], plan_kw[i]


@strict
def measure(fleet: Fleet, book: Accounts, first: int, last: int) -> None:
    """Headroom as it is now."""
    up_kw, down_kw, begun_ns = book.up_kw[first:last], book.down_kw[first:last], book.begun_ns[first:last]
    plan_kw, min_kw, state = fleet.plan_kw[first:last], fleet.min_kw[first:last], fleet.state[first:last]
    lo_kw, hi_kw = fleet.lo_kw[first:last], fleet.hi_kw[first:last]
    free_lo_kw, free_hi_kw = fleet.free_lo_kw[first:last], fleet.free_hi_kw[first:last]
    zero = np.float32(0.0)
    # A charger with a least power is here or there by turns; what it could do is what its own bounds say. All is
    # loaded before it is chosen from: a load that depends is a branch.
    for i in range(plan_kw.size):
        bound, free, here = hi_kw[i], free_hi_kw[i], (begun_ns[i] != 0) & (state[i] == PLUGGED)
        room = max((free if min_kw[i] > zero else bound) - plan_kw[i], zero)
        up_kw[i] = room if here else zero
    for i in range(plan_kw.size):
        bound, free, here = lo_kw[i], free_lo_kw[i], (begun_ns[i] != 0) & (state[i] == PLUGGED)
        room = max(plan_kw[i] - (free if min_kw[i] > zero else bound), zero)
        down_kw[i] = room if here else zero


@strict
def bind(fleet: Fleet, book: Accounts, first: int, last: int, lam: float) -> None:
    """Who is at its bound, the way that was asked, and why."""
    power_kw, begun_ns, why = fleet.power_kw[first:last], book.begun_ns[first:last], book.why[first:last]
    sign = np.float32(1.0 if lam > 0.0 else -1.0)
    bound_kw = fleet.hi_kw[first:last] if lam > 0.0 else fleet.lo_kw[first:last]
    reason = fleet.reason_up[first:last] if lam > 0.0 else fleet.reason_down[first:last]
    asked = lam != 0.0
    for i in range(why.size):
        because, near_kw = reason[i], sign * (power_kw[i] - bound_kw[i])
        now = because if (near_kw >= -TOUCHING_KW) & asked & (begun_ns[i] != 0) else np.uint8(0)
        if now != why[i]:
            blame(book, first + i, now)


@strict
def look(fleet: Fleet, book: Accounts, first: int, last: int, lam: float, now_ns: int) -> None:
    """Look at accounts first..last - 1 after a decision. lam : the split's multiplier, whose sign is what was asked"""
    answer(fleet, book, first, last)
    hold(book, first, last, now_ns)
    compare(fleet, book, first, last, now_ns)
    measure(fleet, book, first, last)
    bind(fleet, book, first, last, lam)


@strict
def decided(held: Any, book: Accounts, lam: float, now_ns: int, due: bool, apart_ns: int) -> int:
    """After a decision: its commands stand, and the pieces whose turn it is are looked at.

    due      : whether a piece's turn may have come
    apart_ns : from one piece's turn to the next one's

    returns when the next piece is due, 0 if nothing was looked at [ns]
    """
    engine = held.engine
    fleet, out = engine.fleet, engine.out
    count = out.sent[0]
    if count > 0:
        sent(book, out.slot[:count], fleet.command_kw, fleet.valid_until_ns, now_ns)
    if not due:
        return 0
    n, turns = fleet.state.size, book.turn_ns.size
    soonest_ns = now_ns
    for turn in range(turns):
        turn_ns = book.turn_ns[turn]
        if now_ns - turn_ns >= LOOK_NS:
            # All at first, then in turn.
            book.turn_ns[turn] = now_ns if turn_ns > 0 else now_ns - turn * apart_ns
            look(fleet, book, turn * n // turns, (turn + 1) * n // turns, lam, now_ns)
        soonest_ns = min(soonest_ns, book.turn_ns[turn])
    return soonest_ns + LOOK_NS


@strict
def share_short(held: Any, book: Accounts, short_kwh: float, hours: float, up: bool) -> None:
    """Share what the fleet could not serve over those whose limits took rated power away, by how much they took.

    As `shortfall.attribute` shares it over reasons; what no limit explains is nobody's. short_kwh : at least 0
    """
    fleet = held.engine.fleet
    rated = fleet.discharge_max_kw if up else fleet.charge_max_kw
    bound = fleet.hi_kw if up else fleet.lo_kw
    state, begun_ns, unserved_kwh = fleet.state, book.begun_ns, book.unserved_kwh
    sign = 1.0 if up else -1.0
    taken = 0.0
    for i in range(state.size):
        if state[i] != UNPLUGGED:
            taken += max(np.float64(rated[i]) - sign * np.float64(bound[i]), 0.0)
    if taken <= 0.0:
        return
    each = min(short_kwh / taken, hours)
    for i in range(state.size):
        if state[i] != UNPLUGGED and begun_ns[i] != 0:
            unserved_kwh[i] += max(np.float64(rated[i]) - sign * np.float64(bound[i]), 0.0) * each


@strict
def clear(book: Accounts, i: int) -> None:
    """Nothing in account i."""
    a = book.told[i]
    a.asked_up_kwh = a.asked_down_kwh = a.commanded_kwh = a.plan_kwh = 0.0
    # Commands that wait for an answer go on waiting.
    book.counted[i] -= np.int64(a.commands)
    a.commands = np.uint32(0)
    book.headroom_up_kwh[i] = book.headroom_down_kwh[i] = book.unserved_kwh[i] = 0.0
    book.acknowledged[i] = book.refused[i] = np.uint32(0)
    book.why_s[i] = 0.0
    book.bound_s[i, :] = 0.0


@strict
def write(fleet: Fleet, book: Accounts, i: int, end_ns: int, row: Any) -> None:
    """Account i as it stands at `end_ns` into a ROW, and nothing in it from then on. It stays open."""
    bring(book.told, i, end_ns)
    hold(book, i, i + 1, end_ns)
    blame(book, i, book.why[i])
    a, bound_s, begun_ns = book.told[i], book.bound_s, book.begun_ns[i]
    row.slot, row.session, row.start_ns, row.end_ns = i, book.session[i], begun_ns, end_ns
    row.asked_up_kwh, row.asked_down_kwh = a.asked_up_kwh, a.asked_down_kwh
    row.commanded_kwh, row.plan_kwh = a.commanded_kwh, a.plan_kwh
    since_ns = max(book.declared_ns[i], begun_ns)
    declared_ns = max(end_ns - since_ns, 0) if book.declared_ns[i] > 0 else 0
    row.baseline_kwh = np.float64(book.declared_kw[i]) * (declared_ns * H_PER_NS)
    row.headroom_up_kwh, row.headroom_down_kwh = book.headroom_up_kwh[i], book.headroom_down_kwh[i]
    row.unserved_kwh = book.unserved_kwh[i]
    row.commands, row.acknowledged, row.refused = a.commands, book.acknowledged[i], book.refused[i]
    row.site, row.pad = fleet.site[i], 0
    longest = 0
    for why in range(1, bound_s.shape[1]):
        if bound_s[i, why] > 0.0 and (longest == 0 or bound_s[i, why] > bound_s[i, longest]):
            longest = why
    row.reason = longest
    row.bound_s = bound_s[i, longest] if longest > 0 else 0.0
    clear(book, i)
    book.begun_ns[i] = end_ns


@strict
def roll(held: Any, book: Accounts, edge_ns: int, declared: int, out: Column) -> int:
    """Close every account at an edge of the accounting interval and open the next; returns how many rows of `out`.

    declared : what becomes of the baseline: -1 it ended, 0 it goes on, 1 the next one begins at the edge
    """
    fleet = held.engine.fleet
    count = 0
    for i in range(book.begun_ns.size):
        if book.begun_ns[i] == 0:
            continue
        if book.begun_ns[i] < edge_ns:
            write(fleet, book, i, edge_ns, out[count])
            count += 1
        if declared != 0:
            here = declared > 0 and book.next_session[i] == book.session[i]
            book.declared_kw[i] = book.next_kw[i] if here else np.float32(0.0)
            book.declared_ns[i] = edge_ns if here else 0
    return count


@strict
def exchange(held: Any, book: Accounts, now_ns: int, out: Column) -> int:
    """Close the accounts of sessions that have ended; returns how many rows of `out`.

    A session that is told once more goes on.
    """
    fleet = held.engine.fleet
    count = 0
    for i in range(book.begun_ns.size):
        begun_ns = book.begun_ns[i]
        if begun_ns == 0 or (fleet.state[i] != UNPLUGGED and fleet.session[i] == book.session[i]):
            continue
        if now_ns > begun_ns:
            write(fleet, book, i, now_ns, out[count])
            count += 1
        book.begun_ns[i] = book.told[i].told_ns = 0
        book.up_kw[i] = book.down_kw[i] = np.float32(0.0)
        book.why[i] = 0
    return count


@strict
def arrive(held: Any, book: Accounts, lam: float, now_ns: int) -> int:
    """Open accounts, after a decision, for those who are here and have none; returns for how many."""
    fleet = held.engine.fleet
    count = 0
    for i in range(book.begun_ns.size):
        if book.begun_ns[i] != 0 or fleet.state[i] == UNPLUGGED:
            continue
        clear(book, i)
        book.begun_ns[i] = book.looked_ns[i] = book.told[i].told_ns = now_ns
        book.session[i] = fleet.session[i]
        book.heard_ns[i] = fleet.source_ns[i]
        book.waited[i], book.counted[i], book.why[i] = np.uint32(0), 0, 0
        book.declared_kw[i], book.declared_ns[i] = np.float32(0.0), 0
        look(fleet, book, i, i + 1, lam, now_ns)
        count += 1
    return count


@strict
def freeze(held: Any, book: Accounts, start_ns: int, at_once: bool) -> None:
    """Keep each vehicle's part of a baseline that has just been declared: its plan. at_once : it counts in this row"""
    fleet = held.engine.fleet
    for i in range(book.begun_ns.size):
        book.next_kw[i] = fleet.plan_kw[i]
        book.next_session[i] = fleet.session[i] if fleet.state[i] != UNPLUGGED else np.uint32(0)
        if at_once:
            here = book.begun_ns[i] != 0 and book.next_session[i] == book.session[i]
            book.declared_kw[i] = book.next_kw[i] if here else np.float32(0.0)
            book.declared_ns[i] = start_ns if here else 0
