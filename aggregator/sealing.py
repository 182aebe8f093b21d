"""Sealing: what settlement closes becomes evidence, beside the journal and in the order of closing.

Follows the journal's entries like the books, and keeps of them what the sealed seconds say besides: what was asked and
commanded, who reported and who was seen to obey. What a book closes waits here until `flush` has it on disk; what the
disk refuses waits on, as statements do. An interval that is in the ledger is not sealed again, so a restart that closes
it anew changes nothing.

No clock: time comes with the entries and with `flush`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from aggregator.evidence_files import Filling, Sold
from aggregator.growing import Rows
from aggregator.journal import Entry, JournalError, Kind
from aggregator.journal_tables import decode
from aggregator.pricing import Pricer
from aggregator.records import TICK
from aggregator.setpoints import HEADER, SETPOINT
from settlement import evidence
from settlement.align import NS
from settlement.evidence import Closed, Control, EvidenceError, Heard
from settlement.ledger import Ledger, LedgerError
from telemetry.samples import FREQUENCY, VEHICLE

Block = npt.NDArray[Any]
Vehicles = Callable[[int, int], Block | None]

DECIDED: Final = np.dtype([("t_ns", "<i8"), ("asked_kw", "<f8"), ("commanded_kw", "<f8"), ("commands", "<i8")])
KEEP_NS: Final = 2 * 3600 * NS  # as far back as an interval may have begun that is still to be closed
# A charger that reports so near to what it was told obeys: meters of chargers are of class 1 to 2 (MID class B).
OBEYS_KW, OBEYS_FRAC = 0.1, 0.05
SLOTS_MAX: Final = 10_000_000


class Files(Protocol):
    """Where evidence goes (`aggregator.evidence_files`)."""

    sealed: dict[str, str]
    revisions: dict[str, int]
    priced: dict[str, int]

    def hash_of(self, key: str) -> str | None:
        """Hash of the newest record of a statement; None where it was never sealed."""

    @property
    def public(self) -> str:
        """The public key that signs now."""

    @property
    def head(self) -> str:
        """Hash of the newest head."""

    def append(self, day: str, fill: Filling, sealed_ns: int) -> Path:
        """Write a batch; OSError where it is not taken."""

    def close(self, sealed_ns: int) -> None:
        """End the file; OSError where it is not taken."""


class _Due(NamedTuple):
    """An interval that is closed, and what is known of it."""

    closed: Closed
    control: Control
    heard: Heard
    vehicles: Block | None


class Sealer:
    """Gathers what is to be sealed, and writes it.

    files    : where it goes
    vehicles : rows of an interval (start_ns, end_ns), one a vehicle, asked for as it is closed; None: not known
    pricer   : makes the records of money; None: nothing is priced
    """

    def __init__(self, files: Files, vehicles: Vehicles | None = None, pricer: Pricer | None = None) -> None:
        self.files = files
        self.pricer = pricer
        self.priced = 0  # records of money, by this life
        self.unreadable = 0  # entries whose rows could not be read; the books note them on their statements
        self.sealed = 0  # intervals, by this life
        self.refused = 0  # intervals that cannot be sealed, and why the last one could not
        self.why = ""
        self.dropped = 0  # decisions beyond memory: the sealed seconds lack them
        self.stopped = ""  # why nothing is sealed any more; empty again with the next interval that is
        self.vehicles = vehicles
        self._waiting: deque[_Due] = deque()
        self._corrected: deque[Closed] = deque()
        self._ticks = Rows(DECIDED)
        self._seconds: dict[int, list[float]] = {}  # t_s -> quality, delay [ms], reported, acknowledged
        self._told_kw = np.zeros(0, np.float32)  # by slot: the last set-point, whose it was, until when it stands
        self._session = np.zeros(0, np.uint32)
        self._until_ns = np.zeros(0, np.int64)

    @property
    def waiting(self) -> int:
        """Intervals that are closed and not on disk."""
        return len(self._waiting) + len(self._corrected)

    def feed(self, entry: Entry) -> None:
        """Take what the seconds say of an entry."""
        take = {
            Kind.SAMPLES: self._samples, Kind.TICKS: self._decided, Kind.VEHICLES: self._reports,
            Kind.COMMANDS: self._commands,
        }.get(entry.kind)  # fmt: skip
        if take is None:
            return
        try:
            take(entry)
        except JournalError:
            self.unreadable += 1

    def close(self, closed: Closed) -> None:
        """A book has closed an interval; nothing is written yet."""
        priced, newest = self.files.priced, self.files.revisions
        if any(priced.get(item.key, -1) < newest.get(item.key, 0) for item in closed.statements):
            self._to_price(closed)
        if not any(item.key not in self.files.sealed for item in closed.statements):
            return
        low_ns, high_ns = closed.start_ns - 2 * NS, closed.end_ns
        ticks = self._ticks.view
        near = ticks[(ticks["t_ns"] >= low_ns) & (ticks["t_ns"] < high_ns)]
        control = Control(*(np.ascontiguousarray(near[name]) for name in DECIDED.names or ()))
        seconds = sorted(t_s for t_s in self._seconds if closed.start_ns <= t_s * NS < high_ns)
        rows = np.array([self._seconds[t_s] for t_s in seconds], np.float64).reshape(-1, 4)
        quality, reported, acknowledged = (rows[:, k].astype(np.int64) for k in (0, 2, 3))
        heard = Heard(np.array(seconds, np.int64), quality, rows[:, 1].copy(), reported, acknowledged)
        shares = self.vehicles(closed.start_ns, closed.end_ns) if self.vehicles else None
        self._waiting.append(_Due(closed, control, heard, shares))
        self._forget(closed.end_ns - KEEP_NS)

    def correct(self, closed: Closed) -> None:
        """Statements were made anew; nothing is written yet. closed : with these statements alone"""
        self._corrected.append(closed)

    def flush(self, now_ns: int) -> None:
        """Write what waits. Raises OSError: it waits on, whole."""
        while self._waiting:
            due = self._waiting[0]
            fresh = tuple(item for item in due.closed.statements if item.key not in self.files.sealed)
            try:
                if fresh:
                    self._seal(due._replace(closed=due.closed._replace(statements=fresh)), now_ns)
            except (EvidenceError, LedgerError) as error:
                # Statements go on without it; `flyball seal` can still make evidence of the journal.
                self._refuse(error)
            self._waiting.popleft()
        while self._corrected:
            try:
                self._seal_correction(self._corrected[0], now_ns)
            except (EvidenceError, LedgerError) as error:
                self._refuse(error)
            self._to_price(self._corrected[0])
            self._corrected.popleft()
        if self.pricer is not None:
            for data in self.pricer.due(self.files.sealed):
                try:
                    self._seal_prices(data, now_ns)
                except LedgerError as error:
                    self._refuse(error)

    def end(self, now_ns: int) -> None:
        """The line ends, and the file with it; what comes after it begins another. Raises OSError."""
        self.flush(now_ns)
        try:
            self.files.close(now_ns)
        except LedgerError as error:
            self._stop(error)

    def _refuse(self, error: ValueError) -> None:
        self.refused += 1
        self._stop(error)

    def _stop(self, error: ValueError) -> None:
        self.why = self.stopped = str(error)

    def _to_price(self, closed: Closed) -> None:
        if self.pricer is not None:
            own = {item.product.id: item.product for item in closed.sold}
            self.pricer.take(closed.statements, {item.key: own[item.product] for item in closed.statements})

    def _seal_prices(self, data: Mapping[str, Any], now_ns: int) -> None:
        def fill(ledger: Ledger, contract: Sold | None) -> tuple[dict[str, str], Sold]:
            evidence.seal_prices(ledger, data, now_ns)
            return {}, contract or []

        self.files.append(day(data["start_ns"]), fill, now_ns)
        self.files.priced |= {item["key"]: item["revision"] for item in data["statements"]}
        self.priced += 1

    def _seal(self, due: _Due, now_ns: int) -> None:
        def fill(ledger: Ledger, contract: Sold | None) -> tuple[dict[str, str], Sold]:
            return evidence.seal(ledger, *due, now_ns, contract), evidence.sold(due.closed.sold)

        self.files.append(day(due.closed.start_ns), fill, now_ns)
        self.sealed, self.stopped = self.sealed + 1, ""

    def _seal_correction(self, closed: Closed, now_ns: int) -> None:
        found = {item.key: self.files.hash_of(item.key) for item in closed.statements}
        before = {key: hashed for key, hashed in found.items() if hashed is not None}
        known = closed._replace(statements=tuple(item for item in closed.statements if item.key in before))
        unknown = closed._replace(statements=tuple(item for item in closed.statements if item.key not in before))

        def fill(ledger: Ledger, contract: Sold | None) -> tuple[dict[str, str], Sold]:
            now = evidence.sold(closed.sold)
            if now != contract:
                ledger.record("contract", {"from_ns": closed.start_ns, "contracts": now}, now_ns)
            return evidence.seal_correction(ledger, known, before, now_ns), now

        if known.statements:
            self.files.append(day(closed.start_ns), fill, now_ns)
            self.files.revisions |= {item.key: item.revision for item in known.statements}
        if unknown.statements:
            # What was never sealed has nothing to be put right: it is sealed as it is now.
            self.close(unknown)

    # -- what the seconds say

    def _samples(self, entry: Entry) -> None:
        for row in decode(entry, FREQUENCY)[["t_ns", "rx_ns", "quality"]].tolist():
            t_ns, rx_ns, quality = row
            second = self._second(t_ns)
            second[0] = int(second[0]) | quality
            # Replayed traces and sources without arrival have no way to speak of.
            second[1] = np.fmax(second[1], (rx_ns - t_ns) / 1e6 if rx_ns > 0 else np.nan)

    def _decided(self, entry: Entry) -> None:
        rows = decode(entry, TICK)
        made = np.zeros(rows.size, DECIDED)
        made["t_ns"], made["asked_kw"] = rows["t_ns"], rows["request_kw"]
        made["commanded_kw"], made["commands"] = rows["commanded_kw"], rows["commands"]
        before = self._ticks.dropped
        self._ticks.extend(made)
        self.dropped += self._ticks.dropped - before

    def _commands(self, entry: Entry) -> None:
        """What each vehicle was told; the signature was for the gateway, the journal has what left."""
        if len(entry.payload) < HEADER.size:
            raise JournalError("rows", f"entry {entry.seq}: a set-point message is cut")
        *_, until_ns, count = HEADER.unpack_from(entry.payload)
        if len(entry.payload) < HEADER.size + count * SETPOINT.itemsize:
            raise JournalError("rows", f"entry {entry.seq}: a set-point message is cut")
        rows = np.frombuffer(entry.payload, SETPOINT, count, HEADER.size)
        rows = rows[rows["slot"] < SLOTS_MAX]
        self._grow(int(rows["slot"].max(initial=0)) + 1)
        self._told_kw[rows["slot"]] = rows["setpoint_kw"]
        self._session[rows["slot"]] = rows["session"]
        self._until_ns[rows["slot"]] = until_ns

    def _reports(self, entry: Entry) -> None:
        rows = decode(entry, VEHICLE)
        rows = rows[rows["slot"] < SLOTS_MAX]
        if not rows.size:
            return
        slot = rows["slot"]
        self._grow(int(slot.max()) + 1)
        told_kw = self._told_kw[slot].astype(np.float64)
        near_kw = OBEYS_KW + OBEYS_FRAC * np.abs(told_kw)
        obeys = (self._session[slot] == rows["session"]) & (self._until_ns[slot] > rows["t_ns"])
        obeys &= np.abs(rows["power_kw"] - told_kw) <= near_kw
        t_s = rows["t_ns"] // NS
        for value in np.unique(t_s).tolist():
            here = t_s == value
            second = self._second(value * NS)
            # A vehicle that reports twice within a second is one; of several batches it counts once each.
            second[2] += np.unique(slot[here]).size
            second[3] += np.unique(slot[here & obeys]).size

    def _second(self, t_ns: int) -> list[float]:
        return self._seconds.setdefault(t_ns // NS, [0, np.nan, 0, 0])

    def _grow(self, size: int) -> None:
        if size > self._told_kw.size:
            more = max(size, 2 * self._told_kw.size) - self._told_kw.size
            self._told_kw = np.concatenate([self._told_kw, np.zeros(more, np.float32)])
            self._session = np.concatenate([self._session, np.zeros(more, np.uint32)])
            self._until_ns = np.concatenate([self._until_ns, np.zeros(more, np.int64)])

    def _forget(self, low_ns: int) -> None:
        self._ticks.keep(self._ticks.view["t_ns"] >= low_ns)
        self._ticks.dropped = 0
        for t_s in [t_s for t_s in self._seconds if t_s * NS < low_ns]:
            del self._seconds[t_s]


def day(t_ns: int) -> str:
    """UTC day of a time."""
    return datetime.fromtimestamp(t_ns // NS, UTC).strftime("%Y-%m-%d")
