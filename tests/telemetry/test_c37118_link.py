"""Real units and clients over loopback: what is published arrives; nothing a peer does hangs or ends the client."""

from __future__ import annotations

import math
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetry.c37118 import PmuClient, PortInUse, ServerError, make_client, writer
from telemetry.c37118.frames import Command, command
from telemetry.c37118.simulator import BACKLOG_BYTES, MAX_CLIENTS, SimulatedPmu
from telemetry.iec61850.mapping import TEST, VALIDITY_INVALID
from telemetry.samples import FREQUENCY, Quality

ROOT = Path(__file__).resolve().parents[2]
T0_NS = 1_700_000_000_000_000_000
STEP_NS = 20_000_000
VOLT = 230.0
ONE = writer.Pmu("ONE", 7)


class Rows:
    """Collects what a client delivers."""

    def __init__(self) -> None:
        self.blocks: list[Any] = []

    def __call__(self, block: Any) -> None:
        assert block.dtype == FREQUENCY
        assert block.shape == (1,)
        self.blocks.append(block)

    def __len__(self) -> int:
        return len(self.blocks)

    def all(self) -> Any:
        return np.concatenate(self.blocks) if self.blocks else np.zeros(0, FREQUENCY)


def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait for a condition; the bound is there to end a hung test, not to measure."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def ends(call: Callable[[], None], within_s: float = 60.0) -> None:
    """`call` returns at all."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(within_s)
    assert not thread.is_alive(), "hangs"


@contextmanager
def unit_here(**options: Any) -> Iterator[SimulatedPmu]:
    unit = SimulatedPmu(0, **{"pmus": (ONE,)} | options)
    unit.start()
    try:
        yield unit
    finally:
        ends(unit.stop)


@contextmanager
def following(port: int, **options: Any) -> Iterator[tuple[PmuClient, Rows]]:
    rows = Rows()
    client = make_client("127.0.0.1", port, **{"idcode": 7, "nominal_volt": VOLT} | options)
    client.start(rows)
    try:
        yield client, rows
    finally:
        ends(client.stop)
    assert not client.status().connected
    assert client.status().detail == "stopped"


def started(unit: SimulatedPmu, times: int = 1) -> None:
    """The client has its configuration and wants data."""
    until(lambda: unit.commands.count(2) >= times)


@pytest.fixture(params=["tcp", "udp"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- what is published arrives

SENT = [
    (50.012, 231.0, 0, True, Quality.GOOD),
    (49.2, 3.5, 0, True, Quality.GOOD),  # dead bus: the gate judges, the link only carries
    (50.0, 230.0, VALIDITY_INVALID, True, Quality.INVALID),
    (50.0, 230.0, TEST, True, Quality.TEST),
    (50.0, 230.0, 0, False, Quality.CLOCK),
    (math.nan, math.nan, TEST, False, Quality.NAN | Quality.TEST | Quality.CLOCK),
    (50.1, 0.0, 0, True, Quality.GOOD),
]


@pytest.mark.parametrize("floats", [True, False])
@pytest.mark.parametrize("polar", [True, False])
def test_values_quality_and_time_arrive(transport: str, floats: bool, polar: bool) -> None:
    pmu = replace(ONE, floats=floats, polar=polar)
    others = (replace(pmu, name="TWO", idcode=8, nominal_hz=60.0), replace(pmu, name="THREE", idcode=9))
    with (
        unit_here(pmus=(pmu, *others), stream=60) as unit,
        following(unit.port, transport=transport, stream=60, source=5) as (client, rows),
    ):
        started(unit)
        before_ns = time.time_ns()
        for k, (hz, volts, quality, clock_ok, _) in enumerate(SENT):
            unit.publish(T0_NS + k * STEP_NS, hz, volts, quality, clock_ok)
        until(lambda: len(rows) >= len(SENT))
        after_ns = time.time_ns()
        status = client.status()
        assert status.connected
        assert (status.gaps, status.surprises, status.repeats, status.refused) == (0, 0, 0, {})
        assert (status.others, status.configurations, status.reports) == (2 * len(SENT), 1, len(SENT) + 1)
        assert "following 7 (ONE)" in status.detail
        assert unit.commands[:2] == [1, 5]
    got = rows.all()
    np.testing.assert_allclose(got["hz"], [s[0] for s in SENT], atol=4e-6 if floats else 5.1e-4)
    np.testing.assert_allclose(got["volt_frac"], [s[1] / VOLT for s in SENT], atol=1e-6 if floats else 1e-4)
    assert [Quality(int(q)) for q in got["quality"]] == [s[4] for s in SENT]
    assert (got["t_ns"] - T0_NS).tolist() == [k * STEP_NS for k in range(len(SENT))]
    assert (got["source"] == 5).all()
    assert (got["rx_ns"] >= before_ns).all()
    assert (got["rx_ns"] <= after_ns).all()
    until(lambda: unit.commands[-1] == 1)  # left politely


def test_a_unit_that_sends_of_its_own_accord() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        following(port, transport="udp-spontaneous") as (client, rows),
        unit_here(send_to=("127.0.0.1", port)) as unit,
    ):
        count = 0
        while len(rows) < 10:  # what is sent before the client listens is nobody's
            unit.publish(T0_NS + count * STEP_NS * 500, 50.0 + count / 1000, VOLT)  # the configuration once a minute
            count += 1
            time.sleep(0.002)
        status = client.status()
        assert unit.commands == []
        assert (status.connected, status.reconnects, status.configurations) == (True, 0, 1)
        assert set(status.refused) <= {"unconfigured"}


def test_several_clients_of_one_unit(transport: str) -> None:
    with (
        unit_here() as unit,
        following(unit.port, transport=transport) as (_, one),
        following(unit.port, transport=transport) as (_, two),
    ):
        started(unit, 2)
        for k in range(5):
            unit.publish(T0_NS + k * STEP_NS, 50.0 + k, VOLT)
        until(lambda: len(one) == len(two) == 5)


def test_a_changed_configuration_is_followed(transport: str) -> None:
    """Announced by STAT bit 10 and then in effect, with other number formats; not one wrong value."""
    with unit_here(rate=500) as unit, following(unit.port, transport=transport) as (client, rows):
        started(unit)
        k, step_ns = 0, 2_000_000
        since = 0
        while since < 50:  # rows after the change
            if k == 50:
                unit.misbehave("config-change", True)
            if client.status().configurations == 2 and client.status().connected:
                since += 1
            unit.publish(T0_NS + k * step_ns, 50.0 + (k % 100) / 1000, VOLT)
            k += 1
            time.sleep(0.002)
        until(lambda: rows.all()["t_ns"].max() == T0_NS + (k - 1) * step_ns)
        status = client.status()
        assert (status.configurations, status.reconnects) == (2, 0)
        assert set(status.refused) <= {"unconfigured", "size"}
        assert 100 <= len(rows) == k - status.surprises
        assert status.gaps == status.surprises
    got = rows.all()
    at = np.rint((got["t_ns"] - T0_NS) / step_ns)
    np.testing.assert_allclose(got["hz"], 50.0 + (at % 100) / 1000, atol=5.1e-4)
    np.testing.assert_allclose(got["volt_frac"], 1.0, atol=1e-4)


def test_faults_of_the_unit_are_counted_and_move_nothing(transport: str) -> None:
    with unit_here() as unit, following(unit.port, transport=transport) as (client, rows):
        started(unit)
        unit.publish(T0_NS - STEP_NS, 49.9, VOLT)
        k = 0
        for kind in ("crc", "bad-data", "unsync", "duplicate", "stall"):
            unit.misbehave(kind, True)
            for _ in range(5):
                unit.publish(T0_NS + k * STEP_NS, 50.0 + k / 1000, VOLT)
                k += 1
            unit.misbehave(kind, False)
            unit.publish(T0_NS + k * STEP_NS, 50.0 + k / 1000, VOLT)
            k += 1
        until(lambda: len(rows) >= 21)
        status = client.status()
        assert (status.gaps, status.repeats, status.reconnects) == (10, 5, 0)
        assert status.refused["crc"] == 5
        assert set(status.refused) <= {"crc", "sync", "type", "version", "length"}
    quality = [int(q) for q in rows.all()["quality"]]
    assert quality == [0] * 2 + [Quality.INVALID] * 5 + [0] + [Quality.CLOCK] * 5 + [0] * 8


def test_the_wanted_pmu_is_not_there() -> None:
    with unit_here(stream=60) as unit, following(unit.port, idcode=9, stream=60, silent_after_s=0.3) as (client, _):
        until(lambda: "there" not in client.status().detail and "idcode: 0 PMUs" in client.status().detail)
        assert "stream 60 carries 7 (ONE): set `idcode`" in client.status().detail
        assert not client.status().connected
    with unit_here(stream=60) as unit, following(unit.port, silent_after_s=0.3) as (client, _):
        until(lambda: "is 7 the IDCODE of its stream? else set `stream`" in client.status().detail)


# ---- the unit's own doors


def test_a_busy_port_has_a_name() -> None:
    with unit_here() as unit:
        with pytest.raises(PortInUse, match=rf"port {unit.port} on 127\.0\.0\.1 is in use.*another port"):
            SimulatedPmu(unit.port).start()
        with pytest.raises(ServerError, match="running"):
            unit.start()
    with pytest.raises(ServerError, match="not running"):
        unit.publish(T0_NS, 50.0, VOLT)
    with pytest.raises(ServerError, match="not running"):
        unit.misbehave("crc", True)
    with pytest.raises(ServerError, match=r"192\.0\.2\.1"):
        SimulatedPmu(0, "192.0.2.1").start()
    unit.start()  # and again on the same port
    with pytest.raises(ValueError, match="fault 'flood' is unknown: the kinds are crc"):
        unit.misbehave("flood", True)
    unit.stop()
    unit.stop()


def test_a_client_that_does_not_read_is_cut_off() -> None:
    pmus = (ONE, *(replace(ONE, name=f"N{k}", idcode=100 + k) for k in range(100)))
    with unit_here(pmus=pmus) as unit, closing(socket.create_connection(("127.0.0.1", unit.port))) as lazy:
        lazy.sendall(command(7, Command.START, T0_NS))
        started(unit)
        with following(unit.port) as (_, rows):
            started(unit, 2)
            k = 0
            while len(unit._links) > 1:
                for _ in range(100):
                    unit.publish(T0_NS + k * STEP_NS, 50.0, VOLT)
                    k += 1
                until(lambda k=k: len(rows) == k)  # another one hears all of it meanwhile
            assert k * 101 * 34 > BACKLOG_BYTES


def test_what_the_unit_says_of_itself_in_its_own_words() -> None:
    said = [
        (0, True, 0x0080, 0x00),
        (VALIDITY_INVALID, True, 0xC080, 0x00),
        (TEST, True, 0x8080, 0x00),
        (0, False, 0x21C0, 0x0F),
    ]
    with unit_here() as unit, closing(socket.create_connection(("127.0.0.1", unit.port), 20)) as plain:
        plain.sendall(command(7, Command.START, T0_NS))
        started(unit)
        for quality, clock_ok, stat, octet in said:
            unit.publish(T0_NS, 50.0, VOLT, quality, clock_ok)
            frame = plain.recv(50, socket.MSG_WAITALL)
            assert (int.from_bytes(frame[14:16], "big"), frame[10]) == (stat, octet)
        plain.sendall(command(7, Command.SEND_HEADER, T0_NS) + command(7, Command.SEND_CFG1, T0_NS))
        assert plain.recv(16 + 34, socket.MSG_WAITALL)[14:48] == b"Flyball's simulated measuring unit"
        assert plain.recv(2, socket.MSG_WAITALL) == b"\xaa\x21"


def test_udp_clients_are_bounded() -> None:
    with unit_here() as unit:
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(MAX_CLIENTS + 2)]
        for n, one in enumerate(sockets, 1):
            one.sendto(command(7, Command.START, T0_NS), ("127.0.0.1", unit.port))
            started(unit, n)
        assert set(unit._peers) == {("127.0.0.1", one.getsockname()[1]) for one in sockets[2:]}
        for one in sockets:
            one.close()


# ---- peers that fail


SERVER = """
import os, sys, time
from telemetry.c37118.frames import Command, command
from telemetry.c37118.simulator import SimulatedPmu
from telemetry.c37118.writer import Pmu
unit = SimulatedPmu(int(sys.argv[1]), pmus=(Pmu("ONE", 7, floats=sys.argv[3] == "floats"),), rate=int(sys.argv[2]))
unit.start()
print("up", unit.port, flush=True)
parent = os.getppid()
begin_s, begin_ns, k = time.monotonic(), time.time_ns(), 0
while os.getppid() == parent:
    unit.publish(begin_ns + k * 10**9 // int(sys.argv[2]), 50.0 + k % 997 * 1e-3, 230.0)
    k += 1
    time.sleep(max(0.0, begin_s + k / int(sys.argv[2]) - time.monotonic()))
"""


@contextmanager
def unit_process(port: int = 0, rate: int = 100, form: str = "floats") -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port), str(rate), form], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        word, _, got = process.stdout.readline().partition(" ")
        assert word == "up"
        yield process, int(got)
    finally:
        process.kill()
        process.communicate()


def test_a_killed_unit_is_found_again(transport: str) -> None:
    with unit_process() as (process, port), following(port, transport=transport, silent_after_s=1.0) as (client, rows):
        until(lambda: len(rows) >= 5)
        process.kill()
        process.wait()
        until(lambda: not client.status().connected)
        with unit_process(port, form="integers"):
            seen = len(rows)
            until(lambda: len(rows) >= seen + 5)
            status = client.status()
            assert status.connected
            assert status.reconnects == 1
            assert status.gaps > 0  # the outage
            assert status.surprises == 0
    assert np.abs(rows.all()["hz"] - 50).max() < 1
    np.testing.assert_allclose(rows.all()["volt_frac"], 1.0, atol=1e-4)


def test_a_frozen_unit_is_noticed_by_its_silence(transport: str) -> None:
    with (
        unit_process() as (process, port),
        following(port, transport=transport, silent_after_s=0.5, connect_timeout_s=0.3) as (client, rows),
    ):
        until(lambda: len(rows) >= 5)
        process.send_signal(signal.SIGSTOP)
        until(lambda: not client.status().connected)
        process.send_signal(signal.SIGCONT)
        seen = len(rows)
        until(lambda: client.status().reconnects >= 1 and len(rows) >= seen + 5)


def test_stop_while_the_unit_is_frozen(transport: str) -> None:
    with unit_process() as (process, port), following(port, transport=transport, connect_timeout_s=0.3) as (_, rows):
        until(lambda: len(rows) >= 3)
        process.send_signal(signal.SIGSTOP)  # leaving the block ends `following`, which must not hang


def test_stop_under_traffic_and_start_again(transport: str) -> None:
    with unit_process(rate=1000) as (_, port):
        client = make_client("127.0.0.1", port, idcode=7, transport=transport, nominal_volt=VOLT)
        for _ in range(3):
            rows = Rows()
            client.start(rows)
            with pytest.raises(RuntimeError, match="running"):
                client.start(rows)
            until(lambda rows=rows: len(rows) >= 30)
            ends(client.stop)
            seen = len(rows)
            assert client.status().detail == "stopped"
            client.stop()
            time.sleep(0.05)
            assert len(rows) == seen


def test_nobody_there(transport: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
    with following(port, transport=transport, silent_after_s=0.3) as (client, _):
        until(lambda: client.status().detail not in ("not started", ""))
        words = f"127.0.0.1:{port}" if transport == "tcp" else "no usable configuration"
        until(lambda: words in client.status().detail)
        assert not client.status().connected


def test_an_address_that_does_not_answer_is_given_up_in_time() -> None:
    """A listener whose queue is full answers no SYN."""
    with closing(socket.socket()) as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with following(port, connect_timeout_s=0.2) as (client, _):
            until(lambda: "no connection within 0.2 s" in client.status().detail)
        for one in waiting:
            one.close()


BABBLE = [b"", b"\xaa\x31\xff\xff", bytes(range(256)) * 64, b"\xaa\x01\xff\xff" * 40_000, b"\xaa" * 5000]


@pytest.mark.parametrize("words", BABBLE, ids=["mute", "promise", "babble", "hostile", "howl"])
def test_a_mute_or_babbling_peer_freezes_nothing(words: bytes) -> None:
    """The peer accepts, says nothing or nonsense, and never hangs up."""
    with closing(socket.create_server(("127.0.0.1", 0))) as peer:
        held = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = peer.accept()
                except OSError:
                    return
                held.append(connection)
                try:
                    connection.sendall(words)
                except OSError:
                    continue  # the client has had enough of it

        threading.Thread(target=accept, daemon=True).start()
        # Nonsense is recognised as such, and does not wait for the watchdog.
        silent_after_s = 60.0 if len(words) > 100 else 0.2
        with following(peer.getsockname()[1], silent_after_s=silent_after_s) as (client, rows):
            until(lambda: len(held) >= 3)
            assert not client.status().connected
            assert not rows.blocks
        peer.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


class Proxy:
    """Passes octets between client and unit, spoiling some of the unit's: changed, dropped, doubled, or cut off."""

    def __init__(self, port: int, seed: int) -> None:
        self._target = port
        self._random = random.Random(seed)  # noqa: S311
        self.spoil = 0.0
        self.spoiled = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client), closing(socket.create_connection(("127.0.0.1", self._target))) as unit:
            while True:
                for ready in select.select([client, unit], [], [])[0]:
                    try:
                        octets = ready.recv(4096)
                        if not octets:
                            return
                        if ready is client:
                            unit.sendall(octets)
                        elif self._random.random() >= self.spoil:
                            client.sendall(octets)
                        else:
                            self.spoiled += 1
                            spoiled = self._spoil(bytearray(octets))
                            if spoiled is None:
                                return
                            client.sendall(spoiled)
                    except OSError:
                        return

    def _spoil(self, octets: bytearray) -> bytes | None:
        at = self._random.randrange(len(octets))
        match self._random.randrange(5):
            case 0:
                octets[at] ^= 1 << self._random.randrange(8)
            case 1:
                octets[at : at + 2] = self._random.randbytes(2)  # what the check word finds for certain
            case 2:
                del octets[at : at + self._random.randrange(1, 9)]
            case 3:
                octets[at:at] = octets[at : at + 20]
            case _:
                return None if self._random.random() < 0.2 else bytes(octets[:at])
        return bytes(octets)


RUNS = int(os.environ.get("FLYBALL_SPOILED_RUNS", "4"))


@pytest.mark.parametrize("seed", range(RUNS))
def test_a_corrupted_line_is_survived_and_no_wrong_value_accepted(seed: int) -> None:
    """Each value is bound to its own stamp, so that whatever comes through can be told to be right."""
    with (
        unit_here(pmus=(replace(ONE, floats=bool(seed % 2)),)) as unit,
        closing(Proxy(unit.port, seed)) as proxy,
        following(proxy.port, silent_after_s=0.3) as (client, rows),
    ):
        started(unit)
        proxy.spoil = 0.2
        k = 0
        while proxy.spoiled < 40:
            unit.publish(T0_NS + k * STEP_NS, 50.0 + (k % 1000) / 1000, VOLT * (1 - (k % 7) / 10))
            k += 1
            time.sleep(0.001)
        proxy.spoil = 0.0
        seen = len(rows)

        def publish_on() -> bool:
            nonlocal k
            unit.publish(T0_NS + k * STEP_NS, 50.0 + (k % 1000) / 1000, VOLT * (1 - (k % 7) / 10))
            k += 1
            return len(rows) >= seen + 20

        until(publish_on)
        assert client.status().handler_errors == 0
        assert client.status().surprises > 0
    got = rows.all()
    at = np.rint((got["t_ns"] - T0_NS) / STEP_NS)
    assert (got["t_ns"] - T0_NS == at * STEP_NS).all()
    assert ((at >= 0) & (at < k)).all()
    np.testing.assert_allclose(got["hz"], 50.0 + (at % 1000) / 1000, atol=5.1e-4)
    np.testing.assert_allclose(got["volt_frac"], 1 - (at % 7) / 10, atol=1e-4)


def test_an_exception_in_the_handler_is_counted() -> None:
    def fail(_: Any) -> None:
        raise KeyError("theirs")

    with unit_here() as unit:
        client = make_client("127.0.0.1", unit.port, idcode=7, nominal_volt=VOLT)
        client.start(fail)
        started(unit)
        for k in range(3):
            unit.publish(T0_NS + k * STEP_NS, 50.0 + k, VOLT)
        until(lambda: client.status().handler_errors == 3)
        assert client.status().connected
        assert "theirs" in client.status().detail
        ends(client.stop)


# ---- a foreign unit

FOREIGN = """
import collections, collections.abc, os, signal, sys, threading, time
collections.Sequence = collections.abc.Sequence  # it was written for Python 3.9
from synchrophasor.frame import ConfigFrame2
from synchrophasor.pmu import Pmu
pmu = Pmu(pmu_id=7, ip="127.0.0.1", port=int(sys.argv[1]), data_rate=50, set_timestamp=False)
pmu.logger.setLevel("CRITICAL")
pmu.set_configuration(ConfigFrame2(
    7, 1000000, 1, "FOREIGN", 7, (False, False, True, False), 4, 1, 1,
    ["VA", "VB", "VC", "I1", "ANALOG1"] + ["BIT %d" % k for k in range(16)],
    [(915527, "v")] * 3 + [(45776, "i")], [(1, "pow")], [(0, 0xFFFF)], 60, 22, 50, soc=1700000000, frasec=(0, "+")))
pmu.set_header("words")
pmu.run()
print("up", flush=True)
from synchrophasor.frame import DataFrame
stat = ("ok", True, "timestamp", False, False, False, 0, "<10", 0)
parent, k = os.getppid(), 0
while os.getppid() == parent:
    volts = [(14635, 0), (-7318, -12676), (-7318, 12675), (1092, 0)]
    pmu.send(DataFrame(7, stat, volts, k % 1000 - 500, 0, [1], [0], pmu.cfg2, 1700000000 + k // 50,
                       (k % 50 * 20000, "+")))
    k += 1
    time.sleep(0.02)
os.killpg(0, signal.SIGKILL)
"""


def test_a_foreign_unit_is_followed_killed_and_found_again() -> None:
    pytest.importorskip("synchrophasor", reason="the foreign unit is not installed: pip install 'flyball[test]'")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]

    @contextmanager
    def foreign_unit() -> Iterator[None]:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", FOREIGN, str(port)], stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its clients are processes of their own
            process.wait()
            process.stdout.close()

    # 14635 x 915527e-5 V, as in the standard's own example (annex D).
    nominal_volt = 14635 * 9.15527
    with following(port, nominal_volt=nominal_volt, silent_after_s=1.0) as (client, rows):
        with foreign_unit():
            until(lambda: len(rows) >= 30)
            status = client.status()
            assert (status.connected, status.refused, status.gaps) == (True, {}, 0)
            assert "following 7 (FOREIGN) at rate 50; voltages VA, VB, VC" in status.detail
        until(lambda: not client.status().connected)
        seen = len(rows)
        with foreign_unit():
            until(lambda: len(rows) >= seen + 10)
            assert client.status().reconnects == 1
    got = rows.all()
    at = np.rint((got["t_ns"] - T0_NS) / STEP_NS)
    np.testing.assert_array_equal(got["hz"], (60_000 + at % 1000 - 500) / 1000)
    np.testing.assert_allclose(got["volt_frac"], 1.0, atol=1e-4)
    assert not got["quality"].any()
