"""The registry finds a product's rule, and says why where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from droop.products import load
from settlement.scores import Delivery, judge

FCR = load("ce_fcr")


def delivery(sold_kw=1000.0, valid=True, gain=1.0):
    dev = np.linspace(-0.1, 0.1, 200)
    target = -dev / 0.2 * sold_kw
    return Delivery(gain * target, target, dev, sold_kw, np.full(200, valid), 1.0)


def test_a_product_with_a_rule():
    verdict = judge(FCR, delivery())
    assert verdict.score == 1.0
    assert verdict.kpis["slope_ratio"] == 1.0
    assert verdict.note.startswith("adequate")
    assert judge(FCR, delivery(gain=0.85)).note.startswith("inadequate")


def test_the_products_own_parameters_count():
    strict = replace(FCR, score={**FCR.score, "slope": [0.99, 1.01]})
    assert judge(FCR, delivery(gain=1.05)).kpis["adequate"] is True
    assert judge(strict, delivery(gain=1.05)).kpis["adequate"] is False


def test_no_rule_is_no_score_and_a_note():
    verdict = judge(load("spp_reg_up"), delivery())
    assert verdict == (None, "no scoring rule for spp_reg_up yet", {})


def test_nothing_valid_or_nothing_sold():
    assert judge(FCR, delivery(valid=False)).score is None
    assert judge(FCR, delivery(sold_kw=0.0)) == (None, "nothing sold", {})


def test_an_unknown_rule_is_no_score_and_is_named():
    verdict = judge(replace(FCR, score={"fn": "luck"}), delivery())
    assert (verdict.score, verdict.kpis) == (None, {})
    assert verdict.note.startswith("no scoring rule `luck`, which ce_fcr names; known: ce_corridor")
