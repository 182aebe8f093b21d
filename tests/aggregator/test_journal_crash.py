"""The journal's writer killed at any byte, and disks that do not take what is written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aggregator import journal, journal_parts, journal_reader, settle
from aggregator.journal import Entry, JournalError, Kind
from aggregator.journal_files import JournalWriter, lock
from aggregator.journal_survey import survey
from aggregator.settle import RETRY_MAX_S, Settler, settle_folder, written
from telemetry import wire
from telemetry.samples import FREQUENCY
from tests.aggregator import journal_victim as victim
from tests.aggregator.test_settle import NS, QUARTER, START_S, Worker, finals

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wrecked(tmp_path_factory):
    """(folder of journals, what the rounds came to)"""
    folder = tmp_path_factory.mktemp("wrecks")
    done = subprocess.run(
        [sys.executable, "-m", "tests.aggregator.journal_victim", str(folder), "50", "4"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, json.loads(done.stdout)


def test_killed_at_any_byte_nothing_is_lost_and_nothing_doubled(wrecked):
    """Each writer checked what the kill before it had left; the journals that were finished are whole."""
    folder, told = wrecked
    assert told["killed"] >= 25
    assert told["journals"] >= 3
    wanted = victim.expected()
    assert [entry.kind for entry in wanted].count(Kind.GAP) == len(victim.HOLES)
    for number in range(told["journals"]):
        problems: list = []
        assert list(journal_reader.entries(folder / str(number), problems=problems)) == wanted
        assert problems == []


def test_what_kills_leave_is_removed_and_nothing_else(wrecked):
    folder, told = wrecked
    for number in range(told["journals"]):
        home = folder / str(number)
        JournalWriter(home)
        parts = survey(home).parts
        ours = {part.manifest for part in parts} | {part.table(name) for part in parts for name in part.tables}
        assert {path for path in home.rglob("*") if path.is_file()} == ours
        assert survey(home).leftover == []


def test_a_name_is_given_to_nothing_that_is_not_on_disk(tmp_path, monkeypatch):
    """A power cut: a file is synced before it is named, names of tables before the manifest, that before we go on."""
    events: list[tuple[str, str]] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(handle):
        events.append(("sync", Path(f"/proc/self/fd/{handle}").readlink().name))
        real_sync(handle)

    def replace(self, target):
        events.append(("name", self.name))
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    writer = JournalWriter(tmp_path / "journal")
    for stream_id, entries in victim.stream()[:2]:
        writer.append(entries, stream_id)
    (part,) = writer.flush()
    for at, (what, name) in enumerate(events):
        if what == "name":
            assert ("sync", name) in events[:at]
    manifest = events.index(("name", f".{part.manifest.name}.tmp"))
    tables = [at for at, (what, name) in enumerate(events) if what == "name" and ".parquet" in name]
    assert len(tables) == len(part.tables)
    assert max(tables) < events[:manifest].index(("sync", part.hour.name)) < manifest
    assert ("sync", part.hour.name) in events[manifest:]
    assert events[-1] == ("sync", "journal")  # an hour's folder is new


# ---- disks that do not take it -----------------------------------------------------------------------------------


@contextlib.contextmanager
def small_files(folder):
    """No file may grow beyond 700 bytes: the kernel's own refusal, in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def no_space(folder):
    """ENOSPC at the first write that reaches the disk."""

    class Full:
        def __init__(self, path):
            self._file = open(path, "wb")  # noqa: SIM115, PTH123

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def __getattr__(self, name):
            return getattr(self._file, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_parts, "create", Full)
        yield


@contextlib.contextmanager
def read_only(folder):
    with pytest.MonkeyPatch.context() as patch:

        def create(path):
            raise OSError(errno.EROFS, "Read-only file system", str(path))

        patch.setattr(journal_parts, "create", create)
        yield


@contextlib.contextmanager
def gone(folder):
    """The disk is taken away and brought back."""
    folder.rename(folder.with_name("away"))
    try:
        yield
        assert not folder.exists()  # nothing is written where it was
    finally:
        folder.with_name("away").rename(folder)


def second(settler, worker, s):
    settler.feed(*worker.second(s))
    settler.on_time((START_S + s) * NS + NS // 2)


@pytest.fixture
def quick(monkeypatch):
    """No provisional statements and no waiting for the platter: neither is what is tested."""
    monkeypatch.setattr(settle, "PROVISIONAL_S", 1e6)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.parametrize("trouble", [small_files, no_space, read_only, gone])
def test_a_disk_that_does_not_take_it_is_waited_for(tmp_path, trouble, quick):
    """No crash, said since when and why, and all there when it is back."""
    folder, worker = tmp_path / "journal", Worker()
    settler = Settler(folder, lambda _: None)
    for s in range(30):
        second(settler, worker, s)
    with trouble(folder):
        for s in range(30, 100):
            second(settler, worker, s)
            assert s < 55 or settler.stalled is not None
        assert settler.stalled.since_ns <= (START_S + 55) * NS
        assert len(settler.stalled.why) > 5
        assert not settler.full
        assert settler.writer.waiting_bytes > 0
    for s in range(100, 101 + RETRY_MAX_S):
        second(settler, worker, s)
    assert settler.stalled is None
    settler.close()
    assert survey(folder).problems == []
    assert survey(folder).leftover == []
    assert settler.writer.gaps == 0
    assert journal.read(folder, Kind.TICKS).rows.size == 101 + RETRY_MAX_S


@pytest.mark.parametrize("since_s", [0, QUARTER])
def test_no_final_statement_rests_on_what_is_not_on_disk(tmp_path, quick, since_s):
    """An interval ends while the disk is away, or finds it so: its statement comes when it is back, once."""
    folder, told, worker = tmp_path / "journal", [], Worker()
    settler = Settler(folder, told.append)
    for s in range(since_s):
        settler.feed(*worker.second(s))
    with gone(folder):
        for s in range(since_s, QUARTER + 60):
            settler.feed(*worker.second(s))
            if s % 20 == 19:  # not before the interval ends, where the disk goes only then
                settler.on_time((START_S + s) * NS + NS // 2)
        assert settler.stalled is not None
        assert not finals(told)
    settler.on_time((START_S + QUARTER + 100) * NS)
    assert settler.stalled is None
    assert len(finals(told)) == len([item for item in told if item.final]) == 1
    settler.close()
    assert finals(settle_folder(folder)) == finals(told) == finals(written(folder))


def test_from_a_bound_on_the_shell_reads_no_further(tmp_path, monkeypatch, quick):
    """What waits is bounded; the stream keeps the rest, and what even that loses is a gap with its reason."""
    monkeypatch.setattr(settle, "WAITING_BYTES", 20_000)
    folder, worker = tmp_path / "journal", Worker()
    settler = Settler(folder, lambda _: None)
    second(settler, worker, 0)
    with no_space(folder):
        s = 0
        while not settler.full:
            s += 1
            second(settler, worker, s)
            assert s < 200
    for skipped in range(s + 1, s + 11):  # the stream held no more
        worker.second(skipped)
    settler.on_time((START_S + s + 40) * NS)
    assert not settler.full
    second(settler, worker, s + 41)
    settler.close()
    (row,) = journal.read(folder, Kind.TICKS).gaps
    assert row["reason"] == b"stream"
    assert (row["last"] - row["first"] + 1) == settler.writer.gaps > 10


def test_stopped_while_the_disk_is_full_it_goes_on_where_the_files_end(tmp_path, quick):
    """Stopped while the disk is full: what waited is still in the stream and is read again."""
    folder, worker, told = tmp_path / "journal", Worker(), []
    payloads = [worker.second(s) for s in range(QUARTER + 10)]
    settler = Settler(folder, told.append)
    for s in range(100):
        settler.feed(*payloads[s])
        settler.on_time((START_S + s) * NS + NS // 2)
    with no_space(folder):
        for s in range(100, 200):
            settler.feed(*payloads[s])
            settler.on_time((START_S + s) * NS + NS // 2)
        settler.close()
        assert settler.stalled is not None
    again = Settler(folder, told.append)
    at = [stream_id for stream_id, _ in payloads].index(again.resume_id()) + 1
    assert 80 < at <= 100
    for payload in payloads[at:]:
        again.feed(*payload)
    again.close()
    assert len(finals(told)) == 1
    assert finals(settle_folder(folder)) == finals(told)
    assert again.writer.gaps == 0


def test_a_folder_has_one_writer_process(tmp_path):
    held = """
from pathlib import Path
from aggregator.journal_files import lock
print(lock(Path("{}")), flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", held.format(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:  # fmt: skip
        assert other.stdout.readline() == b"True\n"
        with pytest.raises(JournalError, match="another process writes it"):
            lock(tmp_path)
        other.kill()
    lock(tmp_path)
    assert survey(tmp_path).problems == []


# ---- late history ------------------------------------------------------------------------------------------------


def test_late_history_lies_beside_the_journal_and_no_replay_sees_it(tmp_path):
    folder = tmp_path / "journal"
    settler, worker = Settler(folder, lambda _: None), Worker()
    late = np.zeros(3, FREQUENCY)
    late["t_ns"], late["hz"] = np.arange(3) + START_S * NS, 49.9
    late["rx_ns"] = (START_S + 3600) * NS
    for s in range(30):
        second(settler, worker, s)
    settler.feed_backfill("5-1", wire.encode(late))
    settler.feed_backfill("5-2", b"no block")
    settler.feed_backfill("5-3", wire.encode(late[:1]))
    settler.feed_backfill("5-3", wire.encode(late[:1]))  # delivered twice
    settler.close()
    found = journal.read(folder, Kind.BACKFILL)
    assert found.rows.tobytes() == late.tobytes() + late[:1].tobytes()
    (row,) = found.gaps
    assert row.tolist()[:5] == (b"backfill", b"malformed", 5, 1, 1)
    assert (settler.malformed, settler.backfill.skipped) == (1, 1)
    kinds = {entry.kind for entry in journal_reader.entries(folder)}
    assert Kind.BACKFILL not in kinds
    assert Kind.SAMPLES in kinds
    assert journal.read(folder, Kind.SAMPLES).rows.size == 30
    again = Settler(folder, lambda _: None)
    assert again.backfill.resume_id() == "5-3"
    assert journal.read(folder, Kind.BACKFILL, (START_S + 3601) * NS).rows.size == 0
    assert isinstance(next(journal_reader.entries(folder / journal_parts.BACKFILL)), Entry)
