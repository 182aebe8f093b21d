"""Decisions of a backtest in a row, compiled: the calls of `backtest` and `core` where Python has nothing to say.

The same kernels in the same order, at their addresses, and between them the same sums. What needs Python (a car comes
or goes, a baseline is due, an alarm, a sample that is not usable) ends the stretch before, or right after, the step in
question; `conductor` sees to it. Nothing is decided here that the core does not decide, and a test holds the two
equal in every bit.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from aggregator.accounting import SHORT_SINCE
from aggregator.core import NEGLIGIBLE_KW
from aggregator.declared import STEP_NS
from aggregator.desk import (
    AEM,
    AFTER,
    ALERT,
    APART_NS,
    ARRANGE,
    ARRIVE,
    BEGIN,
    BEYOND,
    BLIND,
    CAP,
    CODES,
    COMING,
    DEAD_BUS,
    DECIDE,
    DECIDED,
    DONE,
    EASE,
    EVENT,
    FINISH,
    GAP,
    HEARING,
    LOOK,
    MODES,
    NEM,
    NO_FLEET,
    OVERLOADED,
    RECEIVE,
    RENEW,
    REPORT,
    RESERVE,
    SHARE,
    SHED,
    SHORT,
    SHUT,
    STAY_STILL,
    STEP,
    STEP_MAX_NS,
    TAKE,
    Column,
)  # fmt: skip
from aggregator.direct import call
from aggregator.gateways import physics
from aggregator.gateways.simulated import METER, SECOND_NS
from aggregator.intake import AHEAD_NS, take_reports
from droop import accounts, step
from droop.accounts import LOOK_NS
from droop.numerics import strict
from droop.protection import IN_SERVICE
from droop.step import DEAD, EASING, EVERY, SOME_LEAST, STILL, TROUBLE
from droop.watch import USABLE

# What is compiled into a stretch from other files of this package: numba's cache looks at this file alone.
FROZEN: Final = (
    SHORT_SINCE, NEGLIGIBLE_KW, STEP_NS, METER, SECOND_NS, AHEAD_NS, STEP_MAX_NS, APART_NS, CODES,
    (DONE, GAP, EVENT, LOOK, DECIDE, AFTER, COMING, HEARING),
    (STEP, REPORT, TAKE, RECEIVE, BEGIN, RENEW, STAY_STILL, SHUT, CAP, EASE, ARRANGE, FINISH, ARRIVE, DECIDED, SHARE),
    (DEAD_BUS, BEYOND, SHORT, OVERLOADED, BLIND, SHED, NO_FLEET, ALERT, RESERVE, NEM, AEM, MODES),
)  # fmt: skip


@strict
def stretch(
    held: Any, book: Any, chargers: Any, desk: Any, rows: Column, first: int, stage: int
) -> tuple[int, int]:  # fmt: skip
    """Live through rows from `first` on; returns the row at which Python is needed, and why.

    held, book, chargers, desk : handles on `Running`, `Accounts`, `Columns`, `Desk`
    rows  : FREQUENCY[n], judged and in time
    stage : where in row `first` to go on: COMING, HEARING or DECIDING
    """
    s = desk.state[0]
    for k in range(first, rows.size):
        now_ns = rows[k].rx_ns
        if stage == COMING:
            if s.last_ns != 0 and now_ns - s.last_ns > STEP_MAX_NS:
                return k, GAP
            if s.event_ns <= now_ns or s.records != 0:
                return k, EVENT
        if stage <= HEARING:
            live(chargers, desk, now_ns)
            hear_vehicles(held, chargers, desk, now_ns)
            hear_meter(desk, now_ns)
            hear_signal(held, desk, now_ns)
            s.last_ns = now_ns
            if now_ns >= s.look_ns:
                return k, LOOK
        stage = COMING
        if not plain(desk, rows[k], now_ns):
            return k, DECIDE
        decide(held, book, desk, rows[k], now_ns)
        s.row = k
        obey(held, chargers, desk, now_ns)
        if changed(held, desk):
            return k, AFTER
    return rows.size, DONE


@strict
def live(chargers: Any, desk: Any, now_ns: int) -> None:
    """Time goes by for the chargers: `SimulatedFleet.advance`, where no event is due."""
    s = desk.state[0]
    while s.fleet_ns < now_ns:
        second_ns = (s.fleet_ns // SECOND_NS + 1) * SECOND_NS
        end_ns = min(now_ns, second_ns)
        grid_kwh, losses_kwh, sum_kw, moved_kwh = call(
            physics.step_held, desk.at[STEP], (chargers, s.fleet_ns, end_ns, s.weak_per_frac)
        )
        s.grid_kwh += grid_kwh
        s.losses_kwh += losses_kwh
        s.throughput_kwh += moved_kwh
        s.fleet_ns = end_ns
        if end_ns == second_ns:
            reading = desk.readings[s.read]
            reading.t_ns, reading.power_kw, reading.energy_kwh = end_ns, sum_kw, s.grid_kwh
            reading.meter, reading.quality = METER, 0
            s.read += 1


@strict
def hear_vehicles(held: Any, chargers: Any, desk: Any, now_ns: int) -> None:
    """The reports that are due, and their intake."""
    s = desk.state[0]
    count = call(physics.report, desk.at[REPORT], (
        chargers, desk.session, desk.report_ns, desk.period_ns, desk.cut_until_ns, s.fleet_ns, s.salt, s.noise_frac,
        s.soc_step_frac, desk.vehicles,
    ))  # fmt: skip
    if count == 0:
        return
    s.entries += 1
    engine = held.engine
    call(take_reports, desk.at[TAKE], (
        engine.fleet, engine.totals.refreshed_ns, desk.vehicles[:count], now_ns, desk.believing, desk.bad
    ))  # fmt: skip


@strict
def hear_meter(desk: Any, now_ns: int) -> None:
    """The readings since the last time: `Aggregator.on_meters`."""
    s = desk.state[0]
    s.entries += 1 if s.heard < s.read else 0
    for k in range(s.heard, s.read):
        reading = desk.readings[k]
        reading.rx_ns = s.fleet_ns
        t_ns, power_kw = reading.t_ns, reading.power_kw
        if not np.isfinite(power_kw) or not s.meter_ns < t_ns <= now_ns + AHEAD_NS:
            s.refused_meter += 1
            continue
        if s.meter_ns != 0 and s.force_from_ns <= s.meter_ns < s.force_until_ns:
            delivered_kw, hours = power_kw - s.baseline_kw, (t_ns - s.meter_ns) / 3.6e12
            s.delivered_up_kwh += max(delivered_kw, 0.0) * hours
            s.delivered_down_kwh += max(-delivered_kw, 0.0) * hours
        s.metered_kw, s.meter_ns = power_kw, t_ns
    s.heard = s.read


@strict
def hear_signal(held: Any, desk: Any, now_ns: int) -> None:
    """The set-points that have been said, all at one door: `Aggregator.on_signal`."""
    s, points, terms = desk.state[0], desk.points, held.engine.terms
    if s.told >= points.size or points[s.told].t_ns > now_ns:
        return
    s.entries += 1
    while s.told < points.size and points[s.told].t_ns <= now_ns:
        point = points[s.told]
        s.told += 1
        power_kw = point.power_kw
        if not np.isfinite(power_kw) or abs(power_kw) > s.signal_max_kw:
            s.refused_signal += 1
            continue
        if terms.signals[0] != 0 and abs(power_kw) > terms.signal_kw[0 if power_kw > 0.0 else 1]:
            s.clipped += 1
        s.signal_kw, s.signal_until_ns, s.signal_ns = power_kw, point.valid_until_ns, min(point.t_ns, now_ns)


@strict
def plain(desk: Any, row: Any, now_ns: int) -> bool:
    """Whether the decision about this row is one of those made here."""
    s = desk.state[0]
    usable = row.quality == 0 and s.low_hz < row.hz < s.high_hz
    return bool(usable and s.core_ns <= now_ns < min(s.until_ns, s.edge_ns) and s.decided != 0)


@strict
def decide(held: Any, book: Any, desk: Any, row: Any, now_ns: int) -> None:
    """One decision: `Aggregator._decide` and the `tick_held` in it."""
    s, at = desk.state[0], desk.at
    elapsed_h = (now_ns - s.core_ns) / 3.6e12
    s.core_ns = now_ns
    s.requested_up_kwh += max(s.response_kw, 0.0) * elapsed_h
    s.requested_down_kwh += max(-s.response_kw, 0.0) * elapsed_h
    if s.unserved_kw != 0.0:
        fall_short(held, book, desk, elapsed_h)
    s.baseline_kw = declared_kw(s, now_ns)
    call(step.begin, at[BEGIN], (
        held, now_ns, row.hz, USABLE, s.baseline_kw, s.signal_kw, s.signal_until_ns, np.float64(row.volt_frac)
    ))  # fmt: skip
    due = call(step.renew, at[RENEW], (held, now_ns))
    found = due
    if found & TROUBLE != 0:
        if found & STILL == DEAD:
            call(step.still, at[STAY_STILL], (held, now_ns))
        else:
            call(step.shut, at[SHUT], (held, now_ns))
        found |= EVERY
    if s.capped != 0 and found & EVERY != 0:
        call(step.cap, at[CAP], (held, found & EVERY, now_ns))
    if found & EASING != 0:
        call(step.ease, at[EASE], (held,))
    if found & SOME_LEAST != 0 and found & STILL == 0:
        call(step.arrange, at[ARRANGE], (held, due & EVERY, now_ns))
    (
        s.request_kw, s.response_kw, s.dealt_kw, s.commanded_kw, s.unserved_kw, s.lo_kw, s.hi_kw, s.lam,
        s.passes, s.mode, s.broken,
    ) = call(step.finish, at[FINISH], (held, now_ns, found))  # fmt: skip
    account(held, book, desk, now_ns)
    total(held, desk)


@strict
def declared_kw(s: Any, now_ns: int) -> float:
    """The declared baseline, or its ramp's step: `Declarations.power_kw`."""
    seconds = (now_ns - s.ramp_ns) // STEP_NS
    on_ramp = s.before_kw + (s.power_kw - s.before_kw) * (seconds + 0.5) / s.steps
    return np.float64(s.power_kw if seconds >= s.steps else on_ramp)


@strict
def fall_short(held: Any, book: Any, desk: Any, elapsed_h: float) -> None:
    """What the decision before could not serve stood until now: the end of `Aggregator._account`."""
    s, reasons_kw = desk.state[0], held.engine.unserved_kw
    s.unserved_kwh += abs(s.unserved_kw) * elapsed_h
    for why in range(reasons_kw.size):
        desk.unserved_kwh[why] += abs(reasons_kw[why]) * elapsed_h
    if book.times_ns[SHORT_SINCE] == 0:
        book.times_ns[SHORT_SINCE] = s.core_ns - np.int64(np.rint(elapsed_h * 3600 * SECOND_NS))
    s.short = 1
    book.short_kwh[0 if s.unserved_kw > 0.0 else 1] += abs(s.unserved_kw) * elapsed_h


@strict
def account(held: Any, book: Any, desk: Any, now_ns: int) -> None:
    """`Accounting.decided`."""
    s, at = desk.state[0], desk.at
    if s.fresh != 0:
        s.fresh = 0
        call(accounts.arrive, at[ARRIVE], (held, book, s.lam, now_ns))
    due = now_ns >= s.turn_ns
    next_ns = call(accounts.decided, at[DECIDED], (held, book, s.lam, now_ns, due, APART_NS))
    if due:
        s.turn_ns = next_ns
    if s.short != 0:
        share(held, book, desk, now_ns)


@strict
def share(held: Any, book: Any, desk: Any, now_ns: int) -> None:
    """Share out what was not served, once it has gathered for long enough: `Accounting._share`."""
    s, since_ns = desk.state[0], book.times_ns[SHORT_SINCE]
    if since_ns != 0 and now_ns - since_ns < LOOK_NS:
        return
    s.short = 0
    if since_ns == 0:
        return
    hours = (now_ns - since_ns) / (3600 * SECOND_NS)
    for place in range(2):
        if book.short_kwh[place] > 0.0:
            call(accounts.share_short, desk.at[SHARE], (held, book, book.short_kwh[place], hours, place == 0))
        book.short_kwh[place] = 0.0
    book.times_ns[SHORT_SINCE] = 0


@strict
def total(held: Any, desk: Any) -> None:
    """`Aggregator._sum`."""
    s = desk.state[0]
    s.ticks += 1
    s.entries += 1
    s.commands += held.engine.out.sent[0]
    s.all_passes += s.passes
    s.violations += s.broken
    s.error_kw = max(s.error_kw, abs(s.commanded_kw - (s.request_kw - s.unserved_kw)))


@strict
def obey(held: Any, chargers: Any, desk: Any, now_ns: int) -> None:
    """The chargers hear the set-points; `Backtest._obey`."""
    s, engine = desk.state[0], held.engine
    mode, switched_ns, before = engine.fleet.mode, engine.fleet.switched_ns, desk.modes
    moved = False
    for i in range(mode.size):
        moved |= mode[i] != before[i]
    if moved:
        for i in range(mode.size):
            before[i] = mode[i]
            s.switches += 1 if switched_ns[i] == now_ns else 0
    out, session, setpoints = engine.out, engine.fleet.session, desk.setpoints
    count = out.sent[0]
    if count == 0:
        return
    for k in range(count):
        setpoint, slot = setpoints[k], out.slot[k]
        setpoint.slot, setpoint.session, setpoint.setpoint_kw = slot, session[slot], out.setpoint_kw[k]
    s.sequence += 1
    _, vanished = call(physics.receive, desk.at[RECEIVE], (
        chargers, desk.session, desk.deaf_until_ns, desk.cut_until_ns, setpoints[:count],
        now_ns + held.settings.sending.validity_ns, s.fleet_ns,
    ))  # fmt: skip
    s.vanished += vanished


@strict
def changed(held: Any, desk: Any) -> bool:
    """Whether an alarm comes or goes with this decision, or energy rules are on: then the core tells of it."""
    s, modes = desk.state[0], held.engine.motion.modes
    if standing(held, desk) != s.alarms & ~MODES:
        return True
    if s.ruled == 0 or modes.second[0] == s.second:
        return False
    on = 0
    on |= ALERT if modes.alert.any() else 0
    on |= RESERVE if modes.reserve.any() else 0
    on |= NEM if modes.nem.any() else 0
    on |= AEM if modes.aem.any() else 0
    if on != s.alarms & MODES or modes.active.any():
        return True
    s.second = modes.second[0]
    return False


@strict
def standing(held: Any, desk: Any) -> int:
    """The alarms that hold after a decision on a usable sample, as bits: `Aggregator._watch`."""
    s, engine = desk.state[0], held.engine
    found = DEAD_BUS if engine.memory.dead[0] != 0 else 0
    found |= BEYOND if engine.guard.state[0] != IN_SERVICE else 0
    found |= SHORT if abs(s.unserved_kw) > NEGLIGIBLE_KW else 0
    if s.capped != 0:
        tree = engine.room.tree
        for node in range(tree.over_kw.size):
            found |= OVERLOADED if abs(tree.over_kw[node]) > NEGLIGIBLE_KW else 0
            found |= BLIND if tree.blind_kw[node] > NEGLIGIBLE_KW else 0
            found |= SHED if tree.shed_kw[node] > NEGLIGIBLE_KW else 0
    if s.lo_kw == s.hi_kw and not engine.totals.fresh.any():
        found |= NO_FLEET
    return found
