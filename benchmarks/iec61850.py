"""From a measurement written into a device to its row in our hands, over real sockets; device and client in processes
of their own, because both would otherwise wait for one interpreter.

Latency is source stamp to `on_block`, one clock. CPU is the client's whole process, all its threads, over wall time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure import Figure

DEVICES = """
import json, sys, threading, time
from telemetry.iec61850 import make_unit
count, rate = int(sys.argv[1]), float(sys.argv[2])
units = [make_unit("libiec61850", 0) for _ in range(count)]
for unit in units:
    unit.start()
print(json.dumps([unit.port for unit in units]), flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), __import__("os")._exit(0)), daemon=True).start()
begin_s, k = time.monotonic(), 0
while True:  # the devices in turn, so that their reports do not come in bursts
    units[k % count].publish(time.time_ns(), 50.0 + k % 997 * 1e-5, 230.0)
    k += 1
    time.sleep(max(0.0, begin_s + k / (count * rate) - time.monotonic()))
"""

CLIENTS = """
import json, sys, time
from telemetry.iec61850 import make_client
ports, seconds, backend = json.loads(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
stamps = []
def take(block):
    stamps.append((int(block["t_ns"][0]), time.time_ns()))
sources = [make_client(backend, "127.0.0.1", port, source=k) for k, port in enumerate(ports)]
for source in sources:
    source.start(take)
while not all(source.status().connected for source in sources):
    time.sleep(0.01)
time.sleep(1.0)
del stamps[:]
cpu_s, wall_s = time.process_time(), time.monotonic()
time.sleep(seconds)
cpu_frac = (time.process_time() - cpu_s) / (time.monotonic() - wall_s)
late_ms = sorted((rx_ns - t_ns) / 1e6 for t_ns, rx_ns in stamps)
gaps = sum(source.status().gaps for source in sources)
for source in sources:
    source.stop()
print(json.dumps({
    "cpu_frac": cpu_frac, "rows": len(late_ms), "gaps": gaps,
    "p50_ms": late_ms[len(late_ms) // 2], "p99_ms": late_ms[int(len(late_ms) * 0.99)],
}))
"""


@contextmanager
def devices(count: int, rate: float) -> Iterator[str]:
    """Their ports, as JSON."""
    command = [sys.executable, "-c", DEVICES, str(count), str(rate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline()
        finally:
            process.kill()


def follow(count: int, rate: float, seconds: float, backend: str = "libiec61850") -> dict[str, float]:
    """One client process on so many devices."""
    with devices(count, rate) as ports:
        command = [sys.executable, "-c", CLIENTS, ports, str(seconds), backend]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def run(quick: bool) -> list[Figure]:
    """`iec61850.*`; nothing where the library has no wheel."""
    from telemetry.iec61850 import backends

    if "libiec61850" not in backends():
        return [Figure("iec61850.report_p50_ms", None, "ms", "libiec61850 is not installed here")]
    seconds = 3.0 if quick else 10.0
    one, ten, fast = follow(1, 50, seconds), follow(10, 50, seconds), follow(1, 1000, seconds)
    figures = [
        Figure("iec61850.report_p50_ms", one["p50_ms"], "ms", "one device at 50 Hz, goal 1"),
        Figure("iec61850.report_p99_ms", one["p99_ms"], "ms", "goal 3"),
        Figure("iec61850.cpu_frac.10x50", ten["cpu_frac"], "core", "ten devices at 50 Hz, goal 0.06"),
        Figure("iec61850.cpu_frac.1x1000", fast["cpu_frac"], "core", "one at 1000 Hz, goal 0.06"),
        Figure("iec61850.gaps", one["gaps"] + ten["gaps"] + fast["gaps"], "reports", "goal 0"),
    ]
    if "open61850" in backends():
        other = follow(1, 50, seconds, "open61850")
        figures += [
            Figure("iec61850.permissive_report_p50_ms", other["p50_ms"], "ms", "the same over open61850"),
            Figure("iec61850.permissive_cpu_frac.1x50", other["cpu_frac"], "core", "reported"),
        ]
    return figures
