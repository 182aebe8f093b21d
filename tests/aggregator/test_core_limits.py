"""The core under everything that limits it at once: caps, ramps, least powers, a dead bus, owners' wishes."""

from __future__ import annotations

import numpy as np
import pytest

from aggregator import figures
from aggregator.contracts import Site
from droop.fleet import Wish
from droop.reasons import Reason
from telemetry.samples import WISH, Quality
from tests.aggregator.test_core import T0, Line, S, reports, sample, settings_of

ROWS = 16
DEAD = int(Quality.DEAD_BUS)


def line(sold_kw, sites=(), rows=ROWS, **columns):
    one = Line(settings_of(sold_kw=sold_kw, rows=rows, sites=sites), **columns)
    one.hz(50.0, seconds=3.0)
    return one


def garage(**caps):
    return (Site("garage", None, 0, ROWS, **caps),)


@pytest.mark.parametrize("sites", [(), garage(export_kw=1e4, import_kw=1e4)], ids=["no site", "a cap that never binds"])
def test_a_charger_gets_no_more_change_in_a_second_than_its_ramp(sites):
    one = line(150.0, sites, ramp_kw_s=0.5)
    before = one.core.engine.fleet.command_kw.copy()
    for second in range(1, 5):
        one.hz(49.8, seconds=0.9)
        moved = np.abs(one.core.engine.fleet.command_kw - before)
        # What a window begun before allows comes on top.
        assert moved.max() <= 0.5 * (second + 1) + 1e-4
        assert one.core.last.broken == 0
    assert moved.max() >= 0.5 * 3
    assert one.core.unserved_by_reason()["ramp"] > 0


def test_wishes_that_come_all_the_time_lift_no_ramp():
    one = line(150.0, ramp_kw_s=0.5)
    before = one.core.engine.fleet.command_kw.copy()
    for _ in range(10):
        wish = np.zeros(1, WISH)
        wish["t_ns"] = wish["rx_ns"] = one.now_ns
        wish["session"], wish["wish"] = 1, Wish.NONE
        one.core.on_wishes(wish, one.now_ns)
        one.hz(49.8)
    assert np.abs(one.core.engine.fleet.command_kw - before).max() <= 2 * 0.5 + 1e-4


def test_a_least_power_is_stepped_to_and_ramped_from():
    one = line(150.0, ramp_kw_s=0.5, min_kw=4.14)
    one.hz(49.8)
    on = one.core.engine.fleet.command_kw > 0
    assert on.any()
    assert one.core.engine.fleet.command_kw.max() <= 4.14 + 1e-4


def test_who_must_charge_under_a_cap_is_served_in_whole_least_powers():
    """Of four that must charge with 4.14 kW at least, 6 kW bear one; nobody is told less than the least."""
    columns = {"min_kw": 4.14, "depart_ns": T0 + 3600 * S, "depart_kwh": 54.0, "discharge_max_kw": 0.0}
    one = Line(settings_of(sold_kw=1.0, rows=4, sites=(Site("a", None, 0, 4, import_kw=6.0),)), **columns)
    charging = []
    for _ in range(5):
        one.hz(50.0, seconds=0.9)
        told = one.core.engine.fleet.command_kw
        assert set(np.flatnonzero(told).tolist()) == set(np.flatnonzero(told <= -4.14 + 1e-4).tolist())
        assert told.sum() >= -6.0 - 1e-4
        charging.append(tuple(np.flatnonzero(told)))
    assert len(charging[-1]) == 1
    # Contactors rest: the same one all the time.
    assert len(set(charging[1:])) == 1
    assert one.core.engine.fleet.reason_down[np.flatnonzero(told == 0)].tolist() == [Reason.SITE] * 3


def test_nearly_full_a_car_charges_with_less_than_its_chargers_least():
    """From 90 to 100 % in three hours: the taper leaves less than 4.14 kW, and the car takes that."""
    columns = {"soc_frac": 0.9, "soc_max_frac": 1.0, "min_kw": 4.14, "depart_ns": T0 + 3 * 3600 * S, "depart_kwh": 60.0}
    one = Line(settings_of(sold_kw=0.1, rows=4), period_ns=5 * S, **columns)
    soc, fleet = 0.9, one.core.engine.fleet
    for _ in range(3 * 720):
        one.core.on_vehicles(reports(one.now_ns, range(4), soc_frac=soc, power_kw=fleet.command_kw.copy()), one.now_ns)
        one.core.on_samples(sample(one.now_ns, 50.0), one.now_ns)
        one.core.drain_commands()
        one.core.drain_entries()
        soc = min(soc - float(fleet.command_kw.mean()) * 5 / 3600 / 60, 1.0)
        one.now_ns += 5 * S
    assert soc > 0.997


def test_a_dead_bus_under_a_cap():
    """Four must charge and four carried them; with nothing to discharge into, the cap of 20 kW still holds."""
    must = np.arange(8) < 4
    one = Line(
        settings_of(sold_kw=1.0, rows=8, sites=(Site("a", None, 0, 8, import_kw=20.0),)),
        depart_ns=np.where(must, T0 + 3600 * S, 0), depart_kwh=np.where(must, 54.0, 0.0),
    )  # fmt: skip
    one.hz(50.0, seconds=3.0)
    assert one.core.engine.fleet.command_kw.sum() >= -20.0 - 1e-4
    assert one.core.engine.fleet.command_kw[4:].sum() > 0
    one.hz(0.0, seconds=2.0, quality=DEAD)
    assert one.core.engine.fleet.command_kw.max() <= 0.0
    assert one.core.engine.fleet.command_kw.sum() >= -20.0 - 1e-4
    one.hz(50.0, seconds=20.0)
    assert one.core.engine.fleet.command_kw[4:].sum() > 0


def test_on_a_dead_bus_those_that_do_not_report_are_told_to_stop_as_well():
    one = line(150.0)
    one.hz(49.8, seconds=3.0)
    fleet = one.core.engine.fleet
    one.slots = range(1, ROWS)
    one.power_kw = one.power_kw[1:]
    for _ in range(100):
        if fleet.reason_up[0] == Reason.STALE:
            break
        one.core.on_vehicles(reports(one.now_ns, one.slots, power_kw=fleet.command_kw[1:].copy()), one.now_ns)
        one.core.on_samples(sample(one.now_ns, 49.8), one.now_ns)
        one.core.drain_commands()
        one.now_ns += one.period_ns
    assert fleet.command_kw[0] > 0
    one.core.on_samples(sample(one.now_ns, 0.0, DEAD), one.now_ns)
    told = {int(row["slot"]): float(row["setpoint_kw"]) for sent in one.core.drain_commands() for row in sent.rows}
    assert told[0] == 0.0
    assert max(told.values()) <= 0.0


def test_a_silent_meter_whose_worst_cases_leave_nothing_is_told():
    one = line(10.0, (Site("a", None, 0, ROWS, 5.0, 5.0, 2, -20.0, 20.0),))
    assert "SITE_BLIND" in {alarm.code for alarm in one.core.alarms.standing()}


@pytest.mark.parametrize("min_kw", [0.0, 1.38])
def test_what_is_shown_as_capability_is_under_the_caps(min_kw):
    one = line(80.0, garage(export_kw=10.0, import_kw=12.0), min_kw=min_kw)
    shown = figures.survey(one.core, one.now_ns)["capability"]
    assert shown["up_kw"]["15"] <= 10.0 + 1e-6
    assert shown["down_kw"]["15"] <= 12.0 + 1e-6
    last = one.hz(49.8, seconds=1.0)
    assert (last.lo_kw, last.hi_kw) == pytest.approx((-12.0, 10.0), abs=1e-3)


def test_the_owner_who_wants_to_charge_now_outranks_the_days_throughput():
    one = line(1.0, budget_kwh=0.001)
    one.core.engine.fleet.moved_kwh[:] = 1.0
    wish = np.zeros(1, WISH)
    wish["t_ns"] = wish["rx_ns"] = one.now_ns
    wish["session"], wish["wish"], wish["until_ns"] = 1, Wish.CHARGE_NOW, one.now_ns + 1000 * S
    one.core.on_wishes(wish, one.now_ns)
    one.hz(50.0, seconds=2.0)
    fleet = one.core.engine.fleet
    # At 0 degC, the temperature that these report, two thirds of the rating are left.
    assert fleet.lo_kw[0] == fleet.hi_kw[0] == pytest.approx(-11.0 * 2 / 3)
    assert fleet.reason_up[0] == Reason.OVERRIDE
    assert (fleet.lo_kw[1:] == 0.0).all()


def test_nobody_is_owed_what_a_dead_bus_could_not_take():
    one = line(60.0, depart_ns=T0 + 10 * 3600 * S, depart_kwh=50.0, min_kw=4.14)
    one.hz(50.0, seconds=30.0)
    before = one.core.engine.fleet.owed_kwh.copy()
    for _ in range(600):
        one.now_ns += 5 * S
        one.core.on_samples(sample(one.now_ns, 0.0, DEAD), one.now_ns)
        one.core.drain_entries()
    one.hz(50.0, seconds=2.0)
    assert np.abs(one.core.engine.fleet.owed_kwh - before).max() < 0.05
