"""PJM's published regulation signals: dates as columns, times of the day as rows, values of -1 to 1 every two seconds.

`,8/1/2017,8/2/2017` above `16:00:00,-0.99,0.31`; dates are month/day/year, the first cell is empty. The last row reads
`0:00:00` and is the midnight that ends the days (n + 1 rows): a file without it was cut on its way. Times are Eastern
prevailing time, daylight saving included, unless `--tz` names another zone. Of the hour that spring leaves out nothing
may be there; the hour that autumn repeats is there once, or twice one after the other, then only in that day's column.

Days are handed out one after the other; what is held is one pass over the file for `DAYS` columns. The midnight that
ends a day and begins the next is handed out once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta, tzinfo
from typing import Final

import numpy as np

from telemetry.samples import SETPOINT, Block, Quality, empty
from telemetry.traces.cells import Floats, Ints, Mask
from telemetry.traces.common import CHUNK_ROWS, Head, Layout, Options
from telemetry.traces.errors import (
    AmbiguousDates,
    BadOption,
    EmptyTrace,
    IncompleteTrace,
    MalformedRow,
    TraceError,
    UnknownFormat,
)
from telemetry.traces.forms import DAY_NS, EPOCH, NS, day_ns
from telemetry.traces.rows import Parser
from telemetry.traces.stamps import QUARTER_NS, UNIX, Times, zone_of
from telemetry.traces.textfile import TextFile

NAME: Final = "pjm_wide"
ZONE: Final = "America/New_York"
DAYS: Final = 31
HOUR_NS: Final = 3600 * NS
# Rounding of published values; beyond it a number is no share of what was cleared.
LARGEST: Final = 1.0 + 1e-6
DATE: Final = re.compile(r"(?:(?P<m>\d\d?)/(?P<d>\d\d?)/(?P<y>\d{4})|(?P<Y>\d{4})-(?P<M>\d\d)-(?P<D>\d\d))", re.ASCII)
TIME: Final = re.compile(r"\d\d?:\d\d:\d\d(\.\d+)?", re.ASCII)
AGAIN: Final = "fetch the file again, or take what is there with --skip-bad"


class TimesOfDay(Times):
    """Times of the day on a calendar of their own: 1 January 1970, UTC; 24:00:00 is its end."""

    def __init__(self, zone: tzinfo) -> None:
        super().__init__(zone, EPOCH)

    def one(self, text: str) -> tuple[int, int]:
        return (DAY_NS, 0) if text.startswith("24:00:00") else super().one(text)


class SignalTrace:
    """A published signal as SETPOINT blocks; each iteration reads it anew.

    days      of the columns
    rows      rows read so far in the last iteration, missing and repeated ones included
    rejected  Counter by reason, complete after an iteration: `missing` (kept, frac NaN); `malformed`, `incomplete`;
              `duplicate` (a midnight that two days have, dropped)
    read_frac how much of the file has been read in the present pass

    Raises MalformedRow, IncompleteTrace (unless `skip_bad`) on the way.
    """

    format = NAME

    def __init__(self, path: str, days: list[date], zone: tzinfo, *, skip_bad: bool = False) -> None:
        self.path, self.days, self.skip_bad = path, days, skip_bad
        self._zone = zone
        self._offsets: dict[int, tuple[int, int]] = {}
        self.rows, self.read_frac = 0, 0.0
        self.rejected: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Block]:
        self.rows, self.rejected, self.read_frac = 0, Counter(), 0.0
        last: Block = empty(SETPOINT)
        for first in range(0, len(self.days), DAYS):
            columns = range(first, min(first + DAYS, len(self.days)))
            wall, values = self._read(columns, counting=first == 0)
            time_ns, again = self._times(wall, counting=first == 0)
            for k, column in enumerate(columns):
                block = self._day(self.days[column], time_ns, again, values[k])
                self.rows += block.size
                repeat = self._repeats(last, block)
                self.rejected["duplicate"] += repeat
                last = block[-1:].copy()
                for begin in range(int(repeat), block.size, CHUNK_ROWS):
                    yield block[begin : begin + CHUNK_ROWS]

    def read_all(self) -> Block:
        """The whole file as one block."""
        blocks = list(self)
        return np.concatenate(blocks) if blocks else empty(SETPOINT)

    def _read(self, columns: range, *, counting: bool) -> tuple[Ints, list[Floats]]:
        """Times of the day as written, and these days' values; rows that cannot be read are counted once."""
        layout = Layout(
            NAME, ",", 1 + len(self.days), time=0, hz=1 + columns[0], stamps=lambda: TimesOfDay(self._zone),
            skip_lines=1, volts=tuple(1 + column for column in columns[1:]),
        )  # fmt: skip
        parser = Parser(self.path, layout, skip_bad=self.skip_bad)
        walls: list[Ints] = []
        parts: list[list[Floats]] = [[] for _ in columns]
        file = TextFile(self.path)
        for data in file:
            raw = parser.parse(data)
            self.read_frac = file.read_frac
            if counting:
                self.rejected["malformed"] += raw.rejected["malformed"]
            walls.append(raw.wall)
            for part, column in zip(parts, (raw.hz, *raw.volts), strict=True):
                part.append(column)
        wall = np.concatenate(walls) if walls else np.zeros(0, np.int64)
        if not wall.size:
            raise EmptyTrace(self.path, None, "no rows below the header")
        return wall, [np.concatenate(part) for part in parts]

    def _times(self, wall: Ints, *, counting: bool) -> tuple[Ints, Mask]:
        """Times since midnight, the last one a full day, and which rows are an hour's second pass."""
        time_ns = wall.copy()
        if time_ns.size > 1 and time_ns[-1] == 0:
            time_ns[-1] = DAY_NS
        again = np.zeros(time_ns.size, np.bool_)
        steps = np.diff(time_ns)
        back = np.flatnonzero(steps <= 0)
        if back.size > 1 or (back.size and not -HOUR_NS <= int(steps[back[0]]) < -QUARTER_NS):
            at = int(back[min(1, back.size - 1)])
            raise MalformedRow(
                self.path,
                None,
                f"{clock(time_ns[at + 1])} stands below {clock(time_ns[at])}: times of a day must ascend",
            )
        if time_ns[-1] != DAY_NS:
            if not self.skip_bad:
                raise IncompleteTrace(
                    self.path,
                    None,
                    f"ends at {clock(time_ns[-1])}, not with the row 0:00:00 that ends its days: {AGAIN}",
                )
            self.rejected["incomplete"] += counting
        if back.size:
            # From the step back until the times are where they were before it.
            again[back[0] + 1 :] = time_ns[back[0] + 1 :] <= time_ns[back[0]]
        return time_ns, again

    @staticmethod
    def _repeats(last: Block, block: Block) -> bool:
        """Whether a day begins with the midnight that the day before has had, and has said something then."""
        if not last.size or not block.size or block["t_ns"][0] != last["t_ns"][0]:
            return False
        return bool(np.isfinite(last["frac"][0]))

    def _day(self, day: date, time_ns: Ints, again: Mask, values: Floats) -> Block:
        """One column as rows in UTC."""
        wall = day_ns(day) + time_ns
        first, second = self._zone_offsets(wall)
        known = np.isfinite(values)
        self._refuse(known & (np.abs(values) > LARGEST), day, time_ns, "is no share of -1..1", values)
        self._refuse(
            known & (first < second), day, time_ns, "does not exist: clocks go forward; name the zone with --tz"
        )
        self._refuse(known & again & (first <= second), day, time_ns, "stands there twice, and clocks do not go back")
        # Of a missing hour, or a second pass that is not this day's, there is nothing.
        keep = (first >= second) & ~(again & (first <= second)) & ~(known & (np.abs(values) > LARGEST))
        block = empty(SETPOINT, int(np.count_nonzero(keep)))
        block["t_ns"] = block["rx_ns"] = (wall - np.where(again, second, first))[keep]
        block["frac"] = values[keep]
        missing = ~known[keep]
        block["quality"][missing] = int(Quality.MISSING)
        self.rejected["missing"] += int(np.count_nonzero(missing))
        return block

    def _refuse(self, wrong: Mask, day: date, time_ns: Ints, what: str, values: Floats | None = None) -> None:
        """Raise for the first wrong cell, or count them all."""
        at = np.flatnonzero(wrong)
        if not at.size:
            return
        if self.skip_bad:
            self.rejected["malformed"] += int(at.size)
            return
        value = "" if values is None else f" {values[at[0]]:g}"
        raise MalformedRow(self.path, None, f"column {day}, row {clock(time_ns[at[0]])}:{value} {what}")

    def _zone_offsets(self, wall: Ints) -> tuple[Ints, Ints]:
        """Offsets of the zone at wall times, for the first and the second pass of a repeated hour [ns]."""
        quarters, place = np.unique(wall // QUARTER_NS, return_inverse=True)
        pairs = np.array([self._offset(quarter) for quarter in quarters.tolist()], np.int64)
        return pairs[place, 0], pairs[place, 1]

    def _offset(self, quarter: int) -> tuple[int, int]:
        if quarter not in self._offsets:
            at = UNIX + timedelta(seconds=quarter * 900)
            pair = [at.replace(tzinfo=self._zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1)]
            self._offsets[quarter] = (round(pair[0].total_seconds()) * NS, round(pair[1].total_seconds()) * NS)
        return self._offsets[quarter]


def clock(time_ns: int) -> str:
    """A time of the day as the file writes it."""
    minutes, seconds = divmod(int(time_ns) // NS, 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def recognises(head: Head, options: Options) -> bool:
    """An empty cell and dates above a time of the day."""
    del options
    corner, *dates = [cell.strip() for cell in head.lines[0].split(",")]
    below = head.lines[1].split(",")[0].strip() if len(head.lines) > 1 else ""
    header = corner == "" and bool(dates) and all(DATE.fullmatch(cell) for cell in dates)
    return header and TIME.fullmatch(below) is not None


def signal(head: Head, options: Options, *, skip_bad: bool) -> SignalTrace:
    """The signal of a file. Raises TraceError."""
    if not recognises(head, options):
        raise UnknownFormat(head.path, 1, f"{head.lines[0][:40]!r} is not the header `,8/1/2017,...` of {NAME}")
    try:
        zone = zone_of(options.tz or ZONE)
    except ValueError as error:
        raise BadOption(head.path, "--tz", str(error)) from None
    return SignalTrace(head.path, _days(head), zone, skip_bad=skip_bad)


def _days(head: Head) -> list[date]:
    """The header's dates. Raises TraceError where they do not exist or do not ascend."""
    days: list[date] = []
    for cell in head.lines[0].split(",")[1:]:
        match = DATE.fullmatch(cell.strip())
        parts = match.groupdict() if match is not None else {}
        numbers = [
            int(parts.get(long) or parts.get(short) or 0) for long, short in (("Y", "y"), ("M", "m"), ("D", "d"))
        ]
        try:
            day = date(*numbers)
            day_ns(day)
        except ValueError as error:
            raise TraceError(head.path, 1, f"date {cell.strip()!r}: {error}; dates are month/day/year") from None
        if days and day <= days[-1]:
            raise AmbiguousDates(
                head.path,
                1,
                f"{cell.strip()} stands behind {days[-1]}: dates must ascend; are day and month exchanged?",
            )
        days.append(day)
    return days
