"""Availability as it is seen and kept: what counts in a slice, and files that say what they are of."""

from __future__ import annotations

import numpy as np
import pytest

from aggregator.bidding import available, recorded
from aggregator.bidding.available import FILE, Watcher
from aggregator.bidding.products import BidError, TooLittle, bundle
from aggregator.journal import Kind
from aggregator.registry import Registry
from aggregator.settle import Settler
from droop.fleet import allocate, allocate_totals
from droop.products import load
from tests.aggregator.bidding.histories import NS, ce, made
from tests.aggregator.test_core import T0, S, reports, sessions

Q = 900 * S


class Looked:
    """A fleet of twelve that is told and looked at."""

    def __init__(self, sold=None, rows=12):
        self.fleet, totals = allocate(rows), allocate_totals()
        self.registry, self.watcher = Registry(self.fleet, totals), Watcher(sold or ce())

    def plug(self, slots, t_ns, session=1, **more):
        self.registry.sessions(sessions(slots, session, t_ns, **more), t_ns)

    def report(self, slots, t_ns, session=1, soc=0.5):
        self.registry.reports(reports(t_ns, slots, session, soc), t_ns)

    def at(self, t_ns):
        self.watcher.look(self.fleet, t_ns)


def test_a_slice_has_who_was_there_from_begin_to_end():
    """Four cars of 8.8 kW (CAP-1: 11 kW both ways, energy enough); one leaves, one is replaced, one comes late."""
    seen = Looked()
    seen.at(T0)  # says where slices begin
    seen.plug(range(4), T0 + S)
    seen.report(range(4), T0 + 2 * S)
    assert seen.watcher.next_ns == T0 + Q
    seen.report(range(4), T0 + Q - S)
    seen.at(T0 + Q)
    seen.plug([0], T0 + Q + 300 * S, state=0)
    seen.plug([1], T0 + Q + 300 * S, state=0)
    seen.plug([1], T0 + Q + 400 * S, session=2)
    seen.plug([7], T0 + Q + 500 * S)
    seen.report([2, 3, 7], T0 + 2 * Q - S)
    seen.report([1], T0 + 2 * Q - S, session=2)
    seen.at(T0 + 2 * Q)
    seen.report([2, 3], T0 + 3 * Q - S)
    seen.report([7], T0 + 3 * Q - 400 * S)  # silent for longer than is believed
    seen.at(T0 + 3 * Q + 60 * S)
    rows = seen.watcher.rows
    assert rows["start_ns"].tolist() == [T0 + Q, T0 + 2 * Q]
    assert rows["present"].tolist() == [2, 4]
    assert rows["chargers"].tolist() == [12, 12]
    assert rows["kw"] == pytest.approx([17.6, 35.2])
    assert rows["power_kw"] == pytest.approx([17.6, 35.2])
    assert rows["up_kwh"] == pytest.approx([2 * 24.0, 4 * 24.0])
    assert rows["profile_kw"][0] == pytest.approx([8.8] * 10)


def test_energy_takes_of_what_power_could_sell():
    seen = Looked()
    seen.at(T0)
    seen.plug(range(2), T0)
    for k, soc in ((1, 0.12), (2, 0.12)):  # 1.2 kWh above the floor of 0.1: 4.8 kW for a quarter of an hour
        seen.report(range(2), T0 + k * Q - S, soc=soc)
        seen.at(T0 + k * Q)
    (row,) = seen.watcher.rows
    assert row["kw"] == pytest.approx(2 * 1.2 / 0.25, rel=1e-5)
    assert row["power_kw"] == pytest.approx(2 * 8.8)


def test_a_slice_that_nobody_looked_at_is_missing_not_empty():
    seen = Looked()
    seen.at(T0)
    seen.plug(range(3), T0)
    for at in (1, 2, 4.9, 5, 6):  # late for the third edge and the fourth
        seen.report(range(3), T0 + int(at * Q) - S)
        seen.at(T0 + int(at * Q))
    assert [(start - T0) // Q for start in seen.watcher.rows["start_ns"].tolist()] == [1, 5]


def test_files_come_back_and_say_what_they_are_of(tmp_path):
    sold, rows = ce(), made(ce(), 3)
    available.write(tmp_path / FILE, rows, sold)
    assert (available.read(tmp_path / FILE, sold) == rows).all()
    assert (recorded.history([tmp_path], sold).slices == rows).all()
    assert (recorded.history([tmp_path / FILE, tmp_path], sold).slices == rows).all()  # each slice once
    with pytest.raises(BidError, match="is of ce_fcr:1, not of nordic_fcr_n:1"):
        available.read(tmp_path / FILE, bundle([load("nordic_fcr_n")]))
    (tmp_path / "other.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BidError, match="not a file of availability"):
        recorded.history([tmp_path / "other.parquet"], sold)


@pytest.mark.parametrize("field", ["kw", "power_kw", "up_kwh", "down_kwh"])
@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_what_no_fleet_can_have_had_is_refused(field, value):
    rows = made(ce(), 2)
    rows[field][7] = value
    with pytest.raises(BidError, match=f"row 7: field `{field}`"):
        available.checked(rows, "x")


def test_nothing_at_all_is_refused_by_name(tmp_path):
    sold = ce()
    with pytest.raises(BidError, match="give a backtest's folder"):
        recorded.history([], sold)
    with pytest.raises(BidError, match="neither"):
        recorded.history([tmp_path], sold)
    available.write(tmp_path / FILE, made(sold, 1)[:0], sold)
    with pytest.raises(TooLittle, match="is empty"):
        recorded.history([tmp_path], sold)
    bad = made(sold, 1)
    bad["present"][0] = 9999
    with pytest.raises(BidError, match="more vehicles than chargers"):
        available.checked(bad, "x")


def test_a_journal_tells_the_same_as_who_was_there(tmp_path):
    """The doors of a core, kept in a journal's files and heard again."""
    from aggregator.contracts import Contract, CoreSettings
    from aggregator.core import Aggregator
    from aggregator.journal import pack

    core = Aggregator(CoreSettings("ce", 12, (Contract(load("ce_fcr"), 10.0),)))
    settler, seen, number = Settler(tmp_path / "journal", lambda _: None), Looked(), 0

    def turn(now_ns):
        nonlocal number
        core.on_time(now_ns)
        number += 1
        settler.feed(f"1-{number}", pack(core.drain_entries()))

    for k in range(0, 4 * 900 + 30, 30):
        now_ns = T0 + k * S
        slots = range(3 if k < 1500 else 5)
        if k in (0, 1500):
            plugged = sessions(slots if k == 0 else range(3, 5), 1, now_ns)
            core.on_sessions(plugged, now_ns)
            seen.at(now_ns)
            seen.registry.sessions(plugged, now_ns)
        said = reports(now_ns, slots)
        core.on_vehicles(said, now_ns)
        seen.at(now_ns)
        seen.registry.reports(said, now_ns)
        turn(now_ns)
    settler.close()
    found = recorded.history([tmp_path], ce()).slices
    assert found["present"].tolist() == [3, 5, 5]
    assert (found == seen.watcher.rows).all()
    assert Kind.SOLD < Kind.TICKS
    assert NS == S
