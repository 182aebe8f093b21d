"""The histogram against a sorted list of all the values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.latency import BOUNDS_S, BUCKETS, HIGHEST_NS, LOWEST_NS, RATIO, Histogram

durations = st.lists(st.integers(LOWEST_NS, HIGHEST_NS), min_size=1, max_size=60)


def nearest_rank_ms(values, fraction):
    return sorted(values)[max(1, math.ceil(fraction * len(values))) - 1] / 1e6


@given(durations)
def test_quantiles_lie_within_a_bucket_of_the_sorted_list(values):
    histogram = Histogram()
    histogram.add_many(values)
    summary = histogram.summary()
    for name, fraction in (("p50", 0.50), ("p99", 0.99)):
        assert summary[name] == pytest.approx(nearest_rank_ms(values, fraction), rel=RATIO - 1)
    assert summary["max"] == max(values) / 1e6
    assert summary["p99"] <= summary["max"]


@given(durations, durations)
def test_one_by_one_many_at_once_and_merged_agree(first, second):
    single, many, merged = Histogram(), Histogram(), Histogram()
    for value in first + second:
        single.add_ns(value)
    many.add_many(np.array(first + second))
    merged.add_many(first)
    other = Histogram()
    other.add_many(second)
    merged.merge(other)
    for histogram in (many, merged):
        # log of math and of numpy may differ in the last bit, at an edge
        assert np.abs(np.cumsum(histogram.counts) - np.cumsum(single.counts)).max() <= 2
        assert (histogram.count, histogram.max_ns) == (single.count, single.max_ns)


@pytest.mark.parametrize("value", [-5, 0, 1, LOWEST_NS, 2 * HIGHEST_NS, 10**15])
def test_values_beyond_the_range_are_counted_at_its_ends(value):
    histogram = Histogram()
    histogram.add_ns(value)
    histogram.add_many([value])
    assert histogram.count == 2
    assert histogram.counts[0 if value <= LOWEST_NS else BUCKETS - 1] == 2
    assert histogram.summary()["max"] == max(value, 0) / 1e6


@given(durations)
def test_what_a_scraper_is_told_lies_within_a_bucket_of_the_sorted_list(values):
    histogram = Histogram()
    for value in values:
        histogram.add_ns(value)
    other = Histogram()
    other.add_many(values)
    found = histogram.cumulative()
    assert found["count"] == len(values)
    assert found["sum_s"] == pytest.approx(sum(values) / 1e9)
    assert other.cumulative()["sum_s"] == found["sum_s"]
    assert [float(bound) for bound in found["le"]] == list(BOUNDS_S)
    for bound, count in found["le"].items():
        least = sum(value <= float(bound) * 1e9 / RATIO for value in values)
        most = sum(value <= float(bound) * 1e9 * RATIO for value in values)
        assert least <= count <= most


def test_merged_histograms_have_the_sum_of_both():
    one, other = Histogram(), Histogram()
    one.add_ns(5_000_000)
    other.add_ns(7_000_000)
    other.add_ns(-3)
    one.merge(other)
    assert one.cumulative()["sum_s"] == pytest.approx(0.012)


def test_empty_is_not_fast():
    assert all(math.isnan(value) for value in Histogram().summary().values())
    histogram = Histogram()
    histogram.add_many([])
    assert histogram.count == 0
