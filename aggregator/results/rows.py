"""The rows of vehicles and stays: layouts alone.

Positive power is into the grid; energies named up or down are 0 or more.

A PART is one stay within one day of the market: what `vehicles.parquet` holds a row of. A stay is the sum of its parts,
with how it ended and what it wore: a row of `sessions.parquet`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from droop.reasons import COUNT

Rows = npt.NDArray[Any]

# As the core's accounts have them (`droop.accounts.ROW`).
ACCOUNTED: Final = (
    "asked_up_kwh",
    "asked_down_kwh",
    "commanded_kwh",
    "plan_kwh",
    "baseline_kwh",
    "headroom_up_kwh",
    "headroom_down_kwh",
    "unserved_kwh",
    "commands",
    "acknowledged",
    "refused",
)
# As it truly was, at the grid, by the simulated charger.
METERED: Final = ("energy_up_kwh", "energy_down_kwh", "losses_kwh", "reversals")
# Asked beyond the plan and not given, net within each accounting interval.
SUMS: Final = (*METERED, *ACCOUNTED, "short_kwh")
COUNTED: Final = frozenset({"reversals", "commands", "acknowledged", "refused"})

PART: Final = np.dtype(
    [("start_ns", "<i8")]
    + [(name, "<f8") for name in SUMS]
    + [("bound_s", "<f8", (COUNT,)), ("soc_min_frac", "<f8"), ("soc_max_frac", "<f8")]
)  # fmt: skip

_WHO: Final = [("slot", "<u4"), ("session", "<u4"), ("vehicle", "S24"), ("start_ns", "<i8"), ("end_ns", "<i8")]
_SUMMED: Final = [(name, "<i8" if name in COUNTED else "<f8") for name in SUMS]
_HELD: Final = [
    ("reason", "S24"),  # what it fell short by, or else what held it at a bound longest
    ("bound_s", "<f8"),  # seconds of that
    ("soc_min_frac", "<f8"),  # of those looked at, once a minute
    ("soc_max_frac", "<f8"),
    ("soc_start_frac", "<f8"),
    ("soc_end_frac", "<f8"),
    ("cycles", "<f8"),  # equivalent full ones: moved at the grid over twice the usable capacity
]

VEHICLE_DAY: Final = np.dtype([("day", "S10"), *_WHO, *_SUMMED, *_HELD])

LAWS: Final = ("lfp", "nmc")
# Shares of a battery's life, by its cycles and by its calendar; `alone`: of the same stay with its plan alone.
SHARES: Final = ("cycle", "calendar", "alone_cycle", "alone_calendar")

STAYED: Final = np.dtype(
    [*_WHO, ("ended", "?"), ("usable_kwh", "<f8"), ("came_kwh", "<f8"), *_SUMMED, *_HELD]
    + [
        ("rainflow_cycles", "<f8"),  # ranges of the state of charge that were closed, full ones
        ("departure", "S8"),  # Departure
        ("told_ns", "<i8"),  # departure as the driver gave it; 0: none
        ("wanted_kwh", "<f8"),  # energy the driver wanted aboard; 0: none told
        ("owed_kwh", "<f8"),  # the same, at most what charging at the rating from the first moment on had given
        ("had_kwh", "<f8"),  # aboard in the end
        ("left_short_kwh", "<f8"),  # wanted and not aboard
        ("owed_short_kwh", "<f8"),  # owed and not aboard
    ]
    + [(f"{law}_{share}_frac", "<f8") for law in LAWS for share in SHARES]
    + [(f"{law}_{what}", "<f8") for law in LAWS for what in ("cost", "marginal_cost")]
)  # fmt: skip


def fresh(n: int, start_ns: Any) -> Rows:
    """PART[n] with nothing in it."""
    part = np.zeros(n, PART)
    part["start_ns"] = start_ns
    part["soc_min_frac"], part["soc_max_frac"] = 1.0, 0.0
    return part


def add(to: Rows, part: Rows) -> None:
    """Add parts to what came before them, row by row; the start stays."""
    for name in (*SUMS, "bound_s"):
        to[name] += part[name]
    to["soc_min_frac"] = np.minimum(to["soc_min_frac"], part["soc_min_frac"])
    to["soc_max_frac"] = np.maximum(to["soc_max_frac"], part["soc_max_frac"])
