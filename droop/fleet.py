"""The fleet as columns: one row a charger, one writer a column.

A row is a charger's `slot`, fixed for life; `session` counts the vehicles it has served. Nothing here
computes; `limits`, `split`, `commands` and `energy` do, on these columns.

| column            | dtype   | unit | written by                                          |
|-------------------|---------|------|-----------------------------------------------------|
| state             | uint8   | -    | sessions, reports (0 unplugged, 1 plugged, 2 fault) |
| session           | uint32  | -    | sessions                                            |
| usable_kwh        | float64 | kWh  | sessions: nominal x SoH                             |
| soh_frac          | float64 | 1    | sessions                                            |
| soc_floor_kwh     | float64 | kWh  | sessions: SoC window, lower edge                    |
| ceiling_kwh       | float64 | kWh  | sessions: SoC window, upper edge                    |
| dod_floor_kwh     | float64 | kWh  | sessions: energy at plug-in less the depth allowed  |
| charge_max_kw     | float64 | kW   | sessions (magnitude)                                |
| discharge_max_kw  | float64 | kW   | sessions (magnitude)                                |
| eta_charge        | float64 | 1    | sessions                                            |
| eta_discharge     | float64 | 1    | sessions                                            |
| safe_kw           | float64 | kW   | sessions: power of the charger left alone           |
| depart_ns         | int64   | ns   | sessions; 0 where unknown                           |
| depart_kwh        | float64 | kWh  | sessions                                            |
| report_ns         | int64   | ns   | reports: arrival of the latest                      |
| measured_kw       | float32 | kW   | reports                                             |
| energy_kwh        | float64 | kWh  | reports; energy between them                        |
| energy_ns         | int64   | ns   | as energy_kwh: when it was true                     |
| plan_kw           | float32 | kW   | limits: charging plan, the split's t                |
| lo_kw, hi_kw      | float32 | kW   | limits                                              |
| slope_up, slope_dn| float32 | kW   | limits, by weights                                  |
| reason_up, _down  | uint8   | -    | limits: what binds hi_kw, lo_kw                     |
| power_kw          | float32 | kW   | split                                               |
| command_kw        | float32 | kW   | commands: last sent                                 |
| valid_until_ns    | int64   | ns   | commands: when the last sent expires                |
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.reasons import COUNT

Column = npt.NDArray[Any]

UNPLUGGED: Final = 0
PLUGGED: Final = 1
FAULT: Final = 2

# The fleet is refreshed in this many pieces in turn, so that new bounds do not step all at once.
SEGMENTS: Final = 8


class Fleet(NamedTuple):
    """Columns of n rows; see the table at the head of this file."""

    state: Column
    session: Column
    usable_kwh: Column
    soh_frac: Column
    soc_floor_kwh: Column
    ceiling_kwh: Column
    dod_floor_kwh: Column
    charge_max_kw: Column
    discharge_max_kw: Column
    eta_charge: Column
    eta_discharge: Column
    safe_kw: Column
    depart_ns: Column
    depart_kwh: Column
    report_ns: Column
    measured_kw: Column
    energy_kwh: Column
    energy_ns: Column
    plan_kw: Column
    lo_kw: Column
    hi_kw: Column
    slope_up: Column
    slope_dn: Column
    reason_up: Column
    reason_down: Column
    power_kw: Column
    command_kw: Column
    valid_until_ns: Column


DTYPES: Final[dict[str, Any]] = {
    "state": np.uint8,
    "session": np.uint32,
    "depart_ns": np.int64,
    "report_ns": np.int64,
    "energy_ns": np.int64,
    "valid_until_ns": np.int64,
    "reason_up": np.uint8,
    "reason_down": np.uint8,
} | dict.fromkeys(
    ("measured_kw", "plan_kw", "lo_kw", "hi_kw", "slope_up", "slope_dn", "power_kw", "command_kw"), np.float32
)


class Totals(NamedTuple):
    """Sums over each segment of the fleet, float64, renewed when the segment is refreshed.

    lost_up and lost_down hold, per reason, how much rated power the binding limits take away [kW].
    """

    refreshed_ns: Column  # int64[SEGMENTS]
    due_ns: Column  # int64[SEGMENTS]  when the first vehicle's bounds change by themselves
    lo_kw: Column  # float64[SEGMENTS]
    hi_kw: Column
    plan_kw: Column
    stored_kwh: Column  # energy above the floor
    window_kwh: Column  # ceiling minus floor
    fresh: Column  # int64[SEGMENTS]: rows that count as capacity
    lost_up: Column  # float64[SEGMENTS, reasons]
    lost_down: Column


def allocate(rows: int) -> Fleet:
    """A fleet of `rows` empty chargers."""
    columns = {name: np.zeros(rows, DTYPES.get(name, np.float64)) for name in Fleet._fields}
    columns["eta_charge"][:] = columns["eta_discharge"][:] = columns["soh_frac"][:] = 1.0
    return Fleet(**columns)


def allocate_totals() -> Totals:
    """Totals of a fleet that was never refreshed."""
    whole = ("refreshed_ns", "due_ns", "fresh")
    columns = {name: np.zeros(SEGMENTS, np.int64 if name in whole else np.float64) for name in Totals._fields}
    for name in ("lost_up", "lost_down"):
        columns[name] = np.zeros((SEGMENTS, COUNT))
    return Totals(**columns)
