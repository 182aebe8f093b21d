"""The streams: publish to follow across processes, and vehicle reports into the core.

The hop is measured at 100 Hz from one process to another through two real servers, as the line does it; against it the
same through one. Reports are wire blocks of many vehicles as a gateway sends them: read from the server, unpacked,
judged and taken into the fleet's columns by one core.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np

from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from aggregator.embedded import EmbeddedServer
from aggregator.gateways.simulated import SimulatedFleet
from benchmarks.measure import Figure
from droop.products import load
from telemetry import wire
from telemetry.latency import Histogram
from telemetry.paired import PairedReader
from telemetry.redis_stream import StreamWriter, connect
from telemetry.samples import FREQUENCY, empty

RATE_HZ = 100
KEY = "freq:bench:i1"
VEHICLES, A_BLOCK, SECONDS = 100_000, 2_000, 3

PUBLISH = """
import sys, time
import numpy as np
from telemetry import wire
from telemetry.paired_writer import PairedWriter
from telemetry.samples import FREQUENCY
count, key, urls = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
writer = PairedWriter(urls, key, 1)
row = np.zeros(1, FREQUENCY)
due = time.monotonic()
for _ in range(count):
    due += 0.01
    time.sleep(max(0.0, due - time.monotonic()))
    row["rx_ns"] = time.time_ns()
    writer.add(wire.encode(row))
writer.settle(30.0)
"""


class Hop(NamedTuple):
    """spans : publish to follow [ns]; seen : samples; lost : of those published; gap_s : longest time between two"""

    spans: Histogram
    seen: int
    lost: int
    gap_s: float


def hop(urls: list[str], seconds: float, victim: EmbeddedServer | None = None) -> Hop:
    """Samples at RATE_HZ from another process; half-way a server is killed with SIGKILL, if one is given."""
    for url in urls:
        connect(url).delete(KEY)
    count = round(seconds * RATE_HZ)
    reader = PairedReader(urls, [{KEY: "0"}] * len(urls))
    publisher = subprocess.Popen([sys.executable, "-c", PUBLISH, str(count), KEY, *urls])
    found, seen, gap_s, last_s = Histogram(), 0, 0.0, 0.0
    deadline_s = time.monotonic() + seconds + 30
    while seen < count and time.monotonic() < deadline_s:
        for row in reader.read(50):
            now_ns, now_s = time.time_ns(), time.monotonic()
            seen += 1
            if seen > RATE_HZ:  # the first second warms up both sides
                found.add_ns(now_ns - int(wire.decode(row.payload)["rx_ns"][0]))
                gap_s = max(gap_s, now_s - last_s)
            last_s = now_s
        if victim is not None and seen > count // 2:
            os.kill(victim.pid, signal.SIGKILL)
            victim = None
    publisher.wait(30)
    reader.close()
    return Hop(found, seen, count - seen + reader.missing, gap_s)


def reports_per_s(url: str) -> float:
    """Vehicle reports a second that one core reads, unpacks, judges and takes in."""
    settings = CoreSettings("bench", VEHICLES, (Contract(load("ce_fcr"), 1000.0),))
    core = Aggregator(settings, journal=False)
    now_ns = time.time_ns()
    fleet = SimulatedFleet(VEHICLES, 1, now_ns, perfect=True)
    core.on_sessions(fleet.sessions(now_ns), now_ns)
    sample = empty(FREQUENCY, 1)
    sample["t_ns"] = sample["rx_ns"] = now_ns
    sample["hz"] = 50.0
    core.on_samples(sample, now_ns)
    client = connect(url)
    writer = StreamWriter(client, "fleet:bench:g1", 1, maxlen=10_000)
    blocks = 0
    for second in range(1, SECONDS + 1):
        rows = _a_report_each(fleet, now_ns + second * 10**9)
        for start in range(0, rows.size, A_BLOCK):
            writer.add(wire.encode(rows[start : start + A_BLOCK]))
            blocks += 1
    reader = PairedReader([url], [{"fleet:bench:g1": "0"}])
    taken, busy_s, at_ns = 0, 0.0, now_ns + SECONDS * 10**9
    refused = sum(core.rejected().values())
    while blocks:
        begun_s = time.process_time()
        for row in reader.read(50):
            block = wire.decode(row.payload)
            core.on_vehicles(block, at_ns)
            taken += int(block.size)
            blocks -= 1
        busy_s += time.process_time() - begun_s
    reader.close()
    assert sum(core.rejected().values()) == refused, core.rejected()
    return taken / busy_s


def _a_report_each(fleet: SimulatedFleet, now_ns: int) -> np.ndarray:
    """Until every vehicle that is plugged in has reported once."""
    fleet.advance(now_ns)
    return fleet.reports(now_ns)


def run(quick: bool) -> list[Figure]:
    """`stream.hop_*` and `ingest.reports_per_s`; not quick."""
    if quick:
        return []
    with EmbeddedServer(maxmemory_mb=256) as first, EmbeddedServer(maxmemory_mb=64) as second:
        paired = hop([first.url, second.url], 20).spans
        single = hop([first.url], 20).spans
        rate = reports_per_s(first.url)
        killed = hop([first.url, second.url], 10, first)
    against = f"A killed with SIGKILL; of {killed.seen} at {RATE_HZ} Hz"
    return [
        Figure("stream.hop_p50_ms", paired.quantile_ms(0.5), "ms", "goal 0.5; two servers, 100 Hz"),
        Figure("stream.hop_p99_ms", paired.quantile_ms(0.99), "ms"),
        Figure("stream.hop_single_p50_ms", single.quantile_ms(0.5), "ms", "one server"),
        Figure("stream.killed_lost", killed.lost, "samples", f"goal 0; {against}"),
        Figure("stream.killed_gap_ms", 1e3 * killed.gap_s, "ms", f"longest between two samples; {against}"),
        Figure("ingest.reports_per_s", rate, "1/s", "goal 3e5; processor time of one core"),
    ]
