"""Energy accounts in float64: efficiency on the right side, no lost small flows, exact over a command's expiry."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import random

import numpy as np
import pytest

from droop import energy
from tests import naive

H = naive.H_NS
S = naive.S_NS
T0 = 1_700_000_000 * S


@pytest.mark.parametrize(
    ("grid_kw", "battery_kwh"),
    [(9.5, 10.0), (-10.0, -9.5), (0.0, 0.0)],
    ids=["discharge loses on the way out", "charge loses on the way in", "rest"],
)
def test_one_hour(grid_kw, battery_kwh):
    assert energy.battery_kwh(grid_kw, H, 0.95, 0.95) == pytest.approx(battery_kwh, rel=1e-15)


def test_within_what_the_battery_holds():
    assert energy.advanced_kwh(1.0, T0, T0 + H, 11.0, 0.9, 0.9, 60.0) == 0.0
    assert energy.advanced_kwh(59.0, T0, T0 + H, -11.0, 0.9, 0.9, 60.0) == 60.0


def test_time_does_not_run_backwards():
    assert energy.advanced_kwh(30.0, T0, T0 - S, 11.0, 0.9, 0.9, 60.0) == 30.0


def test_small_flows_at_a_high_rate_are_not_lost():
    """50 W at 100 Hz for 10 minutes: float32 would lose all of it (60 kWh aboard, steps of 1.4e-7 kWh)."""
    aboard, at = 60.0, T0
    for _ in range(60_000):
        aboard = energy.advanced_kwh(aboard, at, at + S // 100, 0.05, 1.0, 1.0, 100.0)
        at += S // 100
    assert 60.0 - aboard == pytest.approx(0.05 / 6, rel=1e-6)


@pytest.mark.parametrize("seed", range(200))
def test_standing_energy_is_the_twin(seed):
    """The command up to its expiry, the safe profile from there on."""
    rng = random.Random(seed)
    car = naive.some_car(rng, T0)
    ours = energy.standing_kwh(
        car.energy_kwh, car.energy_ns, T0, car.command_kw, car.valid_until_ns, car.safe_kw, car.eta_charge,
        car.eta_discharge, car.usable_kwh,
    )  # fmt: skip
    assert ours == pytest.approx(car.energy_at(T0), rel=1e-14, abs=1e-14)


def test_a_command_that_expired_on_the_way_counts_up_to_its_expiry():
    """6 s of discharge at 36 kW, then 4 s at rest: 0.06 kWh, not 0 and not 0.1."""
    left = energy.standing_kwh(30.0, T0, T0 + 10 * S, np.float32(36.0), T0 + 6 * S, 0.0, 1.0, 1.0, 60.0)
    assert left == pytest.approx(29.94, rel=1e-14)


def test_two_looks_are_one_look():
    """Accounting in two steps gives what one step gives, wherever the cut lies."""
    for cut in (0, 1, 3, 6, 8, 10):
        first = energy.standing_kwh(30.0, T0, T0 + cut * S, 11.0, T0 + 6 * S, -2.0, 0.9, 0.8, 60.0)
        both = energy.standing_kwh(first, T0 + cut * S, T0 + 10 * S, 11.0, T0 + 6 * S, -2.0, 0.9, 0.8, 60.0)
        once = energy.standing_kwh(30.0, T0, T0 + 10 * S, 11.0, T0 + 6 * S, -2.0, 0.9, 0.8, 60.0)
        assert both == pytest.approx(once, rel=1e-14)


@pytest.mark.parametrize("until_s", [-5, 0, 3, 6, 10, 11, 30])
@pytest.mark.parametrize(("doing_kw", "safe_kw"), [(11.0, -3.7), (-7.0, 0.0), (0.0, -3.7)])
def test_a_report_books_what_moved_up_to_it(until_s, doing_kw, safe_kw):
    """By hand: the command up to its end, wherever that lies between account and report (10 s on), then the profile."""
    told_s = min(max(until_s, 0), 10)

    def battery_kw(grid_kw):
        return grid_kw / 0.8 if grid_kw > 0.0 else grid_kw * 0.9

    moved = abs(battery_kw(doing_kw) * told_s + battery_kw(safe_kw) * (10 - told_s)) / 3600.0
    energy_kwh, energy_ns, booked = energy.replaced_kwh(
        29.0, T0 + 10 * S, 30.0, T0, T0 - 60 * S, doing_kw, T0 + until_s * S, safe_kw, 11.0, 11.0, 0.9, 0.8, 60.0
    )
    assert (energy_kwh, energy_ns) == (29.0, T0 + 10 * S)
    assert booked == pytest.approx(moved, rel=1e-12, abs=1e-14)
