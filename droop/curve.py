"""From a deviation to the share of sold power it calls for.

A curve is a row of points: x ascending [Hz from nominal], y the fraction of sold power, export positive,
linear between points and flat outside. This file knows no product and no time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from droop.numerics import strict

Floats = npt.NDArray[np.float64]


class Curve(NamedTuple):
    """A static response.

    x_hz        : float64[k]  deviations from nominal, ascending [Hz]
    y_frac      : float64[k]  fraction of sold power, -1..1
    deadband_hz : float       half width in which a `step` dead band gives nothing; 0 where the points
                              themselves hold the dead band (the `offset` form of NESO and IEEE 1547)
    """

    x_hz: Floats
    y_frac: Floats
    deadband_hz: float


@strict
def response(dev_hz: float, x_hz: Floats, y_frac: Floats, deadband_hz: float) -> float:
    """Fraction of sold power at one deviation; NaN is unknown and asks for nothing.

    Inside a step dead band the fraction is 0; from its edge on it is the full proportional value
    (SO GL combined insensitivity and dead band, rulebook 1.2).
    """
    if np.isnan(dev_hz) or abs(dev_hz) < deadband_hz:
        return 0.0
    if dev_hz <= x_hz[0]:
        return y_frac[0]
    for i in range(1, x_hz.size):
        if dev_hz < x_hz[i]:
            share = (dev_hz - x_hz[i - 1]) / (x_hz[i] - x_hz[i - 1])
            return y_frac[i - 1] + share * (y_frac[i] - y_frac[i - 1])
    return y_frac[-1]


@strict
def _row(dev_hz: Floats, x_hz: Floats, y_frac: Floats, deadband_hz: float, out: Floats) -> None:
    for i in range(dev_hz.size):
        out[i] = response(dev_hz[i], x_hz, y_frac, deadband_hz)


def fractions(curve: Curve, dev_hz: npt.ArrayLike) -> Floats:
    """Fraction of sold power at each deviation.

    dev_hz : float64[n]  frequency minus nominal [Hz]; NaN asks for nothing
    returns float64[n]   -1..1
    """
    dev = np.ascontiguousarray(dev_hz, np.float64)
    out = np.empty(dev.size)
    _row(dev.ravel(), curve.x_hz, curve.y_frac, curve.deadband_hz, out)
    return out.reshape(dev.shape)
