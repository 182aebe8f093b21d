"""Curves for chargers that respond by themselves: the split's optimum, compiled into points of frequency and power.

Every vehicle gets the points (f_j, p_i(lam(P(f_j)))) of its own optimum at frequencies common to the fleet, the
product's breakpoints among them. At a knot the powers sum to what is sold; between knots the product and every
local curve are straight, so the sum of the local curves is the product's curve for any number of knots, and a
point between two feasible points is feasible. Only the division among vehicles departs from the optimum, and
that is where the knots beyond the breakpoints go. (Knots of each vehicle's own would miss the sum by per cents.)

A limit that moves after the curve was sent is the only source of error: see `resend`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.curve import Curve, fractions
from droop.curves import Columns, columns
from droop.numerics import kernel
from droop.split import fill, solve

Column = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

# Points a charger's curve may have: OCPP 2.1, v2xFreqWattCurve.
MOST: Final = 20
# A step dead band becomes a slope this wide, a twentieth of the 10 mHz of insensitivity SO GL allows FCR.
STEP_HZ: Final = 5e-4
# Frequencies at which the optimum is computed to find places for knots, shared out over the product's steps.
PLACES: Final = 256
# A departure below a charger's own watt needs no knot.
FINE_KW: Final = 1e-3
# Moving energy has no price in a local curve.
FREE: Final = np.zeros(0)
# Of the fleet's scale: how exactly the points' sums meet the request.
EXACT: Final = 1e-13


class LocalCurves(NamedTuple):
    """What a fleet's chargers are told."""

    hz: Floats  # float64[k]     common knots, ascending, in the product's own terms (deviation or frequency)
    kw: Floats  # float64[n, k]  each vehicle's power at the knots; straight between them, flat outside
    request_kw: Floats  # float64[k]  what the product asks at the knots
    unserved_kw: Floats  # float64[k]  of it, what the bounds do not allow; positive: too little up


class Departure(NamedTuple):
    """How far local curves are from the optimum over all their frequencies."""

    vehicle_kw: Floats  # float64[n]  largest of each vehicle
    largest_kw: float
    rms_kw: float  # over vehicles and frequencies
    miss_kw: float  # largest error of the fleet's sum against what it can serve of the request


def corners(curve: Curve, sold_kw: float, step_hz: float = STEP_HZ) -> tuple[Floats, Floats]:
    """A product's breakpoints and its power there; a step dead band becomes slopes of `step_hz` inside it.

    A local curve has one power for a frequency, a step has two (rulebook 7.3).
    """
    band = curve.deadband_hz
    if not band > 0.0:
        return curve.x_hz.copy(), curve.y_frac * sold_kw
    inner = band - min(step_hz, 0.5 * band)
    hz = np.concatenate((curve.x_hz[np.abs(curve.x_hz) > band], [-band, -inner, inner, band]))
    hz.sort()
    return hz, fractions(curve, hz) * sold_kw


def stack(*curves: tuple[npt.ArrayLike, npt.ArrayLike], most: int = MOST) -> tuple[Floats, Floats]:
    """The sum of several curves (hz, kw), each straight between its points and flat outside, at all their points.

    Points are told apart to a nanohertz. Raises ValueError naming the curve, and where a charger could not hold
    that many points.
    """
    rows = [_curve(f"curve {number}", hz, kw) for number, (hz, kw) in enumerate(curves)]
    if not rows:
        raise ValueError("curves: takes one or more")
    hz = np.unique(np.concatenate([row[0] for row in rows]))
    if hz.size > most:
        raise ValueError(
            f"curves: have {hz.size} breakpoints together, and a charger holds {most}: deliver one of the products"
            " by set-point, or give the products to different vehicles"
        )
    return hz, np.sum([np.interp(hz, *row) for row in rows], axis=0)


@kernel
def multipliers(
    request_kw: Floats, tolerance_kw: float, t: Column, s_up: Column, s_dn: Column, lo: Column, hi: Column,
    lo_sum_kw: float, hi_sum_kw: float, p: Column, price: Column, lam: Floats, unserved_kw: Floats,
) -> None:  # fmt: skip
    """Write the multiplier and what stays unserved for every request, each search begun where the last one ended."""
    memory = np.zeros(3)
    for j in range(request_kw.size):
        _, unserved_kw[j], lam[j], _ = solve(
            request_kw[j], tolerance_kw, t, s_up, s_dn, lo, hi, p, lo_sum_kw, hi_sum_kw, price, memory
        )


@kernel
def depart(
    below: Column, above: Column, part: float, lam: float, t: Column, s: Column, lo: Column, hi: Column, worst: Column
) -> tuple[float, float, float]:
    """Compare curves with the optimum between two knots: (largest, sum of squares, sum of the curves' powers).

    below, above : [n]    the curves' powers at the knots
    part         : float  how far between them, 0..1
    worst        : [n]    raised to each vehicle's departure
    """
    largest = 0.0
    squares = 0.0
    total = 0.0
    for i in range(t.size):
        power = below[i] + part * (above[i] - below[i])
        off = abs(power - min(max(t[i] + s[i] * lam, lo[i]), hi[i]))
        worst[i] = max(worst[i], off)
        largest = max(largest, off)
        squares += off * off
        total += power
    return largest, squares, total


class Fleet64:
    """A fleet in float64, its sums, and the optimum for any request: what this file asks of the split."""

    def __init__(self, fleet: Columns) -> None:
        self.fleet = fleet
        self.lo_kw, self.hi_kw = float(fleet.lo.sum()), float(fleet.hi.sum())
        self.scale_kw = float(np.maximum(np.abs(fleet.lo), np.abs(fleet.hi)).sum())

    def multipliers(self, request_kw: Floats) -> tuple[Floats, Floats]:
        """lam and unserved power for each request."""
        lam, unserved = np.empty(request_kw.size), np.empty(request_kw.size)
        multipliers(
            request_kw, EXACT * self.scale_kw, *self.fleet, self.lo_kw, self.hi_kw, np.empty(self.fleet.t.size), FREE,
            lam, unserved,
        )  # fmt: skip
        return lam, unserved

    def row(self, lam: float) -> Floats:
        """Every vehicle's optimum at one multiplier."""
        out = np.empty(self.fleet.t.size)
        fill(lam, self.fleet.t, self.slopes(lam), self.fleet.lo, self.fleet.hi, out, FREE)
        return out

    def slopes(self, lam: float) -> Column:
        return self.fleet.s_up if lam >= 0.0 else self.fleet.s_dn

    def depart(
        self, below: Floats, above: Floats, part: float, lam: float, worst: Floats
    ) -> tuple[float, float, float]:
        t, _, _, lo, hi = self.fleet
        return depart(below, above, part, lam, t, self.slopes(lam), lo, hi, worst)


def local_curves(
    hz: npt.ArrayLike, kw: npt.ArrayLike,
    t: npt.ArrayLike, s_up: npt.ArrayLike, s_dn: npt.ArrayLike, lo: npt.ArrayLike, hi: npt.ArrayLike,
    count: int = MOST,
) -> LocalCurves:  # fmt: skip
    """Compile the optimum for a product, or a stack of them, into a curve for every vehicle.

    hz, kw       : float64[m]  breakpoints, ascending, and the power asked there, any baseline included [kW]
    t, s_*, lo, hi : [n]       as `columns`
    count        : most knots; after the breakpoints, and the frequencies at which the fleet comes to the end of its
                   bounds, each lies where some vehicle departs most, until none departs by a watt

    The points are float64: a caller who rounds them rounds towards 0, or out of the bounds they may go.
    Raises ValueError naming the argument, and for more breakpoints than `count`.
    """
    fleet = Fleet64(columns(t, s_up, s_dn, lo, hi, np.float64))
    hz, kw = stack((hz, kw), most=count)
    hz, kw = _with_limits(hz, kw, fleet, count)
    cuts = -(-PLACES // max(hz.size - 1, 1))
    fine = _cut(hz, cuts)
    lam, _ = fleet.multipliers(np.interp(fine, hz, kw))
    knots = _knots(fleet, lam, cuts, count)
    request_kw = np.interp(fine[knots], hz, kw)
    _, unserved = fleet.multipliers(request_kw)
    rows = np.array([fleet.row(lam[j]) for j in knots])
    return LocalCurves(fine[knots], rows.T, request_kw, unserved)


def departure(
    curves: LocalCurves, hz: npt.ArrayLike, kw: npt.ArrayLike,
    t: npt.ArrayLike, s_up: npt.ArrayLike, s_dn: npt.ArrayLike, lo: npt.ArrayLike, hi: npt.ArrayLike,
    cuts: int = 32,
) -> Departure:  # fmt: skip
    """Compare curves with the optimum of a product under the bounds as they are now; arguments as `local_curves`.

    cuts : frequencies looked at in each step between the curves' knots
    """
    fleet = Fleet64(columns(t, s_up, s_dn, lo, hi, np.float64))
    hz, kw = stack((hz, kw))
    rows = np.ascontiguousarray(curves.kw.T)
    request = np.interp(_cut(curves.hz, cuts), hz, kw)
    lam, unserved = fleet.multipliers(request)
    worst = np.zeros(rows.shape[1])
    squares = miss = 0.0
    for j in range(lam.size):
        k = min(j // cuts, max(curves.hz.size - 2, 0))
        above = rows[min(k + 1, curves.hz.size - 1)]
        _, more, total = fleet.depart(rows[k], above, j / cuts - k, lam[j], worst)
        squares += more
        miss = max(miss, abs(total - (request[j] - unserved[j])))
    pairs = max(worst.size * lam.size, 1)
    return Departure(worst, float(worst.max(initial=0.0)), (squares / pairs) ** 0.5, miss)


def _knots(fleet: Fleet64, lam: Floats, cuts: int, count: int) -> list[int]:
    """Indices into the fine grid, ascending: every breakpoint, and where the curves between knots depart most."""
    rows = {j: fleet.row(lam[j]) for j in range(0, lam.size, cuts)}
    unused = np.empty(fleet.fleet.t.size)

    def worst(first: int, last: int) -> tuple[float, int]:
        """The largest departure inside a step, and minus its place: of equals the lowest counts, everywhere."""
        below, above, width = rows[first], rows[last], last - first
        found = (
            (fleet.depart(below, above, (j - first) / width, lam[j], unused)[0], -j) for j in range(first + 1, last)
        )
        return max(found, default=(0.0, -first))

    steps = {first: (*worst(first, first + cuts), first + cuts) for first in range(0, lam.size - 1, cuts)}
    while len(rows) < count and steps:
        first = max(steps, key=lambda step: steps[step][:2])
        largest_kw, place, last = steps[first]
        if largest_kw <= FINE_KW:
            break
        rows[-place] = fleet.row(lam[-place])
        steps[first] = (*worst(first, -place), -place)
        steps[-place] = (*worst(-place, last), last)
    return sorted(rows)


def _with_limits(hz: Floats, kw: Floats, fleet: Fleet64, count: int) -> tuple[Floats, Floats]:
    """Add the frequencies at which the request leaves what the fleet can do, as far as there is room for knots.

    With them among the knots the sum is all the fleet can do at every frequency; without, it cuts the corner.
    """
    added = []
    for limit in (fleet.lo_kw, fleet.hi_kw):
        for j in range(hz.size - 1):
            if (kw[j] - limit) * (kw[j + 1] - limit) < 0.0:
                added.append((hz[j] + (limit - kw[j]) / (kw[j + 1] - kw[j]) * (hz[j + 1] - hz[j]), limit))
    added = [point for point in added if point[0] not in hz][: count - hz.size]
    if not added:
        return hz, kw
    order = np.argsort(np.concatenate((hz, [point[0] for point in added])))
    return (
        np.concatenate((hz, [point[0] for point in added]))[order],
        np.concatenate((kw, [point[1] for point in added]))[order],
    )


def _cut(hz: Floats, cuts: int) -> Floats:
    """Every step between frequencies cut into equal ones."""
    places = np.arange((hz.size - 1) * cuts + 1) / cuts
    return np.interp(places, np.arange(hz.size), hz)


def _curve(name: str, hz: npt.ArrayLike, kw: npt.ArrayLike) -> tuple[Floats, Floats]:
    """One curve's points; ValueError names it."""
    x: Floats = np.asarray(hz, np.float64).round(9)
    y = np.asarray(kw, np.float64)
    if x.ndim != 1 or x.size == 0 or x.shape != y.shape:
        raise ValueError(f"{name}: takes two rows of one length, got shapes {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"{name}: takes finite numbers")
    if not (np.diff(x) > 0.0).all():
        raise ValueError(f"{name}: takes frequencies that ascend; a step takes two points a little apart")
    return x, y
