"""Bids for a day as one JSON-ready document: what the command line writes and what the API answers."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

from aggregator.bidding.forecast import Blocks, Model, by_block, check_span
from aggregator.bidding.products import Bundle, TooLittle
from aggregator.bidding.recorded import History
from aggregator.bidding.rule import Bid, Rule, bids
from aggregator.bidding.walking import Walked, told, walk


class Answer:
    """Bids for one day, what they rest on, and how the rule did on its own history.

    walked : None where the history is too short to test the rule on it; `untested` says so
    """

    def __init__(self, rule: Rule, bundle: Bundle, history: History, day: date) -> None:
        bundle.check(day)
        self.rule, self.bundle, self.history, self.day = rule, bundle, history, day
        self.blocks, self.incomplete = by_block(history.slices, bundle)
        check_span(self.blocks, bundle.day_start_ns(day), day.isoformat())
        self.bids, self.model = bids(rule, bundle, self.blocks, day)
        self.walked: Walked | None = None
        self.untested = ""
        try:
            self.walked = walk(rule, bundle, self.blocks)
        except TooLittle as error:
            self.untested = str(error).removeprefix("--history: ")

    def document(self) -> dict[str, Any]:
        """The keys, as scripts rely on them."""
        presence, drift = self.model.presence, self.rule.drift
        return {
            "products": [
                {"id": p.id, "kw_per_kw": ratio, "confidence_mark": p.confidence}
                for p, ratio in zip(self.bundle.products, self.bundle.ratios, strict=True)
            ],
            "date": self.day.isoformat(), "confidence": self.rule.confidence, "how": self.rule.how,
            "needs": self.bundle.needs._asdict(),
            "assumed": [text for text in (self.bundle.assumption, *self.history.assumed) if text],
            "history": _span(self.model, self.blocks, self.incomplete) | {"left_out": self.history.left_out},
            "correlation": None if presence is None else presence._asdict(),
            "size_sd_frac": self.model.size_sd,
            "drift": None if drift is None else drift._asdict(),
            "blocks": [row(bid) for bid in self.bids],
            "backtest": None if self.walked is None else told(self.walked),
            "backtest_note": self.untested,
        }  # fmt: skip


def _span(model: Model, blocks: Blocks, incomplete: int) -> dict[str, Any]:
    used = model.blocks
    return {
        "blocks": int(used.size), "days": len(set(used["day"].tolist())), "incomplete": incomplete,
        "not_used": int(blocks.size - used.size), "chargers": model.chargers,
        "start": iso(int(used["start_ns"].min())), "end": iso(int(used["end_ns"].max())),
    }  # fmt: skip


def row(bid: Bid) -> dict[str, Any]:
    """One block's offer; `offer_kw` plus all cuts is `expected_kw`."""
    offer = bid.offer
    return {
        "start_ns": bid.block.start_ns, "end_ns": bid.block.end_ns, "start": iso(bid.block.start_ns),
        "block": bid.block.name, "offer_kw": offer.kw, "firm_kw": offer.firm_kw, "mean_kw": bid.mean_kw,
        "expected_kw": offer.expected_kw, "present_frac": bid.present_frac,
        "cuts_kw": {cut.reason: cut.kw for cut in offer.cuts},
        "hours_left": bid.hours_left if math.isfinite(bid.hours_left) else None,
        "bought_back_kw": bid.bought_back_kw,
    }  # fmt: skip


def iso(t_ns: int) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(t_ns // 1_000_000_000, UTC).isoformat().replace("+00:00", "Z")


def rule_told(rule: Rule) -> dict[str, Any]:
    """A rule as JSON-ready figures."""
    plain = asdict(rule)
    return plain | {"drift": None if rule.drift is None else rule.drift._asdict()}
