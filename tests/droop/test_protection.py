"""Trip limits, ride-through and entry to service: the standard's figures by hand, any walk against the twin."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.promises import Protection
from droop.protection import (
    EN_50549,
    ENTERING,
    G99,
    IEEE_1547,
    IN_SERVICE,
    TRIPPED,
    default,
    in_service,
    protect,
    relay,
    within,
)
from tests.naive_dynamics import S_NS, Disconnecting

S = S_NS
MS = 10**6
T0 = 1_700_000_000 * S
PLAIN = {"enter_low_hz": 59.5, "enter_high_hz": 60.1, "enter_delay_s": 5.0, "enter_ramp_s": 10.0}


class Unit:
    """One protection and its time."""

    def __init__(self, rule, nominal_hz=60.0):
        self.relay = relay(rule, nominal_hz)
        self.guard, self.now_ns = in_service(self.relay), T0

    def tick(self, after_ns, hz=None, volt_pu=math.nan, lost=False):
        self.now_ns += after_ns
        fresh = hz is not None
        protect(self.guard, self.relay, self.now_ns, hz if fresh else math.nan, volt_pu, fresh, lost)
        return int(self.guard.state[0])

    def hold(self, hz, seconds, period_ms=50, volt_pu=math.nan):
        """Samples of one frequency for so long; the time until the state changed [s], None if it did not."""
        begun, before = self.now_ns, int(self.guard.state[0])
        while self.now_ns - begun < seconds * S:
            if self.tick(period_ms * MS, hz, volt_pu) != before:
                return (self.now_ns - begun) / S
        return None


# IEEE 1547-2018 table 18; the first sample beyond the limit comes a period after the walk begins.
@pytest.mark.parametrize(
    ("hz", "after_s"), [(62.01, 0.16), (56.49, 0.16), (61.21, 300.0), (58.49, 300.0), (62.0, 300.0), (56.5, 300.0)]
)
def test_ieee_1547_trips_after_its_time(hz, after_s):
    unit = Unit(IEEE_1547)
    unit.hold(60.0, 1)
    found = unit.hold(hz, after_s + 1.0)
    assert found == pytest.approx(after_s + 0.05, abs=0.051)
    assert found >= after_s
    assert unit.guard.trips[0] == 1
    assert unit.guard.share[0] == 0.0


@pytest.mark.parametrize("hz", [58.51, 58.8, 60.0, 61.19])
def test_continuous_operation_is_ridden_through(hz):
    assert Unit(IEEE_1547).hold(hz, 900, period_ms=500) is None


@pytest.mark.parametrize(("hz", "seconds"), [(57.0, 299.0), (61.8, 299.0), (58.5, 600.0)])
def test_must_ride_through_bands_are_ridden_through(hz, seconds):
    assert Unit(IEEE_1547).hold(hz, seconds, period_ms=500) is None


@pytest.mark.parametrize("hz", [40.0, 75.0])
def test_a_single_bad_sample_trips_nothing_however_late_the_next_one_is(hz):
    unit = Unit(Protection(trips=((58.0, 0.0), (62.0, 0.16)), **PLAIN))
    for _ in range(20):
        assert unit.tick(S, 60.0) == IN_SERVICE
        assert unit.tick(S, hz) == IN_SERVICE


def test_samples_of_one_breath_are_one_moment():
    unit = Unit(Protection(trips=((58.0, 0.0),), **PLAIN))
    unit.tick(S, 60.0)
    for after_ns in (S, 0, 0, 0):
        assert unit.tick(after_ns, 40.0) == IN_SERVICE
    assert unit.tick(1, 40.0) == TRIPPED


def test_dips_do_not_add_up():
    unit = Unit(IEEE_1547)
    for _ in range(50):
        assert unit.hold(58.4, 250, period_ms=1000) is None
        assert unit.tick(S, 58.6) == IN_SERVICE


def test_a_lost_frequency_neither_trips_nor_lets_in():
    unit = Unit(IEEE_1547)
    unit.tick(S, 56.0)
    assert unit.tick(S) == IN_SERVICE  # no sample
    assert unit.tick(S, lost=True) == IN_SERVICE
    assert unit.tick(S, 56.0) == IN_SERVICE  # counted anew
    assert unit.tick(S, 56.0) == TRIPPED
    unit.hold(60.0, 299, period_ms=1000)
    unit.tick(S, lost=True)
    assert unit.hold(60.0, 299, period_ms=1000) is None  # the window is counted anew
    assert unit.hold(60.0, 5, period_ms=1000) is not None


def test_disconnection_is_idempotent():
    unit = Unit(IEEE_1547)
    unit.hold(56.0, 5)
    since = int(unit.guard.since_ns[0])
    unit.hold(63.0, 400, period_ms=500)
    assert (unit.guard.trips[0], int(unit.guard.since_ns[0])) == (1, since)


def test_service_is_entered_by_window_delay_and_ramp():
    unit = Unit(IEEE_1547)
    unit.hold(56.0, 1)
    assert unit.hold(59.49, 900, period_ms=500) is None  # below the window
    assert unit.hold(60.11, 900, period_ms=500) is None  # above it
    assert unit.hold(59.5, 299, period_ms=500) is None
    unit.tick(S, 59.4)  # once outside
    assert unit.hold(60.0, 299, period_ms=500) is None
    assert unit.hold(60.0, 2, period_ms=500) is not None
    assert unit.guard.state[0] == ENTERING
    assert unit.guard.share[0] == 0.0
    begun = unit.now_ns
    while unit.now_ns - begun < 150 * S:
        unit.tick(S, 60.0)
    assert unit.guard.share[0] == pytest.approx(0.5)
    unit.hold(56.0, 1)
    assert (unit.guard.state[0], unit.guard.share[0], unit.guard.trips[0]) == (TRIPPED, 0.0, 2)
    unit.hold(60.0, 301, period_ms=500)
    assert unit.hold(60.0, 301, period_ms=500) == pytest.approx(300.0, abs=1.0)
    assert (unit.guard.state[0], unit.guard.share[0]) == (IN_SERVICE, 1.0)


@pytest.mark.parametrize(
    ("volt_pu", "enters"), [(0.916, False), (0.917, True), (1.05, True), (1.051, False), (math.nan, True)]
)
def test_the_voltage_window_counts_where_the_voltage_is_known(volt_pu, enters):
    assert within(relay(IEEE_1547, 60.0), 60.0, volt_pu) == enters
    unit = Unit(IEEE_1547)
    unit.hold(56.0, 1)
    assert (unit.hold(60.0, 302, period_ms=500, volt_pu=volt_pu) is not None) == enters


steps = st.lists(
    st.tuples(
        st.sampled_from([1, 50 * MS, S // 2, S, 4 * S]),
        st.one_of(
            st.sampled_from([56.0, 57.9, 58.0, 59.5, 60.0, 60.1, 61.9, 62.0, 62.5]), st.just(60.0), st.none(),
            st.just(0.0),
        ),
        st.sampled_from([1.0, math.nan, 0.8, 1.2]),
    ),
    min_size=1, max_size=80,
)  # fmt: skip


@given(walk=steps, ramp_s=st.sampled_from([0.0, 3.0]))
@settings(max_examples=300, deadline=None)
def test_is_the_twin_on_any_walk(walk, ramp_s):
    rule = Protection(
        trips=((62.0, 0.16), (58.0, 2.0), (57.0, 0.0)), enter_low_pu=0.9, enter_high_pu=1.1,
        **{**PLAIN, "enter_ramp_s": ramp_s},
    )  # fmt: skip
    unit, twin = Unit(rule), Disconnecting(rule, 60.0)
    for after_ns, value, volt_pu in walk:
        hz = value or None
        unit.tick(after_ns, hz, volt_pu, lost=value == 0.0)
        share = twin.tick(unit.now_ns, hz, volt_pu, value == 0.0)
        assert unit.guard.share[0] == pytest.approx(share, abs=1e-12)
        assert (unit.guard.state[0] == TRIPPED, int(unit.guard.trips[0])) == (twin.off, twin.trips)


def test_without_limits_nothing_is_watched():
    unit = Unit(None)
    assert unit.hold(10.0, 100, period_ms=500) is None
    assert unit.guard.share[0] == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trips": ((58.5, 0.16),), "ride_through": ((57.0, 58.8, 299.0),)}, "must be ridden through"),
        ({"trips": ((61.0, 1.0),), "ride_through": ((58.8, 61.2, 0.0),)}, "without end"),
        ({"trips": ((60.0, 1.0),)}, "in which service is entered"),
        ({"trips": ((-1.0, 1.0),)}, "above 0"),
        ({"trips": ((57.0, math.nan),)}, "above 0"),
        ({"trips": ((57.0, 1.0),), "ride_through": ((58.8, 57.0, 1.0),)}, "lower first"),
        ({"trips": ((57.0, 1.0),), "ride_through": ((57.0, 58.0, math.inf),)}, "without end"),
        ({"trips": ()}, "at least one"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Protection(**{**PLAIN, **changes})


def test_usual_limits_by_area():
    assert default(60.0, "PJM") is IEEE_1547
    assert default(50.0, "CE") is default(50.0, "Nordic") is EN_50549
    assert default(50.0, "GB") is G99
    assert default(50.0, "NEM") is None
