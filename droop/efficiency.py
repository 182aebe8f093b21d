"""What a charger loses between grid and battery, as a function of its power.

    eta(p) = p / (p + P0 + K p^2),   p = |power at the grid| / rating

P0 is what it takes to run at all, K p^2 the heat of its conductors: little power is moved badly, which is why
a small request is better carried by few vehicles than by all. A nominal efficiency (battery, cable) multiplies
it. With P0 = K = 0 the nominal efficiency is all there is, the account of `droop.energy` to the last digit.

At no power there is no flow and no loss: an idle charger is switched off, and eta(0) is 0 by agreement, never a
division. A battery may also be read from a measured table, straight lines between its points.

Powers at the grid and at the battery have one sign: positive out of the battery into the grid.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.numerics import strict

Column = npt.NDArray[Any]


class Losses(NamedTuple):
    """Coefficients of the loss form, per unit of the rating."""

    standing: float  # P0
    quadratic: float  # K


# Three types of inverter (Notton et al. 2010, Renewable Energy 35, 541-554, as encoded in the open simulator SimSES
# of TU Munich).
NONE: Final = Losses(0.0, 0.0)
NOTTON_1: Final = Losses(0.0145, 0.0437)
NOTTON_2: Final = Losses(0.0072, 0.0345)
NOTTON_3: Final = Losses(0.0088, 0.1149)

# A 7.4 kW on-board charger as measured (a student report on vehicles in primary regulation): power at the grid [kW]
# and efficiency. Beyond the last point it is flat.
ONBOARD_KW: Final = np.array([0.0, 0.336, 0.673, 1.009, 1.345, 1.682, 2.018, 2.354, 3.027, 3.7, 4.71])
ONBOARD_ETA: Final = np.array([0.0, 0.8375, 0.9172, 0.9430, 0.9555, 0.9618, 0.9655, 0.9681, 0.9709, 0.9719, 0.9723])
for _points in (ONBOARD_KW, ONBOARD_ETA):
    _points.flags.writeable = False


@strict
def loss_kw(power_kw: float, rating_kw: float, standing: float, quadratic: float) -> float:
    """Loss while `power_kw` (magnitude) flows at the grid [kW]; a charger without a rating loses nothing."""
    if power_kw <= 0.0 or rating_kw <= 0.0:
        return 0.0
    # The fleet's columns are float32: an account in energy begins by leaving that.
    power, rating = np.float64(power_kw), np.float64(rating_kw)
    return standing * rating + quadratic * power * (power / rating)


@strict
def eta(power_kw: float, rating_kw: float, standing: float, quadratic: float) -> float:
    """Efficiency at `power_kw` (magnitude, at the grid): 0..1, and 0 at no power."""
    if power_kw <= 0.0:
        return 0.0
    power = np.float64(power_kw)
    return power / (power + loss_kw(power_kw, rating_kw, standing, quadratic))


@strict
def battery_kw(
    grid_kw: float, eta_charge: float, eta_discharge: float, rating_kw: float, standing: float, quadratic: float
) -> float:
    """Power at the battery while `grid_kw` flows at the grid; both positive out of the battery [kW].

    eta_charge, eta_discharge : nominal efficiencies, 0 < eta <= 1
    standing, quadratic       : P0 and K of the charger, per unit of `rating_kw`
    """
    power = np.float64(grid_kw)
    if power > 0.0:
        return (power + loss_kw(grid_kw, rating_kw, standing, quadratic)) / eta_discharge
    # The charger's share is exactly 1 where nothing is lost.
    return power * eta_charge * eta(-grid_kw, rating_kw, standing, quadratic)


@strict
def grid_kw(
    battery_kw: float, eta_charge: float, eta_discharge: float, rating_kw: float, standing: float, quadratic: float
) -> float:
    """The other way round: power at the grid that goes with `battery_kw` at the battery [kW].

    A battery that gives less than the charger's standing loss brings nothing to the grid: 0. There is always a
    power that charges with `battery_kw` as long as K |battery_kw| < eta_charge x rating; beyond it is -infinity.
    """
    power, rating = np.float64(battery_kw), np.float64(rating_kw)
    lossy = rating > 0.0 and (standing > 0.0 or quadratic > 0.0)
    if power > 0.0:
        out = power * eta_discharge
        if not lossy:
            return out
        # p + P0 + K p^2 = out, the root that goes to out - P0 as K goes to 0.
        left = out - standing * rating
        if left <= 0.0:
            return 0.0
        return 2.0 * left / (1.0 + np.sqrt(1.0 + 4.0 * quadratic * left / rating))
    into = -power / eta_charge
    if not lossy or into == 0.0:
        return -into
    # p^2 = into (p + P0 + K p^2)
    rest = 1.0 - quadratic * into / rating
    if rest <= 0.0:
        return -np.inf
    return -0.5 * (into + np.sqrt(into * into + 4.0 * rest * into * standing * rating)) / rest


@strict
def table_eta(power_kw: float, points_kw: Column, points_eta: Column) -> float:
    """Efficiency at `power_kw` (magnitude) read from a table: straight lines, flat beyond its ends, 0 at no power.

    points_kw, points_eta : float64[k], the powers rising
    """
    if power_kw <= 0.0:
        return 0.0
    if power_kw <= points_kw[0]:
        return points_eta[0]
    for k in range(1, points_kw.size):
        if power_kw < points_kw[k]:
            share = (power_kw - points_kw[k - 1]) / (points_kw[k] - points_kw[k - 1])
            return points_eta[k - 1] + (points_eta[k] - points_eta[k - 1]) * share
    return points_eta[points_eta.size - 1]


@strict
def table_battery_kw(grid_kw: float, points_kw: Column, points_eta: Column) -> float:
    """Power at the battery of a charger known by its table; both positive out of the battery [kW]."""
    # A tabled efficiency that falls to 0 with the power would ask for an infinite battery power: below the first
    # point above zero the loss there is what it takes to run.
    power = abs(np.float64(grid_kw))
    if power == 0.0:
        return 0.0
    first = 1 if points_kw[0] <= 0.0 else 0
    if power < points_kw[first]:
        at_first = points_eta[first]
        if grid_kw > 0.0:
            return power + points_kw[first] * (1.0 / at_first - 1.0)
        return -power * table_eta(power, points_kw, points_eta)
    share = table_eta(power, points_kw, points_eta)
    return power / share if grid_kw > 0.0 else -power * share


def fit(power_kw: Column, efficiency: Column, rating_kw: float) -> Losses:
    """Loss form nearest to a measured curve, for an engine that takes the form and not a table.

    power_kw, efficiency : float[k]  points at the grid; those at no power are left out
    Least squares on the loss per power, 1/eta - 1 = P0/p + K p; a negative coefficient becomes 0.
    Raises ValueError for fewer than two points.
    """
    power, share = np.asarray(power_kw, np.float64), np.asarray(efficiency, np.float64)
    if power.ndim != 1 or power.shape != share.shape:
        raise ValueError(f"efficiency: takes one number for each power, got {power.shape} and {share.shape}")
    if not (np.isfinite(power).all() and (power >= 0.0).all()):
        raise ValueError("power_kw: takes finite numbers not below 0")
    moving = power > 0.0
    if moving.sum() < 2:
        raise ValueError("power_kw: takes at least two powers above 0")
    if not ((share[moving] > 0.0) & (share[moving] <= 1.0)).all():
        raise ValueError("efficiency: takes numbers above 0 and up to 1")
    if not 0.0 < rating_kw < np.inf:
        raise ValueError(f"rating_kw: takes a finite number above 0, got {rating_kw}")
    p = power[moving] / rating_kw
    standing, quadratic = np.linalg.lstsq(np.stack([1.0 / p, p], axis=1), 1.0 / share[moving] - 1.0, rcond=None)[0]
    return Losses(max(float(standing), 0.0), max(float(quadratic), 0.0))
