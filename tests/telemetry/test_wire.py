"""Blocks survive the wire, and whatever is no block is refused by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry import wire
from telemetry.samples import FREQUENCY, SESSION, VEHICLE, WISH, empty


@pytest.mark.parametrize("dtype", list(wire.KINDS), ids=lambda dtype: wire.KINDS[dtype])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_every_kind_returns_as_it_went(dtype, rows):
    raw = np.random.default_rng(rows).integers(0, 256, rows * dtype.itemsize, dtype=np.uint8).tobytes()
    block = np.frombuffer(raw, dtype)
    back = wire.decode(wire.encode(block))
    assert back.dtype == dtype
    assert back.tobytes() == raw
    assert not back.flags.writeable


def test_layout_is_pinned():
    """Journals outlive versions: the bytes of a known block are written down here."""
    block = empty(VEHICLE, 1)
    block["t_ns"], block["slot"], block["power_kw"] = 1, 2, -1.5
    assert wire.encode(block) == (
        b"FB\x02\x02" + (40).to_bytes(2, "little") + b"\0\0" + (1).to_bytes(4, "little")
        + (1).to_bytes(8, "little") + bytes(8) + (2).to_bytes(4, "little") + bytes(4)
        + b"\x00\x00\xc0\xbf" + bytes(12)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "kind", "itemsize", "offsets"),
    [
        (
            SESSION,
            3,
            136,
            {"vehicle": 24, "capacity_kwh": 48, "min_kw": 96, "wear": 108, "depart_ns": 112, "state": 128},
        ),
        (VEHICLE, 2, 40, {"power_kw": 24, "soc_frac": 28, "state": 32, "temp_c": 36}),
        (WISH, 6, 40, {"t_ns": 0, "rx_ns": 8, "until_ns": 16, "slot": 24, "session": 28, "wish": 32}),
    ],
    ids=["session", "vehicle", "wish"],
)
def test_rows_lie_where_they_lay(dtype, kind, itemsize, offsets):
    """Of version 2: a field moved or widened needs a new one."""
    assert (wire.VERSION, wire.KINDS[dtype], dtype.itemsize) == (2, kind, itemsize)
    assert {name: dtype.fields[name][1] for name in offsets} == offsets


def _damaged():
    good = wire.encode(empty(FREQUENCY, 2))
    yield "short", good[:11]
    yield "short", b""
    yield "magic", b"XX" + good[2:]
    yield "version", good[:2] + b"\x01" + good[3:]
    yield "version", good[:2] + b"\x03" + good[3:]
    yield "kind", good[:3] + b"\xff" + good[4:]
    yield "itemsize", good[:4] + SESSION.itemsize.to_bytes(2, "little") + good[6:]
    yield "length", good[:-1]
    yield "length", good + b"\0"


@pytest.mark.parametrize(("reason", "data"), list(_damaged()))
def test_damage_is_named(reason, data):
    with pytest.raises(wire.WireError) as caught:
        wire.decode(data)
    assert caught.value.reason == reason


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_a_block_or_a_named_error(data, with_header):
    if with_header:
        data = b"FB\x02" + data
    reason, block = None, None
    try:
        block = wire.decode(data)
    except wire.WireError as error:
        reason = error.reason
    assert reason in {None, "short", "magic", "version", "kind", "itemsize", "length"}
    assert block is None or wire.encode(block)[8:] == data[8:]
