"""Explanations against a twin that bisects, and their sentences word by word."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.explain import WORDS, explain, explain_row
from droop.fleet import Fleet, allocate
from droop.reasons import Reason
from tests import naive_explain as naive


def some(rng: np.random.Generator) -> naive.Vehicle:
    """A vehicle as limits, least power and site caps leave it; all numbers such as float32 holds."""
    rated = float(rng.choice([4.0, 11.0, 22.0]))
    own_hi, own_lo = rated * rng.choice([1.0, 0.5, 0.0]), -rated * rng.choice([1.0, 0.25, 0.0])
    plan = own_lo + (own_hi - own_lo) * rng.choice([0.0, 0.5, 1.0])
    lo, hi = own_lo, own_hi
    mode = rng.integers(0, 6)
    if mode == 0:
        lo, hi = own_lo, min(own_hi, -1.0)  # charging with a least power
    elif mode == 1:
        lo, hi = max(own_lo, 1.0), own_hi
    elif mode == 2:
        lo, hi = own_lo * 0.5, own_hi * 0.5  # a site's cap
    lo, hi = min(lo, own_hi), max(hi, own_lo)
    hi = max(lo, hi)
    lean = float(rng.choice([0.125, 1.0, 8.0]))
    up, down = max((own_hi - plan) * lean, 1e-6), max((plan - own_lo) / lean, 1e-6)
    numbers = (plan, up, down, lo, hi, own_lo, own_hi, -rated, rated, rng.choice([0.0, 0.0, 0.25]))
    return naive.Vehicle(*(float(np.float32(x)) for x in numbers))


def as_fleet(vehicles: list[naive.Vehicle]) -> tuple[Fleet, np.ndarray]:
    fleet = allocate(len(vehicles))
    columns = {"plan": "plan_kw", "up": "slope_up", "down": "slope_dn", "lo": "lo_kw", "hi": "hi_kw",
               "own_lo": "free_lo_kw", "own_hi": "free_hi_kw", "rated_hi": "discharge_max_kw"}  # fmt: skip
    for slot, vehicle in enumerate(vehicles):
        for name, column in columns.items():
            getattr(fleet, column)[slot] = getattr(vehicle, name)
        fleet.charge_max_kw[slot] = -vehicle.rated_lo
        fleet.reason_up[slot], fleet.reason_down[slot] = Reason.SITE, Reason.SOC
        fleet.command_kw[slot] = slot
    return fleet, np.array([v.price for v in vehicles], np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([-10.01, -2.0, -0.4, -0.1, 0.0, 0.2, 0.7, 5.0]))
def test_is_the_twin(seed, n, lam):
    rng = np.random.default_rng(seed)
    vehicles = [some(rng) for _ in range(n)]
    fleet, price = as_fleet(vehicles)
    dealt = math.fsum(v.power(lam) for v in vehicles)
    for slot, vehicle in enumerate(vehicles):
        found = explain(fleet, slot, lam, price=price)
        assert found.power_kw == pytest.approx(vehicle.power(lam), abs=1e-12)
        assert found.free_kw == pytest.approx(vehicle.free(lam), abs=1e-12)
        assert found.plan_kw + found.moved_kw == pytest.approx(found.free_kw, abs=1e-12)
        assert (found.lo_kw, found.hi_kw, found.command_kw) == (vehicle.lo, vehicle.hi, slot)
        held = vehicle.held_at(lam)
        assert found.binding == bool(held)
        assert found.bound == (held or ("ceiling" if lam >= 0 else "floor"))
        assert found.reason == ("site" if found.bound == "ceiling" else "soc")
        if not held:
            assert found.without_kw == found.resolved_kw == found.power_kw
            continue
        lifted = vehicle.without(held)
        assert found.without_kw == pytest.approx(lifted.power(lam), abs=1e-9)
        others = [*vehicles[:slot], lifted, *vehicles[slot + 1 :]]
        for request in (dealt, dealt + 2.0, dealt - 2.0):
            resolved = explain(fleet, slot, lam, request, price)
            again = naive.solved(others, request)
            assert resolved.resolved_kw == pytest.approx(lifted.power(again), abs=1e-6)
            assert math.fsum(v.power(resolved.resolved_lam) for v in others) == pytest.approx(
                math.fsum(v.power(again) for v in others), abs=1e-9
            )
        assert explain(fleet, slot, lam, price=price).resolved_kw == pytest.approx(
            explain(fleet, slot, lam, dealt, price).resolved_kw, abs=1e-9
        )


def test_leaves_the_fleet_alone():
    rng = np.random.default_rng(1)
    fleet, price = as_fleet([some(rng) for _ in range(20)])
    before = [column.copy() for column in fleet]
    for slot in range(20):
        explain(fleet, slot, 3.0, 500.0, price)
        explain(fleet, slot, -3.0)
    for kept, column in zip(before, fleet, strict=True):
        np.testing.assert_array_equal(kept, column)


def test_the_others_give_way():
    """Two vehicles at 6 kW of 12; one may give 2. Lifted, both would give 6 at a lower multiplier."""
    fleet, _ = as_fleet([naive.Vehicle(0.0, 2.0, 10.0, -10.0, 2.0, -10.0, 2.0, -10.0, 10.0),
                         naive.Vehicle(0.0, 20.0, 20.0, -20.0, 20.0, -20.0, 20.0, -20.0, 20.0)])  # fmt: skip
    found = explain(fleet, 0, 1.0)
    assert (found.power_kw, found.binding) == (2.0, False)  # just arrived: the bound takes nothing yet
    found = explain(fleet, 0, 1.25, 27.0)
    assert (found.power_kw, found.binding, found.without_kw) == (2.0, True, 10.0)
    assert (found.resolved_kw, found.resolved_lam) == (pytest.approx(9.0), pytest.approx(0.9))


SENTENCES = [
    ((-2.0, 11.1, 5.0, 0.46, -11.0, 4.0, "soc", "rating"), {},
     "3.1 kW: plan -2.0, +5.1 for the fleet's lambda of 0.46; the ceiling is 4.0 kW (SoC window); without it 3.1"),
    ((-2.0, 22.0, 5.0, 0.5, -11.0, 4.0, Reason.DEPARTURE, Reason.RATING), {"rated_hi_kw": 11.0},
     "4.0 kW: plan -2.0, +11.0 for the fleet's lambda of 0.50; the ceiling is 4.0 kW (energy for the departure); "
     "without it 9.0"),
    ((0.0, 5.0, 4.0, -2.0, -7.0, 7.0, "soc", "transformer"), {"rated_lo_kw": -7.5},
     "-7.0 kW: plan 0.0, -8.0 for the fleet's lambda of -2.00; the floor is -7.0 kW (transformer); without it -7.5"),
    ((-3.0, 5.0, 4.0, 0.3, -7.0, 7.0), {"price": 0.4},
     "-3.0 kW: plan -3.0, +0.0 for the fleet's lambda of 0.30; it stays until lambda passes its price of 0.40; "
     "the ceiling is 7.0 kW (rated power); without it -3.0"),
    ((0.0, 1e-6, 1e-6, -0.001, 0.0, 0.0, 7, 7), {},
     "0.0 kW: plan 0.0, +0.0 for the fleet's lambda of 0.00; the floor is 0.0 kW (no vehicle); without it 0.0"),
]  # fmt: skip


@pytest.mark.parametrize(("numbers", "more", "words"), SENTENCES)
def test_sentence(numbers, more, words):
    assert explain_row(*numbers, **more).sentence() == words


def test_sentence_with_the_fleet_solved_again():
    fleet, _ = as_fleet([naive.Vehicle(0.0, 2.0, 10.0, -10.0, 2.0, -10.0, 2.0, -10.0, 10.0),
                         naive.Vehicle(0.0, 20.0, 20.0, -20.0, 20.0, -20.0, 20.0, -20.0, 20.0)])  # fmt: skip
    assert explain(fleet, 0, 1.25, 27.0).sentence() == (
        "2.0 kW: plan 0.0, +2.5 for the fleet's lambda of 1.25; the ceiling is 2.0 kW (cap of the site); "
        "without it 10.0, or 9.0 once the others give way (lambda 0.90)"
    )
    assert explain(fleet, 1, 0.5).sentence().endswith("the ceiling is 20.0 kW (cap of the site); without it 10.0")


def test_every_reason_has_words():
    assert set(WORDS) == set(Reason)
    assert len(set(WORDS.values())) == len(WORDS)


def test_to_dict_is_json():
    rng = np.random.default_rng(3)
    fleet, price = as_fleet([some(rng) for _ in range(5)])
    for found in (explain(fleet, 2, 4.0, price=price), explain_row(0.0, 1.0, 1.0, 0.5, -1.0, 1.0)):
        document = json.loads(json.dumps(found.to_dict()))
        assert document["power_kw"] == found.power_kw
        assert document["sentence"] == found.sentence()
        assert document["reason"] == found.reason
        assert set(document) == {*found.__dataclass_fields__, "reason", "sentence"}


def test_a_bound_beyond_the_rating_stays():
    found = explain_row(0.0, 10.0, 10.0, 2.0, -5.0, 5.0, rated_hi_kw=3.0, rated_lo_kw=-3.0)
    assert found.without_kw == 5.0
    assert explain_row(0.0, 10.0, 10.0, -2.0, -5.0, 5.0, rated_lo_kw=-3.0).without_kw == -5.0


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"lam": math.nan}, "lam"), ({"plan_kw": math.inf}, "plan_kw"), ({"slope_up": -1.0}, "slope_up"),
        ({"slope_dn": math.nan}, "slope_dn"), ({"lo_kw": 2.0}, "lo_kw"), ({"hi_kw": math.nan}, "hi_kw"),
        ({"rated_hi_kw": math.inf}, "rated_hi_kw"), ({"rated_lo_kw": math.nan}, "rated_lo_kw"),
        ({"price": -0.1}, "price"), ({"reason_up": 99}, "99"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_numbers_are_named(changes, name):
    numbers = {"plan_kw": 0.0, "slope_up": 1.0, "slope_dn": 1.0, "lam": 0.5, "lo_kw": -1.0, "hi_kw": 1.0, **changes}
    with pytest.raises(ValueError, match=f"^{name}"):
        explain_row(**numbers)


@pytest.mark.parametrize("slot", [-1, 3])
def test_a_slot_that_is_not_there(slot):
    fleet = allocate(3)
    with pytest.raises(ValueError, match=r"^slot"):
        explain(fleet, slot, 0.0)


def test_without_room_and_without_slope_it_is_the_bound_that_holds():
    assert explain_row(5.0, 0.0, 0.0, 0.5, -1.0, 5.0).binding
    assert explain_row(-1.0, 0.0, 0.0, -0.5, -1.0, 5.0).bound == "floor"
    assert not explain_row(2.0, 0.0, 0.0, 0.5, -1.0, 5.0).binding
    assert not explain_row(5.0, 0.0, 0.0, 0.5, -1.0, 5.0, price=0.6).binding
