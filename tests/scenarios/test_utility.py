"""A utility at the line's IEC 61850 server: it reads the live figures, operates, and the fleet follows."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from telemetry.iec61850 import backends
from tests.scenarios.lines import QUIET, Line, finished, flyball, listening, need_iec61850, until
from tests.telemetry.utility_clients import foreign, own

pytestmark = pytest.mark.scenario

CONFIG = QUIET + "[utility]\nport = 0\nlocal_operate = true\nvalid_s = 15\ninterval_s = 0\n"


def port(line: Line) -> int:
    return int(line.table()["config"]["utility"]["port"])


def audit(line: Line) -> list[dict[str, Any]]:
    path = line.run / "audit" / "utility.jsonl"
    return [json.loads(row) for row in path.read_bytes().splitlines()] if path.exists() else []


def operate(line: Line, power_kw: float) -> None:
    with own(port(line), ident="control room") as client:
        assert client.select(power_kw) is None
        assert client.operate(power_kw) is None
        until(lambda: client.terminations, "the termination")
        assert client.terminations == [0]


def figure(line: Line, item: str) -> Any:
    """(value, first octet of its quality) of a measured value, by a client we did not write."""
    from open61850.mms.pdu import ObjectName

    with foreign(port(line)) as client:
        found = client.read(ObjectName(item, "FLYBALLVPP")).members
        value, quality = found[2:4] if item.startswith("DRCC1") else found[:2]  # an APC begins with origin and ctlNum
        return value.members[0].value, quality.value[0]


def figures_are_the_live_ones(line: Line) -> None:
    for item, key in (
        ("MMXU1$MX$TotW", "metered_kw"), ("DRCS1$MX$HdrUp", "headroom_up_kw"), ("DRCS1$MX$HdrDn", "headroom_down_kw"),
        ("DRCS1$MX$BaseW", "baseline_kw"),
    ):  # fmt: skip

        def same(item: str = item, key: str = key) -> bool:
            value, quality = figure(line, item)
            return quality == 0 and value == pytest.approx(line.live[key], rel=0.02, abs=1.0)

        until(same, f"{item} to show {key}")
    until(lambda: abs(figure(line, "MMXU1$MX$Hz")[0] - line.live["hz"]) < 0.02, "the frequency")


def the_fleet_follows_for_as_long_as_is_said(line: Line) -> None:
    line.up()

    def shift_kw() -> float:
        live = line.live
        products_kw = sum(product["sold_kw"] * product["fraction"] for product in live["products"])
        return float(live["metered_kw"] - live["baseline_kw"] - products_kw)

    operate(line, 50.0)
    until(lambda: line.live["signal_kw"] == 50.0, "the set-point to arrive")
    until(lambda: line.live["signal_kw"] == 50.0 and abs(shift_kw() - 50.0) < 10.0, "the fleet to follow")
    until(lambda: figure(line, "DRCC1$MX$OutWSet")[0] == 50.0, "the set-point to be shown")
    until(lambda: line.live["signal_kw"] == 0.0, "the set-point to expire")
    until(lambda: figure(line, "DRCC1$MX$OutWSet")[0] == 0.0, "the end of the set-point to be shown")


def every_command_has_its_lines(line: Line) -> None:
    with own(port(line), category=2) as client:
        assert client.select(50.0) == 2  # blocked by switching hierarchy
    until(lambda: [row for row in audit(line) if row["what"] == "refused"], "the refusal to be written")
    rows = audit(line)
    assert [row["what"] for row in rows] == ["started", "select", "operate", "published", "refused"]
    _, _, operated, published, refused = rows
    assert operated["ident_text"] == "control room"
    assert (operated["client"], operated["category"], operated["power_kw"]) == ("loopback", 3, 50.0)
    assert published["stream"] == "signal:ce:u1"
    assert line.store.xrange("signal:ce:u1", published["entry"], published["entry"])
    assert published["valid_until_ns"] - published["t_ns"] == pytest.approx(15e9, rel=0.05)
    assert (refused["reason"], refused["cause"]) == ("origin", 2)


def of_two_doors_the_newest_stands(line: Line) -> None:
    assert line.call("/v1/signal", line.token, {"power_kw": -30.0, "valid_s": 600.0})[0] == 202
    until(lambda: line.live["signal_kw"] == -30.0, "the API's set-point")
    operate(line, 40.0)
    until(lambda: line.live["signal_kw"] == 40.0, "the utility's set-point")
    assert line.call("/v1/signal", line.token, {"power_kw": -20.0, "valid_s": 600.0})[0] == 202
    until(lambda: line.live["signal_kw"] == -20.0, "the API's set-point again")


def killed_it_comes_back_and_is_operated_again(line: Line) -> None:
    process = line.role("utility")
    process.kill()
    line.replaced(process, "utility")
    until(lambda: listening(port(line)), "the server to listen again")
    until(lambda: figure(line, "DRCS1$MX$HdrUp")[1] == 0, "figures after the restart")
    operate(line, 25.0)
    until(lambda: line.live["signal_kw"] == 25.0, "the set-point after the restart")
    assert [row["what"] for row in audit(line)].count("started") == 2


def a_fleet_that_is_not_heard_is_marked_and_not_operated(line: Line) -> None:
    worker = line.role("worker")
    subprocess.run(["kill", "-STOP", str(worker.pid)], check=True)
    try:
        until(lambda: figure(line, "DRCS1$MX$HdrUp")[:2] == (0.0, 0b0100_0001), "the headroom to be taken back")
        assert figure(line, "MMXU1$MX$TotW")[1] == 0b0100_0001
        with own(port(line)) as client:
            assert client.select(10.0) == 13  # blocked by health
    finally:
        subprocess.run(["kill", "-CONT", str(worker.pid)], check=True)
    until(lambda: figure(line, "DRCS1$MX$HdrUp")[1] == 0, "the figures to come back")


def test_a_utility_operates_and_the_fleet_follows(make_line: Callable[..., Line]) -> None:
    need_iec61850("libiec61850")
    if "open61850" not in backends():
        pytest.skip("open61850 is not installed here: pip install 'flyball[iec61850]'")
    line = make_line("--vehicles", "200", "--rate", "20", config=CONFIG)
    line.up()
    figures_are_the_live_ones(line)
    the_fleet_follows_for_as_long_as_is_said(line)
    every_command_has_its_lines(line)
    of_two_doors_the_newest_stands(line)
    killed_it_comes_back_and_is_operated_again(line)
    a_fleet_that_is_not_heard_is_marked_and_not_operated(line)
    ours = port(line)
    line.interrupt()
    summary = finished(line)
    assert summary["samples_lost"] == 0
    assert summary["restarts"]["utility"] == 1
    assert summary["rejected"].get("signal", 0) == 0
    assert not listening(ours)
    assert audit(line)[-1]["what"] == "stopped"
    again = flyball(line.folder, "replay", str(line.run), "--json", "-")
    assert json.loads(again.stdout)["same"] is True


def test_a_utilitys_settings_are_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[utility]\nhost = "0.0.0.0"\n', encoding="utf-8")
    ended = flyball(tmp_path, "run", "--config", "c.toml", "--no-browser", "--port", "0", "--json", "-")
    assert ended.returncode == 2
    assert ended.stdout == b""
    assert "`utility`: host 0.0.0.0 is reachable" in ended.stderr.decode()
    assert ended.stderr.count(b"\n") == 1, ended.stderr
    ended = flyball(tmp_path, "utility", env={"FLYBALL_REDIS_URL": "redis://127.0.0.1:1"})
    assert ended.returncode == 2
    assert b"[utility]" in ended.stderr
