"""What a trace holds, in the figures of `flyball inspect`; it judges nothing the file does not say itself.

Time that is missing between stamps counts as gaps; a stamp that is there with an empty cell is not a gap but a
`missing` row. Memory does not grow with the file; `timeline` has the policy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from telemetry.samples import Block
from telemetry.traces.common import Trace
from telemetry.traces.timeline import Steps, Timeline

NS: Final = 1_000_000_000


@dataclass(frozen=True)
class Gaps:
    """Missing time: how often, how much in all, how much at once and after when; a step of n periods misses n - 1."""

    count: int
    total_s: float
    longest_s: float
    longest_start: str | None


@dataclass(frozen=True)
class Jitter:
    """How far the steps between stamps are from the period, gaps left out: root mean square and largest."""

    rms: float
    max: float


@dataclass(frozen=True)
class HzFigures:
    """Over the valid cells: neither missing nor literal zero. None where there are none."""

    min: float | None
    max: float | None
    mean: float | None
    std: float | None


@dataclass(frozen=True)
class TraceReport:
    """The keys of `flyball inspect`; times are ISO 8601 UTC of the earliest and the latest stamp."""

    format: str
    rows: int  # read, before any de-duplication; malformed ones are not among them
    start: str | None
    end: str | None
    period_s: float | None  # median step
    jitter_s: Jitter
    gaps: Gaps
    duplicates: int  # rows whose stamp another row has already had
    # missing, malformed, checksum, incomplete, zero, duplicate, order (older than a row before), ahead (far from the
    # rows around it)
    rejected: dict[str, int]
    hz: HzFigures
    nominal_hz: float
    repaired: str | None  # what the reader was told to put right
    # For drawing, not in the JSON: earliest and latest stamp; begin and end of the longest gaps.
    span_ns: tuple[int, int]
    gaps_ns: list[tuple[int, int]]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        plain = asdict(self)
        del plain["gaps_ns"], plain["span_ns"]
        return plain


class _Moments:
    """Minimum, maximum, mean and deviation of numbers that come in blocks."""

    def __init__(self, about: float) -> None:
        self._about = about  # sums of squares about nominal keep their digits
        self._n, self._sum, self._squares = 0, 0.0, 0.0
        self._min, self._max = math.inf, -math.inf

    def add(self, block: Block) -> int:
        """Take the valid cells in; returns how many cells were literal zeros."""
        hz = block["hz"]
        zeros = int(np.count_nonzero(hz == 0))
        hz = hz[np.isfinite(hz) & (hz != 0)]
        if hz.size:
            away = hz - self._about
            self._n += hz.size
            self._sum += float(away.sum())
            self._squares += float((away * away).sum())
            self._min, self._max = min(self._min, float(hz.min())), max(self._max, float(hz.max()))
        return zeros

    def figures(self) -> HzFigures:
        if not self._n:
            return HzFigures(None, None, None, None)
        mean = self._sum / self._n
        variance = max(0.0, self._squares / self._n - mean * mean)
        return HzFigures(self._min, self._max, self._about + mean, math.sqrt(variance))


def inspect(trace: Trace, *watchers: Callable[[Block], object]) -> TraceReport:
    """Read a trace through once and report on it; every block is shown to the watchers as well."""
    moments, timeline, zeros = _Moments(trace.nominal_hz), Timeline(), 0
    for block in trace:
        zeros += moments.add(block)
        timeline.add(block["t_ns"].copy())
        for watcher in watchers:
            watcher(block)
    steps = timeline.steps()
    found = Counter(trace.rejected)
    found.update(zero=zeros, duplicate=timeline.duplicates, order=timeline.order, ahead=timeline.ahead)
    return TraceReport(
        format=trace.format,
        rows=trace.rows,
        start=iso(timeline.first),
        end=iso(timeline.last),
        period_s=None if steps.period is None else steps.period / NS,
        jitter_s=Jitter(steps.jitter / NS, steps.jitter_max / NS),
        gaps=gaps_of(steps),
        duplicates=timeline.duplicates,
        rejected=plain(found),
        hz=moments.figures(),
        nominal_hz=trace.nominal_hz,
        repaired=trace.repaired,
        span_ns=(timeline.first or 0, timeline.last or 0),
        gaps_ns=steps.gaps,
    )


def gaps_of(steps: Steps) -> Gaps:
    """Missing time as it is reported."""
    longest = max(steps.gaps, key=lambda gap: gap[1] - gap[0], default=(None,))[0]
    return Gaps(steps.gap_count, steps.gap_total / NS, steps.gap_longest / NS, iso(longest))


def plain(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by reason, in order of name, without zeros."""
    return {reason: n for reason, n in sorted(counts.items()) if n}


def iso(t_ns: int | None) -> str | None:
    """ISO 8601 UTC; microseconds where there is a fraction."""
    if t_ns is None:
        return None
    seconds, rest = divmod(t_ns, NS)
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=rest // 1000)
    return at.isoformat().replace("+00:00", "Z")
