"""What is truly so in a simulated fleet, and no gateway would know: its energy, its cars, stays that ended."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from telemetry.samples import SESSION

F8 = npt.NDArray[np.float64]


class Energy(NamedTuple):
    """The fleet's energy since its start, kWh."""

    grid_kwh: float  # net into the grid
    losses_kwh: float
    stored_kwh: float  # in the batteries now
    start_kwh: float  # in the batteries at the start
    arrived_kwh: float  # came with cars
    left_kwh: float  # went with cars

    @property
    def residual_kwh(self) -> float:
        """Grid + losses + what storage gained beyond arrivals and departures: 0 but for rounding."""
        gained = self.stored_kwh - self.start_kwh - self.arrived_kwh + self.left_kwh
        return self.grid_kwh + self.losses_kwh + gained


# A stay that ended, as it truly was. Positive energy is out of the battery's hands: into the grid, or lost.
STAY: Final = np.dtype(
    [
        ("car", SESSION),  # as told when it came
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),
        ("came_kwh", "<f8"),  # aboard when it came
        ("left_kwh", "<f8"),  # and when it left
        ("moved_kwh", "<f8"),  # at the grid, either way
        ("lost_kwh", "<f8"),
        ("reversals", "<i8"),  # changes of the power's sign
    ]
)


class Aboard(NamedTuple):
    """What is in the cars, [n] each."""

    session: npt.NDArray[np.uint32]
    plugged: npt.NDArray[np.bool_]
    energy_kwh: F8  # 0 where no car is
    per_capacity: F8  # 1 / usable kWh, of the last car that was here
    power_kw: F8
    temp_c: F8


class Truth(NamedTuple):
    """What is really so, [n] each; copies."""

    plugged: npt.NDArray[np.bool_]
    session: npt.NDArray[np.uint32]
    power_kw: F8
    target_kw: F8
    soc_frac: F8  # NaN where no car is
    energy_kwh: F8
    capacity_kwh: F8  # usable: SoH x nominal; NaN where no car is
    linked: npt.NDArray[np.bool_]
    refusing: npt.NDArray[np.bool_]
