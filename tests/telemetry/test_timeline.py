"""The streaming timeline against a slow twin that has all stamps at once; what is bounded stays bounded."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.samples import FREQUENCY, Quality, empty
from telemetry.traces import inspect, open_trace, timeline
from telemetry.traces.picture import BUCKETS, MARKS, Envelope, Picture
from telemetry.traces.timeline import Timeline

S = 10**9
HOUR = 3_600 * S


def twin(stamps: list[int]) -> dict[str, object]:
    """The same figures from the whole list, one stamp at a time."""
    believed: list[int] = []
    ahead = order = 0
    for k, stamp in enumerate(stamps):
        newest = max(believed, default=stamp)
        if stamp - newest > HOUR and k + 1 < len(stamps) and stamps[k + 1] < stamp:
            ahead += 1
            continue
        order += stamp < newest
        believed.append(stamp)
    distinct = sorted(set(believed))
    steps = np.diff(distinct)
    period = float(np.median(steps)) if steps.size else None
    gaps = [] if period is None else [s - period for s in steps.tolist() if s > 1.5 * period]
    regular = [] if period is None else [s - period for s in steps.tolist() if s <= 1.5 * period]
    return {
        "ahead": ahead,
        "order": order,
        "duplicates": len(believed) - len(distinct),
        "first": distinct[0] if distinct else None,
        "last": distinct[-1] if distinct else None,
        "period": period,
        "count": len(gaps),
        "total": sum(gaps),
        "longest": max(gaps, default=0.0),
        "jitter": float(np.sqrt(np.mean(np.square(regular)))) if regular else 0.0,
        "jitter_max": max(map(abs, regular), default=0.0),
    }


def figures(stamps: list[int], cuts: list[int]) -> dict[str, object]:
    line = Timeline()
    edges = sorted({0, len(stamps), *(cut % (len(stamps) + 1) for cut in cuts)})
    for begin, end in pairwise(edges):
        line.add(np.array(stamps[begin:end], np.int64))
    found = line.steps()
    return {
        "ahead": line.ahead,
        "order": line.order,
        "duplicates": line.duplicates,
        "first": line.first,
        "last": line.last,
        "period": found.period,
        "count": found.gap_count,
        "total": found.gap_total,
        "longest": found.gap_longest,
        "jitter": found.jitter,
        "jitter_max": found.jitter_max,
    }


STEP = st.sampled_from(
    [S, S, S, S, S + 1000, S - 1000, 0, 7 * S, -3 * S, 2 * HOUR, -2 * HOUR, 1000 * HOUR, -1000 * HOUR]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=60), st.lists(st.integers(0, 100), max_size=4))
def test_any_stamps_in_any_blocks_as_the_slow_twin(steps, cuts):
    stamps = (1_700_000_000 * S + np.cumsum([0, *steps])).tolist()
    expected = twin(stamps)
    found = figures(stamps, cuts)
    assert found == {name: pytest.approx(value, rel=1e-9) if value else value for name, value in expected.items()}


def test_rows_that_come_late_find_their_place_in_the_window_and_older_ones_are_only_late(monkeypatch):
    monkeypatch.setattr(timeline, "WINDOW", 10)
    line = Timeline()
    for k in [*range(40), *range(50, 100)]:
        line.add(np.array([k * S]))
    line.add(np.array([95, 45]) * S)  # one within the window and there already, one that the window has left behind
    steps = line.steps()
    assert (line.order, line.duplicates) == (2, 1)
    assert (steps.gap_count, steps.gap_total) == (1, 10 * S)
    assert steps.gaps == [(39 * S, 50 * S)]


def test_the_longest_gaps_are_kept_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(timeline, "LONGEST", 5)
    lengths = [1] * 100 + list(range(2, 30))
    line = Timeline()
    stamps = np.cumsum([0, *lengths]) * S
    for part in np.array_split(stamps, 7):
        line.add(part)
    steps = line.steps()
    assert steps.gap_count == 28
    assert sorted((end - begin) // S for begin, end in steps.gaps) == [25, 26, 27, 28, 29]
    assert all(begin in stamps and end in stamps for begin, end in steps.gaps)


def test_many_different_steps_are_told_apart_less_finely(monkeypatch):
    monkeypatch.setattr(timeline, "LENGTHS", 100)
    steps_ns = S + np.random.default_rng(1).integers(-40_000, 40_000, 5_000)
    line = Timeline()
    line.add(np.cumsum(steps_ns))
    found = line.steps()
    assert len(line._counts) <= 100
    assert found.period == pytest.approx(np.median(steps_ns[1:]), abs=1_000)
    assert found.jitter == pytest.approx(np.std(steps_ns), rel=0.02)


def test_a_year_is_read_and_reported_in_a_few_megabytes(tmp_path):
    """A row every ten seconds for a year: 3.2 million rows, 85 MB of text, 114 MB as blocks."""
    clock = [f"{k // 360:02d}:{k // 6 % 60:02d}:{k % 6 * 10:02d}" for k in range(8_640)]
    values = np.round(50 + 0.05 * np.sin(np.arange(8_640) / 300.0), 3)
    body = "".join(f"@ {at},{value}\n" for at, value in zip(clock, values, strict=True))
    path = tmp_path / "year.csv"
    days = np.arange(np.datetime64("2025-01-01"), np.datetime64("2026-01-01"))
    with path.open("w") as file:
        file.write("dtm,f\n")
        for day in days:
            file.write(body.replace("@", str(day)))
    trace = open_trace(path)
    picture = Picture(50.0)
    tracemalloc.start()
    try:
        report = inspect(trace, picture.add)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (report.rows, report.gaps.count, report.period_s, report.end) == (
        365 * 8_640, 0, 10.0, "2025-12-31T23:59:50Z",
    )  # fmt: skip
    assert peak < 24e6, f"{peak / 1e6:.1f} MB for {path.stat().st_size / 1e6:.0f} MB of file"
    assert picture.line.points()[0].size <= 2 * BUCKETS + 2**13


# ---- what is drawn


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30_000), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_an_envelope_loses_no_peak(n, blocks, seed):
    value = np.random.default_rng(seed).normal(50.0, 0.05, n)
    t_ns = np.arange(n, dtype=np.int64) * S
    envelope = Envelope()
    for part in np.array_split(np.arange(n), blocks):
        envelope.add(t_ns[part], value[part])
    at, kept = envelope.points()
    assert (np.diff(at) > 0).all()
    assert (value[at // S] == kept).all()
    assert {value.min(), value.max()} <= set(kept.tolist())
    assert min(n, BUCKETS) <= at.size <= 4 * BUCKETS
    # No stretch is left without its own smallest and largest.
    assert np.diff(at).max(initial=0) <= 8 * S * max(1, n / BUCKETS)


def judged(n: int) -> np.ndarray:
    block = empty(FREQUENCY, n)
    block["t_ns"] = block["rx_ns"] = np.arange(n) * S
    block["hz"], block["volt_frac"] = 50.0, np.nan
    return block


def test_rejected_rows_are_marked_by_every_reason_and_thinned_evenly():
    picture, n = Picture(50.0), 10 * MARKS
    for first in range(0, n, 777):
        block = judged(n)[first : first + 777]
        block["quality"] = Quality.DEAD_BUS | Quality.RANGE
        block["hz"][::2] = 40.0
        picture.add(block)
    for name in ("dead_bus", "range"):
        marks = picture.marks[name]
        assert (marks.count, marks.every) == (n, 16)
        assert marks.t_ns.tolist() == list(range(0, n * S, 16 * S))
    assert picture.bins.sum() == 0
    assert not picture.line.points()[0].size


def test_the_histogram_counts_every_believed_row_and_shows_where_they_are():
    picture, block = Picture(50.0), judged(10_000)
    block["hz"] = np.linspace(49.9, 50.1, 10_000)
    block["hz"][:3] = 20.0, 49.0, 80.0
    block["quality"][3] = Quality.SPIKE
    block["hz"][4], block["quality"][4] = np.nan, Quality.MISSING
    picture.add(block)
    edges, counts = picture.histogram(20)
    assert counts.sum() == 9_998
    assert counts.size <= 20
    assert edges.size == counts.size + 1
    assert 49.89 < edges[0] < 49.91
    assert 50.09 < edges[-1] < 50.12
    assert Picture(50.0).histogram(5)[1].size == 0
