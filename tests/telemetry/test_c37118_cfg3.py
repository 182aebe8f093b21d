"""CFG-3: built by hand octet by octet, read, put together from parts, asked for and fallen back from."""

from __future__ import annotations

import math
import struct
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.c37118 import REASONS, make_client, writer
from telemetry.c37118.cfg3 import LARGEST, Parts, read_cfg3
from telemetry.c37118.configuration import Configuration, read_configuration
from telemetry.c37118.errors import FrameError
from telemetry.c37118.frames import Command, Kind, frame, head_of, read_head
from telemetry.c37118.intake import Intake
from telemetry.c37118.quality import phase_voltages, smallest
from telemetry.c37118.session import REPEAT_NS, Session
from telemetry.c37118.simulator import SimulatedPmu

T0_NS = 1_700_000_000_000_000_000
VOLT = 11_547.0
ONE = writer.Pmu("ONE", 7, nominal_volt=VOLT)
TWO = writer.Pmu("TWO", 8, floats=False, polar=False, nominal_volt=VOLT, nominal_hz=60.0)


def name(text: str) -> bytes:
    return bytes((len(text.encode()),)) + text.encode()


def station(
    *, form: int, phasors: list[tuple[str, int, float, float]], analogs: list[str] = (), digitals: int = 0,  # type: ignore[assignment]
    fnom: int = 1, title: str = "Höhe", idcode: int = 7,
) -> bytes:  # fmt: skip
    """Table 10 by hand. phasors : (name, type octet, scale, angle)"""
    octets = name(title) + struct.pack(">H", idcode) + b"0123456789abcdef"
    octets += struct.pack(">HHHH", form, len(phasors), len(analogs), digitals)
    octets += b"".join(name(p[0]) for p in phasors) + b"".join(map(name, analogs))
    octets += b"".join(name(f"bit {k}") for k in range(16 * digitals))
    for _, kind, scale, angle in phasors:
        octets += struct.pack(">HBBff", 0, kind, 9, scale, angle)
    octets += len(analogs) * struct.pack(">ff", 2.0, 1.0) + digitals * struct.pack(">HH", 0xF0F0, 0x00FF)
    octets += struct.pack(">fff", 47.4, 8.5, 500.0) + b"M" + struct.pack(">ii", 40_000, 20_000)
    return octets + struct.pack(">HH", fnom, 3)


def whole(*stations: bytes, rate: int = 50, time_base: int = 1_000_000, end: bytes = b"") -> bytes:
    return struct.pack(">IH", time_base, len(stations)) + b"".join(stations) + struct.pack(">h", rate) + end


def cfg3(body: bytes, index: int = 0, stream: int = 60) -> bytes:
    return frame(Kind.CFG3, stream, T0_NS // 10**9, 0, struct.pack(">H", index) + body)


def read(octets: bytes) -> Configuration:
    head = read_head(octets)
    body = Parts().take(octets, head)
    assert body is not None
    return read_cfg3(body, head)


PHASES = [("eins", 4, 0.5, 0.1), ("zwei", 5, 0.5, 0.0), ("I", 4 | 8, 0.25, 0.0), ("null", 0, 0.5, 0.0)]


def test_every_field_of_a_frame_made_by_hand() -> None:
    octets = cfg3(whole(station(form=1, phasors=PHASES, analogs=["MW"], digitals=1)))
    found = read(octets)
    assert (found.kind, found.idcode, found.time_base, found.rate) == (Kind.CFG3, 60, 1_000_000, 50)
    (one,) = found.stations
    assert (one.name, one.idcode, one.nominal_hz, one.changes) == ("Höhe", 7, 50, 3)
    assert [(p.name, p.current, p.component) for p in one.phasors] == [
        ("eins", False, 4), ("zwei", False, 5), ("I", True, 4), ("null", False, 0),
    ]  # fmt: skip
    assert one.phasors[0].angle_rad == pytest.approx(0.1)
    assert [analog.name for analog in one.analogs] == ["MW"]
    assert (one.digitals[0].names[15], one.digitals[0].normal, one.digitals[0].valid) == ("bit 15", 0xF0F0, 0x00FF)
    assert phase_voltages(one) == (0, 1)  # by their component: no name sounds like a phase
    words = struct.pack(">HHhHhHhHhhhhH", 0x80, 23_000, 1000, 22_000, 0, 40, 0, 7, 0, -20, 5, 12, 0xAAAA)
    values = one.values(one.layout.unpack(words))
    assert values.phasors[0] == pytest.approx((11_500.0, 0.1))
    assert values.phasors[2] == pytest.approx((10.0, 0.0))
    assert values.hz == 49.98
    assert smallest(one, one.layout.unpack(words), (0, 1)) == pytest.approx(11_000.0)


@pytest.mark.parametrize("form", [2 | 8, 1 | 2 | 8])
def test_floats_that_are_not_scaled_yet_are_scaled(form: int) -> None:
    (one,) = read(cfg3(whole(station(form=form, phasors=[("x", 4, 1000.0, 0.0), ("y", 5, 1.0, 0.0)])))).stations
    raw = one.layout.unpack(struct.pack(">Hffffff", 0, 3.0, 4.0, 6000.0, 0.0, 50.0, 0.0))
    assert one.magnitude(raw, 0) == (3000.0 if form & 1 else 5000.0)
    assert smallest(one, raw, (0, 1)) == one.magnitude(raw, 0)
    assert not one.plain


@pytest.mark.parametrize("scale", [math.nan, math.inf, 0.0, -1.0])
@pytest.mark.parametrize("form", [1, 1 | 2])
def test_a_scale_that_is_none_gives_no_voltage(scale: float, form: int) -> None:
    (one,) = read(cfg3(whole(station(form=form, phasors=[("VA", 4, scale, math.nan)])))).stations
    raw = one.layout.unpack(struct.pack(">HHhhh" if form == 1 else ">Hffhh", 0, 100, 0, 0, 0))
    assert math.isnan(smallest(one, raw, (0,)))
    assert one.hz(raw) == 50.0
    assert one == one  # equal to itself when it is told again
    assert one.phasors[0].angle_rad == 0.0


@pytest.mark.parametrize("pmus", [[ONE], [TWO], [ONE, TWO]])
def test_it_says_what_cfg2_says(pmus: list[writer.Pmu]) -> None:
    (third,) = writer.configuration3(60, pmus, 1_000_000, 50, T0_NS)
    second = writer.configuration(3, 60, pmus, 1_000_000, 50, T0_NS)
    a, b = read(third), read_configuration(second, head_of(second))
    assert (a.time_base, a.rate, a.data_bytes, a.offsets) == (b.time_base, b.rate, b.data_bytes, b.offsets)
    data = writer.data(60, [pmu.data(0x80, 50.01, VOLT) for pmu in pmus], 1_000_000, T0_NS)
    for x, y in zip(a.read(data), b.read(data), strict=True):
        assert (x.hz, x.stat, x.rocof_hz_s) == (y.hz, y.stat, y.rocof_hz_s)
        for p, q in zip(x.phasors, y.phasors, strict=True):
            assert p == pytest.approx(q, rel=1e-6)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (whole(time_base=0), "time_base"),
        (whole(rate=0), "rate"),
        (whole(station(form=1, phasors=PHASES), end=b"\0"), "layout"),
        (whole(station(form=1, phasors=PHASES))[:-3], "layout"),
        (struct.pack(">IH", 1, 9), "layout"),
        (struct.pack(">IH", 1, 1) + name("x") + struct.pack(">H16sHHHH", 7, b"", 1, 65535, 65535, 65535), "layout"),
    ],
)
def test_defects_have_their_names(body: bytes, reason: str) -> None:
    with pytest.raises(FrameError) as caught:
        read(cfg3(body))
    assert caught.value.reason == reason
    assert reason in REASONS
    with pytest.raises(FrameError, match="type"):
        read_cfg3(body, read_head(writer.header(60, "words", 1_000_000, T0_NS)))


# ---- several frames


def put_together(parts: Parts, *frames: bytes) -> list[bytes | None]:
    return [parts.take(octets, head_of(octets)) for octets in frames]


def test_parts_are_put_together_wherever_they_were_cut() -> None:
    (alone,) = writer.configuration3(60, [ONE, TWO], 1_000_000, 50, T0_NS)
    expected = put_together(Parts(), alone)[0]
    for most in (1, 7, 100, 150):
        several = writer.configuration3(60, [ONE, TWO], 1_000_000, 50, T0_NS, most)
        assert len(several) > 1
        parts = Parts()
        *before, last = put_together(parts, *several)
        assert before == [None] * len(before)
        assert last == expected
        assert put_together(parts, *several)[-1] == expected  # told again


def test_parts_that_do_not_follow_are_refused_and_nothing_half_is_kept() -> None:
    a, b, c, d = (cfg3(b"x", index) for index in (1, 2, 3, 0xFFFF))
    for wrong in ([b], [d], [a, c], [a, a, c], [a, b, b], [a, cfg3(b"x", 2, stream=61)]):
        parts = Parts()
        with pytest.raises(FrameError, match="fragment"):
            put_together(parts, *wrong)
        with pytest.raises(FrameError, match="fragment"):
            put_together(parts, d)
        assert put_together(parts, a, b, d)[-1] == b"xxx"
    parts = Parts()
    parts.take(a, head_of(a))
    parts.forget()
    with pytest.raises(FrameError, match="fragment"):
        parts.take(d, head_of(d))
    with pytest.raises(FrameError, match="layout"):
        Parts().take(frame(Kind.CFG3, 60, 0, 0, b"\0"), read_head(frame(Kind.CFG3, 60, 0, 0, b"\0")))


def test_a_unit_that_never_ends_is_bounded() -> None:
    parts, within = Parts(), LARGEST // 60_000
    put_together(parts, *(cfg3(bytes(60_000), index) for index in range(1, within + 1)))
    one_more = cfg3(bytes(60_000), within + 1)
    with pytest.raises(FrameError, match="fragment"):
        parts.take(one_more, head_of(one_more))


# ---- the client


class Talk:
    def __init__(self, cfg3: bool = True) -> None:
        self.intake = Intake(7, 60, VOLT, cfg3=cfg3)
        self.rows: list[Any] = []
        self.intake.open(self.rows.append)
        self.now_ns = 1
        self.session = Session(self.intake, 60, 3.0, 1, cfg3=cfg3)

    def says(self, after_ns: int = 0) -> list[int]:
        self.now_ns += after_ns
        return [int.from_bytes(o[14:16], "big") for o in self.session.commands(self.now_ns, T0_NS)]

    def hear(self, *frames: bytes) -> None:
        for octets in frames:
            self.intake.take(octets, T0_NS)


def test_asked_for_first_and_cfg2_where_it_is_not_answered() -> None:
    talk = Talk()
    assert talk.says() == [Command.STOP, Command.SEND_CFG3]
    assert talk.says(REPEAT_NS // 2) == []
    assert talk.says(REPEAT_NS // 2) == [Command.SEND_CFG2]
    assert talk.says(REPEAT_NS) == [Command.SEND_CFG2]
    talk.hear(writer.configuration(3, 60, [ONE], 1_000_000, 50, T0_NS))
    assert talk.says() == [Command.START]


@pytest.mark.parametrize("most", [65_000, 60])
def test_followed_by_it_and_asked_for_again_after_a_change(most: int) -> None:
    talk = Talk()
    talk.says()
    talk.hear(*writer.configuration3(60, [ONE], 1_000_000, 50, T0_NS, most))
    assert talk.intake.certain
    assert talk.says() == [Command.START]
    talk.hear(writer.data(60, [ONE.data(0x80, 50.02, VOLT)], 1_000_000, T0_NS + 10**7))
    assert talk.rows[-1]["hz"][0] == pytest.approx(50.02)
    assert talk.rows[-1]["volt_frac"][0] == pytest.approx(1.0)
    talk.hear(writer.data(60, [ONE.data(0x480, 50.02, VOLT)], 1_000_000, T0_NS + 3 * 10**7))
    assert not talk.intake.certain
    assert talk.says(REPEAT_NS) == [Command.SEND_CFG3]
    talk.hear(*writer.configuration3(60, [replace(ONE, floats=False, changes=1)], 1_000_000, 50, T0_NS, most))
    assert talk.says() == [Command.START]
    assert talk.intake.configurations == 2


def test_parts_of_two_connections_are_not_put_together() -> None:
    talk = Talk()
    first, *rest = writer.configuration3(60, [ONE], 1_000_000, 50, T0_NS, 60)
    talk.hear(first)
    talk.intake.connected()
    talk.hear(*rest)
    assert not talk.intake.certain
    assert talk.intake.refused == {"fragment": len(rest)}


def test_unasked_it_is_left() -> None:
    talk = Talk(cfg3=False)
    assert talk.says() == [Command.STOP, Command.SEND_CFG2]
    talk.hear(*writer.configuration3(60, [ONE], 1_000_000, 50, T0_NS))
    assert talk.intake.unasked == 1
    assert not talk.intake.certain


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_real_link_to_a_unit_that_has_it_and_to_one_that_has_not(transport: str, answers: bool) -> None:
    unit = SimulatedPmu(0, pmus=(ONE,))
    unit.cfg3, unit.most = answers, 80
    unit.start()
    rows: list[Any] = []
    client = make_client("127.0.0.1", unit.port, idcode=7, transport=transport, nominal_volt=VOLT, cfg3=True)
    try:
        client.start(rows.append)
        deadline_s = time.monotonic() + 60
        while not rows and time.monotonic() < deadline_s:
            unit.publish(time.time_ns(), 49.97, VOLT)
            time.sleep(0.02)
        assert rows
        assert rows[-1]["hz"][0] == pytest.approx(49.97)
        assert Command.SEND_CFG3 in unit.commands
        assert (Command.SEND_CFG2 in unit.commands) is not answers
        assert client.status().refused == {}
    finally:
        client.stop()
        unit.stop()


# ---- any octets


INDICES = st.one_of(st.integers(0, 3), st.just(0xFFFF), st.integers(0, 0xFFFF))


@given(st.lists(st.tuples(INDICES, st.binary(max_size=60)), max_size=5))
@settings(max_examples=200, deadline=None)
def test_any_parts_are_put_together_or_refused_by_name(parts: list[tuple[int, bytes]]) -> None:
    talk = Talk()
    talk.hear(*(cfg3(body, index) for index, body in parts))
    assert set(talk.intake.refused) <= set(REASONS)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_body_is_a_configuration_or_refused_by_name(data: st.DataObject) -> None:
    body = bytearray(
        whole(station(form=1, phasors=PHASES, analogs=["a"], digitals=1), station(form=14, phasors=PHASES))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))]) if data.draw(st.booleans()) else bytes(body)
    try:
        found = read(cfg3(cut))
    except FrameError as error:
        assert error.reason in REASONS  # noqa: PT017
        return
    frame_ = bytes(found.data_bytes)
    for k, one in enumerate(found.stations):
        raw = found.unpack(frame_, k)
        smallest(one, raw, phase_voltages(one))
        one.values(raw)
