"""Settlement live and again: the journal's stream to files and statements, and the same statements from the files.

No clock and no stream in here: the shell reads entries and time and passes both in. Order of truth: an entry is on
disk before any final statement rests on it, a statement is on disk before anyone is told, and what a restart finds on
disk is told again (telling twice is harmless, `Statement.key` is the identity) but never settled twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson

from aggregator import contracts, journal, journal_files
from aggregator.book import LATENCY_S, Book, settle_interval
from aggregator.journal import Entry, JournalError, Kind
from aggregator.journal_files import HOUR_NS, JournalWriter
from settlement import statement as statements
from settlement.align import NS
from settlement.statement import Statement, StatementError, VerifyError, differing

__all__ = ["Books", "SettleError", "Settler", "settle_folder", "settle_interval", "verify_folder", "written"]

FLUSH_S: Final = 20
FLUSH_BYTES: Final = 32 << 20
PROVISIONAL_S: Final = 5
SILENCE_S: Final = 60
FOLDER: Final = "statements"


class SettleError(ValueError):
    """A journal that cannot be settled; the message names the folder, the field and the remedy."""


class Books:
    """One book for each settlement interval length that the contracts know."""

    def __init__(self) -> None:
        self.problems: list[str] = []  # runs whose settings cannot be read; the contracts before them stand
        self._books: dict[int, Book] = {}
        self._beginning: Entry | None = None

    def feed(self, entry: Entry) -> list[Statement]:
        """Take one entry; final statements of the intervals it closes."""
        done = self.on_time(entry.now_ns) if entry.now_ns else []
        self._begin()
        if entry.kind is Kind.START:
            # A START knows no time: what ran before it is closed under its own contracts first.
            self._beginning = entry
            return done
        if entry.now_ns:
            done += self.on_time(entry.now_ns)
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

    @property
    def undecodable(self) -> int:
        """Entries that could not be read."""
        return max((book.undecodable for book in self._books.values()), default=0)

    def _begin(self) -> None:
        entry, self._beginning = self._beginning, None
        if entry is None:
            return
        try:
            settings = contracts.from_json(entry.payload)
        except (ValueError, TypeError, KeyError) as error:
            self.problems.append(f"entry {entry.seq}: START settings cannot be read: {error}")
            return
        for item in settings.contracts:
            self._books.setdefault(item.product.interval_s, Book(item.product.interval_s))
        for book in self._books.values():
            book.begin(settings)


class Settler:
    """Follows a journal: keeps its files, settles its intervals.

    folder     : the journal's folder; this is its only writer
    statements : told every statement, provisional and final; those already on disk first
    """

    def __init__(self, folder: Path, statements: Callable[[Statement], None]) -> None:
        self.malformed = 0  # stream payloads that are no journal
        self._tell = statements
        self._folder = folder
        self._writer = JournalWriter(folder)
        self._final = {done.key for done in written(folder)}
        self._books = Books()
        self._flushed_ns = 0
        self._told_ns = 0
        self._fed = True
        self._silent_since_ns = 0
        for done in written(folder):
            statements(done)
        self._recover()

    @property
    def writer(self) -> JournalWriter:
        """The files, for their counters."""
        return self._writer

    def resume_id(self) -> str | None:
        """Stream ID after which to go on reading; None from the beginning."""
        return self._writer.resume_id()

    def feed(self, stream_id: str, payload: bytes) -> None:
        """Take one stream payload; a payload that is no journal is counted and passed over."""
        try:
            entries = journal.unpack(payload)
        except JournalError:
            self.malformed += 1
            return
        self._fed = True
        fresh = self._writer.append(entries, stream_id)
        for entry in fresh:
            self._seal(self._books.feed(entry))
        if any(entry.kind is Kind.START for entry in fresh):
            # Nothing can be replayed without a run's settings: they do not wait in memory.
            self._writer.flush()

    def on_time(self, now_ns: int) -> None:
        """Flush and tell what is due. Call it once a second or so, or after every read.

        Entries close intervals by their own time, however late they are read. Only a journal that has been silent for
        SILENCE_S is closed by the clock: a worker that died owes its statements too, a store that was away for a
        moment must not close what is still to be read.
        """
        if self._fed:
            self._fed, self._silent_since_ns = False, now_ns
        elif now_ns - self._silent_since_ns >= SILENCE_S * NS:
            self._seal(self._books.on_time(now_ns))
        if self._writer.waiting_bytes >= FLUSH_BYTES or now_ns - self._flushed_ns >= FLUSH_S * NS:
            self._writer.flush()
            self._flushed_ns = now_ns
        if now_ns - self._told_ns >= PROVISIONAL_S * NS:
            self._told_ns = now_ns
            self._announce(self._books.provisional())

    def close(self) -> None:
        """Write what waits and tell how far the running interval got."""
        self._writer.flush()
        self._announce(self._books.end())

    def _announce(self, found: Iterable[Statement]) -> None:
        for item in found:
            if item.key not in self._final:
                self._tell(item)

    def _seal(self, done: list[Statement]) -> None:
        fresh = [item for item in done if item.key not in self._final]
        if not fresh:
            return
        self._writer.flush()
        for item in fresh:
            _store(self._folder, item)
            self._final.add(item.key)
            self._tell(item)

    def _recover(self) -> None:
        """Rebuild the running interval from the files."""
        for entry in recent(self._folder):
            self._seal(self._books.feed(entry))


def recent(folder: Path) -> Iterator[Entry]:
    """What is needed to go on: contracts and sessions from the beginning, everything of the last hours.

    Two hours back hold any settlement interval of up to an hour with its history. What is older comes without its
    time (0), so that it closes nothing.
    """
    parts = journal_files.parts(folder)
    if not parts:
        return
    last_ns = max(entry.now_ns for entry in journal_files.read(folder, only=parts[-1:]))
    since = journal_files.hour(max(0, last_ns - 2 * HOUR_NS))
    late = next((place for place, part in enumerate(parts) if part.path.parent.name >= since), 0)
    for entry in journal_files.read(folder, {Kind.START, Kind.SESSIONS}, only=parts[:late]):
        yield entry._replace(now_ns=0)
    yield from journal_files.read(folder, only=parts[late:])


def settle_folder(folder: Path, now_ns: int | None = None) -> list[Statement]:
    """All statements again from the journal's files alone.

    now_ns : close what was due by then, as the live settlement did; without it the last interval stays running

    Raises SettleError when no contract can be found in it.
    """
    books = Books()
    done = [item for entry in journal_files.read(folder) for item in books.feed(entry)]
    if books.problems and not done:
        raise SettleError(f"{folder}: {books.problems[0]}")
    if now_ns is not None:
        done += books.on_time(now_ns)
    return done + books.end()


def verify_folder(folder: Path) -> int:
    """Hold every final statement on disk against the journal beside it; how many.

    Raises VerifyError, which names the statement and the first field that the journal does not bear out.
    """
    stated = written(folder)
    last_ns = max((item.end_ns for item in stated), default=0) + (LATENCY_S + 1) * NS
    found = {item.key: item for item in settle_folder(folder, last_ns)}
    for item in stated:
        again = found.get(item.key)
        if again is None:
            raise VerifyError(item.key, "key", item.key, None)
        difference = differing(item, again)
        if difference is not None:
            raise VerifyError(item.key, *difference)
    return len(stated)


def written(folder: Path) -> list[Statement]:
    """Final statements on disk, in order; StatementError names a file that cannot be read."""
    found = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            plain: dict[str, Any] = orjson.loads(path.read_bytes())
            found.append(statements.from_dict(plain))
        except (orjson.JSONDecodeError, StatementError) as error:
            raise StatementError(f"{path}: {error}; restore it, or remove it to settle the interval again") from error
    return found


def _store(folder: Path, item: Statement) -> None:
    """Write whole or not at all, and let it survive a power cut."""
    (folder / FOLDER).mkdir(exist_ok=True)
    path = folder / FOLDER / f"{item.start_ns:020d}-{quote(item.product, safe='')}.json"
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(orjson.dumps(item.to_dict(), option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
