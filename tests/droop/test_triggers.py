"""Triggers against a twin that looks back over every sample; the market's own cycles by hand are in tests/vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from droop.dynamics import at_rest, replayed, requested_kw, reset, steps_of, terms
from droop.products import ProductError, parse
from tests.naive_dynamics import S_NS, Pulling

S = S_NS
T0 = 1_700_000_000 * S
SHAPE = {"id": "p", "title": "T", "area": "X", "nominal_hz": 50.0, "direction": "up"}
SEVEN = [49.881, 49.824, 49.767, 49.71, 49.653, 49.596, 49.539]
RULES = {
    "ffr": {"hz": 49.7, "hold_s": 5.0, "fall_pu_s": 0.2, "fall_step_pu": 0.2, "ready_s": 20.0},
    "from the activation": {"hz": 49.7, "hold_s": 3.0, "ready_s": 9.0, "ready_from": "activation"},
    "static": {
        "hz": 49.881, "steps_hz": SEVEN, "release_hz": 49.9, "release_s": 6.0, "pause_hz": 49.8, "fall_pu_s": 0.025,
        "fall_step_pu": 0.2, "ready_s": 15.0,
    },
    "after a while": {"hz": 49.8, "after_s": 0.5, "hold_s": 1.0, "release_hz": 49.85, "release_s": 1.0},
    "in steps, at once": {"hz": 49.8, "steps_hz": [49.8, 49.6], "hold_s": 0.5, "fall_step_pu": 0.3},
}  # fmt: skip


def product(rule, direction="up"):
    trigger = dict(rule)
    if direction == "down":
        for name in ("hz", "release_hz", "pause_hz"):
            if trigger.get(name):
                trigger[name] = 100.0 - trigger[name]
        trigger["steps_hz"] = [100.0 - hz for hz in trigger.get("steps_hz", [])]
    return parse({**SHAPE, "direction": direction, "trigger": trigger}, "test")


class Machine:
    """One product in the engine's dynamics, a kW sold."""

    def __init__(self, item):
        self.terms, self.motion = terms([(item, 1.0)]), at_rest(1, steps_of([(item, 1.0)]))
        self.now_ns, self.hz = T0, math.nan

    def tick(self, after_ns, hz=None, weight=1.0):
        self.now_ns += after_ns
        self.hz = self.hz if hz is None else hz
        return requested_kw(self.motion, self.terms, self.hz, weight, hz is not None, self.now_ns, after_ns / S, 0.0, 0)


# A walk: time since the last tick, and a frequency, nothing (None), or nothing for long (0).
frequency = st.one_of(
    st.sampled_from([49.5, 49.65, 49.7, 49.75, 49.8, 49.85, 49.9, 49.92, 50.0]), st.floats(49.4, 50.1)
)
walks = st.lists(
    st.tuples(
        st.sampled_from([1, S // 10, S // 2, S, 3 * S, 8 * S]),
        st.one_of(frequency, frequency, frequency, st.none(), st.just(0.0)),
    ),
    min_size=1, max_size=60,
)  # fmt: skip


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("name", RULES)
@given(walk=walks)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_is_the_twin_on_any_walk(name, direction, walk):
    item = product(RULES[name], direction)
    machine, twin = Machine(item), Pulling(item.trigger, direction == "up")
    for after_ns, value in walk:
        hz = None if not value else (value if direction == "up" else 100.0 - value)
        lost = value == 0.0
        # The response fades while the frequency is lost; how much of it is given is the watch's affair.
        found = machine.tick(after_ns, None, 0.5) / 0.5 if lost else machine.tick(after_ns, hz)
        assert found == pytest.approx(twin.tick(machine.now_ns, after_ns / S, hz, lost), abs=1e-12)
        assert abs(found) <= 1.0 + 1e-12


@pytest.mark.parametrize("name", RULES)
def test_settlement_sees_what_the_engine_did(name):
    item = product(RULES[name])
    machine = Machine(item)
    rng = np.random.default_rng(3)
    hz = 49.75 + 0.2 * np.sin(np.arange(900) / 25) + 0.02 * rng.standard_normal(900)
    live = [machine.tick(S // 10, value) for value in hz.tolist()]
    t_ns = T0 + (np.arange(900) + 1) * (S // 10)
    again = np.zeros(900)
    replayed(at_rest(1, steps_of([(item, 1.0)])), terms([(item, 1.0)]), 0, t_ns, hz, 3 * S, again)
    np.testing.assert_allclose(again, live, atol=1e-12)
    assert again.max() > 0.9


def test_no_news_pulls_no_trigger_and_ends_no_support():
    machine = Machine(product(RULES["after a while"]))
    assert machine.tick(0, 49.7) == 0.0
    for _ in range(20):
        assert machine.tick(S // 10) == 0.0  # held below the threshold, but never measured again
    assert machine.tick(1, 49.7) == 1.0  # what was counted while it could be held was counted
    assert machine.tick(S, 49.9) == 1.0
    for _ in range(20):
        assert machine.tick(S // 10) == 1.0
    assert machine.tick(1, 49.9) == 0.0


def test_a_loss_breaks_what_counts_without_a_break():
    machine = Machine(product(RULES["after a while"]))
    machine.tick(0, 49.7)
    machine.tick(S, None, 0.5)
    assert machine.tick(S, 49.7) == 0.0
    assert machine.tick(S // 2, 49.7) == 1.0


def test_a_support_goes_on_while_time_alone_goes_by_and_ends_with_it():
    machine = Machine(product(RULES["ffr"]))
    assert machine.tick(0, 49.6) == 1.0
    assert machine.tick(5 * S - 1) == 1.0
    assert machine.tick(1) == 1.0  # released now; it goes down from here
    assert machine.tick(S // 2) == pytest.approx(0.9)
    assert machine.tick(10 * S) == pytest.approx(0.7)  # no step larger than a fifth, however long the silence


def test_reset_arms_at_once():
    machine = Machine(product(RULES["ffr"]))
    machine.tick(0, 49.6)
    reset(machine.motion)
    assert machine.tick(1, 49.9) == 0.0
    assert machine.tick(1, 49.6) == 1.0


def test_stacked_products_have_their_own_state():
    sold = [(product(RULES["ffr"]), 10.0), (product(RULES["static"]), 100.0)]
    table, motion = terms(sold), at_rest(2, steps_of(sold))
    alone = [Machine(item) for item, _ in sold]
    rng = np.random.default_rng(5)
    now = T0
    for hz in 49.75 + 0.15 * np.sin(np.arange(400) / 20) + 0.02 * rng.standard_normal(400):
        now += S // 4
        found = requested_kw(motion, table, hz, 1.0, True, now, 0.25, 0.0, 0)
        parts = [m.tick(S // 4, hz) * kw for m, (_, kw) in zip(alone, sold, strict=True)]
        assert found == pytest.approx(math.fsum(parts), abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trigger": {"hz": 50.3}}, "trigger.hz"),
        ({"trigger": {"hz": 49.7, "release_hz": 49.6}}, "trigger.release_hz"),
        ({"trigger": {"hz": 49.7}}, "without either it lets go as it is pulled"),
        ({"trigger": {"hz": 49.7, "steps_hz": [49.7, -1.0]}}, "steps_hz"),
        ({"trigger": {"hz": 49.7, "ready_from": "now"}}, "ready_from"),
        ({"trigger": {"hz": 49.7}, "input": "signal", "signal_s": 2.0, "curve": [[0, 0], [1, 1]]}, "trigger"),
    ],
)
def test_a_trigger_that_could_not_work_is_refused(changes, message):
    with pytest.raises(ProductError, match=message):
        parse({**SHAPE, **changes}, "test")
