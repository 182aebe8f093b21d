"""Where more fleet or more delay starts to hurt: the edge divides what helps from what does not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from droop.products import load
from droop.stability import grid as grids
from droop.stability import margins
from droop.stability.fleet import Fleet, FleetError
from droop.stability.grid import Governor, GridError
from droop.stability.measures import measure
from droop.stability.region import Effect, Judge, StoppedError, Verdict, largest_delay_s, largest_fleet_mw, region
from droop.stability.simulation import Contingency, ContingencyError, simulate
from droop.stability.study import delays_of, study
from tests.droop.stability.cases import NORDIC_N, REHEAT, integrator

LOSS = Contingency(500.0)


@pytest.fixture(scope="module")
def judge():
    return Judge(REHEAT, LOSS, seconds=20.0)


@pytest.fixture
def fleet():
    return Fleet(NORDIC_N, 600.0, (0.2, 0.4), (0.5, 0.5))


def test_the_largest_delay_divides(judge, fleet):
    edge_s = largest_delay_s(judge, fleet)
    assert 0.1 < edge_s < 2.0
    assert judge.verdict(fleet.delayed(edge_s - 0.01)).effect is Effect.HELPS
    assert judge.verdict(fleet.delayed(edge_s + 0.01)).effect is not Effect.HELPS
    # It is the damping that ends it, before the margin is lost.
    late = margins.worst(REHEAT, fleet.delayed(edge_s))[0]
    assert late.stable
    assert late.damping_frac == pytest.approx(0.05, abs=0.01)


def test_the_largest_fleet_divides(judge, fleet):
    sizes_mw = np.linspace(200.0, 2000.0, 10)
    edge_mw = largest_fleet_mw(judge, fleet, sizes_mw)
    assert 600.0 < edge_mw < 2000.0
    assert judge.helps(fleet.sized(edge_mw - 5.0))
    assert not judge.helps(fleet.sized(edge_mw + 5.0))
    assert math.isinf(largest_fleet_mw(judge, fleet, sizes_mw[:1]))


def test_the_map_is_its_cells_and_its_edge_runs_between_them(judge, fleet):
    sizes_mw, delays_s = np.array([300.0, 600.0, 1200.0]), np.array([0.1, 0.4, 0.8, 1.2])
    told = []
    found = region(judge, fleet, sizes_mw, delays_s, lambda done, cells: told.append((done, cells)) or True)
    assert told == [(k, 12) for k in range(1, 13)]
    for i, size_mw in enumerate(sizes_mw):
        for j, delay_s in enumerate(delays_s):
            one = fleet.sized(float(size_mw)).delayed(float(delay_s))
            assert found.effect[i, j] == judge.verdict(one).effect
            if found.effect[i, j] == Effect.UNSTABLE:
                assert not margins.worst(REHEAT, one)[0].stable
                assert math.isnan(found.worst_dev_hz[i, j])
            else:
                course = simulate(REHEAT, LOSS, one, seconds=20.0)
                assert found.worst_dev_hz[i, j] == measure(REHEAT, course).worst_dev_hz
        helping = delays_s[found.effect[i] == Effect.HELPS]
        hurting = delays_s[found.effect[i] != Effect.HELPS]
        assert helping.max() <= found.edge_s[i] <= hurting.min(initial=np.inf)
    # More fleet may be less late.
    assert (np.diff(found.edge_s) <= 0.0).all()
    assert set(found.effect.ravel().tolist()) >= {Effect.HELPS, Effect.UNSTABLE}
    best = [sizes_mw[np.nanargmin(np.where(column == 0, dev, np.inf))] for column, dev in
            zip(found.effect.T, found.worst_dev_hz.T, strict=True)]  # fmt: skip
    assert found.best_mw.tolist()[:2] == best[:2]


def test_a_sweep_that_is_told_to_stop_stops(judge, fleet):
    with pytest.raises(StoppedError, match="stopped"):
        region(judge, fleet, np.array([300.0]), np.array([0.1, 0.2]), lambda *_: False)


def test_the_grid_s_own_poor_damping_is_not_the_fleet_s_fault():
    # A governor that is nearly unstable by itself, at 2 %.
    loose = replace(REHEAT, load_damping_pu=0.0, governor=(Governor(droop_pu=0.05, servo_s=80.0),))
    poles = margins.swing.poles(loose)
    own = float((-poles.real / np.abs(poles)).min())
    assert own < 0.05
    assert Judge(loose, LOSS).damping_least() < own
    assert Judge(REHEAT, LOSS).damping_least() == 0.05


def test_a_fleet_that_comes_when_the_frequency_is_back_deepens():
    # Late by half a swing of a grid that swings: the fleet pushes where it should pull.
    grid = replace(REHEAT, load_damping_pu=0.5, governor=(Governor(droop_pu=0.05, servo_s=3.0),))
    product = load("nordic_ffr_a")
    judge = Judge(grid, Contingency(700.0), seconds=30.0)
    far = Fleet(product, 3000.0, (2.5,), (1.0,))
    assert judge.alone_hz(far) < 0.5
    assert judge.verdict(far).effect is Effect.DEEPENS
    assert judge.verdict(far).worst_dev_hz > judge.alone_hz(far)
    # The harm begins where the deviation is that without it.
    edge_mw = largest_fleet_mw(judge, far, np.linspace(500.0, 4000.0, 8))
    at_edge = judge.verdict(far.sized(edge_mw)).worst_dev_hz
    assert at_edge == pytest.approx(judge.alone_hz(far), abs=0.01)


def test_without_load_or_governor_the_edge_is_that_of_the_damping():
    # s + K exp(-s tau) = 0 with s = r exp(j (pi/2 + phi)), sin phi = 0.05: r tau = (pi/2 - phi)/cos phi, and
    # K tau = r tau exp(-0.05 r tau).
    phi = math.asin(0.05)
    turn = (math.pi / 2 - phi) / math.cos(phi)
    grid, fleet = integrator(2.0, 0.1, sample_s=0.01)
    edge_s = largest_delay_s(Judge(grid, Contingency(5.0), seconds=10.0), fleet)
    # Half a sample is part of the delay.
    assert 2.0 * (edge_s + 0.005) == pytest.approx(turn * math.exp(-0.05 * turn), abs=0.004)


class Told:
    """A judge that was told what each size and delay does: helps up to `edge_s`, by `dev_hz` of (size, delay)."""

    def __init__(self, edge_s, dev_hz=None):
        self.edge_s, self.dev_hz = edge_s, dev_hz or {}

    def helps(self, fleet):
        return fleet.delay_s < self.edge_s.get(fleet.fleet_mw, 0.0)

    def verdict(self, fleet):
        effect = Effect.HELPS if self.helps(fleet) else Effect.DEEPENS
        return Verdict(effect, self.dev_hz.get((fleet.fleet_mw, fleet.delay_s), 1.0))


def test_of_the_sizes_that_help_the_best_is_named_and_the_edge_lies_between_two_delays():
    judge = Told(
        {10.0: 0.7437, 20.0: 0.3},
        {(10.0, 0.2): 0.8, (20.0, 0.2): 0.5, (10.0, 0.4): 0.8, (20.0, 0.4): 0.5, (20.0, 0.8): 0.4},
    )
    found = region(judge, Fleet(NORDIC_N, 10.0), np.array([10.0, 20.0]), np.array([0.2, 0.4, 0.8]))
    assert found.best_mw.tolist() == [20.0, 10.0, 0.0]  # the larger one is better, then it hurts, then both do
    assert found.edge_s.tolist() == [pytest.approx(0.7437, abs=0.4 / 256), pytest.approx(0.3, abs=0.2 / 256)]


def test_who_never_hurts_may_be_late_without_end():
    assert math.isinf(largest_delay_s(Told({10.0: math.inf}), Fleet(NORDIC_N, 10.0)))
    assert largest_delay_s(Told({10.0: 0.0}), Fleet(NORDIC_N, 10.0)) == 0.0


def test_what_a_plot_could_not_show_is_no_harm():
    fleet = Fleet(NORDIC_N, 10.0, (0.1,), (1.0,))
    for with_hz, effect in ((0.50005, Effect.HELPS), (0.5002, Effect.DEEPENS)):
        known = {(0.0, ()): Verdict(Effect.HELPS, 0.5), (10.0, (0.1,)): Verdict(Effect.HELPS, with_hz)}
        assert Judge(REHEAT, LOSS, known=known).verdict(fleet).effect is effect


def test_fleets_of_one_first_delay_are_not_one(judge):
    near, far = (Fleet(NORDIC_N, 600.0, (0.2, other_s), (0.5, 0.5)) for other_s in (0.4, 5.0))
    assert judge.verdict(near) != judge.verdict(far)


def test_of_a_grid_that_is_unstable_no_damping_is_asked():
    wild = replace(REHEAT, governor=(Governor(droop_pu=0.05, water_s=1.0, servo_s=1.0),))
    assert margins.swing.poles(wild).real.max() > 0.1
    assert Judge(wild, LOSS).damping_least() == 0.0


def test_a_sweep_reaches_as_far_as_the_grid_is_large_and_the_fleet_late(monkeypatch):
    monkeypatch.setattr("droop.stability.study.CELLS", 2)
    # A switch that is not pulled: at no size and delay does it do anything.
    fleet = Fleet(load("nordic_ffr_a"), 6000.0, (1.0,), (1.0,))
    found = study(REHEAT, fleet, Contingency(-10.0), seconds=5.0, sweep=True)
    assert found.region.sizes_mw.tolist() == [5000.0, 10_000.0]
    assert found.region.delays_s.tolist() == [1.5, 3.0]
    assert delays_of(fleet.delayed(0.1))[-1] == 2.0
    assert [one.fleet_mw for one in found.sizes] == [1500.0, 3000.0, 6000.0]
    # It is load that is lost: the frequency rises, and the extreme is above.
    assert found.played.measures.nadir_hz > 50.0
    assert found.largest_mw == found.largest_delay_s == math.inf


@pytest.mark.parametrize(("nominal_hz", "edge_hz"), [(50.0, 3.0), (60.0, 3.6)])
def test_a_linear_model_holds_up_to_6_percent_of_nominal(nominal_hz, edge_hz):
    grid = replace(REHEAT, nominal_hz=nominal_hz)
    fleet = Fleet(replace(load("nordic_ffr_a"), nominal_hz=nominal_hz), 10.0)
    found = study(grid, fleet, Contingency(10.0), seconds=2.0)
    for dev_hz in (edge_hz - 0.01, edge_hz + 0.01):
        played = found.played._replace(measures=found.played.measures._replace(worst_dev_hz=dev_hz))
        assert replace(found, played=played).linear is (dev_hz < edge_hz)


def test_a_study_holds_together():
    fleet = Fleet(load("nordic_fcr_n"), 300.0, (0.4,), (1.0,))
    nordic = grids.load("nordic")
    found = study(nordic, fleet, Contingency(1450.0), seconds=40.0)
    assert found.effect is Effect.HELPS
    assert found.played.measures.nadir_hz > found.alone.measures.nadir_hz
    assert [one.fleet_mw for one in found.sizes] == [75.0, 150.0, 300.0, 600.0]
    deepest = [one.measures.nadir_hz for one in found.sizes]
    assert deepest == sorted(deepest)
    assert found.sizes[2].measures == found.played.measures
    assert found.margins.stable
    assert found.fleet.delay_s < found.largest_delay_s < found.fleet.delay_s + found.margins.delay_s
    assert found.region is None
    assert found.linear
    deep = study(nordic, fleet, Contingency(20_000.0), seconds=20.0)
    assert not deep.linear


@pytest.mark.parametrize(
    ("error", "grid", "fleet_mw", "loss_mw", "words"),
    [
        (FleetError, REHEAT, 20_000.0, 100.0, "more than the whole"),
        (ContingencyError, REHEAT, 0.0, 100.0, "fleet_mw"),
        (ContingencyError, REHEAT, 10.0, 20_000.0, "loss_mw"),
        (FleetError, grids.load("ercot"), 10.0, 100.0, "60 Hz"),
        (
            GridError,
            replace(REHEAT, governor=(Governor(droop_pu=0.02, water_s=3.0),)),
            10.0,
            100.0,
            "without any fleet",
        ),
        (  # it swings within its reserve alone, and that is where it begins
            GridError,
            replace(REHEAT, governor=(Governor(droop_pu=0.02, water_s=3.0, reserve_mw=50.0),)),
            10.0,
            100.0,
            "without any fleet",
        ),
    ],
)
def test_what_cannot_be_studied_is_refused(error, grid, fleet_mw, loss_mw, words):
    with pytest.raises(error, match=words):
        study(grid, Fleet(NORDIC_N, fleet_mw), Contingency(loss_mw))
