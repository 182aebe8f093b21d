"""A PMU's stream over TCP from a process of its own: what following it costs, and how old its samples are."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from contextlib import closing
from typing import Any

from benchmarks.measure import Figure
from telemetry.c37118 import make_client
from telemetry.latency import Histogram

RATE = 100
WARM_S = 2.0


def run(quick: bool) -> list[Figure]:
    """`c37118.cpu_frac` and the time from a frame's stamp to its block: `c37118.frame_p50_ms`, `.frame_p99_ms`.

    The unit sends on the grid of its rate; what its own waking is late is in the time.
    """
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    latency, rows = Histogram(), [0]

    def take(block: Any) -> None:
        rows[0] += 1
        latency.add_ns(time.time_ns() - int(block["t_ns"][0]))

    command = [sys.executable, "-m", "aggregator.cli", "pmu", "--port", str(port), "--rate", str(RATE)]
    client = make_client("127.0.0.1", port, idcode=1, nominal_volt=11547.0)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as unit:
        try:
            client.start(take)
            while rows[0] < RATE * WARM_S and unit.poll() is None:
                time.sleep(0.1)
            shares = [_share(rows) for _ in range(3 if quick else 10)]
        finally:
            client.stop()
            unit.terminate()
    told = latency.summary()
    return [
        Figure("c37118.cpu_frac", statistics.median(shares), "of a core", f"goal 0.02, at {RATE} frames/s"),
        Figure("c37118.frame_p50_ms", told["p50"], "ms", "stamp to block"),
        Figure("c37118.frame_p99_ms", told["p99"], "ms", "stamp to block"),
        Figure("c37118.gaps", float(client.status().gaps), "frames", "goal 0"),
    ]


def _share(rows: list[int]) -> float:
    """CPU time of this process for `RATE` frames a second, over two seconds."""
    begun_s, begun_rows = time.process_time(), rows[0]
    time.sleep(2.0)
    return (time.process_time() - begun_s) / max(rows[0] - begun_rows, 1) * RATE
