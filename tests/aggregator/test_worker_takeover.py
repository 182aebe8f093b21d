"""A worker that goes on where another ended, however soon it dies itself."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
import redis

from aggregator.contracts import Contract, CoreSettings
from aggregator.embedded import EmbeddedServer
from aggregator.process import logger
from aggregator.worker import Worker
from droop.products import load
from telemetry import wire
from telemetry.redis_stream import StreamWriter, connect
from telemetry.samples import FREQUENCY
from tests.aggregator.test_wishes import NAMES, N, Never

NEVER_S = 3600.0


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with EmbeddedServer() as server, connect(server.url) as made:
        made.url = server.url
        yield made


def life(client: redis.Redis, unit: StreamWriter, epoch: int, samples: int, snapshot_s: float) -> Worker:
    """A worker from its start over some samples to its end; a snapshot on its way arrives."""
    settings = CoreSettings("ce", N, (Contract(load("ce_fcr"), 50.0),), epoch=epoch)
    worker = Worker(
        settings, b"k" * 32, client, [client.url], NAMES, Never(), logger("worker"), "", {}, snapshot_s
    )  # fmt: skip
    worker._begun_s -= 60.0  # no fleet to wait for
    worker._await_fleet()
    for _ in range(samples):
        before = worker.figures()["ticked"]
        block = np.zeros(1, FREQUENCY)
        block["t_ns"], block["rx_ns"], block["hz"] = time.time_ns(), time.time_ns(), 50.0
        unit.add(wire.encode(block))
        for _ in range(100):
            worker._read()
            if worker.figures()["ticked"] > before:
                break
    worker._keeper.close()
    worker._reader.close()
    return worker


def test_two_deaths_within_a_snapshot_lose_no_state(client: redis.Redis) -> None:
    unit = StreamWriter(client, "freq:ce:i1", 100)
    life(client, unit, 1, 3, 0.0)
    second = life(client, unit, 2, 1, NEVER_S).figures()
    third = life(client, unit, 3, 1, NEVER_S).figures()
    assert (second["continues"], second["ticked"]) == (1, 4)
    assert (third["continues"], third["ticked"]) == (2, 5)
