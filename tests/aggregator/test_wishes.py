"""An owner's wish on its way: from the stream into the core, into the journal, and out of it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import redis

from aggregator.contracts import Contract, CoreSettings
from aggregator.core import Aggregator
from aggregator.embedded import EmbeddedServer
from aggregator.gateways.simulated import SimulatedFleet
from aggregator.journal import CALLS, Kind
from aggregator.process import epoch, logger
from aggregator.replay import call
from aggregator.worker import Worker
from droop.fleet import Wish
from droop.products import load
from telemetry import wire
from telemetry.redis_stream import StreamWriter, connect
from telemetry.samples import SIGNAL, WISH

S = 10**9
NAMES = {"ingest": "i1", "gateway": "g1", "api": "a1"}
N = 12


def settings() -> CoreSettings:
    return CoreSettings("ce", N, (Contract(load("ce_fcr"), 5.0),), epoch=1)


def wish(slot: int, now_ns: int, code: Wish = Wish.NO_DISCHARGE, valid_s: float = 600.0) -> np.ndarray:
    row = np.zeros(1, WISH)
    row["t_ns"] = row["rx_ns"] = now_ns
    row["until_ns"], row["slot"], row["session"], row["wish"] = now_ns + int(valid_s * S), slot, 1, code
    return row


def test_a_wish_is_journalled_and_replayed() -> None:
    now_ns = 1_790_000_000 * S
    core, again = Aggregator(settings()), Aggregator(settings(), journal=False)
    core.on_sessions(SimulatedFleet(N, 1, now_ns, perfect=True).sessions(now_ns), now_ns)
    core.on_wishes(np.concatenate([wish(3, now_ns), wish(N, now_ns), wish(4, now_ns, valid_s=0.0)]), now_ns)
    entries = core.drain_entries()
    assert [entry.kind for entry in entries] == [Kind.START, Kind.SESSIONS, Kind.WISHES]
    assert (int(Kind.WISHES), Kind.WISHES in CALLS) == (8, True)
    for entry in entries[1:]:
        call(again, entry)
    for name in ("wish", "wish_until_ns"):
        np.testing.assert_array_equal(getattr(again.engine.fleet, name), getattr(core.engine.fleet, name))
    assert core.engine.fleet.wish.tolist() == [2 if slot == 3 else 0 for slot in range(N)]
    assert core.rejected() == again.rejected() == {"wish_slot": 1, "wish_old": 1}


class Never:
    """A stop that nobody tells."""

    def __bool__(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with EmbeddedServer() as server, connect(server.url) as made:
        made.url = server.url
        yield made


def started(client: redis.Redis, since: dict[str, str]) -> Worker:
    worker = Worker(settings(), b"k" * 32, client, client.url, NAMES, Never(), logger("worker"), "", since)
    worker._await_fleet()
    return worker


def seen(worker: Worker, holds: Callable[[], Any]) -> None:
    """Read until it holds."""
    deadline_s = time.monotonic() + 60
    while not holds():
        worker._read()
        assert time.monotonic() < deadline_s, (worker.core.engine.fleet.wish, worker.figures()["rejected"])


def test_a_worker_follows_wishes_and_takes_those_of_the_run_again_when_it_restarts(client: redis.Redis) -> None:
    fleet = SimulatedFleet(N, 1, time.time_ns(), perfect=True)
    cars, api = StreamWriter(client, "fleet:ce:g1", epoch()), StreamWriter(client, "wishes:ce:a1", epoch())
    api.add(wire.encode(wish(1, time.time_ns())))  # of a run before this one
    since = {"wishes:ce:a1": f"{api.epoch}-{api.counter}"}
    cars.add(wire.encode(fleet.sessions(time.time_ns())))
    api.add(wire.encode(wish(3, time.time_ns())))
    worker = started(client, since)
    standing = worker.core.engine.fleet.wish
    api.add(wire.encode(wish(4, time.time_ns(), Wish.CHARGE_NOW)))
    cars.add(wire.encode(wish(5, time.time_ns(), Wish.LEAVE_ALONE)))  # from the vehicle's own app
    for block in (fleet.sessions(time.time_ns()), fleet.reports(time.time_ns()), np.zeros(1, SIGNAL)):
        api.add(wire.encode(block))  # kinds that this stream does not carry
    api.add(b"neither a block nor one cut")
    seen(worker, lambda: worker.figures()["rejected"].get("wire_magic"))
    seen(worker, lambda: standing[5])
    assert standing.tolist() == [0, 0, 0, 2, 1, 3] + [0] * 6
    assert worker.figures()["rejected"] == {"wire_stream": 3, "wire_magic": 1}
    again = started(client, since)
    seen(again, lambda: again.core.engine.fleet.wish[4])
    assert again.core.engine.fleet.wish.tolist() == [0, 0, 0, 2, 1, 3] + [0] * 6
