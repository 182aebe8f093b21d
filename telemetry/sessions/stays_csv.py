"""Sessions in a table of one's own: comma-separated, with a header.

`arrive` and `leave` are ISO times (naive ones in the zone asked for, else UTC), `energy_kwh` what was charged. Further
columns where they are known: `told_leave`, `done`, `asked_kwh`, `capacity_kwh` (usable), `soc_frac` (at arrival),
`power_kw` (most that the car takes), `site`, `place`. An empty cell says that it is not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import tzinfo
from typing import Final

from telemetry.sessions.errors import Fault, UnknownSessions
from telemetry.sessions.instants import NOTHING, iso_ns, number
from telemetry.sessions.stays import Row
from telemetry.sessions.tablefile import table

NAME: Final = "stays_csv"
ZONE: Final = "UTC"
TIMES: Final = {"arrive": "arrive_ns", "leave": "leave_ns", "told_leave": "told_leave_ns", "done": "done_ns"}
NUMBERS: Final = ("energy_kwh", "asked_kwh", "capacity_kwh", "soc_frac", "power_kw")
TEXTS: Final = ("site", "place")
DELIMITER: Final = ","
NEEDED: Final = ("arrive", "leave", "energy_kwh")


def recognises(head: bytes) -> bool:
    """Its header."""
    return set(NEEDED) <= set(table(head, DELIMITER).names)


def zone_of(path: str, data: bytes) -> str:
    """None is named in the file."""
    del path, data
    return ZONE


def read(path: str, data: bytes, zone: tzinfo) -> Iterator[tuple[int, Row | Fault]]:
    """Each row, or what is wrong with it, with its line from 1. Raises UnknownSessions."""
    found = table(data, DELIMITER)
    unknown = [name for name in found.names if name not in (*TIMES, *NUMBERS, *TEXTS)]
    if not set(NEEDED) <= set(found.names) or unknown:
        known = ", ".join((*TIMES, *NUMBERS, *TEXTS))
        raise UnknownSessions(path, 1, f"needs the columns {', '.join(NEEDED)}; takes {known}, not {unknown}")
    return found.rows(lambda cell: _row(cell, zone))


def _row(cell: dict[str, str], zone: tzinfo) -> Row:
    known = {name: text.strip() for name, text in cell.items() if text.strip().lower() not in NOTHING}
    for name in ("arrive", "energy_kwh"):
        if name not in known:
            raise Fault(name, name.removesuffix("_kwh"), "there is none")
    times = {field: iso_ns(known[name], name, zone) if name in known else 0 for name, field in TIMES.items()}
    numbers = {name: number(known[name], name) if name in known else math.nan for name in NUMBERS}
    return Row(**times, **numbers, **{name: known.get(name, "") for name in TEXTS})  # type: ignore[arg-type]
