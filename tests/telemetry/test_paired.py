"""The same stream on two real servers: killed, frozen and restarted in turn, nothing is lost and nothing waits."""

import contextlib
import os
import signal
import threading
import time
import uuid

import pytest
import redis

from aggregator.embedded import EmbeddedServer
from telemetry import side
from telemetry.paired import PairedReader
from telemetry.paired_writer import PairedWriter
from telemetry.redis_stream import StreamConflict, StreamWriter, connect

BOUND_S = 60.0


@pytest.fixture
def pair():
    with EmbeddedServer(maxmemory_mb=64) as first, EmbeddedServer(maxmemory_mb=64) as second:
        yield first, second


@pytest.fixture
def key():
    return f"freq:test:{uuid.uuid4().hex}"


def urls(pair):
    return [server.url for server in pair]


@contextlib.contextmanager
def writing(pair, key, epoch=1, **options):
    writer = PairedWriter(urls(pair), key, epoch, **options)
    yield writer
    writer.close()


@contextlib.contextmanager
def reading(pair, start, **options):
    reader = PairedReader(urls(pair), start, **options)
    yield reader
    reader.close()


def until(condition):
    deadline_s = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline_s, "still not so"
        time.sleep(0.005)


def counters(rows):
    return [int(row.entry_id.split("-")[1]) for row in rows]


def gathered(reader, last):
    """Everything up to the counter `last`."""
    rows, deadline_s = [], time.monotonic() + BOUND_S
    while not rows or counters(rows)[-1] < last:
        rows += reader.read(50)
        assert time.monotonic() < deadline_s, counters(rows)[-5:]
    return rows


def held(server, key):
    with connect(server.url) as client:
        return [(entry_id.decode(), fields[b"b"]) for entry_id, fields in client.xrange(key)]


def test_both_servers_hold_the_same_under_the_same_ids(pair, key):
    with writing(pair, key, epoch=7) as writer:
        assert [writer.add(bytes([n]), b"note") for n in range(50)] == [f"7-{n}" for n in range(1, 51)]
        assert writer.settle(BOUND_S) == 0
    wanted = [(f"7-{n + 1}", bytes([n])) for n in range(50)]
    assert [held(server, key) for server in pair] == [wanted, wanted]


def test_a_reader_gets_each_entry_once_in_order_with_its_note(pair, key):
    with writing(pair, key) as writer, reading(pair, [{key: "0"}, {key: "0"}]) as reader:
        for n in range(300):
            writer.add(b"x%d" % n, b"n%d" % n)
        rows = gathered(reader, 300)
        assert counters(rows) == list(range(1, 301))
        assert [(row.payload, row.note) for row in rows] == [(b"x%d" % n, b"n%d" % n) for n in range(300)]
        until(lambda: all(reader.answering))
        assert reader.read(50) == []  # the other server's copies
        assert reader.duplicates <= 300
        assert (reader.missing, reader.late, reader.skipped) == (0, 0, 0)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_server_killed_costs_no_sample_and_none_comes_late(pair, key, victim):
    """At 100 Hz, SIGKILL in the middle, back on its data later: every sample arrives while the server is dead."""
    stop = threading.Event()

    def publish(writer):
        while not stop.wait(0.01):
            writer.add(b"sample")

    with writing(pair, key) as writer, reading(pair, [{key: "0"}, {key: "0"}]) as reader:
        source = threading.Thread(target=publish, args=(writer,))
        source.start()
        rows = gathered(reader, 50)
        os.kill(pair[victim].pid, signal.SIGKILL)
        rows += gathered(reader, counters(rows)[-1] + 100)
        assert reader.answering == [victim == 1, victim == 0]
        pair[victim].restart()
        until(lambda: rows.extend(reader.read(50)) or all(reader.answering))
        rows += gathered(reader, counters(rows)[-1] + 50)
        # It is back for good: alone, it brings the next ones too.
        other = 1 - victim
        until(lambda: rows.extend(reader.read(50)) or not any(writer.away))
        os.kill(pair[other].pid, signal.SIGKILL)
        rows += gathered(reader, counters(rows)[-1] + 50)
        pair[other].restart()
        until(lambda: rows.extend(reader.read(50)) or not any(writer.away))
        stop.set()
        source.join()
        assert writer.settle(BOUND_S) == 0
        until(lambda: rows.extend(reader.read(10)) or counters(rows)[-1] == writer.counter)
        assert counters(rows) == list(range(1, writer.counter + 1))
        assert (reader.missing, reader.late, writer.dropped) == (0, 0, 0)
        assert min(reader.losses) >= 1
    # The one that was dead has all of it as well, in order: nothing was written twice.
    assert held(pair[victim], key) == held(pair[1 - victim], key)


def test_a_frozen_server_delays_nobody(pair, key):
    """SIGSTOP: connections stand and nobody answers. The other server's samples arrive before any timeout ends."""
    with writing(pair, key) as writer, reading(pair, [{key: "0"}, {key: "0"}]) as reader:
        writer.add(b"x")
        gathered(reader, 1)
        os.kill(pair[0].pid, signal.SIGSTOP)
        try:
            for n in range(2, 52):
                writer.add(b"x")
                assert counters(gathered(reader, n)) == [n]
                assert writer.pending <= 1
            until(lambda: reader.read(10) == [] and reader.answering == [False, True])
            until(lambda: writer.away[0] and not writer.away[1])
        finally:
            os.kill(pair[0].pid, signal.SIGCONT)
        until(lambda: reader.read(10) == [] and all(reader.answering))
        assert writer.settle(BOUND_S) == 0
        until(lambda: len(held(pair[0], key)) == 51)
        assert (reader.missing, reader.late, writer.dropped) == (0, 0, 0)
    assert held(pair[0], key) == held(pair[1], key)


def test_both_servers_away_is_said_and_nothing_is_lost(pair, key):
    with writing(pair, key) as writer, reading(pair, [{key: "0"}, {key: "0"}]) as reader:
        writer.add(b"x")
        gathered(reader, 1)
        for server in pair:
            os.kill(server.pid, signal.SIGKILL)
        until(lambda: not any(_read_or_none(reader)))
        with pytest.raises(redis.ConnectionError):
            reader.read(20)
        for _ in range(20):
            writer.add(b"y")
        until(lambda: all(writer.away))
        assert writer.pending == 20
        assert writer.news()[0]
        assert writer.news() == [None, None]
        pair[1].restart()
        rows = []
        until(lambda: rows.extend(_rows(reader)) or len(rows) == 20)
        assert counters(rows) == list(range(2, 22))
        assert reader.missing == 0


def _rows(reader):
    try:
        return reader.read(10)
    except redis.ConnectionError:
        return []


def _read_or_none(reader):
    _rows(reader)
    return reader.answering


def test_what_a_writer_drops_for_one_server_the_other_has(pair, key):
    with writing(pair, key, pending_max=5) as writer, reading(pair, [{key: "0"}, {key: "0"}]) as reader:
        writer.add(b"x")
        gathered(reader, 1)
        os.kill(pair[0].pid, signal.SIGKILL)
        rows = []
        for n in range(2, 42):
            writer.add(b"y")
            rows += gathered(reader, n)
        pair[0].restart()
        until(lambda: len(held(pair[0], key)) == 1 + 5)
        writer.add(b"z")
        rows += gathered(reader, 42)
        assert counters(rows) == list(range(2, 43))
        assert (reader.missing, writer.dropped) == (0, 0)


def test_what_one_server_was_never_given_comes_from_the_other_in_its_place(pair, key):
    """Entries 3 and 4 are on the second server alone; the reader of both sees no gap, of either sees one."""
    with connect(pair[0].url) as a, connect(pair[1].url) as b:
        for n in (1, 2, 5, 6):
            a.xadd(key, {b"b": b"x"}, id=f"1-{n}")
        for n in (1, 2, 3, 4, 5, 6):
            b.xadd(key, {b"b": b"x"}, id=f"1-{n}")
    with reading(pair, [{key: "1-1"}, {key: "1-1"}], patience_s=BOUND_S) as reader:
        assert counters(gathered(reader, 6)) == [2, 3, 4, 5, 6]
        assert reader.missing == 0
    with reading(pair[:1], [{key: "1-1"}]) as reader:
        assert counters(gathered(reader, 6)) == [2, 5, 6]
        assert reader.missing == 2


def test_streams_of_one_server_go_along(pair, key):
    fleet = key + ":fleet"
    with connect(pair[0].url) as client, reading(pair, [{key: "$", fleet: "0"}, {key: "$"}]) as reader:
        StreamWriter(client, fleet, 3).add(b"cars")
        rows = []
        until(lambda: rows.extend(reader.read(20)) or rows)
        assert [(row.key, row.payload) for row in rows] == [(fleet, b"cars")]
        with writing(pair, key) as writer:
            writer.add(b"x")
            assert [row.key for row in gathered(reader, 1)] == [key]
        assert reader.positions == {key: "1-1", fleet: "3-1"}


def test_now_is_the_further_of_both_servers(pair, key):
    with connect(pair[0].url) as a, connect(pair[1].url) as b:
        a.xadd(key, {b"b": b"x"}, id="1-4")
        b.xadd(key, {b"b": b"x"}, id="1-7")
        with reading(pair, [{key: "1-3"}, {key: "1-5"}]) as reader:
            assert reader.positions == {key: "1-5"}
        with reading(pair, [{key: "$"}, {key: "$"}]) as reader:
            assert reader.positions == {key: "1-7"}
            b.xadd(key, {b"b": b"x"}, id="1-8")
            assert counters(gathered(reader, 8)) == [8]
        os.kill(pair[1].pid, signal.SIGKILL)
        with reading(pair, [{key: "$"}, {key: "$"}]) as reader:
            assert reader.positions == {key: "1-4"}
        os.kill(pair[0].pid, signal.SIGKILL)
        with pytest.raises(redis.ConnectionError):
            PairedReader(urls(pair), [{key: "$"}, {key: "$"}])


def test_foreign_entries_are_counted_and_passed_over(pair, key):
    with connect(pair[0].url) as client:
        client.xadd(key, {b"other": b"x"}, id="1-1")
        client.xadd(key, {b"b": b""}, id="1-2")  # empty is a payload, whatever its reader makes of it
        client.xadd(key, {b"b": b"x"}, id="1-3")
    with reading(pair[:1], [{key: "0"}]) as reader:
        assert counters(gathered(reader, 3)) == [2, 3]
        assert (reader.skipped, reader.missing) == (1, 0)


def test_a_second_writer_ends_the_first(pair, key):
    with writing(pair, key, epoch=5) as writer, connect(pair[1].url) as client:
        writer.add(b"x")
        writer.settle(BOUND_S)
        client.xadd(key, {b"b": b"somebody else's"}, id="6-1")

        def add():
            writer.add(b"y")

        with pytest.raises(StreamConflict, match="one writer"):
            until(add)


def test_an_outage_of_any_length_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """More tries than a client's pool would make in its life."""
    monkeypatch.setattr(side, "BACKOFF_S", (1e-4, 1e-4))
    tries = 0
    with EmbeddedServer(maxmemory_mb=64) as server:
        one = side.Side(server.url)
        pool = one.client.connection_pool
        made = pool.connection_class

        def counted(**options: object) -> object:
            nonlocal tries
            tries += 1
            return made(**options)

        pool.connection_class = counted
        os.kill(server.pid, signal.SIGKILL)
        while tries < 150:
            assert not one.free(0.0)
            time.sleep(0.001)  # real time: a thread of its own tries
        server.restart()
        for _ in range(5000):
            if one.free(0.0):
                break
            time.sleep(0.001)
        assert one.answering
        one.close()


def test_a_server_found_away_must_answer_to_a_new_connection(pair, key):
    with reading(pair, [{key: "$"}, {key: "$"}]) as reader:
        until(lambda: reader.read(10) == [] and all(reader.answering))
        reader.doubt(0)
        assert reader.answering == [False, True]
        until(lambda: reader.read(10) == [] and all(reader.answering))
