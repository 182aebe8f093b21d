"""Least powers and caps: vehicles turned off whose least powers alone break a cap, or on where only that keeps one."""

from __future__ import annotations

from typing import Final

from droop.fleet import Fleet
from droop.minimum import Desk, Held, Nodes, able, band, held_by, put
from droop.numerics import kernel
from droop.reasons import Reason
from droop.response import commandable

SITE: Final = int(Reason.SITE)


@kernel
def crowded(leaf: int, mode: int, nodes: Nodes) -> bool:
    """Whether a cap above cannot bear what the active vehicles cannot go below, in the direction of `mode`."""
    while leaf >= 0:
        if (
            (nodes.lo_sum_kw[leaf] > nodes.upper_kw[leaf])
            if mode > 0
            else (nodes.hi_sum_kw[leaf] < nodes.lower_kw[leaf])
        ):
            return True
        leaf = nodes.parent[leaf]
    return False


@kernel
def tally(fleet: Fleet, first: int, last: int, nodes: Nodes) -> None:
    """Sum the bounds of rows first..last, whole trees, into their nodes."""
    site, lo_kw, hi_kw = fleet.site, fleet.lo_kw, fleet.hi_kw
    for again in range(2):
        for i in range(first, last):
            node = site[i]
            while node >= 0:
                nodes.lo_sum_kw[node] = nodes.lo_sum_kw[node] + lo_kw[i] if again else 0.0
                nodes.hi_sum_kw[node] = nodes.hi_sum_kw[node] + hi_kw[i] if again else 0.0
                node = nodes.parent[node]


# The stages of `relieve`: who may be turned off or on, in turn.
FREE: Final = 0  # off, who need not be on
FORCED: Final = 1  # off, who was forced on just now: an earlier call had turned it off
NEEDED: Final = 2  # off, whose charging the driver needs
HELPING: Final = 3  # on, against what flows in or out beside the vehicles
# Bounds are renewed once a second: what was switched since was so for this reason.
FORCED_NS: Final = 2_000_000_000


@kernel
def hold_to_least(fleet: Fleet, first: int, last: int, least: bool, held: Held, nodes: Nodes, sums: Desk) -> None:
    """Give those that charge below a cap the upper bound of their least power (`least`), or of their need again."""
    for i in range(first, last):
        if fleet.mode[i] < 0 and fleet.site[i] >= 0 and commandable(fleet.state[i], fleet.reason_up[i]):
            hi = -fleet.least_dn_kw[i] if least else min(fleet.free_hi_kw[i], -fleet.least_dn_kw[i])
            if hi != fleet.hi_kw[i]:
                put(i, -1, fleet.lo_kw[i], hi, fleet.switched_ns[i], held, nodes, sums)


@kernel
def relieve(fleet: Fleet, first: int, last: int, now_ns: int, nodes: Nodes, sums: Desk) -> int:
    """Turn vehicles off whose least powers alone break a cap, or on where only that keeps one.

    Between `apply` and the fold of rows first..last, which are whole trees. A cap comes before the driver's energy;
    who has to wait for it goes on waiting, so that contactors rest. Returns how many modes changed.
    """
    tally(fleet, first, last, nodes)
    site, mode, state, switched_ns = fleet.site, fleet.mode, fleet.state, fleet.switched_ns
    least, least_dn, free_lo, free_hi = fleet.min_kw, fleet.least_dn_kw, fleet.free_lo_kw, fleet.free_hi_kw
    why_up, why_down = fleet.reason_up, fleet.reason_down
    held = held_by(fleet)
    changed = 0
    start = sums.start[0] % max(last - first, 1)
    for stage in range(4):
        if stage == FORCED:
            # Who must charge counts with its least power from here on: the fold sheds down to it.
            hold_to_least(fleet, first, last, True, held, nodes, sums)
        for k in range(last - first):
            i = first + (start + k if start + k < last - first else start + k - (last - first))
            if least[i] == 0.0 or not commandable(state[i], why_up[i]) or (mode[i] == 0) != (stage == HELPING):
                continue
            if stage == HELPING:
                for to in range(-1, 2, 2):
                    if crowded(site[i], -to, nodes) and able(to, least[i], least_dn[i], free_lo[i], free_hi[i]):
                        lo, hi = band(to, least[i], least_dn[i], free_lo[i], free_hi[i])
                        put(i, to, lo, hi, now_ns, held, nodes, sums)
                        why_up[i] = SITE if to < 0 else why_up[i]
                        why_down[i] = SITE if to > 0 else why_down[i]
                        changed += 1
                        break
            elif crowded(site[i], mode[i], nodes) and (
                stage == NEEDED
                or (stage == FORCED and now_ns - switched_ns[i] < FORCED_NS)
                or able(0, least[i], least_dn[i], free_lo[i], free_hi[i])
            ):
                why_up[i] = SITE if mode[i] > 0 else why_up[i]
                why_down[i] = SITE if mode[i] < 0 else why_down[i]
                put(i, 0, 0.0, 0.0, now_ns, held, nodes, sums)
                changed += 1
    hold_to_least(fleet, first, last, False, held, nodes, sums)
    if changed > 0:
        sums.start[0] += 1
    return changed
