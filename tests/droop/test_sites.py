"""Caps folded into bounds, against oracles that share nothing with them: Clarabel, a twin on brentq, properties."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.folding import fold, lift, multiplier, press
from droop.reasons import Reason
from droop.sites import Node, Tree, leaf, limits_of, roots, touched, tree
from droop.split import LAM_MAX, LAM_MIN, solve
from tests import naive_sites

S_NS = 1_000_000_000
RATING, SITE = int(Reason.RATING), int(Reason.SITE)
INF = math.inf

seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from([np.float32, np.float64])


class Cars(NamedTuple):
    """The columns of one fold, and beside them the vehicles' own limits."""

    t: npt.NDArray
    up: npt.NDArray
    dn: npt.NDArray
    lo: npt.NDArray
    hi: npt.NDArray
    least: npt.NDArray
    most: npt.NDArray
    may: npt.NDArray
    why_up: npt.NDArray
    why_down: npt.NDArray

    def fresh(self) -> Cars:
        return Cars(*(column.copy() for column in self))

    def fold(self, built: Tree, nodes: tuple[int, int] | None = None) -> Cars:
        """These bounds folded, in new columns."""
        out = self.fresh()
        first, last = nodes or (0, built.first.size)
        fold(
            built, leaf(built, self.t.size), out.t, out.up, out.dn, out.lo, out.hi, out.least, out.most, out.may,
            out.why_up, out.why_down, first, last,
        )  # fmt: skip
        return out

    def sums(self, a=0, b=None) -> tuple[float, float]:
        return math.fsum(self.lo[a:b].tolist()), math.fsum(self.hi[a:b].tolist())

    def rounding(self, a=0, b=None) -> float:
        """What rounding each bound to the columns' numbers may add up to."""
        size = np.maximum(np.abs(self.lo[a:b]), np.abs(self.hi[a:b])).sum(dtype=float)
        return float(4 * np.finfo(self.lo.dtype).eps * size)


def made(lo, hi, t=0.0, up=None, dn=None, least=None, most=None, may=True, dtype=np.float64) -> Cars:
    lo, hi = np.array(lo, dtype), np.array(hi, dtype)
    full = [np.broadcast_to(np.asarray(x, float), lo.shape).astype(dtype) for x in (
        t, hi - t if up is None else up, t - lo if dn is None else dn, lo if least is None else least,
        hi if most is None else most)]  # fmt: skip
    why = np.full(lo.shape, RATING, np.uint8)
    may = np.broadcast_to(may, lo.shape).astype(np.bool_).copy()
    return Cars(full[0], np.maximum(full[1], 1e-6), np.maximum(full[2], 1e-6), lo, hi, *full[3:], may, why, why.copy())


def fleet(rng, n, dtype=np.float64, modes=True) -> Cars:
    """Vehicles as the refresh leaves them: some fixed, some beyond command, some held by a mode off their plan."""
    size = rng.choice([3.7, 7.4, 11.0, 22.0], n)
    least, most = -size * rng.uniform(0, 1, n), size * rng.uniform(0, 1, n)
    kind = rng.integers(0, 10, n)
    most = np.where(kind == 0, least, most)
    least, most = least.astype(dtype), np.maximum(most.astype(dtype), least.astype(dtype))
    t = np.clip((least + (most - least) * rng.choice([0.0, 0.3, 1.0, 0.5], n)).astype(dtype), least, most)
    g = 10.0 ** rng.uniform(-1, 1, n)
    lo, hi = least.copy(), most.copy()
    may = rng.random(n) < 0.8
    if modes:
        half = dtype(0.5)
        off = (kind == 1) & (least < 0) & (most > 0)
        lo, hi = np.where(off, dtype(0), lo), np.where(off, dtype(0), hi)
        lo = np.where((kind == 2) & (most > 0), most * half, lo)
        hi = np.where((kind == 3) & (least < 0), np.minimum(hi, least * half), hi)
        stuck = ~may
        lo, hi = np.where(stuck, t, lo), np.where(stuck, t, hi)
    return made(lo, np.maximum(lo, hi), t, (most - t) * g, (t - least) / g, least, most, may, dtype)


def nest(rng, n, cut=(3, 3), tight=(0.3, 1.2)) -> list[Node]:
    """A random tree over n rows, two or three levels, rows in no child left here and there; caps come later."""
    nodes: list[Node] = []

    def grow(parent, first, rows, depth):
        name = f"n{len(nodes)}"
        nodes.append(Node(name, parent, first, rows))
        if depth == 0 or rows < 2:
            return
        at = np.sort(rng.choice(np.arange(first, first + rows + 1), min(rows + 1, 2 * cut[0]), replace=False))
        for a, b in zip(at[::2].tolist(), at[1::2].tolist(), strict=False):
            grow(name, a, b - a, depth - 1)

    half = n // 2
    grow(None, 0, half, cut[1] - 1)
    grow(None, half + 1, n - half - 1, cut[1] - 1)
    order = rng.permutation(len(nodes))
    return [nodes[k] for k in order]


def capped(rng, cars: Cars, nodes: list[Node], widths=(0.1, 1.1)) -> tuple[Tree, tuple[str, ...]]:
    """Caps from the leaves up, each from what the nodes below it leave, so that every one can be met."""
    built, names = tree(nodes, cars.t.size)
    built.upper_kw[:], built.lower_kw[:] = INF, -INF
    now = cars
    for k in range(built.first.size):
        a, b = built.first[k], built.last[k]
        lo, hi = now.sums(a, b)
        plan = float(np.clip(now.t[a:b], now.lo[a:b], now.hi[a:b]).sum(dtype=float))
        below_plan = rng.random() < 0.3
        share = rng.uniform(*widths)
        built.upper_kw[k] = plan + (lo - plan) * min(share, 0.98) if below_plan else plan + (hi - plan) * share
        below = min(built.upper_kw[k], plan)
        built.lower_kw[k] = below + (lo - below) * rng.uniform(*widths)
        now = cars.fold(built)
    return built, names


def boxes(built: Tree, cars: Cars) -> tuple[list[naive_sites.Box], list[naive_sites.Box], list[naive_sites.Car]]:
    """The same tree and vehicles for the twin: its nodes in our order, the top ones, the vehicles."""
    twins = [naive_sites.Car(*(float(x) for x in row[:7]), bool(row[7])) for row in zip(*cars[:8], strict=True)]
    nodes = [naive_sites.Box(float(u), float(low)) for u, low in zip(built.upper_kw, built.lower_kw, strict=True)]
    for k, box in enumerate(nodes):
        if built.parent[k] >= 0:
            nodes[built.parent[k]].boxes.append(box)
    for row, k in enumerate(leaf(built, cars.t.size)):
        if k >= 0:
            nodes[k].own.append(twins[row])
    return nodes, [box for k, box in enumerate(nodes) if built.parent[k] < 0], twins


def kept(built: Tree, cars: Cars, out: Cars) -> None:
    """Every cap holds, to 1e-6 of it or 1e-9 kW; a lower one to rounding where both are the same."""
    for k in range(built.first.size):
        a, b = built.first[k], built.last[k]
        lo, hi = out.sums(a, b)
        upper, lower = built.upper_kw[k], built.lower_kw[k]
        wide = upper - lower > cars.rounding(a, b)
        if upper < INF:
            assert hi <= upper + 1e-9 + 1e-6 * abs(upper) * (built.over_kw[k] == 0)
        if lower > -INF:
            assert lo >= lower - 1e-9 - (1e-6 * abs(lower) if wide else cars.rounding(a, b))
        assert built.lo_sum_kw[k] == pytest.approx(lo, abs=1e-9)
        assert built.hi_sum_kw[k] == pytest.approx(hi, abs=1e-9)


def optimum(built: Tree, cars: Cars, request: float) -> tuple[npt.NDArray, float]:
    """p and objective from Clarabel: it knows sums and inequalities, and nothing of multipliers."""
    clarabel = pytest.importorskip("clarabel")
    sparse = pytest.importorskip("scipy.sparse")
    n = cars.t.size
    # Moves from the plan upwards and downwards have a slope each: p = t + x - y, x and y >= 0.
    rows = np.zeros((built.first.size, n))
    for k in range(built.first.size):
        rows[k, built.first[k] : built.last[k]] = 1.0
    both = np.hstack
    unit = np.eye(n)
    parts = [both([np.ones((1, n)), -np.ones((1, n))]), both([rows, -rows]), both([-rows, rows]),
             both([unit, -unit]), both([-unit, unit]), -np.eye(2 * n)]  # fmt: skip
    t = cars.t.astype(float)
    base = rows @ t
    right = [np.array([request - t.sum()]), built.upper_kw - base, base - built.lower_kw, cars.hi - t, t - cars.lo,
             np.zeros(2 * n)]  # fmt: skip
    a, b = np.vstack(parts), np.concatenate(right)
    keep = np.isfinite(b)
    # min sum x^2 / 2 s_up + y^2 / 2 s_dn
    weights = np.concatenate([1 / cars.up.astype(float), 1 / cars.dn.astype(float)])
    options = clarabel.DefaultSettings()
    options.verbose = False
    options.tol_gap_abs = options.tol_gap_rel = options.tol_feas = 1e-11
    found = clarabel.DefaultSolver(
        sparse.csc_matrix(np.diag(weights)), np.zeros(2 * n), sparse.csc_matrix(a[keep]), b[keep],
        [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(int(keep.sum()) - 1)], options,
    ).solve()  # fmt: skip
    assert str(found.status) in ("Solved", "AlmostSolved")
    x = np.array(found.x)
    return t + x[:n] - x[n:], found.obj_val


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_is_what_a_general_solver_finds(seed, levels):
    """Requests over the whole range, caps binding both ways and below the plan, two slopes, t off the bounds."""
    rng = np.random.default_rng(100 * levels + seed)
    cars = fleet(rng, 40, modes=seed % 2 == 0)
    # The solver scales by weights: keep them within what it can resolve to a watt.
    cars = cars._replace(up=np.maximum(cars.up, 0.05), dn=np.maximum(cars.dn, 0.05))
    built, _ = capped(rng, cars, nest(rng, 40, (3, levels)))
    out = cars.fold(built)
    kept(built, cars, out)
    lo, hi = out.sums()
    narrowed = (out.hi < cars.hi).sum() + (out.lo > cars.lo).sum()
    assert narrowed > 5
    for share in (0.02, 0.3, 0.7, 0.98):
        request = lo + share * (hi - lo)
        p = np.empty(40)
        solve(request, 1e-10, out.t, out.up, out.dn, out.lo, out.hi, p, lo, hi, np.empty(0), np.zeros(3))
        expected, value = optimum(built, cars, request)
        move = p - cars.t
        ours = (np.maximum(move, 0) ** 2 / (2 * cars.up) + np.minimum(move, 0) ** 2 / (2 * cars.dn)).sum()
        np.testing.assert_allclose(p, expected, rtol=0, atol=1e-3)
        assert ours == pytest.approx(value, rel=1e-6, abs=1e-6)


@settings(max_examples=120, deadline=None)
@given(seeds, st.integers(6, 50), kinds)
def test_is_the_twin(seed, n, kind):
    """Any tree, any caps, feasible or not: bounds, what was shed, and what is left over."""
    rng = np.random.default_rng(seed)
    cars = fleet(rng, n, kind)
    built, _ = tree(nest(rng, n), n)
    for k in range(built.first.size):
        a, b = built.first[k], built.last[k]
        lo, hi = cars.sums(a, b)
        ends = np.sort(rng.uniform(lo - 0.3 * (hi - lo) - 5, hi + 0.3 * (hi - lo) + 5, 2))
        built.upper_kw[k] = INF if rng.random() < 0.1 else ends[1]
        built.lower_kw[k] = -INF if rng.random() < 0.1 else ends[0]
    out = cars.fold(built)
    nodes, tops, twins = boxes(built, cars)
    for top in tops:
        naive_sites.fold(top)
    near = 1e-9 if kind is np.float64 else 5e-4
    np.testing.assert_allclose(out.lo, [car.lo for car in twins], rtol=0, atol=near)
    np.testing.assert_allclose(out.hi, [car.hi for car in twins], rtol=0, atol=near)
    np.testing.assert_allclose(built.over_kw, [box.over() for box in nodes], rtol=0, atol=near * 10)
    np.testing.assert_allclose(built.shed_kw, [box.shed for box in nodes], rtol=0, atol=near * 10)
    assert (out.lo <= out.hi).all()
    assert (out.lo >= np.minimum(cars.lo, cars.least)).all()
    assert (out.hi <= np.maximum(cars.hi, cars.most)).all()


@settings(max_examples=120, deadline=None)
@given(seeds, st.integers(6, 60), kinds)
def test_caps_that_can_be_kept_are(seed, n, kind):
    """Sums within the caps, bounds only narrowed and never crossed, the reason on the side that moved."""
    rng = np.random.default_rng(seed)
    cars = fleet(rng, n, kind)
    built, _ = capped(rng, cars, nest(rng, n), (0.02, 1.2))
    out = cars.fold(built)
    kept(built, cars, out)
    # Rounding of the caps themselves, which are sums.
    rounded = 1e-12 * max(1.0, np.abs(cars.lo).sum() + np.abs(cars.hi).sum())
    assert built.shed_kw.max(initial=0.0) <= rounded
    assert np.abs(built.over_kw).max(initial=0.0) <= rounded
    assert (out.lo >= cars.lo - 1e-12).all()
    assert (out.hi <= cars.hi + 1e-12).all()
    assert (out.lo <= out.hi).all()
    for now, was, why in ((out.hi, cars.hi, out.why_up), (out.lo, cars.lo, out.why_down)):
        moved = np.abs(now.astype(float) - was)
        assert (why[moved > 1e-4] == SITE).all()
        assert (why[moved == 0] == RATING).all()
    np.testing.assert_array_equal(out.t, cars.t)
    # Nothing is given away: a cap that bound at the top is used up to rounding.
    for k in range(built.first.size):
        a, b = built.first[k], built.last[k]
        if built.parent[k] < 0 and (out.why_up[a:b] == SITE).any():
            room = min(built.upper_kw[c] - built.hi_sum_kw[c] for c in range(built.below[k], k + 1))
            assert room <= cars.rounding(a, b) + 1e-9


@settings(max_examples=60, deadline=None)
@given(seeds, kinds)
def test_folding_again_changes_nothing(seed, kind):
    rng = np.random.default_rng(seed)
    cars = fleet(rng, 30, kind)
    built, _ = tree(nest(rng, 30), 30)
    lo, hi = cars.sums()
    for k in range(built.first.size):
        built.lower_kw[k], built.upper_kw[k] = np.sort(rng.uniform(lo, hi, 2))
    once = cars.fold(built)
    # Told that nobody can be commanded, else what could not be shed for a child is asked of its siblings.
    twice = once._replace(may=np.zeros(30, np.bool_)).fold(built)
    keep = built.over_kw == 0
    if keep.all():
        np.testing.assert_allclose(twice.lo, once.lo, rtol=0, atol=cars.rounding())
        np.testing.assert_allclose(twice.hi, once.hi, rtol=0, atol=cars.rounding())


@settings(max_examples=60, deadline=None)
@given(seeds, kinds)
def test_the_order_within_a_leaf_does_not_matter(seed, kind):
    rng = np.random.default_rng(seed)
    n = 24
    cars = fleet(rng, n, kind)
    built, _ = tree([Node("a", None, 0, n), Node("b", "a", 0, 12), Node("c", "a", 12, 12)], n)
    built.upper_kw[:], built.lower_kw[:] = np.sort(rng.uniform(-60, 60, (2, 3)), axis=0)[::-1]
    order = np.concatenate([rng.permutation(12), 12 + rng.permutation(12)])
    out = cars.fold(built)
    shuffled = Cars(*(column[order] for column in cars)).fold(built)
    np.testing.assert_allclose(shuffled.lo, out.lo[order], rtol=0, atol=cars.rounding() + 1e-9)
    np.testing.assert_allclose(shuffled.hi, out.hi[order], rtol=0, atol=cars.rounding() + 1e-9)


def test_up_and_down_are_the_same_law():
    rng = np.random.default_rng(5)
    for _ in range(20):
        cars = fleet(rng, 30)
        built, _ = tree(nest(rng, 30), 30)
        built.upper_kw[:], built.lower_kw[:] = np.sort(rng.uniform(-80, 80, (2, built.first.size)), axis=0)[::-1]
        out, shed, over = cars.fold(built), built.shed_kw.copy(), built.over_kw.copy()
        turned = Cars(-cars.t, cars.dn, cars.up, -cars.hi, -cars.lo, -cars.most, -cars.least, *cars[7:])
        built.upper_kw[:], built.lower_kw[:] = -built.lower_kw, -built.upper_kw.copy()
        back = turned.fold(built)
        np.testing.assert_allclose(-back.hi, out.lo, rtol=0, atol=1e-9)
        np.testing.assert_allclose(-back.lo, out.hi, rtol=0, atol=1e-9)
        np.testing.assert_allclose(built.shed_kw, shed, rtol=0, atol=1e-9)
        np.testing.assert_allclose(built.over_kw, -over, rtol=0, atol=1e-9)


@pytest.mark.parametrize("spread", [1.0, 1e3, 1e8, 1e14])
@pytest.mark.parametrize("share", [1e-9, 0.1, 0.5, 0.999])
def test_the_multiplier_is_found_whatever_the_slopes(spread, share):
    """Slopes over many orders of magnitude, plateaus between; the sum is met or the bracket's end is."""
    rng = np.random.default_rng(1)
    s = spread ** rng.uniform(-0.5, 0.5, 50)
    hi = rng.uniform(0, 11, 50)
    t = np.zeros(50)
    wanted = share * np.minimum(s * LAM_MAX, hi).sum()
    lam = multiplier(wanted, 0.0, s.sum(), LAM_MAX, 1e-10, t, s, -hi, hi)
    assert np.minimum(s * lam, hi).sum() == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    down = multiplier(-wanted, 0.0, s.sum(), LAM_MIN, 1e-10, t, s, -hi, hi)
    assert down == pytest.approx(-lam, rel=1e-6)


def test_the_multiplier_is_found_where_newton_crawls():
    """A sum that grows like exp(50 lam): Newton alone comes down from the bracket's middle by 1/50 a pass."""
    start = np.arange(251) * 0.02
    s = np.exp(50 * start)
    t, lo, hi = -s * start, np.zeros(251), np.full(251, 1e300)
    wanted = np.maximum(s * (0.11 - start), 0).sum()
    assert multiplier(wanted, 0.0, 0.0, LAM_MAX, 1e-9, t, s, lo, hi) == pytest.approx(0.11, rel=1e-9)


@pytest.mark.parametrize("lam", [-3.0, -0.2, 0.0, 0.3, 2.0])
def test_bounds_are_rounded_away_from_the_cap(lam):
    """Never beyond g(lam), one step of float32 short of it at most, and what is clipped stays as it is."""
    cars = fleet(np.random.default_rng(6), 500, np.float32)
    s = cars.up if lam >= 0 else cars.dn
    free = cars.t.astype(float) + s.astype(float) * lam
    exact = np.clip(free, cars.lo, cars.hi)
    clipped = exact != free
    out = cars.fresh()
    total = press(lam, cars.t, s, cars.lo, out.hi, out.why_up)
    assert total == pytest.approx(out.sums()[1], abs=1e-9)
    up = lift(lam, cars.t, s, out.lo, cars.hi, out.why_down)
    assert up == pytest.approx(out.sums()[0], abs=1e-9)
    for short in (exact - out.hi, out.lo - exact):
        assert (short >= 0).all()
        assert (short <= 1.3e-7 * np.abs(exact)).all()
        assert (short[clipped] == 0).all()
    assert not clipped.all()


@pytest.mark.parametrize("slope", [0.0, 1e-9, 1e-300])
def test_slopes_that_reach_nothing(slope):
    """No multiplier meets the cap; the bounds are drawn in by shares instead."""
    cars = made([-10.0] * 4, [10.0] * 4, 5.0)
    cars.up[:] = cars.dn[:] = slope
    built, _ = tree([Node("a", None, 0, 4, 8.0, 12.0)], 4)
    out = cars.fold(built)
    np.testing.assert_allclose(out.hi, [2.0] * 4, atol=1e-6)
    assert out.sums()[0] >= -12.0


class TestByHand:
    def test_net_of_local_load_and_pv(self):
        built, _ = tree([Node("a", None, 0, 2, 10.0, 10.0)], 2)
        built.local_ns[0], built.local_kw[0] = 100 * S_NS, 4.0  # PV
        limits_of(built, 101 * S_NS, 5 * S_NS)
        assert (built.upper_kw[0], built.lower_kw[0]) == (6.0, -14.0)
        built.local_kw[0] = -7.0  # load
        limits_of(built, 101 * S_NS, 5 * S_NS)
        assert (built.upper_kw[0], built.lower_kw[0]) == (17.0, -3.0)
        out = made([-11.0] * 2, [11.0] * 2).fold(built)
        np.testing.assert_allclose(out.lo, -1.5)
        np.testing.assert_allclose(out.hi, 8.5)

    def test_load_beyond_the_import_cap_makes_vehicles_give(self):
        built, _ = tree([Node("a", None, 0, 2, 10.0, 10.0)], 2)
        built.local_ns[0], built.local_kw[0] = 1, -14.0
        limits_of(built, 1, 1)
        out = made([-11.0] * 2, [11.0] * 2).fold(built)
        np.testing.assert_allclose(out.lo, 2.0)
        np.testing.assert_array_equal(out.why_down, SITE)
        np.testing.assert_array_equal(out.why_up, RATING)

    @pytest.mark.parametrize(("age_s", "silent"), [(0, False), (5, False), (5.1, True), (-1, False)])
    def test_silent_meter(self, age_s, silent):
        built, _ = tree([Node("a", None, 0, 2, 30.0, 30.0, -20.0, 15.0)], 2)
        assert (built.upper_kw[0], built.lower_kw[0]) == (15.0, -10.0)  # never measured
        built.local_ns[0], built.local_kw[0] = 100 * S_NS, -2.0
        limits_of(built, 100 * S_NS + int(age_s * S_NS), 5 * S_NS)
        assert (built.upper_kw[0], built.lower_kw[0]) == ((15.0, -10.0) if silent else (32.0, -28.0))
        expected = naive_sites.window(30.0, 30.0, -2.0, int(age_s * S_NS), 5 * S_NS, (-20.0, 15.0))
        assert (built.upper_kw[0], built.lower_kw[0]) == expected

    @pytest.mark.parametrize(
        ("worst", "still"), [((-50.0, 60.0), 0.0), ((-90.0, -45.0), 55.0), ((45.0, 90.0), -65.0)], ids=str
    )
    def test_worst_cases_wider_than_the_caps(self, worst, still):
        built, _ = tree([Node("a", None, 0, 2, 10.0, 20.0, *worst)], 2)
        assert built.upper_kw[0] == built.lower_kw[0]
        assert (built.upper_kw[0], built.lower_kw[0]) == naive_sites.window(10.0, 20.0, 0.0, None, 0, worst)
        assert built.upper_kw[0] == still

    def test_no_cap_touches_nothing(self):
        cars = fleet(np.random.default_rng(2), 20, np.float32)
        built, _ = tree([Node("a", None, 0, 20), Node("b", "a", 3, 5)], 20)
        out = cars.fold(built)
        for now, was in zip(out, cars, strict=True):
            np.testing.assert_array_equal(now, was)
        assert (built.lo_sum_kw[1], built.hi_sum_kw[1]) == pytest.approx(cars.sums())

    def test_stuck_discharge_is_met_by_charging(self):
        """Two vehicles beyond command give 8 kW each; 4 kW may flow out. Those that obey charge, by their room."""
        cars = made([8.0, 8.0, 0.0, 0.0, 0.0], [8.0, 8.0, 5.0, 5.0, 0.0], least=[8, 8, -20, -10, -30],
                    may=[False, False, True, True, False])  # fmt: skip
        built, _ = tree([Node("a", None, 0, 5, 4.0)], 5)
        out = cars.fold(built)
        np.testing.assert_allclose(out.lo, [8, 8, -8, -4, 0])
        np.testing.assert_array_equal(out.hi, out.lo)
        assert built.shed_kw[0] == pytest.approx(12.0)
        assert built.over_kw[0] == 0.0
        assert out.why_up.tolist() == [RATING, RATING, SITE, SITE, RATING]

    def test_departures_give_way_to_the_import_cap(self):
        """Forced charging stops before anybody is asked to discharge; the limit is the vehicles' own."""
        cars = made([-11.0, -11.0, -2.0], [-11.0, -6.0, 0.0], most=[4.0, 11.0, 11.0])
        built, _ = tree([Node("a", None, 0, 3, INF, 8.5)], 3)
        out = cars.fold(built)
        np.testing.assert_allclose(out.hi, [-11 * 0.5, -3.0, 0.0])
        np.testing.assert_array_equal(out.hi, out.lo)
        built.lower_kw[0] = 13.0
        out = cars.fold(built)
        np.testing.assert_allclose(out.hi, [2.0, 5.5, 5.5])
        assert built.shed_kw[0] == pytest.approx(30.0)

    @pytest.mark.parametrize("side", [1.0, -1.0])
    def test_what_no_shedding_brings_under_the_cap_is_told(self, side):
        cars = made([9.0, 9.0] if side > 0 else [-9.0, -9.0], [9.0, 9.0] if side > 0 else [-9.0, -9.0],
                    least=[9.0, 0.0], most=[-9.0, 0.0], may=[False, True])  # fmt: skip
        built, _ = tree([Node("a", None, 0, 2, 5.0, 5.0)], 2)
        out = cars.fold(built)
        assert built.over_kw[0] == pytest.approx(4.0 * side)
        assert built.shed_kw[0] == pytest.approx(9.0)
        np.testing.assert_allclose(out.hi, [9.0 * side, 0.0])

    def test_shedding_for_a_parent_keeps_its_childrens_caps(self):
        """The feeder must take 30 kW off; the first site may take in no more than 5."""
        cars = made(
            [30.0, 0.0, 0.0, 0.0], [30.0, 5.0, 5.0, 5.0], least=[30, -20, -20, -20], may=[False, True, True, True]
        )
        nodes = [Node("feeder", None, 0, 4, 0.0), Node("site", "feeder", 1, 2, INF, 5.0)]
        built, _ = tree(nodes, 4)
        out = cars.fold(built)
        # Room 5 in the site and 20 beside it, 30 wanted: all of it, 5 are left over.
        np.testing.assert_allclose(out.lo, [30, -2.5, -2.5, -20], atol=1e-6)
        assert built.over_kw.tolist() == pytest.approx([0.0, 5.0])
        assert built.shed_kw.tolist() == pytest.approx([0.0, 25.0])
        assert out.lo[1:3].sum() >= -5.0

    def test_islanded_site_stands_still(self):
        cars = fleet(np.random.default_rng(8), 25, np.float32, modes=False)
        built, _ = tree([Node("a", None, 0, 25, 0.0, 0.0)], 25)
        out = cars.fold(built)
        lo, hi = out.sums()
        assert -cars.rounding() <= lo <= hi <= 1e-9
        assert (built.over_kw[0], built.shed_kw[0]) == (0.0, 0.0)

    def test_sums_of_children_are_those_of_the_end(self):
        """A parent narrows after its children were summed."""
        cars = made([-10.0] * 4, [10.0] * 4)
        built, _ = tree([Node("p", None, 0, 4, 8.0, 4.0), Node("a", "p", 0, 2), Node("b", "p", 2, 2)], 4)
        cars.fold(built)
        np.testing.assert_allclose(built.hi_sum_kw, [4.0, 4.0, 8.0])
        np.testing.assert_allclose(built.lo_sum_kw, [-2.0, -2.0, -4.0])

    def test_only_the_asked_tree_is_folded(self):
        cars = made([-10.0] * 4, [10.0] * 4)
        built, _ = tree([Node("a", None, 0, 2, 4.0), Node("b", None, 2, 2, 4.0)], 4)
        out = cars.fold(built, (1, 2))
        np.testing.assert_allclose(out.hi, [10, 10, 2, 2])

    def test_account_of_last_time_is_cleared(self):
        cars = made([9.0], [9.0], may=False)
        built, _ = tree([Node("a", None, 0, 1, 5.0)], 1)
        cars.fold(built)
        assert built.over_kw[0] == pytest.approx(4.0)
        made([0.0], [1.0]).fold(built)
        assert built.over_kw[0] == 0.0


class TestShape:
    nodes = (
        Node("north", None, 2, 6), Node("n2", "north", 5, 3), Node("n1", "north", 2, 2), Node("south", None, 10, 4),
        Node("n21", "n2", 6, 1),
    )  # fmt: skip

    def test_children_before_parents_in_the_order_of_rows(self):
        built, names = tree(self.nodes, 15)
        assert names == ("n1", "n21", "n2", "north", "south")
        assert built.parent.tolist() == [3, 2, 3, -1, -1]
        assert built.below.tolist() == [0, 1, 1, 0, 4]
        assert built.first.tolist() == [2, 6, 5, 2, 10]
        assert built.last.tolist() == [4, 7, 8, 8, 14]
        assert roots(built) == [(0, 4), (4, 5)]
        assert tree([tuple(node) for node in self.nodes[::-1]], 15)[1] == names

    def test_leaf_is_the_deepest(self):
        built, _ = tree(self.nodes, 15)
        site = leaf(built, 15)
        assert site.dtype == np.int32
        assert site.tolist() == [-1, -1, 0, 0, 3, 2, 1, 2, -1, -1, 4, 4, 4, 4, -1]

    def test_touched_is_what_overlaps(self):
        built, _ = tree(self.nodes, 15)
        spans = [((0, 4), (2, 8)), ((4, 5), (10, 14))]
        for a in range(16):
            for b in range(a, 16):
                met = [s for s in spans if max(a, s[1][0]) < min(b, s[1][1])]
                got = touched(built, a, b)
                if not met:
                    assert got[0] == got[1]
                    assert got[2] == got[3]
                else:
                    assert got == (met[0][0][0], met[-1][0][1], met[0][1][0], met[-1][1][1])

    def test_no_nodes(self):
        built, names = tree([], 5)
        assert names == ()
        assert roots(built) == []
        limits_of(built, 0, 0)
        fleet(np.random.default_rng(0), 5).fold(built)
        first, last, _, _ = touched(built, 0, 5)
        assert first == last

    @pytest.mark.parametrize(
        ("nodes", "said"),
        [
            ([Node("a", None, 0, 3), Node("a", None, 4, 2)], "a: named twice"),
            ([Node("a", "b", 0, 3)], "a: its parent b"),
            ([Node("a", None, 0, 3), Node("b", None, 2, 2)], "b: shares rows with a"),
            ([Node("p", None, 0, 9), Node("b", "p", 3, 2), Node("a", "p", 4, 3)], "a: shares rows with b"),
            ([Node("p", None, 0, 4), Node("a", "p", 3, 2)], "a: has rows outside p"),
            ([Node("p", None, 2, 4), Node("a", "p", 1, 2)], "a: has rows outside p"),
            ([Node("a", "b", 0, 3), Node("b", "a", 0, 3)], "a: is its own ancestor"),
            ([Node("a", "a", 0, 3)], "a: is its own ancestor"),
            ([Node("a", None, 8, 3)], "a: rows"),
            ([Node("a", None, -1, 3)], "a: rows"),
            ([Node("a", None, 1, 0)], "a: rows"),
            ([Node("a", None, 0, 3, -1.0)], "a: export_kw"),
            ([Node("a", None, 0, 3, math.nan)], "a: export_kw"),
            ([Node("a", None, 0, 3, 1.0, -1.0)], "a: import_kw"),
            ([Node("a", None, 0, 3, 1.0, math.nan)], "a: import_kw"),
            ([Node("a", None, 0, 3, 1.0, 1.0, math.nan, 0.0)], "a: local_lo_kw"),
            ([Node("a", None, 0, 3, 1.0, 1.0, 0.0, INF)], "a: local_lo_kw"),
            ([Node("a", None, 0, 3, 1.0, 1.0, 2.0, 1.0)], "a: local_lo_kw"),
        ],
        ids=str,
    )
    def test_what_is_wrong_is_named(self, nodes, said):
        with pytest.raises(ValueError, match=f"^{said}"):
            tree(nodes, 10)
