"""The stamps of a recording as they come by: period, jitter, gaps, repeats, rows out of order.

Buffers: the newest `WINDOW` stamps, so that rows which come late find their place and their double; a row older than
those counts as `order` and is left out of steps and gaps. Steps are counted by length, at most `LENGTHS` different
ones: beyond that lengths are told apart to 1 us, then 10 us, and so on. Of the longest steps `LONGEST` are kept with
their time.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from telemetry.traces.cells import Ints

WINDOW: Final = 1 << 17  # stamps: more than a day at 1 s
LENGTHS: Final = 1 << 16
LONGEST: Final = 1 << 11
GAP: Final = 1.5  # periods between two stamps from which on something is missing
LEAP_NS: Final = 3_600 * 1_000_000_000  # a row so far ahead, that the next one comes back from, has a wrong clock


@dataclass(frozen=True)
class Steps:
    """What lies between the stamps, all in ns; period None where there are fewer than two.

    gaps       [(begin, end)] of the longest gaps, in order of time
    jitter     root mean square, and largest, of step minus period, gaps left out
    """

    period: float | None
    gap_count: int
    gap_total: float
    gap_longest: float
    gaps: list[tuple[int, int]]
    jitter: float
    jitter_max: float


class Timeline:
    """Takes blocks of stamps in order of the file.

    order, ahead, duplicates : rows older than a row before; far ahead of the file; with a stamp seen before
    first, last              : earliest and latest stamp, those far ahead left out
    """

    def __init__(self) -> None:
        self.order = self.ahead = self.duplicates = 0
        self.first: int | None = None
        self.last: int | None = None
        self._far: int | None = None  # a stamp far ahead: the next row says whether the file follows it
        self._window: deque[Ints] = deque()  # ascending, and each behind the one before
        self._held = 0
        self._counts: Counter[int] = Counter()  # of steps by length
        self._quantum = 1
        self._shortest = 1 << 62
        self._emitted: int | None = None
        self._long_steps = self._long_begins = np.zeros(0, np.int64)

    def add(self, stamps: Ints) -> None:
        """The next stamps [ns]."""
        stamps = self._believed(stamps)
        if not stamps.size:
            return
        newest = int(stamps[0]) - 1 if self.last is None else self.last
        late = stamps < np.maximum.accumulate(np.r_[newest, stamps])[:-1]
        orderly = stamps[0] > newest and bool((stamps[1:] > stamps[:-1]).all())
        self.order += int(np.count_nonzero(late))
        self.first = min(self.first if self.first is not None else int(stamps[0]), int(stamps.min()))
        self.last = max(newest, int(stamps.max()))
        if not orderly:
            stamps = self._merged(stamps)
        self._window.append(stamps)
        self._held += stamps.size
        while self._held - self._window[0].size >= WINDOW:
            oldest = self._window.popleft()
            self._held -= oldest.size
            self._emit(oldest)

    def steps(self) -> Steps:
        """The figures; after it the timeline is at its end."""
        if self._far is not None:  # nothing came after it: the file may well go on there
            far, self._far = self._far, None
            self._accept_far(far)
        while self._window:
            self._emit(self._window.popleft())
        lengths = np.array(sorted(self._counts), np.int64)
        if not lengths.size:
            return Steps(None, 0, 0.0, 0.0, [], 0.0, 0.0)
        counts = np.array([self._counts[int(length)] for length in lengths], np.int64)
        upto = np.cumsum(counts)
        low, high = np.searchsorted(upto, ((upto[-1] - 1) // 2, upto[-1] // 2), side="right")
        period = (float(lengths[low]) + float(lengths[high])) / 2
        missing, regular = lengths > GAP * period, lengths <= GAP * period
        over = (lengths[missing] - period) * counts[missing]
        off = lengths[regular] - period
        kept = np.sort(self._long_begins[self._long_steps > GAP * period])
        ends = dict(zip(self._long_begins.tolist(), (self._long_begins + self._long_steps).tolist(), strict=True))
        return Steps(
            period=period,
            gap_count=int(counts[missing].sum()),
            gap_total=float(over.sum()),
            gap_longest=float(lengths[-1] - period) if missing.any() else 0.0,
            gaps=[(begin, ends[begin]) for begin in kept.tolist()],
            jitter=float(np.sqrt(np.average(off * off, weights=counts[regular]))),
            jitter_max=float(np.abs(off).max()),
        )

    def _believed(self, stamps: Ints) -> Ints:
        """Without those far ahead; the last one is kept back while it may be one."""
        if not stamps.size:
            return stamps
        newest = self.last if self.last is not None else int(stamps[0])
        if self._far is None and int(stamps[0]) - newest <= LEAP_NS and not (np.diff(stamps) > LEAP_NS).any():
            return stamps
        kept: list[int] = []
        for stamp in stamps.tolist():
            if self._far is not None:
                if stamp < self._far:
                    self.ahead += 1
                else:
                    kept.append(self._far)
                    newest = self._far
                self._far = None
            if stamp - newest > LEAP_NS:
                self._far = stamp
                continue
            kept.append(stamp)
            newest = max(newest, stamp)
        return np.array(kept, np.int64)

    def _accept_far(self, far: int) -> None:
        self._window.append(np.array([far], np.int64))
        self.last = far
        self.first = far if self.first is None else self.first

    def _merged(self, stamps: Ints) -> Ints:
        """The window with these in their places, as one; doubles counted, rows older than the window left out."""
        if self._emitted is not None:
            stamps = stamps[stamps > self._emitted]
        together = np.concatenate([*self._window, stamps])
        distinct = np.unique(together)
        self.duplicates += together.size - distinct.size
        self._window.clear()
        self._held = 0
        return distinct

    def _emit(self, stamps: Ints) -> None:
        """Count the steps up to the last of these."""
        if not stamps.size:
            return
        chain = stamps if self._emitted is None else np.r_[self._emitted, stamps]
        self._emitted = int(stamps[-1])
        steps = np.diff(chain)
        if not steps.size:
            return
        shortest, longest = int(steps.min()), int(steps.max())
        if shortest == longest:
            self._count(np.array([longest]), np.array([steps.size]))
        else:
            self._count(*np.unique(steps, return_counts=True))
        self._shortest = min(shortest, self._shortest)
        self._keep_longest(steps, chain[:-1])

    def _count(self, lengths: Ints, counts: Ints) -> None:
        for length, n in zip(self._rounded(lengths).tolist(), counts.tolist(), strict=True):
            self._counts[length] += n
        while len(self._counts) > LENGTHS:
            self._quantum = 1000 if self._quantum == 1 else self._quantum * 10
            coarse: Counter[int] = Counter()
            for length, n in self._counts.items():
                coarse[int(self._rounded(np.array([length]))[0])] += n
            self._counts = coarse

    def _rounded(self, lengths: Ints) -> Ints:
        half = self._quantum // 2
        return np.asarray((lengths + half) // self._quantum * self._quantum) if self._quantum > 1 else lengths

    def _keep_longest(self, steps: Ints, begins: Ints) -> None:
        long = steps > GAP * self._shortest
        if not long.any():
            return
        self._long_steps = np.r_[self._long_steps, steps[long]]
        self._long_begins = np.r_[self._long_begins, begins[long]]
        if self._long_steps.size > LONGEST:
            kept = np.argpartition(self._long_steps, -LONGEST)[-LONGEST:]
            self._long_steps, self._long_begins = self._long_steps[kept], self._long_begins[kept]
