"""What was recorded of a test, and the small measurements that verdicts are made of.

This file knows arrays only. `net_kw` is metered minus baseline; times are seconds from the beginning of the plan, or of
the part once it is cut out. Samples whose power is not known are left out of every measurement, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from settlement.align import Floats
from settlement.prequalification.plan import Part


class Recording(NamedTuple):
    """One row a sample.

    t_s         : float64[n]  ascending, from the start of the plan
    hz          : float64[n]  as injected; of a product on a signal, the signal's own values
    power_kw    : float64[n]  metered, positive into the grid; NaN where unknown
    baseline_kw : float64[n]  as declared; NaN where none was
    """

    t_s: Floats
    hz: Floats
    power_kw: Floats
    baseline_kw: Floats

    @property
    def net_kw(self) -> Floats:
        """float64[n]  delivered power."""
        return np.asarray(self.power_kw - self.baseline_kw)

    def cut(self, start_s: float, end_s: float) -> Recording:
        """The rows of [start, end), in time from `start_s`."""
        keep = (self.t_s >= start_s - 1e-6) & (self.t_s < end_s - 1e-6)
        return Recording(self.t_s[keep] - start_s, self.hz[keep], self.power_kw[keep], self.baseline_kw[keep])


# Parts of a test with what was recorded of each, in the part's own time.
Played: TypeAlias = Sequence[tuple[Part, Recording]]


class Trace(NamedTuple):
    """A known quantity over time, for measuring: no NaN.

    t_s, y : float64[n]
    """

    t_s: Floats
    y: Floats

    def at(self, t_s: float) -> float:
        """Its value at a time, linear between samples; NaN without any."""
        return float(np.interp(t_s, self.t_s, self.y)) if self.t_s.size else float("nan")

    def between(self, start_s: float, end_s: float) -> Floats:
        """float64[k]  its samples in [start, end]."""
        return self.y[(self.t_s >= start_s - 1e-6) & (self.t_s <= end_s + 1e-6)]

    def mean(self, start_s: float, end_s: float) -> float:
        """Mean of its samples in [start, end); NaN without any."""
        inside = self.y[(self.t_s >= start_s - 1e-6) & (self.t_s < end_s - 1e-6)]
        return float(inside.mean()) if inside.size else float("nan")

    def least(self, start_s: float, end_s: float) -> float:
        """Smallest sample in [start, end]; NaN without any."""
        inside = self.between(start_s, end_s)
        return float(inside.min()) if inside.size else float("nan")

    def most(self, start_s: float, end_s: float) -> float:
        """Largest sample in [start, end]; NaN without any."""
        inside = self.between(start_s, end_s)
        return float(inside.max()) if inside.size else float("nan")

    def first(self, level: float, start_s: float, end_s: float) -> float:
        """Time from `start_s` to the first sample that is at `level` or above; inf if there is none by `end_s`."""
        found = (self.t_s >= start_s - 1e-6) & (self.t_s <= end_s + 1e-6) & (self.y >= level)
        return max(float(self.t_s[found][0]) - start_s, 0.0) if found.any() else float("inf")

    def clipped(self, start_s: float, end_s: float) -> Trace:
        """[start, end] with both ends interpolated, so that integrals are of exactly this span."""
        inside = (self.t_s > start_s) & (self.t_s < end_s)
        t_s = np.concatenate([[start_s], self.t_s[inside], [end_s]])
        return Trace(t_s, np.concatenate([[self.at(start_s)], self.y[inside], [self.at(end_s)]]))

    def running(self, start_s: float, end_s: float) -> Trace:
        """Its integral from `start_s` on, by trapezoids, at each sample of [start, end]."""
        t_s, y = self.clipped(start_s, end_s)
        return Trace(t_s, np.concatenate([[0.0], np.cumsum(0.5 * (y[1:] + y[:-1]) * np.diff(t_s))]))

    def integral(self, start_s: float, end_s: float) -> float:
        """Integral over [start, end] by trapezoids."""
        return float(self.running(start_s, end_s).y[-1])

    def smoothed(self, span_s: float) -> Trace:
        """Mean of the samples of [t, t + span), at every t that has the whole span ahead of it."""
        last = np.searchsorted(self.t_s, self.t_s + span_s - 1e-6, side="left")
        whole = self.t_s + span_s <= self.t_s[-1] + 1e-6 if self.t_s.size else np.zeros(0, bool)
        total = np.concatenate([[0.0], np.cumsum(self.y)])
        first = np.arange(self.t_s.size)
        return Trace(self.t_s[whole], ((total[last] - total[first]) / (last - first))[whole])


def shown(recording: Recording, scale_kw: float) -> Trace:
    """Delivered power in units of `scale_kw` (negative to turn it round), where it is known."""
    known = np.isfinite(recording.net_kw)
    return Trace(recording.t_s[known], recording.net_kw[known] / scale_kw)


def spacing_s(t_s: Floats) -> float:
    """Typical time between samples; NaN for fewer than two."""
    return float(np.median(np.diff(t_s))) if t_s.size > 1 else float("nan")
