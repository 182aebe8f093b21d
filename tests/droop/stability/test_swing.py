"""The grid alone: against closed forms, against scipy, and against itself turned round and rescaled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from droop.stability import swing
from droop.stability.grid import Governor
from droop.stability.measures import measure
from droop.stability.simulation import BEGINS_S, Contingency, simulate
from tests import naive_stability as naive
from tests.droop.stability.cases import HYDRO, MASS, REHEAT


def after(course):
    """(t, deviation) from the loss on."""
    late = course.t_s >= -1e-9
    return course.t_s[late], course.hz[late]


def test_a_mass_and_its_load_fall_exponentially():
    t_s, hz = after(simulate(MASS, Contingency(500.0), seconds=60.0))
    tau_s, rest_hz = 2 * MASS.inertia_s / MASS.load_damping_pu, -500.0 / (10_000.0 * 1.0 / 50.0)
    np.testing.assert_allclose(hz - 50.0, rest_hz * (1.0 - np.exp(-t_s / tau_s)), atol=1e-11)
    assert swing.steady_dev_hz(MASS, 500.0) == pytest.approx(rest_hz)
    assert swing.rocof_hz_s(MASS, 500.0) == pytest.approx(rest_hz / tau_s)


def test_nothing_happens_before_the_contingency_and_without_one():
    course = simulate(REHEAT, Contingency(500.0), seconds=5.0)
    assert course.t_s[0] == -BEGINS_S
    assert np.abs(course.hz[course.t_s <= 0.0] - 50.0).max() == 0.0
    assert np.abs(simulate(REHEAT, Contingency(0.0), seconds=5.0).hz - 50.0).max() == 0.0


# H, D, R, K_m, F_H, T_R: an under-damped low-order model.
models = st.builds(
    lambda h, d, r, k, f, t: replace(
        MASS, inertia_s=h, load_damping_pu=d,
        governor=(Governor(droop_pu=r, share_frac=k, reheat_frac=f, reheat_s=t),),
    ),
    st.floats(2.0, 7.0), st.floats(0.0, 2.0), st.floats(0.03, 0.08), st.floats(0.5, 1.0), st.floats(0.1, 0.35),
    st.floats(6.0, 14.0),
)  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(models, st.floats(50.0, 1500.0))
def test_nadir_and_rest_are_those_of_anderson_and_mirheydar(grid, loss_mw):
    assume(np.abs(swing.poles(grid).imag).max() > 1e-3)
    found = measure(grid, simulate(grid, Contingency(loss_mw), seconds=100.0))
    closed = swing.nadir(grid, loss_mw)
    assert found.nadir_hz - 50.0 == pytest.approx(closed.dev_hz, rel=2e-5)
    assert found.nadir_s == pytest.approx(closed.at_s, abs=0.011)
    assert found.steady_hz - 50.0 == pytest.approx(swing.steady_dev_hz(grid, loss_mw), rel=1e-2)
    worst = min(swing.poles(grid), key=lambda pole: pole.real)
    assert -worst.real / abs(worst) == pytest.approx(closed.damping_frac, rel=1e-9)
    assert abs(worst) == pytest.approx(closed.natural_rad_s, rel=1e-9)


def test_the_worked_figures_of_the_low_order_model():
    # By hand: wn^2 = (1 + 19)/(10 x 8), zeta = (10 + (1 + 5.7) 8)/(2 x 20) wn.
    found = swing.nadir(REHEAT, 1000.0)
    assert found.natural_rad_s == pytest.approx(0.5)
    assert found.damping_frac == pytest.approx(0.795)
    assert swing.steady_dev_hz(REHEAT, 1000.0) == pytest.approx(-0.25)


@pytest.mark.parametrize("grid", [MASS, HYDRO, replace(REHEAT, secondary_pu_s=1.0)], ids=lambda grid: grid.id)
def test_the_closed_form_says_where_it_does_not_hold(grid):
    with pytest.raises(ValueError, match="closed form"):
        swing.nadir(grid, 100.0)


@pytest.mark.parametrize("loss_mw", [80.0, 500.0, -300.0])
def test_dead_bands_and_reserves_are_those_of_scipy(loss_mw):
    course = simulate(HYDRO, Contingency(loss_mw), seconds=40.0, step_s=0.002)
    t_s, hz = after(course)
    expected = naive.course(HYDRO, loss_mw, 40.0, delay_s=5.0)
    np.testing.assert_allclose((hz - 50.0)[::500], expected(t_s[::500]), atol=2e-4)
    assert np.abs(course.hz - 50.0).max() > 0.02


def test_the_matrices_are_the_transfer_function():
    s = np.array([0.01j, 0.3j, 2.0 + 5.0j, -0.3 + 1.0j])
    for grid in (MASS, REHEAT, HYDRO, replace(HYDRO, secondary_pu_s=0.2), replace(REHEAT, nominal_hz=60.0)):
        for on in {(True,) * len(grid.governor), (False, True)[: len(grid.governor)]}:
            found = swing.motion(grid, on)
            n = found.a.shape[0]
            by_state = [np.linalg.solve(x * np.eye(n) - found.a, found.b[:, -1])[0] for x in s]
            wanted = swing.transfer(grid, s, on) * grid.size_mw / grid.nominal_hz
            np.testing.assert_allclose(by_state, wanted, rtol=1e-9)


def test_60_hz_is_50_hz_rescaled_in_closed_form_too():
    low, high = REHEAT, replace(REHEAT, nominal_hz=60.0)
    assert swing.rocof_hz_s(high, 500.0) == pytest.approx(1.2 * swing.rocof_hz_s(low, 500.0))
    assert swing.steady_dev_hz(high, 500.0) == pytest.approx(1.2 * swing.steady_dev_hz(low, 500.0))
    assert swing.nadir(high, 500.0).dev_hz == pytest.approx(1.2 * swing.nadir(low, 500.0).dev_hz)
    assert swing.nadir(high, 500.0).at_s == swing.nadir(low, 500.0).at_s
    s = np.array([0.01j, 0.3j, 2.0 + 5.0j])
    np.testing.assert_allclose(swing.transfer(high, s), 1.2 * swing.transfer(low, s), rtol=1e-12)


def test_governors_at_rest_or_at_their_end_move_no_pole():
    """About 0.05 Hz the second one is within its dead band; about 0.5 Hz the first has given its reserve."""
    first, second = HYDRO.governor
    for dev_hz, acting, idle in ((0.05, first, second), (-0.5, second, first), (0.1, second, first)):
        # Who is idle keeps its own lags, and nothing comes of them.
        wanted = np.concatenate(
            [swing.poles(replace(HYDRO, governor=(replace(acting, deadband_hz=0.0, reserve_mw=np.inf),))),
             [-1.0 / a for _, a in idle.blocks()]]
        )  # fmt: skip
        np.testing.assert_allclose(np.sort_complex(swing.poles(HYDRO, dev_hz)), np.sort_complex(wanted), atol=1e-9)


def test_governors_and_load_carry_the_loss_in_the_end():
    course = simulate(REHEAT, Contingency(400.0), seconds=200.0)
    load_mw = -REHEAT.damping_mw_hz * (course.hz[-1] - 50.0)
    assert course.governors_mw[-1] + load_mw == pytest.approx(400.0, rel=1e-4)
    assert course.lost_mw[-1] == pytest.approx(-400.0)
    assert (simulate(HYDRO, Contingency(2000.0), seconds=60.0).governors_mw[-1]) > 300.0


def test_secondary_control_brings_the_frequency_back():
    grid = replace(REHEAT, secondary_pu_s=0.5)
    assert simulate(grid, Contingency(400.0), seconds=300.0).hz[-1] == pytest.approx(50.0, abs=1e-3)
    assert swing.steady_dev_hz(grid, 400.0) == 0.0


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([MASS, REHEAT, HYDRO]), st.floats(10.0, 800.0))
def test_a_loss_of_load_is_a_loss_of_generation_turned_round(grid, loss_mw):
    down, up = (simulate(grid, Contingency(x), seconds=20.0).hz - 50.0 for x in (loss_mw, -loss_mw))
    np.testing.assert_allclose(down, -up, atol=1e-12)
    assert down.min() < 0.0


def test_a_ramp_is_a_step_smeared_out():
    step, ramp = (simulate(MASS, Contingency(500.0, ramp_s=x), seconds=60.0) for x in (0.0, 4.0))
    assert ramp.hz.min() > step.hz.min()
    assert ramp.hz[-1] == pytest.approx(step.hz[-1], abs=5e-3)
    tau_s = 10.0
    t = 4.0  # at the ramp's end: the convolution of the exponential with it
    wanted = -2.5 * (1.0 - tau_s / t * (1.0 - np.exp(-t / tau_s)))
    assert ramp.hz[np.searchsorted(ramp.t_s, t - 1e-9)] - 50.0 == pytest.approx(wanted, abs=2e-5)


def test_noise_is_as_large_as_said_and_the_seed_s():
    series = Contingency(0.0, noise_mw=20.0, noise_s=2.0, seed=3).series(400_000, 0.01)
    assert series.std() == pytest.approx(20.0, rel=0.05)
    lagged = np.corrcoef(series[:-200], series[200:])[0, 1]
    assert lagged == pytest.approx(np.exp(-1.0), abs=0.05)
    again = Contingency(0.0, noise_mw=20.0, noise_s=2.0, seed=3).series(100, 0.01)
    np.testing.assert_array_equal(again, series[:100])
