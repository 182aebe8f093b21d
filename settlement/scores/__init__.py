"""Scores by name: a product's file names the function that judges it, this file finds it.

One module per market rule, pure arrays in, named tuple out. A product without a rule, or with one that is not known
here, has no score and says so: whoever settles goes on with the other figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.scores import ce_corridor


class Delivery(NamedTuple):
    """What a rule judges, on a regular grid.

    net_kw    : float64[n]  delivered, this product's part
    target_kw : float64[n]  expected, known everywhere (history before the interval included)
    dev_hz    : float64[n]  frequency minus nominal
    sold_kw   : float
    valid     : bool[n]     cells that count
    step_s    : float
    """

    net_kw: Floats
    target_kw: Floats
    dev_hz: Floats
    sold_kw: float
    valid: Bools
    step_s: float


class Verdict(NamedTuple):
    """A score in 0..1 or none, why, and the rule's own indicators."""

    score: float | None
    note: str
    kpis: dict[str, float | bool | None]


def _ce_corridor(delivery: Delivery, rule: Mapping[str, Any]) -> Verdict:
    found = ce_corridor.score(
        *delivery[:5],
        step_s=delivery.step_s,
        tolerance_pu=float(rule.get("tol_pu", ce_corridor.TOLERANCE_PU)),
        out_of_bound_max=float(rule.get("oob_max", ce_corridor.OUT_OF_BOUND_MAX)),
        slope_band=(float(rule["slope"][0]), float(rule["slope"][1])) if "slope" in rule else ce_corridor.SLOPE,
    )
    kpis = {name: value for name, value in found._asdict().items() if name != "score"}
    if found.score is None:
        return Verdict(None, "no second in which frequency, meter and baseline are all known", kpis)
    verdict = "adequate" if found.adequate else "inadequate"
    slope = "no slope (frequency or target stood still)" if found.slope_ratio is None else "slope ratio "
    slope += "" if found.slope_ratio is None else f"{found.slope_ratio:.3f}"
    return Verdict(found.score, f"{verdict}: {found.time_out_of_bound_frac:.2%} of the time under, {slope}", kpis)


RULES: Final[Mapping[str, Callable[[Delivery, Mapping[str, Any]], Verdict]]] = {"ce_corridor": _ce_corridor}


def judge(product: Product, delivery: Delivery) -> Verdict:
    """Apply the product's own rule; a product without one, or with an unknown one, gets no score and a note."""
    name = product.score.get("fn")
    if name is None:
        return Verdict(None, f"no scoring rule for {product.id} yet", {})
    if name not in RULES:
        return Verdict(None, f"no scoring rule `{name}`, which {product.id} names; known: {', '.join(RULES)}", {})
    if delivery.sold_kw <= 0:
        return Verdict(None, "nothing sold", {})
    return RULES[name](delivery, product.score)


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
