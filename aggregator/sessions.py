"""The table of sessions: who is plugged in where, kept in the store for readers that come later.

A stream forgets; a vehicle that plugged in an hour ago is still there. So the gateway writes, beside its stream, the
last session row of every charger together with the stream position it includes. A worker that starts anew takes the
table and follows the stream from there; a gateway that starts anew numbers its sessions above it.

This file knows rows and bytes and one key; when to write is the gateway's business.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import redis

from telemetry import wire
from telemetry.redis_stream import parse_id
from telemetry.samples import SESSION, Block, empty

SEPARATOR: Final = b" "


class SessionTable(NamedTuple):
    """position : ID of the last stream entry the rows include; rows : SESSION, one a charger ever announced"""

    position: str
    rows: Block

    def newer_than(self, entry_id: str) -> bool:
        """Whether the table was written after that entry of its stream."""
        return parse_id(self.position) > parse_id(entry_id)


class Sessions:
    """The last row of each charger, as it was announced."""

    def __init__(self, slots: int) -> None:
        self._rows = empty(SESSION, slots)
        self._known = np.zeros(slots, np.bool_)

    def take(self, block: Block) -> None:
        """Rows in the order they happened. block : SESSION[n]"""
        # A slot may end and begin in one block: of repeated places the last assignment stands.
        self._rows[block["slot"]] = block
        self._known[block["slot"]] = True

    def rows(self) -> Block:
        """SESSION[n]: every charger that was ever announced."""
        return self._rows[self._known]


def key(area: str, gateway: str) -> str:
    """Where the table lies."""
    return f"sessions:{area}:{gateway}"


def write(client: redis.Redis, area: str, gateway: str, table: SessionTable) -> None:
    """Put the table into the store. Raises what redis-py raises."""
    client.set(key(area, gateway), table.position.encode() + SEPARATOR + wire.encode(table.rows))


def read(client: redis.Redis, area: str, gateway: str) -> SessionTable | None:
    """The table as last written; None if there is none, or none that can be read. Raises what redis-py raises."""
    data: Any = client.get(key(area, gateway))
    position, found, payload = (data or b"").partition(SEPARATOR)
    if not found:
        return None
    try:
        table = SessionTable(position.decode(), wire.decode(payload))
        parse_id(table.position)
    except ValueError:
        return None
    return table if table.rows.dtype == SESSION else None
