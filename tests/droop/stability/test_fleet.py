"""The fleet in the loop: against a delay equation solved by scipy, limit by limit, and against what it must not do."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.curve import fractions
from droop.products import load
from droop.promises import Freedoms
from droop.stability import fleet as fleets
from droop.stability import grid as grids
from droop.stability.fleet import Fleet, FleetError, check
from droop.stability.simulation import Contingency, ContingencyError, simulate
from tests import naive_stability as naive
from tests.droop.stability.cases import HYDRO, MASS, NORDIC_D, NORDIC_N, REHEAT, straight

STEP_FCR = load("ce_fcr")


@pytest.mark.parametrize(
    ("grid", "product", "fleet_mw", "delay_s", "lag_s"),
    [
        (REHEAT, straight(), 300.0, 0.4, 0.0),  # within the curve and beyond its end
        (HYDRO, straight(), 300.0, 0.25, 0.5),
        (MASS, NORDIC_D, 400.0, 0.6, 0.3),  # a dead band that the points hold
        (REHEAT, STEP_FCR, 400.0, 0.5, 0.2),  # one that is a step
    ],
    ids=["straight", "hydro", "offset", "step"],
)
def test_a_late_fleet_is_the_delay_equation_of_scipy(grid, product, fleet_mw, delay_s, lag_s):
    fleet = Fleet(product, fleet_mw, (delay_s,), (1.0,), lag_s=lag_s, sample_s=0.002)
    course = simulate(grid, Contingency(500.0), fleet, seconds=20.0, step_s=0.002)
    points = list(zip(product.curve_hz, product.curve_frac, strict=True))
    band_hz = product.deadband_hz if product.deadband_kind == "step" else 0.0
    expected = naive.course(
        grid, 500.0, 20.0, fleet_mw=fleet_mw, points=points, deadband_hz=band_hz, delay_s=delay_s, lag_s=lag_s
    )
    t_s = course.t_s[500::250]
    assert t_s[0] == pytest.approx(0.0)
    np.testing.assert_allclose(course.hz[500::250] - 50.0, expected(t_s), atol=5e-4)
    assert course.fleet_mw.max() > 100.0


def test_no_fleet_and_a_fleet_of_none_are_the_same():
    alone = simulate(HYDRO, Contingency(500.0), seconds=20.0)
    none = simulate(HYDRO, Contingency(500.0), Fleet(NORDIC_N, 0.0, (0.3,), (1.0,)), seconds=20.0)
    np.testing.assert_array_equal(alone.hz, none.hz)
    assert np.abs(none.fleet_mw).max() == 0.0


@settings(max_examples=8, deadline=None)
@given(st.floats(0.0, 1.0), st.floats(50.0, 900.0), st.floats(0.0, 0.5))
def test_a_loss_of_load_is_answered_by_the_mirror_image(delay_s, fleet_mw, lag_s):
    fleet = Fleet(NORDIC_N, fleet_mw, (delay_s,), (1.0,), lag_s=lag_s)
    down, up = (simulate(REHEAT, Contingency(x), fleet, seconds=8.0) for x in (400.0, -400.0))
    np.testing.assert_allclose(down.hz - 50.0, 50.0 - up.hz, atol=1e-9)
    np.testing.assert_allclose(down.fleet_mw, -up.fleet_mw, atol=1e-6)


@settings(max_examples=8, deadline=None)
@given(st.floats(0.0, 1.0), st.floats(50.0, 900.0), st.floats(0.0, 0.1))
def test_60_hz_is_50_hz_rescaled(delay_s, fleet_mw, band_hz):
    def course(nominal_hz):
        scale = nominal_hz / 50.0
        governor = replace(REHEAT.governor[0], deadband_hz=band_hz * scale, reserve_mw=900.0)
        grid = replace(REHEAT, nominal_hz=nominal_hz, governor=(governor,))
        fleet = Fleet(straight(0.2 * scale, nominal_hz), fleet_mw, (delay_s,), (1.0,))
        return simulate(grid, Contingency(1000.0), fleet, seconds=8.0)

    low, high = course(50.0), course(60.0)
    np.testing.assert_allclose(1.2 * (low.hz - 50.0), high.hz - 60.0, atol=1e-8)
    np.testing.assert_allclose(low.fleet_mw, high.fleet_mw, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.floats(50.0, 400.0))
def test_a_prompt_fleet_never_deepens_and_more_of_it_never_less(fleet_mw):
    alone, some, more = (
        simulate(REHEAT, Contingency(900.0), Fleet(NORDIC_N, mw), seconds=15.0).hz.min()
        for mw in (0.0, fleet_mw, 1.5 * fleet_mw)
    )
    assert alone < some < more


# D-R23, rulebook 12: (lag, delay) -> share of the power after 7.5 s of the ramp, and seconds of full power by then [D].
@pytest.mark.parametrize(
    ("tau_s", "delay_s", "power", "energy_s"),
    [(0.0, 0.0, 1.0, 6.66), (1.0, 0.5, 0.998, 5.16), (2.0, 0.5, 0.953, 4.26), (3.0, 0.5, 0.8705, 3.55)],
)
def test_the_vectors_of_the_ramp_of_fcr_d(tau_s, delay_s, power, energy_s):
    # A loss in a grid of mass alone, far larger than the fleet, is a ramp of the frequency: 0.24 Hz/s.
    grid = replace(MASS, size_mw=1e6, load_damping_pu=1e-9)
    loss_mw = 0.24 * 2 * grid.inertia_s * grid.size_mw / 50.0
    fleet = Fleet(NORDIC_D, 1e-3, (delay_s,), (1.0,), lag_s=tau_s, sample_s=0.01)
    course = simulate(grid, Contingency(loss_mw), fleet, seconds=9.0)
    begun_s = 0.1 / 0.24  # at 49.9 Hz
    during = (course.t_s >= begun_s) & (course.t_s <= begun_s + 7.5)
    given = course.fleet_mw[during] / 1e-3
    assert given[-1] == pytest.approx(power, abs=2e-3)
    assert given.sum() * 0.01 == pytest.approx(energy_s, abs=0.02)


def test_a_trigger_is_pulled_held_and_late():
    ffr = load("nordic_ffr_a")
    course = simulate(MASS, Contingency(800.0), Fleet(ffr, 300.0, (0.7,), (1.0,)), seconds=6.0)
    passed_s = course.t_s[course.hz <= ffr.trigger.hz][0]
    shown_s = course.t_s[course.fleet_mw > 0.0][0]
    assert shown_s - passed_s == pytest.approx(0.7, abs=0.031)
    assert set(np.round(course.fleet_mw[course.t_s > shown_s + 0.05], 6)) == {300.0}


def test_energy_ramps_and_sampling_hold():
    loss = Contingency(900.0)
    short = simulate(REHEAT, loss, Fleet(NORDIC_N, 300.0, energy_h=10.0 / 3600.0), seconds=60.0)
    given_mws = short.fleet_mw.sum() * 0.01
    assert given_mws == pytest.approx(300.0 * 10.0, rel=1e-6)
    assert short.fleet_mw[-1] == 0.0
    slow = simulate(REHEAT, loss, Fleet(NORDIC_N, 300.0, ramp_pu_s=0.2), seconds=20.0)
    assert np.diff(slow.fleet_mw).max() == pytest.approx(300.0 * 0.2 * 0.01)
    coarse = simulate(REHEAT, loss, Fleet(NORDIC_N, 300.0, sample_s=0.5), seconds=20.0)
    changes_s = coarse.t_s[1:][np.abs(np.diff(coarse.fleet_mw)) > 1e-9]
    np.testing.assert_allclose((changes_s + 1.0) / 0.5, np.round((changes_s + 1.0) / 0.5), atol=1e-6)
    seen = simulate(REHEAT, loss, Fleet(NORDIC_N, 300.0, measure_s=1.0), seconds=20.0)
    assert seen.hz.min() < simulate(REHEAT, loss, Fleet(NORDIC_N, 300.0), seconds=20.0).hz.min()


def test_the_measurement_lags_as_a_filter_does():
    grid = replace(MASS, size_mw=1e6, load_damping_pu=1e-9)
    loss_mw = 0.05 * 2 * grid.inertia_s * grid.size_mw / 50.0  # a ramp of 0.05 Hz/s
    course = simulate(grid, Contingency(loss_mw), Fleet(straight(1.0), 1e-3, measure_s=0.5, sample_s=0.01), seconds=8.0)
    t_s = course.t_s[course.t_s >= 0.0]
    wanted = 0.05 * (t_s - 0.5 * (1.0 - np.exp(-t_s / 0.5)))
    np.testing.assert_allclose(course.fleet_mw[course.t_s >= 0.0] / 1e-3, wanted, atol=2e-4)


def test_the_step_decides_nothing():
    # Delay and sampling are whole steps of each, so that what is left is how a step's mean power is taken.
    fleet = Fleet(straight(5.0), 9000.0, (0.2,), (1.0,), lag_s=0.3, sample_s=0.02)
    fine, coarse = (
        simulate(REHEAT, Contingency(500.0), fleet, seconds=10.0, step_s=step_s) for step_s in (0.001, 0.02)
    )
    np.testing.assert_allclose(coarse.hz, fine.hz[::20], atol=5e-5)


delays = st.lists(st.floats(0.0, 3.0), min_size=1, max_size=6)


@given(delays, st.sampled_from([0.002, 0.01, 0.05]))
def test_the_delay_line_keeps_shares_and_mean(found, step_s):
    fleet = Fleet(NORDIC_N, 1.0, tuple(found), (1.0 / len(found),) * len(found))
    ago, weights = fleets.taps(fleet, step_s)
    assert weights.sum() == pytest.approx(1.0)
    assert (ago * step_s) @ weights == pytest.approx(fleet.delay_s, abs=1e-9)
    assert ago.max() * step_s <= max(found) + step_s + 1e-9


@given(delays, st.floats(0.0, 4.0))
def test_another_mean_delay_is_what_was_asked_for(found, delay_s):
    fleet = Fleet(NORDIC_N, 1.0, tuple(found), (1.0 / len(found),) * len(found)).delayed(delay_s)
    assert fleet.delay_s == pytest.approx(delay_s, abs=1e-9)
    assert min(fleet.delays_s) >= 0.0


def test_dead_times_are_spread_and_measured_with_their_mean():
    delays_s, shares = fleets.spread(0.1, 0.8, 0.05)
    assert np.dot(delays_s, shares) == pytest.approx(0.5)
    # Middles of equal parts of 0.1 to 0.8 s behind 0.05 s: the spread of the whole, but for that within a part.
    assert np.std(delays_s) == pytest.approx(0.7 / math.sqrt(12.0), rel=0.003)
    assert min(delays_s) == pytest.approx(0.15 + 0.35 / fleets.ATOMS)
    assert fleets.spread(0.2, 0.2) == ((0.2,), (1.0,))
    dead_s = np.random.default_rng(1).gamma(4.0, 0.1, 999)
    delays_s, shares = fleets.measured(dead_s, 0.01)
    assert np.dot(delays_s, shares) == pytest.approx(0.01 + dead_s.mean())
    assert len(delays_s) == fleets.ATOMS
    assert np.std(delays_s) == pytest.approx(dead_s.std(), rel=0.1)
    assert fleets.measured(np.zeros(0), 0.02) == ((0.02,), (1.0,))


@pytest.mark.parametrize("name", ["ce_fcr", "nordic_fcr_n", "nordic_fcr_d_up", "gb_dc_low", "gb_dr_high", "ieee1547"])
def test_slopes_are_those_of_the_curve(name):
    product = load(name)
    stretches = fleets.slopes(product)
    assert stretches
    for low_hz, high_hz, share_hz in stretches:
        inside = np.linspace(low_hz, high_hz, 7)[1:-1]
        values = fractions(product.response, inside)
        np.testing.assert_allclose(np.diff(values) / np.diff(inside), -share_hz, rtol=1e-6)
        assert share_hz > 0.0
        if product.deadband_kind == "step":
            assert min(abs(low_hz), abs(high_hz)) >= product.deadband_hz
    assert fleets.slopes(load("nordic_ffr_a")) == []


def test_a_held_sample_is_late_by_half_a_period():
    z = np.array([1e-6j, 1e-3j, 0.1j, 1.0j])
    np.testing.assert_allclose(np.angle(fleets.held(z)), -np.abs(z) / 2, rtol=1e-3, atol=1e-12)
    near = np.array([9.9e-5j, 3e-5 + 9e-5j])  # below which the series stands in
    np.testing.assert_allclose(fleets.held(near), -np.expm1(-near) / near, rtol=1e-11)


def test_a_response_time_is_a_lag_in_the_loop():
    """Open loop response time: 90 % of a step, so that tau is a ln(10)th of it (IEEE 1547-2018)."""
    product = load("ieee1547")
    assert product.olrt_s > 0.0
    fleet = Fleet(product, 100.0, (0.3,), (1.0,), sample_s=1e-6)
    ((_, _, share_hz),) = {stretch[2]: stretch for stretch in fleets.slopes(product)}.values()
    omega = np.geomspace(0.01, 20.0, 20)
    late = np.exp(-1j * omega * (0.3 + product.delay_s + 0.5e-6))
    wanted = 100.0 * share_hz * late / (1.0 + 1j * omega * product.olrt_s / math.log(10.0))
    np.testing.assert_allclose(fleets.transfer(fleet, 1j * omega, share_hz), wanted, rtol=1e-9)


GRID_60 = grids.load("ercot")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Fleet(NORDIC_N, -1.0), "fleet_mw"),
        (lambda: Fleet(NORDIC_N, math.nan), "fleet_mw"),
        (lambda: Fleet(NORDIC_N, 1.0, (0.1,), (0.5,)), "add up to 1"),
        (lambda: Fleet(NORDIC_N, 1.0, (0.1,), (0.9999,)), "add up to 1"),
        (lambda: Fleet(NORDIC_N, 1.0, (0.1, 0.2), (1.0,)), "as many"),
        (lambda: Fleet(NORDIC_N, 1.0, (-0.1,), (1.0,)), "delays_s"),
        (lambda: Fleet(NORDIC_N, 1.0, (math.nan,), (1.0,)), "delays_s"),
        (lambda: Fleet(NORDIC_N, 1.0, sample_s=0.0), "sample_s"),
        (lambda: Fleet(NORDIC_N, 1.0, ramp_pu_s=0.0), "ramp_pu_s"),
        (lambda: Fleet(load("pjm_reg_v2"), 1.0), "answers a signal"),
        (lambda: check(GRID_60, Fleet(NORDIC_N, 1.0)), "50 Hz grid.*60 Hz"),
        (lambda: check(REHEAT, Fleet(NORDIC_N, 20_000.0)), "more than the whole"),
        (lambda: simulate(REHEAT, Contingency(1.0), Fleet(NORDIC_N, 1.0, sample_s=0.015)), "multiple"),
        (lambda: simulate(REHEAT, Contingency(1.0), seconds=-1.0), "seconds"),
        (lambda: fleets.spread(0.5, 0.1), "shortest first"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, words):
    with pytest.raises(FleetError, match=words):
        make()


@pytest.mark.parametrize(
    "made", [{"loss_mw": math.inf}, {"loss_mw": 1.0, "ramp_s": -1.0}, {"loss_mw": 1.0, "noise_s": 0.0}]
)
def test_a_contingency_that_cannot_be_is_refused(made):
    with pytest.raises(ContingencyError, match=next(reversed(made))):
        Contingency(**made)


def test_energy_management_is_left_out_of_the_loop():
    # NEM would steer over minutes what a study of seconds does not know.
    assert NORDIC_N.reservoir is not None
    assert Fleet(NORDIC_N, 1.0).plain().reservoir is None
    german = load("ce_fcr_de")
    assert german.freedoms != Freedoms()
    assert Fleet(german, 1.0).plain().freedoms == Freedoms()
