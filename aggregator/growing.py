"""Rows in memory that grow at the end and are dropped at the front, within a bound that is counted."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from telemetry.samples import Block

ROWS_MAX: Final = 2_000_000  # of each kind: half an hour at 1 kHz


class Rows:
    """Rows of one dtype that grow at the end and are dropped at the front."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._rows = np.zeros(256, dtype)
        self._count = 0
        self.dropped = 0

    @property
    def view(self) -> Block:
        """The rows held, as they came."""
        return self._rows[: self._count]

    def extend(self, block: Block) -> None:
        """Add rows at the end; beyond ROWS_MAX they are counted and dropped."""
        self.dropped += max(0, self._count + block.size - ROWS_MAX)
        block = block[: max(0, ROWS_MAX - self._count)]
        need = self._count + block.size
        if need > self._rows.size:
            wider = np.zeros(max(need, 2 * self._rows.size), self._rows.dtype)
            wider[: self._count] = self.view
            self._rows = wider
        self._rows[self._count : need] = block
        self._count = need

    def keep(self, mask: Block) -> None:
        """Drop all rows but these."""
        kept = self.view[mask].copy()
        self._rows[: kept.size] = kept
        self._count = kept.size
