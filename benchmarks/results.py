"""What gathering a backtest's results costs: processor time of the collector for a day of 1 000 vehicles."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from aggregator.backtest import Backtest
from aggregator.backtesting import recorded_gate
from aggregator.contracts import Contract, CoreSettings
from aggregator.results.collector import Collector
from benchmarks.fleets import trace_hz
from benchmarks.measure import Figure
from droop.products import load
from telemetry.samples import FREQUENCY

VEHICLES = 1_000
START_NS = 1_790_000_000_000_000_000
DAY_S = 86_400


class Timed(Collector):
    """A collector that knows how long it took."""

    taken_ns = 0

    def samples(self, *args: Any) -> None:
        self._timed(super().samples, *args)

    def look(self, *args: Any) -> None:
        self._timed(super().look, *args)

    def edge(self, *args: Any) -> None:
        # Its own look is not counted twice.
        before_ns = self.taken_ns
        begun_ns = time.thread_time_ns()
        super().edge(*args)
        self.taken_ns = before_ns + time.thread_time_ns() - begun_ns

    def _timed(self, call: Any, *args: Any) -> None:
        begun_ns = time.thread_time_ns()
        call(*args)
        self.taken_ns += time.thread_time_ns() - begun_ns


def run(quick: bool) -> list[Figure]:
    """`results.gathering_day_1k_s`, and its share of the run."""
    seconds = 4 * 3600 if quick else DAY_S
    rows = np.zeros(seconds, FREQUENCY)
    rows["t_ns"] = rows["rx_ns"] = START_NS + np.arange(seconds) * 1_000_000_000
    rows["hz"], rows["volt_frac"] = trace_hz(10 * seconds)[::10], np.nan
    settings = CoreSettings("ce", VEHICLES, (Contract(load("ce_fcr"), 2.0 * VEHICLES),))
    gathered = Timed(settings, START_NS)
    test = Backtest(settings, recorded_gate(50.0), START_NS, 1, gathered=gathered)
    test.feed(rows[:120])  # compiles, or loads
    gathered.taken_ns, begun_ns = 0, time.thread_time_ns()
    test.feed(rows[120:])
    whole_ns = time.thread_time_ns() - begun_ns
    scale = DAY_S / (seconds - 120)
    against = f"{gathered.taken_ns / whole_ns:.1%} of the run's processor time without settlement"
    return [Figure("results.gathering_day_1k_s", gathered.taken_ns / 1e9 * scale, "s", against)]
