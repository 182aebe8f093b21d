"""Energy aboard between two reports, in float64.

Power is constant between commands, so the account is exact for a charger that follows; each report replaces it, after
what moved up to then is booked. Throughput is booked by the commands, not by the difference of the energies reported:
a state of charge in steps of a half or a whole per cent counts its steps instead of what flows, and hides what went
out and came back between two reports.

Bounds are at the grid side, energy at the battery side: efficiency enters here and in `limits`, nowhere else.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from droop.numerics import strict

NS_PER_H: Final = 3.6e12


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


@strict
def replaced_kwh(
    reported_kwh: float, t_ns: int, energy_kwh: float, energy_ns: int, sent_ns: int, doing_kw: float, until_ns: int,
    safe_kw: float, charge_max_kw: float, discharge_max_kw: float, eta_charge: float, eta_discharge: float,
    usable_kwh: float, idle_kw: float = 0.0, heat_per_kw: float = 0.0,
) -> tuple[float, int, float]:  # fmt: skip
    """The account once a report of `reported_kwh` at `t_ns` is in: (energy [kWh], when it is true [ns], moved [kWh]).

    energy_kwh, energy_ns : the account before it
    sent_ns               : since when the charger does `doing_kw`; up to until_ns, then it follows its safe profile

    A report as old as the account or younger replaces it. What an older one says is carried on to the account's time,
    which never goes back, for what moved up to there is booked: under the standing command where that holds since the
    report. Where it does not, who did what in between is not kept; the account stands, within what the ratings can
    have moved since the report.
    """
    if t_ns >= energy_ns:
        # One piece, unless the command ran out in between: the other would last no time, at the price of two divisions.
        told = until_ns >= t_ns
        if told | (until_ns <= energy_ns):
            grid_kw = doing_kw if told else safe_kw
            aboard = advanced_kwh(
                energy_kwh, energy_ns, t_ns, np.float64(grid_kw), np.float64(eta_charge), np.float64(eta_discharge),
                usable_kwh, np.float64(idle_kw), np.float64(heat_per_kw),
            )  # fmt: skip
            return reported_kwh, t_ns, abs(aboard - energy_kwh)
        aboard = standing_kwh(
            energy_kwh, energy_ns, t_ns, doing_kw, until_ns, safe_kw, eta_charge, eta_discharge, usable_kwh, idle_kw,
            heat_per_kw,
        )  # fmt: skip
        return reported_kwh, t_ns, abs(aboard - energy_kwh)
    if t_ns >= sent_ns:
        aboard = standing_kwh(
            reported_kwh, t_ns, energy_ns, doing_kw, until_ns, safe_kw, eta_charge, eta_discharge, usable_kwh, idle_kw,
            heat_per_kw,
        )  # fmt: skip
        return aboard, energy_ns, 0.0
    eta_c, eta_d = np.float64(eta_charge), np.float64(eta_discharge)
    idle, heat = np.float64(idle_kw), np.float64(heat_per_kw)
    out_kw, into_kw = np.float64(discharge_max_kw), -np.float64(charge_max_kw)
    least = advanced_kwh(reported_kwh, t_ns, energy_ns, out_kw, eta_c, eta_d, usable_kwh, idle, heat)
    most = advanced_kwh(reported_kwh, t_ns, energy_ns, into_kw, eta_c, eta_d, usable_kwh, idle, heat)
    return min(max(energy_kwh, least), most), energy_ns, 0.0
