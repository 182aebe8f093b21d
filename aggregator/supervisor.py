"""`flyball run`: the whole line on one machine, started in order, watched, stopped in order, summed up.

Every process is started with a pipe as its standard input that only we hold: however we end, the pipe closes
and they end. A process that dies is started again after a delay; the embedded store likewise, on its data.
Stopping goes along the flow, so that every sample published is ticked before the worker goes: the ingest first, and the
units when nobody listens any more, lest their end be taken for a loss.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import redis

from aggregator.config import Config, SourceTable
from aggregator.embedded import EmbeddedServer
from aggregator.process import Log, Stop, rss_mb
from aggregator.roles import DIGITS, Run, ingest_role
from telemetry.redis_stream import connect

ORDER: Final = ("gateway", "unit", "worker", "ingest", "settle", "api", "utility")
STOP_ORDER: Final = ("utility", "ingest", "worker", "unit", "gateway", "settle", "api")
RESTART_S: Final = 1.0
# A process that dies so often, each time before it lived so long, will not do better the next time.
RESTARTS_MAX: Final = 5
STEADY_S: Final = 10.0
STOP_S: Final = 8.0
LOOK_S: Final = 0.25
# A server that is there and does not answer is busy for so long, and stuck after that.
MUTE_S: Final = 5.0


class StartError(RuntimeError):
    """The line could not be started; the message names the part and the remedy."""


class SummaryLost(RuntimeError):
    """The store went away before the processes' counters could be read."""


@dataclass
class Child:
    """One process of the run."""

    role: str
    process: subprocess.Popen[bytes]
    started_s: float
    restarts: int = 0


@dataclass
class Line:
    """The running processes and the embedded servers they share: `store`, and `store_b` beside it."""

    run: Run
    roles: tuple[str, ...]
    log: Log
    stores: dict[str, EmbeddedServer] = field(default_factory=dict)
    children: dict[str, Child] = field(default_factory=dict)
    begun_s: float = field(default_factory=time.monotonic)
    warm_start_s: float | None = None
    rss_peak_mb: float = 0.0
    begun_ns: int = field(default_factory=time.time_ns)
    pids: dict[str, int] = field(default_factory=dict)
    past: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    restarts: Counter[str] = field(default_factory=Counter)
    _mute_since: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Start everything, in order; nothing is left running if a part fails."""
        try:
            for role in self.roles:
                self._spawn(role)
        except BaseException:
            self.stop()
            raise

    def watch(self, stop: Stop, seconds: float | None) -> None:
        """Look after the processes until told to stop, or for `seconds` of ticking."""
        client = connect(self.run.as_user("run").url)
        while not stop:
            stop.wait(LOOK_S)
            self._look_after_store()
            self._look_after_children(client)
            worker = self._stats(client, "worker")
            if self.warm_start_s is None and worker and worker["ticked"]:
                self.warm_start_s = time.monotonic() - self.begun_s
                self.log.info("line up", seconds=round(self.warm_start_s, 2))
            self.rss_peak_mb = max(self.rss_peak_mb, self._rss_mb())
            begun_s = self.begun_s + (self.warm_start_s or 0.0)
            if seconds is not None and self.warm_start_s is not None and time.monotonic() - begun_s >= seconds:
                return

    def stop(self) -> None:
        """End the processes along the flow; the store is stopped by who started it. Idempotent."""
        for kind in STOP_ORDER:
            alike = [self.children.pop(role) for role in list(self.children) if role.rstrip(DIGITS) == kind]
            for child in alike:
                child.process.terminate()
            for child in alike:
                self._await_end(child)

    def _await_end(self, child: Child) -> None:
        try:
            child.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.log.warning("did not stop in time, killed", role=child.role)
            child.process.kill()
            child.process.wait()
        if child.process.stdin is not None:
            with suppress(BrokenPipeError):
                child.process.stdin.close()

    def summary(self) -> dict[str, Any]:
        """What the run came to, from the processes' own counters; `past` holds those of lives that ended early."""
        client = connect(self.run.as_user("run").url)
        try:
            stated: Any = client.hgetall(f"statements:{self.run.config.area}")
        except redis.RedisError as error:
            raise SummaryLost(f"store: {error}; no summary, but the journal is in {self.run.folder}") from error
        statements = [orjson.loads(row) for row in stated.values()]
        return {role: self._stats(client, role) for role in self.roles} | {
            "past": self.past,
            # A server of one's own may still hold those of earlier runs.
            "statements": [row for row in statements if row["end_ns"] > self.begun_ns],
            "warm_start_s": self.warm_start_s,
            "rss_mb": self.rss_peak_mb,
            "restarts": dict(self.restarts),
        }

    def _stats(self, client: redis.Redis, role: str) -> dict[str, Any]:
        """The counters of the process that runs now, or ran last: not those of an earlier life or another run."""
        row = stats(client, self.run.config.area, role)
        return row if row.get("pid") == self.pids.get(role) else {}

    def _spawn(self, role: str, restarts: int = 0) -> None:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "aggregator.roles", role, str(self.run.folder)],
            stdin=subprocess.PIPE,
            stdout=sys.stderr,
            start_new_session=True,
        )
        self.children[role] = Child(role, process, time.monotonic(), restarts)
        self.pids[role] = process.pid

    def _look_after_children(self, client: redis.Redis) -> None:
        for role, child in list(self.children.items()):
            code = child.process.poll()
            if code is None or time.monotonic() - child.started_s < RESTART_S:
                continue
            steady = time.monotonic() - child.started_s > STEADY_S
            restarts = 1 if steady else child.restarts + 1
            # 2 is the code of wrong use: starting again would fail again.
            if restarts > RESTARTS_MAX or (code == 2 and self.warm_start_s is None):
                raise StartError(f"{role} does not stay up; its reason is in the log above")
            self.log.warning("process ended, started again", process=role, code=code, restarts=restarts)
            self.restarts[role] += 1
            told = self._stats(client, role)
            if told:
                self.past.setdefault(role, []).append(told)
            self._spawn(role, restarts)

    def _look_after_store(self) -> None:
        for name, store in self.stores.items():
            if store.alive():
                self._mute_since.pop(name, None)
            elif store.mute() and time.monotonic() - self._mute_since.setdefault(name, time.monotonic()) < MUTE_S:
                continue
            else:
                self._mute_since.pop(name, None)
                self.log.warning("store ended, started again on its data", store=name)
                self.restarts[name] += 1
                store.restart()

    def _rss_mb(self) -> float:
        pids = [child.process.pid for child in self.children.values()]
        pids += [store.pid for store in self.stores.values()]
        return rss_mb() + sum(_rss_of(pid) for pid in pids)


def stats(client: redis.Redis, area: str, role: str) -> dict[str, Any]:
    """A process' counters as it last wrote them; empty when there are none."""
    try:
        row: Any = client.get(f"stats:{area}:{role}")
    except redis.RedisError:
        return {}
    return dict(orjson.loads(row)) if row else {}


def newest(url: str, keys: list[str]) -> dict[str, str]:
    """The newest entry of each stream, "0-0" where it has none. Raises StartError if the store does not answer."""
    found: dict[str, str] = {}
    try:
        client = connect(url)
        for key in keys:
            last: Any = client.xrevrange(key, count=1)
            found[key] = last[0][0].decode() if last else "0-0"
    except (redis.RedisError, ValueError) as error:
        raise StartError(f"FLYBALL_REDIS_URL: {error}; start that server, or unset it for an embedded one") from error
    return found


def free_port(host: str, port: int, name: str) -> int:
    """The port itself if it is free, any free one for 0. Raises StartError if it is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(f"{name}: port {port} on {host} is in use ({error.strerror}); choose another") from None
        return int(probe.getsockname()[1])


def with_ports(config: Config) -> Config:
    """The configuration with every port known and free. Raises StartError for one that is taken."""
    unit, api, taken = config.unit, config.api, set[int]()
    sources = tuple(
        _with_port(source, f"source.port of {source.name!r}" if config.source else "unit.port", taken)
        if source.simulated else source
        for source in config.sources
    )  # fmt: skip
    own = [source.port for source in sources if source.simulated]
    if own:
        unit = unit.model_copy(update={"port": own[0], "count": 1})
    api = api.model_copy(update={"port": free_port(api.host, api.port, "api.port")})
    utility = config.utility
    if utility is not None:
        utility = utility.model_copy(update={"port": free_port(utility.host, utility.port, "utility.port")})
    return config.model_copy(update={"unit": unit, "source": sources, "api": api, "utility": utility})


def _with_port(source: SourceTable, name: str, taken: set[int]) -> SourceTable:
    """The source with a port that is known, free, and not yet given to another one."""
    port = free_port(source.host, source.port, name)
    while port in taken:
        port = free_port(source.host, 0, name)
    taken.add(port)
    return source.model_copy(update={"port": port})


def roles_of(config: Config) -> tuple[str, ...]:
    """The processes of a run, in the order of their start: one for each simulated unit and each ingest, the
    utility's if wanted."""
    units = sum(source.simulated for source in config.sources)
    several = {
        "unit": ("unit", *(f"unit{number}" for number in range(2, units + 1)))[:units],
        "ingest": tuple(map(ingest_role, config.worker.ingests)),
        "utility": ("utility",) if config.utility is not None else (),
    }
    return tuple(name for role in ORDER for name in several.get(role, (role,)))


def _rss_of(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    import resource

    return pages * resource.getpagesize() / 2**20
