"""Nordic FCR in time: an ideal unit passes, each fault fails its requirement, slow twins agree on every integral."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.products import load
from settlement import prequalification as pq
from settlement.prequalification import nordic_time
from settlement.prequalification.nordic_time import Limits
from settlement.prequalification.recording import Trace
from tests.settlement.prequalification import naive_nordic as naive
from tests.settlement.prequalification.plants import SOLD_KW, failed, failed_in, played

UP, DOWN, N = load("nordic_fcr_d_up"), load("nordic_fcr_d_down"), load("nordic_fcr_n")
SHORT = pq.Options(hold_s=300.0)
RAMPS = {"plans": ["nordic_fcr_d_ramps"]}


def judged(product=UP, part="ramps", options=SHORT, **plant):
    plan = pq.plan_of(product, options).only([part])
    return pq.judge(product, plan, played(product, plan, **plant), SOLD_KW, options)


def measured(found, name, part=None):
    return next(row.measured for row in found.rows if row.id == name and part in (None, row.part))


def beyond_clamp(t_s, value, dt):
    """FCR-D that goes on linearly beyond 49.5 Hz, as it may."""
    return np.maximum((49.9 - value) / 0.4, 0.0)


@pytest.mark.parametrize("product", [UP, DOWN])
def test_an_ideal_unit_passes_the_ramps(product):
    found = judged(product)
    assert failed(found) == set()
    assert (found.passed, found.qualified_kw) == (True, SOLD_KW)
    assert measured(found, "Req. 2") == pytest.approx(1.0)
    assert measured(found, "Req. 3") == pytest.approx(7.5 - 0.4 / 0.24 / 2, abs=2e-3)


@pytest.mark.parametrize("product", [UP, DOWN])
@pytest.mark.parametrize(
    ("fault", "wanted", "share"),
    [
        ({"delay_s": 2.5}, set(), 1.0),
        ({"delay_s": 3.6}, {"Req. 3", "Req. 4"}, 0.0),  # 6.667 - 3.6 s; little at the nadir, and all that follows
        ({"delay_s": 5.5}, {"Req. 3", "Req. 4", "K_red"}, 0.0),
        ({"delay_s": 6.5}, {"Req. 2", "Req. 3", "Req. 4", "K_red"}, 0.0),
        ({"gain": 0.96}, set(), 1.0),
        ({"gain": 0.90}, {"Req. 1", "endurance"}, 0.9 / 0.95),
        ({"gain": 0.80}, {"Req. 1", "Req. 2", "endurance"}, 0.80 / 0.95),
        ({"gain": 0.70}, {"Req. 1", "Req. 2", "endurance", "K_red"}, 0.0),
        ({"gain": 1.25}, {"Req. 1"}, 0.0),  # too much is not mended by selling less
        ({"ramp_pu_s": 1 / 8.5}, set(), 1.0),  # 0.88 after 7.5 s, 3.31 s of energy
        ({"ramp_pu_s": 1 / 9.0}, {"Req. 2", "Req. 3"}, 0.833 / 0.86),
    ],
)
def test_a_fault_fails_its_requirement(product, fault, wanted, share):
    found = judged(product, **fault)
    assert failed(found) == wanted
    assert found.qualified_kw == pytest.approx(SOLD_KW * share, rel=2e-3)


def test_a_unit_that_leaks_after_7_5_s_fails_there_alone():
    def leaky(t_s, y):
        return np.where((t_s > 690 + 20) & (t_s < 750), y - 0.1, y)

    assert failed_in(judged(change=leaky)) == {("Req. 2, kept", "ramp 5")}
    assert failed(judged(change=lambda t_s, y: np.where((t_s > 690 + 20) & (t_s < 750), y - 0.005, y))) == set()


def test_a_slow_deactivation_fails_requirement_4():
    def clinging(t_s, y):
        return np.where((t_s > 34.9) & (t_s < 41), np.maximum(y, 1.0), y)

    found = judged(change=clinging)
    assert failed_in(found) == {("Req. 4", "ramps 1, 2")}
    # Half the power for 6.6 s from the nadir at 34.4 s, and a little before and behind.
    assert measured(found, "Req. 4") == pytest.approx(0.5 * 6.6, abs=0.06)


def test_a_slow_unit_that_starts_late_is_judged_by_what_it_gave_at_the_nadir():
    """Little at the nadir lowers the floor: what comes after it counts in full."""
    found = judged(delay_s=3.0, tau_s=2.0)
    assert measured(found, "Req. 4") > measured(judged(), "Req. 4")


def test_endurance_is_judged_to_the_end_of_the_hold():
    def empties(t_s, y):
        return np.where((t_s > 300) & (t_s < 330), 0.5 * y, y)

    assert failed_in(judged(change=empties)) == {("endurance", "ramp 3")}
    assert judged(change=empties).qualified_kw == 0.0


def test_a_unit_that_goes_on_beyond_the_clamp_passes():
    found = judged(answer=beyond_clamp)
    assert failed(found) == set()
    assert measured(found, "Req. 4") == pytest.approx(0.625 * 0.5 + 0.625**2 / 2 / 0.225, abs=2e-3)


def test_ramps_7_and_8_judge_the_share_of_fcr_d():
    product = replace(UP, prequalification=RAMPS | {"combined": True})
    assert failed(judged(product)) == set()
    found = judged(product, change=lambda t_s, y: np.where(t_s > 820, 0.9 * y, y))
    assert failed_in(found) == {("Req. 1", "ramp 7")}
    assert len([row for row in found.rows if row.id == "Req. 1"]) == 3


def test_the_file_sets_the_limits():
    strict = replace(
        UP, prequalification=RAMPS | {"p75": 0.99, "e75_s": 6.9, "deact": {"max_s": 0.5}, "k_red_min": 0.99}
    )
    assert failed(judged(strict, tau_s=2.0)) == {"Req. 2", "Req. 3", "Req. 4", "K_red"}
    assert nordic_time.limits_of(strict, 0.75) == Limits(0.99, 6.9, 4.4, 0.5, 40.0, 0.99)
    with pytest.raises(pq.PrequalificationError, match=r"field `prequalification\.deact\.max_s` takes a number"):
        judged(replace(UP, prequalification=RAMPS | {"deact": {"max_s": "2.5"}}))
    with pytest.raises(pq.PrequalificationError, match=r"field `prequalification\.deact` takes a table"):
        judged(replace(UP, prequalification=RAMPS | {"deact": 2.5}))


# ---- FCR-N ------------------------------------------------------------------------------------------------------


def test_an_ideal_unit_passes_the_steps_of_fcr_n():
    found = judged(N, "steps")
    assert failed(found) == set()
    assert [row.part for row in found.rows if row.id == "Req. 1"] == ["steps, 49.9 Hz", "steps, 50.1 Hz"]


@pytest.mark.parametrize(
    ("gain", "wanted", "share"),
    [
        (0.95, set(), 1.0),
        (0.94, {"Req. 1", "endurance"}, 0.94 / 0.95),
        (0.86, {"Req. 1", "endurance"}, 0.86 / 0.95),
        (0.85, {"Req. 1", "endurance", "K_red"}, 0.0),  # K_ss 0.895 is below 0.9
        (1.20, set(), 1.0),
        (1.21, {"Req. 1"}, 0.0),
    ],
)
def test_steady_state_of_fcr_n(gain, wanted, share):
    found = judged(N, "steps", gain=gain)
    assert failed(found) == wanted
    assert found.qualified_kw == pytest.approx(SOLD_KW * share)


def test_either_direction_of_fcr_n_is_judged():
    def weak(t_s, y):
        return np.where(y < 0, 0.8 * y, y)

    assert failed_in(judged(N, "steps", change=weak)) == {
        ("Req. 1", "steps, 50.1 Hz"), ("endurance", "steps, 50.1 Hz"), ("K_red", "all"),
    }  # fmt: skip


def test_a_drift_between_the_rests_is_taken_out():
    """P_ss0 and P_ss3 are averaged: a steady drift of the baseline tilts neither way by more than half of it."""
    found = judged(N, "steps", change=lambda t_s, y: y + 0.1 * t_s / t_s[-1])
    up, down = (measured(found, "Req. 1", f"steps, {hz} Hz") for hz in (49.9, 50.1))
    rest = 0.5 * (0.1 * 330 / 1260 + 0.1 * 1230 / 1260)
    assert (up, down) == pytest.approx((0.1 * 630 / 1260 - rest, rest - 0.1 * 930 / 1260), abs=1e-3)


# ---- twins -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.3), st.floats(0.2, 4.0))
def test_the_integrals_agree_with_their_slow_twins(seed, noise, tau_s):
    rng = np.random.default_rng(seed)
    t_s = np.arange(0.0, 120.0, 0.1)
    shape = np.interp(t_s, [30, 30 + tau_s, 60, 60 + 2 * tau_s], [0, rng.uniform(0.2, 1.3), 1, 0])
    p = Trace(t_s, shape + rng.normal(0.0, noise, t_s.size) + rng.uniform(-1, 1))
    t, y, ramp_s = t_s.tolist(), p.y.tolist(), 30.0

    risen = Trace(t_s, p.y - p.mean(20.0, 30.0))
    assert risen.at(37.5) == pytest.approx(naive.requirement_2(t, y, ramp_s), abs=1e-9)
    assert risen.integral(30.0, 37.5) == pytest.approx(naive.requirement_3(t, y, ramp_s), abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_requirement_4_agrees_with_its_slow_twin(seed):
    rng = np.random.default_rng(seed)
    t_s = np.arange(0.0, 80.0, 0.25)
    y = np.interp(t_s, [30, 32, 40, 44], [0, rng.uniform(0.2, 1.3), 1, 0]) + rng.normal(0, 0.1, t_s.size)
    wanted = naive.requirement_4(t_s.tolist(), y.tolist(), 30.0)
    assert nordic_time.deactivation_s(Trace(t_s, y), 30.0, Limits()) == pytest.approx(wanted, abs=1e-9)
