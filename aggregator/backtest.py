"""The replay shell: a recorded frequency drives the same core, a simulated fleet answers it.

The same calls as live, with the trace's time in place of the clock: what the fleet says goes in, the sample
goes in, commands come out and are applied. Nothing here decides anything; settlement judges the result by the
code that judges a live day.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from aggregator import managing
from aggregator.bidding.available import Watcher
from aggregator.bidding.products import BidError, bundle
from aggregator.book import settle_interval
from aggregator.conductor import Conductor, able
from aggregator.contracts import CoreSettings
from aggregator.core import Aggregator
from aggregator.declared import SETTLE_NS
from aggregator.desk import STEP_MAX_NS
from aggregator.gateways.arrivals import Guests
from aggregator.gateways.population import Behaviour
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.kept import Kept, Steps
from aggregator.metered import Metered
from aggregator.reserved import figures
from aggregator.results.collector import Collector
from aggregator.results.periods import Unsold
from aggregator.signal_file import Recorded
from droop.dynamics import terms
from settlement.align import NS
from settlement.facts import Declarations, Energy, Facts, Meters, Modes, Samples, Signal, no_shortfall
from settlement.interval import Sold, heard_ns, reach_ns, tail_s
from settlement.managed import LASTS_NS
from settlement.statement import Statement
from settlement.window import take
from telemetry.quality import Gate, GateSettings
from telemetry.samples import FREQUENCY, POWER, SIGNAL, Block, Quality

if TYPE_CHECKING:
    from aggregator.bidding.selling import Seller

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# How often all vehicles are looked at: their true state of charge, alarms that concern the whole fleet.
LOOK_NS: Final = 60_000_000_000
# Rows that were let go, until they are Parquet.
SAMPLES_FILE: Final = "frequency.rows"
METERS_FILE: Final = "meter.rows"
# Rows that are held before any are let go: a day of seconds is held whole.
HELD_ROWS: Final = 100_000
# A stamp that did not move ahead is no moment to decide at.
OUT_OF_TIME: Final = int(Quality.ORDER | Quality.CLOCK_JUMP)


class Backtest:
    """One core and one simulated fleet, driven by recorded rows.

    settings : the core's; `rows` is the number of chargers
    start_ns : when the fleet begins to live; at or before the first row
    behaviour : how imperfect the fleet is; takes precedence over `perfect`
    signal : a balancing authority's, for the products sold on one
    gathered : what days, blocks, vehicles and stays come to
    guests : who comes to the chargers, instead of cars drawn for each
    seller : who says what is sold of each block; None: the contracts stand
    stepwise : every row by Python's steps, as live, not in compiled stretches; the same result, bit for bit, slower
    folder : where rows go that `settle_along` lets go of; None: nowhere
    """

    def __init__(
        self, settings: CoreSettings, gate: GateSettings, start_ns: int, seed: int, perfect: bool = False,
        behaviour: Behaviour | None = None, signal: Recorded | None = None, *, gathered: Collector | None = None,
        guests: Guests | None = None, seller: Seller | None = None, stepwise: bool = False, folder: Path | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.stepwise = settings, stepwise
        self.core = Aggregator(settings, journal=False, accounts=True)
        self.gathered = gathered or Collector(settings, start_ns)
        self.fleet = SimulatedFleet(settings.rows, seed, start_ns, perfect=perfect, behaviour=behaviour, guests=guests)
        self.gate = Gate(gate)
        self.rows = 0
        self.soc_min_frac, self.soc_max_frac = 1.0, 0.0
        self.switches = 0  # of chargers with a least power: on, off, or to the other side
        self.least_h = 0.0  # hours that such chargers were plugged in, of all of them together
        self._modes = b""
        self._least_ns = start_ns
        self._last_ns = 0
        self._look_ns = 0
        self.samples_kept = Kept(FREQUENCY, folder and folder / SAMPLES_FILE)
        self._meters = Kept(POWER, folder and folder / METERS_FILE)
        self._metered = Metered(start_ns)
        self._steps = Steps()
        self._stated: list[Statement] = []
        self._stated_ns: int | None = None  # up to where
        self.points = np.zeros(0, SIGNAL) if signal is None else set_points(signal, settings)
        self.told = 0  # set-points that have been said
        self.seller = seller
        self.watcher = watching(settings) if seller is None else seller.watcher
        self.sales: list[tuple[int, tuple[float, ...]]] = []  # from when on so much was sold of each contract [ns, kW]
        self._recorded = signal

    def feed(self, block: Block) -> None:
        """Recorded rows, in file order. block : FREQUENCY[n] with rx_ns == t_ns"""
        judged = self.gate.check(block)
        self.rows += int(judged.size)
        self.gathered.samples(judged)
        judged = judged[(judged["quality"] & OUT_OF_TIME) == 0]
        if not judged.size:
            return
        self.samples_kept.add(judged)
        self._steps.add(judged["t_ns"])
        self._settle_in(int(judged["rx_ns"][0]))
        for part in (judged,) if self.seller is None else self.seller.parts(self, judged):
            self._drive(part)

    def _drive(self, judged: Block) -> None:
        """Rows that were judged, in time. judged : FREQUENCY[n]"""
        if able(self) and not self.stepwise:
            Conductor(self, judged).run()
            return
        for k, now_ns in enumerate(judged["rx_ns"].tolist()):
            self._idle_until(now_ns)
            self._world(now_ns)
            self.core.on_samples(judged[k : k + 1], now_ns)
            self._obey(now_ns)

    def keep_in(self, folder: Path) -> None:
        """Where the rows lie that were let go: the folder may be called by another name than before."""
        self.samples_kept.keep_at(folder / SAMPLES_FILE)
        self.meters_kept.keep_at(folder / METERS_FILE)

    def follow(self, count: int) -> None:
        """Set-points alone, without any frequency: the next `count` of them, a decision at each."""
        for now_ns in self.points["t_ns"][self.told : self.told + count].tolist():
            self._settle_in(now_ns)
            if self.seller is not None:
                self.seller.turn(self, now_ns)
            self._idle_until(now_ns)
            self._world(now_ns)
            self.core.on_time(now_ns)
            self._obey(now_ns)

    def sell(self, sold_kw: Sequence[float], now_ns: int) -> None:
        """From `now_ns` on, the edge of a block, so much is sold of each contract [kW]."""
        self.core.sell(sold_kw, now_ns)
        self.settings = self.core.settings
        self.sales.append((now_ns, tuple(sold_kw)))
        if self._recorded is not None:
            self.points["power_kw"][self.told :] = set_points(self._recorded, self.settings)["power_kw"][self.told :]

    def sold_kw(self, t_ns: Ints) -> Floats:
        """float64[n, contracts]: what was sold at these times; nothing before the first sale, where there are any."""
        if not self.sales:
            return np.tile([contract.sold_kw for contract in self.settings.contracts], (t_ns.size, 1))
        place = np.searchsorted([at_ns for at_ns, _ in self.sales], t_ns, side="right")
        return np.array([(0.0,) * len(self.settings.contracts), *(kw for _, kw in self.sales)])[place]

    def sold_at(self, t_ns: int) -> list[Sold]:
        """What is settled of an interval that begins then: products of which anything was sold."""
        powers = self.sold_kw(np.array([t_ns]))[0].tolist()
        pairs = zip(self.settings.contracts, powers, strict=True)
        return [Sold(contract.product, kw) for contract, kw in pairs if kw > 0.0 or not self.sales]

    def _settle_in(self, first_ns: int) -> None:
        """Before the first row of all: where the fleet lives by then, it goes to its plans, and has declared them."""
        begin_ns = max(first_ns - SETTLE_NS, self.fleet.now_ns)
        if self._last_ns or begin_ns >= first_ns:
            return
        self._world(begin_ns)
        self.core.on_time(begin_ns)
        self._obey(begin_ns)
        self._idle_until(first_ns)
        self.core.sums.ticks = 0  # decisions are counted from the first row on

    def idle_until(self, now_ns: int) -> None:
        """Live up to a time at which the trace says nothing."""
        self._idle_until(now_ns)

    def _idle_until(self, now_ns: int) -> None:
        """Time in which the trace says nothing, in steps short enough to keep the fleet commanded."""
        while self._last_ns and now_ns - self._last_ns > STEP_MAX_NS:
            at_ns = self._last_ns + STEP_MAX_NS
            self._world(at_ns)
            self.core.on_time(at_ns)
            self._obey(at_ns)

    def _world(self, now_ns: int) -> None:
        """What the fleet says up to now."""
        if self._arrivals(now_ns):
            self._count_hours(now_ns)
        self._hear(now_ns)

    def _hear(self, now_ns: int) -> None:
        """Reports, meter and signal up to now."""
        fleet, core = self.fleet, self.core
        reports = fleet.reports(now_ns)
        if reports.size:
            core.on_vehicles(reports, now_ns)
        meter = fleet.meter(now_ns)
        if meter.size:
            core.on_meters(meter, now_ns)
            self.metered(meter)
        if self.told < self.points.size and self.points["t_ns"][self.told] <= now_ns:
            said = int(np.searchsorted(self.points["t_ns"], now_ns, side="right"))
            core.on_signal(self.points[self.told : said], now_ns)
            self.told = said
        self._last_ns = now_ns
        if now_ns >= self._look_ns:
            self._look(now_ns)

    def _arrivals(self, now_ns: int) -> bool:
        """Sessions that began or ended up to now; whether there were any."""
        sessions = self.fleet.sessions(now_ns)
        if sessions.size:
            self.core.on_sessions(sessions, now_ns)
        return bool(sessions.size)

    def metered(self, rows: Block) -> None:
        """Keep what the meter read. rows : POWER[n]"""
        self._metered.read(rows)

    def _look(self, now_ns: int) -> None:
        """Once a minute: what concerns the whole fleet."""
        self._count_hours(now_ns)
        core, self._look_ns = self.core, now_ns + LOOK_NS
        self.gathered.look(self.fleet)
        if self.watcher is not None:
            self.watcher.look(core.engine.fleet, now_ns)
        if core.last is not None:
            core.supervise(figures(core, now_ns)["short"], now_ns)
        soc = self.fleet.truth().soc_frac
        if not np.isnan(soc).all():
            self.soc_min_frac = min(self.soc_min_frac, float(np.nanmin(soc)))
            self.soc_max_frac = max(self.soc_max_frac, float(np.nanmax(soc)))

    def _count_hours(self, now_ns: int) -> None:
        """Once a minute, and whenever cars come or go: in between their number stands."""
        self.least_h += int(self.core.engine.totals.least.sum()) * (now_ns - self._least_ns) / 3.6e12
        self._least_ns = now_ns

    def _obey(self, now_ns: int) -> None:
        fleet = self.core.engine.fleet
        modes = fleet.mode.tobytes()
        if modes != self._modes:
            self._modes = modes
            self.switches += int(np.count_nonzero(fleet.switched_ns == now_ns))
        for command in self.core.drain_commands():
            self.fleet.apply(command.rows, command.valid_until_ns, now_ns)
        if now_ns >= self.gathered.edge_ns:
            self.gathered.edge(self.core, self.fleet, now_ns, self.switches)

    def finish(self) -> Collector:
        """No more rows will come: what was gathered, complete."""
        self.gathered.finish(self.core, self.fleet, self._last_ns, self.switches)
        return self.gathered

    # ---- what came of it -----------------------------------------------------------------------------------

    @property
    def switches_per_vehicle_h(self) -> float | None:
        """How often an hour a plugged-in charger with a least power was switched; None where there is none."""
        hours = self.least_h + int(self.core.engine.totals.least.sum()) * (self._last_ns - self._least_ns) / 3.6e12
        return self.switches / hours if hours > 0.0 else None

    @property
    def gap_s(self) -> float:
        """Time missing between rows, beyond one period of the trace [s]."""
        return self._steps.gap_s

    @property
    def last_ns(self) -> int:
        """How far the run has got."""
        return self._last_ns

    @property
    def samples(self) -> Block:
        """FREQUENCY[n]: the judged rows that were decided on."""
        return self.samples_kept.whole

    @property
    def meters_kept(self) -> Kept:
        """POWER: what was metered, up to the last whole second."""
        self._meters.add(self._metered.seconds())
        return self._meters

    @property
    def meters(self) -> Block:
        """POWER[n]: the power at the grid connection, second by second."""
        return self.meters_kept.whole

    def facts(self, samples: Block | None = None, meters: Block | None = None, since_ns: int | None = None) -> Facts:
        """The run as settlement takes it; of these rows, and of what was said from `since_ns` on, or of all."""
        samples, meters = self.samples if samples is None else samples, self.meters if meters is None else meters
        declared = self.core.declared_rows()
        since = 0 if since_ns is None else max(int(np.searchsorted(self.points["t_ns"], since_ns)) - 1, 0)
        said = self.points[since : self.told]
        said = said[np.abs(said["power_kw"]) <= self.settings.signal_max_kw]
        return Facts(
            Samples(samples["t_ns"], samples["hz"], samples["quality"] == 0),
            Meters(meters["t_ns"], meters["power_kw"], meters["meter"].astype(np.int64), meters["quality"] == 0),
            Declarations(
                declared["declared_ns"], declared["start_ns"], declared["end_ns"], declared["power_kw"],
                np.zeros(declared.size, np.int64), declared["flags"] != 0,
            ),
            Signal(said["t_ns"], said["valid_until_ns"], said["power_kw"].astype(np.float64)), no_shortfall(),
            modes=managing.by_product(self.core.mode_rows(), self.settings.contracts),
            energy=managing.energy(self.core.mode_rows()),
            classes=self.settings.classes(),
        )  # fmt: skip

    def statements(self) -> Iterator[Statement]:
        """One statement per settlement interval and product, in order of time."""
        yield from self._stated
        span = self._span()
        if span is not None:
            yield from self._settled(*span, span[1])

    def unsold(self) -> Iterator[Unsold]:
        """Settlement intervals in which a product was not sold, as far as the fleet has been metered."""
        first_ns, until_ns = self.gathered.start_ns, self._metered.until_ns
        for k, length_s in enumerate(self.settings.intervals_s if self.sales else ()):
            name, length_ns = self.settings.contracts[k].product.id, length_s * NS
            starts_ns = np.arange(first_ns - first_ns % length_ns, until_ns, length_ns, dtype=np.int64)
            for start_ns in starts_ns[self.sold_kw(starts_ns)[:, k] <= 0.0].tolist():
                yield Unsold(name, start_ns, min(start_ns + length_ns, until_ns))

    def settle_along(self) -> None:
        """Settle the intervals that nothing to come can change, and let go of the rows that no other one needs."""
        if max(len(self.samples_kept), len(self.meters_kept)) < HELD_ROWS:
            return
        span, sold = self._span(), self._sold()
        if span is None:
            return
        first_ns, last_ns = span
        together_ns = math.lcm(*self.settings.intervals_s) * NS  # where intervals of all lengths end
        until_ns = (last_ns - tail_s(sold) * NS) // together_ns * together_ns
        if until_ns <= first_ns:
            return
        self._stated += self._settled(first_ns, last_ns, until_ns)
        self._stated_ns = until_ns
        needed_ns = until_ns - reach_ns(sold)
        self.samples_kept.let_go(until_ns - heard_ns(sold))  # a state of energy looks back at meters alone
        self.meters_kept.let_go(needed_ns)
        if self.meters_kept.gone:
            self.core.forget(needed_ns - LASTS_NS)

    def _sold(self) -> list[Sold]:
        return [Sold(contract.product, contract.sold_kw) for contract in self.settings.contracts]

    def _span(self) -> tuple[int, int] | None:
        """Where, or within which, the first interval without a statement begins, and the last time known [ns]."""
        held, said = self.samples_kept.held["t_ns"], self.points["t_ns"][: self.told]
        times_ns = [int(times[end]) for times in (held, said) if times.size for end in (0, -1)]
        if not times_ns:
            return None
        return min(times_ns) if self._stated_ns is None else self._stated_ns, max(times_ns)

    def _settled(self, first_ns: int, last_ns: int, until_ns: int) -> list[Statement]:
        """Statements of the intervals from `first_ns` that begin before `until_ns`, of the rows in memory; each product
        in intervals of its own length, as far as the fleet has been metered.
        """
        last_ns = min(last_ns, self._metered.until_ns)
        lengths_ns = [length_s * NS for length_s in sorted(set(self.settings.intervals_s))]
        facts = self.facts(
            self.samples_kept.held, self.meters_kept.held,
            first_ns - first_ns % max(lengths_ns) - reach_ns(self._sold()),
        )  # fmt: skip
        done: list[Statement] = []
        for length_ns in lengths_ns:
            for start_ns in range(first_ns - first_ns % length_ns, min(until_ns, last_ns), length_ns):
                if not (sold := self.sold_at(start_ns)):
                    continue
                end_ns = min(start_ns + length_ns, last_ns)
                near = between(facts, start_ns - reach_ns(sold), end_ns + tail_s(sold) * NS)
                done += settle_interval(sold, near, start_ns, start_ns + length_ns, until_ns=end_ns)
        return sorted(done, key=lambda item: item.start_ns)


def watching(settings: CoreSettings) -> Watcher | None:
    """Who keeps what the fleet had to sell; None where what is sold together is sold in different blocks."""
    powers = [contract.sold_kw for contract in settings.contracts]
    ratios = [kw / powers[0] for kw in powers] if all(powers) else None
    try:
        return Watcher(bundle([contract.product for contract in settings.contracts], ratios))
    except BidError:
        return None


def set_points(signal: Recorded, settings: CoreSettings) -> Block:
    """SIGNAL[n]: the signal as set-points of what is sold in its direction, each valid for two of its periods."""
    on_signal = [(c.product, c.sold_kw) for c in settings.contracts if c.product.input == "signal"]
    up_kw, down_kw = terms(on_signal).signal_kw.tolist()
    period_s = max((product.signal_s for product, _ in on_signal), default=0.0)
    points = np.zeros(signal.t_ns.size, SIGNAL)
    points["t_ns"] = points["rx_ns"] = signal.t_ns
    points["valid_until_ns"] = signal.t_ns + round(2e9 * period_s)
    points["power_kw"] = np.where(signal.share > 0.0, up_kw, down_kw) * signal.share
    return points


def between(facts: Facts, low_ns: int, until_ns: int) -> Facts:
    """What was recorded in [low, until), found by halving: settlement would look at the whole year each time."""
    first, last = np.searchsorted(facts.samples.t_ns, (low_ns, until_ns))
    begin, end = np.searchsorted(facts.meters.t_ns, (low_ns, until_ns))
    said, silent = np.searchsorted(facts.signal.start_ns, (low_ns, until_ns))
    told, untold = np.searchsorted(facts.energy.t_ns, (low_ns, until_ns))
    d = facts.declarations
    since, before = np.searchsorted(d.end_ns, low_ns, side="right"), np.searchsorted(d.start_ns, until_ns)
    # The first of the run decides what may be late (`window.declared`).
    declared = np.union1d(np.arange(min(d.start_ns.size, 1)), np.arange(since, before))
    return facts._replace(
        samples=Samples._make(column[first:last] for column in facts.samples),
        meters=Meters._make(column[begin:end] for column in facts.meters),
        declarations=take(d, declared),
        # The one before may still be in force.
        signal=Signal._make(column[max(said - 1, 0) : silent] for column in facts.signal),
        energy=Energy._make(column[told:untold] for column in facts.energy),
        modes={name: _modes_between(modes, low_ns, until_ns) for name, modes in facts.modes.items()},
    )


def _modes_between(modes: Modes, low_ns: int, until_ns: int) -> Modes:
    """With the one in force at the beginning; one at least, as long as there are any."""
    first, last = np.searchsorted(modes.from_ns, (low_ns - LASTS_NS, until_ns))
    first = max(first - 1, 0)
    return Modes._make(column[first : max(last, first + 1)] for column in modes)
