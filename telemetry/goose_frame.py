"""One Ethernet frame as a GOOSE message: a strict decoder, bytes in, values out.

Pure. Anybody on the network can send a frame, so no length is trusted and nothing is guessed: every defect has a name
of its own, by which the receiver counts it. Unknown elements are refused as well: a message we do not wholly understand
is no measurement. Frames of other kinds are None, not errors.

Sources: IEC 61850-8-1 annex A (IECGoosePdu), annex C (Ethernet header), clause 8.1.3 (encoding of data); ISO 9506-2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

ETHERTYPE: Final = b"\x88\xb8"
VLAN: Final = b"\x81\x00"
SIMULATED: Final = 0x8000  # of the first reserved word
ENTRIES_MAX: Final = 512
DEPTH_MAX: Final = 8

ARRAY, STRUCTURE, BOOLEAN, BITS, INTEGER, UNSIGNED, FLOAT = 0xA1, 0xA2, 0x83, 0x84, 0x85, 0x86, 0x87
OCTETS, TEXT, DAY_TIME, UNICODE, UTC = 0x89, 0x8A, 0x8C, 0x90, 0x91
PLAIN: Final = frozenset({BITS, OCTETS, TEXT, DAY_TIME, UNICODE, UTC})

REFERENCE, LIFE, DATA_SET, ID, STAMP, STATE, SEQUENCE = 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86
TEST, REVISION, COMMISSION, COUNT, DATA = 0x87, 0x88, 0x89, 0x8A, 0xAB
NEEDED: Final = frozenset({REFERENCE, LIFE, DATA_SET, STAMP, STATE, SEQUENCE, REVISION, COUNT, DATA})
KNOWN: Final = NEEDED | {ID, TEST, COMMISSION}


class GooseError(ValueError):
    """A frame that is no GOOSE message; `reason` is short and countable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class Value(NamedTuple):
    """One datum. value : float, int, bool, octets as they lie, or the children of an array or a structure"""

    tag: int
    value: float | int | bool | bytes | tuple[Value, ...]


class Message(NamedTuple):
    """What one frame says."""

    destination: bytes
    source: bytes
    app_id: int
    reference: str  # of the control block
    data_set: str
    ident: str
    life_ms: int  # timeAllowedToLive
    utc: bytes  # when the state began: UtcTime, 8 octets
    state: int  # stNum
    sequence: int  # sqNum
    test: bool  # simulation
    needs_commissioning: bool
    revision: int
    values: tuple[Value, ...]


def decode(frame: bytes) -> Message | None:
    """The message in an Ethernet frame; None for one of another kind.

    Raises GooseError with reason `short`, `length`, `tag`, `order`, `missing`, `value`, `count` or `depth`.
    """
    at = 16 if frame[12:14] == VLAN else 12
    if frame[at : at + 2] != ETHERTYPE:
        return None
    header = frame[at + 2 : at + 10]
    if len(header) < 8:
        raise GooseError("short", f"{len(frame)} octets")
    app_id, length, reserved, _ = struct.unpack(">4H", header)
    pdu = frame[at + 10 : at + 2 + length]
    if length < 8 or len(pdu) != length - 8:
        raise GooseError("length", f"header says {length} octets, {len(frame) - at - 2} are there")
    elements = _elements(pdu)
    life, state, sequence, revision, count = (
        _unsigned(elements[tag]) for tag in (LIFE, STATE, SEQUENCE, REVISION, COUNT)
    )
    values = tuple(_values(elements[DATA], 0))
    if len(values) != count:
        raise GooseError("count", f"{count} entries announced, {len(values)} there")
    if len(elements[STAMP]) != 8:
        raise GooseError("value", f"t has {len(elements[STAMP])} octets")
    return Message(
        frame[:6], frame[6:12], app_id, _text(elements[REFERENCE]), _text(elements[DATA_SET]),
        _text(elements.get(ID, b"")), life, elements[STAMP], state, sequence,
        _truth(elements.get(TEST, b"\0")) or bool(reserved & SIMULATED), _truth(elements.get(COMMISSION, b"\0")),
        revision, values,
    )  # fmt: skip


def _elements(pdu: bytes) -> dict[int, bytes]:
    """The elements of the PDU by tag, each once, in rising order as the standard lists them."""
    outer = list(_split(pdu))
    if len(outer) != 1 or outer[0][0] != 0x61:
        raise GooseError("tag", "no single goosePdu")
    found: dict[int, bytes] = {}
    last = 0
    for tag, body in _split(outer[0][1]):
        if tag not in KNOWN:
            raise GooseError("tag", f"element {tag:#04x}")
        if tag <= last:
            raise GooseError("order", f"element {tag:#04x} after {last:#04x}")
        found[tag] = body
        last = tag
    if not found.keys() >= NEEDED:
        raise GooseError("missing", ", ".join(f"{tag:#04x}" for tag in sorted(NEEDED - found.keys())))
    return found


def _split(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of each element; BER with definite lengths."""
    at = 0
    while at < len(octets):
        if at + 2 > len(octets):
            raise GooseError("short", "an element without a length")
        tag, length, at = octets[at], octets[at + 1], at + 2
        if length & 0x80:
            octs = length & 0x7F
            if not 1 <= octs <= 2 or at + octs > len(octets):
                raise GooseError("length", f"length of element {tag:#04x}")
            length, at = int.from_bytes(octets[at : at + octs]), at + octs
        if at + length > len(octets):
            raise GooseError("length", f"element {tag:#04x} of {length} octets, {len(octets) - at} there")
        yield tag, octets[at : at + length]
        at += length


def _values(octets: bytes, depth: int) -> Iterator[Value]:
    if depth > DEPTH_MAX:
        raise GooseError("depth", f"structures within more than {DEPTH_MAX} others")
    for number, (tag, body) in enumerate(_split(octets)):
        if number >= ENTRIES_MAX:
            raise GooseError("count", f"more than {ENTRIES_MAX} entries")
        yield Value(tag, _value(tag, body, depth))


def _value(tag: int, body: bytes, depth: int) -> float | int | bool | bytes | tuple[Value, ...]:
    if tag in (ARRAY, STRUCTURE):
        return tuple(_values(body, depth + 1))
    if tag == FLOAT:
        return _float(body)
    if tag == BOOLEAN:
        return _truth(body)
    if tag == INTEGER and 1 <= len(body) <= 9:
        return int.from_bytes(body, signed=True)
    if tag == UNSIGNED:
        return _unsigned(body)
    if tag == BITS and (not body or body[0] > 7 or (body[0] and len(body) < 2)):
        raise GooseError("value", "bit string")
    if tag == UTC and len(body) != 8:
        raise GooseError("value", f"UtcTime of {len(body)} octets")
    if tag in PLAIN:
        return body[1:] if tag == BITS else body
    raise GooseError("tag", f"datum {tag:#04x} of {len(body)} octets")


def _float(body: bytes) -> float:
    """FloatingPoint of ISO 9506: the exponent's width, then IEEE 754."""
    if len(body) == 5 and body[0] == 8:
        return float(struct.unpack(">f", body[1:])[0])
    if len(body) == 9 and body[0] == 11:
        return float(struct.unpack(">d", body[1:])[0])
    raise GooseError("value", f"float of {len(body)} octets")


def _unsigned(body: bytes) -> int:
    number = int.from_bytes(body, signed=True)
    # Some publishers leave out the sign's octet: four octets with the highest bit set are a number of 32 bits.
    number += 1 << 32 if number < 0 and len(body) == 4 else 0
    if not 1 <= len(body) <= 5 or not 0 <= number < 1 << 32:
        raise GooseError("value", f"unsigned {body[:8].hex()}")
    return number


def _truth(body: bytes) -> bool:
    if len(body) != 1:
        raise GooseError("value", f"boolean of {len(body)} octets")
    return body != b"\0"


def _text(body: bytes) -> str:
    if len(body) > 129 or not body.isascii():
        raise GooseError("value", f"text of {len(body)} octets")
    return body.decode("ascii")
