"""The rulebook's scoring vectors, America and Australia: id, input, expected, tolerance, mark, origin."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from settlement.scores import caiso_accuracy, nem_fcas, pjm_v1

TIME_S = 10.0 * np.arange(390)
SINE = np.sin(2 * np.pi * TIME_S / 200.0)
SQUARE = np.where((TIME_S // 150.0) % 2 == 0, 1.0, -1.0)
STEP_S = 0.01


class Vector(NamedTuple):
    id: str
    expected: float
    tolerance: float
    mark: str
    origin: str
    got: float | None


def later(signal, cells):
    """So many samples later; before that, what it was in the beginning."""
    return np.concatenate([np.full(cells, signal[0]), signal[: signal.size - cells]])


def hour(response, signal=SINE):
    return pjm_v1.score(signal[:360], response, 1.0)


def ramp(stop_hz=0.5, rate=0.125):
    """Deviation below nominal on the standard frequency ramp, by the middle of each cell."""
    return np.minimum(rate * STEP_S * (np.arange(round(70 / STEP_S)) + 0.5), stop_hz)


def lagged(power, tau_s):
    keep, y, out = np.exp(-STEP_S / tau_s), 0.0, []
    for value in power:
        before, y = y, keep * y + (1 - keep) * value
        out.append((before + y) / 2)
    return np.array(out)


def raise6(power):
    return nem_fcas.quantity(power, STEP_S, 0.0, nem_fcas.WINDOWS["6"], peak=True)


AGC, METER = np.array([0.0, 2.0, 5.0, 3.0]), np.array([0.0, 1.5, 4.5, 3.5])
REG = "GMLC reg_service, run"
MASS1 = raise6(lagged(60.0 * ramp(), 2.0))
MASS2 = raise6(ramp() / 0.5)
MASS2B = raise6(np.maximum(ramp() - 0.15, 0.0) / 0.35)
SLOW = {cells: hour(later(SINE, cells)) for cells in (1, 2, 3)}

VECTORS = [
    Vector("PJM-1 score", 1.0, 1e-9, "V2", REG, hour(SINE).score),
    Vector("PJM-1 delay", 1.0, 1e-9, "V2", REG, hour(SINE).delay),
    Vector("PJM-1 correlation", 1.0, 1e-9, "V2", REG, hour(SINE).correlation),
    Vector("PJM-1 precision", 1.0, 1e-9, "V2", REG, hour(SINE).precision),
    Vector("PJM-2 score", 0.966667, 1e-6, "V2", REG, hour(0.9 * SINE).score),
    Vector("PJM-2 precision", 0.9, 1e-9, "V2", REG, hour(0.9 * SINE).precision),
    *(Vector(f"PJM-3 {10 * k} s score", value, 1e-6, "V2", REG, SLOW[k].score)
      for k, value in ((1, 0.883752), (2, 0.773082), (3, 0.662735))),
    *(Vector(f"PJM-3 {10 * k} s delay", value, 1e-6, "V2", REG, SLOW[k].delay)
      for k, value in ((1, 0.966667), (2, 0.933333), (3, 0.9))),
    *(Vector(f"PJM-3 {10 * k} s precision", value, 1e-6, "V2", REG, SLOW[k].precision)
      for k, value in ((1, 0.684591), (2, 0.385912), (3, 0.088206))),
    Vector("PJM-4 no response", 0.0, 0.0, "V2", REG, hour(np.zeros(390)).score),
    Vector("PJM-4 square wave", 0.946296, 1e-6, "V2", REG, hour(later(SQUARE, 1), SQUARE).score),
    Vector("PJM-4 square wave precision", 0.872222, 1e-6, "V2", REG, hour(later(SQUARE, 1), SQUARE).precision),
    Vector("S-4c mileage", 7.0, 1e-12, "M", "CAISO, form from memory", caiso_accuracy.accuracy(AGC, METER).mileage_kw),
    Vector("S-4c accuracy", 0.85, 1e-12, "M", "CAISO, form from memory", caiso_accuracy.accuracy(AGC, METER).accuracy),
    Vector("MASS-1 1-6 s", 27.59, 0.01, "V2", "method of MASS 8.2, 6.3, run", MASS1.averages[0]),
    Vector("MASS-1 6-60 s", 59.65, 0.005, "V2", "method of MASS 8.2, 6.3, run", MASS1.averages[1]),
    Vector("MASS-1 peak", 30.0, 0.01, "V2", "method of MASS 8.2, 6.3, run", MASS1.peak),
    Vector("MASS-1 quantity", 27.59, 0.01, "V2", "method of MASS 8.2, 6.3, run", MASS1.quantity),
    Vector("MASS-2 1-6 s", 1.55, 1e-6, "D", "by hand", MASS2.averages[0]),
    Vector("MASS-2 6-60 s", 2.0, 1e-9, "D", "by hand", MASS2.averages[1]),
    Vector("MASS-2 quantity", 1.0, 1e-9, "D", "by hand", MASS2.quantity),
    Vector("MASS-2 dead band, 1-6 s", 1.36, 1e-5, "D", "by hand", MASS2B.averages[0]),
    Vector("MASS-2 dead band, quantity", 1.0, 1e-9, "D", "by hand", MASS2B.quantity),
]  # fmt: skip


@pytest.mark.parametrize("vector", VECTORS, ids=lambda one: f"{one.id} [{one.mark}]")
def test_vector(vector):
    assert vector.got == pytest.approx(vector.expected, abs=vector.tolerance), vector.origin
