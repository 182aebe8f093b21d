"""Late history of the ingest's devices: rows before their bookmarks, and on from there in the next life."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from aggregator.embedded import EmbeddedServer
from aggregator.history import Histories
from aggregator.process import logger
from telemetry import wire
from telemetry.iec61850 import Bookmark, Gap
from telemetry.redis_stream import StreamReader, connect
from telemetry.samples import FREQUENCY


class Device:
    """Stands for the client of a device: only its bookmark is looked at."""

    def __init__(self) -> None:
        self.at: Bookmark | None = None

    def bookmark(self) -> Bookmark | None:
        return self.at


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(maxmemory_mb=64) as running:
        yield running


def rows(first: int, count: int) -> np.ndarray:
    block = np.zeros(count, FREQUENCY)
    block["t_ns"] = np.arange(first, first + count)
    return block


def mark(number: int) -> Bookmark:
    return Bookmark("X/LLN0.BR.b01", bytes([number]), number)


def test_a_bookmark_is_kept_after_its_rows_and_found_by_the_next_life(server: EmbeddedServer) -> None:
    log = logger("test", "warning")
    with connect(server.url) as client:
        late, device = Histories(client, "ce", "i1", 3, log), Device()
        given = late.options("west")
        assert given["bookmark"] is None
        late.follow("west", device)
        late.turn()
        given["on_backfill"](rows(0, 7))
        device.at = mark(6)
        late.turn()
        # Read in the turn that it was reached in: rows that came meanwhile are not known to be on the stream.
        assert client.hgetall("bookmarks:ce:i1") == {}
        late.turn()
        assert Histories(client, "ce", "i1", 4, log).options("west")["bookmark"] == mark(6)
        given["on_backfill"](rows(7, 2))
        device.at = mark(8)
        late.finish()
        assert Histories(client, "ce", "i1", 4, log).options("west")["bookmark"] == mark(8)
        assert Histories(client, "ce", "i1", 4, log).options("east")["bookmark"] is None
        found = StreamReader(client, {"backfill:ce:i1": "0-0"}).read(count=10)
        assert np.concatenate([wire.decode(p)["t_ns"] for _, _, p in found]).tolist() == list(range(9))
        assert late.figures() == {"published": 9, "waiting": 0, "dropped": 0}


def test_a_long_history_is_sent_in_turns_and_its_bookmark_waits(server: EmbeddedServer) -> None:
    with connect(server.url) as client:
        late, device = Histories(client, "ce", "i1", 3, logger("test", "warning")), Device()
        late.follow("west", device)
        late.options("west")["on_backfill"](rows(0, 12_000))
        device.at = mark(5)
        late.turn()
        assert late.figures()["waiting"] == 2_000
        assert client.hgetall("bookmarks:ce:i1") == {}
        late.turn()
        assert late.figures()["waiting"] == 0
        assert set(client.hgetall("bookmarks:ce:i1")) == {b"west"}


def test_what_cannot_be_read_or_was_lost_is_named(server: EmbeddedServer, capfd: pytest.CaptureFixture[str]) -> None:
    log = logger("test", "info")
    with connect(server.url) as client:
        client.hset("bookmarks:ce:i1", "west", b"{}")
        given = Histories(client, "ce", "i1", 3, log).options("west")
        assert given["bookmark"] is None
        given["on_gap"](Gap("X/LLN0.BR.b01", 1, 9, "overflow"))
    said = capfd.readouterr().err
    assert "no bookmark" in said
    assert "overflow" in said
    server.stop()
    late = Histories(client, "ce", "i1", 3, log)
    late.backfill.put(rows(0, 3))
    late.turn()  # says so, and goes on
    assert late.figures()["waiting"] == 3
