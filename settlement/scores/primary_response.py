"""Primary frequency response in the Texas interconnection: delivered over expected, event by event.

BAL-001-TRE-2 asks for a rolling score of at least 0.75 (rulebook 5.2, mark V2). How an event is measured is from memory
(mark M), and so a parameter: the mean of 16 to 2 s before the frequency leaves the event threshold is compared with the
mean of 20 to 52 s after it. The score of an event is the change delivered over the change expected, within 0..1; that
of an interval the mean of its events; the rolling one the mean of the last eight.

A cell whose delivery is unknown counts as no change. An interval without an event has no score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.scores.rolling import beginnings
from settlement.scores.rule import (
    Delivery,
    Kpis,
    Params,
    Reach,
    Rule,
    ScoreError,
    Verdict,
    cells,
    clamp,
    coarse,
    mean_or_none,
    unmeasured,
)  # fmt: skip

STEP_S: Final = 2.0
EVENT_HZ: Final = 0.08
BEFORE_S: Final = (2.0, 16.0)
AFTER_S: Final = (20.0, 52.0)
ROLLING: Final = 8
LEAST: Final = 0.75  # mark V2


class Event(NamedTuple):
    """One event: changes between the two means."""

    score: float | None  # None: nothing was expected
    delivered_kw: float
    expected_kw: float


def event(
    response_kw: Floats, target_kw: Floats, start: int, step_s: float,
    before_s: tuple[float, float] = BEFORE_S, after_s: tuple[float, float] = AFTER_S,
) -> Event:  # fmt: skip
    """Measure the event that begins in cell `start`.

    response_kw : float64[n]  NaN: unknown, counts as what it was before
    target_kw   : float64[n]  no NaN
    """
    if step_s <= 0:
        raise ScoreError(f"field `step_s` takes a time above 0, not {step_s}")
    before = slice(max(0, start - cells(before_s[1], step_s)), max(0, start - cells(before_s[0], step_s)))
    after = slice(start + cells(after_s[0], step_s), start + cells(after_s[1], step_s))
    base_kw = mean_or_none(response_kw[before])
    later = response_kw[after]
    expected_kw = (mean_or_none(target_kw[after]) or 0.0) - (mean_or_none(target_kw[before]) or 0.0)
    delivered_kw = 0.0
    if base_kw is not None and later.size:
        delivered_kw = float(np.where(np.isnan(later), 0.0, later - base_kw).mean())
    return Event(clamp(delivered_kw / expected_kw) if expected_kw else None, delivered_kw, expected_kw)


def events(dev_hz: Floats, event_hz: float = EVENT_HZ, rest: int = 0) -> list[int]:
    """Cells in which the frequency leaves the threshold, either way; within `rest` cells of one no other begins."""
    outside: Bools = np.abs(np.nan_to_num(dev_hz)) > event_hz
    return beginnings(outside, rest)


def rolling(scores: Sequence[float], count: int = ROLLING) -> float | None:
    """Mean of the last `count` events; None of none."""
    last = list(scores)[-count:]
    return sum(last) / len(last) if last else None


def reach(product: Product) -> Reach:
    """2 s scans; the means lie before and after the interval's events."""
    params = Params(product)
    step_s = params.number("step_s", STEP_S, 0.1, 10.0)
    before, after = params.pair("before_s", BEFORE_S), params.pair("after_s", AFTER_S)
    return Reach(step_s, max(32, math.ceil(before[1])), math.ceil(after[1]), True)


def judge(delivery: Delivery, product: Product) -> Verdict:
    """Mean score of the interval's events."""
    params, step_s, inside = Params(product), delivery.step_s, delivery.inside
    before, after = params.pair("before_s", BEFORE_S), params.pair("after_s", AFTER_S)
    given = delivery.given_or_nan
    begun = events(delivery.dev_hz, params.number("event_hz", EVENT_HZ, 0.0, 5.0), cells(after[1], step_s))
    found = [
        event(given, delivery.target_kw, cell, step_s, before, after)
        for cell in begun
        if inside.start <= cell < inside.stop
    ]
    kpis: Kpis = {"events": len(found), "step_s": step_s}
    if np.isnan(given[inside]).all():
        return unmeasured(kpis)
    scores = [one.score for one in found if one.score is not None]
    if not scores:
        return Verdict(None, "no event: the frequency stayed within the threshold", kpis)
    value = sum(scores) / len(scores)
    kpis |= {"delivered_kw": sum(e.delivered_kw for e in found), "expected_kw": sum(e.expected_kw for e in found)}
    return Verdict(value, f"{len(scores)} event(s), from memory [M]{coarse(step_s, reach(product).step_s)}", kpis)


RULE: Final = Rule(judge, reach)
