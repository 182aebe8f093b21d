"""A bill into the evidence of a recorded run: price rows and lines of money, behind the statements they rest on.

Only what is sealed, in the revision that is billed, can be priced there; a bill that is sealed already changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aggregator.billing import Settled
from aggregator.evidence_files import FOLDER, EvidenceFiles, Sold, evidence_files, read
from aggregator.evidence_keys import evidence_keys
from aggregator.journal import JournalError
from aggregator.journal_files import writing
from aggregator.sealing import day
from settlement import evidence, money
from settlement.ledger import Ledger
from settlement.verifier import RECORD


def sealed_run(folder: Path) -> bool:
    """Whether there is evidence of a run."""
    return (folder / FOLDER).is_dir() and bool(evidence_files(folder / FOLDER))


def seal_bill(folder: Path, settled: Settled, now_ns: int) -> dict[str, Any]:
    """Seal a bill; what a result says of it: how many `sealed_lines`, and what could not be (`unsealed`).

    folder : of a run; nothing is done where it has no evidence, or nothing was priced

    Raises EvidenceDamaged, KeyFault, OSError.
    """
    prices = settled.files.prices
    if settled.bill is None or prices is None or not sealed_run(folder):
        return {}
    try:
        with writing(folder / "journal"):
            revisions, before = _sealed(folder / FOLDER)
            own = [item for item in settled.statements if item.final and revisions.get(item.key) == item.revision]
            left = sum(item.final for item in settled.statements) - len(own)
            unsealed = f"{left} statements are not in the evidence as they are billed" if left else ""
            if not own:
                return {"sealed_lines": 0, "unsealed": unsealed}
            data = money.plain(own, settled.rules, prices, settled.files.sales)
            if {item.key: before.get(item.key) for item in own} != _by_key(data):
                _append(folder, data, now_ns)
            return {"sealed_lines": len(data["lines"]), "unsealed": unsealed}
    except JournalError as error:
        return {"sealed_lines": 0, "unsealed": str(error)}


def _append(folder: Path, data: dict[str, Any], now_ns: int) -> None:
    def fill(ledger: Ledger, contract: Sold | None) -> tuple[dict[str, str], Sold]:
        evidence.seal_prices(ledger, data, now_ns)
        return {}, contract or []

    first = next(_records(folder / FOLDER, "open"))
    files = EvidenceFiles(folder / FOLDER, evidence_keys(folder / "keys"), first["area"])
    files.append(day(data["end_ns"] - 1), fill, now_ns)
    files.close(now_ns)


def _sealed(folder: Path) -> tuple[dict[str, int], dict[str, list[Any]]]:
    """(revision of each sealed statement, newest sealed lines of each) by key."""
    revisions: dict[str, int] = {}
    lines: dict[str, list[Any]] = {}
    for data in _records(folder, "statement", "correction"):
        revisions[data["statement"]["key"]] = data["statement"].get("revision", 0)
    for data in _records(folder, "price"):
        lines |= _by_key(data)
    return revisions, lines


def _by_key(data: dict[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {named["key"]: [] for named in data.get("statements", ())}
    for line in data["lines"]:
        found.setdefault(line.get("key", ""), []).append(line)
    return found


def _records(folder: Path, *kinds: str) -> Iterator[dict[str, Any]]:
    """Data of the records of some kinds; the others are not read as JSON, for their columns are long."""
    wanted = tuple(f'"kind":"{kind}","prev":"'.encode() for kind in kinds)
    for line in read(evidence_files(folder)):
        match = RECORD.fullmatch(line) if not line.startswith(b'{"leaf"') else None
        if match and any(kind in match[2][-300:] for kind in wanted):
            yield json.loads(match[2])["data"]
