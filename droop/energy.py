"""Energy aboard between two reports, in float64.

Power is constant between commands, so the account is exact for a charger that follows; each report replaces
it. Bounds are at the grid side, energy at the battery side: efficiency enters here and in `limits`, nowhere
else.
"""

from __future__ import annotations

from droop.numerics import strict

NS_PER_H = 3.6e12


@strict
def battery_kwh(grid_kw: float, elapsed_ns: int, eta_charge: float, eta_discharge: float) -> float:
    """Energy that leaves the battery (positive) while the charger holds `grid_kw` at the grid [kWh]."""
    hours = elapsed_ns / NS_PER_H
    grid_kwh = grid_kw * hours
    out, into = grid_kwh / eta_discharge, grid_kwh * eta_charge
    return out if grid_kw > 0.0 else into


@strict
def advanced_kwh(
    energy_kwh: float, energy_ns: int, now_ns: int, grid_kw: float, eta_charge: float, eta_discharge: float,
    usable_kwh: float,
) -> float:  # fmt: skip
    """Energy aboard at `now_ns`, within what the battery can hold [kWh]."""
    elapsed_ns = max(now_ns - energy_ns, 0)
    energy = energy_kwh - battery_kwh(grid_kw, elapsed_ns, eta_charge, eta_discharge)
    return min(max(energy, 0.0), usable_kwh)


@strict
def standing_kwh(
    energy_kwh: float, energy_ns: int, now_ns: int, command_kw: float, valid_until_ns: int, safe_kw: float,
    eta_charge: float, eta_discharge: float, usable_kwh: float,
) -> float:  # fmt: skip
    """Energy aboard at `now_ns` of a charger that follows its command up to its expiry, then its safe profile [kWh]."""
    # Written without a branch: one loop over a fleet must run on whole vectors.
    end_ns = min(max(valid_until_ns, energy_ns), max(now_ns, energy_ns))
    energy = advanced_kwh(energy_kwh, energy_ns, end_ns, command_kw, eta_charge, eta_discharge, usable_kwh)
    return advanced_kwh(energy, end_ns, now_ns, safe_kw, eta_charge, eta_discharge, usable_kwh)
