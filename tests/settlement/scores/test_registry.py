"""The registry finds a product's rule, says why where there is none, and no rule falls over what it is given."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droop.products import load
from droop.promises import Trigger
from settlement.scores import RULES, Delivery, Reach, judge, reach, weighted_score

FCR = load("ce_fcr")
UP = replace(FCR, direction="up", curve_hz=(-0.2, 0.0), curve_frac=(1.0, 0.0), deadband_hz=0.0, deadband_kind="none",
             trigger=Trigger(hz=49.9, hold_s=5.0))  # fmt: skip


def product(name):
    return replace(UP, id=f"x_{name}", score={"fn": name, "unverified": True})


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
    plain = replace(FCR, id="plain", score={})
    assert judge(plain, delivery()) == (None, "no scoring rule for plain yet", {})
    assert reach(plain) == Reach(1.0, 32, 0, False)


def test_nothing_valid_or_nothing_sold():
    assert judge(FCR, delivery(valid=False)).score is None
    assert judge(FCR, delivery(sold_kw=0.0)) == (None, "nothing sold", {})


def test_an_unknown_rule_is_no_score_and_named():
    """A file of a user's own must not stop the settlement of the others."""
    lucky = replace(FCR, score={"fn": "luck"})
    verdict = judge(lucky, delivery())
    assert verdict.score is None
    assert verdict.note.startswith("ce_fcr: field `score.fn` names `luck`; known: ce_corridor, neso_bounds")
    assert reach(lucky) == Reach()
    odd = replace(FCR, score={"fn": ["ce_corridor"]})
    assert judge(odd, delivery()).score is None
    assert reach(odd) == Reach()


def test_a_wrong_figure_is_no_score_and_named():
    for change, said in (
        ({"slope": [1.3, 0.9]}, "score.slope"), ({"slope": 1.0}, "score.slope"), ({"tol_pu": "5 %"}, "score.tol_pu"),
        ({"tol_pu": float("nan")}, "score.tol_pu"), ({"oob_max": True}, "score.oob_max"),
    ):  # fmt: skip
        verdict = judge(replace(FCR, score={**FCR.score, **change}), delivery())
        assert verdict.score is None
        assert said in verdict.note
        assert verdict.note.startswith("rule `ce_corridor` cannot be applied: ce_fcr: ")


def test_a_wrong_figure_of_the_grid_asks_for_the_usual_one():
    assert reach(replace(UP, score={"fn": "pjm_v1", "step_s": -1.0})) == Reach()
    assert "score.period_s" in judge(replace(UP, score={"fn": "caiso_accuracy", "period_s": 0.0}), delivery()).note


@pytest.mark.parametrize("name", RULES)
def test_every_rule_tells_its_grid(name):
    found = reach(product(name))
    assert found.step_s > 0
    assert found.lead_s >= 32
    assert found.tail_s >= 0


GRIDS = {name: reach(product(name)).step_s for name in RULES}
SERIES = ("nothing", "flat", "walk")


@pytest.mark.parametrize("name", RULES)
@given(
    seed=st.integers(0, 1000), cells=st.sampled_from([0, 1, 2, 40, 200]), asked=st.sampled_from(SERIES),
    answered=st.sampled_from(SERIES), missing=st.sampled_from([0.0, 0.3, 1.0]),
    direction=st.sampled_from(["up", "down", "symmetric"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_no_rule_falls_over_nothing_flat_or_missing(name, seed, cells, asked, answered, missing, direction):
    rng = np.random.default_rng(seed)
    shapes = {
        "nothing": np.zeros(cells), "flat": np.full(cells, 300.0),
        "walk": 1000.0 * np.sin(np.cumsum(rng.normal(0, 0.1, cells))),
    }  # fmt: skip
    dev = -shapes[asked] / 2000.0 if asked != "nothing" else np.zeros(cells)
    given_known, asked_known = rng.random(cells) >= missing, rng.random(cells) >= missing / 2
    first, last = min(cells, 5), max(min(cells, 5), cells - 10)
    valid = given_known & asked_known
    valid[:first] = valid[last:] = False
    one = Delivery(
        np.where(given_known, shapes[answered], np.nan), shapes[asked], np.where(asked_known, dev, np.nan),
        1000.0, valid, GRIDS[name], asked_known, given_known, first, last,
    )  # fmt: skip
    verdict = judge(replace(product(name), direction=direction), one)
    assert verdict.score is None or 0.0 <= verdict.score <= 1.0
    assert verdict.note
    for value in verdict.kpis.values():
        assert value is None or isinstance(value, bool | int | float)
        assert value is None or np.isfinite(value)
    if missing == 1.0:
        assert verdict.score is None


def test_weighted():
    found = weighted_score([(1.0, 1.0, ""), (0.5, 3.0, ""), (None, 1.0, "x")])
    assert found == (0.625, "2 interval(s), weighted by coverage")
    assert weighted_score([(None, 1.0, ""), (None, 1.0, "why")]) == (None, "why")


def test_the_page_on_scores_has_every_rule_and_its_grid():
    page = (Path(__file__).resolve().parents[3] / "docs" / "scores.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| ([\d.]+ m?s)", page, re.MULTILINE))
    assert set(rows) == set(RULES)
    for name, text in rows.items():
        number, unit = text.split()
        assert float(number) * (0.001 if unit == "ms" else 1.0) == pytest.approx(GRIDS[name])
