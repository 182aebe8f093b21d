"""Energy rules through the whole core: a small reservoir in a long low frequency, what is written down, and settled."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import orjson
import pytest

from aggregator import figures, managing, reserved, state
from aggregator.book import Book
from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from aggregator.journal import Entry, Kind
from aggregator.records import MODE
from aggregator.replay import replay
from droop.modes import duties
from droop.products import catalogue, load
from droop.promises import Freedoms
from droop.working_point import restore_h
from settlement.align import Grid
from settlement.expected import power_kw
from settlement.facts import Samples
from settlement.managed import LASTS_NS, fractions, unavailable
from telemetry.samples import FREQUENCY, SESSION, VEHICLE, SlotState
from tests.naive_reservoir import Nordic

S = 10**9
T0 = 1_790_000_000 * S - 1_790_000_000 * S % (3600 * S)
KEY = bytes(range(32))
N, CAPACITY_KWH = 8, 20.0
WINDOW_KWH = N * CAPACITY_KWH * 0.8


class World:
    """Cars of 20 kWh that do as they are told, lossless, and a core that decides once in `step_s`."""

    def __init__(self, *contracts, soc=0.5, step_s=2.0, journal=False, **columns):
        settings = CoreSettings("nordic", N, tuple(Contract(product, kw) for product, kw in contracts))
        self.core = Aggregator(settings, journal=journal)
        self.now_ns, self.step_ns = T0, int(step_s * S)
        self.energy_kwh, self.power_kw = np.full(N, CAPACITY_KWH * soc), np.zeros(N)
        self.soc, self.asked, self.entries = [], [], []
        block = np.zeros(N, SESSION)
        block["t_ns"] = block["rx_ns"] = T0
        block["slot"], block["session"], block["vehicle"] = np.arange(N), 1, [f"car-{k}".encode() for k in range(N)]
        plain = {
            "capacity_kwh": CAPACITY_KWH, "soh_frac": 1.0, "soc_frac": soc, "soc_min_frac": 0.1, "soc_max_frac": 0.9,
            "dod_max_frac": 1.0, "charge_max_kw": 22.0, "discharge_max_kw": 22.0, "eta_charge_frac": 1.0,
            "eta_discharge_frac": 1.0, "state": SlotState.PLUGGED,
        }  # fmt: skip
        for name, value in (plain | columns).items():
            block[name] = value
        self.core.on_sessions(block, T0)

    def usable(self):
        """State of charge of the usable energy."""
        return float((self.energy_kwh - 0.1 * CAPACITY_KWH).sum()) / WINDOW_KWH

    def hz(self, hz, seconds):
        for _ in range(int(seconds * S / self.step_ns)):
            rows = np.zeros(N, VEHICLE)
            rows["t_ns"] = rows["rx_ns"] = self.now_ns
            rows["slot"], rows["session"], rows["state"] = np.arange(N), 1, SlotState.PLUGGED
            rows["soc_frac"], rows["power_kw"] = self.energy_kwh / CAPACITY_KWH, self.power_kw
            self.core.on_vehicles(rows, self.now_ns)
            sample = np.zeros(1, FREQUENCY)
            sample["t_ns"] = sample["rx_ns"] = self.now_ns
            sample["hz"], sample["volt_frac"] = hz, 1.0
            self.soc.append(self.usable())
            self.core.on_samples(sample, self.now_ns)
            self.asked.append(self.core.last.response_kw)
            for command in self.core.drain_commands():
                if self.core._journal:
                    self.core.sign(command, KEY)
                self.power_kw[command.rows["slot"]] = command.rows["setpoint_kw"]
            self.entries += self.core.drain_entries()
            moved_kwh = self.power_kw * self.step_ns / S / 3600
            self.energy_kwh = np.clip(self.energy_kwh - moved_kwh, 0.0, CAPACITY_KWH)
            self.now_ns += self.step_ns
        return self.core.last


def bare(product):
    return replace(product, reservoir=None)


class TestNem:
    SOLD_KW = WINDOW_KWH / 2  # an hour each way, as the product reserves: a reservoir of two hours

    def test_a_limited_fleet_does_not_run_dry_in_a_long_low_frequency(self):
        """Two and a half hours at 49.97 Hz ask for 0.75 h of full power; without NEM half a fleet is empty sooner."""
        product = load("nordic_fcr_n")
        managed, plain = World((product, self.SOLD_KW), step_s=5.0), World((bare(product), self.SOLD_KW), step_s=5.0)
        for world in (managed, plain):
            world.hz(49.97, 4 * 3600)
        assert plain.core.sums.unserved_kwh > 1.0
        assert plain.usable() < 0.01
        assert managed.core.sums.unserved_kwh == 0.0
        # NEM holds the state of charge about where it begins, 30 minutes of full activation of 120: it fades in over 5.
        assert min(managed.soc) > 0.25 - 0.3 * 5 / 120 - 0.01
        assert managed.core.modes()[product.id]["seconds"]["nem"] > 3600
        assert managed.core.modes()[product.id]["seconds"]["aem"] == 0
        assert managed.core.alarms.raised.count("NEM_ACTIVE") == 1
        assert plain.core.modes() == {}

    def test_beyond_what_nem_can_hold_aem_saves_the_last_minutes(self):
        product = load("nordic_fcr_n")
        managed, plain = World((product, self.SOLD_KW), step_s=5.0), World((bare(product), self.SOLD_KW), step_s=5.0)
        for world in (managed, plain):
            world.hz(49.9, 3 * 3600)  # outside the standard range: NEM must not act
        assert plain.core.sums.unserved_kwh > 10.0
        assert managed.core.sums.unserved_kwh == 0.0
        assert 0.0 < min(managed.soc) < 5 / 120
        assert managed.core.modes()[product.id]["nem_kw"] == 0.0
        assert "AEM_ACTIVE" in managed.core.alarms.raised
        assert reserved.maintained(managed.core) == {product.id: 0.0}
        managed.hz(50.0, 3 * 3600)  # back in the standard range NEM restores, AEM ends, NEM ends
        assert managed.core.modes()[product.id]["on"] == []
        assert managed.usable() > 57.5 / 120 - 0.01
        assert not {"AEM_ACTIVE", "NEM_ACTIVE"} & {alarm.code for alarm in managed.core.alarms.standing()}
        assert reserved.maintained(managed.core) == {product.id: pytest.approx(self.SOLD_KW)}

    def test_the_core_asks_what_the_twin_asks(self):
        twin, world = Nordic("n", self.SOLD_KW), World((load("nordic_fcr_n"), self.SOLD_KW), soc=0.32, step_s=1.0)
        world.hz(49.95, 1)
        for k in range(900):
            hz = 49.95 if k % 200 < 150 else 50.02
            # The bounds are refreshed once a second, after the modes have been looked at: energies are a tick old.
            totals = world.core.engine.totals
            up, down = float(totals.up_kwh.sum()), float(totals.down_kwh.sum())
            last = world.hz(hz, 1)
            twin.second(hz, up / (up + down), up + down)
            if k >= 300:
                assert last.response_kw == pytest.approx(twin.power_mw(hz), abs=0.02 * self.SOLD_KW)
        assert world.core.engine.motion.modes.nem[0] == twin.nem == -1


class TestWrittenDown:
    def run(self, **columns):
        world = World(
            (load("nordic_fcr_n"), 60.0), (load("nordic_fcr_d_up"), 20.0), soc=0.3, step_s=1.0, journal=True, **columns
        )
        world.hz(49.95, 200)
        world.hz(49.6, 60)
        world.hz(50.05, 100)
        return world

    def test_replay_gives_the_same_bytes_and_rows(self):
        world = self.run()
        assert replay(world.entries, {1: KEY}).same
        again = self.run()
        rows = [entry.payload for entry in world.entries if entry.kind is Kind.MODES]
        assert rows == [entry.payload for entry in again.entries if entry.kind is Kind.MODES]
        found = np.frombuffer(b"".join(rows), MODE)
        assert found.tobytes() == world.core.mode_rows().tobytes()
        assert set(found["product"]) == {0, 1}
        assert (found["nem"][found["product"] == 0] == -1).any()
        assert (np.diff(found["from_ns"]) >= 0).all()

    def test_a_snapshot_carries_the_modes(self):
        world, other = self.run(), World((load("nordic_fcr_n"), 60.0), (load("nordic_fcr_d_up"), 20.0))
        heir = Aggregator(world.core.settings, journal=False)
        state.restore(heir, state.capture(world.core))
        assert heir.modes() == world.core.modes()
        assert heir.modes() != other.core.modes()
        for name, column in world.core.engine.motion.modes._asdict().items():
            np.testing.assert_array_equal(getattr(heir.engine.motion.modes, name), column, name)
        sample = np.zeros(1, FREQUENCY)
        sample["t_ns"] = sample["rx_ns"] = world.now_ns
        sample["hz"], sample["volt_frac"] = 49.93, 1.0
        for core in (world.core, heir):
            core.on_samples(sample, world.now_ns)
        assert heir.last == world.core.last

    def test_nothing_is_written_while_nothing_is_on_and_a_last_row_when_all_is_over(self):
        world = World((load("ce_fcr"), 20.0), step_s=1.0)
        world.hz(49.95, 60)
        assert not world.core.mode_rows().size
        world.hz(49.79, 3)
        world.hz(50.0, 60)
        rows = world.core.mode_rows()
        assert rows["alert"].tolist() == [1, 1, 1, 0]
        assert world.core.modes()["ce_fcr"]["seconds"]["alert"] == 3
        assert "ALERT_STATE" in world.core.alarms.raised
        assert managing.seconds(world.core.modes()) == {"ce_fcr": {"alert": 3}}

    def test_figures_can_be_sent(self):
        world = self.run()
        shown = figures.live(world.core, world.now_ns, figures.survey(world.core, world.now_ns))
        assert orjson.loads(orjson.dumps(shown, option=orjson.OPT_SERIALIZE_NUMPY))["modes"].keys() == {
            "nordic_fcr_n", "nordic_fcr_d_up"
        }  # fmt: skip
        assert shown["reserved"]["power"]["up_kw"] == pytest.approx(60 * 1.34 + 20)


class TestSettled:
    def facts(self, world, product):
        return managing.by_product(world.core.mode_rows(), world.core.settings.contracts).get(product.id)

    def test_what_is_owed_is_what_was_asked(self):
        """Settlement computes the managed response again from the frequency and the recorded modes."""
        product = load("nordic_fcr_n")
        world = World((product, 60.0), soc=0.25, step_s=1.0)
        path = [49.95] * 150 + [49.9] * 40 + [50.03] * 120
        for hz in path:
            world.hz(hz, 1)
        t_ns = T0 + np.arange(len(path)) * S
        samples = Samples(t_ns, np.array(path), np.ones(len(path), bool))
        grid = Grid(T0, S, len(path) - 1)
        owed = power_kw(product, 60.0, samples, grid, self.facts(world, product)).mean
        asked = np.array(world.asked[:-1])
        np.testing.assert_allclose(owed, asked, atol=1e-9)
        static = power_kw(product, 60.0, samples, grid).mean
        assert np.abs(static - asked).max() > 5.0

    def test_reserve_mode_is_owed_too(self):
        plain = load("ce_fcr")
        product = replace(plain, reservoir=replace(plain.reservoir, reserve_min=5.0))
        world = World((product, 60.0), soc=0.13, step_s=1.0)  # 4.8 kWh left, 5 kWh are 5 minutes
        path = [49.79] * 60 + [49.9] * 30
        for hz in path:
            world.hz(hz, 1)
        assert world.core.modes()["ce_fcr"]["seconds"]["reserve"] > 30
        assert "RESERVE_MODE" in world.core.alarms.raised
        samples = Samples(T0 + np.arange(len(path)) * S, np.array(path), np.ones(len(path), bool))
        owed = power_kw(product, 60.0, samples, Grid(T0, S, len(path) - 1), self.facts(world, product)).mean
        np.testing.assert_allclose(owed, world.asked[:-1], atol=1e-9)
        assert world.asked[59] < 60.0

    def test_what_is_given_freely_is_owed_to_nobody(self):
        product = replace(load("ce_fcr"), freedoms=Freedoms(1.2))
        world = World((product, 60.0), soc=0.8, step_s=1.0)
        world.hz(49.9, 20)
        assert world.asked[-1] == pytest.approx(36.0)
        samples = Samples(T0 + np.arange(20) * S, np.full(20, 49.9), np.ones(20, bool))
        owed = power_kw(product, 60.0, samples, Grid(T0, S, 19), self.facts(world, product)).mean
        np.testing.assert_allclose(owed, 30.0)

    def test_a_record_that_ends_rules_no_longer(self):
        product = load("nordic_fcr_n")
        world = World((product, 60.0), soc=0.25, step_s=1.0)
        world.hz(49.95, 100)
        recorded = self.facts(world, product)
        last_ns = int(recorded.from_ns[-1])
        t_ns = np.array([T0 - 1, last_ns, last_ns + LASTS_NS - 1, last_ns + LASTS_NS])
        found = fractions(product, t_ns, np.full(4, -0.05), np.full(4, 0.5), recorded)
        assert found[0] == found[3] == 0.5
        assert found[1] == found[2] < 0.4
        assert fractions(product, t_ns, np.full(4, -0.05), np.full(4, 0.5), None)[1] == 0.5
        assert not unavailable(t_ns, recorded).any()
        off = recorded._replace(aem=np.full_like(recorded.aem, -1))
        assert unavailable(t_ns, off).tolist() == [False, True, True, False]

    def test_statements_from_the_journal_know_the_modes(self):
        product = load("nordic_fcr_n")
        stated = []
        for dropped in (set(), {Kind.MODES}):
            world = World((product, 60.0), soc=0.25, step_s=1.0, journal=True)
            world.hz(49.95, 300)
            book = Book(product.interval_s)
            book.begin(world.core.settings)
            for entry in world.entries:
                if entry.kind not in dropped:
                    book.on_time(entry.now_ns)
                    book.feed(entry)
            assert book.undecodable == 0
            (statement,) = book.end()
            stated.append(statement.requested_up_kwh)
        asked_kwh = sum(kw for kw in world.asked) / 3600
        assert stated[0] == pytest.approx(asked_kwh, rel=0.01)
        assert stated[1] == pytest.approx(30.0 * 300 / 3600, rel=0.01)


class TestReservoir:
    @pytest.mark.parametrize(
        ("columns", "up_kwh", "down_kwh"),
        [
            ({}, 8.0, 8.0),
            ({"eta_charge_frac": 0.9, "eta_discharge_frac": 0.8}, 8.0 * 0.8, 8.0 / 0.9),
            ({"soc_frac": 0.8}, 14.0, 2.0),
            ({"soc_frac": 0.05}, 0.0, 17.0),
            ({"dod_max_frac": 0.2}, 4.0, 8.0),
            ({"discharge_max_kw": 0.0}, 0.0, 0.0),
            ({"charge_max_kw": 0.0}, 0.0, 0.0),
            ({"state": SlotState.FAULT}, 0.0, 0.0),
        ],
        ids=str,
    )
    def test_what_can_be_managed_of_each_vehicle(self, columns, up_kwh, down_kwh):
        world = World((load("nordic_fcr_n"), 10.0), **columns)
        if "soc_frac" in columns:
            world.energy_kwh[:] = CAPACITY_KWH * columns["soc_frac"]
        if columns.get("state") == SlotState.FAULT:
            world.core.on_time(world.now_ns)
        else:
            world.hz(50.0, 4)
        totals = world.core.engine.totals
        assert totals.up_kwh.sum() == pytest.approx(N * up_kwh, rel=0.01, abs=1e-6)
        assert totals.down_kwh.sum() == pytest.approx(N * down_kwh, rel=0.01, abs=1e-6)

    def test_what_the_driver_needs_is_not_in_it(self):
        """9 kWh in two minutes, of which 22 kW could still bring 0.7."""
        world = World((load("nordic_fcr_n"), 10.0), depart_ns=T0 + 120 * S, depart_kwh=9.0)
        world.hz(50.0, 4)
        assert 1.4 < world.core.engine.totals.up_kwh.sum() / N < 1.8


class TestWorkingPoint:
    def test_a_spent_reservoir_is_restored_by_the_baseline_within_two_hours(self):
        world = World((load("ce_fcr"), 60.0), soc=0.15, step_s=5.0)  # 8 kWh of the 15 kWh to be kept
        world.hz(50.0, 3 * 3600)
        declared = world.core.declared_rows()["power_kw"]
        assert declared[0] == pytest.approx(-15.0, rel=1e-6)  # a quarter of what is sold is kept for it
        assert declared[-1] == pytest.approx(0.0, abs=1e-3)
        assert min(world.soc[1440:]) * WINDOW_KWH > 14.99
        assert max(world.soc) * WINDOW_KWH < 15.0 + 15.0 * 60 / 3600 + 0.05  # a minute is under way when it is declared
        assert (np.array(world.asked) == 0.0).all()  # it is no response

    def test_not_in_an_alert_state_and_not_when_nothing_is_missing(self):
        world = World((load("ce_fcr"), 20.0), soc=0.11, step_s=2.0)
        world.hz(50.0, 836)
        world.hz(49.79, 10)
        first, second = world.core.declared_rows()["power_kw"].tolist()
        assert first == pytest.approx(-5.0)
        assert second == 0.0
        full = World((load("ce_fcr"), 20.0), soc=0.5, step_s=1.0)
        full.hz(50.0, 5)
        assert full.core.declared_rows()["power_kw"].tolist() == [0.0]


class TestReserved:
    def test_power_and_energy_of_the_stack_decide_what_is_too_much(self):
        n, d = load("nordic_fcr_n"), load("nordic_fcr_d_up")
        # Eight chargers of 22 kW, 64 kWh each way.
        for sold, short in (
            (((n, 60.0),), False), (((n, 65.0),), True), (((n, 60.0), (d, 11.0)), False),
            (((n, 60.0), (d, 15.0)), True), (((d, 170.0),), False), (((d, 177.0),), True),
        ):  # fmt: skip
            world = World(*sold)
            world.hz(50.0, 4)
            found = reserved.figures(world.core, world.now_ns)
            assert found["short"] is short, (sold, found)
            world.core.supervise(found["short"], world.now_ns)
            assert ("SOLD_ABOVE_CAPABILITY" in world.core.alarms.raised) is short

    def test_what_is_maintained_shrinks_with_the_band(self):
        world = World((load("nordic_fcr_d_up"), 100.0), (load("nordic_fcr_n"), 60.0))
        world.hz(50.0, 4)
        assert reserved.maintained(world.core) == {"nordic_fcr_d_up": 100.0, "nordic_fcr_n": 60.0}
        tight = World((load("nordic_fcr_d_up"), 100.0), (load("nordic_fcr_n"), 60.0), discharge_max_kw=10.0)
        tight.hz(50.0, 4)  # 80 kW up: FCR-D is cut before FCR-N
        assert reserved.maintained(tight.core) == {
            "nordic_fcr_d_up": pytest.approx(20.0), "nordic_fcr_n": pytest.approx(60.0)
        }  # fmt: skip


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_energies_are_summed_for_whom_rules_ask_for_them(name):
    """A product without a reservoir and without freedoms reads none; what such a fleet commands is the same anyway."""
    product = load(name)
    heeds = CoreSettings("-", 4, (Contract(product, 10.0),)).engine().rules.energies
    assert heeds == (product.reservoir is not None or product.freedoms != Freedoms())
    assert heeds or not duties([(product, 10.0)]).any.any()
    assert heeds or restore_h(product) == math.inf


class TestContractsThatChange:
    """Rows name a product by its place among the contracts of their run; another run has other places."""

    def book(self, *first):
        book = Book(900)
        book.begin(CoreSettings("nordic", N, tuple(Contract(load(name), 60.0) for name in first)))
        rows = np.zeros(len(first), MODE)
        rows["from_ns"], rows["product"], rows["aem"] = T0, np.arange(len(first)), 1 + np.arange(len(first))
        book._take(Entry(Kind.MODES, 0, 0, T0, b""), rows)
        return book

    @pytest.mark.parametrize(
        ("then", "owed"),
        [
            (("nordic_fcr_d_up", "nordic_fcr_n"), {"nordic_fcr_n": [1], "nordic_fcr_d_up": [2]}),
            (("nordic_fcr_d_up",), {"nordic_fcr_d_up": [2]}),
            (("nordic_fcr_d_down", "nordic_fcr_n"), {"nordic_fcr_n": [1]}),
        ],
    )
    def test_modes_stay_with_their_product(self, then, owed):
        book = self.book("nordic_fcr_n", "nordic_fcr_d_up")
        book.begin(CoreSettings("nordic", N, tuple(Contract(load(name), 60.0) for name in then)))
        found = {name: modes.aem.tolist() for name, modes in book.facts().modes.items()}
        assert {name: found[name] for name in then if name in found} == owed
