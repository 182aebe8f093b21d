"""State of energy at the start of a settlement period (rulebook 4.2, vector SOE-1 [V2]): asked, had, judged, paid."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from droop.products import load
from settlement import soe
from settlement.align import NS
from settlement.evidence import to_facts, to_plain
from settlement.facts import Declarations, Energy, Facts, Meters, Samples, floats, ints, no_shortfall, no_signal
from settlement.interval import Sold, reach_ns, settle, used, verify
from settlement.invoice import bill
from settlement.statement import differing, from_dict
from tests.settlement.bills import flat

SP = 1800 * NS
T0 = 1_700_000_100 * NS // SP * SP
LOW, HIGH = load("gb_dc_low"), load("gb_dc_high")


def facts(periods=10, given_kw=(), energies=()):
    """A second a row, baseline 0. given_kw : (period, power over the whole of it); energies : (s, up, down)"""
    t_ns = T0 + NS * np.arange(periods * 1800)
    power = np.zeros(t_ns.size)
    for period, kw in given_kw:
        power[period * 1800 : (period + 1) * 1800] = kw
    flat_hz = Samples(t_ns, np.full(t_ns.size, 50.0), np.ones(t_ns.size, bool))
    meters = Meters(t_ns, power, np.zeros(t_ns.size, np.int64), np.ones(t_ns.size, bool))
    declared = Declarations(ints(T0 - 1), ints(T0), ints(T0 + periods * SP), floats(0.0), ints(1), np.zeros(1, bool))
    rows = [np.array(column, float) for column in zip(*energies, strict=True)] if energies else [floats()] * 3
    energy = Energy((T0 + rows[0] * NS).astype(np.int64), rows[1], rows[2])
    return Facts(flat_hz, meters, declared, no_signal(), no_shortfall(), energy=energy)


def stated(found, product="gb_dc_low"):
    return next(item for item in found if item.product == product)


def test_the_requirement_is_the_published_one():
    """50 MWh contracted, 2 MWh delivered in the first period."""
    given = facts(9, [(0, 4000.0)])
    least = [soe.judge([(LOW, 200_000.0)], given, T0 + k * SP).least_up_kwh for k in range(8)]
    assert least == pytest.approx([50e3, 48e3, 48e3, 48e3, 48e3, 50e3, 50e3, 50e3])


def test_each_direction_is_of_all_products_together():
    given = facts(3, [(0, 400.0), (1, -800.0)])
    found = soe.judge([(LOW, 1000.0), (load("gb_dm_low"), 1000.0), (HIGH, 2000.0)], given, T0 + 2 * SP)
    assert (found.least_up_kwh, found.least_down_kwh) == pytest.approx((250.0 + 500.0 - 200.0, 500.0 - 400.0))
    assert soe.judge([(load("ce_fcr"), 1000.0)], given, T0) is None


def test_unknown_time_counts_as_nothing_delivered():
    given = facts(2, [(0, 400.0)])
    kept = np.ones(given.meters.t_ns.size, bool)
    kept[900:1800] = False
    holed = given._replace(meters=Meters(*(column[kept] for column in given.meters)))
    # The last reading holds for the second that it is of, no longer than half a period beyond.
    assert soe.judge([(LOW, 1000.0)], holed, T0 + SP).least_up_kwh == pytest.approx(250.0 - 100.0, abs=0.1)


@pytest.mark.parametrize(
    ("energies", "available", "says"),
    [
        ([(1800, 300.0, 100.0)], True, ""),
        ([(1800, 250.0, 50.0)], True, ""),
        ([(1800, 249.0, 500.0)], False, "249.0 kWh up, 250.0 are asked for"),
        ([(1800, 300.0, 49.0)], False, "49.0 kWh down, 50.0 are asked for"),
        ([(1700, 0.0, 0.0), (1805, 300.0, 100.0), (1870, 0.0, 0.0)], True, ""),
        ([(1800, 0.0, 0.0)], None, "no vehicle goes both ways"),
        ([], None, "not on record: not judged"),
        ([(600, 300.0, 100.0)], False, "not on record at the start"),
    ],
)
def test_a_period_that_starts_outside_is_unavailable(energies, available, says):
    sold = [Sold(LOW, 1000.0), Sold(HIGH, 200.0)]
    found = stated(settle(sold, facts(2, energies=energies), T0 + SP, T0 + 2 * SP))
    assert found.state_of_energy.available is available
    assert says in found.state_of_energy.note
    assert not says or any(says in note for note in found.notes)
    assert found.kpis["available_frac"] == (0.0 if available is False else 1.0)
    # 1 MW for half an hour at 10: 5; an unavailable period loses an eighth of the block's 40.
    paid = bill([found], {"gb_dc_low": LOW}, flat("gb_dc_low", 10, "GBP/MW/h")).totals()[0].amount
    assert paid == (0 if available is False else 5)


def test_who_sells_no_such_product_is_not_judged():
    both = settle([Sold(LOW, 1000.0), Sold(load("ce_fcr"), 100.0)], facts(2), T0 + SP, T0 + 2 * SP)
    assert stated(both, "ce_fcr").state_of_energy is None
    assert stated(both).state_of_energy is not None
    (alone,) = settle([Sold(load("ce_fcr"), 100.0)], facts(2), T0 + SP, T0 + SP + 900 * NS)
    assert alone.state_of_energy is None
    assert not any("energy" in note for note in alone.notes)


def test_the_statement_follows_from_its_rows_alone():
    """Of all that is recorded what `used` leaves suffices, and each of its parts counts."""
    whole = facts(12, [(2, 400.0), (9, 40.0)], [(k * 60, 300.0 + k, 100.0) for k in range(12 * 30)])
    sold, start_ns = [Sold(LOW, 1000.0)], T0 + 10 * SP
    (found,) = settle(sold, whole, start_ns, start_ns + SP)
    assert found.state_of_energy.least_up_kwh == pytest.approx(250.0 - 20.0)
    own = to_facts(to_plain(used(sold, whole, start_ns, start_ns + SP)))
    assert own.samples.t_ns[0] > start_ns - 600 * NS
    assert own.meters.t_ns[0] >= start_ns - reach_ns(sold)
    verify(found, own)
    read = from_dict(found.to_dict())
    assert read.state_of_energy == found.state_of_energy
    # A period within the reach told otherwise, then one beyond it.
    other = whole.meters.power_kw.copy()
    other[9 * 1800] += 1.0
    (changed,) = settle(sold, whole._replace(meters=whole.meters._replace(power_kw=other)), start_ns, start_ns + SP)
    assert differing(found, changed) is not None
    other = whole.meters.power_kw.copy()
    other[1800] += 1.0
    (same,) = settle(sold, whole._replace(meters=whole.meters._replace(power_kw=other)), start_ns, start_ns + SP)
    assert same == found


def test_a_statement_of_before_is_held_to_what_it_said():
    (now,) = settle([Sold(LOW, 1000.0)], facts(2), T0 + SP, T0 + 2 * SP)
    plain = now.to_dict() | {"version": 2}
    del plain["state_of_energy"]
    before = from_dict(plain)
    assert before.state_of_energy is None
    assert differing(before, dataclasses.replace(now, version=2)) is None
    assert differing(dataclasses.replace(now, state_of_energy=None), now) is not None
