"""The declared baseline: ahead of each interval, once, frozen; nothing is declared for the past."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aggregator.contracts import Contract
from aggregator.declared import LEAD_NS, SETTLE_NS, Declarations
from droop.products import load
from settlement.baseline import BaselineError

S = 10**9
Q = 900 * S
T0 = 1_790_000_000 * S // Q * Q


def declare(declared, now_ns, plan_kw, vehicles=3):
    (row,) = declared.declare(now_ns, plan_kw, vehicles)
    return int(row["declared_ns"]), int(row["start_ns"]), int(row["end_ns"]), float(row["power_kw"])


def test_nothing_is_declared_before_the_first():
    declared = Declarations(900)
    assert declared.power_kw(T0) == 0.0
    assert declared.due(T0)
    assert declared.power_kw(T0 + 5 * Q) == 0.0


@pytest.mark.parametrize("interval_s", [900, 1800, 3600])
def test_the_first_begins_when_the_fleet_has_settled_and_ends_with_the_interval(interval_s):
    length = interval_s * S
    start = T0 // length * length
    for offset, end in ((0, 1), (10 * S, 1), (length - SETTLE_NS - 1, 1), (length - SETTLE_NS, 2), (length - 1, 2)):
        declared = Declarations(interval_s)
        now = start + offset
        assert declare(declared, now, -5.0) == (now, now + SETTLE_NS, start + end * length, -5.0)
        assert declared.power_kw(now) == -5.0


def test_the_next_is_due_a_lead_ahead_and_holds_from_its_start():
    declared = Declarations(900)
    declare(declared, T0 + S, -5.0)
    assert not declared.due(T0 + Q - LEAD_NS - 1)
    assert declared.due(T0 + Q - LEAD_NS)
    assert declare(declared, T0 + Q - LEAD_NS, -7.0) == (T0 + Q - LEAD_NS, T0 + Q, T0 + 2 * Q, -7.0)
    assert not declared.due(T0 + Q - LEAD_NS)
    assert declared.power_kw(T0 + Q - 1) == -5.0
    assert declared.power_kw(T0 + Q) == -7.0
    assert not declared.due(T0 + Q)
    assert declared.due(T0 + 2 * Q - LEAD_NS)


def test_a_step_declared_in_time_holds_although_nobody_looked_at_the_boundary():
    declared = Declarations(900)
    declare(declared, T0, -5.0)
    declare(declared, T0 + Q - 30 * S, -7.0)
    assert not declared.due(T0 + 2 * Q - LEAD_NS - 1)
    assert declared.power_kw(T0 + 2 * Q - LEAD_NS - 1) == -7.0


def test_after_a_pause_of_the_line_the_first_is_made_again():
    declared = Declarations(900)
    declare(declared, T0, -5.0)
    declare(declared, T0 + Q - 30 * S, -7.0)
    late = T0 + 7 * Q + 100 * S
    assert declared.due(late)
    assert declare(declared, late, -1.0) == (late, late + SETTLE_NS, T0 + 8 * Q, -1.0)
    assert declared.power_kw(late) == -1.0
    assert not declared.due(late)


def test_missing_the_lead_declares_at_once_for_the_next():
    declared = Declarations(900)
    declare(declared, T0, -5.0)
    now = T0 + Q - 1
    assert declared.due(now)
    assert declare(declared, now, -7.0)[1:3] == (T0 + Q, T0 + 2 * Q)


def test_a_row_says_how_many_vehicles_stand_behind_it():
    (row,) = Declarations(900).declare(T0, -5.0, 42)
    assert (row["vehicles"], row["flags"]) == (42, 0)


def test_a_ramp_is_declared_with_the_interval_and_followed_to_the_second():
    declared = Declarations(900, 4)
    declare(declared, T0 + S, -5.0)
    rows = declared.declare(T0 + Q - 30 * S, -13.0, 3)
    assert set(rows["declared_ns"]) == {T0 + Q - 30 * S}
    assert ((rows["start_ns"] - T0 - Q) // S).tolist() == [0, 1, 2, 3, 4]
    assert rows["end_ns"].tolist() == [*rows["start_ns"][1:], T0 + 2 * Q]
    assert rows["power_kw"].tolist() == [-6.0, -8.0, -10.0, -12.0, -13.0]
    assert declared.power_kw(T0 + Q - 1) == -5.0
    for start_ns, end_ns, power_kw in zip(rows["start_ns"], rows["end_ns"], rows["power_kw"], strict=True):
        assert declared.power_kw(int(start_ns)) == declared.power_kw(int(end_ns) - 1) == power_kw
    # The next ramp begins where this one ended, and a plan that stays has none.
    assert declared.declare(T0 + 2 * Q - S, -13.0, 3).size == 1
    assert declared.power_kw(T0 + 2 * Q) == -13.0
    assert declared.declare(T0 + 3 * Q - S, -5.0, 3)["power_kw"][0] == -12.0


def test_the_first_of_a_run_has_no_ramp():
    declared = Declarations(900, 60)
    assert declared.declare(T0, -5.0, 3).size == 1
    assert declared.power_kw(T0) == -5.0
    late = T0 + 7 * Q + 100 * S
    assert declared.declare(late, -1.0, 3).size == 1
    assert declared.power_kw(late + SETTLE_NS) == -1.0


@pytest.mark.parametrize("value", [-1, 1.5, 451, "60", True, None])
def test_a_ramp_that_makes_no_sense_is_refused_before_anything_is_sold(value):
    with pytest.raises(BaselineError, match=r"field `baseline.ramp_s` takes whole seconds up to half an interval"):
        Contract(replace(load("ce_fcr"), baseline={"ramp_s": value}), 10.0)
