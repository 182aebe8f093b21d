"""Reports in, blocks out: sequence numbers, repeats, remembered voltage, counters. Shared by every backend.

No library, no clock: the backend reads the report and stamps its arrival. One thread calls `take`; any thread may read
the counters. Nothing here raises into that thread: a bad report and a failing `on_block` are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from telemetry.iec61850.mapping import GENERAL_INTERROGATION, INTEGRITY, REASON_UNKNOWN, Report
from telemetry.iec61850.mapping import frequency_block as to_block
from telemetry.source import OnBlock

REPEATING: Final = INTEGRITY | GENERAL_INTERROGATION | REASON_UNKNOWN
NEVER_MEASURED: Final = bytes(7)  # the epoch: what an IED shows before its first measurement


class Intake:
    """What one client knows across its connections."""

    def __init__(self, nominal_volt: float, source: int) -> None:
        self._nominal_volt = nominal_volt
        self._source = source
        self._on_block: OnBlock | None = None
        self._volts = math.nan
        self._last_utc = b""
        self._last_periodic: tuple[float, int] | None = None  # value of the last row, if a periodic report brought it
        self._sequence: int | None = None
        self._modulus = 256
        self.on_delivered: Callable[[Report], None] | None = None
        self.reports = self.gaps = self.repeats = self.surprises = self.handler_errors = 0
        self.last_rx_ns = 0
        self.detail = ""

    def open(self, on_block: OnBlock) -> None:
        """Deliver to `on_block` from now on."""
        self._on_block = on_block

    def shut(self) -> None:
        """Deliver nothing from now on."""
        self._on_block = None

    def connected(self, buffered: bool) -> None:
        """A new subscription: numbering starts anew and nothing is known of the voltage.

        SqNum has 8 bits in an unbuffered block and 16 in a buffered one (IEC 61850-8-1 17.1).
        """
        self._sequence = None
        self._modulus = 65536 if buffered else 256
        self._volts = math.nan

    def take(self, report: Report, rx_ns: int) -> None:
        """One report, read; delivers at most one row."""
        self.reports += 1
        self.last_rx_ns = rx_ns
        self._count_gaps(report.sequence)
        if report.volts is not None:
            self._volts = report.volts
        if report.hz is None:
            return  # other members only: a member that is left out has not changed (7-2 17.2.3)
        if self._is_repeat(report):
            self.repeats += 1
            return
        self._last_utc = report.utc
        self._last_periodic = None if report.reason & ~REPEATING else (report.hz, report.quality)
        self._deliver(report, rx_ns)

    def alive(self, rx_ns: int) -> None:
        """A report that is none of ours to deliver; it shows that the device is there."""
        self.reports += 1
        self.last_rx_ns = rx_ns

    def surprise(self, what: str, rx_ns: int) -> None:
        """A report that could not be read."""
        self.reports += 1
        self.surprises += 1
        self.last_rx_ns = rx_ns
        self.detail = f"unreadable report: {what}"

    def _count_gaps(self, sequence: int | None) -> None:
        if sequence is None:
            return
        if self._sequence is not None:
            if sequence > 255:
                self._modulus = 65536  # seen: peers that number unbuffered reports with 16 bits
            self.gaps += (sequence - self._sequence - 1) % self._modulus
        self._sequence = sequence

    def _is_repeat(self, report: Report) -> bool:
        """A periodic report of a value already delivered, or of one never measured.

        A report that claims a change or an update is delivered whatever its time says: a source whose clock stands
        still must meet the quality gate, not vanish here. Except right after a periodic report that was quicker to
        bring the very same value: a server's timer may fire between its update and the report of it.
        """
        instant = report.utc[:7]  # without the TimeQuality octet
        if report.reason & ~REPEATING:
            return instant == self._last_utc[:7] and self._last_periodic == (report.hz, report.quality)
        return instant in (self._last_utc[:7], NEVER_MEASURED)

    def _deliver(self, report: Report, rx_ns: int) -> None:
        deliver = self._on_block
        if deliver is None or report.hz is None:
            return
        try:
            block = to_block(
                report.hz, report.quality, report.utc, self._volts, self._nominal_volt, rx_ns, self._source
            )
        except Exception as error:
            self.surprises += 1
            self.detail = f"unreadable value: {error}"
            return
        try:
            deliver(block)
        except Exception as error:
            self.handler_errors += 1
            self.detail = f"on_block raised {type(error).__name__}: {error}"
        if self.on_delivered is not None:
            self.on_delivered(report)
