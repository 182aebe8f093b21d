"""Recorded frequency: one reader per published file format, all giving the same FREQUENCY blocks.

    trace = open_trace("f_2026-06-22.csv.gz")
    for block in trace: ...
    inspect(trace).as_dict()

Recorded regulation signals are apart, as SETPOINT blocks: `open_signal`, `inspect_signal`.

Formats are recognised by content, plain or gzipped. Readers keep what the file says and mark only empty cells; whether
a value may move a vehicle is `telemetry.quality`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from os import PathLike, fspath
from types import ModuleType
from typing import Final

from telemetry.traces import bmrs_freq, c37118, index_hz, neso, openpmu, pgf, pjm_wide, rte, table
from telemetry.traces.common import Head, Options, Trace, read_head
from telemetry.traces.dates import REPAIR
from telemetry.traces.errors import (
    AmbiguousDates,
    BadChecksum,
    BadOption,
    EmptyTrace,
    IncompleteTrace,
    MalformedRow,
    MissingOption,
    NotFrequency,
    TraceError,
    TraceNotFound,
    UnknownColumn,
    UnknownFormat,
    UnknownUnit,
)
from telemetry.traces.pjm_wide import SignalTrace
from telemetry.traces.report import TraceReport, inspect
from telemetry.traces.signalreport import SignalReport, inspect_signal

__all__ = [
    "FORMATS",
    "SIGNALS",
    "AmbiguousDates",
    "BadChecksum",
    "BadOption",
    "EmptyTrace",
    "IncompleteTrace",
    "MalformedRow",
    "MissingOption",
    "NotFrequency",
    "SignalReport",
    "SignalTrace",
    "Trace",
    "TraceError",
    "TraceNotFound",
    "TraceReport",
    "UnknownColumn",
    "UnknownFormat",
    "UnknownUnit",
    "inspect",
    "inspect_signal",
    "open_signal",
    "open_trace",
    "recognise",
]

# Asked in this order which of them knows a file: the most particular first, what takes any table last.
READERS: Final[tuple[ModuleType, ...]] = (c37118, neso, bmrs_freq, rte, openpmu, index_hz, pgf, table)
FORMATS: Final[dict[str, ModuleType]] = {module.NAME: module for module in READERS}
# Formats of regulation signals.
SIGNALS: Final[dict[str, ModuleType]] = {module.NAME: module for module in (pjm_wide,)}


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
    repair: str | None = None,
) -> Trace:
    """A recorded trace, its head read and understood.

    format             one of FORMATS; recognised by content where None
    time_col, hz_col   columns of a `table`, by name or by number from 1
    volt_col           phase voltages of a `table`: a name, several set apart by commas, or a sequence; () for none
    tz                 zone of times that name none (IANA name or +02:00); UTC where None
    site               the place whose frequency is meant, where a `table` (or the station, where `openpmu`) has several
    start              ISO time (or ns UTC) of index 0 of `index_hz`; day where a file has times of day only
    step_s             seconds from index to index of `index_hz` [s]
    skip_bad           count and drop malformed rows (`rejected["malformed"]`) instead of raising MalformedRow
    nominal_hz         50 or 60 where the file does not tell, as with deviations [Hz]; 50 is taken for those
    volt_nominal       nominal phase voltage, in the columns' unit; median of the first 60 rows where None
    repair             `day-month` exchanges day and month (of days 1 to 12), `none` takes dates as written; where None,
                       dates that are swapped, or in `pgf` may be, are refused

    Raises TraceError; its subclasses are in `telemetry.traces.errors`.
    """
    options = Options(time_col, hz_col, volt_col, tz, site, start, step_s, nominal_hz, volt_nominal, repair)
    name = fspath(path)
    if format in SIGNALS:
        raise NotFrequency(name, None, f"{format} is a regulation signal, not a frequency")
    if format is not None and format not in FORMATS:
        raise BadOption(name, "--format", f"no format {format!r}; known are {', '.join(FORMATS)}")
    head = read_head(name)
    found = format or _recognise(head, options)
    if found in SIGNALS:
        raise NotFrequency(
            name, None, f"a regulation signal ({found}), not a frequency; `flyball inspect` says what is in it"
        )
    reader = FORMATS[found]
    if hasattr(reader, "trace"):  # no text: it makes its own rows
        made: Trace = reader.trace(head, options, skip_bad=skip_bad)
        return made
    layout = reader.layout(head, options, skip_bad=skip_bad)
    return Trace(name, layout, skip_bad=skip_bad, repaired=repair if repair == REPAIR else None)


def open_signal(
    path: str | PathLike[str], *, format: str | None = None, tz: str | None = None, skip_bad: bool = False
) -> SignalTrace:
    """A recorded regulation signal, its head read and understood.

    format    one of SIGNALS; recognised by content where None
    tz        zone of its times (IANA name or +02:00); the publisher's where None
    skip_bad  count and drop what cannot be read instead of raising MalformedRow

    Raises TraceError.
    """
    name = fspath(path)
    if format is not None and format not in SIGNALS:
        raise BadOption(name, "--format", f"no format {format!r} of a signal; known are {', '.join(SIGNALS)}")
    head, options = read_head(name), Options(tz=tz)
    found = format or next((known for known, reader in SIGNALS.items() if reader.recognises(head, options)), None)
    if found is None:
        raise UnknownFormat(name, None, f"no regulation signal that is known ({', '.join(SIGNALS)})")
    opened: SignalTrace = SIGNALS[found].signal(head, options, skip_bad=skip_bad)
    return opened


def recognise(path: str | PathLike[str]) -> str:
    """The name of a file's format. Raises TraceError, UnknownFormat where no reader takes it."""
    return _recognise(read_head(fspath(path)), Options())


def _recognise(head: Head, options: Options) -> str:
    for name, reader in {**SIGNALS, **FORMATS}.items():
        if reader.recognises(head, options):
            return name
    if not head.data:
        raise UnknownFormat(head.path, None, "no end of line in its beginning: not a text trace")
    raise UnknownFormat(
        head.path,
        None,
        f"format not recognised (known: {', '.join(FORMATS)}); "
        "for another table give --format table with --time-col and --hz-col (or --site)",
    )
