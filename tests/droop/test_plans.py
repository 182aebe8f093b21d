"""Charging plans: tariffs against a sorted list, times of charging against small steps, decisions against the twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop import plans
from droop.limits import Derating
from droop.plans import AHEAD, PlanKind
from tests import naive_plans as naive

H = 3_600_000_000_000
NOW = 1_700_000_000_000_000_000 // H * H
SHAPE = Derating(taper_from_frac=naive.TAPER_FROM, taper_least_frac=naive.TAPER_LEAST)
priced = st.lists(st.integers(0, 5).map(float), min_size=3, max_size=30)


def test_codes_are_the_wires():
    """Rows in journals carry them."""
    assert [(kind.name, int(kind)) for kind in PlanKind] == [
        ("EVEN", 0), ("IMMEDIATE", 1), ("DELAYED", 2), ("PRICE", 3)
    ]  # fmt: skip


@settings(deadline=None)
@given(priced, st.integers(0, 3599), st.data())
def test_what_comes_before_a_slot_is_what_a_sorted_list_says(prices, begun_s, data):
    tariff = plans.tariff(prices, NOW, H)
    now_ns = NOW + begun_s * 10**9
    slot = data.draw(st.integers(0, len(prices) - 1))
    depart_h = data.draw(st.floats(0.01, len(prices) - begun_s / 3600))
    hours = np.empty(AHEAD + 1)
    plans.rank(tariff, now_ns, slot, hours)
    before = [k for k in range(len(prices)) if (prices[k], k) < (prices[slot], slot)]
    taken = naive.cheapest(prices, 1.0, begun_s / 3600, depart_h, 1e9)
    depart_ns = now_ns + round(depart_h * H)
    assert plans.until_h(tariff, hours, now_ns, depart_ns) == pytest.approx(sum(taken[k] for k in before), abs=1e-9)


def test_a_table_for_a_day_repeats():
    tariff = plans.tariff([3.0, 1.0, 2.0], NOW, 8 * H, repeats=True)
    times = [NOW + hour * H for hour in (0, 8, 17, 24, 33, -1, -24)]
    assert [plans.price_of(tariff, plans.slot_of(tariff, t)) for t in times] == [3, 1, 2, 3, 1, 2, 3]


def test_outside_of_a_file_no_price_is_known():
    tariff = plans.tariff([3.0, 1.0], NOW, H)
    assert np.isnan(plans.price_of(tariff, -1))
    assert np.isnan(plans.price_of(tariff, 2))
    assert not plans.look(tariff, NOW + 2 * H)
    assert not plans.look(plans.tariff(), NOW)


def test_slots_without_a_price_come_last():
    tariff = plans.tariff([3.0, 1.0], NOW, H)
    hours = np.empty(AHEAD + 1)
    plans.rank(tariff, NOW, 0, hours)
    assert hours[1:5].tolist() == [0.0, 1.0, 1.0, 1.0]


def test_stays_beyond_what_is_compared_charge_sooner():
    tariff = plans.tariff([3.0, 1.0], NOW, 60 * 10**9, repeats=True)
    hours = np.empty(AHEAD + 1)
    plans.rank(tariff, NOW, 0, hours)
    assert plans.until_h(tariff, hours, NOW, NOW + 1000 * H) == hours[AHEAD] == pytest.approx(AHEAD / 2 / 60)


@settings(deadline=None)
@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(20, 100), st.floats(2, 50))
def test_charging_times_are_those_of_small_steps(soc, more, usable, power):
    car = {"energy_kwh": soc * usable, "usable_kwh": usable, "charge_kw": power, "eta": 0.9}
    car["target_kwh"] = car["energy_kwh"] + more * (usable - car["energy_kwh"])
    hours = plans.charging_h(car["energy_kwh"], car["target_kwh"], usable, power * 0.9, SHAPE)
    assert hours == pytest.approx(naive.hours_to_go(car, usable / power / 300), rel=0.02, abs=1e-6)
    back = plans.charged_kwh(car["energy_kwh"], hours, usable, power * 0.9, SHAPE)
    assert back == pytest.approx(car["target_kwh"], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("shape", [SHAPE._replace(taper_from_frac=1.0), SHAPE._replace(taper_least_frac=1.0)])
def test_without_a_taper_charging_is_even(shape):
    assert plans.charging_h(10.0, 50.0, 50.0, 10.0, shape) == pytest.approx(4.0)
    assert plans.charged_kwh(10.0, 2.0, 50.0, 10.0, shape) == pytest.approx(30.0)
    assert plans.charged_kwh(10.0, 20.0, 50.0, 10.0, shape) == 50.0


SETTLE, LEAD = plans.SETTLE_H, plans.LEAD_H
SHARES = [
    # kind, to go, departs in, cheaper before it, share of all there is
    ("IMMEDIATE", 1.0, 5.0, 9.0, 1.0),
    ("IMMEDIATE", 0.0, 5.0, 0.0, 0.0),
    ("IMMEDIATE", SETTLE / 4, 5.0, 0.0, 0.25),  # the last of it comes slower and slower
    ("DELAYED", 1.0, 5.0, 0.0, 0.0),
    ("DELAYED", 1.0, 1.0 + LEAD / 2, 0.0, 0.5),
    ("DELAYED", 1.0, 1.0 + LEAD * 2, 0.0, 0.0),
    ("DELAYED", 1.0, 1.0, 0.0, 1.0),
    ("DELAYED", 1.0, 0.5, 0.0, 1.0),  # too late for all of it
    ("DELAYED", SETTLE / 2, SETTLE / 2, 0.0, 0.5),
    ("DELAYED", 1.0, 0.0, 0.0, 1.0),  # said to have left
    ("DELAYED", 1.0, np.inf, 0.0, 1.0),  # may leave at any moment
    ("PRICE", 1.0, np.inf, 5.0, 1.0),
    ("PRICE", 1.0, 0.0, 5.0, 1.0),
    ("PRICE", 2.0, 5.0, 2.0, 0.0),
    ("PRICE", 2.0, 5.0, 2.5, 0.0),
    ("PRICE", 2.0, 5.0, 2.0 - SETTLE / 2, 0.5),
    ("PRICE", 2.0, 5.0, 1.9, 1.0),
    ("PRICE", 0.0, 5.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("kind", "to_go", "departs", "cheaper", "share"), SHARES)
def test_who_charges_now(kind, to_go, departs, cheaper, share):
    assert plans.charging_frac(int(PlanKind[kind]), to_go, departs, cheaper) == pytest.approx(share, abs=1e-9)


def test_a_charger_that_nobody_manages_fills_the_car_of_who_said_nothing():
    assert plans.target_kwh(PlanKind.IMMEDIATE, 0.0, 50.0) == 50.0
    assert plans.target_kwh(PlanKind.IMMEDIATE, 30.0, 50.0) == 30.0
    assert plans.target_kwh(PlanKind.DELAYED, 0.0, 50.0) == 0.0
    assert plans.target_kwh(PlanKind.PRICE, 70.0, 50.0) == 50.0
