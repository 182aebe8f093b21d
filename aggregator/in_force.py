"""Which contracts an interval is settled by, where they change between intervals or within one.

An interval that is over keeps the contracts it was served under, however long its meters or its sequel are awaited. One
that is running is settled by what was sold at any time in it, the larger where it changed: no restart takes back what
was promised. What begins within RESTART_S of an interval's start, when nothing was served in it yet, is sold for all
of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from aggregator.contracts import Contract
from settlement import baselines, interval
from settlement.align import NS
from settlement.interval import Sold

RESTART_S: Final = 60  # that a worker may take from one block's contracts to the next one's


class Ahead(NamedTuple):
    """Contracts of a run that began at `at_ns`, when the run before it had last been heard at `served_ns`."""

    at_ns: int
    served_ns: int
    sold: list[Sold]
    restarted: bool


class InForce:
    """The contracts of the running interval and of those to come.

    sold   : in the running interval
    tail_s : how long its scores await a sequel
    """

    def __init__(self, length_ns: int) -> None:
        self.sold: list[Sold] = []
        self.tail_s = interval.tail_s([])
        self._length_ns = length_ns
        self._ahead: deque[Ahead] = deque()  # of intervals to come
        self._after: list[Sold] | None = None  # what is sold once the running interval is over, where it changed

    def add(self, contracts: Sequence[Contract], at_ns: int, served_ns: int, *, restarted: bool) -> None:
        """Contracts from `at_ns` on. served_ns : when the book was last fed; restarted : a worker began with them"""
        self._ahead.append(Ahead(at_ns, served_ns, _sold(contracts), restarted))

    def over(self) -> None:
        """The running interval is over."""
        if self._after is not None:
            self.sold, self._after = self._after, None

    def turn(self, start_ns: int | None) -> list[str]:
        """Contracts that the running interval has reached, and what is to be said of it.

        start_ns : of the running interval; None before the first
        """
        notes: list[str] = []
        end_ns = None if start_ns is None else start_ns + self._length_ns
        while self._ahead and (end_ns is None or self._ahead[0].at_ns < end_ns):
            at_ns, served_ns, sold, restarted = self._ahead.popleft()
            within = start_ns is not None and (served_ns >= start_ns or at_ns - start_ns > RESTART_S * NS)
            if restarted and within:
                notes.append("worker restarted within the interval")
            if within and self.sold and sorted(map(_named, self.sold)) != sorted(map(_named, sold)):
                notes.append("contracts changed within the interval; settled by the larger")
                self._after, sold = sold, _larger(self.sold, sold)
            elif self._after is not None:
                self._after = sold if within else None
            self.sold = sold
        self.tail_s = interval.tail_s(self.sold)
        return notes


def _sold(contracts: Sequence[Contract]) -> list[Sold]:
    """Contracts of one product as one."""
    sold: dict[str, Sold] = {}
    for item in contracts:
        before = sold.get(item.product.id)
        sold[item.product.id] = Sold(item.product, item.sold_kw + (before.sold_kw if before else 0.0))
    return list(sold.values())


def _named(item: Sold) -> tuple[str, float]:
    return item.product.id, item.sold_kw


def _larger(before: list[Sold], after: list[Sold]) -> list[Sold]:
    """Of each product what was sold at any time; only the earlier where the two cannot be settled together."""
    found = {item.product.id: item for item in before}
    for item in after:
        old = found.get(item.product.id)
        found[item.product.id] = item if old is None or item.sold_kw > old.sold_kw else old
    if len(found) > 1 and any(baselines.method(item.product) != "schedule" for item in found.values()):
        return before
    return list(found.values())
