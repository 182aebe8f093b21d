"""Which chargers need a new curve after limits moved: those whose curve is wrong, and the fewest others.

A curve that leaves its vehicle's bounds anywhere must be replaced. What the fleet's sum then lacks at the common
knots is closed with as few messages as can be found: vehicle after vehicle with the largest correction to offer
over all knots, until every knot is within the tolerance. All who hear are divided anew, at the optimum, over what
the curves of all others leave; so the error goes into the division among vehicles, never to the grid.

To find the fewest for sure is a covering problem no one solves at this size; the greedy choice, with a look back
for whoever became superfluous, is at the fewest or one above it on small fleets.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.curves import Columns, columns
from droop.local import Fleet64
from droop.numerics import kernel

Column = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class Resend(NamedTuple):
    """New curves, and who must hear of his."""

    told: npt.NDArray[np.bool_]  # bool[n]
    kw: Floats  # float64[n, k]  standing curves: new for those told, as sent for the others
    open_kw: Floats  # float64[k]  request minus the curves' sum; beyond the tolerance only where bounds end


@kernel
def offer(room_kw: Column, need_kw: Column) -> float:
    """How much of the need at all knots one vehicle can cover [kW]."""
    out = 0.0
    for j in range(need_kw.size):
        out += min(room_kw[j], need_kw[j])
    return out


@kernel
def sink(heap: Column, offers: Column, size: int) -> None:
    """Put the first entry of a heap of vehicles, the largest offer on top, where it belongs."""
    top = heap[0]
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and offers[heap[child + 1]] > offers[heap[child]]:
            child += 1
        if offers[heap[child]] <= offers[top]:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = top


@kernel
def take(heap: Column, offers: Column, room_kw: Column, need_kw: Column) -> int:
    """Move the vehicles that cover the need to the end of the heap, largest offer first; return how many.

    heap    : int64[m]       vehicles in descending order of their offers
    offers  : float64[n]     what each can cover of the need as it stands
    room_kw : float64[n, k]  how far each can move its power at each knot, in the direction needed there
    need_kw : float64[k]     what is missing at each knot; what is left of it in the end
    """
    size = heap.size
    while size > 0:
        best = heap[0]
        # An offer only shrinks as the need does: a fresh one that still tops the old ones is the largest.
        offers[best] = offer(room_kw[best], need_kw)
        sink(heap, offers, size)
        if heap[0] != best:
            continue
        if not offers[best] > 0.0:
            break
        for j in range(need_kw.size):
            need_kw[j] -= min(room_kw[best, j], need_kw[j])
        size -= 1
        heap[0] = heap[size]
        heap[size] = best
        sink(heap, offers, size)
    return heap.size - size


def resend(
    sent_kw: npt.ArrayLike, request_kw: npt.ArrayLike,
    t: npt.ArrayLike, s_up: npt.ArrayLike, s_dn: npt.ArrayLike, lo: npt.ArrayLike, hi: npt.ArrayLike,
    tolerance_kw: float,
) -> Resend:  # fmt: skip
    """Mend the curves of a fleet whose limits moved, with few messages.

    sent_kw        : float64[n, k]  powers at the common knots as the chargers have them [kW]
    request_kw     : float64[k]     what the curves shall sum to at the knots [kW]
    t, s_*, lo, hi : [n]            as `droop.curves.columns`, as they are now
    tolerance_kw   : float          error of the sum at a knot that is not worth a message [kW]

    Raises ValueError naming the argument.
    """
    fleet = columns(t, s_up, s_dn, lo, hi, np.float64)
    sent = _table("sent_kw", sent_kw, 2)
    request = _table("request_kw", request_kw, 1)
    if sent.shape != (fleet.t.size, request.size):
        raise ValueError(f"sent_kw: takes {fleet.t.size} rows of {request.size} powers, got shape {sent.shape}")
    if not (np.isfinite(tolerance_kw) and tolerance_kw >= 0.0):
        raise ValueError(f"tolerance_kw: takes a finite number, 0 or more, got {tolerance_kw}")
    told = np.asarray(((sent < fleet.lo[:, None]) | (sent > fleet.hi[:, None])).any(axis=1))
    base = np.clip(sent, fleet.lo[:, None], fleet.hi[:, None])
    served = np.clip(request, fleet.lo.sum(), fleet.hi.sum())
    open_kw = served - base.sum(axis=0)
    up = open_kw > 0.0
    room = np.where(up, fleet.hi[:, None] - base, base - fleet.lo[:, None])
    # Who must be told anyway gives all he can before anybody else hears.
    need = np.maximum(np.abs(open_kw) - tolerance_kw - room[told].sum(axis=0), 0.0)
    told[_fewest(room, need, np.flatnonzero(~told))] = True
    kw = sent.copy()
    if told.any():
        few = Fleet64(Columns(*(column[told] for column in fleet)))
        lam, _ = few.multipliers(served - sent[~told].sum(axis=0))
        kw[told] = np.array([few.row(x) for x in lam]).T.reshape(-1, request.size)
    return Resend(told, kw, request - kw.sum(axis=0))


def _fewest(room_kw: Floats, need_kw: Floats, free: Column) -> Column:
    """Vehicles among `free` that cover the need: taken greedily, less those whom later ones made superfluous."""
    offers = np.minimum(room_kw, need_kw).sum(axis=1)
    heap = free[np.argsort(-offers[free], kind="stable")]
    taken = heap[heap.size - take(heap, offers, room_kw, need_kw.copy()) :]
    wanted = need_kw > 0.0
    room = room_kw[:, wanted]
    spare = room[taken].sum(axis=0) - need_kw[wanted]
    kept = []
    for i in sorted(taken.tolist(), key=lambda i: offers[i]):
        if (room[i] <= spare).all():
            spare -= room[i]
        else:
            kept.append(i)
    return np.array(kept, np.int64)


def _table(name: str, values: npt.ArrayLike, axes: int) -> Floats:
    """One argument in float64; ValueError names it."""
    out = np.asarray(values, np.float64, order="C")
    if out.ndim != axes:
        raise ValueError(f"{name}: takes {axes} axes, got shape {out.shape}")
    if not np.isfinite(out).all():
        raise ValueError(f"{name}: takes finite numbers; {int((~np.isfinite(out)).sum())} are not")
    return out
