"""The grid against a twin that walks through time nanosecond borders one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement import align
from settlement.align import NS, AlignError, Grid


def naive(t_ns, value, usable, grid, hold_ns):
    """Cell by cell, sample by sample, in whole ns."""
    rows = sorted(enumerate(zip(t_ns, value, usable, strict=True)), key=lambda row: (row[1][0], row[0]))
    rows = [row for _, row in rows]
    means, coverages = [], []
    for k in range(grid.cells):
        low, high = grid.start_ns + k * grid.step_ns, grid.start_ns + (k + 1) * grid.step_ns
        seen, total = 0, 0.0
        for i, (t, v, good) in enumerate(rows):
            end = t + hold_ns
            if i + 1 < len(rows):
                end = min(end, rows[i + 1][0])
            span = min(end, high) - max(t, low)
            if span > 0 and good and v == v:
                seen += span
                total += span * v
        means.append(total / seen if seen else float("nan"))
        coverages.append(seen / grid.step_ns)
    return np.array(means), np.array(coverages)


samples = st.lists(
    st.tuples(
        st.integers(-3_000, 12_000),
        st.one_of(st.floats(-100, 100), st.just(float("nan"))),
        st.booleans(),
    ),
    max_size=30,
)


@given(rows=samples, step=st.integers(1, 2_500), cells=st.integers(0, 8), hold=st.integers(1, 6_000))
def test_equals_the_naive_twin(rows, step, cells, hold):
    grid = Grid(100, step, cells)
    t = np.array([row[0] for row in rows], np.int64)
    v = np.array([row[1] for row in rows], np.float64)
    ok = np.array([row[2] for row in rows], bool)
    got = align.of_samples(t, v, grid, hold, ok)
    mean, coverage = naive(t.tolist(), v.tolist(), ok.tolist(), grid, hold)
    np.testing.assert_allclose(got.mean, mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got.coverage_frac, coverage, rtol=0, atol=1e-15)


@given(rows=samples, hold=st.integers(1, 6_000))
def test_the_integral_does_not_depend_on_the_grid(rows, hold):
    t = np.array([row[0] for row in rows], np.int64)
    v = np.array([row[1] for row in rows], np.float64)
    whole, fine = Grid(0, 12_000, 1), Grid(0, 7, 12_000 // 7 + 1)
    one = align.of_samples(t[t < 5_000], v[t < 5_000], whole, hold)
    many = align.of_samples(t[t < 5_000], v[t < 5_000], fine, hold)
    assert align.integral(one, whole.step_s) == pytest.approx(align.integral(many, fine.step_s), abs=1e-15)


def test_missing_time_is_not_filled():
    t = np.array([0, 1, 5], np.int64) * NS
    got = align.of_samples(t, np.array([1.0, 2.0, 3.0]), Grid(0, NS, 8), 2 * NS)
    np.testing.assert_array_equal(got.mean, [1, 2, 2, np.nan, np.nan, 3, 3, np.nan])
    np.testing.assert_array_equal(got.coverage_frac, [1, 1, 1, 0, 0, 1, 1, 0])


def test_an_unusable_sample_ends_the_one_before():
    t = np.array([0, NS // 2], np.int64)
    got = align.of_samples(t, np.array([1.0, 9.0]), Grid(0, NS, 1), 5 * NS, np.array([True, False]))
    assert got.mean[0] == 1.0
    assert got.coverage_frac[0] == 0.5


def test_a_mean_keeps_its_digits_after_a_huge_neighbour():
    """A cumulative integral would leave its rounding in every later cell."""
    t = np.arange(3, dtype=np.int64) * NS
    got = align.of_samples(t, np.array([1e15, 0.1, 0.1]), Grid(0, NS, 3), NS)
    assert got.mean[1] == pytest.approx(0.1, rel=1e-15)


def test_hold_limit_is_three_periods_within_limits():
    t = np.array([0, 1, 2, 3, 40], np.int64) * NS
    assert align.hold_limit_ns(t, 1.0) == 3 * NS
    assert align.hold_limit_ns(t, 1.0, 2.0) == 2 * NS
    assert align.hold_limit_ns(t[:1], 1.5) == 1.5 * NS
    assert align.hold_limit_ns(t[:4] // 50, 1.0) == NS


def test_carry_stops():
    nan = np.nan
    value = np.array([nan, 1.0, nan, nan, nan, 2.0])
    np.testing.assert_array_equal(align.carry(value, 2), [nan, 1, 1, 1, nan, 2])
    assert align.carry(np.zeros(0), 2).size == 0


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: Grid(0, 0, 1), "step_ns"),
        (lambda: Grid(0, 1, -1), "cells"),
        (lambda: align.of_samples(np.zeros(1, np.int64), np.zeros(1), Grid(0, 1, 1), 0), "hold_ns"),
        (lambda: align.of_samples(np.zeros(1, np.int64), np.zeros(2), Grid(0, 1, 1), 1), "value"),
        (
            lambda: align.of_segments(np.array([0, 1]), np.array([2, 3]), np.zeros(2), Grid(0, 1, 1)),
            "start_ns",
        ),
        (lambda: align.of_segments(np.array([2]), np.array([1]), np.zeros(1), Grid(0, 1, 1)), "end_ns"),
    ],
)
def test_wrong_use_names_the_field(call, field):
    with pytest.raises(AlignError, match=field):
        call()
