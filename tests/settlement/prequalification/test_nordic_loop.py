"""Nordic FCR in frequency: fits, the loop, the circle about -1, and the delay it affords."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.products import load
from settlement import prequalification as pq
from settlement.prequalification import loop, nordic_loop
from tests.settlement.prequalification import naive_nordic as naive
from tests.settlement.prequalification.plants import SOLD_KW, failed, played

N, UP, DOWN = load("nordic_fcr_n"), load("nordic_fcr_d_up"), load("nordic_fcr_d_down")
PERIODS_S = np.array([300.0, 150.0, 90.0, 70.0, 60.0, 50.0, 40.0, 25.0, 15.0, 10.0])
OMEGA = 2 * np.pi / PERIODS_S


def judged(product, options=None, **plant):
    options = options or pq.Options(fme_s=0.0)
    plan = pq.plan_of(product, options)
    plan = plan.only([part.name for part in plan.parts if "period" in part.at])
    return pq.judge(product, plan, played(product, plan, **plant), SOLD_KW, options)


def measured(found, name):
    return next(row.measured for row in found.rows if row.id == name)


@pytest.mark.parametrize("product", [N, UP, DOWN])
def test_an_ideal_unit_passes(product):
    found = judged(product)
    assert failed(found) == set()
    assert found.passed
    assert measured(found, "Req. 8") > 1.0


@pytest.mark.parametrize("product", [N, UP, DOWN])
@pytest.mark.parametrize(("delay_s", "tau_s"), [(0.3, 0.0), (0.2, 2.0), (1.0, 0.5)])
def test_the_transfer_function_is_found_again(product, delay_s, tau_s):
    """The plant's own F comes out of the recorded sines, whatever the product's direction."""
    plan = pq.plan_of(product)
    parts = [(p, a, b) for p, a, b in plan.spans() if "period" in p.at]
    recording = played(product, plan, delay_s=delay_s, tau_s=tau_s)
    found = nordic_loop.points(product, [(p, recording.cut(a, b)) for p, a, b in parts], SOLD_KW)
    omega, response = nordic_loop.curve(found, 0.0)
    wanted = loop.lagged(delay_s, tau_s)(omega)
    np.testing.assert_allclose(response, wanted, atol=6e-3)
    assert max(item.misfit for item in found) < 0.01


def test_a_lag_that_breaks_stability_fails_requirement_8_alone():
    """NQ-2: a delay of 1 s behind a lag of 2 s."""
    found = judged(N, delay_s=1.0, tau_s=2.0)
    assert failed(found) == {"Req. 8"}
    assert measured(found, "Req. 8") == pytest.approx(0.270, abs=0.01)


def test_a_loop_that_goes_round_is_seen():
    found = judged(N, delay_s=2.0, tau_s=2.0)
    # Far enough from -1, and on its wrong side.
    assert failed(found) == {"Req. 8, side"}
    assert measured(found, "Req. 8, side") == -2.0


def test_the_measurement_that_was_gone_round_is_put_back():
    near = {"delay_s": 0.2, "tau_s": 2.0}
    assert failed(judged(N, pq.Options(fme_s=0.0), **near)) == set()
    assert failed(judged(N, pq.Options(fme_s=1.0), **near)) == {"Req. 8"}
    omega = np.array([0.1, 1.0])
    np.testing.assert_allclose(nordic_loop.corrected(omega, np.ones(2, complex), 2.0), 1 / (1 + 2j * omega))


def test_a_weak_slow_unit_fails_the_performance():
    assert failed(judged(N, gain=0.35)) == {"Req. 9"}
    assert failed(judged(N, tau_s=60.0)) >= {"Req. 9"}


def test_power_that_is_no_sine_fails_requirement_10():
    found = judged(N, noise=1.0)
    assert "Req. 10" in failed(found)
    parts = {row.part for row in found.rows if row.id == "Req. 10" and row.passed is False}
    assert parts <= {f"sine {period:g} s" for period in PERIODS_S}
    quiet = judged(N, gain=0.0)
    assert failed(quiet) == {"Req. 8", "Req. 8, side", "Req. 9", "Req. 10"}


def test_one_period_is_no_curve():
    plan = pq.plan_of(N).only(["sine 10 s"])
    found = pq.judge(N, plan, played(N, plan), SOLD_KW)
    assert [row.passed for row in found.rows if row.id in ("Req. 8", "Req. 9")] == [None, None]
    assert found.passed


@given(st.integers(0, 2**32 - 1), st.floats(1.0, 30.0), st.floats(0.0, 0.5))
@settings(max_examples=25)
def test_the_fit_agrees_with_its_slow_twin(seed, period_s, noise):
    rng = np.random.default_rng(seed)
    t_s = np.sort(rng.uniform(0, 4 * period_s, 90))
    y = rng.normal() + rng.normal() * np.sin(2 * np.pi * t_s / period_s + 1.0) + rng.normal(0, noise, 90)
    found = nordic_loop.fit(t_s, y, period_s)
    amplitude, misfit = naive.requirement_10(t_s.tolist(), y.tolist(), period_s)
    assert found.amplitude == pytest.approx(amplitude, abs=1e-8)
    assert found.misfit == pytest.approx(misfit, rel=1e-6, abs=1e-9)


def test_a_fit_takes_three_samples():
    with pytest.raises(pq.PrequalificationError, match="2 samples; a sine takes at least 3"):
        nordic_loop.fit(np.zeros(2), np.zeros(2), 10.0)


@given(
    st.floats(0.2, 6.0), st.floats(0.1, 5.0), st.floats(0.1, 5.0), st.floats(0.1, 5.0),
    st.sampled_from([loop.FCR_N, loop.FCR_D]),
)  # fmt: skip
def test_encirclements_tell_what_the_closed_loop_s_poles_tell(gain, one_s, two_s, three_s, system):
    """F = gain / ((1 + s t1)(1 + s t2)(1 + s t3)): unstable where a root of 1 + F G lies on the right."""
    size, energy = system.stability
    den_f = np.polymul(np.polymul([one_s, 1.0], [two_s, 1.0]), [three_s, 1.0])
    den_g = np.array([2 * energy / size, loop.LOAD_PU * loop.F0_HZ])
    closed = np.polyadd(np.polymul(den_f, den_g), [gain * system.mw_per_hz * loop.F0_HZ / size])
    roots = np.roots(closed)
    if np.abs(roots.real).min() < 1e-3:
        return  # on the edge
    omega = np.geomspace(1e-4, 1e3, 20_000)
    curve = gain * loop.lagged(0.0, one_s, two_s, three_s)(omega) * system.plant(omega)
    rest = gain * float(system.plant(np.zeros(1))[0].real)
    assert -loop.encirclements(curve, rest) == np.count_nonzero(roots.real > 0)


@given(st.floats(0.0, 2.0), st.floats(0.05, 4.0))
def test_the_curve_between_points_is_the_whole_curve_s(delay_s, tau_s):
    response = loop.lagged(delay_s, tau_s)
    places = loop.fine(OMEGA)
    between = loop.interpolated(OMEGA, response(OMEGA))(places)
    np.testing.assert_allclose(between, response(places), atol=0.12)
    np.testing.assert_allclose(loop.interpolated(OMEGA, response(OMEGA))(OMEGA), response(OMEGA), atol=1e-12)
    assert set(np.round(OMEGA, 12)) <= set(np.round(places, 12))


def test_a_delay_within_its_budget_keeps_outside_the_circle():
    for system in (loop.FCR_N, loop.FCR_D):
        for lags in ((), (0.5,), (1.0,), (0.5, 1.0)):
            budget_s = loop.delay_budget_s(system, *lags)
            if budget_s == 0.0:
                assert loop.whole_distance(system, loop.lagged(0.0, *lags)) < 0.4085
                continue
            assert loop.whole_distance(system, loop.lagged(budget_s - 1e-3, *lags)) > 0.4085
            assert loop.whole_distance(system, loop.lagged(budget_s + 1e-3, *lags)) < 0.4085
    assert loop.delay_budget_s(loop.FCR_N, 10.0, 10.0) == 0.0
    assert loop.delay_budget_s(loop.System(1.0, loop.STABLE, loop.PERFORMING)) == loop.DELAY_MOST_S


@pytest.mark.parametrize(
    ("options", "passed", "left"),
    [
        (pq.Options(fme_s=0.0, latency_s=0.5), True, 0.19),
        (pq.Options(fme_s=0.0, latency_s=0.7), False, -0.01),
        (pq.Options(fme_s=1.0, latency_s=0.3), True, 0.06),
        (pq.Options(fme_s=0.0, actuator_s=0.5, latency_s=0.44), True, 0.0),
        (pq.Options(fme_s=1.0, actuator_s=0.5, latency_s=0.36), False, None),
        (pq.Options(), None, None),
    ],
)
def test_the_measured_latency_is_set_against_the_budget(options, passed, left):
    row = nordic_loop.budget_row(N, options)
    assert row.passed is passed
    assert row.mark == "D"
    if left is not None:
        assert float(row.note.split("left over ")[1].split(" s")[0]) == pytest.approx(left, abs=0.011)


def test_the_file_sets_the_system():
    same = {
        "stab": {"sn_mw": 23000.0, "e_mws": 120000.0, "dp_mw": 600.0, "df_hz": 0.1},
        "perf": {"sn_mw": 42000.0, "e_mws": 190000.0},
    }
    assert nordic_loop.system_of(replace(N, prequalification=same)) == loop.FCR_N == nordic_loop.system_of(N)
    other = replace(
        UP, prequalification={"plans": ["nordic_sines"], "stab": {"sn_mw": 10000.0}, "perf": {"e_mws": 5.0}}
    )
    assert nordic_loop.system_of(other) == loop.System(3625.0, (10000.0, 120000.0), (42000.0, 5.0))
