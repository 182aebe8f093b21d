"""Late history fills gaps, and gaps alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement import history
from settlement.align import NS
from settlement.facts import History, Samples
from settlement.interval import settle
from tests.settlement.conftest import START_NS

END_NS = START_NS + 900 * NS


def samples(t_s, hz=50.0, usable=True):
    t_ns = np.array([round(t * NS) for t in t_s], np.int64)
    return Samples(t_ns, np.broadcast_to(np.float64(hz), t_ns.shape).copy(), np.full(t_ns.size, usable))


def late(t_s, hz=49.9, usable=True, entry=(1, 0)):
    live = samples(t_s, hz, usable)
    return History(*live, np.full(live.t_ns.size, entry[0]), np.full(live.t_ns.size, entry[1]))


def seconds(filled):
    return (filled.samples.t_ns[filled.late] / NS).tolist()


@pytest.mark.parametrize(
    ("live_s", "late_s", "wanted_s"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], []),
        ([0, 1, 2, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7], [3, 4, 5, 6]),
        ([0, 1, 2, 7, 8, 9], [2.4, 2.6, 6.4, 6.6], [2.6, 6.4]),  # within half a period: told twice
        ([0, 1, 2, 3.4, 4.4], [2.7], []),  # no gap: 1.4 periods
        ([0, 1, 2], [-2, -1, 3, 4], [-2, -1, 3, 4]),  # beyond either end
        ([], [1, 2, 2, 3], [1, 2, 3]),
    ],
)
def test_only_where_nothing_was_heard(live_s, late_s, wanted_s):
    filled = history.fill(samples(live_s), late(late_s))
    assert seconds(filled) == wanted_s
    assert (np.diff(filled.samples.t_ns) > 0).all()
    assert filled.late.sum() + len(live_s) == filled.samples.t_ns.size


def test_what_the_gate_refused_is_not_replaced():
    heard = samples(range(10))._replace(usable=np.arange(10) != 5)
    filled = history.fill(heard, late([5]))
    assert not filled.late.any()
    assert filled.samples.usable.tolist() == heard.usable.tolist()


def test_the_first_told_counts_and_the_newest_is_named():
    one, two = late([3, 4], 49.9, entry=(1, 7)), late([4, 5], 49.8, entry=(2, 0))
    both = History(*(np.concatenate(pair) for pair in zip(one, two, strict=True)))
    filled = history.fill(samples([0, 1, 2, 8, 9]), both)
    assert filled.samples.hz[filled.late].tolist() == [49.9, 49.9, 49.8]
    assert filled.through == (2, 0)


def test_nothing_late_changes_nothing():
    heard = samples([3, 1, 2])
    filled = history.fill(heard, late([]))
    assert (filled.samples, filled.through) == (heard, None)


@given(st.sets(st.integers(0, 60), max_size=50), st.sets(st.integers(0, 120), max_size=80))
def test_live_rows_all_stay_and_late_ones_lie_apart(live, told):
    heard = samples(sorted(live))
    filled = history.fill(heard, late(sorted(x / 2 for x in told)))
    assert filled.samples.t_ns[~filled.late].tolist() == heard.t_ns.tolist()
    half_ns = np.median(np.diff(heard.t_ns)) / 2 if len(live) > 1 else 0
    for t_ns in filled.samples.t_ns[filled.late]:
        assert not live or np.abs(heard.t_ns - t_ns).min() > half_ns


def without(facts, first_s, last_s):
    """The same facts after an outage of the measurement, and what the device told later."""
    f = facts.samples
    gone = (f.t_ns >= START_NS + first_s * NS) & (f.t_ns < START_NS + last_s * NS)
    ids = np.ones(int(gone.sum()), np.int64)
    told = History(f.t_ns[gone], f.hz[gone], f.usable[gone], 4 * ids, 9 * ids)
    return facts._replace(samples=Samples(*(column[~gone] for column in f))), told


def test_history_makes_the_interval_whole(sold, facts):
    (whole,) = settle(sold, facts, START_NS, END_NS)
    lost, told = without(facts, 100, 400)
    (short,) = settle(sold, lost, START_NS, END_NS)
    (found,) = settle(sold, lost._replace(history=told), START_NS, END_NS)
    assert short.coverage["frequency"] < 0.7
    assert (short.history.rows, short.history.through) == (0, "")
    assert found.history.through == "4-9"
    assert found.history.rows == 3000
    # The last live sample, 0.1 s before the outage, stands for 1 s: the product's own allowance.
    assert found.history.seconds == pytest.approx(299.1)
    assert any("late history" in note for note in found.notes)
    assert dataclasses.replace(found, history=whole.history, notes=whole.notes) == whole


def test_what_was_told_twice_names_the_first():
    one, two = late([3, 4], entry=(1, 7)), late([3, 4], entry=(2, 0))
    both = History(*(np.concatenate(pair) for pair in zip(one, two, strict=True)))
    assert history.fill(samples([0, 1, 2, 8, 9]), both).through == (1, 7)


def test_rows_outside_the_window_name_nothing(sold, facts):
    lost, told = without(facts, 100, 400)
    away = told._replace(t_ns=told.t_ns + 3600 * NS)
    (found,) = settle(sold, lost._replace(history=away), START_NS, END_NS)
    assert found.history.through == ""
