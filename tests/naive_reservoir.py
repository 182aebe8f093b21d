"""Slow twins of the energy rules of limited reservoirs (rulebook 2.2, 3.6, 4.2); nothing of ours is in here.

They keep every second they ever saw and look all of them up again for each answer.
"""

from __future__ import annotations

import math

ALERTS = ((0.05, 900), (0.1, 300), (0.2, 0))


class Nordic:
    """FCR-N (`n`), FCR-D up (`up`) or down (`down`) of capacity C MW in a reservoir, second by second.

    Thresholds are states of charge over the usable energy: lower = C m / 60 / E, upper = 1 - that.
    """

    def __init__(self, kind: str, capacity: float) -> None:
        self.kind, self.c = kind, capacity
        self.k = 0.34 if kind == "n" else 0.20
        self.nem_m = (30.0, 57.5) if kind == "n" else (20.0, 20.0)
        self.f0 = {"n": 50.0, "up": 49.9, "down": 50.1}[kind]
        self.nem = self.aem = 0
        self.allowed: list[float] = []
        self.reference: list[float] = []

    def saturated(self, hz: float) -> float:
        if self.kind == "n":
            return min(max(hz, 49.9), 50.1)
        return min(hz, 49.9) if self.kind == "up" else max(hz, 50.1)

    def side(self, was: int, soc: float, energy: float, on_m: float, off_m: float) -> int:
        def value(m: float) -> float:
            return self.c * m / 60.0 / energy

        low = self.kind != "down" and soc < value(off_m if was == -1 else on_m)
        high = self.kind != "up" and soc > 1.0 - value(off_m if was == 1 else on_m)
        if low and high:
            return -1 if soc < 0.5 else (1 if soc > 0.5 else 0)
        return -1 if low else (1 if high else 0)

    def second(self, hz: float, soc: float, energy: float) -> None:
        """One second passes at this frequency, state of charge (of the usable energy) and usable energy [MWh]."""
        self.nem = self.side(self.nem, soc, energy, *self.nem_m)
        self.aem = self.side(self.aem, soc, energy, 5.0, 10.0)
        self.allowed.append(self.nem if 49.9 < hz < 50.1 else 0)
        self.reference.append(self.saturated(hz) if self.aem else self.f0)

    def nem_mw(self) -> float:
        last = self.allowed[-300:]
        return self.k * self.c * sum(last) / 300.0

    def reference_hz(self) -> float:
        last = self.reference[-300:]
        return (sum(last) + self.f0 * (300 - len(last))) / 300.0

    def power_mw(self, hz: float) -> float:
        """P_FCR + k C NEM within the limits of each product."""
        full = 0.1 if self.kind == "n" else 0.4
        p = self.c / full * (self.reference_hz() - self.saturated(hz))
        if not any(r != self.f0 for r in self.reference[-300:]):
            p = min(max(p, -self.c), self.c)
        total, most = p + self.nem_mw(), self.k * self.c
        if self.kind == "n":
            return min(max(total, -self.c - most), self.c + most)
        if self.kind == "up":
            return min(max(total, -most), self.c)
        return max(min(total, most), -self.c)


class Continental:
    """CE FCR of C with the reserve mode; alert state by looking back over everything."""

    def __init__(self, capacity: float, fat_s: int = 300) -> None:
        self.c, self.fat_s = capacity, fat_s
        self.devs: list[float] = []
        self.on = False
        self.w = 0.0

    def alert(self) -> bool:
        for beyond, for_s in ALERTS:
            beyond_s = -1
            for dev in reversed(self.devs):
                if abs(dev) < beyond - 1e-9:
                    break
                beyond_s += 1
            if beyond_s >= for_s:
                return True
        return False

    def second(self, hz: float, up_mwh: float, down_mwh: float) -> None:
        self.devs.append(hz - 50.0)
        soc_energy = self.c * self.fat_s / 3600.0
        outside = up_mwh < soc_energy or down_mwh < soc_energy
        alert = self.alert()
        if self.on:
            self.on = alert or outside
        else:
            self.on = alert and outside
        self.w = min(self.w + 1.0 / self.fat_s, 1.0) if self.on else max(self.w - 1.0 / self.fat_s, 0.0)

    def reaction_hz(self) -> float:
        last = self.devs[-self.fat_s :]
        dev = self.devs[-1]
        return (1.0 - self.w) * dev + self.w * (dev - math.fsum(last) / len(last))

    def power(self) -> float:
        reaction = self.reaction_hz()
        if abs(reaction) < 0.010:
            return 0.0
        return self.c * min(max(-reaction / 0.2, -1.0), 1.0)


def soe_requirement(rev: float, delivered: list[float], recovery: float = 0.2) -> list[float]:
    """NESO's table, settlement periods numbered from 1 as in the terms."""
    req, erav = {1: rev}, {}
    for k in range(1, len(delivered) + 1):
        if k < 4:
            erav[k] = 0.0
        else:
            owed = rev - req[k - 3] - sum(erav[j] for j in range(k - 3, k))
            erav[k] = min(recovery * rev, max(0.0, owed))
        req[k + 1] = max(0.0, min(rev, req[k] - delivered[k - 1] + erav[k]))
    return [req[k] for k in sorted(req)]
