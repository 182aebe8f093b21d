"""Frames in, FREQUENCY rows out: which PMU of the stream, its latest configuration, gaps, repeats, counters.

No clock, no connection: whoever reads the frames stamps their arrival. One thread calls `take`; any thread may read
the counters. Nothing here raises into that thread: a frame that cannot be used and a failing `on_block` are counted.

Policy, in the order in which a frame meets it:
- Frames of other streams, of other senders (datagrams), and of kinds nobody asked for are counted and left.
- A CFG-2 or CFG-3 says what is being sent, so the latest one holds, whatever its CFGCNT; the same one again changes
  nothing.
- STAT bit 10 announces a change (2011) or tells of one (2005). From either of its edges until the next CFG-2 no value
  can be read for certain: data are withheld and counted `unconfigured`. So are data of another size than configured.
- The very same frame again is a `repeat` and not delivered: alive, but not a measurement. Another value with an old
  stamp is delivered; the quality gate judges it.
- `gaps` counts the frames that are missing between two stamps by DATA_RATE, outages of the connection included. A
  stamp that runs ahead of arrival by more than JUMP_NS is a clock's jump, not a gap.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any, Final

import numpy as np

from telemetry.c37118.cfg3 import Parts, read_cfg3
from telemetry.c37118.configuration import Configuration, Station, read_configuration
from telemetry.c37118.errors import FrameError
from telemetry.c37118.frames import Head, Kind, head_of, t_ns
from telemetry.c37118.quality import CONFIGURATION_CHANGE, phase_voltages, smallest, source_quality
from telemetry.samples import FREQUENCY, Block
from telemetry.source import OnBlock

JUMP_NS: Final = 1_000_000_000
MAX_FLOAT32: Final = 3.4e38
_ROW: Final = struct.Struct("<qqdfHH")  # FREQUENCY


def row(
    station: Station, raw: tuple[Any, ...], channels: tuple[int, ...], at_ns: int, time_quality: int,
    nominal_volt: float, rx_ns: int, source: int,
) -> Block:  # fmt: skip
    """FREQUENCY[1] of one station's words in a data frame.

    raw          : as `Configuration.unpack` gives them
    channels     : phasors that are phase voltages; none: volt_frac is NaN
    at_ns        : the frame's time; rx_ns : its arrival [ns since 1970 UTC]
    time_quality : the octet above FRACSEC
    nominal_volt : what is 1.0, in the unit the PMU reports [V]
    """
    hz = station.hz(raw)
    volt_frac = smallest(station, raw, channels) / nominal_volt
    volt_frac = min(max(volt_frac, -MAX_FLOAT32), MAX_FLOAT32)  # in this order NaN stays
    bits = source_quality(raw[0], time_quality, hz)
    # Packed and read back: a third of the time that filling a row of numpy takes.
    return np.frombuffer(bytearray(_ROW.pack(at_ns, rx_ns, hz, volt_frac, bits, source)), FREQUENCY)


class Intake:
    """What one client knows across its connections.

    idcode        : the PMU wanted; None: the only one of the stream
    stream        : IDCODE of the stream, where it is known before the configuration; others are left
    nominal_volt  : phase to neutral, in the unit the PMU reports [V]
    volt_channels : names of the phase voltages; empty: found by their names
    source        : number of the measuring point
    repeats       : deliver repeats too, as a record of what was sent should
    cfg3          : take a CFG-3 for a configuration as well; else it is left like all that was not asked for
    """

    def __init__(
        self,
        idcode: int | None,
        stream: int | None,
        nominal_volt: float,
        volt_channels: tuple[str, ...] = (),
        source: int = 0,
        repeats: bool = False,
        cfg3: bool = False,
    ) -> None:
        self._idcode, self._stream = idcode, stream
        self._nominal_volt, self._volt_channels, self._source = nominal_volt, volt_channels, source
        self._with_repeats = repeats
        self._parts = Parts() if cfg3 else None
        self._on_block: OnBlock | None = None
        self.configuration: Configuration | None = None
        self._latest: Configuration | None = None  # the same, remembered across connections
        self.certain = False  # whether data can be read with `configuration`
        self._sender: Any = None
        self._index = 0
        self._channels: tuple[int, ...] = ()
        self._changing: int | None = None  # STAT bit 10 as last seen with this configuration
        self._last_frame = b""
        self._last_ns: int | None = None
        self._last_rx_ns = 0
        self.reports = self.rows = self.gaps = self.repeats = self.handler_errors = 0
        self.others = 0  # parts of data frames that belong to other PMUs of the stream
        self.unasked = 0  # header, command, CFG-1 and CFG-3 frames
        self.told = 0  # configurations that could be used
        self.links = 0  # connections that brought one
        self.configurations = 0  # of them, those that said something new
        self.refused: Counter[str] = Counter()
        self.last_rx_ns = 0
        self.detail = ""

    @property
    def lively(self) -> int:
        """Grows with each data frame that shows the PMU to be alive and understood."""
        return self.rows + self.repeats

    def open(self, on_block: OnBlock) -> None:
        """Deliver to `on_block` from now on."""
        self._on_block = on_block

    def shut(self) -> None:
        """Deliver nothing from now on."""
        self._on_block = None

    def connected(self) -> None:
        """A new connection: nothing is known of the layout, and any sender may tell it. Stamps are remembered."""
        self.configuration, self.certain, self._sender, self._changing = None, False, None, None
        if self._parts is not None:
            self._parts.forget()

    def take(self, frame: bytes, rx_ns: int, sender: Any = None) -> None:
        """One checked frame; delivers at most one row. sender : of a datagram; None on a connection"""
        self.reports += 1
        self.last_rx_ns = rx_ns
        head = head_of(frame)
        try:
            self._belongs(head, sender)
            if head.kind is Kind.DATA:
                self._data(frame, head, rx_ns)
            elif head.kind is Kind.CFG2:
                self._configure(read_configuration(frame, head), sender)
            elif head.kind is Kind.CFG3 and self._parts is not None:
                body = self._parts.take(frame, head)
                if body is not None:
                    self._configure(read_cfg3(body, head), sender)
            else:
                self.unasked += 1
        except FrameError as error:
            self.refuse(error.reason, error.detail)

    def refuse(self, reason: str, detail: str) -> None:
        """Count octets or a frame that cannot be used."""
        self.refused[reason] += 1
        self.detail = f"{reason}: {detail}"

    def _belongs(self, head: Head, sender: Any) -> None:
        if self._stream is not None and head.idcode != self._stream:
            raise FrameError("stream", f"stream {head.idcode}, {self._stream} is followed")
        known = self.configuration
        if known is None:
            return
        if sender != self._sender:
            raise FrameError("stranger", f"from {sender}, the configuration came from {self._sender}")
        if head.idcode != known.idcode:
            raise FrameError("stream", f"stream {head.idcode}, {known.idcode} is followed")

    def _configure(self, configuration: Configuration, sender: Any) -> None:
        if configuration == self.configuration:
            self.certain = True
            self.told += 1
            return
        self.certain = False
        index = configuration.find(self._idcode)
        station = configuration.stations[index]
        try:
            self._channels = phase_voltages(station, self._volt_channels)
        except ValueError as error:
            raise FrameError("idcode", str(error)) from None
        self.told += 1
        self.links += self.configuration is None
        self.configurations += configuration != self._latest
        self.configuration, self._index, self._sender, self.certain = configuration, index, sender, True
        self._latest, self._changing = configuration, None
        volts = ", ".join(station.phasors[k].name for k in self._channels) or "none: a dead bus cannot be seen"
        self.detail = f"following {station.idcode} ({station.name}) at rate {configuration.rate}; voltages {volts}"

    def _data(self, frame: bytes, head: Head, rx_ns: int) -> None:
        known = self.configuration
        if known is None:
            raise FrameError("unconfigured", "data before the first CFG-2")
        try:
            raw = known.unpack(frame, self._index)
        except FrameError:
            self.certain = False
            raise
        at_ns = t_ns(head, known.time_base)
        before, self._changing = self._changing, raw[0] & CONFIGURATION_CHANGE
        if before is not None and before != self._changing:
            self.certain = False
        if not self.certain:
            raise FrameError("unconfigured", "the unit tells of a changed configuration: waiting for its CFG-2")
        if frame == self._last_frame:
            self.repeats += 1
            if not self._with_repeats:
                return
        self.others += len(known.stations) - 1
        self._last_frame = frame
        self._count_gaps(at_ns, rx_ns, known.period_ns)
        station = known.stations[self._index]
        self.rows += 1
        self._deliver(
            row(
                station, raw, self._channels, at_ns, head.time_quality, self._nominal_volt, rx_ns, self._source
            )
        )  # fmt: skip

    def _count_gaps(self, at_ns: int, rx_ns: int, period_ns: int) -> None:
        step_ns = 0 if self._last_ns is None else at_ns - self._last_ns
        if -JUMP_NS < step_ns < 0:
            return  # overtaken on its way, and counted as missing when it was overtaken
        if step_ns <= rx_ns - self._last_rx_ns + JUMP_NS:
            self.gaps += max(0, (step_ns + period_ns // 2) // period_ns - 1)
        self._last_ns, self._last_rx_ns = at_ns, rx_ns

    def _deliver(self, block: Block) -> None:
        deliver = self._on_block
        if deliver is None:
            return
        try:
            deliver(block)
        except Exception as error:
            self.handler_errors += 1
            self.detail = f"on_block raised {type(error).__name__}: {error}"
