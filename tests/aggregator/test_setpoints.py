"""Set-point messages: what goes out comes back, and every forgery or damage has its name."""

import hashlib
import hmac as reference
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.setpoints import SETPOINT, SetpointError, decode, encode

KEY = bytes(range(32))
KEYS = {1: KEY, 2: b"\xff" * 16, 3: b"too short"}
HEADER = {"key_id": 1, "epoch": 5, "sequence": 6, "t_ns": 7, "issued_ns": 8, "valid_until_ns": 9}
u4, u8, i8 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)


def rows_of(*setpoints_kw):
    rows = np.zeros(len(setpoints_kw), SETPOINT)
    rows["slot"] = np.arange(len(setpoints_kw)) + 100
    rows["session"] = 3
    rows["setpoint_kw"] = setpoints_kw
    return rows


def signed(body, key=KEY):
    return body + reference.new(key, body, hashlib.sha256).digest()


def reason(data):
    with pytest.raises(SetpointError) as caught:
        decode(data, KEYS)
    return caught.value.reason


@given(
    st.lists(st.tuples(u4, u4, st.floats(-1e6, 1e6, width=32)), max_size=20), u8, u8, i8, i8, i8, st.integers(0, 255)
)
def test_what_goes_out_comes_back(raw, epoch, sequence, t_ns, issued_ns, valid_until_ns, flags):
    rows = np.array(raw, SETPOINT)
    stamps = {"t_ns": t_ns, "issued_ns": issued_ns, "valid_until_ns": valid_until_ns}
    message = decode(encode(rows, KEY, key_id=1, epoch=epoch, sequence=sequence, flags=flags, **stamps), KEYS)
    assert message[:-1] == (1, flags, epoch, sequence, t_ns, issued_ns, valid_until_ns)
    assert message.rows.tobytes() == rows.tobytes()
    assert not message.rows.flags.writeable


def test_layout_and_signature_are_pinned():
    """Spelled out with the standard library alone: gateways of other makes must agree with it."""
    body = struct.pack("<2sBBIQQqqqI", b"FS", 1, 0, 1, 5, 6, 7, 8, 9, 2)
    body += struct.pack("<IIf", 100, 3, 1.5) + struct.pack("<IIf", 101, 3, -2.0)
    assert encode(rows_of(1.5, -2.0), KEY, **HEADER) == signed(body)
    assert len(body) == 52 + 2 * 12


def test_a_strided_block_is_packed():
    wide = np.zeros(6, [("slot", "<u4"), ("session", "<u4"), ("setpoint_kw", "<f4"), ("more", "<f8")])
    wide["slot"] = np.arange(6)
    rows = wide[["slot", "session", "setpoint_kw"]][::2]
    assert list(decode(encode(rows, KEY, **HEADER), KEYS).rows["slot"]) == [0, 2, 4]


def _damaged():
    good = encode(rows_of(1.0, 2.0), KEY, **HEADER)
    body = good[:-32]
    yield "short", b""
    yield "short", good[:83]
    yield "magic", signed(b"FB" + body[2:])
    yield "version", signed(b"FS\x02" + body[3:])
    yield "length", good + b"\0"
    yield "length", good[:-1]
    yield "length", signed(body[:48] + struct.pack("<I", 2**32 - 1) + body[52:])
    yield "key", signed(body[:4] + struct.pack("<I", 9) + body[8:])
    yield "key", signed(body[:4] + struct.pack("<I", 3) + body[8:], KEYS[3])
    yield "forged", good[:-32] + bytes(32)
    yield "forged", signed(body[:4] + struct.pack("<I", 2) + body[8:])  # another key of ours, signed with this one
    yield "nan", signed(body[:-4] + struct.pack("<f", float("nan")))
    yield "nan", signed(body[:-4] + struct.pack("<f", float("inf")))


@pytest.mark.parametrize(("name", "data"), list(_damaged()))
def test_damage_is_named(name, data):
    assert reason(data) == name


@given(st.data())
def test_no_single_bit_can_be_changed(data):
    good = encode(rows_of(1.0, -3.0), KEY, **HEADER)
    bit = data.draw(st.integers(0, len(good) * 8 - 1))
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    assert reason(bytes(bad)) in {"magic", "version", "length", "key", "forged"}


def test_what_a_sink_would_refuse_is_not_sent():
    for rows, key, name in ((rows_of(float("nan")), KEY, "nan"), (rows_of(1.0), b"short", "key")):
        with pytest.raises(SetpointError) as caught:
            encode(rows, key, **HEADER)
        assert caught.value.reason == name
