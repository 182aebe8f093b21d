"""Whether several sources tell of one grid, and which of them does not.

Three or more: the median is believed as long as more than half of them are near it; one that stays away from it for
`disagree_s` is outvoted, and is believed again when it has been near for `return_s`. Two that differ cannot tell who
is wrong: nobody is outvoted, the difference is told, and the choice falls back on their order. An outvoted source that
is left alone stays outvoted: there is nobody to clear it.

Near is within `agree_hz`, and within what the median itself moved during `window_s` or one period of the slowest: two
good instruments see a fall of the frequency at different moments. Pure: times are arrivals, passed in. Policy: the
medians of that window are kept, nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from telemetry.standing import Standing


class Middle(NamedTuple):
    """The middle of some values [Hz]: both ends are the median of an odd number of them."""

    lo_hz: float
    hi_hz: float

    @property
    def hz(self) -> float:
        """The median, of an even number the mean of the two in the middle."""
        return self.lo_hz if self.lo_hz == self.hi_hz else (self.lo_hz + self.hi_hz) / 2

    def distance_hz(self, hz: float) -> float:
        """How far a value lies outside."""
        return max(self.lo_hz - hz, hz - self.hi_hz, 0.0)


def middle(values: Sequence[float]) -> Middle:
    """The middle of one value or more, whatever their order."""
    ranked = sorted(values)
    return Middle(ranked[(len(ranked) - 1) // 2], ranked[len(ranked) // 2])


@dataclass(slots=True)
class _Doubt:
    """Since when a source has been away from the others, or, once outvoted, near them again; 0: it is not."""

    away_ns: int = 0
    near_ns: int = 0


class Agreement:
    """Compares the sources' newest values whenever one has come.

    agree_hz [Hz], disagree_s, return_s, window_s [s] : see above
    """

    def __init__(self, agree_hz: float, disagree_ns: int, return_ns: int, window_ns: int) -> None:
        self._agree_hz, self._disagree_ns = agree_hz, disagree_ns
        self._return_ns, self._window_ns = return_ns, window_ns
        self._past: deque[tuple[int, float]] = deque()
        self._doubts: dict[int, _Doubt] = {}
        self._split_ns = 0  # since when there has been no majority
        self.near_hz = agree_hz  # what counts as near, now
        self.split = False  # no majority at this moment
        self.outvotings = 0

    def judge(self, sources: Sequence[Standing], now_ns: int) -> None:
        """Compare the fresh values; sets `outvoted` of the sources, `split` and `near_hz`."""
        fresh = [s for s in sources if s.fresh(now_ns)]
        if len(fresh) < 2:
            self.forget()
            return
        centre = middle([s.hz() for s in fresh])
        self.near_hz = self._agree_hz + self._moved_hz(centre.hz, now_ns, max(s.period_ns for s in fresh))
        near = [s for s in fresh if centre.distance_hz(s.hz()) <= self.near_hz]
        apart = centre.hi_hz - centre.lo_hz > self.near_hz  # an even number in two camps
        self.split = apart or len(near) * 2 <= len(fresh)
        # Of two, one is known to be wrong already: that is no news.
        known = len(fresh) == 2 and any(s.outvoted for s in fresh)
        self._split_ns = (self._split_ns or now_ns) if self.split and not known else 0
        self.split = self.split and not known
        for s in fresh:
            self._doubt(s, not apart and s in near, len(fresh), now_ns)

    def disagreeing(self, now_ns: int) -> bool:
        """Whether the sources have had no majority for longer than is forgiven."""
        return self._split_ns > 0 and now_ns - self._split_ns >= self._disagree_ns

    def _doubt(self, source: Standing, near: bool, voters: int, now_ns: int) -> None:
        doubt = self._doubts.setdefault(source.number, _Doubt())
        if near:
            doubt.away_ns = 0
            doubt.near_ns = doubt.near_ns or now_ns
            if source.outvoted and now_ns - doubt.near_ns >= self._return_ns:
                source.outvoted = False
            return
        doubt.near_ns = 0
        if self.split or voters < 3:
            doubt.away_ns = 0
            return
        doubt.away_ns = doubt.away_ns or now_ns
        if not source.outvoted and now_ns - doubt.away_ns >= self._disagree_ns:
            source.outvoted = True
            self.outvotings += 1

    def _moved_hz(self, hz: float, now_ns: int, period_ns: int) -> float:
        past = self._past
        past.append((now_ns, hz))
        oldest_ns = now_ns - max(self._window_ns, period_ns)
        while past[0][0] < oldest_ns:
            past.popleft()
        values = [value for _, value in past]
        return max(values) - min(values)

    def forget(self) -> None:
        """One source alone, or times that mean nothing any more: nothing to compare with."""
        self.split, self._split_ns, self.near_hz = False, 0, self._agree_hz
        self._past.clear()
        for doubt in self._doubts.values():
            doubt.away_ns = doubt.near_ns = 0
