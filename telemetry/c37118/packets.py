"""Captured packets: pcap and pcapng files down to UDP datagrams and TCP segments.

Pure but for the file that is read, one packet in memory at a time. Ethernet (VLANs too), Linux cooked, loopback and
raw IP; IPv4 with its fragments put together, IPv6 without extension headers. No check sum is asked: captures on the
sending machine hold packets whose sums the card has yet to fill in, and a C37.118 frame has its own.

Policy: of a packet that was captured in part the octets that are there count (`cut` says how many are not); fragments
of at most MAX_FRAGMENTED datagrams wait for each other, the oldest go. What is neither UDP nor TCP is passed over.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

MAX_PACKET: Final = 1 << 18  # what any capture tool writes at most
MAX_FRAGMENTED: Final = 64
_NS: Final = 1_000_000_000
_MICRO: Final = b"\xa1\xb2\xc3\xd4"
_NANO: Final = b"\xa1\xb2\x3c\x4d"
_NG: Final = b"\x0a\x0d\x0d\x0a"
GZIP: Final = b"\x1f\x8b"
# Octets before the EtherType, by link type; others need no EtherType.
_ETHERTYPE_AT: Final = {1: 12, 113: 14, 276: 0}
_LINK_BYTES: Final = {1: 14, 113: 16, 276: 20}
_LOOPBACK: Final = (0, 108)
_RAW: Final = (12, 14, 101, 228, 229)
_VLAN: Final = (0x8100, 0x88A8)
TCP: Final = 6
UDP: Final = 17


class CaptureError(ValueError):
    """A capture file that cannot be read (any further)."""


class CaptureCut(CaptureError):
    """It ends in the middle of a packet."""


class Packet(NamedTuple):
    """One UDP datagram or TCP segment."""

    t_ns: int  # when it was captured
    protocol: int  # TCP or UDP
    source: tuple[bytes, int]  # address and port
    target: tuple[bytes, int]
    payload: bytes
    cut: int  # octets of it that the capture left out
    sequence: int  # of TCP; 0 for UDP
    flags: int  # of TCP: FIN 1, SYN 2, RST 4


def is_capture(beginning: bytes) -> bool:
    """Whether a file that begins so is a pcap or pcapng file."""
    magic = beginning[:4]
    return magic in (_MICRO, _NANO, _MICRO[::-1], _NANO[::-1], _NG)


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file's octets, unzipped where it is gzipped."""
    with Path(path).open("rb") as plain:
        if plain.peek(2)[:2] == GZIP:
            with gzip.GzipFile(fileobj=plain) as zipped:
                yield zipped  # type: ignore[misc]
        else:
            yield plain


def packets(file: BinaryIO) -> Iterator[Packet]:
    """UDP and TCP of a capture, in the file's order. Raises CaptureError where the file is damaged."""
    fragments = _Fragments()
    for t_ns, link, octets, length in _records(file):
        if t_ns >> 63:
            raise CaptureError("a packet from beyond the year 2262: the file is damaged")
        ip = _network(link, octets)
        if ip:
            packet = _transport(t_ns, ip, length - len(octets), fragments)
            if packet:
                yield packet


def _records(file: BinaryIO) -> Iterator[tuple[int, int, bytes, int]]:
    """(time [ns], link type, octets captured, length on the wire)."""
    magic = file.read(4)
    if magic == _NG:
        yield from _pcapng(file)
        return
    if not is_capture(magic):
        raise CaptureError("neither a pcap nor a pcapng file")
    order = ">" if magic in (_MICRO, _NANO) else "<"
    unit_ns = 1 if magic in (_NANO, _NANO[::-1]) else 1000
    link = struct.unpack(order + "I", _exactly(file, 20)[-4:])[0] & 0xFFFF
    record = struct.Struct(order + "IIII")
    while head := file.read(record.size):
        seconds, fraction, captured, length = record.unpack(_whole(head, record.size))
        if captured > MAX_PACKET:
            raise CaptureError(f"a packet of {captured} octets: the file is damaged")
        yield seconds * _NS + fraction * unit_ns, link, _exactly(file, captured), length


def _pcapng(file: BinaryIO) -> Iterator[tuple[int, int, bytes, int]]:
    """Section header, interface, enhanced and simple packet blocks; others are passed over."""
    order, magic = "<", _NG
    interfaces: list[tuple[int, int]] = []
    while magic:
        kind_at_front = _whole(magic, 4)
        if kind_at_front == _NG:
            size_octets, bom = _exactly(file, 4), _exactly(file, 4)
            order = "<" if bom == b"\x4d\x3c\x2b\x1a" else ">"
            size, taken, interfaces = struct.unpack(order + "I", size_octets)[0], 12, []
        else:
            size, taken = struct.unpack(order + "I", _exactly(file, 4))[0], 8
        if not 12 <= size <= MAX_PACKET + 1024 or size % 4 or size < taken + 4:
            raise CaptureError(f"a block of {size} octets: the file is damaged")
        body = _exactly(file, size - taken)[:-4]
        kind = struct.unpack(order + "I", kind_at_front)[0]
        if kind == 1 and len(body) >= 8:
            interfaces.append((struct.unpack_from(order + "H", body)[0], _ticks_a_second(body[8:], order)))
        elif kind == 6 and len(body) >= 20:
            number, high, low, captured, length = struct.unpack_from(order + "IIIII", body)
            if number >= len(interfaces):
                raise CaptureError(f"a packet of interface {number}, which the file does not describe")
            link, rate = interfaces[number]
            yield (high << 32 | low) * _NS // rate, link, body[20 : 20 + captured], length
        magic = file.read(4)


def _ticks_a_second(options: bytes, order: str) -> int:
    """Option if_tsresol (9), a million without it."""
    at = 0
    while at + 4 < len(options):
        code, size = struct.unpack_from(order + "HH", options, at)
        if code == 9 and size == 1:
            return int((2 if options[at + 4] & 0x80 else 10) ** (options[at + 4] & 0x7F))
        at += 4 + (size + 3) // 4 * 4
    return 1_000_000


def _network(link: int, octets: bytes) -> bytes:
    """The IP packet in a frame of the link; empty if there is none."""
    if link in _RAW:
        return octets
    if link in _LOOPBACK:
        return octets[4:]
    if link not in _LINK_BYTES:
        raise CaptureError(f"link type {link} is not known: capture on Ethernet, loopback or `any`")
    at = _ETHERTYPE_AT[link]
    kind, begin = int.from_bytes(octets[at : at + 2], "big"), _LINK_BYTES[link]
    while kind in _VLAN:
        kind, begin = int.from_bytes(octets[begin + 2 : begin + 4], "big"), begin + 4
    return octets[begin:] if kind in (0x0800, 0x86DD) else b""


class _Fragments:
    """Pieces of IPv4 datagrams that wait for each other."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, dict[int, tuple[bytes, bool]]] = {}

    def add(self, key: bytes, offset: int, more: bool, piece: bytes) -> bytes:
        """The whole payload once it is there; empty before."""
        pieces = self._waiting.setdefault(key, {})
        pieces[offset] = piece, more
        whole, at = b"", 0
        while at in pieces:
            part, follows = pieces[at]
            whole += part
            if not follows:
                del self._waiting[key]
                return whole
            if not part:
                break
            at += len(part)
        if len(self._waiting) > MAX_FRAGMENTED:
            del self._waiting[next(iter(self._waiting))]
        return b""


def _transport(t_ns: int, ip: bytes, cut: int, fragments: _Fragments) -> Packet | None:
    """The datagram or segment in an IP packet."""
    version = ip[0] >> 4
    if version == 4 and len(ip) >= 20:
        header, total = (ip[0] & 0xF) * 4, int.from_bytes(ip[2:4], "big")
        # 0: a big segment that the card was to divide. Octets behind `total` pad the link's smallest frame.
        payload, protocol = (ip[header:total] if total else ip[header:]), ip[9]
        source, target = ip[12:16], ip[16:20]
        fragment = int.from_bytes(ip[6:8], "big")
        if fragment & 0x3FFF:
            key = ip[4:6] + ip[9:10] + ip[12:20]
            payload = fragments.add(key, (fragment & 0x1FFF) * 8, bool(fragment & 0x2000), payload)
    elif version == 6 and len(ip) >= 40:
        size = int.from_bytes(ip[4:6], "big")
        payload, protocol, source, target = ip[40 : 40 + size] if size else ip[40:], ip[6], ip[8:24], ip[24:40]
    else:
        return None
    if protocol == UDP and len(payload) >= 8:
        begin, sequence, flags = 8, 0, 0
    elif protocol == TCP and len(payload) >= 20:
        begin, sequence, flags = (payload[12] >> 4) * 4, int.from_bytes(payload[4:8], "big"), payload[13]
    else:
        return None
    ports = int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big")
    return Packet(t_ns, protocol, (source, ports[0]), (target, ports[1]), payload[begin:], max(cut, 0), sequence, flags)


def _whole(octets: bytes, size: int) -> bytes:
    return octets if len(octets) == size else _ended()


def _exactly(file: BinaryIO, size: int) -> bytes:
    return _whole(file.read(size), size)


def _ended() -> bytes:
    raise CaptureCut("ends in the middle of a packet: the capture was cut off")
