"""A recorded run as a page: the numbers are the statements', the money is the bill's."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from aggregator import billing
from aggregator.billing import Asked, BillingError
from aggregator.books import SETTLED, Books
from aggregator.journal_reader import entries
from aggregator.reporting import money_of, reports
from settlement.align import NS
from settlement.report.seconds import seconds
from tests.aggregator.recorded import GOLDEN, record
from tests.aggregator.test_cli import flyball, refused  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return record(tmp_path_factory.mktemp("run"))


def test_the_seconds_are_the_statements(run):
    """Energy asked and given, second by second, adds up to what was stated."""
    kept = []
    books = Books(None, kept.append)
    for entry in entries(run / "journal", SETTLED):
        books.feed(entry)
    kept += books.running()
    assert len(kept) >= 3
    for closed in kept:
        parts = seconds(closed.sold, closed.facts, closed.start_ns, closed.end_ns - closed.end_ns % NS)
        for part, stated in zip(parts, closed.statements, strict=True):
            hours = np.nan_to_num(part.asked_kw) / 3600.0
            assert hours[hours > 0].sum() == pytest.approx(stated.requested_up_kwh, rel=1e-3, abs=1e-3)
            given = np.nan_to_num(part.given_kw) / 3600.0
            assert given[given > 0].sum() == pytest.approx(stated.delivered_up_kwh, rel=1e-3, abs=1e-3)
            assert (part.lower_kw <= part.upper_kw).all()


def test_a_page_for_each_product_with_its_money(run):
    asked = Asked(prices=GOLDEN / "prices.csv")
    pages = reports(run / "journal", asked, [])
    settled = billing.settle(run / "journal", asked, [])
    assert set(pages) == set(settled.products)
    for name, html in pages.items():
        own = [item for item in settled.statements if item.product == name]
        money = money_of(settled.bill, settled.products[name], own)
        lines = [item.line.amount for item in settled.bill.items if item.product == name]
        assert money.income + money.penalties == sum(lines, Decimal(0))
        assert f"{money.income:.2f} {money.currency}" in html
        assert html.count("<tr><td>20") == len(own)


def test_the_command(run, flyball, tmp_path):  # noqa: F811
    code, out, err = flyball("report", str(run), "--out", str(tmp_path / "r.html"), "--json", "-")
    assert code == 0, err
    assert "r" in out
    assert sorted(path.name for path in tmp_path.glob("r*.html"))
    refused(flyball("report", str(tmp_path)), "FOLDER", "no journal")
    refused(flyball("report", str(run), "--out", str(tmp_path / "no" / "r.html")), "--out")
    refused(flyball("report", str(run), "--product", "ce_fc"), "--product ce_fc", "golden_fcr")


def test_nothing_in_the_time_asked_is_said(run):
    with pytest.raises(BillingError, match="no interval was settled"):
        reports(run / "journal", Asked(start_ns=2**62), [])
