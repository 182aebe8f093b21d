"""The fleet's running totals at the edges of accounting intervals; between any two of them lies what happened.

One row an interval, some hundred bytes: a year of quarters of an hour is a few megabytes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from droop.reasons import COUNT

Rows = npt.NDArray[Any]

# Totals since the start. Energies are at the grid and 0 or more, unless they are named net.
TOTALS: Final = (
    "net_kwh",  # into the grid less out of it
    "throughput_kwh",
    "losses_kwh",
    "cycles",  # equivalent full ones of all vehicles together
    "requested_up_kwh",  # by the core, of all products together
    "requested_down_kwh",
    "unserved_kwh",
    "commands",
    "reversals",  # changes of the power's sign
    "switches",
)
# As it is at that moment, of the cars that are here.
MOMENTS: Final = ("plugged", "soc_p05_frac", "soc_p50_frac", "soc_p95_frac")

SPAN: Final = np.dtype(
    [("t_ns", "<i8")]
    + [(name, "<f8") for name in (*TOTALS, *MOMENTS)]
    + [("unserved_by_reason_kwh", "<f8", (COUNT,))]
)  # fmt: skip
FIRST: Final = 256


class Spans:
    """Rows of SPAN in order of time; the first one is the start, with nothing in it."""

    def __init__(self, start_ns: int) -> None:
        self._rows = np.zeros(FIRST, SPAN)
        self._rows["t_ns"][0] = start_ns
        for name in MOMENTS:
            self._rows[name][0] = np.nan
        self._count = 1

    def add(self, row: Rows) -> None:
        """One more; of two at the same time the later one counts. row : SPAN[1]"""
        if self._count == self._rows.size:
            self._rows = np.concatenate([self._rows, np.zeros(self._rows.size, SPAN)])
        same = self._rows["t_ns"][self._count - 1] == row["t_ns"][0] and self._count > 1
        self._count += 0 if same else 1
        self._rows[self._count - 1 : self._count] = row

    @property
    def rows(self) -> Rows:
        """SPAN[n]"""
        return self._rows[: self._count]

    def between(self, start_ns: int, end_ns: int) -> tuple[Rows, Rows]:
        """(SPAN[1] what came in between, moments of its end; SPAN[k] the rows at its edges and inside).

        An edge that has no row takes the last one before it.
        """
        times = self.rows["t_ns"]
        first, last = (max(int(np.searchsorted(times, t, side="right")) - 1, 0) for t in (start_ns, end_ns))
        rows = self.rows[first : last + 1]
        found = rows[-1:].copy()
        for name in (*TOTALS, "unserved_by_reason_kwh"):
            found[name] -= rows[:1][name]
        return found, rows
