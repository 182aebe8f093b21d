"""Snapshots of a worker's core in the store, and a new owner that goes on from one.

Every few seconds, after a decision that has left, the state is copied (`aggregator.state`) and a thread of its own
brings the copy to the store in small pieces, in turn under two keys, so that one that is whole is always there; a
short head names it once it is complete. A new owner loads it and makes the calls that the journal's stream holds
since: what it then is, the old one was at its last journalled call, to the bit. It goes on from the stream positions
that travel with each journal entry.

Policy: a snapshot that is damaged, of other settings, of another run, too old, or not followed by the whole journal
is refused by name, and the owner begins anew from the sessions' table; one that could not be written is tried again
with the next. The copy that waits for the store is one; while it waits none is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import orjson
import redis

from aggregator import journal, state
from aggregator.aside import Aside
from aggregator.contracts import CoreSettings
from aggregator.core import Aggregator
from aggregator.journal import Kind
from aggregator.replay import call
from telemetry.redis_stream import FIELD, NOTE, connect, parse_id

PERIOD_S: Final = 5.0
PIECE: Final = 256 * 1024
BATCH: Final = 64
# Older than that, what chargers and batteries did meanwhile is anybody's guess.
AGE_MAX_NS: Final = 900_000_000_000


class SnapshotRefused(ValueError):
    """A snapshot that a new owner cannot go on from; `reason` is short and countable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def key(area: str, worker: str) -> str:
    """Where the head lies; the pieces lie beside it."""
    return f"snapshot:{area}:{worker}"


def digest_of(settings: CoreSettings) -> str:
    """What two settings must have in common for one to go on where the other ended: all but whose they are."""
    same = replace(settings, epoch=1, key_id=1, continues=(0, 0))
    return hashlib.blake2b(same.to_json(), digest_size=16).hexdigest()


class Keeper:
    """Brings snapshots to the store, one at a time, from a thread of its own; the copy's memory is used again."""

    def __init__(self, url: str, area: str, worker: str) -> None:
        self._client = connect(url)
        self._key = key(area, worker)
        self._turn = 0
        self._aside = Aside("snapshot")
        self._data = bytearray()

    @property
    def busy(self) -> bool:
        """Whether a snapshot is on its way."""
        return self._aside.busy

    @property
    def written(self) -> int:
        """How many arrived."""
        return self._aside.done

    @property
    def failed(self) -> int:
        """How many met a store that is away."""
        return self._aside.failed

    def keep(self, core: Aggregator, journal_id: str, seq: int, note: bytes, now_ns: int) -> None:
        """Copy the state as it stands and send it; only when not `busy`.

        journal_id, seq, note : of the last entry on the journal's stream, which must hold every call so far
        """
        head = {
            "t_ns": now_ns, "journal": journal_id, "seq": seq, "note": note.decode(), "epoch": core.settings.epoch,
            "settings": digest_of(core.settings),
        }  # fmt: skip
        self._data = state.capture(core, self._data)
        self._aside.offer(partial(self._send, head, self._data))

    def close(self) -> None:
        """Wait for the one on its way."""
        self._aside.close()

    def _send(self, head: dict[str, Any], data: bytearray) -> None:
        self._turn = 1 - self._turn
        place = f"{self._key}:{self._turn}"
        digest = hashlib.blake2b(digest_size=16)
        self._client.delete(place)
        pieces = 0
        for start in range(0, len(data), PIECE):
            # A piece at a time: packing holds the interpreter, and a decision may be due.
            piece = bytes(data[start : start + PIECE])
            digest.update(piece)
            self._client.hset(place, str(pieces), piece)
            pieces += 1
        head |= {"place": place, "pieces": pieces, "digest": digest.hexdigest()}
        self._client.set(self._key, orjson.dumps(head))


@dataclass
class Restored:
    """A core that goes on where another ended.

    note  : of the last journal entry: where its owner was on its streams
    calls : how many were made again after the snapshot
    """

    core: Aggregator
    note: dict[str, str]
    calls: int


def restore(
    client: redis.Redis, settings: CoreSettings, worker: str, now_ns: int, since: Mapping[str, str]
) -> Restored | None:
    """The core as its last owner left it, taken over by `settings.epoch`; None where there is no snapshot.

    since : newest entries when the run began, by stream: what is older is another run's

    Raises SnapshotRefused, or what redis-py raises.
    """
    found: Any = client.get(key(settings.area, worker))
    if found is None:
        return None
    head = _head(found)
    stream = f"journal:{settings.area}:{worker}"
    if parse_id(head["journal"]) <= parse_id(since.get(stream, "0")):
        raise SnapshotRefused("run", f"of {head['journal']}, before this run began")
    if head["settings"] != digest_of(settings):
        raise SnapshotRefused("settings", "fleet, contracts or limits are not those it was taken with")
    if settings.epoch < head["epoch"] or now_ns - head["t_ns"] > AGE_MAX_NS:
        raise SnapshotRefused("age", f"taken {(now_ns - head['t_ns']) / 1e9:.0f} s ago")
    core = Aggregator(replace(settings, epoch=head["epoch"]), journal=False)
    try:
        state.restore(core, _pieces(client, head))
    except state.StateError as error:
        raise SnapshotRefused("state", str(error)) from error
    return _follow(client, stream, head, core, settings)


def _head(found: bytes) -> dict[str, Any]:
    try:
        head = dict(orjson.loads(found))
        parse_id(head["journal"])
        orjson.loads(head["note"])
        for name, kind in (("t_ns", int), ("seq", int), ("epoch", int), ("pieces", int), ("place", str)):
            if not isinstance(head[name], kind):
                raise TypeError(name)
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotRefused("head", f"{type(error).__name__}: {error}") from error
    return head


def _pieces(client: redis.Redis, head: dict[str, Any]) -> bytes:
    found: Any = client.hgetall(head["place"])
    try:
        data = b"".join(found[str(number).encode()] for number in range(head["pieces"]))
    except KeyError as error:
        raise SnapshotRefused("pieces", f"piece {error} of {head['pieces']} is missing") from error
    if hashlib.blake2b(data, digest_size=16).hexdigest() != head["digest"]:
        raise SnapshotRefused("digest", f"{len(data)} bytes are not those that were written")
    return data


def _follow(
    client: redis.Redis, stream: str, head: dict[str, Any], core: Aggregator, settings: CoreSettings
) -> Restored:  # fmt: skip
    """Make the calls that the journal holds since the snapshot."""
    entry_id, seq, note, calls = head["journal"], head["seq"], head["note"].encode(), 0
    while True:
        found: Any = client.xrange(stream, f"({entry_id}", "+", count=BATCH)
        for raw_id, fields in found:
            before, entry_id = parse_id(entry_id), raw_id.decode()
            if parse_id(entry_id) != (before[0], before[1] + 1):
                raise SnapshotRefused("journal", f"{entry_id} follows {before[0]}-{before[1]}: entries are missing")
            try:
                entries = journal.unpack(fields.get(FIELD, b""))
            except journal.JournalError as error:
                raise SnapshotRefused("journal", f"{entry_id}: {error}") from error
            for entry in entries:
                seq += 1
                if entry.seq != seq or entry.kind is Kind.START:
                    raise SnapshotRefused("journal", f"entry {entry.seq} where {seq} was due")
                if entry.kind < Kind.TICKS:
                    call(core, entry)
                    calls += 1
                core.drain_commands()
            note = fields.get(NOTE, note)
        if len(found) < BATCH:
            break
    if entry_id == head["journal"] and not _holds(client, stream, entry_id):
        raise SnapshotRefused("journal", f"{entry_id}, which it rests on, is no longer there")
    core.take_over(replace(settings, continues=(head["epoch"], seq)))
    return Restored(core, dict(orjson.loads(note)), calls)


def _holds(client: redis.Redis, stream: str, entry_id: str) -> bool:
    return bool(client.xrange(stream, entry_id, entry_id))
