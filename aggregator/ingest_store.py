"""What the ingest tells the store besides its samples: the record, its figures, late history and bookmarks.

All of it on one thread with a client of its own, so that a store that is frozen or away never delays a sample: the
loop hands over and goes on.

Policy for buffers and losses:
- Record: in order, once (`StreamWriter`). For a store that is away its pending bound holds, the oldest are dropped.
  As many again wait for the thread while the store lets that one wait; beyond that the newest are dropped. Both are
  counted (`record_dropped`), and readers see the gap.
- Figures: the latest alone; a store away costs nothing but the news.
- Late history and bookmarks: a turn with each figures, their own bounds (`backfill`).
- At the end the thread does all of it once more, and is given a bounded time: what is then not at the store stays
  away from it (`waiting`).

What is no failure of the store ends the thread; the loop is told by its next call.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import redis

from aggregator.history import Histories
from aggregator.process import Stats
from telemetry.redis_stream import DEFAULT_PENDING, StreamWriter

TURN_S: Final = 0.1  # between two looks at what has come; the pause for a store that is away, too
Figures = dict[str, Any]


class StoreSide:
    """The thread beside the ingest's loop.

    record, stats, late : of one client that nobody else uses any more; the thread's alone from here on
    """

    def __init__(self, record: StreamWriter, stats: Stats, late: Histories, waiting_max: int = DEFAULT_PENDING) -> None:
        self._record, self._stats, self._late, self._waiting_max = record, stats, late, waiting_max
        self._items: deque[tuple[int, bytes]] = deque()
        self._handed = 0  # entries the loop had for the record, those without room included
        self._latest: deque[Figures] = deque(maxlen=1)
        self._last: Callable[[], Figures] = dict
        self._ending = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    @property
    def record_dropped(self) -> int:
        """Entries of the record that the store will never hold; those without room count when the next one is seen."""
        return self._record.dropped

    @property
    def waiting(self) -> int:
        """Entries of the record that the store may not hold yet."""
        return len(self._items) + self._record.pending

    def late(self) -> dict[str, Any]:
        """Figures of late history."""
        return self._late.figures()

    def keep(self, payload: bytes) -> None:
        """Hand over one entry of the record; never waits. Raises what ended the thread, StreamConflict first of all."""
        self._check()
        self._handed += 1
        if len(self._items) < self._waiting_max:
            self._items.append((self._handed, payload))

    def tell(self, figures: Figures) -> None:
        """Hand over the process' figures, once a second; never waits. Raises what ended the thread."""
        self._check()
        self._latest.append(figures)

    def close(self, seconds: float, last: Callable[[], Figures]) -> int:
        """End the thread once it has done what is left, or go on after so long; how many entries still wait.

        last : the final figures, asked for in the thread when all else is done

        Raises what ended the thread.
        """
        self._last = last
        self._ending.set()
        self._thread.join(seconds)
        self._check()
        return self.waiting

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._ending.wait(TURN_S):
                self._turn()
            self._finish()
        except Exception as error:  # the loop's to raise: without this thread the process is of no use
            self._error = error

    def _turn(self) -> None:
        self._write()
        if self._latest:
            self._late.turn()
            self._stats.write(self._latest.popleft(), now=True)

    def _finish(self) -> None:
        """The loop and the sources have ended: nothing more comes."""
        self._write()
        if not self._items:
            self._record.skip_to(self._handed + 1)  # the newest may have found no room
        self._late.finish()
        self._stats.write(self._last(), now=True)

    def _write(self) -> None:
        """The record: what has come, and what is pending. A store that does not answer is for the next turn."""
        with suppress(redis.RedisError):  # it waits in the writer; the samples' own writer tells who is away
            while self._items:
                number, payload = self._items.popleft()
                self._record.skip_to(number)
                # All that has come in one exchange.
                (self._record.hold if self._items else self._record.add)(payload)
            self._record.retry()
