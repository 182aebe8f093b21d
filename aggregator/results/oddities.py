"""What was odd in a recorded frequency: gaps with their times, and every row that was refused, by what was wrong.

Rows come as the gate judged them, a chunk at a time, and however they are cut the result is the same. Memory is
bounded: of the stretches of refused rows and of the gaps the first ones are kept with their times, all are counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from settlement.statement import iso
from telemetry.samples import Block, Quality

LISTED: Final = 200
# Gaps that are listed with their times; beyond so many they are counted alone.
CANDIDATES: Final = 100_000
# Steps by which the usual one is first known.
FIRST: Final = 1_000
# Steps are told apart to this: the clocks of recorders jitter.
STEP_NS: Final = 1_000
GAP_PERIODS: Final = 1.5
# A stamp that did not move ahead says nothing of the time between two rows.
OUT_OF_TIME: Final = int(Quality.ORDER | Quality.CLOCK_JUMP)


@dataclass
class Stretch:
    """Rows in a row that were refused for the same reason: times of the first and of the last, and where that is."""

    reason: str
    start_ns: int
    end_ns: int
    rows: int
    last_row: int

    def told(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"reason": self.reason, "start": iso(self.start_ns), "end": iso(self.end_ns), "rows": self.rows}


class Lacks(NamedTuple):
    """What was missing or refused in some time."""

    gap_s: float
    gaps: int
    rejected: Counter[str]


@dataclass
class Oddities:
    """Counts what is odd, by accounting interval of `length_ns`. `take` wants every judged row, in order."""

    length_ns: int
    rows: int = 0
    duplicates: int = 0  # rows that say the stamp before them once more; they are refused for their order
    stretches: list[Stretch] = field(default_factory=list)
    rejected: dict[int, Counter[str]] = field(default_factory=dict)  # by number of the interval
    _running: dict[str, Stretch] = field(default_factory=dict)
    _steps: Counter[int] = field(default_factory=Counter)  # length of a step / STEP_NS -> how many
    _long: list[tuple[int, int]] = field(default_factory=list)  # (begin, length) of steps that may be gaps [ns]
    _usual: int = 0  # median of the first steps, in STEP_NS; 0: not known yet
    _good_ns: int = 0  # last stamp that moved ahead
    _row_ns: int = 0  # last stamp

    def take(self, judged: Block) -> None:
        """Rows as the gate judged them. judged : FREQUENCY[n]"""
        if not judged.size:
            return
        self._refused(judged)
        self.rows += int(judged.size)
        good = judged["t_ns"][(judged["quality"] & OUT_OF_TIME) == 0]
        if good.size:
            self._timed(np.concatenate([[self._good_ns], good]) if self._good_ns else good)
            self._good_ns = int(good[-1])

    def _timed(self, t_ns: Any) -> None:
        # In two where the first steps are complete, so that cuts elsewhere make no difference.
        seen = sum(self._steps.values())
        if seen < FIRST < seen + t_ns.size - 1:
            self._timed(t_ns[: FIRST - seen + 1])
            t_ns = t_ns[FIRST - seen :]
        spans_ns = np.diff(t_ns)
        kinds, counts = np.unique(spans_ns // STEP_NS, return_counts=True)
        for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
            self._steps[kind] += count
        if len(self._long) < CANDIDATES:
            long = np.flatnonzero(spans_ns > GAP_PERIODS * self._usual * STEP_NS)
            self._long += zip(t_ns[long].tolist(), spans_ns[long].tolist(), strict=True)
        if not self._usual and sum(self._steps.values()) >= FIRST:
            self._usual = self._median()

    def _refused(self, judged: Block) -> None:
        """Rows with a mark; one with two defects counts under both, as at the gate."""
        t_ns, quality = judged["t_ns"], judged["quality"]
        again = np.diff(np.concatenate([[self._row_ns], t_ns])) == 0
        self.duplicates += int(np.count_nonzero(again & ((quality & int(Quality.ORDER)) != 0)))
        self._row_ns = int(t_ns[-1])
        runs: list[tuple[int, int, str]] = []
        for flag in Quality(int(np.bitwise_or.reduce(quality))):
            name, rows = str(flag.name).lower(), np.flatnonzero(quality & int(flag))
            places, counts = np.unique(t_ns[rows] // self.length_ns, return_counts=True)
            for place, count in zip(places.tolist(), counts.tolist(), strict=True):
                self.rejected.setdefault(place, Counter())[name] += count
            for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
                runs.append((int(run[0]), int(run[-1]), name))
        for first, last, name in sorted(runs, key=lambda run: (run[0], run[2])):
            self._stretch(name, int(t_ns[first]), int(t_ns[last]), self.rows + first, last - first + 1)

    def _stretch(self, name: str, start_ns: int, end_ns: int, first_row: int, rows: int) -> None:
        running = self._running.get(name)
        if running is not None and running.last_row == first_row - 1:
            running.end_ns, running.rows, running.last_row = end_ns, running.rows + rows, first_row + rows - 1
            return
        self._running[name] = Stretch(name, start_ns, end_ns, rows, first_row + rows - 1)
        if len(self.stretches) < LISTED:
            self.stretches.append(self._running[name])

    def _median(self) -> int:
        """The median step, in STEP_NS."""
        half, passed = sum(self._steps.values()) // 2, 0
        for step in sorted(self._steps):
            passed += self._steps[step]
            if passed > half:
                return step
        return 0

    @property
    def period_ns(self) -> int:
        """The usual time between two rows; 0 where there are not two."""
        return self._median() * STEP_NS

    def gaps(self) -> list[tuple[int, int]]:
        """(last row before it, what is missing beyond one period) of each gap, in order [ns]."""
        period_ns = self.period_ns
        return [(begin, step - period_ns) for begin, step in self._long if step > GAP_PERIODS * period_ns]

    def told(self) -> dict[str, Any]:
        """JSON-ready: what a reader of the result should know of the trace."""
        gaps, period_ns = self.gaps(), self.period_ns
        long = [(k * STEP_NS - period_ns, n) for k, n in self._steps.items() if k * STEP_NS > GAP_PERIODS * period_ns]
        listed = [
            {"start": iso(begin), "end": iso(begin + missing + period_ns), "missing_s": missing / 1e9}
            for begin, missing in gaps[:LISTED]
        ]
        rejected: Counter[str] = sum(self.rejected.values(), Counter())
        return {
            "rows": self.rows,
            "period_s": period_ns / 1e9,
            "gaps": {
                "count": sum(n for _, n in long), "total_s": sum(missing * n for missing, n in long) / 1e9,
                "longest_s": max((missing for missing, _ in long), default=0) / 1e9, "listed": listed,
            },
            "duplicates": self.duplicates,
            "rejected": dict(rejected),
            "stretches": [item.told() for item in self.stretches],
        }  # fmt: skip

    def found(self) -> Found:
        """The same by time, for many questions."""
        return Found(self)


class Found:
    """What was odd, by time."""

    def __init__(self, odd: Oddities) -> None:
        self._length_ns = odd.length_ns
        self._gaps = odd.gaps()
        self._rejected = sorted(odd.rejected.items())

    def within(self, start_ns: int, end_ns: int) -> Lacks:
        """Of [start, end): gaps that begin in it, and rows refused in the accounting intervals that begin in it."""
        first, last = (bisect_left(self._gaps, (edge_ns, -1)) for edge_ns in (start_ns, end_ns))
        missing_ns = sum(missing for _, missing in self._gaps[first:last])
        low, high = (
            bisect_left(self._rejected, -(-edge_ns // self._length_ns), key=lambda item: item[0])
            for edge_ns in (start_ns, end_ns)
        )
        rejected: Counter[str] = sum((marks for _, marks in self._rejected[low:high]), Counter())
        return Lacks(missing_ns / 1e9, last - first, rejected)
