"""Every market's rule by the name that a product gives it, and the rounding they share."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.products import catalogue, load
from settlement.invoice import bill
from settlement.payment import PENALTIES, RULES, PaymentError, america, australia, efa, europe
from settlement.payment.lines import cents, decimal, exact, line, share
from settlement.prices import PriceError
from tests import naive_money
from tests.settlement.bills import flat, statement, utc

T = utc(2026, 6, 22, 12)
EVEN = load("ieee1547")


def paid(fn, book, direction="symmetric", table=None, **of):
    """What an hour of 5 MW earns under a rule, by line."""
    curve = {"up": (1.0, 0.0, 0.0), "down": (0.0, 0.0, -1.0), "symmetric": (1.0, 0.0, -1.0)}[direction]
    product = replace(
        EVEN, id="it", penalty={}, availability={}, direction=direction, interval_s=3600,
        curve_hz=(-1.0, 0.0, 1.0), curve_frac=curve, settlement={"fn": fn} | (table or {}),
    )  # fmt: skip
    found = bill([statement("it", T, 3600, 5000.0, **({"score": 0.9} | of))], {"it": product}, book)
    return [(item.line.what, item.line.amount, item.line.mark) for item in found.items]


def figures(rows):
    return [(what, float(amount)) for what, amount, _ in rows]


def test_pjm_takes_its_mileage_ratio_from_the_prices_or_from_the_product():
    prices = {"performance": (3, "USD/MW-h")}
    ratio = prices | {"mileage_ratio": (2.5, "1")}
    both = [("RMCCP credit", 90.0), ("RMPCP credit", 33.75)]
    assert figures(paid("pjm_v1", flat("it", 20, "USD/MW-h", **ratio))) == both
    assert figures(paid("pjm_v1", flat("it", 20, "USD/MW-h", **prices), table={"mileage": "one"})) == [
        ("RMCCP credit", 90.0), ("RMPCP credit", 13.5),
    ]  # fmt: skip
    with pytest.raises(PriceError, match="`mileage_ratio` price"):
        paid("pjm_v1", flat("it", 20, "USD/MW-h", **prices))
    with pytest.raises(PaymentError, match=r"settlement\.mileage"):
        paid("pjm_v1", flat("it", 20, "USD/MW-h", **ratio), table={"mileage": "regb"})
    assert figures(paid("pjm_v1", flat("it", 20, "USD/MW-h", **ratio), score=0.24)) == [
        ("RMCCP credit", 0), ("RMPCP credit", 0),
    ]  # fmt: skip
    assert sum(amount for _, amount in figures(paid("pjm_v1", flat("it", 20, "USD/MW-h", **ratio), score=0.25))) > 0


def test_pjm_pays_the_lost_opportunity_that_the_credits_leave():
    kinds = {"performance": (3, "USD/MW-h"), "mileage_ratio": (2.5, "1"), "offer": (10, "USD/MW-h")}
    book = flat("it", 20, "USD/MW-h", **kinds, lost_opportunity=(20, "USD/MW-h"))
    assert paid("pjm_v1", book)[2] == ("lost opportunity", Decimal("26.25"), "M")  # 50 + 100 - 123.75
    assert len(paid("pjm_v1", flat("it", 40, "USD/MW-h", **kinds, lost_opportunity=(20, "USD/MW-h")))) == 2
    # Who failed, or shows nothing, is not made whole for it.
    for score in (0.24, None):
        assert figures(paid("pjm_v1", book, score=score)) == [("RMCCP credit", 0), ("RMPCP credit", 0)]


def test_nyiso_pays_energy_too_and_charges_what_does_not_follow():
    book = flat("it", 10, "USD/MW-h", energy=(30, "USD/MWh"))
    assert figures(paid("nyiso", book, score=0.95, delivered_up_kwh=1250.0, delivered_down_kwh=750.0)) == [
        ("regulation", 47.25), ("energy", 15.0),
    ]  # fmt: skip
    assert figures(paid("nyiso", book, score=0.0)) == [("regulation", -5.0)]
    plain = flat("it", 10, "USD/MW-h")
    assert figures(paid("nyiso", plain, table={"energy": False}, score=1.0, delivered_up_kwh=9.0)) == [
        ("regulation", 50.0)
    ]
    with pytest.raises(PriceError, match="no `energy` price"):
        paid("nyiso", plain)


def test_caiso_pays_capacity_each_way_and_mileage_by_accuracy():
    book = flat("it", 8, "USD/MWh", mileage=(0.5, "USD/MW"))
    assert figures(paid("caiso", book, "up", {"energy": False}, score=0.85, mileage=1.4)) == [
        ("regulation capacity", 40.0), ("mileage", 2.98),
    ]  # fmt: skip
    kinds = {"capacity_up": (8, "USD/MWh"), "capacity_down": (4, "USD/MWh"), "mileage": (0.5, "USD/MW")}
    both = paid("caiso", flat("it", 8, "USD/MWh", **kinds), table={"energy": False}, score=0.85, mileage=1.4)
    assert figures(both) == [("regulation capacity", 40.0), ("mileage", 2.98), ("regulation down", 20.0)]
    assert [mark for *_, mark in both] == ["V2", "M", "V2"]


@pytest.mark.parametrize("fn", ["ercot", "spp"])
def test_ercot_and_spp_pay_capacity_and_deployed_energy_whatever_the_score(fn):
    moved = {"delivered_up_kwh": 1250.0, "delivered_down_kwh": 750.0, "score": None}
    kinds = {"capacity_up": (7, "USD/MWh"), "capacity_down": (4, "USD/MWh"), "energy": (30, "USD/MWh")}
    assert figures(paid(fn, flat("it", 1, "USD/MWh", **kinds), **moved)) == [
        ("regulation up", 35.0), ("regulation down", 20.0), ("energy", 15.0),
    ]  # fmt: skip
    one = flat("it", 7, "USD/MWh", energy=(30, "USD/MWh"))
    assert figures(paid(fn, one, "up", delivered_down_kwh=1000.0)) == [("regulation", 35.0), ("energy", -30.0)]


@pytest.mark.parametrize("fn", ["ercot", "spp", "caiso"])
def test_capacity_that_the_records_do_not_show_is_not_paid(fn):
    """No meter, no baseline, no signal: there was nothing to hold against the capacity sold."""
    book = flat("it", 8, "USD/MWh", mileage=(0.5, "USD/MW"))
    silent = paid(fn, book, "up", {"energy": False}, score=None, coverage_frac=0.0)
    assert sum(amount for _, amount, _ in silent) == 0
    half = figures(paid(fn, book, "up", {"energy": False}, score=1.0, coverage_frac=0.5))
    assert half[0][1] == 20.0
    kinds = {"capacity_up": (8, "USD/MWh"), "capacity_down": (4, "USD/MWh"), "mileage": (0.5, "USD/MW")}
    both = flat("it", 8, "USD/MWh", **kinds)
    assert sum(amount for _, amount, _ in paid(fn, both, table={"energy": False}, score=None, coverage_frac=0.0)) == 0


def test_the_nem_pays_what_was_enabled_and_there_and_the_performance_payment_by_its_factor():
    assert figures(paid("nem", flat("it", 60, "AUD/MWh"), coverage_frac=0.5)) == [("enablement", 150.0)]
    book = flat("it", 15, "AUD/MWh", required_mw=(40, "1"))
    assert paid("fpp", book, kpis={"contribution_factor": 0.2}) == [("frequency performance", Decimal(120), "M")]
    assert len(paid("nem", book, kpis={"contribution_factor": 0.2})) == 2
    assert figures(paid("fpp", book, kpis={"contribution_factor": -0.1})) == [("frequency performance", -60.0)]
    assert paid("fpp", book) == []


def test_miso_and_iso_new_england():
    assert figures(paid("miso", flat("it", 12, "USD/MWh"), score=0.95)) == [("regulation", 58.71)]
    book = flat("it", 10, "USD/MWh", mileage=(1.5, "USD/MW"))
    assert figures(paid("isone", book, mileage=2.0)) == [("regulation capacity", 45.0), ("regulation service", 13.5)]


def test_a_product_without_a_rule_is_paid_for_capacity_from_memory():
    product = replace(EVEN, id="it", settlement={}, penalty={})
    found = bill([statement("it", T, 900, 5000.0)], {"it": product}, flat("it", 40, "USD/MWh"))
    assert [(i.line.what, i.line.amount, i.line.mark) for i in found.items] == [("capacity", 50, "M")]
    marked = replace(EVEN, id="it", settlement={"fn": "capacity_block"}, marks={"settlement": "D"})
    assert bill([statement("it", T, 900)], {"it": marked}, flat("it", 40, "USD/MWh")).items[0].line.mark == "D"


def test_every_product_that_ships_can_be_billed():
    for product in catalogue().values():
        capacity = product.market.price_unit or "EUR/MW/h"
        currency = capacity[:3]
        kinds = {
            "capacity_up": (5, capacity), "capacity_down": (5, capacity), "performance": (3, f"{currency}/MW/h"),
            "energy": (30, f"{currency}/MWh"), "mileage": (1, f"{currency}/MW"), "mileage_ratio": (2, "1"),
        }  # fmt: skip
        book = flat(product.id, 5, capacity, **kinds)
        row = statement(product.id, T, product.interval_s, 1000.0, kpis={"error_frac": 0.0, "adequate": True})
        found = bill([row], {product.id: product}, book)
        assert found.items, product.id
        assert all(item.line.amount >= 0 for item in found.items), product.id
        assert {item.line.mark for item in found.items} <= {"V", "V2", "M", "D"}


def test_a_price_of_the_wrong_kind_is_refused():
    with pytest.raises(PriceError, match=r"`unit` of the `capacity` price .* is USD/MW, its rule takes one per MWh"):
        paid("miso", flat("it", 12, "USD/MW"))


def test_every_rule_is_tested_here():
    assert set(RULES) == {
        "efa", "capacity_block", "pjm_v1", "miso", "isone", "nyiso", "caiso", "ercot", "spp", "nem", "fpp",
    }  # fmt: skip
    assert set(PENALTIES) == {"ce_factors"}


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (lambda: efa.efa(-1, 1, 10, 1), "kw"), (lambda: efa.efa(1, 1, 10, 1.5), "available"),
        (lambda: efa.efa(1, 1, float("nan"), 1), "price"), (lambda: america.miso(1, 1, 1.1, 1), "score"),
        (lambda: america.pjm(1, 1, 1, 1, 1, -2), "mileage_ratio"), (lambda: australia.nem(1, -1, 1), "hours"),
        (lambda: europe.capacity(1, 1, 1, -0.1), "available"), (lambda: europe.non_availability(-1, 1, 1), "missing"),
        (lambda: europe.lack_of_response(1, 1, 1, factor=-20), "penalty factor"),
        (lambda: europe.admin_fee(-2500), "fee"), (lambda: exact("ten"), "value"), (lambda: exact(np.inf), "value"),
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused_by_name(made, field):
    with pytest.raises(PaymentError, match=field):
        made()


def test_a_number_is_what_it_reads_as():
    assert exact(0.1) == exact(np.float64(0.1)) == exact("0.1") == exact(Decimal("0.1")) == Fraction(1, 10)
    assert share(1, "x") == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.125", "0.12"), ("0.135", "0.14"), ("-0.125", "-0.12"), ("2.975", "2.98"), ("0.0050000001", "0.01"),
     ("-0.005", "0.00"), ("7", "7.00")],
)  # fmt: skip
def test_a_line_ends_at_the_cent_ties_to_even(value, expected):
    (found,) = {line("x", Fraction(1), "", value, 1, "EUR", "D").amount}
    assert format(found, "f").lstrip("-") == expected.lstrip("-")
    assert found == Decimal(expected)


@given(st.fractions(-1000, 1000))
def test_rounding_is_that_of_the_decimal_module(value):
    assert cents(value) == naive_money.to_the_cent(value)
    assert abs(Fraction(decimal(value)) - value) <= Fraction(1, 2 * 10**9)


@given(st.floats(0, 0.2), st.floats(0, 0.1), st.floats(0.001, 0.1))
def test_the_quality_factor_is_its_twins_and_falls(error, full, width):
    none = full + width
    found = float(efa.k_factor(error, full, none))
    assert found == pytest.approx(naive_money.k(error, full, none), abs=1e-9)
    assert 0 <= found <= 1
    assert efa.k_factor(error + 0.01, full, none) <= found


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1), st.floats(-100, 100))
def test_a_higher_score_never_earns_less(kw, low, high, rate):
    low, high = sorted((low, high))
    for rule in (america.miso, america.nyiso):
        less, more = (rule(kw, 1, score, abs(rate))[0].amount for score in (low, high))
        assert less <= more
    less, more = (sum(x.exact for x in america.pjm(kw, 1, score, abs(rate), 1)) for score in (low, high))
    assert less <= more
