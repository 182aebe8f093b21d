"""The frequency as a worker follows it: one ingest's stream, or several whose rows are chosen from.

One ingest: every entry is a sample, as it came. Several: each one's rows are as much as a source's
(`telemetry.choice`, by default the first in the order given), so that the core still sees one row a decision; an ingest
that is silent is stood in for within 1.25 periods. Which measuring point a row is from stays in it, whichever ingest
brought it; where several follow one point, a sample that has been decided on is not decided on again.

Policy: nothing is kept but the entries that no decision has come from yet, a period's at most. They count as dealt with
when the next one is made, so that whoever takes over reads them again. The choice itself is not taken over: it begins
anew with the rows that come. Pure: no clock, no stream; arrivals and time are passed in.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from aggregator.standings import Watch, state_of
from telemetry.choice import STEPPED_NS, Choice, ChoiceSettings
from telemetry.redis_stream import Row, parse_id
from telemetry.samples import Block

LEAST_WAIT_MS: Final = 1


class Sample(NamedTuple):
    """What the core is given at once, and what that deals with."""

    row: Row  # the entry that the value came with
    block: Block  # FREQUENCY[n]
    dealt: tuple[tuple[str, str, int], ...]  # key, entry and number of rows of every entry that this settles


class Hole(NamedTuple):
    """Entries that a stream lost. of : as GAP rows name it"""

    of: str
    epoch: int
    first: int
    last: int


class _Ingest:
    """One ingest's stream. of : as GAP rows and notes name it; the first one of the order has no suffix"""

    def __init__(self, key: str, name: str, rank: int) -> None:
        self.key, self.name = key, name
        self.suffix = f":{name}" if rank else ""
        self.of = f"frequency-{name}" if rank else "frequency"
        self.place = (0, 0)  # of the newest entry read
        self.first_id, self.ticked = "", 0
        self.said: tuple[Row, int] | None = None  # its newest usable entry, and the measuring point of it


class Frequency:
    """The streams of an area's ingests, `names` in order of preference."""

    def __init__(self, area: str, names: Sequence[str], settings: ChoiceSettings | None, begun_ns: int) -> None:
        self._ingests = {key: _Ingest(key, name, k) for k, (key, name) in enumerate(_keys(area, names))}
        self.keys = tuple(self._ingests)
        self._numbers = {key: k for k, key in enumerate(self.keys, 1)}
        self._choice = Choice(range(1, len(names) + 1), settings) if len(names) > 1 else None
        self._watch = Watch(self._choice, begun_ns) if self._choice is not None else None
        self._waiting: list[tuple[str, str, int]] = []  # entries read that no decision has come from
        self._taken_s = 0.0
        self._newest_ns: dict[int, int] = {}  # of each measuring point, the newest stamp decided on

    @property
    def ticked(self) -> int:
        """Rows dealt with, of all ingests."""
        return sum(one.ticked for one in self._ingests.values())

    def begin(self, positions: Mapping[str, str]) -> None:
        """Entries after these are the ones that are expected."""
        for key, one in self._ingests.items():
            one.place = parse_id(positions.get(key, "0"))

    def hole(self, row: Row) -> Hole | None:
        """What its stream lost before this entry; to be asked once for each, in order."""
        one = self._ingests[row.key]
        (epoch, counter), before = parse_id(row.entry_id), one.place
        one.place = epoch, counter
        first = before[1] + 1 if epoch == before[0] else 1
        return Hole(one.of, epoch, first, counter - 1) if before != (0, 0) and counter > first else None

    def take(self, read: list[tuple[Row, Block]], mono_s: float) -> list[Sample]:
        """What is to be decided on. read : entries in order of each stream, blocks not empty; mono_s : monotonic"""
        if self._choice is None:
            return [Sample(row, block, ((row.key, row.entry_id, int(block.size)),)) for row, block in read]
        if read:
            self._taken_s = mono_s
        found: list[Sample] = []
        # A poll tells one stream after the other: what was heard first goes first, each stream in its own order.
        streams = [[pair for pair in read if pair[0].key == key] for key in self.keys]
        for row, block in heapq.merge(*streams, key=lambda pair: int(pair[1]["rx_ns"][0])):
            found += self._chosen(self._choice, row, block)
        return found

    def overdue(self, mono_s: float) -> list[Sample]:
        """The decision that is overdue, made on what another ingest has said already."""
        choice = self._choice
        if choice is None or not choice.due_ns():
            return []
        return self._of(choice.overdue(choice.now_ns + round(1e9 * (mono_s - self._taken_s))))

    def wait_ms(self, most_ms: int, mono_s: float) -> int:
        """How long to wait for entries, so that no decision becomes overdue unseen."""
        due_ns = self._choice.due_ns() if self._choice is not None else 0
        if self._choice is None or not due_ns:
            return most_ms
        left_ms = (due_ns - self._choice.now_ns) / 1e6 - 1e3 * (mono_s - self._taken_s)
        return max(LEAST_WAIT_MS, min(most_ms, int(left_ms) + 1))

    def dealt(self, sample: Sample) -> dict[str, str]:
        """Count a sample that the core has; of each stream the newest entry that is settled by it."""
        return self._settle(sample.dealt)

    def rest(self) -> dict[str, str]:
        """Likewise of the entries that no decision will come from any more: nothing else will be read."""
        rest, self._waiting = self._waiting, []
        return self._settle(rest)

    def missed(self, now_ns: int) -> bool:
        """Whether an ingest is silent, or has nothing usable, while another one serves."""
        return self._watch is not None and self._watch.missed(now_ns)

    def disagreeing(self, now_ns: int) -> bool:
        """Whether ingests contradict each other."""
        return self._choice is not None and self._choice.disagreeing(now_ns)

    def note(self) -> dict[str, str]:
        """Counters for whoever goes on from here."""
        told: dict[str, str] = {}
        for one in self._ingests.values():
            told |= {f"ticked{one.suffix}": str(one.ticked), f"first{one.suffix}": one.first_id}
        return told

    def go_on(self, note: Mapping[str, str]) -> None:
        """Take up the counters of the worker before. note : what it said, stream positions besides"""
        self.begin(note)
        for one in self._ingests.values():
            one.ticked = int(note.get(f"ticked{one.suffix}", "0"))
            one.first_id = note.get(f"first{one.suffix}", "")

    def figures(self, positions: Mapping[str, str]) -> dict[str, Any]:
        """What this worker has read. positions : of the streams"""
        first = self._ingests[self.keys[0]]
        told: dict[str, Any] = {
            "first_id": first.first_id, "last_id": positions.get(first.key, "0-0"), "ticked": self.ticked,
        }  # fmt: skip
        if self._choice is None:
            return told
        several = {
            one.name: {"first_id": one.first_id, "last_id": positions.get(one.key, "0-0"), "ticked": one.ticked}
            for one in self._ingests.values()
        }
        return told | {"ingests": several, "switches": self._choice.switches}

    def shown(self, now_ns: int) -> list[dict[str, Any]]:
        """How each ingest stands, preferred ones first; of one alone there is nothing to tell."""
        choice = self._choice
        if choice is None:
            return []
        found = []
        for standing, one in zip(choice.sources, self._ingests.values(), strict=True):
            used = standing.number in choice.used()
            state, why = state_of(standing, used, choice, now_ns)
            found.append({
                "number": standing.number, "name": one.name, "kind": "ingest", "address": one.key,
                "priority": standing.rank + 1, "used": used and state == "used", "state": state, "why": why,
                "hz": standing.row.hz if standing.row is not None and standing.fresh(now_ns) else None,
                "decided": standing.decided,
            })  # fmt: skip
        return found

    def _chosen(self, choice: Choice, row: Row, block: Block) -> list[Sample]:
        one, number = self._ingests[row.key], self._numbers[row.key]
        self._waiting.append((row.key, row.entry_id, int(block.size)))
        found: list[Sample] = []
        for k in range(block.size):
            said = block[k : k + 1].copy()
            point = int(said["source"][0])
            said["source"] = number
            before, one.said = one.said, (row, point)
            found += self._of(choice.take(said).decided)
            if before is not None and (said["quality"][0] or not math.isfinite(said["hz"][0])):
                one.said = before  # a later decision may rest on the usable one before it
        return found

    def _of(self, decided: Block) -> list[Sample]:
        """A decision, with the measuring point that its value is from in its row again."""
        found = []
        for k in range(decided.size):
            block = decided[k : k + 1].copy()
            said = self._ingests[self.keys[int(block["source"][0]) - 1]].said
            if said is None:  # what decides has spoken
                continue
            row, block["source"] = said
            if self._known(block):
                continue  # what it deals with waits for the next one
            found.append(Sample(row, block, tuple(self._waiting)))
            self._waiting = []
        return found

    def _known(self, block: Block) -> bool:
        """Whether a usable sample of this point, of this very moment or a later one, was decided on: told by another
        ingest. One that is older by more than ways differ comes by a clock that was set back.
        """
        point, t_ns = int(block["source"][0]), int(block["t_ns"][0])
        if block["quality"][0]:
            return False
        known = 0 <= self._newest_ns.get(point, -STEPPED_NS) - t_ns <= STEPPED_NS
        if not known:
            self._newest_ns[point] = t_ns
        return known

    def _settle(self, entries: Iterable[tuple[str, str, int]]) -> dict[str, str]:
        done: dict[str, str] = {}
        for key, entry_id, rows in entries:
            one = self._ingests[key]
            one.ticked += rows
            one.first_id = one.first_id or entry_id
            done[key] = entry_id
        return done


def together(samples: Sequence[Sample]) -> Block:
    """What several samples give the core in one call."""
    return samples[0].block if len(samples) == 1 else np.concatenate([sample.block for sample in samples])


def _keys(area: str, names: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"freq:{area}:{name}", name) for name in names]
