"""A sample's way cut into stages: what adds up, what is missing, what clocks make of it."""

from hypothesis import given
from hypothesis import strategies as st

from telemetry.host_clock import STA_UNSYNC, TIME_ERROR, host_clock, judged
from telemetry.stages import ALIASES, STAGES, Stages, note

T0 = 1_790_000_000_000_000_000
span = st.integers(1_000, 10**10)


@given(st.lists(span, min_size=7, max_size=7))
def test_the_stages_add_up_to_the_total(spans):
    stamps = [T0]
    for each in spans:
        stamps.append(stamps[-1] + each)
    t, rx, taken, published, read, begun, decided, sent = stamps
    stages = Stages()
    stages.add(t, rx, note(taken, published), read, begun, decided, sent)
    largest = {stage: histogram.max_ns for stage, histogram in stages.histograms.items()}
    assert largest == dict(zip(STAGES, [*spans, sum(spans)], strict=True))
    assert sum(largest[stage] for stage in STAGES[:-1]) == largest["total"]


def test_without_a_note_the_stream_begins_with_the_arrival():
    stages = Stages()
    stages.add(T0, T0 + 10_000, b"", T0 + 50_000, T0 + 60_000, T0 + 70_000, T0 + 80_000)
    assert stages.histograms["stream"].max_ns == 40_000
    assert stages.histograms["wire"].count == stages.histograms["gate"].count == 0
    stages.add(T0, T0 + 10_000, b"some other note", T0 + 90_000, T0 + 90_000, T0 + 90_000, T0 + 90_000)
    assert stages.histograms["stream"].max_ns == 80_000
    assert "wire" not in stages.buckets()
    assert stages.buckets()["stream"]["count"] == 2


def test_a_sample_from_the_future_shows_how_wrong_a_clock_is():
    stages = Stages()
    assert stages.least_source_ms() is None
    for ahead_ns in (-2_000_000, 5_000_000, -1):
        rx = T0 - ahead_ns
        stages.add(T0, rx, note(rx, rx), rx, rx, rx, rx)
    assert stages.least_source_ms() == -5.0
    assert stages.summary()["source"]["max"] == 2.0


def test_names_of_before_lead_to_stages_that_are():
    assert set(ALIASES.values()) <= set(STAGES)
    assert not set(ALIASES) & set(STAGES)


def test_a_clock_is_as_good_as_its_service_vouches_for():
    assert judged(0, 0, 1500) == (True, 1.5)
    assert judged(0, STA_UNSYNC, 1500) == (False, None)
    assert judged(TIME_ERROR, 0, 1500) == (False, None)
    assert judged(-1, 0, 1500) == (False, None)
    found = host_clock()
    assert found.synchronised == (found.max_ms is not None)
