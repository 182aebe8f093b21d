"""Grids and products that can be computed by hand."""

from __future__ import annotations

from dataclasses import replace

from droop.products import load, parse
from droop.stability.fleet import Fleet
from droop.stability.grid import Governor, Grid

MASS = Grid("mass", "a mass and its load", "-", 50.0, 10_000.0, 5.0, 1.0, 500.0)
REHEAT = replace(MASS, id="reheat", governor=(Governor(droop_pu=0.05, share_frac=0.95, reheat_s=8.0, reheat_frac=0.3),))
HYDRO = replace(
    MASS,
    id="hydro",
    governor=(
        Governor(
            strength_mw_hz=3000.0, reserve_mw=300.0, servo_s=0.2, transient_s=4.0, transient_ratio=2.5, water_s=0.8
        ),
        Governor(strength_mw_hz=1000.0, deadband_hz=0.1, servo_s=0.3, reheat_s=6.0, reheat_frac=0.4),
    ),
)


def straight(width_hz=0.1, nominal_hz=50.0, **changed):
    """A product without dead band, full at `width_hz`."""
    given = {"id": "straight", "title": "straight", "area": "-", "nominal_hz": nominal_hz, "direction": "symmetric"}
    return parse({**given, "curve": [[-width_hz, 1.0], [width_hz, -1.0]], **changed}, "test")


def integrator(gain_rad_s, delay_s, **changed):
    """(grid, fleet) whose loop is K exp(-s delay)/s: a mass with next to no load, and a fleet of that gain."""
    grid = replace(MASS, load_damping_pu=1e-9)
    mw_hz = gain_rad_s * 2.0 * grid.inertia_s * grid.size_mw / grid.nominal_hz
    fleet = Fleet(straight(2.0), mw_hz * 2.0, (delay_s,), (1.0,), **{"sample_s": 1e-6, **changed})
    return grid, fleet


NORDIC_N, NORDIC_D = load("nordic_fcr_n"), load("nordic_fcr_d_up")
