"""The measuring unit's process: an IEC 61850 server that plays a recorded trace or a seeded generator.

It stands where an instrument at the grid would; several of them show one grid, each with its own noise. Faults on
request: spikes, stuck values, a dead bus, a clock that jumps or drifts, a reading that lies, silence. A fault is of
the first unit, or of unit N when it is written `N:fault`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator.config import UnitTable
from aggregator.process import Log, Stop
from telemetry.generator import Fault, Generator, parse_faults
from telemetry.iec61850 import make_unit
from telemetry.player import Player
from telemetry.traces import open_trace

# So late, the unit was stopped and goes on with what is true now: a value of a second ago is not of now.
FROZEN_S: Final = 0.5


@dataclass(frozen=True)
class Playing:
    """What the unit plays.

    trace    : a file, or None for the generator
    number   : which of several units it is, from 1
    begun_ns : when its sample 0 was due, the same for all units of a grid and all their lives; None: now
    """

    nominal_hz: float
    trace: Path | None = None
    overrides: dict[str, Any] | None = None
    number: int = 1
    begun_ns: int | None = None


def serve(unit: UnitTable, playing: Playing, stop: Stop, log: Log) -> None:
    """Publish samples at the unit's rate until told to stop; a trace that has ended leaves the unit silent.

    Raises what `make_unit` and `open_trace` raise.
    """
    source = _source(unit, playing)
    server = make_unit(
        unit.backend, unit.port, unit.host, nominal_hz=playing.nominal_hz, nominal_volt=unit.nominal_volt
    )
    server.start()
    log.info("measuring unit up", host=server.host, port=server.port, rate_hz=unit.rate_hz, trace=str(playing.trace))
    past_s = 0.0 if playing.begun_ns is None else max((time.time_ns() - playing.begun_ns) * 1e-9, 0.0)
    begin_s = time.monotonic() - past_s
    k = math.ceil(past_s * unit.rate_hz)
    while not stop:
        due_s = begin_s + k / unit.rate_hz - time.monotonic()
        if due_s < -FROZEN_S:
            k = math.ceil((time.monotonic() - begin_s) * unit.rate_hz)
            continue
        if due_s > 0:
            stop.wait(due_s)
        ended = isinstance(source, Player) and k >= source.length
        sample = source.sample(k)
        k += 1
        if not sample.silent and not ended:
            t_ns = time.time_ns() + sample.clock_offset_ns
            volts = sample.volt_frac * unit.nominal_volt
            server.publish(t_ns, sample.hz, volts if np.isfinite(volts) else unit.nominal_volt, sample.quality)
    server.stop()


def _source(unit: UnitTable, playing: Playing) -> Generator | Player:
    faults, other = faults_of(unit.faults, playing.number), playing.number - 1
    if playing.trace is None:
        return Generator(playing.nominal_hz, unit.rate_hz, unit.seed, unit.trip_every_s, faults, other)
    rows = open_trace(playing.trace, **(playing.overrides or {})).read_all()
    return Player(rows, playing.nominal_hz, unit.rate_hz, faults, other)


def faults_of(faults: Iterable[str], number: int) -> tuple[Fault, ...]:
    """The faults of one unit among those written for all. Raises ValueError for one that cannot be read."""
    return parse_faults(",".join(fault for unit, fault in _by_unit(faults) if unit == number))


def named_units(faults: Iterable[str]) -> set[int]:
    """The units that have a fault, from 1."""
    return {unit for unit, _ in _by_unit(faults)}


def _by_unit(faults: Iterable[str]) -> Iterator[tuple[int, str]]:
    """(unit, fault) of each as written: "2:lie@8" is the second unit's, "lie@8" the first one's."""
    for word in re.split(r"[,\s]+", ",".join(faults)):
        found = re.fullmatch(r"(\d+):(.+)", word)
        if word:
            yield (int(found[1]), found[2]) if found else (1, word)
