"""Capacity that counts as unavailable: AEM in the statement, and in the bill (Nordic requirements, LER)."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import numpy as np
import pytest

from droop.products import load
from settlement.align import NS
from settlement.facts import Modes
from settlement.interval import Sold, VerifyError, settle, verify
from settlement.invoice import bill
from settlement.prices import Price, PriceBook
from tests.settlement.conftest import START_NS

END_NS = START_NS + 900 * NS


def modes(seconds, aem=1):
    n = len(seconds)
    return Modes(START_NS + np.array(seconds, np.int64) * NS, np.zeros(n), np.zeros(n), np.zeros(n), np.full(n, aem))


def settled(facts, **recorded):
    return settle([Sold(load("nordic_fcr_n"), 1000.0)], facts._replace(modes=recorded), START_NS, END_NS)[0]


def test_time_in_aem_is_not_available_and_not_paid(facts):
    plain, emptied = settled(facts), settled(facts, nordic_fcr_n=modes(range(298)))
    assert "available_frac" not in plain.kpis
    assert emptied.kpis["aem_frac"] == pytest.approx(300 / 900)  # the last row stands for 3 s
    assert emptied.kpis["available_frac"] == pytest.approx(600 / 900)
    product = load("nordic_fcr_n")
    currency = product.market.currency
    prices = PriceBook([Price(START_NS, END_NS, product.id, Decimal(40), currency, f"{currency}/MW/h")])
    whole, less = (bill([item], {product.id: product}, prices).totals()[0].amount for item in (plain, emptied))
    assert (whole, less) == (Decimal("10.00"), Decimal("6.67"))


def test_other_modes_and_other_products_change_nothing(facts):
    plain = settled(facts)
    assert settled(facts, nordic_fcr_n=modes(range(300), aem=0)).kpis == plain.kpis
    assert settled(facts, nordic_fcr_d_up=modes(range(300))).kpis == plain.kpis


def test_what_is_unavailable_can_be_computed_again(facts):
    shown = facts._replace(modes={"nordic_fcr_n": modes(range(100, 200))})
    (found,) = settle([Sold(load("nordic_fcr_n"), 1000.0)], shown, START_NS, END_NS)
    verify(found, shown)
    with pytest.raises(VerifyError, match="available_frac"):
        verify(dataclasses.replace(found, kpis={**found.kpis, "available_frac": 1.0}), shown)


def test_unknown_and_unavailable_are_counted_once(facts):
    silent = facts.meters.t_ns < START_NS + 100 * NS
    meters = facts.meters._replace(usable=facts.meters.usable & ~silent)
    found = settled(facts._replace(meters=meters), nordic_fcr_n=modes(range(98)))
    assert found.kpis["available_frac"] == pytest.approx(800 / 900)
