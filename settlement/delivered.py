"""What the meters saw, and what of it is delivery: metered minus declared, shared out among the products.

This file knows meters and grids: no frequency, no rule of a market. Where one meter of the fleet is silent the sum is
unknown, never smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from settlement import align
from settlement.align import Cells, Floats, Grid
from settlement.facts import Meters, Shortfall

METER_PERIODS: Final = 1.5  # a reading may be half a period late
METER_HOLD_LEAST_S: Final = 1.5  # 1 s is the fastest that markets ask for
METER_HOLD_MOST_S: Final = 6.0  # the slowest period a market accepts is 4 s (rulebook 2.4)
TICK_HOLD_S: Final = 2.0  # ticks come at sample rate; a longer silence is not a shortfall, it is silence


class Energy(NamedTuple):
    """Energy over the covered time, up and down apart, both 0 or more."""

    up_kwh: float
    down_kwh: float


def metered_kw(meters: Meters, grid: Grid) -> Cells:
    """Power of the whole fleet on the grid [kW]: the sum of every meter, covered as its worst.

    Each meter's rows hold until its next one, at most one and a half of its own periods: room for jitter. What is
    missing beyond that is unknown and counts for nobody, the seller least of all.
    """
    ids = np.unique(meters.meter)
    total = np.zeros(grid.cells)
    coverage_frac = np.ones(grid.cells) if ids.size else np.zeros(grid.cells)
    for meter in ids:
        own = meters.meter == meter
        t_ns = meters.t_ns[own]
        hold_ns = align.hold_limit_ns(t_ns, METER_HOLD_LEAST_S, METER_HOLD_MOST_S, METER_PERIODS)
        cells = align.of_samples(t_ns, meters.power_kw[own], grid, hold_ns, meters.usable[own])
        total += cells.mean
        coverage_frac = np.minimum(coverage_frac, cells.coverage_frac)
    return Cells(np.where(coverage_frac > 0, total, np.nan), coverage_frac)


def doubts(meters: Meters, start_ns: int, end_ns: int) -> list[str]:
    """What is odd about the readings of [start, end), in words; that some come out of order is not."""
    found = []
    inside = (meters.t_ns >= start_ns) & (meters.t_ns < end_ns)
    for meter in np.unique(meters.meter[inside]):
        own = inside & (meters.meter == meter)
        t_ns, power_kw = meters.t_ns[own], meters.power_kw[own]
        order = np.argsort(t_ns, kind="stable")
        again = np.diff(t_ns[order]) == 0
        other = int(np.count_nonzero(again & (np.diff(power_kw[order]) != 0)))
        if other:
            found.append(f"meter {meter}: {other} readings repeat a time with another value, the last counts; "
                         "two meters with one number?")  # fmt: skip
    return found


def net_kw(metered: Cells, declared: Cells) -> Cells:
    """Delivered power [kW]: metered minus declared, covered where both are."""
    coverage_frac = np.minimum(metered.coverage_frac, declared.coverage_frac)
    return Cells(np.where(coverage_frac > 0, metered.mean - declared.mean, np.nan), coverage_frac)


def energy(cells: Cells, step_s: float) -> Energy:
    """Energy up and down over the covered time [kWh]."""
    kwh = np.nan_to_num(cells.mean) * cells.coverage_frac * (step_s / 3600.0)
    return Energy(float(kwh[kwh > 0].sum()), float(np.abs(kwh[kwh < 0]).sum()))


def share(net_kw: Floats, requested_kw: Sequence[Floats], sold_kw: Sequence[float]) -> list[Floats]:
    """Each product's part of a delivery that has only one meter.

    net_kw       : float64[n]
    requested_kw : one float64[n] per product (and per signal), NaN where unknown
    sold_kw      : one size per product, for the cells in which nothing was requested

    Everyone gets what was requested of him, and the difference between the sum and the meter is shared in proportion
    to the requested magnitudes. Where all point the same way this is sharing in proportion to the requested.
    """
    requested = np.array(requested_kw, np.float64).reshape(len(sold_kw), -1)
    size = np.abs(np.nan_to_num(requested))
    idle = size.sum(axis=0) == 0
    size[:, idle] = np.asarray(sold_kw, np.float64)[:, None]
    whole = size.sum(axis=0)
    weight = np.divide(size, whole, out=np.full_like(size, 1.0 / max(len(sold_kw), 1)), where=whole > 0)
    if len(sold_kw) == 1:
        return [net_kw.copy()]  # exact: nothing is added and taken away again
    asked = np.nan_to_num(requested)
    missing_kw = net_kw - asked.sum(axis=0)
    return list(asked + weight * missing_kw)


def unserved_kwh(shortfall: Shortfall, grid: Grid) -> dict[str, float]:
    """Energy the split could not serve, magnitudes by reason [kWh]; reasons without any are left out."""
    by_reason: dict[str, float] = {}
    for column, name in enumerate(shortfall.names):
        kw = np.abs(shortfall.kw[:, column])
        if not kw.any():
            continue
        cells = align.of_samples(shortfall.t_ns, kw, grid, round(TICK_HOLD_S * align.NS))
        by_reason[name] = align.integral(cells, grid.step_s) / 3600.0
    return {name: kwh for name, kwh in by_reason.items() if kwh > 0}
