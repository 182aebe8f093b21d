"""Cut recorded rows to what an interval may use, in order of source time.

Pure selection, no arithmetic on values. Rows outside the window cannot change a statement, so that whoever verifies it
may bring more rows than were used, and whoever keeps rows in memory knows how long they are needed.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from settlement import baseline
from settlement.align import Ints
from settlement.facts import Declarations, Energy, Facts, History, Meters, Modes, Samples, Shortfall, Signal
from settlement.managed import LASTS_NS

Table = TypeVar("Table", Samples, History, Meters, Declarations, Signal, Modes, Energy)


def take(table: Table, rows: Ints) -> Table:
    """The rows of a table of columns, in the order given."""
    columns: list[Any] = [column[rows] for column in table]
    return type(table)(*columns)


def between(t_ns: Ints, low_ns: int, high_ns: int) -> Ints:
    """Rows of [low, high), ascending; of equal times in the order they came."""
    inside = np.flatnonzero((t_ns >= low_ns) & (t_ns < high_ns))
    return inside[np.argsort(t_ns[inside], kind="stable")]


def cut(facts: Facts, low_ns: int, until_ns: int) -> Facts:
    """The facts of [low_ns, until_ns)."""
    ticks = between(facts.shortfall.t_ns, low_ns, until_ns)
    return facts._replace(
        samples=take(facts.samples, between(facts.samples.t_ns, low_ns, until_ns)),
        history=take(facts.history, between(facts.history.t_ns, low_ns, until_ns)),
        meters=take(facts.meters, between(facts.meters.t_ns, low_ns, until_ns)),
        declarations=take(facts.declarations, declared(facts.declarations, low_ns, until_ns)),
        signal=in_force(facts.signal, low_ns, until_ns),
        shortfall=Shortfall(facts.shortfall.t_ns[ticks], facts.shortfall.kw[ticks], facts.shortfall.names),
        # A row stands until the next one, but no longer than a row may.
        modes={
            name: take(rows, between(rows.from_ns, low_ns - LASTS_NS, until_ns)) for name, rows in facts.modes.items()
        },
    )


def declared(declarations: Declarations, low_ns: int, until_ns: int) -> Ints:
    """Declarations that touch the window, and the first of each run that has one: it decides what may be late."""
    d = declarations
    touches = (d.start_ns < until_ns) & (d.end_ns > low_ns)
    order = np.argsort(d.declared_ns, kind="stable")
    runs, first = np.unique(d.run[order], return_index=True)
    needed = order[first[np.isin(runs, d.run[touches])]]
    return np.union1d(np.flatnonzero(touches), needed)


def in_force(signal: Signal, low_ns: int, until_ns: int) -> Signal:
    """Each set-point ends where the next begins, expired or not: the latest word counts alone."""
    ordered = take(signal, np.argsort(signal.start_ns, kind="stable"))
    end_ns = np.maximum(ordered.end_ns, ordered.start_ns)
    end_ns[:-1] = np.minimum(end_ns[:-1], ordered.start_ns[1:])
    ordered = ordered._replace(end_ns=end_ns)
    return take(ordered, np.flatnonzero((ordered.start_ns < until_ns) & (end_ns > low_ns)))


def refused_between(declarations: Declarations, start_ns: int, end_ns: int) -> int:
    """Declarations made after the fact that would have touched the interval."""
    d, refused = declarations, baseline.accept(declarations).refused
    return int(np.count_nonzero((d.start_ns[refused] < end_ns) & (d.end_ns[refused] > start_ns)))
