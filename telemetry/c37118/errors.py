"""What can be wrong with a C37.118 frame, setting or peer: one tree, every defect with a short, countable name.

C37118Error
|- FrameError     bytes that are no frame, or one that cannot be used (`.reason`, one of REASONS)
|- PortInUse      the simulated unit's port belongs to someone else
`- ServerError    the simulated unit cannot listen there, or is not running
"""

from __future__ import annotations

from typing import Final

# What a frame can be refused for, in the order in which it is asked.
REASONS: Final = {
    "short": "fewer octets than the smallest frame has",
    "sync": "does not begin with 0xAA",
    "type": "a frame type the standard does not have, or its reserved bit set",
    "version": "neither version 1 (2005) nor 2 (2011)",
    "length": "FRAMESIZE disagrees with the octets that came",
    "crc": "the check word disagrees with the octets",
    "time_base": "TIME_BASE is 0",
    "fracsec": "FRACSEC is more than a second of its TIME_BASE",
    "layout": "the configuration's counts do not fit its size",
    "rate": "DATA_RATE is 0",
    "fragment": "a part of a CFG-3 that does not follow on what came before",
    "stream": "belongs to another stream than the one that is followed",
    "stranger": "comes from another sender than the configuration did",
    "unconfigured": "data whose layout is not known (yet), or no longer for certain",
    "size": "data of another size than the configuration says",
    "idcode": "the configuration has no such PMU, or several and none was chosen",
    "framing": "too many defects in a row: the connection is given up",
}


class C37118Error(Exception):
    """Base of every error of this package."""


class FrameError(C37118Error, ValueError):
    """A frame that is refused; `reason` is a key of REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class PortInUse(C37118Error, RuntimeError):
    """Another process listens on the simulated unit's port."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is in use: stop the process that holds it or choose another port")
        self.host, self.port = host, port


class ServerError(C37118Error, RuntimeError):
    """The simulated unit cannot listen there, or is asked to publish while it is not running."""
