"""Who is plugged in where: session events, reports and owners' wishes become fleet columns.

Rows are checked at this door and nowhere behind it: what is not finite, not in range or not of the running
session is counted by reason and changes nothing. This file computes no bounds and knows no product.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from aggregator.intake import (
    CAPACITY_MAX_KWH,
    POWER_MAX_KW,
    REPORT_REASONS,
    SESSION_REASONS,
    TAKEN,
    WISH_REASONS,
    judge_sessions,
    place_sessions,
    take_reports,
    take_wishes,
)
from droop.efficiency import NONE, Losses
from droop.fleet import Fleet, Totals
from droop.handle import hold
from droop.response import Believing
from telemetry.samples import Block, SlotState

__all__ = ["CAPACITY_MAX_KWH", "POWER_MAX_KW", "Registry"]


class Registry:
    """The one writer of the session, report and wish columns of a fleet.

    refused  : rows not taken, by reason
    vehicles : S24[n] who is plugged in; empty where nobody is
    """

    def __init__(self, fleet: Fleet, totals: Totals, believing: Believing | None = None, losses: Losses = NONE) -> None:
        self._believing = believing or Believing()
        self._losses = losses
        self._fleet, self._totals = fleet, totals
        self._held = hold(fleet)
        self.vehicles = np.zeros(fleet.state.size, "S24")
        self._last = np.zeros(fleet.state.size, "S24")  # who was plugged in last; stays when nobody is
        self._told_ns = np.zeros(fleet.state.size, np.int64)  # source time of the session row that stands
        self._wished_ns = np.zeros(fleet.state.size, np.int64)  # source time of the wish that stands
        self.refused: Counter[str] = Counter()
        self._bad = np.zeros(max(len(REPORT_REASONS), len(WISH_REASONS)), np.int64)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the handle, which is an address."""
        return {name: value for name, value in self.__dict__.items() if name != "_held"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._held = hold(self._fleet)

    def sessions(self, block: Block, now_ns: int) -> int:
        """Take plug-ins and plug-outs in their order; returns how many rows were refused.

        block : SESSION[n]
        """
        rows = plain(block)
        verdict = np.empty(rows.size, np.int64)
        refused = int(judge_sessions(self._held, self._told_ns, rows, now_ns, verdict))
        if refused:
            for code, count in enumerate(np.bincount(verdict[verdict != TAKEN], minlength=len(SESSION_REASONS))):
                if count:
                    self.refused[SESSION_REASONS[code]] += int(count)
            rows = rows[verdict == TAKEN]
        if rows.size > 1:
            rows = newest(rows)
        slots, gone = rows["slot"], rows["state"] == SlotState.UNPLUGGED
        # Two without a name may be two vehicles.
        known = (rows["vehicle"] == self._last[slots]) & (rows["vehicle"] != b"")
        place_sessions(self._held, self._told_ns, self._wished_ns, self._totals.refreshed_ns, rows, known, now_ns)
        self._lose(slots)
        self.vehicles[slots] = np.where(gone, b"", rows["vehicle"])
        self._last[slots[~gone]] = rows["vehicle"][~gone]
        return refused

    def _lose(self, slots: Block) -> None:
        """What the chargers of new sessions lose while they run, from their rating."""
        fleet = self._fleet
        rating_kw = np.maximum(fleet.charge_max_kw[slots], fleet.discharge_max_kw[slots])
        fleet.idle_kw[slots] = self._losses.standing * rating_kw
        fleet.heat_per_kw[slots] = np.where(rating_kw > 0, self._losses.quadratic / np.maximum(rating_kw, 1e-3), 0.0)

    def reports(self, block: Block, now_ns: int) -> int:
        """Take measured power, SoC and temperature of running sessions; returns how many rows were refused.

        block : VEHICLE[n]
        """
        taking = self._held, self._totals.refreshed_ns, plain(block), now_ns, self._believing, self._bad
        refused = int(take_reports(*taking))
        if refused:
            self._count(REPORT_REASONS)
        return refused

    def wishes(self, block: Block, now_ns: int) -> int:
        """Take owners' overrides of running sessions, the newest stands; returns how many rows were refused.

        block : WISH[n]
        """
        taking = self._held, self._wished_ns, self._totals.refreshed_ns, plain(block), now_ns, self._bad
        refused = int(take_wishes(*taking))
        if refused:
            self._count(WISH_REASONS)
        return refused

    def _count(self, reasons: tuple[str, ...]) -> None:
        """What a kernel refused, from its counters into ours."""
        for code, reason in enumerate(reasons):
            if self._bad[code]:
                self.refused[reason] += int(self._bad[code])
        self._bad[:] = 0


def plain(block: Block) -> Block:
    """The block in the one memory layout the kernels see; blocks off the wire lie at any address, read-only."""
    usable = block.flags.aligned and block.flags.writeable and block.flags.c_contiguous
    return block if usable else np.array(block)


def newest(rows: Block) -> Block:
    """The newest row of each slot: a slot may end and begin in the same block. rows : SESSION[n]"""
    order = np.lexsort((rows["state"] == SlotState.UNPLUGGED, rows["t_ns"], rows["session"], rows["slot"]))
    ordered = rows[order]
    return ordered[np.flatnonzero(np.diff(ordered["slot"], append=np.int64(-1)))]
