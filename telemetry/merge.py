"""One stream from several servers as one: each entry once, in order, and every gap counted.

Pure: no I/O, no clock; time is passed in. The same writer gives an entry the same ID on every server
(`telemetry.paired_writer`), so the ID alone tells a copy from news.

Policy for buffers and losses:
- An entry that follows the last one delivered goes out at once, whichever server brought it.
- One that leaves a gap is held while another server that answers may still bring what lies between, and no longer
  than `patience_s`. Then it goes out, and the counters skipped within an epoch are counted (`missing`).
- What arrives at or behind the last one delivered is a copy (`duplicates`), or was given up for missing and is now
  too late (`late`): it must not go back in time, so it is counted and dropped.
- Held entries are as many as come within `patience_s`; nothing else is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from telemetry.redis_stream import Row, parse_id

PATIENCE_S: Final = 0.02  # a period at 50 Hz
NOWHERE: Final = (0, 0)
Place = tuple[int, int]


class Gap(NamedTuple):
    """IDs given up within one epoch: counters from `first` up to, not including, `end`."""

    epoch: int
    first: int
    end: int


class Merge:
    """One stream, as several servers tell it.

    start    : ID of the last entry already known; "0" for all that is kept
    sides    : how many servers hold it
    position : ID of the last entry delivered
    """

    def __init__(self, start: str, sides: int, patience_s: float = PATIENCE_S) -> None:
        self._place: Place = parse_id(start)
        self._patience_s = patience_s
        self._heard: list[Place] = [self._place] * sides
        self._held: dict[Place, Row] = {}
        self._since_s: float | None = None
        self._given_up: list[Gap] = []
        self.missing = self.duplicates = self.late = 0

    @property
    def position(self) -> str:
        """ID of the last entry delivered, or what was known at the start."""
        return f"{self._place[0]}-{self._place[1]}"

    def heard(self, side: int) -> str:
        """The furthest that a server need not be asked for again."""
        place = max(self._heard[side], self._place)
        return f"{place[0]}-{place[1]}"

    def offer(self, side: int, row: Row) -> None:
        """An entry as server number `side` told it."""
        place = parse_id(row.entry_id)
        self._heard[side] = max(self._heard[side], place)
        if place > self._place and place not in self._held:
            self._held[place] = row
        elif place <= self._place and self._was_given_up(place):
            self.late += 1
        else:
            self.duplicates += 1

    def ready(self, answering: Sequence[bool], now_s: float) -> list[Row]:
        """Entries that may go out now, in order.

        answering : of each server, whether it may still bring something; now_s : monotonic
        """
        rows: list[Row] = []
        for place in sorted(self._held):
            if not (
                self._follows(place) or self._nobody_knows_better(place, answering) or self._out_of_patience(now_s)
            ):
                break
            self._pass(place)
            rows.append(self._held.pop(place))
        if not self._held:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        return rows

    def due_s(self) -> float | None:
        """When patience ends (monotonic); None while nothing is held."""
        return None if self._since_s is None else self._since_s + self._patience_s

    def _follows(self, place: Place) -> bool:
        return place == (self._place[0], self._place[1] + 1)

    def _nobody_knows_better(self, place: Place, answering: Sequence[bool]) -> bool:
        """Whether every server that answers has come as far as this entry."""
        return all(heard >= place or not well for heard, well in zip(self._heard, answering, strict=True))

    def _out_of_patience(self, now_s: float) -> bool:
        due_s = self.due_s()
        return due_s is not None and now_s >= due_s

    def _pass(self, place: Place) -> None:
        """Move on to an entry and count what was jumped over."""
        (last_epoch, last), (epoch, counter) = self._place, place
        # From nowhere nothing is known. A new epoch begins with 1: first seen later, it has lost its beginning.
        first = last + 1 if epoch == last_epoch else 1
        if self._place != NOWHERE and counter > first:
            self.missing += counter - first
            self._given_up = [*self._given_up[-9:], Gap(epoch, first, counter)]
        self._place = place

    def _was_given_up(self, place: Place) -> bool:
        epoch, counter = place
        return any(gap.epoch == epoch and gap.first <= counter < gap.end for gap in self._given_up)
