"""Two filters that several rules share: the extreme of a window in the past, and a limit on the rate of change.

Arrays only, numpy alone: a rule may be judged where no compiler is, and nothing has to be warmed before it.
"""

from __future__ import annotations

import numpy as np

from settlement.align import Bools, Floats


def extreme(values: Floats, near: int, far: int, *, largest: bool) -> Floats:
    """Largest or smallest value of the cells k-far .. k-near, for each cell k.

    values : float64[n]  before the first cell it was as in it
    far >= near >= 0

    Windows are joined from halves, so the cost grows with the logarithm of their width.
    """
    if values.size == 0:
        return values.copy()
    join = np.maximum if largest else np.minimum
    size, width = values.size, far - near + 1
    window = np.concatenate([np.full(far, values[0]), values])
    span = 1
    while 2 * span <= width:
        window = join(window[:-span], window[span:])
        span *= 2
    rest = width - span
    joined: Floats = join(window[:size], window[rest : rest + size])
    return joined


def run_least(values: Floats, run: int) -> Floats:
    """Smallest of the last `run` cells; a run that is cut by the first cell has fewer."""
    if values.size == 0:
        return values.copy()
    return extreme(np.concatenate([np.full(run - 1, np.inf), values]), 0, run - 1, largest=False)[run - 1 :]


def slew(values: Floats, up: float, down: float) -> Floats:
    """Follow `values` by at most `up` a cell upwards and `down` a cell downwards, beginning on the first.

    values : float64[n], no NaN; up, down : above 0
    returns float64[n]

    Sequential only while a limit binds: between such stretches the filter is its input, so what seldom moves too
    fast costs one pass.
    """
    change = np.diff(values)
    breaks = np.flatnonzero((change > up) | (change < -down)) + 1
    out = values.copy()
    if breaks.size == 0:
        return out
    wanted = values.tolist()
    k = int(breaks[0])
    while True:
        start, y, ramp = k, wanted[k - 1], []
        while k < len(wanted):
            x = wanted[k]
            if x > y + up:
                y += up
            elif x < y - down:
                y -= down
            else:
                break
            ramp.append(y)
            k += 1
        out[start:k] = ramp
        # Caught up in cell k: the next stretch begins where the input itself moves too fast.
        place = int(np.searchsorted(breaks, k + 1))
        if k >= len(wanted) or place >= breaks.size:
            return out
        k = int(breaks[place])


def beginnings(flags: Bools, rest: int) -> list[int]:
    """First cell of each run of true cells, but for those within `rest` cells of one before."""
    found: list[int] = []
    for cell in first_of_runs(flags):
        if not found or cell >= found[-1] + rest:
            found.append(cell)
    return found


def first_of_runs(flags: Bools) -> list[int]:
    """First cell of each run of true cells."""
    before = np.concatenate([[False], flags[:-1]])
    return np.flatnonzero(flags & ~before).tolist()
