"""Clients behind lines that spoil what a device says: `python -m tests.telemetry.spoiled_lines BACKEND SEED RUNS`.

A process of its own, so that a crash of the library is a result and not the end of the tests. Each run has a seed of
its own: a line that is clean for a while, then spoils a share of what the device sends (bits, lengths, cuts, junk).
What is judged good by the link and by the gate must be what the device said at that instant. Prints one JSON document.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from typing import Any

from telemetry.iec61850 import make_client, make_unit, supervisor
from telemetry.quality import Gate, GateSettings
from tests.telemetry.ieds import Proxy, until

MS = 1_000_000
RUN_S = 0.35
ENDS_WITHIN_S = 20.0


def said_hz(t_ns: int) -> float:
    """What the device measures: a function of its time, so that each value tells what it should be."""
    return 50.0 + t_ns // MS % 997 / 65536


class Liar(Proxy):
    """Spoils by several means, lengths among them."""

    def __init__(self, port: int, seed: int) -> None:
        super().__init__(port, seed)
        self.clean = self._random.choice([0, 1, 2, 3, 5, 8, 13, 30])
        self.share = self._random.choice([0.05, 0.3, 1.0])

    def _pass(self, data: bytes) -> bytes:
        self.clean -= 1
        if self.clean >= 0 or self._random.random() >= self.share:
            return data
        self.spoiled += 1
        octets, rnd = bytearray(data), self._random
        match rnd.randrange(6):
            case 0:
                octets[rnd.randrange(len(octets))] ^= 1 << rnd.randrange(8)
            case 1:
                for _ in range(rnd.randrange(1, 6)):
                    octets[rnd.randrange(len(octets))] = rnd.randrange(256)
            case 2:
                octets[rnd.randrange(len(octets))] = rnd.choice([0, 0x7F, 0x80, 0x81, 0x82, 0x84, 0xFF])
            case 3:
                del octets[rnd.randrange(len(octets)) :]
            case 4:
                octets += rnd.randbytes(rnd.randrange(1, 200))
            case _:
                octets[rnd.randrange(len(octets)) :] = rnd.randbytes(rnd.randrange(1, 60))
        return bytes(octets)


def publish(unit: Any, ending: threading.Event) -> None:
    while not ending.wait(0.004):
        t_ns = time.time_ns() // MS * MS + MS // 2
        unit.publish(t_ns, said_hz(t_ns), 230.0)


def run(backend: str, port: int, seed: int, told: dict[str, Any]) -> None:
    """One line, one client."""
    gate = Gate(GateSettings(), live=True)
    line = Liar(port, seed)
    rnd = random.Random(seed)  # noqa: S311

    def judge(block: Any) -> None:
        for row in gate.check(block):
            told["rows"] += 1
            if row["quality"] == 0:
                told["good"] += 1
                wrong_hz = abs(float(row["hz"]) - said_hz(int(row["t_ns"])))
                told["wrong"] += wrong_hz > 1e-4
                told["worst_hz"] = max(told["worst_hz"], wrong_hz)

    block = rnd.choice([None, "GRIDMEAS/LLN0.RP.urcb01", "GRIDMEAS/LLN0.BR.brcb01"])
    late: list[Any] = []
    history = {"on_backfill": late.append} if rnd.random() < 0.3 else {}
    client = make_client(
        backend, "127.0.0.1", line.port, block, silent_after_s=0.2, connect_timeout_s=0.2, integrity_ms=50, **history
    )
    client.start(judge)
    time.sleep(RUN_S)
    stopping = threading.Thread(target=client.stop, daemon=True)
    stopping.start()
    stopping.join(ENDS_WITHIN_S)
    told["hangs"] += stopping.is_alive() or not client.status().detail.startswith("stopped")
    told["connected"] += client.status().reports > 0
    told["spoiled"] += line.spoiled
    told["surprises"] += client.status().surprises
    line.close()
    line.cut()


def follow_clean(backend: str, port: int) -> None:
    """The device is still there, and through a clean line it is understood to the last bit."""
    rows: list[tuple[int, float]] = []
    client = make_client(backend, "127.0.0.1", port, connect_timeout_s=5.0)
    client.start(lambda block: rows.append((int(block["t_ns"][0]), float(block["hz"][0]))))
    until(lambda: len(rows) >= 20)
    client.stop()
    if any(hz != said_hz(t_ns) for t_ns, hz in rows):
        raise SystemExit("a clean line said something else")


def main(backend: str, first: int, runs: int) -> None:
    """Runs `first` to `first + runs - 1`."""
    supervisor.BACKOFF_MAX_S = 0.1
    unit = make_unit(backend, 0)
    unit.start()
    ending = threading.Event()
    publishing = threading.Thread(target=publish, args=(unit, ending), daemon=True)
    publishing.start()
    names = ("runs", "connected", "spoiled", "rows", "good", "wrong", "worst_hz", "surprises", "hangs", "left")
    told: dict[str, Any] = dict.fromkeys(names, 0)
    for seed in range(first, first + runs):
        run(backend, unit.port, seed, told)
        told["runs"] += 1
    follow_clean(backend, unit.port)
    ending.set()
    publishing.join()
    told["left"] = sum(thread.name.startswith("iec61850") for thread in threading.enumerate())
    unit.stop()
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
