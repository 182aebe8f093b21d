"""Housekeeping: merged parts hold the same entries, limits take whole tables and say so, readers are not disturbed."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import journal, journal_keeping, journal_reader
from aggregator.journal import Entry, Kind
from aggregator.journal_files import JournalWriter
from aggregator.journal_keeping import Limits, Unmergeable, merge, size, thin
from aggregator.journal_parts import REMOVED
from aggregator.journal_survey import survey
from aggregator.records import GAP
from telemetry import wire
from telemetry.samples import POWER, SESSION

NS = 1_000_000_000
HOUR = 3600 * NS
DAY_NS = 24 * HOUR
NOW_NS = 1_700_000_000 * NS // HOUR * HOUR


@pytest.fixture(autouse=True, scope="module")
def unsynced():
    """What reaches the platter is `test_journal_crash`'s affair; here it would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aggregator.journal_parts.os.fsync", lambda _: None)
        yield


def meter(seq, now_ns, rows=3):
    block = np.zeros(rows, POWER)
    block["t_ns"], block["power_kw"] = now_ns, np.random.default_rng(seq).standard_normal(rows)
    return Entry(Kind.METERS, 0, seq, now_ns, wire.encode(block))


def plugged(seq, now_ns):
    return Entry(Kind.SESSIONS, 0, seq, now_ns, wire.encode(np.zeros(1, SESSION)))


def written(folder, hours=4, each=6, epoch=7, begin_ns=NOW_NS):
    """A START, then `each` parts an hour: meters, a command, now and then sessions."""
    writer = JournalWriter(folder)
    many = [Entry(Kind.START, 0, 0, 0, b"{}")]
    for k in range(hours * each):
        now_ns, seq = begin_ns + k * HOUR // each, many[-1].seq
        fresh = [meter(seq + 1, now_ns), Entry(Kind.COMMANDS, 0, seq + 2, now_ns + 1, b"signed" * 9)]
        if k % 5 == 0:
            fresh.append(plugged(seq + 3, now_ns + 2))
        writer.append([*(many if k == 0 else []), *fresh], f"{epoch}-{k + 1}")
        writer.flush()
        many += fresh
    return many


def everything(folder):
    problems: list = []
    found = list(journal_reader.entries(folder, problems=problems))
    assert problems == []
    return found


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def merged(folder, **options):
    count = 0
    while merge(folder, **options) is not None:
        count += 1
    return count


def test_small_parts_of_hours_that_are_over_become_one(tmp_path, monkeypatch):
    many = written(tmp_path)
    monkeypatch.setattr(journal_keeping, "PIECE_ROWS", 5)
    before = size(survey(tmp_path).parts)
    resume = JournalWriter(tmp_path).resume_id()
    assert merged(tmp_path) == 3
    parts = survey(tmp_path).parts
    assert [(part.hour.name[-2:], part.first) for part in parts][:4] == [("22", 0), ("23", 15), ("00", 28), ("01", 41)]
    assert len(parts) == 3 + 6  # the hour in progress is left alone
    assert everything(tmp_path) == many
    assert size(parts) < before
    assert JournalWriter(tmp_path).resume_id() == resume
    ours = {part.manifest for part in parts} | {part.table(name) for part in parts for name in part.tables}
    assert set(files(tmp_path)) == ours


def test_a_merged_part_stays_below_the_limit_and_does_not_cross_a_hole(tmp_path):
    many = written(tmp_path, hours=2, each=12)
    parts = survey(tmp_path).parts
    limit = 4 * parts[0].size
    parts[5].manifest.unlink()
    for name in parts[5].tables:
        parts[5].table(name).unlink()
    assert merged(tmp_path, limit=limit) >= 2
    assert all(part.size <= limit for part in survey(tmp_path).parts)
    found = list(journal_reader.entries(tmp_path))
    (hole,) = [entry for entry in found if entry.kind is Kind.GAP]
    assert journal.rows(hole, GAP)[0].tolist()[:5] == (b"journal", b"file", 7, parts[5].first, parts[5].last)
    kept = [entry for entry in many if not parts[5].first <= entry.seq <= parts[5].last]
    assert [entry for entry in found if entry is not hole] == kept


def test_a_damaged_part_is_not_merged_away(tmp_path):
    many = written(tmp_path)
    path = survey(tmp_path).parts[2].table("meters")
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 16] = bytes(16)
    path.write_bytes(bytes(data))
    with pytest.raises(Unmergeable, match="meters") as caught:
        merge(tmp_path)
    assert merged(tmp_path, skip={caught.value.hour}) == 2
    assert path.read_bytes() == bytes(data)
    assert [entry for entry in journal_reader.entries(tmp_path) if entry.seq > 13] == [e for e in many if e.seq > 13]


def test_a_reader_goes_on_through_a_merging_and_a_thinning(tmp_path):
    many = written(tmp_path)
    reading = journal_reader.entries(tmp_path)
    meters = journal_reader.blocks(tmp_path, Kind.METERS)
    found, rows = [next(reading) for _ in range(5)], [next(meters)]
    merged(tmp_path)
    assert [*found, *reading] == many
    rows += meters
    assert np.concatenate(rows)["t_ns"].tolist() == [e.now_ns for e in many if e.kind is Kind.METERS for _ in range(3)]
    rows = journal_reader.blocks(tmp_path, Kind.METERS)
    first = next(rows)
    thin(tmp_path, Limits(size=1))
    rest = list(rows)
    assert 0 < sum(block.size for block in [first, *rest]) <= 3 * 24


def told_removed(folder):
    return [orjson.loads(line) for line in (folder / REMOVED).read_bytes().splitlines()]


def test_limits_take_whole_tables_of_old_hours_and_say_so(tmp_path):
    many = written(tmp_path, hours=56, each=1)
    told: list = []
    found = thin(tmp_path, Limits(days=2.0, kind_days={"commands": 1.0, "sessions": 0.0}), told.append)
    assert told == found
    parts = survey(tmp_path).parts
    running_ns = NOW_NS + 55 * HOUR
    for part in parts:
        old_ns = running_ns - part.first_ns // HOUR * HOUR
        gone = {name for name, limit in (("meters", 2), ("commands", 1)) if old_ns > limit * DAY_NS}
        assert part.missing == gone
    assert {row.why for row in found} == {"days"}
    assert {row.table for row in found} == {"meters", "commands"}
    on_record = [(row["hour"], row["table"], row["stem"]) for row in told_removed(tmp_path) if row["table"] != "part"]
    assert on_record == [(row.hour, row.table, row.stem) for row in found]
    # Settings and sessions of the newest run stay: a restarted settlement needs them.
    assert list(journal_reader.entries(tmp_path, {Kind.START, Kind.SESSIONS})) == [
        entry for entry in many if entry.kind in (Kind.START, Kind.SESSIONS)
    ]
    span = journal.read(tmp_path, Kind.METERS)
    assert span.problems == []
    (row,) = span.gaps
    assert (row["reason"], row["first"]) == (b"retention", 0)
    assert set(span.rows["t_ns"]) == {e.now_ns for e in many if e.kind is Kind.METERS and e.seq > row["last"]}
    assert thin(tmp_path, Limits(days=2.0, kind_days={"commands": 1.0, "sessions": 0.0})) == []


def test_older_runs_go_whole_with_their_hours(tmp_path):
    written(tmp_path, hours=5, each=2)
    newer = written(tmp_path, hours=30, each=1, epoch=8, begin_ns=NOW_NS + 10 * HOUR)
    thin(tmp_path, Limits(days=1.0))
    older = [part for part in survey(tmp_path).parts if part.epoch == 7]
    assert {name for part in older for name in part.tables.keys() - part.missing} == {"calls", "sessions"}
    thin(tmp_path, Limits(kind_days={"calls": 1.0, "sessions": 1.0}))
    assert {part.epoch for part in survey(tmp_path).parts} == {8}
    assert sorted(path.name for path in tmp_path.iterdir())[0] == "2023-11-15T08"
    assert {row["hour"] for row in told_removed(tmp_path) if row["stem"].startswith(f"{7:020d}")} == {
        f"2023-11-{day}T{hour:02d}" for day, hour in ((14, 22), (14, 23), (15, 0), (15, 1), (15, 2))
    }
    found = list(journal_reader.entries(tmp_path))
    holes = [journal.rows(entry, GAP)[0].tolist() for entry in found if entry.kind is Kind.GAP]
    assert (holes[0][1], holes[0][2], holes[0][3]) == (b"retention", 7, 0)
    assert found[-1] == newer[-1]
    assert JournalWriter(tmp_path).problems == []


def test_a_limit_of_size_takes_the_oldest_hours_first(tmp_path):
    written(tmp_path, hours=5, each=2)
    written(tmp_path, hours=12, each=1, epoch=8, begin_ns=NOW_NS + 5 * HOUR)
    whole = size(survey(tmp_path).parts)
    found = thin(tmp_path, Limits(size=whole * 2 // 3))
    left = size(survey(tmp_path).parts)
    assert whole // 2 < left <= whole * 2 // 3
    assert whole - left == sum(row.size for row in found)
    hours = [row.hour for row in found]
    assert hours == sorted(hours)
    assert {row.why for row in found} == {"size"}
    newest = max(part.hour.name for part in survey(tmp_path).parts)
    thin(tmp_path, Limits(size=1))
    kept = {
        part.hour.name for part in survey(tmp_path).parts if part.tables.keys() - part.missing - {"calls", "sessions"}
    }
    assert len(kept) == 3  # the hour in progress and what a restart reads again
    assert newest in kept


def test_no_limits_take_nothing(tmp_path):
    many = written(tmp_path)
    before = files(tmp_path)
    assert thin(tmp_path, Limits()) == []
    assert files(tmp_path) == before
    assert everything(tmp_path) == many
    assert thin(tmp_path / "none", Limits(days=1)) == []


def test_a_crash_after_the_note_is_no_loss_without_a_reason(tmp_path, monkeypatch):
    written(tmp_path, hours=40, each=1)
    real = journal_keeping.Path.unlink

    def unlink(self, missing_ok=False):
        if self.suffix == ".parquet" and unlink.left == 0:
            raise OSError("power cut")
        unlink.left -= self.suffix == ".parquet"
        real(self, missing_ok)

    unlink.left = 5
    monkeypatch.setattr(journal_keeping.Path, "unlink", unlink)
    with pytest.raises(OSError, match="power cut"):
        thin(tmp_path, Limits(days=1.0))
    monkeypatch.undo()
    assert survey(tmp_path).problems == []
    thin(tmp_path, Limits(days=1.0))
    assert survey(tmp_path).problems == []
    assert {row["reason"] for row in journal.read(tmp_path, Kind.METERS).gaps} == {b"retention"}


# ---- a model -----------------------------------------------------------------------------------------------------


@st.composite
def worlds(draw):
    """What a stream may deliver, and what is done meanwhile: epochs, holes, repeats, restarts, clock steps."""
    actions = []
    epoch, counter, seq, now_ns = 7, 0, 0, NOW_NS
    for _ in range(draw(st.integers(1, 14))):
        what = draw(
            st.sampled_from(["more", "more", "more", "hole", "again", "epoch", "old", "flush", "restart", "merge"])
        )
        if what == "epoch":
            epoch, counter, seq = epoch + 1, 0, draw(st.sampled_from([0, 0, 0, 2]))
        if what in ("more", "hole", "epoch"):
            seq += draw(st.integers(1, 5)) if what == "hole" else 0
            counter += draw(st.integers(1, 3))
            now_ns += draw(st.sampled_from([1, 60, 1500, 3600, -1800])) * NS
            count = draw(st.integers(1, 4))
            entries = [
                Entry(Kind.START, 0, 0, 0, b"{}") if seq + n == 0
                else meter(seq + n, now_ns + n, draw(st.integers(1, 3))) if draw(st.booleans())
                else Entry(Kind.TIME, 0, seq + n, now_ns + n, b"12345678")
                for n in range(count)
            ]  # fmt: skip
            seq += count
            actions.append(("feed", f"{epoch}-{counter}", entries))
        elif what in ("again", "old"):
            fed = [action for action in actions if action[0] == "feed"]
            if fed:
                actions.append(draw(st.sampled_from(fed)))
        else:
            actions.append((what,))
    return actions


@settings(max_examples=50, deadline=None)
@given(worlds())
def test_whatever_the_stream_delivers_each_entry_is_there_once(tmp_path_factory, actions):
    """Against a dict: what came first stands, in order of (epoch, seq); every number is there or a gap."""
    folder = tmp_path_factory.mktemp("world")
    writer = JournalWriter(folder)
    stream: dict[tuple[int, int], list[Entry]] = {}
    model: dict[tuple[int, int], Entry] = {}
    for action in actions:
        if action[0] == "feed":
            _, stream_id, entries = action
            epoch, counter = map(int, stream_id.split("-"))
            stream[epoch, counter] = entries
            feed(writer, model, epoch, stream_id, entries)
        elif action[0] == "flush":
            writer.flush()
        elif action[0] == "merge":
            merge(folder)
        else:  # a crash: what was not flushed is read again from the stream
            writer = JournalWriter(folder)
            resume = tuple(map(int, (writer.resume_id() or "0-0").split("-")))
            for place in sorted(stream):
                if place > resume:
                    feed(writer, model, place[0], f"{place[0]}-{place[1]}", stream[place])
    writer.flush()
    merged(folder)
    found = everything(folder)
    assert [entry for entry in found if entry.kind is not Kind.GAP] == [model[place] for place in sorted(model)]
    holes = [journal.rows(entry, GAP)[0] for entry in found if entry.kind is Kind.GAP]
    missing = {(int(r["epoch"]), n) for r in holes for n in range(int(r["first"]), int(r["last"]) + 1)}
    last: dict[int, int] = {}
    for epoch, seq in model:
        last[epoch] = max(last.get(epoch, 0), seq)
    assert missing == {(epoch, n) for epoch, end in last.items() for n in range(end) if (epoch, n) not in model}


def feed(writer, model, epoch, stream_id, entries):
    newest = max(model, default=(-1, -1))
    for entry in entries:
        if (epoch, entry.seq) > newest:
            model[epoch, entry.seq] = entry
    writer.append(entries, stream_id)
