"""Metered minus declared, shared out without anything lost; shortfalls, mileage, energy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement import delivered
from settlement.align import NS, Cells, Grid
from settlement.facts import Meters, Shortfall
from settlement.mileage import mileage


def meters(*rows):
    """Rows (t_s, kw, meter, usable)."""
    table = np.array(rows, np.float64).reshape(-1, 4)
    return Meters(
        (table[:, 0] * NS).astype(np.int64), table[:, 1], table[:, 2].astype(np.int64), table[:, 3].astype(bool)
    )


def test_the_fleet_is_the_sum_of_its_meters():
    rows = [(t, 10.0, 1, True) for t in range(4)] + [(t + 0.5, 5.0, 2, True) for t in range(4)]
    cells = delivered.metered_kw(meters(*rows), Grid(0, NS, 4))
    np.testing.assert_array_equal(cells.mean, [15, 15, 15, 15])
    np.testing.assert_array_equal(cells.coverage_frac, [0.5, 1, 1, 1])


@pytest.mark.parametrize(("steady", "silent"), [(1, 2), (2, 1)])
def test_one_silent_meter_makes_the_sum_unknown(steady, silent):
    rows = [(t, 10.0, steady, True) for t in range(40)] + [(t, 5.0, silent, True) for t in range(5)]
    cells = delivered.metered_kw(meters(*rows), Grid(0, NS, 40))
    np.testing.assert_array_equal(cells.mean[:6], np.full(6, 15.0))  # one and a half periods after its last row
    assert np.isnan(cells.mean[6:]).all()
    assert not cells.coverage_frac[7:].any()


def test_no_meter_is_no_coverage():
    cells = delivered.metered_kw(meters(), Grid(0, NS, 3))
    assert np.isnan(cells.mean).all()
    assert not cells.coverage_frac.any()


def test_net_is_covered_where_both_are():
    nan = np.nan
    metered = Cells(np.array([5.0, nan, 7.0]), np.array([1, 0, 0.5]))
    declared = Cells(np.array([2.0, 2.0, 2.0]), np.array([0.8, 1, 1]))
    net = delivered.net_kw(metered, declared)
    np.testing.assert_array_equal(net.mean, [3, nan, 5])
    np.testing.assert_array_equal(net.coverage_frac, [0.8, 0, 0.5])


def test_energy_goes_by_direction_and_covered_time():
    cells = Cells(np.array([3600.0, -1800.0, np.nan, 3600.0]), np.array([1, 1, 0, 0.5]))
    assert delivered.energy(cells, 1.0) == (1.5, 0.5)


def test_sharing_is_proportional_where_all_point_the_same_way():
    net = np.array([90.0, -30.0])
    first, second = delivered.share(net, [np.array([40.0, -40.0]), np.array([80.0, -20.0])], [40.0, 80.0])
    np.testing.assert_allclose(first, [30.0, -20.0])
    np.testing.assert_allclose(second, [60.0, -10.0])


def test_nothing_requested_is_shared_by_size_sold():
    first, second = delivered.share(np.array([9.0]), [np.zeros(1), np.array([np.nan])], [1.0, 2.0])
    np.testing.assert_allclose([first[0], second[0]], [3.0, 6.0])


def test_a_single_product_gets_it_all_exactly():
    net = np.array([0.1, np.nan, -0.3])
    np.testing.assert_array_equal(delivered.share(net, [np.array([0.3, 0.7, 0.0])], [1.0])[0], net)


@given(
    net=st.floats(-1e3, 1e3),
    asked=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5),
)
def test_shares_add_up_and_perfect_delivery_is_perfect_for_all(net, asked):
    requested = [np.array([kw]) for kw in asked]
    sold = [1.0 + k for k in range(len(asked))]
    parts = delivered.share(np.array([net]), requested, sold)
    assert sum(part[0] for part in parts) == pytest.approx(net, abs=1e-9)
    perfect = delivered.share(np.array([sum(asked)]), requested, sold)
    np.testing.assert_allclose([part[0] for part in perfect], asked, atol=1e-9)


def test_unserved_energy_by_reason():
    kw = np.zeros((3, 3))
    kw[:, 1] = [-36.0, -36.0, 0.0]
    kw[1, 2] = 7.2
    shortfall = Shortfall(np.array([0, 1, 2]) * NS, kw, ("none", "rating", "soc"))
    found = delivered.unserved_kwh(shortfall, Grid(0, NS, 10))
    assert found == pytest.approx({"rating": 0.02, "soc": 0.002})


def test_mileage_is_the_sum_of_changes():
    assert mileage(np.array([0.0, 2.0, 5.0, 3.0])) == 7.0  # S-4c
    assert mileage(np.array([0.0, np.nan, 5.0, 3.0])) == 2.0
    assert mileage(np.zeros(0)) == 0.0


@given(st.sets(st.integers(1, 58), max_size=19), st.lists(st.floats(0, 100), min_size=60, max_size=60))
def test_what_is_missing_is_never_filled_in_the_sellers_favour(gone, kw):
    """Without a reading nothing is delivered, but for the half period that jitter is allowed."""
    grid = Grid(0, NS, 60)
    rows = [(t, kw[t], 1, True) for t in range(60)]
    whole = delivered.energy(delivered.metered_kw(meters(*rows), grid), 1.0).up_kwh
    left = delivered.energy(delivered.metered_kw(meters(*(r for r in rows if r[0] not in gone)), grid), 1.0).up_kwh
    ends = [t for t in sorted(gone) if t - 1 not in gone]
    assert left <= whole + sum(0.5 * kw[t - 1] for t in ends) / 3600.0 + 1e-9


def test_a_repeated_time_with_another_value_is_named():
    found = delivered.doubts(
        meters((0, 1.0, 1, True), (0, 1.0, 1, True), (1, 2.0, 1, True), (1, 3.0, 1, True)), 0, NS * 2
    )
    assert found == [
        "meter 1: 1 readings repeat a time with another value, the last counts; two meters with one number?"
    ]
    assert delivered.doubts(meters((0, 1.0, 1, True), (0, 2.0, 2, True)), 0, NS) == []
