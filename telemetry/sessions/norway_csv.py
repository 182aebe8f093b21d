"""Charging reports of Norwegian apartment buildings: `;` between cells, decimal comma, naive local time.

Columns `location;user_id;session_id;plugin_time;plugout_time;connection_time;energy_session`. A plug-out may be `NA`:
then the departure is not known, unless the connection time (hours) is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Final

from telemetry.sessions.errors import Fault, UnknownSessions
from telemetry.sessions.instants import NOTHING, iso_ns, number
from telemetry.sessions.stays import HOUR_NS, Row
from telemetry.sessions.tablefile import table

NAME: Final = "norway_csv"
ZONE: Final = "Europe/Oslo"
DELIMITER: Final = ";"
NEEDED: Final = ("location", "plugin_time", "plugout_time", "energy_session")


def recognises(head: bytes) -> bool:
    """Its header."""
    return set(NEEDED) <= set(table(head, DELIMITER).names)


def zone_of(path: str, data: bytes) -> str:
    """The publisher's."""
    del path, data
    return ZONE


def read(path: str, data: bytes, zone: tzinfo) -> Iterator[tuple[int, Row | Fault]]:
    """Each row, or what is wrong with it, with its line from 1. Raises UnknownSessions."""
    found = table(data, DELIMITER)
    if not set(NEEDED) <= set(found.names):
        raise UnknownSessions(path, 1, f"the header lacks one of {', '.join(NEEDED)}")
    return found.rows(lambda cell: _row(cell, zone))


def _row(cell: dict[str, str], zone: tzinfo) -> Row:
    arrive_ns = iso_ns(cell["plugin_time"], "arrive", zone)
    leave_ns = 0
    if not _nothing(cell["plugout_time"]):
        leave_ns = iso_ns(cell["plugout_time"], "leave", zone)
    elif not _nothing(cell.get("connection_time", "")):
        hours = number(cell["connection_time"], "connection_time", comma=True)
        if not 0.0 < hours < 1e5:
            raise Fault("connection_time", "connection_time", f"{hours:g} is no length of a stay in hours")
        leave_ns = arrive_ns + round(hours * HOUR_NS)
    energy = number(cell["energy_session"], "energy_kwh", comma=True)
    return Row(arrive_ns, leave_ns, energy, site=cell["location"], place=cell.get("user_id", ""))


def _nothing(text: str) -> bool:
    return text.strip().lower() in NOTHING
