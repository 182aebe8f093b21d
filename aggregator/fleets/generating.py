"""Stays drawn from a model: seeded week by week, so that a week is the same whatever run it is part of.

The draws of a week hang on the seed, the week and the number of chargers, and on nothing else: a run that begins later,
or ends earlier, sees the same drivers in the weeks that it shares.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from aggregator.fleets.model import WEEK_H, Model, Quantiles, group_of
from aggregator.gateways.arrivals import F8, I8
from telemetry.samples import Block
from telemetry.sessions.stays import HOUR_NS, STAY, STAY_MAX_NS
from telemetry.traces.stamps import zone_of

NS: Final = 1_000_000_000
MONDAY: Final = datetime(1970, 1, 5)
# Numbers of stays within a week; a week of more is a model that cannot be.
PER_WEEK: Final = 1 << 24


def generate(model: Model, chargers: int, seed: int, first_ns: int, last_ns: int) -> Block:
    """STAY[n] by arrival: everybody who is there at some time in [first, last]."""
    clock = zone_of(model.zone)
    earliest = datetime.fromtimestamp((first_ns - STAY_MAX_NS) // NS, clock).replace(tzinfo=None)
    latest = datetime.fromtimestamp(last_ns // NS, clock).replace(tzinfo=None)
    weeks = range((earliest - MONDAY).days // 7, (latest - MONDAY).days // 7 + 1)
    rows = np.concatenate([week(model, chargers, seed, number) for number in weeks])
    there = (rows["leave_ns"] > first_ns) & (rows["arrive_ns"] <= last_ns)
    return rows[there]


def week(model: Model, chargers: int, seed: int, number: int) -> Block:
    """STAY[n]: who comes in one week. number : weeks since the first Monday of 1970"""
    random = np.random.default_rng((seed, number, chargers))
    counts = random.poisson(np.array(model.hour_of_week) * model.per_charger_week * chargers)
    hours = np.repeat(np.arange(WEEK_H), counts)
    n = min(hours.size, PER_WEEK)
    hours = hours[:n]
    drawn = random.random((7, n))
    rows = np.zeros(n, STAY)
    rows["arrive_ns"] = _arrivals(model, number, hours, drawn[0])
    stay_h = _by_table(model.stay_h, group_of(hours), drawn[1])
    classes = np.searchsorted(np.array(model.stay_edges_h), stay_h, side="right")
    rows["energy_kwh"] = np.minimum(_by_table(model.energy_kwh, classes, drawn[2]), model.most_kw * stay_h)
    rows["leave_ns"] = rows["arrive_ns"] + np.maximum(np.rint(stay_h * HOUR_NS), NS).astype(np.int64)
    told_h = stay_h * _at(model.told_ratio, _within(drawn[3], model.told_frac))
    told_ns = rows["arrive_ns"] + np.rint(told_h * HOUR_NS).astype(np.int64)
    rows["told_leave_ns"] = np.where(drawn[3] < model.told_frac, told_ns, 0)
    asked_kwh = rows["energy_kwh"] * _at(model.asked_ratio, _within(drawn[4], model.asked_frac))
    rows["asked_kwh"] = np.where(drawn[4] < model.asked_frac, asked_kwh, np.nan)
    rows["soc_frac"] = _at(model.soc_frac, drawn[5])
    rows["capacity_kwh"] = rows["power_kw"] = np.nan
    rows["place"] = -1
    rows["line"] = number * PER_WEEK + np.arange(n)
    return rows[np.lexsort((rows["line"], rows["arrive_ns"]))]


def _arrivals(model: Model, number: int, hours: I8, within: F8) -> I8:
    """Somewhere in their hour by the model's clock; an hour that daylight saving leaves out counts as the next."""
    clock = zone_of(model.zone)
    monday = MONDAY + timedelta(weeks=number)
    begins = [(monday + timedelta(hours=hour)).replace(tzinfo=clock) for hour in range(WEEK_H)]
    begin_s = np.array([int(moment.astimezone(UTC).timestamp()) for moment in begins], np.int64)
    found: I8 = begin_s[hours] * NS + (within * HOUR_NS).astype(np.int64)
    return found


def _within(drawn: F8, share: float) -> F8:
    """Of a draw below a share, where in the share it lies: one draw says whether and how much."""
    return np.minimum(drawn / max(share, 1e-12), 1.0)


def _at(table: Quantiles, probability: F8) -> F8:
    return np.asarray(np.interp(probability, np.linspace(0.0, 1.0, len(table)), table))


def _by_table(tables: tuple[Quantiles, ...], which: I8, probability: F8) -> F8:
    out = np.zeros(probability.size)
    for k, table in enumerate(tables):
        mine = which == k
        out[mine] = _at(table, probability[mine])
    return out
