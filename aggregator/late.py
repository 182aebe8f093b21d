"""Late history as settlement takes it: rows by source time, each with the number of the entry that brought it.

Knows rows only, no stream and no file; how it came to be is told in `aggregator.backfill`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from aggregator.journal import Block
from settlement.facts import NO_HISTORY, History

NOWHERE: Final = (-1, -1)


class _Piece(NamedTuple):
    first_ns: int
    last_ns: int
    rows: History


class Late:
    """Rows of late history, added as they come."""

    def __init__(self, pieces: Iterable[History] = ()) -> None:
        self._pieces: list[_Piece] = []
        for piece in pieces:
            self.add(piece)

    def add(self, rows: History) -> None:
        """More of it, in the order in which it came."""
        if rows.t_ns.size:
            self._pieces.append(_Piece(int(rows.t_ns.min()), int(rows.t_ns.max()), rows))

    def between(self, low_ns: int, until_ns: int) -> History:
        """Rows of [low, until), in the order in which they came."""
        touched = [piece.rows for piece in self._pieces if piece.first_ns < until_ns and piece.last_ns >= low_ns]
        if not touched:
            return NO_HISTORY
        whole = History._make(np.concatenate(columns) for columns in zip(*touched, strict=True))
        inside = (whole.t_ns >= low_ns) & (whole.t_ns < until_ns)
        return History._make(column[inside] for column in whole)

    def upto(self, last: tuple[int, int]) -> Late:
        """What had come by an entry. last : its (epoch, seq)"""
        epoch, seq = last
        known = [(r.epoch < epoch) | ((r.epoch == epoch) & (r.seq <= seq)) for r in (p.rows for p in self._pieces)]
        pairs = zip(self._pieces, known, strict=True)
        return Late(History._make(column[keep] for column in piece.rows) for piece, keep in pairs)

    def forget(self, before_ns: int) -> None:
        """Drop what no interval from then on can use."""
        self._pieces = [piece for piece in self._pieces if piece.last_ns >= before_ns]


def history(rows: Block, epoch: Block, seq: Block) -> History:
    """FREQUENCY rows as settlement takes them. epoch, seq : int64[n] of their entries"""
    return History(rows["t_ns"].astype(np.int64), rows["hz"].astype(np.float64), rows["quality"] == 0, epoch, seq)


def place(through: str) -> tuple[int, int]:
    """The (epoch, seq) that a statement names; empty: before all."""
    epoch, _, seq = through.partition("-")
    return (int(epoch), int(seq)) if through else NOWHERE
