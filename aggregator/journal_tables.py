"""The journal's decoded tables: rows of an entry as numpy, as Arrow, and back.

Knows layouts only. The tables are what analysts open; the raw entries beside them stay the truth.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from aggregator import journal
from aggregator.journal import Block, Entry, JournalError, Kind
from aggregator.records import DECLARATION, TICK
from telemetry import wire
from telemetry.samples import FREQUENCY, POWER

TABLES: Final = {
    "ticks": (Kind.TICKS, TICK),
    "baseline": (Kind.BASELINE, DECLARATION),
    "meters": (Kind.METERS, POWER),
    "frequency": (Kind.SAMPLES, FREQUENCY),
}


def decode(entry: Entry, dtype: np.dtype[Any]) -> Block:
    """The rows of an entry: packed for results, a wire block for calls.

    Raises JournalError `rows` when the payload is not such a block.
    """
    if entry.kind in (Kind.TICKS, Kind.BASELINE):
        return journal.rows(entry, dtype)
    try:
        block = wire.decode(entry.payload)
    except wire.WireError as error:
        raise JournalError("rows", f"entry {entry.seq}: {error}") from error
    if block.dtype != dtype:
        raise JournalError("rows", f"entry {entry.seq}: {entry.kind.name} holds another kind of block")
    return block


def to_arrow(block: Block) -> pa.Table:
    """A block as columns; a field of fixed width becomes a list."""
    columns = {}
    for name in block.dtype.names or ():
        column = np.ascontiguousarray(block[name])
        if column.ndim == 2:
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1])
        else:
            columns[name] = pa.array(column)
    return pa.table(columns)


def from_arrow(table: pa.Table, dtype: np.dtype[Any]) -> Block:
    """The block that `to_arrow` took apart."""
    block = np.zeros(table.num_rows, dtype)
    for name in dtype.names or ():
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # an empty table has no chunk to combine into one
            continue
        if dtype[name].subdtype is None:
            block[name] = column.to_numpy(zero_copy_only=False)
        else:
            block[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(block[name].shape)
    return block
