"""The settlement process: the journal's stream to files and statements, statements to where the API reads them.

Reads from where its files end, so a restart settles nothing twice and misses nothing the stream still holds. While the
disk does not take the journal, reading stops when enough waits: the stream keeps the rest, within its bound, and the
counters say since when and why, for the alarm. A folder that cannot be opened at the start is waited for likewise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import redis

from aggregator import accountview
from aggregator.compiling import ensure
from aggregator.evidence_files import FOLDER, EvidenceFiles
from aggregator.evidence_keys import evidence_keys
from aggregator.journal_files import JournalWriter, lock
from aggregator.journal_keeping import Limits, Removed
from aggregator.keys import KeyFault
from aggregator.pricing import Pricer
from aggregator.process import Log, Stats, Stop, lower_nice, patient
from aggregator.sealing import Sealer
from aggregator.settle import Settler
from settlement.accounts import Closed
from settlement.ledger import LedgerError
from settlement.statement import Statement
from telemetry.redis_stream import StreamReader, connect

BLOCK_MS: Final = 200
BATCH: Final = 256
Feeds = dict[str, Callable[[str, bytes], None]]  # stream -> what takes an entry's ID and payload


def serve(
    area: str, url: str, folder: Path, names: dict[str, str], stop: Stop, log: Log,
    since: dict[str, str] | None = None, limits: Limits | None = None, keys: Path | None = None,
    ingests: Sequence[str] = (), prices: Path | None = None,
) -> None:  # fmt: skip
    """Follow the journal, late history and what sources said, until told to stop.

    keys   : folder of the keys that sign the evidence, which goes beside the journal; None: none is made
    folder : the journal's; names : worker and ingest: whose streams; limits : how long the journal is kept
    since  : newest entries when the run began: older ones are another's
    ingests : whose sources are on record; names["ingest"] alone if there are no others
    prices : file by which what is sealed is priced; None: nothing is
    """
    client = patient(url, stop, log)
    if client is None:
        return
    lower_nice(5)
    ensure(log, stop)
    key = f"statements:{area}"
    waiting: dict[str, bytes] = {}
    sealing = Sealing()

    def tell(item: Statement) -> None:
        waiting[f"{item.start_ns}-{item.product}"] = orjson.dumps(item.to_dict())

    stats = Stats(client, area, "settle")
    ingests = ingests or (names["ingest"],)
    settler = _open(
        folder, tell, limits, stats, stop, log, partial(_sealer, area, folder, keys, log, prices, sealing), ingests
    )
    if settler is None:
        return
    stream, late = f"journal:{area}:{names['worker']}", f"backfill:{area}:{names['ingest']}"
    begin = {stream: settler.resume_id(), late: settler.backfill.resume_id()}
    said = {f"sources:{area}:{name}": name for name in ingests}
    begin |= {key: settler.sources.resume_id(name) for key, name in said.items()}
    feeds: Feeds = {stream: settler.feed, late: settler.feed_backfill}
    feeds |= {key: partial(settler.sources.feed, name) for key, name in said.items()}
    reader = StreamReader(connect(url), {key: at or (since or {}).get(key, "0") for key, at in begin.items()})
    log.info("settling", stream=stream, folder=str(folder), resume=settler.resume_id())
    for problem in (problem for writer in _writers(settler) for problem in writer.problems):
        log.warning("passed over", file=str(problem.path), reason=problem.reason, detail=problem.detail)
    stalled, shown = False, 0
    while not stop:
        if settler.full:
            stop.wait(BLOCK_MS / 1000)
        else:
            _read(reader, settler, feeds, stop, log)
        settler.on_time(time.time_ns())
        stalled = _tell_stall(settler, stalled, log)
        _publish(client, key, waiting, log)
        shown = _show(client, area, settler.vehicles.latest, shown, log)
        stats.write(_figures(settler, reader, sealing))
    while not settler.full and _read(reader, settler, feeds, stop, log) >= BATCH:
        pass
    settler.close()
    _tell_stall(settler, stalled, log)
    _publish(client, key, waiting, log)
    stats.write(_figures(settler, reader, sealing), now=True)


def _open(
    folder: Path, tell: Callable[[Statement], None], limits: Limits | None, stats: Stats, stop: Stop, log: Log,
    sealer: Callable[[], Sealer | None] = lambda: None, ingests: Sequence[str] = (),
) -> Settler | None:  # fmt: skip
    """The settlement of a folder, as soon as the disk lets it be opened; None if told to stop before."""

    def removed(row: Removed) -> None:
        log.info("removed", **row._asdict())

    since_ns, locked = 0, False
    while not stop:
        try:
            locked = locked or lock(folder)
            return Settler(folder, tell, limits, removed, sealer(), ingests)
        except OSError as error:
            if not since_ns:
                since_ns = time.time_ns()
                log.error("the journal cannot be opened, trying on", folder=str(folder), error=str(error))
            stats.write({"stalls": 1, "stalled_since_ns": since_ns, "stalled_why": str(error)})
            stop.wait(1.0)
    return None


class Sealing:
    """Since when nothing is sealed, and why; empty: it is, or is not wanted."""

    def __init__(self) -> None:
        self.refused = ""  # the ledger could not be opened
        self.since_ns = 0
        self.why = ""

    def look(self, sealer: Sealer | None, now_ns: int) -> None:
        """Hold what the sealer says against what it said before."""
        why = self.refused
        if sealer is not None:
            lost = f"{sealer.dropped} decisions were beyond memory: the sealed seconds lack them"
            why = sealer.stopped or (lost if sealer.dropped else "")
        self.since_ns = (self.since_ns or now_ns) if why else 0
        self.why = why


def _sealer(
    area: str, folder: Path, keys: Path | None, log: Log, prices: Path | None = None, sealing: Sealing | None = None
) -> Sealer | None:  # fmt: skip
    """What makes evidence beside the journal; None where it is not wanted, or cannot go on: statements go on without.

    Raises OSError where the disk does not let it be opened.
    """
    if keys is None:
        return None
    try:
        signing = evidence_keys(keys)
        files = EvidenceFiles(folder.parent / FOLDER, signing, area)
    except (KeyFault, LedgerError) as error:
        log.error("no evidence is made", error=str(error))
        if sealing is not None:
            sealing.refused = str(error)
        return None
    if files.cut_bytes:
        log.warning("evidence goes on before a batch that was never signed", cut_bytes=files.cut_bytes)
    log.info("sealing", folder=str(folder.parent / FOLDER), key=signing[-1].public)
    return Sealer(files, pricer=None if prices is None else Pricer(prices))


def _tell_stall(settler: Settler, before: bool, log: Log) -> bool:
    """Say when the disk stops taking the journal, and when it does again."""
    if settler.stalled and not before:
        log.error("the journal cannot be written, entries wait", why=settler.stalled.why)
    elif before and not settler.stalled:
        log.info("the journal is written again")
    return settler.stalled is not None


def _writers(settler: Settler) -> tuple[JournalWriter, ...]:
    """The journal's, that of late history, and of each ingest that of its sources."""
    return settler.writer, settler.backfill, *settler.sources.writers


def _read(reader: StreamReader, settler: Settler, feeds: Feeds, stop: Stop, log: Log) -> int:
    """One batch of entries, each to what takes its stream; how many."""
    try:
        entries = reader.read(block_ms=BLOCK_MS, count=BATCH)
    except redis.RedisError as error:
        log.warning("store away", error=str(error))
        settler.unheard()
        stop.wait(0.2)
        return 0
    for key, entry_id, payload in entries:
        feeds[key](entry_id, payload)
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


def _show(client: redis.Redis, area: str, latest: Closed | None, shown_ns: int, log: Log) -> int:
    """The accounts closed last to where the API reads them, once; the end of the interval that is shown."""
    if latest is None or latest.end_ns <= shown_ns:
        return shown_ns
    try:
        client.set(accountview.key(area), accountview.encode(latest))
    except redis.RedisError as error:
        log.warning("accounts wait for the store", count=int(latest.rows.size), error=str(error))
        return shown_ns
    return latest.end_ns


def _figures(settler: Settler, reader: StreamReader, sealing: Sealing) -> dict[str, int | str]:
    writers, stalled = _writers(settler), settler.stalled
    sealing.look(settler.sealer, time.time_ns())
    return {
        "missing": reader.missing,
        "malformed": settler.malformed + settler.sources.malformed,
        "gaps": sum(writer.gaps for writer in writers),
        "skipped": sum(writer.skipped for writer in writers),
        "undecodable": sum(writer.undecodable for writer in writers),
        "problems": sum(len(writer.problems) for writer in writers),
        "merged": settler.merged,
        "corrected": settler.corrected,
        "uncorrectable": settler.corrections.beyond,
        "removed": settler.removed,
        **_sealed(settler.sealer),
        "sealing_since_ns": sealing.since_ns,
        "sealing_why": sealing.why,
        "waiting_bytes": settler.waiting_bytes,
        "stalls": settler.stalls,
        "stalled_since_ns": stalled.since_ns if stalled else 0,
        "stalled_why": stalled.why if stalled else "",
    }


def _sealed(sealer: Sealer | None) -> dict[str, int | str]:
    """What became of the evidence; -1 sealed: none is made."""
    if sealer is None:
        return {"sealed": -1}
    return {
        "sealed": sealer.sealed, "seal_waiting": sealer.waiting, "seal_refused": sealer.refused,
        "seal_unreadable": sealer.unreadable, "seal_dropped": sealer.dropped, "seal_why": sealer.why,
        "evidence_key": sealer.files.public,
        "evidence_head": sealer.files.head, "priced": sealer.priced,
        "unpriced": sealer.pricer.waiting + sealer.pricer.dropped if sealer.pricer else 0,
        "unpriced_why": sealer.pricer.why if sealer.pricer else "",
    }  # fmt: skip
