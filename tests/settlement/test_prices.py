"""A price book: one price at a time, none made up."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.products import load
from droop.promises import Market
from settlement.align import NS
from settlement.prices import MissingPriceError, Price, PriceBook, PriceError, unit

T = 1_700_000_100 * NS
HOUR = 3600 * NS


def price(start=0, end=1, value="10", **more):
    row = {"product": "ce_fcr", "currency": "EUR", "unit": "EUR/MW/h"} | more
    return Price(T + start * HOUR, T + end * HOUR, price=Decimal(value), **row)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("EUR/MW/h", ("EUR", "MWh")), ("USD/MW-h", ("USD", "MWh")), ("AUD/MWh", ("AUD", "MWh")),
        ("GBP/(MW·h)", ("GBP", "MWh")), ("EUR / MW", ("EUR", "MW")), ("1", ("", "1")),
    ],
)  # fmt: skip
def test_a_unit_however_it_is_spelt(text, expected):
    assert unit(text) == expected


@pytest.mark.parametrize("text", ["EUR/kW", "€/MW/h", "MWh/EUR", "EUR", "eur/MWh", "EUR/MW/h/h", "/MW"])
def test_a_unit_that_is_none_is_refused(text):
    with pytest.raises(PriceError, match="field `unit`"):
        unit(text)


def test_the_price_of_an_interval_must_cover_all_of_it():
    book = PriceBook([price(0, 1), price(1, 4, "-3.5")])
    assert book.at("ce_fcr", "capacity", T, T + HOUR).price == 10
    assert book.at("ce_fcr", "capacity", T + HOUR, T + 4 * HOUR).price == Decimal("-3.5")
    for start, end in ((-1, 0), (4, 5), (0, 2), (3, 5)):
        assert book.find("ce_fcr", "capacity", T + start * HOUR, T + end * HOUR) is None
    with pytest.raises(MissingPriceError, match=r"no `capacity` price for 2023-11-15T02:15:00Z \.\. .*add the row"):
        book.at("ce_fcr", "capacity", T + 4 * HOUR, T + 5 * HOUR)
    with pytest.raises(MissingPriceError, match="kinds there: capacity"):
        book.at("ce_fcr", "energy", T, T + HOUR)
    with pytest.raises(MissingPriceError, match="kinds there: none"):
        book.at("afrr_up", "capacity", T, T + HOUR)


def test_edges_are_where_any_kind_changes():
    energy = {"kind": "energy", "unit": "EUR/MWh"}
    book = PriceBook([price(0, 2), price(0, 1, **energy), price(1, 2, **energy)])
    assert book.edges("ce_fcr", T, T + 2 * HOUR) == [T + HOUR]
    assert book.edges("ce_fcr", T, T + HOUR) == []
    assert (len(book), book.products) == (3, ("ce_fcr",))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([price(), price()], "two prices for 2023-11-14T22:15:00Z .. 2023-11-14T23:15:00Z"),
        ([price(0, 2), price(1, 3)], "two prices for 2023-11-14T23:15:00Z .. 2023-11-15T00:15:00Z"),
        ([price(value="NaN")], "field `price`"),
        ([price(value="Infinity")], "field `price`"),
        ([price(1, 1)], "`end` must lie after"),
        ([price(currency="GBP")], "field `currency` is `GBP`"),
        ([price(product="")], "`product`"),
        ([price(unit="1", currency="")], "field `unit` of a capacity price"),
    ],
)
def test_what_cannot_be_a_price_is_refused(rows, said):
    with pytest.raises(PriceError, match=said):
        PriceBook(rows)


def test_prices_are_held_against_the_products_market():
    product = replace(load("ce_fcr"), market=Market(currency="EUR", price_unit="EUR/MW"))
    PriceBook([price(unit="EUR/MW"), price(kind="mileage_ratio", unit="1", currency="")]).check(product)
    with pytest.raises(PriceError, match=r"`unit` is EUR/MW/h, ce_fcr is priced in EUR/MW; convert"):
        PriceBook([price()]).check(product)
    with pytest.raises(PriceError, match=r"`currency` is USD, ce_fcr is paid in EUR"):
        PriceBook([price(unit="USD/MW", currency="USD")]).check(product)
    PriceBook([price(product="other", unit="USD/MWh", currency="USD")]).check(product)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), min_size=1, max_size=8), st.integers(-1, 36))
def test_overlap_is_found_and_nothing_else(rows, at):
    """The twin marks hours in a list."""
    marked = [hour for start, length in rows for hour in range(start, start + length)]
    made = [price(start, start + length, str(k)) for k, (start, length) in enumerate(rows)]
    if len(marked) != len(set(marked)):
        with pytest.raises(PriceError, match="two prices"):
            PriceBook(made)
        return
    found = PriceBook(made).find("ce_fcr", "capacity", T + at * HOUR, T + (at + 1) * HOUR)
    expected = [k for k, (start, length) in enumerate(rows) if start <= at < start + length]
    assert (found is None) == (not expected)
    assert found is None or found.price == expected[0]
