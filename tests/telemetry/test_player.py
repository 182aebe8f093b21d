"""A recorded trace as a unit shows it: linear between rows, the same whatever is asked first, faults on top."""

from __future__ import annotations

import numpy as np
import pytest

from telemetry.generator import parse_faults
from telemetry.player import NOISE_HZ, Player
from telemetry.samples import FREQUENCY

S = 10**9
T0 = 1_790_000_000 * S


def rows(hz, volt=np.nan, seconds=None):
    block = np.zeros(len(hz), FREQUENCY)
    block["t_ns"] = T0 + np.asarray(range(len(hz)) if seconds is None else seconds) * S
    block["rx_ns"], block["hz"], block["volt_frac"] = block["t_ns"], hz, volt
    return block


def test_between_rows_it_is_linear_and_the_noise_is_below_any_meter():
    player = Player(rows([50.0, 49.9, 49.9]), 50.0, 10.0)
    assert player.length == 21
    samples = player.block(0, 21)
    expected = np.interp(np.arange(21) / 10, [0, 1, 2], [50.0, 49.9, 49.9])
    assert np.abs(samples.hz - expected).max() < 6 * NOISE_HZ
    assert np.unique(samples.hz).size == 21  # a steady grid is not a stuck meter
    assert (samples.volt_frac == 1.0).all()


@pytest.mark.parametrize("rate_hz", [0.5, 1.0, 10.0, 50.0])
def test_a_sample_is_the_same_whatever_was_asked_before(rate_hz):
    player = Player(rows(50 + 0.01 * np.sin(np.arange(150)), 0.99), 50.0, rate_hz)
    whole = player.block(0, player.length + 5)
    for k in (0, 7, player.length // 2, player.length - 1, player.length + 3, 1):
        one = player.sample(k)
        np.testing.assert_array_equal(one.hz, whole.hz[k])
        np.testing.assert_array_equal(one.volt_frac, whole.volt_frac[k])
        np.testing.assert_array_equal(player.block(k, 2).hz, player.block(k, 3).hz[:2])
        np.testing.assert_array_equal(player.block(k, 1).hz, whole.hz[k : k + 1])


def test_after_its_end_there_is_no_number():
    player = Player(rows([50.0, 50.0]), 50.0, 1.0)
    assert np.isnan(player.block(0, 400).hz[2:]).all()
    assert np.isnan(player.sample(10**9).hz)


def test_a_missing_value_stays_missing_and_voltage_is_the_traces_own():
    player = Player(rows([50.0, np.nan, 49.9, 49.8], [1.0, 1.0, 0.02, 0.02]), 50.0, 2.0)
    samples = player.block(0, 7)
    assert np.isnan(samples.hz).tolist() == [False, True, True, True, False, False, False]
    assert samples.volt_frac == pytest.approx([1, 1, 1, 0.51, 0.02, 0.02, 0.02], abs=1e-6)


def test_rows_that_do_not_ascend_are_left_out():
    player = Player(rows([50.0, 49.9, 47.0, 46.0, 49.8], seconds=[0, 1, 1, 0, 2]), 50.0, 1.0)
    assert player.block(0, 3).hz == pytest.approx([50.0, 49.9, 49.8], abs=1e-3)


def test_faults_are_the_generators():
    player = Player(rows([50.0] * 30, 1.0), 50.0, 10.0, parse_faults("nan@1+1,dead-bus@5+2,spike@10,silence@12+1"))
    samples = player.block(0, 200)
    assert np.isnan(samples.hz[10:20]).all()
    assert (samples.volt_frac[50:70] < 0.5).all()
    assert samples.hz[100] < 49.0
    assert samples.silent[120:130].all()
    assert samples.silent.sum() == 10


def test_no_rows_are_an_error():
    with pytest.raises(ValueError, match="0 times"):
        Player(rows([]), 50.0, 10.0)
