"""What is odd in a trace, told with its times; however the rows are cut, the same."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.results.oddities import Oddities
from settlement.statement import iso
from telemetry.quality import Gate, GateSettings
from telemetry.samples import FREQUENCY, Quality
from tests import naive_results as naive

S = 10**9
T0 = 1_790_000_000 * S // (900 * S) * (900 * S)
BITS = {str(flag.name).lower(): int(flag) for flag in Quality if flag}


def rows_of(t_s, hz=None):
    block = np.zeros(len(t_s), FREQUENCY)
    block["t_ns"] = block["rx_ns"] = T0 + (np.asarray(t_s, np.float64) * S).astype(np.int64)
    block["hz"] = 50.0 if hz is None else hz
    block["volt_frac"] = np.nan
    return block


def taken(block, cuts=()):
    """Through the gate and the count, cut at these rows."""
    gate, odd = Gate(GateSettings(stuck_s=np.inf)), Oddities(900 * S)
    for part in np.split(gate.check(block), sorted(cuts)):
        odd.take(part)
    return odd


def test_a_gap_of_23_minutes_has_its_times():
    t_s = np.delete(np.arange(7200.0), slice(1000, 1000 + 23 * 60))
    told = taken(rows_of(t_s)).told()
    assert told["gaps"]["count"] == 1
    assert told["gaps"]["total_s"] == told["gaps"]["longest_s"] == 23 * 60.0
    (gap,) = told["gaps"]["listed"]
    assert gap == {"start": iso(T0 + 999 * S), "end": iso(T0 + 2380 * S), "missing_s": 1380.0}
    assert told["period_s"] == 1.0


def test_zeros_spikes_dead_bus_and_stamps_said_twice_are_told_apart():
    block = rows_of(np.arange(1200.0))
    block["hz"][100:103] = 0.0
    block["hz"][200] = 50.4
    block["hz"][300:390] = np.nan
    block["volt_frac"][1000:] = 0.01
    block["t_ns"][501] = block["rx_ns"][501] = block["t_ns"][500]
    told = taken(block).told()
    assert told["rejected"] == {"zero": 3, "spike": 1, "nan": 90, "dead_bus": 200, "order": 1}
    assert told["duplicates"] == 1
    stretches = {item["reason"]: item for item in told["stretches"]}
    assert stretches["nan"]["rows"] == 90
    assert stretches["zero"]["rows"] == 3
    assert (stretches["dead_bus"]["rows"], stretches["spike"]["start"]) == (200, stretches["spike"]["end"])


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_however_the_rows_are_cut_it_is_the_same_and_what_a_slow_count_says(data):
    steps = data.draw(st.lists(st.sampled_from([1.0, 1.0, 1.0, 1.0, 2.0, 7.5, 0.0, -3.0]), min_size=2, max_size=40))
    t_s = np.cumsum([0.0, *steps])
    values = st.sampled_from([50.0, 50.01, 49.99, 0.0, np.nan, 70.0, 50.5])
    hz = data.draw(st.lists(values, min_size=t_s.size, max_size=t_s.size))
    cuts = data.draw(st.lists(st.integers(0, t_s.size), max_size=6))
    block = rows_of(t_s, hz)
    whole, parts = taken(block), taken(block, cuts)
    assert parts.told() == whole.told()
    judged = Gate(GateSettings(stuck_s=np.inf)).check(block)
    assert whole.told()["rejected"] == naive.rejected(judged["quality"].tolist(), BITS)
    good = judged["t_ns"][(judged["quality"] & BITS["order"]) == 0].tolist()
    if len(good) > 1:
        period_ns = sorted(b - a for a, b in itertools.pairwise(good))[(len(good) - 1) // 2]
        assert whole.period_ns == period_ns
        assert whole.gaps() == naive.gaps(good, period_ns)


def test_by_time_the_parts_are_the_whole():
    rng = np.random.default_rng(4)
    t_s = np.sort(rng.choice(np.arange(8000.0), 7000, replace=False))
    odd = taken(rows_of(t_s, np.where(rng.random(7000) < 0.05, 0.0, 50.0)))
    found, told = odd.found(), odd.told()
    edges = [T0 + 900 * S * k for k in range(-1, 10)]
    parts = [found.within(a, b) for a, b in itertools.pairwise(edges)]
    assert sum(part.gaps for part in parts) == told["gaps"]["count"]
    assert sum(part.gap_s for part in parts) == pytest.approx(told["gaps"]["total_s"])
    assert dict(sum((part.rejected for part in parts), Counter())) == told["rejected"]
    assert len({part.gaps for part in parts}) > 1


def test_nothing_is_odd_about_nothing():
    odd = Oddities(900 * S)
    odd.take(np.zeros(0, FREQUENCY))
    assert odd.told()["gaps"]["listed"] == []
    odd.take(rows_of([5.0]))
    assert (odd.rows, odd.period_ns, odd.gaps()) == (1, 0, [])


def test_what_is_listed_is_bounded():
    odd = taken(rows_of(np.arange(4000.0), np.where(np.arange(4000) % 4 == 1, 0.0, 50.0)))
    told = odd.told()
    assert told["rejected"] == {"zero": 1000}
    assert len(told["stretches"]) == 200
