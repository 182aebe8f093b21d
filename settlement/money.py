"""Money as it is sealed: the prices and contracts of a bill and its lines, so that others can compute each line again.

Pure: a `price` record's data in and out. A record stands for itself: with the statements it names, sealed before it,
it has all that its lines rest on. Of several records about a statement the newest counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, NamedTuple

from droop.products import Product
from settlement import invoice
from settlement.calendar import CalendarError
from settlement.entries import posted
from settlement.invoice import InvoiceError, Item
from settlement.payment.lines import PaymentError
from settlement.prices import Price, PriceBook, PriceError
from settlement.sales import Sale, SaleError, Sales
from settlement.statement import Statement

FIELDS = ("start_ns", "end_ns", "statements", "prices", "contracts", "lines")
WRONG = (
    PriceError, PaymentError, SaleError, InvoiceError, CalendarError, InvalidOperation, KeyError, TypeError, ValueError,
    ZeroDivisionError,
)  # fmt: skip


class Difference(NamedTuple):
    """A sealed line of money that its statement and its prices do not give. where : of which statement"""

    where: str
    field: str
    stated: Any
    found: Any


def plain(
    statements: Sequence[Statement], rules: Mapping[str, Product], prices: PriceBook, sales: Sales | None = None
) -> dict[str, Any]:
    """The data of a `price` record. rules : statement key -> the product in force

    Raises what `invoice.bill` raises.
    """
    start_ns, end_ns = min(item.start_ns for item in statements), max(item.until_ns for item in statements)
    names = sorted({item.product for item in statements})
    rows = [row for name in names for row in prices.touching(name, start_ns, end_ns)]
    sold = None if sales is None else [row for name in names for row in sales.within(name, start_ns, end_ns)]
    return {
        "start_ns": start_ns, "end_ns": end_ns,
        "statements": [{"key": item.key, "revision": item.revision} for item in statements],
        "prices": [row._asdict() | {"price": format(row.price, "f")} for row in rows],
        "contracts": None if sold is None else [row._asdict() | {"sold_kw": str(row.sold_kw)} for row in sold],
        "lines": _lines(_items(statements, rules, prices, sales)),
    }  # fmt: skip


def differences(
    data: Mapping[str, Any], stated: Mapping[str, Statement], rules: Mapping[str, Product]
) -> list[Difference]:
    """What computing a record's lines again gives otherwise; the first field of each line.

    stated : the newest sealed statement of each key that the record names; rules : the product in force
    """
    for name in FIELDS:
        if name not in data:
            return [Difference("price", name, None, "a list")]
    for named in data["statements"]:
        if stated[named["key"]].revision != named["revision"]:
            return [Difference(named["key"], "revision", named["revision"], stated[named["key"]].revision)]
    statements = [stated[named["key"]] for named in data["statements"]]
    try:
        prices = PriceBook(Price(**(row | {"price": Decimal(row["price"])})) for row in data["prices"])
        sold = data["contracts"]
        sales = None if sold is None else Sales(Sale(**(r | {"sold_kw": Fraction(r["sold_kw"])})) for r in sold)
        again = _lines(_items(statements, rules, prices, sales))
    except WRONG as error:
        return [Difference("price", "prices", str(error), None)]
    if len(again) != len(data["lines"]):
        return [Difference("price", "lines", len(data["lines"]), len(again))]
    found = []
    for line, right in zip(data["lines"], again, strict=True):
        wrong = next((name for name in sorted(right.keys() | line.keys()) if line.get(name) != right.get(name)), None)
        if wrong is not None:
            found.append(Difference(right["key"], wrong, line.get(wrong), right.get(wrong)))
    return found


def _items(
    statements: Sequence[Statement], rules: Mapping[str, Product], prices: PriceBook, sales: Sales | None
) -> tuple[Item, ...]:
    products = {item.product: rules[item.key] for item in statements}
    return invoice.bill(statements, products, prices, sales, rules).items


def _lines(items: Sequence[Item]) -> list[dict[str, Any]]:
    return [
        {"key": item.key, "product": item.product, "day": item.day, "block": item.block, "period": item.period}
        | posted(item)._asdict()
        for item in items
    ]
