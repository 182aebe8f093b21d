"""Delay, lag and ramp against a twin that remembers everything; time steps as irregular as they come."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import math
import random

import numpy as np
import pytest

from droop.dynamics import MEMORY, OLRT_TO_TAU, advance, at_rest, delayed, requested_kw, reset, steps_of, terms
from droop.products import catalogue, load, parse
from tests import naive

S = naive.S_NS
T0 = 1_700_000_000 * S
SHAPE = {"title": "T", "area": "X", "nominal_hz": 50.0, "direction": "symmetric", "curve": [[-0.2, 1], [0.2, -1]]}


def product(**changes):
    return parse({"id": "p", **SHAPE, **changes}, "test")


def one(**changes):
    table = terms([(product(**changes), 1.0)])
    return table, at_rest(1)


def steps(rng, seconds, dense=False):
    """Times from T0, irregular: bursts, repeats and holes."""
    at = T0
    while at < T0 + seconds * S:
        yield at
        at += rng.choice([S // 100] if dense else [0, S // 100, S // 10, S // 10, S // 3, S])


@pytest.mark.parametrize(("after_s", "share"), [(1, 0.36904), (2, 0.60189), (5, 0.90000)])
@pytest.mark.parametrize("period_s", [0.01, 0.1, 0.333, 1.0])
def test_1547_2(after_s, share, period_s):
    """Rulebook 1547-2: open-loop response time 5 s; exact whatever the step."""
    table, motion = one(olrt_s=5.0)
    at, value = T0, advance(motion, table, 0, T0, 0.0, 1.0)
    assert value == 0.0
    while at < T0 + after_s * S:
        step = min(round(period_s * S), T0 + after_s * S - at)
        at += step
        value = advance(motion, table, 0, at, step / S, 1.0)
    assert value == pytest.approx(share, abs=5e-6)
    assert value == pytest.approx(1 - 0.1 ** (after_s / 5), rel=1e-9)


def test_olrt_is_to_ninety_percent():
    assert pytest.approx(1 / math.log(10), rel=1e-15) == OLRT_TO_TAU
    assert terms([(load("ieee1547"), 7.0)]).tau_s[0] == pytest.approx(5 / math.log(10))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"delay_s": 0.25},
        {"delay_s": 2.0},
        {"olrt_s": 5.0},
        {"ramp_pu_s": 0.2},
        {"ramp_pu_s": 2.0, "delay_s": 0.5},
        {"delay_s": 0.5, "olrt_s": 1.0, "ramp_pu_s": 0.5},
    ],
    ids=str,
)
def test_is_the_twin_on_irregular_steps(changes, seed):
    table, motion = one(**changes)
    twin = naive.Controller(
        round(changes.get("delay_s", 0.0) * S), changes.get("olrt_s", 0.0) / math.log(10),
        changes.get("ramp_pu_s", math.inf),
    )  # fmt: skip
    rng, before, target = random.Random(seed), T0, 0.0
    for now in steps(rng, 30):
        target = rng.choice([target, rng.uniform(-1, 1), 1.0, 0.0])
        elapsed = (now - before) / S
        found = advance(motion, table, 0, now, elapsed, target)
        assert found == pytest.approx(twin.step(now, elapsed, target), abs=1e-12)
        before = now


@pytest.mark.parametrize("delay_s", [0.5, 1.0, 2.0])
def test_delay_at_100_hz_with_a_change_at_every_sample(delay_s):
    table, motion = one(delay_s=delay_s)
    rng, asked = random.Random(3), []
    for k, now in enumerate(steps(rng, 6, dense=True)):
        asked.append(rng.uniform(-1, 1))
        back = k - round(delay_s * 100)
        assert delayed(motion, 0, now, table.delay_ns[0], asked[-1]) == (asked[back] if back >= 0 else 0.0)


def test_a_delay_longer_than_the_memory_is_thinned_not_dropped():
    """30 s of delay at 100 Hz with a change at every sample: within a part in MEMORY of it, and never silent."""
    table, motion = one(delay_s=30.0)
    for k, now in enumerate(steps(random.Random(3), 90, dense=True)):
        found = delayed(motion, 0, now, table.delay_ns[0], k * 1e-5)
        late = (k - found / 1e-5) / 100
        if k > 3100:
            assert 30.0 * (1 - 1 / (MEMORY - 1)) - 0.02 <= late <= 30.0 * (1 + 1 / (MEMORY - 1)) + 0.02
    for extra in range(1, 4000):
        found = delayed(motion, 0, now + extra * S // 100, table.delay_ns[0], 0.5)
    assert found == 0.5  # what stays is always reached


def test_ramp_limits_both_ways_and_takes_no_time_from_nothing():
    table, motion = one(ramp_pu_s=2.0)
    assert advance(motion, table, 0, T0, 0.0, 1.0) == 0.0
    assert advance(motion, table, 0, T0 + S // 10, 0.1, 1.0) == pytest.approx(0.2)
    assert advance(motion, table, 0, T0 + S, 0.9, 1.0) == 1.0
    assert advance(motion, table, 0, T0 + S + S // 4, 0.25, -1.0) == pytest.approx(0.5)


def test_rows_are_independent_and_add():
    rng = random.Random(1)
    sold = [(p, 100.0 * (k + 1)) for k, p in enumerate(catalogue().values()) if p.nominal_hz == 50.0]
    together, motion = terms(sold), at_rest(len(sold), steps_of(sold))
    alone = [(terms([item]), at_rest(1, steps_of([item]))) for item in sold]
    before = T0
    for now in steps(rng, 20):
        hz = 50.0 + rng.gauss(0, 0.2)
        elapsed = (now - before) / S
        total = requested_kw(motion, together, hz, 1.0, True, now, elapsed, 0.0, 0)
        parts = [requested_kw(m, t, hz, 1.0, True, now, elapsed, 0.0, 0) for t, m in alone]
        assert total == pytest.approx(math.fsum(parts), abs=1e-9)
        before = now


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_request_is_sold_power_times_curve_times_weight(weight):
    table, motion = terms([(product(), 800.0)]), at_rest(1)
    assert requested_kw(motion, table, 49.9, weight, True, T0, 0.1, 0.0, 0) == pytest.approx(400.0 * weight)
    assert motion.fraction[0] == pytest.approx(0.5 * weight)


def test_unknown_frequency_asks_for_nothing_and_leaves_no_trace():
    table, motion = terms([(product(olrt_s=1.0, delay_s=0.1), 800.0)]), at_rest(1)
    for k in range(50):
        found = requested_kw(motion, table, math.nan if k % 3 else 49.9, 1.0, True, T0 + k * S // 10, 0.1, 0.0, 0)
        assert math.isfinite(found)
    assert all(np.isfinite(column).all() for column in (*motion[:-1], *motion.modes))


def test_no_product_asks_for_nothing():
    assert requested_kw(at_rest(0), terms([]), 49.0, 1.0, True, T0, 0.1, 0.0, 0) == 0.0


def test_reset_is_at_once_and_forgets():
    table, motion = one(delay_s=1.0, olrt_s=5.0, ramp_pu_s=0.1)
    for k in range(40):
        advance(motion, table, 0, T0 + k * S // 10, 0.1, 1.0)
    assert motion.fraction[0] > 0
    reset(motion)
    # Targets asked before the reset are not answered after it.
    assert advance(motion, table, 0, T0 + 4 * S, 0.1, 0.0) == 0.0
    assert advance(motion, table, 0, T0 + 10 * S, 6.0, 0.0) == 0.0


def test_terms_hold_every_product():
    sold = [(p, 5.0 * k) for k, p in enumerate(catalogue().values())]
    table = terms(sold)
    for row, (p, kw) in enumerate(sold):
        k = table.points[row]
        assert tuple(table.x_hz[row, :k]) == p.curve_hz
        assert tuple(table.y_frac[row, :k]) == p.curve_frac
        assert (table.sold_kw[row], table.nominal_hz[row]) == (kw, p.nominal_hz)
        assert table.deadband_hz[row] == (p.deadband_hz if p.deadband_kind == "step" else 0.0)
        assert (table.delay_ns[row], table.ramp_pu_s[row]) == (round(p.delay_s * S), p.ramp_pu_s)
