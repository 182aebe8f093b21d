"""Prequalification: a market's own test as a plan to play, and its verdict on what was recorded.

Pure: a plan is a named sequence of injected values, a verdict a function of arrays. Who plays it, against a simulated
or a live fleet, is the aggregator's business. A figure marked M is a parameter from memory: passing it is no claim of
conformity, and every row shows its mark.

A product names its tests in `prequalification.plans`; one that names none has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from droop.products import Product
from settlement.prequalification import (
    ce,
    ffr,
    ieee1547,
    nem,
    neso,
    nordic,
    nordic_loop,
    nordic_static,
    nordic_time,
    pjm,
    rows,
)
from settlement.prequalification.options import Options
from settlement.prequalification.plan import Part, Plan, PrequalificationError, joined
from settlement.prequalification.recording import Played, Recording, spacing_s
from settlement.prequalification.rows import Row, Rule

__all__ = [
    "TESTS", "Options", "Part", "Plan", "PrequalificationError", "Recording", "Row", "Trial", "Verdict", "judge",
    "names_of", "plan_of",
]  # fmt: skip

COVERAGE: Final = 0.99
RATE: Final = Rule("sampling", "rate of the recorded power", "Hz", "V", "the test's own sampling")
KNOWN: Final = Rule("data", "share of samples whose power and baseline are known", "of the samples", "D", "")


class Trial(NamedTuple):
    """One market's test: its plan, its verdict on the parts that were played, and what it is."""

    plan: Callable[[Product, Options], Plan]
    rows: Callable[[Product, Played, float, Options], list[Row]]
    title: str


class Verdict(NamedTuple):
    """All rows of a test.

    passed       : every requirement that applies, at the power sold
    qualified_kw : what would qualify: the power sold, less where a reduction factor allows it, else 0
    """

    passed: bool
    qualified_kw: float
    rows: list[Row]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "passed": self.passed,
            "qualified_kw": self.qualified_kw,
            "failed": sorted({row.id for row in self.rows if row.passed is False}),
            "requirements": [row.to_dict() for row in self.rows],
        }


TESTS: Final[Mapping[str, Trial]] = {
    "ce_steps": Trial(ce.plan, ce.verdict, "FCR, Continental Europe: tests a to g"),
    "ce_double_hump": Trial(ce.double_hump, ce.verdict, "FCR, Germany: double hump"),
    "nordic_fcr_n_steps": Trial(nordic.fcr_n, nordic_time.verdict_n, "FCR-N: steps"),
    "nordic_fcr_d_ramps": Trial(nordic.fcr_d, nordic_time.verdict_d, "FCR-D, dynamic: ramps 1 to 8"),
    "nordic_sines": Trial(nordic.sines, nordic_loop.verdict, "FCR-N and FCR-D: sines"),
    "nordic_static": Trial(nordic_static.plan, nordic_static.verdict, "FCR-D, static: activation and release"),
    "ffr_drop": Trial(ffr.plan, ffr.verdict, "fast reserves at a trigger: drop"),
    "neso_step": Trial(neso.plan, neso.verdict, "dynamic response, Great Britain: steps, ramp, sweep"),
    "pjm_test": Trial(pjm.plan, pjm.verdict, "PJM regulation: three tests of the signal"),
    "nem_ramp": Trial(nem.plan, nem.verdict, "contingency FCAS: standard frequency ramp"),
    "ieee1547_steps": Trial(ieee1547.plan, ieee1547.verdict, "IEEE 1547: steps of the frequency"),
}


def names_of(product: Product) -> tuple[str, ...]:
    """The product's tests, by its field `prequalification.plans`.

    Raises PrequalificationError for an unknown test, and for a product that has none.
    """
    named = product.prequalification.get("plans", ())
    if isinstance(named, str) or not named:
        raise PrequalificationError(
            f"{product.id}: no test is known for it; name some in `prequalification.plans`: {', '.join(TESTS)}"
        )
    for name in named:
        if name not in TESTS:
            raise PrequalificationError(
                f"{product.id}: field `prequalification.plans` names `{name}`; known: {', '.join(TESTS)}"
            )
    return tuple(named)


def plan_of(product: Product, options: Options | None = None) -> Plan:
    """The plan of a product's tests, one after the other. Raises PrequalificationError."""
    chosen = options or Options()
    plan = joined(product.title, [TESTS[name].plan(product, chosen) for name in names_of(product)])
    # A signal comes when it comes; a frequency is injected as often as the product's tests must be recorded.
    return replace(plan, rate_hz=max(plan.rate_hz, product.sampling.test_hz)) if plan.input == "frequency" else plan


def judge(
    product: Product, plan: Plan, recording: Recording, sold_kw: float, options: Options | None = None
) -> Verdict:
    """The verdict on a recorded test.

    recording : on the plan's time; rows in ascending order, all columns of one length
    sold_kw   : the power that was declared for the test

    Raises PrequalificationError.
    """
    if not sold_kw > 0:
        raise PrequalificationError(f"field `sold_kw` takes a power above 0, not {sold_kw}")
    if len({column.shape for column in recording}) > 1 or recording.t_s.ndim != 1:
        raise PrequalificationError("columns of a recording must be rows of one length")
    if recording.t_s.size < 2 or not bool((np.diff(recording.t_s) > 0).all()):
        raise PrequalificationError("column `t_s` of a recording takes at least two times, each later than the last")
    found = [_sampling(plan, recording), *_data(plan, recording)]
    spans = [(part, recording.cut(start_s, end_s)) for part, start_s, end_s in plan.spans()]
    for name in plan.tests:
        played = [(part, cut) for part, cut in spans if part.test == name]
        found += TESTS[name].rows(product, played, sold_kw, options or Options()) if played else []
    return Verdict(rows.passed(found), _qualified_kw(product, found, sold_kw), found)


def _sampling(plan: Plan, recording: Recording) -> Row:
    """Whether power was recorded as often as the test wants it."""
    known = recording.t_s[np.isfinite(recording.power_kw)]
    period_s = spacing_s(known)
    return RATE.at_least("all", 1.0 / period_s if period_s > 0 else float("nan"), plan.rate_hz)


def _data(plan: Plan, recording: Recording) -> list[Row]:
    """How much of each part is known: what is missing is never taken for delivered."""
    found = []
    for part, start_s, end_s in plan.spans():
        cut = recording.cut(start_s, end_s)
        wanted = max((end_s - start_s) / max(spacing_s(recording.t_s), 1e-9), 1.0)
        found.append(KNOWN.at_least(part.name, min(np.count_nonzero(np.isfinite(cut.net_kw)) / wanted, 1.0), COVERAGE))
    return found


def _qualified_kw(product: Product, found: list[Row], sold_kw: float) -> float:
    """C = min(K_ss, K_dyn) x Pth, where everything but the size of the response is as it must be."""
    factor = next((row for row in found if row.id == nordic_time.K_RED.id), None)
    if factor is None or factor.measured is None or rows.passed(found):
        return sold_kw if rows.passed(found) else 0.0
    limits = nordic_time.limits_of(product, 0.0)
    rest = [row for row in found if not nordic_time.mended(row, factor.measured, limits)]
    return sold_kw * factor.measured if rows.passed(rest) else 0.0
