"""Compute sealed statements again, from nothing but the evidence they were sealed with.

What a counterparty does who has a file, this package, and no reason to believe anybody: every figure of every
statement is computed again from the sealed columns with the sealed products, and the sealed seconds are held against
the same columns. Whether the file itself is whole, `settlement.verifier` says; ask it first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from droop.products import Product, ProductError, parse
from settlement import evidence, interval, money
from settlement.align import NS, AlignError, Grid
from settlement.baseline import BaselineError
from settlement.evidence import EvidenceError
from settlement.facts import Facts
from settlement.interval import Sold
from settlement.statement import TOLERANCE, Statement, StatementError, VerifyError, from_dict
from settlement.verifier import RECORD

KINDS: Final = ("contract", "statement", "correction", "pool", "facts", "price", "head")


class Mismatch(NamedTuple):
    """A sealed figure that its evidence does not bear out. what : statement key, or the second"""

    line: int
    what: str
    field: str
    stated: Any
    found: Any

    def __str__(self) -> str:
        return f"line {self.line}, {self.what}: field `{self.field}` states {self.stated!r}, gives {self.found!r}"


class Recomputed(NamedTuple):
    """How many statements, seconds and lines of money were computed again, and what differs.

    unpriced : `price` records that could not be: they name statements of files that are not here, or no prices
    """

    statements: int
    seconds: int
    mismatches: list[Mismatch]
    lines: int = 0
    unpriced: int = 0


class _Interval(NamedTuple):
    """What stands between two heads, each with its line."""

    statements: list[tuple[int, dict[str, Any]]]
    pools: list[tuple[int, dict[str, Any]]]
    facts: dict[tuple[int, int], Facts]


class _Known(NamedTuple):
    """The newest statement of each key so far, and the product that was in force then."""

    statements: dict[str, Statement]
    rules: dict[str, Product]


def recompute(lines: Iterable[bytes]) -> Recomputed:
    """Compute all of a file again.

    lines : of files that `settlement.verifier` found whole, in their order

    Raises EvidenceError, StatementError or ProductError for records of another version than this package knows.
    """
    items: list[Sold] = []
    mismatches: list[Mismatch] = []
    statements = seconds = lines_of_money = unpriced = 0
    now = _Interval([], [], {})
    known = _Known({}, {})
    for line, kind, data in _records(lines):
        if kind == "contract":
            items = _sold(data)
        elif kind == "facts":
            now.facts[data["start_ns"], data["end_ns"]] = evidence.to_facts(data["facts"])
        elif kind == "pool":
            now.pools.append((line, data))
        elif kind in ("statement", "correction"):
            now.statements.append((line, data["statement"]))
        elif kind == "price":
            found = _money(line, data, known)
            lines_of_money, unpriced = lines_of_money + found.lines, unpriced + found.unpriced
            mismatches += found.mismatches
        else:
            products = {item.product.id: item.product for item in items}
            for at, plain in now.statements:
                stated = from_dict(plain)
                mismatches += _statement(at, stated, now.facts, products)
                if stated.product in products:
                    known.statements[stated.key], known.rules[stated.key] = stated, products[stated.product]
            for at, rows in now.pools:
                mismatches += _pool(at, rows, items, now.facts)
            statements, seconds = statements + len(now.statements), seconds + sum(len(p["rows"]) for _, p in now.pools)
            now = _Interval([], [], {})
    return Recomputed(statements, seconds, mismatches, lines_of_money, unpriced)


def _money(line: int, data: dict[str, Any], known: _Known) -> Recomputed:
    """A `price` record's lines, held against the statements before it and the prices in it."""
    keys = [named["key"] for named in data.get("statements", ())]
    if "prices" not in data or not all(key in known.statements for key in keys):
        return Recomputed(0, 0, [], unpriced=1)
    wrong = money.differences(data, known.statements, known.rules)
    mismatches = [Mismatch(line, f"price of {one.where}", one.field, one.stated, one.found) for one in wrong]
    return Recomputed(0, 0, mismatches, lines=len(data["lines"]))


def _records(lines: Iterable[bytes]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        match = None if line.startswith(b'{"leaf"') else RECORD.fullmatch(line)
        record: dict[str, Any] = json.loads(match[2]) if match else {}
        if record.get("kind") in KINDS:
            yield number, record["kind"], record["data"]


def _sold(data: dict[str, Any]) -> list[Sold]:
    try:
        return [Sold(parse(item["product"], "evidence"), item["sold_kw"]) for item in data["contracts"]]
    except KeyError as error:
        raise EvidenceError(f"record `contract`: field {error} is missing") from error


def _statement(
    line: int, stated: Statement, facts: dict[tuple[int, int], Facts], products: dict[str, Product]
) -> list[Mismatch]:
    own = facts.get((stated.start_ns, stated.end_ns))
    if own is None:
        return [Mismatch(line, f"statement {stated.key}", "facts", f"{stated.start_ns}..{stated.end_ns}", None)]

    def load(name: str) -> Product:
        if name not in products:
            raise ProductError(f"product `{name}` of statement {stated.key} is in no contract before it")
        return products[name]

    try:
        interval.verify(stated, own, load)
    except VerifyError as error:
        return [Mismatch(line, f"statement {stated.key}", error.field, error.stated, error.found)]
    except (AlignError, BaselineError, StatementError) as error:
        return [Mismatch(line, f"statement {stated.key}", "facts", str(error), None)]
    return []


def _pool(line: int, stated: dict[str, Any], items: list[Sold], facts: dict[tuple[int, int], Facts]) -> list[Mismatch]:
    """The first second, and its first field, that the columns do not give again."""
    start_ns, end_ns = stated["start_ns"], stated["end_ns"]
    own = facts.get((start_ns, end_ns))
    if own is None or not items:
        return [Mismatch(line, "pool", "facts", f"{start_ns}..{end_ns}", None)]
    columns = evidence.computed(items, own, Grid(start_ns, NS, len(stated["rows"])))
    for name in evidence.COMPUTED:
        if name not in stated["columns"]:
            return [Mismatch(line, "pool", name, None, "a column")]
        place = stated["columns"].index(name)
        for row, value in zip(stated["rows"], evidence.plain(columns[name]), strict=True):
            if not _same(row[place], value):
                return [Mismatch(line, f"second {row[0]}", name, row[place], value)]
    return []


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return bool(abs(a - b) <= TOLERANCE * max(1.0, abs(a), abs(b)))
