"""A PMU's stream as a `FrequencySource`: one thread with an event loop of its own, over TCP or UDP.

The thread connects, lets `Session` speak, hands what comes to `Intake`, and begins again for ever until stopped. The
arrival is stamped when the octets leave the socket. Nothing raises into the caller. There is no authentication and no
encryption in the protocol: over anything but a private line, run it through a tunnel.

Losses: octets that are no frame, and frames that cannot be used, are counted by reason in `PmuStatus.refused`; missing
frames in `gaps`. The kernel's receive buffer is the only buffer: what it drops of datagrams shows as gaps.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from telemetry.c37118.errors import FrameError
from telemetry.c37118.frames import Splitter, only_frame
from telemetry.c37118.intake import Intake
from telemetry.c37118.session import Session
from telemetry.source import OnBlock, SourceStatus

BACKOFF_MIN_S: Final = 0.1
BACKOFF_MAX_S: Final = 2.0
LOOK_S: Final = 0.25  # how often silence is looked for and commands are repeated, at most
TRANSPORTS: Final = ("tcp", "udp", "udp-spontaneous")


@dataclass(frozen=True)
class PmuStatus(SourceStatus):
    """Counters of a PMU's source beside those of every source; `gaps` are frames missing by stamp and DATA_RATE.

    `refused` counts frames and octets by `errors.REASONS`.
    """

    others: int = 0  # parts of frames that belong to other PMUs of the stream
    configurations: int = 0  # that said something new


class PmuClient:
    """A `FrequencySource` on C37.118.2.

    host, port        : the unit; with `udp-spontaneous` the address of ours to listen on
    idcode            : the PMU wanted; None: the only one of the stream
    stream            : IDCODE of the stream, to which commands are addressed; None: `idcode`, or 1 without one
    transport         : `tcp`; `udp`, commands and data on one pair of ports; `udp-spontaneous`, nothing is asked
    nominal_volt      : phase to neutral, in the unit the PMU reports [V]
    volt_channels     : names of the phase voltages; empty: found by their names
    silent_after_s    : without usable data for so long (or three periods) the connection is made anew [s]
    source            : number of the measuring point, copied into each row
    connect_timeout_s : for the connection [s]
    cfg3              : ask for CFG-3 first, which names phases and scales exactly; CFG-2 where it is not answered

    Raises ValueError for a parameter that cannot be.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        idcode: int | None = None,
        stream: int | None = None,
        transport: str = "tcp",
        nominal_volt: float,
        volt_channels: tuple[str, ...] = (),
        silent_after_s: float = 3.0,
        source: int = 0,
        connect_timeout_s: float = 1.0,
        cfg3: bool = False,
    ) -> None:
        _check(port, idcode, stream, transport, nominal_volt, silent_after_s, connect_timeout_s)
        self._address, self._transport = (host, port), transport
        self._silent_after_s, self._connect_timeout_s = silent_after_s, connect_timeout_s
        spontaneous = transport == "udp-spontaneous"
        addressed = stream if stream is not None else idcode if idcode is not None else 1
        self._stream = None if spontaneous else addressed
        self._cfg3 = cfg3
        self._intake = Intake(idcode, stream, nominal_volt, tuple(volt_channels), source, cfg3=cfg3)
        self._thread: threading.Thread | None = None
        self._told = asyncio.Event()
        self._link: _Link | None = None  # while there is a connection
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._detail = "not started"

    def start(self, on_block: OnBlock) -> None:
        """Begin to connect, and return at once. Raises RuntimeError if it is running already."""
        if self._thread is not None:
            raise RuntimeError("the source is running: stop it before it is started again")
        self._stopping = False
        self._intake.open(on_block)
        self._loop, self._told = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="c37118-source", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, whatever the peer does. A second call does nothing."""
        thread, self._thread = self._thread, None
        self._intake.shut()
        if thread is None or self._loop is None:
            return
        self._stopping = True
        self._loop.call_soon_threadsafe(self._tell)
        thread.join(5.0 + self._connect_timeout_s)
        self._detail = "did not end in time" if thread.is_alive() else "stopped"

    def status(self) -> PmuStatus:
        """The counters now."""
        intake, followed = self._intake, self._link is not None and self._intake.configuration is not None
        return PmuStatus(
            connected=followed and intake.certain,
            reports=intake.reports,
            reconnects=max(0, intake.links - 1),
            gaps=intake.gaps,
            repeats=intake.repeats,
            last_rx_ns=intake.last_rx_ns,
            detail=intake.detail if followed and intake.detail else self._detail,
            surprises=sum(list(intake.refused.values())),
            handler_errors=intake.handler_errors,
            refused=dict(intake.refused),
            others=intake.others,
            configurations=intake.configurations,
        )

    # ---- the source's own thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._live())
        finally:
            loop.close()

    async def _live(self) -> None:
        backoff_s = BACKOFF_MIN_S
        while not self._stopping:
            before = self._intake.lively
            try:
                self._detail = await self._once() or self._detail
            except Exception as error:
                self._detail = f"{self._address[0]}:{self._address[1]}: {error or type(error).__name__}"
            backoff_s = BACKOFF_MIN_S if self._intake.lively > before else min(2 * backoff_s, BACKOFF_MAX_S)
            await self._wait(backoff_s)

    def _tell(self) -> None:
        self._told.set()
        if self._link is not None:
            self._link.end("stopping")

    async def _wait(self, seconds: float) -> None:
        """Sleep, or less when told to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), seconds)

    async def _once(self) -> str:
        """One connection from its beginning to its end; why it ended."""
        session = Session(self._intake, self._stream, self._silent_after_s, time.monotonic_ns(), self._cfg3)
        link = self._link = await self._open(session)
        try:
            return await self._watch(session, link)
        finally:
            self._link = None
            if not link.gone:
                link.send(session.farewell(time.time_ns()))
            link.close()
            self._intake.connected()

    async def _open(self, session: Session) -> _Link:
        """The connection, within its time. Raises OSError or TimeoutError."""
        loop = asyncio.get_running_loop()
        host, port = self._address
        if self._transport == "tcp":
            opening: Any = loop.create_connection(lambda: _TcpLink(self._intake, session), host, port)
        elif self._transport == "udp":
            opening = loop.create_datagram_endpoint(lambda: _UdpLink(self._intake, session), remote_addr=(host, port))
        else:
            opening = loop.create_datagram_endpoint(
                lambda: _UdpLink(self._intake, session, told_by_sender=True), local_addr=(host, port)
            )
        try:
            _, link = await asyncio.wait_for(opening, self._connect_timeout_s)
        except TimeoutError:
            raise TimeoutError(f"no connection within {self._connect_timeout_s:g} s") from None
        made: _Link = link
        return made

    async def _watch(self, session: Session, link: _Link) -> str:
        while not self._stopping:
            link.speak()
            await asyncio.wait({link.ended}, timeout=LOOK_S)
            if link.ended.done():
                return link.ended.result()
            verdict = session.verdict(time.monotonic_ns())
            if verdict:
                return verdict
        return ""


class _Link:
    """What both kinds of connection do alike. `ended` is done, with the reason, when the connection is over."""

    def __init__(self, intake: Intake, session: Session) -> None:
        self._intake, self._session = intake, session
        self._transport: Any = None
        self.gone = False  # whether the transport is closed already
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        self.end(f"connection lost: {error}" if error else "the unit closed the connection")

    def end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    def speak(self) -> None:
        """Send what the session has to say now."""
        self.send(self._session.commands(time.monotonic_ns(), time.time_ns()))

    def send(self, commands: list[bytes]) -> None:
        for octets in commands:
            self._send(octets)

    def _send(self, octets: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """At once: a peer that does not read must not keep us."""
        self._transport.close() if self._transport.get_write_buffer_size() == 0 else self._transport.abort()


class _TcpLink(_Link, asyncio.Protocol):
    def __init__(self, intake: Intake, session: Session) -> None:
        super().__init__(intake, session)
        self._splitter = Splitter(intake.refuse)

    def data_received(self, octets: bytes) -> None:
        rx_ns = time.time_ns()
        for frame in self._splitter.feed(octets):
            self._intake.take(frame, rx_ns)
        if self._splitter.lost:
            self.end(self._intake.detail)
        elif not self._intake.certain or self._session.waiting:
            self.speak()

    def _send(self, octets: bytes) -> None:
        self._transport.write(octets)


class _UdpLink(_Link, asyncio.DatagramProtocol):
    """told_by_sender : any sender may send the configuration, and is followed then"""

    def __init__(self, intake: Intake, session: Session, told_by_sender: bool = False) -> None:
        super().__init__(intake, session)
        self._told_by_sender = told_by_sender

    def datagram_received(self, datagram: bytes, sender: Any) -> None:
        rx_ns = time.time_ns()
        try:
            frames = only_frame(datagram)
        except FrameError as error:
            self._intake.refuse(error.reason, error.detail)
            return
        for frame in frames:
            self._intake.take(frame, rx_ns, sender if self._told_by_sender else None)
        if not self._intake.certain or self._session.waiting:
            self.speak()

    def error_received(self, error: Exception) -> None:
        """Nobody listens there (yet): the watchdog decides."""
        self._intake.detail = str(error)

    def _send(self, octets: bytes) -> None:
        self._transport.sendto(octets)


def _check(
    port: int, idcode: int | None, stream: int | None, transport: str,
    nominal_volt: float, silent_after_s: float, connect_timeout_s: float,
) -> None:  # fmt: skip
    wrong: tuple[tuple[bool, str], ...] = (
        (not 0 < port < 65536, f"port {port}: give one from 1 to 65535"),
        (transport not in TRANSPORTS, f"transport {transport!r}: choose one of {', '.join(TRANSPORTS)}"),
        (idcode is not None and not 0 <= idcode <= 0xFFFF, f"idcode {idcode}: give one from 0 to 65535"),
        (stream is not None and not 0 <= stream <= 0xFFFF, f"stream {stream}: give an IDCODE from 0 to 65535"),
        (not 0 < nominal_volt < float("inf"), f"nominal_volt {nominal_volt}: give a positive number of volts"),
        (not silent_after_s > 0, f"silent_after_s {silent_after_s}: give a positive number of seconds"),
        (not connect_timeout_s > 0, f"connect_timeout_s {connect_timeout_s}: give a positive number of seconds"),
    )
    for is_wrong, what in wrong:
        if is_wrong:
            raise ValueError(what)
