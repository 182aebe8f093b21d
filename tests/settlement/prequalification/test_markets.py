"""Great Britain, PJM, the NEM and IEEE 1547: ideal units pass, faults fail what they break."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from droop.products import load
from settlement import prequalification as pq
from settlement import scores
from settlement.prequalification import nem, pjm
from settlement.prequalification.recording import Trace
from tests.settlement.prequalification.plants import SOLD_KW, failed, failed_in, played

DC_LOW, DC_HIGH, IEEE = load("gb_dc_low"), load("gb_dc_high"), load("ieee1547")
SHORT = pq.Options(hold_s=60.0)
LAG = {"tau_s": 5.0 / np.log(10.0)}


def judged(product, parts=None, options=SHORT, **plant):
    plan = pq.plan_of(product, options)
    plan = plan.only(parts) if parts else plan
    return pq.judge(product, plan, played(product, plan, **plant), SOLD_KW, options)


# ---- Great Britain -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", [DC_LOW, DC_HIGH])
def test_an_ideal_unit_passes_the_dynamic_response_test(product):
    found = judged(product, delay_s=0.3)
    assert failed(found) == set()
    assert {row.mark for row in found.rows if row.id == "initiation"} == {"V"}


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ({"delay_s": 0.7}, {"initiation"}),
        ({"delay_s": 1.2}, {"initiation", "full delivery", "performance"}),
        ({"tau_s": 0.6}, {"full delivery", "performance"}),
        ({"gain": 0.95}, {"steady state", "sustained", "full delivery", "performance"}),
        ({"gain": 1.05}, {"steady state", "performance"}),
    ],
)
def test_a_fault_of_dynamic_response_fails_what_it_breaks(fault, wanted):
    assert failed(judged(DC_LOW, ["steps low", "sustain low"], **fault)) == wanted


def test_a_response_that_wanes_is_not_sustained():
    found = judged(DC_HIGH, ["sustain high"], change=lambda t_s, y: np.where(t_s > 100, 0.9 * y, y))
    assert failed_in(found) == {("sustained", "sustain high"), ("performance", "sustain high")}


def test_the_product_s_own_score_judges_every_part(monkeypatch):
    seen = []

    def rule(product, delivery):
        seen.append(delivery)
        good = float(np.abs(delivery.net_kw - delivery.target_kw).max() < 1e-6 * SOLD_KW)
        return scores.Verdict(good, "as told", {})

    monkeypatch.setattr(scores, "judge", rule)
    assert judged(DC_LOW, ["ramp low"]).passed is True
    assert failed(judged(DC_LOW, ["ramp low"], gain=0.9)) == {"performance"}
    delivery = seen[0]
    assert (delivery.step_s, delivery.sold_kw) == (pytest.approx(0.05), SOLD_KW)
    assert delivery.target_kw.max() == pytest.approx(SOLD_KW)
    assert delivery.dev_hz.min() == pytest.approx(-0.5)


def test_without_a_rule_the_score_does_not_apply():
    found = judged(replace(DC_LOW, score={}), ["ramp low"])
    assert [(row.passed, row.note) for row in found.rows if row.id == "performance"] == [
        (None, "no scoring rule for gb_dc_low yet")
    ]


# ---- PJM ---------------------------------------------------------------------------------------------------------


PJM = replace(
    IEEE, id="pjm_reg_x", input="signal", signal_s=2.0, curve_hz=(-1.0, 1.0), curve_frac=(-1.0, 1.0),
    deadband_hz=0.0, deadband_kind="none", olrt_s=0.0, prequalification={"plans": ["pjm_test"]},
)  # fmt: skip


def test_three_tests_of_the_signal_are_scored(monkeypatch):
    def rule(product, delivery):
        return scores.Verdict(float(np.corrcoef(delivery.net_kw, delivery.target_kw)[0, 1]), "", {})

    monkeypatch.setattr(scores, "judge", rule)
    plan = pq.plan_of(PJM, pq.Options(hold_s=600.0))
    assert (plan.input, plan.rate_hz, [part.length_s for part in plan.parts]) == ("signal", 0.5, [600.0] * 3)
    assert pq.judge(PJM, plan, played(PJM, plan), SOLD_KW).passed
    late = played(PJM, plan, change=lambda t_s, y: np.where(t_s > 1200, np.roll(y, 2000), y))
    assert failed_in(pq.judge(PJM, plan, late, SOLD_KW)) == {("qualification", "test 3")}
    lenient = replace(PJM, prequalification=PJM.prequalification | {"score_min": 0.0})
    assert "qualification" not in failed(pq.judge(lenient, plan, late, SOLD_KW))


@pytest.mark.parametrize("seed", range(5))
def test_the_signal_is_bounded_seeded_and_nearly_without_energy(seed):
    found = pjm.signal(2400.0, 2.0, seed)
    assert found.size == 1200
    np.testing.assert_array_equal(found, pjm.signal(2400.0, 2.0, seed))
    assert np.abs(found).max() <= 1.0
    assert abs(found.mean()) < 0.05
    assert 0.2 < found.std() < 0.7
    assert (found[0], found[-1]) == (0.0, 0.0)


# ---- NEM ----------------------------------------------------------------------------------------------------------


def raise_(name, direction="up"):
    x, y = ((-0.5, -0.15), (1.0, 0.0)) if direction == "up" else ((0.15, 0.5), (0.0, -1.0))
    return replace(
        load("nordic_fcr_n"), id=name, direction=direction, curve_hz=x, curve_frac=y,
        prequalification={"plans": ["nem_ramp"]},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "direction"), [("nem_r6", "up"), ("nem_l6", "down"), ("nem_r60", "up"), ("nem_r5", "up")]
)
def test_an_ideal_unit_shows_its_quantity(name, direction):
    assert failed(judged(raise_(name, direction))) == set()


def test_the_very_fast_service_wants_its_half_second():
    assert failed(judged(raise_("nem_r1"))) == set()
    assert failed(judged(raise_("nem_r1"), delay_s=1.0)) == {"quantity"}


@pytest.mark.parametrize(
    ("fault", "wanted"), [({"gain": 0.95}, {"quantity"}), ({"tau_s": 8.0}, {"quantity"}), ({"tau_s": 1.0}, set())]
)
def test_a_weak_or_slow_unit_shows_less(fault, wanted):
    assert failed(judged(raise_("nem_r6"), **fault)) == wanted


def test_the_ramp_is_the_standard_one():
    for name, rate, length in (("nem_r6", 0.125, 65.0), ("nem_r1", 1.0, 65.0), ("nem_r60", 0.125, 310.0)):
        (part,) = pq.plan_of(raise_(name)).parts
        value = part.values(np.array([10.0, 10.0 + 0.2 / rate, 10.0 + 0.5 / rate, 10.0 + length - 0.1]))
        np.testing.assert_allclose(value, [50.0, 49.8, 49.5, 49.5], atol=1e-9)
        assert part.values(np.array([part.at["leaves"]]))[0] == pytest.approx(49.85)


def test_the_least_window_counts():
    t_s = np.arange(0, 700.0, 0.05)
    p = Trace(t_s, np.where(t_s < 30, 1.0, 0.5))
    least, found = nem.quantity(nem.SERVICES[60], p, 0.0)
    assert found == pytest.approx([2 * (24 + 15) / 54, 1.0], rel=1e-3)
    assert least == pytest.approx(1.0)
    assert nem.quantity(nem.SERVICES[5], p, 0.0)[0] == pytest.approx(0.5)


# ---- IEEE 1547 ------------------------------------------------------------------------------------------------------


def test_an_ideal_unit_passes_1547():
    found = judged(IEEE, **LAG)
    assert failed(found) == set()
    times = [row.measured for row in found.rows if row.id == "response time"]
    assert times == pytest.approx([5.0] * 4, abs=0.11)


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ({"tau_s": 3.0}, {"response time"}),
        ({"gain": 0.85, **LAG}, {"steady state"}),
        ({"delay_s": 1.0, **LAG}, {"response time"}),
    ],
)
def test_a_fault_of_1547_fails_what_it_breaks(fault, wanted):
    assert failed(judged(IEEE, **fault)) == wanted


def test_an_answer_within_the_dead_band_is_a_fault():
    def eager(t_s, value, dt):
        return -(value - 60.0) / 3.0

    assert "dead band" in failed(judged(IEEE, ["dead band"], answer=lambda t, v, dt: 3 * eager(t, v, dt)))
    assert failed(judged(IEEE, ["dead band"])) == set()


def test_power_before_the_step_is_what_the_droop_is_added_to():
    """A unit that gives 100 kW already is judged by the change."""
    assert failed(judged(IEEE, change=lambda _, y: y + 0.1, **LAG)) == set()
