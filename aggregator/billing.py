"""A recorded run into statements and a bill: the journal's own products and contracts, files of prices and contracts.

Composes `aggregator.settle`, `aggregator.pricefile` and `settlement.invoice`; writes nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aggregator import contracts, journal_reader, pricefile
from aggregator.journal import Kind, Problem
from aggregator.resettled import closed
from droop.products import Product
from settlement import invoice
from settlement.invoice import BLOCK, DAY, Invoice, Total
from settlement.prices import PriceBook
from settlement.sales import Sales
from settlement.statement import Statement, iso


class BillingError(ValueError):
    """A run that cannot be billed as asked; the message names the option and the remedy."""


class Asked(NamedTuple):
    """What of a run is to be settled, and by which files. start_ns, end_ns : whole intervals within; None: all"""

    prices: Path | None = None
    contracts: Path | None = None
    products: tuple[str, ...] = ()
    start_ns: int | None = None
    end_ns: int | None = None
    late_messages: int = 0


def products_of(folder: Path) -> dict[str, Product]:
    """Every product that a journal's runs sold, as its own record has it; the newest of each id."""
    found: dict[str, Product] = {}
    for entry in journal_reader.entries(folder, {Kind.START}):
        if entry.kind is Kind.START:
            settings = contracts.from_json(entry.payload)
            found |= {item.product.id: item.product for item in settings.contracts}
    return found


class Files:
    """Prices and contracts that are asked for, read and checked."""

    def __init__(self, asked: Asked, products: Mapping[str, Product]) -> None:
        self._products, self._late = dict(products), asked.late_messages
        self.prices: PriceBook | None = None
        self.sales: Sales | None = None
        self._notes: list[str] = []
        if asked.prices is None:
            if asked.contracts is not None or asked.late_messages:
                raise BillingError("--contracts and --late-messages go with --prices; name a file of prices")
            return
        self.prices, leaps = pricefile.prices(asked.prices, products)
        for name in products:
            if name not in self.prices.products:
                raise BillingError(f"{asked.prices}: no price of {name}, which was sold; add its rows")
        if asked.contracts is not None:
            self.sales, more = pricefile.sales(asked.contracts, products)
            leaps += more
        if leaps:
            self._notes.append(f"{leaps} leap-second stamps counted as the second after them")

    def bill(self, statements: Sequence[Statement], rules: Mapping[str, Product] | None = None) -> Invoice | None:
        """The statements' bill; None where no prices were asked for. rules : `Settled.rules`"""
        if self.prices is None:
            return None
        found = invoice.bill(statements, self._products, self.prices, self.sales, rules)
        fees = tuple(self._fees(statements))
        settled = (*found.settled, *(item.key for item in fees))
        return Invoice((*found.items, *fees), settled, (*self._notes, *found.notes))

    def _fees(self, statements: Sequence[Statement]) -> list[invoice.Item]:
        if not self._late:
            return []
        charging = [item for item in self._products.values() if "admin_eur" in item.penalty]
        if len(charging) != 1:
            raise BillingError(f"--late-messages: {len(charging)} of the products have a `penalty.admin_eur`; "
                               "choose the one with --product")  # fmt: skip
        first_ns = min(item.start_ns for item in statements)
        return [invoice.fee(charging[0], self._late, first_ns, "allocation messages that came late")]


class Settled(NamedTuple):
    """Statements, every product the run sold, and the statements' bill where there were prices.

    rules : statement key -> the product as it was in force then; files : what they were billed by
    """

    statements: list[Statement]
    products: dict[str, Product]
    bill: Invoice | None
    rules: dict[str, Product]
    files: Files

    @property
    def corrected(self) -> int:
        """Intervals that were settled more than once; each statement says how often."""
        return sum(item.revision > 0 for item in self.statements)


class Prepared(NamedTuple):
    """What a run sold, what of it is wanted, and the files to bill it by."""

    known: dict[str, Product]
    wanted: dict[str, Product]
    files: Files


def prepare(folder: Path, asked: Asked) -> Prepared:
    """Read the files and hold them against the journal: what is wrong in them is said before the work."""
    known = products_of(folder)
    for name in asked.products:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"it sold: {', '.join(known) or 'nothing'}"
            raise BillingError(f"--product {name}: the run did not sell it; {hint}")
    wanted = {name: item for name, item in known.items() if not asked.products or name in asked.products}
    return Prepared(known, wanted, Files(asked, wanted))


def settle(folder: Path, asked: Asked, problems: list[Problem], prepared: Prepared | None = None) -> Settled:
    """Settle a journal's folder and price it."""
    prepared = prepared or prepare(folder, asked)
    statements: list[Statement] = []
    rules: dict[str, Product] = {}
    for interval in closed(folder, problems):
        own = {item.product.id: item.product for item in interval.sold}
        kept = [item for item in interval.statements if _within(item, asked, prepared.wanted)]
        statements += kept
        rules |= {item.key: own[item.product] for item in kept}
    if not statements:
        raise BillingError("no interval was settled in the time asked; `flyball journal` says what the run holds")
    return Settled(statements, prepared.known, prepared.files.bill(statements, rules), rules, prepared.files)


def _within(item: Statement, asked: Asked, wanted: Mapping[str, Product]) -> bool:
    early = asked.start_ns is not None and item.start_ns < asked.start_ns
    late = asked.end_ns is not None and item.end_ns > asked.end_ns
    return item.product in wanted and not early and not late


def line_rows(bill: Invoice) -> list[dict[str, Any]]:
    """The bill's lines as rows; figures as decimals, times in ISO 8601."""
    rows = []
    for item in bill.items:
        plain = item._asdict()
        line = plain.pop("line")._asdict()
        line.pop("exact")
        rows.append(plain | {"start": iso(plain.pop("start_ns")), "end": iso(plain.pop("end_ns"))} | line)
    return rows


def total_rows(bill: Invoice) -> list[dict[str, Any]]:
    """Sums by block, then by day, then of all; `day` and `block` are empty where they are summed over."""
    found: tuple[Total, ...] = (*bill.totals(DAY, BLOCK), *bill.totals(DAY), *bill.totals())
    return [total._asdict() for total in found]


def summary(bill: Invoice) -> dict[str, Any]:
    """What a result says of income: by product and currency, amounts as texts that keep their cents."""
    totals = [
        {name: value for name, value in total._asdict().items() if name not in ("day", "block", "exact")}
        for total in bill.totals()
    ]
    rows = [{name: str(value) for name, value in total.items()} for total in totals]
    marks = sorted({item.line.mark for item in bill.items})
    return {"totals": rows, "lines": len(bill.items), "marks": marks, "notes": list(bill.notes)}
