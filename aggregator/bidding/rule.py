"""The rule: what is offered for each block of a day, from what was known when bids closed.

Everything here is a function of a history and a date; the same call makes tomorrow's bids, a backtest's and those that
the rule itself is tested with.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final, Literal, NamedTuple

from aggregator.bidding.forecast import LEAST_DAYS, Blocks, Model, known
from aggregator.bidding.products import HOUR_NS, BidError, Bundle
from droop.drift import Drift, bought_back_kw, hours_left
from droop.offers import Offer, Terms, check_confidence, expected_kw, sized
from droop.presence import Method
from settlement.calendar import Block

How = Literal["smallest", "beta_binomial", "normal"]
HOWS: Final = ("smallest", "beta_binomial", "normal")


@dataclass(frozen=True)
class Rule:
    """How bids are made.

    confidence : that what is offered will be available, of each block
    how        : distribution of the sum; `smallest`: the beta-binomial one or what history has seen, whichever is less
    lead_h     : what ended less than so long before the market's day begins is not known yet; 24 h cover every gate
    window_days : how far back is learned from: fleets grow and habits change, and a mean over years knows neither
    caution    : standard errors that the correlation is taken higher
    drift      : of the signal or of the answer to the frequency; None: none
    buy_back   : the drift is bought back through the baseline within the block
    """

    confidence: float = 0.99
    how: How = "smallest"
    lead_h: float = 24.0
    window_days: float = 28.0
    caution: float = 1.0
    drift: Drift | None = None
    buy_back: bool = False

    def __post_init__(self) -> None:
        try:
            check_confidence(self.confidence)
        except ValueError as error:
            raise BidError(f"--confidence: {error}") from error
        if self.how not in HOWS:
            raise BidError(f"--how {self.how}: takes one of {', '.join(HOWS)}")
        if not self.lead_h >= 0.0 or not self.caution >= 0.0:
            raise BidError("--lead-h and caution take numbers of 0 or more")
        if not self.window_days >= LEAST_DAYS:
            raise BidError(f"--window-days {self.window_days:g}: takes {LEAST_DAYS} days or more")

    @property
    def method(self) -> Method:
        """Of the sum."""
        return "normal" if self.how == "normal" else "beta_binomial"


class Bid(NamedTuple):
    """One block's offer.

    mean_kw     : what is expected to be available
    hours_left  : of the mean drift until floor or ceiling, at what is offered; inf: never
    bought_back_kw : what the baseline must add, into the grid, to undo the mean drift
    """

    block: Block
    offer: Offer
    mean_kw: float
    present_frac: float
    hours_left: float
    bought_back_kw: float


def bids(rule: Rule, bundle: Bundle, blocks: Blocks, day: date) -> tuple[list[Bid], Model]:
    """What to offer for each block of a market's day. Raises TooLittle.

    blocks : BLOCK[n] of history; those that were not over `lead_h` before the day, and those of before the window, are
             not looked at
    """
    before_ns = bundle.day_start_ns(day) - round(rule.lead_h * HOUR_NS)
    since_ns = before_ns - round(min(rule.window_days, 36_500.0) * 24 * HOUR_NS)
    model = Model(known(blocks, before_ns, since_ns), bundle)
    return [one(rule, bundle, model, block) for block in bundle.blocks(day)], model


def one(rule: Rule, bundle: Bundle, model: Model, block: Block) -> Bid:
    """The bid for one block."""
    minute, weekday = bundle.place(block.start_ns)
    basis = model.at(minute, weekday, rule.confidence, rule.caution, rule.how == "smallest")
    step_kw, least_kw = bundle.step_kw()
    hours = (block.end_ns - block.start_ns) / HOUR_NS
    terms = Terms(bundle.needs, step_kw, least_kw, rule.drift, hours, rule.buy_back)
    offer = sized(basis, terms, rule.confidence, rule.method)
    mean_kw, kw = expected_kw(basis, basis.profile_kw), offer.kw
    left_h, back_kw = float("inf"), 0.0
    if rule.drift is not None and kw > 0.0:
        needs = bundle.needs
        up_kwh, down_kwh = (max(have - need * kw, 0.0) for have, need in (
            (basis.up_kwh, needs.up_h), (basis.down_kwh, needs.down_h)))  # fmt: skip
        left_h, back_kw = hours_left(rule.drift, kw, up_kwh, down_kwh), bought_back_kw(rule.drift, kw)
    return Bid(block, offer, mean_kw, basis.present_frac, left_h, back_kw)
