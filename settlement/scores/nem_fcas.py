"""NEM contingency FCAS: the quantity a disturbance called forth.

A quantity is the least of averages over windows after a time origin, each times its factor, and of the peak (MASS;
rulebook 6). Six-second service: min(2 x mean of 1-6 s, 2 x mean of 6-60 s, peak), mark V2; the windows of the other
services are from memory (mark M) and a product's file may set its own (`windows`). The origin is the frequency
disturbance time, when the frequency leaves the normal operating band of +-0.15 Hz (mark M), or with `origin = "ramp"`
the beginning of a ramp of `ramp_hz_s` that leaves it then: 1.2 s before on the standard ramp of 0.125 Hz/s.

Quantities are counted towards the product's direction. Power that is unknown counts as none. An interval without a
disturbance has no quantity: enablement is paid for readiness, and there is nothing to verify.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.scores.rolling import first_of_runs
from settlement.scores.rule import (
    Delivery,
    Kpis,
    Params,
    Reach,
    Rule,
    ScoreError,
    Verdict,
    clamp,
    coarse,
    sign,
    unmeasured,
)

STEP_S: Final = 0.05
BAND_HZ: Final = 0.15
PEAK_S: Final = 60.0

RAMP_HZ_S: Final = 0.125

Window = tuple[float, float, float]  # from s, to s, factor

WINDOWS: Final[dict[str, tuple[Window, ...]]] = {
    "6": ((1.0, 6.0, 2.0), (6.0, 60.0, 2.0)),  # mark V2
    "1": ((1.0, 6.0, 2.0),),  # mark M
    "60": ((6.0, 60.0, 2.0), (60.0, 300.0, 2.0)),  # mark M
    "5": ((60.0, 300.0, 2.0), (300.0, 600.0, 1.0)),  # mark M
}
WITH_PEAK: Final = ("6",)
SERVICES: Final = tuple(f"{side}{name}" for side in ("R", "L") for name in WINDOWS)


class Quantity(NamedTuple):
    """What one disturbance called forth, in the unit of the power."""

    quantity: float
    averages: tuple[float, ...]  # each times its factor
    peak: float


def average(power: Floats, step_s: float, origin_s: float, from_s: float, to_s: float) -> float:
    """Time-weighted mean from `from_s` to `to_s` after the origin.

    power    : float64[n]  constant over each cell; beyond the last one 0
    origin_s : from the start of the first cell
    """
    if not to_s > from_s:
        raise ScoreError(f"field `windows` takes ascending times, not {from_s:g} to {to_s:g} s")
    edges = step_s * np.arange(power.size + 1)
    energy = np.concatenate([[0.0], np.cumsum(power) * step_s])
    low, high = np.interp([origin_s + from_s, origin_s + to_s], edges, energy)
    return float(high - low) / (to_s - from_s)


def quantity(power: Floats, step_s: float, origin_s: float, windows: Sequence[Window], *, peak: bool) -> Quantity:
    """Quantity of one disturbance; arguments as for `average`, `peak` whether it is bounded by the largest power."""
    if step_s <= 0 or not windows:
        raise ScoreError("fields `step_s` and `windows` take a time above 0 and at least one window")
    averages = tuple(factor * average(power, step_s, origin_s, low, high) for low, high, factor in windows)
    first = max(0, int(origin_s // step_s))
    seen = power[first : first + int(np.ceil(PEAK_S / step_s))]
    top = float(seen.max()) if seen.size else 0.0
    return Quantity(max(0.0, min((*averages, top) if peak else averages)), averages, top)


def disturbances(dev_hz: Floats, towards: float, band_hz: float = BAND_HZ) -> list[int]:
    """Cells in which the frequency leaves the band on the side that this product answers; NaN leaves nothing."""
    outside: Bools = -towards * np.nan_to_num(dev_hz) > band_hz
    return first_of_runs(outside)


def _windows(params: Params) -> tuple[list[Window], bool]:
    service = params.text("service", *SERVICES)[1:]
    rows = params.rows("windows", 3, WINDOWS[service])
    peak = params.flag("peak") if "peak" in params.table else service in WITH_PEAK
    return [(row[0], row[1], row[2]) for row in rows], peak


def _origin_s(params: Params) -> float:
    """Where the windows begin, from the frequency disturbance time on."""
    if params.text("origin", "fdt", "ramp") == "fdt":
        return 0.0
    return -params.number("band_hz", BAND_HZ, 0.0, 1.0) / params.number("ramp_hz_s", RAMP_HZ_S, 1e-3)


def reach(product: Product) -> Reach:
    """50 ms where the data have it, and as long after the interval as the last window lasts."""
    params = Params(product)
    windows, _ = _windows(params)
    lasts_s = max(to_s for _, to_s, _ in windows)
    # A service of minutes is recorded at 1 s (rulebook 6).
    step_s = params.number("step_s", STEP_S if lasts_s <= PEAK_S else 1.0, 0.01, 10.0)
    return Reach(step_s, 32, int(np.ceil(lasts_s)), True)


def judge(delivery: Delivery, product: Product) -> Verdict:
    """Least quantity of the interval's disturbances over what was sold, at most 1."""
    params, towards, step_s, inside = Params(product), sign(product), delivery.step_s, delivery.inside
    windows, peak = _windows(params)
    origin_s = _origin_s(params)
    given = delivery.given_known
    lasts = int(np.ceil(max(to_s for _, to_s, _ in windows) / step_s))
    found: list[Quantity] = []
    until = -1
    for cell in disturbances(delivery.dev_hz, towards, params.number("band_hz", BAND_HZ, 0.0, 1.0)):
        if not inside.start <= cell < inside.stop or cell < until:
            continue
        # A meter that falls silent as it begins, and no other time, called nothing forth.
        if not (given[inside].any() or given[cell : cell + lasts].any()):
            continue
        until = cell + lasts
        power_kw = towards * delivery.given_kw()
        found.append(quantity(power_kw, step_s, cell * step_s + origin_s, windows, peak=peak))
    kpis: Kpis = {"disturbances": len(found), "step_s": step_s}
    if not found:
        if not given[inside].any():
            return unmeasured(kpis)
        return Verdict(None, "no disturbance: the frequency stayed within the normal operating band", kpis)
    least = min(found, key=lambda one: one.quantity)
    kpis |= {"quantity_kw": least.quantity, "peak_kw": least.peak}
    kpis |= {f"window_{k + 1}_kw": value for k, value in enumerate(least.averages)}
    note = f"{least.quantity:.1f} kW called forth of {delivery.sold_kw:.1f} kW sold"
    value = clamp(least.quantity / delivery.sold_kw)
    return Verdict(value, note + coarse(step_s, reach(product).step_s), kpis)


RULE: Final = Rule(judge, reach)
