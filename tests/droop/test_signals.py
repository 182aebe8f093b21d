"""Set-points and insensitivity: shares by sign, what stands when validity runs out, the least change that counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.curve import fractions
from droop.dynamics import at_rest, felt, requested_kw, terms
from droop.products import ProductError, parse
from droop.signals import asked, standing
from tests.naive_dynamics import S_NS, Sensing, set_point

S = S_NS
T0 = 1_700_000_000 * S
BOTH = [[-1, -1], [1, 1]]
SIGNAL = {"title": "T", "area": "X", "nominal_hz": 60.0, "input": "signal", "signal_s": 2.0, "hold_s": 3.0}
FCR = {"id": "f", "title": "T", "area": "X", "nominal_hz": 50.0, "direction": "symmetric"}


def on_signal(direction="symmetric", **changes):
    curve = {"symmetric": BOTH, "up": [[0, 0], [1, 1]], "down": [[-1, -1], [0, 0]]}[direction]
    return parse({"id": direction, **SIGNAL, "direction": direction, "curve": curve, **changes}, "test")


def asked_kw(sold, signal_kw, now_ns=T0, until_ns=T0 + S, hz=60.0, elapsed_s=1.0, motion=None):
    table = terms(sold)
    return requested_kw(motion or at_rest(len(sold)), table, hz, 1.0, True, now_ns, elapsed_s, signal_kw, until_ns)


@pytest.mark.parametrize(
    ("sold", "signal_kw", "found"),
    [
        ([("symmetric", 100.0)], 40.0, 40.0),
        ([("symmetric", 100.0)], -140.0, -100.0),  # clipped at what is sold
        ([("up", 80.0), ("down", 50.0)], 60.0, 60.0),  # aFRR: one signed set-point, two products
        ([("up", 80.0), ("down", 50.0)], -60.0, -50.0),
        ([("up", 80.0)], -60.0, 0.0),  # nothing is sold that way
        ([("up", 80.0), ("symmetric", 20.0)], 50.0, 50.0),  # in proportion to what is sold
        ([("up", 80.0), ("symmetric", 20.0)], -15.0, -15.0),
    ],
)
def test_a_set_point_is_shared_by_sign(sold, signal_kw, found):
    stack = [(on_signal(direction), kw) for direction, kw in sold]
    assert asked_kw(stack, signal_kw) == pytest.approx(found, abs=1e-12)


def test_each_takes_in_proportion_to_what_it_sold():
    stack = [(on_signal("up"), 80.0), (on_signal("symmetric"), 20.0)]
    motion = at_rest(2)
    asked_kw(stack, 50.0, motion=motion)
    assert motion.fraction.tolist() == [0.5, 0.5]


def test_a_signal_and_a_frequency_add_up():
    droop = parse({**FCR, "nominal_hz": 60.0, "curve": [[-0.2, 1], [0.2, -1]]}, "test")
    assert asked_kw([(on_signal(), 100.0), (droop, 30.0)], 40.0, hz=59.9) == pytest.approx(55.0)
    assert asked_kw([(on_signal(), 100.0), (droop, 30.0)], 40.0, hz=math.nan) == pytest.approx(40.0)


@given(st.integers(-5 * S, 30 * S), st.floats(0, 10), st.floats(0.1, 10))
@settings(max_examples=200, deadline=None)
def test_what_stands_after_the_validity_is_the_twin(over_ns, hold_s, fade_s):
    found = standing(T0 + over_ns, T0, hold_s, fade_s)
    assert found == pytest.approx(set_point(T0 + over_ns, T0, hold_s, fade_s), abs=1e-9)


def test_a_set_point_that_ran_out_is_held_then_fades():
    stack = [(on_signal(fade_s=4.0), 100.0)]
    at = [asked_kw(stack, 80.0, T0 + k * S, T0) for k in range(9)]
    assert at == pytest.approx([80.0, 80.0, 80.0, 80.0, 60.0, 40.0, 20.0, 0.0, 0.0])


def test_nothing_sold_has_no_share():
    assert asked(terms([(on_signal(), 0.0)]), 5.0) == 0.0
    assert asked_kw([(on_signal(), 0.0)], 5.0) == 0.0


# -- insensitivity: TenneT NL 6.1.3 ------------------------------------------------------------------------------------


# Deviations in steps of 0.1 mHz, so that a change of just the width is drawn often, and none that misses it by less
# than the allowance for rounding that twin and code make each in its own way.
WALK = st.lists(st.integers(-3000, 3000).map(lambda step: step / 1e4), min_size=1, max_size=80)


@given(WALK, st.sampled_from([0.0, 0.004, 0.01, 0.05]))
@settings(max_examples=200, deadline=None)
def test_insensitivity_is_the_twin(walk, width_hz):
    item = parse({**FCR, "curve": [[-0.2, 1], [0.2, -1]], "insensitivity_hz": width_hz}, "test")
    table, motion, twin = terms([(item, 1.0)]), at_rest(1), Sensing(width_hz, (-0.2, 0.2))
    for dev_hz in walk:
        found = felt(motion, table, 0, dev_hz)
        assert found == twin.feel(dev_hz)
        exact = fractions(item.response, dev_hz)
        given_frac = fractions(item.response, found)
        assert abs(given_frac - exact) <= width_hz / 0.2 + 1e-12
        if abs(dev_hz) >= 0.2:
            assert given_frac == exact  # never less at full deviation


@pytest.mark.parametrize("base_hz", [0.0, 0.05, -0.13])
def test_a_change_of_the_width_gives_the_full_proportional_value(base_hz):
    item = parse({**FCR, "curve": [[-0.2, 1], [0.2, -1]], "insensitivity_hz": 0.01}, "test")
    table, motion = terms([(item, 1000.0)]), at_rest(1)

    def at(dev_hz):
        return requested_kw(motion, table, 50.0 + dev_hz, 1.0, True, T0, 0.1, 0.0, 0)

    at(base_hz)
    start = at(base_hz)
    assert at(base_hz + 0.009) == start
    assert at(base_hz - 0.009) == start
    assert at(base_hz + 0.01) == pytest.approx(-5000.0 * (base_hz + 0.01))
    assert at(base_hz + 0.001) == pytest.approx(-5000.0 * (base_hz + 0.01))
    assert at(base_hz) == pytest.approx(-5000.0 * base_hz, abs=1e-6)


def test_an_unknown_deviation_is_not_felt():
    item = parse({**FCR, "curve": [[-0.2, 1], [0.2, -1]], "insensitivity_hz": 0.01}, "test")
    table, motion = terms([(item, 1.0)]), at_rest(1)
    assert np.isnan(felt(motion, table, 0, math.nan))
    assert felt(motion, table, 0, 0.005) == 0.0


def test_our_ramp_may_not_be_slower_than_the_market_accepts():
    with pytest.raises(ProductError, match="ramp_pu_s"):
        on_signal(ramp_pu_s=0.001, ramp_min_pu_s=0.0033)
