"""What a simulated charger tells about the car that has come: rows of SESSION.

Pure: what is known goes in, rows come out. The driver's words are told as they were given, right or wrong.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aggregator.gateways.physics import later, ns
from aggregator.gateways.population import Cars, Chargers
from telemetry.samples import SESSION, Block, SlotState, empty

SOC_MIN_FRAC: Final = 0.10
SOC_MAX_FRAC: Final = 0.95
DOD_MAX_FRAC: Final = 0.80


def starts(
    chargers: Chargers,
    cars: Cars,
    slots: npt.NDArray[np.int64],
    sessions: npt.NDArray[np.uint32],
    now_ns: int,
    to_come_frac: npt.NDArray[np.float64] | float,
) -> Block:
    """SESSION[k]: cars that are at `slots` from `now_ns` on.

    to_come_frac : share of the stay that lies ahead; 1 unless the car was found here
    """
    rating_kw = chargers.rating_kw[slots]
    # The nameplate efficiency is that at half the rating, losses on the side of the battery; the true one varies.
    twice_loss = 2.0 * (chargers.loss_fixed_pu[slots] + 0.25 * chargers.loss_square_pu[slots])
    told = np.isfinite(cars.said_s)
    depart_ns = later(now_ns, ns(np.where(told, cars.said_s, 0.0) * to_come_frac))
    columns: dict[str, Any] = {
        "t_ns": now_ns,
        "rx_ns": now_ns,
        "slot": slots,
        "session": sessions,
        "vehicle": [f"sim-{slot:06d}-{session:05d}".encode() for slot, session in zip(slots, sessions, strict=True)],
        "capacity_kwh": cars.capacity_kwh,
        "soh_frac": cars.soh_frac,
        "soc_frac": cars.soc_frac,
        "soc_min_frac": SOC_MIN_FRAC,
        "soc_max_frac": SOC_MAX_FRAC,
        "dod_max_frac": DOD_MAX_FRAC,
        "charge_max_kw": rating_kw,
        "discharge_max_kw": chargers.discharge_max_kw[slots],
        "eta_charge_frac": 1.0 - twice_loss,
        "eta_discharge_frac": 1.0 / (1.0 + twice_loss),
        "safe_kw": chargers.safe_kw[slots],
        "min_kw": chargers.min_kw[slots],
        "ramp_kw_s": np.where(chargers.ramp_told[slots], chargers.ramp_kw_s[slots], 0.0),
        "budget_kwh": cars.budget_frac * cars.capacity_kwh * cars.soh_frac,
        "wear": cars.wear,
        "depart_ns": np.where(told, depart_ns, 0),
        "depart_kwh": np.where(told, cars.wish_frac * cars.capacity_kwh * cars.soh_frac, 0.0),
        "state": SlotState.PLUGGED,
    }
    block = empty(SESSION, slots.size)
    for name, values in columns.items():
        block[name] = values
    return block
