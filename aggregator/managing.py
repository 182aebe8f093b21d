"""The energy rules as the core shows them: alarms, journal rows, and how long each mode was on.

Reads the engine's arrays, changes nothing; the rules are `droop.modes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from aggregator.contracts import Contract
from aggregator.records import FLEET, MODE, Block
from droop.fleet import Totals
from droop.modes import Duties, Mode, Modes
from settlement.facts import Energy
from settlement.facts import Modes as FactModes

ALARM_OF: Final = (("ALERT_STATE", "alert"), ("RESERVE_MODE", "reserve"), ("NEM_ACTIVE", "nem"), ("AEM_ACTIVE", "aem"))


def on(modes: Modes) -> Iterator[tuple[str, bool]]:
    """(alarm, whether any product is in that mode)."""
    for code, name in ALARM_OF:
        yield code, bool(getattr(modes, name).any())


def rows(duties: Duties, modes: Modes, totals: Totals, t_ns: int) -> Block:
    """MODE[n]: the products with such rules, from `t_ns` on; none where nothing is on, and nothing was before."""
    ruled = np.flatnonzero(duties.any) if modes.active.any() else np.zeros(0, np.int64)
    found = np.zeros(ruled.size, MODE)
    found["from_ns"], found["product"] = t_ns, ruled
    for name in ("alert", "reserve", "nem", "aem", "weight", "mean_hz", "nem_pu"):
        found[name] = getattr(modes, name)[ruled]
    found["up_kwh"], found["down_kwh"] = totals.up_kwh.sum(), totals.down_kwh.sum()
    return found


def energies(totals: Totals, t_ns: int) -> Block:
    """MODE[1]: what the fleet can give and take at `t_ns`."""
    found = np.zeros(1, MODE)
    found["from_ns"], found["product"] = t_ns, FLEET
    found["up_kwh"], found["down_kwh"] = totals.up_kwh.sum(), totals.down_kwh.sum()
    return found


def energy(rows: Block) -> Energy:
    """The fleet's energies among MODE rows, as settlement takes them."""
    own = rows[rows["product"] == FLEET]
    return Energy(own["from_ns"], own["up_kwh"], own["down_kwh"])


def by_product(rows: Block, contracts: Sequence[Contract]) -> dict[str, FactModes]:
    """MODE rows as settlement takes them; of a product sold in several contracts those of the first."""
    found: dict[str, FactModes] = {}
    for place, contract in enumerate(contracts):
        own = rows[rows["product"] == place]
        if own.size and contract.product.id not in found:
            found[contract.product.id] = FactModes(
                own["from_ns"], own["weight"], own["mean_hz"], own["nem_pu"], own["aem"].astype(np.int64)
            )
    return found


def told(contracts: Sequence[Contract], duties: Duties, modes: Modes) -> dict[str, dict[str, Any]]:
    """By product with such rules: which modes are on, and for how long each was, JSON-ready."""
    return {
        contract.product.id: {
            "on": [mode.name.lower() for mode, name in zip(Mode, ("alert", "reserve", "nem", "aem"), strict=True)
                   if getattr(modes, name)[row] != 0],
            "seconds": {mode.name.lower(): int(modes.seconds[row, mode]) for mode in Mode},
            "nem_kw": float(modes.nem_pu[row]) * contract.sold_kw,
        }
        for row, contract in enumerate(contracts)
        if duties.any[row]
    }  # fmt: skip


def seconds(told: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """By product how long each mode was on, of `told`; those that never were are left out."""
    return {name: {mode: s for mode, s in item["seconds"].items() if s} for name, item in told.items()}
