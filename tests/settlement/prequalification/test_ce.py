"""Continental Europe's tests: an ideal unit passes, and each fault fails the requirements it breaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from droop.products import load
from settlement import prequalification as pq
from tests.settlement.prequalification.plants import SOLD_KW, failed, failed_in, played

CE = load("ce_fcr")
SHORT = pq.Options(hold_s=300.0, operation_s=1800.0)
STEPS = ("a", "b", "c", "d")


def judged(parts=None, product=CE, **plant):
    plan = pq.plan_of(product, SHORT)
    plan = plan if parts is None else plan.only(parts)
    return pq.judge(product, plan, played(product, plan, **plant), SOLD_KW, SHORT)


def test_an_ideal_unit_passes_everything():
    found = judged()
    assert failed(found) == set()
    assert found.passed
    assert found.qualified_kw == SOLD_KW
    assert {row.part.split(",")[0] for row in found.rows} == {"all", *"abcdefg"}


def test_the_slowest_admissible_unit_passes_the_steps():
    """Nothing for 2 s, half at 15 s, all at 30 s."""

    def slowest(t_s, fraction):
        dt = t_s[1] - t_s[0]
        change = np.diff(fraction, prepend=0.0)
        out = np.zeros_like(fraction)
        for k in np.flatnonzero(change):
            out += change[k] * np.interp(t_s - t_s[k] - dt, [0, 2 - 2 * dt, 15 - 2 * dt, 30 - 2 * dt], [0, 0, 0.5, 1])
        # The first thing seen is 2 % of the step: it must be there at 2 s.
        return out

    found = judged(STEPS, change=slowest)
    assert failed(found) <= {"start"}
    starts = [row.measured for row in found.rows if row.id == "start"]
    assert all(2.0 <= value <= 3.0 for value in starts)


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ({"delay_s": 2.5}, {"start"}),
        ({"delay_s": 16.0}, {"start", "half", "linear"}),
        ({"gain": 0.85}, {"linear", "full", "held"}),
        ({"gain": 1.10}, {"over"}),
        ({"ramp_pu_s": 1 / 45}, {"start", "half", "linear", "full", "held", "back"}),
        ({"tau_s": 9.0}, set()),
        ({"tau_s": 20.0}, {"linear", "full", "held", "back"}),
    ],
)
def test_a_fault_fails_what_it_breaks(fault, wanted):
    found = judged(["a", "b"], **fault)
    if "ramp_pu_s" in fault:
        # Half at 22 s: it does begin at once.
        wanted = wanted - {"start"}
    assert failed(found) == wanted
    assert found.passed is (not wanted)
    assert found.qualified_kw == (0.0 if wanted else SOLD_KW)


def test_a_response_that_wanes_is_not_held():
    found = judged(["a"], change=lambda t_s, y: np.where(t_s > 200, 0.9 * y, y))
    assert failed_in(found) == {("held", "a")}


def test_a_unit_that_does_not_let_go_is_not_back():
    found = judged(["b"], change=lambda t_s, y: np.where(t_s >= 360, -0.2, y))
    assert failed_in(found) == {("back", "b")}


def test_the_wrong_sign_fails_everything_but_the_height():
    assert failed(judged(["a"], gain=-1.0)) == {"start", "half", "linear", "full", "held"}


def test_over_fulfilment_is_admitted_where_the_product_admits_it():
    german = replace(CE, freedoms=replace(CE.freedoms, overfulfil_max=1.2))
    assert failed(judged(["a"], gain=1.2)) == {"over"}
    assert failed(judged(["a"], product=german, gain=1.2)) == set()
    assert failed(judged(["a"], product=german, gain=1.3)) == {"over"}


def test_a_late_unit_lags_behind_the_ramps():
    assert failed(judged(["f"], delay_s=20.0)) == set()
    found = judged(["f"], delay_s=40.0)
    assert {("ramp lag", f"f, ramp {k}") for k in (1, 2, 3)} <= failed_in(found)


def test_one_slow_ramp_is_named():
    """A unit that does not come back from below in time."""
    found = judged(["f"], change=lambda t_s, y: np.where((t_s > 180) & (t_s < 470), np.minimum(y, 0.5), y))
    assert ("ramp lag", "f, ramp 2") in failed_in(found)
    assert ("ramp lag", "f, ramp 1") not in failed_in(found)


def test_a_stair_that_is_off_is_seen():
    found = judged(["e"], change=lambda t_s, y: np.where((t_s > 70) & (t_s < 360), y - 0.08, y))
    assert ("stair", "e") in failed_in(found)
    worst = next(row.measured for row in found.rows if row.id == "stair")
    assert worst == pytest.approx(0.08, abs=1e-3)


def test_real_operation_is_judged_by_the_two_indicators_of_delivery():
    assert failed(judged(["g"], gain=0.85)) >= {"slope ratio"}
    assert failed(judged(["g"], gain=1.2)) == set()
    assert failed(judged(["g"], gain=1.4)) == {"slope ratio"}
    assert failed(judged(["g"], gain=0.0)) == {"out of bound", "slope ratio"}


def test_the_double_hump_judges_both_activations():
    product = replace(CE, prequalification=load("ce_fcr_de").prequalification)
    options = pq.Options(hold_s=120.0, operation_s=0.0)
    plan = pq.plan_of(product, options)
    assert plan.tests == ("ce_double_hump",)
    assert plan.mark == "M"
    late = played(product, plan, change=lambda t_s, y: np.where((t_s > 470) & (t_s < 520), 0.0, y))
    found = pq.judge(product, plan, late, SOLD_KW, options)
    assert {part for _, part in failed_in(found)} == {"hump up, second"}
    assert pq.judge(product, plan, played(product, plan), SOLD_KW, options).passed


def test_smaller_steps_are_proportional_with_the_same_tolerance():
    """5 % of the volume is 10 % of half a step."""
    assert failed(judged(["c", "d"], gain=0.91)) == set()
    assert failed(judged(["c", "d"], gain=0.89)) == {"linear", "full", "held"}
