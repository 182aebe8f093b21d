"""The median of three: what it marks, what it lets through, and that its delay is one row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.median import MedianGate
from telemetry.quality import Gate, GateSettings
from telemetry.samples import FREQUENCY, Block, Quality

S = 1_000_000_000
Q = Quality


def block(hz, *, step_s=1.0, t_s=None, volt=math.nan, quality=0) -> Block:
    out = np.zeros(len(hz), FREQUENCY)
    out["t_ns"] = np.round((np.arange(len(hz)) * step_s if t_s is None else np.asarray(t_s)) * S).astype(np.int64)
    out["rx_ns"], out["hz"], out["volt_frac"], out["quality"] = out["t_ns"], hz, volt, quality
    return out


def marks(rows, gate=None):
    gate = gate or MedianGate()
    return [Q(int(bits)) for bits in np.concatenate([gate.check(rows), gate.flush()])["quality"]]


@pytest.mark.parametrize("nominal_hz", [50.0, 60.0])
@pytest.mark.parametrize(
    ("steps_hz", "expected"),
    [
        ([0.0, 0.01, -0.3, 0.01, 0.0], [0, 0, Q.SPIKE, 0, 0]),
        ([0.0, -0.3, -0.31, -0.3], [0, 0, 0, 0]),  # a real step passes whole: the rate test would take its first row
        ([0.0, 0.4, -0.4, 0.0], [0, Q.SPIKE, Q.SPIKE, 0]),
        ([0.0, -0.3, -0.6, -0.9, -0.9], [0, 0, 0, 0, 0]),  # a fall, each step beyond the ceiling
        ([0.0, 0.0, 0.4], [0, 0, Q.SPIKE]),  # nobody follows: its predecessor alone is asked
        ([0.0, 0.0, 0.1], [0, 0, 0]),
    ],
)
def test_the_shapes(nominal_hz, steps_hz, expected):
    gate = MedianGate(GateSettings(nominal_hz=nominal_hz))
    assert marks(block(nominal_hz + np.array(steps_hz)), gate) == expected


@pytest.mark.parametrize(("step_hz", "expected"), [(0.049, 0), (0.051, Q.SPIKE)])
def test_the_threshold_is_that_of_the_rate_test(step_hz, expected):
    assert marks(block([50.0, 50.0 + step_hz, 50.0], step_s=0.01))[1] == expected


def test_rows_with_another_mark_are_no_neighbours():
    rows = block([50.0, 49.7, math.nan, 49.7, 49.7], quality=[0, 0, 0, Q.TEST, 0])
    assert marks(rows) == [0, Q.SPIKE, Q.NAN, Q.TEST, Q.SPIKE]
    assert marks(block([50.0, 49.7, 49.7, 50.0], quality=[0, 0, Q.TEST, 0])) == [0, Q.SPIKE, Q.TEST, 0]


def test_after_a_long_gap_and_after_a_clock_that_was_set_back_there_is_nothing_to_compare_with():
    assert marks(block([50.0, 49.0, 50.0], t_s=[0.0, 11.0, 12.0])) == [0, 0, Q.SPIKE]
    gate = MedianGate(GateSettings(clock_jump_s=1.0, clock_relearn_s=0.5, age_max_s=1e6), live=True)
    rows = block([50.0, 49.0, 49.0], t_s=[100.0, 50.0, 51.0])
    rows["rx_ns"] = np.array([100, 101, 102]) * S
    assert marks(rows, gate) == [0, Q.CLOCK_JUMP, 0]


def test_the_delay_is_one_row_and_nothing_is_lost():
    gate, rows = MedianGate(), block([50.0, 50.01, 50.02])
    out = [gate.check(rows[i : i + 1])["t_ns"].tolist() for i in range(3)]
    assert out == [[], [0], [S]]
    assert gate.flush()["t_ns"].tolist() == [2 * S]
    assert gate.flush().size == 0
    assert gate.check(rows[:0]).size == 0


def test_every_mark_is_counted_once():
    gate = MedianGate()
    got = marks(block([50.0, 0.0, 50.3, 50.0, 70.0, math.nan, 50.0]), gate)
    assert gate.rejected() == {"zero": 1, "spike": 1, "range": 1, "nan": 1}
    assert sum(bool(mark) for mark in got) == 4


VALUES = st.sampled_from([50.0, 50.001, 50.04, 50.2, 49.7, 0.0, math.nan, 44.0])
STEPS = st.sampled_from([0.02, 1.0, 1.0, 0.0, 11.0])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(VALUES, STEPS), max_size=60), st.lists(st.integers(0, 60), max_size=4), st.booleans())
def test_block_by_block_equals_row_by_row(rows, cuts, live):
    hz, steps = zip(*rows, strict=True) if rows else ((), ())
    whole = block(list(hz), t_s=np.cumsum(steps))
    by_blocks, by_rows = MedianGate(live=live), MedianGate(live=live)
    pieces = [by_blocks.check(piece) for piece in np.split(whole, sorted(min(cut, whole.size) for cut in cuts))]
    singles = [by_rows.check(whole[i : i + 1]) for i in range(whole.size)]
    got, expected = (
        np.concatenate([*parts, gate.flush()]) for parts, gate in ((pieces, by_blocks), (singles, by_rows))
    )
    assert got.tobytes() == expected.tobytes()
    assert (by_blocks.counts == by_rows.counts).all()
    assert (got["t_ns"] == whole["t_ns"]).all()  # each row once, in order
    # All other marks are those of the gate that it stands on.
    plain = Gate(GateSettings(spike_floor_hz=math.inf, spike_ceiling_hz=math.inf), live=live).check(whole)["quality"]
    assert ((got["quality"] & ~np.uint16(Q.SPIKE)) == plain).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_bytes_are_marked_and_never_raise(seed):
    noise = np.random.default_rng(seed).integers(0, 256, 20 * FREQUENCY.itemsize, np.uint8)
    rows = np.frombuffer(noise.tobytes(), FREQUENCY)
    for live in (False, True):
        gate = MedianGate(live=live)
        assert gate.check(rows).size + gate.flush().size == rows.size
