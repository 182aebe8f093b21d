"""RTE's own frequency files: a notice, `DATE;FREQUENCE_RETENUE(EN Hz);`, rows every ten seconds, the notice again.

Latin-1; dates are day/month/year; decimal comma; whole numbers are bare (`50`); every row ends in a semicolon; cells
without a value say `N/A`. The publisher does not name the zone: UTC is assumed, `--tz Europe/Paris` is probable.
"""

from __future__ import annotations

import re
from typing import Final

from telemetry.traces.common import Grammar, Head, Layout, Options, times
from telemetry.traces.errors import UnknownFormat
from telemetry.traces.units import calibrate

NAME: Final = "rte"
HEADER: Final = re.compile(r"DATE;FREQUENCE_RETENUE ?\(EN HZ\);?", re.IGNORECASE)
ABOVE: Final = 5  # lines of notice before the header


def recognises(head: Head, options: Options) -> bool:
    """The header within the first lines, and no other column asked for."""
    return _header(head) is not None and not (options.time_col or options.hz_col or options.site)


def layout(head: Head, options: Options, *, skip_bad: bool) -> Layout:
    """How to read it. Raises TraceError."""
    at = _header(head)
    if at is None:
        raise UnknownFormat(head.path, 1, f"no header `DATE;FREQUENCE_RETENUE(EN Hz);` of {NAME} in the first lines")
    known = frozenset(line.strip() for line in head.lines[: at + 1])

    class Notices(Grammar):
        """Notice and header, wherever they stand again: at the end, or between the months of a longer file."""

        def passes(self, i: int, line: str) -> bool:
            del i
            return line.strip() in known

    stamps = times(head, options, day_first=True)
    columns = 3 if head.lines[at].rstrip().endswith(";") else 2
    cut = Layout(NAME, ";", columns, time=0, hz=1, stamps=stamps, skip_lines=at + 1, grammar=Notices)
    return calibrate(head, cut, options, skip_bad=skip_bad)


def _header(head: Head) -> int | None:
    return next((k for k, line in enumerate(head.lines[: ABOVE + 1]) if HEADER.fullmatch(line.strip())), None)
