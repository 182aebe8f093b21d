"""What comes in at the doors of real processes: forged and malformed entries, taken ports, a server of one's own.

Where a stream has one writer the test is that writer: the process under test runs alone on a store of the test's, so
that a bad entry comes the way a good one would.
"""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from aggregator import journal, journal_reader, setpoints
from aggregator.embedded import EmbeddedServer
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.journal import Entry, Kind, pack, unpack
from aggregator.process import epoch
from aggregator.records import TICK
from telemetry import wire
from telemetry.redis_stream import StreamReader, StreamWriter, connect
from telemetry.samples import FREQUENCY, SESSION, SIGNAL, VEHICLE, Quality, SlotState, empty
from tests.scenarios.lines import Line, finished, flyball, need_store, start, until

pytestmark = pytest.mark.scenario

KEY = secrets.token_bytes(32)
S = 10**9


@pytest.fixture
def store() -> Iterator[EmbeddedServer]:
    need_store()
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
def alone(store: EmbeddedServer, tmp_path: Path, kernels: None) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `flyball ROLE` on the test's store; ended at the end, and none may have broken down."""
    (tmp_path / "flyball.toml").write_text("[fleet]\nvehicles = 40\nperfect = true\n", encoding="utf-8")
    started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def begin(role: str) -> subprocess.Popen[bytes]:
        env = {"FLYBALL_REDIS_URL": store.url, "FLYBALL_COMMAND_KEY": KEY.hex()}
        name = f"{role}{len(started)}"
        started.append((name, start(tmp_path, role, "--config", "flyball.toml", env=env, name=name)))
        return started[-1][1]

    yield begin
    for _, process in started:
        process.terminate()
        process.wait(60)
    for name, process in started:
        log = (tmp_path / f"{name}.err").read_text(encoding="utf-8", errors="replace")
        assert process.returncode in (0, -9), log
        assert "Traceback" not in log
        assert KEY.hex() not in log


def read(client: redis.Redis, key: str) -> dict[str, Any]:
    row: Any = client.get(key)
    return json.loads(row) if row else {}


def message(rows: np.ndarray, key: bytes = KEY, **changes: int) -> bytes:
    now_ns = time.time_ns()
    fields = {"key_id": 1, "epoch": 10, "sequence": 1, "t_ns": now_ns, "issued_ns": now_ns} | {
        "valid_until_ns": now_ns + 6 * S
    }
    return setpoints.encode(rows, key, **(fields | changes))


def plugged(client: redis.Redis) -> np.ndarray:
    """SETPOINT rows for every car the gateway has announced."""
    reader = StreamReader(client, {"fleet:ce:g1": "0"})
    blocks = [wire.decode(payload) for _, _, payload in reader.read()]
    cars = np.concatenate([block for block in blocks if block.dtype == SESSION] or [empty(SESSION)])
    cars = cars[cars["state"] == SlotState.PLUGGED]
    rows = np.zeros(cars.size, setpoints.SETPOINT)
    rows["slot"], rows["session"], rows["setpoint_kw"] = cars["slot"], cars["session"], -2.0
    return rows


def test_only_the_worker_of_the_day_commands_a_gateway(store: EmbeddedServer, alone: Callable[..., Any]) -> None:
    client = connect(store.url)
    first = alone("gateway")
    until(lambda: read(client, "stats:ce:gateway"), "the gateway to report")
    rows = plugged(client)
    assert rows.size > 10
    harmful = rows.copy()
    harmful["setpoint_kw"] = 11.0
    writer = StreamWriter(client, "cmd:ce:g1", epoch())
    good = message(rows)
    now_ns = time.time_ns()
    changed = bytearray(message(harmful, sequence=2))
    changed[60] ^= 1
    entries = [
        good,
        good,  # replayed
        message(harmful, sequence=2, key=secrets.token_bytes(32)),  # forged
        bytes(changed),  # forged
        message(harmful, sequence=3, key_id=7),  # key
        message(harmful, sequence=4, issued_ns=now_ns - 9 * S, valid_until_ns=now_ns - S),  # expired
        message(harmful, sequence=5, issued_ns=now_ns + 9 * S, valid_until_ns=now_ns + 12 * S),  # future
        message(harmful, sequence=6, valid_until_ns=now_ns + 3600 * S),  # validity
        b"",  # short
        secrets.token_bytes(200),  # magic
        good[:-5],  # length
        message(rows, epoch=11),
        message(harmful, epoch=10, sequence=99),  # stale_epoch: a worker that lost its place
        message(rows, epoch=11, sequence=2),
    ]
    for entry in entries:
        writer.add(entry)
    until(lambda: read(client, "stats:ce:gateway")["messages"] == 3, "the good messages to be taken")
    found = until(
        lambda: (s := read(client, "stats:ce:gateway")) and sum(s["refused"].values()) == 11 and s, "all others refused"
    )
    assert found["refused"] == {
        "replayed": 1, "forged": 2, "key": 1, "expired": 1, "future": 1, "validity": 1, "short": 1, "magic": 1,
        "length": 1, "stale_epoch": 1,
    }  # fmt: skip
    assert found["applied"] == 3 * rows.size
    # The chargers do what the good ones said: charge, and nobody discharges.
    until(lambda: _reported(client, rows["slot"]) == pytest.approx(-2.0, abs=0.1), "the chargers to follow")

    # A gateway that starts anew knows what was said before its time, and numbers its cars above the old ones.
    first.kill()
    first.wait(60)
    alone("gateway")
    until(lambda: read(client, "stats:ce:gateway")["pid"] != first.pid, "the next gateway")
    writer.add(message(harmful, epoch=11, sequence=2))
    found = until(lambda: (s := read(client, "stats:ce:gateway")) and s["refused"] and s, "the refusal")
    assert found["refused"] == {"replayed": 1}
    assert found["messages"] == 0
    assert plugged(client)["session"].max() > rows["session"].max()


def _reported(client: redis.Redis, slots: np.ndarray) -> float:
    """Mean of the last power each of these chargers reported [kW]."""
    blocks = [wire.decode(p) for _, _, p in StreamReader(client, {"fleet:ce:g1": "0"}).read()]
    last = {int(row["slot"]): float(row["power_kw"]) for block in blocks if block.dtype == VEHICLE for row in block}
    return float(np.mean([last.get(int(slot), np.nan) for slot in slots]))


def samples(hz: float, quality: int = 0, count: int = 1) -> bytes:
    block = empty(FREQUENCY, count)
    block["t_ns"] = block["rx_ns"] = time.time_ns()
    block["hz"], block["volt_frac"], block["quality"], block["source"] = hz, 1.0, quality, 1
    return wire.encode(block)


def test_a_worker_counts_what_it_cannot_take_and_goes_on(store: EmbeddedServer, alone: Callable[..., Any]) -> None:
    client = connect(store.url)
    worker = alone("worker")
    fleet = SimulatedFleet(40, 1, time.time_ns(), perfect=True)
    cars = StreamWriter(client, "fleet:ce:g1", epoch())
    hertz = StreamWriter(client, "freq:ce:i1", epoch())
    signal = StreamWriter(client, "signal:ce:a1", epoch())
    known = fleet.sessions(time.time_ns())
    cars.add(wire.encode(known))
    until(lambda: read(client, "live:ce"), "the worker to report")

    def go_on(count: int) -> None:
        for _ in range(count):
            now_ns = time.time_ns()
            reports = fleet.reports(now_ns)
            if reports.size:
                cars.add(wire.encode(reports))
            hertz.add(samples(49.98 + 0.0001 * (now_ns % 97)))
            time.sleep(0.05)

    def regulating() -> dict[str, Any] | None:
        go_on(5)
        live = read(client, "live:ce")
        return live if live["mode"] == "normal" and live["vehicles"]["plugged"] == known.size else None

    before = until(regulating, "the worker to regulate")
    report = empty(VEHICLE, 5)
    report["t_ns"] = report["rx_ns"] = time.time_ns()
    report["slot"], report["session"], report["state"] = known["slot"][0], known["session"][0], SlotState.PLUGGED
    report["soc_frac"] = 0.5
    report["power_kw"][0] = np.nan
    report["session"][1] = 77
    report["slot"][2] = 10**6
    report["soc_frac"][3] = 1.5
    report["state"][4] = 9
    session = known[:3].copy()
    session["session"] += 1
    session["safe_kw"][0] = 5.0  # left alone it would discharge
    session["capacity_kwh"][1] = np.nan
    session["slot"][2] = 10**6
    said = empty(SIGNAL, 2)
    said["t_ns"] = said["rx_ns"] = time.time_ns()
    said["valid_until_ns"] = time.time_ns() + 60 * S
    said["power_kw"] = [np.nan, 1e9]
    for entry in (
        secrets.token_bytes(40), b"", b"FB", wire.encode(report)[:-3], samples(50.0), wire.encode(report),
        wire.encode(session), wire.encode(said),
    ):  # fmt: skip
        cars.add(entry)
    for entry in (
        secrets.token_bytes(40), wire.encode(report), samples(0.0, Quality.ZERO), samples(np.nan, Quality.NAN),
        samples(48.7, Quality.SPIKE),
    ):  # fmt: skip
        hertz.add(entry)
    signal.add(wire.encode(said))
    signal.add(samples(50.0))
    client.xadd("signal:ce:a1", {b"other": b"field"}, id=f"{signal.epoch}-{signal.counter + 1}")

    def counted() -> dict[str, Any] | None:
        go_on(5)
        rejected = read(client, "live:ce")["rejected"]
        return rejected if rejected.get("wire_stream", 0) >= 4 and rejected.get("spike") else None

    rejected = until(counted, "all to be counted")
    assert {name: rejected.get(name) for name in (
        "report_nan", "report_session", "report_slot", "report_range", "report_state", "session_range", "session_nan",
        "session_slot", "signal", "zero", "nan", "spike", "wire_length",
    )} == {
        "report_nan": 1, "report_session": 1, "report_slot": 1, "report_range": 1, "report_state": 1,
        "session_range": 1, "session_nan": 1, "session_slot": 1, "signal": 2, "zero": 1, "nan": 1, "spike": 1,
        "wire_length": 1,
    }  # fmt: skip
    assert rejected["wire_magic"] == 2
    assert rejected["wire_short"] == 2
    after = until(regulating, "the worker to regulate on, with the same vehicles")
    assert worker.poll() is None
    assert after["signal_kw"] == 0.0
    assert after["ticks"] > before["ticks"]


def test_a_number_that_is_no_frequency_moves_nothing_even_unmarked(
    store: EmbeddedServer, alone: Callable[..., Any]
) -> None:
    """An ingest that does not mark what it should: the worker's own door is the last one."""
    client = connect(store.url)
    alone("worker")
    fleet = SimulatedFleet(40, 1, time.time_ns(), perfect=True)
    cars = StreamWriter(client, "fleet:ce:g1", epoch())
    hertz = StreamWriter(client, "freq:ce:i1", epoch())
    cars.add(wire.encode(fleet.sessions(time.time_ns())))
    until(lambda: read(client, "live:ce"), "the worker to report")
    wild = [np.nan, np.inf, -np.inf, 0.0, 1e300, -50.0, 20.0]
    for hz in [50.0] * 20 + wild:
        cars.add(wire.encode(fleet.reports(time.time_ns())))
        hertz.add(samples(hz))
        time.sleep(0.05)
    found = until(lambda: (s := read(client, "live:ce")) and sum(s["rejected"].values()) >= 7 and s, "the refusals")
    assert found["rejected"] == {"nan": 3, "zero": 1, "range": 3}

    def ticks() -> Any:
        rows = [
            np.frombuffer(entry.payload, TICK)
            for _, _, payload in StreamReader(client, {"journal:ce:w1": "0"}).read()
            for entry in unpack(payload)
            if entry.kind is Kind.TICKS
        ]
        return rows if sum(one.size for one in rows) >= 27 else None

    rows = np.concatenate(until(ticks, "the journal of every tick"))
    assert (rows["response_kw"] == 0.0).all()


def test_a_worker_that_comes_late_knows_who_is_there(store: EmbeddedServer, alone: Callable[..., Any]) -> None:
    """The stream has forgotten when they came; the gateway's table has not."""
    client = connect(store.url)
    alone("gateway")
    until(lambda: client.exists("sessions:ce:g1"), "the table")
    rows = plugged(client)
    assert rows.size > 10
    client.xtrim("fleet:ce:g1", maxlen=0, approximate=False)
    assert plugged(client).size == 0
    alone("worker")
    found = until(
        lambda: (s := read(client, "live:ce")) and s["vehicles"]["plugged"] and not s["vehicles"]["stale"] and s,
        "the worker to know them",
    )
    assert found["vehicles"]["plugged"] == rows.size


def test_a_disk_taken_from_the_journal_and_a_killed_writer_lose_nothing(
    store: EmbeddedServer, alone: Callable[..., Any], tmp_path: Path
) -> None:
    """Said while it is away, written when it is back; killed, the next one goes on where the files end."""
    client, folder = connect(store.url), tmp_path / "var" / "journal"
    writer, late = StreamWriter(client, "journal:ce:w1", 7), StreamWriter(client, "backfill:ce:i1", 5)
    fed = [Entry(Kind.START, 0, 0, 0, b"{}")]
    writer.add(pack(fed))

    def more(count: int) -> None:
        for _ in range(count):
            fed.append(Entry(Kind.TIME, 0, len(fed), time.time_ns(), b"12345678"))
            writer.add(pack(fed[-1:]))

    def settle() -> dict[str, Any]:
        return read(client, "stats:ce:settle")

    first = alone("settle")
    until(lambda: list(folder.glob("*/part-*.json")), "the run's settings to be on disk")
    more(20)
    folder.rename(folder.with_name("away"))
    writer.add(pack([Entry(Kind.START, 0, len(fed), 0, b"{}")]))  # written at once: the disk is missed at once
    fed.append(Entry(Kind.START, 0, len(fed), 0, b"{}"))
    stalled = until(lambda: (row := settle()).get("stalled_since_ns") and row, "the stall to be said")
    assert "No such file" in stalled["stalled_why"]
    more(20)
    assert not folder.exists()
    folder.with_name("away").rename(folder)
    until(lambda: settle().get("stalled_since_ns") == 0, "the journal to be written again")
    more(5)
    late.add(samples(49.9))
    first.kill()
    first.wait()
    more(5)
    second = alone("settle")
    until(lambda: settle().get("pid") == second.pid, "the next one to report")
    more(5)
    time.sleep(0.5)  # it reads on until it is told to stop, and then to the end of the stream
    second.terminate()
    assert second.wait(60) == 0
    problems: list[Any] = []
    assert list(journal_reader.entries(folder, problems=problems)) == fed
    assert problems == []
    assert journal.read(folder, Kind.BACKFILL).rows["hz"].tolist() == [49.9]


def test_a_worker_that_begins_again_takes_the_newest_word_of_all_doors(
    store: EmbeddedServer, alone: Callable[..., Any]
) -> None:
    """Whatever the order it reads them in: here the first door's word is the newer one."""
    client = connect(store.url)
    now_ns = time.time_ns()
    for door, ago_s, power_kw, source in (("a1", 2, 30.0, 1), ("u1", 4, 20.0, 2), ("u1", 3, 25.0, 2)):
        said = empty(SIGNAL, 1)
        said["t_ns"] = said["rx_ns"] = now_ns - ago_s * S
        said["valid_until_ns"] = now_ns + 600 * S
        said["power_kw"], said["source"] = power_kw, source
        StreamWriter(client, f"signal:ce:{door}", epoch() + int(power_kw)).add(wire.encode(said))
    alone("worker")
    found = until(lambda: (s := read(client, "live:ce")) and s["signal_kw"] and s, "the worker to know the set-point")
    assert found["signal_kw"] == 30.0
    until(lambda: read(client, "live:ce")["rejected"] == {"signal_older": 1}, "the older word to be counted")


@pytest.mark.parametrize("name", ["api", "unit"])
def test_a_port_in_use_is_named(tmp_path: Path, name: str) -> None:
    need_store()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "c.toml").write_text(f"[{name}]\nport = {port}\n", encoding="utf-8")
        ended = flyball(tmp_path, "run", "--config", "c.toml", "--no-browser", "--seconds", "1", "--json", "-")
        assert ended.returncode == 2
        assert ended.stdout == b""
        line = ended.stderr.decode()
        assert line.count("\n") == 1, line
        assert f"{name}.port" in line
        assert str(port) in line
        assert not list(tmp_path.glob("var/*"))


def test_a_store_that_does_not_answer_is_named(tmp_path: Path) -> None:
    for url in ("redis://127.0.0.1:1", "nonsense"):
        ended = flyball(tmp_path, "run", "--port", "0", "--no-browser", env={"FLYBALL_REDIS_URL": url})
        assert ended.returncode == 2
        assert ended.stdout == b""
        assert ended.stderr.count(b"\n") == 1, ended.stderr
        assert b"FLYBALL_REDIS_URL" in ended.stderr


def test_a_server_of_ones_own_is_used_and_left_as_it_was(store: EmbeddedServer, make_line: Callable[..., Line]) -> None:
    client = connect(store.url)
    client.set("theirs", "kept")
    client.xadd("freq:elsewhere:i1", {b"b": b"x"})
    summaries = []
    for _ in range(2):  # the second finds what the first has left
        line = make_line("--vehicles", "60", "--rate", "10", "--seconds", "3", env={"FLYBALL_REDIS_URL": store.url})
        until(lambda line=line: (line.run / "run.json").exists(), "the run")
        assert not [p for p in line.children() if "unixsocket" in p.name]
        summaries.append(finished(line))
        assert summaries[-1]["samples_lost"] == 0
        assert summaries[-1]["ticks"] < 10 * 30
        assert summaries[-1]["rejected"] == {}
        assert store.url.encode() not in (line.run / "run.json").read_bytes()  # it may hold a password
        assert [entry.kind for entry in line.entries()].count(Kind.START) == 1
        again = flyball(line.folder, "replay", str(line.run), "--json", "-")
        assert json.loads(again.stdout)["same"] is True
    assert store.alive()
    assert client.get("theirs") == b"kept"
    assert client.xlen("freq:elsewhere:i1") == 1
    ours = {key.decode() for key in client.keys("*")} - {"theirs", "freq:elsewhere:i1"}
    assert {key.split(":")[1] for key in ours} == {"ce"}


def test_a_server_of_ones_own_that_goes_away_takes_nothing_with_it(
    store: EmbeddedServer, make_line: Callable[..., Line]
) -> None:
    line = make_line("--vehicles", "60", "--rate", "10", env={"FLYBALL_REDIS_URL": store.url})
    until(lambda: connect(store.url).get("live:ce"), "the worker to report")
    until(lambda: line.entries(Kind.START), "the run's settings to be on disk")
    before = {process for process in line.children() if "aggregator.roles" in process.name}
    ports, _ = line.places()
    store.stop()
    time.sleep(2.0)  # nothing to wait for: what must not happen is that a process gives up
    assert {process for process in line.children() if "aggregator.roles" in process.name} == before
    line.interrupt()
    assert line.wait() == 2
    line.expect_gone((ports, None))
    assert (line.folder / "run.out").read_bytes() == b""
    assert line.log().rstrip().splitlines()[-1].startswith("flyball: store: ")
    assert "Traceback" not in line.log()
    assert [entry.kind for entry in line.entries()].count(Kind.START) == 1


def test_doctor_says_what_this_machine_has(tmp_path: Path) -> None:
    need_store()
    ended = flyball(tmp_path, "doctor", "--json", "-")
    rows = json.loads(ended.stdout)
    assert {row["what"] for row in rows} >= {
        "Python", "store", "IEC 61850", "raw sockets", "kernel cache", "real-time scheduling",
    }  # fmt: skip
    for row in rows:
        assert row.keys() >= {"what", "level", "found", "remedy"}
        assert row["level"] in ("ok", "optional", "missing")
        assert row["level"] == "ok" or row["remedy"]
    assert ended.returncode == int(any(row["level"] == "missing" for row in rows))
    held = flyball(tmp_path, "doctor", "--json", "-", env={"FLYBALL_REDIS_URL": "redis://:hush-hush@127.0.0.1:1"})
    assert held.returncode == 1
    assert b"hush-hush" not in held.stdout + held.stderr
