"""The core, driven by calls with virtual time alone: what is asked, what is commanded, what is written down."""

from __future__ import annotations

import dataclasses
import struct
from itertools import pairwise

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator import journal, setpoints
from aggregator.contracts import Contract, CoreSettings, from_json
from aggregator.core import AHEAD_NS, START_NS, Aggregator
from aggregator.journal import Kind
from aggregator.records import DECLARATION, TICK
from aggregator.replay import replay
from droop.products import load
from droop.watch import Mode
from telemetry import wire
from telemetry.samples import FREQUENCY, POWER, SESSION, SIGNAL, VEHICLE, Quality, SlotState

S = 10**9
MS = 10**6
T0 = 1_790_000_100 * S  # a whole quarter of an hour, and 100 s before half an hour
T0 -= T0 % (900 * S)
KEY = bytes(range(32))
N = 12


def settings_of(product="ce_fcr", sold_kw=60.0, rows=N, **more):
    return CoreSettings("ce", rows, (Contract(load(product), sold_kw),), **more)


def sessions(slots=range(N), session=1, t_ns=T0, **columns):
    """Cars that stay: 60 kWh half full, 11 kW both ways, lossless."""
    block = np.zeros(len(slots), SESSION)
    block["t_ns"] = block["rx_ns"] = t_ns
    block["slot"], block["session"] = list(slots), session
    block["vehicle"] = [f"car-{slot}-{session}".encode() for slot in slots]
    plain = {
        "capacity_kwh": 60.0, "soh_frac": 1.0, "soc_frac": 0.5, "soc_min_frac": 0.1, "soc_max_frac": 0.9,
        "dod_max_frac": 0.8, "charge_max_kw": 11.0, "discharge_max_kw": 11.0, "eta_charge_frac": 1.0,
        "eta_discharge_frac": 1.0, "safe_kw": 0.0, "depart_ns": 0, "depart_kwh": 0.0, "state": SlotState.PLUGGED,
    }  # fmt: skip
    for name, value in (plain | columns).items():
        block[name] = value
    return block


def reports(t_ns, slots=range(N), session=1, soc_frac=0.5, power_kw=0.0):
    block = np.zeros(len(slots), VEHICLE)
    block["t_ns"] = block["rx_ns"] = t_ns
    block["slot"], block["session"] = list(slots), session
    block["soc_frac"], block["power_kw"], block["state"] = soc_frac, power_kw, SlotState.PLUGGED
    return block


def sample(t_ns, hz, quality=0, rx_ns=None, volt=1.0):
    block = np.zeros(1, FREQUENCY)
    block["t_ns"], block["rx_ns"] = t_ns, t_ns if rx_ns is None else rx_ns
    block["hz"], block["volt_frac"], block["quality"] = hz, volt, quality
    return block


def signal(t_ns, power_kw, valid_s=10.0, quality=0):
    block = np.zeros(1, SIGNAL)
    block["t_ns"] = block["rx_ns"] = t_ns
    block["valid_until_ns"], block["power_kw"], block["quality"] = t_ns + int(valid_s * S), power_kw, quality
    return block


def reading(t_ns, power_kw, quality=0):
    block = np.zeros(1, POWER)
    block["t_ns"] = block["rx_ns"] = t_ns
    block["power_kw"], block["quality"] = power_kw, quality
    return block


class Line:
    """A core, its fleet that reports every second, and a source with a period."""

    def __init__(self, core_settings=None, t_ns=T0, period_ns=100 * MS, **columns):
        self.core = Aggregator(core_settings or settings_of())
        self.now_ns, self.period_ns = t_ns, period_ns
        self.slots = range(self.core.settings.rows)
        self.commands = []
        self.power_kw = np.zeros(self.core.settings.rows)
        self.core.on_sessions(sessions(self.slots, t_ns=t_ns, **columns), t_ns)
        self.reported_ns = t_ns

    def _report(self):
        if self.now_ns - self.reported_ns >= S:
            self.reported_ns = self.now_ns
            self.core.on_vehicles(reports(self.now_ns, self.slots, power_kw=self.power_kw), self.now_ns)

    def obey(self):
        """Chargers that do what they are told, at once."""
        drained = self.core.drain_commands()
        for command in drained:
            self.power_kw[command.rows["slot"]] = command.rows["setpoint_kw"]
        return drained

    def hz(self, hz, seconds=0.0, quality=0, **more):
        """Samples of one value for a while, at least one."""
        until = self.now_ns + int(seconds * S)
        while True:
            self._report()
            self.core.on_samples(sample(self.now_ns, hz, quality, **more), self.now_ns)
            self.commands += self.obey()
            self.now_ns += self.period_ns
            if self.now_ns > until:
                return self.core.last

    def wait(self, seconds):
        """Time without a sample."""
        for _ in range(round(seconds * S / self.period_ns)):
            self._report()
            self.core.on_time(self.now_ns)
            self.commands += self.obey()
            self.now_ns += self.period_ns
        return self.core.last


def entries_of(core, kind):
    return [entry for entry in core.drain_entries() if entry.kind is kind]


# -- what is asked -----------------------------------------------------------------------------------------------------

# rulebook 1.2, 2.1, 3.1, 4.1, 5: product, frequency, fraction of what is sold, by hand
VECTORS = [
    ("ce_fcr", 50.0, 0.0), ("ce_fcr", 49.9, 0.5), ("ce_fcr", 50.1, -0.5), ("ce_fcr", 49.8, 1.0), ("ce_fcr", 49.5, 1.0),
    ("ce_fcr", 50.3, -1.0), ("ce_fcr", 49.995, 0.0), ("ce_fcr", 49.985, 0.075), ("ce_fcr", 50.02, -0.1),
    ("nordic_fcr_n", 49.95, 0.5), ("nordic_fcr_n", 50.1, -1.0), ("nordic_fcr_d_up", 49.7, 0.5),
    ("nordic_fcr_d_up", 49.91, 0.0), ("nordic_fcr_d_down", 50.3, -0.5), ("nordic_fcr_d_down", 49.0, 0.0),
    ("gb_dc_low", 49.8, 0.05), ("gb_dc_low", 49.65, 0.525), ("gb_dc_low", 49.986, 0.0), ("gb_dc_high", 50.5, -1.0),
    ("gb_dc_high", 50.2, -0.05), ("ieee1547", 59.464, 0.5 / 3), ("ieee1547", 60.036, 0.0), ("ieee1547", 60.336, -0.1),
]  # fmt: skip


@pytest.mark.parametrize(("product", "hz", "fraction"), VECTORS)
def test_a_usable_sample_asks_baseline_plus_sold_times_fraction(product, hz, fraction):
    line = Line(settings_of(product, 60.0), depart_ns=T0 + 10 * 3600 * S, depart_kwh=50.0)
    last = line.hz(hz, seconds=30.0)  # dynamics have settled: a ramp of 0.5 s, a lag of 5 s to 90 %
    assert line.core.baseline_kw == pytest.approx(-N * 2.0, rel=1e-3)  # 20 kWh over 10 h, lossless
    assert last.response_kw == pytest.approx(60.0 * fraction, abs=60 * 2e-6)
    assert last.request_kw == pytest.approx(line.core.baseline_kw + last.response_kw, abs=1e-9)
    assert last.unserved_kw == 0.0
    assert last.commanded_kw == pytest.approx(last.request_kw, abs=1e-4)


def test_stacked_products_add_up():
    stack = CoreSettings("gb", N, (Contract(load("gb_dc_low"), 40.0), Contract(load("gb_dc_high"), 30.0)))
    assert Line(stack).hz(49.65, 5).response_kw == pytest.approx(40 * 0.525)
    assert Line(stack).hz(50.2, 5).response_kw == pytest.approx(-30 * 0.05)
    assert stack.interval_s == 1800


@pytest.mark.parametrize("flag", [flag for flag in Quality if flag and flag != Quality.DEAD_BUS])
def test_a_rejected_sample_moves_nothing(flag):
    line = Line()
    line.hz(49.9, 3)
    before = line.core.last
    told = {int(r["slot"]): float(r["setpoint_kw"]) for c in line.commands for r in c.rows}
    line.commands.clear()
    after = line.hz(49.0, quality=int(flag))
    assert after.response_kw == before.response_kw == pytest.approx(30.0)
    assert line.core.rejected() == {flag.name.lower(): 1}
    for command in line.commands:  # renewed at the most
        assert all(told[int(row["slot"])] == row["setpoint_kw"] for row in command.rows)


@pytest.mark.parametrize("hz", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_no_sample_whatever_its_quality_says(hz):
    line = Line()
    line.hz(49.9, 1)
    assert line.hz(hz).response_kw == pytest.approx(30.0)  # held
    assert line.core.last.mode == Mode.HOLD
    assert line.core.rejected() == {"nan": 1}


def test_a_late_sample_is_not_acted_on_and_its_age_has_an_edge():
    line = Line(settings_of(sample_age_max_s=0.5))
    line.hz(50.0, 1)
    line.core.on_samples(sample(line.now_ns, 49.8, rx_ns=line.now_ns - 500 * MS - 1), line.now_ns)
    assert line.core.last.response_kw == 0.0
    assert line.core.rejected() == {"age": 1}
    line.core.on_samples(sample(line.now_ns, 49.8, rx_ns=line.now_ns - 500 * MS), line.now_ns)
    assert line.core.last.response_kw == pytest.approx(60.0)


def test_late_samples_that_come_with_a_fresh_one_are_overtaken_and_decide_nothing():
    line = Line(settings_of(sample_age_max_s=0.5))
    line.hz(50.0, 1)
    ticks = line.core.sums.ticks
    late = [sample(line.now_ns - k, 49.0, rx_ns=line.now_ns - 500 * MS - k) for k in (3, 2, 1)]
    line.core.on_samples(np.concatenate([*late, sample(line.now_ns, 49.8, rx_ns=line.now_ns)]), line.now_ns)
    assert line.core.sums.ticks == ticks + 1
    assert line.core.last.response_kw == pytest.approx(60.0)
    assert line.core.rejected() == {"overtaken": 3}
    # Without a fresh one among them they are what they were: too old.
    line.core.on_samples(np.concatenate(late), line.now_ns)
    assert line.core.rejected() == {"overtaken": 3, "age": 3}


# -- frequency lost ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("period_ns", "hold_s"), [(20 * MS, 1.0), (100 * MS, 1.0), (S, 3.0), (2 * S, 6.0)])
def test_lost_frequency_is_held_for_1_s_or_three_periods_and_then_fades_to_the_baseline(period_ns, hold_s):
    line = Line(period_ns=period_ns, depart_ns=T0 + 10 * 3600 * S, depart_kwh=50.0)
    line.hz(49.9, 8 * period_ns / S)
    good_ns = line.now_ns - period_ns
    line.period_ns = 100 * MS
    line.now_ns = good_ns + 100 * MS
    seen = []
    for _ in range(round((hold_s + 6.0) * 10)):
        seen.append(((line.now_ns - good_ns) / S, line.wait(0.1).response_kw, line.core.last.mode))
    for age_s, response_kw, mode in seen:
        if age_s <= hold_s:
            assert (response_kw, mode) == (pytest.approx(30.0), Mode.HOLD), age_s
        else:  # full to none in fade_s = 5 s
            assert response_kw == pytest.approx(max(30.0 * (1 - (age_s - hold_s) / 5.0), 0.0), abs=1e-6)
    assert seen[-1][2] == Mode.BASELINE
    assert line.core.last.request_kw == line.core.baseline_kw


def test_a_dead_bus_stops_the_response_at_once_and_nothing_brings_it_back_but_a_usable_sample():
    line = Line(settings_of("gb_dc_low", 60.0, signal_max_kw=100.0))
    line.hz(49.5, 3)
    assert line.core.last.response_kw == pytest.approx(60.0)
    line.core.on_signal(signal(line.now_ns, 40.0, valid_s=60), line.now_ns)
    line.commands.clear()
    last = line.hz(47.3, quality=int(Quality.DEAD_BUS))
    assert last.response_kw == 0.0
    assert last.request_kw == line.core.baseline_kw == 0.0
    # The meter falls silent, time goes by, other rubbish comes: still nothing, the authority's set-point included.
    line.wait(3)
    line.hz(45.0, 1.0, quality=int(Quality.RANGE))
    assert line.core.last.response_kw == 0.0
    slots = np.concatenate([command.rows["setpoint_kw"] for command in line.commands])
    assert (slots <= 1e-6).all()
    line.hz(50.0)
    assert line.core.last.response_kw == pytest.approx(40.0)


def test_alarms_are_raised_once_and_cleared_once_with_a_slow_source():
    """A source of 1 Hz and a shell that lets time pass in between: no alarm flutters."""
    line = Line(period_ns=200 * MS)

    def second(hz, quality=0):
        line.hz(hz, 0, quality)
        line.wait(0.8)

    for hz, quality, count in ((50.0, 0, 5), (47.0, Quality.DEAD_BUS, 8), (50.0, 0, 12)):
        for _ in range(count):
            second(hz, int(quality))
    line.wait(20)
    for _ in range(12):
        second(50.0)
    changes = [orjson.loads(entry.payload) for entry in entries_of(line.core, Kind.ALARM)]
    assert [(c["code"], c["cleared_ns"] > 0) for c in changes] == [
        ("DEAD_BUS", False), ("DEAD_BUS", True), ("FREQUENCY_LOST", False), ("FREQUENCY_LOST", True),
    ]  # fmt: skip
    assert line.core.alarms.standing() == []
    assert line.core.alarms.raised == ["DEAD_BUS", "FREQUENCY_LOST"]


def test_the_last_frequency_is_shown_between_samples_and_gone_when_it_is_lost():
    line = Line(period_ns=200 * MS)
    for _ in range(4):
        line.hz(49.97)
        line.wait(0.8)
    assert line.core.last_sample[2] == 49.97
    line.wait(30)
    assert np.isnan(line.core.last_sample[2])


def test_a_line_that_never_saw_a_frequency_says_so():
    line = Line()
    line.wait(START_NS / S)
    assert line.core.alarms.standing() == []
    line.hz(np.nan, 1.0, quality=int(Quality.NAN))
    assert [alarm.code for alarm in line.core.alarms.standing()] == ["FREQUENCY_LOST"]
    line.hz(50.0)
    assert line.core.alarms.standing() == []


def test_shortfall_and_empty_fleet_are_alarms_with_reasons():
    line = Line(settings_of(sold_kw=500.0))
    last = line.hz(49.8, 1)
    assert last.unserved_kw == pytest.approx(500 - N * 11.0)
    assert line.core.unserved_by_reason() == {"rating": pytest.approx((500 - N * 11) * 1.0 / 3600)}
    line.core.on_sessions(sessions(state=SlotState.UNPLUGGED, t_ns=line.now_ns), line.now_ns)
    line.hz(50.0, 1)
    assert [alarm.code for alarm in line.core.alarms.standing()] == ["NO_FLEET"]
    assert line.core.last.request_kw == 0.0


# -- the authority's set-point -----------------------------------------------------------------------------------------


def test_a_signal_is_added_while_it_is_valid():
    line = Line(settings_of(signal_max_kw=25.0))
    line.hz(49.9, 1)
    line.core.on_signal(signal(line.now_ns, -25.0, valid_s=2.0), line.now_ns)
    end_ns = line.now_ns + 2 * S
    while line.now_ns < end_ns:
        assert line.hz(49.9).response_kw == pytest.approx(5.0)
    assert line.hz(49.9).response_kw == pytest.approx(30.0)


def test_the_newest_signal_stands_and_bad_ones_are_refused():
    line = Line(settings_of(signal_max_kw=25.0))
    line.hz(50.0, 1)
    both = np.concatenate([signal(line.now_ns, 10.0), signal(line.now_ns, 20.0)])
    line.core.on_signal(both, line.now_ns)
    for power_kw, quality in ((25.001, 0), (-25.001, 0), (np.nan, 0), (np.inf, 0), (5.0, 1)):
        line.core.on_signal(signal(line.now_ns, power_kw, quality=quality), line.now_ns)
        assert line.hz(50.0).response_kw == pytest.approx(20.0)
    assert line.core.rejected() == {"signal": 5}
    shut = Line()
    shut.core.on_signal(signal(T0, 0.1), T0)  # nobody allowed any
    assert shut.core.rejected() == {"signal": 1}


# -- the declared baseline ---------------------------------------------------------------------------------------------

LEAVING = {"depart_ns": T0 + 4 * 3600 * S, "depart_kwh": 50.0}


@pytest.mark.parametrize(("product", "interval_s"), [("ce_fcr", 900), ("nem_r60", 300)])
def test_declarations_are_ex_ante_contiguous_aligned_and_frozen(product, interval_s):
    start = T0 - T0 % (1800 * S) + 100 * S
    line = Line(settings_of(product, 20.0), t_ns=start, period_ns=S, **{**LEAVING, "depart_ns": start + 4 * 3600 * S})
    held = {}
    for _ in range(2 * interval_s + 300):
        line.hz(50.0)
        held.setdefault(line.core.baseline_kw, []).append(line.now_ns - S)
    rows = line.core.declared_rows()
    first, later = rows[0], rows[1:]
    assert first["start_ns"] == first["declared_ns"] + 6 * S  # when the chargers have got there
    assert (later["declared_ns"] == later["start_ns"] - 60 * S).all()
    assert (rows["start_ns"][1:] == rows["end_ns"][:-1]).all()
    assert (rows["end_ns"] % (interval_s * S) == 0).all()
    assert (later["end_ns"] - later["start_ns"] == interval_s * S).all()
    assert (rows["vehicles"] == N).all()
    # What the fleet is held to is what stands in the rows, step for step, and only changes with the interval.
    for power_kw, times in held.items():
        row = rows[rows["power_kw"] == power_kw]
        assert row.size == 1
        begin = row["start_ns"][0] if row["start_ns"][0] != first["start_ns"] else start
        assert (times[0], times[-1] + S) == (begin, min(row["end_ns"][0], line.now_ns))
    journalled = b"".join(entry.payload for entry in entries_of(line.core, Kind.BASELINE))
    assert journalled == rows.tobytes()
    assert np.frombuffer(journalled, DECLARATION).size == rows.size


def test_the_first_declaration_knows_the_plans_and_every_vehicle_is_told():
    line = Line(depart_ns=T0 + 10 * 3600 * S, depart_kwh=50.0)
    line.hz(50.0)
    assert line.core.baseline_kw == pytest.approx(-2.0 * N, rel=1e-6)
    (command,) = line.commands
    assert sorted(command.rows["slot"]) == list(range(N))
    assert command.rows["setpoint_kw"].sum() == pytest.approx(-2.0 * N, rel=1e-6)


def test_the_baseline_stays_when_cars_leave_and_the_others_cover():
    line = Line(depart_ns=T0 + 10 * 3600 * S, depart_kwh=50.0)
    line.hz(50.0, 8)
    declared_kw = line.core.baseline_kw
    line.core.on_sessions(sessions(range(6), state=SlotState.UNPLUGGED, t_ns=line.now_ns), line.now_ns)
    line.commands.clear()
    last = line.hz(50.0)
    assert line.core.baseline_kw == declared_kw
    assert last.commanded_kw == pytest.approx(declared_kw, abs=1e-4)
    told = line.commands[0].rows
    assert set(told["slot"]) <= set(range(6, 12))
    assert (told["setpoint_kw"] < declared_kw / N).all()
    assert line.core.engine.fleet.command_kw[6:].sum() == pytest.approx(declared_kw, rel=1e-4)


def test_the_interval_rolls_over_with_no_tick_in_between():
    """A pause across the boundary: the next step, declared in time, holds; a longer pause starts afresh."""
    line = Line(t_ns=T0 + 10 * S, period_ns=S, **LEAVING)
    line.hz(50.0, 850)  # the next one is declared at 840
    assert line.core.declared_rows().size == 2
    line.now_ns = T0 + 900 * S + 20 * S
    line.hz(50.0)
    assert line.core.declared_rows().size == 2
    assert line.core.baseline_kw == line.core.declared_rows()["power_kw"][1]
    # Asleep over a whole interval: no baseline was declared for it, and none is made up after the fact.
    line.now_ns = T0 + 3 * 900 * S + 30 * S
    line.hz(50.0)
    rows = line.core.declared_rows()
    assert rows.size == 3
    assert rows["start_ns"][2] == T0 + 2700 * S + 36 * S
    assert rows["end_ns"][2] == T0 + 3600 * S
    # From what is known now: 20 kWh to go in 4 h less 2730 s.
    assert rows["power_kw"][2] == pytest.approx(-N * 20.0 / ((4 * 3600 - 2730) / 3600), rel=1e-3)


def test_a_start_within_the_last_seconds_of_an_interval_declares_the_next_as_well():
    line = Line(t_ns=T0 + 897 * S, period_ns=S)
    line.hz(50.0, 2)
    rows = line.core.declared_rows()
    assert [(r["start_ns"] - T0) // S for r in rows] == [903]
    assert rows["end_ns"][0] == T0 + 1800 * S
    early = Line(t_ns=T0 + 880 * S, period_ns=S)
    early.hz(50.0, 2)
    rows = early.core.declared_rows()
    assert [((r["start_ns"] - T0) // S, (r["end_ns"] - T0) // S) for r in rows] == [(886, 900), (900, 1800)]
    assert (rows["declared_ns"] < rows["start_ns"]).all()


# -- commands ----------------------------------------------------------------------------------------------------------


def test_commands_rise_in_sequence_name_their_session_expire_and_sum_to_the_request():
    line = Line(settings_of(epoch=7, key_id=3), depart_ns=T0 + 8 * 3600 * S, depart_kwh=45.0)
    rng = np.random.default_rng(1)
    standing, session, valid = np.zeros(N), np.ones(N, int), np.zeros(N, np.int64)
    for k in range(600):
        if k in (150, 300, 450):
            slot = k // 150
            gone = sessions([slot], session[slot], line.now_ns, state=SlotState.UNPLUGGED)
            session[slot] += 1
            come = sessions([slot], session[slot], line.now_ns)
            line.core.on_sessions(np.concatenate([gone, come]), line.now_ns)
            standing[slot] = 0.0
        line._report()
        line.core.on_vehicles(reports(line.now_ns, range(N), session), line.now_ns)
        line.core.on_samples(sample(line.now_ns, 50 + 0.05 * rng.standard_normal()), line.now_ns)
        for command in line.core.drain_commands():
            line.commands.append(command)
            at = command.rows["slot"]
            assert np.unique(at).size == at.size
            assert (command.rows["session"] == session[at]).all()
            assert command.issued_ns == line.now_ns
            assert command.valid_until_ns == line.now_ns + 6 * S
            standing[at], valid[at] = command.rows["setpoint_kw"], command.valid_until_ns
        assert (valid - line.now_ns >= 3 * S - line.period_ns).all()  # renewed long before it expires
        assert standing.sum() == pytest.approx(line.core.last.request_kw, abs=1e-4)
        line.now_ns += line.period_ns
    assert [command.sequence for command in line.commands] == list(range(1, len(line.commands) + 1))
    assert line.core.sums.bound_violations == 0
    assert line.core.sums.max_sum_error_kw < 1e-4
    assert line.core.sums.commands == sum(command.rows.size for command in line.commands)
    message = setpoints.decode(line.core.sign(line.commands[-1], KEY), {3: KEY})
    assert (message.epoch, message.sequence, message.key_id) == (7, line.commands[-1].sequence, 3)


def test_renewing_commands_everybody_anew():
    line = Line()
    line.hz(49.9, 2)
    line.commands.clear()
    line.core.on_renew(line.now_ns)
    line.hz(49.9)
    assert sorted(line.commands[0].rows["slot"]) == list(range(N))


def test_renewing_changes_neither_commands_nor_the_account_of_energy():
    """Two seconds after the last report the energy follows what was commanded, not the safe profile."""
    line = Line(safe_kw=-4.0)
    line.hz(49.9, 2)
    line.core.on_vehicles(reports(line.now_ns, power_kw=line.power_kw), line.now_ns)
    fleet, held_kw = line.core.engine.fleet, line.power_kw.copy()
    sent_ns, moved_kwh = fleet.sent_ns.copy(), fleet.moved_kwh.copy()
    line.now_ns += 2 * S
    line.core.on_renew(line.now_ns)
    line.now_ns += 100 * MS
    line.core.on_samples(sample(line.now_ns, 49.9), line.now_ns)
    (command,) = line.obey()
    assert sorted(command.rows["slot"]) == list(range(N))
    np.testing.assert_array_equal(line.power_kw, held_kw)
    np.testing.assert_array_equal(fleet.sent_ns, sent_ns)
    went_kwh = held_kw * 2.1 / 3600
    np.testing.assert_allclose(fleet.energy_kwh, 30.0 - went_kwh, rtol=1e-9)
    np.testing.assert_allclose(fleet.moved_kwh, moved_kwh + np.abs(went_kwh), rtol=1e-6)
    assert (fleet.valid_until_ns == line.now_ns + 6 * S).all()


def test_renewing_leaves_the_lives_of_commands_that_nobody_can_renew():
    line = Line()
    line.hz(49.9, 1)
    fleet = line.core.engine.fleet
    fleet.state[0] = SlotState.FAULT
    until_ns = int(fleet.valid_until_ns[0])
    line.core.on_renew(line.now_ns)
    assert fleet.valid_until_ns[0] == until_ns
    assert (fleet.valid_until_ns[1:] < line.now_ns + 3 * S).all()
    assert (fleet.valid_until_ns[1:] > line.now_ns).all()


def test_a_charger_out_of_a_short_fault_is_told_anew_at_once():
    line = Line()
    line.hz(49.8, 3)
    faulty = reports(line.now_ns, power_kw=line.power_kw)
    faulty["state"][0], faulty["power_kw"][0] = SlotState.FAULT, 0.0
    line.core.on_vehicles(faulty, line.now_ns)
    line.power_kw[0] = 0.0
    line.core.on_samples(sample(line.now_ns, 49.8), line.now_ns)
    line.obey()
    line.now_ns += 300 * MS
    line.core.on_vehicles(reports(line.now_ns, power_kw=line.power_kw), line.now_ns)
    line.core.on_samples(sample(line.now_ns, 49.8), line.now_ns)
    told = [row for command in line.obey() for row in command.rows if row["slot"] == 0]
    assert len(told) == 1
    assert line.power_kw.sum() == pytest.approx(60.0, abs=1e-3)
    assert line.core.engine.fleet.misses[0] == 0


def test_the_days_throughput_is_what_flowed_however_often_reports_come():
    """A budget of half a kilowatt-hour each, asked for a quarter of an hour at full power."""
    line = Line(settings_of(sold_kw=120.0), budget_kwh=0.5, period_ns=500 * MS)
    flowed_kwh = np.zeros(N)
    for _ in range(1800):
        line.hz(49.8)
        flowed_kwh += np.abs(line.power_kw) * 0.5 / 3600
    assert flowed_kwh == pytest.approx(0.5, rel=0.02)
    np.testing.assert_allclose(line.core.engine.fleet.moved_kwh, flowed_kwh, rtol=0.02)


def test_a_silent_vehicle_is_not_discharged_and_stays_in_the_sum():
    line = Line()
    line.hz(49.9, 2)
    for _ in range(80):  # eight seconds in which slot 0 says nothing
        line.core.on_vehicles(reports(line.now_ns, range(1, N), power_kw=line.power_kw[1:]), line.now_ns)
        line.core.on_samples(sample(line.now_ns, 49.8), line.now_ns)
        line.commands = line.obey()
        line.now_ns += line.period_ns
    assert line.core.last.commanded_kw == pytest.approx(60.0, abs=1e-4)
    assert all(0 not in command.rows["slot"] for command in line.commands)
    line.core.supervise(False, line.now_ns)
    codes = [alarm.code for alarm in line.core.alarms.standing()]
    assert codes == ["ALERT_STATE"]  # 200 mHz; one in twelve is below one in ten
    fleet = line.core.engine.fleet
    assert fleet.hi_kw[0] == fleet.lo_kw[0]


# -- time, meters, sums ------------------------------------------------------------------------------------------------


def test_time_that_goes_backwards_is_harmless():
    line = Line()
    line.hz(49.9, 5)
    before = dataclasses.replace(line.core.sums)
    line.core.on_samples(sample(line.now_ns, 49.9), line.now_ns - 3 * S)
    line.core.on_time(line.now_ns - 4 * S)
    line.core.on_time(0)
    assert line.core.last.response_kw == pytest.approx(30.0)
    for command in line.core.drain_commands():
        assert command.issued_ns >= line.now_ns - line.period_ns
    assert line.core.sums.requested_up_kwh == pytest.approx(before.requested_up_kwh)
    assert line.hz(49.9, 5).response_kw == pytest.approx(30.0)
    ticks = np.frombuffer(b"".join(e.payload for e in entries_of(line.core, Kind.TICKS)), TICK)
    assert (np.diff(ticks["now_ns"]) >= 0).all()


def test_requested_energy_is_what_stood_between_decisions():
    line = Line(period_ns=S)
    line.hz(49.9)  # 30 kW stand for a second
    line.hz(50.2)  # -60 kW for two
    line.hz(50.2)
    line.hz(50.0)
    sums = line.core.sums
    assert sums.requested_up_kwh == pytest.approx(30 / 3600)
    assert sums.requested_down_kwh == pytest.approx(120 / 3600)


def test_meters_count_once_in_order_and_a_broken_clock_does_not_stop_them():
    line = Line(period_ns=S)
    line.hz(50.0, 8)  # past the time in which the fleet is on its way to the declared baseline
    core, t_ns = line.core, line.now_ns
    core.on_meters(np.concatenate([reading(t_ns + S, 5.0), reading(t_ns + 3 * S, 9.0)]), t_ns + 3 * S)
    for block in (
        reading(t_ns + 3 * S, 99.0), reading(t_ns + 2 * S, 99.0), reading(t_ns + 4 * S, np.nan),
        reading(t_ns + 4 * S, 1.0, 1), reading(t_ns + 4 * S + AHEAD_NS + 1, 99.0), reading(2**62, 99.0),
    ):  # fmt: skip
        core.on_meters(block, t_ns + 4 * S)
    assert core.rejected() == {"meter": 6}
    assert (core.metered_kw, core.meter_t_ns) == (9.0, t_ns + 3 * S)
    core.on_meters(reading(t_ns + 4 * S, -3.0), t_ns + 4 * S)
    assert core.sums.delivered_up_kwh == pytest.approx(18.0 / 3600)
    assert core.sums.delivered_down_kwh == pytest.approx(3.0 / 3600)


def test_supervision_tells_of_overselling_and_silence_and_clears_it():
    line = Line()
    line.hz(50.0)
    core = line.core
    core.supervise(True, line.now_ns)
    assert [a.code for a in core.alarms.standing()] == ["SOLD_ABOVE_CAPABILITY"]
    core.supervise(False, line.now_ns)
    assert core.alarms.standing() == []
    core.supervise(True, line.now_ns)
    core.supervise(False, line.now_ns)
    line.reported_ns = line.now_ns + 100 * S  # nobody reports any more
    line.hz(50.0, 7)
    core.supervise(False, line.now_ns)
    assert "STALE_REPORTS" in [a.code for a in core.alarms.standing()]


def test_a_core_without_a_journal_decides_the_same():
    kept, bare = (Aggregator(settings_of(), journal=journal) for journal in (True, False))
    for core in (kept, bare):
        core.on_sessions(sessions(), T0)
        for k in range(100):
            core.on_samples(sample(T0 + k * S // 10, 49.9 + 0.001 * k), T0 + k * S // 10)
    one, other = ([c.rows.tobytes() for c in core.drain_commands()] for core in (kept, bare))
    assert one == other
    assert bare.drain_entries() == []
    assert kept.sums.requested_up_kwh == bare.sums.requested_up_kwh


# -- the journal -------------------------------------------------------------------------------------------------------


def test_every_call_and_result_is_journalled_in_order_without_a_gap():
    line = Line(settings_of(signal_max_kw=10.0))
    core = line.core
    core.on_signal(signal(T0, 1.0), T0)
    core.on_meters(reading(T0, 1.0), T0)
    core.on_renew(T0)
    line.hz(49.9)
    line.wait(0.1)
    for command in line.commands:
        core.sign(command, KEY)
    entries = core.drain_entries()
    assert core.drain_entries() == []
    assert [entry.seq for entry in entries] == list(range(len(entries)))
    calls = [entry.kind for entry in entries if entry.kind < Kind.TICKS]
    assert calls == [
        Kind.START, Kind.SESSIONS, Kind.SIGNAL, Kind.METERS, Kind.RENEW, Kind.SAMPLES, Kind.TIME,
    ]  # fmt: skip
    assert from_json(entries[0].payload) == core.settings
    ticks = [np.frombuffer(entry.payload, TICK)[0] for entry in entries if entry.kind is Kind.TICKS]
    assert [int(row["seq"]) for row in ticks] == [1, 2]
    assert ticks[0]["hz"] == 49.9
    assert ticks[0]["request_kw"] == pytest.approx(31.0)
    assert np.isnan(ticks[1]["hz"])
    assert journal.unpack(journal.pack(entries)) == entries
    time_entry = next(entry for entry in entries if entry.kind is Kind.TIME)
    assert struct.unpack("<q", time_entry.payload) == (time_entry.now_ns,)


def random_rows(dtype, data, count):
    """Rows of any bytes at all: NaN, infinities, slots that do not exist, stamps from before time."""
    return np.frombuffer(data.draw(st.binary(min_size=dtype.itemsize * count, max_size=dtype.itemsize * count)), dtype)


CALLS = st.sampled_from(
    ["sample"] * 6 + ["time"] * 2 + ["report"] * 3 + ["plug", "unplug", "swap", "old", "signal", "meter", "renew"]
    + ["garbage", "supervise"]
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_whatever_is_called_its_journal_makes_the_same_bytes_again(data):
    core = Aggregator(settings_of(data.draw(st.sampled_from(["ce_fcr", "gb_dc_low"])), 70.0, signal_max_kw=20.0))
    core.on_sessions(sessions(depart_ns=T0 + 3600 * S, depart_kwh=40.0), T0)
    now_ns, entries, commands = T0, core.drain_entries(), 0
    for _ in range(data.draw(st.integers(5, 40))):
        now_ns += data.draw(st.sampled_from([0, 20 * MS, S, 4 * S, 70 * S, 900 * S, -S]))
        slot, session = data.draw(st.integers(0, N - 1)), data.draw(st.integers(0, 3))
        match data.draw(CALLS):
            case "sample":
                hz = data.draw(st.sampled_from([50.0, 49.9, 50.1, 49.5, np.nan]))
                quality = data.draw(st.sampled_from([0, 0, 0, Quality.DEAD_BUS, Quality.SPIKE]))
                core.on_samples(sample(now_ns, hz, int(quality)), now_ns)
            case "time":
                core.on_time(now_ns)
            case "report":
                core.on_vehicles(reports(now_ns, soc_frac=data.draw(st.floats(0, 1))), now_ns)
            case "plug" | "swap":
                core.on_sessions(sessions([slot], session, now_ns, safe_kw=-1.0), now_ns)
            case "unplug":
                core.on_sessions(sessions([slot], session, now_ns, state=SlotState.UNPLUGGED), now_ns)
            case "old":
                core.on_sessions(sessions([slot, slot], 1, now_ns - 100 * S), now_ns)
            case "signal":
                core.on_signal(signal(now_ns, data.draw(st.sampled_from([5.0, -20.0, 21.0, np.nan]))), now_ns)
            case "meter":
                core.on_meters(reading(now_ns, 3.0), now_ns)
            case "renew":
                core.on_renew(now_ns)
            case "supervise":  # alarms only: it is no call, and must not matter
                core.supervise(data.draw(st.booleans()), now_ns)
            case "garbage":
                kind, door = data.draw(
                    st.sampled_from(
                        [(SESSION, core.on_sessions), (VEHICLE, core.on_vehicles), (POWER, core.on_meters),
                         (SIGNAL, core.on_signal), (FREQUENCY, core.on_samples)]
                    )
                )  # fmt: skip
                door(random_rows(kind, data, 2), now_ns)
        if data.draw(st.booleans()):
            made = core.drain_commands()
            commands += len(made)
            for command in made:
                core.sign(command, KEY)
            entries += core.drain_entries()
    for command in core.drain_commands():
        commands += 1
        core.sign(command, KEY)
    entries += core.drain_entries()
    assert np.isfinite(core.engine.fleet.command_kw).all()
    assert core.sums.bound_violations == 0
    assert [entry.seq for entry in entries] == list(range(len(entries)))
    sequences = [setpoints.decode(e.payload, {1: KEY}).sequence for e in entries if e.kind is Kind.COMMANDS]
    assert all(a < b for a, b in pairwise(sequences))
    found = replay(journal.unpack(journal.pack(entries)), {1: KEY})
    assert (found.commands, found.equal, found.extra) == (commands, commands, 0)


def test_blocks_off_the_wire_read_only_and_unaligned_give_the_same_bytes():
    def off_the_wire(block):
        return wire.decode(b"".join([wire.encode(block)]))

    plain, wired = Aggregator(settings_of()), Aggregator(settings_of())
    for core, through in ((plain, lambda block: block), (wired, off_the_wire)):
        core.on_sessions(through(sessions()), T0)
        core.on_vehicles(through(reports(T0, soc_frac=0.4)), T0)
        core.on_samples(through(sample(T0, 49.9)), T0)
    assert [c.rows.tobytes() for c in plain.drain_commands()] == [c.rows.tobytes() for c in wired.drain_commands()]


def test_nothing_is_delivered_before_the_declared_baseline_begins():
    """Until then the chargers are on their way to their plans; that is no response to the grid."""
    line = Line(period_ns=S)
    line.hz(50.0)
    core = line.core
    core.on_meters(np.concatenate([reading(T0 + S, 5.0), reading(T0 + 3 * S, 9.0)]), T0 + 3 * S)
    assert not core.delivering(T0 + 3 * S)
    assert core.sums.delivered_up_kwh == core.sums.delivered_down_kwh == 0
    line.hz(50.0, 8)
    assert core.delivering(line.now_ns)
