"""The journal's writer: entries of a stream to parts by the hour, resumed without loss or duplicate.

Policy for buffers and losses:
- Entries wait in memory until `flush`; what cannot be written stays waiting, in order, and `flush` raises. How much may
  wait is the caller's business (`waiting_bytes`): he stops reading, and the stream keeps the rest within its bound.
- The newest stream ID that is on disk whole is in each part's manifest: there a restarted writer goes on. Entries that
  come twice are known by (epoch, seq) and counted (`skipped`); so are those of an epoch that has ended.
- Entries that never came leave a GAP row in their place, with the reason as far as it can be told: `stream` (the stream
  had lost them, or its writer dropped them), `malformed` (bytes there that are no journal), `beginning` (an epoch not
  seen from its start), `sequence` (numbers jumped though nothing was lost on the stream).

One writer a folder. Knows no stream and no clock; `journal_parts` has the files.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from aggregator import journal
from aggregator.journal import Entry, JournalError, Problem
from aggregator.journal_parts import HOUR_NS, Part, hour, write
from aggregator.journal_survey import survey
from aggregator.journal_tables import tables

LOCK: Final = ".writer"  # held by the process that writes


class _Waiting(NamedTuple):
    epoch: int
    entry: Entry
    stream_id: str  # of the payload, on its last entry; empty on the others


class JournalWriter:
    """Appends entries to a folder; one writer a folder.

    of : what is numbered, for GAP rows: the worker's `journal`, or `backfill`

    Raises JournalError `schema` for a folder of a newer version, OSError if it cannot be made or read.
    """

    def __init__(self, folder: Path, of: str = "journal") -> None:
        self.folder, self._of = folder, of
        self.skipped = 0  # entries that were there already, or came from an epoch that has ended
        self.gaps = 0  # entries that never came
        self.undecodable = 0  # entries kept as payloads that should have rows
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._refused = False
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = survey(folder)
        self.problems: list[Problem] = found.problems
        for path in found.leftover:
            path.unlink(missing_ok=True)
        whole = [part for part in found.parts if not part.missing]  # what is damaged is taken again
        self._last = max(((part.epoch, part.last) for part in whole), default=(-1, -1))
        tail = whole[-1] if whole else None
        self._resume = tail.last_id if tail else None
        self._seen_id = self._resume
        self._last_ns = tail.last_ns if tail else 0
        self.hour = tail.hour.name if tail else ""  # folder of the newest part

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

        Raises JournalError `stream_id` for an ID of another form.
        """
        epoch, counter = parse(stream_id)
        reason = self._reason(epoch, counter)
        fresh: list[Entry] = []
        for entry in entries:
            fresh.extend(self._sorted_in(epoch, entry, reason))
        for place, entry in enumerate(fresh):
            closing = place == len(fresh) - 1
            self._waiting.append(_Waiting(epoch, entry, stream_id if closing else ""))
            self._bytes += len(entry.payload)
        self._seen_id, self._refused = stream_id, False
        return fresh

    def refuse(self) -> None:
        """Bytes came that are no journal: if entries are missing after them, that is why."""
        self._refused = True

    def _reason(self, epoch: int, counter: int) -> str:
        """Why entries would be missing before this payload."""
        seen = parse(self._seen_id) if self._seen_id else (-1, 0)
        if epoch != seen[0]:
            return "beginning"
        if self._refused:
            return "malformed"
        return "stream" if counter > seen[1] + 1 else "sequence"

    def _sorted_in(self, epoch: int, entry: Entry, reason: str) -> list[Entry]:
        last_epoch, last_seq = self._last
        if epoch < last_epoch or (epoch == last_epoch and entry.seq <= last_seq):
            self.skipped += 1
            return []
        # A run begins with its START, number 0; anything else has lost what came before it.
        expected = last_seq + 1 if epoch == last_epoch else 0
        missing, after_ns = entry.seq - expected, self._last_ns
        self._last = (epoch, entry.seq)
        self._last_ns = max(after_ns, entry.now_ns)
        if not missing:
            return [entry]
        self.gaps += missing
        return [journal.gap(expected, missing, entry.now_ns, reason, epoch, after_ns, self._of), entry]

    def flush(self) -> list[Part]:
        """Write what waits, one part per hour and epoch; returns them.

        Raises OSError or pyarrow's ArrowException: what is not written yet stays waiting.
        """
        written: list[Part] = []
        while self._waiting:
            name, count = self._piece()
            piece = self._waiting[:count]
            covered = [item.stream_id for item in piece if item.stream_id]
            last_id = covered[-1] if covered else self._resume
            written.append(self._write(name, piece[0].epoch, [item.entry for item in piece], last_id))
            self._resume, self.hour = last_id, name
            del self._waiting[:count]
            self._bytes = sum(len(item.entry.payload) for item in self._waiting)
        return written

    def _piece(self) -> tuple[str, int]:
        """Hour of the next part and how many waiting entries belong in it.

        A START knows no time (0); it lies with what follows, or with the last hour if nothing does.
        """
        stamp_ns = next((item.entry.now_ns for item in self._waiting if item.entry.now_ns), 0)
        name = hour(stamp_ns) if stamp_ns else self.hour or hour(0)
        epoch, count = self._waiting[0].epoch, 0
        for item in self._waiting:
            if item.epoch != epoch or (item.entry.now_ns and item.entry.now_ns // HOUR_NS != stamp_ns // HOUR_NS):
                break
            count += 1
        return name, count

    def _write(self, name: str, epoch: int, entries: list[Entry], last_id: str | None) -> Part:
        times = [entry.now_ns for entry in entries if entry.now_ns]
        part = Part(
            epoch, entries[0].seq, entries[-1].seq, self.folder / name, min(times, default=0), max(times, default=0),
            last_id, len(entries), {},
        )  # fmt: skip
        made, undecodable = tables(epoch, entries)
        whole = write(part, {table: [rows] for table, rows in made.items()})
        self.undecodable += undecodable
        return whole


def lock(folder: Path) -> bool:
    """Be the one writer of a folder until this process ends; True.

    Raises JournalError `writer` if another process is, OSError if the folder cannot be made or written.
    """
    _locked(folder)
    return True


def _locked(folder: Path) -> int:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise JournalError(
            "writer", f"{folder}: another process writes it; stop that, or give another folder"
        ) from None
    return handle


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the one writer of a folder for a while; see `lock`."""
    handle = _locked(folder)
    try:
        yield
    finally:
        os.close(handle)


def parse(stream_id: str) -> tuple[int, int]:
    """(epoch, counter) of an explicit stream ID. Raises JournalError `stream_id`."""
    head, dash, tail = stream_id.partition("-")
    if not (dash and head.isdecimal() and tail.isdecimal()):
        raise JournalError("stream_id", f"`{stream_id}`, `epoch-counter` is wanted")
    return int(head), int(tail)
