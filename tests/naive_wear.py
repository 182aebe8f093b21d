"""Slow twins of what wears a battery: written from the standard and the published laws, nothing of ours imported.

Rainflow from ASTM E1049-85, 5.4.4; the laws from rulebook 9.3, carried on by virtual time, step after step.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence


def turning_points(history: Sequence[float], threshold: float = 0.0) -> list[float]:
    """Start, every extreme that was left again by more than the threshold, and the last extreme.

    Two passes over the whole history: from each extreme, look ahead for the next reversal of size.
    """
    start = history[0]
    # Nothing is a reversal before the history has left its start by more than the threshold.
    k = next((i for i, x in enumerate(history) if abs(x - start) > threshold), None)
    if k is None:
        return [start]
    points = [start]
    rising = history[k] > start
    while True:
        extreme = history[k]
        left = None
        for i in range(k, len(history)):
            away = extreme - history[i] if rising else history[i] - extreme
            if away < 0:
                extreme = history[i]
            elif away > threshold:
                left = i
                break
        points.append(extreme)
        if left is None:
            return points
        k, rising = left, not rising


def rainflow(points: Sequence[float]) -> list[tuple[float, float, float]]:
    """(range, mean, count) by the rules of 5.4.4, on lists, with no limit to what is kept."""
    kept: list[float] = []
    found = []
    for point in points:
        kept.append(point)
        while len(kept) >= 3:
            x, y = abs(kept[-1] - kept[-2]), abs(kept[-2] - kept[-3])
            if x < y:
                break
            a, b = kept[-3], kept[-2]
            if len(kept) == 3:
                found.append((y, (a + b) / 2, 0.5))
                kept = kept[1:]
            else:
                found.append((y, (a + b) / 2, 1.0))
                kept = [*kept[:-3], kept[-1]]
    found += [(abs(b - a), (a + b) / 2, 0.5) for a, b in itertools.pairwise(kept)]
    return [entry for entry in found if entry[0] > 0]


def count(history: Sequence[float], threshold: float = 0.0) -> list[tuple[float, float, float]]:
    return rainflow(turning_points(history, threshold))


def table(cycles: Sequence[tuple[float, float, float]], digits: int = 9) -> dict[tuple[float, float], float]:
    """Counts by range and mean: two half cycles of one shape are one full cycle."""
    counts: dict[tuple[float, float], float] = defaultdict(float)
    for size, mean, number in cycles:
        counts[round(size, digits), round(mean, digits)] += number
    return dict(counts)


# ---- ageing ------------------------------------------------------------------------------------------------


def onwards(loss: float, k: float, exponent: float, stress: float) -> float:
    """Loss after `stress` more at the rate k: find the virtual stress that would have led here, go on from it."""
    if k == 0.0:
        return loss
    virtual = (loss / k) ** (1.0 / exponent)
    return k * (virtual + stress) ** exponent


def lfp_calendar_k(soc: float, temp_c: float) -> float:
    k_t = 1.2571e-5 * math.exp(-17126 / 8.314462618 * (1 / (temp_c + 273.15) - 1 / 298.15))
    return k_t * (2.8575 * (soc - 0.5) ** 3 + 0.60225)


def lfp_cycle_k(c_rate: float, depth: float) -> float:
    return (0.0630 * c_rate + 0.0971) * (4.0253 * (depth - 0.6) ** 3 + 1.0923) / 100


def nmc_calendar_k(volts: float, temp_c: float) -> float:
    return max(7.543 * volts - 23.75, 0.0) * 1e6 * math.exp(-6976 / (temp_c + 273.15))


def nmc_cycle_k(volts: float, depth: float) -> float:
    return 7.348e-3 * (volts - 3.667) ** 2 + 7.6e-4 + 4.081e-3 * depth


def xu_stress(depth: float, soc: float, temp_c: float, cycles: float, seconds: float) -> float:
    s_soc = math.exp(1.04 * (soc - 0.5))
    s_t = math.exp(6.93e-2 * (temp_c - 25) * 298.15 / (273.15 + temp_c))
    s_depth = 1 / (1.40e5 * depth**-0.501 - 1.23e5) if depth > 0 else 0.0
    return (s_depth * cycles + 4.14e-10 * seconds) * s_soc * s_t


def xu_loss(f: float) -> float:
    return 1 - 0.0575 * math.exp(-121 * f) - (1 - 0.0575) * math.exp(-f)


# ---- efficiency --------------------------------------------------------------------------------------------


def loss_form(p: float, standing: float, quadratic: float) -> float:
    """eta of a power per unit of the rating."""
    return p / (p + standing + quadratic * p * p) if p > 0 else 0.0


def battery_kw(grid_kw: float, eta_c: float, eta_d: float, rating: float, standing: float, quadratic: float) -> float:
    if grid_kw == 0:
        return 0.0
    eta = loss_form(abs(grid_kw) / rating, standing, quadratic)
    return grid_kw / (eta * eta_d) if grid_kw > 0 else grid_kw * eta * eta_c
