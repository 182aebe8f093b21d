"""A real worker answers "why this power?" between its ticks, and goes on whatever lies on the list."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import numpy as np
import pytest
import redis

from aggregator import questions
from aggregator.contracts import Contract, CoreSettings
from aggregator.embedded import EmbeddedServer
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.process import epoch, logger
from aggregator.questions import Question
from aggregator.warming import warm
from aggregator.worker import Worker
from droop.explain import explain
from droop.products import load
from telemetry import wire
from telemetry.redis_stream import StreamWriter, connect
from telemetry.samples import FREQUENCY
from tests.aggregator.test_wishes import NAMES, N, Never

IDENT = "0123456789abcdef"


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with EmbeddedServer() as server, connect(server.url) as made:
        made.url = server.url
        yield made


def ask(client: redis.Redis, slot: int, session: int = 1) -> None:
    client.rpush(questions.asked("ce"), questions.encode(Question(IDENT, slot, session)))


def shown(worker: Worker) -> None:
    """The live figures, now."""
    worker._showing.due_s = 0.0
    worker._show(time.monotonic())


def test_a_worker_explains_what_it_decided(client: redis.Redis) -> None:
    settings = CoreSettings("ce", N, (Contract(load("ce_fcr"), 50.0),), epoch=1)
    warm(settings)
    fleet = SimulatedFleet(N, 1, time.time_ns(), perfect=True)
    cars, unit = StreamWriter(client, "fleet:ce:g1", epoch()), StreamWriter(client, "freq:ce:i1", epoch())
    cars.add(wire.encode(fleet.sessions(time.time_ns())))
    worker = Worker(settings, b"k" * 32, client, client.url, NAMES, Never(), logger("worker"), "", {})
    worker._await_fleet()
    key = questions.answered("ce", IDENT)

    ask(client, 0)
    shown(worker)
    assert json.loads(client.get(key)) == {"refusal": "undecided"}

    cars.add(wire.encode(fleet.reports(time.time_ns())))
    row = np.zeros(1, FREQUENCY)
    deadline_s = time.monotonic() + 60
    while worker.core.last is None or not worker.core.last.response_kw > 0:
        row["t_ns"] = row["rx_ns"] = time.time_ns()
        row["hz"] = 49.9
        unit.add(wire.encode(row))
        worker._read()
        assert time.monotonic() < deadline_s, worker.figures()
    ask(client, 3)
    ask(client, 4)
    worker._showing.due_s = np.inf
    worker._show(time.monotonic())
    assert client.llen(questions.asked("ce")) == 2  # not due
    shown(worker)
    found, last = json.loads(client.get(key)), worker.core.last
    said = explain(worker.core.engine.fleet, 3, last.lam, last.request_kw)
    assert {name: found[name] for name in said.to_dict()} == said.to_dict()
    assert found["power_kw"] == pytest.approx(float(worker.core.engine.fleet.power_kw[3]), abs=1e-4)
    assert found["moved_kw"] > 0
    assert 0 <= time.time_ns() - found["t_ns"] < 60e9
    assert client.llen(questions.asked("ce")) == 1  # one at a time: the tick comes first

    # Whatever lies there, the worker's figures go out and the store does not count as lost.
    client.set(questions.asked("ce"), "no list at all")
    client.delete("live:ce")
    shown(worker)
    assert client.exists("live:ce")
    assert not worker._lost
    assert (worker.figures()["explained"], worker.figures()["questions_malformed"]) == (2, 1)
    # But figures that cannot be written are a loss.
    client.delete(questions.asked("ce"))
    client.config_set("maxmemory", 1)
    shown(worker)
    assert worker._lost
