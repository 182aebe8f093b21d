"""What the fleet could sustain, against the twin and the rule book's vector."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import random

import numpy as np
import pytest

from droop.capability import MINUTES, sustained, table
from droop.reasons import Reason
from tests import naive

S = naive.S_NS
NOW = 1_700_000_000 * S


def test_cap_2(as_fleet):
    """Rulebook CAP-2: 60 kWh, SoC 0.6 (0.3..0.9), efficiency 0.95, 11 kW, 2 h: up 8.55 kW, down 9.474 kW."""
    up, down = sustained(as_fleet([naive.Car()]), NOW, 2.0)
    assert up == pytest.approx(8.55, rel=1e-12)
    assert down == pytest.approx(18 / (0.95 * 2), rel=1e-12)
    assert down == pytest.approx(9.474, abs=5e-4)


@pytest.mark.parametrize("seed", range(30))
def test_is_the_twin(as_fleet, seed):
    rng = random.Random(seed)
    cars = [naive.some_car(rng, NOW) for _ in range(40)]
    fleet = as_fleet(cars)
    for hours in (0.25, 0.5, 1.0, 4.0):
        expected = naive.sustained(cars, NOW, hours)
        assert sustained(fleet, NOW, hours) == pytest.approx(expected, rel=1e-12)


def test_who_does_not_report_counts_nothing(as_fleet):
    fleet = as_fleet([naive.Car(), naive.Car(), naive.Car(state=naive.FAULT), naive.Car(state=naive.UNPLUGGED)])
    fleet.reason_up[0] = Reason.STALE
    assert sustained(fleet, NOW, 0.25) == (11.0, 11.0)
    assert sustained(as_fleet([]), NOW, 0.25) == (0.0, 0.0)


def test_the_drivers_energy_is_not_sold(as_fleet):
    """36 kWh aboard, 40 wanted in 1 h, 10.45 kWh can be charged in it: nothing to sell for that hour."""
    one = naive.Car(depart_ns=NOW + 3600 * S, depart_kwh=40.0)
    assert sustained(as_fleet([one]), NOW, 1.0)[0] == 0.0
    # For half of it: down to 40 - 5.225 kWh, and back up in the other half.
    assert sustained(as_fleet([one]), NOW, 0.5)[0] == pytest.approx((36 - 40 + 5.225) * 0.95 / 0.5)
    assert sustained(as_fleet([one]), NOW, 0.5)[1] == 11.0


def test_a_wish_beyond_the_ceiling_is_capped_there(as_fleet):
    """At the ceiling of 54 kWh with 60 wanted later: what is above 54 less a full charge may be sold."""
    one = naive.Car(energy_kwh=54.0, depart_ns=NOW + 3600 * S, depart_kwh=60.0)
    assert sustained(as_fleet([one]), NOW, 0.5)[0] == pytest.approx(5.225 * 0.95 / 0.5)


def test_table(as_fleet):
    fleet = as_fleet([naive.Car(energy_kwh=20.0), naive.Car()])
    found = table(fleet, NOW)
    assert found.shape == (3, 2)
    assert MINUTES == (15, 30, 60)
    for row, minutes in enumerate((15, 30, 60)):
        np.testing.assert_allclose(found[row], sustained(fleet, NOW, minutes / 60))
    assert (np.diff(found, axis=0) <= 0).all()  # longer is never more
