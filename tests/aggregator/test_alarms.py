"""Alarms: raised once, cleared once, with their times."""

from __future__ import annotations

import dataclasses

import pytest

from aggregator.alarms import TABLE, Alarm, Alarms

T0 = 1_790_000_000 * 10**9


def test_an_alarm_is_one_change_when_it_comes_and_one_when_it_goes():
    alarms = Alarms()
    for k in range(5):
        alarms.set("DEAD_BUS", True, T0 + k)
    raised = Alarm("DEAD_BUS", "critical", T0, TABLE["DEAD_BUS"].text)
    assert alarms.standing() == [raised]
    assert alarms.drain() == [raised]
    assert alarms.drain() == []
    for k in range(5):
        alarms.set("DEAD_BUS", False, T0 + 10 + k)
    assert alarms.drain() == [dataclasses.replace(raised, cleared_ns=T0 + 10)]
    assert alarms.standing() == []


def test_what_never_stood_is_not_cleared():
    alarms = Alarms()
    alarms.set("SHORTFALL", False, T0)
    assert alarms.drain() == alarms.standing() == alarms.raised == []


def test_an_alarm_that_comes_back_is_a_new_one_but_named_once():
    alarms = Alarms()
    for k, holds in enumerate((True, False, True)):
        alarms.set("SHORTFALL", holds, T0 + k)
    assert [(a.since_ns - T0, a.cleared_ns and a.cleared_ns - T0) for a in alarms.drain()] == [(0, 0), (0, 1), (2, 0)]
    assert alarms.raised == ["SHORTFALL"]


def test_the_oldest_stands_first():
    alarms = Alarms()
    alarms.set("NO_FLEET", True, T0 + 5)
    alarms.set("DEAD_BUS", True, T0 + 1)
    alarms.set("SHORTFALL", True, T0 + 3)
    assert [a.code for a in alarms.standing()] == ["DEAD_BUS", "SHORTFALL", "NO_FLEET"]
    assert alarms.raised == ["NO_FLEET", "DEAD_BUS", "SHORTFALL"]


def test_every_row_of_the_table_is_complete_and_no_other_code_exists():
    for code, kind in TABLE.items():
        assert code == code.upper()
        assert kind.severity in ("warning", "critical")
        assert len(kind.text) > 10
    with pytest.raises(KeyError):
        Alarms().set("NOTHING_OF_THE_KIND", True, T0)
