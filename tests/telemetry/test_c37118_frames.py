"""Frames and configurations as pure functions: what is written is read, what is spoiled is refused by name.

The writing half (`telemetry.c37118.writer`) shares no code with the reading half; a foreign codec stands beside both.
"""

from __future__ import annotations

import collections
import collections.abc
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from telemetry.c37118 import REASONS, FrameError, writer
from telemetry.c37118.configuration import Configuration, Station, read_configuration
from telemetry.c37118.frames import (
    DEFECTS_IN_A_ROW,
    Command,
    Kind,
    Splitter,
    command,
    crc,
    frame,
    head_of,
    only_frame,
    read_head,
    t_ns,
)
from telemetry.c37118.quality import phase_voltages, smallest, source_quality
from telemetry.samples import Quality

T0_NS = 1_700_000_000_000_000_000
VOLT = 11_547.0
UNIT = writer.Pmu("ONE", 7, nominal_volt=VOLT)


def crc_bit_by_bit(octets: bytes) -> int:
    """Annex B of the standard: a shift register of 16 bits, begun with ones, fed the highest bit first."""
    register = 0xFFFF
    for octet in octets:
        for bit in range(7, -1, -1):
            feedback = register >> 15 ^ octet >> bit & 1
            register = register << 1 & 0xFFFF
            if feedback:
                register ^= 0x1021
    return register


def configured(pmus: list[writer.Pmu], time_base: int = 1_000_000, rate: int = 50) -> Configuration:
    octets = writer.configuration(3, 60, pmus, time_base, rate, T0_NS)
    return read_configuration(octets, read_head(octets))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_the_check_word_is_that_of_the_annex(octets):
    assert crc(octets) == crc_bit_by_bit(octets)


def test_the_check_word_of_123456789():
    assert crc(b"123456789") == 0x29B1  # the published check value of CRC-16/CCITT-FALSE


def refusable(call: Callable[[], Any]) -> tuple[Any, str]:
    """(what it gives, why it refuses); any other exception ends the test."""
    try:
        return call(), ""
    except FrameError as error:
        return None, {reason: reason for reason in REASONS}[error.reason]


# ---- heads and times


@settings(deadline=None)
@given(
    st.sampled_from(Kind), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1),
    st.binary(max_size=300),
)  # fmt: skip
def test_a_head_is_read_as_written(kind, idcode, soc, fraction, body):
    octets = frame(kind, idcode, soc, fraction, body)
    head = read_head(octets)
    assert head == (kind, 1, len(octets), idcode, soc, fraction & 0xFFFFFF, fraction >> 24)
    assert head_of(octets) == head
    assert only_frame(octets) == [octets]


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "short"),
        (b"\xaa\x01\x00\x10", "short"),
        (b"\xab" + bytes(15), "sync"),
        (b"\xaa\x61" + bytes(14), "type"),
        (b"\xaa\x81" + bytes(14), "type"),
        (b"\xaa\x00" + bytes(14), "version"),
        (b"\xaa\x03" + bytes(14), "version"),
        (b"\xaa\x01\x00\x11" + bytes(12), "length"),
        (b"\xaa\x01\x00\x10" + bytes(12), "crc"),
    ],
)
def test_every_defect_of_a_head_has_its_name(octets, reason):
    with pytest.raises(FrameError, match=rf"^{reason}: ") as error:
        read_head(octets)
    assert error.value.reason == reason
    assert reason in REASONS


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_are_read(version):
    octets = bytearray(frame(Kind.DATA, 1, 2, 3, b""))
    octets[1] = version
    octets[-2:] = struct.pack(">H", crc_bit_by_bit(bytes(octets[:-2])))
    assert read_head(bytes(octets)).version == version


@settings(deadline=None)
@given(st.integers(0, 2**32 - 2), st.integers(1, 2**24 - 1), st.data())
def test_time_is_seconds_and_fraction_to_the_nearest_ns(soc, time_base, data):
    fracsec = data.draw(st.integers(0, time_base))
    head = read_head(frame(Kind.DATA, 1, soc, 0x0F << 24 | fracsec, b""))
    exact = soc * 10**9 * time_base + fracsec * 10**9
    assert abs(t_ns(head, time_base) * time_base - exact) * 2 <= time_base


def test_more_than_a_second_of_fraction_is_refused():
    head = read_head(frame(Kind.DATA, 1, 5, 1_000_001, b""))
    with pytest.raises(FrameError, match="fracsec"):
        t_ns(head, 1_000_000)
    assert t_ns(head._replace(fracsec=1_000_000), 1_000_000) == 6_000_000_000


@pytest.mark.parametrize("time_base", [1, 600, 1_000_000, 0xFFFFFF])
@settings(deadline=None)
@given(st.integers(0, 2**62))
def test_the_writers_times_come_back_within_a_tick(time_base, at_ns):
    assume(at_ns < 2**32 * 10**9 - 2 * 10**9)
    head = read_head(writer.data(1, [], time_base, at_ns))
    assert abs(t_ns(head, time_base) - at_ns) <= 10**9 / time_base / 2 + 1


def test_a_command_as_the_standard_lays_it_out():
    octets = command(7734, Command.SEND_CFG2, 1_149_591_600_770_000_000)
    # 6.6, table 14: SYNC AA41, FRAMESIZE 18, IDCODE, SOC, FRACSEC, CMD, CHK
    soc, fracsec = (1_149_591_600).to_bytes(4, "big"), (770_000).to_bytes(4, "big")
    assert octets[:-2] == bytes.fromhex("aa4100121e36") + soc + fracsec + b"\0\x05"
    assert read_head(octets).kind is Kind.COMMAND


def test_what_has_no_room_is_refused():
    with pytest.raises(ValueError, match="65535"):
        frame(Kind.HEADER, 1, 1, 0, bytes(65_536))
    with pytest.raises(ValueError, match="2106"):
        frame(Kind.HEADER, 1, 2**32, 0, b"")
    with pytest.raises(ValueError, match="2106"):
        writer.data(1, [], 1000, -(10**9))


# ---- frames cut out of a stream


def data_frames(count: int) -> list[bytes]:
    return [
        writer.data(7, [UNIT.data(0x0080, 50 + k / 1000, VOLT)], 1_000_000, T0_NS + k * 20_000_000)
        for k in range(count)
    ]


class Defects(collections.Counter[str]):
    def __call__(self, reason: str, detail: str) -> None:
        assert reason in REASONS
        assert detail
        self[reason] += 1


@settings(deadline=None)
@given(st.lists(st.integers(1, 90), max_size=60))
def test_a_stream_may_break_anywhere(sizes):
    frames, defects = data_frames(6), Defects()
    stream, found, splitter = b"".join(frames), [], Splitter(defects)
    for size in [*sizes, len(stream)]:
        found += splitter.feed(stream[:size])
        stream = stream[size:]
    assert found == frames
    assert not defects
    assert splitter.skipped == 0


@settings(deadline=None)
@given(st.data())
def test_after_anything_foreign_the_next_whole_frames_are_found(data):
    frames, defects = data_frames(12), Defects()
    splitter, at = Splitter(defects), data.draw(st.integers(0, 5))
    foreign = data.draw(st.binary(max_size=40))
    stream = b"".join(frames[:at]) + foreign + b"".join(frames[at:])
    found = splitter.feed(stream)
    found += splitter.feed(bytes(65_536))  # whatever pretends to be longer ends here
    assert all(one in frames for one in found)
    if not splitter.lost:
        assert found == frames
    assert bool(defects) or not foreign


@settings(deadline=None)
@given(st.binary(max_size=600), st.lists(st.integers(1, 50), max_size=20))
def test_of_any_octets_only_checked_frames_come_out(octets, sizes):
    splitter = Splitter(Defects())
    for size in [*sizes, len(octets)]:
        for one in splitter.feed(octets[:size]):
            read_head(one)
        octets = octets[size:]


@settings(deadline=None)
@given(st.data())
def test_a_frame_with_bits_flipped_is_no_frame(data):
    """Up to three bits, or any burst of 16, change the check word for certain."""
    octets = bytearray(data_frames(1)[0])
    begin = data.draw(st.integers(0, 8 * len(octets) - 16))
    burst = data.draw(st.integers(1, 0xFFFF))
    scattered = data.draw(st.lists(st.integers(0, 8 * len(octets) - 1), min_size=1, max_size=3, unique=True))
    bits = scattered if data.draw(st.booleans()) else [begin + i for i in range(16) if burst >> i & 1]
    for bit in bits:
        octets[bit // 8] ^= 1 << (7 - bit % 8)
    with pytest.raises(FrameError):
        read_head(bytes(octets))
    splitter = Splitter(Defects())
    assert splitter.feed(bytes(octets) + bytes(65_536)) == []


def test_endless_nonsense_is_given_up_in_bounded_work():
    defects = Defects()
    splitter = Splitter(defects)
    hostile = b"\xaa\x01\xff\xff" * 32_768
    assert splitter.feed(hostile) == []
    assert splitter.lost
    assert defects == {"crc": DEFECTS_IN_A_ROW, "framing": 1}
    assert splitter.feed(data_frames(1)[0]) == []


def test_datagrams_hold_one_frame_or_several():
    frames = data_frames(3)
    assert only_frame(b"".join(frames)) == frames
    with pytest.raises(FrameError, match=r"length|sync"):
        only_frame(b"".join(frames) + b"\xaa\x01\x00\x40" + bytes(20))
    with pytest.raises(FrameError, match="length"):
        only_frame(frames[0][:-1])


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_datagram_is_frames_or_a_named_error(octets):
    found, reason = refusable(lambda: only_frame(octets))
    assert reason or b"".join(found) == octets


# ---- configuration and data


shapes = st.builds(
    writer.Pmu,
    name=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=16),
    idcode=st.integers(0, 0xFFFF),
    polar=st.booleans(),
    floats=st.booleans(),
    nominal_hz=st.sampled_from([50.0, 60.0]),
    nominal_volt=st.sampled_from([63.5, 230.0, VOLT, 76_000.0, 230_940.0]),
    changes=st.integers(0, 0xFFFF),
)


@settings(deadline=None)
@given(
    st.lists(shapes, min_size=1, max_size=5), st.integers(1, 0xFFFFFF),
    st.integers(-32768, 32767).filter(bool), st.data(),
)  # fmt: skip
def test_what_is_written_is_read(pmus, time_base, rate, data):
    known = configured(pmus, time_base, rate)
    assert (known.kind, known.idcode, known.time_base, known.rate) == (Kind.CFG2, 60, time_base, rate)
    assert known.period_ns == (round(1e9 / rate) if rate > 0 else -rate * 10**9)
    for pmu, station in zip(pmus, known.stations, strict=True):
        assert (station.name, station.idcode, station.changes) == (pmu.name, pmu.idcode, pmu.changes)
        assert (station.nominal_hz, station.polar) == (pmu.nominal_hz, pmu.polar)
        assert [phasor.name for phasor in station.phasors] == ["VA", "VB", "VC"]
    sent = [
        (
            data.draw(st.integers(0, 0xFFFF)),
            pmu.nominal_hz + data.draw(st.floats(-32, 32)),
            data.draw(st.floats(0, 1.9)) * pmu.nominal_volt,
            data.draw(st.floats(-300, 300)),
        )
        for pmu in pmus
    ]
    parts = [pmu.data(*values) for pmu, values in zip(pmus, sent, strict=True)]
    octets = writer.data(60, parts, time_base, T0_NS)
    for pmu, (stat, hz, volts, rocof), got in zip(pmus, sent, known.read(octets), strict=True):
        assert got.stat == stat
        step_hz, step_volt = (4e-6, volts * 1e-6) if pmu.floats else (5.1e-4, pmu.volts_a_bit)
        assert got.hz == pytest.approx(hz, abs=step_hz)
        assert got.rocof_hz_s == pytest.approx(rocof, abs=2e-5 if pmu.floats else 5.1e-3)
        for (first, second), angle in zip(got.phasors, writer.PHASE_RAD, strict=True):
            pair = (volts, angle) if pmu.polar else (volts * math.cos(angle), volts * math.sin(angle))
            assert (first, second) == pytest.approx(pair, abs=max(step_volt, 6e-5))


@pytest.mark.parametrize("polar", [True, False])
@pytest.mark.parametrize("floats", [True, False])
def test_absent_data_are_nan_in_every_form(polar, floats):
    pmu = replace(UNIT, polar=polar, floats=floats)
    known = configured([pmu])
    octets = writer.data(60, [pmu.data(0x8000, math.nan, math.nan, math.nan)], 1_000_000, T0_NS)
    (got,) = known.read(octets)
    assert math.isnan(got.hz)
    assert math.isnan(got.rocof_hz_s)
    assert all(math.isnan(value) for value in got.phasors[0])
    raw = known.unpack(octets, 0)
    assert math.isnan(smallest(known.stations[0], raw, (0, 1, 2)))


def test_an_integer_frequency_is_millihertz_from_nominal_exactly():
    pmu = replace(UNIT, floats=False, nominal_hz=60.0)
    known = configured([pmu])
    for mhz in (-32767, -390, -1, 0, 1, 544, 32767):
        octets = writer.data(60, [pmu.data(0, 60 + mhz / 1000, VOLT)], 1_000_000, T0_NS)
        assert known.read(octets)[0].hz == (60_000 + mhz) / 1000


def test_a_phasor_without_a_scale_says_nothing():
    body = writer.configuration(3, 60, [replace(UNIT, floats=False)], 1_000_000, 50, T0_NS)
    known = read_configuration(body, read_head(body))
    station = known.stations[0]
    mute = replace(station, phasors=tuple(phasor._replace(factor=0) for phasor in station.phasors))
    raw = known.unpack(writer.data(60, [replace(UNIT, floats=False).data(0, 50.0, VOLT)], 1_000_000, T0_NS), 0)
    assert smallest(station, raw, (0, 1, 2)) == pytest.approx(VOLT, rel=1e-4)
    assert math.isnan(smallest(mute, raw, (0, 1, 2)))


def rebuilt(body: bytes) -> bytes:
    return frame(Kind.CFG2, 60, T0_NS // 10**9, 0, body)


@pytest.mark.parametrize(
    ("at", "octets", "reason"),
    [
        (0, b"\0\0\0\0", "time_base"),
        (0, b"\xff\0\0\0", "time_base"),
        (4, b"\0\x03", "layout"),
        (4, b"\0\0", "layout"),
        (4, b"\xff\xff", "layout"),
        (26, b"\0\x09", "layout"),
        (26, b"\xff\xff\xff\xff\xff\xff", "layout"),
        (-2, b"\0\0", "rate"),
    ],
)
def test_every_defect_of_a_configuration_has_its_name(at, octets, reason):
    whole = writer.configuration(3, 60, [UNIT, UNIT], 1_000_000, 50, T0_NS)
    body = bytearray(whole[14:-2])
    at %= len(body)
    body[at : at + len(octets)] = octets
    spoiled = rebuilt(bytes(body))
    with pytest.raises(FrameError, match=rf"^{reason}: "):
        read_configuration(spoiled, read_head(spoiled))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_configuration_is_read_or_refused_by_name(data):
    body = bytearray(writer.configuration(3, 60, [UNIT] * 2, 1_000_000, 50, T0_NS)[14:-2])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))] if data.draw(st.booleans()) else body
    spoiled = rebuilt(bytes(body))
    known, reason = refusable(lambda: read_configuration(spoiled, read_head(spoiled)))
    if not reason:
        assert known.data_bytes <= 0xFFFF
        octets = frame(Kind.DATA, 60, 1, 0, bytes(known.data_bytes - 16))
        assert len(known.read(octets)) == len(known.stations)


@settings(deadline=None)
@given(st.binary(max_size=120))
def test_any_octets_as_a_configuration(body):
    octets = rebuilt(body)
    with pytest.raises(FrameError):
        read_configuration(octets, read_head(octets))


def test_data_of_another_size_are_refused():
    known = configured([UNIT])
    with pytest.raises(FrameError, match=r"^size: "):
        known.read(writer.data(60, [UNIT.data(0, 50.0, VOLT)] * 2, 1_000_000, T0_NS))


def test_text_is_shown_safely():
    whole = writer.configuration(3, 60, [UNIT], 1_000_000, 50, T0_NS)
    body = bytearray(whole[14:-2])
    body[6:22] = b"A\n\x1b[31m\xfc\0\0 \0\0\0\0 "
    octets = rebuilt(bytes(body))
    assert read_configuration(octets, read_head(octets)).stations[0].name == "A??[31mü"


def test_the_pmu_that_is_meant():
    known = configured([UNIT, replace(UNIT, idcode=8, name="TWO"), replace(UNIT, idcode=8, name="TWIN")])
    assert known.find(7) == 0
    for idcode, words in ((None, "no PMU was chosen"), (8, "2 PMUs have idcode 8"), (9, "0 PMUs have idcode 9")):
        with pytest.raises(FrameError, match=rf"{words}; stream 60 carries 7 \(ONE\), 8 \(TWO\).*set `idcode`"):
            known.find(idcode)
    assert configured([UNIT]).find(None) == 0


# ---- quality and voltages


@pytest.mark.parametrize(
    ("stat", "octet", "bits"),
    [
        (0x0000, 0x00, Quality.GOOD),
        (0x0080, 0x00, Quality.GOOD),
        (0x4000, 0x00, Quality.INVALID),
        (0x8000, 0x00, Quality.TEST),
        (0xC000, 0x00, Quality.INVALID),
        (0x2000, 0x00, Quality.CLOCK),
        (0x01C0, 0x00, Quality.CLOCK),  # above 10 ms or unknown
        (0x0180, 0x00, Quality.GOOD),  # below 10 ms
        (0x0000, 0x08, Quality.GOOD),  # within 10 ms
        (0x0000, 0x09, Quality.CLOCK),  # within 0.1 s
        (0x0000, 0x0B, Quality.CLOCK),
        (0x0000, 0x0F, Quality.CLOCK),  # clock failure
        (0x0000, 0x70, Quality.GOOD),  # leap seconds are no fault
        (0x21F0, 0x0F, Quality.CLOCK),  # as captured
        (0x0800, 0x00, Quality.GOOD),  # a trigger, as captured
        (0x1E3F, 0x00, Quality.GOOD),  # order of arrival, trigger, change, modified, unlocked times, reasons
        (0xE1C0, 0x0F, Quality.INVALID | Quality.CLOCK),
    ],
)
def test_what_the_pmu_says_of_itself(stat, octet, bits):
    assert Quality(source_quality(stat, octet, 50.0)) == bits
    for hz in (math.nan, math.inf, -math.inf):
        assert Quality(source_quality(stat, octet, hz)) == bits | Quality.NAN


def station(*names: str) -> Station:
    known = configured([UNIT]).stations[0]
    phasors = tuple(known.phasors[0]._replace(name=name.lstrip("~"), current=name[0] == "~") for name in names)
    return replace(known, phasors=phasors)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("V1LPM", "VALPM", "VBLPM", "VCLPM"), (1, 2, 3)),
        (("VA", "VB", "VC"), (0, 1, 2)),
        (("~IA P", "~IB P", "VA P", "VB P", "VC P", "VN P", "VP P"), (2, 3, 4)),
        (("Va-n", "Vb-n", "Vc-n", "~Ia"), (0, 1, 2)),
        (("U_L1", "U_L2", "U_L3"), (0, 1, 2)),
        (("V1N", "V2N", "V3N", "V1", "V2", "V0"), (0, 1, 2)),
        (("4VA", "4VB"), (0, 1)),
        (("VR", "VS", "VT", "VREF"), (0, 1, 2)),
        (("V1", "V2", "V0"), (0,)),
        (("POS SEQ", "NEG SEQ", "ZERO SEQ"), (0,)),
        (("BUS 1", "~I BUS"), (0,)),
        (("VBUS", "~VA"), (0,)),
        (("~IA", "~IB"), ()),
        ((), ()),
    ],
)
def test_phase_voltages_are_found_by_their_names(names, chosen):
    assert phase_voltages(station(*names)) == chosen


def test_named_voltages_decide():
    one = station("V1", "VA", "~IA")
    assert phase_voltages(one, ("V1",)) == (0,)
    with pytest.raises(ValueError, match="volt_channels: 'IA' is no voltage of ONE; there are V1, VA"):
        phase_voltages(one, ("VA", "IA"))


def test_the_smallest_phase_counts_and_an_absent_one_does_not():
    known = configured([UNIT]).stations[0]
    raw: list[Any] = [0, 11_000.0, 0.0, 300.0, -2.0, 11_100.0, 2.0, 50.0, 0.0]
    assert smallest(known, tuple(raw), (0, 1, 2)) == 300.0
    raw[3] = math.nan
    assert smallest(known, tuple(raw), (0, 1, 2)) == 11_000.0
    raw[1] = math.nan
    assert smallest(known, tuple(raw), (0, 1, 2)) == 11_100.0
    assert math.isnan(smallest(known, tuple(raw), ()))
    rectangular = replace(known, format=known.format & ~1)
    assert smallest(rectangular, (0, 3.0, 4.0, 50.0, 0.0), (0,)) == 5.0


# ---- a foreign codec on the other side


@pytest.fixture(scope="module")
def foreign() -> Any:
    pytest.importorskip("synchrophasor", reason="the foreign codec is not installed: pip install 'flyball[test]'")
    if not hasattr(collections, "Sequence"):
        collections.Sequence = collections.abc.Sequence  # type: ignore[attr-defined] # it was written for Python 3.9
    from synchrophasor import frame as module

    return module


@pytest.mark.parametrize("polar", [True, False])
def test_a_foreign_reader_reads_what_the_simulator_writes(foreign, polar):
    """In 16-bit words: in floating point that reader takes FREQ for a deviation, and refuses 50."""
    pmu = writer.Pmu("STATION A", 7, polar, False, 50.0, VOLT, 3)
    octets = writer.configuration(3, 7, [pmu], 1_000_000, 50, T0_NS)
    known = foreign.CommonFrame.convert2frame(octets)
    assert (known.get_station_name(), known.get_stream_id_code()) == ("STATION A".ljust(16), 7)
    assert (known.get_time_base(), known.get_data_rate(), known.get_fnom()) == (1_000_000, 50, 50)
    assert known.get_data_format() == (polar, False, False, False)
    assert [name.strip() for name in known.get_channel_names()] == ["VA", "VB", "VC"]
    data = foreign.CommonFrame.convert2frame(writer.data(7, [pmu.data(0x2000, 50.25, VOLT)], 1_000_000, T0_NS), known)
    assert data.get_stat()[:2] == ("ok", False)  # not synchronised
    assert data.get_freq() == 250
    assert data.get_phasors()[0][0] == pytest.approx(VOLT, rel=1e-4)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_a_foreign_writer_writes_is_read(foreign, data):
    count = data.draw(st.integers(1, 3))
    forms = [
        (data.draw(st.booleans()), data.draw(st.booleans()), data.draw(st.booleans()), False) for _ in range(count)
    ]
    phasors = [data.draw(st.integers(1, 4)) for _ in range(count)]
    analogs = [data.draw(st.integers(1, 3)) for _ in range(count)]
    names = [
        [f"V{k}" for k in range(p)] + [f"A{k}" for k in range(a)] + [f"B{k}" for k in range(16)]
        for p, a in zip(phasors, analogs, strict=True)
    ]
    units = [[(data.draw(st.integers(1, 0xFFFFFF)), "v") for _ in range(p)] for p in phasors]
    scales = [[(data.draw(st.integers(1, 1000)), "rms") for _ in range(a)] for a in analogs]
    masks = [[(0x00F0, 0xFFFF)] for _ in range(count)]
    nominal = [data.draw(st.sampled_from([50, 60])) for _ in range(count)]
    many = count > 1

    def one(values: list[Any]) -> Any:
        return values if many else values[0]

    known = foreign.ConfigFrame2(
        60, 1_000_000, count, one([f"STATION {k}" for k in range(count)]), one(list(range(7, 7 + count))), one(forms),
        one(phasors), one(analogs), one([1] * count), one(names), one(units), one(scales), one(masks), one(nominal),
        one([5] * count), 25, soc=1_700_000_000, frasec=(500_000, "+"),
    )  # fmt: skip
    octets = known.convert2bytes()
    got = read_configuration(octets, read_head(octets))
    assert (got.idcode, got.rate, got.time_base) == (60, 25, 1_000_000)
    mhz = [data.draw(st.integers(-32767, 32767)) for _ in range(count)]
    most = [0xFFFF if form[0] else 32_767 for form in forms]  # a magnitude has no sign
    pairs = [
        [(data.draw(st.integers(0, n)), data.draw(st.integers(-3, 3))) for _ in range(p)]
        for n, p in zip(most, phasors, strict=True)
    ]
    values = [[data.draw(st.integers(-1000, 1000)) for _ in range(a)] for a in analogs]
    stat = ("ok", True, "timestamp", False, False, False, 0, "<10", 0)
    sent = foreign.DataFrame(
        60, one([stat] * count), one(pairs), one(mhz), one([0] * count), one(values), one([[0x3C12]] * count), known,
        soc=1_700_000_000, frasec=(250_000, "+"),
    ).convert2bytes()  # fmt: skip
    assert t_ns(read_head(sent), got.time_base) == 1_700_000_000_250_000_000
    for k, (station_k, read) in enumerate(zip(got.stations, got.read(sent), strict=True)):
        assert (station_k.name, station_k.idcode, station_k.nominal_hz) == (f"STATION {k}", 7 + k, nominal[k])
        assert [phasor.name for phasor in station_k.phasors] == names[k][: phasors[k]]
        assert [(phasor.factor, phasor.current) for phasor in station_k.phasors] == [(f, False) for f, _ in units[k]]
        assert [analog.factor for analog in station_k.analogs] == [f for f, _ in scales[k]]
        assert [(d.normal, d.valid) for d in station_k.digitals] == masks[k]
        assert read.hz == (nominal[k] * 1000 + mhz[k]) / 1000
        assert read.digitals == (0x3C12,)
        np.testing.assert_array_equal(read.analogs, values[k])
        for n, (first, second) in enumerate(pairs[k]):
            polar, floats = forms[k][:2]
            scale = 1.0 if floats else units[k][n][0] * 1e-5
            angle = 1.0 if floats else 1e-4 if polar else scale
            assert read.phasors[n] == pytest.approx((first * scale, second * angle))
