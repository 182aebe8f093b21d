"""Least powers: twins, every choice tried on small fleets, properties, and an hour of a fleet on a noisy trace."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.fleet import FAULT, PLUGGED, SEGMENTS, UNPLUGGED, allocate
from droop.minimum import MINIMUM, Nodes, Turns, apply, desk, no_nodes
from droop.reasons import Reason
from droop.relief import relieve
from droop.split import solve
from droop.switching import gap, switch
from droop.turns import rotate, swap
from tests import naive_minimum as naive

NOW = 10**18
# 1/64 h: sums of these tests' powers and energies are exact in any order.
DWELL = 56_250_000_000
TURNS = Turns(dwell_ns=DWELL)
NO_PRICE = np.empty(0, np.float32)
LEASTS = [0.0, 1.375, 4.125]
seeds = st.integers(0, 2**32 - 1)


def some_cars(rng, n):
    """Vehicles of every kind, rested or not, in modes they may no longer be able to be in."""
    cars = []
    for _ in range(n):
        size = float(rng.choice([3.75, 7.5, 11.0, 22.0]))
        lo, hi = -size * rng.integers(0, 9) / 8, size * rng.integers(-2, 9) / 8
        fixed = rng.random() < 0.1
        hi = max(lo, hi)
        lo = hi if fixed else lo
        cars.append(
            naive.Car(
                float(rng.choice(LEASTS)), lo, hi, int(rng.integers(-1, 2)), float(rng.integers(-64, 65)) / 64,
                float(rng.integers(-32, 1)) / 8, NOW - int(rng.choice([0, DWELL - 1, DWELL, 10 * DWELL])), fixed,
            )
        )  # fmt: skip
    return cars


def columns(cars):
    fleet = allocate(len(cars))
    for i, car in enumerate(cars):
        fleet.state[i], fleet.min_kw[i], fleet.mode[i] = PLUGGED, car.least, car.mode
        fleet.least_dn_kw[i] = car.least
        fleet.free_lo_kw[i], fleet.free_hi_kw[i], fleet.plan_kw[i] = car.free_lo, car.free_hi, car.plan
        fleet.owed_kwh[i], fleet.switched_ns[i] = car.owed, car.since_ns
        fleet.reason_up[i] = Reason.STALE if car.fixed else Reason.RATING
    return fleet


def set_up(fleet, sums):
    """Apply to every segment; returns the reachable extremes and the modes changed."""
    n, far_lo, far_hi, changed = fleet.state.size, 0.0, 0.0, 0
    for s in range(SEGMENTS):
        lo, hi, low, high, count = apply(fleet, s * n // SEGMENTS, (s + 1) * n // SEGMENTS, NOW)
        sums.lo_kw[s], sums.hi_kw[s] = lo, hi
        far_lo, far_hi, changed = far_lo + low, far_hi + high, changed + count
    return far_lo, far_hi, changed


def check(fleet, sums):
    """What holds whatever was asked: bounds, the hole around zero, sums by segment."""
    lo, hi, least = fleet.lo_kw, fleet.hi_kw, fleet.min_kw
    free = (least == 0) | (fleet.reason_up == Reason.STALE)
    assert (lo <= hi).all()
    on_up, on_dn, off = fleet.mode == 1, fleet.mode == -1, fleet.mode == 0
    assert (free | ~on_up | ((lo >= least) & (hi <= fleet.free_hi_kw))).all()
    assert (free | ~on_dn | ((hi <= -least) & (lo >= fleet.free_lo_kw))).all()
    assert (free | ~off | ((lo == 0) & (hi == 0))).all()
    assert ((lo == fleet.free_lo_kw) & (hi == fleet.free_hi_kw))[free].all()
    n = fleet.state.size
    for s in range(SEGMENTS):
        rows = slice(s * n // SEGMENTS, (s + 1) * n // SEGMENTS)
        assert sums.lo_kw[s] == pytest.approx(math.fsum(lo[rows].tolist()), abs=1e-6)
        assert sums.hi_kw[s] == pytest.approx(math.fsum(hi[rows].tolist()), abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(1, 30))
def test_apply_is_the_twins(seed, n):
    cars = some_cars(np.random.default_rng(seed), n)
    fleet, sums = columns(cars), desk()
    got = set_up(fleet, sums)
    lo, hi, *expected = naive.settle(cars, NOW)
    assert list(got) == expected
    assert (sums.lo_kw.sum(), sums.hi_kw.sum()) == (lo, hi)
    for i, car in enumerate(cars):
        assert (fleet.lo_kw[i], fleet.hi_kw[i]) == (car.lo, car.hi)
        if car.steps:
            assert (fleet.mode[i], fleet.switched_ns[i]) == (car.mode, car.since_ns)
        assert (fleet.reason_up[i] == MINIMUM) == (car.hi < car.free_hi)
        assert (fleet.reason_down[i] == MINIMUM) == (car.lo > car.free_lo)
    check(fleet, sums)


@pytest.mark.parametrize("state", [UNPLUGGED, FAULT])
def test_apply_forgets_who_left(state):
    fleet = columns([naive.Car(4.125, 0.0, 0.0, 1, 1.5)])
    fleet.state[0] = state
    apply(fleet, 0, 1, NOW)
    assert (fleet.mode[0], fleet.owed_kwh[0], fleet.lo_kw[0], fleet.hi_kw[0]) == (0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("reason", [Reason.STALE, Reason.REFUSED])
def test_who_is_not_heard_keeps_its_bounds_and_its_mode(reason):
    fleet, sums = columns([naive.Car(4.125, 2.0, 2.0, 1), naive.Car(4.125, -11.0, 11.0, 0)]), desk()
    fleet.reason_up[0] = reason
    assert set_up(fleet, sums) == (2.0 - 11.0, 2.0 + 11.0, 0)
    assert (fleet.lo_kw[0], fleet.hi_kw[0], fleet.mode[0]) == (2.0, 2.0, 1)
    switch(-9.0, 0.0, NOW, fleet, TURNS, no_nodes(), sums)
    assert (fleet.mode.tolist(), fleet.lo_kw[0]) == ([1, -1], 2.0)


@settings(max_examples=300, deadline=None)
@given(seeds, st.integers(1, 40))
def test_switch_is_the_twins(seed, n):
    """Request after request: the same vehicles in the same modes, and the same remainder."""
    rng = np.random.default_rng(seed)
    cars = some_cars(rng, n)
    fleet, sums = columns(cars), desk()
    far_lo, far_hi, _ = set_up(fleet, sums)
    naive.settle(cars, NOW)
    sums.start[0] = int(rng.integers(0, n))
    twin = naive.Chooser(cars, DWELL, TURNS.most_kwh, int(sums.start[0]))
    now = NOW
    for _ in range(6):
        request = far_lo + (far_hi - far_lo) * int(rng.integers(0, 65)) / 64
        margin = float(rng.choice([0.0, 1.0, 8.0]))
        now += int(rng.choice([0, DWELL // 2, DWELL]))
        assert switch(request, margin, now, fleet, TURNS, no_nodes(), sums) == twin.switch(request, margin, now)
        steps = [i for i, car in enumerate(cars) if car.steps]
        assert [fleet.mode[i] for i in steps] == [cars[i].mode for i in steps]
        assert [fleet.switched_ns[i] for i in steps] == [cars[i].since_ns for i in steps]
        check(fleet, sums)


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(1, 6))
def test_no_set_serves_much_better(seed, n):
    """Against every choice of modes: what a set could serve is served, to half of the largest least power."""
    rng = np.random.default_rng(seed)
    cars = some_cars(rng, n)
    fleet, sums = columns(cars), desk()
    far_lo, far_hi, _ = set_up(fleet, sums)
    request = float(rng.uniform(far_lo, far_hi)) if far_hi > far_lo else far_lo
    _, left = switch(request, 0.0, NOW, fleet, TURNS, no_nodes(), sums)
    assert abs(left) == gap(request, sums.lo_kw.sum(), sums.hi_kw.sum())
    assert abs(left) <= naive.best_possible(cars, request) + 0.5 * max(car.least for car in cars)


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(2, 200), st.sampled_from([7.0, 11.0, 22.0]))
def test_every_request_is_served_by_two_or_more(seed, n, size):
    """Opposed pairs fill the gaps: with two vehicles that go both ways nothing within reach is left over."""
    rng = np.random.default_rng(seed)
    fleet, sums = columns([naive.Car(1.375, -size, size) for _ in range(n)]), desk()
    far_lo, far_hi, _ = set_up(fleet, sums)
    for request in [*rng.uniform(far_lo, far_hi, 5).tolist(), 0.5, -0.5, far_hi, far_lo, 0.0]:
        assert switch(request, 0.0, NOW, fleet, TURNS, no_nodes(), sums)[1] == 0.0
        check(fleet, sums)


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(1, 6), st.sampled_from([1, -1]))
def test_no_more_changes_than_needed(seed, n, sign):
    """Like vehicles, none of them against the request: against every choice of modes, as few as any change."""
    rng = np.random.default_rng(seed)
    size = float(rng.choice([7.5, 11.0]))
    cars = [naive.Car(4.125, -size, size, sign * int(rng.integers(0, 2))) for _ in range(n)]
    fleet, sums = columns(cars), desk()
    set_up(fleet, sums)
    naive.settle(cars, NOW)
    request = sign * float(rng.uniform(0, n * size))
    if abs(request) <= sum(abs(car.lo if sign > 0 else car.hi) for car in cars):
        return
    fewest = naive.fewest_changes(cars, request)
    changed, left = switch(request, 0.0, NOW, fleet, TURNS, no_nodes(), sums)
    assert (changed, left) == (fewest, 0.0) or (math.isinf(fewest) and left != 0.0)


def test_the_sum_is_served_before_anyone_has_rested_and_the_rested_come_first():
    """Nobody changes within the dwell time while others can serve; where nobody can, the sum wins."""
    fleet, sums = columns([naive.Car(4.125, -11.0, 11.0, since_ns=NOW) for _ in range(6)]), desk()
    fleet.switched_ns[3:] = NOW - 2 * DWELL
    set_up(fleet, sums)
    assert switch(33.0, 0.0, NOW + 1, fleet, TURNS, no_nodes(), sums) == (3, 0.0)
    assert fleet.mode.tolist() == [0, 0, 0, 1, 1, 1]
    assert switch(44.0, 0.0, NOW + 2, fleet, TURNS, no_nodes(), sums) == (1, 0.0)
    assert fleet.mode[:3].sum() == 1


def test_a_gap_nobody_can_fill():
    """One charger of 4.14 kW asked for 2, and for 3: nearest, and what is left is said."""
    for request, served in ((2.0, 0.0), (3.0, 4.125), (-3.0, -4.125), (-1.0, 0.0)):
        fleet, sums = columns([naive.Car(4.125, -11.0, 11.0)]), desk()
        set_up(fleet, sums)
        _, left = switch(request, 1.0, NOW, fleet, TURNS, no_nodes(), sums)
        assert left == request - served


def test_concentration():
    """A request of 1 % keeps 1 % of the fleet busy at full power, not all at a hundredth."""
    for sign in (1, -1):
        fleet, sums = columns([naive.Car(4.125, -11.0, 11.0) for _ in range(1000)]), desk()
        set_up(fleet, sums)
        switch(sign * 110.0, 0.0, NOW, fleet, TURNS, no_nodes(), sums)
        assert (fleet.mode == sign).sum() == 10
        assert (fleet.mode == -sign).sum() == 0


def test_what_works_against_a_request_stops_first():
    """Charging ones stop before anyone discharges; who was just changed stays while another can serve."""
    cars = [naive.Car(4.125, -11.0, 11.0, mode) for mode in (-1, -1, 0, 0)]
    fleet, sums = columns(cars), desk()
    set_up(fleet, sums)
    switch(0.0, 0.0, NOW, fleet, TURNS, no_nodes(), sums)
    assert fleet.mode.tolist() == [0, 0, 0, 0]
    switch(8.0, 0.0, NOW + 1, fleet, TURNS, no_nodes(), sums)
    assert fleet.mode.tolist() == [0, 0, 1, 0]
    switch(44.0, 0.0, NOW + 2, fleet, TURNS, no_nodes(), sums)
    assert fleet.mode.tolist() == [1, 1, 1, 1]
    # The sum wins over the dwell time, and all are even on the other side of zero.
    switch(-44.0, 0.0, NOW + 3, fleet, TURNS, no_nodes(), sums)
    assert fleet.mode.tolist() == [-1, -1, -1, -1]


def test_who_is_owed_most_and_who_plans_most_comes_first():
    fleet, sums = columns([naive.Car(4.125, -11.0, 11.0, owed=x) for x in (0.0, 0.5, -0.5, 0.25)]), desk()
    set_up(fleet, sums)
    switch(20.0, 0.0, NOW, fleet, TURNS, no_nodes(), sums)
    assert fleet.mode.tolist() == [0, 1, 0, 1]
    fleet, sums = columns([naive.Car(4.125, -11.0, 11.0, plan=x) for x in (0.0, -0.5, -7.0, -6.0)]), desk()
    set_up(fleet, sums)
    switch(-20.0, 0.0, NOW, fleet, TURNS, no_nodes(), sums)
    assert fleet.mode.tolist() == [0, 0, -1, -1]


def test_margin_is_kept_only_where_it_costs_no_step_over_the_request():
    fleet, sums = columns([naive.Car(4.125, -11.0, 11.0) for _ in range(3)]), desk()
    set_up(fleet, sums)
    switch(10.5, 1.0, NOW, fleet, TURNS, no_nodes(), sums)
    assert (fleet.mode == 1).sum() == 2
    fleet.mode[:] = 0
    set_up(fleet, sums)
    switch(8.0, 5.0, NOW, fleet, TURNS, no_nodes(), sums)
    assert (fleet.mode == 1).sum() == 1


def test_others_stand_in_for_who_does_not_fit():
    """The vehicle owed most cannot give as little as is asked; two that are owed less keep the margin too."""
    cars = [naive.Car(4.125, -11.0, 11.0, owed=0.5), *(naive.Car(1.375, -3.75, 3.75) for _ in range(3))]
    fleet, sums = columns(cars), desk()
    set_up(fleet, sums)
    assert switch(3.5, 2.0, NOW, fleet, TURNS, no_nodes(), sums) == (2, 0.0)
    assert fleet.mode.tolist() == [0, 1, 1, 0]


def test_ties_take_turns():
    """Like vehicles are called equally often, wherever they stand."""
    fleet, sums = columns([naive.Car(4.125, -11.0, 11.0) for _ in range(50)]), desk()
    set_up(fleet, sums)
    called = np.zeros(50, int)
    for k in range(100):
        now = NOW + k * 2 * DWELL
        switch(50.0, 0.0, now, fleet, TURNS, no_nodes(), sums)
        called += fleet.mode == 1
        switch(0.0, 0.0, now + DWELL, fleet, TURNS, no_nodes(), sums)
    assert called.sum() == 500
    assert called.max() - called.min() <= 2


def rota(seed, n):
    """A fleet and its twin that serve some request, with energies owed and powers held that float32 knows."""
    rng = np.random.default_rng(seed)
    cars = some_cars(rng, n)
    for car in cars:
        car.up, car.down = float(rng.integers(0, 33)) / 8, float(rng.integers(0, 33)) / 8
    fleet, sums = columns(cars), desk()
    fleet.slope_up[:], fleet.slope_dn[:] = [car.up for car in cars], [car.down for car in cars]
    far_lo, far_hi, _ = set_up(fleet, sums)
    naive.settle(cars, NOW)
    sums.start[0] = int(rng.integers(0, n))
    turns = Turns(DWELL, 0.125, 0.5, 1.0, float(rng.choice([100.0, 3600.0])), float(rng.choice([0.0, 0.3])))
    twin = naive.Rota(
        cars, DWELL, turns.most_kwh, int(sums.start[0]), turns.swap_kwh, turns.far_kwh, turns.forget_s, turns.swap_frac
    )  # fmt: skip
    return rng, cars, fleet, sums, twin, turns, (far_lo, far_hi)


@settings(max_examples=200, deadline=None)
@given(seeds, st.integers(1, 60))
def test_rotate_is_the_twins(seed, n):
    """Segment after segment: the same turns, the same energy owed, nobody before his time, the request served."""
    rng, cars, fleet, sums, twin, turns, (far_lo, far_hi) = rota(seed, n)
    now = NOW
    for _ in range(6):
        request = float(rng.choice([0.0, 1.0, -1.0, far_lo + (far_hi - far_lo) * int(rng.integers(0, 65)) / 64]))
        margin, lam = float(rng.choice([0.0, 0.5, 4.0])), float(rng.integers(-8, 9)) / 4
        assert switch(request, margin, now, fleet, turns, no_nodes(), sums) == twin.switch(request, margin, now)
        served = gap(request, sums.lo_kw.sum(), sums.hi_kw.sum()) == 0.0
        for i, car in enumerate(cars):
            car.power = car.lo + (car.hi - car.lo) * int(rng.integers(0, 3)) / 2
            fleet.power_kw[i] = car.power
        now += int(rng.choice([DWELL // 2, DWELL]))
        for segment in range(SEGMENTS):
            before, since = fleet.mode.copy(), fleet.switched_ns.copy()
            found = rotate(segment, request, margin, lam, 0.0, 56.25, now, fleet, turns, no_nodes(), sums)
            assert found == twin.rotate(segment, request, margin, lam, 56.25, now)
            moved = fleet.mode != before
            assert (now - since[moved] >= DWELL).all()
            assert (np.abs(fleet.mode - before) <= 1).all()
            assert not served or gap(request, sums.lo_kw.sum(), sums.hi_kw.sum()) == 0.0
        steps = [i for i, car in enumerate(cars) if car.steps]
        assert [fleet.mode[i] for i in steps] == [cars[i].mode for i in steps]
        assert [fleet.switched_ns[i] for i in steps] == [cars[i].since_ns for i in steps]
        least = [i for i, car in enumerate(cars) if car.least > 0]
        np.testing.assert_allclose(fleet.owed_kwh[least], [cars[i].owed for i in least], rtol=0, atol=1e-6)
        assert sums.start[0] == twin.start
        np.testing.assert_allclose(sums.owed_kwh, [kwh for kwh, _ in twin.owed], rtol=0, atol=1e-5)
        assert sums.rows.tolist() == [rows for _, rows in twin.owed]
        check(fleet, sums)
        fleet.owed_kwh[:] = [car.owed for car in cars]


class TestSites:
    """A leaf of six below a root with one more vehicle."""

    def build(self, upper, lower, root=math.inf):
        fleet, sums = columns([naive.Car(4.0, -11.0, 11.0) for _ in range(7)]), desk()
        fleet.site[:6], fleet.site[6] = 0, 1
        caps = np.array([upper, root]), np.array([lower, -root])
        nodes = Nodes(np.array([1, -1], np.int32), *caps, np.zeros(2), np.zeros(2))
        set_up(fleet, sums)
        return fleet, sums, nodes

    def held(self, fleet, nodes):
        """Sums of the nodes are those of the columns, and within the caps."""
        for node, rows in ((0, slice(6)), (1, slice(7))):
            lo, hi = fleet.lo_kw[rows].sum(dtype=float), fleet.hi_kw[rows].sum(dtype=float)
            assert (nodes.lo_sum_kw[node], nodes.hi_sum_kw[node]) == pytest.approx((lo, hi), abs=1e-6)
            assert hi <= nodes.upper_kw[node] + 1e-5
            assert lo >= nodes.lower_kw[node] - 1e-5

    @pytest.mark.parametrize("sign", [1, -1])
    def test_as_many_as_the_cap_has_room_for(self, sign):
        fleet, sums, nodes = self.build(27.0, -27.0)
        _, left = switch(sign * 60.0, 0.0, NOW, fleet, TURNS, nodes, sums)
        # 11 + 11 + 5 of the leaf, 11 beside it.
        assert left == pytest.approx(sign * (60.0 - 38.0))
        assert (np.abs(fleet.mode).sum(), fleet.mode[6]) == (4, sign)
        self.held(fleet, nodes)
        check(fleet, sums)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_caps_further_up_count(self, sign):
        fleet, sums, nodes = self.build(math.inf, -math.inf, 24.0)
        _, left = switch(sign * 60.0, 0.0, NOW, fleet, TURNS, nodes, sums)
        # Two at 11, and an opposed pair for the 2 kW that are less than anybody's least.
        assert left == pytest.approx(sign * 36.0)
        self.held(fleet, nodes)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_a_partner_below_the_same_full_cap(self, sign):
        fleet, sums, nodes = self.build(11.0, -11.0)
        switch(sign * 9.0, 0.0, NOW, fleet, TURNS, nodes, sums)
        one = int(np.flatnonzero(fleet.mode)[0])
        other = (one + 1) % 6
        riser, faller = (other, one) if sign > 0 else (one, other)
        # Too little for anybody: all is put back.
        before = fleet.mode.tolist(), fleet.switched_ns.tolist()
        assert not swap(sign * 12.0, riser, faller, NOW + 1, fleet, nodes, sums)
        assert before == (fleet.mode.tolist(), fleet.switched_ns.tolist())
        assert swap(sign * 9.0, riser, faller, NOW, fleet, nodes, sums)
        assert (fleet.mode[one], fleet.mode[other]) == (0, sign)
        self.held(fleet, nodes)
        check(fleet, sums)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_relieved_when_least_powers_alone_break_the_cap(self, sign):
        fleet, sums, nodes = self.build(13.0, -13.0)
        fleet.mode[:] = sign
        set_up(fleet, sums)
        nodes.lo_sum_kw[:], nodes.hi_sum_kw[:] = 99.0, -99.0
        assert relieve(fleet, 0, 7, NOW, nodes, sums) == 3
        assert (fleet.mode[:6] == sign).sum() == 3
        assert fleet.mode[6] == sign
        near = nodes.lo_sum_kw if sign > 0 else -nodes.hi_sum_kw
        assert near.tolist() == [12.0, 16.0]
        check(fleet, sums)

    def test_sums_are_those_of_rounded_bounds(self):
        """A cap's room is no number of float32: what the columns keep of it is what is summed, to the last bit."""
        fleet, sums, nodes = self.build(27.3, -27.3)
        for request in (60.0, -60.0, 38.0, -3.0, 0.0, 38.2):
            switch(request, 0.0, NOW, fleet, TURNS, nodes, sums)
            for node, rows in ((0, slice(6)), (1, slice(7))):
                assert nodes.lo_sum_kw[node] == pytest.approx(math.fsum(fleet.lo_kw[rows].tolist()), abs=1e-12)
                assert nodes.hi_sum_kw[node] == pytest.approx(math.fsum(fleet.hi_kw[rows].tolist()), abs=1e-12)
            assert sums.hi_kw.sum() == pytest.approx(math.fsum(fleet.hi_kw.tolist()), abs=1e-12)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_who_is_on_already_makes_room_for_itself(self, sign):
        """Under a full cap a vehicle may still change: what it gives up is room for what it takes."""
        fleet, sums, nodes = self.build(11.0, -11.0)
        one = 2
        fleet.mode[one] = sign
        set_up(fleet, sums)
        relieve(fleet, 0, 7, NOW, nodes, sums)
        fleet.free_lo_kw[6] = fleet.free_hi_kw[6] = fleet.lo_kw[6] = fleet.hi_kw[6] = 0.0
        assert switch(-sign * 9.0, 0.0, NOW, fleet, TURNS, nodes, sums)[1] == 0.0
        assert np.abs(fleet.mode).sum() == 1
        self.held(fleet, nodes)
        check(fleet, sums)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_repair_keeps_caps_that_leave_no_room(self, sign):
        """Of a cap of 3 kW nobody's 4 kW fit: whatever is tried, nobody below it is turned on alone."""
        fleet, sums, nodes = self.build(3.0, -3.0)
        fleet.free_lo_kw[6] = fleet.free_hi_kw[6] = fleet.lo_kw[6] = fleet.hi_kw[6] = 0.0
        for request in (2.0, 3.0, 5.0):
            switch(sign * request, 0.0, NOW, fleet, TURNS, nodes, sums)
            assert (fleet.lo_kw <= fleet.hi_kw).all()
            self.held(fleet, nodes)
            check(fleet, sums)

    def test_those_relieved_take_turns(self):
        fleet, sums, nodes = self.build(13.0, -13.0)
        off = np.zeros(6, int)
        for _ in range(6):
            fleet.mode[:] = 1
            set_up(fleet, sums)
            assert relieve(fleet, 0, 7, NOW, nodes, sums) == 3
            off += fleet.mode[:6] == 0
        assert off.min() >= 2
        assert off.max() <= 4

    def test_a_cap_comes_before_who_must_charge_and_who_waits_goes_on_waiting(self):
        fleet, sums, nodes = self.build(13.0, -13.0)
        fleet.free_hi_kw[:] = -5.0
        fleet.mode[:] = -1
        set_up(fleet, sums)
        # Of the 5 kW that each needs 13 bear two, of their least 4 kW three: what is more is for the fold to shed.
        assert relieve(fleet, 0, 7, NOW, nodes, sums) == 3
        waiting = np.flatnonzero(fleet.mode[:6] == 0)
        assert waiting.size == 3
        assert (fleet.hi_kw[:6][fleet.mode[:6] < 0] == -5.0).all()
        assert (fleet.reason_down[waiting] == Reason.SITE).all()
        for second in range(1, 5):
            apply(fleet, 0, 7, NOW + second * 1_000_000_000)
            assert (fleet.mode[:6] == -1).all()
            relieve(fleet, 0, 7, NOW + second * 1_000_000_000 + 1, nodes, sums)
            assert np.flatnonzero(fleet.mode[:6] == 0).tolist() == waiting.tolist()

    def test_who_does_not_hear_keeps_its_bounds(self):
        """It is predicted to charge with 1 kW, whatever its mode was; caps change nothing about that."""
        fleet, sums, nodes = self.build(13.0, -13.0)
        fleet.mode[:], fleet.free_hi_kw[:] = -1, -5.0
        fleet.reason_up[2] = Reason.STALE
        fleet.free_lo_kw[2] = fleet.free_hi_kw[2] = -1.0
        set_up(fleet, sums)
        relieve(fleet, 0, 7, NOW, nodes, sums)
        assert (fleet.lo_kw[2], fleet.hi_kw[2]) == (-1.0, -1.0)
        assert (fleet.lo_kw <= fleet.hi_kw).all()

    @pytest.mark.parametrize("sign", [1, -1])
    def test_turned_on_where_only_that_keeps_a_cap(self, sign):
        """Beside the vehicles more flows than the cap bears: 10 kW must go the other way."""
        fleet, sums, nodes = self.build(-sign * 10.0 if sign > 0 else 99.0, 10.0 if sign < 0 else -99.0)
        set_up(fleet, sums)
        assert relieve(fleet, 0, 7, NOW, nodes, sums) > 0
        assert set(fleet.mode[:6].tolist()) <= {0, -sign}
        if sign > 0:
            assert nodes.lo_sum_kw[0] <= nodes.upper_kw[0]
        else:
            assert nodes.hi_sum_kw[0] >= nodes.lower_kw[0]


def test_a_car_that_takes_less_than_its_chargers_least_can_charge():
    """Cold: of 4.14 kW offered it takes 2. For its driver that will do; to the grid it is no charger of 4.14 kW."""
    fleet, sums = allocate(8), desk()
    fleet.state[:], fleet.min_kw[:], fleet.least_dn_kw[:] = PLUGGED, 4.14, 2.0
    fleet.free_lo_kw[:], fleet.free_hi_kw[:4], fleet.free_hi_kw[4:] = -2.0, -1.0, 3.0
    far_lo, far_hi, _ = set_up(fleet, sums)
    assert (far_lo, far_hi) == (-8.0, -8.0)
    assert fleet.mode.tolist() == [-1] * 4 + [0] * 4
    assert fleet.lo_kw.tolist() == fleet.hi_kw.tolist() == [-2.0] * 4 + [0.0] * 4
    assert switch(-10.0, 0.0, NOW, fleet, TURNS, no_nodes(), sums)[1] == -2.0


def rotate_rows(segment, request, now, fleet, nodes, sums, margin=0.0, lam=0.0, elapsed=0.0, turns=TURNS):
    return rotate(segment, request, margin, lam, 0.0, elapsed, now, fleet, turns, nodes, sums)


class TestRotate:
    """Sixteen like vehicles, so that each segment holds two."""

    def build(self, modes, owed):
        fleet, sums = columns([naive.Car(4.0, -11.0, 11.0, m, o) for m, o in zip(modes, owed, strict=True)]), desk()
        set_up(fleet, sums)
        return fleet, sums

    def test_a_pair_changes_places(self):
        fleet, sums = self.build([1, 0] + [0] * 14, [-0.25, 0.25] + [0.0] * 14)
        assert rotate_rows(0, 5.0, NOW, fleet, no_nodes(), sums) == 2
        assert fleet.mode.tolist()[:2] == [0, 1]
        check(fleet, sums)

    def test_not_before_the_dwell_time_nor_for_little(self):
        fleet, sums = self.build([1, 0] + [0] * 14, [-0.25, 0.25] + [0.0] * 14)
        fleet.switched_ns[1] = NOW
        assert rotate_rows(0, 5.0, NOW + DWELL - 1, fleet, no_nodes(), sums) == 0
        assert rotate_rows(0, 5.0, NOW + DWELL, fleet, no_nodes(), sums) == 2
        fleet, sums = self.build([1, 0] + [0] * 14, [-0.0625, 0.0625] + [0.0] * 14)
        assert rotate_rows(0, 5.0, NOW, fleet, no_nodes(), sums) == 0

    def test_alone_where_the_range_allows(self):
        fleet, sums = self.build([1, 1] + [0] * 14, [0.0, -0.25] + [0.0] * 14)
        assert rotate_rows(0, 10.0, NOW, fleet, no_nodes(), sums, margin=2.0) == 0
        assert rotate_rows(0, 10.0, NOW, fleet, no_nodes(), sums, margin=0.5) == 1
        assert fleet.mode.tolist()[:2] == [1, 0]

    @pytest.mark.parametrize(("owed", "changed"), [(-0.375, 0), (-0.625, 1)])
    def test_against_the_fleet_only_for_much(self, owed, changed):
        fleet, sums = self.build([0, 0] + [1] * 14, [owed, 0.0] + [0.0] * 14)
        assert rotate_rows(0, 60.0, NOW, fleet, no_nodes(), sums) == changed
        assert fleet.mode[0] == -changed

    def test_back_when_it_is_no_longer_owed(self):
        fleet, sums = self.build([-1, 0] + [1] * 14, [-0.25, 0.0] + [0.0] * 14)
        assert rotate_rows(0, 60.0, NOW, fleet, no_nodes(), sums) == 0
        fleet.owed_kwh[0] = -0.0625
        assert rotate_rows(0, 60.0, NOW, fleet, no_nodes(), sums) == 1
        assert fleet.mode[0] == 0

    def test_energy_owed(self):
        """Optimum less power held; what all are owed fades; nothing is remembered beyond its most."""
        fleet, sums = self.build([1] * 16, [0.5, -0.5] + [0.0] * 13 + [-2.0])
        fleet.plan_kw[:], fleet.slope_up[:], fleet.slope_dn[:], fleet.power_kw[:] = -1.0, 12.0, 10.0, 6.0
        before = fleet.owed_kwh.astype(float)
        never = Turns(dwell_ns=DWELL, forget_s=math.inf)
        for lam, optimum in ((0.5, 5.0), (2.0, 11.0), (-0.25, -3.5), (-5.0, -11.0)):
            fleet.owed_kwh[:] = before
            for s in range(SEGMENTS):
                rotate_rows(s, 90.0, NOW - 10 * DWELL, fleet, no_nodes(), sums, lam=lam, elapsed=36.0, turns=never)
            np.testing.assert_allclose(fleet.owed_kwh, np.clip(before + (optimum - 6.0) * 0.01, -2, 2), atol=1e-6)
            sums.owed_kwh[:], sums.rows[:] = 0.0, 0
        fleet.owed_kwh[:], fleet.power_kw[:] = 1.0, 5.0
        sums.owed_kwh[:], sums.rows[:] = 2.0, 2
        rotate_rows(0, 90.0, NOW - 10 * DWELL, fleet, no_nodes(), sums, lam=0.5, elapsed=360.0)
        np.testing.assert_allclose(fleet.owed_kwh[:2], 0.9, rtol=1e-6)
        assert (sums.owed_kwh[0], sums.rows[0]) == (pytest.approx(1.8), 2)
        fleet.owed_kwh[:2], fleet.power_kw[0] = 1.999, -100.0
        rotate_rows(0, 90.0, NOW - 10 * DWELL, fleet, no_nodes(), sums, lam=0.5, elapsed=36.0)
        assert fleet.owed_kwh[0] == 2.0

    def test_who_has_just_changed_is_nobodys_partner(self):
        """The first takes its turn by itself; the second is owed more, and does not take it back at once."""
        fleet, sums = self.build([0, 0] + [0] * 12 + [-1, -1], [0.6, 1.0] + [0.0] * 14)
        changed = rotate_rows(0, -17.0, NOW, fleet, no_nodes(), sums)
        assert (changed, fleet.mode.tolist()[:2]) == (1, [1, 0])
        check(fleet, sums)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_near_zero_a_sum_has_no_direction(self, sign):
        """Within the margin both directions are as good: nobody works against anything, nobody is turned off early."""
        modes = [0, -sign] + [0] * 6 + [sign] * 4 + [-sign] * 4
        fleet, sums = self.build(modes, [-0.25 * sign, -0.05 * sign] + [0.0] * 14)
        assert rotate_rows(0, sign * 0.5, NOW, fleet, no_nodes(), sums, margin=1.0) == 1
        assert fleet.mode.tolist()[:2] == [-sign, -sign]
        fleet, sums = self.build(modes, [-0.25 * sign, -0.05 * sign] + [0.0] * 14)
        assert rotate_rows(0, sign * 1.5, NOW, fleet, no_nodes(), sums, margin=1.0) == 1
        assert fleet.mode.tolist()[:2] == [0, 0]

    @pytest.mark.parametrize("sign", [1, -1])
    def test_alone_only_with_the_margin_on_either_side(self, sign):
        fleet, sums = self.build([sign, 0] + [0] * 14, [0.0, 0.15 * sign] + [0.0] * 14)
        # Two on give 8 at least: too near to 9 for a margin of 2, far enough for one of 1.
        assert rotate_rows(0, sign * 9.0, NOW, fleet, no_nodes(), sums, margin=2.0) == 0
        assert rotate_rows(0, sign * 9.0, NOW, fleet, no_nodes(), sums, margin=1.0) == 1

    @pytest.mark.parametrize("hours", [0.5, 1.0, 3.0])
    def test_what_all_are_owed_fades_to_nothing_and_not_beyond(self, hours):
        fleet, sums = self.build([1] * 16, [0.5] * 16)
        sums.owed_kwh[:], sums.rows[:] = 1.0, 2
        fleet.power_kw[:] = fleet.plan_kw
        rotate_rows(0, 90.0, NOW - 10 * DWELL, fleet, no_nodes(), sums, elapsed=hours * 3600.0)
        np.testing.assert_allclose(fleet.owed_kwh[:2], 0.5 * max(1.0 - hours, 0.0), atol=1e-6)

    def test_few_at_a_time(self):
        fleet, sums = columns([naive.Car(4.0, -11.0, 11.0, k % 2, 0.5 - k % 2) for k in range(800)]), desk()
        set_up(fleet, sums)
        for _ in range(3):
            assert 2 <= rotate_rows(0, 3000.0, NOW, fleet, no_nodes(), sums, turns=Turns(swap_frac=0.1)) <= 11
        check(fleet, sums)


DT_S = 0.1


def droop_trace(ticks, seed):
    """Share of the sold power: an Ornstein-Uhlenbeck deviation (20 mHz, 60 s), 2 mHz noise and one event."""
    rng, dev, out = np.random.default_rng(seed), 0.0, np.zeros(ticks)
    for k in range(ticks):
        dev += -dev * DT_S / 60 + 0.02 * math.sqrt(2 * DT_S / 60) * rng.standard_normal()
        hz = dev + 0.002 * rng.standard_normal() - (0.18 * math.exp((ticks // 2 - k) / 600) if k > ticks // 2 else 0.0)
        out[k] = 0.0 if abs(hz) < 0.01 else -max(-1.0, min(1.0, hz / 0.2))
    return out


def some_fleet(kind, n):
    fleet, rng = allocate(n), np.random.default_rng(3)
    size = rng.choice([7.4, 11.0, 22.0], n) if kind == "mixed" else np.full(n, 11.0)
    plan = {"like": 0.0, "small plans": -0.5, "mixed": -size * rng.choice([0, 0, 0.05, 0.3, 0.7], n)}[kind]
    fleet.state[:], fleet.min_kw[:], fleet.plan_kw[:] = PLUGGED, np.where(size < 10, 1.38, 4.14), plan
    fleet.least_dn_kw[:] = fleet.min_kw
    fleet.free_lo_kw[:], fleet.free_hi_kw[:], fleet.switched_ns[:] = -size, size, -NOW
    fleet.slope_up[:], fleet.slope_dn[:] = fleet.free_hi_kw - fleet.plan_kw, fleet.plan_kw - fleet.free_lo_kw
    return fleet


class Hour:
    """A fleet on a trace at 10 Hz, its segments renewed once a second; what came of it."""

    def __init__(self, kind, n, ticks):
        f = self.fleet = some_fleet(kind, n)
        sums, nodes, now, self.hours = desk(), no_nodes(), NOW, ticks * DT_S / 3600
        ends = [float(x.sum(dtype=float)) for x in (f.free_lo_kw, f.free_hi_kw)]
        set_up(f, sums)
        free, memory, memory_free = np.zeros(n, np.float32), np.zeros(3), np.zeros(3)
        self.energy, self.wanted, self.hole, self.opposed = np.zeros(n), np.zeros(n), 0, 0.0
        self.errors, self.changes, wide, margin = [], np.zeros(n), ends[1], 0.005 * ends[1]
        for k, share in enumerate(droop_trace(ticks, 0).tolist()):
            now += int(DT_S * 1e9)
            request, before = float(f.plan_kw.sum(dtype=float)) + 0.6 * ends[1] * share, f.mode.copy()
            if k % 10 == 0:
                lam = solve(
                    request, 1e-6 * wide, f.plan_kw, f.slope_up, f.slope_dn, f.free_lo_kw, f.free_hi_kw, free, *ends,
                    NO_PRICE, memory_free,
                )[2]  # fmt: skip
            if k % 10 < SEGMENTS:
                s = k % 10
                result = apply(f, s * n // SEGMENTS, (s + 1) * n // SEGMENTS, now)
                sums.lo_kw[s], sums.hi_kw[s] = result[0], result[1]
                rotate(s, request, margin, lam, 0.0, 1.0, now, f, Turns(), nodes, sums)
            if gap(request, sums.lo_kw.sum(), sums.hi_kw.sum()) > 0.0:
                switch(request, margin, now, f, Turns(), nodes, sums)
            total = solve(
                request, 5e-7 * wide, f.plan_kw, f.slope_up, f.slope_dn, f.lo_kw, f.hi_kw, f.power_kw,
                sums.lo_kw.sum(), sums.hi_kw.sum(), NO_PRICE, memory,
            )[0]  # fmt: skip
            self.errors.append(abs(request - total) / wide)
            self.hole += int(((np.abs(f.power_kw) < f.min_kw) & (f.power_kw != 0)).sum())
            self.changes += np.abs(f.mode - before)
            self.opposed += min((f.mode > 0).sum(), (f.mode < 0).sum()) / n / ticks
            self.energy += f.power_kw * (DT_S / 3600)
            self.wanted += free * (DT_S / 3600)


@pytest.mark.parametrize("kind", ["like", "small plans", "mixed"])
def test_an_hour(kind):
    hour = Hour(kind, 200, 36_000)
    assert max(hour.errors) <= 2e-6
    assert hour.hole == 0
    assert hour.changes.mean() / hour.hours <= 20
    assert hour.opposed <= 0.06
    # Energy as wanted: of the fleet to a few Wh, of each to about what one asks its turn for.
    missed = hour.energy - hour.wanted
    assert abs(missed.mean()) <= 0.005
    assert missed.std() <= 0.09
    assert np.abs(missed).max() <= 0.25
    if kind == "small plans":
        assert hour.energy.mean() == pytest.approx(hour.wanted.mean(), rel=0.02)
    if kind != "mixed":
        assert hour.changes.max() <= 2 * hour.changes.mean()


SEEDED = """
import numpy as np
from tests.droop import test_minimum as t
rng = np.random.default_rng(5)
for n in (1, 7, 24):
    fleet, sums = t.columns(t.some_cars(rng, n)), t.desk()
    far_lo, far_hi, _ = t.set_up(fleet, sums)
    for k in range(8):
        now = t.NOW + k * t.DWELL
        request = far_lo + (far_hi - far_lo) * int(rng.integers(0, 65)) / 64
        print(*map(float, t.switch(request, 1.0, now, fleet, t.TURNS, t.no_nodes(), sums)))
        print([t.rotate_rows(s, request, now, fleet, t.no_nodes(), sums, elapsed=56.25) for s in range(t.SEGMENTS)])
        print(fleet.mode.tolist(), fleet.lo_kw.tolist(), fleet.hi_kw.tolist())
"""


def test_compiled_and_plain_agree():
    root = Path(__file__).parents[2]
    said = [
        subprocess.run(
            [sys.executable, "-c", SEEDED], cwd=root, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(root), "NUMBA_DISABLE_JIT": off},
        ).stdout
        for off in ("0", "1")
    ]  # fmt: skip
    compiled, plain = said
    assert len(plain) > 1000
    assert plain == compiled
