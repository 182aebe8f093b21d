"""Money in the evidence: live and after the fact, computed again, and what is wrong in it found."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from aggregator import billing, settle
from aggregator.billing import Asked
from aggregator.contracts import Contract, CoreSettings
from aggregator.corrections import CORRECT_S
from aggregator.evidence_files import EvidenceFiles, evidence_files, read
from aggregator.evidence_keys import evidence_keys
from aggregator.pricing import Pricer
from aggregator.sealing import Sealer
from aggregator.sealing_bill import seal_bill
from aggregator.settle import Settler, written
from droop.products import load
from settlement.ledger import Ledger
from settlement.recompute import recompute
from settlement.verifier import RECORD, verify
from tests.aggregator.test_cli import flyball  # noqa: F401 - a fixture
from tests.aggregator.test_corrections import Deaf, drive
from tests.aggregator.test_settle import NS, QUARTER, START_S, Worker
from tests.settlement.sealed import KEY, body, line_of

PRODUCT = replace(
    load("ce_fcr"), id="paid", market=replace(load("ce_fcr").market, currency="EUR", price_unit="EUR/MW/h"),
    settlement={"fn": "capacity_block"}, penalty={}, effective_from="", effective_to="",
)  # fmt: skip
SETTINGS = CoreSettings("CE", 4, (Contract(PRODUCT, 1000.0),))
HEAD = "product,start,end,price,unit\n"
FIRST = "paid,2023-11-14T22:15:00Z,2023-11-14T22:30:00Z,40,EUR/MW/h\n"
SECOND = "paid,2023-11-14T22:30:00Z,2023-11-14T23:15:00Z,80,EUR/MW/h\n"
LATER_NS = (START_S + 86_400) * NS


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(settle, "PROVISIONAL_S", 1e6)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def opened(folder, prices=None):
    files = EvidenceFiles(folder / "evidence", evidence_keys(folder / "keys"), "CE")
    return Settler(folder / "journal", lambda _: None, sealer=Sealer(files, pricer=prices and Pricer(prices)))


def records(folder, kind):
    lines = read(evidence_files(folder / "evidence"))
    found = [body(line) for line in lines if RECORD.fullmatch(line)]
    return [record["data"] for record in found if record["kind"] == kind]


def whole(folder, lines):
    paths = evidence_files(folder / "evidence")
    found = verify(paths, evidence_keys(folder / "keys")[0].public)
    assert found["ok"], found["problems"]
    again = recompute(read(paths))
    assert (again.mismatches, again.lines, again.unpriced) == ([], lines, 0)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two intervals, sealed live without prices."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settle, "PROVISIONAL_S", 1e6)
        settler = opened(folder)
        drive(settler, Worker(own=SETTINGS), range(2 * QUARTER + 30))
        settler.close()
    (folder / "prices.csv").write_text(HEAD + FIRST + SECOND)
    return folder


def amounts(data):
    return [(line["what"], line["amount"]) for line in data["lines"]]


def test_a_run_that_ends_closes_its_file_and_the_next_life_begins_another(tmp_path):
    worker = Worker(own=SETTINGS)
    settler = opened(tmp_path)
    drive(settler, worker, range(QUARTER + 10))
    settler.close()
    assert verify(evidence_files(tmp_path / "evidence"))["ok"]  # without --open
    for k in (1, 2, 3):
        settler = opened(tmp_path)
        drive(settler, worker, range(k * QUARTER + 10, (k + 1) * QUARTER + 10))
        settler.close()
    paths = evidence_files(tmp_path / "evidence")
    assert [path.name[:10] for path in paths] == ["2023-11-14"] * 4
    assert verify(paths)["ok"]
    assert len({item["key"] for item in records(tmp_path, "statement")}) == 4
    # Of all files of a day it is known what is in them: nothing is sealed twice by a life that reads back.
    assert len(EvidenceFiles(tmp_path / "evidence", evidence_keys(tmp_path / "keys"), "CE").sealed) == 4


@pytest.fixture(scope="module")
def billed(recorded):
    """The same with its bill; and what was said of it."""
    settled = billing.settle(recorded / "journal", Asked(prices=recorded / "prices.csv"), [])
    return recorded, settled, seal_bill(recorded, settled, LATER_NS)


def test_a_bill_is_sealed_behind_a_run_once(billed):
    folder, settled, told = billed
    assert told == {"sealed_lines": 2, "unsealed": ""}
    (data,) = records(folder, "price")
    assert amounts(data) == [("capacity", "10.00"), ("capacity", "20.00")]
    assert [row["price"] for row in data["prices"]] == ["40", "80"]
    assert data["contracts"] is None
    whole(folder, 2)
    assert seal_bill(folder, settled, LATER_NS + NS) == told
    assert len(records(folder, "price")) == 1


def test_the_command_seals_and_verify_computes_the_lines_again(recorded, tmp_path, flyball):  # noqa: F811
    folder = tmp_path / "copy"
    settler = opened(folder)
    drive(settler, Worker(own=SETTINGS), range(QUARTER + 30))
    settler.close()
    (folder / "contracts.csv").write_text(
        "product,start,end,sold_kw\npaid,2023-11-14T22:15:00Z,2023-11-14T22:25:00Z,500\n"
    )
    command = ["settle", str(folder), "--prices", str(recorded / "prices.csv"), "--contracts",
               str(folder / "contracts.csv"), "--out", str(tmp_path / "bill"), "--json", "-"]  # fmt: skip
    told = json.loads(flyball(*command).out)
    assert (told["sealed_lines"], told["unsealed"], told["corrected"]) == (1, "", 0)
    (data,) = records(folder, "price")
    assert amounts(data) == [("capacity", "3.33")]
    found = json.loads(flyball("verify", str(folder), "--recompute", "--json", "-").out)
    assert (found["ok"], found["recomputed_lines"], found["unpriced"]) == (True, 1, 0)


def resealed(folder, out, change):
    """The evidence with another price record, signed again by its owner: a forger who has the key."""
    ledger = Ledger(KEY)
    for line in read(evidence_files(folder / "evidence")):
        match = RECORD.fullmatch(line)
        if match is None:
            continue
        record = body(line)
        kind, data = record["kind"], record["data"]
        if kind == "open":
            if ledger.place is None:
                ledger.open(data["area"], data["day"], data["origin"], record["sealed_ns"])
        elif kind == "head":
            ledger.head(record["sealed_ns"])
        elif kind != "root":
            if kind == "price":
                change(data)
            ledger.record(kind, data, record["sealed_ns"])
    ledger.head(LATER_NS, closes=True)
    out.write_bytes(b"".join(ledger.take()))
    assert verify([out], KEY.public)["ok"]
    return recompute(read([out]))


CHANGES = {
    "amount": lambda data: data["lines"][1].update(amount="20.01"),
    "factor": lambda data: data["lines"][0].update(factor="2"),
    "lines": lambda data: data["lines"].pop(),
    "price": lambda data: data["prices"][0].update(price="41"),
    "prices": lambda data: data["prices"].pop(),
    "revision": lambda data: data["statements"][0].update(revision=1),
    "contracts": lambda data: data.pop("contracts"),
    "amount of another": lambda data: data["lines"].reverse(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_money_that_does_not_follow_is_named_though_it_was_sealed(billed, tmp_path, what):
    recorded, *_ = billed
    assert resealed(recorded, tmp_path / "same.jsonl", lambda _: None).mismatches == []
    found = resealed(recorded, tmp_path / "forged.jsonl", CHANGES[what])
    assert found.mismatches
    assert any("price" in item.what for item in found.mismatches)


def test_a_changed_line_of_money_breaks_the_chain(billed, tmp_path):
    lines = list(read(evidence_files(billed[0] / "evidence")))
    place = next(k for k, line in enumerate(lines) if b'"kind":"price"' in line)
    forged = body(lines[place])
    forged["data"]["lines"][0]["amount"] = "11.00"
    out = tmp_path / "forged.jsonl"
    out.write_bytes(b"".join([*lines[:place], line_of(forged), *lines[place + 1 :]]))
    found = verify([out], running=True)
    assert not found["ok"]
    assert any("price" in item["record"] or "head" in item["record"] for item in found["problems"])


def test_a_live_line_seals_what_each_interval_earned(tmp_path):
    """The second price comes a while after its interval; a correction is priced anew."""
    prices = tmp_path / "prices.csv"
    prices.write_text(HEAD + FIRST)
    settler, worker = opened(tmp_path, prices), Deaf()
    worker.head = [(worker.head[0][0], 0, SETTINGS.to_json())]
    drive(settler, worker, range(2 * QUARTER + 30))
    sealer = settler.sealer
    assert [amounts(data) for data in records(tmp_path, "price")] == [[("capacity", "8.91")]]
    assert (sealer.priced, sealer.pricer.waiting) == (1, 1)
    assert "paid: no `capacity` price for 2023-11-14T22:30:00Z" in sealer.pricer.why
    prices.write_text(HEAD + FIRST + SECOND)
    drive(settler, worker, range(2 * QUARTER + 30, 2 * QUARTER + 60))
    settler.feed_backfill("5-1", worker.told(2 * QUARTER + 60))
    settler.on_time((START_S + 2 * QUARTER + 61) * NS)
    for s in (CORRECT_S + 1, CORRECT_S + 2, CORRECT_S + 3):
        settler.on_time((START_S + 2 * QUARTER + 61 + s) * NS)
    settler.close()
    assert [item.revision for item in written(tmp_path / "journal")] == [0, 1, 0]
    assert [amounts(data)[0][1] for data in records(tmp_path, "price")] == ["8.91", "20.00", "10.00"]
    assert [data["statements"][0]["revision"] for data in records(tmp_path, "price")] == [0, 0, 1]
    whole(tmp_path, 3)
    # Another life finds nothing left to price.
    again = opened(tmp_path, prices)
    again.close()
    assert len(records(tmp_path, "price")) == 3


def test_a_factor_by_the_worst_of_the_block_takes_the_block_along(tmp_path):
    """K of a whole block: what was billed before is billed anew when a worse interval comes."""
    product = replace(
        load("gb_dc_low"), score=dict(load("gb_dc_low").score) | {"k_scope": "block"}, interval_s=900,
        effective_from="", effective_to="",
    )  # fmt: skip
    prices = tmp_path / "prices.csv"
    prices.write_text(HEAD + "gb_dc_low,2023-11-14T00:00Z,2023-11-15T00:00Z,10,GBP/MW/h\n")
    settler = opened(tmp_path, prices)
    drive(settler, Worker(own=CoreSettings("GB", 4, (Contract(product, 1000.0),))), range(2 * QUARTER + 30))
    settler.close()
    first, second = records(tmp_path, "price")
    assert [len(data["statements"]) for data in (first, second)] == [1, 2]
    whole(tmp_path, len(first["lines"]) + len(second["lines"]))


def test_a_run_without_evidence_has_none_of_its_bill(billed, tmp_path):
    assert seal_bill(tmp_path, billed[1], LATER_NS) == {}
