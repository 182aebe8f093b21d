"""How late a 100 Hz tick over 100 000 vehicles is, in a process of its own, with and without real-time scheduling.

Late is the time from when a sample was due to when its commands are chosen: sleeping too long and working both count.
Every vehicle reports once a second, between two ticks.
"""

from __future__ import annotations

import gc
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt

from benchmarks.fleets import NOW_NS, engine_with, trace_hz
from benchmarks.measure import Figure

VEHICLES, RATE_HZ = 100_000, 100
PERIOD_NS = 1_000_000_000 // RATE_HZ
PRIORITY = 10
# The kernels' first calls and the commands that every vehicle begins with.
WARM_TICKS = 4 * RATE_HZ


def scheduled(urgent: bool) -> str:
    """The scheduling class this process got."""
    if not urgent:
        return "SCHED_OTHER"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except (AttributeError, OSError):
        return "SCHED_OTHER: real-time scheduling not permitted"
    return f"SCHED_FIFO {PRIORITY}"


def loop(urgent: bool, seconds: int) -> tuple[str, npt.NDArray[np.int64]]:
    """Ticks on time's own beat; returns the scheduling class and how late each of them was [ns]."""
    from droop.handle import hold
    from droop.step import Running, tick_held

    state, settings = engine_with(VEHICLES)
    held = hold(Running(state, settings))
    hz = np.repeat(trace_hz(10 * seconds + 50), RATE_HZ // 10).tolist()
    for k in range(1, WARM_TICKS):
        if k % RATE_HZ == 0:
            state.fleet.report_ns[:] = NOW_NS + k * PERIOD_NS
        tick_held(held, False, NOW_NS + k * PERIOD_NS, hz[k], 0, 0.0, 0.0)
    gc.collect()
    gc.freeze()
    scheduling = scheduled(urgent)
    late = np.zeros(seconds * RATE_HZ, np.int64)
    begun_ns = time.monotonic_ns() + PERIOD_NS
    for k in range(late.size):
        due_ns = begun_ns + k * PERIOD_NS
        left_ns = due_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns / 1e9)
        now_ns = NOW_NS + (WARM_TICKS + k) * PERIOD_NS
        tick_held(held, False, now_ns, hz[k], 0, 0.0, 0.0)
        late[k] = time.monotonic_ns() - due_ns
        if k % RATE_HZ == 0:
            state.fleet.report_ns[:] = now_ns
    return scheduling, late


def run(quick: bool) -> list[Figure]:
    """`tick.late_p99_ms`, `tick.late_max_ms`, and the same without real-time scheduling; none of them quick."""
    if quick:
        return []
    figures = []
    for urgent, suffix in ((True, ""), (False, ".plain")):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            scheduling, late = pool.submit(loop, urgent, 15).result()
        against = f"{scheduling}; median {np.median(late) / 1e6:.2f} ms, p99.9 {np.quantile(late, 0.999) / 1e6:.2f} ms"
        figures += [
            Figure(f"tick.late_p99_ms{suffix}", float(np.quantile(late, 0.99)) / 1e6, "ms", against),
            Figure(f"tick.late_max_ms{suffix}", float(late.max()) / 1e6, "ms", scheduling),
        ]
    return figures
