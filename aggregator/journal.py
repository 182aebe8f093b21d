"""The journal: every call into the core and every result, in order, as entries and their bytes.

This file knows entries and bytes; it reads no clock and no stream. An entry is a header and a payload; its `seq` grows
by one from entry to entry, calls and results alike, from 0 in each epoch of the worker. Files are the business of
`journal_files`; `read` is the door to them.

Header, little endian: kind u8, flags u8, reserved u16, payload length u32, seq u64, now_ns i64.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator import records

HEADER: Final = struct.Struct("<BBHIQq")
TIME: Final = struct.Struct("<q")

Block = npt.NDArray[Any]


class JournalError(ValueError):
    """Bytes or files that are not a journal; `reason` is short and countable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class Kind(IntEnum):
    """What an entry records: calls into the core below 16, results from 16 on. The order is the wire code."""

    START = 0  # the run's settings, JSON (`contracts.CoreSettings`)
    SAMPLES = 1  # wire block of FREQUENCY
    VEHICLES = 2  # wire block of VEHICLE
    SESSIONS = 3  # wire block of SESSION
    METERS = 4  # wire block of POWER
    SIGNAL = 5  # wire block of SIGNAL
    TIME = 6  # now_ns i64
    RENEW = 7  # now_ns i64: set-points were lost, command everybody anew
    WISHES = 8  # wire block of WISH
    SOLD = 9  # JSON: kW sold of each contract from now on, in their order
    TICKS = 16  # packed TICK rows
    COMMANDS = 17  # a set-point message as it left
    BASELINE = 18  # packed DECLARATION rows
    ALARM = 19  # JSON
    LOST = 20  # packed GAP rows: samples on the frequency stream that never reached this worker
    ACCOUNT = 21  # packed rows of `droop.accounts.ROW`: vehicles' accounts as they are closed
    MODES = 22  # packed MODE rows
    GAP = 24  # written by the journal itself: one packed GAP row, in the place of what is missing
    BACKFILL = 25  # wire block of FREQUENCY, late history of a source: for the record, no call
    SOURCES = 26  # wire block of FREQUENCY, what each of several sources said: for the record, no call


# Where the rows of each kind lie; kinds without rows lie in `calls`, set-point messages in `commands`.
TABLE_OF: Final = {
    Kind.SAMPLES: "frequency",
    Kind.VEHICLES: "vehicles",
    Kind.SESSIONS: "sessions",
    Kind.METERS: "meters",
    Kind.SIGNAL: "signal",
    Kind.WISHES: "wishes",
    Kind.TICKS: "ticks",
    Kind.COMMANDS: "commands",
    Kind.BASELINE: "baseline",
    Kind.LOST: "lost",
    Kind.ACCOUNT: "accounts",
    Kind.MODES: "modes",
    Kind.GAP: "gaps",
    Kind.BACKFILL: "backfill",
    Kind.SOURCES: "sources",
}
ELSEWHERE: Final = "calls"

CALLS: Final = frozenset(kind for kind in Kind if kind < Kind.TICKS)
_KINDS: Final = {int(kind): kind for kind in Kind}


class Entry(NamedTuple):
    """One call or result."""

    kind: Kind
    flags: int
    seq: int
    now_ns: int  # the time passed to the core; 0 for a START
    payload: bytes


def pack(entries: Iterable[Entry]) -> bytes:
    """Entries as one stream payload."""
    parts: list[bytes] = []
    for entry in entries:
        parts.append(HEADER.pack(entry.kind, entry.flags, 0, len(entry.payload), entry.seq, entry.now_ns))
        parts.append(entry.payload)
    return b"".join(parts)


def unpack(data: bytes) -> list[Entry]:
    """The entries that `pack` made.

    Raises JournalError with reason `short` (a header is cut), `kind`, `reserved` or `length` (a payload is cut).
    """
    entries: list[Entry] = []
    at = 0
    while at < len(data):
        if len(data) - at < HEADER.size:
            raise JournalError("short", f"{len(data) - at} bytes at offset {at}, a header takes {HEADER.size}")
        code, flags, reserved, length, seq, now_ns = HEADER.unpack_from(data, at)
        kind = _KINDS.get(code)
        if kind is None:
            raise JournalError("kind", f"{code} at offset {at}")
        if reserved:
            raise JournalError("reserved", f"{reserved} at offset {at}, must be 0")
        at += HEADER.size
        if len(data) - at < length:
            raise JournalError("length", f"entry {seq} has {len(data) - at} bytes of {length}")
        entries.append(Entry(kind, flags, seq, now_ns, data[at : at + length]))
        at += length
    return entries


def rows(entry: Entry, dtype: np.dtype[Any]) -> Block:
    """The packed rows of a TICKS, BASELINE or ACCOUNT entry; JournalError `rows` if they are not whole."""
    if len(entry.payload) % dtype.itemsize:
        raise JournalError("rows", f"entry {entry.seq}: {len(entry.payload)} bytes, a row takes {dtype.itemsize}")
    return np.frombuffer(entry.payload, dtype)


def gap(
    first_missing: int, count: int, now_ns: int, reason: str = "stream", epoch: int = 0, after_ns: int = 0,
    of: str = "journal",
) -> Entry:  # fmt: skip
    """The record of entries that never came; it bears the number of the first.

    now_ns : of the first entry known after; after_ns : of the last one known before
    """
    row = records.gap(of, reason, epoch, first_missing, first_missing + count - 1, after_ns, now_ns)
    return Entry(Kind.GAP, 0, first_missing, now_ns, row.tobytes())


class Problem(NamedTuple):
    """A file in a journal's folder that was passed over. reason : short and countable"""

    path: Path
    reason: str
    detail: str


class Span(NamedTuple):
    """What a journal holds of one kind between two times.

    rows     : of the very dtype that was written, in the order of the journal
    gaps     : GAP rows, what is known to be missing there
    problems : files that were passed over, each named
    """

    rows: Block
    gaps: Block
    problems: list[Problem]


def read(folder: Path, kind: Kind, start_ns: int | None = None, end_ns: int | None = None) -> Span:
    """The rows of one kind from a journal's files; `journal_reader.blocks` is the same for spans too long for memory.

    start_ns, end_ns : of the calls (for BACKFILL and SOURCES: of arrival), the end exclusive; None is open

    Raises JournalError `kind` for a kind that has no rows, `schema` for files of a newer version.
    """
    # Loaded when asked for: a worker writes no files, and Arrow would take 60 MB of its memory.
    from aggregator import journal_reader

    return journal_reader.read(folder, kind, start_ns, end_ns)
