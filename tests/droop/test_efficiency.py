"""The charger's losses: constant efficiency kept to the digit, both directions, there and back, the measured table."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from droop import efficiency, energy
from droop.efficiency import (
    NONE,
    NOTTON_1,
    NOTTON_2,
    NOTTON_3,
    ONBOARD_ETA,
    ONBOARD_KW,
    battery_kw,
    eta,
    fit,
    grid_kw,
    loss_kw,
    table_battery_kw,
    table_eta,
)  # fmt: skip
from tests import naive
from tests import naive_wear as slow

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
SINAMICS = DATA / "battery" / "simses_cells" / "sinamics_S120_efficiency.csv"

PRESETS = [NONE, NOTTON_1, NOTTON_2, NOTTON_3]
ratings, etas = st.sampled_from([3.7, 7.4, 11.0, 22.0]), st.floats(0.8, 1.0)
powers = st.floats(-1.0, 1.0)  # per unit
presets = st.sampled_from(PRESETS)


def test_presets_of_the_rulebook():
    """9.2."""
    assert [tuple(p) for p in PRESETS] == [(0, 0), (0.0145, 0.0437), (0.0072, 0.0345), (0.0088, 0.1149)]


@pytest.mark.parametrize(("power_kw", "share"), [(0.5, 0.8763), (1.4, 0.9565), (2.0, 0.9653), (3.7, 0.9719)])
def test_obc_1(power_kw, share):
    """Rulebook 12."""
    assert round(table_eta(power_kw, ONBOARD_KW, ONBOARD_ETA), 4) == pytest.approx(share, abs=1e-9)


def test_the_table_at_its_points_and_beyond():
    for power, share in zip(ONBOARD_KW, ONBOARD_ETA, strict=True):
        assert table_eta(power, ONBOARD_KW, ONBOARD_ETA) == share
    assert table_eta(7.4, ONBOARD_KW, ONBOARD_ETA) == 0.9723
    assert table_eta(0.0, ONBOARD_KW, ONBOARD_ETA) == 0.0
    assert table_eta(0.1, np.array([0.5, 1.0]), np.array([0.8, 0.9])) == 0.8
    # A table that says something at no power is overruled.
    assert table_eta(0.0, np.array([0.0, 1.0]), np.array([0.5, 0.9])) == 0.0


@settings(max_examples=200, deadline=None)
@given(st.floats(0.0, 9.0))
def test_the_table_is_straight_between_its_points(power):
    expected = float(np.interp(power, ONBOARD_KW, ONBOARD_ETA))
    assert table_eta(power, ONBOARD_KW, ONBOARD_ETA) == pytest.approx(expected, rel=1e-14, abs=1e-300)


@settings(max_examples=200, deadline=None)
@given(st.floats(-22.0, 22.0), etas, etas, ratings)
def test_without_losses_it_is_the_constant_efficiency(power, eta_c, eta_d, rating):
    """To the last digit what `droop.energy` charges for an hour."""
    ours = battery_kw(power, eta_c, eta_d, rating, 0.0, 0.0)
    assert ours == energy.battery_kwh(power, naive.H_NS, eta_c, eta_d)
    assert battery_kw(power, eta_c, eta_d, 0.0, 0.01, 0.05) == ours  # no rating, no losses


@settings(max_examples=300, deadline=None)
@given(powers, etas, etas, ratings, presets)
def test_battery_is_the_twin(share, eta_c, eta_d, rating, losses):
    assume(abs(share) > 1e-9 or share == 0)
    ours = battery_kw(share * rating, eta_c, eta_d, rating, *losses)
    assert ours == pytest.approx(slow.battery_kw(share * rating, eta_c, eta_d, rating, *losses), rel=1e-9)


@settings(max_examples=300, deadline=None)
@given(powers, etas, etas, ratings, presets)
def test_there_and_back(share, eta_c, eta_d, rating, losses):
    assume(abs(share) > 1e-9 or share == 0)
    power = share * rating
    there = battery_kw(power, eta_c, eta_d, rating, *losses)
    assert grid_kw(there, eta_c, eta_d, rating, *losses) == pytest.approx(power, rel=1e-7, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(powers, powers, etas, etas, ratings, presets)
def test_more_at_the_grid_is_more_at_the_battery(one, other, eta_c, eta_d, rating, losses):
    assume(abs(one - other) > 1e-9)
    low, high = sorted((one, other))
    args = (eta_c, eta_d, rating, *losses)
    assert battery_kw(low * rating, *args) < battery_kw(high * rating, *args)
    assert grid_kw(low * rating, *args) <= grid_kw(high * rating, *args)


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-6, 1.0), etas, etas, ratings, presets)
def test_the_battery_pays_for_every_way(share, eta_c, eta_d, rating, losses):
    """What goes out and comes in again through the same charger is less."""
    power = share * rating
    out, into = battery_kw(power, eta_c, eta_d, rating, *losses), -battery_kw(-power, eta_c, eta_d, rating, *losses)
    assert out >= power >= into
    if losses is not NONE:
        assert out > power > into
        assert out - power >= loss_kw(power, rating, *losses) * (1 - 1e-9)


@settings(max_examples=100, deadline=None)
@given(powers, etas, etas, ratings, presets)
def test_single_precision_columns_lose_no_precision(share, eta_c, eta_d, rating, losses):
    """The fleet's columns are float32, the account is not."""
    small = [np.float32(x) for x in (share * rating, eta_c, eta_d, rating)]
    wide = [float(x) for x in small]
    assert battery_kw(*small, *losses) == battery_kw(*wide, *losses)
    assert battery_kw(*small, np.float32(0), np.float32(0)) == energy.battery_kwh(small[0], naive.H_NS, *small[1:3])
    assert grid_kw(*small, *losses) == pytest.approx(grid_kw(*wide, *losses), rel=1e-14)
    assert table_battery_kw(small[0], ONBOARD_KW, ONBOARD_ETA) == table_battery_kw(wide[0], ONBOARD_KW, ONBOARD_ETA)


def test_at_rest_nothing_flows():
    for losses in PRESETS:
        assert eta(0.0, 7.4, *losses) == 0.0
        assert loss_kw(0.0, 7.4, *losses) == 0.0
        assert battery_kw(0.0, 0.95, 0.95, 7.4, *losses) == 0.0
        assert grid_kw(0.0, 0.95, 0.95, 7.4, *losses) == 0.0
    assert table_battery_kw(0.0, ONBOARD_KW, ONBOARD_ETA) == 0.0


def test_by_hand():
    """Half of 10 kW with P0 = 0.01, K = 0.04: 0.1 + 0.04 x 5 x 0.5 = 0.2 kW lost."""
    assert loss_kw(5.0, 10.0, 0.01, 0.04) == pytest.approx(0.2, rel=1e-14)
    assert eta(5.0, 10.0, 0.01, 0.04) == pytest.approx(5 / 5.2, rel=1e-14)
    assert battery_kw(5.0, 0.9, 0.8, 10.0, 0.01, 0.04) == pytest.approx(5.2 / 0.8, rel=1e-14)
    assert battery_kw(-5.0, 0.9, 0.8, 10.0, 0.01, 0.04) == pytest.approx(-5 * 0.9 * 5 / 5.2, rel=1e-14)


def test_a_battery_that_gives_less_than_the_charger_takes():
    assert grid_kw(0.05, 0.95, 0.95, 10.0, 0.01, 0.04) == 0.0
    assert grid_kw(0.2, 1.0, 1.0, 10.0, 0.01, 0.0) == pytest.approx(0.1, rel=1e-14)


def test_more_than_any_power_could_charge():
    assert grid_kw(-101.0, 1.0, 1.0, 10.0, 0.01, 0.1) == -math.inf
    assert grid_kw(-99.0, 1.0, 1.0, 10.0, 0.01, 0.1) < -1000.0


def test_few_vehicles_carry_a_small_request_better():
    """10 kW from ten chargers of 10 kW, or from one."""
    args = (1.0, 1.0, 10.0, *NOTTON_1)
    assert battery_kw(10.0, *args) < 10 * battery_kw(1.0, *args)


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-6, 9.0), st.floats(1e-6, 9.0))
def test_a_charger_known_by_its_table(one, other):
    low, high = sorted((one, other))
    for sign in (1.0, -1.0):
        battery = table_battery_kw(sign * high, ONBOARD_KW, ONBOARD_ETA)
        assert battery * sign > 0
        assert abs(table_battery_kw(sign * low, ONBOARD_KW, ONBOARD_ETA)) <= abs(battery) * (1 + 1e-12)
    assert table_battery_kw(high, ONBOARD_KW, ONBOARD_ETA) > high > -table_battery_kw(-high, ONBOARD_KW, ONBOARD_ETA)


def test_the_tables_lowest_powers_join_on():
    """Discharging below the first point keeps the loss of the first point; at the point both agree."""
    at = table_battery_kw(0.336, ONBOARD_KW, ONBOARD_ETA)
    assert at == pytest.approx(0.336 / 0.8375, rel=1e-14)
    assert table_battery_kw(0.336 - 1e-9, ONBOARD_KW, ONBOARD_ETA) == pytest.approx(at, rel=1e-8)
    assert table_battery_kw(1e-9, ONBOARD_KW, ONBOARD_ETA) == pytest.approx(at - 0.336, rel=1e-6)
    assert table_battery_kw(-0.168, ONBOARD_KW, ONBOARD_ETA) == pytest.approx(-0.168 * 0.8375 / 2, rel=1e-12)
    never_zero = np.array([0.5, 1.0]), np.array([0.8, 0.9])
    assert table_battery_kw(0.25, *never_zero) == pytest.approx(0.25 + 0.5 / 0.8 - 0.5, rel=1e-14)


class TestFit:
    @pytest.mark.parametrize("losses", PRESETS)
    def test_finds_what_made_the_curve(self, losses):
        power = np.linspace(0.0, 22.0, 30)
        assert fit(power, [eta(p, 22.0, *losses) for p in power], 22.0) == pytest.approx(losses, abs=1e-12)

    def test_of_the_measured_charger(self):
        """The form stays within half a percentage point of the table."""
        losses = fit(ONBOARD_KW, ONBOARD_ETA, 7.4)
        errors = [eta(p, 7.4, *losses) - share for p, share in zip(ONBOARD_KW, ONBOARD_ETA, strict=True)]
        assert max(map(abs, errors)) < 0.005

    def test_never_a_gain(self):
        assert min(fit([1.0, 2.0, 3.0], [0.9, 0.99, 1.0], 3.0)) >= 0.0

    @pytest.mark.parametrize(
        ("args", "name"),
        [
            (([1.0, 2.0], [0.9], 7.4), "efficiency"),
            (([1.0, 2.0], [0.9, 1.1], 7.4), "efficiency"),
            (([1.0, 2.0], [0.9, math.nan], 7.4), "efficiency"),
            (([1.0, math.nan], [0.9, 0.9], 7.4), "power_kw"),
            (([-1.0, 2.0], [0.9, 0.9], 7.4), "power_kw"),
            (([0.0, 2.0], [0.0, 0.9], 7.4), "power_kw"),
            (([1.0, 2.0], [0.9, 0.9], 0.0), "rating_kw"),
            (([1.0, 2.0], [0.9, 0.9], math.nan), "rating_kw"),
        ],
    )
    def test_bad_argument_is_named(self, args, name):
        with pytest.raises(ValueError, match=f"^{name}:"):
            fit(*args)


def test_the_measured_points_cannot_be_written_over():
    for column in (efficiency.ONBOARD_KW, efficiency.ONBOARD_ETA):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1.0


@pytest.mark.skipif(not SINAMICS.is_file(), reason=f"no measured converter in {SINAMICS}")
def test_the_form_fits_a_measured_converter():
    """A drive converter, 1000 points: the form stays within a percentage point from a tenth of its rating."""
    with SINAMICS.open(encoding="utf-8") as file:
        share = np.array([float(r["Charging"]) for r in csv.DictReader(file)])
    power = np.linspace(0.0, 1.0, share.size)
    losses = fit(power, share, 1.0)
    errors = [eta(p, 1.0, *losses) - s for p, s in zip(power, share, strict=True) if p >= 0.1]
    assert max(map(abs, errors)) < 0.01
