"""What a library must do for the client: one association, asked and listened to. Both backends have this shape.

References are those of IEC 61850-7-2 ("LD/LLN0.RP.urcb01", "LD/MMXU1.Hz"); names listed by a device are those of MMS
("MMXU1$MX$Hz$mag$f"). Every request ends in bounded time. A refusal is a `SubscribeError`, a dead peer a `LinkLost`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from telemetry.iec61850.layout import Layout, Spec
from telemetry.iec61850.mapping import Report


class BlockStatus(NamedTuple):
    """A report control block as the device shows it now."""

    ref: str
    data_set: str  # "LD/LLN0$name"; empty: it has none
    rpt_id: str
    taken: str = ""  # why it cannot be ours; empty: it can

    @property
    def buffered(self) -> bool:
        """Whether it is a BRCB."""
        return ".BR." in self.ref


class Ask(NamedTuple):
    """What is set in a block before it is enabled. A buffered block loses its buffer with any change: only what differs
    from the device's own settings is written."""

    integrity_ms: int | None  # None: as it is
    entry: bytes | None = None  # EntryID after which a buffered block is to go on; zeros: from its oldest
    refused: Callable[[], None] = lambda: None  # told, before any report, that the device does not know the EntryID


class Sink(Protocol):
    """Where the reports of one block go; called from the library's receiving thread, never raises."""

    def take(self, report: Report, rx_ns: int) -> None:
        """One report that could be read."""

    def surprise(self, what: str, rx_ns: int) -> None:
        """One that could not."""


class Browsable(Protocol):
    """A model that can be asked: a device, or its SCL file."""

    source: str  # where the model comes from, for people

    def domains(self) -> list[str]:
        """Names of the logical devices."""

    def variables(self, domain: str) -> list[str]:
        """MMS names of everything in one."""

    def members(self, data_set: str) -> list[tuple[str, str]]:
        """(reference, functional constraint) of each member of a data set, in its order."""

    def type_of(self, ref: str) -> Spec:
        """The type of a data object or attribute under MX."""

    def status(self, block: str) -> BlockStatus:
        """One report control block."""


class Link(Browsable, Protocol):
    """One association."""

    def enable(self, status: BlockStatus, ask: Ask, layout: Layout, sink: Sink) -> None:
        """Start the reports of a block; from its oldest where the device refuses the EntryID asked for."""

    def disable(self, block: str) -> None:
        """Give a block back; whatever goes wrong, the device does so itself when the association ends."""

    def read(self, refs: Sequence[str], layout: Layout) -> Report:
        """Read data objects once, as if they were the members of a data set with this layout."""

    def alive(self) -> bool:
        """False once the connection is known to be closed."""

    def close(self) -> None:
        """Free everything, in bounded time."""


Connect = Callable[[Callable[[], bool]], Link]  # takes "shall I give up?"
