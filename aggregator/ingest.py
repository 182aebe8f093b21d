"""The ingest process: reports of the sources -> quality gates -> one of them chosen -> the area's frequency stream.

One entry a sample, so that the stream's counter counts samples. Policy while the store is away: samples wait,
in order, up to the writer's bound; when it is back they are published late, and the core does not act on what
is too old. Of one source every sample is published, the rejected ones marked. Of several every decision is, and what
each of them said goes to a stream beside it, in one entry a batch, so that every row has its record.
"""

from __future__ import annotations

import time
from typing import Final

import redis

from aggregator.config import Config
from aggregator.process import Log, Stats, Stop, epoch, lower_nice, patient
from aggregator.sources import Inbox, Sources, Taken, follow
from telemetry import wire
from telemetry.redis_stream import StreamWriter
from telemetry.samples import Block

MAXLEN: Final = 20_000
NAME: Final = "i1"


def serve(config: Config, nominal_hz: float, url: str, stop: Stop, log: Log) -> None:
    """Follow the sources and publish until told to stop. Raises SourceError."""
    client = patient(url, stop, log)
    if client is None:
        return
    lower_nice(-5)
    sources = follow(config, nominal_hz, time.time_ns())
    life = epoch()
    writer = StreamWriter(client, f"freq:{config.area}:{NAME}", life, maxlen=MAXLEN)
    record = StreamWriter(client, f"sources:{config.area}:{NAME}", life, maxlen=MAXLEN)
    stats = Stats(client, config.area, "ingest")
    inbox = Inbox()
    sources.start(inbox)
    for number, one in sources.followed.items():
        log.info("following", source=number, name=one.table.name, at=f"{one.table.host}:{one.table.port}")
    while not stop:
        _publish(writer, record, sources.take(inbox.take(0.1)), log)
        if stats.due:
            sources.watch(time.time_ns())
            stats.write(_figures(writer, record, sources))
    sources.stop()
    _publish(writer, record, sources.take(inbox.take(0.0)), log)
    _publish(writer, record, sources.flush(), log)
    _settle(writer, log)
    _settle(record, log)
    stats.write(_figures(writer, record, sources), now=True)


def _publish(writer: StreamWriter, record: StreamWriter, taken: Taken, log: Log) -> None:
    """The decisions first, they are waited for; then the record."""
    rows = taken.decided
    away = _add(writer, [rows[row : row + 1] for row in range(rows.size)], log, away=False)
    if taken.judged.size:
        _add(record, [taken.judged], log, away=away)


def _add(writer: StreamWriter, blocks: list[Block], log: Log, *, away: bool) -> bool:
    """One entry a block. A store that does not answer is asked once a batch: what is behind waits in order."""
    for block in blocks:
        payload = wire.encode(block)
        if away:
            writer.hold(payload)
            continue
        try:
            writer.add(payload)
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
            away = True
            log.warning("store away, samples kept", stream=writer.key, pending=writer.pending, error=str(error))
    return away


def _settle(writer: StreamWriter, log: Log) -> None:
    """Try for a second to publish what still waits."""
    deadline_s = time.monotonic() + 1.0
    while writer.pending and time.monotonic() < deadline_s:
        try:
            writer.retry()
        except redis.RedisError as error:
            log.warning("samples not published", stream=writer.key, pending=writer.pending, error=str(error))
            time.sleep(0.1)


def _figures(writer: StreamWriter, record: StreamWriter, sources: Sources) -> dict[str, object]:
    return {
        "published": writer.counter - writer.pending,
        "epoch": writer.epoch,
        "dropped": writer.dropped,
        "record_dropped": record.dropped,
        **sources.figures(time.time_ns()),
    }
