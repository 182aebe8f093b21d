"""The utility's door and GOOSE: a command's way there and back, the price of showing figures, the price of a message.

The client is open61850's, so that a command's time holds two libraries and the loopback, not the store.
"""

from __future__ import annotations

import statistics
import struct
import time
from typing import Any

from aggregator.utility_figures import DEFAULTS
from benchmarks.measure import Figure
from telemetry.goose_intake import GooseIntake, Subscription
from telemetry.iec61850 import backends
from telemetry.iec61850.control import Judge, Limits
from telemetry.iec61850.mapping import encode_utc, time_quality
from telemetry.iec61850.utility_model import Kind, Model, Shown

REF = "GRIDMEAS/LLN0$GO$gcbHz"


def run(quick: bool) -> list[Figure]:
    """`utility.*`, `goose.*`; the first are left out, and say so, where a library is not installed."""
    taken_us = _goose_us(2_000 if quick else 20_000)
    figures = [
        Figure("goose.take_us", taken_us, "us", "one state decoded and judged, one core"),
        Figure("goose.cpu_frac.100", taken_us * 100 / 1e6, "1", "a hundred states a second, without the socket"),
    ]
    if {"libiec61850", "open61850"} <= set(backends()):
        return [*_utility(200 if quick else 2_000), *figures]
    return [Figure("utility.operate_p50_ms", None, "ms", "needs flyball[iec61850]"), *figures]


def _utility(rounds: int) -> list[Figure]:
    from open61850.data import FloatData, StructureData
    from open61850.mms import control
    from open61850.mms.client import MmsClient

    from telemetry.iec61850.commands import Ticket
    from telemetry.iec61850.utility import UtilityServer

    judge = Judge(Limits(1000.0, interval_s=0.0))
    model = Model("FLYBALL", "VPP", DEFAULTS, "direct")
    server = UtilityServer(model, judge, Ticket.settle, lambda _: None, local=True)
    server.start()
    try:
        server.show({}, 0.0)
        with MmsClient.connect("127.0.0.1", server.port, timeout=5.0) as client:
            origin = control.Origin(control.OR_CAT_REMOTE_CONTROL, b"bench")
            times_ms = sorted(
                control.operate(
                    client, "FLYBALLVPP/DRCC1.OutWSet", StructureData([FloatData(float(k % 100))]), origin=origin,
                    ctl_model=control.CTL_MODEL_DIRECT_ENHANCED,
                ).duration * 1e3
                for k in range(rounds)
            )  # fmt: skip
        shown_us = [_show_us(server, k) for k in range(rounds)]
    finally:
        server.stop()
    return [
        Figure("utility.operate_p50_ms", times_ms[rounds // 2], "ms", "Oper to CommandTermination, loopback"),
        Figure("utility.operate_p99_ms", times_ms[int(rounds * 0.99)], "ms"),
        Figure("utility.show_us", statistics.median(shown_us), "us", f"{len(DEFAULTS)} figures, all of them changed"),
    ]


def _show_us(server: Any, k: int) -> float:
    t_ns = time.time_ns()
    figures = {p.figure: Shown(str(k) if p.kind is Kind.TEXT else float(k % 2), t_ns) for p in DEFAULTS}
    begun_ns = time.perf_counter_ns()
    server.show(figures, 0.0)
    return (time.perf_counter_ns() - begun_ns) / 1e3


def _goose_us(count: int) -> float:
    """Median time to take one new state of three members."""
    intake = GooseIntake(Subscription(REF))
    times = []
    for state in range(1, count + 1):
        frame = _frame(state, 50.0 + state * 1e-5)
        begun_ns = time.perf_counter_ns()
        block = intake.take(frame, begun_ns, state * 0.01)
        times.append(time.perf_counter_ns() - begun_ns)
        assert block is not None
    return statistics.median(times) / 1e3


def _frame(state: int, hz: float) -> bytes:
    utc = encode_utc(state * 10_000_000, time_quality(True))
    data = _tlv(0x87, b"\x08" + struct.pack(">f", hz)) + _tlv(0x84, b"\x03\0\0") + _tlv(0x91, utc)
    number = state.to_bytes(4, "big")
    parts = (
        (0x80, REF.encode()), (0x81, b"\x07\xd0"), (0x82, b"GRIDMEAS/LLN0$Freq"), (0x83, b"hz"), (0x84, utc),
        (0x85, number), (0x86, b"\0"), (0x87, b"\0"), (0x88, b"\x01"), (0x89, b"\0"), (0x8A, b"\x03"), (0xAB, data),
    )  # fmt: skip
    pdu = _tlv(0x61, b"".join(_tlv(tag, body) for tag, body in parts))
    return b"\x01\x0c\xcd\x01\0\x01\x02\0\0\0\0\x07\x88\xb8" + struct.pack(">4H", 0x1001, len(pdu) + 8, 0, 0) + pdu


def _tlv(tag: int, body: bytes) -> bytes:
    return bytes([tag]) + (bytes([len(body)]) if len(body) < 128 else b"\x81" + bytes([len(body)])) + body
