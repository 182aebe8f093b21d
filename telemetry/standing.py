"""How one of several sources stands: heard, usable, in service; nothing of the others.

Hysteresis: a source is out of service as soon as it has given no usable row for `out_s` or three of its own periods,
whichever is longer, and back when it has given usable rows for `return_s` without such a gap. One that has never been
out serves from its first usable row. Pure: times are arrivals, passed in; state is of fixed size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from telemetry.samples import Quality

DEAD_BUS: Final = int(Quality.DEAD_BUS)
FRESH_PERIODS: Final = 2  # a value older than so many of its source's periods is not compared, nor voted with
OUT_PERIODS: Final = 3


class Row(NamedTuple):
    """One FREQUENCY row, as `tolist` gives it."""

    t_ns: int
    rx_ns: int
    hz: float
    volt_frac: float
    quality: int
    source: int


@dataclass(slots=True)
class Standing:
    """One source. number : as in its rows; rank : 0 is preferred"""

    number: int
    rank: int
    out_ns: int
    return_ns: int
    row: Row | None = None  # newest usable
    heard_ns: int = 0  # arrival of the newest row of any kind; 0: never heard
    marks: int = 0  # of that row
    known_ns: int = 0  # newest arrival of all sources when its newest row came: its next one arrived no earlier
    since_ns: int = 0  # beginning of the usable stretch that lasts
    unbroken: bool = True  # no gap so far
    period_ns: int = 0  # typical time between usable rows, by the source's own clock; 0: not known
    outvoted: bool = False
    then_ns: int = 0  # when the last decision was made
    then_hz: float = math.nan  # what it would have said then: its row before, or between that and the one after
    then_rx_ns: int = 0  # arrival of the row before; 0: both rows are known
    decided: int = 0  # decisions that carry its stamps
    contradicted: int = 0  # rows that came while it was outvoted

    def hear(self, row: Row) -> bool:
        """Take one judged row; whether it is usable."""
        self.heard_ns, self.marks = max(self.heard_ns, row.rx_ns), row.quality
        if row.quality or not math.isfinite(row.hz):
            return False
        last = self.row
        if self.then_rx_ns:
            # Rows of one instant come in any order: the row before alone would be a period old, as often as not.
            share = (self.then_ns - self.then_rx_ns) / max(row.rx_ns - self.then_rx_ns, 1)
            self.then_hz += min(max(share, 0.0), 1.0) * (row.hz - self.then_hz)
            self.then_rx_ns = 0
        if last is None:
            self.since_ns = row.rx_ns
        else:
            if row.rx_ns - last.rx_ns > self.gap_ns():
                self.since_ns, self.unbroken = row.rx_ns, False
            step_ns = row.t_ns - last.t_ns
            if step_ns > 0:
                # Shrinks at once, grows slowly: a gap is no new period. By stamps, so that a burst is none either.
                self.period_ns = min(step_ns, self.period_ns * 5 // 4 + 1) if self.period_ns else step_ns
        self.row = row
        return True

    def note(self, now_ns: int) -> None:
        """A decision is made now, by whoever it is."""
        row = self.row if self.fresh(now_ns) else None
        self.then_ns, self.then_hz, self.then_rx_ns = now_ns, math.nan, 0
        if row is not None:
            self.then_hz, self.then_rx_ns = row.hz, row.rx_ns

    def said_hz(self) -> float:
        """What it would have said at the last decision [Hz]; one that had said nothing stands where it stands now."""
        return self.hz() if math.isnan(self.then_hz) else self.then_hz

    def forget(self) -> None:
        """Its times mean nothing any more: as if never heard, but what was found out about it stands."""
        self.row, self.heard_ns, self.marks, self.known_ns = None, 0, 0, 0
        self.then_hz, self.then_rx_ns = math.nan, 0

    def gap_ns(self) -> int:
        """Time without a usable row that is forgiven."""
        return max(self.out_ns, OUT_PERIODS * self.period_ns)

    def usable(self, now_ns: int) -> bool:
        """Whether its value may be acted on: of now, and not contradicted."""
        return not self.outvoted and self.fresh(now_ns)

    def fresh(self, now_ns: int) -> bool:
        """Whether its newest row is unmarked and of now."""
        if self.row is None or self.marks:
            return False
        return self._age_ns(now_ns) <= (
            FRESH_PERIODS * self.period_ns or self.out_ns
        )  # period not known: its first row

    def late(self, now_ns: int) -> bool:
        """Whether it is silent, and not yet long enough to be out of service; nothing is wrong with it otherwise."""
        return self.row is not None and not self.marks and not self.outvoted and self._age_ns(now_ns) <= self.gap_ns()

    def serving(self, now_ns: int) -> bool:
        """Whether it is in service."""
        if self.row is None or self.outvoted or self._age_ns(now_ns) > self.gap_ns():
            return False
        return self.unbroken or now_ns - self.since_ns >= self.return_ns

    def sees_dead(self, now_ns: int) -> bool:
        """Whether it says, lately, that its bus is dead."""
        return bool(self.marks & DEAD_BUS) and now_ns - self.heard_ns <= self.gap_ns()

    def blind(self) -> bool:
        """Whether it cannot tell a dead bus: its newest usable row carries no voltage."""
        return self.row is not None and math.isnan(self.row.volt_frac)

    def hz(self) -> float:
        """Its newest usable value [Hz]; NaN before the first."""
        return self.row.hz if self.row is not None else math.nan

    def _age_ns(self, now_ns: int) -> int:
        return now_ns - self.row.rx_ns if self.row is not None else now_ns
