"""The core of a backtest on one processor core: split, bounds, energy and rainflow, one vehicle a second.

A fleet regulates through a generated day at 1 s. Every tick solves the split, moves every state of charge in
float64, counts its cycles and renews both bounds of every vehicle: rating and SoC window.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.fleets import trace_hz
from benchmarks.measure import Figure
from droop.numerics import BLOCK, kernel
from droop.rainflow import THRESHOLD, Cycles, begin, update
from droop.split import solve

Column = npt.NDArray[Any]

HORIZON_S = 2.0
# Deviation of full activation. A narrow band on a trace of 20 mHz: vehicles saturate, swing and turn all day long.
FULL_HZ = 0.05
SOLD = 0.7  # of the ratings
TOLERANCE = 1e-6  # of what the fleet can do


class Rows(NamedTuple):
    """The columns of the day: the split's in float32, the energy's in float64."""

    t: Column
    s_up: Column
    s_dn: Column
    lo: Column
    hi: Column
    p: Column
    rating: Column
    soc: Column
    into: Column  # SoC gained by 1 kW of charging in 1 s
    out: Column  # SoC lost by 1 kW of discharging in 1 s
    floor: Column
    ceiling: Column


def rows(n: int, seed: int = 3) -> Rows:
    """A seeded fleet around the middle of its window."""
    rng = np.random.default_rng(seed)
    rating = rng.choice([3.7, 7.4, 11.0, 22.0], n).astype(np.float32)
    capacity_kwh = rng.uniform(40.0, 100.0, n)
    eta = rng.uniform(0.92, 0.96, n)
    lean = rng.uniform(0.2, 5.0, n)
    t, lo, hi, p = (np.zeros(n, np.float32) for _ in range(4))
    return Rows(
        t, (rating * lean).astype(np.float32), (rating / lean).astype(np.float32), lo, hi, p, rating,
        0.2 + 0.75 * rng.beta(5, 3, n), eta / (3600.0 * capacity_kwh), 1.0 / (eta * 3600.0 * capacity_kwh),
        np.full(n, 0.2), np.full(n, 0.95),
    )  # fmt: skip


@kernel
def move(
    p: Column, soc: Column, into: Column, out: Column, floor: Column, ceiling: Column, rating: Column, lo: Column,
    hi: Column, horizon_s: float,
) -> tuple[float, float]:  # fmt: skip
    """One second at p, then what the next may ask: one pass over memory; returns the sums of both bounds."""
    lo_sum = hi_sum = 0.0
    for start in range(0, p.size, BLOCK):
        p_, soc_ = p[start : start + BLOCK], soc[start : start + BLOCK]
        into_, out_ = into[start : start + BLOCK], out[start : start + BLOCK]
        floor_, ceiling_ = floor[start : start + BLOCK], ceiling[start : start + BLOCK]
        rating_, lo_, hi_ = rating[start : start + BLOCK], lo[start : start + BLOCK], hi[start : start + BLOCK]
        for i in range(p_.size):
            power = np.float64(p_[i])
            level = soc_[i] - (max(power, 0.0) * out_[i] + min(power, 0.0) * into_[i])
            soc_[i] = level
            most = np.float64(rating_[i])
            up = min(most, max(level - floor_[i], 0.0) / (out_[i] * horizon_s))
            down = min(most, max(ceiling_[i] - level, 0.0) / (into_[i] * horizon_s))
            hi_[i] = np.float32(up)
            lo_[i] = np.float32(-down)
            hi_sum += up
            lo_sum -= down
    return lo_sum, hi_sum


@kernel
def day(
    r: Rows, cycles: Cycles, requests: Column, tolerance_kw: float, price: Column, memory: Column, threshold: float
) -> tuple:  # fmt: skip
    """All ticks; returns passes, turning points and the largest error of the fleet's sum. threshold < 0: no rainflow"""
    passes = turns = 0
    worst = 0.0
    r.p[:] = 0
    lo_sum, hi_sum = move(r.p, r.soc, r.into, r.out, r.floor, r.ceiling, r.rating, r.lo, r.hi, HORIZON_S)
    for k in range(requests.size):
        total, unserved, _, n = solve(
            requests[k], tolerance_kw, r.t, r.s_up, r.s_dn, r.lo, r.hi, r.p, lo_sum, hi_sum, price, memory
        )
        worst = max(worst, abs(requests[k] - unserved - total))
        passes += n
        lo_sum, hi_sum = move(r.p, r.soc, r.into, r.out, r.floor, r.ceiling, r.rating, r.lo, r.hi, HORIZON_S)
        if threshold >= 0.0:
            turns += update(cycles, r.soc, threshold)
    return passes, turns, worst


def measured(n: int, ticks: int, hz: Column, threshold: float, repeats: int) -> tuple[float, tuple[int, int, float]]:
    """Vehicle-ticks for each second a core worked on them, fastest of `repeats`, and what the day came to.

    Processor time, not wall time: what others take on a shared machine is not ours to count.
    """
    taken: list[int] = []
    for k in range(repeats + 1):
        r = rows(n)
        cycles = begin(r.soc)
        most = float(r.rating.sum(dtype=np.float64))
        requests = SOLD * most * np.clip(-(hz[: ticks if k else 10] - 50.0) / FULL_HZ, -1.0, 1.0)
        begun_ns = time.thread_time_ns()
        result = day(r, cycles, requests, TOLERANCE * most, np.empty(0, np.float32), np.zeros(3), threshold)
        # The first, short round compiles.
        taken += [time.thread_time_ns() - begun_ns] if k else []
    return n * ticks / min(taken) * 1e9, result


def run(quick: bool) -> list[Figure]:
    """`replay.core_vehicle_ticks_per_s`: the better of two sizes of fleet, both in detail."""
    figures, rates = [], []
    repeats = 3 if quick else 9
    seconds = 21_600 if quick else 86_400
    hz = trace_hz(10 * seconds)[::10]
    for n, ticks in ((1_000, seconds), (10_000, seconds // 10)):
        bare = measured(n, ticks, hz, -1.0, repeats)[0]
        rate, (passes, turns, worst) = measured(n, ticks, hz, THRESHOLD, repeats)
        rates.append(rate)
        figures += [
            Figure(f"replay.core_vehicle_ticks_per_s.{n}", rate, "1/s", f"{ticks} ticks"),
            Figure(f"replay.core_without_rainflow_per_s.{n}", bare, "1/s"),
            Figure(f"replay.core_passes_mean.{n}", passes / ticks, "1"),
            Figure(f"replay.core_turns_per_vehicle_h.{n}", turns / n / ticks * 3600.0, "1/h"),
            Figure(f"replay.core_sum_error_kw.{n}", worst, "kW"),
        ]
    return [Figure("replay.core_vehicle_ticks_per_s", max(rates), "1/s", "goal 3.5e8; of one core"), *figures]
