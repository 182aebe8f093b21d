"""The journal: bytes there and back, and files that survive a crash at any step."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import journal, journal_files
from aggregator.journal import HEADER, Entry, JournalError, Kind
from aggregator.journal_files import JournalWriter, parts, read, read_table, read_ticks
from aggregator.records import DECLARATION, TICK
from telemetry import wire
from telemetry.samples import FREQUENCY, POWER

NS = 1_000_000_000
NOW_NS = 1_700_000_000 * NS  # 2023-11-14T22:13:20Z


def entry(seq, kind=Kind.TIME, now_ns=NOW_NS, payload=b"12345678"):
    return Entry(kind, 0, seq, now_ns, payload)


def run(count, first=0, step_ns=NS):
    """A START and TIME entries, one a step."""
    times = [entry(seq, now_ns=NOW_NS + seq * step_ns) for seq in range(max(first, 1), first + count)]
    return [Entry(Kind.START, 0, 0, 0, b"{}"), *times] if first == 0 else times


def tick(seq):
    row = np.zeros(1, TICK)
    row["seq"], row["t_ns"], row["hz"] = seq, NOW_NS + seq, 50.0 + seq
    row["unserved_by_reason"][0] = np.arange(24) + seq
    return entry(seq, Kind.TICKS, NOW_NS + seq, row.tobytes())


kinds = st.sampled_from(list(Kind))
entries = st.builds(
    Entry,
    kind=kinds,
    flags=st.integers(0, 255),
    seq=st.integers(0, 2**64 - 1),
    now_ns=st.integers(-(2**63), 2**63 - 1),
    payload=st.binary(max_size=40),
)


@given(st.lists(entries, max_size=8))
def test_pack_and_unpack(many):
    assert journal.unpack(journal.pack(many)) == many


@given(st.lists(entries, min_size=1, max_size=4), st.data())
def test_a_cut_payload_is_refused_by_name(many, data):
    packed = journal.pack(many)
    ends = np.cumsum([HEADER.size + len(item.payload) for item in many]).tolist()
    cut = data.draw(st.integers(1, len(packed) - 1))
    if cut in ends:
        assert journal.unpack(packed[:cut]) == many[: ends.index(cut) + 1]
    else:
        with pytest.raises(JournalError) as caught:
            journal.unpack(packed[:cut])
        assert caught.value.reason in ("short", "length")


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_is_a_journal(data):
    reason, found = "", []
    try:
        found = journal.unpack(data)
    except JournalError as error:
        reason = error.reason
    assert reason in ("short", "length", "kind", "reserved") or journal.pack(found) == data


@pytest.mark.parametrize(("at", "value", "reason"), [(0, 99, "kind"), (2, 1, "reserved"), (4, 9, "length")])
def test_a_wrong_header_names_its_defect(at, value, reason):
    packed = bytearray(journal.pack([entry(1)]))
    packed[at] = value
    with pytest.raises(JournalError) as caught:
        journal.unpack(bytes(packed))
    assert caught.value.reason == reason


def test_rows_must_be_whole():
    assert journal.rows(tick(3), TICK)["hz"][0] == 53.0
    with pytest.raises(JournalError, match="rows"):
        journal.rows(entry(1, Kind.TICKS), TICK)


def test_written_is_read_in_order(tmp_path):
    writer = JournalWriter(tmp_path)
    many = run(5000)
    for k in range(0, 5000, 500):
        assert writer.append(many[k : k + 500], f"7-{k + 1}") == many[k : k + 500]
        if k % 1000:
            writer.flush()
    assert list(read(tmp_path)) == many
    assert list(read(tmp_path, {Kind.START})) == many[:1]
    assert writer.resume_id() == "7-4501"
    assert writer.waiting_bytes == 0


def test_hours_lie_apart_and_a_start_lies_with_what_follows(tmp_path):
    writer = JournalWriter(tmp_path)
    writer.append(run(60, step_ns=60 * NS), "7-1")
    writer.flush()
    assert [part.path.parent.name for part in parts(tmp_path)] == ["2023-11-14T22", "2023-11-14T23"]
    assert [item.seq for item in read(tmp_path)] == list(range(60))
    metas = [pq.read_schema(part.path).metadata[b"last_id"] for part in parts(tmp_path)]
    assert metas == [b"", b"7-1"]  # the payload is covered only when its last entry is on disk


def test_restart_goes_on_without_loss_or_duplicate(tmp_path):
    many = run(30)
    first = JournalWriter(tmp_path)
    for k in range(3):
        first.append(many[10 * k : 10 * k + 10], f"7-{k + 1}")
        if k < 2:
            first.flush()
    second = JournalWriter(tmp_path)  # the third payload was never flushed
    assert second.resume_id() == "7-2"
    assert second.append(many[10:20], "7-2") == []  # fed again
    assert second.skipped == 10
    assert second.append(many[15:30], "7-3") == many[20:]
    second.flush()
    assert list(read(tmp_path)) == many
    assert second.gaps == 0
    assert JournalWriter(tmp_path).resume_id() == "7-3"


def test_a_crash_between_the_hours_of_one_payload(tmp_path, monkeypatch):
    """The first hour is on disk, the second is not: the payload is read again, nothing is written twice."""
    many = run(60, step_ns=60 * NS)
    writer = JournalWriter(tmp_path)
    writer.append(many, "7-1")
    real, calls = Path.replace, []

    def replace(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError("power cut")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="power cut"):
        writer.flush()
    monkeypatch.undo()
    again = JournalWriter(tmp_path)
    assert again.resume_id() is None
    again.append(many, "7-1")
    again.flush()
    assert list(read(tmp_path)) == many
    assert not list(tmp_path.glob("*/*.tmp"))


def test_a_crash_between_temporary_file_and_rename(tmp_path, monkeypatch):
    """At whichever rename the power goes: the entries are there once, whole, after the restart."""
    many = [Entry(Kind.START, 0, 0, 0, b"{}"), tick(1), tick(2)]
    for fatal in range(2):
        folder = tmp_path / str(fatal)
        writer = JournalWriter(folder)
        writer.append(many, "7-1")
        real, count = Path.replace, [0]

        def replace(self, target, real=real, count=count, fatal=fatal):
            count[0] += 1
            if count[0] > fatal:
                raise OSError("power cut")
            return real(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        with pytest.raises(OSError, match="power cut"):
            writer.flush()
        monkeypatch.undo()
        assert list(read(folder)) == []
        again = JournalWriter(folder)
        assert not [path for path in folder.rglob("*") if path.is_file()]  # no table without its entries
        assert read_ticks(folder).size == 0
        again.append(many, "7-1")
        again.flush()
        assert list(read(folder)) == many
        np.testing.assert_array_equal(read_ticks(folder)["seq"], [1, 2])


def test_what_cannot_be_written_stays(tmp_path, monkeypatch):
    writer = JournalWriter(tmp_path)
    writer.append(run(5), "7-1")

    def full(path):
        raise OSError("no space left")

    monkeypatch.setattr(journal_files, "_sync", full)
    with pytest.raises(OSError, match="no space"):
        writer.flush()
    monkeypatch.undo()
    writer.flush()
    assert list(read(tmp_path)) == run(5)


def test_a_jump_in_seq_leaves_a_gap_record(tmp_path):
    writer = JournalWriter(tmp_path)
    writer.append(run(3), "7-1")
    fresh = writer.append([entry(10), entry(11)], "7-5")
    assert [item.kind for item in fresh] == [Kind.GAP, Kind.TIME, Kind.TIME]
    writer.flush()
    assert writer.gaps == 7
    missing = next(read(tmp_path, {Kind.GAP}))
    assert journal.GAP.unpack(missing.payload) == (3, 7)
    assert JournalWriter(tmp_path).append([entry(11), entry(12)], "7-6") == [entry(12)]


def test_a_new_epoch_begins_again_and_an_old_one_is_over(tmp_path):
    writer = JournalWriter(tmp_path)
    writer.append(run(5), "7-1")
    writer.append(run(4), "8-1")
    writer.append(run(2, first=5), "7-2")  # a worker that lost its lease
    assert (writer.skipped, writer.gaps) == (2, 0)
    writer.flush()
    assert list(read(tmp_path)) == run(5) + run(4)
    assert writer.append([entry(3)], "9-1")[0].kind is Kind.GAP  # the run's beginning is missing


def test_decoded_tables_equal_what_was_fed(tmp_path):
    frequency, meter = np.zeros(2, FREQUENCY), np.zeros(1, POWER)
    frequency["hz"], frequency["t_ns"] = [50.0, np.nan], [1, 2]
    meter["power_kw"] = 7.5
    declared = np.zeros(1, DECLARATION)
    declared["power_kw"], declared["flags"] = -3.0, 1
    many = [
        Entry(Kind.START, 0, 0, 0, b"{}"),
        entry(1, Kind.SAMPLES, payload=wire.encode(frequency)),
        entry(2, Kind.METERS, payload=wire.encode(meter)),
        entry(3, Kind.BASELINE, payload=declared.tobytes()),
        tick(4),
        entry(5, Kind.METERS, payload=b"no block"),
        entry(6, Kind.METERS, payload=wire.encode(frequency)),
    ]
    writer = JournalWriter(tmp_path)
    writer.append(many, "7-1")
    writer.flush()
    assert read_table(tmp_path, "frequency").tobytes() == frequency.tobytes()
    assert read_table(tmp_path, "meters").tobytes() == meter.tobytes()
    assert read_table(tmp_path, "baseline").tobytes() == declared.tobytes()
    assert read_ticks(tmp_path).tobytes() == tick(4).payload
    assert writer.undecodable == 2
    assert list(read(tmp_path)) == many  # raw, nothing is lost


def test_an_empty_journal(tmp_path):
    writer = JournalWriter(tmp_path / "new")
    assert writer.flush() == []
    assert writer.resume_id() is None
    assert list(read(tmp_path / "new")) == []
    assert read_ticks(tmp_path / "new").size == 0


def test_a_damaged_file_is_named(tmp_path):
    writer = JournalWriter(tmp_path)
    writer.append(run(5), "7-1")
    path = writer.flush()[0]
    os.truncate(path, 100)
    with pytest.raises(JournalError, match=path.name):
        list(read(tmp_path))
    with pytest.raises(JournalError, match=path.name):
        JournalWriter(tmp_path)


@pytest.mark.parametrize("stream_id", ["7", "7-", "-1", "a-1", "7-b", ""])
def test_a_wrong_stream_id_is_refused(tmp_path, stream_id):
    with pytest.raises(JournalError, match="stream_id"):
        JournalWriter(tmp_path).append([entry(1)], stream_id)
