"""TLS by IEC 62351-3 and the ACSE password: who we are, whom we believe. Nothing here can be switched off.

The library checks no host name, so a certificate authority alone would let any device of the plant answer for any
other: the device's own certificate is pinned wherever it can be. What the bundled library offers as "insecure" is not
even declared. Files are read at each connect, so that renewed certificates are taken up without a restart.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from telemetry.iec61850 import library as ied
from telemetry.iec61850.errors import TlsError

WARNING: Final = 1  # TLSEventLevel


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of one association.

    cert, key : our own, which the device asks for
    pins      : the device's certificates, one or, around a renewal, two; no other is believed
    ca        : authorities the device's certificate must chain to; may be left out where there is a pin
    key_password : of the key's file

    Raises TlsError where neither a pin nor an authority is given.
    """

    cert: Path
    key: Path
    pins: tuple[Path, ...] = ()
    ca: tuple[Path, ...] = ()
    key_password: str | None = None

    @classmethod
    def of(cls, table: Mapping[str, Any], key_password: str | None = None) -> TlsFiles:
        """From a table of a configuration: `cert`, `key`, `pins`, `ca`. Raises TlsError for anything else."""
        unknown = sorted(set(table) - {"cert", "key", "pins", "ca"})
        missing = sorted({"cert", "key"} - set(table))
        if unknown or missing:
            what = f"unknown {', '.join(unknown)}" if unknown else f"{' and '.join(missing)} missing"
            raise TlsError(f"tls: {what}; give cert, key and at least one of pins, ca")
        lists = {name: table.get(name) or () for name in ("pins", "ca")}
        if any(isinstance(paths, (str, Path)) for paths in lists.values()):
            raise TlsError("tls: pins and ca are lists of files; write ['unit.pem']")
        pins, ca = (tuple(map(Path, lists[name])) for name in ("pins", "ca"))
        return cls(Path(table["cert"]), Path(table["key"]), pins, ca, key_password)

    def __post_init__(self) -> None:
        if not self.pins and not self.ca:
            raise TlsError(
                "tls: neither pins nor ca is given, so anybody could answer: give the device's certificate as a pin"
            )


def require_protection(host: str, tls: TlsFiles | None, plaintext: bool) -> None:
    """Raises TlsError for a plain connection that would leave this machine and that nobody has allowed."""
    if tls is None and not plaintext and not _is_here(host):
        raise TlsError(
            f"host {host} is not this machine and tls is not set: give certificates, "
            "or plaintext = true where the network itself is protected"
        )


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Protection:
    """The library's objects for one association; None of them where neither is asked for."""

    def __init__(self, library: ied.Library, tls: TlsFiles | None, password: str | None) -> None:
        self._call = library.call
        self.complaint = ""  # the library's latest, in its words
        self._handler: Any = ied.TlsEventHandler(self._on_event)
        self.tls: int | None = None
        self._password: int | None = None
        if tls is not None:
            self.tls = self._call.TLSConfiguration_create()
            try:
                self._fill(tls)
            except TlsError:
                self.free()
                raise
        if password is not None:
            self._password = self._call.AcseAuthenticationParameter_create()
            self._call.AcseAuthenticationParameter_setAuthMechanism(self._password, ied.ACSE_AUTH_PASSWORD)
            self._call.AcseAuthenticationParameter_setPassword(self._password, password.encode())

    def apply(self, connection: int | None) -> None:
        """Before the connection is made."""
        if self._password is not None:
            call = self._call
            mms = call.IedConnection_getMmsConnection(connection)
            parameters = call.MmsConnection_getIsoConnectionParameters(mms)
            call.IsoConnectionParameters_setAcseAuthenticationParameter(parameters, self._password)

    def free(self) -> None:
        """After the connection was destroyed."""
        tls, self.tls = self.tls, None
        if tls is not None:
            self._call.TLSConfiguration_destroy(tls)
        password, self._password = self._password, None
        if password is not None:
            self._call.AcseAuthenticationParameter_destroy(password)

    def _fill(self, files: TlsFiles) -> None:
        call, tls = self._call, self.tls
        call.TLSConfiguration_setEventHandler(tls, self._handler, None)
        call.TLSConfiguration_setMinTlsVersion(tls, ied.TLS_1_2)
        call.TLSConfiguration_setChainValidation(tls, bool(files.ca))
        call.TLSConfiguration_setAllowOnlyKnownCertificates(tls, bool(files.pins))
        key_password = files.key_password.encode() if files.key_password is not None else None
        self._load("cert", files.cert, call.TLSConfiguration_setOwnCertificateFromFile)
        self._load("key", files.key, call.TLSConfiguration_setOwnKeyFromFile, key_password)
        for pin in files.pins:
            self._load("pins", pin, call.TLSConfiguration_addAllowedCertificateFromFile)
        for authority in files.ca:
            self._load("ca", authority, call.TLSConfiguration_addCACertificateFromFile)

    def _load(self, field: str, path: Path, load: Any, *more: Any) -> None:
        try:
            path.open("rb").close()
        except OSError as error:
            raise TlsError(f"tls.{field}: {path} cannot be read: {error.strerror}; give a PEM file") from error
        if not load(self.tls, str(path).encode(), *more):
            raise TlsError(f"tls.{field}: {path} is not usable: give a PEM file, and its key's password if it has one")

    def _on_event(self, _parameter: Any, level: int, _code: int, message: bytes | None, _connection: Any) -> None:
        if level >= WARNING and message:
            self.complaint = f"TLS: {message.decode(errors='replace')}"
