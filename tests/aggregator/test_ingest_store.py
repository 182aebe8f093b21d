"""The ingest with a store that stands still: no sample waits for it, and what it is told besides comes later, once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
import redis

from aggregator import ingest
from aggregator.config import Config, SourceTable
from aggregator.embedded import EmbeddedServer
from aggregator.history import Histories
from aggregator.ingest_store import StoreSide
from aggregator.process import Stats, logger
from aggregator.sources import Followed, Sources
from telemetry import wire
from telemetry.choice import ChoiceSettings
from telemetry.iec61850 import Bookmark
from telemetry.median import MedianGate
from telemetry.quality import GateSettings
from telemetry.redis_stream import FIELD, NOTE, StreamConflict, StreamWriter, connect
from telemetry.samples import FREQUENCY
from telemetry.source import OnBlock, SourceStatus
from telemetry.stages import NOTE as STAMPS

LATE_S = 0.5  # of a sample; a store's timeout is 1 s


class Ticking:
    """A source of 20 rows a second, and its device's bookmark."""

    def __init__(self, number: int) -> None:
        self.number, self.sent, self.at = number, 0, None
        self._ended = threading.Event()

    def start(self, on_block: OnBlock) -> None:
        self._thread = threading.Thread(target=self._run, args=(on_block,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def status(self) -> SourceStatus:
        return SourceStatus(connected=True)

    def bookmark(self) -> Bookmark | None:
        return self.at

    def _run(self, on_block: OnBlock) -> None:
        while not self._ended.wait(0.05):
            row = np.zeros(1, FREQUENCY)
            row["t_ns"] = row["rx_ns"] = time.time_ns()
            row["hz"], row["volt_frac"], row["source"] = 50.0 + 1e-3 * (self.sent % 3), 1.0, self.number
            self.sent += 1
            on_block(row)


class Told:
    """Stands for `process.Stop`."""

    def __init__(self) -> None:
        self.told = False

    def __bool__(self) -> bool:
        return self.told

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return self.told


class Running:
    """An ingest of two sources, `serve` as it is, on two servers."""

    def __init__(self, url: str, url_b: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.devices, self.stop, self.error = [Ticking(1), Ticking(2)], Told(), None
        self.late: Any = None
        monkeypatch.setattr(ingest, "follow", self._follow)
        monkeypatch.setattr(ingest, "lower_nice", lambda _: "")
        self._thread = threading.Thread(target=self._run, args=(url, url_b), daemon=True)
        self._thread.start()

    def _follow(self, _config: Config, _nominal_hz: float, begun_ns: int, late: Histories, _name: str) -> Sources:
        self.late = late.options("west")["on_backfill"]
        late.follow("west", self.devices[0])
        tables = {n: SourceTable(name=f"s{n}", port=1, priority=n) for n in (1, 2)}
        gates = {n: MedianGate(GateSettings(), live=True) for n in (1, 2)}
        followed = {n: Followed(tables[n], self.devices[n - 1], gates[n]) for n in (1, 2)}
        return Sources(followed, ChoiceSettings(), begun_ns)

    def _run(self, url: str, url_b: str) -> None:
        try:
            ingest.serve(Config(), 50.0, url, self.stop, logger("test", "error"), url_b)  # type: ignore[arg-type]
        except Exception as error:
            self.error = error

    def end(self) -> None:
        self.stop.told = True
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def pair() -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    with EmbeddedServer(maxmemory_mb=64) as a, EmbeddedServer(maxmemory_mb=64) as b:
        yield a, b


def until(done: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline_s = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def entries(client: redis.Redis, key: str) -> list[tuple[str, dict[bytes, bytes]]]:
    """All of a stream, numbered without a gap."""
    found: Any = client.xrange(key)
    assert [int(entry_id.split(b"-")[1]) for entry_id, _ in found] == list(range(1, len(found) + 1))
    return [(entry_id.decode(), fields) for entry_id, fields in found]


def told(found: list[tuple[str, dict[bytes, bytes]]]) -> np.ndarray:
    return np.concatenate([wire.decode(fields[FIELD]) for _, fields in found])


def stats(client: redis.Redis) -> dict[str, Any]:
    kept: Any = client.get("stats:ce:ingest")
    return orjson.loads(kept) if kept else {}


def waits_s(found: list[tuple[str, dict[bytes, bytes]]]) -> list[float]:
    """Of each sample, from its arrival to its leaving."""
    left_ns = np.array([STAMPS.unpack(fields[NOTE])[1] for _, fields in found])
    return ((left_ns - told(found)["rx_ns"]) * 1e-9).tolist()


def history(first: int, count: int) -> np.ndarray:
    block = np.zeros(count, FREQUENCY)
    block["t_ns"] = np.arange(first, first + count)
    return block


def test_no_sample_waits_for_a_frozen_store_and_the_rest_comes_later_once(
    pair: tuple[EmbeddedServer, EmbeddedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    running, area = Running(a.url, b.url, monkeypatch), "ce"
    with connect(a.url) as at_a, connect(b.url) as at_b:
        until(lambda: stats(at_a) and at_a.exists(f"sources:{area}:i1"))
        running.late(history(0, 700))
        until(lambda: at_a.xlen(f"backfill:{area}:i1") == 2)
        os.kill(a.pid, signal.SIGSTOP)
        try:
            begun = at_b.xlen(f"freq:{area}:i1")
            running.late(history(700, 5))
            running.devices[0].at = Bookmark("X/LLN0.BR.b01", b"\x01", 705)
            lengths = [begun]
            for _ in range(10):  # 5 s, of five timeouts
                time.sleep(LATE_S)
                lengths.append(at_b.xlen(f"freq:{area}:i1"))
        finally:
            os.kill(a.pid, signal.SIGCONT)
        assert all(earlier < later for earlier, later in pairwise(lengths)), lengths
        until(lambda: at_a.hexists(f"bookmarks:{area}:i1", "west"))
        running.end()
        assert running.error is None
        samples = entries(at_b, f"freq:{area}:i1")
        assert entries(at_a, f"freq:{area}:i1") == samples
        # A median of three lets each sample wait for the next one, 50 ms.
        assert max(waits_s(samples)) < LATE_S
        record = told(entries(at_a, f"sources:{area}:i1"))
        for device in running.devices:
            rows = record[record["source"] == device.number]
            assert rows.size == device.sent  # those that the gates held back to the end, too
            assert (np.diff(rows["t_ns"]) > 0).all()
        assert told(entries(at_a, f"backfill:{area}:i1"))["t_ns"].tolist() == list(range(705))
        last = stats(at_a)
        assert last["published"] == len(samples)
        assert (last["dropped"], last["record_dropped"]) == (0, 0)
        assert last["backfill"] == {"published": 705, "waiting": 0, "dropped": 0}
        assert not at_b.exists(f"sources:{area}:i1", f"backfill:{area}:i1", "stats:ce:ingest")


def test_it_ends_in_time_while_the_store_stands_still(
    pair: tuple[EmbeddedServer, EmbeddedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    running = Running(a.url, b.url, monkeypatch)
    with connect(b.url) as at_b:
        until(lambda: at_b.xlen("freq:ce:i1") > 5)
        os.kill(a.pid, signal.SIGSTOP)
        try:
            running.late(history(0, 5))
            begun = at_b.xlen("freq:ce:i1")
            until(lambda: at_b.xlen("freq:ce:i1") > begun + 10)
            begun_s = time.monotonic()
            running.end()
            assert time.monotonic() - begun_s < 3 * ingest.SETTLE_S + 3  # samples, the rest, the threads; a busy host
        finally:
            os.kill(a.pid, signal.SIGCONT)
        assert running.error is None
        assert max(waits_s(entries(at_b, "freq:ce:i1"))) < LATE_S


def side(client: redis.Redis, pending_max: int = 1000, waiting_max: int = 1000) -> StoreSide:
    late = Histories(client, "ce", "i1", 3, logger("test", "error"))
    record = StreamWriter(client, "sources:ce:i1", 3, pending_max=pending_max)
    return StoreSide(record, Stats(client, "ce", "ingest"), late, waiting_max)


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(maxmemory_mb=64) as running:
        yield running


def numbers(client: redis.Redis) -> list[int]:
    found: Any = client.xrange("sources:ce:i1")
    assert [int(fields[FIELD]) for _, fields in found] == [int(key.split(b"-")[1]) for key, _ in found]
    return [int(fields[FIELD]) for _, fields in found]


def test_what_finds_no_room_is_counted_and_the_rest_is_kept_in_order(server: EmbeddedServer) -> None:
    with connect(server.url) as client:
        store = side(connect(server.url), pending_max=5, waiting_max=10)
        os.kill(server.pid, signal.SIGSTOP)
        begun_s = time.monotonic()
        try:
            for number in range(1, 41):
                store.keep(b"%d" % number)
                store.tell({"handed": number})
            assert time.monotonic() - begun_s < LATE_S
            until(lambda: store.waiting <= 5)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert store.close(20, lambda: {"record_dropped": store.record_dropped}) == 0
        kept = numbers(client)
        assert kept
        assert kept == sorted(set(kept))
        assert store.record_dropped == 40 - len(kept) > 0
        assert stats(client)["record_dropped"] == store.record_dropped


def test_what_is_pending_at_the_end_is_tried_once_more(server: EmbeddedServer) -> None:
    with connect(server.url) as client:
        store = side(connect(server.url))
        os.kill(server.pid, signal.SIGKILL)
        store.keep(b"1")
        time.sleep(0.3)
        store.keep(b"2")
        assert store.waiting
        server.restart()
        assert store.close(20, dict) == 0
        assert numbers(client) == [1, 2]


def test_another_writer_of_the_record_ends_the_loop_as_ever(server: EmbeddedServer) -> None:
    with connect(server.url) as client:
        client.xadd("sources:ce:i1", {FIELD: b"x"}, id="9-1")
        store = side(connect(server.url))

        def kept() -> bool:
            store.keep(b"1")
            return False

        with pytest.raises(StreamConflict):
            until(kept)
        with pytest.raises(StreamConflict):
            store.close(1, dict)
