"""The declared baseline: the sum of the charging plans, fixed ahead of each interval and then frozen.

When a car leaves during the interval the others cover for it; delivered is metered minus declared, as every
market's rule wants. A declaration is made `LEAD_NS` before its interval begins. The first of a run is made at
its first tick and holds from `SETTLE_NS` later, when the chargers have reached their plans, to the end of the
interval; until then there is no baseline to deliver against. After a pause of the whole line the same again.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from aggregator.records import DECLARATION, Block

LEAD_NS: Final = 60_000_000_000
# Dead time and ramp of the slowest chargers: before that the fleet is on its way to the plan.
SETTLE_NS: Final = 6_000_000_000


class Declarations:
    """Declared steps of one settlement interval length.

    interval_s : length of an interval; intervals are aligned to 1970 UTC
    """

    def __init__(self, interval_s: int) -> None:
        self._interval_ns = interval_s * 1_000_000_000
        self._start_ns = self._end_ns = 0  # what is declared without a break
        self._now_kw = 0.0
        self._next: float | None = None

    def power_kw(self, now_ns: int) -> float:
        """What the fleet is held to now; 0 before the first declaration."""
        if now_ns >= self._end_ns and self._next is not None:
            self._now_kw, self._next = self._next, None
            self._end_ns += self._interval_ns
        return self._now_kw

    def in_force(self, now_ns: int) -> bool:
        """Whether a declared interval has begun: before, the fleet is on its way to its plans."""
        return self._start_ns <= now_ns < self._end_ns + (self._interval_ns if self._next is not None else 0)

    def due(self, now_ns: int) -> bool:
        """Whether a declaration has to be made before the next tick."""
        self.power_kw(now_ns)
        return now_ns >= self._end_ns or (self._next is None and now_ns >= self._end_ns - LEAD_NS)

    def declare(self, now_ns: int, plan_kw: float, vehicles: int) -> Block:
        """Declare `plan_kw` for the interval that lacks one; the DECLARATION row to journal."""
        row = np.zeros(1, DECLARATION)
        if now_ns >= self._end_ns:
            start = self._start_ns = now_ns + SETTLE_NS
            end = start - start % self._interval_ns + self._interval_ns
            self._now_kw, self._end_ns, self._next = plan_kw, end, None
        else:
            start, end = self._end_ns, self._end_ns + self._interval_ns
            self._next = plan_kw
        row["declared_ns"], row["start_ns"], row["end_ns"] = now_ns, start, end
        row["power_kw"], row["vehicles"] = plan_kw, vehicles
        return row
