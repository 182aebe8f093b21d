"""One tick of 10 000 vehicles by the split and by what else would do it, on the same arrays in the same run.

Every engine gets plan, slopes, bounds and a request upwards, and gives powers; what its answer misses is in
`against`. HiGHS divides by linear cost, another optimum within the same sum and bounds; frequenz by its own rule.
General solvers keep their model from tick to tick where they can. What is not installed says so.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.fleets import water
from benchmarks.measure import Figure
from droop.split import solve, split

Row = npt.NDArray[Any]
Tick = Callable[[float], Row]

ROWS = 10_000
TICKS = 15
BROKEN_KW = 1e-6


class Problem(NamedTuple):
    """min sum (p - t)^2 / (2 s)  under  sum p = request, lo <= p <= hi; float64."""

    t: Row
    s: Row
    lo: Row
    hi: Row


def problem(rows: int) -> Problem:
    """A mixed fleet without the least slopes, which no general solver's scaling survives."""
    w = water(rows)
    t, s, lo, hi = (column.astype(np.float64) for column in (w.t, np.maximum(w.s_up, 0.01), w.lo, w.hi))
    return Problem(t, s.astype(np.float64), lo, hi)


def ours(x: Problem) -> Tick:
    """The engine's call: float32 columns, the last tick remembered."""
    t, s, lo, hi = (column.astype(np.float32) for column in x)
    p, none, memory = np.empty_like(t), np.empty(0, np.float32), np.zeros(3)
    lo_sum, hi_sum = float(lo.sum(dtype=np.float64)), float(hi.sum(dtype=np.float64))

    def tick(request_kw: float) -> Row:
        solve(request_kw, 5e-7 * max(hi_sum, -lo_sum), t, s, s, lo, hi, p, lo_sum, hi_sum, none, memory)
        return p

    return tick


def ours_checked(x: Problem) -> Tick:
    """The stand-alone call: every argument checked, nothing remembered, float64."""
    return lambda request_kw: split(request_kw, x.t, x.lo, x.hi, x.s, x.s)[0]


def numpy_sort(x: Problem) -> Tick:
    """The same optimum with one sort of the multipliers at which vehicles arrive at their bounds."""

    def tick(request_kw: float) -> Row:
        ask, room = request_kw - x.t.sum(), x.hi - x.t
        arrival = room / x.s
        order = np.argsort(arrival)
        sorted_arrival = arrival[order]
        arrived = np.concatenate(([0.0], np.cumsum(room[order])[:-1]))
        slope = np.cumsum(x.s[order][::-1])[::-1]
        # The sum when the k-th arrives: those before it at their bounds, it and the rest on their slopes.
        k = int(np.searchsorted(arrived + slope * sorted_arrival, ask))
        lam = (ask - arrived[k]) / slope[k] if k < order.size else sorted_arrival[-1]
        return np.minimum(x.t + lam * x.s, x.hi)

    return tick


def highs(x: Problem) -> Tick:
    """HiGHS, one linear programme kept alive: dearest to move is who has least willingness."""
    import highspy

    n = x.t.size
    model = highspy.Highs()
    model.setOptionValue("output_flag", False)
    model.addVars(n, x.lo, x.hi)
    model.changeColsCost(n, np.arange(n, dtype=np.int32), 1.0 / (0.1 + x.s))
    model.addRow(0.0, 0.0, n, np.arange(n, dtype=np.int32), np.ones(n))

    def tick(request_kw: float) -> Row:
        model.changeRowBounds(0, request_kw, request_kw)
        model.run()
        return np.array(model.getSolution().col_value)

    return tick


def osqp(x: Problem) -> Tick:
    """OSQP, warm: matrices kept, the row of the request renewed."""
    import osqp as package
    from scipy import sparse

    n = x.t.size
    rows = sparse.vstack([np.ones((1, n)), sparse.eye(n)], format="csc")
    model = package.OSQP()
    lower, upper = np.concatenate(([0.0], x.lo)), np.concatenate(([0.0], x.hi))
    model.setup(
        P=sparse.diags(1.0 / x.s, format="csc"), q=-x.t / x.s, A=rows, l=lower, u=upper, verbose=False, eps_abs=1e-4,
        eps_rel=1e-4, max_iter=20_000,
    )  # fmt: skip

    def tick(request_kw: float) -> Row:
        lower[0] = upper[0] = request_kw
        model.update(l=lower, u=upper)
        return np.array(model.solve().x)

    return tick


def clarabel(x: Problem) -> Tick:
    """Clarabel, interior point: the factorisation's pattern kept, no warm start to be had."""
    import clarabel as package
    from scipy import sparse

    n = x.t.size
    rows = sparse.vstack([np.ones((1, n)), sparse.eye(n), -sparse.eye(n)], format="csc")
    settings = package.DefaultSettings()
    settings.verbose = False
    settings.presolve_enable = False
    right = np.concatenate(([x.t.sum()], x.hi, -x.lo))
    cones = [package.ZeroConeT(1), package.NonnegativeConeT(2 * n)]
    model = package.DefaultSolver(sparse.diags(1.0 / x.s, format="csc"), -x.t / x.s, rows, right, cones, settings)

    def tick(request_kw: float) -> Row:
        right[0] = request_kw
        model.update(b=right)
        return np.array(model.solve().x)

    return tick


def frequenz(x: Problem) -> Tick:
    """frequenz-sdk's distribution over batteries at half charge, objects ready; its sign is the other way round."""
    from frequenz.client.common.microgrid.components import ComponentId
    from frequenz.quantities import Power
    from frequenz.sdk.microgrid import _old_component_data as data
    from frequenz.sdk.microgrid._power_distributing import _distribution_algorithm as distribution
    from frequenz.sdk.microgrid._power_distributing._distribution_algorithm import (
        _battery_distribution_algorithm as algorithm,
    )

    now, pairs = datetime.now(tz=UTC), []
    for i, (lo, hi) in enumerate(zip((-1e3 * x.hi).tolist(), (-1e3 * x.lo).tolist(), strict=True)):
        battery = data.BatteryData(
            component_id=ComponentId(2 * i + 1), timestamp=now, soc=50.0, soc_lower_bound=10.0, soc_upper_bound=90.0,
            capacity=60e3, power_inclusion_lower_bound=lo, power_inclusion_upper_bound=hi,
        )  # fmt: skip
        inverter = data.InverterData(
            component_id=ComponentId(2 * i + 2), timestamp=now, active_power_inclusion_lower_bound=lo,
            active_power_inclusion_upper_bound=hi,
        )  # fmt: skip
        pairs.append(algorithm.InvBatPair(algorithm.AggregatedBatteryData([battery]), [inverter]))
    rule = distribution.BatteryDistributionAlgorithm()

    def tick(request_kw: float) -> Row:
        dealt = rule.distribute_power(Power.from_kilowatts(-request_kw), pairs).distribution
        return np.array([-dealt[ComponentId(2 * i + 2)].as_kilowatts() for i in range(x.t.size)])

    return tick


def measured(make: Callable[[Problem], Tick], rows: int, ticks: int) -> Figure:
    """Median time of one tick, the first left out, and the worst its answers do to the sum and the bounds."""
    name = f"peers.{make.__name__}.1e{round(np.log10(rows))}_ms"
    x = problem(rows)
    try:
        tick = make(x)
    except ImportError as missing:
        return Figure(name, None, "ms", f"not installed: {missing.name}")
    room = float((x.hi - x.t).sum())
    times_ms, missed, broken, worst = [], 0.0, 0, 0.0
    for share in np.random.default_rng(3).uniform(0.15, 0.6, ticks + 1).tolist():
        request_kw = float(x.t.sum()) + share * room
        begun = time.perf_counter()
        p = tick(request_kw)
        times_ms.append(1e3 * (time.perf_counter() - begun))
        beyond = np.maximum(x.lo - p, p - x.hi)
        missed = max(missed, abs(float(p.sum(dtype=np.float64)) - request_kw))
        broken, worst = max(broken, int((beyond > BROKEN_KW).sum())), max(worst, float(beyond.max()))
    against = f"sum off by {missed:.1e} kW, {broken} bounds broken"
    return Figure(
        name, statistics.median(times_ms[1:]), "ms", f"{against} by up to {worst:.1e} kW" if broken else against
    )


def run(quick: bool) -> list[Figure]:
    """One figure an engine; none of them quick."""
    engines = (ours, ours_checked, numpy_sort, highs, osqp, clarabel, frequenz)
    return [] if quick else [measured(make, ROWS, TICKS) for make in engines]
