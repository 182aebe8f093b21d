"""The fleet as columns: one row a charger; who writes a column stands beside it.

A row is a charger's `slot`, fixed for life; `session` counts the vehicles it has served. Nothing here
computes. `sessions`, `reports` and `wishes` are `aggregator.intake`; the rest are files of `droop`, `limits` as
`refresh` applies them.

| column               | dtype   | unit | written by                                                       |
|----------------------|---------|------|------------------------------------------------------------------|
| state                | uint8   | -    | sessions, reports (0 unplugged, 1 plugged, 2 fault)              |
| session              | uint32  | -    | sessions                                                         |
| usable_kwh           | float64 | kWh  | sessions: nominal x SoH                                          |
| soh_frac             | float32 | 1    | sessions                                                         |
| soc_floor_kwh        | float64 | kWh  | sessions: SoC window, lower edge                                 |
| ceiling_kwh          | float64 | kWh  | sessions: SoC window, upper edge                                 |
| dod_floor_kwh        | float64 | kWh  | sessions: energy at plug-in less the depth allowed               |
| charge_max_kw        | float32 | kW   | sessions (magnitude)                                             |
| discharge_max_kw     | float32 | kW   | sessions (magnitude)                                             |
| min_kw               | float32 | kW   | sessions: least power above zero, either direction; 0: any       |
| ramp_kw_s            | float32 | kW/s | sessions; infinite where there is no limit                       |
| budget_kwh           | float32 | kWh  | sessions: throughput allowed in a day; infinite: any             |
| wear                 | float32 | 1    | sessions: relative cost of moving energy through this battery    |
| eta_charge           | float32 | 1    | sessions                                                         |
| eta_discharge        | float32 | 1    | sessions                                                         |
| idle_kw              | float32 | kW   | sessions: loss of the charger while it runs, at any power        |
| heat_per_kw          | float32 | 1/kW | sessions: loss that grows with the square of the power           |
| safe_kw              | float32 | kW   | sessions: power of the charger left alone                        |
| depart_ns            | int64   | ns   | sessions; 0 where unknown                                        |
| depart_kwh           | float64 | kWh  | sessions                                                         |
| plan_kind            | uint8   | -    | sessions: how the charging plan is made (`plans.PlanKind`)       |
| wish                 | uint8   | -    | wishes: the owner's override (`Wish`)                            |
| wish_until_ns        | int64   | ns   | wishes: when it lapses                                           |
| site                 | int32   | -    | fixed: leaf of the tree of caps; -1 where there is none          |
| report_ns            | int64   | ns   | reports: arrival of the latest                                   |
| source_ns            | int64   | ns   | reports: when the latest was measured; 0: none in this session   |
| measured_kw          | float32 | kW   | reports                                                          |
| temp_c               | float32 | degC | reports: battery; NaN where unknown                              |
| energy_kwh           | float64 | kWh  | reports; outbox between them                                     |
| energy_ns            | int64   | ns   | as energy_kwh: when it was true                                  |
| moved_kwh            | float64 | kWh  | reports, outbox: throughput of the day, battery side             |
| warm_c               | float32 | degC | bounds: temperature from which this vehicle is bypassed          |
| least_dn_kw          | float32 | kW   | limits: least charging power: min_kw, or what the car still takes |
| ramp_from_kw         | float32 | kW   | limits: power that its ramp is counted from                      |
| plan_kw              | float32 | kW   | limits: charging plan, the split's t                             |
| free_lo_kw           | float32 | kW   | limits: bounds of the vehicle by itself                          |
| free_hi_kw           | float32 | kW   | limits                                                           |
| slope_up, slope_dn   | float32 | kW   | limits, by weights                                               |
| own_up, own_down     | uint8   | -    | limits: what binds free_hi_kw, free_lo_kw                        |
| reason_up, _down     | uint8   | -    | limits, minimum, bounds, sites: what binds hi_kw, lo_kw          |
| mode                 | int8    | -    | minimum, relief, switching, turns: -1 charging, 0 off, 1 out     |
| owed_kwh             | float32 | kWh  | turns: energy of the optimum less the energy of the power held   |
| switched_ns          | int64   | ns   | minimum, relief, switching, turns: when mode last changed        |
| lo_kw, hi_kw         | float32 | kW   | bounds, minimum, folding: the bounds that the split sees         |
| power_kw             | float32 | kW   | split                                                            |
| command_kw           | float32 | kW   | commands: last sent, as power expected at the grid               |
| valid_until_ns       | int64   | ns   | commands: when the last sent expires                             |
| sent_ns              | int64   | ns   | commands: when the last change was sent                          |
| past_lo_kw           | float32 | kW   | commands: range of the commands it may still be answering        |
| past_hi_kw           | float32 | kW   | commands                                                         |
| from_kw              | float32 | kW   | commands: what the last change left, if that had been reached    |
| told_kw              | float32 | kW   | commands: set-point last sent, command_kw over the gain          |
| gain_up, gain_dn     | float32 | 1    | response: power delivered over power told, discharging, charging |
| dead_s               | float32 | s    | response: dead time, from command to half of the step            |
| misses               | uint8   | -    | response: reports in a row that no command explains              |
| refused_ns           | int64   | ns   | response: since when it is left out for not following; 0: in     |
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]

UNPLUGGED: Final = 0
PLUGGED: Final = 1
FAULT: Final = 2


class Wish(IntEnum):
    """The owner's override. The order is the wire code."""

    NONE = 0
    CHARGE_NOW = 1  # full power until the battery is full or the wish lapses
    NO_DISCHARGE = 2  # may charge sooner or later, never gives back
    LEAVE_ALONE = 3  # follows its charging plan and nothing else


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
    min_kw: Column
    ramp_kw_s: Column
    budget_kwh: Column
    wear: Column
    eta_charge: Column
    eta_discharge: Column
    idle_kw: Column
    heat_per_kw: Column
    safe_kw: Column
    depart_ns: Column
    depart_kwh: Column
    plan_kind: Column
    wish: Column
    wish_until_ns: Column
    site: Column
    report_ns: Column
    source_ns: Column
    measured_kw: Column
    temp_c: Column
    energy_kwh: Column
    energy_ns: Column
    moved_kwh: Column
    warm_c: Column
    least_dn_kw: Column
    ramp_from_kw: Column
    plan_kw: Column
    free_lo_kw: Column
    free_hi_kw: Column
    slope_up: Column
    slope_dn: Column
    own_up: Column
    own_down: Column
    reason_up: Column
    reason_down: Column
    mode: Column
    owed_kwh: Column
    switched_ns: Column
    lo_kw: Column
    hi_kw: Column
    power_kw: Column
    command_kw: Column
    valid_until_ns: Column
    sent_ns: Column
    past_lo_kw: Column
    past_hi_kw: Column
    from_kw: Column
    told_kw: Column
    gain_up: Column
    gain_dn: Column
    dead_s: Column
    misses: Column
    refused_ns: Column


DTYPES: Final[dict[str, Any]] = {
    "state": np.uint8,
    "session": np.uint32,
    "depart_ns": np.int64,
    "plan_kind": np.uint8,
    "wish": np.uint8,
    "wish_until_ns": np.int64,
    "site": np.int32,
    "report_ns": np.int64,
    "source_ns": np.int64,
    "energy_ns": np.int64,
    "own_up": np.uint8,
    "own_down": np.uint8,
    "reason_up": np.uint8,
    "reason_down": np.uint8,
    "mode": np.int8,
    "switched_ns": np.int64,
    "valid_until_ns": np.int64,
    "sent_ns": np.int64,
    "misses": np.uint8,
    "refused_ns": np.int64,
} | dict.fromkeys(
    (
        "soh_frac", "charge_max_kw", "discharge_max_kw", "min_kw", "least_dn_kw", "ramp_kw_s", "ramp_from_kw",
        "budget_kwh", "wear",
        "eta_charge", "eta_discharge", "idle_kw", "heat_per_kw", "safe_kw", "measured_kw", "temp_c", "warm_c",
        "plan_kw", "free_lo_kw", "free_hi_kw",
        "slope_up", "slope_dn", "owed_kwh", "lo_kw", "hi_kw", "power_kw", "command_kw", "past_lo_kw", "past_hi_kw",
        "from_kw", "told_kw", "gain_up", "gain_dn", "dead_s"
    ),
    np.float32,
)  # fmt: skip


class Totals(NamedTuple):
    """Sums over each segment of the fleet, float64, renewed when the segment is refreshed."""

    refreshed_ns: Column  # int64[SEGMENTS]
    due_ns: Column  # int64[SEGMENTS]  when the first vehicle's bounds change by themselves
    ramped_ns: Column  # int64[SEGMENTS]  since when the chargers' ramps are counted
    day: Column  # int64[SEGMENTS]  day (UTC) whose throughput is being counted
    lo_kw: Column  # float64[SEGMENTS]  of the bounds the split sees
    hi_kw: Column
    free_lo_kw: Column  # of the vehicles' own bounds
    free_hi_kw: Column
    far_lo_kw: Column  # of the bounds if every vehicle with a least power were switched that way
    far_hi_kw: Column
    plan_kw: Column
    stored_kwh: Column  # energy above the floor
    window_kwh: Column  # ceiling minus floor
    moved_kwh: Column  # throughput of the day
    usable_kwh: Column
    up_kwh: Column  # left each way at the grid, of vehicles that go both ways
    down_kwh: Column
    fresh: Column  # int64[SEGMENTS]: rows that count as capacity
    least: Column  # int64[SEGMENTS]: rows with a least power


# Large arrays all begin on a page. Columns that are read together would then compete for the same few places of the
# cache, row after row; each begins a line later than the one before instead.
LINE: Final = 64
PAGE: Final = 4096


def column(place: int, rows: int, dtype: Any) -> Column:
    """A zeroed column; `place` is its number among those that are read together."""
    dtype = np.dtype(dtype)
    room = np.zeros(rows * dtype.itemsize + 2 * PAGE, np.uint8)
    start = -room.ctypes.data % PAGE + place * LINE % PAGE
    return room[start : start + rows * dtype.itemsize].view(dtype)


def allocate(rows: int) -> Fleet:
    """A fleet of `rows` empty chargers."""
    columns = {name: column(place, rows, DTYPES.get(name, np.float64)) for place, name in enumerate(Fleet._fields)}
    for name in ("eta_charge", "eta_discharge", "soh_frac", "wear", "gain_up", "gain_dn"):
        columns[name][:] = 1.0
    for name in ("ramp_kw_s", "budget_kwh", "warm_c"):
        columns[name][:] = np.inf
    columns["temp_c"][:] = np.nan
    columns["site"][:] = -1
    return Fleet(**columns)


def allocate_totals() -> Totals:
    """Totals of a fleet that was never refreshed."""
    whole = ("refreshed_ns", "due_ns", "ramped_ns", "day", "fresh", "least")
    return Totals(**{name: np.zeros(SEGMENTS, np.int64 if name in whole else np.float64) for name in Totals._fields})
