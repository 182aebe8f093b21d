"""A run's bill as pots, shared out among its vehicles: what each earned, in the forms that others read.

Composes `aggregator.billing`, `aggregator.vehiclebook` and `settlement.attribution`; writes nothing. Every line of the
bill is in a pot of its interval and product, so that all vehicles and what stays with the pool make the bill, to the
cent. A charge on the whole run (a fee) belongs to no interval and stays with the pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from aggregator import vehiclebook, vehiclefiles
from aggregator.billing import Settled
from aggregator.journal import Block, Problem
from settlement.accounts import folded
from settlement.attribution import Attribution, Pot
from settlement.invoice import Item
from settlement.statement import iso

# Lines that pay for what was given, not for what was held ready.
PERFORMANCE: Final = frozenset({"RMPCP credit", "regulation service", "mileage", "energy", "frequency performance"})
DIRECTIONS: Final = {"symmetric": "both", "up": "up", "down": "down"}
SELLER: Final = "rating"  # what no vehicle could have given: more was sold than there was


def pots(settled: Settled) -> list[Pot]:
    """One pot for each priced statement; the lines of each are in it, every one of them once."""
    if settled.bill is None:
        return []
    lines: dict[str, list[Item]] = {}
    for item in settled.bill.items:
        lines.setdefault(item.key, []).append(item)
    newest = {item.key: item for item in settled.statements}
    found = []
    for key, stated in newest.items():
        if key not in lines:
            continue
        capacity, energy, penalty = _parts(lines[key])
        product = settled.products[stated.product]
        found.append(
            Pot(
                stated.start_ns, stated.end_ns, stated.product, DIRECTIONS[product.direction], stated.sold_kw,
                lines[key][0].line.currency, capacity, energy, penalty, stated.unserved_kwh.get(SELLER, 0.0),
            )
        )  # fmt: skip
    return found


def _parts(items: Iterable[Item]) -> tuple[Decimal, Decimal, Decimal]:
    """(capacity, energy, penalty): a factor below 0 takes back, whatever the sign of the price."""
    capacity = energy = penalty = Decimal(0)
    for line in (item.line for item in items):
        if line.factor < 0 and line.amount < 0:
            penalty -= line.amount
        elif line.what in PERFORMANCE:
            energy += line.amount
        else:
            capacity += line.amount
    return capacity, energy, penalty


def accounts(
    journal: Path, start_ns: int | None, end_ns: int | None, problems: list[Problem]
) -> tuple[Block, list[str]]:
    """(ACCOUNT[n], names of the sites): as the settlement closed them, or, where it wrote none, from the journal."""
    if (journal / vehiclefiles.FOLDER).is_dir():
        return vehiclefiles.load(journal, start_ns, end_ns), vehiclebook.sites_of(journal)
    book = vehiclebook.VehicleBook()
    rows = vehiclebook.joined(vehiclebook.of_folder(journal, start_ns, end_ns, problems, book))
    return rows, book.sites


def vehicle_rows(attributions: Sequence[Attribution], sites: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Each stay's share of each pot, and what stays with the pool as a row without a vehicle."""
    for one in attributions:
        pot = one.pot
        head = {
            "start": iso(pot.start_ns), "end": iso(pot.end_ns), "product": pot.product, "currency": pot.currency,
        }  # fmt: skip
        # A stay may have several accounts in an interval; they were shared out one by one.
        for row in folded(one.rows):
            own = (one.rows["slot"] == row["slot"]) & (one.rows["session"] == row["session"])
            own &= one.rows["vehicle"] == row["vehicle"]
            site = int(row["site"])
            yield head | {
                "vehicle": row["vehicle"].decode(), "slot": int(row["slot"]), "session": int(row["session"]),
                "site": sites[site] if 0 <= site < len(sites) else "",
                "capacity": one.amount(int(one.capacity[own].sum())), "energy": one.amount(int(one.energy[own].sum())),
                "penalty": one.amount(-int(one.penalty[own].sum())), "earned": one.amount(int(one.earned[own].sum())),
                "reserved_kwh": float(one.reserved_kwh[own].sum()), "credited_kwh": float(one.credited_kwh[own].sum()),
                "blamed_kwh": float(one.blamed_kwh[own].sum()), "coverage_frac": float(row["coverage_frac"]),
            }  # fmt: skip
        capacity, energy, penalty = one.rest
        if capacity or energy or penalty:
            yield head | {
                "vehicle": "", "slot": None, "session": None, "site": "", "capacity": one.amount(capacity),
                "energy": one.amount(energy), "penalty": one.amount(-penalty),
                "earned": one.amount(capacity + energy - penalty), "reserved_kwh": None, "credited_kwh": None,
                "blamed_kwh": None, "coverage_frac": None,
            }  # fmt: skip


def shared(journal: Path, settled: Settled, problems: list[Problem]) -> tuple[list[Attribution], list[str]]:
    """(pots shared out, names of the sites); none where nothing was priced or no vehicle's account is known."""
    found = pots(settled)
    if not found:
        return [], []
    rows, sites = accounts(journal, min(p.start_ns for p in found), max(p.end_ns for p in found), problems)
    return (vehiclebook.attributed(found, rows), sites) if rows.size else ([], sites)
