"""One harness a decoder: octets in, and nothing comes out but a result that holds together or a named refusal.

Whatever a harness raises is a fault of the decoder. Seeds are made here, by our own writers, so that a guided run
begins where the decoders' branches are. Check words and signatures are mended by the harness: what is looked for lies
behind them.
"""

from __future__ import annotations

import hmac
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from aggregator import journal, journal_tables, setpoints
from aggregator.journal import Entry, JournalError, Kind
from telemetry import goose_frame, wire
from telemetry.c37118 import REASONS, writer
from telemetry.c37118.frames import Splitter, frame
from telemetry.c37118.intake import Intake
from telemetry.samples import FREQUENCY, SESSION, VEHICLE
from telemetry.traces import open_trace
from telemetry.traces.errors import TraceError
from tests.telemetry import trace_shapes as shapes

KEY: Final = b"k" * 32
T0_NS: Final = 1_700_000_000_000_000_000
VOLT: Final = 11_547.0
PMUS: Final = (writer.Pmu("ONE", 7, nominal_volt=VOLT), writer.Pmu("TWO", 8, floats=False, nominal_volt=VOLT))


class Harness(NamedTuple):
    """take : raises nothing for any octets; seeds : octets to begin with"""

    take: Callable[[bytes], None]
    seeds: list[bytes]


def stored(data: bytes) -> None:
    """Blocks as they lie on streams."""
    try:
        block = wire.decode(data)
    except wire.WireError:
        return
    assert wire.encode(block)[wire.HEADER.size :] == data[wire.HEADER.size :]


def journalled(data: bytes) -> None:
    """A journal's payload to entries, to tables, and to the same entries."""
    try:
        entries = journal.unpack(data)
    except JournalError:
        return
    assert journal.pack(entries) == data
    made, _ = journal_tables.tables(1, entries)
    again: list[Entry] = []
    for name, table in made.items():
        again += journal_tables.entries_of(name, table.to_batches())
    # Bytes come back whatever they were. The journal's writer lets no number in twice: to a table two would be one.
    if len({entry.seq for entry in entries}) == len(entries):
        assert sorted(again, key=lambda entry: entry.seq) == sorted(entries, key=lambda entry: entry.seq)


def commanded(data: bytes) -> None:
    """A set-point message whose signature is right."""
    try:
        message = setpoints.decode(data + hmac.digest(KEY, data, setpoints.DIGEST), {1: KEY})
    except setpoints.SetpointError:
        return
    assert np.isfinite(message.rows["setpoint_kw"]).all()


def phasors(data: bytes) -> None:
    """A PMU's stream: octets as they come, then the same as bodies of frames whose check words are right."""
    intake = Intake(None, None, VOLT, cfg3=True)
    intake.open(lambda block: wire.encode(block) and None)  # type: ignore[func-returns-value]
    splitter = Splitter(intake.refuse)
    for k in range(0, len(data), 100):
        for found in splitter.feed(data[k : k + 100]):
            intake.take(found, T0_NS)
    at = 0
    while at + 3 <= len(data):
        kind, size = data[at] % 6, int.from_bytes(data[at + 1 : at + 3], "big") % 2000
        intake.take(frame(kind, 60, 1_700_000_000, data[at], data[at + 3 : at + 3 + size]), T0_NS)  # type: ignore[arg-type]
        at += 3 + size
    assert set(intake.refused) <= set(REASONS)
    assert not intake.handler_errors


def goose(data: bytes) -> None:
    """An Ethernet frame, and a GOOSE header of the right length before the octets."""
    header = b"\x01\x0c\xcd\x01\0\1" + bytes(6) + goose_frame.ETHERTYPE + b"\x10\x01"
    for octets in (data, header + (len(data) + 8 & 0xFFFF).to_bytes(2, "big") + bytes(4) + data):
        try:
            goose_frame.decode(octets)
        except goose_frame.GooseError:
            continue


def traced(data: bytes) -> None:
    """A file of any content, read to its end, once as it is and once without its bad rows."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / "trace.csv"
        path.write_bytes(data)
        for options in ({}, {"skip_bad": True}, {"skip_bad": True, "start": "2026-06-22T00:00:00Z", "step_s": 1.0}):
            _read(path, options)


def _read(path: Path, options: dict[str, Any]) -> None:
    try:
        rows = open_trace(path, **options).read_all()
    except TraceError:
        return
    assert rows.dtype == FREQUENCY


def _blocks() -> list[bytes]:
    return [wire.encode(np.zeros(n, dtype)) for dtype in (FREQUENCY, VEHICLE, SESSION) for n in (0, 1, 3)]


def _entries() -> list[bytes]:
    blocks = _blocks()
    return [
        journal.pack([Entry(Kind.TIME, 0, 1, 5, journal.TIME.pack(5)), Entry(Kind.SAMPLES, 0, 2, 5, blocks[1])]),
        journal.pack([Entry(Kind.TICKS, 0, 1, 5, bytes(200)), Entry(Kind.VEHICLES, 0, 2, 6, blocks[4])]),
        journal.pack([journal.gap(3, 4, 9), Entry(Kind.ALARM, 0, 7, 9, b'{"code": "DEAD_BUS"}')]),
    ]


def _messages() -> list[bytes]:
    made = []
    for count in (0, 2):
        rows = np.zeros(count, setpoints.SETPOINT)
        message = setpoints.encode(
            rows, KEY, key_id=1, epoch=1, sequence=2, t_ns=3, issued_ns=4, valid_until_ns=5
        )  # fmt: skip
        made.append(message[: -setpoints.DIGEST_BYTES])
    return made


def _streams() -> list[bytes]:
    second = writer.configuration(3, 60, PMUS, 1_000_000, 50, T0_NS)
    thirds = writer.configuration3(60, PMUS, 1_000_000, 50, T0_NS, 120)
    data = writer.data(60, [pmu.data(0x80, 50.0, VOLT) for pmu in PMUS], 1_000_000, T0_NS)
    bodies = [(o[1] >> 4 & 7, o[14:-2]) for o in (second, *thirds, data)]
    wrapped = b"".join(bytes((kind,)) + len(body).to_bytes(2, "big") + body for kind, body in bodies)
    one = writer.configuration(3, 60, PMUS[:1], 1_000_000, 50, T0_NS)
    alone = writer.data(60, [PMUS[0].data(0x80, 50.0, VOLT)], 1_000_000, T0_NS)
    return [one + alone, b"".join(thirds) + data, wrapped]


def _pdus() -> list[bytes]:
    inner = bytes.fromhex("8001418102 01f4820142830143 8408000000000000000a 850101 860100 870100 880101 890100 8a0101")
    values = bytes.fromhex("ab07 870508424800 00".replace(" ", ""))
    pdu = inner + values
    return [b"\x61" + bytes((len(pdu),)) + pdu, b"\x61\x81" + bytes((len(pdu),)) + pdu]


def _files() -> list[bytes]:
    return [
        b"dtm,f\n2026-06-22 00:00:00,50.01\n2026-06-22 00:00:01,49.99\n",
        b"time,frequency,voltage\n2026-06-22T00:00:00Z,50.0,230\n2026-06-22T00:00:00.1Z,50.0,231\n",
        b"50.01\n50.02\n49.99\n",
        b"index,hz\n0,50.0\n1,50.01\n",
        b"Date;Time;Freq\n22.06.2026;00:00:00;50,01\n22.06.2026;00:00:01;50,02\n",
        b"\xef\xbb\xbfdtm,f\r\n2026-06-22 00:00:00,50.01\r\n",
        b'"dtm","f"\n"2026-06-22 00:00:00","50.01"\n',
        b"\xd4\xc3\xb2\xa1\x02\0\x04\0" + bytes(8) + b"\xff\xff\0\0\x01\0\0\0",
        *(text.encode() for text in (shapes.neso(), shapes.bmrs(4), shapes.eastern(), shapes.toledo())),
        *(text.encode() for text in (shapes.world(), shapes.laboratory(), shapes.openpmu([0.0, 0.1, 0.2]))),
        shapes.pgf(shapes.BEGIN, 3).encode(), shapes.rte(),
    ]  # fmt: skip


HARNESSES: Final = {
    "wire": Harness(stored, _blocks()),
    "journal": Harness(journalled, _entries()),
    "setpoints": Harness(commanded, _messages()),
    "c37118": Harness(phasors, _streams()),
    "goose": Harness(goose, _pdus()),
    "traces": Harness(traced, _files()),
}
