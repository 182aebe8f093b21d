"""Baselines: what counts, what is refused, and whether it mirrors the frequency."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement import baseline
from settlement.align import NS, Grid
from settlement.baseline import BaselineError, ExPostError
from settlement.facts import Declarations


def declared(*rows):
    """Rows (declared_s, start_s, end_s, kw, run)."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    times = (table[:, :3] * NS).astype(np.int64)
    return Declarations(*times.T.copy(), table[:, 3], table[:, 4].astype(np.int64), np.zeros(len(table), bool))


def test_steps_on_the_grid():
    cells = baseline.power_kw(declared((0, 0, 2, -10, 1), (1, 2, 4, -20, 1)), Grid(0, NS, 5))
    np.testing.assert_array_equal(cells.mean, [-10, -10, -20, -20, np.nan])
    np.testing.assert_array_equal(cells.coverage_frac, [1, 1, 1, 1, 0])


def test_a_later_declaration_replaces_what_it_covers():
    cells = baseline.power_kw(declared((0, 0, 9, 1, 1), (1, 2, 4, 2, 1), (2, 3.5, 6, 3, 1)), Grid(0, NS, 9))
    np.testing.assert_array_equal(cells.mean, [1, 1, 2, 2.5, 3, 3, 1, 1, 1])


def test_ex_post_is_refused_by_name():
    rows = declared((0, 0, 900, 1, 1), (901, 900, 1800, 2, 1))
    with pytest.raises(ExPostError, match=r"declaration 1: field `declared_ns` lies 1\.000 s after"):
        baseline.check(rows)
    cells = baseline.power_kw(rows, Grid(0, 900 * NS, 2))
    np.testing.assert_array_equal(cells.mean, [1, np.nan])


def test_real_time_is_not_ex_post():
    baseline.check(declared((0, 0, 900, 1, 1), (900, 900, 1800, 2, 1)))


def test_the_first_of_a_run_counts_from_its_declaration_and_is_late():
    rows = declared((200, 0, 900, 1, 1), (500, 0, 900, 2, 2), (600, 0, 900, 3, 2))
    accepted = baseline.accept(rows)
    np.testing.assert_array_equal(accepted.rows, [0, 1])
    np.testing.assert_array_equal(accepted.late, [True, True])
    np.testing.assert_array_equal(accepted.refused, [2])
    cells = baseline.power_kw(rows, Grid(0, 100 * NS, 9))
    np.testing.assert_array_equal(cells.mean, [np.nan, np.nan, 1, 1, 1, 2, 2, 2, 2])


def test_a_first_declaration_after_its_own_end_covers_nothing():
    cells = baseline.power_kw(declared((1000, 0, 900, 1, 1)), Grid(0, 900 * NS, 2))
    assert not cells.coverage_frac.any()


def test_used_rows_are_those_that_touch():
    rows = declared((0, 0, 10, 1, 1), (0, 10, 20, 2, 1), (0, 20, 30, 3, 1))
    np.testing.assert_array_equal(baseline.used(rows, 10 * NS, 20 * NS), [1])


@pytest.mark.parametrize(("row", "field"), [((0, 0, 900, np.nan, 1), "power_kw"), ((0, 900, 900, 1, 1), "end_ns")])
def test_a_row_that_says_nothing_names_the_field(row, field):
    with pytest.raises(BaselineError, match=field):
        baseline.accept(declared(row))


def wander(seed, n=900, keep=0.98):
    rng = np.random.default_rng(seed)
    dev = np.zeros(n)
    for k in range(1, n):
        dev[k] = keep * dev[k - 1] + 0.004 * rng.standard_normal()
    return dev


def test_bl_1():
    dev = wander(1)
    target = -dev / 0.2 * 1000
    found = baseline.mirroring(-500.0 - 0.3 * target, dev)
    assert found.alarm
    assert found.correlation == pytest.approx(1.0, abs=1e-6)


def test_a_mirror_with_a_charger_delay_is_found():
    dev = wander(2)
    found = baseline.mirroring(np.roll(-500 + 150 * dev / 0.2, 3), dev)
    assert found.alarm


def test_step_plans_and_flat_plans_raise_no_alarm():
    dev = wander(3)
    steps = np.repeat([-100.0, -300.0, -200.0], 300)
    assert not baseline.mirroring(steps, dev).alarm
    flat = baseline.mirroring(np.full(900, -123.4), dev)
    assert flat == (None, 0, False)
    assert baseline.mirroring(np.full(900, np.nan), dev).correlation is None


@given(seed=st.integers(0, 100_000))
def test_a_wandering_plan_of_its_own_raises_no_alarm(seed):
    """Levels of two random walks correlate by chance; their changes do not."""
    own = np.cumsum(np.random.default_rng(seed + 1_000_000).standard_normal(900))
    assert not baseline.mirroring(own, wander(seed)).alarm
