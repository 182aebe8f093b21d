"""Vehicles' own reports as energy within accounts: straight lines between two reports, up and down apart.

The rule of `settlement.balance`, a charger at a time: power goes linearly from one report to the next; over a longer
silence than `hold_ns` it is unknown and counts as nothing, never as what was asked; a session begins at no power. A
piece across an edge is cut pro rata. Reports that others have overtaken, and those of another session, are passed over.

Numbers only: who was there, and what was declared, is the caller's to know.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.energy import NS_PER_H
from droop.numerics import strict

Column = npt.NDArray[Any]

REPORT: Final = 0
BEGINS: Final = 1
ENDS: Final = 2
FREE: Final = -1
NOBODY: Final = -1

# What was told of a charger, in the order in which it was learnt.
EVENT: Final = np.dtype(
    [
        ("t_ns", "<i8"),
        ("late_ns", "<i8"),  # arrival less source time
        ("slot", "<u4"),
        ("session", "<u4"),
        ("power_kw", "<f4"),
        ("what", "<u4"),  # REPORT, BEGINS or ENDS
    ]
)

ANCHOR: Final = np.dtype([("t_ns", "<i8"), ("session", "<i8"), ("power_kw", "<f8")])


class Spans(NamedTuple):
    """Accounts to be filled: one a row; first[slot] is a slot's first row, after[row] its next, NOBODY ends the line.

    session, start_ns, end_ns : int64[m]
    plan_kw                   : float64[m]  what the vehicle would have done
    """

    first: Column
    after: Column
    session: Column
    start_ns: Column
    end_ns: Column
    plan_kw: Column


class Metered(NamedTuple):
    """What came of it, float64[m] each: energy of the reported power, of what lies above and below the plan, coverage.

    late_ns, ahead_ns : int64[m]  the latest report after, and the furthest stamp before, its own time
    """

    up_kwh: Column
    down_kwh: Column
    above_kwh: Column
    below_kwh: Column
    covered_s: Column
    late_ns: Column
    ahead_ns: Column


def nothing(rows: int) -> Metered:
    """Room for so many accounts."""
    up, down, over, under, covered = np.zeros((5, rows))
    return Metered(up, down, over, under, covered, np.zeros(rows, np.int64), np.zeros(rows, np.int64))


@strict
def above(first_kw: float, last_kw: float) -> float:
    """Mean of the part above zero of a straight line."""
    high, low = max(first_kw, last_kw), min(first_kw, last_kw)
    if high > 0.0 and low < 0.0:
        return high * high / (2.0 * (high - low))
    return max((first_kw + last_kw) / 2.0, 0.0)


@strict
def lost_kwh(first_kw: float, last_kw: float, hours: float, eta_charge: float, eta_discharge: float) -> float:
    """Conversion losses at a charger's grid side while the power goes linearly from `first_kw` to `last_kw`.

    p (1/eta - 1) discharging, |p| (1 - eta) charging; a piece that changes direction loses in both.
    """
    out_kw, into_kw = above(first_kw, last_kw), above(-first_kw, -last_kw)
    return (out_kw * (1.0 / eta_discharge - 1.0) + into_kw * (1.0 - eta_charge)) * hours


@strict
def add(
    a_ns: int, a_kw: float, b_ns: int, b_kw: float, slot: int, session: int, from_ns: int, edge_ns: int, spans: Spans,
    m: Metered,
) -> float:  # fmt: skip
    """Add the piece between two reports to the accounts it lies in; returns what lies in none of [from, edge) [kWh]."""
    mean_kw = (a_kw + b_kw) / 2.0
    outside_ns = max(min(b_ns, edge_ns) - max(a_ns, from_ns), 0)
    row = spans.first[slot]
    while row != NOBODY:
        inside_ns = min(b_ns, spans.end_ns[row]) - max(a_ns, spans.start_ns[row])
        if spans.session[row] == session and inside_ns > 0:
            hours, plan_kw = inside_ns / NS_PER_H, spans.plan_kw[row]
            m.up_kwh[row] += above(a_kw, b_kw) * hours
            m.down_kwh[row] += above(-a_kw, -b_kw) * hours
            m.above_kwh[row] += above(a_kw - plan_kw, b_kw - plan_kw) * hours
            m.below_kwh[row] += above(plan_kw - a_kw, plan_kw - b_kw) * hours
            m.covered_s[row] += inside_ns / 1e9
            outside_ns -= inside_ns
        row = spans.after[row]
    return mean_kw * (outside_ns / NS_PER_H)


@strict
def mark(event: Any, spans: Spans, m: Metered) -> None:
    """Keep how far a report's stamp and its arrival were apart at worst."""
    row = spans.first[event.slot]
    while row != NOBODY:
        if spans.session[row] == event.session and spans.start_ns[row] <= event.t_ns < spans.end_ns[row]:
            m.late_ns[row] = max(m.late_ns[row], event.late_ns)
            m.ahead_ns[row] = max(m.ahead_ns[row], -event.late_ns)
        row = spans.after[row]


@strict
def meter(
    events: Column, anchors: Column, running: Column, from_ns: int, edge_ns: int, hold_ns: int, spans: Spans,
    metered: Metered,
) -> float:  # fmt: skip
    """Fill the accounts of an interval; returns the reported energy that lies in none of them [kWh].

    events  : EVENT[k], all since the edge before, and those since then that lie beyond it
    anchors : ANCHOR[slots] each charger's last event up to the edge before; on return, up to this one
    running : ANCHOR[slots] scratch, a copy of the anchors
    """
    none_kwh = 0.0
    for k in range(events.size):
        event = events[k]
        slot = event.slot
        if slot >= running.size:
            continue
        a = running[slot]
        if event.what == ENDS:
            a.session = FREE
        elif event.what == BEGINS:
            same = a.session == event.session
            if same and a.t_ns > event.t_ns:
                continue  # told twice, as after a reconnection
            a.power_kw = a.power_kw if same else 0.0
            a.t_ns, a.session = event.t_ns, np.int64(event.session)
        else:
            if a.session != event.session or event.t_ns <= a.t_ns:
                continue
            power_kw = np.float64(event.power_kw)
            if event.t_ns - a.t_ns <= hold_ns:
                none_kwh += add(
                    a.t_ns, a.power_kw, event.t_ns, power_kw, slot, event.session, from_ns, edge_ns, spans, metered
                )
            mark(event, spans, metered)
            a.t_ns, a.power_kw = event.t_ns, power_kw
        if event.t_ns <= edge_ns:
            anchors[slot].t_ns, anchors[slot].session, anchors[slot].power_kw = a.t_ns, a.session, a.power_kw
    return none_kwh


@strict
def in_order(t_ns: Column, slot: Column, seen_ns: Column) -> bool:
    """Whether the reports of each charger come in order of time. seen_ns : int64[slots] scratch"""
    for k in range(t_ns.size):
        seen_ns[slot[k]] = t_ns[k]
    fits = True
    for k in range(t_ns.size - 1, -1, -1):
        fits = fits and t_ns[k] <= seen_ns[slot[k]]
        seen_ns[slot[k]] = t_ns[k]
    return fits


@strict
def tally(
    t_ns: Column, slot: Column, session: Column, power_kw: Column, soc_frac: Column, anchors: Column, hold_ns: int,
    length_ns: int, first: int, sums: Column, touched: Column,
) -> None:  # fmt: skip
    """Add the pieces between reports to the fleet's sums by interval, cut pro rata at the edges.

    t_ns, slot, session : int64[k]    power_kw, soc_frac : float64[k]
    anchors : `settlement.balance.ANCHOR`, brought up to the last report of each
    first   : number of the interval that sums[0] is of
    sums    : float64[m, 3]  reported, stored and lost energy [kWh]
    touched : bool[m]        whether a piece lies in the interval
    """
    for k in range(t_ns.size):
        a = anchors[slot[k]]
        if a.session != session[k] or t_ns[k] <= a.t_ns or not np.isfinite(power_kw[k] + soc_frac[k]):
            continue
        whole_ns = t_ns[k] - a.t_ns
        hours = whole_ns / NS_PER_H if whole_ns <= hold_ns else 0.0
        reported = (a.power_kw + power_kw[k]) / 2.0 * hours
        stored = (soc_frac[k] - a.soc_frac) * a.capacity_kwh
        lost = lost_kwh(a.power_kw, power_kw[k], hours, a.eta_charge_frac, a.eta_discharge_frac)
        for index in range(max(a.t_ns // length_ns - first, 0), (t_ns[k] - 1) // length_ns - first + 1):
            low_ns = (first + index) * length_ns
            part = (min(t_ns[k], low_ns + length_ns) - max(a.t_ns, low_ns)) / whole_ns
            sums[index, 0] += reported * part
            sums[index, 1] += stored * part
            sums[index, 2] += lost * part
            touched[index] = True
        a.t_ns, a.power_kw, a.soc_frac = t_ns[k], power_kw[k], soc_frac[k]
