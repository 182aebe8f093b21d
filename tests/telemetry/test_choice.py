"""The choice among sources: its rules one by one, in virtual time, and what must hold for any of them."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from telemetry.agreement import middle
from telemetry.choice import STEPPED_NS, Choice, ChoiceError, ChoiceSettings
from telemetry.median import MedianGate
from telemetry.samples import FREQUENCY, Block, Quality
from telemetry.standing import Row, Standing

S = 1_000_000_000
MS = 1_000_000
BEGIN = 1_000 * S
Q = Quality
PERIOD_S = 0.02
SLEW = ChoiceSettings().slew_hz_s


def grid(t_s):
    """A frequency that moves, at 60 mHz/s at most."""
    return 50.0 + 0.03 * np.sin(2.0 * t_s)


def source(number, until_s=10.0, *, from_s=0.0, phase_s=0.0, period_s=PERIOD_S, off_hz=0.0, volt=1.0, hz=grid):
    """Rows of one source. off_hz : its error, a number or a function of time"""
    t_s = np.arange(from_s + phase_s, until_s, period_s)
    rows = np.zeros(t_s.size, FREQUENCY)
    rows["t_ns"] = BEGIN + np.round(t_s * S).astype(np.int64)
    rows["rx_ns"], rows["source"], rows["volt_frac"] = rows["t_ns"] + MS, number, volt
    rows["hz"] = hz(t_s) + (off_hz(t_s) if callable(off_hz) else off_hz)
    return rows


def together(*sources) -> Block:
    rows = np.concatenate(sources)
    return rows[np.argsort(rows["rx_ns"], kind="stable")]


def seconds(rows):
    return (rows["t_ns"] - BEGIN) / S


def mark(rows, from_s, until_s, bits):
    rows["quality"][(seconds(rows) >= from_s) & (seconds(rows) < until_s)] |= int(bits)
    return rows


def choose(rows, numbers=(1, 2, 3), **changes):
    choice = Choice(numbers, ChoiceSettings(**changes))
    return choice, choice.take(rows)


def gaps_s(decided):
    return np.diff(decided["rx_ns"]) / S


# ---- priority


def test_the_first_in_the_order_is_used_as_long_as_it_serves():
    rows = together(source(1), source(2, phase_s=0.007, off_hz=0.004))
    choice, got = choose(rows, (2, 1))
    assert set(got.decided["source"][1:].tolist()) == {2}
    mine = rows[rows["source"] == 2]
    assert got.decided["hz"][1:].tolist() == pytest.approx(mine["hz"].tolist()[: got.decided.size - 1], abs=0.005)
    assert got.decided["hz"][-1] == mine["hz"][-1]  # what was left of the start has been given back
    assert not got.decided["quality"].any()
    assert got.judged.tobytes() == rows.tobytes()
    assert choice.switches == 1  # source 1 spoke first


@pytest.mark.parametrize("phase_s", [0.001, 0.0049, 0.0051, 0.01, 0.0199])
@pytest.mark.parametrize("dies_s", [5.0, 5.013])
def test_no_decision_is_later_than_a_period_when_one_dies_and_the_other_lives(phase_s, dies_s):
    rows = together(source(1, dies_s), source(2, phase_s=phase_s))
    choice, got = choose(rows, (1, 2))
    assert gaps_s(got.decided).max() < 2 * PERIOD_S
    assert (np.diff(got.decided["rx_ns"][got.decided["rx_ns"] > BEGIN + 6 * S]) == 20 * MS).all()
    assert got.decided["source"][-1] == 2
    assert choice.lost(BEGIN + 10 * S) == [1]


def test_a_late_row_is_stood_in_for_and_the_source_goes_on_after_it():
    rows = source(1)
    late = np.flatnonzero((seconds(rows) >= 5.0) & (seconds(rows) < 5.1))
    rows["rx_ns"][late] = BEGIN + round(5.1 * S)  # a stall of the network, then all at once
    choice, got = choose(together(rows, source(2, phase_s=0.01)), (1, 2))
    assert gaps_s(got.decided).max() < 2 * PERIOD_S
    assert set(got.decided["source"][seconds(got.decided) > 5.2].tolist()) == {1}
    assert choice.lost(BEGIN + 10 * S) == []


def test_a_source_that_came_back_waits_before_it_is_used():
    rows = together(source(1, 3.0), source(1, 20.0, from_s=6.0), source(2, 20.0, phase_s=0.01))
    choice, got = choose(rows, (1, 2), return_s=5.0)
    used = got.decided["source"]
    at = seconds(got.decided)
    assert set(used[(at > 3.1) & (at < 10.9)].tolist()) == {2}
    assert set(used[at > 11.1].tolist()) == {1}
    assert choice.switches == 2


def test_alone_a_source_that_came_back_is_used_at_once():
    _, got = choose(together(source(1, 3.0), source(1, 8.0, from_s=6.0)), (1, 2))
    assert seconds(got.decided).tolist() == seconds(together(source(1, 3.0), source(1, 8.0, from_s=6.0))).tolist()


@pytest.mark.parametrize("bits", [Q.SPIKE, Q.INVALID, Q.DEAD_BUS, Q.CLOCK_JUMP, Q.TEST])
def test_a_rejected_row_is_never_used_while_another_source_lives(bits):
    rows = together(mark(source(1), 4.0, 6.0, bits), source(2, phase_s=0.01))
    _, got = choose(rows, (1, 2))
    assert not got.decided["quality"].any()
    assert gaps_s(got.decided).max() <= 2 * PERIOD_S
    at = seconds(got.decided)
    assert set(got.decided["source"][(at >= 4.0) & (at < 6.0)].tolist()) == {2}


@pytest.mark.parametrize("policy", ["priority", "voting"])
def test_sources_that_measure_at_the_same_instants_make_one_decision_each_time(policy):
    rng = np.random.default_rng(1)
    rows = [source(n, off_hz=0.002 * n) for n in (1, 2, 3)]
    for column in rows:
        column["rx_ns"] += np.round(rng.exponential(1.5, column.size) * MS).astype(
            np.int64
        )  # who comes first is chance
    _, got = choose(together(*rows), policy=policy)
    assert 490 <= got.decided.size <= 505
    assert gaps_s(got.decided).max() < 2 * PERIOD_S
    # However often they take turns, the output stays between what they say.
    assert np.abs(got.decided["hz"] - grid(seconds(got.decided))).max() < 0.0065
    if policy == "priority":
        assert (got.decided["source"] == 1).sum() > 300


def test_slow_and_fast_sources_go_together():
    rows = together(source(1, 5.0, period_s=0.02), source(2, 10.0, period_s=0.1, phase_s=0.005))
    _, got = choose(rows, (1, 2))
    assert gaps_s(got.decided).max() <= 0.1 + 1.25 * 0.02
    rows = together(source(1, 5.0, period_s=0.1), source(2, 10.0, period_s=0.02, phase_s=0.005))
    _, got = choose(rows, (1, 2))
    assert gaps_s(got.decided).max() <= 0.12 + 0.02
    at = seconds(got.decided)
    assert set(got.decided["source"][(at > 0.3) & (at < 5.0)].tolist()) == {1}


# ---- nobody usable


def test_one_source_passes_as_it_is():
    rows = mark(mark(source(1), 2.0, 3.0, Q.DEAD_BUS), 4.0, 4.1, Q.SPIKE)
    for policy in ("priority", "voting"):
        _, got = choose(rows, (1,), policy=policy)
        assert got.decided.tobytes() == rows.tobytes()


@pytest.mark.parametrize("policy", ["priority", "voting"])
def test_a_dead_bus_of_all_is_told_within_a_period(policy):
    rows = together(*(mark(source(n, phase_s=0.005 * n), 5.0, 7.0, Q.DEAD_BUS) for n in (1, 2, 3)))
    _, got = choose(rows, policy=policy)
    dead = got.decided[(got.decided["quality"] & int(Q.DEAD_BUS)) > 0]
    assert seconds(dead)[0] < 5.0 + 2 * PERIOD_S
    assert gaps_s(dead).max() <= 2 * PERIOD_S
    assert seconds(dead)[-1] > 7.0 - PERIOD_S


@pytest.mark.parametrize("policy", ["priority", "voting"])
def test_a_dead_bus_of_the_one_that_is_left_is_told_at_once(policy):
    rows = together(source(1, 5.0), mark(source(2, phase_s=0.01), 5.06, 7.0, Q.DEAD_BUS))
    _, got = choose(rows, (1, 2), policy=policy)
    dead = got.decided[got.decided["quality"] > 0]
    assert seconds(dead)[0] == pytest.approx(5.07)


def test_a_source_without_voltage_is_not_believed_beside_a_dead_bus():
    ghost = source(2, phase_s=0.01, volt=math.nan, off_hz=lambda t: np.where(t > 5.0, -0.5 * (t - 5.0), 0.0))
    rows = together(mark(source(1), 5.0, 10.0, Q.DEAD_BUS), ghost)
    _, got = choose(rows, (1, 2))
    at = seconds(got.decided)
    assert (got.decided["quality"][at > 5.0] == int(Q.DEAD_BUS)).all()
    assert at[-1] > 9.9
    # One that measures its own voltage tells that a grid is there.
    ghost["volt_frac"] = 1.0
    assert not choose(together(mark(source(1), 5.0, 10.0, Q.DEAD_BUS), ghost), (1, 2))[1].decided["quality"].any()


def test_silence_is_not_filled():
    rows = together(source(1, 3.0), source(2, 3.0, phase_s=0.01), source(1, 10.0, from_s=8.0))
    _, got = choose(rows, (1, 2))
    assert gaps_s(got.decided).max() == pytest.approx(5.0, abs=2 * PERIOD_S)


def test_an_honest_source_that_is_late_is_not_drowned_by_bad_rows():
    rows = source(1)
    rows = rows[(seconds(rows) < 5.0) | (seconds(rows) >= 5.3)]
    bad = mark(source(2, phase_s=0.01), 4.0, 10.0, Q.INVALID)
    _, got = choose(together(rows, bad), (1, 2))
    assert not got.decided["quality"].any()
    assert seconds(got.decided).max() > 9.9
    # Longer than it may be out: then what is left is told.
    rows = rows[(seconds(rows) < 5.0) | (seconds(rows) >= 6.0)]
    _, got = choose(together(rows, bad), (1, 2))
    told = seconds(got.decided)[got.decided["quality"] > 0]
    assert told.min() == pytest.approx(5.0 + 0.5, abs=2 * PERIOD_S)
    assert told.max() < 6.0


def test_rows_of_strangers_are_marked_and_counted():
    choice, got = choose(together(source(1), source(9)), (1, 2))
    assert set(got.decided["source"].tolist()) == {1}
    assert choice.strangers == 500
    assert (got.judged["quality"][got.judged["source"] == 9] == int(Q.INVALID)).all()


# ---- bumpless


@pytest.mark.parametrize("off_hz", [0.015, -0.015])
def test_a_switch_goes_on_from_where_it_was_and_gives_the_difference_back(off_hz):
    rows = together(source(1, 5.0), source(2, phase_s=0.01, off_hz=off_hz))
    _, got = choose(rows, (1, 2))
    steps = np.abs(np.diff(got.decided["hz"]))
    assert steps.max() <= 0.06 * 2 * PERIOD_S + SLEW * 2 * PERIOD_S + 1e-12
    assert got.decided["hz"][-1] == pytest.approx(grid(seconds(got.decided)[-1]) + off_hz)
    back = seconds(got.decided)[np.abs(got.decided["hz"] - grid(seconds(got.decided)) - off_hz) < 1e-9]
    assert back[back > 5].min() == pytest.approx(5.0 + abs(off_hz) / SLEW, abs=0.1)


def test_a_real_fall_during_the_switch_is_followed_at_once():
    def fall(t_s):
        return 50.0 - 0.8 * np.clip(t_s - 4.9, 0.0, 1.0)

    rows = together(source(1, 5.0, hz=fall), source(2, phase_s=0.01, hz=fall, off_hz=0.01))
    _, got = choose(rows, (1, 2))
    assert np.abs(got.decided["hz"] - fall(seconds(got.decided))).max() < 0.0101


def test_without_a_slew_the_difference_is_a_step():
    rows = together(source(1, 5.0), source(2, phase_s=0.01, off_hz=0.015))
    _, got = choose(rows, (1, 2), slew_hz_s=math.inf)
    after = got.decided[got.decided["source"] == 2]
    assert (after["hz"] == rows[rows["source"] == 2]["hz"][-after.size :]).all()
    rows["rx_ns"] -= rows["rx_ns"] % (100 * MS)  # several at one instant: no time to give anything back in
    assert np.isfinite(choose(rows, (1, 2), slew_hz_s=math.inf)[1].decided["hz"]).all()


# ---- a liar


def lie(from_s, hz_s):
    return lambda t_s: hz_s * np.clip(t_s - from_s, 0.0, None)


@pytest.mark.parametrize("policy", ["priority", "voting"])
@pytest.mark.parametrize("liar", [1, 2, 3])
@pytest.mark.parametrize("hz_s", [-0.02, 0.5])
def test_a_liar_is_outvoted_and_nothing_of_it_is_acted_on_after(policy, liar, hz_s):
    rows = together(
        *(source(n, phase_s=0.005 * n, off_hz=lie(3.0, hz_s) if n == liar else 0.001 * n) for n in (1, 2, 3))
    )
    choice, got = choose(rows, policy=policy)
    told = got.judged[(got.judged["quality"] & int(Q.OUTVOTED)) > 0]
    assert set(told["source"].tolist()) == {liar}
    detected_s = seconds(told)[0]
    assert detected_s < 3.0 + 0.021 / abs(hz_s) + 0.5 + 0.2
    at = seconds(got.decided)
    after = got.decided[at > detected_s]
    assert liar not in after["source"]
    assert np.abs(after["hz"] - grid(seconds(after))).max() < 0.0041
    assert gaps_s(got.decided).max() < 2 * PERIOD_S
    assert choice.disagreeing(BEGIN + 10 * S)
    assert choice.sources[liar - 1].contradicted == told.size
    if policy == "voting":  # the median never followed it farther than it follows anyone
        assert np.abs(got.decided["hz"] - grid(at)).max() < 0.0041


def test_a_former_liar_is_believed_after_it_has_agreed_for_a_while():
    rows = together(*(source(n, 20.0, phase_s=0.005 * n) for n in (1, 2, 3)))
    lying = (rows["source"] == 1) & (seconds(rows) > 3.0) & (seconds(rows) < 6.0)
    rows["hz"][lying] += 0.1
    choice, got = choose(rows, return_s=5.0)
    at = seconds(got.decided)
    assert set(got.decided["source"][(at > 3.6) & (at < 10.9)].tolist()) == {2}
    assert set(got.decided["source"][at > 11.2].tolist()) == {1}
    assert not choice.disagreeing(BEGIN + 20 * S)
    assert choice.agreement.outvotings == 1


def test_a_liar_that_is_left_alone_moves_nothing():
    rows = together(source(1, 15.0, off_hz=lie(3.0, -0.1)), source(2, 8.0, phase_s=0.005), source(3, 8.0, phase_s=0.01))
    choice, got = choose(rows)
    last = got.decided[seconds(got.decided) > 8.7]
    assert last.size > 300
    assert (last["quality"] == int(Q.OUTVOTED)).all()  # told, and not usable
    assert choice.lost(BEGIN + 15 * S) == [1, 2, 3]


@pytest.mark.parametrize("policy", ["priority", "voting"])
def test_the_last_honest_one_beside_a_known_liar_goes_on(policy):
    rows = together(
        source(1, 15.0, off_hz=lie(3.0, -0.1)), source(2, 8.0, phase_s=0.005), source(3, 15.0, phase_s=0.01)
    )
    choice, got = choose(rows, policy=policy)
    last = got.decided[seconds(got.decided) > 8.2]
    assert not last["quality"].any()
    assert set(last["source"].tolist()) == {3}
    assert seconds(last)[-1] > 14.9
    assert [s.outvoted for s in choice.sources] == [True, False, False]
    assert not choice.agreement.disagreeing(BEGIN + 15 * S)  # that one is wrong is known, and told as such


@pytest.mark.parametrize("policy", ["priority", "voting"])
def test_of_two_that_disagree_the_first_is_believed_and_the_difference_told(policy):
    rows = together(source(1), source(2, phase_s=0.01, off_hz=lambda t: np.where(t > 5.0, 0.1, 0.0)))
    for order in ((1, 2), (2, 1)):
        choice, got = choose(rows, order, policy=policy)
        at = seconds(got.decided)
        assert set(got.decided["source"][at > 5.1].tolist()) == {order[0]}
        assert not (got.judged["quality"] & int(Q.OUTVOTED)).any()
        assert choice.disagreeing(BEGIN + 10 * S)
        assert gaps_s(got.decided).max() < 2 * PERIOD_S
    # As long as they agree, it is nothing but noise.
    assert not choose(rows[seconds(rows) < 5.0], (1, 2))[0].disagreeing(BEGIN + 5 * S)


def test_three_that_all_differ_have_no_majority():
    rows = together(*(source(n, phase_s=0.005 * n, off_hz=0.1 * n) for n in (1, 2, 3)))
    choice, got = choose(rows, (2, 3, 1))
    assert set(got.decided["source"][1:].tolist()) <= {1, 2, 3}
    assert got.decided["source"][-1] == 2
    assert not (got.judged["quality"] & int(Q.OUTVOTED)).any()
    assert choice.disagreeing(BEGIN + 10 * S)


def test_two_camps_of_two_have_no_majority_either():
    rows = together(*(source(n, phase_s=0.004 * n, off_hz=0.1 * (n > 2)) for n in (1, 2, 3, 4)))
    for policy in ("priority", "voting"):
        choice, got = choose(rows, (4, 1, 2, 3), policy=policy)
        assert got.decided["source"][-1] == 4
        assert got.decided["hz"][-1] == pytest.approx(grid(seconds(got.decided)[-1]) + 0.1)
        assert choice.disagreeing(BEGIN + 10 * S)
        assert choice.agreement.outvotings == 0


def test_a_fast_fall_seen_at_different_moments_outvotes_nobody():
    def fall(t_s):
        return 50.0 - 1.0 * np.clip(t_s - 3.0, 0.0, 2.0)

    def late(t_s):
        return fall(t_s - 0.08)

    rows = together(source(1, hz=late), source(2, phase_s=0.006, hz=fall), source(3, phase_s=0.013, hz=fall))
    for policy in ("priority", "voting"):
        choice, got = choose(rows, policy=policy)
        assert not (got.judged["quality"] & int(Q.OUTVOTED)).any()
        assert not choice.disagreeing(BEGIN + 10 * S)


# ---- voting


def test_the_median_of_three_and_the_mean_of_two():
    rows = together(*(source(n, phase_s=0.004 * n, off_hz=0.005 * n, hz=lambda t: 50.0 + 0 * t) for n in (1, 2, 3)))
    _, got = choose(rows, policy="voting", slew_hz_s=math.inf)
    assert set(got.decided["hz"][5:].tolist()) == {50.01}
    assert set(got.decided["source"][5:].tolist()) == {2}
    _, got = choose(rows[rows["source"] != 2], (1, 3), policy="voting", slew_hz_s=math.inf)
    assert set(got.decided["hz"][5:].tolist()) == {(50.005 + 50.015) / 2}


def test_no_row_carries_two_decisions_under_any_mixture_of_rates():
    rows = together(source(1, period_s=0.02), source(2, period_s=0.1, phase_s=0.003), source(3, period_s=0.05))
    _, got = choose(rows, policy="voting")
    pairs = list(zip(got.decided["source"].tolist(), got.decided["t_ns"].tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert gaps_s(got.decided).max() <= 0.05


@pytest.mark.parametrize("dies_s", [5.0, 5.004, 5.013])
def test_under_voting_no_decision_is_later_than_a_period_either(dies_s):
    rows = together(source(1, phase_s=0.003), source(2, phase_s=0.009), source(3, dies_s, phase_s=0.015))
    _, got = choose(rows, policy="voting")
    assert gaps_s(got.decided).max() < 2 * PERIOD_S


def test_a_gap_is_no_new_period_and_a_burst_none_either():
    one = Standing(1, 0, S // 2, 5 * S)

    def hear(k, rx_k):
        one.hear(Row(BEGIN + k * 20 * MS, BEGIN + rx_k * 20 * MS, 50.0, 1.0, 0, 1))

    for k in range(50):
        hear(k, k)
    assert one.period_ns == 20 * MS
    hear(70, 70)
    assert one.period_ns <= 25 * MS + 1
    for k in range(71, 90):
        hear(k, 90)  # all at once, after a stall
    assert one.period_ns == 20 * MS
    assert one.fresh(BEGIN + 92 * 20 * MS)
    assert not one.fresh(BEGIN + 93 * 20 * MS)
    for k in range(20):
        hear(90 + 50 * k, 90 + 50 * k)  # a slower rate is learnt in time
    assert one.period_ns == S


# ---- what must hold for any sources


ERROR_HZ = st.integers(-9, 9).map(lambda mhz: mhz / 1000)  # within agreement
BITS = st.sampled_from([0, 0, int(Q.SPIKE), int(Q.NAN), int(Q.DEAD_BUS), int(Q.TEST)])
LIFE = st.tuples(
    st.sampled_from([0.0, 0.0, 0.7]), st.sampled_from([3.0, 3.0, 3.0, 1.5]), st.sampled_from([0.02, 0.02, 0.05]),
    st.integers(0, 19), ERROR_HZ, st.sampled_from([1.0, math.nan]), BITS,
    st.sampled_from([(1.0, 1.02), (1.0, 1.5), (2.0, 2.6)]),
)  # fmt: skip
WORLD = st.lists(LIFE, min_size=2, max_size=4)  # two to four sources of one grid


def made(world, *, dead=True) -> tuple[Block, list[int]]:
    """Rows of the sources of a drawn world, and their numbers."""
    sources = []
    for number, (from_s, until_s, period_s, phase_ms, off_hz, volt, bits, stretch) in enumerate(world, 1):
        rows = source(
            number, until_s, from_s=from_s, period_s=period_s, phase_s=phase_ms / 1000, off_hz=off_hz, volt=volt
        )
        rows["hz"] = np.round(rows["hz"], 4)  # ties happen
        rows = mark(rows, *stretch, bits if dead or bits != int(Q.DEAD_BUS) else int(Q.INVALID))
        rows["hz"][(rows["quality"] & int(Q.NAN)) > 0] = math.nan
        sources.append(rows)
    return together(*sources), list(range(1, len(sources) + 1))


POLICY = st.sampled_from(["priority", "voting"])


@settings(max_examples=60, deadline=None)
@given(WORLD, POLICY, st.lists(st.integers(0, 700), max_size=6))
def test_blocks_do_not_matter_and_the_future_is_not_known(world, policy, cuts):
    rows, numbers = made(world)
    whole = choose(rows, numbers, policy=policy)[1]
    choice = Choice(numbers, ChoiceSettings(policy=policy))
    pieces = [choice.take(piece) for piece in np.split(rows, sorted(min(cut, rows.size) for cut in cuts))]
    assert np.concatenate([piece.decided for piece in pieces]).tobytes() == whole.decided.tobytes()
    assert np.concatenate([piece.judged for piece in pieces]).tobytes() == whole.judged.tobytes()


@settings(max_examples=80, deadline=None)
@given(WORLD, POLICY)
def test_nothing_rejected_is_used_and_every_decision_is_a_row_that_came(world, policy):
    rows, numbers = made(world)
    _, got = choose(rows, numbers, policy=policy)
    came = {(r["source"].item(), r["t_ns"].item()): r for r in rows}
    seen = set()
    for decision in got.decided:
        key = decision["source"].item(), decision["t_ns"].item()
        assert key in came
        assert key not in seen
        seen.add(key)
        row = came[key]
        assert decision["rx_ns"] == row["rx_ns"]
        if decision["quality"] == 0:
            assert row["quality"] == 0
            assert abs(decision["hz"] - row["hz"]) <= 2 * ChoiceSettings().agree_hz + 1e-9
        else:
            assert int(decision["quality"]) & ~int(Q.OUTVOTED | Q.INVALID) & 0xFFFF == row["quality"] & ~np.uint16(
                Q.INVALID
            )
    order = got.decided["rx_ns"][got.decided["quality"] == 0]
    if policy == "priority":
        assert (np.diff(order) >= 0).all()


@settings(max_examples=80, deadline=None)
@given(WORLD, POLICY)
def test_no_step_beyond_the_grids_own_and_the_slew(world, policy):
    rows, numbers = made(world, dead=False)
    _, got = choose(rows, numbers, policy=policy)
    good = got.decided[got.decided["quality"] == 0]
    for one, two in pairwise(good):
        gap_s = abs(int(two["rx_ns"]) - int(one["rx_ns"])) / S
        if gap_s <= 0.5:  # beyond, an outage: nothing to go on from
            # The grid's own movement as a source may have seen it: since its row before, of the slowest 0.1 s ago.
            assert abs(two["hz"] - one["hz"]) <= 0.06 * (gap_s + 0.12) + SLEW * gap_s + 4e-4


@settings(max_examples=60, deadline=None)
@given(WORLD)
def test_under_voting_the_order_of_the_sources_does_not_matter(world):
    rows, numbers = made(world)
    results = []
    for order in list(permutations(numbers))[:6]:
        choice, got = choose(rows, order, policy="voting")
        if choice.agreement.outvotings or choice.disagreeing(int(rows["rx_ns"][-1])):
            return  # then the order decides, and says so
        results.append(got.decided[got.decided["quality"] == 0].tobytes())
    assert len(set(results)) == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), POLICY)
def test_any_bytes_never_raise(seed, policy):
    rng = np.random.default_rng(seed)
    rows = np.frombuffer(rng.integers(0, 256, 60 * FREQUENCY.itemsize, np.uint8).tobytes(), FREQUENCY).copy()
    rows["source"] = rng.integers(0, 4, 60)
    rows["quality"] = np.where(rng.random(60) < 0.6, 0, rows["quality"])
    _, got = choose(rows, policy=policy)
    usable = got.decided[got.decided["quality"] == 0]
    assert np.isfinite(usable["hz"]).all()
    assert got.judged.size == 60


def test_our_own_clock_set_back_costs_no_more_than_the_rows_until_they_speak_again():
    rows = together(source(1), source(2, phase_s=0.01))
    back = seconds(rows) >= 5.0
    rows["rx_ns"][back] -= 600 * S
    _, got = choose(rows, (1, 2))
    assert got.decided.size >= 499
    assert not got.decided["quality"].any()


# ---- rows that a median of three held back


def by_median(rows, *, stopped=False):
    """The rows as gates of their own give them on: each with its successor, the last ones as all have ended."""
    gates = {number: MedianGate() for number in sorted(set(rows["source"].tolist()))}
    out = [gates[int(row["source"][0])].check(row) for row in np.split(rows, rows.size)]
    return np.concatenate(out + [gate.flush() for gate in gates.values()] * stopped)


def restarts(choice, monkeypatch):
    """Counts what is forgotten from now on."""
    found, restart = [], choice._restart
    monkeypatch.setattr(choice, "_restart", lambda: (found.append(choice._now_ns), restart()))
    return found


@pytest.mark.parametrize("policy", ["priority", "voting"])
@pytest.mark.parametrize("numbers", [(1, 2), (1, 2, 3)])
def test_a_row_held_back_through_a_silence_is_no_news(policy, numbers, monkeypatch):
    def low(t_s):
        return np.where(t_s < 4.0, 50.0, 49.72) + 0.0 * t_s

    rows = together(*(source(n, phase_s=0.005 * (n - 1), hz=low) for n in numbers))
    rows = by_median(rows[(rows["source"] != 1) | (seconds(rows) < 3.99) | (seconds(rows) >= 8.0)])
    choice = Choice(numbers, ChoiceSettings(policy=policy))
    found = restarts(choice, monkeypatch)
    got = choice.take(rows)
    assert not found
    aged = got.judged[got.judged["quality"] > 0]
    assert [(r["source"].item(), seconds(r).item(), r["quality"].item()) for r in aged] == [(1, 3.98, int(Q.AGE))]
    assert not got.decided["quality"].any()
    after = got.decided["hz"][seconds(got.decided) >= 4.1]
    assert np.abs(after - 49.72).max() <= ChoiceSettings().agree_hz  # what is kept of a switch amid the fall
    assert (got.decided["hz"][seconds(got.decided) >= 5.2] == 49.72).all()
    assert (np.diff(got.decided["rx_ns"]) > -STEPPED_NS).all()
    assert gaps_s(got.decided).max() < 3 * PERIOD_S
    assert choice.switches <= 3  # to those that are left, at the most one after the other
    assert 1 not in got.decided["source"][seconds(got.decided) > 4.1]  # on its way back until `return_s` is over


@pytest.mark.parametrize("policy", ["priority", "voting"])
def test_a_row_that_is_left_at_stop_is_no_news_either(policy, monkeypatch):
    rows = together(source(1, 4.0), source(2, phase_s=0.005, off_hz=0.01), source(3, phase_s=0.01))
    held, stopped = by_median(rows), by_median(rows, stopped=True)
    choice = Choice((1, 2, 3), ChoiceSettings(policy=policy))
    found = restarts(choice, monkeypatch)
    before, used = choice.take(held), choice.used()
    last = choice.take(stopped[held.size :])
    assert not found
    assert last.judged["quality"].tolist() == [int(Q.AGE), 0, 0]
    assert 1 not in last.decided["source"]
    assert (last.decided["rx_ns"] >= before.decided["rx_ns"].max()).all()
    assert choice.used() == used


def test_a_dead_bus_and_a_disagreement_outlast_a_row_held_back():
    ghost = source(2, phase_s=0.005, volt=math.nan)
    rows = together(mark(source(3, phase_s=0.01), 5.0, 10.0, Q.DEAD_BUS), ghost, source(1, 4.0), source(1, from_s=8.0))
    got = choose(by_median(rows), (2, 3, 1))[1]
    told = got.decided[(seconds(got.decided) > 5.1) & (seconds(got.decided) < 8.0)]
    assert (told["quality"] == int(Q.DEAD_BUS)).all()
    assert 2 not in got.decided["source"][seconds(got.decided) > 5.1]
    # A difference that nobody can settle goes on being told.
    rows = together(*(source(n, phase_s=0.005 * n, off_hz=0.1 * n) for n in (1, 2)), source(3, 4.0, off_hz=0.3))
    rows = by_median(together(rows, source(3, 8.1, from_s=8.0, off_hz=0.3)))
    choice = Choice((1, 2, 3))
    told = []
    for row in np.split(rows, rows.size):
        choice.take(row)
        told.append(choice.disagreeing(int(row["rx_ns"][0])) or seconds(row)[0] < 1.0 or seconds(row)[0] == 3.98)
    assert all(told)


@pytest.mark.parametrize(("period_s", "serves"), [(1.0, True), (1.5, False)])
def test_a_slow_source_whose_rows_always_wait_disturbs_nothing(period_s, serves, monkeypatch):
    slow = source(1, 30.0, period_s=period_s)
    slow["rx_ns"] += np.arange(slow.size) % 2 * 50 * MS  # a second, and a little more
    rows = by_median(together(slow, source(2, 30.0, phase_s=0.005)))
    choice = Choice((1, 2))
    found = restarts(choice, monkeypatch)
    got = choice.take(rows)
    assert not found
    aged = got.judged["quality"] > 0
    assert set(got.judged["source"][aged].tolist()) <= {1}
    assert aged.sum() == (2 if serves else slow.size - 1)  # until its period is known
    assert choice.lost(BEGIN + 30 * S - 20 * MS) == ([] if serves else [1])
    assert (1 in got.decided["source"]) == serves  # and then it paces
    assert gaps_s(np.sort(got.decided, order="rx_ns")).max() <= (2 * period_s if serves else 2 * PERIOD_S)


@pytest.mark.parametrize("policy", ["priority", "voting"])
@pytest.mark.parametrize(("period_s", "phase_s"), [(0.02, 0.005), (0.5, 0.005), (0.5, 0.045)])
def test_our_own_clock_set_back_is_seen_behind_a_median_too(policy, period_s, phase_s, monkeypatch):
    rows = together(source(1), source(2, phase_s=phase_s, period_s=period_s))
    rows["rx_ns"][seconds(rows) >= 5.0] -= 600 * S
    choice = Choice((1, 2), ChoiceSettings(policy=policy))
    found = restarts(choice, monkeypatch)
    got = choice.take(by_median(rows))
    assert 1 <= len(found) <= 2  # again after the slow one's row from before
    assert (got.judged["quality"] > 0).sum() <= 1
    after = got.decided[got.decided["rx_ns"] < BEGIN - 500 * S]
    assert gaps_s(np.sort(after, order="rx_ns")).max() <= 4 * PERIOD_S
    assert seconds(got.decided)[-1] > 9.9


def test_our_own_clock_set_back_is_seen_in_a_source_that_was_silent_for_longer(monkeypatch):
    rows = together(source(1, 3.0), source(2, 9.0), source(1, 15.0, from_s=10.0))
    rows["rx_ns"][seconds(rows) >= 10.0] -= 5 * S
    choice = Choice((1, 2))
    found = restarts(choice, monkeypatch)
    got = choice.take(rows)
    assert len(found) == 1
    assert (got.judged["quality"] > 0).sum() == 1
    assert (seconds(got.decided) >= 10.0).sum() == 249


@settings(max_examples=40, deadline=None)
@given(WORLD, POLICY, st.lists(st.integers(0, 700), max_size=6))
def test_behind_medians_blocks_do_not_matter_and_nothing_old_is_used(world, policy, cuts):
    rows, numbers = made(world)
    gap = (rows["source"] == 1) & (seconds(rows) >= 0.9) & (seconds(rows) < 2.4)
    rows = by_median(rows[~gap], stopped=True)
    whole = choose(rows, numbers, policy=policy)[1]
    choice = Choice(numbers, ChoiceSettings(policy=policy))
    pieces = [choice.take(piece) for piece in np.split(rows, sorted(min(cut, rows.size) for cut in cuts))]
    assert np.concatenate([piece.decided for piece in pieces]).tobytes() == whole.decided.tobytes()
    now_ns = np.maximum.accumulate(rows["rx_ns"])
    old = now_ns - rows["rx_ns"] > STEPPED_NS
    assert (((whole.judged["quality"] & int(Q.AGE)) > 0) == old).all()
    keys = {(r["source"].item(), r["t_ns"].item()) for r in rows[old]}
    assert not keys & {(r["source"].item(), r["t_ns"].item()) for r in whole.decided}


@pytest.mark.parametrize(
    ("field", "value"),
    [("policy", "best"), ("agree_hz", 0.0), ("agree_hz", math.inf), ("return_s", -1.0), ("slew_hz_s", math.nan)],
)
def test_an_impossible_setting_is_refused_by_name(field, value):
    with pytest.raises(ChoiceError, match=f"^{field}: "):
        ChoiceSettings(**{field: value})


@pytest.mark.parametrize("numbers", [(), (1, 1)])
def test_sources_are_named_once(numbers):
    with pytest.raises(ChoiceError, match=r"^sources: "):
        Choice(numbers)


def test_the_middle_of_some_values():
    assert middle([3.0]) == (3.0, 3.0)
    assert middle([3.0, 1.0, 2.0]).hz == 2.0
    assert middle([4.0, 1.0, 2.0, 3.0]) == (2.0, 3.0)
    assert middle([4.0, 1.0]).hz == 2.5
    assert middle([1.0, 3.0]).distance_hz(2.0) == 0.0
    assert middle([1.0, 3.0]).distance_hz(0.5) == 0.5
    assert middle([1.0, 3.0]).distance_hz(3.25) == 0.25


# ---- asked by the clock


def by_the_clock(rows, numbers=(1, 2), step_s=0.001, **changes):
    """Rows at their arrivals, and between them the question of what is overdue, as one who follows streams asks it."""
    choice, at_ns, decided = Choice(numbers, ChoiceSettings(**changes)), [], []
    ends_ns = int(rows["rx_ns"].max()) + S
    waiting = [rows[k : k + 1] for k in range(rows.size)]
    for now_ns in range(int(rows["rx_ns"].min()), ends_ns, round(step_s * S)):
        while waiting and waiting[0]["rx_ns"][0] <= now_ns:
            decided.append(choice.take(waiting.pop(0)).decided)
            at_ns += [now_ns] * decided[-1].size
        due_ns = choice.due_ns()
        decided.append(choice.overdue(now_ns))
        assert not decided[-1].size or now_ns > due_ns > 0
        at_ns += [now_ns] * decided[-1].size
    return choice, np.array(at_ns), np.concatenate(decided)


@pytest.mark.parametrize("policy", ["priority", "voting"])
@pytest.mark.parametrize("phase_s", [-0.001, 0.0, 0.001, 0.005, 0.01, 0.019])
@pytest.mark.parametrize("dies_s", [2.0, 2.0131])
def test_asked_by_the_clock_no_decision_is_later_than_a_period_and_a_quarter(policy, phase_s, dies_s):
    rows = together(source(1, dies_s), source(2, 4.0, from_s=0.1, phase_s=phase_s))
    _, at_ns, decided = by_the_clock(rows, policy=policy)
    lived = (at_ns > BEGIN + S) & (at_ns < BEGIN + 4 * S)
    assert np.diff(at_ns[lived]).max() <= 1.25 * PERIOD_S * S + MS
    assert decided["source"][-1] == 2
    carried = list(zip(decided["source"].tolist(), decided["t_ns"].tolist(), strict=True))
    assert len(set(carried)) == len(carried)  # no row carries two decisions
    assert (np.diff(decided["t_ns"]) > -PERIOD_S * S).all()


@pytest.mark.parametrize("policy", ["priority", "voting"])
def test_while_all_live_nothing_is_overdue(policy):
    rows = together(source(1, 3.0), source(2, 3.0, phase_s=0.004))
    _, at_ns, decided = by_the_clock(rows, policy=policy)
    alike = Choice((1, 2), ChoiceSettings(policy=policy)).take(rows).decided
    # At their end, and at no other time, the one that spoke last stands in for the one that does not come.
    assert decided[: alike.size].tobytes() == alike.tobytes()
    assert at_ns[alike.size :].size <= 1


@given(st.integers(0, 2**31), st.floats(0.0, 0.6))
@example(203, 0.5625)  # stood in for by 20 ms and a half, and come 11 ms later
@settings(max_examples=40, deadline=None)
def test_asked_by_the_clock_late_rows_make_no_second_decision(seed, jitter):
    """One instrument told by two ways, each late by chance: a moment is decided on once, and none is left out."""
    rng = np.random.default_rng(seed)
    ways = []
    for number in (1, 2):
        rows = source(number, 2.0)
        late_ns = np.maximum.accumulate(rows["rx_ns"] + (rng.uniform(0, jitter * PERIOD_S, rows.size) * S).astype(int))
        rows["rx_ns"] = late_ns
        ways.append(rows)
    _, _, decided = by_the_clock(together(*ways), slew_hz_s=math.inf)
    decided = decided[2:]  # before a second row of each no period is known
    assert np.unique(decided["t_ns"]).size == decided.size
    assert decided.size >= ways[0].size - 2
    assert (np.diff(decided["t_ns"]) == round(PERIOD_S * S)).all()


def test_nothing_is_overdue_that_nobody_could_stand_in_for():
    rows = source(1, 1.0)
    choice = Choice((1, 2))
    choice.take(rows)
    assert choice.due_ns() == 0
    assert choice.overdue(BEGIN + 2 * S).size == 0
    # An old row of another, of before the last decision, is no news either.
    stale = source(2, 0.5)[-1:]
    stale["rx_ns"] = rows["rx_ns"][-1] + MS
    choice.take(stale)
    assert choice.due_ns() == 0
    # And a bad one is none.
    bad = mark(source(2, 1.1, from_s=1.05)[:1], 0, 9, Q.RANGE)
    choice.take(bad)
    assert choice.overdue(BEGIN + 2 * S).size == 0
