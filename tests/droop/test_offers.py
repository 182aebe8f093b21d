"""From rated power to a bid: vectors, every cut by its reason, and what may never happen."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.capability import Needs
from droop.drift import Drift
from droop.entitlement import needs, together
from droop.offers import Able, Basis, Terms, able, assumed, each_kw, firm_kw, power_kw, rounded, sized
from droop.products import load
from tests import naive, naive_capability
from tests import naive_bids as twin

S = naive.S_NS
NOW = 1_700_000_000 * S
FCR = Needs(1.25, 1.25, 0.25, 0.25)


def cars(count, up_kw=11.0, down_kw=11.0, up_kwh=18.0, down_kwh=18.0, least_kw=0.0):
    return Able(*(np.full(count, value) for value in (up_kw, down_kw, up_kwh, down_kwh, least_kw)))


def basis(**more):
    plain = {"chargers": 500, "present_frac": 0.6, "profile_kw": np.array([7.0]), "power_kw": 2100.0,
             "up_kwh": 9000.0, "down_kwh": 9000.0}  # fmt: skip
    return Basis(**(plain | more))


class TestEach:
    @pytest.mark.parametrize(
        ("products", "expected"),
        [(["ce_fcr"], 8.8), (["nordic_fcr_n"], 8.209), (["gb_dc_low", "gb_dc_high"], 10.0),
         (["gb_dr_low", "gb_dr_high"], 7.857)],
    )  # fmt: skip
    def test_cap_1(self, products, expected):
        """Rulebook CAP-1: an EV of 11 kW and 18 kWh both ways."""
        need = together(*(needs(load(name)) for name in products))
        assert each_kw(cars(3), need) == pytest.approx([expected] * 3, abs=5e-4)

    def test_cap_2(self, as_fleet):
        """Rulebook CAP-2: 60 kWh, SoC 0.6 (0.3..0.9), 0.95, 11 kW: what 2 h of up or of down alone could sell."""
        can = able(as_fleet([naive.Car(eta_charge=0.95)]), NOW, 2.0)
        assert each_kw(can, Needs(1.0, 0.0, 2.0, 0.0))[0] == pytest.approx(8.55, rel=1e-6)
        assert each_kw(can, Needs(0.0, 1.0, 0.0, 2.0))[0] == pytest.approx(9.474, abs=5e-4)

    @pytest.mark.parametrize("seed", range(30))
    def test_is_what_each_vehicle_could_sustain(self, as_fleet, seed):
        """The twin of `capability.sustained`, of vehicles that do not leave meanwhile, one way at a time."""
        rng = random.Random(seed)
        some = [naive.some_car(rng, NOW) for _ in range(40)]
        for car in some:
            car.min_kw = rng.choice([0.0, 0.0, 1.38, 4.14])
            car.budget_kwh = rng.choice([math.inf, 15.0])
            car.wish_until_ns = NOW + rng.choice([0, 1, 600 * S])
            car.depart_ns = rng.choice([0, NOW - 60 * S, NOW + 5 * 3600 * S, NOW + 9 * 3600 * S])
        fleet = as_fleet(some)
        fleet.dead_s[:] = [0.5 * (row % 4) for row in range(len(some))]
        for hours, within_s in ((0.25, math.inf), (2.0, 1.0), (4.0, 0.5)):
            can = able(fleet, NOW, hours, within_s)
            expected = np.array(naive_capability.sustained(some, NOW, hours, fleet.dead_s.tolist(), within_s))
            assert each_kw(can, Needs(1.0, 0.0, hours, 0.0)) == pytest.approx(expected[:, 0], rel=1e-6, abs=1e-9)
            assert each_kw(can, Needs(0.0, 1.0, 0.0, hours)) == pytest.approx(expected[:, 1], rel=1e-6, abs=1e-9)

    def test_who_has_not_reported_for_long_counts_nothing(self, as_fleet):
        fleet = as_fleet([naive.Car(), naive.Car()])
        fleet.report_ns[:] = NOW - 10 * S, NOW - 400 * S
        assert (each_kw(able(fleet, NOW, 0.25, silent_s=300.0), FCR) > 0.0).tolist() == [True, False]

    def test_a_vehicle_below_its_least_power_counts_nothing(self):
        assert each_kw(cars(1, up_kwh=1.0, least_kw=4.14), FCR)[0] == 0.0  # 4 kW for a quarter of an hour
        assert each_kw(cars(1, up_kwh=1.1, least_kw=4.14), FCR)[0] == pytest.approx(4.4)

    def test_charging_only_sells_nothing_both_ways_and_by_nordic_rules_two_hours_down(self):
        one_way = cars(1, up_kw=0.0, up_kwh=0.0)
        down = needs(load("nordic_fcr_d_down"))
        assert each_kw(one_way, FCR)[0] == each_kw(one_way, down)[0] == 0.0
        assert each_kw(one_way, down, Needs(0.0, 1.0, 0.0, 2.0))[0] == pytest.approx(9.0)
        assert each_kw(cars(1), down, Needs(0.0, 1.0, 0.0, 2.0))[0] == pytest.approx(11.0)

    @given(st.lists(st.tuples(*[st.floats(0, 100)] * 4), min_size=1, max_size=9), st.floats(0, 50), st.integers(0, 3))
    def test_is_the_twin_and_more_of_anything_is_never_less(self, have, more, place):
        columns = [np.array(column) for column in zip(*have, strict=True)]
        can = Able(*columns, np.zeros(len(have)))
        found = each_kw(can, FCR)
        assert found == pytest.approx([twin.one_vehicle(*row, FCR) for row in have])
        columns[place] = columns[place] + more
        assert (each_kw(Able(*columns, np.zeros(len(have))), FCR) >= found).all()
        assert (power_kw(can, FCR) >= found).all()

    def test_without_an_energy_need_a_quarter_of_an_hour_is_assumed_and_said(self):
        found, said = assumed(Needs(1.0, 0.5, 0.0, 0.0))
        assert found == Needs(1.0, 0.5, 0.25, 0.25)
        assert "15 min" in said
        assert assumed(Needs(1.0, 0.0, 0.0, 0.0))[0] == Needs(1.0, 0.0, 0.25, 0.0)
        assert assumed(FCR) == (FCR, "")


class TestSized:
    def test_st_1_with_its_cuts(self):
        """Rulebook ST-1 as an offer: 1520.1 kW firm of a mean of 2100, in steps of 100 kW."""
        offer = sized(basis(correlation=0.01), Terms(FCR, 100.0, 1000.0), 0.999, "normal")
        assert offer.firm_kw == pytest.approx(1520.1, abs=0.1)
        assert offer.kw == 1500.0
        cuts = dict(offer.cuts)
        assert cuts == pytest.approx({"energy": 0.0, "quantile": 579.9, "step": 20.1}, abs=0.1)

    @given(st.integers(0, 60), st.floats(0, 1), st.lists(st.floats(0, 30), min_size=1, max_size=4), st.data())
    def test_what_is_offered_and_what_is_cut_is_what_was_expected(self, count, share, profile, data):
        found = Basis(count, share, np.array(profile), data.draw(st.floats(0, 9999)), data.draw(st.floats(0, 9999)),
                      data.draw(st.floats(0, 9999)), data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1)),
                      data.draw(st.sampled_from([math.inf, 0.5, 1.2])))  # fmt: skip
        drift = data.draw(st.sampled_from([None, Drift(0.1, 0.1, 0.05, -0.1, 0.05, 8)]))
        terms = Terms(FCR, data.draw(st.sampled_from([0.0, 1.0, 100.0])), data.draw(st.sampled_from([0.0, 500.0])),
                      drift, 4.0)  # fmt: skip
        confidence = data.draw(st.floats(0.05, 0.999))
        offer = sized(found, terms, confidence)
        assert all(cut.kw >= -1e-9 for cut in offer.cuts)
        assert offer.kw + math.fsum(cut.kw for cut in offer.cuts) == pytest.approx(offer.expected_kw, abs=1e-6)
        assert 0.0 <= offer.kw <= offer.firm_kw + 1e-6
        assert terms.step_kw == 0.0 or offer.kw % terms.step_kw == pytest.approx(0.0, abs=1e-9)
        assert offer.kw == 0.0 or offer.kw >= terms.min_kw - 1e-6
        more = found._replace(up_kwh=found.up_kwh * 1.4, down_kwh=found.down_kwh + 9.0, power_kw=found.power_kw + 5.0)
        assert sized(more, terms, confidence).kw >= offer.kw - 1e-6
        larger = found._replace(profile_kw=found.profile_kw * 1.3 + data.draw(st.floats(0, 5)))
        assert sized(larger, terms, confidence).kw >= offer.kw - 1e-6
        grown = 1.0 + data.draw(st.integers(0, 3))
        many = found._replace(chargers=int(count * grown), up_kwh=found.up_kwh * grown,
                              down_kwh=found.down_kwh * grown, power_kw=found.power_kw * grown)  # fmt: skip
        assert sized(many, terms, confidence).kw >= offer.kw - 1e-6
        assert sized(found, terms, confidence + (0.9995 - confidence) / 2).kw <= offer.kw + 1e-6

    def test_drift_cuts_what_the_energy_cannot_follow_for_the_whole_block(self):
        drift = Drift(0.5, 0.5, 0.0, -0.5, 0.0, 1)
        firm = sized(basis(up_kwh=1e9), Terms(FCR, drift=drift, hours=4.0), 0.9)
        short = sized(basis(up_kwh=2000.0), Terms(FCR, drift=drift, hours=4.0), 0.9)
        assert dict(firm.cuts)["drift"] == 0.0
        there = firm_kw(basis(), np.ones(1), 0.9, "beta_binomial") / 300.0  # share of the vehicles that is firm
        assert short.kw == pytest.approx(there * 2000.0 / (0.25 + 2.0))
        assert dict(short.cuts)["drift"] == pytest.approx(firm.kw - short.kw)

    def test_size_and_history_take_their_part(self):
        plain = sized(basis(), Terms(FCR), 0.99).kw
        assert sized(basis(size_sd=0.1), Terms(FCR), 0.99).kw == pytest.approx(plain * (1 - 0.1 * 2.326348), rel=1e-6)
        assert sized(basis(worst_frac=0.3), Terms(FCR), 0.99).kw == pytest.approx(0.3 * 2100.0)
        assert sized(basis(worst_frac=5.0), Terms(FCR), 0.99).kw == pytest.approx(plain)

    @pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, 1.5, math.nan])
    def test_a_confidence_that_is_none_is_refused(self, confidence):
        with pytest.raises(ValueError, match="confidence"):
            sized(basis(), Terms(FCR), confidence)

    @pytest.mark.parametrize(
        "wrong",
        [{"up_kwh": -1.0}, {"down_kwh": math.nan}, {"power_kw": -1.0}, {"size_sd": -0.1}, {"size_sd": math.inf}],
    )
    def test_negative_and_unknown_numbers_are_refused(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            sized(basis(**wrong), Terms(FCR), 0.9)


class TestRounded:
    @pytest.mark.parametrize(
        ("kw", "step", "least", "expected", "cuts"),
        [
            (1999.9, 1000.0, 1000.0, 1000.0, {"step": 999.9}),
            (2000.0, 1000.0, 1000.0, 2000.0, {"step": 0.0}),
            (0.3, 0.1, 0.0, 0.3, {"step": 0.0}),  # 0.1 has no exact number
            (999.0, 100.0, 1000.0, 0.0, {"step": 99.0, "minimum": 900.0}),
            (50.0, 0.0, 0.0, 50.0, {"step": 0.0}),
        ],
    )
    def test_down_to_the_step_and_nothing_below_the_least(self, kw, step, least, expected, cuts):
        found, told = rounded(kw, step, least)
        assert found == pytest.approx(expected)
        assert dict(told) == pytest.approx(cuts, abs=1e-9)

    @pytest.mark.parametrize("wrong", [(-1.0, 1.0, 1.0), (math.nan, 1.0, 1.0), (1.0, -1.0, 0.0), (1.0, 1.0, math.inf)])
    def test_bad_numbers_are_refused(self, wrong):
        with pytest.raises(ValueError, match="finite numbers"):
            rounded(*wrong)
