"""Where the energy went: grid energy against the change of stored energy and the losses between.

This file knows the vehicles' reports as columns, read by field name: no stream, no engine. It is an independent check
on the meters: what left through the grid connections must have left the batteries, save for conversion losses.
A ledger takes reports as they come, keeps one row a charger and adds up by interval, so that an interval of millions
of reports costs no memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from droop import metering
from settlement.align import NS, Floats
from settlement.facts import FleetEnergy

Rows = npt.NDArray[Any]

HOLD_S: Final = 15.0  # reports come every 1-5 s; over a longer silence the power is unknown
UNPLUGGED: Final = 0
INTERVALS: Final = 9  # that the reports of one call may lie in; older ones are of no open interval
FREE: Final = -1

ANCHOR: Final = np.dtype(
    [
        ("t_ns", "<i8"),  # last report
        ("session", "<i8"),  # FREE: nobody there
        ("power_kw", "<f8"),
        ("soc_frac", "<f8"),
        ("capacity_kwh", "<f8"),  # what is left of it
        ("eta_charge_frac", "<f8"),
        ("eta_discharge_frac", "<f8"),
    ]
)


@dataclass(frozen=True)
class EnergyBalance:
    """grid + stored + losses = error; every term None where its source is silent.

    `grid_kwh` is metered and positive into the grid, `stored_kwh` positive when the batteries filled,
    `reported_kwh` the same as grid by the vehicles' own reports.
    """

    grid_kwh: float | None
    stored_kwh: float | None
    losses_kwh: float | None
    error_kwh: float | None
    reported_kwh: float | None


def balance(grid_kwh: float | None, fleet: FleetEnergy | None) -> EnergyBalance:
    """Close the sum: what the meters gave, less what the batteries lost, less what turned into heat."""
    if fleet is None:
        return EnergyBalance(grid_kwh, None, None, None, None)
    error = None if grid_kwh is None else grid_kwh + fleet.stored_kwh + fleet.losses_kwh
    return EnergyBalance(grid_kwh, fleet.stored_kwh, fleet.losses_kwh, error, fleet.reported_kwh)


class FleetLedger:
    """Running sums by interval of `length_ns`, aligned to 1970 UTC."""

    def __init__(self, length_ns: int) -> None:
        if length_ns <= 0:
            raise ValueError(f"field `length_ns` takes a length above 0, not {length_ns}")
        self.length_ns = length_ns
        self._anchor = np.zeros(0, ANCHOR)
        self._seen_ns = np.zeros(0, np.int64)
        self._sums: dict[int, Floats] = {}

    def sessions(self, rows: Rows) -> None:
        """Vehicles that come and go; an arrival anchors its charger, a departure frees it.

        rows : fields t_ns, slot, session, state, soc_frac, capacity_kwh, soh_frac, eta_*_frac
        """
        for row in rows:
            slot = int(row["slot"])
            self._grow(slot + 1)
            if row["state"] == UNPLUGGED:
                self._anchor["session"][slot] = FREE
                continue
            same = self._anchor["session"][slot] == row["session"]
            if same and self._anchor["t_ns"][slot] > row["t_ns"]:
                continue  # a session told twice, as after a reconnection
            self._anchor[slot] = (
                row["t_ns"],
                row["session"],
                self._anchor["power_kw"][slot] if same else 0.0,
                row["soc_frac"],
                row["capacity_kwh"] * row["soh_frac"],
                row["eta_charge_frac"],
                row["eta_discharge_frac"],
            )

    def vehicles(self, rows: Rows) -> None:
        """Reports, in any number and order, several of one charger included.

        rows : fields t_ns, slot, session, power_kw, soc_frac
        """
        known = rows["slot"] < self._anchor.size
        rows = rows if known.all() else rows[known]
        if rows.size == 0:
            return
        t_ns, slot = rows["t_ns"].astype(np.int64), rows["slot"].astype(np.int64)
        if not metering.in_order(t_ns, slot, self._seen_ns):
            rows = rows[np.lexsort((rows["t_ns"], rows["slot"]))]
            t_ns, slot = rows["t_ns"].astype(np.int64), rows["slot"].astype(np.int64)
        session = rows["session"].astype(np.int64)
        power_kw, soc_frac = rows["power_kw"].astype(np.float64), rows["soc_frac"].astype(np.float64)
        first = (int(t_ns.max()) - 1) // self.length_ns - INTERVALS + 1
        sums, touched = np.zeros((INTERVALS, 3)), np.zeros(INTERVALS, np.bool_)
        metering.tally(
            t_ns, slot, session, power_kw, soc_frac, self._anchor, round(HOLD_S * NS), self.length_ns, first, sums,
            touched,
        )  # fmt: skip
        for place in np.flatnonzero(touched).tolist():
            total = self._sums.setdefault(first + place, np.zeros(3))
            total += sums[place]

    def take(self, start_ns: int) -> FleetEnergy | None:
        """Sums of the interval that starts at `start_ns`; None if no vehicle reported in it."""
        sums = self._sums.get(start_ns // self.length_ns)
        return None if sums is None else FleetEnergy(float(sums[0]), float(sums[1]), float(sums[2]))

    def forget(self, before_ns: int) -> None:
        """Drop the sums of intervals that ended by `before_ns`."""
        self._sums = {k: v for k, v in self._sums.items() if (k + 1) * self.length_ns > before_ns}

    def _grow(self, slots: int) -> None:
        if slots > self._anchor.size:
            wider = np.zeros(max(slots, 2 * self._anchor.size), ANCHOR)
            wider["session"] = FREE
            wider[: self._anchor.size] = self._anchor
            self._anchor = wider
            self._seen_ns = np.zeros(wider.size, np.int64)
