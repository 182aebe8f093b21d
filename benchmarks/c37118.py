"""A PMU's stream over TCP from a process of its own: what following it costs, and how old its samples are."""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from benchmarks.measure import Figure
from telemetry.c37118 import PmuClient, make_client
from telemetry.c37118.frames import Command, command
from telemetry.latency import Histogram

RATE = 100
HOST = "127.0.0.1"
WARM_S, MEASURED_S = 1.0, 3.0


def run(quick: bool) -> list[Figure]:
    """`c37118.cpu_frac`, the same over a reader that does nothing, and the time from a frame's stamp to its block.

    The unit sends on the grid of its rate; what its own waking is late is in the time.
    """
    latency, gaps, shares, ratios = Histogram(), 0, [], []
    with _unit() as port:
        for _ in range(3 if quick else 7):
            client = make_client(HOST, port, idcode=1, nominal_volt=11547.0)
            ours = _follow(client, latency)
            gaps += client.status().gaps
            shares.append(ours)
            ratios.append(ours / asyncio.run(_listen(port)))
    told = latency.summary()
    return [
        Figure("c37118.cpu_frac", statistics.median(shares), "of a core", f"goal 0.02, at {RATE} frames/s"),
        Figure("c37118.cpu_over_bare", statistics.median(ratios), "ratio", "an asyncio protocol that drops the octets"),
        Figure("c37118.frame_p50_ms", told["p50"], "ms", "stamp to block"),
        Figure("c37118.frame_p99_ms", told["p99"], "ms", "stamp to block"),
        Figure("c37118.gaps", float(gaps), "frames", "goal 0"),
    ]


@contextmanager
def _unit() -> Iterator[int]:
    """The port of a unit that is up."""
    with closing(socket.create_server((HOST, 0))) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "aggregator.cli", "pmu", "--port", str(port), "--rate", str(RATE)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as unit:
        try:
            if unit.stderr is not None:
                unit.stderr.readline()
            yield port
        finally:
            unit.terminate()


def _follow(client: PmuClient, latency: Histogram) -> float:
    """CPU time of this process a second, for `RATE` frames; then, apart because it costs as well, latencies."""
    rows, measuring = 0, False

    def take(block: Any) -> None:
        nonlocal rows
        rows += 1
        if measuring:
            latency.add_ns(time.time_ns() - int(block["t_ns"][0]))

    client.start(take)
    while rows < RATE * WARM_S:
        time.sleep(0.1)
    begun_s, begun = time.process_time(), rows
    time.sleep(MEASURED_S)
    share = (time.process_time() - begun_s) / max(rows - begun, 1) * RATE
    measuring = True
    time.sleep(MEASURED_S)
    client.stop()
    return share


class _Bare(asyncio.Protocol):
    """Asks for data and looks at nothing."""

    def __init__(self) -> None:
        self.frames = 0

    def connection_made(self, transport: Any) -> None:
        transport.write(command(1, Command.START, time.time_ns()))

    def data_received(self, octets: bytes) -> None:
        del octets
        self.frames += 1


async def _listen(port: int) -> float:
    transport, bare = await asyncio.get_running_loop().create_connection(_Bare, HOST, port)
    await asyncio.sleep(WARM_S)
    begun_s, begun = time.process_time(), bare.frames
    await asyncio.sleep(MEASURED_S)
    share = (time.process_time() - begun_s) / max(bare.frames - begun, 1) * RATE
    transport.close()
    return share
