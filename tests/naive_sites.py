"""Slow, obvious twin of `droop.sites`: one node and one vehicle at a time, roots by brentq, float64.

Written from the rules (kernel notes 3, 10), not from the kernels; nothing of ours is imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from scipy.optimize import brentq

FAR = 10.01


@dataclass
class Car:
    t: float
    up: float
    dn: float
    lo: float
    hi: float
    least: float
    most: float
    may: bool = True

    def at(self, lam: float) -> float:
        return min(max(self.t + (self.up if lam >= 0 else self.dn) * lam, self.lo), self.hi)


@dataclass
class Box:
    """A node: its cap on the vehicles' sum, its own vehicles and the nodes below it."""

    upper: float
    lower: float
    own: list[Car] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    shed: float = 0.0

    def cars(self) -> list[Car]:
        return self.own + [car for box in self.boxes for car in box.cars()]

    def lo(self) -> float:
        return math.fsum(car.lo for car in self.cars())

    def hi(self) -> float:
        return math.fsum(car.hi for car in self.cars())

    def over(self) -> float:
        return max(self.lo() - self.upper, 0.0) + min(self.hi() - self.lower, 0.0)


def window(
    export: float, imported: float, local: float, age_ns: int | None, stale_ns: int, worst: tuple[float, float]
) -> tuple[float, float]:  # fmt: skip
    """(U, L) of a node whose meter said `local` some time ago, or never (None)."""
    least, most = worst if age_ns is None or age_ns > stale_ns else (local, local)
    upper, lower = export - most, -(imported + least)
    if lower > upper:
        upper = lower = sorted((upper, 0.0, lower))[1]
    return upper, lower


def fold(box: Box) -> None:
    """Leaf to root."""
    for below in box.boxes:
        fold(below)
    cars = box.cars()
    if box.lo() > box.upper:
        pin(box, -1)
    elif box.hi() < box.lower:
        pin(box, 1)
    else:
        ends = [(reach(cars, box.lower) if box.lo() < box.lower else None)]
        ends.append(reach(cars, box.upper) if box.hi() > box.upper else None)
        powers = [[car.at(lam) if lam is not None else None for car in cars] for lam in ends]
        for car, low, high in zip(cars, *powers, strict=True):
            car.lo = car.lo if low is None else low
            car.hi = car.hi if high is None else high


def reach(cars: list[Car], power: float) -> float:
    def miss(lam: float) -> float:
        return math.fsum(car.at(lam) for car in cars) - power

    if miss(-FAR) >= 0:
        return -FAR
    if miss(FAR) <= 0:
        return FAR
    return float(brentq(miss, -FAR, FAR, xtol=1e-15, rtol=1e-15, maxiter=500))


def pin(box: Box, sign: int) -> None:
    """Everybody at the nearer bound; then past it, first to standing still, then to the limit."""
    for car in box.cars():
        car.lo = car.hi = car.lo if sign < 0 else car.hi
    for stop in (True, False):
        missing = max(0.0, (box.lo() - box.upper) if sign < 0 else (box.lower - box.lo()))
        box.shed += take(box, missing, stop, sign, top=True)


def ways(box: Box, stop: bool, sign: int) -> list[float]:
    """What each of a node's own vehicles could give."""
    out = []
    for car in box.own:
        power = car.lo
        goal = car.least if sign < 0 else car.most
        if stop:
            goal = max(goal, 0.0) if power > 0 > sign else min(goal, 0.0) if power < 0 < sign else power
        out.append(max(0.0, (goal - power) * sign) if car.may else 0.0)
    return out


def spare(box: Box, stop: bool, sign: int, top: bool) -> float:
    total = sum(ways(box, stop, sign)) + sum(spare(below, stop, sign, False) for below in box.boxes)
    if top:
        return total
    # Its vehicles may not be pinned, so either side's sum is looked at.
    cap = box.lo() - box.lower if sign < 0 else box.upper - box.hi()
    return min(total, max(cap, 0.0))


def take(box: Box, wanted: float, stop: bool, sign: int, top: bool) -> float:
    own = ways(box, stop, sign)
    rooms = [spare(below, stop, sign, False) for below in box.boxes]
    total = sum(own) + sum(rooms)
    if total == 0 or wanted == 0:
        return 0.0
    share = min(1.0, wanted / total)
    for car, way in zip(box.own, own, strict=True):
        if way > 0:
            car.lo = car.hi = car.lo + sign * way * share
    for below, room in zip(box.boxes, rooms, strict=True):
        take(below, room * share, stop, sign, False)
    return total * share
