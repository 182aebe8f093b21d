"""Sparse commands: the sum exact, bounds kept, silence respected, nobody forgotten and nobody told twice."""

# ruff: noqa: S311 - seeded cases, not secrets
from __future__ import annotations

import math
import random

import numpy as np
import pytest

from droop.commands import Sending, beyond, choose
from droop.fleet import SEGMENTS, allocate_totals
from droop.grading import bucket, urgency
from droop.limits import Ages, Derating
from droop.outbox import BUCKETS, outbox
from droop.reasons import Reason
from droop.refresh import refresh, scratch
from droop.split import solve
from droop.weights import Means
from tests import naive

S = naive.S_NS
NOW = 1_700_000_000 * S
SENDING = Sending()
ROOM, NO_PRICE = scratch(), np.empty(0, np.float32)


class World:
    """A fleet, its bounds and its outbox; one `tick` splits and chooses."""

    def __init__(self, as_fleet, cars, sending=SENDING):
        self.fleet, self.totals, self.out = as_fleet(cars), allocate_totals(), outbox(len(cars))
        self.memory, self.sending, self.now = np.zeros(3), sending, NOW

    def renew(self):
        for segment in range(SEGMENTS):
            refresh(self.fleet, self.totals, segment, segment + 1, self.now, Ages(), Derating(), Means(0.5, 0.0), ROOM)
            n = self.fleet.state.size
            rows = slice(segment * n // SEGMENTS, (segment + 1) * n // SEGMENTS)
            for seen, own in (
                ("lo_kw", "free_lo_kw"),
                ("hi_kw", "free_hi_kw"),
                ("reason_up", "own_up"),
                ("reason_down", "own_down"),
            ):
                getattr(self.fleet, seen)[rows] = getattr(self.fleet, own)[rows]
            self.totals.lo_kw[segment] = self.totals.free_lo_kw[segment]
            self.totals.hi_kw[segment] = self.totals.free_hi_kw[segment]

    def report(self):
        """Every plugged vehicle reports."""
        self.fleet.report_ns[:] = self.now

    def limits(self):
        return self.totals.lo_kw.sum(), self.totals.hi_kw.sum()

    def tick(self, request):
        """Split and choose; checks what must hold whatever was asked; returns (sum, slots sent)."""
        f, (lo, hi) = self.fleet, self.limits()
        wide = max(hi, -lo, 1.0)
        _, unserved, _, _ = solve(
            request,
            5e-7 * wide,
            f.plan_kw,
            f.slope_up,
            f.slope_dn,
            f.lo_kw,
            f.hi_kw,
            f.power_kw,
            lo,
            hi,
            NO_PRICE,
            self.memory,
        )
        before, valid, self.heading = f.command_kw.copy(), f.valid_until_ns.copy(), self.out.heading.copy()
        self.sent_before = f.sent_ns.copy()
        total, open_kw, broken = choose(f, request - unserved, self.now, self.sending, self.out)
        assert open_kw == pytest.approx(request - unserved - total, abs=1e-9)
        assert broken == 0
        sent = self.out.slot[: self.out.sent[0]].astype(np.int64)
        self.check(request - unserved, total, sent, before, valid, wide)
        return total, sent

    def check(self, request, total, sent, before, valid, wide):
        f, out = self.fleet, self.out
        hears = (f.state == naive.PLUGGED) & (f.reason_up != Reason.STALE) & (f.reason_up != Reason.REFUSED)
        standing = math.fsum(np.where(hears, f.command_kw, f.power_kw).astype(np.float64).tolist())
        assert total == pytest.approx(standing, abs=1e-9 * wide)
        if self.sending.most_frac >= 1.0 and self.sending.rest_ns == 0:
            assert abs(standing - request) <= max(self.sending.closed_kw, 1e-6 * wide)
        # Bounds, to the last bit.
        assert (f.command_kw[hears] >= f.lo_kw[hears]).all()
        assert (f.command_kw[hears] <= f.hi_kw[hears]).all()
        # Who must hear, hears; who cannot, does not; nobody twice.
        forced = hears & ((valid - self.now < self.sending.renew_ns) | (before < f.lo_kw) | (before > f.hi_kw))
        assert set(np.flatnonzero(forced)) <= set(sent.tolist())
        assert hears[sent].all()
        assert np.unique(sent).size == sent.size
        np.testing.assert_array_equal(out.command_kw[: sent.size], f.command_kw[sent])
        np.testing.assert_array_equal(out.setpoint_kw[: sent.size], f.told_kw[sent])
        np.testing.assert_array_equal(out.place[sent], np.arange(sent.size))
        assert (np.delete(out.place, sent) == -1).all()
        # What was sent stands for its life; what was not is untouched.
        quiet = np.delete(np.arange(f.state.size), sent)
        np.testing.assert_array_equal(f.command_kw[quiet], before[quiet])
        np.testing.assert_array_equal(f.valid_until_ns[quiet], valid[quiet])
        assert (f.valid_until_ns[sent] == self.now + self.sending.validity_ns).all()
        assert (f.valid_until_ns[hears] - self.now >= self.sending.renew_ns).all()
        self.check_choice(before, hears, forced, sent)

    def check_choice(self, before, hears, forced, sent):
        """Chosen vehicles go one way, past their optimum by no more than the overshoot, largest mismatch first."""
        f = self.fleet
        chosen = np.array([i for i in sent if not forced[i]], np.int64)
        moves = f.command_kw[chosen].astype(np.float64) - before[chosen]
        assert (moves != 0).all()  # a message that says nothing is not sent
        assert (moves > 0).all() or (moves < 0).all()
        extra = self.sending.overshoot_frac * (f.hi_kw[chosen] - f.lo_kw[chosen]) + 1e-5
        past = (f.command_kw[chosen] - f.power_kw[chosen]) * np.sign(moves)
        assert (past <= extra).all()
        if chosen.size:
            rest = hears.copy()
            rest[sent] = False
            mismatch = f.power_kw - before
            rest &= mismatch * np.sign(moves[0]) > 0
            rest &= self.now - self.sent_before >= self.sending.rest_ns

            def grade(i):
                return bucket(urgency(mismatch[i], self.heading[i], self.sending.reversal_kw), self.sending.largest_kw)

            passed_over = [grade(i) for i in np.flatnonzero(rest)]
            assert max(passed_over, default=0) <= min(grade(i) for i in chosen)


def alike(n, **changes):
    return [naive.Car(report_ns=NOW, energy_ns=NOW, **changes) for _ in range(n)]


@pytest.mark.parametrize("seed", range(12))
def test_properties_on_any_fleet(as_fleet, seed):
    """300 ticks of a restless request on vehicles in every state; World.check holds at each."""
    rng = random.Random(seed)
    world = World(as_fleet, [naive.some_car(rng, NOW) for _ in range(50)])
    silent = np.array([rng.random() < 0.3 for _ in range(50)])
    level = 0.5
    for k in range(300):
        if k % 10 == 0:
            world.fleet.report_ns[~silent] = world.now
            world.renew()
        level = min(1.2, max(-0.2, level + rng.gauss(0, 0.05) + rng.choice([0] * 20 + [0.5, -0.5])))
        lo, hi = world.limits()
        world.tick(lo + level * (hi - lo))
        world.now += S // 10


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_smallest_fleets(as_fleet, rows):
    world = World(as_fleet, alike(rows))
    for request in (0.0, 5.0, -5.0, 100.0):
        world.report()
        world.renew()
        total, sent = world.tick(request)
        assert sent.size <= rows
        assert rows or total == 0.0
        world.now += S


def test_nothing_to_say_says_nothing(as_fleet):
    world = World(as_fleet, alike(64))
    world.renew()
    assert world.tick(100.0)[1].size == 64  # every command had expired
    for _ in range(29):
        world.now += S // 10
        assert world.tick(100.0)[1].size == 0


def test_few_messages_on_a_quiet_trace_and_none_of_them_late(as_fleet):
    """Noise of 1 % of the fleet's power at every tick: renewals apart, some per cent of the vehicles hear.

    Sending every change would be 100 %; without the overshoot it is 20 %.
    """
    rng = random.Random(2)
    world = World(as_fleet, alike(300))
    world.renew()
    chosen = []
    for _ in range(300):
        expiring = int((world.fleet.valid_until_ns - world.now < SENDING.renew_ns).sum())
        chosen.append(world.tick(800.0 + rng.gauss(0, 33.0))[1].size - expiring)
        world.now += S // 10
        world.report()
    assert np.mean(chosen[1:]) <= 0.08 * 300


def test_renewal_keeps_the_value(as_fleet):
    """Renewing must not move power: each keeps its command, though the split would have it elsewhere."""
    rng = random.Random(3)
    world = World(as_fleet, alike(40))
    world.renew()
    world.tick(100.0)
    for k in range(29):
        world.now += S // 10
        world.tick(100.0 + (rng.gauss(0, 20) if k < 28 else 0.0))
    kept = world.fleet.command_kw.copy()
    world.fleet.valid_until_ns[:] = world.now + SENDING.renew_ns - 1
    _, sent = world.tick(float(kept.astype(np.float64).sum()))
    assert sent.size == 40
    np.testing.assert_array_equal(world.fleet.command_kw, kept)


def test_an_expired_command_is_not_revived(as_fleet):
    """The charger is at its safe profile by now: it starts from the split, not from where it was."""
    world = World(as_fleet, alike(4, command_kw=9.0, valid_until_ns=NOW))
    world.renew()
    world.tick(8.0)
    np.testing.assert_allclose(world.fleet.command_kw, 2.0, atol=1e-5)


def test_command_outside_its_bounds_is_corrected_at_once(as_fleet):
    world = World(as_fleet, alike(10))
    world.renew()
    world.tick(110.0)
    world.fleet.energy_kwh[3] = 18.0  # at its floor
    world.now += S // 10
    world.renew()
    _, sent = world.tick(50.0)
    assert 3 in sent
    assert world.fleet.command_kw[3] <= 0.0


@pytest.mark.parametrize(
    "change", [{"state": naive.FAULT}, {"state": naive.UNPLUGGED}, {"report_ns": NOW - 9 * S}], ids=str
)
def test_who_cannot_hear_is_covered_by_the_others(as_fleet, change):
    cars = alike(10)
    cars[4] = naive.Car(
        **{"report_ns": NOW, "energy_ns": NOW, "command_kw": 6.0, "valid_until_ns": NOW + 60 * S, **change}
    )
    world = World(as_fleet, cars)
    world.renew()
    _, sent = world.tick(60.0)
    assert 4 not in sent
    stands = 6.0 if "report_ns" in change else 0.0
    others = np.delete(world.fleet.command_kw, 4).astype(np.float64).sum()
    assert others == pytest.approx(60.0 - stands, abs=1e-4)
    assert world.fleet.command_kw[4] == 6.0


def test_selection_begins_where_the_last_ended(as_fleet):
    """Among vehicles that are all alike, each has its turn before one has its second."""
    world = World(as_fleet, alike(12, valid_until_ns=NOW + 60 * S))
    world.renew()
    world.fleet.power_kw[:] = 1.0
    turns = []
    for _ in range(24):
        world.fleet.command_kw[:] = 0.0
        choose(world.fleet, 1.0, NOW, world.sending, world.out)
        turns += world.out.slot[: world.out.sent[0]].tolist()
    assert turns == [*range(12), *range(12)]


def test_everybody_hears_on_a_wandering_request(as_fleet):
    rng = np.random.default_rng(0)
    world = World(as_fleet, alike(60), Sending(600 * S, S))
    world.renew()
    heard, wander = np.zeros(60), 0.0
    for k in range(1500):
        wander += -wander * 0.1 / 60 + 130 * math.sqrt(0.2 / 60) * rng.standard_normal()
        world.report()
        _, sent = world.tick(160.0 + wander)
        heard[sent] += k > 0
        world.now += S // 10
    assert heard.min() > 0
    assert heard.max() <= 4 * np.median(heard)


def test_no_message_for_what_float32_cannot_say(as_fleet):
    """350 kW chargers: a set-point moves in steps of 3e-5 kW, more than the sum is closed to."""
    world = World(as_fleet, alike(200, charge_max_kw=350.0, discharge_max_kw=350.0, usable_kwh=5000.0,
                                  energy_kwh=2500.0, ceiling_kwh=4500.0, soc_floor_kwh=500.0))  # fmt: skip
    world.renew()
    world.tick(61_234.567)
    rng = random.Random(5)
    for _ in range(28):
        world.now += S // 10
        _, sent = world.tick(61_234.567 + rng.uniform(-30, 30))
        assert sent.size <= 20


def test_energy_is_accounted_under_the_command_that_ends(as_fleet):
    world = World(as_fleet, alike(6))
    eta = float(np.float32(0.95))
    twins = alike(6, eta_charge=eta, eta_discharge=eta)
    world.renew()
    rng = random.Random(6)
    for _ in range(80):
        _, sent = world.tick(rng.uniform(-60, 60))
        for slot in sent:
            car = twins[slot]
            car.energy_kwh, car.energy_ns = car.energy_at(world.now), world.now
            car.command_kw, car.valid_until_ns = float(world.fleet.command_kw[slot]), world.now + SENDING.validity_ns
        np.testing.assert_allclose(world.fleet.energy_kwh, [c.energy_kwh for c in twins], rtol=1e-13)
        np.testing.assert_array_equal(world.fleet.energy_ns, [c.energy_ns for c in twins])
        world.now += rng.choice([S // 10, S, 7 * S])
        world.report()
        world.renew()


def test_the_refused_are_left_alone(as_fleet):
    world = World(as_fleet, alike(6, command_kw=3.0, valid_until_ns=NOW))
    world.renew()
    f = world.fleet
    f.reason_up[2] = Reason.REFUSED
    f.lo_kw[2] = f.hi_kw[2] = f.plan_kw[2] = -1.5
    world.totals.lo_kw[:], world.totals.hi_kw[:] = 0, 0
    world.totals.lo_kw[0], world.totals.hi_kw[0] = f.lo_kw.sum(), f.hi_kw.sum()
    _, sent = world.tick(20.0)
    assert 2 not in sent
    assert f.command_kw[2] == 3.0
    assert np.delete(f.command_kw, 2).sum() == pytest.approx(21.5, abs=1e-4)


def test_most_bounds_the_voluntary_and_reports_the_rest(as_fleet):
    world = World(as_fleet, alike(100), Sending(600 * S, S, most_frac=0.05))
    world.renew()
    world.tick(0.0)
    world.fleet.lo_kw[7] = 0.5  # must be commanded, on top of the five
    world.now += S // 10
    f = world.fleet
    f.power_kw[:] = 8.0
    total, open_kw, broken = choose(f, 800.0, world.now, world.sending, world.out)
    assert world.out.sent[0] == 6
    assert world.out.slot[0] == 7
    assert broken == 0
    assert open_kw == pytest.approx(800.0 - total)
    assert open_kw > 700.0


def test_a_vehicle_rests_between_voluntary_commands(as_fleet):
    rng = random.Random(4)
    world = World(as_fleet, alike(40), Sending(600 * S, S, rest_ns=S))
    world.renew()
    world.tick(100.0)
    last = np.full(40, world.now)
    for _ in range(60):
        world.now += S // 10
        world.report()
        _, sent = world.tick(100.0 + rng.gauss(0, 40))
        assert (world.now - last[sent] >= S).all()
        last[sent] = world.now


def test_turning_back_costs_and_who_need_not_goes_first(as_fleet):
    world = World(as_fleet, alike(3, valid_until_ns=NOW + 60 * S))
    world.renew()
    f, out = world.fleet, world.out
    f.power_kw[:] = [2.0, 1.4, 0.5]
    out.heading[:] = [-1, 1, 0]
    assert choose(f, 1.0, NOW, world.sending, out)[0] == pytest.approx(1.0)
    assert out.slot[: out.sent[0]].tolist() == [1]
    # Where only they can, they do: the sum comes first.
    f.command_kw[:], out.heading[:] = 0.0, -1
    assert choose(f, 2.5, NOW, world.sending, out)[0] == pytest.approx(2.5)


def swings(as_fleet, reversal_kw, ticks=1200, n=400, white=False):
    """A noisy trace of 10 Hz: (reversals, messages) of each vehicle, renewals apart."""
    rng = np.random.default_rng(7)
    world = World(as_fleet, alike(n), Sending(10**6 * S, S, reversal_kw=reversal_kw))
    world.check = lambda *_: None
    world.renew()
    heading, turns, messages, dev = np.zeros(n), np.zeros(n), np.zeros(n), 0.0
    for k in range(ticks):
        dev += -dev * 0.1 / 60 + 20 * math.sqrt(0.2 / 60) * rng.standard_normal()
        mhz = rng.standard_normal() * 20 if white else dev + 2 * rng.standard_normal()
        mhz = math.copysign(max(abs(mhz) - 10, 0), mhz)
        before = world.fleet.command_kw.copy()
        _, sent = world.tick(-mhz / 200 * 6.6 * n)
        way = np.sign(world.fleet.command_kw - before)
        turns += way * heading < 0
        heading[way != 0] = way[way != 0]
        messages[sent] += k > 0
        world.now += S // 10
        world.report()
    return turns, messages


def test_price_on_turning_back_lets_all_take_turns(as_fleet):
    """As many reversals in all, for the request reverses; without the price a few vehicles make them all."""
    free, priced = swings(as_fleet, 0.0, n=200), swings(as_fleet, Sending().reversal_kw, n=200)
    assert priced[1].max() <= 2 * priced[1].min()
    assert priced[0].max() <= 0.5 * free[0].max()
    assert priced[0].mean() <= 1.05 * free[0].mean()
    assert priced[1].mean() <= 0.04 * 1200


def test_under_white_noise_the_same_vehicles_do_not_swing_all_the_time(as_fleet):
    _, messages = swings(as_fleet, Sending().reversal_kw, n=200, white=True)
    assert messages.max() <= 2 * messages.min()


def test_past_range_covers_what_it_was_told_lately_and_forgets_the_rest(as_fleet):
    world = World(as_fleet, alike(1), Sending(6 * S, 3 * S))
    f, out = world.fleet, world.out
    world.renew()
    told = []
    rng = random.Random(9)
    for k in range(400):
        doing = float(f.command_kw[0]) if world.now < f.valid_until_ns[0] else 0.0
        world.report()
        world.tick(rng.uniform(-9, 9) if k % 4 == 0 else doing)
        told.append((world.now, doing, float(f.command_kw[0])))
        lately = [x for t, a, b in told if world.now - t < 3 * S for x in (a, b)]
        longest = [x for t, a, b in told if world.now - t <= 9 * S for x in (a, b)]
        assert f.past_lo_kw[0] <= min(lately)
        assert f.past_hi_kw[0] >= max(lately)
        assert f.past_lo_kw[0] >= min(longest) - 1e-6
        assert f.past_hi_kw[0] <= max(longest) + 1e-6
        world.now += S // 10 if k % 40 < 30 else S
    assert out.recent_ns[0] > 0


def test_charger_is_told_its_command_over_its_gain(as_fleet):
    world = World(as_fleet, alike(3))
    f = world.fleet
    f.gain_up[:], f.gain_dn[:] = [1.0, 0.8, 0.985], 0.6
    world.renew()
    f.power_kw[:] = 10.0
    choose(f, 30.0, NOW, world.sending, world.out)
    np.testing.assert_array_equal(world.out.setpoint_kw, f.told_kw)
    np.testing.assert_array_equal(f.told_kw, np.float32([10.0, 11.0, 10.0]))  # 12.5 is more than its rating
    np.testing.assert_array_equal(f.command_kw, np.float32([10.0, 10.0, 10.0]))


def test_buckets_are_ordered_and_cover():
    found = [bucket(x, 100.0) for x in np.linspace(0, 120, 2000)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, BUCKETS - 1)
    assert bucket(-50.0, 100.0) == bucket(50.0, 100.0)


def test_lives_of_commands_are_read_where_one_can_be_due_or_others_may_have_cut_it_short(as_fleet):
    """3000 rows are three pieces; a segment named as renewed is read, and so is a piece whose time has come."""
    world = World(as_fleet, alike(3000))
    world.renew()
    f, out = world.fleet, world.out
    f.power_kw[:] = 1.0

    def heard(now_ns, renewed):
        choose(f, 3000.0, now_ns, world.sending, out, renewed)
        return out.slot[: out.sent[0]].tolist()

    assert heard(NOW, 0) == list(range(3000))
    assert heard(NOW + S, 0) == []
    f.valid_until_ns[2999] = 0
    assert heard(NOW + S, 0b00011111) == []
    assert heard(NOW + S, 0b10000000) == [2999]
    # The others end before that one, and no earlier.
    assert heard(NOW + 3 * S, 0) == []
    assert heard(NOW + 3 * S + 1, 0) == list(range(2999))
    assert heard(NOW + 4 * S + 1, 0) == [2999]


def test_the_last_resort_goes_round_and_keeps_to_rest_and_most(as_fleet):
    """All would turn back for less than they are forgiven: in turn, from where the last turn ended."""
    world = World(as_fleet, alike(20, valid_until_ns=NOW + 60 * S))
    world.renew()
    f, out = world.fleet, world.out
    f.power_kw[:], out.heading[:] = 1.0, -1

    def turn(sending, now_ns=NOW, request=3.0):
        f.command_kw[:] = 0.0
        out.heading[:] = -1
        total, _, _ = choose(f, request, now_ns, sending, out)
        assert total == pytest.approx(f.command_kw.sum(), abs=1e-5)
        return out.slot[: out.sent[0]].tolist()

    free = Sending(overshoot_frac=0.0)
    turns = [row for _ in range(7) for row in turn(free)]
    assert turns == [*range(20), 0]
    assert turn(Sending(overshoot_frac=0.0, most_frac=0.1), request=5.0) == [1, 2]
    resting = Sending(overshoot_frac=0.0, rest_ns=S)
    f.sent_ns[:] = NOW
    f.sent_ns[[7, 12]] = NOW - S
    assert turn(resting) == [7, 12]


def test_a_guess_of_the_wrong_direction_is_put_right(as_fleet):
    """The sum has moved since the last tick: commands go the way that closes it, those that must be among them."""
    world = World(as_fleet, alike(30, valid_until_ns=NOW + 60 * S))
    world.renew()
    f, out = world.fleet, world.out
    f.power_kw[:] = 2.0
    f.command_kw[:] = 1.0
    f.lo_kw[4] = f.command_kw[4] = 3.0
    f.command_kw[5], f.lo_kw[5] = 0.0, 1.0
    out.total_kw[0] = 1000.0
    total, open_kw, broken = choose(f, 60.0, NOW, world.sending, out)
    assert (total, broken) == (pytest.approx(60.0, abs=1e-4), 0)
    assert abs(open_kw) <= world.sending.closed_kw
    assert f.command_kw.sum() == pytest.approx(60.0, abs=1e-4)
    assert f.command_kw[5] >= 1.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_overshoot_is_a_share_of_the_range_and_ends_at_the_bound(sign):
    """Of the whole range, not of one side of it: an owner's one-way charger overshoots like any other."""
    near, far = (-1.0, 9.0) if sign > 0 else (-9.0, 1.0)
    assert beyond(0.5 * sign, 2.0 * sign, near, far, 0.05) == pytest.approx(sign * (1.5 + 0.5))
    assert beyond(0.5 * sign, 8.75 * sign, near, far, 0.05) == pytest.approx(sign * 8.5)
    # The other way it ends where the range does.
    assert beyond(0.5 * sign, -0.75 * sign, near, far, 0.05) == pytest.approx(sign * -1.5)
    narrow = [np.float32(x) for x in (14.1, 14.187498, -22.0, 14.187498)]
    assert np.float32(narrow[0] + np.float64(beyond(*narrow, 0.05))) <= narrow[3]


def test_renewals_close_the_sum_whatever_the_most(as_fleet):
    """Messages that are sent anyway cost nothing: of the few that may be added none is needed."""
    world = World(as_fleet, alike(12, valid_until_ns=NOW + S))
    world.renew()
    f, out = world.fleet, world.out
    f.power_kw[:] = np.linspace(0.05, 9.0, 12)
    request = float(f.power_kw.sum(dtype=float))
    total, open_kw, broken = choose(f, request, NOW, Sending(overshoot_frac=0.0, most_frac=0.09), out)
    assert (out.sent[0], broken) == (12, 0)
    assert total == pytest.approx(request, abs=1e-4)
    assert abs(open_kw) <= 1e-4


def test_of_the_few_that_may_be_told_the_furthest_are(as_fleet):
    """Two messages for a sum that needs twenty: to the two furthest from their optimum, wherever they stand."""
    world = World(as_fleet, alike(20, valid_until_ns=NOW + 60 * S))
    world.renew()
    f, out = world.fleet, world.out
    f.power_kw[:] = 1.0 + 0.25 * (np.arange(20) * 7 % 20)
    _, open_kw, _ = choose(f, 200.0, NOW, Sending(overshoot_frac=0.0, most_frac=0.1), out)
    assert set(out.slot[: out.sent[0]].tolist()) == set(np.argsort(f.power_kw)[-2:].tolist())
    assert open_kw == pytest.approx(200.0 - np.sort(f.power_kw)[-2:].sum())


def test_what_it_was_told_is_what_it_does_until_that_ends(as_fleet):
    """A command that has ended left the charger at its safe power: the next one is a step from there."""
    world = World(as_fleet, alike(2, safe_kw=-1.5, command_kw=6.0, valid_until_ns=NOW))
    world.renew()
    f, out = world.fleet, world.out
    f.command_kw[:], f.valid_until_ns[:], f.power_kw[:] = 6.0, [NOW, NOW + 60 * S], 4.0
    f.lo_kw[:], f.hi_kw[:] = 4.0, 4.0
    choose(f, 8.0, NOW, world.sending, out)
    assert f.from_kw.tolist() == [-1.5, 6.0]
    assert f.past_lo_kw.tolist() == [-1.5, 4.0]
    assert f.past_hi_kw.tolist() == [4.0, 6.0]
    assert out.heading.tolist() == [1, -1]
    # A second step before the first has settled: nobody knows where it begins.
    f.lo_kw[:], f.hi_kw[:], f.power_kw[:] = 5.0, 5.0, 5.0
    choose(f, 10.0, NOW + S, world.sending, out)
    assert f.from_kw.tolist() == [5.0, 5.0]
    assert (f.past_lo_kw.tolist(), f.past_hi_kw.tolist()) == ([-1.5, 4.0], [5.0, 6.0])
    # Settled: from then on only the last one counts.
    f.lo_kw[:], f.hi_kw[:], f.power_kw[:] = 3.0, 3.0, 3.0
    choose(f, 6.0, NOW + 5 * S, world.sending, out)
    assert f.from_kw.tolist() == [5.0, 5.0]
    assert (f.past_lo_kw.tolist(), f.past_hi_kw.tolist()) == ([3.0, 3.0], [5.0, 5.0])
    assert out.heading.tolist() == [-1, -1]


def test_throughput_counts_both_ways_and_time_does_not_run_back(as_fleet):
    world = World(as_fleet, alike(3, command_kw=0.0, valid_until_ns=NOW + 3600 * S))
    world.renew()
    f, out = world.fleet, world.out
    f.command_kw[:], f.energy_ns[1:] = [10.0, -10.0, 9.5], NOW - 3600 * S
    f.energy_ns[0] = NOW + S  # a report that is ahead of this tick
    f.lo_kw[:], f.hi_kw[:], f.power_kw[:] = 1.0, 1.0, 1.0
    choose(f, 3.0, NOW, world.sending, out)
    assert f.energy_ns.tolist() == [NOW + S, NOW, NOW]
    assert f.moved_kwh.tolist() == pytest.approx([0.0, 9.5, 10.0], rel=1e-6)
    assert f.energy_kwh.tolist() == pytest.approx([36.0, 36.0 + 9.5, 36.0 - 10.0], rel=1e-6)


def test_commands_that_break_their_bounds_are_counted(as_fleet):
    """The count is a check of what went out: bounds that nothing can satisfy are told, not hidden."""
    world = World(as_fleet, alike(3, valid_until_ns=NOW + S))
    world.renew()
    f = world.fleet
    f.lo_kw[1], f.hi_kw[1], f.command_kw[1] = 2.0, 1.0, 0.0
    assert choose(f, 0.0, NOW, world.sending, world.out)[2] == 1


def test_an_expired_command_is_where_the_split_is_also_when_the_guess_was_wrong(as_fleet):
    """It goes to its optimum, which is told anyhow; what is still open is the others' to close."""
    world = World(as_fleet, alike(4, valid_until_ns=NOW + 60 * S))
    world.renew()
    f, out = world.fleet, world.out
    f.power_kw[:], f.command_kw[:], f.valid_until_ns[0] = [9.0, 1.5, 1.5, 1.5], [2.0, 1.0, 1.0, 1.0], NOW
    out.total_kw[0] = 1000.0
    choose(f, 13.5, NOW, Sending(overshoot_frac=0.0), out)
    np.testing.assert_allclose(f.command_kw, f.power_kw, atol=1e-5)
