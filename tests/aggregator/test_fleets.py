"""Fleets of recorded sessions: joined with cars, moved over the trace, seated at chargers; fitted and drawn again."""

from __future__ import annotations

import dataclasses
import os
import pickle
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, spearmanr

from aggregator.config import ConfigError, FleetTable, load
from aggregator.configured import behaviour
from aggregator.fleets import fitting, generating, joining, model, shifting, tariffs
from aggregator.fleets.composing import check_tariff, composed, selected, tariff_of
from aggregator.fleets.errors import FleetError
from aggregator.gateways.arrivals import Guests
from aggregator.gateways.population import PERFECT, Behaviour, chargers
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.registry import Registry
from aggregator.setpoints import SETPOINT
from droop.fleet import allocate, allocate_totals
from droop.plans import PlanKind
from droop.tables import TableError
from telemetry.samples import SlotState
from telemetry.sessions import STAY, Stays, open_sessions
from telemetry.vehicles import builtin

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
ACN = DATA / "ev_sessions" / "acn" / "acndata_sessions_cal_dec2020_apr2021.json"
NORWAY = DATA / "ev_sessions" / "norway_12_sites" / "Dataset1_charging_reports_without_TRO_R.csv.gz"
recorded = pytest.mark.skipif(not ACN.is_file(), reason=f"no recorded sessions in {DATA / 'ev_sessions'}")

S = 1_000_000_000
H = 3600 * S
T0 = 1_704_067_200 * S  # Monday, 1 January 2024, 0 h UTC


def stays_of(count=400, seed=1, zone="UTC", days=28, **columns):
    """STAY rows over some days from T0."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(count, STAY)
    rows["arrive_ns"] = T0 + np.sort(rng.integers(0, days * 24 * 3600, count)) * S
    stay_h = rng.lognormal(1.5, 0.8, count)
    rows["leave_ns"] = rows["arrive_ns"] + (stay_h * 3600).astype(np.int64) * S
    rows["energy_kwh"] = np.minimum(rng.lognormal(2.0, 0.8, count), 6.0 * stay_h)
    for name in ("asked_kwh", "capacity_kwh", "soc_frac", "power_kw"):
        rows[name] = np.nan
    rows["place"], rows["line"] = rng.integers(0, 40, count), np.arange(count) + 2
    for name, values in columns.items():
        rows[name] = values
    return Stays("stays.csv", "stays_csv", zone, rows, ("",), Counter())


# -- stays and cars ------------------------------------------------------------------------------------------------


def test_every_join_could_have_been():
    stays = stays_of()
    guests, impossible = joining.join(stays.rows, builtin().rows, 3, Behaviour())
    assert guests.key.size + impossible.total() == stays.rows.size
    assert guests.key.size > 300
    usable = guests.capacity_kwh * guests.soh_frac
    soc_then = guests.soc_frac + guests.energy_kwh / usable
    assert guests.soc_frac.min() >= 0.1 - 1e-9
    assert soc_then.max() <= 0.95 + 1e-9
    row = {int(line): row for line, row in zip(stays.rows["line"], stays.rows, strict=True)}
    energy = np.array([row[key]["energy_kwh"] for key in guests.key.tolist()])
    np.testing.assert_allclose(guests.energy_kwh, energy * joining.ETA)
    assert (np.maximum(guests.ac_kw, guests.dc_kw) >= guests.needs_kw).all()
    np.testing.assert_allclose(guests.wish_kwh, guests.soc_frac * usable + guests.energy_kwh)
    assert set(np.round(guests.capacity_kwh, 6)) <= set(builtin().rows["usable_kwh"])
    assert len(set(guests.capacity_kwh)) > 5


def test_impossible_joins_are_counted_by_reason():
    stays = stays_of(6)
    rows = stays.rows
    rows["leave_ns"][0] = 0
    rows["energy_kwh"][1] = 500.0
    rows["energy_kwh"][2], rows["leave_ns"][2] = 30.0, rows["arrive_ns"][2] + 120 * S
    rows["capacity_kwh"][3], rows["soc_frac"][3], rows["energy_kwh"][3] = 50.0, 0.9, 20.0
    rows["capacity_kwh"][4], rows["energy_kwh"][4] = 5.0, 20.0
    rows["capacity_kwh"][5], rows["soc_frac"][5], rows["energy_kwh"][5] = 60.0, 0.4, 10.0
    rows["leave_ns"][3:] = rows["arrive_ns"][3:] + 5 * H
    guests, impossible = joining.join(rows, builtin().rows, 1, Behaviour())
    assert impossible == {"leave_unknown": 1, "energy": 2, "power": 1, "soc": 1}
    assert guests.key.tolist() == [7]
    assert (guests.capacity_kwh[0], guests.soc_frac[0], guests.soh_frac[0]) == (60.0, 0.4, 1.0)


def test_a_car_that_had_charged_all_it_could_was_full():
    rows = stays_of(40).rows
    rows["energy_kwh"], rows["leave_ns"] = 5.0, rows["arrive_ns"] + 6 * H
    rows["done_ns"] = rows["arrive_ns"] + 3 * H
    guests, _ = joining.join(rows, builtin().rows, 1, Behaviour())
    np.testing.assert_allclose(guests.soc_frac + guests.energy_kwh / (guests.capacity_kwh * guests.soh_frac), 0.95)


def test_departures_as_told_or_as_they_came_to_be():
    rows = stays_of(50).rows
    rows["energy_kwh"] = 1.0
    rows["told_leave_ns"][::2] = rows["arrive_ns"][::2] + 1234 * S
    rows["asked_kwh"][::2] = 2.0

    def told(departures, of=rows):
        return joining.join(of, builtin().rows, 1, Behaviour(), departures).guests

    assert (told("told").told_ns > 0).sum() == (told("auto").told_ns > 0).sum() == 25
    np.testing.assert_array_equal(told("known").told_ns, told("known").leave_ns)
    # Who says no departure is charged at once.
    np.testing.assert_array_equal(told("told").plan == PlanKind.IMMEDIATE, told("told").told_ns == 0)
    wish = told("told").wish_kwh - told("told").soc_frac * told("told").capacity_kwh * told("told").soh_frac
    np.testing.assert_allclose(wish[::2], 2.0 * joining.ETA)
    silent = rows.copy()
    silent["told_leave_ns"] = 0
    np.testing.assert_array_equal(told("auto", silent).told_ns, told("auto", silent).leave_ns)


def test_a_stay_has_its_car_whoever_else_comes():
    rows = stays_of(300).rows
    whole = joining.join(rows, builtin().rows, 5, Behaviour()).guests
    part = joining.join(rows[100:], builtin().rows, 5, Behaviour()).guests
    there = np.isin(whole.key, part.key)
    for name in ("capacity_kwh", "soc_frac", "plan"):
        np.testing.assert_array_equal(getattr(whole, name)[there], getattr(part, name))
    other = joining.join(rows, builtin().rows, 6, Behaviour()).guests
    assert not np.array_equal(other.capacity_kwh, whole.capacity_kwh)


def test_plans_at_the_shares_wanted():
    guests, _ = joining.join(stays_of(4000).rows, builtin().rows, 1, Behaviour(plans=(0.1, 0.2, 0.3, 0.4)), "known")
    shares = np.bincount(guests.plan, minlength=4) / guests.plan.size
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.4], atol=0.03)


# -- moved over the trace ------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(-8, 8), st.integers(0, 364))
def test_weekday_and_clock_time_stay_whatever_the_year(years, day):
    first_ns = T0 + (years * 365 + day) * 24 * H
    stays = stays_of(300, zone="Europe/Oslo", arrive_ns=T0 + np.arange(300) * 30 * H)
    stays.rows["leave_ns"] = stays.rows["arrive_ns"] + 5 * H
    stays.rows["told_leave_ns"][::3] = stays.rows["arrive_ns"][::3] + 7 * H
    moved, days = shifting.shifted(stays, first_ns, first_ns + 24 * H)
    assert days % 7 == 0
    zone = ZoneInfo("Europe/Oslo")
    for before, after in zip(stays.rows[::20], moved.rows[::20], strict=True):
        old, new = (datetime.fromtimestamp(int(row["arrive_ns"]) // S, zone) for row in (before, after))
        if new.utcoffset() == (new + timedelta(hours=2)).utcoffset() == (new - timedelta(hours=2)).utcoffset():
            assert (old.weekday(), old.time()) == (new.weekday(), new.time())
        assert after["leave_ns"] - after["arrive_ns"] == 5 * H
        assert (after["told_leave_ns"] == 0) == (before["told_leave_ns"] == 0)


def test_clock_time_stays_through_daylight_saving():
    """Eight in the morning of a winter Monday in Oslo, 7 h UTC, is eight in the morning of a summer Monday, 6 h UTC."""
    rows = stays_of(1, arrive_ns=T0 + 7 * H, leave_ns=T0 + 9 * H).rows
    moved = shifting.moved(rows, 182, "Europe/Oslo")
    assert moved["arrive_ns"].tolist() == [T0 + 182 * 24 * H + 6 * H]
    assert moved["leave_ns"].tolist() == [T0 + 182 * 24 * H + 8 * H]


def test_overlapping_sessions_stay_where_they_are():
    stays = stays_of()
    moved, days = shifting.shifted(stays, T0 + 24 * H, T0 + 48 * H)
    assert days == 0
    assert moved.rows is stays.rows


def test_a_few_weeks_of_another_season():
    stays = stays_of()
    moved, days = shifting.shifted(stays, T0 - 190 * 24 * H, T0 - 189 * 24 * H)
    assert days % 7 == 0
    first_ns = int(moved.rows["arrive_ns"].min())
    assert T0 - 197 * 24 * H <= first_ns <= T0 - 189 * 24 * H


def test_a_date_that_the_first_day_shows():
    stays = stays_of()
    moved, days = shifting.shifted(stays, T0 + 1000 * 24 * H, T0 + 1001 * 24 * H, "2024-01-03")
    assert days == 998
    assert moved.rows["arrive_ns"].min() == stays.rows["arrive_ns"].min() + 998 * 24 * H
    with pytest.raises(FleetError, match="takes auto, none, or a date"):
        shifting.shifted(stays, T0, T0 + H, "tomorrow")


def test_fleet_and_trace_that_do_not_meet_are_refused_with_both_spans():
    with pytest.raises(FleetError, match=r"2024-01-01 to 2024-0.*2030-01-0.*2030-01-0.*--sessions-shift"):
        shifting.shifted(stays_of(), T0 + 2192 * 24 * H, T0 + 2193 * 24 * H, "none")


# -- at the chargers -----------------------------------------------------------------------------------------------


def guests_from(rows, seed=1, how=None):
    return joining.join(rows, builtin().rows, seed, how or Behaviour()).guests


def fleet_of(guests, vehicles=30, seed=1, start_ns=T0 + 24 * H, how=None):
    return SimulatedFleet(vehicles, seed, start_ns, behaviour=how or Behaviour(), guests=guests)


def asked(fleet, kw, now_ns):
    plugged = np.flatnonzero(fleet.truth().plugged)
    rows = np.zeros(plugged.size, SETPOINT)
    rows["slot"], rows["session"], rows["setpoint_kw"] = plugged, fleet.truth().session[plugged], kw
    fleet.apply(rows, now_ns + 600 * S, now_ns)


def drive(fleet, cuts, until_ns):
    """SESSION rows and final truth, with time cut wherever."""
    seen = []
    for now_ns in [*sorted(cuts), until_ns]:
        seen.append(fleet.sessions(now_ns))
    return np.concatenate(seen), fleet.truth()


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, 3 * 3600), max_size=12))
def test_the_same_fleet_however_time_is_cut(cuts):
    guests = guests_from(stays_of(200, days=2).rows)
    start_ns = T0 + 24 * H
    whole, truth = drive(fleet_of(guests), [], start_ns + 3 * H)
    parts, other = drive(fleet_of(guests), [start_ns + cut * S for cut in cuts], start_ns + 3 * H)
    assert (whole["state"] == SlotState.UNPLUGGED).sum() > 8
    names = [name for name in whole.dtype.names if name != "rx_ns"]
    begun = [np.sort(rows[rows["state"] > 0][names], order=["slot", "session"]) for rows in (whole, parts)]
    np.testing.assert_array_equal(*begun)
    np.testing.assert_array_equal(truth.session, other.session)
    np.testing.assert_allclose(truth.energy_kwh, other.energy_kwh, rtol=1e-9)


def test_energy_balances_while_guests_come_and_go():
    fleet = fleet_of(guests_from(stays_of(200, days=2).rows))
    now_ns = fleet.now_ns
    rng = np.random.default_rng(2)
    for _ in range(20):
        asked(fleet, rng.uniform(-20, 20), now_ns)
        now_ns += 900 * S
        fleet.advance(now_ns)
    energy = fleet.energy()
    scale = abs(energy.grid_kwh) + energy.losses_kwh + energy.arrived_kwh + energy.left_kwh + energy.start_kwh
    assert abs(energy.residual_kwh) <= 1e-9 * scale
    assert energy.arrived_kwh > 0
    assert energy.left_kwh > 0
    soc = fleet.truth().soc_frac
    assert np.nanmin(soc) >= 0
    assert np.nanmax(soc) <= 1


def test_who_comes_when_with_which_car():
    guests = guests_from(stays_of(200, days=2).rows)
    fleet = fleet_of(guests, vehicles=120)
    start_ns = fleet.now_ns
    rows = fleet.sessions(start_ns + 8 * H)
    there = guests.within(start_ns, start_ns + 8 * H)
    ended = rows[rows["state"] == SlotState.UNPLUGGED]
    assert ended.size > 20
    index = {key: k for k, key in enumerate(there.key.tolist())}
    begun = rows[rows["state"] == SlotState.PLUGGED]
    assert fleet.arrivals() == {"came": there.key.size, "turned_away": 0, "too_weak_a_charger": 0}
    assert sorted(int(row["vehicle"][5:]) for row in begun) == sorted(index)
    rating = chargers(1, 120, Behaviour()).rating_kw
    for row in begun:
        k = index[int(row["vehicle"][5:])]
        assert row["t_ns"] == max(there.arrive_ns[k], start_ns)
        assert (row["depart_ns"], row["depart_kwh"]) == (there.told_ns[k], there.wish_kwh[k])
        assert row["charge_max_kw"] >= there.needs_kw[k] - 1e-5
        assert 0 <= row["discharge_max_kw"] <= row["charge_max_kw"] <= rating[row["slot"]] + 1e-5
        assert -row["charge_max_kw"] <= row["safe_kw"] <= 0
        assert row["min_kw"] <= row["charge_max_kw"]
    registry = Registry(allocate(120), allocate_totals())
    assert registry.sessions(begun, start_ns + 8 * H) == 0
    for row in ended:
        k = index[int(row["vehicle"][5:])]
        assert row["t_ns"] == there.leave_ns[k]
        assert row["depart_kwh"] == there.wish_kwh[k]


def test_a_guest_found_in_the_midst_of_a_stay_has_part_of_its_energy():
    rows = stays_of(1, arrive_ns=T0, leave_ns=T0 + 10 * H, energy_kwh=10.0, line=4).rows
    guests = guests_from(rows)
    fleet = fleet_of(guests, start_ns=T0 + 4 * H)
    row = fleet.sessions(T0 + 4 * H)[0]
    usable = guests.capacity_kwh[0] * guests.soh_frac[0]
    assert row["soc_frac"] == pytest.approx(guests.soc_frac[0] + 0.4 * 10.0 * joining.ETA / usable, abs=1e-6)


def test_a_charger_moves_what_it_has_told_of_the_car():
    fleet = fleet_of(guests_from(stays_of(300, days=2).rows), vehicles=60, how=PERFECT)
    rows = fleet.sessions(fleet.now_ns)
    rating = chargers(1, 60, PERFECT).rating_kw[rows["slot"]]
    assert (rows["charge_max_kw"] < rating - 0.1).sum() > 5
    for kw, most in ((-500.0, -rows["charge_max_kw"]), (500.0, rows["discharge_max_kw"])):
        asked(fleet, kw, fleet.now_ns)
        fleet.advance(fleet.now_ns + S)
        np.testing.assert_allclose(fleet.truth().power_kw[rows["slot"]], most, rtol=1e-6)


def test_no_two_at_one_charger_and_who_finds_none_is_counted():
    """Ten come at once to four chargers; when one leaves, its charger is the next one's."""
    rows = stays_of(11).rows
    rows["arrive_ns"], rows["leave_ns"] = T0 + H, T0 + 9 * H
    rows["leave_ns"][0], rows["arrive_ns"][10], rows["energy_kwh"] = T0 + 2 * H, T0 + 2 * H, 2.0
    guests = guests_from(rows)
    fleet = fleet_of(guests, vehicles=4, start_ns=T0, how=PERFECT)
    told = fleet.sessions(T0 + 8 * H)
    begun = told[told["state"] == SlotState.PLUGGED]
    assert begun["vehicle"].tolist() == [b"stay-2", b"stay-3", b"stay-4", b"stay-5", b"stay-12"]
    assert begun["slot"][4] == begun["slot"][0]
    assert sorted(begun["slot"][:4]) == [0, 1, 2, 3]
    found = fleet.arrivals()
    assert (found["came"], found["turned_away"]) == (11, 6)


def test_a_strong_need_takes_a_strong_charger():
    rows = stays_of(3).rows
    rows["arrive_ns"], rows["leave_ns"] = T0 + H, T0 + 2 * H
    rows["energy_kwh"] = [9.5, 1.0, 30.0]
    guests = guests_from(rows)
    fleet = fleet_of(guests, vehicles=60, start_ns=T0, how=PERFECT)
    told = fleet.sessions(T0 + 90 * 60 * S)
    rating = chargers(1, 60, PERFECT).rating_kw[told["slot"]]
    assert rating[0] >= 11.0
    assert told["slot"][1] == 0
    assert rating[2] == 50.0


def test_a_stopped_fleet_goes_on_as_if_it_had_not():
    guests = guests_from(stays_of(200, days=2).rows)
    whole, truth = drive(fleet_of(guests), [], T0 + 28 * H)
    first = fleet_of(guests)
    begun = first.sessions(T0 + 26 * H)
    later = pickle.loads(pickle.dumps(first))  # noqa: S301 - our own
    rest, other = drive(later, [], T0 + 28 * H)
    assert begun.size + rest.size == whole.size
    np.testing.assert_array_equal(truth.energy_kwh, other.energy_kwh)


def test_drawn_fleets_carry_plans_at_their_shares():
    plain = SimulatedFleet(500, 1, T0)
    mixed = SimulatedFleet(500, 1, T0, behaviour=Behaviour(plans=(0.5, 0.0, 0.0, 0.5)))
    rows, other = plain.sessions(T0), mixed.sessions(T0)
    assert (rows["plan"] == 0).all()
    assert 0.4 < (other["plan"] == 3).mean() < 0.6
    assert set(other["plan"].tolist()) == {0, 3}
    other["plan"] = 0
    assert rows.tobytes() == other.tobytes()


# -- fitted and drawn again ----------------------------------------------------------------------------------------


def refit(stays, weeks=8, chargers=None):
    fitted = fitting.fit(stays, builtin().rows)
    count = chargers or stays.chargers
    rows = np.concatenate([generating.week(fitted, count, 1, 2800 + k) for k in range(weeks)])
    return fitted, rows


def check_alike(stays, rows, limit):
    """Two-sample distances of what was generated to what was fitted."""
    real = stays.rows[stays.rows["leave_ns"] > 0]
    hours = fitting.hours_of_week(real["arrive_ns"], stays.zone), fitting.hours_of_week(rows["arrive_ns"], stays.zone)
    stay = [(block["leave_ns"] - block["arrive_ns"]) / H for block in (real, rows)]
    assert ks_2samp(*hours).statistic < limit
    assert ks_2samp(*stay).statistic < limit
    assert ks_2samp(real["energy_kwh"], rows["energy_kwh"]).statistic < limit
    for part in (range(6, 12), range(16, 22)):  # the stay hangs on the hour of arrival
        of_part = [block[np.isin(hour % 24, part)] for block, hour in zip(stay, hours, strict=True)]
        assert ks_2samp(*of_part).statistic < 2 * limit
    ranks = [spearmanr(block["energy_kwh"], hold).statistic for block, hold in zip((real, rows), stay, strict=True)]
    assert ranks[0] == pytest.approx(ranks[1], abs=0.08)
    return hours


@recorded
@pytest.mark.parametrize(("path", "limit", "count"), [(ACN, 0.05, 300), (NORWAY, 0.03, 300)], ids=["acn", "norway"])
def test_generated_drivers_are_like_the_recorded_ones(path, limit, count):
    stays = open_sessions(path)
    fitted, rows = refit(stays, chargers=count)
    check_alike(stays, rows, limit)
    assert rows.size == pytest.approx(fitted.per_charger_week * count * 8, rel=0.05)
    real = stays.rows
    told = [(block["told_leave_ns"] > 0).mean() for block in (real, rows)]
    assert told[0] == pytest.approx(told[1], abs=0.01)
    assert np.isfinite(real["asked_kwh"]).mean() == pytest.approx(np.isfinite(rows["asked_kwh"]).mean(), abs=0.01)
    if told[0] > 0:
        ratios = []
        for block in (real, rows):
            some = block[block["told_leave_ns"] > 0]
            ratios.append((some["told_leave_ns"] - some["arrive_ns"]) / (some["leave_ns"] - some["arrive_ns"]))
        assert ks_2samp(*ratios).statistic < limit


def test_a_fit_is_like_what_it_was_fitted_to():
    stays = stays_of(3000)
    hour = 17.0 + 2.0 * np.random.default_rng(1).standard_normal(3000)
    stays.rows["arrive_ns"] += ((hour - 12.0) * H).astype(np.int64)
    stays.rows["leave_ns"] += ((hour - 12.0) * H).astype(np.int64)
    stays.rows["told_leave_ns"][::2] = stays.rows["leave_ns"][::2]
    fitted, rows = refit(stays, weeks=10)
    check_alike(stays, rows, 0.05)
    assert fitted.told_frac == 0.5
    assert (rows["told_leave_ns"] > 0).mean() == pytest.approx(0.5, abs=0.03)


def test_a_model_is_written_and_read_as_it_is(tmp_path):
    fitted = dataclasses.replace(fitting.fit(stays_of(), builtin().rows), source='odd "name"\n\\')
    model.write(tmp_path / "model.toml", fitted)
    assert model.read(tmp_path / "model.toml") == fitted
    model.write(tmp_path / "builtin.toml", model.builtin())
    assert model.read(tmp_path / "builtin.toml") == model.builtin()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"zone": "Mars"}, "zone"), ({"per_charger_week": 0.0}, "per_charger_week"),
        ({"hour_of_week": (1.0,)}, "hour_of_week"), ({"hour_of_week": (0.0,) * 168}, "hour_of_week"),
        ({"stay_h": ((1.0, 2.0),)}, "stay_h"), ({"stay_h": ((2.0, 1.0),) * 16}, "stay_h"),
        ({"stay_h": ((-1.0, 1.0),) * 16}, "stay_h"), ({"energy_kwh": ((1.0, 2.0),)}, "energy_kwh"),
        ({"most_kw": 0.0}, "most_kw"), ({"soc_frac": (0.1, 1.2)}, "soc_frac"), ({"told_frac": 1.5}, "told_frac"),
        ({"soc_frac": (0.1, float("nan"))}, "soc_frac"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_is_refused_by_field(changes, field):
    with pytest.raises(TableError, match=f"field `{field}`"):
        dataclasses.replace(model.builtin(), **changes)


@pytest.mark.parametrize("text", ["", "[model]\nformat = 2", "[model]\nformat = 1\nzone = 3", "not toml ["])
def test_a_model_file_that_is_none(tmp_path, text):
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(FleetError, match=r"m\.toml"):
        model.read(tmp_path / "m.toml")


def test_too_little_to_fit():
    with pytest.raises(FleetError, match="60 or more"):
        fitting.fit(stays_of(20), builtin().rows)


def test_a_week_is_the_same_in_every_run():
    drivers = model.builtin()
    long = generating.generate(drivers, 50, 7, T0, T0 + 20 * 24 * H)
    late = generating.generate(drivers, 50, 7, T0 + 9 * 24 * H, T0 + 12 * 24 * H)
    there = (long["leave_ns"] > T0 + 9 * 24 * H) & (long["arrive_ns"] <= T0 + 12 * 24 * H)
    assert long[there].tobytes() == late.tobytes()
    assert generating.generate(drivers, 50, 8, T0, T0 + 24 * H).tobytes() != long[:10].tobytes()
    assert np.unique(long["line"]).size == long.size
    assert (np.diff(late["arrive_ns"]) >= 0).all()


def test_built_in_drivers_can_be_seated():
    rows = generating.generate(model.builtin(), 200, 1, T0, T0 + 7 * 24 * H)
    guests, impossible = joining.join(rows, builtin().rows, 1, Behaviour())
    assert impossible.total() < 0.05 * rows.size
    fleet = SimulatedFleet(200, 1, T0, guests=guests)
    fleet.advance(T0 + 4 * H)
    found = fleet.arrivals()
    assert found["turned_away"] < 0.1 * found["came"]
    assert 0.2 < fleet.truth().plugged.mean() < 1.0


# -- tariffs -------------------------------------------------------------------------------------------------------


def test_a_tariff_file(tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text("time,price\n2024-01-01T00:00+01:00,30.5\n2024-01-01T01:00+01:00,-2\n2024-01-01 01:00,7\n")
    found = tariffs.read(path)
    assert (found.start_ns, found.slot_s, found.prices, found.repeats) == (T0 - H, 3600, (30.5, -2.0, 7.0), False)
    check_tariff(found, T0 - H, T0 + 2 * H - 1)
    for first_ns, last_ns in ((T0 - H - 1, T0), (T0, T0 + 2 * H)):
        with pytest.raises(FleetError, match=r"2023-12-31T23:00.*give prices for all of it"):
            check_tariff(found, first_ns, last_ns)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("2024-01-01,1\n", "1 rows"), ("2024-01-01 00:00,1\n2024-01-01 01:00,one\n", ":2: field `price`"),
        ("2024-01-01 00:00,1\nlater,1\n", ":2: field `time`"), ("2024-01-01 00:00,1,2\n", ":1: field `time`"),
        ("2024-01-01 00:00,1\n2024-01-01 01:00,1\n2024-01-01 03:00,1\n", "price 3"),
        ("2024-01-01 01:00,1\n2024-01-01 00:00,1\n", "price 2"), ("2024-01-01 00:00,nan\n", "field `price`"),
    ],
)  # fmt: skip
def test_a_tariff_file_that_cannot_be(tmp_path, rows, message):
    path = tmp_path / "prices.csv"
    path.write_text(rows)
    with pytest.raises(FleetError, match=message):
        tariffs.read(path)
    with pytest.raises(FleetError, match="cannot be read"):
        tariffs.read(tmp_path / "none.csv")


def test_a_table_for_a_day():
    found = tariffs.of_day([(0, 3.0), (6.5, 1.0), (22, 2.0)], "+01:00")
    assert (found.start_ns, found.slot_s, len(found.prices), found.repeats) == (-H, 900, 96, True)
    assert [found.prices[k] for k in (0, 25, 26, 87, 88, 95)] == [3, 3, 1, 1, 2, 2]


@pytest.mark.parametrize("table", [[], [(1, 1.0)], [(0, 1.0), (0, 2.0)], [(0, 1.0), (24, 2.0)], [(0, 1.0), (1.1, 2.0)],
                                   [(0, float("nan"))]])  # fmt: skip
def test_a_table_for_a_day_that_cannot_be(table):
    with pytest.raises(FleetError, match="tariff_day"):
        tariffs.of_day(table)
    with pytest.raises(FleetError, match="tariff_tz"):
        tariffs.of_day([(0, 1.0)], "Europe/Oslo")


# -- the table of the configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sessions = 'a.csv'\ngenerator = 'b.toml'", "generator"), ("plans = {even = 0}", "plans"),
        ("plans = {price = 1}", "tariff"), ("plans = {odd = 1}", "plans"), ("plans = {even = -1}", "plans"),
        ("plans = {}", "plans"), ("tariff = 'a.csv'\ntariff_day = [[0, 1]]", "tariff_day"),
        ("departures = 'guessed'", "departures"),
    ],
)  # fmt: skip
def test_a_fleet_table_that_cannot_be(tmp_path, text, message):
    path = tmp_path / "flyball.toml"
    path.write_text(f"[fleet]\n{text}\n")
    with pytest.raises(ConfigError, match=message):
        load(path)


def own_table(tmp_path):
    path = tmp_path / "stays.csv"
    rows = ["arrive,leave,energy_kwh,site"]
    rows += [
        f"2024-01-0{1 + k % 7}T{k % 24:02d}:00:00Z,2024-01-0{1 + k % 7}T{k % 24:02d}:50:00Z,3,{'ab'[k % 2]}"
        for k in range(84)
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_fleet_from_its_table(tmp_path):
    table = FleetTable(sessions=own_table(tmp_path), vehicles=20, plans={"delayed": 1.0})
    how = behaviour(table)
    assert how.plans == (0.0, 0.0, 1.0, 0.0)
    found = composed(table, how, T0 + 365 * 24 * H, T0 + 372 * 24 * H)
    assert found.about["shifted_days"] == 364
    assert found.guests.key.size == found.about["stays"] > 60
    assert (found.guests.plan == PlanKind.DELAYED).all()
    assert composed(FleetTable(), how, T0, T0 + H) is None
    assert tariff_of(FleetTable()) is None
    assert tariff_of(FleetTable(tariff_day=((0, 1.0),))).prices == (1.0,) * 96


def test_one_site_and_some_days(tmp_path):
    stays = open_sessions(own_table(tmp_path))
    table = FleetTable(sessions_site="b", sessions_from="2024-01-02", sessions_to="2024-01-04")
    some = selected(stays, table).rows
    assert set(some["site"].tolist()) == {1}
    assert some["arrive_ns"].min() >= T0 + 24 * H
    assert some["arrive_ns"].max() < T0 + 72 * H
    for wrong, message in (({"sessions_site": "c"}, "it has a, b"), ({"sessions_from": "2025-01-01"}, "widen them"),
                           ({"sessions_to": "never"}, "sessions_to")):  # fmt: skip
        with pytest.raises(FleetError, match=message):
            selected(stays, FleetTable(**wrong))


def test_a_fleet_that_nobody_can_be_in(tmp_path):
    path = tmp_path / "stays.csv"
    path.write_text("arrive,leave,energy_kwh\n2024-01-01T00:00Z,2024-01-01T05:00Z,900\n")
    with pytest.raises(FleetError, match="give other cars"):
        composed(FleetTable(sessions=path), Behaviour(), T0, T0 + 24 * H)


def test_guests_are_those_there_at_some_time():
    guests = guests_from(stays_of(400).rows)
    some = guests.within(T0 + 24 * H, T0 + 48 * H)
    assert isinstance(some, Guests)
    assert (some.leave_ns > T0 + 24 * H).all()
    assert (some.arrive_ns <= T0 + 48 * H).all()
    outside = ~np.isin(guests.key, some.key)
    assert ((guests.leave_ns[outside] <= T0 + 24 * H) | (guests.arrive_ns[outside] > T0 + 48 * H)).all()
