"""Files of prices and of contracts, read once and refused whole if a row is wrong.

CSV, JSON (a list of objects, or one object a line) or Parquet, told by the name's ending. Prices: `product`, `start`,
`end` or `length_s`, `price`, `unit`, and where wanted `kind`, `currency`, `source`. Contracts: `product`, `start`,
`end` or `length_s`, `sold_kw`. A time without an offset is one of the product's own market, which must exist once.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from droop.products import Product
from settlement import calendar
from settlement.align import NS
from settlement.payment.lines import PaymentError, exact
from settlement.prices import CAPACITY, Price, PriceBook, PriceError, unit
from settlement.sales import Sale, Sales

TIMES: Final = ("start", "end", "length_s")
PRICES: Final = ("product", *TIMES, "price", "unit", "kind", "currency", "source")
CONTRACTS: Final = ("product", *TIMES, "sold_kw")

Row = Mapping[str, Any]


class TableFileError(ValueError):
    """A file of prices or contracts that cannot be used; the message names the file, the row and the remedy."""


class Read(NamedTuple):
    """Rows of a file, and how many of their stamps were leap seconds."""

    rows: list[Any]
    leaps: int


class _Times:
    """Stamps of one row after the other, in the zones of the products' markets."""

    def __init__(self, products: Mapping[str, Product]) -> None:
        self._products = products
        self.leaps = 0

    def span(self, row: Row) -> tuple[int, int]:
        """[start, end) of a row [ns]."""
        start_ns = self._stamp(row, "start")
        if (_given(row, "end")) == (_given(row, "length_s")):
            raise TableFileError("give either `end` or `length_s`")
        if _given(row, "end"):
            return start_ns, self._stamp(row, "end")
        length_ns = exact(_number(row, "length_s"), "length_s") * NS
        return start_ns, start_ns + int(length_ns)

    def _stamp(self, row: Row, name: str) -> int:
        value = row.get(name)
        product = self._products.get(str(row.get("product")))
        zone = product.market.zone if product is not None else "UTC"
        if isinstance(value, datetime):
            value = value.isoformat()
        if not isinstance(value, str) or not value.strip():
            raise TableFileError(f"field `{name}` takes a time as 2026-01-31T16:00:00Z")
        try:
            found = calendar.instant(value, zone)
        except calendar.CalendarError as error:
            raise TableFileError(f"field `{name}`: {error}") from error
        self.leaps += found.leap
        return found.t_ns


def prices(path: Path, products: Mapping[str, Product]) -> tuple[PriceBook, int]:
    """The price book of a file, and how many of its stamps were leap seconds.

    products : those whose market's zone and units the rows are read by; rows of others stand by themselves, in UTC
    Raises TableFileError, PriceError.
    """

    def price(row: Row, start_ns: int, end_ns: int) -> Price:
        text = _text(row, "unit")
        currency = _text(row, "currency", "") or unit(text)[0]
        return Price(
            start_ns, end_ns, _text(row, "product"), _number(row, "price"), currency, text,
            _text(row, "kind", CAPACITY) or CAPACITY, _text(row, "source", ""),
        )  # fmt: skip

    read = _read(path, products, PRICES, price)
    try:
        book = PriceBook(read.rows)
        for product in products.values():
            book.check(product)
    except PriceError as error:
        raise PriceError(f"{path}: {error}") from error
    return book, read.leaps


def sales(path: Path, products: Mapping[str, Product]) -> tuple[Sales, int]:
    """The contracts of a file. Raises TableFileError, SaleError."""

    def sale(row: Row, start_ns: int, end_ns: int) -> Sale:
        return Sale(_text(row, "product"), start_ns, end_ns, exact(_number(row, "sold_kw"), "sold_kw"))

    read = _read(path, products, CONTRACTS, sale)
    try:
        return Sales(read.rows), read.leaps
    except ValueError as error:
        raise type(error)(f"{path}: {error}") from error


def _read(path: Path, products: Mapping[str, Product], names: Sequence[str], make: Callable[..., Any]) -> Read:
    times, rows = _Times(products), []
    for number, row in enumerate(_rows(path), 1):
        try:
            _known(row, names)
            rows.append(make(row, *times.span(row)))
        except (TableFileError, PriceError, PaymentError) as error:
            raise TableFileError(f"{path}, row {number}: {error}") from error
    if not rows:
        raise TableFileError(f"{path}: holds no row; it takes the columns {', '.join(names)}")
    return Read(rows, times.leaps)


def _rows(path: Path) -> Iterable[Row]:
    readers: dict[str, Callable[[Path], Iterable[Row]]] = {".csv": _csv, ".json": _json, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise TableFileError(f"{path}: takes {', '.join(readers)}, by the name's ending")
    try:
        return reader(path)
    except OSError as error:
        raise TableFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError, pa.ArrowException) as error:
        raise TableFileError(f"{path}: not a {path.suffix[1:].upper()} file: {error}") from error


def _csv(path: Path) -> list[Row]:
    text = path.read_text(encoding="utf-8-sig")
    reader = csv.DictReader(io.StringIO(text), strict=True)
    found: list[Row] = []
    for row in reader:
        if None in row or None in row.values():
            raise TableFileError(f"{path}, row {len(found) + 1}: not as many cells as the head has names")
        found.append(row)
    return found


def _json(path: Path) -> list[Row]:
    text = path.read_text(encoding="utf-8-sig")
    # Prices are decimal numbers; a float would be its nearest neighbour.
    plain = list(_values(text))
    rows = plain[0] if len(plain) == 1 and isinstance(plain[0], list) else plain
    if not all(isinstance(row, dict) for row in rows):
        raise TableFileError(f"{path}: takes a list of objects, or one object a line")
    return list(rows)


def _values(text: str) -> Iterator[Any]:
    """JSON values, one after the other."""
    decoder, at = json.JSONDecoder(parse_float=Decimal), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        value, at = decoder.raw_decode(text, at)
        yield value


def _parquet(path: Path) -> list[Row]:
    found: list[Row] = pq.read_table(path).to_pylist()
    return found


def _known(row: Row, names: Collection[str]) -> None:
    for name in row:
        if name not in names:
            near = difflib.get_close_matches(str(name), list(names), 1)
            hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(names)}"
            raise TableFileError(f"unknown column `{name}`; {hint}")


def _given(row: Row, name: str) -> bool:
    return row.get(name) not in (None, "")


def _text(row: Row, name: str, otherwise: str | None = None) -> str:
    value = row.get(name, otherwise)
    value = otherwise if value is None else value
    if not isinstance(value, str) or (otherwise is None and not value.strip()):
        raise TableFileError(f"field `{name}` takes a text" if value is not None else f"field `{name}` is missing")
    return value.strip()


def _number(row: Row, name: str) -> Decimal:
    value = row.get(name)
    try:
        if value is None or isinstance(value, bool):
            raise InvalidOperation
        found = Decimal(float.__repr__(value) if isinstance(value, float) else value)
        if not found.is_finite():
            raise InvalidOperation
    except (InvalidOperation, TypeError, ValueError):
        raise TableFileError(f"field `{name}` takes a number as 12.5, not {value!r}") from None
    return found
