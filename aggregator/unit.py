"""The measuring unit's process: an IEC 61850 server that plays a recorded trace or a seeded generator.

It stands where an instrument at the grid would. Faults on request: spikes, stuck values, a dead bus, a clock
jump, silence.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.config import UnitTable
from aggregator.process import Log, Stop
from telemetry.generator import Generator, parse_faults
from telemetry.iec61850 import make_unit
from telemetry.player import Player
from telemetry.traces import open_trace


@dataclass(frozen=True)
class Playing:
    """What the unit plays. trace : a file, or None for the generator"""

    nominal_hz: float
    trace: Path | None = None
    overrides: dict[str, Any] | None = None


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
    begin_s = time.monotonic()
    k = 0
    while not stop:
        due_s = begin_s + k / unit.rate_hz - time.monotonic()
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
    faults = parse_faults(",".join(unit.faults))
    if playing.trace is None:
        return Generator(playing.nominal_hz, unit.rate_hz, unit.seed, unit.trip_every_s, faults)
    rows = open_trace(playing.trace, **(playing.overrides or {})).read_all()
    return Player(rows, playing.nominal_hz, unit.rate_hz, faults)
