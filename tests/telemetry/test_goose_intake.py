"""Numbers, lives and bits of GOOSE messages, in virtual time."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.goose_frame import BITS, FLOAT, STRUCTURE, UTC
from telemetry.goose_intake import GooseIntake, Subscription
from telemetry.iec61850.mapping import encode_utc, quality_to_bits, time_quality
from telemetry.samples import FREQUENCY, Quality
from tests.telemetry.test_goose_frame import REF, elements, frame, tlv

T_NS = 1_700_000_000_125_000_000
OF = Subscription(REF, source=4)


def number(value: int) -> bytes:
    return value.to_bytes(5, "big").lstrip(b"\0") if 0 < value < 128 else b"\0" + value.to_bytes(4, "big")


def message(
    state: int = 1, sequence: int = 0, hz: float = 50.01, quality: int = 0, t_ns: int = T_NS, clock_ok: bool = True,
    volts: float | None = None, life_ms: int = 500, **more: Any,
) -> bytes:  # fmt: skip
    utc = encode_utc(t_ns, time_quality(clock_ok))
    data = tlv(FLOAT, b"\x08" + struct.pack(">f", hz)) + tlv(BITS, b"\x03" + quality_to_bits(quality)) + tlv(UTC, utc)
    count = 3
    if volts is not None:
        data, count = data + tlv(FLOAT, b"\x08" + struct.pack(">f", volts)), 4
    more = {"data": data, "count": bytes([count]), "t": utc, "life": number(life_ms)} | more
    return frame(elements(state=number(state), sequence=number(sequence), **more))


class Virtual:
    """An intake with a clock of its own."""

    def __init__(self, of: Subscription = OF) -> None:
        self.intake, self.now_s = GooseIntake(of), 100.0

    def __call__(self, octets: bytes, after_s: float = 0.02) -> Any:
        self.now_s += after_s
        return self.intake.take(octets, int(self.now_s * 1e9), self.now_s)


def test_a_change_of_state_is_a_measurement_with_its_time_quality_and_voltage() -> None:
    take = Virtual(Subscription(REF, volts=((3,),), nominal_volt=110.0, source=4))
    block = take(message(hz=49.9, volts=99.0))
    assert block.dtype == FREQUENCY
    row = block[0]
    assert row["hz"] == np.float32(49.9)
    assert abs(row["t_ns"] - T_NS) <= 30
    assert row["rx_ns"] == int(take.now_s * 1e9)
    assert row["volt_frac"] == pytest.approx(0.9)
    assert (row["quality"], row["source"]) == (0, 4)
    assert take.intake.alive(take.now_s)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"quality": 2}, Quality.INVALID), ({"quality": 3}, Quality.INVALID), ({"quality": 1 << 11}, Quality.TEST),
        ({"clock_ok": False}, Quality.CLOCK), ({"hz": float("nan")}, Quality.NAN), ({"test": b"\x01"}, Quality.TEST),
        ({"commission": b"\x01"}, Quality.INVALID), ({}, Quality.GOOD),
    ],
)  # fmt: skip
def test_bits_of_the_value_and_of_the_message_are_kept(change: dict[str, Any], flag: Quality) -> None:
    assert Quality(int(Virtual()(message(**change))["quality"][0])) == flag


def test_repetitions_and_duplicates_are_no_measurements_and_keep_it_alive() -> None:
    take = Virtual()
    assert take(message(1)) is not None
    for sequence in (1, 2, 3):
        assert take(message(1, sequence), 0.4) is None
    assert take(message(1, 3)) is None  # by the other way of a redundant network
    assert take.intake.alive(take.now_s)
    assert (take.intake.repeats, take.intake.gaps, take.intake.surprises, take.intake.reports) == (4, 0, 0, 5)
    assert take(message(2)) is not None


def test_what_the_numbers_leave_out_is_counted() -> None:
    take = Virtual()
    take(message(1))
    take(message(1, 3))  # two repetitions lost
    assert take.intake.gaps == 2
    take(message(5))  # states 2, 3 and 4
    assert take.intake.gaps == 5
    take(message(6, 2))  # and the first two messages of state 6
    assert take.intake.gaps == 7


def test_state_numbers_wrap_and_skip_zero() -> None:
    take = Virtual()
    for state in (2**32 - 2, 2**32 - 1, 1, 2):
        assert take(message(state)) is not None
    assert (take.intake.gaps, take.intake.surprises) == (0, 0)


def test_a_publisher_whose_life_ran_out_is_silent_and_comes_back() -> None:
    take = Virtual()
    take(message(7, life_ms=500))
    assert take.intake.alive(take.now_s + 0.5)
    assert not take.intake.alive(take.now_s + 0.501)
    assert take(message(8), 3.0) is not None
    assert take.intake.revivals == 1
    brief = Virtual(Subscription(REF, life_max_s=2.0))
    brief(message(life_ms=3_600_000))
    assert brief.intake.alive(brief.now_s + 2.0)
    assert not brief.intake.alive(brief.now_s + 2.1)
    assert take.intake.gaps == 0


def test_an_older_state_is_refused_while_the_last_one_lives_and_believed_after() -> None:
    take = Virtual()
    take(message(900, hz=50.0))
    assert take(message(899, hz=47.0)) is None
    assert take(message(1, hz=47.0)) is None  # begun anew, or sent again by a third party: not yet
    assert take.intake.refused == {"replayed": 2}
    assert take(message(1, hz=50.02), 0.6)["hz"][0] == np.float32(50.02)
    assert take.intake.gaps == 0
    assert take(message(2)) is not None


def test_a_publisher_that_began_anew_in_the_same_state_is_heard() -> None:
    take = Virtual()
    take(message(1, hz=50.0))
    assert take(message(1, hz=50.5), 0.6)["hz"][0] == np.float32(50.5)
    assert take(message(1, 1, hz=50.5), 0.6) is None


def test_a_repetition_with_other_values_is_not_believed() -> None:
    take = Virtual()
    take(message(3, hz=50.0))
    assert take(message(3, 1, hz=47.0)) is None
    assert take.intake.refused == {"changed": 1}
    # And it does not keep the state alive.
    assert not take.intake.alive(take.now_s + 0.49)


def test_other_messages_are_passed_over_and_wrong_ones_counted() -> None:
    take = Virtual(Subscription(REF, app_id=0x1001, revision=1))
    assert take(message(reference=b"GRIDMEAS/LLN0$GO$other")) is None
    assert (take.intake.reports, take.intake.surprises) == (0, 0)
    for change, reason in (
        ({"revision": b"\x02"}, "revision"), ({"life_ms": 0}, "life"),
        ({"data": tlv(FLOAT, b"\x08" + bytes(4)), "count": b"\x01"}, "member"),
        ({"data": tlv(BITS, b"\x03\0\0") * 3}, "member"), ({"count": b"\x07"}, "frame_count"),
    ):  # fmt: skip
        assert take(message(**change)) is None
        assert take.intake.refused[reason] == 1, take.intake.refused
        assert take.intake.detail.startswith(reason)
        assert not take.intake.alive(take.now_s)
        take.intake.refused.clear()
    strict = Virtual(Subscription(REF, app_id=0x2002))
    assert strict(message()) is None
    assert strict.intake.refused == {"app_id": 1}


def test_places_reach_into_structures_and_the_messages_own_time_stands_in() -> None:
    utc = encode_utc(T_NS, time_quality(False))
    float_ = tlv(FLOAT, b"\x08" + struct.pack(">f", 59.98))
    data = tlv(STRUCTURE, tlv(STRUCTURE, float_) + tlv(BITS, b"\x03\x40\0") + tlv(UTC, bytes(8)))
    octets = frame(elements(data=data, t=utc))
    row = Virtual(Subscription(REF, hz=(0, 0, 0), quality=(0, 1), utc=None))(octets)[0]
    assert (row["hz"], row["quality"]) == (np.float32(59.98), Quality.INVALID | Quality.CLOCK)
    assert abs(row["t_ns"] - T_NS) <= 30
    assert np.isnan(row["volt_frac"])
    bare = Virtual(Subscription(REF, hz=(0, 0, 0), quality=None, utc=(0, 2)))(octets)[0]
    assert (bare["t_ns"], bare["quality"]) == (0, 0)


@pytest.mark.parametrize(
    "wrong",
    [{"reference": ""}, {"hz": ()}, {"quality": (-1,)}, {"volts": ((),)}, {"nominal_volt": 0.0}, {"life_max_s": 0.0}],
)
def test_subscriptions_that_cannot_be_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Subscription(**{"reference": REF, **wrong})


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.001, 0.4)), max_size=60))
def test_losses_are_counted_whatever_is_lost(steps: list[tuple[int, float]]) -> None:
    """A publisher that sends each state once; between two that arrive some are lost."""
    take = Virtual()
    state, lost = 1, 0
    take(message(state))
    for missing, after_s in steps:
        state += 1 + missing
        lost += missing
        assert take(message(state), after_s) is not None
    assert (take.intake.gaps, take.intake.repeats, take.intake.surprises) == (lost, 0, 0)
