"""From what a product asks now to what is asked of the fleet now: insensitivity, delay, first-order lag and ramp.

State lies in arrays, one row a product; time is passed in. The order is the order of a real controller: the
measured deviation is felt, looked up (`curve`), or pulls a trigger (`triggers`), or is a set-point (`signals`); that is
delayed by the product's activation delay, lagged by its open-loop response time and limited in its rate of change.
What several products ask adds up.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop import modes
from droop.curve import response
from droop.modes import Duties, Modes, managed
from droop.numerics import strict
from droop.products import EDGE_HZ, Product
from droop.promises import Trigger
from droop.signals import asked, standing
from droop.triggers import forget, triggered

Column = npt.NDArray[Any]

# Targets remembered for the activation delay: 2 s at 100 Hz, with room. Only changes are stored.
MEMORY: Final = 256

# What a product listens to.
CURVE: Final = 0
TRIGGER: Final = 1
SIGNAL: Final = 2

# Open-loop response time is to 90 %: a first-order lag gets there after tau x ln 10 (rulebook 1.4).
OLRT_TO_TAU: Final = 1.0 / float(np.log(10.0))


class Terms(NamedTuple):
    """The sold products as columns, one row each."""

    points: Column  # int64[p]  curve points in use
    x_hz: Column  # float64[p, k]  deviations, ascending; of a product on a signal the signal
    y_frac: Column  # float64[p, k]
    deadband_hz: Column  # float64[p]
    nominal_hz: Column  # float64[p]
    sold_kw: Column  # float64[p]
    delay_ns: Column  # int64[p]
    tau_s: Column  # float64[p]
    ramp_pu_s: Column  # float64[p]
    kind: Column  # int64[p]  CURVE, TRIGGER or SIGNAL
    insensitivity_hz: Column  # float64[p]
    hold_s: Column  # float64[p]  a set-point that has run out
    fade_s: Column  # float64[p]
    signals: Column  # int64[1]  products on a signal
    signal_kw: Column  # float64[2]  sold on a signal, upwards and downwards
    steps: Column  # int64[p]  of a trigger
    step_hz: Column  # float64[p, s]
    side: Column  # float64[p]  1: support is into the grid, passed downwards; -1: the other way
    after_ns: Column  # int64[p]
    support_ns: Column  # int64[p]
    release_hz: Column  # float64[p]  0: support ends with its time
    release_ns: Column  # int64[p]
    pause_hz: Column  # float64[p]  0: never
    fall_pu_s: Column  # float64[p]
    fall_pu: Column  # float64[p]  largest single step down
    ready_ns: Column  # int64[p]
    from_start: Column  # int64[p]  1: `ready_ns` counts from the activation
    duties: Duties  # the energy rules


WHOLE: Final = (
    "points", "delay_ns", "kind", "signals", "steps", "after_ns", "support_ns", "release_ns", "ready_ns", "from_start",
)  # fmt: skip


class Motion(NamedTuple):
    """What the dynamics remember between ticks."""

    fraction: Column  # float64[p]  share of sold power asked at the last tick
    lagged: Column  # float64[p]
    history_ns: Column  # int64[p, MEMORY]
    history: Column  # float64[p, MEMORY]
    head: Column  # int64[p]  entries ever stored
    felt_hz: Column  # float64[p]  deviation that insensitivity holds
    stage: Column  # int64[p, s]  of a trigger's steps: `triggers.ARMED`, ACTIVE or RELEASED
    since_ns: Column  # int64[p, s]  armed: passed since, 0 if not; active: since; released: armed again at
    back_ns: Column  # int64[p]  the frequency is back since; 0: it is not
    falling: Column  # float64[p]  what is still given of released steps
    modes: Modes  # what the energy rules have turned on


def terms(sold: list[tuple[Product, float]]) -> Terms:
    """Products and the kW sold of each as the columns the kernels take."""
    rows = len(sold)
    width = max((len(product.curve_hz) for product, _ in sold), default=2)
    columns = {
        name: np.zeros(rows, np.int64 if name in WHOLE else np.float64) for name in Terms._fields if name != "duties"
    }
    columns["x_hz"], columns["y_frac"] = np.zeros((rows, width)), np.zeros((rows, width))
    columns["step_hz"] = np.zeros((rows, steps_of(sold)))
    columns["signals"], columns["signal_kw"] = np.zeros(1, np.int64), np.zeros(2)
    table = Terms(**columns, duties=modes.duties(sold))
    for row, (product, sold_kw) in enumerate(sold):
        k = len(product.curve_hz)
        table.points[row] = k
        table.x_hz[row, :k] = product.curve_hz
        table.y_frac[row, :k] = product.curve_frac
        table.deadband_hz[row] = product.response.deadband_hz
        table.nominal_hz[row] = product.nominal_hz
        table.sold_kw[row] = sold_kw
        table.delay_ns[row] = round(product.delay_s * 1e9)
        table.tau_s[row] = product.olrt_s * OLRT_TO_TAU
        table.ramp_pu_s[row] = product.ramp_pu_s
        table.insensitivity_hz[row] = product.insensitivity_hz
        table.hold_s[row], table.fade_s[row] = product.hold_s, product.fade_s
        table.side[row] = -1.0 if product.direction == "down" else 1.0
        if product.input == "signal":
            table.kind[row] = SIGNAL
            table.signals[0] += 1
            table.signal_kw[0] += sold_kw if max(product.curve_frac) > 0.0 else 0.0
            table.signal_kw[1] += sold_kw if min(product.curve_frac) < 0.0 else 0.0
        elif product.trigger is not None:
            _trigger(table, row, product.trigger, product.full_s)
    return table


def _trigger(table: Terms, row: int, trigger: Trigger, full_s: float) -> None:
    """The trigger's figures into its row. full_s : by when all of it is there"""
    places = trigger.steps_hz or (trigger.hz,)
    table.kind[row] = TRIGGER
    table.steps[row] = len(places)
    table.step_hz[row, : len(places)] = places
    table.after_ns[row] = round(trigger.after_s * 1e9)
    # The least support counts from full activation, for which the product has its time.
    table.support_ns[row] = round((trigger.hold_s + full_s) * 1e9) if trigger.hold_s > 0.0 else 0
    table.release_hz[row] = trigger.release_hz
    table.release_ns[row] = round(trigger.release_s * 1e9)
    table.pause_hz[row] = trigger.pause_hz
    table.fall_pu_s[row] = trigger.fall_pu_s
    table.fall_pu[row] = trigger.fall_step_pu
    table.ready_ns[row] = round(trigger.ready_s * 1e9)
    table.from_start[row] = trigger.ready_from == "activation"


def steps_of(sold: list[tuple[Product, float]]) -> int:
    """The most steps that a trigger among the products has."""
    return max((len(p.trigger.steps_hz) or 1 for p, _ in sold if p.trigger is not None), default=0)


def at_rest(products: int, steps: int = 0) -> Motion:
    """The state of products that ask for nothing. steps : see `steps_of`"""
    return Motion(
        np.zeros(products), np.zeros(products), np.zeros((products, MEMORY), np.int64),
        np.zeros((products, MEMORY)), np.zeros(products, np.int64), np.zeros(products),
        np.zeros((products, steps), np.int64), np.zeros((products, steps), np.int64), np.zeros(products, np.int64),
        np.zeros(products), modes.at_rest(products),
    )  # fmt: skip


@strict
def delayed(motion: Motion, row: int, now_ns: int, delay_ns: int, target: float, early_ns: int = 0) -> float:
    """Store this target; return the one that was current `delay_ns` ago (0 before any was).

    early_ns : so long ago the target counts as current already
    """
    if delay_ns == 0:
        return target
    head = motion.head[row]
    last = (head - 1) % MEMORY
    if head > 0 and now_ns - motion.history_ns[row, last] <= delay_ns // (MEMORY - 1):
        # Changes that come faster than the memory could hold over the delay share a place: the answer may be early
        # by 1 in MEMORY of the delay, and never runs out.
        motion.history[row, last] = target
    elif head == 0 or motion.history[row, last] != target:
        motion.history_ns[row, head % MEMORY] = now_ns - early_ns
        motion.history[row, head % MEMORY] = target
        head += 1
        motion.head[row] = head
    for back in range(1, min(head, MEMORY) + 1):
        slot = (head - back) % MEMORY
        if motion.history_ns[row, slot] <= now_ns - delay_ns:
            return motion.history[row, slot]
    return 0.0


@strict
def advance(motion: Motion, terms: Terms, row: int, now_ns: int, elapsed_s: float, target: float) -> float:
    """One step of one product's dynamics; returns the fraction asked now."""
    # What is asked stands until the next decision: where those are far apart, none is nearer to the delay than one.
    far = elapsed_s * 1e9 >= 2.0 * terms.delay_ns[row]
    wanted = delayed(motion, row, now_ns, terms.delay_ns[row], target, terms.delay_ns[row] if far else 0)
    if terms.tau_s[row] > 0.0:
        # Exact for a target held over the step, whatever its length.
        share = 1.0 - np.exp(-elapsed_s / terms.tau_s[row])
        motion.lagged[row] += (wanted - motion.lagged[row]) * share
        wanted = motion.lagged[row]
    reach = terms.ramp_pu_s[row] * elapsed_s if elapsed_s > 0.0 else 0.0
    if terms.ramp_pu_s[row] < np.inf:
        wanted = min(max(wanted, motion.fraction[row] - reach), motion.fraction[row] + reach)
    motion.fraction[row] = wanted
    return wanted


@strict
def felt(motion: Motion, terms: Terms, row: int, dev_hz: float) -> float:
    """The deviation a product acts on: the last one acted on, until the measured one is `insensitivity_hz` from it.

    A change of the width or more gives the full proportional value, and beyond the curve's ends every change is felt,
    so that the response at full deviation is never reduced (TenneT NL 6.1.3).
    """
    width_hz = terms.insensitivity_hz[row]
    if width_hz == 0.0 or np.isnan(dev_hz):
        return dev_hz
    within = terms.x_hz[row, 0] < dev_hz < terms.x_hz[row, terms.points[row] - 1]
    if not within or abs(dev_hz - motion.felt_hz[row]) >= width_hz - EDGE_HZ:
        motion.felt_hz[row] = dev_hz
    return motion.felt_hz[row]


@strict
def target(
    motion: Motion, terms: Terms, row: int, hz: float, weight: float, fresh: bool, now_ns: int, elapsed_s: float,
    signal_kw: float, until_ns: int,
) -> float:  # fmt: skip
    """Share of its sold power that a product calls for now, before delay, lag and ramp; see `requested_kw`."""
    k = terms.points[row]
    x_hz, y_frac, deadband_hz = terms.x_hz[row, :k], terms.y_frac[row, :k], terms.deadband_hz[row]
    if terms.kind[row] == SIGNAL:
        stands = standing(now_ns, until_ns, terms.hold_s[row], terms.fade_s[row])
        return stands * response(asked(terms, signal_kw), x_hz, y_frac, deadband_hz)
    dev_hz = hz - terms.nominal_hz[row]
    if terms.kind[row] == TRIGGER:
        wanted = triggered(motion, terms, row, hz, fresh, weight < 1.0, now_ns, elapsed_s)
    else:
        wanted = response(felt(motion, terms, row, dev_hz), x_hz, y_frac, deadband_hz)
    if terms.duties.any[row]:
        wanted = managed(
            motion.modes, terms.duties, row, dev_hz, wanted, x_hz, y_frac, deadband_hz, elapsed_s
        )  # fmt: skip
    return weight * wanted


@strict
def requested_kw(
    motion: Motion, terms: Terms, hz: float, weight: float, fresh: bool, now_ns: int, elapsed_s: float,
    signal_kw: float, until_ns: int,
) -> float:  # fmt: skip
    """Power the sold products ask together [kW, on top of the baseline].

    hz        : frequency acted on; NaN asks for nothing
    weight    : 0..1, the share of the response still given while the frequency is lost
    fresh     : whether a usable frequency came with this call; only then may a trigger be pulled
    signal_kw : the last set-point of a balancing authority, valid until `until_ns`; of products on a signal alone
    """
    total = 0.0
    for row in range(terms.points.size):
        wanted = target(motion, terms, row, hz, weight, fresh, now_ns, elapsed_s, signal_kw, until_ns)
        total += terms.sold_kw[row] * advance(motion, terms, row, now_ns, elapsed_s, wanted)
    return total


@strict
def replayed(
    motion: Motion, terms: Terms, row: int, t_ns: Column, hz: Column, hold_ns: int, out: Column
) -> None:  # fmt: skip
    """What a triggered product owed at each usable sample, oldest first: the engine's own trigger, after the fact.

    t_ns, hz : int64[n], float64[n];  hold_ns : how long a frequency may be held;  out : float64[n]  share of sold power
    """
    for k in range(t_ns.size):
        elapsed_s = (t_ns[k] - t_ns[k - 1]) / 1e9 if k > 0 else 0.0
        if k > 0 and t_ns[k] - t_ns[k - 1] > hold_ns:
            forget(motion, terms, row)
        out[k] = triggered(motion, terms, row, hz[k], True, False, t_ns[k], elapsed_s)


@strict
def tracked(motion: Motion, terms: Terms, row: int, t_ns: Column, share: Column, out: Column) -> None:
    """Where a product's lag and ramp have got to at each time, following what is asked from that time on.

    t_ns, share : int64[n], float64[n]  share[k] is asked from t_ns[k];  out : float64[n]  given at t_ns[k]
    """
    motion.fraction[row] = motion.lagged[row] = share[0]
    out[0] = share[0]
    for k in range(1, t_ns.size):
        out[k] = advance(motion, terms, row, t_ns[k], (t_ns[k] - t_ns[k - 1]) / 1e9, share[k - 1])


@strict
def reset(motion: Motion) -> None:
    """Back to rest at once: a dead bus gets nothing, not a ramp down."""
    motion.fraction[:] = 0.0
    motion.lagged[:] = 0.0
    motion.head[:] = 0
    motion.felt_hz[:] = 0.0
    motion.stage[:] = 0
    motion.since_ns[:] = 0
    motion.back_ns[:] = 0
    motion.falling[:] = 0.0
    motion.modes.given[:] = 0.0
