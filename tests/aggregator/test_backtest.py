"""The replay shell: the same core under recorded time, judged by settlement."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from aggregator.backtest import Backtest
from aggregator.backtesting import recorded_gate
from aggregator.contracts import Contract, CoreSettings
from aggregator.gateways.population import PERFECT
from aggregator.gateways.simulated import SimulatedFleet
from droop.products import load
from droop.reasons import Reason
from settlement.interval import Sold, settle
from settlement.scores import weighted_score
from telemetry.samples import FREQUENCY

S = 10**9
T0 = 1_790_000_000 * S // (3600 * S) * (3600 * S)


def trace(seconds, period_s=1.0, seed=1, std_hz=0.03, nominal_hz=50.0):
    """A frequency that wanders, FREQUENCY[n]."""
    count = int(seconds / period_s)
    rng = np.random.default_rng(seed)
    # As quick as a large grid: a millihertz or two from second to second.
    walk = np.convolve(rng.normal(0, 1, count + 300), np.ones(300) / np.sqrt(300), "valid")[:count]
    block = np.zeros(count, FREQUENCY)
    block["t_ns"] = block["rx_ns"] = T0 + (np.arange(count) * period_s * S).astype(np.int64)
    block["hz"], block["volt_frac"] = nominal_hz + std_hz * walk, np.nan
    return block


def shell_of(vehicles=30, sold_kw=60.0, product="ce_fcr", perfect=True, seed=1, stepwise=False):
    found = load(product)
    settings = CoreSettings("ce", vehicles, (Contract(found, sold_kw),))
    return Backtest(settings, recorded_gate(found.nominal_hz), T0, seed, perfect, stepwise=stepwise)


def driven(block, **how):
    test = shell_of(**how)
    test.feed(block)
    return test


def score_of(test):
    return weighted_score((s.score, s.coverage_frac, s.score_note) for s in test.statements())[0]


def same(one, other):
    assert one.samples.tobytes() == other.samples.tobytes()
    assert one.meters.tobytes() == other.meters.tobytes()
    assert one.core.declared_rows().tobytes() == other.core.declared_rows().tobytes()
    assert dataclasses.asdict(one.core.sums).__repr__() == dataclasses.asdict(other.core.sums).__repr__()
    assert (one.rows, one.gap_s, one.soc_min_frac, one.soc_max_frac) == (
        other.rows, other.gap_s, other.soc_min_frac, other.soc_max_frac,
    )  # fmt: skip
    assert [s.to_dict() for s in one.statements()] == [s.to_dict() for s in other.statements()]


def test_a_perfect_fleet_scores_one():
    """With a dead band and without: the second that a sample asks for is the one its answer is metered in."""
    smooth = dataclasses.replace(load("ce_fcr"), deadband_hz=0.0, deadband_kind="none")
    test = Backtest(CoreSettings("ce", 30, (Contract(smooth, 60.0),)), recorded_gate(50.0), T0, 1, True)
    test.feed(trace(3600))
    assert [s.score for s in test.statements()] == [1.0] * 4
    test = driven(trace(2 * 3600))
    assert [s.score for s in test.statements()] == [1.0] * 8
    assert score_of(test) == 1.0
    sums = test.core.sums
    stated = list(test.statements())
    assert sum(s.delivered_up_kwh for s in stated) == pytest.approx(sums.requested_up_kwh, rel=5e-3)
    assert sum(s.delivered_down_kwh for s in stated) == pytest.approx(sums.requested_down_kwh, rel=5e-3)
    assert sum(s.requested_up_kwh for s in stated) == pytest.approx(sums.requested_up_kwh, rel=5e-3)
    assert (sums.bound_violations, sums.unserved_kwh) == (0, 0.0)
    assert sums.max_sum_error_kw < 1e-4


def test_a_fleet_of_flesh_and_blood_scores_nearly_as_well():
    test = driven(trace(3600), perfect=False, vehicles=100, sold_kw=150.0)
    assert 0.9 < score_of(test) <= 1.0


def test_a_fleet_that_never_answers_scores_nothing(monkeypatch):
    monkeypatch.setattr(SimulatedFleet, "apply", lambda *_: 0)
    test = driven(trace(3600), stepwise=True)
    assert all(s.delivered_up_kwh == pytest.approx(0, abs=1e-9) for s in test.statements())
    assert score_of(test) == pytest.approx(0.0, abs=1e-3)


def test_a_fleet_that_refuses_everything_scores_nothing():
    test = shell_of()
    deaf = dataclasses.replace(PERFECT, refusals_per_h=1e6)
    test.fleet = SimulatedFleet(30, 1, T0, behaviour=deaf)
    test.feed(trace(3600))
    assert test.fleet.vanished > 0
    assert score_of(test) < 0.1


def test_a_fleet_that_answers_the_wrong_way_scores_nothing(monkeypatch):
    apply = SimulatedFleet.apply

    def upside_down(self, rows, valid_until_ns, now_ns):
        turned = rows.copy()
        turned["setpoint_kw"] *= -1
        return apply(self, turned, valid_until_ns, now_ns)

    monkeypatch.setattr(SimulatedFleet, "apply", upside_down)
    assert score_of(driven(trace(1800), stepwise=True)) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("perfect", [True, False])
def test_energy_is_in_balance(perfect):
    test = driven(trace(3600), perfect=perfect)
    energy = test.fleet.energy()
    assert abs(energy.residual_kwh) < 1e-8
    assert test.fleet.throughput_kwh > 1.0
    # The meter's register is the fleet's grid energy.
    assert test.meters["energy_kwh"][-1] == pytest.approx(energy.grid_kwh, abs=0.05)


def test_more_vehicles_never_earn_less():
    block = trace(1800, std_hz=0.06)
    scores = [score_of(driven(block, vehicles=n, sold_kw=150.0, seed=3)) for n in (10, 20, 40, 80)]
    assert all(more >= less - 1e-3 for less, more in pairwise(scores)), scores
    assert scores[0] < 0.9 < scores[-1]
    assert driven(block, vehicles=10, sold_kw=150.0, seed=3).core.unserved_by_reason()


@pytest.mark.parametrize("cut", [1, 7, 600, 3599])
def test_however_the_rows_are_cut_the_result_is_the_same(cut):
    block = trace(1500)
    block["hz"][700] = np.nan
    block = np.delete(block, slice(1000, 1090))
    block["t_ns"][300:302] = block["t_ns"][300:302][::-1].copy()
    block["rx_ns"] = block["t_ns"]
    whole, parts = driven(block, perfect=False), shell_of(perfect=False)
    for first in range(0, block.size, cut):
        parts.feed(block[first : first + cut])
    assert parts.rows == block.size
    same(whole, parts)


def test_gaps_are_told_and_lived_through():
    block = trace(1800)
    block = np.delete(block, slice(600, 660))
    block = np.delete(block, [100, 101, 1500])
    block["hz"][:] = 49.9
    test = driven(block)
    assert test.gap_s == 63.0
    assert test.core.alarms.raised == ["ALERT_STATE", "FREQUENCY_LOST"]  # 100 mHz for five minutes
    # held 3 s and faded over 5, so at most 60 s of no response; every second of the gap was metered
    assert np.diff(test.meters["t_ns"]).max() == S
    kw = test.meters["power_kw"] - test.core.declared_rows()["power_kw"][0]
    at = (test.meters["t_ns"] - T0) // S
    assert kw[(at > 615) & (at < 655)] == pytest.approx(np.zeros(39), abs=1e-3)
    assert kw[(at > 700) & (at < 890)] == pytest.approx(np.full(189, 30.0), abs=1e-3)


def test_rows_out_of_order_are_counted_and_not_lived():
    block = trace(900)
    wild = np.insert(block, 500, block[[100, 200, 499, 499]])
    test, clean = driven(wild), driven(block)
    assert test.gate.rejected()["order"] == 4
    assert (test.rows, clean.rows) == (904, 900)
    assert test.core.sums.ticks == clean.core.sums.ticks == 900
    test.rows = clean.rows
    same(test, clean)


def test_one_stamp_from_the_future_does_not_move_the_day_there():
    block = trace(900)
    block["t_ns"][400] += 90 * 86400 * S
    block["rx_ns"] = block["t_ns"]
    test = driven(block)
    assert test.gate.rejected() == {"clock_jump": 1}
    assert test.core.sums.ticks == 899
    assert test.gap_s == 1.0


@pytest.mark.parametrize("bad", [np.nan, 0.0, 30.0])
def test_a_file_of_nothing_usable_asks_for_nothing_and_says_so(bad):
    block = trace(600)
    block["hz"] = bad
    test = driven(block)
    assert test.core.sums.requested_up_kwh == test.core.sums.requested_down_kwh == 0.0
    assert sum(test.gate.rejected().values()) == 600
    (statement,) = test.statements()
    assert (statement.score, statement.coverage_frac) == (None, 0.0)
    assert score_of(test) is None
    assert test.core.alarms.raised == ["FREQUENCY_LOST"]


@pytest.mark.parametrize("period_s", [0.1, 2.0, 10.0, 15.0, 60.0])
def test_the_period_of_a_trace_is_learnt(period_s):
    """A slow recording is not a lost one: three of its periods are held."""
    block = trace(max(1800, 40 * period_s) if period_s >= 1 else 120, period_s)
    block["hz"] = 49.9
    test = driven(block)
    span_h = (block["t_ns"][-1] - T0) / 3.6e12
    assert test.core.sums.requested_up_kwh == pytest.approx(30.0 * span_h, rel=0.06)
    late = test.meters["t_ns"] > T0 + 10 * period_s * S + 10 * S
    kw = test.meters["power_kw"][late] - test.core.baseline_kw
    assert kw[: 3 * 300] == pytest.approx(np.full(min(kw.size, 900), 30.0), abs=1e-3)
    assert test.gap_s == 0.0


def test_no_rows_no_statement():
    test = shell_of()
    test.feed(np.zeros(0, FREQUENCY))
    assert list(test.statements()) == []
    assert (test.rows, test.gap_s, test.samples.size, test.meters.size) == (0, 0.0, 0, 0)


def test_a_dead_bus_is_not_discharged_into_by_anyone():
    block = trace(400)
    block["hz"], block["volt_frac"] = 49.7, 1.0
    block["volt_frac"][200:] = 0.01
    block["hz"][200:] = np.linspace(49, 40, 200)
    test = shell_of(perfect=False, vehicles=60)
    test.feed(block[:201])
    assert test.core.last.response_kw == 0.0
    fleet = test.core.engine.fleet
    assert (fleet.command_kw[fleet.reason_up != Reason.STALE] <= 0).all()
    test.feed(block[201:])
    assert test.core.last.request_kw <= test.core.baseline_kw + 1e-9
    # Dead times, ramps, refusals and lost links have run out: the real chargers agree.
    assert test.fleet.truth().power_kw.max() <= 1e-9
    assert "DEAD_BUS" in test.core.alarms.raised


def test_intervals_of_half_an_hour_are_settled_as_such():
    test = driven(trace(3600 + 600), product="gb_dc_low")
    starts = [(s.start_ns - T0) // S for s in test.statements()]
    assert starts == [0, 1800, 3600]
    assert [s.end_ns - s.start_ns for s in test.statements()] == [1800 * S] * 3
    declared = test.core.declared_rows()
    assert ((declared["end_ns"] - T0) // S).tolist() == [1800, 3600, 5400]
    # The run's first seconds have no baseline yet: more than the thousandth that a settlement period may miss.
    assert [s.score for s in test.statements()] == [0.0, 1.0, 1.0]
    assert "not paid: available for 99.6" in next(test.statements()).score_note


@pytest.mark.parametrize("products", [("gb_dc_low", "lfsm_o"), ("lfsm_o", "gb_dc_low")])
def test_each_product_of_a_stack_is_settled_in_its_own_intervals(products):
    """As live: an interval is the product's, whichever stands first in the contracts (`book.settle_interval`)."""
    sold = tuple(Contract(load(name), 20.0) for name in products)
    test = Backtest(CoreSettings("gb", 20, sold), recorded_gate(50.0), T0, 1, perfect=True)
    test.feed(trace(3600))
    found = [(s.product, (s.start_ns - T0) // S, (s.end_ns - T0) // S) for s in test.statements()]
    assert sorted(found) == [
        *(("gb_dc_low", at, at + 1800) for at in (0, 1800)), *(("lfsm_o", at, at + 900) for at in (0, 900, 1800, 2700)),
    ]  # fmt: skip
    assert [at for _, at, _ in found] == sorted(at for _, at, _ in found)
    assert all(s.stack == dict.fromkeys(products, 20.0) for s in test.statements())


def test_scores_are_weighted_by_the_time_they_cover():
    assert weighted_score([(1.0, 1.0, ""), (0.0, 0.5, ""), (None, 9.0, "x")]) == (
        pytest.approx(2 / 3), "2 interval(s), weighted by coverage",
    )  # fmt: skip
    assert weighted_score([(None, 1.0, "no rule"), (None, 1.0, "")]) == (None, "no rule")
    assert weighted_score([]) == (None, "no interval was settled")


def test_the_fleet_is_the_seeds_and_nobody_elses():
    block = trace(300)
    same(driven(block, perfect=False, seed=5), driven(block, perfect=False, seed=5))
    other = driven(block, perfect=False, seed=6)
    assert other.meters.tobytes() != driven(block, perfect=False, seed=5).meters.tobytes()


def test_an_interval_sees_all_of_the_run_that_settlement_would_look_at():
    """Rows are handed over near each interval only; its history, by which a response may lag, must be among them."""
    test = driven(trace(2 * 900 + 300, std_hz=0.2))
    facts, (contract,) = test.facts(), test.settings.contracts
    found = list(test.statements())
    assert len(found) >= 3
    for one in found:
        (whole,) = settle(
            [Sold(contract.product, contract.sold_kw)], facts, one.start_ns, one.end_ns, until_ns=one.until_ns
        )
        assert one.to_dict() == whole.to_dict()
