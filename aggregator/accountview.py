"""The vehicles' accounts of the interval closed last, as one packed record: what the settlement shows the API.

This file knows the layout alone: no I/O, no clock. Layout, little endian: start_ns i8, end_ns i8, count i8; then
`count` rows of `settlement.accounts.ACCOUNT`.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from aggregator.records import Block
from settlement.accounts import ACCOUNT, Closed

HEADER: Final = struct.Struct("<qqq")


class AccountViewError(ValueError):
    """Bytes that are no such record; `reason` is short and countable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def key(area: str) -> str:
    """Where it lies."""
    return f"accounts:{area}"


def encode(closed: Closed) -> bytes:
    """An interval's accounts as bytes."""
    return HEADER.pack(closed.start_ns, closed.end_ns, closed.rows.size) + closed.rows.tobytes()


def decode(data: bytes) -> Block:
    """ACCOUNT[n], read-only. Raises AccountViewError with reason `short` or `length`."""
    if len(data) < HEADER.size:
        raise AccountViewError("short", f"{len(data)} bytes, header takes {HEADER.size}")
    count = HEADER.unpack_from(data)[2]
    if count < 0 or len(data) != HEADER.size + count * ACCOUNT.itemsize:
        raise AccountViewError("length", f"{len(data)} bytes for {count} rows of {ACCOUNT.itemsize}")
    return np.frombuffer(data, ACCOUNT, count, HEADER.size)
