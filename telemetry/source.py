"""What every live source of frequency promises, whatever its protocol.

This file knows blocks and counters only. A source delivers blocks of `FREQUENCY` rows from a thread of its own,
reconnects for ever until it is stopped, and never raises into its caller; what went wrong stands in its status.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from telemetry.samples import Block

OnBlock = Callable[[Block], None]


@dataclass(frozen=True)
class SourceStatus:
    """A source's own counters, since `start`; all of them only grow."""

    connected: bool = False
    reports: int = 0  # messages received, repeats and surprises included
    reconnects: int = 0  # subscriptions made again after the first
    gaps: int = 0  # messages the sequence numbers say were lost
    repeats: int = 0  # periodic repetitions of an already delivered t_ns: alive, but not a measurement
    last_rx_ns: int = 0  # arrival of the latest message; 0 before the first
    detail: str = ""  # what the source is doing, or the latest error, in words
    surprises: int = 0  # messages that could not be read as a measurement
    handler_errors: int = 0  # exceptions raised by `on_block`
    refused: dict[str, int] = field(default_factory=dict)  # messages not believed, by reason, where the protocol tells
    mode: str = ""  # how samples come: "reports", "buffered reports", "polling"; empty while not connected
    polls: int = 0  # values asked for, where no reports could be had
    backfilled: int = 0  # rows delivered late, for the record alone
    history_gaps: int = 0  # stretches the source's own buffer no longer held


@runtime_checkable
class FrequencySource(Protocol):
    """A live measurement of frequency."""

    def start(self, on_block: OnBlock) -> None:
        """Begin, and return at once; `on_block` is called from the source's thread and must return fast."""

    def stop(self) -> None:
        """End within seconds, whatever the peer does; no `on_block` call begins after it returned."""

    def status(self) -> SourceStatus:
        """The counters now; callable from any thread."""
