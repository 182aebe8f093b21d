"""Whether a rule kept its word: the tests against their own texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from droop.exceedance import judged
from tests import naive_bids as twin


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.sampled_from([0.9, 0.95, 0.99]))
def test_is_the_twin(hits, confidence):
    found = judged(np.array(hits), confidence)
    x, n, share = sum(hits), len(hits), round(1 - confidence, 6)
    assert (found.blocks, found.exceeded) == (n, x)
    assert found.expected == pytest.approx(n * share)
    assert found.p_value == pytest.approx(twin.binomial_tail(x, n, share), rel=1e-6)
    assert found.passed == (found.p_value >= 0.05)
    assert found.kupiec_p == pytest.approx(chi2.sf(max(twin.kupiec(x, n, share), 0), 1), abs=1e-6)
    before, after = hits[:-1], hits[1:]
    if found.independent_p is None:
        assert not any(before) or all(before) or not any(after) or all(after)
    else:
        follows = max(twin.christoffersen([int(hit) for hit in hits]), 0)
        assert found.independent_p == pytest.approx(chi2.sf(follows, 1), abs=1e-6)
        assert found.joint_p == pytest.approx(chi2.sf(follows + max(twin.kupiec(x, n, share), 0), 2), abs=1e-6)


def test_the_textbook_case():
    """Kupiec's table: of 255 days at 99 %, up to 6 are not rejected at 5 %, 7 are (as published for his test)."""
    for x, rejected in ((0, True), (1, False), (6, False), (7, True)):
        hits = np.zeros(255, bool)
        hits[np.arange(x) * 30] = True
        assert (judged(hits, 0.99).kupiec_p < 0.05) == rejected


def test_one_after_another_is_not_independent_though_the_count_is_right():
    hits = np.zeros(1000, bool)
    hits[500:510] = True
    found = judged(hits, 0.99)
    assert found.passed
    assert found.kupiec_p > 0.9
    assert found.independent_p < 1e-6
    assert found.joint_p < 1e-6
    spread = np.zeros(1000, bool)
    spread[np.arange(10) * 97] = True
    assert judged(spread, 0.99).independent_p > 0.5


def test_a_right_rule_passes_and_an_optimistic_one_does_not():
    rng = np.random.default_rng(11)
    passed = [judged(rng.random(600) < 0.01, 0.99).passed for _ in range(200)]
    assert np.mean(passed) > 0.93
    assert not any(judged(rng.random(600) < 0.06, 0.99).passed for _ in range(50))


def test_nothing_promised_is_nothing_broken_and_bad_shares_are_refused():
    assert judged(np.zeros(0, bool), 0.99).passed
    assert judged(np.zeros(0, bool), 0.99).kupiec_p is None
    for confidence, level in ((0.0, 0.05), (1.0, 0.05), (0.9, 0.0), (0.9, 1.0)):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            judged(np.zeros(3, bool), confidence, level)
