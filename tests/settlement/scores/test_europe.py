"""aFRR, Nordic FCR in operation, fast reserves, availability: naive twins, edges of each criterion, what is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.products import load
from droop.promises import Trigger
from settlement.scores import Delivery, afrr_tolerance, availability, ffr, judge, nordic_fcr, reach
from settlement.scores.ffr import Demand
from settlement.scores.rule import ScoreError
from tests import naive_scores

AFRR = replace(load("ce_fcr"), id="afrr", full_s=300.0, score={"fn": "afrr_tolerance"})
NORDIC = replace(load("nordic_fcr_n"), score={"fn": "nordic_fcr"})
FFR = replace(
    load("gb_dc_low"), id="ffr", full_s=1.3, score={"fn": "ffr"},
    trigger=Trigger(hz=49.7, hold_s=5.0, fall_pu_s=0.2, fall_step_pu=0.2, ready_s=900.0),
)  # fmt: skip
SEEDS = st.integers(0, 10_000)


def delivery(response, target, step_s=1.0, sold_kw=100.0, dev=None, first=0, last=None):
    known = ~np.isnan(response)
    dev = np.zeros(response.size) if dev is None else dev
    asked = np.ones(response.size, bool)
    return Delivery(response, target, dev, sold_kw, known, step_s, asked, known, first, last)


# ---- aFRR --------------------------------------------------------------------------------------------------


@given(seed=SEEDS)
@settings(max_examples=40)
def test_afrr_equals_its_twin(seed):
    rng = np.random.default_rng(seed)
    points = np.repeat(rng.uniform(-100, 100, 8), 10)
    way = afrr_tolerance.trajectory(points, 100.0, 4.0)
    response = way + rng.normal(0, 8, 80)
    response[rng.random(80) < 0.1] = np.nan
    found = afrr_tolerance.score(response, points, 100.0, 4.0)
    assert tuple(found) == pytest.approx(naive_scores.afrr(response.tolist(), points.tolist(), 100.0))


def test_the_slowest_and_the_fastest_way_are_inside():
    points = np.repeat([0.0, 100.0, 20.0, -60.0], 40)
    way = afrr_tolerance.trajectory(points, 100.0, 4.0)
    for response in (way, points, (way + points) / 2, way + 5.0, points - 5.0):
        assert afrr_tolerance.score(response, points, 100.0, 4.0).inside_frac == 1.0
    slower = afrr_tolerance.trajectory(points, 50.0, 4.0)
    assert afrr_tolerance.score(slower, points, 100.0, 4.0).under_frac > 0.2
    over = afrr_tolerance.score(points + 5.1, points, 100.0, 4.0)
    assert over.over_frac > 0.2


def test_afrr_in_a_product():
    points = np.full(300, 100.0)
    found = judge(AFRR, delivery(0.9 * points, points, 4.0, first=75))
    assert found.score == 0.0
    assert found.kpis["under_frac"] == 1.0
    silent = np.where(np.arange(300) < 255, points, np.nan)
    assert judge(AFRR, delivery(silent, points, 4.0, first=75)).score == pytest.approx(180 / 225)
    assert reach(AFRR).lead_s == 300
    # Where the expected power is the slowest way, the set point itself may still be given at once.
    way = afrr_tolerance.trajectory(points, 100.0, 4.0)
    both = delivery(points, way, 4.0)._replace(set_point_kw=points)
    assert judge(AFRR, both).score == 1.0
    assert judge(AFRR, both._replace(set_point_kw=None)).score < 1.0
    quick = replace(AFRR, score={"fn": "afrr_tolerance", "fat_s": 40.0, "tol_pu": 0.2})
    assert reach(quick).lead_s == 40
    assert judge(quick, delivery(0.9 * points, points, 4.0, first=75)).score == 1.0
    with pytest.raises(ScoreError, match="full_s"):
        afrr_tolerance.trajectory(points, 100.0, 4.0, 0.0)


# ---- Nordic FCR in operation -------------------------------------------------------------------------------


@given(seed=SEEDS, settle=st.integers(0, 10), average=st.integers(1, 8))
@settings(max_examples=60)
def test_nordic_equals_its_twin(seed, settle, average):
    rng = np.random.default_rng(seed)
    target = 100.0 * np.sin(np.cumsum(rng.normal(0, 0.15, 60)))
    response = target * rng.uniform(0.8, 1.3) + rng.normal(0, 4, 60)
    response[rng.random(60) < 0.1] = np.nan
    asked = rng.random(60) < 0.9
    for known in (None, asked):
        found = nordic_fcr.score(response, target, 100.0, settle, average=average, asked=known, counted=known)
        rows = response.tolist(), target.tolist()
        told = naive_scores.nordic(*rows, 100.0, settle, average, asked=known, counted=known)
        assert tuple(found) == pytest.approx(told)


@given(seed=SEEDS, average=st.integers(1, 12))
@settings(max_examples=30)
def test_who_gives_what_is_asked_is_inside_whatever_else_is_unknown(seed, average):
    """A run's beginning and silences on either side leave the two means over the same cells."""
    rng = np.random.default_rng(seed)
    target = 100.0 * np.sin(np.cumsum(rng.normal(0, 0.3, 80)))
    asked, given_known = rng.random(80) < 0.8, rng.random(80) < 0.8
    asked[:20] = given_known[:20] = False
    response = np.where(given_known, target, np.nan)
    held = np.where(asked, target, 0.0)
    found = nordic_fcr.score(response, held, 100.0, 0, asked & given_known, average=average, asked=asked)
    assert found.inside_frac == 1.0


@pytest.mark.parametrize(
    ("asked", "given_kw", "part"),
    [
        (100.0, 95.0, "inside"), (100.0, 94.9, "under"), (100.0, 120.0, "inside"), (100.0, 120.1, "over"),
        (0.0, 5.0, "inside"), (0.0, -5.0, "inside"), (0.0, 5.1, "over"), (0.0, -5.1, "over"),
        (50.0, 45.0, "inside"), (50.0, 44.9, "under"), (50.0, 62.5, "inside"), (50.0, 62.6, "over"),
        (-100.0, -95.0, "inside"), (-100.0, -94.9, "under"), (-100.0, -120.0, "inside"), (-100.0, -120.1, "over"),
        (100.0, -5.0, "under"), (-100.0, 100.0, "under"),
    ],
)  # fmt: skip
def test_the_steady_state_tolerance(asked, given_kw, part):
    found = nordic_fcr.score(np.full(9, given_kw), np.full(9, asked), 100.0, 3)
    assert getattr(found, f"{part}_frac") == 1.0


def test_what_was_asked_a_moment_ago_may_still_be_answered():
    target = np.where(np.arange(60) < 20, 0.0, 100.0)
    late = np.where(np.arange(60) < 40, 0.0, 100.0)
    assert nordic_fcr.score(late, target, 100.0, 20).inside_frac == 1.0
    assert nordic_fcr.score(late, target, 100.0, 19).inside_frac == pytest.approx(59 / 60)


def test_nordic_in_a_product():
    target = np.full(200, 80.0)
    response = np.where(np.arange(200) < 150, 80.0, np.nan)
    found = judge(NORDIC, delivery(response, target, first=100))
    assert found.score == pytest.approx(0.5)
    assert found.kpis["under_frac"] == pytest.approx(0.5)
    narrow = replace(NORDIC, score={"fn": "nordic_fcr", "ss_tol": [-0.01, 0.01]})
    assert judge(narrow, delivery(1.02 * target, target)).kpis["over_frac"] == 1.0
    assert (
        "score.ss_tol"
        in judge(replace(NORDIC, score={"fn": "nordic_fcr", "ss_tol": [0.1]}), delivery(target, target)).note
    )
    slow = replace(NORDIC, full_s=60.0, score={"fn": "nordic_fcr", "average_s": 30.0})
    assert reach(slow).lead_s == 90


@given(seed=SEEDS, factor=st.floats(0.01, 100))
@settings(max_examples=20)
def test_scaling_both_changes_nothing(seed, factor):
    rng = np.random.default_rng(seed)
    target = 100.0 * np.sin(np.cumsum(rng.normal(0, 0.15, 80)))
    response = target + rng.normal(0, 15, 80)
    for rule in (NORDIC, AFRR):
        one = judge(rule, delivery(response, target))
        other = judge(rule, delivery(factor * response, factor * target, sold_kw=100.0 * factor))
        assert other.score == pytest.approx(one.score, abs=1e-9)


# ---- fast reserves -----------------------------------------------------------------------------------------

STEP_S = 0.1
START = 100


def activation(full_after_s=1.3, hold_s=5.0, level=1.0, fall_pu_s=0.2, n=400):
    """Nothing, then full after so long, held, and let go at a rate; in units of the capacity."""
    t = STEP_S * (np.arange(n) - START)
    up = np.where(t >= full_after_s - 1e-9, level, 0.0)
    down = np.clip(level - fall_pu_s * (t - full_after_s - hold_s), 0.0, level)
    return np.minimum(up, down)


def dip(hz=49.69, seconds=5.0, n=400):
    t = STEP_S * (np.arange(n) - START)
    return np.where((t >= 0) & (t < seconds), hz - 50.0, 0.0)


def judged(response, dev=None, rule=FFR, **more):
    dev = dip(n=response.size) if dev is None else dev
    return judge(rule, delivery(100.0 * response, 0.0 * response, STEP_S, dev=dev, **more))


def test_a_good_activation():
    found = judged(activation())
    assert (found.score, found.kpis["adequate"]) == (1.0, True)
    assert found.kpis["full_after_s"] == pytest.approx(1.3)
    assert found.kpis["fall_pu_s"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("response", "score", "broken"),
    [
        (activation(full_after_s=1.5), 48 / 50, "held_frac"),
        (activation(hold_s=4.0, fall_pu_s=0.2), None, "held_frac"),
        (activation(level=0.94), 0.0, "held_frac"),
        (activation(level=1.36), 1.0, "over_frac"),
        (activation(fall_pu_s=0.3), 1.0, "fall_pu_s"),
        (activation(fall_pu_s=20.0), 1.0, "fall_step_pu"),
        (0.0 * activation(), 0.0, "held_frac"),
    ],
)
def test_each_criterion_fails_alone(response, score, broken):
    found = judged(response)
    assert found.kpis["adequate"] is False
    assert found.note.startswith("inadequate")
    if score is not None:
        assert found.score == pytest.approx(score)
    good = {"held_frac": 1.0, "over_frac": 0.35, "fall_pu_s": 0.2, "fall_step_pu": 0.2}
    assert (found.kpis[broken] < 1.0) if broken == "held_frac" else (found.kpis[broken] > good[broken])


def test_recovery_is_late_and_gentle():
    response = activation(n=600)
    at = START + round((1.3 + 5.0 + 5.0) / STEP_S)
    response[at + 20 : at + 60] = -0.2
    assert judged(response).kpis["recovery_early"] is True
    response[at + 20 : at + 60] = 0.0
    response[at + 102 : at + 140] = -0.2
    assert judged(response).kpis["adequate"] is True
    response[at + 102 : at + 140] = -0.3
    assert judged(response).kpis["adequate"] is False


@given(seed=SEEDS)
@settings(max_examples=30)
def test_support_equals_its_twin(seed):
    rng = np.random.default_rng(seed)
    response, known = rng.uniform(0.8, 1.1, 200), rng.random(200) > 0.1
    found = ffr.activation(response, known, 50, STEP_S, Demand(1.3, 5.0))
    assert found.held_frac == naive_scores.support(response, known, 50, STEP_S, 1.3, 5.0, 0.05)


def test_what_is_not_measured_did_not_support():
    response = activation()
    response[START + 20 : START + 30] = np.nan
    assert judged(response).score == pytest.approx(0.8)


def test_no_trigger_no_score():
    found = judged(activation(), dip(hz=49.701))
    assert found.score is None
    assert found.note == "not triggered: the frequency did not pass 49.7 Hz"
    assert judged(activation(), dip(hz=49.7)).score == 1.0  # on the threshold
    slow = replace(FFR, trigger=replace(FFR.trigger, after_s=2.0))
    assert judged(activation(), dip(seconds=1.9), slow).score is None
    assert judged(activation(), dip(seconds=2.2), slow).score == 1.0
    assert "needs the table `trigger`" in judged(activation(), rule=replace(FFR, trigger=None)).note


def test_none_other_is_promised_before_it_is_ready_again():
    passed = np.zeros(3000, bool)
    passed[[100, 500, 2500]] = True
    assert ffr.activations(passed, 0, 900) == [100, 2500]
    assert ffr.activations(passed, 1, 900) == []


def test_an_interval_judges_what_lies_in_it():
    response = activation()
    response[START + 40 : START + 50] = 0.0  # a hole late in the support
    whole = judged(response)
    assert whole.score == pytest.approx(0.8)
    early = judged(response, last=START + 30)
    late = judged(response, first=START + 30)
    assert (early.score, late.score) == (1.0, pytest.approx(1 - 10 / 33))
    assert judged(response, last=START + 5).score is None
    assert judged(response, last=START + 5).kpis["activations"] == 1
    assert reach(FFR).lead_s >= 900 + 5 + 1
    assert reach(FFR).tail_s == 0


def test_the_other_direction_and_coarser_data():
    down = replace(FFR, direction="down", trigger=replace(FFR.trigger, hz=50.3))
    assert judge(down, delivery(-100.0 * activation(), np.zeros(400), STEP_S, dev=-dip(49.69))).score == 1.0
    assert judge(down, delivery(100.0 * activation(), np.zeros(400), STEP_S, dev=-dip(49.69))).score == 0.0
    coarse = activation(hold_s=9.0).reshape(-1, 10).mean(axis=1)
    found = judge(FFR, delivery(100.0 * coarse, np.zeros(40), 1.0, dev=dip().reshape(-1, 10).mean(axis=1)))
    assert found.score == 1.0
    assert "judged at 1 s" in found.note


# ---- availability ------------------------------------------------------------------------------------------


def test_what_was_maintained():
    found = availability.maintained(np.array([100.0, 120.0, 50.0, np.nan]), 100.0)
    assert found == (0.5, pytest.approx(0.625), 0.25)
    assert availability.maintained(np.zeros(0), 1.0) == (None, None, 0.0)
    assert availability.maintained(np.array([-5.0]), 100.0).capacity_frac == 0.0
    with pytest.raises(ScoreError, match="sold_kw"):
        availability.maintained(np.ones(3), 0.0)


def test_paid_or_not():
    assert availability.paid(0.999)
    assert not availability.paid(0.9989)
    assert availability.share(np.array([True, False])) == 0.5
    assert availability.share(np.zeros(0, bool)) is None
    with pytest.raises(ScoreError, match="least_frac"):
        availability.least_of(replace(FFR, availability={"least_frac": 99.9}))
