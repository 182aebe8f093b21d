"""Who hears after limits moved: bounds always kept, the sum restored, as few messages as subsets can show."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.local import local_curves
from droop.resend import resend, sink, take
from droop.weights import LEAST
from tests import naive
from tests import naive_curves as twin


def leaning(rng, n):
    """Vehicles up to 11 kW whose slopes lean on their state of charge; some fixed, some that only charge."""
    g = np.exp(rng.uniform(-1.5, 1.5, n))
    lo, hi = -rng.uniform(1, 11, n), np.where(rng.random(n) < 0.2, 0.0, rng.uniform(1, 11, n))
    hi = np.where(rng.random(n) < 0.1, lo, hi)
    t = np.clip(0.0, lo, hi)
    return t, np.maximum((hi - t) * g, LEAST), np.maximum((t - lo) / g, LEAST), lo, hi


def sent_to(fleet, share=0.6, count=6):
    """The fleet's curves for +-200 mHz, and what they sum to; more than all there is where `share` is above 1."""
    hz, kw = [-0.2, -0.01, 0.01, 0.2], share * np.array([fleet[4].sum(), 0.0, 0.0, fleet[3].sum()])
    kw += fleet[0].sum() * np.array([0, 1, 1, 0])
    found = local_curves(hz, kw, *fleet, count=count)
    return found.kw.copy(), found.request_kw - found.unserved_kw


def moved(rng, fleet, some):
    """Bounds narrowed for some vehicles and widened for a few; slopes as limits would make them again."""
    t, up, dn, lo, hi = (x.copy() for x in fleet)
    hit = rng.random(lo.size) < some
    middle = lo + rng.random(lo.size) * (hi - lo)
    lo, hi = np.where(hit, lo + 0.7 * (middle - lo), lo), np.where(hit, hi - 0.7 * (hi - middle), hi)
    hi = np.where(rng.random(lo.size) < 0.1, hi + 1.0, hi)
    return t, np.maximum(up, 0.2 * (hi - lo) + LEAST), np.maximum(dn, 0.2 * (hi - lo) + LEAST), lo, hi


def check(result, sent, request, fleet, tolerance):
    """What holds after every resend."""
    _, _, _, lo, hi = fleet
    size = math.fsum(np.maximum(np.abs(lo), np.abs(hi)).tolist()) + 1.0
    assert (result.kw >= lo[:, None]).all()
    assert (result.kw <= hi[:, None]).all()
    np.testing.assert_array_equal(result.kw[~result.told], sent[~result.told])
    outside = ((sent < lo[:, None]) | (sent > hi[:, None])).any(axis=1)
    assert result.told[outside].all()
    sums = np.array([math.fsum(column) for column in result.kw.T.tolist()])
    np.testing.assert_allclose(result.open_kw, request - sums, rtol=0, atol=1e-12 * size)
    served = np.clip(request, lo.sum(), hi.sum())
    assert np.abs(served - sums).max(initial=0.0) <= tolerance + 1e-12 * size


seeds = st.integers(0, 2**32 - 1)
tolerances = st.sampled_from([1e-9, 0.01, 1.0])


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(0, 60), st.sampled_from([0.05, 0.3, 1.0]), tolerances, st.sampled_from([0.3, 0.6, 0.99, 1.2]))
def test_bounds_kept_and_sum_restored(seed, n, some, tolerance, share):
    rng = np.random.default_rng(seed)
    fleet = leaning(rng, n)
    sent, request = sent_to(fleet, share)
    now = moved(rng, fleet, some)
    request = request + rng.choice([0.0, 2.0, -2.0])
    result = resend(sent, request, *now, tolerance)
    check(result, sent, request, now, tolerance)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 40), tolerances)
def test_nobody_hears_when_nothing_moved(seed, n, tolerance):
    fleet = leaning(np.random.default_rng(seed), n)
    sent, request = sent_to(fleet)
    result = resend(sent, request, *fleet, tolerance)
    assert not result.told.any()
    np.testing.assert_array_equal(result.kw, sent)
    # Nor when bounds moved where no curve goes: wider, or narrower beyond what was sent.
    lo, hi = np.minimum(fleet[3], sent.min(axis=1)), fleet[4] + 1.0
    t, up, dn = fleet[0], fleet[1] + 1.0, fleet[2] + 1.0
    assert not resend(sent, request, t, up, dn, lo, hi, tolerance).told.any()


def test_few_messages_against_every_subset():
    """Never fewer than the least there can be, never more than one above it, the least itself nearly always."""
    above = []
    for seed in range(160):
        rng = np.random.default_rng(seed)
        fleet = leaning(rng, int(rng.integers(2, 10)))
        sent, request = sent_to(fleet, count=5)
        now = moved(rng, fleet, rng.choice([0.15, 0.4]))
        request = request + rng.choice([0.0, 0.0, 3.0, -3.0])
        result = resend(sent, request, *now, 0.01)
        check(result, sent, request, now, 0.01)
        least = twin.fewest_told(sent.tolist(), request.tolist(), now[3].tolist(), now[4].tolist(), 0.01)
        above.append(int(result.told.sum()) - least)
    assert min(above) == 0
    assert max(above) <= 1
    assert sum(above) <= 8


def test_those_told_are_divided_at_their_optimum():
    """Over what the other curves leave, knot by knot."""
    rng = np.random.default_rng(11)
    fleet = leaning(rng, 30)
    sent, request = sent_to(fleet)
    now = moved(rng, fleet, 0.3)
    result = resend(sent, request, *now, 1e-6)
    assert 2 <= result.told.sum() < 30
    rest = request - sent[~result.told].sum(axis=0)
    told = [x[result.told].tolist() for x in now]
    for j, kw in enumerate(rest.tolist()):
        np.testing.assert_allclose(result.kw[result.told, j], naive.split(kw, *told), rtol=0, atol=1e-8)


class TestByHand:
    """Ten vehicles of +-10 kW, curves +5 / 0 / -5 kW."""

    sent = np.tile([5.0, 0.0, -5.0], (10, 1))
    request = np.array([50.0, 0.0, -50.0])

    def fleet(self, hi):
        hi = np.asarray(hi, float)
        return np.zeros(10), np.maximum(hi, 1.0), np.full(10, 10.0), np.full(10, -10.0), hi

    def test_one_loses_4_kw_and_one_other_makes_up_for_it(self):
        result = resend(self.sent, self.request, *self.fleet([1.0] + [10.0] * 9), 0.01)
        assert np.flatnonzero(result.told).tolist() == [0, 1]
        # Divided by their willingness, 1 to 10, at every knot.
        assert result.kw[0].tolist() == pytest.approx([10 / 11, 0.0, -5.0], abs=1e-9)
        assert result.kw[1].tolist() == pytest.approx([100 / 11, 0.0, -5.0], abs=1e-9)

    def test_a_tolerance_wide_enough_keeps_the_others_quiet(self):
        result = resend(self.sent, self.request, *self.fleet([1.0] + [10.0] * 9), 4.0)
        assert np.flatnonzero(result.told).tolist() == [0]
        assert result.open_kw.tolist() == pytest.approx([4.0, 0.0, 0.0], abs=1e-9)

    def test_whoever_can_give_most_is_asked(self):
        hi = [1.0, 6.0, 6.0, 6.0, 6.0, 9.5, 6.0, 6.0, 6.0, 6.0]
        result = resend(self.sent, self.request, *self.fleet(hi), 0.01)
        assert np.flatnonzero(result.told).tolist() == [0, 5]

    def test_one_told_anyway_makes_up_for_another(self):
        """Vehicle 0 lost room at the first knot, vehicle 1 at the last: each has what the other lacks."""
        fleet = self.fleet([1.0] + [10.0] * 9)
        fleet[3][1] = -3.0
        result = resend(self.sent, self.request, *fleet, 0.01)
        assert np.flatnonzero(result.told).tolist() == [0, 1]
        check(result, self.sent, self.request, fleet, 0.01)
        assert result.kw[:2, 2].tolist() == pytest.approx([-7.0, -3.0], abs=1e-9)

    def test_both_directions_at_once(self):
        """Too much at one knot, too little at another: one vehicle serves both with one message."""
        result = resend(self.sent, self.request + np.array([3.0, 0.0, 4.0]), *self.fleet([10.0] * 10), 0.01)
        assert result.told.sum() == 1
        assert result.kw[result.told][0].tolist() == pytest.approx([8.0, 0.0, -1.0])

    @pytest.mark.parametrize(
        ("room", "told"),
        [
            ([[6, 6], [10, 0], [0, 10]], [1, 2]),  # the first serves both knots, until each has its own
            ([[5, 5], [4.5, 4.5], [9, 0], [0, 9]], [0, 2, 3]),  # either of the first two can be spared, not both
        ],
    )
    def test_those_whom_later_ones_made_superfluous_do_not_hear(self, room, told):
        sent = 10.0 - np.array(room)
        ten = np.full(len(room), 10.0)
        fleet = (0 * ten, ten, ten, 0 * ten, ten)
        request = sent.sum(axis=0) + 10.0
        result = resend(sent, request, *fleet, 1e-6)
        assert np.flatnonzero(result.told).tolist() == told
        check(result, sent, request, fleet, 1e-6)

    def test_infeasible_leaves_all_there_is_not_at_its_end(self):
        result = resend(self.sent, self.request * 3, *self.fleet([10.0] * 10), 0.01)
        assert result.told.all()
        assert result.kw[:, 0].tolist() == [10.0] * 10
        assert result.open_kw.tolist() == pytest.approx([50.0, 0.0, -50.0])
        assert resend(np.full((2, 1), 5.0), [30.0], [0, 0], [5, 5], [5, 5], [-5, -5], [5, 5], 0.0).told.sum() == 0


def test_no_vehicle():
    result = resend(np.zeros((0, 3)), [1.0, 0.0, -1.0], [], [], [], [], [], 0.1)
    assert result.kw.shape == (0, 3)
    assert result.open_kw.tolist() == [1.0, 0.0, -1.0]


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(1, 30), st.integers(1, 4))
def test_take_is_the_greedy_choice(seed, n, k):
    """Offers that are looked at again only when they come to the top choose as if all were looked at every time."""
    rng = np.random.default_rng(seed)
    room, need = rng.choice([0.0, 1.0, 2.5, 4.0], (n, k)) + 1e-3 * rng.random((n, k)), rng.uniform(0, 2 * n, k)
    first = np.minimum(room, need).sum(axis=1)
    heap = np.argsort(-first, kind="stable")
    missing = need.copy()
    count = take(heap, first, room, missing)
    left, free = need.copy(), set(range(n))
    for i in heap[n - count :][::-1].tolist():
        largest = max(np.minimum(room[j], left).sum() for j in free)
        assert np.minimum(room[i], left).sum() == pytest.approx(largest, abs=1e-12)  # of equals anyone
        assert largest > 0
        left -= np.minimum(room[i], left)
        free.remove(i)
    np.testing.assert_array_equal(missing, left)
    assert all(np.minimum(room[j], left).sum() == 0 for j in free)
    assert sorted(heap.tolist()) == list(range(n))


def test_sink_restores_the_heap():
    offers = np.array([1.0, 9.0, 8.0, 3.0, 7.0])
    heap = np.array([0, 1, 2, 3, 4])
    sink(heap, offers, 5)
    assert heap.tolist() == [1, 4, 2, 3, 0]
    sink(heap, offers, 1)
    assert heap.tolist() == [1, 4, 2, 3, 0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sent_kw": [[math.nan]]}, "sent_kw: takes finite numbers; 1 are not"),
        ({"sent_kw": [1.0]}, r"sent_kw: takes 2 axes, got shape \(1,\)"),
        ({"sent_kw": [[1.0, 2.0]]}, r"sent_kw: takes 1 rows of 1 powers, got shape \(1, 2\)"),
        ({"request_kw": [math.inf]}, "request_kw: takes finite"),
        ({"request_kw": 1.0}, "request_kw: takes 1 axes"),
        ({"tolerance_kw": -1.0}, "tolerance_kw: takes a finite number, 0 or more"),
        ({"tolerance_kw": math.nan}, "tolerance_kw: takes a finite number"),
        ({"lo": [2.0]}, "lo: must not be above hi"),
    ],
)
def test_doors(changed, message):
    good = {
        "sent_kw": [[0.5]], "request_kw": [0.5], "t": [0.0], "s_up": [1.0], "s_dn": [1.0], "lo": [-1.0], "hi": [1.0],
        "tolerance_kw": 0.1,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        resend(**good | changed)
