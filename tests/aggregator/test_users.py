"""Least privilege at a real server: each process gets what it needs, and nothing of the others'."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from aggregator import users
from aggregator.embedded import USERS, EmbeddedServer
from aggregator.keys import KeyFault
from aggregator.users import ADMIN, ROLES, acl, address, make_passwords
from telemetry.paired import PairedReader
from telemetry.paired_writer import PairedWriter
from telemetry.redis_stream import StreamWriter, connect

AREA = "ce"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "keys"
    make_passwords(folder)
    return folder


@pytest.fixture(scope="module")
def server(keys: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(maxmemory_mb=64, users=acl(AREA, make_passwords(keys))) as running:
        yield running


@pytest.fixture
def as_user(server: EmbeddedServer, keys: Path) -> Iterator:
    made: list[redis.Redis] = []

    def client(name: str) -> redis.Redis:
        made.append(connect(address(server.url, keys, name)))
        return made[-1]

    yield client
    for one in made:
        one.close()


# Who may write which kind of key; whoever is not named must be refused. `*` stands for a name.
WRITERS = {
    "freq:ce:i1": {"ingest"}, "backfill:ce:i1": {"ingest"}, "cmd:ce:g1": {"worker"}, "journal:ce:w1": {"worker"},
    "fleet:ce:g1": {"gateway"}, "signal:ce:a1": {"api"}, "wishes:ce:a1": {"api"},
    "signal:ce:u1": {"utility"}, "sources:ce:i1": {"ingest"},
}  # fmt: skip
READERS = {
    "freq:ce:i1": {"ingest", "worker", "run"}, "backfill:ce:i1": {"ingest", "settle", "run"},
    "cmd:ce:g1": {"worker", "gateway", "run"}, "journal:ce:w1": {"worker", "settle", "run"},
    "fleet:ce:g1": {"worker", "gateway", "run"}, "signal:ce:a1": {"worker", "api", "run"},
    "wishes:ce:a1": {"worker", "api", "run"}, "signal:ce:u1": {"worker", "utility", "run"},
    "sources:ce:i1": {"ingest", "settle", "run"},
}  # fmt: skip
STRINGS = {
    "live:ce": {"worker"}, "fleetview:ce": {"worker"}, "accounts:ce": {"settle"},
    "snapshot:ce:w1": {"worker"}, "explained:ce:1": {"worker"},
    "sessions:ce:g1": {"gateway"}, **{f"stats:ce:{role}": {role} for role in ROLES if role != "run"},
}  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
def test_a_process_writes_its_own_streams_and_no_others(as_user, role):
    client = as_user(role)
    for key, who in WRITERS.items():
        if role in who:
            StreamWriter(client, key, 1000 + list(ROLES).index(role)).add(b"x")
        else:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.xadd(key, {b"b": b"x"})
    for key, who in STRINGS.items():
        if role in who:
            client.set(key, b"x")
        else:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.set(key, b"x")


@pytest.mark.parametrize("role", ROLES)
def test_a_process_reads_what_it_follows_and_no_more(as_user, role):
    client = as_user(role)
    for key, who in READERS.items():
        if role in who:
            client.xrevrange(key, count=1)
        else:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.xrevrange(key, count=1)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "words",
    [("CONFIG", "GET", "*"), ("FLUSHALL",), ("KEYS", "*"), ("ACL", "LIST"), ("SHUTDOWN",), ("EVAL", "return 1", "0"),
     ("DEL", "journal:ce:w1") , ("GET", "stats:other:worker"), ("XREVRANGE", "freq:other:i1", "+", "-"),
     ("PUBLISH", "x", "y"), ("CLIENT", "KILL", "TYPE", "normal")],
)  # fmt: skip
def test_nobody_gets_at_the_server_or_at_another_area(as_user, role, words):
    if role == "worker" and words[0] == "DEL":
        words = ("DEL", "freq:ce:i1")
    with pytest.raises(redis.exceptions.NoPermissionError):
        as_user(role).execute_command(*words)


def test_without_a_user_there_is_ping_and_nothing_else(server, as_user):
    with connect(server.url) as nobody:
        assert nobody.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            nobody.get("live:ce")
        with pytest.raises(redis.exceptions.NoPermissionError):
            nobody.xrevrange("freq:ce:i1", count=1)
    assert server.alive()
    assert as_user(ADMIN).config_get("maxmemory")


def test_a_wrong_password_is_refused(server, keys):
    url = address(server.url, keys, "worker")
    right = url.split(":")[2].split("@")[0]
    with connect(url.replace(right, "0" * len(right))) as client, pytest.raises(redis.AuthenticationError) as caught:
        client.ping()
    assert right not in str(caught.value)


def test_writer_and_reader_of_the_frequency_work_as_their_users(server, keys):
    writer = PairedWriter([address(server.url, keys, "ingest")], "freq:ce:i9", 1)
    reader = PairedReader([address(server.url, keys, "worker")], [{"freq:ce:i9": "$"}])
    writer.add(b"x")
    rows = []
    while not rows:
        rows += reader.read(1000)
    assert [row.payload for row in rows] == [b"x"]
    assert writer.settle(10.0) == 0
    writer.close()
    reader.close()


def test_passwords_lie_in_private_files_and_nowhere_else(server, keys):
    passwords = make_passwords(keys)
    assert passwords == make_passwords(keys)
    assert passwords.keys() == {*ROLES, ADMIN}
    assert len(set(passwords.values())) == len(passwords)
    assert {path.stat().st_mode & 0o777 for path in keys.iterdir()} == {0o600}
    assert (server.directory / USERS).stat().st_mode & 0o777 == 0o600
    for path in server.directory.rglob("*"):
        if path.is_file():
            found = path.read_bytes()
            assert not [name for name, password in passwords.items() if password.encode() in found], path
    words = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert not [name for name, password in passwords.items() if password.encode() in words]


def test_a_password_file_that_others_can_read_is_refused(tmp_path):
    make_passwords(tmp_path)
    (tmp_path / "store-api.password").chmod(0o644)
    with pytest.raises(KeyFault, match="chmod 600"):
        make_passwords(tmp_path)
    with pytest.raises(KeyFault, match="chmod 600"):
        address("unix:///x/r.sock", tmp_path, "api")


def test_a_server_of_ones_own_brings_its_user_with_its_address(keys, tmp_path):
    for url in ("redis://me:secret@store:6379", "rediss://store", "unix://me:secret@/x/r.sock"):
        assert address(url, keys, "worker") == url
    assert address("unix:///x/r.sock", tmp_path, "worker") == "unix:///x/r.sock"
    assert users.address("unix:///x/r.sock", keys, "api").startswith("unix://api:")


def test_a_server_of_ones_own_takes_the_passwords_of_a_folder(keys, tmp_path, monkeypatch):
    url = "rediss://someone:word@store.example:6379/0?ssl_ca_certs=ca.pem"
    assert address(url, tmp_path, "worker") == url
    monkeypatch.setenv("FLYBALL_STORE_KEYS", str(keys))
    assert address(url, tmp_path, "worker") == url  # the embedded servers' are elsewhere
    monkeypatch.setenv("FLYBALL_REDIS_URL", url)
    word = (keys / "store-worker.password").read_text().strip()
    assert address(url, tmp_path, "worker") == f"rediss://worker:{word}@store.example:6379/0?ssl_ca_certs=ca.pem"
    assert address(url, tmp_path, "unit2") == url
    monkeypatch.setenv("FLYBALL_STORE_KEYS", str(tmp_path / "nowhere"))
    with pytest.raises(KeyFault, match="cannot be read"):
        address(url, tmp_path, "worker")
