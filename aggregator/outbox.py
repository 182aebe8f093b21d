"""What a worker sends: set-points, and the journal of what led to them, in one round trip to the store or in two.

Where the journal is large the set-points go first: they do not wait for what vehicles have reported since. A journal
that could not be sent is kept for the store's return, within its writer's bound; set-points are not, newer ones replace
them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import redis

from aggregator import journal
from aggregator.contracts import CoreSettings
from telemetry.redis_stream import StreamWriter, entries

# Entries kept on the streams, and rows of the fleet they may hold in all: large fleets have large entries.
COMMAND_MAXLEN: Final = (100, 2_000, 20_000_000)
JOURNAL_MAXLEN: Final = (800, 8_000, 80_000_000)
# A journal larger than this has a round trip of its own, behind the commands: reports of some 500 vehicles.
APART_BYTES: Final = 32_768


class Outbox:
    """The two streams that a worker writes.

    sent_seq : of the newest journal entry that was sent or is kept to be
    """

    def __init__(self, client: redis.Redis, settings: CoreSettings, gateway: str, name: str) -> None:
        def writer(stream: str, bounds: tuple[int, int, int]) -> StreamWriter:
            return StreamWriter(client, stream, settings.epoch, entries(settings.rows, *bounds))

        self._client = client
        self.commands = writer(f"cmd:{settings.area}:{gateway}", COMMAND_MAXLEN)
        self.journal = writer(f"journal:{settings.area}:{name}", JOURNAL_MAXLEN)
        self.sent_seq = -1

    @property
    def place(self) -> str:
        """ID of the newest journal entry on its stream."""
        return f"{self.journal.epoch}-{self.journal.counter}"

    def send(self, messages: Sequence[bytes], kept: list[journal.Entry], note: bytes) -> int:
        """Commands and what led to them; when the commands had arrived [ns].

        note : how far its worker has read, travels with the journal

        Raises redis.RedisError where the store did not take all; the journal is kept then.
        """
        apart = bool(messages) and sum(len(entry.payload) for entry in kept) > APART_BYTES
        with self._client.pipeline(transaction=False) as first, self._client.pipeline(transaction=False) as second:
            for message in messages:
                self.commands.queue(first, message)
            if kept:
                # In the writer's hands before anything is sent: whatever fails, it is kept.
                self.journal.queue(second if apart else first, journal.pack(kept), note)
                self.sent_seq = kept[-1].seq
            first.execute()
            sent_ns = time.time_ns()
            self.commands.confirm()
            second.execute()
        self.journal.confirm()
        return sent_ns

    def keep(self, kept: list[journal.Entry], note: bytes) -> None:
        """Keep entries for the store's return."""
        if kept:
            self.journal.hold(journal.pack(kept), note)
            self.sent_seq = kept[-1].seq

    def retry(self) -> None:
        """Send the journal that was kept, now that the store answers; old set-points are dropped.

        Raises redis.RedisError.
        """
        self._client.ping()
        self.journal.retry()
        self.commands.forget()
