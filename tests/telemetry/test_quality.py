"""The gate against its rules one by one, against recorded shapes, and block by block against row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.quality import Gate, GateError, GateSettings
from telemetry.samples import FREQUENCY, Block, Quality

S = 1_000_000_000
Q = Quality


def block(hz, *, step_s=1.0, t_s=None, rx_s=None, volt=math.nan, quality=0) -> Block:
    out = np.zeros(len(hz), FREQUENCY)
    out["t_ns"] = np.round((np.arange(len(hz)) * step_s if t_s is None else np.asarray(t_s, float)) * S).astype(
        np.int64
    )
    out["rx_ns"] = out["t_ns"] if rx_s is None else np.round(np.asarray(rx_s, float) * S).astype(np.int64)
    out["hz"], out["volt_frac"], out["quality"] = hz, volt, quality
    return out


def marks(gate: Gate, rows: Block) -> list[Quality]:
    return [Quality(int(bits)) for bits in gate.check(rows)["quality"]]


@pytest.mark.parametrize(
    ("hz", "expected"),
    [
        (50.0, Q.GOOD),
        (45.0, Q.GOOD),
        (55.0, Q.GOOD),
        (44.999, Q.RANGE),
        (55.001, Q.RANGE),
        (-50.0, Q.RANGE),
        (0.0, Q.ZERO),
        (-0.0, Q.ZERO),
        (math.nan, Q.NAN),
        (math.inf, Q.NAN),
        (-math.inf, Q.NAN),
    ],
)
def test_a_value_alone(hz, expected):
    assert marks(Gate(), block([hz])) == [expected]


def test_the_band_follows_the_nominal_frequency():
    gate = Gate(GateSettings(nominal_hz=60.0))
    assert marks(gate, block([53.9, 54.1, 66.1], step_s=60)) == [Q.RANGE, Q.GOOD, Q.RANGE]


def test_a_missing_cell_is_not_nan_as_well_and_source_bits_stay():
    rows = block([math.nan, 50.0, math.nan], quality=[Q.MISSING, Q.TEST, Q.INVALID])
    assert marks(Gate(), rows) == [Q.MISSING, Q.TEST, Q.INVALID | Q.NAN]


def test_the_block_is_copied_and_rejections_are_counted_by_reason():
    gate, rows = Gate(), block([50.0, 0.0, math.nan, 70.0], quality=[0, 0, 0, Q.INVALID])
    before = rows.tobytes()
    checked = gate.check(rows)
    gate.check(block([0.0], t_s=[9]))
    assert rows.tobytes() == before
    assert checked.dtype == FREQUENCY
    assert gate.rejected() == {"nan": 1, "zero": 2, "range": 1, "invalid": 1}
    assert gate.counts.dtype == np.int64
    assert gate.counts.shape == (16,)


def test_a_spike_of_one_sample_is_marked_and_nothing_around_it():
    # Eastern, 28 Aug 2022: 59.679 between neighbours at 59.945, 2 s apart.
    gate = Gate(GateSettings(nominal_hz=60.0))
    assert marks(gate, block([59.944, 59.945, 59.679, 59.945, 59.946], step_s=2)) == [0, 0, Q.SPIKE, 0, 0]


def test_a_collapse_with_voltage_up_is_believed_from_its_second_sample():
    # Toledo, 28 Apr 2025 12:33:16 on.
    rows = block(
        [49.942, 49.902, 48.556, 47.476, 47.408, 47.291], step_s=2, volt=[1.07, 1.08, 1.07, 0.95, 0.019, 0.002]
    )
    assert marks(Gate(), rows) == [0, 0, Q.SPIKE, 0, Q.DEAD_BUS, Q.DEAD_BUS]


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_how_many_rows_a_step_takes_is_a_setting(rows):
    found = marks(Gate(GateSettings(spike_rows=rows)), block([50.0, *[50.4] * 6]))
    assert found == [0, *[Q.SPIKE] * (rows - 1), *[0] * (7 - rows)]
    # Another side, or a return, begins the count anew.
    if rows > 2:
        found = marks(Gate(GateSettings(spike_rows=rows)), block([50.0, 50.4, 49.6, 49.6, 50.0, 50.4]))
        assert found == [0, Q.SPIKE, Q.SPIKE, Q.SPIKE, 0, Q.SPIKE]


def test_two_spikes_on_opposite_sides_do_not_confirm_each_other():
    assert marks(Gate(), block([50.0, 50.4, 49.6, 50.0])) == [0, Q.SPIKE, Q.SPIKE, 0]


def test_a_return_to_normal_forgets_the_spike():
    assert marks(Gate(), block([50.0, 50.4, 50.0, 50.4, 50.0])) == [0, Q.SPIKE, 0, Q.SPIKE, 0]


def test_rows_with_another_mark_neither_confirm_nor_refute():
    rows = block([50.0, 50.4, 50.4, math.nan, 50.4], t_s=[0, 1, 1, 2, 3])
    assert marks(Gate(), rows) == [0, Q.SPIKE, Q.ORDER, Q.NAN, 0]


def test_the_confirmed_value_becomes_the_reference():
    assert marks(Gate(), block([50.0, 50.4, 50.41, 50.0, 50.0])) == [0, Q.SPIKE, 0, Q.SPIKE, 0]


@pytest.mark.parametrize(
    ("step_s", "step_hz", "expected"),
    [
        (0.01, 0.049, Q.GOOD),  # below the floor
        (0.01, 0.051, Q.SPIKE),
        (0.05, 0.099, Q.GOOD),  # 2 Hz/s x 0.05 s
        (0.05, 0.101, Q.SPIKE),
        (5.0, 0.149, Q.GOOD),  # ceiling
        (5.0, 0.151, Q.SPIKE),
        (10.0, 0.5, Q.SPIKE),  # as old as the memory
        (10.1, 0.5, Q.GOOD),  # older: the grid may have gone anywhere (GB 1 min, 0.493 Hz)
    ],
)
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("nominal_hz", [50.0, 60.0])
def test_the_spike_threshold(step_s, step_hz, expected, side, nominal_hz):
    gate = Gate(GateSettings(nominal_hz=nominal_hz))
    assert marks(gate, block([nominal_hz, nominal_hz + side * step_hz], step_s=step_s)) == [0, expected]


def test_a_fast_real_ramp_is_never_a_spike():
    ramp = 50.0 - 1.0 * np.arange(100) * 0.02  # 1 Hz/s at 50 rows a second
    assert not Gate().check(block(ramp, step_s=0.02))["quality"].any()


def test_stuck_needs_both_time_and_rows():
    fast = marks(Gate(), block([50.01] * 600, step_s=0.02))
    assert fast[:500] == [Q.GOOD] * 500  # 10 s are full at the 501st row
    assert fast[500:] == [Q.STUCK] * 100
    slow = marks(Gate(), block([50.01] * 25, step_s=60))
    assert slow == [Q.GOOD] * 19 + [Q.STUCK] * 6


def test_a_change_ends_stuck_and_a_gap_in_the_values_does_not():
    rows = [50.01] * 10 + [math.nan] + [50.01] * 15 + [50.02] + [50.01] * 3
    got = marks(Gate(), block(rows))
    assert got[20:26] == [Q.STUCK] * 6  # 21st number and on: the empty row is passed over
    assert got[19] == Q.GOOD
    assert got[26:] == [Q.GOOD] * 4


def test_stuck_can_be_switched_off():
    gate = Gate(GateSettings(stuck_s=math.inf))
    assert not gate.check(block([49.8] * 5000))["quality"].any()


def test_a_dead_bus_stays_dead_until_voltage_is_seen_again():
    rows = block([50.0, 49.99, 49.98, 49.97, 49.98], volt=[1.0, 0.49, math.nan, math.nan, 0.51])
    assert marks(Gate(), rows) == [0, Q.DEAD_BUS, Q.DEAD_BUS, Q.DEAD_BUS, 0]


def test_unknown_voltage_alone_marks_nothing():
    assert marks(Gate(), block([50.0, 50.0], volt=[math.nan, 1.0])) == [0, 0]


def test_repeated_and_older_stamps_are_marked_and_are_no_reference():
    rows = block([50.0, 50.01, 50.01, 53.0, 50.02], t_s=[0, 1, 1, 0.5, 2])
    assert marks(Gate(), rows) == [0, 0, Q.ORDER, Q.ORDER, 0]


def test_one_stamp_from_the_future_does_not_disorder_the_rest():
    rows = block([50.0] * 6, t_s=[0, 1, 5_000_000, 2, 3, 4])
    assert marks(Gate(), rows) == [0, 0, Q.CLOCK_JUMP, 0, 0, 0]


def test_a_real_gap_of_hours_costs_one_row():
    rows = block([50.0] * 5, t_s=[0, 1, 20_000, 20_001, 20_002])
    assert marks(Gate(), rows) == [0, 0, Q.CLOCK_JUMP, 0, 0]


def test_age_is_judged_live_only():
    rows = block([50.0, 50.0], t_s=[0, 1], rx_s=[2.0, 3.1])
    assert marks(Gate(live=True), rows) == [0, Q.AGE]
    assert marks(Gate(), rows) == [0, 0]


@pytest.mark.parametrize("jump_s", [-1.5, 1.5, -3600.0, 86_400.0])
def test_a_source_clock_jump_is_marked_and_then_learnt_anew(jump_s):
    arrival = np.arange(0, 30, 0.5)
    source = np.where(arrival < 10, arrival, arrival - jump_s)
    # A clock that falls behind looks old as well; here only the jump is of interest.
    gate = Gate(GateSettings(age_max_s=1e6), live=True)
    got = np.array(gate.check(block(50.0 + 0.001 * (np.arange(60) % 7), t_s=source, rx_s=arrival))["quality"])
    jumped = (arrival >= 10) & (arrival < 15)
    assert (got[jumped] == Q.CLOCK_JUMP).all()
    assert (got[~jumped] == 0).all()


def test_a_burst_after_a_stall_is_no_new_clock():
    arrival = np.r_[np.arange(0, 10, 0.1), np.full(30, 13.0), np.arange(13.0, 20, 0.1)]
    source = np.arange(200) * 0.1
    got = Gate(GateSettings(stuck_s=math.inf), live=True).check(block([50.0] * 200, t_s=source, rx_s=arrival))[
        "quality"
    ]
    late = arrival - source
    assert ((got == 0) == (late <= 1.0 + 1e-9))[np.abs(late - 1.0) > 0.1].all()
    assert (got[130:] == 0).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("nominal_hz", 0.0), ("nominal_hz", math.nan), ("stuck_rows", 0), ("band_frac", 1.0), ("spike_ceiling_hz", 0.01)],
)
def test_an_impossible_setting_is_refused_by_name(field, value):
    with pytest.raises(GateError, match=f"^{field}: "):
        GateSettings(**{field: value})


ODD_HZ = st.sampled_from(
    [math.nan, math.inf, -math.inf, 0.0, 40.0, 59.0, 49.5, 50.06, 50.2, 50.21, 49.79, 1e308, -1e308]
)
STEP_S = st.sampled_from([1.0, 1.0, 1.0, 0.02, 0.0, -1.0, 2.0, 11.0, 4000.0, 1e7, -1e7])
VOLT = st.sampled_from([math.nan, math.nan, 1.0, 1.0, 0.5, 0.1, 0.0])
BITS = st.sampled_from([0, 0, 0, int(Q.MISSING), int(Q.INVALID)])
ODD = st.tuples(ODD_HZ, STEP_S, VOLT, BITS)
STRETCH = st.tuples(st.integers(0, 45), st.sampled_from(["noise", "same", "volts"]), st.lists(ODD, max_size=4))


@st.composite
def traces(draw) -> Block:
    """Quiet stretches of any length with odd rows between: noise, exact repetition, with and without voltage."""
    hz, step, volt, bits = [50.0], [0.0], [math.nan], [0]
    for length, kind, odd in draw(st.lists(STRETCH, min_size=1, max_size=6)):
        for i in range(length):
            hz.append(50.0 if kind == "same" else 50.0 + 0.001 * (i * 7 % 5))
            step.append(1.0)
            volt.append(1.0 if kind == "volts" else math.nan)
            bits.append(0)
        for row in odd:
            for column, value in zip((hz, step, volt, bits), row, strict=True):
                column.append(value)
    rows = block(hz, t_s=np.cumsum(step), volt=volt, quality=bits)
    rows["rx_ns"] += draw(st.sampled_from([0, 3 * S]))
    return rows


@settings(max_examples=300, deadline=None)
@given(traces(), st.lists(st.integers(0, 400), max_size=5), st.booleans())
def test_block_by_block_equals_row_by_row(rows, cuts, live):
    in_blocks, by_rows = Gate(live=live), Gate(live=live)
    pieces = [in_blocks.check(piece) for piece in np.split(rows, sorted(min(cut, rows.size) for cut in cuts))]
    singles = [by_rows.check(rows[i : i + 1]) for i in range(rows.size)]
    assert np.concatenate(pieces).tobytes() == np.concatenate(singles).tobytes()
    assert (in_blocks.counts == by_rows.counts).all()


WALKS = [  # few values and few steps, so that repeats, confirmations, gaps and limits meet in every combination
    ([50.0, 50.0, 50.001], [1.0], [math.nan], [0]),
    ([50.0, 50.0, 50.0, 50.2], [1.0, 1.0, 1.0, 10.0], [math.nan], [0]),
    ([50.0, 50.001, 50.2, math.nan], [1.0] * 9 + [10.0, 10.5, 3600.0, 3601.0, 0.0, -2.0], [math.nan], [0]),
    ([50.0, 50.001], [1.0], [1.0, 1.0, 1.0, math.nan, 0.4], [0]),
    ([50.0, 50.1, 50.2, 44.0], [1.0, 1.0, 0.0], [1.0], [0] * 4 + [int(Q.TEST)]),
]


@pytest.mark.parametrize("stuck_rows", [2, 3, 20])
@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("seed", range(4))
def test_long_walks_in_blocks_equal_row_by_row(seed, walk, stuck_rows):
    rng = np.random.default_rng(seed)
    hz, step, volt, bits = (rng.choice(choices, 1500) for choices in walk)
    rows = block(hz, t_s=np.cumsum(step), volt=volt, quality=bits)
    if seed % 2:
        rows["volt_frac"][rng.integers(0, 1500) :] = math.nan  # the voltage goes away for good, perhaps while dead
    limits = GateSettings(stuck_rows=stuck_rows, stuck_s=3.0)
    in_blocks, by_rows = Gate(limits), Gate(limits)
    cuts = np.sort(rng.integers(0, rows.size, 8))
    pieces = [in_blocks.check(piece) for piece in np.split(rows, cuts)]
    assert (
        np.concatenate(pieces).tobytes()
        == np.concatenate([by_rows.check(rows[i : i + 1]) for i in range(1500)]).tobytes()
    )


def test_the_clock_offset_is_a_slow_mean():
    arrival = np.arange(10.0)
    delay = np.zeros(10)
    delay[[5, 6]] = 0.9, -0.9  # each within 1 s of the mean, not of each other
    got = Gate(live=True).check(block([50.0] * 10, t_s=arrival, rx_s=arrival + delay))["quality"]
    assert not got.any()
    drift = np.arange(2000) * 0.005  # 10 s in all: a clock that drifts is followed, not refused
    got = Gate(GateSettings(age_max_s=60, stuck_s=math.inf), live=True).check(
        block([50.0] * 2000, t_s=np.arange(2000.0), rx_s=np.arange(2000.0) + drift)
    )["quality"]
    assert not got.any()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_bytes_are_marked_and_never_raise(seed):
    noise = np.random.default_rng(seed).integers(0, 256, 50 * FREQUENCY.itemsize, np.uint8)
    rows = np.frombuffer(noise.tobytes(), FREQUENCY)
    for live in (False, True):
        whole, single = Gate(live=live), Gate(live=live)
        checked = whole.check(rows)
        assert checked.tobytes() == np.concatenate([single.check(rows[i : i + 1]) for i in range(50)]).tobytes()
        assert ((checked["quality"] & rows["quality"]) == rows["quality"]).all()


def test_never_is_a_setting():
    gate = Gate(GateSettings(spike_memory_s=math.inf, leap_s=math.inf, stuck_s=math.inf))
    rows = block([50.0] * 40 + [50.3, 50.3], t_s=[*range(40), 1e6, 2e6])
    assert marks(gate, rows) == [Q.GOOD] * 40 + [Q.SPIKE, Q.GOOD]
