"""The replay shell: a recorded frequency drives the same core, a simulated fleet answers it.

The same calls as live, with the trace's time in place of the clock: what the fleet says goes in, the sample
goes in, commands come out and are applied. Nothing here decides anything; settlement judges the result by the
code that judges a live day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from aggregator import managing
from aggregator.bidding.available import Watcher
from aggregator.bidding.products import BidError, bundle
from aggregator.contracts import CoreSettings
from aggregator.core import Aggregator
from aggregator.gateways.population import Behaviour
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.reserved import figures
from aggregator.signal_file import Recorded
from droop.dynamics import terms
from settlement.align import NS
from settlement.facts import Declarations, Facts, Meters, Samples, Signal, no_shortfall
from settlement.interval import Sold, reach_ns, settle, tail_s
from settlement.statement import Statement
from telemetry.quality import Gate, GateSettings
from telemetry.samples import FREQUENCY, POWER, SIGNAL, Block, Quality

if TYPE_CHECKING:
    from aggregator.bidding.selling import Seller

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Longest step without a decision: commands would expire, and a gap in the trace is lived through, not jumped.
STEP_MAX_NS: Final = 2_000_000_000
# How often all vehicles are looked at: their true state of charge, alarms that concern the whole fleet.
LOOK_NS: Final = 60_000_000_000
# A stamp that did not move ahead is no moment to decide at.
OUT_OF_TIME: Final = int(Quality.ORDER | Quality.CLOCK_JUMP)


class Backtest:
    """One core and one simulated fleet, driven by recorded rows.

    settings : the core's; `rows` is the number of chargers
    start_ns : when the fleet begins to live; at or before the first row
    behaviour : how imperfect the fleet is; takes precedence over `perfect`
    signal : a balancing authority's, for the products sold on one
    seller : who says what is sold of each block; None: the contracts stand
    """

    def __init__(
        self, settings: CoreSettings, gate: GateSettings, start_ns: int, seed: int, perfect: bool = False,
        behaviour: Behaviour | None = None, signal: Recorded | None = None, seller: Seller | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.core = Aggregator(settings, journal=False)
        self.fleet = SimulatedFleet(settings.rows, seed, start_ns, perfect=perfect, behaviour=behaviour)
        self.gate = Gate(gate)
        self.rows = 0
        self.soc_min_frac, self.soc_max_frac = 1.0, 0.0
        self.switches = 0  # of chargers with a least power: on, off, or to the other side
        self.least_h = 0.0  # hours that such chargers were plugged in, of all of them together
        self._modes = b""
        self._least_ns = start_ns
        self._last_ns = 0
        self._look_ns = 0
        self._samples: list[Block] = []
        self.points = np.zeros(0, SIGNAL) if signal is None else set_points(signal, settings)
        self.told = 0  # set-points that have been said
        self.seller = seller
        self.watcher = watching(settings) if seller is None else seller.watcher
        self.sales: list[tuple[int, tuple[float, ...]]] = []  # from when on so much was sold of each contract [ns, kW]
        self._recorded = signal
        self._meters = bytearray()  # POWER rows: to join a day of one-row blocks would take numpy a second

    def feed(self, block: Block) -> None:
        """Recorded rows, in file order. block : FREQUENCY[n] with rx_ns == t_ns"""
        judged = self.gate.check(block)
        self.rows += int(judged.size)
        judged = judged[(judged["quality"] & OUT_OF_TIME) == 0]
        if not judged.size:
            return
        self._samples.append(judged)
        for part in (judged,) if self.seller is None else self.seller.parts(self, judged):
            self._drive(part)

    def _drive(self, judged: Block) -> None:
        """Rows that were judged, in time. judged : FREQUENCY[n]"""
        for k, now_ns in enumerate(judged["rx_ns"].tolist()):
            self._idle_until(now_ns)
            self._world(now_ns)
            self.core.on_samples(judged[k : k + 1], now_ns)
            self._obey(now_ns)

    def follow(self, count: int) -> None:
        """Set-points alone, without any frequency: the next `count` of them, a decision at each."""
        for now_ns in self.points["t_ns"][self.told : self.told + count].tolist():
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
        fleet, core = self.fleet, self.core
        sessions = fleet.sessions(now_ns)
        if sessions.size:
            core.on_sessions(sessions, now_ns)
        reports = fleet.reports(now_ns)
        if reports.size:
            core.on_vehicles(reports, now_ns)
        meter = fleet.meter(now_ns)
        if meter.size:
            core.on_meters(meter, now_ns)
            self._meters += meter.tobytes()
        if self.told < self.points.size and self.points["t_ns"][self.told] <= now_ns:
            said = int(np.searchsorted(self.points["t_ns"], now_ns, side="right"))
            core.on_signal(self.points[self.told : said], now_ns)
            self.told = said
        self._last_ns = now_ns
        # Once a minute, and whenever cars come or go: in between their number stands.
        if sessions.size or now_ns >= self._look_ns:
            self._count_hours(now_ns)
        if now_ns >= self._look_ns:
            self._look_ns = now_ns + LOOK_NS
            if self.watcher is not None:
                self.watcher.look(core.engine.fleet, now_ns)
            if core.last is not None:
                core.supervise(figures(core, now_ns)["short"], now_ns)
            soc = fleet.truth().soc_frac
            if not np.isnan(soc).all():
                self.soc_min_frac = min(self.soc_min_frac, float(np.nanmin(soc)))
                self.soc_max_frac = max(self.soc_max_frac, float(np.nanmax(soc)))

    def _count_hours(self, now_ns: int) -> None:
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

    # ---- what came of it -----------------------------------------------------------------------------------

    @property
    def switches_per_vehicle_h(self) -> float | None:
        """How often an hour a plugged-in charger with a least power was switched; None where there is none."""
        hours = self.least_h + int(self.core.engine.totals.least.sum()) * (self._last_ns - self._least_ns) / 3.6e12
        return self.switches / hours if hours > 0.0 else None

    @property
    def gap_s(self) -> float:
        """Time missing between rows, beyond one period of the trace [s]."""
        steps = np.diff(self.samples["t_ns"])
        if steps.size == 0:
            return 0.0
        period_ns = int(np.median(steps))
        return float((steps[steps > 1.5 * period_ns] - period_ns).sum()) / 1e9

    @property
    def last_ns(self) -> int:
        """How far the run has got."""
        return self._last_ns

    @property
    def samples(self) -> Block:
        """FREQUENCY[n]: the judged rows that were decided on."""
        return np.concatenate(self._samples) if self._samples else np.zeros(0, FREQUENCY)

    @property
    def meters(self) -> Block:
        """POWER[n]: the readings at the grid connection."""
        return np.frombuffer(bytes(self._meters), POWER)

    def facts(self) -> Facts:
        """The run as settlement takes it."""
        samples, meters, declared = self.samples, self.meters, self.core.declared_rows()
        said = self.points[: self.told]
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
        )  # fmt: skip

    def statements(self) -> Iterator[Statement]:
        """One statement per settlement interval and product, in order of time."""
        times_ns = np.concatenate([self.samples["t_ns"], self.points["t_ns"][: self.told]])
        if not times_ns.size:
            return
        length_ns = self.settings.interval_s * 1_000_000_000
        first_ns, last_ns = int(times_ns.min()), int(times_ns.max())
        facts = self.facts()
        for start_ns in range(first_ns - first_ns % length_ns, last_ns + 1, length_ns):
            until_ns = min(start_ns + length_ns, last_ns + 1)
            if not (sold := self.sold_at(start_ns)):
                continue
            near = between(facts, start_ns - reach_ns(sold), until_ns + tail_s(sold) * NS)
            yield from settle(sold, near, start_ns, start_ns + length_ns, until_ns=until_ns)


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
    return facts._replace(
        samples=Samples._make(column[first:last] for column in facts.samples),
        meters=Meters._make(column[begin:end] for column in facts.meters),
        # The one before may still be in force.
        signal=Signal._make(column[max(said - 1, 0) : silent] for column in facts.signal),
    )
