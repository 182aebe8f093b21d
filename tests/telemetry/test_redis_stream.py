"""Streams against a real server: once, in order, and every loss counted."""

import os
import signal
import threading
import uuid

import pytest
import redis

from aggregator.embedded import EmbeddedServer
from telemetry import redis_stream
from telemetry.redis_stream import BlockTooLong, StreamConflict, StreamError, StreamReader, StreamWriter, connect


@pytest.fixture(scope="module")
def server():
    with EmbeddedServer(maxmemory_mb=64) as running:
        yield running


@pytest.fixture
def client(server):
    with connect(server.url) as one:
        yield one


@pytest.fixture
def key():
    return f"freq:test:{uuid.uuid4().hex}"


def held(client, key):
    return [(entry_id.decode(), fields[b"b"]) for entry_id, fields in client.xrange(key)]


def test_ids_are_epoch_and_counter_from_one(client, key):
    writer = StreamWriter(client, key, 7)
    assert [writer.add(b"a"), writer.add(b"b")] == ["7-1", "7-2"]
    assert held(client, key) == [("7-1", b"a"), ("7-2", b"b")]


def test_reader_gets_each_entry_once_in_order_for_each_key(client, key):
    keys = [key + ":1", key + ":2"]
    writers = [StreamWriter(client, name, 1) for name in keys]
    reader = StreamReader(client, dict.fromkeys(keys, "0"))
    rows = []
    for n in range(10):
        writers[n % 2].add(bytes([n]))
        if n % 3 == 0:
            rows += reader.read()
    rows += reader.read()
    assert [payload[0] for name, _, payload in rows if name == keys[0]] == [0, 2, 4, 6, 8]
    assert [payload[0] for name, _, payload in rows if name == keys[1]] == [1, 3, 5, 7, 9]
    assert (reader.read(), reader.missing, reader.skipped) == ([], 0, 0)


def test_dollar_is_resolved_once(client, key):
    writer = StreamWriter(client, key, 1)
    writer.add(b"old")
    reader = StreamReader(client, {key: "$"})
    writer.add(b"between making and reading")
    assert [row[2] for row in reader.read()] == [b"between making and reading"]
    writer.add(b"between two reads")
    assert [row[2] for row in reader.read(1)] == [b"between two reads"]
    early = StreamReader(client, {key + ":new": "$"})
    StreamWriter(client, key + ":new", 1).add(b"first of a new stream")
    assert [row[2] for row in early.read()] == [b"first of a new stream"]


def test_count_limits_a_read_and_loses_nothing(client, key):
    writer = StreamWriter(client, key, 1)
    for n in range(5):
        writer.add(bytes([n]))
    reader = StreamReader(client, {key: "0"})
    assert [row[2][0] for row in reader.read(count=3)] == [0, 1, 2]
    assert [row[2][0] for row in reader.read(count=3)] == [3, 4]


def test_blocking_read_wakes_up_for_an_entry(server, client, key):
    with connect(server.url, blocking=True) as waiting:
        reader = StreamReader(waiting, {key: "$"})
        writer = threading.Timer(0.05, StreamWriter(client, key, 1).add, (b"x",))
        writer.start()
        assert reader.read(10_000) == [(key, "1-1", b"x")]
        writer.join()
        assert reader.read(10) == []


def test_a_block_longer_than_the_socket_waits_is_refused(client, key):
    with pytest.raises(BlockTooLong, match="blocking=True"):
        StreamReader(client, {key: "$"}).read(5_000)


def test_old_entries_are_trimmed(client, key):
    writer = StreamWriter(client, key, 1, maxlen=200)
    for _ in range(1000):
        writer.add(b"x" * 20)
    assert 200 <= client.xlen(key) < 400


def test_foreign_entries_are_counted_and_passed_over(client, key):
    writer = StreamWriter(client, key, 1)
    writer.add(b"a")
    client.xadd(key, {b"other": b"x"}, id="1-2")
    StreamWriter(client, key, 2).add(b"c")
    reader = StreamReader(client, {key: "0"})
    assert [row[2] for row in reader.read()] == [b"a", b"c"]
    assert (reader.skipped, reader.missing) == (1, 0)


@pytest.mark.parametrize(
    ("start", "ids", "missing"),
    [
        ("0", ["5-40", "5-41"], 0),  # a trimmed stream read from its beginning
        ("0", ["5-1", "5-4"], 2),
        ("5-3", ["5-4", "6-1"], 0),
        ("5-3", ["5-6", "6-3"], 2 + 2),
        ("5-3", ["7-1"], 0),  # an epoch that wrote nothing
    ],
)
def test_skipped_counters_are_missing(client, key, start, ids, missing):
    for entry_id in ids:
        client.xadd(key, {b"b": b"x"}, id=entry_id)
    reader = StreamReader(client, {key: start})
    assert [row[1] for row in reader.read()] == ids
    assert reader.missing == missing


# -- lost answers, lost servers ------------------------------------------------------------------------------------


def test_an_entry_whose_answer_was_lost_is_written_once(server, key, monkeypatch):
    monkeypatch.setattr(redis_stream, "TIMEOUT_S", 0.15)
    with connect(server.url) as client:
        writer = StreamWriter(client, key, 3)
        writer.add(b"before")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for payload in (b"during", b"too"):
                with pytest.raises(redis.TimeoutError):
                    writer.add(payload)
            with pytest.raises(redis.TimeoutError):
                writer.retry()
            assert writer.pending == 2
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert writer.retry() == 2
        assert (writer.retry(), writer.pending) == (0, 0)
        assert writer.add(b"after") == "3-4"
        assert held(client, key) == [("3-1", b"before"), ("3-2", b"during"), ("3-3", b"too"), ("3-4", b"after")]


def test_add_settles_what_is_pending_first(server, key, monkeypatch):
    monkeypatch.setattr(redis_stream, "TIMEOUT_S", 0.15)
    with connect(server.url) as client:
        writer = StreamWriter(client, key, 3)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(redis.TimeoutError):
                writer.add(b"1")
        finally:
            os.kill(server.pid, signal.SIGCONT)
        writer.add(b"2")
        assert held(client, key) == [("3-1", b"1"), ("3-2", b"2")]


def test_reader_and_writer_resume_after_the_server_was_killed():
    with EmbeddedServer(maxmemory_mb=64) as server, connect(server.url) as client:
        writer, reader = StreamWriter(client, "s", 1, pending_max=3), StreamReader(client, {"s": "$"})
        for n in range(100):
            writer.add(bytes([n]))
        seen = [row[2][0] for row in reader.read(count=40)]
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(redis.ConnectionError):
            reader.read()
        for n in (100, 101, 102):
            with pytest.raises(redis.ConnectionError):
                writer.add(bytes([n]))
        server.restart()
        assert writer.retry() == 3
        while rows := reader.read(count=40):
            seen += [row[2][0] for row in rows]
        assert seen == list(range(103))
        assert (reader.missing, writer.dropped) == (0, 0)


def test_what_a_writer_drops_its_readers_miss():
    with EmbeddedServer(maxmemory_mb=64) as server, connect(server.url) as client:
        writer, reader = StreamWriter(client, "s", 1, pending_max=3), StreamReader(client, {"s": "$"})
        writer.add(b"\0")
        os.kill(server.pid, signal.SIGKILL)
        for n in range(1, 6):
            with pytest.raises(redis.ConnectionError):
                writer.add(bytes([n]))
        server.restart()
        writer.retry()
        assert [row[2][0] for row in reader.read()] == [0, 3, 4, 5]
        assert (writer.dropped, reader.missing) == (2, 2)


def test_out_of_memory_keeps_all_entries_in_order(client, key):
    writer = StreamWriter(client, key, 1)
    before = client.config_get("maxmemory")["maxmemory"]
    client.config_set("maxmemory", "1")
    try:
        for payload in (b"1", b"2"):
            with pytest.raises(redis.ResponseError):
                writer.add(payload)
    finally:
        client.config_set("maxmemory", before)
    assert writer.pending == 2
    writer.add(b"3")
    assert [payload for _, payload in held(client, key)] == [b"1", b"2", b"3"]


# -- in someone's pipeline -----------------------------------------------------------------------------------------


def test_two_writers_in_one_pipeline(client, key):
    writers = [StreamWriter(client, f"{key}:{n}", 1) for n in range(2)]
    with client.pipeline(transaction=False) as pipeline:
        ids = [writer.queue(pipeline, b"x") for writer in writers]
        pipeline.execute()
    for writer in writers:
        writer.confirm()
    assert ids == ["1-1", "1-1"]
    assert [writer.pending for writer in writers] == [0, 0]
    assert [held(client, writer.key) for writer in writers] == [[("1-1", b"x")]] * 2


def test_a_pipeline_whose_answer_was_lost_is_written_once(server, key, monkeypatch):
    monkeypatch.setattr(redis_stream, "TIMEOUT_S", 0.15)
    with connect(server.url) as client:
        writer = StreamWriter(client, key, 1)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with client.pipeline(transaction=False) as pipeline:
                writer.queue(pipeline, b"x")
                with pytest.raises(redis.TimeoutError):
                    pipeline.execute()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert writer.retry() == 1
        assert held(client, key) == [("1-1", b"x")]


# -- one writer a stream -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [4, 5])
def test_a_second_writer_of_no_higher_epoch_is_a_conflict(client, key, epoch):
    StreamWriter(client, key, 5).add(b"x")
    second = StreamWriter(client, key, epoch)
    with pytest.raises(StreamConflict, match="one writer"):
        second.add(b"y")
    with pytest.raises(StreamConflict):
        second.add(b"z")
    with client.pipeline() as pipeline, pytest.raises(StreamConflict):
        second.queue(pipeline, b"z")
    assert held(client, key) == [("5-1", b"x")]


@pytest.mark.parametrize("others", ["3-1", "3-2", "4-1"])
def test_a_retry_that_meets_somebody_elses_entry_is_a_conflict(client, key, others):
    writer = StreamWriter(client, key, 3)
    with client.pipeline() as never_executed:
        writer.queue(never_executed, b"mine")
    client.xadd(key, {b"b": b"not mine"}, id=others)
    with pytest.raises(StreamConflict):
        writer.retry()
    assert writer.pending == 1


@pytest.mark.parametrize("epoch", [0, -1, 2**63])
def test_an_epoch_the_server_could_not_order_is_refused(client, key, epoch):
    with pytest.raises(StreamError, match="epoch"):
        StreamWriter(client, key, epoch)
