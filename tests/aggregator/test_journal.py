"""The journal: bytes there and back; entries to files and back, in order, each once, gaps told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import journal, journal_parts, journal_reader
from aggregator.journal import HEADER, Entry, JournalError, Kind
from aggregator.journal_files import JournalWriter
from aggregator.journal_reader import entries as read
from aggregator.journal_survey import survey
from aggregator.records import DECLARATION, GAP, TICK, Fate
from telemetry import wire
from telemetry.samples import FREQUENCY, POWER, SESSION, SIGNAL, VEHICLE, WISH, Quality

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


def parts(folder):
    return survey(folder).parts


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
    assert [part.hour.name for part in parts(tmp_path)] == ["2023-11-14T22", "2023-11-14T23"]
    assert [item.seq for item in read(tmp_path)] == list(range(60))
    assert [part.last_id for part in parts(tmp_path)] == [None, "7-1"]  # covered once its last entry is on disk


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
        if len(calls) == 3:  # a table and a manifest an hour
            raise OSError("power cut")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="power cut"):
        writer.flush()
    monkeypatch.undo()
    again = JournalWriter(tmp_path)
    assert 0 < len(list(read(tmp_path))) < 60
    assert again.resume_id() is None
    again.append(many, "7-1")
    again.flush()
    assert list(read(tmp_path)) == many


def test_a_crash_between_temporary_file_and_rename(tmp_path, monkeypatch):
    """At whichever rename the power goes: the entries are there once, whole, after the restart."""
    many = [Entry(Kind.START, 0, 0, 0, b"{}"), tick(1), tick(2)]
    for fatal in range(3):
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
        assert not [path for path in folder.rglob("*") if path.is_file()]  # no table without its manifest
        assert journal.read(folder, Kind.TICKS).rows.size == 0
        again.append(many, "7-1")
        again.flush()
        assert list(read(folder)) == many
        np.testing.assert_array_equal(journal.read(folder, Kind.TICKS).rows["seq"], [1, 2])


def test_what_cannot_be_written_stays(tmp_path, monkeypatch):
    writer = JournalWriter(tmp_path)
    writer.append(run(5), "7-1")

    def full(path):
        raise OSError("no space left")

    monkeypatch.setattr(journal_parts, "_sync", full)
    with pytest.raises(OSError, match="no space"):
        writer.flush()
    monkeypatch.undo()
    assert writer.waiting_bytes > 0
    writer.flush()
    assert list(read(tmp_path)) == run(5)


def gap_rows(folder, **options):
    return [
        (row["of"].decode(), row["reason"].decode(), *row.tolist()[2:])
        for row in journal_reader.gaps(folder, **options)
    ]


def test_a_gap_bears_its_place_its_times_and_its_reason(tmp_path):
    writer = JournalWriter(tmp_path)
    writer.append(run(3), "7-1")
    fresh = writer.append([entry(10, now_ns=NOW_NS + 10 * NS), entry(11, now_ns=NOW_NS + 11 * NS)], "7-5")
    assert [item.kind for item in fresh] == [Kind.GAP, Kind.TIME, Kind.TIME]
    writer.refuse()
    writer.append([entry(14, now_ns=NOW_NS + 14 * NS)], "7-7")
    writer.append([entry(16, now_ns=NOW_NS + 16 * NS)], "7-8")
    writer.append([entry(2, now_ns=NOW_NS + 20 * NS)], "8-1")
    writer.flush()
    assert writer.gaps == 7 + 2 + 1 + 2
    at = [NOW_NS + s * NS for s in range(21)]
    assert gap_rows(tmp_path) == [
        ("journal", "stream", 7, 3, 9, at[2], at[10]),
        ("journal", "malformed", 7, 12, 13, at[11], at[14]),
        ("journal", "sequence", 7, 15, 15, at[14], at[16]),
        ("frequency", "restart", 8, 0, 0, at[16], at[20]),
        ("journal", "beginning", 8, 0, 1, at[16], at[20]),
    ]
    missing = next(read(tmp_path, {Kind.GAP}))
    assert (missing.seq, journal.rows(missing, GAP)["last"][0]) == (3, 9)
    assert gap_rows(tmp_path, start_ns=at[12], end_ns=at[14])[0][1:4] == ("malformed", 7, 12)
    assert JournalWriter(tmp_path).append([entry(2), entry(3)], "8-2") == [entry(3)]


def test_a_new_epoch_begins_again_and_an_old_one_is_over(tmp_path):
    writer = JournalWriter(tmp_path)
    writer.append(run(5), "7-1")
    writer.append(run(4), "8-1")
    writer.append(run(2, first=5), "7-2")  # a worker that lost its lease
    assert (writer.skipped, writer.gaps) == (2, 0)
    writer.flush()
    assert list(read(tmp_path)) == run(5) + run(4)


def some(dtype, rows=3, seed=1):
    """Rows of any bits: signalling NaNs, infinities, text with anything in it."""
    return np.frombuffer(np.random.default_rng(seed).bytes(dtype.itemsize * rows), dtype)


def every_kind(seed=1):
    """Entries of every kind there is, rows of any bits in those that have rows."""
    called = {
        Kind.SAMPLES: FREQUENCY, Kind.VEHICLES: VEHICLE, Kind.SESSIONS: SESSION, Kind.METERS: POWER,
        Kind.SIGNAL: SIGNAL, Kind.WISHES: WISH,
    }  # fmt: skip
    bodies = {kind: wire.encode(some(dtype, seed=seed)) for kind, dtype in called.items()}
    bodies |= {Kind.TICKS: some(TICK, seed=seed).tobytes(), Kind.BASELINE: some(DECLARATION, seed=seed).tobytes()}
    bodies |= {Kind.START: b"{}", Kind.TIME: b"12345678", Kind.RENEW: b"12345678", Kind.ALARM: b"{}"}
    bodies |= {Kind.COMMANDS: b"signed", Kind.LOST: some(GAP, seed=seed).tobytes()}
    return [entry(seq, kind, NOW_NS + seq, body) for seq, (kind, body) in enumerate(sorted(bodies.items()))]


def test_every_bit_of_every_kind_comes_back(tmp_path):
    many = every_kind()
    writer = JournalWriter(tmp_path)
    writer.append(many, "7-1")
    writer.flush()
    assert list(read(tmp_path)) == many
    assert writer.undecodable == 0
    for item in many:
        if item.kind in (Kind.START, Kind.TIME, Kind.RENEW, Kind.ALARM, Kind.COMMANDS):
            with pytest.raises(JournalError, match=f"kind: {item.kind.name}"):
                journal.read(tmp_path, item.kind)
            continue
        found = journal.read(tmp_path, item.kind)
        packed = item.kind in (Kind.TICKS, Kind.BASELINE, Kind.LOST)
        assert (found.rows.tobytes() if packed else wire.encode(found.rows)) == item.payload
        assert found.problems == []


def test_payloads_that_no_table_can_hold_are_kept_as_they_are(tmp_path):
    frequency = np.zeros(2, FREQUENCY)
    odd = bytearray(wire.encode(frequency))
    odd[6] = 1  # reserved, which no column has
    many = [
        Entry(Kind.START, 0, 0, 0, b"{}"),
        entry(1, Kind.METERS, payload=b"no block"),
        entry(2, Kind.METERS, payload=wire.encode(frequency)),
        entry(3, Kind.SAMPLES, payload=bytes(odd)),
        entry(4, Kind.SAMPLES, payload=wire.encode(frequency[:0])),
        entry(5, Kind.TICKS, payload=b"half a row"),
        Entry(Kind.SAMPLES, 3, 6, NOW_NS, wire.encode(frequency)),
    ]
    writer = JournalWriter(tmp_path)
    writer.append(many, "7-1")
    writer.flush()
    assert writer.undecodable == 6
    assert list(read(tmp_path)) == many
    assert list(read(tmp_path, {Kind.SAMPLES})) == [many[3], many[4], many[6]]
    assert journal.read(tmp_path, Kind.SAMPLES).rows.size == 0


def test_a_span_is_cut_by_the_time_of_the_call_and_streams_in_pieces(tmp_path, monkeypatch):
    """Over hour edges, parts and batches; rows of one call stay together whatever the batch."""
    writer, many = JournalWriter(tmp_path), []
    for seq in range(50):
        block = np.zeros(seq % 7 + 1, POWER)
        block["t_ns"] = seq
        now_ns = NOW_NS + seq * 300 * NS
        many.append(entry(seq, Kind.METERS, now_ns, wire.encode(block)))
        writer.append(many[-1:], f"7-{seq + 1}")
        if seq % 3 == 0:
            writer.flush()
    writer.flush()
    monkeypatch.setattr(journal_reader, "ROWS", 4)
    start_ns, end_ns = NOW_NS + 10 * 300 * NS, NOW_NS + 31 * 300 * NS
    found = journal.read(tmp_path, Kind.METERS, start_ns, end_ns)
    assert found.rows.dtype == POWER
    np.testing.assert_array_equal(found.rows["t_ns"], [k for k in range(10, 31) for _ in range(k % 7 + 1)])
    pieces = list(journal_reader.blocks(tmp_path, Kind.METERS, start_ns, end_ns))
    assert len(pieces) > 10
    assert np.concatenate(pieces).tobytes() == found.rows.tobytes()
    assert list(read(tmp_path, start_ns=start_ns, end_ns=end_ns)) == many[10:31]
    assert list(read(tmp_path)) == many


def test_entries_longer_than_a_batch_come_back_whole(tmp_path, monkeypatch):
    many = [entry(k, Kind.VEHICLES, payload=wire.encode(np.zeros(1000, VEHICLE))) for k in range(3)]
    writer = JournalWriter(tmp_path)
    writer.append(many, "7-1")
    writer.flush()
    real = journal_parts.TableFile.batches
    monkeypatch.setattr(journal_parts.TableFile, "batches", lambda self: real(self, 300))
    assert list(read(tmp_path)) == many


def sampled(seq, rows, marks):
    """A SAMPLES call and its decisions."""
    block = np.zeros(len(rows), FREQUENCY)
    block["t_ns"], block["quality"] = [t for t, _ in rows], [quality for _, quality in rows]
    block["rx_ns"] = block["t_ns"] + 5
    calls = [entry(seq, Kind.SAMPLES, payload=wire.encode(block))]
    for k, mark in enumerate(marks):
        decided = np.zeros(1, TICK)
        decided["t_ns"], decided["rx_ns"], decided["quality"] = rows[k][0], rows[k][0] + 5, mark
        calls.append(entry(seq + 1 + k, Kind.TICKS, payload=decided.tobytes()))
    return calls


def test_every_sample_has_its_fate(tmp_path):
    """Ticked, refused by the gate or by the core, overtaken, undecided; those that never came are gaps."""
    spike, age, order = int(Quality.SPIKE), int(Quality.AGE), int(Quality.ORDER)
    lost = np.zeros(1, GAP)
    lost["of"], lost["epoch"], lost["first"], lost["last"], lost["reason"] = "frequency", 9, 11, 13, "stream"
    many = [
        Entry(Kind.START, 0, 0, 0, b"{}"),
        *sampled(1, [(10, 0), (20, spike), (30, 0), (30, order)], [0, spike, age, order | age]),
        *sampled(6, [(40, 0)], []),  # its decision is missing
        entry(7, Kind.TICKS, payload=sampled(0, [(60, 0)], [0])[1].payload),  # of no sample here
        *sampled(8, [(50, 0)], [0]),
        entry(10, Kind.LOST, payload=lost.tobytes()),
    ]
    writer = JournalWriter(tmp_path)
    writer.append(many, "7-1")
    writer.flush()
    (found,) = journal_reader.judged(tmp_path)
    assert found.rows["t_ns"].tolist() == [10, 20, 30, 30, 40, 50]
    T, R, O, U = Fate.TICKED, Fate.REFUSED, Fate.OVERTAKEN, Fate.UNKNOWN  # noqa: E741
    assert found.fate.tolist() == [T, R, R, O, U, T]
    assert found.marks.tolist() == [0, spike, age, order | age, 0, 0]
    assert gap_rows(tmp_path)[0][:5] == ("frequency", "stream", 9, 11, 13)
    assert list(read(tmp_path)) == many


def test_samples_of_a_call_that_a_later_one_overtook(tmp_path):
    """No decision of their own; where a gap may hold it, nobody knows."""
    rows = [(10, 0), (20, 0), (30, 0), (40, 0)]
    first, second = sampled(1, rows, [0] * 4), sampled(4, rows, [0] * 4)
    many = [
        Entry(Kind.START, 0, 0, 0, b"{}"),
        *(entry(k, item.kind, payload=item.payload) for k, item in enumerate((first[0], first[3], first[4]), 1)),
        second[0], entry(9, Kind.TICKS, payload=second[4].payload),
    ]  # fmt: skip
    writer = JournalWriter(tmp_path)
    writer.append(many, "7-1")
    writer.flush()
    (found,) = journal_reader.judged(tmp_path)
    O, T, U = Fate.OVERTAKEN, Fate.TICKED, Fate.UNKNOWN  # noqa: E741
    assert found.fate.tolist() == [O, O, T, T, U, U, U, U]


def test_an_empty_journal(tmp_path):
    writer = JournalWriter(tmp_path / "new")
    assert writer.flush() == []
    assert writer.resume_id() is None
    for folder in (tmp_path / "new", tmp_path / "never made"):
        assert list(read(folder)) == []
        assert journal.read(folder, Kind.TICKS).rows.size == 0
        assert gap_rows(folder) == []


@pytest.mark.parametrize("stream_id", ["7", "7-", "-1", "a-1", "7-b", ""])
def test_a_wrong_stream_id_is_refused(tmp_path, stream_id):
    with pytest.raises(JournalError, match="stream_id"):
        JournalWriter(tmp_path).append([entry(1)], stream_id)
