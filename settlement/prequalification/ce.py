"""Continental Europe, FCR: the tests a to g of TenneT NL 6.1, and the double hump of the German tests.

The clause's contents are steps of 200 mHz held for 15 minutes, a pair of 100 mHz, a staircase whose 99.99 mHz raises no
alert, a ramp of 2, 4 and 2 minutes, and real operation; which letter is which, and how long a stair lasts, is our
reading. The double hump is from memory.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from droop import curve
from droop.products import Product
from settlement.prequalification import steps
from settlement.prequalification.figures import Figures
from settlement.prequalification.options import Options
from settlement.prequalification.plan import Part, Piece, Plan, hold, ramp
from settlement.prequalification.recording import Played, Recording, Trace, shown, spacing_s
from settlement.prequalification.rows import Row, Rule
from settlement.prequalification.steps import REST_S, TAIL_S, TOLERANCE_PU
from settlement.scores import ce_corridor

HOLD_S: Final = 900.0
STAIR_S: Final = 600.0  # below the 15 minutes after which 50 mHz raise an alert
JUST_BELOW: Final = 0.9999
LAG_S: Final = 30.0
RAMPS_S: Final = (120.0, 240.0, 120.0)
HUMP_PAUSE_S: Final = 300.0
OPERATION_S: Final = 4 * 3600.0
OPERATION_STEP_S: Final = 10.0
SOURCE: Final = "TenneT NL, FCR manual for BSPs, 6.1"
DELIVERY: Final = "TenneT NL, FCR manual for BSPs, 4.7"

RAMP: Final = Rule("ramp lag", "the end of a ramp reached no later than 30 s after it", "s", "V", SOURCE)
STAIR: Final = Rule("stair", "mean of the last minute on each stair, largest error", "of the power sold", "V", SOURCE)
BOUND: Final = Rule("out of bound", "share of time with under-delivery", "of the time", "V", DELIVERY)
SLOPE: Final = Rule("slope ratio", "slope of delivery over that of the target", "", "V", DELIVERY)


def plan(product: Product, options: Options) -> Plan:
    """Tests a to g."""
    f0, figures = product.nominal_hz, Figures(product)
    hold_s = options.hold(60.0 * figures.number("hold_min", HOLD_S / 60.0))
    low, high = steps.corner_hz(product, up=True), steps.corner_hz(product, up=False)
    parts = [
        steps.part("a", f"step of {low * 1e3:g} mHz", f0, f0 + low, hold_s),
        steps.part("b", f"step of {high * 1e3:+g} mHz", f0, f0 + high, hold_s),
        steps.part("c", f"step of {low * 5e2:g} mHz", f0, f0 + low / 2, hold_s),
        steps.part("d", f"step of {high * 5e2:+g} mHz", f0, f0 + high / 2, hold_s),
        _staircase(f0, low, high, min(STAIR_S, hold_s)),
        _ramps(f0, low, high),
        _operation(product, options),
    ]
    parts = [part for part in parts if part.length_s > 0]
    return Plan(("ce_steps",), "FCR, Continental Europe: tests a to g", 1.0, tuple(parts), "V", SOURCE)


def double_hump(product: Product, options: Options) -> Plan:
    """Two full activations after each other, each way, then real operation."""
    f0, hold_s = product.nominal_hz, options.hold(HOLD_S)
    parts = []
    for name, up in (("hump up", True), ("hump down", False)):
        value = f0 + steps.corner_hz(product, up)
        parts.append(steps.part(name, "twice the full activation", f0, value, hold_s, HUMP_PAUSE_S))
    parts.append(_operation(product, options))
    parts = [part for part in parts if part.length_s > 0]
    source = "German TSOs, prequalification conditions for FCR: double hump, from memory"
    return Plan(("ce_double_hump",), "FCR, Germany: double hump", 1.0, tuple(parts), "M", source)


def _staircase(f0: float, low: float, high: float, stair_s: float) -> Part:
    levels = []
    for corner in (low, high):
        levels += [f0 + corner / 2 * JUST_BELOW, f0 + corner, f0]
    pieces = [hold(f0, REST_S), *(hold(level, stair_s) for level in levels)]
    at = {f"stair {k}": REST_S + k * stair_s for k in range(len(levels) + 1)}
    return Part("e", "staircase 99.99, 200, 0 mHz, each way", tuple(pieces), at, {}, "stair, out of bound")


def _ramps(f0: float, low: float, high: float) -> Part:
    places = (f0, f0 + high, f0 + low, f0)
    pieces = [hold(f0, REST_S)]
    at, now_s = {}, REST_S
    for k, length_s in enumerate(RAMPS_S):
        pieces.append(ramp(places[k], places[k + 1], length_s))
        at[f"ramp {k}"] = now_s
        now_s += length_s
    at["end"] = now_s
    pieces.append(hold(f0, TAIL_S))
    level = {f"ramp {k}": places[k + 1] for k in range(3)}
    return Part("f", "ramps of 2, 4 and 2 minutes", tuple(pieces), at, level, "ramp lag, out of bound")


def _operation(product: Product, options: Options) -> Part:
    """Frequency as it is of a day: a slow seeded walk of 20 mHz that comes home; played live, the grid's own."""
    default_s = 3600.0 * Figures(product).number("operation_h", OPERATION_S / 3600.0)
    length_s = default_s if options.operation_s is None else options.operation_s
    f0, count = product.nominal_hz, int(length_s // OPERATION_STEP_S)
    rng = np.random.default_rng(options.seed)
    dev = np.zeros(count + 1)
    for k in range(1, count):
        dev[k] = 0.95 * dev[k - 1] + rng.normal(0.0, 0.02 * np.sqrt(1 - 0.95**2))
    pieces = tuple(Piece(OPERATION_STEP_S, f0 + dev[k], f0 + dev[k + 1]) for k in range(count))
    title = "real operation (stand-in: a seeded walk of 20 mHz)"
    return Part("g", title, pieces, {}, {}, "out of bound, slope ratio")


def verdict(product: Product, played: Played, sold_kw: float, options: Options) -> list[Row]:
    """Rows of every part."""
    del options
    rows: list[Row] = []
    for part, cut in played:
        if "step" in part.at:
            rows += steps.verdict(product, part, cut, sold_kw)
        elif part.name == "f":
            rows += [*_lags(product, part, shown(cut, sold_kw)), *_corridor(product, part, cut, sold_kw)[:1]]
        elif part.name == "e":
            rows += [_stairs(product, part, cut, sold_kw), *_corridor(product, part, cut, sold_kw)[:1]]
        else:
            rows += _corridor(product, part, cut, sold_kw)
    return rows


def _lags(product: Product, part: Part, y: Trace) -> list[Row]:
    """When the end of each ramp is reached, after the ramp itself has ended: not before it."""
    rows, lag_s = [], Figures(product).number("lag_s", LAG_S)
    for k, length_s in enumerate(RAMPS_S):
        start_s = part.at[f"ramp {k}"]
        goal = steps.fraction(product, part.level[f"ramp {k}"])
        came_from = steps.fraction(product, part.level[f"ramp {k - 1}"]) if k else 0.0
        sign = 1.0 if goal > came_from else -1.0
        limit_s = length_s + lag_s
        reached_s = Trace(y.t_s, sign * y.y).first(sign * goal - TOLERANCE_PU, start_s, start_s + limit_s + TAIL_S)
        rows.append(RAMP.at_most(f"f, ramp {k + 1}", max(reached_s - length_s, 0.0), lag_s))
    return rows


def _stairs(product: Product, part: Part, recording: Recording, sold_kw: float) -> Row:
    y, worst = shown(recording, sold_kw), 0.0
    edges = sorted(part.at.values())
    for start_s, end_s in pairwise(edges):
        asked = steps.fraction(product, float(part.values(np.array([0.5 * (start_s + end_s)]))[0]))
        # A minute, or what is left of a short stair after the slowest response.
        worst = max(worst, abs(y.mean(max(end_s - 60.0, start_s + LAG_S), end_s) - asked), key=_nan_first)
    return STAIR.at_most(part.name, worst, TOLERANCE_PU)


def _nan_first(value: float) -> float:
    return float("inf") if np.isnan(value) else value


def _corridor(product: Product, part: Part, recording: Recording, sold_kw: float) -> list[Row]:
    """The two indicators of delivery, over the whole part."""
    if recording.t_s.size < 2:
        return [rule.below(part.name, float("nan"), 0.0) for rule in (BOUND, SLOPE)]
    target = sold_kw * curve.fractions(product.response, recording.hz - product.nominal_hz)
    net = recording.net_kw
    valid = np.isfinite(net)
    found = ce_corridor.score(
        np.nan_to_num(net), target, recording.hz - product.nominal_hz, sold_kw, valid,
        step_s=spacing_s(recording.t_s),
    )  # fmt: skip
    nan = float("nan")
    share = nan if found.time_out_of_bound_frac is None else found.time_out_of_bound_frac
    ratio = nan if found.slope_ratio is None else found.slope_ratio
    return [
        BOUND.below(part.name, share, ce_corridor.OUT_OF_BOUND_MAX),
        SLOPE.within(part.name, ratio, *ce_corridor.SLOPE),
    ]
