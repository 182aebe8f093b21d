"""A cable between a client and its units, cut and mended: both ends of a veth pair in network namespaces of their own.

Started by test_cable.py in a namespace; the units run in a second one, which this makes. The cable is cut as a pulled
plug cuts it: no end is told, nothing is refused, octets under way are lost. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from telemetry.c37118 import make_client as make_pmu_client
from telemetry.iec61850 import make_client
from telemetry.source import FrequencySource

HERE, THERE = "10.98.61.1", "10.98.61.2"
MMS, PMU = 10102, 14712
VOLT = 230.0
CUT_S = 4.0

UNITS = """
import subprocess, sys, threading, time
from telemetry.c37118 import writer
from telemetry.c37118.simulator import SimulatedPmu
from telemetry.iec61850 import make_unit

host, backend, mms, pmu = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
print("born", flush=True)
sys.stdin.readline()
for words in (["addr", "add", host + "/24", "dev", "vb"], ["link", "set", "vb", "up"], ["link", "set", "lo", "up"]):
    subprocess.run(["ip", *words], check=True)
units = [make_unit(backend, mms, "0.0.0.0"), SimulatedPmu(pmu, "0.0.0.0", pmus=(writer.Pmu(nominal_volt=230.0),))]
for unit in units:
    unit.start()
print("up", flush=True)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
while not ended.wait(0.02):
    for unit in units:
        unit.publish(time.time_ns(), 50.0 + time.time_ns() % 997 * 1e-5, 230.0)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def until(true: Callable[[], Any], what: str, within_s: float = 40.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"in vain: {what}")
        time.sleep(0.01)


def main() -> None:
    backend = sys.argv[1]
    units = subprocess.Popen(
        ["unshare", "-n", sys.executable, "-c", UNITS, THERE, backend, str(MMS), str(PMU)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    assert units.stdin is not None
    assert units.stdout is not None
    try:
        assert units.stdout.readline() == "born\n"
        ip("link", "add", "name", "va", "type", "veth", "peer", "name", "vb")
        ip("link", "set", "vb", "netns", str(units.pid))
        ip("addr", "add", f"{HERE}/24", "dev", "va")
        ip("link", "set", "va", "up")
        ip("link", "set", "lo", "up")
        print("go", file=units.stdin, flush=True)
        assert units.stdout.readline() == "up\n"
        common = {"nominal_volt": VOLT, "silent_after_s": 1.5}
        clients = {
            "iec61850": make_client(backend, THERE, MMS, plaintext=True, **common),
            "c37118 tcp": make_pmu_client(THERE, PMU, idcode=1, **common),  # type: ignore[arg-type]
            "c37118 udp": make_pmu_client(THERE, PMU, idcode=1, transport="udp", **common),  # type: ignore[arg-type]
        }
        print(json.dumps(cut_and_mended(clients)))
    finally:
        units.kill()
        units.wait()


def cut_and_mended(clients: dict[str, FrequencySource]) -> dict[str, dict[str, Any]]:
    rows: dict[str, list[Any]] = {name: [] for name in clients}
    for name, client in clients.items():
        client.start(rows[name].append)
    until(lambda: all(len(found) > 20 for found in rows.values()), "rows before the cut")
    ip("link", "set", "va", "down")
    cut_ns = time.time_ns()
    begun_s = time.monotonic()
    until(lambda: not any(client.status().connected for client in clients.values()), "the cut to be noticed")
    noticed_s = time.monotonic() - begun_s
    time.sleep(max(0.0, CUT_S - noticed_s))
    before = {name: len(found) for name, found in rows.items()}
    ip("link", "set", "va", "up")
    mended_ns = time.time_ns()
    until(lambda: all(len(rows[name]) > before[name] + 20 for name in rows), "rows after it was mended")
    told = {name: client.status() for name, client in clients.items()}
    ip("link", "set", "va", "down")  # and stopped while it is cut again
    found: dict[str, dict[str, Any]] = {}
    for name, client in clients.items():
        begun_s = time.monotonic()
        client.stop()
        found[name] = {
            "noticed_s": noticed_s, "stop_s": time.monotonic() - begun_s, "detail": client.status().detail,
            "reconnects": told[name].reconnects, "handler_errors": told[name].handler_errors,
            "t_ns": [int(block["t_ns"][0]) for block in rows[name]],
            "rx_ns": [int(block["rx_ns"][0]) for block in rows[name]],
            "hz": [float(block["hz"][0]) for block in rows[name]],
            "cut_ns": cut_ns, "mended_ns": mended_ns,
        }  # fmt: skip
    return found


if __name__ == "__main__":
    main()
