"""Seeded fleets and traces for the benchmarks: the same every time, everywhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from droop.bounds import Rules
from droop.commands import Sending
from droop.products import load
from droop.step import Engine, Settings, engine, tick

NOW_NS = 1_750_000_000_000_000_000
HOUR_NS = 3_600_000_000_000


class Water(NamedTuple):
    """The columns of one split, float32, and the sums of its bounds."""

    t: npt.NDArray[np.float32]
    s_up: npt.NDArray[np.float32]
    s_dn: npt.NDArray[np.float32]
    lo: npt.NDArray[np.float32]
    hi: npt.NDArray[np.float32]
    p: npt.NDArray[np.float32]
    lo_sum: float
    hi_sum: float


def water(rows: int, seed: int = 0) -> Water:
    """A mixed fleet as the split sees it."""
    rng = np.random.default_rng(seed)
    rating = rng.choice([3.7, 7.4, 11.0, 22.0], rows)
    hi = (rating * (rng.random(rows) < 0.8) * rng.random(rows)).astype(np.float32)
    lo = (-rating * rng.random(rows)).astype(np.float32)
    t = (np.where(rng.random(rows) < 0.3, 0.4, 0.0) * lo).astype(np.float32)
    g = rng.uniform(0.2, 5.0, rows)
    s_up = np.maximum((hi - t) * g, 1e-6).astype(np.float32)
    s_dn = np.maximum((t - lo) / g, 1e-6).astype(np.float32)
    return Water(
        t, s_up, s_dn, lo, hi, np.empty_like(t), float(lo.sum(dtype=np.float64)), float(hi.sum(dtype=np.float64))
    )  # fmt: skip


def trace_hz(samples: int, seed: int = 1) -> npt.NDArray[np.float64]:
    """A 10 Hz frequency: slow wander of 20 mHz, 2 mHz of noise, one event of -180 mHz."""
    rng = np.random.default_rng(seed)
    decay = np.exp(-0.1 / 60.0)
    kicks = 0.02 * np.sqrt(1.0 - decay**2) * rng.standard_normal(samples)
    wander = np.empty(samples)
    level = 0.0
    for k in range(samples):
        level = decay * level + kicks[k]
        wander[k] = level
    since = np.maximum(np.arange(samples) - samples // 2, 0) / 10.0
    event = -0.18 * (1.0 - np.exp(-since / 3.0)) * np.exp(-since / 60.0)
    return 50.0 + wander + event + 0.002 * rng.standard_normal(samples)


def engine_with(rows: int, seed: int = 2) -> tuple[Engine, Settings]:
    """An engine whose fleet is plugged in, refreshed and commanded once."""
    rng = np.random.default_rng(seed)
    state = engine(rows, [(load("ce_fcr"), 2.0 * rows)])
    fleet = state.fleet
    fleet.state[:] = rng.random(rows) < 0.85
    fleet.soh_frac[:] = rng.uniform(0.8, 1.0, rows)
    fleet.usable_kwh[:] = rng.uniform(40.0, 100.0, rows) * fleet.soh_frac
    fleet.soc_floor_kwh[:] = 0.2 * fleet.usable_kwh
    fleet.ceiling_kwh[:] = 0.95 * fleet.usable_kwh
    fleet.energy_kwh[:] = fleet.usable_kwh * rng.beta(5, 3, rows)
    fleet.dod_floor_kwh[:] = fleet.energy_kwh - 0.5 * fleet.usable_kwh
    fleet.charge_max_kw[:] = rng.choice([3.7, 7.4, 11.0, 22.0], rows)
    fleet.discharge_max_kw[:] = fleet.charge_max_kw * (rng.random(rows) < 0.8)
    fleet.eta_charge[:] = fleet.eta_discharge[:] = 0.95
    fleet.depart_ns[:] = NOW_NS + rng.integers(1, 12, rows) * HOUR_NS
    fleet.depart_kwh[:] = 0.8 * fleet.usable_kwh
    fleet.report_ns[:] = fleet.energy_ns[:] = NOW_NS
    settings = Settings(Rules(), Sending(), 1_000_000_000, 5.0)
    tick(state, settings, NOW_NS, 50.0, 0, 0.0, 0.0)
    return state, settings
