"""IEC 61850: a client that turns reports into frequency blocks, and a measuring unit that sends them.

Two libraries can speak the protocol. `libiec61850` (through `pyiec61850-ng`, GPL-3) is preferred where it has a wheel;
`open61850` (Apache-2.0, pure Python) serves both ends elsewhere. Importing this package loads neither: a backend is
loaded when a unit or a client is made, so that only the process that speaks the protocol holds the GPL library.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any, Final, Protocol

from telemetry.iec61850.client import ReportClient
from telemetry.iec61850.errors import (
    BackendMissing,
    CertificateError,
    LayoutError,
    LibraryVersion,
    LinkError,
    PortInUse,
    SclError,
    ServerError,
    SubscribeError,
    TlsError,
    UnsafeBind,
    Unsupported,
)
from telemetry.iec61850.history import Bookmark, Gap
from telemetry.iec61850.link import Connect
from telemetry.iec61850.tls import TlsFiles, require_protection

__all__ = [
    "BackendMissing",
    "Bookmark",
    "CertificateError",
    "Gap",
    "LayoutError",
    "LibraryVersion",
    "LinkError",
    "PortInUse",
    "ReportClient",
    "SclError",
    "ServerError",
    "SubscribeError",
    "TlsError",
    "TlsFiles",
    "Unit",
    "UnsafeBind",
    "Unsupported",
    "backends",
    "make_client",
    "make_connect",
    "make_unit",
]

REMEDY: Final = "pip install 'flyball[iec61850]'"
# name: (module that must be installed, our module for the unit, our module for associations); best first
BACKENDS: Final = {
    "libiec61850": ("pyiec61850", "telemetry.iec61850.server", "telemetry.iec61850.association"),
    "open61850": ("open61850", "telemetry.iec61850.permissive_server", "telemetry.iec61850.permissive"),
}


class Unit(Protocol):
    """A measuring unit of any backend; see `server.MeasuringUnit`."""

    host: str
    port: int
    domain: str

    def start(self) -> None:
        """Listen."""

    def publish(self, t_ns: int, hz: float, volts: float, quality: int = 0, clock_ok: bool = True) -> None:
        """Report one measurement."""

    def stop(self) -> None:
        """Close."""


def backends() -> list[str]:
    """The backends installed here, best first; none is imported by asking."""
    return [name for name, (needs, *_) in BACKENDS.items() if importlib.util.find_spec(needs) is not None]


def make_unit(backend: str | None = None, /, *args: Any, **options: Any) -> Unit:
    """A measuring unit, not started; the arguments are those of `server.MeasuringUnit`.

    Raises BackendMissing, PortInUse, ServerError.
    """
    unit: Unit = importlib.import_module(BACKENDS[_choose(backend)][1]).MeasuringUnit(*args, **options)
    return unit


def make_client(
    backend: str | None,
    host: str,
    port: int,
    report_block: str | None = None,
    *,
    connect_timeout_s: float = 1.0,
    tls: TlsFiles | Mapping[str, Any] | None = None,
    password: str | None = None,
    plaintext: bool = False,
    **options: Any,
) -> ReportClient:
    """A client, not started; `options` and `report_block` are those of `client.ReportClient`.

    host, port        : the IED; IPv4 or a name
    connect_timeout_s : for the connection and for each request
    tls, password     : see `tls.TlsFiles`, or a table that makes one; ACSE password
    plaintext         : a connection without TLS may leave this machine

    Raises BackendMissing, LibraryVersion, TlsError, Unsupported; ValueError for a parameter that cannot be.
    """
    connect = make_connect(backend, host, port, connect_timeout_s, tls, password, plaintext)
    return ReportClient(connect, report_block, connect_timeout_s=connect_timeout_s, **options)


def make_connect(
    backend: str | None,
    host: str,
    port: int,
    connect_timeout_s: float = 1.0,
    tls: TlsFiles | Mapping[str, Any] | None = None,
    password: str | None = None,
    plaintext: bool = False,
) -> Connect:
    """How to associate; parameters and errors are those of `make_client`."""
    if isinstance(tls, Mapping):
        tls = TlsFiles.of(tls)
    require_protection(host, tls, plaintext)
    module = importlib.import_module(BACKENDS[_choose(backend)][2])
    connect: Connect = module.connector(host, port, connect_timeout_s, tls, password)
    return connect


def _choose(backend: str | None) -> str:
    installed = backends()
    if backend is None:
        if not installed:
            raise BackendMissing(f"no IEC 61850 library is installed: {REMEDY}")
        return installed[0]
    if backend not in BACKENDS:
        raise BackendMissing(f"backend {backend!r} is unknown: choose one of {', '.join(BACKENDS)}")
    if backend not in installed:
        raise BackendMissing(f"backend {backend!r} is not installed here: {REMEDY}")
    return backend
