"""Who may come in over TLS: certificates pinned one by one, each with what its holder may do.

The library's verdict is not the last: releases of it compared the signatures of certificates and no more, and it
forgives a known one its dates. The certificate that a client has proved to hold the key of must equal a pinned one in
every octet, and be within its time. A certificate is revoked by taking it off the table.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from telemetry.iec61850 import control_library as ctl
from telemetry.iec61850.errors import CertificateError, UnsafeBind

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,63}")


@dataclass(frozen=True)
class Pin:
    """One client. octets : its certificate, DER; from_ns, until_ns : the certificate's time"""

    name: str
    octets: bytes
    from_ns: int
    until_ns: int
    may_operate: bool

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate."""
        return hashlib.sha256(self.octets).hexdigest()

    def in_time(self, now_ns: int) -> bool:
        """Whether the certificate is valid now by its own dates."""
        return self.from_ns <= now_ns <= self.until_ns


@dataclass(frozen=True)
class Tls:
    """The server's certificate and key (PEM files), and the clients let in."""

    cert: Path
    key: Path
    pins: tuple[Pin, ...]


def pin(name: str, path: Path, may_operate: bool) -> Pin:
    """A pin from a PEM file. Raises CertificateError."""
    if not NAME.fullmatch(name):
        raise CertificateError(f"client.name {name!r}: give letters, digits, space, dot or dash, at most 64")
    octets, from_ns, until_ns = _read(path, f"client.cert of {name}")
    return Pin(name, octets, from_ns, until_ns, may_operate)


def tls(cert: Path, key: Path, pins: Sequence[Pin], now_ns: int) -> Tls:
    """TLS that can be served. Raises CertificateError for what could let nobody in, or two under one certificate."""
    _, from_ns, until_ns = _read(cert, "cert")
    if not from_ns <= now_ns <= until_ns:
        raise CertificateError(f"cert {cert} is not within its time: have it renewed")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(f"key {key} does not go with cert {cert}: {error}; give the unencrypted PEM") from error
    if not pins:
        raise CertificateError("client: none is pinned, so nobody could connect; add [[utility.client]] with its cert")
    holders: dict[bytes, str] = {}
    for one in pins:
        other = holders.setdefault(one.octets, one.name)
        if other != one.name or [p.name for p in pins].count(one.name) > 1:
            raise CertificateError(f"client {one.name}: its name or certificate is also that of {other}; give each one")
    return Tls(cert, key, tuple(pins))


def expect_loopback(host: str) -> None:
    """Raises UnsafeBind for a host where others could reach a plain listener."""
    try:
        inside = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        inside = False
    if not inside:
        raise UnsafeBind(f"host {host} is reachable from outside and there is no TLS: give cert, key and client")


def configure(served: Tls) -> int:
    """The library's TLS configuration; destroy it after the server. Raises CertificateError."""
    call = ctl.load().call
    handle = call.TLSConfiguration_create()
    call.TLSConfiguration_setMinTlsVersion(handle, ctl.TLS_1_2)
    # A resumed session shows no certificate, and we go by it.
    call.TLSConfiguration_enableSessionResumption(handle, False)
    # Pinned certificates may be self-signed: each is its own authority, and the list of known ones is the gate.
    call.TLSConfiguration_setChainValidation(handle, False)
    call.TLSConfiguration_setAllowOnlyKnownCertificates(handle, True)
    good = call.TLSConfiguration_setOwnCertificateFromFile(handle, str(served.cert).encode())
    good = good and call.TLSConfiguration_setOwnKeyFromFile(handle, str(served.key).encode(), None)
    for one in served.pins:
        good = good and call.TLSConfiguration_addAllowedCertificate(handle, one.octets, len(one.octets))
        good = good and call.TLSConfiguration_addCACertificate(handle, one.octets, len(one.octets))
    if not good:
        call.TLSConfiguration_destroy(handle)
        raise CertificateError("cert, key or a client's cert: libiec61850 cannot read it; give RSA or EC P-256 in PEM")
    return int(handle)


def _read(path: Path, field: str) -> tuple[bytes, int, int]:
    """(DER, not before, not after) of a PEM file's first certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CertificateError(f"{field}: {path} is no certificate ({error}); give a PEM file") from error
    from_s, until_s = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    return found.public_bytes(Encoding.DER), int(from_s * 1e9), int(until_s * 1e9)
