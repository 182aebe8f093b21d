"""Who the simulated chargers, cars and drivers are: everything random about the fleet, drawn by name.

A draw is a hash of (seed, what, slot, how many before): no generator with a hidden state, so the same slot lives the
same life however time is cut into steps and whatever happens to its neighbours. No time, no physics.
"""
# mypy: disallow-untyped-decorators=False, warn-return-any=False

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]

RATINGS_KW: Final = np.array([3.7, 7.4, 11.0, 22.0, 50.0])
RATING_SHARES: Final = np.array([0.15, 0.35, 0.30, 0.12, 0.08])
# Loss form eta(p) = p / (p + P0 + K p^2), p in units of the rating (rulebook 9.2): three published presets, and the
# least-squares fit of the measured 7.4 kW on-board charger of the same clause.
LOSSES: Final = np.array([(0.0145, 0.0437), (0.0072, 0.0345), (0.0088, 0.1149), (0.0084, 0.0208)])
# IEC 61851-1's lowest current is 6 A: at 230 V 1.38 kW on one phase, 4.14 kW on three. A DC charger has no such floor.
LOWEST_KW: Final = np.array([1.38, 1.38, 4.14, 4.14, 1.38])
HAS_LOWEST: Final = np.array([True, True, True, True, False])
# Chargers in a row of this many stand at one place and share its climate.
PLACE: Final = 25
_H_S: Final = 3600.0
_MASK: Final = 2**64 - 1


@dataclass(frozen=True)
class Behaviour:
    """How imperfect the fleet is. Rates are per charger and hour."""

    occupied_frac: float = 0.85
    bidirectional_frac: float = 0.80
    stay_h: float = 8.0  # median; infinite: nobody leaves
    refusals_per_h: float = 0.02  # says yes and does nothing for 30-120 s
    dropouts_per_h: float = 0.05  # link lost for 10-60 s
    dead_s: tuple[float, float] = (0.1, 0.8)
    ramp_kw_s: tuple[float, float] = (5.0, 50.0)
    lossless: bool = False
    charge_taper_frac: tuple[float, float] = (0.12, 0.18)  # of the battery, below full: charging power falls to none
    discharge_taper_frac: float = 0.08  # above empty: discharging power falls to none
    noise_frac: float = 0.005  # of the reported power
    soc_step_frac: float = 0.001  # resolution of the reported SoC; 0: exact
    safe_charge_frac: float = 0.15  # chargers that fall back to slow charging; the others to nothing
    minimum_frac: float = 0.95  # AC chargers that carry out 6 A or more, or nothing
    ramp_told_frac: float = 0.3  # sessions that tell the charger's ramp
    weak_frac: float = 0.04  # chargers that deliver less than they are told
    weak_gain: tuple[float, float] = (0.92, 1.0)
    liars_frac: float = 0.003  # chargers that, from some time on, acknowledge and do nothing; half of them recover
    temp_told_frac: float = 0.8  # cars that report their battery's temperature
    budget_frac: float = 0.15  # cars with a throughput allowed in a day
    wear_frac: float = 0.25  # cars with a wear weight of their own
    plans: tuple[float, ...] = (1.0,)  # shares of charging plans, by droop's `PlanKind` code


# Sessions whose cars are kept once dealt.
DEALT_MAX: Final = 32

PERFECT: Final = Behaviour(
    occupied_frac=1.0,
    stay_h=np.inf,
    refusals_per_h=0.0,
    dropouts_per_h=0.0,
    dead_s=(0.0, 0.0),
    ramp_kw_s=(np.inf, np.inf),
    lossless=True,
    charge_taper_frac=(0.001, 0.001),
    discharge_taper_frac=0.001,
    noise_frac=0.0,
    soc_step_frac=0.0,
    safe_charge_frac=0.0,
    minimum_frac=0.0,
    ramp_told_frac=0.0,
    weak_frac=0.0,
    liars_frac=0.0,
    temp_told_frac=0.0,
    budget_frac=0.0,
    wear_frac=0.0,
)


class Draw(IntEnum):
    """What a random number is for."""

    RATING = auto()
    BIDIRECTIONAL = auto()
    DEAD = auto()
    RAMP = auto()
    LOSS = auto()
    SAFE = auto()
    PERIOD = auto()
    PHASE = auto()
    OCCUPIED = auto()
    CAPACITY = auto()
    SOH = auto()
    SOC = auto()
    SOC_2 = auto()
    SOC_3 = auto()
    STAY = auto()
    STAY_2 = auto()
    VACANCY = auto()
    ELAPSED = auto()
    TELLS = auto()
    TELLS_WRONG = auto()
    WISH = auto()
    NOISE = auto()
    REFUSAL_WAIT = auto()
    REFUSAL_LENGTH = auto()
    DROPOUT_WAIT = auto()
    DROPOUT_LENGTH = auto()
    MINIMUM = auto()
    RAMP_TOLD = auto()
    WEAK = auto()
    WEAK_GAIN = auto()
    LIAR = auto()
    LIAR_FROM = auto()
    LIAR_BACK = auto()
    AMBIENT = auto()
    TAPER = auto()
    TEMP_TOLD = auto()
    TEMP = auto()
    BUDGET = auto()
    WEAR = auto()
    PLAN = auto()
    CAR = auto()
    LEAVE_SOC = auto()


def salt_of(seed: int, what: Draw) -> Any:
    """uint64: what sets the draws of one seed and purpose apart from all others."""
    return np.uint64((seed * 0xD1342543DE82EF95 + int(what) * 0x9E3779B97F4A7C15) & _MASK)


@njit(cache=True)
def mixed(slot: int, before: int, salt: int) -> Any:
    """64 well mixed bits of (slot, how many before, salt): splitmix64's finalizer, twice; the inputs are not random."""
    x = np.uint64(slot) * np.uint64(0xA0761D6478BD642F) + np.uint64(before) * np.uint64(0xE7037ED1A0B428DB)
    x += np.uint64(salt)
    for _ in range(2):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return x


@njit(cache=True)
def _uniform(slots: I8, before: I8, salt: int, out: F8) -> None:
    for i in range(slots.size):
        out[i] = float(mixed(slots[i], before[i if before.size > 1 else 0], salt) >> np.uint64(11)) * 2.0**-53


def uniform(seed: int, what: Draw, slots: I8, before: npt.ArrayLike) -> F8:
    """Numbers in [0, 1), one per slot; `before` counts the earlier draws for the same purpose."""
    out = np.empty(slots.size)
    _uniform(slots, np.atleast_1d(np.asarray(before, np.int64)), salt_of(seed, what), out)
    return out


def normal(seed: int, first: Draw, second: Draw, slots: I8, before: npt.ArrayLike) -> F8:
    """Standard normal numbers (Box-Muller), one per slot."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(seed, first, slots, before)))
    return np.asarray(radius * np.cos(2.0 * np.pi * uniform(seed, second, slots, before)))


class Chargers(NamedTuple):
    """What is fixed for a charger's life, [n] each."""

    rating_kw: F8
    discharge_max_kw: F8
    dead_s: F8
    ramp_kw_s: F8
    loss_fixed_pu: F8
    loss_square_pu: F8
    safe_kw: F8
    report_s: F8  # period of its reports
    phase_frac: F8  # where in that period it starts
    min_kw: F8  # least power above zero; 0: any
    ramp_told: npt.NDArray[np.bool_]  # whether its sessions tell the ramp
    gain: F8  # power delivered over power told
    ambient_c: F8
    lies_from_s: F8  # after the start; infinite for the honest
    lies_for_s: F8  # infinite for those that do not recover


def chargers(seed: int, count: int, how: Behaviour) -> Chargers:
    """The chargers of `count` slots."""
    slots = np.arange(count)

    def draw(what: Draw, low: float = 0.0, high: float = 1.0) -> F8:
        return np.full(count, low) if low == high else low + (high - low) * uniform(seed, what, slots, 0)

    kind = np.searchsorted(np.cumsum(RATING_SHARES)[:-1], draw(Draw.RATING), side="right")
    rating, lowest_kw = RATINGS_KW[kind], LOWEST_KW[kind]
    loss = LOSSES[(draw(Draw.LOSS) * len(LOSSES)).astype(np.int64)] * (not how.lossless)
    return Chargers(
        rating_kw=rating,
        discharge_max_kw=np.where(draw(Draw.BIDIRECTIONAL) < how.bidirectional_frac, rating, 0.0),
        dead_s=draw(Draw.DEAD, *how.dead_s),
        ramp_kw_s=draw(Draw.RAMP, *how.ramp_kw_s),
        loss_fixed_pu=loss[:, 0],
        loss_square_pu=loss[:, 1],
        # The lowest current is the usual slow fall-back.
        safe_kw=np.where(draw(Draw.SAFE) < how.safe_charge_frac, -lowest_kw, 0.0),
        report_s=draw(Draw.PERIOD, 1.0, 2.0),
        phase_frac=draw(Draw.PHASE),
        min_kw=np.where(HAS_LOWEST[kind] & (draw(Draw.MINIMUM) < how.minimum_frac), lowest_kw, 0.0),
        ramp_told=draw(Draw.RAMP_TOLD) < how.ramp_told_frac,
        gain=np.where(draw(Draw.WEAK) < how.weak_frac, draw(Draw.WEAK_GAIN, *how.weak_gain), 1.0),
        ambient_c=10.0 + 16.0 * uniform(seed, Draw.AMBIENT, slots // PLACE, 0),
        lies_from_s=np.where(draw(Draw.LIAR) < how.liars_frac, draw(Draw.LIAR_FROM, 0.0, 4.0 * _H_S), np.inf),
        lies_for_s=_lies_for_s(draw(Draw.LIAR_BACK)),
    )


def _lies_for_s(drawn: F8) -> F8:
    """Half recover after 20 to 40 minutes, the others never."""
    return np.where(drawn < 0.5, 1200.0 + 2400.0 * drawn, np.inf)


class Cars(NamedTuple):
    """What comes with a session, [k] each."""

    capacity_kwh: F8  # nominal
    soh_frac: F8
    soc_frac: F8  # at plug-in, or now for those already here
    stay_s: F8  # truly
    said_s: F8  # departure as the driver gave it, after plug-in; NaN: none given
    wish_frac: F8  # SoC wanted at departure; may be more than the battery holds
    charge_taper_frac: F8  # of the battery, below full
    temp_told: npt.NDArray[np.bool_]  # whether it reports its battery's temperature
    heat_k: F8  # of the battery above its surroundings at plug-in
    budget_frac: F8  # throughput allowed in a day, of the usable capacity; 0: any
    wear: F8  # relative cost of moving energy; 0: none told


def cars(seed: int, slots: I8, sessions: I8, how: Behaviour) -> Cars:
    """The cars of these slots' `sessions`-th session."""

    def draw(what: Draw) -> F8:
        return uniform(seed, what, slots, sessions)

    # The middle one of three uniform numbers is Beta(2, 2): few cars arrive empty or full.
    middle = np.median([draw(Draw.SOC), draw(Draw.SOC_2), draw(Draw.SOC_3)], axis=0)
    spread = np.exp(0.5 * normal(seed, Draw.STAY, Draw.STAY_2, slots, sessions))
    stay_s = np.maximum(how.stay_h * _H_S * spread, 900.0)
    tells = draw(Draw.TELLS)  # 70 % keep their word, 15 % say nothing, 15 % leave up to half earlier or later
    wrong = stay_s * (0.5 + draw(Draw.TELLS_WRONG))
    said_s = np.where(tells < 0.70, stay_s, np.where(tells < 0.85, np.nan, wrong))
    wish = draw(Draw.WISH)  # 5 % want more than the battery holds
    wish_frac = np.where(wish < 0.05, 1.2, 0.5 + 0.45 * wish)
    low, high = how.charge_taper_frac
    budget, wear = draw(Draw.BUDGET), draw(Draw.WEAR)
    # Below its share a draw is uniform over it: one draw says whether and how much.
    budget_frac = np.where(budget < how.budget_frac, 0.5 + 1.5 * budget / (how.budget_frac or 1.0), 0.0)
    return Cars(
        capacity_kwh=38.0 + 62.0 * draw(Draw.CAPACITY),
        soh_frac=0.8 + 0.2 * draw(Draw.SOH),
        soc_frac=0.08 + 0.87 * middle,
        stay_s=stay_s,
        said_s=np.where(np.isfinite(said_s), said_s, np.nan),
        wish_frac=wish_frac,
        charge_taper_frac=low + (high - low) * draw(Draw.TAPER),
        temp_told=draw(Draw.TEMP_TOLD) < how.temp_told_frac,
        heat_k=6.0 * draw(Draw.TEMP),
        budget_frac=budget_frac,
        wear=np.where(wear < how.wear_frac, 0.5 + 2.0 * wear / (how.wear_frac or 1.0), 0.0),
    )


class Dealer:
    """Deals `cars`, to the whole fleet at once: one car costs what hundreds cost.

    slots : all of the fleet
    """

    def __init__(self, seed: int, slots: I8, how: Behaviour) -> None:
        self._seed, self._slots, self._how = seed, slots, how
        self._dealt: dict[int, Cars] = {}

    def cars(self, slots: I8, sessions: I8) -> Cars:
        """The cars of these slots' `sessions`-th session; most often it is the same one for all of them."""
        number = int(sessions[0])
        if (sessions != number).any():
            return cars(self._seed, slots, sessions, self._how)
        if number not in self._dealt:
            if len(self._dealt) >= DEALT_MAX:
                self._dealt.pop(next(iter(self._dealt)))
            self._dealt[number] = cars(self._seed, self._slots, np.full(self._slots.size, number), self._how)
        return Cars._make(column[slots] for column in self._dealt[number])


def plan_kinds(seed: int, slots: I8, sessions: I8, how: Behaviour) -> I8:
    """How the plans of these sessions are made: droop's `PlanKind` codes, at the shares wanted."""
    if len(how.plans) == 1:
        return np.zeros(slots.size, np.int64)
    edges = np.cumsum(how.plans) / sum(how.plans)
    return np.searchsorted(edges[:-1], uniform(seed, Draw.PLAN, slots, sessions), side="right")


def vacancy_s(seed: int, slots: I8, sessions: I8, how: Behaviour) -> F8:
    """How long a slot stays empty after its `sessions`-th session, so that `occupied_frac` holds on average."""
    if how.occupied_frac >= 1.0:
        return np.zeros(slots.size)
    if not np.isfinite(how.stay_h):
        return np.full(slots.size, np.inf)
    mean_s = how.stay_h * _H_S * np.exp(0.125) * (1.0 - how.occupied_frac) / max(how.occupied_frac, 1e-3)
    return np.asarray(-mean_s * np.log1p(-uniform(seed, Draw.VACANCY, slots, sessions)))


def wait_s(seed: int, what: Draw, slots: I8, before: I8, per_h: float) -> F8:
    """Time to the next of events that come `per_h` times an hour; infinite at a rate of 0."""
    if per_h <= 0.0:
        return np.full(slots.size, np.inf)
    return np.asarray(-np.log1p(-uniform(seed, what, slots, before)) * (_H_S / per_h))
