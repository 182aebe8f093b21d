"""A simulated fleet behind `aggregator.ports.VehicleGateway`: chargers, cars and drivers as they are.

Written apart from the engine: it shares no formula with `droop`, so that a wrong sign or a forgotten loss there shows
here. Deterministic: the same seed and the same set-points at the same times give the same fleet, to rounding, however
often it is asked in between; asked at the same times, it gives the same bytes. No clock: each call lets time pass up to
the `now_ns` it brings; an earlier one changes nothing.

Buffers and losses: session records, meter readings and ended stays wait until asked for; of the readings the last
`READINGS_MAX` are kept, of the moments at which stays ended the last `STAYS_MAX`. While a charger's link is lost its
reports and commands are lost, its session records are late.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aggregator.gateways import physics, population, records
from aggregator.gateways.arrivals import Guests, Queue
from aggregator.gateways.physics import NEVER, later, ns
from aggregator.gateways.population import PERFECT, Behaviour, Draw
from aggregator.gateways.truth import STAY, Aboard, Energy, Truth
from aggregator.setpoints import Rows
from droop.handle import hold
from telemetry.samples import POWER, SESSION, VEHICLE, Block, SlotState, empty

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]

SECOND_NS: Final = 1_000_000_000
READINGS_MAX: Final = 86_400
STAYS_MAX: Final = 10_000
METER: Final = 1
NO_SESSIONS: Final = empty(SESSION)
POWER_ROW: Final = struct.Struct("<qqddII")
assert POWER_ROW.size == POWER.itemsize  # noqa: S101 - layouts that must agree


class SimulatedFleet:
    """`vehicles` chargers, and the cars that come and go.

    perfect : no imperfection at all: no dead time, ramp, loss, noise, least power, refusal, drop-out, lie, and nobody
        leaves; temperatures, budgets and wear are not told
    behaviour : how imperfect; takes precedence over `perfect`
    first_session : sessions count on from here; above 0 the empty chargers are announced too, for readers who knew
        the cars of an earlier life
    guests : who comes, instead of the cars that are drawn for each charger
    """

    def __init__(
        self,
        vehicles: int,
        seed: int,
        start_ns: int,
        *,
        perfect: bool = False,
        behaviour: Behaviour | None = None,
        first_session: int = 0,
        guests: Guests | None = None,
    ) -> None:
        if vehicles < 1:
            raise ValueError(f"vehicles: {vehicles}, take at least 1")
        self.behaviour = behaviour or (PERFECT if perfect else Behaviour())
        self.now_ns, self._seed = start_ns, seed
        self._slots = np.arange(vehicles)
        self._chargers = population.chargers(seed, vehicles, self.behaviour)
        self._session = np.full(vehicles, first_session, np.uint32)
        self._car = np.zeros(vehicles, SESSION)  # the session record of the car that is here
        self._c = physics.columns(self._chargers)
        self._held = hold(self._c)
        self._period_ns = ns(self._chargers.report_s)
        self._report_ns = start_ns + ns(self._chargers.report_s * self._chargers.phase_frac)
        self._events = 0 * self._slots, 0 * self._slots  # refusals, drop-outs begun
        self._deaf_ns = later(start_ns, self._wait(Draw.REFUSAL_WAIT, self._slots))
        self._cut_ns = later(start_ns, self._wait(Draw.DROPOUT_WAIT, self._slots))
        self._deaf_until_ns = np.full(vehicles, start_ns)
        self._cut_until_ns = np.full(vehicles, start_ns)
        self._lie_ns = later(start_ns, ns(self._chargers.lies_from_s))
        self._change_ns = np.full(vehicles, NEVER)  # next plug-in or plug-out
        self._queue = None if guests is None else Queue(guests, seed, self.behaviour, self._chargers)
        self._due_ns = np.full(1, NEVER)  # next guest
        self._records: list[Block] = []
        self._readings: list[tuple[int, float, float]] = []
        self._grid_kwh = self._losses_kwh = self._arrived_kwh = self._left_kwh = 0.0
        self.throughput_kwh = 0.0  # moved by the cars, either way, at the grid side
        self.vanished = 0  # set-points that a refusing or unreachable charger swallowed
        self._dealer = population.Dealer(seed, self._slots, self.behaviour)
        self._soonest_ns = [NEVER]
        self._salt = population.salt_of(seed, Draw.NOISE)
        self._came_kwh = np.zeros(vehicles)
        self._left: list[Block] = []
        self._populate()
        self._start_kwh = float(self._c.energy_kwh.sum())
        self._arrived_kwh = 0.0
        physics.step_held(self._held, start_ns, start_ns, 1.0)  # compiled (or loaded) here, not in the first tick

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the handle, which is an address."""
        return {name: value for name, value in self.__dict__.items() if name != "_held"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._held = hold(self._c)

    # -- the port ------------------------------------------------------------------------------------------------

    def advance(self, now_ns: int) -> None:
        """Let time pass until `now_ns`, in steps of at most a second that end at whole seconds and at events."""
        while self.now_ns < now_ns:
            second_ns = (self.now_ns // SECOND_NS + 1) * SECOND_NS
            end_ns = min(now_ns, second_ns, self._next_event_ns)
            if end_ns > self.now_ns:
                grid_kwh, losses_kwh, sum_kw, moved_kwh = physics.step_held(
                    self._held, self.now_ns, end_ns, 1.0 / self.behaviour.discharge_taper_frac
                )
                self._grid_kwh += grid_kwh
                self._losses_kwh += losses_kwh
                self.throughput_kwh += moved_kwh
                self.now_ns = end_ns
                if end_ns == second_ns:
                    self._read_meter(sum_kw)
            if end_ns >= self._next_event_ns:
                self._happen()

    def sessions(self, now_ns: int) -> Block:
        """SESSION block of starts and ends since last asked, the fleet as found at the start first."""
        self.advance(now_ns)
        if not self._records:
            return NO_SESSIONS
        waiting = np.concatenate(self._records)
        linked = self._cut_until_ns[waiting["slot"]] <= self.now_ns
        self._records = [] if linked.all() else [waiting[~linked]]
        known: Block = waiting[linked]
        known["rx_ns"] = self.now_ns
        return known

    def reports(self, now_ns: int) -> Block:
        """VEHICLE block of the reports due since last asked; ask after `sessions`."""
        self.advance(now_ns)
        # Memory that nobody touches costs nothing.
        out = np.empty(self._slots.size, VEHICLE)
        count = physics.report(
            self._held, self._session, self._report_ns, self._period_ns, self._cut_until_ns, self.now_ns, self._salt,
            self.behaviour.noise_frac, self.behaviour.soc_step_frac, out,
        )  # fmt: skip
        return out[:count]

    def meter(self, now_ns: int) -> Block:
        """POWER block, one reading for each whole second since last asked: the true power and register."""
        self.advance(now_ns)
        # Packed: a row of a structured array costs ten times as much to fill.
        rows = b"".join(POWER_ROW.pack(t_ns, self.now_ns, kw, kwh, METER, 0) for t_ns, kw, kwh in self._readings)
        self._readings.clear()
        return np.frombuffer(bytearray(rows), POWER)

    def apply(self, rows: Rows, valid_until_ns: int, now_ns: int) -> int:
        """Hand set-points to the chargers; how many were refused (no such slot, no car, another session)."""
        self.advance(now_ns)
        # Messages off the wire lie at any address and are read-only; the kernel sees one memory layout.
        plain = rows.flags.aligned and rows.flags.writeable and rows.flags.c_contiguous
        refused, vanished = physics.receive(
            self._held, self._session, self._deaf_until_ns, self._cut_until_ns, rows if plain else np.array(rows),
            valid_until_ns, self.now_ns,
        )  # fmt: skip
        self.vanished += vanished
        return int(refused)

    def arrivals(self) -> dict[str, int] | None:
        """What became of the guests; None where cars are drawn for each charger."""
        return None if self._queue is None else self._queue.figures()

    # -- what tests and demonstrations may see -------------------------------------------------------------------

    def energy(self) -> Energy:
        """The balance since the start."""
        stored_kwh = float(self._c.energy_kwh.sum())
        return Energy(
            self._grid_kwh, self._losses_kwh, stored_kwh, self._start_kwh, self._arrived_kwh, self._left_kwh
        )  # fmt: skip

    @property
    def power_kw(self) -> float:
        """True power of the whole fleet now, for a test bench that reads faster than the meter."""
        return float(self._c.power_kw.sum())

    def truth(self) -> Truth:
        """The state now, which no gateway would know."""
        c, here = self._c, self._c.plugged
        usable = np.where(here, self._usable_kwh(self._slots), np.nan)
        return Truth(
            plugged=here.copy(),
            session=self._session.copy(),
            power_kw=c.power_kw.copy(),
            target_kw=c.target_kw.copy(),
            soc_frac=c.energy_kwh / usable,
            energy_kwh=c.energy_kwh.copy(),
            capacity_kwh=usable,
            linked=self._cut_until_ns <= self.now_ns,
            refusing=self._deaf_until_ns > self.now_ns,
        )

    def stays(self, slots: I8 | None = None) -> Block:
        """STAY[k]: the car that is at each of these chargers, of all without any named, up to now.

        `car.state` is UNPLUGGED where there is none.
        """
        wanted = self._slots if slots is None else slots
        found = self._stays(wanted)
        found["car"]["slot"] = wanted
        found["car"]["state"][~self._c.plugged[wanted]] = SlotState.UNPLUGGED
        return found

    def aboard(self) -> Aboard:
        """What is in the cars now; views, for a look and not to keep."""
        c = self._c
        return Aboard(self._session, c.plugged, c.energy_kwh, c.per_capacity, c.power_kw, c.temp_c)

    def drain_stays(self) -> Block:
        """STAY[k]: stays that have ended since last asked, in order."""
        ended, self._left = self._left, []
        return np.concatenate([np.zeros(0, STAY), *ended])

    def _stays(self, slots: I8) -> Block:
        c, found = self._c, np.zeros(slots.size, STAY)
        found["car"], found["start_ns"], found["end_ns"] = self._car[slots], self._car["t_ns"][slots], self.now_ns
        found["came_kwh"], found["left_kwh"] = self._came_kwh[slots], c.energy_kwh[slots]
        found["moved_kwh"], found["lost_kwh"] = c.moved_kwh[slots], c.lost_kwh[slots]
        found["reversals"] = np.maximum(np.abs(c.turns[slots]) - 1.0, 0.0)
        return found

    # -- events --------------------------------------------------------------------------------------------------

    def _happen(self) -> None:
        """Everything due now: cars leave and come, chargers turn deaf, links break, liars begin."""
        for kind, happen in enumerate((self._exchange, self._turn_deaf, self._cut, self._lie, self._welcome)):
            if self._soonest_ns[kind] <= self.now_ns:
                happen()
                self._soonest_ns[kind] = int(self._times_ns()[kind].min())
        self._next_event_ns = min(self._soonest_ns)

    def _times_ns(self) -> tuple[I8, I8, I8, I8, I8]:
        """When each charger's next event comes, and the next guest, by kind, in the order of `_happen`."""
        return self._change_ns, self._deaf_ns, self._cut_ns, self._lie_ns, self._due_ns

    def _schedule(self) -> None:
        self._soonest_ns = [int(times.min()) for times in self._times_ns()]
        self._next_event_ns = min(self._soonest_ns)

    def _exchange(self) -> None:
        """Cars leave and come."""
        changing = np.flatnonzero(self._change_ns <= self.now_ns)
        leaving = self._c.plugged[changing]
        self._plug_out(changing[leaving])
        self._plug_in(changing[~leaving])

    def _turn_deaf(self) -> None:
        self._begin(0, self._deaf_ns, self._deaf_until_ns, (30.0, 120.0))

    def _cut(self) -> None:
        self._begin(1, self._cut_ns, self._cut_until_ns, (10.0, 60.0))

    def _begin(self, kind: int, at_ns: I8, until_ns: I8, length_s: tuple[float, float]) -> None:
        """Refusals (kind 0) or drop-outs (1) that start now, and when the next one will."""
        wait, length = (
            (Draw.REFUSAL_WAIT, Draw.REFUSAL_LENGTH) if kind == 0 else (Draw.DROPOUT_WAIT, Draw.DROPOUT_LENGTH)
        )
        slots = np.flatnonzero(at_ns <= self.now_ns)
        drawn = population.uniform(self._seed, length, slots, self._events[kind][slots])
        end_ns = self.now_ns + ns(length_s[0] + (length_s[1] - length_s[0]) * drawn)
        until_ns[slots] = np.maximum(until_ns[slots], end_ns)  # a liar stays one meanwhile
        self._events[kind][slots] += 1
        at_ns[slots] = later(end_ns, self._wait(wait, slots))

    def _lie(self) -> None:
        """Chargers that from now on acknowledge and do nothing, some of them for good."""
        slots = np.flatnonzero(self._lie_ns <= self.now_ns)
        self._deaf_until_ns[slots] = later(self.now_ns, ns(self._chargers.lies_for_s[slots]))
        self._lie_ns[slots] = NEVER

    def _wait(self, what: Draw, slots: I8) -> I8:
        refusal = what == Draw.REFUSAL_WAIT
        per_h = self.behaviour.refusals_per_h if refusal else self.behaviour.dropouts_per_h
        before = self._events[0 if refusal else 1][slots]
        return ns(population.wait_s(self._seed, what, slots, before, per_h))

    def _populate(self) -> None:
        """The fleet as found: most slots taken, somewhere within their stay."""
        if self._queue is not None:
            self._welcome()
            self._tell_free(self._slots[~self._c.plugged])
            self._schedule()
            return
        occupied = population.uniform(self._seed, Draw.OCCUPIED, self._slots, 0) < self.behaviour.occupied_frac
        taken, free = self._slots[occupied], self._slots[~occupied]
        self._plug_in(taken, population.uniform(self._seed, Draw.ELAPSED, taken, 0))
        self._tell_free(free)
        vacancy_s = population.vacancy_s(self._seed, free, 0 * free, self.behaviour)
        self._change_ns[free] = later(self.now_ns, ns(vacancy_s))
        self._schedule()

    def _tell_free(self, free: I8) -> None:
        """Chargers without a car, for readers who knew the cars of an earlier life."""
        if self._session[free].any():
            empty_row = empty(SESSION, free.size)
            empty_row["slot"], empty_row["session"], empty_row["t_ns"] = free, self._session[free], self.now_ns
            empty_row["state"] = SlotState.UNPLUGGED
            self._records.append(empty_row)

    def _welcome(self) -> None:
        """Guests who have come take their seats."""
        assert self._queue is not None  # noqa: S101 - nobody is due otherwise
        who, slots = self._queue.due(self.now_ns)
        self._due_ns[0] = self._queue.next_ns
        if slots.size == 0:
            return
        self._session[slots] += 1
        cars, to_come_frac = self._queue.cars(who, self.now_ns)
        self._change_ns[slots] = self._queue.leave_ns(who)
        self._soonest_ns[0] = min(self._soonest_ns[0], int(self._change_ns[slots].min()))
        rows = self._queue.rows(who, slots, cars, self._session[slots], self.now_ns)
        for name in ("charge_max_kw", "discharge_max_kw", "min_kw", "safe_kw"):
            getattr(self._c, name)[slots] = rows[name]
        self._seat(slots, cars, rows, to_come_frac)

    def _plug_in(self, slots: I8, elapsed_frac: F8 | None = None) -> None:
        """A new car for each slot; `elapsed_frac` of its stay is over already."""
        if slots.size == 0:
            return
        self._session[slots] += 1
        cars = self._dealer.cars(slots, self._session[slots].astype(np.int64))
        to_come_frac = 1.0 if elapsed_frac is None else 1.0 - elapsed_frac
        self._change_ns[slots] = later(self.now_ns, ns(cars.stay_s * to_come_frac))
        sessions = self._session[slots]
        rows = records.starts(self._chargers, cars, slots, sessions, self.now_ns, to_come_frac)
        rows["plan"] = population.plan_kinds(self._seed, slots, sessions.astype(np.int64), self.behaviour)
        self._seat(slots, cars, rows, to_come_frac)

    def _seat(self, slots: I8, cars: population.Cars, rows: Block, to_come_frac: F8 | float) -> None:
        """Cars at their chargers. rows : SESSION[k]"""
        self._car[slots] = rows
        usable_kwh = self._usable_kwh(slots)
        self._c.per_capacity[slots] = 1.0 / usable_kwh
        self._c.energy_kwh[slots] = usable_kwh * cars.soc_frac
        self._arrived_kwh += float(self._c.energy_kwh[slots].sum())
        self._came_kwh[slots] = self._c.energy_kwh[slots]
        for column in (self._c.moved_kwh, self._c.lost_kwh, self._c.turns):
            column[slots] = 0.0
        self._c.taper_per_frac[slots] = 1.0 / cars.charge_taper_frac
        self._c.temp_c[slots] = self._c.ambient_c[slots] + cars.heat_k * to_come_frac
        self._c.temp_told[slots] = cars.temp_told
        self._c.target_kw[slots] = self._c.safe_kw[slots]
        self._c.plugged[slots] = True
        self._records.append(self._car[slots])

    def _plug_out(self, slots: I8) -> None:
        if slots.size == 0:
            return
        self._left.append(self._stays(slots))
        if len(self._left) > STAYS_MAX:
            del self._left[0]
        ended = self._car[slots]
        ended["t_ns"], ended["state"] = self.now_ns, SlotState.UNPLUGGED
        ended["soc_frac"] = self._reported_soc(slots)
        self._records.append(ended)
        c = self._c
        self._left_kwh += float(c.energy_kwh[slots].sum())
        for column in (c.energy_kwh, c.power_kw, c.target_kw):
            column[slots] = 0.0
        for times in (c.next_ns, c.valid_ns, c.first_ns, c.second_ns):
            times[slots] = NEVER
        c.plugged[slots] = False
        if self._queue is not None:
            self._change_ns[slots] = NEVER
            self._queue.free(slots)
            return
        vacancy_s = population.vacancy_s(self._seed, slots, self._session[slots].astype(np.int64), self.behaviour)
        self._change_ns[slots] = later(self.now_ns, ns(np.maximum(vacancy_s, 1.0)))

    # -- small parts ---------------------------------------------------------------------------------------------

    def _usable_kwh(self, slots: I8) -> F8:
        return np.asarray(self._car["capacity_kwh"][slots] * self._car["soh_frac"][slots], np.float64)

    def _reported_soc(self, slots: I8) -> F8:
        soc = self._c.energy_kwh[slots] * self._c.per_capacity[slots]
        grain = self.behaviour.soc_step_frac
        return np.asarray(np.round(soc / grain) * grain if grain else soc)

    def _read_meter(self, sum_kw: float) -> None:
        self._readings.append((self.now_ns, sum_kw, self._grid_kwh))
        if len(self._readings) > READINGS_MAX:
            del self._readings[0]
