"""The ingest process: reports of the measuring unit -> quality gate -> the area's frequency stream.

One entry a sample, so that the stream's counter counts samples. Policy while the store is away: samples wait,
in order, up to the writer's bound; when it is back they are published late, and the core does not act on what
is too old. Every sample is published, the rejected ones marked.
"""

from __future__ import annotations

import time
from collections import deque
from threading import Event
from typing import Final

import redis

from aggregator.config import Config
from aggregator.measuring import client_options
from aggregator.process import Log, Stats, Stop, epoch, lower_nice, patient
from telemetry import wire
from telemetry.iec61850 import make_client
from telemetry.quality import Gate, GateSettings
from telemetry.redis_stream import StreamWriter
from telemetry.samples import Block

MAXLEN: Final = 20_000
NAME: Final = "i1"


def gate_settings(config: Config, nominal_hz: float) -> GateSettings:
    """The gate's settings from the configuration; what it leaves open keeps the gate's own default."""
    chosen = {name: value for name, value in config.quality.model_dump().items() if value is not None}
    return GateSettings(nominal_hz=nominal_hz, **chosen)


class Intake:
    """Blocks from the source's thread, handed to the process' own."""

    def __init__(self) -> None:
        self._blocks: deque[Block] = deque()
        self._ready = Event()

    def put(self, block: Block) -> None:
        """Called by the source; never waits."""
        self._blocks.append(block)
        self._ready.set()

    def take(self, seconds: float) -> list[Block]:
        """What has come, or nothing after `seconds`."""
        self._ready.wait(seconds)
        self._ready.clear()
        taken = []
        while self._blocks:
            taken.append(self._blocks.popleft())
        return taken


def serve(config: Config, nominal_hz: float, url: str, stop: Stop, log: Log) -> None:
    """Follow the measuring unit and publish until told to stop."""
    client = patient(url, stop, log)
    if client is None:
        return
    lower_nice(-5)
    unit = config.unit
    source = make_client(unit.backend, unit.host, unit.port, unit.report_block, source=1, **client_options(unit))
    gate = Gate(gate_settings(config, nominal_hz), live=True)
    writer = StreamWriter(client, f"freq:{config.area}:{NAME}", epoch(), maxlen=MAXLEN)
    stats = Stats(client, config.area, "ingest")
    intake = Intake()
    source.start(intake.put)
    log.info("following", unit=f"{unit.host}:{unit.port}", block=unit.report_block or "the best", stream=writer.key)
    while not stop:
        _publish(writer, gate, intake.take(0.1), log)
        stats.write(_figures(writer, gate, source.status().__dict__))
    source.stop()
    _publish(writer, gate, intake.take(0.0), log)
    _settle(writer, log)
    stats.write(_figures(writer, gate, source.status().__dict__), now=True)


def _publish(writer: StreamWriter, gate: Gate, blocks: list[Block], log: Log) -> None:
    """Judge and publish. A store that does not answer is asked once a batch: the samples behind wait in order."""
    away = False
    for block in blocks:
        judged = gate.check(block)
        for row in range(judged.size):
            payload = wire.encode(judged[row : row + 1])
            if away:
                writer.hold(payload)
                continue
            try:
                writer.add(payload)
            except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
                away = True
                log.warning("store away, samples kept", pending=writer.pending, error=str(error))


def _settle(writer: StreamWriter, log: Log) -> None:
    """Try for a second to publish what still waits."""
    deadline_s = time.monotonic() + 1.0
    while writer.pending and time.monotonic() < deadline_s:
        try:
            writer.retry()
        except redis.RedisError as error:
            log.warning("samples not published", pending=writer.pending, error=str(error))
            time.sleep(0.1)


def _figures(writer: StreamWriter, gate: Gate, status: dict[str, object]) -> dict[str, object]:
    return {
        "published": writer.counter - writer.pending,
        "epoch": writer.epoch,
        "dropped": writer.dropped,
        "rejected": gate.rejected(),
        "source": status,
    }
