"""Curves whose turns are known, and the first place where something is used up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from droop.stability import nyquist, swing
from tests.droop.stability.cases import MASS


@pytest.mark.parametrize(("gain", "turns"), [(0.5, 0), (7.9, 0), (8.1, -2), (60.0, -2)])
def test_three_lags_go_round_from_a_gain_of_8_on(gain, turns):
    """L = K/(1 + s)^3 crosses the real axis at sqrt(3) rad/s and -K/8: two poles go over at once (Routh)."""
    omega = np.geomspace(1e-3, 1e3, 4000)
    assert nyquist.encirclements(gain / (1.0 + 1j * omega) ** 3, gain) == turns


@pytest.mark.parametrize("nominal_hz", [50.0, 60.0])
def test_the_plant_of_a_mass_is_the_grid_s(nominal_hz):
    grid = replace(MASS, nominal_hz=nominal_hz, load_damping_pu=0.01 * nominal_hz)
    omega = np.geomspace(1e-3, 10.0, 30)
    found = nyquist.mass_plant(omega, 6000.0, nominal_hz, grid.size_mw, grid.inertia_s, 0.01)
    np.testing.assert_allclose(found, 6000.0 * swing.transfer(grid, 1j * omega), rtol=1e-12)


def test_the_first_crossing_is_the_last_place_where_something_is_spare():
    def spare(at):
        return (0.637 - at) * (1.2 - at) * (at - 5.0) * -1.0

    found = nyquist.first_crossing(spare, 0.05, 5.0, 1e-3)
    assert 0.636 <= found <= 0.637
    assert spare(found) > 0.0
    assert nyquist.first_crossing(lambda _at: -1.0, 0.05, 5.0, 1e-3) == 0.0
    looked = []
    # Up to the end and not beyond it, where steps do not divide it as where they do.
    for step in (0.5, 0.3):
        assert nyquist.first_crossing(lambda at: looked.append(at) or 1.0, step, 2.0, 1e-3) == 2.0
        assert max(looked) == 2.0
