"""All books of a journal: contracts open them, entries go to each, late history is common to all.

Pure of clocks, streams and files, but for `beginning`, which reads what a book must know before its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import orjson

from aggregator import contracts, journal_reader
from aggregator.book import Book
from aggregator.journal import Entry, Kind
from aggregator.journal_parts import HOUR_NS
from aggregator.late import Late
from settlement import interval
from settlement.align import NS
from settlement.evidence import Closed
from settlement.interval import Sold
from settlement.statement import Statement

# Set-points decide nothing here; their tables may be gone long before.
SETTLED: Final = frozenset(Kind) - {Kind.COMMANDS}


def beginning(folder: Path, since_ns: int) -> Iterator[Entry]:
    """Contracts and sessions from the beginning to a time: without their own time (0), so that they close nothing."""
    for entry in journal_reader.entries(folder, {Kind.START, Kind.SOLD, Kind.SESSIONS}, end_ns=since_ns):
        if entry.kind is not Kind.GAP:
            yield entry._replace(now_ns=0)


def beyond_ns(folder: Path) -> int:
    """How much further back than an hour the statements of what was ever sold look."""
    found = 0
    for entry in journal_reader.entries(folder, {Kind.START}):
        if entry.kind is Kind.START:
            with suppress(ValueError, TypeError, KeyError):  # a book says so
                sold = [Sold(item.product, item.sold_kw) for item in contracts.from_json(entry.payload).contracts]
                found = max(found, interval.reach_ns(sold) - HOUR_NS)
    return found


class Books:
    """One book for each settlement interval length that the contracts know.

    late   : late history, which all of them share
    closed : told of every interval that is final, with all that it rests on
    """

    def __init__(self, late: Late | None = None, closed: Callable[[Closed], None] | None = None) -> None:
        self._closed = closed
        self.late = Late() if late is None else late
        self.problems: list[str] = []  # runs whose settings cannot be read; the contracts before them stand
        self._books: dict[int, Book] = {}
        self._beginning: Entry | None = None

    def feed(self, entry: Entry) -> list[Statement]:
        """Take one entry; final statements of the intervals it closes."""
        done = self.on_time(entry.now_ns) if entry.now_ns else []
        self._begin(entry.now_ns)
        if entry.kind is Kind.START:
            # A START knows no time: what ran before it is closed under its own contracts first.
            self._beginning = entry
            return done
        if entry.now_ns:
            done += self.on_time(entry.now_ns)
        if entry.kind is Kind.SOLD:
            self._resell(entry)
        for book in self._books.values():
            book.feed(entry)
        return done

    def on_time(self, now_ns: int) -> list[Statement]:
        """Close what is due; see `Book.on_time`."""
        return [done for book in self._books.values() for done in book.on_time(now_ns)]

    def provisional(self) -> list[Statement]:
        """The running intervals so far."""
        return [so_far for book in self._books.values() for so_far in book.provisional()]

    def end(self) -> list[Statement]:
        """The running intervals at the end of a journal, not final."""
        return [so_far for book in self._books.values() for so_far in book.end()]

    def running(self) -> list[Closed]:
        """The same with all that they rest on."""
        return [found for book in self._books.values() if (found := book.running()) is not None]

    @property
    def tail_s(self) -> int:
        """How long after its end an interval may have to wait for the sequel that its scores want."""
        return max((book.tail_s for book in self._books.values()), default=0)

    @property
    def reach_ns(self) -> tuple[int, int]:
        """How far before its start, and after its end, a frequency can change an interval's statements."""
        before_ns = max((interval.heard_ns(book.sold) for book in self._books.values()), default=interval.LEAD_S * NS)
        return before_ns, self.tail_s * NS

    @property
    def undecodable(self) -> int:
        """Entries that could not be read."""
        return max((book.undecodable for book in self._books.values()), default=0)

    def _resell(self, entry: Entry) -> None:
        try:
            sold_kw = [float(kw) for kw in orjson.loads(entry.payload)]
            for book in self._books.values():
                book.resell(sold_kw, entry.now_ns)
        except (ValueError, TypeError) as error:
            self.problems.append(f"entry {entry.seq}: what is sold cannot be read: {error}")

    def _begin(self, at_ns: int) -> None:
        entry, self._beginning = self._beginning, None
        if entry is None:
            return
        try:
            settings = contracts.from_json(entry.payload)
        except (ValueError, TypeError, KeyError) as error:
            self.problems.append(f"entry {entry.seq}: START settings cannot be read: {error}")
            return
        for item in settings.contracts:
            self._books.setdefault(item.product.interval_s, Book(item.product.interval_s, self.late, self._closed))
        for book in self._books.values():
            book.begin(settings, at_ns)
