"""A GOOSE source on one end of a veth pair, foreign publishers on the other: runs in a network namespace of its own.

Started by test_goose.py; prints one JSON object. Publishers: libiec61850's (ctypes) and open61850's.
"""

from __future__ import annotations

import ctypes as c
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from telemetry.goose import GooseSource, GooseUnavailable
from telemetry.goose_intake import Subscription
from telemetry.iec61850 import library as ied
from telemetry.iec61850.mapping import encode_utc, time_quality

REF = "GRIDMEAS/LLN0$GO$gcbHz"
HOME = b"\x01\x0c\xcd\x01\x00\x01"
_P, _I, _S, _B, _U32 = c.c_void_p, c.c_int, c.c_char_p, c.c_bool, c.c_uint32


class Parameters(c.Structure):
    _fields_ = (("priority", c.c_uint8), ("vlan", c.c_uint16), ("app_id", c.c_uint16), ("to", c.c_uint8 * 6))


FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "GoosePublisher_createEx": (_P, (c.POINTER(Parameters), _S, _B)),
    "GoosePublisher_setGoCbRef": (None, (_P, _S)),
    "GoosePublisher_setDataSetRef": (None, (_P, _S)),
    "GoosePublisher_setConfRev": (None, (_P, _U32)),
    "GoosePublisher_setTimeAllowedToLive": (None, (_P, _U32)),
    "GoosePublisher_setSimulation": (None, (_P, _B)),
    "GoosePublisher_setNeedsCommission": (None, (_P, _B)),
    "GoosePublisher_increaseStNum": (c.c_uint64, (_P,)),
    "GoosePublisher_publish": (_I, (_P, _P)),
    "GoosePublisher_destroy": (None, (_P,)),
    "LinkedList_create": (_P, ()),
    "LinkedList_add": (None, (_P, _P)),
    "MmsValue_newFloat": (_P, (c.c_float,)),
    "MmsValue_newBitString": (_P, (_I,)),
    "MmsValue_newUtcTimeByMsTime": (_P, (c.c_uint64,)),
}


class Publisher:
    """libiec61850's, with (hz, quality, time) as its data set."""

    def __init__(self, interface: str, vlan: int | None = None, life_ms: int = 500, to: bytes = HOME) -> None:
        self.call = ied.declare(c.CDLL(ied.load().path), FUNCTIONS)
        self.leaf = ied.load().leaf
        where = Parameters(4, vlan or 0, 0x1001, (c.c_uint8 * 6)(*to))
        self.handle = self.call.GoosePublisher_createEx(c.byref(where), interface.encode(), vlan is not None)
        assert self.handle, "no publisher"
        self.call.GoosePublisher_setGoCbRef(self.handle, REF.encode())
        self.call.GoosePublisher_setDataSetRef(self.handle, b"GRIDMEAS/LLN0$Freq")
        self.call.GoosePublisher_setConfRev(self.handle, 1)
        self.call.GoosePublisher_setTimeAllowedToLive(self.handle, life_ms)
        self.hz = self.call.MmsValue_newFloat(50.0)
        self.quality = self.call.MmsValue_newBitString(-13)
        self.utc = self.call.MmsValue_newUtcTimeByMsTime(0)
        self.values = self.call.LinkedList_create()
        for value in (self.hz, self.quality, self.utc):
            self.call.LinkedList_add(self.values, value)

    def state(self, hz: float, quality: int = 0, t_ns: int = 0) -> int:
        t_ns = t_ns or time.time_ns()
        self.leaf.MmsValue_setFloat(self.hz, hz)
        self.leaf.MmsValue_setBitStringFromInteger(self.quality, quality)
        self.leaf.MmsValue_setUtcTimeByBuffer(self.utc, encode_utc(t_ns, time_quality(True)))
        self.call.GoosePublisher_increaseStNum(self.handle)
        self.again()
        return t_ns

    def again(self) -> None:
        self.call.GoosePublisher_publish(self.handle, self.values)


def until(true: Callable[[], Any], within_s: float = 30.0) -> bool:
    end = time.monotonic() + within_s
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def main() -> None:
    ip("link", "add", "name", "va", "type", "veth", "peer", "name", "vb")
    for end in ("va", "vb"):
        ip("link", "set", end, "up")
    rows: list[Any] = []
    told: dict[str, Any] = {}
    source = GooseSource("vb", Subscription(REF, app_id=0x1001, revision=1, source=9), HOME)
    source.start(rows.append)
    until(lambda: source.status().detail.startswith("listening"))

    publisher = Publisher("va")
    sent = []
    for k in range(200):
        hz = 50.0 + k / 1024
        sent.append((publisher.state(hz, quality=0 if k % 10 else 2), hz))
        time.sleep(0.002)
    until(lambda: len(rows) >= len(sent))
    got = np.concatenate(rows)
    told["first"] = {
        "sent": len(sent), "got": len(rows), "hz": (got["hz"] == [hz for _, hz in sent]).all().item(),
        "t_off_ns": int(np.abs(got["t_ns"] - [t for t, _ in sent]).max()), "quality": got["quality"][:11].tolist(),
        "before": int((got["rx_ns"] - got["t_ns"]).min()), "source": got["source"][0].item(),
        "delay_us": [float(q) for q in np.quantile((got["rx_ns"] - got["t_ns"]) / 1e3, [0.5, 0.99])],
        "status": source.status().__dict__,
    }  # fmt: skip

    publisher.again()
    publisher.again()
    until(lambda: source.status().repeats == 2)
    publisher.call.GoosePublisher_setSimulation(publisher.handle, True)
    publisher.state(47.0)
    publisher.call.GoosePublisher_setSimulation(publisher.handle, False)
    publisher.call.GoosePublisher_setNeedsCommission(publisher.handle, True)
    publisher.state(47.0)
    publisher.call.GoosePublisher_setNeedsCommission(publisher.handle, False)
    until(lambda: len(rows) == len(sent) + 2)
    told["bits"] = {"repeats": source.status().repeats, "quality": [int(row["quality"][0]) for row in rows[-2:]]}

    told["silent"] = until(lambda: source.status().detail.startswith("silent")) and not source.status().connected
    publisher.state(50.1)
    told["back"] = until(lambda: source.status().connected) and source.status().reconnects

    count, reports = len(rows), source.status().reports
    Publisher("vb").state(49.0)  # what this end sends itself
    Publisher("va", to=b"\x01\x0c\xcd\x01\x00\x02").state(49.0)  # and what goes to others
    publisher.state(50.15)
    until(lambda: rows[-1]["hz"][0] == np.float32(50.15))
    told["others"] = [len(rows) - count, source.status().reports - reports]

    tagged = Publisher("va", vlan=5)
    time.sleep(0.6)  # the other's time to live
    tagged.state(50.25)
    told["tagged"] = until(lambda: rows[-1]["hz"][0] == 50.25)

    ip("link", "set", "vb", "down")
    told["down"] = until(lambda: source.status().detail.startswith(("interface vb", "silent")))
    ip("link", "set", "vb", "up")
    told["up"] = until(lambda: tagged.state(50.5) and time.sleep(0.05) is None and rows[-1]["hz"][0] == 50.5)

    before = len(rows)
    foreign(rows, before, told)

    flooding = True

    def flood() -> None:
        while flooding:
            tagged.state(50.0)

    thread = threading.Thread(target=flood)
    thread.start()
    until(lambda: len(rows) > before + 500)
    source.stop()
    count = len(rows)
    time.sleep(0.05)
    flooding = False
    thread.join()
    told["stopped"] = {"detail": source.status().detail, "quiet": len(rows) == count}
    source.start(rows.append)
    told["again"] = until(lambda: tagged.state(50.75) and time.sleep(0.05) is None and rows[-1]["hz"][0] == 50.75)
    source.stop()

    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    try:
        GooseSource("vb", Subscription(REF))
        told["refused"] = ""
    except GooseUnavailable as error:
        told["refused"] = str(error)
    print(json.dumps(told))


def foreign(rows: list[Any], before: int, told: dict[str, Any]) -> None:
    from datetime import UTC, datetime

    from open61850.data import BitStringData, FloatData, TimestampData
    from open61850.goose_publisher import GooseControl, GoosePublisher

    control = GooseControl(
        REF, "GRIDMEAS/LLN0$Freq", 0x1001, "01:0c:cd:01:00:01", "02:00:00:00:00:07", min_time_ms=20, max_time_ms=100
    )

    def values(hz: float) -> list[Any]:
        return [FloatData(hz), BitStringData(b"\0\0", 3), TimestampData(datetime.now(UTC), quality=0x94)]

    time.sleep(0.6)  # the other's time to live
    with GoosePublisher("va", control, values(60.0)) as publisher:
        publisher.start()
        until(lambda: len(rows) > before)
        for k in range(1, 5):
            publisher.publish(values(60.0 + k / 8), send_now=True)
            until(lambda k=k: len(rows) > before + k)
    told["open61850"] = [float(row["hz"][0]) for row in rows[before:]]
    time.sleep(0.4)  # its time to live


if __name__ == "__main__":
    main()
