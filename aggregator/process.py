"""What every process of `flyball` does alike: stop when told or orphaned, say what it does, take its place.

Time for facts is the wall clock in ns, for waiting the monotonic one; both are read in the shells alone.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import orjson
import redis
import structlog

from telemetry.redis_stream import connect

STATS_S: Final = 1.0
RECONNECT_S: Final = (0.05, 1.0)

Log = structlog.typing.FilteringBoundLogger


def logger(role: str, level: str = "info") -> Log:
    """Structured log on standard error; standard output belongs to results."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    bound: Log = structlog.get_logger(role=role)
    return bound


class Stop:
    """Set by SIGTERM, SIGINT, or the end of the parent that holds our standard input open.

    guarded : standard input is the parent's pipe; its end is our end
    """

    def __init__(self, *, guarded: bool) -> None:
        # Not an Event: its lock, held by the very thread that a signal interrupts, would never come free.
        self._told = False
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        signal.signal(signal.SIGTERM, lambda *_: self._tell())
        # A terminal's Ctrl-C reaches the whole group; under a supervisor the order of stopping is its business.
        signal.signal(signal.SIGINT, signal.SIG_IGN if guarded else lambda *_: self._tell())
        if guarded:
            threading.Thread(target=self._orphan, name="guard", daemon=True).start()

    def _orphan(self) -> None:
        try:
            while os.read(0, 1024):
                pass
        except OSError:
            pass  # nothing left to be held by
        self._tell()
        # A process stuck in a foreign library must not survive its parent.
        time.sleep(5.0)
        os._exit(1)

    def _tell(self) -> None:
        self._told = True
        self._bell.put(None)

    def __bool__(self) -> bool:
        return self._told

    def wait(self, seconds: float) -> bool:
        """Sleep, or less; whether to stop."""
        if not self._told:
            try:
                self._bell.get(timeout=max(seconds, 0.0))
            except queue.Empty:
                return self._told
            self._bell.put(None)  # for the other threads that wait
        return self._told


def urgent() -> str:
    """Ask for real-time scheduling, then for priority; what we got, for the record."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
        return "SCHED_FIFO 10"
    except (AttributeError, OSError):
        pass
    return lower_nice(-10)


def lower_nice(nice: int) -> str:
    """Ask for another niceness; what we got."""
    try:
        return f"nice {os.nice(nice)}"
    except OSError:
        return f"nice {os.nice(0)}"


def settle_memory() -> None:
    """Keep the collector away from what stays: a full collection of a large heap takes tens of ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1_000)


def rss_mb() -> float:
    """Memory of this process now [MiB]; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


class Stats:
    """A process' own counters, written to the store once a second."""

    def __init__(self, client: redis.Redis, area: str, role: str) -> None:
        self._client, self._key, self._role = client, f"stats:{area}:{role}", role
        self._due_s = 0.0

    @property
    def due(self) -> bool:
        """Whether a second has passed; for figures that are not for nothing."""
        return time.monotonic() >= self._due_s

    def write(self, figures: dict[str, Any], *, now: bool = False) -> None:
        """Write if a second has passed or `now`; a store that does not answer costs nothing but the news."""
        if not now and time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + STATS_S
        row = {"t_ns": time.time_ns(), "role": self._role, "pid": os.getpid(), "rss_mb": rss_mb(), **figures}
        try:
            self._client.set(self._key, orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY))
        except redis.RedisError:
            return


def patient(url: str, stop: Stop, log: Log, other: str = "") -> redis.Redis | None:
    """A client of a server that answers; None if told to stop before it did.

    other : a second server that is enough to begin with; the client is the first one's all the same
    """
    clients = [connect(one) for one in (url, other) if one]
    wait_s = RECONNECT_S[0]
    while not stop:
        for client in clients:
            try:
                client.ping()
                return clients[0]
            except redis.RedisError as error:
                if wait_s == RECONNECT_S[0]:
                    log.warning("the store does not answer, trying on", error=str(error))
        stop.wait(wait_s)
        wait_s = min(wait_s * 2, RECONNECT_S[1])
    return None


def epoch() -> int:
    """A stream writer's epoch: later lives have a higher one."""
    return time.time_ns() // 1_000_000
