"""Rows on their way into one Parquet file: gathered in memory, put aside in parts, joined at the end.

The parts lie in the run's own folder, so that a run that was stopped goes on with those that its checkpoint counts; a
part that was written after the checkpoint is written again. Without a folder the rows are counted and let go.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aggregator.results.rows import Rows

PART_ROWS: Final = 20_000
FOLDER: Final = "parts"


class Spool:
    """One table. kind : layout of its rows; folder : the run's, None: nothing is kept"""

    def __init__(self, name: str, kind: np.dtype[Any], folder: Path | None) -> None:
        self.name, self._kind, self._folder = name, kind, folder
        self._held: list[Rows] = []
        self._rows = self._parts = 0

    def add(self, rows: Rows) -> None:
        """More rows, in order."""
        if self._folder is None or not rows.size:
            return
        self._held.append(rows)
        self._rows += int(rows.size)
        if self._rows >= PART_ROWS:
            self._put_aside(self._folder)

    def move(self, folder: Path | None) -> None:
        """The run's folder has another name now."""
        self._folder = folder

    def _put_aside(self, folder: Path) -> None:
        (folder / FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
        pq.write_table(table(np.concatenate(self._held)), self._part(folder, self._parts))
        self._held, self._rows, self._parts = [], 0, self._parts + 1

    def _part(self, folder: Path, number: int) -> Path:
        return folder / FOLDER / f"{self.name}-{number:06d}.parquet"

    def write(self, folder: Path) -> None:
        """All rows so far as one file of the run's folder, a row group a part."""
        path = folder / f"{self.name}.parquet"
        last = table(np.concatenate([np.zeros(0, self._kind), *self._held]))
        with pq.ParquetWriter(path, last.schema) as writer:
            for number in range(self._parts):
                writer.write_table(pq.read_table(self._part(folder, number)))
            if last.num_rows or not self._parts:
                writer.write_table(last)


def discard(folder: Path) -> None:
    """The parts have been joined."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def table(rows: Rows) -> pa.Table:
    """Rows as columns; instants as times in UTC, texts as texts."""
    columns = {}
    for name in rows.dtype.names or ():
        column = np.ascontiguousarray(rows[name])
        if name.endswith("_ns"):
            # To the microsecond, which is as far as most readers' times go.
            told = pa.array(column // 1000, pa.int64(), mask=column == 0 if name == "told_ns" else None)
            columns[name.removesuffix("_ns")] = told.cast(pa.timestamp("us", "UTC"))
        elif column.dtype.kind == "S":
            columns[name] = pa.array(np.char.decode(column, "utf-8").tolist(), pa.string())
        else:
            columns[name] = pa.array(column)
    return pa.table(columns)
