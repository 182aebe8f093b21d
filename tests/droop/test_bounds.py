"""The order in which bounds are narrowed, and when they are renewed, against plain recomputation."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import math
import random

import numpy as np
import pytest

from droop import bounds
from droop.bounds import Rules, cap, means, renew_due, warm
from droop.fleet import PLUGGED, SEGMENTS, UNPLUGGED, allocate, allocate_totals
from droop.limits import Derating
from droop.reasons import Reason
from droop.sites import Node, leaf, tree
from tests import naive, naive_sites

S = naive.S_NS
NOW = 1_700_000_000 * S
# As the twin derates.
RULES = Rules(derating=Derating(0.9, 0.2, 0.1, 0.2, 0.0, -20.0, 45.0, 55.0, 5.0))
ROWS = 40
EVERY = (1 << SEGMENTS) - 1
# Across the edges of segments (five rows each) and of one another; rows 36.. are below nothing.
CAPS = (
    Node("street", None, 0, 18, 60.0, 70.0), Node("house", "street", 0, 3, 12.0, 12.0),
    Node("garage", "street", 4, 9, 25.0, 20.0), Node("depot", None, 20, 16, 50.0, math.inf),
)  # fmt: skip


def first_row(segment):
    return segment * ROWS // SEGMENTS


def some_fleet(seed):
    """Vehicles in every state, with temperatures, ramps and commands; all rows' columns from the twin's."""
    rng = random.Random(seed)
    cars = [naive.some_car(rng, NOW) for _ in range(ROWS)]
    fleet = allocate(ROWS)
    for row, car in enumerate(cars):
        for name in car.__dataclass_fields__:
            getattr(fleet, name)[row] = getattr(car, name)
    fleet.wish[:] = 0
    return fleet


class TestWarm:
    def test_is_the_sites_mean_of_who_is_plugged_and_known(self):
        fleet = allocate(9)
        fleet.state[:] = PLUGGED
        fleet.site[:] = [0, 0, 0, 0, 1, 1, -1, -1, 2]
        fleet.temp_c[:] = [20, 30, math.nan, 90, math.nan, math.nan, 20, 40, 25]
        fleet.state[3] = UNPLUGGED
        warm(fleet, 0, 9, 5.0)
        inf = math.inf
        assert fleet.warm_c.tolist() == [30, 30, 30, 30, inf, inf, inf, inf, 30]

    def test_a_site_across_the_edge_is_taken_whole(self):
        fleet = allocate(8)
        fleet.state[:] = PLUGGED
        fleet.site[:] = [0, 0, 1, 1, 1, 1, 2, 2]
        fleet.temp_c[:] = [10, 10, 10, 20, 30, 40, 50, 50]
        warm(fleet, 4, 5, 5.0)
        assert fleet.warm_c.tolist() == [math.inf] * 2 + [30.0] * 4 + [math.inf] * 2

    def test_a_battery_five_kelvin_above_its_site_follows_its_plan(self):
        """Three at 20 degC and one at 27.5: the mean is 21.875, and 27.5 is above 26.875. At 26.5 it would not be."""
        for temp, apart in ((27.5, True), (26.5, False)):
            caps, _ = tree([Node("site", None, 0, 4, 100.0, 100.0)], 4)
            fleet, totals = allocate(4), allocate_totals()
            fleet.site[:] = leaf(caps, 4)
            for name in naive.Car.__dataclass_fields__:
                getattr(fleet, name)[:] = getattr(naive.Car(report_ns=NOW, energy_ns=NOW), name)
            fleet.temp_c[:] = [20.0, 20.0, 20.0, temp]
            renew_due(fleet, totals, bounds.room(caps, totals, 4), NOW, RULES)
            assert (fleet.lo_kw[3] == fleet.hi_kw[3] == fleet.plan_kw[3]) == apart
            assert (fleet.reason_up[3] == fleet.reason_down[3] == Reason.TEMPERATURE) == apart
            assert fleet.hi_kw[:3].tolist() == [11.0] * 3


class TestRenewal:
    def set_up(self, seed=1, nodes=()):
        fleet, totals = some_fleet(seed), allocate_totals()
        totals.day[:] = NOW // (86_400 * S)
        caps = tree(nodes, ROWS)[0] if nodes else bounds.no_tree(ROWS)
        fleet.site[:] = leaf(caps, ROWS)
        return fleet, totals, bounds.room(caps, totals, ROWS)

    def test_all_at_first_then_in_turn(self):
        fleet, totals, room = self.set_up()
        fleet.state[:] = UNPLUGGED
        assert renew_due(fleet, totals, room, NOW, RULES) == EVERY
        seen = [renew_due(fleet, totals, room, NOW + k * S // 8, RULES) for k in range(1, 17)]
        # Every segment once a period, one at a time, the last to be renewed first.
        assert [bits.bit_count() for bits in seen] == [1] * 16
        assert sum(seen[:8]) == sum(seen[8:]) == EVERY
        assert seen[0] == 1 << SEGMENTS - 1
        assert renew_due(fleet, totals, room, NOW + 2 * S, RULES) == 0

    def test_a_report_that_turns_stale_does_not_wait(self):
        fleet, totals, room = self.set_up()
        fleet.state[:] = UNPLUGGED
        fleet.state[0], fleet.report_ns[0], fleet.valid_until_ns[0] = PLUGGED, NOW, 0
        renew_due(fleet, totals, room, NOW, RULES)
        at = NOW
        while at < NOW + 4_900_000_000:
            at += S // 10
            renew_due(fleet, totals, room, at, RULES)
        assert fleet.reason_up[0] == Reason.HELD
        last = totals.refreshed_ns[0]
        assert renew_due(fleet, totals, room, max(last + 1, NOW + 5 * S), RULES) & 1
        assert fleet.reason_up[0] == Reason.STALE

    @pytest.mark.parametrize("seed", range(6))
    def test_bounds_and_sums_are_the_twins(self, seed):
        """Bounds are each vehicle's own; what the segments sum is what stands in the columns."""
        fleet, totals, room = self.set_up(seed)
        renew_due(fleet, totals, room, NOW, RULES)
        rng = random.Random(seed)
        for row in range(ROWS):
            car = naive.some_car(rng, NOW)
            car.wish = 0
            one = naive.ramped(car, naive.band(car, NOW, 3.0, 5.0, 2.0), car.doing(NOW), 1.0)
            assert (fleet.free_lo_kw[row], fleet.free_hi_kw[row]) == pytest.approx((one.lo, one.hi), abs=1e-4)
            assert (fleet.lo_kw[row], fleet.hi_kw[row]) == (fleet.free_lo_kw[row], fleet.free_hi_kw[row])
        self.sums(fleet, totals)

    def sums(self, fleet, totals):
        for segment in range(SEGMENTS):
            rows = slice(first_row(segment), first_row(segment + 1))
            for name in ("lo_kw", "hi_kw"):
                expected = getattr(fleet, name)[rows].astype(float).sum()
                assert getattr(totals, name)[segment] == pytest.approx(expected, abs=1e-9)

    def test_least_powers_are_counted_and_reach_further_than_the_set(self):
        fleet, totals, room = self.set_up(2)
        for name in naive.Car.__dataclass_fields__:
            getattr(fleet, name)[:] = getattr(naive.Car(report_ns=NOW, energy_ns=NOW), name)
        fleet.min_kw[::2] = 4.0
        fleet.min_kw[0] = 4.0
        fleet.state[0] = UNPLUGGED
        renew_due(fleet, totals, room, NOW, RULES)
        assert totals.least.tolist() == [2, 2, 3, 2, 3, 2, 3, 2]
        assert totals.hi_kw.sum() == 11.0 * 20
        assert (totals.far_hi_kw.sum(), totals.far_lo_kw.sum()) == (11.0 * 39, -11.0 * 39)

    @pytest.mark.parametrize("seed", range(4))
    def test_means_are_of_those_that_count(self, seed):
        fleet, totals, room = self.set_up(seed)
        assert tuple(means(totals)) == (0.5, 0.0)
        fleet.moved_kwh[:] = 3.0
        renew_due(fleet, totals, room, NOW, RULES)
        rng = random.Random(seed)
        held = span = moved = usable = 0.0
        for _ in range(ROWS):
            car = naive.some_car(rng, NOW)
            fresh = car.state == naive.PLUGGED and NOW - car.report_ns < 5 * S and car.refused_ns == 0
            if fresh:
                window = car.ceiling_kwh - car.soc_floor_kwh
                held += min(max(car.energy_at(NOW) - car.soc_floor_kwh, 0.0), window)
                span, moved, usable = span + window, moved + 3.0, usable + car.usable_kwh
        assert tuple(means(totals)) == pytest.approx((held / span, moved / usable), rel=1e-6)


class TestCap:
    def boxes(self, fleet):
        """The same caps and vehicles for the twin: its boxes from the top, and each row's car."""
        cars = []
        for row in range(ROWS):
            heard = fleet.state[row] == PLUGGED and fleet.reason_up[row] not in (Reason.STALE, Reason.REFUSED)
            lo, hi = float(fleet.free_lo_kw[row]), float(fleet.free_hi_kw[row])
            cars.append(
                naive_sites.Car(
                    float(fleet.plan_kw[row]), float(fleet.slope_up[row]), float(fleet.slope_dn[row]),
                    lo, hi, min(lo, 0.0), max(hi, 0.0), bool(heard),
                )
            )  # fmt: skip
        box = {node.name: naive_sites.Box(node.export_kw, -node.import_kw) for node in CAPS}
        named = ["house"] * 3 + ["street"] + ["garage"] * 9 + ["street"] * 5 + [None] * 2 + ["depot"] * 16 + [None] * 4
        for name, car in zip(named, cars, strict=True):
            if name:
                box[name].own.append(car)
        box["street"].boxes = [box["house"], box["garage"]]
        return [box["street"], box["depot"]], cars

    @pytest.mark.parametrize("seed", range(12))
    def test_a_tree_over_segments_is_the_twin(self, seed):
        fleet, totals, room = TestRenewal().set_up(seed, CAPS)
        renew_due(fleet, totals, room, NOW, RULES)
        cap(fleet, totals, room, 0, ROWS, NOW, RULES)
        tops, cars = self.boxes(fleet)
        for top in tops:
            naive_sites.fold(top)
        np.testing.assert_allclose(fleet.lo_kw, [car.lo for car in cars], atol=2e-4)
        np.testing.assert_allclose(fleet.hi_kw, [car.hi for car in cars], atol=2e-4)
        TestRenewal().sums(fleet, totals)
        for row, car in enumerate(cars):
            if car.hi < fleet.free_hi_kw[row] - 1e-3:
                assert fleet.reason_up[row] == Reason.SITE

    def test_only_the_trees_above_the_renewed_rows_are_folded_again(self):
        fleet, totals, room = TestRenewal().set_up(3, CAPS)
        renew_due(fleet, totals, room, NOW, RULES)
        cap(fleet, totals, room, 0, ROWS, NOW, RULES)
        fleet.hi_kw[:] = 7.0
        cap(fleet, totals, room, 10, 12, NOW, RULES)
        assert (fleet.hi_kw[:18] != 7.0).any()
        assert (fleet.hi_kw[18:] == 7.0).all()
        # Under no cap at all.
        fleet.hi_kw[:] = 7.0
        cap(fleet, totals, room, 18, 20, NOW, RULES)
        assert (fleet.hi_kw == 7.0).all()

    def test_caps_hold_whenever_a_segment_is_renewed(self):
        fleet, totals, room = TestRenewal().set_up(5, CAPS)
        rng = np.random.default_rng(5)
        for k in range(60):
            at = NOW + k * S // 8
            fresh = rng.random(ROWS) < 0.3
            fleet.report_ns[fresh] = at
            bits = renew_due(fleet, totals, room, at, RULES)
            due = [segment for segment in range(SEGMENTS) if bits >> segment & 1]
            if due:
                cap(fleet, totals, room, first_row(due[0]), first_row(due[-1] + 1), at, RULES)
            assert (fleet.lo_kw <= fleet.hi_kw).all()
            caps = room.tree
            for node in range(caps.first.size):
                rows = slice(caps.first[node], caps.last[node])
                lo, hi = fleet.lo_kw[rows].astype(float).sum(), fleet.hi_kw[rows].astype(float).sum()
                assert hi <= caps.upper_kw[node] + max(caps.over_kw[node], 0.0) + 1e-4
                assert lo >= caps.lower_kw[node] + min(caps.over_kw[node], 0.0) - 1e-4


@pytest.mark.parametrize(
    "node", [("s", None, 38, 3), ("s", None, 0, 0), ("s", None, 0, 4, math.nan), ("s", None, 0, 4, 1.0, -1.0)]
)
def test_caps_that_are_wrong_never_reach_a_kernel(node):
    with pytest.raises(ValueError, match=r"^s: "):
        tree([node], ROWS)
