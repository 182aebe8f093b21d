"""Slow, obvious twins of the least power's kernels: plain Python, one vehicle and one number at a time.

Written from the rules; nothing of ours is imported. A vehicle is off, or gives or takes at least `least`.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

BUCKETS, REPAIRS, SEGMENTS = 128, 6, 8


@dataclass
class Car:
    least: float
    free_lo: float
    free_hi: float
    mode: int = 0
    owed: float = 0.0
    plan: float = 0.0
    since_ns: int = 0
    fixed: bool = False
    lo: float = 0.0
    hi: float = 0.0
    power: float = 0.0
    up: float = 0.0
    down: float = 0.0

    def range(self, mode: int) -> tuple[float, float] | None:
        """Powers open to it in a mode; None where it cannot be in it."""
        if mode == 1:
            return (self.least, self.free_hi) if self.free_hi >= self.least else None
        if mode == -1:
            return (self.free_lo, min(self.free_hi, -self.least)) if self.free_lo <= -self.least else None
        must = self.free_hi < 0 and self.free_lo <= -self.least
        return None if must else (0.0, 0.0)

    @property
    def steps(self) -> bool:
        return self.least > 0 and not self.fixed

    def modes(self) -> list[int]:
        return [mode for mode in (-1, 0, 1) if self.range(mode) is not None]

    def put(self, mode: int, now_ns: int) -> None:
        self.mode, self.since_ns = mode, now_ns
        self.lo, self.hi = self.range(mode) or (0.0, 0.0)


def settle(cars: Sequence[Car], now_ns: int) -> tuple[float, float, float, float, int]:
    """Bounds by mode; sums as set, sums of what could be, and how many modes had become impossible."""
    changed, far_lo, far_hi = 0, 0.0, 0.0
    for car in cars:
        if not car.steps:
            car.lo, car.hi = car.free_lo, car.free_hi
            far_lo, far_hi = far_lo + car.free_lo, far_hi + car.free_hi
            continue
        if car.range(car.mode) is None:
            car.put(-1 if 0 not in car.modes() else 0, now_ns)
            changed += 1
        car.lo, car.hi = car.range(car.mode) or (0.0, 0.0)
        far_lo += min((car.range(mode) or (0.0, 0.0))[0] for mode in car.modes())
        far_hi += max((car.range(mode) or (0.0, 0.0))[1] for mode in car.modes())
    return sum(car.lo for car in cars), sum(car.hi for car in cars), far_lo, far_hi, changed


def away(request: float, lo: float, hi: float) -> float:
    return max(request - hi, lo - request, 0.0)


def best_possible(cars: Sequence[Car], request: float) -> float:
    """Distance of the request from the nearest sum that any choice of modes can give: every choice is tried."""
    choices = [[c.range(m) for m in c.modes()] if c.steps else [(c.free_lo, c.free_hi)] for c in cars]
    return min(away(request, sum(r[0] for r in pick), sum(r[1] for r in pick)) for pick in itertools.product(*choices))


class Chooser:
    """The rule by which modes change; `start` is the row at which ties begin."""

    def __init__(self, cars: Sequence[Car], dwell_ns: int, most_kwh: float, start: int = 0):
        self.cars, self.dwell_ns, self.most_kwh, self.start = cars, dwell_ns, most_kwh, start

    @property
    def span(self) -> tuple[float, float]:
        return sum(car.lo for car in self.cars), sum(car.hi for car in self.cars)

    def turned(self) -> list[int]:
        n = len(self.cars)
        return [(self.start + k) % n for k in range(n)]

    def rested(self, car: Car, now_ns: int) -> bool:
        return now_ns - car.since_ns >= self.dwell_ns

    def rank(self, car: Car, side: int) -> int:
        """Step of what it would be owed after a dwell at rest, in the direction asked."""
        due = side * (car.owed + car.plan * self.dwell_ns / 3.6e12)
        return min(max(int((due / self.most_kwh + 1) / 2 * BUCKETS), 0), BUCKETS - 1)

    def switch(self, request: float, margin: float, now_ns: int) -> tuple[int, float]:
        changed, (lo, hi) = 0, self.span
        side = 1 if request > hi else -1
        for rested, before in itertools.product((True, False), (-side, 0)):
            if away(request, *self.span) > 0:
                changed += self.take(request, margin, side, before, rested, now_ns)
        changed += self.repair(request, now_ns)
        lo, hi = self.span
        return changed, request - min(max(request, lo), hi)

    def take(self, request: float, margin: float, side: int, before: int, rested: bool, now_ns: int) -> int:
        """Those owed most first; of the last step needed, in turn; then whoever is left."""
        to = before + side
        able = [
            i for i, car in enumerate(self.cars)
            if car.steps and car.mode == before and self.rested(car, now_ns) == rested and to in car.modes()
        ]  # fmt: skip
        ranks = {i: self.rank(self.cars[i], side) for i in able}
        lo, hi = self.span
        needed = request + margin - hi if side > 0 else lo - request + margin
        last = BUCKETS - 1
        while last > 0 and sum(self.gain(i, to, side) for i in able if ranks[i] >= last) < needed:
            last -= 1
        changed = 0
        tests: list[Callable[[int], bool]] = [lambda r: r > last, lambda r: r == last, lambda r: r < last]
        for part, wanted in enumerate(tests):
            for i in self.turned():
                lo, hi = self.span
                if (hi >= request + margin) if side > 0 else (lo <= request - margin):
                    return changed
                if i not in ranks or not wanted(ranks[i]) or self.cars[i].mode != before:
                    continue
                new_lo, new_hi = self.after(i, to)
                if new_lo > request if side > 0 else new_hi < request:
                    continue
                self.cars[i].put(to, now_ns)
                changed += 1
                if part == 1:
                    self.start = i + 1
        return changed

    def gain(self, i: int, to: int, side: int) -> float:
        lo, hi = self.cars[i].range(to) or (0.0, 0.0)
        return hi - self.cars[i].hi if side > 0 else self.cars[i].lo - lo

    def after(self, i: int, to: int) -> tuple[float, float]:
        """The fleet's range if one vehicle changed."""
        (lo, hi), car = self.span, self.cars[i]
        new_lo, new_hi = car.range(to) or (0.0, 0.0)
        return lo + new_lo - car.lo, hi + new_hi - car.hi

    def repair(self, request: float, now_ns: int) -> int:
        """The nearest single change again and again, nobody twice; keep the shortest row of changes that is nearest."""
        past: list[tuple[int, int, int]] = []
        best, kept = away(request, *self.span), 0
        while best > 0 and len(past) < REPAIRS:
            options = [
                (away(request, *self.after(i, to)), not self.rested(self.cars[i], now_ns), place, to, i)
                for place, i in enumerate(self.turned())
                for to in self.cars[i].modes()
                if self.cars[i].steps and to != self.cars[i].mode and i not in [p[0] for p in past]
            ]
            if not options:
                break
            distance, _, _, to, i = min(options)
            past.append((i, self.cars[i].mode, self.cars[i].since_ns))
            self.cars[i].put(to, now_ns)
            self.start = i + 1
            if distance < best:
                best, kept = distance, len(past)
        for i, mode, since_ns in reversed(past[kept:]):
            self.cars[i].put(mode, since_ns)
        return kept


def narrow(x: float) -> float:
    """What a single-precision column keeps of a number."""
    return struct.unpack("f", struct.pack("f", x))[0]  # type: ignore[no-any-return]


class Rota(Chooser):
    """The rule by which vehicles take turns; one call a segment. Energies owed by segment are as last accounted."""

    def __init__(
        self, cars: Sequence[Car], dwell_ns: int, most_kwh: float, start: int, swap_kwh: float, far_kwh: float,
        forget_s: float, swap_frac: float,
    ):  # fmt: skip
        super().__init__(cars, dwell_ns, most_kwh, start)
        self.swap_kwh, self.far_kwh, self.forget_s, self.swap_frac = swap_kwh, far_kwh, forget_s, swap_frac
        self.owed = [(0.0, 0)] * SEGMENTS

    def rows(self, segment: int) -> list[int]:
        n = len(self.cars)
        return list(range(segment * n // SEGMENTS, (segment + 1) * n // SEGMENTS))

    def account(self, segment: int, lam: float, elapsed_s: float) -> None:
        """What each wanted of the last while and did not get; the mean of all fades, nothing grows without end."""
        total, count = sum(kwh for kwh, _ in self.owed), sum(rows for _, rows in self.owed)
        faded = total / count * min(1.0, elapsed_s / self.forget_s) if count else 0.0
        mine = [self.cars[i] for i in self.rows(segment) if self.cars[i].least > 0]
        for car in mine:
            wanted = min(max(car.plan + (car.up if lam >= 0 else car.down) * lam, car.free_lo), car.free_hi)
            owed = car.owed + (wanted - car.power) * elapsed_s / 3600 - faded
            car.owed = narrow(min(max(owed, -self.most_kwh), self.most_kwh))
        self.owed[segment] = (sum(car.owed for car in mine), len(mine))

    def serves(self, request: float, margin: float, moves: Sequence[tuple[int, int]]) -> bool:
        """Whether the request lies in the range, by the margin, once these vehicles are in these modes."""
        lo, hi = self.span
        for i, to in moves:
            new_lo, new_hi = self.cars[i].range(to) or (0.0, 0.0)
            lo, hi = lo + new_lo - self.cars[i].lo, hi + new_hi - self.cars[i].hi
        return lo <= request - margin and hi >= request + margin

    def rotate(self, segment: int, request: float, margin: float, lam: float, elapsed_s: float, now_ns: int) -> int:
        self.account(segment, lam, elapsed_s)
        rows = self.rows(segment)
        most, changed = max(int(self.swap_frac * len(rows)), 2), 0
        best: dict[int, int] = {}  # who waits for a partner, by the direction he wants
        for k in range(len(rows)):
            i = rows[(k + self.start) % len(rows)]
            if changed >= most:
                break
            if self.cars[i].steps and self.rested(self.cars[i], now_ns):
                changed += self.turn(i, request, margin, now_ns, best)
        self.start += changed
        return changed

    def turn(self, i: int, request: float, margin: float, now_ns: int, best: dict[int, int]) -> int:
        car = self.cars[i]
        for side in (-1, 1):
            to = car.mode + side
            if to not in car.modes():
                continue
            # Against the fleet's direction only for much, and back from there as soon as it is not owed it.
            if to * request < -margin and side * car.owed < self.far_kwh:
                continue
            enough = -self.swap_kwh if car.mode * request < -margin else self.swap_kwh
            if side * car.owed > enough and self.serves(request, margin, [(i, to)]):
                car.put(to, now_ns)
                # Who has just changed is nobody's partner.
                if best.get(-side) == i:
                    del best[-side]
                return 1
            other = best.get(side)
            if other is not None and side * car.owed <= side * self.cars[other].owed:
                continue
            best[side] = i
            if len(best) < 2:
                continue
            riser, faller = self.cars[best[1]], self.cars[best[-1]]
            moves = [(best[1], riser.mode + 1), (best[-1], faller.mode - 1)]
            if riser.owed - faller.owed > 2 * self.swap_kwh and self.serves(request, 0.0, moves):
                for j, mode in moves:
                    self.cars[j].put(mode, now_ns)
                best.clear()
                return 2
        return 0


def fewest_changes(cars: Sequence[Car], request: float) -> float:
    """Least number of vehicles in other modes with which some powers sum to the request; every choice is tried."""
    found = float("inf")
    for modes in itertools.product(*[c.modes() if c.steps else [c.mode] for c in cars]):
        ranges = [c.range(m) if c.steps else (c.free_lo, c.free_hi) for c, m in zip(cars, modes, strict=True)]
        if sum(r[0] for r in ranges if r) <= request <= sum(r[1] for r in ranges if r):
            found = min(found, sum(c.mode != m for c, m in zip(cars, modes, strict=True)))
    return found
