"""The declared baseline: the sum of the charging plans, fixed ahead of each interval and then frozen.

When a car leaves during the interval the others cover for it; delivered is metered minus declared, as every
market's rule wants. A declaration is made `LEAD_NS` before its interval begins, or at the latest when it does.
The first of a run is made at its first tick, for what is left of the interval, and says so (LATE).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from aggregator.records import DECLARATION, Block, DeclarationFlag

LEAD_NS: Final = 60_000_000_000


class Declarations:
    """Declared steps of one settlement interval length.

    interval_s : length of an interval; intervals are aligned to 1970 UTC
    """

    def __init__(self, interval_s: int) -> None:
        self._interval_ns = interval_s * 1_000_000_000
        self._end_ns = 0
        self._now_kw = 0.0
        self._next: float | None = None

    def power_kw(self, now_ns: int) -> float:
        """What is declared for this moment; 0 before the first declaration."""
        if now_ns >= self._end_ns and self._next is not None:
            self._now_kw, self._next = self._next, None
            self._end_ns += self._interval_ns
        return self._now_kw

    def due(self, now_ns: int) -> bool:
        """Whether a declaration has to be made before the next tick."""
        self.power_kw(now_ns)
        return now_ns >= self._end_ns or (self._next is None and now_ns >= self._end_ns - LEAD_NS)

    def declare(self, now_ns: int, plan_kw: float, vehicles: int) -> Block:
        """Declare `plan_kw` for the interval that lacks one; the DECLARATION row to journal."""
        row = np.zeros(1, DECLARATION)
        begun = now_ns - now_ns % self._interval_ns
        if now_ns >= self._end_ns:
            late = now_ns > begun
            start, end = (now_ns, begun + self._interval_ns) if late else (begun, begun + self._interval_ns)
            self._now_kw, self._end_ns, self._next = plan_kw, end, None
            row["flags"] = DeclarationFlag.LATE if late else DeclarationFlag.NONE
        else:
            start, end = self._end_ns, self._end_ns + self._interval_ns
            self._next = plan_kw
        row["declared_ns"], row["start_ns"], row["end_ns"] = now_ns, start, end
        row["power_kw"], row["vehicles"] = plan_kw, vehicles
        return row
