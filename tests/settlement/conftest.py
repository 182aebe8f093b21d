"""One quarter of an hour of service with known numbers, for the tests of what comes last."""

from __future__ import annotations

import numpy as np
import pytest

from droop.products import load
from settlement.align import NS
from settlement.facts import Declarations, Facts, FleetEnergy, Meters, Samples, Shortfall, no_signal
from settlement.interval import Sold

START_NS = 1_700_000_100 * NS  # 2023-11-14T22:15:00Z
BASELINE_KW = -800.0


@pytest.fixture
def sold():
    return [Sold(load("ce_fcr"), 1000.0)]


@pytest.fixture
def facts():
    """10 Hz frequency from 60 s before the interval, a 1 s meter that follows it perfectly, a declared baseline."""
    rng = np.random.default_rng(11)
    steps = np.arange(-60, 900)
    dev = np.zeros(steps.size)
    for k in range(1, steps.size):
        dev[k] = 0.98 * dev[k - 1] + 0.006 * rng.standard_normal()
    dev[np.abs(dev) < 0.01] = 0.0
    t_ns = START_NS + np.repeat(steps * NS, 10) + np.tile(np.arange(10) * (NS // 10), steps.size)
    hz = np.repeat(50.0 + dev, 10)
    power_kw = BASELINE_KW - np.clip(dev / 0.2, -1, 1) * 1000.0
    unserved = np.zeros((steps.size, 3))
    unserved[100:136, 1] = 3.6
    return Facts(
        samples=Samples(t_ns, hz, np.ones(hz.size, bool)),
        meters=Meters(START_NS + steps * NS, power_kw, np.ones(steps.size, np.int64), np.ones(steps.size, bool)),
        declarations=Declarations(
            np.array([START_NS - 100 * NS, START_NS - 60 * NS]),
            np.array([START_NS - 100 * NS, START_NS]),
            np.array([START_NS, START_NS + 900 * NS]),
            np.array([BASELINE_KW, BASELINE_KW]),
            np.array([1, 1]),
            np.array([True, False]),
        ),
        signal=no_signal(),
        shortfall=Shortfall(START_NS + steps * NS, unserved, ("none", "rating", "soc")),
        fleet=FleetEnergy(-200.0, 180.0, 20.0),
    )
