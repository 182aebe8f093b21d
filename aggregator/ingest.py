"""The ingest process: reports of the measuring unit -> quality gate -> the area's frequency stream.

One entry a sample, so that the stream's counter counts samples, on one server or on two independent ones
(`telemetry.paired_writer`). Policy while a server is away: samples wait for it, in order, up to the writer's bound,
and the other one has them at once; when it is back they are published late, and the core does not act on what is too
old. Every sample is published, the rejected ones marked.
"""

from __future__ import annotations

import time
from collections import deque
from threading import Event
from typing import Final

from aggregator.config import Config
from aggregator.process import Log, Stats, Stop, epoch, lower_nice, patient
from telemetry import wire
from telemetry.iec61850 import make_client
from telemetry.paired_writer import PairedWriter
from telemetry.quality import Gate, GateSettings
from telemetry.samples import Block
from telemetry.stages import note

MAXLEN: Final = 20_000
NAME: Final = "i1"
SETTLE_S: Final = 1.0


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


def serve(config: Config, nominal_hz: float, url: str, stop: Stop, log: Log, url_b: str = "") -> None:
    """Follow the measuring unit and publish until told to stop. url_b : a second server for the samples, or empty"""
    client = patient(url, stop, log, url_b)
    if client is None:
        return
    lower_nice(-5)
    unit = config.unit
    source = make_client(
        unit.backend, unit.host, unit.port, unit.report_block, nominal_volt=unit.nominal_volt,
        silent_after_s=unit.silent_after_s, source=1,
    )  # fmt: skip
    gate = Gate(gate_settings(config, nominal_hz), live=True)
    writer = PairedWriter([url, url_b] if url_b else [url], f"freq:{config.area}:{NAME}", epoch(), maxlen=MAXLEN)
    stats = Stats(client, config.area, "ingest")
    intake = Intake()
    source.start(intake.put)
    log.info("following", unit=f"{unit.host}:{unit.port}", block=unit.report_block, stream=writer.key)
    while not stop:
        _publish(writer, gate, intake.take(0.1), log)
        stats.write(_figures(writer, gate, source.status().__dict__))
    source.stop()
    _publish(writer, gate, intake.take(0.0), log)
    if writer.settle(SETTLE_S):
        log.warning("samples not published", pending=writer.pending, away=[why for why in writer.away if why])
    stats.write(_figures(writer, gate, source.status().__dict__), now=True)
    writer.close()


def _publish(writer: PairedWriter, gate: Gate, blocks: list[Block], log: Log) -> None:
    """Judge and publish; a server that does not answer is nobody's delay, and is named once."""
    for block in blocks:
        taken_ns = time.time_ns()
        judged = gate.check(block)
        for row in range(judged.size):
            writer.add(wire.encode(judged[row : row + 1]), note(taken_ns, time.time_ns()))
    for number, why in enumerate(writer.news()):
        if why is not None:
            log.warning("server away, samples kept" if why else "server back", server="AB"[number], error=why)


def _figures(writer: PairedWriter, gate: Gate, status: dict[str, object]) -> dict[str, object]:
    return {
        "published": writer.counter - writer.pending,
        "epoch": writer.epoch,
        "dropped": writer.dropped,
        "servers_away": sum(bool(why) for why in writer.away),
        "rejected": gate.rejected(),
        "source": status,
    }
