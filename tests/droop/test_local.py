"""Local curves: the fleet's sum exact at and between the knots, no bound left, and how far the division departs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.curve import Curve, fractions
from droop.local import FINE_KW, MOST, PLACES, LocalCurves, corners, departure, local_curves, stack
from droop.products import load
from droop.weights import LEAST
from tests import naive_curves as twin

EXACT = 1e-12  # of the scale: what the sum of local curves promises


def adversarial(rng, n):
    """t, s_up, s_dn, lo, hi: fixed vehicles, no room on one side, LEAST slopes, slopes apart by 1e3."""
    size = rng.choice([0.001, 3.7, 11.0, 50.0], n)
    lo, hi = -size * rng.choice([0.0, 0.3, 1.0], n), size * rng.choice([0.0, 0.5, 1.0], n)
    hi = np.where(rng.random(n) < 0.2, lo, hi)
    t = np.clip(lo + (hi - lo) * rng.choice([0.0, 0.4, 1.0], n), lo, hi)
    up, dn = (10.0 ** rng.uniform(-1, 2, n) * room for room in (hi - t, t - lo))
    return t, np.maximum(up, LEAST), np.maximum(dn, LEAST), lo, hi


def leaning(rng, n, lean=3.0):
    """Vehicles up to 11 kW whose slopes lean on their state of charge."""
    soc = np.clip(rng.beta(5, 3, n), 0.02, 0.99)
    hi, lo = rng.uniform(2, 11, n), -rng.uniform(2, 11, n)
    g = np.exp(lean * (soc - soc.mean()))
    return np.zeros(n), hi * g, -lo / g, lo, hi


def scale(fleet, *kw):
    return math.fsum(np.maximum(np.abs(fleet[3]), np.abs(fleet[4])).tolist()) + max(map(abs, kw), default=0) + 1e-9


def summed(curves, hz):
    """The fleet's power as its chargers make it at each frequency, sums exact."""
    at = np.array([np.interp(hz, curves.hz, row) for row in curves.kw]).reshape(-1, hz.size)
    return np.array([math.fsum(column) for column in at.T.tolist()])


@st.composite
def products(draw):
    """Breakpoints and powers that do not rise, some flat, up to 20 of them."""
    steps = draw(st.lists(st.sampled_from([0.002, 0.01, 0.1, 0.35]), min_size=0, max_size=MOST - 1))
    falls = draw(st.lists(st.sampled_from([0.0, 0.05, 0.5, 1.0]), min_size=len(steps), max_size=len(steps)))
    hz = 49.5 + np.cumsum([0.0, *steps])
    shape = np.concatenate(([0.0], -np.cumsum(falls)))
    return hz, shape / max(-shape[-1], 1.0)


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=120, deadline=None)
@given(seeds, st.integers(0, 12), products(), st.integers(0, 20), st.floats(0.0, 1.0))
def test_sum_is_the_product_and_no_bound_is_left(seed, n, product, more, share):
    """Whatever the fleet and the number of knots, while the request stays within the bounds."""
    fleet = adversarial(np.random.default_rng(seed), n)
    least, most = float(fleet[3].sum()), float(fleet[4].sum())
    hz, shape = product
    kw = most + shape * (most - least) * share
    found = local_curves(hz, kw, *fleet, count=min(hz.size + more, MOST))
    assert hz.size <= found.hz.size <= min(hz.size + more, MOST)
    assert set(hz.round(9)) <= set(found.hz)
    assert (np.diff(found.hz) > 0).all()
    fine = np.linspace(hz[0] - 0.1, hz[-1] + 0.1, 301)
    fine = np.concatenate((fine, found.hz))
    np.testing.assert_allclose(
        summed(found, fine), np.interp(fine, hz.round(9), kw), rtol=0, atol=EXACT * scale(fleet, *kw)
    )
    assert (found.kw >= fleet[3][:, None]).all()
    assert (found.kw <= fleet[4][:, None]).all()
    np.testing.assert_allclose(found.unserved_kw, 0.0, atol=EXACT * scale(fleet, *kw))


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 6), products(), st.floats(-1.0, 2.0))
def test_points_are_the_twins(seed, n, product, share):
    """Every vehicle's point is its optimum for what is asked there, infeasible requests included."""
    fleet = adversarial(np.random.default_rng(seed), n)
    hz, shape = product
    kw = shape * 20.0 + share * float(fleet[4].sum())
    found = local_curves(hz, kw, *fleet)
    np.testing.assert_allclose(found.request_kw, np.interp(found.hz, hz.round(9), kw), rtol=0, atol=1e-9)
    rows = list(zip(*(x.tolist() for x in fleet), strict=True))
    np.testing.assert_allclose(found.kw, twin.local_points(found.request_kw.tolist(), rows), rtol=0, atol=1e-8)
    served = np.clip(found.request_kw, fleet[3].sum(), fleet[4].sum())
    np.testing.assert_allclose(found.unserved_kw, found.request_kw - served, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_departure_is_the_twins(seed):
    rng = np.random.default_rng(seed)
    fleet = adversarial(rng, 5)
    hz, kw = [49.8, 49.99, 50.01, 50.2], np.array([1.3, 0.0, 0.0, -0.8]) * fleet[4].sum()
    found = local_curves(hz, kw, *fleet, count=6)
    moved = [x.copy() for x in fleet]
    moved[4][:2] = moved[3][:2] + 0.5 * (moved[4][:2] - moved[3][:2])  # the curves are judged under newer bounds
    for now in (fleet, moved):
        rows = list(zip(*(x.tolist() for x in now), strict=True))
        cuts = 8
        places = np.interp(np.arange((found.hz.size - 1) * cuts + 1) / cuts, np.arange(found.hz.size), found.hz)
        worst, rms, miss = twin.departures(
            places.tolist(), found.hz.tolist(), found.kw.tolist(), (hz, kw.tolist()), rows
        )
        seen = departure(found, hz, kw, *now, cuts=cuts)
        np.testing.assert_allclose(seen.vehicle_kw, worst, rtol=0, atol=1e-8)
        assert seen.largest_kw == pytest.approx(max(worst), abs=1e-8)
        assert seen.rms_kw == pytest.approx(rms, abs=1e-8)
        assert seen.miss_kw == pytest.approx(miss, abs=1e-8)


def test_sum_is_exact_where_a_search_all_but_ends_too_soon():
    """A vehicle of a microwatt bends the curve by less than a common tolerance, and counts all the same."""
    hi = np.array([10.0, 1e-9])
    found = local_curves([-0.2, 0.2], [5.0, -5.0], np.zeros(2), [10.0, 1e-8], [10.0, 1e-8], -hi, hi)
    np.testing.assert_allclose(found.kw.sum(axis=0), found.request_kw, rtol=0, atol=1e-11)


class TestKnots:
    def test_departure_shrinks_as_the_kernel_notes_measured(self):
        """There 2000 vehicles, +-200 mHz, 60 % of capability: 0.78, 0.48, 0.25 kW of 11 with 6, 10, 20 even knots."""
        fleet = leaning(np.random.default_rng(0), 400)
        sold = 0.6 * min(fleet[4].sum(), -fleet[3].sum())
        seen = {}
        for count in (2, 6, 10, 20):
            found = local_curves([-0.2, 0.2], [sold, -sold], *fleet, count=count)
            assert found.hz.size == count
            seen[count] = departure(found, [-0.2, 0.2], [sold, -sold], *fleet)
            assert seen[count].miss_kw <= 1e-12 * sold
            assert 0 < seen[count].rms_kw < 0.1 * seen[count].largest_kw or count == 2
        assert seen[2].largest_kw > seen[6].largest_kw > seen[10].largest_kw > seen[20].largest_kw
        assert seen[2].rms_kw > seen[6].rms_kw > seen[10].rms_kw > seen[20].rms_kw
        assert 0.5 < seen[6].largest_kw < 1.6
        assert 0.2 < seen[10].largest_kw < 0.8
        assert 0.1 < seen[20].largest_kw < 0.4

    def test_each_goes_where_the_departure_is_largest(self):
        """By hand: one vehicle is full at a third of the way down, so both bend there and nowhere else."""
        fleet = [[0.0, 0.0], [30.0, 10.0], [10.0, 10.0], [-10.0, -10.0], [10.0, 10.0]]
        hz, kw = [-0.3, 0.0, 0.3], [20.0, 0.0, -20.0]
        found = local_curves(hz, kw, *fleet, count=4)
        # 3:1 while both are free: vehicle 0 is full at 10 of 13 1/3 kW, at -0.2 Hz.
        assert found.hz.tolist() == pytest.approx([-0.3, -0.2, 0.0, 0.3], abs=0.6 / PLACES)
        even = np.interp(np.linspace(-0.3, 0.3, 4), hz, kw)
        rough = LocalCurves(np.linspace(-0.3, 0.3, 4), local_curves(hz, kw, *fleet).kw[:, :4], even, even * 0)
        assert departure(found, hz, kw, *fleet).largest_kw < 0.2 * departure(rough, hz, kw, *fleet).largest_kw

    def test_none_is_spent_on_less_than_a_watt(self):
        """Vehicles that all saturate together follow straight lines: the breakpoints are enough."""
        hi = np.array([3.0, 7.0, 11.0])
        found = local_curves([-0.2, 0.2], [12.0, -12.0], np.zeros(3), hi, hi, -hi, hi)
        assert found.hz.tolist() == [-0.2, 0.2]
        assert departure(found, [-0.2, 0.2], [12.0, -12.0], np.zeros(3), hi, hi, -hi, hi).largest_kw <= FINE_KW

    def test_same_input_same_knots(self):
        fleet = leaning(np.random.default_rng(3), 60)
        once, again = (local_curves([-0.2, 0.2], [90.0, -90.0], *fleet) for _ in range(2))
        assert once.hz.tobytes() == again.hz.tobytes()
        assert once.kw.tobytes() == again.kw.tobytes()

    def test_the_ends_of_the_bounds_are_knots_where_there_is_room(self):
        """More is sold than there is: with knots where it runs out the sum is all there is, elsewhere exact."""
        fleet = leaning(np.random.default_rng(4), 40)
        least, most = fleet[3].sum(), fleet[4].sum()
        hz, kw = np.array([-0.2, 0.2]), np.array([1.5 * most, 1.25 * least])
        found = local_curves(hz, kw, *fleet)
        fine = np.linspace(-0.25, 0.25, 401)
        served = np.clip(np.interp(fine, hz, kw), least, most)
        np.testing.assert_allclose(summed(found, fine), served, rtol=0, atol=EXACT * scale(fleet, *kw))
        assert departure(found, hz, kw, *fleet).miss_kw <= EXACT * scale(fleet, *kw)
        assert found.unserved_kw[[0, -1]].tolist() == pytest.approx([0.5 * most, 0.25 * least])
        tight = local_curves(hz, kw, *fleet, count=2)
        assert tight.hz.tolist() == hz.tolist()
        assert (tight.kw == np.column_stack((fleet[4], fleet[3]))).all()
        assert local_curves(hz, kw, *fleet, count=3).hz.size == 3

    def test_one_breakpoint_is_a_constant(self):
        found = local_curves([50.0], [3.0], *leaning(np.random.default_rng(5), 4))
        assert found.hz.tolist() == [50.0]
        assert found.kw.shape == (4, 1)
        assert math.fsum(found.kw[:, 0]) == pytest.approx(3.0, abs=1e-12)
        assert departure(found, [50.0], [3.0], *leaning(np.random.default_rng(5), 4)).largest_kw <= 1e-12

    def test_no_vehicle(self):
        found = local_curves([-0.2, 0.2], [5.0, -5.0], [], [], [], [], [])
        assert found.kw.shape[0] == 0
        assert found.unserved_kw[[0, -1]].tolist() == [5.0, -5.0]
        assert departure(found, [-0.2, 0.2], [5.0, -5.0], [], [], [], [], [])[1:3] == (0.0, 0.0)


class TestProducts:
    @pytest.mark.parametrize("id_", ["gb_dc_low", "nordic_fcr_n", "ce_fcr"])
    def test_corners_are_the_product_but_for_the_flank_of_a_step(self, id_):
        product = load(id_)
        curve = product.response
        hz, kw = corners(curve, 250.0)
        assert (np.diff(hz) > 0).all()
        assert 2 <= hz.size <= 8
        dev = np.linspace(-0.6, 0.6, 24_001)
        flank = (np.abs(dev) < curve.deadband_hz) & (np.abs(dev) > curve.deadband_hz - 5.1e-4)
        np.testing.assert_allclose(
            np.interp(dev, hz, kw)[~flank], 250.0 * fractions(curve, dev)[~flank], rtol=0, atol=1e-9
        )
        assert not np.isnan(kw).any()

    def test_a_step_dead_band_becomes_a_flank_inside_it(self):
        curve = Curve(np.array([-0.2, 0.2]), np.array([1.0, -1.0]), 0.01)
        hz, kw = corners(curve, 100.0)
        assert hz.tolist() == pytest.approx([-0.2, -0.01, -0.0095, 0.0095, 0.01, 0.2])
        assert kw.tolist() == pytest.approx([100, 5, 0, 0, -5, -100])
        narrow, _ = corners(Curve(curve.x_hz, curve.y_frac, 0.0004), 100.0)
        assert narrow.tolist() == pytest.approx([-0.2, -0.0004, -0.0002, 0.0002, 0.0004, 0.2])

    def test_stacked_products_add_at_every_frequency(self):
        """ND-1 and a baseline: FCR-N and FCR-D up, sums straight between all their points."""
        n, d = corners(load("nordic_fcr_n").response, 1000.0), corners(load("nordic_fcr_d_up").response, 2000.0)
        hz, kw = stack(n, d, ([0.0], [-300.0]))
        dev = np.linspace(-0.6, 0.6, 2401)
        expected = np.interp(dev, *n) + np.interp(dev, *d) - 300.0
        np.testing.assert_allclose(np.interp(dev, hz, kw), expected, rtol=0, atol=1e-9)
        assert np.interp(-0.3, hz, kw) == pytest.approx(1700.0)
        fleet = leaning(np.random.default_rng(6), 900)
        found = local_curves(hz, kw, *fleet)
        np.testing.assert_allclose(summed(found, dev), expected, rtol=0, atol=1e-12 * scale(fleet, *kw))

    def test_frequencies_that_differ_by_rounding_are_one(self):
        hz, kw = stack(([49.8 - 50.0, 0.0], [1.0, 0.0]), ([-0.2, 0.0], [1.0, 0.0]))
        assert hz.tolist() == [-0.2, 0.0]
        assert kw.tolist() == [2.0, 0.0]

    def test_too_many_breakpoints_name_the_remedy(self):
        one, two = (np.linspace(-0.2, 0.2, 11), np.zeros(11)), (np.linspace(-0.19, 0.19, 10), np.zeros(10))
        with pytest.raises(
            ValueError, match=r"21 breakpoints together, and a charger holds 20: deliver one .* set-point"
        ):
            stack(one, two)
        with pytest.raises(ValueError, match="3 breakpoints together, and a charger holds 2"):
            local_curves([-1, 0, 1], [1, 0, 0], *leaning(np.random.default_rng(0), 3), count=2)

    @pytest.mark.parametrize(
        ("hz", "kw", "message"),
        [
            ([0.0, 0.0], [1.0, 0.0], "curve 0: takes frequencies that ascend"),
            ([0.1, 0.0], [1.0, 0.0], "curve 0: takes frequencies that ascend"),
            ([0.0, math.nan], [1.0, 0.0], "curve 0: takes finite"),
            ([0.0, 1.0], [1.0, math.inf], "curve 0: takes finite"),
            ([0.0, 1.0], [1.0], "curve 0: takes two rows of one length"),
            ([], [], "curve 0: takes two rows"),
        ],
    )
    def test_doors(self, hz, kw, message):
        with pytest.raises(ValueError, match=message):
            local_curves(hz, kw, *leaning(np.random.default_rng(0), 3))

    def test_doors_of_the_fleet(self):
        with pytest.raises(ValueError, match="lo: must not be above hi"):
            local_curves([0, 1], [1, 0], [0.0], [1.0], [1.0], [1.0], [-1.0])
        with pytest.raises(ValueError, match="curves: takes one or more"):
            stack()
