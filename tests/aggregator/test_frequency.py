"""What a worker makes of the streams of one ingest or several, in virtual time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aggregator.frequency import Frequency, Sample
from telemetry.choice import ChoiceSettings
from telemetry.redis_stream import Row
from telemetry.samples import FREQUENCY, Block, Quality

S = 1_000_000_000
BEGIN = 1_000 * S
PERIOD_NS = S // 50
NAMES = ("i1", "i2")


def entry(name: str, counter: int, *, late_ns: int = 0, epoch: int = 7, point: int = 1, quality: int = 0,
          hz: float = 50.0) -> tuple[Row, Block]:  # fmt: skip
    block = np.zeros(1, FREQUENCY)
    block["t_ns"] = BEGIN + counter * PERIOD_NS
    block["rx_ns"] = block["t_ns"] + late_ns
    block["hz"], block["source"], block["quality"], block["volt_frac"] = hz, point, quality, 1.0
    return Row(f"freq:ce:{name}", f"{epoch}-{counter}", b"x", f"{name}-{counter}".encode(), False), block


def several(**changes: Any) -> Frequency:
    return Frequency("ce", NAMES, ChoiceSettings(**changes), BEGIN)


def taken(frequency: Frequency, read: list[tuple[Row, Block]], mono_s: float = 0.0) -> list[Sample]:
    found = frequency.take(read, mono_s)
    for sample in found:
        frequency.dealt(sample)
    return found


def test_one_ingest_passes_every_entry_as_it_came() -> None:
    frequency = Frequency("ce", ("i1",), None, BEGIN)
    read = [entry("i1", k, quality=int(Quality.RANGE) * (k % 3 == 0), point=4) for k in range(1, 9)]
    found = taken(frequency, read)
    assert [(sample.row, sample.block.tobytes()) for sample in found] == [(row, b.tobytes()) for row, b in read]
    assert [sample.block is block for sample, (_, block) in zip(found, read, strict=True)] == [True] * 8
    assert frequency.overdue(99.0) == []
    assert frequency.wait_ms(50, 99.0) == 50
    assert frequency.figures({"freq:ce:i1": "7-8"}) == {"first_id": "7-1", "last_id": "7-8", "ticked": 8}
    assert frequency.note() == {"ticked": "8", "first": "7-1"}
    assert frequency.shown(BEGIN) == []
    assert not frequency.missed(BEGIN + 99 * S)


def test_of_two_the_first_decides_and_both_are_dealt_with() -> None:
    frequency = several()
    read = []
    for k in range(1, 101):
        read += [entry("i2", k, late_ns=100, point=2, hz=50.001), entry("i1", k, late_ns=200, point=1)]
    # As a poll tells them: one stream after the other.
    found = taken(frequency, sorted(read, key=lambda pair: pair[0].key))
    tail = found[2:]
    assert {sample.row.key for sample in tail} == {"freq:ce:i1"}
    assert {int(sample.block["source"][0]) for sample in tail} == {1}
    assert len(found) in (100, 101)
    dealt = [one[:2] for sample in found for one in sample.dealt]
    assert sorted(dealt) == sorted((row.key, row.entry_id) for row, _ in read)
    for key in frequency.keys:  # each stream in its own order
        counters = [int(entry_id.split("-")[1]) for found_key, entry_id in dealt if found_key == key]
        assert counters == sorted(counters)
    assert frequency.ticked == 200
    assert frequency.figures({})["ingests"]["i2"]["ticked"] == 100


def test_the_measuring_point_and_the_note_are_those_of_the_value_decided_on() -> None:
    frequency = several()
    taken(frequency, [entry("i1", k, point=3) for k in range(1, 51)])
    found = taken(frequency, [entry("i2", k, late_ns=500, point=5) for k in range(1, 51)])
    found += taken(frequency, [entry("i2", k, late_ns=500, point=5) for k in range(51, 60)])
    assert [(s.row.note, int(s.block["source"][0])) for s in found[-3:]] == [
        (b"i2-57", 5), (b"i2-58", 5), (b"i2-59", 5),
    ]  # fmt: skip
    # Of an ingest whose own source changes it is the one that spoke.
    found = taken(frequency, [entry("i2", 60, point=6)])
    assert [int(s.block["source"][0]) for s in found] == [6]


def test_a_silent_ingest_is_stood_in_for_within_a_period_and_a_quarter() -> None:
    frequency = several()
    for k in range(1, 101):  # i2 is always a little earlier, and never needed
        taken(frequency, [entry("i2", k, late_ns=0, point=2), entry("i1", k, late_ns=1000)], k * 0.02)
    taken(frequency, [entry("i2", 101, point=2)], 101 * 0.02)
    last_s = 101 * 0.02
    assert frequency.overdue(last_s + 0.003) == []
    assert 5 <= frequency.wait_ms(50, last_s) <= 6  # the last decision is a period less 1 us old
    found = frequency.overdue(last_s + 0.0051)
    assert [(s.row.note, int(s.block["source"][0])) for s in found] == [(b"i2-101", 2)]
    frequency.dealt(found[0])
    assert frequency.overdue(last_s + 0.1) == []
    assert frequency.wait_ms(50, last_s + 0.1) == 50
    assert taken(frequency, [entry("i2", 102, point=2)], 102 * 0.02)[0].row.note == b"i2-102"


def test_an_ingest_that_is_gone_is_missed_and_one_that_never_came_after_a_while() -> None:
    frequency = several()
    for k in range(1, 51):
        taken(frequency, [entry("i2", k, late_ns=1, point=2), entry("i1", k)], k * 0.02)
    now_ns = BEGIN + 50 * PERIOD_NS
    assert not frequency.missed(now_ns)
    for k in range(51, 151):
        taken(frequency, [entry("i2", k, late_ns=1, point=2)], k * 0.02)
        frequency.missed(BEGIN + k * PERIOD_NS)
    assert frequency.missed(BEGIN + 150 * PERIOD_NS)
    assert [(one["name"], one["state"], one["used"]) for one in frequency.shown(BEGIN + 150 * PERIOD_NS)] == [
        ("i1", "lost", False), ("i2", "used", True),
    ]  # fmt: skip

    young = several()
    for k in range(1, 700):
        taken(young, [entry("i2", k, point=2)], k * 0.02)
        assert young.missed(BEGIN + k * PERIOD_NS) == (k * PERIOD_NS >= 11 * S)


def test_two_ingests_that_contradict_each_other_are_told() -> None:
    frequency = several(disagree_s=0.5)
    for k in range(1, 101):
        taken(frequency, [entry("i1", k), entry("i2", k, late_ns=5, point=2, hz=50.2)], k * 0.02)
    assert frequency.disagreeing(BEGIN + 100 * PERIOD_NS)
    assert not Frequency("ce", ("i1",), None, BEGIN).disagreeing(BEGIN)


def test_what_each_stream_lost_bears_its_name() -> None:
    frequency = several()
    frequency.begin({"freq:ce:i1": "7-3", "freq:ce:i2": "7-9"})
    assert frequency.hole(entry("i1", 4)[0]) is None
    assert frequency.hole(entry("i1", 7)[0]) == ("frequency", 7, 5, 6)
    assert frequency.hole(entry("i2", 12)[0]) == ("frequency-i2", 7, 10, 11)
    assert frequency.hole(entry("i2", 3, epoch=8)[0]) == ("frequency-i2", 8, 1, 2)
    assert frequency.hole(entry("i2", 4, epoch=8)[0]) is None


def test_whoever_takes_over_counts_on_and_reads_what_no_decision_came_from() -> None:
    first = several()
    done: dict[str, str] = {}
    for k in range(1, 11):
        for sample in first.take([entry("i1", k), entry("i2", k, late_ns=5, point=2)], k * 0.02):
            done |= first.dealt(sample)
    assert done == {"freq:ce:i1": "7-10", "freq:ce:i2": "7-9"}  # the last of i2 came after the last decision
    note = {**done, **first.note()}
    assert first.ticked == 19
    second = several()
    second.go_on(note)
    assert second.hole(entry("i2", 10)[0]) is None
    assert second.hole(entry("i1", 13)[0]) == ("frequency", 7, 11, 12)
    taken(second, [entry("i2", 10, late_ns=5, point=2), entry("i1", 11)], 0.0)
    assert second.ticked + len(second.rest()) == 21
    assert second.figures({})["ingests"]["i2"]["first_id"] == "7-1"


def test_at_the_end_what_no_decision_will_come_from_counts_as_read() -> None:
    frequency = several()
    taken(frequency, [entry("i1", k) for k in range(1, 5)])
    frequency.take([entry("i2", 1, late_ns=5, point=2)], 0.0)
    assert frequency.rest() == {"freq:ce:i2": "7-1"}
    assert frequency.rest() == {}
    assert frequency.ticked == 5


@pytest.mark.parametrize("bad", [Quality.RANGE, Quality.DEAD_BUS])
def test_when_none_is_usable_the_rows_pass_with_their_marks_and_their_points(bad: Quality) -> None:
    frequency = several()
    for k in range(1, 51):
        taken(frequency, [entry("i1", k, point=3), entry("i2", k, late_ns=5, point=4)], k * 0.02)
    found = []
    for k in range(51, 80):
        both = [entry("i1", k, point=3, quality=int(bad)), entry("i2", k, late_ns=5, point=4, quality=int(bad))]
        found += taken(frequency, both, k * 0.02)
    assert len(found) > 25
    assert {int(s.block["quality"][0]) for s in found} == {int(bad)}
    assert {(s.row.key, int(s.block["source"][0])) for s in found[3:]} == {("freq:ce:i1", 3)}


@pytest.mark.parametrize("periods", [0.3, 1.5, 2.5])
def test_a_sample_told_by_two_ingests_is_decided_on_once(periods: float) -> None:
    """The second way is longer, and goes on where the first one ends."""
    frequency = several()
    read = [entry("i1", k) for k in range(1, 51)]
    read += [entry("i2", k, late_ns=round(PERIOD_NS * periods)) for k in range(1, 101)]
    found = []
    for row, block in sorted(read, key=lambda pair: int(pair[1]["rx_ns"][0])):
        found += taken(frequency, [(row, block)])
    stamps = [int(s.block["t_ns"][0]) for s in found]
    assert stamps == [BEGIN + k * PERIOD_NS for k in range(1, 101)]
    assert frequency.ticked + len(frequency.rest()) == 150
    # A marked row is no decision on a sample: it passes.
    bad = [entry("i1", 200, quality=int(Quality.RANGE)), entry("i2", 200, quality=int(Quality.RANGE))]
    assert [int(s.block["quality"][0]) for s in taken(several(), bad[:1])] == [int(Quality.RANGE)]


def test_a_measuring_points_clock_set_back_is_followed() -> None:
    frequency = several()
    taken(frequency, [entry("i1", k) for k in range(200, 300)])
    found = []
    for k in range(300, 400):
        row, block = entry("i1", k)
        block["t_ns"] -= 150 * PERIOD_NS
        found += taken(frequency, [(row, block)])
    assert len(found) == 100


def test_a_row_without_a_value_does_not_give_its_point_to_the_one_before() -> None:
    frequency = several()
    for k in range(1, 51):
        taken(frequency, [entry("i2", k, point=5), entry("i1", k, late_ns=5, point=3)], k * 0.02)
    assert taken(frequency, [entry("i2", 51, point=5), entry("i2", 52, point=6, hz=np.nan)], 1.02) == []
    found = frequency.overdue(1.021)
    assert [(s.row.note, int(s.block["source"][0])) for s in found] == [(b"i2-51", 5)]
