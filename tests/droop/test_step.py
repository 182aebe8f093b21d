"""The whole tick against an all-naive line, over every kind of trouble; no allocation, no poison, exact shares."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import gc
import math
import random
import tracemalloc

import numba
import numpy as np
import pytest

from droop.bounds import Rules
from droop.commands import Sending
from droop.fleet import SEGMENTS, allocate
from droop.handle import hold
from droop.limits import Derating
from droop.products import load, parse
from droop.reasons import COUNT, Reason
from droop.refresh import DAY_NS
from droop.shortfall import attribute, lost
from droop.step import Running, Settings, engine, tick, tick_held
from droop.watch import Mode, Verdict
from tests import naive

S = naive.S_NS
NOW = 1_700_000_000 * S
# The twin's figures, whatever the defaults may become.
DERATING = Derating(0.9, 0.2, 0.1, 0.2, 0.0, -20.0, 45.0, 55.0, 5.0)
SETTINGS = Settings(Rules(derating=DERATING), Sending(), S, 5.0)
USABLE, UNUSABLE, DEAD, NONE = (int(v) for v in Verdict)
SLOW = {
    "id": "slow", "title": "T", "area": "X", "nominal_hz": 50.0, "direction": "symmetric",
    "curve": [[-0.3, 1.0], [-0.05, 0.0], [0.05, 0.0], [0.3, -1.0]], "delay_s": 0.5, "olrt_s": 2.0, "ramp_pu_s": 0.4,
}  # fmt: skip


def fill(target, cars):
    target.totals.day[:] = NOW // DAY_NS
    for row, car in enumerate(cars):
        for name in car.__dataclass_fields__:
            column = getattr(target.fleet, name)
            if column.dtype == np.float32:
                setattr(car, name, float(np.float32(getattr(car, name))))
            column[row] = getattr(car, name)


def plugged(n, seed=1, **changes):
    rng = random.Random(seed)
    return [
        naive.Car(**{"energy_kwh": rng.uniform(20, 52), "report_ns": NOW, "energy_ns": NOW, **changes})
        for _ in range(n)
    ]


result = tick


class Pair:
    """Engine and naive line side by side; what the outbox says is all the chargers of the line hear."""

    def __init__(self, cars, sold):
        self.engine = engine(len(cars), sold)
        fill(self.engine, cars)
        products = [
            (kw, p.nominal_hz, list(zip(p.curve_hz, p.curve_frac, strict=True)), p.response.deadband_hz,
             naive.Controller(round(p.delay_s * S), p.olrt_s / math.log(10), p.ramp_pu_s))
            for p, kw in sold
        ]  # fmt: skip
        self.line = naive.Line(
            cars, naive.Watch(S, 5.0), products, (3.0, 5.0, 2.0), S, SEGMENTS, SETTINGS.sending.validity_ns
        )

    def due(self, row):
        """A session began or ended: the row's segment is renewed at the next tick."""
        segment = next(s for s in range(SEGMENTS) if row in self.line.rows(s))
        self.line.renewed_ns[segment] = min(self.line.renewed_ns[segment], 1)
        self.engine.totals.refreshed_ns[segment] = self.line.renewed_ns[segment]

    def change(self, row, **values):
        for name, value in values.items():
            setattr(self.line.cars[row], name, value)
            getattr(self.engine.fleet, name)[row] = value

    def tick(self, now, hz, verdict, baseline=0.0, signal=0.0):
        found = result(self.engine, SETTINGS, now, hz, verdict, baseline, signal)
        wanted = self.line.tick(now, hz, verdict, baseline, signal)
        out, fleet = self.engine.out, self.engine.fleet
        for slot, command in zip(out.slot[: out.sent[0]], out.command_kw, strict=False):
            self.line.told(int(slot), float(command), now)
        self.compare(found, wanted, fleet)
        return found

    def compare(self, found, wanted, fleet):
        wide = max(found.hi_kw, -found.lo_kw, 1.0)
        for name in ("request", "response"):
            assert getattr(found, f"{name}_kw") == pytest.approx(getattr(wanted, name), abs=1e-9)
        for name in ("lo", "hi", "unserved"):
            assert getattr(found, f"{name}_kw") == pytest.approx(getattr(wanted, name), abs=1e-6 * wide)
        assert found.mode == wanted.mode
        assert found.broken == 0
        np.testing.assert_allclose(fleet.lo_kw, [b.lo for b in self.line.bands], atol=2e-6)
        np.testing.assert_allclose(fleet.hi_kw, [b.hi for b in self.line.bands], atol=2e-6)
        np.testing.assert_array_equal(fleet.reason_up, [b.up for b in self.line.bands])
        np.testing.assert_array_equal(fleet.reason_down, [b.down for b in self.line.bands])
        np.testing.assert_allclose(fleet.power_kw, wanted.power, atol=4e-6 * wide)
        np.testing.assert_allclose(fleet.energy_kwh, [c.energy_kwh for c in self.line.cars], rtol=1e-12)
        served = wanted.request - wanted.unserved
        assert found.dealt_kw == pytest.approx(served, abs=1e-6 * wide)
        assert found.commanded_kw == pytest.approx(served, abs=2e-6 * wide)
        # What chargers were told, with what the silent ones are predicted to do, is what was asked.
        told = math.fsum(
            0.0
            if b.up in (naive.NO_VEHICLE, naive.FAULTY)
            else b.lo
            if b.up in (naive.STALE, naive.REFUSED)
            else c.command_kw
            for c, b in zip(self.line.cars, self.line.bands, strict=True)
        )
        assert told == pytest.approx(served, abs=2e-6 * wide)
        shares = self.engine.unserved_kw
        assert shares.sum() == pytest.approx(found.unserved_kw, rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(shares, wanted.reasons, atol=2e-6 * wide)


def story(rng):
    """(verdict, hz, signal) at 10 Hz: start, day, event, loss, dead bus, recovery."""
    dev = 0.0
    for k in range(500):
        dev += -dev * 0.02 + rng.gauss(0, 0.01)
        event = -0.25 if 120 <= k < 170 else 0.3 if 200 <= k < 230 else 0.0
        signal = 15.0 if 300 <= k < 420 else 0.0
        verdict = USABLE
        if k < 10:
            verdict = rng.choice([NONE, UNUSABLE])
        elif 250 <= k < 330:
            verdict = NONE
        elif 380 <= k < 400:
            verdict = DEAD if k % 4 == 0 else NONE
        elif rng.random() < 0.05:
            verdict = rng.choice([UNUSABLE, NONE])
        hz = 50.0 + dev + event if verdict == USABLE else rng.choice([math.nan, 40.0, math.inf])
        yield k, verdict, hz, signal


@pytest.mark.parametrize("seed", range(4))
def test_is_the_naive_line_through_every_trouble(seed):
    rng = random.Random(seed)
    cars = [naive.some_car(rng, NOW) for _ in range(21)] + plugged(9, seed)
    pair = Pair(cars, [(load("ce_fcr"), 150.0), (parse(SLOW, "test"), 60.0)])
    silent_from = [rng.choice([10_000, 10_000, rng.randrange(500)]) for _ in cars]
    modes, short = set(), 0
    now = NOW
    for k, verdict, hz, signal in story(rng):
        for row, car in enumerate(pair.line.cars):
            if (k + row) % 13 == 0 and k < silent_from[row] and car.state == naive.PLUGGED:
                energy = min(max(car.energy_at(now) + rng.gauss(0, 1e-4), 0.0), car.usable_kwh)
                pair.change(row, report_ns=now, energy_ns=now, energy_kwh=energy)
        if k % 40 == 20:
            row = rng.randrange(len(cars))
            gone = pair.line.cars[row].state == naive.PLUGGED
            pair.change(row, state=rng.choice([naive.UNPLUGGED, naive.FAULT]) if gone else naive.PLUGGED)
            if not gone:
                pair.change(row, report_ns=now, energy_ns=now, valid_until_ns=0)
            pair.due(row)
        found = pair.tick(now, hz, verdict, baseline=-20.0, signal=signal)
        modes.add(Mode(found.mode))
        short += found.unserved_kw != 0.0
        now += S // 10 + (0 if k % 7 else rng.choice([0, 1, S // 30]))
    assert modes == set(Mode)
    assert short > 10


def test_low_frequency_discharges_and_high_frequency_charges():
    """The sign, end to end: + is power into the grid."""
    one = engine(20, [(load("ce_fcr"), 100.0)])
    fill(one, plugged(20))
    assert result(one, SETTINGS, NOW, 49.9, USABLE, 0.0, 0.0).request_kw == pytest.approx(50.0)
    assert one.fleet.command_kw.sum() == pytest.approx(50.0, abs=1e-3)
    assert result(one, SETTINGS, NOW + S, 50.2, USABLE, 0.0, 0.0).request_kw == pytest.approx(-100.0)
    assert one.fleet.command_kw.sum() == pytest.approx(-100.0, abs=1e-3)


def test_start_with_no_frequency_commands_the_baseline():
    one = engine(10, [(load("ce_fcr"), 50.0)])
    fill(one, plugged(10))
    for k in range(20):
        found = result(one, SETTINGS, NOW + k * S // 10, math.nan, (NONE, UNUSABLE)[k % 2], -7.0, 0.0)
        assert (found.request_kw, found.response_kw, found.mode) == (-7.0, 0.0, Mode.STARTING)
        assert found.commanded_kw == pytest.approx(-7.0, abs=1e-4)


def test_nan_does_not_poison():
    """A thousand unusable numbers leave the state as if nothing had been said."""
    sold = [(load("ce_fcr"), 50.0), (parse(SLOW, "test"), 20.0)]
    spoken, silent = engine(12, sold), engine(12, sold)
    for one in (spoken, silent):
        fill(one, plugged(12))
    for k in range(400):
        at = NOW + k * S // 20
        verdict, hz = (
            (USABLE, 49.93 + 0.0001 * k) if k % 3 == 0 else (UNUSABLE, (math.nan, math.inf, -math.inf)[k % 7 % 3])
        )
        a = result(spoken, SETTINGS, at, hz, verdict, 0.0, 0.0)
        b = result(silent, SETTINGS, at, hz if verdict == USABLE else 0.0, verdict, 0.0, 0.0)
        assert a == b
        assert all(math.isfinite(value) for value in a)
    unlimited = ("ramp_kw_s", "budget_kwh", "warm_c", "temp_c")
    for part in (spoken.fleet, spoken.motion, spoken.motion.modes, spoken.memory, spoken.totals):
        known = {name: column for name, column in part._asdict().items() if name not in (*unlimited, "modes")}
        assert all(np.isfinite(column).all() for column in known.values())


def test_dead_bus_gives_nothing_until_the_grid_is_back():
    """Iberia: numbers from a dead bus go down to 40 Hz; no discharge into it, a signal neither, no bump after."""
    one = engine(20, [(load("ce_fcr"), 100.0)])
    fill(one, plugged(20))
    at = NOW
    for _ in range(20):
        assert result(one, SETTINGS, at, 49.8, USABLE, 0.0, 5.0).response_kw == pytest.approx(105.0)
        at += S // 10
    for k in range(100):
        found = result(one, SETTINGS, at, 40.0, DEAD if k % 5 == 0 else (NONE, UNUSABLE)[k % 2], 0.0, 5.0)
        assert found.response_kw == 0.0
        assert found.mode == Mode.BASELINE
        at += S // 10
    back = []
    for _ in range(60):
        back.append(result(one, SETTINGS, at, 49.8, USABLE, 0.0, 0.0).response_kw)
        at += S // 10
    assert max(np.diff([0.0, *back])) <= 100.0 * 0.1 / 5.0 + 1e-9
    assert back[-1] == pytest.approx(100.0)


def test_nobody_discharges_into_a_dead_bus():
    """A sum of nothing is not enough: some must charge for their driver, and nobody else may balance that."""
    cars = plugged(8) + plugged(8, depart_ns=NOW - S, depart_kwh=54.0)
    one = engine(16, [(load("ce_fcr"), 50.0)])
    fill(one, cars)
    result(one, SETTINGS, NOW, 49.9, USABLE, 0.0, 0.0)
    assert one.fleet.command_kw.max() > 1.0
    for k in range(1, 30):
        found = result(one, SETTINGS, NOW + k * S // 10, 40.0, DEAD if k % 3 == 1 else NONE, 0.0, 0.0)
        assert one.fleet.command_kw.max() <= 0.0
        assert one.fleet.power_kw.max() <= 0.0
        assert found.broken == 0
    result(one, SETTINGS, NOW + 3 * S, 49.9, USABLE, 0.0, 0.0)
    assert one.fleet.hi_kw.max() == pytest.approx(11.0)


def test_lost_frequency_is_held_then_fades():
    one = engine(20, [(load("ce_fcr"), 100.0)])
    fill(one, plugged(20))
    for k in range(11):
        result(one, SETTINGS, NOW + k * S // 10, 49.9, USABLE, 0.0, 0.0)
    found = [result(one, SETTINGS, NOW + k * S // 10, math.nan, NONE, 0.0, 0.0).response_kw for k in range(11, 100)]
    np.testing.assert_allclose(found[:10], 50.0)
    np.testing.assert_allclose(found[10:60], 50.0 * (1 - np.arange(1, 51) * 0.02), atol=1e-9)
    np.testing.assert_allclose(found[60:], 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "RATING"),
        ({"energy_kwh": 18.0}, "SOC"),
        ({"dod_floor_kwh": 60.0}, "DOD"),
        ({"depart_ns": NOW - S, "depart_kwh": 54.0, "energy_kwh": 40.0}, "DEPARTURE"),
        ({"report_ns": NOW - 9 * S}, "STALE"),
        ({"report_ns": NOW - 4 * S}, "HELD"),
        ({"state": naive.FAULT}, "FAULT"),
        ({"soh_frac": 0.7, "energy_kwh": 18.0055}, "SOH"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_shortfall_names_its_reason(changes, reason):
    one = engine(16, [(load("ce_fcr"), 1.0)])
    fill(one, plugged(16, **changes))
    lost = result(one, SETTINGS, NOW, 50.0, USABLE, 176.0, 0.0).unserved_kw if reason != "RATING" else 0.0
    found = result(one, SETTINGS, NOW, 50.0, USABLE, 176.0 + (9.0 if reason == "RATING" else 0.0), 0.0)
    assert found.unserved_kw == pytest.approx(lost or 9.0)
    assert one.unserved_kw[Reason[reason]] == pytest.approx(found.unserved_kw, rel=1e-9)
    assert one.unserved_kw.sum() == pytest.approx(found.unserved_kw, rel=1e-12)


def test_no_shortfall_names_no_reason():
    one = engine(8, [(load("ce_fcr"), 1.0)])
    fill(one, plugged(8))
    result(one, SETTINGS, NOW, 50.0, USABLE, 500.0, 0.0)
    assert one.unserved_kw.any()
    result(one, SETTINGS, NOW + 1, 50.0, USABLE, 5.0, 0.0)
    assert not one.unserved_kw.any()


@pytest.mark.parametrize("shortfall", [30.0, -30.0, 100.0, -250.0])
def test_attribution_sums_to_the_shortfall(shortfall):
    rng = np.random.default_rng(1)
    fleet = allocate(40)
    fleet.state[:] = rng.integers(0, 3, 40)
    fleet.charge_max_kw[:] = fleet.discharge_max_kw[:] = 11.0
    fleet.lo_kw[:], fleet.hi_kw[:] = -rng.uniform(4, 11, 40), rng.uniform(4, 11, 40)
    fleet.reason_up[:], fleet.reason_down[:] = rng.integers(1, 19, (2, 40))
    here = fleet.state > 0
    taken = np.zeros(COUNT)
    if shortfall > 0:
        np.add.at(taken, fleet.reason_up[here], 11.0 - fleet.hi_kw[here].astype(float))
    else:
        np.add.at(taken, fleet.reason_down[here], 11.0 + fleet.lo_kw[here].astype(float))
    out = np.full(COUNT, 99.0)
    assert lost(fleet, shortfall > 0, out) == pytest.approx(taken.sum())
    np.testing.assert_allclose(out, taken, rtol=1e-6)
    attribute(fleet, shortfall, out)
    assert out.sum() == pytest.approx(shortfall, rel=1e-12)
    assert (out * np.sign(shortfall) >= 0).all()
    share = min(1.0, abs(shortfall) / taken.sum())
    np.testing.assert_allclose(np.abs(np.delete(out, 1)), np.delete(taken, 1) * share, rtol=1e-6)
    attribute(allocate(4), shortfall, out)
    assert out[Reason.RATING] == shortfall
    assert np.count_nonzero(out) == 1


def test_behind_a_handle_is_the_same_engine():
    plain, handled = (engine(12, [(load("ce_fcr"), 60.0)]) for _ in range(2))
    for one in (plain, handled):
        fill(one, plugged(12))
    held = hold(Running(handled, SETTINGS))
    for k in range(60):
        hz = 50.0 - 0.003 * k
        a = tick(plain, SETTINGS, NOW + k * S // 10, hz, USABLE, -3.0, 0.0)
        b = tick_held(held, False, NOW + k * S // 10, hz, USABLE, -3.0, 0.0)
        assert a == b
        if k == 30:
            # What Python writes into a column is seen through the handle.
            for one in (plain, handled):
                one.fleet.state[3] = naive.FAULT
                one.totals.refreshed_ns[:] = 1
    np.testing.assert_array_equal(plain.fleet.command_kw, handled.fleet.command_kw)


def test_same_calls_same_bytes():
    """Determinism: the journal of calls is enough to make the same commands again."""

    def run():
        one = engine(30, [(load("ce_fcr"), 100.0), (parse(SLOW, "test"), 60.0)])
        rng = random.Random(8)
        fill(one, [naive.some_car(rng, NOW) for _ in range(30)])
        made = []
        for k, verdict, hz, signal in story(rng):
            made.append(tick(one, SETTINGS, NOW + k * S // 10, hz, verdict, -10.0, signal))
            made.append(one.out.setpoint_kw[: one.out.sent[0]].tobytes() + one.out.slot[: one.out.sent[0]].tobytes())
        return made

    assert run() == run()


@pytest.fixture
def kernel_allocations():
    """How many blocks kernels have asked for since the start of the test."""
    stats = pytest.importorskip("numba.core.runtime._nrt_python")
    was_on = stats.memsys_stats_enabled()
    stats.memsys_enable_stats()
    first = stats.memsys_get_stats_mi_alloc()
    yield lambda: stats.memsys_get_stats_mi_alloc() - first
    if not was_on:
        stats.memsys_disable_stats()


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="plain Python allocates")
def test_a_warm_tick_allocates_nothing(kernel_allocations):
    one = engine(64, [(load("ce_fcr"), 400.0)])
    fill(one, plugged(64))
    held = hold(Running(one, SETTINGS))

    def ticks(first, count):
        for k in range(first, first + count):
            tick_held(held, False, NOW + k * S // 10, 49.9 + 0.001 * (k % 50), USABLE, 0.0, 0.0)

    ticks(0, 200)
    made = kernel_allocations()
    ticks(200, 50)
    assert kernel_allocations() == made
    hold(engine(1, []))  # the counter counts: a handle is a block
    assert kernel_allocations() > made
    tracemalloc.start()
    try:
        ticks(250, 2000)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        ticks(2250, 40_000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Python's own free lists may still fill up; the smallest object kept a tick would be ten times as much.
    assert after - before <= 65_536
