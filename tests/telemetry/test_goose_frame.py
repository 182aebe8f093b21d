"""The GOOSE decoder against frames of open61850, against its strict decoder, and against noise."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from telemetry.goose_frame import BITS, BOOLEAN, FLOAT, INTEGER, STRUCTURE, UNSIGNED, GooseError, Message, Value, decode
from telemetry.goose_frame import UTC as UTC_TAG
from telemetry.iec61850.mapping import decode_utc

HOME = b"\x01\x0c\xcd\x01\x00\x01"
AWAY = b"\x02\x00\x00\x00\x00\x07"
REF = "GRIDMEAS/LLN0$GO$gcbHz"


def tlv(tag: int, body: bytes) -> bytes:
    """BER, definite length: our own encoder, for what no library would send."""
    size = len(body)
    head = bytes([size]) if size < 128 else b"\x81" + bytes([size]) if size < 256 else b"\x82" + struct.pack(">H", size)
    return bytes([tag]) + head + body


def elements(**changed: Any) -> list[tuple[int, bytes]]:
    """The PDU's elements in order; a change to None leaves one out."""
    made: dict[str, tuple[int, Any]] = {
        "reference": (0x80, REF.encode()), "life": (0x81, b"\x01\xf4"), "data_set": (0x82, b"GRIDMEAS/LLN0$Freq"),
        "ident": (0x83, b"hz"), "t": (0x84, bytes(8)), "state": (0x85, b"\x07"), "sequence": (0x86, b"\x03"),
        "test": (0x87, b"\0"), "revision": (0x88, b"\x01"), "commission": (0x89, b"\0"), "count": (0x8A, b"\x01"),
        "data": (0xAB, tlv(FLOAT, b"\x08" + struct.pack(">f", 50.0))),
    }  # fmt: skip
    return [(tag, changed.get(name, body)) for name, (tag, body) in made.items() if changed.get(name, body) is not None]


def frame(parts: list[tuple[int, bytes]], vlan: bytes = b"", reserved: int = 0, extra: int = 0) -> bytes:
    pdu = tlv(0x61, b"".join(tlv(tag, body) for tag, body in parts))
    return HOME + AWAY + vlan + b"\x88\xb8" + struct.pack(">4H", 0x1001, len(pdu) + 8 + extra, reserved, 0) + pdu


def decoded(octets: bytes) -> Message:
    message = decode(octets)
    assert message is not None
    return message


def refused(octets: bytes) -> str:
    with pytest.raises(GooseError) as caught:
        decode(octets)
    return caught.value.reason


def test_every_element_is_read() -> None:
    got = decoded(frame(elements(), vlan=b"\x81\x00\x80\x05") + bytes(20))  # padding of a short frame
    assert got == Message(
        HOME, AWAY, 0x1001, REF, "GRIDMEAS/LLN0$Freq", "hz", 500, bytes(8), 7, 3, False, False, 1, (Value(FLOAT, 50.0),)
    )
    assert decoded(frame(elements(test=b"\x01"))).test
    assert decoded(frame(elements(), reserved=0x8000)).test
    assert decoded(frame(elements(commission=b"\xff"))).needs_commissioning
    bare = decoded(frame(elements(ident=None, test=None, commission=None)))
    assert (bare.ident, bare.test, bare.needs_commissioning) == ("", False, False)
    assert decoded(frame(elements(state=b"\x00\xff\xff\xff\xff"))).state == 2**32 - 1
    assert decoded(frame(elements(state=b"\xff\xff\xff\xfe"))).state == 2**32 - 2  # without the sign's octet


def test_every_kind_of_datum_is_read() -> None:
    data = b"".join(
        tlv(tag, body)
        for tag, body in (
            (STRUCTURE, tlv(STRUCTURE, tlv(FLOAT, b"\x0b" + struct.pack(">d", -1.5))) + tlv(BITS, b"\x03\x40\x00")),
            (BOOLEAN, b"\x01"), (INTEGER, b"\xfe"), (UNSIGNED, b"\x00\xc8"), (0x89, b"ab"), (0x8A, b"txt"),
            (UTC_TAG, b"12345678"), (0x90, b"\xc3\xa4"), (0x8C, b"123456"),
        )
    )  # fmt: skip
    got = decoded(frame(elements(data=data, count=b"\x09"))).values
    assert got[0] == Value(STRUCTURE, (Value(STRUCTURE, (Value(FLOAT, -1.5),)), Value(BITS, b"\x40\x00")))
    assert [value.value for value in got[1:]] == [
        True, -2, 200, b"ab", b"txt", b"12345678", b"\xc3\xa4", b"123456",
    ]  # fmt: skip


def test_frames_of_other_kinds_are_not_ours() -> None:
    for octets in (b"", b"\0" * 13, HOME + AWAY + b"\x08\x00" + bytes(60), HOME + AWAY + b"\x88\xba" + bytes(60)):
        assert decode(octets) is None


deep = tlv(FLOAT, b"\x08" + bytes(4))
for _ in range(12):
    deep = tlv(STRUCTURE, deep)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (frame(elements())[:20], "short"),
        (frame(elements())[:-1], "length"),
        (frame(elements(), extra=4), "length"),
        (frame(elements(data=b"\x87\x05\x08"), extra=0), "length"),
        (frame(elements(data=b"\x87\x80\x08")), "length"),
        (frame(elements(data=b"\x87\x83\x00\x00\x01")), "length"),
        (frame(elements(data=b"\x87")), "short"),
        (frame([*elements(), (0x8C, b"")]), "tag"),
        (frame(elements(data=tlv(0x99, b"1"))), "tag"),
        (frame(elements(data=tlv(INTEGER, b""))), "tag"),
        (HOME + AWAY + b"\x88\xb8\x10\x01\x00\x0a\0\0\0\0\x60\x00", "tag"),
        (frame([elements()[1], elements()[0], *elements()[2:]]), "order"),
        (frame([elements()[0], *elements()]), "order"),
        *(
            (frame(elements(**{name: None})), "missing")
            for name in ("reference", "life", "t", "state", "count", "data")
        ),
        (frame(elements(count=b"\x02")), "count"),
        (frame(elements(data=b"")), "count"),
        (frame(elements(data=tlv(BOOLEAN, b"\0") * 600, count=b"\x02\x58")), "count"),
        (frame(elements(t=bytes(7))), "value"),
        (frame(elements(life=b"")), "value"),
        (frame(elements(life=b"\xff")), "value"),
        (frame(elements(life=bytes(6))), "value"),
        (frame(elements(test=b"\0\0")), "value"),
        (frame(elements(reference=b"x" * 130)), "value"),
        (frame(elements(reference=b"\xff")), "value"),
        (frame(elements(data=tlv(FLOAT, bytes(5)))), "value"),
        (frame(elements(data=tlv(FLOAT, b"\x08" + bytes(3)))), "value"),
        (frame(elements(data=tlv(BITS, b""))), "value"),
        (frame(elements(data=tlv(BITS, b"\x08\0"))), "value"),
        (frame(elements(data=tlv(UTC_TAG, bytes(7)))), "value"),
        (frame(elements(data=deep)), "depth"),
    ],
)
def test_each_defect_has_its_name(octets: bytes, reason: str) -> None:
    assert refused(octets) == reason


# ---- against open61850


def foreign(values: list[Any], **more: Any) -> bytes:
    """A frame as open61850 makes it."""
    goose = pytest.importorskip("open61850.goose")
    pdu = goose.GoosePDU(
        gocb_ref=REF, time_allowed_to_live=500, dat_set="GRIDMEAS/LLN0$Freq", go_id="hz",
        timestamp=more.pop("timestamp", datetime(2026, 1, 2, tzinfo=UTC)), st_num=more.pop("st_num", 7),
        sq_num=more.pop("sq_num", 3), simulation=False, conf_rev=1, nds_com=False, num_dat_set_entries=len(values),
        all_data=values, **more,
    )  # fmt: skip
    made: bytes = goose.encode_goose_frame(pdu, dst_mac="01:0c:cd:01:00:01", src_mac="02:00:00:00:00:07", app_id=0x1001)
    return made


@settings(deadline=None)
@given(
    hz=st.floats(width=32, allow_nan=True), quality=st.binary(min_size=2, max_size=2),
    micros=st.integers(0, 4 * 10**15), octet=st.integers(0, 255), state=st.integers(1, 2**32 - 1),
    sequence=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_what_open61850_sends_is_what_we_read(
    hz: float, quality: bytes, micros: int, octet: int, state: int, sequence: int
) -> None:
    data = pytest.importorskip("open61850.data")
    quality = bytes([quality[0], quality[1] & 0xF8])
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    values = [data.FloatData(hz), data.BitStringData(quality, 3), data.TimestampData(when, quality=octet)]
    got = decoded(foreign(values, timestamp=when, st_num=state, sq_num=sequence, time_quality=octet))
    assert (got.state, got.sequence, got.life_ms, got.reference) == (state, sequence, 500, REF)
    assert got.values[0].value == hz or (math.isnan(hz) and math.isnan(float(got.values[0].value)))  # type: ignore[arg-type]
    assert got.values[1] == Value(BITS, quality)
    for octets in (got.utc, got.values[2].value):
        t_ns, seen = decode_utc(octets)  # type: ignore[arg-type]
        assert seen == octet
        assert abs(t_ns - micros * 1000) <= 100


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_frame_is_refused_or_read_like_open61850_reads_it(data: st.DataObject) -> None:
    """What we let pass, its strict decoder lets pass as well, with the same numbers: nothing is made up."""
    goose = pytest.importorskip("open61850.goose")
    octets = bytearray(frame(elements(), vlan=data.draw(st.sampled_from([b"", b"\x81\x00\x80\x05"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(12, len(octets) - 1))
        match data.draw(st.sampled_from(["flip", "drop", "add", "cut"])):
            case "flip":
                octets[at] = data.draw(st.integers(0, 255))
            case "drop":
                del octets[at]
            case "add":
                octets.insert(at, data.draw(st.integers(0, 255)))
            case "cut":
                del octets[at + 1 :]
        assume(len(octets) > 14)
    try:
        ours = decode(bytes(octets))
    except GooseError:
        return
    if ours is None:
        return
    theirs = goose.decode_goose_frame(bytes(octets))
    assert theirs is not None
    pdu = theirs[1]
    assert (ours.reference, ours.state, ours.sequence, ours.life_ms, ours.revision) == (
        pdu.gocb_ref, pdu.st_num, pdu.sq_num, pdu.time_allowed_to_live, pdu.conf_rev,
    )  # fmt: skip
    assert len(ours.values) == len(pdu.all_data)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused_by_name_and_never_raises_anything_else(noise: bytes) -> None:
    pdu = tlv(0x61, noise)
    whole = HOME + AWAY + b"\x88\xb8" + struct.pack(">4H", 1, len(pdu) + 8, 0, 0) + pdu
    for octets in (noise, HOME + AWAY + b"\x88\xb8" + noise, HOME + AWAY + b"\x88\xb8\x10\x01" + noise, whole):
        reason = ""
        try:
            decode(octets)
        except GooseError as error:
            reason = error.reason
        assert reason in {"", "short", "length", "tag", "order", "missing", "value", "count", "depth"}
