"""The rulebook's scoring vectors, Europe: id, input, expected, tolerance, mark, origin."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from settlement.scores import afrr_tolerance, ce_corridor, neso_bounds
from settlement.scores.rolling import slew

STEP_S = 0.05
TIME_S = STEP_S * np.arange(400)


class Vector(NamedTuple):
    id: str
    expected: float
    tolerance: float
    mark: str
    origin: str
    got: float


def _walk():
    rng = np.random.default_rng(7)
    dev = np.zeros(900)
    for k in range(1, 900):
        dev[k] = 0.98 * dev[k - 1] + 0.004 * rng.standard_normal()
    return dev


def _slope_ratio(gain):
    dev = _walk()
    target = -dev / 0.2 * 1000.0
    return ce_corridor.score(gain * target, target, dev, 1000.0, np.ones(900, bool))


def _corridor(at_s, side):
    return ce_corridor.corridor(np.full(40, 0.5), 1.0)[side][at_s]


def dc_low(hz):
    return np.interp(hz, [49.5, 49.8, 49.985], [1.0, 0.05, 0.0])


TARGET = dc_low(np.where(TIME_S >= 10.0 - 1e-9, 49.5, 50.0))


def late(lag_s, ramp_pu_s):
    """The ideal curve, so much later and no faster than that."""
    cells = round(lag_s / STEP_S)
    moved = np.concatenate([np.full(cells, TARGET[0]), TARGET[: TARGET.size - cells]])
    return slew(moved, ramp_pu_s * STEP_S, ramp_pu_s * STEP_S)


def _error(response):
    return neso_bounds.score(response, TARGET, np.ones(400, bool), STEP_S).error_frac


def _raw(response):
    lower, upper = neso_bounds.bounds(TARGET, STEP_S)
    return np.maximum(np.maximum(lower - response, response - upper), 0.0).max()


def _drop_out(samples):
    response = late(0.3, 2.0)
    response[300 : 300 + samples] = 0.0
    return _error(response)


def _tracked(at_s):
    points = np.where(4.0 * np.arange(80) < 120.0, 1.0, 0.5)
    return afrr_tolerance.trajectory(points, 1.0, 4.0)[round(at_s / 4.0) - 1]


S8B = "published DC performance-monitoring script, run"
TENNET = "TenneT NL, FCR manual for BSPs, 4.7"

VECTORS = [
    Vector("TNT-1 slope ratio", 0.85, 1e-12, "V", TENNET, _slope_ratio(0.85).slope_ratio),
    Vector("TNT-1 inadequate", 0.0, 0.0, "V", TENNET, float(_slope_ratio(0.85).adequate)),
    Vector("TNT-2 slope ratio", 1.20, 1e-12, "V", TENNET, _slope_ratio(1.20).slope_ratio),
    Vector("TNT-2 adequate", 1.0, 0.0, "V", TENNET, float(_slope_ratio(1.20).adequate)),
    Vector("COR-1 lower at 1 s", -0.05, 1e-12, "D", TENNET, _corridor(1, 0)),
    Vector("COR-1 lower at 15 s", 0.20, 1e-12, "D", TENNET, _corridor(15, 0)),
    Vector("COR-1 lower at 30 s", 0.45, 1e-12, "D", TENNET, _corridor(30, 0)),
    Vector("COR-1 upper at 1 s", 0.55, 1e-12, "D", TENNET, _corridor(1, 1)),
    Vector("COR-1 upper at 30 s", 0.55, 1e-12, "D", TENNET, _corridor(30, 1)),
    Vector("NESO-1 lag 0.3 s", 0.0, 1e-12, "V2", S8B, _error(late(0.3, 2.0))),
    Vector("NESO-1 lag 0.5 s", 0.0, 1e-12, "V2", S8B, _error(late(0.5, 2.0))),
    Vector("NESO-2 lag 0.6 s", 0.1, 1e-9, "V2", S8B, _error(late(0.6, 2.0))),
    Vector("NESO-2 lag 0.8 s", 0.5, 1e-9, "V2", S8B, _error(late(0.8, 2.0))),
    Vector("NESO-3 ramp 1/s", 0.15, 1e-9, "V2", S8B, _error(late(0.3, 1.0))),
    Vector("NESO-3 raw", 0.25, 1e-9, "V2", S8B, _raw(late(0.3, 1.0))),
    Vector("NESO-4 5 % under", 0.05, 1e-9, "V2", S8B, _error(0.95 * late(0.3, 2.0))),
    Vector("NESO-4 4 % over", 0.04, 1e-9, "V2", S8B, _error(1.04 * late(0.3, 2.0))),
    Vector("NESO-4 none", 1.0, 1e-9, "V2", S8B, _error(np.zeros(400))),
    Vector("NESO-5 three samples", 0.0, 1e-12, "V2", S8B, _drop_out(3)),
    Vector("NESO-5 four samples", 1.0, 1e-9, "V2", S8B, _drop_out(4)),
    Vector("K-1", 0.5, 1e-12, "M", "from memory", neso_bounds.factor(0.05, (0.03, 0.07))),
    Vector("AF-1 after 4 s", 0.0133333333, 1e-9, "D", "aFRR, full in 5 min", _tracked(4.0)),
    Vector("AF-2 at 120 s", 0.40, 1e-9, "D", "minimum-ramp tracker", _tracked(120.0)),
    Vector("AF-2 at 152 s", 0.50, 1e-9, "D", "minimum-ramp tracker; a cell after 150 s", _tracked(152.0)),
    Vector("AF-2 holds", 0.50, 1e-9, "D", "minimum-ramp tracker", _tracked(300.0)),
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda one: f"{one.id} [{one.mark}]")
def test_vector(vector):
    assert vector.got == pytest.approx(vector.expected, abs=vector.tolerance), vector.origin
