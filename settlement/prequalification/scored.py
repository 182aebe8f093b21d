"""A part judged by the product's own score: the rule of the market, on the samples of the test.

Where the product names no rule, or its rule scores nothing, the row does not apply and says so.
"""

from __future__ import annotations

import numpy as np

from droop import curve
from droop.products import Product
from settlement import scores
from settlement.prequalification.recording import Recording, spacing_s
from settlement.prequalification.rows import Row, Rule


def row(product: Product, rule: Rule, part: str, recording: Recording, sold_kw: float, least: float) -> Row:
    """Passed when the score reaches `least`. Samples whose power is unknown score as nothing delivered."""
    dev = recording.hz - (product.nominal_hz if product.input == "frequency" else 0.0)
    target = sold_kw * curve.fractions(product.response, dev)
    known = np.isfinite(dev)
    step_s = spacing_s(recording.t_s) if recording.t_s.size > 1 else 1.0
    net = np.nan_to_num(recording.net_kw)
    found = scores.judge(product, scores.Delivery(net, np.nan_to_num(target), dev, sold_kw, known, step_s))
    if found.score is None:
        return rule.not_applicable(part, found.note)
    return rule.at_least(part, found.score, least, found.note)
