"""Vehicles' accounts as the core keeps them: against a twin that looks at every vehicle at every decision."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator import accounting, journal, state
from aggregator.contracts import Contract, CoreSettings, Site
from aggregator.core import Aggregator
from aggregator.declared import SETTLE_NS
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.journal import Kind
from aggregator.records import DECLARATION, TICK
from aggregator.replay import call
from droop.accounts import ROW
from droop.fleet import PLUGGED
from droop.products import load
from droop.reasons import Reason
from telemetry.samples import FREQUENCY, SESSION, SIGNAL, VEHICLE, SlotState
from tests import naive_accounts as naive

S = 10**9
T0 = 1_790_000_100 * S
T0 -= T0 % (900 * S)
KEY = bytes(range(32))


def settings_of(rows=6, sold_kw=30.0, product="ce_fcr", **more):
    return CoreSettings("ce", rows, (Contract(load(product), sold_kw),), **more)


def session(slot, number=1, t_ns=T0, state_=SlotState.PLUGGED, **columns):
    row = np.zeros(1, SESSION)
    row["t_ns"] = row["rx_ns"] = t_ns
    row["slot"], row["session"], row["state"] = slot, number, state_
    row["vehicle"] = f"car-{slot}-{number}".encode()
    plain = {
        "capacity_kwh": 60.0, "soh_frac": 1.0, "soc_frac": 0.5, "soc_min_frac": 0.1, "soc_max_frac": 0.9,
        "dod_max_frac": 0.8, "charge_max_kw": 11.0, "discharge_max_kw": 11.0, "eta_charge_frac": 1.0,
        "eta_discharge_frac": 1.0,
    }  # fmt: skip
    for name, value in (plain | columns).items():
        row[name] = value
    return row


def report(slot, t_ns, number=1, power_kw=0.0, soc_frac=0.5, state_=SlotState.PLUGGED):
    row = np.zeros(1, VEHICLE)
    row["t_ns"] = row["rx_ns"] = t_ns
    row["slot"], row["session"], row["power_kw"], row["soc_frac"], row["state"] = (
        slot, number, power_kw, soc_frac, state_
    )  # fmt: skip
    row["temp_c"] = 20.0
    return row


def sample(t_ns, hz):
    row = np.zeros(1, FREQUENCY)
    row["t_ns"] = row["rx_ns"] = t_ns
    row["hz"], row["volt_frac"] = hz, 1.0
    return row


class Line:
    """A core whose chargers do what they are told and report every second; the twin looks on."""

    def __init__(self, core_settings=None, cars=(), journal_=True):
        self.core = Aggregator(core_settings or settings_of(), journal=journal_)
        n = self.core.settings.rows
        self.power_kw, self.number, self.deaf, self.silent = np.zeros(n), np.zeros(n, int), set(), set()
        self.entries, self.twins, self.done, self.soc_frac = [], {}, [], np.full(n, 0.5)
        for slot, columns in dict(cars or {i: {} for i in range(n)}).items():
            self.plug(slot, T0, **columns)

    def plug(self, slot, t_ns, **columns):
        self.number[slot] += 1
        self.soc_frac[slot] = columns.get("soc_frac", 0.5)
        self.core.on_sessions(session(slot, self.number[slot], t_ns, **columns), t_ns)

    def unplug(self, slot, t_ns):
        self.core.on_sessions(session(slot, self.number[slot], t_ns, SlotState.UNPLUGGED), t_ns)
        self.leave(slot, t_ns)

    def leave(self, slot, t_ns):
        twin = self.twins.pop(slot, None)
        if twin is not None:
            twin.until(t_ns)
            self.done.append((slot, t_ns, twin))

    def second(self, t_ns, hz):
        """Reports, then a decision."""
        fleet = self.core.engine.fleet
        for slot in np.flatnonzero(fleet.state):
            if slot not in self.silent:
                said = report(slot, t_ns, self.number[slot], self.power_kw[slot], self.soc_frac[slot])
                self.core.on_vehicles(said, t_ns)
        for slot in list(self.twins):
            edge = t_ns - t_ns % (900 * S)
            if self.twins[slot].start_ns < edge:
                was = self.twins[slot]
                was.until(edge)
                self.done.append((slot, edge, was))
                self.twins[slot] = naive.Account(edge, was.seen, edge)
            self.twins[slot].until(t_ns)
        self.core.on_samples(sample(t_ns, hz), t_ns)
        for slot in np.flatnonzero(fleet.state):
            seen = self.see(slot)
            if slot in self.twins:
                self.twins[slot].seen = seen
            else:
                self.twins[slot] = naive.Account(t_ns, seen, t_ns)
        for command in self.core.drain_commands():
            for row in command.rows:
                if row["slot"] not in self.deaf:
                    self.power_kw[row["slot"]] = row["setpoint_kw"]
        self.entries += self.core.drain_entries()

    def see(self, slot):
        f, lam = self.core.engine.fleet, self.core.last.lam
        why = 0
        if lam > 0 and f.power_kw[slot] >= f.hi_kw[slot] - 1e-6:
            why = int(f.reason_up[slot])
        elif lam < 0 and f.power_kw[slot] <= f.lo_kw[slot] + 1e-6:
            why = int(f.reason_down[slot])
        column = lambda name: float(getattr(f, name)[slot])  # noqa: E731
        return naive.Seen(
            column("command_kw"), int(f.valid_until_ns[slot]), column("safe_kw"), column("plan_kw"), column("lo_kw"),
            column("hi_kw"), f.state[slot] == PLUGGED, why,
        )  # fmt: skip

    def rows(self):
        return np.concatenate([np.zeros(0, ROW), *rows_of(self.entries)])


def rows_of(entries):
    return [journal.rows(entry, ROW) for entry in entries if entry.kind is Kind.ACCOUNT]


def hz_of(second):
    rng = np.random.default_rng(second)
    return 50.0 + 0.12 * np.sin(second / 37.0) + 0.01 * rng.standard_normal()


MIXED = {
    0: {}, 1: {"soc_frac": 0.1001}, 2: {"discharge_max_kw": 0.0}, 3: {"min_kw": 4.0},
    4: {"depart_ns": T0 + 7200 * S, "depart_kwh": 45.0, "safe_kw": -2.0}, 5: {"charge_max_kw": 22.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def quarter():
    """A quarter of an hour and a little: one comes back, one silent, one deaf, one at fault, bounds that bind."""
    line = Line(settings_of(sold_kw=60.0), MIXED)
    for k in range(905):
        t_ns = T0 + k * S
        if k == 200:
            line.unplug(5, t_ns - S // 2)
        if k == 300:
            line.plug(5, t_ns - S // 4)
        if k == 400:
            line.silent.add(4)
        if k == 500:
            line.deaf.add(0)
        line.second(t_ns, hz_of(k))
    return line


def test_the_twin_finds_the_same(quarter):
    rows = quarter.rows()
    assert [(int(r["slot"]), int(r["end_ns"])) for r in rows] == [(slot, end) for slot, end, _ in quarter.done]
    assert rows.size == 7
    for row, (_, end_ns, twin) in zip(rows, quarter.done, strict=True):
        assert (row["start_ns"], row["end_ns"]) == (twin.start_ns, end_ns)
        if row["slot"] == 3:
            continue  # a least power counts by its own bounds: its own test
        for name in ("asked_up", "asked_down", "commanded", "plan", "headroom_up", "headroom_down"):
            assert row[f"{name}_kwh"] == pytest.approx(getattr(twin, f"{name}_kwh"), rel=1e-9, abs=1e-9), name
        longest = max(twin.bound_s, key=lambda why: (twin.bound_s[why], -why), default=0)
        assert row["reason"] == longest
        assert row["bound_s"] == pytest.approx(twin.bound_s.get(longest, 0.0))
    assert {int(r["reason"]) for r in rows} >= {Reason.RATING, Reason.STALE}


def test_names_and_sessions(quarter):
    rows = quarter.rows()
    assert [(r["vehicle"], r["session"]) for r in rows if r["slot"] == 5] == [(b"car-5-1", 1), (b"car-5-2", 2)]


def test_the_sum_of_the_commands_is_the_pools(quarter):
    """Over the time of the ticks, what the rows were told is what each TICK says they all were, to rounding.

    Not of those who cannot be commanded: the pool counts them with what they are predicted to do.
    """
    line = Line(settings_of(rows=4), {i: {} for i in range(4)})
    for k in range(2, 902):
        line.second(T0 + k * S, hz_of(k))
    ticks = np.concatenate([journal.rows(e, TICK) for e in line.entries if e.kind is Kind.TICKS])
    inside = ticks["now_ns"] < T0 + 900 * S
    ends = np.append(ticks["now_ns"][1:], 0)
    held_h = (np.minimum(ends, T0 + 900 * S) - ticks["now_ns"])[inside] / 3.6e12
    rows = line.rows()
    assert rows["commanded_kwh"].sum() == pytest.approx(float(ticks["commanded_kw"][inside] @ held_h), rel=1e-6)
    # Asked and plan are the two parts of what was commanded.
    net_kwh = rows["asked_up_kwh"] - rows["asked_down_kwh"] + rows["plan_kwh"]
    assert net_kwh == pytest.approx(rows["commanded_kwh"], abs=1e-9)


def test_commands_between_two_looks_count_exactly():
    """Decisions at 20 Hz, looks once a second: what was told is integrated at every change."""
    line = Line(settings_of(rows=3), {0: {}, 1: {}, 2: {}})
    core, kwh, last = line.core, np.zeros(3), None
    for k in range(20 * 4):
        t_ns = T0 + 890 * S + k * S // 20
        if k % 20 == 0:
            for slot in range(3):
                core.on_vehicles(report(slot, t_ns, 1, line.power_kw[slot]), t_ns)
        core.on_samples(sample(t_ns, 50.0 - 0.1 * np.sin(k)), t_ns)
        if last is not None:
            kwh += last * (S // 20) / 3.6e12
        last = core.engine.fleet.command_kw.astype(float)
        for command in core.drain_commands():
            line.power_kw[command.rows["slot"]] = command.rows["setpoint_kw"]
    kwh += last * (S // 20) / 3.6e12
    end_ns = T0 + 890 * S + 80 * S // 20
    core.on_sessions(np.concatenate([session(i, 1, end_ns, SlotState.UNPLUGGED) for i in range(3)]), end_ns)
    found = np.concatenate(rows_of(core.drain_entries()))
    assert found["commanded_kwh"] == pytest.approx(kwh, rel=1e-9)
    assert np.ptp(kwh) == pytest.approx(0.0, abs=1e-6) or kwh.any()


def test_a_command_that_expires_is_asked_no_longer():
    line = Line(settings_of(rows=1, sold_kw=11.0), {0: {"safe_kw": -3.0}})
    for k in range(3):
        line.second(T0 + k * S, 49.8)
    fleet = line.core.engine.fleet
    command_kw, until_ns = float(fleet.command_kw[0]), int(fleet.valid_until_ns[0])
    assert command_kw == pytest.approx(11.0, abs=0.01)
    away_ns = until_ns + 100 * S  # nobody decided anything for that long
    line.core.on_sessions(session(0, 1, away_ns, SlotState.UNPLUGGED), away_ns)
    row = np.concatenate(rows_of(line.core.drain_entries()))[0]
    told_h = (until_ns - T0 - 2 * S) / 3.6e12
    before = line.twins[0]
    before.until(away_ns)
    assert row["commanded_kwh"] == pytest.approx(before.commanded_kwh, abs=1e-9)
    assert row["asked_up_kwh"] == pytest.approx(before.asked_up_kwh, abs=1e-9)
    assert row["asked_up_kwh"] < 11.0 * (told_h + 3 / 3600)
    assert row["headroom_up_kwh"] <= 11.0 * (2 + 2) / 3600 + 1e-6  # the silence is no availability


def test_edges_cut_exactly_and_rows_follow_on_each_other():
    line = Line(settings_of(rows=2), {0: {}, 1: {}})
    for k in range(0, 2000, 2):
        line.second(T0 + k * S + S // 3, hz_of(k))
    rows = line.rows()
    for slot in (0, 1):
        own = rows[rows["slot"] == slot]
        assert own["end_ns"].tolist() == [T0 + 900 * S, T0 + 1800 * S]
        assert own["start_ns"].tolist() == [T0 + S // 3, T0 + 900 * S]
    assert rows["headroom_up_kwh"][-1] > 0


def test_the_parts_of_a_baseline_are_the_declared_sum():
    """A declaration holds the plans of those who are here; who comes later has no part, who goes leaves its own."""
    cars = {i: {"depart_ns": T0 + 9000 * S, "depart_kwh": 50.0} for i in range(4)}
    line = Line(settings_of(rows=5), cars)
    for k in range(2760):
        if k == 1000:
            line.plug(4, T0 + k * S)
        if k == 2000:
            line.unplug(1, T0 + k * S)
        line.second(T0 + k * S, 50.0)
    declared = np.concatenate([journal.rows(e, DECLARATION) for e in line.entries if e.kind is Kind.BASELINE])
    rows = line.rows()
    first = rows[rows["end_ns"] == T0 + 900 * S]
    assert declared["power_kw"][0] < -1.0
    hours = (900 * S - SETTLE_NS) / 3.6e12  # the first of a run counts from when it begins
    assert first["baseline_kwh"].sum() == pytest.approx(declared["power_kw"][0] * hours, rel=1e-6)
    second = rows[rows["end_ns"] == T0 + 1800 * S]
    assert second["baseline_kwh"].sum() == pytest.approx(declared["power_kw"][1] / 4, rel=1e-6)
    assert second["baseline_kwh"][second["slot"] == 4] == 0.0
    assert second["plan_kwh"][second["slot"] == 4].size == 1
    third = rows[(rows["start_ns"] >= T0 + 1800 * S) & (rows["end_ns"] <= T0 + 2700 * S)]
    part_kw = third["baseline_kwh"] / ((third["end_ns"] - third["start_ns"]) / 3.6e12)
    assert part_kw.sum() == pytest.approx(
        declared["power_kw"][2], rel=1e-6
    )  # the leaver's too, as long as it was there
    assert third["baseline_kwh"].sum() > declared["power_kw"][2] / 4


def test_acknowledged_is_what_reports_bear_out():
    line = Line(settings_of(rows=2, sold_kw=18.0), {0: {}, 1: {}})
    line.deaf.add(1)
    for k in range(901):
        line.second(T0 + k * S, 49.85 if k // 20 % 2 else 50.15)
    rows = line.rows()
    good, bad = rows[rows["slot"] == 0][0], rows[rows["slot"] == 1][0]
    assert good["commands"] > 50
    assert good["refused"] == 0
    assert good["commands"] - 4 <= good["acknowledged"] <= good["commands"]
    # Found out, it is told no more.
    assert bad["refused"] >= 1
    assert bad["refused"] + bad["acknowledged"] <= bad["commands"] < good["commands"] / 4


def test_nobody_answers_for_who_is_silent():
    line = Line(settings_of(rows=1), {0: {}})
    line.silent.add(0)
    for k in range(901):
        line.second(T0 + k * S, 49.9)
    row = line.rows()[0]
    assert row["acknowledged"] == row["refused"] == 0
    assert row["commands"] > 0
    assert row["headroom_up_kwh"] < 11.0 * 6 / 3600  # five seconds after plug-in it counts no more


def test_what_could_not_be_served_is_shared_by_what_limits_took():
    """The shortfall by limits is the vehicles'; what no limit explains is nobody's."""
    cars = {0: {}, 1: {"soc_frac": 0.1001}, 2: {"discharge_max_kw": 5.0}}
    line = Line(settings_of(rows=3, sold_kw=40.0), cars)
    for k in range(901):
        line.second(T0 + k * S, 49.8)
    rows, core = line.rows(), line.core
    by_reason = core.sums.unserved_by_reason_kwh
    limits_kwh = by_reason.sum() - by_reason[Reason.RATING]
    part = limits_kwh * 900 / 901  # the sums know a second more, give or take
    assert rows["unserved_kwh"].sum() == pytest.approx(part, rel=5e-3)
    assert rows["unserved_kwh"][rows["slot"] == 1] > 0.9 * part
    assert by_reason[Reason.RATING] > 0
    assert rows["reason"][rows["slot"] == 1] == Reason.SOC


def test_a_least_power_counts_by_its_own_bounds():
    line = Line(settings_of(rows=1, sold_kw=5.0), {0: {"min_kw": 4.0}})
    for k in range(901):
        line.second(T0 + k * S, 50.0)
    row = line.rows()[0]
    assert row["headroom_up_kwh"] == pytest.approx(11.0 / 4, rel=0.01)
    assert row["headroom_down_kwh"] == pytest.approx(11.0 / 4, rel=0.01)


def test_a_cap_is_no_headroom():
    site = Site("garage", None, 0, 2, 3.0, 22.0)
    line = Line(settings_of(rows=2, sites=(site,)), {0: {}, 1: {}})
    for k in range(901):
        line.second(T0 + k * S, 49.8)
    rows = line.rows()
    assert rows["headroom_up_kwh"].sum() == pytest.approx(3.0 / 4, rel=0.01)
    assert set(rows["site"].tolist()) == {0}
    assert set(rows["reason"].tolist()) == {Reason.SITE}


def test_a_fault_has_no_headroom_and_stays_plugged():
    line = Line(settings_of(rows=1), {0: {}})
    for k in range(901):
        t_ns = T0 + k * S
        if k >= 450:
            line.silent.add(0)
            line.core.on_vehicles(report(0, t_ns, 1, 0.0, state_=SlotState.FAULT), t_ns)
        line.second(t_ns, 50.0)
    row = line.rows()[0]
    assert row["headroom_up_kwh"] == pytest.approx(11.0 / 8, rel=0.01)
    assert (row["start_ns"], row["end_ns"]) == (T0, T0 + 900 * S)


def test_two_stays_within_one_call():
    """A car goes and another comes in one block: one account ends, another begins with the next decision."""
    line = Line(settings_of(rows=1), {0: {}})
    line.second(T0, 49.9)
    line.second(T0 + S, 49.9)
    t_ns = T0 + 2 * S
    both = np.concatenate([session(0, 1, t_ns - 1, SlotState.UNPLUGGED), session(0, 2, t_ns)])
    line.core.on_sessions(both, t_ns)
    line.number[0] = 2
    line.core.on_samples(sample(t_ns + S, 49.9), t_ns + S)
    line.core.on_sessions(session(0, 2, t_ns + 3 * S, SlotState.UNPLUGGED), t_ns + 3 * S)
    rows = np.concatenate(rows_of(line.entries + line.core.drain_entries()))
    assert rows["vehicle"].tolist() == [b"car-0-1", b"car-0-2"]
    assert rows[["start_ns", "end_ns"]].tolist() == [(T0, t_ns), (t_ns + S, t_ns + 3 * S)]


def test_a_session_told_again_is_one_account():
    line = Line(settings_of(rows=1), {0: {}})
    for k in range(901):
        if k == 300:
            line.core.on_sessions(session(0, 1, T0 + k * S), T0 + k * S)
        line.second(T0 + k * S, 49.95)
    assert line.rows().size == 1


def test_an_edge_that_no_decision_has_seen_yet():
    """A car that leaves right after an edge has one account up to it, and one of the moment since."""
    line = Line(settings_of(rows=1), {0: {}})
    line.second(T0 + 899 * S, 49.9)
    t_ns = T0 + 900 * S + S // 2
    line.core.on_sessions(session(0, 1, t_ns, SlotState.UNPLUGGED), t_ns)
    rows = np.concatenate(rows_of(line.core.drain_entries()))
    assert rows[["start_ns", "end_ns"]].tolist() == [(T0 + 899 * S, T0 + 900 * S), (T0 + 900 * S, t_ns)]


def test_who_came_and_went_between_decisions_has_none():
    line = Line(settings_of(rows=2), {0: {}})
    line.second(T0, 50.0)
    line.plug(1, T0 + S // 4)
    line.core.on_sessions(session(1, 1, T0 + S // 2, SlotState.UNPLUGGED), T0 + S // 2)
    line.second(T0 + S, 50.0)
    assert not line.rows().size
    assert line.core.accounting.columns.begun_ns[1] == 0


def test_half_an_hour_and_five_minutes():
    assert {accounting.interval_ns([s]) for s in (900, 1800, 3600)} == {900 * S}
    assert accounting.interval_ns([900, 1800, 3600]) == 900 * S
    assert (
        accounting.interval_ns([300]) == accounting.interval_ns([1200]) == accounting.interval_ns([900, 300]) == 300 * S
    )
    assert accounting.interval_ns([900, 4]) == 60 * S
    start = T0 + 900 * S
    assert start % (1800 * S) == 0
    longer = Contract(replace(load("ce_fcr"), interval_s=1800), 0.5)
    line = Line(CoreSettings("ce", 1, (longer,)), {0: {"depart_ns": start + 9000 * S, "depart_kwh": 50.0}})
    for k in range(3601):
        line.second(start + k * S, 50.0)
    rows = line.rows()
    assert rows["end_ns"].tolist() == [start + k * 900 * S for k in (1, 2, 3, 4)]
    declared = np.concatenate([journal.rows(e, DECLARATION) for e in line.entries if e.kind is Kind.BASELINE])
    assert rows["baseline_kwh"][2:] == pytest.approx([declared["power_kw"][1] / 4] * 2)


def test_after_a_long_silence_the_next_interval_begins_where_time_is():
    line = Line(settings_of(rows=1), {0: {}})
    line.second(T0, 49.9)
    later = T0 + 86_400 * S + 5 * S
    line.second(later, 49.9)
    assert line.rows().size <= 6
    assert line.core.accounting.columns.begun_ns[0] == later - 5 * S


# ---- replay, snapshot, pickle ----------------------------------------------------------------------------------


def simulated(seconds, rows=40, every=S // 2, start=T0 + 600 * S):
    """Entries of a core with a simulated fleet of every imperfection, and the core."""
    core, fleet = Aggregator(settings_of(rows, 80.0)), SimulatedFleet(rows, 3, start)
    entries = []
    for k in range(seconds * S // every):
        now_ns = start + k * every
        fleet.advance(now_ns)
        for door, block in (
            (core.on_sessions, fleet.sessions(now_ns)), (core.on_vehicles, fleet.reports(now_ns)),
            (core.on_meters, fleet.meter(now_ns)),
        ):  # fmt: skip
            if block.size:
                door(block, now_ns)
        core.on_samples(sample(now_ns, hz_of(k)), now_ns)
        for command in core.drain_commands():
            core.sign(command, KEY)
            fleet.apply(command.rows, command.valid_until_ns, now_ns)
        entries += core.drain_entries()
    return core, entries


@pytest.fixture(scope="module")
def lived():
    return simulated(700)


def test_the_same_calls_give_the_same_bytes(lived):
    _, entries = lived
    again = Aggregator(settings_of(40, 80.0))
    made = []
    for entry in entries[1:]:
        if entry.kind < Kind.TICKS:
            call(again, entry)
            again.drain_commands()
            made += again.drain_entries()
    assert b"".join(e.payload for e in made if e.kind is Kind.ACCOUNT) == b"".join(
        e.payload for e in entries if e.kind is Kind.ACCOUNT
    )
    assert np.concatenate(rows_of(entries)).size > 30


@pytest.mark.parametrize("how", ["snapshot", "pickle"])
def test_accounts_go_on_with_another_owner(lived, how):
    """Taken over in the middle of an interval, the accounts end as if nothing had happened."""
    _, entries = lived
    calls = [e for e in entries[1:] if e.kind < Kind.TICKS]
    half = len(calls) // 3
    first = Aggregator(settings_of(40, 80.0))
    for entry in calls[:half]:
        call(first, entry)
        first.drain_commands()
    second = Aggregator(settings_of(40, 80.0), journal=False)
    if how == "snapshot":
        state.restore(second, state.capture(first))
    else:
        second = pickle.loads(pickle.dumps(first))  # noqa: S301 - our own bytes
    second.take_over(settings_of(40, 80.0, epoch=2))
    first.drain_entries()
    made = []
    for entry in calls[half:]:
        call(second, entry)
        second.drain_commands()
        made += second.drain_entries()
    whole = np.concatenate(rows_of(entries))
    found = np.concatenate(rows_of(made))
    assert found.tobytes() == whole[whole.size - found.size :].tobytes()
    assert found.size > 30


# ---- properties ------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(["tick", "plug", "unplug", "signal", "wait"]), st.integers(0, 3),
                          st.floats(49.7, 50.3)), min_size=5, max_size=60))  # fmt: skip
def test_whatever_happens(events):
    """Rows never overlap, never lie outside their interval, and asked, plan and commanded belong together."""
    line = Line(settings_of(rows=4, signal_max_kw=50.0), {0: {}})
    t_ns, here = T0 + 880 * S, {0}
    for what, slot, hz in events:
        t_ns += 1 * S
        if what == "plug" and slot not in here:
            line.plug(slot, t_ns)
            here.add(slot)
        elif what == "unplug" and slot in here:
            line.core.on_sessions(session(slot, line.number[slot], t_ns, SlotState.UNPLUGGED), t_ns)
            here.discard(slot)
        elif what == "signal":
            said = np.zeros(1, SIGNAL)
            said["t_ns"], said["valid_until_ns"], said["power_kw"] = t_ns, t_ns + 10 * S, (hz - 50) * 100
            line.core.on_signal(said, t_ns)
        elif what == "wait":
            t_ns += slot * 4 * S
        else:
            line.core.on_samples(sample(t_ns, hz), t_ns)
    line.core.on_samples(sample(t_ns + 1000 * S, 50.0), t_ns + 1000 * S)
    rows = np.concatenate([np.zeros(0, ROW), *rows_of(line.core.drain_entries())])
    for name in ROW.names:
        if name.endswith(("up_kwh", "down_kwh")) or name in ("unserved_kwh", "bound_s"):
            assert (rows[name] >= 0).all(), name
    assert (rows["end_ns"] > rows["start_ns"]).all()
    assert (rows["start_ns"] // (900 * S) == (rows["end_ns"] - 1) // (900 * S)).all()
    for slot in range(4):
        own = np.sort(rows[rows["slot"] == slot], order="start_ns")
        assert (own["start_ns"][1:] >= own["end_ns"][:-1]).all()
        assert own["acknowledged"].sum() + own["refused"].sum() <= own["commands"].sum()
    hours = (rows["end_ns"] - rows["start_ns"]) / 3.6e12
    for name in ("headroom_up_kwh", "headroom_down_kwh", "asked_up_kwh", "asked_down_kwh"):
        assert (rows[name] <= 22.0 * hours + 1e-9).all(), name
