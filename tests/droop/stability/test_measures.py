"""Figures of a course, on courses whose figures are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.stability.measures import measure, swing
from droop.stability.simulation import Course
from tests.droop.stability.cases import MASS

GRID = replace(MASS, shed_hz=(48.6, 49.0, 48.8))


def course(dev, until_s=60.0, step_s=0.01):
    t_s = np.arange(-100, round(until_s / step_s)) * step_s
    dev_hz = np.where(t_s < 0.0, 0.0, dev(np.maximum(t_s, 0.0)))
    return Course(t_s, 50.0 + dev_hz, 0.0 * t_s - 7.0, 0.0 * t_s, 0.0 * t_s)


@given(st.floats(-0.05, 0.5), st.floats(0.8, 6.0), st.floats(-0.3, 0.3))
def test_damping_and_period_of_a_damped_sine(damping, period_s, offset_hz):
    omega = 2 * math.pi / period_s
    decay = damping / math.sqrt(1 - damping**2) * omega
    t_s = np.arange(0.0, 8 * period_s, 0.005)
    found = swing(t_s, offset_hz + 0.4 * np.exp(-decay * t_s) * np.sin(omega * t_s))
    assert found[0] == pytest.approx(damping, abs=0.01)
    assert found[1] == pytest.approx(period_s, rel=0.02)


def test_a_swing_with_flat_tops_is_one():
    t_s = np.arange(0.0, 20.0, 0.01)
    damping, period_s = swing(t_s, np.round(np.exp(-0.1 * t_s) * np.sin(2 * np.pi * t_s / 2.0), 2))
    assert damping == pytest.approx(0.1 / np.hypot(0.1, np.pi), abs=3e-3)
    assert period_s == pytest.approx(2.0, abs=0.05)


def test_what_does_not_swing_has_no_damping():
    assert all(math.isnan(x) for x in swing(np.arange(100.0), -np.arange(100.0)))
    one = measure(GRID, course(lambda t: -0.3 * (1 - np.exp(-t / 3.0))))
    assert math.isnan(one.damping_frac)
    assert math.isnan(one.period_s)


def test_nadir_rest_and_settling():
    found = measure(GRID, course(lambda t: -0.3 - 0.4 * np.exp(-t / 5.0) * np.sin(t / 2)))
    t = np.arange(0.0, 60.0, 0.001)
    exact = -0.3 - 0.4 * np.exp(-t / 5.0) * np.sin(t / 2)
    assert found.nadir_hz == pytest.approx(50.0 + exact.min(), abs=1e-5)
    assert found.nadir_s == pytest.approx(t[exact.argmin()], abs=0.011)
    assert found.worst_dev_hz == pytest.approx(-exact.min(), abs=1e-5)
    assert found.steady_hz == pytest.approx(49.7, abs=1e-4)
    outside = np.flatnonzero(np.abs(exact + 0.3) > 0.05 * -exact.min())
    assert found.settling_s == pytest.approx(t[outside[-1]], abs=0.02)
    assert found.fleet_mw == 7.0


def test_the_slope_is_of_half_a_second():
    # 1 Hz/s for 0.25 s only: over the window it is half of that.
    found = measure(GRID, course(lambda t: -np.minimum(t, 0.25)))
    assert found.rocof_hz_s == pytest.approx(-0.5, rel=1e-9)
    assert measure(GRID, course(lambda t: 0.2 * t, 3.0)).rocof_hz_s == pytest.approx(0.2, rel=1e-9)


def test_sides_and_shedding():
    down = measure(GRID, course(lambda t: -1.3 * np.minimum(t, 1.0)))
    assert down.shed_hz == (49.0, 48.8)
    assert measure(GRID, course(lambda t: -1.0 * np.minimum(t, 1.0))).shed_hz == (49.0,)  # reached is passed
    up = measure(GRID, course(lambda t: 0.6 * np.minimum(t, 1.0) - 0.1 * np.minimum(t, 0.1)), falls=False)
    assert up.nadir_hz == pytest.approx(50.59)
    assert up.shed_hz == ()


def test_what_a_plot_could_not_show_is_no_swing():
    t_s = np.arange(0.0, 20.0, 0.01)
    ripple = np.sin(2 * np.pi * t_s / 2.0)
    assert np.isnan(swing(t_s, 2e-6 * ripple)).all()  # below 10 uHz between its extremes
    assert np.isnan(swing(t_s, np.where(t_s < 0.5, -1.0, 0.0) + 4e-4 * ripple)).all()  # a thousandth of the fall
    assert not np.isnan(swing(t_s, 2e-5 * ripple)).any()


def test_the_last_half_waves_decide():
    t_s = np.arange(0.0, 30.0, 0.005)
    decay = 0.05 / np.hypot(1.0, 0.05) * 2 * np.pi
    fades = np.where(t_s < 20.0, 1.0, np.exp(-decay * (t_s - 20.0)))
    assert swing(t_s, fades * np.sin(2 * np.pi * t_s))[0] == pytest.approx(0.05, abs=1e-3)


def test_what_never_moved_has_settled():
    assert measure(GRID, course(lambda t: 0.0 * t)).settling_s == 0.0


def test_a_swing_that_lasts_never_settles():
    assert math.isnan(measure(GRID, course(lambda t: -0.3 + 0.1 * np.sin(t))).settling_s)
