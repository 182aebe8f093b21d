"""The ingest process: reports of the sources -> quality gates -> one of them chosen -> the area's frequency stream.

One entry a sample, so that the stream's counter counts samples, on one server or on two independent ones
(`telemetry.paired_writer`). Policy while a server is away: samples wait for it, in order, up to the writer's bound,
and the other one has them at once; when it is back they are published late, and the core does not act on what is too
old. Of one source every sample is published, the rejected ones marked. Of several every decision is, and what each of
them said goes to a stream beside it, at the store alone, in one entry a batch, so that every row has its record.
"""

from __future__ import annotations

import time
from typing import Final

import redis

from aggregator.config import Config
from aggregator.history import Histories
from aggregator.process import Log, Stats, Stop, epoch, lower_nice, patient
from aggregator.sources import Inbox, Sources, Taken, follow
from telemetry import wire
from telemetry.paired_writer import PairedWriter
from telemetry.redis_stream import StreamWriter
from telemetry.samples import Block
from telemetry.stages import note

MAXLEN: Final = 20_000
NAME: Final = "i1"
SETTLE_S: Final = 1.0


def serve(config: Config, nominal_hz: float, url: str, stop: Stop, log: Log, url_b: str = "") -> None:
    """Follow the sources and publish until told to stop. url_b : a second server for the samples, or empty

    Raises SourceError and what the clients' packages raise.
    """
    client = patient(url, stop, log, url_b)
    if client is None:
        return
    lower_nice(-5)
    life = epoch()
    late = Histories(client, config.area, NAME, life, log)
    sources = follow(config, nominal_hz, time.time_ns(), late)
    writer = PairedWriter([url, url_b] if url_b else [url], f"freq:{config.area}:{NAME}", life, maxlen=MAXLEN)
    record = StreamWriter(client, f"sources:{config.area}:{NAME}", life, maxlen=MAXLEN)
    stats = Stats(client, config.area, "ingest")
    inbox = Inbox()
    sources.start(inbox)
    for number, one in sources.followed.items():
        log.info("following", source=number, name=one.table.name, at=f"{one.table.host}:{one.table.port}")
    while not stop:
        blocks = inbox.take(0.1)
        _publish(writer, record, sources, blocks, log)
        if stats.due:
            sources.watch(time.time_ns())
            late.turn()
            stats.write(_figures(writer, record, sources, late))
    sources.stop()
    _publish(writer, record, sources, inbox.take(0.0), log)
    _send(writer, sources.flush(), time.time_ns())
    if writer.settle(SETTLE_S):
        log.warning("samples not published", pending=writer.pending, away=[why for why in writer.away if why])
    late.finish()
    stats.write(_figures(writer, record, sources, late), now=True)
    writer.close()


def _publish(writer: PairedWriter, record: StreamWriter, sources: Sources, blocks: list[Block], log: Log) -> None:
    """Judge, choose and publish, then the record; a server that does not answer delays nobody, and is named once."""
    taken_ns = time.time_ns()
    taken = sources.take(blocks)
    _send(writer, taken, taken_ns)
    for number, why in enumerate(writer.news()):
        if why is not None:
            log.warning("server away, samples kept" if why else "server back", server="AB"[number], error=why)
    if taken.judged.size:
        _keep(record, wire.encode(taken.judged), away=bool(writer.away[0]))


def _send(writer: PairedWriter, taken: Taken, taken_ns: int) -> None:
    """One entry a decision. taken_ns : when its samples came to their turn"""
    for row in range(taken.decided.size):
        writer.add(wire.encode(taken.decided[row : row + 1]), note(taken_ns, time.time_ns()))


def _keep(record: StreamWriter, payload: bytes, *, away: bool) -> None:
    """The record is for later: with the store away it waits without being tried, or the next samples would."""
    if away:
        record.hold(payload)
        return
    try:
        record.add(payload)
    except redis.RedisError:  # it waits in the writer, within its bound; the samples' own writer tells who is away
        return


def _figures(writer: PairedWriter, record: StreamWriter, sources: Sources, late: Histories) -> dict[str, object]:
    return {
        "published": writer.counter - writer.pending,
        "epoch": writer.epoch,
        "dropped": writer.dropped,
        "record_dropped": record.dropped,
        "servers_away": sum(bool(why) for why in writer.away),
        "backfill": late.figures(),
        **sources.figures(time.time_ns()),
    }
