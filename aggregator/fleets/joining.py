"""Stays and cars joined: each stay gets a car that its energy fits into, and a state of charge to begin with.

Session files say what was charged, not into what. So a car is drawn, by the stay's own number and the seed, among those
whose battery holds the energy within the window and whose inlet takes it in the time; the state of charge at departure
is drawn above what the energy needs, and the one at arrival follows. A stay that no car fits is counted, not bent.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal, NamedTuple

import numpy as np

from aggregator.gateways import population
from aggregator.gateways.arrivals import F8, I8, Guests
from aggregator.gateways.population import Behaviour, Draw
from aggregator.gateways.records import SOC_MAX_FRAC, SOC_MIN_FRAC
from droop.plans import PlanKind
from telemetry.samples import Block
from telemetry.sessions.stays import HOUR_NS
from telemetry.vehicles import CAR

Departures = Literal["auto", "told", "known"]
# Of the metered energy what comes aboard: a parameter between the presets of rulebook 9.2 at half the rating.
ETA: Final = 0.93
# Charging that ended this long before the car left had nothing more to give: the car was as full as it goes.
DONE_NS: Final = 600_000_000_000
# Stays that are matched with all cars at once.
CHUNK: Final = 4096


class Joined(NamedTuple):
    """Guests, and the stays that came to nothing, by reason."""

    guests: Guests
    impossible: Counter[str]


def join(
    rows: Block, cars: Block, seed: int, how: Behaviour, departures: Departures = "auto"
) -> Joined:  # fmt: skip
    """The stays as guests of a simulated fleet.

    rows       : STAY[n] by arrival; cars : CAR[m] to draw from, each as likely as the others
    departures : what is known of them: as the drivers told, or as they came to be; `auto`: as told, where any is

    Left out are stays that never ended (`leave_unknown`), whose energy no battery holds (`energy`) or no inlet takes in
    the time (`power`), and whose own state of charge leaves no room for it (`soc`).
    """
    impossible: Counter[str] = Counter()
    rows = _kept(rows, rows["leave_ns"] > 0, "leave_unknown", impossible)
    soh = population.cars(seed, rows["line"], np.zeros(rows.size, np.int64), how).soh_frac
    own = np.isfinite(rows["capacity_kwh"])
    soh = np.where(own, 1.0, soh)  # what a file calls usable is what is left
    stay_h = (rows["leave_ns"] - rows["arrive_ns"]) / HOUR_NS
    needs_kw, aboard_kwh = rows["energy_kwh"] / stay_h, rows["energy_kwh"] * ETA
    which, holds = _cars_of(rows, cars, aboard_kwh / soh, needs_kw, seed)
    capacity = np.where(own, rows["capacity_kwh"], cars["usable_kwh"][which])
    usable = capacity * soh
    soc, room = _arrival_soc(rows, aboard_kwh / usable, own, seed)
    powers = _inlets(rows, cars[which])
    power = np.where(own, needs_kw <= np.maximum(powers["ac_kw"], powers["dc_kw"]), which >= 0)
    fits = np.where(own, aboard_kwh <= usable, holds)
    keep = np.ones(rows.size, np.bool_)
    for reason, good in (("energy", fits), ("power", power), ("soc", room)):
        impossible[reason] += int((keep & ~good).sum())
        keep &= good
    told_ns = _told(rows, departures)
    guests = Guests(
        key=rows["line"], arrive_ns=rows["arrive_ns"], leave_ns=rows["leave_ns"], told_ns=told_ns,
        capacity_kwh=capacity, soh_frac=soh, soc_frac=soc, energy_kwh=aboard_kwh,
        wish_kwh=soc * usable + np.where(np.isfinite(rows["asked_kwh"]), rows["asked_kwh"] * ETA, aboard_kwh),
        needs_kw=needs_kw, ac_kw=powers["ac_kw"], phases=powers["phases"], dc_kw=powers["dc_kw"],
        plan=_plans(rows["line"], told_ns, seed, how),
    )  # fmt: skip
    return Joined(Guests._make(np.ascontiguousarray(column[keep]) for column in guests), +impossible)


def _kept(rows: Block, good: Block, reason: str, impossible: Counter[str]) -> Block:
    impossible[reason] += int((~good).sum())
    return rows[good]


def _cars_of(rows: Block, cars: Block, as_new_kwh: F8, needs_kw: F8, seed: int) -> tuple[I8, Block]:
    """A car for each stay, -1 where none fits, and whether any battery holds its energy.

    as_new_kwh : what comes aboard, over the battery's health: to be held by a window of a battery as new
    """
    drawn = population.uniform(seed, Draw.CAR, rows["line"], 0)
    window_kwh = cars["usable_kwh"] * (SOC_MAX_FRAC - SOC_MIN_FRAC)
    most_kw = np.maximum(cars["ac_kw"], cars["dc_kw"])
    which, holds = np.full(rows.size, -1), np.zeros(rows.size, np.bool_)
    for first in range(0, rows.size, CHUNK):
        part = slice(first, first + CHUNK)
        holding = as_new_kwh[part, np.newaxis] <= window_kwh
        fits = holding & (needs_kw[part, np.newaxis] <= most_kw)
        count = fits.sum(axis=1)
        place = np.cumsum(fits, axis=1) == ((drawn[part] * count).astype(np.int64) + 1)[:, np.newaxis]
        which[part] = np.where(count > 0, (place & fits).argmax(axis=1), -1)
        holds[part] = holding.any(axis=1)
    return which, holds


def _arrival_soc(rows: Block, share: F8, own: Block, seed: int) -> tuple[F8, Block]:
    """State of charge at arrival, and whether it leaves room for the energy. share : the energy, of the battery"""
    full = (rows["done_ns"] > 0) & (rows["done_ns"] < rows["leave_ns"] - DONE_NS)
    least = SOC_MIN_FRAC + share
    drawn = least + population.uniform(seed, Draw.LEAVE_SOC, rows["line"], 0) * (SOC_MAX_FRAC - least)
    soc = np.where(full, SOC_MAX_FRAC, drawn) - share
    given = rows["soc_frac"]
    # A car of ours takes what it has room for; one that the file knows is what the file says it is.
    soc = np.where(np.isfinite(given), np.where(own, given, np.minimum(given, SOC_MAX_FRAC - share)), soc)
    return np.clip(soc, 0.0, 1.0), (soc + share <= 1.0 + 1e-9) & (soc >= 0.0)


def _inlets(rows: Block, cars: Block) -> Block:
    """CAR[n]: what each car takes; a power that the file gives goes before the model's."""
    found = np.zeros(rows.size, CAR)
    given, own = np.isfinite(rows["power_kw"]), np.isfinite(rows["capacity_kwh"])
    # Nothing said of a car that is not ours: it takes what there is.
    own_kw = np.where(given, rows["power_kw"], 1e4)
    for name in ("ac_kw", "dc_kw"):
        capped = np.where(given, np.minimum(cars[name], rows["power_kw"]), cars[name])
        found[name] = np.where(own, own_kw, capped)
    found["phases"] = np.where(own, np.where(own_kw > 7.5, 3, 1), np.maximum(cars["phases"], 1))
    return found


def _told(rows: Block, departures: Departures) -> I8:
    told: I8 = rows["told_leave_ns"]
    known = departures == "known" or (departures == "auto" and not (told > 0).any())
    return np.where(known, rows["leave_ns"], told)


def _plans(keys: I8, told_ns: I8, seed: int, how: Behaviour) -> I8:
    """Plan kinds; who says no departure is charged at once, for there is nothing to spread it over."""
    kinds = population.plan_kinds(seed, keys, 0 * keys, how)
    return np.where((kinds == PlanKind.EVEN) & (told_ns == 0), int(PlanKind.IMMEDIATE), kinds)
