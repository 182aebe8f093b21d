"""Events as rows: the packed dtypes that cross every boundary of the house.

This file knows layouts and quality bits only: no I/O, no clock. A block is a one-dimensional array of one
of these dtypes; the same bytes travel on a stream, lie in the journal and enter the core.

Positive power is into the grid. `t_ns` is the source's time, `rx_ns` the arrival, int64 ns since 1970 UTC.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

Block = npt.NDArray[Any]

FREQUENCY = np.dtype(
    [
        ("t_ns", "<i8"),
        ("rx_ns", "<i8"),
        ("hz", "<f8"),  # as measured, or as chosen (telemetry.choice); NaN where the source gave none
        ("volt_frac", "<f4"),  # smallest phase voltage over its nominal; NaN where the source has none
        ("quality", "<u2"),  # Quality bits; 0 is usable
        ("source", "<u2"),  # measuring point; of several, the one whose value it is
    ]
)

POWER = np.dtype(
    [
        ("t_ns", "<i8"),
        ("rx_ns", "<i8"),
        ("power_kw", "<f8"),  # metered at the grid connection
        ("energy_kwh", "<f8"),  # register since the meter's start, net injected
        ("meter", "<u4"),
        ("quality", "<u4"),
    ]
)

SIGNAL = np.dtype(
    [
        ("t_ns", "<i8"),
        ("rx_ns", "<i8"),
        ("valid_until_ns", "<i8"),
        ("power_kw", "<f8"),  # set-point asked of the fleet, on top of the products
        ("source", "<u4"),
        ("quality", "<u4"),
    ]
)

# A utility's signal as published: a share of the power cleared, whoever follows it.
SETPOINT = np.dtype(
    [
        ("t_ns", "<i8"),
        ("rx_ns", "<i8"),
        ("frac", "<f8"),  # -1..1, positive into the grid; NaN where the source gave none
        ("quality", "<u2"),  # Quality bits; 0 is usable
        ("source", "<u2"),
    ]
)

# One charger's session as it begins (state >= PLUGGED) or ends (state UNPLUGGED). `slot` is the charger's
# place in the fleet, fixed for life; `session` counts the vehicles it has served, so that a late command
# or report for a departed vehicle is recognised.
SESSION = np.dtype(
    [
        ("t_ns", "<i8"),
        ("rx_ns", "<i8"),
        ("slot", "<u4"),
        ("session", "<u4"),
        ("vehicle", "S24"),
        ("capacity_kwh", "<f8"),  # nominal, when new
        ("soh_frac", "<f4"),
        ("soc_frac", "<f4"),  # of the capacity that is left (SoH x nominal)
        ("soc_min_frac", "<f4"),
        ("soc_max_frac", "<f4"),
        ("dod_max_frac", "<f4"),  # deepest discharge below the energy at plug-in, of the capacity left
        ("charge_max_kw", "<f4"),  # magnitude
        ("discharge_max_kw", "<f4"),  # magnitude; 0 for one-directional chargers
        ("eta_charge_frac", "<f4"),
        ("eta_discharge_frac", "<f4"),
        ("safe_kw", "<f4"),  # what the charger does on its own when its command has expired
        ("min_kw", "<f4"),  # least power above zero, either direction; 0: any
        ("ramp_kw_s", "<f4"),  # fastest change; 0: no limit
        ("budget_kwh", "<f4"),  # throughput allowed in a day, battery side; 0: no limit
        ("wear", "<f4"),  # relative cost of moving energy through this battery; 0: 1
        ("depart_ns", "<i8"),  # 0: the driver gave none
        ("depart_kwh", "<f8"),  # energy wanted aboard at departure
        ("state", "<u4"),  # SlotState
        ("plan", "<u4"),  # how its charging plan is made: droop's `PlanKind` code
    ]
)

VEHICLE = np.dtype(
    [
        ("t_ns", "<i8"),
        ("rx_ns", "<i8"),
        ("slot", "<u4"),
        ("session", "<u4"),
        ("power_kw", "<f4"),  # measured at the charger's grid side
        ("soc_frac", "<f4"),
        ("state", "<u4"),  # SlotState
        ("temp_c", "<f4"),  # battery temperature; NaN where the vehicle gives none
    ]
)

# An owner's override of a running session, from the API or the vehicle's app.
WISH = np.dtype(
    [
        ("t_ns", "<i8"),
        ("rx_ns", "<i8"),
        ("until_ns", "<i8"),  # when it lapses
        ("slot", "<u4"),
        ("session", "<u4"),
        ("wish", "<u4"),  # droop's `Wish` code
        ("pad", "<u4"),
    ]
)


class SlotState(IntEnum):
    """What a charger can do for us."""

    UNPLUGGED = 0
    PLUGGED = 1
    FAULT = 2


class Quality(IntFlag):
    """Why a frequency sample may not move a vehicle. No bit set means usable."""

    GOOD = 0
    NAN = 1 << 0  # no number
    ZERO = 1 << 1  # literal zero: a meter's way to say nothing
    RANGE = 1 << 2  # outside the validity band
    SPIKE = 1 << 3  # a step that the next sample has not confirmed
    STUCK = 1 << 4  # the same value for too long
    ORDER = 1 << 5  # older than, or as old as, a sample already seen
    AGE = 1 << 6  # too old when it arrived
    DEAD_BUS = 1 << 7  # voltage absent: a frequency without a grid
    CLOCK_JUMP = 1 << 8  # source clock moved against arrival
    INVALID = 1 << 9  # the source's own validity is not good
    TEST = 1 << 10  # the source is under test
    CLOCK = 1 << 11  # the source's clock has failed or is not synchronised
    MISSING = 1 << 12  # an empty or N/A cell in a recorded trace
    OUTVOTED = 1 << 13  # the other sources agree with each other and not with this one


def reasons(counts_by_bit: npt.NDArray[np.int64]) -> dict[str, int]:
    """Counters of a `Quality` bit each as `{reason: n}`, zero counts left out.

    counts_by_bit : int64[16]  one counter per bit, bit 0 first
    """
    return {
        str(flag.name).lower(): int(counts_by_bit[flag.bit_length() - 1])
        for flag in Quality
        if flag and counts_by_bit[flag.bit_length() - 1]
    }


def empty(dtype: np.dtype[Any], rows: int = 0) -> Block:
    """A zeroed block of `rows` rows."""
    return np.zeros(rows, dtype)
