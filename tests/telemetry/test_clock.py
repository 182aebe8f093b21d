"""Offset and drift of a source's clock: against known clocks, against scipy, and against bad ways here."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import theilslopes

from telemetry.clock import KEEP, WINDOW_NS, SkewMeter, slope_of
from telemetry.quality import Gate, GateSettings
from telemetry.samples import FREQUENCY

S = 1_000_000_000
BEGIN_NS = 1_764_000_000 * S


def fed(seconds, *, drift_ppm=0.0, offset_s=0.0, rate_hz=10.0, way_s=None, seed=1):
    """A meter after so many seconds of a source that drifts behind an exponential delay above 2 ms."""
    rng = np.random.default_rng(seed)
    meter = SkewMeter()
    true_s = np.arange(0.0, seconds, 1 / rate_hz)
    delay_s = 0.002 + rng.exponential(0.003, true_s.size) if way_s is None else way_s(true_s, rng)
    for now_s, late_s in zip(true_s.tolist(), delay_s.tolist(), strict=True):
        t_ns = BEGIN_NS + round((now_s * (1 - drift_ppm * 1e-6) - offset_s) * S)
        meter.add(t_ns, BEGIN_NS + round((now_s + late_s) * S))
    return meter


@pytest.mark.parametrize("drift_ppm", [-200.0, -5.0, 0.0, 1.0, 50.0])
@pytest.mark.parametrize("offset_s", [-3600.0, 0.0, 0.25])
def test_drift_and_offset_are_within_their_own_uncertainty(drift_ppm, offset_s):
    skew = fed(300, drift_ppm=drift_ppm, offset_s=offset_s).skew()
    assert abs(skew.drift_ppm - drift_ppm) <= 2 * skew.drift_pm_ppm + 0.05
    assert skew.drift_pm_ppm < 3.0
    at_end_s = offset_s + 0.002 + drift_ppm * 1e-6 * 295
    assert abs(skew.offset_s - at_end_s) <= 2 * skew.offset_pm_s + 2e-4
    assert skew.drift_pm_ppm * 1e-6 * skew.span_s / 2 < skew.offset_pm_s < 1e-3  # the slope's doubt is in it
    assert skew.jumps == 0


def test_the_interval_holds_the_truth_as_often_as_it_says():
    held = sum(
        abs((skew := fed(150, drift_ppm=20.0, rate_hz=4.0, seed=seed).skew()).drift_ppm - 20.0) <= skew.drift_pm_ppm
        for seed in range(60)
    )
    assert held >= 50  # 57 expected; fewer than 50 would be a wrong interval


def test_congestion_in_a_third_of_the_windows_turns_nothing():
    def way_s(now_s, rng):
        return 0.002 + rng.exponential(0.001, now_s.size) + np.where((now_s // 20).astype(int) % 3 == 2, 0.4, 0.0)

    skew = fed(300, drift_ppm=10.0, way_s=way_s).skew()
    assert skew.drift_ppm == pytest.approx(10.0, abs=5.0)
    assert skew.offset_s == pytest.approx(0.002 + 10e-6 * 295, abs=2e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-6000, 0), min_size=5, max_size=40, unique=True), st.integers(0, 2**32 - 1))
def test_the_slope_is_that_of_scipy(x, seed):
    x = np.sort(np.array(x)) / 10
    y = np.random.default_rng(seed).normal(0, 1, x.size)
    slope, half = slope_of(x, y)
    theirs, _, low, high = theilslopes(y, x, alpha=0.95)
    assert slope == pytest.approx(theirs, rel=1e-9, abs=1e-12)
    assert half == pytest.approx(max(theirs - low, high - theirs), rel=1e-9, abs=1e-12)


def test_nothing_is_said_before_it_is_known():
    meter = SkewMeter()
    assert math.isnan(meter.skew().offset_s)
    meter.add(0, 5)
    assert math.isnan(meter.skew().offset_s)  # the first window is open
    meter.add(0, WINDOW_NS + 5)
    skew = meter.skew()
    assert skew.offset_s == pytest.approx(5e-9)
    assert math.isnan(skew.drift_ppm)
    assert slope_of(np.zeros(3), np.arange(3.0)) == (pytest.approx(math.nan, nan_ok=True),) * 2


def test_what_is_old_falls_out():
    meter = SkewMeter()
    for k in range(3 * KEEP):
        late_ns = 0 if k < KEEP else k * 5_000  # a clock that began to drift: 1 ppm
        meter.add(k * WINDOW_NS - late_ns, k * WINDOW_NS)
    skew = meter.skew()
    assert skew.span_s == pytest.approx((KEEP - 1) * WINDOW_NS / S)
    assert skew.drift_ppm == pytest.approx(1.0, abs=1e-6)


def live_rows(t_s, rx_s, hz=50.0):
    rows = np.zeros(len(t_s), FREQUENCY)
    rows["t_ns"], rows["rx_ns"] = (
        BEGIN_NS + np.round(np.asarray(column) * S).astype(np.int64) for column in (t_s, rx_s)
    )
    rows["hz"], rows["volt_frac"] = hz + 0.001 * (np.arange(len(t_s)) % 7), math.nan
    return rows


def test_a_slow_drift_marks_nothing_and_is_reported_by_the_gate():
    now_s = np.arange(0.0, 400.0, 0.1)
    gate = Gate(live=True)
    got = gate.check(live_rows(now_s * (1 - 400e-6), now_s + 0.001))
    assert not got["quality"].any()
    assert gate.skew().drift_ppm == pytest.approx(400.0, rel=1e-3)
    assert gate.skew().offset_s == pytest.approx(0.001 + 395 * 400e-6, abs=3e-3)


@pytest.mark.parametrize("jump_s", [-3.0, 3.0])
def test_a_jump_is_refused_then_learnt_and_the_drift_with_it(jump_s):
    now_s = np.arange(0.0, 200.0, 0.1)
    stamps_s = now_s - np.where(now_s >= 100.0, jump_s, 0.0)
    gate = Gate(GateSettings(age_max_s=60.0), live=True)
    got = gate.check(live_rows(stamps_s, now_s + 0.001))["quality"]
    assert got[(now_s >= 100) & (now_s < 105)].all()
    assert not got[(now_s < 100) | (now_s >= 105.1)].any()
    skew = gate.skew()
    assert skew.jumps == 1
    assert skew.offset_s == pytest.approx(jump_s + 0.001, abs=1e-3)
    assert abs(skew.drift_ppm) < 1.0
    assert skew.span_s <= 95.0  # nothing of before the jump


def test_a_recording_has_no_arrivals_to_tell_a_skew_from():
    gate = Gate()
    gate.check(live_rows(np.arange(0.0, 100.0, 0.1), np.arange(0.0, 100.0, 0.1)))
    assert math.isnan(gate.skew().offset_s)
