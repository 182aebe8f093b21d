"""From stays that are over to their rows: how each ended for its driver, what it wore, and what kept it short."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aggregator.results.rows import COUNTED, LAWS, STAYED, SUMS, VEHICLE_DAY, Rows
from aggregator.results.stays import Ended, read
from aggregator.results.wear import Lived, shares
from droop.rainflow import equivalent_full_cycles
from droop.reasons import COUNT, Reason

Floats = npt.NDArray[np.float64]

NAMES: Final = np.array([reason.name.lower() for reason in Reason] + [""] * (COUNT - len(Reason)), "S24")
# A departure within this of what was told is as told.
KEPT_NS: Final = 60_000_000_000
ROUNDING_KWH: Final = 1e-6
LOOK_H: Final = 1.0 / 60.0


class Departure(StrEnum):
    """What a driver told of the departure, and what came of it."""

    UNTOLD = "untold"
    KEPT = "kept"
    EARLY = "early"
    LATE = "late"
    HERE = "here"  # the recording ended first


def day_rows(day: str | list[str], parts: Rows, stays: Rows, end_ns: Any) -> Rows:
    """VEHICLE_DAY[k]: parts that have ended. stays : STAY[k] as of then"""
    rows = np.zeros(parts.size, VEHICLE_DAY)
    rows["day"], rows["end_ns"] = day, end_ns
    usable = _figures(rows, parts, stays)
    rows["soc_start_frac"] = _share(stays["left_kwh"] + _drawn(parts), usable)
    return rows


def stay_rows(ended: Ended, price: float) -> Rows:
    """STAYED[k]: whole stays. price : of a kilowatt-hour of battery"""
    stays = ended.stay
    rows = np.zeros(stays.size, STAYED)
    rows["end_ns"], rows["ended"] = stays["end_ns"], ended.over
    rows["usable_kwh"] = usable = _figures(rows, ended.whole, stays)
    rows["came_kwh"] = stays["came_kwh"]
    rows["soc_start_frac"] = _share(stays["came_kwh"], usable)
    _departed(rows, stays)
    _worn(rows, ended, price)
    return rows


def _figures(rows: Rows, parts: Rows, stays: Rows) -> Floats:
    """Who, the sums, what bound it, the state of charge in the end; usable capacities [kWh]."""
    car = stays["car"]
    rows["slot"], rows["session"], rows["vehicle"] = car["slot"], car["session"], car["vehicle"]
    rows["start_ns"] = parts["start_ns"]
    for name in SUMS:
        rows[name] = np.rint(parts[name]) if name in COUNTED else parts[name]
    rows["reason"], rows["bound_s"] = _reasons(parts)
    rows["soc_min_frac"], rows["soc_max_frac"] = parts["soc_min_frac"], parts["soc_max_frac"]
    usable = np.asarray(car["capacity_kwh"] * car["soh_frac"].astype(np.float64), np.float64)
    rows["soc_end_frac"] = _share(stays["left_kwh"], usable)
    rows["cycles"] = (parts["energy_up_kwh"] + parts["energy_down_kwh"]) / (2.0 * usable)
    return usable


def _reasons(parts: Rows) -> tuple[Any, Floats]:
    """What it fell short by if that was its own doing, as `settlement.accounts` has it; else what bound it longest."""
    bound_s = parts["bound_s"]
    longest = bound_s.argmax(axis=1)
    held_s = bound_s[np.arange(parts.size), longest]
    longest = np.where(held_s > 0.0, longest, int(Reason.NONE))
    own = (parts["short_kwh"] > parts["unserved_kwh"]) & (parts["short_kwh"] > ROUNDING_KWH)
    how = np.where(parts["refused"] > parts["acknowledged"], int(Reason.REFUSED), int(Reason.RESPONSE))
    return NAMES[np.where(own & (longest != Reason.FAULT), how, longest)], held_s


def _departed(rows: Rows, stays: Rows) -> None:
    """How the driver found the car."""
    car, usable = stays["car"], rows["usable_kwh"]
    told_ns, end_ns, ended = car["depart_ns"], stays["end_ns"], rows["ended"]
    off_ns = end_ns - told_ns
    how = np.where(off_ns < -KEPT_NS, Departure.EARLY, np.where(off_ns > KEPT_NS, Departure.LATE, Departure.KEPT))
    how = np.where(told_ns == 0, Departure.UNTOLD, how)
    rows["departure"] = np.where(ended, how, Departure.HERE)
    rows["told_ns"], rows["had_kwh"] = told_ns, stays["left_kwh"]
    wanted = np.where(told_ns > 0, car["depart_kwh"], 0.0)
    until_ns = np.where(told_ns > 0, np.minimum(told_ns, end_ns), end_ns)
    hours = np.maximum(until_ns - stays["start_ns"], 0) / 3.6e12
    reached = stays["came_kwh"] + hours * car["charge_max_kw"].astype(np.float64) * car["eta_charge_frac"]
    full = np.maximum(car["soc_max_frac"].astype(np.float64) * usable, stays["came_kwh"])
    rows["wanted_kwh"] = wanted
    rows["owed_kwh"] = np.minimum(wanted, np.minimum(reached, full))
    for name in ("left", "owed"):
        due = rows["wanted_kwh" if name == "left" else "owed_kwh"]
        rows[f"{name}_short_kwh"] = np.where(ended, np.maximum(due - stays["left_kwh"], 0.0), 0.0)


def _worn(rows: Rows, ended: Ended, price: float) -> None:
    """Shares of a life, with what was done and with the plan alone, and what they cost."""
    stays, looked, counts = ended.stay, ended.looked, read(ended.cycles)
    rows["rainflow_cycles"] = equivalent_full_cycles(counts)
    span_s = (stays["end_ns"] - stays["start_ns"]) / 1e9
    looks = np.maximum(looked["looks"], 1.0)
    seen = looked["looks"] > 0
    temp_c = np.where(seen, looked["temp_c"] / looks, 25.0)
    soc = np.where(seen, looked["soc"] / looks, 0.5 * (rows["soc_start_frac"] + rows["soc_end_frac"]))
    did = Lived(span_s, soc, temp_c, _rate(2.0 * rows["cycles"], looked["working"] * LOOK_H), counts)
    hours = np.maximum(looked["alone_h"], 1e-9)
    alone = Lived(
        span_s, np.where(looked["alone_h"] > 0, looked["alone_soc_h"] / hours, rows["soc_start_frac"]), temp_c,
        _rate(looked["alone_moved_kwh"] / rows["usable_kwh"], looked["alone_working_h"]),
        read(ended.alone),
    )  # fmt: skip
    nominal_kwh = stays["car"]["capacity_kwh"]
    for law in LAWS:
        with_it, without = shares(law, did), shares(law, alone)
        rows[f"{law}_cycle_frac"], rows[f"{law}_calendar_frac"] = with_it
        rows[f"{law}_alone_cycle_frac"], rows[f"{law}_alone_calendar_frac"] = without
        rows[f"{law}_cost"] = price * nominal_kwh * sum(with_it)
        rows[f"{law}_marginal_cost"] = price * nominal_kwh * (sum(with_it) - sum(without))


def _rate(moved: Floats, hours: Floats) -> Floats:
    """Mean power over capacity while working [1/h]."""
    return np.where(hours > 0.0, moved / np.maximum(hours, 1e-9), 0.0)


def _drawn(parts: Rows) -> Floats:
    """What left the battery: into the grid, or lost."""
    return np.asarray(parts["energy_up_kwh"] - parts["energy_down_kwh"] + parts["losses_kwh"], np.float64)


def _share(energy_kwh: Floats, usable_kwh: Floats) -> Floats:
    return np.asarray(energy_kwh / usable_kwh, np.float64)
