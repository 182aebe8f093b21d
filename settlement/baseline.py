"""What the fleet would have done without the product: the baseline as declared, and whether it may count.

This file knows declarations and a grid: no meter, no plan. A baseline is ex ante or real-time, never ex post
(rulebook 2.5, TenneT NL 4.3): a row declared after its own start is refused, save the first of a run, which counts
from its declaration on and is flagged `late`. A later declaration replaces an earlier one where they overlap.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from settlement import align
from settlement.align import Bools, Cells, Floats, Grid, Ints
from settlement.facts import Declarations

MIRROR_LAGS_S: Final = (1, 10)  # a mirror acts within a sample or with a charger's delay
MIRROR_CORRELATION: Final = 0.5
MIRROR_CHANGES: Final = 10  # fewer moves than this in an interval follow nothing


class BaselineError(ValueError):
    """A declaration that cannot count; the message names the row, the field and the remedy."""


class ExPostError(BaselineError):
    """Declared after its own start, and not the first of its run."""


class Accepted(NamedTuple):
    """Which declarations count.

    rows  : int64[k]  accepted rows, in the order of declaration
    late     : bool[k]   the first of a run, counting from its declaration on
    start_ns : int64[k]  from when the row counts
    refused  : int64[m]  rows declared ex post
    """

    rows: Ints
    late: Bools
    start_ns: Ints
    refused: Ints


class Mirroring(NamedTuple):
    """Whether the baseline moves with the frequency."""

    correlation: float | None  # the strongest over the lags; None where either stands still
    changes: int  # cells in which the baseline moved
    alarm: bool


def accept(declarations: Declarations) -> Accepted:
    """Sort declarations into those that count and those made after the fact.

    Raises BaselineError for a row that says nothing: no finite power, or an end not after its start.
    """
    d = declarations
    for row in np.flatnonzero(~np.isfinite(d.power_kw)):
        raise BaselineError(f"declaration {row}: field `power_kw` takes a finite number, not {d.power_kw[row]}")
    for row in np.flatnonzero(d.end_ns <= d.start_ns):
        raise BaselineError(f"declaration {row}: field `end_ns` must lie after `start_ns`")
    order = np.argsort(d.declared_ns, kind="stable")
    _, first_at = np.unique(d.run[order], return_index=True)
    first = np.zeros(order.size, bool)
    first[first_at] = True
    after = d.declared_ns[order] > d.start_ns[order]
    counts = ~after | first
    start_ns = np.maximum(d.start_ns[order], d.declared_ns[order])
    # A late row declared even after its own end covers nothing; it still was the first of its run.
    start_ns = np.where(after, np.minimum(start_ns, d.end_ns[order]), d.start_ns[order])
    late = after | d.late[order]
    return Accepted(order[counts], late[counts], start_ns[counts], order[~counts])


def check(declarations: Declarations) -> None:
    """Raise ExPostError for the first declaration made after the fact."""
    for row in accept(declarations).refused:
        late_s = (declarations.declared_ns[row] - declarations.start_ns[row]) / align.NS
        raise ExPostError(
            f"declaration {row}: field `declared_ns` lies {late_s:.3f} s after `start_ns`; "
            "a baseline is declared before it starts (or begins when it is declared)"
        )


def power_kw(declarations: Declarations, grid: Grid) -> Cells:
    """The baseline on the grid [kW]; refused declarations count for nothing."""
    accepted = accept(declarations)
    start_ns, end_ns = accepted.start_ns, declarations.end_ns[accepted.rows]
    cuts = np.unique(np.concatenate([start_ns, end_ns]))
    owner = np.full(max(cuts.size - 1, 0), -1)
    for row, (first, last) in enumerate(zip(start_ns, end_ns, strict=True)):
        owner[np.searchsorted(cuts, first) : np.searchsorted(cuts, last)] = row
    owned = owner >= 0
    value = declarations.power_kw[accepted.rows[owner[owned]]]
    return align.of_segments(cuts[:-1][owned], cuts[1:][owned], value, grid)


def used(declarations: Declarations, start_ns: int, end_ns: int) -> Ints:
    """Accepted rows that touch [start_ns, end_ns), in the order of declaration."""
    accepted = accept(declarations)
    touches = (accepted.start_ns < end_ns) & (declarations.end_ns[accepted.rows] > start_ns)
    return accepted.rows[touches]


def mirroring(baseline_kw: Floats, dev_hz: Floats, step_s: float = 1.0) -> Mirroring:
    """Look for a baseline that moves opposite to the response, i.e. with the frequency (rulebook 2.5).

    baseline_kw, dev_hz : float64[n]  on the grid, NaN where unknown

    Changes are correlated, not levels: two slow drifts are alike by chance, their changes are not. A step plan
    that moves a few times in an interval cannot mirror anything and raises no alarm.
    """
    moved = np.diff(baseline_kw)
    changes = int(np.count_nonzero(moved[~np.isnan(moved)]))
    found = [_correlation(baseline_kw, dev_hz, max(1, round(lag_s / step_s))) for lag_s in MIRROR_LAGS_S]
    known = [value for value in found if value is not None]
    if not known:
        return Mirroring(None, changes, False)
    strongest = max(known, key=abs)
    return Mirroring(strongest, changes, changes >= MIRROR_CHANGES and abs(strongest) >= MIRROR_CORRELATION)


def _correlation(baseline_kw: Floats, dev_hz: Floats, lag: int) -> float | None:
    if baseline_kw.size <= lag:
        return None
    d_baseline = baseline_kw[lag:] - baseline_kw[:-lag]
    d_dev = dev_hz[lag:] - dev_hz[:-lag]
    both = ~(np.isnan(d_baseline) | np.isnan(d_dev))
    d_baseline, d_dev = d_baseline[both], d_dev[both]
    if d_dev.size < 3:
        return None
    d_baseline, d_dev = d_baseline - d_baseline.mean(), d_dev - d_dev.mean()
    scale = float(np.sqrt(d_baseline @ d_baseline) * np.sqrt(d_dev @ d_dev))
    # A flat series leaves rounding noise only; its correlation means nothing.
    flat = 1e-12 * max(1.0, float(np.abs(np.nan_to_num(baseline_kw)).max())) * d_dev.size
    if scale == 0.0 or float(np.abs(d_baseline).max()) <= flat:
        return None
    return float(d_baseline @ d_dev) / scale
