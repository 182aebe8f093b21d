"""Two ingests side by side: one is killed, the other frozen, and no sample period goes without a decision."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aggregator import journal
from aggregator.journal import Kind
from telemetry import wire
from tests.scenarios.lines import Line, flyball, until

pytestmark = pytest.mark.scenario

RATE_HZ = 20
PERIOD_S = 1 / RATE_HZ
SCHEDULING_S = 0.05  # two cores, shared by all processes of the line and whoever else is there
CONFIG = """
[worker.choice]
return_s = 1.0
"""


def ingests(line: Line) -> dict[str, dict[str, Any]]:
    line.expect_alive()
    return {one["name"]: one for one in line.live.get("ingests", [])}


def used(line: Line, name: str) -> None:
    until(lambda: ingests(line).get(name, {}).get("used"), f"{name} to be used")


def shown(line: Line, *names: str) -> list[str]:
    """How the status calls these, ingests or their sources."""
    said = {source["name"]: source["state"] for source in line.call("/v1/status")[1].get("sources", [])}
    return [said.get(name, "") for name in names]


def alarmed(line: Line, standing: bool) -> None:
    codes = {True: "INGEST_LOST to stand", False: "INGEST_LOST to be cleared"}[standing]
    until(lambda: ("INGEST_LOST" in {a["code"] for a in line.live.get("alarms", [])}) is standing, codes)


@pytest.mark.parametrize("units", ["1", "2"])
def test_an_ingest_killed_or_frozen_delays_no_decision(make_line: Callable[..., Line], units: str) -> None:
    line = make_line(
        "--ingests", "2", "--units", units, "--rate", str(RATE_HZ), "--vehicles", "100", "--seconds", "500",
        config=CONFIG,
    )  # fmt: skip
    line.up()
    used(line, "i1")

    line.role("ingest").kill()
    used(line, "i2")
    used(line, "i1")  # its next life
    alarmed(line, False)

    frozen = line.role("ingest")
    os.kill(frozen.pid, signal.SIGSTOP)
    used(line, "i2")
    alarmed(line, True)
    if units == "1":
        until(lambda: shown(line, "i1", "i2", "i2/unit1") == ["lost", "used", "used"], "the status to tell")
    os.kill(frozen.pid, signal.SIGCONT)
    used(line, "i1")
    alarmed(line, False)

    written = line.stats("worker").get("snapshots", 0)
    # The next one may have been under way already.
    until(lambda: line.stats("worker").get("snapshots", 0) > written + 1, "a state to go on from that knows the alarm")
    assert "FREQUENCY_LOST" not in line.stats("worker")["alarms"]
    line.role("worker").kill()  # the next one goes on with both
    until(lambda: line.stats("worker").get("continues"), "another worker")
    used(line, "i1")
    until(lambda: line.stats("worker")["ticked"] > 0 and set(line.stats("worker")["ingests"]) == {"i1", "i2"}, "both")
    line.interrupt()
    assert line.wait() == 0, line.log()[-3000:]

    summary = line.summary()
    assert summary["samples_lost"] == 0
    assert summary["bound_violations"] == 0
    assert "INGEST_LOST" in summary["alarms"]
    assert {source["ingest"] for source in summary["sources"]} == {"i1", "i2"}
    alarms = [json.loads(entry.payload) for entry in line.entries(Kind.ALARM)]
    assert [bool(a["cleared_ns"]) for a in alarms if a["code"] == "INGEST_LOST"][:2] == [False, True]
    again = flyball(line.folder, "replay", str(line.run), "--json", "-")
    assert json.loads(again.stdout)["same"] is True, again.stdout
    expect_no_period_without_a_decision(line)


def expect_no_period_without_a_decision(line: Line) -> None:
    """Within each life of the worker: the stretches of standing still are the machine's alone."""
    blocks = [wire.decode(entry.payload) for entry in line.entries(Kind.SAMPLES)]
    acted = np.concatenate(blocks)
    usable = acted[acted["quality"] == 0]
    assert usable.size > 100
    assert set(usable["source"].tolist()) <= {1, 2}
    ticks = journal.read(line.run / "journal", Kind.TICKS).rows
    decided = ticks[np.isfinite(ticks["hz"]) & (ticks["quality"] == 0)]
    epochs = [entry.now_ns for entry in line.entries(Kind.RENEW)]
    for begin_ns, end_ns in zip([0, *epochs], [*epochs, 2**62], strict=True):
        life = decided["now_ns"][(decided["now_ns"] > begin_ns) & (decided["now_ns"] < end_ns)]
        if life.size < 50:
            continue
        gaps_s = np.diff(life)[20:-20] / 1e9
        assert gaps_s.max() < 1.25 * PERIOD_S + SCHEDULING_S
