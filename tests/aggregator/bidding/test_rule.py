"""The rule: never ahead of its time, kept as often as promised, found out where it is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.bidding.answer import Answer
from aggregator.bidding.forecast import by_block
from aggregator.bidding.products import BidError, TooLittle
from aggregator.bidding.recorded import History
from aggregator.bidding.rule import Rule, bids
from aggregator.bidding.walking import told, walk
from droop.drift import Drift
from tests.aggregator.bidding.histories import FIRST, NS, ce, made

DAY = FIRST + timedelta(30)


def answer(rule=None, days=30, day=DAY, sold=None, **more):
    sold = sold or ce()
    return Answer(rule or Rule(0.95), sold, History(made(sold, days, **more), (), {}), day)


class TestBids:
    @settings(max_examples=5, deadline=None)
    @given(st.integers(0, 10_000), st.integers(8, 28))
    def test_nothing_that_is_not_known_yet_moves_a_bid(self, seed, at):
        """Whatever happens from a day before the day of delivery on, its bids are the same to the last bit."""
        sold, rule = ce(), Rule(0.95)
        rows = made(sold, 30, seed=7)
        other = rows.copy()
        begin_ns = sold.day_start_ns(FIRST + timedelta(at))
        later = other["end_ns"] > begin_ns - 24 * 3600 * NS
        rng = np.random.default_rng(seed)
        other["present"][later] = rng.integers(0, 150, int(later.sum()))
        other["kw"][later] = other["present"][later] * rng.uniform(0, 30)
        day = FIRST + timedelta(at)
        for changed in (other, other[~later]):
            found = [bids(rule, sold, by_block(history, sold)[0], day)[0] for history in (rows, changed)]
            assert found[0] == found[1]
        before, after = (walk(rule, sold, by_block(history, sold)[0]) for history in (rows, other))
        early = [bid for bid in before.bids if bid.block.start_ns < begin_ns - 24 * 3600 * NS]
        assert early == [bid for bid in after.bids if bid.block.start_ns < begin_ns - 24 * 3600 * NS]

    def test_what_was_known_does_move_it(self):
        sold, rule = ce(), Rule(0.95)
        rows = made(sold, 30, seed=7)
        less = rows.copy()
        known = less["end_ns"] <= sold.day_start_ns(DAY) - 24 * 3600 * NS
        less["kw"][known] *= 0.5
        less["profile_kw"][known] *= 0.5
        one, other = (bids(rule, sold, by_block(history, sold)[0], DAY)[0] for history in (rows, less))
        assert sum(bid.offer.kw for bid in other) == pytest.approx(0.5 * sum(bid.offer.kw for bid in one), rel=0.01)

    @pytest.mark.parametrize("how", ["smallest", "beta_binomial", "normal"])
    def test_larger_fleets_never_less_more_confidence_never_more(self, how):
        sold = ce()
        blocks = by_block(made(sold, 30, sd=0.05), sold)[0]
        larger = blocks.copy()
        for name in ("kw", "power_kw", "profile_kw", "up_kwh", "down_kwh"):
            larger[name] *= 1.37
        before = None
        for confidence in (0.5, 0.8, 0.9, 0.95, 0.99, 0.999):
            found = [bid.offer.kw for bid in bids(Rule(confidence, how), sold, blocks, DAY)[0]]
            more = [bid.offer.kw for bid in bids(Rule(confidence, how), sold, larger, DAY)[0]]
            assert more == pytest.approx([1.37 * kw for kw in found])
            assert before is None or all(a <= b + 1e-9 for a, b in zip(found, before, strict=True))
            before = found

    def test_a_day_of_25_hours_has_its_blocks(self):
        """The clock is moved on 25 October 2026."""
        found = answer(days=47, day=date(2026, 10, 25))
        hours = [(bid.block.end_ns - bid.block.start_ns) / 3.6e12 for bid in found.bids]
        assert hours == [5, 4, 4, 4, 4, 4]

    def test_the_window_forgets_what_a_fleet_once_was(self):
        sold = ce()
        rows = made(sold, 90, seed=4)
        old = rows["start_ns"] < sold.day_start_ns(FIRST + timedelta(60))
        rows["kw"][old] *= 3.0
        rows["profile_kw"][old] *= 3.0
        blocks, day = by_block(rows, sold)[0], FIRST + timedelta(91)
        short, long = (bids(Rule(0.9, window_days=days), sold, blocks, day)[0] for days in (28, 90))
        assert all(a.mean_kw < 0.7 * b.mean_kw for a, b in zip(short, long, strict=True))
        assert short[0].mean_kw == pytest.approx(150 * 0.8 * 7, rel=0.08)

    def test_drift_is_cut_told_and_bought_back(self):
        drift = Drift(0.6, 0.66, 0.02, -0.54, 0.02, 40)
        plain, drifting = answer(Rule(0.95)), answer(Rule(0.95, drift=drift))
        back = answer(Rule(0.95, drift=drift, buy_back=True))
        for one, other, bought in zip(plain.bids, drifting.bids, back.bids, strict=True):
            cuts = dict(other.offer.cuts)
            assert cuts["drift"] > 0.0
            assert other.offer.firm_kw == pytest.approx(one.offer.firm_kw - cuts["drift"])
            assert other.hours_left > 4.0  # what is offered lasts the block, and its energy beyond it
            assert other.bought_back_kw == pytest.approx(-0.66 * other.offer.kw)
            # It takes the power that charging for it wants, of what the fleet's power could sell.
            assert one.offer.firm_kw / 1.6 < bought.offer.firm_kw < one.offer.firm_kw


class TestWalk:
    @pytest.mark.parametrize("confidence", [0.9, 0.99])
    @pytest.mark.parametrize("how", ["smallest", "beta_binomial", "normal"])
    def test_the_right_rule_passes(self, confidence, how):
        sold = ce()
        found = [
            walk(Rule(confidence, how), sold, by_block(made(sold, 70, seed, rho=0.02, sd=0.03), sold)[0])
            for seed in range(2)
        ]
        assert all(walked.verdict.passed for walked in found)
        assert all(walked.verdict.blocks > 350 for walked in found)
        exceeded = sum(walked.verdict.exceeded for walked in found)
        assert exceeded < 1.2 * sum(walked.verdict.expected for walked in found)
        # And it gives not everything away: most of what is there is offered.
        offered = sum(bid.offer.kw for walked in found for bid in walked.bids)
        assert offered > 0.55 * sum(sum(walked.available_kw) for walked in found)

    def test_an_optimistic_rule_is_found_out(self, monkeypatch):
        """As if drivers were strangers to each other: the correlation is there and is not looked at."""
        from aggregator.bidding import forecast

        sold = ce()
        blocks = by_block(made(sold, 70, 3, rho=0.05), sold)[0]
        assert walk(Rule(0.99, "beta_binomial"), sold, blocks).verdict.passed
        monkeypatch.setattr(forecast, "_presence", lambda *_: None)
        verdict = walk(Rule(0.99, "beta_binomial"), sold, blocks).verdict
        assert not verdict.passed
        assert verdict.p_value < 1e-6

    def test_a_rule_that_offers_the_mean_is_found_out_and_its_blocks_are_named(self):
        sold = ce()
        blocks = by_block(made(sold, 40, 3), sold)[0]
        walked = walk(Rule(0.5, "normal"), sold, blocks)
        assert walked.verdict.passed  # half of the blocks is what it promises
        strict = walked._replace(verdict=walked.verdict._replace(passed=False))
        document = told(strict)
        assert len(document["failed"]) == walked.verdict.exceeded > 0
        for row in document["failed"]:
            assert row["available_kw"] < row["promised_kw"]
            (then,) = blocks[blocks["start_ns"] == row["start_ns"]]
            assert then["kw"] == row["available_kw"]

    def test_a_fleet_that_shrinks_overnight_fails(self):
        sold = ce()
        rows = made(sold, 60, 5)
        gone = rows["start_ns"] >= sold.day_start_ns(FIRST + timedelta(50))
        rows["kw"][gone] *= 0.5
        verdict = walk(Rule(0.99), sold, by_block(rows, sold)[0]).verdict
        assert not verdict.passed
        assert verdict.independent_p < 0.01


class TestAnswer:
    def test_offers_and_cuts_add_up_and_the_document_is_plain(self):
        import orjson

        found = answer(sold=ce(step_kw=100.0, min_kw=300.0))
        document = orjson.loads(orjson.dumps(found.document()))
        assert [row["block"] for row in document["blocks"]] == [
            "00:00-04:00", "04:00-08:00", "08:00-12:00", "12:00-16:00", "16:00-20:00", "20:00-00:00"
        ]  # fmt: skip
        for row in document["blocks"]:
            assert row["offer_kw"] + sum(row["cuts_kw"].values()) == pytest.approx(row["expected_kw"])
            assert row["offer_kw"] % 100 == 0
            assert row["offer_kw"] == 0 or row["offer_kw"] >= 300
        assert any("minimum" in row["cuts_kw"] for row in document["blocks"])
        assert document["history"]["days"] == 28
        assert document["history"]["incomplete"] == 0
        assert document["correlation"]["rho"] > 0.0
        assert document["backtest"]["blocks"] > 50
        assert document["products"][0]["confidence_mark"] == "V"
        assert datetime.fromisoformat(document["blocks"][0]["start"]).tzinfo is not None

    def test_history_that_goes_on_into_the_day_is_refused(self):
        with pytest.raises(BidError, match=r"goes on until .* give a later date"):
            answer(days=32)
        assert answer(days=30).bids

    def test_too_little_is_refused_and_a_rule_that_cannot_be_tested_says_so(self):
        with pytest.raises(TooLittle, match="at least 7 days"):
            answer(days=6)
        sold = ce()
        with pytest.raises(TooLittle, match="not one whole block"):
            Answer(Rule(), sold, History(made(sold, 1)[:5], (), {}), DAY)
        short = answer(days=8, day=FIRST + timedelta(9))
        assert short.walked is None
        assert "too short" in short.document()["backtest_note"]

    def test_a_day_on_which_the_product_is_not_sold_is_refused(self):
        from droop.products import ProductDateError, load

        sold = ce()
        old = replace(sold, products=(replace(load("ce_fcr"), effective_to="2026-10-01", successor=""),))
        with pytest.raises(ProductDateError, match="2026-10-07"):
            answer(sold=old)

    @pytest.mark.parametrize(
        ("wrong", "match"),
        [({"confidence": 1.0}, "confidence"), ({"confidence": -1.0}, "confidence"), ({"how": "best"}, "--how"),
         ({"lead_h": -1.0}, "lead-h"), ({"window_days": 3.0}, "window-days"), ({"caution": float("nan")}, "caution")],
    )  # fmt: skip
    def test_a_rule_that_is_none_is_refused(self, wrong, match):
        with pytest.raises(BidError, match=match):
            Rule(**wrong)
