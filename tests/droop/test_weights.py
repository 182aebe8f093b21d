"""Willingness to leave the plan: bounded, symmetric, and leaning the right way."""

from __future__ import annotations

import numpy as np
import pytest

from droop.split import LAM_MAX, LAM_MIN
from droop.weights import lean
from tests import naive

FILLS = np.linspace(0, 1, 101)


def test_is_the_twin():
    for fill in FILLS:
        for mean in FILLS[::10]:
            g = naive.lean(fill, mean)
            assert lean(fill, mean) == pytest.approx((g, 1 / g), rel=1e-12)


def test_even_at_the_mean():
    assert lean(0.37, 0.37) == (1.0, 1.0)


def test_fuller_vehicles_discharge_sooner():
    up, down = np.array([lean(fill, 0.5) for fill in FILLS]).T
    assert (np.diff(up) >= -1e-15).all()
    assert (np.diff(down) <= 1e-15).all()
    assert up[0] < 0.2
    assert down[0] > 5


def test_leaning_up_and_down_is_one_law():
    for d in FILLS:
        assert lean(0.5 + d, 0.5) == pytest.approx(lean(0.5 - d, 0.5)[::-1], rel=1e-12)


def test_stays_within_the_multipliers_bracket():
    """Every bound must be reached inside the bracket: room x g x |lam| >= room, either way, with a margin."""
    for fill in (0.0, 1.0):
        for mean in (0.0, 1.0):
            up, down = lean(fill, mean)
            assert up * LAM_MAX > 1.0
            assert down * -LAM_MIN > 1.0
