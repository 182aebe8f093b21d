"""One frequency out of several sources: whose value is acted on, sample by sample.

Rows come judged by each source's own gate, in order of arrival, and leave as one row a decision, whose `source` tells
whose value it is. Two policies:

- `priority`: the first source in service in the order given; its rows pace the decisions. Another one stands in for a
  row that is overdue, at its own next row, so that no decision is later than a period of the one that lives; a row
  that comes right after its stand-in makes no second decision. Who asks by the clock (`overdue`) waits less: a row of
  another that is there already stands in, so that no decision is later than 1.25 periods.
- `voting`: the median of all in service, of two their mean, whatever their order. A decision is due when each has
  spoken since the last one, or one has spoken twice. The row carries stamps, voltage and source of the newest row that
  is nearest to the median, and no row carries two decisions.

Under both, sources are compared all the time (`telemetry.agreement`): one that a majority contradicts is OUTVOTED and
not used. Of two that disagree the first in the order is believed, and the difference is told. While one source sees a
dead bus, those without a voltage are not used: what they print may be a ghost.

Bumpless: when the sources that the value rests on change, the output goes on from where it was, with the new source's
own movement, and the difference, `agree_hz` at most, is given back at `slew_hz_s`. It does not go on from a source
that was found wrong or dead, nor over a gap longer than `out_s`: then it steps.

Nothing is invented: with no usable source the best one's rows pass with their marks, and with no rows nothing passes.
How long the last value is held then is the product's affair, decided where the response is made. Policy for rows:
every row comes back in `judged`, those of an outvoted source marked; rows of sources not listed are marked INVALID and
counted (`strangers`). A row that its gate held back through a silence (`telemetry.median`) is marked AGE and changes
nothing. Gates hold one row at most: a source's row from before what was known when its last one came tells that our own
clock was set back, and times are forgotten. Pure: arrivals are the clock, and the result is the same whatever blocks
the rows came in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from telemetry.agreement import Agreement, middle
from telemetry.samples import FREQUENCY, Block, Quality
from telemetry.standing import FRESH_PERIODS, Row, Standing

NS: Final = 1_000_000_000
OUTVOTED: Final = int(Quality.OUTVOTED)
DEAD_BUS: Final = int(Quality.DEAD_BUS)
INVALID: Final = int(Quality.INVALID)
AGE: Final = int(Quality.AGE)
STEPPED_NS: Final = NS  # arrivals that go back further are no disorder: held back, or our own clock was set back
OVERDUE: Final = 1.25  # periods since the last decision: a first row of another source stands in


class ChoiceError(ValueError):
    """A setting no choice can be made with; the message names the field."""


@dataclass(frozen=True)
class ChoiceSettings:
    """How to choose. Two instruments of 10 mHz each (EU 2017/1485, Annex V) agree within 20 mHz.

    policy           `priority` or `voting`
    agree_hz    [Hz] sources within it tell of one grid; also the largest difference taken over in a switch
    disagree_s   [s] a source away from the others for so long is outvoted; no majority for so long is told
    out_s        [s] without a usable row for so long, or three periods, a source is out of service
    return_s     [s] usable for so long it is back; and an outvoted one that agrees for so long
    slew_hz_s [Hz/s] at which the difference between two sources is given back; inf: at once
    window_s     [s] how much later than another an instrument may see the same movement
    """

    policy: Literal["priority", "voting"] = "priority"
    agree_hz: float = 0.02
    disagree_s: float = 0.5
    out_s: float = 0.5
    return_s: float = 5.0
    slew_hz_s: float = 0.02
    window_s: float = 0.1

    def __post_init__(self) -> None:
        if self.policy not in ("priority", "voting"):
            raise ChoiceError(f"policy: {self.policy!r} is not one of priority, voting")
        for name in ("agree_hz", "disagree_s", "out_s", "return_s", "slew_hz_s", "window_s"):
            value = getattr(self, name)
            if not value > 0 or (math.isinf(value) and name != "slew_hz_s"):
                raise ChoiceError(f"{name}: {value!r} must be above 0 and finite")


class Chosen(NamedTuple):
    """What a block of rows came to."""

    decided: Block  # FREQUENCY[m]  one row a decision
    judged: Block  # FREQUENCY[n]  the rows that came in, OUTVOTED and AGE added


class Choice:
    """Chooses among `sources`, their numbers in order of priority."""

    def __init__(self, sources: Sequence[int], settings: ChoiceSettings | None = None) -> None:
        self.settings = s = settings or ChoiceSettings()
        if not sources or len(set(sources)) != len(sources):
            raise ChoiceError(f"sources: {list(sources)!r}: give each number once, and at least one")
        self._out_ns, return_ns = _ns(s.out_s), _ns(s.return_s)
        self.sources = [Standing(number, rank, self._out_ns, return_ns) for rank, number in enumerate(sources)]
        self._by_number = {source.number: source for source in self.sources}
        self.agreement = Agreement(s.agree_hz, _ns(s.disagree_s), return_ns, _ns(s.window_s))
        self._elect = self._by_vote if s.policy == "voting" else self._by_priority
        self._now_ns = 0
        self._basis: frozenset[int] = frozenset()  # the sources that the last value rests on
        self._acting: Standing | None = None  # under priority: whose rows pace
        self._spoken: set[int] = set()  # of the sources waited for
        self._new: set[int] = set()  # sources with a row that came after the last decision
        self._pace: Standing | None = None  # whose period tells when the next decision is overdue
        self._last_ns = 0  # arrival at the last decision that was usable; 0: none yet
        self._last_t_ns = 0  # the stamp that it carried
        self._last_hz = math.nan
        self._shift_hz = 0.0  # what the output still keeps of the source before
        self.switches = self.strangers = 0

    def take(self, block: Block) -> Chosen:
        """Judged rows of any of the sources, in order of arrival. block : FREQUENCY[n]"""
        judged, decided = block.copy(), []
        quality = judged["quality"]
        for i, values in enumerate(block.tolist()):
            row = Row(*values)
            source = self._by_number.get(row.source)
            if source is None:
                self.strangers += 1
                quality[i] |= INVALID
                continue
            old = self._old(source, row)
            if old:
                quality[i] |= AGE
            decision = None if old else self._row(source, row)
            if source.outvoted:
                quality[i] |= OUTVOTED
                source.contradicted += 1
            if decision is not None:
                decided.append(tuple(decision))
        return Chosen(np.array(decided, FREQUENCY), judged)

    @property
    def now_ns(self) -> int:
        """The newest arrival: how far the clock of `due_ns` and `overdue` has come by itself."""
        return self._now_ns

    def due_ns(self) -> int:
        """When the decision that is waited for is overdue, on the clock of the arrivals; 0: there is none, or nothing
        has come that could stand in."""
        if not self._last_ns or self._pace is None or not self._pace.period_ns:
            return 0
        return self._last_ns + int(OVERDUE * self._pace.period_ns) if self._news(self._now_ns) else 0

    def overdue(self, now_ns: int) -> Block:
        """The decision that `due_ns` tells of, once it is due: FREQUENCY[1], of rows taken already; else FREQUENCY[0].

        now_ns : on the clock of the arrivals
        """
        due_ns = self.due_ns()
        if not due_ns or now_ns <= due_ns:
            return np.zeros(0, FREQUENCY)
        self._now_ns = max(self._now_ns, now_ns)
        news = self._news(self._now_ns)
        if not news:
            return np.zeros(0, FREQUENCY)
        if self.settings.policy == "voting":
            row = self._by_vote(None, self._candidates(self._now_ns), self._now_ns, overdue=True)
        else:
            row = self._take_over(news[0], self._now_ns)
        return np.array([] if row is None else [tuple(row)], FREQUENCY)

    def used(self) -> frozenset[int]:
        """The sources that the newest value rests on; empty before the first."""
        return self._basis

    def lost(self, now_ns: int) -> list[int]:
        """Sources that are out of service, those never heard included."""
        return [source.number for source in self.sources if not source.serving(now_ns)]

    def disagreeing(self, now_ns: int) -> bool:
        """Whether a source is outvoted, or they have had no majority for longer than is forgiven."""
        return self.agreement.disagreeing(now_ns) or any(source.outvoted for source in self.sources)

    def _old(self, source: Standing, row: Row) -> bool:
        """Let the clock go on by a row; whether the row was held back for too long to be news."""
        if row.rx_ns < source.known_ns - STEPPED_NS:
            self._restart()
        self._now_ns = source.known_ns = max(self._now_ns, row.rx_ns)
        return self._now_ns - row.rx_ns > max(STEPPED_NS, FRESH_PERIODS * source.period_ns)

    def _row(self, source: Standing, row: Row) -> Row | None:
        now_ns = self._now_ns
        usable = source.hear(row)
        self._new.add(source.number)
        self.agreement.judge(self.sources, now_ns)
        candidates = self._candidates(now_ns)
        if not candidates:
            return self._pass(source, row, now_ns)
        if usable and source in candidates:
            return self._elect(source, candidates, now_ns)
        # A source that falls out of the vote may be the one that the others waited for.
        return self._by_vote(None, candidates, now_ns) if self.settings.policy == "voting" else None

    def _restart(self) -> None:
        """Our clock was set back: nothing that is remembered can be compared with what comes."""
        self._now_ns = self._last_ns = self._last_t_ns = 0
        self.agreement.forget()
        for source in self.sources:
            source.forget()

    def _candidates(self, now_ns: int) -> list[Standing]:
        """Whose value may be used, in order: those in service, or else those on their way back."""
        usable = [s for s in self.sources if s.usable(now_ns)]
        if any(s.sees_dead(now_ns) for s in self.sources):
            usable = [s for s in usable if not s.blind()]
        return [s for s in usable if s.serving(now_ns)] or usable

    def _news(self, now_ns: int) -> list[Standing]:
        """Whose value may be used and is of a later moment than the last decision's, in order."""
        return [
            s for s in self._candidates(now_ns)
            if s.number in self._new and s.row is not None and s.row.t_ns > self._last_t_ns
        ]  # fmt: skip

    def _pass(self, source: Standing, row: Row, now_ns: int) -> Row | None:
        """Nobody is usable: the rows of one of them go on as they are, a dead bus before all else."""
        if not row.quality & DEAD_BUS and any(s.late(now_ns) for s in self.sources):
            return None  # an honest one is a little late: its next row says more than this one
        heard = [s for s in self.sources if s.heard_ns and now_ns - s.heard_ns <= s.gap_ns()]
        speaker = min(heard, key=lambda s: (not s.sees_dead(now_ns), s.rank), default=source)
        if speaker is not source:
            return None
        marks = row.quality
        if not marks:  # usable by itself: it was outvoted, or cannot see that the bus is dead
            marks = OUTVOTED if source.outvoted else INVALID
        source.decided += 1
        return row._replace(quality=marks)

    def _by_priority(self, source: Standing, candidates: list[Standing], now_ns: int) -> Row | None:
        again = source.number in self._spoken
        self._spoken.add(source.number)
        first = source is candidates[0]
        if not first and not self._stands_in(source, again, candidates, now_ns):
            return None
        acting, self._acting = self._acting, source
        if first and acting not in (None, source) and self._made(source, now_ns - self._last_ns):
            return None  # stood in for a moment ago: it has the pace again, and this row's decision is made
        return self._take_over(source, now_ns)

    def _made(self, source: Standing, since_ns: int) -> bool:
        """Whether the decision of a source's row was made by another's: just now, or of this moment or a later one."""
        said = source.row is not None and source.row.t_ns <= self._last_t_ns
        return since_ns < (source.period_ns if said else source.period_ns // 2)

    def _take_over(self, source: Standing, now_ns: int) -> Row | None:
        """One source's value is the decision, and its rows pace the next ones."""
        self._acting = source
        self._spoken.clear()
        return self._decide(source, source.hz(), frozenset((source.number,)), now_ns)

    def _stands_in(self, source: Standing, again: bool, candidates: list[Standing], now_ns: int) -> bool:
        """Whether a row that is not the first one's is taken because that one's is overdue."""
        acting, since_ns = self._acting, now_ns - self._last_ns
        if acting is source:
            return True
        if acting is None or acting not in candidates:
            return since_ns > source.period_ns
        period_ns = acting.period_ns or source.period_ns or self._out_ns  # after its first row none is known
        return since_ns > OVERDUE * period_ns or (again and since_ns > period_ns)

    def _by_vote(
        self, source: Standing | None, candidates: list[Standing], now_ns: int, *, overdue: bool = False
    ) -> Row | None:  # fmt: skip
        again = source is not None and source.number in self._spoken
        if source is not None:
            self._spoken.add(source.number)
        if not again and not overdue and any(s.number not in self._spoken for s in candidates):
            return None
        near_hz = self.agreement.near_hz
        centre = middle([s.hz() for s in candidates])
        if self.agreement.split or centre.hi_hz - centre.lo_hz > near_hz:
            candidates = candidates[:1]
            centre = middle([candidates[0].hz()])
        voters = [s for s in candidates if centre.distance_hz(s.hz()) <= near_hz]
        new = [s for s in voters if s.number in self._new]
        if not new:
            return None
        # Ties by arrival, then by value, then by number: never by the order of the sources.
        carrier = min(new, key=lambda s: (centre.distance_hz(s.hz()), -_rx_ns(s), s.hz(), s.number))
        self._spoken = {source.number} if source is not None and again else set()
        return self._decide(carrier, centre.hz, frozenset(s.number for s in voters), now_ns)

    def _decide(self, carrier: Standing, hz: float, basis: frozenset[int], now_ns: int) -> Row | None:
        """The decision's row, shifted by what is left of the last switch."""
        row = carrier.row
        if row is None:  # a carrier has one
            return None
        if basis != self._basis:
            self._shift_hz = self._shift(basis, now_ns)
            self.switches += bool(self._basis)
            self._basis = basis
        elif self._shift_hz:
            back_hz = self.settings.slew_hz_s * max(now_ns - self._last_ns, 0) * 1e-9
            self._shift_hz = math.copysign(max(abs(self._shift_hz) - back_hz, 0.0), self._shift_hz)
        self._pace = carrier
        self._last_ns, self._last_t_ns, self._last_hz = now_ns, row.t_ns, hz + self._shift_hz
        self._new.clear()
        for source in self.sources:
            source.note(now_ns)
        carrier.decided += 1
        return row._replace(hz=self._last_hz)

    def _shift(self, basis: frozenset[int], now_ns: int) -> float:
        """How far the output stays from the new sources' value [Hz], so that it goes on from where it was."""
        agree_hz = self.settings.agree_hz
        if not self._last_ns or now_ns - self._last_ns > self._out_ns or math.isinf(self.settings.slew_hz_s):
            return 0.0
        left = (self._by_number[number] for number in self._basis - basis)
        if any(source.outvoted or source.sees_dead(now_ns) for source in left):
            return 0.0
        reference_hz = middle([self._by_number[number].said_hz() for number in basis]).hz
        return min(max(self._last_hz - reference_hz, -agree_hz), agree_hz)


def _rx_ns(source: Standing) -> int:
    return source.row.rx_ns if source.row is not None else 0


def _ns(seconds: float) -> int:
    return round(seconds * NS)
