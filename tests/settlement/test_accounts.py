"""Accounts joined with reports: against a twin that cuts every piece into a thousand, and the pool's balance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.accounts import ROW
from droop.reasons import Reason
from settlement.accounts import ACCOUNT, AccountError, AccountLedger, TimeQuality
from settlement.align import NS
from settlement.balance import FleetLedger
from tests import naive_accounts as naive

QUARTER_NS = 900 * NS
START_NS = 1_790_000_100 * NS // QUARTER_NS * QUARTER_NS
SESSION = np.dtype(
    [("t_ns", "i8"), ("rx_ns", "i8"), ("slot", "u4"), ("session", "u4"), ("state", "u4"), ("soc_frac", "f8"),
     ("capacity_kwh", "f8"), ("soh_frac", "f8"), ("eta_charge_frac", "f8"), ("eta_discharge_frac", "f8")]
)  # fmt: skip
REPORT = np.dtype(
    [("t_ns", "i8"), ("rx_ns", "i8"), ("slot", "u4"), ("session", "u4"), ("power_kw", "f4"), ("soc_frac", "f4")]
)


def session(t_s, slot=0, number=1, here=True):
    row = np.zeros(1, SESSION)
    row["t_ns"] = row["rx_ns"] = START_NS + round(t_s * NS)
    row["slot"], row["session"], row["state"] = slot, number, here
    row["capacity_kwh"] = row["soh_frac"] = row["eta_charge_frac"] = row["eta_discharge_frac"] = 1.0
    return row


def reports(times_s, power_kw, slot=0, number=1, late_s=0.0):
    times_s = np.atleast_1d(times_s)
    rows = np.zeros(times_s.size, REPORT)
    rows["t_ns"] = START_NS + np.round(times_s * NS).astype(np.int64)
    rows["rx_ns"] = rows["t_ns"] + round(late_s * NS)
    rows["slot"], rows["session"], rows["power_kw"], rows["soc_frac"] = slot, number, power_kw, 0.5
    return rows


def row(start_s=0.0, end_s=900.0, slot=0, number=1, **columns):
    one = np.zeros(1, ROW)
    one["vehicle"] = f"car-{slot}-{number}".encode()
    one["slot"], one["session"], one["site"] = slot, number, -1
    one["start_ns"], one["end_ns"] = START_NS + round(start_s * NS), START_NS + round(end_s * NS)
    for name, value in columns.items():
        one[name] = value
    return one


def ledger(slots=4):
    return AccountLedger(slots, START_NS)


def close(book, quarters=1):
    return book.close(START_NS + quarters * QUARTER_NS)


def test_a_constant_power():
    book = ledger()
    book.sessions(session(0))
    book.reports(reports(np.arange(0.001, 905, 5), 6.0))
    book.accounts(row(plan_kwh=-0.5, asked_up_kwh=2.0, headroom_up_kwh=2.75, commands=7, reason=Reason.SOC, bound_s=9))
    found = close(book).rows[0]
    assert found["metered_up_kwh"] == pytest.approx(1.5, rel=1e-4)
    assert found["metered_down_kwh"] == 0.0
    assert found["delivered_up_kwh"] == found["delivered_kwh"] == pytest.approx(2.0, rel=1e-4)
    assert found["coverage_frac"] == pytest.approx(1.0, abs=1e-5)
    assert found["shortfall_kwh"] == pytest.approx(0.0, abs=1e-4)
    assert (found["vehicle"], found["commands"], found["headroom_up_kwh"], found["bound_s"]) == (
        b"car-0-1", 7, 2.75, 9.0
    )  # fmt: skip
    assert found["quality"] == TimeQuality.GOOD
    assert found["plugged_s"] == 900.0


def test_a_silence_is_nothing_given():
    """Half an interval without a report: nothing delivered in it, and what was asked stays asked."""
    book = ledger()
    book.sessions(session(0))
    book.reports(reports(np.arange(0.001, 450, 5), 8.0))
    book.accounts(row(asked_up_kwh=2.0))
    found = close(book).rows[0]
    assert found["delivered_up_kwh"] == pytest.approx(1.0, rel=0.02)
    assert found["undelivered_kwh"] == found["shortfall_kwh"] == pytest.approx(1.0, rel=0.02)
    assert found["coverage_frac"] == pytest.approx(0.5, rel=0.02)
    assert found["reason"] == Reason.STALE


def test_not_one_report():
    book = ledger()
    book.sessions(session(-100))
    book.accounts(row(asked_down_kwh=1.0))
    found = close(book).rows[0]
    assert found["metered_down_kwh"] == found["delivered_kwh"] == found["coverage_frac"] == 0.0
    assert found["shortfall_kwh"] == 1.0
    assert found["quality"] == TimeQuality.SILENT
    assert found["reason"] == Reason.STALE


def test_a_short_gap_is_bridged_a_long_one_is_not():
    for gap_s, covered in ((15.0, True), (15.1, False)):
        book = ledger()
        book.sessions(session(0))
        book.reports(reports([0.001, 10, 10 + gap_s], 3.0))
        book.accounts(row())
        assert (close(book).rows[0]["reported_s"] > 12) == covered


def test_reasons_behind_a_shortfall():
    def found(**columns):
        book = ledger()
        book.sessions(session(0))
        book.reports(reports(np.arange(0.001, 905, 5), 0.0))
        book.accounts(row(**columns))
        return close(book).rows[0]["reason"]

    asked = {"asked_up_kwh": 1.0}
    assert found(**asked, commands=5, acknowledged=5, reason=Reason.SOC) == Reason.RESPONSE
    assert found(**asked, commands=5, acknowledged=1, refused=4) == Reason.REFUSED
    assert found(**asked, refused=4, reason=Reason.FAULT) == Reason.FAULT
    assert found(**asked, unserved_kwh=2.0, reason=Reason.SITE) == Reason.SITE  # the larger part
    assert found(reason=Reason.DEPARTURE, bound_s=3.0) == Reason.DEPARTURE  # no shortfall: what bound it
    assert found() == Reason.NONE


@pytest.mark.parametrize(
    ("late_s", "quality"),
    [(4.9, TimeQuality.GOOD), (5.1, TimeQuality.LATE), (-0.9, TimeQuality.GOOD), (-1.1, TimeQuality.AHEAD)],
)
def test_the_worst_time_quality(late_s, quality):
    book = ledger()
    book.sessions(session(0))
    book.reports(reports(np.arange(1, 100, 5), 1.0))
    book.reports(reports([101], 1.0, late_s=late_s))
    book.accounts(row())
    assert close(book).rows[0]["quality"] == quality


def test_an_edge_cuts_a_piece_pro_rata():
    book = ledger()
    book.sessions(session(0))
    book.reports(reports([890, 898, 902, 910], [4.0, 4.0, 8.0, 8.0]))
    book.accounts(np.concatenate([row(0, 900), row(900, 1800)]))
    first = close(book).rows[0]
    assert first["metered_up_kwh"] == pytest.approx((8 * 4.0 + 2 * 6.0) / 3600)
    second = close(book, 2).rows[0]
    assert second["metered_up_kwh"] == pytest.approx((2 * 6.0 + 8 * 8.0) / 3600)


def test_two_stays_of_one_charger_in_a_quarter():
    book = ledger()
    book.sessions(session(0))
    book.reports(reports(np.arange(1, 300, 2), 5.0))
    book.sessions(session(300, here=False))
    book.reports(reports([301], 99.0))  # of the one that has left: passed over
    book.sessions(session(400, number=2))
    book.reports(reports(np.arange(401, 905, 2), -3.0, number=2))
    book.reports(reports([500.5], 99.0))
    book.accounts(np.concatenate([row(400, 900, number=2), row(0, 300)]))
    first, second = close(book).rows
    assert (first["vehicle"], second["vehicle"]) == (b"car-0-1", b"car-0-2")
    assert first["metered_up_kwh"] == pytest.approx(5.0 * 298.5 / 3600, rel=1e-4)
    assert second["metered_down_kwh"] == pytest.approx(3.0 * 499.5 / 3600, rel=1e-4)
    assert first["metered_down_kwh"] == second["metered_up_kwh"] == 0.0


def test_it_leaves_and_comes_back_under_the_same_name():
    book = ledger()
    for number, begin in ((1, 0), (2, 500)):
        book.sessions(session(begin, number=number))
        book.reports(reports(np.arange(begin + 1, begin + 100), 2.0, number=number))
        book.sessions(session(begin + 100, number=number, here=False))
    rows = np.concatenate([row(0, 100), row(500, 600, number=2)])
    rows["vehicle"] = b"mine"
    book.accounts(rows)
    found = close(book).rows
    assert found["vehicle"].tolist() == [b"mine", b"mine"]
    assert found["metered_up_kwh"] == pytest.approx([2.0 * 98.5 / 3600] * 2)


def test_overtaken_and_unknown_reports_are_passed_over():
    book = ledger(slots=2)
    book.sessions(session(0))
    book.reports(reports([5, 10], 2.0))
    book.reports(reports([7], 50.0))
    book.reports(reports([12], np.nan))
    book.reports(reports([12], 50.0, slot=3_000_000_000))
    book.sessions(session(1, slot=4_000_000_000))
    book.reports(reports([15], 2.0))
    book.accounts(row())
    found = close(book)
    assert found.rows[0]["metered_up_kwh"] == pytest.approx((1.0 * 5 + 2.0 * 10) / 3600)
    assert found.unaccounted_kwh == pytest.approx(0.0, abs=1e-12)


def test_what_was_reported_without_an_account_is_told():
    """The worker was away: no account was open, and the energy is shown as nobody's, not given to anybody."""
    book = ledger()
    book.sessions(session(0))
    book.reports(reports(np.arange(0, 905, 5) + 0.001, 6.0))
    book.accounts(row(600, 900))
    found = close(book)
    assert found.rows[0]["metered_up_kwh"] == pytest.approx(0.5)
    assert found.unaccounted_kwh == pytest.approx(1.0, rel=1e-4)


def test_a_session_told_again_does_not_begin_at_nothing():
    book = ledger()
    book.sessions(session(0))
    book.reports(reports([5, 10], 4.0))
    book.sessions(session(10))
    book.reports(reports([15], 4.0))
    book.accounts(row())
    assert close(book).rows[0]["metered_up_kwh"] == pytest.approx((2.0 * 5 + 4.0 * 10) / 3600)


def test_bad_rows_are_refused():
    book = ledger()
    with pytest.raises(AccountError, match="rows"):
        book.accounts(np.zeros(1, ACCOUNT))
    with pytest.raises(AccountError, match="end_ns"):
        book.accounts(row(900, 900))
    close(book)
    with pytest.raises(AccountError, match="end_ns"):
        book.close(START_NS)


def test_an_empty_interval():
    found = close(ledger())
    assert found.rows.size == 0
    assert found.rows.dtype == ACCOUNT
    assert found.unaccounted_kwh == 0.0


def test_the_layout_is_frozen():
    """Evidence rests on it: a change of a name, a type or the order is a new version."""
    assert ACCOUNT.itemsize == 224
    assert (ACCOUNT.names or ())[:8] == (
        "vehicle", "slot", "session", "site", "reason", "start_ns", "end_ns", "asked_up_kwh"
    )  # fmt: skip
    assert all(ACCOUNT[name] == np.dtype("<f8") for name in ACCOUNT.names if name.endswith(("_kwh", "_s", "_frac")))
    assert [int(q) for q in TimeQuality] == [0, 1, 2, 3]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["report", "report", "report", "begins", "ends"]), st.integers(0, 2), st.integers(1, 400),
        st.floats(-20, 20, width=32),
    ),
    min_size=3, max_size=40,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.integers(0, 200), st.floats(-8, 8))
def test_the_twin_and_the_balance_find_the_same(events, begin, plan_kw):
    """Whatever is told, in whatever order: each account as the twin has it, and all of them as the pool's balance."""
    book, pool = ledger(3), FleetLedger(QUARTER_NS)
    told = {slot: [] for slot in range(3)}
    t_s = 500.0
    for what, slot, tenths, kw in events:
        t_s += tenths / 20
        number = 1 + tenths % 2
        t_ns = START_NS + round(t_s * NS)
        if what == "report":
            block = reports([t_s], kw, slot, number)
            for reader in (book.reports, pool.vehicles):
                reader(block)
        else:
            block = session(t_s, slot, number, what == "begins")
            book.sessions(block)
            pool.sessions(block)
        told[slot].append((t_ns, what, number, kw))
    rows = [
        row(500.0 + begin, 900, slot, number, plan_kwh=plan_kw * (400 - begin) / 3600)
        for slot in range(3) for number in (1, 2)
    ]  # fmt: skip
    book.accounts(np.concatenate(rows))
    found = close(book)
    for item in found.rows:
        twin = naive.metered(
            told[int(item["slot"])], int(item["session"]), int(item["start_ns"]), int(item["end_ns"]), plan_kw
        )
        names = "metered_up_kwh", "metered_down_kwh", "delivered_up_kwh", "delivered_down_kwh", "reported_s"
        assert [float(item[name]) for name in names] == pytest.approx(twin, rel=2e-3, abs=2e-5)
    net_kwh = (found.rows["metered_up_kwh"] - found.rows["metered_down_kwh"]).sum()
    whole = pool.take(START_NS)
    assert net_kwh + found.unaccounted_kwh == pytest.approx(whole.reported_kwh if whole else 0.0, abs=1e-6)


def test_closing_in_parts_gives_the_same_as_the_balance_over_hours():
    """A fleet that comes, goes, is late and silent: at every edge the accounts and the rest are what the pool has."""
    rng = np.random.default_rng(8)
    book, pool, n = ledger(30), FleetLedger(QUARTER_NS), 30
    number = np.ones(n, int)
    for slot in range(n):
        for reader in (book, pool):
            reader.sessions(session(0, slot))
    for k in range(1, 3 * 900):
        slots = np.flatnonzero((np.arange(n) + k) % 5 == 0)
        slots = slots[rng.random(slots.size) < 0.9]
        block = np.concatenate([reports([k - rng.random()], rng.normal() * 9, s, number[s]) for s in slots]
                               or [reports([], 0.0)])  # fmt: skip
        book.reports(block)
        pool.vehicles(block)
        if k % 400 == 0:
            slot = int(rng.integers(n))
            for here in (False, True):
                number[slot] += here
                event = session(k, slot, number[slot], here)
                book.sessions(event)
                pool.sessions(event)
        if k % 900 == 5 and k > 900:
            q = k // 900
            book.accounts(np.concatenate([row(q * 900 - 900, q * 900, s, number[s]) for s in range(n)]))
            done = close(book, q)
            net = (done.rows["metered_up_kwh"] - done.rows["metered_down_kwh"]).sum() + done.unaccounted_kwh
            assert net == pytest.approx(pool.take(START_NS + (q - 1) * QUARTER_NS).reported_kwh, abs=1e-6)
            assert abs(net) > 0.01
