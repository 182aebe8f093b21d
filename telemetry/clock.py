"""How a source's clock goes against ours: offset and drift, with their uncertainty.

What can be seen of a source's clock is arrival minus stamp: its offset and the way here in one number. The way has a
shortest time and, above it, delays of any length, so the least of each window of five seconds is kept and a line is
laid through them that a few bad windows cannot turn: the median of all slopes between two of them (Theil and Sen),
with the distribution-free interval of P. K. Sen, J. Am. Stat. Assoc. 63 (1968), 2.6. A drift is a property of the
two clocks and is found whatever the way; an offset is known only together with the shortest way, which nobody can
tell from it with messages in one direction.

Policy: the least of each window, the newest `KEEP` windows, ten minutes; older ones fall out. After a jump everything
is learnt anew. Pure: no clock is read, stamps and arrivals are passed in; integers until the line is laid.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

WINDOW_NS: Final = 5_000_000_000
KEEP: Final = 120
LEAST_WINDOWS: Final = 5  # for a line: with fewer every slope is within its interval
Z95: Final = 1.959963984540054
MAD_TO_SIGMA: Final = 1.4826  # of a normal distribution
MEDIAN_LOSS: Final = 1.2533  # standard error of a median over that of a mean


class Skew(NamedTuple):
    """A source's clock against ours; NaN while not known. Half-widths are of 95 %."""

    offset_s: float  # arrival minus stamp, now: our clock minus the source's, plus the shortest way
    offset_pm_s: float
    drift_ppm: float  # its change: above 0 the source's clock is the slower one
    drift_pm_ppm: float
    span_s: float  # of the windows that this was told from
    jumps: int  # sudden changes that lasted, each learnt anew


class SkewMeter:
    """Learns one source's skew, sample by sample."""

    def __init__(self) -> None:
        self._least: deque[tuple[int, int]] = deque(maxlen=KEEP)  # (arrival, arrival minus stamp) of whole windows
        self._window: int | None = None
        self._best = (0, 0)  # of the window that is still open
        self._jumps = 0
        self._known: Skew | None = None

    def add(self, t_ns: int, rx_ns: int) -> None:
        """One sample whose stamp is believed."""
        window, offset_ns = rx_ns // WINDOW_NS, rx_ns - t_ns
        if window != self._window:
            if self._window is not None:
                self._least.append(self._best)
                self._known = None
            self._window, self._best = window, (rx_ns, offset_ns)
        elif offset_ns < self._best[1]:
            self._best = (rx_ns, offset_ns)

    def restart(self) -> None:
        """The source's clock has jumped: what was learnt of it is of no use."""
        self._least.clear()
        self._window = None
        self._jumps += 1
        self._known = None

    def skew(self) -> Skew:
        """What is known now; laid anew when a window has closed."""
        if self._known is None:
            self._known = _line(list(self._least), self._jumps)
        return self._known


def _line(least: list[tuple[int, int]], jumps: int) -> Skew:
    if not least:
        return Skew(*(math.nan,) * 4, 0.0, jumps)
    at_ns, newest_ns = least[-1][0], least[-1][1]
    span_s = (at_ns - least[0][0]) * 1e-9
    if len(least) < LEAST_WINDOWS:
        return Skew(min(offset for _, offset in least) * 1e-9, *(math.nan,) * 3, span_s, jumps)
    # Differences of integers, so that nothing of 1e18 ns is lost to a float.
    x_s = np.array([(when - at_ns) * 1e-9 for when, _ in least])
    y_s = np.array([(offset - newest_ns) * 1e-9 for _, offset in least])
    slope, half = slope_of(x_s, y_s)
    rest_s = y_s - slope * x_s
    middle_s = float(np.median(rest_s))
    scatter_s = MAD_TO_SIGMA * float(np.median(np.abs(rest_s - middle_s)))
    # The line is best known in its middle; at its end the slope's doubt counts as well.
    half_s = Z95 * MEDIAN_LOSS * scatter_s / math.sqrt(x_s.size) + half * abs(span_s) / 2
    return Skew(newest_ns * 1e-9 + middle_s, half_s, slope * 1e6, half * 1e6, span_s, jumps)


def slope_of(x: Floats, y: Floats) -> tuple[float, float]:
    """(slope, half-width of its 95 % interval) by Theil and Sen; NaN for fewer than two different x.

    x, y : float64[n]
    """
    i, j = np.triu_indices(x.size, 1)
    run = x[j] - x[i]
    slopes = np.sort((y[j] - y[i])[run != 0] / run[run != 0])
    if slopes.size == 0:
        return math.nan, math.nan
    slope = float(np.median(slopes))
    n = x.size
    spread = Z95 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(round((slopes.size - spread) / 2) - 1, 0)
    high = min(round((slopes.size + spread) / 2), slopes.size - 1)
    return slope, float(max(slope - slopes[low], slopes[high] - slope))
