"""The bounds: one full refresh against a stream pass over the same number of bytes.

A refresh touches some ten times the bytes of a stream pass over as many rows, and what fits the last-level cache for
the one does not for the other. So the pass streams over as many more rows as make up for it.
"""

from __future__ import annotations

import numpy as np

from benchmarks.fleets import NOW_NS, engine_with
from benchmarks.measure import Figure, interleaved_ns, ratio, stream
from droop.bounds import means
from droop.fleet import SEGMENTS, column
from droop.refresh import refresh

# Columns one refresh reads and writes: each comes from memory once, for a block's later steps find it in the cache.
READ = (
    "state", "usable_kwh", "soh_frac", "soc_floor_kwh", "ceiling_kwh", "dod_floor_kwh", "charge_max_kw",
    "discharge_max_kw", "budget_kwh", "wear", "eta_charge", "eta_discharge", "idle_kw", "heat_per_kw", "safe_kw",
    "depart_ns", "depart_kwh", "plan_kind", "wish", "wish_until_ns", "report_ns", "measured_kw", "temp_c", "energy_kwh",
    "energy_ns", "moved_kwh", "warm_c", "command_kw", "valid_until_ns", "gain_up", "gain_dn",
    "refused_ns",
)  # fmt: skip
WRITTEN = ("plan_kw", "free_lo_kw", "free_hi_kw", "slope_up", "slope_dn", "own_up", "own_down")
STREAM_BYTES = 20


def run(quick: bool, rows: int = 1_000_000) -> list[Figure]:
    """`limits.refresh_over_stream.1e6`."""
    state, settings = engine_with(rows)
    fleet, totals, rules = state.fleet, state.totals, settings.rules
    touched = sum(getattr(fleet, name).itemsize for name in (*READ, *WRITTEN))
    mean = means(totals)

    def full(_: int) -> None:
        refresh(fleet, totals, 0, SEGMENTS, NOW_NS + 1, rules.ages, rules.derating, mean, state.room.scratch)

    full(0)
    out, *columns = (column(place, rows * touched // STREAM_BYTES, np.float32) for place in range(5))
    for one in (out, *columns):
        # Written once: untouched memory is one page of zeros, however large.
        one[:] = 1.0
    stream(out, *columns)
    streamed, refreshed = interleaved_ns(lambda _: stream(out, *columns), full, rounds=31 if quick else 101)
    return [
        Figure(
            "limits.refresh_over_stream.1e6", ratio(refreshed, streamed), "1", f"goal 1.4; {touched} bytes a vehicle"
        ),
        Figure("limits.refresh_ms.1e6", float(np.median(refreshed)) / 1e6, "ms"),
    ]
