"""Scores by name: a product's file names the rule that judges it, this file finds it.

One module per market rule, pure arrays in, named tuple out. A product without a rule has no score and says so; so has
one whose rule is not known here, or cannot be applied with the product's figures, and the note says which and why:
a file of a user's own must not stop the settlement of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from droop.products import Product
from settlement.scores import (
    afrr_tolerance,
    caiso_accuracy,
    ce_corridor,
    ffr,
    fpp,
    isone_performance,
    miso_performance,
    nem_fcas,
    neso_bounds,
    nordic_fcr,
    nyiso_performance,
    pjm_precision_only,
    pjm_v1,
    primary_response,
)  # fmt: skip
from settlement.scores.rule import Delivery, Reach, Rule, ScoreError, Verdict

__all__ = ["RULES", "Delivery", "Reach", "Rule", "ScoreError", "Verdict", "judge", "reach", "weighted_score"]

RULES: Final[Mapping[str, Rule]] = {
    "ce_corridor": ce_corridor.RULE,
    "neso_bounds": neso_bounds.RULE,
    "pjm_v1": pjm_v1.RULE,
    "pjm_precision_only": pjm_precision_only.RULE,
    "caiso_accuracy": caiso_accuracy.RULE,
    "nyiso_performance": nyiso_performance.RULE,
    "isone_performance": isone_performance.RULE,
    "miso_performance": miso_performance.RULE,
    "nem_fcas": nem_fcas.RULE,
    "fpp": fpp.RULE,
    "afrr_tolerance": afrr_tolerance.RULE,
    "nordic_fcr": nordic_fcr.RULE,
    "ffr": ffr.RULE,
    "primary_response": primary_response.RULE,
}


def judge(product: Product, delivery: Delivery) -> Verdict:
    """Apply the product's own rule; where that cannot be, no score and a note."""
    name = product.score.get("fn")
    if name is None:
        return Verdict(None, f"no scoring rule for {product.id} yet", {})
    if not isinstance(name, str) or name not in RULES:
        return Verdict(None, f"{product.id}: field `score.fn` names `{name}`; known: {', '.join(RULES)}", {})
    if delivery.sold_kw <= 0:
        return Verdict(None, "nothing sold", {})
    try:
        return RULES[name].judge(delivery, product)
    except ValueError as error:
        return Verdict(None, f"rule `{name}` cannot be applied: {error}", {})


def reach(product: Product) -> Reach:
    """The grid that the product's rule wants; what every product had before, where it has none or a wrong one."""
    rule = RULES.get(str(product.score.get("fn")))
    try:
        return rule.reach(product) if rule is not None else Reach()
    except ValueError:
        return Reach()  # the figure that is wrong is named when the product is judged


def weighted_score(rows: Iterable[tuple[float | None, float, str]]) -> tuple[float | None, str]:
    """One score for many intervals: their mean, weighted by the time each covers.

    rows : (score, coverage_frac, note) of each interval
    """
    rows = list(rows)
    scored = [(score, max(coverage, 1e-9)) for score, coverage, _ in rows if score is not None]
    if not scored:
        return None, next((note for *_, note in rows if note), "no interval was settled")
    total = sum(weight for _, weight in scored)
    return sum(score * weight for score, weight in scored) / total, f"{len(scored)} interval(s), weighted by coverage"
