"""A stability study: one course of two minutes, a whole study, and the map over size and delay."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.measure import Figure
from droop.products import load
from droop.stability.fleet import Fleet, spread
from droop.stability.grid import load as grid_of
from droop.stability.simulation import Contingency, rehearse, simulate
from droop.stability.study import study


def run(quick: bool) -> list[Figure]:
    """`stability.course_ms`, `stability.study_s` and, unless quick, `stability.sweep_s`."""
    rehearse()
    grid, fleet = grid_of("nordic"), Fleet(load("nordic_fcr_n"), 200.0, *spread(0.1, 0.8))
    loss = Contingency(grid.loss_mw)
    course_s = least_s(5, lambda: simulate(grid, loss, fleet))
    found = [
        Figure("stability.course_ms", 1e3 * course_s, "ms", "120 s in steps of 10 ms, decisions at 50 Hz; goal 500"),
        Figure("stability.study_s", least_s(1 if quick else 3, lambda: study(grid, fleet, loss)), "s", ""),
    ]
    if not quick:
        sweep_s = least_s(1, lambda: study(grid, fleet, loss, sweep=True))
        found.append(Figure("stability.sweep_s", sweep_s, "s", "with the map of 12 x 12 and its edge"))
    return found


def least_s(rounds: int, call: Callable[[], object]) -> float:
    """The best of some rounds: others are at work on the machine."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return min(times)
