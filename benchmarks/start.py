"""A fresh process from nothing to its first tick, with kernels compiled before."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.measure import Figure

FIRST_TICK = """
from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from droop.products import load
core = Aggregator(CoreSettings("ce", 16, (Contract(load("ce_fcr"), 10.0),)), journal=False)
core.on_time(1)
"""


def run(quick: bool) -> list[Figure]:
    """`start.warm_s`: the median of several starts."""
    command = [sys.executable, "-c", FIRST_TICK]
    subprocess.run(command, check=True)
    times = []
    for _ in range(3 if quick else 7):
        begun_s = time.perf_counter()
        subprocess.run(command, check=True)
        times.append(time.perf_counter() - begun_s)
    return [Figure("start.warm_s", statistics.median(times), "s", "goal 1")]
