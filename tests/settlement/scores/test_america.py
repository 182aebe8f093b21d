"""CAISO, NYISO, ISO-NE, MISO, Texas and the NEM: naive twins, what just passes, what is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.products import load
from settlement.scores import (
    Delivery,
    caiso_accuracy,
    fpp,
    isone_performance,
    judge,
    miso_performance,
    nem_fcas,
    nyiso_performance,
    primary_response,
    reach,
    tracking,
)
from settlement.scores.rule import ScoreError
from tests import naive_scores

BOTH = replace(load("ce_fcr"), id="reg")
UP = replace(BOTH, direction="up")
SEEDS = st.integers(0, 10_000)


def rows(seed, n=60, missing=0.1):
    rng = np.random.default_rng(seed)
    points = np.round(100 * np.sin(np.cumsum(rng.normal(0, 0.2, n))), 3)
    response = points + rng.normal(0, 10, n)
    response[rng.random(n) < missing] = np.nan
    return points, response


def delivery(points, response, step_s=4.0, first=0, dev=None, sold_kw=100.0, last=None):
    known = ~np.isnan(response)
    dev = np.zeros(points.size) if dev is None else dev
    return Delivery(response, points, dev, sold_kw, known, step_s, np.ones(points.size, bool), known, first, last)


@given(seed=SEEDS)
def test_caiso_equals_its_twin(seed):
    points, response = rows(seed)
    points[seed % 60] = np.nan
    found = caiso_accuracy.accuracy(points, response, 7.0)
    value, moved = naive_scores.caiso(points.tolist(), response.tolist(), 7.0)
    assert (found.accuracy, found.mileage_kw) == (pytest.approx(value), pytest.approx(moved))


def test_caiso_up_and_down_are_apart():
    points = np.array([10.0, 10.0, -10.0, -10.0, 0.0])
    response = np.array([10.0, 5.0, -10.0, -8.0, -3.0])
    found = judge(replace(BOTH, score={"fn": "caiso_accuracy"}), delivery(points, response))
    assert found.kpis["accuracy_up"] == pytest.approx(0.75)
    assert found.kpis["accuracy_down"] == pytest.approx(1 - 5 / 20)
    assert found.score == pytest.approx(0.75)
    assert found.kpis["mileage_up_kw"] == 10.0
    assert found.kpis["mileage_down_kw"] == 20.0
    one = judge(replace(UP, score={"fn": "caiso_accuracy"}), delivery(4 * np.abs(points), response))
    assert set(one.kpis) == {"accuracy_up", "mileage_up_kw"}
    # Sold one way, power the other way is an error of this way.
    wrong = delivery(np.full(4, 10.0), np.array([10.0, 10.0, 10.0, -2.0]))
    assert judge(replace(UP, score={"fn": "caiso_accuracy"}), wrong).score == pytest.approx(0.7)


def test_caiso_periods_and_the_change_into_the_interval():
    rule = replace(UP, score={"fn": "caiso_accuracy", "period_s": 8.0})
    points = np.array([5.0, 10.0, 10.0, 0.0, 40.0])
    response = np.array([0.0, 5.0, 5.0, 0.0, 40.0])
    found = judge(rule, delivery(points, response, first=1))
    # 10, 10 | 0, 40: half of the first, all of the second, weighted by what was asked.
    assert found.score == pytest.approx((0.5 * 20 + 1.0 * 40) / 60)
    assert found.kpis["mileage_up_kw"] == 5 + 0 + 10 + 40
    # A wrong period does not spoil the other.
    bad = judge(rule, delivery(points, np.array([0.0, -50.0, -50.0, 0.0, 40.0]), first=1))
    assert bad.score == pytest.approx(40 / 60)


def test_caiso_missing_telemetry_counts_as_nothing():
    points = np.full(10, 20.0)
    response = np.where(np.arange(10) < 5, 20.0, np.nan)
    rule = replace(UP, score={"fn": "caiso_accuracy"})
    assert judge(rule, delivery(points, response)).score == pytest.approx(0.5)
    assert judge(rule, delivery(0 * points, response * 0)).note.startswith("nothing was asked")


@given(seed=SEEDS, lag=st.integers(0, 6))
def test_tracking_equals_its_twin(seed, lag):
    points, response = rows(seed)
    wanted = naive_scores.tracking(points.tolist(), response.tolist(), 50.0, lag)
    np.testing.assert_allclose(tracking.errors_pu(points, response, 50.0, lag), wanted, atol=1e-12)


def test_nyiso_and_isone():
    points = np.full(20, 50.0)
    for fn, shares in (("nyiso_performance", (1.0, 1.0, 0.9)), ("isone_performance", (1.0, 0.92, 0.82))):
        rule = replace(BOTH, score={"fn": fn})
        for short, wanted in zip((0.0, 10.0, 20.0), shares, strict=True):
            found = judge(rule, delivery(points, points - short, reach(rule).step_s))
            assert found.score == pytest.approx(wanted)
            assert "[M]" in found.note
    silent = np.where(np.arange(20) < 10, 50.0, np.nan)
    assert judge(replace(BOTH, score={"fn": "nyiso_performance"}), delivery(points, silent)).score == pytest.approx(0.6)
    assert nyiso_performance.index(np.zeros(0)) is None
    assert isone_performance.performance(np.full(3, 2.0)) == 0.0
    with pytest.raises(ScoreError, match="capacity_kw"):
        tracking.errors_pu(points, points, 0.0, 1)


def test_a_set_point_of_the_lag_may_still_be_answered():
    points = np.array([0.0, 0.0, 100.0, 100.0, 100.0, 100.0])
    late = np.array([0.0, 0.0, 0.0, 0.0, 100.0, 100.0])
    assert tracking.errors_pu(points, late, 100.0, 2).tolist() == [0.0] * 6
    assert tracking.errors_pu(points, late, 100.0, 1).tolist() == [0, 0, 0, 1, 0, 0]


@given(seed=SEEDS, lag=st.integers(0, 4))
def test_miso_equals_its_twin(seed, lag):
    points, response = rows(seed)
    instructed, done = miso_performance.made(points, response, lag)
    wanted = naive_scores.miso(points.tolist(), response.tolist(), lag)
    assert (np.nansum(instructed), np.nansum(done)) == (pytest.approx(wanted[0]), pytest.approx(wanted[1]))


def test_miso_in_a_product():
    rule = replace(BOTH, score={"fn": "miso_performance"})
    points = np.array([0.0, 10.0, 20.0, 10.0, 10.0])
    assert judge(rule, delivery(points, points)).score == 1.0
    assert judge(rule, delivery(points, 0.4 * points)).score == pytest.approx(0.4)
    assert judge(rule, delivery(points, -points)).score == 0.0
    assert judge(rule, delivery(points, points, first=2)).kpis["instructed_mileage_kw"] == 20.0
    assert judge(rule, delivery(np.full(5, 3.0), points)).note == "no movement was instructed"
    late = replace(rule, score={"fn": "miso_performance", "lag_s": 4.0})
    shifted = np.array([0.0, 0.0, 10.0, 20.0, 10.0])
    assert judge(late, delivery(points, shifted, last=4)).score == 1.0
    assert reach(late).tail_s == 4


# ---- NEM ---------------------------------------------------------------------------------------------------


@given(seed=SEEDS, start=st.floats(0, 5), length=st.floats(0.1, 20))
def test_mass_average_equals_its_twin(seed, start, length):
    power = np.random.default_rng(seed).normal(0, 1, 100)
    got = nem_fcas.average(power, 0.2, 3.3, start, start + length)
    assert got == pytest.approx(naive_scores.mass_average(power.tolist(), 0.2, 3.3, start, start + length), abs=1e-9)


def ramp_event(step_s=0.05, gain=1.0, at_s=20.0, seconds=120.0):
    """The frequency falls on the standard ramp and stays; the answer is proportional and at once."""
    t = step_s * (np.arange(round(seconds / step_s)) + 0.5)
    dev = -np.clip(0.125 * (t - at_s), 0.0, 0.5)
    return gain * 100.0 * -dev / 0.5, dev


def fcas(power, dev, service="R6", step_s=0.05, known=None, **more):
    direction = "up" if service[0] == "R" else "down"
    rule = replace(UP, direction=direction, score={"fn": "nem_fcas", "service": service, **more})
    net = power if known is None else np.where(known, power, np.nan)
    return judge(rule, delivery(power, net, step_s, dev=dev))


def test_the_origin_is_where_the_band_is_left_or_where_the_ramp_begins():
    power, dev = ramp_event()
    late, early = fcas(power, dev), fcas(power, dev, origin="ramp")
    assert early.kpis["window_1_kw"] == pytest.approx(155.0, abs=1.0)  # MASS-2
    assert late.kpis["window_1_kw"] == pytest.approx(2 * (100 - 25 * (2.8 - 1) ** 2 / 2 / 5), abs=1.0)
    assert late.score == 1.0
    assert fcas(0.6 * power, dev).score == pytest.approx(0.6)
    assert fcas(0.6 * power, dev).kpis["quantity_kw"] == pytest.approx(60.0)


def test_lower_is_the_mirror_of_raise():
    power, dev = ramp_event()
    assert fcas(-0.6 * power, -dev, "L6").score == pytest.approx(0.6)
    assert fcas(power, dev, "L6").note.startswith("no disturbance")
    assert fcas(-power, dev).score == 0.0


def test_windows_of_the_other_services():
    power, dev = ramp_event(1.0, 0.5, 20.0, 700.0)
    for service in ("R60", "R5"):
        assert fcas(power, dev, service, 1.0).score == pytest.approx(0.5 if service == "R5" else 1.0, abs=0.01)
    assert fcas(power, dev, "R6", 1.0, windows=[[10.0, 20.0, 1.0]], peak=False).score == pytest.approx(0.5)
    assert "score.windows" in fcas(power, dev, "R6", 1.0, windows=[[1.0]]).note
    assert "score.service" in fcas(power, dev, "R7", 1.0).note
    tails = {s: reach(replace(UP, score={"fn": "nem_fcas", "service": s})).tail_s for s in ("R1", "R6", "R60", "R5")}
    assert tails == {"R1": 6, "R6": 60, "R60": 300, "R5": 600}


def test_unknown_power_is_none_and_no_disturbance_is_no_score():
    power, dev = ramp_event()
    known = np.ones(power.size, bool)
    known[700:1500] = False
    assert fcas(power, dev, known=known).score < 0.8
    assert fcas(power, 0.2 * dev).score is None
    assert fcas(power, 0.2 * dev).kpis["disturbances"] == 0
    assert fcas(power, dev, known=np.zeros(power.size, bool)).note.startswith("no telemetry")
    # Silent for just the disturbance: that is no undisturbed interval.
    calm = np.zeros(2 * power.size)
    late = np.concatenate([np.zeros(power.size), dev])
    silent = fcas(calm, late, known=np.arange(calm.size) < power.size)
    assert (silent.score, silent.kpis["disturbances"]) == (0.0, 1)


def test_one_disturbance_is_counted_once_and_the_least_counts():
    power, dev = ramp_event(0.5, 1.0, 10.0, 90.0)
    ripple = dev.copy()
    ripple[60] = 0.0  # back inside for half a second
    assert fcas(power, ripple, step_s=0.5).kpis["disturbances"] == 1
    two = fcas(np.concatenate([power, 0.3 * power]), np.concatenate([dev, dev]), step_s=0.5)
    assert two.kpis["disturbances"] == 2
    assert two.score == pytest.approx(0.3)


# ---- frequency performance payments ------------------------------------------------------------------------


@given(seed=SEEDS)
def test_fpp_equals_its_twin(seed):
    deviation, response = rows(seed)
    found = fpp.performance(response, deviation / 1000)
    wanted = naive_scores.fpp(response.tolist(), (deviation / 1000).tolist())
    assert tuple(found) == pytest.approx(wanted)


def test_fpp_in_a_product():
    rule = replace(BOTH, score={"fn": "fpp", "region_negative": 50.0})
    dev = np.array([-0.1, -0.1, 0.1, 0.1])
    net = np.array([100.0, 100.0, -50.0, 50.0])
    found = judge(rule, delivery(net, net, dev=dev))
    assert found.kpis["raise_kw_hz"] == pytest.approx(20.0)
    assert found.kpis["lower_kw_hz"] == pytest.approx(0.0)
    assert found.kpis["contribution_factor"] == pytest.approx(0.4)
    assert found.score == pytest.approx(25 / 30)
    deaf = judge(rule, delivery(net, net, dev=np.full(net.size, np.nan)))
    assert deaf.score is None
    assert deaf.note.startswith("no frequency on record")
    silent = judge(rule, delivery(net, net, dev=dev)._replace(net_kw=np.full(net.size, np.nan)))
    assert silent.note == "no cell in which frequency and delivery are known"
    unknown = judge(replace(BOTH, score={"fn": "fpp"}), delivery(net, net, dev=dev))
    assert unknown.kpis["contribution_factor"] is None
    with pytest.raises(ScoreError, match="region_negative"):
        fpp.contribution(1.0, 0.0)


def test_the_frequency_measure_is_filtered():
    got = fpp.measure(np.array([0.0, -0.1, -0.1, np.nan]), 4.0, 4.0 / np.log(2))
    assert got == pytest.approx([0.0, 0.05, 0.075, 0.0375])


# ---- primary response --------------------------------------------------------------------------------------


def texas(gain=1.0, step_s=2.0):
    dev = np.where(np.arange(60) < 20, 0.0, -0.1)
    target = -1000.0 * dev
    return gain * target + 5.0, target, dev


@given(seed=SEEDS)
@settings(max_examples=30)
def test_an_event_equals_its_twin(seed):
    rng = np.random.default_rng(seed)
    target, response = rng.normal(0, 10, 60), rng.normal(0, 10, 60)
    response[rng.random(60) < 0.2] = np.nan
    got = primary_response.event(response, target, 20, 2.0)
    wanted = naive_scores.primary(response.tolist(), target.tolist(), 20, 2.0)
    assert got.score == pytest.approx(wanted)


@pytest.mark.parametrize(("gain", "score"), [(1.0, 1.0), (0.6, 0.6), (1.4, 1.0), (-0.5, 0.0)])
def test_primary_response_in_a_product(gain, score):
    response, target, dev = texas(gain)
    rule = replace(BOTH, score={"fn": "primary_response"})
    found = judge(rule, delivery(target, response, 2.0, dev=dev))
    assert found.score == pytest.approx(score)
    assert found.kpis["events"] == 1
    assert judge(rule, delivery(target, response, 2.0, dev=0.5 * dev)).note.startswith("no event")
    silent = np.where(np.arange(60) < 35, response, np.nan)
    short = judge(rule, delivery(target, silent, 2.0, dev=dev)).score
    assert short < score or score == 0.0 or gain > 1


def test_rolling():
    assert primary_response.rolling([0.0] + [1.0] * 8) == 1.0
    assert primary_response.rolling([0.5, 1.0]) == 0.75
    assert primary_response.rolling([]) is None
