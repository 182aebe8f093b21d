"""Where a worker begins to read: after the worker before, or from what the store still knows of the world.

Questions to the store alone; what to do with the answers, and how long to go on asking, is the worker's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import redis

from aggregator import sessions
from aggregator.sessions import SessionTable
from aggregator.snapshots import Restored
from telemetry.redis_stream import parse_id


class Streams(NamedTuple):
    """The streams that a worker follows, by key. frequency : preferred one first"""

    area: str
    gateway: str
    fleet: str
    wishes: str
    frequency: tuple[str, ...]
    signals: tuple[str, ...]


def places(client: redis.Redis, streams: Streams, found: Restored, now_ns: int) -> dict[str, str]:
    """Where to go on reading after the worker before. Raises what redis-py raises.

    A fleet stream that has forgotten what came next gives way to the sessions' table, which the core is told. An
    ingest that the worker before did not follow is followed from now on.
    """
    known = (streams.fleet, streams.frequency[0], streams.wishes, *streams.signals)
    begin = {key: found.note.get(key, "0") for key in known}
    begin |= {key: found.note.get(key, "$") for key in streams.frequency[1:]}
    oldest: Any = client.xrange(streams.fleet, count=1)
    epoch, counter = parse_id(begin[streams.fleet])
    if oldest and parse_id(oldest[0][0].decode()) > (epoch, counter + 1):
        table = sessions.read(client, streams.area, streams.gateway)
        if table is not None and table.newer_than(begin[streams.fleet]):
            begin[streams.fleet] = table.position
            found.core.on_sessions(table.rows, now_ns)
    return begin


def last_words(
    client: redis.Redis, streams: Streams, since: Mapping[str, str]
) -> tuple[SessionTable | None, dict[str, str]]:
    """Where nobody's state is taken over: the sessions' table, where it is newer than `since`, and the place on each
    signal stream from which its last word is heard again. Raises what redis-py raises.
    """
    table = sessions.read(client, streams.area, streams.gateway)
    if table is not None and not table.newer_than(since.get(streams.fleet, "0")):
        table = None
    said: dict[str, Any] = {key: client.xrevrange(key, count=2) for key in streams.signals}
    return table, {
        key: max(last[1][0].decode() if len(last) == 2 else "0", since.get(key, "0"), key=parse_id)
        for key, last in said.items()
    }
