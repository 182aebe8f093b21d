"""What limits take of the fleet's rated power at this moment, by reason: an owner's override, a site's cap, ...

From each rating down to the vehicle's own bound counts for what set that bound; from there to the bound the split
sees, for what narrowed it further. An override's cost is therefore the same whatever the site does besides, and equal
to the sum of what `explain` says of each vehicle. Reads columns, changes nothing.
"""

from __future__ import annotations

import numpy as np

from droop.fleet import UNPLUGGED, Column, Fleet
from droop.numerics import kernel
from droop.reasons import COUNT, Reason


@kernel
def _take(
    state: Column, sign: float, rated_kw: Column, free_kw: Column, bound_kw: Column, own: Column, why: Column,
    out: Column,
) -> None:  # fmt: skip
    """Add one direction's rows up by reason. sign : 1 upwards, -1 downwards; out : float64[reasons], overwritten"""
    out[:] = 0.0
    for i in range(state.size):
        if state[i] != UNPLUGGED:
            rated, free, bound = rated_kw[i], sign * free_kw[i], sign * bound_kw[i]
            out[own[i]] += max(rated - free, 0.0)
            out[why[i]] += max(min(rated, free) - bound, 0.0)


def withheld_kw(fleet: Fleet) -> dict[str, dict[str, float]]:
    """Rated power that each limit takes now, of the vehicles that are plugged in: reason -> up, down [kW, at least 0].

    Reasons that take nothing are left out. `minimum` is what chargers could do that are off, or on the other side,
    for their least power: another set of them could do it.
    """
    up, down = np.empty(COUNT), np.empty(COUNT)
    state = fleet.state
    _take(state, 1.0, fleet.discharge_max_kw, fleet.free_hi_kw, fleet.hi_kw, fleet.own_up, fleet.reason_up, up)
    _take(state, -1.0, fleet.charge_max_kw, fleet.free_lo_kw, fleet.lo_kw, fleet.own_down, fleet.reason_down, down)
    return {
        reason.name.lower(): {"up": float(up[reason]), "down": float(down[reason])}
        for reason in Reason
        if up[reason] > 0.0 or down[reason] > 0.0
    }
