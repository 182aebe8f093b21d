"""From what a curve asks now to what is asked of the fleet now: delay, first-order lag and ramp, per product.

State lies in arrays, one row a product; time is passed in. The order is the order of a real controller: the
measured deviation is looked up, delayed by the product's activation delay, lagged by its open-loop response
time and limited in its rate of change.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from droop import modes
from droop.curve import response
from droop.modes import Duties, Modes, managed
from droop.numerics import strict
from droop.products import Product

Column = npt.NDArray[Any]

# Targets remembered for the activation delay: 2 s at 100 Hz, with room. Only changes are stored.
MEMORY: Final = 256

# Open-loop response time is to 90 %: a first-order lag gets there after tau x ln 10 (rulebook 1.4).
OLRT_TO_TAU: Final = 1.0 / float(np.log(10.0))


class Terms(NamedTuple):
    """The sold products as columns, one row each."""

    points: Column  # int64[p]  curve points in use
    x_hz: Column  # float64[p, k]  deviations, ascending
    y_frac: Column  # float64[p, k]
    deadband_hz: Column  # float64[p]
    nominal_hz: Column  # float64[p]
    sold_kw: Column  # float64[p]
    delay_ns: Column  # int64[p]
    tau_s: Column  # float64[p]
    ramp_pu_s: Column  # float64[p]
    duties: Duties  # the energy rules


class Motion(NamedTuple):
    """What the dynamics remember between ticks."""

    fraction: Column  # float64[p]  share of sold power asked at the last tick
    lagged: Column  # float64[p]
    history_ns: Column  # int64[p, MEMORY]
    history: Column  # float64[p, MEMORY]
    head: Column  # int64[p]  entries ever stored
    modes: Modes  # what the energy rules have turned on


def terms(sold: list[tuple[Product, float]]) -> Terms:
    """Products and the kW sold of each as the columns the kernels take."""
    width = max((len(product.curve_hz) for product, _ in sold), default=2)
    columns = {
        name: np.zeros(len(sold), np.int64 if name in ("points", "delay_ns") else np.float64)
        for name in Terms._fields
        if name != "duties"
    }
    columns["x_hz"], columns["y_frac"] = np.zeros((len(sold), width)), np.zeros((len(sold), width))
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
    return table


def at_rest(products: int) -> Motion:
    """The state of products that ask for nothing."""
    return Motion(
        np.zeros(products), np.zeros(products), np.zeros((products, MEMORY), np.int64),
        np.zeros((products, MEMORY)), np.zeros(products, np.int64), modes.at_rest(products),
    )  # fmt: skip


@strict
def delayed(motion: Motion, row: int, now_ns: int, delay_ns: int, target: float) -> float:
    """Store this target; return the one that was current `delay_ns` ago (0 before any was)."""
    if delay_ns == 0:
        return target
    head = motion.head[row]
    last = (head - 1) % MEMORY
    if head > 0 and now_ns - motion.history_ns[row, last] <= delay_ns // (MEMORY - 1):
        # Changes that come faster than the memory could hold over the delay share a place: the answer may be early
        # by 1 in MEMORY of the delay, and never runs out.
        motion.history[row, last] = target
    elif head == 0 or motion.history[row, last] != target:
        motion.history_ns[row, head % MEMORY] = now_ns
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
    wanted = delayed(motion, row, now_ns, terms.delay_ns[row], target)
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
def requested_kw(
    motion: Motion, terms: Terms, hz: float, weight: float, now_ns: int, elapsed_s: float
) -> float:  # fmt: skip
    """Power the sold products ask together [kW, on top of the baseline].

    hz     : frequency acted on; NaN asks for nothing
    weight : 0..1, the share of the response still given while the frequency is lost
    """
    total = 0.0
    for row in range(terms.points.size):
        k = terms.points[row]
        dev_hz, x_hz, y_frac = hz - terms.nominal_hz[row], terms.x_hz[row, :k], terms.y_frac[row, :k]
        target = response(dev_hz, x_hz, y_frac, terms.deadband_hz[row])
        if terms.duties.any[row]:
            target = managed(
                motion.modes, terms.duties, row, dev_hz, target, x_hz, y_frac, terms.deadband_hz[row], elapsed_s
            )
        total += terms.sold_kw[row] * advance(motion, terms, row, now_ns, elapsed_s, weight * target)
    return total


@strict
def reset(motion: Motion) -> None:
    """Back to rest at once: a dead bus gets nothing, not a ramp down."""
    motion.fraction[:] = 0.0
    motion.lagged[:] = 0.0
    motion.head[:] = 0
    motion.modes.given[:] = 0.0
