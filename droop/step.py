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

from droop import bounds, dynamics, outbox, protection, watch
from droop.bounds import Room, Rules, narrow, renew_due
from droop.commands import Sending, choose
from droop.dynamics import Motion, Terms, requested_kw, reset, steps_of
from droop.fleet import SEGMENTS, Fleet, Totals, allocate, allocate_totals, column
from droop.handle import hold
from droop.modes import manage
from droop.numerics import kernel
from droop.outbox import Outbox
from droop.plans import Tariff
from droop.products import Product
from droop.promises import Protection
from droop.protection import ENTERING, TRIPPED, Guard, Relay, protect
from droop.reasons import COUNT, Reason
from droop.response import commandable
from droop.shortfall import attribute
from droop.sites import Tree, leaf
from droop.split import LAM_MAX, solve
from droop.switching import switch
from droop.turns import rotate
from droop.watch import USABLE, Memory, supervise

Column = npt.NDArray[Any]

# How far the active set's range shall pass the request when vehicles are switched, of what the fleet can do.
MARGIN_FRAC: Final = 0.005
OUT_OF_BOUNDS: Final = int(Reason.FREQUENCY_OUT_OF_BOUNDS)
# The end of a set-point that is simply given.
NEVER: Final = int(np.iinfo(np.int64).max)


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
    asked_kw: Column  # float64[3]  this tick's request, what of it is response, and what is withheld while entering
    relay: Relay
    guard: Guard


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
    rows: int, sold: list[tuple[Product, float]], tree: Tree | None = None, *, wear_price: float = 0.0,
    protect_by: Protection | None = None, prices: Tariff | None = None,
) -> Engine:  # fmt: skip
    """An engine at rest for `rows` chargers and the products sold, with the kW of each.

    tree       : caps of sites, feeders and transformers over the rows (`sites.tree`)
    wear_price : multiplier below which nobody leaves the plan; 0: none
    protect_by : the interconnection's trip limits; None: there are none
    prices     : what plans by price go by (`plans.tariff`); None: there are none
    """
    fleet, totals = allocate(rows), allocate_totals()
    caps = tree if tree is not None else bounds.no_tree(rows)
    fleet.site[:] = leaf(caps, rows)
    relay = protection.relay(protect_by, sold[0][0].nominal_hz if sold else 50.0)
    return Engine(
        fleet, totals, dynamics.terms(sold), dynamics.at_rest(len(sold), steps_of(sold)), watch.unaware(),
        np.zeros(3), np.zeros(1, np.int64), np.zeros(COUNT), outbox.outbox(rows),
        bounds.room(caps, totals, rows, prices),
        np.full(rows if wear_price > 0.0 else 0, wear_price, np.float32), np.zeros(3), column(0, rows, np.float32),
        np.zeros(SEGMENTS, np.int64), np.zeros(1, np.int64), np.full(1, np.nan), np.zeros(3),
        relay, protection.in_service(relay),
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


@kernel
def shut(held: Any, now_ns: int) -> None:
    """Bounds after a trip, to be capped yet: nobody that hears us discharges or charges.

    While service is entered nobody must: the ramp of the whole comes before a driver's departure.
    """
    engine = held.engine
    fleet, totals, off = engine.fleet, engine.totals, engine.guard.state[0] == TRIPPED
    state, own_up, own_down = fleet.state, fleet.own_up, fleet.own_down
    free_lo, free_hi, plan_kw = fleet.free_lo_kw, fleet.free_hi_kw, fleet.plan_kw
    for i in range(state.size):
        if commandable(state[i], own_up[i]) and not off:
            free_lo[i] = min(free_lo[i], np.float32(0.0))
            free_hi[i] = max(free_hi[i], np.float32(0.0))
        elif commandable(state[i], own_up[i]):
            free_lo[i] = np.float32(0.0)
            free_hi[i] = np.float32(0.0)
            plan_kw[i] = np.float32(0.0)
            own_up[i] = OUT_OF_BOUNDS
            own_down[i] = OUT_OF_BOUNDS
    for segment in range(SEGMENTS):
        narrow(fleet, totals, segment, now_ns)
        engine.turned_ns[segment] = now_ns if off else engine.turned_ns[segment]


# What `begin` finds, beside the renewed segments' bits.
SOME_LEAST: Final = 1 << SEGMENTS
DEAD: Final = 1 << SEGMENTS + 1
OFF: Final = 1 << SEGMENTS + 2  # tripped
EASING: Final = 1 << SEGMENTS + 3  # entering service
STILL: Final = DEAD | OFF
TROUBLE: Final = STILL | EASING
EVERY: Final = (1 << SEGMENTS) - 1


@kernel
def begin(
    held: Any, now_ns: int, hz: float, verdict: int, baseline_kw: float, signal_kw: float, until_ns: int,
    volt_pu: float,
) -> None:  # fmt: skip
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
    fresh = verdict == USABLE and not np.isnan(hz)
    # What is not acted on is no sign of an alert state, and moves no mean.
    manage(
        engine.motion.modes, engine.terms.duties, engine.terms.nominal_hz, engine.terms.sold_kw,
        memory.hz[0] if weight > 0.0 else np.nan, now_ns, totals.up_kwh.sum(), totals.down_kwh.sum(),
        totals.hi_kw.sum() - baseline_kw, baseline_kw - totals.lo_kw.sum(),
    )  # fmt: skip
    response = requested_kw(
        engine.motion, engine.terms, memory.hz[0], weight, fresh, now_ns, elapsed_s, signal_kw, until_ns
    )
    if engine.terms.signals[0] == 0 and now_ns < until_ns:
        # A set-point that no product sold is on: on top of them.
        response += signal_kw
    engine.asked_kw[0] = baseline_kw + response
    engine.asked_kw[1] = response
    engine.asked_kw[2] = 0.0
    was_off = engine.guard.state[0] == TRIPPED
    lost = not fresh and (dead or weight < 1.0)
    protect(engine.guard, engine.relay, now_ns, hz, volt_pu, fresh, lost)
    if (was_dead and not dead) or (was_off and engine.guard.state[0] != TRIPPED):
        # As at the start: all of them now, and in turn from then on.
        engine.totals.refreshed_ns[:] = 0


@kernel
def renew(held: Any, now_ns: int) -> int:
    """Renew the bounds and plans that are due: in the tick, or ahead of the next one, which sees to the rest.

    returns the segments renewed since the last tick as bits, SOME_LEAST if there are vehicles with a least power,
    DEAD on a dead bus, OFF after a trip, EASING while service is entered
    """
    engine = held.engine
    engine.pending[0] |= renew_due(engine.fleet, engine.totals, engine.room, now_ns, held.settings.rules)
    least, dead = engine.totals.least.sum() > 0, engine.memory.dead[0] != 0
    state = engine.guard.state[0]
    found = (DEAD if dead else 0) | (OFF if state == TRIPPED else 0) | (EASING if state == ENTERING else 0)
    return engine.pending[0] | (SOME_LEAST if least else 0) | found


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
def ease(held: Any) -> None:
    """While service is entered, ask no more than the ramp's share of what the fleet can do; the rest is withheld."""
    engine = held.engine
    lo, hi = furthest_kw(engine.totals, engine.room.tree)
    asked, share = engine.asked_kw[0], engine.guard.share[0]
    engine.asked_kw[0] = min(max(asked, share * min(lo, 0.0)), share * max(hi, 0.0))
    engine.asked_kw[2] = asked - engine.asked_kw[0]


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
    hush = 2 if found & OFF else (1 if found & DEAD else 0)
    commanded, _, broken = choose(
        fleet, request - unserved, now_ns, settings.sending, engine.out, found & EVERY, hush
    )  # fmt: skip
    withheld = engine.asked_kw[2]
    request += withheld
    unserved += withheld
    engine.unserved_kw[OUT_OF_BOUNDS] += withheld
    if found & SOME_LEAST and not found & STILL:
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
    held: Any, capped: bool, now_ns: int, hz: float, verdict: int, baseline_kw: float, signal_kw: float,
    until_ns: int = NEVER, volt_pu: float = np.nan,
) -> Tick:  # fmt: skip
    """One sample in, commands in `engine.out`.

    Five kernels in turn; `still` on a dead bus, `shut` after a trip, and `ease` on the way back; a fleet without caps
    and without least powers takes three. A kernel that holds all of them would take twice as long to compile.

    held        : handle on a `Running` (`droop.handle`)
    capped      : whether there are caps
    now_ns      : decision time, not before the last one's [ns]
    hz, verdict : the sample and what the gate says of it (`watch.Verdict`)
    baseline_kw : declared baseline [kW]
    signal_kw   : a balancing authority's set-point: of the products on a signal, or on top of the others [kW]
    until_ns    : when it runs out
    volt_pu     : voltage beside the sample, of nominal; NaN: not known
    """
    begin(held, now_ns, hz, verdict, baseline_kw, signal_kw, until_ns, volt_pu)
    found = due = renew(held, now_ns)
    if found & TROUBLE:
        (still if found & STILL == DEAD else shut)(held, now_ns)
        found |= EVERY
    if capped and found & EVERY:
        cap(held, found & EVERY, now_ns)
    if found & EASING:
        ease(held)
    if found & SOME_LEAST and not found & STILL:
        arrange(held, due & EVERY, now_ns)
    return Tick(*finish(held, now_ns, found))


def tick(
    engine: Engine, settings: Settings, now_ns: int, hz: float, verdict: int, baseline_kw: float, signal_kw: float,
    until_ns: int = NEVER, volt_pu: float = np.nan,
) -> Tick:  # fmt: skip
    """`tick_held` for an engine without a handle; a handle made for each call costs more than a small tick."""
    capped = engine.room.tree.first.size > 0
    held = hold(Running(engine, settings))
    return tick_held(held, capped, now_ns, hz, verdict, baseline_kw, signal_kw, until_ns, volt_pu)
