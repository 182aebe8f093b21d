"""Dead time and gain learned from reports, liars found, honest chargers left in peace."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.commands import Sending, choose
from droop.fleet import allocate
from droop.outbox import outbox
from droop.response import Believing, hear, in_flight_kw, observe, setpoint_kw
from tests.naive_response import Believer, Charger, Told

S = 1_000_000_000
NOW = 1_700_000_000 * S
BELIEVING = Believing()


class Bench:
    """One charger of 11 kW, commanded through the real outbox."""

    def __init__(self, charger, period_s=1.5, seed=0, believing=BELIEVING):
        self.charger, self.period_s, self.believing = charger, period_s, believing
        self.fleet, self.out, self.rng = allocate(1), outbox(1), random.Random(seed)
        f = self.fleet
        f.state[:], f.usable_kwh[:], f.energy_kwh[:], f.energy_ns[:] = 1, 1e5, 5e4, NOW
        f.charge_max_kw[:] = f.discharge_max_kw[:] = 11.0
        f.lo_kw[:], f.hi_kw[:] = -11.0, 11.0
        self.slots, self.reported, self.refusals = np.zeros(1, np.int64), 0.0, []

    def run(self, begin_s, end_s, goal, every_s):
        """`goal()` is a new request every `every_s`; reports come at random phase."""
        f, due = self.fleet, begin_s
        for k in range(round(begin_s * 10), round(end_s * 10)):
            t, now = k / 10, NOW + k * S // 10
            if t >= due:
                self.goal, due = goal(), due + every_s
            self.charger.run(t)
            if t >= self.reported:
                self.report(t, now)
            if f.refused_ns[0] == 0:
                f.power_kw[0] = self.goal
                choose(f, self.goal, now, Sending(), self.out)
                if self.out.sent[0]:
                    self.charger.hear(t, float(self.out.setpoint_kw[0]))

    def report(self, t, now):
        f = self.fleet
        was = f.refused_ns[0]
        measured = np.float32([self.charger.meter()])
        hear(f, self.slots, measured, now, self.believing)
        f.measured_kw[0], f.report_ns[0], f.source_ns[0] = measured[0], now, now
        self.reported = t + self.period_s * self.rng.uniform(0.8, 1.2)
        if was == 0 and f.refused_ns[0] > 0:
            self.refusals.append(t)


def steps(seed):
    rng = random.Random(seed)
    return lambda: rng.choice([-1, 1]) * rng.uniform(4, 10.5)


@pytest.mark.parametrize(("dead_s", "period_s"), [(0.3, 2.0), (1.0, 1.0), (2.5, 2.0), (6.0, 1.0)])
def test_dead_time_is_learned(dead_s, period_s):
    bench = Bench(Charger(random.Random(1), dead_s), period_s)
    bench.run(0, 600, steps(2), 25)
    assert bench.fleet.dead_s[0] == pytest.approx(dead_s, rel=0.3, abs=0.5)
    assert bench.refusals == []


@pytest.mark.parametrize("gain", [0.8, 0.95, 1.05])
def test_gain_is_learned_and_what_was_asked_arrives(gain):
    bench = Bench(Charger(random.Random(3), gain=gain))
    bench.run(0, 600, lambda: random.Random(int(bench.charger.at)).choice([-1, 1]) * 8.0, 20)
    assert bench.fleet.gain_up[0] == pytest.approx(gain, abs=0.03)
    assert bench.fleet.gain_dn[0] == pytest.approx(gain, abs=0.03)
    assert bench.charger.power == pytest.approx(float(bench.fleet.command_kw[0]), rel=0.03)
    assert bench.refusals == []


@pytest.mark.parametrize("seed", range(4))
def test_a_liar_is_found_within_fifteen_seconds(seed):
    bench = Bench(Charger(random.Random(seed), deaf=((0, 1e9),)), 1.0 + seed / 3, seed)
    bench.run(0, 30, lambda: 8.0, 5)
    assert bench.refusals[0] <= 15
    bench = Bench(Charger(random.Random(seed), deaf=((0, 1e9),)), 1.0 + seed / 3, seed)
    bench.run(0, 40, lambda: 7.0 + bench.rng.uniform(-2, 2), 0.7)
    # Reports up to 2.4 s apart, the first of them before anything was told.
    assert bench.refusals[0] <= 18


@pytest.mark.parametrize("seed", range(2))
def test_honest_but_slow_is_not_accused_in_a_quarter_of_an_hour_of_noise(seed):
    charger = Charger(random.Random(seed), dead_s=2.0, ramp_kw_s=22 / 5)
    bench = Bench(charger, 1.3, seed)
    rng = random.Random(seed)
    bench.run(0, 900, lambda: rng.uniform(-11, 11), 2.3)
    assert bench.refusals == []
    assert bench.fleet.misses[0] < BELIEVING.misses


def test_who_stops_is_left_out_and_taken_back():
    bench = Bench(Charger(random.Random(5), deaf=((100, 300),)), believing=Believing(retry_ns=300 * S))
    bench.run(0, 700, lambda: 8.0, 10)
    assert len(bench.refusals) == 1
    assert 100 < bench.refusals[0] <= 115
    assert bench.fleet.refused_ns[0] == bench.fleet.misses[0] == 0
    assert bench.charger.power == pytest.approx(8.0, rel=0.01)


ROW = {
    "measured_kw": 8.0, "t_ns": NOW + 10 * S, "before_kw": 8.0, "before_ns": NOW + 9 * S, "command_kw": 8.0,
    "told_kw": 8.0, "from_kw": 0.0, "past_lo_kw": 0.0, "past_hi_kw": 8.0, "sent_ns": NOW,
    "valid_until_ns": NOW + 60 * S, "rating_kw": 11.0, "gain_up": 1.0, "gain_dn": 1.0, "dead_s": 1.0, "misses": 0,
    "refused_ns": 0, "believing": BELIEVING,
}  # fmt: skip


BACK = {"command_kw": 1.5, "told_kw": 1.5, "from_kw": 4.0, "past_lo_kw": 1.5, "past_hi_kw": 4.0}
DOWN = {"command_kw": -8.0, "told_kw": -8.0, "past_lo_kw": -8.0, "past_hi_kw": 0.0}


def seen(**changes):
    return observe(*{**ROW, **changes}.values())


@pytest.mark.parametrize(
    ("changes", "misses"),
    [
        ({}, 0),
        ({"misses": 3}, 0),
        ({"measured_kw": 0.0}, 1),
        ({"measured_kw": 0.0, "t_ns": NOW + 2 * S}, 0),  # may still be on its way
        ({"measured_kw": -1.0, "t_ns": NOW + 2 * S}, 1),  # nobody asked for that
        ({"measured_kw": 12.0, "t_ns": NOW + 2 * S}, 1),
        ({"measured_kw": 3.4}, 0),  # less than half: held back
        ({"measured_kw": 0.81}, 0),
        ({"measured_kw": 0.79}, 1),  # less than a tenth
        ({"measured_kw": 9.3}, 0),  # a tenth more, and the tolerance
        ({"measured_kw": 9.4}, 1),
        ({"measured_kw": 4.0, "from_kw": 4.0}, 0),  # no further than it was: a battery may hold it there
        ({"measured_kw": 4.0, **BACK}, 1),  # but keeps nobody from doing less
        ({"measured_kw": -2.0, **DOWN}, 0),
        ({"measured_kw": -0.5, **DOWN}, 1),
        ({"measured_kw": 2.0, **DOWN}, 1),
        # What it was told before, and it may still be answering, is further than that too.
        ({"measured_kw": 2.5, "past_lo_kw": 6.0, "t_ns": NOW + 2 * S}, 0),
        ({"measured_kw": -1.0, "past_lo_kw": 6.0, "t_ns": NOW + 2 * S}, 1),
        ({"measured_kw": 0.0, "dead_s": 4.0}, 0),  # slow
        ({"measured_kw": 0.0, "valid_until_ns": NOW + 9 * S}, 0),  # expired
        ({"measured_kw": 0.0, "sent_ns": 0}, 0),  # never told
        ({"measured_kw": 0.0, "sent_ns": NOW + 11 * S}, 0),  # told since
        ({"measured_kw": 0.0, "misses": 255}, 255),
        ({"measured_kw": 0.0, "valid_until_ns": NOW + 10 * S}, 0),  # ends as it is measured
        ({"measured_kw": 9.0, "t_ns": NOW}, 0),  # at once, and as it was told before
        ({"measured_kw": 12.0, "t_ns": NOW}, 1),
        ({"measured_kw": 0.2, "command_kw": 0.0, "told_kw": 0.0, "rating_kw": 3.0}, 0),  # any charger's 0.3 kW
        ({"measured_kw": 0.2, "rating_kw": 0.0, "past_hi_kw": 0.0}, 0),  # there is no charger
        ({"measured_kw": 12.4, "gain_up": 0.7}, 0),  # 8 kW are 11.4 told, and 1.1 of that could arrive
        ({"measured_kw": 12.4, "gain_dn": 0.7}, 1),
    ],
    ids=str,
)
def test_which_reports_are_misses(changes, misses):
    assert seen(**changes)[3] == misses


def test_refused_at_the_fifth_miss_if_far_and_tried_again_later():
    assert seen(measured_kw=0.0, misses=3)[4] == 0
    assert seen(measured_kw=0.0, misses=4)[4] == NOW + 10 * S
    near = {"command_kw": 1.5, "told_kw": 1.5, "past_hi_kw": 1.5}
    assert seen(measured_kw=-0.5, misses=4, **near)[3:] == (5, 0)  # 2.0 kW is less than a fifth of 11
    assert seen(measured_kw=-1.0, misses=4, **near)[4] > 0
    left_out = {"misses": 5, "refused_ns": NOW}
    assert seen(t_ns=NOW + BELIEVING.retry_ns - 1, **left_out)[3:] == (5, NOW)
    assert seen(t_ns=NOW + BELIEVING.retry_ns, **left_out)[3:] == (0, 0)


def test_bounds_and_first_observation():
    crossing = {"before_kw": 0.0, "before_ns": NOW + S, "t_ns": NOW + 2 * S}
    assert seen(**crossing, dead_s=0.0)[2] == pytest.approx(1.5)
    assert seen(**crossing, dead_s=1.0)[2] == pytest.approx(1.1)
    late = {"before_kw": 0.0, "before_ns": NOW + 50 * S, "t_ns": NOW + 52 * S}
    assert seen(**late, dead_s=29.0)[2] == 30.0
    assert seen(**crossing, from_kw=6.0)[2] == 1.0  # too small a step to tell
    near = {"measured_kw": 7.2, "before_kw": 7.2}
    assert seen(**near)[:2] == pytest.approx((0.99, 1.0))
    assert seen(command_kw=2.0, told_kw=2.0, measured_kw=1.8)[0] == 1.0  # too little power to tell
    assert seen(measured_kw=1.2, before_kw=1.2, told_kw=4.0, command_kw=2.0, gain_up=0.25)[0] == pytest.approx(0.24)
    assert seen(measured_kw=0.85, before_kw=0.85, told_kw=11.0, command_kw=5.5, gain_up=0.1)[0] == 0.1
    assert seen(measured_kw=9.3, before_kw=9.3, gain_up=1.1)[0] == pytest.approx(1.1)


@pytest.mark.parametrize("measured_kw", [7.2, 3.0])
def test_a_share_is_learned_in_its_direction_once_the_charger_stands_still(measured_kw):
    share = 0.9 + 0.1 * measured_kw / 8.0
    assert seen(measured_kw=measured_kw, before_kw=measured_kw + 0.2)[:2] == pytest.approx((share, 1.0))
    moved = seen(measured_kw=measured_kw, before_kw=measured_kw - 0.3)
    assert moved[:2] == (1.0, 1.0)  # still on its way
    below = seen(measured_kw=-measured_kw, before_kw=-measured_kw, **DOWN)
    assert below[:2] == pytest.approx((1.0, share))
    early = seen(measured_kw=measured_kw, before_kw=measured_kw, t_ns=NOW + 2 * S)
    assert early[:2] == (1.0, 1.0)


def test_a_gain_learned_while_charging_is_no_reason_to_tell_more_while_discharging():
    class Tapering(Charger):
        """Takes six tenths of what it is told, gives all of it."""

        def hear(self, t, setpoint_kw):
            super().hear(t, setpoint_kw * (0.6 if setpoint_kw < 0 else 1.0))

    bench = Bench(Tapering(random.Random(7)))
    bench.run(0, 120, lambda: -6.0, 20)
    assert bench.fleet.gain_dn[0] == pytest.approx(0.6, abs=0.03)
    assert bench.charger.power == pytest.approx(-6.0, rel=0.05)
    bench.run(120, 122, lambda: 6.0, 20)
    assert bench.fleet.told_kw[0] == bench.charger.power == 6.0
    assert bench.fleet.gain_up[0] == 1.0


def test_a_battery_that_takes_less_than_half_is_counted_with_that_and_not_called_a_liar():
    class Full(Charger):
        """Takes no more than 2.6 kW, whatever it is told."""

        def hear(self, t, setpoint_kw):
            super().hear(t, max(setpoint_kw, -2.6))

    bench = Bench(Full(random.Random(8)))
    bench.run(0, 300, lambda: -10.0 * max(float(bench.fleet.gain_dn[0]), 0.1), 5)
    assert bench.refusals == []
    assert bench.fleet.command_kw[0] == pytest.approx(-2.6, abs=0.1)
    assert bench.fleet.misses[0] == 0
    # The same charger stuck there is found once it is told to turn.
    bench.charger.told, bench.charger.hear = [], lambda *_: None
    bench.run(300, 330, lambda: 8.0, 5)
    assert len(bench.refusals) == 1


def told(command_kw, gain=1.0, charge_kw=11.0, discharge_kw=11.0, least_kw=0.0, other=1.0):
    """The set-point; `gain` is that of the command's direction, `other` that of the other."""
    up, down = (gain, other) if command_kw > 0 else (other, gain)
    return setpoint_kw(np.float32(command_kw), up, down, charge_kw, discharge_kw, least_kw)


@pytest.mark.parametrize("other", [1.0, 0.6])
def test_setpoint_over_gain(other):
    for command_kw in (3.3, -3.3):
        assert told(command_kw, other=other) == np.float32(command_kw)
        assert told(command_kw, 0.981, other=other) == np.float32(command_kw)
    assert told(8.0, 0.8, other=other) == pytest.approx(10.0)
    assert told(8.0, 0.5, discharge_kw=7.0, other=other) == 7.0
    assert told(-8.0, 0.5, discharge_kw=7.0, other=other) == -11.0
    assert told(10.5, 1.05, other=other) == pytest.approx(10.0)
    assert told(2.0, 0.2, other=other) == 4.0  # no more than twice


def test_setpoint_stays_within_the_rating_and_is_nothing_or_the_least_power():
    assert told(11.5) == 11.0
    assert told(-11.5) == -11.0
    for sign in (1.0, -1.0):
        assert told(sign * 4.14, 1.1, least_kw=4.14) == np.float32(sign * 4.14)
        assert told(sign * 4.1399, 1.0, least_kw=4.14) == np.float32(sign * 4.14)
        assert told(sign * 4.4, 1.1, least_kw=4.14) == np.float32(sign * 4.14)
        assert told(sign * 6.6, 1.1, least_kw=4.14) == pytest.approx(sign * 6.0)
        assert told(sign * 3.0, 1.0, least_kw=4.14) == 0.0
    assert told(0.0, least_kw=4.14) == 0.0


@pytest.mark.parametrize("last_s", [-1.0, 1.0])
def test_dead_time_is_measured_from_the_report_before_whatever_was_sent_since(last_s):
    """A renewal between the two reports is no report."""
    row = {"before_kw": 0.0, "before_ns": NOW + int(last_s * S), "t_ns": NOW + int(3.6 * S), "dead_s": 0.0}
    assert seen(**row)[2] == pytest.approx(max(last_s, 0.0) + (3.6 - max(last_s, 0.0)) / 2)


def test_power_in_flight_is_of_young_commands_of_plugged_vehicles():
    f = allocate(4)
    f.state[:] = [1, 1, 1, 0]
    f.command_kw[:], f.measured_kw[:], f.dead_s[:] = 5.0, [1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 0.0, 2.0]
    f.sent_ns[:] = [NOW - S, NOW - 3 * S, NOW, NOW]
    assert in_flight_kw(f, NOW) == pytest.approx(4.0)


AROUND_S = [-2.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 2.999999999, 3.0, 3.5, 6.0, 8.9, 9.0, 40.0]


def a_report(rng):
    """A charger and a report of it: any powers, times at the edges of every rule."""
    rating = rng.choice([0.0, 3.7, 11.0, 22.0])
    sent = rng.choice([0, NOW, NOW, NOW, NOW])
    command = rng.choice([0.0, rng.uniform(-rating, rating), rng.uniform(-rating, rating)])
    past = sorted([rng.uniform(-rating, rating), rng.choice([0.0, rng.uniform(-rating, rating)])])
    before = rng.choice([0.0, command, command, past[0], rng.uniform(-rating, rating)])
    gain, other = (rng.choice([1.0, 1.0, 0.981, 1.015, 0.975, 1.025, rng.uniform(0.1, 1.1)]) for _ in range(2))
    used = 1.0 if abs(gain - 1) <= 0.02 else max(gain, 0.5)
    measured = rng.choice([command, command, 0.0, before, rng.uniform(0.4, 1.2) * command, past[1], -command])
    t_ns = NOW + round(rng.choice(AROUND_S) * S)
    told = Told(
        measured + rng.choice([0.0, rng.uniform(-0.5, 0.5)]), t_ns,
        rng.choice([before, measured, measured, rng.uniform(-rating, rating)]),
        t_ns - rng.choice([0, 1, S // 2, S, 2 * S, 20 * S]), command, command / used, before, *past, sent,
        NOW + round(rng.choice([-1.0, *AROUND_S, 60.0, 60.0, 60.0]) * S), rating,
    )  # fmt: skip
    believer = Believer(
        *((gain, other) if command > 0 else (other, gain)),
        rng.choice([0.0, 0.0, 0.4, 1.0, 1.1, 3.0, 29.0]), rng.choice([0, 0, 3, 4, 5, 254, 255]),
        rng.choice([0] * 9 + [NOW - 300 * S, t_ns - 900 * S, t_ns - 900 * S + 1]),
    )  # fmt: skip
    return told, believer


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_is_the_twin(seed):
    rng = random.Random(seed)
    for _ in range(20):
        told, twin = a_report(rng)
        gains = twin.gain_up, twin.gain_dn
        found = observe(*vars(told).values(), *gains, twin.dead_s, twin.misses, twin.refused_ns, BELIEVING)
        twin.hear(told)
        assert found[:3] == pytest.approx((twin.gain_up, twin.gain_dn, twin.dead_s), rel=1e-12, abs=1e-12), told
        assert found[3:] == (twin.misses, twin.refused_ns), told


@pytest.mark.parametrize("sides", [(11.0, 0.0), (0.0, 11.0)])
def test_a_charger_of_one_direction_is_judged_by_the_rating_it_has(sides):
    """Of 11 kW 1.5 kW say nothing of its gain; of no rating at all nothing would be learned of it."""
    f = allocate(1)
    f.state[0], f.valid_until_ns[0], f.sent_ns[0] = 1, NOW + 60 * S, NOW
    f.charge_max_kw[0], f.discharge_max_kw[0] = sides
    sign = 1.0 if sides[1] else -1.0
    for told, learned in ((1.5, 1.0), (8.0, 0.99)):
        f.command_kw[0] = f.told_kw[0] = sign * told
        f.past_lo_kw[0], f.past_hi_kw[0] = sorted([0.0, sign * told])
        f.measured_kw[0] = sign * 0.9 * told
        hear(f, np.zeros(1, np.int64), f.measured_kw.copy(), NOW + 10 * S, BELIEVING)
        assert (f.gain_up if sign > 0 else f.gain_dn)[0] == pytest.approx(learned, rel=1e-6)
    hear(f, np.zeros(1, np.int64), np.float32([0.0]), NOW + 40 * S, BELIEVING)
    assert f.misses[0] == 1


def test_a_report_before_the_command_begins_no_step():
    """The line to the middle of a step begins at the command, where the power was what the command found."""
    early = {"before_ns": NOW - 4 * S, "t_ns": NOW + 2 * S, "measured_kw": 8.0, "dead_s": 0.0}
    # Whatever an earlier report said: it was of other commands.
    for before_kw in (-8.0, 0.0, 4.1, 8.0):
        assert seen(**early, before_kw=before_kw)[2] == pytest.approx(1.0)
    # Beyond its set-point it has arrived, no more.
    assert seen(**early, before_kw=0.0)[2] == seen(**{**early, "measured_kw": 8.6})[2]


def test_a_car_that_takes_less_than_its_chargers_least_is_offered_the_least():
    """4.14 kW at least, 3.67 taken in the cold: commanded that, the charger is told its least; less is nothing."""
    for command, told in ((-3.67, -4.14), (-3.0, 0.0), (3.67, 0.0), (4.14, 4.14), (-5.0, -5.0), (0.0, 0.0)):
        assert setpoint_kw(command, 1.0, 1.0, 11.0, 11.0, 4.14, 3.67) == np.float32(told)
