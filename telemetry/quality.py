"""Which frequency samples may move a vehicle: marks, never drops, never raises on data.

A gate belongs to one measuring point and is causal: a row is judged by itself and by the rows before it, so a
trace fed whole, in blocks or row by row gets the same marks. This file knows no product and no clock; time is
what the rows carry. A spike is told by its rate here, and by a median of three in `telemetry.median`. Choosing among
redundant sources is `telemetry.choice`.

Each row gets the bits of its own defects, one per cause: a literal zero is ZERO and not RANGE as well, an empty
cell that its reader has marked MISSING is not NAN as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from telemetry.clock import Skew, SkewMeter
from telemetry.samples import FREQUENCY, Block, Quality, empty, reasons

NS: Final = 1_000_000_000
SMALL: Final = 32  # rows below which plain Python beats the set-up of the array form
BITS: Final = 16

NAN, ZERO, RANGE, SPIKE = int(Quality.NAN), int(Quality.ZERO), int(Quality.RANGE), int(Quality.SPIKE)
STUCK, ORDER, AGE = int(Quality.STUCK), int(Quality.ORDER), int(Quality.AGE)
DEAD_BUS, CLOCK_JUMP, MISSING = int(Quality.DEAD_BUS), int(Quality.CLOCK_JUMP), int(Quality.MISSING)
_OUT_OF_TIME: Final = ORDER | CLOCK_JUMP


class GateError(ValueError):
    """A setting no gate can work with; the message names the field."""


@dataclass(frozen=True)
class GateSettings:
    """Limits of the gate; the defaults pass the recorded days of GB, Continental Europe and US Eastern.

    nominal_hz        [Hz]   of the area
    band_frac         [1]    validity band around nominal: 45..55 Hz at 50 Hz
    spike_rate_hz_s   [Hz/s] step allowed per second since the last good row, within the next two
    spike_floor_hz    [Hz]   smallest step ever called a spike, so that fast sources keep their noise
    spike_ceiling_hz  [Hz]   largest step believed at once, however long ago the last good row
    spike_memory_s    [s]    last good row older than this: no spike test, the grid may have gone anywhere
    spike_rows        [1]    rows on one side of the last good one that a step takes to be believed: more of them let an
                             artefact of several rows pass unheard, and every real step as fast waits for as many
    stuck_s, stuck_rows      one value repeated exactly for so long AND so many rows (GB at 1 s, 3 decimals: up to 9)
    volt_min_frac     [1]    voltage below it: dead bus, whatever the meter prints
    age_max_s         [s]    live only: oldest row at arrival
    clock_jump_s      [s]    live only: sudden change of arrival minus source time
    clock_relearn_s   [s]    live only: a changed offset that lasts so long is the new truth
    leap_s            [s]    recorded only: a step ahead beyond it waits for the next row to confirm it
    """

    nominal_hz: float = 50.0
    band_frac: float = 0.10
    spike_rate_hz_s: float = 2.0
    spike_floor_hz: float = 0.05
    spike_ceiling_hz: float = 0.15
    spike_memory_s: float = 10.0
    spike_rows: int = 2
    stuck_s: float = 10.0
    stuck_rows: int = 20
    volt_min_frac: float = 0.5
    age_max_s: float = 2.0
    clock_jump_s: float = 1.0
    clock_relearn_s: float = 5.0
    leap_s: float = 3600.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                raise GateError(f"{name}: {getattr(self, name)!r} must be above 0")
        if not self.band_frac < 1:
            raise GateError(f"band_frac: {self.band_frac!r} must be below 1")
        if self.spike_ceiling_hz < self.spike_floor_hz:
            raise GateError(f"spike_ceiling_hz: {self.spike_ceiling_hz!r} is below spike_floor_hz")


class Gate:
    """Marks the rows of one source, block after block.

    A sudden step is believed at its second sample (or `spike_rows`): the first beyond the threshold is marked SPIKE,
    the next one on the same side of the last good value confirms it and becomes the reference. So an artefact of one
    sample costs nothing else, and a real step costs one sample of delay, on suspicious steps only. Rows that carry
    another mark are passed over: they neither confirm nor refute (a repeated spike row must not confirm itself).

    A bus seen dead stays dead through rows whose voltage is unknown. Out-of-order rows are never a reference.

    settings : GateSettings
    live : bool  rows carry a real arrival time: AGE and CLOCK_JUMP against it. A recording has rx_ns == t_ns; there
                 CLOCK_JUMP marks the first row after a leap ahead of more than `leap_s`, so that one stamp from
                 the future does not turn all later rows into ORDER.
    """

    def __init__(self, settings: GateSettings | None = None, *, live: bool = False) -> None:
        self.settings = s = settings or GateSettings()
        self.live = live
        self.counts: npt.NDArray[np.int64] = np.zeros(BITS, np.int64)  # rows per Quality bit, source's own included
        self._lo_hz, self._hi_hz = s.nominal_hz * (1 - s.band_frac), s.nominal_hz * (1 + s.band_frac)
        self._memory_ns, self._stuck_ns = _ns(s.spike_memory_s), _ns(s.stuck_s)
        self._age_ns, self._leap_ns = _ns(s.age_max_s), _ns(s.leap_s)
        self._jump_ns, self._relearn_ns = _ns(s.clock_jump_s), _ns(s.clock_relearn_s)
        self._order_ns: int | None = None  # newest stamp taken
        self._leap_at_ns: int | None = None  # a stamp far ahead, waiting to be confirmed
        self._good_ns: int | None = None
        self._good_hz = math.nan
        self._side = 0  # of the step waiting to be confirmed: -1, 0 none, 1
        self._side_rows = 0  # that have shown it
        self._run_hz, self._run_ns, self._run_rows = math.nan, 0, 0  # exact repetition so far
        self._dead = False
        self._offset_ns: int | None = None  # arrival minus source time, slow mean
        self._new_offset_ns: int | None = None
        self._new_since_ns = 0
        self._meter = SkewMeter()

    def check(self, block: Block) -> Block:
        """A copy of a FREQUENCY block with the gate's bits added to `quality`."""
        out = block.copy()
        quality = out["quality"]
        if self.live or block.size <= SMALL:
            for i, (t_ns, rx_ns, hz, volt, bits, _) in enumerate(block.tolist()):
                marked = self._row(t_ns, rx_ns, hz, volt, bits)
                if marked:
                    quality[i] = marked
                    self._count(marked)
            return out
        self._rows(block, quality)
        marked_rows = quality[quality != 0]
        for bit in range(BITS):
            self.counts[bit] += np.count_nonzero(marked_rows & (1 << bit))
        return out

    def flush(self) -> Block:
        """Rows held back: none, each is told at once. In the form of `telemetry.median.MedianGate`."""
        return empty(FREQUENCY)

    def rejected(self) -> dict[str, int]:
        """Rows marked so far, by reason; a row with two defects counts under both."""
        return reasons(self.counts)

    def skew(self) -> Skew:
        """The source's clock against ours, live only: a slow drift is reported here and marks nothing."""
        return self._meter.skew()

    def _count(self, marked: int) -> None:
        for bit in range(BITS):
            if marked >> bit & 1:
                self.counts[bit] += 1

    def _row(self, t_ns: int, rx_ns: int, hz: float, volt: float, bits: int) -> int:
        """All bits of one row; moves the state. This is the definition, `_rows` only skips what it would pass."""
        if self.live:
            if rx_ns - t_ns > self._age_ns:
                bits |= AGE
            bits |= self._clock(t_ns, rx_ns)
        if not bits & CLOCK_JUMP:
            bits |= self._order(t_ns)
        if volt == volt:
            self._dead = volt < self.settings.volt_min_frac
        if self._dead:
            bits |= DEAD_BUS
        if not math.isfinite(hz):
            return bits if bits & MISSING else bits | NAN
        if hz == 0.0:
            return bits | ZERO
        if not self._lo_hz <= hz <= self._hi_hz:
            bits |= RANGE
        if bits & _OUT_OF_TIME:
            return bits
        bits |= self._stuck(t_ns, hz)
        return bits or self._spike(t_ns, hz)

    def _clock(self, t_ns: int, rx_ns: int) -> int:
        """CLOCK_JUMP while arrival minus source time is off its mean; a lasting change is learnt anew."""
        offset = rx_ns - t_ns
        if self._offset_ns is None:
            self._offset_ns = offset
        if abs(offset - self._offset_ns) <= self._jump_ns:
            self._offset_ns += (offset - self._offset_ns) // 64  # integer: the same sum whatever the blocks
            self._new_offset_ns = None
            self._meter.add(t_ns, rx_ns)
            return 0
        if self._new_offset_ns is None or abs(offset - self._new_offset_ns) > self._jump_ns:
            self._new_offset_ns, self._new_since_ns = offset, rx_ns
        if rx_ns - self._new_since_ns < self._relearn_ns:
            return CLOCK_JUMP
        self._offset_ns, self._new_offset_ns = offset, None
        # Stamps before and after the jump cannot be compared: start afresh.
        self._order_ns = self._good_ns = None
        self._run_rows = self._side = 0
        self._meter.restart()
        self._meter.add(t_ns, rx_ns)
        return 0

    def _order(self, t_ns: int) -> int:
        last_ns = self._order_ns
        if last_ns is not None:
            if t_ns <= last_ns:
                return ORDER
            if t_ns - last_ns > self._leap_ns and not self.live:
                at_ns = self._leap_at_ns
                if at_ns is None or not 0 < t_ns - at_ns <= self._leap_ns:
                    self._leap_at_ns = t_ns
                    return CLOCK_JUMP
        self._order_ns, self._leap_at_ns = t_ns, None
        return 0

    def _stuck(self, t_ns: int, hz: float) -> int:
        if hz == self._run_hz and self._run_rows:
            self._run_rows += 1
            long_enough = t_ns - self._run_ns >= self._stuck_ns and self._run_rows >= self.settings.stuck_rows
            return STUCK if long_enough else 0
        self._run_hz, self._run_ns, self._run_rows = hz, t_ns, 1
        return 0

    def _spike(self, t_ns: int, hz: float) -> int:
        if self._good_ns is not None and t_ns - self._good_ns <= self._memory_ns:
            s = self.settings
            step_hz = hz - self._good_hz
            allowed_hz = s.spike_rate_hz_s * ((t_ns - self._good_ns) * 1e-9)
            if abs(step_hz) > min(max(allowed_hz, s.spike_floor_hz), s.spike_ceiling_hz):
                side = 1 if step_hz > 0 else -1
                self._side_rows = self._side_rows + 1 if side == self._side else 1
                self._side = side
                if self._side_rows < s.spike_rows:
                    return SPIKE
        self._good_ns, self._good_hz, self._side = t_ns, hz, 0
        return 0

    def _rows(self, block: Block, quality: npt.NDArray[np.uint16]) -> None:
        """`_row` for all, jumping over stretches where each row is plainly good after a good row."""
        stamps, values = block["t_ns"].copy(), block["hz"].copy()
        repeats = _repeats(values)
        suspects = [*np.flatnonzero(~self._quiet(block, stamps, values, repeats)).tolist(), block.size]
        at = i = 0
        while i < block.size:
            t_ns, rx_ns, hz, volt, bits, _ = block.item(i)
            marked = self._row(t_ns, rx_ns, hz, volt, bits)
            quality[i] = marked
            i += 1
            if marked or self._run_rows != repeats[i - 1]:
                continue  # state not told by the last row alone: go on row by row
            while suspects[at] < i:
                at += 1
            if suspects[at] > i:
                self._skip(stamps, values, repeats, i, suspects[at])
                i = suspects[at]

    def _quiet(
        self,
        block: Block,
        stamps: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
        repeats: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.bool_]:
        """Rows that are good if the row before was good and nothing was pending."""
        s = self.settings
        with np.errstate(invalid="ignore"):  # a signalling NaN
            volts = block["volt_frac"].astype(np.float64)
        clean = (values >= self._lo_hz) & (values <= self._hi_hz) & (block["quality"] == 0)
        if not np.isnan(volts).all():  # a source without voltage: nothing to ask
            clean &= volts >= s.volt_min_frac
        with np.errstate(invalid="ignore", over="ignore"):
            step_ns, step_hz = np.diff(stamps), np.abs(np.diff(values))
            allowed_hz = np.clip(s.spike_rate_hz_s * (step_ns * 1e-9), s.spike_floor_hz, s.spike_ceiling_hz)
            calm = (step_hz <= allowed_hz) | (step_ns > self._memory_ns)
        calm &= (stamps[1:] > stamps[:-1]) & (step_ns > 0) & (step_ns <= self._leap_ns)  # both: a difference can wrap
        quiet = np.zeros(values.size, np.bool_)
        quiet[1:] = clean[1:] & clean[:-1] & calm & (repeats[1:] < s.stuck_rows)
        return quiet

    def _skip(
        self,
        stamps: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
        repeats: npt.NDArray[np.int64],
        begin: int,
        end: int,
    ) -> None:
        """The state as `_row` would leave it after the quiet rows begin..end-1."""
        last, run = end - 1, int(repeats[end - 1])
        self._order_ns = self._good_ns = int(stamps[last])
        self._good_hz = self._run_hz = float(values[last])
        if run <= end - begin:
            self._run_ns = int(stamps[end - run])
        self._run_rows = run


def _ns(seconds: float) -> int:
    """Nanoseconds of a setting; "never" (infinity) as more than any two stamps can differ."""
    return round(seconds * NS) if seconds < 1e10 else 1 << 65


def _repeats(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """How many times in a row, itself included, each value has now been seen."""
    index = np.arange(values.size)
    begins = np.where(np.r_[True, values[1:] != values[:-1]], index, 0)
    result: npt.NDArray[np.int64] = index - np.maximum.accumulate(begins) + 1
    return result
