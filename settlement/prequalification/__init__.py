"""Prequalification: a market's own test as a plan to play, and its verdict on what was recorded.

Pure: a plan is a named sequence of injected values, a verdict a function of arrays. Who plays it, against a simulated
or a live fleet, is the aggregator's business. A figure marked M is a parameter from memory: passing it is no claim of
conformity, and every row shows its mark.

A product names its test in `prequalification.test`; without it, the id tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from settlement.prequalification.plan import Part, Plan, PrequalificationError
from settlement.prequalification.recording import Recording, spacing_s
from settlement.prequalification.rows import Row, Rule

__all__ = [
    "TESTS", "Options", "Part", "Plan", "PrequalificationError", "Recording", "Row", "Trial", "Verdict", "judge",
    "name_of", "plan_of",
]  # fmt: skip

COVERAGE: Final = 0.99
RATE: Final = Rule("sampling", "rate of the recorded power", "Hz", "V", "the test's own sampling")
KNOWN: Final = Rule("data", "share of samples whose power and baseline are known", "of the samples", "D", "")


class Trial(NamedTuple):
    """One market's test. prefixes : of the products' ids that it is for"""

    plan: Callable[[Product, Options], Plan]
    rows: Callable[[Product, Plan, Recording, float, Options], list[Row]]
    prefixes: tuple[str, ...]
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


def _nordic(product: Product, plan: Plan, recording: Recording, sold_kw: float, options: Options) -> list[Row]:
    """FCR-N and dynamic FCR-D: in time, in frequency, and the delay that the loop affords."""
    found: list[Row] = []
    k, kind = float("inf"), "N" if product.direction == "symmetric" else "D"
    for part, start_s, end_s in plan.spans():
        if "period" in part.at:
            continue
        p = nordic.upwards(product, recording.cut(start_s, end_s), sold_kw)
        timed = nordic_time.steps_n(part, p) if kind == "N" else nordic_time.ramps_d(part, p)
        k = timed.k
        found += [*timed.rows, nordic_time.reduction(k, kind)]
    found += nordic_loop.verdict(product, plan, recording, sold_kw, options)
    return [*found, nordic_loop.budget_row(product, options)]


def _nordic_d(product: Product, options: Options) -> Plan:
    return nordic.fcr_d(product, options, combined=bool(product.prequalification.get("combined", False)))


TESTS: Final[Mapping[str, Trial]] = {
    "ce_double_hump": Trial(ce.double_hump, ce.verdict, ("ce_fcr_de",), "FCR, Germany: double hump"),
    "ce": Trial(ce.plan, ce.verdict, ("ce_fcr",), "FCR, Continental Europe: tests a to g"),
    "nordic_fcr_n": Trial(nordic.fcr_n, _nordic, ("nordic_fcr_n",), "FCR-N: steps and sines"),
    "nordic_fcr_d": Trial(_nordic_d, _nordic, ("nordic_fcr_d",), "FCR-D, dynamic: ramps and sines"),
    "nordic_fcr_d_static": Trial(nordic_static.plan, nordic_static.verdict, (), "FCR-D, static: release"),
    "ffr": Trial(ffr.plan, ffr.verdict, ("nordic_ffr", "gb_ffr", "ercot_rrs"), "fast reserves at a trigger: drop"),
    "neso": Trial(neso.plan, neso.verdict, ("gb_dc", "gb_dm", "gb_dr"), "dynamic response: steps, ramp, sweep"),
    "pjm": Trial(pjm.plan, pjm.verdict, ("pjm_reg",), "PJM regulation: three tests of the signal"),
    "nem": Trial(nem.plan, nem.verdict, ("nem_r", "nem_l"), "contingency FCAS: standard frequency ramp"),
    "ieee1547": Trial(ieee1547.plan, ieee1547.verdict, ("ieee1547",), "IEEE 1547: steps"),
}


def name_of(product: Product) -> str:
    """Name of the product's test.

    Raises PrequalificationError for a product that names an unknown one, or none and has no known id.
    """
    named = product.prequalification.get("test")
    if named is not None:
        if named not in TESTS:
            raise PrequalificationError(
                f"{product.id}: field `prequalification.test` names `{named}`; known: {', '.join(TESTS)}"
            )
        return str(named)
    if product.id.startswith("nordic_fcr_d") and product.trigger is not None:
        return "nordic_fcr_d_static"
    for name, test in TESTS.items():
        if product.id.startswith(test.prefixes) and test.prefixes:
            return name
    raise PrequalificationError(
        f"{product.id}: no test is known for it; name one in its field `prequalification.test`: {', '.join(TESTS)}"
    )


def plan_of(product: Product, options: Options | None = None) -> Plan:
    """The plan of a product's test. Raises PrequalificationError."""
    return TESTS[name_of(product)].plan(product, options or Options())


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
    found += TESTS[plan.test].rows(product, plan, recording, sold_kw, options or Options())
    good = rows.passed(found)
    return Verdict(good, _qualified_kw(found, sold_kw), found)


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


def _qualified_kw(found: list[Row], sold_kw: float) -> float:
    """C = min(K_ss, K_dyn) x Pth, where everything but the size of the response is as it must be."""
    factor = next((row for row in found if row.id == nordic_time.K_RED.id), None)
    if factor is None or factor.measured is None or rows.passed(found):
        return sold_kw if rows.passed(found) else 0.0
    rest = [row for row in found if not nordic_time.mended(row, factor.measured)]
    return sold_kw * factor.measured if rows.passed(rest) else 0.0
