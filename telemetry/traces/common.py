"""What all trace readers share: what the caller says about a file, and the trace made of it.

A reader (`neso`, `table`, `index_hz` ...) only looks at the head of a file and says how its rows are cut (`Layout`);
the rows become FREQUENCY blocks here, one chunk of the file in memory at a time. A trace has no arrival time of its
own: rx_ns == t_ns. Cells are kept as found: a literal zero, a repeated or an older stamp are the quality gate's
business, not the reader's. What is dropped is counted under `rejected`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from telemetry.samples import FREQUENCY, Block, empty
from telemetry.traces.dates import REPAIRS, SwappedDates
from telemetry.traces.errors import AmbiguousDates, BadOption, EmptyTrace
from telemetry.traces.rows import Grammar, Layout, Parser, RowFault, block_of
from telemetry.traces.stamps import MakeStamps, Times, instant, zone_of
from telemetry.traces.textfile import Head, TextFile, read_head

__all__ = ["Grammar", "Head", "Layout", "Options", "RowFault", "Trace", "read_head", "times"]

CHUNK_ROWS: Final = 65_536  # largest block handed out


REMEDY: Final = "give --repair day-month to exchange them, or --repair none to take them as written"


@dataclass(frozen=True)
class Options:
    """What the caller says about a file; None where the file is to tell."""

    time_col: str | None = None
    hz_col: str | None = None
    volt_col: str | Sequence[str] | None = None
    tz: str | None = None
    site: str | None = None
    start: str | datetime | int | None = None
    step_s: float | None = None
    nominal_hz: float | None = None
    volt_nominal: float | None = None
    repair: str | None = None


def times(head: Head, options: Options, kind: type[Times] = Times, *, day_first: bool = False) -> MakeStamps:
    """The stamps of dates and times as the caller's options have them. Raises BadOption."""
    if options.repair is not None and options.repair not in REPAIRS:
        raise BadOption(head.path, "--repair", f"no repair {options.repair!r}; known are {', '.join(REPAIRS)}")
    try:
        zone = zone_of(options.tz)
    except ValueError as error:
        raise BadOption(head.path, "--tz", str(error)) from None
    try:
        day = None if options.start is None else instant(options.start, zone)[1]
    except (ValueError, OverflowError) as error:
        raise BadOption(head.path, "--start", str(error)) from None
    return lambda: kind(zone, day, day_first=day_first, repair=options.repair)


class Trace:
    """A recorded file as FREQUENCY blocks; each iteration reads it anew.

    format      name of the reader
    nominal_hz  50 or 60
    rows        rows handed out so far in the last iteration, missing ones included
    rejected    Counter by reason, complete after an iteration: `missing` (kept, hz NaN); `malformed`, `checksum`,
                `incomplete` (dropped, or not there)
    read_frac   how much of the file the last iteration has read
    repaired    what was put right on request (`dates.REPAIR`), None for nothing

    Raises MalformedRow (unless `skip_bad`) and AmbiguousDates on the way.
    """

    def __init__(self, path: str, layout: Layout, *, skip_bad: bool = False, repaired: str | None = None) -> None:
        self.path, self.layout, self.skip_bad, self.repaired = path, layout, skip_bad, repaired
        self.format, self.nominal_hz = layout.format, layout.nominal_hz
        self.rows, self.read_frac = 0, 0.0
        self.rejected: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Block]:
        self.rows, self.rejected, self.read_frac = 0, Counter(), 0.0
        parser = Parser(self.path, self.layout, skip_bad=self.skip_bad)
        file = TextFile(self.path, self.layout.separator)
        for data in file:
            raw = parser.parse(data)
            self.read_frac = file.read_frac
            self.rejected += raw.rejected
            try:
                block = block_of(raw, self.layout, parser.stamps)
            except SwappedDates as error:
                raise AmbiguousDates(self.path, None, f"{error}: {REMEDY}") from None
            for first in range(0, block.size, CHUNK_ROWS):
                part = block[first : first + CHUNK_ROWS]
                self.rows += part.size
                yield part
        self.rejected += parser.ended()
        if not self.rows and not self.rejected:
            raise EmptyTrace(self.path, None, "no rows below the header")

    def dropped(self) -> Counter[str]:
        """Of `rejected`, what is in no block: lines of the file that came to nothing."""
        return Counter({reason: n for reason, n in self.rejected.items() if reason != "missing"})

    def read_all(self) -> Block:
        """The whole file as one block."""
        blocks = list(self)
        return np.concatenate(blocks) if blocks else empty(FREQUENCY)
