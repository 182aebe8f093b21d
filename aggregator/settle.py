"""Settlement live and again: the journal's stream to files and statements, and the same statements from the files.

No clock and no stream in here: the shell reads entries and time and passes both in. Order of truth: an entry is on
disk before any final statement rests on it, a statement is on disk before anyone is told, and what a restart finds on
disk is told again (telling twice is harmless, `Statement.key` is the identity) but never settled twice, save for a
correction, when late history reaches it (`corrections`).

Policy where the disk does not take what is written (full, read-only, gone): entries and statements wait here, writing
is tried again after 2 s, then less and less often, every 32 s at last, and from WAITING_BYTES on (`full`) the shell
reads no further, so that the rest stays in the stream, within its bound; beyond that it is a gap, recorded as one.
`stalled` says since when and why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import numpy as np
import orjson

from aggregator import journal, journal_keeping, journal_parts, journal_reader, journal_survey
from aggregator.book import LATENCY_S, settle_interval
from aggregator.books import SETTLED, Books, beginning, beyond_ns
from aggregator.corrections import Corrections, reach_ns, read_late, resettle
from aggregator.journal import Entry, JournalError, Kind
from aggregator.journal_files import JournalWriter, parse
from aggregator.journal_keeping import Limits, Removed, Unmergeable
from aggregator.journal_parts import BACKFILL, HOUR_NS, WRITE_ERRORS
from aggregator.late import history, place
from aggregator.sealing import Sealer
from aggregator.sourcefiles import SourceFiles
from aggregator.vehiclefiles import VehicleKeeper
from settlement import statement as statements
from settlement.align import NS
from settlement.evidence import Closed
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


SEALED: Final = frozenset(Kind)  # evidence says who was seen to obey set-points


class Stall(NamedTuple):
    """The disk does not take the journal."""

    since_ns: int
    why: str


class SettleError(ValueError):
    """A journal that cannot be settled; the message names the folder, the field and the remedy."""


class Settler:
    """Follows a journal: keeps its files, settles its intervals.

    folder     : the journal's folder; this is its only writer
    statements : told every statement, provisional and final; those already on disk first
    limits     : how long the journal is kept; removed : told of each table before it goes
    ingests    : who may tell what their sources said
    sealer     : makes evidence of what is final; None: nobody does

    Raises OSError where the folder cannot be made or read, JournalError `schema` where it is a newer version's.
    """

    def __init__(
        self, folder: Path, statements: Callable[[Statement], None], limits: Limits | None = None,
        removed: Callable[[Removed], None] = lambda _: None, sealer: Sealer | None = None,
        ingests: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.malformed = 0  # stream payloads that are no journal, or no backfill
        self.merged = self.removed = 0  # parts made of several, tables taken by the limits
        self.stalled: Stall | None = None
        self.stalls = 0
        self._tell, self._tell_removed = statements, removed
        self._folder, self._limits = folder, limits or Limits()
        self._writer = JournalWriter(folder)
        self._backfill = JournalWriter(folder / BACKFILL, BACKFILL)
        self.sources = SourceFiles(folder, ingests)
        stated = written(folder)
        self._final = {done.key: done for done in stated}  # of several revisions the newest
        self._due: list[Statement] = []  # final, not on disk yet
        self.vehicles = VehicleKeeper(folder)
        self.sealer = sealer
        if sealer is not None and sealer.vehicles is None:
            sealer.vehicles = self.vehicles.rows
        if sealer is not None and sealer.pricer is not None:
            sealer.pricer.finals = lambda: self._final
        self._books = Books(read_late(folder), sealer.close if sealer else None)
        self._now_ns = self._flushed_ns = self._told_ns = self._tried_ns = self._house_ns = 0
        self._retry_s = RETRY_S
        self._fed = True
        self._silent_since_ns = 0
        self._tidy = ""  # hour up to which the folder is tidy
        self._unmergeable: set[str] = set()
        for done in stated:
            statements(done)
        self._recover()
        self.corrected = 0
        self.corrections = Corrections(folder, self._final, lambda: self._books.reach_ns)
        if sealer is not None:
            self._recover_corrections(sealer)

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
        return self.waiting_bytes >= WAITING_BYTES

    @property
    def waiting_bytes(self) -> int:
        """Payload not yet on disk."""
        return self._writer.waiting_bytes + self._backfill.waiting_bytes + self.sources.waiting_bytes

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
            self._take(entry)
        if any(entry.kind is Kind.START for entry in fresh):
            # Nothing can be replayed without a run's settings: they do not wait in memory.
            self._write()

    def feed_backfill(self, stream_id: str, payload: bytes) -> None:
        """Take late history: kept beside the journal, with its arrival as its time.

        The running intervals count it at once; those that are final are corrected when all of it has come.
        """
        try:
            block = wire.decode(payload)
            if block.dtype != FREQUENCY or not block.size:
                raise wire.WireError("kind", "late history is FREQUENCY rows")
        except wire.WireError:
            self.malformed += 1
            self._backfill.refuse()
            return
        epoch, counter = parse(stream_id)
        entry = Entry(Kind.BACKFILL, 0, counter - 1, int(block["rx_ns"].max()), payload)
        if not any(fresh.kind is Kind.BACKFILL for fresh in self._backfill.append([entry], stream_id)):
            return
        place = (np.full(block.size, number, np.int64) for number in (epoch, counter - 1))
        self._books.late.add(history(block, *place))
        self.corrections.touch(block, self._now_ns)

    def unheard(self) -> None:
        """The store could not be asked: that is no silence of the worker's."""
        self._fed = True

    def on_time(self, now_ns: int) -> None:
        """Flush and tell what is due. Call it once a second or so, or after every read.

        Entries close intervals by their own time, however late they are read. Only a journal that has been silent for
        SILENCE_S is closed by the clock: a worker that died owes its statements too, a store that was away for a
        moment must not close what is still to be read.
        """
        self._now_ns = now_ns
        if self._fed or self.full:
            # While nothing is read nobody can say that the worker is silent: what it wrote is still to come.
            self._fed, self._silent_since_ns = False, now_ns
        elif now_ns - self._silent_since_ns >= SILENCE_S * NS:
            self.vehicles.on_time(now_ns)
            self._seal(self._books.on_time(now_ns))
        if self.stalled:
            due = now_ns - self._tried_ns >= self._retry_s * NS
        else:
            due = self.waiting_bytes >= FLUSH_BYTES or now_ns - self._flushed_ns >= FLUSH_S * NS
        if due and self._write():
            self._flushed_ns = now_ns
        if not self.stalled:
            self._correct()
            self._keep_house()
        if now_ns - self._told_ns >= PROVISIONAL_S * NS:
            self._told_ns = now_ns
            self._announce(self._books.provisional())

    def close(self) -> None:
        """Write what waits and tell how far the running interval got; what the disk refuses stays in the stream."""
        if self._write() and self.sealer is not None:
            with suppress(*WRITE_ERRORS):  # an open file is gone on with by the next life
                self.sealer.end(self._now_ns)
        self._announce(self._books.end())

    def _write(self) -> bool:
        """Entries, then the statements that rest on them, to disk, then told; whether the disk took all of it."""
        self._tried_ns = self._now_ns
        try:
            self._writer.flush()
            self._backfill.flush()
            self.sources.flush()
            self.vehicles.flush()
            while self._due:
                _store(self._folder, self._due[0])
                item = self._due.pop(0)
                self._final[item.key] = item
                self._tell(item)
            if self.sealer is not None:
                self.sealer.flush(self._now_ns)
        except WRITE_ERRORS as error:
            since_ns = self.stalled.since_ns if self.stalled else self._now_ns
            # All that waits is made ready anew each time.
            self._retry_s = min(2 * self._retry_s, RETRY_MAX_S) if self.stalled else RETRY_S
            self.stalls += not self.stalled
            self.stalled = Stall(since_ns, " ".join(str(error).split()))
            return False
        self.stalled = None
        return True

    def _correct(self) -> None:
        """One interval that late history has reached since it was settled; the disk takes it as any statement."""
        if not self.corrections.due(self._now_ns) or not self._write():
            return
        made = self.corrections.next()
        self.corrected += len(made)
        self._due += made
        if self.sealer is not None:
            for closed in self.corrections.rests_on:
                own = {item.key for item in closed.statements}
                if corrected := tuple(item for item in made if item.key in own):
                    self.sealer.correct(closed._replace(statements=corrected))
        self._books.late.forget(self._now_ns - 2 * HOUR_NS)
        self._write()

    def _keep_house(self) -> None:
        """Once an hour: remove what the limits no longer cover, then merge small parts, one group a call.

        Where the disk does not take a merged part nothing is lost: it is tried again later.
        """
        if self._tidy == self._writer.hour or self._now_ns < self._house_ns:
            return
        try:
            for folder in (self._folder, self._folder / BACKFILL, *self.sources.folders):
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

    def _take(self, entry: Entry) -> None:
        # The vehicles' rows of an interval are there when the book closes it: its evidence holds them.
        self.vehicles.feed(entry)
        self._seal(self._books.feed(entry))
        if self.sealer is not None:
            self.sealer.feed(entry)

    def _recover(self) -> None:
        """Rebuild the running interval from the files."""
        for entry in recent(self._folder, SEALED if self.sealer else SETTLED):
            self._now_ns = max(self._now_ns, entry.now_ns)
            self._take(entry)

    def _recover_corrections(self, sealer: Sealer) -> None:
        """Seal corrections that are on disk and did not get into the evidence."""
        late = read_late(self._folder)
        for item in self._final.values():
            sealed = sealer.files.sealed.keys() & {item.key}
            if sealed and item.revision > sealer.files.revisions.get(item.key, 0):
                known = late.upto(place(item.history.through))
                found: list[Closed] = []
                resettle(self._folder, item.start_ns, item.end_ns, known, found.append)
                for closed in found:
                    if item.key in {one.key for one in closed.statements}:
                        sealer.correct(closed._replace(statements=(item,)))


def recent(folder: Path, kinds: Collection[Kind] = SETTLED) -> Iterator[Entry]:
    """What is needed to go on: contracts and sessions from the beginning, everything of the last hours.

    Two hours back hold any settlement interval of up to an hour with its history, of up to an hour or what the
    products sold look back beyond that. What is older comes without its
    time (0), so that it closes nothing.
    """
    last_ns = max((part.last_ns for part in journal_survey.survey(folder).parts), default=0)
    since_ns = journal_parts.hour_ns(journal_parts.hour(max(0, last_ns - 2 * HOUR_NS - beyond_ns(folder))))
    yield from beginning(folder, since_ns)
    yield from journal_reader.entries(folder, kinds, start_ns=since_ns)


def settle_folder(
    folder: Path, now_ns: int | None = None, problems: list[journal.Problem] | None = None, *, sequel: bool = False
) -> list[Statement]:
    """All statements again from the journal's files alone, late history included.

    now_ns   : close what was due by then, as the live settlement did; without it the last interval stays running
    problems : files that were passed over are added to it; what they held is a gap, which the statements note
    sequel   : `now_ns` lacks the time for which the scores await a sequel: add it

    Raises SettleError when no contract can be found in it.
    """
    books = Books(read_late(folder, problems))
    entries = journal_reader.entries(folder, SETTLED, problems=problems)
    done = [item for entry in entries for item in books.feed(entry)]
    if books.problems and not done:
        raise SettleError(f"{folder}: {books.problems[0]}")
    if now_ns is not None:
        done += books.on_time(now_ns + (books.tail_s * NS if sequel else 0))
    return done + books.end()


def verify_folder(folder: Path) -> int:
    """Hold every final statement on disk, superseded ones too, against the journal beside it; how many.

    Those of a time that the limits have taken from the journal can no longer be held against it and are not counted.

    Raises VerifyError, which names the statement and the first field that the journal does not bear out.
    """
    earliest_ns = reach_ns(folder)
    stated = [item for item in written(folder) if item.start_ns >= earliest_ns]
    last_ns = max((item.end_ns for item in stated), default=0) + (LATENCY_S + 1) * NS
    found = {item.key: item for item in settle_folder(folder, last_ns, sequel=True)}
    late = read_late(folder)
    for item in stated:
        again = found.get(item.key)
        if again is not None and again.history.through != item.history.through:
            # History came after it was stated: what it rests on is what had come by then.
            known = late.upto(place(item.history.through))
            again = next(
                (one for one in resettle(folder, item.start_ns, item.end_ns, known) if one.key == item.key), None
            )
        if again is None:
            raise VerifyError(item.key, "key", item.key, None)
        difference = differing(item, replace(again, revision=item.revision, version=item.version))
        if difference is not None:
            raise VerifyError(item.key, *difference)
    return len(stated)


def written(folder: Path) -> list[Statement]:
    """Final statements on disk in order, corrections after what they correct; StatementError names a bad file."""
    found = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            plain: dict[str, Any] = orjson.loads(path.read_bytes())
            found.append(statements.from_dict(plain))
        except (orjson.JSONDecodeError, StatementError) as error:
            raise StatementError(f"{path}: {error}; restore it, or remove it to settle the interval again") from error
    return sorted(found, key=lambda item: (item.start_ns, item.product, item.revision))


def _store(folder: Path, item: Statement) -> None:
    """Write whole or not at all, and let it survive a power cut; a correction goes beside what it corrects."""
    (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
    name = f"{item.start_ns:020d}-{quote(item.product, safe='')}" + (f".r{item.revision}" if item.revision else "")
    journal_parts.replace(folder / FOLDER / f"{name}.json", orjson.dumps(item.to_dict(), option=orjson.OPT_INDENT_2))
