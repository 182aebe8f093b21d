"""Settlement live and again: the journal's stream to files and statements, and the same statements from the files.

No clock and no stream in here: the shell reads entries and time and passes both in. Order of truth: an entry is on
disk before any final statement rests on it, a statement is on disk before anyone is told, and what a restart finds on
disk is told again (telling twice is harmless, `Statement.key` is the identity) but never settled twice.

Policy where the disk does not take what is written (full, read-only, gone): entries and statements wait here, writing
is tried again after 2 s, then less and less often, every 32 s at last, and from WAITING_BYTES on (`full`) the shell
reads no further, so that the rest stays in the stream, within its bound; beyond that it is a gap, recorded as one.
`stalled` says since when and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from aggregator import contracts, journal, journal_keeping, journal_parts, journal_reader
from aggregator.book import LATENCY_S, Book, settle_interval
from aggregator.journal import Entry, JournalError, Kind
from aggregator.journal_files import JournalWriter, parse
from aggregator.journal_keeping import Limits, Removed, Unmergeable
from aggregator.journal_parts import BACKFILL, HOUR_NS, WRITE_ERRORS
from aggregator.vehiclefiles import VehicleKeeper
from settlement import statement as statements
from settlement.align import NS
from settlement.statement import Statement, StatementError, VerifyError, differing
from telemetry import wire
from telemetry.samples import FREQUENCY

__all__ = ["Books", "SettleError", "Settler", "settle_folder", "settle_interval", "verify_folder", "written"]

FLUSH_S: Final = 20
FLUSH_BYTES: Final = 32 << 20
WAITING_BYTES: Final = 2 * FLUSH_BYTES
RETRY_S, RETRY_MAX_S = 2, 32
HOUSE_S: Final = 60
PROVISIONAL_S: Final = 5
SILENCE_S: Final = 60
FOLDER: Final = "statements"


# Set-points decide nothing here; their tables may be gone long before.
SETTLED: Final = frozenset(Kind) - {Kind.COMMANDS}


class Stall(NamedTuple):
    """The disk does not take the journal."""

    since_ns: int
    why: str


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
    limits     : how long the journal is kept; removed : told of each table before it goes

    Raises OSError where the folder cannot be made or read, JournalError `schema` where it is a newer version's.
    """

    def __init__(
        self, folder: Path, statements: Callable[[Statement], None], limits: Limits | None = None,
        removed: Callable[[Removed], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.malformed = 0  # stream payloads that are no journal, or no backfill
        self.merged = self.removed = 0  # parts made of several, tables taken by the limits
        self.stalled: Stall | None = None
        self.stalls = 0
        self._tell, self._tell_removed = statements, removed
        self._folder, self._limits = folder, limits or Limits()
        self._writer = JournalWriter(folder)
        self._backfill = JournalWriter(folder / BACKFILL, BACKFILL)
        self._final = {done.key for done in written(folder)}
        self._due: list[Statement] = []  # final, not on disk yet
        self._books = Books()
        self.vehicles = VehicleKeeper(folder)
        self._now_ns = self._flushed_ns = self._told_ns = self._tried_ns = self._house_ns = 0
        self._retry_s = RETRY_S
        self._fed = True
        self._silent_since_ns = 0
        self._tidy = ""  # hour up to which the folder is tidy
        self._unmergeable: set[str] = set()
        for done in written(folder):
            statements(done)
        self._recover()

    @property
    def writer(self) -> JournalWriter:
        """The files, for their counters."""
        return self._writer

    @property
    def backfill(self) -> JournalWriter:
        """The late history's files, for their counters."""
        return self._backfill

    @property
    def full(self) -> bool:
        """Whether so much waits to be written that nothing more should be read."""
        return self._writer.waiting_bytes + self._backfill.waiting_bytes >= WAITING_BYTES

    def resume_id(self) -> str | None:
        """Stream ID after which to go on reading; None from the beginning."""
        return self._writer.resume_id()

    def feed(self, stream_id: str, payload: bytes) -> None:
        """Take one stream payload; a payload that is no journal is counted and passed over."""
        try:
            entries = journal.unpack(payload)
        except JournalError:
            self.malformed += 1
            self._writer.refuse()
            return
        self._fed = True
        self._now_ns = self._now_ns or max((entry.now_ns for entry in entries), default=0)
        fresh = self._writer.append(entries, stream_id)
        for entry in fresh:
            self.vehicles.feed(entry)
            self._seal(self._books.feed(entry))
        if any(entry.kind is Kind.START for entry in fresh):
            # Nothing can be replayed without a run's settings: they do not wait in memory.
            self._write()

    def feed_backfill(self, stream_id: str, payload: bytes) -> None:
        """Take late history: kept beside the journal, with its arrival as its time; no statement rests on it."""
        try:
            block = wire.decode(payload)
            if block.dtype != FREQUENCY or not block.size:
                raise wire.WireError("kind", "late history is FREQUENCY rows")
        except wire.WireError:
            self.malformed += 1
            self._backfill.refuse()
            return
        entry = Entry(Kind.BACKFILL, 0, parse(stream_id)[1] - 1, int(block["rx_ns"].max()), payload)
        self._backfill.append([entry], stream_id)

    def on_time(self, now_ns: int) -> None:
        """Flush and tell what is due. Call it once a second or so, or after every read.

        Entries close intervals by their own time, however late they are read. Only a journal that has been silent for
        SILENCE_S is closed by the clock: a worker that died owes its statements too, a store that was away for a
        moment must not close what is still to be read.
        """
        self._now_ns = now_ns
        if self._fed:
            self._fed, self._silent_since_ns = False, now_ns
        elif now_ns - self._silent_since_ns >= SILENCE_S * NS:
            self.vehicles.on_time(now_ns)
            self._seal(self._books.on_time(now_ns))
        if self.stalled:
            due = now_ns - self._tried_ns >= self._retry_s * NS
        else:
            due = self._writer.waiting_bytes >= FLUSH_BYTES or now_ns - self._flushed_ns >= FLUSH_S * NS
        if due and self._write():
            self._flushed_ns = now_ns
        if not self.stalled:
            self._keep_house()
        if now_ns - self._told_ns >= PROVISIONAL_S * NS:
            self._told_ns = now_ns
            self._announce(self._books.provisional())

    def close(self) -> None:
        """Write what waits and tell how far the running interval got; what the disk refuses stays in the stream."""
        self._write()
        self._announce(self._books.end())

    def _write(self) -> bool:
        """Entries, then the statements that rest on them, to disk, then told; whether the disk took all of it."""
        self._tried_ns = self._now_ns
        try:
            self._writer.flush()
            self._backfill.flush()
            self.vehicles.flush()
            while self._due:
                _store(self._folder, self._due[0])
                item = self._due.pop(0)
                self._final.add(item.key)
                self._tell(item)
        except WRITE_ERRORS as error:
            since_ns = self.stalled.since_ns if self.stalled else self._now_ns
            # All that waits is made ready anew each time.
            self._retry_s = min(2 * self._retry_s, RETRY_MAX_S) if self.stalled else RETRY_S
            self.stalls += not self.stalled
            self.stalled = Stall(since_ns, " ".join(str(error).split()))
            return False
        self.stalled = None
        return True

    def _keep_house(self) -> None:
        """Once an hour: remove what the limits no longer cover, then merge small parts, one group a call.

        Where the disk does not take a merged part nothing is lost: it is tried again later.
        """
        if self._tidy == self._writer.hour or self._now_ns < self._house_ns:
            return
        try:
            for folder in (self._folder, self._folder / BACKFILL):
                self.removed += len(journal_keeping.thin(folder, self._limits, self._tell_removed))
                if journal_keeping.merge(folder, self._unmergeable) is not None:
                    self.merged += 1
                    return
        except Unmergeable as error:
            self._unmergeable.add(error.hour)
            return
        except WRITE_ERRORS:
            self._house_ns = self._now_ns + HOUSE_S * NS
            return
        self._tidy = self._writer.hour

    def _announce(self, found: Iterable[Statement]) -> None:
        for item in found:
            if item.key not in self._final:
                self._tell(item)

    def _seal(self, done: list[Statement]) -> None:
        self._due += [item for item in done if item.key not in self._final]
        if self._due and not self.stalled:
            self._write()

    def _recover(self) -> None:
        """Rebuild the running interval from the files."""
        for entry in recent(self._folder):
            self.vehicles.feed(entry)
            self._seal(self._books.feed(entry))


def recent(folder: Path) -> Iterator[Entry]:
    """What is needed to go on: contracts and sessions from the beginning, everything of the last hours.

    Two hours back hold any settlement interval of up to an hour with its history. What is older comes without its
    time (0), so that it closes nothing.
    """
    last_ns = max((part.last_ns for part in journal_parts.survey(folder).parts), default=0)
    since_ns = journal_parts.hour_ns(journal_parts.hour(max(0, last_ns - 2 * HOUR_NS)))
    for entry in journal_reader.entries(folder, {Kind.START, Kind.SESSIONS}, end_ns=since_ns):
        if entry.kind is not Kind.GAP:
            yield entry._replace(now_ns=0)
    yield from journal_reader.entries(folder, SETTLED, start_ns=since_ns)


def settle_folder(
    folder: Path, now_ns: int | None = None, problems: list[journal.Problem] | None = None
) -> list[Statement]:
    """All statements again from the journal's files alone.

    now_ns   : close what was due by then, as the live settlement did; without it the last interval stays running
    problems : files that were passed over are added to it; what they held is a gap, which the statements note

    Raises SettleError when no contract can be found in it.
    """
    books = Books()
    entries = journal_reader.entries(folder, SETTLED, problems=problems)
    done = [item for entry in entries for item in books.feed(entry)]
    if books.problems and not done:
        raise SettleError(f"{folder}: {books.problems[0]}")
    if now_ns is not None:
        done += books.on_time(now_ns)
    return done + books.end()


def verify_folder(folder: Path) -> int:
    """Hold every final statement on disk against the journal beside it; how many.

    Those of a time that the limits have taken from the journal can no longer be held against it and are not counted.

    Raises VerifyError, which names the statement and the first field that the journal does not bear out.
    """
    taken = journal_reader.gaps(folder, tables={"frequency", "meters", "ticks", "baseline"})
    reach_ns = max(taken["before_ns"][taken["reason"] == b"retention"].tolist(), default=-HOUR_NS) + HOUR_NS
    stated = [item for item in written(folder) if item.start_ns >= reach_ns]
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
    (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
    path = folder / FOLDER / f"{item.start_ns:020d}-{quote(item.product, safe='')}.json"
    journal_parts.replace(path, orjson.dumps(item.to_dict(), option=orjson.OPT_INDENT_2))
