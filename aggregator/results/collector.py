"""Gathers what a run comes to while it goes on: a few calls, none of them at a decision that has nothing to tell.

The shell calls `samples` with every chunk of judged rows, `look` once a minute, `edge` after the first decision at or
after `edge_ns`, where the core closes its accounts, and `finish` after the last decision. What is gathered is the
fleet's own truth and the core's accounts; the statements come from settlement (`periods`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator.accounting import interval_ns
from aggregator.contracts import CoreSettings
from aggregator.core import Aggregator
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.results.ending import day_rows, stay_rows
from aggregator.results.oddities import Oddities
from aggregator.results.rows import STAYED, VEHICLE_DAY, Rows
from aggregator.results.spans import SPAN, Spans
from aggregator.results.spool import Spool
from aggregator.results.stays import Ended, Stays
from aggregator.results.summary import Summary
from aggregator.results.wear import BATTERY_PRICE
from settlement import calendar
from telemetry.samples import Block

# Stays that are over are told together: a hundred cost little more than one.
TOLD_ROWS: Final = 100


class Collector:
    """One run's. Pickles with it.

    rows, length_ns : chargers, and the accounting interval
    folder          : where rows of vehicles and stays are put aside; None: they are only summed up
    """

    def __init__(self, settings: CoreSettings, start_ns: int, folder: Path | None = None,
                 battery_price: float = BATTERY_PRICE) -> None:  # fmt: skip
        self.settings, self.start_ns, self.price = settings, start_ns, battery_price
        self.length_ns = interval_ns(settings.intervals_s)
        self.odd = Oddities(self.length_ns)
        self.spans = Spans(start_ns)
        self.stays = Stays(settings.rows)
        self.summary = Summary()
        self.vehicles = Spool("vehicles", VEHICLE_DAY, folder)
        self.sessions = Spool("sessions", STAYED, folder)
        self._market = settings.contracts[0].product.market
        self.edge_ns = start_ns - start_ns % self.length_ns + self.length_ns
        self._day = calendar.day(calendar.day_of(start_ns, self._market), self._market)
        self._commands = 0
        self._gone_reversals, self._gone_cycles = 0, 0.0  # of cars that have left
        self._finished_ns = 0

    def move(self, folder: Path | None) -> None:
        """The run goes on in a folder of this name."""
        self.vehicles.move(folder)
        self.sessions.move(folder)

    def samples(self, judged: Block) -> None:
        """Rows as the gate judged them, in file order. judged : FREQUENCY[n]"""
        self.odd.take(judged)

    def look(self, fleet: SimulatedFleet) -> None:
        """Who came, and what is in the cars now; who left is told at the edge, unless another car is there."""
        self._came(fleet)
        self.stays.look(fleet.aboard())

    def edge(self, core: Aggregator, fleet: SimulatedFleet, now_ns: int, switches: int = 0) -> None:
        """An accounting interval has ended, and the decision at `now_ns` has been made: its accounts are closed."""
        edge_ns = now_ns - now_ns % self.length_ns
        self.edge_ns = edge_ns + self.length_ns
        self._follow(core, fleet)
        self._close(core, fleet, edge_ns, switches)
        if self.stays.waiting >= TOLD_ROWS:
            ended = self.stays.over(core.engine.fleet.state, core.engine.fleet.session)
            if ended is not None:
                self._tell(ended)
        if now_ns >= self._day.end_ns:
            self._turn(edge_ns)

    def finish(self, core: Aggregator, fleet: SimulatedFleet, now_ns: int, switches: int = 0) -> None:
        """The last decision has been made: all accounts are closed, all stays told. Once is enough."""
        if self._finished_ns:
            return
        self._finished_ns = now_ns
        core.close_accounts()
        self._follow(core, fleet)
        self._close(core, fleet, now_ns, switches)
        for ended in self.stays.finish():
            self._tell(ended)

    # ---- parts ---------------------------------------------------------------------------------------------

    def _came(self, fleet: SimulatedFleet) -> None:
        """Who came; and who left, where another car has the charger."""
        stays = self.stays
        new = stays.new(fleet.aboard())
        if new.size:
            if (stays.row[new] >= 0).any():
                self._left(fleet)
            stays.come(fleet.stays(new))

    def _left(self, fleet: SimulatedFleet) -> None:
        """Who left."""
        ended = fleet.drain_stays()
        if ended.size:
            self.stays.leave(ended)
            self._gone_reversals += int(ended["reversals"].sum())
            self._gone_cycles += _cycles(ended)

    def _follow(self, core: Aggregator, fleet: SimulatedFleet) -> None:
        """Who left and who came, and the accounts that were closed."""
        self._left(fleet)
        self.look(fleet)
        closed = core.drain_accounts()
        if closed:
            rows = np.concatenate(closed)
            self._commands += int(rows["commands"].sum())
            self.stays.account(rows)

    def _close(self, core: Aggregator, fleet: SimulatedFleet, edge_ns: int, switches: int) -> None:
        """An edge of the accounting interval: the fleet's totals up to here."""
        stays = fleet.stays()
        self.stays.edge(stays)
        here = self.stays.row >= 0
        energy, sums = fleet.energy(), core.sums
        row = np.zeros(1, SPAN)
        row["t_ns"] = edge_ns
        row["net_kwh"], row["losses_kwh"] = energy.grid_kwh, energy.losses_kwh
        row["throughput_kwh"] = fleet.throughput_kwh
        row["cycles"] = self._gone_cycles + _cycles(stays[here])
        row["reversals"] = self._gone_reversals + int(stays["reversals"][here].sum())
        row["requested_up_kwh"], row["requested_down_kwh"] = sums.requested_up_kwh, sums.requested_down_kwh
        row["unserved_kwh"] = sums.unserved_kwh
        row["unserved_by_reason_kwh"] = sums.unserved_by_reason_kwh
        row["commands"], row["switches"] = self._commands, switches
        row["plugged"] = np.count_nonzero(here)
        soc = np.clip(fleet.aboard().energy_kwh * fleet.aboard().per_capacity, 0.0, 1.0)[here]
        fan = np.quantile(soc, (0.05, 0.5, 0.95)) if soc.size else np.full(3, np.nan)
        row["soc_p05_frac"], row["soc_p50_frac"], row["soc_p95_frac"] = fan
        self.spans.add(row)

    def _turn(self, edge_ns: int) -> None:
        """A day of the market has ended."""
        parts, stays = self.stays.turn(edge_ns)
        self.vehicles.add(day_rows(self._day.name, parts, stays, edge_ns))
        self._day = calendar.day(calendar.day_of(edge_ns, self._market), self._market)

    def _tell(self, ended: Ended) -> None:
        """Rows of stays that are over, and of their last day."""
        # A stay whose end was told late ended the day before.
        days = [calendar.day_of(t_ns - 1, self._market).isoformat() for t_ns in ended.stay["end_ns"].tolist()]
        self.vehicles.add(day_rows(days, ended.part, ended.stay, ended.stay["end_ns"]))
        rows = stay_rows(ended, self.price)
        self.sessions.add(rows)
        self.summary.add(rows)

    def told(self) -> Mapping[str, Any]:
        """What the whole run's result says of vehicles, drivers, wear and the trace; JSON-ready."""
        currency = self._market.currency
        return {**self.summary.told(self.price, currency), "trace": self.odd.told()}


def _cycles(stays: Rows) -> float:
    """Equivalent full cycles of stays, summed."""
    car = stays["car"]
    return float((stays["moved_kwh"] / (2.0 * car["capacity_kwh"] * car["soh_frac"].astype(np.float64))).sum())
