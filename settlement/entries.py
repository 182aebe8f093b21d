"""The account: what was billed, one numbered entry after the other; corrections are entries too, nothing is edited.

This file knows entries as records and as lines of JSON: no file, no clock. An interval that is billed again to the same
lines changes nothing; to other lines, it is reversed by an entry that names the one it takes back, and billed by a new
one. The sum over all entries is the sum of what stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final, Literal, NamedTuple

from settlement.invoice import Invoice, Item
from settlement.payment.lines import cents

VERSION: Final = 1


class EntryError(ValueError):
    """An account that cannot be read; the message names the line, the field and the remedy."""


class Posted(NamedTuple):
    """A line as it was billed; amounts and figures as texts, so that they read back as they were written."""

    what: str
    start_ns: int
    end_ns: int
    quantity: str
    unit: str
    price: str
    factor: str
    amount: str
    currency: str
    note: str
    mark: str


@dataclass(frozen=True)
class Entry:
    """All lines of one interval and product.

    kind     : `bill`; `reversal`: takes back `corrects`, all signs turned; `correction`: stands for it now
    corrects : serial of the entry that is taken back or replaced; None for a bill
    """

    serial: int
    kind: Literal["bill", "reversal", "correction"]
    corrects: int | None
    key: str
    product: str
    lines: tuple[Posted, ...]

    @property
    def amounts(self) -> dict[str, Decimal]:
        """Sum by currency."""
        found: dict[str, Fraction] = {}
        for line in self.lines:
            found[line.currency] = found.get(line.currency, Fraction(0)) + Fraction(line.amount)
        return {currency: cents(amount) for currency, amount in found.items()}


def standing(account: Iterable[Entry]) -> dict[str, Entry]:
    """What counts now: the last entry of each interval that was not taken back."""
    found: dict[str, Entry] = {}
    for entry in account:
        if entry.kind == "reversal":
            found.pop(entry.key, None)
        else:
            found[entry.key] = entry
    return found


def post(account: Sequence[Entry], invoice: Invoice) -> list[Entry]:
    """The entries that a bill adds to an account; what is not final is not posted.

    Intervals that the bill does not speak of stay as they are; those of which it says that nothing is due are reversed.
    """
    stands = standing(account)
    serial = account[-1].serial if account else 0
    added: list[Entry] = []
    billed: dict[str, list[Item]] = {key: [] for key in invoice.settled}
    for item in invoice.items:
        if item.key in billed:
            billed[item.key].append(item)
    for key, group in billed.items():
        lines, before = tuple(posted(item) for item in group), stands.get(key)
        if before is not None and before.lines != lines:
            back = tuple(_turned(line) for line in before.lines)
            added.append(Entry(serial := serial + 1, "reversal", before.serial, key, before.product, back))
        if lines and (before is None or before.lines != lines):
            kind: Literal["bill", "correction"] = "bill" if before is None else "correction"
            corrects = None if before is None else before.serial
            added.append(Entry(serial := serial + 1, kind, corrects, key, group[0].product, lines))
    return added


def dump(entry: Entry) -> str:
    """One line of JSON."""
    plain = {
        "version": VERSION, "serial": entry.serial, "kind": entry.kind, "corrects": entry.corrects, "key": entry.key,
        "product": entry.product, "lines": [line._asdict() for line in entry.lines],
    }  # fmt: skip
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def load(text: str, where: str) -> list[Entry]:
    """The account that `dump` wrote, a line each. Raises EntryError: damaged, reordered, or with an entry missing."""
    account: list[Entry] = []
    for number, row in enumerate(text.splitlines(), 1):
        try:
            account.append(_entry(json.loads(row)))
        except (ValueError, TypeError, KeyError, InvalidOperation) as error:
            raise EntryError(f"{where}, line {number}: not an entry ({error}); restore the file") from error
        _check(account, f"{where}, line {number}")
    if text and not text.endswith("\n"):
        raise EntryError(f"{where}: cut short within its last line; restore the file")
    return account


def _check(account: Sequence[Entry], where: str) -> None:
    """The newest entry follows from those before it."""
    entry = account[-1]
    if entry.serial != len(account):
        raise EntryError(f"{where}: field `serial` is {entry.serial}, {len(account)} was due; restore the file")
    if (entry.corrects is None) != (entry.kind == "bill") or (entry.corrects or 0) >= entry.serial:
        raise EntryError(f"{where}: field `corrects` names {entry.corrects}, no earlier entry; restore the file")
    if entry.corrects is not None and account[entry.corrects - 1].key != entry.key:
        raise EntryError(f"{where}: field `corrects` names entry {entry.corrects}, which is of another interval; "
                         "restore the file")  # fmt: skip


def _entry(plain: Any) -> Entry:
    if plain["version"] != VERSION:
        raise ValueError(f"field `version` is {plain['version']!r}; this reader knows {VERSION}")
    if plain["kind"] not in ("bill", "reversal", "correction"):
        raise ValueError(f"field `kind` is {plain['kind']!r}")
    lines = tuple(Posted(**line) for line in plain["lines"])
    for line in lines:
        if not Decimal(line.amount).is_finite():
            raise ValueError(f"field `amount` is {line.amount!r}")
    return Entry(int(plain["serial"]), plain["kind"], plain["corrects"], plain["key"], plain["product"], lines)


def posted(item: Item) -> Posted:
    """A line of a bill as it is written down."""
    line = item.line
    figures = (format(value, "f") for value in (line.quantity, line.price, line.factor, line.amount))
    quantity, price, factor, amount = figures
    return Posted(
        line.what, item.start_ns, item.end_ns, quantity, line.unit, price, factor, amount, line.currency, line.note,
        line.mark,
    )  # fmt: skip


def _turned(line: Posted) -> Posted:
    """The same with its sign turned."""
    quantity = line.quantity[1:] if line.quantity.startswith("-") else f"-{line.quantity}"
    return line._replace(quantity=quantity, amount=format(cents(-Fraction(line.amount)), "f"))
