"""What the fleet could sustain: power each way, held for 15, 30 or 60 minutes.

Endurance belongs here, into what is offered and sold, and nowhere into the tick. A vehicle counts with what
it can hold for the whole time from the energy it has now; vehicles that do not report count nothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from droop.energy import NS_PER_H
from droop.fleet import PLUGGED, Fleet
from droop.numerics import kernel
from droop.reasons import Reason

MINUTES: Final = (15, 30, 60)
STALE: Final = int(Reason.STALE)


@kernel
def sustained(fleet: Fleet, now_ns: int, hours: float) -> tuple[float, float]:
    """Power the fleet can hold for `hours`: (up, down), both positive, measured from zero [kW].

    P_up <= min(P_dis, (E - E_min) eta_d / h), P_down <= min(P_ch, (E_max - E) / (eta_c h)) (rulebook 1.5),
    with E_min raised to what the driver's departure still allows to be recharged afterwards.
    """
    state, reason_up, energy_kwh, ceiling = fleet.state, fleet.reason_up, fleet.energy_kwh, fleet.ceiling_kwh
    soc_floor, dod_floor, depart_ns, depart_kwh = (
        fleet.soc_floor_kwh, fleet.dod_floor_kwh, fleet.depart_ns, fleet.depart_kwh
    )  # fmt: skip
    charge, discharge, eta_charge, eta_discharge = (
        fleet.charge_max_kw, fleet.discharge_max_kw, fleet.eta_charge, fleet.eta_discharge
    )  # fmt: skip
    up = down = 0.0
    for i in range(state.size):
        if state[i] != PLUGGED or reason_up[i] == STALE:
            continue
        floor = max(soc_floor[i], dod_floor[i])
        if depart_ns[i] > 0:
            left_h = max((depart_ns[i] - now_ns) / NS_PER_H - hours, 0.0)
            floor = max(floor, min(depart_kwh[i], ceiling[i]) - eta_charge[i] * charge[i] * left_h)
        up += min(discharge[i], max(energy_kwh[i] - floor, 0.0) * eta_discharge[i] / hours)
        down += min(charge[i], max(ceiling[i] - energy_kwh[i], 0.0) / (eta_charge[i] * hours))
    return up, down


def table(fleet: Fleet, now_ns: int) -> npt.NDArray[np.float64]:
    """float64[3, 2]: up and down [kW] for each of MINUTES."""
    return np.array([sustained(fleet, now_ns, minutes / 60.0) for minutes in MINUTES])
