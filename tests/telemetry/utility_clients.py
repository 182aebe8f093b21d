"""Clients of a utility for the tests: libiec61850's own through ctypes, and open61850 with or without TLS around it."""

from __future__ import annotations

import contextlib
import ctypes as c
import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from telemetry.iec61850 import backends
from telemetry.iec61850 import library as ied

_P, _I, _S, _B = c.c_void_p, c.c_int, c.c_char_p, c.c_bool


def need(*names: str) -> None:
    for name in names:
        if name not in backends():
            pytest.skip(f"{name} is not installed here: pip install 'flyball[iec61850]'")


def until(true: Callable[[], Any], within_s: float = 60.0) -> Any:
    """Wait for a condition; the bound is there to end a hung test, not to measure."""
    end = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
    return found


class LastError(c.Structure):
    _fields_ = (("number", _I), ("error", _I), ("cause", _I))


Termination = c.CFUNCTYPE(None, _P, _P)
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ControlObjectClient_create": (_P, (_S, _P)),
    "ControlObjectClient_destroy": (None, (_P,)),
    "ControlObjectClient_getControlModel": (_I, (_P,)),
    "ControlObjectClient_setOrigin": (None, (_P, _S, _I)),
    "ControlObjectClient_selectWithValue": (_B, (_P, _P)),
    "ControlObjectClient_operate": (_B, (_P, _P, c.c_uint64)),
    "ControlObjectClient_cancel": (_B, (_P,)),
    "ControlObjectClient_getLastApplError": (LastError, (_P,)),
    "ControlObjectClient_setCommandTerminationHandler": (None, (_P, Termination, _P)),
    "MmsValue_newFloat": (_P, (c.c_float,)),
    "MmsValue_delete": (None, (_P,)),
}


class OwnClient:
    """libiec61850's client, ticked by a thread of ours, with one control object."""

    def __init__(self, port: int, reference: str = "FLYBALLVPP/DRCC1.OutWSet", ident: str = "tso", category: int = 3):
        self._call: SimpleNamespace = ied.load().call
        self._more = ied.declare(c.CDLL(ied.load().path), FUNCTIONS)
        self._error = c.c_int(0)
        self._connection = self._call.IedConnection_createEx(None, False)
        self._call.IedConnection_setConnectTimeout(self._connection, 5000)
        self._call.IedConnection_setRequestTimeout(self._connection, 5000)
        self._call.IedConnection_connectAsync(self._connection, c.byref(self._error), b"127.0.0.1", port)
        until(lambda: self._tick() or self._call.IedConnection_getState(self._connection) != ied.STATE_CONNECTING)
        assert self._call.IedConnection_getState(self._connection) == ied.STATE_CONNECTED
        self._ticking = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.control = self._more.ControlObjectClient_create(reference.encode(), self._connection)
        assert self.control, "no control object"
        self._more.ControlObjectClient_setOrigin(self.control, ident.encode(), category)
        self.terminations: list[int] = []
        self._handler = Termination(self._terminated)
        self._more.ControlObjectClient_setCommandTerminationHandler(self.control, self._handler, None)

    def _tick(self) -> bool:
        self._call.IedConnection_tick(self._connection)
        return False

    def _run(self) -> None:
        while self._ticking:
            self._tick()

    def _terminated(self, _parameter: Any, control: int) -> None:
        self.terminations.append(self._more.ControlObjectClient_getLastApplError(control).cause)

    @property
    def model(self) -> int:
        return int(self._more.ControlObjectClient_getControlModel(self.control))

    def select(self, power_kw: float) -> int | None:
        return self._with(power_kw, lambda value: self._more.ControlObjectClient_selectWithValue(self.control, value))

    def operate(self, power_kw: float) -> int | None:
        """None when it was let in, else the AddCause."""
        return self._with(power_kw, lambda value: self._more.ControlObjectClient_operate(self.control, value, 0))

    def cancel(self) -> bool:
        return bool(self._more.ControlObjectClient_cancel(self.control))

    def _with(self, power_kw: float, ask: Callable[[int], bool]) -> int | None:
        value = self._more.MmsValue_newFloat(power_kw)
        try:
            if ask(value):
                return None
            return int(self._more.ControlObjectClient_getLastApplError(self.control).cause)
        finally:
            self._more.MmsValue_delete(value)

    def close(self) -> None:
        if self._connection is None:
            return
        self._more.ControlObjectClient_destroy(self.control)
        self._call.IedConnection_close(self._connection)
        self._ticking = False
        self._thread.join()
        self._call.IedConnection_destroy(self._connection)
        self._connection = None


@contextlib.contextmanager
def own(port: int, **more: Any) -> Iterator[OwnClient]:
    client = OwnClient(port, **more)
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def foreign(port: int) -> Iterator[Any]:
    """open61850's client."""
    from open61850.mms.client import MmsClient

    with MmsClient.connect("127.0.0.1", port, timeout=10.0) as client:
        yield client


@contextlib.contextmanager
def tunnel(port: int, cert: Path, key: Path) -> Iterator[int]:
    """A plain port on loopback that leads through TLS (OpenSSL) to `port`, with a client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the server is not what is tested
    context.load_cert_chain(cert, key)
    pipes: list[socket.socket] = []

    def pump(source: Any, sink: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            while octets := source.recv(65536):
                sink.sendall(octets)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                pipes.append(plain)
                try:
                    wrapped = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10.0))
                except OSError:
                    plain.close()
                    continue
                pipes.append(wrapped)
                for pair in ((plain, wrapped), (wrapped, plain)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    for pipe in pipes:
        pipe.close()


class Papers:
    """Certificates made for a test, self-signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, name: str, days: tuple[int, int] = (-1, 1)) -> tuple[Path, Path]:
        """(certificate, key), valid for `days` from today."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        cert = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days[0])).not_valid_after(now + datetime.timedelta(days[1]))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA256())
        )  # fmt: skip
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths

    def forge(self, of: Path) -> tuple[Path, Path]:
        """A certificate for a key of one's own that carries the signature of another."""
        cert, key = self.make("forged")
        octets = ssl.PEM_cert_to_DER_cert(cert.read_text())
        pinned = ssl.PEM_cert_to_DER_cert(of.read_text())
        cert.write_text(ssl.DER_cert_to_PEM_cert(octets[:-256] + pinned[-256:]))
        return cert, key
