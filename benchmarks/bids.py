"""Bid sizing: a day's bids, and a year of the rule against its own history, of a seeded fleet of a thousand.

The walk is also a check that is no test: how often a block fell short, of how many were expected to.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date, timedelta

import numpy as np

from aggregator.bidding.available import SLICE, Slices
from aggregator.bidding.forecast import by_block
from aggregator.bidding.products import Bundle, bundle
from aggregator.bidding.rule import Rule, bids
from aggregator.bidding.walking import walk
from benchmarks.measure import Figure
from droop.products import load

NS = 1_000_000_000
FIRST = date(2025, 9, 1)
SHARES = (0.80, 0.85, 0.45, 0.30, 0.40, 0.70)
RHO = 0.02
CHARGERS = 1000


def run(quick: bool) -> list[Figure]:
    """`bid.day_s`, `bid.walk_year_s`, `bid.exceeded_frac`."""
    product = load("ce_fcr")
    sold = bundle([replace(product, market=replace(product.market, min_kw=0.0, step_kw=0.0))])
    days = 120 if quick else 365
    blocks, _ = by_block(history(sold, days), sold)
    begun = time.perf_counter()
    bids(Rule(0.99), sold, blocks, FIRST + timedelta(days + 1))
    day_s = time.perf_counter() - begun
    begun = time.perf_counter()
    walked = walk(Rule(0.99), sold, blocks)
    walk_s = time.perf_counter() - begun
    share = walked.verdict.exceeded / walked.verdict.blocks
    return [
        Figure("bid.day_s", day_s, "s", "six blocks from four weeks"),
        Figure("bid.walk_year_s", walk_s, "s", f"{walked.verdict.blocks} blocks, {days} days"),
        Figure("bid.exceeded_frac", share, "1", f"at most 0.01 promised; p = {walked.verdict.p_value:.3g}"),
    ]


def history(sold: Bundle, days: int) -> Slices:
    """SLICE rows of a fleet whose share of a block is beta distributed around its hour's."""
    rng, rows = np.random.default_rng(1), []
    for k in range(days):
        for place, block in enumerate(sold.blocks(FIRST + timedelta(k))):
            p = SHARES[place]
            present = rng.binomial(CHARGERS, rng.beta(p * (1 - RHO) / RHO, (1 - p) * (1 - RHO) / RHO))
            found = np.zeros((block.end_ns - block.start_ns) // (sold.slice_s * NS), SLICE)
            found["start_ns"] = block.start_ns + np.arange(found.size) * sold.slice_s * NS
            found["end_ns"] = found["start_ns"] + sold.slice_s * NS
            found["chargers"], found["present"], found["kw"] = CHARGERS, present, 7.0 * present
            found["profile_kw"], found["power_kw"] = 7.0, 7.0 * present
            found["up_kwh"] = found["down_kwh"] = 18.0 * present
            rows.append(found)
    return np.concatenate(rows)
