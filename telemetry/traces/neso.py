"""NESO's "System Frequency" files (also the legacy one-minute ones): header `dtm,f`, naive time, Hz.

The publisher does not say which zone the time is in; UTC is assumed unless the caller names another.
"""

from __future__ import annotations

from typing import Final

from telemetry.traces.common import Head, Layout, Options, times
from telemetry.traces.errors import UnknownFormat
from telemetry.traces.units import calibrate

NAME: Final = "neso"
HEADER: Final = "dtm,f"


def recognises(head: Head, options: Options) -> bool:
    """The header, and no column of another name asked for."""
    others = (options.time_col, options.hz_col, options.site)
    return head.lines[0].strip().lower() == HEADER and not any(others) and not options.volt_col


def layout(head: Head, options: Options, *, skip_bad: bool) -> Layout:
    """How to read it. Raises TraceError."""
    if head.lines[0].strip().lower() != HEADER:
        raise UnknownFormat(head.path, 1, f"{head.lines[0][:40]!r} is not the header {HEADER!r} of neso")
    cut = Layout(NAME, ",", 2, time=0, hz=1, stamps=times(head, options), skip_lines=1)
    return calibrate(head, cut, options, skip_bad=skip_bad)
