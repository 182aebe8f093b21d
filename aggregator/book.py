"""The settlement book: journal entries in, statements out. State in memory, nothing else.

Pure of clocks, streams and files; what time it is, the entries say. An interval is closed by the first entry whose
`now_ns` lies beyond its end, the sequel that its scores await and the meters' latency, before that entry is taken in:
so the same entries give the same statements whether they come from a stream or from files, all at once or across a
restart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from aggregator import managing
from aggregator.contracts import Contract, CoreSettings
from aggregator.journal import Entry, JournalError, Kind
from aggregator.journal_tables import decode
from aggregator.late import Late
from aggregator.records import DECLARATION, MODE, TICK, Block, DeclarationFlag
from droop.reasons import Reason
from settlement import interval, managed
from settlement.align import NS
from settlement.balance import FleetLedger
from settlement.evidence import Closed, cut
from settlement.facts import Declarations, Facts, Meters, Samples, Shortfall, Signal
from settlement.interval import Sold
from settlement.statement import Statement, iso
from telemetry.samples import FREQUENCY, POWER, SESSION, SIGNAL, VEHICLE, Quality

LATENCY_S: Final = 5  # meters report up to 4 s late
ROWS_MAX: Final = 2_000_000  # of each kind in memory: half an hour at 1 kHz
NOTES_MAX: Final = 20
SILENT_MAX_S: Final = 86_400  # a longer silence is not settled interval by interval

RUN: Final = np.dtype([*((name, DECLARATION[name]) for name in DECLARATION.names or ()), ("run", "<i8")])
UNSERVED: Final = np.dtype([("t_ns", "<i8"), ("kw", "<f4", (len(Reason),))])
KINDS: Final = {
    Kind.SAMPLES: FREQUENCY,
    Kind.METERS: POWER,
    Kind.SIGNAL: SIGNAL,
    Kind.VEHICLES: VEHICLE,
    Kind.SESSIONS: SESSION,
    Kind.TICKS: TICK,
    Kind.BASELINE: DECLARATION,
    Kind.MODES: MODE,
}


class Rows:
    """Rows of one dtype that grow at the end and are dropped at the front."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._rows = np.zeros(256, dtype)
        self._count = 0
        self.dropped = 0

    @property
    def view(self) -> Block:
        """The rows held, as they came."""
        return self._rows[: self._count]

    def extend(self, block: Block) -> None:
        """Add rows at the end; beyond ROWS_MAX they are counted and dropped."""
        self.dropped += max(0, self._count + block.size - ROWS_MAX)
        block = block[: max(0, ROWS_MAX - self._count)]
        need = self._count + block.size
        if need > self._rows.size:
            wider = np.zeros(max(need, 2 * self._rows.size), self._rows.dtype)
            wider[: self._count] = self.view
            self._rows = wider
        self._rows[self._count : need] = block
        self._count = need

    def keep(self, mask: Block) -> None:
        """Drop all rows but these."""
        kept = self.view[mask].copy()
        self._rows[: kept.size] = kept
        self._count = kept.size


def settle_interval(
    sold: Sequence[Sold], facts: Facts, start_ns: int, end_ns: int, *, until_ns: int | None = None, final: bool = True
) -> list[Statement]:
    """Statements of one interval, for those products whose settlement interval it is; all share the delivery."""
    length_s = (end_ns - start_ns) // NS
    statements = interval.settle(sold, facts, start_ns, end_ns, until_ns=until_ns, final=final)
    return [s for s, item in zip(statements, sold, strict=True) if item.product.interval_s == length_s]


class Book:
    """Settles one interval length; products of other lengths take their share of the delivery and no statement.

    length_s : settlement interval, aligned to 1970 UTC
    late     : late history, as far as it has come
    closed   : told of every interval that is final, with all that it rests on
    """

    def __init__(self, length_s: int, late: Late | None = None, closed: Callable[[Closed], None] | None = None) -> None:
        self._late = Late() if late is None else late
        self._closed = closed
        self.length_ns = length_s * NS
        self.sold: list[Sold] = []
        self._contracts: tuple[Contract, ...] = ()
        self.undecodable = 0
        self._run = 0
        self._signal_max_kw = np.inf
        self._beside: list[int] = []
        self._start_ns: int | None = None
        self.tail_s = interval.tail_s([])
        self._seen_ns = 0
        self._rows = {
            Kind.SAMPLES: Rows(FREQUENCY),
            Kind.METERS: Rows(POWER),
            Kind.SIGNAL: Rows(SIGNAL),
            Kind.TICKS: Rows(UNSERVED),
            Kind.BASELINE: Rows(RUN),
            Kind.MODES: Rows(MODE),
        }
        self._ledger = FleetLedger(self.length_ns)
        self._notes: list[str] = []

    def feed(self, entry: Entry) -> None:
        """Take the rows of one entry; call `on_time` with its time before.

        Service begins with the first frequency; vehicles may have plugged in long before.
        """
        if self._start_ns is None and entry.kind is Kind.SAMPLES:
            self._start_ns = entry.now_ns - entry.now_ns % self.length_ns
        if entry.kind is Kind.GAP:
            self.note(f"journal gap before {iso(entry.now_ns)}")
        elif entry.kind in KINDS:
            try:
                self._take(entry, decode(entry, KINDS[entry.kind]))
            except JournalError:
                self.undecodable += 1
                self.note(f"journal entry {entry.seq} ({entry.kind.name.lower()}) cannot be read")

    def note(self, text: str) -> None:
        """Put a remark on the running interval's statements; a few say as much as many."""
        if len(self._notes) < NOTES_MAX:
            self._notes.append(text)

    def on_time(self, now_ns: int) -> list[Statement]:
        """Close every interval whose meters have had their time: by an entry's time, or by a clock in a silence."""
        self._seen_ns = max(self._seen_ns, now_ns)
        if self._start_ns is None:
            return []
        done: list[Statement] = []
        while now_ns > self._start_ns + self.length_ns + (LATENCY_S + self.tail_s) * NS:
            done += self._close(now_ns)
        return done

    def provisional(self) -> list[Statement]:
        """The running interval so far, up to what the meters can have reported."""
        if self._start_ns is None:
            return []
        until_ns = min(self._seen_ns - LATENCY_S * NS, self._start_ns + self.length_ns)
        until_ns -= (until_ns - self._start_ns) % NS
        return self._settle(until_ns, final=False) if until_ns > self._start_ns else []

    def end(self) -> list[Statement]:
        """The running interval at the end of a journal that will not go on: all that is there, not final."""
        running = self.running()
        return list(running.statements) if running is not None else []

    def running(self) -> Closed | None:
        """The same with all that it rests on, up to where the rows end; None before anything was recorded."""
        if self._start_ns is None:
            return None
        until_ns = min(self._seen_ns, self._start_ns + self.length_ns)
        found = self._settle(until_ns, final=False) if until_ns > self._start_ns else []
        return Closed(self._start_ns, until_ns, tuple(self.sold), self.facts(), tuple(found)) if found else None

    def begin(self, settings: CoreSettings) -> None:
        """A run of the worker begins with these contracts."""
        sold: dict[str, Sold] = {}
        for item in settings.contracts:
            before = sold.get(item.product.id)
            sold[item.product.id] = Sold(item.product, item.sold_kw + (before.sold_kw if before else 0.0))
        if self._run:
            self.note("worker restarted within the interval")
            if [(s.product.id, s.sold_kw) for s in self.sold] != [(s.product.id, s.sold_kw) for s in sold.values()]:
                self.note("contracts changed within the interval; settled by the last")
        self.sold = list(sold.values())
        self._contracts = settings.contracts
        self.tail_s = interval.tail_s(self.sold)
        self._signal_max_kw = settings.signal_max_kw
        # What flows beside the vehicles behind a cap is no delivery of theirs.
        self._beside = [site.meter for site in settings.sites if site.meter]
        # A life that goes on from another's state is held to the baseline that the other declared.
        self._run += settings.continues == (0, 0) or not self._run

    def _take(self, entry: Entry, block: Block) -> None:
        if entry.kind is Kind.SAMPLES:
            # A row out of order repeats or trails what was seen: neither measured nor missing.
            block = block[(block["quality"] & Quality.ORDER) == 0]
        elif entry.kind is Kind.METERS:
            block = block[~np.isin(block["meter"], self._beside)]
        elif entry.kind is Kind.SIGNAL:
            fits = (block["quality"] == 0) & (np.abs(block["power_kw"]) <= self._signal_max_kw)
            block = block[fits]
        elif entry.kind is Kind.TICKS:
            unserved = np.zeros(block.size, UNSERVED)
            unserved["t_ns"] = block["t_ns"]
            unserved["kw"] = block["unserved_by_reason"][:, : len(Reason)]
            block = unserved
        elif entry.kind is Kind.BASELINE:
            numbered = np.zeros(block.size, RUN)
            for name in DECLARATION.names or ():
                numbered[name] = block[name]
            numbered["run"] = self._run
            block = numbered
        if entry.kind is Kind.SESSIONS:
            self._ledger.sessions(block)
        elif entry.kind is Kind.VEHICLES:
            self._ledger.vehicles(block)
        else:
            self._rows[entry.kind].extend(block)

    def _close(self, now_ns: int) -> list[Statement]:
        assert self._start_ns is not None  # noqa: S101 - set by the caller
        done = self._settle(self._start_ns + self.length_ns, final=True) if self._run else []
        if done and self._closed is not None:
            closed = Closed(
                self._start_ns, self._start_ns + self.length_ns, tuple(self.sold), self.facts(), tuple(done)
            )
            # Our rows are overwritten by those to come: what is handed out is taken out of them.
            self._closed(closed._replace(facts=cut(closed)))
        self._notes = []
        self._start_ns += self.length_ns
        if now_ns - self._start_ns > SILENT_MAX_S * NS:
            self.note(f"nothing was recorded after {iso(self._start_ns)}")
            self._start_ns = now_ns - now_ns % self.length_ns
        self._forget(self._start_ns - interval.reach_ns(self.sold))
        return done

    def _forget(self, low_ns: int) -> None:
        """Drop the rows that no later interval can use."""
        for kind in (Kind.SAMPLES, Kind.METERS, Kind.TICKS):
            rows = self._rows[kind]
            rows.keep(rows.view["t_ns"] >= low_ns)
            rows.dropped = 0
        modes = self._rows[Kind.MODES]
        modes.keep(modes.view["from_ns"] >= low_ns - managed.LASTS_NS)
        signal = self._rows[Kind.SIGNAL]
        signal.keep(signal.view["valid_until_ns"] > low_ns)
        declared = self._rows[Kind.BASELINE]
        alive = declared.view["end_ns"] > low_ns
        first = np.zeros(alive.size, bool)
        first[np.unique(declared.view["run"], return_index=True)[1]] = True
        declared.keep(alive | (first & np.isin(declared.view["run"], declared.view["run"][alive])))
        self._ledger.forget(low_ns)

    def _settle(self, until_ns: int, *, final: bool) -> list[Statement]:
        assert self._start_ns is not None  # noqa: S101 - set by the caller
        end_ns = self._start_ns + self.length_ns
        return settle_interval(self.sold, self.facts(), self._start_ns, end_ns, until_ns=until_ns, final=final)

    def facts(self) -> Facts:
        """The rows in memory as settlement takes them: the running interval and what its history needs."""
        f, m, g, u, d = (
            self._rows[kind].view for kind in (Kind.SAMPLES, Kind.METERS, Kind.SIGNAL, Kind.TICKS, Kind.BASELINE)
        )
        good = d[np.isfinite(d["power_kw"]) & (d["end_ns"] > d["start_ns"])]
        dropped = {kind.name.lower(): rows.dropped for kind, rows in self._rows.items() if rows.dropped}
        start_ns = self._start_ns or 0
        return Facts(
            Samples(f["t_ns"], f["hz"], f["quality"] == 0),
            Meters(m["t_ns"], m["power_kw"], m["meter"].astype(np.int64), m["quality"] == 0),
            Declarations(
                good["declared_ns"],
                good["start_ns"],
                good["end_ns"],
                good["power_kw"],
                good["run"],
                (good["flags"] & DeclarationFlag.LATE) != 0,
            ),
            Signal(g["t_ns"], g["valid_until_ns"], g["power_kw"]),
            Shortfall(u["t_ns"], u["kw"].astype(np.float64), tuple(reason.name.lower() for reason in Reason)),
            self._ledger.take(start_ns),
            (*self._notes, *(f"{count} rows of {name} beyond memory" for name, count in dropped.items())),
            self._late.between(start_ns - interval.reach_ns(self.sold), start_ns + self.length_ns + self.tail_s * NS),
            managing.by_product(self._rows[Kind.MODES].view, self._contracts),
        )
