"""Late history: apart, in order, once, and its losses counted."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import redis

from aggregator import backfill
from aggregator.backfill import Backfill
from aggregator.embedded import EmbeddedServer
from telemetry import wire
from telemetry.redis_stream import StreamReader, connect
from telemetry.samples import FREQUENCY


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(maxmemory_mb=64) as running:
        yield running


def rows(first: int, count: int) -> np.ndarray:
    block = np.zeros(count, FREQUENCY)
    block["t_ns"] = np.arange(first, first + count)
    return block


def told(client: redis.Redis) -> list[int]:
    reader = StreamReader(client, {"backfill:ce:i1": "0-0"})
    found = reader.read(count=1000)
    assert [entry_id for _, entry_id, _ in found] == [f"3-{n}" for n in range(1, len(found) + 1)]
    return np.concatenate([wire.decode(payload)["t_ns"] for _, _, payload in found]).tolist() if found else []


def test_history_goes_to_its_own_stream_in_blocks_and_in_order(server: EmbeddedServer) -> None:
    with connect(server.url) as client:
        late = Backfill(client, "ce", "i1", 3)
        late.put(rows(0, 1200))
        late.put(rows(1200, 1))
        assert (late.waiting, late.publish(most=2)) == (1201, 1000)
        assert (late.publish(), late.waiting, late.publish()) == (201, 0, 0)
        assert told(client) == list(range(1201))
        assert client.xlen("backfill:ce:i1") == 4
        assert client.keys("*") == [b"backfill:ce:i1"]


def test_it_waits_for_a_store_that_is_away_and_is_written_once(server: EmbeddedServer) -> None:
    with connect(server.url) as client:
        late = Backfill(client, "ce", "i1", 3)
        late.put(rows(0, 10))
        late.publish()
        os.kill(server.pid, signal.SIGKILL)
        late.put(rows(10, 10))
        late.put(rows(20, 10))
        for _ in range(3):
            with pytest.raises(redis.ConnectionError):
                late.publish()
        assert (late.waiting, late.published) == (20, 10)
        server.restart()
        assert late.publish() == 20
        assert told(client) == list(range(30))
        assert (late.waiting, late.dropped) == (0, 0)


def test_what_finds_no_room_is_counted_and_the_oldest_stay(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "ROWS_MAX", 700)
    with connect(server.url) as client:
        late = Backfill(client, "ce", "i1", 3)
        late.put(rows(0, 1100))
        assert (late.waiting, late.dropped) == (600, 500)
        assert late.publish() == 600
        assert told(client) == [*range(500), *range(1000, 1100)]
