"""Follow streams on two independent servers at once: what one of them has lost or not yet, the other brings.

One thread, one poll over both sockets: an entry goes out as soon as the first server tells it (measured against a
thread for each server: the hand-over between threads costs more than the poll). What is a copy, what is late and how
long a gap is waited for is the business of `telemetry.merge`, one for each stream; a server that is away costs
nothing but its copy (`telemetry.side`).

Streams that only one server holds go along in the same poll; for them this is a plain reader. With one server
alone, likewise.

Policy for buffers and losses: see `telemetry.merge`; positions survive every failure, and entries of a foreign form
are counted (`skipped`) and passed over.
"""

from __future__ import annotations

import select
import time
from collections.abc import Mapping, Sequence
from typing import Final

import redis

from telemetry.merge import PATIENCE_S, Merge
from telemetry.redis_stream import TIMEOUT_S, Row, newest, parse_id
from telemetry.side import Side

COUNT: Final = 256
# A tick of the poll's clock: a wait rounded down to nothing would spin until the time is up.
TICK_S: Final = 1e-3


class PairedReader:
    """Follows several streams, each from a position of its own and on the servers that hold it.

    urls   : of the servers, the first one's first
    start  : for each server, key -> ID of the last entry already known, as for `StreamReader`; the further one counts
             where two servers are given different ones. "$" asks the servers: those that answer
    count  : most entries that a server tells at once, per stream
    """

    def __init__(
        self, urls: Sequence[str], start: Sequence[Mapping[str, str]], count: int = COUNT,
        patience_s: float = PATIENCE_S, timeout_s: float = TIMEOUT_S,
    ) -> None:  # fmt: skip
        self._sides = [Side(url, timeout_s) for url in urls]
        self._count, self._patience_s = count, patience_s
        self._merges: dict[str, Merge] = {}
        self._places: dict[str, list[int]] = {}
        self._poll = select.poll()
        self.skipped = 0
        self.follow(start)

    @property
    def positions(self) -> dict[str, str]:
        """key -> ID of the last entry delivered."""
        return {key: merge.position for key, merge in self._merges.items()}

    @property
    def missing(self) -> int:
        """Counters skipped within an epoch, on every server."""
        return sum(merge.missing for merge in self._merges.values())

    @property
    def duplicates(self) -> int:
        """Copies from another server."""
        return sum(merge.duplicates for merge in self._merges.values())

    @property
    def late(self) -> int:
        """Entries that came after they had been given up for missing."""
        return sum(merge.late for merge in self._merges.values())

    @property
    def answering(self) -> list[bool]:
        """Of each server, whether it answers."""
        return [side.answering for side in self._sides]

    @property
    def losses(self) -> list[int]:
        """Of each server, how often it went away."""
        return [side.losses for side in self._sides]

    def follow(self, start: Sequence[Mapping[str, str]]) -> None:
        """Follow these streams from these positions and no others, over the connections that stand.

        Raises redis.ConnectionError or redis.TimeoutError if a "$" finds no server that answers.
        """
        places: dict[str, list[int]] = {}
        for number, keys in enumerate(start):
            for key in keys:
                places.setdefault(key, []).append(number)
        merges = {}
        for key, numbers in places.items():
            begin = max((self._resolved(numbers, key, start[number][key]) for number in numbers), key=parse_id)
            merges[key] = Merge(begin, len(numbers), self._patience_s)
        self._places, self._merges = places, merges

    def read(self, block_ms: int) -> list[Row]:
        """New entries, in order within each key; empty when the time is up.

        block_ms : longest wait; 0: what has come, without any

        Raises redis.ConnectionError when the time was up and no server answers.
        """
        deadline_s, once = time.monotonic() + block_ms / 1e3, block_ms == 0
        while True:
            now_s = time.monotonic()
            rows = self._ready(now_s)
            self._ask(now_s)
            if rows:
                return rows
            if now_s >= deadline_s and not once:
                self._check()
                return []
            self._wait(0.0 if once else max(min([deadline_s, *self._dues_s()]) - now_s, TICK_S))
            once = False

    def doubt(self, number: int) -> None:
        """Somebody else found this server away: it must answer to a new connection before it is believed again."""
        self._sides[number].doubt()

    def close(self) -> None:
        """Let go of the servers."""
        for side in self._sides:
            side.close()

    def _resolved(self, numbers: Sequence[int], key: str, entry_id: str) -> str:
        if entry_id != "$":
            return entry_id
        found, failed = [], None
        for number in numbers:
            try:
                found.append(newest(self._sides[number].client, key))
            except (redis.ConnectionError, redis.TimeoutError) as error:
                failed = error
        if not found and failed is not None:
            raise failed
        return max(found, key=parse_id)

    def _ready(self, now_s: float) -> list[Row]:
        rows: list[Row] = []
        for key, merge in self._merges.items():
            rows += merge.ready([self._sides[number].answering for number in self._places[key]], now_s)
        known = [row for row in rows if not row.foreign]
        self.skipped += len(rows) - len(known)
        return known

    def _ask(self, now_s: float) -> None:
        for number, side in enumerate(self._sides):
            if not side.free(now_s):
                continue
            positions = {
                key: self._merges[key].heard(places.index(number))
                for key, places in self._places.items()
                if number in places
            }
            if positions:
                side.ask(positions, self._count, now_s)

    def _wait(self, seconds: float) -> None:
        """Until a server answers, or for so long; what has come is offered to the streams it belongs to."""
        waiting = {fd: number for number, side in enumerate(self._sides) if (fd := side.fileno()) is not None}
        for fd in waiting:
            self._poll.register(fd, select.POLLIN)
        try:
            found = self._poll.poll(1e3 * seconds)
        finally:
            for fd in waiting:
                self._poll.unregister(fd)
        for fd, _ in found:
            number = waiting[fd]
            for row in self._sides[number].answer():
                if row.key in self._merges:  # an answer to a question of before `follow` may name others
                    self._merges[row.key].offer(self._places[row.key].index(number), row)

    def _dues_s(self) -> list[float]:
        return [due_s for merge in self._merges.values() if (due_s := merge.due_s()) is not None]

    def _check(self) -> None:
        if not any(side.answering for side in self._sides):
            reasons = "; ".join(side.why for side in self._sides if side.why)
            if reasons:
                raise redis.ConnectionError(reasons)
