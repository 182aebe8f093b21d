"""Baselines that are no plan: each from what was known before, and refused where it would know too much."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.products import load, parse
from settlement import baseline, baselines
from settlement.align import NS, Grid
from settlement.baseline import BaselineError, ExPostError
from settlement.facts import Meters
from settlement.interval import Sold, settle
from tests.settlement.conftest import START_NS

DAY_NS = 86_400 * NS


def meters(power_kw, start_ns=0, meter=1):
    kw = np.asarray(power_kw, np.float64)
    return Meters(start_ns + np.arange(kw.size) * NS, kw, np.full(kw.size, meter), np.ones(kw.size, bool))


def triggered(**table):
    return parse(
        {
            "id": "mine", "title": "t", "area": "X", "nominal_hz": 50.0, "direction": "up",
            "trigger": {"hz": 49.7, "release_hz": 49.7},
            "baseline": table, "interval_s": 900,
        },
        "x",
    )  # fmt: skip


def naive_median(kw, start_s, window_s, lag_s):
    seen = [kw[s] for s in range(len(kw)) if start_s - lag_s - window_s <= s < start_s - lag_s]
    return sorted(seen)[len(seen) // 2] if len(seen) % 2 else (sum(sorted(seen)[len(seen) // 2 - 1:][:2]) / 2 if seen else None)  # noqa: E501  # fmt: skip


@given(
    st.lists(st.floats(-100, 100), min_size=1, max_size=60), st.integers(1, 30), st.integers(0, 10), st.integers(1, 20)
)
def test_the_rolling_median_is_the_naive_one(kw, window_s, lag_s, step_s):
    grid = Grid(0, step_s * NS, 5)
    found = baselines.rolling_median(meters(kw), grid, window_s=window_s, lag_s=lag_s)
    wanted = {k * step_s: naive_median(kw, k * step_s, window_s, lag_s) for k in range(5)}
    told = dict(zip((found.start_ns // NS).tolist(), found.power_kw.tolist(), strict=True))
    assert told == pytest.approx({s: kw for s, kw in wanted.items() if kw is not None})
    baseline.check(found)


@given(st.lists(st.floats(-100, 100), min_size=30, max_size=30), st.integers(0, 29), st.floats(-1e3, 1e3))
def test_nothing_from_after_a_cell_changes_it(kw, at, other):
    """Real-time: a reading can only matter to cells that begin after it."""
    grid = Grid(0, 5 * NS, 6)
    changed = list(kw)
    changed[at] = other
    one, two = (baselines.rolling_median(meters(x), grid, window_s=10.0) for x in (kw, changed))
    before = one.start_ns <= at * NS
    assert (one.power_kw[before] == two.power_kw[before]).all()


def test_before_an_event_and_never_within_one():
    kw = [-10.0] * 50 + [90.0] * 20 + [-30.0] * 30
    found = baselines.pre_event(meters(kw), [(50 * NS, 70 * NS), (75 * NS, 80 * NS)], last_s=30.0)
    assert found.power_kw.tolist() == [-10.0, -30.0]
    assert found.start_ns.tolist() == found.declared_ns.tolist() == [50 * NS, 75 * NS]
    baseline.check(found)
    assert baselines.pre_event(meters([]), [(0, NS)], last_s=5.0).power_kw.size == 0


def test_events_are_told_from_the_time_between():
    grid = Grid(0, NS, 10)
    asked = np.array([0, 1, 1, 0, 0, np.nan, 1, 0, 0, 1.0])
    assert baselines.events(asked, grid) == [(NS, 3 * NS), (6 * NS, 7 * NS), (9 * NS, 10 * NS)]
    assert baselines.events(asked, grid, apart_s=3.0) == [(NS, 10 * NS)]


def test_a_control_group_speaks_for_as_many_as_are_contracted():
    t_ns = np.arange(20) * NS
    group = np.where(np.arange(20) < 10, 4, 0)
    found = baselines.control_group(t_ns, np.full(20, -28.0), group, 100, Grid(0, 5 * NS, 4))
    assert found.start_ns.tolist() == [5 * NS, 10 * NS]  # before and after, nobody is there to compare with
    assert found.power_kw.tolist() == [-700.0, -700.0]


def test_a_regression_finds_what_made_the_days_before():
    rng = np.random.default_rng(1)
    past = Grid(0, 900 * NS, 96 * 5)
    names, hour = baselines.hours(past)
    vehicles = rng.integers(50, 100, past.cells).astype(float)
    kw = -3.0 * vehicles + hour @ np.linspace(-50, 50, 24)
    columns = np.column_stack([vehicles, hour])
    model = baselines.fit(["vehicles", *names], columns, kw, past.edges_ns[1:])
    assert model.coefficients == pytest.approx([-3.0, *np.linspace(-50, 50, 24)])
    assert model.residual_kw == pytest.approx(0.0, abs=1e-6)
    day = Grid(5 * DAY_NS, 900 * NS, 4)
    ahead = np.column_stack([np.full(4, 80.0), baselines.hours(day)[1]])
    found = baselines.predict(model, model.names, ahead, day, day.start_ns - 3600 * NS)
    assert found.power_kw == pytest.approx([-290.0] * 4)
    baseline.check(found)


def test_a_model_of_the_day_itself_is_refused():
    day = Grid(DAY_NS, 900 * NS, 2)
    model = baselines.Model(("a",), (1.0,), DAY_NS + 1, 0.0)
    with pytest.raises(ExPostError, match="days before"):
        baselines.predict(model, ["a"], np.ones((2, 1)), day, 0)
    with pytest.raises(BaselineError, match="the model takes a"):
        baselines.predict(dataclasses.replace(model, until_ns=0), ["b"], np.ones((2, 1)), day, 0)


def test_a_model_of_the_frequency_is_refused():
    with pytest.raises(BaselineError, match="must not depend on the frequency"):
        baselines.fit(["dev_hz"], np.ones((2, 1)), np.ones(2), np.arange(2))


@pytest.mark.parametrize("name", ["rolling_median", "pre_event", "control_group"])
def test_a_product_that_answers_all_the_time_admits_no_look_back(name):
    fcr = dataclasses.replace(load("ce_fcr"), baseline={"fn": name})
    with pytest.raises(BaselineError, match="schedule or regression"):
        baselines.method(fcr)
    assert baselines.method(triggered(fn=name)) == name


def test_an_unknown_method_is_named():
    with pytest.raises(BaselineError, match=r"`baseline\.fn` names `guess`; known: schedule"):
        baselines.method(triggered(fn="guess"))


def event(facts):
    """A frequency that falls through the threshold in the middle, and a fleet that answers."""
    t_s = (facts.samples.t_ns - START_NS) / NS
    down = (t_s >= 300) & (t_s < 360)
    samples = facts.samples._replace(hz=np.where(down, 49.6, 50.0))
    m_s = (facts.meters.t_ns - START_NS) / NS
    kw = np.where((m_s >= 300) & (m_s < 360), -200.0, -700.0)
    return facts._replace(samples=samples, meters=facts.meters._replace(power_kw=kw))


@pytest.mark.parametrize(
    ("table", "up_kwh"),
    [
        ({"fn": "pre_event", "last_s": 60.0}, 500.0 / 60),
        ({"fn": "rolling_median", "window_s": 600.0, "step_s": 60.0}, 500.0 / 60),
        ({}, 500.0 / 60 + 100.0 / 60 + 100.0 * 14 / 60),  # the plan said -800
    ],
)
def test_an_event_is_settled_against_its_own_baseline(facts, table, up_kwh):
    (found,) = settle([Sold(triggered(**table), 500.0)], event(facts), START_NS, START_NS + 900 * NS)
    assert found.delivered_up_kwh == pytest.approx(up_kwh, rel=1e-3)
    assert found.baseline.mean_kw == pytest.approx(-700.0 if table else -800.0)


def test_a_control_group_is_no_part_of_the_fleet(facts):
    table = {"fn": "control_group", "meter": 9, "vehicles": 10, "contracted": 100, "step_s": 60.0}
    shown = event(facts)
    m = shown.meters
    group = Meters(m.t_ns, np.full(m.t_ns.size, -70.0), np.full(m.t_ns.size, 9), m.usable)
    both = Meters(*(np.concatenate(pair) for pair in zip(m, group, strict=True)))
    (found,) = settle([Sold(triggered(**table), 500.0)], shown._replace(meters=both), START_NS, START_NS + 900 * NS)
    assert found.delivered_up_kwh == pytest.approx(500.0 / 60, rel=1e-3)
    # Its rows are sealed like all that was used, a minute of the trigger's past included.
    assert found.meters.count == 2 * 960


def test_a_regression_is_settled_by_hours(facts):
    table = {"fn": "regression", "coefficients": {f"hour_{h}": -750.0 for h in range(24)}, "until_ns": 0}
    product = dataclasses.replace(load("ce_fcr"), baseline=table)
    (found,) = settle([Sold(product, 1000.0)], facts, START_NS, START_NS + 900 * NS)
    assert found.baseline.mean_kw == pytest.approx(-750.0)
    with pytest.raises(BaselineError, match="coefficients"):
        settle([Sold(dataclasses.replace(product, baseline={"fn": "regression"}), 1.0)], facts, START_NS, START_NS + NS)


def test_stacked_products_need_the_plan(facts):
    pair = [Sold(triggered(fn="pre_event"), 500.0), Sold(load("ce_fcr"), 1.0)]
    with pytest.raises(BaselineError, match="2 products share one delivery"):
        settle(pair, facts, START_NS, START_NS + 900 * NS)


def test_several_meters_are_looked_at_as_their_sum(facts):
    shown = event(facts)
    halves = Meters(shown.meters.t_ns, shown.meters.power_kw / 2, shown.meters.meter, shown.meters.usable)
    other = halves._replace(meter=np.full(halves.t_ns.size, 7))
    pair = shown._replace(meters=Meters(*(np.concatenate(both) for both in zip(halves, other, strict=True))))
    for table in ({"fn": "pre_event", "last_s": 10.0}, {"fn": "rolling_median", "window_s": 60.0}):
        sold = [Sold(triggered(**table), 500.0)]
        (one,), (two,) = (settle(sold, rows, START_NS, START_NS + 900 * NS) for rows in (shown, pair))
        assert two.delivered_up_kwh == pytest.approx(one.delivered_up_kwh, rel=1e-2)
        assert two.baseline.mean_kw == pytest.approx(one.baseline.mean_kw, rel=1e-2)


def test_a_model_of_the_day_itself_declares_nothing_and_stops_nobody(facts):
    table = {"fn": "regression", "coefficients": {f"hour_{h}": -750.0 for h in range(24)}, "until_ns": START_NS}
    product = dataclasses.replace(load("ce_fcr"), baseline=table)
    (found,) = settle([Sold(product, 1000.0)], facts, START_NS, START_NS + 900 * NS)
    assert (found.coverage["baseline"], found.score) == (0.0, None)


@pytest.mark.parametrize(
    "table",
    [
        {"fn": "rolling_median", "window_s": "long"},
        {"fn": "rolling_median", "window_s": 0.0},
        {"fn": "pre_event", "last_s": -1.0},
        {"fn": "control_group", "meter": "x"},
        {"fn": "control_group", "meter": 9, "contracted": -1},
        {"fn": "rolling_median", "step_s": 0.0},
        {"fn": "regression", "coefficients": {"temperature": 1.0}, "until_ns": 0},
    ],
)
def test_a_table_that_could_not_be_settled_by_is_refused_before_it_is_sold(table):
    with pytest.raises(BaselineError):
        baselines.check(triggered(**table))
