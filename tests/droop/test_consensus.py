"""Who gives and who takes, over hours: windows draw level without swinging, like vehicles move alike."""

from __future__ import annotations

import numpy as np
import pytest

from droop.bounds import Rules
from droop.commands import Sending
from droop.fleet import PLUGGED
from droop.handle import hold
from droop.step import Running, Settings, engine, tick_held
from droop.watch import Verdict
from tests.naive_charger import Chargers

S = 1_000_000_000
NOW = 1_700_000_000 * S
SETTINGS = Settings(Rules(), Sending(), S, 1.0)
USABLE = int(Verdict.USABLE)
STEP_S = 2
HOUR = 3600 // STEP_S


def plugged_in(rows, usable_kwh, low, high, fill):
    """An engine whose vehicles have windows low..high of their capacity, filled to `fill`."""
    one = engine(rows, [])
    fleet = one.fleet
    fleet.state[:] = PLUGGED
    fleet.usable_kwh[:] = usable_kwh
    fleet.soc_floor_kwh[:] = low * fleet.usable_kwh
    fleet.ceiling_kwh[:] = high * fleet.usable_kwh
    fleet.energy_kwh[:] = fleet.soc_floor_kwh + fill * (fleet.ceiling_kwh - fleet.soc_floor_kwh)
    fleet.charge_max_kw[:] = fleet.discharge_max_kw[:] = 11.0
    fleet.eta_charge[:] = fleet.eta_discharge[:] = 0.95
    fleet.report_ns[:] = fleet.energy_ns[:] = NOW
    return one


def filled(fleet, energy_kwh):
    return (energy_kwh - fleet.soc_floor_kwh) / (fleet.ceiling_kwh - fleet.soc_floor_kwh)


def noise(steps, seed, size_kw):
    """Deviations as a grid's: slow, symmetric, of zero mean over the whole."""
    rng = np.random.default_rng(seed)
    out, x = np.zeros(steps), 0.0
    for k in range(steps):
        x += -x * STEP_S / 60.0 + rng.normal(0.0, np.sqrt(2 * STEP_S / 60.0))
        out[k] = x
    return size_kw * (out - out.mean())


def live(one, request_kw):
    """Follow a request; returns the chargers and each vehicle's energy once a minute."""
    held, world, history = hold(Running(one, SETTINGS)), Chargers(one.fleet, NOW), []
    for k, signal in enumerate(request_kw):
        if k * STEP_S % 60 == 0:
            history.append(world.energy_kwh.copy())
        found = tick_held(held, False, world.now_ns, 50.0, USABLE, 0.0, signal)
        assert found.broken == 0
        sent = one.out.sent[0]
        world.hear(one.out.slot[:sent], one.out.setpoint_kw[:sent], world.now_ns + SETTINGS.sending.validity_ns)
        world.advance(world.now_ns + STEP_S * S)
        world.report(one.fleet)
    return world, np.array([*history, world.energy_kwh])


def two_chemistries(seed):
    """LFP of 60 kWh used from 10 to 90 %, NMC of 40 kWh used from 40 to 80 %; the same SoC, spread over 30 points."""
    rng = np.random.default_rng(seed)
    lfp = np.arange(60) < 30
    usable, low, high = np.where(lfp, 60.0, 40.0), np.where(lfp, 0.1, 0.4), np.where(lfp, 0.9, 0.8)
    soc = rng.uniform(0.42, 0.72, 60)
    return plugged_in(60, usable, low, high, (soc - low) / (high - low)), lfp


@pytest.mark.parametrize("seed", range(2))
def test_windows_draw_level_and_do_not_swing(seed):
    one, lfp = two_chemistries(seed)
    _, energy = live(one, noise(5 * HOUR, seed, 0.4 * 660.0))
    fill = filled(one.fleet, energy)
    spread = fill[::60].std(axis=1)
    assert (np.diff(spread) < 0.0).all()
    assert spread[-1] < 0.35 * spread[0]
    # By energy in the window, not by percent of unlike batteries.
    apart = fill[:, lfp].mean(axis=1) - fill[:, ~lfp].mean(axis=1)
    assert apart[0] > 0.1
    assert abs(apart[-1]) < 0.35 * apart[0]
    soc = energy / one.fleet.usable_kwh
    assert abs(soc[0, lfp].mean() - soc[0, ~lfp].mean()) < 0.03
    assert soc[-1, ~lfp].mean() - soc[-1, lfp].mean() > 0.03
    ahead = fill - fill.mean(axis=1, keepdims=True)
    for vehicle in ahead.T:
        sides = np.sign(vehicle[np.abs(vehicle) > 0.02])
        assert (np.diff(sides) != 0).sum() <= 1


def test_vehicles_alike_move_alike():
    one = plugged_in(40, 60.0, 0.2, 0.9, 0.5)
    world, _ = live(one, noise(3 * HOUR, 7, 0.3 * 440.0))
    moved = world.moved_kwh
    assert moved.mean() > 5.0
    assert moved == pytest.approx(moved.mean(), rel=0.05)


def slopes(**changes):
    """Slopes of three vehicles of which the last differs."""
    one = plugged_in(3, 60.0, 0.2, 0.9, 0.5)
    for name, value in changes.items():
        getattr(one.fleet, name)[2] = value
    one.fleet.moved_kwh[:2] = 6.0
    if "moved_kwh" not in changes:
        one.fleet.moved_kwh[2] = 6.0
    # Twice: the fleet's means are known from the second renewal on. The day is the one whose throughput is counted.
    one.totals.day[:] = NOW // (86_400 * S)
    held = hold(Running(one, SETTINGS))
    for k in range(3):
        tick_held(held, False, NOW + k * S, 50.0, USABLE, 0.0, 0.0)
    return one.fleet.slope_up, one.fleet.slope_dn


@pytest.mark.parametrize(
    ("changes", "ratio"),
    [
        # Moved 12 when the mean is 8 of 60: 1 - 0.5 * 4 / (20 + 0.02 * 60), to 1 + 0.5 * 2 / (14 + 1.2).
        ({"moved_kwh": 12.0}, (1 - 2 / 21.2) / (1 + 1 / 15.2)),
        ({"depart_ns": NOW + 1800 * S}, 0.5),
        ({"depart_ns": NOW + 7200 * S}, 1.0),
        ({"wear": 2.0}, 0.5),
        ({"wear": 0.5}, 2.0),
    ],
)
def test_who_takes_a_smaller_share(changes, ratio):
    for slope in slopes(**changes):
        assert slope[0] == slope[1] > 0.0
        assert slope[2] / slope[0] == pytest.approx(ratio, rel=2e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_battery_that_wears_twice_as_fast_moves_half_as_far(sign):
    one = plugged_in(10, 60.0, 0.2, 0.9, 0.5)
    one.fleet.wear[5:] = 2.0
    tick_held(hold(Running(one, SETTINGS)), False, NOW, 50.0, USABLE, 0.0, sign * 15.0)
    assert one.fleet.power_kw == pytest.approx([sign * 2.0] * 5 + [sign * 1.0] * 5, rel=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_who_holds_more_gives_more_and_takes_less(sign):
    one = plugged_in(3, 60.0, 0.2, 0.9, np.array([0.7, 0.5, 0.3]))
    held = hold(Running(one, SETTINGS))
    for k in range(3):
        tick_held(held, False, NOW + k * S, 50.0, USABLE, 0.0, sign * 6.0)
    power = sign * one.fleet.power_kw[::sign]
    # x = 2 (fill - mean) = 0.4: factors (1 + x) / (1 - x) = 7/3, 1 and 3/7.
    assert power / power[1] == pytest.approx([7 / 3, 1.0, 3 / 7], rel=2e-3)
