"""Caps folded into the vehicles' own bounds before the split sees them.

A node asks for  L <= sum p <= U  over its vehicles. The split moves every vehicle along its own monotone line
g_i(lam) = clip(t_i + s_i lam, lo_i, hi_i), so the node's cap is a cap on its multiplier: with F = sum g_i,

    hi_i <- g_i(F^-1(U)),   lo_i <- g_i(F^-1(L))

is the same constraint, exactly, and the tick never hears of sites. Applied from the leaves to the root it solves
any tree of caps. It holds until t, s, lo or hi of one of the vehicles changes; then its tree is folded anew, from
bounds that no cap has narrowed yet.

Where no power of the vehicles meets a cap by their bounds, those that can be commanded are moved past them, and the
account of it is kept: a cap comes before the energy wanted at departure.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from droop.numerics import kernel
from droop.reasons import Reason
from droop.sites import Tree
from droop.split import LAM_MAX, LAM_MIN

Column = npt.NDArray[Any]

SITE: Final = int(Reason.SITE)
MAX_PASSES: Final = 200
PATIENCE: Final = 16
# Sums in float64 are compared to this share of what they are made of.
EXACT: Final = 1e-12
# A bound moved by less than this, absolute [kW] and relative, was rounded and not narrowed.
NOTABLE: Final = 1e-6


@kernel
def bounds_sum(lo: Column, hi: Column) -> tuple[float, float]:
    """Sums of both bounds."""
    lo_sum = hi_sum = 0.0
    for i in range(lo.size):
        lo_sum += np.float64(lo[i])
        hi_sum += np.float64(hi[i])
    return lo_sum, hi_sum


@kernel
def gather(
    k: int, first: Column, last: Column, below: Column, lo_sum: Column, hi_sum: Column, lo: Column, hi: Column
) -> None:  # fmt: skip
    """Sums of a node from its children's and from the rows that are in none of them."""
    lo_total = hi_total = 0.0
    end = last[k]
    child = k - 1
    while child >= below[k]:
        if end > last[child]:
            lo_own, hi_own = bounds_sum(lo[last[child] : end], hi[last[child] : end])
            lo_total += lo_own
            hi_total += hi_own
        lo_total += lo_sum[child]
        hi_total += hi_sum[child]
        end = first[child]
        child = below[child] - 1
    lo_own, hi_own = bounds_sum(lo[first[k] : end], hi[first[k] : end])
    lo_sum[k] = lo_total + lo_own
    hi_sum[k] = hi_total + hi_own


@kernel
def at_plan(t: Column, s_up: Column, s_dn: Column, lo: Column, hi: Column) -> tuple[float, float, float]:
    """F(0), and its slopes to the right and to the left."""
    total = up = down = 0.0
    for i in range(t.size):
        t_, lo_, hi_ = np.float64(t[i]), np.float64(lo[i]), np.float64(hi[i])
        total += min(max(t_, lo_), hi_)
        up += np.float64(s_up[i]) if (t_ >= lo_) & (t_ < hi_) else 0.0
        down += np.float64(s_dn[i]) if (t_ > lo_) & (t_ <= hi_) else 0.0
    return total, up, down


@kernel
def flow(lam: float, t: Column, s: Column, lo: Column, hi: Column) -> tuple[float, float]:
    """F(lam) and its slope."""
    total = slope = 0.0
    for i in range(t.size):
        s_, lo_, hi_ = np.float64(s[i]), np.float64(lo[i]), np.float64(hi[i])
        free = np.float64(t[i]) + s_ * lam
        total += min(max(free, lo_), hi_)
        slope += s_ if (free >= lo_) & (free <= hi_) else 0.0
    return total, slope


@kernel
def multiplier(
    wanted: float, total: float, slope: float, end: float, exact: float, t: Column, s: Column, lo: Column, hi: Column
) -> float:  # fmt: skip
    """lam between 0 and `end` with F(lam) = wanted.

    total, slope : F and its slope at lam = 0
    exact        : residual at which the search ends [kW]
    """
    a, b = min(end, 0.0), max(end, 0.0)
    lam = 0.0
    for passes in range(MAX_PASSES):
        residual = wanted - total
        if abs(residual) <= exact:
            break
        if residual > 0.0:
            a = lam
        else:
            b = lam
        step = lam + residual / slope if slope > 0.0 else a
        # Newton alone may crawl from one breakpoint to the next. Every other step late in a search halves the bracket,
        # so it ends whatever the slopes.
        if not (step > a and step < b) or (passes > PATIENCE and passes % 2 == 0):
            step = 0.5 * (a + b)
        if step == lam:
            break
        lam = step
        total, slope = flow(lam, t, s, lo, hi)
    return lam


@kernel
def grain(column: Column) -> float:
    """A little more than half a unit in the last place: z less |z| of these is rounded to no more than z."""
    return 0.505 * np.finfo(column.dtype).eps


# Two functions and not one with a sign: given the same column twice the compiler must fear that they overlap, and
# takes the vehicles one by one.


@kernel
def press(lam: float, t: Column, s: Column, lo: Column, hi: Column, reason: Column) -> float:
    """hi <- g(lam), rounded down; return its sum."""
    total = 0.0
    ulp = grain(hi)
    for i in range(t.size):
        lo_, hi_ = np.float64(lo[i]), np.float64(hi[i])
        free = np.float64(t[i]) + np.float64(s[i]) * lam
        # What is clipped is a number of the column already and must not be rounded.
        hi[i] = max(free - ulp * abs(free), lo_) if free < hi_ else hi_
        now = np.float64(hi[i])
        total += now
        reason[i] = SITE if hi_ - now > NOTABLE * (1.0 + abs(hi_)) else reason[i]
    return total


@kernel
def lift(lam: float, t: Column, s: Column, lo: Column, hi: Column, reason: Column) -> float:
    """lo <- g(lam), rounded up; return its sum."""
    total = 0.0
    ulp = grain(lo)
    for i in range(t.size):
        lo_, hi_ = np.float64(lo[i]), np.float64(hi[i])
        free = np.float64(t[i]) + np.float64(s[i]) * lam
        lo[i] = min(free + ulp * abs(free), hi_) if free > lo_ else lo_
        now = np.float64(lo[i])
        total += now
        reason[i] = SITE if now - lo_ > NOTABLE * (1.0 + abs(lo_)) else reason[i]
    return total


@kernel
def draw(bound: Column, to: Column, keep: float, sign: float) -> float:
    """Draw one bound towards the other until a share of the distance is left; rounded, returned as `press` does."""
    total = 0.0
    ulp = sign * grain(bound)
    for i in range(bound.size):
        end = np.float64(to[i])
        power = end + (np.float64(bound[i]) - end) * keep
        power += ulp * abs(power)
        bound[i] = max(power, end) if sign < 0.0 else min(power, end)
        total += np.float64(bound[i])
    return total


@kernel
def narrow(
    upper: float, lower: float, lo_sum: float, hi_sum: float, t: Column, s_up: Column, s_dn: Column, lo: Column,
    hi: Column, reason_up: Column, reason_down: Column,
) -> tuple[float, float]:  # fmt: skip
    """Bounds of one node's vehicles under its cap, which some power within them meets; return their new sums."""
    total, up, down = at_plan(t, s_up, s_dn, lo, hi)
    exact = EXACT * (hi_sum - lo_sum)
    lam_up = lam_down = 0.0
    # Both multipliers before either bound is moved: each belongs to the bounds as they were.
    if hi_sum > upper:
        above = upper >= total
        lam_up = multiplier(
            upper, total, up if above else down, LAM_MAX if above else LAM_MIN, exact, t, s_up if above else s_dn,
            lo, hi,
        )  # fmt: skip
    if lo_sum < lower:
        above = lower >= total
        lam_down = multiplier(
            lower, total, up if above else down, LAM_MAX if above else LAM_MIN, exact, t, s_up if above else s_dn,
            lo, hi,
        )  # fmt: skip
    if hi_sum > upper:
        hi_sum = press(lam_up, t, s_up if lam_up >= 0.0 else s_dn, lo, hi, reason_up)
        if hi_sum > upper + exact:
            hi_sum = draw(hi, lo, (upper - lo_sum) / (hi_sum - lo_sum), -1.0)
    if lo_sum < lower:
        lo_sum = lift(lam_down, t, s_up if lam_down >= 0.0 else s_dn, lo, hi, reason_down)
        if lo_sum < lower - exact:
            # Where both caps are one number, rounding hi down may have left nothing to lift lo to but hi.
            lo_sum = draw(lo, hi, max(hi_sum - lower, 0.0) / (hi_sum - lo_sum) if hi_sum > lo_sum else 0.0, 1.0)
    return lo_sum, hi_sum


@kernel
def give_way(
    tree: Tree, k: int, wanted: float, to_zero: bool, sign: float, site: Column, bound: Column, other: Column,
    limit: Column, controllable: Column, reason_up: Column, reason_down: Column,
) -> float:  # fmt: skip
    """Move vehicles of node k past `bound`, in proportion to the room to their limit; return the power moved.

    sign    : < 0 down from lo, > 0 up from hi
    to_zero : no further than to standing still
    The caps below k are kept: a child's room ends where its own cap on the other side begins.
    """
    first, last, below = tree.first[k], tree.last[k], tree.below[k]
    tree.part[below : k + 1] = 0.0
    tree.room_kw[below : k + 1] = 0.0
    ulp = 2.0 * grain(bound)
    for i in range(first, last):
        if controllable[i]:
            tree.part[site[i]] += room(np.float64(bound[i]), np.float64(limit[i]), to_zero, sign)
            tree.room_kw[site[i]] += ulp * max(abs(np.float64(bound[i])), abs(np.float64(limit[i])))
    for c in range(below, k):
        spare = tree.lo_sum_kw[c] - tree.lower_kw[c] if sign < 0.0 else tree.upper_kw[c] - tree.hi_sum_kw[c]
        # Moves are rounded outwards; what rounding can add must not break the child's cap either.
        rounding = tree.room_kw[c]
        tree.room_kw[tree.parent[c]] += rounding
        tree.room_kw[c] = min(tree.part[c], max(spare - rounding, 0.0))
        tree.part[tree.parent[c]] += tree.room_kw[c]
    # From here on `part` is the share of its room that everything right below a node gives.
    tree.part[k] = min(wanted / tree.part[k], 1.0) if tree.part[k] > 0.0 else 0.0
    for c in range(k - 1, below - 1, -1):
        tree.part[c] = tree.room_kw[c] * tree.part[tree.parent[c]] / tree.part[c] if tree.part[c] > 0.0 else 0.0
    moved = 0.0
    for i in range(first, last):
        share = tree.part[site[i]]
        if controllable[i] and share > 0.0:
            was = np.float64(bound[i])
            way = room(np.float64(bound[i]), np.float64(limit[i]), to_zero, sign)
            power = was + sign * way * share
            power += sign * grain(bound) * abs(power)
            end = was + sign * way
            bound[i] = max(power, end) if sign < 0.0 else min(power, end)
            other[i] = bound[i]
            if abs(np.float64(bound[i]) - was) > NOTABLE * (1.0 + abs(was)):
                reason_up[i] = reason_down[i] = SITE
            moved += abs(np.float64(bound[i]) - was)
    return moved


@kernel
def room(bound: float, limit: float, to_zero: bool, sign: float) -> float:
    """How far a vehicle may be moved past its bound."""
    if to_zero:
        limit = max(limit, 0.0) if sign < 0.0 else min(limit, 0.0)
    return max((limit - bound) * sign, 0.0)


@kernel
def shed(
    tree: Tree, k: int, sign: float, site: Column, bound: Column, other: Column, limit: Column, controllable: Column,
    reason_up: Column, reason_down: Column,
) -> None:  # fmt: skip
    """Node k's cap excludes all its vehicles' bounds allow: pin them at the nearer bound, then move past it.

    First what flows the wrong way is stopped, then the opposite is asked for.
    """
    size = 0.0
    reason = reason_up if sign < 0.0 else reason_down
    for i in range(tree.first[k], tree.last[k]):
        now, was = np.float64(bound[i]), np.float64(other[i])
        size += abs(now)
        other[i] = bound[i]
        if abs(now - was) > NOTABLE * (1.0 + abs(was)):
            reason[i] = SITE
    resum(tree, tree.below[k], k + 1, bound, bound)
    for stage in range(2):
        total = tree.lo_sum_kw[k]
        wanted = total - tree.upper_kw[k] if sign < 0.0 else tree.lower_kw[k] - total
        if wanted <= 4.0 * grain(bound) * size:
            return
        tree.shed_kw[k] += give_way(
            tree, k, wanted, stage == 0, sign, site, bound, other, limit, controllable, reason_up, reason_down
        )
        resum(tree, tree.below[k], k + 1, bound, bound)


@kernel
def resum(tree: Tree, first_node: int, last_node: int, lo: Column, hi: Column) -> None:
    """Sums of nodes whose vehicles an ancestor has moved since."""
    for k in range(first_node, last_node):
        gather(k, tree.first, tree.last, tree.below, tree.lo_sum_kw, tree.hi_sum_kw, lo, hi)


@kernel
def overrun(upper: float, lower: float, lo: Column, hi: Column) -> float:
    """By how much the bounds' sums miss a cap, if by more than rounding."""
    lo_sum = hi_sum = size = 0.0
    for i in range(lo.size):
        lo_sum += np.float64(lo[i])
        hi_sum += np.float64(hi[i])
        size += max(abs(np.float64(lo[i])), abs(np.float64(hi[i])))
    over = lo_sum - upper if lo_sum > upper else min(hi_sum - lower, 0.0)
    return over if abs(over) > 4.0 * grain(lo) * size else 0.0


@kernel
def fold(
    tree: Tree, site: Column, t: Column, s_up: Column, s_dn: Column, lo: Column, hi: Column, least_lo: Column,
    most_hi: Column, controllable: Column, reason_up: Column, reason_down: Column, first_node: int, last_node: int,
) -> None:  # fmt: skip
    """Narrow lo and hi, in place, until every split under them keeps every cap of these nodes.

    first_node, last_node : whole top-level trees, as `touched` and `roots` give them
    site                  : int32[n]    node of each row (`leaf`)
    t, s_up, s_dn, lo, hi : float[n]    as the split takes them; lo and hi not folded since they were renewed [kW]
    least_lo, most_hi     : float[n]    how far a controllable vehicle may be moved past lo and hi at need [kW]
    controllable          : bool[n]     may be moved past its bounds
    reason_up, _down      : uint8[n]    set to SITE where hi, lo were moved

    No sum of hi exceeds its cap but by float64's rounding; lo likewise, unless both caps are the same number.
    """
    first, last, below, parent = tree.first, tree.last, tree.below, tree.parent
    upper_kw, lower_kw = tree.upper_kw, tree.lower_kw
    lo_sum, hi_sum = tree.lo_sum_kw, tree.hi_sum_kw
    moved = False
    for k in range(first_node, last_node):
        gather(k, first, last, below, lo_sum, hi_sum, lo, hi)
        tree.shed_kw[k] = tree.over_kw[k] = 0.0
        upper, lower = upper_kw[k], lower_kw[k]
        exact = EXACT * (hi_sum[k] - lo_sum[k])
        if hi_sum[k] > upper + exact or lo_sum[k] < lower - exact:
            a, b = first[k], last[k]
            if lo_sum[k] > upper:
                shed(tree, k, -1.0, site, lo, hi, least_lo, controllable, reason_up, reason_down)
            elif hi_sum[k] < lower:
                shed(tree, k, 1.0, site, hi, lo, most_hi, controllable, reason_up, reason_down)
            else:
                lo_sum[k], hi_sum[k] = narrow(
                    upper, lower, lo_sum[k], hi_sum[k], t[a:b], s_up[a:b], s_dn[a:b], lo[a:b], hi[a:b],
                    reason_up[a:b], reason_down[a:b],
                )  # fmt: skip
            moved |= below[k] < k
        if parent[k] < 0:
            if moved:
                resum(tree, below[k], k, lo, hi)
                moved = False
            for c in range(below[k], k + 1):
                if lo_sum[c] > upper_kw[c] or hi_sum[c] < lower_kw[c]:
                    a, b = first[c], last[c]
                    tree.over_kw[c] = overrun(upper_kw[c], lower_kw[c], lo[a:b], hi[a:b])
