"""The GOOSE source: over a veth pair with foreign publishers, and what it says where raw sockets are not permitted."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from telemetry import goose
from telemetry.goose import GooseSource, GooseUnavailable
from telemetry.goose_intake import Subscription
from telemetry.samples import Quality
from telemetry.source import FrequencySource
from tests.telemetry.utility_clients import need, until

ROOT = Path(__file__).resolve().parents[2]
OF = Subscription("GRIDMEAS/LLN0$GO$gcbHz")


def own_network() -> list[str]:
    """The words that start a program in a network namespace of its own."""
    need("libiec61850", "open61850")
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("GOOSE over veth needs the programs unshare (util-linux) and ip (iproute2)")
    if os.geteuid() != 0:
        pytest.skip("GOOSE over veth is tested as root: sudo, or a container")
    words = ["unshare", "-n"]
    probe = "ip link add name va type veth peer name vb"
    tried = subprocess.run([*words, "sh", "-c", probe], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"network namespaces are not permitted here: {tried.stderr.strip()[-200:]}")
    return words


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    ended = subprocess.run(
        [*own_network(), sys.executable, str(ROOT / "tests/telemetry/goose_veth.py")],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_every_state_arrives_with_its_value_time_and_quality(told: dict[str, Any]) -> None:
    first = told["first"]
    assert first["got"] == first["sent"] == 200
    assert first["hz"] is True
    assert first["t_off_ns"] <= 60
    assert first["quality"] == [Quality.INVALID, *[0] * 9, Quality.INVALID]
    assert first["before"] >= -60  # the kernel's stamp, never before the source's own
    assert first["source"] == 9
    status = first["status"]
    assert (status["connected"], status["gaps"], status["repeats"], status["surprises"]) == (True, 0, 0, 0)
    assert status["handler_errors"] == 0


def test_bits_repetitions_and_silence(told: dict[str, Any]) -> None:
    assert told["bits"] == {"repeats": 2, "quality": [Quality.TEST, Quality.INVALID]}
    assert told["silent"] is True
    assert told["back"] == 1


def test_tagged_frames_and_another_publisher_are_understood(told: dict[str, Any]) -> None:
    assert told["others"] == [1, 1]
    assert told["tagged"] is True
    assert told["open61850"] == [60.0, 60.125, 60.25, 60.375, 60.5]


def test_an_interface_that_goes_down_is_waited_for(told: dict[str, Any]) -> None:
    assert told["down"] is True
    assert told["up"] is True


def test_it_stops_under_traffic_and_starts_again(told: dict[str, Any]) -> None:
    assert told["stopped"] == {"detail": "stopped", "quiet": True}
    assert told["again"] is True


def test_without_the_capability_it_is_not_made_and_says_what_to_do(told: dict[str, Any]) -> None:
    assert "GOOSE on vb needs CAP_NET_RAW: setcap" in told["refused"]


def test_where_raw_sockets_are_not_permitted_or_unknown_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied() -> Any:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(goose, "_raw", denied)
    with pytest.raises(GooseUnavailable, match=r"GOOSE on eth0 needs CAP_NET_RAW: setcap .* or another source"):
        GooseSource("eth0", OF)
    assert not goose.permitted()
    monkeypatch.undo()
    monkeypatch.delattr("socket.AF_PACKET", raising=False)
    with pytest.raises(GooseUnavailable, match="needs Linux"):
        GooseSource("eth0", OF)
    assert not goose.permitted()


def test_an_interface_that_is_not_there_is_named_and_stopping_does_not_wait() -> None:
    if not goose.permitted():
        pytest.skip("raw sockets are not permitted here: CAP_NET_RAW")
    source = GooseSource("nowhere0", OF)
    assert isinstance(source, FrequencySource)
    assert source.status().detail == "not started"
    source.start(lambda _: None)
    with pytest.raises(RuntimeError, match="is running"):
        source.start(lambda _: None)
    until(lambda: "nowhere0" in source.status().detail)
    assert not source.status().connected
    source.stop()
    source.stop()
    assert source.status().detail == "stopped"


def test_arrival_is_the_kernels_stamp_where_it_gives_one() -> None:
    stamp = goose.TIMESPEC.pack(1_700_000_000, 5)
    assert goose._stamp([(0, 0, b""), (socket.SOL_SOCKET, 35, stamp)]) == 1_700_000_000_000_000_005
    before_ns = time.time_ns()
    assert before_ns <= goose._stamp([(socket.SOL_SOCKET, 35, b"")]) <= time.time_ns()


def test_a_source_is_made_from_plain_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goose, "_raw", lambda: socket.socket())
    made = goose.make_client(
        "eth0", reference=OF.reference, hz=[0, 0, 0], quality=None, utc=[0, 2], volts=[[1], [2]],
        destination="01-0C-CD-01-00-7f", app_id=0x1001, revision=3, nominal_volt=110.0, silent_after_s=2.0, source=5,
    )  # fmt: skip
    assert made._destination == b"\x01\x0c\xcd\x01\x00\x7f"
    assert made._of == Subscription(
        OF.reference, (0, 0, 0), None, (0, 2), ((1,), (2,)), 110.0, 0x1001, 3, 5, 2.0,
    )  # fmt: skip
    with pytest.raises(ValueError, match="destination 'all'"):
        goose.make_client("eth0", reference=OF.reference, destination="all")


@pytest.mark.parametrize(
    ("interface", "destination", "message"),
    [("", None, "interface"), ("x" * 16, None, "interface"), ("eth0", b"\x01\x0c", "destination"),
     ("eth0", bytes(6), "destination")],
)  # fmt: skip
def test_settings_that_cannot_be_are_named(interface: str, destination: bytes | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GooseSource(interface, OF, destination)
