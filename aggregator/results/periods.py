"""Days and blocks of a run: what each product was asked, gave, scored and earned in it, and what the fleet did.

A row is one product in one day, or one block, of its own market (`settlement.calendar`): the block of sale, or the
settlement interval where the product has none. Energies asked and given, score and availability are settlement's, of
the statements that begin in it; what the fleet did is the same whatever is sold, so with several products it stands in
the rows of each. The first and the last row hold what there was of a day or a block. One in which nothing was sold has
a row all the same: nothing asked, given or earned, and no score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

import numpy as np

from aggregator.results.collector import Collector
from aggregator.results.spans import MOMENTS, TOTALS
from droop.products import Product
from droop.reasons import Reason
from settlement import calendar
from settlement.invoice import BLOCK, DAY, Invoice
from settlement.scores import weighted_score
from settlement.statement import Statement, iso

STATED: Final = ("requested_up_kwh", "requested_down_kwh", "delivered_up_kwh", "delivered_down_kwh", "mileage")
# The core's own sum of all products; here settlement has it by product.
COMMON: Final = tuple(name for name in TOTALS if name not in STATED)

Row = dict[str, Any]


class Unsold(NamedTuple):
    """A settlement interval in which nothing was sold of a product, as far as the run covers it."""

    product: str
    start_ns: int
    until_ns: int


def days(statements: Iterable[Statement], products: Mapping[str, Product], bill: Invoice | None,
         gathered: Collector, unsold: Iterable[Unsold] = ()) -> list[Row]:  # fmt: skip
    """One row a product and day, in order of time."""
    return _rows([*statements, *unsold], products, bill, gathered, DAY)


def blocks(statements: Iterable[Statement], products: Mapping[str, Product], bill: Invoice | None,
           gathered: Collector, unsold: Iterable[Unsold] = ()) -> list[Row]:  # fmt: skip
    """One row a product and block, in order of time."""
    return _rows([*statements, *unsold], products, bill, gathered, BLOCK)


def _rows(intervals: Iterable[Statement | Unsold], products: Mapping[str, Product], bill: Invoice | None,
          gathered: Collector, by: str) -> list[Row]:  # fmt: skip
    groups: dict[tuple[str, str, calendar.Block], list[Statement | Unsold]] = {}
    for item in intervals:
        day, place = _place(item.start_ns, products[item.product], by)
        groups.setdefault((item.product, day, place), []).append(item)
    sums = [] if bill is None else bill.totals(*((DAY,) if by == DAY else (DAY, BLOCK)))
    money = {(total.product, total.day, total.block): total for total in sums}
    odd = gathered.odd.found()
    rows = []
    for (name, day, place), items in groups.items():
        row: Row = {
            "product": name, "day": day, **({} if by == DAY else {"block": place.name}),
            "start": iso(place.start_ns), "end": iso(place.end_ns),
            "start_local": calendar.local(place.start_ns, products[name].market.zone).isoformat(),
            **_stated(items),
        }  # fmt: skip
        if bill is not None:
            row |= _earned(money.get((name, day, "" if by == DAY else place.name)), products[name])
        row |= _did(gathered, place)
        lacks = odd.within(place.start_ns, place.end_ns)
        row |= {"gap_s": lacks.gap_s, "gaps": lacks.gaps, "rejected": dict(sorted(lacks.rejected.items()))}
        rows.append(row)
    return sorted(rows, key=lambda row: (row["start"], row["product"]))


def _place(start_ns: int, product: Product, by: str) -> tuple[str, calendar.Block]:
    """Day and stretch that an interval belongs to."""
    market = product.market
    which = calendar.day_of(start_ns, market)
    if by == DAY:
        return which.isoformat(), calendar.day(which, market)
    return which.isoformat(), calendar.block_at(start_ns, market, market.block_s or product.interval_s)


def _stated(found: Sequence[Statement | Unsold]) -> Row:
    """Settlement's figures of some intervals together."""
    items = [item for item in found if isinstance(item, Statement)]
    span_s = [(item.until_ns - item.start_ns) / 1e9 for item in items]
    whole_s = sum(span_s)
    unsold_s = sum((item.until_ns - item.start_ns) / 1e9 for item in found if isinstance(item, Unsold))
    score, note = weighted_score((item.score, item.coverage_frac, item.score_note) for item in items)
    # Of time that is not settled nobody knows what was covered.
    coverage_frac = _mean([item.coverage_frac for item in items], span_s)
    return {
        "sold_kw": _sold_kw(items, span_s, unsold_s),
        "intervals": len(items),
        "settled_s": whole_s,
        "unsold_s": unsold_s,
        "covered_s": whole_s * (coverage_frac or 0.0),
        **{name: sum(getattr(item, name) for item in items) for name in STATED},
        "score": score,
        "score_note": note if items else "nothing sold",
        "coverage_frac": coverage_frac,
        "available_frac": _mean([available(item) for item in items], span_s),
    }


def _sold_kw(items: Sequence[Statement], span_s: Sequence[float], unsold_s: float) -> float:
    """What was sold on the mean of the time, the unsold included [kW]."""
    powers = {item.sold_kw for item in items} | ({0.0} if unsold_s or not items else set())
    return (
        powers.pop()
        if len(powers) == 1
        else sum(item.sold_kw * s for item, s in zip(items, span_s, strict=True)) / (sum(span_s) + unsold_s)
    )


def _mean(values: Sequence[float], span_s: Sequence[float]) -> float | None:
    """Weighted by time; None of none."""
    whole_s = sum(span_s)
    return sum(value * s for value, s in zip(values, span_s, strict=True)) / whole_s if whole_s else None


def available(item: Statement) -> float:
    """Share of the time in which the product was available: its rule's own, else what the records cover."""
    judged = item.kpis.get("available_frac")
    return item.coverage_frac if judged is None else float(judged)


def _earned(total: Any, product: Product) -> Row:
    if total is None:
        return {"earned": Decimal(0), "charged": Decimal(0), "amount": Decimal(0), "currency": product.market.currency}
    return {name: getattr(total, name) for name in ("earned", "charged", "amount", "currency")}


def _did(gathered: Collector, place: calendar.Block) -> Row:
    """What the fleet did in a stretch, at the accounting intervals within it."""
    found, rows = gathered.spans.between(place.start_ns, place.end_ns)
    row: Row = {name: float(found[name][0]) for name in COMMON}
    for name in ("commands", "reversals", "switches"):
        row[name] = round(row[name])
    by_reason = found["unserved_by_reason_kwh"][0]
    row["unserved_by_reason"] = {
        reason.name.lower(): float(by_reason[reason]) for reason in Reason if by_reason[reason] > 0.0
    }
    for name in MOMENTS:
        inside = rows[name][1:]
        row[name] = float(inside[-1]) if inside.size and np.isfinite(inside[-1]) else None
    return row


def worst(rows: Sequence[Row], most: int = 10) -> list[Row]:
    """The blocks to look at: lowest score first, then most energy not served."""
    judged = [row for row in rows if row["score"] is not None or row["unserved_kwh"] > 0.0]
    return sorted(judged, key=lambda row: (1.0 if row["score"] is None else row["score"], -row["unserved_kwh"]))[:most]
