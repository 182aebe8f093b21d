"""The page: self-contained, says what it rests on, and escapes what comes from outside."""

from __future__ import annotations

import dataclasses
import re
from decimal import Decimal

import numpy as np
import pytest

from droop.products import load
from settlement.interval import settle
from settlement.report.page import Money, page
from settlement.report.series import Series
from tests.settlement.conftest import START_NS

END_NS = START_NS + 900 * 10**9


@pytest.fixture
def statements(sold, facts):
    return settle(sold, facts, START_NS, END_NS)


@pytest.fixture
def series():
    t_ns = START_NS + np.arange(900) * 10**9
    asked = 500 * np.sin(np.arange(900) / 60)
    given = np.where((np.arange(900) >= 300) & (np.arange(900) < 320), 0.0, asked)
    return Series(t_ns, 50 - asked / 5000, asked, given, asked - 50, asked + 50, 1.0, 1000.0)


@pytest.fixture
def money():
    return Money("EUR", [(START_NS, END_NS, Decimal("12.34"), Decimal("-1.20"))], ["penalty base: from memory"])


def test_it_needs_no_network_and_draws_everything(series, statements, money):
    html = page(load("ce_fcr"), series, statements, money)
    assert not re.search(r"<script[^>]+src=|<link|@import|<img", html)
    assert html.count("Plotly.newPlot(") >= 6  # five charts of the whole, one or more of the worst minutes
    for word in (
        "Asked and given",
        "How far apart",
        "Score of each interval",
        "Shortfalls by reason",
        "Worst minutes",
        "12.34 EUR",
        "-1.20 EUR",
        "penalty base: from memory",
        "read in the primary document",
        "@media print",
    ):
        assert word in html, word  # fmt: skip
    assert html.count("<details>") == 1
    assert "2023-11-14T22:20:00Z: " in html


def test_without_prices_there_is_no_money(series, statements):
    html = page(load("ce_fcr"), series, statements)
    assert "Income" not in html
    assert "penalties" not in html


def test_words_from_outside_stay_words(series, statements):
    bad = dataclasses.replace(statements[0], notes=("<script>alert(1)</script>",), unserved_kwh={"<b>": 1.0})
    html = page(dataclasses.replace(load("ce_fcr"), title="<i>x"), series, [bad])
    assert "<script>alert(1)" not in html
    assert "<td><b>" not in html
    assert "<i>x" not in html


def test_a_score_against_it_is_marked_and_a_correction_named(series, statements):
    bad = dataclasses.replace(statements[0], kpis={"adequate": False}, revision=1)
    html = page(load("ce_fcr"), series, [bad])
    assert "<td class=bad>" in html
    assert "(revised)" in html


def test_nothing_scored_nothing_missing(series, statements):
    plain = dataclasses.replace(statements[0], score=None, unserved_kwh={})
    html = page(load("ce_fcr"), series._replace(given_kw=series.asked_kw), [plain])
    assert "In no minute was less given than asked" in html
    assert "could serve all that was asked" in html
    assert "Score of each interval" not in html
