"""Every product of the catalogue over a short trace of its own: what it asks, and fleets that answer it or do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from aggregator.backtest import Backtest, set_points
from aggregator.backtest_result import result
from aggregator.contracts import Contract, CoreSettings
from aggregator.gateways.population import PERFECT
from aggregator.prequalifying import injected_gate
from aggregator.signal_file import Recorded
from aggregator.wanted import Wanted
from telemetry.samples import FREQUENCY

NS = 1_000_000_000
BORDER_NS = 1_767_225_600 * NS  # 2026-01-01: a border of every market's interval
BEFORE_S = 75  # before the border: the fleet settles, is calm, and has begun to answer
CALM_S = 45
VEHICLES, SOLD_KW = 24, 24.0
# Nothing but two-way chargers: half of them could carry what is sold.
ABLE = replace(PERFECT, bidirectional_frac=1.0)
# How long the market looks at one excursion [s]; 40 otherwise.
WATCHED_S = {"nem_fcas": {"1": 70, "6": 70, "60": 310, "5": 610}}


def watched_s(product):
    """How long the frequency stays away: as long as the rule looks at it."""
    if product.score.get("fn") == "nem_fcas":
        return WATCHED_S["nem_fcas"][product.score["service"][1:]]
    return {"primary_response": 70, "nordic_fcr": 70}.get(product.score.get("fn"), 40)


def rate_hz(product):
    """Samples a second: what is timed by tenths needs them."""
    return 10 if product.score.get("fn") in ("ffr", "neso_bounds") else 2


def away_hz(product):
    """Deviations of full activation, one or one each way; of a trigger a little beyond it; of a signal's grid some."""
    if product.input == "signal":
        return [-0.1 if product.direction == "up" else 0.1]
    if product.trigger is not None:
        last = (min if product.direction == "up" else max)(product.trigger.steps_hz or (product.trigger.hz,))
        return [last - product.nominal_hz + (-0.02 if product.direction == "up" else 0.02)]
    x, y = np.array(product.curve_hz), np.array(product.curve_frac)
    found = []
    if y.max() > 0:
        found.append(float(x[y == y.max()].max()))
    if y.min() < 0:
        found.append(float(x[y == y.min()].min()))
    return found


def frequency(product, seed=1):
    """FREQUENCY rows: calm, away across the border and back, calm, the other way round if there is one."""
    rate, rng = rate_hz(product), np.random.default_rng(seed)
    span_s = watched_s(product)
    sides = away_hz(product)
    length_s = BEFORE_S + len(sides) * (span_s + 30)
    t_s = np.arange(length_s * rate) / rate
    dev = 0.008 * np.convolve(rng.normal(0.0, 1.0, t_s.size + 9), np.ones(10) / 10**0.5, "valid")
    for k, away in enumerate(sides):
        start_s = CALM_S + k * (span_s + 30)
        # As fast as the standard ramp of the market that has one; and back.
        ramp_s = max(abs(away) / 0.125, 1.0)
        if product.trigger is not None:
            ramp_s = 0.5
        shape = np.interp(t_s, [start_s, start_s + ramp_s, start_s + span_s, start_s + span_s + 5], [0, 1, 1, 0])
        dev = dev * (1.0 - shape) + away * shape
    if product.score.get("fn") == "fpp":  # a need on the side that the product answers
        dev = dev + (-0.05 if product.direction == "up" else 0.05)
    rows = np.zeros(t_s.size, FREQUENCY)
    rows["t_ns"] = rows["rx_ns"] = BORDER_NS - BEFORE_S * NS + np.rint(t_s * NS).astype(np.int64)
    rows["hz"], rows["volt_frac"] = product.nominal_hz + dev, 1.0
    return rows


def signal(product, seed=1):
    """A signal of some minutes within what is sold, in the product's direction; of both, up first and then down."""
    step_s, rng = product.signal_s, np.random.default_rng(seed)
    # Whole windows of five minutes where a rule wants them.
    after_s = 900.0 if product.score.get("fn") == "pjm_v1" else 300.0
    t_s = np.arange(0.0, BEFORE_S + after_s, step_s)
    # No faster than a meter of one second can show, and away from 0 long enough that doing nothing is no answer.
    share = 0.55 + 0.25 * np.sin(2 * np.pi * t_s / 150.0) + 0.02 * np.clip(rng.normal(0.0, 1.0, t_s.size), -2, 2)
    if product.direction == "symmetric":
        share *= np.interp(t_s, [0.0, BEFORE_S + 100.0, BEFORE_S + 140.0], [1.0, 1.0, -1.0])
    elif product.direction == "down":
        share = -share
    return Recorded(BORDER_NS - BEFORE_S * NS + np.rint(t_s * NS).astype(np.int64), share)


def driven(product, answers=True, sold_kw=SOLD_KW, vehicles=VEHICLES):
    """The shell after the product's trace. answers : False: a fleet that charges as planned and does nothing else"""
    sold = CoreSettings("matrix", vehicles, (Contract(product, sold_kw),), signal_max_kw=sold_kw)
    told = sold if answers else replace(sold, contracts=(Contract(product, 0.0),))
    start_ns = BORDER_NS - BEFORE_S * NS
    recorded = signal(product) if product.input == "signal" else None
    test = Backtest(told, injected_gate(product.nominal_hz), start_ns, 1, behaviour=ABLE, signal=recorded)
    if recorded is None or product.score.get("fn") == "fpp":  # factors weigh the delivery by the frequency
        test.feed(frequency(product))
    else:
        test.follow(recorded.t_ns.size)
    if recorded is not None:
        test.points = set_points(recorded, sold)
    test.settings = sold
    return test


def outcome(test):
    """The result's table, and the statements behind it."""
    wanted = Wanted([], test.settings, injected_gate(test.settings.nominal_hz))
    return result(wanted, test, Counter(), None), list(test.statements())
