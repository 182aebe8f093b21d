"""What a trace holds, in the figures of `flyball inspect`; it judges nothing the file does not say itself.

Time that is missing between stamps counts as gaps; a stamp that is there with an empty cell is not a gap but a
`missing` row. Memory: eight bytes a row, for the stamps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from telemetry.samples import Block
from telemetry.traces.cells import Ints
from telemetry.traces.common import Trace

NS: Final = 1_000_000_000
GAP: Final = 1.5  # periods between two stamps from which on something is missing


@dataclass(frozen=True)
class Gaps:
    """Missing time: how often, how much in all, how much at once; a step of n periods misses n - 1."""

    count: int
    total_s: float
    longest_s: float


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
    gaps: Gaps
    duplicates: int  # rows whose stamp another row has already had
    rejected: dict[str, int]  # missing, malformed, zero, duplicate, order (older than a row before)
    hz: HzFigures
    nominal_hz: float

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return {**vars(self), "gaps": dict(vars(self.gaps)), "hz": dict(vars(self.hz))}


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


def inspect(trace: Trace) -> TraceReport:
    """Read a trace through and report on it."""
    moments, zeros, parts = _Moments(trace.nominal_hz), 0, [np.zeros(0, np.int64)]
    for block in trace:
        zeros += moments.add(block)
        parts.append(block["t_ns"].copy())
    stamps = np.concatenate(parts)
    order = int(np.count_nonzero(stamps[1:] < np.maximum.accumulate(stamps)[:-1]))
    distinct = np.unique(stamps) if order else stamps[np.r_[True, stamps[1:] != stamps[:-1]][: stamps.size]]
    duplicates = stamps.size - distinct.size
    period_s, gaps = _gaps(distinct)
    found = Counter(trace.rejected) + Counter(zero=zeros, duplicate=duplicates, order=order)
    return TraceReport(
        format=trace.format,
        rows=trace.rows,
        start=_iso(int(distinct[0])) if distinct.size else None,
        end=_iso(int(distinct[-1])) if distinct.size else None,
        period_s=period_s,
        gaps=gaps,
        duplicates=duplicates,
        rejected=_plain(found),
        hz=moments.figures(),
        nominal_hz=trace.nominal_hz,
    )


def _gaps(stamps: Ints) -> tuple[float | None, Gaps]:
    """Median step [s] and the time missing between ascending stamps."""
    steps = np.diff(stamps)
    if not steps.size:
        return None, Gaps(0, 0.0, 0.0)
    period = float(np.median(steps))
    missing = steps[steps > GAP * period] - period
    return period / NS, Gaps(missing.size, float(missing.sum()) / NS, float(missing.max(initial=0.0)) / NS)


def _plain(counts: Mapping[str, int]) -> dict[str, int]:
    return {reason: n for reason, n in sorted(counts.items()) if n}


def _iso(t_ns: int) -> str:
    """ISO 8601 UTC; microseconds where there is a fraction."""
    seconds, rest = divmod(t_ns, NS)
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=rest // 1000)
    return at.isoformat().replace("+00:00", "Z")
