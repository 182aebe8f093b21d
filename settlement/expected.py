"""The power a product owed the grid, recomputed from what was recorded through the engine's own curve and triggers.

This file knows products, frequency samples and set-points: no meter, no fleet. A curve's fraction is taken sample by
sample and then averaged, because the curve is not linear; an unusable sample asks for nothing and covers nothing, as in
the engine. What the buyer is owed is the market's: our own delay, lag and insensitivity are for its tolerance to take.
A trigger has a past: its state is computed again from `history_ns` before the first cell, at most an hour, in which a
support that is longer must have passed its threshold anew to be known. A set-point is followed at the market's
least ramp, or at the product's own where the market names none; without either it stands as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from droop import curve
from droop.dynamics import at_rest, replayed, steps_of, terms, tracked
from droop.products import Product
from droop.promises import Trigger
from droop.signals import asked
from settlement import align, managed
from settlement.align import NS, Cells, Floats, Grid, Ints
from settlement.facts import Facts, Modes, Samples, Signal

HISTORY_MAX_S: Final = 3600.0


def hold_ns(product: Product, samples: Samples) -> int:
    """How long a frequency may be held: the product's allowed time or three source periods, the larger."""
    return align.hold_limit_ns(samples.t_ns[samples.usable], product.hold_s)


def history_ns(product: Product) -> int:
    """How far back the state of a product's target reaches, at most an hour [ns]."""
    seconds = 0.0
    if product.trigger is not None:
        seconds = product.full_s + _cycle_s(product.trigger)
    elif product.input == "signal":
        # From one end of the range to the other.
        seconds = product.hold_s + product.signal_s + 2.0 / ramp_pu_s(product)
    return round(min(seconds, HISTORY_MAX_S) * NS)


def ramp_pu_s(product: Product) -> float:
    """How fast a set-point must be followed, of the power sold; inf: at once."""
    return product.ramp_min_pu_s or product.ramp_pu_s


def _cycle_s(trigger: Trigger) -> float:
    """From a trigger's pull to the next one, and a minute."""
    falling_s = 1.0 / trigger.fall_pu_s + (600.0 if trigger.pause_hz else 0.0)
    return 60.0 + trigger.after_s + trigger.hold_s + trigger.release_s + falling_s + trigger.ready_s


def of(sold: Sequence[tuple[Product, float]], k: int, facts: Facts, grid: Grid) -> Cells:
    """Expected response of product k of all those sold on a fleet [kW]; facts reach back by `history_ns`."""
    product, sold_kw = sold[k]
    if product.input == "signal":
        return _followed(sold, k, facts.signal, grid)
    if product.trigger is not None:
        return _pulled(product, sold_kw, facts.samples, grid, facts.modes.get(product.id))
    return power_kw(product, sold_kw, facts.samples, grid, facts.modes.get(product.id))


def set_point_kw(sold: Sequence[tuple[Product, float]], k: int, facts: Facts, grid: Grid) -> Cells | None:
    """The set-point itself, where `of` is the slowest way after it; None where both are the same.

    Both bound what one may do: a fleet that goes straight to the set-point gives neither too much nor too little.
    """
    product, _ = sold[k]
    if product.input != "signal" or np.isinf(ramp_pu_s(product)):
        return None
    at_once = [(replace(item, ramp_min_pu_s=0.0, ramp_pu_s=np.inf), kw) for item, kw in sold]
    return _followed(at_once, k, facts.signal, grid)


def power_kw(product: Product, sold_kw: float, samples: Samples, grid: Grid, modes: Modes | None = None) -> Cells:
    """Expected response by the product's curve on the grid [kW], sold power x fraction; positive into the grid.

    modes : what the product's energy rules had turned on, as recorded
    """
    dev_hz = samples.hz - product.nominal_hz
    static = curve.fractions(product.response, dev_hz)
    asked_kw = sold_kw * managed.fractions(product, samples.t_ns, dev_hz, static, modes)
    # NaN asks for nothing and would count as a covered zero: keep it unknown.
    asked_kw = np.where(np.isnan(samples.hz), np.nan, asked_kw)
    return align.of_samples(samples.t_ns, asked_kw, grid, hold_ns(product, samples), samples.usable)


def _pulled(product: Product, sold_kw: float, samples: Samples, grid: Grid, modes: Modes | None) -> Cells:
    """By the product's trigger."""
    known = samples.usable & ~np.isnan(samples.hz)
    order = np.flatnonzero(known)[np.argsort(samples.t_ns[known], kind="stable")]
    limit_ns = hold_ns(product, samples)
    share = np.full(samples.hz.size, np.nan)
    one = [(product, sold_kw)]
    found = np.zeros(order.size)
    replayed(at_rest(1, steps_of(one)), terms(one), 0, samples.t_ns[order], samples.hz[order], limit_ns, found)
    share[order] = found
    share = managed.fractions(product, samples.t_ns, samples.hz - product.nominal_hz, share, modes)
    return align.of_samples(samples.t_ns, sold_kw * share, grid, limit_ns, known)


def _followed(sold: Sequence[tuple[Product, float]], k: int, signal: Signal, grid: Grid) -> Cells:
    """By the set-point: known while one is in force, and for the time it may be held after that."""
    product, sold_kw = sold[k]
    table = terms(list(sold))
    levels = np.array([asked(table, kw) for kw in signal.power_kw.tolist()])
    share = curve.fractions(product.response, levels)
    end_ns = signal.end_ns + round(product.hold_s * NS)
    end_ns[:-1] = np.minimum(end_ns[:-1], signal.start_ns[1:])
    if np.isinf(ramp_pu_s(product)) or not share.size:
        return align.of_segments(signal.start_ns, end_ns, sold_kw * share, grid)
    return _ramped(product, sold_kw, signal.start_ns, end_ns, share, grid)


def _ramped(product: Product, sold_kw: float, start_ns: Ints, end_ns: Ints, share: Floats, grid: Grid) -> Cells:
    """The slowest admissible way after the set-points; exact means, for between two times it has one corner at most."""
    edges_ns = grid.edges_ns
    t_ns = np.unique(np.concatenate([start_ns, end_ns, edges_ns[edges_ns > start_ns[0]]]))
    piece = np.searchsorted(start_ns, t_ns, side="right") - 1
    wanted = share[piece]
    rate_pu_s = ramp_pu_s(product)
    slowest = [(replace(product, ramp_pu_s=rate_pu_s, delay_s=0.0, olrt_s=0.0), sold_kw)]
    at = np.zeros(t_ns.size)
    tracked(at_rest(1), terms(slowest), 0, t_ns, wanted, at)
    first, last, length_s = at[:-1], at[1:], np.diff(t_ns) / NS
    moving_s = np.minimum(np.abs(last - first) / rate_pu_s, length_s)
    mean = ((first + last) / 2 * moving_s + last * (length_s - moving_s)) / length_s
    mean[t_ns[:-1] >= end_ns[piece[:-1]]] = np.nan
    return align.of_segments(t_ns[:-1], t_ns[1:], sold_kw * mean, grid)


def deviation_hz(product: Product, samples: Samples, grid: Grid) -> Cells:
    """Mean frequency deviation on the grid [Hz]."""
    dev_hz = samples.hz - product.nominal_hz
    return align.of_samples(samples.t_ns, dev_hz, grid, hold_ns(product, samples), samples.usable)
