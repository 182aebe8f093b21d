"""Nordic FCR in the time domain: Requirements 1 to 4, endurance, and the reduction factors.

All powers are in units of the theoretical one (Pth: what is sold) and positive in the product's direction. Where a
requirement fails only in size, the capacity that would pass is K_red x Pth, K_red = min(K_ss, K_dyn), within the range
that the requirements allow: C = min(K_ss, K_dyn) x Pth.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from droop.products import Product
from settlement.prequalification.figures import Figures
from settlement.prequalification.nordic import JUDGED_S, REQUIREMENTS, upwards
from settlement.prequalification.options import Options
from settlement.prequalification.plan import Part
from settlement.prequalification.recording import Played, Trace
from settlement.prequalification.rows import ROUNDING, Row, Rule

SETTLED_S: Final = 60.0  # mean of the last minute: a public implementation's choice
STEADY: Final = (-0.05, 0.20)
BACK_SHARE: Final = 0.5
BEFORE_S: Final = 10.0
K_LEAST_N: Final = 0.9
K_LEAST_D: Final = 0.75
FALL_PU: Final = 0.01  # what meter and fleet may flicker while power must not fall

REQ_1: Final = Rule("Req. 1", "steady-state response against the theoretical one", "of Pth", "V", REQUIREMENTS)
REQ_2: Final = Rule("Req. 2", "activated power 7.5 s after the start of ramp 5", "of Pth", "V", REQUIREMENTS)
REQ_2_KEPT: Final = Rule(
    "Req. 2, kept", "power after 7.5 s never falls below that of 7.5 s", "of Pth", "V", REQUIREMENTS
)
REQ_3: Final = Rule("Req. 3", "energy in the 7.5 s from the start of ramp 5", "s x Pth", "V", REQUIREMENTS)
REQ_4: Final = Rule("Req. 4", "energy beyond the nadir's response while ramp 2 goes back", "s x Pth", "V", REQUIREMENTS)
ENDURANCE: Final = Rule("endurance", "response held to the end, least 10 s mean", "of Pth", "V", REQUIREMENTS)
K_RED: Final = Rule("K_red", "reduction factor min(K_ss, K_dyn)", "", "V", REQUIREMENTS)


class Limits(NamedTuple):
    """The figures that a product's file may set, with the requirements' own.

    reached_pu, energy_s      : Req. 2 and 3, at 7.5 s
    nadir_s, back_s, within_s : Req. 4: from the start of ramp 1, the most, over how long
    k_least                   : smallest K_red that is allowed
    """

    reached_pu: float = 0.86
    energy_s: float = 3.2
    nadir_s: float = 4.4
    back_s: float = 2.5
    within_s: float = 40.0
    k_least: float = 0.75


def limits_of(product: Product, k_least: float) -> Limits:
    """Raises PrequalificationError for a figure that is none."""
    own, figures = Limits(k_least=k_least), Figures(product)
    back = figures.within("deact")
    return Limits(
        figures.number("p75", own.reached_pu), figures.number("e75_s", own.energy_s),
        back.number("nadir_s", own.nadir_s), back.number("max_s", own.back_s),
        back.number("horizon_s", own.within_s), figures.number("k_red_min", own.k_least),
    )  # fmt: skip


class Found(NamedTuple):
    """Rows, and the largest share of Pth that would pass them."""

    rows: list[Row]
    k: float


def steady_k(steady_pu: float) -> float:
    """K_ss: the share of Pth at which a response would be 5 % short, at most 1."""
    return min(1.0, steady_pu / (1.0 + STEADY[0]))


def steps_n(part: Part, p: Trace) -> Found:
    """FCR-N steps. p : delivered power in units of Pth"""
    low_s, high_s, end_s, done_s = (part.at[name] for name in ("low", "high", "end", "done"))
    rest = 0.5 * (p.mean(low_s - SETTLED_S, low_s) + p.mean(done_s - SETTLED_S, done_s))
    up = p.mean(high_s - SETTLED_S, high_s) - rest
    down = rest - p.mean(end_s - SETTLED_S, end_s)
    rows = [
        REQ_1.within("steps, 49.9 Hz", up - 1.0, *STEADY),
        REQ_1.within("steps, 50.1 Hz", down - 1.0, *STEADY),
        _endured("steps, 49.9 Hz", Trace(p.t_s, p.y - rest), low_s, high_s),
        _endured("steps, 50.1 Hz", Trace(p.t_s, rest - p.y), high_s, end_s),
    ]
    return Found(rows, min(steady_k(up), steady_k(down)))


def ramps_d(part: Part, p: Trace, limits: Limits) -> Found:
    """FCR-D ramps. p : delivered power in units of Pth, positive in the product's direction"""
    at = part.at
    rest = p.mean(at["5"] - SETTLED_S, at["5"])
    steady = p.mean(at["4"] - SETTLED_S, at["4"]) - rest
    before = p.mean(at["5"] - BEFORE_S, at["5"])
    risen = Trace(p.t_s, p.y - before)
    reached, energy_s = risen.at(at["5"] + JUDGED_S), risen.integral(at["5"], at["5"] + JUDGED_S)
    least = p.least(at["5"] + JUDGED_S, _sample_before(p, at["6"])) - before
    rows = [
        REQ_1.within("ramps 3, 4", steady - 1.0, *STEADY),
        _endured("ramp 3", Trace(p.t_s, p.y - rest), at["3"], at["4"]),
        REQ_2.at_least("ramp 5", reached, limits.reached_pu),
        REQ_2_KEPT.at_least("ramp 5", least - reached, -FALL_PU),
        REQ_3.at_least("ramp 5", energy_s, limits.energy_s),
        REQ_4.at_most("ramps 1, 2", deactivation_s(p, at["1"], limits), limits.back_s),
    ]
    if "7" in at:
        rows += _combined(p, at["7"], at["8"], at["done"])
    return Found(rows, least_k(steady, reached, energy_s, limits))


def deactivation_s(p: Trace, first_s: float, limits: Limits) -> float:
    """Req. 4: the largest integral, over up to 40 s from the nadir, of power beyond what was there at the nadir.

    first_s : start of ramp 1; the nadir lies 4.4 s after it
    """
    before, nadir_s = p.mean(first_s - BEFORE_S, first_s), first_s + limits.nadir_s
    risen = Trace(p.t_s, p.y - before)
    floor = min(abs(risen.at(nadir_s)), BACK_SHARE)
    beyond = Trace(p.t_s, risen.y - floor).running(nadir_s, nadir_s + limits.within_s)
    return float(beyond.y.max())


def least_k(steady: float, reached: float, energy_s: float, limits: Limits) -> float:
    """min(K_ss, K_dyn) of an activation."""
    return min(1.0, steady_k(steady), reached / limits.reached_pu, energy_s / limits.energy_s)


def reduction(k: float, limits: Limits) -> Row:
    """The row of K_red."""
    return K_RED.at_least("all", max(k, 0.0) if np.isfinite(k) else float("nan"), limits.k_least)


def verdict_n(product: Product, played: Played, sold_kw: float, options: Options) -> list[Row]:
    """Rows of FCR-N's steps."""
    del options
    limits, rows = limits_of(product, K_LEAST_N), []
    for part, cut in played:
        found = steps_n(part, upwards(product, cut, sold_kw))
        rows += [*found.rows, reduction(found.k, limits)]
    return rows


def verdict_d(product: Product, played: Played, sold_kw: float, options: Options) -> list[Row]:
    """Rows of FCR-D's ramps."""
    del options
    limits, rows = limits_of(product, K_LEAST_D), []
    for part, cut in played:
        found = ramps_d(part, upwards(product, cut, sold_kw), limits)
        rows += [*found.rows, reduction(found.k, limits)]
    return rows


def mended(row: Row, k: float, limits: Limits) -> bool:
    """Whether a failed row would pass were K_red x Pth sold: a response too small is, one that is too large is not."""
    if row.passed is not False or row.measured is None:
        return False
    if row.id == REQ_1.id:
        return row.measured < 0.0
    least = {REQ_2.id: limits.reached_pu, REQ_3.id: limits.energy_s, ENDURANCE.id: 1.0 + STEADY[0]}.get(row.id)
    return least is not None and row.measured >= k * least - ROUNDING


def _combined(p: Trace, seventh_s: float, eighth_s: float, done_s: float) -> list[Row]:
    """Ramps 7 and 8, with FCR-N: the steady response at 49.7 Hz is half of FCR-D's, at 49.89 Hz a fortieth."""
    rest = p.mean(seventh_s - 30.0, seventh_s)
    note = "of FCR-D alone: take FCR-N's share out of the recording first"
    half = p.mean(eighth_s - SETTLED_S, eighth_s) - rest
    little = p.mean(done_s - SETTLED_S, done_s) - rest
    return [
        REQ_1.within("ramp 7", half / 0.5 - 1.0, *STEADY, note=note),
        REQ_1.within("ramp 8", little - 0.025, *STEADY, note=note),
    ]


def _endured(name: str, p: Trace, start_s: float, end_s: float) -> Row:
    """Least mean of 10 s between the first minute and the end."""
    smooth = p.smoothed(10.0)
    return ENDURANCE.at_least(name, smooth.least(start_s + SETTLED_S, end_s - 10.0 - 1e-3), 1.0 + STEADY[0])


def _sample_before(p: Trace, t_s: float) -> float:
    earlier = p.t_s[p.t_s < t_s - 1e-6]
    return float(earlier[-1]) if earlier.size else t_s
