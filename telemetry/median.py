"""The other test for spikes: a median of three, which every sample waits one sample for.

`telemetry.quality.Gate` asks how fast a value moved and believes a sudden step at its second sample, so that only
suspicious samples cost time. Here each sample waits for the next and is judged between its neighbours: a real step
passes with its first sample, an artefact of one sample is marked, and everything is one source period later. The
price is in the latency that is measured, because a row keeps its own arrival time while it waits.

Policy: one row is held back, no more. It leaves with the next row, or with `flush` when the source has ended; a row
that waited through an outage leaves with its old arrival time, and whoever decides finds it too old. Pure and causal:
the rows that come out are the same whatever blocks went in.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from telemetry.clock import Skew
from telemetry.quality import Gate, GateSettings
from telemetry.samples import FREQUENCY, Block, Quality, empty, reasons

SPIKE = int(Quality.SPIKE)
SPIKE_BIT = SPIKE.bit_length() - 1


class Judge(Protocol):
    """A gate of either kind."""

    def check(self, block: Block) -> Block:
        """The rows decided now, marked; with a median of three, the newest one waits."""

    def flush(self) -> Block:
        """The rows that still wait, as far as can be told without their successors."""

    def rejected(self) -> dict[str, int]:
        """Rows marked so far, by reason."""

    def skew(self) -> Skew:
        """The source's clock against ours."""


class MedianGate:
    """Every test of `Gate` but the rate test; in its place a median of three good rows.

    A row is good by the other tests or is passed on with their marks. Of a good row the neighbours are the last good
    row before it, unless that is older than `spike_memory_s`, and the very next row if that is good. Farther from
    their median than `spike_rate_hz_s` allows between the two, within `spike_floor_hz` and `spike_ceiling_hz`, it is
    SPIKE. Without a good successor its predecessor alone is asked.
    """

    def __init__(self, settings: GateSettings | None = None, *, live: bool = False) -> None:
        self.settings = s = settings or GateSettings()
        self._gate = Gate(replace(s, spike_floor_hz=math.inf, spike_ceiling_hz=math.inf), live=live)
        self.counts: npt.NDArray[np.int64] = self._gate.counts
        self._memory_s = s.spike_memory_s
        self._held: Block = empty(FREQUENCY)
        self._good: tuple[int, float] | None = None  # stamp and value of the last good row that has left

    def check(self, block: Block) -> Block:
        """Rows that can be told now, in order: all but the newest. block : FREQUENCY[n]"""
        rows = np.concatenate([self._held, self._gate.check(block)])
        if not rows.size:
            return rows
        self._held = rows[-1:].copy()
        return self._judge(rows, rows.size - 1)

    def flush(self) -> Block:
        """The row that waits, judged without a successor."""
        rows, self._held = self._held, empty(FREQUENCY)
        return self._judge(rows, rows.size)

    def rejected(self) -> dict[str, int]:
        """Rows marked so far, by reason."""
        return reasons(self.counts)

    def skew(self) -> Skew:
        """The source's clock against ours."""
        return self._gate.skew()

    def _judge(self, rows: Block, count: int) -> Block:
        """The first `count` rows, with what the row behind them says of the last one."""
        stamps, values, marks = rows["t_ns"].tolist(), rows["hz"].tolist(), rows["quality"].tolist()
        out = rows[:count].copy()
        for i in range(count):
            if marks[i]:
                continue
            t_ns, hz = stamps[i], values[i]
            follows = i + 1 < len(marks) and not marks[i + 1]
            if self._is_spike(t_ns, hz, (stamps[i + 1], values[i + 1]) if follows else None):
                out["quality"][i] = SPIKE
                self.counts[SPIKE_BIT] += 1
            else:
                self._good = t_ns, hz
        return out

    def _is_spike(self, t_ns: int, hz: float, successor: tuple[int, float] | None) -> bool:
        # A stamp behind the last good one comes from a clock that was set back: nothing to compare with.
        if self._good is None or not 0 <= (t_ns - self._good[0]) * 1e-9 <= self._memory_s:
            return False
        before_ns, before_hz = self._good
        if successor is None:
            return abs(hz - before_hz) > self._allowed_hz(t_ns - before_ns)
        after_ns, after_hz = successor
        middle_hz = sorted((before_hz, hz, after_hz))[1]
        return abs(hz - middle_hz) > self._allowed_hz(after_ns - t_ns if middle_hz == after_hz else t_ns - before_ns)

    def _allowed_hz(self, step_ns: int) -> float:
        s = self.settings
        return min(max(s.spike_rate_hz_s * abs(step_ns) * 1e-9, s.spike_floor_hz), s.spike_ceiling_hz)
