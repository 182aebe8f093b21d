"""The utility's process: live figures out over IEC 61850, set-points in and onto their stream; a line for the auditor.

The library's thread hands over commands and events; the loop does what may wait. Policies: of commands one is under way
at most, the library sees to it; what the record may lose is said in `aggregator.audit`. A set-point that the store did
not take is answered as failed, and may yet have been written (`Publisher.put`): it then ends by its own validity, like
one of the HTTP door.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from aggregator.api.errors import Refusal, StoreLost
from aggregator.api.feed import STORE_ERRORS
from aggregator.api.models import SignalBody
from aggregator.api.publish import store_at
from aggregator.api.signals import SignalWriter, within
from aggregator.audit import Audit
from aggregator.config import Config, ConfigError
from aggregator.process import Log, Stop, lower_nice, rss_mb
from aggregator.utility_figures import Door, door, shown
from telemetry.iec61850.commands import Event, Ticket
from telemetry.iec61850.control import AddCause, Judge
from telemetry.iec61850.utility import UtilityServer
from telemetry.iec61850.utility_model import Shown

NAME: Final = "u1"
SOURCE: Final = 2  # SIGNAL.source of this door; the API's is 1
LOOK_S: Final = 0.1
SHOW_S: Final = 0.25
STATS_S: Final = 1.0
STORE_S: Final = 2.0


def serve(config: Config, url: str, folder: Path, sold_kw: float, stop: Stop, log: Log) -> None:
    """Serve until told to stop. folder : the audit lies there, as `audit/utility.jsonl`

    Raises ConfigError, PortInUse, ServerError, BackendMissing, LibraryVersion.
    """
    if config.utility is None:
        raise ConfigError("`utility`: the configuration has no such table; add [utility], its keys have defaults")
    lower_nice(5)
    limit = config.api.signal_max_kw
    settings = door(config.utility, sold_kw if limit is None else limit, time.time_ns())
    asyncio.run(Utility(config, settings, url, folder, log).run(stop))


class Utility:
    """The server between the store and the utility."""

    def __init__(self, config: Config, settings: Door, url: str, folder: Path, log: Log) -> None:
        table = config.utility
        if table is None:
            raise ConfigError("`utility`: the configuration has no such table")
        self._area, self._valid_s, self._log = config.area, table.valid_s, log
        self._most_kw = settings.limits.most_kw
        self._audit = Audit(folder / "audit", "utility")
        self._store: Redis = store_at(url, STORE_S)
        self._writer = SignalWriter(self._store, config.area, NAME, SOURCE)
        self._tickets: deque[Ticket] = deque()
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._figures: dict[str, Shown] = {}
        self._read: dict[str, Any] | None = None
        self._surprises = 0
        self._closing = False
        self.server = UtilityServer(
            settings.model, Judge(settings.limits), self._command, self._event,
            host=table.host, port=table.port, tls=settings.tls, local=table.local_operate,
        )  # fmt: skip

    async def run(self, stop: Stop) -> None:
        """Until told to stop: figures, commands and the record, each at its own pace."""
        self._loop = asyncio.get_running_loop()
        self.server.start()
        self._log.info("utility server up", host=self.server.host, port=self.server.port, audit=str(self._audit.path))
        self._audit.put("started", time.time_ns(), pid=os.getpid())
        tasks = [asyncio.create_task(work()) for work in (self._show, self._carry_out, self._record)]
        try:
            while not stop:
                ended = next((task for task in tasks if task.done()), None)
                if ended is not None:
                    ended.result()
                await asyncio.sleep(LOOK_S)
        finally:
            # They look, and are not cancelled: a cancellation that meets the store client's own timeout is lost.
            self._closing = True
            self._woken.set()
            await asyncio.gather(*tasks, return_exceptions=True)
            # Off the loop: it waits for the library's thread, which may be in a handler.
            await asyncio.to_thread(self.server.stop)
            await self._finish()

    async def _finish(self) -> None:
        while self._tickets:
            self._tickets.popleft().settle(AddCause.BLOCKED_BY_HEALTH)
        self._audit.put("stopped", time.time_ns())
        self._flush()
        await self._store.aclose()

    # ---- from the library's thread

    def _command(self, ticket: Ticket) -> None:
        self._tickets.append(ticket)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._woken.set)

    def _event(self, event: Event) -> None:
        self._audit.put(event.what, event.t_ns, **_told(event))

    # ---- the loop

    async def _carry_out(self) -> None:
        """Commands onto the stream, each answered."""
        while not self._closing:
            await self._woken.wait()
            self._woken.clear()
            while self._tickets:
                await self._publish(self._tickets.popleft())

    async def _publish(self, ticket: Ticket) -> None:
        power_kw = ticket.request.power_kw
        try:
            body = within(SignalBody(power_kw=power_kw, valid_s=self._valid_s), self._most_kw, self._valid_s)
            answer = await self._writer.write(body, time.time_ns())
        except (Refusal, ValueError) as error:
            lost = isinstance(error, StoreLost)
            ticket.settle(AddCause.COMMUNICATION_LOST if lost else AddCause.INCONSISTENT_PARAMETERS)
            self._audit.put(
                "failed", time.time_ns(), power_kw=power_kw, reason=str(error), client=ticket.request.client
            )
            return
        except BaseException:
            ticket.settle(AddCause.BLOCKED_BY_HEALTH)
            raise
        ticket.settle()
        self._audit.put(
            "published", time.time_ns(), power_kw=power_kw, client=ticket.request.client, number=ticket.request.number,
            stream=answer.stream, entry=answer.id, valid_until_ns=answer.valid_until_ns,
        )  # fmt: skip

    async def _show(self) -> None:
        """The live figures, more than once a second; without news they are marked, whatever the store does."""
        while not self._closing:
            live = await self._live()
            now_ns = time.time_ns()
            try:
                figures, setpoint_kw = shown(live, self._figures, now_ns)
            except (KeyError, TypeError, ValueError) as error:
                # A worker of another version: as good as silent.
                if not self._surprises:
                    self._log.warning("live figures not understood", error=f"{type(error).__name__}: {error}")
                self._surprises += 1
                figures, setpoint_kw = shown(None, self._figures, now_ns)
            self.server.show(figures, setpoint_kw)
            self._figures = figures
            await asyncio.sleep(SHOW_S)

    async def _live(self) -> dict[str, Any] | None:
        """The worker's figures as last read: a store that hesitates makes them older, not void."""
        try:
            data: Any = await self._store.get(f"live:{self._area}")
        except STORE_ERRORS:
            return self._read
        try:
            found = orjson.loads(data) if data else None
        except ValueError:
            found = {}  # not understood, and said so below
        self._read = found if found is None or isinstance(found, dict) else {}
        return self._read

    async def _record(self) -> None:
        due_s = 0.0
        while not self._closing:
            self._flush()
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + STATS_S
                await self._stats()
            await asyncio.sleep(LOOK_S)

    def _flush(self) -> None:
        try:
            self._audit.flush()
        except OSError as error:
            self._log.error("audit not written", path=str(self._audit.path), error=str(error))

    async def _stats(self) -> None:
        row = {
            "t_ns": time.time_ns(), "role": "utility", "pid": os.getpid(), "rss_mb": rss_mb(),
            "connections": self.server.connections, "commands": dict(self.server.counts),
            "audit": {
                "lines": self._audit.lines, "dropped": self._audit.dropped, "unwritten": self._audit.unwritten
            },
            "live_not_understood": self._surprises,
        }  # fmt: skip
        try:
            await self._store.set(f"stats:{self._area}:utility", orjson.dumps(row))
        except STORE_ERRORS:
            return


def _told(event: Event) -> dict[str, Any]:
    """What the line says of an event: who, from where, what, and why not."""
    line: dict[str, Any] = {}
    request = event.request
    if request is not None:
        line = {
            "client": request.client, "address": request.address, "category": request.category,
            "ident": request.ident.hex(), "ident_text": request.ident.decode("ascii", "replace"),
            "number": request.number, "power_kw": request.power_kw, "test": request.test, "select": request.select,
            "said_ns": request.t_ns,
        }  # fmt: skip
    if event.reason:
        line |= {"reason": event.reason, "cause": int(event.cause)}
    return line
