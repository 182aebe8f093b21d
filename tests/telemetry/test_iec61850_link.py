"""Real servers and clients over loopback: what is published arrives; nothing a peer does hangs or ends the client."""

from __future__ import annotations

import math
import re
import signal
import socket
import threading
import time
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from telemetry.iec61850 import PortInUse, ServerError, make_client, make_unit, supervisor
from telemetry.iec61850.mapping import OLD_DATA, SUBSTITUTED, TEST, VALIDITY_INVALID, VALIDITY_QUESTIONABLE
from telemetry.samples import Quality
from tests.telemetry.ieds import (
    NAMES,
    T0_NS,
    Proxy,
    Rows,
    closing_unit,
    ends,
    linked,
    need,
    subscribed,
    unit_here,
    unit_process,
    until,
)


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return str(request.param)


@pytest.fixture(params=[(unit, client) for unit in NAMES for client in NAMES], ids=lambda pair: "->".join(pair))
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    need(*request.param)
    unit, client = request.param
    return unit, client


# ---- what is published arrives


def test_values_quality_and_time_arrive(pair: tuple[str, str]) -> None:
    sent = [
        (50.012, 231.0, 0, True, Quality.GOOD),
        (49.2, 3.5, 0, True, Quality.GOOD),  # dead bus: the gate judges, the link only carries
        (50.0, 230.0, VALIDITY_INVALID, True, Quality.INVALID),
        (50.0, 230.0, VALIDITY_QUESTIONABLE | OLD_DATA, True, Quality.INVALID),
        (50.0, 230.0, SUBSTITUTED, True, Quality.INVALID),
        (50.0, 230.0, TEST, True, Quality.TEST),
        (50.0, 230.0, 0, False, Quality.CLOCK),
        (math.nan, 230.0, VALIDITY_INVALID | TEST, False, Quality.NAN | Quality.INVALID | Quality.TEST | Quality.CLOCK),
        (0.0, 0.0, 0, True, Quality.GOOD),
    ]
    quiet = {"integrity_ms": 60_000, "silent_after_s": 60.0}  # no periodic report in between
    with (
        unit_here(pair[0]) as unit,
        subscribed(pair[1], unit.port, nominal_volt=230.0, source=7, **quiet) as (client, rows),
    ):
        linked(client)
        before_ns = time.time_ns()
        for k, (hz, volts, quality, clock_ok, _) in enumerate(sent):
            unit.publish(T0_NS + k * 20_000_000, hz, volts, quality, clock_ok)
        until(lambda: len(rows) >= len(sent))
        got = rows.all()
        after_ns = time.time_ns()
        assert client.status().reports == len(sent)  # one report for each, with both members
        assert client.status().gaps == client.status().surprises == 0
        assert client.status().last_rx_ns == got["rx_ns"][-1]
    np.testing.assert_array_equal(got["hz"], np.float32([s[0] for s in sent]).astype(np.float64))
    np.testing.assert_allclose(got["volt_frac"], np.float32([s[1] for s in sent]) / 230.0, rtol=1e-6)
    assert [Quality(int(q)) for q in got["quality"]] == [s[4] for s in sent]
    step_ns = 31 if pair == ("libiec61850", "libiec61850") else 1031  # 2**-24 s; open61850 keeps microseconds
    assert np.abs(got["t_ns"] - (T0_NS + 20_000_000 * np.arange(len(sent)))).max() <= step_ns
    assert (got["source"] == 7).all()
    assert (got["rx_ns"] >= before_ns).all()
    assert (got["rx_ns"] <= after_ns).all()


def test_a_stuck_value_is_reported_each_time(pair: tuple[str, str]) -> None:
    with unit_here(pair[0]) as unit, subscribed(pair[1], unit.port) as (client, rows):
        linked(client)
        for k in range(5):
            unit.publish(T0_NS + k * 20_000_000, 50.01, 230.0)
        until(lambda: len(rows) >= 5)
        assert len(set(rows.all()["t_ns"])) == 5
        assert set(rows.all()["volt_frac"]) == {1.0}


def test_integrity_reports_repeat_and_are_not_delivered(pair: tuple[str, str]) -> None:
    with unit_here(pair[0]) as unit, subscribed(pair[1], unit.port, integrity_ms=50) as (client, rows):
        until(lambda: client.status().repeats >= 2)  # before the first measurement, too
        assert len(rows) == 0
        unit.publish(T0_NS, 50.01, 230.0)
        until(lambda: len(rows) == 1)
        seen = client.status().repeats
        until(lambda: client.status().repeats >= seen + 3)
        assert len(rows) == 1


def test_sequence_numbers_wrap_without_a_gap(pair: tuple[str, str]) -> None:
    with unit_here(pair[0]) as unit, subscribed(pair[1], unit.port) as (client, rows):
        linked(client)
        for k in range(300):
            unit.publish(T0_NS + k * 1_000_000, 50.0 + k / 1000, 230.0)
            until(lambda k=k: len(rows) > k)
        assert client.status().gaps == 0
        assert (np.diff(rows.all()["t_ns"]) > 0).all()


def test_a_buffered_block_serves_too(pair: tuple[str, str]) -> None:
    block = "GRIDMEAS/LLN0.BR.brcb01"
    with unit_here(pair[0]) as unit, subscribed(pair[1], unit.port, report_block=block) as (client, rows):
        linked(client)
        for k in range(3):
            unit.publish(T0_NS + k * 1_000_000, 50.0 + k / 1000, 230.0)
        until(lambda: client.status().connected and len(rows) >= 3)
        assert client.status().detail == f"subscribed to {block}"


def test_each_client_takes_a_block_of_its_own(pair: tuple[str, str]) -> None:
    with (
        unit_here(pair[0], name="X", logical_device="LD0") as unit,
        subscribed(pair[1], unit.port, report_block="XLD0/LLN0.RP.urcb01") as (one, rows_one),
    ):
        linked(one)
        with subscribed(pair[1], unit.port, report_block="XLD0/LLN0.RP.urcb01") as (two, rows_two):
            linked(two)
            assert {one.status().detail, two.status().detail} == {
                f"subscribed to XLD0/LLN0.RP.urcb0{n}" for n in (1, 2)
            }
            unit.publish(T0_NS, 50.5, 230.0)
            until(lambda: len(rows_one) == len(rows_two) == 1)
        with subscribed(pair[1], unit.port, report_block="XLD0/LLN0.RP.urcb02") as (three, _):
            linked(three)  # given back politely, so free again
            assert three.status().detail == "subscribed to XLD0/LLN0.RP.urcb02"
        with subscribed(pair[1], unit.port, report_block="XLD0/LLN0.RP.nothing") as (four, _):
            until(lambda: "nothing" in four.status().detail)
            assert not four.status().connected


STRANGER = {
    '<DA name="mag" bType="Struct" type="Analogue" fc="MX" dchg="true"/>': (
        '<DA name="instMag" bType="Struct" type="Both" fc="MX"/>'
        '<DA name="mag" bType="Struct" type="Both" fc="MX" dchg="true"/>'
        '<DA name="range" bType="INT8" fc="MX"/>'
    ),
    '<DAType id="Analogue">': '<DAType id="Both"><BDA name="i" bType="INT32"/><BDA name="f" bType="FLOAT32"/></DAType>'
    '<DAType id="Analogue">',
}


@pytest.mark.parametrize("client", NAMES)
def test_a_stranger_with_another_member_order(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An MV of instMag, mag, range, q, t whose AnalogueValue holds i before f; and a data set that begins with PhV."""
    need("open61850", client)
    from open61850.data import FloatData, IntData, StructureData, TimestampData

    from telemetry.iec61850 import permissive_server as ps

    model = ps.MODEL
    for ours, theirs in STRANGER.items():
        assert ours in model
        model = model.replace(ours, theirs)
    model = re.sub(r"(<FCDA [^>]*Hz[^>]*>)(\s*)(<FCDA [^>]*PhV[^>]*>)", r"\3\2\1", model)
    monkeypatch.setattr(ps, "MODEL", model)
    monkeypatch.setattr(ps.MeasuringUnit, "_set", lambda *_, **__: None)
    unit = ps.MeasuringUnit(0)
    unit.start()
    with closing_unit(unit), subscribed(client, unit.port, integrity_ms=100) as (source, rows):
        linked(source)
        model_now = unit._model
        when = ps.EPOCH + ps.timedelta(seconds=1_700_000_000)
        both = [StructureData([IntData(4711), FloatData(hz)]) for hz in (12.5, 49.5)]
        with model_now.batch():
            good = ps.BitStringData(b"\x00\x00", 3)
            model_now.set(unit._hz, StructureData([*both, IntData(3), good, TimestampData(when, 10)]))
        until(lambda: len(rows) >= 1)
        row = rows.all()[0]
        assert (row["hz"], row["t_ns"], row["quality"]) == (49.5, 1_700_000_000_000_000_000, 0)


# ---- the unit's own doors


def test_a_busy_port_has_a_name(backend: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"port {port} on 127\.0\.0\.1 is in use.*another port"):
            make_unit(backend, port)
    unit = make_unit(backend, port)  # free again
    with closing(socket.create_server(("127.0.0.1", port))), pytest.raises(PortInUse, match=str(port)):
        unit.start()
    unit.start()
    with pytest.raises(ServerError, match="running"):
        unit.start()
    unit.stop()
    unit.stop()
    with pytest.raises(ServerError, match="not running"):
        unit.publish(T0_NS, 50.0, 230.0)
    unit.start()  # and again on the same port
    unit.stop()


def test_the_unit_listens_on_its_host_alone(backend: str) -> None:
    with unit_here(backend, host="127.0.0.2") as unit:
        socket.create_connection(("127.0.0.2", unit.port), timeout=5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", unit.port), timeout=5)


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 70000)])
def test_an_impossible_address_has_a_name(backend: str, host: str, port: int) -> None:
    with pytest.raises(ServerError, match=f"{host}|{port}"):
        make_unit(backend, port, host)


def test_an_impossible_time_is_refused_and_the_unit_goes_on(backend: str) -> None:
    with unit_here(backend) as unit:
        with pytest.raises(ValueError, match="1970"):
            unit.publish(-1_000_000_000, 50.0, 230.0)
        unit.publish(T0_NS, 50.0, 230.0)


# ---- peers that fail


def test_a_killed_unit_is_found_again(pair: tuple[str, str]) -> None:
    with unit_process(pair[0]) as (process, port), subscribed(pair[1], port, silent_after_s=2.0) as (client, rows):
        until(lambda: len(rows) >= 5)
        process.kill()
        process.wait()
        until(lambda: not client.status().connected)
        with unit_process(pair[0], port):
            seen = len(rows)
            until(lambda: len(rows) >= seen + 5)
            status = client.status()
            assert status.connected
            assert status.reconnects == 1
            assert status.surprises == 0


def test_a_frozen_unit_is_noticed_by_its_silence(pair: tuple[str, str]) -> None:
    """And taken up again; each `until` fails where it waits in vain."""
    with (
        unit_process(pair[0]) as (process, port),
        subscribed(pair[1], port, silent_after_s=0.5, connect_timeout_s=0.3) as (client, rows),
    ):
        until(lambda: len(rows) >= 5)
        process.send_signal(signal.SIGSTOP)
        until(lambda: not client.status().connected)
        process.send_signal(signal.SIGCONT)
        seen = len(rows)
        until(lambda: client.status().reconnects >= 1 and len(rows) >= seen + 5)


def test_stop_under_traffic_and_start_again(pair: tuple[str, str]) -> None:
    with unit_process(pair[0]) as (_, port):
        client = make_client(pair[1], "127.0.0.1", port)
        for _ in range(3):
            rows = Rows()
            client.start(rows)
            with pytest.raises(RuntimeError, match="running"):
                client.start(rows)
            until(lambda rows=rows: len(rows) >= 3)
            ends(client.stop)
            seen = len(rows)
            assert client.status().detail == "stopped"
            client.stop()
            time.sleep(0.05)
            assert len(rows) == seen


def test_stop_while_the_unit_is_frozen(pair: tuple[str, str]) -> None:
    with unit_process(pair[0]) as (process, port), subscribed(pair[1], port, connect_timeout_s=0.3) as (client, rows):
        until(lambda: len(rows) >= 3)
        process.send_signal(signal.SIGSTOP)  # leaving the block ends `subscribed`, which must not hang
    assert client.status().detail == "stopped"


def test_an_exception_in_the_handler_is_counted(backend: str) -> None:
    def fail(_: Any) -> None:
        raise KeyError("theirs")

    with unit_here(backend) as unit:
        client = make_client(backend, "127.0.0.1", unit.port)
        client.start(fail)
        linked(client)
        for k in range(3):
            unit.publish(T0_NS + k, 50.0 + k, 230.0)
        until(lambda: client.status().handler_errors == 3)
        assert client.status().connected
        assert "theirs" in client.status().detail
        ends(client.stop)


def test_a_point_that_is_not_in_the_data_set_has_a_name(backend: str) -> None:
    with (
        unit_here(backend) as unit,
        subscribed(backend, unit.port, hz_ref="GRIDMEAS/MMXU7.Hz") as (client, _),
    ):
        until(lambda: "the data set has no GRIDMEAS/MMXU7.Hz.mag.f" in client.status().detail)
        assert not client.status().connected
    with pytest.raises(ValueError, match="silent_after_s 0"):
        make_client(backend, "127.0.0.1", 1, silent_after_s=0)
    with pytest.raises(ValueError, match="report_block"):
        make_client(backend, "127.0.0.1", 1, report_block="urcb01")


def test_nobody_there(backend: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
    with subscribed(backend, port) as (client, _):
        until(lambda: str(port) in client.status().detail)
        assert not client.status().connected


@pytest.mark.parametrize("words", [b"", b"\x03\x00\x00\x07\x02\xf0\x00", bytes(range(256)) * 8])
def test_a_mute_or_babbling_peer_freezes_nothing(backend: str, words: bytes) -> None:
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
                connection.sendall(words)

        threading.Thread(target=accept, daemon=True).start()
        beats = 0
        with subscribed(backend, peer.getsockname()[1], connect_timeout_s=0.3) as (client, _):
            while len(held) < 3:  # the third try, and Python runs on meanwhile
                beats += 1
                time.sleep(0.001)
                assert not client.status().connected
            assert beats > 50
        peer.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def test_a_corrupted_line_is_survived(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is whole, measurements come again; each `until` fails where it waits in vain."""
    monkeypatch.setattr(supervisor, "BACKOFF_MAX_S", 0.1)  # most tries fail before they subscribe
    with unit_process(backend) as (_, port), closing(Proxy(port, seed=1)) as proxy:
        options = {"silent_after_s": 0.4, "connect_timeout_s": 0.3}
        with subscribed(backend, proxy.port, **options) as (client, rows):
            until(lambda: len(rows) >= 3)
            proxy.spoil = 0.2
            until(lambda: proxy.spoiled >= 25, within_s=60.0)
            proxy.spoil = 0.0
            seen = len(rows)
            until(lambda: client.status().connected and len(rows) >= seen + 20, within_s=60.0)
