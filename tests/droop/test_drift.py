"""What a biased signal does to the energy: against a battery followed second by second."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from droop.capability import Needs
from droop.drift import Drift, bought_back_kw, bound_pu, hours_left, learned, limit_kw
from tests import naive_bids as twin

S = 10**9
FCR = Needs(1.25, 1.25, 0.25, 0.25)


def signal(share, step_s=2):
    t_ns = np.arange(share.size, dtype=np.int64) * step_s * S
    return t_ns, share


def edges(hours, blocks):
    return np.arange(blocks + 1, dtype=np.int64) * round(hours * 3600) * S


class TestLearned:
    @given(st.integers(0, 1000), st.sampled_from([1.0, 0.9, 0.6]))
    def test_is_the_mean_of_what_flows_block_by_block(self, seed, efficiency):
        share = np.clip(np.random.default_rng(seed).normal(-0.2, 0.5, 1800), -1, 1)
        found = learned(*signal(share), edges(0.25, 4), efficiency)
        rows = share.reshape(4, -1)
        out, into = np.maximum(rows, 0).mean(axis=1), np.maximum(-rows, 0).mean(axis=1)
        assert found.blocks == 4
        assert found.mean_pu == pytest.approx(share.mean())
        assert found.up_pu == pytest.approx((out - efficiency * into).mean())
        assert found.down_pu == pytest.approx((into - out / efficiency).mean())
        assert found.up_sd == pytest.approx(np.std(out - efficiency * into, ddof=1))
        assert found.down_sd == pytest.approx(np.std(into - out / efficiency, ddof=1))

    def test_blocks_that_begin_between_samples_are_cut_where_they_begin(self):
        t_ns, share = np.array([0, 10, 20, 30, 40]) * S, np.array([1.0, 0.0, 1.0, -1.0, 0.0])
        found = learned(t_ns, share, np.array([5, 25, 45]) * S)
        # 5 s of 1, 10 s of 0, 5 s of 1; then 5 s of 1, 10 s of -1, 5 s of 0
        assert found.mean_pu == pytest.approx((10 / 20 - 5 / 20) / 2)

    def test_what_is_not_known_counts_for_nothing_and_a_block_of_it_is_left_out(self):
        share = np.full(1800, -0.5)
        share[450:540] = np.nan  # a fifth of the second of four
        share[900:930] = np.nan  # a little of the third
        found = learned(*signal(share), edges(0.25, 4))
        assert found.blocks == 3
        assert found.mean_pu == pytest.approx(-0.5)
        gap = learned(np.array([0, 1, 2, 3, 1000, 1001]) * S, np.ones(6), np.array([0, 4]) * S)
        assert gap.mean_pu == pytest.approx(1.0)
        with pytest.raises(ValueError, match="no block"):
            learned(np.array([0, 1, 2, 3, 1000, 1001]) * S, np.ones(6), np.array([0, 900]) * S)

    def test_what_says_nothing_is_refused(self):
        with pytest.raises(ValueError, match="longer one"):
            learned(np.zeros(1, np.int64), np.zeros(1), edges(1, 1))
        with pytest.raises(ValueError, match="efficiency_frac"):
            learned(*signal(np.zeros(9)), edges(1, 1), 0.0)


class TestFloor:
    @pytest.mark.parametrize(("mean", "efficiency"), [(0.46, 1.0), (-0.46, 1.0), (0.1, 0.8), (-0.3, 0.8), (0.0, 0.8)])
    def test_is_reached_when_the_drift_says(self, mean, efficiency):
        share = np.clip(np.random.default_rng(3).normal(mean, 0.3, 900), -1, 1)
        share += mean - share.mean()
        drift = learned(*signal(share), edges(0.5, 1), efficiency)
        expected = twin.emptied_h(share, 2.0, 40.0, 100.0, 80.0, efficiency)
        assert hours_left(drift, 40.0, 100.0, 80.0) == pytest.approx(expected, rel=0.03)

    def test_what_the_baseline_buys_back_stands_still(self):
        share = np.clip(np.random.default_rng(4).normal(0.3, 0.3, 900), -1, 1)
        drift = learned(*signal(share), edges(0.5, 1), 0.9)
        back = bought_back_kw(drift, 40.0)
        assert back < 0.0  # charging
        kept_kwh = np.where(share > 0, share, 0.9 * share).sum() * 40.0 * 2 / 3600
        assert kept_kwh + back * 0.5 == pytest.approx(0.0, abs=1e-9)

    def test_a_neutral_signal_without_losses_never_ends(self):
        assert hours_left(Drift(0.0, 0.0, 0.1, 0.0, 0.1, 9), 10.0, 5.0, 5.0) == math.inf
        assert hours_left(Drift(0.1, 0.1, 0.1, -0.1, 0.1, 9), 0.0, 5.0, 5.0) == math.inf


class TestLimit:
    def test_leaves_the_products_energy_after_the_block(self):
        """4 h of 0.1: 0.4 kWh/kW beside the quarter of an hour that the product wants."""
        drift = Drift(0.1, 0.1, 0.0, -0.1, 0.0, 1)
        assert limit_kw(drift, FCR, 4.0, 1e9, 650.0, 1e9, 0.99) == pytest.approx(650.0 / (0.25 + 0.4))
        assert limit_kw(drift, FCR, 4.0, 1e9, 1e9, 25.0, 0.99) == pytest.approx(100.0)  # drift upwards makes room

    def test_bought_back_it_takes_power_the_other_way(self):
        drift = Drift(0.1, 0.1, 0.0, -0.1, 0.0, 1)
        kw = limit_kw(drift, FCR, 4.0, 100.0, 0.0, 0.0, 0.99, buy_back=True)
        assert kw == pytest.approx(100.0 * 1.25 / 1.35)
        assert kw * 1.25 + kw * 0.1 == pytest.approx(100.0 * 1.25)

    def test_of_several_blocks_the_bound_is_students(self):
        drift = Drift(0.1, 0.1, 0.05, -0.1, 0.05, 6)
        up, down = bound_pu(drift, 0.95)
        wide = student.ppf(0.95, 5) * math.sqrt(1 + 1 / 6) * 0.05
        assert up == pytest.approx(0.1 + wide)
        assert down == pytest.approx(max(-0.1 + wide, 0.0))

    @given(st.floats(0, 1), st.floats(0, 0.3), st.floats(0, 100), st.floats(0, 100), st.booleans(), st.data())
    def test_more_energy_and_power_never_less_more_confidence_never_more(self, mean, sd, up, down, back, data):
        drift = Drift(mean, mean, sd, -mean, sd, 5)
        low, high = sorted(data.draw(st.tuples(st.floats(0.5, 0.999), st.floats(0.5, 0.999))))
        base = limit_kw(drift, FCR, 4.0, 50.0, up, down, high, back)
        assert limit_kw(drift, FCR, 4.0, 50.0, up, down, low, back) >= base - 1e-9
        assert limit_kw(drift, FCR, 4.0, 60.0, up * 1.5, down + 3.0, high, back) >= base - 1e-9

    def test_bad_numbers_are_refused(self):
        drift = Drift(0.1, 0.1, 0.0, -0.1, 0.0, 1)
        with pytest.raises(ValueError, match="hours"):
            limit_kw(drift, FCR, 0.0, 1.0, 1.0, 1.0, 0.9)
        with pytest.raises(ValueError, match="confidence"):
            limit_kw(drift, FCR, 1.0, 1.0, 1.0, 1.0, 1.0)
