"""The journal's tables: entries of one kind as columns, and the same entries back.

Knows layouts only, no folder. A table holds the rows of its entries as they were packed, field by field, behind the
place of the entry each row came with: `entry_epoch`, `entry_seq`, `entry_ns` (time of the call). Entries without rows
of a known dtype (settings, time, renewals, alarms) and any entry that columns could not give back byte for byte lie in
`calls` as payloads; set-point messages are signed bytes and lie as such in `commands`.

`frequency` says of each sample what became of it: `fate` (`records.Fate`) and `marks`, the quality bits at the moment
of decision, the core's own judgement included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from aggregator import journal
from aggregator.journal import ELSEWHERE, TABLE_OF, Block, Entry, JournalError, Kind
from aggregator.records import DECLARATION, GAP, MODE, TICK, Fate
from droop.accounts import ROW as ACCOUNT
from telemetry import wire
from telemetry.samples import FREQUENCY, POWER, SESSION, SIGNAL, VEHICLE, WISH, Quality

SCHEMA: Final = 1  # of tables and manifests; a reader refuses a newer one

CALLS, COMMANDS, FREQUENCY_TABLE = ELSEWHERE, TABLE_OF[Kind.COMMANDS], TABLE_OF[Kind.SAMPLES]
DTYPES: Final = {
    Kind.SAMPLES: FREQUENCY,
    Kind.VEHICLES: VEHICLE,
    Kind.SESSIONS: SESSION,
    Kind.METERS: POWER,
    Kind.SIGNAL: SIGNAL,
    Kind.WISHES: WISH,
    Kind.TICKS: TICK,
    Kind.BASELINE: DECLARATION,
    Kind.MODES: MODE,
    Kind.LOST: GAP,
    Kind.ACCOUNT: ACCOUNT,
    Kind.GAP: GAP,
    Kind.BACKFILL: FREQUENCY,
    Kind.SOURCES: FREQUENCY,
}
# Columns of earlier versions by the names they have now.
RENAMED: Final = {"pad": "plan"}
TABLES: Final = {TABLE_OF[kind]: (kind, dtype) for kind, dtype in DTYPES.items()}
NAMES: Final = (*TABLES, CALLS, COMMANDS)
# rows without the wire's header
PACKED: Final = (Kind.TICKS, Kind.BASELINE, Kind.LOST, Kind.ACCOUNT, Kind.MODES, Kind.GAP)

_PLACE: Final = [("entry_epoch", pa.uint64()), ("entry_seq", pa.uint64()), ("entry_ns", pa.int64())]
_RAW: Final = pa.schema([*_PLACE, ("kind", pa.uint8()), ("flags", pa.uint8()), ("payload", pa.binary())])
_FATE: Final = [("fate", pa.uint8()), ("marks", pa.uint16())]


class Judged(NamedTuple):
    """Samples with what became of them.

    rows : FREQUENCY[n]; fate : uint8[n] `records.Fate`; marks : uint16[n] quality bits at the moment of decision
    """

    rows: Block
    fate: Block
    marks: Block


def decode(entry: Entry, dtype: np.dtype[Any]) -> Block:
    """The rows of an entry: packed for results, a wire block for calls.

    Raises JournalError `rows` when the payload is not such a block.
    """
    if entry.kind in PACKED:
        return journal.rows(entry, dtype)
    try:
        block = wire.decode(entry.payload)
    except wire.WireError as error:
        raise JournalError("rows", f"entry {entry.seq}: {error}") from error
    if block.dtype != dtype:
        raise JournalError("rows", f"entry {entry.seq}: {entry.kind.name} holds another kind of block")
    return block


def tables(epoch: int, entries: Sequence[Entry]) -> tuple[dict[str, pa.Table], int]:
    """Entries in order as tables by name, and how many of those that should have rows had to be kept as payloads."""
    kept: dict[str, list[tuple[Entry, Block]]] = {}
    raw: dict[str, list[Entry]] = {}
    undecodable = 0
    for entry in entries:
        name = TABLE_OF.get(entry.kind, CALLS)
        rows = _rows(entry, name)
        if rows is not None:
            kept.setdefault(name, []).append((entry, rows))
        elif name == COMMANDS and not entry.flags:
            raw.setdefault(COMMANDS, []).append(entry)
        else:
            undecodable += name in TABLES
            raw.setdefault(CALLS, []).append(entry)
    made = {name: _raw(epoch, many) for name, many in raw.items()}
    for name, pairs in kept.items():
        made[name] = _table(epoch, pairs, _fates(entries) if name == FREQUENCY_TABLE else None)
    return made, undecodable


def _rows(entry: Entry, name: str) -> Block | None:
    """The rows of an entry whose bytes they give back exactly; None for any other."""
    if name not in TABLES or entry.flags:
        return None
    try:
        rows = decode(entry, TABLES[name][1])
    except JournalError:
        return None
    return rows if rows.size and payload_of(entry.kind, rows) == entry.payload else None


def payload_of(kind: Kind, rows: Block) -> bytes:
    """The payload of an entry with these rows."""
    return rows.tobytes() if kind in PACKED else wire.encode(rows)


def _fates(entries: Iterable[Entry]) -> tuple[Block, Block]:
    """(fate, marks) of every sample in the entries.

    A row of a SAMPLES call that was decided upon has its own TICK after it, in order; one without, while a later one of
    the same call has one, was overtaken by it.
    """
    fate: list[int] = []
    marks: list[int] = []
    waiting: deque[tuple[int, tuple[int, int]]] = deque()  # place, (t_ns, rx_ns)
    for entry in entries:
        if entry.kind is Kind.SAMPLES:
            rows = _rows(entry, FREQUENCY_TABLE)
            if rows is None:
                continue
            stamps = zip(rows["t_ns"].tolist(), rows["rx_ns"].tolist(), strict=True)
            waiting = deque(enumerate(stamps, len(fate)))
            fate += [Fate.UNKNOWN] * rows.size
            marks += rows["quality"].tolist()
        elif entry.kind is Kind.GAP:
            waiting.clear()  # their decisions may be in it
        elif entry.kind is Kind.TICKS:
            tick = _rows(entry, "ticks")
            for row in () if tick is None else tick[["t_ns", "rx_ns", "quality"]].tolist():
                _decided(row[:2], row[2], waiting, fate, marks)
    return np.array(fate, np.uint8), np.array(marks, np.uint16)


def _decided(
    stamps: tuple[int, int],
    quality: int,
    waiting: deque[tuple[int, tuple[int, int]]],
    fate: list[int],
    marks: list[int],
) -> None:
    """A decision: its sample's fate, and that of those it overtook."""
    if stamps not in (other for _, other in waiting):
        return
    while True:
        place, other = waiting.popleft()
        if other == stamps:
            fate[place], marks[place] = fate_of(quality), quality
            return
        fate[place] = Fate.OVERTAKEN


def fate_of(marks: int) -> Fate:
    """What became of a sample that was decided upon. marks : `telemetry.samples.Quality` bits"""
    if not marks:
        return Fate.TICKED
    return Fate.OVERTAKEN if marks & Quality.ORDER else Fate.REFUSED


def _place(epoch: int, entries: Sequence[Entry], counts: Block) -> list[pa.Array]:
    seq = np.repeat(np.array([entry.seq for entry in entries], np.uint64), counts)
    now_ns = np.repeat(np.array([entry.now_ns for entry in entries], np.int64), counts)
    return [pa.array(np.full(seq.size, epoch, np.uint64)), pa.array(seq), pa.array(now_ns)]


def _raw(epoch: int, entries: Sequence[Entry]) -> pa.Table:
    columns = _place(epoch, entries, np.ones(len(entries), np.int64))
    columns.append(pa.array([int(entry.kind) for entry in entries], pa.uint8()))
    columns.append(pa.array([entry.flags for entry in entries], pa.uint8()))
    columns.append(pa.array([entry.payload for entry in entries], pa.binary()))
    return pa.table(columns, schema=_RAW)


def _table(epoch: int, pairs: Sequence[tuple[Entry, Block]], fates: tuple[Block, Block] | None) -> pa.Table:
    counts = np.array([rows.size for _, rows in pairs], np.int64)
    columns = _place(epoch, [entry for entry, _ in pairs], counts)
    names = [name for name, _ in _PLACE]
    for name, column in _columns(np.concatenate([rows for _, rows in pairs])):
        names.append(name)
        columns.append(column)
    if fates is not None:
        names += [name for name, _ in _FATE]
        columns += [pa.array(column) for column in fates]
    return pa.table(columns, names=names)


def _columns(block: Block) -> Iterator[tuple[str, pa.Array]]:
    """The fields of a block; several in one become a list, text keeps its padding: every bit comes back."""
    for name in block.dtype.names or ():
        column = np.ascontiguousarray(block[name])
        if column.ndim == 2:
            yield name, pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1])
        elif column.dtype.kind == "S":
            width = pa.binary(column.dtype.itemsize)
            yield name, pa.FixedSizeBinaryArray.from_buffers(width, column.size, [None, pa.py_buffer(column.tobytes())])
        else:
            yield name, pa.array(column)


def schema(name: str) -> pa.Schema:
    """The columns of a table."""
    if name not in TABLES:
        return _RAW
    empty = _table(0, [(Entry(TABLES[name][0], 0, 0, 0, b""), np.zeros(0, TABLES[name][1]))], None)
    return pa.schema([*empty.schema, *(_FATE if name == FREQUENCY_TABLE else [])])


def fits(found: pa.Schema, name: str) -> bool:
    """Whether a file has the columns of the table. What a list calls its elements is the writer's affair."""
    wanted = schema(name)
    names = [[RENAMED.get(name, name) for name in columns] for columns in (found.names, wanted.names)]
    return names[0] == names[1] and all(_alike(a.type, b.type) for a, b in zip(found, wanted, strict=True))


def _alike(a: pa.DataType, b: pa.DataType) -> bool:
    if pa.types.is_fixed_size_list(a) and pa.types.is_fixed_size_list(b):
        return bool(a.value_type == b.value_type and a.list_size == b.list_size)
    return bool(a == b)


def block_of(batch: pa.RecordBatch, dtype: np.dtype[Any]) -> Block:
    """The rows of a batch as the dtype that was taken apart."""
    block = np.zeros(batch.num_rows, dtype)
    older = {RENAMED.get(name, name): name for name in batch.schema.names}
    for name in dtype.names or ():
        column = batch.column(older.get(RENAMED.get(name, name), name))
        if dtype[name].subdtype is not None:
            block[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(block[name].shape)
        elif dtype[name].kind == "S":
            width = dtype[name].itemsize
            data = column.buffers()[1]
            start = column.offset * width
            block[name] = np.frombuffer(data, dtype[name], batch.num_rows, start) if batch.num_rows else b""
        else:
            block[name] = column.to_numpy(zero_copy_only=False)
    return block


def column_of(batch: pa.RecordBatch, name: str) -> Block:
    """One plain column of a batch."""
    column: Block = batch.column(name).to_numpy(zero_copy_only=False)
    return column


def entries_of(name: str, batches: Iterable[pa.RecordBatch]) -> Iterator[Entry]:
    """The entries that a table was made of, in order. Rows of one entry may lie in several batches."""
    if name not in TABLES:
        for batch in batches:
            seqs, times = column_of(batch, "entry_seq").tolist(), column_of(batch, "entry_ns").tolist()
            kinds, flags = column_of(batch, "kind").tolist(), column_of(batch, "flags").tolist()
            for place, payload in enumerate(batch.column("payload")):
                yield Entry(_kind(kinds[place]), flags[place], seqs[place], times[place], payload.as_py())
        return
    kind, dtype = TABLES[name]
    held: list[Block] = []
    last: tuple[int, int] | None = None
    for batch in batches:
        rows = block_of(batch, dtype)
        seqs, times = column_of(batch, "entry_seq"), column_of(batch, "entry_ns")
        edges = [0, *(np.flatnonzero(seqs[1:] != seqs[:-1]) + 1).tolist(), len(seqs)]
        for begin, end in pairwise(edges):
            if begin == end:
                continue
            here = int(seqs[begin]), int(times[begin])
            if last is not None and here != last:
                yield Entry(kind, 0, *last, payload_of(kind, np.concatenate(held)))
                held = []
            held.append(rows[begin:end])
            last = here
    if last is not None:
        yield Entry(kind, 0, *last, payload_of(kind, np.concatenate(held)))


def _kind(code: int) -> Kind:
    try:
        return Kind(code)
    except ValueError:
        raise JournalError("kind", f"{code}, this version knows none such; upgrade flyball") from None


def encodings(table: pa.Schema) -> dict[str, Any]:
    """How Parquet packs each column: numbers that rise as differences, measurements byte by byte, codes by dictionary.

    Dictionaries are not used for floating point: of equal values with different bits one would be lost.
    """
    packing, codes = {}, []
    for field in table:
        if pa.types.is_int64(field.type) or pa.types.is_uint64(field.type):
            packing[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_floating(field.type):
            packing[field.name] = "BYTE_STREAM_SPLIT"
        elif not pa.types.is_nested(field.type) and field.name != "payload":
            codes.append(field.name)
    return {"column_encoding": packing, "use_dictionary": codes}
