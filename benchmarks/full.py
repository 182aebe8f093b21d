"""The whole engine as live, on one processor core: products, bounds, split, commands and energy, through a handle.

The frequency comes at 10 Hz (as `against`, at 1 Hz), every vehicle reports once a second and is refreshed once a
second in its turn, commands live as long as they do live.
"""

from __future__ import annotations

import time

from benchmarks.fleets import NOW_NS, engine_with, trace_hz
from benchmarks.measure import Figure
from droop.handle import hold
from droop.step import Running, tick_held

VEHICLES = 10_000


def measured(rate_hz: int, seconds: int, repeats: int) -> float:
    """Vehicle-ticks for each second a core worked on them, best of `repeats`.

    Processor time, not wall time: what others take on a shared machine is not ours to count.
    """
    hz = trace_hz(10 * seconds)[:: 10 // rate_hz].tolist()
    state, settings = engine_with(VEHICLES)
    held = hold(Running(state, settings))
    taken: list[int] = []
    now_ns = NOW_NS
    for _ in range(repeats + 1):
        begun_ns = time.thread_time_ns()
        for k, value in enumerate(hz):
            now_ns += 1_000_000_000 // rate_hz
            if k % rate_hz == 0:
                state.fleet.report_ns[:] = now_ns
            tick_held(held, False, now_ns, value, 0, 0.0, 0.0)
        taken.append(time.thread_time_ns() - begun_ns)
    # The first round compiles.
    return VEHICLES * len(hz) / min(taken[1:]) * 1e9


def run(quick: bool) -> list[Figure]:
    """`replay.full_vehicle_ticks_per_s`."""
    seconds, repeats = (60, 3) if quick else (600, 5)
    ten, one = measured(10, seconds, repeats), measured(1, seconds, repeats)
    return [
        Figure(
            "replay.full_vehicle_ticks_per_s",
            ten,
            "1/s",
            f"goal 2e8; of one core, 10 Hz ticks; {one:.3g} at 1 Hz ticks",
        )
    ]
