"""The split against oracles that share nothing with it: brentq on the multiplier, a twin, a general solver."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, brentq, minimize

from droop.reasons import Reason
from droop.split import LAM_MAX, LAM_MIN, MAX_PASSES, REACH_MAX, fill, solve, split
from tests import naive

F64_SUM, F32_SUM = 1e-12, 1e-6  # of the scale: what the project promises
GARBAGE = (0.0, 1.0, -1.0, 1e300, -1e300, math.inf, -math.inf, math.nan)


class Rows:
    """A fleet's columns and the scale its sums are judged by."""

    def __init__(self, t, up, dn, lo, hi, dtype=np.float64, price=()):
        self.lo, self.hi = np.asarray(lo, dtype), np.asarray(hi, dtype)
        self.t = np.clip(np.asarray(t, dtype), self.lo, self.hi)
        self.up, self.dn = np.asarray(up, dtype), np.asarray(dn, dtype)
        self.price = np.asarray(price, dtype)
        self.reach = LAM_MAX + float(self.price.max(initial=0.0))
        self.lo_sum, self.hi_sum = math.fsum(self.lo.tolist()), math.fsum(self.hi.tolist())
        self.scale = max(math.fsum(np.abs(self.lo).tolist()), math.fsum(np.abs(self.hi).tolist()), 1.0)

    def at(self, lam):
        """p for one multiplier, in float64."""
        t, lo, hi = (x.astype(np.float64) for x in (self.t, self.lo, self.hi))
        price = self.price.astype(np.float64) if self.price.size else 0.0
        beyond = np.sign(lam) * np.maximum(abs(lam) - price, 0.0)
        return np.clip(t + (self.up if lam >= 0 else self.dn).astype(np.float64) * beyond, lo, hi)

    def oracle(self, request):
        if request >= self.hi_sum:
            return self.hi.astype(np.float64)
        if request <= self.lo_sum:
            return self.lo.astype(np.float64)
        # Not at the multiplier's ends themselves: a request this near a limit may already be met there.
        ends = [math.fsum(self.at(lam).tolist()) - request for lam in (-self.reach, self.reach)]
        if ends[0] >= 0 or ends[1] <= 0:
            return self.at(-self.reach if ends[0] >= 0 else self.reach)
        ends = (-self.reach, self.reach)
        return self.at(brentq(lambda lam: math.fsum(self.at(lam).tolist()) - request, *ends, xtol=1e-15, rtol=1e-15))

    def solve(self, request, memory=None, tolerance=None):
        p = np.full_like(self.t, np.nan)
        memory = np.zeros(3) if memory is None else memory
        wide = max(self.hi_sum, -self.lo_sum, 1.0)
        tolerance = (5e-7 if self.t.dtype == np.float32 else 1e-14) * wide if tolerance is None else tolerance
        result = solve(
            request, tolerance, self.t, self.up, self.dn, self.lo, self.hi, p, self.lo_sum, self.hi_sum, self.price,
            memory, self.reach,
        )  # fmt: skip
        return p, result


def fleet(rng, n, dtype=np.float64, prices=()):
    """Vehicles as limits and weights make them: room x lean, some fixed, some with no room on one side."""
    size = rng.choice([3.7, 7.4, 11.0, 22.0], n)
    kind = rng.integers(0, 8, n)
    lo, hi = -size * rng.uniform(0, 1, n), size * rng.uniform(0, 1, n)
    lo, hi = np.where(kind == 0, -size, lo), np.where(kind == 1, size, hi)
    hi = np.where(kind == 2, lo, hi)  # fixed: lo == hi
    hi = np.where(kind == 3, lo + 1e-5, hi)  # next to no room
    lo, hi = lo.astype(dtype), np.maximum(hi.astype(dtype), lo.astype(dtype))
    t = np.clip((lo + (hi - lo) * rng.choice([0.0, 0.3, 1.0, 0.5], n)).astype(dtype), lo, hi)
    g = 10.0 ** rng.uniform(-1, 1, n)
    price = rng.choice(prices, n) if prices else ()
    return Rows(t, np.maximum((hi - t) * g, 1e-6), np.maximum((t - lo) / g, 1e-6), lo, hi, dtype, price)


def requests(rows, rng):
    """Inside, near and beyond the limits, at the plan, and around it where the slopes change."""
    lo, hi, plan = rows.lo_sum, rows.hi_sum, math.fsum(rows.t.tolist())
    inside = rng.uniform(lo, hi, 4).tolist() if hi > lo else []
    near = [plan, plan + 1e-6, plan - 1e-6, hi - 1e-7 * (hi - lo), lo + 1e-7 * (hi - lo)]
    return [*inside, *near, hi, lo, hi + 5.0, lo - 5.0, 0.0]


seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 60)


@settings(max_examples=80, deadline=None)
@given(seeds, sizes)
def test_float64_is_the_optimum(seed, n):
    """brentq on the multiplier, KKT residual, exact sum, every bound, infeasible both ways."""
    rng = np.random.default_rng(seed)
    rows = fleet(rng, n)
    for request in requests(rows, rng):
        p, (total, unserved, lam, passes) = rows.solve(request)
        np.testing.assert_allclose(p, rows.oracle(request), rtol=0, atol=1e-9)
        assert np.abs(p - rows.at(lam)).max() <= 1e-9  # natural residual: p is what its multiplier says
        assert (p >= rows.lo).all()
        assert (p <= rows.hi).all()
        feasible = min(max(request, rows.lo_sum), rows.hi_sum)
        assert abs(math.fsum(p.tolist()) - feasible) <= F64_SUM * rows.scale
        assert abs(total - feasible) <= F64_SUM * rows.scale
        assert unserved == pytest.approx(request - feasible, abs=1e-12 * rows.scale)
        assert passes <= MAX_PASSES


@settings(max_examples=120, deadline=None)
@given(seeds, sizes)
def test_float32_keeps_sum_and_bounds(seed, n):
    rng = np.random.default_rng(seed)
    rows = fleet(rng, n, np.float32)
    for request in requests(rows, rng):
        p, (_, unserved, lam, passes) = rows.solve(request)
        assert p.dtype == np.float32
        assert np.abs(p - rows.at(lam)).max() <= 1e-4  # natural residual
        assert (p >= rows.lo).all()
        assert (p <= rows.hi).all()
        feasible = min(max(request, rows.lo_sum), rows.hi_sum)
        assert abs(math.fsum(p.astype(np.float64).tolist()) - feasible) <= F32_SUM * rows.scale
        assert unserved == pytest.approx(request - feasible, abs=1e-12 * rows.scale)
        assert passes <= 40  # bisection down to float32's own steps at worst


@settings(max_examples=100, deadline=None)
@given(seeds, sizes)
def test_float32_agrees_with_float64(seed, n):
    rng = np.random.default_rng(seed)
    narrow = fleet(rng, n, np.float32)
    wide = Rows(narrow.t, narrow.up, narrow.dn, narrow.lo, narrow.hi)
    for request in rng.uniform(narrow.lo_sum, narrow.hi_sum, 5).tolist():
        p32, _ = narrow.solve(request)
        p64, _ = wide.solve(request)
        # The tolerance on the sum lets the multiplier differ; one vehicle takes no more than all of it.
        np.testing.assert_allclose(p32, p64, rtol=0, atol=2e-6 * narrow.scale)


@pytest.mark.parametrize("seed", range(40))
def test_is_the_twin(seed):
    rng = np.random.default_rng(seed)
    rows = fleet(rng, 12)
    for request in requests(rows, rng):
        expected = naive.split(request, rows.t, rows.up, rows.dn, rows.lo, rows.hi)
        np.testing.assert_allclose(rows.solve(request)[0], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("side", [1.0, -1.0], ids=["up", "down"])
def test_is_what_a_general_solver_finds(seed, side):
    """min sum (p-t)^2/(2s), sum p = P, lo <= p <= hi: SLSQP knows nothing of multipliers and clips."""
    rng = np.random.default_rng(seed)
    n = 6
    lo, hi = -rng.uniform(1, 11, n), rng.uniform(1, 11, n)
    t = rng.uniform(0.9 * lo, 0.9 * hi)
    up, dn = (hi - t) * rng.uniform(0.5, 3, n), (t - lo) * rng.uniform(0.5, 3, n)
    rows = Rows(t, up, dn, lo, hi)
    end = hi.sum() if side > 0 else lo.sum()
    request = t.sum() + 0.7 * (end - t.sum())
    s = up if side > 0 else dn
    found = minimize(
        lambda p: float(((p - t) ** 2 / (2 * s)).sum()), t, jac=lambda p: (p - t) / s,
        bounds=list(zip(lo, hi, strict=True)), constraints=LinearConstraint(np.ones((1, n)), request, request),
        method="SLSQP", options={"ftol": 1e-15, "maxiter": 500},
    )  # fmt: skip
    assert found.success
    np.testing.assert_allclose(rows.solve(request)[0], found.x, rtol=0, atol=1e-5)


class TestShapes:
    """Fleets that leave Newton nothing to go by."""

    def check(self, rows, request):
        p, (total, _, _, passes) = rows.solve(request)
        feasible = min(max(request, rows.lo_sum), rows.hi_sum)
        assert total == pytest.approx(feasible, abs=1e-12 * rows.scale)
        np.testing.assert_allclose(p, rows.oracle(request), rtol=0, atol=1e-9)
        return passes

    def test_no_vehicle(self):
        rows = Rows([], [], [], [], [])
        for request, unserved in ((5.0, 5.0), (-5.0, -5.0), (0.0, 0.0)):
            assert rows.solve(request)[1][:2] == (0.0, unserved)

    def test_all_fixed(self):
        rows = Rows([1.0, -2.0], [1e-6, 1e-6], [1e-6, 1e-6], [1.0, -2.0], [1.0, -2.0])
        for request in (-1.0, 7.0, -9.0):
            assert self.check(rows, request) == 1

    def test_one_free_among_fixed(self):
        rows = Rows([3.0, 0.0, -3.0], [1e-6, 11, 1e-6], [1e-6, 11, 1e-6], [3.0, -11, -3.0], [3.0, 11.0, -3.0])
        np.testing.assert_allclose(rows.solve(4.5)[0], [3.0, 4.5, -3.0], atol=1e-12)

    @pytest.mark.parametrize("request_kw", [0.5, 1.0, 5.0, 10.0, 10.5, 14.9, 19.99])
    def test_plateau_between_two_tiers(self, request_kw):
        """One tier is saturated long before the other begins: the sum has no slope in between."""
        rows = Rows([-10.0, 0.0], [100.0, 10.0], [1.0, 1.0], [-10.0, -1.0], [0.0, 10.0])
        self.check(rows, request_kw - 10.0)

    def test_zero_slopes_everywhere_but_one(self):
        rows = Rows([0.0] * 5, [0, 0, 0, 0, 1.0], [0, 0, 0, 0, 1.0], [0, 0, 0, 0, -1.0], [0, 0, 0, 0, 1.0])
        assert self.check(rows, 0.25) <= 3

    def test_unequal_slopes_either_side_of_the_plan(self):
        """Warm starts far on the other side of lam = 0, where other slopes hold."""
        rows = Rows([-5.0, 0.0, 2.0], [70.0, 1.0, 0.9], [0.6, 110.0, 50.0], [-11.0] * 3, [11.0] * 3)
        memory = np.zeros(3)
        for request in (-2.9, -3.1, 30.0, -30.0, -3.0, -2.99, -3.01, 32.9, -32.9):
            p, _ = rows.solve(request, memory)
            np.testing.assert_allclose(p, rows.oracle(request), rtol=0, atol=1e-9)

    def test_at_the_limits(self):
        rows = fleet(np.random.default_rng(0), 30)
        for request, bound in ((rows.hi_sum, rows.hi), (rows.lo_sum, rows.lo)):
            p, (_, unserved, _, passes) = rows.solve(request)
            np.testing.assert_array_equal(p, bound)
            assert (unserved, passes) == (0.0, 1)

    def test_infeasible_takes_one_pass_and_recovery_few(self):
        """A clamp before the search: an infeasible request would bisect to the end of the bracket first."""
        rows = fleet(np.random.default_rng(1), 200)
        memory = np.zeros(3)
        for request, bound, sign in ((rows.hi_sum + 50, rows.hi, 1), (rows.lo_sum - 50, rows.lo, -1)):
            p, (_, unserved, lam, passes) = rows.solve(request, memory)
            np.testing.assert_array_equal(p, bound)
            assert unserved == pytest.approx(sign * 50, abs=1e-9)
            assert passes == 1
            assert lam == (LAM_MAX if sign > 0 else LAM_MIN)
            # A clamp has no slope to predict from; an old one would send the recovery astray.
            assert memory.tolist() == [lam, pytest.approx(bound.sum()), 0.0]
            assert rows.solve(0.5 * (rows.lo_sum + rows.hi_sum), memory)[1][3] <= 10

    def test_more_vehicles_than_a_block(self):
        rows = fleet(np.random.default_rng(2), 9001, np.float32)
        p, _ = rows.solve(0.3 * rows.hi_sum)
        assert abs(math.fsum(p.astype(np.float64).tolist()) - 0.3 * rows.hi_sum) <= F32_SUM * rows.scale
        np.testing.assert_allclose(p, rows.oracle(0.3 * rows.hi_sum), rtol=0, atol=2e-3)

    def test_opposed_bounds_that_nearly_cancel(self):
        """Half the fleet must charge, half must discharge: the net is small beside what float32 sums."""
        n = 300
        hi = np.where(np.arange(n) % 2, -11 + 1e-3, 11.0).astype(np.float32)
        lo = np.where(hi < 0, -11.0, 10.99).astype(np.float32)
        rows = Rows(lo, (hi - lo) * 3, (hi - lo) * 3, lo, hi, np.float32)
        for share in (0.001, 0.5, 0.999):
            request = rows.lo_sum + share * (rows.hi_sum - rows.lo_sum)
            p, (_, _, _, passes) = rows.solve(request)
            assert passes <= 40
            assert abs(math.fsum(p.astype(np.float64).tolist()) - request) <= F32_SUM * rows.scale


@pytest.mark.parametrize("memory", list(itertools.product(GARBAGE, repeat=3)), ids=str)
def test_converges_from_any_memory(memory):
    """A memory of NaN, infinities or another fleet may cost passes, never the answer."""
    rows = fleet(np.random.default_rng(3), 25)
    for request in (0.6 * rows.hi_sum, 0.6 * rows.lo_sum):
        kept = np.array(memory)
        with np.errstate(all="ignore"):  # numpy warns where the compiled kernel does not
            p, (_, _, _, passes) = rows.solve(request, kept)
        np.testing.assert_allclose(p, rows.oracle(request), rtol=0, atol=1e-9)
        assert passes <= 60
        assert np.isfinite(kept).all()


def test_memory_holds_what_the_last_pass_saw():
    rows = fleet(np.random.default_rng(5), 25)
    memory = np.zeros(3)
    p, (total, _, lam, _) = rows.solve(0.4 * rows.hi_sum, memory)
    assert (memory[0], memory[1]) == (lam, total)
    free = (p > rows.lo) & (p < rows.hi)
    assert memory[2] == pytest.approx((rows.up if lam >= 0 else rows.dn)[free].sum())
    assert rows.solve(0.4 * rows.hi_sum, memory)[1][3] == 1


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 40))
def test_properties(seed, n):
    rng = np.random.default_rng(seed)
    rows = fleet(rng, n)
    order = rng.permutation(n)
    shuffled = Rows(*(x[order] for x in (rows.t, rows.up, rows.dn, rows.lo, rows.hi)))
    asked = np.sort(rng.uniform(rows.lo_sum - 5, rows.hi_sum + 5, 8))
    before = None
    for request in asked.tolist():
        p, (_, unserved, _, _) = rows.solve(request)
        # Order of the vehicles is no reason for anything.
        np.testing.assert_allclose(shuffled.solve(request)[0], p[order], rtol=0, atol=1e-9)
        # More asked, nobody gives less.
        assert before is None or (p >= before - 1e-9).all()
        before = p
        # More headroom never serves less.
        wider = Rows(rows.t, rows.up + 11, rows.dn + 11, rows.lo - 1.0, rows.hi + 1.0)
        assert abs(wider.solve(request)[1][1]) <= abs(unserved) + 1e-9


def test_identical_vehicles_get_identical_power():
    for dtype in (np.float32, np.float64):
        rows = Rows([-2.0] * 7, [13.0] * 7, [9.0] * 7, [-11.0] * 7, [11.0] * 7, dtype)
        for request in (-60.0, -14.0, 3.0, 70.0):
            p, _ = rows.solve(request)
            assert len(set(p.tolist())) == 1
            assert p[0] == pytest.approx(request / 7, rel=1e-6)


def test_passes_on_a_seeded_trace():
    """10 Hz noise and one event, plans renewed once a second (kernel.md 5): <= 1.5 passes a tick."""
    rng = np.random.default_rng(7)
    rows = fleet(rng, 2000, np.float32)
    memory, dev, passes = np.zeros(3), 0.0, []
    for tick in range(3000):
        dev += -dev * 0.1 / 60 + 0.02 * math.sqrt(2 * 0.1 / 60) * rng.standard_normal()
        event = -0.18 * math.exp(-(tick - 1000) / 100) if tick >= 1000 else 0.0
        ask = -(dev + event + 0.002 * rng.standard_normal()) / 0.2
        plan = math.fsum(rows.t.tolist())
        if tick % 10 == 9:
            moved = rows.t + (0.001 * rng.standard_normal(rows.t.size)).astype(np.float32)
            rows = Rows(moved, rows.up + 0.1, rows.dn + 0.1, rows.lo, rows.hi, np.float32)
        request = plan + max(-1.0, min(1.0, ask)) * 0.5 * min(rows.hi_sum - plan, plan - rows.lo_sum)
        passes.append(rows.solve(request, memory)[1][3])
    assert np.mean(passes) <= 1.5
    assert max(passes) <= 8


def test_fill_is_one_clip():
    rows = fleet(np.random.default_rng(9), 40)
    p = np.empty(40)
    for lam in (-3.0, -0.1, 0.0, 0.1, 3.0):
        s = rows.up if lam >= 0 else rows.dn
        total, slope = fill(lam, rows.t, s, rows.lo, rows.hi, p, np.empty(0))
        expected = np.clip(rows.t + s * lam, rows.lo, rows.hi)
        np.testing.assert_allclose(p, expected, rtol=0, atol=1e-12)
        assert total == pytest.approx(expected.sum(), abs=1e-9)
        free = (rows.t + s * lam >= rows.lo) & (rows.t + s * lam <= rows.hi)
        assert slope == pytest.approx(s[free].sum(), rel=1e-12)


class TestPrice:
    """Nobody leaves the plan before |lam| passes its price."""

    PRICES = (0.0, 0.0, 0.1, 0.5, 0.5, 3.0)

    @settings(max_examples=100, deadline=None)
    @given(seeds, st.integers(1, 40))
    def test_float64_is_the_optimum(self, seed, n):
        rng = np.random.default_rng(seed)
        rows = fleet(rng, n, prices=self.PRICES)
        memory = np.zeros(3)
        for request in requests(rows, rng):
            p, (total, unserved, lam, passes) = rows.solve(request, memory)
            np.testing.assert_allclose(p, rows.oracle(request), rtol=0, atol=1e-9)
            assert np.abs(p - rows.at(lam)).max() <= 1e-9
            feasible = min(max(request, rows.lo_sum), rows.hi_sum)
            assert abs(total - feasible) <= F64_SUM * rows.scale
            assert unserved == pytest.approx(request - feasible, abs=1e-12 * rows.scale)
            assert passes < MAX_PASSES

    @settings(max_examples=100, deadline=None)
    @given(seeds, st.integers(1, 40))
    def test_float32_natural_residual(self, seed, n):
        """p is what its multiplier says, to 1e-4 kW; the sum as exact as lam's own steps allow."""
        rng = np.random.default_rng(seed)
        rows = fleet(rng, n, np.float32, self.PRICES)
        for request in requests(rows, rng):
            p, (_, _, lam, passes) = rows.solve(request)
            assert np.abs(p - rows.at(lam)).max() <= 1e-4
            assert ((p >= rows.lo) & (p <= rows.hi)).all()
            feasible = min(max(request, rows.lo_sum), rows.hi_sum)
            step = float(np.spacing(np.float32(abs(lam)))) * float((rows.up + rows.dn).sum())
            assert abs(math.fsum(p.astype(np.float64).tolist()) - feasible) <= F32_SUM * rows.scale + step
            assert passes <= 45

    @pytest.mark.parametrize("seed", range(4))
    def test_is_what_a_general_solver_finds(self, seed):
        """p = t + u - v with u, v >= 0 makes the price linear: SLSQP can take it from there."""
        rng = np.random.default_rng(seed)
        n = 5
        lo, hi, t = -rng.uniform(3, 11, n), rng.uniform(3, 11, n), rng.uniform(-2, 2, n)
        s, price = rng.uniform(4, 20, n), rng.choice([0.0, 0.2, 0.6], n)
        rows = Rows(t, s, s, lo, hi, price=price)
        request = t.sum() + rng.choice([-1, 1]) * rng.uniform(2, 12)
        ones = np.concatenate([np.ones(n), -np.ones(n)])[None, :]

        def cost(uv):
            u, v = uv[:n], uv[n:]
            return float((((u - v) ** 2) / (2 * s) + price * (u + v)).sum())

        def slope(uv):
            d = (uv[:n] - uv[n:]) / s
            return np.concatenate([d + price, -d + price])

        found = minimize(
            cost, np.zeros(2 * n), jac=slope, method="SLSQP", options={"ftol": 1e-14, "maxiter": 1000},
            bounds=[(0.0, x) for x in (hi - t)] + [(0.0, x) for x in (t - lo)],
            constraints=LinearConstraint(ones, request - t.sum(), request - t.sum()),
        )  # fmt: skip
        p = rows.solve(request)[0]
        assert found.success
        np.testing.assert_allclose(p, t + found.x[:n] - found.x[n:], rtol=0, atol=2e-4)
        assert (p == t).sum() > 0 or not price.any()

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_price_of_nothing_is_no_price(self, dtype):
        rows = fleet(np.random.default_rng(4), 50, dtype)
        free = Rows(rows.t, rows.up, rows.dn, rows.lo, rows.hi, dtype, np.zeros(50))
        for request in (0.7 * rows.hi_sum, 0.7 * rows.lo_sum):
            one, other = rows.solve(request), free.solve(request)
            np.testing.assert_allclose(one[0], other[0], rtol=0, atol=1e-5 if dtype == np.float32 else 1e-12)
            assert one[1][3] == other[1][3]

    def test_stays_at_the_plan_below_the_price_and_counts_from_there(self):
        t, lo, hi = np.array([1.0, 1.0, 1.0]), np.full(3, -9.0), np.full(3, 9.0)
        p, s = np.empty(3), np.array([2.0, 2.0, 2.0])
        for lam, expected, slope in ((0.5, [2.0, 1.0, 1.0], 2.0), (-0.5, [0.0, 1.0, 1.0], 2.0),
                                     (0.8, [2.6, 1.4, 1.0], 4.0), (-2.0, [-3.0, -1.8, -1.0], 6.0),
                                     (0.0, [1.0, 1.0, 1.0], 2.0)):  # fmt: skip
            total, seen = fill(lam, t, s, lo, hi, p, np.array([0.0, 0.6, 1.0]))
            np.testing.assert_allclose(p, expected, atol=1e-12)
            assert (total, seen) == (pytest.approx(sum(expected)), slope)

    def test_every_block_has_its_own_prices(self):
        n = 10_000
        price = np.zeros(n)
        price[5000:] = 5.0
        p, _ = Rows(np.zeros(n), np.ones(n), np.ones(n), -np.ones(n), np.ones(n), price=price).solve(2500.0)
        np.testing.assert_allclose(p, np.where(price > 0, 0.0, 0.5), atol=1e-12)

    def test_reach_makes_room_for_the_price(self):
        """All at a price beyond LAM_MAX: only a wider bracket gets anyone to move."""
        rows = Rows([0.0] * 3, [5.0] * 3, [5.0] * 3, [-5.0] * 3, [5.0] * 3, price=[20.0] * 3)
        np.testing.assert_allclose(rows.solve(6.0)[0], [2.0] * 3, atol=1e-12)
        np.testing.assert_array_equal(rows.solve(99.0)[0], rows.hi)
        np.testing.assert_array_equal(rows.solve(-99.0)[0], rows.lo)


class TestPasses:
    """Shapes that cost a plain Newton many passes over the fleet."""

    def trace(self, rows, share):
        rng = np.random.default_rng(8)
        memory, dev, passes = np.zeros(3), 0.0, []
        for tick in range(1000):
            dev += -dev / 600 + 0.02 * math.sqrt(2 / 600) * rng.standard_normal()
            event = -0.18 * math.exp(-(tick - 500) / 100) if tick >= 500 else 0.0
            ask = -(dev + event + 0.002 * rng.standard_normal()) / 0.2 * share
            request = max(-0.999999, min(0.999999, ask)) * rows.hi_sum
            passes.append(rows.solve(request, memory, 1e-6 * rows.hi_sum)[1][3])
        return np.mean(passes), max(passes)

    def test_riding_at_the_limit(self):
        """Where ever fewer vehicles are free, Newton's steps fall short one after another."""
        rng = np.random.default_rng(2)
        size = rng.choice([3.7, 7.4, 11.0, 22.0], 5000)
        slope = size * 10 ** rng.uniform(-1, 1, 5000)
        mean, most = self.trace(Rows(0 * size, slope, slope, -size, size), 0.98 * 8)
        assert mean <= 2.32
        assert most <= 10

    def test_from_one_far_end_to_the_other(self):
        """Two flat ends and a steep middle: Newton from one end lands beyond the other, and so on."""
        passes = []
        for seed in range(100):
            rng = np.random.default_rng(seed)
            n, room, lean = int(rng.integers(2, 200)), 11.0, 10 ** rng.normal(0, 0.6, 200).clip(-1, 1)
            slope, bound = room * lean[:n], np.full(n, room)
            rows, memory = Rows(0 * slope, slope, slope, -bound, bound), np.zeros(3)
            for near in (0.1, 1.0) * 6:
                share = rng.choice([-1, 1]) * rng.uniform() ** near * 0.9999999
                passes.append(rows.solve(share * rows.hi_sum, memory, 1e-6 * rows.hi_sum)[1][3])
        assert np.mean(passes) <= 5.2
        assert max(passes) <= 10

    def test_asking_the_same_again_is_one_pass(self):
        for dtype, prices in itertools.product((np.float32, np.float64), ((), TestPrice.PRICES)):
            rows = fleet(np.random.default_rng(6), 300, dtype, prices)
            for request in np.linspace(0.95 * rows.lo_sum, 0.95 * rows.hi_sum, 15).tolist():
                memory = np.zeros(3)
                first, (_, _, lam, _) = rows.solve(request, memory)
                kept = memory.copy()
                again, (_, _, same, passes) = rows.solve(request, memory)
                # On a plateau between two prices there is no slope to predict with, and nothing to predict.
                assert passes == 1
                assert same == pytest.approx(lam, rel=1e-5 if dtype == np.float32 else 1e-9)
                np.testing.assert_allclose(again, first, rtol=0, atol=1e-4 if dtype == np.float32 else 1e-9)
                np.testing.assert_allclose(memory, kept, rtol=1e-5, atol=1e-4)


class TestForAnyonesFleet:
    """`split`: plain arrays in, powers out, and every wrong argument named."""

    t, lo, hi = [0.0, -2.0, 1.0], [-5.0, -3.0, 0.0], [5.0, 7.0, 1.0]

    @pytest.mark.parametrize("kind", [list, np.float32, np.float64, np.int64])
    def test_kinds(self, kind):
        t, lo, hi = [list(x) if kind is list else np.array(x, kind) for x in (self.t, self.lo, self.hi)]
        p, solution = split(3.0, t, lo, hi)
        assert p.dtype == (np.float32 if kind is np.float32 else np.float64)
        # Room 5, 9 and 0 upwards; 4 kW above the plan of -1: all with room use the same share of it.
        np.testing.assert_allclose(p, [4 * 5 / 14, -2 + 4 * 9 / 14, 1.0], rtol=1e-6)
        assert solution.total_kw == pytest.approx(3.0)
        assert solution.unserved_kw == 0.0

    def test_more_than_there_is(self):
        assert split(20.0, self.t, self.lo, self.hi)[1].unserved_kw == 7.0
        assert split(-20.0, self.t, self.lo, self.hi)[1].unserved_kw == -12.0

    def test_leaves_its_arguments_alone(self):
        t, lo, hi = (np.array(x) for x in (self.t, self.lo, self.hi))
        p, _ = split(3.0, t, lo, hi)
        assert p is not t
        for kept, given_ in ((t, self.t), (lo, self.lo), (hi, self.hi)):
            np.testing.assert_array_equal(kept, given_)

    def test_strided_columns(self):
        table = np.array([self.t, self.lo, self.hi]).T.copy()
        p, _ = split(3.0, table[:, 0], table[:, 1], table[:, 2])
        assert p.sum() == pytest.approx(3.0, abs=1e-12)

    def test_tolerance(self):
        rows = fleet(np.random.default_rng(11), 50)
        loose, solution = split(0.4 * rows.hi_sum, rows.t, rows.lo, rows.hi, rows.up, rows.dn, relative_tolerance=0.2)
        assert abs(loose.sum() - 0.4 * rows.hi_sum) <= 0.2 * rows.scale
        assert solution.passes <= split(0.4 * rows.hi_sum, rows.t, rows.lo, rows.hi, rows.up, rows.dn)[1].passes

    def test_steep_and_flat_slopes_are_taken(self):
        """The flatter vehicle moves a millionth of the steeper one's way, until that one has arrived."""
        p, solution = split(3.0, [0.0, 0.0], [-5.0, -5.0], [5.0, 5.0], [1e3, 1e-3], [1e3, 1e-3])
        np.testing.assert_allclose(p, [3 / (1 + 1e-6), 3e-6 / (1 + 1e-6)], rtol=1e-9)
        p, solution = split(7.0, [0.0, 0.0], [-5.0, -5.0], [5.0, 5.0], [1e3, 1e-3], [1e3, 1e-3])
        np.testing.assert_allclose(p, [5.0, 2.0], rtol=1e-12)
        assert solution.lam == pytest.approx(2000.0)

    def test_a_slope_of_zero_never_moves(self):
        for request, expected, unserved in ((6.0, [0, 6, 1], 0), (20.0, [0, 7, 1], 12), (-9.0, [-5, -3, 1], -2)):
            p, solution = split(request, [0.0, -2.0, 1.0], self.lo, self.hi, s_up=[0.0, 9.0, 1.0], s_dn=[5.0, 1.0, 0.0])
            if unserved:
                np.testing.assert_allclose(p, expected, atol=1e-12)
            assert p[2 if request < 0 else 0] == (1.0 if request < 0 else 0.0)
            assert solution.unserved_kw == pytest.approx(unserved)
            assert math.fsum(solution.unserved_by_reason.values()) == pytest.approx(unserved)

    def test_nobody_and_everybody_fixed(self):
        assert split(5.0, [], [], [])[1][:2] == (0.0, 5.0)
        assert split(0.0, [], [], [])[1].unserved_by_reason == {}
        for request in (-9.0, 1.0, 5.0):
            p, solution = split(request, [3.0, -2.0], [3.0, -2.0], [3.0, -2.0])
            assert p.tolist() == [3.0, -2.0]
            assert solution.unserved_kw == request - 1.0
            p, _ = split(request, [3.0, -2.0], [-9.0, -9.0], [9.0, 9.0], [0.0, 0.0], [0.0, 0.0])
            assert p.tolist() == [3.0, -2.0]

    def test_price(self):
        p, solution = split(4.0, [0.0] * 3, [-5.0] * 3, [5.0, 2.0, 3.0], price=[0.0, 0.3, 0.5])
        np.testing.assert_allclose(p, [5 * 0.61, 2 * 0.31, 3 * 0.11], rtol=1e-12)
        assert solution.lam == pytest.approx(0.61)
        # Price and slope both far: the bracket goes as far as they do.
        assert split(6.0, [0.0] * 3, [-5.0] * 3, [5.0, 2.0, 3.0], price=[1e4] * 3)[0].sum() == pytest.approx(6.0)

    @settings(max_examples=120, deadline=None)
    @given(seeds, st.integers(1, 30), st.sampled_from([np.float32, np.float64]), st.sampled_from([1, 3, 6]))
    def test_adversarial_fleets(self, seed, n, kind, decades):
        """Tiers, zero slopes, lo = hi, ratios up to 1e6, prices: the sum, the bounds, the order, the request."""
        rng = np.random.default_rng(seed)
        rows = fleet(rng, n, kind)
        order = rng.permutation(n)
        tier = rng.choice([0.0, 1.0, 1.0, 10.0**decades], n) if seed % 2 else 10 ** rng.uniform(0, decades, n)
        up, dn = tier * rng.choice([0, 1, 1], n), tier
        price = rng.choice([0.0, 0.0, 1.0, 4.0], n) if seed % 3 else np.zeros(n)
        given_ = [np.asarray(x, kind) for x in (rows.t, rows.lo, rows.hi, up, dn, price)]
        lo, hi = np.where(given_[4] > 0, rows.lo, rows.t), np.where(given_[3] > 0, rows.hi, rows.t)
        low, high = math.fsum(lo.tolist()), math.fsum(hi.tolist())
        before = None
        for request in np.sort([*rng.uniform(low - 3, high + 3, 5), low, high, math.fsum(rows.t.tolist())]).tolist():
            p, solution = split(request, *given_)
            assert ((p >= lo) & (p <= hi)).all()
            feasible = min(max(request, low), high)
            exact = 1e-7 if kind is np.float32 else 1e-11
            # Where a steep vehicle begins at a price, lam's own steps are what the sum moves by.
            finest = float(np.spacing(abs(solution.lam)) * (up + dn).sum())
            assert abs(math.fsum(p.tolist()) - feasible) <= exact * rows.scale + finest
            assert solution.unserved_kw == pytest.approx(request - feasible, abs=1e-9)
            assert math.fsum(solution.unserved_by_reason.values()) == pytest.approx(solution.unserved_kw, abs=1e-9)
            beyond = math.copysign(1, solution.lam) * np.maximum(abs(solution.lam) - given_[5].astype(np.float64), 0)
            slope = (given_[3] if solution.lam >= 0 else given_[4]).astype(np.float64)
            optimum = np.clip(rows.t + slope * beyond, lo, hi)
            np.testing.assert_allclose(p, optimum, rtol=0, atol=4e-6 if kind is np.float32 else 1e-9)
            steps = 4e-6 if kind is np.float32 else 1e-9 + 2 * finest
            shuffled, _ = split(request, *(x[order] for x in given_))
            np.testing.assert_allclose(shuffled, p[order], rtol=0, atol=steps)
            assert before is None or (p >= before - steps).all()
            before = p
            twins = [np.repeat(x, 2) for x in given_]
            pairs = split(2 * request, *twins)[0].reshape(n, 2)
            np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
            wide = split(request, given_[0], given_[1] - 1, given_[2] + 1, *given_[3:])[1].unserved_kw
            assert abs(wide) <= abs(solution.unserved_kw) + 1e-9

    @settings(max_examples=100, deadline=None)
    @given(seeds, st.integers(1, 20))
    def test_prices_and_slopes_far_beyond_the_engines_own(self, seed, n):
        """Prices up to 1e4 and rooms up to 1e4 slopes: everybody still arrives at the bound, to the last bit."""
        rng = np.random.default_rng(seed)
        rows = fleet(rng, n)
        up, dn = (np.where(x > 0, 10 ** rng.uniform(-3, 2, n), 1.0) for x in (rows.hi - rows.t, rows.t - rows.lo))
        price = rng.choice([0.0, 11.0, 50.0, 1e4], n)
        for request, bound in ((rows.hi_sum + 1.0, rows.hi), (rows.lo_sum - 1.0, rows.lo)):
            p, solution = split(request, rows.t, rows.lo, rows.hi, up, dn, price)
            np.testing.assert_array_equal(p, bound)
            assert abs(solution.unserved_kw) == pytest.approx(1.0)
        for share in (0.02, 0.5, 0.98):
            request = rows.lo_sum + share * (rows.hi_sum - rows.lo_sum)
            p, solution = split(request, rows.t, rows.lo, rows.hi, up, dn, price)
            finest = float(np.spacing(abs(solution.lam)) * (up + dn).sum())
            assert math.fsum(p.tolist()) == pytest.approx(request, abs=1e-11 * rows.scale + finest)
            assert solution.unserved_kw == 0.0
            # Nobody leaves the plan before the multiplier has passed his price.
            assert (p[price >= abs(solution.lam)] == rows.t[price >= abs(solution.lam)]).all()

    class TestReasons:
        """A shortfall is a number with reasons, in proportion to the rated power each took."""

        rows = ([0.0] * 3, [-5.0, -4.0, -1.0], [5.0, 2.0, 3.0])

        def ask(self, request, **limits):
            return split(request, *self.rows, **limits)[1].unserved_by_reason

        def test_without_ratings_it_is_rating(self):
            assert self.ask(12.0) == {"rating": 2.0}
            assert self.ask(-12.0) == {"rating": -2.0}
            assert self.ask(3.0) == {}

        @pytest.mark.parametrize("kind", [list, np.array])
        def test_words_and_codes(self, kind):
            """3 kW lost to the window and 8 to the departure: of a shortfall of 5.5 each explains half of its own."""
            for why in (["rating", "soc", "departure"], [Reason.RATING, Reason.SOC, Reason.DEPARTURE]):
                found = self.ask(15.5, rated_hi=[5.0, 5.0, 11.0], reasons_up=kind(why))
                assert found == {"soc": pytest.approx(1.5), "departure": pytest.approx(4.0)}

        def test_two_vehicles_of_one_reason_and_what_none_explains(self):
            found = self.ask(-30.0, rated_lo=[-6.0, -5.0, -4.0], reasons_down=["site", "site", "mine"])
            assert found == {"site": pytest.approx(-2.0), "mine": pytest.approx(-3.0), "rating": pytest.approx(-15.0)}

        def test_only_the_side_that_is_short(self):
            both = {"rated_lo": [-11.0] * 3, "reasons_down": ["soc"] * 3, "rated_hi": [11.0] * 3,
                    "reasons_up": ["dod"] * 3}  # fmt: skip
            assert set(self.ask(11.0, **both)) == {"dod"}
            assert set(self.ask(-11.0, **both)) == {"soc"}

        def test_a_bound_beyond_the_rating_takes_nothing(self):
            assert self.ask(12.0, rated_hi=[1.0, 1.0, 1.0], reasons_up=["soc"] * 3) == {"rating": 2.0}

        def test_zero_slopes_are_the_owners(self):
            assert self.ask(12.0, s_up=[5.0, 0.0, 3.0]) == {"override": 2.0, "rating": 2.0}
            limits = {"rated_hi": [5.0, 3.0, 4.0], "reasons_up": ["soc", "override", "soc"]}
            # 1 kW of the given limit and 2 kW of room, against 1 kW of the window: 4 kW short, all explained.
            assert self.ask(12.0, s_up=[5.0, 0.0, 3.0], **limits) == {"soc": 1.0, "override": 3.0}

        def test_either_side_has_its_own_owners_wish(self):
            """Slopes up say nothing of a shortfall down, nor the other way round."""
            assert self.ask(12.0, s_dn=[0.0, 4.0, 1.0]) == {"rating": 2.0}
            assert self.ask(-12.0, s_up=[0.0, 2.0, 3.0]) == {"rating": -2.0}
            assert self.ask(-12.0, s_dn=[0.0, 4.0, 1.0]) == {"override": -5.0, "rating": -2.0}
            assert self.ask(-8.0, s_dn=[5.0, 0.0, 1.0]) == {"override": -2.0}

        def test_rating_given_and_rating_left_are_one(self):
            """2 kW a limit calls rating, and 1 kW that nothing explains."""
            found = self.ask(13.0, rated_hi=[7.0, 2.0, 3.0], reasons_up=["rating"] * 3)
            assert found == {"rating": pytest.approx(3.0)}

        @pytest.mark.parametrize(
            ("limits", "name"),
            [
                ({"rated_hi": [5.0] * 3}, "rated_hi, reasons_up"),
                ({"reasons_down": ["soc"] * 3}, "rated_lo, reasons_down"),
                ({"rated_hi": [5.0] * 2, "reasons_up": ["soc"] * 3}, "rated_hi"),
                ({"rated_lo": [-5.0, math.nan, 1.0], "reasons_down": ["soc"] * 3}, "rated_lo"),
                ({"rated_hi": [5.0] * 3, "reasons_up": ["soc"] * 2}, "reasons_up"),
                ({"rated_hi": [5.0] * 3, "reasons_up": [0.5] * 3}, "reasons_up"),
                ({"rated_hi": [5.0] * 3, "reasons_up": [1, 2, 99]}, "reasons_up"),
            ],
            ids=str,
        )
        def test_wrong_ones_are_named(self, limits, name):
            with pytest.raises(ValueError, match=f"^{name}"):
                self.ask(20.0, **limits)

    @pytest.mark.parametrize(
        ("changes", "name"),
        [
            ({"request_kw": math.nan}, "request_kw"),
            ({"request_kw": math.inf}, "request_kw"),
            ({"t": [0.0, math.nan, 0.0]}, "t:"),
            ({"t": [[0.0, -2.0, 1.0]]}, "t:"),
            ({"t": ["a", "b", "c"]}, "t:"),
            ({"t": [0.0, 8.0, 1.0]}, "t:"),
            ({"t": [-6.0, -2.0, 1.0]}, "t:"),
            ({"t": 3.0}, "t:"),
            ({"lo": [-5.0, -3.0]}, "lo:"),
            ({"lo": [-5.0, -math.inf, 0.0]}, "lo:"),
            ({"lo": [6.0, -3.0, 0.0]}, "lo:"),
            ({"lo": "low"}, "lo:"),
            ({"hi": [5.0, 7.0, 1.0, 1.0]}, "hi:"),
            ({"hi": [5.0, math.nan, 1.0]}, "hi:"),
            ({"hi": None}, "hi:"),
            ({"s_up": [1.0, 1.0]}, "s_up"),
            ({"s_up": [5.0, -9.0, 1.0]}, "s_up"),
            ({"s_dn": [5.0, 1.0, math.nan]}, "s_dn"),
            ({"s_dn": [5.0, -1e-9, 1.0]}, "s_dn"),
            ({"s_up": [math.inf, 1.0, 1.0]}, "s_up"),
            ({"price": [0.0, math.nan, 0.0]}, "price"),
            ({"lo": [math.nan, -3.0, 0.0]}, "lo:"),
            ({"hi": [-6.0, 7.0, 1.0]}, "lo:"),  # inverted
            ({"price": [0.0, -0.1, 0.0]}, "price"),
            ({"price": [0.0, math.inf, 0.0]}, "price"),
            ({"price": [0.0]}, "price"),
            ({"s_up": [1e-300, 1.0, 1.0]}, "s_up, s_dn, price: .*1e\\+100"),
            ({"relative_tolerance": -1.0}, "relative_tolerance"),
            ({"relative_tolerance": math.nan}, "relative_tolerance"),
        ],
        ids=str,
    )
    def test_bad_argument_is_named(self, changes, name):
        given_ = {"request_kw": 1.0, "t": self.t, "lo": self.lo, "hi": self.hi, **changes}
        with pytest.raises(ValueError, match=f"^{name}"):
            split(**given_)

    def test_slopes_just_within_reach(self):
        p, _ = split(1.0, [0.0], [0.0], [2.0], [2.1 / REACH_MAX], [0.0])
        assert p[0] == pytest.approx(1.0)


PLAIN = """
import json, numpy as np
from droop.split import split
rng = np.random.default_rng(0)
out = []
for n in (1, 2, 7, 20):
    lo, hi = -rng.uniform(0, 11, n), rng.uniform(0, 11, n)
    t = rng.uniform(lo, hi)
    s, price = 10 ** rng.uniform(-1, 2, n) * rng.choice([0, 1, 1], n), rng.choice([0.0, 0.7], n)
    for request in np.linspace(lo.sum() - 1, hi.sum() + 1, 7):
        out.append(split(float(request), t, lo, hi, s, s, price)[0].tolist())
        out.append(split(float(request), t.astype(np.float32), lo - 1e-3, hi + 1e-3)[0].tolist())
print(json.dumps(out))
"""


def test_compiled_or_not_it_is_the_same():
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    runs = [
        json.loads(
            subprocess.run([sys.executable, "-c", PLAIN], env=here | jit, capture_output=True, check=True).stdout
        )
        for jit in ({"NUMBA_DISABLE_JIT": "1"}, {"NUMBA_DISABLE_JIT": "0"})
    ]
    for plain, compiled in zip(*runs, strict=True):
        np.testing.assert_allclose(plain, compiled, rtol=0, atol=1e-6)
