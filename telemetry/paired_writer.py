"""Publish a stream on two independent servers: the same entries under the same IDs, each server on its own time.

A thread for each server does the writing, so that one that is frozen or away never delays the other: `add` hands the
entry over and returns. Exactly-once, in order, one writer, on each server: see `telemetry.redis_stream`.

Policy for buffers and losses:
- For a server that is away up to `pending_max` entries wait, in order; beyond that the oldest are dropped for this
  server and counted. As many again wait for its thread while the server lets that one wait; beyond that the newest
  are. What the other server holds is not lost: readers of both see no gap.
- `pending` counts what no server holds yet, `dropped` what no server will ever hold.
- A conflict on either server ends the writer: somebody else writes this stream.

With one server it is a plain writer with a thread.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Final

import redis

from telemetry.redis_stream import DEFAULT_MAXLEN, DEFAULT_PENDING, StreamConflict, StreamWriter, connect

BACKOFF_S: Final = (0.05, 0.5)
Item = tuple[int, bytes, bytes]


class ServerWriter:
    """The thread that writes to one server. `away` says why it does not answer; empty while it does."""

    def __init__(self, url: str, key: str, epoch: int, maxlen: int, pending_max: int) -> None:
        self._writer = StreamWriter(connect(url), key, epoch, maxlen, pending_max)
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._waiting_max = pending_max
        self.taken = 0  # counter of the newest entry that the thread has seen to
        self.away = ""
        self.losses = 0
        self.conflict: StreamConflict | None = None
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._thread.start()

    @property
    def settled(self) -> int:
        """Counter of the newest entry this server holds, with all before it that it will ever hold."""
        return self.taken - self._writer.pending

    @property
    def dropped(self) -> int:
        """Entries this server will never hold."""
        return self._writer.dropped

    def put(self, item: Item) -> None:
        """Hand an entry over; never waits."""
        if self._items.qsize() < self._waiting_max:
            self._items.put(item)

    def close(self, seconds: float) -> None:
        """End the thread once it has written what it was given, or after so long."""
        self._items.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        pause_s, ending = BACKOFF_S[0], False
        while not ending:
            item: Item | None = None
            try:
                item = self._items.get(timeout=pause_s if self._writer.pending else None)
                ending = item is None
            except queue.Empty:
                pass  # time to try again
            try:
                self._write(item)
            except StreamConflict as error:
                self.conflict = error
                return
            except redis.RedisError as error:
                self.losses += not self.away
                self.away = str(error) or type(error).__name__
                pause_s = min(2 * pause_s, BACKOFF_S[1])
            else:
                self.away, pause_s = "", BACKOFF_S[0]

    def _write(self, item: Item | None) -> None:
        """One entry, or what is pending."""
        if item is None:
            self._writer.retry()
            return
        counter, payload, note = item
        # Entries that found no room here leave a gap; the writer counts them.
        self._writer.skip_to(counter)
        self.taken = counter
        self._writer.add(payload, note)


class PairedWriter:
    """The one writer of a stream on one or two servers.

    urls : of the servers
    key, epoch, maxlen, pending_max : as for `StreamWriter`
    """

    def __init__(
        self, urls: Sequence[str], key: str, epoch: int, maxlen: int = DEFAULT_MAXLEN,
        pending_max: int = DEFAULT_PENDING,
    ) -> None:  # fmt: skip
        self.key, self.epoch = key, epoch
        self.counter = 0
        self._told = [""] * len(urls)
        self._servers = [ServerWriter(url, key, epoch, maxlen, pending_max) for url in urls]

    @property
    def pending(self) -> int:
        """Entries that no server holds yet."""
        return self.counter - max(server.settled for server in self._servers)

    @property
    def dropped(self) -> int:
        """Entries that no server will ever hold: at most what the luckier one has dropped."""
        return min(server.dropped for server in self._servers)

    @property
    def away(self) -> list[str]:
        """Of each server, why it does not answer; empty while it does."""
        return [server.away for server in self._servers]

    def news(self) -> list[str | None]:
        """Of each server, why it has gone away since this was last asked; "" if it came back, None if neither."""
        away = self.away
        changed = [None if bool(now) == bool(told) else now for now, told in zip(away, self._told, strict=True)]
        self._told = away
        return changed

    def add(self, payload: bytes, note: bytes = b"") -> str:
        """Append one entry on every server; its ID. Does not wait.

        Raises StreamConflict if somebody else writes this stream.
        """
        for server in self._servers:
            if server.conflict is not None:
                raise server.conflict
        self.counter += 1
        for server in self._servers:
            server.put((self.counter, payload, note))
        return f"{self.epoch}-{self.counter}"

    def settle(self, seconds: float) -> int:
        """Wait until every server that answers holds all entries, or for so long; how many no server holds."""
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            behind = [server for server in self._servers if server.settled < self.counter]
            if not self.pending and all(server.away for server in behind):
                break
            time.sleep(0.002)
        return self.pending

    def close(self, seconds: float = 1.0) -> None:
        """End the threads."""
        deadline_s = time.monotonic() + seconds
        for server in self._servers:
            server.close(max(0.0, deadline_s - time.monotonic()))
