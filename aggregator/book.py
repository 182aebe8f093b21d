"""The settlement book: journal entries in, statements out. State in memory, nothing else.

Pure of clocks, streams and files; what time it is, the entries say. An interval is closed by the first entry whose
`now_ns` lies beyond its end, the sequel that its scores await and the meters' latency, before that entry is taken in:
so the same entries give the same statements whether they come from a stream or from files, all at once or across a
restart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from aggregator import managing
from aggregator.contracts import Contract, CoreSettings, contracts_sold
from aggregator.growing import Rows
from aggregator.in_force import InForce
from aggregator.journal import Entry, JournalError, Kind
from aggregator.journal_tables import decode
from aggregator.late import Late
from aggregator.records import DECLARATION, FLEET, MODE, TICK, Block, DeclarationFlag
from droop.reasons import Reason
from settlement import interval, managed
from settlement.align import NS
from settlement.balance import FleetLedger
from settlement.evidence import Closed, cut
from settlement.facts import NO_CLASSES, Declarations, Facts, Meters, Samples, Shortfall, Signal
from settlement.interval import Sold
from settlement.statement import Statement, iso
from telemetry.samples import FREQUENCY, POWER, SESSION, SIGNAL, VEHICLE, Quality

LATENCY_S: Final = 5  # meters report up to 4 s late
NOTES_MAX: Final = 20
SILENT_MAX_S: Final = 86_400  # a longer silence is not settled interval by interval
METER_REMEMBERED_S: Final = 3600  # a meter that is silent for longer is taken for removed

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


def settle_interval(
    sold: Sequence[Sold], facts: Facts, start_ns: int, end_ns: int, *, until_ns: int | None = None, final: bool = True
) -> list[Statement]:
    """Statements of one interval, for those products whose settlement interval it is; all share the delivery."""
    length_s = (end_ns - start_ns) // NS
    statements = interval.settle(sold, facts, start_ns, end_ns, until_ns=until_ns, final=final)
    return [s for s, item in zip(statements, sold, strict=True) if item.product.interval_s == length_s]


def _with_silent(meters: Meters, silent: Sequence[int], at_ns: int) -> Meters:
    """A reading that says nothing for each: the sum is unknown then, never smaller."""
    if not silent:
        return meters
    count = len(silent)
    nothing = Meters(np.full(count, at_ns), np.full(count, np.nan), np.array(silent, np.int64), np.zeros(count, bool))
    return Meters(*(np.concatenate(pair) for pair in zip(meters, nothing, strict=True)))


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
        self._in_force = InForce(self.length_ns)
        self._settings: CoreSettings | None = None
        self._contracts: tuple[Contract, ...] = ()  # one of each product that was ever sold
        self._place = np.full(256, -1)
        self.undecodable = 0
        self._run = 0
        self._signal_max_kw = np.inf
        self._beside: list[int] = []
        self._classes = NO_CLASSES
        self._start_ns: int | None = None
        self._seen_ns = self._served_ns = 0
        self._rows = {
            Kind.SAMPLES: Rows(FREQUENCY),
            Kind.METERS: Rows(POWER),
            Kind.SIGNAL: Rows(SIGNAL),
            Kind.TICKS: Rows(UNSERVED),
            Kind.BASELINE: Rows(RUN),
            Kind.MODES: Rows(MODE),
        }
        self._met: dict[int, int] = {}  # meter -> its last reading
        self._ledger = FleetLedger(self.length_ns)
        self._notes: list[str] = []

    @property
    def sold(self) -> list[Sold]:
        """What the running interval is settled by."""
        return self._in_force.sold

    @property
    def tail_s(self) -> int:
        """How long its scores await a sequel [s]."""
        return self._in_force.tail_s

    def feed(self, entry: Entry) -> None:
        """Take the rows of one entry; call `on_time` with its time before.

        Service begins with the first frequency; vehicles may have plugged in long before.
        """
        if self._start_ns is None and entry.kind is Kind.SAMPLES:
            self._start_ns = entry.now_ns - entry.now_ns % self.length_ns
        self._served_ns = max(self._served_ns, entry.now_ns)
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

    def begin(self, settings: CoreSettings, at_ns: int = 0) -> None:
        """A run of the worker begins with these contracts. at_ns : when, 0: before all that is to come"""
        self._settings = settings
        self._signal_max_kw = settings.signal_max_kw
        # What flows beside the vehicles behind a cap is no delivery of theirs.
        self._classes = settings.classes()
        self._beside = [site.meter for site in settings.sites if site.meter]
        self._number(settings.contracts)
        restarted = bool(self._run)
        # A life that goes on from another's state is held to the baseline that the other declared.
        self._run += settings.continues == (0, 0) or not self._run
        self._in_force.add(settings.contracts, at_ns, self._served_ns, restarted=restarted)
        self._turn()

    def resell(self, sold_kw: Sequence[float], at_ns: int) -> None:
        """Within a run: other powers sold from `at_ns` on. At an interval's beginning they hold for all of it; within
        one it is settled by the larger, as after a restart.
        """
        if self._settings is None:
            return
        contracts = contracts_sold(self._settings.contracts, sold_kw)
        self._settings = replace(self._settings, contracts=contracts)
        self._in_force.add(contracts, at_ns, self._served_ns, restarted=False)
        self._turn()

    def _turn(self) -> None:
        for text in self._in_force.turn(self._start_ns):
            self.note(text)

    def _number(self, contracts: Sequence[Contract]) -> None:
        """MODE rows name a product by its place among the contracts of their run: which of all known that is."""
        known = {contract.product.id: k for k, contract in enumerate(self._contracts)}
        place = np.full(256, -1)
        place[FLEET] = FLEET
        for k, contract in enumerate(contracts):
            if contract.product.id not in [item.product.id for item in contracts[:k]]:  # the first speaks
                place[k] = known.setdefault(contract.product.id, len(known))
                if place[k] == len(self._contracts):
                    self._contracts = (*self._contracts, contract)
        self._place = place

    def _take(self, entry: Entry, block: Block) -> None:
        if entry.kind is Kind.MODES:
            block = block[self._place[block["product"]] >= 0].copy()
            block["product"] = self._place[block["product"]]
        elif entry.kind is Kind.SAMPLES:
            # A row out of order repeats or trails what was seen: neither measured nor missing.
            block = block[(block["quality"] & Quality.ORDER) == 0]
        elif entry.kind is Kind.METERS:
            block = block[~np.isin(block["meter"], self._beside)]
            for meter in np.unique(block["meter"]).tolist():
                last_ns = int(block["t_ns"][block["meter"] == meter].max())
                self._met[meter] = max(last_ns, self._met.get(meter, last_ns))
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
        self._in_force.over()
        self._turn()
        if now_ns - self._start_ns > SILENT_MAX_S * NS:
            self.note(f"nothing was recorded after {iso(self._start_ns)}")
            self._start_ns = now_ns - now_ns % self.length_ns
            self._turn()
        self._forget(self._start_ns - interval.reach_ns(self.sold), self._start_ns - interval.heard_ns(self.sold))
        return done

    def _forget(self, low_ns: int, heard_ns: int) -> None:
        """Drop the rows that no later interval can use. heard_ns : from when on the frequency is needed"""
        for kind, from_ns in ((Kind.SAMPLES, heard_ns), (Kind.METERS, low_ns), (Kind.TICKS, heard_ns)):
            rows = self._rows[kind]
            rows.keep(rows.view["t_ns"] >= from_ns)
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
        oldest_ns = (self._start_ns or 0) - METER_REMEMBERED_S * NS
        self._met = {meter: t_ns for meter, t_ns in self._met.items() if t_ns >= oldest_ns}
        self._ledger.forget(low_ns)

    def _settle(self, until_ns: int, *, final: bool) -> list[Statement]:
        assert self._start_ns is not None  # noqa: S101 - set by the caller
        end_ns = self._start_ns + self.length_ns
        return settle_interval(self.sold, self.facts(), self._start_ns, end_ns, until_ns=until_ns, final=final)

    def _silent(self, rows: Block) -> list[int]:
        """Meters of the last hour that say nothing at all now: a sum without them would be another fleet's."""
        since_ns = (self._start_ns or 0) - METER_REMEMBERED_S * NS
        return sorted(set(self._met) - set(np.unique(rows["meter"]).tolist()) - {
            meter for meter, t_ns in self._met.items() if t_ns < since_ns
        })  # fmt: skip

    def facts(self) -> Facts:
        """The rows in memory as settlement takes them: the running interval and what its history needs."""
        f, m, g, u, d = (
            self._rows[kind].view for kind in (Kind.SAMPLES, Kind.METERS, Kind.SIGNAL, Kind.TICKS, Kind.BASELINE)
        )
        silent = self._silent(m)
        good = d[np.isfinite(d["power_kw"]) & (d["end_ns"] > d["start_ns"])]
        dropped = {kind.name.lower(): rows.dropped for kind, rows in self._rows.items() if rows.dropped}
        start_ns = self._start_ns or 0
        return Facts(
            Samples(f["t_ns"], f["hz"], f["quality"] == 0),
            _with_silent(
                Meters(m["t_ns"], m["power_kw"], m["meter"].astype(np.int64), m["quality"] == 0), silent, start_ns
            ),
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
            (
                *self._notes,
                *(f"meter {meter}: not one reading" for meter in silent),
                *(f"{count} rows of {name} beyond memory" for name, count in dropped.items()),
            ),
            self._late.between(start_ns - interval.heard_ns(self.sold), start_ns + self.length_ns + self.tail_s * NS),
            managing.by_product(self._rows[Kind.MODES].view, self._contracts),
            managing.energy(self._rows[Kind.MODES].view),
            self._classes,
        )
