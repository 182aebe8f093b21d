"""Steps of the frequency, as Continental Europe tests FCR: started, half, whole, held, and back.

TenneT NL, FCR manual for BSPs, 3.1.1 and 6.1: activation begins within 2 s, is half there by 15 s and whole by 30 s,
at least linear in between, and is held. The tolerance is that of delivery, 5 % of the volume (4.7): the clause on the
tests states none. Times come from the product, so that any product with a curve can be tested by steps.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from droop import curve
from droop.products import Product
from settlement.prequalification.plan import Part, hold
from settlement.prequalification.recording import Recording, Trace, shown
from settlement.prequalification.rows import Row, Rule

TOLERANCE_PU: Final = 0.05
STARTED_PU: Final = 0.02  # of the step: the least change that counts as the beginning of a response
REST_S: Final = 60.0
TAIL_S: Final = 120.0
MEAN_S: Final = 10.0  # a car that leaves shows for a second or two until the others have taken over
SOURCE: Final = "TenneT NL, FCR manual for BSPs, 3.1.1, 6.1"

START: Final = Rule("start", "activation begins", "s", "V", SOURCE)
HALF: Final = Rule("half", "half of the activation at its time", "of the step", "V", SOURCE)
LINEAR: Final = Rule("linear", "at least linear from half to whole", "of the step", "V", SOURCE)
FULL: Final = Rule("full", "whole activation at its time", "of the step", "V", SOURCE)
HELD: Final = Rule("held", "whole activation held", "of the step", "V", SOURCE)
OVER: Final = Rule("over", "no more than allowed", "of the step", "V", SOURCE)
BACK: Final = Rule("back", "back at the baseline in time, and staying there", "of the step", "V", SOURCE)
NOTE: Final = "with the tolerance of delivery, 5 % of the power sold (4.7)"
MEAN: Final = f"{NOTE}; means of {MEAN_S:g} s, our choice"


def fraction(product: Product, value: float) -> float:
    """What the product asks at a frequency, or at a value of its signal."""
    dev = value - (product.nominal_hz if product.input == "frequency" else 0.0)
    return float(curve.fractions(product.response, np.array([dev]))[0])


def corner_hz(product: Product, up: bool) -> float:
    """Smallest deviation at which a direction is fully activated; 0 where the product has none that way."""
    y = np.array(product.curve_frac)
    most = y.max() if up else y.min()
    if (most <= 0) if up else (most >= 0):
        return 0.0
    x = np.array(product.curve_hz)[np.isclose(y, most)]
    return float(x.max() if up else x.min())


def part(name: str, title: str, rest: float, value: float, hold_s: float, again_s: float = 0.0) -> Part:
    """Rest, a step, its hold, and rest again; with `again_s` a second one so long after the first."""
    pieces = [hold(rest, REST_S), hold(value, hold_s)]
    at = {"step": REST_S, "back": REST_S + hold_s}
    if again_s > 0:
        pieces += [hold(rest, again_s), hold(value, hold_s)]
        at |= {"step_2": at["back"] + again_s, "back_2": at["back"] + again_s + hold_s}
    pieces.append(hold(rest, TAIL_S))
    return Part(name, title, tuple(pieces), at, {"value": value}, "start, half, linear, full, held, over, back")


def verdict(product: Product, part: Part, recording: Recording, sold_kw: float) -> list[Row]:
    """Rows of a part made by `part`; its first step, and its second if it has one."""
    share = fraction(product, part.level["value"])
    rows = _step(product, part.name, shown(recording, share * sold_kw), share, part.at["step"], part.at["back"])
    if "step_2" in part.at:
        name, step_s, back_s = f"{part.name}, second", part.at["step_2"], part.at["back_2"]
        rows += _step(product, name, shown(recording, share * sold_kw), share, step_s, back_s)
    return rows


def _step(product: Product, name: str, y: Trace, share: float, step_s: float, back_s: float) -> list[Row]:
    """y : delivered power in units of what the step asks."""
    half_s, full_s = product.half_s or product.full_s / 2, product.full_s
    tolerance = TOLERANCE_PU / abs(share)
    before = y.mean(step_s - 10.0, step_s)
    ages_s = y.t_s - step_s
    between = (ages_s >= half_s - 1e-6) & (ages_s <= full_s + 1e-6)
    line = 0.5 + 0.5 * (ages_s[between] - half_s) / max(full_s - half_s, 1e-9)
    margin = float((y.y[between] - line).min()) if between.any() else float("nan")
    after_s = max(full_s, 1e-9)
    end_s, smooth = back_s + TAIL_S, y.smoothed(MEAN_S)
    after = np.abs(smooth.between(back_s + after_s, end_s))
    return [
        START.at_most(name, y.first(before + STARTED_PU, step_s, back_s), product.delay_max_s),
        HALF.at_least(name, y.at(step_s + half_s), 0.5 - tolerance, NOTE),
        LINEAR.at_least(name, margin, -tolerance, "least distance above the line; " + NOTE),
        FULL.at_least(name, y.at(step_s + full_s), 1.0 - tolerance, NOTE),
        HELD.at_least(name, smooth.least(step_s + after_s, _last(y, back_s) - MEAN_S), 1.0 - tolerance, MEAN),
        OVER.at_most(name, smooth.most(step_s, end_s), product.freedoms.overfulfil_max + tolerance, MEAN),
        BACK.at_most(name, float(after.max()) if after.size else float("nan"), tolerance, MEAN),
    ]


def _last(y: Trace, back_s: float) -> float:
    """The last sample that the step back cannot have touched."""
    before = y.t_s[y.t_s < back_s - 1e-6]
    return float(before[-1]) if before.size else back_s
