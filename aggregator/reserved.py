"""What the products sold reserve of the fleet, and whether it is there: the alarm of overselling and its figures.

Power and energy are those that the products state, summed (`droop.entitlement`); what there is, is what the fleet can
sustain under its sites' caps (`droop.capability`). Reads the core, changes nothing; time is passed in.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from aggregator.core import Aggregator
from droop.capability import sustained
from droop.entitlement import maintained_kw, reserve, sustained_for

# Rated power is what can be held for a moment [h].
MOMENT_H: Final = 1e-3
# Sums of powers differ by rounding [kW].
ROUNDING_KW: Final = 1e-6


def figures(core: Aggregator, now_ns: int) -> dict[str, Any]:
    """Reserved against what there is, JSON-ready.

    `short` tells whether anything is missing. `power`: what must be free each way, against what the fleet can reach;
    `sustain`: for each duration that a product asks the mean power, against what can be held for it. `maintained_kw`:
    by product, what is maintained at this moment.
    """
    sold = [(contract.product, contract.sold_kw) for contract in core.settings.contracts]
    tree = core.engine.room.tree
    caps = tree if tree.first.size > 0 else None
    fleet, reserved = core.engine.fleet, reserve(sold)
    rows = [(MOMENT_H, reserved.up_kw, reserved.down_kw), *sustained_for(sold)]
    short, checked = False, []
    for hours, up_kw, down_kw in rows:
        have_up_kw, have_down_kw = sustained(fleet, now_ns, hours, caps)
        lacks = up_kw > have_up_kw + ROUNDING_KW or down_kw > have_down_kw + ROUNDING_KW
        short = short or lacks
        checked.append({
            "minutes": hours * 60.0, "up_kw": up_kw, "down_kw": down_kw, "have_up_kw": have_up_kw,
            "have_down_kw": have_down_kw, "short": lacks,
        })  # fmt: skip
    return {"short": short, "power": checked[0] | {"minutes": 0.0}, "sustain": checked[1:],
            "up_kwh": reserved.up_kwh, "down_kwh": reserved.down_kwh, "maintained_kw": maintained(core)}  # fmt: skip


def maintained(core: Aggregator) -> dict[str, float]:
    """By product what is maintained now: within the fleet's band beyond its baseline; nothing while AEM is on [kW]."""
    contracts, totals = core.settings.contracts, core.engine.totals
    room_up_kw = float(totals.hi_kw.sum()) - core.baseline_kw
    room_down_kw = core.baseline_kw - float(totals.lo_kw.sum())
    off = (core.engine.motion.modes.aem != 0).tolist()
    sold = [(contract.product, contract.sold_kw) for contract in contracts]
    kept = maintained_kw(sold, room_up_kw, room_down_kw, off=off)
    found: dict[str, float] = {}
    for contract, kw in zip(contracts, kept, strict=True):
        found[contract.product.id] = found.get(contract.product.id, 0.0) + float(np.asarray(kw))
    return found
