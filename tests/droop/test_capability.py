"""What the fleet could sustain and what may be sold of it, against the twin and the rule book's vectors."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.capability import BUCKETS, MINUTES, RESERVE_MODE_MIN, Needs, offer, soc_window, sustained, table
from droop.entitlement import needs, together
from droop.fleet import Wish
from droop.products import load
from droop.reasons import Reason
from droop.sites import Node, limits_of, tree
from tests import naive
from tests import naive_capability as twin

S = naive.S_NS
NOW = 1_700_000_000 * S
HOURS = (0.25, 0.5, 1.0, 4.0)
powers = st.floats(0.0, 1e6, allow_subnormal=False)  # below them relative error means nothing


def total(each):
    return math.fsum(up for up, _ in each), math.fsum(down for _, down in each)


def some_cars(seed, n=40):
    rng = random.Random(seed)
    cars = [naive.some_car(rng, NOW) for _ in range(n)]
    for car in cars:
        car.min_kw = rng.choice([0.0, 0.0, 1.38, 4.14])
        car.budget_kwh = rng.choice([math.inf, math.inf, 15.0])
        car.wish_until_ns = NOW + rng.choice([0, 1, 600 * S])
        car.depart_ns = rng.choice([0, car.depart_ns, NOW + 900 * S, NOW + 7200 * S])
    return cars


class TestSustained:
    def test_cap_2(self, as_fleet):
        """Rulebook CAP-2: 60 kWh, SoC 0.6 (0.3..0.9), efficiency 0.95, 11 kW, 2 h: up 8.55 kW, down 9.474 kW."""
        up, down = sustained(as_fleet([naive.Car(eta_charge=0.95)]), NOW, 2.0)
        assert up == pytest.approx(8.55, rel=1e-7)
        assert down == pytest.approx(9.474, abs=5e-4)

    @pytest.mark.parametrize("seed", range(40))
    def test_is_the_twin(self, as_fleet, seed):
        cars = some_cars(seed)
        fleet = as_fleet(cars)
        fleet.dead_s[:] = [0.5 * (row % 4) for row in range(len(cars))]
        for hours in HOURS:
            for within_s in (0.5, 1.0, math.inf):
                each = twin.sustained(cars, NOW, hours, fleet.dead_s.tolist(), within_s)
                expected = twin.fleet_holds(each, cars, NOW, hours)
                found = sustained(fleet, NOW, hours, within_s=within_s)
                assert found == pytest.approx(expected, rel=2.0 / BUCKETS)
                assert all(a <= b * (1 + 1e-9) for a, b in zip(found, total(each), strict=True))

    @pytest.mark.parametrize("seed", range(20))
    def test_under_caps_is_the_twin(self, as_fleet, seed):
        """Two feeders of two sites each, one site without a cap, and vehicles below nothing."""
        rng = random.Random(seed)
        cars = some_cars(seed + 100, 30)
        fleet = as_fleet(cars)
        sites = [twin.Box(rng.uniform(0, 60), rng.uniform(0, 60), list(range(6 * k, 6 * k + 6))) for k in range(4)]
        sites[rng.randrange(4)].out = math.inf
        feeders = [twin.Box(rng.uniform(0, 60), rng.uniform(0, 60), [], sites[2 * k : 2 * k + 2]) for k in range(2)]
        nodes = [Node(f"feeder{k}", None, 12 * k, 12, box.out, box.into) for k, box in enumerate(feeders)]
        nodes += [Node(f"site{k}", f"feeder{k // 2}", 6 * k, 6, box.out, box.into) for k, box in enumerate(sites)]
        caps, names = tree(nodes, 30)
        for row in range(24):
            fleet.site[row] = names.index(f"site{row // 6}")
        for hours in HOURS:
            each = twin.sustained(cars, NOW, hours)
            capped = twin.below(twin.Box(math.inf, math.inf, list(range(24, 30)), feeders), each)
            free = sustained(fleet, NOW, hours)
            expected = [min(a, b) for a, b in zip(capped, free, strict=True)]
            assert sustained(fleet, NOW, hours, caps) == pytest.approx(expected, rel=1e-12, abs=1e-12)

    def test_scarce_and_plenty(self, as_fleet):
        """Of two chargers of 11 kW one lasts half of the time: 11 kW, for then it is alone; by themselves 5.5 + 11.

        With ten that last, for half of the time all eleven give C/11, and C = 110 until the end.
        """
        half = naive.Car(energy_kwh=18 + 11 * 0.25 / 2 / 0.95)
        assert sustained(as_fleet([half, naive.Car()]), NOW, 0.25)[0] == pytest.approx(11.0)
        assert sustained(as_fleet([half] + [naive.Car()] * 10), NOW, 0.25)[0] == pytest.approx(110.0)
        # Three fourths of the time, both: three fourths of the power, all the time.
        most = naive.Car(energy_kwh=18 + 11 * 0.25 * 0.75 / 0.95)
        assert sustained(as_fleet([most, most]), NOW, 0.25)[0] == pytest.approx(16.5)

    @pytest.mark.parametrize("seed", range(5))
    def test_vehicles_alike_hold_their_sum(self, as_fleet, seed):
        car = naive.Car(energy_kwh=random.Random(seed).uniform(18, 22))
        fleet = as_fleet([car] * 50)
        assert sustained(fleet, NOW, 0.25) == pytest.approx(total([twin.held(car, NOW, 0.25)] * 50), rel=1e-12)

    def test_what_flows_beside_the_vehicles_is_taken_off(self, as_fleet):
        """A site of 20 kW with 15 kW of PV behind its connection has 5 kW left to give and 35 to take."""
        fleet = as_fleet([naive.Car() for _ in range(4)])
        caps, _ = tree([Node("site", None, 0, 4, 20.0, 20.0)], 4)
        fleet.site[:] = 0
        caps.local_kw[0], caps.local_ns[0] = 15.0, NOW
        limits_of(caps, NOW, S)
        assert sustained(fleet, NOW, 0.25, caps) == (5.0, 35.0)
        caps.local_kw[0] = 25.0
        limits_of(caps, NOW, S)
        assert sustained(fleet, NOW, 0.25, caps) == (0.0, 44.0)

    def test_who_does_not_report_counts_nothing(self, as_fleet):
        fleet = as_fleet([naive.Car(), naive.Car(), naive.Car(state=naive.FAULT), naive.Car(state=naive.UNPLUGGED)])
        fleet.reason_up[0] = Reason.STALE
        assert sustained(fleet, NOW, 0.25) == (11.0, 11.0)
        assert sustained(as_fleet([]), NOW, 0.25) == (0.0, 0.0)

    @pytest.mark.parametrize(
        ("car", "expected"),
        [
            (naive.Car(refused_ns=NOW - 1), (0.0, 0.0)),
            (naive.Car(wish=Wish.CHARGE_NOW, wish_until_ns=NOW + 1), (0.0, 0.0)),
            (naive.Car(wish=Wish.LEAVE_ALONE, wish_until_ns=NOW + 1), (0.0, 0.0)),
            (naive.Car(wish=Wish.NO_DISCHARGE, wish_until_ns=NOW + 1), (0.0, 11.0)),
            (naive.Car(wish=Wish.CHARGE_NOW, wish_until_ns=NOW), (11.0, 11.0)),
            (naive.Car(gain_up=0.5, gain_dn=0.75), (5.5, 8.25)),
            (naive.Car(gain_up=0.985, gain_dn=0.25), (11.0, 2.75)),
            (naive.Car(gain_up=1.0625, gain_dn=1.0625), (11.0, 11.0)),
            (naive.Car(budget_kwh=10.0, moved_kwh=9.0, eta_charge=1.0, eta_discharge=1.0), (4.0, 4.0)),
            (naive.Car(budget_kwh=10.0, moved_kwh=12.0), (0.0, 0.0)),
            (naive.Car(budget_kwh=10.0, moved_kwh=9.0, min_kw=4.14), (0.0, 4.0 / 0.95)),
            (naive.Car(energy_kwh=18.5, min_kw=1.38), (1.9, 11.0)),
            (naive.Car(energy_kwh=18.3, min_kw=1.38), (0.0, 11.0)),
            (naive.Car(min_kw=11.0), (11.0, 11.0)),  # its least power is all it has
            (naive.Car(energy_kwh=53.9, min_kw=1.38), (11.0, 0.0)),
            (naive.Car(depart_ns=NOW + 899 * S), (0.0, 0.0)),
            (naive.Car(depart_ns=NOW + 900 * S), (11.0, 11.0)),
            # Should have left already: who knows; but what the driver wanted stays aboard.
            (naive.Car(depart_ns=NOW - 1, depart_kwh=40.0), (0.0, 11.0)),
            (naive.Car(depart_ns=NOW - 1, depart_kwh=30.0), (11.0, 11.0)),
        ],
    )
    def test_for_a_quarter_of_an_hour(self, as_fleet, car, expected):
        assert sustained(as_fleet([car]), NOW, 0.25) == pytest.approx(expected, rel=1e-6)

    def test_a_charger_slower_than_the_product_allows_counts_nothing(self, as_fleet):
        fleet = as_fleet([naive.Car(), naive.Car()])
        fleet.dead_s[1] = 2.5
        assert sustained(fleet, NOW, 0.25, within_s=2.0) == (11.0, 11.0)
        assert sustained(fleet, NOW, 0.25, within_s=2.5) == (22.0, 22.0)
        assert sustained(fleet, NOW, 0.25) == (22.0, 22.0)

    def test_the_drivers_energy_is_not_sold(self, as_fleet):
        """36 kWh aboard, 40 wanted in 1 h, 10.45 kWh can be charged in it: nothing to sell for that hour."""
        one = naive.Car(depart_ns=NOW + 3600 * S, depart_kwh=40.0)
        assert sustained(as_fleet([one]), NOW, 1.0)[0] == 0.0
        # For half of it: down to 40 - 5.225 kWh, and back up in the other half.
        assert sustained(as_fleet([one]), NOW, 0.5)[0] == pytest.approx((36 - 40 + 5.225) * 0.95 / 0.5)
        assert sustained(as_fleet([one]), NOW, 0.5)[1] == 11.0
        # A charger that gives four fifths needs longer to bring it back.
        one.gain_dn = 0.8
        assert sustained(as_fleet([one]), NOW, 0.5)[0] == pytest.approx((36 - 40 + 0.8 * 5.225) * 0.95 / 0.5, rel=1e-6)

    def test_a_wish_beyond_the_ceiling_is_capped_there(self, as_fleet):
        """At the ceiling of 54 kWh with 60 wanted later: what is above 54 less a full charge may be sold."""
        one = naive.Car(energy_kwh=54.0, depart_ns=NOW + 3600 * S, depart_kwh=60.0)
        assert sustained(as_fleet([one]), NOW, 0.5)[0] == pytest.approx(5.225 * 0.95 / 0.5)

    @pytest.mark.parametrize("hours", [0.0, -1.0, math.nan, math.inf])
    def test_a_time_that_is_none_is_refused(self, as_fleet, hours):
        with pytest.raises(ValueError, match="hours takes"):
            sustained(as_fleet([naive.Car()]), NOW, hours)
        if hours < math.inf:
            with pytest.raises(ValueError, match="within_s takes"):
                sustained(as_fleet([naive.Car()]), NOW, 1.0, within_s=hours)

    def test_table(self, as_fleet):
        fleet = as_fleet([naive.Car(energy_kwh=20.0), naive.Car()])
        found = table(fleet, NOW)
        assert found.shape == (3, 2)
        assert MINUTES == (15, 30, 60)
        for row, minutes in enumerate((15, 30, 60)):
            np.testing.assert_allclose(found[row], sustained(fleet, NOW, minutes / 60))
        assert (np.diff(found, axis=0) <= 0).all()  # longer is never more
        caps, _ = tree([Node("site", None, 0, 2, 3.0, 4.0)], 2)
        fleet.site[:] = 0
        np.testing.assert_array_equal(table(fleet, NOW, caps), [[3.0, 4.0]] * 3)


NEEDS = {name: needs(load(name)) for name in ("ce_fcr", "nordic_fcr_n", "nordic_fcr_d_up", "nordic_fcr_d_down")}
NEEDS["gb_dc"] = together(needs(load("gb_dc_low")), needs(load("gb_dc_high")))


class TestOffer:
    @pytest.mark.parametrize(("product", "expected"), [("ce_fcr", 8.8), ("nordic_fcr_n", 8.209), ("gb_dc", 10.0)])
    def test_cap_1(self, product, expected):
        """Rulebook CAP-1: an EV of 11 kW and 18 kWh both ways."""
        assert offer(11.0, 11.0, 18.0, 18.0, NEEDS[product]) == pytest.approx(expected, abs=5e-4)

    @pytest.mark.parametrize(
        ("product", "factors"),
        [
            ("ce_fcr", (1.25, 1.25, 0.25, 0.25)), ("nordic_fcr_n", (1.34, 1.34, 1, 1)),
            ("nordic_fcr_d_up", (1, 0.2, 1 / 3, 0)), ("nordic_fcr_d_down", (0.2, 1, 0, 1 / 3)),
            ("gb_dc", (1.1, 1.1, 0.25, 0.25)),
        ],
    )  # fmt: skip
    def test_the_factors_are_the_rule_books(self, product, factors):
        """Rulebook 10; each of the four binds alone at a thousandth of what the others leave."""
        for k, factor in enumerate(factors):
            have = [1000.0] * 4
            have[k] = 1.0
            assert offer(*have, NEEDS[product]) == pytest.approx(1.0 / factor if factor else 1000.0)

    def test_products_named_as_in_the_catalogue_last_as_long_as_they_promise(self):
        for name in ("ce_fcr", "nordic_fcr_n", "nordic_fcr_d_up", "nordic_fcr_d_down"):
            need = NEEDS[name]
            assert max(need.up_h, need.down_h) * 60.0 >= load(name).sustain_min * 0.999

    @given(st.lists(st.tuples(powers, powers, powers, powers), min_size=1, max_size=20), st.sampled_from(list(NEEDS)))
    def test_the_sum_of_offers_is_no_more_than_the_offer_of_the_sum(self, have, product):
        columns = np.array(have).T
        each = offer(*columns, NEEDS[product])
        assert each.shape == (len(have),)
        for row, one in zip(have, each, strict=True):
            assert offer(*row, NEEDS[product]) == one
            for value, need in zip(row, NEEDS[product], strict=True):
                assert one * need <= value * (1 + 1e-12)
        assert each.sum() <= offer(*columns.sum(axis=1), NEEDS[product]) * (1 + 1e-9) + 1e-9

    @pytest.mark.parametrize("place", range(4))
    @pytest.mark.parametrize("wrong", [-1.0, math.nan])
    def test_bad_numbers_are_named(self, place, wrong):
        have = [1.0] * 4
        have[place] = wrong
        name = ("up_kw", "down_kw", "up_kwh", "down_kwh")[place]
        with pytest.raises(ValueError, match=f"^{name} takes"):
            offer(*have, NEEDS["ce_fcr"])
        needs = [1.0] * 4
        needs[place] = wrong
        with pytest.raises(ValueError, match=f"need of {name} "):
            offer(1.0, 1.0, 1.0, 1.0, Needs(*needs))

    def test_a_product_that_needs_nothing_is_refused(self):
        with pytest.raises(ValueError, match="neither power nor energy"):
            offer(1.0, 1.0, 1.0, 1.0, Needs(0.0, 0.0, 0.0, 0.0))
        assert offer(3.0, math.inf, 1.0, 1.0, Needs(1.0, 1.0, 0.0, 0.0)) == 3.0


class TestSocWindow:
    def test_ler_1(self):
        """Rulebook LER-1: 50 MW, 100 MWh: 15 min within [0.125, 0.875], reserve mode at 0.041667 and 0.958333."""
        assert soc_window(50e3, 100e3, 15.0) == (0.125, 0.875)
        assert soc_window(50e3, 100e3, RESERVE_MODE_MIN) == pytest.approx((0.041667, 0.958333), abs=5e-7)

    def test_as_much_as_can_be_held_leaves_one_point(self):
        assert soc_window(200.0, 100.0, 15.0) == (0.5, 0.5)
        with pytest.raises(ValueError, match="sell at most 200 kW"):
            soc_window(201.0, 100.0, 15.0)

    @pytest.mark.parametrize("place", range(3))
    @pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
    def test_bad_numbers_are_named(self, place, wrong):
        have = [50.0, 100.0, 15.0]
        have[place] = wrong
        with pytest.raises(ValueError, match=("power_kw", "energy_kwh", "minutes")[place]):
            soc_window(*have)
