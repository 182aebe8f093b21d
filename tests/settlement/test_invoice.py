"""Bills: what is paid for an interval, how it is cut, and that it adds up to the cent."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.products import load
from droop.promises import Market
from settlement import calendar, invoice
from settlement.align import NS
from settlement.invoice import BLOCK, DAY, InvoiceError, bill
from settlement.payment import PaymentError
from settlement.prices import MissingPriceError, PriceBook, PriceError
from settlement.sales import Sale, SaleError, Sales
from tests import naive_money
from tests.settlement.bills import CE, GB, HOUR, flat, price, statement, utc

T = utc(2026, 6, 21, 22)  # a Berlin midnight, and the first EFA block of 22 June begins
PRODUCTS = {"ce_fcr": CE, "gb_dc_low": GB}


def amounts(found):
    return [(item.line.what, item.line.amount) for item in found.items]


def total(found):
    (whole,) = found.totals()
    return whole.amount


def quarters(count=16, **change):
    """One CE block in quarters of an hour; change : place -> fields"""
    rows = [{"start_ns": T + k * 900 * NS} | change.get(f"q{k}", {}) for k in range(count)]
    return [statement(**row) for row in rows]


def ce_price(value="40", count=1):
    return PriceBook([price("ce_fcr", T + k * 4 * HOUR, T + (k + 1) * 4 * HOUR, value, "EUR/MW") for k in range(count)])


def test_s5_a_block_paid_whole_and_its_missing_half_charged_five_times():
    """S-5: 1 MW, EUR 40/MW for 4 h, not available in the last 2 h."""
    missing = {f"q{k}": {"kpis": {"available_frac": 0.0}} for k in range(8, 16)}
    found = bill(quarters(**missing), PRODUCTS, ce_price())
    (whole,) = found.totals()
    assert (whole.earned, whole.charged, whole.amount) == (40, -100, -60)
    assert {item.line.mark for item in found.items if item.line.what == "not available"} == {"M"}
    assert [item.block for item in found.items] == ["00:00-04:00"] * 24
    assert [item.period for item in found.items][:2] == [1, 2]


def test_s1_a_block_that_loses_one_settlement_period():
    """S-1, from statements: EFA1 of 22 June, 5 MW at 10 GBP/MW/h, one period unavailable."""
    rows = [statement("gb_dc_low", T + k * 1800 * NS, 1800, 5000.0, kpis={"error_frac": 0.0}) for k in range(8)]
    rows[3] = replace(rows[3], kpis={"error_frac": 0.0, "available_frac": 0.998})
    found = bill(rows, PRODUCTS, flat("gb_dc_low", 10, "GBP/MW/h"))
    assert total(found) == 175
    (block,) = found.totals(DAY, BLOCK)
    assert (block.day, block.block, block.earned, block.charged) == ("2026-06-22", "EFA1", 200, -25)
    assert amounts(found)[4] == ("unavailable settlement period", Decimal(-25))


@pytest.mark.parametrize(("scope", "expected"), [("sp", 87.5), ("block", 50.0)])
def test_the_quality_factor_goes_by_the_period_or_by_the_worst_of_its_block(scope, expected):
    product = replace(GB, score={"fn": "neso_bounds", "k_scope": scope, "k": [0.03, 0.07]})
    errors = [0.01, 0.05, 0.02, 0.03]
    rows = [
        statement("gb_dc_low", T + k * 1800 * NS, 1800, 5000.0, kpis={"error_frac": e}) for k, e in enumerate(errors)
    ]  # fmt: skip
    found = bill(rows, {"gb_dc_low": product}, flat("gb_dc_low", 10, "GBP/MW/h"))
    assert total(found) == expected
    # A block of its own is not touched by the bad one.
    other = statement("gb_dc_low", T + 4 * HOUR, 1800, 5000.0, kpis={"error_frac": 0.0})
    assert total(bill([*rows, other], {"gb_dc_low": product}, flat("gb_dc_low", 10, "GBP/MW/h"))) == expected + 25


def test_a_wrong_scope_and_unknown_rules_are_refused():
    rows = [statement("gb_dc_low", T, 1800, 5000.0, kpis={"error_frac": 0.0})]
    book = flat("gb_dc_low", 10, "GBP/MW/h")
    for field, table in (
        ("score.k_scope", {"score": {"fn": "neso_bounds", "k_scope": "day"}}),
        ("settlement.fn", {"settlement": {"fn": "efb"}}), ("penalty.fn", {"penalty": {"fn": "x"}}),
    ):  # fmt: skip
        with pytest.raises(PaymentError, match=rf"gb_dc_low: field `{field}`"):
            bill(rows, {"gb_dc_low": replace(GB, **table)}, book)


def test_what_was_not_measured_was_not_available_and_what_was_not_scored_earns_nothing():
    found = bill([statement(coverage_frac=0.6)], PRODUCTS, ce_price())
    assert amounts(found) == [("capacity", Decimal("2.5")), ("not available", Decimal("-5.0"))]
    assert "by coverage of the records" in found.items[1].line.note
    blind = statement("gb_dc_low", T, 1800, 5000.0, score=None, score_note="no sample")
    found = bill([blind], PRODUCTS, flat("gb_dc_low", 10, "GBP/MW/h"))
    assert total(found) == 0
    assert "no sample" in found.items[1].line.note
    miso = replace(load("ieee1547"), id="miso", settlement={"fn": "miso"})
    found = bill([replace(blind, product="miso")], {"miso": miso}, flat("miso", 10, "USD/MW-h"))
    assert set(amounts(found)) == {("regulation", 0)}


def test_a_lack_of_response_is_charged_twenty_times_on_its_largest_deviation():
    lacking = {"adequate": False, "under_max_kw": 300.0}
    found = bill([statement(kpis=lacking, score_note="inadequate")], PRODUCTS, ce_price())
    assert amounts(found) == [("capacity", Decimal("2.5")), ("lack of response", Decimal("-15.0"))]
    assert found.items[1].line.note == "inadequate"
    assert amounts(bill([statement(kpis=lacking | {"adequate": True})], PRODUCTS, ce_price()))[1:] == []
    # A negative capacity price pays us nothing for failing.
    assert amounts(bill([statement(kpis=lacking)], PRODUCTS, ce_price("-40"))) == [("capacity", Decimal("-2.5"))]


def test_without_a_penalty_what_was_not_available_is_not_paid():
    product = replace(CE, penalty={})
    assert total(bill([statement(coverage_frac=0.6)], {"ce_fcr": product}, ce_price())) == Decimal("1.5")
    paid = replace(product, settlement={"fn": "capacity_block", "unavailable_paid": True})
    assert total(bill([statement(coverage_frac=0.6)], {"ce_fcr": paid}, ce_price())) == Decimal("2.5")


def test_a_contract_that_ends_within_an_interval_is_paid_to_the_nanosecond():
    product = replace(CE, market=Market(currency="EUR"))
    third = 300 * NS
    sales = Sales([Sale("ce_fcr", T - HOUR, T + third, Fraction(600)), Sale("ce_fcr", T + third, T + HOUR, 1000)])
    found = bill([statement()], {"ce_fcr": product}, flat("ce_fcr", 12, "EUR/MWh"), sales)
    assert [(i.start_ns, i.end_ns, i.line.amount) for i in found.items] == [
        (T, T + third, Decimal("0.6")), (T + third, T + 3 * third, Decimal(2)),
    ]  # fmt: skip
    early = Sales([Sale("ce_fcr", T - HOUR, T + third, Fraction(600))])
    found = bill([statement()], {"ce_fcr": product}, flat("ce_fcr", 12, "EUR/MWh"), early)
    assert total(found) == Decimal("0.6")
    assert "33.3% of it is under contract" in found.notes[0]
    assert bill([statement(start_ns=T + 2 * HOUR)], {"ce_fcr": product}, PriceBook([]), early).items == ()


def test_energy_and_mileage_of_an_interval_are_shared_out_by_time():
    product = replace(load("ieee1547"), id="ne", settlement={"fn": "isone"})
    rows = [statement("ne", T, 3600, 4000.0, mileage=2.0, score=0.9)]
    book = flat("ne", 10, "USD/MWh", mileage=(1.5, "USD/MW"))
    sales = Sales([Sale("ne", T, T + HOUR // 4, Fraction(4000))])
    assert total(bill(rows, {"ne": product}, book)) == Decimal("46.80")  # S-4b
    assert total(bill(rows, {"ne": product}, book, sales)) == Decimal("11.70")


def test_more_under_contract_than_was_held_is_not_available():
    sales = Sales([Sale("ce_fcr", T, T + HOUR, Fraction(2000))])
    found = bill([statement()], PRODUCTS, ce_price(), sales)
    assert amounts(found) == [("capacity", 5), ("not available", Decimal("-12.5"))]
    assert "2000 kW under contract, 1000 kW were held" in found.notes[0]


def test_a_price_that_changes_within_an_interval_cuts_it():
    """Five-minute prices of an hourly product need no division by twelve."""
    product = replace(load("ieee1547"), id="pjm", settlement={"fn": "pjm_v1"})
    rows = [price("pjm", T + k * HOUR // 12, T + (k + 1) * HOUR // 12, 20, "USD/MW-h") for k in range(12)]
    rows.append(price("pjm", T, T + HOUR, 3, "USD/MW-h", "performance"))
    rows.append(price("pjm", T, T + HOUR, 2.5, "1", "mileage_ratio"))
    found = bill([statement("pjm", T, 3600, 5000.0, score=0.9)], {"pjm": product}, PriceBook(rows))
    assert len(found.items) == 24
    assert total(found) == Decimal("123.72")  # S-3 in twelve parts: 12 x (7.50 + 2.81), each at its cent
    (whole,) = found.totals()
    assert whole.exact == Decimal("123.75")


def test_a_missing_price_names_the_interval_and_nothing_is_billed():
    with pytest.raises(MissingPriceError, match=r"2026-06-22T02:00:00Z \.\. 2026-06-22T02:15:00Z"):
        bill(quarters(17), PRODUCTS, ce_price())
    with pytest.raises(PriceError, match="priced in EUR/MW; convert"):
        bill(quarters(), PRODUCTS, flat("ce_fcr", 40, "EUR/MWh"))


def test_an_unknown_product_and_a_contract_outside_validity_are_refused():
    with pytest.raises(InvoiceError, match="product `ce_fcr`"):
        bill(quarters(), {}, ce_price())
    old = replace(CE, effective_to="2026-06-22")
    with pytest.raises(SaleError, match=r"outside its validity, \.\.\. to before 2026-06-22"):
        bill(quarters(), {"ce_fcr": old}, ce_price(), Sales([Sale("ce_fcr", T - HOUR, T + 1, Fraction(1))]))
    bill(quarters(), {"ce_fcr": old}, ce_price(), Sales([Sale("ce_fcr", T - HOUR, T, Fraction(1))]))


def test_time_under_contract_without_a_statement_is_told():
    """A worker that was away leaves no statement: that must not look like an hour in which nothing was owed."""
    rows, sales = quarters(), Sales([Sale("ce_fcr", T, T + HOUR, Fraction(1000))])
    assert not [note for note in bill(rows, {"ce_fcr": CE}, ce_price(), sales).notes if "no statement" in note]
    holed = [item for item in rows if item.start_ns != T + HOUR // 4]
    (note,) = (note for note in bill(holed, {"ce_fcr": CE}, ce_price(), sales).notes if "no statement" in note)
    assert note.startswith("ce_fcr: 900 s under contract")


def test_contracts_that_overlap_are_refused():
    with pytest.raises(SaleError, match=r"1 MW of ce_fcr .* overlaps the one from 2026-06-21T22:30:00Z until"):
        Sales([Sale("ce_fcr", T + HOUR // 2, T + 2 * HOUR, Fraction(5)), Sale("ce_fcr", T, T + HOUR, Fraction(1000))])
    Sales([Sale("ce_fcr", T, T + HOUR, Fraction(5)), Sale("gb_dc_low", T, T + HOUR, Fraction(5))])
    for end_ns, kw in ((T, 1), (T + 1, -1)):
        with pytest.raises(SaleError, match="field"):
            Sales([Sale("ce_fcr", T, end_ns, Fraction(kw))])


def test_of_two_statements_of_an_interval_the_last_counts_and_what_is_not_final_says_so():
    found = bill([statement(sold_kw=5.0), statement()], PRODUCTS, ce_price())
    assert total(found) == Decimal("2.5")
    found = bill([statement(revision=1), statement(sold_kw=5.0)], PRODUCTS, ce_price())
    assert total(found) == Decimal("2.5")
    running = statement(until_ns=T + 450 * NS, final=False)
    found = bill([running], PRODUCTS, ce_price())
    assert (total(found), found.settled) == (Decimal("1.25"), ())
    assert "not final, billed until 2026-06-21T22:07:30Z" in found.notes[0]
    assert bill([statement(until_ns=T)], PRODUCTS, ce_price()).items == ()


def test_a_fee_for_messages_that_came_late():
    item = invoice.fee(CE, 2, T)
    assert (item.line.what, item.line.amount, item.line.mark) == ("administrative fee", -5000, "V")
    with pytest.raises(InvoiceError, match=r"penalty\.admin_eur"):
        invoice.fee(GB, 1, T)


@pytest.mark.parametrize(("on", "periods"), [((2026, 3, 29), 46), ((2026, 10, 25), 50), ((2026, 6, 22), 48)])
def test_money_adds_up_on_days_on_which_the_clock_moves(on, periods):
    """1 MW at 10 GBP/MW/h earns 5 a half hour, in blocks of 3, 4 or 5 hours; the twin counts half hours."""
    day = date(*on)
    halves = [b.start_ns for b in calendar.blocks(day, GB.market, 1800)]
    assert len(halves) == periods
    rows = [statement("gb_dc_low", start_ns, 1800, kpis={"error_frac": 0.0}) for start_ns in halves]
    found = bill(rows, PRODUCTS, flat("gb_dc_low", 10, "GBP/MW/h"))
    walked = naive_money.half_hours(day, "Europe/London", 23, 1)
    assert total(found) == 5 * len(walked) == 5 * periods
    by_block = found.totals(DAY, BLOCK)
    assert [b.block for b in by_block] == [f"EFA{k}" for k in range(1, 7)]
    assert [b.amount for b in by_block] == [5 * (periods - 40), *[40] * 5]
    (whole,) = found.totals(DAY)
    assert (whole.day, whole.amount) == (day.isoformat(), 5 * periods)
    assert [item.period for item in found.items if item.start_ns >= rows[2].start_ns] == list(range(1, periods - 1))


MONEY = st.decimals(-500, 500, places=3)
ROWS = st.lists(
    st.tuples(st.integers(0, 95), st.floats(0, 1), st.floats(0, 5e4), st.floats(0, 1)), max_size=12,
    unique_by=lambda row: row[0],
)  # fmt: skip


@given(ROWS, MONEY, st.sets(st.integers(0, 95)))
@settings(deadline=None, max_examples=60)
def test_a_bill_of_two_disjoint_sets_of_intervals_is_the_two_bills_together(rows, value, first):
    """Additive to the cent, in every total, whatever the cut; exact before rounding within a cent a line."""
    book = ce_price(value, 6)
    made = [
        statement(start_ns=T + k * 900 * NS, sold_kw=kw, coverage_frac=cover, score=score, kpis={"adequate": True})
        for k, cover, kw, score in rows
    ]
    parts = [[s for s, row in zip(made, rows, strict=True) if (row[0] in first) == side] for side in (True, False)]
    whole, left, right = (bill(part, PRODUCTS, book) for part in (made, *parts))
    by_line = sorted([*left.items, *right.items], key=lambda item: (item.start_ns, item.line.what))
    assert sorted(whole.items, key=lambda item: (item.start_ns, item.line.what)) == by_line
    summed = sum((t.amount for t in (*left.totals(), *right.totals())), Decimal(0))
    assert sum((t.amount for t in whole.totals()), Decimal(0)) == summed
    for by in ((DAY,), (DAY, BLOCK)):
        assert sum((t.amount for t in whole.totals(*by)), Decimal(0)) == summed
    for t in whole.totals():
        assert t.earned + t.charged == t.amount
        assert abs(t.amount - t.exact) <= Decimal("0.005") * len(whole.items) + Decimal("0.000001")
    for item in whole.items:
        assert item.line.amount == naive_money.to_the_cent(item.line.exact)


@given(
    st.lists(st.tuples(st.integers(1, 3600), st.integers(0, 9999)), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(1, 3600), st.decimals(-99, 99, places=2)), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=40)
def test_contracts_and_prices_that_change_anywhere_pay_what_a_count_by_seconds_pays(sold, paid):
    """The twin adds one second after the other."""
    product = replace(CE, market=Market(currency="EUR"))
    contracts, prices, at = [], [], 0
    for length_s, kw in sold:
        contracts.append(Sale("ce_fcr", T + at * NS, T + (at + length_s) * NS, Fraction(kw)))
        at += length_s
    end_s, at = at, 0
    for length_s, value in paid:
        prices.append(price("ce_fcr", T + at * NS, T + (at + length_s) * NS, value, "EUR/MWh"))
        at += length_s
    if at < end_s:
        prices.append(price("ce_fcr", T + at * NS, T + end_s * NS, 7, "EUR/MWh"))
    rows = [statement(start_ns=T + k * 900 * NS, sold_kw=1e9) for k in range(end_s // 900 + 1)]
    found = bill(rows, {"ce_fcr": product}, PriceBook(prices), Sales(contracts))

    def at_second(rows, s):
        return next((row for row in rows if row.start_ns <= T + s * NS < row.end_ns), None)

    expected = naive_money.capacity(
        0, end_s, lambda s: at_second(contracts, s).sold_kw, lambda s: at_second(prices, s).price
    )
    assert sum((item.line.exact for item in found.items), Fraction(0)) == expected
