"""Why a request could not be served in full: the shortfall, shared over the limits that took rated power away."""

from __future__ import annotations

from typing import Final

from droop.fleet import UNPLUGGED, Column, Fleet
from droop.numerics import kernel
from droop.reasons import Reason

RATING: Final = int(Reason.RATING)


@kernel
def lost(fleet: Fleet, up: bool, out: Column) -> float:
    """Rated power that limits take away, by the reason that binds; returns the sum [kW].

    up : upwards, from the discharge rating; else downwards, from the charge rating
    out: float64[reasons], overwritten
    """
    rated = fleet.discharge_max_kw if up else fleet.charge_max_kw
    bound = fleet.hi_kw if up else fleet.lo_kw
    why = fleet.reason_up if up else fleet.reason_down
    state, sign = fleet.state, 1.0 if up else -1.0
    out[:] = 0.0
    total = 0.0
    for i in range(state.size):
        if state[i] != UNPLUGGED:
            taken = max(rated[i] - sign * bound[i], 0.0)
            out[why[i]] += taken
            total += taken
    return total


@kernel
def attribute(fleet: Fleet, shortfall_kw: float, out: Column) -> None:
    """Share a shortfall over the reasons in proportion to what each took; signed as the shortfall.

    What no limit explains is rating: more was sold than is there. out : float64[reasons]
    """
    taken = lost(fleet, shortfall_kw > 0.0, out)
    share = min(abs(shortfall_kw) / taken, 1.0) if taken > 0.0 else 0.0
    sign = 1.0 if shortfall_kw > 0.0 else -1.0
    for reason in range(out.size):
        out[reason] *= sign * share
    out[RATING] += sign * max(abs(shortfall_kw) - taken, 0.0)
