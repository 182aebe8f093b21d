"""One tick of the engine: a frequency, or the lack of one, becomes commands.

`tick_held` is the only call on the fast path. It supervises the frequency, asks the products, renews the bounds
that are due, splits the request and chooses whom to command; all state is in the arrays it is given, time is
passed in, and nothing is allocated. The rest of the house prepares its arguments (`Engine`) and reads its
result.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop import bounds, dynamics, outbox, watch
from droop.bounds import Room, Rules, narrow, renew_due
from droop.commands import Sending, choose
from droop.dynamics import Motion, Terms, requested_kw, reset
from droop.fleet import SEGMENTS, Fleet, Totals, allocate, allocate_totals, column
from droop.handle import hold
from droop.modes import manage
from droop.numerics import kernel
from droop.outbox import Outbox
from droop.products import Product
from droop.reasons import COUNT
from droop.response import commandable
from droop.shortfall import attribute
from droop.sites import Tree, leaf
from droop.split import LAM_MAX, solve
from droop.switching import switch
from droop.turns import rotate
from droop.watch import Memory, supervise

Column = npt.NDArray[Any]

# How far the active set's range shall pass the request when vehicles are switched, of what the fleet can do.
MARGIN_FRAC: Final = 0.005


class Settings(NamedTuple):
    """What the engine is run with; see `Rules` and `Sending` for theirs.

    hold_ns       : time without a usable frequency that the products allow [ns]
    fade_s        : time in which a lost response fades, and comes back [s]
    tolerance_rel : error of the split's sum, of the fleet's larger capability
    """

    rules: Rules
    sending: Sending
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
    room: Room
    price: Column  # float32[n], one value, or of size 0: |lam| below which nobody leaves the plan
    wanted: Column  # float64[3]  as `multiplier`, over the free bounds: what nobody's least power has touched
    wanted_kw: Column  # float32[n]
    turned_ns: Column  # int64[SEGMENTS]  when the vehicles of a segment last took turns
    pending: Column  # int64[1]  renewed segments that no caps and no turns have followed yet, as bits
    tried_kw: Column  # float64[1]  the last request that the active set was changed for
    asked_kw: Column  # float64[2]  this tick's request, and what of it is response


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


def engine(
    rows: int, sold: list[tuple[Product, float]], tree: Tree | None = None, *, wear_price: float = 0.0
) -> Engine:  # fmt: skip
    """An engine at rest for `rows` chargers and the products sold, with the kW of each.

    tree       : caps of sites, feeders and transformers over the rows (`sites.tree`)
    wear_price : multiplier below which nobody leaves the plan; 0: none
    """
    fleet, totals = allocate(rows), allocate_totals()
    caps = tree if tree is not None else bounds.no_tree(rows)
    fleet.site[:] = leaf(caps, rows)
    return Engine(
        fleet, totals, dynamics.terms(sold), dynamics.at_rest(len(sold)), watch.unaware(), np.zeros(3),
        np.zeros(1, np.int64), np.zeros(COUNT), outbox.outbox(rows), bounds.room(caps, totals, rows),
        np.full(rows if wear_price > 0.0 else 0, wear_price, np.float32), np.zeros(3), column(0, rows, np.float32),
        np.zeros(SEGMENTS, np.int64), np.zeros(1, np.int64), np.full(1, np.nan), np.zeros(2),
    )  # fmt: skip


@kernel
def reach(price: Column) -> float:
    """|lam| at which every vehicle is at its bound; the price is one for all."""
    return LAM_MAX + (price[0] if price.size > 0 else 0.0)


@kernel
def still(held: Any, now_ns: int) -> None:
    """Bounds for a dead bus, to be capped yet: a sum of nothing is not enough, nobody that hears us may discharge."""
    engine = held.engine
    fleet, totals = engine.fleet, engine.totals
    state, why = fleet.state, fleet.own_up
    free_lo, free_hi, plan_kw = fleet.free_lo_kw, fleet.free_hi_kw, fleet.plan_kw
    for i in range(state.size):
        hears = commandable(state[i], why[i])
        free_lo[i] = min(free_lo[i], np.float32(0.0)) if hears else free_lo[i]
        free_hi[i] = min(free_hi[i], np.float32(0.0)) if hears else free_hi[i]
        plan_kw[i] = min(plan_kw[i], np.float32(0.0)) if hears else plan_kw[i]
    for segment in range(SEGMENTS):
        narrow(fleet, totals, segment, now_ns)
        # Nobody is owed what no grid could take.
        engine.turned_ns[segment] = now_ns


# What `begin` finds, beside the renewed segments' bits.
SOME_LEAST: Final = 1 << SEGMENTS
DEAD: Final = 1 << SEGMENTS + 1
EVERY: Final = (1 << SEGMENTS) - 1


@kernel
def begin(held: Any, now_ns: int, hz: float, verdict: int, baseline_kw: float, signal_kw: float) -> None:
    """Supervise the frequency and ask the products. held : the `Running`'s handle"""
    engine, settings = held.engine, held.settings
    last_ns = engine.last_ns[0]
    elapsed_s = (now_ns - last_ns) / 1e9 if last_ns > 0 else 0.0
    engine.last_ns[0] = now_ns
    was_dead = engine.memory.dead[0] != 0
    supervise(engine.memory, now_ns, elapsed_s, hz, verdict, settings.hold_ns, settings.fade_s)
    dead = engine.memory.dead[0] != 0
    if dead:
        # Until a usable sample says that there is a grid again; no sample says nothing.
        reset(engine.motion)
        signal_kw = 0.0
    weight, memory, totals = engine.memory.weight[0], engine.memory, engine.totals
    # What is not acted on is no sign of an alert state, and moves no mean.
    manage(
        engine.motion.modes, engine.terms.duties, engine.terms.nominal_hz, engine.terms.sold_kw,
        memory.hz[0] if weight > 0.0 else np.nan, now_ns, totals.up_kwh.sum(), totals.down_kwh.sum(),
        totals.hi_kw.sum() - baseline_kw, baseline_kw - totals.lo_kw.sum(),
    )  # fmt: skip
    response = requested_kw(engine.motion, engine.terms, engine.memory.hz[0], weight, now_ns, elapsed_s) + signal_kw
    engine.asked_kw[0] = baseline_kw + response
    engine.asked_kw[1] = response
    if was_dead and not dead:
        # As at the start: all of them now, and in turn from then on.
        engine.totals.refreshed_ns[:] = 0


@kernel
def renew(held: Any, now_ns: int) -> int:
    """Renew the bounds and plans that are due: in the tick, or ahead of the next one, which sees to the rest.

    returns the segments renewed since the last tick as bits, SOME_LEAST if there are vehicles with a least power,
    DEAD on a dead bus
    """
    engine = held.engine
    engine.pending[0] |= renew_due(engine.fleet, engine.totals, engine.room, now_ns, held.settings.rules)
    least, dead = engine.totals.least.sum() > 0, engine.memory.dead[0] != 0
    return engine.pending[0] | (SOME_LEAST if least else 0) | (DEAD if dead else 0)


@kernel
def cap(held: Any, renewed: int, now_ns: int) -> None:
    """Fold the caps above the renewed segments into the bounds below them."""
    engine = held.engine
    n = engine.fleet.state.size
    first, last = n, 0
    for segment in range(SEGMENTS):
        if renewed >> segment & 1:
            first, last = min(first, segment * n // SEGMENTS), max(last, (segment + 1) * n // SEGMENTS)
    if first < last:
        bounds.cap(engine.fleet, engine.totals, engine.room, first, last, now_ns, held.settings.rules)


@kernel
def furthest_kw(totals: Totals, tree: Tree) -> tuple[float, float]:
    """The least and the most the fleet could be switched to under its caps [kW]."""
    return totals.far_lo_kw.sum() + tree.cut_lo_kw.sum(), totals.far_hi_kw.sum() - tree.cut_hi_kw.sum()


@kernel
def arrange(held: Any, renewed: int, now_ns: int) -> None:
    """Let vehicles with a least power take turns, and switch those that the request needs.

    renewed : segments whose bounds are new, as bits; turns are taken there and then
    """
    engine, settings = held.engine, held.settings
    fleet, totals, desk, nodes = engine.fleet, engine.totals, engine.room.desk, engine.room.nodes
    turns = settings.rules.turns
    request_kw = engine.asked_kw[0]
    lo, hi = totals.free_lo_kw.sum(), totals.free_hi_kw.sum()
    margin = MARGIN_FRAC * max(hi, -lo)
    price = engine.price[0] if engine.price.size > 0 else 0.0
    if renewed > 0:
        solve(
            request_kw, settings.tolerance_rel * max(hi, -lo, 1.0), fleet.plan_kw, fleet.slope_up, fleet.slope_dn,
            fleet.free_lo_kw, fleet.free_hi_kw, engine.wanted_kw, lo, hi, engine.price, engine.wanted,
            reach(engine.price),
        )  # fmt: skip
        for segment in range(SEGMENTS):
            if renewed >> segment & 1:
                since_ns = engine.turned_ns[segment]
                elapsed_s = (now_ns - since_ns) / 1e9 if since_ns > 0 else 0.0
                engine.turned_ns[segment] = now_ns
                rotate(
                    segment, request_kw, margin, engine.wanted[0], price, elapsed_s, now_ns, fleet, turns, nodes, desk
                )  # fmt: skip
    # A remainder that no set serves is tried again when bounds change or the request moves, not at every tick.
    tried = renewed == 0 and engine.tried_kw[0] == request_kw
    if not tried and not desk.lo_kw.sum() <= request_kw <= desk.hi_kw.sum():
        engine.tried_kw[0] = request_kw
        far_lo, far_hi = furthest_kw(totals, engine.room.tree)
        within = min(max(request_kw, far_lo), far_hi)
        switch(within, margin, now_ns, fleet, turns, nodes, desk)


@kernel
def finish(
    held: Any, now_ns: int, found: int
) -> tuple[float, float, float, float, float, float, float, float, int, int, int]:  # fmt: skip
    """Split the request and choose whom to command; returns the fields of `Tick`. found : see `renew`"""
    engine, settings = held.engine, held.settings
    fleet, totals = engine.fleet, engine.totals
    engine.pending[0] = 0
    request, response = engine.asked_kw[0], engine.asked_kw[1]
    lo, hi = totals.lo_kw.sum(), totals.hi_kw.sum()
    dealt, unserved, lam, passes = solve(
        request, settings.tolerance_rel * max(hi, -lo, 1.0), fleet.plan_kw, fleet.slope_up, fleet.slope_dn,
        fleet.lo_kw, fleet.hi_kw, fleet.power_kw, lo, hi, engine.price, engine.multiplier, reach(engine.price),
    )  # fmt: skip
    engine.unserved_kw[:] = 0.0
    if unserved != 0.0:
        attribute(fleet, unserved, engine.unserved_kw)
    commanded, _, broken = choose(
        fleet, request - unserved, now_ns, settings.sending, engine.out, found & EVERY, found & DEAD > 0
    )  # fmt: skip
    if found & SOME_LEAST and not found & DEAD:
        # What the fleet could do, not what those that happen to be on could.
        lo, hi = furthest_kw(totals, engine.room.tree)
    return (
        request, response, dealt, commanded, unserved, lo, hi, lam, passes, engine.memory.mode[0], broken
    )  # fmt: skip


class Running(NamedTuple):
    """An engine and how it is run: what a handle holds."""

    engine: Engine
    settings: Settings


def tick_held(
    held: Any, capped: bool, now_ns: int, hz: float, verdict: int, baseline_kw: float, signal_kw: float
) -> Tick:  # fmt: skip
    """One sample in, commands in `engine.out`.

    Five kernels in turn, and `still` on a dead bus; a fleet without caps and without least powers takes three. A
    kernel that holds all of them would take twice as long to compile.

    held        : handle on a `Running` (`droop.handle`)
    capped      : whether there are caps
    now_ns      : decision time, not before the last one's [ns]
    hz, verdict : the sample and what the gate says of it (`watch.Verdict`)
    baseline_kw : declared baseline [kW]
    signal_kw   : a balancing authority's set-point, on top of the products [kW]
    """
    begin(held, now_ns, hz, verdict, baseline_kw, signal_kw)
    found = renew(held, now_ns)
    if found & DEAD:
        still(held, now_ns)
        found |= EVERY
    if capped and found & EVERY:
        cap(held, found & EVERY, now_ns)
    if found & SOME_LEAST and not found & DEAD:
        arrange(held, found & EVERY, now_ns)
    return Tick(*finish(held, now_ns, found))


def tick(
    engine: Engine, settings: Settings, now_ns: int, hz: float, verdict: int, baseline_kw: float, signal_kw: float
) -> Tick:  # fmt: skip
    """`tick_held` for an engine without a handle; a handle made for each call costs more than a small tick."""
    capped = engine.room.tree.first.size > 0
    return tick_held(hold(Running(engine, settings)), capped, now_ns, hz, verdict, baseline_kw, signal_kw)
