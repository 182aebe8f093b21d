"""What products take together, and what is left of it: against sums by hand and properties."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.entitlement import (
    Reserved,
    endurance_min,
    maintained_kw,
    maintained_nordic,
    needs,
    reserve,
    shortage,
    soe_range_kwh,
    sustained_for,
)
from droop.products import load
from droop.state_of_energy import available, requirement_kwh
from droop.working_point import kept_kwh, working_point_kw
from tests.naive_reservoir import soe_requirement

N, UP, DOWN = (load(f"nordic_fcr_{name}") for name in ("n", "d_up", "d_down"))
CE, LOW, HIGH = load("ce_fcr"), load("gb_dc_low"), load("gb_dc_high")
MANY = settings(max_examples=200, deadline=None)
kilowatts = st.floats(0.0, 1e4)


class TestReserve:
    def test_a_product_without_a_reservoir_takes_its_curve_for_as_long_as_it_lasts(self):
        assert needs(load("ieee1547")) == needs(replace(load("ieee1547"), reservoir=None))
        plain = replace(UP, reservoir=None)
        assert needs(plain) == pytest.approx((1.0, 0.0, 1 / 3, 0.0))
        assert needs(replace(N, reservoir=None)) == pytest.approx((1.0, 1.0, 1.0, 1.0))

    def test_nothing_sold_reserves_nothing(self):
        assert reserve([]) == Reserved(0, 0, 0, 0)
        assert sustained_for([]) == []

    @MANY
    @given(kilowatts, kilowatts, kilowatts)
    def test_reservations_add_up(self, a, b, c):
        whole = reserve([(N, a), (UP, b), (DOWN, c)])
        parts = [reserve([item]) for item in ((N, a), (UP, b), (DOWN, c))]
        for k, value in enumerate(whole):
            assert value == pytest.approx(sum(part[k] for part in parts))
        assert shortage(whole, *whole) == (0.0, 0.0, 0.0, 0.0)
        assert shortage(whole, 0.0, 0.0, 0.0, 0.0) == whole

    def test_mean_power_over_each_duration(self):
        found = sustained_for([(N, 10.0), (UP, 30.0)])
        assert found == [pytest.approx((1 / 3, 40.0, 10.0)), pytest.approx((1.0, 20.0, 10.0))]

    def test_a_range_that_is_empty_is_refused_with_what_could_be_sold(self):
        assert soe_range_kwh(reserve([(LOW, 100.0), (HIGH, 40.0)]), 35.0) == (25.0, 25.0)
        with pytest.raises(ValueError, match=r"sell at most 85\.7% of it"):
            soe_range_kwh(reserve([(LOW, 100.0), (HIGH, 40.0)]), 30.0)


class TestEndurance:
    def test_working_point_and_inflow_move_it(self):
        assert endurance_min(1.0, 0.0, 2.0, 0.0, 1.0, 1.0) == (60.0, 60.0)
        assert endurance_min(1.0, 0.0, 2.0, -0.5, 1.0, 1.0) == (120.0, 40.0)
        assert endurance_min(1.0, 0.0, 2.0, 0.0, 1.0, 1.0, inflow_kw=0.5) == (120.0, 40.0)
        assert endurance_min(1.0, 0.0, 2.0, -1.0, 1.0, 0.0) == (math.inf, 60.0)
        assert endurance_min(-1.0, 0.0, -2.0, 0.0, 1.0, 1.0) == (0.0, 0.0)


class TestMaintained:
    @MANY
    @given(kilowatts, kilowatts, kilowatts, kilowatts, kilowatts)
    def test_never_more_than_sold_or_than_there_is_room_and_n_before_d(self, up, down, n, d_up, d_down):
        sold = [(DOWN, d_down), (N, n), (UP, d_up)]
        kept_down, kept_n, kept_up = (float(kw) for kw in maintained_kw(sold, up, down))
        assert 0 <= kept_n <= n
        assert 0 <= kept_up <= d_up
        assert 0 <= kept_down <= d_down
        assert kept_n + kept_up <= up * (1 + 1e-9) + 1e-9
        assert kept_n + kept_down <= down * (1 + 1e-9) + 1e-9
        assert kept_n == pytest.approx(min(up, down, n))
        assert kept_up == pytest.approx(min(up - kept_n, d_up), abs=1e-6)
        theirs = maintained_nordic(up, -down, 0.0, n, d_up, d_down)
        assert [float(kw) for kw in theirs] == pytest.approx([kept_n, kept_up, kept_down], abs=1e-6)

    def test_by_the_second_with_energy_and_modes(self):
        up_kw, down_kw = np.array([100.0, 50.0, 100.0, 100.0]), np.full(4, 100.0)
        up_kwh, aem = np.array([100.0, 100.0, 12.0, 100.0]), np.array([False, False, False, True])
        n, d = maintained_kw([(N, 60.0), (UP, 30.0)], up_kw, down_kw, up_kwh, 100.0, off=[aem, np.zeros(4, bool)])
        assert n.tolist() == [60.0, 50.0, 12.0, 0.0]
        assert d.tolist() == [30.0, 0.0, 0.0, 30.0]
        assert maintained_kw([(N, 60.0)], -5.0, 100.0)[0] == 0.0

    def test_restoration_reserve_is_cut_last_and_what_is_off_leaves_its_room(self):
        found = maintained_nordic(np.array([5.0, 3.0, 1.0]), -9.0, 0.0, 3.0, 2.0, 2.0, frr_kw=1.0)
        assert found.n_kw.tolist() == [3.0, 2.0, 0.0]
        assert found.d_up_kw.tolist() == [1.0, 0.0, 0.0]
        assert found.d_down_kw.tolist() == [2.0, 2.0, 2.0]
        tight = maintained_nordic(9.0, -3.0, 0.0, 1.0, 5.0, 5.0, frr_kw=1.0)
        assert [float(kw) for kw in tight] == [1.0, 5.0, 1.0]
        off = maintained_nordic(5.0, -5.0, 0.0, 3.0, 4.0, 4.0, n_off=True, d_down_off=True)
        assert [float(kw) for kw in off] == [0.0, 4.0, 0.0]
        assert float(maintained_nordic(5.0, -5.0, 0.0, 3.0, 4.0, 4.0, ffr_kw=1.0).d_up_kw) == 3.0


class TestStateOfEnergy:
    @MANY
    @given(st.floats(1.0, 100.0), st.lists(st.floats(0.0, 40.0), max_size=20), st.sampled_from([0.1, 0.2, 0.5]))
    def test_is_the_twin_and_within_the_volume(self, rev, delivered, recovery):
        found = requirement_kwh(rev, delivered, recovery)
        assert found == pytest.approx(soe_requirement(rev, delivered, recovery))
        assert len(found) == len(delivered) + 1
        assert all(0.0 <= value <= rev for value in found)

    def test_bad_numbers_are_named(self):
        for name, args in (
            ("rev_kwh", (-1.0, [], 0.2)), ("delivered_kwh", (1.0, [math.nan], 0.2)), ("recovery_frac", (1.0, [], -0.2)),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=name):
                requirement_kwh(*args)

    def test_a_period_nobody_knows_the_energy_of_is_unavailable(self):
        assert available([math.nan, 10.0, 90.0], 100.0, [10.0] * 3, [10.0] * 3) == [False, True, True]


class TestWorkingPoint:
    def test_what_is_missing_at_the_power_that_is_kept_for_it(self):
        # 100 kW keep 25 kWh each way and 25 kW beyond their own power.
        assert kept_kwh([(CE, 100.0)]) == (25.0, 25.0)
        assert working_point_kw([(CE, 100.0)], 24.0, 500.0, False, 0.25) == pytest.approx(-4.0)
        assert working_point_kw([(CE, 100.0)], 5.0, 500.0, False, 0.25) == pytest.approx(-25.0)
        assert working_point_kw([(CE, 100.0)], 500.0, 5.0, False, 0.25) == pytest.approx(25.0)
        assert working_point_kw([(CE, 100.0)], 25.0, 25.0, False, 0.25) == 0.0
        assert working_point_kw([(CE, 100.0)], 5.0, 500.0, True, 0.25) == 0.0
        assert working_point_kw([(CE, 100.0)], 0.0, 0.0, False, 0.25) == 0.0
        assert working_point_kw([], 5.0, 5.0, False, 0.25) == 0.0

    def test_the_deadline_goes_before_the_power_that_is_kept(self):
        rules = replace(CE.reservoir, power_down_pu=1.0, power_up_pu=1.0)
        tight = replace(CE, reservoir=rules)
        assert working_point_kw([(tight, 100.0)], 5.0, 500.0, False, 0.25) == pytest.approx(-20.0 / 2)

    def test_nesos_share_of_the_other_direction_is_its_recovery(self):
        # 20 % of 25 kWh in half an hour are 10 kW: the 10 % of 100 kW.
        assert working_point_kw([(LOW, 100.0)], 0.0, 500.0, False, 0.5) == pytest.approx(-10.0)
        assert working_point_kw([(HIGH, 100.0)], 500.0, 0.0, False, 0.5) == pytest.approx(10.0)

    def test_what_has_nem_is_left_to_it(self):
        assert kept_kwh([(UP, 100.0), (DOWN, 50.0)]) == (0.0, 0.0)
        assert working_point_kw([(UP, 100.0)], 1.0, 500.0, False, 0.25) == 0.0

    @MANY
    @given(st.floats(0.0, 200.0), st.floats(0.0, 200.0), st.sampled_from([0.25, 0.5, 1.0]))
    def test_it_restores_and_takes_no_more_from_the_other_side_than_that_can_spare(self, up, down, hours):
        power = working_point_kw([(CE, 100.0)], up, down, False, hours)
        after_up, after_down = up - power * hours, down + power * hours
        assert abs(power) <= 25.0 + 1e-9
        if power < 0.0:
            assert up < 25.0
            assert after_up <= 25.0 + 1e-9
            assert after_down >= 25.0 - 1e-9
        if power > 0.0:
            assert down < 25.0
            assert after_down <= 25.0 + 1e-9
            assert after_up >= 25.0 - 1e-9
