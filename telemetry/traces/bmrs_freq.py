"""Elexon's BMRS report of rolling system frequency: `HDR`, rows `FREQ,yyyymmddHHMMSS,Hz`, and `FTR` with their number.

Times are GMT by the publisher's word; `--tz` names another zone. A report without its trailer, or whose trailer counts
other rows than are there, was cut on its way: refused, or with `--skip-bad` taken as it is and counted as `incomplete`.
Several reports in one file are taken one after the other.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from telemetry.traces.cells import Bytes, Ints, Mask
from telemetry.traces.common import Grammar, Head, Layout, Options, RowFault, times
from telemetry.traces.errors import IncompleteTrace, MalformedRow, UnknownFormat
from telemetry.traces.units import calibrate

NAME: Final = "bmrs_freq"
HEADER: Final = "HDR,"
KIND: Final = b"FREQ,"
REMEDY: Final = "fetch the file again, or take what is there with --skip-bad"


class Report(Grammar):
    """Counts the rows between a header and its trailer."""

    def __init__(self) -> None:
        self._seen = 0  # rows before this chunk, since the last header
        self._upto: Ints = np.zeros(0, np.int64)  # and up to each line of this chunk
        self._open = True

    def doubtful(self, data: Bytes, begin: Ints, end: Ints) -> Mask:
        """All lines that are not of the kind of a row."""
        rows = end - begin >= len(KIND)
        for k, char in enumerate(KIND):
            rows &= data[begin + k] == char  # at worst the next line's, and then `rows` is False already
        self._upto = self._seen + np.cumsum(rows)
        self._seen = int(self._upto[-1]) if rows.size else self._seen
        return ~rows

    def passes(self, i: int, line: str) -> bool:
        """Header and trailer."""
        kind, *cells = line.split(",")
        here = int(self._upto[i])
        if kind == "FREQ":
            return False
        if kind == "HDR":
            fault = None if self._open is False or here == 0 else "a header before the trailer of the report above it"
            self._open, missing = True, 1
        elif kind == "FTR":
            said = int(cells[0]) if cells and cells[0].strip().isdecimal() else -1
            fault, missing = self._count(said, here), max(abs(said - here), 1)
            self._open = False
        else:
            raise RowFault(MalformedRow, f"{line[:40]!r} is neither FREQ, HDR nor FTR")
        self._seen -= here
        self._upto = self._upto - here
        if fault is not None:
            raise RowFault(IncompleteTrace, f"{fault}: {REMEDY}", missing)
        return True

    def ended(self) -> None:
        """A report must have been closed by its trailer."""
        if self._open:
            raise RowFault(IncompleteTrace, f"no trailer FTR behind the last row: {REMEDY}")
        if self._seen:
            raise RowFault(IncompleteTrace, f"{self._seen} rows behind the trailer: {REMEDY}", self._seen)

    def _count(self, said: int, here: int) -> str | None:
        if not self._open:
            return "a second trailer FTR"
        return None if said == here else f"the trailer counts {said} rows, and {here} are here"


def recognises(head: Head, options: Options) -> bool:
    """A header record, and rows of the right kind under it."""
    del options
    return head.lines[0].startswith(HEADER) and any(line.startswith(KIND.decode()) for line in head.lines[1:3])


def layout(head: Head, options: Options, *, skip_bad: bool) -> Layout:
    """How to read it. Raises TraceError."""
    if not head.lines[0].startswith(HEADER):
        raise UnknownFormat(head.path, 1, f"{head.lines[0][:40]!r} is not the header `HDR,...` of {NAME}")
    cut = Layout(NAME, ",", 3, time=1, hz=2, stamps=times(head, options), grammar=Report)
    return calibrate(head, cut, options, skip_bad=skip_bad)
