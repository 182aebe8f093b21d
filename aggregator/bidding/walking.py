"""The rule against its own history: day by day with what was known then, and how often it promised too much."""

from __future__ import annotations

from datetime import date
from typing import Any, NamedTuple

import numpy as np

from aggregator.bidding.forecast import Blocks
from aggregator.bidding.products import Bundle, TooLittle
from aggregator.bidding.rule import Bid, Rule, bids
from droop.exceedance import LEVEL, Verdict, judged


class Walked(NamedTuple):
    """Each block that a bid was made for, in order of time: the bid, and what was available then [kW]."""

    bids: tuple[Bid, ...]
    available_kw: tuple[float, ...]
    verdict: Verdict

    @property
    def failed(self) -> list[tuple[Bid, float]]:
        """Blocks in which less was available than the rule stood for."""
        pairs = zip(self.bids, self.available_kw, strict=True)
        return [(bid, kw) for bid, kw in pairs if short(bid, kw)]


def short(bid: Bid, available_kw: float) -> bool:
    """Whether less was available than the rule stood for, before the market's rounding: the harder test."""
    return available_kw < bid.offer.firm_kw * (1.0 - 1e-9)


def walk(rule: Rule, bundle: Bundle, blocks: Blocks, level: float = LEVEL) -> Walked:
    """Bid for every day of a history that enough is known before. Raises TooLittle where there is no such day.

    Blocks for which nothing would have been offered at all promise nothing and are not counted.
    """
    made: list[Bid] = []
    had: list[float] = []
    tried = 0
    for number in np.unique(blocks["day"]).tolist():
        today = {int(row["start_ns"]): float(row["kw"]) for row in blocks[blocks["day"] == number]}
        try:
            found, _ = bids(rule, bundle, blocks, date.fromordinal(number))
        except TooLittle:
            continue
        tried += len(found)
        for bid in found:
            kw = today.get(bid.block.start_ns)
            if kw is not None and bid.offer.firm_kw > 0.0:
                made.append(bid)
                had.append(kw)
    if not made and tried:
        raise TooLittle(f"--history: at a confidence of {rule.confidence:g} nothing would have been offered in it")
    if not made:
        raise TooLittle("--history: too short to test the rule on it: no day has enough history before it")
    exceeded = np.array([short(bid, kw) for bid, kw in zip(made, had, strict=True)])
    return Walked(tuple(made), tuple(had), judged(exceeded, rule.confidence, level))


def told(walked: Walked) -> dict[str, Any]:
    """The test as JSON-ready figures, with the blocks that failed."""
    verdict = walked.verdict._asdict()
    return verdict | {
        "failed": [
            {"start_ns": bid.block.start_ns, "block": bid.block.name, "promised_kw": bid.offer.firm_kw,
             "available_kw": kw}
            for bid, kw in walked.failed
        ]
    }  # fmt: skip
