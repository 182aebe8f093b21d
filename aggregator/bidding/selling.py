"""A backtest that sells by the rule: what is offered of each block, as the run itself learns what there is.

At every edge of a slice the fleet is looked at; at every edge of a block the rule bids from what was known when bids
closed, from this run and from a history given with it, and that is sold. Before enough is known nothing is: a bid that
nobody could have made is not made. Nothing here looks ahead, into the trace or into the fleet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from aggregator.bidding.answer import row
from aggregator.bidding.available import SLICE, Slices, Watcher
from aggregator.bidding.forecast import by_block
from aggregator.bidding.products import Bundle, TooLittle
from aggregator.bidding.rule import Bid, Rule, bids
from aggregator.bidding.walking import short
from droop.exceedance import judged
from settlement import calendar
from telemetry.samples import Block

if TYPE_CHECKING:
    from aggregator.backtest import Backtest

# No limit to a set-point: it is clipped to what is sold [kW].
ANY_KW = 1e9


class Seller:
    """Sells a bundle by a rule, block by block.

    before : SLICE[n] of history from before the run; what lies within it is not used
    """

    def __init__(self, rule: Rule, bundle: Bundle, before: Slices | None = None) -> None:
        self.rule, self.bundle = rule, bundle
        self.watcher = Watcher(bundle)
        self._before = np.zeros(0, SLICE) if before is None else before
        self._block_ns = 0  # end of the block that is sold
        self._day: tuple[int, dict[int, Bid]] = (0, {})
        self._begun = False
        self.bids: list[Bid] = []
        self.unsold = 0  # blocks before enough was known

    def known(self) -> Slices:
        """SLICE[n]: the history given and what the run has seen."""
        seen = self.watcher.rows
        begin_ns = int(seen["start_ns"][0]) if seen.size else np.iinfo(np.int64).max
        return np.concatenate([self._before[self._before["end_ns"] <= begin_ns], seen])

    def turn(self, test: Backtest, now_ns: int) -> None:
        """Every edge of a slice up to `now_ns`, in order."""
        if not self._begun:
            self._begun = True
            self._look(test, now_ns)
        while self.watcher.next_ns <= now_ns:
            edge_ns = self.watcher.next_ns
            test.idle_until(edge_ns)
            self._look(test, edge_ns)

    def parts(self, test: Backtest, rows: Block) -> Iterator[Block]:
        """Rows cut where something may be sold, each part after that. rows : FREQUENCY[n], judged and in time"""
        done = 0
        while done < rows.size:
            self.turn(test, int(rows["t_ns"][done]))
            end = done + int(np.searchsorted(rows["t_ns"][done:], self.watcher.next_ns))
            yield rows[done:end]
            done = end

    def _look(self, test: Backtest, now_ns: int) -> None:
        self.watcher.look(test.core.engine.fleet, now_ns)
        if now_ns < self._block_ns:
            return
        block = self.bundle.block_at(now_ns)
        self._block_ns = block.end_ns
        # A run that begins within a block has sold nothing of it.
        bid = self._bid(block.start_ns) if block.start_ns == now_ns else None
        if bid is None:
            self.unsold += 1
        else:
            self.bids.append(bid)
        kw = 0.0 if bid is None else bid.offer.kw
        test.sell([kw * ratio for ratio in self.bundle.ratios], now_ns)

    def _bid(self, start_ns: int) -> Bid | None:
        day = calendar.day_of(start_ns, self.bundle.market)
        if self._day[0] != day.toordinal():
            found: list[Bid] = []
            with suppress(TooLittle):  # counted where nothing is sold
                found, _ = bids(self.rule, self.bundle, by_block(self.known(), self.bundle)[0], day)
            self._day = day.toordinal(), {bid.block.start_ns: bid for bid in found}
        return self._day[1].get(start_ns)

    def asked(self) -> dict[str, Any]:
        """The rule, what it sells and what it knew before the run: with this two runs are told apart. JSON-ready."""
        digest = hashlib.sha256(self._before.tobytes()).hexdigest()
        return {**asdict(self.rule), "of": self.bundle.key, "history_sha256": digest}

    def result(self) -> dict[str, Any]:
        """What was sold of each block, what was available in it, and whether the rule kept its word."""
        blocks, _ = by_block(self.watcher.rows, self.bundle)
        had = dict(zip(blocks["start_ns"].tolist(), blocks["kw"].tolist(), strict=True))
        pairs = [(bid, had.get(bid.block.start_ns)) for bid in self.bids]
        counted = [short(bid, kw) for bid, kw in pairs if kw is not None and bid.offer.firm_kw > 0.0]
        return {
            "confidence": self.rule.confidence, "how": self.rule.how, "unsold_blocks": self.unsold,
            "assumed": [text for text in (self.bundle.assumption,) if text],
            "blocks": [row(bid) | {"available_kw": kw} for bid, kw in pairs],
            "verdict": judged(np.array(counted, bool), self.rule.confidence)._asdict(),
        }  # fmt: skip
