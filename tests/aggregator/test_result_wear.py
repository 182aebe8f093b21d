"""What a stay wears: shares of a life that add up, by the published laws; reversals of power as they are counted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.gateways.physics import _turned
from aggregator.results import wear
from aggregator.results.stays import read, short_kwh
from aggregator.results.wear import CHEMISTRIES, Lived, shares
from droop import rainflow
from droop.ageing import END_OF_LIFE, cycles_to


def lived(history, span_s=3600.0, temp_c=25.0, c_rate=0.5):
    """One battery through a history of states of charge."""
    cycles = rainflow.begin(np.array([history[0]]))
    for soc in history[1:]:
        rainflow.update(cycles, np.array([soc]), rainflow.THRESHOLD)
    one = np.ones(1)
    return Lived(span_s * one, float(np.mean(history)) * one, temp_c * one, c_rate * one, read(cycles))


@pytest.mark.parametrize("law", sorted(CHEMISTRIES))
@pytest.mark.parametrize("depth", [0.1, 0.6])
def test_as_many_cycles_as_a_life_has_are_one_life(law, depth):
    low, high = 0.5 - depth / 2, 0.5 + depth / 2
    share = shares(law, lived([low, high] * 40 + [low])).cycle[0]
    assert share == pytest.approx(40 / cycles_to(CHEMISTRIES[law], depth), rel=1e-6)


@pytest.mark.parametrize("law", sorted(CHEMISTRIES))
def test_a_calendar_life_ends_where_the_law_says_and_shares_add_up(law):
    rule = CHEMISTRIES[law]
    assert rule.loss(wear.calendar_sum(law), 0.0) == pytest.approx(END_OF_LIFE, rel=1e-9)
    day, two = (shares(law, lived([0.6, 0.6], span_s)) for span_s in (86_400.0, 172_800.0))
    assert two.calendar[0] == pytest.approx(2.0 * day.calendar[0])
    years = 1.0 / day.calendar[0] / 365.0
    assert 5.0 < years < 60.0
    assert (day.cycle[0], two.cycle[0]) == (0.0, 0.0)
    warm = shares(law, lived([0.6, 0.6], 86_400.0, temp_c=40.0))
    assert warm.calendar[0] > 1.3 * day.calendar[0]


@settings(deadline=None)
@given(powers=st.lists(st.sampled_from([0.0, 3.7, -3.7, 11.0, -0.5, 1e-6]), max_size=60))
def test_reversals_are_changes_of_sign_that_a_pause_does_not_hide(powers):
    turns = 0.0
    for power in powers:
        turns = _turned(turns, power)
    signs = [power > 0.0 for power in powers if power != 0.0]
    assert max(abs(turns) - 1.0, 0.0) == sum(a != b for a, b in itertools.pairwise(signs))


@pytest.mark.parametrize(
    ("asked", "plan", "net", "short"),
    [(2.0, -5.0, -3.0, 0.0), (2.0, -5.0, -4.0, 1.0), (-2.0, 0.0, -0.5, 1.5), (-2.0, 0.0, -3.0, 0.0),
     (2.0, -5.0, -6.0, 3.0), (0.0, -5.0, 0.0, 0.0)],
)  # fmt: skip
def test_short_is_what_lacks_on_the_side_that_was_asked(asked, plan, net, short):
    found = short_kwh(np.array([asked]), np.array([plan]), np.array([net]))
    assert found.tolist() == [short]
