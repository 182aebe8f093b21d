"""The errors of the IEC 61850 link, one tree.

    LinkError
    |- BackendMissing     no library to speak the protocol with
    |- LibraryVersion     the library is not the one its signatures were written for
    |- Unsupported        the library that was chosen cannot do what was asked
    |- TlsError           certificate files that cannot be used, or a connection that would not be protected
    |- SclError           a file that is no SCL, or is not to be trusted
    |- PortInUse          the server's port belongs to someone else
    |- ServerError        the server would not start, or is not running
    |- CertificateError   a certificate, its key or a pinned client cannot be used
    |- UnsafeBind         others could reach the server, in plain text
    |- LayoutError        the data set does not hold what a frequency sample needs
    `- SubscribeError     an association or a report control block was refused
       |- LinkLost        and there is no use in asking this peer anything more
       `- BlockTaken      the block serves another client

Each message names the field and the remedy.
"""

from __future__ import annotations

CODES = {
    1: "not connected",
    3: "connection lost",
    5: "connection rejected",
    6: "too many outstanding requests",
    20: "no answer in time",
    21: "access denied",
    22: "no such object",
    26: "temporarily unavailable",
    32: "value not valid",
}  # IedClientError of libiec61850, the ones met in practice


class LinkError(RuntimeError):
    """Base of every error of this package."""


class BackendMissing(LinkError):
    """No library that speaks IEC 61850 is installed, or not the one asked for."""


class LibraryVersion(LinkError):
    """The installed libiec61850 is not of the series whose signatures we declare."""


class Unsupported(LinkError):
    """The library that was chosen cannot do what was asked; the message names the one that can."""


class TlsError(LinkError):
    """Certificates that cannot be used, or a plain connection to another machine that nobody has allowed."""


class SclError(LinkError):
    """A file that is not SCL, or holds what a description of a device has no business with."""


class PortInUse(LinkError):
    """Another process listens on the server's port."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is in use: stop the process that holds it or choose another port")
        self.host, self.port = host, port


class ServerError(LinkError):
    """The measuring unit could not start, or is asked to publish while it is not running."""


class CertificateError(LinkError, ValueError):
    """A certificate, its key or a pinned client cannot be used."""


class UnsafeBind(LinkError, ValueError):
    """Others could reach the server, in plain text."""


class LayoutError(LinkError):
    """The data set's members cannot give a frequency, its quality and its time."""


class SubscribeError(LinkError):
    """The peer refused or broke off while we subscribed; `code` is the client library's error, 0 if it has none."""

    def __init__(self, step: str, code: int = 0, reason: str = "") -> None:
        super().__init__(f"{step}: {reason or CODES.get(code, f'error {code}')}")
        self.step, self.code = step, code


class LinkLost(SubscribeError):
    """The association is gone, or its peer does not answer."""


class BlockTaken(SubscribeError):
    """The report control block exists and serves somebody else."""
