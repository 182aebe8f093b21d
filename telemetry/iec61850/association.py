"""One association over libiec61850: connected, ticked and taken down without ever holding the process up.

What the library does alone costs 10 ms polls and a connect race, so it gets no thread: we tick it when its socket has
something, and now and then for its clock; a tick blocks for at most 10 ms with the GIL free. The tick thread never sees
an exception. Requests are `asking`, reports are `blocks`.
"""

from __future__ import annotations

import contextlib
import ctypes as c
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from telemetry.iec61850 import library as ied
from telemetry.iec61850.asking import TIMEOUT
from telemetry.iec61850.blocks import Blocks
from telemetry.iec61850.errors import LinkLost
from telemetry.iec61850.link import Connect, Link
from telemetry.iec61850.tls import Protection, TlsFiles

IDLE_S: Final = 0.002  # between ticks of a closed connection, which do not block
TLS_IDLE_S: Final = 0.0005  # with TLS no tick blocks
CONNECTING_S: Final = 0.001
WAIT_MS: Final = 50  # for data; also how late a request's time-out may be
_OPENING: Final = threading.Lock()  # one connect at a time, to know whose socket is whose


def connector(host: str, port: int, timeout_s: float, tls: TlsFiles | None, password: str | None) -> Connect:
    """How to associate with one device. timeout_s : for the connection, and for each request

    Raises BackendMissing or LibraryVersion if libiec61850 cannot be used, TlsError for files that cannot.
    """
    library = ied.load()
    Protection(library, tls, password).free()  # says now what is wrong with the files; they are read at each connect

    def connect(give_up: Callable[[], bool]) -> Link:
        association = Association(library, f"{host}:{port}", timeout_s, Protection(library, tls, password))
        try:
            association.connect(host, port, give_up)
        except BaseException:
            association.close()
            raise
        return association

    return connect


class Association(Blocks):
    """One connection and the blocks enabled over it; a `link.Link`."""

    def __init__(self, library: ied.Library, source: str, timeout_s: float, protection: Protection) -> None:
        connection: int = library.call.IedConnection_createEx(protection.tls, False)
        super().__init__(library, source, connection)
        self._timeout_s = timeout_s
        self._protection = protection
        self._call.IedConnection_setConnectTimeout(connection, int(timeout_s * 1000))
        self._call.IedConnection_setRequestTimeout(connection, int(timeout_s * 1000))
        protection.apply(connection)
        self._ticking = threading.Event()
        self._ticker: threading.Thread | None = None
        self._sockets: set[tuple[int, str]] = set()
        self._port = 0

    def connect(self, host: str, port: int, give_up: Callable[[], bool]) -> None:
        """Associate. The synchronous connect of 1.6 may lose its own answer, the asynchronous one does not."""
        call, connection = self._call, self._connection
        step = f"connect to {host}:{port}"
        with _OPENING:
            before = _sockets()
            call.IedConnection_connectAsync(connection, c.byref(self._error), host.encode(), port)
            self._sockets = _sockets() - before
        self._port = port
        if self._error.value:
            raise LinkLost(step, self._error.value)
        self._ticking.set()
        self._ticker = threading.Thread(target=self._tick, args=(connection,), name="iec61850-tick", daemon=True)
        self._ticker.start()
        # The library's connect timeout ends with the TCP connection; a mute peer is ours to give up.
        until = time.monotonic() + self._timeout_s
        while call.IedConnection_getState(connection) == ied.STATE_CONNECTING:
            if give_up() or time.monotonic() > until:
                raise LinkLost(step, TIMEOUT)
            time.sleep(CONNECTING_S)
        if not self.alive():
            why = self._protection.complaint or "refused: is the IED running, and the port right?"
            raise LinkLost(step, reason=why)

    def alive(self) -> bool:
        """Whether the library holds the connection for open."""
        connection = self._connection
        return connection is not None and self._call.IedConnection_getState(connection) == ied.STATE_CONNECTED

    def close(self) -> None:
        """Handlers out, connection down, tick thread joined, memory freed: in this order or the library crashes."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        call = self._call
        if call.IedConnection_getState(connection) != ied.STATE_CONNECTED:
            self._cut()
        for ref in list(self._handlers):
            call.IedConnection_uninstallReportHandler(connection, ref.encode())
        call.IedConnection_close(connection)
        self._ticking.clear()
        if self._ticker is not None:
            self._ticker.join()
        call.IedConnection_destroy(connection)
        for block in self._blocks.values():
            call.ClientReportControlBlock_destroy(block)
        self._blocks.clear()
        self._protection.free()

    def _cut(self) -> None:
        """Shut our socket down under the library.

        A TLS handshake with a mute peer is one call that never returns (seen in 1.6.1: it spins).
        """
        for ours in self._handles():
            with ours, contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)

    def _handles(self) -> Iterator[socket.socket]:
        """Handles of our own on the library's socket, which it shows nobody: what appeared as we connected and leads
        to our port is it."""
        for number, inode in self._sockets:
            try:
                if os.readlink(f"/proc/self/fd/{number}") != inode:  # noqa: PTH115
                    continue
                ours = socket.socket(fileno=os.dup(number))
            except OSError:  # closed meanwhile
                continue
            if _leads_to(ours, self._port):
                yield ours
            else:
                ours.close()

    def _tick(self, connection: int) -> None:
        """Until told to end. The wait for data is ours where it can be: the library's is over after 10 ms."""
        tick, state = self._call.IedConnection_tick, self._call.IedConnection_getState
        waiting, wait, sought = contextlib.ExitStack(), None, False
        with waiting:
            while self._ticking.is_set():
                if wait is not None:
                    wait(WAIT_MS)
                # True: nothing came. An open plain connection was polled for 10 ms; one with TLS, or a closed one,
                # returns at once, and is ticked on, slowly, because requests still waiting are timed out by the tick.
                if not tick(connection):
                    continue
                now = state(connection)
                if now != ied.STATE_CONNECTED:
                    waiting.close()
                    wait = None
                    time.sleep(CONNECTING_S if now == ied.STATE_CONNECTING else IDLE_S)
                elif self._protection.tls:
                    time.sleep(TLS_IDLE_S)
                elif not sought:
                    wait, sought = self._waiter(waiting), True

    def _waiter(self, until: contextlib.ExitStack) -> Callable[[int], object] | None:
        """How to wait for data, in ms, without the interpreter; None where it is not plain which socket is ours."""
        handles = [until.enter_context(ours) for ours in self._handles()]
        if len(handles) != 1:
            until.close()
            return None
        poller = select.poll()
        poller.register(handles[0], select.POLLIN)
        return poller.poll


def _leads_to(handle: socket.socket, port: int) -> bool:
    try:
        return bool(handle.getpeername()[1] == port)
    except OSError:  # not connected yet, or no more
        return False


def _sockets() -> set[tuple[int, str]]:
    """(number, inode) of every socket of this process; the library has wheels for Linux alone."""
    found = set()
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            inode = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
            if inode.startswith("socket:"):
                found.add((int(number), inode))
    return found
