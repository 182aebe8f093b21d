"""Block <-> bytes: a versioned header and the rows as they lie in memory.

Pure functions, no I/O. A reader never trusts a length: every defect has a name of its own, so that the
door that refuses a block can count it by reason.

Layout, little endian: magic "FB", version u8, kind u8, item size u16, reserved u16, count u32; then the rows.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from telemetry.samples import FREQUENCY, POWER, SESSION, SIGNAL, VEHICLE, WISH, Block

MAGIC: Final = b"FB"
VERSION: Final = 2
HEADER: Final = struct.Struct("<2sBBHHI")
DTYPES: Final = {1: FREQUENCY, 2: VEHICLE, 3: SESSION, 4: POWER, 5: SIGNAL, 6: WISH}
KINDS: Final = {dtype: kind for kind, dtype in DTYPES.items()}


class WireError(ValueError):
    """Bytes that are not a block; `reason` is short and countable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def encode(block: Block) -> bytes:
    """A block of one of the known dtypes as bytes."""
    kind = KINDS[block.dtype]
    return HEADER.pack(MAGIC, VERSION, kind, block.dtype.itemsize, 0, block.size) + block.tobytes()


def decode(data: bytes) -> Block:
    """The block that `encode` made; read-only, sharing memory with `data`.

    Raises WireError with reason `short`, `magic`, `version`, `kind`, `itemsize` or `length`.
    """
    if len(data) < HEADER.size:
        raise WireError("short", f"{len(data)} bytes, header takes {HEADER.size}")
    magic, version, kind, itemsize, _, count = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise WireError("magic", f"{magic!r}")
    if version != VERSION:
        raise WireError("version", f"{version}, this reader knows {VERSION}")
    dtype = DTYPES.get(kind)
    if dtype is None:
        raise WireError("kind", f"{kind}")
    if itemsize != dtype.itemsize:
        raise WireError("itemsize", f"{itemsize}, kind {kind} takes {dtype.itemsize}")
    if len(data) != HEADER.size + count * itemsize:
        raise WireError("length", f"{len(data)} bytes for {count} rows of {itemsize}")
    return np.frombuffer(data, dtype, count, HEADER.size)
