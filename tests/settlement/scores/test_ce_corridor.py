"""The rulebook's scoring vectors, a naive twin of the corridor, and what must hold for any delivery."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from settlement.scores import ce_corridor
from settlement.scores.ce_corridor import CorridorError, corridor, score

RNG = np.random.default_rng(7)


def walk(n=900, seed=7):
    """A frequency deviation that wanders within +-50 mHz [Hz]."""
    rng = np.random.default_rng(seed)
    dev = np.zeros(n)
    for k in range(1, n):
        dev[k] = 0.98 * dev[k - 1] + 0.004 * rng.standard_normal()
    return dev


def judged(net, target, dev, capacity=1000.0, **options):
    return score(net, target, dev, capacity, np.ones(net.size, bool), **options)


def g(age_s):
    """Slowest step response, in words of the rule."""
    if age_s <= 2:
        return 0.0
    if age_s <= 15:
        return 0.5 * (age_s - 2) / 13
    return min(1.0, 0.5 + 0.5 * (age_s - 15) / 15)


def naive_slow(target, step_s):
    """Sum over past target steps of the step times g of its age."""
    steps = np.diff(target, prepend=0.0)
    return np.array(
        [sum(steps[j] * g((k - j) * step_s) for j in range(k + 1)) for k in range(target.size)],
    )


@pytest.mark.parametrize(
    ("at_s", "lower_mw"),
    [(1, -0.05), (15, 0.20), (30, 0.45)],
    ids=["COR-1 at 1 s", "COR-1 at 15 s", "COR-1 at 30 s"],
)
def test_cor_1(at_s, lower_mw):
    target = np.full(40, 0.5)  # -100 mHz at t = 0, C = 1 MW
    lower, upper = corridor(target, 1.0)
    assert lower[at_s] == pytest.approx(lower_mw, abs=1e-12)
    assert upper[at_s] == pytest.approx(0.55, abs=1e-12)


@pytest.mark.parametrize(
    ("share", "adequate"), [(0.85, False), (1.20, True)], ids=["TNT-1 net = 0.85 target", "TNT-2 net = 1.20 target"]
)
def test_tnt(share, adequate):
    dev = walk()
    target = -dev / 0.2 * 1000.0
    found = judged(share * target, target, dev)
    assert found.slope_ratio == pytest.approx(share, rel=1e-12)
    assert found.adequate is adequate


@pytest.mark.parametrize(("share", "adequate"), [(0.9, True), (1.3, True), (0.899, False), (1.301, False)])
def test_the_borders_of_the_slope_band_belong_to_it(share, adequate):
    dev = walk()
    target = -dev / 0.2 * 1000.0
    found = judged(share * target, target, dev)
    assert found.time_out_of_bound_frac < 0.05  # the slope alone decides here
    assert found.adequate is adequate


@pytest.mark.parametrize("step_s", [1.0, 0.5, 2.0, 4.0])
def test_corridor_equals_the_naive_twin(step_s):
    target = RNG.normal(0, 300, 120)
    slow = naive_slow(target, step_s)
    lower, upper = corridor(target, 1000.0, step_s)
    np.testing.assert_allclose(lower, np.minimum(target, slow) - 50, atol=1e-9)
    np.testing.assert_allclose(upper, np.maximum(target, slow) + 50, atol=1e-9)


def test_perfect_is_one_and_none_is_zero():
    dev = walk()
    target = -dev / 0.2 * 1000.0
    assert judged(target, target, dev).score == 1.0
    assert judged(np.zeros(900), target, dev).score == 0.0
    assert judged(-target, target, dev).score == 0.0


def test_slowest_admissible_response_is_never_under():
    dev = walk()
    target = -dev / 0.2 * 1000.0
    found = judged(naive_slow(target, 1.0), target, dev)
    assert found.outside_seconds == 0.0


def test_under_over_and_wrong_side_are_told_apart():
    dev = np.full(100, -0.1)
    target = np.full(100, 500.0)
    net = np.full(100, 500.0)
    net[60:70] = 440.0  # below 450: under
    net[70:75] = 560.0  # above 550: over
    net[80:83] = -100.0  # the wrong way is under-delivery too
    found = judged(net, target, dev)
    assert (found.under_seconds, found.over_seconds, found.outside_seconds) == (13.0, 5.0, 18.0)
    assert found.under_max_kw == pytest.approx(550.0)  # 450 asked for at least, 100 the wrong way
    assert found.time_out_of_bound_frac == pytest.approx(0.13)
    assert found.slope_ratio is None  # the frequency stood still
    assert found.adequate is False
    mirrored = judged(-net, -target, -dev)
    assert mirrored == found


def test_under_delivery_of_five_percent_is_too_much():
    dev, target = np.full(100, -0.1), np.full(100, 500.0)
    for seconds, adequate in [(4, True), (5, False)]:
        net = target.copy()
        net[50 : 50 + seconds] = 0.0
        assert judged(net, target, dev).adequate is adequate


def test_flat_zero_target_counts_the_corridor_alone():
    found = judged(np.zeros(60), np.zeros(60), walk(60))
    assert found.slope_ratio is None
    assert found.score == 1.0
    assert found.adequate is True


def test_history_shapes_the_corridor_and_is_not_scored():
    target = np.full(60, 500.0)
    valid = np.arange(60) >= 30
    found = score(np.where(valid, 460.0, 0.0), target, np.full(60, -0.1), 1000.0, valid)
    assert found.under_seconds == 0.0
    assert found.seconds == 30.0
    short = score(np.full(30, 300.0), target[30:], np.full(30, -0.1), 1000.0, np.ones(30, bool))
    assert short.under_seconds == 8.0  # without history: the lower bound passes 300 kW after 21 s


def test_nothing_to_score():
    found = score(np.full(3, np.nan), np.zeros(3), np.zeros(3), 1.0, np.zeros(3, bool))
    assert found.score is None
    assert found.seconds == 0.0


@given(seed=st.integers(0, 10_000), gain=st.floats(-1, 3), noise=st.floats(0, 300))
def test_score_lies_within_0_and_1(seed, gain, noise):
    rng = np.random.default_rng(seed)
    dev = walk(120, seed)
    target = -dev / 0.2 * 1000.0
    found = judged(gain * target + noise * rng.standard_normal(120), target, dev)
    assert 0.0 <= found.score <= 1.0
    assert found.outside_seconds == found.under_seconds + found.over_seconds


@given(seed=st.integers(0, 10_000), factor=st.floats(1e-3, 1e3), gain=st.floats(0, 2))
def test_score_is_invariant_to_scaling_both(seed, factor, gain):
    dev = walk(120, seed)
    target = -dev / 0.2 * 1000.0
    net = gain * target + np.random.default_rng(seed).normal(0, 40, 120)
    lower, upper = corridor(target, 1000.0)
    assume(min(np.abs(net - lower).min(), np.abs(net - upper).min()) > 1e-5)  # not on an edge
    one = judged(net, target, dev)
    other = judged(factor * net, factor * target, dev, factor * 1000.0)
    assert other.score == pytest.approx(one.score, rel=1e-9, abs=1e-12)
    assert other.under_seconds == one.under_seconds
    assert other.adequate == one.adequate


@given(target=st.lists(st.floats(-1000, 1000), min_size=1, max_size=80), step_s=st.floats(0.1, 10))
def test_corridor_contains_the_target_and_the_tolerance(target, step_s):
    target = np.array(target)
    lower, upper = corridor(target, 1000.0, step_s)
    assert np.all(lower <= target - 50 + 1e-9)
    assert np.all(upper >= target + 50 - 1e-9)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"capacity_kw": 0.0}, "capacity_kw"),
        ({"target_kw": np.array([np.nan, 0.0])}, "target_kw"),
        ({"net_kw": np.array([np.nan, 0.0])}, "net_kw"),
        ({"net_kw": np.zeros(3)}, "net_kw"),
        ({"step_s": 0.0}, "step_s"),
        ({"slope_band": (1.3, 0.9)}, "slope_band"),
    ],
)
def test_wrong_use_names_the_field(change, field):
    arguments = {
        "net_kw": np.zeros(2),
        "target_kw": np.zeros(2),
        "dev_hz": np.zeros(2),
        "capacity_kw": 1.0,
        "valid": np.ones(2, bool),
    } | change
    with pytest.raises(CorridorError, match=field):
        score(**arguments)


def test_summary_falls_off_on_both_sides():
    assert ce_corridor.summary(0.1, 0.45) == pytest.approx(0.45)
    assert ce_corridor.summary(0.0, 2.6) == pytest.approx(0.5)
    assert ce_corridor.summary(0.0, -1.0) == 0.0
    assert ce_corridor.summary(0.25, None) == 0.75
