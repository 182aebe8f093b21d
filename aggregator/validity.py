"""When a product may be sold, and that nothing is sold twice: what is refused before a run or a backtest begins.

Days are those of the market's own zone: a product that begins on 1 October begins at midnight there. Time is passed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from droop.products import Product, ProductDateError, ProductError, check_date

ANY_DATE = "; or give --any-date to run it all the same"


class SoldTwiceError(ProductError):
    """The same product stands in two contracts over the same time."""


def local_day(product: Product, t_ns: int) -> date:
    """The day of the product's market in which an instant lies. Raises ProductError for a zone that there is not."""
    try:
        zone = ZoneInfo(product.market.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ProductError(
            f"product `{product.id}`: field `market.zone` names no zone, {product.market.zone!r}; write Europe/London"
        ) from None
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=t_ns // 1000)).astimezone(zone).date()


def check_valid(products: Iterable[Product], t_ns: int) -> None:
    """Raises ProductDateError for the first product that its market does not have at an instant."""
    for product in products:
        try:
            check_date(product, local_day(product, t_ns))
        except ProductDateError as error:
            raise ProductDateError(f"{error}{ANY_DATE}") from None


def check_sold_once(products: Sequence[Product]) -> None:
    """Raises SoldTwiceError for a product in two contracts: nobody could say whose delivery it was."""
    twice = [name for name, count in Counter(product.id for product in products).items() if count > 1]
    if twice:
        raise SoldTwiceError(
            f"`contract.product`: `{twice[0]}` is sold by {sum(p.id == twice[0] for p in products)} contracts over the "
            "same time; make it one, with the sum as `sold_kw`"
        )
