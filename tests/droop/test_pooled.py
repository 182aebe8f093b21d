"""A fleet as one battery: against the naive twin, in closed form, and whoever else is in the lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.curve import Curve
from droop.pooled import LANES, Case, Outcome, Pool
from droop.products import load
from tests import naive_pool

CE = Curve(np.array([-0.2, 0.2]), np.array([1.0, -1.0]), 0.01)
PLAIN = Case(CE, 100.0, 200.0, 150.0, 150.0)


def walk(seed: int, steps: int, spread_hz: float = 0.08) -> Any:
    """A frequency that wanders, with gaps."""
    draw = np.random.default_rng(seed)
    hz = np.zeros(steps)
    for k in range(1, steps):
        hz[k] = 0.995 * hz[k - 1] + draw.normal(0.0, spread_hz * 0.1)
    hz[draw.random(steps) < 0.01] = np.nan
    return 50.0 + hz


def one(case: Case, hz: Any, step_s: float = 1.0, block_s: float = 900.0) -> Outcome:
    pool = Pool([case], 50.0, step_s, block_s)
    pool.feed(hz)
    return pool.outcomes()[0]


cases = st.builds(
    Case,
    curve=st.sampled_from(
        [CE, Curve(CE.x_hz * 2, CE.y_frac, 0.0), load("gb_dc_low").response, load("gb_dr_high").response]
    ),
    sold_kw=st.floats(1.0, 300.0),
    energy_kwh=st.floats(5.0, 500.0),
    up_kw=st.floats(0.0, 300.0),
    down_kw=st.floats(0.0, 300.0),
    eta_charge_frac=st.floats(0.7, 1.0),
    eta_discharge_frac=st.floats(0.7, 1.0),
    soc_min_frac=st.floats(0.0, 0.4),
    soc_max_frac=st.floats(0.6, 1.0),
    soc_frac=st.floats(0.4, 0.6),
    restore_h=st.sampled_from([0.0, 0.5, 4.0]),
    overfulfil_max=st.sampled_from([1.0, 1.2]),
)


@settings(deadline=None)  # it may have to be compiled first
@given(case=cases, seed=st.integers(0, 99), block_s=st.sampled_from([7.0, 60.0]))
def test_is_the_naive_twin(case: Case, seed: int, block_s: float) -> None:
    hz = walk(seed, 400)
    told, wanted = one(case, hz, 4.0, block_s)._asdict(), naive_pool.run(hz, 50.0, 4.0, case, block_s)
    short_s, wanted_short_s = told.pop("short_s"), wanted.pop("short_s")
    assert told == pytest.approx(wanted, rel=1e-9, abs=1e-9 * (case.energy_kwh + case.sold_kw))
    assert short_s == pytest.approx(wanted_short_s, abs=4.0)


@given(group=st.lists(cases, min_size=1, max_size=2 * LANES + 3), seed=st.integers(0, 9), cut=st.integers(0, 300))
def test_neighbours_threads_and_cuts_change_no_bit(group: list[Case], seed: int, cut: int) -> None:
    hz = walk(seed, 300)
    together = Pool(group, 50.0, 1.0, 60.0)
    together.feed(hz[:cut], workers=2)
    together.feed(hz[cut:], workers=2)
    assert together.outcomes() == [one(case, hz, 1.0, 60.0) for case in group]


def test_single_precision_is_taken_as_it_is() -> None:
    hz = walk(1, 300).astype(np.float32)
    assert one(PLAIN, hz) == one(PLAIN, hz.astype(np.float64))


def test_half_an_hour_at_the_edge() -> None:
    """100 kW for half an hour out of 200 kWh: 50 kWh at the grid, 50 / 0.95 out of the battery."""
    found = one(PLAIN, np.full(1800, 49.8))
    assert found.asked_up_kwh == pytest.approx(50.0, rel=1e-12) == found.given_up_kwh
    assert found.loss_kwh == pytest.approx(50.0 / 0.95 - 50.0)
    assert found.soc_last_frac == pytest.approx(0.5 - 50.0 / 0.95 / 200.0)
    assert found.short_kwh == found.short_s == found.asked_down_kwh == 0.0
    assert found.cycles == pytest.approx(50.0 / 0.95 / 400.0)


def test_an_empty_battery_gives_nothing_and_says_so() -> None:
    found = one(PLAIN._replace(soc_frac=0.0), np.full(3600, 49.9))
    assert found.given_up_kwh == 0.0
    assert found.short_kwh == pytest.approx(found.asked_up_kwh) == pytest.approx(50.0)
    assert found.short_s == 3600.0


def test_what_is_unknown_asks_for_nothing() -> None:
    found = one(PLAIN, np.full(100, np.nan))
    assert found.asked_up_kwh == found.asked_down_kwh == found.cycles == 0.0


@given(case=cases, seed=st.integers(0, 99))
def test_energy_is_neither_made_nor_lost(case: Case, seed: int) -> None:
    found = one(case, walk(seed, 300), 10.0)
    net_kwh = found.given_up_kwh - found.given_down_kwh + found.sold_kwh - found.bought_kwh
    gained_kwh = (found.soc_last_frac - case.soc_frac) * case.energy_kwh
    assert net_kwh + gained_kwh + found.loss_kwh == pytest.approx(0.0, abs=1e-9 * (case.energy_kwh + case.sold_kw))
    assert found.loss_kwh >= -1e-9
    assert case.soc_min_frac - 1e-12 <= found.soc_min_frac <= found.soc_max_frac <= case.soc_max_frac + 1e-12


@given(case=cases, seed=st.integers(0, 99), more=st.floats(1.0, 3.0))
def test_more_energy_never_falls_shorter(case: Case, seed: int, more: float) -> None:
    """Without a working point: with one, a larger battery aims at another middle."""
    case = case._replace(restore_h=0.0, overfulfil_max=1.0, soc_min_frac=0.0, soc_max_frac=1.0, soc_frac=0.5)
    hz = walk(seed, 300)
    larger = one(case._replace(energy_kwh=case.energy_kwh * more), hz, 30.0)
    assert larger.short_kwh <= one(case, hz, 30.0).short_kwh + 1e-9 * case.energy_kwh


def test_an_energy_biased_frequency_drives_it_to_its_floor() -> None:
    """At a mean of -25 mHz an eighth of what is sold leaves all the time: 12.5 kW out of 100 kWh, after 7.6 h empty."""
    hz = 49.975 + 0.01 * np.sin(np.arange(86_400) / 50.0)
    asked_kw = 100.0 * (50.0 - hz) / 0.2
    hours = float(np.searchsorted(np.cumsum(asked_kw) / 3600.0, 95.0)) / 3600.0
    before, after = (one(PLAIN, hz[: int((hours + more) * 3600.0)]) for more in (-0.01, 0.01))
    assert before.short_s == 0.0 < after.short_s
    kept = one(PLAIN._replace(restore_h=2.0), hz)
    assert kept.short_s == 0.0
    assert kept.bought_kwh > 200.0


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("energy_kwh", 0.0, "energy_kwh"),
        ("sold_kw", -1.0, "sold_kw"),
        ("up_kw", np.nan, "up_kw"),
        ("eta_charge_frac", 1.01, "eta_charge_frac"),
        ("eta_discharge_frac", 0.0, "eta_discharge_frac"),
        ("soc_frac", 1.2, "soc_frac"),
        ("overfulfil_max", 0.9, "overfulfil_max"),
        ("curve", load("nordic_fcr_d_up_static").response, "curve"),
    ],
)
def test_a_case_that_cannot_be_is_refused_by_its_field(name: str, value: Any, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Pool([PLAIN._replace(**{name: value})], 50.0, 1.0)


def test_a_pool_of_nothing_and_steps_of_no_length_are_refused() -> None:
    with pytest.raises(ValueError, match="cases"):
        Pool([], 50.0, 1.0)
    with pytest.raises(ValueError, match="step_s"):
        Pool([PLAIN], 50.0, 0.0)
