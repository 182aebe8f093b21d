"""Sealing that has stopped says so, since when and why; rows beyond memory are counted."""

from __future__ import annotations

import numpy as np
import pytest

from aggregator import growing
from aggregator.evidence_files import EvidenceFiles
from aggregator.journal import Entry, Kind
from aggregator.process import logger
from aggregator.records import TICK
from aggregator.sealing import Sealer
from aggregator.settling import Sealing, _sealer
from settlement.evidence import EvidenceError
from settlement.ledger import Key
from tests.aggregator.test_sealing import KEYS, opened, payloads, quick, run  # noqa: F401 - fixtures
from tests.aggregator.test_settle import NS


def test_decisions_beyond_memory_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "ROWS_MAX", 1000)
    sealer, sealing = Sealer(EvidenceFiles(tmp_path, KEYS, "CE")), Sealing()
    for k in range(3):
        sealer.feed(Entry(Kind.TICKS, 0, k, NS, np.zeros(600, TICK).tobytes()))
    assert sealer.dropped == 800
    sealing.look(sealer, 5 * NS)
    sealing.look(sealer, 9 * NS)
    assert (sealing.since_ns, sealing.why[:13]) == (5 * NS, "800 decisions")


def test_an_interval_that_cannot_be_sealed_stops_it_until_the_next(tmp_path, payloads, monkeypatch):  # noqa: F811
    settler, sealing = opened(tmp_path, []), Sealing()
    real = Sealer._seal

    def refuse(self, due, now_ns):
        raise EvidenceError("no whole seconds")

    monkeypatch.setattr(Sealer, "_seal", refuse)
    run(settler, payloads[:1000])
    sealing.look(settler.sealer, 5 * NS)
    assert (sealing.since_ns, sealing.why) == (5 * NS, "no whole seconds")
    monkeypatch.setattr(Sealer, "_seal", real)
    run(settler, payloads[1000:], begin=1000)
    sealing.look(settler.sealer, 9 * NS)
    assert (sealing.since_ns, sealing.why, settler.sealer.refused) == (0, "", 1)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_ledger_whose_key_is_gone_is_told(tmp_path, wanted):
    files = EvidenceFiles(tmp_path / "evidence", [Key(b"\x03" * 32)], "ce")
    files.append("2023-11-14", lambda ledger, contract: (ledger.head(NS) and {}, contract or []), NS)
    sealing = Sealing()
    keys = tmp_path / "keys" if wanted else None
    sealer = _sealer("ce", tmp_path / "journal", keys, logger("settle"), None, sealing)
    if wanted and sealer is not None:
        sealer.end(NS)  # the ledger itself is asked for its key when it is gone on with
    sealing.look(sealer, 5 * NS)
    assert bool(sealing.since_ns) is wanted
    assert ("not among the keys" in sealing.why) is wanted
