"""Plans in the engine and in the declared baseline, against the twin; drivers get their energy whatever the plan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.backtest import Backtest
from aggregator.contracts import Contract, CoreSettings, Tariff, from_json
from aggregator.core import Aggregator
from aggregator.gateways.arrivals import Guests
from aggregator.gateways.population import PERFECT
from droop.plans import LEAD_H, PlanKind
from droop.products import load
from telemetry.quality import GateSettings
from telemetry.samples import FREQUENCY, SESSION, VEHICLE, SlotState, empty
from tests import naive_plans as naive

S = 1_000_000_000
H = 3600 * S
T0 = 1_663_372_800 * S  # a full hour, and the beginning of a quarter
KINDS = {PlanKind.IMMEDIATE: "immediate", PlanKind.DELAYED: "delayed", PlanKind.PRICE: "price"}
PRICES = (5.0, 2.0, 4.0, 1.0, 3.0, 2.0)  # of quarters of an hour, again and again
QUARTER = 900 * S
CE = load("ce_fcr")


def core_of(rows, tariff=None, sold_kw=0.0):
    return Aggregator(CoreSettings("ce", rows, (Contract(CE, sold_kw),), tariff=tariff), journal=False)


def session_rows(cars, now_ns):
    """SESSION rows of the twin's cars, without losses, least powers or ramps."""
    rows = empty(SESSION, len(cars))
    rows["t_ns"] = rows["rx_ns"] = now_ns
    rows["slot"], rows["session"], rows["state"] = np.arange(len(cars)), 1, SlotState.PLUGGED
    rows["soh_frac"] = rows["soc_max_frac"] = rows["dod_max_frac"] = rows["eta_discharge_frac"] = 1.0
    for k, (kind, car) in enumerate(cars):
        rows["capacity_kwh"][k], rows["soc_frac"][k] = car["usable_kwh"], car["energy_kwh"] / car["usable_kwh"]
        rows["charge_max_kw"][k] = rows["discharge_max_kw"][k] = car["charge_kw"]
        rows["eta_charge_frac"][k], rows["depart_kwh"][k] = car["eta"], car["target_kwh"]
        rows["depart_ns"][k] = 0 if car["depart_h"] is None else now_ns + round(car["depart_h"] * H)
        rows["plan"][k] = kind
    return rows


def told(core, cars, now_ns):
    core.on_sessions(session_rows(cars, now_ns), now_ns)
    reports = empty(VEHICLE, len(cars))
    reports["t_ns"] = reports["rx_ns"] = now_ns
    reports["slot"], reports["session"], reports["state"] = np.arange(len(cars)), 1, SlotState.PLUGGED
    reports["soc_frac"] = [car["energy_kwh"] / car["usable_kwh"] for _, car in cars]
    reports["temp_c"] = np.nan
    core.on_vehicles(reports, now_ns)


def sample(core, now_ns, hz=50.0):
    row = empty(FREQUENCY, 1)
    row["t_ns"] = row["rx_ns"] = now_ns
    row["hz"], row["volt_frac"] = hz, 1.0
    core.on_samples(row, now_ns)


cars = st.builds(
    lambda kind, soc, more, usable, depart_h: (
        kind,
        {
            "energy_kwh": float(np.float32(soc)) * usable, "usable_kwh": usable, "charge_kw": 11.0,
            "eta": float(np.float32(0.9)), "depart_h": depart_h, "target_kwh": min(soc + more, 1.0) * usable,
        },
    ),
    st.sampled_from(list(KINDS)), st.floats(0.05, 0.9), st.floats(0.02, 0.9), st.floats(20.0, 80.0),
    st.one_of(st.none(), st.floats(0.3, 9.0)),
)  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(st.lists(cars, min_size=1, max_size=8), st.integers(0, 89))
def test_the_baseline_of_an_interval_is_the_mean_of_the_plans_in_it(fleet, begun_quarters):
    """Against the twin in steps of six seconds; their grain, where charging begins and ends, may be between them."""
    tariff = Tariff(T0 - 6 * QUARTER, 900, PRICES, repeats=True)
    core = core_of(8, tariff)
    now_ns = T0 + begun_quarters * QUARTER + 840 * S  # a minute before an interval: when it is declared
    told(core, fleet, now_ns)
    core._declared.power_kw(now_ns)
    core._declared._end_ns = now_ns + 60 * S  # as if the present interval had been declared
    sample(core, now_ns)
    row = core.declared_rows()[-1]
    assert (row["start_ns"], row["end_ns"]) == (now_ns + 60 * S, now_ns + 960 * S)
    first = (now_ns - tariff.start_ns) // QUARTER
    ahead = [PRICES[(first + k) % len(PRICES)] for k in range(60)]
    wanted_kw = 0.0
    for kind, car in fleet:
        on = naive.charging_steps(KINDS[kind], car, ahead, 0.25, 840 / 3600, 160, 1 / 600, LEAD_H)
        edges = [naive.charged(car, sum(on[:steps]) / 600, 1e-3) for steps in (10, 160)]
        wanted_kw -= (min(edges[1], car["target_kwh"]) - min(edges[0], car["target_kwh"])) / car["eta"] / 0.25
    grain_kw = 11.0 * 3 / 150 * len(fleet)
    assert row["power_kw"] == pytest.approx(wanted_kw, abs=grain_kw)


def test_the_engine_charges_when_the_plan_says():
    tariff = Tariff(T0, 900, PRICES, repeats=True)
    plain = {"energy_kwh": 20.0, "usable_kwh": 60.0, "charge_kw": 11.0, "eta": 1.0, "target_kwh": 31.0, "depart_h": 8.0}
    fleet = [
        (PlanKind.EVEN, plain), (PlanKind.IMMEDIATE, plain), (PlanKind.DELAYED, plain), (PlanKind.PRICE, plain),
        (PlanKind.PRICE, plain | {"depart_h": 1.25}),  # the dearest quarter is spared, and no more than that
        (PlanKind.DELAYED, plain | {"depart_h": 1.0}), (PlanKind.IMMEDIATE, plain | {"target_kwh": 0.0}),
        (PlanKind.EVEN, plain | {"target_kwh": 0.0}),
    ]  # fmt: skip
    core = core_of(8, tariff)
    told(core, fleet, T0)
    sample(core, T0)
    now = np.asarray(core.engine.fleet.plan_kw)
    np.testing.assert_allclose(now, [-11 / 8, -11, 0, 0, 0, -11, -11, 0], atol=1e-3)
    told_again = core_of(8, tariff)
    told(told_again, fleet, T0 + QUARTER)
    sample(told_again, T0 + QUARTER)
    later = np.asarray(told_again.engine.fleet.plan_kw)
    assert later[3] == 0.0  # a price of 2: eight hours hold ten quarters at 1 and 2, four are needed, at 1 there are 5
    assert later[4] == -11.0


def test_prices_travel_with_the_settings():
    tariff = Tariff(T0, 900, PRICES, repeats=True)
    settings_now = CoreSettings("ce", 8, (Contract(CE, 1.0),), tariff=tariff)
    assert from_json(settings_now.to_json()).tariff == tariff
    without = CoreSettings("ce", 8, (Contract(CE, 1.0),))
    assert from_json(without.to_json().replace(b'"tariff":null,', b"")).tariff is None  # of an earlier version


def test_a_plan_that_is_none_is_refused():
    core = core_of(8)
    rows = session_rows([(0, {"energy_kwh": 20.0, "usable_kwh": 60.0, "charge_kw": 11.0, "eta": 1.0,
                              "target_kwh": 31.0, "depart_h": 8.0})], T0)  # fmt: skip
    rows["plan"] = len(PlanKind)
    core.on_sessions(rows, T0)
    assert core.rejected() == {"session_range": 1}


def guests_of(rng, count, kinds, hours):
    """Drivers who say when they leave, keep to it, and want what can be had."""
    arrive_h = rng.uniform(0.0, 0.5 * hours, count)
    stay_h = rng.uniform(0.3, 0.45 * hours, count)
    capacity, soc = rng.uniform(25.0, 80.0, count), rng.uniform(0.15, 0.5, count)
    arrive_ns = T0 + (np.sort(arrive_h) * H).astype(np.int64)
    leave_ns = arrive_ns + (stay_h * H).astype(np.int64)
    ones = np.ones(count)
    # Nine tenths of what the smallest AC charger brings in the time, and nowhere near the taper.
    energy = np.minimum(rng.uniform(0.1, 0.9, count) * 3.6 * stay_h, (0.8 - soc) * capacity)
    return Guests(
        np.arange(count), arrive_ns, leave_ns, leave_ns, capacity, ones, soc, energy, soc * capacity + energy,
        energy / stay_h, 11.0 * ones, np.full(count, 3), 50.0 * ones, np.resize(np.array(kinds), count),
    )  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_departure_energy_is_met_whenever_it_can_be(seed):
    """Every kind of plan, cars coming and going, a frequency that asks for discharge most of the time."""
    rng = np.random.default_rng(seed)
    guests = guests_of(rng, 60, [int(kind) for kind in PlanKind], 3.0)
    tariff = Tariff(T0, 900, PRICES, repeats=True)
    settings_now = CoreSettings("ce", 40, (Contract(CE, 60.0),), tariff=tariff)
    day = Backtest(settings_now, GateSettings(), T0, seed, behaviour=PERFECT, guests=guests)
    left = []
    sessions = day.fleet.sessions

    def seen(now_ns):
        block = sessions(now_ns)
        left.extend(row for row in block if row["state"] == SlotState.UNPLUGGED)
        return block

    day.fleet.sessions = seen
    times = T0 + 2 * S * np.arange(1, 5400)
    rows = np.zeros(times.size, FREQUENCY)
    rows["t_ns"] = rows["rx_ns"] = times
    rows["hz"], rows["volt_frac"] = 49.97 + 0.06 * np.sin(np.arange(times.size) / 300), 1.0
    day.feed(rows)
    assert len(left) >= 55
    missing = [
        float(row["depart_kwh"] - row["soc_frac"] * row["capacity_kwh"] * row["soh_frac"]) for row in left
    ]  # fmt: skip
    # Two seconds of the bounds' horizon and a report's are what rounding may cost.
    assert max(missing) < 0.02
    moved = {int(row["plan"]) for row in left}
    assert moved == {int(kind) for kind in PlanKind}


def test_an_hour_that_becomes_cheap_is_in_the_baseline():
    """Everybody follows prices, and the cheap hour begins with an interval: the fleet charges as declared."""
    count = 12
    guests = guests_of(np.random.default_rng(3), count, [int(PlanKind.PRICE)], 3.0)
    away_ns = np.full(count, T0 + 5 * H)
    guests = guests._replace(
        arrive_ns=np.full(count, T0 - H), leave_ns=away_ns, told_ns=away_ns,
        wish_kwh=guests.soc_frac * guests.capacity_kwh + 12.0, needs_kw=np.full(count, 10.9),
    )  # fmt: skip
    tariff = Tariff(T0 - 6 * H, 900, (9.0,) * 26 + (1.0,) * 8 + (9.0,) * 62, repeats=True)
    settings_now = CoreSettings("ce", 40, (Contract(CE, 1.0),), tariff=tariff)
    day = Backtest(settings_now, GateSettings(), T0, 1, behaviour=PERFECT, guests=guests)
    times = T0 + 2 * S * np.arange(1, 1700)
    rows = np.zeros(times.size, FREQUENCY)
    rows["t_ns"] = rows["rx_ns"] = times
    rows["hz"], rows["volt_frac"] = 50.0, 1.0
    day.feed(rows)
    declared = day.core.declared_rows()
    by_start = {int(row["start_ns"] - T0) // S: float(row["power_kw"]) for row in declared}
    assert by_start[900] == pytest.approx(0.0, abs=1.0)
    assert by_start[1800] < -100.0  # twelve cars, eleven kilowatts each
    planned = float(day.core.engine.fleet.plan_kw.sum())
    assert by_start[2700] == pytest.approx(planned, rel=0.02)
