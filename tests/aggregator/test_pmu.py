"""`flyball pmu`: the process as it is, followed by a client; options that mean nothing are refused by name."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from aggregator.pmu import Plan, serve
from telemetry.c37118 import make_client
from telemetry.samples import Quality

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "aggregator.cli", "pmu"]


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return int(free.getsockname()[1])


def test_the_command_serves_and_its_faults_reach_the_wire():
    port, blocks, enough = free_port(), [], threading.Event()

    def take(block: Any) -> None:
        blocks.append(block)
        status = client.status()
        if status.reconnects and status.configurations > 1 and "crc" in status.refused and len(blocks) > 150:
            enough.set()

    kinds = ("crc@1+0.1", "unsync@1.2+0.3", "drop@1.8", "spike@1.6", "config-change@1.2")
    faults = [word for kind in kinds for word in ("--fault", kind)]
    options = ["--port", str(port), "--idcode", "7", "--rate", "100", "--others", "2", "--stream", "60", *faults]
    client = make_client("127.0.0.1", port, idcode=7, stream=60, nominal_volt=11547.0, silent_after_s=1.0)
    with subprocess.Popen([*COMMAND, *options], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "measuring unit up" in process.stderr.readline()
            client.start(take)
            assert enough.wait(60)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
        finally:
            process.kill()
            client.stop()
    assert process.returncode == 0
    assert client.status().others == 2 * len(blocks)
    rows = np.concatenate(blocks)
    assert set(rows["quality"].tolist()) == {0, int(Quality.CLOCK)}
    assert (rows["t_ns"] % 10_000_000 == 0).all()  # on the grid of its rate
    assert rows["hz"].min() < 49.2  # the spike
    assert np.median(np.abs(rows["hz"] - 50)) < 0.2
    assert np.abs(rows["volt_frac"] - 1).max() < 0.02


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"port": 70000}, "--port 70000"),
        ({"rate": 0}, "--rate 0"),
        ({"nominal_hz": 55.0}, "--nominal-hz 55"),
        ({"nominal_volt": float("nan")}, "--nominal-volt nan"),
        ({"others": -1}, "--others -1"),
        ({"idcode": 65500, "others": 50}, "--idcode 65500"),
        ({"stream": 70000}, "--idcode 1: IDCODEs"),
        ({"faults": ("flood@1",)}, "fault 'flood@1' is not KIND@SECONDS.*spike.*config-change"),
        ({"send_to": "nowhere"}, "--send-to 'nowhere': give HOST:PORT"),
        ({"send_to": "127.0.0.1:0"}, "--send-to"),
        ({"host": "192.0.2.1", "port": 0}, "192.0.2.1"),
    ],
)
def test_options_that_mean_nothing_are_refused_by_name(wrong, words):
    with pytest.raises((ValueError, RuntimeError), match=words):
        serve(Plan(**wrong), None, structlog.get_logger())  # type: ignore[arg-type] # refused before it is asked


def test_a_refusal_is_one_line_and_status_2():
    done = subprocess.run(
        [*COMMAND, "--rate", "0"], cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [done.stderr.strip()]
    assert "--rate 0: give 1 to 1000 frames a second" in done.stderr
