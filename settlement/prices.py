"""What a kilowatt was worth: prices by product, kind and time, checked once, looked up by interval.

This file knows prices: no file, no statement. A product may have several prices at a time (a capacity and a mileage
price, say), told apart by `kind`. Prices may be negative. A missing price is an error that names the interval; nothing
is carried over from the interval before.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from droop.products import Product
from settlement.statement import iso

CAPACITY: Final = "capacity"
# A power held for an hour is one and the same, however a market writes it.
SPELT: Final = {"MW/h": "MWh", "MW-h": "MWh", "MW*h": "MWh", "MWh": "MWh", "MW": "MW", "1": "1", "": "1"}


class PriceError(ValueError):
    """Prices that cannot be used; the message names the row or the interval, and the remedy."""


class MissingPriceError(PriceError):
    """No price for an interval that is to be paid."""


class Price(NamedTuple):
    """One price over [start_ns, end_ns).

    kind     : `capacity`, or what else a market's rule pays by (`mileage`, `energy`, `mileage_ratio` ...)
    unit     : e.g. `EUR/MW/h`; `EUR/MW` is for the whole of the row's own time; `1` a bare figure
    currency : ISO 4217; nothing for a bare figure
    """

    start_ns: int
    end_ns: int
    product: str
    price: Decimal
    currency: str
    unit: str
    kind: str = CAPACITY
    source: str = ""

    @property
    def per(self) -> str:
        """What the price is for: `MWh` (power held for an hour, or energy), `MW` or `1`."""
        return unit(self.unit)[1]


@lru_cache(maxsize=256)
def unit(text: str) -> tuple[str, str]:
    """A price's unit as (currency, what it is for). Raises PriceError."""
    plain = text.replace(" ", "").replace("(", "").replace(")", "").replace("·", "*")
    currency, slash, per = plain.partition("/")
    if not slash:
        currency, per = "", plain
    if per not in SPELT or (bool(slash) != (len(currency) == 3 and currency.isalpha() and currency.isupper())):
        raise PriceError(f"field `unit`: `{text}` is not known; write it as EUR/MW/h, EUR/MWh, EUR/MW, or 1")
    return currency, SPELT[per]


class PriceBook:
    """Prices in order, without overlap.

    Raises PriceError for a row that says nothing, contradicts itself, or covers a time twice.
    """

    def __init__(self, rows: Iterable[Price]) -> None:
        self._rows: dict[tuple[str, str], list[Price]] = {}
        for row in rows:
            _check(row)
            self._rows.setdefault((row.product, row.kind), []).append(row)
        for found in self._rows.values():
            found.sort(key=lambda row: row.start_ns)
            for one, other in pairwise(found):
                if other.start_ns < one.end_ns:
                    raise PriceError(
                        f"{_what(one)}: two prices for {_times(other.start_ns, min(one.end_ns, other.end_ns))}; "
                        "keep the one that counts"
                    )
        edges: dict[str, set[int]] = {}
        for (product, _), found in self._rows.items():
            edges.setdefault(product, set()).update(edge for row in found for edge in (row.start_ns, row.end_ns))
        self._edges = {product: sorted(places) for product, places in edges.items()}
        self._starts = {key: [row.start_ns for row in found] for key, found in self._rows.items()}

    def __len__(self) -> int:
        return sum(len(found) for found in self._rows.values())

    @property
    def products(self) -> tuple[str, ...]:
        """Products that have a price."""
        return tuple(sorted({product for product, _ in self._rows}))

    def kinds(self, product: str) -> frozenset[str]:
        """Kinds of price that a product has."""
        return frozenset(kind for name, kind in self._rows if name == product)

    def check(self, product: Product) -> None:
        """Hold a product's prices against its own market: currency, and the unit of its capacity price."""
        market = product.market
        for (name, kind), found in self._rows.items():
            for row in found if name == product.id else ():
                if market.currency and row.currency not in ("", market.currency):
                    raise PriceError(f"{_what(row)}: field `currency` is {row.currency}, {name} is paid in "
                                     f"{market.currency}; convert the prices")  # fmt: skip
                if kind.startswith(CAPACITY) and market.price_unit and row.per != unit(market.price_unit)[1]:
                    raise PriceError(f"{_what(row)}: field `unit` is {row.unit}, {name} is priced in "
                                     f"{market.price_unit}; convert the prices")  # fmt: skip

    def edges(self, product: str, start_ns: int, end_ns: int) -> list[int]:
        """Times within (start, end) at which any price of a product changes."""
        places = self._edges.get(product, [])
        return places[bisect_right(places, start_ns) : bisect_left(places, end_ns)]

    def touching(self, product: str, start_ns: int, end_ns: int) -> list[Price]:
        """Rows of every kind that touch [start, end), by kind and time."""
        return [
            row
            for (name, _), found in sorted(self._rows.items())
            for row in (found if name == product else ())
            if row.start_ns < end_ns and row.end_ns > start_ns
        ]

    def find(self, product: str, kind: str, start_ns: int, end_ns: int) -> Price | None:
        """The price that covers all of [start, end); None where there is none."""
        key = (product, kind)
        place = bisect_right(self._starts.get(key, []), start_ns) - 1
        if place < 0 or self._rows[key][place].end_ns < end_ns:
            return None
        return self._rows[key][place]

    def at(self, product: str, kind: str, start_ns: int, end_ns: int) -> Price:
        """The same; MissingPriceError names the interval where there is none."""
        found = self.find(product, kind, start_ns, end_ns)
        if found is None:
            known = ", ".join(sorted(self.kinds(product))) or "none"
            raise MissingPriceError(
                f"{product}: no `{kind}` price for {_times(start_ns, end_ns)} (kinds there: {known}); "
                "add the row to the prices, or settle a time that they cover"
            )
        return found


def _check(row: Price) -> None:
    if not row.price.is_finite():
        raise PriceError(f"{_what(row)}: field `price` takes a number, not {row.price}")
    if row.end_ns <= row.start_ns:
        raise PriceError(f"{_what(row)}: field `end` must lie after `start`")
    currency, per = unit(row.unit)
    if currency != row.currency:
        raise PriceError(f"{_what(row)}: field `currency` is `{row.currency}`, its unit says `{row.unit}`")
    if not row.product or not row.kind:
        raise PriceError(f"{_what(row)}: fields `product` and `kind` take a text")
    if row.kind.startswith(CAPACITY) and per == "1":
        raise PriceError(f"{_what(row)}: field `unit` of a capacity price takes a currency, e.g. EUR/MW/h")


def _what(row: Price) -> str:
    return f"price of {row.product or '?'} ({row.kind}) from {iso(row.start_ns)}"


def _times(start_ns: int, end_ns: int) -> str:
    return f"{iso(start_ns)} .. {iso(end_ns)}"
