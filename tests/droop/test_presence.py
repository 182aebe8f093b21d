"""Firm sums of vehicles that come and go together: vectors, coins thrown one by one, and what may never happen."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.presence import correlation, firm, firm_count, log_probabilities, widened
from tests import naive_bids as twin

METHODS = ("normal", "beta_binomial")
ONE = np.ones(1)
shares = st.floats(0.01, 0.99)
rhos = st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 0.9])
sizes = st.lists(st.floats(0.0, 50.0), min_size=1, max_size=10)


class TestFirm:
    def test_st_1(self):
        """Rulebook ST-1: n = 500, p = 0.6, 7 kW, 99.9 %: 1863.0 kW; with rho = 0.01 1520.1 kW."""
        assert firm(500, 0.6, 7.0 * ONE, 0.999, method="normal") == pytest.approx(1863.0, abs=0.1)
        assert firm(500, 0.6, 7.0 * ONE, 0.999, 0.01, method="normal") == pytest.approx(1520.1, abs=0.1)

    @given(st.integers(1, 900), shares, st.floats(0.5, 0.9999), rhos)
    def test_of_equal_vehicles_the_normal_one_is_the_rule_books(self, count, share, quantile, rho):
        """Rulebook 10: mean n p P, sd P sqrt(n p (1 - p) (1 + (n - 1) rho))."""
        spread = 7.0 * math.sqrt(count * share * (1 - share) * (1 + (count - 1) * rho))
        expected = max(7.0 * count * share - NormalDist().inv_cdf(quantile) * spread, 0.0)
        assert firm(count, share, 7.0 * ONE, quantile, rho, "normal") == pytest.approx(expected, abs=1e-9)

    def test_more_correlation_is_less(self):
        steps = [firm(500, 0.6, 7.0 * ONE, 0.999, rho, "normal") for rho in (0.0, 0.01, 0.1, 1.0)]
        assert steps == sorted(steps, reverse=True)
        assert steps[-1] == 0.0
        assert firm(500, 0.6, 7.0 * ONE, 0.5, 0.3, "normal") == pytest.approx(2100.0)

    @pytest.mark.parametrize("rho", [0.0, 0.01, 0.2])
    @pytest.mark.parametrize("confidence", [0.9, 0.99])
    def test_equal_vehicles_are_there_as_often_as_promised_and_one_more_is_not(self, rho, confidence):
        sums = twin.thrown([7.0] * 60, 0.6, rho, 20_000, np.random.default_rng(5))
        found = firm(60, 0.6, 7.0 * ONE, confidence, rho)
        spare = 4 * math.sqrt(confidence * (1 - confidence) / sums.size)
        assert (sums >= found - 1e-9).mean() >= confidence - spare
        assert (sums >= found + 7.0 - 1e-9).mean() < confidence + spare

    @pytest.mark.parametrize("rho", [0.0, 0.02, 0.2])
    def test_unequal_vehicles_are_there_as_often_as_promised_and_not_much_is_given_away(self, rho):
        each = np.array([3.7, 3.7, 7.4, 7.4, 7.4, 7.4, 11.0, 11.0, 11.0, 22.0])
        sums = twin.thrown(np.repeat(each, 20), 0.6, rho, 20_000, np.random.default_rng(6))
        found = firm(200, 0.6, each, 0.99, rho)
        assert (sums >= found).mean() >= 0.99 - 0.003
        exact = np.quantile(sums, 0.01, method="lower")
        assert exact * 0.9 <= found <= exact + 11.0

    def test_a_normal_factor_common_to_all_is_covered_by_the_correlation_it_makes(self):
        """Drivers need not be beta distributed: the same pairwise correlation from a one-factor model."""
        rng = np.random.default_rng(7)
        seen = twin.one_factor(150, 0.7, 0.05, 4000, rng)
        found = correlation(seen, np.full(4000, 150), np.full(4000, 0.7), np.arange(4000))
        assert 0.02 < found.rho < 0.05
        fresh = twin.one_factor(150, 0.7, 0.05, 4000, rng)
        assert (fresh >= firm_count(150, 0.7, 0.95, found.rho, "beta_binomial")).mean() >= 0.94

    @pytest.mark.parametrize("method", METHODS)
    @given(st.integers(0, 300), shares, rhos, sizes, st.data())
    def test_more_is_never_less(self, method, count, share, rho, each, data):
        one, other = sorted(data.draw(st.tuples(st.floats(0.02, 0.98), st.floats(0.02, 0.98))))
        base = firm(count, share, np.array(each), other, rho, method)
        assert 0.0 <= base <= count * max(each) + 1e-9
        assert firm(count, share, np.array(each), one, rho, method) >= base - 1e-9  # less confidence
        assert firm(count + data.draw(st.integers(0, 50)), share, np.array(each), other, rho, method) >= base - 1e-9
        place, more = data.draw(st.integers(0, len(each) - 1)), data.draw(st.floats(0.0, 1000.0))
        larger = np.array(each)
        larger[place] += more
        assert firm(count, share, larger, other, rho, method) >= base - 1e-9
        assert firm(count, share + (1 - share) * 0.3, np.array(each), 0.98, 0.0, method) >= (
            firm(count, share, np.array(each), 0.98, 0.0, method) - 1e-9
        )

    def test_probabilities_are_those_of_coins_and_of_a_beta_share(self):
        for rho in (0.0, 1e-6, 0.05, 0.7):
            p = np.exp(log_probabilities(40, 0.3, rho))
            k = np.arange(41)
            assert p.sum() == pytest.approx(1.0, abs=1e-7)
            assert (p * k).sum() == pytest.approx(12.0, abs=1e-6)
            assert (p * (k - 12.0) ** 2).sum() == pytest.approx(40 * 0.3 * 0.7 * (1 + 39 * rho), rel=1e-4)

    def test_the_edges(self):
        assert firm_count(10, 1.0, 0.99, 0.3, "beta_binomial") == 10.0
        assert firm_count(10, 0.0, 0.99, 0.3, "normal") == 0.0
        assert firm_count(10, 0.95, 0.9, 1.0, "beta_binomial") == 10.0
        assert firm_count(10, 0.85, 0.9, 1.0, "beta_binomial") == 0.0
        assert firm(0, 0.5, ONE, 0.9) == firm(5, 0.5, np.zeros(0), 0.9) == 0.0

    @pytest.mark.parametrize(
        "wrong",
        [{"present_frac": 1.1}, {"confidence": 1.0}, {"confidence": 0.0}, {"correlation": -0.1}, {"count": -1},
         {"method": "exact"}, {"profile_kw": np.array([-1.0])}, {"profile_kw": np.array([np.nan])}],
    )  # fmt: skip
    def test_bad_numbers_are_refused(self, wrong):
        given = {"count": 5, "present_frac": 0.5, "profile_kw": ONE, "confidence": 0.9, "correlation": 0.1}
        with pytest.raises(ValueError, match=r"takes|count"):
            firm(**(given | wrong))


class TestCorrelation:
    @staticmethod
    def planted(rho, days, seed, chargers=120, hours=6):
        rng = np.random.default_rng(seed)
        p = np.tile(np.linspace(0.3, 0.8, hours), days)
        share = rng.beta(p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho) if rho else p
        return rng.binomial(chargers, share), np.full(p.size, chargers), p, np.repeat(np.arange(days), hours)

    @pytest.mark.parametrize("rho", [0.0, 0.01, 0.05, 0.3])
    def test_finds_what_was_planted_within_its_error(self, rho):
        off = []
        for seed in range(60):
            found = correlation(*self.planted(rho, 60, seed))
            assert found.blocks == 360
            assert found.days == 60
            off.append((found.rho - rho) / found.error)
        assert np.mean(np.abs(off) < 2.0) > 0.85  # of 95 %
        assert abs(np.mean(off)) < 0.6
        assert np.std(off) > (0.2 if rho == 0.0 else 0.6)  # an error that is not far too large; at 0 rho is clipped

    def test_means_that_were_learned_from_the_same_blocks_cost_degrees_of_freedom(self):
        off, without = [], []
        for seed in range(80):
            present, chargers, _, day = self.planted(0.05, 8, seed)
            mean = (present / chargers).reshape(8, 6).mean(axis=0)
            off.append(correlation(present, chargers, np.tile(mean, 8), day, 6).rho)
            without.append(correlation(present, chargers, np.tile(mean, 8), day).rho)
        assert np.mean(off) == pytest.approx(0.05, abs=0.005)
        assert np.mean(without) < 0.046

    def test_errors_are_of_days_not_of_blocks(self):
        """Six blocks of a day that are one and the same tell as much as one."""
        present, chargers, p, day = self.planted(0.05, 60, 1, hours=1)
        once = correlation(present, chargers, p, day)
        again = correlation(*(np.repeat(column, 6) for column in (present, chargers, p, day)))
        assert again.rho == pytest.approx(once.rho)
        assert again.error == pytest.approx(once.error)

    def test_too_little_and_nobody_who_moves_are_refused(self):
        with pytest.raises(ValueError, match="longer history"):
            correlation(np.array([3]), np.array([5]), np.array([0.5]), np.array([0]), 1)
        with pytest.raises(ValueError, match="nobody ever comes"):
            correlation(np.full(9, 5), np.full(9, 5), np.ones(9), np.arange(9))

    def test_what_is_not_known_of_the_mean_is_added(self):
        """Variance of a block plus that of a mean of four of them."""
        n, rho = 80, 0.03
        wide = widened(rho, n, 0.25)
        assert 1 + (n - 1) * wide == pytest.approx(1.25 * (1 + (n - 1) * rho))
        assert widened(0.9, n, 5.0) == 1.0
        assert widened(0.1, 1, 5.0) == 0.1
