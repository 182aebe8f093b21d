"""Energy aboard between two reports, in float64.

Power is constant between commands, so the account is exact for a charger that follows; each report replaces it.
Bounds are at the grid side, energy at the battery side: efficiency enters here and in `limits`, nowhere else.
"""

from __future__ import annotations

import numpy as np

from droop.numerics import strict

NS_PER_H = 3.6e12


@strict
def battery_kwh(
    grid_kw: float, elapsed_ns: int, eta_charge: float, eta_discharge: float, idle_kw: float = 0.0,
    heat_per_kw: float = 0.0,
) -> float:  # fmt: skip
    """Energy that leaves the battery (positive) while the charger holds `grid_kw` at the grid [kWh].

    idle_kw, heat_per_kw : what the charger loses while it runs, idle + heat p^2 (`efficiency.Losses`: P0 and K with
                           the rating multiplied in) [kW, 1/kW]; both 0: the nominal efficiencies alone
    """
    hours = elapsed_ns / NS_PER_H
    power = abs(grid_kw)
    loss = idle_kw + heat_per_kw * power * power if power > 0.0 else 0.0
    out, into = (power + loss) * hours / eta_discharge, max(power - loss, 0.0) * hours * eta_charge
    return out if grid_kw > 0.0 else -into


@strict
def advanced_kwh(
    energy_kwh: float, energy_ns: int, now_ns: int, grid_kw: float, eta_charge: float, eta_discharge: float,
    usable_kwh: float, idle_kw: float = 0.0, heat_per_kw: float = 0.0,
) -> float:  # fmt: skip
    """Energy aboard at `now_ns`, within what the battery can hold [kWh]."""
    elapsed_ns = max(now_ns - energy_ns, 0)
    energy = energy_kwh - battery_kwh(grid_kw, elapsed_ns, eta_charge, eta_discharge, idle_kw, heat_per_kw)
    return min(max(energy, 0.0), usable_kwh)


@strict
def standing_kwh(
    energy_kwh: float, energy_ns: int, now_ns: int, command_kw: float, valid_until_ns: int, safe_kw: float,
    eta_charge: float, eta_discharge: float, usable_kwh: float, idle_kw: float = 0.0, heat_per_kw: float = 0.0,
) -> float:  # fmt: skip
    """Energy aboard at `now_ns` of a charger that follows its command up to its expiry, then its safe profile [kWh]."""
    # Written without a branch: one loop over a fleet must run on whole vectors. And in float64 from the first
    # product on, whatever the columns hold.
    eta_c, eta_d = np.float64(eta_charge), np.float64(eta_discharge)
    idle, heat = np.float64(idle_kw), np.float64(heat_per_kw)
    end_ns = min(max(valid_until_ns, energy_ns), max(now_ns, energy_ns))
    energy = advanced_kwh(energy_kwh, energy_ns, end_ns, np.float64(command_kw), eta_c, eta_d, usable_kwh, idle, heat)
    return advanced_kwh(energy, end_ns, now_ns, np.float64(safe_kw), eta_c, eta_d, usable_kwh, idle, heat)
