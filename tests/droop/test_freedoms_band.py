"""What is given freely stays within the band of the product's own score, interval by interval."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from droop.freedoms import SUMS, banded, slope_band
from droop.products import load
from settlement.scores.ce_corridor import slope
from tests.droop.test_modes import Run, S

GERMAN = load("ce_fcr_de")
QUARTER = 900
T0 = 1_700_000_100 * S  # on a quarter of an hour
SHORT, FULL = 0.46, 0.54  # of the window: lean -0.8 and 0.8


def noisy(seed, std_hz, seconds=3 * QUARTER, mean_hz=0.0):
    """A frequency that wanders about its nominal value, a value a second."""
    rng = np.random.default_rng(seed)
    dev = np.zeros(seconds)
    for k in range(1, seconds):
        dev[k] = 0.98 * dev[k - 1] + std_hz * math.sqrt(1 - 0.98**2) * rng.standard_normal()
    return dev + mean_hz


def ratios(product, dev_hz, full=FULL):
    """Slope of what is asked over that of what is due, of each quarter of an hour."""
    run, plain = Run((product, 1000.0)), Run((replace(product, freedoms=load("ce_fcr").freedoms), 1000.0))
    asked, due = (
        np.array([one.tick(T0 + k * S, 50.0 + dev, full * 1e3, (1 - full) * 1e3) for k, dev in enumerate(dev_hz)])
        for one in (run, plain)
    )
    parts = [slice(k, k + QUARTER) for k in range(0, dev_hz.size, QUARTER)]
    return [slope(asked[p], dev_hz[p]) / slope(due[p], dev_hz[p]) for p in parts], asked, due


@pytest.mark.parametrize("full", [0.0, SHORT, FULL, 1.0])
@pytest.mark.parametrize("std_hz", [0.008, 0.012, 0.02, 0.05])
def test_no_quarter_leaves_the_band(std_hz, full):
    for seed in range(3):
        found, asked, due = ratios(GERMAN, noisy(seed, std_hz), full)
        assert max(found) <= 1.3
        assert np.abs(asked - due).max() > 1.0


def test_without_the_bound_an_ordinary_quarter_leaves_it():
    unbound, *_ = ratios(replace(GERMAN, score={}), noisy(1, 0.008), 1.0)
    assert max(unbound) > 1.3


def test_an_offset_frequency_stays_within_too():
    for mean_hz in (-0.03, 0.015, 0.06):
        found, *_ = ratios(GERMAN, noisy(4, 0.012, mean_hz=mean_hz), 1.0 if mean_hz < 0 else 0.0)
        assert max(found) <= 1.3


def test_what_helps_is_still_given_where_there_is_room():
    """Large deviations: a fifth more throughout stays far within 1.3."""
    found, asked, due = ratios(replace(GERMAN, freedoms=replace(GERMAN.freedoms, speed=False)), noisy(2, 0.1), 1.0)
    low = due > 100.0
    assert asked[low][60:] == pytest.approx(1.2 * due[low][60:])
    assert min(found) > 1.05
    assert max(found) <= 1.2


def test_a_band_is_the_products_own():
    assert slope_band(GERMAN.score) == 1.3
    for score in ({}, {"slope": 1.3}, {"slope": [0.9]}, {"slope": [0.9, "x"]}, {"slope": [0.5, 0.9]}):
        assert slope_band(score) == math.inf


def test_where_nothing_is_known_of_time_all_is_given():
    sums = np.zeros(SUMS)
    assert banded(sums, -0.05, 0.25, 0.3, 0.0, 1.3) == 0.3
    assert not sums.any()
