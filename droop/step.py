"""One tick of the engine: a frequency, or the lack of one, becomes commands.

`tick` is the only call on the fast path. It supervises the frequency, asks the products, renews the bounds
that are due, splits the request and chooses whom to command; all state is in the arrays it is given, time is
passed in, and nothing is allocated. The rest of the house prepares its arguments (`Engine`) and reads its
result.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from droop import commands, dynamics, watch
from droop.commands import Outbox, Sending, broken_bounds, choose, commandable
from droop.dynamics import Motion, Terms, requested_kw, reset
from droop.fleet import SEGMENTS, Fleet, Totals, allocate, allocate_totals
from droop.limits import Ages, refresh_due
from droop.numerics import kernel
from droop.products import Product
from droop.reasons import COUNT, Reason
from droop.split import solve
from droop.watch import Memory, supervise

Column = npt.NDArray[Any]

RATING = int(Reason.RATING)


class Settings(NamedTuple):
    """What the engine is run with; see `Ages` and `Sending` for theirs.

    refresh_ns    : period of the bounds [ns]
    hold_ns       : time without a usable frequency that the products allow [ns]
    fade_s        : time in which a lost response fades, and comes back [s]
    tolerance_rel : error of the split's sum, of the fleet's larger capability
    """

    ages: Ages
    sending: Sending
    refresh_ns: int
    hold_ns: int
    fade_s: float
    tolerance_rel: float = 5e-7


class Engine(NamedTuple):
    """All state of one engine: numbers only."""

    fleet: Fleet
    totals: Totals
    terms: Terms
    motion: Motion
    memory: Memory
    multiplier: Column  # float64[3]  the split's prediction
    last_ns: Column  # int64[1]  time of the last tick
    unserved_kw: Column  # float64[reasons]  this tick's shortfall by reason
    out: Outbox


class Tick(NamedTuple):
    """What one tick came to [kW]."""

    request_kw: float  # asked of the fleet, baseline included
    response_kw: float  # asked on top of the baseline
    dealt_kw: float  # sum of the split
    commanded_kw: float  # sum of standing commands
    unserved_kw: float
    lo_kw: float
    hi_kw: float
    lam: float
    passes: int
    mode: int
    broken: int  # commands outside their vehicle's bounds; must be 0


def engine(rows: int, sold: list[tuple[Product, float]]) -> Engine:
    """An engine at rest for `rows` chargers and the products sold, with the kW of each."""
    return Engine(
        allocate(rows), allocate_totals(), dynamics.terms(sold), dynamics.at_rest(len(sold)), watch.unaware(),
        np.zeros(3), np.zeros(1, np.int64), np.zeros(COUNT), commands.outbox(rows),
    )  # fmt: skip


@kernel
def attribute(lost: Column, shortfall_kw: float, out: Column) -> None:
    """Share a shortfall over the reasons that took rated power away, in proportion to what each took.

    lost : float64[SEGMENTS, reasons]  [kW]; what no limit explains is rating: more was sold than is there
    """
    out[:] = 0.0
    taken = lost.sum()
    share = min(abs(shortfall_kw) / taken, 1.0) if taken > 0.0 else 0.0
    sign = 1.0 if shortfall_kw > 0.0 else -1.0
    for segment in range(SEGMENTS):
        for reason in range(out.size):
            out[reason] += sign * share * lost[segment, reason]
    out[RATING] += sign * max(abs(shortfall_kw) - taken, 0.0)


@kernel
def nothing_out(fleet: Fleet, totals: Totals) -> None:
    """Bounds for a dead bus: a sum of nothing is not enough, no vehicle that hears us may discharge into it."""
    n = fleet.state.size
    for segment in range(SEGMENTS):
        lo_sum = hi_sum = 0.0
        for i in range(segment * n // SEGMENTS, (segment + 1) * n // SEGMENTS):
            if commandable(fleet.state[i], fleet.reason_up[i]):
                fleet.lo_kw[i] = min(fleet.lo_kw[i], 0.0)
                fleet.hi_kw[i] = min(fleet.hi_kw[i], 0.0)
                fleet.plan_kw[i] = min(fleet.plan_kw[i], 0.0)
            lo_sum += fleet.lo_kw[i]
            hi_sum += fleet.hi_kw[i]
        totals.lo_kw[segment] = lo_sum
        totals.hi_kw[segment] = hi_sum


@kernel
def tick(
    engine: Engine, settings: Settings, now_ns: int, hz: float, verdict: int, baseline_kw: float, signal_kw: float
) -> tuple[float, float, float, float, float, float, float, float, int, int, int]:  # fmt: skip
    """One sample in, commands in `engine.out`; returns the fields of `Tick`.

    now_ns      : decision time, not before the last one's [ns]
    hz, verdict : the sample and what the gate says of it (`watch.Verdict`)
    baseline_kw : declared baseline [kW]
    signal_kw   : a balancing authority's set-point, on top of the products [kW]
    """
    fleet, totals = engine.fleet, engine.totals
    last_ns = engine.last_ns[0]
    elapsed_s = (now_ns - last_ns) / 1e9 if last_ns > 0 else 0.0
    engine.last_ns[0] = now_ns
    was_dead = engine.memory.dead[0] != 0
    supervise(engine.memory, now_ns, elapsed_s, hz, verdict, settings.hold_ns, settings.fade_s)
    if engine.memory.dead[0] != 0:
        # Until a usable sample says that there is a grid again; no sample says nothing.
        reset(engine.motion)
        signal_kw = 0.0
    weight = engine.memory.weight[0]
    response = requested_kw(engine.motion, engine.terms, engine.memory.hz[0], weight, now_ns, elapsed_s) + signal_kw
    request = baseline_kw + response

    dead = engine.memory.dead[0] != 0
    if was_dead and not dead:
        # As at the start: all of them now, and in turn from then on.
        totals.refreshed_ns[:] = 0
    refresh_due(fleet, totals, now_ns, settings.refresh_ns, settings.ages)
    if dead:
        nothing_out(fleet, totals)
    lo = totals.lo_kw.sum()
    hi = totals.hi_kw.sum()
    tolerance = settings.tolerance_rel * max(hi, -lo, 1.0)
    dealt, unserved, lam, passes = solve(
        request, tolerance, fleet.plan_kw, fleet.slope_up, fleet.slope_dn, fleet.lo_kw, fleet.hi_kw, fleet.power_kw,
        lo, hi, engine.multiplier,
    )  # fmt: skip
    engine.unserved_kw[:] = 0.0
    if unserved != 0.0:
        attribute(totals.lost_up if unserved > 0.0 else totals.lost_down, unserved, engine.unserved_kw)
    commanded = choose(fleet, request - unserved, now_ns, settings.sending, engine.out)
    broken = broken_bounds(fleet, 1e-6)
    return (
        request, response, dealt, commanded, unserved, lo, hi, lam, passes, engine.memory.mode[0], broken
    )  # fmt: skip


class Running(NamedTuple):
    """An engine and how it is run: what a handle holds."""

    engine: Engine
    settings: Settings


@kernel
def tick_held(
    held: Any, now_ns: int, hz: float, verdict: int, baseline_kw: float, signal_kw: float
) -> tuple[float, float, float, float, float, float, float, float, int, int, int]:  # fmt: skip
    """`tick` for a `Running` behind a handle (`droop.handle`)."""
    running = held.value
    return tick(running.engine, running.settings, now_ns, hz, verdict, baseline_kw, signal_kw)
