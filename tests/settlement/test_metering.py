"""Errors of a sum of meters, and meters that are too slow for a product."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.products import load
from droop.promises import Sampling
from settlement import metering
from settlement.align import NS
from settlement.facts import Meters
from settlement.interval import settle
from tests.settlement.conftest import START_NS


def test_a_hundred_independent_meters_are_ten_times_as_good_as_one():
    """Nordic requirements eq. 32: root of the sum of squares."""
    kw = np.full(100, 7.0)
    found = metering.budget(kw, np.full(100, 0.01), np.zeros(100))
    assert found.total_kw / kw.sum() == pytest.approx(0.001)


def test_what_a_model_has_in_common_does_not_average_out():
    found = metering.budget(np.array([7.0, -7.0, 3.0]), np.zeros(3), np.full(3, 0.01))
    assert found == (0.0, pytest.approx(0.17))


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.floats(0, 0.05))
def test_the_error_is_never_above_the_sum_of_all(kw, frac):
    power = np.array(kw)
    found = metering.budget(power, np.full(power.size, frac), np.zeros(power.size))
    assert found.random_kw <= frac * np.abs(power).sum() + 1e-12


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match="`random_frac`"):
        metering.budget(np.ones(1), np.array([2.0]), np.zeros(1))


@pytest.mark.parametrize(("period_s", "said"), [(1, 0), (4, 0), (5, 1)])
def test_a_slow_meter_is_named(period_s, said):
    t_ns = np.arange(20) * period_s * NS
    meters = Meters(t_ns, np.zeros(20), np.full(20, 3), np.ones(20, bool))
    product = dataclasses.replace(load("ce_fcr"), sampling=Sampling(meter_s=4.0, power_accuracy_frac=0.01))
    assert len(metering.too_slow(product, meters)) == said
    assert metering.precise_enough(product, 0.01)
    assert not metering.precise_enough(product, -0.011)
    assert metering.precise_enough(dataclasses.replace(product, sampling=Sampling()), 0.5)


def test_the_statement_says_so(sold, facts):
    product = dataclasses.replace(sold[0].product, sampling=Sampling(meter_s=0.5))
    (found,) = settle([sold[0]._replace(product=product)], facts, START_NS, START_NS + 900 * NS)
    assert any("meter 1 reports every 1 s; ce_fcr asks for 0.5 s" in note for note in found.notes)
