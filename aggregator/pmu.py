"""The PMU's process: a C37.118.2 server that plays a recorded trace or a seeded generator, with faults on request.

It stands where a phasor measuring unit would. Stamps lie on the grid of its rate, full seconds included, as those of a
synchronised unit do, whenever the process comes to send them.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from aggregator.process import Log, Stop
from telemetry import generator
from telemetry.c37118 import simulator
from telemetry.c37118.simulator import SimulatedPmu
from telemetry.c37118.writer import Pmu
from telemetry.generator import Fault, Generator, parse_faults
from telemetry.player import Player
from telemetry.traces import open_trace

NS: Final = 1_000_000_000
# So late, the process was stopped: a unit goes on with what is true now, it does not catch up.
FROZEN_S: Final = 0.5
KINDS: Final = generator.FAULTS | simulator.FAULTS


@dataclass(frozen=True)
class Plan:
    """What the unit is and plays; the fields are the options of `flyball pmu`. trace : None for the generator"""

    port: int = 4712
    host: str = "127.0.0.1"
    rate: int = 50
    trace: Path | None = None
    nominal_hz: float = 50.0
    nominal_volt: float = 11547.0
    seed: int = 1
    faults: tuple[str, ...] = ()
    idcode: int = 1
    others: int = 0
    stream: int | None = None
    floats: bool = True
    polar: bool = True
    send_to: str | None = None

    def __post_init__(self) -> None:
        codes = (self.idcode, self.idcode + self.others, self.idcode if self.stream is None else self.stream)
        wrong = (
            (not 0 <= self.port <= 65535, f"--port {self.port}: give one from 1 to 65535, or 0 for a free one"),
            (not 1 <= self.rate <= 1000, f"--rate {self.rate}: give 1 to 1000 frames a second"),
            (self.nominal_hz not in (50, 60), f"--nominal-hz {self.nominal_hz:g}: give 50 or 60"),
            (not 0 < self.nominal_volt < math.inf, f"--nominal-volt {self.nominal_volt:g}: give a positive number"),
            (not 0 <= self.others <= 99, f"--others {self.others}: give 0 to 99"),
            (min(codes) < 0 or max(codes) > 65535, f"--idcode {self.idcode}: IDCODEs go from 0 to 65535"),
        )
        for is_wrong, what in wrong:
            if is_wrong:
                raise ValueError(what)


def serve(plan: Plan, stop: Stop, log: Log) -> None:
    """Publish at the plan's rate until told to stop; a trace that has ended leaves the unit silent.

    Raises what `SimulatedPmu` and `open_trace` raise, ValueError for an option that cannot be read.
    """
    faults = parse_faults(",".join(plan.faults), KINDS)
    source = _source(plan, tuple(fault for fault in faults if fault.kind in generator.FAULTS))
    switches = [_Switch(fault, plan.rate) for fault in faults if fault.kind in simulator.FAULTS]
    unit = _unit(plan)
    unit.start()
    log.info("measuring unit up", host=unit.host, port=unit.port, rate_hz=plan.rate, trace=str(plan.trace))
    begin_s = time.monotonic()
    now_ns = time.time_ns()
    first_ns = now_ns // NS * NS + NS  # stamps begin with a full second
    begin_s += (first_ns - now_ns) / NS
    k = 0
    while not stop:
        due_s = begin_s + k / plan.rate - time.monotonic()
        if due_s > 0 and stop.wait(due_s):
            break
        if due_s < -FROZEN_S:
            k = math.ceil((time.monotonic() - begin_s) * plan.rate)
            continue
        for switch in switches:
            switch.turn(unit, k)
        sample = source.sample(k)
        ended = isinstance(source, Player) and k >= source.length
        if not sample.silent and not ended:
            t_ns = first_ns + k * NS // plan.rate + sample.clock_offset_ns
            unit.publish(t_ns, sample.hz, sample.volt_frac * plan.nominal_volt, sample.quality)
        k += 1
    unit.stop()


class _Switch:
    """Turns one of the unit's own faults on and off at its frames."""

    def __init__(self, fault: Fault, rate: int) -> None:
        self._kind, self._on = fault.kind, False
        self._first = round(fault.at_s * rate)
        self._last = self._first + max(1, round(fault.for_s * rate))

    def turn(self, unit: SimulatedPmu, k: int) -> None:
        on = self._first <= k < self._last
        if on != self._on:
            self._on = on
            unit.misbehave(self._kind, on)


def _unit(plan: Plan) -> SimulatedPmu:
    first = Pmu(
        "FLYBALL 0", plan.idcode, plan.polar, plan.floats, nominal_hz=plan.nominal_hz, nominal_volt=plan.nominal_volt
    )
    others = (replace(first, name=f"FLYBALL {k}", idcode=plan.idcode + k) for k in range(1, plan.others + 1))
    to = None
    if plan.send_to is not None:
        host, _, port = plan.send_to.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"--send-to {plan.send_to!r}: give HOST:PORT, e.g. 127.0.0.1:4713")
        to = host, int(port)
    return SimulatedPmu(plan.port, plan.host, pmus=(first, *others), stream=plan.stream, rate=plan.rate, send_to=to)


def _source(plan: Plan, faults: tuple[Fault, ...]) -> Generator | Player:
    if plan.trace is None:
        return Generator(plan.nominal_hz, plan.rate, plan.seed, faults=faults)
    return Player(open_trace(plan.trace).read_all(), plan.nominal_hz, plan.rate, faults)
