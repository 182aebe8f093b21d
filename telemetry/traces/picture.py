"""What a drawing of a recording needs, gathered as the blocks come by: an envelope, a histogram, the rejected rows.

Buffers: the envelope keeps the smallest and the largest of at most `BUCKETS` stretches, the marks at most `MARKS` rows
a reason; when they are full, stretches are joined in pairs and every second mark is left out, so that no peak is lost
and what is drawn is told as a share (`every`). Counts are not affected. Knows no colours and no axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from telemetry.samples import Block, Quality
from telemetry.traces.cells import Floats, Ints

BUCKETS: Final = 1 << 11
MARKS: Final = 1 << 10
BIN_HZ: Final = 1e-3
TAIL_FRAC: Final = 0.002
SPAN_HZ: Final = 8.0  # histogram on both sides of nominal; what lies beyond is in its last bins


class Envelope:
    """Smallest and largest value of each stretch of a series, with their times."""

    def __init__(self) -> None:
        self._rows = 1  # of a stretch
        self._t_ns = np.zeros((0, 2), np.int64)  # of the smallest and the largest
        self._value = np.zeros((0, 2))
        self._rest_t, self._rest = np.zeros(0, np.int64), np.zeros(0)

    def add(self, t_ns: Ints, value: Floats) -> None:
        """The next values, none of them NaN."""
        t_ns, value = np.r_[self._rest_t, t_ns], np.r_[self._rest, value]
        whole = value.size // self._rows * self._rows
        self._rest_t, self._rest = t_ns[whole:].copy(), value[whole:].copy()
        self._append(t_ns[:whole].reshape(-1, self._rows), value[:whole].reshape(-1, self._rows))
        while len(self._value) > BUCKETS:
            even = len(self._value) // 2 * 2
            odd_t, odd = self._t_ns[even:], self._value[even:]
            pairs_t, pairs = self._t_ns[:even].reshape(-1, 4), self._value[:even].reshape(-1, 4)
            self._t_ns, self._value = np.zeros((0, 2), np.int64), np.zeros((0, 2))
            self._append(pairs_t, pairs)
            # An odd stretch stays as it is: half as long as its neighbours, which a drawing does not mind.
            self._t_ns, self._value = np.r_[self._t_ns, odd_t], np.r_[self._value, odd]
            self._rows *= 2

    def points(self) -> tuple[Ints, Floats]:
        """(t_ns, value) of what is kept, in order of time."""
        t_ns, value = np.r_[self._t_ns.ravel(), self._rest_t], np.r_[self._value.ravel(), self._rest]
        t_ns, first = np.unique(t_ns, return_index=True)
        return t_ns, value[first]

    def _append(self, t_ns: Ints, value: Floats) -> None:
        if not len(value):
            return
        row = np.arange(len(value))
        which = np.stack([value.argmin(axis=1), value.argmax(axis=1)], axis=1)
        self._t_ns = np.r_[self._t_ns, t_ns[row[:, None], which]]
        self._value = np.r_[self._value, value[row[:, None], which]]


@dataclass
class Marks:
    """Rejected rows of one reason; hz NaN where the row has no number."""

    count: int = 0
    every: int = 1  # of the rows, one so many is kept
    t_ns: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    hz: Floats = field(default_factory=lambda: np.zeros(0))

    def add(self, t_ns: Ints, hz: Floats) -> None:
        """The next rows."""
        kept = slice(-self.count % self.every, None, self.every)
        self.count += int(t_ns.size)
        self.t_ns, self.hz = np.r_[self.t_ns, t_ns[kept]], np.r_[self.hz, hz[kept]]
        while self.t_ns.size > MARKS:
            self.every *= 2
            self.t_ns, self.hz = self.t_ns[::2], self.hz[::2]


class Picture:
    """Gathers judged blocks of one recording.

    nominal_hz : of the histogram's middle
    line, volts : envelopes of the believed frequency [Hz] and of the voltage [share of nominal]
    marks : by reason; a row with two defects is under both
    """

    def __init__(self, nominal_hz: float) -> None:
        self.nominal_hz = nominal_hz
        self.line, self.volts = Envelope(), Envelope()
        self.marks: dict[str, Marks] = {}
        self.bins: Ints = np.zeros(round(2 * SPAN_HZ / BIN_HZ) + 1, np.int64)

    def add(self, judged: Block) -> None:
        """FREQUENCY rows with the gate's marks."""
        t_ns, hz, quality = judged["t_ns"], judged["hz"], judged["quality"]
        good = quality == 0
        if good.all():
            self._believe(t_ns.copy(), hz.copy())
        else:
            self._believe(t_ns[good], hz[good])
            self._mark(t_ns, hz, quality)
        volts = judged["volt_frac"].astype(np.float64)
        known = np.isfinite(volts)
        if known.any():
            self.volts.add(t_ns[known], volts[known])

    def histogram(self, bins: int) -> tuple[Floats, Ints]:
        """(edges [Hz], rows between them) in at most `bins` steps of whole mHz, where all but a few rows are.

        Of all rows `TAIL_FRAC` on each side are counted in the outermost steps, however far away they are.
        """
        upto = np.cumsum(self.bins)
        total = int(upto[-1])
        if not total:
            return np.zeros(0), np.zeros(0, np.int64)
        first = int(np.searchsorted(upto, TAIL_FRAC * total, side="right"))
        last = int(np.searchsorted(upto, (1 - TAIL_FRAC) * total))
        width = max(1, math.ceil((last - first + 1) / bins))
        counts = np.add.reduceat(self.bins[first : last + 1], np.arange(0, last - first + 1, width))
        counts[0] += self.bins[:first].sum()
        counts[-1] += self.bins[last + 1 :].sum()
        steps = np.arange(counts.size + 1, dtype=np.float64) * width + (first - 0.5)
        return self.nominal_hz - SPAN_HZ + steps * BIN_HZ, np.asarray(counts, np.int64)

    def _believe(self, t_ns: Ints, hz: Floats) -> None:
        self.line.add(t_ns, hz)
        place = np.rint((hz - (self.nominal_hz - SPAN_HZ)) / BIN_HZ)
        self.bins += np.bincount(np.clip(place, 0, self.bins.size - 1).astype(np.int64), minlength=self.bins.size)

    def _mark(self, t_ns: Ints, hz: Floats, quality: Ints) -> None:
        for flag in Quality:
            rows = (quality & int(flag)) > 0
            if rows.any():
                known = np.where(np.isfinite(hz[rows]) & (hz[rows] != 0), hz[rows], np.nan)
                self.marks.setdefault(str(flag.name).lower(), Marks()).add(t_ns[rows], known)
