"""The loop in frequency: closed forms, the rulebook's delay budget, and the course in time that must say the same."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.special import lambertw

from droop.products import load
from droop.stability import grid as grids
from droop.stability import margins, nyquist
from droop.stability.fleet import Fleet
from droop.stability.grid import Governor
from droop.stability.measures import measure
from droop.stability.simulation import Contingency, simulate
from tests.droop.stability.cases import HYDRO, MASS, NORDIC_D, NORDIC_N, REHEAT, integrator, straight


def only(grid, fleet):
    (loop,) = margins.loops(grid, fleet)
    return loop


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 20.0), st.floats(0.0, 0.95))
@example(20.0, 0.00390625)
def test_an_integrator_s_margins(gain, part):
    """L = K exp(-s tau)/s: crossover K, phase margin 90 deg - K tau, delay margin pi/(2 K) - tau, gain pi/(2 K tau).

    A command held for a microsecond, T, is late by half of it: nothing beside seconds, but not beside the shortest
    delays. And it is weaker by sin(x)/x, x = w T/2: a millionth where the delay is so short that the gain margin is
    decided at 5 000 rad/s.
    """
    grid, fleet = integrator(gain, part * math.pi / (2 * gain))
    delay_s = part * math.pi / (2 * gain) + 0.5 * fleet.sample_s
    found = margins.margins(only(grid, fleet))
    assert found.stable
    assert found.crossover_rad_s == pytest.approx(gain, rel=1e-6)
    assert found.delay_s == pytest.approx(math.pi / (2 * gain) - delay_s, rel=1e-4, abs=1e-8)
    assert found.phase_deg == pytest.approx(90.0 - math.degrees(gain * delay_s), abs=1e-4)
    if part > 1e-3:
        x = 0.5 * fleet.sample_s * math.pi / (2 * delay_s)
        assert found.gain == pytest.approx(math.pi / (2 * gain * delay_s) * x / math.sin(x), rel=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.floats(1.05, 30.0), st.floats(0.5, 20.0))
def test_the_delay_margin_of_a_mass_with_load(gain, inertia_s):
    """L = K exp(-s tau)/(1 + s T): w = sqrt(K^2 - 1)/T, tau = (pi - atan(w T))/w."""
    grid = replace(MASS, inertia_s=inertia_s, load_damping_pu=1.0)
    tau_s, mw_hz = 2 * inertia_s, gain * grid.size_mw / 50.0
    found = margins.margins(only(grid, Fleet(straight(5.0), mw_hz * 5.0, sample_s=1e-6)))
    omega = math.sqrt(gain**2 - 1) / tau_s
    assert found.crossover_rad_s == pytest.approx(omega, rel=1e-6)
    assert found.delay_s == pytest.approx((math.pi - math.atan(omega * tau_s)) / omega, rel=1e-5)
    assert found.gain > 1e4  # a mass alone crosses the axis by the sampling only


@pytest.mark.parametrize("fleet_mw", [1500.0, 2500.0, 3500.0])
def test_of_several_crossovers_the_first_that_is_lost_counts(fleet_mw):
    # Governors hold slow changes and the mass holds fast ones: the loop is above 1 in between alone.
    grid = replace(REHEAT, load_damping_pu=0.2, governor=(Governor(droop_pu=0.05, reheat_s=12.0, reheat_frac=0.1),))
    loop = only(grid, Fleet(straight(1.0), fleet_mw, sample_s=1e-6))
    omega = margins.frequencies(loop)
    assert len(margins.crossovers(loop, omega, loop.along(omega))) == 2
    left_s = margins.margins(loop).delay_s
    for part, holds in ((0.98, True), (1.02, False)):
        late = only(grid, loop.fleet.delayed(part * left_s))
        assert margins.stable(late) is holds
        assert (margins.modes_below(late, 0.0) == 0) is holds


def test_a_weak_loop_has_every_margin():
    found = margins.margins(only(MASS, Fleet(straight(5.0), 500.0, (3.0,), (1.0,))))
    assert (found.stable, found.delay_s, found.phase_deg) == (True, math.inf, math.inf)
    assert 1.0 < found.peak < 2.5


@pytest.mark.parametrize("product", [0.4, 0.7, 1.2, 1.5, 1.6, 2.0, 3.0])
def test_the_least_damped_mode_is_lambert_s(product):
    """s + K exp(-s tau) = 0 has s = W(-K tau)/tau."""
    gain = 3.0
    loop = only(*integrator(gain, product / gain))
    root = complex(lambertw(-product)) * gain / product
    damping, period_s = margins.least_damped(loop)
    if -root.real / abs(root) < 0.7:
        assert damping == pytest.approx(-root.real / abs(root), abs=1e-5)
        assert period_s == pytest.approx(2 * math.pi / abs(root.imag), rel=1e-5)
    else:
        assert (damping, math.isnan(period_s)) == (0.7, True)
    assert margins.stable(loop) is (product < math.pi / 2)
    assert (margins.modes_below(loop, 0.0) == 0) is (product < math.pi / 2)


def test_counting_modes_is_counting_eigenvalues_without_delay():
    # With delay, sampling and lag at nothing the closed loop is the grid with a stiffer load.
    rng = np.random.default_rng(4)
    for _ in range(30):
        grid = replace(HYDRO, inertia_s=float(rng.uniform(2, 8)), load_damping_pu=float(rng.uniform(0.2, 2)))
        governor = replace(grid.governor[0], strength_mw_hz=float(rng.uniform(1000, 9000)), reserve_mw=math.inf)
        grid = replace(grid, governor=(governor,))
        fleet = Fleet(straight(5.0), float(rng.uniform(10, 9000)), sample_s=1e-6)
        stiffer = replace(grid, load_damping_pu=grid.load_damping_pu + fleet.fleet_mw / 5.0 * 50.0 / grid.size_mw)
        poles = margins.swing.poles(stiffer)
        for least in (0.0, 0.05, 0.4):
            wanted = np.count_nonzero(-poles.real / np.abs(poles) < least)
            assert margins.modes_below(only(grid, fleet), least) == wanted
        assert margins.stable(only(grid, fleet)) is bool((poles.real < 0).all())


# Rulebook 3.5 [D]: pure delay in the loop behind a first-order actuator, circle of 0.43 x 0.95, whole Nyquist curve.
@pytest.mark.parametrize(
    ("product", "fleet_mw", "lag_s", "budget_s"),
    [
        (NORDIC_N, 600.0, 0.0, 0.69), (NORDIC_N, 600.0, 0.5, 0.45), (NORDIC_N, 600.0, 1.0, 0.36),
        (NORDIC_D, 1450.0, 0.0, 1.16), (NORDIC_D, 1450.0, 0.5, 0.85), (NORDIC_D, 1450.0, 1.0, 0.73),
    ],
)  # fmt: skip
def test_the_nordic_delay_budget(product, fleet_mw, lag_s, budget_s):
    bare = replace(grids.load("nordic"), governor=())
    fleet = Fleet(product, fleet_mw, lag_s=lag_s, sample_s=1e-6)

    def spare(delay_s):
        loop = only(bare, fleet.delayed(delay_s))
        return nyquist.distance(loop.along(margins.frequencies(loop))) - 0.43 * 0.95

    assert nyquist.first_crossing(spare, 0.05, 5.0, 1e-4) == pytest.approx(budget_s, abs=0.006)
    # The measurement's lag stands where the actuator's does.
    measured = replace(fleet, lag_s=0.0, measure_s=lag_s, delays_s=(0.2,))
    acting = replace(fleet, delays_s=(0.2,))
    omega = np.geomspace(0.01, 10.0, 50)
    np.testing.assert_allclose(only(bare, measured).along(omega), only(bare, acting).along(omega), rtol=1e-12)


PERIODS_S = np.array([300.0, 150.0, 90.0, 70.0, 60.0, 50.0, 40.0, 25.0, 15.0, 10.0])


# NQ-1, NQ-2, rulebook 12 [D].
@pytest.mark.parametrize(
    ("product", "fleet_mw", "delay_s", "lag_s", "distance"),
    [(NORDIC_N, 600.0, 0.0, 0.0, 2.288), (NORDIC_D, 1450.0, 0.0, 0.0, 1.618), (NORDIC_N, 600.0, 1.0, 2.0, 0.270)],
)
def test_the_vectors_of_the_nordic_loop(product, fleet_mw, delay_s, lag_s, distance):
    bare = replace(grids.load("nordic"), governor=())
    loop = only(bare, Fleet(product, fleet_mw, (delay_s,), (1.0,), lag_s=lag_s, sample_s=1e-6))
    omega = 2 * np.pi / PERIODS_S
    assert nyquist.distance(loop.along(omega)) == pytest.approx(distance, abs=1e-3)
    assert 1.0 / margins.margins(loop).peak <= distance + 1e-3


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([MASS, REHEAT]), st.floats(0.5, 5.0), st.floats(0.0, 0.3),
    st.sampled_from([0.8, 0.9, 1.12, 1.25]),
)  # fmt: skip
def test_beyond_the_margin_swings_grow_in_time_and_within_it_they_fade(grid, gain, lag_s, part):
    """What the curve predicts the course shows, with the same damping and period."""
    mw_hz = gain * 2.0 * grid.inertia_s * grid.size_mw / 50.0
    fleet = Fleet(straight(1.0), mw_hz, lag_s=lag_s, sample_s=0.002)
    left_s = margins.margins(only(grid, fleet)).delay_s
    assume(0.05 < left_s < 4.0)
    late = fleet.delayed(part * left_s)
    found = margins.margins(only(grid, late))
    assert found.stable is (part < 1.0)
    assert (found.delay_s > 0.0) is (part < 1.0)
    seconds = min(10.0 * found.period_s, 60.0)
    # A small loss: everything stays on the straight part of the curve.
    shown = measure(grid, simulate(grid, Contingency(5.0), late, seconds=seconds, step_s=0.002))
    assert (shown.damping_frac > 0.0) is (part < 1.0)
    assert shown.damping_frac == pytest.approx(found.damping_frac, abs=0.02)
    assert shown.period_s == pytest.approx(found.period_s, rel=0.02)


def test_a_spread_of_dead_times_is_their_mean_to_slow_swings_and_more_to_fast_ones():
    spread = Fleet(NORDIC_N, 600.0, (0.2, 1.0), (0.5, 0.5), sample_s=1e-6)
    single = replace(spread, delays_s=(0.6,), shares=(1.0,))
    omega = np.array([0.05, 0.2, 4.0])
    one, both = (only(REHEAT, fleet).along(omega) for fleet in (single, spread))
    np.testing.assert_allclose(both / one, np.cos(0.4 * omega), rtol=1e-9)


def test_every_stretch_of_curve_and_governors_is_a_loop():
    stretches = margins.loops(HYDRO, Fleet(load("gb_dc_low"), 500.0))
    slopes = {round(loop.share_hz, 6) for loop in stretches}
    assert slopes == {round(0.05 / 0.185, 6), round(0.95 / 0.3, 6)}
    # Up to 0.1 Hz the first governor acts alone, then both; at its reserve the second one alone.
    assert {loop.on for loop in stretches} == {(True, False), (False, True)}
    assert all(-0.5 <= loop.dev_hz <= -0.015 for loop in stretches)
    worst, loop = margins.worst(HYDRO, Fleet(load("gb_dc_low"), 500.0))
    assert worst.peak == max(margins.margins(each).peak for each in stretches)
    assert loop.share_hz == pytest.approx(0.95 / 0.3)


def test_a_stretch_is_named_by_its_middle_and_ends_where_the_governor_does():
    """From its dead band, 0.05 Hz, a governor of 1 000 MW/Hz gives 100 MW more: up to 0.15 Hz."""
    grid = replace(MASS, governor=(Governor(strength_mw_hz=1000.0, reserve_mw=100.0, deadband_hz=0.05, servo_s=0.5),))
    found = {loop.on: loop.dev_hz for loop in margins.loops(grid, Fleet(straight(1.0), 100.0))}
    assert found == {(True,): pytest.approx(-0.1), (False,): pytest.approx(0.0)}
    # Of one slope each set of governors is a loop of its own.
    found = {loop.on: loop.dev_hz for loop in margins.loops(HYDRO, Fleet(straight(1.0), 100.0))}
    assert found == {(True, False): pytest.approx(-0.05), (False, True): pytest.approx(-0.55)}


def test_of_several_stretches_an_unstable_one_is_the_worst_however_far_it_passes(monkeypatch):
    known = margins.margins(only(MASS, Fleet(straight(1.0), 10.0)))
    fleet = Fleet(load("gb_dc_low"), 100.0)
    flat, steep = sorted({loop.share_hz for loop in margins.loops(MASS, fleet)})
    for name, judged in (
        ("unstable", {flat: known._replace(stable=False, peak=1.1), steep: known._replace(peak=9.0)}),
        ("nearest", {flat: known._replace(peak=9.0), steep: known._replace(peak=1.1)}),
    ):
        monkeypatch.setattr(margins, "margins", lambda loop, judged=judged: judged[loop.share_hz])
        assert margins.worst(MASS, fleet)[1].share_hz == flat, name


def test_the_curve_is_looked_at_until_nothing_is_left_of_it():
    for gain in (0.5, 50.0):
        loop = only(*integrator(gain, 0.0))
        assert abs(loop.along(margins.frequencies(loop)[-1:])[0]) <= 0.0501
    late = only(*integrator(0.01, 0.001))
    assert margins.frequencies(late, 6.0)[-1] == pytest.approx(6.0 / 0.0010005)


def test_modes_are_looked_at_up_to_2_hz_or_five_turns_of_the_delay():
    assert margins.reach_rad_s(only(*integrator(1.0, 2.0))) == pytest.approx(4.0 * math.pi)
    assert margins.reach_rad_s(only(*integrator(1.0, 0.1))) == pytest.approx(50.0)


def test_a_mode_too_fast_to_be_looked_at_still_makes_the_loop_unstable():
    # Most of the fleet is 50 ms late, a little of it so much later that the mean hides what the most does.
    grid, fleet = integrator(60.0, 0.05)
    late = replace(fleet, delays_s=(0.05, 20.0), shares=(0.97, 0.03))
    loop = only(grid, late)
    assert not margins.stable(loop)
    assert not margins.damped(grid, late, 0.0)


def test_what_runs_away_all_but_straight_has_no_period():
    """s + K exp(-s tau) = 0 for K tau = 1e5: s = (9.3 + 2.8 j)/tau grows threefold before it turns."""
    damping, period_s = margins.least_damped(only(*integrator(1e5, 1.0)))
    assert damping == -0.95
    assert math.isnan(period_s)


def test_a_switch_and_an_empty_fleet_close_no_loop():
    assert margins.worst(HYDRO, Fleet(load("nordic_ffr_a"), 100.0)) is None
    assert margins.worst(HYDRO, Fleet(NORDIC_N, 0.0)) is None
    assert margins.damped(HYDRO, Fleet(NORDIC_N, 0.0, (3.0,), (1.0,)), 0.5)
