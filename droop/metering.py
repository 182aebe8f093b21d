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
