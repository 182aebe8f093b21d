"""Statements made anew when late history reaches an interval that was settled without it.

A correction is a new statement with the next revision; the old one stays where it is. It rests on the journal's files
and on all late history that had come by then, and says up to which entry of it, so that every revision can be held
against its rows again (`settle.verify_folder`).

Policy: a device tells an outage in many blocks; what they touch is settled again when CORRECT_S have passed without
another, one interval a call, so that the live line does not wait. Intervals whose journal the limits have taken cannot
be settled again and are counted (`beyond`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import numpy as np

from aggregator import journal_parts, journal_reader
from aggregator.book import LATENCY_S
from aggregator.books import SETTLED, Books, beginning, beyond_ns
from aggregator.journal import Block, Kind, Problem
from aggregator.journal_parts import HOUR_NS
from aggregator.late import Late, history, place
from settlement.align import NS
from settlement.evidence import Closed
from settlement.interval import LEAD_S
from settlement.statement import Statement, differing

CORRECT_S: Final = 60
NEEDED: Final = frozenset({"frequency", "meters", "ticks", "baseline"})


def read_late(folder: Path, problems: list[Problem] | None = None) -> Late:
    """All late history on disk."""
    return Late(history(*found) for found in journal_reader.numbered(folder, Kind.BACKFILL, problems))


def reach_ns(folder: Path) -> int:
    """From when on the journal's limits have left what a statement rests on."""
    taken = journal_reader.gaps(folder, tables=NEEDED)
    until_ns = max(taken["before_ns"][taken["reason"] == b"retention"].tolist(), default=None)
    return 0 if until_ns is None else until_ns + HOUR_NS + beyond_ns(folder)


def resettle(
    folder: Path, start_ns: int, end_ns: int, late: Late, closed: Callable[[Closed], None] | None = None
) -> list[Statement]:
    """The final statements of one interval again, from the files and this late history.

    closed : told of what they rest on
    """

    def told(found: Closed) -> None:
        if closed is not None and (found.start_ns, found.end_ns) == (start_ns, end_ns):
            closed(found)

    books = Books(late, told if closed else None)
    since_ns = journal_parts.hour_ns(journal_parts.hour(max(0, start_ns - HOUR_NS - beyond_ns(folder))))
    until_ns = end_ns + (LATENCY_S + 1) * NS
    done: list[Statement] = []
    for entry in beginning(folder, since_ns):
        done += books.feed(entry)
    for entry in journal_reader.entries(folder, SETTLED, start_ns=since_ns, end_ns=until_ns):
        done += books.feed(entry)
    if books.tail_s:
        sequel_ns = until_ns + books.tail_s * NS
        for entry in journal_reader.entries(folder, SETTLED, start_ns=until_ns, end_ns=sequel_ns):
            done += books.feed(entry)
        until_ns = sequel_ns
    done += books.on_time(until_ns)
    return [item for item in done if (item.start_ns, item.end_ns) == (start_ns, end_ns)]


class Corrections:
    """Knows which final statements late history has reached.

    newest : final statements by key, kept by the settlement; the one with the highest revision
    reach  : how far before and after an interval rows can change it [ns] (`Books.reach_ns`)
    """

    def __init__(
        self,
        folder: Path,
        newest: dict[str, Statement],
        reach: Callable[[], tuple[int, int]] = lambda: (LEAD_S * NS, 0),
    ) -> None:
        self.beyond = 0  # intervals that can no longer be settled again
        self.rests_on: list[Closed] = []  # what the last corrections rest on
        self._folder, self._newest, self._reaching = folder, newest, reach
        self._touched: set[tuple[int, int]] = set()
        self._last_ns = 0
        self._late: Late | None = None
        self._missed()

    @property
    def waiting(self) -> int:
        """Intervals still to be settled again."""
        return len(self._touched)

    def touch(self, rows: Block, now_ns: int) -> None:
        """Late rows have come, and are on disk or will be by the time they are due. rows : FREQUENCY[n]"""
        t_ns = rows["t_ns"]
        self._reach(int(t_ns.min()), int(t_ns.max()), self._newest.values())
        self._last_ns, self._late = now_ns, None

    def due(self, now_ns: int) -> bool:
        """Whether an interval waits and no more history is likely to come for it."""
        return bool(self._touched) and now_ns - self._last_ns >= CORRECT_S * NS

    def next(self) -> list[Statement]:
        """The corrections of one interval: those statements of it that come out differently.

        The files must hold all that was read. Raises what reading them raises.
        """
        start_ns, end_ns = min(self._touched)
        late = self._late = read_late(self._folder) if self._late is None else self._late
        found: list[Statement] = []
        self.rests_on = []
        if start_ns < reach_ns(self._folder):
            self.beyond += 1
        else:
            found = [
                self._correction(item) for item in resettle(self._folder, start_ns, end_ns, late, self.rests_on.append)
            ]
        self._touched.discard((start_ns, end_ns))
        return [item for item in found if item.revision]

    def _correction(self, found: Statement) -> Statement:
        """As the next revision if it says anything new; as it is where nothing was stated before or it is the same."""
        before = self._newest.get(found.key)
        if before is None:
            return found
        again = dataclasses.replace(found, revision=before.revision)
        if differing(before, again) is None:
            return dataclasses.replace(found, revision=0)
        return dataclasses.replace(found, revision=before.revision + 1)

    def _reach(self, first_ns: int, last_ns: int, statements: Iterable[Statement]) -> None:
        """An interval is reached by what lies in it, in the past that its products remember, or in its sequel."""
        before_ns, after_ns = self._reaching()
        for item in statements:
            if item.start_ns - before_ns <= last_ns and first_ns < item.end_ns + after_ns:
                self._touched.add((item.start_ns, item.end_ns))

    def _missed(self) -> None:
        """History on disk that a life before this one had no time to take into account."""
        for rows, epoch, seq in journal_reader.numbered(self._folder, Kind.BACKFILL):
            # Rows of one entry lie together.
            begins = np.flatnonzero(np.diff(epoch, prepend=-1) | np.diff(seq, prepend=-1))
            first_ns = np.minimum.reduceat(rows["t_ns"], begins) if begins.size else rows["t_ns"]
            last_ns = np.maximum.reduceat(rows["t_ns"], begins) if begins.size else rows["t_ns"]
            for k, at in enumerate(begins.tolist()):
                entry = int(epoch[at]), int(seq[at])
                older = (item for item in self._newest.values() if place(item.history.through) < entry)
                self._reach(int(first_ns[k]), int(last_ns[k]), older)
