"""Series for the eye: no peak is lost to thinning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import report

S = 1_000_000_000


@given(size=st.integers(0, 30_000), seed=st.integers(0, 9), points=st.sampled_from([100, 4_000]))
def test_thinning_keeps_order_extremes_and_ends_the_flood(size, seed, points):
    value = np.random.default_rng(seed).standard_normal(size)
    t_ns = np.arange(size, dtype=np.int64) * S
    kept_ns, kept = report.thinned(t_ns, value, points)
    assert (np.diff(kept_ns) > 0).all()
    assert kept.size <= min(size, points + 2 * size // points + 2)
    assert (value[kept_ns // S] == kept).all()
    if size:
        assert kept.min() == value.min()
        assert kept.max() == value.max()


def test_a_single_spike_survives_and_what_is_not_a_number_is_left_out():
    value = np.zeros(86_400)
    value[40_000], value[50_000] = -0.3, np.nan
    kept_ns, kept = report.thinned(np.arange(86_400) * S, value)
    assert kept.min() == -0.3
    assert np.isfinite(kept).all()
    assert 50_000 * S not in kept_ns


@pytest.mark.parametrize("points", [1, 2, 3])
def test_few_points_are_kept_as_they_are(points):
    t_ns, value = np.arange(points, dtype=np.int64), np.arange(points, dtype=np.float64)
    kept_ns, kept = report.thinned(t_ns, value)
    assert kept_ns.tolist() == t_ns.tolist()
    assert kept.tolist() == value.tolist()
