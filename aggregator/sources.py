"""The sources of frequency of one ingest process: made, followed, judged each by a gate of its own, one chosen.

A single source needs no choice: its rows pass as its gate marked them. Of several, `telemetry.choice` makes one row a
decision, and what each of them said is kept beside it. Alarms of the sources stand here, because what reaches the core
no longer shows that one of them is gone. Time is passed in; the clients' threads put their blocks into `Inbox`.

Policy: the inbox never waits, drops nothing and has no bound: it is emptied at every turn of the process' loop, which
waits for no server.
"""

from __future__ import annotations

import importlib
from collections import deque
from dataclasses import asdict, dataclass
from threading import Event, Thread
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from aggregator.alarms import Alarm, Alarms
from aggregator.config import ChoiceTable, Config, SourceTable, UnitTable
from aggregator.standings import Watch, state_of
from telemetry.choice import Choice, ChoiceSettings
from telemetry.median import Judge, MedianGate
from telemetry.quality import Gate, GateSettings
from telemetry.samples import FREQUENCY, Block, empty
from telemetry.source import FrequencySource
from telemetry.standing import Row, Standing

KINDS: Final = {"iec61850": "telemetry.iec61850", "c37118": "telemetry.c37118", "goose": "telemetry.goose"}


class Late(Protocol):
    """Where sources' late history goes (`history.Histories`)."""

    def options(self, name: str) -> dict[str, Any]:
        """What the client of a source is given for it."""

    def follow(self, name: str, source: Any) -> None:
        """Keep how far this source's history has come."""


class SourceError(ValueError):
    """A source that cannot be made; the message names the field and the remedy."""


class Inbox:
    """Blocks from the sources' threads, handed to the process' own."""

    def __init__(self) -> None:
        self._blocks: deque[Block] = deque()
        self._ready = Event()

    def put(self, block: Block) -> None:
        """Called by a source; never waits."""
        self._blocks.append(block)
        self._ready.set()

    def take(self, seconds: float) -> list[Block]:
        """What has come, or nothing after `seconds`."""
        self._ready.wait(seconds)
        self._ready.clear()
        taken = []
        while self._blocks:
            taken.append(self._blocks.popleft())
        return taken


def gate_settings(config: Config, nominal_hz: float) -> GateSettings:
    """The gate's settings from the configuration; what it leaves open keeps the gate's own default."""
    table = config.quality.model_dump(exclude={"spike_test"})
    return GateSettings(nominal_hz=nominal_hz, **{name: value for name, value in table.items() if value is not None})


def choice_settings(table: ChoiceTable) -> ChoiceSettings:
    """Likewise of the choice."""
    return ChoiceSettings(**{name: value for name, value in table.model_dump().items() if value is not None})


def make(table: SourceTable, unit: UnitTable, number: int, late: Late | None = None) -> FrequencySource:
    """The client of one source, not started; `number` is that of its rows. late : where its history goes, if anywhere

    Raises SourceError and what the client's package raises.
    """
    place, options, history = _addressed(table, unit)
    if history and late is not None:
        options |= late.options(table.name)
    try:
        package = importlib.import_module(KINDS[table.kind])
    except ModuleNotFoundError as error:
        raise SourceError(f"`source.kind` of {table.name!r}: {table.kind}: {error}; choose another kind") from error
    try:
        source: FrequencySource = package.make_client(*place, **options, source=number)
    except TypeError as error:
        raise SourceError(f"`source.options` of {table.name!r}: {error}; remove or correct it") from error
    except ValueError as error:
        raise SourceError(f"`source` {table.name!r}: {error}") from error
    if history and late is not None:
        late.follow(table.name, source)
    return source


def _addressed(table: SourceTable, unit: UnitTable) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
    """How a kind's `make_client` is called, by place and by name; whether a history is wanted. Raises SourceError."""
    if table.kind != "iec61850":
        own = {"nominal_volt": table.nominal_volt or unit.nominal_volt}
        # A message by GOOSE says itself how long it lives; what [unit] says of reports is nothing to it.
        silent_s = table.silent_after_s or (unit.silent_after_s if table.kind != "goose" else None)
        if silent_s is not None:
            own["silent_after_s"] = silent_s
        for name in ("nominal_volt", "silent_after_s"):
            if name in table.options:
                raise SourceError(
                    f"`source.options` of {table.name!r}: {name} stands beside `options`, in [[source]] itself"
                )
        return (table.host, table.port), {**own, **table.options}, False
    from aggregator.measuring import client_options, device  # its package is only loaded where it is followed

    try:
        one = device(table, unit)
    except ValueError as error:
        raise SourceError(f"`source.options` of {table.name!r}: {error}") from error
    return (one.backend, one.host, one.port, one.report_block), client_options(one), one.history


@dataclass(frozen=True)
class Followed:
    """One source with its gate."""

    table: SourceTable
    source: FrequencySource
    gate: Judge


class Taken(NamedTuple):
    """What some blocks came to."""

    decided: Block  # FREQUENCY[m]  for the core
    judged: Block  # FREQUENCY[n]  what each source said; empty where there is but one, whose rows are the decisions


class Sources:
    """All sources of the process.

    followed : number of its rows -> source, preferred ones first
    begun_ns : when they were started
    """

    def __init__(self, followed: dict[int, Followed], settings: ChoiceSettings, begun_ns: int) -> None:
        self.followed = followed
        self.choice = Choice(tuple(followed), settings)
        self._watch = Watch(self.choice, begun_ns)
        self.alarms = Alarms()
        self._alone = len(followed) == 1

    def start(self, inbox: Inbox) -> None:
        """Follow all of them."""
        for one in self.followed.values():
            one.source.start(inbox.put)

    def stop(self) -> None:
        """End all of them, at once: each may take seconds whose peer does not answer."""
        enders = [Thread(target=one.source.stop, name="stop") for one in self.followed.values()]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()

    def take(self, blocks: list[Block]) -> Taken:
        """Judge what has come and choose. blocks : FREQUENCY[n] each, of one source each"""
        return self._choose(
            [self.followed[int(block["source"][0])].gate.check(block) for block in blocks if block.size]
        )

    def flush(self) -> Taken:
        """What the gates still hold back, after the sources have ended."""
        return self._choose([one.gate.flush() for one in self.followed.values()])

    def _choose(self, judged: list[Block]) -> Taken:
        rows = judged[0] if len(judged) == 1 else np.concatenate([empty(FREQUENCY), *judged])
        if not self._alone:
            return Taken(*self.choice.take(rows))
        # What one source says is passed on whole, the bad rows too: there is nothing to choose.
        standing = self.choice.sources[0]
        for values in rows.tolist():
            standing.hear(Row(*values))
        standing.decided += int(rows.size)
        return Taken(rows, empty(FREQUENCY))

    def watch(self, now_ns: int) -> list[Alarm]:
        """Raise and clear the alarms of several sources; what changed, for the record. All of them lost is a frequency
        lost, which the core tells.
        """
        if self._alone:
            return []
        self.alarms.set("SOURCE_LOST", self._watch.missed(now_ns), now_ns)
        self.alarms.set("SOURCES_DISAGREE", self.choice.disagreeing(now_ns), now_ns)
        return self.alarms.drain()

    def figures(self, now_ns: int) -> dict[str, Any]:
        """JSON-ready: each source with its state, the choice, the alarms."""
        choice = self.choice
        used = frozenset(self.followed) if self._alone else choice.used()
        return {
            "rejected": self._rejected(),
            "sources": [self._source(s, s.number in used, now_ns) for s in choice.sources],
            "choice": {
                "policy": choice.settings.policy, "decisions": sum(s.decided for s in choice.sources),
                "switches": choice.switches,
                "outvotings": choice.agreement.outvotings, "strangers": choice.strangers,
            },
            "alarms": self.alarms.raised,
            "standing": [asdict(alarm) for alarm in self.alarms.standing()],
        }  # fmt: skip

    def _rejected(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for number in self.followed:
            for reason, count in self._of(number).items():
                total[reason] = total.get(reason, 0) + count
        return total

    def _of(self, number: int) -> dict[str, int]:
        """One source's rows that may not move a vehicle, by reason."""
        contradicted = next(s.contradicted for s in self.choice.sources if s.number == number)
        found = self.followed[number].gate.rejected()
        return {**found, "outvoted": contradicted} if contradicted else found

    def _source(self, standing: Standing, used: bool, now_ns: int) -> dict[str, Any]:
        one = self.followed[standing.number]
        table, skew = one.table, one.gate.skew()
        state, why = state_of(standing, used, self.choice, now_ns)
        return {
            "number": standing.number, "name": table.name, "kind": table.kind, "address": f"{table.host}:{table.port}",
            "priority": table.priority, "used": used and state == "used", "state": state, "why": why,
            "hz": standing.row.hz if standing.row is not None and standing.fresh(now_ns) else None,
            "decided": standing.decided, "rejected": self._of(standing.number),
            "clock": {name: value if value == value else None for name, value in skew._asdict().items()},
            "link": dict(one.source.status().__dict__),
        }  # fmt: skip


def follow(
    config: Config, nominal_hz: float, begun_ns: int, late: Late | None = None, ingest: str = "i1"
) -> Sources:  # fmt: skip
    """The sources that an ingest is to follow, not started. Raises SourceError and what the clients' packages raise."""
    settings = gate_settings(config, nominal_hz)
    gate = MedianGate if config.quality.spike_test == "median" else Gate
    followed = {
        number: Followed(table, make(table, config.unit, number, late), gate(settings, live=True))
        for number, table in config.sources_of(ingest).items()
    }
    return Sources(followed, choice_settings(config.choice), begun_ns)
