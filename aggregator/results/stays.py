"""Every vehicle's stay while it lasts: what the core's accounts say of it, what its charger truly did, what it wore.

Columns of one row a charger, and a few stays that have ended but whose last account the core has still to close: a
charger whose link was lost tells the end of its session late. So memory is that of the fleet, however long a run is.
A stay's figures are sums over accounting intervals, closed at their edges; the cars are looked at once a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from aggregator.gateways.simulated import STAY, Aboard
from aggregator.results.rows import ACCOUNTED, Rows, add, fresh
from droop import rainflow
from droop.fleet import UNPLUGGED
from droop.rainflow import THRESHOLD, Counts, Cycles
from telemetry.samples import SlotState

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

H_S: Final = 3600.0

# What a stay has gathered so far besides its parts.
LOOKED: Final = np.dtype(
    [
        ("looks", "<f8"),
        ("soc", "<f8"),  # sums over the looks
        ("temp_c", "<f8"),
        ("working", "<f8"),  # looks at which its charger had power
        ("alone_kwh", "<f8"),  # aboard, had it done its plan alone
        ("alone_soc_h", "<f8"),  # state of charge of that, over time
        ("alone_h", "<f8"),  # time accounted for
        ("alone_moved_kwh", "<f8"),
        ("alone_working_h", "<f8"),
        # Of the accounting interval that runs:
        ("asked_kwh", "<f8"),  # net, beyond its plan
        ("plan_kwh", "<f8"),
    ]
)


@dataclass
class Ended:
    """A stay that is over: one row each. cycles, alone : its stacks, of its own"""

    stay: Rows  # STAY[1]
    part: Rows
    whole: Rows
    looked: Rows
    cycles: Cycles
    alone: Cycles
    net_kwh: Floats  # float64[1] into the grid since the last edge
    over: bool = True  # False: the recording ended and the car is still here

    @property
    def key(self) -> tuple[int, int]:
        """(charger, session)"""
        return int(self.stay["car"]["slot"][0]), int(self.stay["car"]["session"][0])


class Stays:
    """Follows every charger. n : chargers"""

    def __init__(self, n: int) -> None:
        self.session = np.zeros(n, np.uint32)
        self.here = np.zeros(n, np.bool_)
        self.before: Rows = np.zeros(n, STAY)  # as of the last edge, or as it came
        self.part, self.whole = fresh(n, 0), fresh(n, 0)
        self._looked = np.zeros(n, LOOKED)
        self._cycles, self._alone = rainflow.begin(np.zeros(n)), rainflow.begin(np.zeros(n))
        self._waiting: dict[tuple[int, int], Ended] = {}
        self.unknown = 0  # accounts of stays that nobody remembers

    # ---- who is here ---------------------------------------------------------------------------------------

    def leave(self, ended: Rows) -> None:
        """Stays that are over. ended : STAY[k], in order"""
        for k in range(ended.size):
            stay = ended[k : k + 1].copy()
            slot, session = int(stay["car"]["slot"][0]), int(stay["car"]["session"][0])
            if not (self.here[slot] and self.session[slot] == session):
                self._arrive(np.array([slot]), stay)  # it came and went between two looks
            self._put_aside(slot, stay, over=True)

    def come(self, slots: Ints, stays: Rows) -> None:
        """Cars at these chargers that were not here at the last look. stays : STAY[k]"""
        fresh_ones = stays["car"]["state"] != SlotState.UNPLUGGED
        self._arrive(slots[fresh_ones], stays[fresh_ones])

    def _arrive(self, slots: Ints, stays: Rows) -> None:
        car = stays["car"]
        self.session[slots], self.here[slots] = car["session"], True
        before = stays.copy()
        before["left_kwh"] = before["came_kwh"]
        before["moved_kwh"] = before["lost_kwh"] = before["reversals"] = 0
        self.before[slots] = before
        soc = _soc(stays["came_kwh"], stays)
        for rows in (self.part, self.whole):
            rows[slots] = fresh(slots.size, stays["start_ns"])
            rows["soc_min_frac"][slots] = rows["soc_max_frac"][slots] = soc
        self._looked[slots] = np.zeros(1, LOOKED)
        self._looked["alone_kwh"][slots] = stays["came_kwh"]
        rainflow.restart(self._cycles, slots, soc)
        rainflow.restart(self._alone, slots, soc)

    def _put_aside(self, slot: int, stay: Rows, *, over: bool) -> None:
        rows = slice(slot, slot + 1)
        self.here[slot] = False
        part, soc = self.part[rows].copy(), _soc(stay["left_kwh"], stay)
        part["soc_min_frac"] = np.minimum(part["soc_min_frac"], soc)
        part["soc_max_frac"] = np.maximum(part["soc_max_frac"], soc)
        cycles = _taken(self._cycles, slot)
        rainflow.update(cycles, soc, THRESHOLD)
        self._waiting[slot, int(self.session[slot])] = Ended(
            stay, part, self.whole[rows].copy(), self._looked[rows].copy(), cycles, _taken(self._alone, slot),
            metered(part, self.before[rows], stay), over,
        )  # fmt: skip

    # ---- what happens --------------------------------------------------------------------------------------

    def look(self, aboard: Aboard) -> None:
        """What is in the cars now."""
        here = self.here
        soc = np.where(here, np.clip(aboard.energy_kwh * aboard.per_capacity, 0.0, 1.0), 0.0)
        for part, bound in (("soc_min_frac", np.minimum), ("soc_max_frac", np.maximum)):
            column = self.part[part]
            bound(column, soc, out=column, where=here)
        looked = self._looked
        looked["looks"] += here
        looked["soc"] += soc
        looked["temp_c"] += aboard.temp_c * here
        looked["working"] += (aboard.power_kw != 0.0) & here
        rainflow.update(self._cycles, soc, THRESHOLD)

    def account(self, rows: Rows) -> None:
        """Accounts that the core has closed, of any one charger one at most. rows : droop.accounts.ROW[k]"""
        slots = rows["slot"].astype(np.int64)
        ours = (self.session[slots] == rows["session"]) & self.here[slots]
        if ours.all():
            self._enter(self.part, self._looked, self.before, slots, rows)
            return
        self._enter(self.part, self._looked, self.before, slots[ours], rows[ours])
        for k in np.flatnonzero(~ours).tolist():
            ended = self._waiting.get((int(slots[k]), int(rows["session"][k])))
            if ended is None:
                self.unknown += 1
                continue
            self._enter(ended.part, ended.looked, ended.stay, np.zeros(1, np.int64), rows[k : k + 1])

    def _enter(self, part: Rows, looked: Rows, stays: Rows, at: Ints, rows: Rows) -> None:
        """Add accounts to the rows `at` of part, looked and stays."""
        for name in ACCOUNTED:
            part[name][at] += rows[name]
        part["bound_s"][at, rows["reason"]] += rows["bound_s"]
        looked["asked_kwh"][at] += rows["asked_up_kwh"] - rows["asked_down_kwh"]
        looked["plan_kwh"][at] += rows["plan_kwh"]
        _alone(looked, stays, at, rows)

    def edge(self, stays: Rows) -> None:
        """An accounting interval has ended and its accounts are in. stays : STAY[n], of all chargers"""
        here = np.flatnonzero(self.here)
        now = stays[here]
        part = self.part[here]
        net_kwh = metered(part, self.before[here], now)
        part["short_kwh"] += short_kwh(self._looked["asked_kwh"][here], self._looked["plan_kwh"][here], net_kwh)
        self.part[here] = part
        self.before[here] = now
        self._looked["asked_kwh"] = self._looked["plan_kwh"] = 0.0
        alone = np.zeros(self.here.size)
        alone[here] = np.clip(_soc(self._looked["alone_kwh"][here], now), 0.0, 1.0)
        rainflow.update(self._alone, alone, THRESHOLD)

    def turn(self, now_ns: int) -> tuple[Ints, Rows]:
        """A day has ended, at an edge: (chargers with a car, their parts of that day); new parts begin."""
        slots = np.flatnonzero(self.here)
        parts = self.part[slots].copy()
        whole = self.whole[slots]
        add(whole, parts)
        self.whole[slots] = whole
        again = fresh(slots.size, now_ns)
        soc = _soc(self.before["left_kwh"][slots], self.before[slots])
        again["soc_min_frac"] = again["soc_max_frac"] = soc
        self.part[slots] = again
        return slots, parts

    def over(self, state: Rows, session: Rows) -> list[Ended]:
        """Stays that are over, and whose accounts are all in. state, session : [n] as the core has them now"""
        done = [
            ended for (slot, number), ended in self._waiting.items()
            if session[slot] > number or (session[slot] == number and state[slot] == UNPLUGGED)
        ]  # fmt: skip
        return [self._finish(ended) for ended in done]

    def finish(self, stays: Rows) -> list[Ended]:
        """The recording has ended, at an edge: all stays, those of cars that are still here included."""
        for slot in np.flatnonzero(self.here).tolist():
            self._put_aside(slot, stays[slot : slot + 1].copy(), over=False)
        return [self._finish(ended) for ended in list(self._waiting.values())]

    def _finish(self, ended: Ended) -> Ended:
        del self._waiting[ended.key]
        looked, part = ended.looked, ended.part
        # What it gave since the edge before it left was entered as it left; what was asked meanwhile is known now.
        part["short_kwh"] += short_kwh(looked["asked_kwh"], looked["plan_kwh"], ended.net_kwh)
        rainflow.update(ended.alone, np.clip(_soc(looked["alone_kwh"], ended.stay), 0.0, 1.0), THRESHOLD)
        add(ended.whole, part)
        return ended


def _alone(looked: Rows, stays: Rows, at: Ints, rows: Rows) -> None:
    """The same time with the plan alone: even charging to what was wanted by the departure told (`droop.limits.plan`),
    with no regulation to make good; where none was told, the plan as it stood."""
    car, hours = stays["car"][at], (rows["end_ns"] - rows["start_ns"]) / (H_S * 1e9)
    usable_kwh, eta = _usable_kwh(car), car["eta_charge_frac"].astype(np.float64)
    before = looked["alone_kwh"][at]
    ceiling = np.maximum(car["soc_max_frac"] * usable_kwh, stays["came_kwh"][at])
    lacks = np.maximum(np.minimum(car["depart_kwh"], ceiling) - before, 0.0)
    left_h = (car["depart_ns"] - rows["start_ns"]) / (H_S * 1e9)
    rating_kw = car["charge_max_kw"].astype(np.float64)
    even_kw = np.where(left_h > 0.0, np.minimum(lacks / (eta * np.maximum(left_h, 1e-9)), rating_kw), rating_kw)
    told, plan_kwh = car["depart_ns"] > 0, rows["plan_kwh"]
    charged = np.where(told, np.minimum(even_kw * hours * eta, lacks), np.maximum(-plan_kwh, 0.0) * eta)
    drawn = np.where(told, 0.0, np.maximum(plan_kwh, 0.0) / np.maximum(car["eta_discharge_frac"], 1e-3))
    after = np.clip(before + charged - drawn, 0.0, np.maximum(ceiling, before))
    looked["alone_kwh"][at] = after
    looked["alone_soc_h"][at] += 0.5 * (before + after) / usable_kwh * hours
    looked["alone_h"][at] += hours
    looked["alone_moved_kwh"][at] += np.abs(after - before)
    looked["alone_working_h"][at] += hours * (after != before)


def metered(part: Rows, before: Rows, now: Rows) -> Floats:
    """Enter what chargers did between two moments of the same stays; what went into the grid, net [kWh].

    part : PART[k]; before, now : STAY[k]
    """
    moved = now["moved_kwh"] - before["moved_kwh"]
    lost = now["lost_kwh"] - before["lost_kwh"]
    net = before["left_kwh"] - now["left_kwh"] - lost
    part["energy_up_kwh"] += np.maximum(0.5 * (moved + net), 0.0)
    part["energy_down_kwh"] += np.maximum(0.5 * (moved - net), 0.0)
    part["losses_kwh"] += lost
    part["reversals"] += now["reversals"] - before["reversals"]
    return np.asarray(net, np.float64)


def short_kwh(asked_kwh: Floats, plan_kwh: Floats, net_kwh: Floats) -> Floats:
    """Asked beyond the plan and not given, net over an interval, either way."""
    given = net_kwh - plan_kwh
    return np.maximum(np.sign(asked_kwh) * (asked_kwh - given), 0.0)


def read(cycles: Cycles) -> Counts:
    """What was counted, residue included."""
    return rainflow.read(cycles, THRESHOLD)


def _taken(cycles: Cycles, slot: int) -> Cycles:
    """One row of the stacks, for itself."""
    rows = slice(slot, slot + 1)
    closed = Counts(*(column[rows].copy() for column in cycles.closed))
    extreme, direction, points, depth = (column[rows].copy() for column in cycles[:4])
    return Cycles(extreme, direction, points, depth, closed, cycles.scratch.copy())


def _usable_kwh(car: Rows) -> Floats:
    return np.asarray(car["capacity_kwh"] * car["soh_frac"].astype(np.float64), np.float64)


def _soc(energy_kwh: Floats, stays: Rows) -> Floats:
    """Fraction of what is left of the battery."""
    return np.asarray(np.clip(energy_kwh / np.maximum(_usable_kwh(stays["car"]), 1e-9), 0.0, 1.0), np.float64)
