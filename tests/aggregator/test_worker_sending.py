"""What a worker sends, in which order, and what is left of it when the store breaks in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis

from aggregator import journal, worker
from aggregator.contracts import Contract, CoreSettings
from aggregator.embedded import EmbeddedServer
from aggregator.journal import Kind
from aggregator.process import logger
from aggregator.setpoints import decode
from aggregator.worker import Worker
from droop.products import load
from telemetry.redis_stream import StreamReader, connect
from telemetry.samples import FREQUENCY, SESSION, SlotState
from tests.aggregator.test_wishes import NAMES, N, Never

S = 10**9
T0 = 1_790_000_000 * S
KEY = b"k" * 32
COMMANDS, JOURNAL = "cmd:ce:g1", "journal:ce:w1"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with EmbeddedServer() as running:
        yield running.url


class Trips:
    """Every round trip a worker makes: the streams it writes; the one numbered `fails` breaks."""

    def __init__(self, client: redis.Redis, fails: int = 0) -> None:
        self.made: list[list[str]] = []
        self._pipeline, self._fails = client.pipeline, fails
        client.pipeline = self.pipeline  # type: ignore[method-assign]

    def pipeline(self, transaction: bool = True) -> Any:
        made = self._pipeline(transaction=transaction)
        execute = made.execute

        def counted(**how: Any) -> Any:
            streams = [str(command[0][1]) for command in made.command_stack]
            if not transaction and streams:
                self.made.append(streams)
                if len(self.made) == self._fails:
                    raise redis.ConnectionError("cut")
            return execute(**how)

        made.execute = counted
        return made


def running(url: str, fails: int = 0) -> tuple[Worker, Trips]:
    client = connect(url)
    client.flushall()
    settings = CoreSettings("ce", N, (Contract(load("ce_fcr"), 50.0),), epoch=1)
    made = Worker(settings, KEY, client, [url], NAMES, Never(), logger("worker"), "", {})
    cars = np.zeros(N, SESSION)
    cars["t_ns"] = cars["rx_ns"] = T0
    cars["slot"], cars["session"], cars["state"] = np.arange(N), 1, SlotState.PLUGGED
    cars["capacity_kwh"], cars["soc_frac"], cars["charge_max_kw"], cars["discharge_max_kw"] = 50.0, 0.5, 11.0, 11.0
    for name in ("soh_frac", "soc_max_frac", "dod_max_frac", "eta_charge_frac", "eta_discharge_frac"):
        cars[name] = 1.0
    made.core.on_sessions(cars, T0)
    return made, Trips(client, fails)


def decide(made: Worker, second: int, hz: float) -> int:
    row = np.zeros(1, FREQUENCY)
    row["t_ns"] = row["rx_ns"] = T0 + second * S
    row["hz"], row["volt_frac"] = hz, 1.0
    made.core.on_samples(row, T0 + second * S)
    return made._send(made.core.drain_commands())


def kept(url: str) -> list[journal.Entry]:
    found = StreamReader(connect(url), {JOURNAL: "0"}).read()
    return [entry for _, _, payload in found for entry in journal.unpack(payload)]


def test_a_small_journal_travels_with_its_commands(server):
    made, trips = running(server)
    assert decide(made, 1, 49.9)
    assert trips.made == [[COMMANDS, JOURNAL]]


def test_a_large_journal_lets_its_commands_go_first(server, monkeypatch):
    monkeypatch.setattr(worker, "APART_BYTES", 100)
    made, trips = running(server)
    assert decide(made, 1, 49.9)
    assert trips.made == [[COMMANDS], [JOURNAL]]
    (_, _, message), *more = StreamReader(connect(server), {COMMANDS: "0"}).read()
    assert not more
    assert decode(message, {made._settings.key_id: KEY}).rows.size == N
    assert message in [entry.payload for entry in kept(server) if entry.kind is Kind.COMMANDS]
    # Without commands nobody waits: one trip.
    made.core.on_time(T0 + S + S // 10)
    assert made._send([])
    assert trips.made[2:] == [[JOURNAL]]


@pytest.mark.parametrize("fails", [1, 2])
def test_a_store_that_breaks_between_the_two_loses_no_entry(server, monkeypatch, fails):
    """Commands that did not arrive are void; what led to them is on record all the same, once and in order."""
    monkeypatch.setattr(worker, "APART_BYTES", 100)
    made, _ = running(server, fails)
    assert not decide(made, 1, 49.9)
    assert made._lost
    assert made._journal.pending == 1
    assert made._commands.pending == (1 if fails == 1 else 0)
    assert not kept(server)
    monkeypatch.setattr(type(made._reader), "answering", property(lambda _: [True]))
    assert decide(made, 2, 49.8)
    assert not made._lost
    entries = kept(server)
    assert [entry.seq for entry in entries] == list(range(len(entries)))
    assert sum(entry.kind is Kind.COMMANDS for entry in entries) == 2
    arrived = [decode(m, {made._settings.key_id: KEY}).sequence for _, _, m in
               StreamReader(connect(server), {COMMANDS: "0"}).read()]  # fmt: skip
    assert arrived == ([2] if fails == 1 else [1, 2])


def test_the_time_told_is_that_of_the_commands(server, monkeypatch):
    """A sample's stages end when its commands have arrived, not with the journal behind them."""
    monkeypatch.setattr(worker, "APART_BYTES", 100)
    made, trips = running(server)
    clock = iter(range(1_000, 2_000))
    monkeypatch.setattr(worker.time, "time_ns", lambda: next(clock) + 10 * len(trips.made))
    told_ns = decide(made, 1, 49.9)
    assert (told_ns - 1_000) // 10 == 1
