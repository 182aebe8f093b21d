"""Recorded frequency: one reader per published file format, all giving the same FREQUENCY blocks.

    trace = open_trace("f_2026-06-22.csv.gz")
    for block in trace: ...
    inspect(trace).as_dict()

Formats are recognised by content, plain or gzipped. Readers keep what the file says and mark only empty cells; whether
a value may move a vehicle is `telemetry.quality`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from os import PathLike, fspath
from types import ModuleType
from typing import Final

from telemetry.traces import c37118, index_hz, neso, table
from telemetry.traces.common import Head, Options, Trace, read_head
from telemetry.traces.errors import (
    BadOption,
    EmptyTrace,
    MalformedRow,
    MissingOption,
    TraceError,
    TraceNotFound,
    UnknownColumn,
    UnknownFormat,
    UnknownUnit,
)
from telemetry.traces.report import TraceReport, inspect

__all__ = [
    "FORMATS",
    "BadOption",
    "EmptyTrace",
    "MalformedRow",
    "MissingOption",
    "Trace",
    "TraceError",
    "TraceNotFound",
    "TraceReport",
    "UnknownColumn",
    "UnknownFormat",
    "UnknownUnit",
    "inspect",
    "open_trace",
    "recognise",
]

FORMATS: Final[dict[str, ModuleType]] = {module.NAME: module for module in (c37118, neso, index_hz, table)}


def open_trace(
    path: str | PathLike[str],
    *,
    format: str | None = None,
    time_col: str | None = None,
    hz_col: str | None = None,
    volt_col: str | Sequence[str] | None = None,
    tz: str | None = None,
    site: str | None = None,
    start: str | datetime | int | None = None,
    step_s: float | None = None,
    skip_bad: bool = False,
    nominal_hz: float | None = None,
    volt_nominal: float | None = None,
) -> Trace:
    """A recorded trace, its head read and understood.

    format             one of FORMATS; recognised by content where None
    time_col, hz_col   columns of a `table`, by name or by number from 1
    volt_col           phase voltages of a `table`: a name, several set apart by commas, or a sequence; () for none
    tz                 zone of times that name none (IANA name or +02:00); UTC where None
    site               the place whose frequency is meant, where a `table` has several
    start              ISO time (or ns UTC) of index 0 of `index_hz`; day of a `table` that has times of day only
    step_s             seconds from index to index of `index_hz` [s]
    skip_bad           count and drop malformed rows (`rejected["malformed"]`) instead of raising MalformedRow
    nominal_hz         50 or 60 where the file does not tell, as with deviations [Hz]; 50 is taken for those
    volt_nominal       nominal phase voltage, in the columns' unit; median of the first 60 rows where None

    Raises TraceError; its subclasses are in `telemetry.traces.errors`.
    """
    options = Options(time_col, hz_col, volt_col, tz, site, start, step_s, nominal_hz, volt_nominal)
    name = fspath(path)
    if format is not None and format not in FORMATS:
        raise BadOption(name, "--format", f"no format {format!r}; known are {', '.join(FORMATS)}")
    head = read_head(name)
    reader = FORMATS[format or _recognise(head, options)]
    if reader is c37118:  # no text: it makes its own rows
        return c37118.trace(head, options, skip_bad=skip_bad)
    return Trace(name, reader.layout(head, options, skip_bad=skip_bad), skip_bad=skip_bad)


def recognise(path: str | PathLike[str]) -> str:
    """The name of a file's format. Raises TraceError, UnknownFormat where no reader takes it."""
    return _recognise(read_head(fspath(path)), Options())


def _recognise(head: Head, options: Options) -> str:
    for name, reader in FORMATS.items():
        if reader.recognises(head, options):
            return name
    raise UnknownFormat(
        head.path,
        None,
        f"format not recognised (known: {', '.join(FORMATS)}); "
        "for another table give --format table with --time-col and --hz-col (or --site)",
    )
