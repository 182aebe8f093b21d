"""What a worker takes in and sends, in which order, and what is left of it when the store breaks in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis

from aggregator import journal, outbox, worker
from aggregator.contracts import Contract, CoreSettings
from aggregator.embedded import EmbeddedServer
from aggregator.journal import Kind
from aggregator.process import logger
from aggregator.setpoints import decode
from aggregator.worker import Worker
from droop.products import load
from telemetry import wire
from telemetry.redis_stream import StreamReader, StreamWriter, connect
from telemetry.samples import FREQUENCY, SESSION, VEHICLE, SlotState
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
    monkeypatch.setattr(outbox, "APART_BYTES", 100)
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
    monkeypatch.setattr(outbox, "APART_BYTES", 100)
    made, _ = running(server, fails)
    assert not decide(made, 1, 49.9)
    assert made._lost
    assert made._outbox.journal.pending == 1
    assert made._outbox.commands.pending == (1 if fails == 1 else 0)
    assert not kept(server)
    monkeypatch.setattr(type(made._reader), "answering", property(lambda _: [True]))
    assert decide(made, 2, 49.8)
    assert not made._lost
    entries = kept(server)
    assert [entry.seq for entry in entries] == list(range(len(entries)))
    assert made._outbox.sent_seq == entries[-1].seq
    assert made._outbox.commands.dropped == (1 if fails == 1 else 0)
    assert sum(entry.kind is Kind.COMMANDS for entry in entries) == 2
    arrived = [decode(m, {made._settings.key_id: KEY}).sequence for _, _, m in
               StreamReader(connect(server), {COMMANDS: "0"}).read()]  # fmt: skip
    assert arrived == ([2] if fails == 1 else [1, 2])


def test_the_time_told_is_that_of_the_commands(server, monkeypatch):
    """A sample's stages end when its commands have arrived, not with the journal behind them."""
    monkeypatch.setattr(outbox, "APART_BYTES", 100)
    made, trips = running(server)
    clock = iter(range(1_000, 2_000))
    monkeypatch.setattr(worker.time, "time_ns", lambda: next(clock) + 10 * len(trips.made))
    told_ns = decide(made, 1, 49.9)
    assert (told_ns - 1_000) // 10 == 1


# ---- slices of large batches ------------------------------------------------------------------------------------

FLEET = "fleet:ce:g1"


def reports(second: int) -> np.ndarray:
    rows = np.zeros(N, VEHICLE)
    rows["t_ns"] = rows["rx_ns"] = T0 + second * S
    rows["slot"], rows["session"], rows["state"], rows["soc_frac"] = np.arange(N), 1, SlotState.PLUGGED, 0.5
    return rows


def now_sample() -> np.ndarray:
    row = np.zeros(1, FREQUENCY)
    row["t_ns"] = row["rx_ns"] = worker.time.time_ns()
    row["hz"], row["volt_frac"] = 50.0, 1.0
    return row


@pytest.fixture
def slicing(server, monkeypatch):
    """A worker that takes five reports at once, and the writers of what it follows."""
    monkeypatch.setattr(worker, "SLICE_ROWS", 5)
    made, _ = running(server)
    made._follow({FLEET: "0", "freq:ce:i1": "0", "wishes:ce:a1": "0"})
    client = connect(server)
    return made, StreamWriter(client, FLEET, 1), StreamWriter(client, "freq:ce:i1", 1)


def read_until(made: Worker, holds: Any) -> None:
    for _ in range(200):
        made._read()
        if holds():
            return
    raise AssertionError(f"{len(made._waiting)} wait, {made.core.sums.ticks} ticks")


def taken(made: Worker) -> list[tuple[Kind, int]]:
    """What the fleet said, as it is on record, with its rows."""
    entries = [*kept_of(made), *made.core.drain_entries()]
    said = [entry for entry in entries if entry.kind in (Kind.VEHICLES, Kind.SESSIONS)]
    return [(entry.kind, wire.decode(entry.payload).size) for entry in said]


def kept_of(made: Worker) -> list[journal.Entry]:
    found = StreamReader(made._client, {JOURNAL: "0"}).read()
    return [entry for _, _, payload in found for entry in journal.unpack(payload)]


def test_a_sample_waits_for_a_slice_not_for_a_batch(slicing):
    made, fleet, frequency = slicing
    entry_id = fleet.add(wire.encode(reports(1)))
    read_until(made, lambda: made._waiting)
    assert made._done[FLEET] != entry_id  # not before its last row
    frequency.add(wire.encode(now_sample()))
    # A second batch behind the first, and a sample that came after both.
    last = fleet.add(wire.encode(reports(2)))
    read_until(made, lambda: made.core.sums.ticks == 1)
    assert made._waiting  # decided on before the second batch is taken
    read_until(made, lambda: made._done[FLEET] == last)
    calls = taken(made)
    sizes = [size for kind, size in calls if kind is Kind.VEHICLES]
    assert any(entry.kind is Kind.SAMPLES for entry in kept_of(made))
    assert sizes == [5, 5, N - 10] * 2
    assert not made._waiting
    assert not made.core.rejected()
    np.testing.assert_array_equal(made.core.engine.fleet.source_ns, T0 + 2 * S)


def test_what_comes_behind_a_batch_is_taken_behind_it(slicing):
    """A session that ends, and an entry that is nothing: neither overtakes, and none counts as seen too early."""
    made, fleet, _ = slicing
    first = fleet.add(wire.encode(reports(1)))
    gone = np.zeros(1, SESSION)
    gone["t_ns"] = gone["rx_ns"] = T0 + 2 * S
    gone["slot"], gone["session"], gone["state"] = N - 1, 1, SlotState.UNPLUGGED
    fleet.add(wire.encode(gone))
    junk = fleet.add(b"junk")
    seen = []
    for _ in range(200):
        made._read()
        seen.append(made._done[FLEET])
        if seen[-1] == junk:
            break
    assert seen == sorted(seen)
    assert set(seen) >= {first, junk}
    assert [kind for kind, _ in taken(made)][-2:] == [Kind.VEHICLES, Kind.SESSIONS]
    assert not made.core.rejected()
    assert made.figures()["rejected"] == {"wire_short": 1}


def test_where_too_much_waits_it_is_taken_before_more_is_read(slicing, monkeypatch):
    monkeypatch.setattr(worker, "WAITING_MAX", 2)
    made, fleet, _ = slicing
    for second in range(1, 9):
        fleet.add(wire.encode(reports(second)))
    most = 0
    while made.core.engine.fleet.source_ns[-1] < T0 + 8 * S:
        made._read()
        most = max(most, len(made._waiting))
    assert most == 2


def test_stopping_takes_what_waits(slicing):
    made, fleet, _ = slicing
    fleet.add(wire.encode(reports(1)))
    read_until(made, lambda: made._waiting)
    made._take_waiting(most=0)
    assert not made._waiting
    np.testing.assert_array_equal(made.core.engine.fleet.source_ns, T0 + S)


def test_reports_read_twice_by_two_owners_change_nothing(slicing):
    """An entry that a worker has taken in part is read in full by the next one."""
    made, fleet, _ = slicing
    fleet.add(wire.encode(reports(1)))
    read_until(made, lambda: made._waiting)
    made._take_waiting(most=0)
    before = [np.array(column) for column in made.core.engine.fleet]
    made.core.on_vehicles(reports(1), T0 + 2 * S)
    for column, was in zip(made.core.engine.fleet, before, strict=True):
        np.testing.assert_array_equal(column, was)
    assert made.core.rejected() == {"report_old": N}
