"""The client's memory and its conversation, in virtual time: what is delivered, withheld, counted, asked, given up."""

from __future__ import annotations

import math
import os
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.c37118 import REASONS, make_client, writer
from telemetry.c37118.frames import Command, Kind, Splitter, frame, read_head
from telemetry.c37118.intake import Intake
from telemetry.c37118.session import REPEAT_NS, Session
from telemetry.samples import FREQUENCY, Quality
from telemetry.source import FrequencySource

T0_NS = 1_700_000_000_000_000_000
STEP_NS = 20_000_000
VOLT = 11_547.0
ONE = writer.Pmu("ONE", 7, nominal_volt=VOLT)
TWO = writer.Pmu("TWO", 8, floats=False, nominal_volt=VOLT, nominal_hz=60.0)
CHANGE = 0x0400


class Stream:
    """A unit's frames into an intake, with arrival 3 ms after the stamp."""

    def __init__(self, *pmus: writer.Pmu, idcode: int | None = 7, stream: int | None = 60, **options: Any) -> None:
        self.pmus = list(pmus or [ONE])
        self.intake = Intake(idcode, stream, VOLT, **options)
        self.blocks: list[Any] = []
        self.intake.open(self.blocks.append)
        self.code = 60

    def configure(self, rate: int = 50, sender: Any = None, kind: int = 3) -> None:
        octets = writer.configuration(kind, self.code, self.pmus, 1_000_000, rate, T0_NS)
        self.intake.take(octets, T0_NS, sender)

    def frame(self, k: float, hz: float = 50.0, stat: int = 0x0080, volts: float = VOLT, octet: int = 0) -> bytes:
        parts = [self.pmus[0].data(stat, hz, volts)]
        parts += [pmu.data(0x0080, pmu.nominal_hz + n, volts) for n, pmu in enumerate(self.pmus[1:], 1)]
        return writer.data(self.code, parts, 1_000_000, T0_NS + round(k * STEP_NS), octet)

    def data(self, k: float, *args: Any, rx_k: float | None = None, sender: Any = None, **options: Any) -> None:
        rx_ns = T0_NS + round((k if rx_k is None else rx_k) * STEP_NS) + 3_000_000
        self.intake.take(self.frame(k, *args, **options), rx_ns, sender)

    @property
    def rows(self) -> Any:
        return np.concatenate(self.blocks) if self.blocks else np.zeros(0, FREQUENCY)


def test_a_row_says_what_the_frame_says():
    stream = Stream(source=5)
    stream.configure()
    stream.data(1, 49.25, 0x2000, 0.5 * VOLT, 0x0F)
    (row,) = stream.rows
    assert row["t_ns"] == T0_NS + STEP_NS
    assert row["rx_ns"] == T0_NS + STEP_NS + 3_000_000
    assert (row["hz"], row["volt_frac"], row["source"]) == (49.25, 0.5, 5)
    assert Quality(int(row["quality"])) == Quality.CLOCK


def test_no_voltage_channel_is_nan_and_absurd_ones_fit():
    stream = Stream(volt_channels=("VB",))
    stream.configure()
    for k, volts in enumerate((3e38, -3e38, math.inf, math.nan)):
        stream.intake._nominal_volt = 1e-3
        stream.data(k, 50.0, volts=volts)
    assert np.isfinite(stream.rows["volt_frac"]).tolist() == [True, True, True, False]
    none = Stream()
    none.configure()
    none.intake._channels = ()
    none.data(1)
    assert np.isnan(none.rows["volt_frac"]).all()


def test_the_pmu_that_is_wanted_and_no_other():
    stream = Stream(ONE, TWO, replace(TWO, idcode=9), idcode=9)
    stream.configure()
    for k in range(3):
        stream.data(k)
    assert stream.rows["hz"].tolist() == [62.0] * 3
    assert stream.intake.others == 6
    lost = Stream(ONE, TWO, idcode=3)
    lost.configure()
    lost.data(1)
    assert lost.intake.refused == {"idcode": 1, "unconfigured": 1}
    assert not lost.blocks
    assert "7 (ONE), 8 (TWO)" not in lost.intake.detail  # the latest: data that nothing explains


def test_voltages_asked_for_that_are_not_there_have_a_name():
    stream = Stream(volt_channels=("VX",))
    stream.configure()
    assert stream.intake.refused == {"idcode": 1}
    assert "volt_channels: 'VX' is no voltage of ONE; there are VA, VB, VC" in stream.intake.detail


def test_frames_of_other_streams_and_kinds_are_counted_and_left():
    stream = Stream()
    stream.configure()
    stream.code = 61
    stream.data(1)
    stream.code = 60
    stream.configure(kind=2)
    stream.intake.take(writer.header(60, "words", 1_000_000, T0_NS), T0_NS)
    stream.intake.take(frame(Kind.CFG3, 60, 1, 0, bytes(40)), T0_NS)
    assert stream.intake.refused == {"stream": 1}
    assert stream.intake.unasked == 3
    assert not stream.blocks
    unknown = Stream(stream=None)
    unknown.configure()
    unknown.code = 61
    unknown.data(1)
    assert unknown.intake.refused == {"stream": 1}


def test_of_datagrams_the_sender_of_the_configuration_is_followed():
    stream = Stream()
    stream.configure(sender=("10.0.0.1", 4712))
    stream.data(1, sender=("10.0.0.1", 4712))
    stream.data(2, 49.0, sender=("10.0.0.66", 4712))
    stream.configure(sender=("10.0.0.66", 4712))
    assert stream.rows["hz"].tolist() == [50.0]
    assert stream.intake.refused == {"stranger": 2}
    stream.intake.connected()
    stream.configure(sender=("10.0.0.66", 4712))
    stream.data(3, 49.5, sender=("10.0.0.66", 4712))
    assert stream.rows["hz"].tolist() == [50.0, 49.5]


def test_data_before_the_configuration_are_withheld():
    stream = Stream()
    stream.data(0)
    stream.configure()
    stream.data(1)
    assert stream.rows.size == 1
    assert stream.intake.refused == {"unconfigured": 1}


# ---- changes of the configuration


def test_an_announced_change_is_followed_without_one_wrong_value():
    """2011: the bit stands before the change. The first frames after it have the old size here, and another meaning."""
    stream = Stream(replace(ONE, floats=False))
    stream.configure()
    stream.data(0)
    for k in (1, 2):
        stream.data(k, stat=CHANGE)
    assert stream.rows.size == 1  # from the edge on: nothing, until it is known what is meant
    stream.configure()
    stream.data(3, stat=CHANGE)
    assert stream.rows.size == 2
    stream.pmus = [replace(ONE, floats=False, polar=False, nominal_hz=60.0, changes=1)]
    for k in (4, 5):
        stream.data(k, 60.0)
    assert stream.rows.size == 2
    stream.configure()
    stream.data(6, 60.0)
    assert stream.rows["hz"].tolist() == [50.0, 50.0, 60.0]
    assert stream.rows["volt_frac"].tolist() == pytest.approx([1.0] * 3, abs=1e-3)
    assert stream.intake.refused == {"unconfigured": 4}
    assert stream.intake.configurations == 2


def test_a_change_nobody_announced_shows_in_the_size():
    stream = Stream()
    stream.configure()
    stream.data(0)
    stream.pmus = [replace(ONE, floats=False)]
    stream.data(1)
    stream.pmus = [ONE]
    stream.data(2)  # of the old size again, but who knows
    stream.configure()
    stream.data(3)
    assert stream.rows.size == 2
    assert stream.intake.refused == {"size": 1, "unconfigured": 1}


def test_a_new_configuration_holds_at_once_and_the_same_again_changes_nothing():
    stream = Stream()
    stream.configure()
    stream.configure()
    assert stream.intake.configurations == 1
    stream.pmus = [replace(ONE, floats=False)]  # with the same CFGCNT
    stream.configure()
    stream.data(1, 50.125)
    assert stream.rows["hz"].tolist() == [50.125]
    assert stream.intake.configurations == 2


def test_a_configuration_without_the_wanted_pmu_stops_the_rows():
    stream = Stream(ONE, TWO)
    stream.configure()
    stream.data(0)
    stream.pmus = [replace(TWO, idcode=9), TWO]
    stream.configure()
    stream.data(1)
    assert stream.rows.size == 1
    assert stream.intake.refused["idcode"] == 1
    stream.pmus = [ONE, TWO]
    stream.configure()
    stream.data(2)
    assert stream.rows.size == 2


# ---- gaps, repeats, order


def test_missing_frames_are_counted_from_the_stamps():
    stream = Stream()
    stream.configure()
    for k in (0, 1, 2, 5, 6, 16):
        stream.data(k)
    assert stream.intake.gaps == 2 + 9
    stream.intake.connected()  # an outage of the connection is a gap as well
    stream.configure()
    stream.data(116)
    assert stream.intake.gaps == 11 + 99


def test_stamps_that_jitter_are_no_gaps():
    stream = Stream()
    stream.configure()
    for k in range(200):
        stream.data(k + 0.24 * (-1) ** k)
    assert stream.intake.gaps == 0
    assert stream.rows.size == 200
    stream.data(202.6)  # 200, 201, 202 are missing, though less than four periods have passed
    assert stream.intake.gaps == 3


def test_slow_units_have_gaps_too():
    stream = Stream()
    stream.configure(rate=-5)
    for second in (0, 5, 10, 25):
        stream.data(second * 50)
    assert stream.intake.gaps == 2


def test_a_jump_of_the_clock_is_no_gap():
    stream = Stream()
    stream.configure()
    for k in (0, 1):
        stream.data(k)
    for k in (2, 3):
        stream.data(k + 350, rx_k=k)  # 7 s ahead
    for k in (4, 5):
        stream.data(k - 50_000, rx_k=k)  # and far back
    stream.data(6)
    assert stream.intake.gaps == 0
    assert stream.rows.size == 7


def test_a_datagram_overtaken_is_delivered_late_and_its_gap_counted_once():
    stream = Stream()
    stream.configure()
    for k in (0, 1, 3, 2, 4, 5):
        stream.data(k)
    assert stream.rows["t_ns"].argsort().tolist() == [0, 1, 3, 2, 4, 5]
    assert stream.intake.gaps == 1


def test_the_same_frame_again_is_a_repeat_and_another_value_of_the_same_time_is_not():
    stream = Stream()
    stream.configure()
    stream.data(1, 50.0)
    stream.data(1, 50.0)
    stream.data(1, 50.1)
    assert stream.intake.repeats == 1
    assert stream.rows["hz"].tolist() == pytest.approx([50.0, 50.1])
    both = Stream(repeats=True)
    both.configure()
    both.data(1)
    both.data(1)
    assert both.intake.repeats == 1
    assert both.rows.size == 2


def test_a_failing_handler_is_counted_and_the_stream_goes_on():
    stream = Stream()
    stream.configure()

    def fail(_: Any) -> None:
        raise KeyError("theirs")

    stream.intake.open(fail)
    stream.data(1)
    assert stream.intake.handler_errors == 1
    assert "theirs" in stream.intake.detail
    stream.intake.shut()
    stream.data(2)
    assert stream.intake.handler_errors == 1


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_checked_frames_come_nothing_is_raised_and_all_are_accounted_for(data):
    """Every frame is a row, a repeat, a refusal with a known reason, a configuration, or unasked."""
    stream = Stream(ONE, TWO)
    for k in range(data.draw(st.integers(1, 12))):
        kind = data.draw(st.sampled_from(list(Kind)))
        match data.draw(st.integers(0, 3)):
            case 0:
                stream.configure()
            case 1:
                stream.data(k, stat=data.draw(st.integers(0, 0xFFFF)))
            case 2:
                body = data.draw(st.binary(max_size=80))
                stream.intake.take(frame(kind, 60, data.draw(st.integers(0, 2**32 - 1)), 0, body), T0_NS)
            case _:
                octets = bytearray(stream.frame(k)[14:-2])
                octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
                fraction = data.draw(st.integers(0, 2**32 - 1))
                stream.intake.take(frame(kind, 60, 1_700_000_000, fraction, bytes(octets)), T0_NS)
    intake = stream.intake
    assert set(intake.refused) <= set(REASONS)
    assert intake.reports == intake.rows + intake.repeats + intake.refused.total() + intake.unasked + intake.told
    assert intake.rows == len(stream.blocks)


# ---- the conversation


class Talk:
    """A session at virtual time; what it says, as words."""

    def __init__(self, stream: int | None = 60, silent_after_s: float = 3.0) -> None:
        self.unit = Stream()
        self.now_ns = 0
        self.session = Session(self.unit.intake, stream, silent_after_s, 0)

    def says(self, after_s: float = 0.0) -> list[int]:
        self.now_ns += round(after_s * 1e9)
        words = self.session.commands(self.now_ns, T0_NS)
        for octets in words:
            assert read_head(octets).idcode == 60
        return [int.from_bytes(octets[14:16], "big") for octets in words]

    def verdict(self, after_s: float = 0.0) -> str:
        self.now_ns += round(after_s * 1e9)
        return self.session.verdict(self.now_ns)


STOP, START, ASK = Command.STOP, Command.START, Command.SEND_CFG2
REPEAT_S = REPEAT_NS / 1e9


def test_stop_ask_start_and_quiet():
    talk = Talk()
    assert talk.says() == [STOP, ASK]
    assert talk.says(REPEAT_S / 2) == []
    assert talk.says(REPEAT_S / 2) == [ASK]
    talk.unit.configure()
    assert talk.says() == [START]
    assert talk.says(REPEAT_S / 2) == []
    assert talk.says(REPEAT_S / 2) == [START]  # no data yet
    talk.unit.data(1)
    assert talk.says(10) == []
    assert talk.session.farewell(T0_NS) == [talk.session.farewell(T0_NS)[0]]
    assert talk.session.farewell(T0_NS)[0][14:16] == b"\0\x01"


def test_a_change_is_asked_about_at_once_and_started_again():
    talk = Talk()
    talk.says()
    talk.unit.configure()
    talk.says()
    talk.unit.data(1)
    assert talk.says(5) == []
    talk.unit.data(2, stat=CHANGE)
    assert talk.says() == [ASK]
    assert talk.says() == []
    talk.unit.configure()
    assert talk.says() == [START]


def test_frames_of_a_wrong_size_are_asked_about_no_more_often_than_allowed():
    talk = Talk()
    talk.says()
    talk.unit.configure()
    talk.says()
    asked = 0
    for k in range(100):
        talk.unit.pmus = [replace(ONE, floats=False)]
        talk.unit.data(k)
        asked += ASK in talk.says(0.02)
        talk.unit.pmus = [ONE]
        talk.unit.configure()
    assert 15 <= asked <= 20  # in two seconds, by a unit that answers each time


def test_a_unit_that_does_not_answer_is_asked_twice_a_second():
    talk = Talk()
    assert sum(ASK in talk.says(0.02) for _ in range(100)) == 4


def test_a_slow_unit_is_not_urged():
    talk = Talk()
    talk.says()
    talk.unit.configure(rate=-5)
    assert talk.says() == [START]
    assert talk.says(5) == []
    assert talk.says(5) == [START]
    assert talk.verdict() == ""
    assert talk.verdict(4) == ""
    assert talk.verdict(1.1) == "no usable data for 15 s"


def test_silence_mute_and_nonsense_end_alike():
    talk = Talk()
    assert talk.verdict(3.0) == ""
    assert "no usable configuration (is 60 the IDCODE of its stream? else set `stream`) for 3 s" in talk.verdict(0.001)
    talk = Talk()
    talk.unit.configure()
    talk.unit.data(0)
    assert talk.verdict(2.9) == ""
    for k in range(1, 30):
        talk.unit.data(k, stat=CHANGE)  # arrive, and cannot be read
        assert talk.verdict(0.1) == ""
    assert "no usable data for 3 s; last unconfigured" in talk.verdict(0.2)
    talk = Talk()
    talk.unit.configure()
    for k in range(100):
        talk.unit.data(k)
        assert talk.verdict(2.9) == ""
    for _ in range(20):
        talk.unit.data(99)  # frozen in its value, alive by its frames
        assert talk.verdict(2.9) == ""
    assert talk.verdict(3.1) == "no usable data for 3 s"


def test_a_unit_that_sends_of_its_own_accord_is_told_nothing():
    talk = Talk(stream=None)
    assert talk.says() == []
    assert talk.says(2) == []
    assert talk.session.farewell(T0_NS) == []
    assert talk.verdict(2) == "no usable configuration for 3 s"


# ---- a spoiled line, in virtual time


def spoil(octets: bytes, chance: random.Random) -> bytes:
    """Bits flipped, octets changed, left out, put in, sent twice."""
    spoiled, at = bytearray(octets), chance.randrange(len(octets))
    match chance.randrange(5):
        case 0:
            for _ in range(chance.randrange(1, 20)):
                spoiled[chance.randrange(len(spoiled))] ^= 1 << chance.randrange(8)
        case 1:
            spoiled[at : at + 4] = chance.randbytes(4)
        case 2:
            del spoiled[at : at + chance.randrange(1, 40)]
        case 3:
            spoiled[at:at] = chance.randbytes(chance.randrange(1, 40))
        case _:
            spoiled[at:at] = spoiled[at:]
    return bytes(spoiled)


@pytest.mark.parametrize("seed", range(int(os.environ.get("FLYBALL_SPOILED_RUNS", "40"))))
def test_over_a_spoiled_line_no_wrong_value_is_accepted_and_the_stream_comes_back(seed):
    """Each value is bound to its own stamp, so that whatever comes through can be told to be right.

    The unit's half answers as a real one would, a new connection is made when the session gives up. One spoiled frame
    in 65 536 has the right check word by chance, which no receiver can know: such a one is told by what was sent.
    """
    chance = random.Random(seed)  # noqa: S311
    talk = Talk()
    unit = talk.unit
    unit.pmus = [replace(ONE, floats=chance.random() < 0.5, polar=chance.random() < 0.5)]
    splitter, sending, waiting, connections = Splitter(unit.intake.refuse), False, b"", 1
    made, by_chance = set(), 0
    for k in range(1200):
        talk.now_ns = k * STEP_NS
        for octets in talk.session.commands(talk.now_ns, T0_NS):
            word = int.from_bytes(octets[14:16], "big")
            sending = word == START or (sending and word != STOP)
            if word == ASK:
                waiting += (answer := writer.configuration(3, 60, unit.pmus, 1_000_000, 50, T0_NS))
                made.add(answer)
        if sending:
            waiting += (data := unit.frame(k, 50 + k / 1000, volts=VOLT * (1 - k % 7 / 10)))
            made.add(data)
        sent = spoil(waiting, chance) if waiting and k < 900 and chance.random() < 0.2 else waiting
        waiting = b""
        for octets in splitter.feed(sent):
            by_chance += octets not in made
            if octets in made:
                unit.intake.take(octets, T0_NS + talk.now_ns)
        if splitter.lost or talk.session.verdict(talk.now_ns):
            connections += 1
            talk.session = Session(unit.intake, 60, 3.0, talk.now_ns)
            splitter, sending = Splitter(unit.intake.refuse), False
    rows = unit.rows
    at = np.rint((rows["t_ns"] - T0_NS) / STEP_NS)
    assert (rows["t_ns"] - T0_NS == at * STEP_NS).all()
    np.testing.assert_allclose(rows["hz"], 50 + at / 1000, atol=5.1e-4)
    np.testing.assert_allclose(rows["volt_frac"], 1 - at % 7 / 10, atol=1e-4)
    assert not rows["quality"].any()
    assert at[-100:].tolist() == list(range(1100, 1200))
    assert rows.size > 500
    assert connections < 20
    assert by_chance <= 1
    assert unit.intake.gaps >= at[-1] - at[0] + 1 - rows.size  # none lost without a trace


# ---- settings


def test_a_client_is_a_source_and_its_settings_are_checked():
    client = make_client("127.0.0.1", 4712, idcode=7, nominal_volt=VOLT)
    assert isinstance(client, FrequencySource)
    assert (client.status().connected, client.status().detail) == (False, "not started")
    client.stop()  # before it ever ran
    for wrong, words in (
        ({"port": 0}, "port 0"),
        ({"transport": "serial"}, "transport 'serial': choose one of tcp, udp, udp-spontaneous"),
        ({"idcode": 65536}, "idcode 65536"),
        ({"stream": -1}, "stream -1"),
        ({"nominal_volt": 0.0}, "nominal_volt 0"),
        ({"nominal_volt": math.nan}, "nominal_volt nan"),
        ({"silent_after_s": 0}, "silent_after_s 0"),
        ({"connect_timeout_s": math.nan}, "connect_timeout_s nan"),
    ):
        settings = {"host": "127.0.0.1", "port": 4712, "nominal_volt": VOLT} | wrong
        with pytest.raises(ValueError, match=words):
            make_client(**settings)  # type: ignore[arg-type]
