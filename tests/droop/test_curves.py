"""Aggregate curves, shares and knots against the twin, brentq on the whole fleet, and what must always hold."""

from __future__ import annotations

import math
import platform

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from droop.curves import (
    FINEST,
    Capability,
    capability,
    choose_knots,
    columns,
    divide,
    evaluate,
    first_knots,
    locate,
    merge,
    piece,
    shares,
    total,
)
from droop.numerics import HONEST
from droop.split import LAM_MAX, LAM_MIN, fill, split
from droop.weights import LEAST
from tests import naive_curves as twin

NO_PRICE = np.empty(0, np.float32)
EXACT = 1e-12  # of the scale: what shares promise


def adversarial(rng, n, dtype=np.float64):
    """t, s_up, s_dn, lo, hi: fixed vehicles, no room on one side, LEAST slopes, slopes apart by 1e3, modes beyond t."""
    size = rng.choice([0.001, 3.7, 11.0, 50.0], n)
    lo, hi = -size * rng.choice([0.0, 0.3, 1.0], n), size * rng.choice([0.0, 0.5, 1.0], n)
    kind = rng.integers(0, 6, n)
    hi = np.where(kind == 0, lo, hi)
    lo, hi = lo.astype(dtype), np.maximum(hi, lo).astype(dtype)
    t = np.clip((lo + (hi - lo) * rng.choice([0.0, 0.4, 1.0], n)).astype(dtype), lo, hi)
    g = 10.0 ** rng.uniform(-1, 2, n)
    up, dn = np.maximum((hi - t) * g, LEAST).astype(dtype), np.maximum((t - lo) * 0.1 * 1e3 / g, LEAST).astype(dtype)
    # A minimum power keeps some off their plan: t below lo, or above hi.
    lo = np.where(kind == 1, np.minimum(t + dtype(0.25) * (hi - t), hi), lo)
    hi = np.where(kind == 2, np.maximum(t - dtype(0.25) * (t - lo), lo), hi)
    return t, up, dn, lo, np.maximum(lo, hi)


def typical(rng, n, lean=1.5):
    """A fleet as kernel notes 4 measure with: mixed ratings, batteries, some without discharge, some charging."""
    rating = rng.choice([3.7, 7.4, 11.0, 22.0, 50.0], n, p=[0.1, 0.35, 0.35, 0.15, 0.05])
    usable = rng.uniform(38, 100, n) * rng.uniform(0.8, 1, n)
    soc = np.clip(rng.beta(5, 3, n), 0.02, 0.99)
    hi = np.where(rng.random(n) < 0.8, np.minimum(rating, np.maximum(0, (soc - 0.2) * usable * 0.95 / 0.25)), 0.0)
    lo = -np.minimum(rating, np.maximum(0, (0.95 - soc) * usable / 0.95 / 0.25))
    t = np.where(rng.random(n) < 0.3, 0.4 * lo, 0.0)
    s = np.maximum(hi - lo, 1e-3) * np.exp(lean * (soc - soc.mean()))
    return t, s, s, lo, hi


def powers(lam, fleet):
    t, up, dn, lo, hi = fleet
    return np.clip(t + (up if lam >= 0 else dn) * lam, lo, hi)


def scale(*arrays):
    return max(math.fsum(np.abs(x).ravel().tolist()) for x in arrays) + 1e-9


def curves_of(knots, fleets):
    return np.array([capability(*fleet, knots).kw for fleet in fleets])


seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(0, 40)


class TestEvaluate:
    @settings(max_examples=150, deadline=None)
    @given(seeds, sizes, st.sampled_from([np.float32, np.float64]))
    def test_is_the_twin_at_every_knot(self, seed, n, dtype):
        rng = np.random.default_rng(seed)
        fleet = adversarial(rng, n, dtype)
        knots = np.concatenate(([LAM_MIN], np.sort(rng.uniform(-10, 10, 7)), [LAM_MAX]))
        knots = np.unique(np.append(knots, [0.0, 1e-3, -1e-3]))
        out = np.full(knots.size, np.nan)
        evaluate(knots, *fleet, out)
        rounded = knots.astype(dtype).astype(float)
        expected = twin.aggregate(rounded.tolist(), list(zip(*(x.tolist() for x in fleet), strict=True)))
        slack = (1e-6 if dtype is np.float32 else 1e-13) * scale(fleet[3], fleet[4], fleet[0])
        np.testing.assert_allclose(out, expected, rtol=0, atol=slack)
        # The ends are the bounds, and rounding must not make the curve fall anywhere.
        assert out[0] == pytest.approx(math.fsum(fleet[3].tolist()), abs=slack)
        assert out[-1] == pytest.approx(math.fsum(fleet[4].tolist()), abs=slack)
        assert (np.diff(out) >= 0).all()

    @pytest.mark.parametrize("n", [1023, 1024, 1025, 5000])
    def test_pieces_join(self, n):
        """float32 vehicles, float64 sums: what the split would write, to the last bit of every power."""
        fleet = [x.astype(np.float32) for x in typical(np.random.default_rng(n), n)]
        knots = first_knots(16)
        out, p = np.empty(knots.size), np.empty(n, np.float32)
        evaluate(knots, *fleet, out)
        for lam, kw in zip(knots, out, strict=True):
            fill(lam, fleet[0], fleet[1] if lam >= 0 else fleet[2], fleet[3], fleet[4], p, NO_PRICE)
            assert kw == pytest.approx(math.fsum(p.astype(float).tolist()), abs=1e-9)

    def test_never_falls_by_rounding(self):
        fleet = [x.astype(np.float32) for x in typical(np.random.default_rng(1), 3000)]
        knots = np.sort(np.concatenate((0.3 + np.arange(300) * 1e-8, [LAM_MIN, 0.0, LAM_MAX])))
        out = np.empty(knots.size)
        evaluate(knots, *fleet, out)
        assert (np.diff(out) >= 0).all()

    def test_runs_on_vectors(self):
        if not hasattr(piece, "py_func") or "x86" not in platform.machine():
            pytest.skip("needs compiled kernels, and vector registers by their x86 names")
        # Compiled anew: code from the cache cannot be looked at.
        fresh = numba.njit(fastmath=set(HONEST), error_model="numpy")(piece.py_func)
        row = np.zeros(8, np.float32)
        fresh(np.float32(1.0), row, row, row, row)
        code = next(iter(fresh.inspect_asm().values()))
        assert "ymm" in code or "zmm" in code


class TestCapability:
    def test_power_and_multiplier_are_inverse(self):
        found = capability(*typical(np.random.default_rng(3), 400))
        for kw in np.linspace(found.kw[0], found.kw[-1], 37):
            assert found.power_kw(found.multiplier(kw)) == pytest.approx(kw, abs=1e-9)

    def test_multiplier_is_in_the_step_of_the_fleets_own(self):
        fleet = typical(np.random.default_rng(4), 400)
        found = capability(*fleet)
        for share in (0.1, 0.5, 0.9):
            kw = found.kw[0] + share * (found.kw[-1] - found.kw[0])
            own = brentq(lambda lam, kw=kw: powers(lam, fleet).sum() - kw, LAM_MIN, LAM_MAX, xtol=1e-14)
            step = int(np.searchsorted(found.lam, own))
            assert found.lam[step - 1] <= found.multiplier(kw) <= found.lam[step]

    def test_plateaus_and_ends_take_the_multiplier_nearest_zero(self):
        found = Capability(np.array([-10.01, -5, -2, 0, 3, 6, 10.01]), np.array([-4.0, -4, 0, 0, 0, 5, 5]))
        assert [found.multiplier(kw) for kw in (-9.0, -4.0, -2.0, 0.0, 2.5, 5.0, 7.0)] == [-5, -5, -3.5, 0, 4.5, 6, 6]
        above = Capability(np.array([-10.01, 2.0, 4.0, 10.01]), np.array([-1.0, 3, 3, 4]))
        assert above.multiplier(3.0) == 2.0
        below = Capability(np.array([-10.01, -4.0, -2.0, 10.01]), np.array([-1.0, 3, 3, 4]))
        assert below.multiplier(3.0) == -2.0
        with pytest.raises(ValueError, match="kw: takes a finite number"):
            found.multiplier(math.nan)

    def test_no_vehicle(self):
        found = capability([], [], [], [], [])
        assert (found.kw == 0).all()
        assert found.multiplier(5.0) == 0.0


class TestShares:
    @settings(max_examples=200, deadline=None)
    @given(seeds, st.integers(1, 9), st.integers(2, 24))
    def test_exact_feasible_and_near_the_optimum(self, seed, count, steps):
        """The proof of kernel notes 4, claim by claim, on fleets made to break it."""
        rng = np.random.default_rng(seed)
        fleets = [adversarial(rng, int(rng.integers(0, 12))) for _ in range(count)]
        knots = first_knots(steps)
        for _ in range(int(rng.integers(0, 3))):
            knots = choose_knots(knots, curves_of(knots, fleets).sum(axis=0), steps)
        curves = curves_of(knots, fleets)
        least, most, size = curves[:, 0].sum(), curves[:, -1].sum(), scale(curves)
        at_knots = curves.sum(axis=0)[rng.integers(0, knots.size, 3)].tolist()
        for request in [*rng.uniform(least, most, 4), *at_knots, least, most, least - 3, most + 3, 0.0]:
            share, lam, unserved = shares(knots, curves, request)
            given_kw = min(max(request, least), most)
            assert abs(math.fsum(share.tolist()) - given_kw) <= EXACT * size
            assert unserved == pytest.approx(request - given_kw, abs=EXACT * size)
            assert (share >= curves[:, 0]).all()
            assert (share <= curves[:, -1]).all()
            # In the knot interval of lam every shard's curve passes its share, so its own multiplier lies there too.
            j = min(max(int(np.searchsorted(knots, lam, side="right")) - 1, 0), knots.size - 2)
            low = curves[:, j - 1 if j > 0 and knots[j] == lam else j]
            assert (share >= low - EXACT * size).all()
            assert (share <= curves[:, j + 1] + EXACT * size).all()
            np.testing.assert_allclose(share, [np.interp(lam, knots, c) for c in curves], rtol=0, atol=1e-9 * size)
            expected, _ = twin.shares(knots.tolist(), curves.tolist(), request)
            np.testing.assert_allclose(share, expected, rtol=0, atol=1e-9 * size)

    def test_each_shard_meets_its_share_and_the_fleet_the_request(self):
        """From vehicles to shares to vehicles: the sum exact, every multiplier within a step of the fleet's own."""
        fleets = [tuple(x[s] for x in typical(np.random.default_rng(5), 800)) for s in np.split(np.arange(800), 8)]
        whole = tuple(np.concatenate(x) for x in zip(*fleets, strict=True))
        knots = first_knots(16)
        curves = curves_of(knots, fleets)
        request = 0.55 * whole[4].sum()
        own = brentq(lambda lam: powers(lam, whole).sum() - request, LAM_MIN, LAM_MAX, xtol=1e-14)
        share, lam, _ = shares(knots, curves, request)
        dealt = 0.0
        step = int(np.searchsorted(knots, lam))
        for fleet, kw in zip(fleets, share, strict=True):
            p, found = split(kw, fleet[0], fleet[3], fleet[4], fleet[1], fleet[2])
            dealt += math.fsum(p.tolist())
            assert found.unserved_kw == 0.0
            assert knots[step - 1] <= found.lam <= knots[step]
        assert knots[step - 1] <= own <= knots[step]
        assert dealt == pytest.approx(request, rel=1e-12)

    def test_a_shard_that_goes_is_made_up_for(self):
        fleets = [typical(np.random.default_rng(k), 100) for k in range(6)]
        knots = first_knots(32)
        curves = curves_of(knots, fleets)
        request = 0.5 * curves[:, -1].sum()
        before = shares(knots, curves, request)
        after = shares(knots, curves[[0, 1, 3, 4, 5]], request)
        assert math.fsum(after.share_kw.tolist()) == pytest.approx(request, rel=1e-12)
        assert after.lam > before.lam
        assert (after.share_kw >= before.share_kw[[0, 1, 3, 4, 5]]).all()
        gone = shares(knots, curves[:1], curves[:, -1].sum())
        assert gone.share_kw.tolist() == [curves[0, -1]]
        assert gone.unserved_kw == pytest.approx(curves[1:, -1].sum())

    def test_nobody_left(self):
        for request in (5.0, -5.0, 0.0):
            share, _, unserved = shares(first_knots(8), np.zeros((0, 9)), request)
            assert (share.size, unserved) == (0, request)

    def test_what_rounding_leaves_goes_where_there_is_room(self):
        """Three thirds of a tenth do not sum to it; nor do a large shard and a thousand small ones."""
        knots = np.array([LAM_MIN, 0.0, LAM_MAX])
        third = np.outer(np.ones(3), [0.0, 0.1, 1.0])
        for request in np.linspace(0, 3, 101).tolist():
            share = shares(knots, third, request).share_kw
            assert abs(math.fsum(share.tolist()) - request) <= math.ulp(request)
        rng = np.random.default_rng(8)
        mixed = np.vstack(([[-1e6, 0.1, 1e6]], np.sort(rng.uniform(-1e-3, 1e-3, (1000, 3)), axis=1)))
        for request in rng.uniform(-1e6, 1e6, 50).tolist():
            share = shares(knots, mixed, request).share_kw
            assert abs(math.fsum(share.tolist()) - request) <= math.ulp(request)

    def test_the_tick_s_kernels_are_the_door_s(self):
        knots = first_knots(8)
        curves = curves_of(knots, [typical(np.random.default_rng(k), 50) for k in range(4)])
        merged, out = np.empty(9), np.empty(4)
        merge(curves, merged)
        np.testing.assert_array_equal(merged, [sum(column) for column in curves.T.tolist()])
        assert divide(knots, merged, curves, 77.0, out) == shares(knots, curves, 77.0)[1:]
        np.testing.assert_array_equal(out, shares(knots, curves, 77.0).share_kw)

    def test_locate(self):
        """lam, the knot below, and how far into the step above it: on a knot none of it."""
        knots, merged = np.array([-10.01, -2.0, 3.0, 4.0, 10.01]), np.array([-6.0, 0.0, 2.0, 2.0, 5.0])
        assert locate(knots, merged, -6.0) == (-10.01, 0, 0.0)
        assert locate(knots, merged, 0.0) == (-2.0, 1, 0.0)
        assert locate(knots, merged, 0.5) == (-0.75, 1, 0.25)
        assert locate(knots, merged, 2.0) == (3.0, 2, 0.0)
        assert locate(knots, merged, 5.0) == (10.01, 4, 0.0)

    def test_total_carries_what_an_addition_rounds_away(self):
        assert total(np.array([1e16, 1.0, -1e16, 1.0])) == 2.0
        assert total(np.array([1.0, 1e16, 1.0, -1e16])) == 2.0


class TestKnots:
    @settings(max_examples=150, deadline=None)
    @given(seeds, sizes, st.integers(2, 64))
    def test_ascend_with_the_ends_and_zero(self, seed, n, count):
        rng = np.random.default_rng(seed)
        fleet = adversarial(rng, n)
        knots = first_knots(count)
        for _ in range(6):
            knots = choose_knots(knots, capability(*fleet, knots).kw, count)
            assert knots.shape == (count + 1,)
            assert (knots[0], knots[-1]) == (LAM_MIN, LAM_MAX)
            assert (knots == 0.0).sum() == 1
            assert np.diff(knots).min() > 0.1 * FINEST

    def test_first_are_even(self):
        np.testing.assert_allclose(first_knots(10), np.linspace(LAM_MIN, LAM_MAX, 11), rtol=0, atol=1e-12)

    def test_lie_where_the_curve_bends_and_rises(self):
        """All vehicles reach their bound between 1 and 1.2: many knots lie there, few below 0."""
        rng = np.random.default_rng(2)
        hi = rng.uniform(5, 10, 500)
        fleet = (np.zeros(500), hi / rng.uniform(1.0, 1.2, 500), np.full(500, LEAST), np.zeros(500), hi)
        knots = first_knots()
        for _ in range(5):
            knots = choose_knots(knots, capability(*fleet, knots).kw)
        assert ((knots > 0.95) & (knots < 1.25)).sum() >= 25
        assert (knots < 0).sum() <= 10

    def test_a_step_is_not_chased_without_end(self):
        """Identical vehicles turn at one multiplier: knots near it stay as far apart as float32 can use."""
        fleet = (np.zeros(9), np.full(9, 30.0), np.full(9, 30.0), np.full(9, -10.0), np.full(9, 10.0))
        knots = first_knots()
        for _ in range(40):
            knots = choose_knots(knots, capability(*fleet, knots).kw)
        assert np.diff(knots).min() > 0.1 * FINEST
        assert np.unique(knots.astype(np.float32)).size == knots.size

    def test_same_numbers_same_knots_in_any_layout(self):
        found = capability(*typical(np.random.default_rng(6), 300))
        once = choose_knots(found.lam, found.kw)
        assert once.tobytes() == choose_knots(found.lam.tolist(), np.repeat(found.kw, 2)[::2]).tobytes()

    def test_objective_gap_shrinks_with_the_knots(self):
        """Kernel notes 4, 16 shards: 1.6e-2, 5.5e-3, 8e-4, 4e-5 with 8, 16, 32, 64 steps; uniform ones 10-40x worse."""
        rng = np.random.default_rng(0)
        fleets = []
        for k in range(16):
            t, s, _, lo, hi = typical(np.random.default_rng(k), 400)
            s = s * math.exp(rng.normal(0, 0.5))
            fleets.append((t, s, s, lo, hi))
        whole = tuple(np.concatenate(x) for x in zip(*fleets, strict=True))
        requests = [0.9 * whole[4].sum(), 0.5 * whole[4].sum(), 0.05 * whole[4].sum(), 0.4 * whole[3].sum()]

        def cost(request, fleet):
            p, _ = split(request, fleet[0], fleet[3], fleet[4], fleet[1], fleet[2])
            return ((p - fleet[0]) ** 2 / (2 * fleet[1])).sum()

        best = [cost(request, whole) for request in requests]

        def gap(knots):
            curves = curves_of(knots, fleets)
            found = [shares(knots, curves, request).share_kw for request in requests]
            paid = [sum(cost(kw, fleet) for kw, fleet in zip(share, fleets, strict=True)) for share in found]
            return max(x / y - 1 for x, y in zip(paid, best, strict=True))

        gaps = {}
        for count in (8, 16, 32, 64):
            knots = first_knots(count)
            even = gap(knots)
            for _ in range(5):
                knots = choose_knots(knots, capability(*whole, knots).kw, count)
            gaps[count] = gap(knots)
            assert gaps[count] >= -1e-9
            assert gaps[count] < even / 5
        assert gaps[8] > gaps[16] > gaps[32] > gaps[64]
        assert gaps[8] <= 3e-2
        assert gaps[16] <= 5e-3
        assert gaps[32] <= 5e-4
        assert gaps[64] <= 4e-5


class TestDoors:
    knots = first_knots(4)
    good = np.array([[-2.0, -1.0, 0.0, 1.0, 2.0]])

    @pytest.mark.parametrize(
        ("knots", "curves", "request_kw", "message"),
        [
            (knots, [[-2, -1, 0, -0.5, 2]], 0, r"curves: shard 0 falls from 0\.0 to -0\.5 kW between knots 2 and 3"),
            (knots, [[-2, -1, 0, 1, 2], [0, 0, 0, 1, 1 - 1e-13]], 0, "curves: shard 1 falls"),
            (knots, [[-2, -1, math.nan, 1, 2]], 0, "curves: takes finite numbers; shard 0"),
            (knots, [[-2, -1, 1, 2]], 0, r"curves: takes 5 numbers a shard, one for each knot, got shape \(1, 4\)"),
            (knots, [-2, -1, 0, 1, 2], 0, "curves: takes 5 numbers a shard"),
            (knots[1:], good[:, 1:], 0, r"knots: must reach from -10\.01 to 10\.01"),
            (knots[:-1], good[:, :-1], 0, "knots: must reach"),
            (knots[::-1], good, 0, "knots: takes one row of finite multipliers, strictly ascending"),
            ([-11, 0, 0, 1, 11], good, 0, "knots: .* strictly ascending"),
            ([-11, 0, math.nan, 1, 11], good, 0, "knots: .* finite"),
            (knots, good, math.inf, "request_kw: takes a finite number"),
        ],
    )
    def test_shares_refuses(self, knots, curves, request_kw, message):
        with pytest.raises(ValueError, match=message):
            shares(knots, curves, request_kw)

    @pytest.mark.parametrize(
        ("knots", "merged", "count", "message"),
        [
            (knots, [0, 0, 0, 0, 1], 1, "count: takes 2 steps or more"),
            ([-11, 1, 11], [0, 1, 2], 8, "knots: must hold 0"),
            (knots, [0, 0, 0, 1, 0], 8, "merged: shard 0 falls"),
            (knots, np.zeros((2, 5)), 8, "merged: takes one row"),
        ],
    )
    def test_choose_knots_refuses(self, knots, merged, count, message):
        with pytest.raises(ValueError, match=message):
            choose_knots(knots, merged, count)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("t", [0.0, math.nan], "t: takes finite numbers; 1 are not"),
            ("s_up", [1.0], r"s_up: takes one row as long as t, got shape \(1,\)"),
            ("lo", [[-1.0, -1.0]], "lo: takes one row"),
            ("lo", [2.0, -1.0], "lo: must not be above hi"),
            ("s_up", [-1.0, 1.0], "s_up: must not be negative"),
            ("s_dn", [-1.0, 1.0], "s_dn: must not be negative"),
            ("s_up", [0.09, 1.0], "s_up: takes slopes of at least a tenth"),
            ("s_dn", [1.0, 0.09], "s_dn: takes slopes of at least a tenth"),
            ("hi", [math.inf, 1.0], "hi: takes finite"),
        ],
    )
    def test_columns_refuses(self, name, value, message):
        rows = {"t": [0.0, 0.0], "s_up": [1.0, 1.0], "s_dn": [1.0, 1.0], "lo": [-1.0, -1.0], "hi": [1.0, 1.0]}
        with pytest.raises(ValueError, match=message):
            columns(**rows | {name: value})

    def test_columns_keeps_float32_and_makes_the_rest_float64(self):
        row = np.ones(2, np.float32)
        assert {x.dtype for x in columns(row, row, row, row, row)} == {np.dtype(np.float32)}
        assert {x.dtype for x in columns([1], [1], [1], [1], [1])} == {np.dtype(np.float64)}
        assert {x.dtype for x in columns(row, row, row, row, row, np.float64)} == {np.dtype(np.float64)}
