"""What the core shows of itself: the live figures and the fleet as one packed snapshot.

Reads the core, changes nothing; time is passed in. The layouts are those the API reads.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from aggregator import reserved
from aggregator.core import Aggregator
from aggregator.views import FLEETVIEW, Rows
from aggregator.withheld import withheld_kw
from droop.capability import MINUTES, table
from droop.fleet import FAULT, PLUGGED
from droop.reasons import Reason
from droop.step import Tick
from droop.watch import Mode
from telemetry.samples import Quality

SOC_BINS: Final = 20
# Before the first decision.
NOTHING: Final = Tick(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, int(Mode.STARTING), 0)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _delivered(core: Aggregator, now_ns: int) -> float | None:
    """Metered less declared [kW]; None without a declared baseline, and on a meter that has fallen silent."""
    known = core.delivering(now_ns) and now_ns - core.meter_t_ns <= core.settings.stale_s * 1e9
    return _number(core.metered_kw - core.baseline_kw) if known else None


def capability(core: Aggregator, now_ns: int) -> dict[str, dict[str, float]]:
    """Power sustained for 15, 30 and 60 minutes each way under the sites' caps [kW, both positive]."""
    tree = core.engine.room.tree
    sustained = table(core.engine.fleet, now_ns, tree if tree.first.size > 0 else None)
    return {
        "up_kw": {str(m): float(row[0]) for m, row in zip(MINUTES, sustained, strict=True)},
        "down_kw": {str(m): float(row[1]) for m, row in zip(MINUTES, sustained, strict=True)},
    }


def vehicles(core: Aggregator) -> dict[str, int]:
    """How many chargers are in which state."""
    state = core.engine.fleet.state
    plugged = int((state == PLUGGED).sum())
    return {
        "total": int(state.size),
        "plugged": plugged,
        "stale": plugged - int(core.engine.totals.fresh.sum()),
        "unplugged": int((state == 0).sum()),
        "fault": int((state == FAULT).sum()),
    }


def soc_frac(core: Aggregator) -> Rows:
    """float64[n]: state of charge of the capacity left; 0 where nothing is plugged in."""
    fleet = core.engine.fleet
    here = (fleet.state > 0) & (fleet.usable_kwh > 0)
    return np.divide(fleet.energy_kwh, fleet.usable_kwh, out=np.zeros(fleet.state.size), where=here)


def live(core: Aggregator, now_ns: int, slow: dict[str, Any]) -> dict[str, Any]:
    """The live figures, JSON-ready.

    slow : what changes slowly and was computed earlier (`survey`)
    """
    last, sums, settings = core.last, core.sums, core.settings
    t_ns, rx_ns, hz, quality = core.last_sample
    asked = NOTHING if last is None else last
    metered = core.metered_kw
    fractions = core.engine.motion.fraction
    return {
        "t_ns": t_ns,
        "rx_ns": rx_ns,
        "now_ns": now_ns,
        "area": settings.area,
        "nominal_hz": settings.nominal_hz,
        "hz": _number(hz),
        "quality": [str(flag.name).lower() for flag in Quality(quality)],
        "mode": Mode(asked.mode).name.lower(),
        "products": [
            {"id": c.product.id, "sold_kw": c.sold_kw, "fraction": float(fractions[row])}
            for row, c in enumerate(settings.contracts)
        ],
        "signal_kw": core.signal_kw_at(now_ns),
        "request_kw": asked.request_kw,
        "baseline_kw": core.baseline_kw,
        "response_kw": asked.response_kw,
        "dealt_kw": asked.dealt_kw,
        "commanded_kw": asked.commanded_kw,
        "unserved_kw": asked.unserved_kw,
        "unserved_by_reason": {
            reason.name.lower(): float(core.engine.unserved_kw[reason])
            for reason in Reason
            if core.engine.unserved_kw[reason]
        },
        "headroom_up_kw": max(asked.hi_kw - asked.dealt_kw, 0.0),
        "headroom_down_kw": max(asked.dealt_kw - asked.lo_kw, 0.0),
        "metered_kw": _number(metered),
        "meter_t_ns": core.meter_t_ns,
        "delivered_kw": _delivered(core, now_ns),
        "ticks": sums.ticks,
        "commands": sums.commands,
        "rejected": core.rejected(),
        "alarms": [asdict(alarm) for alarm in core.alarms.standing()],
        "modes": core.modes(),
        "requested_kwh": sums.requested_up_kwh + sums.requested_down_kwh,
        "delivered_kwh": sums.delivered_up_kwh + sums.delivered_down_kwh,
        **slow,
    }


def survey(core: Aggregator, now_ns: int) -> dict[str, Any]:
    """Figures that need a pass over the fleet: once a second is enough."""
    plugged = core.engine.fleet.state == PLUGGED
    counts, _ = np.histogram(soc_frac(core)[plugged], SOC_BINS, (0.0, 1.0))
    return {
        "capability": capability(core, now_ns),
        "vehicles": vehicles(core),
        "soc_hist": counts.tolist(),
        "withheld_kw": withheld_kw(core.engine.fleet),
        "reserved": reserved.figures(core, now_ns),
    }


def fleetview(core: Aggregator, now_ns: int) -> Rows:
    """FLEETVIEW[n]: every charger, in slot order."""
    fleet = core.engine.fleet
    rows = np.zeros(fleet.state.size, FLEETVIEW)
    rows["slot"] = np.arange(fleet.state.size)
    for name in ("session", "state", "reason_up", "reason_down", "lo_kw", "hi_kw", "plan_kw", "measured_kw"):
        rows[name] = getattr(fleet, name)
    rows["vehicle"] = core.registry.vehicles
    rows["setpoint_kw"] = fleet.command_kw
    rows["soc_frac"] = soc_frac(core)
    rows["age_s"] = np.where(fleet.state > 0, (now_ns - fleet.report_ns) / 1e9, 0.0)
    return rows
