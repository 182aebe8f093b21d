"""What a report draws: nothing is lost on the way, and the worst minutes are the worst."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement.align import NS
from settlement.report.series import MINUTE_NS, Series, errors_pu, joined, missing_kw, thinned, worst

NAN = float("nan")


def series(asked, given, start_ns=0, sold_kw=100.0):
    asked, given = np.asarray(asked, float), np.asarray(given, float)
    none = np.full(asked.size, np.nan)
    t_ns = start_ns + np.arange(asked.size) * NS
    return Series(t_ns, np.full(asked.size, 50.0), asked, given, none, none, 1.0, sold_kw)


@pytest.mark.parametrize(
    ("asked", "given", "missing"),
    [
        (10, 4, 6), (-10, -4, 6), (10, 14, 0), (-10, -14, 0), (10, -2, 12), (0, 5, 0), (0, -5, 0), (10, NAN, NAN),
        (NAN, 1, NAN), (1e-9, 0, 0),
    ],
)  # fmt: skip
def test_only_too_little_is_missing(asked, given, missing):
    np.testing.assert_array_equal(missing_kw(series([asked], [given])), [missing])


def test_the_worst_minutes_come_first_with_what_they_lacked():
    asked = np.full(300, 60.0)
    given = np.full(300, 60.0)
    given[70:80], given[190], given[250:260] = 30.0, 0.0, np.nan
    found = worst(series(asked, given))
    assert [minute.start_ns for minute in found] == [MINUTE_NS, 3 * MINUTE_NS]
    assert [minute.missing_kwh for minute in found] == pytest.approx([300 / 3600, 60 / 3600])
    assert [minute.worst_kw for minute in found] == [30.0, 60.0]
    assert found[0].asked_kwh == pytest.approx(1.0)
    assert worst(series(asked, asked)) == []
    assert worst(series([], [])) == []
    assert len(worst(series(asked, np.zeros(300)), most=2)) == 2


def test_minutes_are_the_clocks_own():
    found = worst(series(np.full(40, 60.0), np.zeros(40), start_ns=40 * NS))
    assert sorted((m.start_ns, m.missing_kwh) for m in found) == [
        (0, pytest.approx(20 / 60)), (MINUTE_NS, pytest.approx(20 / 60)),
    ]  # fmt: skip


@given(st.lists(st.floats(-1e3, 1e3) | st.just(NAN), max_size=400), st.integers(8, 60))
def test_thinning_keeps_every_peak(values, points):
    value = np.array(values, float)
    t_ns, kept = thinned(np.arange(value.size), value, points)
    assert kept.size <= points + 2 * points + 2
    np.testing.assert_array_equal(kept, value[t_ns])
    if np.isfinite(value).any():
        assert np.nanmax(kept) == np.nanmax(value)
        assert np.nanmin(kept) == np.nanmin(value)


def test_errors_are_shares_of_the_power_sold_where_both_are_known():
    assert errors_pu(series([10, 10, NAN, 1], [20, 5, 1, NAN])).tolist() == [0.1, -0.05]
    assert errors_pu(series([1], [1], sold_kw=0.0)).size == 0


def test_parts_join_and_cut_again():
    one, two = series([1, 2], [1, 2]), series([3], [3], start_ns=2 * NS)
    whole = joined([one, two])
    assert whole.asked_kw.tolist() == [1, 2, 3]
    assert whole.between(NS, 3 * NS).given_kw.tolist() == [2, 3]
