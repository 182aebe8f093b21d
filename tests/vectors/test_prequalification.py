"""The rulebook's vectors of prequalification: D-R23, D-R4, NQ-1, NQ-2, delay budget, 1547-2, 1547-3, FFR, SFD, MASS.

Marks: V read in the document, V2 by way of a public source, M from memory, D derived from verified inputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from droop.dynamics import advance, at_rest, terms
from droop.products import EDGE_HZ, load
from droop.promises import Trigger
from settlement import prequalification as pq
from settlement.prequalification import loop, nem, nordic_time
from settlement.prequalification.nordic import upwards
from settlement.prequalification.recording import Trace
from tests.settlement.prequalification.plants import SOLD_KW, SWITCHED_FINE, played, switched


class Vector(NamedTuple):
    """One line of the rulebook's table."""

    id: str
    given: tuple[object, ...]
    expected: tuple[float, ...]
    tolerance: float
    mark: str
    origin: str


def parametrised(vectors):
    return pytest.mark.parametrize("vector", vectors, ids=lambda v: "-".join([v.id, *map(str, v.given)]))


FCR_D = "computed from the ramp test: first-order lag, delay, saturating"
D_R23 = [
    Vector("D-R23", (0.0, 0.0), (1.0, 6.66), 0.01, "D", FCR_D),
    Vector("D-R23", (1.0, 0.5), (0.998, 5.16), 0.01, "D", FCR_D),
    Vector("D-R23", (2.0, 0.5), (0.953, 4.26), 0.01, "D", FCR_D),
    Vector("D-R23", (3.0, 0.5), (0.8705, 3.55), 0.01, "D", FCR_D),
]


@parametrised(D_R23)
def test_req_2_and_3_of_a_lagged_unit(vector):
    tau_s, delay_s = vector.given
    product = load("nordic_fcr_d_up")
    plan = pq.plan_of(product, pq.Options(hold_s=300.0)).only(["ramps"])
    recording = played(product, plan, tau_s=tau_s, delay_s=delay_s)
    found = pq.judge(product, plan, recording, SOLD_KW)
    rows = {row.id: row for row in found.rows}
    assert rows["Req. 2"].measured == pytest.approx(vector.expected[0], abs=2e-3)
    assert rows["Req. 3"].measured == pytest.approx(vector.expected[1], abs=vector.tolerance)
    assert rows["Req. 2"].passed
    assert rows["Req. 3"].passed


D_R4 = Vector("D-R4", (), (1.09,), 0.01, "D", "computed from ramps 1 and 2, ideal response")


def test_req_4_of_an_ideal_unit():
    product = load("nordic_fcr_d_up")
    plan = pq.plan_of(product, pq.Options(hold_s=300.0)).only(["ramps"])
    p = upwards(product, played(product, plan), SOLD_KW)
    found = nordic_time.deactivation_s(p, plan.parts[0].at["1"], nordic_time.Limits())
    assert found == pytest.approx(D_R4.expected[0], abs=D_R4.tolerance)
    assert found <= 2.5


TESTED_N = np.array([300.0, 150.0, 90.0, 70.0, 60.0, 50.0, 40.0, 25.0, 15.0, 10.0])
NQ = [
    Vector("NQ-1", ("N", 0.0, 0.0), (2.288, 0.500), 6e-4, "D", "F = 1"),
    Vector("NQ-1", ("D", 0.0, 0.0), (1.618, 0.479), 6e-4, "D", "F = 1; the ratio with the 300 s period"),
    Vector("NQ-2", ("N", 1.0, 2.0), (0.270,), 6e-4, "D", "F = exp(-s)/(1 + 2 s)"),
]


@parametrised(NQ)
def test_distance_from_minus_1_and_performance(vector):
    name, delay_s, tau_s = vector.given
    omega = 2 * np.pi / TESTED_N
    system = loop.FCR_N if name == "N" else loop.FCR_D
    found = loop.margins(system, omega, loop.lagged(delay_s, tau_s)(omega), between=False)
    assert found.distance == pytest.approx(vector.expected[0], abs=vector.tolerance)
    if len(vector.expected) > 1:
        assert found.performance == pytest.approx(vector.expected[1], abs=vector.tolerance)
    assert (found.distance >= 0.4085) is (vector.id == "NQ-1")


def test_the_fcr_d_ratio_over_its_own_periods():
    omega = 2 * np.pi / TESTED_N[3:]
    found = loop.margins(loop.FCR_D, omega, np.ones(omega.size, complex), between=False)
    assert found.performance == pytest.approx(0.132, abs=6e-4)


BUDGET = "whole Nyquist curve, first-order actuator, circle of 0.43 x 0.95"
BUDGETS = [
    Vector("3.5", ("N", 0.0), (0.69,), 0.005, "D", BUDGET),
    Vector("3.5", ("N", 0.5), (0.45,), 0.006, "D", BUDGET),
    Vector("3.5", ("N", 1.0), (0.36,), 0.005, "D", BUDGET),
    Vector("3.5", ("D", 0.0), (1.16,), 0.005, "D", BUDGET),
    Vector("3.5", ("D", 0.5), (0.85,), 0.005, "D", BUDGET),
    Vector("3.5", ("D", 1.0), (0.73,), 0.005, "D", BUDGET),
]


@parametrised(BUDGETS)
def test_the_delay_budget(vector):
    name, tau_s = vector.given
    found = loop.delay_budget_s(loop.FCR_N if name == "N" else loop.FCR_D, *([tau_s] if tau_s else []))
    assert found == pytest.approx(vector.expected[0], abs=vector.tolerance)


def test_a_lag_of_2_s_and_a_delay_of_1_s_fail_fcr_n():
    assert loop.whole_distance(loop.FCR_N, loop.lagged(1.0, 2.0)) < 0.4085


# ---- IEEE 1547 ------------------------------------------------------------------------------------------------------


def engine_response(sold_kw, before_kw, hz, at_s, step_s=0.05):
    """The engine's own dynamics after a step, in kW."""
    product = load("ieee1547")
    table, motion = terms([(product, sold_kw)]), at_rest(1)
    target = float(np.interp(hz - 60.0, product.curve_hz, product.curve_frac))
    found = {}
    for k in range(1, round(max(at_s) / step_s) + 1):
        share = advance(motion, table, 0, round(k * step_s * 1e9), step_s, target)
        found[round(k * step_s, 6)] = before_kw + sold_kw * share
    return [found[at] for at in at_s]


STEP_1547 = Vector(
    "1547-2", (1.0, 2.0, 5.0), (0.36904, 0.60189, 0.90000), 1e-5, "V", "IEEE 1547-2018 6.5.2.7, OLRT 5 s"
)
OPENDER = Vector("1547-3", (1.0, 5.0, 20.0), (25.589, 33.898, 35.465), 0.15, "D", "run of OpenDER at 50 ms")


def test_the_step_response_of_1547():
    product = load("ieee1547")
    share = float(np.interp(-0.5, product.curve_hz, product.curve_frac))
    found = engine_response(1.0, 0.0, 59.5, STEP_1547.given)
    np.testing.assert_allclose(np.array(found) / share, STEP_1547.expected, atol=STEP_1547.tolerance)


def test_the_step_response_agrees_with_opender():
    """OpenDER's bilinear filter is half a step ahead of the exact lag; the steady state is the same."""
    found = engine_response(100.0, 20.0, 59.5, OPENDER.given)
    np.testing.assert_allclose(found, OPENDER.expected, atol=OPENDER.tolerance)
    (steady,) = engine_response(100.0, 20.0, 59.5, (60.0,))
    assert steady == pytest.approx(35.467, abs=1e-3)


def test_the_test_measures_that_response_time():
    product = load("ieee1547")
    plan = pq.plan_of(product).only(["59.5 Hz"])
    found = pq.judge(product, plan, played(product, plan, tau_s=5.0 / np.log(10.0)), SOLD_KW)
    (row,) = (row for row in found.rows if row.id == "response time")
    assert row.measured == pytest.approx(5.0, abs=0.11)
    assert found.passed


# ---- FFR, static FCR-D ----------------------------------------------------------------------------------------------


FFR = [
    Vector("FFR-1", (49.7, 1.3, 49.69), (1.3, 5.0, 900.0), 0.0, "V", "Fingrid, Svenska kraftnät"),
    Vector("FFR-3", (49.5, 0.7, 49.49), (0.7, 5.0, 900.0), 0.0, "V", "Fingrid, Svenska kraftnät"),
]


def ffr(hz, full_s):
    trigger = Trigger(hz, hold_s=5.0, fall_pu_s=0.2, fall_step_pu=0.2, ready_s=900.0)
    base = load("nordic_fcr_d_up")
    return replace(
        base, id="nordic_ffr_x", full_s=full_s, half_s=0.0, trigger=trigger,
        curve_hz=(hz - 50 - EDGE_HZ, hz - 50), curve_frac=(1.0, 0.0), prequalification={"plans": ["ffr_drop"]},
    )  # fmt: skip


def ramped_in(product, plan, full_s):
    """All of it exactly `full_s` after each trigger, in a straight line."""
    at = plan.parts[0].at

    def answer(t_s, value, dt):
        out = np.zeros(t_s.size)
        for start in (at["first"], at["second"]):
            age = t_s - start
            out = np.maximum(out, np.interp(age, [0, full_s, full_s + 5.5, full_s + 12.0], [0, 1.0, 1.0, 0], right=0))
        return out

    return played(product, plan, answer)


@parametrised(FFR)
def test_full_activation_of_ffr(vector):
    hz, full_s, injected = vector.given
    product = ffr(hz, full_s)
    plan = pq.plan_of(product)
    assert plan.parts[0].values(np.array([plan.parts[0].at["first"]]))[0] == pytest.approx(injected)
    assert plan.parts[0].at["second"] - plan.parts[0].at["first"] >= vector.expected[2]
    good = pq.judge(product, plan, ramped_in(product, plan, full_s), SOLD_KW)
    assert good.passed
    support = next(row for row in good.rows if row.id == "support")
    assert (support.limit, support.measured >= vector.expected[1]) == (">= 5", True)
    late = pq.judge(product, plan, ramped_in(product, plan, full_s + 0.3), SOLD_KW)
    assert {row.id for row in late.rows if row.passed is False} == {"full activation", "ready"}


def test_ffr_2_a_dip_short_of_the_trigger_calls_nothing():
    """FFR 49.6 Hz: 49.65 Hz is no trigger [V: Fingrid]."""
    product = ffr(49.6, 1.0)
    plan = pq.plan_of(product)
    at = plan.parts[0].at
    assert plan.parts[0].values(np.array([at["miss"] + 1.0]))[0] == pytest.approx(49.65)
    eager = switched(replace(product, trigger=replace(product.trigger, hz=49.66)), lag_s=0.05)
    found = pq.judge(product, plan, played(product, plan, eager, fine=SWITCHED_FINE), SOLD_KW)
    assert "no trigger" in {row.id for row in found.rows if row.passed is False}


SFD_2 = Vector("SFD-2", (7,), (0.0086, 0.0114), 0.0011, "D", "seven equal steps against -5 %/+10 %")


@pytest.mark.parametrize(("bias_hz", "passes"), [(0.0, False), (0.0070, False), (0.0100, True), (0.0130, False)])
def test_thresholds_of_seven_equal_steps_must_be_biased(bias_hz, passes):
    """SFD-2: between 8.6 and 11.4 mHz; the test looks 1 mHz beside each threshold."""
    assert SFD_2.expected[0] - SFD_2.tolerance < 0.010 < SFD_2.expected[1] + SFD_2.tolerance
    marks = tuple(49.9 - 0.4 * (k - 0.5) / 7 + bias_hz for k in range(1, 8))
    trigger = Trigger(marks[0], marks, release_hz=49.9, release_s=60.0, fall_pu_s=0.025, fall_step_pu=0.2)
    product = replace(load("nordic_fcr_d_up"), trigger=trigger, prequalification={"plans": ["nordic_static"]})
    plan = pq.plan_of(product).only(["staircase"])
    found = pq.judge(product, plan, played(product, plan, switched(product), fine=SWITCHED_FINE), SOLD_KW)
    assert found.passed is passes


# ---- NEM ----------------------------------------------------------------------------------------------------------


MASS = [
    Vector(
        "MASS-1", (2.0, 0.0, 60.0), (27.59, 59.65, 30.0), 0.01, "V2", "method of a script citing MASS v8.2 6.3; run"
    ),
    Vector("MASS-2", (0.0, 0.0, 2.0), (1.55, 2.0, 1.0), 0.01, "D", "lag-free, 1 p.u. at 0.5 Hz"),
    Vector("MASS-2", (0.0, 0.15, 1 / 0.35), (1.36, 2.0, 1.0), 0.01, "D", "lag-free, beyond a dead band of 0.15 Hz"),
]


@parametrised(MASS)
def test_the_fast_raise_quantity(vector):
    """Origin: the start of the ramp."""
    tau_s, deadband_hz, per_hz = vector.given
    t_s = np.arange(0.0, 70.0, 0.02)
    dev_hz = np.minimum(0.125 * t_s, 0.5)
    p = per_hz * np.maximum(dev_hz - deadband_hz, 0.0)
    if tau_s:  # a ramp through a lag, and from 4 s on the rest of it dying away
        ramp = 0.125 * per_hz * (t_s - tau_s * (1.0 - np.exp(-t_s / tau_s)))
        at_4 = 0.125 * per_hz * (4.0 - tau_s * (1.0 - np.exp(-4.0 / tau_s)))
        p = np.where(t_s <= 4.0, ramp, p - (0.5 * per_hz - at_4) * np.exp(-(t_s - 4.0) / tau_s))
    least, found = nem.quantity(nem.SERVICES[6], Trace(t_s, p), 0.0)
    assert found == pytest.approx(vector.expected, abs=vector.tolerance)
    assert least == min(found)
