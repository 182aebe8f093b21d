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

from settlement.align import NS, Floats, Ints
from settlement.facts import FleetEnergy

Rows = npt.NDArray[Any]

HOLD_S: Final = 15.0  # reports come every 1-5 s; over a longer silence the power is unknown
UNPLUGGED: Final = 0
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


def losses_kwh(
    first_kw: Floats, last_kw: Floats, hours: Floats, eta_charge_frac: Floats, eta_discharge_frac: Floats
) -> Floats:
    """Conversion losses at a charger's grid side while the power goes linearly from `first_kw` to `last_kw`.

    p (1/eta - 1) discharging, |p| (1 - eta) charging; a piece that changes direction loses in both.
    """
    out_kw = _mean_above_zero(first_kw, last_kw)
    into_kw = _mean_above_zero(-first_kw, -last_kw)
    return (out_kw * (1.0 / eta_discharge_frac - 1.0) + into_kw * (1.0 - eta_charge_frac)) * hours


def _mean_above_zero(first: Floats, last: Floats) -> Floats:
    """Mean of the positive part of a straight line."""
    high, low = np.maximum(first, last), np.minimum(first, last)
    crosses = (high > 0) & (low < 0)
    part = np.divide(high * high, 2.0 * (high - low), out=np.zeros_like(high), where=crosses)
    return np.where(crosses, part, np.maximum((first + last) / 2.0, 0.0))


class FleetLedger:
    """Running sums by interval of `length_ns`, aligned to 1970 UTC."""

    def __init__(self, length_ns: int) -> None:
        if length_ns <= 0:
            raise ValueError(f"field `length_ns` takes a length above 0, not {length_ns}")
        self.length_ns = length_ns
        self._anchor = np.zeros(0, ANCHOR)
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
        rows = rows[rows["slot"] < self._anchor.size]
        rows = rows[self._anchor["session"][rows["slot"]] == rows["session"]]
        rows = rows[rows["t_ns"] > self._anchor["t_ns"][rows["slot"]]]
        rows = rows[np.isfinite(rows["power_kw"] + rows["soc_frac"])]
        if rows.size == 0:
            return
        rows = rows[np.lexsort((rows["t_ns"], rows["slot"]))]
        slot = rows["slot"]
        first = np.concatenate([[True], slot[1:] != slot[:-1]])
        last = np.concatenate([first[1:], [True]])
        before = self._anchor[slot]
        for name in ("t_ns", "power_kw", "soc_frac"):
            before[name][1:][~first[1:]] = rows[name][:-1][~first[1:]]
        self._add(before, rows)
        for name in ("t_ns", "power_kw", "soc_frac"):
            self._anchor[name][slot[last]] = rows[name][last]

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

    def _add(self, before: Rows, now: Rows) -> None:
        """Add the pieces between two reports to the intervals they lie in, cut pro rata at the borders."""
        start_ns: Ints = before["t_ns"]
        whole_ns = (now["t_ns"] - start_ns).astype(np.float64)
        power_kw = (before["power_kw"] + now["power_kw"]) / 2.0
        known = whole_ns <= HOLD_S * NS
        hours = np.where(known, whole_ns / (3600.0 * NS), 0.0)
        terms = np.empty((3, now.size))
        terms[0] = power_kw * hours
        terms[1] = (now["soc_frac"] - before["soc_frac"]) * before["capacity_kwh"]
        terms[2] = losses_kwh(
            before["power_kw"],
            now["power_kw"].astype(np.float64),
            hours,
            before["eta_charge_frac"],
            before["eta_discharge_frac"],
        )
        first = int(start_ns.min()) // self.length_ns
        final = (int(now["t_ns"].max()) - 1) // self.length_ns
        for index in range(max(first, final - 8), final + 1):
            low, high = index * self.length_ns, (index + 1) * self.length_ns
            inside = np.minimum(now["t_ns"], high) - np.maximum(start_ns, low)
            share = np.clip(inside / whole_ns, 0.0, 1.0)
            total = self._sums.setdefault(index, np.zeros(3))
            total += terms @ share
