"""The declared baseline: the sum of the charging plans, fixed ahead of each interval and then frozen.

When a car leaves during the interval the others cover for it; delivered is metered minus declared, as every
market's rule wants. A declaration is made `LEAD_NS` before its interval begins. The first of a run is made at
its first tick and holds from `SETTLE_NS` later, when the chargers have reached their plans, to the end of the
interval; until then there is no baseline to deliver against. After a pause of the whole line the same again.

Where the product's baseline ramps (`baseline.ramp_s`; TenneT NL 4.3: a schedule includes its ramps), the way from one
interval's power to the next's is part of the declaration: steps of a second, each a row of its own, so that the engine
and settlement hold the fleet to the same line.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from aggregator.records import DECLARATION, Block

LEAD_NS: Final = 60_000_000_000
# Dead time and ramp of the slowest chargers: before that the fleet is on its way to the plan.
SETTLE_NS: Final = 6_000_000_000
STEP_NS: Final = 1_000_000_000


class Standing(NamedTuple):
    """A declared power: `power_kw` from the end of its ramp to `until_ns`."""

    until_ns: int
    power_kw: float
    before_kw: float  # where its ramp began
    ramp_ns: int  # and when
    steps: int  # of STEP_NS


class Declarations:
    """Declared steps of one settlement interval length.

    interval_s : length of an interval; intervals are aligned to 1970 UTC
    ramp_s     : at the beginning of an interval, from the power of the one before; 0: none
    """

    def __init__(self, interval_s: int, ramp_s: int = 0) -> None:
        self._interval_ns = interval_s * 1_000_000_000
        self._steps = ramp_s
        self._before_kw = 0.0  # of the interval before the present one; the present power where there is no ramp
        self._ramp_ns = 0  # when the last ramp began
        self._start_ns = self._end_ns = 0  # what is declared without a break
        self._now_kw = 0.0
        self._next: float | None = None

    def power_kw(self, now_ns: int) -> float:
        """What the fleet is held to now; 0 before the first declaration."""
        if now_ns >= self._end_ns and self._next is not None:
            self._before_kw, self._now_kw, self._next = self._now_kw, self._next, None
            self._ramp_ns = self._end_ns
            self._end_ns += self._interval_ns
        step = (now_ns - self._ramp_ns) // STEP_NS
        return self._now_kw if step >= self._steps else self._on_ramp(step, self._before_kw, self._now_kw)

    def _on_ramp(self, step: int, first_kw: float, last_kw: float) -> float:
        """Mean of the straight line in one of its seconds."""
        return first_kw + (last_kw - first_kw) * (step + 0.5) / self._steps

    def in_force(self, now_ns: int) -> bool:
        """Whether a declared interval has begun: before, the fleet is on its way to its plans."""
        start_ns, until_ns = self.span_ns()
        return start_ns <= now_ns < until_ns

    def span_ns(self) -> tuple[int, int]:
        """What is declared without a break: [from, until)."""
        return self._start_ns, self._end_ns + (self._interval_ns if self._next is not None else 0)

    def standing(self) -> Standing:
        """What `power_kw` goes by until the next declaration is due, or begins."""
        until_ns = self._end_ns if self._next is not None else self._end_ns - LEAD_NS
        return Standing(until_ns, self._now_kw, self._before_kw, self._ramp_ns, self._steps)

    def due(self, now_ns: int) -> bool:
        """Whether a declaration has to be made before the next tick."""
        self.power_kw(now_ns)
        return now_ns >= self._end_ns or (self._next is None and now_ns >= self._end_ns - LEAD_NS)

    def coming(self, now_ns: int) -> tuple[int, int]:
        """Beginning and end of the interval that the next declaration is for [ns]."""
        if now_ns < self._end_ns:
            return self._end_ns, self._end_ns + self._interval_ns
        start = now_ns + SETTLE_NS
        return start, start - start % self._interval_ns + self._interval_ns

    def declare(self, now_ns: int, plan_kw: float, vehicles: int) -> Block:
        """Declare `plan_kw` for the interval that lacks one.

        returns DECLARATION[n]  rows to journal: the seconds of its ramp, if any, and the rest of it
        """
        steps = 0
        start, end = self.coming(now_ns)
        if now_ns >= self._end_ns:
            self._start_ns = start
            self._before_kw = self._now_kw = plan_kw
            self._end_ns, self._next = end, None
        else:
            self._next = plan_kw
            steps = self._steps if plan_kw != self._now_kw else 0
        rows = np.zeros(steps + 1, DECLARATION)
        rows["declared_ns"], rows["vehicles"] = now_ns, vehicles
        rows["start_ns"] = start + STEP_NS * np.arange(steps + 1)
        rows["end_ns"][:-1], rows["end_ns"][-1] = rows["start_ns"][1:], end
        rows["power_kw"][:-1] = [self._on_ramp(step, self._now_kw, plan_kw) for step in range(steps)]
        rows["power_kw"][-1] = plan_kw
        return rows
