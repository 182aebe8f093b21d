"""A recorded run settled once more, interval by interval: as it stands now, under the products of its time.

The files alone give the figures; what the settlement wrote beside them says which revision they are, and which
intervals a silence had closed. An interval of which something else is on disk is the revision after it: late history
may have come that the settlement had no time for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from aggregator import journal_reader
from aggregator.book import LATENCY_S
from aggregator.books import SETTLED, Books
from aggregator.corrections import read_late
from aggregator.journal import Problem
from aggregator.settle import SettleError, written
from settlement.align import NS
from settlement.evidence import Closed
from settlement.statement import Statement, differing


def newest(folder: Path) -> dict[str, Statement]:
    """Of every final statement on disk the newest revision, by key. folder : the journal's"""
    return {item.key: item for item in written(folder)}


def numbered(item: Statement, stated: Mapping[str, Statement]) -> Statement:
    """A statement made again, with the number of the revision it is. stated : `newest`"""
    before = stated.get(item.key)
    if before is None or not item.final:
        return item
    again = replace(item, revision=before.revision, version=before.version)
    return replace(item, revision=before.revision + (differing(before, again) is not None))


def closed(folder: Path, problems: list[Problem] | None = None) -> Iterator[Closed]:
    """Every interval in order of closing, the running ones last and not final, with what it rests on.

    Raises SettleError where no contract can be found.
    """
    stated = newest(folder)
    waiting: list[Closed] = []
    books = Books(read_late(folder, problems), waiting.append)
    some = False

    def told() -> Iterator[Closed]:
        for found in (*waiting,):
            yield found._replace(statements=tuple(numbered(item, stated) for item in found.statements))
        waiting.clear()

    for entry in journal_reader.entries(folder, SETTLED, problems=problems):
        books.feed(entry)
        some = some or bool(waiting)
        yield from told()
    if books.problems and not some:
        raise SettleError(f"{folder}: {books.problems[0]}")
    running = books.running()
    if stated:
        # What a silence had closed, as the live settlement did.
        last_ns = max(item.end_ns for item in stated.values())
        books.on_time(last_ns + (LATENCY_S + books.tail_s + 1) * NS)
    over = {item.key for found in waiting for item in found.statements}
    yield from told()
    yield from (found for found in running if over.isdisjoint(item.key for item in found.statements))
