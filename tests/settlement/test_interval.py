"""Statements of an interval: the numbers, what is shared and what is missing, and that a changed row is found."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from droop.products import load
from settlement import interval, statement
from settlement.align import NS
from settlement.facts import Signal
from settlement.interval import Sold, settle, verify
from settlement.statement import StatementError, VerifyError, from_dict

START_NS = 1_700_000_100 * NS
END_NS = START_NS + 900 * NS
BASELINE_KW = -800.0


@pytest.fixture
def found(sold, facts):
    return settle(sold, facts, START_NS, END_NS)[0]


def test_perfect_delivery(found, facts):
    net_kwh = (facts.meters.power_kw[60:] - BASELINE_KW) / 3600
    assert found.requested_up_kwh == pytest.approx(net_kwh[net_kwh > 0].sum())
    assert found.requested_down_kwh == pytest.approx(-net_kwh[net_kwh < 0].sum())
    assert found.delivered_up_kwh == pytest.approx(found.requested_up_kwh)
    assert found.delivered_down_kwh == pytest.approx(found.requested_down_kwh)
    assert found.score == pytest.approx(1.0, abs=1e-9)
    assert found.kpis["adequate"] is True
    assert found.coverage_frac == 1.0
    assert not found.partial
    assert found.baseline.mean_kw == pytest.approx(BASELINE_KW)
    assert found.baseline.declared_ns == START_NS - 60 * NS
    assert not found.baseline.late
    assert found.mileage == pytest.approx(np.abs(np.diff(facts.meters.power_kw[59:])).sum() / 1000)
    assert found.samples.count == 10 * 932  # the interval and its lead-in
    assert found.meters.first_t_ns == START_NS - 32 * NS
    assert found.unserved_kwh == pytest.approx({"rating": 0.036})
    assert found.energy_balance.grid_kwh == pytest.approx(facts.meters.power_kw[60:].sum() / 3600)
    assert found.energy_balance.error_kwh == pytest.approx(found.energy_balance.grid_kwh + 200.0)


def test_no_delivery_scores_zero(sold, facts):
    idle = facts._replace(meters=facts.meters._replace(power_kw=np.full(960, BASELINE_KW)))
    found = settle(sold, idle, START_NS, END_NS)[0]
    assert found.score == 0.0
    assert found.delivered_up_kwh == 0.0


def test_a_silent_meter_is_not_filled(sold, facts):
    keep = (np.arange(960) < 260) | (np.arange(960) >= 460)
    meters = type(facts.meters)(*(column[keep] for column in facts.meters))
    found = settle(sold, facts._replace(meters=meters), START_NS, END_NS)[0]
    assert found.coverage["meter"] == pytest.approx(1 - 199.5 / 900)  # held for one and a half periods
    assert found.coverage["frequency"] == 1.0
    assert found.partial
    assert found.kpis["seconds"] == 701.0  # the second half covered counts


def test_a_dead_frequency_asks_for_nothing_and_is_not_scored(sold, facts):
    usable = np.ones(9600, bool)
    usable[3000:6000] = False
    found = settle(sold, facts._replace(samples=facts.samples._replace(usable=usable)), START_NS, END_NS)[0]
    assert found.coverage["frequency"] == pytest.approx(600 / 900)
    assert found.kpis["seconds"] == 600.0


def test_products_share_one_delivery(facts):
    sold = [Sold(load("ce_fcr"), 600.0), Sold(dataclasses.replace(load("nordic_fcr_n"), score={}), 400.0)]
    first, second = settle(sold, facts, START_NS, END_NS)
    net_kwh = (facts.meters.power_kw[60:] - BASELINE_KW).sum() / 3600
    net = sum(s.delivered_up_kwh - s.delivered_down_kwh for s in (first, second))
    assert net == pytest.approx(net_kwh)
    assert first.stack == {"ce_fcr": 600.0, "nordic_fcr_n": 400.0}
    assert second.score is None
    assert "no scoring rule" in second.score_note
    assert sum(s.unserved_kwh["rating"] for s in (first, second)) == pytest.approx(0.036)


def test_a_set_point_on_top_is_not_the_products_delivery(sold, facts):
    """The fleet answers both; the product alone must come out perfect."""
    asked = Signal(np.array([START_NS + 100 * NS]), np.array([START_NS + 200 * NS]), np.array([300.0]))
    power_kw = facts.meters.power_kw.copy()
    power_kw[160:260] += 300.0
    both = facts._replace(signal=asked, meters=facts.meters._replace(power_kw=power_kw))
    found = settle(sold, both, START_NS, END_NS)[0]
    assert found.score == pytest.approx(1.0, abs=1e-9)
    assert found.delivered_up_kwh == pytest.approx(found.requested_up_kwh)


def test_a_newer_set_point_ends_the_older_one(sold, facts):
    at = START_NS + np.array([100, 150]) * NS
    asked = Signal(at, np.array([END_NS, at[1] + 10 * NS]), np.array([300.0, 50.0]))
    power_kw = facts.meters.power_kw.copy()
    power_kw[160:210] += 300.0
    power_kw[210:220] += 50.0
    both = facts._replace(signal=asked, meters=facts.meters._replace(power_kw=power_kw))
    assert settle(sold, both, START_NS, END_NS)[0].score == pytest.approx(1.0, abs=1e-9)


def test_a_running_interval_is_provisional(sold, facts):
    found = settle(sold, facts, START_NS, END_NS, until_ns=START_NS + 100 * NS, final=False)[0]
    assert found.partial
    assert not found.final
    assert found.kpis["seconds"] == 100.0
    assert found.samples.last_t_ns < START_NS + 100 * NS
    verify(found, facts)


def test_energy_and_mileage_add_up_over_intervals(sold, facts):
    middle = START_NS + 450 * NS
    whole = settle(sold, facts, START_NS, END_NS)[0]
    halves = [settle(sold, facts, a, b)[0] for a, b in ((START_NS, middle), (middle, END_NS))]
    for name in ("requested_up_kwh", "requested_down_kwh", "delivered_up_kwh", "delivered_down_kwh", "mileage"):
        assert sum(getattr(half, name) for half in halves) == pytest.approx(getattr(whole, name))


def test_a_mirroring_baseline_is_noted(sold, facts):
    target = facts.meters.power_kw[60:] - BASELINE_KW
    start = START_NS + np.arange(900) * NS
    d = facts.declarations
    declared = type(d)(
        start, start, start + NS, BASELINE_KW - 0.3 * target, np.ones(900, np.int64), np.zeros(900, bool)
    )
    found = settle(sold, facts._replace(declarations=declared), START_NS, END_NS)[0]
    assert any("mirrors the frequency" in note for note in found.notes)


def test_refused_and_late_declarations_are_noted(sold, facts):
    d = facts.declarations
    late = d._replace(declared_ns=np.array([START_NS + NS, START_NS + 60 * NS]), start_ns=np.array([START_NS] * 2))
    late = late._replace(end_ns=np.array([END_NS, END_NS]))
    found = settle(sold, facts._replace(declarations=late), START_NS, END_NS)[0]
    assert found.baseline.late
    assert found.baseline.refused == 1
    assert found.coverage["baseline"] == pytest.approx(899 / 900)
    assert len(found.notes) == 2


def test_nothing_recorded(sold, facts):
    empty = facts._replace(
        samples=type(facts.samples)(*(column[:0] for column in facts.samples)),
        meters=type(facts.meters)(*(column[:0] for column in facts.meters)),
        declarations=type(facts.declarations)(*(column[:0] for column in facts.declarations)),
        shortfall=facts.shortfall._replace(t_ns=facts.shortfall.t_ns[:0], kw=facts.shortfall.kw[:0]),
        fleet=None,
    )
    found = settle(sold, empty, START_NS, END_NS)[0]
    assert found.score is None
    assert found.coverage_frac == 0.0
    assert found.samples.first_t_ns is None
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["baseline"]["mean_kw"] is None
    assert settle([], facts, START_NS, END_NS) == []


def test_json_round_trip(found):
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["start"] == "2023-11-14T22:15:00Z"
    assert plain["key"] == f"{START_NS}:ce_fcr"
    assert from_dict(plain) == found
    del plain["meters"]
    with pytest.raises(StatementError, match="meters"):
        from_dict(plain)
    with pytest.raises(StatementError, match="version"):
        from_dict({})


def touched(facts, table, column, row):
    values = getattr(getattr(facts, table), column).copy()
    values[row] = ~values[row] if values.dtype == bool else values[row] + 1
    return facts._replace(**{table: getattr(facts, table)._replace(**{column: values})})


@pytest.mark.parametrize(
    ("table", "column", "row", "field"),
    [
        ("samples", "hz", 5000, "samples.sha256"),
        ("samples", "t_ns", 5000, "samples.sha256"),
        ("samples", "usable", 5000, "samples.sha256"),
        ("meters", "power_kw", 500, "meters.sha256"),
        ("meters", "usable", 500, "meters.sha256"),
        ("declarations", "power_kw", 1, "baseline.sha256"),
        ("declarations", "declared_ns", 1, "baseline.sha256"),
    ],
)
def test_verify_finds_a_changed_row(found, facts, table, column, row, field):
    verify(found, facts)
    with pytest.raises(VerifyError) as caught:
        verify(found, touched(facts, table, column, row))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "name", ["requested_up_kwh", "delivered_down_kwh", "score", "mileage", "coverage_frac", "sold_kw"]
)
def test_verify_finds_a_changed_number(found, facts, name):
    forged = dataclasses.replace(found, **{name: getattr(found, name) + 0.001})
    with pytest.raises(VerifyError) as caught:
        verify(forged, facts)
    assert caught.value.field == name


def test_verify_finds_a_changed_stack_and_shortfall(found, facts):
    with pytest.raises(VerifyError):
        verify(dataclasses.replace(found, stack={"ce_fcr": 900.0}), facts)
    kw = facts.shortfall.kw * 2
    with pytest.raises(VerifyError) as caught:
        verify(found, facts._replace(shortfall=facts.shortfall._replace(kw=kw)))
    assert caught.value.field == "unserved_kwh.rating"
    with pytest.raises(VerifyError) as caught:
        verify(dataclasses.replace(found, product="other"), facts)
    assert caught.value.field == "product"


def test_rows_outside_the_window_change_nothing(sold, found, facts):
    other = touched(facts, "samples", "hz", 100)  # 50 s before the interval
    verify(found, other)
    assert settle(sold, other, START_NS, END_NS)[0] == found


def test_order_of_rows_does_not_matter(sold, facts, found):
    shuffled = np.random.default_rng(3).permutation(960)
    meters = type(facts.meters)(*(column[shuffled] for column in facts.meters))
    assert settle(sold, facts._replace(meters=meters), START_NS, END_NS)[0] == found


def test_lead_in_covers_the_slowest_response():
    assert interval.LEAD_S > 30
    assert statement.iso(START_NS + 1_500_000) == "2023-11-14T22:15:00.001500Z"
