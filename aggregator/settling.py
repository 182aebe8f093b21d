"""The settlement process: the journal's stream to files and statements, statements to where the API reads them.

Reads from where its files end, so a restart settles nothing twice and misses nothing the stream still holds.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import orjson
import redis

from aggregator.process import Log, Stats, Stop, lower_nice, patient
from aggregator.settle import Settler
from settlement.statement import Statement
from telemetry.redis_stream import StreamReader, connect

BLOCK_MS: Final = 200
BATCH: Final = 256


def serve(
    area: str, url: str, folder: Path, worker: str, stop: Stop, log: Log, since: dict[str, str] | None = None
) -> None:  # fmt: skip
    """Follow the journal until told to stop.

    folder : the journal's; worker : whose stream; since : newest entries when the run began: older ones are another's
    """
    client = patient(url, stop, log)
    if client is None:
        return
    lower_nice(5)
    key = f"statements:{area}"
    waiting: dict[str, bytes] = {}

    def tell(item: Statement) -> None:
        waiting[f"{item.start_ns}-{item.product}"] = orjson.dumps(item.to_dict())

    settler = Settler(folder, tell)
    stream = f"journal:{area}:{worker}"
    reader = StreamReader(connect(url), {stream: settler.resume_id() or (since or {}).get(stream, "0")})
    stats = Stats(client, area, "settle")
    log.info("settling", stream=stream, folder=str(folder), resume=settler.resume_id())
    while not stop:
        _read(reader, settler, stop, log)
        settler.on_time(time.time_ns())
        _publish(client, key, waiting, log)
        stats.write(_figures(settler, reader))
    while _read(reader, settler, stop, log) == BATCH:
        pass
    settler.close()
    _publish(client, key, waiting, log)
    stats.write(_figures(settler, reader), now=True)


def _read(reader: StreamReader, settler: Settler, stop: Stop, log: Log) -> int:
    """One batch of entries; how many."""
    try:
        entries = reader.read(block_ms=BLOCK_MS, count=BATCH)
    except redis.RedisError as error:
        log.warning("store away", error=str(error))
        stop.wait(0.2)
        return 0
    for _, entry_id, payload in entries:
        settler.feed(entry_id, payload)
    return len(entries)


def _publish(client: redis.Redis, key: str, waiting: dict[str, bytes], log: Log) -> None:
    """Statements to the store; those that do not get there wait."""
    if not waiting:
        return
    try:
        mapping: Any = waiting
        client.hset(key, mapping=mapping)
        waiting.clear()
    except redis.RedisError as error:
        log.warning("statements wait for the store", count=len(waiting), error=str(error))


def _figures(settler: Settler, reader: StreamReader) -> dict[str, int]:
    return {
        "missing": reader.missing,
        "malformed": settler.malformed,
        "gaps": settler.writer.gaps,
        "skipped": settler.writer.skipped,
    }
