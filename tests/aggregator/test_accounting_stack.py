"""Products settled in intervals of several lengths on one fleet: each finds its vehicles' accounts, folded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aggregator.contracts import Contract, CoreSettings
from aggregator.evidence_files import EvidenceFiles, evidence_files, read
from aggregator.journal import pack
from aggregator.sealing import Sealer
from aggregator.settle import Settler
from droop.products import load
from settlement.ledger import Key
from settlement.verifier import RECORD, verify
from tests.aggregator.test_accounting import T0, Line, S
from tests.settlement.sealed import body

BEGIN = T0 + 900 * S  # on half an hour


@pytest.mark.parametrize("lengths", [(900, 300), (300, 900), (900, 1800), (1800, 900)])
def test_every_length_has_its_leaves(tmp_path, lengths):
    products = [replace(load("ce_fcr"), id=f"p{k}", interval_s=s) for k, s in enumerate(lengths)]
    settings = CoreSettings("ce", 2, tuple(Contract(product, 1.0) for product in products))
    line = Line(settings, {0: {}, 1: {}})
    sealer = Sealer(EvidenceFiles(tmp_path / "evidence", [Key(b"\x07" * 32)], "ce"))
    settler = Settler(tmp_path / "journal", lambda _: None, sealer=sealer)
    for k in range(max(lengths) + 10):
        line.second(BEGIN + k * S, 49.9)
    for k in range(0, len(line.entries), 500):
        settler.feed(f"7-{k // 500 + 1}", pack(line.entries[k : k + 500]))
    settler.close()
    paths = evidence_files(tmp_path / "evidence")
    assert verify(paths)["ok"]
    roots = [body(text)["data"] for text in read(paths) if RECORD.fullmatch(text) and body(text)["kind"] == "root"]
    found = sorted((root["end_ns"] - root["start_ns"]) // S for root in roots)
    assert found == sorted([min(lengths)] * (max(lengths) // min(lengths)) + [max(lengths)])
    # A row a vehicle's stay, however many accounts it had.
    assert {root["count"] for root in roots} == {2}
