"""What is learned of history: blocks by the market's calendar, means that lean on each other, what was planted."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from aggregator.bidding.available import PARTS, SLICE, profile
from aggregator.bidding.forecast import Model, by_block, shrunk
from aggregator.bidding.products import BidError, TooLittle, bundle
from droop.products import load
from tests.aggregator.bidding.histories import FIRST, NS, SHARES, ce, made, of_block, product


class TestBlocks:
    def test_a_block_has_what_its_worst_slice_has_and_the_energy_of_its_begin(self):
        sold = ce()
        block = sold.blocks(FIRST)[2]
        rows = of_block(sold, block, 20, 10)
        rows["kw"][5], rows["present"][5], rows["up_kwh"][5] = 21.0, 3, 5.0
        rows["up_kwh"][0] = 99.0
        found, incomplete = by_block(rows, sold)
        assert incomplete == 0
        assert (found["kw"][0], found["present"][0], found["up_kwh"][0]) == (21.0, 3, 99.0)
        assert (found["start_ns"][0], found["end_ns"][0]) == (block.start_ns, block.end_ns)
        assert (found["minute"][0], found["weekday"][0], found["day"][0]) == (8 * 60, 0, FIRST.toordinal())

    def test_a_block_that_lacks_a_slice_is_left_out_and_counted(self):
        sold = ce()
        rows = made(sold, 2)
        found, incomplete = by_block(np.delete(rows, [3, 40]), sold)
        assert (found.size, incomplete) == (10, 2)
        assert by_block(np.zeros(0, SLICE), sold)[0].size == 0

    @pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25)])
    def test_on_a_day_of_daylight_saving_the_blocks_are_the_markets(self, day, hours):
        sold = ce()
        found, incomplete = by_block(made(sold, 3, first=day - timedelta(1)), sold)
        assert (found.size, incomplete) == (18, 0)
        today = found[found["day"] == day.toordinal()]
        assert (today["end_ns"][-1] - today["start_ns"][0]) / 3.6e12 == hours
        assert today["minute"].tolist() == [0, 240, 480, 720, 960, 1200]
        hourly = bundle([product("nordic_fcr_n")])
        moved, _ = by_block(made(hourly, 1, first=day), hourly)
        assert moved.size == hours
        assert np.unique(moved["minute"]).size == min(hours, 24)  # an hour that comes twice is of one class

    def test_the_british_day_begins_the_evening_before(self):
        sold = bundle([product("gb_dc_low")])
        found, _ = by_block(made(sold, 1), sold)
        assert set(found["day"].tolist()) == {FIRST.toordinal()}
        assert set(found["weekday"].tolist()) == {0}
        assert found["minute"][0] == 23 * 60


class TestShrunk:
    def test_classes_that_do_not_differ_are_taken_together(self):
        """A class of four blocks is drawn to its hour, nearly all the way."""
        rng = np.random.default_rng(2)
        hour, weekday = np.repeat(np.arange(6), 28), np.tile(np.repeat(np.arange(7), 4), 6)
        values = (np.array(SHARES)[hour] + 0.1 * rng.normal(size=hour.size))[:, None]
        found = shrunk(values, hour, weekday)
        errors = found.at(hour, weekday)[:, 0] - np.array(SHARES)[hour]
        alone = found.own[hour * 7 + weekday, 0] - np.array(SHARES)[hour]
        assert np.sqrt((errors**2).mean()) < 0.6 * np.sqrt((alone**2).mean())
        assert found.used < 20

    def test_classes_that_do_differ_keep_their_own(self):
        rng = np.random.default_rng(3)
        hour, weekday = np.repeat(np.arange(6), 28), np.tile(np.repeat(np.arange(7), 4), 6)
        truth = np.array(SHARES)[hour] + 0.1 * weekday
        found = shrunk((truth + 0.02 * rng.normal(size=hour.size))[:, None], hour, weekday)
        assert np.abs(found.at(hour, weekday)[:, 0] - truth).max() < 0.04
        assert found.kappa < 0.2
        assert found.used > 38  # of 42 classes
        assert found.noise(hour, weekday) == pytest.approx(0.25, abs=0.02)  # a mean of four

    def test_it_is_the_best_linear_guess_between_class_and_hour(self):
        """kappa is the variance within over the variance between, as planted."""
        rng, ratios = np.random.default_rng(4), []
        for _ in range(40):
            hour, weekday = np.repeat(np.arange(24), 28), np.tile(np.repeat(np.arange(7), 4), 24)
            own = 0.05 * rng.normal(size=(24, 7))
            values = own[hour, weekday] + 0.1 * rng.normal(size=hour.size)
            ratios.append(1 / shrunk(values[:, None], hour, weekday).kappa)
        assert np.mean(ratios) == pytest.approx(0.05**2 / 0.1**2, rel=0.1)

    def test_of_one_week_nothing_is_known_of_weekdays(self):
        hour, weekday = np.repeat(np.arange(6), 7), np.tile(np.arange(7), 6)
        found = shrunk(np.random.default_rng(5).normal(size=(42, 1)), hour, weekday)
        assert found.kappa == np.inf
        assert found.noise(hour, weekday) == pytest.approx(1 / 7)


class TestModel:
    @pytest.mark.parametrize("rho", [0.02, 0.05])
    def test_finds_the_correlation_that_was_planted(self, rho):
        sold, off = ce(), []
        for seed in range(20):
            found = Model(by_block(made(sold, 28, seed, rho), sold)[0], sold).presence
            off.append((found.rho - rho) / found.error)
        assert abs(np.mean(off)) < 0.8
        assert np.mean(np.abs(off) < 2.5) > 0.85

    def test_finds_how_a_vehicle_varies_and_no_more_than_that(self):
        sold = ce()
        steady = Model(by_block(made(sold, 28, sd=0.0), sold)[0], sold)
        varying = Model(by_block(made(sold, 28, sd=0.1), sold)[0], sold)
        assert steady.size_sd < 1e-6
        assert varying.size_sd == pytest.approx(0.1, rel=0.15)

    def test_expects_what_is_usual_at_that_hour(self):
        sold = ce()
        model = Model(by_block(made(sold, 56), sold)[0], sold)
        for place, share in enumerate(SHARES):
            basis = model.at(place * 240, 2, 0.99, 1.0, empirical=False)
            assert basis.present_frac == pytest.approx(share, abs=0.06)
            assert basis.profile_kw == pytest.approx([7.0] * PARTS)
            assert basis.power_kw == pytest.approx(150 * share * 7.7, rel=0.1)
            assert basis.up_kwh == pytest.approx(150 * share * 18, rel=0.1)
        saturday = model.at(2 * 240, 5, 0.99, 1.0, empirical=False)
        assert saturday.present_frac > model.at(2 * 240, 2, 0.99, 1.0, empirical=False).present_frac

    def test_a_fleet_that_never_moves_has_no_correlation_and_is_offered_whole(self):
        sold = ce()
        rows = np.concatenate([
            of_block(sold, block, 10, 10) for k in range(10) for block in sold.blocks(FIRST + timedelta(k))
        ])  # fmt: skip
        model = Model(by_block(rows, sold)[0], sold)
        assert model.presence is None
        assert model.at(0, 2, 0.9, 1.0, empirical=True).present_frac == 1.0

    def test_an_hour_at_which_nobody_is_ever_there_sells_nothing(self):
        sold = ce()
        rows = made(sold, 14)
        blocks, _ = by_block(rows, sold)
        for name in ("present", "kw", "power_kw", "up_kwh", "down_kwh", "profile_kw"):
            blocks[name][blocks["minute"] == 1200] = 0
        model = Model(blocks, sold)
        assert model.at(1200, 2, 0.9, 1.0, empirical=True).present_frac < 0.05
        assert not model.at(1200, 2, 0.9, 1.0, empirical=True).profile_kw.any()
        assert model.at(0, 2, 0.9, 1.0, empirical=True).profile_kw == pytest.approx([7.0] * PARTS)
        assert model.size_sd < 1e-6

    def test_too_little_is_refused_by_name(self):
        sold = ce()
        with pytest.raises(TooLittle, match=r"on 6 days; .* at least 7 days"):
            Model(by_block(made(sold, 6), sold)[0], sold)
        model = Model(by_block(made(sold, 9), sold)[0], sold)
        with pytest.raises(TooLittle, match="no block at 03:15"):
            model.at(195, 0, 0.99, 1.0, empirical=True)
        nobody = made(sold, 9)
        for name in ("present", "kw", "power_kw", "profile_kw"):
            nobody[name] = 0
        with pytest.raises(TooLittle, match="not one vehicle"):
            Model(by_block(nobody, sold)[0], sold)


class TestProducts:
    def test_what_is_sold_together_adds_up(self):
        """Dynamic containment both ways: CAP-1's 10 kW of 11."""
        both = bundle([load("gb_dc_low"), load("gb_dc_high")])
        assert both.needs == pytest.approx((1.1, 1.1, 0.25, 0.25))
        twice = bundle([load("gb_dc_low"), load("gb_dc_high")], [1.0, 2.0])
        assert twice.needs == pytest.approx((1.2, 2.1, 0.25, 0.5))
        assert twice.step_kw() == (1000.0, 1000.0)
        assert bundle([load("gb_dc_low")], [1.0]).name == "gb_dc_low"

    def test_other_blocks_or_no_proportion_are_refused(self):
        with pytest.raises(BidError, match="other blocks"):
            bundle([load("ce_fcr"), load("afrr_up")])
        with pytest.raises(BidError, match="proportion"):
            bundle([load("ce_fcr")], [0.0])

    def test_without_an_energy_need_it_says_what_is_assumed(self):
        plain = replace(load("ce_fcr"), reservoir=None, sustain_min=0.0)
        assert "15 min" in bundle([plain]).assumption
        assert bundle([plain]).needs == (1.0, 1.0, 0.25, 0.25)
        assert bundle([load("ce_fcr")]).assumption == ""

    def test_nordic_fcr_d_down_of_charging_only_keeps_two_hours(self):
        """Rulebook 3.6: no energy management applies, the pool is large enough for 2 h."""
        assert bundle([load("nordic_fcr_d_down")]).one_way_needs == (0.0, 1.0, 0.0, 2.0)
        assert bundle([load("ce_fcr")]).one_way_needs is None
        assert bundle([load("nordic_fcr_d_up")]).one_way_needs is None


@pytest.mark.parametrize("count", [1, 3, 10, 37])
def test_a_profile_has_the_vehicles_mean_in_ascending_parts(count):
    each = np.random.default_rng(count).uniform(1, 22, count)
    found = profile(each)
    assert found.mean() == pytest.approx(each.mean())
    assert (np.diff(found) >= -1e-9).all()
    assert found[0] >= each.min() - 1e-9
    assert found[-1] <= each.max() + 1e-9
    assert profile(each * NS).mean() == pytest.approx(each.mean() * NS)
    assert not profile(np.zeros(0)).any()
