"""Trip limits in the whole engine: everybody ceases, the record says why, and service is entered by the code."""

from __future__ import annotations

import dataclasses

import orjson
import pytest

from aggregator.config import ConfigError, ProtectionTable
from aggregator.contracts import Contract, from_json
from aggregator.journal import Kind
from aggregator.protecting import protection_of
from aggregator.replay import replay
from droop.products import load, parse, to_table
from droop.promises import Protection
from droop.protection import EN_50549, IEEE_1547, IN_SERVICE, TRIPPED
from droop.reasons import Reason
from tests.aggregator.test_core import KEY, MS, T0, Line, S, sample, settings_of

RULE = Protection(
    trips=((47.5, 0.5), (51.5, 0.5)), enter_low_hz=49.5, enter_high_hz=50.2, enter_delay_s=3.0, enter_ramp_s=10.0,
    enter_low_pu=0.85, enter_high_pu=1.1,
)  # fmt: skip
REASON = "frequency_out_of_bounds"


def line(**more):
    settings = dataclasses.replace(settings_of("ce_fcr", 60.0, protection=RULE), **more)
    return Line(settings)


def charging(**more):
    """Cars that must leave full: their plan is to charge."""
    full = {"depart_ns": T0 + 3600 * S, "depart_kwh": 54.0}
    found = Line(dataclasses.replace(settings_of("ce_fcr", 60.0, protection=RULE), **more), **full)
    found.hz(50.0, 3.0)
    return found


@pytest.mark.parametrize(("hz", "sign"), [(47.0, 1), (52.0, -1)])
def test_beyond_the_limit_for_its_time_all_cease(hz, sign):
    unit = line()
    unit.hz(49.8 if sign > 0 else 50.2, 2.0)
    assert abs(unit.power_kw.sum()) > 50.0
    unit.hz(hz, 0.5)  # 6 samples: half a second from the first to the last
    last = unit.core.last
    assert unit.power_kw.tolist() == [0.0] * 12
    assert last.commanded_kw == last.dealt_kw == 0.0
    assert last.unserved_kw == pytest.approx(last.request_kw) == pytest.approx(sign * 60.0)
    assert unit.core.engine.unserved_kw[Reason.FREQUENCY_OUT_OF_BOUNDS] == pytest.approx(sign * 60.0)
    assert "FREQUENCY_OUT_OF_BOUNDS" in unit.core.alarms.raised
    assert unit.core.sums.trips == 1
    fleet = unit.core.engine.fleet
    assert set(fleet.reason_up.tolist()) == set(fleet.reason_down.tolist()) == {Reason.FREQUENCY_OUT_OF_BOUNDS}


def test_charging_ceases_as_well_and_comes_back():
    unit = charging()
    before_kw = unit.power_kw.sum()
    assert before_kw < -10.0
    unit.hz(52.0, 1.0)
    assert not unit.power_kw.any()
    unit.hz(50.0, 2.8)
    assert unit.core.engine.guard.state[0] == TRIPPED
    unit.hz(50.0, 2.0)
    assert 0 > unit.power_kw.sum() > 0.4 * before_kw
    unit.hz(50.0, 12.0)
    assert unit.core.engine.guard.state[0] == IN_SERVICE
    assert unit.power_kw.sum() == pytest.approx(before_kw, rel=0.05)
    assert "FREQUENCY_OUT_OF_BOUNDS" not in {alarm.code for alarm in unit.core.alarms.standing()}


def test_a_shorter_dip_is_ridden_through_and_served():
    unit = line()
    unit.hz(50.0, 2.0)
    unit.hz(47.0, 0.4)  # 5 samples over 0.4 s
    assert unit.power_kw.sum() == pytest.approx(60.0)
    unit.hz(49.9, 1.0)
    unit.hz(47.0)  # a spike
    unit.hz(49.9, 1.0)
    assert unit.power_kw.sum() == pytest.approx(30.0)
    assert unit.core.sums.trips == 0


def test_disconnection_is_said_once():
    unit = line()
    unit.hz(49.8, 2.0)
    unit.hz(47.0, 1.0)
    sent = len(unit.commands)
    unit.hz(47.0, 2.0)
    unit.hz(52.0, 2.0)
    # Nobody is told again what he was told; what comes are the renewals of commands about to expire.
    assert all((command.rows["setpoint_kw"] == 0.0).all() for command in unit.commands[sent:])
    assert unit.core.sums.trips == 1
    assert unit.core.alarms.raised.count("FREQUENCY_OUT_OF_BOUNDS") == 1


def test_service_comes_back_along_the_ramp_and_no_faster():
    unit = line()
    unit.hz(49.8, 2.0)
    unit.hz(47.0, 1.0)
    most_kw = 12 * 11.0
    unit.hz(49.8, 3.0)
    seen = []
    for _ in range(110):
        unit.hz(49.8)
        seen.append((int(unit.core.engine.guard.state[0]), float(unit.power_kw.sum()), unit.core.last))
        # Every kW that is not served has its reason, what the ramp withholds included.
        assert unit.core.engine.unserved_kw.sum() == pytest.approx(unit.core.last.unserved_kw, abs=1e-6)
    first = next(k for k, (state, _, _) in enumerate(seen) if state != TRIPPED)
    for k, (_, given_kw, last) in enumerate(seen[first:]):
        assert given_kw <= most_kw * (k + 1) * 0.1 / 10.0 + 1e-3
        assert last.request_kw - last.unserved_kw == pytest.approx(last.commanded_kw, abs=1e-3)
        assert last.broken == 0
    assert seen[-1][1] == pytest.approx(60.0)
    held = unit.core.unserved_by_reason()
    assert held[REASON] > 0.0


def test_a_lost_frequency_does_not_let_it_in():
    unit = line()
    unit.hz(49.8, 1.0)
    unit.hz(47.0, 1.0)
    unit.hz(50.0, 2.0)
    unit.wait(5.0)
    assert unit.core.engine.guard.state[0] == TRIPPED
    assert not unit.power_kw.any()
    unit.hz(50.0, 2.5)
    assert unit.core.engine.guard.state[0] == TRIPPED  # the window is counted anew


def test_a_voltage_outside_the_window_keeps_it_out():
    unit = line()
    unit.hz(47.0, 1.0)
    unit.hz(50.0, 6.0, volt=0.8)
    assert unit.core.engine.guard.state[0] == TRIPPED
    unit.hz(50.0, 3.2, volt=1.0)
    assert unit.core.engine.guard.state[0] != TRIPPED


def test_chargers_with_a_least_power_cease_and_come_back():
    unit = Line(dataclasses.replace(settings_of("ce_fcr", 60.0, protection=RULE)), min_kw=4.1)
    unit.hz(49.8, 3.0)
    assert unit.power_kw.sum() == pytest.approx(60.0, abs=1.0)
    unit.hz(47.0, 1.0)
    assert not unit.power_kw.any()
    unit.hz(49.8, 3.5)
    for _ in range(120):
        unit.hz(49.8)
        assert unit.core.last.broken == 0
    assert unit.power_kw.sum() == pytest.approx(60.0, abs=1.0)


def test_who_does_not_report_is_told_as_well():
    unit = charging()
    unit.reported_ns = unit.now_ns + 10**6 * S  # nobody reports any more
    unit.hz(50.0, 2.5)
    told = len(unit.commands)
    unit.hz(50.0, 3.0)
    unit.hz(52.0, 1.0)
    zeroed = {
        int(slot) for command in unit.commands[told:] for slot in command.rows["slot"][command.rows["setpoint_kw"] == 0]
    }
    assert zeroed == set(range(12))


def test_a_run_with_a_trip_replays_to_the_same_bytes():
    unit = line(epoch=3)
    entries = []
    for hz, seconds in ((49.85, 2.0), (47.0, 1.0), (50.0, 4.0), (49.9, 12.0), (52.0, 1.0), (50.05, 8.0)):
        begun = unit.now_ns
        while unit.now_ns <= begun + int(seconds * S):
            unit.core.on_samples(sample(unit.now_ns, hz), unit.now_ns)
            unit._report()
            for command in unit.core.drain_commands():
                unit.core.sign(command, KEY)
                unit.power_kw[command.rows["slot"]] = command.rows["setpoint_kw"]
            entries += unit.core.drain_entries()
            unit.now_ns += 100 * MS
    assert unit.core.sums.trips == 2
    found = replay(entries, {1: KEY})
    assert found.same
    assert found.commands > 20
    raised = [orjson.loads(e.payload) for e in entries if e.kind is Kind.ALARM]
    out = [alarm["cleared_ns"] for alarm in raised if alarm["code"] == "FREQUENCY_OUT_OF_BOUNDS"]
    assert sum(at > 0 for at in out) == 1
    assert len(out) == 3  # raised, cleared, raised again


def test_the_settings_travel_in_the_journal():
    for rule in (None, RULE, IEEE_1547, EN_50549):
        settings = settings_of(protection=rule)
        assert from_json(settings.to_json()) == settings


# -- which limits ------------------------------------------------------------------------------------------------------


def contracts(*ids):
    return [Contract(load(name), 10.0) for name in ids]


def test_limits_are_those_of_where_it_is_sold_unless_told_otherwise():
    assert protection_of(ProtectionTable(), contracts("ce_fcr")) is EN_50549
    assert (
        protection_of(ProtectionTable(), contracts("ieee1547")) == IEEE_1547
        or contracts("ieee1547")[0].product.protection
    )
    assert protection_of(ProtectionTable(use="none"), contracts("ce_fcr")) is None
    own = ProtectionTable(trips=((47.0, 1.0),), enter_low_hz=49.0, enter_high_hz=50.5, enter_delay_s=1, enter_ramp_s=0)
    assert protection_of(own, contracts("ce_fcr")).trips == ((47.0, 1.0),)


def test_a_product_that_brings_its_own_is_taken_by_its_word():
    table = {**to_table(load("ce_fcr")), "protection": {
        "trips": [[47.0, 1.0]], "enter_low_hz": 49.0, "enter_high_hz": 50.5, "enter_delay_s": 1.0, "enter_ramp_s": 0.0
    }}  # fmt: skip
    brought = Contract(parse(table, "test"), 1.0)
    assert protection_of(ProtectionTable(), [*contracts("nordic_fcr_n"), brought]).trips == ((47.0, 1.0),)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"trips": ((47.0, 1.0),)}, "protection.enter_low_hz"),
        ({"use": "nordic_fcr_n"}, "brings no trip limits"),
        ({"trips": ((50.0, 1.0),), "enter_low_hz": 49.5, "enter_high_hz": 50.5, "enter_delay_s": 1, "enter_ramp_s": 1},
         "in which service is entered"),
    ],
)  # fmt: skip
def test_limits_that_cannot_be_used_are_refused(table, message):
    with pytest.raises(ConfigError, match=message):
        protection_of(ProtectionTable(**table), contracts("ce_fcr"))


def test_figures_of_its_own_and_a_name_do_not_go_together():
    with pytest.raises(ValueError, match="leave it out"):
        ProtectionTable(use="none", trips=((47.0, 1.0),))


def test_without_protection_nothing_trips():
    unit = Line(settings_of("ce_fcr", 60.0))
    unit.hz(47.0, 3.0)
    assert unit.power_kw.sum() == pytest.approx(60.0)
