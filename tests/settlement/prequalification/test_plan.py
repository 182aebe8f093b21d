"""Plans: profiles as the documents write them, played whole or in part at any rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.products import load
from droop.promises import Sampling
from settlement import prequalification as pq
from settlement.prequalification import nordic
from settlement.prequalification.plan import Part, Piece, Plan, hold, joined, ramp, sine

PRODUCTS = ("ce_fcr", "nordic_fcr_n", "nordic_fcr_d_up", "nordic_fcr_d_down", "gb_dc_low", "gb_dc_high", "ieee1547")


def naive_value(part, at_s):
    """The profile at one moment: walk through the pieces."""
    for piece in part.pieces:
        if at_s < piece.length_s - 1e-7:
            share = max(at_s, 0.0) / piece.length_s
            wave = piece.amplitude * np.sin(2 * np.pi * max(at_s, 0.0) / piece.period_s) if piece.period_s else 0.0
            return piece.first + (piece.last - piece.first) * share + wave
        at_s -= piece.length_s
    return None


@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.floats(49, 51), st.floats(49, 51), st.sampled_from([0.0, 0.1])),
        min_size=1, max_size=6,
    ),
    st.sampled_from([1.0, 2.0, 10.0, 20.0]),
)  # fmt: skip
def test_a_profile_is_what_its_pieces_say(rows, rate):
    part = Part("p", "", tuple(Piece(0.5 * n, a, b, size, 3.0) for n, a, b, size in rows))
    t_s = np.arange(round(part.length_s * rate)) / rate
    wanted = [naive_value(part, t) for t in t_s]
    np.testing.assert_allclose(part.values(t_s), wanted, atol=1e-9)


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_part_begins_and_ends_at_rest_and_can_be_played_alone(name):
    plan = pq.plan_of(load(name), pq.Options(operation_s=600.0))
    for part, start_s, end_s in plan.spans():
        assert part.length_s == pytest.approx(end_s - start_s)
        alone = plan.only([part.name])
        assert alone.duration_s == pytest.approx(part.length_s)
        t_s, value = plan.series()
        inside = (t_s >= start_s - 1e-7) & (t_s < end_s - 1e-7)
        np.testing.assert_array_equal(value[inside][:100], alone.series()[1][:100])
        assert alone.parts == (part,)


def test_steps_are_at_their_time_not_a_sample_later():
    plan = pq.plan_of(load("ce_fcr"), pq.Options(operation_s=0))
    t_s, value = plan.only(["a"]).series()
    assert value[t_s < 60].tolist() == [50.0] * 60
    assert set(value[(t_s >= 60) & (t_s < 960)]) == {49.8}
    assert set(value[t_s >= 960]) == {50.0}
    assert [part.name for part in plan.parts] == list("abcdef")


def test_the_staircase_stays_short_of_the_alert():
    (part,) = pq.plan_of(load("ce_fcr"), pq.Options(operation_s=0)).only(["e"]).parts
    levels = [piece.first - 50.0 for piece in part.pieces]
    np.testing.assert_allclose(levels, [0, -0.09999, -0.2, 0, 0.09999, 0.2, 0], atol=1e-12)


def test_ramps_of_fcr_d_are_those_of_the_test_program():
    (part,) = pq.plan_of(load("nordic_fcr_d_up"), pq.Options(hold_s=300)).only(["ramps"]).parts
    assert {name: part.at[name] for name in "123456"} == {
        "1": 30.0, "2": 34.9, "3": 90.0, "4": 390.0, "5": 690.0, "6": 750.0,
    }  # fmt: skip
    wanted = {0: 49.9, 31: 49.76, 33.3: 49.45, 34.9: 49.45, 35.9: 49.54, 39.9: 49.9, 91: 49.66, 389: 49.5, 392: 49.9,
              691: 49.66, 693.75: 49.0, 749: 49.0, 751: 49.24, 755: 50.0}  # fmt: skip
    np.testing.assert_allclose(part.values(np.array(list(wanted), float)), list(wanted.values()), atol=1e-9)
    (down,) = pq.plan_of(load("nordic_fcr_d_down"), pq.Options(hold_s=300)).only(["ramps"]).parts
    t_s = np.arange(8000) / 10
    np.testing.assert_allclose(down.values(t_s), 100.0 - part.values(t_s), atol=1e-9)


def test_the_combined_test_goes_on_to_ramp_8():
    product = replace(load("nordic_fcr_d_up"), prequalification={"plans": ["nordic_fcr_d_ramps"], "combined": True})
    part = pq.plan_of(product, pq.Options(hold_s=300)).parts[0]
    assert part.values(np.array([part.at["8"] - 1, part.at["done"] - 1])).tolist() == pytest.approx([49.7, 49.89])


def test_sines_have_their_periods_amplitude_and_middle():
    for name, middle, count in (
        ("nordic_fcr_n", 50.0, 10),
        ("nordic_fcr_d_up", 49.7, 7),
        ("nordic_fcr_d_down", 50.3, 7),
    ):
        plan = pq.plan_of(load(name))
        found = [part for part in plan.parts if "period" in part.at]
        assert len(found) == count
        for part in found:
            periods = (part.at["to"] - part.at["from"]) / part.at["period"]
            assert periods == {150.0: 3, 300.0: 2}.get(part.at["period"], 5)
            value = part.values(np.arange(part.at["from"], part.at["to"], 0.05))
            assert (value.max(), value.min()) == pytest.approx((middle + 0.1, middle - 0.1), abs=1e-4)
    own = load("nordic_fcr_n").prequalification
    fewer = replace(load("nordic_fcr_n"), prequalification=own | {"sine_periods_s": [20, 30.0]})
    assert [part.name for part in pq.plan_of(fewer).parts] == ["steps", "sine 20 s", "sine 30 s"]


def test_real_operation_is_seeded_and_comes_home():
    one, again, other = (pq.plan_of(load("ce_fcr"), pq.Options(operation_s=900, seed=seed)) for seed in (1, 1, 2))
    assert one == again != other
    part = one.only(["g"]).parts[0]
    assert part.length_s == 900
    assert part.pieces[0].first == part.pieces[-1].last == 50.0
    whole = pq.plan_of(load("ce_fcr")).only(["g"])
    assert whole.duration_s == 4 * 3600
    assert 0.01 < np.std(whole.series()[1]) < 0.04


def test_a_file_sets_the_figures_of_its_plan():
    product = replace(load("ce_fcr"), prequalification={"plans": ["ce_steps"], "hold_min": 2.0, "operation_h": 0.5})
    plan = pq.plan_of(product)
    assert plan.only(["a"]).duration_s == 60 + 120 + 120
    assert plan.only(["g"]).duration_s == 1800
    assert pq.plan_of(product, pq.Options(hold_s=30)).only(["a"]).duration_s == 60 + 30 + 120


def test_joined_plans_take_the_fastest_rate_and_the_weakest_mark():
    one = Plan(("a",), "", 1.0, (Part("x", "", (hold(50, 2),)),), "V", "one")
    two = Plan(("b",), "", 10.0, (Part("y", "", (ramp(50, 49, 1), sine(50, 0.1, 2, 3))),), "M", "two")
    both = joined("t", [one, two])
    assert (both.tests, both.rate_hz, both.mark, both.source) == (("a", "b"), 10.0, "M", "one; two")
    assert [part.test for part in both.parts] == ["a", "b"]
    with pytest.raises(pq.PrequalificationError, match="part `x`"):
        joined("t", [one, one])


def test_a_test_is_sampled_as_often_as_the_product_says():
    fast = replace(load("ce_fcr"), sampling=Sampling(test_hz=4.0))
    assert (pq.plan_of(load("ce_fcr")).rate_hz, pq.plan_of(fast).rate_hz) == (1.0, 4.0)
    slow = replace(load("nordic_fcr_d_up"), sampling=Sampling(test_hz=1.0))
    assert pq.plan_of(slow).rate_hz == 10.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"prequalification": {"plans": ["ce_stops"]}},
            "field `prequalification.plans` names `ce_stops`; known: ce_steps",
        ),
        ({"prequalification": {"plans": "ce_steps"}}, "no test is known for it; name some in `prequalification.plans`"),
        ({"prequalification": {"plans": []}}, "no test is known"),
        ({"prequalification": {}}, "no test is known for it; name some"),
        ({"prequalification": {"plans": ["ffr_drop"]}}, "needs a field `trigger`"),
        ({"prequalification": {"plans": ["pjm_test"]}}, "plays a signal"),
        ({"prequalification": {"plans": ["nem_ramp"], "service": "R7"}}, "takes R1, R6, R60 or R5 .*'R7'"),
        (
            {"prequalification": {"plans": ["ce_steps"], "hold_min": -1}},
            "field `prequalification.hold_min` takes a number of 0 or more, not -1",
        ),
        ({"prequalification": {"plans": ["ce_steps"], "hold_min": True}}, "field `prequalification.hold_min`"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(change, message):
    with pytest.raises(pq.PrequalificationError, match=message):
        pq.plan_of(replace(load("ce_fcr"), **change))


@pytest.mark.parametrize("name", ["hold_s", "operation_s", "fme_s", "latency_s", "actuator_s"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_options_are_checked(name, value):
    with pytest.raises(pq.PrequalificationError, match=f"option `{name}`"):
        pq.Options(**{name: value})


def test_an_unknown_part_is_refused_with_the_known_ones():
    with pytest.raises(pq.PrequalificationError, match="part `z`: the test has a, b, c"):
        pq.plan_of(load("ce_fcr")).only(["a", "z"])


def test_mirroring_turns_everything_about_nominal():
    up, down = load("nordic_fcr_d_up"), load("nordic_fcr_d_down")
    part = Part("p", "", (hold(49.9, 1), sine(49.7, 0.1, 4, 1)))
    assert nordic.mirrored(up, [part]) == (part,)
    (turned,) = nordic.mirrored(down, [part])
    t_s = np.linspace(0, 4.9, 50)
    np.testing.assert_allclose(turned.values(t_s), 100 - part.values(t_s), atol=1e-12)
