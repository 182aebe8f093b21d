"""A generator's tables from recorded sessions: histograms and quantiles, nothing assumed of their shape.

What goes together is kept together: the stay hangs on the hour of arrival, the energy on the stay. Groups that hold
too few sessions take the table of all.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator.fleets import joining
from aggregator.fleets.errors import FleetError
from aggregator.fleets.model import GROUPS, WEEK_H, Model, Quantiles, group_of
from aggregator.gateways.arrivals import F8, I8
from aggregator.gateways.population import Behaviour
from telemetry.samples import Block
from telemetry.sessions import Stays
from telemetry.sessions.stays import HOUR_NS, busiest
from telemetry.traces.stamps import zone_of

POINTS: Final = 41
FEW: Final = 60
CLASSES: Final = 10
WEEK_NS: Final = 7 * 24 * HOUR_NS
LEAST_STAY_H: Final = 0.02


def fit(stays: Stays, cars: Block, seed: int = 1) -> Model:
    """The model of the drivers in a file of sessions.

    cars : CAR[m] to join them with, for their state of charge at arrival

    Raises FleetError for a file with too little in it.
    """
    rows = stays.rows[stays.rows["leave_ns"] > 0]
    if rows.size < FEW:
        raise FleetError(f"{stays.path}: {rows.size} sessions with an end; a fit takes {FEW} or more")
    stay_h = np.maximum((rows["leave_ns"] - rows["arrive_ns"]) / HOUR_NS, LEAST_STAY_H)
    hours = hours_of_week(rows["arrive_ns"], stays.zone)
    inner = np.unique(np.quantile(stay_h, np.linspace(0.0, 1.0, CLASSES + 1)[1:-1]))
    classes = np.searchsorted(inner, stay_h, side="right")
    # The departure as told, over the stay as it was; an asked energy over what came of it.
    told = rows["told_leave_ns"] > 0
    asked = np.isfinite(rows["asked_kwh"])
    told_h = (rows["told_leave_ns"] - rows["arrive_ns"]) / HOUR_NS
    charged = asked & (rows["energy_kwh"] > 0.0)
    asked_for = rows["asked_kwh"][charged] / rows["energy_kwh"][charged]
    joined = joining.join(rows, cars, seed, Behaviour()).guests
    shares = np.bincount(hours, minlength=WEEK_H) / rows.size
    return Model(
        zone=stays.zone,
        per_charger_week=_per_charger_week(rows),
        hour_of_week=tuple(shares.tolist()),
        stay_h=tuple(_by_group(stay_h, group_of(hours), group) for group in range(GROUPS)),
        stay_edges_h=tuple(inner.tolist()),
        energy_kwh=tuple(_by_group(rows["energy_kwh"], classes, one) for one in range(inner.size + 1)),
        most_kw=max(float((rows["energy_kwh"] / stay_h).max()), 1e-3),
        soc_frac=quantiles(joined.soc_frac if joined.key.size else np.array([0.1, 0.9])),
        told_frac=float(told.mean()),
        told_ratio=quantiles((told_h / stay_h)[told]) if told.any() else (1.0, 1.0),
        asked_frac=float(asked.mean()),
        asked_ratio=quantiles(asked_for) if charged.any() else (1.0, 1.0),
        leave_missing_frac=1.0 - rows.size / stays.rows.size,
        sessions=int(rows.size),
        source=Path(stays.path).name,
    )  # fmt: skip


def hours_of_week(t_ns: I8, zone: str) -> I8:
    """Whole hours since Monday 0 h by the clock of a zone."""
    clock = zone_of(zone)
    whole_s = (t_ns // 1_000_000_000).tolist()
    found = [datetime.fromtimestamp(s, clock) for s in whole_s]
    return np.array([moment.weekday() * 24 + moment.hour for moment in found], np.int64)


def quantiles(values: F8) -> Quantiles:
    """The table of some values."""
    found: Any = np.maximum.accumulate(np.quantile(values, np.linspace(0.0, 1.0, POINTS)))
    return tuple(found.tolist())


def _by_group(values: F8, groups: I8, group: int) -> Quantiles:
    mine = values[groups == group]
    return quantiles(mine if mine.size >= FEW else values)


def _per_charger_week(rows: Block) -> float:
    """Stays a charger and week, each charger counted from its first to its last; where none is named, of the busiest
    moment's number of them."""
    places = rows["place"]
    if (places < 0).any():
        weeks = max(np.ptp(rows["arrive_ns"]) / WEEK_NS, 1.0)
        return float(rows.size / (weeks * busiest(rows)))
    known, of = np.unique(places, return_inverse=True)
    first, last = np.full(known.size, np.iinfo(np.int64).max), np.zeros(known.size, np.int64)
    np.minimum.at(first, of, rows["arrive_ns"])
    np.maximum.at(last, of, rows["leave_ns"])
    return float(rows.size / np.maximum((last - first) / WEEK_NS, 1.0).sum())
