"""Supervision over time: hold, fade, recovery, dead bus, and a start that knows nothing."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import math
import random

import numpy as np
import pytest

from droop.watch import Mode, Verdict, supervise, unaware
from tests import naive

S = naive.S_NS
T0 = 1_700_000_000 * S
USABLE, UNUSABLE, DEAD, NONE = Verdict
HOLD_NS, FADE_S = S, 5.0


class Line:
    """One memory fed step by step; times in s from T0."""

    def __init__(self, hold_ns=HOLD_NS, fade_s=FADE_S):
        self.memory, self.at, self.hold_ns, self.fade_s = unaware(), 0.0, hold_ns, fade_s

    def see(self, at, verdict, hz=math.nan):
        now = T0 + round(at * S)
        supervise(self.memory, now, at - self.at, hz, int(verdict), self.hold_ns, self.fade_s)
        self.at = at
        return Mode(self.memory.mode[0]), float(self.memory.weight[0])

    def usable(self, start, stop, period=0.1, hz=49.95):
        for k in range(round((stop - start) / period) + 1):
            self.see(start + k * period, USABLE, hz)


def test_starting_never_responds():
    line = Line()
    for k, verdict in enumerate([NONE, UNUSABLE, NONE, UNUSABLE] * 50):
        assert line.see(k * 0.1, verdict, 47.0) == (Mode.STARTING, 0.0)
    assert math.isnan(line.memory.hz[0])
    assert line.see(20.0, USABLE, 49.9) == (Mode.NORMAL, 1.0)


# From 10 Hz until t = 1 s; then nothing usable; samples again from t = 4 s.
OVER_TIME = [
    (1.1, NONE, Mode.HOLD, 1.0),
    (1.9, UNUSABLE, Mode.HOLD, 1.0),
    (2.0, NONE, Mode.HOLD, 1.0),  # exactly the time the product allows
    (2.1, NONE, Mode.RAMP, 0.98),
    (2.5, UNUSABLE, Mode.RAMP, 0.90),
    (3.5, NONE, Mode.RAMP, 0.70),
    (4.0, USABLE, Mode.RAMP, 0.80),  # comes back the way it went
    (4.5, USABLE, Mode.RAMP, 0.90),
    (4.9, NONE, Mode.RAMP, 0.90),  # a short loss on the way back is held as well
    (5.45, USABLE, Mode.NORMAL, 1.0),
    (6.0, NONE, Mode.HOLD, 1.0),
    (13.0, NONE, Mode.BASELINE, 0.0),
    (60.0, NONE, Mode.BASELINE, 0.0),
    (60.1, USABLE, Mode.RAMP, 0.02),
    (60.2, DEAD, Mode.BASELINE, 0.0),
    (60.3, NONE, Mode.BASELINE, 0.0),
    (60.4, UNUSABLE, Mode.BASELINE, 0.0),
    (60.5, USABLE, Mode.RAMP, 0.02),
    (65.4, USABLE, Mode.NORMAL, 1.0),
]


def test_modes_over_time():
    line = Line()
    line.usable(0.0, 1.0)
    for at, verdict, mode, weight in OVER_TIME:
        found = line.see(at, verdict, 49.9 if verdict == USABLE else math.nan)
        assert found == (mode, pytest.approx(weight, abs=1e-9)), f"at {at} s"
        assert line.memory.hz[0] == pytest.approx(49.95 if at < 4 else 49.9)


@pytest.mark.parametrize(("period", "held"), [(0.02, 1.0), (0.1, 1.0), (0.5, 1.5), (2.0, 6.0)])
def test_hold_is_the_larger_of_the_product_and_three_periods(period, held):
    line = Line()
    line.usable(0.0, 10 * period, period)
    last = line.at
    assert line.see(last + held - 0.01, NONE)[0] == Mode.HOLD
    assert line.see(last + held + 0.01, NONE)[0] == Mode.RAMP


def test_one_gap_does_not_stretch_the_hold_after_it():
    line = Line()
    line.usable(0.0, 1.0)
    line.see(1.9, USABLE, 50.0)
    assert line.see(2.95, NONE)[0] == Mode.RAMP
    # Nor does an outage that ended at the baseline, however long.
    line = Line()
    line.usable(0.0, 2.0, period=0.8)
    for k in range(21, 600):
        line.see(k * 0.1, NONE)
    line.see(60.0, USABLE, 50.0)
    assert line.memory.period_ns[0] == S * 8 // 10


def test_a_very_slow_source_is_learnt():
    """Rows every 10 s with looks in between: held for three of its periods, though the first gap was an outage."""
    line = Line()
    for k in range(20):
        for at in range(0, 10, 2):
            line.see(10.0 * k + at, NONE if at else USABLE, 50.0)
    assert line.memory.period_ns[0] == 10 * S
    assert line.memory.mode[0] == Mode.HOLD
    assert line.memory.weight[0] == 1.0


def test_samples_in_one_breath_have_no_period():
    """A block of samples arrives at one moment: the next gap must not become the period unbounded."""
    line = Line()
    line.usable(0.0, 1.0)
    for _ in range(5):
        line.see(1.0, USABLE, 50.0)
    line.see(1.95, USABLE, 50.0)  # one gap of nearly a second
    assert line.see(3.0, NONE)[0] == Mode.RAMP


def test_fade_is_linear_and_as_long_as_said():
    for fade_s in (1.0, 5.0, 30.0):
        line = Line(fade_s=fade_s)
        line.usable(0.0, 1.0)
        line.see(2.0, NONE)
        weights = [line.see(2.0 + k * fade_s / 20, NONE)[1] for k in range(1, 21)]
        np.testing.assert_allclose(weights, np.linspace(0.95, 0, 20), atol=1e-9)
        assert line.memory.mode[0] == Mode.BASELINE
        back = [line.see(90.0 + k * fade_s / 20, USABLE, 50.0)[1] for k in range(1, 21)]
        np.testing.assert_allclose(back[1:], np.clip(np.array(back[:-1]) + 0.05, 0, 1), atol=1e-9)


def test_dead_bus_stops_at_once_and_comes_back_without_a_bump():
    line = Line()
    line.usable(0.0, 1.0, hz=49.5)
    assert line.see(1.1, DEAD, 40.0) == (Mode.BASELINE, 0.0)
    assert line.memory.hz[0] == 49.5  # the dead bus' number is never taken
    assert line.memory.dead[0] == 1
    for k in range(20):
        assert line.see(1.2 + k * 0.1, NONE) == (Mode.BASELINE, 0.0)
        assert line.memory.dead[0] == 1
    steps = np.diff([0.0, *(line.see(4.0 + k * 0.1, USABLE, 50.0)[1] for k in range(60))])
    assert line.memory.dead[0] == 0
    assert steps[1:].max() <= 0.1 / FADE_S + 1e-9
    assert line.memory.weight[0] == 1.0


def test_dead_bus_at_the_start():
    line = Line()
    assert line.see(0.0, DEAD, 40.0) == (Mode.BASELINE, 0.0)
    assert line.see(0.1, USABLE, 49.9) == (Mode.RAMP, pytest.approx(0.02))


@pytest.mark.parametrize("hz", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_never_used(hz):
    """Even if it came with a good word: infinity would ask for full power."""
    line = Line()
    assert line.see(0.0, USABLE, hz) == (Mode.STARTING, 0.0)
    line.usable(0.1, 1.0)
    assert line.see(1.1, USABLE, hz) == (Mode.HOLD, 1.0)
    assert line.memory.hz[0] == 49.95
    assert line.see(3.1, USABLE, hz)[0] == Mode.RAMP


@pytest.mark.parametrize("seed", range(30))
def test_is_the_twin(seed):
    rng = random.Random(seed)
    hold_ns, fade_s = rng.choice([0, S // 2, S, 3 * S]), rng.choice([0.5, 5.0])
    memory, twin = unaware(), naive.Watch(hold_ns, fade_s)
    at, verdict = T0, USABLE
    for _ in range(1500):
        step_ns = rng.choice([0, S // 100, S // 10, S // 10, S // 10, S, 4 * S])
        at += step_ns
        verdict = rng.choice([verdict] * 8 + [USABLE, USABLE, UNUSABLE, DEAD, NONE])
        hz = rng.choice([math.nan, math.inf, 49.9, 50.01, 47.0])
        supervise(memory, at, step_ns / S, hz, int(verdict), hold_ns, fade_s)
        twin.see(at, step_ns / S, hz, int(verdict))
        assert memory.mode[0] == twin.mode
        assert memory.weight[0] == pytest.approx(twin.weight, abs=1e-12)
        assert memory.period_ns[0] == twin.period_ns
        assert bool(memory.dead[0]) == twin.dead
        np.testing.assert_equal(memory.hz[0], twin.hz)
        assert 0.0 <= memory.weight[0] <= 1.0
