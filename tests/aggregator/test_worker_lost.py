"""Samples that never reached the worker are on record, with their numbers, and decide nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
import redis

from aggregator import journal
from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from aggregator.embedded import EmbeddedServer
from aggregator.journal import Kind
from aggregator.process import logger
from aggregator.records import GAP
from aggregator.replay import replay
from aggregator.worker import BATCH, Worker
from droop.products import load
from telemetry import wire
from telemetry.redis_stream import StreamReader, StreamWriter, connect
from telemetry.samples import FREQUENCY
from tests.aggregator.test_wishes import NAMES, N, Never

NS = 1_000_000_000


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with EmbeddedServer() as server, connect(server.url) as made:
        made.url = server.url
        yield made


def sample(age_s: int = 0) -> bytes:
    block = np.zeros(1, FREQUENCY)
    block["t_ns"] = block["rx_ns"] = time.time_ns() - age_s * NS
    block["hz"] = 50.0
    return wire.encode(block)


def lost(client: redis.Redis) -> list[tuple[int, int, int]]:
    """(epoch, first, last) of what the journal's stream says was lost."""
    entries = [
        entry for _, _, payload in StreamReader(client, {"journal:ce:w1": "0"}).read()
        for entry in journal.unpack(payload)
    ]  # fmt: skip
    rows = [journal.rows(entry, GAP)[0] for entry in entries if entry.kind is Kind.LOST]
    assert {(row["of"], row["reason"]) for row in rows} <= {(b"frequency", b"stream")}
    assert all(0 < row["after_ns"] <= row["before_ns"] for row in rows)
    return [(int(row["epoch"]), int(row["first"]), int(row["last"])) for row in rows]


def test_what_the_stream_lost_is_on_record(client: redis.Redis) -> None:
    settings = CoreSettings("ce", N, (Contract(load("ce_fcr"), 50.0),), epoch=1)
    unit = StreamWriter(client, "freq:ce:i1", 100)
    unit.add(sample())
    unit.add(sample())
    worker = Worker(settings, b"k" * 32, client, [client.url], NAMES, Never(), logger("worker"), "", {})
    worker._begun_s -= 60.0  # no fleet to wait for
    worker._await_fleet()

    def publish(writer: StreamWriter, drop: int) -> None:
        for _ in range(drop):
            writer.hold(sample())
        writer.forget()
        writer.add(sample())
        ticks = worker.core.sums.ticks
        for _ in range(100):  # a hole is waited for, for some milliseconds: the other server might fill it
            if worker._read() and worker.core.sums.ticks > ticks:
                break

    for drop in (0, 3, 0, 1):
        publish(unit, drop)
    publish(StreamWriter(client, "freq:ce:i1", 101), 0)  # the ingest started anew
    publish(StreamWriter(client, "freq:ce:i1", 102), 2)  # and again, and its first two never came
    assert lost(client) == [(100, 4, 6), (100, 9, 9), (102, 1, 2)]
    assert worker.core.sums.ticks == 6


def test_a_long_backlog_is_overtaken_whole_by_the_first_fresh_sample(client: redis.Redis) -> None:
    settings = CoreSettings("ce", N, (Contract(load("ce_fcr"), 50.0),), epoch=1)
    unit = StreamWriter(client, "freq:ce:i1", 100)
    unit.add(sample())
    worker = Worker(settings, b"k" * 32, client, [client.url], NAMES, Never(), logger("worker"), "", {})
    worker._begun_s -= 60.0  # no fleet to wait for
    worker._await_fleet()
    for _ in range(2 * BATCH + 3):
        unit.add(sample(age_s=30))
    unit.add(sample())
    for _ in range(100):
        worker._read()
        if worker.figures()["ticked"] == 2 * BATCH + 4:
            break
    assert worker.figures()["ticked"] == 2 * BATCH + 4
    # The first of them alone may have been read before there were more.
    assert worker.core.sums.ticks <= 2
    assert worker.core.sums.rejected["overtaken"] >= 2 * BATCH + 2
    # A backlog that nothing fresh follows is decided on, and refused for its age, once it has been read.
    for _ in range(BATCH):
        unit.add(sample(age_s=30))
    for _ in range(100):
        worker._read()
        if worker.figures()["ticked"] == 3 * BATCH + 4:
            break
    assert worker.figures()["ticked"] == 3 * BATCH + 4
    assert worker.core.sums.rejected["age"] == BATCH


def test_a_block_of_nothing_is_refused(client: redis.Redis) -> None:
    settings = CoreSettings("ce", N, (Contract(load("ce_fcr"), 50.0),), epoch=1)
    unit = StreamWriter(client, "freq:ce:i1", 100)
    unit.add(sample())
    worker = Worker(settings, b"k" * 32, client, [client.url], NAMES, Never(), logger("worker"), "", {})
    worker._begun_s -= 60.0
    worker._await_fleet()
    unit.add(wire.encode(np.zeros(0, FREQUENCY)))
    unit.add(sample())
    for _ in range(100):
        worker._read()
        if worker.core.sums.ticks:
            break
    assert worker.figures()["rejected"] == {"wire_stream": 1}


def test_a_loss_decides_nothing() -> None:
    def run(noted: bool) -> list[journal.Entry]:
        core = Aggregator(CoreSettings("ce", 4, (Contract(load("ce_fcr"), 50.0),)))
        block = np.zeros(1, FREQUENCY)
        block["t_ns"] = block["rx_ns"] = 5 * NS
        block["hz"] = 49.9
        if noted:
            core.note_lost(7, 3, 9, 5 * NS)
        core.on_samples(block, 5 * NS)
        return core.drain_entries()

    with_note, without = run(True), run(False)
    assert [entry.kind for entry in with_note if entry.kind is not Kind.LOST] == [entry.kind for entry in without]
    assert [entry.payload for entry in with_note if entry.kind is not Kind.LOST] == [e.payload for e in without]
    assert replay(with_note, {1: b""}).calls == replay(without, {1: b""}).calls == 1
