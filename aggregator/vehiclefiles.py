"""Vehicles' accounts as the settlement keeps them: a file an interval beside the statements, and the last ones at hand.

The rows are those of `settlement.accounts.ACCOUNT`, field by field, in Parquet. An interval is written once: what a
restart closes again from a part of its journal does not replace what was closed from the whole of it. A file that
cannot be read is named; without files the accounts are computed again from the journal (`vehiclebook.of_folder`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aggregator import journal_parts
from aggregator.journal import Entry
from aggregator.records import Block
from aggregator.vehiclebook import VehicleBook, joined
from settlement.accounts import ACCOUNT, Closed, folded
from settlement.align import NS

FOLDER: Final = "accounts"
AT_HAND_NS: Final = 7200 * NS  # the longest settlement interval is an hour


class AccountFileError(ValueError):
    """A file of accounts that cannot be read; the message names it and the remedy."""


class VehicleKeeper:
    """Feeds a vehicles' book and keeps what it closes. folder : the journal's; None: nothing is written"""

    def __init__(self, folder: Path | None) -> None:
        self.book = VehicleBook()
        self._folder = folder
        self._due: list[Closed] = []
        self._at_hand: list[Closed] = []
        self.latest: Closed | None = None  # with accounts in it

    def feed(self, entry: Entry) -> None:
        """Take one entry."""
        self._keep(self.book.feed(entry))

    def on_time(self, now_ns: int) -> None:
        """Close what is due in a silence."""
        self._keep(self.book.on_time(now_ns))

    def rows(self, start_ns: int, end_ns: int) -> Block | None:
        """ACCOUNT[n] of a settlement interval that was closed lately, a row a vehicle's stay; None where its accounts
        are not known.
        """
        found = [item for item in self._at_hand if start_ns <= item.start_ns and item.end_ns <= end_ns]
        whole = sum(item.end_ns - item.start_ns for item in found) == end_ns - start_ns
        return folded(joined(found)) if whole else None

    def flush(self) -> list[Closed]:
        """Write what was closed; returns it. Raises OSError: what is not written stays due."""
        done: list[Closed] = []
        while self._due and self._folder is not None:
            store(self._folder, self._due[0])
            done.append(self._due.pop(0))
        return done

    def _keep(self, closed: list[Closed]) -> None:
        full = [item for item in closed if item.rows.size]
        if self._folder is not None:
            self._due += full
        self.latest = full[-1] if full else self.latest
        self._at_hand += closed
        if closed:
            self._at_hand = [item for item in self._at_hand if item.end_ns > closed[-1].end_ns - AT_HAND_NS]


def store(folder: Path, closed: Closed) -> None:
    """Write the accounts of an interval, whole or not at all, unless they are there already."""
    path = folder / FOLDER / f"{closed.start_ns:020d}.parquet"
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    columns = {
        name: pa.array(closed.rows[name].tolist(), pa.binary()) if ACCOUNT[name].kind == "S"
        else pa.array(np.ascontiguousarray(closed.rows[name]))
        for name in ACCOUNT.names or ()
    }  # fmt: skip
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    journal_parts.replace(path, sink.getvalue().to_pybytes())


def load(folder: Path, start_ns: int | None = None, end_ns: int | None = None) -> Block:
    """ACCOUNT[n] of the intervals on disk that begin in [start, end); None is open. Raises AccountFileError."""
    found = [np.zeros(0, ACCOUNT)]
    for path in sorted((folder / FOLDER).glob("*.parquet")):
        begin_ns = int(path.stem) if path.stem.isdecimal() else 0
        if (start_ns is None or begin_ns >= start_ns) and (end_ns is None or begin_ns < end_ns):
            found.append(_read(path))
    return np.concatenate(found)


def _read(path: Path) -> Block:
    try:
        table = pq.read_table(path)
        rows = np.zeros(table.num_rows, ACCOUNT)
        for name in ACCOUNT.names or ():
            rows[name] = table.column(name).to_pylist() if ACCOUNT[name].kind == "S" else table.column(name).to_numpy()
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        remedy = "restore it, or remove the folder to have the accounts computed from the journal"
        raise AccountFileError(f"{path}: {' '.join(str(error).split())}; {remedy}") from error
    return rows
