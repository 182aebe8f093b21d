"""The gateway process: set-points in through the sink, sessions, reports and meter readings out.

Whatever stands behind the `VehicleGateway` port, here the simulated fleet, this loop is the same. Order on the
stream: sessions before the reports that refer to them. Policy while the store is away: what the vehicles say
waits in order up to the writer's bound; nobody commands them, so they follow their safe profiles as commands
expire.
"""

from __future__ import annotations

import time
from typing import Any, Final

import redis

from aggregator import sessions
from aggregator.config import Config
from aggregator.configured import behaviour
from aggregator.fleets.composing import LIVE_NS, composed
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.ports import VehicleGateway
from aggregator.process import Log, Stats, Stop, epoch, lower_nice, patient, settle_memory
from aggregator.setpoints import SetpointError, decode
from aggregator.sink import CommandSink, Refusal
from telemetry import wire
from telemetry.redis_stream import FIELD, StreamReader, StreamWriter, connect, entries
from telemetry.samples import Block

NAME: Final = "g1"
# Entries kept, and rows of the fleet they may hold in all.
MAXLEN: Final = (600, 5_000, 50_000_000)
# Reports are gathered for so long before they travel together.
BATCH_MS: Final = 50
# The stream must still hold what came after the table was written: at 60 entries a second it holds 80 s.
TABLE_S: Final = 20.0


def serve(
    config: Config, keys: dict[int, bytes], url: str, stop: Stop, log: Log, since: dict[str, str] | None = None
) -> None:  # fmt: skip
    """Run the simulated fleet behind the sink until told to stop. since : newest entries when the run began"""
    client = patient(url, stop, log)
    if client is None:
        return
    how, now_ns = behaviour(config.fleet), time.time_ns()
    coming = composed(config.fleet, how, now_ns, now_ns + LIVE_NS)
    fleet = SimulatedFleet(
        config.fleet.vehicles, config.fleet.seed, now_ns, behaviour=how,
        first_session=_sessions_before(client, config.area, since or {}),
        guests=None if coming is None else coming.guests,
    )  # fmt: skip
    sink = CommandSink(keys, _told_before(client, f"cmd:{config.area}:{NAME}", keys))
    lower_nice(5)
    settle_memory()
    Fleetside(config.area, fleet, sink, client, url, stop, log, config.fleet.vehicles).run()


def _sessions_before(client: redis.Redis, area: str, since: dict[str, str]) -> int:
    """The highest session an earlier life of this gateway announced in this run: ours go on above it."""
    table = sessions.read(client, area, NAME)
    if table is None or not table.newer_than(since.get(f"fleet:{area}:{NAME}", "0")) or not table.rows.size:
        return 0
    return int(table.rows["session"].max())


def _told_before(client: redis.Redis, stream: str, keys: dict[int, bytes]) -> tuple[int, int] | None:
    """(epoch, sequence) of the newest message on the stream: what came before our time is not let through again."""
    newest: Any = client.xrevrange(stream, count=64)
    for _, fields in newest:
        try:
            message = decode(fields[FIELD], keys)
        except (KeyError, SetpointError):
            continue  # junk does not hide what was said before it
        return message.epoch, message.sequence
    return None


class Fleetside:
    """One gateway and its two streams."""

    def __init__(
        self, area: str, fleet: VehicleGateway, sink: CommandSink, client: redis.Redis, url: str, stop: Stop, log: Log,
        slots: int,
    ) -> None:  # fmt: skip
        self._area, self._client = area, client
        self._sessions = sessions.Sessions(slots)
        self._table_due_s = 0.0
        self._fleet, self._sink, self._stop, self._log = fleet, sink, stop, log
        self._writer = StreamWriter(client, f"fleet:{area}:{NAME}", epoch(), maxlen=entries(slots, *MAXLEN))
        self._reader = StreamReader(connect(url), {f"cmd:{area}:{NAME}": "$"})
        self._stats = Stats(client, area, "gateway")
        self._applied = 0
        self._refused_rows = 0

    def run(self) -> None:
        """Loop until told to stop."""
        due_s = 0.0
        while not self._stop:
            self._receive()
            now_s = time.monotonic()
            if now_s >= due_s:
                due_s = now_s + BATCH_MS / 1e3
                self._report()
                self._keep_table(now_s)
                self._stats.write(self.figures())
        self._stats.write(self.figures(), now=True)

    def _receive(self) -> None:
        """Messages that came within a batch's time, each through the sink."""
        try:
            entries = self._reader.read(block_ms=BATCH_MS, count=64)
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
            self._log.warning("store away", error=str(error))
            self._stop.wait(0.1)
            return
        for _, entry_id, payload in entries:
            now_ns = time.time_ns()
            message = self._sink.accept(payload, now_ns)
            if isinstance(message, Refusal):
                self._log.warning("command refused", reason=message.reason, detail=message.detail, entry=entry_id)
                continue
            self._refused_rows += self._fleet.apply(message.rows, message.valid_until_ns, now_ns)
            self._applied += int(message.rows.size)

    def _report(self) -> None:
        now_ns = time.time_ns()
        self._fleet.advance(now_ns)
        changes = self._fleet.sessions(now_ns)
        self._sessions.take(changes)
        for block in (changes, self._fleet.reports(now_ns), self._fleet.meter(now_ns)):
            if block.size:
                self._publish(block)

    def _keep_table(self, now_s: float) -> None:
        """Write the sessions for readers that come later, when due and when the stream has all they rest on."""
        if now_s < self._table_due_s or self._writer.pending:
            return
        position = f"{self._writer.epoch}-{self._writer.counter}"
        try:
            sessions.write(self._client, self._area, NAME, sessions.SessionTable(position, self._sessions.rows()))
        except redis.RedisError as error:
            self._log.warning("store away, sessions not kept", error=str(error))
            return
        self._table_due_s = now_s + TABLE_S

    def _publish(self, block: Block) -> None:
        try:
            self._writer.add(wire.encode(block))
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
            self._log.warning("store away, reports kept", pending=self._writer.pending, error=str(error))

    def figures(self) -> dict[str, object]:
        """Counters of this gateway."""
        return {
            "messages": self._sink.accepted,
            "applied": self._applied,
            "refused": dict(self._sink.refused),
            "refused_rows": self._refused_rows,
            "dropped": self._writer.dropped,
        }
