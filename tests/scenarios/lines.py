"""Whole runs of `flyball` as real processes, and what the scenario tests ask about them.

Processes are started as a user starts them, found again through /proc, and ended by their own number. Waits poll on
conditions; their bounds are generous, because the machine may be busy, and are no claim about speed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from aggregator import journal_reader, users
from aggregator.embedded import EmbeddedError, find_binary
from aggregator.journal import Entry, Kind
from telemetry.iec61850 import REMEDY, backends
from telemetry.redis_stream import connect

ROOT = Path(__file__).resolve().parents[2]
BOUND_S = 120.0
# What the environment of whoever runs the tests must not decide.
OURS = ("FLYBALL_REDIS_URL", "FLYBALL_API_TOKEN", "FLYBALL_COMMAND_KEY")
QUIET = "[unit]\ntrip_every_s = 1e9\n"


@dataclass(frozen=True)
class Process:
    """A process by number and birth, so that a number used again is not taken for it."""

    pid: int
    born: str
    name: str = field(compare=False)

    def alive(self) -> bool:
        """Whether it runs; one that has ended and was not yet waited for does not."""
        found = _stat(self.pid)
        return found is not None and found[1] == self.born and found[2] != "Z"

    def kill(self) -> None:
        """As a crash would: SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def _stat(pid: int) -> tuple[int, str, str] | None:
    """(parent, birth, state) of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), fields[19], fields[0]


def descendants(pid: int) -> list[Process]:
    """Every process below `pid`."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        found = _stat(int(path.name))
        if found is not None:
            parents.setdefault(found[0], []).append(int(path.name))
    below, wave = [], [pid]
    while wave:
        wave = [child for parent in wave for child in parents.get(parent, [])]
        below += wave
    processes = []
    for child in below:
        found = _stat(child)
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace").split("\0")
            if found is not None:
                processes.append(Process(child, found[1], " ".join(words)))
    return processes


def until(condition: Callable[[], Any], what: str, bound_s: float = BOUND_S) -> Any:
    """Poll until `condition` gives something true; its value. Fails naming `what`."""
    deadline_s = time.monotonic() + bound_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {bound_s:g} s: {what}")
        time.sleep(0.05)


def environment(**changes: str) -> dict[str, str]:
    """The environment of a process under test."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def start(folder: Path, *options: str, env: dict[str, str] | None = None, name: str = "run") -> subprocess.Popen[bytes]:
    """`flyball OPTIONS` in `folder`, in a process group of its own as a shell would; output goes to files there."""
    with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.err").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "aggregator.cli", *options],
            cwd=folder,
            env=environment(**(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def flyball(folder: Path, *options: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """`flyball OPTIONS` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "aggregator.cli", *options],
        cwd=folder,
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
        check=False,
    )


class Line:
    """One `flyball run`, started with free ports and no browser."""

    def __init__(self, folder: Path, *options: str, config: str = QUIET, env: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "flyball.toml").write_text(config, encoding="utf-8")
        self.process = start(
            folder, "run", "--config", "flyball.toml", "--port", "0", "--no-browser", "--json", "-", *options, env=env
        )
        self.seen: set[Process] = set()

    # ---- what it left on disk

    @property
    def run(self) -> Path:
        """The run's folder."""
        found = sorted(self.folder.glob("var/run-*"))
        return found[0] if found else until(self._first_run, "the run's folder")

    def _first_run(self) -> Path | None:
        self.expect_alive()
        return next(iter(sorted(self.folder.glob("var/run-*"))), None)

    def table(self) -> dict[str, Any]:
        """What the processes of the run share."""

        def read() -> dict[str, Any] | None:
            try:
                return dict(json.loads((self.run / "run.json").read_bytes()))
            except (OSError, ValueError):
                return None

        return until(read, "run.json")

    def entries(self, *kinds: Kind) -> list[Entry]:
        """The journal's entries of these kinds."""
        return list(journal_reader.entries(self.run / "journal", kinds or None))

    def log(self) -> str:
        """Standard error so far."""
        return (self.folder / "run.err").read_text(encoding="utf-8", errors="replace")

    # ---- its processes

    def expect_alive(self) -> None:
        """Fail with its log if the supervisor has ended."""
        if self.process.poll() is not None:
            pytest.fail(f"flyball run ended with {self.process.returncode}:\n{self.log()[-3000:]}")

    def children(self) -> list[Process]:
        """All processes of the run below the supervisor, remembered for `gone`."""
        found = descendants(self.process.pid)
        self.seen.update(found)
        return found

    def role(self, name: str) -> Process:
        """The process of one role, the store (`valkey`), or the second server (`valkey_b`)."""

        def find() -> Process | None:
            self.expect_alive()
            wanted = f"aggregator.roles {name} "
            if name.startswith("valkey"):
                # Two servers: each by its socket.
                wanted = self.table()["url" if name == "valkey" else "url_b"].removeprefix("unix://")
            shell = "flyball-valkey"
            return next((p for p in self.children() if wanted in p.name and shell not in p.name and p.alive()), None)

        return until(find, f"process {name}")

    def replaced(self, old: Process, name: str) -> Process:
        """The next process of a role after `old` was killed."""

        def find() -> Process | None:
            found = self.role(name)
            return None if found == old else found

        return until(find, f"another {name}")

    # ---- what it says

    @property
    def store(self) -> redis.Redis:
        """A client of the run's store."""
        return connect(users.address(self.table()["url"], self.run / "keys", users.ADMIN))

    def read(self, key: str) -> dict[str, Any]:
        """A JSON key of the store; empty while there is none or nobody answers."""
        try:
            row: Any = self.store.get(key)
        except redis.RedisError:
            return {}
        return dict(json.loads(row)) if row else {}

    @property
    def live(self) -> dict[str, Any]:
        """The worker's live figures."""
        return self.read("live:ce")

    def stats(self, role: str) -> dict[str, Any]:
        """A process' own counters."""
        return self.read(f"stats:ce:{role}")

    def up(self) -> None:
        """Wait until the line regulates: samples, vehicles and meter are there."""

        def regulating() -> bool:
            self.expect_alive()
            live = self.live
            return live.get("mode") == "normal" and live["vehicles"]["plugged"] > 0 and live["metered_kw"] is not None

        until(regulating, "the line to regulate")
        self.children()

    def call(
        self, path: str, token: str | None = None, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """(status, JSON) of a request to the API; (0, {}) while nobody listens."""
        port = self.table()["config"]["api"]["port"]
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own address
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
        except OSError:
            return 0, {}

    @property
    def token(self) -> str:
        """The API's bearer token."""
        return (self.run / "keys" / "api.token").read_text(encoding="ascii").strip()

    # ---- its end

    def interrupt(self) -> None:
        """Ctrl-C as a terminal gives it: SIGINT to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self, bound_s: float = 300.0) -> int:
        """Exit status, once it has ended."""
        return self.process.wait(bound_s)

    def summary(self) -> dict[str, Any]:
        """Standard output, which must be one JSON document and nothing else."""
        return dict(json.loads((self.folder / "run.out").read_bytes()))

    def places(self) -> tuple[list[int], Path | None]:
        """(TCP ports, directory of the embedded store)."""
        table = self.table()
        ports = [table["config"]["api"]["port"], table["config"]["unit"]["port"]]
        url = table["url"]
        return ports, Path(url.removeprefix("unix://")).parent if url.startswith("unix://") else None

    def expect_gone(self, places: tuple[list[int], Path | None]) -> None:
        """No process, no listener, no socket, no directory is left."""
        ports, directory = places
        assert self.seen
        until(lambda: not [p for p in self.seen if p.alive()], "all processes to end")
        assert [port for port in ports if listening(port)] == []
        if directory is not None:
            until(lambda: not directory.exists(), f"{directory} to go")

    def close(self) -> None:
        """Leave nothing behind, whatever the test did: our own processes, each by its number."""
        if self.process.poll() is None:
            self.children()
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        for process in [*self.seen, Process(self.process.pid, (_stat(self.process.pid) or (0, "", ""))[1], "run")]:
            if process.alive():
                process.kill()
        self.process.wait(10)


def listening(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def need_store() -> None:
    """Skip, visibly, where there is no Valkey."""
    try:
        find_binary()
    except EmbeddedError as error:
        pytest.skip(f"no embedded store: {error}")


def need_iec61850(backend: str | None = None) -> None:
    """Skip, visibly, where there is no IEC 61850 library."""
    if not backends() or (backend is not None and backend not in backends()):
        pytest.skip(f"IEC 61850 backend {backend or 'of any kind'} is not installed: {REMEDY}")


def finished(line: Line) -> dict[str, Any]:
    """The summary of a run that must end by itself, and well."""
    assert line.wait() == 0, line.log()[-3000:]
    return line.summary()
