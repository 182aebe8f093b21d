"""What a report draws: one product's seconds over a period, and the minutes in which most was missing.

Numbers only. Asked and given are relative to the baseline and positive into the grid; under-delivery is what lacks of
the asked power on its own side, never an excess.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from settlement.align import NS, Floats, Ints

MINUTE_NS: Final = 60 * NS
# Less than this share of the sold power is rounding, not a shortfall.
NEGLIGIBLE_PU: Final = 1e-6


class Series(NamedTuple):
    """One product on a regular grid.

    t_ns                : int64[n]    start of each cell
    hz                  : float64[n]  mean frequency; NaN where unknown, as in all of these
    asked_kw, given_kw  : float64[n]
    lower_kw, upper_kw  : float64[n]  the rule's corridor; NaN where it has none
    step_s, sold_kw     : length of a cell, power sold
    """

    t_ns: Ints
    hz: Floats
    asked_kw: Floats
    given_kw: Floats
    lower_kw: Floats
    upper_kw: Floats
    step_s: float
    sold_kw: float

    def between(self, start_ns: int, end_ns: int) -> Series:
        """The cells that begin in [start, end)."""
        first, last = np.searchsorted(self.t_ns, (start_ns, end_ns))
        parts: list[Any] = [column[first:last] for column in self[:6]]
        return Series._make([*parts, self.step_s, self.sold_kw])


class Minute(NamedTuple):
    """A minute in which power was missing. worst_kw : of its worst cell"""

    start_ns: int
    asked_kwh: float
    given_kwh: float
    missing_kwh: float
    worst_kw: float
    unknown_s: float


def joined(parts: Sequence[Series]) -> Series:
    """Series of one product, one after the other. parts : at least one"""
    columns: list[Any] = [np.concatenate(pieces) for pieces in zip(*(part[:6] for part in parts), strict=True)]
    return Series._make([*columns, parts[0].step_s, parts[0].sold_kw])


def missing_kw(series: Series) -> Floats:
    """Power that lacks of what was asked, of its magnitude; 0 where more was given, NaN where either is unknown."""
    side = np.sign(series.asked_kw)
    short = np.maximum(side * (series.asked_kw - series.given_kw), 0.0)
    return np.where(short <= NEGLIGIBLE_PU * series.sold_kw, np.where(np.isnan(short), np.nan, 0.0), short)


def worst(series: Series, most: int = 10) -> list[Minute]:
    """The minutes with most energy missing, the worst first; none of those in which nothing was."""
    if not series.t_ns.size:
        return []
    short = missing_kw(series)
    minute = series.t_ns // MINUTE_NS
    begins = np.flatnonzero(np.diff(minute, prepend=minute[0] - 1))
    hours = series.step_s / 3600.0
    missing = np.add.reduceat(np.nan_to_num(short), begins) * hours
    asked = np.add.reduceat(np.nan_to_num(series.asked_kw), begins) * hours
    given = np.add.reduceat(np.nan_to_num(series.given_kw), begins) * hours
    peak = np.maximum.reduceat(np.nan_to_num(short), begins)
    unknown = np.add.reduceat(np.isnan(short).astype(np.float64), begins) * series.step_s
    order = np.argsort(-missing, kind="stable")[:most]
    return [
        Minute(
            int(minute[begins[k]]) * MINUTE_NS, float(asked[k]), float(given[k]), float(missing[k]), float(peak[k]),
            float(unknown[k]),
        )
        for k in order.tolist() if missing[k] > 0
    ]  # fmt: skip


def errors_pu(series: Series) -> Floats:
    """Given minus asked, of the power sold, where both are known; positive: more into the grid than asked."""
    error = (series.given_kw - series.asked_kw) / series.sold_kw if series.sold_kw > 0 else np.zeros(0)
    return error[np.isfinite(error)]


def thinned(t_ns: Ints, value: Floats, points: int) -> tuple[Ints, Floats]:
    """At most about `points`: the smallest and the largest of each stretch, so that no peak is lost.

    A stretch without any known value leaves one NaN: the line breaks there.
    """
    stretch = -(-value.size * 2 // points)
    if stretch <= 2:
        return t_ns, value
    whole = value.size // stretch * stretch
    cut = value[:whole].reshape(-1, stretch)
    first = np.arange(0, whole, stretch)
    low = np.where(np.isnan(cut), np.inf, cut).argmin(axis=1)
    high = np.where(np.isnan(cut), -np.inf, cut).argmax(axis=1)
    kept = np.unique(np.concatenate([first + low, first + high, np.arange(whole, value.size)]))
    return t_ns[kept], value[kept]
