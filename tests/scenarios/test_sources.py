"""Three real measuring units on one grid: one is killed, one is frozen, the preferred one lies.

The grid stands still at 49.95 Hz, so that whatever moves was moved by a fault. What the ingest process recorded of
every source is enough to make its decisions again.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aggregator import journal
from aggregator.journal import Kind
from aggregator.sourcefiles import alarms
from aggregator.supervisor import free_port
from telemetry import wire
from telemetry.choice import Choice, ChoiceSettings
from telemetry.samples import Quality
from tests.scenarios.lines import Line, start, until

pytestmark = pytest.mark.scenario

HZ = 49.95
SOLD_KW = 400.0
RETURN_S = 1.0
CONFIG = """
[choice]
return_s = {return_s}
[[source]]
name = "liar"
port = {port}
silent_after_s = 1.0
[[source]]
name = "first"
simulated = true
priority = 2
silent_after_s = 1.0
[[source]]
name = "second"
simulated = true
priority = 3
silent_after_s = 1.0
"""


def sources(line: Line) -> dict[str, dict[str, Any]]:
    line.expect_alive()
    code, status = line.call("/v1/status")
    return {source["name"]: source for source in status["sources"]} if code == 200 else {}


def used(line: Line, name: str) -> None:
    until(lambda: sources(line).get(name, {}).get("used"), f"{name} to be used")


def in_state(line: Line, name: str, *states: str) -> None:
    until(lambda: sources(line).get(name, {}).get("state") in states, f"{name} to be {' or '.join(states)}")


def alarmed(line: Line, code: str) -> None:
    until(lambda: code in {a["code"] for a in line.call("/v1/status")[1].get("alarms", [])}, code)


def stream(line: Line, key: str) -> np.ndarray:
    """Every row on a stream of frequency, in order; alarms of sources are no rows."""
    payloads = (fields[b"b"] for _, fields in line.store.xrange(key))
    return np.concatenate([wire.decode(payload) for payload in payloads if not payload.startswith(b"{")])


def test_units_killed_frozen_and_lying(make_line: Callable[..., Line], tmp_path: Path) -> None:
    trace = tmp_path / "flat.csv"
    trace.write_text("dtm,f\n" + "".join(f"2026-06-22 00:{k // 60:02d}:{k % 60:02d},{HZ}\n" for k in range(600)))
    port = free_port("127.0.0.1", 0, "source.port")
    line = make_line(
        "--trace", str(trace), "--rate", "20", "--vehicles", "200", "--seconds", "500",
        config=CONFIG.format(port=port, return_s=RETURN_S),
    )  # fmt: skip
    line.up()
    used(line, "first")
    assert sources(line)["liar"]["state"] == "unheard"

    lying = ("--trace", str(trace), "--rate", "20", "--fault", "lie@3+3600")
    ied = start(line.folder, "ied", "--config", "flyball.toml", "--port", str(port), *lying, name="ied")
    try:
        used(line, "liar")
        in_state(line, "liar", "outvoted")
        alarmed(line, "SOURCES_DISAGREE")
        used(line, "first")

        line.role("unit").kill()
        used(line, "second")
        used(line, "first")  # its next life

        frozen = line.role("unit")
        os.kill(frozen.pid, signal.SIGSTOP)
        in_state(line, "first", "lost")
        used(line, "second")
        alarmed(line, "SOURCE_LOST")
        os.kill(frozen.pid, signal.SIGCONT)
        used(line, "first")

        judged, decided = stream(line, "sources:ce:i1"), stream(line, "freq:ce:i1")
    finally:
        ied.terminate()
        ied.wait(30)
    line.interrupt()
    assert line.wait() == 0, line.log()[-3000:]

    summary = line.summary()
    assert summary["samples_lost"] == 0
    assert {"SOURCE_LOST", "SOURCES_DISAGREE"} <= set(summary["alarms"])
    assert {source["name"]: "outvoted" in source["rejected"] for source in summary["sources"]} == {
        "liar": True, "first": False, "second": False,
    }  # fmt: skip
    expect_the_same_decisions_again(judged, decided)
    expect_nobody_waited_for(judged, decided)
    expect_nothing_of_the_liar(line, judged)
    expect_all_of_it_on_record(line, judged)


def expect_the_same_decisions_again(judged: np.ndarray, decided: np.ndarray) -> None:
    """The record of all sources, chosen from once more."""
    before = judged.copy()
    before["quality"] &= ~np.uint16(Quality.OUTVOTED)
    again = Choice((1, 2, 3), ChoiceSettings(return_s=RETURN_S)).take(before)
    assert again.judged.tobytes() == judged.tobytes()
    count = min(again.decided.size, decided.size)  # the two streams were not read at one instant
    assert count > 200
    assert again.decided[:count].tobytes() == decided[:count].tobytes()


def expect_nobody_waited_for(judged: np.ndarray, decided: np.ndarray) -> None:
    """Between two decisions no honest source said usable things three times: the second is late, and stood in for."""
    decisions = {(row["source"].item(), row["t_ns"].item()) for row in decided}
    spoken: Counter[int] = Counter()
    for row in judged:  # read before the decisions, which are therefore all there
        number = row["source"].item()
        if (number, row["t_ns"].item()) in decisions:
            spoken.clear()
        elif number > 1 and not row["quality"]:
            spoken[number] += 1
            assert spoken[number] < 3, row


def expect_all_of_it_on_record(line: Line, judged: np.ndarray) -> None:
    """The journal has every row of every source with its marks, and when which alarm stood."""
    kept = journal.read(line.run / "journal", Kind.SOURCES)
    assert kept.rows[: judged.size].tobytes() == judged.tobytes()
    assert not kept.gaps.size
    told = [alarm for _, alarm in alarms(line.run / "journal", "i1")]
    for code in ("SOURCE_LOST", "SOURCES_DISAGREE"):
        assert next(not alarm["cleared_ns"] for alarm in told if alarm["code"] == code)


def expect_nothing_of_the_liar(line: Line, judged: np.ndarray) -> None:
    """From the first OUTVOTED row on nothing of it was acted on, and before that it had come less far than told."""
    acted = np.concatenate([wire.decode(entry.payload) for entry in line.entries(Kind.SAMPLES)])
    told_ns = judged["rx_ns"][(judged["quality"] & int(Quality.OUTVOTED)) > 0][0]
    usable = acted[acted["quality"] == 0]
    assert not (usable["source"][usable["rx_ns"] >= told_ns] == 1).any()
    assert (usable["source"] == 1).any()  # it had been the preferred one
    assert np.abs(usable["hz"] - HZ).max() < 0.1
    later = usable[usable["rx_ns"] > told_ns]
    assert later.size > 100
    assert np.abs(later["hz"] - HZ).max() < 1e-3
