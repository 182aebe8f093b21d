"""Histories of availability that are known, because they were made here."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np

from aggregator.bidding.available import SLICE
from aggregator.bidding.products import bundle
from droop.products import load

NS = 10**9
FIRST = date(2026, 9, 7)  # a Monday; the clock is moved on 25 October
SHARES = (0.80, 0.85, 0.45, 0.30, 0.40, 0.70)  # of the six blocks of a day


def product(name="ce_fcr", **market):
    """A product with the market's rounding off, unless asked for."""
    found = load(name)
    return replace(found, market=replace(found.market, **({"min_kw": 0.0, "step_kw": 0.0} | market)))


def ce(**market):
    return bundle([product(**market)])


def made(sold, days, seed=1, rho=0.02, chargers=150, each=7.0, weekend=1.15, first=FIRST, sd=0.0):
    """SLICE rows of a fleet whose share of a block is beta distributed around its hour's, at weekends a higher one.

    each : what a vehicle that is there sells [kW]; sd : by how much that varies from block to block
    """
    rng, rows = np.random.default_rng(seed), []
    for k in range(days):
        day = first + timedelta(k)
        for place, block in enumerate(sold.blocks(day)):
            p = min(SHARES[place % len(SHARES)] * (weekend if day.weekday() > 4 else 1.0), 0.97)
            share = rng.beta(p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho) if rho else p
            rows.append(of_block(sold, block, chargers, rng.binomial(chargers, share), each * (1 + sd * rng.normal())))
    return np.concatenate(rows)


def of_block(sold, block, chargers, present, each=7.0):
    found = np.zeros((block.end_ns - block.start_ns) // (sold.slice_s * NS), SLICE)
    found["start_ns"] = block.start_ns + np.arange(found.size) * sold.slice_s * NS
    found["end_ns"] = found["start_ns"] + sold.slice_s * NS
    found["chargers"], found["present"], found["kw"] = chargers, present, present * each
    found["power_kw"], found["profile_kw"] = present * each * 1.1, each if present else 0.0
    found["up_kwh"] = found["down_kwh"] = present * 18.0
    return found
