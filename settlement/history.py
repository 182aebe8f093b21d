"""Late history in the gaps of what was lived: what a device kept while nobody listened, by source time.

A device's buffered report tells, after an outage, what control did not have. Settlement goes by source time, so it
counts: the grid owed what its frequency was, whether we heard it or not, and leaving it out would be in the seller's
favour. It fills gaps only: wherever a sample was heard live, refused ones included, that sample stands, because it is
what the engine and its gate acted on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from settlement import align
from settlement.align import Bools, Grid, Ints, ascending
from settlement.facts import History, Samples

# A row this near to one heard live is the same measurement told twice: half a period, each clock's reading differs.
SAME_PERIODS: Final = 0.5
# Between two neighbours further apart than this something is missing.
GAP_PERIODS: Final = 1.5


class Filled(NamedTuple):
    """Samples with their gaps filled.

    samples : in order of source time
    late    : bool[n]  rows that came late
    through : (epoch, seq) of the newest entry whose rows are among them; None: none is
    """

    samples: Samples
    late: Bools
    through: tuple[int, int] | None


def fill(samples: Samples, history: History) -> Filled:
    """Late rows into the gaps between live ones; both cut to the window before."""
    fits = _in_gaps(history.t_ns, ascending(samples.t_ns))
    if not fits.size:
        return Filled(samples, np.zeros(samples.t_ns.size, bool), None)
    through = max(zip(history.epoch[fits].tolist(), history.seq[fits].tolist(), strict=True))
    t_ns = np.concatenate([samples.t_ns, history.t_ns[fits]])
    order = np.argsort(t_ns, kind="stable")
    late = np.concatenate([np.zeros(samples.t_ns.size, bool), np.ones(fits.size, bool)])[order]
    merged = Samples(
        t_ns[order],
        np.concatenate([samples.hz, history.hz[fits]])[order],
        np.concatenate([samples.usable, history.usable[fits]])[order],
    )
    return Filled(merged, late, through)


def filled_s(heard: Samples, filled: Filled, grid: Grid, hold_ns: int) -> float:
    """Time on the grid in which the frequency is known by late history alone [s]."""
    if not filled.late.any():
        return 0.0
    by_all = align.of_samples(filled.samples.t_ns, filled.samples.hz, grid, hold_ns, filled.samples.usable)
    by_heard = align.of_samples(heard.t_ns, heard.hz, grid, hold_ns, heard.usable)
    return float((by_all.coverage_frac - by_heard.coverage_frac).sum()) * grid.step_s


def _in_gaps(late_ns: Ints, live_ns: Ints) -> Ints:
    """Rows of late history that lie where nothing was heard, ascending, each stamp once: the first told counts."""
    _, first = np.unique(late_ns, return_index=True)
    if not live_ns.size:
        return first
    # The source's own period; where one sample was heard alone, only its own stamp is taken.
    period_ns = float(np.median(np.diff(live_ns))) if live_ns.size > 1 else 0.0
    t_ns = late_ns[first]
    place = np.searchsorted(live_ns, t_ns)
    # Beyond either end there is no neighbour: as good as far away.
    before_ns = np.where(place > 0, t_ns - live_ns[np.maximum(place - 1, 0)], np.iinfo(np.int64).max // 2)
    after_ns = np.where(
        place < live_ns.size, live_ns[np.minimum(place, live_ns.size - 1)] - t_ns, np.iinfo(np.int64).max // 2
    )
    alone = np.minimum(before_ns, after_ns) > SAME_PERIODS * period_ns
    return first[alone & (before_ns + after_ns > GAP_PERIODS * period_ns)]
