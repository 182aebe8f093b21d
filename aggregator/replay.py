"""A recorded run once more: the journal's calls into a new core, and its commands compared byte by byte.

Equal bytes mean that nothing but the journalled calls decided what the vehicles were told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from aggregator.contracts import CoreSettings, from_json
from aggregator.core import Aggregator
from aggregator.journal import TIME, Entry, Kind
from telemetry import wire

NOBODY: Final = (0, 0)


class ReplayError(ValueError):
    """A journal that cannot be replayed; the message names what is missing."""


@dataclass
class Comparison:
    """What a replay found.

    extra            : commands made that were never sent
    first_difference : sequence of the first command that differs, in journal numbers
    """

    calls: int = 0
    commands: int = 0
    equal: int = 0
    extra: int = 0
    gaps: int = 0
    first_difference: int | None = None

    @property
    def same(self) -> bool:
        """Whether every command came out as it was sent."""
        return self.commands > 0 and self.equal == self.commands and not self.extra


def replay(entries: Iterable[Entry], keys: Mapping[int, bytes]) -> Comparison:
    """Drive a new core with the calls of a journal. keys : key id -> key, as the run had them"""
    found = Comparison()
    core: Aggregator | None = None
    key = b""
    made: list[bytes] = []
    for entry in entries:
        if entry.kind is Kind.START:
            found.extra += len(made)
            settings = from_json(entry.payload)
            core, key, made = _begun(core, settings), _key(keys, settings.key_id), []
        elif entry.kind is Kind.GAP:
            found.gaps += 1
        elif core is None:
            raise ReplayError(f"entry {entry.seq}: a call before any START; the journal's beginning is missing")
        elif entry.kind is Kind.COMMANDS:
            _compare(found, made, entry)
        elif entry.kind < Kind.TICKS:
            found.calls += 1
            call(core, entry)
            made += [core.sign(command, key) for command in core.drain_commands()]
            core.drain_entries()
    found.extra += len(made)
    return found


def rebuilt(entries: Iterable[Entry]) -> Aggregator | None:
    """The core as the calls of a journal leave it; None where it never began. Raises ReplayError."""
    core: Aggregator | None = None
    for entry in entries:
        if entry.kind is Kind.START:
            core = _begun(core, from_json(entry.payload))
        elif core is not None and entry.kind < Kind.TICKS:
            call(core, entry)
            core.drain_commands()
            core.drain_entries()
    return core


def _begun(core: Aggregator | None, settings: CoreSettings) -> Aggregator:
    """The core that a START begins: a new one, or the one before it under a new owner."""
    if settings.continues == NOBODY:
        return Aggregator(settings)
    if core is None or core.settings.epoch != settings.continues[0]:
        raise ReplayError(f"epoch {settings.epoch} goes on from epoch {settings.continues[0]}, which is not before it")
    core.take_over(settings)
    core.drain_entries()
    return core


def call(core: Aggregator, entry: Entry) -> None:
    """One journalled call into the core."""
    if entry.kind is Kind.TIME:
        core.on_time(*TIME.unpack(entry.payload))
    elif entry.kind is Kind.RENEW:
        core.on_renew(*TIME.unpack(entry.payload))
    elif entry.kind is Kind.SOLD:
        core.sell(orjson.loads(entry.payload), entry.now_ns)
    else:
        doors = {
            Kind.SAMPLES: core.on_samples, Kind.VEHICLES: core.on_vehicles, Kind.SESSIONS: core.on_sessions,
            Kind.METERS: core.on_meters, Kind.SIGNAL: core.on_signal, Kind.WISHES: core.on_wishes,
        }  # fmt: skip
        doors[entry.kind](wire.decode(entry.payload), entry.now_ns)


def _compare(found: Comparison, made: list[bytes], entry: Entry) -> None:
    found.commands += 1
    if made and made.pop(0) == entry.payload:
        found.equal += 1
    elif found.first_difference is None:
        found.first_difference = entry.seq


def _key(keys: Mapping[int, bytes], key_id: int) -> bytes:
    if key_id not in keys:
        raise ReplayError(f"key {key_id} signed this run and is not at hand; give the run's own folder")
    return keys[key_id]
