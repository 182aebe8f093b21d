"""Latencies as log-scaled histograms of fixed memory: where the time of a sample went.

Pure: no clock, no I/O, no locks (one writer each; `merge` joins those of several threads or processes).
A histogram holds about 930 int64 counters whatever the number of values, so that a stage may be measured at
every sample for months. Resolution 2 % from 1 us to 100 s; below counts as 1 us, above as 100 s; the
largest value is kept exactly. Nothing is forgotten: start a new histogram for a new window.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

LOWEST_NS: Final = 1_000
HIGHEST_NS: Final = 100_000_000_000
RATIO: Final = 1.02  # upper over lower edge of a bucket
_PER_LOG: Final = 1.0 / math.log(RATIO)
_LOG_LOWEST: Final = math.log(LOWEST_NS)
BUCKETS: Final = math.ceil(math.log(HIGHEST_NS / LOWEST_NS) * _PER_LOG) + 1
_NS_PER_MS: Final = 1e6
_NS_PER_S: Final = 1e9
# What a scraper is told: a sample's way takes between a tenth of a millisecond and, when something is wrong, seconds.
BOUNDS_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip


class Histogram:
    """Counts of durations.

    counts : int64[BUCKETS]  bucket b holds LOWEST_NS * RATIO**b up to the next edge
    max_ns : the largest value seen, exact; 0 when empty
    sum_ns : of all values, exact; negative ones count as 0
    """

    __slots__ = ("counts", "max_ns", "sum_ns")

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(BUCKETS, np.int64)
        self.max_ns = 0
        self.sum_ns = 0

    @property
    def count(self) -> int:
        """How many values were added."""
        return int(self.counts.sum())

    def add_ns(self, value_ns: int) -> None:
        """One duration in ns. Negative ones (two clocks disagree) count as the shortest."""
        if value_ns > self.max_ns:
            self.max_ns = value_ns
        if value_ns > 0:
            self.sum_ns += value_ns
        if value_ns <= LOWEST_NS:
            self.counts[0] += 1
            return
        bucket = int((math.log(value_ns) - _LOG_LOWEST) * _PER_LOG)
        self.counts[bucket if bucket < BUCKETS else BUCKETS - 1] += 1

    def add_many(self, values_ns: npt.ArrayLike) -> None:
        """An array of durations in ns, any shape, integers."""
        values: npt.NDArray[Any] = np.asarray(values_ns, np.int64).ravel()
        if values.size == 0:
            return
        self.max_ns = max(self.max_ns, int(values.max()))
        self.sum_ns += int(np.maximum(values, 0).sum())
        logs = np.log(np.maximum(values, LOWEST_NS).astype(np.float64))
        buckets = np.minimum(((logs - _LOG_LOWEST) * _PER_LOG).astype(np.int64), BUCKETS - 1)
        self.counts += np.bincount(buckets, minlength=BUCKETS)

    def merge(self, other: Histogram) -> None:
        """Add the values of `other` to this one."""
        self.counts += other.counts
        self.max_ns = max(self.max_ns, other.max_ns)
        self.sum_ns += other.sum_ns

    def quantile_ms(self, fraction: float) -> float:
        """The value at nearest rank, within one bucket (2 %) and never above the maximum, in ms; NaN when empty."""
        total = self.count
        if total == 0:
            return math.nan
        rank = max(1, math.ceil(fraction * total))
        bucket = int(np.searchsorted(np.cumsum(self.counts), rank))
        middle_ns = LOWEST_NS * math.pow(RATIO, bucket + 0.5)
        return min(middle_ns, float(self.max_ns)) / _NS_PER_MS

    def cumulative(self) -> dict[str, Any]:
        """`{"le": {bound in s: values at or below it}, "count", "sum_s"}`; each bound within one bucket (2 %)."""
        running = np.cumsum(self.counts)
        places = ((np.log(np.array(BOUNDS_S) * _NS_PER_S) - _LOG_LOWEST) * _PER_LOG).astype(np.int64)
        below = running[places].tolist()
        return {
            "le": dict(zip(map(str, BOUNDS_S), below, strict=True)),
            "count": self.count,
            "sum_s": self.sum_ns / _NS_PER_S,
        }

    def summary(self) -> dict[str, float]:
        """`{"p50", "p99", "max"}` in ms; NaN (null in JSON) when empty, because 0 would read as fast."""
        largest = self.max_ns / _NS_PER_MS if self.count else math.nan
        return {"p50": self.quantile_ms(0.50), "p99": self.quantile_ms(0.99), "max": largest}
