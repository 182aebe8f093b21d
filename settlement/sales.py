"""What was sold when: contracts by product and time, checked for overlap, cut to the time asked.

This file knows contracts as numbers: no price, no statement. A bid must begin on the market's grid and within the time
in which the product's rules hold; two contracts of one product over the same time are refused, because nobody could
say which of them counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from droop.products import Product
from settlement import calendar
from settlement.align import NS
from settlement.payment.lines import KW_PER_MW, exact
from settlement.statement import iso


class SaleError(ValueError):
    """A contract or bid that cannot stand; the message names the product, the time and the remedy."""


class Sale(NamedTuple):
    """Power sold of a product over [start_ns, end_ns)."""

    product: str
    start_ns: int
    end_ns: int
    sold_kw: Fraction


class Sales:
    """Contracts, in order. Raises SaleError where one says nothing or two overlap."""

    def __init__(self, rows: Iterable[Sale]) -> None:
        self._rows: dict[str, list[Sale]] = {}
        for row in rows:
            if row.end_ns <= row.start_ns:
                raise SaleError(f"{_what(row)}: field `end` must lie after `start`")
            if row.sold_kw < 0:
                raise SaleError(f"{_what(row)}: field `sold_kw` takes a power of 0 or more, not {float(row.sold_kw)}")
            self._rows.setdefault(row.product, []).append(row)
        for found in self._rows.values():
            found.sort(key=lambda row: row.start_ns)
            for one, other in pairwise(found):
                if other.start_ns < one.end_ns:
                    raise SaleError(
                        f"{_what(one)}: overlaps the one from {iso(other.start_ns)} until "
                        f"{iso(min(one.end_ns, other.end_ns))}; end one before the other begins, or add them up"
                    )

    @property
    def products(self) -> tuple[str, ...]:
        """Products sold."""
        return tuple(sorted(self._rows))

    def within(self, product: str, start_ns: int, end_ns: int) -> list[Sale]:
        """The contracts that touch [start, end), cut to it, to the nanosecond."""
        touched = [row for row in self._rows.get(product, []) if row.start_ns < end_ns and row.end_ns > start_ns]
        return [row._replace(start_ns=max(row.start_ns, start_ns), end_ns=min(row.end_ns, end_ns)) for row in touched]

    def check(self, product: Product) -> None:
        """Hold every contract of a product against the time in which its rules hold."""
        for row in self._rows.get(product.id, []):
            _valid(product, row.start_ns)
            _valid(product, row.end_ns - 1)


def check_bid(product: Product, start_ns: int, kw: float | Fraction) -> None:
    """Raises SaleError for a bid that the market would refuse: off its grid, too small, or under other rules (S-4f)."""
    market = product.market
    _valid(product, start_ns)
    block = calendar.block_at(start_ns, market, market.block_s or product.interval_s)
    if start_ns != block.start_ns:
        raise SaleError(
            f"{product.id}: {iso(start_ns)} lies within the block {block.name}; begin at {iso(block.start_ns)} "
            f"or {iso(block.end_ns)}"
        )
    sold_kw, least_kw, step_kw = exact(kw, "sold_kw"), exact(market.min_kw), exact(market.step_kw)
    if sold_kw < least_kw:
        raise SaleError(f"{product.id}: {float(sold_kw):g} kW, the smallest bid is {market.min_kw:g} kW")
    if step_kw and sold_kw % step_kw:
        raise SaleError(f"{product.id}: {float(sold_kw):g} kW is not in steps of {market.step_kw:g} kW")


def _valid(product: Product, t_ns: int) -> None:
    """The product's rules hold from the first of its dates on, and no longer on the second, in local time."""
    on = calendar.local(t_ns, product.market.zone).date()
    first, last = (
        date.fromisoformat(text) if text else None for text in (product.effective_from, product.effective_to)
    )
    if (first and on < first) or (last and on >= last):
        raise SaleError(
            f"{product.id}: {iso(t_ns - t_ns % NS)} lies outside its validity, {first or '...'} to before "
            f"{last or '...'}; choose the product whose rules hold then"
        )


def _what(row: Sale) -> str:
    return f"contract for {float(row.sold_kw / KW_PER_MW):g} MW of {row.product} from {iso(row.start_ns)}"
