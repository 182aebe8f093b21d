"""A line whose fleet is as awkward as real ones: least powers, caps of sites, chargers that lie, owners' wishes.

The sum is delivered all the same, what is wrong is told, and why a vehicle got its power can be asked at every door.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.scenarios.lines import QUIET, Line, finished, flyball, until

pytestmark = pytest.mark.scenario

VEHICLES, SOLD_KW = 6000, 6000.0
STREET, HALL = range(200, 400), range(600, 650)
# Chargers begin to lie some time within four hours: of all of them, one every few seconds. The hall's meter is silent:
# what else flows there may pass the cap by itself.
CONFIG = f"""{QUIET}
[fleet]
vehicles = {VEHICLES}
liars_frac = 1.0
minimum_power = true
[[contract]]
product = "ce_fcr"
sold_kw = {SOLD_KW}
[[site]]
name = "street"
first = {STREET.start}
count = {len(STREET)}
export_kw = 60
import_kw = 2
[[site]]
name = "hall"
first = {HALL.start}
count = {len(HALL)}
import_kw = 100
local_meter = 2
local_lo_kw = -5000
"""


def test_an_awkward_fleet_delivers_and_says_why(make_line: Callable[..., Line]) -> None:
    line = make_line("--rate", "10", config=CONFIG)
    line.up()
    token = line.token
    limited(line, "site")
    limited(line, "minimum")
    for row in line.call("/v1/vehicles?sort=-hi_kw&limit=3")[1]["rows"]:
        path = f"/v1/vehicles/{quote(row['vehicle'])}/wish"
        assert line.call(path, token, {"wish": "no_discharge", "valid_s": 600})[0] == 202
    kept_kw = until(lambda: line.call("/v1/status")[1]["withheld_kw"].get("override"), "the wishes' cost")
    assert kept_kw["up"] > 10.0
    assert kept_kw["down"] == 0.0
    # To and fro, so that everybody is told something: who does not follow is found.
    for power_kw in (-2400.0, 2700.0, -900.0):
        assert line.call("/v1/signal", token, {"power_kw": power_kw, "valid_s": 600})[0] == 202
        until(lambda power_kw=power_kw: follows(line, power_kw), f"{power_kw} kW to be delivered")
    until(lambda: {"CHARGERS_REFUSE", "SITE_OVERLOADED"} <= raised(line), "the alarms of liars and of the hall")

    for why in ("refused", "site", "minimum"):
        until(lambda why=why: explained(line, why), f"a vehicle limited by {why} to be explained")
    nobody = flyball(line.folder, "explain", "nobody", "--url", address(line))
    assert (nobody.returncode, nobody.stdout, nobody.stderr.count(b"\n")) == (2, b"", 1)
    assert b"nobody" in nobody.stderr

    line.interrupt()
    summary = finished(line)
    assert summary["bound_violations"] == 0
    assert summary["max_sum_error_kw"] < 5e-7 * 11.0 * VEHICLES  # the split's tolerance, of what the fleet can do
    assert summary["samples_lost"] == 0
    assert summary["rejected"] == {}


def address(line: Line) -> str:
    return f"http://127.0.0.1:{line.table()['config']['api']['port']}"


def raised(line: Line) -> set[str]:
    return {alarm["code"] for alarm in line.live["alarms"]}


def follows(line: Line, power_kw: float) -> bool:
    """Whether the meter shows what is asked, to what chargers of their own make and the meter's second allow."""
    live = line.live
    asked, given = live["response_kw"], live["delivered_kw"]
    return live["signal_kw"] == power_kw and given is not None and abs(given - asked) < 0.05 * SOLD_KW


def limited(line: Line, reason: str) -> list[dict[str, Any]]:
    """Vehicles held by one limit, either way, once there are any."""
    return list(until(lambda: line.call(f"/v1/vehicles?reason={reason}&limit=50")[1].get("rows"), reason))


def explained(line: Line, reason: str) -> bool:
    """Whether the API and the command line say of one vehicle the same: that this limit holds it."""
    row = limited(line, reason)[0]
    status, told = line.call(f"/v1/vehicles/{quote(row['vehicle'])}/explain")
    ended = flyball(line.folder, "explain", row["vehicle"], "--url", address(line), "--json", "-")
    if status != 200 or ended.returncode != 0:
        return False  # it has left, or moved on
    printed = json.loads(ended.stdout)
    for said in (told, printed):
        assert said["lo_kw"] - 1e-3 <= said["power_kw"] <= said["hi_kw"] + 1e-3
        assert said["vehicle"] == row["vehicle"]
        assert said["sentence"]
        assert said["slot"] in STREET or said["slot"] in HALL or "site" not in (said["reason_up"], said["reason_down"])
    return all(reason in (said["reason_up"], said["reason_down"]) for said in (told, printed))
