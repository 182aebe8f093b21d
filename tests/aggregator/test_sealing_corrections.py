"""What late history corrects is corrected in the evidence too: a new record that names the old one, once."""

from __future__ import annotations

import os

import pytest

from aggregator import settle
from aggregator.corrections import CORRECT_S
from aggregator.evidence_files import EvidenceFiles, evidence_files, read
from aggregator.sealing import Sealer
from aggregator.sealing_late import seal_folder
from aggregator.settle import Settler, written
from settlement.ledger import Key
from settlement.recompute import recompute
from settlement.verifier import RECORD, verify
from tests.aggregator.test_corrections import Deaf, drive
from tests.aggregator.test_settle import NS, QUARTER, START_S
from tests.settlement.sealed import body

KEYS = [Key(b"\x07" * 32)]
LATER_S = QUARTER + 60


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(settle, "PROVISIONAL_S", 1e6)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def opened(folder):
    return Settler(folder / "journal", lambda _: None, sealer=Sealer(EvidenceFiles(folder / "evidence", KEYS, "CE")))


def records(folder, kind):
    lines = read(evidence_files(folder / "evidence"))
    found = [(RECORD.fullmatch(line)[1].decode(), body(line)) for line in lines if RECORD.fullmatch(line)]
    return [(hashed, record["data"]) for hashed, record in found if record["kind"] == kind]


def whole(folder, statements):
    paths = evidence_files(folder / "evidence")
    found = verify(paths, KEYS[0].public, running=True)
    assert found["ok"], found["problems"]
    again = recompute(read(paths))
    assert (again.statements, again.mismatches) == (statements, [])


def corrected(folder):
    """An interval that is final, then history that reaches it."""
    settler, worker = opened(folder), Deaf()
    drive(settler, worker, range(LATER_S))
    settler.on_time((START_S + LATER_S) * NS)
    assert len(records(folder, "statement")) == 1
    settler.feed_backfill("5-1", worker.told(START_S + LATER_S))
    return settler


def test_a_correction_is_sealed_beside_what_it_corrects(tmp_path):
    settler = corrected(tmp_path)
    settler.on_time((START_S + LATER_S + CORRECT_S + 1) * NS)
    settler.on_time((START_S + LATER_S + CORRECT_S + 2) * NS)
    first, second = written(tmp_path / "journal")
    assert (first.revision, second.revision) == (0, 1)
    ((old, _),) = records(tmp_path, "statement")
    ((_, correction),) = records(tmp_path, "correction")
    assert correction["corrects"] == old
    assert correction["statement"]["revision"] == 1
    assert correction["statement"]["coverage_frac"] > first.coverage_frac
    assert "late history through 5-0" in correction["reason"]
    whole(tmp_path, 2)
    settler.close()
    again = opened(tmp_path)
    again.close()
    assert len(records(tmp_path, "correction")) == 1


def test_a_correction_on_disk_that_was_not_sealed_is_sealed_by_the_next_life(tmp_path, monkeypatch):
    settler = corrected(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Sealer, "flush", lambda *_: None)
        settler.on_time((START_S + LATER_S + CORRECT_S + 1) * NS)
        settler.close()
    assert [item.revision for item in written(tmp_path / "journal")] == [0, 1]
    assert records(tmp_path, "correction") == []
    again = opened(tmp_path)
    again.close()
    assert len(records(tmp_path, "correction")) == 1
    whole(tmp_path, 2)


def test_a_statement_of_older_files_is_found_to_be_corrected(tmp_path):
    """Three days later its file is not among those that are kept in mind."""
    settler = corrected(tmp_path)
    files = settler.sealer.files
    (key,) = files.sealed
    hashed = files.sealed[key]
    for day in ("2023-11-20", "2023-11-21", "2023-11-22"):
        files.append(day, lambda ledger, contract: (ledger.head(NS) and {}, contract), NS)
    again = EvidenceFiles(tmp_path / "evidence", KEYS, "CE")
    assert key not in again.sealed
    assert again.hash_of(key) == hashed
    assert again.hash_of("another") is None


def test_sealed_late_the_newest_word_counts(tmp_path):
    settler = corrected(tmp_path)
    settler.on_time((START_S + LATER_S + CORRECT_S + 1) * NS)
    settler.close()
    out = tmp_path / "late.jsonl"
    said = seal_folder(tmp_path, out, (START_S + 90_000) * NS)
    assert verify([out], said["key"])["ok"]
    with out.open("rb") as lines:
        assert recompute(lines).mismatches == []
    stated = [
        body(line)["data"] for line in out.read_bytes().splitlines(keepends=True) if b'"kind":"statement"' in line
    ]
    assert stated[0]["statement"]["coverage_frac"] == written(tmp_path / "journal")[-1].coverage_frac
