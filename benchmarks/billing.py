"""What a bill costs: a year of one product's statements, 15 min each, priced by blocks, posted and written."""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal

from aggregator.billing import line_rows
from aggregator.exporting import table
from benchmarks.measure import Figure
from droop.products import load
from droop.promises import Market
from settlement import entries
from settlement.balance import EnergyBalance
from settlement.invoice import bill
from settlement.prices import Price, PriceBook
from settlement.statement import BaselineUsed, Statement, Used

HOUR_NS = 3_600_000_000_000
START_NS = 1_767_222_000_000_000_000  # 2026-01-01T00:00 in Berlin


def run(quick: bool) -> list[Figure]:
    """Processor seconds for the bill, and for account and file on top of it."""
    days = 73 if quick else 365
    market = Market(block_s=14_400, zone="Europe/Berlin", currency="EUR", price_unit="EUR/MW")
    product = replace(load("ce_fcr"), market=market, settlement={"fn": "capacity_block"}, penalty={"fn": "ce_factors"})
    prices = PriceBook(
        Price(START_NS + k * 4 * HOUR_NS, START_NS + (k + 1) * 4 * HOUR_NS, "ce_fcr", Decimal(40), "EUR", "EUR/MW")
        for k in range(6 * days)
    )
    statements = [_statement(START_NS + k * HOUR_NS // 4) for k in range(96 * days)]
    begun = time.process_time()
    invoice = bill(statements, {"ce_fcr": product}, prices)
    billed = time.process_time()
    "".join(entries.dump(entry) for entry in entries.post([], invoice))
    table(line_rows(invoice), "csv")
    written = time.process_time()
    scale = 365 / days
    of = f"{len(invoice.items)} lines of {days} days, scaled to a year"
    return [
        Figure("settle.bill_year_s", (billed - begun) * scale, "s", of),
        Figure("settle.post_year_s", (written - billed) * scale, "s", of),
    ]


def _statement(start_ns: int) -> Statement:
    used, end_ns = Used(0, None, None, ""), start_ns + HOUR_NS // 4
    return Statement(
        product="ce_fcr", start_ns=start_ns, end_ns=end_ns, until_ns=end_ns, final=True, sold_kw=1234.5,
        stack={"ce_fcr": 1234.5}, samples=used, meters=used, signal=used,
        baseline=BaselineUsed(None, None, 0, False, 0, ""), requested_up_kwh=1.0, requested_down_kwh=1.0,
        delivered_up_kwh=1.0, delivered_down_kwh=1.0, mileage=1.0, coverage_frac=0.99, coverage={}, score=0.99,
        score_note="", kpis={"adequate": True}, unserved_kwh={},
        energy_balance=EnergyBalance(None, None, None, None, None),
    )  # fmt: skip
