"""Late history of the ingest's devices: their buffered reports to the backfill stream, their bookmarks to the store.

A device with a buffered report control block keeps what it measured while nobody listened. What it hands over later
is kept beside the journal (`backfill`): control does not see it, settlement fills gaps with it. How far each
device's history has come is kept in the store, so that the next life of the process goes on from there; what the
device no longer held is counted in the source's status and named in the log.

Policy: a bookmark is written a turn after it was reached, when the rows it stands for are on the stream: a crash in
between brings rows twice, never none; their stamps tell.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
import redis

from aggregator.backfill import Backfill
from aggregator.process import Log
from telemetry.iec61850 import Bookmark, Gap

KEY: Final = "bookmarks"


class Histories:
    """The histories of one ingest process.

    client : of the store; name : of the ingest; epoch : of its streams
    """

    def __init__(self, client: redis.Redis, area: str, name: str, epoch: int, log: Log) -> None:
        self.backfill = Backfill(client, area, name, epoch)
        self._client, self._key, self._log = client, f"{KEY}:{area}:{name}", log
        self._sources: dict[str, Any] = {}
        self._reached: dict[str, Bookmark] = {}  # a turn ago
        self._written: dict[str, Bookmark] = {}

    def options(self, name: str) -> dict[str, Any]:
        """What the client of the source `name` is given, for a history that goes on where it ended."""
        return {
            "on_backfill": self.backfill.put,
            "on_gap": lambda gap: self._lost(name, gap),
            "bookmark": self._bookmark(name),
        }

    def follow(self, name: str, source: Any) -> None:
        """Keep this source's bookmark from now on."""
        self._sources[name] = source

    def turn(self) -> None:
        """Send some of what has come, and keep how far each history is; once a second. A store away is for later."""
        reached = {name: mark for name, source in self._sources.items() if (mark := source.bookmark()) is not None}
        try:
            self.backfill.publish()
            if not self.backfill.waiting:
                self._keep(self._reached)
        except redis.RedisError as error:
            self._log.warning("late history waits", rows=self.backfill.waiting, error=str(error))
        self._reached = reached

    def finish(self) -> None:
        """Two turns after the sources have ended: nothing is on its way any more."""
        self.turn()
        self.turn()

    def _keep(self, marks: dict[str, Bookmark]) -> None:
        for name, mark in marks.items():
            if mark != self._written.get(name):
                self._client.hset(self._key, name, orjson.dumps(mark.as_dict()))
                self._written[name] = mark

    def figures(self) -> dict[str, Any]:
        """Rows published, waiting and dropped."""
        late = self.backfill
        return {"published": late.published, "waiting": late.waiting, "dropped": late.dropped}

    def _bookmark(self, name: str) -> Bookmark | None:
        """The one kept; None, and all that the device still holds, where there is none that can be read."""
        try:
            kept: Any = self._client.hget(self._key, name)
            return None if kept is None else Bookmark.from_dict(orjson.loads(kept))
        except (redis.RedisError, ValueError, KeyError, TypeError) as error:
            self._log.warning("no bookmark: history begins with all that the device holds", name=name, error=str(error))
            return None

    def _lost(self, name: str, gap: Gap) -> None:
        self._log.warning("history lost at the device", name=name, **gap._asdict())
