"""A recorded trace as a measuring unit would show it: at the unit's own rate, with faults on request.

Pure: numbered samples in the form of `telemetry.generator`, which the faults are borrowed from; no clock. The
trace's own time of day does not matter here, its intervals do.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from telemetry.generator import Fault, Floats, Generator, interpolate
from telemetry.samples import Block

# No instrument repeats itself to the last digit: far below any accuracy class, and enough to tell a steady grid
# from a stuck meter.
NOISE_HZ: Final = 2e-5
SEED: Final = 1


class Player(Generator):
    """A trace at `rate_hz`, linear between its rows; NaN where the trace has no number.

    rows : FREQUENCY[n] as a reader gives them; rows that do not ascend in time are left out
    """

    def __init__(
        self, rows: Block, nominal_hz: float, rate_hz: float, faults: tuple[Fault, ...] = (), unit: int = 0
    ) -> None:
        super().__init__(nominal_hz, rate_hz, 0, math.inf, faults, unit)
        ascending = np.maximum.accumulate(rows["t_ns"])
        keep = np.ones(rows.size, np.bool_)
        keep[1:] = rows["t_ns"][1:] > ascending[:-1]
        t_ns = rows["t_ns"][keep]
        self._hz = interpolate(t_ns, rows["hz"][keep], rate_hz)
        volts = rows["volt_frac"][keep].astype(np.float64)
        # A trace that never measured voltage says nothing of a dead bus: the unit's own voltage is good.
        self._volts = interpolate(t_ns, np.ones(t_ns.size) if np.isnan(volts).all() else volts, rate_hz)

    @property
    def length(self) -> int:
        """How many samples the trace gives."""
        return int(self._hz.size)

    def _chunk_grid(self, number: int) -> tuple[Floats, Floats]:
        hz, volts = np.full(self._chunk, math.nan), np.ones(self._chunk)
        begin = number * self._chunk
        given = self._hz[begin : begin + self._chunk]
        hz[: given.size] = given + np.random.default_rng((SEED, number, *self._own)).normal(0.0, NOISE_HZ, given.size)
        volts[: given.size] = self._volts[begin : begin + self._chunk]
        return hz, volts
