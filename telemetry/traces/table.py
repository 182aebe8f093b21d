"""Any delimited text with a header, a time column and a frequency column; voltages where there are some.

Delimiter, decimal mark, columns and unit are sniffed; each can be named instead. Nothing is guessed between equals: two
frequency columns that are not phases of one place, or a unit that could be two, are refused by name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Final

from telemetry.traces.cells import NUMBER
from telemetry.traces.common import Head, Layout, Options, times
from telemetry.traces.errors import EmptyTrace, MissingOption, UnknownColumn, UnknownFormat
from telemetry.traces.forms import is_time
from telemetry.traces.units import calibrate

NAME: Final = "table"
DELIMITERS: Final = ("\t", ";", ",")  # in this order: a comma may be the decimal mark of the others
TIME_NAMES: Final = re.compile(
    r"(date|time|zeit|dtm|utc|timestamp|datum|uhrzeit|fecha|hora|heure|ts|t)([^a-z].*)?|date_?time.*|time_?stamp.*|.*_time|zeit.*"
)
HZ_NAMES: Final = re.compile(r".*(freq|frec|fréq|frequenz|hertz).*|(.*[^a-z])?m?hz([^a-z].*)?|f")
NOT_HZ: Final = re.compile(r".*(rocof|df ?/? ?dt).*")
VOLT_NAMES: Final = re.compile(r".*(volt|spannung|tensi).*")
NOT_VOLT: Final = re.compile(r".*(angle|phi|unbalance|thd).*")
PHASE: Final = re.compile(r"l[123]|[ _-](phase[ _-]?)?([abc]|[123])$|phase[ _-]?([abc]|[123])")


def recognises(head: Head, options: Options) -> bool:
    """A delimited header with a time column, and a frequency column unless the caller names one."""
    names = split_header(head)[1]
    asked = options.hz_col or options.site
    times = any(TIME_NAMES.fullmatch(_plain(name)) for name in names) or options.time_col
    return len(names) > 1 and bool(times) and bool(asked or _fitting(names, HZ_NAMES, NOT_HZ))


def layout(head: Head, options: Options, *, skip_bad: bool) -> Layout:
    """How to read it. Raises TraceError."""
    delimiter, names, has_header = split_header(head)
    if len(names) < 2:
        raise UnknownFormat(head.path, 1, "a table needs at least two columns set apart by comma, semicolon or tab")
    if has_header and not any(line.strip() for line in head.lines[1:]):
        raise EmptyTrace(head.path, None, "no rows below the header")
    time = _time_column(head.path, names, options)
    hz = _hz_column(head.path, names, options)
    stamps = times(head, options)
    if options.start is None and _time_of_day_only(head, delimiter, time, int(has_header)):
        raise MissingOption(head.path, "--start (ISO day of the first row)", "its times have no date")
    cut = Layout(
        NAME,
        delimiter,
        len(names),
        time=time,
        hz=hz,
        stamps=stamps,
        skip_lines=int(has_header),
        volts=_volt_columns(head.path, names, options),
    )
    return calibrate(head, cut, options, names=names, skip_bad=skip_bad)


def split_header(head: Head) -> tuple[str, list[str], bool]:
    """(delimiter, column names, whether the first line is a header).

    The delimiter is the first that occurs as often in the header as in most of the rows.
    """
    rows = [line for line in head.lines[1:21] if line.strip()]

    def agreement(delimiter: str) -> float:
        wanted = head.lines[0].count(delimiter)
        return (
            sum(line.count(delimiter) == wanted for line in rows) / len(rows) if rows and wanted else float(wanted > 0)
        )

    delimiter = max(DELIMITERS, key=agreement)
    names = [name.strip() for name in head.lines[0].split(delimiter)]
    if any(_is_value(name) for name in names):
        return delimiter, [str(k + 1) for k in range(len(names))], False
    return delimiter, names, True


def _time_of_day_only(head: Head, delimiter: str, column: int, skip: int) -> bool:
    cells = next((line.split(delimiter) for line in head.lines[skip:] if line.strip()), [])
    return len(cells) > column and is_time(cells[column].strip(), dated=False)


def _is_value(cell: str) -> bool:
    return NUMBER.fullmatch(cell) is not None or is_time(cell)


def _plain(name: str) -> str:
    return name.lower().strip(" []()")


def _fitting(names: Sequence[str], wanted: re.Pattern[str], unwanted: re.Pattern[str]) -> list[int]:
    plain = [_plain(name) for name in names]
    return [k for k, name in enumerate(plain) if wanted.fullmatch(name) and not unwanted.fullmatch(name)]


def _named(path: str, names: Sequence[str], wanted: str, option: str) -> int:
    """A column by its name, in any case, or by its number from 1."""
    for spelled, header in ((wanted, list(names)), (wanted.lower(), [name.lower() for name in names])):
        if spelled in header:
            return header.index(spelled)
    if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
        return int(wanted) - 1
    raise UnknownColumn(path, 1, f"{option}: no column {wanted!r}{_nearest(wanted, names)}")


def _nearest(wanted: str, names: Sequence[str]) -> str:
    by_lower = {name.lower(): name for name in names if name}
    close = difflib.get_close_matches(wanted.lower(), by_lower, 1, 0.4)
    return f"; nearest is {by_lower[close[0]]!r}" if close else f"; there are {_list(names)}"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:12])
    return shown + (", ..." if len(names) > 12 else "")


def _time_column(path: str, names: Sequence[str], options: Options) -> int:
    if options.time_col is not None:
        return _named(path, names, options.time_col, "--time-col")
    times = [k for k, name in enumerate(names) if TIME_NAMES.fullmatch(_plain(name))]
    if not times:
        raise UnknownColumn(path, 1, f"no time column among {_list(names)}: name it with --time-col")
    return times[0]


def _hz_column(path: str, names: Sequence[str], options: Options) -> int:
    if options.hz_col is not None:
        return _named(path, names, options.hz_col, "--hz-col")
    found = _fitting(names, HZ_NAMES, NOT_HZ)
    if options.site is not None:
        site = options.site.lower()
        of_site = [k for k in found if site in names[k].lower()]
        return of_site[0] if len(of_site) == 1 else _named(path, names, options.site, "--site")
    if not found:
        raise UnknownColumn(path, 1, f"no frequency column among {_list(names)}: name it with --hz-col or --site")
    if len({PHASE.sub("", _plain(names[k])) for k in found}) > 1:
        shown = _list([names[k] for k in found])
        raise UnknownColumn(path, 1, f"several frequency columns, {shown}: choose with --hz-col or --site")
    return found[0]  # phases of one place: the first


def _volt_columns(path: str, names: Sequence[str], options: Options) -> tuple[int, ...]:
    asked = options.volt_col
    if asked is not None:
        if isinstance(asked, str):
            asked = [asked] if asked in names else [name.strip() for name in asked.split(",")]
        return tuple(_named(path, names, name, "--volt-col") for name in asked if name)
    found = _fitting(names, VOLT_NAMES, NOT_VOLT)
    if options.site is not None:
        found = [k for k in found if options.site.lower() in names[k].lower()] or found
    return tuple(found)
