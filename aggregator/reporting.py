"""Reports of a recorded run: its journal settled once more, each product's seconds kept for the page.

Composes `aggregator.billing`, `aggregator.books` and `settlement.report`; what is kept of an interval are its seconds,
not its rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from aggregator.billing import Asked, BillingError, Prepared, prepare
from aggregator.journal import Problem
from aggregator.resettled import closed
from droop.products import Product
from settlement.align import NS
from settlement.evidence import Closed
from settlement.invoice import Invoice
from settlement.report.page import Money, page
from settlement.report.seconds import seconds
from settlement.report.series import Series, joined
from settlement.statement import Statement


class Gathered(NamedTuple):
    """One product of a run: its seconds and its statements, in order."""

    product: Product
    series: list[Series]
    statements: list[Statement]


def reports(
    folder: Path, asked: Asked, problems: list[Problem], prepared: Prepared | None = None
) -> dict[str, str]:  # fmt: skip
    """Product id -> page as HTML.

    folder : the journal's

    Raises BillingError where there is nothing to report, and what prices raise.
    """
    prepared = prepared or prepare(folder, asked)
    found: dict[str, Gathered] = {}
    rules: dict[str, Product] = {}

    def take(interval: Closed) -> None:
        if not _within(interval, asked):
            return
        parts = seconds(interval.sold, interval.facts, interval.start_ns, interval.end_ns - interval.end_ns % NS)
        stated = {item.product: item for item in interval.statements}
        for item, part in zip(interval.sold, parts, strict=True):
            if item.product.id in prepared.wanted and item.product.id in stated:
                kept = found.setdefault(item.product.id, Gathered(item.product, [], []))
                kept.series.append(part)
                kept.statements.append(stated[item.product.id])
                rules[stated[item.product.id].key] = item.product

    for interval in closed(folder, problems):
        take(interval)
    if not found:
        raise BillingError("no interval was settled in the time asked; `flyball journal` says what the run holds")
    bill = prepared.files.bill([item for one in found.values() for item in one.statements], rules)
    return {name: _page(one, bill) for name, one in found.items()}


def _page(one: Gathered, bill: Invoice | None) -> str:
    money = None if bill is None else money_of(bill, one.product, one.statements)
    return page(one.product, joined(one.series), one.statements, money)


def money_of(bill: Invoice, product: Product, statements: Iterable[Statement]) -> Money:
    """The bill's lines of one product by interval: what was earned, and what was taken."""
    spans = {item.key: (item.start_ns, item.end_ns) for item in statements}
    earned = dict.fromkeys(spans, Decimal(0))
    taken = dict.fromkeys(spans, Decimal(0))
    currency, marks = product.market.currency, set()
    for item in bill.items:
        if item.product != product.id or item.key not in spans:
            continue
        currency = item.line.currency
        (earned if item.line.amount >= 0 else taken)[item.key] += item.line.amount
        marks.add(item.line.mark)
    rows = [(*spans[key], earned[key], taken[key]) for key in spans]
    notes = [*bill.notes, *(["some of the rules are from memory [M]: parameters, no claim"] if "M" in marks else [])]
    return Money(currency, rows, notes)


def _within(closed: Closed, asked: Asked) -> bool:
    early = asked.start_ns is not None and closed.start_ns < asked.start_ns
    late = asked.end_ns is not None and closed.end_ns > asked.end_ns
    return not early and not late
