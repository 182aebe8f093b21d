"""The vehicles' book: journal entries in, each vehicle's accounts out, interval by interval.

Pure of clocks, streams and files, as `aggregator.book`, and closed by the same rule: by the first entry beyond an
interval's end plus the reports' latency. What is in memory is the running interval's reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from aggregator import accounting, contracts, journal_reader
from aggregator.book import LATENCY_S
from aggregator.contracts import CoreSettings
from aggregator.journal import Entry, JournalError, Kind, Problem
from aggregator.journal_tables import decode
from aggregator.records import Block
from droop import sites
from droop.accounts import ROW
from settlement.accounts import ACCOUNT, AccountLedger, Closed
from settlement.align import NS
from settlement.attribution import Attribution, Pot, share
from telemetry.samples import SESSION, VEHICLE

KINDS: Final = {Kind.SESSIONS: SESSION, Kind.VEHICLES: VEHICLE, Kind.ACCOUNT: ROW}
READ: Final = frozenset({Kind.START, *KINDS})
SILENT_MAX_S: Final = 86_400  # a longer silence is not closed interval by interval


class AmountsError(ValueError):
    """Amounts of the pool that cannot be read; the message names the entry, the field and the remedy."""


class VehicleBook:
    """Closes accounting intervals."""

    def __init__(self) -> None:
        self.undecodable = 0
        self.problems: list[str] = []
        self.sites: list[str] = []  # names by leaf of the tree of caps
        self._length_ns, self._slots = accounting.interval_ns(()), 0
        self._ledger: AccountLedger | None = None
        self._seen_ns = 0

    def feed(self, entry: Entry) -> list[Closed]:
        """Take one entry; the accounts of the intervals that it closes."""
        done = self.on_time(entry.now_ns) if entry.now_ns else []
        if entry.kind is Kind.START:
            self._begin(entry)
        elif entry.kind in KINDS:
            try:
                self._take(entry.kind, decode(entry, KINDS[entry.kind]), entry.now_ns)
            except JournalError as error:
                self.undecodable += 1
                self.problems.append(str(error))
        return done

    def on_time(self, now_ns: int) -> list[Closed]:
        """Close every interval whose reports have had their time."""
        self._seen_ns = max(self._seen_ns, now_ns)
        done: list[Closed] = []
        while self._ledger is not None and now_ns > self._end_ns(self._ledger) + LATENCY_S * NS:
            silent = now_ns - self._ledger.edge_ns > SILENT_MAX_S * NS
            done.append(self._ledger.close(self._edge(now_ns) if silent else self._end_ns(self._ledger)))
        return done

    def end(self) -> list[Closed]:
        """What is closed of the running interval at the end of a journal that will not go on."""
        if self._ledger is None or self._seen_ns <= self._ledger.edge_ns:
            return []
        return [self._ledger.close(self._seen_ns)]

    def _begin(self, entry: Entry) -> None:
        try:
            settings = contracts.from_json(entry.payload)
        except (ValueError, TypeError, KeyError) as error:
            self.problems.append(f"entry {entry.seq}: START settings cannot be read: {error}")
            return
        self._length_ns = accounting.interval_ns(settings.intervals_s)
        self.sites, self._slots = site_names(settings), settings.rows
        if self._ledger is not None:
            self._ledger.grow(self._slots)

    def _take(self, kind: Kind, block: Block, now_ns: int) -> None:
        if self._ledger is None:
            self._ledger = AccountLedger(self._slots, self._edge(now_ns))
        if kind is Kind.SESSIONS:
            self._ledger.sessions(block)
        elif kind is Kind.VEHICLES:
            self._ledger.reports(block)
        else:
            self._ledger.accounts(block)

    def _edge(self, now_ns: int) -> int:
        return now_ns - now_ns % self._length_ns

    def _end_ns(self, ledger: AccountLedger) -> int:
        return self._edge(ledger.edge_ns) + self._length_ns


def site_names(settings: CoreSettings) -> list[str]:
    """Names of the connections in the order in which accounts number them."""
    return list(sites.tree([site.node() for site in settings.sites], settings.rows)[1])


def sites_of(folder: Path) -> list[str]:
    """Names of the connections, of the last run in a journal."""
    book = VehicleBook()
    for entry in journal_reader.entries(folder, {Kind.START}):
        book.feed(entry)
    return book.sites


def of_folder(
    folder: Path, start_ns: int | None = None, end_ns: int | None = None, problems: list[Problem] | None = None,
    book: VehicleBook | None = None,
) -> Iterator[Closed]:  # fmt: skip
    """The accounts of a journal's files, an interval at a time. book : filled on the way, for its names and counters

    start_ns, end_ns : of the intervals, the end exclusive; None is open
    """
    book = VehicleBook() if book is None else book
    for closed in _closed(journal_reader.entries(folder, READ, problems=problems), book):
        late = start_ns is not None and closed.end_ns <= start_ns
        if end_ns is not None and closed.start_ns >= end_ns:
            return
        if not late:
            yield closed


def _closed(entries: Iterable[Entry], book: VehicleBook) -> Iterator[Closed]:
    for entry in entries:
        yield from book.feed(entry)
    yield from book.end()


def pots(data: bytes, where: str) -> list[Pot]:
    """The pool's amounts from JSON: a list of tables with the fields of `Pot`, amounts as text.

    Raises AmountsError.
    """
    try:
        tables = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise AmountsError(f"{where}: not a JSON file: {error}") from error
    if not isinstance(tables, list):
        raise AmountsError(f"{where}: takes a list of tables, one for each product and interval")
    return [_pot(table, f"{where}, entry {place}") for place, table in enumerate(tables)]


def _pot(table: Any, where: str) -> Pot:
    if not isinstance(table, dict):
        raise AmountsError(f"{where}: takes a table with the fields {', '.join(Pot._fields)}")
    unknown = table.keys() - set(Pot._fields)
    if unknown:
        raise AmountsError(f"{where}: unknown field `{min(unknown)}`; known: {', '.join(Pot._fields)}")
    values: dict[str, Any] = {}
    for name in Pot._fields:
        if name not in table:
            if name in Pot._field_defaults:
                continue
            raise AmountsError(f"{where}: field `{name}` is missing")
        values[name] = _value(name, table[name], where)
    return Pot(**values)


def _value(name: str, value: Any, where: str) -> Any:
    if name in ("capacity", "energy", "penalty", "quantum"):
        try:
            if not isinstance(value, str):
                raise InvalidOperation
            return Decimal(value)
        except InvalidOperation:
            raise AmountsError(f"{where}: field `{name}` takes a decimal number as text, not {value!r}") from None
    kind: Any = {"sold_kw": (int, float), "seller_kwh": (int, float), "start_ns": int, "end_ns": int}.get(name, str)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise AmountsError(f"{where}: field `{name}` cannot be {value!r}")
    return value


def attributed(found: Sequence[Pot], rows: Block) -> list[Attribution]:
    """Each pot shared among the accounts within its interval. rows : ACCOUNT[n]

    Raises AmountsError for two pots of one product that overlap, AttributionError.
    """
    for place, pot in enumerate(found):
        for other in found[:place]:
            if other.product == pot.product and other.start_ns < pot.end_ns and pot.start_ns < other.end_ns:
                raise AmountsError(
                    f"product `{pot.product}`: intervals {other.start_ns}:{other.end_ns} and "
                    f"{pot.start_ns}:{pot.end_ns} overlap; give each interval once"
                )
    return [
        share(pot, rows[(rows["start_ns"] >= pot.start_ns) & (rows["end_ns"] <= pot.end_ns)]) for pot in found
    ]  # fmt: skip


def joined(closed: Iterable[Closed]) -> Block:
    """ACCOUNT[n] of several intervals."""
    return np.concatenate([np.zeros(0, ACCOUNT), *(item.rows for item in closed)])
