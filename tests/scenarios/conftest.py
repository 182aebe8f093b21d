"""Lines for the scenario tests: made on demand, or played once for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aggregator.contracts import Contract, CoreSettings, Site
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.supervisor import free_port
from aggregator.warming import warm
from droop.products import load
from telemetry.iec61850 import backends
from tests.scenarios.lines import QUIET, Line, need_iec61850, need_store, start, until


@pytest.fixture
def make_line(tmp_path: Path, kernels: None) -> Iterator[Callable[..., Line]]:
    """Call it with options of `flyball run` for a Line; all are closed at the end."""
    need_store()
    need_iec61850()
    lines: list[Line] = []

    def make(*options: str, **more: Any) -> Line:
        lines.append(Line(tmp_path / f"line{len(lines)}", *options, **more))
        return lines[-1]

    yield make
    for line in lines:
        line.close()


FAULTS = ("silence@4+3", "spike@9+2", "nan@12", "zero@13.5", "stuck@15+4", "dead-bus@20+2", "clock-jump@24")
SMALL = ("--vehicles", "200", "--rate", "20")


@pytest.fixture(scope="session")
def kernels() -> None:
    """Compile every kernel once, so that lines started at the same time do not all do it."""
    warm(CoreSettings("ce", 16, (Contract(load("ce_fcr"), 1.0),), sites=(Site("all", None, 0, 16, 9.0),)))
    SimulatedFleet(8, 1, 1)


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory, kernels: None) -> Iterator[dict[str, Line]]:
    """Runs that need nobody to look after them, at once: what one does must not disturb another."""
    need_store()
    need_iec61850()
    folder = tmp_path_factory.mktemp("played")
    lines = {"clean": Line(folder / "clean", *SMALL, "--seconds", "14")}
    if "open61850" in backends():
        lines["permissive"] = Line(
            folder / "permissive", *SMALL, "--seconds", "14", config=QUIET + 'backend = "open61850"\n'
        )
    yield lines
    for line in lines.values():
        line.close()


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory, played: dict[str, Line]) -> Iterator[Line]:
    """A finished run on a measuring unit of its own, `flyball ied`, that had every fault."""
    port = free_port("127.0.0.1", 0, "unit.port")
    folder = tmp_path_factory.mktemp("faulty")
    unit = f"[unit]\nport = {port}\ntrip_every_s = 1e9\nsilent_after_s = 10\n"
    line = Line(folder, *SMALL, config=f"{unit}simulated = false\n[quality]\nstuck_s = 2\n")
    until(lambda: line.live or line.expect_alive(), "the worker to report")
    faults = [word for fault in FAULTS for word in ("--fault", fault)]
    ied = start(folder, "ied", "--config", "flyball.toml", "--rate", "20", *faults, name="ied")
    try:
        until(lambda: line.live.get("rejected", {}).get("clock_jump"), "the last fault")
        until(lambda: line.live.get("mode") == "normal", "the line to recover")
        line.interrupt()
        assert line.wait() == 0, line.log()
        yield line
    finally:
        ied.terminate()
        ied.wait(30)
        line.close()
