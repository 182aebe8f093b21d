"""IEEE 1547-2018, frequency droop: steps of the frequency, steady power and open-loop response time.

Clause 6.5.2.7: outside the dead band power moves along the droop from what it was, through a first-order lag whose
open-loop response time is to 90 % of the change. Which steps are played and how near is near enough are from memory:
the conformance procedure, IEEE 1547.1, was not at hand.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from droop.products import Product
from settlement.prequalification import steps
from settlement.prequalification.options import Options
from settlement.prequalification.plan import Part, Plan, hold
from settlement.prequalification.recording import Played, Trace, shown
from settlement.prequalification.rows import Row, Rule

RATE_HZ: Final = 10.0
REST_S: Final = 30.0
STEP_S: Final = 60.0
STEPS_HZ: Final = (-0.5, 0.5, -1.0, 1.0)
NEAR_PU: Final = 0.02
TIME_FRAC: Final = 0.10
SOURCE: Final = "IEEE 1547-2018, 6.5.2.7"
PROCEDURE: Final = "IEEE 1547.1"

STEADY: Final = Rule("steady state", "error of the power at the end of a step", "of the rating", "M", PROCEDURE)
RESPONSE: Final = Rule("response time", "time to 90 % of the change", "s", "M", SOURCE)
DEADBAND: Final = Rule("dead band", "response at the edge of the dead band", "of the rating", "M", PROCEDURE)


def plan(product: Product, options: Options) -> Plan:
    """Steps either way, and to the edges of the dead band."""
    f0, step_s = product.nominal_hz, options.hold(STEP_S)
    parts = []
    if product.deadband_hz > 0:
        edges = (hold(f0, REST_S), hold(f0 - product.deadband_hz, REST_S), hold(f0 + product.deadband_hz, REST_S))
        parts.append(Part("dead band", "to both edges", (*edges, hold(f0, REST_S)), {"edges": REST_S}))
    for dev_hz in STEPS_HZ:
        if steps.fraction(product, f0 + dev_hz) == 0.0:
            continue
        pieces = (hold(f0, REST_S), hold(f0 + dev_hz, step_s), hold(f0, REST_S))
        at, level = {"step": REST_S, "back": REST_S + step_s}, {"value": f0 + dev_hz}
        parts.append(Part(f"{f0 + dev_hz:g} Hz", f"a step of {dev_hz:+g} Hz", pieces, at, level))
    return Plan(("ieee1547_steps",), "IEEE 1547: steps of the frequency", RATE_HZ, tuple(parts), "M", PROCEDURE)


def verdict(product: Product, played: Played, sold_kw: float, options: Options) -> list[Row]:
    """Rows of every part."""
    del options
    rows: list[Row] = []
    for part, cut in played:
        y = shown(cut, sold_kw)
        if "edges" in part.at:
            start = part.at["edges"]
            most = float(np.abs(y.between(start, start + 2 * REST_S) - y.mean(0.0, REST_S)).max(initial=0.0))
            rows.append(DEADBAND.at_most(part.name, most if y.t_s.size else float("nan"), NEAR_PU))
        else:
            rows += _step(product, part, y)
    return rows


def _step(product: Product, part: Part, y: Trace) -> list[Row]:
    step_s, back_s = part.at["step"], part.at["back"]
    share = steps.fraction(product, part.level["value"])
    before = y.mean(0.0, step_s)  # the power that the droop is added to
    rise = Trace(y.t_s, (y.y - before) / share)
    steady = rise.mean(back_s - 5.0, back_s)
    limit_s = (product.olrt_s or product.full_s) * (1.0 + TIME_FRAC)
    return [
        STEADY.at_most(part.name, abs(steady - 1.0) * abs(share), NEAR_PU),
        RESPONSE.at_most(part.name, rise.first(0.9 * steady, step_s, back_s), limit_s),
    ]
