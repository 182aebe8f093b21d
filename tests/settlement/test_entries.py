"""The account: entries are added and never changed; what stands is their sum."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement import entries
from settlement.align import NS
from settlement.entries import EntryError, post, standing
from settlement.invoice import bill
from settlement.sales import Sales
from tests.settlement.bills import CE, flat, statement, utc

T = utc(2026, 6, 21, 22)


def billed(kw, **more):
    """A bill of a few quarters, one for each power."""
    rows = [statement(start_ns=T + k * 900 * NS, sold_kw=float(p), **more) for k, p in enumerate(kw) if p is not None]
    return bill(rows, {"ce_fcr": CE}, flat("ce_fcr", 87660, "EUR/MW"))  # a fortnight: EUR 0.25 a quarter and MW


def summed(account):
    return sum((entry.amounts.get("EUR", Decimal(0)) for entry in account), Decimal(0))


def due(invoice):
    return sum((t.amount for t in invoice.totals()), Decimal(0))


def test_billed_twice_is_billed_once():
    account = post([], billed([1000, 2000]))
    assert [(e.serial, e.kind, e.corrects) for e in account] == [(1, "bill", None), (2, "bill", None)]
    assert post(account, billed([1000, 2000])) == []
    assert post(account, billed([None, 2000])) == []  # what a bill does not speak of stays


def test_a_correction_takes_back_what_stood_and_names_it():
    account = post([], billed([1000, 2000]))
    added = post(account, billed([1000, 3000]))
    assert [(e.serial, e.kind, e.corrects) for e in added] == [(3, "reversal", 2), (4, "correction", 2)]
    assert added[0].amounts["EUR"] == -account[1].amounts["EUR"]
    assert added[0].lines[0].quantity == f"-{account[1].lines[0].quantity}"
    assert summed([*account, *added]) == due(billed([1000, 3000]))
    again = post([*account, *added], billed([1000, 4000]))
    assert [(e.serial, e.kind, e.corrects) for e in again] == [(5, "reversal", 4), (6, "correction", 4)]


def test_an_interval_that_earns_nothing_any_more_is_reversed_alone():
    account = post([], billed([1000]))
    rows = [statement(start_ns=T)]
    nothing = bill(rows, {"ce_fcr": CE}, flat("ce_fcr", 1, "EUR/MW"), Sales([]))
    added = post(account, nothing)
    assert [(e.kind, e.corrects) for e in added] == [("reversal", 1)]
    account = [*account, *added]
    assert (summed(account), standing(account)) == (0, {})
    assert post(account, nothing) == []
    assert [(e.kind, e.corrects) for e in post(account, billed([1000]))] == [("bill", None)]


def test_what_is_not_final_is_not_posted():
    assert post([], billed([1000], final=False)) == []


@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 3000)), min_size=3, max_size=3), max_size=6))
def test_the_sum_of_all_entries_is_what_stands(rounds):
    """The twin keeps the newest power of each quarter."""
    account, newest = [], [None] * 3
    for powers in rounds:
        before = list(account)
        account += post(account, billed(powers))
        assert account[: len(before)] == before
        newest = [b if a is None else a for a, b in zip(powers, newest, strict=True)]
    assert [entry.serial for entry in account] == list(range(1, len(account) + 1))
    assert summed(account) == due(billed(newest)) == summed(standing(account).values())
    text = "".join(entries.dump(entry) + "\n" for entry in account)
    assert entries.load(text, "x") == account


def test_a_damaged_account_is_refused_with_its_line():
    account = post([], billed([1000, 2000]))
    account += post(account, billed([1500, 2000]))
    rows = [entries.dump(entry) for entry in account]

    def changed(place, **values):
        return [json.dumps(json.loads(row) | (values if k == place else {})) for k, row in enumerate(rows)]

    whole = "\n".join(rows) + "\n"
    assert len(entries.load(whole, "f")) == 4
    line = json.loads(rows[0])["lines"][0]
    for text, said in (
        ("\n".join(rows[1:]) + "\n", "line 1: field `serial` is 2, 1 was due"),
        ("\n".join([rows[1], rows[0], *rows[2:]]) + "\n", "line 1: field `serial`"),
        (whole[:-1], "cut short"), (whole[:-9], "line 4: not an entry"), ("{}\n", "line 1: not an entry"),
        ("\n".join(changed(2, corrects=2)) + "\n", "line 3: field `corrects` names entry 2, which is of another"),
        ("\n".join(changed(2, corrects=7)) + "\n", "line 3: field `corrects`"),
        ("\n".join(changed(3, corrects=None)) + "\n", "line 4: field `corrects`"),
        ("\n".join(changed(0, version=9)) + "\n", "line 1: .*version"),
        ("\n".join(changed(0, kind="x")) + "\n", "line 1: .*kind"),
        ("\n".join(changed(0, lines=[line | {"amount": "NaN"}])) + "\n", "line 1: .*amount"),
    ):  # fmt: skip
        with pytest.raises(EntryError, match=said):
            entries.load(text, "f")
