"""Every vehicle's stay while it lasts: what the core's accounts say of it, what its charger truly did, what it wore.

A row for each car that is here, and a few for stays that have ended but whose last account the core has still to
close: a charger whose link was lost tells the end of its session late. So memory is that of the fleet, however long a
run is.
A stay's figures are sums over accounting intervals, closed at their edges; the cars are looked at once a minute.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.gateways.truth import STAY, Aboard
from aggregator.results.rows import ACCOUNTED, Rows, add, fresh
from droop import rainflow
from droop.fleet import UNPLUGGED
from droop.plans import PlanKind
from droop.rainflow import THRESHOLD, Counts, Cycles

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

H_S: Final = 3600.0
NOBODY: Final = -1

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


class Ended(NamedTuple):
    """Stays that are over, k of them.

    stay, part, whole, looked : as they ended; cycles, alone : their stacks, of their own
    over : bool[k]  False: the recording ended and the car is still here
    """

    stay: Rows
    part: Rows
    whole: Rows
    looked: Rows
    cycles: Cycles
    alone: Cycles
    over: Bools


class Stays:
    """Follows every charger, in a pool with a row for each stay that is not finished yet. n : chargers

    A stay keeps its row from its first look to its last account; `row` says which one a charger's car has.
    """

    def __init__(self, n: int) -> None:
        self.row = np.full(n, NOBODY)
        self.session = np.zeros(n, np.uint32)
        self.unknown = 0  # accounts of stays that nobody remembers
        self.now: Rows = np.zeros(n, STAY)  # as of the last edge, or as it came; in the end as it left
        self.part, self._whole = fresh(n, 0), fresh(n, 0)
        self._looked = np.zeros(n, LOOKED)
        self._cycles, self._alone = _stacks(n), _stacks(n)
        self._soc, self._alone_soc, self._net_kwh = np.zeros(n), np.zeros(n), np.zeros(n)
        self._free = list(range(n))
        self._gone: list[int] = []  # rows of stays that have ended, whose accounts are awaited

    @property
    def waiting(self) -> int:
        """Stays that have ended and are not told yet."""
        return len(self._gone)

    # ---- who is here ---------------------------------------------------------------------------------------

    def new(self, aboard: Aboard) -> Ints:
        """Chargers with a car that is not known."""
        return np.flatnonzero(aboard.plugged & ((self.row < 0) | (self.session != aboard.session)))

    def come(self, stays: Rows) -> Ints:
        """Cars that have come; the charger of each is free. stays : STAY[k]; returns their rows"""
        rows = self._taken(stays.size)
        slots, soc = stays["car"]["slot"].astype(np.int64), _soc(stays["came_kwh"], stays)
        before = stays.copy()
        before["left_kwh"] = before["came_kwh"]
        before["moved_kwh"] = before["lost_kwh"] = before["reversals"] = 0
        self.now[rows] = before
        part = fresh(rows.size, stays["start_ns"])
        part["soc_min_frac"] = part["soc_max_frac"] = soc
        self.part[rows] = self._whole[rows] = part
        looked = np.zeros(rows.size, LOOKED)
        looked["alone_kwh"] = stays["came_kwh"]
        self._looked[rows] = looked
        self._soc[rows] = self._alone_soc[rows] = soc
        rainflow.restart(self._cycles, rows, soc)
        rainflow.restart(self._alone, rows, soc)
        self.row[slots], self.session[slots] = rows, stays["car"]["session"]
        return rows

    def leave(self, ended: Rows) -> None:
        """Stays that are over. ended : STAY[k], in order"""
        while ended.size:
            # Of one charger's several stays the first one first.
            slots, first = np.unique(ended["car"]["slot"], return_index=True)
            self._leave(slots.astype(np.int64), ended[first])
            ended = np.delete(ended, first)

    def _leave(self, slots: Ints, ended: Rows) -> None:
        known = (self.row[slots] >= 0) & (self.session[slots] == ended["car"]["session"])
        if not known.all():
            self.come(ended[~known])  # they came and went between two looks
        rows = self.row[slots]
        self.row[slots] = NOBODY
        part, soc = self.part[rows], _soc(ended["left_kwh"], ended)
        part["soc_min_frac"] = np.minimum(part["soc_min_frac"], soc)
        part["soc_max_frac"] = np.maximum(part["soc_max_frac"], soc)
        self._net_kwh[rows] = metered(part, self.now[rows], ended)
        self.part[rows], self.now[rows], self._soc[rows] = part, ended, soc
        self._gone += rows.tolist()

    # ---- what happens --------------------------------------------------------------------------------------

    def look(self, aboard: Aboard) -> None:
        """What is in the cars now; of cars that have left since it stands as it was."""
        slots = np.flatnonzero(aboard.plugged & (self.row >= 0) & (self.session == aboard.session))
        rows = self.row[slots]
        soc = np.clip(aboard.energy_kwh[slots] * aboard.per_capacity[slots], 0.0, 1.0)
        self._soc[rows] = soc
        for name, values in (("soc_min_frac", np.minimum), ("soc_max_frac", np.maximum)):
            column = self.part[name]
            column[rows] = values(column[rows], soc)
        looked = self._looked
        looked["looks"][rows] += 1.0
        looked["soc"][rows] += soc
        looked["temp_c"][rows] += aboard.temp_c[slots]
        looked["working"][rows] += aboard.power_kw[slots] != 0.0
        rainflow.update(self._cycles, self._soc, THRESHOLD)

    def account(self, rows: Rows) -> None:
        """Accounts that the core has closed. rows : droop.accounts.ROW[k]"""
        at = self._rows_of(rows)
        self.unknown += int(np.count_nonzero(at < 0))
        at, rows = at[at >= 0], rows[at >= 0]
        while at.size:
            # Of one stay's several accounts the first one first.
            _, first = np.unique(at, return_index=True)
            self._enter(at[first], rows[first])
            at, rows = np.delete(at, first), np.delete(rows, first)

    def _rows_of(self, accounts: Rows) -> Ints:
        """The pool's rows of these accounts; NOBODY where there is none."""
        slots = accounts["slot"].astype(np.int64)
        found = np.where(self.session[slots] == accounts["session"], self.row[slots], NOBODY)
        missing = np.flatnonzero(found < 0)
        if missing.size and self._gone:
            gone = self.now["car"][self._gone]
            left = dict(zip(zip(gone["slot"].tolist(), gone["session"].tolist(), strict=True), self._gone, strict=True))
            for k in missing.tolist():
                found[k] = left.get((int(slots[k]), int(accounts["session"][k])), NOBODY)
        return found

    def _enter(self, at: Ints, rows: Rows) -> None:
        part, looked = self.part, self._looked
        for name in ACCOUNTED:
            part[name][at] += rows[name]
        part["bound_s"][at, rows["reason"]] += rows["bound_s"]
        looked["asked_kwh"][at] += rows["asked_up_kwh"] - rows["asked_down_kwh"]
        looked["plan_kwh"][at] += rows["plan_kwh"]
        car, own = self.now["car"][at], looked[at]
        _alone(own, self.now["came_kwh"][at], car, rows)
        looked[at] = own
        self._alone_soc[at] = np.clip(own["alone_kwh"] / np.maximum(_usable_kwh(car), 1e-9), 0.0, 1.0)

    def edge(self, stays: Rows) -> None:
        """An accounting interval has ended, its accounts are in, who left is told. stays : STAY[n], by charger"""
        slots = np.flatnonzero(self.row >= 0)
        rows, now = self.row[slots], stays[slots]
        part, looked = self.part[rows], self._looked[rows]
        net_kwh = metered(part, self.now[rows], now)
        part["short_kwh"] += short_kwh(looked["asked_kwh"], looked["plan_kwh"], net_kwh)
        looked["asked_kwh"] = looked["plan_kwh"] = 0.0
        self.part[rows], self._looked[rows], self.now[rows] = part, looked, now
        rainflow.update(self._cycles, self._soc, THRESHOLD)
        rainflow.update(self._alone, self._alone_soc, THRESHOLD)

    def turn(self, now_ns: int) -> tuple[Rows, Rows]:
        """A day has ended, at an edge: (parts of that day, stays as of now); new parts begin."""
        rows = self.row[self.row >= 0]
        parts, stays, whole = self.part[rows], self.now[rows], self._whole[rows]
        add(whole, parts)
        self._whole[rows] = whole
        again = fresh(rows.size, now_ns)
        again["soc_min_frac"] = again["soc_max_frac"] = _soc(stays["left_kwh"], stays)
        self.part[rows] = again
        return parts, stays

    def over(self, state: Rows, session: Rows) -> Ended | None:
        """Stays that are over, and whose accounts are all in. state, session : [n] as the core has them now"""
        if not self._gone:
            return None
        rows = np.array(self._gone)
        car = self.now["car"][rows]
        slots = car["slot"].astype(np.int64)
        done = (session[slots] > car["session"]) | ((session[slots] == car["session"]) & (state[slots] == UNPLUGGED))
        self._gone = rows[~done].tolist()
        return self._finish(rows[done], True)

    def finish(self) -> list[Ended]:
        """The recording has ended, at an edge: all stays, those of cars that are still here included."""
        here = self.row[self.row >= 0]
        self.row[:] = NOBODY
        self._net_kwh[here] = 0.0
        gone, self._gone = np.array(self._gone, np.int64), []
        return [ended for ended in (self._finish(gone, True), self._finish(here, False)) if ended is not None]

    def _finish(self, rows: Ints, over: bool) -> Ended | None:
        if not rows.size:
            return None
        looked, part, whole = self._looked[rows], self.part[rows], self._whole[rows]
        # What it gave since the edge before it left was entered as it left; what was asked meanwhile is known now.
        part["short_kwh"] += short_kwh(looked["asked_kwh"], looked["plan_kwh"], self._net_kwh[rows])
        add(whole, part)
        self._free += rows.tolist()
        return Ended(
            self.now[rows], part, whole, looked, _picked(self._cycles, rows), _picked(self._alone, rows),
            np.full(rows.size, over),
        )  # fmt: skip

    def _taken(self, count: int) -> Ints:
        """So many rows of the pool, which grows where there are not enough."""
        if count > len(self._free):
            more, n = max(count, self.part.size // 4, 8), self.part.size
            self.now, self.part, self._whole, self._looked = (
                np.concatenate([rows, np.zeros(more, rows.dtype)])
                for rows in (self.now, self.part, self._whole, self._looked)
            )
            self._soc, self._alone_soc, self._net_kwh = (
                np.concatenate([column, np.zeros(more)]) for column in (self._soc, self._alone_soc, self._net_kwh)
            )
            self._cycles, self._alone = _grown(self._cycles, more), _grown(self._alone, more)
            self._free += range(n, n + more)
        rows, self._free = self._free[:count], self._free[count:]
        return np.array(rows, np.int64)


def _alone(looked: Rows, came_kwh: Floats, car: Rows, rows: Rows) -> None:
    """The same time with the plan alone, with no regulation to make good: even charging to what was wanted by the
    departure told (`droop.limits.plan`); of every other plan, and where no departure was told, the plan as it stood,
    and no further than to what was wanted."""
    hours = (rows["end_ns"] - rows["start_ns"]) / (H_S * 1e9)
    usable_kwh, eta = _usable_kwh(car), car["eta_charge_frac"].astype(np.float64)
    before = looked["alone_kwh"].copy()
    ceiling = np.maximum(car["soc_max_frac"] * usable_kwh, came_kwh)
    lacks = np.maximum(np.minimum(car["depart_kwh"], ceiling) - before, 0.0)
    left_h = (car["depart_ns"] - rows["start_ns"]) / (H_S * 1e9)
    rating_kw = car["charge_max_kw"].astype(np.float64)
    even_kw = np.where(left_h > 0.0, np.minimum(lacks / (eta * np.maximum(left_h, 1e-9)), rating_kw), rating_kw)
    told, plan_kwh = car["depart_ns"] > 0, rows["plan_kwh"]
    stood = np.maximum(-plan_kwh, 0.0) * eta
    planned = np.where(car["plan"] == PlanKind.EVEN, even_kw * hours * eta, stood)
    charged = np.where(told, np.minimum(planned, lacks), stood)
    drawn = np.where(told, 0.0, np.maximum(plan_kwh, 0.0) / np.maximum(car["eta_discharge_frac"], 1e-3))
    after = np.clip(before + charged - drawn, 0.0, np.maximum(ceiling, before))
    looked["alone_kwh"] = after
    looked["alone_soc_h"] += 0.5 * (before + after) / usable_kwh * hours
    looked["alone_h"] += hours
    looked["alone_moved_kwh"] += np.abs(after - before)
    looked["alone_working_h"] += hours * (after != before)


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


def _stacks(n: int) -> Cycles:
    """Stacks of n batteries; all of their memory is the same for the same history."""
    begun = rainflow.begin(np.zeros(n))
    return begun._replace(scratch=np.zeros_like(begun.scratch))


def _picked(cycles: Cycles, rows: Ints) -> Cycles:
    """Some rows of the stacks, for themselves."""
    extreme, direction, points, depth = (column[rows] for column in cycles[:4])
    return Cycles(extreme, direction, points, depth, Counts(*(c[rows] for c in cycles.closed)), cycles.scratch.copy())


def _grown(cycles: Cycles, more: int) -> Cycles:
    """The same with more rows."""
    extra = _stacks(more)
    extreme, direction, points, depth = (
        np.concatenate(both) for both in zip(cycles[:4], extra[:4], strict=True)
    )  # fmt: skip
    closed = Counts(*(np.concatenate(both) for both in zip(cycles.closed, extra.closed, strict=True)))
    return Cycles(extreme, direction, points, depth, closed, cycles.scratch)


def _usable_kwh(car: Rows) -> Floats:
    return np.asarray(car["capacity_kwh"] * car["soh_frac"].astype(np.float64), np.float64)


def _soc(energy_kwh: Floats, stays: Rows) -> Floats:
    """Fraction of what is left of the battery."""
    return np.asarray(np.clip(energy_kwh / np.maximum(_usable_kwh(stays["car"]), 1e-9), 0.0, 1.0), np.float64)
