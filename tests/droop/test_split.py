"""The split against oracles that share nothing with it: brentq on the multiplier, a twin, a general solver."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, brentq, minimize

from droop.split import LAM_MAX, LAM_MIN, MAX_PASSES, fill, solve, split
from tests import naive

F64_SUM, F32_SUM = 1e-12, 1e-6  # of the scale: what the project promises
GARBAGE = (0.0, 1.0, -1.0, 1e300, -1e300, math.inf, -math.inf, math.nan)


class Rows:
    """A fleet's columns and the scale its sums are judged by."""

    def __init__(self, t, up, dn, lo, hi, dtype=np.float64):
        self.lo, self.hi = np.asarray(lo, dtype), np.asarray(hi, dtype)
        self.t = np.clip(np.asarray(t, dtype), self.lo, self.hi)
        self.up, self.dn = np.asarray(up, dtype), np.asarray(dn, dtype)
        self.lo_sum, self.hi_sum = math.fsum(self.lo.tolist()), math.fsum(self.hi.tolist())
        self.scale = max(math.fsum(np.abs(self.lo).tolist()), math.fsum(np.abs(self.hi).tolist()), 1.0)

    def at(self, lam):
        """p for one multiplier, in float64."""
        t, lo, hi = (x.astype(np.float64) for x in (self.t, self.lo, self.hi))
        return np.clip(t + (self.up if lam >= 0 else self.dn).astype(np.float64) * lam, lo, hi)

    def oracle(self, request):
        if request >= self.hi_sum:
            return self.hi.astype(np.float64)
        if request <= self.lo_sum:
            return self.lo.astype(np.float64)
        # Not at the multiplier's ends themselves: a request this near a limit may already be met there.
        ends = [math.fsum(self.at(lam).tolist()) - request for lam in (LAM_MIN, LAM_MAX)]
        if ends[0] >= 0 or ends[1] <= 0:
            return self.at(LAM_MIN if ends[0] >= 0 else LAM_MAX)
        return self.at(
            brentq(lambda lam: math.fsum(self.at(lam).tolist()) - request, LAM_MIN, LAM_MAX, xtol=1e-15, rtol=1e-15)
        )

    def solve(self, request, memory=None, tolerance=None):
        p = np.full_like(self.t, np.nan)
        memory = np.zeros(3) if memory is None else memory
        wide = max(self.hi_sum, -self.lo_sum, 1.0)
        tolerance = (5e-7 if self.t.dtype == np.float32 else 1e-14) * wide if tolerance is None else tolerance
        result = solve(
            request, tolerance, self.t, self.up, self.dn, self.lo, self.hi, p, self.lo_sum, self.hi_sum, memory
        )
        return p, result


def fleet(rng, n, dtype=np.float64):
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
    return Rows(t, np.maximum((hi - t) * g, 1e-6), np.maximum((t - lo) / g, 1e-6), lo, hi, dtype)


def requests(rows, rng):
    """Inside, near and beyond the limits, at the plan, and around it where the slopes change."""
    lo, hi, plan = rows.lo_sum, rows.hi_sum, math.fsum(rows.t.tolist())
    inside = rng.uniform(lo, hi, 4).tolist() if hi > lo else []
    near = [plan, plan + 1e-6, plan - 1e-6, hi - 1e-7 * (hi - lo), lo + 1e-7 * (hi - lo)]
    return [*inside, *near, hi, lo, hi + 5.0, lo - 5.0, 0.0]


seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 60)


@settings(max_examples=300, deadline=None)
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


@settings(max_examples=300, deadline=None)
@given(seeds, sizes)
def test_float32_keeps_sum_and_bounds(seed, n):
    rng = np.random.default_rng(seed)
    rows = fleet(rng, n, np.float32)
    for request in requests(rows, rng):
        p, (_, unserved, _, passes) = rows.solve(request)
        assert p.dtype == np.float32
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
        total, slope = fill(lam, rows.t, s, rows.lo, rows.hi, p)
        expected = np.clip(rows.t + s * lam, rows.lo, rows.hi)
        np.testing.assert_allclose(p, expected, rtol=0, atol=1e-12)
        assert total == pytest.approx(expected.sum(), abs=1e-9)
        free = (rows.t + s * lam >= rows.lo) & (rows.t + s * lam <= rows.hi)
        assert slope == pytest.approx(s[free].sum(), rel=1e-12)


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
        loose, solution = split(0.4 * rows.hi_sum, rows.t, rows.lo, rows.hi, rows.up, rows.dn, 0.2)
        assert abs(loose.sum() - 0.4 * rows.hi_sum) <= 0.2 * rows.scale
        assert solution.passes <= split(0.4 * rows.hi_sum, rows.t, rows.lo, rows.hi, rows.up, rows.dn)[1].passes

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
            ({"s_up": [0.1, 9.0, 1.0]}, "s_up"),
            ({"s_dn": [5.0, 1.0, math.nan]}, "s_dn"),
            ({"s_dn": [0.1, 1.0, 1.0]}, "s_dn"),
            ({"relative_tolerance": -1.0}, "relative_tolerance"),
            ({"relative_tolerance": math.nan}, "relative_tolerance"),
        ],
        ids=str,
    )
    def test_bad_argument_is_named(self, changes, name):
        given_ = {"request_kw": 1.0, "t": self.t, "lo": self.lo, "hi": self.hi, **changes}
        with pytest.raises(ValueError, match=f"^(?:s_up, )?{name}"):
            split(**given_)
