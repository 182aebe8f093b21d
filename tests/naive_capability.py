"""Slow twin of what a fleet can sustain: one vehicle at a time, from the rules (rulebook 1.5, 9.1, 10).

Nothing of ours is imported but the naive vehicle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.naive import H_NS, PLUGGED, Car, followed

CHARGE_NOW, NO_DISCHARGE, LEAVE_ALONE = 1, 2, 3


@dataclass
class Box:
    """What may flow out of and into everything below, both magnitudes."""

    out: float
    into: float
    rows: list[int] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)


def relied_on(car: Car, now_ns: int, hours: float, dead_s: float, within_s: float) -> bool:
    """Whether a vehicle counts at all."""
    wish = car.wish if now_ns < car.wish_until_ns else 0
    leaves = now_ns < car.depart_ns < now_ns + hours * H_NS
    return (
        car.state == PLUGGED
        and car.refused_ns == 0
        and wish not in (CHARGE_NOW, LEAVE_ALONE)
        and not leaves
        and dead_s <= within_s
    )


def held(car: Car, now_ns: int, hours: float) -> tuple[float, float]:
    """Power one vehicle holds, up and down."""
    wish = car.wish if now_ns < car.wish_until_ns else 0
    up_share, down_share = followed(car.gain_up)[0], followed(car.gain_dn)[0]
    budget = max(car.budget_kwh - car.moved_kwh, 0.0)
    floors = [car.soc_floor_kwh, car.dod_floor_kwh]
    if car.depart_ns > 0:
        wanted = min(car.depart_kwh, car.ceiling_kwh)
        later_h = max((car.depart_ns - now_ns) / H_NS - hours, 0.0)
        floors.append(wanted - later_h * car.charge_max_kw * down_share * car.eta_charge)
    out_kwh = min(max(car.energy_kwh - max(floors), 0.0), budget)
    in_kwh = min(max(car.ceiling_kwh - car.energy_kwh, 0.0), budget)
    up = 0.0 if wish == NO_DISCHARGE else min(car.discharge_max_kw * up_share, out_kwh * car.eta_discharge / hours)
    down = min(car.charge_max_kw * down_share, in_kwh / car.eta_charge / hours)
    return (up if up >= car.min_kw else 0.0), (down if down >= car.min_kw else 0.0)


def sustained(
    cars: Sequence[Car], now_ns: int, hours: float, dead_s: Sequence[float] | None = None, within_s: float = math.inf
) -> list[tuple[float, float]]:
    """Each vehicle's share, up and down."""
    dead = dead_s or [0.0] * len(cars)
    return [
        held(car, now_ns, hours) if relied_on(car, now_ns, hours, slow, within_s) else (0.0, 0.0)
        for car, slow in zip(cars, dead, strict=True)
    ]


def below(box: Box, each: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """What everything in a box may count with."""
    parts = [each[row] for row in box.rows] + [below(inner, each) for inner in box.boxes]
    return min(math.fsum(p[0] for p in parts), box.out), min(math.fsum(p[1] for p in parts), box.into)


def rated(car: Car, now_ns: int) -> tuple[float, float]:
    """Power for no time at all: what is left of the ratings."""
    wish = car.wish if now_ns < car.wish_until_ns else 0
    up_share, down_share = followed(car.gain_up)[0], followed(car.gain_dn)[0]
    return (0.0 if wish == NO_DISCHARGE else car.discharge_max_kw * up_share), car.charge_max_kw * down_share


def delivers(power: float, ratings: Sequence[float], energies: Sequence[float], hours: float) -> bool:
    """Whether a power lasts, with everyone at the same share of its rating until it is empty."""
    if power <= 0.0:
        return True
    left = sorted(((e / r, r) for r, e in zip(ratings, energies, strict=True) if r > 0.0), reverse=True)
    at_h = done_h = 0.0
    while at_h < hours:
        here = math.fsum(r for _, r in left)
        if here < power * (1 - 1e-9):
            return False
        # The next to run empty does so after this much more time at full rating.
        at_h += (left[-1][0] - done_h) * here / power
        done_h = left.pop()[0]
    return True


def together(ratings: Sequence[float], energies: Sequence[float], hours: float) -> float:
    """The largest power that lasts, by halving."""
    low, high = 0.0, math.fsum(ratings)
    if delivers(high, ratings, energies, hours):
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if delivers(middle, ratings, energies, hours) else (low, middle)
    return low


def fleet_holds(
    each: Sequence[tuple[float, float]], cars: Sequence[Car], now_ns: int, hours: float
) -> tuple[float, float]:
    """Up and down of a fleet whose vehicles hold `each` by themselves."""
    both = []
    for way in (0, 1):
        who = [k for k in range(len(cars)) if each[k][way] > 0.0]
        both.append(together([rated(cars[k], now_ns)[way] for k in who], [each[k][way] * hours for k in who], hours))
    return both[0], both[1]
