"""Who comes to which charger when, with which car: the stays of a fleet that is not drawn slot by slot.

`Guests` are the stays, by arrival, each with its car and what its driver said. `Queue` seats them: a driver takes the
first free charger that can bring the energy in time, else the first one that fits the car at all; who finds none is
counted and does not wait. No clock, no physics, nothing random: the draws of `population` come with the guests.
"""

from __future__ import annotations

import heapq
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.gateways import population, records
from aggregator.gateways.physics import NEVER
from aggregator.gateways.population import LOWEST_KW, Behaviour, Cars, Chargers
from telemetry.samples import Block
from telemetry.vehicles import CAR, power_kw
from telemetry.vehicles.cars import AC_MAX_KW, SINGLE_MAX_KW

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]

LOWEST_PHASE_KW: Final = float(LOWEST_KW[0])  # 6 A on one phase


class Guests(NamedTuple):
    """Stays of a fleet, [k] each, by arrival.

    key   : a stay's own number: its draws hang on it, not on who else comes
    needs : mean power that the stay asks for [kW]
    """

    key: I8
    arrive_ns: I8
    leave_ns: I8
    told_ns: I8  # departure as told; 0: none
    capacity_kwh: F8  # usable, as new
    soh_frac: F8
    soc_frac: F8  # at arrival
    energy_kwh: F8  # that came aboard in the recorded stay
    wish_kwh: F8  # wanted aboard at departure; 0: nothing said
    needs_kw: F8
    ac_kw: F8
    phases: I8
    dc_kw: F8
    plan: I8  # droop's `PlanKind` code

    def within(self, first_ns: int, last_ns: int) -> Guests:
        """Those who are there at some time in [first, last]."""
        there = (self.leave_ns > first_ns) & (self.arrive_ns <= last_ns)
        return Guests._make(column[there] for column in self)


class Queue:
    """The guests and the free chargers.

    turned_away : stays that found no charger free, or none that fits
    weak        : stays at a charger too weak for what they ask
    """

    def __init__(self, guests: Guests, seed: int, how: Behaviour, chargers: Chargers) -> None:
        self._guests, self._chargers = guests, chargers
        none = np.zeros(guests.key.size)
        drawn = population.cars(seed, guests.key, none.astype(np.int64), how)
        stay_s = (guests.leave_ns - guests.arrive_ns) / 1e9
        usable_kwh = np.maximum(guests.capacity_kwh * guests.soh_frac, 1e-9)
        self._cars = drawn._replace(
            capacity_kwh=guests.capacity_kwh, soh_frac=guests.soh_frac, soc_frac=guests.soc_frac, stay_s=stay_s,
            said_s=np.full(none.size, np.nan), wish_frac=guests.wish_kwh / usable_kwh,
        )  # fmt: skip
        self._inlets = np.zeros(none.size, CAR)
        self._inlets["ac_kw"], self._inlets["phases"], self._inlets["dc_kw"] = guests.ac_kw, guests.phases, guests.dc_kw
        ratings, self._kind = np.unique(chargers.rating_kw, return_inverse=True)
        self._fits_kw = power_kw(self._inlets[:, np.newaxis], ratings)  # by guest and kind of charger
        self._free: list[list[int]] = [np.flatnonzero(self._kind == k).tolist() for k in range(ratings.size)]
        self._next = 0
        self.came = self.turned_away = self.weak = 0

    @property
    def next_ns(self) -> int:
        """When the next guest comes; NEVER if nobody does."""
        arrive_ns = self._guests.arrive_ns
        return int(arrive_ns[self._next]) if self._next < arrive_ns.size else NEVER

    def due(self, now_ns: int) -> tuple[I8, I8]:
        """The guests who have come by `now_ns` and are still there, seated: who, and at which slots."""
        guests = self._guests
        last = int(np.searchsorted(guests.arrive_ns, now_ns, side="right"))
        coming = np.arange(self._next, max(last, self._next))
        self._next = max(last, self._next)
        coming = coming[guests.leave_ns[coming] > now_ns]
        seats = [self._seat(int(who)) for who in coming]
        found = np.array([slot >= 0 for slot in seats], np.bool_)
        self.came += coming.size
        self.turned_away += int(coming.size - found.sum())
        return coming[found], np.array(seats, np.int64)[found]

    def free(self, slots: I8) -> None:
        """Their cars have left."""
        for slot in slots.tolist():
            heapq.heappush(self._free[self._kind[slot]], slot)

    def leave_ns(self, who: I8) -> I8:
        """When they leave."""
        return self._guests.leave_ns[who]

    def cars(self, who: I8, now_ns: int) -> tuple[Cars, F8]:
        """Their cars as they stand now, and the share of their stay that lies ahead.

        Of a guest found in the midst of a stay the share of the energy that belongs to the time before is aboard.
        """
        guests = self._guests
        stay_ns = guests.leave_ns[who] - guests.arrive_ns[who]
        passed_frac = (now_ns - guests.arrive_ns[who]) / stay_ns
        cars = Cars._make(column[who] for column in self._cars)
        aboard_frac = guests.energy_kwh[who] * passed_frac / (guests.capacity_kwh[who] * guests.soh_frac[who])
        return cars._replace(soc_frac=np.minimum(cars.soc_frac + aboard_frac, 1.0)), 1.0 - passed_frac

    def rows(self, who: I8, slots: I8, cars: Cars, sessions: npt.NDArray[np.uint32], now_ns: int) -> Block:
        """SESSION[k]: what the chargers tell of them: powers and least power are those of charger and car together."""
        guests, chargers = self._guests, self._chargers
        rows = records.starts(chargers, cars, slots, sessions, now_ns, 1.0)
        rating_kw, phases = chargers.rating_kw[slots], guests.phases[who]
        most_kw = power_kw(self._inlets[who], rating_kw)
        lines = np.where(rating_kw > AC_MAX_KW, 1, np.where(rating_kw > SINGLE_MAX_KW, np.minimum(phases, 3), 1))
        lowest_kw = np.minimum(LOWEST_PHASE_KW * lines, most_kw)
        rows["vehicle"] = [f"stay-{key}".encode() for key in guests.key[who].tolist()]
        rows["charge_max_kw"] = most_kw
        rows["discharge_max_kw"] = np.minimum(chargers.discharge_max_kw[slots], most_kw)
        rows["min_kw"] = np.where(chargers.min_kw[slots] > 0.0, lowest_kw, 0.0)
        rows["safe_kw"] = np.where(chargers.safe_kw[slots] < 0.0, -lowest_kw, 0.0)
        rows["depart_ns"] = guests.told_ns[who]
        rows["depart_kwh"] = guests.wish_kwh[who]
        rows["plan"] = guests.plan[who]
        return rows

    def _seat(self, who: int) -> int:
        """The charger this guest takes; -1 if there is none."""
        fits_kw = self._fits_kw[who]
        open_kinds = [k for k, slots in enumerate(self._free) if slots and fits_kw[k] > 0.0]
        strong = [k for k in open_kinds if fits_kw[k] >= self._guests.needs_kw[who]]
        if not open_kinds:
            return -1
        self.weak += 0 if strong else 1
        kind = min(strong or open_kinds, key=lambda k: self._free[k][0])
        return heapq.heappop(self._free[kind])

    def figures(self) -> dict[str, int]:
        """Counters since the start."""
        return {"came": self.came, "turned_away": self.turned_away, "too_weak_a_charger": self.weak}
