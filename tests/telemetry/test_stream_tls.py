"""Streams over TLS: the embedded server has none, so its bytes go through an end of our own that has.

Certificate, host name and client certificate are real, made for the test; only what lies behind the end is plain.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from aggregator.embedded import SOCKET, EmbeddedServer
from telemetry.paired import PairedReader
from telemetry.paired_writer import PairedWriter
from telemetry.redis_stream import InsecureTls, connect

KEY = "freq:ce:i1"


class TlsEnd:
    """Accepts TLS on loopback and passes bytes on to a unix socket."""

    def __init__(self, context: ssl.SSLContext, path: Path) -> None:
        self._context, self._path = context, path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(plain)
            self._threads.append(threading.Thread(target=self._serve, args=(plain,), daemon=True))
            self._threads[-1].start()

    def _serve(self, plain: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX) as behind,
            self._context.wrap_socket(plain, server_side=True) as front,
        ):
            self._open += [front, behind]
            behind.connect(str(self._path))
            back = threading.Thread(target=_pump, args=(behind, front), daemon=True)
            back.start()
            _pump(front, behind)
            back.join()
        plain.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


def _pump(here: socket.socket, there: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := here.recv(65536):
            there.sendall(data)
    for one in (here, there):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class Authority:
    """Signs certificates, its own first."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self.path = folder / f"{name}.pem"
        usage = x509.KeyUsage(True, *[False] * 4, True, True, False, False)
        root = self._made(self._name, self._key).add_extension(x509.BasicConstraints(True, 0), critical=True)
        root = root.add_extension(usage, critical=True).add_extension(self._identifier, critical=False)
        self.path.write_bytes(root.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(self, host: str) -> Path:
        """A file with a key and its certificate for `host`."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._made(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]), key)
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        made = made.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier), critical=False
        )
        path = self._folder / f"{host}.pem"
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        )
        return path

    def _made(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            self._name, name, key.public_key(), x509.random_serial_number(), now - timedelta(hours=1),
            now + timedelta(days=1),
        )  # fmt: skip


class World:
    """A server behind TLS that wants a certificate of its clients, and the files of both sides."""

    def __init__(self, folder: Path, server: EmbeddedServer) -> None:
        authority = Authority(folder, "ca")
        self.authority, self.other = authority.path, Authority(folder, "other").path
        self.own = authority.issue("client")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.issue("localhost"))
        context.load_verify_locations(authority.path)
        context.verify_mode = ssl.CERT_REQUIRED
        self.end = TlsEnd(context, server.directory / SOCKET)

    def url(self, host: str = "localhost", authority: Path | None = None, own: bool = True, more: str = "") -> str:
        mine = f"&ssl_certfile={self.own}&ssl_keyfile={self.own}" if own else ""
        return f"rediss://{host}:{self.end.port}?ssl_ca_certs={authority or self.authority}{mine}{more}"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with EmbeddedServer(maxmemory_mb=64) as server:
        made = World(tmp_path, server)
        yield made
        made.end.close()


def test_a_stream_is_written_and_followed_over_tls(world: World) -> None:
    writer, reader = PairedWriter([world.url()], KEY, 1), PairedReader([world.url()], [{KEY: "0"}])
    for n in range(200):
        writer.add(bytes([n]) * 5000)  # more than one record of TLS
    rows = []
    while len(rows) < 200:
        rows += reader.read(1000)
    assert [row.payload[0] for row in rows] == list(range(200))
    assert (reader.missing, writer.settle(20.0)) == (0, 0)
    writer.close()
    reader.close()


@pytest.mark.parametrize("wrong", ["authority", "host", "no certificate of ours"])
def test_who_cannot_be_verified_is_not_talked_to(world: World, wrong: str) -> None:
    url = {
        "authority": world.url(authority=world.other), "host": world.url(host="127.0.0.1"),
        "no certificate of ours": world.url(own=False),
    }[wrong]  # fmt: skip
    with connect(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


@pytest.mark.parametrize("less", ["ssl_cert_reqs=none", "ssl_cert_reqs=optional", "ssl_check_hostname=false"])
def test_an_address_that_asks_for_less_is_refused(less: str) -> None:
    with pytest.raises(InsecureTls, match=less.split("=")[0]):
        connect(f"rediss://localhost:1?{less}")
    connect("rediss://localhost:1?ssl_cert_reqs=required&ssl_check_hostname=true").close()
