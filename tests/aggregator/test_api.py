"""The API over real HTTP against a real Valkey: what it serves, what it refuses, and what it does when others die."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from aggregator import accountview, views
from aggregator.api.errors import BadCertificate, BadSetting, CannotListen, PortInUse, Refusal, StartError, UnsafeBind
from aggregator.api.figures import Heard, Reading, compose
from aggregator.api.models import Live
from aggregator.api.security import host_name
from aggregator.api.server import make_app, serve
from aggregator.api.settings import Settings, is_loopback
from aggregator.api.wishes import find
from aggregator.embedded import EmbeddedServer
from droop.reasons import Reason
from settlement.accounts import ACCOUNT, Closed
from telemetry.samples import SIGNAL, WISH
from telemetry.wire import decode

NS = 1_000_000_000
TOKEN = "test-token-0123456789"  # noqa: S105 - of these tests alone
START_NS = 1_795_000_500 * NS  # a quarter of an hour
FLEET = 137
LIVE: dict[str, Any] = {
    "area": "ce",
    "nominal_hz": 50.0,
    "hz": 49.9543,
    "quality": [],
    "mode": "normal",
    "products": [{"id": "ce_fcr", "sold_kw": 500.0, "fraction": 0.2285}],
    "signal_kw": 0.0,
    "request_kw": -285.75,
    "baseline_kw": -400.0,
    "response_kw": 114.25,
    "dealt_kw": -285.75,
    "commanded_kw": -285.5,
    "unserved_kw": 1.5,
    "unserved_by_reason": {"soc": 1.5},
    "withheld_kw": {"override": {"up": 84.5, "down": 20.0}},
    "headroom_up_kw": 812.5,
    "headroom_down_kw": 640.25,
    "capability": {
        "up_kw": {"15": 700.0, "30": 600.0, "60": 300.0},
        "down_kw": {"15": 550.0, "30": 500.0, "60": 250.0},
    },
    "metered_kw": -288.0,
    "delivered_kw": 112.0,
    "vehicles": {"total": FLEET, "plugged": 120, "stale": 2, "unplugged": 15, "fault": 2},
    "soc_hist": [6] * 20,
    "ticks": 1234,
    "commands": 5678,
    "rejected": {"spike": 3},
    "alarms": [],
    "latency_ms": {"total": {"p50": 1.25, "p99": 6.5, "max": 12.0}},
    "requested_kwh": 10.5,
    "delivered_kwh": 10.25,
    "worker": {"epoch": 7, "scheduling": "fifo"},
}


def fleet() -> views.Rows:
    """Slots 0..136: each tenth is empty, slot 5 has a fault, slot 6 is limited by its SoC, slot 7 has no SoC."""
    rows = np.zeros(FLEET, views.FLEETVIEW)
    slot = np.arange(FLEET)
    rows["slot"], rows["session"] = slot, 3
    rows["state"] = np.where(slot % 10 == 0, 0, 1)
    rows["state"][5] = 2
    rows["vehicle"] = [b"" if i % 10 == 0 else f"EV-{i:04d}".encode() for i in slot]
    rows["reason_up"] = np.where(slot % 10 == 0, 7, 0)
    rows["reason_down"] = np.where(slot % 10 == 0, 7, 1)
    rows["reason_up"][6] = 2
    rows["soc_frac"] = slot / FLEET
    rows["soc_frac"][7] = np.nan
    rows["setpoint_kw"] = 0.1 * slot - 5
    rows["hi_kw"], rows["lo_kw"], rows["plan_kw"] = 11, -11, -2.2
    return rows


def statement(k: int, product: str = "ce_fcr") -> dict[str, Any]:
    start_ns = START_NS + k * 900 * NS
    kpis = {"time_out_of_bound_frac": 0.01 * k, "slope_ratio": 1.0, "adequate": True}
    return {
        "start_ns": start_ns,
        "end_ns": start_ns + 900 * NS,
        "product": product,
        "score": 0.9,
        "kpis": kpis,
        "extra": "kept",
    }


class Writers:
    """What the other processes write, from a thread, while `alive`."""

    def __init__(self, url: str) -> None:
        self.store = redis.Redis.from_url(url, protocol=3)
        self.live = copy.deepcopy(LIVE)
        self.ingest: dict[str, Any] = {}
        self.alive = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def once(self) -> None:
        now_ns = time.time_ns()
        row = {"t_ns": now_ns - NS // 100, "rx_ns": now_ns, "now_ns": now_ns, **self.live}
        self.store.set("live:ce", json.dumps(row))
        self.store.set("fleetview:ce", views.encode(now_ns, fleet()))
        self.store.set("stats:ce:ingest", json.dumps({"t_ns": now_ns, "published": 42, **self.ingest}))

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            if self.alive:
                with contextlib.suppress(redis.RedisError):  # the store may be dead in this test
                    self.once()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.store.close()


class Api:
    """`serve` in a thread of its own; `call` is one HTTP request."""

    def __init__(self, settings: Settings) -> None:
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(settings,))
        self._thread.start()
        assert self._ready.wait(60)
        assert self.url

    def _run(self, settings: Settings) -> None:
        def ready(url: str) -> None:
            self.url = url.rstrip("/")
            self._ready.set()

        try:
            self._loop.run_until_complete(serve(settings, self._stop, ready))
        finally:
            self._ready.set()
            self._loop.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def call(self, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
        async def ask() -> tuple[int, Any, Any]:
            async with (
                aiohttp.ClientSession() as session,
                session.request(method, self.url + path, **options) as response,
            ):
                text = await response.text()
                return response.status, json.loads(text) if "json" in response.content_type else text, response.headers

        return asyncio.run(ask())

    def get(self, path: str) -> Any:
        status, body, _ = self.call("GET", path)
        assert status == 200, body
        return body

    def signal(self, data: str, token: str | None = TOKEN) -> tuple[int, Any, Any]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.call("POST", "/v1/signal", data=data, headers=headers)

    def wish(self, vehicle: str, data: str, token: str | None = TOKEN) -> tuple[int, Any, Any]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.call("POST", f"/v1/vehicles/{vehicle}/wish", data=data, headers=headers)

    def until(self, holds: Callable[[Any], bool], path: str = "/v1/status") -> Any:
        deadline_s = time.monotonic() + 60
        while True:
            body = self.get(path)
            if holds(body):
                return body
            assert time.monotonic() < deadline_s, body
            time.sleep(0.02)


def settings_for(url: str, **changes: Any) -> Settings:
    return replace(
        Settings(
            redis_url=url, token=TOKEN, port=0, poll_s=0.05, silent_s=1.0, store_timeout_s=0.5, signal_max_kw=500.0
        ),
        **changes,
    )


@pytest.fixture(scope="module")
def valkey() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
def writers(valkey: EmbeddedServer) -> Iterator[Writers]:
    with redis.Redis.from_url(valkey.url) as store:
        store.flushall()
        store.hset("statements:ce", mapping={str(statement(k)["start_ns"]): json.dumps(statement(k)) for k in range(5)})
    made = Writers(valkey.url)
    made.once()
    yield made
    made.close()


@pytest.fixture
def api(valkey: EmbeddedServer, writers: Writers) -> Iterator[Api]:
    made = Api(settings_for(valkey.url))
    yield made
    made.close()


def test_status_shows_what_the_worker_wrote(api: Api) -> None:
    body = api.until(lambda s: s["statement"] is not None and "ingest" in s["processes"])
    for key in LIVE.keys() - {"products", "alarms"}:
        assert body[key] == LIVE[key], key
    product = body["products"][0]
    assert (product["id"], product["deadband_hz"], product["full_hz"]) == ("ce_fcr", 0.01, 0.2)
    assert (body["stale"], body["alarms"]) == (False, [])
    assert 0 <= body["ages"]["live_s"] < 1
    assert body["processes"]["ingest"]["published"] == 42
    assert body["statements"] == 5
    assert body["statement"]["start_ns"] == statement(4)["start_ns"]


def test_capability(api: Api) -> None:
    body = api.get("/v1/capability")
    assert body["capability"] == LIVE["capability"]
    assert (body["headroom_up_kw"], body["headroom_down_kw"], body["stale"]) == (812.5, 640.25, False)


def test_pages_cover_the_fleet_once(api: Api) -> None:
    seen: list[int] = []
    while len(seen) < FLEET:
        page = api.get(f"/v1/vehicles?limit=50&offset={len(seen)}")
        assert (page["total"], page["matched"]) == (FLEET, FLEET)
        seen += [row["slot"] for row in page["rows"]]
    assert seen == list(range(FLEET))
    assert api.get("/v1/vehicles?offset=137")["rows"] == []


def test_a_row_says_what_the_view_says(api: Api) -> None:
    row = api.get("/v1/vehicles?q=EV-0006")["rows"][0]
    assert (row["slot"], row["vehicle"], row["session"], row["state"]) == (6, "EV-0006", 3, "plugged")
    assert (row["reason_up"], row["reason_down"]) == ("soc", "rating")
    assert (row["setpoint_kw"], row["lo_kw"], row["hi_kw"], row["plan_kw"]) == (-4.4, -11.0, 11.0, -2.2)
    assert api.get("/v1/vehicles?q=7&limit=1")["rows"][0]["soc_frac"] is None


@pytest.mark.parametrize(
    ("query", "slots"),
    [
        ("state=fault", [5]),
        ("state=unplugged&limit=3", [0, 10, 20]),
        ("reason=soc", [6]),
        ("reason=unplugged&state=plugged", []),
        ("q=ev-013", list(range(131, 137))),
        ("q=130", [130]),
        ("sort=-setpoint_kw&limit=2", [136, 135]),
        ("sort=soc_frac&limit=2", [0, 1]),
        ("sort=-soc_frac&offset=135", [0, 7]),
    ],
)
def test_filters_and_order(api: Api, query: str, slots: list[int]) -> None:
    assert [row["slot"] for row in api.get(f"/v1/vehicles?{query}")["rows"]] == slots


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=1e2", "limit"),
        ("offset=%EF%BC%95", "offset"),
        ("state=asleep", "state"),
        ("reason=none%00", "reason"),
        ("sort=--slot", "sort"),
        ("sort=vehicle;drop", "sort"),
        ("q=" + "x" * 65, "q"),
        ("limit=5&limit=6", "limit"),
        ("colour=red", "colour"),
    ],
)
def test_a_bad_parameter_is_named(api: Api, query: str, field: str) -> None:
    status, body, _ = api.call("GET", f"/v1/vehicles?{query}")
    assert (status, body["field"]) == (400, field)
    assert body["remedy"]


def test_a_vehicles_account(api: Api, writers: Writers) -> None:
    rows = np.zeros(2, ACCOUNT)
    rows["vehicle"], rows["start_ns"], rows["end_ns"] = [b"EV-0001", b"EV/2"], START_NS, START_NS + 900 * NS
    rows["plugged_s"] = rows["reported_s"] = 900.0
    rows["delivered_up_kwh"], rows["shortfall_kwh"], rows["reason"] = 1.5, [0.0, 0.25], Reason.REFUSED
    writers.store.set("accounts:ce", accountview.encode(Closed(START_NS, START_NS + 900 * NS, rows, 0.0)))
    found = api.get("/v1/vehicles/EV%2F2/account")
    assert found["vehicle"] == "EV/2"
    assert found["delivered_up_kwh"] == 1.5
    assert found["shortfall_by_reason"] == {"refused": 0.25}
    assert any("does not follow" in line for line in found["sentences"])
    status, refusal, _ = api.call("GET", "/v1/vehicles/EV-9/account")
    assert (status, refusal["field"]) == (404, "vehicle")


def test_statements_newest_first(api: Api, writers: Writers) -> None:
    body = api.get("/v1/statements?limit=2&offset=1")
    assert (body["total"], [row["start_ns"] for row in body["rows"]]) == (
        5,
        [statement(3)["start_ns"], statement(2)["start_ns"]],
    )
    assert body["rows"][0]["extra"] == "kept"
    stacked = statement(9, "nordic_fcr_n")
    writers.store.hset("statements:ce", f"{stacked['start_ns']}-nordic_fcr_n", json.dumps(stacked))
    writers.store.hset("statements:ce", "garbage", "{")
    assert api.get("/v1/statements?limit=1")["rows"][0]["product"] == "nordic_fcr_n"
    assert len(api.get("/v1/statements")["rows"]) == 6


def test_history_grows(api: Api) -> None:
    body = api.until(lambda h: len(h["t_ns"]) >= 5, "/v1/history")
    assert body["t_ns"] == sorted(set(body["t_ns"]))
    assert {len(column) for column in body.values()} == {len(body["t_ns"])}
    assert set(body["hz"]) == {49.9543}


def test_a_rejected_or_old_sample_is_no_measurement(api: Api, writers: Writers) -> None:
    writers.live["quality"] = ["dead_bus"]
    assert api.until(lambda s: s["quality"] == ["dead_bus"])["hz"] == 49.9543  # shown, with what is wrong with it
    api.until(lambda h: h["hz"][-1] is None, "/v1/history")
    writers.live |= {"quality": [], "rx_ns": time.time_ns() - 5 * NS}
    body = api.until(lambda s: s["hz"] is None and not s["quality"])
    assert body["sample_age_s"] >= 5
    assert not body["stale"]  # the worker lives; it is the frequency that does not come


@pytest.mark.parametrize("header", [None, "wrong-token-0123456789", "", TOKEN[:-1], TOKEN + "x"])
def test_without_the_token_nothing_is_written(api: Api, writers: Writers, header: str | None) -> None:
    for status, body, headers in (
        api.signal('{"power_kw": 1, "valid_s": 1}', header),
        api.wish("EV-0011", '{"wish": "none"}', header),
    ):
        assert (status, body["field"]) == (401, "Authorization")
        assert headers["WWW-Authenticate"].startswith("Bearer ")
    assert not writers.store.exists("signal:ce:a1", "wishes:ce:a1")


def test_a_signal_lands_on_its_stream(api: Api, writers: Writers) -> None:
    before_ns = time.time_ns()
    ids = []
    for power_kw in (250.5, -500, 0):
        status, body, _ = api.signal(json.dumps({"power_kw": power_kw, "valid_s": 30}))
        assert (status, body["stream"]) == (202, "signal:ce:a1")
        ids.append(body["id"])
    entries = writers.store.xrange("signal:ce:a1")
    assert [entry[0].decode() for entry in entries] == ids
    epochs, counters = zip(*(map(int, entry.split("-")) for entry in ids), strict=True)
    assert len(set(epochs)) == 1
    assert counters == (1, 2, 3)
    block = decode(entries[0][1][b"b"])
    assert block.dtype == SIGNAL
    assert block["power_kw"][0] == 250.5
    assert before_ns <= block["rx_ns"][0] <= time.time_ns()
    assert block["valid_until_ns"][0] == block["rx_ns"][0] + 30 * NS


def test_a_clock_set_back_cannot_write_below_an_older_run(api: Api, writers: Writers) -> None:
    ahead = 9_000_000_000_000
    writers.store.xadd("signal:ce:a1", {"b": b"old"}, id=f"{ahead}-7")
    assert api.signal('{"power_kw": 1, "valid_s": 1}')[1]["id"] == f"{ahead + 1}-1"


def test_a_wish_lands_on_its_stream_with_the_session_that_runs(api: Api, writers: Writers) -> None:
    before_ns = time.time_ns()
    until = datetime.fromtimestamp(before_ns // NS + 7200, UTC)
    status, body, _ = api.wish("EV-0011", json.dumps({"wish": "no_discharge", "valid_s": 60}))
    assert (status, body["stream"], body["slots"], body["wish"]) == (202, "wishes:ce:a1", [11], "no_discharge")
    for text in (until.isoformat(), until.astimezone(timezone(timedelta(hours=5))).isoformat()):
        assert api.wish("EV-0012", json.dumps({"wish": "charge_now", "until": text}))[0] == 202
    assert api.wish("EV-0012", '{"wish": "leave_alone", "valid_s": 1e5, "until": null}')[0] == 202
    assert api.wish("EV-0005", '{"wish": "none"}')[0] == 202  # a charger with a fault has an owner's car all the same
    entries = writers.store.xrange("wishes:ce:a1")
    assert entries[0][0].decode() == body["id"]
    block = np.concatenate([decode(entry[1][b"b"]) for entry in entries])
    assert block.dtype == WISH
    assert block["wish"].tolist() == [2, 1, 1, 3, 0]
    assert block["slot"].tolist() == [11, 12, 12, 12, 5]
    assert (block["session"] == 3).all()
    assert ((block["t_ns"] >= before_ns) & (block["t_ns"] == block["rx_ns"]) & (block["t_ns"] <= time.time_ns())).all()
    assert block["until_ns"][0] == block["t_ns"][0] + 60 * NS == body["until_ns"]
    assert (block["until_ns"][1:3] == (before_ns // NS + 7200) * NS).all()
    assert block["until_ns"][4] == 0
    headers = {"Authorization": f"Bearer {TOKEN}"}
    refused = api.call("POST", "/v1/vehicles/EV-0011/wish?slot=1", data='{"wish": "none"}', headers=headers)
    assert (refused[0], refused[1]["field"]) == (400, "slot")
    text = api.get("/metrics")
    assert 'flyball_api_events_total{event="wishes"} 5.0' in text
    assert 'flyball_api_events_total{event="wishes_refused"} 1.0' in text


@pytest.mark.parametrize(
    ("vehicle", "data", "status", "field"),
    [
        ("EV-0011", "", 400, "body"),
        ("EV-0011", "[]", 400, "body"),
        ("EV-0011", '{"wish": "none", "wish": "charge_now", "valid_s": 1}', 400, "body"),
        ("EV-0011", "{}", 422, "wish"),
        ("EV-0011", '{"wish": "charge", "valid_s": 1}', 422, "wish"),
        ("EV-0011", '{"wish": 1, "valid_s": 1}', 422, "wish"),
        ("EV-0011", '{"wish": null, "valid_s": 1}', 422, "wish"),
        ("EV-0011", '{"wish": "none", "valid_s": 1}', 422, "wish"),
        ("EV-0011", '{"wish": "none", "until": "2026-01-01T00:00:00Z"}', 422, "wish"),
        ("EV-0011", '{"wish": "charge_now"}', 422, "valid_s"),
        ("EV-0011", '{"wish": "charge_now", "valid_s": 1, "until": "2099-01-01T00:00:00Z"}', 422, "valid_s"),
        ("EV-0011", '{"wish": "charge_now", "valid_s": 0}', 422, "valid_s"),
        ("EV-0011", '{"wish": "charge_now", "valid_s": -1}', 422, "valid_s"),
        ("EV-0011", '{"wish": "charge_now", "valid_s": NaN}', 422, "valid_s"),
        ("EV-0011", '{"wish": "charge_now", "valid_s": 1e300}', 422, "valid_s"),
        ("EV-0011", '{"wish": "charge_now", "valid_s": 604801}', 422, "valid_s"),
        ("EV-0011", '{"wish": "charge_now", "valid_s": 1e-12}', 422, "valid_s"),
        ("EV-0011", '{"wish": "charge_now", "valid_s": "60"}', 422, "valid_s"),
        ("EV-0011", '{"wish": "charge_now", "until": "tomorrow"}', 422, "until"),
        ("EV-0011", '{"wish": "charge_now", "until": "2099-01-01T00:00:00"}', 422, "until"),
        ("EV-0011", '{"wish": "charge_now", "until": "2099-01-01T00:00:00Z"}', 422, "until"),
        ("EV-0011", '{"wish": "charge_now", "until": "2020-01-01T00:00:00Z"}', 422, "until"),
        ("EV-0011", '{"wish": "charge_now", "until": "0001-01-01T00:00:00+14:00"}', 422, "until"),
        ("EV-0011", '{"wish": "charge_now", "until": 1795000500}', 422, "until"),
        ("EV-0011", '{"wish": "charge_now", "until": "' + "x" * 65 + '"}', 422, "until"),
        ("EV-0011", '{"wish": "charge_now", "valid_s": 1, "slot": 3}', 422, "slot"),
        ("EV-9999", '{"wish": "none"}', 404, "vehicle"),
        ("ev-0011", '{"wish": "none"}', 404, "vehicle"),
        ("EV-0011%00", '{"wish": "none"}', 404, "vehicle"),
        ("EV-0011" + "%00" * 20, '{"wish": "none"}', 404, "vehicle"),
        ("%F0%9F%9A%97", '{"wish": "none"}', 404, "vehicle"),
        ("%FF", '{"wish": "none"}', 404, "vehicle"),
        ("x" * 300, '{"wish": "none"}', 404, "vehicle"),
    ],
)
def test_a_bad_wish_is_named_and_not_written(
    api: Api, writers: Writers, vehicle: str, data: str, status: int, field: str
) -> None:
    got, body, _ = api.wish(vehicle, data)
    assert (got, body["field"]) == (status, field), body
    assert body["remedy"]
    assert not writers.store.exists("wishes:ce:a1")


def test_a_name_at_two_chargers_is_wished_for_at_both() -> None:
    rows = fleet()
    rows["vehicle"][[21, 40]] = b"EV-0011"  # 40 is empty: what stands there is the last car's name
    assert find("EV-0011", rows)["slot"].tolist() == [11, 21]
    with pytest.raises(Refusal):
        find("", rows)


@pytest.mark.parametrize(
    ("data", "status", "field"),
    [
        ("", 400, "body"),
        ("{", 400, "body"),
        ("[]", 400, "body"),
        ("null", 400, "body"),
        ("[" * 4000, 400, "body"),
        ("\x00\xff", 400, "body"),
        ('{"power_kw": 1, "power_kw": 2, "valid_s": 1}', 400, "body"),
        ('{"power_kw": NaN, "valid_s": 1}', 422, "power_kw"),
        ('{"power_kw": Infinity, "valid_s": 1}', 422, "power_kw"),
        ('{"power_kw": -Infinity, "valid_s": 1}', 422, "power_kw"),
        ('{"power_kw": 1e999, "valid_s": 1}', 422, "power_kw"),
        ('{"power_kw": ' + "9" * 3900 + ', "valid_s": 1}', 422, "power_kw"),
        ('{"power_kw": 500.0001, "valid_s": 1}', 422, "power_kw"),
        ('{"power_kw": -501, "valid_s": 1}', 422, "power_kw"),
        ('{"power_kw": "250", "valid_s": 1}', 422, "power_kw"),
        ('{"power_kw": true, "valid_s": 1}', 422, "power_kw"),
        ('{"power_kw": null, "valid_s": 1}', 422, "power_kw"),
        ('{"valid_s": 1}', 422, "power_kw"),
        ('{"power_kw": 1}', 422, "valid_s"),
        ('{"power_kw": 1, "valid_s": 0}', 422, "valid_s"),
        ('{"power_kw": 1, "valid_s": -1}', 422, "valid_s"),
        ('{"power_kw": 1, "valid_s": NaN}', 422, "valid_s"),
        ('{"power_kw": 1, "valid_s": 3601}', 422, "valid_s"),
        ('{"power_kw": 1, "valid_s": 1, "power_mw": 1}', 422, "power_mw"),
        ('{"power_kw": 1, "valid_s": 1, "pad": "' + "x" * 5000 + '"}', 413, "path"),
    ],
)
def test_a_bad_signal_is_named_and_not_written(api: Api, writers: Writers, data: str, status: int, field: str) -> None:
    got, body, _ = api.signal(data)
    assert (got, body["field"]) == (status, field), body
    assert body["remedy"]
    assert not writers.store.exists("signal:ce:a1")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::2]"]
)
@pytest.mark.parametrize("path", ["/", "/v1/status", "/v1/ws", "/metrics", "/nowhere"])
def test_a_foreign_host_header_is_refused(api: Api, host: str, path: str) -> None:
    status, body, _ = api.call("GET", path, headers={"Host": host})
    assert (status, body["field"]) == (403, "Host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:80", "[::1]", "[::1]:8080"])
def test_our_names_are_served(api: Api, host: str) -> None:
    assert api.call("GET", "/v1/status", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    ("netloc", "name"),
    [("a", "a"), ("A:1", "a"), ("[::1]:1", "[::1]"), ("[::1]", "[::1]"), ("::1", "::1"), ("a:b", "a:b")],
)
def test_host_name(netloc: str, name: str) -> None:
    assert host_name(netloc) == name


def test_a_configured_name_is_served(valkey: EmbeddedServer, writers: Writers) -> None:
    other = Api(settings_for(valkey.url, allowed_hosts=("grid.example",)))
    try:
        assert other.call("GET", "/v1/status", headers={"Host": "grid.example:8443"})[0] == 200
    finally:
        other.close()


def test_every_answer_is_guarded(api: Api) -> None:
    for path in ("/", "/static/app.js", "/v1/status", "/nowhere", "/v1/vehicles?limit=x"):
        _, _, headers = api.call("GET", path)
        policy = headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers
        assert "Server" not in headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/static/../api/server.py", 404),
        ("GET", "/static/%2e%2e/app.js", 404),
        ("DELETE", "/v1/status", 405),
        ("GET", "/v1/signal", 405),
        ("GET", "/v1/vehicles/EV-0011/wish", 405),
        ("POST", "/v1/vehicles/EV-0011", 404),
    ],
)
def test_what_is_not_there_is_said_in_json(api: Api, method: str, path: str, status: int) -> None:
    got, body, _ = api.call(method, path)
    assert (got, set(body)) == (status, {"error", "field", "remedy"})


def test_files_are_revalidated_not_resent(api: Api) -> None:
    status, text, headers = api.call("GET", "/static/style.css")
    assert (status, headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    assert "http" not in text  # nothing from elsewhere
    assert api.call("GET", "/static/style.css", headers={"If-None-Match": headers["ETag"]})[0] == 304


def test_openapi_describes_what_is_served(api: Api) -> None:
    document = api.get("/v1/openapi.json")
    assert document["openapi"].startswith("3.1")
    served = {
        (route.method, route.resource.canonical)
        for route in make_app(settings_for("redis://127.0.0.1:1")).router.routes()
        if route.resource is not None and route.resource.canonical.startswith(("/v1/", "/metrics", "/healthz"))
    }
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == served
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert schemas[name]["type"] == "object"
    for path, item in document["paths"].items():
        for operation in item.values():
            good = next(iter(operation["responses"].values()))
            assert path == "/v1/ws" or next(iter(good["content"].values()))["schema"]
    post = document["paths"]["/v1/signal"]["post"]
    assert post["security"] == [{"bearer": []}]
    assert {"202", "400", "401", "422", "503"} <= post["responses"].keys()
    wish = document["paths"]["/v1/vehicles/{vehicle}/wish"]["post"]
    assert wish["security"] == [{"bearer": []}]
    assert [(place["name"], place["in"], place["required"]) for place in wish["parameters"]] == [
        ("vehicle", "path", True)
    ]
    assert {"202", "400", "401", "404", "422", "503"} <= wish["responses"].keys()
    body = schemas["SignalBody"]
    assert (set(body["required"]), body["additionalProperties"]) == ({"power_kw", "valid_s"}, False)
    assert schemas.keys() >= {"Status", "VehicleRow", "ErrorAnswer"}
    assert set(schemas["Status"]["properties"]) >= set(api.get("/v1/status"))


def test_metrics(api: Api) -> None:
    text = api.get("/metrics")
    assert "flyball_frequency_hertz 49.9543" in text
    assert 'flyball_capability_kilowatts{direction="up",minutes="15"} 700.0' in text
    assert 'flyball_withheld_kilowatts{direction="up",reason="override"} 84.5' in text
    assert "flyball_ticks_total 1234.0" in text


SOURCES = [
    {
        "number": 1, "name": "west", "kind": "iec61850", "address": "192.0.2.1:102", "priority": 1, "used": False,
        "state": "outvoted", "why": "the others agree", "hz": 50.1, "decided": 7, "rejected": {"outvoted": 3, "nan": 1},
        "clock": {"offset_s": 0.002, "offset_pm_s": 0.001, "drift_ppm": -12.5, "drift_pm_ppm": None},
    },
    {"number": 2, "name": "east", "used": True, "state": "used", "why": "the first", "hz": 50.0, "clock": {}},
]  # fmt: skip


def test_sources_and_their_alarms_are_shown(api: Api, writers: Writers) -> None:
    standing = {
        "code": "SOURCES_DISAGREE",
        "severity": "critical",
        "since_ns": 5,
        "text": "contradict",
        "cleared_ns": 0,
    }
    writers.ingest = {"sources": [*SOURCES, {"name": "not one"}, 3], "standing": [standing, {"code": "no alarm"}]}
    body = api.until(lambda s: s["sources"])
    assert [(s["name"], s["used"], s["state"]) for s in body["sources"]] == [
        ("west", False, "outvoted"), ("east", True, "used"),
    ]  # fmt: skip
    assert {key: body["sources"][0][key] for key in SOURCES[0]} == SOURCES[0]
    assert [alarm["code"] for alarm in body["alarms"]] == ["SOURCES_DISAGREE"]
    text = api.get("/metrics")
    for line in (
        'flyball_source_used{source="east"} 1.0', 'flyball_source_used{source="west"} 0.0',
        'flyball_source_state{source="west",state="outvoted"} 1.0', 'flyball_source_decisions_total{source="west"} 7.0',
        'flyball_source_rejected_total{reason="outvoted",source="west"} 3.0',
        'flyball_source_clock_offset_seconds{source="west"} 0.002',
        'flyball_source_clock_drift_ppm{source="west"} -12.5',
    ):  # fmt: skip
        assert line in text
    assert 'drift_ppm{source="east"}' not in text  # not known is absent, not 0
    writers.ingest = {"sources": "odd", "standing": None}
    body = api.until(lambda s: not s["sources"])
    assert body["alarms"] == []


def test_a_silent_ingest_vouches_for_no_source() -> None:
    reading = Reading(started_ns=0, live=Live(t_ns=1, area="ce"), processes={"ingest": {"sources": SOURCES}})
    heard = Heard()
    heard.update(b"x", None, 0, 100.0)
    reading.processes_heard["ingest"] = reading.live_heard = heard
    assert len(compose(reading, "ce", 0, 101.0, 2.0, 10.0).sources) == 2
    later = compose(reading, "ce", 0, 111.0, 60.0, 10.0)
    assert later.sources == []
    assert [alarm.code for alarm in later.alarms] == ["INGEST_SILENT"]


def test_metrics_of_every_process_and_of_every_stage(api: Api, writers: Writers) -> None:
    """What a process writes of itself once a second is all it takes; what cannot be read is left out."""
    le = {"0.001": 3, "0.01": 7}
    row = {
        "t_ns": time.time_ns(), "pid": 77, "epoch": 5, "rss_mb": 2.0, "published": 1234, "rejected": {"spike": 4},
        "away": -1, "scheduling": "fifo", "flag": True,
        "histograms": {"tick": {"le": le, "count": 9, "sum_s": 0.25}, "out": {"le": 3}, "gate": None},
    }  # fmt: skip
    writers.store.set("stats:ce:gateway", json.dumps(row))
    for _ in range(200):
        text = api.get("/metrics")
        if 'process="gateway"' in text:
            break
        time.sleep(0.05)
    assert 'flyball_process_resident_bytes{process="gateway"} 2.097152e+06' in text
    assert 'flyball_process_events_total{event="published",process="gateway"} 1234.0' in text
    assert 'flyball_process_events_total{event="rejected.spike",process="gateway"} 4.0' in text
    assert 'flyball_process_age_seconds{process="gateway"}' in text
    assert 'flyball_stage_seconds_bucket{le="0.01",process="gateway",stage="tick"} 7.0' in text
    assert 'flyball_stage_seconds_bucket{le="+Inf",process="gateway",stage="tick"} 9.0' in text
    assert 'flyball_stage_seconds_sum{process="gateway",stage="tick"} 0.25' in text
    for absent in ('event="pid"', 'event="epoch"', 'event="t_ns"', 'event="away"', 'event="flag"', 'stage="out"'):
        assert absent not in text
    # For scrapers alone: every client of the page would be sent them five times a second.
    assert "histograms" not in api.get("/v1/status")["processes"]["gateway"]


def test_healthz_needs_no_store_and_no_name(api: Api) -> None:
    assert api.call("GET", "/healthz", headers={"Host": "10.0.0.7"})[:2] == (200, {"status": "ok"})


def test_websocket_carries_the_status_live(api: Api, writers: Writers) -> None:
    async def watch() -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(api.url + "/v1/ws") as ws:
            first = json.loads(await ws.receive_str(timeout=60))
            assert (first["hz"], first["stale"]) == (49.9543, False)
            await ws.send_str("what a client says is ignored")
            writers.live["hz"] = 50.0123
            for _ in range(100):
                if json.loads(await ws.receive_str(timeout=60))["hz"] == 50.0123:
                    return
            pytest.fail("the new figure never came")

    asyncio.run(watch())


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.example", 403), ("null", 403), ("file://", 403), ("https://127.0.0.1", 403), ("SELF", 101)],
)
def test_a_page_from_elsewhere_gets_no_websocket(api: Api, origin: str, status: int) -> None:
    async def connect() -> int:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(api.url + "/v1/ws", origin=api.url if origin == "SELF" else origin):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status

    assert asyncio.run(connect()) == status


def test_websockets_are_bounded_and_places_come_back(valkey: EmbeddedServer, writers: Writers) -> None:
    small = Api(settings_for(valkey.url, websockets_max=2))

    async def crowd() -> None:
        async with aiohttp.ClientSession() as session:
            url = small.url + "/v1/ws"
            first, second = await session.ws_connect(url), await session.ws_connect(url)
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(url)
            assert caught.value.status == 503
            await second.close()
            third = await session.ws_connect(url)
            assert json.loads(await third.receive_str(timeout=60))["area"] == "ce"
            await third.close()
            await first.close()

    try:
        asyncio.run(crowd())
    finally:
        small.close()


def test_a_client_that_takes_nothing_is_dropped_and_delays_nobody(valkey: EmbeddedServer, writers: Writers) -> None:
    writers.live["padding"] = "x" * 300_000  # passed through; fills the sockets' buffers at once
    writers.once()
    quick = Api(settings_for(valkey.url, websocket_stall_s=0.5))
    host, port = quick.url.removeprefix("http://").split(":")
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    try:
        with socket.create_connection((host, int(port))) as deaf:
            deaf.sendall(f"GET /v1/ws HTTP/1.1\r\nHost: {host}\r\n{upgrade}{key}\r\n".encode())
            quick.until(lambda text: 'event="ws_dropped"} 1.0' in text, "/metrics")
            assert quick.get("/v1/vehicles?limit=1")["rows"]  # others are answered, while it is still there
    finally:
        quick.close()


def test_a_silent_worker_is_said_and_promises_nothing(api: Api, writers: Writers) -> None:
    writers.live["alarms"] = [{"code": "NO_FLEET", "severity": "warning", "since_ns": 1, "text": "old news"}]
    api.until(lambda s: len(s["alarms"]) == 1)
    writers.alive = False
    body = api.until(lambda s: s["mode"] == "silent")
    assert body["stale"]
    assert [(alarm["code"], alarm["severity"]) for alarm in body["alarms"]] == [("WORKER_SILENT", "critical")]
    assert (body["hz"], body["response_kw"], body["delivered_kw"]) == (None, None, None)
    assert (body["headroom_up_kw"], body["headroom_down_kw"]) == (0, 0)
    capability = api.get("/v1/capability")
    assert capability["stale"]
    assert set(capability["capability"]["up_kw"].values()) == {0}
    writers.alive = True
    assert api.until(lambda s: not s["stale"])["hz"] == 49.9543


def test_a_journal_that_cannot_be_written_is_an_alarm_until_it_can(api: Api, writers: Writers) -> None:
    row = {"t_ns": time.time_ns(), "stalled_since_ns": 1_700_000_000 * NS, "stalled_why": "No space left on device"}
    writers.store.set("stats:ce:settle", json.dumps(row))
    body = api.until(lambda s: s["alarms"])
    (alarm,) = body["alarms"]
    assert (alarm["code"], alarm["severity"]) == ("JOURNAL_STALLED", "critical")
    assert alarm["since_ns"] == row["stalled_since_ns"]
    assert "No space left on device" in alarm["text"]
    assert not body["stale"]  # the fleet regulates on
    for since in (0, None, "yesterday", -5):
        writers.store.set("stats:ce:settle", json.dumps({**row, "stalled_since_ns": since, "t_ns": time.time_ns()}))
        api.until(lambda s: not s["alarms"])
        writers.store.set("stats:ce:settle", json.dumps({**row, "t_ns": time.time_ns()}))
        api.until(lambda s: s["alarms"])
    writers.store.delete("stats:ce:settle")


def test_evidence_that_is_no_longer_made_is_an_alarm(api: Api, writers: Writers) -> None:
    row = {"t_ns": time.time_ns(), "sealing_since_ns": 1_700_000_000 * NS, "sealing_why": "its key is gone"}
    writers.store.set("stats:ce:settle", json.dumps(row))
    (alarm,) = api.until(lambda s: s["alarms"])["alarms"]
    assert (alarm["code"], alarm["severity"], alarm["since_ns"]) == ("SEALING_STALLED", "critical", 1_700_000_000 * NS)
    assert "its key is gone" in alarm["text"]
    writers.store.set("stats:ce:settle", json.dumps({**row, "sealing_since_ns": 0, "t_ns": time.time_ns()}))
    api.until(lambda s: not s["alarms"])
    writers.store.delete("stats:ce:settle")


def test_a_dead_workers_last_word_is_not_news(valkey: EmbeddedServer, writers: Writers) -> None:
    writers.alive = False
    time.sleep(0.1)  # the thread's last write
    hour_ago_ns = time.time_ns() - 3600 * NS
    writers.store.set("live:ce", json.dumps({**LIVE, "t_ns": hour_ago_ns, "rx_ns": hour_ago_ns, "now_ns": hour_ago_ns}))
    late = Api(settings_for(valkey.url))
    try:
        body = late.get("/v1/status")
        assert (body["mode"], body["stale"]) == ("silent", True)
        assert body["ages"]["live_s"] >= 3600
    finally:
        late.close()


def test_no_worker_yet(valkey: EmbeddedServer, writers: Writers) -> None:
    writers.alive = False
    time.sleep(0.1)
    writers.store.flushall()
    early = Api(settings_for(valkey.url))
    try:
        body = early.get("/v1/status")
        assert (body["mode"], body["alarms"][0]["code"], body["ages"]["live_s"]) == ("silent", "WORKER_SILENT", None)
        assert early.get("/v1/vehicles")["rows"] == []
        assert early.get("/v1/statements")["rows"] == []
        assert early.get("/v1/history")["t_ns"] == []
    finally:
        early.close()


@pytest.mark.parametrize("record", ["{", "[]", '{"t_ns": "soon"}', '{"t_ns": 1, "hz": "fifty"}'])
def test_a_malformed_record_is_an_alarm_not_a_crash(api: Api, writers: Writers, record: str) -> None:
    writers.alive = False
    time.sleep(0.1)
    writers.store.set("live:ce", record)
    writers.store.set("fleetview:ce", b"short")
    writers.store.set("stats:ce:ingest", b"\xff")
    body = api.until(lambda s: "LIVE_MALFORMED" in [alarm["code"] for alarm in s["alarms"]] and s["mode"] == "silent")
    assert body["stale"]
    deadline_s = time.monotonic() + 60
    while (answer := api.call("GET", "/v1/vehicles"))[0] != 503:
        assert time.monotonic() < deadline_s
    assert answer[1]["field"] == "fleetview"
    writers.alive = True
    api.until(lambda s: not s["stale"] and not s["alarms"])


def test_valkey_killed_and_restarted() -> None:
    with EmbeddedServer() as server:
        writers = Writers(server.url)
        api = Api(settings_for(server.url, store_timeout_s=0.3))
        try:
            api.until(lambda s: not s["stale"])
            os.kill(server.pid, signal.SIGKILL)
            body = api.until(lambda s: s["mode"] == "store lost")
            assert [alarm["code"] for alarm in body["alarms"]] == ["STORE_LOST"]
            for path in ("/v1/capability", "/v1/vehicles?q=x", "/v1/statements"):
                deadline_s = time.monotonic() + 60
                while (answer := api.call("GET", path))[0] != 503:  # a view read just before may still be served
                    assert time.monotonic() < deadline_s, path
                assert "store lost" in answer[1]["error"]
                assert answer[2]["Retry-After"]
            assert api.signal('{"power_kw": 1, "valid_s": 1}')[0] == 503
            assert api.call("GET", "/healthz")[0] == 200
            assert api.call("GET", "/")[0] == 200
            server.restart()
            api.until(lambda s: not s["stale"])
            assert api.signal('{"power_kw": 1, "valid_s": 1}')[0] == 202
            assert api.get("/v1/vehicles")["total"] == FLEET
        finally:
            api.close()
            writers.close()


def test_port_in_use_is_named(api: Api) -> None:
    port = int(api.url.rsplit(":", 1)[1])
    with pytest.raises(PortInUse, match="choose another port") as caught:
        asyncio.run(serve(settings_for("redis://127.0.0.1:1", port=port), asyncio.Event()))
    assert (caught.value.field, isinstance(caught.value, StartError)) == ("port", True)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
    )
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    folder = tmp_path_factory.mktemp("pem")
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"


def test_tls(valkey: EmbeddedServer, writers: Writers, pem: tuple[Path, Path]) -> None:
    api = Api(settings_for(valkey.url, cert=pem[0], key=pem[1]))
    try:
        assert api.url.startswith("https://127.0.0.1:")
        status, body, headers = api.call("GET", "/v1/status", ssl=ssl.create_default_context(cafile=str(pem[0])))
        assert (status, body["area"]) == (200, "ce")
        assert "Strict-Transport-Security" in headers
    finally:
        api.close()


def test_an_address_that_is_not_ours_is_named(pem: tuple[Path, Path]) -> None:
    abroad = settings_for("redis://127.0.0.1:1", host="192.0.2.1", cert=pem[0], key=pem[1])  # TEST-NET-1, RFC 5737
    with pytest.raises(CannotListen, match="choose an address of this machine"):
        asyncio.run(serve(abroad, asyncio.Event()))


def test_a_bad_certificate_is_named(pem: tuple[Path, Path]) -> None:
    with pytest.raises(BadCertificate, match="PEM"):
        asyncio.run(serve(settings_for("redis://127.0.0.1:1", cert=pem[1], key=pem[0]), asyncio.Event()))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", ""])  # noqa: S104
def test_plain_text_stays_on_this_machine(host: str) -> None:
    with pytest.raises(UnsafeBind, match="cert and key"):
        settings_for("redis://127.0.0.1:1", host=host)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"token": ""}, "token"),
        ({"signal_max_kw": float("nan")}, "signal_max_kw"),
        ({"signal_max_kw": -1.0}, "signal_max_kw"),
        ({"poll_s": 0.0}, "poll_s"),
        ({"port": 65536}, "port"),
        ({"websockets_max": 0}, "websockets_max"),
        ({"cert": "c.pem"}, "key"),
        ({"key": "k.pem"}, "cert"),
    ],
)
def test_a_bad_setting_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadSetting) as caught:
        settings_for("redis://127.0.0.1:1", **changes)
    assert caught.value.field == field


def test_several_ingests_stand_before_their_sources() -> None:
    ingests = [
        {"number": 1, "name": "i1", "state": "lost", "used": False},
        {"number": 2, "name": "i2", "state": "used", "used": True},
    ]
    live = Live(t_ns=1, area="ce", ingests=ingests)  # type: ignore[call-arg]
    told = {"sources": [{"number": 1, "name": "west", "used": True}], "standing": [asdict_of("SOURCE_LOST")]}
    reading = Reading(started_ns=0, live=live, processes={"ingest": told, "ingest2": told})
    heard = Heard(data=b"x", mono_s=100.0)
    reading.processes_heard |= {"ingest": heard, "ingest2": heard}
    reading.live_heard = heard
    status = compose(reading, "ce", 0, 101.0, 2.0, 10.0)
    assert [(s.name, s.used) for s in status.sources] == [
        ("i1", False), ("i2", True), ("i1/west", False), ("i2/west", True),
    ]  # fmt: skip
    assert [alarm.code for alarm in status.alarms] == ["SOURCE_LOST"]


def asdict_of(code: str) -> dict[str, Any]:
    return {"code": code, "severity": "warning", "since_ns": 1, "text": "one is silent"}
