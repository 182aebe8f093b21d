"""The exact division of one request over every vehicle.

    p_i(lam) = clip(t_i + s_i(lam) lam, lo_i, hi_i),   sum_i p_i(lam) = P

is the optimum of  min sum (p_i - t_i)^2 / (2 s_i)  under  sum p_i = P, lo <= p <= hi:  t is the charging
plan, s the willingness to leave it, upwards for lam > 0 and downwards for lam < 0. One multiplier, found by
a bracketed Newton step predicted from the last tick; the pass that evaluates the sum also writes p, so a warm
tick costs little more than one pass over memory.

This file knows arrays only, float32 or float64 from one source. Everything slow is already inside t, s, lo
and hi. Breakpoints must lie within [LAM_MIN, LAM_MAX]; `droop.weights` builds slopes that way.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.numerics import BLOCK, kernel

Column = npt.NDArray[Any]

# With s = room x g and g within 0.1..10 every vehicle reaches its bound at |lam| <= 10; a little more makes
# rounding harmless.
LAM_MAX: Final = 10.01
LAM_MIN: Final = -10.01

MAX_PASSES: Final = 60


class Solution(NamedTuple):
    """What one request came to; p itself is in the caller's array."""

    total_kw: float  # sum of p
    unserved_kw: float  # request minus what the bounds allow; positive: too little up, negative: down
    lam: float
    passes: int


@kernel
def fill(lam: float, t: Column, s: Column, lo: Column, hi: Column, p: Column) -> tuple[float, float]:
    """Write p(lam); return its sum and the sum's slope. One fused pass.

    t, s, lo, hi, p : float32[n] or float64[n]  [kW], s in kW per unit of lam
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
        for i in range(t_.size):
            free = t_[i] + s_[i] * x
            power = min(max(free, lo_[i]), hi_[i])
            p_[i] = power
            block_total += power
            block_slope += s_[i] if free == power else zero
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
    memory: npt.NDArray[np.float64],
) -> tuple[float, float, float, int]:
    """Write the optimum into p; return (total, unserved, lam, passes) in the order of `Solution`.

    lo_sum_kw, hi_sum_kw : float       sums of the bounds, kept at refresh [kW]
    memory               : float64[3]  lam, total and slope of the last call: the prediction's start
    """
    # Clamp first: an infeasible request would bisect to the end of the bracket before it found out.
    if request_kw >= hi_sum_kw or request_kw <= lo_sum_kw:
        up = request_kw >= hi_sum_kw
        lam = LAM_MAX if up else LAM_MIN
        total, slope = fill(lam, t, s_up if up else s_dn, lo, hi, p)
        memory[0] = lam
        memory[1] = total
        memory[2] = 0.0
        return total, request_kw - (hi_sum_kw if up else lo_sum_kw), lam, 1

    a = LAM_MIN
    b = LAM_MAX
    number = t.dtype.type
    lam = memory[0]
    if memory[2] > 0.0:
        lam += (request_kw - memory[1]) / memory[2]
    if not (lam > a and lam < b):
        lam = 0.5 * (a + b) if memory[2] > 0.0 else 0.0
    total = 0.0
    slope = 0.0
    passes = 0
    while True:
        total, slope = fill(lam, t, s_up if lam >= 0.0 else s_dn, lo, hi, p)
        passes += 1
        residual = request_kw - total
        if abs(residual) <= tolerance_kw:
            break
        if residual > 0.0:
            a = lam
        else:
            b = lam
        # Saturated plateaus have no slope: Newton is undefined there, bisection is not.
        step = lam + residual / slope if slope > 0.0 else 0.5 * (a + b)
        if not (step > a and step < b) or number(step) == number(lam):
            step = 0.5 * (a + b)
        # Finer than the columns' own numbers there is no other p.
        if number(step) == number(lam) or passes == MAX_PASSES:
            break
        lam = step
    memory[0] = lam
    memory[1] = total
    memory[2] = slope
    return total, 0.0, lam, passes


def split(
    request_kw: float,
    t: Column,
    lo: Column,
    hi: Column,
    s_up: Column | None = None,
    s_dn: Column | None = None,
    relative_tolerance: float | None = None,
) -> tuple[Column, Solution]:
    """Divide one request over anyone's fleet: plain arrays in, powers out.

    request_kw   : float  what the fleet's sum shall be [kW]
    t            : [n]    preferred power of each vehicle, within its bounds [kW]
    lo, hi       : [n]    bounds [kW]; lo <= t <= hi
    s_up, s_dn   : [n]    willingness to move up and down from t [kW per unit of lam]; the room there is
                          (hi - t, t - lo) when left out, so that all saturate together
    returns      p [n] in the dtype of t, and the Solution

    Raises ValueError naming the argument for shapes that differ, numbers that are not finite or lo > hi.
    """
    t = _column("t", t, np.asarray(t).size, np.float32 if np.asarray(t).dtype == np.float32 else np.float64)
    arrays = {name: _column(name, column, t.size, t.dtype) for name, column in {"lo": lo, "hi": hi}.items()}
    slopes = {"s_up": arrays["hi"] - t if s_up is None else s_up, "s_dn": t - arrays["lo"] if s_dn is None else s_dn}
    arrays |= {name: _column(name, column, t.size, t.dtype) for name, column in slopes.items()}
    if not np.isfinite(request_kw):
        raise ValueError(f"request_kw: takes a finite number, got {request_kw}")
    if relative_tolerance is not None and not relative_tolerance > 0.0:
        raise ValueError(f"relative_tolerance: takes a number above 0, got {relative_tolerance}")
    if (arrays["lo"] > arrays["hi"]).any():
        raise ValueError("lo: must not be above hi for any vehicle")
    if (arrays["lo"] > t).any() or (t > arrays["hi"]).any():
        raise ValueError("t: must lie within lo..hi for every vehicle")
    if (arrays["s_up"] < 0).any() or (arrays["s_dn"] < 0).any():
        raise ValueError("s_up, s_dn: must not be negative")
    p = np.empty_like(t)
    lo_sum, hi_sum = float(arrays["lo"].sum(dtype=np.float64)), float(arrays["hi"].sum(dtype=np.float64))
    relative = relative_tolerance or (5e-7 if t.dtype == np.float32 else 1e-14)
    tolerance = relative * max(hi_sum, -lo_sum, abs(request_kw))
    _reach(t, arrays["lo"], arrays["hi"], arrays["s_up"], arrays["s_dn"])
    result = solve(
        float(request_kw), tolerance, t, arrays["s_up"], arrays["s_dn"], arrays["lo"], arrays["hi"], p,
        lo_sum, hi_sum, np.zeros(3),
    )  # fmt: skip
    return p, Solution(*result)


def _column(name: str, column: Any, size: int, dtype: Any) -> Column:
    """One argument as the contiguous row the kernels take; ValueError names it."""
    try:
        row = np.asarray(column, dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: takes one row of {size} numbers: {error}") from error
    if row.shape != (size,):
        raise ValueError(f"{name}: takes one row of {size} numbers, got shape {row.shape}")
    if not np.isfinite(row).all():
        raise ValueError(f"{name}: takes finite numbers; {int((~np.isfinite(row)).sum())} are not")
    return np.ascontiguousarray(row)


def _reach(t: Column, lo: Column, hi: Column, s_up: Column, s_dn: Column) -> None:
    """Refuse slopes with which a vehicle would not reach its bound inside the bracket."""
    if ((hi - t) > s_up * LAM_MAX).any() or ((t - lo) > s_dn * -LAM_MIN).any():
        raise ValueError("s_up, s_dn: take slopes of at least a tenth of the room to the bound")
