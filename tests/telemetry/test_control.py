"""The judge of a utility's commands: each rule by itself, their order, and a naive twin."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.iec61850 import control
from telemetry.iec61850.control import Access, AddCause, Judge, Limits, Request

S = 1_000_000_000
NOW = 1_700_000_000 * S
LIMITS = Limits(100.0, step_kw=40.0, interval_s=1.0, age_s=10.0)
GOOD = Request(False, 30.0, NOW, False, 3, b"tso", 1, "tso", "", True)


@pytest.mark.parametrize(
    ("change", "reason", "cause", "access"),
    [
        ({"may_operate": False}, "authority", AddCause.NO_ACCESS_AUTHORITY, Access.DENIED),
        ({"category": 2}, "origin", AddCause.BLOCKED_BY_SWITCHING_HIERARCHY, Access.DENIED),
        ({"category": 0}, "origin", AddCause.BLOCKED_BY_SWITCHING_HIERARCHY, Access.DENIED),
        ({"test": True}, "test", AddCause.BLOCKED_BY_MODE, Access.DENIED),
        ({"power_kw": math.nan}, "value", AddCause.INCONSISTENT_PARAMETERS, Access.INVALID),
        ({"power_kw": -math.inf}, "value", AddCause.INCONSISTENT_PARAMETERS, Access.INVALID),
        ({"power_kw": 100.1}, "range", AddCause.INCONSISTENT_PARAMETERS, Access.INVALID),
        ({"power_kw": -100.1}, "range", AddCause.INCONSISTENT_PARAMETERS, Access.INVALID),
        ({"t_ns": NOW - 10 * S - 1}, "age", AddCause.TIME_LIMIT_OVER, Access.DENIED),
        ({"t_ns": NOW + 10 * S + 1}, "age", AddCause.TIME_LIMIT_OVER, Access.DENIED),
        ({"t_ns": 0}, "age", AddCause.TIME_LIMIT_OVER, Access.DENIED),
        ({"power_kw": 40.1}, "step", AddCause.STEP_LIMIT, Access.INVALID),
        ({"power_kw": -40.1}, "step", AddCause.STEP_LIMIT, Access.INVALID),
    ],
)
def test_each_rule_refuses_by_itself(change: dict[str, Any], reason: str, cause: int, access: int) -> None:
    for select in (False, True):
        request = GOOD._replace(select=select, **change)
        assert Judge(LIMITS).refuse(request, NOW, 0.0) == control.Refusal(reason, AddCause(cause), Access(access))


def test_what_keeps_to_every_limit_is_let_in() -> None:
    for change in (
        {}, {"power_kw": 40.0}, {"power_kw": -40.0}, {"category": 6}, {"t_ns": NOW - 10 * S}, {"t_ns": NOW + 10 * S},
    ):  # fmt: skip
        assert Judge(LIMITS).refuse(GOOD._replace(**change), NOW, 0.0) is None
    assert Judge(LIMITS).refuse(GOOD._replace(power_kw=100.0), NOW, 60.0) is None
    assert Judge(Limits(100.0)).refuse(GOOD._replace(power_kw=-100.0), NOW, 100.0) is None


def test_nothing_is_let_in_while_the_fleet_is_not_heard() -> None:
    assert Judge(LIMITS).refuse(GOOD, NOW, None) == control.HEALTH


def test_a_step_is_counted_from_what_was_let_in_until_the_figures_show_it() -> None:
    judge = Judge(LIMITS)
    judge.take(40.0, NOW)
    later = GOOD._replace(power_kw=75.0, t_ns=NOW + S)
    assert judge.refuse(later, NOW + S, 0.0) is None  # the figures lag
    assert judge.refuse(later, NOW + 2 * S, 0.0) == control.STEP  # it never came to stand
    assert judge.refuse(later, NOW + 2 * S, 40.0) is None


def test_the_interval_counts_from_the_last_that_was_let_in() -> None:
    judge = Judge(LIMITS)
    judge.take(30.0, NOW)
    assert judge.refuse(GOOD, NOW, 30.0) == control.PACE
    assert judge.refuse(GOOD, NOW + S - 1, 30.0) == control.PACE
    assert judge.refuse(GOOD, NOW + S, 30.0) is None
    # A clock set back locks nobody out.
    assert judge.refuse(GOOD._replace(t_ns=NOW - 3600 * S), NOW - 3600 * S, 30.0) is None


power = st.one_of(st.floats(-150, 150, width=32), st.sampled_from([math.nan, math.inf, -math.inf]))


@settings(deadline=None)
@given(
    power=power, shown=st.one_of(st.none(), st.floats(-100, 100)), taken=st.one_of(st.none(), st.floats(-100, 100)),
    since=st.integers(-3 * S, 5 * S), off=st.integers(-20 * S, 20 * S), category=st.integers(0, 8), test=st.booleans(),
    may=st.booleans(), step=st.one_of(st.none(), st.floats(1, 100)),
)  # fmt: skip
def test_the_judge_agrees_with_its_naive_twin(
    power: float, shown: float | None, taken: float | None, since: int, off: int, category: int, test: bool, may: bool,
    step: float | None,
) -> None:  # fmt: skip
    judge = Judge(Limits(100.0, step, 1.0, 10.0))
    if taken is not None:
        judge.take(taken, NOW - since)
    got = judge.refuse(
        GOOD._replace(power_kw=power, t_ns=NOW + off, category=category, test=test, may_operate=may), NOW, shown
    )
    assert (got is None) == _lets_in(power, shown, taken, since, off, category, test, may, step)


def _lets_in(
    power: float, shown: float | None, taken: float | None, since: int, off: int, category: int, test: bool, may: bool,
    step: float | None,
) -> bool:  # fmt: skip
    if not may or category not in (3, 6) or test:
        return False
    if power != power or power > 100 or power < -100:
        return False
    if off > 10 * S or off < -10 * S or shown is None:
        return False
    start = taken if taken is not None and 0 <= since < 2 * S else shown
    if step is not None and (power > start + step or power < start - step) and abs(power - start) > step:
        return False
    return not (taken is not None and 0 <= since < S)
