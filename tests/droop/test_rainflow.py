"""Rainflow against the standard's own example, the package `rainflow`, and a twin with lists and no limits."""

from __future__ import annotations

import csv
import itertools
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop import rainflow
from droop.rainflow import BINS, DEPTH, EDGES, STRIDE, begin, equivalent_full_cycles, observe, read, restart, series
from tests import naive_wear as naive

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
ASTM = DATA / "battery" / "astm_e1049_example.csv"

seeds = st.integers(0, 2**32 - 1)
# A coarse grid makes equal ranges and repeated values common, where >= and > part; /64 keeps every sum exact.
grids = st.lists(st.integers(0, 64).map(lambda k: k / 64), min_size=1, max_size=60)
thresholds = st.sampled_from([0.0, 0.001, 1 / 64, 1 / 50, 0.1])


def by_range(cycles):
    counts = Counter()
    for size, _, number in cycles:
        counts[round(size, 9)] += number
    return dict(counts)


def walk(rng, steps, scale=0.01):
    way = np.cumsum(rng.standard_normal(steps)) * scale
    return (way - way.min()) / max(np.ptp(way), 1e-9)


def columns(histories, threshold, update=observe):
    """The state after histories of equal length, side by side."""
    table = np.asarray(histories)
    cycles = begin(table[:, 0])
    for soc in table.T:
        update(cycles, soc, threshold)
    return cycles


def same(counts, expected):
    """One row of `Counts` against a list of (range, mean, count)."""
    halves, depth, mean = np.zeros(BINS), np.zeros(BINS), np.zeros(BINS)
    for size, level, number in expected:
        at = max(k for k in range(BINS) if EDGES[k] <= size)
        halves[at] += 2 * number
        depth[at] += size * number
        mean[at] += level * number
    np.testing.assert_array_equal(counts[0], halves)
    np.testing.assert_allclose(counts[1], depth, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(counts[2], mean, rtol=1e-12, atol=1e-14)
    assert counts[3] == pytest.approx(sum(s * s * n for s, _, n in expected), rel=1e-12, abs=1e-14)


def row(counts, k):
    return tuple(column[k] for column in counts)


class TestVectors:
    """Rulebook 12."""

    def test_rf_1(self):
        counts = by_range(series([-2, 1, -3, 5, -1, 3, -4, 4, -2]))
        assert counts == {3.0: 0.5, 4.0: 1.5, 6.0: 0.5, 8.0: 1.0, 9.0: 0.5}

    def test_rf_2(self):
        soc = [0.5, 0.6, 0.4, 0.7, 0.3, 0.5]
        cycles = series(soc)
        assert [round(c.range, 12) for c in cycles] == [0.1, 0.2, 0.3, 0.4, 0.2]
        assert {c.number for c in cycles} == {0.5}
        counts = read(columns([soc], 0.0), 0.0)
        assert equivalent_full_cycles(counts) == pytest.approx(0.6, rel=1e-12)

    def test_turning_points_are_told(self):
        """Three vehicles; the second falls from its start, which is a reversal of the detector's first guess."""
        cycles = begin([0.5, 0.5, 0.5])
        steps = [(0.6, 0.4, 0.5), (0.4, 0.6, 0.5), (0.7, 0.3, 0.5)]
        assert [observe(cycles, soc) for soc in steps] == [0, 2, 2]

    @pytest.mark.skipif(not ASTM.is_file(), reason=f"no worked example of the standard in {ASTM}")
    def test_the_standards_example(self):
        lines = [line.split("#")[0].strip() for line in ASTM.read_text(encoding="utf-8").splitlines()]
        numbers = [[float(x) for x in entry] for entry in csv.reader(line for line in lines if line)]
        history, expected = numbers[0], dict(numbers[1:])
        assert by_range(series(history)) == expected


class TestAgainstThePackage:
    """`rainflow` 3.2, an implementation of the same clause by others."""

    package = staticmethod(lambda: pytest.importorskip("rainflow", reason="package rainflow (oracle) is not installed"))

    @pytest.mark.parametrize("seed", range(12))
    def test_walks_and_noise(self, seed):
        rng = np.random.default_rng(seed)
        history = walk(rng, 3000) if seed % 2 else rng.random(400)
        theirs = [(r, m, c) for r, m, c, *_ in self.package().extract_cycles(history.tolist()) if r > 0]
        assert naive.table(series(history)) == naive.table(theirs)

    def test_columns_of_a_day(self):
        """Damage r^2 of 20 vehicles, 20 000 steps, with the detector that does not look at single vehicles."""
        rng = np.random.default_rng(7)
        histories = np.array([walk(rng, 20_000) for _ in range(20)])
        counts = read(columns(histories, 0.0, rainflow.update), 0.0)
        for k, history in enumerate(histories):
            theirs = [(r, c) for r, _, c, *_ in self.package().extract_cycles(history.tolist())]
            assert counts.square[k] == pytest.approx(sum(r * r * c for r, c in theirs), rel=1e-9)
            assert equivalent_full_cycles(counts)[k] == pytest.approx(sum(r * c for r, c in theirs), rel=1e-9)


@settings(max_examples=200, deadline=None)
@given(grids, thresholds)
def test_series_is_the_twin(history, threshold):
    assert naive.table(series(history, threshold)) == naive.table(naive.count(history, threshold))


@settings(max_examples=200, deadline=None)
@given(grids, thresholds)
def test_columns_are_the_twin(history, threshold):
    """The history, its mirror image and its reverse, side by side; read out whole."""
    tables = [history, [1 - x for x in history], history[::-1]]
    counts = read(columns(tables, threshold), threshold)
    for k, one in enumerate(tables):
        same(row(counts, k), naive.count(one, threshold))
    np.testing.assert_array_equal(counts[0][0], counts[0][1])  # upside down the cycles are as deep


@settings(max_examples=100, deadline=None)
@given(grids, thresholds)
def test_up_and_down_are_one_law(history, threshold):
    """Mirrored, every range is the same and every mean is mirrored."""
    mirrored = [(c.range, 1 - c.mean, c.number) for c in series([1 - x for x in history], threshold)]
    assert naive.table(mirrored) == naive.table(series(history, threshold))


@settings(max_examples=100, deadline=None)
@given(grids)
def test_standing_still_and_stops_on_the_way_count_nothing(history):
    slow = [x for x in history for _ in range(3)]
    halfway = [x for a, b in itertools.pairwise(history) for x in (a, (a + b) / 2)] + [history[-1]]
    assert naive.table(series(slow)) == naive.table(series(history)) == naive.table(series(halfway))


@settings(max_examples=100, deadline=None)
@given(grids)
def test_every_way_is_counted_once(history):
    """Without a threshold the ranges add up to half the way travelled: EFC is throughput."""
    way = sum(abs(b - a) for a, b in itertools.pairwise(history))
    assert sum(c.range * c.number for c in series(history)) == pytest.approx(way / 2, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 40))
def test_reading_disturbs_nothing(seed, steps):
    rng = np.random.default_rng(seed)
    histories = rng.random((3, steps))
    silent, asked = begin(histories[:, 0]), begin(histories[:, 0])
    for soc in histories.T:
        observe(silent, soc)
        observe(asked, soc)
        first, second = read(asked), read(asked)
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip((*silent[:4], *silent.closed), (*asked[:4], *asked.closed), strict=True):
        if a is silent.points:
            for k in range(3):
                np.testing.assert_array_equal(a[k, : silent.depth[k]], b[k, : silent.depth[k]])
        else:
            np.testing.assert_array_equal(a, b)


@settings(max_examples=60, deadline=None)
@given(grids, thresholds)
def test_closed_cycles_stay_closed(history, threshold):
    """What was closed only grows, and a reading is never less than what was closed."""
    cycles = begin(history[:1])
    before = [column.copy() for column in cycles.closed]
    for soc in history:
        observe(cycles, [soc], threshold)
        for was, now, whole in zip(before, cycles.closed, read(cycles, threshold), strict=True):
            assert (now >= was).all()
            assert (whole >= now).all()
        before = [column.copy() for column in cycles.closed]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, STRIDE - 1, STRIDE, STRIDE + 1, 2 * STRIDE + 3])
def test_blocks_of_the_detector_are_no_border(n, dtype):
    """Every vehicle on its own grid of moments, few turning at once: each row is what it is alone."""
    rng = np.random.default_rng(n)
    histories = np.round(np.array([walk(rng, 60) for _ in range(n)]) * 64) / 64
    cycles = begin(histories[:, 0])
    for soc in histories.T:
        rainflow.update(cycles, soc.astype(dtype), 0.01)
    counts = read(cycles, 0.01)
    expected = [naive.count(history, 0.01) for history in histories]
    assert all(expected)
    for k in range(n):
        same(row(counts, k), expected[k])


class TestOverflow:
    """A spiral inwards keeps every point: more than a stack holds."""

    spiral = tuple(0.5 + (-1) ** k * 0.45 * 0.96**k for k in range(DEPTH + 9))

    def test_the_oldest_is_folded_as_a_half_cycle(self):
        cycles = columns([self.spiral], 0.0)
        # The last extreme waits outside the stack.
        kept = self.spiral[:-1]
        folded = len(kept) - DEPTH
        assert cycles.depth[0] == DEPTH
        np.testing.assert_array_equal(cycles.points[0], kept[-DEPTH:])
        ways = [abs(b - a) for a, b in itertools.pairwise(kept)][:folded]
        assert cycles.closed.halves.sum() == folded
        assert cycles.closed.depth.sum() == pytest.approx(sum(ways) / 2, rel=1e-12)

    def test_nothing_of_the_way_is_lost(self):
        counts = read(columns([self.spiral], 0.0), 0.0)
        way = sum(abs(b - a) for a, b in zip(self.spiral, self.spiral[1:], strict=False))
        assert equivalent_full_cycles(counts)[0] == pytest.approx(way / 2, rel=1e-12)
        same(row(counts, 0), naive.count(self.spiral))

    def test_a_series_keeps_everything(self):
        there_and_back = [*self.spiral, *self.spiral[::-1]]
        assert naive.table(series(there_and_back)) == naive.table(naive.count(there_and_back))


def test_steady_swings_close_at_once():
    """A range equal to the one before closes it; kept open, a regular day would fill the stack."""
    cycles = columns([[0.25, 0.75, 0.375, *[0.625, 0.375] * 40]], 0.0)
    assert cycles.depth[0] <= 4
    assert cycles.closed.depth.sum() > 9.0


def test_the_threshold_is_a_reversal_that_counts_only_beyond_it():
    rippled = [0.5, 0.6, 0.5995, 0.7, 0.6992, 0.8, 0.4]
    assert by_range(series(rippled, 0.001)) == {0.3: 0.5, 0.4: 0.5}
    assert len(series(rippled, 0.0006)) == 3
    assert by_range(series([0.0, 0.5, 0.25, 1.0], 0.25)) == {1.0: 0.5}  # equal is not beyond


def test_a_start_within_the_threshold_is_none():
    assert series([0.5, 0.5005, 0.4995, 0.5004], 0.001) == []
    assert by_range(series([0.5, 0.5005, 0.3], 0.001)) == {0.2: 0.5}
    assert by_range(series([0.5, 0.4995, 0.7], 0.001)) == {0.2: 0.5}


def test_restart_forgets_one_vehicle_and_no_other():
    rng = np.random.default_rng(3)
    histories = rng.random((3, 30))
    cycles = columns(histories, 0.001)
    restart(cycles, [1], [0.25])
    counts = read(cycles)
    assert all(np.all(column == 0) for column in row(counts, 1))
    for k in (0, 2):
        same(row(counts, k), naive.count(histories[k], 0.001))
    later = [[0.25, *rng.random(20)] for _ in range(3)]
    for k in range(1, 21):
        observe(cycles, [one[k] for one in later])
    same(row(read(cycles), 1), naive.count(later[1], 0.001))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.01, 1.01, 50.0])
def test_a_state_of_charge_that_is_none_is_refused(bad):
    cycles = begin([0.5, 0.5])
    for call in (lambda: begin([0.5, bad]), lambda: observe(cycles, [0.5, bad]), lambda: restart(cycles, [0], [bad])):
        with pytest.raises(ValueError, match=r"^soc:"):
            call()
    assert (cycles.extreme == 0.5).all()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda c: observe(c, [0.5]), "soc"),
        (lambda c: observe(c, [[0.5, 0.5]]), "soc"),
        (lambda c: observe(c, [0.5, 0.5], -1e-9), "threshold"),
        (lambda c: observe(c, [0.5, 0.5], np.nan), "threshold"),
        (lambda c: read(c, np.inf), "threshold"),
        (lambda c: restart(c, [0, 1], [0.5]), "rows"),
        (lambda _: series([0.1, np.nan]), "soc"),
        (lambda _: series([[0.1, 0.2]]), "soc"),
        (lambda _: series([0.1, 0.2], -1), "threshold"),
    ],
)
def test_bad_argument_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}:"):
        call(begin([0.5, 0.5]))


def test_no_history_no_cycles():
    assert series([]) == series([0.4]) == series([0.4, 0.4]) == []


def test_begin_copies_its_argument():
    soc = np.array([0.5, 0.6])
    cycles = begin(soc)
    soc[:] = 0.9
    observe(cycles, [0.5, 0.6])
    assert equivalent_full_cycles(read(cycles)).sum() == 0.0
