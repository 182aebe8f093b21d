"""The journal on disk: Parquet by hour, written whole or not at all, resumed without loss or duplicate.

    YYYY-MM-DDTHH/calls-<epoch>-<seq>.parquet    the entries themselves: the truth, and the commit point
    YYYY-MM-DDTHH/{ticks,baseline,meters,frequency}-<epoch>-<seq>.parquet    decoded, for analysts

A flush writes the decoded tables first and the raw file last, each to a temporary name, synced, then renamed. A
crash leaves either a whole flush or leftovers that the next writer removes. The last stream ID covered lies in the raw
file's metadata, so that a restarted writer knows where to go on; entries it has already are recognised by
(epoch, seq). Knows no stream and no clock.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aggregator import journal
from aggregator.journal import Block, Entry, JournalError, Kind
from aggregator.journal_tables import TABLES, decode, from_arrow, to_arrow

RAW: Final = "calls"
HOUR_NS: Final = 3_600_000_000_000
SCHEMA: Final = pa.schema(
    [
        ("epoch", pa.uint64()),
        ("seq", pa.uint64()),
        ("kind", pa.uint8()),
        ("flags", pa.uint8()),
        ("now_ns", pa.int64()),
        ("payload", pa.binary()),
    ]
)
BATCH: Final = 4096


class Part(NamedTuple):
    """One raw file: its place in the order, and where it lies."""

    epoch: int
    seq: int
    path: Path


class _Waiting(NamedTuple):
    epoch: int
    entry: Entry
    stream_id: str  # of the payload, on its last entry; empty on the others


class JournalWriter:
    """Appends entries to a folder; one writer a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.skipped = 0  # entries that were there already, or came from an epoch that has ended
        self.gaps = 0  # entries that never came
        self.undecodable = 0  # entries kept raw that no table could take
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        folder.mkdir(parents=True, exist_ok=True)
        _clean(folder)
        self._last, self._resume = _tail(folder)
        self._hour = ""

    @property
    def waiting_bytes(self) -> int:
        """Payload not yet on disk."""
        return self._bytes

    def resume_id(self) -> str | None:
        """Stream ID after which to go on reading; None for a new journal."""
        return self._resume

    def append(self, entries: Sequence[Entry], stream_id: str) -> list[Entry]:
        """Take the entries of one stream payload; returns those that are new, gap records included.

        stream_id : "epoch-counter"; the epoch orders the runs of the worker
        """
        epoch = epoch_of(stream_id)
        fresh: list[Entry] = []
        for entry in entries:
            fresh.extend(self._sorted_in(epoch, entry))
        for place, entry in enumerate(fresh):
            closing = place == len(fresh) - 1
            self._waiting.append(_Waiting(epoch, entry, stream_id if closing else ""))
            self._bytes += len(entry.payload)
        return fresh

    def _sorted_in(self, epoch: int, entry: Entry) -> list[Entry]:
        last_epoch, last_seq = self._last
        if epoch < last_epoch or (epoch == last_epoch and entry.seq <= last_seq):
            self.skipped += 1
            return []
        # A run begins with its START; anything else has lost what came before it.
        expected = last_seq + 1 if epoch == last_epoch else (entry.seq if entry.kind is Kind.START else 0)
        missing = entry.seq - expected
        self._last = (epoch, entry.seq)
        if not missing:
            return [entry]
        self.gaps += missing
        return [journal.gap(entry.seq - missing, missing, entry.now_ns), entry]

    def flush(self) -> list[Path]:
        """Write what waits, one raw file per hour and epoch; returns them. What cannot be written stays waiting."""
        written: list[Path] = []
        while self._waiting:
            name, count = self._piece()
            piece = self._waiting[:count]
            covered = [item.stream_id for item in piece if item.stream_id]
            last_id = covered[-1] if covered else self._resume
            written.append(self._write(self.folder / name, piece[0].epoch, [item.entry for item in piece], last_id))
            self._resume = last_id
            del self._waiting[:count]
            self._bytes = sum(len(item.entry.payload) for item in self._waiting)
        return written

    def _piece(self) -> tuple[str, int]:
        """Hour of the next file and how many waiting entries belong in it.

        A START knows no time (0); it lies with what follows, or with the last hour if nothing does.
        """
        stamp_ns = next((item.entry.now_ns for item in self._waiting if item.entry.now_ns), 0)
        folder = hour(stamp_ns) if stamp_ns else self._hour or hour(0)
        epoch, count = self._waiting[0].epoch, 0
        for item in self._waiting:
            if item.epoch != epoch or (item.entry.now_ns and item.entry.now_ns // HOUR_NS != stamp_ns // HOUR_NS):
                break
            count += 1
        self._hour = folder
        return folder, count

    def _write(self, folder: Path, epoch: int, entries: list[Entry], last_id: str | None) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{epoch:020d}-{entries[0].seq:020d}.parquet"
        for table, (kind, dtype) in TABLES.items():
            blocks = []
            for entry in (entry for entry in entries if entry.kind is kind):
                try:
                    blocks.append(decode(entry, dtype))
                except JournalError:  # the raw file keeps it; a table has no place for it
                    self.undecodable += 1
            if blocks:
                _replace(folder / f"{table}-{name}", to_arrow(np.concatenate(blocks)))
        path = folder / f"{RAW}-{name}"
        _replace(path, _raw(epoch, entries, last_id))
        return path


def epoch_of(stream_id: str) -> int:
    """The epoch of an explicit stream ID."""
    head, dash, tail = stream_id.partition("-")
    if not (dash and head.isdecimal() and tail.isdecimal()):
        raise JournalError("stream_id", f"`{stream_id}`, `epoch-counter` is wanted")
    return int(head)


def parts(folder: Path) -> list[Part]:
    """Raw files in the order of their entries."""
    found = []
    for path in folder.glob(f"*/{RAW}-*.parquet"):
        name = path.stem.split("-")
        if len(name) != 3 or not (name[1].isdecimal() and name[2].isdecimal()):
            raise JournalError("file", f"{path}: not a journal's file; move it away")
        found.append(Part(int(name[1]), int(name[2]), path))
    return sorted(found)


def read(folder: Path, kinds: Collection[Kind] | None = None, only: Sequence[Part] | None = None) -> Iterator[Entry]:
    """Entries in order, each once; gap records included.

    kinds : only these
    only  : only these files, in their order
    Raises JournalError `file` for a file that cannot be read: it was damaged after it was written.
    """
    last = (-1, -1, -1)
    for part in parts(folder) if only is None else only:
        for epoch, entry in _entries(part.path, kinds):
            # A gap record bears the number of the first entry it stands for.
            place = (epoch, entry.seq, int(entry.kind is not Kind.GAP))
            if place > last:
                last = place
                yield entry


def _entries(path: Path, kinds: Collection[Kind] | None) -> Iterator[tuple[int, Entry]]:
    wanted = None if kinds is None else {int(kind) for kind in kinds}
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                columns = [batch.column(name).to_numpy(zero_copy_only=False).tolist() for name in SCHEMA.names[:5]]
                payloads = batch.column("payload")
                for place, (epoch, seq, kind, flags, now_ns) in enumerate(zip(*columns, strict=True)):
                    if wanted is None or kind in wanted:
                        yield epoch, Entry(Kind(kind), flags, seq, now_ns, payloads[place].as_py())
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise JournalError("file", f"{path}: {error}; restore it or move its hour away") from error


def read_table(folder: Path, table: str) -> Block:
    """All rows of a decoded table, in order. table : one of `journal_tables.TABLES`"""
    _, dtype = TABLES[table]
    blocks = [np.zeros(0, dtype)]
    for part in parts(folder):
        path = part.path.with_name(part.path.name.replace(RAW, table, 1))
        if path.exists():
            blocks.append(from_arrow(pq.read_table(path, partitioning=None), dtype))
    return np.concatenate(blocks)


def read_ticks(folder: Path) -> Block:
    """All TICK rows, in order."""
    return read_table(folder, "ticks")


def _raw(epoch: int, entries: list[Entry], last_id: str | None) -> pa.Table:
    meta = {"last_id": last_id or "", "last_seq": str(entries[-1].seq)}
    return pa.table(
        [
            pa.array([epoch] * len(entries), pa.uint64()),
            pa.array([entry.seq for entry in entries], pa.uint64()),
            pa.array([int(entry.kind) for entry in entries], pa.uint8()),
            pa.array([entry.flags for entry in entries], pa.uint8()),
            pa.array([entry.now_ns for entry in entries], pa.int64()),
            pa.array([entry.payload for entry in entries], pa.binary()),
        ],
        schema=SCHEMA.with_metadata(meta),
    )


def _replace(path: Path, table: pa.Table) -> None:
    """Write whole or not at all, and let it survive a power cut."""
    temporary = path.with_suffix(".tmp")
    pq.write_table(table, temporary, compression="zstd")
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _clean(folder: Path) -> None:
    """Remove what a crash left: temporary files, and tables whose raw file never came."""
    for path in folder.glob("*/*.tmp"):
        path.unlink()
    for table in TABLES:
        for path in folder.glob(f"*/{table}-*.parquet"):
            if not path.with_name(path.name.replace(table, RAW, 1)).exists():
                path.unlink()


def _tail(folder: Path) -> tuple[tuple[int, int], str | None]:
    """(epoch, seq) of the last entry on disk and the stream ID it covers."""
    found = parts(folder)
    if not found:
        return (-1, -1), None
    last = found[-1]
    try:
        meta = pq.read_schema(last.path).metadata
        return (last.epoch, int(meta[b"last_seq"])), meta[b"last_id"].decode() or None
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise JournalError("file", f"{last.path}: {error}; restore it or move its hour away") from error


def hour(now_ns: int) -> str:
    """Folder of the entries of an hour."""
    return datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H")
