"""Static FCR-D and FFR: on at a threshold, held, let go as allowed, ready again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from droop.products import EDGE_HZ, load
from droop.promises import Trigger
from settlement import prequalification as pq
from tests.settlement.prequalification.plants import (
    HOLD_MORE_S,
    SOLD_KW,
    SWITCHED_FINE,
    failed,
    failed_in,
    played,
    switched,
)

STATIC, DROP = {"plans": ["nordic_static"]}, {"plans": ["ffr_drop"]}
RELEASE = {"release_hz": 49.9, "release_s": 60.0, "pause_hz": 49.8, "fall_pu_s": 0.025, "fall_step_pu": 0.2}


def static(steps=(), hz=49.7, product="nordic_fcr_d_up"):
    up = replace(load(product), prequalification=STATIC)
    if up.direction == "down":
        mirror = {"release_hz": 50.1, "pause_hz": 50.2}
        return replace(up, trigger=Trigger(50.3, **(RELEASE | mirror), ready_s=900.0))
    return replace(up, trigger=Trigger(hz, tuple(steps), **RELEASE, ready_s=900.0))


def ffr(hold_s=5.0, hz=49.7, full_s=1.3, fall_pu_s=0.2):
    up = load("nordic_fcr_d_up")
    step = 0.2 if np.isfinite(fall_pu_s) else 1.0
    return replace(
        up, id="nordic_ffr_x", full_s=full_s, half_s=0.0, curve_hz=(hz - 50 - EDGE_HZ, hz - 50), curve_frac=(1.0, 0.0),
        trigger=Trigger(hz, hold_s=hold_s, fall_pu_s=fall_pu_s, fall_step_pu=step, ready_s=900.0),
        prequalification=DROP,
    )  # fmt: skip


def judged(product, parts=None, change=None, gain=1.0, delay_s=0.0, **how):
    plan = pq.plan_of(product)
    plan = plan if parts is None else plan.only(parts)
    how = {"lag_s": 0.05} | how
    recording = played(product, plan, switched(product, **how), change=change, gain=gain, fine=SWITCHED_FINE)
    if delay_s:
        shift = round(delay_s * plan.rate_hz)
        late = np.concatenate([recording.power_kw[:1].repeat(shift), recording.power_kw])[: recording.t_s.size]
        recording = recording._replace(power_kw=late)
    return pq.judge(product, plan, recording, SOLD_KW)


@pytest.mark.parametrize("product", ["nordic_fcr_d_up", "nordic_fcr_d_down"])
def test_a_static_unit_that_keeps_the_rules_passes(product):
    found = judged(static(product=product))
    assert found.rows[0].id == "sampling"
    assert failed(found) == set()
    assert found.passed
    assert next(row.measured for row in found.rows if row.id == "Req. 6") == pytest.approx(60.0, abs=1.5)


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ({"release_s": 30.0}, {"Req. 6"}),
        ({"release_s": 55.0}, {"Req. 6"}),
        ({"fall_pu_s": 0.04}, {"Req. 7, rate"}),
        ({"fall_pu_s": np.inf}, {"Req. 7, rate", "Req. 7, step"}),
        ({"deaf_to_pause": True}, {"Req. 6, pause"}),
        ({"rearms": False}, {"ready"}),
        ({"gain": 0.9}, {"Req. 1"}),
        ({"gain": 1.15}, {"Req. 1", "Req. 7, rate"}),  # lets go of more in the same time
        ({"gain": 1.25}, {"Req. 1", "Req. 5a", "Req. 7, rate"}),
        ({"gain": 0.7}, {"Req. 1", "Req. 2", "ready", "K_dyn", "K_red"}),
        ({"delay_s": 2.0}, {"Req. 5b"}),  # the threshold is passed 0.83 s after the ramp begins
        ({"delay_s": 5.0}, {"Req. 3", "Req. 5b", "Req. 6, pause", "K_dyn", "K_red"}),
    ],
)
def test_a_static_unit_s_fault_fails_its_requirement(fault, wanted):
    assert failed(judged(static(), **fault)) == wanted


def test_a_break_of_the_sixty_seconds_counts_from_its_end():
    """A unit that counts through the dip at 165 s lets go at 180 s: 10 s after the dip."""
    found = judged(static(), change=lambda t_s, y: np.where((t_s >= 180) & (t_s < 1100), np.minimum(y, 0.97), y))
    assert failed(found) == {"Req. 6"}
    assert next(row.measured for row in found.rows if row.id == "Req. 6") == pytest.approx(10.0, abs=0.2)


def test_never_letting_go_is_no_fault_of_release():
    found = judged(static(), change=lambda t_s, y: np.where((t_s > 70) & (t_s < 1150), 1.0, y))
    assert next(row.passed for row in found.rows if row.id == "Req. 6") is None


def test_a_step_wise_unit_is_judged_behind_and_before_each_threshold():
    middle = [49.9 - 0.4 * (k - 0.5) / 7 for k in range(1, 8)]
    options = {"parts": ["staircase"], "lag_s": 0.0}
    assert failed(judged(static([hz + 0.010 for hz in middle]), **options)) == set()
    assert failed(judged(static(middle), **options)) == {"Req. 11"}
    six = [49.9 - 0.4 * (k - 0.5) / 6 + 0.012 for k in range(1, 7)]
    assert "Req. 11, steps" in failed(judged(static(six), **options))
    own = replace(static(six), prequalification=STATIC | {"steps_min": 6})
    assert "Req. 11, steps" not in failed(judged(own, **options))


# ---- FFR ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [(5.0, 49.7, 1.3, 0.2), (30.0, 49.6, 1.0, np.inf), (5.0, 49.5, 0.7, 0.2)])
def test_a_fast_unit_that_keeps_the_rules_passes(variant):
    hold_s, hz, full_s, fall = variant
    found = judged(ffr(hold_s, hz, full_s, fall))
    assert failed(found) == set()
    assert found.passed


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ({"delay_s": 1.5}, {"full activation", "ready"}),
        ({"gain": 1.4}, {"over-delivery", "release rate"}),
        ({"fall_pu_s": 0.5}, {"release rate"}),
        ({"fall_pu_s": np.inf}, {"release rate", "release step"}),
        ({"rearms": False}, {"ready"}),
    ],
)
def test_a_fast_unit_s_fault_fails_its_requirement(fault, wanted):
    assert failed(judged(ffr(), **fault)) == wanted


def test_support_that_breaks_off_early_is_too_short():
    found = judged(
        ffr(), change=lambda t_s, y: np.where((t_s > 124.0) & (t_s < 130), np.clip(1 - 0.19 * (t_s - 124), 0, 1), y)
    )
    assert failed(found) == {"support"}
    assert next(row.measured for row in found.rows if row.id == "support") == pytest.approx(4.0, abs=0.3)


def test_an_answer_to_a_dip_that_misses_the_trigger_is_a_fault():
    found = judged(ffr(), change=lambda t_s, y: np.where((t_s > 61) & (t_s < 70), 0.5, y))
    assert failed(found) == {"no trigger"}


@pytest.mark.parametrize(
    ("from_s", "size", "wanted"), [(12, 0.2, set()), (6, 0.2, {"recovery wait"}), (15, 0.3, {"recovery"})]
)
def test_recovery_waits_and_stays_small(from_s, size, wanted):
    gone_s = 120.0 + 5.0 + HOLD_MORE_S + 5.0

    def recovering(t_s, y):
        return np.where(t_s < 900, y - np.clip(0.1 * (t_s - gone_s - from_s), 0.0, size), y)

    assert failed(judged(ffr(), change=recovering)) == wanted


def test_a_unit_that_never_answers_fails_without_a_crash():
    found = judged(ffr(), gain=0.0)
    assert {"full activation", "support", "ready"} <= failed(found)
    assert ("full activation", "first drop") in failed_in(found)
