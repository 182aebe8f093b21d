"""Rows of a long run in the order they came: in memory while a statement may need them, then in a file, or gone.

The file is the rows' own bytes, one after the other; how many of them count is known here, so that a run that goes on
from a checkpoint cuts off what was written after it. No row is looked into but for its source time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from telemetry.samples import Block

# Rows of a piece, and of a row group of what is made of it.
PIECE: Final = 1 << 20
# Different steps between rows that are told apart; beyond, they are counted by the microsecond.
STEPS_MAX: Final = 1 << 16
COARSE_NS: Final = 1_000


class Kept:
    """dtype : of the rows, with `t_ns` ascending; path : where those go that are let go; None: nowhere

    gone : rows that are in no memory and no file; filed : those in the file
    """

    def __init__(self, dtype: np.dtype[Any], path: Path | None = None) -> None:
        self._dtype, self._path = dtype, path
        self._bytes = bytearray()  # to join a day of one-row blocks would take numpy a second
        self.gone = self.filed = 0

    def add(self, rows: Block) -> None:
        """Rows that follow those that are here."""
        self._bytes += rows.tobytes()

    def __len__(self) -> int:
        """Rows in memory."""
        return len(self._bytes) // self._dtype.itemsize

    @property
    def held(self) -> Block:
        """The rows in memory."""
        return np.frombuffer(bytes(self._bytes), self._dtype)

    @property
    def whole(self) -> Block:
        """All rows that ever came."""
        assert not self.gone, "rows of a long run are let go: ask for its pieces, with a folder to keep them in"  # noqa: S101
        pieces = list(self.pieces())
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, self._dtype), *pieces])

    def pieces(self) -> Iterator[Block]:
        """All rows that are not gone, PIECE at a time wherever they lie."""
        if not self.filed or self._path is None:
            yield from (self.held[first : first + PIECE] for first in range(0, len(self), PIECE))
            return
        for first in range(0, self.filed, PIECE):
            rows = np.fromfile(
                self._path, self._dtype, min(PIECE, self.filed - first), offset=first * self._dtype.itemsize
            )
            rest = self.held[: PIECE - rows.size]
            yield np.concatenate([rows, rest]) if rest.size and rows.size < PIECE else rows
        begun = (PIECE - self.filed % PIECE) % PIECE
        yield from (self.held[first : first + PIECE] for first in range(begun, len(self), PIECE))

    def let_go(self, before_ns: int) -> None:
        """No rows from before this time need be in memory."""
        count = int(np.searchsorted(self.held["t_ns"], before_ns))
        size = count * self._dtype.itemsize
        if self._path is None:
            self.gone += count
        elif count:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.truncate(self.filed * self._dtype.itemsize)
                file.write(memoryview(self._bytes)[:size])
            self.filed += count
        del self._bytes[:size]

    def keep_at(self, path: Path) -> None:
        """The file's name from now on."""
        self._path = path

    def discard(self) -> None:
        """Take the file away."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class Steps:
    """The times between rows, counted: what gaps there were."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._last_ns: int | None = None

    def add(self, t_ns: Block) -> None:
        """Times of rows that follow. t_ns : int64[n], ascending"""
        before = t_ns[:1] if self._last_ns is None else np.array([self._last_ns])
        steps, counts = np.unique(np.diff(t_ns, prepend=before), return_counts=True)
        self._counts.update(dict(zip(steps.tolist(), counts.tolist(), strict=True)))
        if self._last_ns is None:
            self._counts[0] -= 1  # the first row's to itself
        self._last_ns = int(t_ns[-1])
        if len(self._counts) > STEPS_MAX:
            coarse: Counter[int] = Counter()
            for step, count in self._counts.items():
                coarse[round(step / COARSE_NS) * COARSE_NS] += count
            self._counts = coarse

    @property
    def gap_s(self) -> float:
        """Time missing between rows, beyond one period, their median step [s]."""
        known = sorted((step, count) for step, count in self._counts.items() if count)
        if not known:
            return 0.0
        steps = np.array([step for step, _ in known])
        ends = np.cumsum([count for _, count in known])
        middle = [steps[np.searchsorted(ends, (ends[-1] - 1 + odd) // 2, side="right")] for odd in (0, 1)]
        period_ns = int(np.mean(middle))
        return float(sum(count * (step - period_ns) for step, count in known if step > 1.5 * period_ns)) / 1e9
