"""Stays at chargers as rows: who came when, for how long, what was charged, and what the driver said.

What is not known is 0 where it is a time and NaN where it is a quantity. What a driver said is kept as it was told,
right or wrong; what cannot have happened (a departure before the arrival, negative energy) is refused by the readers
with `judged`, row by row.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from telemetry.samples import Block
from telemetry.sessions.errors import Fault

STAY = np.dtype(
    [
        ("arrive_ns", "<i8"),  # int64 ns since 1970 UTC, as all times here
        ("leave_ns", "<i8"),  # 0: not known
        ("told_leave_ns", "<i8"),  # departure as the driver gave it; 0: none given
        ("done_ns", "<i8"),  # when charging ended; 0: not known
        ("energy_kwh", "<f8"),  # charged, at the meter
        ("asked_kwh", "<f8"),  # what the driver asked for; NaN: nothing
        ("capacity_kwh", "<f8"),  # usable, of a car that the file knows; NaN: it knows none
        ("soc_frac", "<f8"),  # at arrival; NaN: not known
        ("power_kw", "<f8"),  # most that the car takes; NaN: not known
        ("site", "<i4"),  # place in `Stays.sites`
        ("place", "<i4"),  # number of the charger; -1: not known
        ("line", "<i8"),  # where it stands in its file
    ]
)

HOUR_NS: Final = 3_600_000_000_000
# Nobody charges for longer: whoever is there is parked for good, or the record was never closed.
STAY_MAX_NS: Final = 31 * 24 * HOUR_NS
ENERGY_MAX_KWH: Final = 2000.0
POWER_MAX_KW: Final = 10_000.0
FIRST_NS: Final = 946_684_800_000_000_000  # 2000
LAST_NS: Final = 4_102_444_800_000_000_000  # 2100


class Row(NamedTuple):
    """One stay as a reader found it; fields as in STAY."""

    arrive_ns: int
    leave_ns: int
    energy_kwh: float
    site: str = ""
    place: str = ""
    told_leave_ns: int = 0
    done_ns: int = 0
    asked_kwh: float = math.nan
    capacity_kwh: float = math.nan
    soc_frac: float = math.nan
    power_kw: float = math.nan


@dataclass(frozen=True)
class Stays:
    """A file of sessions, read.

    format   : name of its reader
    zone     : zone (IANA name, or an offset) in which its clock times are meant
    rows     : STAY[n], by arrival
    sites    : names that `site` points to
    rejected : rows refused, by reason
    """

    path: str
    format: str
    zone: str
    rows: Block
    sites: tuple[str, ...]
    rejected: Counter[str]

    @property
    def chargers(self) -> int:
        """How many chargers the stays were at; where the file names none, how many stays there were at once."""
        known = self.rows["place"][self.rows["place"] >= 0]
        return int(np.unique(known).size) if known.size else busiest(self.rows)


def judged(row: Row) -> Row:
    """The row, if it can be true. Raises Fault."""
    for name, t_ns in (("arrive", row.arrive_ns), ("leave", row.leave_ns or FIRST_NS)):
        if not FIRST_NS <= t_ns < LAST_NS:
            raise Fault(name, f"{name}_range", "not a time between 2000 and 2100")
    if row.leave_ns and row.leave_ns <= row.arrive_ns:
        raise Fault("leave", "leave_before_arrive", "the departure is not after the arrival")
    if row.leave_ns and row.leave_ns - row.arrive_ns > STAY_MAX_NS:
        raise Fault("leave", "stay_too_long", "a stay of more than 31 days")
    if not 0.0 <= row.energy_kwh <= ENERGY_MAX_KWH:
        raise Fault("energy_kwh", "energy", f"{row.energy_kwh:g} is no energy between 0 and {ENERGY_MAX_KWH:g} kWh")
    if row.asked_kwh < 0.0 or math.isinf(row.asked_kwh):
        raise Fault("asked_kwh", "asked", f"{row.asked_kwh:g} cannot be asked for")
    if row.capacity_kwh <= 0.0 or row.capacity_kwh > ENERGY_MAX_KWH:
        raise Fault("capacity_kwh", "capacity", f"{row.capacity_kwh:g} is no battery's capacity")
    if row.soc_frac < 0.0 or row.soc_frac > 1.0:
        raise Fault("soc_frac", "soc", f"{row.soc_frac:g} is no share between 0 and 1")
    if row.power_kw < 0.0 or row.power_kw > POWER_MAX_KW:
        raise Fault("power_kw", "power", f"{row.power_kw:g} is no power that a car takes")
    return row


def table(found: list[tuple[int, Row]]) -> tuple[Block, tuple[str, ...]]:
    """STAY[n] of judged rows and their lines, by arrival, and the sites' names."""
    sites, places = {row.site for _, row in found}, {(row.site, row.place) for _, row in found}
    site_of = {name: k for k, name in enumerate(sorted(sites))}
    place_of = {name: k for k, name in enumerate(sorted(places))}
    rows = np.zeros(len(found), STAY)
    for name in Row._fields:
        if name not in ("site", "place"):
            rows[name] = [getattr(row, name) for _, row in found]
    rows["line"] = [line for line, _ in found]
    rows["site"] = [site_of[row.site] for _, row in found]
    rows["place"] = [place_of[row.site, row.place] if row.place else -1 for _, row in found]
    return rows[np.lexsort((rows["line"], rows["arrive_ns"]))], tuple(site_of)


def busiest(rows: Block) -> int:
    """Most stays at any one time, of those whose departure is known. rows : STAY[n]"""
    known = rows[rows["leave_ns"] > 0]
    times = np.concatenate([known["arrive_ns"], known["leave_ns"]])
    steps = np.repeat([1, -1], known.size)
    # Who leaves makes room for who comes at that moment.
    return int(np.cumsum(steps[np.lexsort((steps, times))]).max(initial=0))
