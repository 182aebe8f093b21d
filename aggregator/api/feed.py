"""The one reader of the store: polls what the other processes write, composes, and hands out.

One poller for all clients, whatever their number; each figure is composed and encoded once per poll. The store
may go away at any time: that is a state to show, never a reason to stop. Nothing is written here but this
process' own counters.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import orjson
import structlog
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aggregator import views
from aggregator.api.errors import StoreLost
from aggregator.api.figures import INGESTS, NS, Heard, Reading, as_of_ns, compose, usable_hz
from aggregator.api.models import Alarm, HistoryAnswer, Live, Statement, StatementsAnswer, Status
from aggregator.api.settings import Settings
from aggregator.process import rss_mb

log = structlog.get_logger(__name__)

ROLES: Final = (*INGESTS, "worker", "gateway", "settle", "utility")
STORE_ERRORS: Final = (RedisError, OSError, asyncio.TimeoutError)
STORE_LOST: Final = (
    "Redis/Valkey does not answer: nothing is known of the fleet. Check that it runs; the API reconnects by itself."
)
START: Final = re.compile(rb"\d{1,19}")
SLOW_S: Final = 1.0  # rhythm of what changes once a second


class Feed:
    """Reads, remembers, composes; `frame` is the newest Status as JSON text, `version` counts frames."""

    def __init__(
        self, store: Redis, settings: Settings, now_ns: Callable[[], int], mono_s: Callable[[], float]
    ) -> None:
        self.store = store
        self.settings = settings
        self.now_ns = now_ns
        self.mono_s = mono_s
        self.reading = Reading(started_ns=now_ns())
        self.history: deque[tuple[int, float | None, float | None, float | None]] = deque(
            maxlen=max(2, round(settings.history_s / settings.poll_s))
        )
        self.counters: dict[str, int] = {}
        self.frame = ""
        self.version = 0
        self.closing = False
        self._turn = asyncio.Condition()
        self._slow_due_s = -1.0
        self._view: tuple[int, views.Rows] | None = None
        self._view_read_s = -1.0
        self._view_lock = asyncio.Lock()

    def key(self, name: str) -> str:
        """`name:{area}` with the configured area."""
        return f"{name}:{self.settings.area}"

    async def run(self) -> None:
        """Poll until cancelled or `closing`: a cancellation that meets a timeout in the store's client is lost."""
        while not self.closing:
            await self.poll()
            await asyncio.sleep(self.settings.poll_s)

    async def poll(self) -> None:
        """One reading, one frame. Never raises for what the store or a writer does."""
        try:
            await self._read()
        except STORE_ERRORS as error:
            self._store_lost(error)
        else:
            if self.reading.store_fault is not None:
                log.info("store back")
                self.reading.store_fault = None
        await self._publish()

    def status(self) -> Status:
        """The status now: figures of the last poll, ages of this moment."""
        s = self.settings
        return compose(self.reading, s.area, self.now_ns(), self.mono_s(), s.silent_s, s.process_silent_s)

    async def newer(self, version: int) -> tuple[int, str]:
        """The newest frame, as soon as there is one after `version`. Whoever is slow misses the ones between."""
        async with self._turn:
            await self._turn.wait_for(lambda: self.version > version)
            return self.version, self.frame

    async def view(self) -> tuple[int, views.Rows]:
        """The fleet's snapshot, read at most twice a second for all clients. Raises StoreLost."""
        async with self._view_lock:
            if self._view is None or self.mono_s() - self._view_read_s > SLOW_S / 2:
                try:
                    data: Any = await self.store.get(self.key("fleetview"))
                except STORE_ERRORS as error:
                    raise self.lost(error) from error
                self._view = views.decode(data) if data else (0, np.zeros(0, views.FLEETVIEW))
                self._view_read_s = self.mono_s()
            return self._view

    async def statements(self, limit: int, offset: int) -> StatementsAnswer:
        """A page of settled intervals, newest first. Raises StoreLost."""
        try:
            total, rows = await self._statements(limit, offset)
        except STORE_ERRORS as error:
            raise self.lost(error) from error
        return StatementsAnswer(total=total, limit=limit, offset=offset, rows=rows)

    def past(self) -> HistoryAnswer:
        """The last minutes, for a page that has just opened."""
        t_ns, hz, response_kw, delivered_kw = zip(*self.history, strict=True) if self.history else ((), (), (), ())
        return HistoryAnswer(
            t_ns=list(t_ns), hz=list(hz), response_kw=list(response_kw), delivered_kw=list(delivered_kw)
        )

    def count(self, name: str) -> None:
        """Count an event of this process."""
        self.counters[name] = self.counters.get(name, 0) + 1

    def lost(self, error: BaseException | None = None) -> StoreLost:
        """The refusal for a request that met a dead store; notes the loss."""
        if error is not None:
            self._store_lost(error)
        return StoreLost()

    async def _read(self) -> None:
        data: Any = await self.store.get(self.key("live"))
        self._take_live(data)
        if self.mono_s() >= self._slow_due_s:
            await self._read_slow()
            self._slow_due_s = self.mono_s() + SLOW_S

    async def _read_slow(self) -> None:
        async with self.store.pipeline(transaction=False) as pipe:
            pipe.getrange(self.key("fleetview"), 0, views.HEADER.size - 1)
            pipe.mget([self.key("stats") + f":{role}" for role in ROLES])
            pipe.set(self.key("stats") + ":api", orjson.dumps(self._own()))
            head, stats, _ = await pipe.execute()
        with contextlib.suppress(views.ViewError):
            self.reading.view_heard.update(head or None, views.header(head)[0], self.now_ns(), self.mono_s())
        for role, data in zip(ROLES, stats, strict=True):
            self._take_stats(role, data)
        total, rows = await self._statements(1, 0)
        self.reading.statements = total
        # Without the digests of its rows: this one travels five times a second to every client.
        self.reading.statement = Statement(**rows[0].model_dump(include=set(Statement.model_fields))) if rows else None

    async def _statements(self, limit: int, offset: int) -> tuple[int, list[Statement]]:
        key = self.key("statements")
        names: list[Any] = await self.store.hkeys(key)
        names.sort(key=_newest_first)
        page = names[offset : offset + limit]
        values: list[Any] = await self.store.hmget(key, page) if page else []
        rows = []
        for value in values:
            try:
                rows.append(Statement.model_validate_json(value or b""))
            except ValidationError:
                self.count("statements_malformed")
        return len(names), rows

    def _own(self) -> dict[str, Any]:
        return {"t_ns": self.now_ns(), "role": "api", "pid": os.getpid(), "rss_mb": rss_mb(), **self.counters}

    def _take_live(self, data: bytes | None) -> None:
        r, now_ns, mono_s = self.reading, self.now_ns(), self.mono_s()
        if data is None or data == r.live_heard.data:
            return
        try:
            live = Live.model_validate_json(data)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in fault["loc"]) or "document"
            since_ns = r.live_fault.since_ns if r.live_fault else now_ns
            text = (
                f"The worker's record cannot be read: {where}: {fault['msg']}. Run the same version of worker and API."
            )
            r.live_fault = Alarm(code="LIVE_MALFORMED", severity="critical", since_ns=since_ns, text=text)
            self.count("live_malformed")
            return
        r.live, r.live_fault = live, None
        r.live_heard.update(data, as_of_ns(live), now_ns, mono_s)
        if (r.live_heard.age_s(mono_s) or 0.0) <= self.settings.silent_s:
            hz = usable_hz(live, self.settings.silent_s)
            self.history.append((as_of_ns(live), hz, live.response_kw, live.delivered_kw))

    def _take_stats(self, role: str, data: bytes | None) -> None:
        table = _table(data)
        if data is None or table is None:
            return
        stamp = table.get("t_ns")
        heard = self.reading.processes_heard.setdefault(role, Heard())
        heard.update(data, stamp if isinstance(stamp, int) else None, self.now_ns(), self.mono_s())
        found = table.pop("histograms", None)
        self.reading.histograms[role] = found if isinstance(found, dict) else {}
        self.reading.processes[role] = table

    def _store_lost(self, error: BaseException) -> None:
        if self.reading.store_fault is None:
            log.warning("store lost", error=type(error).__name__)
            self.count("store_lost")
            self.reading.store_fault = Alarm(
                code="STORE_LOST", severity="critical", since_ns=self.now_ns(), text=STORE_LOST
            )

    async def _publish(self) -> None:
        async with self._turn:
            self.frame = self.status().model_dump_json()
            self.version += 1
            self._turn.notify_all()


def _table(data: bytes | None) -> dict[str, Any] | None:
    """A JSON object, or None for anything else."""
    if data is None:
        return None
    try:
        table = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return table if isinstance(table, dict) else None


def _newest_first(name: bytes) -> tuple[int, bytes]:
    """Order of statement keys: each begins with `start_ns`; the product may follow, where products are stacked."""
    digits = START.match(name)
    return (-int(digits[0]) if digits else 0, name)


def record_age_s(t_ns: int, now_ns: int) -> float:
    """Seconds since a record was made by its own stamp; never negative."""
    return max(0.0, (now_ns - t_ns) / NS)
