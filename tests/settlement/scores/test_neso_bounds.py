"""The response between two bounds: a naive twin, beginnings and gaps, availability, direction, coarse data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.products import load
from settlement.scores import Delivery, judge, neso_bounds
from settlement.scores.neso_bounds import Timing, beginnings, bounds, factor, scoped, score
from settlement.scores.rule import ScoreError
from tests import naive_scores

STEP_S = 0.05
LOW = replace(load("gb_dc_low"), score={"fn": "neso_bounds"})
HIGH = replace(load("gb_dc_high"), score={"fn": "neso_bounds"})


def walk(n, seed, scale=0.02):
    """An expected response that wanders within 0..1, with jumps that the ramp limits catch."""
    rng = np.random.default_rng(seed)
    value = np.cumsum(rng.normal(0, scale, n)) + np.where(rng.random(n) < 0.01, rng.normal(0, 1, n), 0.0).cumsum()
    return np.abs((value % 2.0) - 1.0)


def delivery(response, target, product=LOW, step_s=STEP_S, given_known=None, sold_kw=500.0):
    sign = 1.0 if product.direction == "up" else -1.0
    known = np.ones(target.size, bool) if given_known is None else given_known
    net = np.where(known, sign * sold_kw * response, np.nan)
    return Delivery(net, sign * sold_kw * target, -sign * target, sold_kw, known, step_s)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_bounds_and_error_equal_the_naive_twin(seed):
    rng = np.random.default_rng(seed)
    target = walk(240, seed)
    response = np.clip(target + rng.normal(0, 0.2, 240), 0, 1.2)
    available = rng.random(240) > 0.05
    lower, upper = bounds(target, STEP_S)
    low, high = naive_scores.neso_bounds(target.tolist(), STEP_S)
    np.testing.assert_allclose(lower, low, atol=1e-12)
    np.testing.assert_allclose(upper, high, atol=1e-12)
    assert score(response, target, available, STEP_S).error_frac == pytest.approx(
        naive_scores.neso_error(response.tolist(), target.tolist(), available, STEP_S), abs=1e-12
    )


@given(seed=st.integers(0, 10_000), factor_=st.floats(0.01, 100))
@settings(max_examples=20)
def test_scaling_all_changes_nothing_and_the_score_is_a_share(seed, factor_):
    rng = np.random.default_rng(seed)
    target = walk(200, seed)
    response = target + rng.normal(0, 0.02, 200)
    one = judge(LOW, delivery(response, target))
    other = judge(LOW, delivery(response, target, sold_kw=500.0 * factor_))
    assert 0.0 <= one.score <= 1.0
    assert other.score == pytest.approx(one.score, abs=1e-9)
    mirrored = judge(HIGH, delivery(response, target, HIGH))
    assert mirrored.score == pytest.approx(one.score, abs=1e-9)


@pytest.mark.parametrize("lag", [4, 7, 11])
def test_an_ideal_response_within_the_lag_window_has_no_error(lag):
    target = walk(2000, 3, 0.005)
    response = np.concatenate([np.full(lag, target[0]), target[:-lag]])
    assert score(response, target, np.ones(2000, bool), STEP_S).error_frac <= 0.2  # jumps faster than the ramp
    smooth = 0.5 + 0.4 * np.sin(np.arange(2000) * STEP_S / 3)
    response = np.concatenate([np.full(lag, smooth[0]), smooth[:-lag]])
    assert score(response, smooth, np.ones(2000, bool), STEP_S).error_frac == 0.0


def test_a_second_after_the_beginning_and_after_a_long_gap_is_free():
    known = np.ones(200, bool)
    begun = beginnings(known, STEP_S)
    assert np.flatnonzero(begun).tolist() == list(range(21))  # as the published script counts
    timing = Timing(gap_s=2.0)
    known[50:91] = False  # 2.05 s
    begun = beginnings(known, STEP_S, timing)
    assert np.flatnonzero(begun).tolist() == [*range(21), *range(91, 112)]
    known[50] = True
    assert np.flatnonzero(beginnings(known, STEP_S, timing)).tolist() == list(range(21))


def test_a_response_of_nothing_is_admitted_in_the_first_second_only():
    target = np.ones(60)
    assert score(np.zeros(21), target[:21], np.ones(21, bool), STEP_S).error_frac == 0.0
    assert score(np.zeros(60), target, np.ones(60, bool), STEP_S).error_frac == 1.0


@pytest.mark.parametrize(("error", "k"), [(0.0, 1.0), (0.03, 1.0), (0.04, 0.75), (0.07, 0.0), (1.0, 0.0)])
def test_k(error, k):
    assert factor(error) == pytest.approx(k)


def test_k_of_a_block():
    assert scoped([1.0, 0.5, 0.75], "sp") == [1.0, 0.5, 0.75]
    assert scoped([1.0, 0.5, 0.75], "block") == [0.5, 0.5, 0.5]
    assert scoped([], "block") == []


def test_unavailability_is_not_paid():
    target = np.full(4000, 0.5)
    known = np.ones(4000, bool)
    known[100:104] = False  # 0.1 %, and on the edge
    found = judge(LOW, delivery(target, target, given_known=known))
    assert (found.score, found.kpis["paid"]) == (1.0, True)
    known[104] = False
    found = judge(LOW, delivery(target, target, given_known=known))
    assert (found.score, found.kpis["paid"]) == (0.0, False)
    assert found.note.startswith("not paid")
    lenient = replace(LOW, availability={"least_frac": 0.9})
    assert judge(lenient, delivery(target, target, given_known=known)).score == 1.0


def test_nothing_known_is_no_score():
    found = judge(LOW, delivery(np.zeros(50), np.ones(50), given_known=np.zeros(50, bool)))
    assert found.score is None
    assert found.kpis["available_frac"] == 0.0


def test_coarser_data_are_judged_and_said_to_be():
    """An answer 0.3 s late, as means over seconds."""
    fine = 0.5 + 0.4 * np.sin(np.arange(20_000) * STEP_S / 5)
    late = np.concatenate([np.full(6, fine[0]), fine[:-6]])
    target, response = (row.reshape(-1, 20).mean(axis=1) for row in (fine, late))
    found = judge(LOW, delivery(response, target, step_s=1.0))
    assert found.score == 1.0
    assert "judged at 1 s, the market judges at 0.05 s" in found.note
    assert "judged at" not in judge(LOW, delivery(fine, fine)).note


def test_history_is_not_scored():
    target = np.full(100, 0.5)
    response = np.where(np.arange(100) < 60, 0.0, 0.5)
    one = delivery(response, target)._replace(first=65)
    assert judge(LOW, one).score == 1.0
    assert judge(LOW, one._replace(first=50)).score == 0.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ramp": [0.0, 4.0]}, "ramp"),
        ({"lag": [0.5, 0.2]}, "score.lag"),
        ({"k": [0.05, 0.05]}, "`k`"),
        ({"k_scope": "week"}, "score.k_scope"),
        ({"min_run": "four"}, "score.min_run"),
    ],
)
def test_figures_that_make_no_sense_are_named(change, said):
    product = replace(LOW, score={**LOW.score, **change})
    found = judge(product, delivery(np.ones(60), np.ones(60)))
    assert found.score is None
    assert said in found.note


def test_wrong_use():
    with pytest.raises(ScoreError, match="one length"):
        score(np.zeros(3), np.zeros(4), np.ones(4, bool), STEP_S)
    both = replace(LOW, direction="symmetric")
    assert "field `direction` must be up or down" in judge(both, delivery(np.ones(60), np.ones(60))).note
    assert neso_bounds.reach(LOW).step_s == pytest.approx(0.05)
