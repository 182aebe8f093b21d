"""Slow, obvious twins of the fleet's curves: one vehicle, one knot, one subset of vehicles at a time.

Written from the kernel notes (section 4) and the definitions, not from the kernels; nothing of ours is imported
but the other twins.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from tests import naive

Rows = Sequence[tuple[float, float, float, float, float]]  # t, s_up, s_dn, lo, hi of each vehicle


def power(lam: float, row: tuple[float, float, float, float, float]) -> float:
    t, up, down, lo, hi = row
    return naive.dealt(lam, t, up, down, lo, hi)


def aggregate(knots: Sequence[float], rows: Rows) -> list[float]:
    """F at each knot, sums exact."""
    return [math.fsum(power(lam, row) for row in rows) for lam in knots]


def straight(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Straight lines between points, flat outside."""
    if x <= xs[0]:
        return ys[0]
    for (x0, y0), (x1, y1) in itertools.pairwise(zip(xs, ys, strict=True)):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return ys[-1]


def shares(knots: Sequence[float], curves: Sequence[Sequence[float]], request: float) -> tuple[list[float], float]:
    """Shares and what is unserved: bisection on the multiplier of the straight lines' sum."""
    least, most = math.fsum(c[0] for c in curves), math.fsum(c[-1] for c in curves)
    given = naive.clip(request, least, most)
    a, b = knots[0], knots[-1]
    for _ in range(200):
        middle = 0.5 * (a + b)
        if math.fsum(straight(middle, knots, c) for c in curves) < given:
            a = middle
        else:
            b = middle
    return [straight(b, knots, c) for c in curves], request - given


def local_points(request: Sequence[float], rows: Rows) -> list[list[float]]:
    """Every vehicle's optimum at every request: [n][k]."""
    t, up, down, lo, hi = zip(*rows, strict=True)
    points = [naive.split(kw, t, up, down, lo, hi) for kw in request]
    return [list(p) for p in zip(*points, strict=True)]


def departures(
    places: Sequence[float], hz: Sequence[float], points: Sequence[Sequence[float]],
    product: tuple[Sequence[float], Sequence[float]], rows: Rows,
) -> tuple[list[float], float, float]:  # fmt: skip
    """Largest departure of each vehicle, root mean square, and the largest error of the sum, over some frequencies."""
    worst, squares, miss = [0.0] * len(rows), 0.0, 0.0
    least, most = math.fsum(row[3] for row in rows), math.fsum(row[4] for row in rows)
    for f in places:
        asked = straight(f, *product)
        best = [p[0] for p in local_points([asked], rows)]
        local = [straight(f, hz, p) for p in points]
        off = [abs(x - y) for x, y in zip(local, best, strict=True)]
        worst = [max(x, y) for x, y in zip(worst, off, strict=True)]
        squares += math.fsum(x * x for x in off)
        miss = max(miss, abs(math.fsum(local) - naive.clip(asked, least, most)))
    return worst, math.sqrt(squares / (len(rows) * len(places))), miss


def fewest_told(
    sent: Sequence[Sequence[float]], request: Sequence[float], lo: Sequence[float], hi: Sequence[float],
    tolerance: float,
) -> int:  # fmt: skip
    """Fewest vehicles that must hear: every subset tried, smallest first. Whoever is out of bounds is in it."""
    n = len(sent)
    must = {i for i in range(n) if any(not lo[i] <= p <= hi[i] for p in sent[i])}
    free = [i for i in range(n) if i not in must]
    targets = [naive.clip(r, math.fsum(lo), math.fsum(hi)) for r in request]

    def enough(told: set[int]) -> bool:
        for j, target in enumerate(targets):
            fixed = math.fsum(sent[i][j] for i in range(n) if i not in told)
            least = fixed + math.fsum(lo[i] for i in told)
            most = fixed + math.fsum(hi[i] for i in told)
            if not least - tolerance - 1e-9 <= target <= most + tolerance + 1e-9:
                return False
        return True

    for size in range(len(free) + 1):
        for more in itertools.combinations(free, size):
            if enough(must | set(more)):
                return len(must) + size
    raise AssertionError("everybody together is always enough")
