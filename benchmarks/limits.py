"""The bounds: one full refresh against a stream pass, byte for byte."""

from __future__ import annotations

import numpy as np

from benchmarks.fleets import NOW_NS, engine_with
from benchmarks.measure import Figure, interleaved_ns, ratio, rounds_for, stream
from droop.fleet import SEGMENTS
from droop.limits import refresh

# Columns one refresh reads and writes, and their bytes a vehicle.
READ = (
    "state", "usable_kwh", "soh_frac", "soc_floor_kwh", "ceiling_kwh", "dod_floor_kwh", "charge_max_kw",
    "discharge_max_kw", "eta_charge", "eta_discharge", "safe_kw", "depart_ns", "depart_kwh", "report_ns", "energy_kwh",
    "energy_ns", "command_kw", "valid_until_ns",
)  # fmt: skip
WRITTEN = ("plan_kw", "lo_kw", "hi_kw", "slope_up", "slope_dn", "reason_up", "reason_down")
STREAM_BYTES = 20


def run(quick: bool, rows: int = 1_000_000) -> list[Figure]:
    """`limits.refresh_over_stream.1e6`, per byte."""
    del quick
    state, settings = engine_with(rows)
    fleet, totals = state.fleet, state.totals
    touched = sum(getattr(fleet, name).itemsize for name in (*READ, *WRITTEN))

    def full(_: int) -> None:
        for segment in range(SEGMENTS):
            refresh(fleet, totals, segment, NOW_NS + 1, settings.ages, 0.6)

    full(0)
    out = np.empty_like(fleet.plan_kw)
    streamed, refreshed = interleaved_ns(
        lambda _: stream(out, fleet.plan_kw, fleet.slope_up, fleet.lo_kw, fleet.hi_kw), full, rounds=rounds_for(rows)
    )
    per_byte = ratio(refreshed, streamed) * STREAM_BYTES / touched
    return [
        Figure("limits.refresh_over_stream.1e6", per_byte, "1", f"goal 1.4; {touched} bytes a vehicle"),
        Figure("limits.refresh_ms.1e6", float(np.median(refreshed)) / 1e6, "ms"),
    ]
