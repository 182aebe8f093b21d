"""Parts of a running line killed with SIGKILL, one after the other and together; and the line as a whole ended.

One line goes through all of it, so that what one failure leaves behind meets the next.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from aggregator import journal, journal_survey
from aggregator.journal import Kind
from aggregator.settle import written
from telemetry import wire
from telemetry.redis_stream import parse_id
from tests.scenarios.lines import Line, finished, flyball, until

pytestmark = pytest.mark.scenario

SOLD_KW = 1200.0
HOLD, RAMP, BASELINE = 2, 3, 4
ROLES = ("unit", "ingest", "worker", "gateway", "settle", "api")


def status(line: Line) -> dict:
    code, answer = line.call("/v1/status")
    return answer if code == 200 else {}


def regulating(line: Line) -> None:
    """Samples come in, set-points go out and are taken by the chargers, nobody is short of anything."""

    def well() -> bool:
        line.expect_alive()
        found = status(line)
        return (
            found.get("mode") == "normal" and not found["stale"] and not _codes(found) & {"FREQUENCY_LOST", "NO_FLEET"}
        )

    until(well, "the line to regulate again")
    before = line.stats("gateway").get("applied", 0), line.live.get("ticks", 0)

    def onward() -> bool:
        applied, done = line.stats("gateway").get("applied", 0), line.live.get("ticks", 0)
        return applied > before[0] and done > before[1]

    until(onward, "set-points to flow again")


def _codes(found: dict) -> set[str]:
    return {alarm["code"] for alarm in found.get("alarms", [])}


def only_the_right_token_moves_the_fleet(line: Line) -> None:
    body = {"power_kw": 500.0, "valid_s": 600.0}
    assert line.call("/v1/signal", None, body)[0] == 401
    code, refused = line.call("/v1/signal", "x" * 40, body)
    assert (code, refused["field"]) == (401, "Authorization")
    assert line.live["signal_kw"] == 0.0
    assert line.call("/v1/signal", line.token, {"power_kw": 1e6, "valid_s": 600.0})[0] == 422

    def follows() -> bool:
        live = line.live
        return abs(live["metered_kw"] - live["request_kw"]) < 0.1 * SOLD_KW

    def extra_kw() -> float | None:
        live = line.live
        return live["response_kw"] - sum(p["sold_kw"] * p["fraction"] for p in live["products"])

    until(follows, "the chargers to follow the line")
    code, _ = line.call("/v1/signal", line.token, body)
    assert code in (200, 202)

    until(lambda: line.live["signal_kw"] == 500.0, "the signal to arrive")
    live = line.live
    assert live["request_kw"] - live["baseline_kw"] == pytest.approx(live["response_kw"], abs=1e-6)
    assert extra_kw() == pytest.approx(500.0, abs=0.1 * SOLD_KW)
    until(lambda: line.live["signal_kw"] and follows(), "the fleet to follow the signal")
    # Its next word is short: it is the same power, and its end is waited for.
    code, _ = line.call("/v1/signal", line.token, {"power_kw": 500.0, "valid_s": 3.0})
    assert code in (200, 202)
    until(lambda: line.live["signal_kw"] == 0.0, "the signal to expire")
    until(lambda: abs(extra_kw()) < 0.1 * SOLD_KW, "the request to return")


def a_killed_measuring_unit_is_held_then_ramped_then_taken_up_again(line: Line) -> None:
    regulating(line)
    # Twice: what comes back is gone again before it has said much.
    first = line.role("unit")
    first.kill()
    line.replaced(first, "unit").kill()
    # Of the journal: the next unit may have ended the alarm before anybody looked.
    until(
        lambda: [e for e in line.entries(Kind.ALARM) if json.loads(e.payload)["code"] == "FREQUENCY_LOST"], "the alarm"
    )
    mode = until(lambda: status(line).get("mode"), "a mode")
    assert mode in ("ramp", "baseline", "normal")
    regulating(line)
    assert "FREQUENCY_LOST" not in _codes(status(line))


def a_killed_worker_is_followed_by_one_with_a_higher_epoch(line: Line) -> None:
    regulating(line)
    # A set-point of the authority outlives the worker that had it.
    code, _ = line.call("/v1/signal", line.token, {"power_kw": 200.0, "valid_s": 600.0})
    assert code in (200, 202)
    until(lambda: line.live["signal_kw"] == 200.0, "the signal to arrive")
    old = line.live["worker"]["epoch"]
    plugged = line.live["vehicles"]["plugged"]
    until(lambda: line.stats("worker").get("snapshots"), "a snapshot")
    process = line.role("worker")
    process.kill()
    line.replaced(process, "worker")
    until(lambda: line.live.get("worker", {}).get("epoch", 0) > old, "a new epoch")
    regulating(line)
    live = line.live
    assert live["signal_kw"] == 200.0
    # It has not begun anew: it went on from the old one's state, and from the sample after its last.
    told = line.stats("worker")
    assert told["continues"] == old
    assert told["ticked"] > told["ticks"] - told["ticked"]
    assert "goes on from the worker before" in line.log()
    assert live["vehicles"]["plugged"] == pytest.approx(plugged, abs=10)
    # What goes out bears the new epoch, and the sink lets it through.
    newest = line.store.xrevrange("cmd:ce:g1", count=1)[0][0].decode()
    assert parse_id(newest)[0] == live["worker"]["epoch"]
    assert line.stats("gateway")["refused"] == {}
    assert line.call("/v1/signal", line.token, {"power_kw": 0.0, "valid_s": 1.0})[0] in (200, 202)


def gateway_settlement_and_api_killed_together_come_back(line: Line) -> None:
    regulating(line)
    until(lambda: line.read("stats:ce:settle"), "settlement to report")
    killed = {name: line.role(name) for name in ("gateway", "settle", "api")}
    plugged = line.live["vehicles"]["plugged"]
    for process in killed.values():
        process.kill()
    for name, process in killed.items():
        line.replaced(process, name)
    for name in ("gateway", "settle"):
        until(lambda name=name: line.stats(name).get("pid") == line.role(name).pid, f"{name} to report")
    until(lambda: line.call("/v1/status")[0] == 200, "the API to answer")
    regulating(line)
    until(
        lambda: line.live["vehicles"]["stale"] < 0.1 * line.live["vehicles"]["plugged"], "the fleet to be known again"
    )
    assert line.live["vehicles"]["plugged"] == pytest.approx(plugged, rel=0.1)
    assert not {reason for reason in line.live["rejected"] if reason.startswith("session_")}


def a_killed_store_is_started_again_and_nothing_else_is(line: Line) -> None:
    regulating(line)
    before = {name: line.role(name) for name in ROLES}
    store = line.role("valkey")
    samples = line.store.xlen("freq:ce:i1")
    store.kill()
    line.replaced(store, "valkey")
    regulating(line)
    assert line.store.xlen("freq:ce:i1") >= samples  # on its data
    assert {name: line.role(name) for name in ROLES} == before
    assert "StreamConflict" not in line.log()


def without_the_store_samples_come_from_the_second_server_and_the_other_way_round(line: Line) -> None:
    """Each in turn stopped for good a while: the worker ticks on, and nothing is missing afterwards."""
    for name, other in (("valkey", 1), ("valkey_b", 0)):
        regulating(line)
        before = line.stats("worker")
        server = line.role(name)
        server.kill()
        line.replaced(server, name)
        was = before["server_losses"]
        until(lambda at=1 - other, was=was: line.stats("worker").get("server_losses", was)[at] > was[at], "a loss")
        until(lambda: line.live.get("servers") == [True, True], "both servers again")
        regulating(line)
        after = line.stats("worker")
        assert after["missing"] == after["late"] == 0
        assert after["server_losses"][other] == before["server_losses"][other]


def the_end_is_clean_and_the_journal_whole(line: Line) -> None:
    """Ctrl-C, then everything the failures before have left on disk."""
    regulating(line)
    places = line.places()
    line.children()
    line.interrupt()
    summary = finished(line)
    line.expect_gone(places)
    assert summary["bound_violations"] == 0
    # Whatever died meanwhile, worker and servers among them.
    assert summary["samples_in"] > 0
    assert summary["samples_lost"] == 0
    assert summary["ticks"] > 0
    assert summary["restarts"] == {
        "unit": 2,
        "worker": 1,
        "gateway": 1,
        "settle": 1,
        "api": 1,
        "store": 2,
        "store_b": 1,
    }
    assert "FREQUENCY_LOST" in summary["alarms"]
    assert "Traceback" not in line.log()
    alarms = [json.loads(entry.payload) for entry in line.entries(Kind.ALARM)]
    lost = [bool(alarm["cleared_ns"]) for alarm in alarms if alarm["code"] == "FREQUENCY_LOST"]
    assert lost[:2] == [False, True]
    ticks = journal.read(line.run / "journal", Kind.TICKS).rows
    modes = ticks["mode"]
    held = int(np.flatnonzero(modes == HOLD)[0])
    assert RAMP in modes[held:]
    # To its last sample: how long the processes take to stop after that is the machine's affair.
    assert modes[np.isfinite(ticks["hz"])][-1] not in (HOLD, RAMP, BASELINE)

    # No entry twice, no sample twice, none missing within a life of the worker.
    parts = journal_survey.survey(line.run / "journal").parts
    places_seen: Counter[tuple[int, int]] = Counter()
    for path in (part.table(name) for part in parts for name in part.tables):
        table = pq.read_table(path, columns=["entry_epoch", "entry_seq"], partitioning=None)
        # An entry's rows are one entry.
        places_seen.update({(row["entry_epoch"], row["entry_seq"]) for row in table.to_pylist()})
    assert set(places_seen.values()) == {1}
    for epoch in {epoch for epoch, _ in places_seen}:
        numbers = [seq for e, seq in places_seen if e == epoch]
        assert len(numbers) == max(numbers) + 1
    blocks = [wire.decode(entry.payload) for entry in line.entries(Kind.SAMPLES)]
    good = np.concatenate([block[block["quality"] == 0] for block in blocks])
    assert np.unique(good["t_ns"]).size == good.size
    assert (np.diff(good["t_ns"]) > 0).all()
    assert not line.entries(Kind.GAP)

    again = flyball(line.folder, "replay", str(line.run), "--json", "-")
    assert json.loads(again.stdout)["same"] is True, again.stdout
    stated = [(row["start_ns"], row["product"]) for row in summary["statements"]]
    assert stated
    assert len(set(stated)) == len(stated)
    final = [item.key for item in written(line.run / "journal")]
    assert len(set(final)) == len(final)


def test_a_line_goes_on_whatever_part_of_it_is_killed(make_line: Callable[..., Line]) -> None:
    line = make_line("--vehicles", "600", "--rate", "25")
    line.up()
    only_the_right_token_moves_the_fleet(line)
    a_killed_measuring_unit_is_held_then_ramped_then_taken_up_again(line)
    a_killed_worker_is_followed_by_one_with_a_higher_epoch(line)
    gateway_settlement_and_api_killed_together_come_back(line)
    a_killed_store_is_started_again_and_nothing_else_is(line)
    without_the_store_samples_come_from_the_second_server_and_the_other_way_round(line)
    the_end_is_clean_and_the_journal_whole(line)


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_however_it_ends_nothing_is_left(make_line: Callable[..., Line], how: str) -> None:
    line = make_line("--vehicles", "50", "--rate", "10")
    line.up()
    places = line.places()
    assert places[1] is not None
    assert Path(places[1]).exists()
    line.process.send_signal(signal.SIGTERM if how == "terminate" else signal.SIGKILL)
    code = line.wait()
    line.expect_gone(places)
    if how == "terminate":
        assert code == 0
        assert line.summary()["samples_lost"] == 0
    else:
        assert code == -signal.SIGKILL


def test_ctrl_c_before_the_line_is_up_leaves_nothing(make_line: Callable[..., Line]) -> None:
    line = make_line("--vehicles", "50", "--rate", "10")
    line.table()
    places = line.places()
    until(lambda: len(line.children()) > 3, "some processes")
    os.killpg(line.process.pid, signal.SIGINT)
    assert line.wait() == 0
    line.expect_gone(places)
    assert line.summary()["samples_lost"] == 0
