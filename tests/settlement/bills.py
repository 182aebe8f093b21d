"""Statements with known numbers, and products with a market, for the tests of money."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from droop.products import load
from droop.promises import Market
from settlement import calendar
from settlement.align import NS
from settlement.balance import EnergyBalance
from settlement.prices import Price, PriceBook
from settlement.statement import BaselineUsed, Statement, Used

HOUR = 3600 * NS
USED = Used(0, None, None, "")

CE = replace(
    load("ce_fcr"),
    market=Market(block_s=4 * 3600, zone="Europe/Berlin", currency="EUR", price_unit="EUR/MW"),
    settlement={"fn": "capacity_block"},
    marks={},
    effective_from="",
    effective_to="",
    penalty={"fn": "ce_factors", "non_availability": 5, "lack_of_response": 20, "admin_eur": 2500},
)
GB = replace(
    load("gb_dc_low"),
    market=Market(block_s=4 * 3600, zone="Europe/London", day_start="23:00", currency="GBP", price_unit="GBP/MW/h"),
    settlement={"fn": "efa", "sp_loss": 0.125},
    score={"fn": "neso_bounds"},
    availability={},
    penalty={},
)


def utc(*parts):
    return calendar.nanoseconds(datetime(*parts, tzinfo=UTC))


MIDNIGHT = utc(2026, 6, 21, 22)  # Berlin's
LONG_AGO, LONG_HENCE = utc(2020, 1, 1), utc(2030, 1, 1)


def statement(product="ce_fcr", start_ns=MIDNIGHT, length_s=900, sold_kw=1000.0, **more):
    """A statement of a perfect interval."""
    values = {
        "product": product, "start_ns": start_ns, "end_ns": start_ns + length_s * NS,
        "until_ns": start_ns + length_s * NS, "final": True, "sold_kw": sold_kw, "stack": {product: sold_kw},
        "samples": USED, "meters": USED, "signal": USED, "baseline": BaselineUsed(None, None, 0, False, 0, ""),
        "requested_up_kwh": 0.0, "requested_down_kwh": 0.0, "delivered_up_kwh": 0.0, "delivered_down_kwh": 0.0,
        "mileage": 0.0, "coverage_frac": 1.0, "coverage": {}, "score": 1.0, "score_note": "", "kpis": {},
        "unserved_kwh": {}, "energy_balance": EnergyBalance(None, None, None, None, None),
    }  # fmt: skip
    return Statement(**(values | more))


def price(product, start_ns, end_ns, value, unit, kind="capacity"):
    currency = unit.partition("/")[0] if "/" in unit else ""
    return Price(start_ns, end_ns, product, Decimal(str(value)), currency, unit, kind)


def flat(product, value, unit, start_ns=LONG_AGO, end_ns=LONG_HENCE, **kinds):
    """One price for ever, and others by kind: (value, unit)."""
    rows = [price(product, start_ns, end_ns, value, unit)]
    rows += [price(product, start_ns, end_ns, *pair, kind) for kind, pair in kinds.items()]
    return PriceBook(rows)
