"""Who is plugged in where: session events and reports become fleet columns.

Rows are checked at this door and nowhere behind it: what is not finite, not in range or not of the running
session is counted by reason and changes nothing. This file computes no bounds and knows no product.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from droop.fleet import FAULT, PLUGGED, SEGMENTS, UNPLUGGED, Fleet, Totals
from droop.handle import hold
from droop.numerics import kernel
from telemetry.samples import Block, SlotState

Mask = npt.NDArray[np.bool_]

FINITE = (
    "capacity_kwh", "soh_frac", "soc_frac", "soc_min_frac", "soc_max_frac", "dod_max_frac", "charge_max_kw",
    "discharge_max_kw", "eta_charge_frac", "eta_discharge_frac", "safe_kw", "depart_kwh",
)  # fmt: skip
FRACTIONS = ("soh_frac", "soc_frac", "soc_min_frac", "soc_max_frac", "dod_max_frac")
EFFICIENCIES = ("eta_charge_frac", "eta_discharge_frac")
# More than any charger or vehicle has; beyond it float32 sums of the fleet would lose everyone else's power.
POWER_MAX_KW: Final = 1e4
CAPACITY_MAX_KWH: Final = 1e5
REPORT_REASONS: Final = (
    "report_slot", "report_state", "report_session", "report_nan", "report_range", "report_old"
)  # fmt: skip
SLOT, STATE, SESSION_OVER, NOT_A_NUMBER, OUT_OF_RANGE, OLD = range(len(REPORT_REASONS))
# A report far older than its arrival was not buffered: the charger's clock is wrong, and the arrival counts.
CLOCK_WRONG_NS: Final = 60_000_000_000


@kernel
def _take_reports(held: Any, refreshed_ns: Mask, rows: Block, now_ns: int, bad: Block) -> int:
    """Reports into the fleet's columns; returns how many were refused, and counts them by reason in `bad`.

    held : the fleet's handle; rows : VEHICLE[n]
    """
    fleet = held.value
    state, session, usable_kwh = fleet.state, fleet.session, fleet.usable_kwh
    measured_kw, energy_kwh = fleet.measured_kw, fleet.energy_kwh
    energy_ns, report_ns = fleet.energy_ns, fleet.report_ns
    n = state.size
    refused = 0
    for k in range(rows.size):
        row = rows[k]
        slot = int(row.slot)
        soc = float(row.soc_frac)
        why = -1
        if slot >= n:
            why = SLOT
        elif row.state != PLUGGED and row.state != FAULT:
            why = STATE
        elif session[slot] != row.session or state[slot] == UNPLUGGED:
            why = SESSION_OVER
        elif not (np.isfinite(row.power_kw) and np.isfinite(soc)):
            why = NOT_A_NUMBER
        elif soc < 0.0 or soc > 1.0 or abs(row.power_kw) > POWER_MAX_KW:
            why = OUT_OF_RANGE
        elif row.rx_ns < report_ns[slot]:
            # Overtaken on its way: what it says is no longer so.
            why = OLD
        if why >= 0:
            bad[why] += 1
            refused += 1
            continue
        measured_kw[slot] = row.power_kw
        energy_kwh[slot] = soc * usable_kwh[slot]
        # A report tells of its own time; a clock ahead of ours must not make it younger than its arrival.
        arrived_ns = min(row.rx_ns, now_ns)
        energy_ns[slot] = min(row.t_ns, now_ns) if row.t_ns > arrived_ns - CLOCK_WRONG_NS else arrived_ns
        report_ns[slot] = arrived_ns
        if state[slot] != row.state:
            state[slot] = row.state
            segment = ((slot + 1) * SEGMENTS - 1) // n
            refreshed_ns[segment] = min(refreshed_ns[segment], 1)
    return refused


class Registry:
    """The one writer of the session and report columns of a fleet.

    refused : rows not taken, by reason
    """

    def __init__(self, fleet: Fleet, totals: Totals) -> None:
        self._fleet, self._totals = fleet, totals
        self._held = hold(fleet)
        self.vehicles = np.zeros(fleet.state.size, "S24")
        self._told_ns = np.zeros(fleet.state.size, np.int64)  # source time of the session row that stands
        self.refused: Counter[str] = Counter()
        self._bad = np.zeros(len(REPORT_REASONS), np.int64)

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
        before = sum(self.refused.values())
        rows = self._checked_sessions(block)
        # One slot may end and begin in the same block: its newest row stands.
        rows = rows[np.lexsort((rows["state"] == SlotState.UNPLUGGED, rows["t_ns"], rows["session"], rows["slot"]))]
        final = rows[np.flatnonzero(np.diff(rows["slot"], append=np.int64(-1)))]
        self._told_ns[final["slot"]] = final["t_ns"]
        self._end(final[final["state"] == SlotState.UNPLUGGED])
        self._begin(final[final["state"] != SlotState.UNPLUGGED], now_ns)
        if rows.size:
            self._due_now(rows["slot"])
        return sum(self.refused.values()) - before

    def reports(self, block: Block, now_ns: int) -> int:
        """Take measured power and SoC of running sessions; returns how many rows were refused.

        block : VEHICLE[n]
        """
        # Blocks off the wire lie at any address and are read-only; the kernel sees one memory layout.
        plain = block.flags.aligned and block.flags.writeable and block.flags.c_contiguous
        rows = block if plain else np.array(block)
        refused = int(_take_reports(self._held, self._totals.refreshed_ns, rows, now_ns, self._bad))
        if refused:
            for code, reason in enumerate(REPORT_REASONS):
                if self._bad[code]:
                    self.refused[reason] += int(self._bad[code])
            self._bad[:] = 0
        return refused

    def _begin(self, rows: Block, now_ns: int) -> None:
        fleet, at = self._fleet, rows["slot"]
        usable = rows["capacity_kwh"] * rows["soh_frac"].astype(np.float64)
        energy = rows["soc_frac"].astype(np.float64) * usable
        self.vehicles[at] = rows["vehicle"]
        fleet.state[at] = rows["state"]
        fleet.session[at] = rows["session"]
        fleet.usable_kwh[at] = usable
        fleet.soh_frac[at] = rows["soh_frac"]
        fleet.soc_floor_kwh[at] = rows["soc_min_frac"] * usable
        fleet.ceiling_kwh[at] = rows["soc_max_frac"] * usable
        fleet.dod_floor_kwh[at] = energy - rows["dod_max_frac"] * usable
        fleet.charge_max_kw[at] = rows["charge_max_kw"]
        fleet.discharge_max_kw[at] = rows["discharge_max_kw"]
        fleet.eta_charge[at] = rows["eta_charge_frac"]
        fleet.eta_discharge[at] = rows["eta_discharge_frac"]
        fleet.safe_kw[at] = rows["safe_kw"]
        fleet.depart_ns[at] = rows["depart_ns"]
        fleet.depart_kwh[at] = rows["depart_kwh"]
        fleet.energy_kwh[at] = energy
        fleet.energy_ns[at] = fleet.report_ns[at] = np.clip(rows["rx_ns"], 0, now_ns)
        # Nobody has told this charger anything yet: it does what it does when left alone.
        fleet.measured_kw[at] = fleet.command_kw[at] = rows["safe_kw"]
        fleet.valid_until_ns[at] = 0

    def _end(self, rows: Block) -> None:
        fleet, at = self._fleet, rows["slot"]
        self.vehicles[at] = b""
        fleet.state[at] = SlotState.UNPLUGGED
        fleet.session[at] = rows["session"]
        fleet.measured_kw[at] = fleet.command_kw[at] = 0.0
        fleet.safe_kw[at] = 0.0
        fleet.valid_until_ns[at] = 0

    def _checked_sessions(self, block: Block) -> Block:
        rows = self._keep(block, block["slot"] < self._fleet.state.size, "session_slot")
        rows = self._keep(rows, rows["state"] <= max(SlotState), "session_state")
        finite = np.logical_and.reduce([np.isfinite(rows[name]) for name in FINITE])
        begins = rows["state"] != SlotState.UNPLUGGED
        rows = self._keep(rows, finite | ~begins, "session_nan")
        begins = rows["state"] != SlotState.UNPLUGGED
        sane = np.logical_and.reduce([(rows[name] >= 0) & (rows[name] <= 1) for name in FRACTIONS])
        sane &= np.logical_and.reduce([(rows[name] > 0) & (rows[name] <= 1) for name in EFFICIENCIES])
        sane &= (rows["capacity_kwh"] > 0) & (rows["soc_min_frac"] <= rows["soc_max_frac"])
        sane &= rows["capacity_kwh"] <= CAPACITY_MAX_KWH
        sane &= (rows["charge_max_kw"] <= POWER_MAX_KW) & (rows["discharge_max_kw"] <= POWER_MAX_KW)
        sane &= (rows["charge_max_kw"] >= 0) & (rows["discharge_max_kw"] >= 0) & (rows["depart_kwh"] >= 0)
        # A safe profile is what a charger does with nobody watching: it never discharges.
        sane &= (rows["safe_kw"] <= 0) & (rows["safe_kw"] >= -rows["charge_max_kw"])
        rows = self._keep(rows, sane | ~begins, "session_range")
        return self._keep(rows, self._newer(rows), "session_old")

    def _newer(self, rows: Block) -> Mask:
        """Rows that tell something new of their slot: a repeated or overtaken one must not plug a car back in."""
        at = rows["slot"]
        session, told_ns = self._fleet.session[at], self._told_ns[at]
        ends = (rows["state"] == SlotState.UNPLUGGED) & (self._fleet.state[at] != SlotState.UNPLUGGED)
        later = (rows["t_ns"] > told_ns) | ((rows["t_ns"] == told_ns) & ends)
        return np.asarray((rows["session"] > session) | ((rows["session"] == session) & later))

    def _keep(self, rows: Block, good: Mask, reason: str) -> Block:
        if good.all():
            return rows
        self.refused[reason] += int((~good).sum())
        return rows[good]

    def _due_now(self, slots: Block) -> None:
        """Bounds of the segments these slots lie in are renewed at the next tick."""
        n = self._fleet.state.size
        # The inverse of the engine's floor(segment * n / SEGMENTS) edges.
        touched = np.unique(((slots.astype(np.int64) + 1) * SEGMENTS - 1) // n)
        self._totals.refreshed_ns[touched] = np.minimum(self._totals.refreshed_ns[touched], 1)
