"""The core: pushed with samples, sessions, reports, meters, signals and time; drained of commands and records.

No await, no clock, no I/O. Every call carries its time; what comes out depends on the calls alone, so the
journal of calls is enough to make the same bytes again. The shells (`worker`, `backtest`, `replay`) differ only
in who calls.

Frequency rows reach the core already judged by the quality gate; the core adds one judgement of its own, their
age at the moment of decision.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from aggregator import managing, records, setpoints
from aggregator.accounting import Accounting
from aggregator.alarms import Alarms
from aggregator.contracts import CoreSettings, contracts_sold
from aggregator.declared import Declarations
from aggregator.intake import AHEAD_NS
from aggregator.journal import Entry, Kind
from aggregator.records import DECLARATION, MODE, TICK
from aggregator.registry import Registry
from aggregator.setpoints import SETPOINT
from droop import dynamics, planned, sites
from droop.efficiency import Losses
from droop.fleet import PLUGGED, SEGMENTS
from droop.handle import hold
from droop.numerics import kernel
from droop.outbox import joined
from droop.protection import IN_SERVICE
from droop.reasons import COUNT, Reason
from droop.step import NEVER, Running, Tick, engine, renew, tick_held
from droop.watch import Mode, Verdict
from droop.working_point import working_point_kw
from settlement import soe
from telemetry import wire
from telemetry.samples import Block, Quality

# One TICK row, packed in one call: a row of a structured array costs ten times as much to fill.
TICK_ROW: Final = struct.Struct("<qqqddddddddddHBBId24fQ")
assert TICK_ROW.size == TICK.itemsize  # noqa: S101 - layouts that must agree

# Plain numbers: an enumeration costs its name at every use.
AGE, DEAD_BUS = int(Quality.AGE), int(Quality.DEAD_BUS)
NAN, ZERO, RANGE = int(Quality.NAN), int(Quality.ZERO), int(Quality.RANGE)
# No gate can be set wider: a value beyond it that comes unmarked was never judged.
WIDEST_BAND_FRAC: Final = 0.5
USABLE, UNUSABLE, BUS_DEAD, NO_SAMPLE = (
    int(Verdict.USABLE), int(Verdict.UNUSABLE), int(Verdict.DEAD_BUS), int(Verdict.NONE)
)  # fmt: skip
FADING = (int(Mode.RAMP), int(Mode.BASELINE))

# Power that nobody would miss: below it a shortfall is rounding.
NEGLIGIBLE_KW: Final = 1e-3
# A line that never saw a frequency says so after this time; sources need a moment to connect.
START_NS: Final = 10_000_000_000
MINUTE_NS: Final = 60_000_000_000
# A stamp further ahead of us is a broken clock's: taken as it is, it would outdate all that follow it.


@kernel
def _fill(held: Any, rows: Block) -> None:
    """The engine's outbox as SETPOINT rows. held : the engine's handle"""
    engine = held.engine
    out, session = engine.out, engine.fleet.session
    slot, setpoint_kw = out.slot, out.setpoint_kw
    for k in range(rows.size):
        rows[k].slot = slot[k]
        rows[k].session = session[slot[k]]
        rows[k].setpoint_kw = setpoint_kw[k]


@dataclass
class Sums:
    """Running totals since the core began; energies in kWh, relative to the declared baseline."""

    ticks: int = 0
    commands: int = 0
    requested_up_kwh: float = 0.0
    requested_down_kwh: float = 0.0
    delivered_up_kwh: float = 0.0
    delivered_down_kwh: float = 0.0
    unserved_kwh: float = 0.0
    max_sum_error_kw: float = 0.0
    bound_violations: int = 0
    passes: int = 0
    clipped: int = 0  # set-points beyond what is sold on a signal
    trips: int = 0  # protective disconnections
    unserved_by_reason_kwh: np.ndarray[tuple[int], np.dtype[np.float64]] = field(
        default_factory=lambda: np.zeros(COUNT)
    )
    rejected: Counter[str] = field(default_factory=Counter)


class Command(NamedTuple):
    """The set-points of one tick: what a gateway applies, before it is signed."""

    sequence: int
    t_ns: int
    issued_ns: int
    valid_until_ns: int
    rows: Block


class Aggregator:
    """The whole decision: one instance owns its fleet, its products and their state.

    journal : whether calls and results are recorded for `drain_entries`; a backtest may do without
    accounts : whether closed accounts of vehicles wait for `drain_accounts`
    """

    def __init__(self, settings: CoreSettings, *, journal: bool = True, accounts: bool = False) -> None:
        self.settings = settings
        sold = [(c.product, c.sold_kw) for c in settings.contracts]
        caps, self.site_names = sites.tree([site.node() for site in settings.sites], settings.rows)
        self.engine = engine(
            settings.rows, sold, caps, wear_price=settings.wear_price, protect_by=settings.protection,
            prices=settings.prices_ahead(),
        )  # fmt: skip
        self._capped = bool(settings.sites)
        self._meters = {site.meter: self.site_names.index(site.name) for site in settings.sites if site.meter}
        self._settings = settings.engine()
        self._held = hold(Running(self.engine, self._settings))
        self.registry = Registry(self.engine.fleet, self.engine.totals, settings.believing(), Losses(*settings.losses))
        self.accounting = Accounting(settings.rows, settings.intervals_s)
        self.alarms = Alarms()
        self.sums = Sums()
        self.last: Tick | None = None
        self.last_sample: tuple[int, int, float, int] = (0, 0, float("nan"), 0)
        self.baseline_kw = 0.0
        self.metered_kw = float("nan")
        self.meter_t_ns = 0
        self.signal_kw = 0.0
        self._signal_until_ns = 0
        self._signal_door, self._signal_ns = 0, 0  # who said it, and when
        self._age_max_ns = round(settings.sample_age_max_s * 1e9)
        self._band_hz = tuple((1 + side * WIDEST_BAND_FRAC) * settings.nominal_hz for side in (-1, 1))
        self._declared = Declarations(settings.interval_s, settings.ramp_s)
        self._declared_rows: list[Block] = []
        # What is sold on a signal alone answers no frequency; protection does.
        self._hears = settings.protection is not None or any(c.product.input == "frequency" for c in settings.contracts)
        self._ruled = bool(self.engine.terms.duties.any.any())  # products with energy rules
        self._mode_rows: list[Block] = []
        self._told_second = self._told_minute = 0
        self._banked = any(soe.asks(c.product) for c in settings.contracts)  # products with a state of energy
        self._first_ns = self._last_ns = 0
        self._sequence = 0
        self._commands: list[Command] = []
        self._accounts: list[Block] | None = [] if accounts else None
        self._journal = journal
        self._entries: list[Entry] = []
        self._seq = 0
        self._record(Kind.START, 0, settings.to_json())

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the handle, which is an address."""
        return {name: value for name, value in self.__dict__.items() if name != "_held"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.engine = self.engine._replace(out=joined(self.engine.out))
        self._held = hold(Running(self.engine, self._settings))

    def take_over(self, settings: CoreSettings) -> None:
        """Go on under another epoch: a new owner's journal begins, and says in its START where it goes on from."""
        self.settings = settings
        self._journal, self._seq, self._entries = True, 0, []
        self._record(Kind.START, 0, settings.to_json())

    # ---- what comes in -------------------------------------------------------------------------------------

    def on_samples(self, block: Block, now_ns: int) -> None:
        """Judged frequency rows, oldest first; one decision each. block : FREQUENCY[n]"""
        self._record(Kind.SAMPLES, now_ns, wire.encode(block) if self._journal else b"")
        oldest_ns = now_ns - self._age_max_ns
        low_hz, high_hz = self._band_hz
        rows = block.tolist()
        newest_ns = rows[-1][1] if rows else 0
        for t_ns, rx_ns, hz, volt_pu, quality, _ in rows:
            if rx_ns < oldest_ns <= newest_ns:
                # Taken in late, together with one that is fresh: there is nothing to decide on it any more.
                self.sums.rejected["overtaken"] += 1
                continue
            mark = quality | AGE if rx_ns < oldest_ns else quality
            if not mark and not low_hz < hz < high_hz:
                mark = (RANGE if hz else ZERO) if math.isfinite(hz) else NAN
            verdict = USABLE
            if mark:
                self._reject(mark)
                verdict = BUS_DEAD if mark & DEAD_BUS else UNUSABLE
            self._decide(now_ns, t_ns, rx_ns, hz, mark, verdict, volt_pu)

    def on_sessions(self, block: Block, now_ns: int) -> None:
        """Plug-ins and plug-outs. block : SESSION[n]"""
        self._record(Kind.SESSIONS, now_ns, wire.encode(block) if self._journal else b"")
        self.registry.sessions(block, now_ns)
        self._close(self.accounting.sessions(self._held, self.registry.vehicles, max(now_ns, self._last_ns)), now_ns)

    def on_vehicles(self, block: Block, now_ns: int) -> None:
        """Vehicle reports. block : VEHICLE[n]"""
        self._record(Kind.VEHICLES, now_ns, wire.encode(block) if self._journal else b"")
        self.registry.reports(block, now_ns)

    def on_meters(self, block: Block, now_ns: int) -> None:
        """Readings of the meter at the grid connection, oldest first. block : POWER[n]"""
        self._record(Kind.METERS, now_ns, wire.encode(block) if self._journal else b"")
        for t_ns, _, power_kw, _, meter, quality in block.tolist():
            known = math.isfinite(power_kw) and not quality
            if meter in self._meters:
                self._local(self._meters[meter], power_kw, t_ns, now_ns, known)
                continue
            if not known or not self.meter_t_ns < t_ns <= now_ns + AHEAD_NS:
                self.sums.rejected["meter"] += 1
                continue
            if self.meter_t_ns and self.delivering(self.meter_t_ns):
                self._deliver(power_kw - self.baseline_kw, (t_ns - self.meter_t_ns) / 3.6e12)
            self.metered_kw, self.meter_t_ns = power_kw, t_ns

    def _local(self, node: int, power_kw: float, t_ns: int, now_ns: int, known: bool) -> None:
        """What flows beside the vehicles behind one cap; the caps of its rows are due at once."""
        tree = self.engine.room.tree
        if not known or not tree.local_ns[node] < t_ns <= now_ns + AHEAD_NS:
            self.sums.rejected["meter"] += 1
            return
        tree.local_kw[node], tree.local_ns[node] = power_kw, min(t_ns, now_ns)
        segment = ((int(tree.first[node]) + 1) * SEGMENTS - 1) // self.settings.rows
        self.engine.totals.due_ns[segment] = 0

    def on_signal(self, block: Block, now_ns: int) -> None:
        """A balancing authority's set-point: of the products sold on a signal, else on top of the others; the newest
        stands. block : SIGNAL[n]

        What goes beyond what is sold on a signal is clipped to it and counted.
        Of one door that is the one that came last. Of two doors it is the one accepted last by their stamps, in
        whatever order they are read: a set-point said before the one in force is void, and stays so when that expires.
        """
        self._record(Kind.SIGNAL, now_ns, wire.encode(block) if self._journal else b"")
        for t_ns, _, valid_until_ns, power_kw, door, quality in block.tolist():
            if quality or not math.isfinite(power_kw) or abs(power_kw) > self.settings.signal_max_kw:
                self.sums.rejected["signal"] += 1
                continue
            said_ns = min(t_ns, now_ns)  # a clock ahead of ours must not shut the other door
            if door != self._signal_door and said_ns < self._signal_ns:
                self.sums.rejected["signal_older"] += 1
                continue
            terms = self.engine.terms
            if terms.signals[0] and abs(power_kw) > terms.signal_kw[0 if power_kw > 0.0 else 1]:
                self.sums.clipped += 1
            self.signal_kw, self._signal_until_ns = power_kw, valid_until_ns
            self._signal_door, self._signal_ns = door, said_ns

    def on_wishes(self, block: Block, now_ns: int) -> None:
        """Owners' overrides of running sessions. block : WISH[n]"""
        self._record(Kind.WISHES, now_ns, wire.encode(block) if self._journal else b"")
        self.registry.wishes(block, now_ns)

    def sell(self, sold_kw: Sequence[float], now_ns: int) -> None:
        """From now on so much is sold of each contract, in their order [kW]; the products stay what they are.

        To be called at the edge of a block: settlement takes what was sold at an interval's beginning for all of it.
        """
        contracts = contracts_sold(self.settings.contracts, sold_kw)
        self._record(Kind.SOLD, now_ns, orjson.dumps([float(kw) for kw in sold_kw]))
        self.settings = replace(self.settings, contracts=contracts)
        fresh = dynamics.terms([(contract.product, contract.sold_kw) for contract in contracts])
        # In place: the kernels hold these very arrays.
        self.engine.terms.sold_kw[:], self.engine.terms.signal_kw[:] = fresh.sold_kw, fresh.signal_kw

    def on_time(self, now_ns: int) -> None:
        """Time went by without a sample: hold, ramp, renew what expires."""
        self._record(Kind.TIME, now_ns, struct.pack("<q", now_ns))
        self._decide(now_ns, now_ns, now_ns, float("nan"), 0, NO_SAMPLE)

    def on_renew(self, now_ns: int) -> None:
        """Set-points may have been lost on their way: every vehicle is commanded anew at the next decision."""
        self._record(Kind.RENEW, now_ns, struct.pack("<q", now_ns))
        fleet, out = self.engine.fleet, self.engine.out
        # With less life left than is renewed, never with none: the command is still what the energy's account and the
        # learning of responses go by. Who cannot be commanded now keeps what he is predicted to be doing.
        hears = (fleet.state == PLUGGED) & (fleet.reason_up != Reason.STALE) & (fleet.reason_up != Reason.REFUSED)
        short_ns = np.minimum(fleet.valid_until_ns, now_ns + self._settings.sending.renew_ns - 1)
        np.copyto(fleet.valid_until_ns, short_ns, where=hears)
        out.soonest_ns[:] = 0

    def note_lost(self, epoch: int, first: int, last: int, now_ns: int, of: str = "frequency") -> None:
        """Samples that never came, by the counters of their stream: for the record, no decision rests on it."""
        row = records.gap(of, "stream", epoch, first, last, self.last_sample[1], now_ns)
        self._record(Kind.LOST, now_ns, row.tobytes())

    # ---- what goes out -------------------------------------------------------------------------------------

    def drain_commands(self) -> list[Command]:
        """Commands decided since the last call, in order."""
        commands, self._commands = self._commands, []
        return commands

    def drain_accounts(self) -> list[Block]:
        """Vehicles' accounts closed since the last call, in order: ROW blocks of `droop.accounts`."""
        closed, self._accounts = self._accounts or [], None if self._accounts is None else []
        return closed

    def close_accounts(self) -> None:
        """Close the accounts that are running, as of the last decision: a recording has ended."""
        self._close(self.accounting.close(self._held, self._last_ns), self._last_ns)

    def drain_entries(self) -> list[Entry]:
        """Journal entries since the last call, in order."""
        entries, self._entries = self._entries, []
        return entries

    def sign(self, command: Command, key: bytes) -> bytes:
        """The command as the message a gateway accepts; journalled as sent."""
        message = setpoints.encode(
            command.rows, key, key_id=self.settings.key_id, epoch=self.settings.epoch, sequence=command.sequence,
            t_ns=command.t_ns, issued_ns=command.issued_ns, valid_until_ns=command.valid_until_ns,
        )  # fmt: skip
        self._record(Kind.COMMANDS, command.issued_ns, message)
        return message

    # ---- one decision --------------------------------------------------------------------------------------

    def _decide(
        self, now_ns: int, t_ns: int, rx_ns: int, hz: float, quality: int, verdict: int, volt_pu: float = math.nan
    ) -> None:
        now_ns = max(now_ns, self._last_ns)
        elapsed_h = (now_ns - self._last_ns) / 3.6e12 if self._last_ns else 0.0
        self._first_ns = self._first_ns or now_ns
        self._last_ns = now_ns
        self._account(elapsed_h, now_ns)
        self._close(self.accounting.edge(self._held, now_ns), now_ns)
        if self._declared.due(now_ns):
            self._declare(now_ns)
        self.baseline_kw = self._declared.power_kw(now_ns)
        result = tick_held(
            self._held, self._capped, now_ns, hz, verdict, self.baseline_kw, self.signal_kw, self._signal_until_ns,
            volt_pu,
        )  # fmt: skip
        self.accounting.decided(self._held, now_ns, result.lam)
        lost = verdict != USABLE and self._lost(result.mode, now_ns)
        sample = t_ns, rx_ns, hz, quality
        self.last = result
        if verdict != NO_SAMPLE or lost:
            self.last_sample = sample
        count = self._queue(now_ns, t_ns)
        self._sum(result, count)
        self._watch(result, lost, now_ns)
        if self._ruled:
            self._tell_modes(t_ns, now_ns)
        if now_ns >= self.bank_ns:
            self._told_minute = now_ns // MINUTE_NS
            self._keep_modes(managing.energies(self.engine.totals, t_ns), now_ns)
        if self._journal:
            self._record(Kind.TICKS, now_ns, self._row(result, sample, now_ns, count))

    @property
    def bank_ns(self) -> int:
        """When the fleet's energies are next put on record; never, where no market asks for them [ns]."""
        return (self._told_minute + 1) * MINUTE_NS if self._banked else NEVER

    def _queue(self, now_ns: int, t_ns: int) -> int:
        """The tick's set-points as one command; how many."""
        out = self.engine.out
        count = int(out.sent[0])
        if count:
            rows = np.empty(count, SETPOINT)
            _fill(self._held, rows)
            self._sequence += 1
            valid_until_ns = now_ns + self._settings.sending.validity_ns
            self._commands.append(Command(self._sequence, t_ns, now_ns, valid_until_ns, rows))
        return count

    def _declare(self, now_ns: int) -> None:
        """Fix the baseline of the interval that lacks one: the sum of the plans as they stand."""
        totals = self.engine.totals
        # Plans come with the refresh; the one within this tick would come too late for the declaration.
        renew(self._held, now_ns)
        power_kw = float(totals.plan_kw.sum()) + self._to_come_kw(now_ns) + self._working_point_kw()
        rows = self._declared.declare(now_ns, power_kw, int(totals.fresh.sum()))
        self._declared_rows.append(rows)
        self._record(Kind.BASELINE, now_ns, rows.tobytes())
        self.accounting.declared(self._held, rows, now_ns)

    def _to_come_kw(self, now_ns: int) -> float:
        """What the plans will be in the interval to declare, beyond what they are now [kW]; 0 where all are even."""
        if not self.engine.fleet.plan_kind.any():
            return 0.0
        return float(planned.change_kw(self._held, now_ns, *self._declared.coming(now_ns)))

    def _working_point_kw(self) -> float:
        """What the baseline adds to the plans, so that the energy the products reserve comes back [kW]."""
        totals, alert = self.engine.totals, self.engine.motion.modes.alert
        sold = [(contract.product, contract.sold_kw) for contract in self.settings.contracts]
        return working_point_kw(
            sold, float(totals.up_kwh.sum()), float(totals.down_kwh.sum()), bool(alert.any()),
            self.settings.interval_s / 3600.0,
        )  # fmt: skip

    def _tell_modes(self, t_ns: int, now_ns: int) -> None:
        """Once a second: what the energy rules have turned on, as alarms and for the journal."""
        modes = self.engine.motion.modes
        second = int(modes.second[0])
        if second == self._told_second:
            return
        self._told_second = second
        for code, on in managing.on(modes):
            self.alarms.set(code, on, now_ns)
        self._record_alarms(now_ns)
        rows = managing.rows(self.engine.terms.duties, modes, self.engine.totals, t_ns)
        if rows.size:
            self._keep_modes(rows, now_ns)

    def _keep_modes(self, rows: Block, now_ns: int) -> None:
        self._mode_rows.append(rows)
        self._record(Kind.MODES, now_ns, rows.tobytes())

    def _close(self, accounts: list[Block], now_ns: int) -> None:
        """Vehicles' accounts that are closed go on record. accounts : ROW blocks of `droop.accounts`"""
        if self._accounts is not None:
            self._accounts += accounts
        for rows in accounts:
            self._record(Kind.ACCOUNT, now_ns, rows.tobytes())

    def _account(self, elapsed_h: float, now_ns: int) -> None:
        """Energy of what the last decision asked, which stood until now."""
        if self.last is None:
            return
        sums, last = self.sums, self.last
        sums.requested_up_kwh += max(last.response_kw, 0.0) * elapsed_h
        sums.requested_down_kwh += max(-last.response_kw, 0.0) * elapsed_h
        if last.unserved_kw != 0.0:
            sums.unserved_kwh += abs(last.unserved_kw) * elapsed_h
            sums.unserved_by_reason_kwh += np.abs(self.engine.unserved_kw) * elapsed_h
            self.accounting.unserved(last.unserved_kw, elapsed_h, now_ns)

    def _sum(self, result: Tick, count: int) -> None:
        sums = self.sums
        sums.ticks += 1
        sums.commands += count
        sums.passes += result.passes
        sums.bound_violations += result.broken
        sums.trips = int(self.engine.guard.trips[0])
        error_kw = abs(result.commanded_kw - (result.request_kw - result.unserved_kw))
        sums.max_sum_error_kw = max(sums.max_sum_error_kw, error_kw)

    def _deliver(self, delivered_kw: float, hours: float) -> None:
        self.sums.delivered_up_kwh += max(delivered_kw, 0.0) * hours
        self.sums.delivered_down_kwh += max(-delivered_kw, 0.0) * hours

    def _lost(self, mode: int, now_ns: int) -> bool:
        """Whether the frequency, unusable now, has been so for longer than is held, or since the start."""
        if not self._hears:
            return False
        if mode == Mode.STARTING:
            return now_ns - self._first_ns > START_NS
        memory = self.engine.memory
        # The time between two samples while the response comes back is no second loss.
        held_ns = max(self._settings.hold_ns, 3 * int(memory.period_ns[0]))
        return mode in FADING and now_ns - int(memory.good_ns[0]) > held_ns

    def _watch(self, result: Tick, lost: bool, now_ns: int) -> None:
        alarms = self.alarms
        # A bus seen dead stays dead until a usable sample says otherwise; it is not a lost measurement besides.
        dead = bool(self.engine.memory.dead[0])
        alarms.set("FREQUENCY_LOST", lost and not dead, now_ns)
        alarms.set("DEAD_BUS", dead, now_ns)
        alarms.set("FREQUENCY_OUT_OF_BOUNDS", bool(self.engine.guard.state[0] != IN_SERVICE), now_ns)
        alarms.set("SHORTFALL", abs(result.unserved_kw) > NEGLIGIBLE_KW, now_ns)
        # Without a vehicle there is no band; the look at all of them is only for then.
        if self._capped:
            tree = self.engine.room.tree
            alarms.set("SITE_OVERLOADED", bool((np.abs(tree.over_kw) > NEGLIGIBLE_KW).any()), now_ns)
            alarms.set("SITE_BLIND", bool((tree.blind_kw > NEGLIGIBLE_KW).any()), now_ns)
            alarms.set("SITE_SHED", bool((tree.shed_kw > NEGLIGIBLE_KW).any()), now_ns)
        alarms.set("NO_FLEET", result.lo_kw == result.hi_kw and not self.engine.totals.fresh.any(), now_ns)
        self._record_alarms(now_ns)

    def supervise(self, short: bool, now_ns: int) -> None:
        """Alarms that need a look at the whole fleet; once a second is enough. Not part of any decision.

        short : whether the products reserve more than there is (`aggregator.reserved`)
        """
        plugged = int((self.engine.fleet.state == PLUGGED).sum())
        self.alarms.set("SOLD_ABOVE_CAPABILITY", short, now_ns)
        self.alarms.set("STALE_REPORTS", plugged - int(self.engine.totals.fresh.sum()) > 0.1 * plugged, now_ns)
        self.alarms.set("CHARGERS_REFUSE", bool((self.engine.fleet.refused_ns > 0).any()), now_ns)
        self._record_alarms(now_ns)

    def vouch(self, missed: bool, disagreeing: bool, now_ns: int) -> None:
        """Alarms of the ingests that a worker follows. Not part of any decision.

        missed : whether one is lost while others serve; disagreeing : whether they contradict each other
        """
        self.alarms.set("INGEST_LOST", missed, now_ns)
        self.alarms.set("SOURCES_DISAGREE", disagreeing, now_ns)
        self._record_alarms(now_ns)

    def _record_alarms(self, now_ns: int) -> None:
        for alarm in self.alarms.drain():
            self._record(Kind.ALARM, now_ns, orjson.dumps(asdict(alarm)))

    def tell(self, t_ns: int, now_ns: int) -> None:
        """Tell of the last decision, made on a usable sample: alarms, and what the energy rules have turned on."""
        if self.last is not None:
            self._watch(self.last, False, now_ns)
        if self._ruled:
            self._tell_modes(t_ns, now_ns)

    @property
    def journals(self) -> bool:
        """Whether calls and results are recorded."""
        return self._journal

    @property
    def meters(self) -> frozenset[int]:
        """Numbers of the meters that are sites' own."""
        return frozenset(self._meters)

    def delivering(self, now_ns: int) -> bool:
        """Whether there is a declared baseline to deliver against."""
        return self._declared.in_force(now_ns)

    def signal_kw_at(self, now_ns: int) -> float:
        """The balancing authority's set-point while it is valid, else 0 [kW]."""
        return self.signal_kw if now_ns < self._signal_until_ns else 0.0

    # ---- records -------------------------------------------------------------------------------------------

    def _row(self, result: Tick, sample: tuple[int, int, float, int], now_ns: int, count: int) -> bytes:
        t_ns, rx_ns, hz, quality = sample
        error_kw = result.commanded_kw - (result.request_kw - result.unserved_kw)
        return TICK_ROW.pack(
            t_ns, rx_ns, now_ns, hz, result.request_kw, self.baseline_kw, result.response_kw, result.dealt_kw,
            result.commanded_kw, result.unserved_kw, result.lo_kw, result.hi_kw, result.lam, quality, result.mode,
            result.passes, count, error_kw, *self.engine.unserved_kw.tolist(), self.sums.ticks,
        )  # fmt: skip

    def _record(self, kind: Kind, now_ns: int, payload: bytes) -> None:
        if self._journal:
            self._entries.append(Entry(kind, 0, self._seq, now_ns, payload))
        self._seq += 1

    def _reject(self, mark: int) -> None:
        for flag in Quality(mark):
            self.sums.rejected[str(flag.name).lower()] += 1

    def declared_rows(self) -> Block:
        """DECLARATION[n]: every baseline declared so far."""
        self._declared_rows = [np.concatenate([np.zeros(0, DECLARATION), *self._declared_rows])]
        return self._declared_rows[0]

    def mode_rows(self) -> Block:
        """MODE[n]: everything that the energy rules have turned on so far."""
        self._mode_rows = [np.concatenate([np.zeros(0, MODE), *self._mode_rows])]
        return self._mode_rows[0]

    def forget(self, before_ns: int) -> None:
        """What had ended by then need not be told any more; the run's first baseline, and the last modes, are."""
        declared, modes = self.declared_rows(), self.mode_rows()
        ended = declared["end_ns"] <= before_ns
        ended[:1] = False
        self._declared_rows = [declared[~ended]]
        over = modes["from_ns"] < before_ns
        over &= modes["from_ns"] < np.max(modes["from_ns"], where=over, initial=0)
        self._mode_rows = [modes[~over]]

    def modes(self) -> dict[str, dict[str, Any]]:
        """By product with energy rules: what is on, and for how long it was; see `managing.told`."""
        return managing.told(self.settings.contracts, self.engine.terms.duties, self.engine.motion.modes)

    def unserved_by_reason(self) -> dict[str, float]:
        """Energy not served so far, by the reason that took it [kWh]."""
        return {
            reason.name.lower(): float(self.sums.unserved_by_reason_kwh[reason])
            for reason in Reason
            if self.sums.unserved_by_reason_kwh[reason] > 0.0
        }

    def rejected(self) -> dict[str, int]:
        """Everything refused at the core's doors, by reason."""
        return dict(self.sums.rejected + self.registry.refused)
