"""Each vehicle's account of an interval: what the core asked and told it, joined with what its own reports say.

This file knows the core's closed accounts (`droop.accounts.ROW`), sessions and reports as columns: no stream, no
journal, no price. Missing data is never filled in the seller's favour: over a silence the energy is unknown and counts
as nothing delivered, while what was asked in it stays asked.

    delivered = metered - plan, up and down apart
    undelivered = asked - delivered, where that is above 0
    shortfall = undelivered + its limits' part of what the fleet could not serve

The plan is the vehicle's own charging plan as it stood along the way; its part of the declared baseline stands beside
it. Summed over all accounts, metered less baseline is what the pool's statement calls delivered, save for the plans of
vehicles that left after the declaration (`Closed`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop import metering
from droop.accounts import ROW
from droop.metering import ANCHOR, BEGINS, ENDS, EVENT, FREE, NOBODY, REPORT, Metered, Spans
from droop.reasons import Reason
from settlement.align import NS
from settlement.balance import HOLD_S, UNPLUGGED

Rows = npt.NDArray[Any]

LATE_NS: Final = 5 * NS  # a report that old is no capacity to the engine either
AHEAD_NS: Final = NS  # more than any two good clocks are apart
ROUNDING_KWH: Final = 1e-9
FIRST_EVENTS: Final = 4096

# Frozen: evidence rests on these names, units and this order. Positive power is into the grid; energies named up or
# down are 0 or more.
ACCOUNT: Final = np.dtype(
    [
        ("vehicle", "S24"),
        ("slot", "<u4"),  # charger
        ("session", "<u4"),  # number of the vehicle's stay at that charger
        ("site", "<i4"),  # leaf of the tree of caps; -1: none
        ("reason", "<u4"),  # droop.reasons.Reason behind the shortfall; without one, what bound it longest
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),  # exclusive
        ("asked_up_kwh", "<f8"),
        ("asked_down_kwh", "<f8"),
        ("commanded_kwh", "<f8"),
        ("metered_up_kwh", "<f8"),  # by its own reports
        ("metered_down_kwh", "<f8"),
        ("plan_kwh", "<f8"),  # what it would have done by itself
        ("baseline_kwh", "<f8"),  # its part of the declared baseline
        ("delivered_kwh", "<f8"),  # metered less plan, over the time covered
        ("delivered_up_kwh", "<f8"),
        ("delivered_down_kwh", "<f8"),
        ("undelivered_kwh", "<f8"),  # asked of it and not given
        ("unserved_kwh", "<f8"),  # its limits' part of what the fleet could not serve
        ("shortfall_kwh", "<f8"),  # both
        ("headroom_up_kwh", "<f8"),  # power it held available, over time
        ("headroom_down_kwh", "<f8"),
        ("bound_s", "<f8"),  # seconds at the bound that held it longest
        ("plugged_s", "<f8"),
        ("reported_s", "<f8"),
        ("coverage_frac", "<f8"),  # of the time plugged in
        ("commands", "<u4"),
        ("acknowledged", "<u4"),  # borne out by a later report: chargers send no receipts
        ("refused", "<u4"),
        ("quality", "<u4"),  # TimeQuality, the worst
    ]
)


# What of two accounts of one stay adds up.
ADDED: Final = (
    *(name for name in ACCOUNT.names or () if name.endswith("_kwh")), "plugged_s", "reported_s", "commands",
    "acknowledged", "refused",
)  # fmt: skip


class TimeQuality(IntEnum):
    """How far the times of a vehicle's reports can be trusted. The order is the evidence's code: append only."""

    GOOD = 0
    LATE = 1  # a report arrived more than 5 s after its time
    AHEAD = 2  # a report is stamped more than a second after it arrived: the charger's clock is wrong
    SILENT = 3  # not one report


class AccountError(ValueError):
    """Rows that are no accounts; the message names the field and the remedy."""


class Closed(NamedTuple):
    """An interval's accounts.

    rows             : ACCOUNT[n], by charger, then by time
    unaccounted_kwh  : energy that vehicles reported while no account was open (the worker was away)
    """

    start_ns: int
    end_ns: int
    rows: Rows
    unaccounted_kwh: float


class AccountLedger:
    """Takes what is recorded as it comes, and gives the accounts of an interval when it is closed.

    slots    : chargers; what is said of others is passed over, as the core refused it
    start_ns : nothing before it counts
    """

    def __init__(self, slots: int, start_ns: int = 0) -> None:
        self.edge_ns = start_ns
        self._events = np.zeros(FIRST_EVENTS, EVENT)
        self._count = 0
        self._anchors = np.zeros(0, ANCHOR)
        self.grow(slots)
        self._closed: list[Rows] = []

    def sessions(self, rows: Rows) -> None:
        """Vehicles that come and go. rows : fields t_ns, rx_ns, slot, session, state"""
        events = self._room(rows.size)
        events["t_ns"], events["late_ns"] = rows["t_ns"], rows["rx_ns"] - rows["t_ns"]
        events["slot"], events["session"], events["power_kw"] = rows["slot"], rows["session"], 0.0
        events["what"] = np.where(rows["state"] == UNPLUGGED, ENDS, BEGINS)

    def reports(self, rows: Rows) -> None:
        """Vehicles' reports. rows : fields t_ns, rx_ns, slot, session, power_kw, soc_frac"""
        good = np.isfinite(rows["power_kw"]) & np.isfinite(rows["soc_frac"])
        if not good.all():
            rows = rows[good]
        events = self._room(rows.size)
        for name in ("t_ns", "slot", "session", "power_kw"):
            events[name] = rows[name]
        events["late_ns"] = rows["rx_ns"] - rows["t_ns"]
        events["what"] = REPORT

    def accounts(self, rows: Rows) -> None:
        """Accounts that the core has closed. rows : droop.accounts.ROW[n]

        Raises AccountError for rows of another form, or one that ends before it starts.
        """
        if rows.dtype != ROW:
            raise AccountError(f"field `rows` takes rows of droop.accounts.ROW, not {rows.dtype}")
        if np.any(rows["end_ns"] <= rows["start_ns"]):
            raise AccountError("field `end_ns` must lie after `start_ns`; the row was not written by the core")
        self._closed.append(rows)

    def close(self, end_ns: int) -> Closed:
        """The accounts that ended by `end_ns`, which must not lie before the last edge."""
        if end_ns < self.edge_ns:
            raise AccountError(f"field `end_ns`: {end_ns} lies before the last edge, {self.edge_ns}")
        start_ns = self.edge_ns
        held = np.concatenate([np.zeros(0, ROW), *self._closed])
        ended = held["end_ns"] <= end_ns
        self._closed = [held[~ended]]
        rows = held[ended]
        rows = rows[np.lexsort((rows["start_ns"], rows["slot"]))]
        events = self._events[: self._count]
        self.grow(int(rows["slot"].max()) + 1 if rows.size else 0)
        metered = metering.nothing(rows.size)
        none_kwh = metering.meter(
            events, self._anchors, self._anchors.copy(), start_ns, end_ns, round(HOLD_S * NS),
            spans(rows, self._anchors.size), metered,
        )  # fmt: skip
        kept = events[events["t_ns"] > end_ns].copy()
        self._events[: kept.size] = kept
        self._count, self.edge_ns = kept.size, end_ns
        return Closed(start_ns, end_ns, joined(rows, metered), float(none_kwh))

    def _room(self, rows: int) -> Rows:
        """Place for so many events more."""
        need = self._count + rows
        if need > self._events.size:
            wider = np.zeros(max(need, 2 * self._events.size), EVENT)
            wider[: self._count] = self._events[: self._count]
            self._events = wider
        begin, self._count = self._count, need
        return self._events[begin:need]

    def grow(self, slots: int) -> None:
        """Know at least so many chargers."""
        if slots > self._anchors.size:
            wider = np.zeros(max(slots, 2 * self._anchors.size), ANCHOR)
            wider["session"] = FREE
            wider[: self._anchors.size] = self._anchors
            self._anchors = wider


def spans(rows: Rows, slots: int) -> Spans:
    """The core's rows, ordered by charger and time, as the kernel takes them."""
    first, after = np.full(slots, NOBODY), np.full(rows.size, NOBODY)
    slot = rows["slot"].astype(np.int64)
    same = slot[1:] == slot[:-1]
    after[:-1][same] = np.flatnonzero(same) + 1
    begins = np.flatnonzero(np.concatenate([[True], ~same])) if rows.size else np.zeros(0, np.int64)
    first[slot[begins]] = begins
    hours = (rows["end_ns"] - rows["start_ns"]) / (3600.0 * NS)
    session, start_ns, end_ns = (rows[name].astype(np.int64) for name in ("session", "start_ns", "end_ns"))
    return Spans(first, after, session, start_ns, end_ns, rows["plan_kwh"] / hours)


def joined(rows: Rows, metered: Metered) -> Rows:
    """The core's rows with what the reports say of them. rows : droop.accounts.ROW[n]; returns ACCOUNT[n]"""
    out = np.zeros(rows.size, ACCOUNT)
    for name in (rows.dtype.names or ())[:-1]:
        if name in (ACCOUNT.names or ()):
            out[name] = rows[name]
    out["plugged_s"] = (rows["end_ns"] - rows["start_ns"]) / NS
    out["reported_s"] = metered.covered_s
    out["coverage_frac"] = np.minimum(out["reported_s"] / np.maximum(out["plugged_s"], 1e-9), 1.0)
    out["metered_up_kwh"], out["metered_down_kwh"] = metered.up_kwh, metered.down_kwh
    out["delivered_up_kwh"], out["delivered_down_kwh"] = metered.above_kwh, metered.below_kwh
    out["delivered_kwh"] = metered.above_kwh - metered.below_kwh
    out["undelivered_kwh"] = np.maximum(out["asked_up_kwh"] - out["delivered_up_kwh"], 0.0) + np.maximum(
        out["asked_down_kwh"] - out["delivered_down_kwh"], 0.0
    )
    out["shortfall_kwh"] = out["undelivered_kwh"] + out["unserved_kwh"]
    out["reason"] = _reasons(out)
    out["quality"] = _quality(out, metered)
    return out


def folded(rows: Rows) -> Rows:
    """One row for each stay of a vehicle in an interval, of several accounts of it one after the other.

    rows : ACCOUNT[n], all of one interval

    Amounts and times add up. The reason is that of the account that fell furthest short, or, where none did, of the one
    that was held longest; `bound_s` are the seconds of that reason.
    """
    order = np.lexsort((rows["start_ns"], rows["session"], rows["slot"]))
    rows = rows[order]
    if not rows.size:
        return rows
    stay = rows[["slot", "session", "vehicle"]]
    first = np.flatnonzero(np.concatenate([[True], stay[1:] != stay[:-1]]))
    group = np.cumsum(np.concatenate([[0], stay[1:] != stay[:-1]])).astype(np.int64)
    out = rows[first].copy()
    for name in ADDED:
        out[name] = np.add.reduceat(rows[name], first)
    out["end_ns"] = np.maximum.reduceat(rows["end_ns"], first)
    out["quality"] = np.maximum.reduceat(rows["quality"], first)
    worst = np.lexsort((rows["bound_s"], rows["shortfall_kwh"], group))
    last = np.concatenate([first[1:], [rows.size]]) - 1
    out["reason"] = rows["reason"][worst[last]]
    out["bound_s"] = np.add.reduceat(np.where(rows["reason"] == out["reason"][group], rows["bound_s"], 0.0), first)
    out["coverage_frac"] = np.minimum(out["reported_s"] / np.maximum(out["plugged_s"], 1e-9), 1.0)
    return out


def _reasons(rows: Rows) -> Rows:
    """Behind a shortfall that is mostly its own: not followed, not reported, or less given. Else what bound it."""
    own = (rows["undelivered_kwh"] > rows["unserved_kwh"]) & (rows["undelivered_kwh"] > ROUNDING_KWH)
    untold = (rows["asked_up_kwh"] + rows["asked_down_kwh"]) * (1.0 - rows["coverage_frac"])
    gave_not = np.where(rows["refused"] > rows["acknowledged"], Reason.REFUSED, Reason.RESPONSE)
    why = np.where(untold > rows["undelivered_kwh"] / 2.0, Reason.STALE, gave_not)
    faulty = rows["reason"] == Reason.FAULT
    return np.where(own & ~faulty, why, rows["reason"])


def _quality(rows: Rows, metered: Metered) -> Rows:
    worst = np.where(metered.late_ns > LATE_NS, TimeQuality.LATE, TimeQuality.GOOD)
    worst = np.where(metered.ahead_ns > AHEAD_NS, TimeQuality.AHEAD, worst)
    return np.where(rows["reported_s"] > 0.0, worst, TimeQuality.SILENT)
