"""The generator is repeatable, looks like a grid, and shows each fault where it was asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.generator import (
    CLOCK_JUMP_NS,
    FAULTS,
    LIE_HZ_S,
    NOISE_HZ,
    SKEW_NS_S,
    TRIP_HZ,
    Fault,
    Generator,
    interpolate,
    parse_faults,
)

HOURS = 20


def quiet(faults: str = "", rate_hz: float = 10.0, seed: int = 1, trip_every_s: float = math.inf) -> Generator:
    return Generator(50.0, rate_hz, seed, trip_every_s, parse_faults(faults))


# ---- the grid


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 20_000), st.integers(1, 2_000), st.sampled_from([1.0, 7.3, 10.0, 50.0]))
def test_a_sample_is_the_same_however_it_is_asked_for(k: int, count: int, rate_hz: float) -> None:
    faults = parse_faults("stuck@30+5,dead-bus@100+20,spike@7")
    block = Generator(50.0, rate_hz, 3, 60.0, faults).block(k, count)
    single = Generator(50.0, rate_hz, 3, 60.0, faults)
    for i in {0, count // 2, count - 1}:
        sample = single.sample(k + i)
        assert sample == tuple(column[i] for column in block)


def test_the_seed_decides() -> None:
    assert np.array_equal(quiet(seed=1).block(0, 100).hz, quiet(seed=1).block(0, 100).hz)
    assert not np.array_equal(quiet(seed=1).block(0, 100).hz, quiet(seed=2).block(0, 100).hz)
    assert not np.array_equal(quiet().block(0, 600).hz, quiet().block(600, 600).hz)


def test_the_spread_the_memory_and_the_noise_of_continental_europe() -> None:
    hz = quiet(rate_hz=1.0).block(0, HOURS * 3600).hz - 50.0
    assert abs(hz.mean()) < 0.005
    assert 0.015 < hz.std() < 0.028
    minute = np.corrcoef(hz[:-60], hz[60:])[0, 1]
    assert 0.25 < minute < 0.6  # exp(-1), a little more for the drift
    fast = np.diff(quiet(rate_hz=100.0).block(0, 6000).hz)
    assert 0.001 < fast.std() < 0.002  # noise sqrt(2) x 1 mHz, and little else from one sample to the next
    assert 58 < Generator(60.0, 10.0, 1).sample(5).hz < 62


def test_no_seam_between_chunks() -> None:
    hz = quiet(rate_hz=50.0).block(0, 50 * 600).hz
    assert np.abs(np.diff(hz)).max() < 0.012


def test_trips_fall_fast_and_recover_slowly() -> None:
    rate_hz, every_s = 10.0, 300.0
    with_trips = quiet(rate_hz=rate_hz, trip_every_s=every_s).block(0, int(rate_hz * 3600 * 4)).hz
    trips = with_trips - quiet(rate_hz=rate_hz).block(0, with_trips.size).hz
    slots = trips.reshape(-1, int(every_s * rate_hz))
    assert trips.max() <= 1e-12
    assert (slots.min(axis=1) < -TRIP_HZ[0] * 0.99).all()  # one in each interval
    assert trips.min() > -TRIP_HZ[1] * 1.3  # two may overlap
    first = slots[0]
    start, nadir = int(np.argmax(first < 0)), int(np.argmin(first))
    assert 2.0 < (nadir - start) / rate_hz < 15.0
    later = trips[nadir + int(60 * rate_hz)]
    assert first[nadir] * 0.5 < later < 0.0
    assert first[nadir] * 0.2 < trips[nadir + int(130 * rate_hz)]


def test_a_healthy_unit_shows_a_healthy_voltage() -> None:
    block = quiet().block(0, 6000)
    assert 0.98 < block.volt_frac.min() < block.volt_frac.max() < 1.02
    assert not block.quality.any()
    assert not block.clock_offset_ns.any()
    assert not block.silent.any()


@pytest.mark.parametrize("name", ["nominal_hz", "rate_hz", "trip_every_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_impossible_settings_have_a_name(name: str, value: float) -> None:
    settings_ = {"nominal_hz": 50.0, "rate_hz": 10.0, "seed": 1, "trip_every_s": 180.0, name: value}
    with pytest.raises(ValueError, match=name):
        Generator(**settings_)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sample -1"):
        quiet().sample(-1)


# ---- faults


def test_fault_texts() -> None:
    assert parse_faults("") == ()
    assert parse_faults("spike@5, stuck@10+3 dead-bus@20.5+0.2") == (
        Fault("spike", 5.0, 0.0),
        Fault("stuck", 10.0, 3.0),
        Fault("dead-bus", 20.5, 0.2),
    )
    assert [fault.for_s for fault in parse_faults(" ".join(f"{kind}@1" for kind in FAULTS))] == list(FAULTS.values())


@pytest.mark.parametrize("word", ["spike", "spike@", "spike@-1", "spyke@5", "spike@5+", "spike@5+x", "@5", "spike@5s"])
def test_a_bad_fault_text_names_itself_and_the_kinds(word: str) -> None:
    with pytest.raises(
        ValueError, match=r"spike, stuck, dead-bus, clock-jump, skew, lie, silence, nan, zero, invalid"
    ) as error:
        parse_faults(f"nan@1,{word}")
    assert repr(word) in str(error.value)
    with pytest.raises(ValueError, match="unknown"):
        Generator(50.0, 10.0, 1, faults=(Fault("flood", 0.0, 1.0),)).block(0, 10)


def changed(text: str, count: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(where hz differs from the healthy unit's, hz with the fault, hz without) of 30 s at 10 Hz."""
    with_fault, without = quiet(text).block(0, count), quiet().block(0, count)
    return ~(with_fault.hz == without.hz), with_fault.hz, without.hz


def test_a_spike_is_one_sample() -> None:
    where, hz, healthy = changed("spike@5")
    assert np.flatnonzero(where).tolist() == [50]
    assert hz[50] - healthy[50] == pytest.approx(-1.2)
    assert np.flatnonzero(changed("spike@5+3")[0]).tolist() == [50, 60, 70]


def test_a_stuck_value_is_the_one_it_stuck_at() -> None:
    where, hz, healthy = changed("stuck@10+3")
    assert np.flatnonzero(where).tolist() == list(range(101, 130))
    assert set(hz[100:130]) == {healthy[100]}
    assert quiet("stuck@10+3").block(115, 3).hz.tolist() == [healthy[100]] * 3


def test_a_dead_bus_shows_no_voltage_and_a_sliding_ghost() -> None:
    where, hz, healthy = changed("dead-bus@20+5")
    assert np.flatnonzero(where).tolist() == list(range(201, 250))
    np.testing.assert_allclose(hz[200:250], healthy[200] - 0.05 * np.arange(50))
    volt = quiet("dead-bus@20+5").block(0, 300).volt_frac
    assert np.flatnonzero(volt < 0.1).tolist() == list(range(200, 250))


@pytest.mark.parametrize(("kind", "shows"), [("nan", np.isnan), ("zero", lambda hz: hz == 0.0)], ids=["nan", "zero"])
def test_no_number(kind: str, shows: np.ufunc) -> None:
    assert np.flatnonzero(shows(quiet(f"{kind}@2+0.5").block(0, 300).hz)).tolist() == [20, 21, 22, 23, 24]


def test_clock_silence_and_validity() -> None:
    jump = quiet("clock-jump@3").block(0, 300).clock_offset_ns
    assert set(jump[:30]) == {0}
    assert set(jump[30:]) == {CLOCK_JUMP_NS}
    back = quiet("clock-jump@3+2").block(0, 300).clock_offset_ns
    assert np.flatnonzero(back).tolist() == list(range(30, 50))
    assert np.flatnonzero(quiet("silence@4+1").block(0, 300).silent).tolist() == list(range(40, 50))
    assert np.flatnonzero(quiet("invalid@4+1").block(0, 300).quality == 2).tolist() == list(range(40, 50))
    assert quiet("silence@4+1").sample(45).silent is True


def test_a_lie_slides_away_and_a_skewed_clock_gains() -> None:
    where, hz, healthy = changed("lie@20+5")
    assert np.flatnonzero(where).tolist() == list(range(201, 250))
    np.testing.assert_allclose(hz[200:250], healthy[200:250] + LIE_HZ_S * 0.1 * np.arange(50))
    skew = quiet("skew@3").block(0, 300).clock_offset_ns
    assert skew[:31].tolist() == [0] * 31
    assert skew[30:].tolist() == [round(SKEW_NS_S * 0.1 * k) for k in range(270)]


def test_units_on_one_grid_differ_by_their_noise_alone() -> None:
    one, two = Generator(50.0, 10.0, 1, math.inf), Generator(50.0, 10.0, 1, math.inf, unit=1)
    apart = two.block(0, 3000).hz - one.block(0, 3000).hz
    assert apart.std() == pytest.approx(NOISE_HZ * math.sqrt(2), rel=0.1)
    assert np.abs(apart).max() < 10 * NOISE_HZ
    assert abs(np.corrcoef(apart[:-1], apart[1:])[0, 1]) < 0.1


# ---- recorded traces


def test_interpolation_is_linear_and_keeps_the_ends() -> None:
    t_ns = np.array([5, 6, 8]) * 10**9 + 1_700_000_000 * 10**9
    np.testing.assert_allclose(
        interpolate(t_ns, np.array([50.0, 50.2, 49.8]), 2.0), [50, 50.1, 50.2, 50.1, 50, 49.9, 49.8]
    )
    assert interpolate(t_ns[:1], np.array([50.0]), 50.0).tolist() == [50.0]
    np.testing.assert_allclose(interpolate(t_ns, np.array([50.0, 50.2, 49.8]), 0.4), [50.0, 49.9])


def test_interpolation_to_the_traces_own_rate_changes_nothing() -> None:
    hz = quiet().block(0, 1000).hz
    hz[300:310] = np.nan
    np.testing.assert_array_equal(interpolate(np.arange(1000) * 100_000_000, hz, 10.0), hz)


def test_missing_values_stay_missing() -> None:
    hz = np.array([50.0, np.nan, 50.0, 50.0])
    at_four = interpolate(np.arange(4) * 10**9, hz, 4.0)
    assert np.flatnonzero(np.isnan(at_four)).tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert at_four[[0, 8, 12]].tolist() == [50.0, 50.0, 50.0]


@pytest.mark.parametrize("rate_hz", [3.0, 7.3, 30.0, 60.0])
def test_awkward_rates_do_not_drift(rate_hz: float) -> None:
    t_ns = np.arange(0, 3601) * 10**9
    got = interpolate(t_ns, t_ns / 1e9, rate_hz)
    assert got.size == math.floor(3600 * rate_hz + 1e-9) + 1
    np.testing.assert_allclose(got, np.arange(got.size) / rate_hz, atol=2e-9)


def test_a_bad_trace_has_a_name() -> None:
    one = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match="ascend"):
        interpolate(np.array([2, 2]), one, 1.0)
    with pytest.raises(ValueError, match="at least 1"):
        interpolate(np.zeros(0, np.int64), np.zeros(0), 1.0)
    with pytest.raises(ValueError, match="2 times and 1 values"):
        interpolate(np.array([1, 2]), np.zeros(1), 1.0)
    with pytest.raises(ValueError, match="rate_hz"):
        interpolate(np.array([1, 2]), one, 0.0)
