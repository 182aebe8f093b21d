"""Statements, prices and contracts into a bill: a line for each thing paid, in its interval, block and day.

Pure: the same records give the same bill. An interval is cut where a contract or a price begins or ends, pro rata to
the nanosecond; its score is that of the whole interval. Each line is rounded to the cent where it stands, and every
total is the sum of its lines: a bill of two disjoint sets of intervals is the two bills together, to the cent. What
that rounding did to a block is shown beside the block (`Total.exact`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Final, NamedTuple

from droop.products import Product
from settlement import calendar, payment
from settlement.align import NS
from settlement.payment import Case
from settlement.payment.lines import Line, PaymentError, cents, decimal, exact
from settlement.prices import PriceBook
from settlement.sales import Sale, Sales
from settlement.statement import Statement, iso

DAY: Final = "day"
BLOCK: Final = "block"
ERROR: Final = "error_frac"  # what a score calls the error that a quality factor goes by
SCOPES: Final = ("sp", BLOCK)  # whose error a quality factor goes by


class InvoiceError(ValueError):
    """Records that cannot be billed; the message names the interval and the remedy."""


class Item(NamedTuple):
    """A line in its place.

    key        : of the statement it rests on; final : whether that statement is
    day, block : of the market; period : settlement period from local midnight
    """

    key: str
    product: str
    day: str
    block: str
    period: int
    start_ns: int
    end_ns: int
    final: bool
    line: Line


class Total(NamedTuple):
    """A sum of lines in one currency. exact : before rounding, to a millionth"""

    product: str
    day: str
    block: str
    currency: str
    earned: Decimal
    charged: Decimal
    amount: Decimal
    exact: Decimal


@dataclass(frozen=True)
class Invoice:
    """The lines in order of time and product; keys of the final statements billed, those that earn nothing included."""

    items: tuple[Item, ...]
    settled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def totals(self, *by: str) -> tuple[Total, ...]:
        """Sums by product and currency, and by day and block where asked; never over currencies."""
        groups: dict[tuple[str, str, str, str], list[Line]] = {}
        for item in self.items:
            key = (item.product, item.day if by else "", item.block if BLOCK in by else "", item.line.currency)
            groups.setdefault(key, []).append(item.line)
        return tuple(_total(*key, lines) for key, lines in groups.items())


class _Priced(NamedTuple):
    """What all intervals are billed with."""

    products: Mapping[str, Product]
    rules: Mapping[str, Product]
    prices: PriceBook
    sales: Sales | None
    worst: Mapping[tuple[str, str, str], Fraction]


def bill(
    statements: Iterable[Statement], products: Mapping[str, Product], prices: PriceBook, sales: Sales | None = None,
    rules: Mapping[str, Product] | None = None,
) -> Invoice:  # fmt: skip
    """The bill. Without contracts of its own each statement's power sold counts, from its start to where it got.

    products : by id
    rules    : by statement key, the product as it was in force then; `products` has those of the rest

    Of several statements with one key the newest revision counts, else the last.
    Raises PriceError, PaymentError, SaleError, InvoiceError, CalendarError.
    """
    latest: dict[str, Statement] = {}
    for item in statements:
        if item.key not in latest or item.revision >= latest[item.key].revision:
            latest[item.key] = item
    ordered = sorted(latest.values(), key=lambda item: (item.start_ns, item.product))
    for name in sorted({item.product for item in ordered}):
        if name not in products:
            raise InvoiceError(f"statements are of product `{name}`, whose rules are not at hand; name its file")
        if sales is not None:
            sales.check(products[name])
    rules = {item.key: (rules or {}).get(item.key, products[item.product]) for item in ordered}
    for product in {id(product): product for product in rules.values()}.values():
        prices.check(product)
    priced = _Priced(products, rules, prices, sales, _worst(ordered, rules))
    items: list[Item] = []
    notes: list[str] = []
    for statement in ordered:
        items += _items(statement, priced, notes)
    notes += _unstated(ordered, products, sales)
    settled = tuple(statement.key for statement in ordered if statement.final)
    return Invoice(tuple(items), settled, tuple(dict.fromkeys(notes)))


def fee(product: Product, count: int, t_ns: int, note: str = "") -> Item:
    """Administrative fees of the product's penalty table, as for allocation messages that came late."""
    each = product.penalty.get("admin_eur")
    if each is None:
        raise InvoiceError(f"{product.id}: field `penalty.admin_eur` is not set; there is no fee to charge")
    (line,) = payment.europe.admin_fee(each, count, note=note)
    return _item(f"{t_ns}:{product.id}:fee", product, t_ns, t_ns, True, line)


def _items(statement: Statement, priced: _Priced, notes: list[str]) -> Iterator[Item]:
    product = priced.rules[statement.key]
    for sale in _sold(statement, priced.sales, notes):
        for start_ns, end_ns in pairwise(_cuts(sale, product, priced.prices)):
            case = _case(statement, sale, start_ns, end_ns, product, priced)
            for line in (*payment.pay(case), *payment.charge(case)):
                yield _item(statement.key, product, start_ns, end_ns, statement.final, line)


def _item(key: str, product: Product, start_ns: int, end_ns: int, final: bool, line: Line) -> Item:
    block = _block(product, start_ns)
    day = calendar.day_of(start_ns, product.market).isoformat()
    _, period = calendar.period(start_ns, product.market, product.interval_s)
    return Item(key, product.id, day, block.name, period, start_ns, end_ns, final, line)


def _sold(statement: Statement, sales: Sales | None, notes: list[str]) -> list[Sale]:
    """The contracts in an interval, as far as it is settled."""
    start_ns, until_ns = statement.start_ns, statement.until_ns
    own = exact(statement.sold_kw, "sold_kw")
    if not statement.final:
        notes.append(f"{statement.key}: not final, billed until {iso(until_ns)}")
    if sales is None:
        return [Sale(statement.product, start_ns, until_ns, own)] if until_ns > start_ns else []
    found = sales.within(statement.product, start_ns, until_ns)
    covered = sum(sale.end_ns - sale.start_ns for sale in found)
    if found and covered < until_ns - start_ns:
        notes.append(f"{statement.key}: {covered / (until_ns - start_ns):.1%} of it is under contract; "
                     "the score is that of the whole interval")  # fmt: skip
    for sale in found:
        if sale.sold_kw > own:
            notes.append(f"{statement.key}: {float(sale.sold_kw):g} kW under contract, {float(own):g} kW were held; "
                         "the rest counts as not available")  # fmt: skip
    return found


def _unstated(ordered: list[Statement], products: Mapping[str, Product], sales: Sales | None) -> Iterator[str]:
    """Contracts between the first statement and the last for whose time there is none: nobody may overlook them."""
    if sales is None or not ordered:
        return
    first_ns, last_ns = ordered[0].start_ns, max(item.until_ns for item in ordered)
    for name in sales.products:
        if name not in products:
            continue
        own = [item for item in ordered if item.product == name]
        due_ns = sum(sale.end_ns - sale.start_ns for sale in sales.within(name, first_ns, last_ns))
        stated_ns = sum(
            sale.end_ns - sale.start_ns for item in own for sale in sales.within(name, item.start_ns, item.until_ns)
        )
        if due_ns > stated_ns:
            yield (f"{name}: {(due_ns - stated_ns) / NS:g} s under contract between {iso(first_ns)} and {iso(last_ns)} "
                   "have no statement; nothing was earned or charged for them")  # fmt: skip


def _cuts(sale: Sale, product: Product, prices: PriceBook) -> list[int]:
    """Where a price or a block changes within a contract, its ends included."""
    cuts = {sale.start_ns, sale.end_ns, *prices.edges(product.id, sale.start_ns, sale.end_ns)}
    edge = _block(product, sale.start_ns).end_ns
    while edge < sale.end_ns:
        cuts.add(edge)
        edge = _block(product, edge).end_ns
    return sorted(cuts)


def _block(product: Product, t_ns: int) -> calendar.Block:
    return calendar.block_at(t_ns, product.market, product.market.block_s or product.interval_s)


def _case(
    statement: Statement, sale: Sale, start_ns: int, end_ns: int, product: Product, priced: _Priced
) -> Case:  # fmt: skip
    """The numbers that a rule pays for. Energy and mileage of the interval are shared out by time."""
    part = Fraction(end_ns - start_ns, statement.until_ns - statement.start_ns)
    available, why = _available(statement, sale)
    score = None if statement.score is None else exact(statement.score, "score")
    size = sale.sold_kw / exact(statement.sold_kw) if statement.sold_kw > 0 else Fraction(0)
    return Case(
        product=product,
        start_ns=start_ns,
        end_ns=end_ns,
        sold_kw=sale.sold_kw,
        available=available,
        why=why,
        score=score,
        score_note=statement.score_note,
        mileage=exact(statement.mileage, "mileage") * part,
        up_kwh=exact(statement.delivered_up_kwh, "delivered_up_kwh") * part,
        down_kwh=exact(statement.delivered_down_kwh, "delivered_down_kwh") * part,
        error=_error(statement, product, priced.worst),
        missing_kw=_missing_kw(statement) * size,
        kpis=statement.kpis,
        prices=priced.prices,
    )


def _available(statement: Statement, sale: Sale) -> tuple[Fraction, str]:
    """Share of the time and of the power that was there: what cannot be shown was not available."""
    judged = statement.kpis.get("available_frac")
    known = statement.coverage_frac if judged is None else judged
    held = min(Fraction(1), exact(statement.sold_kw) / sale.sold_kw) if sale.sold_kw else Fraction(1)
    # A covered share one rounding error above or below 1 is all of it.
    found = min(Fraction(1), round(exact(known, "available_frac"), 9)) * held
    by = "coverage of the records" if judged is None else "the product's rule"
    return found, f"available {float(found):.4%}, by {by}"


def _missing_kw(statement: Statement) -> Fraction:
    """Largest response missing, of an interval whose response was not adequate."""
    if statement.kpis.get("adequate") is not False:
        return Fraction(0)
    return exact(float(statement.kpis.get("under_max_kw") or 0.0), "under_max_kw")


def _error(
    statement: Statement, product: Product, worst: Mapping[tuple[str, str, str], Fraction]
) -> Fraction | None:  # fmt: skip
    """Error that a quality factor goes by: the interval's own, or the worst of its block (`k_scope`)."""
    own, scope = statement.kpis.get(ERROR), product.score.get("k_scope", SCOPES[0])
    if scope not in SCOPES:
        raise PaymentError(f"{product.id}: field `score.k_scope` takes one of {', '.join(SCOPES)}, not {scope!r}")
    if own is None or scope == SCOPES[0]:
        return None if own is None else exact(float(own), "error")
    return worst[place(statement, product)]


def _worst(
    statements: Iterable[Statement], rules: Mapping[str, Product]
) -> dict[tuple[str, str, str], Fraction]:  # fmt: skip
    """The largest error of each block."""
    found: dict[tuple[str, str, str], Fraction] = {}
    for statement in statements:
        own = statement.kpis.get(ERROR)
        if own is not None:
            at = place(statement, rules[statement.key])
            found[at] = max(found.get(at, Fraction(0)), exact(float(own), "error"))
    return found


def place(statement: Statement, product: Product) -> tuple[str, str, str]:
    """(product, day, block) that a statement is in."""
    day = calendar.day_of(statement.start_ns, product.market).isoformat()
    return product.id, day, _block(product, statement.start_ns).name


def _total(product: str, day: str, block: str, currency: str, lines: list[Line]) -> Total:
    amounts = [Fraction(line.amount) for line in lines]
    earned, charged = sum(a for a in amounts if a > 0), sum(a for a in amounts if a < 0)
    before = sum((line.exact for line in lines), Fraction(0))
    return Total(
        product, day, block, currency, cents(Fraction(earned)), cents(Fraction(charged)),
        cents(Fraction(earned + charged)), decimal(before, 6),
    )  # fmt: skip
