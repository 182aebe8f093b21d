"""What a product owes while its energy rules are on: recorded modes laid over what the curve alone asks.

The modes follow the fleet's energy, which settlement does not know; so it takes them from the record, one row a second
while anything is on, and computes the response again by the engine's own function. What a provider gives of its own
accord (over-fulfilment) is owed to nobody and not in here.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from droop import modes
from droop.products import Product
from settlement.align import NS, Bools, Floats, Ints
from settlement.facts import Modes

# Rows come every second while anything is on, every other one in a coarse recording; one that nothing follows ends.
LASTS_NS: Final = 3 * NS


def fractions(product: Product, t_ns: Ints, dev_hz: Floats, static: Floats, recorded: Modes | None) -> Floats:
    """Share of the power sold that is owed at each sample, where the curve alone asks `static`.

    t_ns, dev_hz, static : one element a sample; recorded : the product's modes, None where there never were any
    """
    if recorded is None or not recorded.from_ns.size:
        return static
    order = np.argsort(recorded.from_ns, kind="stable")
    starts_ns = recorded.from_ns[order]
    place = np.searchsorted(starts_ns, t_ns, side="right") - 1
    known = place >= 0
    row = order[np.maximum(place, 0)]
    known &= t_ns - recorded.from_ns[row] < LASTS_NS
    owed = np.ascontiguousarray(static, np.float64).copy()
    curve = product.response
    modes.lay_over(
        owed, np.ascontiguousarray(dev_hz, np.float64), np.where(known, recorded.weight[row], 0.0),
        np.where(known, recorded.mean_hz[row], 0.0), np.where(known, recorded.nem_pu[row], 0.0), curve.x_hz,
        curve.y_frac, curve.deadband_hz, modes.duties([(product, 1.0)]),
    )  # fmt: skip
    return owed


def unavailable(t_ns: Ints, recorded: Modes | None) -> Bools:
    """Whether the product counts as not available at each moment: while AEM is on (Nordic requirements, LER)."""
    if recorded is None or not recorded.from_ns.size:
        return np.zeros(t_ns.size, bool)
    order = np.argsort(recorded.from_ns, kind="stable")
    place = np.searchsorted(recorded.from_ns[order], t_ns, side="right") - 1
    row = order[np.maximum(place, 0)]
    off: Bools = (place >= 0) & (recorded.aem[row] != 0) & (t_ns - recorded.from_ns[row] < LASTS_NS)
    return off
