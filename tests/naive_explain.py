"""Slow twin of `droop.explain`: one vehicle in words of one rule at a time, the fleet by bisection. Imports nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Vehicle:
    """One row of the split, and what stands behind its bounds."""

    plan: float
    up: float
    down: float
    lo: float
    hi: float
    own_lo: float
    own_hi: float
    rated_lo: float
    rated_hi: float
    price: float = 0.0

    def free(self, lam: float) -> float:
        """Where lam draws it, bounds aside."""
        if lam > self.price:
            return self.plan + self.up * (lam - self.price)
        if lam < -self.price:
            return self.plan - self.down * (-lam - self.price)
        return self.plan

    def power(self, lam: float) -> float:
        """What it gives."""
        return sorted((self.lo, self.free(lam), self.hi))[1]

    def held_at(self, lam: float) -> str:
        """The bound that keeps it from where lam draws it; one without room keeps it although no slope says so."""
        if self.free(lam) > self.hi or (lam > self.price and self.plan >= self.hi):
            return "ceiling"
        if self.free(lam) < self.lo or (lam < -self.price and self.plan <= self.lo):
            return "floor"
        return ""

    def without(self, bound: str) -> Vehicle:
        """The same vehicle with one bound lifted to the next behind it; its own bound takes the slope along."""
        other = Vehicle(**vars(self))
        if bound == "ceiling":
            if self.own_hi > self.hi:
                other.hi = self.own_hi
            else:
                other.hi = max(self.hi, self.rated_hi)
                room = self.own_hi - self.plan
                other.up = max((other.hi - self.plan) * (self.up / room if room > 1e-6 else 1.0), 1e-6)
        elif self.own_lo < self.lo:
            other.lo = self.own_lo
        else:
            other.lo = min(self.lo, self.rated_lo)
            room = self.plan - self.own_lo
            other.down = max((self.plan - other.lo) * (self.down / room if room > 1e-6 else 1.0), 1e-6)
        return other


def solved(fleet: Sequence[Vehicle], request: float) -> float:
    """The multiplier by bisection."""
    a, b = -10.01 - max(v.price for v in fleet), 10.01 + max(v.price for v in fleet)
    if request >= math.fsum(v.hi for v in fleet):
        return b
    if request <= math.fsum(v.lo for v in fleet):
        return a
    for _ in range(200):
        middle = 0.5 * (a + b)
        if math.fsum(v.power(middle) for v in fleet) < request:
            a = middle
        else:
            b = middle
    return 0.5 * (a + b)
