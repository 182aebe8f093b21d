"""PJM's three parts: a naive twin, numpy's own correlation, ties, flat and missing signals, what is a parameter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.products import load
from settlement.scores import Delivery, judge, pjm_v1, reach
from settlement.scores.pjm_v1 import score, windows
from settlement.scores.rule import ScoreError
from tests import naive_scores

V1 = replace(load("ce_fcr"), id="reg", score={"fn": "pjm_v1"})
ONLY = replace(V1, score={"fn": "pjm_precision_only", "unverified": True})


def smooth(n, seed, width=12):
    """A signal that wanders within -1..1."""
    rng = np.random.default_rng(seed)
    raw = np.convolve(rng.standard_normal(n + width), np.hanning(width + 2)[1:-1], "full")[width : width + n]
    return np.clip(raw / 2.5, -1, 1)


def response_to(signal, seed, delay=2, noise=0.05):
    rng = np.random.default_rng(seed + 1)
    late = np.concatenate([np.full(delay, signal[0]), signal[: signal.size - delay]]) if delay else signal
    return 0.9 * late + noise * rng.standard_normal(signal.size)


def rows(found):
    return list(zip(found.correlation, found.delay, found.precision, strict=True))


def same(found, twin):
    for got, wanted in zip(rows(found), twin, strict=True):
        if wanted is None:
            assert np.isnan(got).all()
        else:
            assert got == pytest.approx(wanted, abs=1e-8)


@given(
    seed=st.integers(0, 10_000), delay=st.integers(0, 20), noise=st.sampled_from([0.0, 0.05, 1.0]),
    propagation=st.sampled_from([0.0, 10.0]), norm=st.sampled_from(["5min", "hour"]),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_windows_equal_the_naive_twin(seed, delay, noise, propagation, norm):
    rng = np.random.default_rng(seed)
    signal = smooth(150, seed)
    signal[30:60] *= rng.choice([1.0, 1e-3, 0.0])  # sometimes flat, sometimes nothing
    given_ = response_to(signal, seed, delay, noise)
    if rng.random() < 0.5:
        given_[rng.integers(0, 150, 8)] = np.nan
        signal[rng.integers(60, 90)] = np.nan
    found = windows(signal[:120], given_, 1.0, propagation_s=propagation, precision_norm=norm)
    assert len(rows(found)) == 4  # of five minutes each
    same(found, naive_scores.pjm_windows(signal[:120].tolist(), given_.tolist(), 10.0, propagation, norm))


def test_correlation_agrees_with_numpy_to_1e_10():
    signal = smooth(30 * 400 + 30, 5)
    given_ = response_to(signal, 5, 3, 0.3)
    found = windows(signal[:-30], given_, 1.0)
    for w in range(400):
        lag = round(found.delay_s[w] / 10)
        r = np.corrcoef(signal[30 * w : 30 * w + 30], given_[30 * w + lag : 30 * w + lag + 30])[0, 1]
        assert max(0.0, r) == pytest.approx(found.correlation[w], abs=1e-10)


def test_correlation_of_a_faint_response_is_exact_too():
    """It hardly moves, and jumps where later shifts look: differences of sums would see the jump alone."""
    signal = smooth(60, 8)
    given_ = 0.2 + 1e-4 * (signal + 0.2 * smooth(60, 9))
    given_[30:] += 1.0
    found = windows(signal[:30], given_, 1.0)
    assert found.delay_s[0] == 0.0
    assert found.correlation[0] == pytest.approx(np.corrcoef(signal[:30], given_[:30])[0, 1], abs=1e-10)


@given(seed=st.integers(0, 10_000), factor=st.floats(0.01, 100), delay=st.integers(0, 8))
@settings(max_examples=20, deadline=None)
def test_scaling_both_changes_nothing_and_all_parts_are_shares(seed, factor, delay):
    signal = smooth(150, seed)
    given_ = response_to(signal, seed, delay, 0.3)
    one = score(signal[:120], given_, 1.0)
    other = score(factor * signal[:120], factor * given_, factor)
    for part, twin in zip(one[:5], other[:5], strict=True):
        assert twin == pytest.approx(part, abs=1e-7)
    assert all(0.0 <= part <= 1.0 for part in one[:4])


@given(seed=st.integers(0, 1000), delay=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_a_pure_delay_is_found(seed, delay):
    signal = smooth(400, seed, 4)
    late = np.concatenate([np.full(delay, signal[0]), signal[: signal.size - delay]])
    found = windows(signal[30:330], late[30:], 1.0)
    assert found.delay_s == pytest.approx(10.0 * delay)
    assert found.correlation == pytest.approx(1.0)


def test_of_equal_shifts_the_smallest_counts():
    """A period of 50 s fits itself at 0, 50, 100 s: only one of them is no delay."""
    signal = np.tile([0.0, 1.0, 0.5, -0.5, -1.0], 78)
    found = windows(signal[:360], signal + 0.5, 1.0)
    assert (found.delay == 1.0).all()
    assert found.correlation == pytest.approx(1.0)


def test_a_response_that_never_moves_scores_nothing():
    signal = 0.9 + 0.05 * smooth(150, 1)
    for level in (0.0, 0.9):
        found = score(signal[:120], np.full(150, level), 1.0)
        assert (found.score, found.correlation, found.delay, found.precision) == (0.0, 0.0, 0.0, 0.0)


def test_the_opposite_response_has_no_correlation():
    signal = smooth(60, 4, 60)
    found = windows(signal[:30], -signal, 1.0)
    assert found.correlation[0] >= 0.0
    assert found.precision[0] == 0.0


def test_flat_windows_are_judged_by_slope():
    found = score(np.full(60, 0.5), np.full(90, 0.5), 1.0)
    assert (found.score, found.flat_windows) == (1.0, 2)
    rising = 0.5 + 0.01 * np.arange(90)
    found = score(np.full(60, 0.5), rising, 1.0)
    assert found.correlation == pytest.approx(0.99)
    assert found.delay == 1.0


def test_a_signal_of_nothing():
    nothing = score(np.zeros(60), np.zeros(90), 1.0)
    assert nothing.score is None
    assert nothing.windows == 0
    noisy = score(np.zeros(60), np.full(90, 0.1), 1.0)
    assert noisy.precision == 0.0
    half = np.concatenate([np.zeros(30), np.full(30, 0.5)])
    assert score(half, np.concatenate([half, np.full(30, 0.5)]), 1.0).windows == 1


def test_missing_telemetry_costs_and_never_pays():
    signal = smooth(150, 9)
    signal[30:60] *= 0.01  # where 0 would be a fine answer
    perfect = score(signal[:120], signal, 1.0)
    for k in range(4):
        given_ = signal.copy()
        given_[30 * k + 5 : 30 * k + 25] = np.nan
        found = score(signal[:120], given_, 1.0)
        assert found.score < perfect.score - 0.02
        assert found.missing_frac == pytest.approx(20 / 120)
    all_missing = score(signal[:120], np.full(150, np.nan), 1.0)
    assert all_missing.precision == 0.0


def test_unknown_set_points_are_left_out():
    signal = smooth(150, 9)
    signal[40] = np.nan
    found = score(signal[:120], np.nan_to_num(signal), 1.0)
    assert found.windows == 3
    assert found.score == pytest.approx(1.0)


def test_the_allowance_for_propagation():
    signal = smooth(150, 2)
    late = np.concatenate([[signal[0]], signal[:-1]])
    strict, lenient = (score(signal[:120], late, 1.0, propagation_s=s) for s in (0.0, 10.0))
    assert strict.delay == pytest.approx(1 - 1 / 30)
    assert (lenient.delay, lenient.precision) == (1.0, pytest.approx(1.0, abs=0.05))
    assert score(signal[:120], signal, 1.0, propagation_s=10.0).score == pytest.approx(1.0)  # not late for being early


def test_norm_of_the_hour_weighs_quiet_windows_less():
    signal = smooth(390, 6)
    signal[:30] *= 0.05
    given_ = signal + 0.02
    per_window, per_hour = (score(signal[:360], given_, 1.0, precision_norm=norm) for norm in ("5min", "hour"))
    assert per_hour.precision > per_window.precision


def test_weights():
    signal = smooth(150, 2)
    found = score(signal[:120], 0.5 * signal, 1.0, weights=(0.0, 0.0, 1.0))
    assert found.score == pytest.approx(found.precision)
    with pytest.raises(ScoreError, match="weights"):
        score(signal[:120], signal, 1.0, weights=(0.0, 0.0, 0.0))


def test_too_short_is_no_score_and_wrong_use_is_named():
    assert score(np.ones(29), np.ones(29), 1.0).score is None
    assert score(np.zeros(0), np.zeros(0), 1.0).score is None
    with pytest.raises(ScoreError, match="capacity_kw"):
        score(np.ones(30), np.ones(30), 0.0)
    with pytest.raises(ScoreError, match="step_s"):
        score(np.ones(30), np.ones(30), 1.0, step_s=7.0)


def delivery(signal, response, sold_kw=100.0, tail=30):
    n = signal.size
    last = n - tail
    given_ = ~np.isnan(response)
    valid = given_ & (np.arange(n) < last)
    return Delivery(sold_kw * response, sold_kw * signal, np.zeros(n), sold_kw, valid, 10.0,
                    np.ones(n, bool), given_, 0, last)  # fmt: skip


def test_a_product_is_judged_with_its_sequel():
    signal = smooth(120, 3)
    verdict = judge(V1, delivery(signal, response_to(signal, 3, 2, 0.0)))
    assert verdict.kpis["delay_s"] == pytest.approx(20.0)
    assert verdict.kpis["windows"] == 3
    assert set(verdict.kpis) >= {"correlation", "delay", "precision"}
    assert verdict.score == pytest.approx(sum(verdict.kpis[k] for k in ("correlation", "delay", "precision")) / 3)
    assert reach(V1).tail_s == 300
    silent = judge(V1, delivery(signal, np.full(120, np.nan)))
    assert silent.score is None
    assert "no telemetry" in silent.note


def test_precision_alone_stands_behind_its_flag():
    signal = smooth(120, 3)
    one = delivery(signal, 0.8 * signal)
    off = judge(replace(ONLY, score={"fn": "pjm_precision_only"}), one)
    assert off.score is None
    assert "unverified" in off.note
    on = judge(ONLY, one)
    assert on.score == pytest.approx(0.8)
    assert "[M]" in on.note
    assert judge(ONLY, delivery(signal, np.full(120, np.nan))).score is None
    assert judge(ONLY, delivery(0 * signal, 0 * signal)).score is None
    assert pjm_v1.reach(ONLY) == reach(ONLY)
