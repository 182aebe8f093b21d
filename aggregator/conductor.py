"""Drives a backtest's rows through `stretch`, and does what needs Python by the backtest's own steps.

Knows the insides of the core, of its accounting and of the simulated fleet: a stretch is their code in another form.
Their numbers are handed over before a stretch and taken back after it, so that between two of them every object is as
it would be had each row been a step of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aggregator.desk import (
    AFTER,
    CODES,
    COMING,
    DECIDE,
    DECIDING,
    EVENT,
    GAP,
    HEARING,
    LOOK,
    SHARE,
    STATE,
    Desk,
)  # fmt: skip
from aggregator.direct import Entry, entry, stamped
from aggregator.gateways import physics
from aggregator.gateways.simulated import METER, SimulatedFleet
from aggregator.intake import REPORT_REASONS, take_reports
from aggregator.setpoints import SETPOINT
from aggregator.stretch import FROZEN, stretch
from droop import accounts, step
from droop.handle import SETTINGS, hold
from droop.step import Tick
from telemetry.samples import POWER, VEHICLE, Block

if TYPE_CHECKING:
    from aggregator.backtest import Backtest

# More than the meter reads in the rows of one stretch: a row is at most two seconds after the one before.
READINGS_A_ROW: Final = 3
SPARE: Final = 8
NAMES: Final = STATE.names or ()


def able(test: Backtest) -> bool:
    """Whether a stretch can stand for the steps: kernels are compiled, and everything is what it knows."""
    core, fleet = test.core, test.fleet
    return not SETTINGS.DISABLE_JIT and type(fleet) is SimulatedFleet and not core.journals and METER not in core.meters


class Conductor:
    """One block of rows through one backtest. rows : FREQUENCY[n], judged and in time"""

    def __init__(self, test: Backtest, rows: Block) -> None:
        self._test, self._rows = test, rows
        core, fleet = test.core, test.fleet
        held, book, chargers = core._held, core.accounting._book, fleet._held
        n = core.settings.rows
        readings = np.zeros(READINGS_A_ROW * rows.size + SPARE, POWER)
        self._state = np.zeros(1, STATE)
        self._desk = Desk(
            self._state, np.zeros(SHARE + 1, np.int64), fleet._session, fleet._report_ns,
            fleet._period_ns, fleet._cut_until_ns, fleet._deaf_until_ns, np.empty(n, VEHICLE), np.empty(n, SETPOINT),
            readings, test.points, core.engine.fleet.mode.copy(), core.registry._bad, core.sums.unserved_by_reason_kwh,
            core.registry._believing,
        )  # fmt: skip
        entries = _entries(held, book, chargers, self._desk, core, fleet)
        self._desk.at[:] = [each.at for each in entries]
        self._with = held, book, chargers, hold(stamped(self._desk, entries, FROZEN)), rows

    def run(self) -> None:
        """All of the rows."""
        test, rows = self._test, self._rows
        times_ns = rows["rx_ns"]
        k, stage = 0, COMING
        if not test._last_ns:  # the fleet may have lived long before its first row, and nobody have come
            stage = self._event(int(times_ns[0]))
        while k < rows.size:
            k, why, stage = *self._stretch(k, stage), COMING
            if k == rows.size:
                return
            now_ns = int(times_ns[k])
            if why == GAP:
                test._idle_until(now_ns)
            elif why == EVENT:
                stage = self._event(now_ns)
            elif why == LOOK:
                test._look(now_ns)
                stage = DECIDING
            elif why == DECIDE:
                test.core.on_samples(rows[k : k + 1], now_ns)
                test._obey(now_ns)
                k += 1
            elif why == AFTER:
                test.core.tell(int(rows["t_ns"][k]), now_ns)
                k += 1

    def _event(self, now_ns: int) -> int:
        """Cars come or go before a row; where in the row it goes on."""
        test = self._test
        if test._arrivals(now_ns):
            test._count_hours(now_ns)  # nothing on the way to the look changes it
        if len(test.fleet._readings) <= SPARE:
            return HEARING
        test._hear(now_ns)  # more than a stretch has room for
        return DECIDING

    def _stretch(self, first: int, stage: int) -> tuple[int, int]:
        """The row at which Python is needed, and why."""
        self._give()
        held, book, chargers, desk, rows = self._with
        k, why = stretch(held, book, chargers, desk, rows, first, stage)
        self._take()
        return k, why

    def _give(self) -> None:
        """The objects' numbers to the stretch."""
        test, core, fleet = self._test, self._test.core, self._test.fleet
        accounting, sums, how, last = core.accounting, core.sums, fleet.behaviour, core.last
        force_from_ns, force_until_ns = core._declared.span_ns()
        for place, (t_ns, kw, kwh) in enumerate(fleet._readings):
            self._desk.readings[place] = (t_ns, 0, kw, kwh, METER, 0)
        # Nobody is in mode -128: the first decision is a change.
        self._desk.modes[:] = np.frombuffer(test._modes, self._desk.modes.dtype) if test._modes else -128
        found: dict[str, Any] = {
            "last_ns": test._last_ns, "look_ns": test._look_ns, "told": test.told,
            "fleet_ns": fleet.now_ns, "event_ns": fleet._next_event_ns, "records": len(fleet._records),
            "grid_kwh": fleet._grid_kwh, "losses_kwh": fleet._losses_kwh, "throughput_kwh": fleet.throughput_kwh,
            "read": len(fleet._readings), "weak_per_frac": 1.0 / how.discharge_taper_frac,
            "noise_frac": how.noise_frac, "soc_step_frac": how.soc_step_frac, "salt": fleet._salt,
            "core_ns": core._last_ns, "metered_kw": core.metered_kw, "meter_ns": core.meter_t_ns,
            "baseline_kw": core.baseline_kw, "signal_kw": core.signal_kw, "signal_until_ns": core._signal_until_ns,
            "signal_ns": core._signal_ns, "signal_max_kw": core.settings.signal_max_kw, "low_hz": core._band_hz[0],
            "high_hz": core._band_hz[1], "capped": core._capped, "ruled": core._ruled, "second": core._told_second,
            "alarms": sum(1 << bit for bit, code in enumerate(CODES) if core.alarms.stands(code)),
            "force_from_ns": force_from_ns, "force_until_ns": force_until_ns,
            "edge_ns": min(accounting._edge_ns, test.gathered.edge_ns, core.bank_ns),
            "turn_ns": accounting._look_ns, "fresh": accounting._new, "short": accounting._short,
            "requested_up_kwh": sums.requested_up_kwh, "requested_down_kwh": sums.requested_down_kwh,
            "delivered_up_kwh": sums.delivered_up_kwh, "delivered_down_kwh": sums.delivered_down_kwh,
            "unserved_kwh": sums.unserved_kwh, "error_kw": sums.max_sum_error_kw, "row": -1,
            **core._declared.standing()._asdict(),
        }  # fmt: skip
        if last is not None:
            found |= {"decided": 1, **last._asdict()}
        # In one assignment: one for each field costs ten times as much.
        self._state[0] = tuple([found.get(name, 0) for name in NAMES])

    def _take(self) -> None:
        """What has become of them back. What is counted was counted from 0 on."""
        test, core = self._test, self._test.core
        s = dict(zip(NAMES, self._state.item(), strict=True))
        test._last_ns, test.told = s["last_ns"], s["told"]
        if s["switches"] or s["row"] >= 0:
            test._modes = self._desk.modes.tobytes()
        test.switches += s["switches"]
        self._take_fleet(s)
        core.metered_kw, core.meter_t_ns, core.baseline_kw = s["metered_kw"], s["meter_ns"], s["baseline_kw"]
        core.signal_kw, core._signal_until_ns, core._signal_ns = s["signal_kw"], s["signal_until_ns"], s["signal_ns"]
        core._last_ns, core._told_second = s["core_ns"], s["second"]
        core._sequence += s["sequence"]
        core._seq += s["entries"]
        for reason, count in (("meter", s["refused_meter"]), ("signal", s["refused_signal"])):
            if count:
                core.sums.rejected[reason] += count
        if self._desk.bad.any():
            core.registry._count(REPORT_REASONS)
        accounting = core.accounting
        accounting._look_ns, accounting._new, accounting._short = s["turn_ns"], bool(s["fresh"]), bool(s["short"])
        self._take_sums(s)
        if s["row"] >= 0:
            row = self._rows[s["row"]]
            core.last = Tick._make(s[name] for name in Tick._fields)
            core.last_sample = int(row["t_ns"]), int(row["rx_ns"]), float(row["hz"]), int(row["quality"])

    def _take_fleet(self, s: dict[str, Any]) -> None:
        fleet = self._test.fleet
        fleet.now_ns, fleet.throughput_kwh = s["fleet_ns"], s["throughput_kwh"]
        fleet._grid_kwh, fleet._losses_kwh = s["grid_kwh"], s["losses_kwh"]
        fleet.vanished += s["vanished"]
        readings = self._desk.readings
        self._test.metered(readings[: s["heard"]])
        fleet._readings[:] = [
            (row["t_ns"], row["power_kw"], row["energy_kwh"]) for row in readings[s["heard"] : s["read"]]
        ]

    def _take_sums(self, s: dict[str, Any]) -> None:
        sums = self._test.core.sums
        sums.ticks += s["ticks"]
        sums.commands += s["commands"]
        sums.passes += s["all_passes"]
        sums.bound_violations += s["violations"]
        sums.clipped += s["clipped"]
        sums.requested_up_kwh, sums.requested_down_kwh = s["requested_up_kwh"], s["requested_down_kwh"]
        sums.delivered_up_kwh, sums.delivered_down_kwh = s["delivered_up_kwh"], s["delivered_down_kwh"]
        sums.unserved_kwh, sums.max_sum_error_kw = s["unserved_kwh"], s["error_kw"]
        if s["ticks"]:
            sums.trips = int(self._test.core.engine.guard.trips[0])


def _entries(held: Any, book: Any, chargers: Any, desk: Desk, core: Any, fleet: SimulatedFleet) -> list[Entry]:
    """Of the kernels, in the order of their places."""
    whole, part, yes = 0, 0.0, True
    now = held, whole
    return [
        entry(physics.step_held, chargers, whole, whole, part),
        entry(
            physics.report, chargers, desk.session, desk.report_ns, desk.period_ns, desk.cut_until_ns, whole,
            fleet._salt, part, part, desk.vehicles,
        ),
        entry(
            take_reports, core.registry._held, core.engine.totals.refreshed_ns, desk.vehicles, whole, desk.believing,
            desk.bad,
        ),
        entry(
            physics.receive, chargers, desk.session, desk.deaf_until_ns, desk.cut_until_ns, desk.setpoints, whole,
            whole,
        ),
        entry(step.begin, *now, part, whole, part, part, whole, part),
        entry(step.renew, *now),
        entry(step.still, *now),
        entry(step.shut, *now),
        entry(step.cap, held, whole, whole),
        entry(step.ease, held),
        entry(step.arrange, held, whole, whole),
        entry(step.finish, held, whole, whole),
        entry(accounts.arrive, held, book, part, whole),
        entry(accounts.decided, held, book, part, whole, yes, whole),
        entry(accounts.share_short, held, book, part, part, yes),
    ]  # fmt: skip
