"""The ingest process: reports of the sources -> quality gates -> one of them chosen -> the area's frequency stream.

One entry a sample, so that the stream's counter counts samples, on one server or on two independent ones
(`telemetry.paired_writer`). Policy while a server is away: samples wait for it, in order, up to the writer's bound,
and the other one has them at once; when it is back they are published late, and the core does not act on what is too
old. Of one source every sample is published, the rejected ones marked. Of several every decision is, and what each of
them said goes to a stream beside it, at the store alone, in one entry a batch, so that every row has its record; so do
the alarms of sources, as JSON. That
and whatever else the store is told goes by a thread of its own (`ingest_store`): the loop waits for no server.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Final

import orjson

from aggregator.config import Config
from aggregator.history import Histories
from aggregator.ingest_store import StoreSide
from aggregator.process import STATS_S, Log, Stats, Stop, epoch, lower_nice, patient
from aggregator.sources import Inbox, Sources, Taken, follow
from telemetry import wire
from telemetry.paired_writer import PairedWriter
from telemetry.redis_stream import StreamWriter
from telemetry.samples import Block
from telemetry.stages import note

MAXLEN: Final = 20_000
SETTLE_S: Final = 1.0


def serve(
    config: Config, nominal_hz: float, url: str, stop: Stop, log: Log, url_b: str = "", name: str = "i1",
    role: str = "ingest",
) -> None:  # fmt: skip
    """Follow the sources and publish until told to stop.

    url_b : a second server for the samples, or empty
    name  : of this ingest, one of `worker.ingests`; role : under which it shows its counters

    Raises SourceError and what the clients' packages raise.
    """
    client = patient(url, stop, log, url_b)
    if client is None:
        return
    lower_nice(-5)
    life = epoch()
    late = Histories(client, config.area, name, life, log)
    # Late history is settled once: of several ingests the first one brings it.
    brings = name == config.worker.ingests[0]
    sources = follow(config, nominal_hz, time.time_ns(), late if brings else None, name)
    writer = PairedWriter([url, url_b] if url_b else [url], f"freq:{config.area}:{name}", life, maxlen=MAXLEN)
    record = StreamWriter(client, f"sources:{config.area}:{name}", life, maxlen=MAXLEN)
    store = StoreSide(record, Stats(client, config.area, role), late)
    inbox = Inbox()
    sources.start(inbox)
    for number, one in sources.followed.items():
        log.info("following", source=number, name=one.table.name, at=f"{one.table.host}:{one.table.port}")
    _follow(writer, store, sources, inbox, stop, log)
    sources.stop()
    _publish(writer, store, sources, inbox.take(0.0), log)
    _send(writer, store, sources.flush(), time.time_ns())
    _end(writer, store, sources, log)


def _follow(writer: PairedWriter, store: StoreSide, sources: Sources, inbox: Inbox, stop: Stop, log: Log) -> None:
    """The loop, until told to stop; it waits for samples and for nothing else."""
    due_s = 0.0
    while not stop:
        blocks = inbox.take(0.1)
        _publish(writer, store, sources, blocks, log)
        if time.monotonic() >= due_s:
            due_s = time.monotonic() + STATS_S
            for alarm in sources.watch(time.time_ns()):
                store.keep(orjson.dumps(asdict(alarm)))
            store.tell(_figures(writer, store, sources))


def _publish(writer: PairedWriter, store: StoreSide, sources: Sources, blocks: list[Block], log: Log) -> None:
    """Judge, choose and hand over; a server that does not answer delays nobody, and is named once."""
    taken_ns = time.time_ns()
    _send(writer, store, sources.take(blocks), taken_ns)
    for number, why in enumerate(writer.news()):
        if why is not None:
            log.warning("server away, samples kept" if why else "server back", server="AB"[number], error=why)


def _send(writer: PairedWriter, store: StoreSide, taken: Taken, taken_ns: int) -> None:
    """One entry a decision, then the record of them all. taken_ns : when its samples came to their turn"""
    for row in range(taken.decided.size):
        writer.add(wire.encode(taken.decided[row : row + 1]), note(taken_ns, time.time_ns()))
    if taken.judged.size:
        store.keep(wire.encode(taken.judged))


def _end(writer: PairedWriter, store: StoreSide, sources: Sources, log: Log) -> None:
    """Samples first, then what the store is told besides, `SETTLE_S` each: what is left then is named and given up."""
    if writer.settle(SETTLE_S):
        log.warning("samples not published", pending=writer.pending, away=[why for why in writer.away if why])
    if waiting := store.close(SETTLE_S, lambda: _figures(writer, store, sources)):
        log.warning("record not kept", pending=waiting)
    writer.close()


def _figures(writer: PairedWriter, store: StoreSide, sources: Sources) -> dict[str, object]:
    return {
        "published": writer.counter - writer.pending,
        "epoch": writer.epoch,
        "dropped": writer.dropped,
        "record_dropped": store.record_dropped,
        "servers_away": sum(bool(why) for why in writer.away),
        "backfill": store.late(),
        **sources.figures(time.time_ns()),
    }
