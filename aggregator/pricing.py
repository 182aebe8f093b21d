"""What a live line earns: each interval that is sealed is priced by a file, which is read anew whenever it changes.

Policy where a price is missing, or the file cannot be used: the interval waits, counted, with the reason, and is tried
again when the file has changed; the oldest give way beyond WAITING_MAX, and `flyball settle --prices` can still bill
and seal them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from aggregator import pricefile
from aggregator.pricefile import TableFileError
from droop.products import Product
from settlement import money
from settlement.calendar import CalendarError
from settlement.invoice import BLOCK, InvoiceError, place
from settlement.payment.lines import PaymentError
from settlement.prices import PriceError
from settlement.statement import Statement

WAITING_MAX: Final = 1000
UNPRICED: Final = (TableFileError, PriceError, PaymentError, InvoiceError, CalendarError, OSError)


class _Wanted(NamedTuple):
    """Statements of an interval with their products, and the file's state when they were last tried."""

    statements: tuple[Statement, ...]
    rules: Mapping[str, Product]
    tried: tuple[int, int]


class Pricer:
    """Makes the `price` records of a line.

    path   : file of prices, see `aggregator.pricefile`
    finals : every final statement by key, of several revisions the newest: what is billed, and whose block a quality
             factor goes by
    """

    def __init__(self, path: Path, finals: Callable[[], Mapping[str, Statement]] = dict) -> None:
        self.finals = finals
        self.why = ""  # what the last one that waits waits for
        self.dropped = 0
        self._path = path
        self._waiting: deque[_Wanted] = deque()

    @property
    def waiting(self) -> int:
        """Intervals without a price."""
        return len(self._waiting)

    def take(self, statements: Iterable[Statement], rules: Mapping[str, Product]) -> None:
        """Statements that are sealed, or about to be."""
        if len(self._waiting) >= WAITING_MAX:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(_Wanted(tuple(statements), rules, (0, 0)))

    def due(self, sealed: Collection[str]) -> Iterator[dict[str, Any]]:
        """The records that can be made now, each done with once the next is asked for. sealed : keys of statements"""
        stamp = self._stamp()
        for _ in range(len(self._waiting)):
            wanted = self._waiting[0]
            data = None if wanted.tried == stamp else self._priced(wanted, sealed)
            if data is not None and data["statements"]:
                yield data
            self._waiting.popleft()
            if data is None:
                self._waiting.append(wanted._replace(tried=stamp))
        if not self._waiting:
            self.why = ""

    def _priced(self, wanted: _Wanted, sealed: Collection[str]) -> dict[str, Any] | None:
        newest = self.finals()
        own = {item.key: newest.get(item.key, item) for item in wanted.statements if item.key in sealed}
        if not own:
            return {"statements": []}  # what could not be sealed has nothing to be priced
        rules = dict(wanted.rules)
        for item in tuple(own.values()):
            if rules[item.key].score.get("k_scope") == BLOCK:
                for mate in self._mates(item, rules[item.key], sealed):
                    rules.setdefault(mate.key, rules[item.key])
                    own.setdefault(mate.key, mate)
        try:
            book, _ = pricefile.prices(self._path, {product.id: product for product in rules.values()})
            return money.plain(sorted(own.values(), key=lambda item: (item.start_ns, item.product)), rules, book)
        except UNPRICED as error:
            self.why = " ".join(str(error).split())
            return None

    def _mates(self, item: Statement, product: Product, sealed: Collection[str]) -> Iterator[Statement]:
        """What else of the block is final: the worst of them decides."""
        for other in self.finals().values():
            if other.product == item.product and other.key in sealed and place(other, product) == place(item, product):
                yield other

    def _stamp(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (-1, -1)
        return found.st_mtime_ns, found.st_size
