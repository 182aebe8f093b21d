"""Files without a header and without a time: a running integer index and hertz (US Eastern 2 s days).

When the first index was, and how far apart they are, only the caller knows.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from telemetry.traces.common import Head, Layout, Options
from telemetry.traces.errors import BadOption, MissingOption, UnknownFormat
from telemetry.traces.stamps import Index, instant, zone_of
from telemetry.traces.units import calibrate

NAME: Final = "index_hz"
ROW: Final = re.compile(r"\s*(\d{1,8})\s*([,;\t])\s*[+-]?\d+([.,]\d*)?\s*", re.ASCII)


def recognises(head: Head, options: Options) -> bool:  # noqa: ARG001 - one signature for all readers
    """Index and number from the first line on, the index not falling; what else is wrong is for reading to say."""
    rows = [ROW.fullmatch(line) for line in head.lines[:4]]
    if rows[0] is None:
        return False
    counts = [int(row[1]) for row in rows if row is not None]
    return all(b >= a for a, b in pairwise(counts))


def layout(head: Head, options: Options, *, skip_bad: bool) -> Layout:
    """How to read it. Raises TraceError, MissingOption where start or step is not given."""
    first = ROW.fullmatch(head.lines[0])
    if first is None:
        raise UnknownFormat(head.path, 1, f"{head.lines[0][:40]!r} is not a row `index,Hz` of index_hz")
    if options.start is None:
        raise MissingOption(head.path, "--start (ISO time of index 0)", "an index_hz file has no time of its own")
    if options.step_s is None:
        raise MissingOption(
            head.path, "--step-s (seconds from index to index)", "an index_hz file has no time of its own"
        )
    if not 0 < options.step_s < 86_400:
        raise BadOption(head.path, "--step-s", f"{options.step_s!r} is not a number of seconds above 0")
    try:
        start_ns, _ = instant(options.start, zone_of(options.tz))
    except (ValueError, OverflowError) as error:
        raise BadOption(head.path, "--start", str(error)) from None
    step_ns = round(options.step_s * 1e9)
    cut = Layout(NAME, first[2], 2, time=0, hz=1, stamps=lambda: Index(start_ns, step_ns))
    return calibrate(head, cut, options, skip_bad=skip_bad)
