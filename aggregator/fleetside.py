"""The gateway process: set-points in through the sink, sessions, reports and meter readings out.

Whatever stands behind the `VehicleGateway` port, here the simulated fleet, this loop is the same. Order on the
stream: sessions before the reports that refer to them. Policy while the store is away: what the vehicles say
waits in order up to the writer's bound; nobody commands them, so they follow their safe profiles as commands
expire.
"""

from __future__ import annotations

import time
from typing import Final

import redis

from aggregator.config import Config
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.ports import VehicleGateway
from aggregator.process import Log, Stats, Stop, epoch, lower_nice, patient, settle_memory
from aggregator.sink import CommandSink, Refusal
from telemetry import wire
from telemetry.redis_stream import StreamReader, StreamWriter, connect
from telemetry.samples import Block

NAME: Final = "g1"
MAXLEN: Final = 5_000
# Reports are gathered for so long before they travel together.
BATCH_MS: Final = 50


def serve(config: Config, keys: dict[int, bytes], url: str, stop: Stop, log: Log) -> None:
    """Run the simulated fleet behind the sink until told to stop."""
    fleet = SimulatedFleet(
        config.fleet.vehicles, config.fleet.seed, time.time_ns(), perfect=config.fleet.perfect
    )  # fmt: skip
    client = patient(url, stop)
    if client is None:
        return
    lower_nice(5)
    settle_memory()
    Fleetside(config.area, fleet, CommandSink(keys), client, url, stop, log).run()


class Fleetside:
    """One gateway and its two streams."""

    def __init__(
        self, area: str, fleet: VehicleGateway, sink: CommandSink, client: redis.Redis, url: str, stop: Stop, log: Log
    ) -> None:
        self._fleet, self._sink, self._stop, self._log = fleet, sink, stop, log
        self._writer = StreamWriter(client, f"fleet:{area}:{NAME}", epoch(), maxlen=MAXLEN)
        self._reader = StreamReader(connect(url, blocking=True), {f"cmd:{area}:{NAME}": "$"})
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
        for block in (self._fleet.sessions(now_ns), self._fleet.reports(now_ns), self._fleet.meter(now_ns)):
            if block.size:
                self._publish(block)

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
