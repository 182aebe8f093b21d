"""The energy rules in motion against twins that look back over everything; how time is cut must not matter."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop import modes
from droop.dynamics import at_rest, requested_kw, reset, steps_of, terms
from droop.freedoms import leaning, overfulfilled, paced, within_deadband
from droop.management import answered, switched
from droop.modes import Mode, manage
from droop.products import ProductError, load, parse, to_table
from droop.promises import Freedoms, Management, Reservoir, Trigger
from droop.reserve_mode import reserved, weighted
from tests.naive_reservoir import Continental, Nordic

S = 10**9
T0 = 1_700_000_000 * S
KINDS = {"nordic_fcr_n": "n", "nordic_fcr_d_up": "up", "nordic_fcr_d_down": "down"}
MANY = settings(max_examples=80, deadline=None)


class Run:
    """Products' modes and what they ask, driven by hand."""

    def __init__(self, *sold):
        self.terms, self.motion, self.last_ns = terms(list(sold)), at_rest(len(sold), steps_of(list(sold))), 0

    @property
    def modes(self):
        return self.motion.modes

    def tick(self, now_ns, hz, up_kwh, down_kwh, weight=1.0, room_kw=1e9):
        elapsed_s = (now_ns - self.last_ns) / S if self.last_ns else 0.0
        self.last_ns = now_ns
        manage(
            self.modes, self.terms.duties, self.terms.nominal_hz, self.terms.sold_kw, hz, now_ns, up_kwh, down_kwh,
            room_kw, room_kw,
        )  # fmt: skip
        return requested_kw(self.motion, self.terms, hz, weight, True, now_ns, elapsed_s, 0.0, 0)


def wandering(rng, seconds, spread_hz):
    """A frequency that stays for a while where it is, or jumps; a value a second."""
    hz, found = 50.0, []
    for _ in range(seconds):
        hz = rng.choice([hz, hz, hz, 50.0 + rng.uniform(-spread_hz, spread_hz)])
        found.append(hz)
    return found


def with_reserve_mode():
    plain = load("ce_fcr")
    return replace(plain, reservoir=replace(plain.reservoir, reserve_min=5.0))


class TestTwins:
    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize("name", KINDS)
    def test_nordic(self, name, seed):
        rng, twin, run = random.Random(seed), Nordic(KINDS[name], 1.0), Run((load(name), 1000.0))
        seen = set()
        for k, hz in enumerate(wandering(rng, 900, 0.3 if seed % 2 else 0.12)):
            soc = min(max(0.5 + 0.52 * math.sin(k / 120) + rng.uniform(-0.03, 0.03), 0.005), 0.995)
            twin.second(hz, soc, 2.0)
            asked = run.tick(T0 + k * S, hz, 2000.0 * soc, 2000.0 * (1.0 - soc))
            assert asked / 1000 == pytest.approx(twin.power_mw(hz), abs=1e-9)
            assert (run.modes.nem[0], run.modes.aem[0]) == (twin.nem, twin.aem)
            seen.add((twin.nem, twin.aem))
        assert len(seen) >= (5 if name == "nordic_fcr_n" else 3)

    @pytest.mark.parametrize("name", KINDS)
    def test_nordic_to_the_brink_and_back(self, name):
        rng, twin, run = random.Random(7), Nordic(KINDS[name], 1.0), Run((load(name), 1000.0))
        edge = 0.01 if name != "nordic_fcr_d_down" else 0.99
        path = [*np.linspace(0.5, edge, 500), *[edge] * 100, *np.linspace(edge, 0.5, 500)]
        for k, (soc, hz) in enumerate(zip(path, wandering(rng, len(path), 0.25), strict=True)):
            twin.second(hz, soc, 2.0)
            asked = run.tick(T0 + k * S, hz, 2000.0 * soc, 2000.0 * (1.0 - soc))
            assert asked / 1000 == pytest.approx(twin.power_mw(hz), abs=1e-9)
        lasted = run.modes.seconds[0]
        assert lasted[Mode.NEM] > lasted[Mode.AEM] > 100
        assert run.modes.nem_pu[0] == run.modes.mean_hz[0] == 0.0 or name == "nordic_fcr_n"

    @pytest.mark.parametrize("seed", range(3))
    def test_reserve_mode(self, seed):
        rng, twin, run = random.Random(seed), Continental(1.0), Run((with_reserve_mode(), 1000.0))
        devs = [*wandering(rng, 60, 0.02), *[49.94 + rng.uniform(-0.005, 0.005) for _ in range(1100)]]
        devs += [49.78] * 30 + wandering(rng, 500, 0.08)
        for k, hz in enumerate(devs):
            up = 0.5 - 0.0004 * k if k < 1200 else 0.02 + 0.0005 * (k - 1200)
            twin.second(hz, up, 1.0)
            asked = run.tick(T0 + k * S, hz, 1000.0 * up, 1000.0)
            assert (bool(run.modes.alert[0]), bool(run.modes.reserve[0])) == (twin.alert(), twin.on), k
            assert run.modes.weight[0] == pytest.approx(twin.w, abs=1e-9)
            assert asked / 1000 == pytest.approx(twin.power(), abs=1e-9)
        assert 0 < run.modes.seconds[0, Mode.RESERVE] < len(devs)
        assert run.modes.weight[0] == 0.0


class TestTime:
    @pytest.mark.parametrize("seed", range(4))
    def test_ticks_within_a_second_change_no_mode(self, seed):
        """At 1 and at 20 ticks a second, as long as the first of each second sees the same."""
        rng = random.Random(seed)
        sold = [(load("nordic_fcr_n"), 500.0), (load("nordic_fcr_d_up"), 300.0), (with_reserve_mode(), 200.0)]
        slow, fast = Run(*sold), Run(*sold)
        for k, hz in enumerate(wandering(rng, 700, 0.15)):
            up = 800.0 - k
            slow.tick(T0 + k * S, hz, up, 500.0)
            for part in range(rng.choice([1, 4, 20])):
                fast.tick(T0 + k * S + part * S // 20, hz, up, 500.0)
        for name in ("alert", "reserve", "nem", "aem", "weight", "mean_hz", "nem_pu", "seconds", "past_hz", "past_nem"):
            np.testing.assert_array_equal(getattr(slow.modes, name), getattr(fast.modes, name), name)

    @pytest.mark.parametrize("gap", [2, 7, 300, 2000])
    def test_a_second_without_a_tick_repeats_the_one_before(self, gap):
        one, other = Run((load("nordic_fcr_n"), 1000.0)), Run((load("nordic_fcr_n"), 1000.0))
        for k in range(100):
            for run in (one, other):
                run.tick(T0 + k * S, 49.95, 60.0, 1900.0)
        for k in range(100, 100 + gap):
            one.tick(T0 + k * S, 49.95, 60.0, 1900.0)
        other.tick(T0 + (99 + gap) * S, 49.95, 60.0, 1900.0)
        for name in ("nem_pu", "mean_hz", "nem", "aem", "seconds", "heads"):
            np.testing.assert_array_equal(getattr(one.modes, name), getattr(other.modes, name), name)
        # Longer gaps than the ring holds fill it once; where it begins does not matter.
        assert sorted(one.modes.past_hz[0]) == sorted(other.modes.past_hz[0])

    def test_time_that_stands_still_or_goes_back_is_no_second(self):
        run = Run((load("nordic_fcr_n"), 1000.0))
        for at in (T0, T0, T0 - 5 * S, T0 + S // 2):
            run.tick(at, 49.95, 60.0, 1900.0)
        assert run.modes.heads[0] == 1
        assert run.modes.seconds[0, Mode.NEM] == 1

    def test_a_lost_frequency_is_a_second_at_the_reference_and_no_alert(self):
        run = Run((with_reserve_mode(), 1000.0), (load("nordic_fcr_n"), 1000.0))
        for k in range(1000):
            run.tick(T0 + k * S, 49.94, 60.0, 1900.0)
        assert run.modes.alert[0] == 1
        run.tick(T0 + 1000 * S, math.nan, 60.0, 1900.0, weight=0.0)
        assert run.modes.alert[0] == 0
        assert not run.modes.since_ns.any()
        assert run.modes.aem[1] == -1
        assert run.modes.past_hz[:, 1000 % modes.WINDOW].tolist() == [0.0, 0.0]
        assert run.modes.past_nem[1, 1000 % modes.WINDOW] == 0.0
        run.tick(T0 + 1001 * S, 49.94, 60.0, 1900.0)
        assert run.modes.alert[0] == 0  # its clock begins anew

    def test_a_dead_bus_forgets_what_was_given(self):
        run = Run((replace(load("ce_fcr"), freedoms=Freedoms(speed=True)), 1000.0))
        run.tick(T0, 49.8, 900.0, 100.0)
        assert run.modes.given[0] == 1.0
        reset(run.motion)
        assert run.modes.given[0] == 0.0


class TestNothingToManage:
    @pytest.mark.parametrize("name", KINDS)
    def test_chargers_of_one_direction_have_no_reservoir(self, name):
        run = Run((load(name), 1000.0))
        for k in range(400):
            run.tick(T0 + k * S, 49.95, 0.0, 0.0)
        assert not run.modes.seconds.any()
        assert not run.modes.active.any()

    def test_what_is_given_whole_has_no_line_to_move(self):
        """Static FCR-D: NEM adds its power, AEM only tells that the capacity is unavailable."""
        static = replace(load("nordic_fcr_d_up"), trigger=Trigger(49.6), curve_hz=(-0.4 - 1e-9, -0.4, 0.0),
                         curve_frac=(1.0, 0.0, 0.0))  # fmt: skip
        run = Run((static, 1000.0))
        for k in range(400):
            asked = run.tick(T0 + k * S, 49.95, 50.0, 900.0)
        assert run.modes.aem[0] == run.modes.nem[0] == -1
        assert run.modes.mean_hz[0] == 0.0
        assert asked == pytest.approx(-200.0)

    def test_a_product_on_a_signal_has_none(self):
        on_signal = replace(load("ce_fcr"), input="signal", freedoms=Freedoms(1.2))
        assert not Run((on_signal, 1000.0)).terms.duties.any.any()

    def test_products_without_rules_are_left_alone(self):
        run = Run((load("ieee1547"), 1000.0), (load("ce_fcr"), 0.0))
        assert run.terms.duties.any.tolist() == [False, True]
        run.tick(T0, 49.0, 1.0, 1.0)
        assert run.modes.seconds[0].tolist() == [0] * 4
        assert run.modes.alert.tolist() == [0, 1]
        assert run.modes.reserve[1] == 0

    @pytest.mark.parametrize("name", [*KINDS, "ce_fcr"])
    def test_a_full_reservoir_asks_what_the_curve_asks_to_the_bit(self, name):
        product = load(name)
        bare = replace(product, reservoir=None)
        rng = random.Random(3)
        one, other = Run((product, 1000.0)), Run((bare, 1000.0))
        for k, hz in enumerate(wandering(rng, 400, 0.4)):
            assert one.tick(T0 + k * S, hz, 9000.0, 9000.0) == other.tick(T0 + k * S, hz, 9000.0, 9000.0)


class TestProperties:
    @settings(max_examples=20, deadline=None)
    @given(
        st.sampled_from(list(KINDS)), st.floats(0.0, 1.0), st.lists(st.floats(49.3, 50.7), min_size=1, max_size=12),
        st.integers(1, 90),
    )  # fmt: skip
    def test_nem_restores_and_stays_within_its_share(self, name, soc, path, hold_s):
        run, k = Run((load(name), 1000.0)), 0
        share = run.terms.duties.nem_pu[0]
        for hz in path:
            for _ in range(hold_s):
                asked = run.tick(T0 + k * S, hz, 1500.0 * soc, 1500.0 * (1.0 - soc))
                k += 1
                nem = run.modes.nem_pu[0]
                # Charging with little energy up, discharging with little room down, nothing in between.
                assert nem == 0.0 or (nem < 0.0) == (soc < 0.5)
                assert abs(nem) <= share + 1e-12
                assert run.terms.duties.floor_pu[0] <= asked / 1000 <= run.terms.duties.ceiling_pu[0]

    @MANY
    @given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(1.0, 1.2))
    def test_overfulfilment_helps_and_never_more_than_it_may(self, due, lean, most):
        given_ = overfulfilled(due, lean, most)
        assert abs(given_) <= most * abs(due) + 1e-15
        assert abs(given_) >= abs(due)
        extra = given_ - due
        assert extra * lean >= 0.0
        assert given_ * due >= 0.0
        if due * lean <= 0.0:
            assert given_ == due

    @MANY
    @given(st.floats(0.0, 100.0), st.floats(0.0, 100.0))
    def test_leaning_goes_towards_the_middle(self, up, down):
        lean = leaning(up, down)
        assert -1.0 <= lean <= 1.0
        assert lean * (up - down) >= 0.0
        assert leaning(down, up) == pytest.approx(-lean, abs=1e-9)

    @MANY
    @given(st.floats(-0.05, 0.05), st.floats(-1.0, 1.0))
    def test_inside_the_dead_band_only_what_helps(self, proportional, lean):
        found = within_deadband(proportional, lean)
        assert found * lean >= 0.0
        assert abs(found) <= abs(proportional)

    @MANY
    @given(st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=30), st.sampled_from([-1.0, -0.4, 0.4, 1.0]))
    def test_the_slow_way_stays_within_the_slowest_that_is_admitted(self, devs, lean):
        """Of changes one way, and helpful ones at once; against 0 up to 2 s, half at 15 s, all at 30 s."""
        given_, slow = 0.0, []
        target = 0.0
        for k in range(40):
            wanted = max(target, min(1.0, abs(devs[min(k // 2, len(devs) - 1)]) / 0.2))
            slow.append((k, wanted - target))
            target = wanted
            given_ = paced(target, given_, -abs(lean), 1.0, 30.0)
            # Each step was asked at the beginning of its second and is looked at at its end.
            least = sum(step * np.interp(k + 1 - at, [0, 2, 15, 30], [0, 0, 0.5, 1.0]) for at, step in slow)
            assert least - 1e-9 <= given_ <= target + 1e-12
        assert paced(0.3, 0.5, -1.0, 1.0, 30.0) == 0.3  # what helps is given at once
        assert paced(0.7, 0.5, 1.0, 1.0, 0.0) == 0.7

    @MANY
    @given(
        st.sampled_from([-1, 0, 1]), st.floats(0, 3), st.floats(0, 3), st.floats(0.1, 1), st.floats(0, 0.9),
        st.booleans(), st.booleans(),
    )  # fmt: skip
    def test_a_threshold_holds_only_for_the_side_that_is_short(self, on, up, down, on_h, more, lower, upper):
        side = switched(on, up, down, on_h, on_h + more, lower, upper)
        if side < 0:
            assert lower
            assert up < on_h + more
        if side > 0:
            assert upper
            assert down < on_h + more
        if lower and up < on_h and not (upper and down < on_h + more):
            assert side == -1
        if up >= on_h + more and down >= on_h + more:
            assert side == 0


class TestFreedoms:
    GERMAN = Freedoms(1.2, deadband=True)

    def test_used_where_they_help_and_the_fleet_has_room(self):
        product = replace(load("ce_fcr"), freedoms=self.GERMAN, score={})  # no band of a score that bounds them
        run = Run((product, 100.0))
        assert run.tick(T0, 49.95, 900.0, 100.0) == pytest.approx(30.0)
        assert run.tick(T0 + S, 50.05, 900.0, 100.0) == pytest.approx(-25.0)
        assert run.tick(T0 + 2 * S, 49.992, 900.0, 100.0) == pytest.approx(4.0 * 1.2)
        assert run.tick(T0 + 3 * S, 50.008, 900.0, 100.0) == 0.0
        assert run.tick(T0 + 4 * S, 50.05, 100.0, 900.0) == pytest.approx(-30.0)
        assert run.tick(T0 + 5 * S, 50.05, 500.0, 500.0) == pytest.approx(-25.0)  # in the middle nothing is steered
        # A fleet without room beyond what is due gives what is due, and is short of nothing.
        assert run.tick(T0 + 6 * S, 49.8, 900.0, 100.0, room_kw=105.0) == pytest.approx(105.0)
        assert run.tick(T0 + 7 * S, 49.8, 900.0, 100.0, room_kw=90.0) == pytest.approx(100.0)
        assert run.tick(T0 + 8 * S, math.nan, 900.0, 100.0, weight=0.0) == 0.0

    def test_one_that_states_none_has_none(self):
        run = Run((load("ce_fcr"), 100.0))
        assert run.tick(T0, 49.95, 900.0, 100.0) == pytest.approx(25.0)
        assert run.tick(T0 + S, 49.992, 900.0, 100.0) == 0.0


class TestSmall:
    def test_reserve_mode_begins_in_an_alert_state_and_ends_when_all_is_well(self):
        assert not reserved(False, True, 1.0, 1.0, 0.1)
        assert not reserved(False, False, 0.05, 1.0, 0.1)
        assert reserved(False, True, 0.05, 1.0, 0.1)
        assert reserved(False, True, 1.0, 0.05, 0.1)
        assert reserved(True, True, 1.0, 1.0, 0.1)
        assert reserved(True, False, 0.05, 1.0, 0.1)
        assert not reserved(True, False, 0.1, 0.1, 0.1)
        assert weighted(0.5, True, 30.0, 300.0) == pytest.approx(0.6)
        assert weighted(0.05, False, 30.0, 300.0) == 0.0
        assert weighted(0.95, True, 30.0, 300.0) == 1.0

    def test_without_a_frequency_nothing_is_added(self):
        assert answered(0.0, math.nan, -0.1, 0.1, 0.0, -10.0, 0.02, -0.3, -1.3, 1.3) == 0.0

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"alert": [[0.05, 1.0]] * 5}, "alert"),
            ({"alert": [[0.0, 1.0]]}, "alert"),
            ({"alert": [[0.05, -1.0]]}, "alert"),
            ({"reserve_min": 5.0}, "reserve_min"),
            ({"reserve_min": 16.0, "alert": [[0.2, 0.0]]}, "reserve_min"),
            ({"reserve_min": 5.0, "alert": [[0.2, 0.0]], "aem": {"on_min": 5.0, "off_min": 10.0}}, "two areas"),
            ({"nem": {"on_min": 5.0, "off_min": 4.0}}, "off_min"),
            ({"nem": {"on_min": 5.0, "off_min": 5.0, "window_s": 901.0}}, "window_s"),
            ({"nem": {"on_min": 5.0, "off_min": 5.0, "window_s": 0.5}}, "window_s"),
        ],
    )
    def test_rules_that_cannot_be_kept_are_refused_by_name(self, changes, words):
        table = to_table(load("nordic_fcr_n"))
        with pytest.raises(ProductError, match=words):
            parse(table | {"reservoir": changes}, "test")

    def test_management_wants_a_straight_curve(self):
        table = to_table(load("gb_dc_low"))
        with pytest.raises(ProductError, match="curve of two points"):
            parse(table | {"reservoir": {"nem": {"on_min": 5.0, "off_min": 5.0}}}, "test")
        assert Reservoir(nem=Management(5.0, 5.0)).nem is not None
