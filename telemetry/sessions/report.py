"""What is in a file of sessions, in figures."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from telemetry.sessions.stays import HOUR_NS, Stays, busiest

QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def inspect(stays: Stays) -> dict[str, Any]:
    """Rows, what was refused, sites, span, and the quantiles of stay [h], energy [kWh] and mean power [kW].

    The keys `format`, `rows`, `start`, `end` and `rejected` are those of a trace.
    """
    rows = stays.rows
    known = rows[rows["leave_ns"] > 0]
    stay_h = (known["leave_ns"] - known["arrive_ns"]) / HOUR_NS
    told = rows["told_leave_ns"] > 0
    return {
        "format": stays.format,
        "rows": int(rows.size) + stays.rejected.total(),
        "sessions": int(rows.size),
        "rejected": dict(stays.rejected),
        "start": _iso(int(rows["arrive_ns"].min())) if rows.size else None,
        "end": _iso(int(np.maximum(rows["leave_ns"], rows["arrive_ns"]).max())) if rows.size else None,
        "zone": stays.zone,
        "sites": {name: int((rows["site"] == k).sum()) for k, name in enumerate(stays.sites)},
        "chargers": stays.chargers if rows.size else 0,
        "most_at_once": busiest(rows),
        "leave_unknown": int(rows.size - known.size),
        "departure_told": int(told.sum()),
        "energy_asked": int(np.isfinite(rows["asked_kwh"]).sum()),
        "done_known": int((rows["done_ns"] > 0).sum()),
        "stay_h": _quantiles(stay_h),
        "energy_kwh": _quantiles(rows["energy_kwh"]),
        "mean_kw": _quantiles(known["energy_kwh"] / stay_h),
    }


def _quantiles(values: Any) -> dict[str, float]:
    if not values.size:
        return {}
    return {f"{share:g}": float(value) for share, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}


def _iso(t_ns: int) -> str:
    return datetime.fromtimestamp(t_ns // 10**9, UTC).isoformat().replace("+00:00", "Z")
