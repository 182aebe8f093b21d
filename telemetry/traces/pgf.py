"""Files of the power-grid-frequency data base: no header, ISO time, deviation in millihertz.

In the copies that are about, day and month are swapped for days 1 to 12 (`dates`): `2017-01-12` is 1 December. A file
whose midnights show it is refused until `--repair day-month` says so; a file that has no midnight to show it either
way is refused too, because both readings make sense; `--repair none` takes it as written. Zone: UTC unless named.
"""

from __future__ import annotations

import re
from typing import Final

from telemetry.traces.common import REMEDY, Head, Layout, Options, times
from telemetry.traces.dates import Calendar, SwappedDates, exchanged
from telemetry.traces.errors import AmbiguousDates, UnknownFormat
from telemetry.traces.rows import Parser
from telemetry.traces.textfile import TextFile
from telemetry.traces.units import HZ, calibrate

NAME: Final = "pgf"
ROW: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?\s*([,;])\s*([+-]?\d+(?:\.\d*)?)?\s*", re.ASCII)
ROWS: Final = 20  # looked at to recognise the format


def recognises(head: Head, options: Options) -> bool:
    """Time and number from the first line on, and the numbers are no frequencies."""
    rows = [ROW.fullmatch(line) for line in head.lines[:ROWS]]
    if rows[0] is None or options.time_col or options.hz_col or options.site:
        return False
    values = [float(row[2]) for row in rows if row is not None and row[2]]
    return len(values) > len(rows) // 2 and not all(HZ[0] <= value <= HZ[1] for value in values)


def layout(head: Head, options: Options, *, skip_bad: bool) -> Layout:
    """How to read it. Raises TraceError, AmbiguousDates where day and month may be swapped."""
    first = ROW.fullmatch(head.lines[0])
    if first is None:
        raise UnknownFormat(head.path, 1, f"{head.lines[0][:40]!r} is not a row `time,mHz deviation` of {NAME}")
    cut = Layout(NAME, first[1], 2, time=0, hz=1, stamps=times(head, options))
    cut = calibrate(head, cut, options, names=("time", "deviation mHz"), skip_bad=skip_bad)
    if options.repair is None:
        _check_dates(head.path, cut, skip_bad=skip_bad)
    return cut


def _check_dates(path: str, cut: Layout, *, skip_bad: bool) -> None:
    """Read on until a midnight tells how the dates are written. Raises AmbiguousDates."""
    parser, calendar = Parser(path, cut, skip_bad=skip_bad), Calendar()
    for data in TextFile(path):
        try:
            calendar.look(parser.parse(data).wall)
        except SwappedDates as error:
            raise AmbiguousDates(path, None, f"{error}: {REMEDY}") from None
        if calendar.written:
            return
    day = calendar.seen_both_ways
    if day is not None:
        raise AmbiguousDates(
            path, None,
            f"no midnight tells whether {day} is {day:%d %B} or {exchanged(day):%d %B}, and copies of this format "
            f"have day and month swapped: {REMEDY}",
        )  # fmt: skip
