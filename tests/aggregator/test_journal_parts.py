"""What stands in a journal's folder: whole, torn, foreign, newer; and what somebody else's reader makes of it."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import numpy as np
import orjson
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator import journal, journal_parts, journal_reader
from aggregator.journal import Entry, JournalError, Kind
from aggregator.journal_files import JournalWriter
from aggregator.journal_listing import listing
from aggregator.journal_survey import survey
from aggregator.records import GAP
from telemetry import wire
from telemetry.samples import POWER, SESSION

NS = 1_000_000_000
NOW_NS = 1_700_000_000 * NS  # 2023-11-14T22:13:20Z
MINUTE = 60 * NS


def meter(seq, rows=2, now_ns=None):
    block = np.zeros(rows, POWER)
    block["t_ns"], block["power_kw"] = seq, np.arange(rows) + 0.5 + seq
    return Entry(Kind.METERS, 0, seq, NOW_NS + seq * MINUTE if now_ns is None else now_ns, wire.encode(block))


def time(seq):
    return Entry(Kind.TIME, 0, seq, NOW_NS + seq * MINUTE, b"12345678")


def written(folder, count=90, each=10, epoch=7):
    """`count` entries a minute apart, a part every `each`: two hours and a bit."""
    writer = JournalWriter(folder)
    many = [Entry(Kind.START, 0, 0, 0, b"{}"), *(meter(k) if k % 2 else time(k) for k in range(1, count))]
    for at in range(0, count, each):
        writer.append(many[at : at + each], f"{epoch}-{at // each + 1}")
        writer.flush()
    return many


def reasons(problems):
    return sorted((problem.path.name.partition("-")[0], problem.reason) for problem in problems)


def told(folder, kinds=None):
    """Entries, gaps as (first, last, reason), problems."""
    problems: list = []
    found = list(journal_reader.entries(folder, kinds, problems=problems))
    gaps = [journal.rows(entry, GAP)[0] for entry in found if entry.kind is Kind.GAP]
    holes = [(int(row["first"]), int(row["last"]), row["reason"].decode()) for row in gaps]
    return [entry for entry in found if entry.kind is not Kind.GAP], holes, problems


def test_files_are_for_their_owner_alone(tmp_path):
    folder = tmp_path / "journal"
    written(folder)
    paths = [folder, *folder.rglob("*")]
    assert len(paths) > 20
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_foreign_reader_finds_what_the_page_says(tmp_path):
    """docs/operations.md: a dataset of files by name, the dtype's fields behind the entry's place."""
    writer = JournalWriter(tmp_path)
    session = np.zeros(1, SESSION)
    session["vehicle"], session["capacity_kwh"] = b"EV-1", 60.0
    many = [meter(k) for k in range(120)]
    for at in range(0, 120, 7):
        writer.append(many[at : at + 7], f"7-{at // 7 + 1}")
        writer.flush()
    writer.append([Entry(Kind.SESSIONS, 0, 120, NOW_NS, wire.encode(session))], "7-99")
    writer.flush()
    table = ds.dataset(sorted(map(str, tmp_path.glob("*/meters-*.parquet")))).to_table()
    assert table.schema.names == ["entry_epoch", "entry_seq", "entry_ns", *(POWER.names or ())]
    assert table["entry_seq"].to_pylist() == [k for k in range(120) for _ in range(2)]
    assert table["power_kw"].to_pylist() == [k + 0.5 + row for k in range(120) for row in range(2)]
    late = table.filter(ds.field("entry_ns") >= NOW_NS + 100 * MINUTE)
    assert late["entry_seq"].to_pylist()[0] == 100
    (path,) = tmp_path.glob("*/sessions-*.parquet")
    assert pq.read_table(path, partitioning=None)["vehicle"][0].as_py().rstrip(b"\0") == b"EV-1"


@pytest.mark.parametrize("how", ["cut", "emptied", "gone", "flipped"])
def test_a_damaged_table_is_named_and_its_entries_are_a_gap(tmp_path, how):
    many = written(tmp_path)
    part = survey(tmp_path).parts[3]
    path = part.table("meters")
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        flipped = bytearray(data)
        middle = len(data) // 3
        flipped[middle : middle + 16] = bytes(byte ^ 0xFF for byte in data[middle : middle + 16])
        path.write_bytes({"cut": data[:-3], "emptied": b"", "flipped": bytes(flipped)}[how])
    found, holes, problems = told(tmp_path)
    assert found == [entry for entry in many if not 30 <= entry.seq <= 39 or entry in found]
    assert {entry.seq for entry in many} - {entry.seq for entry in found} >= {31, 33, 35, 37, 39}
    assert len(holes) == 1
    assert holes[0][0] <= 31
    assert holes[0][1:] == (39, "damaged")
    assert len(problems) == 1
    span = journal.read(tmp_path, Kind.METERS)
    assert sorted(set(span.rows["t_ns"].tolist())) == [k for k in range(1, 90, 2) if not 30 <= k <= 39]
    assert [(row["first"], row["last"], row["reason"]) for row in span.gaps] == [(30, 39, b"damaged")]
    assert [problem.path for problem in span.problems] == [path]
    # Who needs no meters misses nothing.
    assert told(tmp_path, {Kind.TIME})[:2] == ([entry for entry in many if entry.kind is Kind.TIME], [])


@pytest.mark.parametrize("how", ["cut", "other", "gone", "text", "altered"])
def test_a_damaged_manifest_is_named_and_its_tables_are_left_alone(tmp_path, how):
    many = written(tmp_path)
    part = survey(tmp_path).parts[3]
    if how == "gone":
        part.manifest.unlink()
    else:
        own, other = (survey(tmp_path).parts[k].manifest.read_bytes() for k in (3, 4))
        altered = own.replace(b'"7-4"', b'"7-9"')
        assert altered != own
        part.manifest.write_bytes({"cut": own[:-9], "other": other, "text": b"no", "altered": altered}[how])
    found, holes, problems = told(tmp_path)
    assert found == many[:30] + many[40:]
    assert holes == [(30, 39, "file" if how == "gone" else "damaged")]
    wanted = [("calls", "orphan"), ("meters", "orphan")] if how == "gone" else [("part", "manifest")]
    assert reasons(problems) == wanted
    writer = JournalWriter(tmp_path)
    assert reasons(writer.problems) == wanted
    assert part.table("meters").exists()
    assert part.table("calls").exists()


def test_strangers_are_named_and_passed_over(tmp_path):
    many = written(tmp_path)
    place = survey(tmp_path).parts[0].hour
    strangers = [
        place / "notes.txt", place / "meters-1.parquet", place / "copy of meters.parquet", tmp_path / "2023-11-14",
        place / f"meters-{0:020d}-{0:020d}-{0:020d}.json", place / f"part-{0:020d}-{0:020d}-{0:020d}.parquet",
    ]  # fmt: skip
    for path in strangers:
        path.write_bytes(b"PAR1")
    (tmp_path / ".hidden").touch()
    found, holes, problems = told(tmp_path)
    assert (found, holes) == (many, [])
    assert sorted(problem.path for problem in problems) == sorted(strangers)
    assert {problem.reason for problem in problems} == {"foreign"}
    assert len(JournalWriter(tmp_path).problems) == len(strangers)
    assert all(path.exists() for path in strangers)


def test_another_tables_bytes_under_this_ones_name_are_found(tmp_path):
    written(tmp_path)
    one, other = survey(tmp_path).parts[3:5]
    shutil.copyfile(other.table("meters"), one.table("meters"))
    document = orjson.loads(one.manifest.read_bytes())
    size = one.table("meters").stat().st_size
    whole = one._replace(tables=one.tables | {"meters": one.tables["meters"]._replace(size=size)})
    journal_parts.replace(one.manifest, journal_parts.manifest(whole))
    assert document["part"]["epoch"] == 7
    found, holes, problems = told(tmp_path)
    assert holes == [(30, 39, "damaged")]
    assert "another table's" in problems[0].detail
    assert [entry.seq for entry in found] == [*range(30), *range(40, 90)]


def test_a_newer_version_is_refused_by_name(tmp_path, monkeypatch):
    folder = tmp_path / "newer"
    monkeypatch.setattr(journal_parts, "SCHEMA", 2)
    written(folder)
    monkeypatch.undo()
    for act in (lambda: told(folder), lambda: JournalWriter(folder), lambda: journal.read(folder, Kind.METERS)):
        with pytest.raises(JournalError, match="version 2, this reader knows 1; upgrade") as caught:
            act()
        assert caught.value.reason == "schema"


def test_a_newer_table_in_an_old_part_is_refused_by_name(tmp_path, monkeypatch):
    written(tmp_path, 10)
    (part,) = survey(tmp_path).parts
    tables = {name: [pq.read_table(part.table(name), partitioning=None)] for name in part.tables}
    monkeypatch.setattr(journal_parts, "SCHEMA", 2)
    made = journal_parts.write(part, tables)
    monkeypatch.undo()
    journal_parts.replace(part.manifest, journal_parts.manifest(made))
    with pytest.raises(JournalError, match=r"meters-.*version 2"):
        journal.read(tmp_path, Kind.METERS)


def test_entries_of_a_damaged_tail_are_taken_again(tmp_path):
    """A disk that lied about its last file: what the stream still holds closes the hole."""
    many = written(tmp_path)
    tail = survey(tmp_path).parts[-1]
    tail.table("meters").write_bytes(b"")
    writer = JournalWriter(tmp_path)
    assert writer.resume_id() == "7-8"
    writer.append(many[80:], "7-9")
    writer.append([meter(90), meter(91)], "7-10")
    writer.flush()
    assert told(tmp_path)[:2] == ([*many, meter(90), meter(91)], [])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return folder, written(folder, 12, 4)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_bit_flips_no_wrong_entry_comes_out(small, tmp_path_factory, data):
    """Either the same entries, or fewer with a gap and a file named, or a newer version; never another entry."""
    folder, many = small
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(paths))
    whole = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    spoilt = bytearray(whole)
    spoilt[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(spoilt))
    refused = ""
    try:
        found, holes, problems = told(folder)
        span = journal.read(folder, Kind.METERS)
        rows = {int(t): float(kw) for t, kw in zip(span.rows["t_ns"], span.rows["power_kw"], strict=True)}
    except JournalError as error:
        refused = error.reason
    finally:
        path.write_bytes(whole)
    if refused:
        assert refused == "schema"
        return
    assert [entry for entry in many if entry in found] == found
    if found != many:
        assert problems
        assert holes
        missing = {entry.seq for entry in many} - {entry.seq for entry in found}
        assert missing <= {seq for first, last, _ in holes for seq in range(first, last + 1)}
    assert all(kw == t + 1.5 for t, kw in rows.items())
    if len(rows) < 6:
        assert span.problems
        assert span.gaps.size


def test_the_listing_says_what_is_there_and_what_is_not(tmp_path):
    written(tmp_path)
    parts = survey(tmp_path).parts
    parts[3].table("meters").unlink()
    writer = JournalWriter(tmp_path)
    writer.append([Entry(Kind.START, 0, 0, 0, b"{}"), meter(1, now_ns=NOW_NS + 200 * MINUTE)], "8-1")
    writer.flush()
    late = JournalWriter(tmp_path / journal_parts.BACKFILL, "backfill")
    late.append([Entry(Kind.TIME, 0, 0, NOW_NS, b"12345678")], "5-1")
    late.flush()
    problems: list = []
    found = listing(tmp_path, problems)
    assert reasons(problems) == [("meters", "missing")]
    assert [(row["of"], row["epoch"], row["first"], row["last"]) for row in found["spans"]] == [
        ("journal", 7, 0, 89), ("journal", 8, 0, 1), ("backfill", 5, 0, 0)
    ]  # fmt: skip
    assert found["spans"][0]["start"] == "2023-11-14T22:14:20.000Z"
    assert found["kinds"]["meters"]["rows"] == 2 * (45 - 5 + 1)
    assert found["entries"] == 90 + 2 + 1
    assert [(row["of"], row["reason"], row["first"], row["last"]) for row in found["gaps"]] == [
        ("journal", "damaged", 30, 39), ("frequency", "restart", 0, 0)
    ]  # fmt: skip
    on_disk = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    assert found["bytes"] == on_disk
    assert orjson.loads(orjson.dumps(found)) == found
    assert isinstance(tmp_path, Path)


def test_a_part_that_another_one_holds_whole_is_superseded(tmp_path):
    """At its end, at its beginning or in between; nothing of it counts twice."""
    part = journal_parts.Part(7, 0, 9, tmp_path / "2023-11-14T22", 1, 2, "7-1", 10, {})
    whole = journal_parts.write(part, {})
    for first, last in ((5, 9), (0, 4), (3, 6)):
        journal_parts.write(part._replace(first=first, last=last), {})
    crossing = journal_parts.write(part._replace(first=8, last=12), {})
    found = survey(tmp_path)
    assert (found.parts, found.problems) == ([whole, crossing], [])
    assert len(found.leftover) == 3
