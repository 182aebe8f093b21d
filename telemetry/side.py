"""One server as a paired reader follows it: one XREAD under way, answered whenever it is answered.

Nothing here waits: a question is sent and its answer fetched once the socket has it, so that several servers can be
watched at once. Connecting, which may take as long as a server likes, is done in a thread of its own, one try after
the other with a growing pause, and only while there is no connection.

Policy: a server whose connection breaks, or that owes an answer for longer than it may, is away from that moment; no
position is lost by it. It counts as answering again once it has answered to a new connection.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

import redis

from telemetry.redis_stream import TIMEOUT_S, Row, connect, told

# The server holds the question for so long; longer means fewer questions while nothing happens.
HOLD_MS: Final = 500
BACKOFF_S: Final = (0.02, 0.5)


class Side:
    """One server.

    url       : for `redis_stream.connect`
    answering : whether there is a connection, and no answer overdue on it
    losses    : how often it went away
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        self._client = connect(url)
        self._timeout_s = timeout_s
        self._connection: Any = None
        self._fresh: Any = None
        self._asked_s: float | None = None
        self._pause_s = 0.0
        self._connecting: threading.Thread | None = None
        self._closed = threading.Event()
        self.answering = False
        self.losses = 0
        self.why = ""

    @property
    def client(self) -> redis.Redis:
        """A client for other questions to the same server; it may wait."""
        return self._client

    def fileno(self) -> int | None:
        """The socket an answer is awaited on; None while none is."""
        if self._connection is None or self._asked_s is None:
            return None
        sock = self._connection._get_socket()
        return None if sock is None else int(sock.fileno())

    def free(self, now_s: float) -> bool:
        """Whether it can be asked now: there is a connection, and no answer still due."""
        if self._asked_s is not None and now_s - self._asked_s > HOLD_MS / 1e3 + self._timeout_s:
            self._lose("no answer in time")
        if self._connection is None:
            self._connection, self._fresh = self._fresh, None
            self.answering = self._connection is not None
        if self._connection is None:
            self._connect()
        return self._connection is not None and self._asked_s is None

    def ask(self, positions: Mapping[str, str], count: int, now_s: float) -> None:
        """Ask for what comes after `positions`; only when `free`."""
        words = ["XREAD", "BLOCK", HOLD_MS, "COUNT", count, "STREAMS", *positions, *positions.values()]
        try:
            self._connection.send_command(*words)
        except (redis.RedisError, OSError) as error:
            self._lose(str(error))
        else:
            self._asked_s = now_s

    def answer(self) -> list[Row]:
        """The entries of an answer that has come; call it when the socket can be read."""
        try:
            # The client's own parser, without its waiting; it carries no types.
            client: Any = self._client
            found = client.parse_response(self._connection, "XREAD")
        except (redis.RedisError, OSError) as error:
            self._lose(str(error))
            return []
        self._asked_s = None
        self._pause_s, self.why = 0.0, ""
        return list(told(found))

    def doubt(self) -> None:
        """Take it for away until it has answered to a new connection."""
        if self.answering:
            self._lose("found away")

    def close(self) -> None:
        """Let go of the server."""
        self._closed.set()
        if self._connecting is not None:
            self._connecting.join(2 * self._timeout_s)
        for connection in (self._connection, self._fresh):
            if connection is not None:
                connection.disconnect()
        self._connection = self._fresh = None
        self.answering = False

    def _lose(self, why: str) -> None:
        connection, self._connection = self._connection, None
        self._asked_s = None
        self.losses += self.answering
        self.answering, self.why = False, why
        if connection is not None:
            connection.disconnect()

    def _connect(self) -> None:
        if self._closed.is_set() or (self._connecting is not None and self._connecting.is_alive()):
            return
        self._connecting = threading.Thread(target=self._try, name="connect", daemon=True)
        self._connecting.start()

    def _try(self) -> None:
        while not self._closed.wait(self._pause_s):
            self._pause_s = min(max(2 * self._pause_s, BACKOFF_S[0]), BACKOFF_S[1])
            try:
                # Not the pool's own way: it counts what it makes, and stops for good at its limit.
                pool = self._client.connection_pool
                connection: Any = pool.connection_class(**pool.connection_kwargs)
                connection.connect()
            except (redis.RedisError, OSError) as error:
                self.why = str(error)
            else:
                self._fresh = connection
                return
