"""Evidence of a recorded run, made after the fact: the same records as live, in one file that says so.

Its intervals are those that the run settled as final. The rows are sealed now, not when they were new: the file's
origin is `journal`, and each record says when it was sealed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aggregator import contracts, journal_reader
from aggregator.book import LATENCY_S
from aggregator.books import Books
from aggregator.corrections import read_late
from aggregator.evidence_files import EvidenceFile
from aggregator.evidence_keys import evidence_keys
from aggregator.journal import Kind, Problem
from aggregator.resettled import newest, numbered
from aggregator.sealing import Sealer, Vehicles
from aggregator.settle import SEALED, SettleError
from aggregator.vehiclebook import READ
from aggregator.vehiclefiles import VehicleKeeper
from settlement.align import NS
from settlement.evidence import Closed


def seal_folder(
    folder: Path, out: Path, now_ns: int, problems: list[Problem] | None = None,
    vehicles: Vehicles | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Seal a run's folder into one file; how many intervals and statements, and the public key.

    folder   : of a run, with `journal` in it; `keys` beside has the key, made if there is none
    vehicles : rows of an interval; None: computed from the journal, as live

    Raises SettleError where nothing in it is final, KeyFault, OSError; `out` is written whole or not at all.
    """
    journal = folder / "journal"
    stated = newest(journal)
    last_ns = max((item.end_ns for item in stated.values()), default=0)
    keeper = VehicleKeeper(None)
    sealer = Sealer(EvidenceFile(out, evidence_keys(folder / "keys"), _area(journal)), vehicles or keeper.rows)
    files: Any = sealer.files
    try:

        def close(closed: Closed) -> None:
            # The files give the newest figures: they are sealed as the revision that they are.
            sealer.close(closed._replace(statements=tuple(numbered(item, stated) for item in closed.statements)))

        books = Books(read_late(journal, problems), close)
        for entry in journal_reader.entries(journal, SEALED | READ, problems=problems):
            # The vehicles' rows of an interval are there when the book closes it.
            keeper.feed(entry)
            if entry.kind in SEALED:
                books.feed(entry)
                sealer.feed(entry)
            sealer.flush(now_ns)
        if last_ns:
            # What a silence had closed, as the live settlement did.
            keeper.on_time(last_ns + (LATENCY_S + 1) * NS)
            books.on_time(last_ns + (LATENCY_S + books.tail_s + 1) * NS)
            sealer.flush(now_ns)
        if not sealer.sealed:
            why = sealer.why or (books.problems or ["no interval of it is over"])[0]
            raise SettleError(f"{folder}: nothing in it can be sealed: {why}; give a run that ran for an interval")
        files.close(now_ns)
    finally:
        files.drop()
    return {
        "file": str(out), "intervals": sealer.sealed, "statements": len(files.sealed), "refused": sealer.refused,
        "unreadable": sealer.unreadable, "key": files.public,
    }  # fmt: skip


def _area(journal: Path) -> str:
    """Of the grid, as the first run in the journal has it."""
    for entry in journal_reader.entries(journal, {Kind.START}):
        if entry.kind is Kind.START:
            try:
                return contracts.from_json(entry.payload).area
            except (ValueError, TypeError, KeyError) as error:
                raise SettleError(f"{journal}: START settings cannot be read: {error}") from error
    raise SettleError(f"{journal}: no run's settings are in it; give the folder of a run that ran")
