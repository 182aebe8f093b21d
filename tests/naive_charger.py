"""Chargers with real batteries behind them, for the engine to command: what it is told it does, while it can.

Nothing of ours is imported. Powers and energies are float64 arrays; positive is into the grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np

H_NS = 3_600_000_000_000


class Chargers:
    """Truth of a fleet: energy aboard, and the command each charger holds until it expires.

    A battery gives nothing below its floor and takes nothing above its ceiling, whatever it is told: a charger told
    too much falls short, and the sum shows it.
    """

    def __init__(self, fleet: Any, now_ns: int) -> None:
        self.energy_kwh = np.array(fleet.energy_kwh, float)
        self.eta_c, self.eta_d = np.array(fleet.eta_charge, float), np.array(fleet.eta_discharge, float)
        self.floor_kwh = np.minimum(np.array(fleet.soc_floor_kwh, float), self.energy_kwh)
        self.ceiling_kwh = np.maximum(np.array(fleet.ceiling_kwh, float), self.energy_kwh)
        self.safe_kw = np.array(fleet.safe_kw, float)
        self.told_kw = self.safe_kw.copy()
        self.until_ns = np.zeros(self.energy_kwh.size, np.int64)
        self.moved_kwh = np.zeros(self.energy_kwh.size)
        self.power_kw = np.zeros(self.energy_kwh.size)
        self.now_ns = now_ns

    def hear(self, slots: Any, setpoint_kw: Any, until_ns: int) -> None:
        self.told_kw[slots] = setpoint_kw
        self.until_ns[slots] = until_ns

    def advance(self, now_ns: int) -> None:
        """Live up to `now_ns`; `power_kw` is the mean of that time."""
        hours = (now_ns - self.now_ns) / H_NS
        wanted = np.where(self.now_ns < self.until_ns, self.told_kw, self.safe_kw)
        most = (self.energy_kwh - self.floor_kwh) * self.eta_d / hours
        least = (self.energy_kwh - self.ceiling_kwh) / (self.eta_c * hours)
        self.power_kw = np.clip(wanted, np.minimum(least, 0.0), np.maximum(most, 0.0))
        out = np.where(self.power_kw > 0, self.power_kw / self.eta_d, self.power_kw * self.eta_c) * hours
        self.energy_kwh -= out
        self.moved_kwh += np.abs(out)
        self.now_ns = now_ns

    def report(self, fleet: Any, rows: Any = slice(None)) -> None:
        """Write what the chargers say of themselves into the engine's columns."""
        fleet.report_ns[rows] = fleet.energy_ns[rows] = self.now_ns
        fleet.energy_kwh[rows] = self.energy_kwh[rows]
        fleet.measured_kw[rows] = self.power_kw[rows]
        fleet.moved_kwh[rows] = self.moved_kwh[rows]
