"""Does the loaded library do what its declared signatures say? Asked in memory at every load, without a socket.

A wrong signature crashes or reads foreign memory without a word, months later. Each function that reads or writes a
report is called here on values we know, in a fraction of a millisecond: octets, bit order, floats with their sign,
nested elements, and a report control block's fields. What needs a connection is tested by the suite, against servers.
"""

from __future__ import annotations

import ctypes as c
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

from telemetry.iec61850.errors import LibraryVersion

UTC: Final = bytes.fromhex("6553f1008000008a")
ENTRY: Final = bytes.fromhex("0102030405060708")
QUALITY: Final = 0x0B02  # test, operator blocked and invalid: bits on both octets
HZ: Final = -49.984375  # exact in FLOAT32
STRUCTURE, BIT_STRING, FLOAT, UTC_TIME = 1, 3, 6, 14  # MmsType, as layout.py has them


def check(call: SimpleNamespace, leaf: SimpleNamespace) -> None:
    """Raises LibraryVersion, naming the first function whose answer is not the one expected."""
    for name, got, expected in (*_values(call, leaf), *_block(call, leaf)):
        if got != expected:
            raise LibraryVersion(
                f"libiec61850 fails the self-test at {name} (got {got!r}, expected {expected!r}): "
                "reinstall 'pyiec61850-ng>=1.6.1,<1.7', or choose backend open61850"
            )


def _values(call: SimpleNamespace, leaf: SimpleNamespace) -> Iterator[tuple[str, Any, Any]]:
    """A measured value (f, q, t) as a structure of MMS values."""
    whole = leaf.MmsValue_createEmptyStructure(3)
    try:
        number, bits, stamp = leaf.MmsValue_newFloat(0.0), leaf.MmsValue_newBitString(13), leaf.MmsValue_newUtcTime(0)
        for index, value in enumerate((number, bits, stamp)):
            leaf.MmsValue_setElement(whole, index, value)
        leaf.MmsValue_setFloat(number, HZ)
        leaf.MmsValue_setBitStringFromInteger(bits, QUALITY)
        leaf.MmsValue_setUtcTimeByBuffer(stamp, UTC)
        kinds = [leaf.MmsValue_getType(leaf.MmsValue_getElement(whole, index)) for index in range(3)]
        yield "MmsValue_getType", (leaf.MmsValue_getType(whole), *kinds), (STRUCTURE, FLOAT, BIT_STRING, UTC_TIME)
        yield (
            "MmsValue_getElement",
            (leaf.MmsValue_getElement(whole, 3), leaf.MmsValue_getElement(number, 0)),
            (None,) * 2,
        )
        yield "MmsValue_toDouble", leaf.MmsValue_toDouble(leaf.MmsValue_getElement(whole, 0)), HZ
        yield "MmsValue_getBitStringAsInteger", leaf.MmsValue_getBitStringAsInteger(bits), QUALITY
        yield "MmsValue_getUtcTimeBuffer", c.string_at(leaf.MmsValue_getUtcTimeBuffer(stamp), 8), UTC
    finally:
        call.MmsValue_delete(whole)


def _block(call: SimpleNamespace, leaf: SimpleNamespace) -> Iterator[tuple[str, Any, Any]]:
    """A report control block, as it is before it is sent."""
    prefix = "ClientReportControlBlock_"
    block = call.ClientReportControlBlock_create(b"LD/LLN0.BR.brcb01")
    octets = leaf.MmsValue_newOctetString(8, 8)
    try:
        leaf.MmsValue_setOctetString(octets, ENTRY, len(ENTRY))
        yield "MmsValue_getOctetStringBuffer", read_octets(leaf, octets), ENTRY
        for field, value in (("TrgOps", 31), ("OptFlds", 0xEF), ("IntgPd", 1234), ("RptEna", True), ("ResvTms", -1)):
            getattr(call, f"{prefix}set{field}")(block, value)
            yield f"{prefix}get{field}", getattr(call, f"{prefix}get{field}")(block), value
        call.ClientReportControlBlock_setEntryId(block, octets)
        yield f"{prefix}getEntryId", read_octets(leaf, call.ClientReportControlBlock_getEntryId(block)), ENTRY
    finally:
        call.MmsValue_delete(octets)
        call.ClientReportControlBlock_destroy(block)


def read_octets(leaf: SimpleNamespace, value: int | None) -> bytes:
    """The octets of an MMS octet string; nothing for nothing."""
    if not value:
        return b""
    return c.string_at(leaf.MmsValue_getOctetStringBuffer(value), leaf.MmsValue_getOctetStringSize(value))
