"""NEM frequency performance payments: how much a unit helped or hindered. Formulas from memory (rulebook 6, mark M).

Performance is the sum of deviation x frequency measure over the interval, apart for raise (measure above 0) and lower.
The measure is the filtered frequency deviation turned round, above 0 when raise is needed. The contribution factor is
performance over the magnitude of the region's negative performance, which only the market knows: without it
(`region_negative`) the parts are stated and the factor is not.

The number in 0..1 is our own summary, for dashboards: helpful over helpful and harmful performance. Nothing is paid by
it. Cells in which the delivery is unknown count as no deviation: neither help nor harm is known of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from droop.products import Product
from settlement.align import Bools, Floats
from settlement.scores.rule import Delivery, Kpis, Params, Reach, Rule, ScoreError, Verdict

STEP_S: Final = 4.0
# A signal alone says what was asked, and not whether the frequency needed it.
NO_FREQUENCY: Final = "no frequency on record, which alone tells what helped: give a recorded one beside the signal"


class Performance(NamedTuple):
    """Sums of deviation x measure over cells [kW Hz], above 0 where it helped."""

    raise_kw_hz: float
    lower_kw_hz: float
    helpful_kw_hz: float
    harmful_kw_hz: float  # magnitude

    @property
    def total_kw_hz(self) -> float:
        """Raise and lower together."""
        return self.raise_kw_hz + self.lower_kw_hz


def measure(dev_hz: Floats, step_s: float, filter_s: float = 0.0) -> Floats:
    """Frequency measure: the deviation turned round, through a first-order filter; unknown cells say 0.

    dev_hz : float64[n]  NaN where unknown
    """
    if step_s <= 0 or filter_s < 0:
        raise ScoreError("fields `step_s` and `filter_s` take a time above 0 and one of 0 or more")
    need = -np.nan_to_num(dev_hz)
    if filter_s == 0.0 or need.size == 0:
        return need
    keep = float(np.exp(-step_s / filter_s))
    out, y = [], float(need[0])
    for value in need.tolist():
        y = keep * y + (1.0 - keep) * value
        out.append(y)
    return np.array(out)


def performance(deviation_kw: Floats, measure_hz: Floats) -> Performance:
    """Sums over cells; NaN deviations count as none."""
    if deviation_kw.shape != measure_hz.shape:
        raise ScoreError("fields `deviation_kw` and `measure_hz` must be rows of one length")
    product = np.nan_to_num(deviation_kw) * measure_hz
    up: Bools = measure_hz > 0
    return Performance(
        float(product[up].sum()), float(product[~up].sum()),
        float(product[product > 0].sum()), float(-product[product < 0].sum()),
    )  # fmt: skip


def contribution(performance_kw_hz: float, region_negative_kw_hz: float) -> float:
    """Contribution factor: performance over the magnitude of the region's negative performance."""
    if not region_negative_kw_hz > 0:
        raise ScoreError(f"field `region_negative` takes a magnitude above 0, not {region_negative_kw_hz}")
    return performance_kw_hz / region_negative_kw_hz


def reach(product: Product) -> Reach:
    """4 s, as the regulation set points."""
    return Reach(Params(product).number("step_s", STEP_S, 0.1, 60.0))


def judge(delivery: Delivery, product: Product) -> Verdict:
    """The parts of the interval, the factor where the region's sum is known, and our summary."""
    params, inside = Params(product), delivery.inside
    filter_s = params.number("filter_s", 0.0, 0.0, 600.0)
    region = params.number("region_negative", 0.0)
    heard = ~np.isnan(delivery.dev_hz)
    known = delivery.given_known & heard
    if not heard[inside].any():
        return Verdict(None, NO_FREQUENCY, {})
    if not known[inside].any():
        return Verdict(None, "no cell in which frequency and delivery are known", {})
    deviation = np.where(known, delivery.net_kw, 0.0)
    found = performance(deviation[inside], measure(delivery.dev_hz, delivery.step_s, filter_s)[inside])
    factor = contribution(found.total_kw_hz, region) if region > 0 else None
    kpis: Kpis = {"raise_kw_hz": found.raise_kw_hz, "lower_kw_hz": found.lower_kw_hz, "contribution_factor": factor}
    whole = found.helpful_kw_hz + found.harmful_kw_hz
    if whole == 0:
        return Verdict(None, "no deviation, or no need for one: nothing helped and nothing harmed", kpis)
    share = found.helpful_kw_hz / whole
    said = "the region's sum is not known" if factor is None else f"contribution factor {factor:.4f}"
    return Verdict(share, f"{share:.1%} of the deviation helped; {said} [M]", kpis)


RULE: Final = Rule(judge, reach)
