"""The fleet as one packed snapshot: what the worker shows of its columns once a second.

This file knows the layout alone: no I/O, no clock, no engine. One string key carries the whole fleet, because
a key per vehicle costs some 250 times more than a packed block (measured).

Layout, little endian: t_ns i8, count i8; then `count` rows of `FLEETVIEW`.
Positive power is into the grid.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

HEADER: Final = struct.Struct("<qq")

FLEETVIEW = np.dtype(
    [
        ("slot", "<u4"),  # the charger's place in the fleet
        ("session", "<u4"),  # how many vehicles it has served
        ("vehicle", "S24"),  # empty where nothing is plugged in
        ("state", "u1"),  # telemetry.samples.SlotState
        ("reason_up", "u1"),  # droop.reasons.Reason: why no more discharge
        ("reason_down", "u1"),  # why no more charge
        ("pad", "u1"),
        ("setpoint_kw", "<f4"),  # last commanded
        ("measured_kw", "<f4"),  # last reported
        ("soc_frac", "<f4"),
        ("lo_kw", "<f4"),
        ("hi_kw", "<f4"),
        ("plan_kw", "<f4"),  # the charging plan: its part of the declared baseline
        ("age_s", "<f4"),  # of the last report
    ]
)

Rows = npt.NDArray[Any]


class ViewError(ValueError):
    """Bytes that are not a fleet view; `reason` is short and countable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def encode(t_ns: int, rows: Rows) -> bytes:
    """A snapshot taken at `t_ns` as bytes. rows : FLEETVIEW[n]"""
    if rows.dtype != FLEETVIEW:
        raise ViewError("dtype", f"{rows.dtype} is not FLEETVIEW")
    return HEADER.pack(t_ns, rows.size) + rows.tobytes()


def header(data: bytes) -> tuple[int, int]:
    """(t_ns, count) from the first 16 bytes alone. Raises ViewError `short` or `count`."""
    if len(data) < HEADER.size:
        raise ViewError("short", f"{len(data)} bytes, header takes {HEADER.size}")
    t_ns, count = HEADER.unpack_from(data)
    if count < 0:
        raise ViewError("count", f"{count} rows")
    return t_ns, count


def decode(data: bytes) -> tuple[int, Rows]:
    """(t_ns, FLEETVIEW[n]) that `encode` packed; read-only, sharing memory with `data`.

    Raises ViewError with reason `short`, `count` or `length`.
    """
    t_ns, count = header(data)
    if len(data) != HEADER.size + count * FLEETVIEW.itemsize:
        raise ViewError("length", f"{len(data)} bytes for {count} rows of {FLEETVIEW.itemsize}")
    return t_ns, np.frombuffer(data, FLEETVIEW, count, HEADER.size)
