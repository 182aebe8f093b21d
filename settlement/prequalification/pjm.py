"""PJM regulation: three tests of 40 minutes of the signal, each scored by the product's own rule.

Manual 12: a resource qualifies with three scores of 0.75 or more. The length of a test and the signal played here, a
seeded one that is bounded and carries no energy over time, are from memory; the market's own signal is not public. A
recorded signal can be played as a plan of one's own.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from droop.products import Product
from settlement.prequalification import scored
from settlement.prequalification.figures import Figures
from settlement.prequalification.options import Options
from settlement.prequalification.plan import Part, Plan, PrequalificationError, hold
from settlement.prequalification.recording import Played
from settlement.prequalification.rows import Row, Rule

TESTS: Final = 3
LENGTH_S: Final = 2400.0
QUALIFIED: Final = 0.75
FAST_S: Final = 60.0
SLOW_S: Final = 600.0
SOURCE: Final = "PJM, Manual 12, 4.5"
SCORE: Final = Rule("qualification", "performance score of a test", "", "M", SOURCE)


def plan(product: Product, options: Options) -> Plan:
    """Three signals, one after the other."""
    if product.input != "signal":
        raise PrequalificationError(f"{product.id}: the test plays a signal, and the product answers the frequency")
    step_s, length_s = product.signal_s, options.hold(LENGTH_S)
    parts = []
    for k in range(TESTS):
        values = signal(length_s, step_s, options.seed + k)
        pieces = tuple(hold(float(value), step_s) for value in values)
        parts.append(Part(f"test {k + 1}", f"{length_s / 60:g} min of the signal", pieces))
    rate_hz = 1.0 / step_s
    return Plan(("pjm_test",), "PJM regulation: three tests", rate_hz, tuple(parts), "M", SOURCE, "signal")


def signal(length_s: float, step_s: float, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A seeded signal in -1..1: fast swings about a slow one, its slow mean taken out so that it carries no energy.

    returns float64[n]
    """
    count = max(round(length_s / step_s), 2)
    rng = np.random.default_rng(seed)
    values = np.zeros(count)
    for tau_s, size in ((FAST_S, 0.35), (SLOW_S, 0.35)):
        keep, level = float(np.exp(-step_s / tau_s)), 0.0
        shocks = rng.normal(0.0, size * np.sqrt(1.0 - keep**2), count)
        for k in range(count):
            level = keep * level + shocks[k]
            values[k] += level
    values -= values.mean()
    values[0] = values[-1] = 0.0
    return np.clip(values, -1.0, 1.0)


def verdict(product: Product, played: Played, sold_kw: float, options: Options) -> list[Row]:
    """One row a test."""
    del options
    least = Figures(product).number("score_min", QUALIFIED)
    return [scored.row(product, SCORE, part.name, cut, sold_kw, least) for part, cut in played]
