"""What a recorded regulation signal holds, in the figures of `flyball inspect`: where it is and how much it moves.

Mileage and autocorrelation are taken between neighbours that are no farther apart than the signal's period allows:
what lies beyond a gap, or a value that is missing, is nobody's neighbour. Memory does not grow with the file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from telemetry.samples import Block
from telemetry.traces.pjm_wide import SignalTrace
from telemetry.traces.report import NS, Gaps, Jitter, gaps_of, iso, plain
from telemetry.traces.timeline import Timeline

# Neighbours are at most so many of the first step apart.
NEAR: Final = 1.5


@dataclass(frozen=True)
class SignalFigures:
    """Over the cells that are there; None where there are none, or too few.

    mileage_pu_h : sum of |steps| in an hour, of what is cleared
    lag1         : correlation of a value with the next
    """

    min: float | None
    max: float | None
    mean: float | None
    std: float | None
    mileage_pu_h: float | None
    lag1: float | None


@dataclass(frozen=True)
class SignalReport:
    """The keys of `flyball inspect` of a signal; times are ISO 8601 UTC of the earliest and the latest stamp."""

    format: str
    rows: int
    start: str | None
    end: str | None
    period_s: float | None
    jitter_s: Jitter
    gaps: Gaps
    duplicates: int
    rejected: dict[str, int]
    signal: SignalFigures

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return asdict(self)


class _Moments:
    """Sums over values and over pairs of neighbours, about the first value so that they keep their digits."""

    def __init__(self) -> None:
        self._about: float | None = None
        self._n, self._sum, self._squares = 0, 0.0, 0.0
        self._min, self._max = math.inf, -math.inf
        self._pairs, self._left, self._right, self._products = 0, 0.0, 0.0, 0.0
        self._left_squares = self._right_squares = 0.0
        self._moved, self._span_ns, self._step_ns = 0.0, 0, 0
        self._last: tuple[int, float] | None = None

    def add(self, block: Block) -> None:
        t_ns, frac = block["t_ns"], block["frac"]
        known = np.isfinite(frac)
        if self._about is None and known.any():
            self._about = float(frac[known][0])
        away = frac - (self._about or 0.0)
        there = away[known]
        if there.size:
            self._n += there.size
            self._sum += float(there.sum())
            self._squares += float(there @ there)
            values = frac[known]
            self._min, self._max = min(self._min, float(values.min())), max(self._max, float(values.max()))
        if self._last is not None:
            t_ns, away = np.r_[self._last[0], t_ns], np.r_[self._last[1], away]
        if t_ns.size:
            self._last = (int(t_ns[-1]), float(away[-1]))
        self._neighbours(t_ns, away)

    def _neighbours(self, t_ns: Any, away: Any) -> None:
        steps = np.diff(t_ns)
        if not self._step_ns and (steps > 0).any():
            self._step_ns = int(steps[steps > 0][0])
        near = (steps > 0) & (steps <= NEAR * self._step_ns) & np.isfinite(away[:-1]) & np.isfinite(away[1:])
        left, right = away[:-1][near], away[1:][near]
        self._pairs += left.size
        self._left += float(left.sum())
        self._right += float(right.sum())
        self._products += float(left @ right)
        self._left_squares += float(left @ left)
        self._right_squares += float(right @ right)
        self._moved += float(np.abs(right - left).sum())
        self._span_ns += int(steps[near].sum())

    def figures(self) -> SignalFigures:
        if not self._n or self._about is None:
            return SignalFigures(None, None, None, None, None, None)
        mean = self._sum / self._n
        variance = max(0.0, self._squares / self._n - mean * mean)
        mileage = self._moved / (self._span_ns / 3.6e12) if self._span_ns else None
        return SignalFigures(
            self._min, self._max, self._about + mean, math.sqrt(variance), mileage,
            self._correlation(),
        )  # fmt: skip

    def _correlation(self) -> float | None:
        """Pearson's r of the pairs; None where the signal stands still."""
        if self._pairs < 2:
            return None
        left, right = self._left / self._pairs, self._right / self._pairs
        spread_left = self._left_squares / self._pairs - left * left
        spread_right = self._right_squares / self._pairs - right * right
        if min(spread_left, spread_right) <= 1e-18:
            return None
        together = self._products / self._pairs - left * right
        return max(-1.0, min(1.0, together / math.sqrt(spread_left * spread_right)))


def inspect_signal(trace: SignalTrace, *watchers: Callable[[Block], object]) -> SignalReport:
    """Read a signal through once and report on it; every block is shown to the watchers as well."""
    moments, timeline = _Moments(), Timeline()
    for block in trace:
        moments.add(block)
        timeline.add(block["t_ns"].copy())
        for watcher in watchers:
            watcher(block)
    steps = timeline.steps()
    found = Counter(trace.rejected)
    found.update(duplicate=timeline.duplicates, order=timeline.order, ahead=timeline.ahead)
    return SignalReport(
        format=trace.format,
        rows=trace.rows,
        start=iso(timeline.first),
        end=iso(timeline.last),
        period_s=None if steps.period is None else steps.period / NS,
        jitter_s=Jitter(steps.jitter / NS, steps.jitter_max / NS),
        gaps=gaps_of(steps),
        duplicates=timeline.duplicates + trace.rejected["duplicate"],
        rejected=plain(found),
        signal=moments.figures(),
    )
