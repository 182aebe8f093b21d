"""The record of several sources: every row with its marks and every alarm, whole, once, apart by ingest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import journal, journal_survey
from aggregator.config import ChoiceTable, JournalTable, SourceTable
from aggregator.journal import Kind
from aggregator.journal_keeping import Limits
from aggregator.journal_listing import listing
from aggregator.settle import Settler
from aggregator.sourcefiles import SourceFiles, alarms
from aggregator.sources import Followed, Sources, choice_settings
from telemetry import wire
from telemetry.quality import Gate, GateSettings
from telemetry.samples import FREQUENCY, Block, Quality

S = 1_000_000_000
BEGIN = 1_790_000_000 * S
HOUR = 3600 * S


def rows(first: int, count: int, *, source: int = 1, quality: int = 0, at_ns: int = BEGIN) -> Block:
    block = np.zeros(count, FREQUENCY)
    block["t_ns"] = at_ns + np.arange(first, first + count) * S
    block["rx_ns"] = block["t_ns"] + 1000
    block["hz"], block["volt_frac"], block["source"], block["quality"] = 50.0, np.nan, source, quality
    return block


def alarm(code: str, at_s: int, cleared_s: int = 0) -> dict[str, Any]:
    return {
        "code": code, "severity": "warning", "since_ns": BEGIN + at_s * S, "text": "?",
        "cleared_ns": BEGIN + cleared_s * S if cleared_s else 0,
    }  # fmt: skip


def fed(folder: Path, *entries: tuple[str, str, bytes], ingests: tuple[str, ...] = ("i1", "i2")) -> SourceFiles:
    files = SourceFiles(folder, ingests)
    for ingest, stream_id, payload in entries:
        files.feed(ingest, stream_id, payload)
    files.flush()
    return files


def test_what_a_source_said_at_a_moment_and_why_it_was_not_used(tmp_path: Path) -> None:
    said = [rows(0, 10), rows(0, 10, source=2, quality=int(Quality.OUTVOTED))]
    fed(
        tmp_path,
        ("i1", "7-1", wire.encode(said[0])),
        ("i1", "7-2", wire.encode(said[1])),
        ("i2", "8-1", wire.encode(rows(0, 3, source=3))),
        ("i1", "7-3", orjson.dumps(alarm("SOURCES_DISAGREE", 4))),
        ("i1", "7-4", orjson.dumps(alarm("SOURCES_DISAGREE", 4, 9))),
    )
    found = journal.read(tmp_path, Kind.SOURCES)
    assert found.rows.tobytes() == np.concatenate([*said, rows(0, 3, source=3)]).tobytes()
    assert found.rows.dtype == FREQUENCY
    assert not found.gaps.size
    assert not found.problems
    then = found.rows[(found.rows["source"] == 2) & (found.rows["t_ns"] == BEGIN + 3 * S)]
    assert then["quality"].tolist() == [int(Quality.OUTVOTED)]
    told = list(alarms(tmp_path))
    assert [(name, a["code"], a["cleared_ns"]) for name, a in told] == [
        ("i1", "SOURCES_DISAGREE", 0), ("i1", "SOURCES_DISAGREE", BEGIN + 9 * S),
    ]  # fmt: skip
    assert list(alarms(tmp_path, "i2")) == []
    # Between two times, by arrival.
    assert journal.read(tmp_path, Kind.SOURCES, BEGIN + 100 * S).rows.size == 0


def test_the_journal_itself_does_not_hold_it_and_lists_it(tmp_path: Path) -> None:
    fed(tmp_path, ("i2", "7-1", wire.encode(rows(0, 5))))
    assert journal.read(tmp_path, Kind.SAMPLES).rows.size == 0
    assert not journal_survey.survey(tmp_path).problems
    problems: list[journal.Problem] = []
    found = listing(tmp_path, problems)
    assert problems == []
    assert [(span["of"], span["epoch"], span["first"], span["last"]) for span in found["spans"]] == [
        ("sources-i2", 7, 0, 0)
    ]
    assert found["kinds"]["sources"]["rows"] == 5


def test_a_restart_goes_on_where_the_files_end(tmp_path: Path) -> None:
    first = fed(tmp_path, ("i1", "7-1", wire.encode(rows(0, 2))), ("i1", "7-2", wire.encode(rows(2, 2))))
    assert first.resume_id("i1") == "7-2"
    assert first.resume_id("i2") is None
    again = SourceFiles(tmp_path, ("i1", "i2"))
    assert again.resume_id("i1") == "7-2"
    again.feed("i1", "7-2", wire.encode(rows(2, 2)))  # told twice
    again.feed("i1", "7-3", wire.encode(rows(4, 2)))
    assert again.waiting_bytes > 0
    again.flush()
    assert again.waiting_bytes == 0
    found = journal.read(tmp_path, Kind.SOURCES)
    assert found.rows["t_ns"].tolist() == [BEGIN + k * S for k in range(6)]
    assert not found.gaps.size


def test_what_the_stream_lost_and_what_is_no_record_leaves_a_gap_by_name(tmp_path: Path) -> None:
    files = fed(
        tmp_path,
        ("i2", "7-1", wire.encode(rows(0, 1))),
        ("i2", "7-4", wire.encode(rows(3, 1))),
        ("i2", "7-5", b"{}"),
        ("i2", "7-6", wire.encode(rows(5, 1))),
    )
    assert files.malformed == 1
    found = journal.read(tmp_path, Kind.SOURCES)
    assert [(g["of"], g["reason"], g["first"], g["last"]) for g in found.gaps] == [
        (b"sources-i2", b"stream", 1, 2), (b"sources-i2", b"malformed", 4, 4),
    ]  # fmt: skip


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=5))
TABLES = st.dictionaries(st.sampled_from(["code", "since_ns", "cleared_ns", "x"]), VALUES)


@given(st.one_of(st.binary(max_size=80), TABLES.map(orjson.dumps), st.binary(max_size=9).map(lambda b: b"{" + b)))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_a_record_or_counted(tmp_path_factory: pytest.TempPathFactory, payload: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    files = SourceFiles(folder, ("i1",))
    files.feed("i1", "7-1", payload)
    files.feed("i1", "7-2", wire.encode(rows(1, 1)))
    files.flush()
    found = journal.read(folder, Kind.SOURCES)
    assert found.rows.size >= 1
    assert files.malformed + found.rows.size + len(list(alarms(folder))) >= 2
    shutil.rmtree(folder)


def test_settlement_keeps_it_by_the_same_limits(tmp_path: Path) -> None:
    settler = Settler(tmp_path, lambda _: None, Limits(kind_days={"sources": 0.1}), ingests=("i1",))
    for hour in range(6):
        at_ns = BEGIN + hour * HOUR
        settler.sources.feed("i1", f"7-{2 * hour + 1}", wire.encode(rows(0, 3, at_ns=at_ns)))
        settler.sources.feed("i1", f"7-{2 * hour + 2}", orjson.dumps(alarm("SOURCE_LOST", 3600 * hour + 5)))
    assert settler.waiting_bytes > 0
    settler.on_time(BEGIN + 6 * HOUR)
    settler.writer.hour = "2026-09-30T00"  # an hour of the journal has gone by
    settler.on_time(BEGIN + 6 * HOUR + 100 * S)
    assert settler.removed > 0
    found = journal.read(tmp_path, Kind.SOURCES)
    assert 0 < found.rows.size < 18
    assert set(found.gaps["reason"].tolist()) == {b"retention"}
    assert len(list(alarms(tmp_path))) == 6  # what names nobody is small, and stays
    assert "sources" in JournalTable(keep_kind_days={"sources": 1}).keep_kind_days


class Silent:
    """A source that is never asked for anything."""


def test_an_ingest_tells_the_changes_of_its_alarms_once() -> None:
    settings_ = GateSettings()
    followed = {
        number: Followed(SourceTable(name=f"s{number}", port=1), Silent(), Gate(settings_, live=True))  # type: ignore[arg-type]
        for number in (1, 2)
    }
    sources = Sources(followed, choice_settings(ChoiceTable()), BEGIN)
    told = []
    for k in range(1, 400):
        blocks = []
        for number in (1, 2) if k < 100 or k > 300 else (2,):
            block = np.zeros(1, FREQUENCY)
            block["t_ns"] = BEGIN + k * S // 50
            block["rx_ns"], block["hz"], block["volt_frac"], block["source"] = block["t_ns"], 50 + k * 1e-5, 1.0, number
            blocks.append(block)
        sources.take(blocks)
        told += sources.watch(BEGIN + k * S // 50)
    assert [(a.code, bool(a.cleared_ns)) for a in told] == [("SOURCE_LOST", False)]
    for k in range(400, 700):
        for number in (1, 2):
            block = np.zeros(1, FREQUENCY)
            block["t_ns"] = BEGIN + k * S // 50
            block["rx_ns"], block["hz"], block["volt_frac"], block["source"] = block["t_ns"], 50 + k * 1e-5, 1.0, number
            sources.take([block])
        told += sources.watch(BEGIN + k * S // 50)
    assert [(a.code, bool(a.cleared_ns)) for a in told] == [("SOURCE_LOST", False), ("SOURCE_LOST", True)]
