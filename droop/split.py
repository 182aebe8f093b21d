"""The exact division of one request over every vehicle.

    p_i(lam) = clip(t_i + s_i(lam) soft(lam, w_i), lo_i, hi_i),   sum_i p_i(lam) = P
    soft(lam, w) = sign(lam) max(|lam| - w, 0)

is the optimum of  min sum (p_i - t_i)^2 / (2 s_i) + w_i |p_i - t_i|  under  sum p_i = P, lo <= p <= hi:  t is
the charging plan, s the willingness to leave it, upwards for lam > 0 and downwards for lam < 0, and w the price
below which the vehicle stays. One multiplier, found by a bracketed Newton step predicted from the last tick;
the pass that evaluates the sum also writes p, so a warm tick costs little more than one pass over memory.

This file knows arrays only, float32 or float64 from one source. Everything slow is already inside t, s, w, lo
and hi. Without prices breakpoints lie within [LAM_MIN, LAM_MAX]; `droop.weights` builds slopes that way.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop import reasons
from droop.numerics import BLOCK, kernel

Column = npt.NDArray[Any]

# With s = room x g and g within 0.1..10 every vehicle reaches its bound at |lam| <= 10; a little more makes
# rounding harmless.
LAM_MAX: Final = 10.01
LAM_MIN: Final = -10.01
MARGIN: Final = 1.001
# Of anyone's slopes and prices: far from where float64 ends.
REACH_MAX: Final = 1e100

MAX_PASSES: Final = 60
# From here on every second pass halves the bracket, whatever Newton promises.
PATIENCE: Final = 12


class Solution(NamedTuple):
    """What one request came to; p itself is in the caller's array."""

    total_kw: float  # sum of p
    unserved_kw: float  # request minus what the bounds allow; positive: too little up, negative: down
    lam: float
    passes: int
    unserved_by_reason: dict[str, float]  # the same, shared over what took rated power away [kW]


@kernel
def fill(lam: float, t: Column, s: Column, lo: Column, hi: Column, p: Column, price: Column) -> tuple[float, float]:
    """Write p(lam); return its sum and the sum's slope. One fused pass.

    t, s, lo, hi, p : float32[n] or float64[n]  [kW], s in kW per unit of lam
    price           : the same dtype, [n] or, where nobody has one, [0]; >= 0  [units of lam]
    """
    total = 0.0
    slope = 0.0
    zero = t.dtype.type(0)
    x = t.dtype.type(lam)
    for start in range(0, t.size, BLOCK):
        # Slices first: indexing with a loop-dependent start would keep the compiler from vectorising.
        t_ = t[start : start + BLOCK]
        s_ = s[start : start + BLOCK]
        lo_ = lo[start : start + BLOCK]
        hi_ = hi[start : start + BLOCK]
        p_ = p[start : start + BLOCK]
        block_total = zero
        block_slope = zero
        # Two loops: a price costs a column to read, and a function of one block would cost a tenth of the block.
        if price.size == 0:
            for i in range(t_.size):
                free = t_[i] + s_[i] * x
                power = min(max(free, lo_[i]), hi_[i])
                p_[i] = power
                block_total += power
                block_slope += s_[i] if free == power else zero
        else:
            price_ = price[start : start + BLOCK]
            for i in range(t_.size):
                beyond = x - min(max(x, -price_[i]), price_[i])
                free = t_[i] + s_[i] * beyond
                power = min(max(free, lo_[i]), hi_[i])
                p_[i] = power
                block_total += power
                block_slope += s_[i] if free == power and abs(x) >= price_[i] else zero
        total += block_total
        slope += block_slope
    return total, slope


@kernel
def solve(
    request_kw: float,
    tolerance_kw: float,
    t: Column,
    s_up: Column,
    s_dn: Column,
    lo: Column,
    hi: Column,
    p: Column,
    lo_sum_kw: float,
    hi_sum_kw: float,
    price: Column,
    memory: npt.NDArray[np.float64],
    reach: float = LAM_MAX,
) -> tuple[float, float, float, int]:
    """Write the optimum into p; return (total, unserved, lam, passes) in the order of `Solution`.

    lo_sum_kw, hi_sum_kw : float       sums of the bounds, kept at refresh [kW]
    price                : as in `fill`
    memory               : float64[3]  lam, total and slope of the last call: the prediction's start
    reach                : float       |lam| at which all are at their bounds: LAM_MAX plus the largest price
    """
    # Clamp first: an infeasible request would bisect to the end of the bracket before it found out.
    if request_kw >= hi_sum_kw or request_kw <= lo_sum_kw:
        up = request_kw >= hi_sum_kw
        lam = reach if up else -reach
        total, slope = fill(lam, t, s_up if up else s_dn, lo, hi, p, price)
        memory[0] = lam
        memory[1] = total
        memory[2] = 0.0
        return total, request_kw - (hi_sum_kw if up else lo_sum_kw), lam, 1

    number = t.dtype.type
    a = -reach
    b = reach
    lam = memory[0]
    if memory[2] > 0.0:
        lam += (request_kw - memory[1]) / memory[2]
    if not (lam > a and lam < b):
        lam = 0.0
    last_lam = last_residual = last_slope = 0.0
    passes = 0
    while True:
        # What is evaluated is what the columns' numbers make of lam: so the bracket and the answer tell the truth.
        lam = np.float64(number(lam))
        rising = lam > 0.0 or (lam == 0.0 and last_lam <= 0.0)
        total, slope = fill(lam, t, s_up if rising else s_dn, lo, hi, p, price)
        passes += 1
        residual = request_kw - total
        if abs(residual) <= tolerance_kw or passes == MAX_PASSES:
            break
        if residual > 0.0:
            a = lam
        else:
            b = lam
        # Saturated plateaus have no slope: Newton is undefined there, bisection is not.
        step = residual / slope if slope > 0.0 else math.copysign(np.inf, residual)
        if passes > 2 and residual * last_residual > 0.0:
            step *= _lengthened(residual, slope, (slope - last_slope) / (lam - last_lam))
        step += lam
        if lam * step < 0.0:
            # Other slopes hold beyond 0, and most vehicles are free there: from the far, flat side Newton overshoots.
            step = 0.0
        stuck = passes > PATIENCE and passes % 2 == 0
        if stuck or not (step > a and step < b) or number(step) == number(a) or number(step) == number(b):
            step = 0.5 * (a + b)
        # Finer than the columns' own numbers there is no other p.
        if number(step) == number(a) or number(step) == number(b):
            break
        last_lam, last_residual, last_slope = lam, residual, slope
        lam = step
    memory[0] = lam
    memory[1] = total
    memory[2] = slope
    return total, 0.0, lam, passes


@kernel
def _lengthened(residual_kw: float, slope: float, bend: float) -> float:
    """How much further than Newton's step a parabola through the last two slopes goes: 1 to 2, near a limit 2.

    Where the fleet saturates on the way, Newton falls short on the same side again and again.
    """
    if not slope > 0.0:
        return 1.0
    root = math.sqrt(max(1.0 + 2.0 * bend * residual_kw / (slope * slope), 0.0))
    return 2.0 / (1.0 + root)


def split(
    request_kw: float,
    t: Column,
    lo: Column,
    hi: Column,
    s_up: Column | None = None,
    s_dn: Column | None = None,
    price: Column | None = None,
    *,
    reasons_up: Column | None = None,
    reasons_down: Column | None = None,
    rated_lo: Column | None = None,
    rated_hi: Column | None = None,
    relative_tolerance: float | None = None,
) -> tuple[Column, Solution]:
    """Divide one request over anyone's fleet: plain arrays in, powers out.

    request_kw   : float  what the fleet's sum shall be [kW]
    t            : [n]    preferred power of each vehicle, within its bounds [kW]
    lo, hi       : [n]    bounds [kW]; lo <= t <= hi
    s_up, s_dn   : [n]    willingness to move up and down from t [kW per unit of lam]; the room there is
                          (hi - t, t - lo) when left out, so that all saturate together; 0: never moves that way
    price        : [n]    |lam| below which the vehicle stays at t; 0 when left out
    rated_hi, reasons_up, rated_lo, reasons_down : [n]  the bounds there would be without any limit [kW], and
                          for each vehicle the limit that took the difference: a `Reason` or a word of one's own
    returns      p [n] and the Solution. What no reason given explains is "rating"; room that a slope of 0 keeps
                 is "override", the owner's wish

    Computed in float64; p is float32 where t is. Raises ValueError naming the argument for shapes that differ,
    numbers that are not finite, t outside lo..hi, negative slopes or prices, limits without their reasons.
    """
    size = np.asarray(t).size
    dtype = np.float32 if np.asarray(t).dtype == np.float32 else np.float64
    t, lo, hi = (_column(name, row, size, dtype) for name, row in (("t", t), ("lo", lo), ("hi", hi)))
    if not np.isfinite(request_kw):
        raise ValueError(f"request_kw: takes a finite number, got {request_kw}")
    if relative_tolerance is not None and not relative_tolerance > 0.0:
        raise ValueError(f"relative_tolerance: takes a number above 0, got {relative_tolerance}")
    if (lo > hi).any():
        raise ValueError("lo: must not be above hi for any vehicle")
    if (lo > t).any() or (t > hi).any():
        raise ValueError("t: must lie within lo..hi for every vehicle")
    s_up = hi - t if s_up is None else _column("s_up", s_up, size, dtype, least=0.0)
    s_dn = t - lo if s_dn is None else _column("s_dn", s_dn, size, dtype, least=0.0)
    price = np.empty(0) if price is None else _column("price", price, size, dtype, least=0.0)
    taken = (
        _taken("rated_hi", rated_hi, "reasons_up", reasons_up, hi, dtype),
        _taken("rated_lo", rated_lo, "reasons_down", reasons_down, lo, dtype),
    )
    for side, kept in zip(taken, ((hi - t)[s_up == 0.0].sum(), (t - lo)[s_dn == 0.0].sum()), strict=True):
        side["override"] = side.get("override", 0.0) + float(kept)
    # No sum may count on a vehicle that never moves.
    lo, hi = np.where(s_dn > 0.0, lo, t), np.where(s_up > 0.0, hi, t)
    scale = max(float(np.abs(x).sum()) for x in (lo, hi, np.array(request_kw)))
    p = np.empty_like(t)
    total, unserved, lam, passes = solve(
        float(request_kw), (relative_tolerance or 1e-14) * scale, t, s_up, s_dn, lo, hi, p, float(lo.sum()),
        float(hi.sum()), price, np.zeros(3), _reach(t, lo, hi, s_up, s_dn, price),
    )  # fmt: skip
    by_reason = _attributed(unserved, taken[0] if unserved > 0.0 else taken[1])
    return p.astype(dtype, copy=False), Solution(total, unserved, lam, passes, by_reason)


def _column(name: str, column: Any, size: int, dtype: Any, least: float | None = None) -> Column:
    """One argument as a row of float64, rounded to `dtype` as all of them are; ValueError names it."""
    try:
        row = np.asarray(column, dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: takes one row of {size} numbers: {error}") from error
    if row.shape != (size,):
        raise ValueError(f"{name}: takes one row of {size} numbers, got shape {row.shape}")
    if not np.isfinite(row).all():
        raise ValueError(f"{name}: takes finite numbers; {int((~np.isfinite(row)).sum())} are not")
    if least is not None and (row < least).any():
        raise ValueError(f"{name}: takes numbers of at least {least:g}, got {row.min():g}")
    return np.ascontiguousarray(row, np.float64)


def _reach(t: Column, lo: Column, hi: Column, s_up: Column, s_dn: Column, price: Column) -> float:
    """|lam| at which the last vehicle arrives at its bound, and a little more: rounding is harmless then."""
    reach = 0.0
    for room, s in ((hi - t, s_up), (t - lo, s_dn)):
        moves = room > 0.0
        arrival = room[moves] / s[moves] + (price[moves] if price.size else 0.0)
        reach = max(reach, float(arrival.max(initial=0.0)))
    if not reach < REACH_MAX:
        raise ValueError(f"s_up, s_dn, price: take numbers with which lam stays below {REACH_MAX:g}, not {reach:g}")
    return reach * MARGIN


def _taken(rated_name: str, rated: Any, why_name: str, why: Any, bound: Column, dtype: Any) -> dict[str, float]:
    """Rated power that the limits of one side take away, by reason [kW]."""
    if (rated is None) != (why is None):
        raise ValueError(f"{rated_name}, {why_name}: take each other along, or are left out together")
    if rated is None:
        return {}
    beyond = _column(rated_name, rated, bound.size, dtype) - bound
    lost = np.maximum(beyond if rated_name == "rated_hi" else -beyond, 0.0)
    labels = np.asarray(why)
    if labels.shape != bound.shape or (labels.size and labels.dtype.kind not in "iuU"):
        raise ValueError(f"{why_name}: takes one row of {bound.size} reasons, each a `Reason` or a word")
    found, where = np.unique(labels, return_inverse=True)
    try:
        names = [str(x) if labels.dtype.kind == "U" else reasons.name(int(x)) for x in found]
    except ValueError as error:
        raise ValueError(f"{why_name}: {error}") from error
    return dict(zip(names, np.bincount(where, lost, found.size).tolist(), strict=True))


def _attributed(shortfall_kw: float, taken: dict[str, float]) -> dict[str, float]:
    """A shortfall shared over reasons in proportion to what each took; what none explains is rating."""
    whole = math.fsum(taken.values())
    share = min(abs(shortfall_kw) / whole, 1.0) if whole > 0.0 else 0.0
    shares = {name: math.copysign(share * kw, shortfall_kw) for name, kw in taken.items() if share * kw > 0.0}
    rest = abs(shortfall_kw) - whole
    if rest > 0.0:
        shares["rating"] = shares.get("rating", 0.0) + math.copysign(rest, shortfall_kw)
    return shares
