"""What a whole fleet gives against the multiplier, and the exact division of a request over shards by it.

    F(lam) = sum_i clip(t_i + s_i(lam) lam, lo_i, hi_i)

never falls. A shard publishes F at common knots and nothing else; everybody who holds all shards' curves finds
on their straight lines the same lam and the same shares. Because every curve is exact at the knots and none
falls, the shares sum to the request, each lies within what its shard can do, and the multiplier with which a
shard then meets its share lies in the same step between knots as the fleet's own. Only the
division among shards departs from the optimum, by less the finer the knots are where the curve bends.

The multiplier alone would not do: broadcast, it misses the sum by what the straight lines miss the curve.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.numerics import kernel, strict
from droop.split import LAM_MAX, LAM_MIN

Column = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

# Vehicles looked at for all knots before the next ones are fetched: their columns stay in the first-level cache.
PIECE: Final = 1024

# The next knots lie at equal steps of a mixture: where the curve bends (there straight lines err), where power is
# served, and the multiplier itself, which keeps steps finite where nothing happens yet.
BEND: Final = 0.4
SERVED: Final = 0.4
PLAIN: Final = 0.2
# Knots are not laid closer than about this: float32 columns tell steps of 1e-6 apart.
FINEST: Final = 1e-4


class Columns(NamedTuple):
    """A fleet's rows as the split takes them, checked: float32[n] or float64[n], kW (slopes: kW per unit of lam)."""

    t: Column
    s_up: Column
    s_dn: Column
    lo: Column
    hi: Column


class Shares(NamedTuple):
    """One request divided over shards."""

    share_kw: Floats  # float64[shards]
    lam: float  # on the straight lines: where a shard's own search starts
    unserved_kw: float  # request minus what all shards can do; positive: too little up, negative: down


class Capability(NamedTuple):
    """Power against the multiplier: exact at the knots, straight between them, flat outside.

    lam : float64[k]  knots, ascending
    kw  : float64[k]  power there, never falling [kW]
    """

    lam: Floats
    kw: Floats

    def power_kw(self, lam: npt.ArrayLike) -> Floats:
        """Power at each multiplier [kW]."""
        return np.asarray(np.interp(np.asarray(lam, np.float64), self.lam, self.kw))

    def multiplier(self, kw: float) -> float:
        """The multiplier that asks for `kw` [kW]: of several the nearest to 0, beyond the ends the last that helps."""
        if not np.isfinite(kw):
            raise ValueError(f"kw: takes a finite number, got {kw}")
        return float(locate(self.lam, self.kw, min(max(float(kw), self.kw[0]), self.kw[-1]))[0])


@kernel
def piece(x: float, t: Column, s: Column, lo: Column, hi: Column) -> float:
    """Sum of some vehicles' powers at one multiplier, in float64 whatever the columns are [kW]."""
    total = 0.0
    for i in range(t.size):
        total += np.float64(min(max(t[i] + s[i] * x, lo[i]), hi[i]))
    return total


@kernel
def evaluate(knots: Floats, t: Column, s_up: Column, s_dn: Column, lo: Column, hi: Column, out: Floats) -> None:
    """Write F at every knot into `out`, in one pass over memory.

    knots          : float64[k]               multipliers
    t, s_*, lo, hi : float32[n] or float64[n]
    out            : float64[k]               sum of the powers the split writes at each knot [kW]

    Every knot is summed in the same order, so rounding cannot make the curve fall.
    """
    out[:] = 0.0
    for start in range(0, t.size, PIECE):
        t_ = t[start : start + PIECE]
        up_ = s_up[start : start + PIECE]
        dn_ = s_dn[start : start + PIECE]
        lo_ = lo[start : start + PIECE]
        hi_ = hi[start : start + PIECE]
        for j in range(knots.size):
            x = t.dtype.type(knots[j])
            out[j] += piece(x, t_, up_ if x >= 0.0 else dn_, lo_, hi_)


# Strict from here on: every worker, on whatever machine, computes the same knots and the same shares.


@strict
def merge(curves: Floats, merged: Floats) -> None:
    """Write the sum of all shards' curves, float64[shards, k], into float64[k]."""
    merged[:] = 0.0
    for shard in range(curves.shape[0]):
        for j in range(merged.size):
            merged[j] += curves[shard, j]


@strict
def locate(knots: Floats, merged: Floats, kw: float) -> tuple[float, int, float]:
    """Where a curve gives `kw`, which must be within its ends: (lam, knot below, share of the step above it).

    On a plateau every multiplier gives the same; the one nearest 0 asks least of everybody.
    """
    low = int(np.searchsorted(merged, kw))
    high = int(np.searchsorted(merged, kw, side="right")) - 1
    if low <= high:
        return min(max(0.0, knots[low]), knots[high]), low, 0.0
    share = (kw - merged[high]) / (merged[low] - merged[high])
    return min(knots[high] + share * (knots[low] - knots[high]), knots[low]), high, share


@strict
def total(row: Floats) -> float:
    """Sum with the rounding of every addition carried along (Neumaier 1974)."""
    out = 0.0
    lost = 0.0
    for x in row:
        new = out + x
        lost += (out - new) + x if abs(out) >= abs(x) else (x - new) + out
        out = new
    return out + lost


@strict
def divide(knots: Floats, merged: Floats, curves: Floats, request_kw: float, share_kw: Floats) -> tuple[float, float]:
    """Write every shard's share; return (lam, unserved). Arguments as `shares` checks them, merged as `merge` makes it.

    A tick's worth of work: two binary searches and one line a shard.
    """
    last = knots.size - 1
    given = min(max(request_kw, merged[0]), merged[last])
    lam, j, part = locate(knots, merged, given)
    above = min(j + 1, last)
    for shard in range(share_kw.size):
        below_kw = curves[shard, j]
        rise_kw = curves[shard, above] - below_kw
        share_kw[shard] = min(below_kw + part * rise_kw, below_kw + rise_kw)
    # What rounding left goes to whoever has room.
    open_kw = given - total(share_kw)
    for shard in range(share_kw.size):
        moved = min(max(share_kw[shard] + open_kw, curves[shard, 0]), curves[shard, last])
        open_kw -= moved - share_kw[shard]
        share_kw[shard] = moved
    return lam, request_kw - given


@strict
def steps(knots: Floats, merged: Floats, count: int, measure: Floats) -> None:
    """Write into measure[k] how much of the mixture lies below each knot."""
    n = knots.size - 1
    zero = np.searchsorted(knots, 0.0)
    measure[:] = 0.0
    bends = 0.0
    # A bend at a knot counts for the steps on both sides, which may hold it. The bend at 0 is none: there the slopes
    # change sides, and 0 stays a knot.
    for j in range(1, n):
        if j != zero:
            left = (merged[j] - merged[j - 1]) / (knots[j] - knots[j - 1])
            right = (merged[j + 1] - merged[j]) / (knots[j + 1] - knots[j])
            measure[j] += 0.5 * abs(right - left)
            measure[j + 1] += 0.5 * abs(right - left)
            bends += abs(right - left)
    served = merged[n] - merged[0]
    width = knots[n] - knots[0]
    for j in range(1, n + 1):
        step = PLAIN * (knots[j] - knots[j - 1]) / width
        if bends > 0.0:
            step += BEND * measure[j] / bends
        if served > 0.0:
            step += SERVED * (merged[j] - merged[j - 1]) / served
        # No more of the mixture on a step than would lay knots at the finest distance.
        measure[j] = measure[j - 1] + min(step, (knots[j] - knots[j - 1]) / (FINEST * count))


@strict
def lay(knots: Floats, measure: Floats, first: int, last: int, out: Floats) -> None:
    """Fill out[m + 1] with multipliers at m equal steps of the measure between two knots, both included."""
    m = out.size - 1
    j = first
    for i in range(1, m):
        wanted = measure[first] + (measure[last] - measure[first]) * (i / m)
        while j < last - 1 and measure[j + 1] < wanted:
            j += 1
        part = (wanted - measure[j]) / (measure[j + 1] - measure[j])
        out[i] = knots[j] + part * (knots[j + 1] - knots[j])
    out[0] = knots[first]
    out[m] = knots[last]


def choose_knots(knots: npt.ArrayLike, merged: npt.ArrayLike, count: int = 64) -> Floats:
    """The next common knots: fine where the merged curve bends or rises, with the ends and 0 among them.

    knots, merged : float64[k]  the knots in use, 0 among them, and the sum of all shards' curves there [kW]
    count         : steps between the new knots; 64 steps are 65 knots, 520 bytes a curve
    returns         float64[count + 1]

    A curve knows its own bends no finer than its knots: from any start the choice settles in some three rounds.
    Raises ValueError naming the argument.
    """
    grid, rows = _checked(knots, np.atleast_2d(np.asarray(merged, np.float64)), "merged")
    if rows.shape[0] != 1:
        raise ValueError(f"merged: takes one row, got {rows.shape[0]}")
    if not (grid == 0.0).any():
        raise ValueError("knots: must hold 0, where the slopes change sides")
    if count < 2:
        raise ValueError(f"count: takes 2 steps or more, one on either side of 0, got {count}")
    zero = int(np.searchsorted(grid, 0.0))
    measure = np.empty_like(grid)
    steps(grid, rows[0], count, measure)
    # Half a step rounds up; `round` would go by the parity.
    down = min(max(int(count * (measure[zero] / measure[-1]) + 0.5), 1), count - 1)
    out = np.empty(count + 1)
    lay(grid, measure, 0, zero, out[: down + 1])
    lay(grid, measure, zero, grid.size - 1, out[down:])
    return out


def first_knots(count: int = 64) -> Floats:
    """Knots to begin with, before anybody has published a curve: equal steps, float64[count + 1]."""
    return choose_knots([LAM_MIN, 0.0, LAM_MAX], [0.0, 0.0, 0.0], count)


def shares(knots: npt.ArrayLike, curves: npt.ArrayLike, request_kw: float) -> Shares:
    """Divide a request over shards by their curves; a shard that is gone is a row left out.

    knots      : float64[k]          common knots, ascending, from LAM_MIN or below to LAM_MAX or above
    curves     : float64[shards, k]  each shard's power at the knots [kW]
    request_kw : float               what all shards together shall give [kW]

    Raises ValueError for numbers that are not finite, knots that do not ascend or do not reach every breakpoint,
    and a curve that falls: it is wrong, and mending it would move power to where none is.
    """
    grid, rows = _checked(knots, curves, "curves")
    if not np.isfinite(request_kw):
        raise ValueError(f"request_kw: takes a finite number, got {request_kw}")
    merged, share_kw = np.empty(grid.size), np.empty(rows.shape[0])
    merge(rows, merged)
    lam, unserved_kw = divide(grid, merged, rows, float(request_kw), share_kw)
    return Shares(share_kw, lam, unserved_kw)


def capability(
    t: npt.ArrayLike, s_up: npt.ArrayLike, s_dn: npt.ArrayLike, lo: npt.ArrayLike, hi: npt.ArrayLike,
    knots: npt.ArrayLike | None = None,
) -> Capability:  # fmt: skip
    """Power against the multiplier of anyone's fleet; arguments as `columns`, knots as `shares`."""
    fleet = columns(t, s_up, s_dn, lo, hi)
    grid, _ = _checked(first_knots() if knots is None else knots, None, "knots")
    out = np.empty(grid.size)
    evaluate(grid, *fleet, out)
    return Capability(grid, out)


def columns(
    t: npt.ArrayLike, s_up: npt.ArrayLike, s_dn: npt.ArrayLike, lo: npt.ArrayLike, hi: npt.ArrayLike,
    dtype: type | None = None,
) -> Columns:  # fmt: skip
    """Columns the kernels can take: one length, finite, lo <= hi, and slopes that reach the bounds within the knots.

    t        : [n]    preferred power [kW]; outside lo..hi the bound nearest to it is meant
    s_up, s_dn : [n]  willingness to move up and down from t [kW per unit of lam], 0 or more
    lo, hi   : [n]    bounds [kW]
    dtype    : of the result; that of t (float32 or float64) when left out

    Raises ValueError naming the argument.
    """
    kind = dtype or (np.float32 if np.asarray(t).dtype == np.float32 else np.float64)
    rows: dict[str, Column] = {}
    for name, column in {"t": t, "s_up": s_up, "s_dn": s_dn, "lo": lo, "hi": hi}.items():
        rows[name] = np.asarray(column, kind, order="C")
        if rows[name].ndim != 1 or rows[name].size != rows["t"].size:
            raise ValueError(f"{name}: takes one row as long as t, got shape {rows[name].shape}")
        if not np.isfinite(rows[name]).all():
            raise ValueError(f"{name}: takes finite numbers; {int((~np.isfinite(rows[name])).sum())} are not")
    fleet = Columns(**rows)
    if (fleet.lo > fleet.hi).any():
        raise ValueError("lo: must not be above hi for any vehicle")
    for name in ("s_up", "s_dn"):
        if (rows[name] < 0).any():
            raise ValueError(f"{name}: must not be negative")
    if (fleet.hi - fleet.t > fleet.s_up * LAM_MAX).any():
        raise ValueError("s_up: takes slopes of at least a tenth of the room to hi")
    if (fleet.t - fleet.lo > fleet.s_dn * -LAM_MIN).any():
        raise ValueError("s_dn: takes slopes of at least a tenth of the room to lo")
    return fleet


def _checked(knots: npt.ArrayLike, curves: npt.ArrayLike | None, name: str) -> tuple[Floats, Floats]:
    """Knots and curves as the kernels take them; ValueError naming the argument, the shard and the knot."""
    grid = np.asarray(knots, np.float64, order="C")
    if grid.ndim != 1 or not np.isfinite(grid).all() or not (np.diff(grid) > 0.0).all():
        raise ValueError("knots: takes one row of finite multipliers, strictly ascending")
    if grid.size < 2 or grid[0] > LAM_MIN or grid[-1] < LAM_MAX:
        raise ValueError(f"knots: must reach from {LAM_MIN} to {LAM_MAX}, where every vehicle is at a bound")
    rows = np.zeros((0, grid.size)) if curves is None else np.asarray(curves, np.float64, order="C")
    if rows.ndim != 2 or rows.shape[1] != grid.size:
        raise ValueError(f"{name}: takes {grid.size} numbers a shard, one for each knot, got shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name}: takes finite numbers; shard {int(np.argwhere(~np.isfinite(rows))[0, 0])} has others")
    falls = np.argwhere(np.diff(rows, axis=1) < 0.0)
    if falls.size:
        shard, j = falls[0].tolist()
        raise ValueError(
            f"{name}: shard {shard} falls from {rows[shard, j]} to {rows[shard, j + 1]} kW between knots {j} and"
            f" {j + 1}; power never falls as the multiplier grows"
        )
    return grid, rows
