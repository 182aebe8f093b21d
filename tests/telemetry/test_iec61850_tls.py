"""TLS and the ACSE password against the library's own server, with certificates made here."""

from __future__ import annotations

import ctypes as c
import importlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from telemetry.iec61850 import TlsError, TlsFiles, Unsupported, library, make_client, make_connect, tls
from tests.telemetry.ieds import T0_NS, Proxy, Rows, ends, linked, need, unit_here, until

trustme = pytest.importorskip("trustme", reason="trustme is not installed here: pip install 'flyball[test]'")


class Files:
    """A folder of certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ours, self.theirs = trustme.CA(), trustme.CA()
        for name, authority in (("unit", self.ours), ("other", self.ours), ("client", self.ours), ("bad", self.theirs)):
            made = authority.issue_cert(f"{name}.example")
            made.private_key_pem.write_to_path(folder / f"{name}.key")
            made.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        self.ours.cert_pem.write_to_path(folder / "ca.pem")
        self.theirs.cert_pem.write_to_path(folder / "strange-ca.pem")

    def tls(self, who: str = "client", ca: str | None = None, pins: tuple[str, ...] = ("unit",)) -> TlsFiles:
        return TlsFiles(
            self.folder / f"{who}.pem", self.folder / f"{who}.key", tuple(self.folder / f"{pin}.pem" for pin in pins),
            (self.folder / f"{ca}.pem",) if ca else (),
        )  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    need("libiec61850")
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """The library prints every certificate it sees."""
    yield
    capfd.readouterr()


# What only a server needs is declared here and not in the library's table.
Authenticator = c.CFUNCTYPE(c.c_bool, c.c_void_p, c.c_void_p, c.c_void_p, c.c_void_p)


def server_functions() -> Any:
    raw = c.CDLL(str(importlib.import_module("pyiec61850._pyiec61850").__file__))
    raw.IedServer_createWithTlsSupport.restype = c.c_void_p
    raw.IedServer_createWithTlsSupport.argtypes = (c.c_void_p, c.c_void_p)
    raw.IedServer_setAuthenticator.restype = None
    raw.IedServer_setAuthenticator.argtypes = (c.c_void_p, Authenticator, c.c_void_p)
    raw.AcseAuthenticationParameter_getPassword.restype = c.c_char_p
    raw.AcseAuthenticationParameter_getPassword.argtypes = (c.c_void_p,)
    raw.AcseAuthenticationParameter_getAuthMechanism.restype = c.c_int
    raw.AcseAuthenticationParameter_getAuthMechanism.argtypes = (c.c_void_p,)
    return raw


@contextmanager
def unit_with(monkeypatch: pytest.MonkeyPatch, create: Callable[..., Any]) -> Iterator[Any]:
    monkeypatch.setattr("telemetry.iec61850.server._create", create)
    with unit_here("libiec61850") as unit:
        yield unit


@contextmanager
def protected_unit(monkeypatch: pytest.MonkeyPatch, files: Files) -> Iterator[Any]:
    """Asks for a client certificate of our authority."""

    def create(loaded: library.Library, model: int) -> Any:
        call, configuration = loaded.call, loaded.call.TLSConfiguration_create()
        folder = files.folder
        assert call.TLSConfiguration_setOwnCertificateFromFile(configuration, str(folder / "unit.pem").encode())
        assert call.TLSConfiguration_setOwnKeyFromFile(configuration, str(folder / "unit.key").encode(), None)
        assert call.TLSConfiguration_addCACertificateFromFile(configuration, str(folder / "ca.pem").encode())
        call.TLSConfiguration_setChainValidation(configuration, True)
        call.TLSConfiguration_setAllowOnlyKnownCertificates(configuration, False)
        return server_functions().IedServer_createWithTlsSupport(model, configuration)

    with unit_with(monkeypatch, create) as unit:
        yield unit


def client_of(port: int, given: TlsFiles | None, **options: Any) -> tuple[Any, Rows]:
    rows = Rows()
    options = {"connect_timeout_s": 1.0, **options}
    client = make_client("libiec61850", "127.0.0.1", port, tls=given, **options)
    client.start(rows)
    return client, rows


def test_measurements_arrive_over_tls(monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
    with protected_unit(monkeypatch, files) as unit:
        for given in (files.tls(ca="ca"), files.tls(), files.tls(ca="ca", pins=()), files.tls(pins=("other", "unit"))):
            client, rows = client_of(unit.port, given, connect_timeout_s=5.0)
            linked(client)
            for k in range(30):
                unit.publish(T0_NS + k * 20_000_000, 50.0 + k / 1000, 230.0)
            until(lambda rows=rows: len(rows) == 30)
            assert rows.all()["hz"] == pytest.approx([50.0 + k / 1000 for k in range(30)], abs=1e-5)
            ends(client.stop)


def test_whoever_is_not_believed_gets_nothing(monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
    with protected_unit(monkeypatch, files) as unit:
        for given, why in (
            (files.tls(pins=("other",)), "TLS"),  # another device of the same authority
            (files.tls(ca="ca", pins=("other",)), "TLS"),
            (files.tls(ca="strange-ca", pins=()), "TLS"),
            (files.tls(ca="strange-ca"), "TLS"),  # pinned, and yet not of the authority asked for
            (files.tls("bad", ca="ca"), "refused|TLS|lost"),  # the device does not believe us
            (None, "refused"),  # without TLS
        ):
            client, rows = client_of(unit.port, given)
            until(lambda client=client: "connect" in client.status().detail)
            assert not client.status().connected
            assert client.status().detail.startswith("LinkLost: connect to")
            assert any(word in client.status().detail for word in why.split("|"))
            ends(client.stop)
            assert not len(rows)


def test_tls_to_a_plain_device_ends_in_time_and_leaves_nothing_behind(files: Files) -> None:
    with unit_here("libiec61850") as unit:
        client, _ = client_of(unit.port, files.tls(), connect_timeout_s=0.5)
        until(lambda: "connect" in client.status().detail)
        ends(client.stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("iec61850")]


def test_a_handshake_that_never_ends_is_cut(files: Files) -> None:
    """The library's own handshake spins for as long as the peer is silent."""
    with closing(socket.create_server(("127.0.0.1", 0))) as peer:
        held = []

        def accept() -> None:
            while True:
                try:
                    held.append(peer.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        client, _ = client_of(peer.getsockname()[1], files.tls(), connect_timeout_s=0.3)
        until(lambda: len(held) >= 2)  # it was given up, and tried again
        assert "no answer in time" in client.status().detail
        ends(client.stop)
        assert client.status().detail == "stopped"
        peer.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("iec61850")]


def test_a_spoiled_line_gives_no_wrong_value_over_tls(monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
    monkeypatch.setattr("telemetry.iec61850.supervisor.BACKOFF_MAX_S", 0.1)
    with protected_unit(monkeypatch, files) as unit, closing(Proxy(unit.port, seed=3)) as proxy:
        client, rows = client_of(proxy.port, files.tls(), silent_after_s=1.0)
        linked(client)
        proxy.spoil = 0.2
        sent = 0
        while proxy.spoiled < 10:
            if client.status().connected:
                unit.publish(T0_NS + sent * 20_000_000, 50.0 + sent % 64 / 64, 230.0)
                sent += 1
            threading.Event().wait(0.002)
        ends(client.stop)
        got = rows.all()
        assert client.status().surprises == 0
    place = (got["t_ns"] - T0_NS + 10_000_000) // 20_000_000
    assert (abs(got["t_ns"] - T0_NS - place * 20_000_000) <= 31).all()
    assert (got["hz"] == 50.0 + place % 64 / 64).all()


# ---- files and settings


def test_files_that_cannot_be_used_have_a_name(files: Files, tmp_path: Path) -> None:
    unusable = tmp_path / "unusable.pem"
    unusable.write_text("not PEM")
    good = files.tls(ca="ca")
    for field, wrong in (
        ("cert", {"cert": unusable}),
        ("key", {"key": unusable}),
        ("pins", {"pins": (unusable,)}),
        ("ca", {"ca": (unusable,)}),
        ("cert", {"cert": tmp_path / "none.pem"}),
    ):
        given = TlsFiles(**{**good.__dict__, **wrong})
        with pytest.raises(TlsError, match=rf"tls\.{field}: .*give a PEM file"):
            make_connect("libiec61850", "127.0.0.1", 1, tls=given)


def test_an_encrypted_key_needs_its_password(files: Files, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key((files.folder / "client.key").read_bytes(), None)
    path = tmp_path / "client.key"
    path.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret")))
    good = files.tls()
    for secret in (None, "wrong"):
        with pytest.raises(TlsError, match=r"tls\.key: .*password"):
            make_connect("libiec61850", "127.0.0.1", 1, tls=TlsFiles(good.cert, path, good.pins, (), secret))
    make_connect("libiec61850", "127.0.0.1", 1, tls=TlsFiles(good.cert, path, good.pins, (), "secret"))


def test_a_table_makes_the_files_or_says_what_is_wrong(files: Files) -> None:
    good = files.tls(ca="ca")
    table = {"cert": str(good.cert), "key": str(good.key), "pins": [str(good.pins[0])], "ca": [str(good.ca[0])]}
    assert TlsFiles.of(table) == good
    make_connect("libiec61850", "127.0.0.1", 1, tls=table)
    for wrong, why in (
        ({**table, "insecure": True}, "unknown insecure"),
        ({"pins": table["pins"]}, "cert and key missing"),
        ({**table, "pins": "unit.pem"}, "lists of files"),
        ({"cert": "a", "key": "b"}, "neither pins nor ca"),
    ):
        with pytest.raises(TlsError, match=why):
            make_connect("libiec61850", "127.0.0.1", 1, tls=wrong)


def test_nobody_is_believed_without_a_pin_or_an_authority(files: Files) -> None:
    with pytest.raises(TlsError, match="neither pins nor ca"):
        files.tls(pins=())
    declared = {**library._CALL, **library._LEAF}
    assert not [name for name in declared if "nsecure" in name]
    with pytest.raises(TypeError, match="insecure"):
        make_client("libiec61850", "127.0.0.1", 1, insecure=True)


@pytest.mark.parametrize("host", ["192.0.2.1", "ied.example", "0.0.0.0"])  # noqa: S104
def test_plain_text_stays_on_this_machine(host: str) -> None:
    with pytest.raises(TlsError, match=rf"host {host} .*plaintext = true"):
        make_client(None, host, 102)
    tls.require_protection(host, None, plaintext=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_this_machine_may_be_asked_in_plain_text(host: str) -> None:
    """It merely must not be refused."""
    tls.require_protection(host, None, plaintext=False)


def test_the_permissive_library_says_what_it_lacks(tmp_path: Path) -> None:
    need("open61850")
    with pytest.raises(Unsupported, match="open61850 knows no password: choose backend libiec61850"):
        make_client("open61850", "127.0.0.1", 1, password="x")  # noqa: S106
    with pytest.raises(Unsupported, match="open61850 knows no tls"):
        make_client("open61850", "127.0.0.1", 1, tls=TlsFiles(tmp_path, tmp_path, (tmp_path,)))


# ---- password


def test_the_password_is_asked_for_and_given(monkeypatch: pytest.MonkeyPatch) -> None:
    need("libiec61850")
    functions, kept = server_functions(), []

    def judge(_parameter: Any, given: int, _token: Any, _reference: Any) -> bool:
        mechanism = functions.AcseAuthenticationParameter_getAuthMechanism(given) if given else 0
        return mechanism == 1 and functions.AcseAuthenticationParameter_getPassword(given)[:6] == b"secret"

    from telemetry.iec61850 import server

    original = server._create

    def create(loaded: library.Library, model: int) -> int:
        made = original(loaded, model)
        kept.append(Authenticator(judge))
        functions.IedServer_setAuthenticator(made, kept[-1], None)
        return made

    with unit_with(monkeypatch, create) as unit:
        for password in (None, "wrong"):
            client, _ = client_of(unit.port, None, password=password)
            until(lambda client=client: "refused" in client.status().detail)
            ends(client.stop)
        client, rows = client_of(unit.port, None, password="secret")  # noqa: S106
        linked(client)
        unit.publish(T0_NS, 50.5, 230.0)
        until(lambda: len(rows) == 1)
        assert rows.all()["hz"].tolist() == [50.5]
        ends(client.stop)
