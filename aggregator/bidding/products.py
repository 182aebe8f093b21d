"""What is bid: one product, or several sold together in fixed proportions, as one row of needs and one calendar.

Products sold together share the fleet, so their needs add up (`droop.entitlement.together`): one kW of the bundle is
one kW of its first product. All must be sold in the same blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from droop.capability import Needs
from droop.entitlement import needs, together
from droop.offers import ONE_WAY_H, assumed
from droop.products import Product, check_date
from droop.promises import Market
from settlement import calendar
from settlement.align import NS
from settlement.calendar import Block


class BidError(ValueError):
    """A bid that cannot be made; one line that names the field and the remedy."""


class TooLittle(BidError):
    """A history too short to learn from."""


@dataclass(frozen=True)
class Bundle:
    """Products and how much of each goes with one kW of the first."""

    products: tuple[Product, ...]
    ratios: tuple[float, ...]

    @property
    def market(self) -> Market:
        """The calendar, of the first."""
        return self.products[0].market

    @property
    def block_s(self) -> int:
        """Length of a block of sale [s]."""
        return self.market.block_s or self.products[0].interval_s

    @property
    def slice_s(self) -> int:
        """Length of what availability is looked at in: the settlement interval, never longer than a block [s]."""
        return min(self.products[0].interval_s, self.block_s)

    @property
    def needs(self) -> Needs:
        """What one kW of the bundle takes; see `assumption`."""
        return self._sized()[0]

    @property
    def one_way_needs(self) -> Needs | None:
        """Of vehicles that only charge, where the rules tell them apart: Nordic FCR-D down (rulebook 3.6, 10)."""
        rules = [product.reservoir for product in self.products]
        if not all(p.direction == "down" for p in self.products) or any(r is None or r.nem is None for r in rules):
            return None
        return Needs(0.0, sum(self.ratios), 0.0, ONE_WAY_H * sum(self.ratios))

    @property
    def assumption(self) -> str:
        """What had to be assumed where the products state no energy need; empty: nothing."""
        return self._sized()[1]

    @property
    def within_s(self) -> float:
        """Dead time above which a charger counts nothing: no product's full activation may be slower [s]."""
        return min((product.full_s for product in self.products if product.full_s > 0.0), default=float("inf"))

    @property
    def name(self) -> str:
        """As people call it."""
        return " + ".join(product.id for product in self.products)

    @property
    def key(self) -> str:
        """What a history of availability is of."""
        return "+".join(f"{p.id}:{ratio:g}" for p, ratio in zip(self.products, self.ratios, strict=True))

    def _sized(self) -> tuple[Needs, str]:
        rows = [
            Needs(*(ratio * need for need in needs(product)))
            for product, ratio in zip(self.products, self.ratios, strict=True)
        ]
        return assumed(together(*rows))

    def blocks(self, day: date) -> tuple[Block, ...]:
        """The blocks of a market's day: its own calendar, with 23 or 25 hours where the clock is moved."""
        return calendar.blocks(day, self.market, self.block_s)

    def block_at(self, t_ns: int) -> Block:
        """The block that a time lies in."""
        return calendar.block_at(t_ns, self.market, self.block_s)

    def place(self, start_ns: int) -> tuple[int, int]:
        """(minute of the local day, weekday of the market's day) of a block's begin: its class."""
        there = calendar.local(start_ns, self.market.zone)
        return there.hour * 60 + there.minute, calendar.day_of(start_ns, self.market).weekday()

    def day_number(self, t_ns: int) -> int:
        """Market's day as a number."""
        return calendar.day_of(t_ns, self.market).toordinal()

    def day_start_ns(self, day: date) -> int:
        """When a market's day begins."""
        return calendar.day(day, self.market).start_ns

    def step_kw(self) -> tuple[float, float]:
        """(step, smallest bid) of the bundle: the coarsest of its products', in kW of the first."""
        rows = [(p.market.step_kw / ratio, p.market.min_kw / ratio)
                for p, ratio in zip(self.products, self.ratios, strict=True) if ratio > 0.0]  # fmt: skip
        return max(step for step, _ in rows), max(least for _, least in rows)

    def check(self, day: date) -> None:
        """Raises ProductDateError for a day on which one of them is not sold."""
        for product in self.products:
            check_date(product, day)


def bundle(products: Sequence[Product], ratios: Sequence[float] | None = None) -> Bundle:
    """Products to be sold together; ratios : kW of each for one of the first, one each where unset.

    Raises BidError where their blocks differ.
    """
    shares = tuple(ratios) if ratios is not None else (1.0,) * len(products)
    found = Bundle(tuple(products), shares)
    for product in products[1:]:
        other = Bundle((product,), (1.0,))
        same = (other.block_s, product.market.zone, product.market.day_start) == (
            found.block_s, found.market.zone, found.market.day_start,
        )  # fmt: skip
        if not same:
            raise BidError(f"--product: {product.id} is sold in other blocks than {products[0].id}; bid each by itself")
    if not all(0.0 < share < float("inf") for share in shares):
        raise BidError("sold_kw: products that are bid together take a number above 0 each; it is their proportion")
    return found


HOUR_NS = 3600 * NS
