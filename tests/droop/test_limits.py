"""Bounds and reasons of one vehicle against the twin, a table of reasons, and what they must guarantee over time."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import math
import random

import numpy as np
import pytest

from droop.bounds import Rules, narrow, no_tree, renew_due, room
from droop.fleet import SEGMENTS, allocate_totals
from droop.limits import Ages, Derating, needed_kwh, ramped
from droop.reasons import Reason
from droop.refresh import DAY_NS, refresh, scratch
from droop.split import LAM_MAX, LAM_MIN, solve
from droop.weights import Means
from tests import naive

S = naive.S_NS
NOW = 1_700_000_000 * S
AGES = Ages(3.0, 5.0, 2.0)
MEAN, MOVED = 0.4, 0.03
ROOM = scratch()
# The twin's figures, whatever the defaults may become.
DERATING = Derating(0.9, 0.2, 0.1, 0.2, 0.0, -20.0, 45.0, 55.0, 5.0)


def aware(totals):
    """Totals that know what day it is, so that the day's throughput stands."""
    totals.day[:] = NOW // DAY_NS
    return totals


def refresh_due(fleet, totals, now_ns, period_ns, ages):
    place = room(no_tree(fleet.state.size), totals, fleet.state.size)
    done = renew_due(fleet, totals, place, now_ns, Rules(ages, DERATING, period_ns=period_ns))
    return done.bit_count()


def car(**changes):
    """60 kWh at 36 kWh, window 18..54 kWh, 11 kW both ways, fresh, nothing asked of it."""
    return naive.Car(**{"report_ns": NOW, "energy_ns": NOW, **changes})


def renewed(as_fleet, cars, now_ns=NOW, ages=AGES, mean=MEAN):
    fleet, totals = as_fleet(cars), aware(allocate_totals())
    renew(fleet, totals, now_ns, ages, mean)
    return fleet, totals


def renew(fleet, totals, now_ns=NOW, ages=AGES, mean=MEAN):
    for segment in range(SEGMENTS):
        refresh(fleet, totals, segment, segment + 1, now_ns, ages, DERATING, Means(mean, MOVED), ROOM)
        narrow(fleet, totals, segment, now_ns)


def bands(cars, now_ns=NOW, ages=AGES):
    return [naive.ramped(one, naive.band(one, now_ns, *ages[:3]), one.doing(now_ns), ages[3]) for one in cars]


@pytest.mark.parametrize("seed", range(60))
def test_bounds_plan_and_reasons_are_the_twins(as_fleet, seed):
    rng = random.Random(seed)
    cars = [naive.some_car(rng, NOW) for _ in range(64)]
    fleet, totals = renewed(as_fleet, cars)
    expected = bands(cars)
    for name, want in (("free_lo_kw", "lo"), ("free_hi_kw", "hi"), ("plan_kw", "plan")):
        values = [getattr(b, want) for b in expected]
        np.testing.assert_allclose(getattr(fleet, name), values, rtol=2e-7, atol=1e-6)
    np.testing.assert_array_equal(fleet.lo_kw, fleet.free_lo_kw)
    np.testing.assert_array_equal(fleet.hi_kw, fleet.free_hi_kw)
    assert [Reason(x).name for x in fleet.reason_up] == [Reason(b.up).name for b in expected]
    assert [Reason(x).name for x in fleet.reason_down] == [Reason(b.down).name for b in expected]
    assert (fleet.free_lo_kw <= fleet.plan_kw).all()
    assert (fleet.plan_kw <= fleet.free_hi_kw).all()
    for one, b, up, dn, lo, hi, plan in zip(
        cars, expected, fleet.slope_up, fleet.slope_dn, fleet.free_lo_kw, fleet.free_hi_kw, fleet.plan_kw, strict=True
    ):
        g_up, g_dn = naive.willing(one, b, MEAN, MOVED)
        assert up == pytest.approx(max((float(hi) - float(plan)) * g_up, 1e-6), rel=1e-6)
        assert dn == pytest.approx(max((float(plan) - float(lo)) * g_dn, 1e-6), rel=1e-6)
    check_totals(cars, expected, fleet, totals)


def check_totals(cars, expected, fleet, totals):
    for name in ("lo_kw", "hi_kw", "plan_kw"):
        assert getattr(totals, name).sum() == pytest.approx(math.fsum(getattr(fleet, name).tolist()), abs=1e-9)
    gone = (naive.NO_VEHICLE, naive.FAULTY, naive.STALE, naive.REFUSED)
    counted = [(one, b) for one, b in zip(cars, expected, strict=True) if b.up not in gone]
    assert totals.fresh.sum() == len(counted)
    assert totals.stored_kwh.sum() == pytest.approx(sum(b.fill for _, b in counted))
    assert totals.window_kwh.sum() == pytest.approx(sum(b.span for _, b in counted))
    assert totals.usable_kwh.sum() == pytest.approx(sum(one.usable_kwh for one, _ in counted))
    assert totals.moved_kwh.sum() == pytest.approx(sum(one.moved_kwh for one, _ in counted))


def test_totals_are_renewed_not_added(as_fleet, cars):
    fleet, totals = renewed(as_fleet, cars)
    before = [column.copy() for column in totals]
    renew(fleet, totals)
    for a, b in zip(before, totals, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rows", [0, 1, 5, 7, 8, 9, 64])
def test_segments_cover_every_row_once(as_fleet, rows):
    fleet, totals = renewed(as_fleet, [car() for _ in range(rows)])
    assert totals.fresh.sum() == rows
    assert (fleet.hi_kw == 11).all()
    assert totals.hi_kw.sum() == 11 * rows


# 2 s of 11 kW at efficiency 0.95 take 0.006433 kWh out of the battery and put 0.005806 kWh in.
TIGHT = 0.003
DAY_H = 24 * 3600 * S

REASONS = {
    "rating both ways": (car(), "RATING", "RATING", 11, -11),
    "one-way charger": (car(discharge_max_kw=0.0), "RATING", "RATING", 0, -11),
    "at the floor of the window": (car(energy_kwh=18.0), "SOC", "RATING", 0, -11),
    "below the floor": (car(energy_kwh=10.0), "SOC", "RATING", 0, -11),
    "next to the floor": (car(energy_kwh=18.0 + TIGHT), "SOC", "RATING", TIGHT * 0.95 * 1800, -11),
    "at the ceiling": (car(energy_kwh=54.0), "RATING", "SOC", 11, 0),
    "above the ceiling": (car(energy_kwh=58.0), "RATING", "SOC", 11, 0),
    "next to the ceiling": (car(energy_kwh=54.0 - TIGHT), "RATING", "SOC", 11, -TIGHT / 0.95 * 1800),
    "floor, aged, and it would not bind unaged": (
        car(soh_frac=0.7, energy_kwh=18.0 + 0.0055), "SOH", "RATING", 0.0055 * 0.95 * 1800, -11),
    "floor, aged, and it would bind unaged": (
        car(soh_frac=0.7, energy_kwh=18.0 + TIGHT), "SOC", "RATING", TIGHT * 0.95 * 1800, -11),
    "ceiling, aged, and it would not bind unaged": (
        car(soh_frac=0.7, energy_kwh=54.0 - 0.0055), "RATING", "SOH", 11, -0.0055 / 0.95 * 1800),
    "ceiling, aged, and it would bind unaged": (
        car(soh_frac=0.7, energy_kwh=54.0 - TIGHT), "RATING", "SOC", 11, -TIGHT / 0.95 * 1800),
    "depth of discharge": (car(dod_floor_kwh=36.0), "DOD", "RATING", 0, -11),
    "past the depth of discharge: no forced charge": (car(dod_floor_kwh=40.0), "DOD", "RATING", 0, -11),
    "departure far off": (car(depart_ns=NOW + DAY_H, depart_kwh=54.0), "RATING", "RATING", 11, -11),
    "departure met already": (car(depart_ns=NOW + S, depart_kwh=20.0), "RATING", "RATING", 11, -11),
    "departure needs full charging": (
        car(depart_ns=NOW + 600 * S, depart_kwh=54.0), "DEPARTURE", "RATING", -11, -11),
    "departure past and not met": (car(depart_ns=NOW - 9 * S, depart_kwh=54.0), "DEPARTURE", "RATING", -11, -11),
    "departure unknown": (car(depart_ns=0, depart_kwh=54.0), "RATING", "RATING", 11, -11),
    "departure wants more than the ceiling": (
        car(energy_kwh=54.0, depart_ns=NOW - S, depart_kwh=60.0), "DEPARTURE", "SOC", 0, 0),
    "departure wants more than the ceiling, and there is time": (
        car(energy_kwh=54.0, depart_ns=NOW + 60 * S, depart_kwh=60.0), "RATING", "SOC", 11, 0),
    "above the ceiling and departing: safety first": (
        car(energy_kwh=55.0, depart_ns=NOW + 60 * S, depart_kwh=60.0), "RATING", "SOC", 11, 0),
    "unplugged": (car(state=naive.UNPLUGGED), "UNPLUGGED", "UNPLUGGED", 0, 0),
    "fault": (car(state=naive.FAULT), "FAULT", "FAULT", 0, 0),
    "a state nobody knows": (car(state=7), "FAULT", "FAULT", 0, 0),
    "fresh to the last": (car(report_ns=NOW - 3 * S), "RATING", "RATING", 11, -11),
    "held half way": (car(report_ns=NOW - 4 * S), "HELD", "HELD", 5.5, -5.5),
    "held, charging at 2 kW": (
        car(report_ns=NOW - 4 * S, command_kw=-2.0, valid_until_ns=NOW + S), "HELD", "HELD", 4.5, -6.5),
    "stale, told nothing": (car(report_ns=NOW - 5 * S), "STALE", "STALE", 0, 0),
    "stale, command standing": (
        car(report_ns=NOW - 5 * S, command_kw=4.0, valid_until_ns=NOW + S), "STALE", "STALE", 4, 4),
    "stale, command expired": (
        car(report_ns=NOW - 9 * S, command_kw=4.0, valid_until_ns=NOW, safe_kw=-1.4), "STALE", "STALE", -1.4, -1.4),
}  # fmt: skip


@pytest.mark.parametrize("case", REASONS, ids=list(REASONS))
def test_reason(as_fleet, case):
    one, up, down, hi, lo = REASONS[case]
    fleet, _ = renewed(as_fleet, [one])
    assert (Reason(fleet.reason_up[0]).name, Reason(fleet.reason_down[0]).name) == (up, down)
    assert fleet.hi_kw[0] == pytest.approx(hi, rel=1e-6, abs=1e-6)
    assert fleet.lo_kw[0] == pytest.approx(lo, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("one", "plan_kw"),
    [
        (car(), 0.0),
        (car(depart_ns=NOW + 10 * 3600 * S, depart_kwh=45.5), -1.0),
        (car(depart_ns=NOW + 10 * 3600 * S, depart_kwh=30.0), 0.0),
        (car(depart_ns=NOW + 3600 * S, depart_kwh=54.0), -11.0),
        (car(depart_ns=NOW + 10 * 3600 * S, depart_kwh=60.0), -18 / 9.5),  # no further than the ceiling
        (car(depart_ns=NOW - S, depart_kwh=40.0), -11.0),
    ],
    ids=["no departure", "9.5 kWh in 10 h", "enough aboard", "more than it can", "beyond the ceiling", "too late"],
)
def test_plan(as_fleet, one, plan_kw):
    assert renewed(as_fleet, [one])[0].plan_kw[0] == pytest.approx(plan_kw, rel=1e-6)


@pytest.mark.parametrize("age_s", [5.0, 5.1, 6.0, 60.0])
@pytest.mark.parametrize("command_kw", [-3.0, 0.0, 3.0])
def test_no_new_discharge_when_stale(as_fleet, age_s, command_kw):
    """What it was told stands until it expires; nothing is added, and afterwards it is at its safe profile."""
    one = car(report_ns=NOW - int(age_s * S), command_kw=command_kw, valid_until_ns=NOW + S, safe_kw=-1.0)
    fleet, totals = renewed(as_fleet, [one])
    assert fleet.lo_kw[0] == fleet.hi_kw[0] == fleet.plan_kw[0] == command_kw
    assert totals.fresh.sum() == 0
    fleet, _ = renewed(as_fleet, [one], NOW + S)
    assert fleet.lo_kw[0] == fleet.hi_kw[0] == -1.0


@pytest.mark.parametrize(
    ("up", "down", "hi", "lo", "whys"),
    [
        (0.981, 0.999999, 11.0, -11.0, (Reason.RATING, Reason.RATING)),  # the meter's class
        (1.019, 1.1, 11.0, -11.0, (Reason.RATING, Reason.RATING)),
        (0.7, 1.0, 7.7, -11.0, (Reason.RESPONSE, Reason.RATING)),
        (1.0, 0.3, 11.0, -3.3, (Reason.RATING, Reason.RESPONSE)),
    ],
)
def test_each_direction_has_its_gain_and_within_the_meters_class_it_takes_nothing(as_fleet, up, down, hi, lo, whys):
    fleet, _ = renewed(as_fleet, [car(gain_up=up, gain_dn=down)])
    assert (fleet.free_hi_kw[0], fleet.free_lo_kw[0]) == pytest.approx((hi, lo), rel=1e-6)
    assert (fleet.own_up[0], fleet.own_down[0]) == whys


def test_capability_shrinks_steadily_while_held(as_fleet):
    his = [renewed(as_fleet, [car(report_ns=NOW - a * S // 10)])[0].hi_kw[0] for a in range(30, 51)]
    np.testing.assert_allclose(his, np.linspace(11, 0, 21), atol=1e-5)


@pytest.mark.parametrize("horizon_s", [2.0, 5.0])
@pytest.mark.parametrize("period_s", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("depart_s", [40.0, 617.0, 1200.0])
@pytest.mark.parametrize("missing", [0.0, 0.5, 0.97, 1.0], ids=lambda x: f"{x:g} of what can be charged")
def test_departure_energy_is_met_whenever_it_can_be(as_fleet, depart_s, period_s, missing, horizon_s):
    """The worst customer: full discharge asked at every moment up to the departure."""
    one = car(depart_ns=NOW + int(depart_s * S))
    one.depart_kwh = one.energy_kwh + missing * 11 * 0.95 * depart_s / 3600
    at_ns, ages = NOW, Ages(3.0, 5.0, horizon_s)
    while at_ns < one.depart_ns:
        one.report_ns = at_ns
        fleet, _ = renewed(as_fleet, [one], at_ns, ages)
        one.command_kw, one.valid_until_ns = float(fleet.hi_kw[0]), at_ns + 60 * S
        next_ns = min(at_ns + int(period_s * S), one.depart_ns)
        one.energy_kwh, one.energy_ns = one.energy_at(next_ns), next_ns
        at_ns = next_ns
    assert one.energy_kwh >= one.depart_kwh - 1e-6
    if missing == 0.5:
        # And no better than needed: the product got the rest.
        assert one.energy_kwh <= one.depart_kwh + 0.01


@pytest.mark.parametrize("doing", [-11.0, -5.0, -4.0, -1.0, 0.0, 2.0, 4.0, 4.5, 10.0])
@pytest.mark.parametrize("reach", [0.0, 0.5, 3.0, 30.0, math.inf])
@pytest.mark.parametrize(("least_up", "least_dn"), [(0.0, 0.0), (4.0, 4.0), (4.0, 1.5)])
def test_a_charger_ramps_but_steps_over_its_least_power(doing, reach, least_up, least_dn):
    """Against what it can do: go by `reach`, and from the edges of the hole, and inside it, to nothing and across."""
    lo, hi = ramped(-11.0, 11.0, doing, reach, least_up, least_dn)

    def gets(power):
        if abs(power - doing) <= reach:
            return True
        inside = -least_dn < doing < least_up
        up_to_nothing = doing <= -least_dn and doing + reach > -least_dn and power <= 0.0
        down_to_nothing = doing >= least_up and doing - reach < least_up and power >= 0.0
        between = min(doing, 0.0) <= power <= max(doing, 0.0)
        return (inside and -least_dn <= power <= least_up) or (between and (up_to_nothing or down_to_nothing))

    for power in np.linspace(-11.0, 11.0, 89):
        if not math.isclose(abs(power - doing), reach):
            assert (lo <= power <= hi) == gets(power), power


def test_renewing_often_gives_no_more_ramp(as_fleet):
    """0.5 kW/s, looked at ten times a second: in 3 s it may go by 1.5 kW, and by its first second's."""
    fleet, totals = as_fleet([car(ramp_kw_s=0.5) for _ in range(8)]), aware(allocate_totals())
    for k in range(31):
        now = NOW + k * S // 10
        fleet.report_ns[:] = fleet.energy_ns[:] = now
        renew(fleet, totals, now)
        fleet.command_kw[:], fleet.valid_until_ns[:] = fleet.hi_kw, now + 6 * S
    np.testing.assert_allclose(fleet.hi_kw, 0.5 + 3.0 * 0.5, rtol=1e-6)
    assert (fleet.reason_up == Reason.RAMP).all()


@pytest.mark.parametrize("target", [0.5, 0.86, 0.9, 0.97, 1.0])
@pytest.mark.parametrize("from_frac", [0.6, 0.85])
@pytest.mark.parametrize("least_frac", [0.1, 0.5])
def test_what_must_be_aboard_charges_to_the_target_through_the_taper(target, from_frac, least_frac):
    """Against the charging itself, in small steps: never too little, and nearly as little as it can be."""
    taper, usable, rate = Derating(from_frac, least_frac), 50.0, 10.0
    for left_h in (0.02, 0.1, 0.5, 1.0, 3.0):
        needed = needed_kwh(target * usable, usable, rate, left_h, taper)
        # Backwards in time from the target.
        exact, steps = target * usable, 20_000
        for _ in range(steps):
            share = min(least_frac + (1 - least_frac) * (1 - exact / usable) / (1 - from_frac), 1.0)
            exact -= rate * share * left_h / steps
        assert exact - 1e-3 <= needed <= exact + 0.13 * usable * (1 - from_frac)
    assert needed_kwh(target * usable, usable, rate, math.inf, taper) == -math.inf


@pytest.mark.parametrize(("side", "start_kwh"), [("hi_kw", 18.02), ("lo_kw", 53.98)])
@pytest.mark.parametrize("period_s", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("dod", [0.0, 18.01])
def test_energy_bounds_hold_the_window_at_any_refresh_within_the_horizon(as_fleet, side, start_kwh, period_s, dod):
    one, at_ns = car(energy_kwh=start_kwh, dod_floor_kwh=dod), NOW
    moved = []
    for _ in range(60):
        one.report_ns = at_ns
        fleet, _ = renewed(as_fleet, [one], at_ns)
        one.command_kw, one.valid_until_ns = float(getattr(fleet, side)[0]), at_ns + 60 * S
        moved.append(one.command_kw)
        at_ns += int(period_s * S)
        one.energy_kwh, one.energy_ns = one.energy_at(at_ns), at_ns
        assert max(18.0, dod) - 1e-9 <= one.energy_kwh <= 54.0 + 1e-9
    # Endurance does not starve the tick: near the edge full power is still given once.
    assert abs(moved[0]) == pytest.approx(11.0, rel=1e-6)
    assert abs(moved[-1]) < 0.1


@pytest.mark.parametrize("seed", range(20))
def test_slopes_reach_the_bounds_inside_the_bracket(as_fleet, seed):
    """At +-infinity the solve gives the bounds themselves, to the last bit, after all rounding."""
    rng = random.Random(seed)
    cars = [naive.some_car(rng, NOW) for _ in range(64)]
    for mean in (0.0, 0.3, 1.0):
        fleet, totals = renewed(as_fleet, cars, mean=mean)
        for request, bound, lam in ((1e9, fleet.hi_kw, LAM_MAX), (-1e9, fleet.lo_kw, LAM_MIN)):
            found = solve(
                request, 1e-6, fleet.plan_kw, fleet.slope_up, fleet.slope_dn, fleet.lo_kw, fleet.hi_kw,
                fleet.power_kw, totals.lo_kw.sum(), totals.hi_kw.sum(), np.zeros(0, np.float32), np.zeros(3),
            )  # fmt: skip
            np.testing.assert_array_equal(fleet.power_kw, bound)
            assert found[2] == lam


class TestDue:
    """Which segments are renewed when."""

    def test_all_at_first_then_in_turn(self, as_fleet):
        fleet, totals = as_fleet([car(report_ns=NOW + 60 * S) for _ in range(16)]), allocate_totals()
        done = [refresh_due(fleet, totals, NOW + k * S // 8, S, AGES) for k in range(17)]
        assert done[0] == SEGMENTS
        assert done[1:] == [1] * 16
        assert sorted(np.diff(np.sort(totals.refreshed_ns))) == [S // 8] * 7

    def test_no_segment_waits_longer_than_the_period(self, as_fleet):
        cars = [car(report_ns=NOW + 60 * S) for _ in range(16)]
        fleet, totals = as_fleet(cars), allocate_totals()
        for k in range(100):
            now = NOW + k * S // 10
            refresh_due(fleet, totals, now, S, AGES)
            assert (now - totals.refreshed_ns < S).all()

    def test_a_report_turns_stale_on_time_not_at_the_next_refresh(self, as_fleet):
        """5 s after the report, not up to a period later."""
        cars = [car(report_ns=NOW - k * S // 10) for k in range(16)]
        fleet, totals = as_fleet(cars), allocate_totals()
        for k in range(100):
            now = NOW + k * S // 20
            refresh_due(fleet, totals, now, S, AGES)
            stale = now - fleet.report_ns >= 5 * S
            np.testing.assert_array_equal(fleet.reason_up == Reason.STALE, stale)
            assert (fleet.hi_kw[stale] == 0).all()

    def test_a_silent_chargers_expiry_is_seen_on_time(self, as_fleet):
        cars = [
            car(report_ns=NOW - 5 * S, command_kw=4.0, safe_kw=-1.0, valid_until_ns=NOW + k * S // 7) for k in range(16)
        ]
        fleet, totals = as_fleet(cars), allocate_totals()
        for k in range(60):
            now = NOW + k * S // 20
            refresh_due(fleet, totals, now, S, AGES)
            np.testing.assert_array_equal(fleet.lo_kw, np.where(now < fleet.valid_until_ns, 4.0, -1.0))

    def test_mean_fill_is_the_fleets(self, as_fleet):
        """Half the fleet full, half empty: the full ones lean up, the empty ones down."""
        full, empty = car(energy_kwh=52.0), car(energy_kwh=20.0)
        fleet, totals = as_fleet([full, empty] * 8), allocate_totals()
        refresh_due(fleet, totals, NOW, S, AGES)
        assert totals.stored_kwh.sum() / totals.window_kwh.sum() == pytest.approx(0.5)
        refresh_due(fleet, totals, NOW + 2 * S, S, AGES)
        assert fleet.slope_up[0] > 5 * fleet.slope_up[1]
        assert fleet.slope_dn[1] > 5 * fleet.slope_dn[0]
