"""The simulated fleet: energy in balance, and each imperfection as promised. Virtual time throughout."""

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.config import FleetTable
from aggregator.configured import behaviour
from aggregator.gateways import physics, population, simulated
from aggregator.gateways.population import PERFECT, Behaviour
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.ports import VehicleGateway
from aggregator.setpoints import SETPOINT
from telemetry.samples import SlotState

T0 = 1_790_000_000 * 10**9
MS = 10**6
S = 10**9
H = 3600 * S
FOREVER = T0 + 1000 * H


def perfect_but(**changes):
    return dataclasses.replace(PERFECT, **changes)


def fleet_of(n=200, seed=1, **changes):
    return SimulatedFleet(n, seed, T0, behaviour=perfect_but(**changes))


def rows_for(fleet, setpoint_kw, slots=None):
    slots = np.flatnonzero(fleet.truth().plugged) if slots is None else np.asarray(slots)
    rows = np.zeros(len(slots), SETPOINT)
    rows["slot"], rows["session"] = slots, fleet.truth().session[slots]
    rows["setpoint_kw"] = setpoint_kw
    return rows


def both_ways(fleet):
    """Slots that can do 3 kW either way for a while."""
    truth = fleet.truth()
    return np.flatnonzero((fleet._chargers.discharge_max_kw > 3) & (truth.soc_frac > 0.2) & (truth.soc_frac < 0.8))


# -- energy --------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.tuples(st.floats(0.01, 400), st.floats(-60, 60)), min_size=1, max_size=12))
def test_grid_losses_and_storage_balance(seed, moves):
    """Whatever is asked of it, with cars coming and going."""
    fleet = SimulatedFleet(60, seed, T0, behaviour=Behaviour(stay_h=0.5, dropouts_per_h=5, refusals_per_h=5))
    now = T0
    for span_s, kw in moves:
        fleet.apply(rows_for(fleet, kw), now + 300 * S, now)
        now += int(span_s * S)
        fleet.advance(now)
    energy = fleet.energy()
    scale = abs(energy.grid_kwh) + energy.losses_kwh + energy.arrived_kwh + energy.left_kwh + energy.start_kwh
    assert abs(energy.residual_kwh) <= 1e-9 * scale
    assert energy.losses_kwh >= 0
    soc = fleet.truth().soc_frac[fleet.truth().plugged]
    assert soc.min() >= 0
    assert soc.max() <= 1


def test_the_register_is_the_integral_of_the_power():
    fleet = fleet_of(ramp_kw_s=(5.0, 50.0), dead_s=(0.1, 0.8))
    rng = np.random.default_rng(3)
    now, integral_kwh, before_kw = T0, 0.0, 0.0
    for step in range(20_000):
        if step % 500 == 0:
            fleet.apply(rows_for(fleet, rng.uniform(-8, 8, 200)), now + 60 * S, now)
        now += MS
        fleet.advance(now)
        after_kw = fleet.truth().power_kw.sum()
        integral_kwh += (before_kw + after_kw) / 2 * 1e-3 / 3600
        before_kw = after_kw
    # The corners of ramps lie within milliseconds: the trapezium is off by their share of the energy moved.
    assert fleet.energy().grid_kwh == pytest.approx(integral_kwh, abs=2e-3)


def test_losses_follow_the_loss_form_both_ways():
    """eta(p) = p / (p + P0 + K p^2), p in units of the rating: rulebook 9.2."""
    for sign in (1.0, -1.0):
        fleet = fleet_of(lossless=False)
        slots = both_ways(fleet)
        asked_kw = sign * 0.25 * fleet._chargers.rating_kw[slots]
        before = fleet.truth().energy_kwh[slots]
        fleet.apply(rows_for(fleet, asked_kw, slots), FOREVER, T0)
        fleet.advance(T0 + 600 * S)
        drawn_kwh = before - fleet.truth().energy_kwh[slots]
        fixed, square = fleet._chargers.loss_fixed_pu[slots], fleet._chargers.loss_square_pu[slots]
        loss_kw = (fixed + square * 0.25**2) * fleet._chargers.rating_kw[slots]
        np.testing.assert_allclose(drawn_kwh, (asked_kw + loss_kw) / 6, rtol=1e-6)


def test_the_fitted_preset_meets_the_measured_charger():
    """The 7.4 kW on-board charger of rulebook 9.2, within half a percent from 5 % of its rating up."""
    kw = np.array([0.336, 0.673, 1.009, 1.345, 1.682, 2.018, 2.354, 3.027, 3.7, 4.71, 7.4])
    eta = np.array([0.8375, 0.9172, 0.9430, 0.9555, 0.9618, 0.9655, 0.9681, 0.9709, 0.9719, 0.9723, 0.9723])
    fixed, square = population.LOSSES[3]
    p = kw / 7.4
    np.testing.assert_allclose(p / (p + fixed + square * p * p), eta, atol=0.006)


def test_a_charger_at_rest_loses_nothing():
    fleet = fleet_of(lossless=False)
    fleet.apply(rows_for(fleet, 0.0), FOREVER, T0)
    fleet.advance(T0 + H)
    assert fleet.energy().losses_kwh == 0


# -- a perfect fleet -----------------------------------------------------------------------------------------------


def test_a_perfect_fleet_follows_exactly_and_at_once():
    fleet = SimulatedFleet(300, 5, T0, perfect=True)
    slots = both_ways(fleet)
    rng = np.random.default_rng(0)
    now = T0
    for _ in range(50):
        asked_kw = rng.uniform(-3, 3, slots.size).astype(np.float32)
        assert fleet.apply(rows_for(fleet, asked_kw, slots), now + 60 * S, now) == 0
        now += 20 * MS
        fleet.advance(now)
        assert (fleet.truth().power_kw[slots] == asked_kw).all()
    energy = fleet.energy()
    assert energy.losses_kwh == 0
    assert fleet.truth().plugged.all()


def test_ratings_bind_and_one_directional_chargers_do_not_discharge():
    fleet = fleet_of()
    fleet.apply(rows_for(fleet, 500.0), FOREVER, T0)
    fleet.advance(T0 + MS)
    np.testing.assert_array_equal(fleet.truth().power_kw, fleet._chargers.discharge_max_kw)
    assert 0.7 < (fleet._chargers.discharge_max_kw > 0).mean() < 0.9
    fleet.apply(rows_for(fleet, -500.0), FOREVER, T0 + MS)
    fleet.advance(T0 + 2 * MS)
    np.testing.assert_array_equal(fleet.truth().power_kw, -fleet._chargers.rating_kw)


@pytest.mark.parametrize("taper_frac", [0.05, 0.001])
@pytest.mark.parametrize("step_ns", [20 * MS, 10 * S, H])
def test_batteries_stop_at_empty_and_full(taper_frac, step_ns):
    for kw, end in ((50.0, 0.0), (-50.0, 1.0)):
        fleet = fleet_of(
            20, charge_taper_frac=(taper_frac, taper_frac), discharge_taper_frac=taper_frac, lossless=False
        )
        able = fleet._chargers.discharge_max_kw > 20 if kw > 0 else fleet._chargers.rating_kw > 20
        fleet.apply(rows_for(fleet, kw), FOREVER, T0)
        hours = 6 if step_ns > S else 0.02
        for now in range(T0, T0 + int(hours * H), step_ns):
            fleet.advance(now + step_ns)
        soc = fleet.truth().soc_frac
        assert soc.min() >= 0
        assert soc.max() <= 1
        if hours == 6:
            np.testing.assert_allclose(soc[able], end, atol=physics.END_FRAC * taper_frac + 1e-6)
            assert (fleet.truth().power_kw[able] == 0).all()


def test_power_tapers_near_full():
    fleet = fleet_of(20, charge_taper_frac=(0.05, 0.05))
    fleet.apply(rows_for(fleet, -50.0), FOREVER, T0)
    fleet._c.energy_kwh[:] = 0.98 / fleet._c.per_capacity
    fleet.advance(T0 + MS)
    np.testing.assert_allclose(fleet.truth().power_kw, -0.4 * fleet._chargers.rating_kw, rtol=1e-3)


# -- dead time, ramp, expiry ---------------------------------------------------------------------------------------


def test_a_set_point_acts_after_the_dead_time_and_not_before():
    fleet = fleet_of(dead_s=(0.1, 0.8))
    slots = both_ways(fleet)
    dead_s = fleet._chargers.dead_s[slots]
    assert (dead_s.min() < 0.2, dead_s.max() > 0.7) == (True, True)
    fleet.apply(rows_for(fleet, 2.0, slots), FOREVER, T0)
    for ms in range(0, 1000, 10):
        fleet.advance(T0 + ms * MS)
        acting = fleet.truth().power_kw[slots] != 0
        np.testing.assert_array_equal(acting, fleet._c.dead_ns[slots] < ms * MS)


def test_newer_set_points_do_not_postpone_older_ones():
    """Ten a second into half a second of dead time: each that acts was asked at least a dead time ago, none starves."""
    fleet = fleet_of(1, dead_s=(0.5, 0.5000001), seed=0)
    while not fleet._chargers.discharge_max_kw[0]:
        fleet = fleet_of(1, dead_s=(0.5, 0.5000001), seed=fleet._seed + 1)
    seen = []
    for n in range(100):
        now = T0 + n * 100 * MS
        fleet.advance(now)
        seen.append(fleet.truth().power_kw[0])
        fleet.apply(rows_for(fleet, 0.01 * (n + 1)), FOREVER, now)
    asked_at = np.rint(np.array(seen) / 0.01) - 1  # which set-point acts
    age = np.arange(100) - asked_at
    assert (age[6:] >= 5).all()
    assert (age[6:] <= 11).all()
    assert len(set(seen)) > 15


def test_ramps_are_straight_and_as_steep_as_promised():
    fleet = fleet_of(ramp_kw_s=(5.0, 50.0))
    slots = both_ways(fleet)
    fleet.apply(rows_for(fleet, 3.0, slots), FOREVER, T0)
    ramp = fleet._chargers.ramp_kw_s[slots]
    assert (ramp.min() < 10, ramp.max() > 40) == (True, True)
    for ms in (10, 20, 55, 100, 700):
        fleet.advance(T0 + ms * MS)
        np.testing.assert_allclose(fleet.truth().power_kw[slots], np.minimum(3.0, ramp * ms / 1000), rtol=1e-6)
    fleet.apply(rows_for(fleet, -3.0, slots), FOREVER, T0 + 700 * MS)
    fleet.advance(T0 + 750 * MS)
    np.testing.assert_allclose(fleet.truth().power_kw[slots], np.maximum(-3.0, 3.0 - ramp * 0.05), rtol=1e-6)


@pytest.mark.parametrize("step_ns", [20 * MS, 7 * S])
def test_an_expired_command_gives_way_to_the_safe_profile(step_ns):
    fleet = fleet_of(safe_charge_frac=0.5)
    slots = both_ways(fleet)
    safe_kw = fleet._chargers.safe_kw[slots]
    assert 0 < (safe_kw < 0).sum() < slots.size
    fleet.apply(rows_for(fleet, 2.0, slots), T0 + 5 * S, T0)
    fleet.advance(T0 + 5 * S - 1)
    assert (fleet.truth().power_kw[slots] == 2.0).all()
    before = fleet.truth().energy_kwh[slots]
    for now in range(T0 + 5 * S, T0 + 12 * S, step_ns):
        fleet.advance(now + step_ns)
    spent_s = (fleet.now_ns - T0 - 5 * S) / S
    np.testing.assert_array_equal(fleet.truth().power_kw[slots], safe_kw)
    np.testing.assert_allclose(before - fleet.truth().energy_kwh[slots], safe_kw * spent_s / 3600, atol=1e-9)


def test_a_command_that_expires_within_its_dead_time_never_acts():
    fleet = fleet_of(dead_s=(0.5, 0.6))
    slots = both_ways(fleet)
    fleet.apply(rows_for(fleet, 2.0, slots), T0 + 400 * MS, T0)
    for ms in range(0, 2000, 50):
        fleet.advance(T0 + ms * MS)
        assert (fleet.truth().power_kw == 0).all()


def test_a_renewed_command_does_not_expire_in_between():
    fleet = fleet_of(dead_s=(0.1, 0.8))
    slots = both_ways(fleet)
    for n in range(20):
        now = T0 + n * S
        fleet.apply(rows_for(fleet, 2.0, slots), now + 3 * S, now)
        fleet.advance(now + S)
        assert (fleet.truth().power_kw[slots] == 2.0).all()


# -- refusal, drop-out, sessions -----------------------------------------------------------------------------------


def test_a_refusing_charger_says_yes_and_does_nothing():
    fleet = fleet_of(400, refusals_per_h=20.0)
    fleet.advance(T0 + 300 * S)
    refusing = np.intersect1d(np.flatnonzero(fleet.truth().refusing), both_ways(fleet))
    assert refusing.size > 20
    assert fleet.apply(rows_for(fleet, 2.0), FOREVER, fleet.now_ns) == 0
    assert fleet.vanished == fleet.truth().refusing.sum()
    now = fleet.now_ns + 100 * MS
    fleet.advance(now)
    assert (fleet.truth().power_kw[refusing] == 0).all()
    reported = np.concatenate([fleet.reports(now + n * S) for n in range(1, 4)])
    assert np.isin(refusing, reported["slot"]).all()
    assert (reported["state"] == SlotState.PLUGGED).all()


@pytest.mark.parametrize(
    ("name", "rate", "shortest_s", "longest_s"),
    [("refusing", "refusals_per_h", 30, 120), ("linked", "dropouts_per_h", 10, 60)],
)
def test_refusals_and_drop_outs_come_at_their_rate_and_last_as_long_as_promised(name, rate, shortest_s, longest_s):
    fleet = fleet_of(300, **{rate: 2.0})
    flags = []
    for n in range(4 * 3600):
        fleet.advance(T0 + n * S)
        flag = getattr(fleet.truth(), name)
        flags.append(flag if name == "refusing" else ~flag)
    flags = np.array(flags).T
    lengths = []
    for row in flags:
        edges = np.flatnonzero(np.diff(row.astype(int)))
        lengths += [b - a for a, b in zip(edges[::2], edges[1::2], strict=False) if not row[0]]
    assert min(lengths) >= shortest_s - 1
    # Two in a row, less than a second apart, look like one: rare.
    assert sum(length > longest_s + 1 for length in lengths) <= 0.005 * len(lengths)
    assert len(lengths) == pytest.approx(300 * 4 * 2.0, rel=0.1)


def test_a_lost_link_loses_reports_and_commands_but_no_session():
    fleet = fleet_of(400, dropouts_per_h=60.0, stay_h=0.5, occupied_frac=0.7)
    known = {}
    heard = 0
    for n in range(1200):
        now = T0 + n * S
        for row in fleet.sessions(now):
            if row["state"] == SlotState.PLUGGED:
                assert row["slot"] not in known
                known[row["slot"]] = row["session"]
            else:
                assert known.pop(row["slot"]) == row["session"]
            heard += 1
            assert row["t_ns"] <= row["rx_ns"] == now
        truth = fleet.truth()
        reports = fleet.reports(now)
        assert truth.linked[reports["slot"]].all()
        assert truth.plugged[reports["slot"]].all()
        for row in reports:
            assert known[row["slot"]] == row["session"]
        lost = ~truth.linked & truth.plugged
        vanished = fleet.vanished
        fleet.apply(rows_for(fleet, 1.0), now + 100, now)
        assert fleet.vanished - vanished == lost.sum()
    assert heard > 400
    linked = fleet.truth().linked
    for slot in np.flatnonzero(linked & fleet.truth().plugged):
        assert known[slot] == fleet.truth().session[slot]


def test_a_command_for_a_car_that_has_left_is_refused():
    fleet = fleet_of(50, stay_h=0.5, occupied_frac=0.7)
    old = rows_for(fleet, 1.0)
    fleet.advance(T0 + 3 * H)
    truth = fleet.truth()
    gone = ~truth.plugged[old["slot"]] | (truth.session[old["slot"]] != old["session"])
    assert gone.sum() > 20
    assert fleet.apply(old, FOREVER, fleet.now_ns) == gone.sum()
    unknown = np.array([(50, 1, 1.0), (2**32 - 1, 1, 1.0)], SETPOINT)
    assert fleet.apply(unknown, FOREVER, fleet.now_ns) == 2
    assert fleet.apply(np.zeros(0, SETPOINT), FOREVER, fleet.now_ns) == 0


@pytest.mark.parametrize("dead_s", [0.0, 3000.0], ids=["acting", "still waiting"])
def test_a_new_car_does_not_inherit_the_old_ones_command(dead_s):
    fleet = fleet_of(300, stay_h=0.5, occupied_frac=0.9, dead_s=(dead_s, dead_s))
    fleet.apply(rows_for(fleet, -1.0), FOREVER, T0)
    before = fleet.truth().session
    fleet.advance(T0 + H)
    truth = fleet.truth()
    new = truth.plugged & (truth.session > before)
    assert new.sum() > 50
    assert (truth.power_kw[new] == 0).all()
    assert (truth.power_kw[~truth.plugged] == 0).all()
    assert (truth.power_kw[truth.plugged & (truth.session == 1) & ~new] == -1).any()


def test_the_fleet_as_found_can_go_both_ways():
    fleet = SimulatedFleet(2000, 3, T0)
    block = fleet.sessions(T0)
    assert block.size / 2000 == pytest.approx(0.85, abs=0.03)
    assert (block["state"] == SlotState.PLUGGED).all()
    assert np.quantile(block["soc_frac"], [0.1, 0.9]) == pytest.approx([0.25, 0.78], abs=0.05)
    assert 38 <= block["capacity_kwh"].min() < 45
    assert 95 < block["capacity_kwh"].max() <= 100
    assert 0.8 <= block["soh_frac"].min() < block["soh_frac"].max() <= 1
    assert set(block["charge_max_kw"]) == set(population.RATINGS_KW.astype(np.float32))
    assert 0.1 < (block["depart_ns"] == 0).mean() < 0.2
    told = block[block["depart_ns"] > 0]
    assert (told["depart_ns"] > T0).all()
    assert 0.02 < (told["depart_kwh"] > told["capacity_kwh"] * told["soh_frac"]).mean() < 0.09
    assert len(set(block["vehicle"])) == block.size
    assert fleet.sessions(T0).size == 0
    assert ((block["eta_charge_frac"] > 0.85) & (block["eta_charge_frac"] < 1)).all()


def test_about_the_same_number_stays_plugged():
    fleet = SimulatedFleet(1000, 3, T0)
    shares = []
    for hour in range(1, 25):
        fleet.advance(T0 + hour * H)
        shares.append(fleet.truth().plugged.mean())
    assert np.mean(shares) == pytest.approx(0.85, abs=0.03)
    assert fleet.truth().session.max() >= 3


# -- what chargers and batteries do not do ---------------------------------------------------------------------------


def test_below_its_least_power_a_charger_pauses():
    fleet = fleet_of(300, minimum_frac=1.0)
    slots = both_ways(fleet)
    least_kw = fleet._chargers.min_kw[slots]
    for asked_kw in (1.37, -1.37, 1.38, -1.38, 2.0, -4.13, 4.14, -3.0):
        # Ratings are above every least power: what is asked happens, or nothing.
        now = fleet.now_ns
        fleet.apply(rows_for(fleet, np.full(slots.size, asked_kw, np.float32), slots), FOREVER, now)
        fleet.advance(now + MS)
        rating = fleet._chargers.rating_kw[slots]
        paused = abs(asked_kw) < least_kw - 1e-9
        expected = np.where(paused, 0.0, np.clip(np.float32(asked_kw), -rating, rating))
        np.testing.assert_array_equal(fleet.truth().power_kw[slots], expected)
    # A watt short of it is rounding, ten are not.
    fleet.apply(rows_for(fleet, least_kw - 0.0005, slots), FOREVER, fleet.now_ns)
    fleet.advance(fleet.now_ns + MS)
    assert (fleet.truth().power_kw[slots[least_kw > 0]] > 1.3).all()
    fleet.apply(rows_for(fleet, least_kw - 0.01, slots), FOREVER, fleet.now_ns)
    fleet.advance(fleet.now_ns + MS)
    assert (fleet.truth().power_kw[slots[least_kw > 0]] == 0).all()


def test_a_set_point_that_waits_is_carried_out_by_the_same_rules():
    fleet = fleet_of(300, minimum_frac=1.0, weak_frac=1.0, dead_s=(0.5, 0.5000001))
    slots = np.intersect1d(both_ways(fleet), np.flatnonzero(fleet._chargers.min_kw == 1.38))
    for asked_kw, expected_kw in ((1.0, 0.0), (2.0, 2.0 * fleet._chargers.gain[slots])):
        now = fleet.now_ns
        fleet.apply(rows_for(fleet, -3.0, slots), FOREVER, now)
        fleet.apply(rows_for(fleet, asked_kw, slots), FOREVER, now + 100 * MS)
        fleet.advance(now + 2 * S)
        np.testing.assert_allclose(fleet.truth().power_kw[slots], expected_kw)


def test_least_powers_are_those_of_six_amperes_and_told():
    fleet = SimulatedFleet(3000, 3, T0)
    block = fleet.sessions(T0)
    rating, least = block["charge_max_kw"], block["min_kw"]
    for kw, of in ((1.38, (3.7, 7.4)), (4.14, (11.0, 22.0))):
        here = least[np.isin(rating, np.float32(of))]
        assert set(here) == {np.float32(0.0), np.float32(kw)}
        assert (here > 0).mean() == pytest.approx(0.95, abs=0.02)
    assert (least[rating == 50] == 0).all()
    np.testing.assert_array_equal(least, fleet._c.min_kw[block["slot"]].astype(np.float32))
    # A slow fall-back is carried out: it is never below what the charger can do.
    falls_back = block["safe_kw"] < 0
    assert (-block["safe_kw"][falls_back] >= least[falls_back]).all()
    assert falls_back.mean() == pytest.approx(0.15, abs=0.03)


def test_batteries_take_less_above_their_knee_and_give_less_near_empty():
    fleet = fleet_of(400, charge_taper_frac=(0.12, 0.18), discharge_taper_frac=0.08)
    rating, c = fleet._chargers.rating_kw, fleet._c
    for soc in (0.8, 0.9, 0.95):
        c.energy_kwh[:] = soc / c.per_capacity
        fleet.apply(rows_for(fleet, -500.0), FOREVER, fleet.now_ns)
        fleet.advance(fleet.now_ns + MS)
        share = -fleet.truth().power_kw / rating
        low, high = np.clip((1 - soc) / np.array([0.18, 0.12]), 0, 1)
        assert share.min() == pytest.approx(low, abs=0.02)
        assert share.max() == pytest.approx(high, abs=0.02)
    able = fleet._chargers.discharge_max_kw > 0
    for soc, share in ((0.09, 1.0), (0.06, 0.75), (0.04, 0.5)):
        c.energy_kwh[:] = soc / c.per_capacity
        fleet.apply(rows_for(fleet, 500.0), FOREVER, fleet.now_ns)
        fleet.advance(fleet.now_ns + MS)
        np.testing.assert_allclose(fleet.truth().power_kw[able] / rating[able], share, rtol=1e-3)


def test_a_few_chargers_give_less_than_they_are_told():
    fleet = fleet_of(3000, weak_frac=0.1)
    slots = both_ways(fleet)
    fleet.apply(rows_for(fleet, 2.0, slots), FOREVER, T0)
    fleet.advance(T0 + MS)
    gain = fleet.truth().power_kw[slots] / 2.0
    weak = gain < 1
    assert weak.mean() == pytest.approx(0.1, abs=0.03)
    assert 0.92 <= gain.min() < 0.93
    assert gain[weak].max() > 0.99
    assert (gain[~weak] == 1).all()
    # The same share while it charges, and least powers count what was asked, not what comes of it.
    fleet.apply(rows_for(fleet, -2.0, slots), FOREVER, T0 + MS)
    fleet.advance(T0 + 2 * MS)
    np.testing.assert_allclose(fleet.truth().power_kw[slots] / -2.0, gain)
    assert fleet._c.gain.max() == 1


def test_liars_lie_from_some_time_on_and_half_of_them_recover():
    fleet = fleet_of(400, liars_frac=1.0, refusals_per_h=5.0)
    refusing = []
    for n in range(6 * 30):
        fleet.advance(T0 + n * 120 * S)
        refusing.append(fleet.truth().refusing)
    begun_s, last_s = fleet._chargers.lies_from_s, fleet._chargers.lies_for_s
    assert begun_s.max() < 4 * 3600
    back = np.isfinite(last_s)
    assert back.mean() == pytest.approx(0.5, abs=0.07)
    assert 1200 <= last_s[back].min() < last_s[back].max() <= 2400
    at_s = np.arange(180)[:, None] * 120
    lying = (at_s > begun_s) & (at_s < begun_s + last_s)
    assert np.array(refusing)[lying].all()  # a short refusal meanwhile does not end it
    honest = np.array(refusing)[~lying]
    assert honest.mean() == pytest.approx(5 * 75 / 3600, rel=0.2)
    liars = np.intersect1d(np.flatnonzero(~back), both_ways(fleet))
    assert fleet.apply(rows_for(fleet, 2.0, liars), FOREVER, fleet.now_ns) == 0
    fleet.advance(fleet.now_ns + 10 * S)
    assert (fleet.truth().power_kw[liars] == 0).all()
    assert fleet_of(3000, liars_frac=0.003)._lie_ns.tolist().count(physics.NEVER) == pytest.approx(2991, abs=9)


def test_batteries_warm_with_what_they_move_and_cool_to_their_surroundings():
    fleet = SimulatedFleet(500, 2, T0, behaviour=perfect_but(temp_told_frac=0.8))
    here = fleet._c.ambient_c
    assert ((here >= 10) & (here <= 26)).all()
    assert (here.reshape(-1, 25) == here[::25, None]).all()  # one climate a place
    assert np.unique(here).size == 20
    first = fleet._c.temp_c.copy()
    assert ((first >= here) & (first < here + 6)).all()
    assert (first - here).max() > 4  # from the road
    fleet.advance(T0 + H)
    np.testing.assert_allclose(fleet._c.temp_c - here, (first - here) * np.exp(-1), atol=1e-6)
    slots = both_ways(fleet)
    # Half an hour at 3 kW, in two pieces of unlike steps; 20 K at a steady 1C.
    start = fleet._c.temp_c[slots] - here[slots]
    fleet.apply(rows_for(fleet, 3.0, slots), FOREVER, fleet.now_ns)
    for step_ns in (1000 * S, *[100 * MS] * 8000):
        fleet.advance(fleet.now_ns + step_ns)
    rise = 20 * 3.0 * fleet._c.per_capacity[slots]
    expected = rise + (start - rise) * np.exp(-0.5)
    np.testing.assert_allclose(fleet._c.temp_c[slots] - here[slots], expected, atol=1e-4)
    block = np.concatenate([fleet.reports(fleet.now_ns + n * S) for n in (1, 2)])
    silent = np.isnan(block["temp_c"])
    assert silent.mean() == pytest.approx(0.2, abs=0.06)
    told = block[~silent]
    np.testing.assert_allclose(told["temp_c"], fleet._c.temp_c[told["slot"]], atol=0.02)


def test_some_sessions_tell_a_ramp_a_budget_and_a_wear():
    fleet = SimulatedFleet(3000, 3, T0)
    block = fleet.sessions(T0)
    ramp, budget, wear = block["ramp_kw_s"], block["budget_kwh"], block["wear"]
    usable = block["capacity_kwh"] * block["soh_frac"]
    for told, share, low, high in ((ramp, 0.3, 5, 50), (budget / usable, 0.15, 0.5, 2), (wear, 0.25, 0.5, 2.5)):
        assert (told > 0).mean() == pytest.approx(share, abs=0.03)
        assert low <= told[told > 0].min() < low + (high - low) * 0.05
        assert high - (high - low) * 0.05 < told.max() <= high * 1.0001
    true_ramp = fleet._chargers.ramp_kw_s[block["slot"]].astype(np.float32)
    np.testing.assert_array_equal(ramp[ramp > 0], true_ramp[ramp > 0])


def test_a_perfect_fleet_has_none_of_it():
    fleet = SimulatedFleet(500, 3, T0, perfect=True)
    block = fleet.sessions(T0)
    for name in ("min_kw", "ramp_kw_s", "budget_kwh", "wear", "safe_kw"):
        assert (block[name] == 0).all()
    assert (fleet._c.gain == 1).all()
    assert (fleet._lie_ns == physics.NEVER).all()
    assert np.isnan(fleet.reports(T0 + 2 * S)["temp_c"]).all()


@pytest.mark.parametrize(
    ("table", "frac", "liars"),
    [({}, 0.95, 0.003), ({"minimum_power": False}, 0.0, 0.003), ({"liars_frac": 0.5}, 0.95, 0.5)],
)
def test_the_configuration_chooses_the_fleet(table, frac, liars):
    made = behaviour(FleetTable(**table))
    assert (made.minimum_frac, made.liars_frac) == (frac, liars)
    assert dataclasses.replace(made, minimum_frac=0.95, liars_frac=0.003) == Behaviour()
    assert behaviour(FleetTable(perfect=True, **table)) == PERFECT


# -- reports and meter ---------------------------------------------------------------------------------------------


def test_each_vehicle_reports_every_one_to_two_seconds_and_not_all_at_once():
    fleet = SimulatedFleet(500, 1, T0, perfect=True)
    blocks = [fleet.reports(T0 + n * 20 * MS) for n in range(1, 1501)]
    assert max(block.size for block in blocks) < 25
    counts = np.bincount(np.concatenate(blocks)["slot"], minlength=500)
    assert counts.min() >= 14
    assert counts.max() <= 31
    assert fleet.reports(T0 + 1500 * 20 * MS).size == 0


def test_reports_tell_the_truth_within_their_noise():
    fleet = SimulatedFleet(2000, 1, T0)
    fleet.apply(rows_for(fleet, -3.0), FOREVER, T0)
    block = fleet.reports(T0 + 10 * S)
    truth = fleet.truth()
    moving = block[truth.power_kw[block["slot"]] == -3.0]
    assert moving.size > 700
    error = moving["power_kw"] / -3.0 - 1
    assert np.std(error) == pytest.approx(0.005, rel=0.15)
    assert abs(np.mean(error)) < 0.001
    np.testing.assert_allclose(block["soc_frac"], truth.soc_frac[block["slot"]], atol=0.00051)


def test_the_meter_reads_true_power_once_a_second_however_rarely_asked():
    often, rarely = (SimulatedFleet(100, 2, T0 + 400 * MS) for _ in range(2))
    for fleet in (often, rarely):
        fleet.apply(rows_for(fleet, -2.0), FOREVER, T0 + 400 * MS)
    read = [often.meter(T0 + n * 50 * MS) for n in range(8, 201)]
    together = rarely.meter(T0 + 200 * 50 * MS)
    one_by_one = np.concatenate(read)
    assert [block.size for block in read].count(1) == 10
    np.testing.assert_array_equal(together["t_ns"], T0 + np.arange(1, 11) * S)
    np.testing.assert_array_equal(together["t_ns"], one_by_one["t_ns"])
    for name in ("power_kw", "energy_kwh"):
        np.testing.assert_allclose(together[name], one_by_one[name], rtol=1e-9)
    assert together["power_kw"][-1] == pytest.approx(rarely.truth().power_kw.sum())
    assert together["energy_kwh"][-1] == pytest.approx(rarely.energy().grid_kwh)


# -- determinism ---------------------------------------------------------------------------------------------------


def played(seed, step_ns, seconds=900):
    fleet = SimulatedFleet(150, seed, T0, behaviour=Behaviour(stay_h=0.3, dropouts_per_h=10, refusals_per_h=10))
    for now in range(T0, T0 + seconds * S, step_ns):
        if (now - T0) % (30 * S) == 0:
            fleet.apply(rows_for(fleet, (now // S) % 7 - 3.0), now + 20 * S, now)
        fleet.advance(now + step_ns)
    return fleet


def test_the_same_seed_gives_the_same_bytes_and_another_one_others():
    first, second, other = played(4, 500 * MS), played(4, 500 * MS), played(5, 500 * MS)
    end = first.now_ns
    for ask in ("sessions", "reports", "meter"):
        one, two, three = (getattr(fleet, ask)(end).tobytes() for fleet in (first, second, other))
        assert one == two != three


def test_how_time_is_cut_does_not_matter():
    fine, coarse = played(4, 100 * MS), played(4, 30 * S)
    np.testing.assert_array_equal(fine.truth().session, coarse.truth().session)
    np.testing.assert_array_equal(fine.truth().refusing, coarse.truth().refusing)
    np.testing.assert_allclose(fine.truth().energy_kwh, coarse.truth().energy_kwh, atol=2e-4)
    assert fine.sessions(fine.now_ns)["t_ns"].tolist() == coarse.sessions(coarse.now_ns)["t_ns"].tolist()


def test_time_does_not_run_backwards():
    fleet = played(4, S, 10)
    before = fleet.truth().power_kw
    fleet.advance(T0)
    assert fleet.now_ns == T0 + 10 * S
    np.testing.assert_array_equal(fleet.truth().power_kw, before)


def test_draws_are_uniform_and_unrelated():
    slots = np.arange(20_000)
    draws = [population.uniform(1, what, slots, 0) for what in list(population.Draw)[:6]]
    draws += [
        population.uniform(2, population.Draw.RATING, slots, 0),
        population.uniform(1, population.Draw.RATING, slots, 1),
    ]
    for one in draws:
        assert np.histogram(one, 10, (0, 1))[0] == pytest.approx(np.full(10, 2000), rel=0.1)
    correlations = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlations).max() < 0.03
    assert abs(np.corrcoef(draws[0][:-1], draws[0][1:])[0, 1]) < 0.03


def test_a_report_does_not_depend_on_who_else_reports():
    whole, half = SimulatedFleet(60, 3, T0), SimulatedFleet(60, 3, T0)
    half._report_ns[::2] = FOREVER
    now = T0 + 3 * S
    all_rows, odd_rows = whole.reports(now), half.reports(now)
    assert odd_rows.size > 20
    assert odd_rows.tobytes() == all_rows[all_rows["slot"] % 2 == 1].tobytes()


def test_after_a_silence_each_charger_reports_once_and_keeps_its_beat():
    asked, silent = SimulatedFleet(60, 3, T0, perfect=True), SimulatedFleet(60, 3, T0, perfect=True)
    for second in range(1, 31):
        asked.reports(T0 + second * S)
    assert np.bincount(silent.reports(T0 + 30 * S)["slot"], minlength=60).tolist() == [1] * 60
    assert (asked._report_ns == silent._report_ns).all()
    assert silent.reports(T0 + 30 * S).size == 0


# -- the kernel against an obvious twin ----------------------------------------------------------------------------


def naive_step(c, t0_ns, t1_ns, weak_per_frac, cuts=20_000):
    """Time in tiny steps, one rule after the other."""
    dt_s = (t1_ns - t0_ns) / cuts / S
    grid = lost = 0.0
    soc = c.energy_kwh * c.per_capacity
    room_up, room_down = np.minimum(1, soc * weak_per_frac), np.minimum(1, (1 - soc) * c.taper_per_frac)
    room_up[room_up <= physics.END_FRAC] = 0
    room_down[room_down <= physics.END_FRAC] = 0
    power, target, energy, temp = (x.copy() for x in (c.power_kw, c.target_kw, c.energy_kwh, c.temp_c))
    acted = np.zeros(power.size, bool)
    for n in range(cuts):
        t_ns = t0_ns + n * (t1_ns - t0_ns) // cuts
        target = np.where((c.valid_ns <= t_ns) & ~acted, c.safe_kw, target)
        acting = (c.first_ns <= t_ns) & ~acted
        target, acted = np.where(acting, c.first_kw, target), acted | acting
        goal = np.clip(target, -c.charge_max_kw * room_down, c.discharge_max_kw * room_up)
        reach = dt_s / c.s_per_kw
        after = power + np.clip(goal - power, -reach, reach)
        middle = (power + after) / 2
        loss = np.where((after != 0) | (power != 0), c.loss_fixed_kw, 0) + c.loss_per_kw * middle**2
        energy -= (middle + loss) * dt_s / 3600
        # An hour's time constant, 20 K at 1C.
        temp += (c.ambient_c + 20.0 * abs(middle) * c.per_capacity - temp) * dt_s / 3600
        grid, lost, power = grid + middle.sum() * dt_s / 3600, lost + loss.sum() * dt_s / 3600, after
    return power, energy, temp, grid, lost


def test_the_kernel_agrees_with_its_naive_twin():
    rng = np.random.default_rng(8)
    fleet = SimulatedFleet(40, 9, T0, behaviour=Behaviour(occupied_frac=1.0))
    c = fleet._c
    c.energy_kwh[:] = rng.choice([0.0, 1e-4, 0.02, 0.05, 0.5, 0.86, 0.97, 1.0], 40) / c.per_capacity
    c.power_kw[:], c.target_kw[:], c.first_kw[:] = rng.uniform(-8, 8, (3, 40))
    c.temp_c[:] = rng.uniform(-10, 60, 40)
    c.power_kw[::7] = c.target_kw[::7] = 0.0
    c.valid_ns[:] = T0 + rng.integers(1, 2 * S, 40)
    c.first_ns[:] = T0 + rng.integers(1, 2 * S, 40)
    c.first_valid_ns[:] = FOREVER
    c.next_ns[:] = np.minimum(c.valid_ns, c.first_ns)
    twin = naive_step(c, T0, T0 + S, 12.5)
    before_c = c.temp_c.copy()
    grid_kwh, losses_kwh, sum_kw, _ = physics.step(c, T0, T0 + S, 12.5)
    np.testing.assert_allclose(c.power_kw, twin[0], atol=4e-3)
    np.testing.assert_allclose(c.energy_kwh, twin[1], atol=1e-6)
    # A ramp through zero counts net: a fraction of a millikelvin.
    np.testing.assert_allclose(c.temp_c - before_c, twin[2] - before_c, atol=2e-4)
    assert (grid_kwh, losses_kwh) == pytest.approx(twin[3:], abs=1e-5)
    assert sum_kw == pytest.approx(c.power_kw.sum())


# -- its place in the house ----------------------------------------------------------------------------------------


def test_it_is_a_gateway_and_knows_nothing_of_the_engine():
    assert isinstance(SimulatedFleet(1, 1, T0), VehicleGateway)
    for path in Path(simulated.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            # How columns are handed to kernels is no formula.
            assert not [name for name in names if name.split(".")[0] == "droop" and name != "droop.handle"]


def test_an_empty_fleet_is_refused():
    with pytest.raises(ValueError, match="vehicles"):
        SimulatedFleet(0, 1, T0)
