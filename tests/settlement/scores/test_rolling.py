"""The shared filters against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement.scores.rolling import extreme, first_of_runs, run_least, slew
from tests import naive_scores

ROWS = st.lists(st.integers(-9, 9).map(float), max_size=60)


@given(values=ROWS, near=st.integers(0, 12), width=st.integers(1, 20), largest=st.booleans())
def test_extreme_of_a_window_in_the_past(values, near, width, largest):
    far = near + width - 1
    pick = max if largest else min
    wanted = [pick(values[max(0, j)] for j in range(k - far, k - near + 1)) for k in range(len(values))]
    assert extreme(np.array(values), near, far, largest=largest).tolist() == wanted


@given(values=ROWS, run=st.integers(1, 6))
def test_least_of_a_run(values, run):
    wanted = [min(values[max(0, k - run + 1) : k + 1]) for k in range(len(values))]
    assert run_least(np.array(values), run).tolist() == wanted


@given(values=ROWS, up=st.floats(0.1, 12), down=st.floats(0.1, 12))
def test_slew_equals_its_twin(values, up, down):
    got = slew(np.array(values), up, down)
    np.testing.assert_allclose(got, naive_scores.limited(values, up, down), atol=1e-9)


def test_slew_takes_up_again_after_it_caught_up():
    values = np.array([0.0, 3.0, 3.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 5.0])
    assert slew(values, 1.0, 2.0).tolist() == [0, 1, 2, 3, 3, 1, 0, 0, 0, 1]
    assert values[1] == 3.0  # the input stays as it was


def test_runs_begin_where_they_begin():
    assert first_of_runs(np.array([True, True, False, True, False, False, True])) == [0, 3, 6]
    assert first_of_runs(np.zeros(0, bool)) == []


@pytest.mark.parametrize("run", [1, 4])
def test_nothing_in_nothing_out(run):
    assert run_least(np.zeros(0), run).size == 0
    assert slew(np.zeros(0), 1.0, 1.0).size == 0
