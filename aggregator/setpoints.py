"""The set-point message: what a worker tells a gateway, packed and signed.

Pure functions on bytes, no clock and no memory: whether a message is new, late or out of order is the sink's to say
(`aggregator.sink`). A reader trusts nothing before the signature is checked; each defect has a name to be counted by.

Layout, little endian: the header below, `count` rows of SETPOINT, HMAC-SHA256 over all that precedes it.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

MAGIC: Final = b"FS"
VERSION: Final = 1
# magic, version u8, flags u8, key_id u32, epoch u64, sequence u64, t_ns i64, issued_ns i64, valid_until_ns i64,
# count u32
HEADER: Final = struct.Struct("<2sBBIQQqqqI")
DIGEST: Final = "sha256"
DIGEST_BYTES: Final = 32
KEY_BYTES_MIN: Final = 16  # NIST SP 800-107 5.3.4: a shorter key weakens the code

SETPOINT: Final = np.dtype(
    [
        ("slot", "<u4"),
        ("session", "<u4"),  # a set-point for a car that has left is recognised by it
        ("setpoint_kw", "<f4"),  # positive into the grid
    ]
)

Rows = npt.NDArray[Any]


class SetpointError(ValueError):
    """Bytes that are no set-point message; `reason` is short and countable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class SetpointMessage(NamedTuple):
    """A message whose signature was good.

    rows : SETPOINT[count], read-only
    """

    key_id: int
    flags: int  # reserved, 0
    epoch: int  # of the worker's lease
    sequence: int  # rises by one a message within an epoch
    t_ns: int  # source time of the sample that caused it
    issued_ns: int
    valid_until_ns: int  # from then on the charger follows its safe profile
    rows: Rows


def encode(
    rows: Rows,
    key: bytes,
    *,
    key_id: int,
    epoch: int,
    sequence: int,
    t_ns: int,
    issued_ns: int,
    valid_until_ns: int,
    flags: int = 0,
) -> bytes:
    """A signed message.

    rows : SETPOINT[n], finite set-points
    key : at least 16 bytes

    Raises SetpointError with reason `key` or `nan`: what a sink would refuse is not sent.
    """
    if len(key) < KEY_BYTES_MIN:
        raise SetpointError("key", f"key {key_id} has {len(key)} bytes, take at least {KEY_BYTES_MIN}")
    if not np.isfinite(rows["setpoint_kw"]).all():
        raise SetpointError("nan", "setpoint_kw must be finite")
    body = HEADER.pack(
        MAGIC, VERSION, flags, key_id, epoch, sequence, t_ns, issued_ns, valid_until_ns, rows.size
    ) + rows.astype(SETPOINT, copy=False).tobytes()  # fmt: skip
    return body + hmac.digest(key, body, DIGEST)


def decode(data: bytes, keys: Mapping[int, bytes]) -> SetpointMessage:
    """The message that `encode` made.

    keys : key_id -> key, all that are good now

    Raises SetpointError with reason `short`, `magic`, `version`, `length`, `key`, `forged` or `nan`.
    """
    if len(data) < HEADER.size + DIGEST_BYTES:
        raise SetpointError("short", f"{len(data)} bytes, an empty message takes {HEADER.size + DIGEST_BYTES}")
    magic, version, flags, key_id, epoch, sequence, t_ns, issued_ns, valid_until_ns, count = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise SetpointError("magic", f"{magic!r}")
    if version != VERSION:
        raise SetpointError("version", f"{version}, this reader knows {VERSION}")
    if len(data) != HEADER.size + count * SETPOINT.itemsize + DIGEST_BYTES:
        raise SetpointError("length", f"{len(data)} bytes for {count} rows")
    key = keys.get(key_id)
    if key is None or len(key) < KEY_BYTES_MIN:
        raise SetpointError("key", f"no usable key {key_id}")
    view = memoryview(data)
    if not hmac.compare_digest(hmac.digest(key, view[:-DIGEST_BYTES], DIGEST), view[-DIGEST_BYTES:]):
        raise SetpointError("forged", f"signature does not match key {key_id}")
    rows = np.frombuffer(data, SETPOINT, count, HEADER.size)
    if not np.isfinite(rows["setpoint_kw"]).all():
        raise SetpointError("nan", "a set-point is not a number")
    return SetpointMessage(key_id, flags, epoch, sequence, t_ns, issued_ns, valid_until_ns, rows)
