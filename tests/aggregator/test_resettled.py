"""A recorded run settled once more: its newest revisions, the products of its time, what a silence had closed."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from aggregator import billing, resettled, settle
from aggregator.billing import Asked
from aggregator.contracts import Contract, CoreSettings
from aggregator.corrections import CORRECT_S
from aggregator.evidence_files import EvidenceFiles
from aggregator.sealing import Sealer
from aggregator.sealing_late import seal_folder
from aggregator.settle import SILENCE_S, Settler, verify_folder, written
from settlement.recompute import recompute
from settlement.verifier import verify
from tests.aggregator.test_corrections import Deaf, drive
from tests.aggregator.test_sealing import KEYS
from tests.aggregator.test_sealing_corrections import LATER_S, body, corrected
from tests.aggregator.test_settle import NS, QUARTER, START_S, Worker, live
from tests.settlement.bills import CE

ALWAYS = "product,start,end,price,unit\nce_fcr,2020-01-01T00:00Z,2030-01-01T00:00Z,100,EUR/MW/h\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(settle, "PROVISIONAL_S", 1e6)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def twice(folder):
    """An interval that was settled, and once more when history came."""
    settler = corrected(folder)
    settler.on_time((START_S + LATER_S + CORRECT_S + 1) * NS)
    settler.close()
    first, second = written(folder / "journal")
    assert second.revision == 1
    return first, second


def test_what_was_corrected_is_shown_as_the_revision_it_is(tmp_path):
    _, second = twice(tmp_path)
    found = billing.settle(tmp_path / "journal", Asked(), [])
    assert found.statements[0] == second
    assert found.corrected == 1


def test_what_is_not_on_disk_yet_is_the_next_revision(tmp_path):
    """The history lies beside the journal, the line ended before it counted."""
    settler, worker = Settler(tmp_path / "journal", lambda _: None), Deaf()
    drive(settler, worker, range(LATER_S))
    settler.feed_backfill("5-1", worker.told(START_S + LATER_S))
    settler.close()
    (stated,) = written(tmp_path / "journal")
    found, *_ = billing.settle(tmp_path / "journal", Asked(), []).statements
    assert (stated.revision, found.revision) == (0, 1)
    assert found.coverage_frac > stated.coverage_frac


def test_sealed_late_a_correction_says_that_it_is_one(tmp_path):
    _, second = twice(tmp_path)
    out = tmp_path / "late.jsonl"
    said = seal_folder(tmp_path, out, (START_S + 90_000) * NS)
    assert verify([out], said["key"])["ok"]
    with out.open("rb") as lines:
        assert recompute(lines).mismatches == []
    (stated,) = (body(line)["data"] for line in out.read_bytes().splitlines(keepends=True) if b'"statement"' in line)
    assert stated["statement"]["revision"] == 1
    assert stated["statement"]["coverage_frac"] == second.coverage_frac


def test_an_interval_that_a_silence_closed_is_final_again(tmp_path):
    told = []
    live(tmp_path / "journal", Worker(), range(QUARTER), told, until_s=QUARTER + SILENCE_S + 10).close()
    (stated,) = written(tmp_path / "journal")
    assert stated.final
    found = billing.settle(tmp_path / "journal", Asked(), [])
    assert found.statements == [stated]
    assert verify_folder(tmp_path / "journal") == 1


def sold(product):
    return CoreSettings("CE", 4, (Contract(product, 1000.0),))


def test_each_line_is_by_the_product_in_force(tmp_path):
    """The rules change with the second run: its intervals, and no other, are paid by half."""
    (tmp_path / "prices.csv").write_text(ALWAYS)
    now = replace(CE, market=replace(CE.market, price_unit="EUR/MW/h"), penalty={}, score={})
    later = replace(now, settlement={"fn": "miso", "alpha": 0.5})
    settler = Settler(tmp_path / "journal", lambda _: None)
    first, second = Worker(own=sold(now)), Worker(epoch=8, own=sold(later))
    for s in range(QUARTER):
        settler.feed(*first.second(s))
    for s in range(QUARTER, 2 * QUARTER + 10):
        settler.feed(*second.second(s))
    settler.close()
    found = billing.settle(tmp_path / "journal", Asked(prices=tmp_path / "prices.csv"), [])
    paid = [(item.start_ns // NS - START_S, item.line.what) for item in found.bill.items if item.final]
    assert paid == [(0, "capacity"), (QUARTER, "regulation")]
    assert [one.sold[0].product.settlement["fn"] for one in resettled.closed(tmp_path / "journal")] == [
        "capacity_block", "miso", "miso",
    ]  # fmt: skip


def test_what_was_sealed_live_and_what_is_sealed_late_agree(tmp_path):
    sealer = Sealer(EvidenceFiles(tmp_path / "evidence", KEYS, "CE"))
    settler = Settler(tmp_path / "journal", lambda _: None, sealer=sealer)
    drive(settler, Worker(), range(QUARTER + 30))
    settler.close()
    said = seal_folder(tmp_path, tmp_path / "late.jsonl", (START_S + 90_000) * NS)
    assert (said["statements"], said["refused"]) == (1, 0)
