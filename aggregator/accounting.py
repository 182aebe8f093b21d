"""The core's accounts of its vehicles: opened with a session, closed with it or with the accounting interval.

An accounting interval is a quarter of an hour, or the longest part of one in which no product's settlement interval
begins or ends, so that an account's amounts belong to one statement of each product and its part of the baseline is one
number; the settlement folds them up (`settlement.accounts.folded`). It is a minute at least. Closed accounts
are rows for the journal (`Kind.ACCOUNT`); they are results of the calls, like set-points: the same calls give the
same bytes. No decision rests on them.

A baseline that was declared while a vehicle was not plugged in holds nothing of it; what it leaves behind when it goes
is the others' to cover (`aggregator.declared`). Both differences show in the sum of the rows against the declared one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from aggregator.records import Block
from droop import accounts
from droop.accounts import LOOK_NS, ROW, Accounts
from droop.handle import hold

QUARTER_S: Final = 900
LEAST_S: Final = 60
NS: Final = 1_000_000_000
# Rows of a journal entry: an entry is one message.
ENTRY_ROWS: Final = 8_192
# A silence that spans more is no interval after interval in which nothing was told.
SILENCE_MAX: Final = 4
# The fleet is looked at in so many pieces in turn, so that no decision waits for all of it.
TURNS: Final = 32
# Places in `Accounts.times_ns`.
EDGE, NEXT_START, NEXT_END, DECLARED_END, SHORT_SINCE = range(5)


def interval_ns(settlement_s: Iterable[int]) -> int:
    """Length of the accounting interval for products settled in intervals of so many seconds: part of each of them."""
    return max(math.gcd(QUARTER_S, *settlement_s), LEAST_S) * NS


class Accounting:
    """Keeps `droop.accounts` for a core. columns : all of its state

    `held` is the core's handle on its engine and how it is run (`droop.step.Running`).
    """

    def __init__(self, rows: int, settlement_s: Iterable[int]) -> None:
        self.interval_ns = interval_ns(settlement_s)
        self.columns: Accounts = accounts.allocate(rows, TURNS)
        self._book = hold(self.columns)
        # What follows says when the columns need no look; looking once too often does no harm.
        self._look_ns = 0  # when the next piece is due
        self._edge_ns = 0  # when the interval ends
        self._new = True  # somebody may be here without an account
        self._short = True  # something may be left to share out

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the handle, which is an address."""
        return {name: value for name, value in self.__dict__.items() if name != "_book"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._book = hold(self.columns)

    def edge(self, held: Any, now_ns: int) -> list[Block]:
        """Close what ended before the decision about to be made at `now_ns`: ROW blocks."""
        if now_ns < self._edge_ns:
            return []
        times = self.columns.times_ns
        if not times[EDGE]:
            times[EDGE] = self._edge_after(now_ns)
        if now_ns >= times[EDGE]:
            self._share(held, now_ns)
        closed: list[Block] = []
        while times[EDGE] <= now_ns:
            edge_ns = int(times[EDGE])
            closed += self._roll(held, edge_ns)
            last = now_ns - edge_ns > SILENCE_MAX * self.interval_ns
            times[EDGE] = self._edge_after(now_ns) - self.interval_ns if last else edge_ns + self.interval_ns
        self._edge_ns = int(times[EDGE])
        return closed

    def close(self, held: Any, now_ns: int) -> list[Block]:
        """Close what is running, as at the end of a recording: ROW blocks. Who is still here has a new account."""
        closed = self.edge(held, now_ns)
        self._share(held, now_ns)
        out = np.zeros(self.columns.begun_ns.size, ROW)
        count = int(accounts.roll(held, self._book, now_ns, 0, out))
        return closed + self._named(out[:count])

    def decided(self, held: Any, now_ns: int, lam: float) -> None:
        """A decision was made: its commands stand, and the pieces whose turn it is are looked at."""
        if self._new:
            self._new = False
            accounts.arrive(held, self._book, lam, now_ns)
        due = now_ns >= self._look_ns
        next_ns = int(accounts.decided(held, self._book, lam, now_ns, due, LOOK_NS // TURNS))
        if due:
            self._look_ns = next_ns
        if self._short:
            self._share(held, now_ns, LOOK_NS)

    def unserved(self, kw: float, hours: float, now_ns: int) -> None:
        """What the decision before could not serve stood for so long. kw : signed as the request"""
        times = self.columns.times_ns
        if not times[SHORT_SINCE]:
            times[SHORT_SINCE] = now_ns - round(hours * 3600 * NS)
        self._short = True
        self.columns.short_kwh[0 if kw > 0.0 else 1] += abs(kw) * hours

    def sessions(self, held: Any, names: Block, now_ns: int) -> list[Block]:
        """Sessions have begun or ended: ROW blocks of those that ended. names : S24[n] who is plugged in now"""
        # An edge may have passed since the last decision.
        closed = self.edge(held, now_ns)
        state = self.columns
        out = np.zeros(names.size, ROW)
        self._share(held, now_ns)
        count = int(accounts.exchange(held, self._book, now_ns, out))
        closed += self._named(out[:count])
        state.names[:] = names
        self._new = True
        return closed

    def declared(self, held: Any, rows: Block, now_ns: int) -> None:
        """A baseline was declared: what of it is whose. rows : DECLARATION[n], of one interval; its ramp is nobody's"""
        start_ns, end_ns = int(rows["start_ns"][0]), int(rows["end_ns"][-1])
        times = self.columns.times_ns
        at_once = start_ns % self.interval_ns != 0
        if at_once and self._new:
            # The first of a run is made ahead of its first decision: those it counts have no account yet.
            self._new = False
            accounts.arrive(held, self._book, 0.0, now_ns)
        accounts.freeze(held, self._book, start_ns, at_once)
        if at_once:
            times[DECLARED_END], times[NEXT_START] = end_ns, 0
        else:
            times[NEXT_START], times[NEXT_END] = start_ns, end_ns

    def _roll(self, held: Any, edge_ns: int) -> list[Block]:
        times = self.columns.times_ns
        declared = 0
        if 0 < times[NEXT_START] <= edge_ns:
            declared, times[DECLARED_END], times[NEXT_START] = 1, times[NEXT_END], 0
        if edge_ns >= times[DECLARED_END]:
            declared = -1
        out = np.zeros(self.columns.begun_ns.size, ROW)
        count = int(accounts.roll(held, self._book, edge_ns, declared, out))
        return self._named(out[:count])

    def _named(self, rows: Block) -> list[Block]:
        rows["vehicle"] = self.columns.names[rows["slot"]]
        return [rows[first : first + ENTRY_ROWS] for first in range(0, rows.size, ENTRY_ROWS)]

    def _share(self, held: Any, now_ns: int, least_ns: int = 0) -> None:
        """Share out what was not served, once it has gathered for `least_ns`."""
        state = self.columns
        since_ns = int(state.times_ns[SHORT_SINCE])
        if since_ns and now_ns - since_ns < least_ns:
            return
        self._short = False
        if not since_ns:
            return
        for place, up in enumerate((True, False)):
            if state.short_kwh[place] > 0.0:
                hours = (now_ns - since_ns) / (3600 * NS)
                accounts.share_short(held, self._book, float(state.short_kwh[place]), hours, up)
        state.short_kwh[:] = 0.0
        state.times_ns[SHORT_SINCE] = 0

    def _edge_after(self, now_ns: int) -> int:
        return now_ns - now_ns % self.interval_ns + self.interval_ns
