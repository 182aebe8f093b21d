"""Late history on its way to settlement: what a device kept while nobody listened, on a stream apart.

A device with a buffered report hands over, after an outage, the samples that control did not have. They are true and
too late: control must not see them (`freq:` stays as it was lived), settlement shall. So they go to
`backfill:{area}:{ingest}`, as blocks, to the store alone: they are read once, by the settlement process, and one that
is down holds them up no more than the outage did.

Policy for buffers and losses: blocks wait, in order, up to `ROWS_MAX` rows between the source's thread and the store
and while the store is away; beyond that the newest are dropped and counted (`dropped`): the oldest are the ones that
the device will not tell again. The stream keeps about `MAXLEN` entries of up to `BLOCK_ROWS` rows.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import redis

from telemetry import wire
from telemetry.redis_stream import StreamWriter
from telemetry.samples import Block

MAXLEN: Final = 5_000
BLOCK_ROWS: Final = 500
ROWS_MAX: Final = 500_000


class Backfill:
    """The one writer of an ingest's late history.

    published : rows on the stream
    dropped   : rows that found no room
    """

    def __init__(self, client: redis.Redis, area: str, name: str, epoch: int) -> None:
        self.key = f"backfill:{area}:{name}"
        # One at a time: what waits, waits here, by rows.
        self._writer = StreamWriter(client, self.key, epoch, MAXLEN, pending_max=1)
        self._blocks: deque[Block] = deque()
        self._taken = 0  # written by the source's thread alone, as `published` is by the one that publishes
        self._sending = 0
        self.published = self.dropped = 0

    @property
    def waiting(self) -> int:
        """Rows that are not on the stream yet."""
        return self._taken - self.published

    def put(self, block: Block) -> None:
        """Late rows, oldest first; called from the source's thread, never waits. block : FREQUENCY[n]"""
        for start in range(0, block.size, BLOCK_ROWS):
            piece = block[start : start + BLOCK_ROWS].copy()
            if self.waiting + piece.size > ROWS_MAX:
                self.dropped += int(piece.size)
            else:
                self._taken += int(piece.size)
                self._blocks.append(piece)

    def publish(self, most: int = 20) -> int:
        """Send what waits, at most so many blocks; how many rows left. Called from the store's thread (`ingest_store`).

        Raises what redis-py raises: the block stays, and goes first the next time.
        """
        before = self.published
        for _ in range(most):
            if self._sending:
                self._writer.retry()
            elif self._blocks:
                self._sending = int(self._blocks[0].size)
                self._writer.add(wire.encode(self._blocks[0]))
            else:
                break
            self._blocks.popleft()
            self.published += self._sending
            self._sending = 0
        return self.published - before
