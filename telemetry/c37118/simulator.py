"""A simulated PMU: a C37.118.2 server over TCP and UDP on one port, and a spontaneous sender, misbehaving on request.

It publishes what it is given; where the numbers come from, and when, is the caller's affair. One thread with an event
loop of its own answers commands and sends. The first PMU of the stream shows what is published; further ones, there
to be told apart, show a steady grid.

Policy: a TCP client that does not read is cut off when BACKLOG_BYTES wait for it; of UDP clients the newest
MAX_CLIENTS are served, whoever comes after takes the oldest one's place. What cannot be understood is ignored.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from dataclasses import replace
from typing import Any, Final

from telemetry.c37118 import writer
from telemetry.c37118.errors import PortInUse, ServerError
from telemetry.c37118.frames import CHECK_BYTES, HEAD, Command, Kind, Splitter, head_of
from telemetry.iec61850.mapping import TEST, VALIDITY, VALIDITY_GOOD

BACKLOG_BYTES: Final = 1 << 18
MAX_CLIENTS: Final = 8
CONFIGURATION_EVERY_NS: Final = 60_000_000_000  # of its own accord (6.4: once a minute)
CHANGE_FRAMES: Final = 20  # of warning, STAT bit 10, before a changed configuration takes effect
TRIES: Final = 8  # to find a port that is free for TCP and UDP
HEADER: Final = "Flyball's simulated measuring unit"

STAT_ERROR: Final = 0xC000
STAT_TEST: Final = 0x8000
STAT_UNSYNCHRONISED: Final = 0x2000
STAT_CHANGE: Final = 0x0400
STAT_TIME_UNKNOWN: Final = 0x01C0
STAT_TIME_1_US: Final = 0x0080
CLOCK_FAILURE: Final = 0x0F

# kind: seconds it lasts where the text gives none; 0 is one frame
FAULTS: Final = {
    "crc": 1.0,  # wrong check words
    "bad-data": 1.0,  # STAT says do not use
    "unsync": 5.0,  # clock lost
    "stall": 5.0,  # connections open, nothing said, nothing answered
    "drop": 0.0,  # every connection closed
    "duplicate": 1.0,  # each frame twice
    "config-change": 0.0,  # announced, then in effect: other number formats, CFGCNT one up
}


class SimulatedPmu:
    """One stream of one or more PMUs.

    port       : TCP and UDP; 0 takes a free one, see `port` after `start`
    host       : address to listen on, no other
    pmus       : of the stream; the first shows what is published
    stream     : IDCODE of the stream; None: that of the first PMU
    rate       : DATA_RATE [frames/s], or, negative, seconds a frame
    time_base  : TIME_BASE
    send_to    : where data and configuration go unasked, by UDP; None: nowhere
    """

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        pmus: tuple[writer.Pmu, ...] = (writer.Pmu(),),
        stream: int | None = None,
        rate: int = 50,
        time_base: int = 1_000_000,
        send_to: tuple[str, int] | None = None,
    ) -> None:
        self.host, self.port = host, port
        self.pmus = pmus
        self.cfg3, self.most = True, 65_000  # whether CFG-3 is answered, and octets of it in a frame
        self._stream = pmus[0].idcode if stream is None else stream
        self._rate, self._time_base, self._send_to = rate, time_base, send_to
        self.faults: set[str] = set()  # kinds of FAULTS that are on; set from the loop's thread alone
        self.commands: list[int] = []  # received, for whoever wants to know
        self._change_in: int | None = None
        self._told_ns: int | None = None  # when the configuration was sent unasked
        self._links: set[_Link] = set()
        self._peers: dict[Any, None] = {}  # UDP clients, oldest first
        self._server: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen. Raises PortInUse, ServerError."""
        if self._thread is not None:
            raise ServerError("the simulated unit is running: stop it before it is started again")
        self._loop = loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._listen(loop))
        except BaseException:
            loop.close()
            raise
        self._thread = threading.Thread(target=loop.run_forever, name="c37118-unit", daemon=True)
        self._thread.start()

    def publish(self, t_ns: int, hz: float, volts: float, quality: int = VALIDITY_GOOD, clock_ok: bool = True) -> None:
        """One data frame to everybody who has asked for data.

        t_ns     : when it was true, ns since 1970 UTC; hz, volts : NaN is sent as absent data
        quality  : IEC 61850-7-3 Quality, bit 0 first: validity other than good, and test, have their like in STAT
        clock_ok : False says that the clock is not synchronised

        Raises ServerError if the unit is not running.
        """
        if self._thread is None or self._loop is None:
            raise ServerError("the simulated unit is not running: start it before publishing")
        stat = STAT_TEST if quality & TEST else STAT_ERROR if quality & VALIDITY != VALIDITY_GOOD else 0
        self._loop.call_soon_threadsafe(self._publish, t_ns, hz, volts, stat, clock_ok)

    def misbehave(self, kind: str, on: bool) -> None:
        """Switch a fault. Raises ValueError for an unknown kind, ServerError if the unit is not running."""
        if kind not in FAULTS:
            raise ValueError(f"fault {kind!r} is unknown: the kinds are {', '.join(FAULTS)}")
        if self._thread is None or self._loop is None:
            raise ServerError("the simulated unit is not running: start it before it misbehaves")
        self._loop.call_soon_threadsafe(self._misbehave, kind, on)

    def stop(self) -> None:
        """Close every connection and stop listening; a second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        thread.join()
        self._loop.run_until_complete(self._close())
        self._loop.close()

    # ---- the loop's thread

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        for last in (False,) * (TRIES - 1) + (True,):
            try:
                server = await loop.create_server(lambda: _Link(self), self.host, self.port)
            except OSError as error:
                raise self._named(error) from None
            port = server.sockets[0].getsockname()[1]
            try:
                udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(self.host, port))
            except OSError as error:
                server.close()
                if self.port or last:
                    raise self._named(error) from None
                continue
            self._server, self._udp, self.port = server, udp, port
            return

    def _named(self, error: OSError) -> Exception:
        if error.errno == errno.EADDRINUSE:
            return PortInUse(self.host, self.port)
        return ServerError(f"cannot listen on {self.host}:{self.port}: {error.strerror or error}: is the address ours?")

    async def _close(self) -> None:
        if self._server is not None and self._udp is not None:
            self._server.close()
            self._udp.close()
        for link in tuple(self._links):
            link.cut()
        self._peers.clear()
        await asyncio.sleep(0)  # let the transports close their sockets

    def _publish(self, t_ns: int, hz: float, volts: float, stat: int, clock_ok: bool) -> None:
        stat |= self._change()
        if "bad-data" in self.faults:
            stat |= STAT_ERROR
        unsynchronised = "unsync" in self.faults or not clock_ok
        stat |= STAT_UNSYNCHRONISED | STAT_TIME_UNKNOWN if unsynchronised else STAT_TIME_1_US
        parts = [self.pmus[0].data(stat, hz, volts)]
        parts += [pmu.data(STAT_TIME_1_US, pmu.nominal_hz + k / 1000, k) for k, pmu in enumerate(self.pmus[1:], 1)]
        quality = CLOCK_FAILURE if unsynchronised else 0
        frame = writer.data(self._stream, parts, self._time_base, t_ns, quality)
        if "crc" in self.faults:
            frame = frame[:-1] + bytes((frame[-1] ^ 0x01,))
        if "stall" in self.faults:
            return
        for _ in range(2 if "duplicate" in self.faults else 1):
            self._spread(frame, t_ns)

    def _spread(self, frame: bytes, t_ns: int) -> None:
        for link in tuple(self._links):
            link.data(frame)
        if self._udp is None:
            return
        for peer in self._peers:
            self._udp.sendto(frame, peer)
        if self._send_to:
            if self._told_ns is None or not 0 <= t_ns - self._told_ns < CONFIGURATION_EVERY_NS:
                self._told_ns = t_ns
                self._udp.sendto(self._configuration(Kind.CFG2, t_ns), self._send_to)
            self._udp.sendto(frame, self._send_to)

    def _change(self) -> int:
        """STAT's bit while a change is announced; takes it into effect after CHANGE_FRAMES frames."""
        if self._change_in is None:
            return 0
        self._change_in -= 1
        if self._change_in > 0:
            return STAT_CHANGE
        self._change_in = None
        self._told_ns = None
        first = self.pmus[0]
        self.pmus = (replace(first, floats=not first.floats, changes=first.changes + 1 & 0xFFFF), *self.pmus[1:])
        return 0

    def _misbehave(self, kind: str, on: bool) -> None:
        if on and kind == "config-change":
            self._change_in = CHANGE_FRAMES
        elif on and kind == "drop":
            for link in tuple(self._links):
                link.cut()
            self._peers.clear()
        elif on:
            self.faults.add(kind)
        else:
            self.faults.discard(kind)

    def _configuration(self, kind: int, t_ns: int) -> bytes:
        return writer.configuration(kind, self._stream, self.pmus, self._time_base, self._rate, t_ns)

    def answer(self, frame: bytes) -> tuple[bytes, bool | None]:
        """(what is sent back, whether data are wanted from now on; None: as before) to one frame of a client."""
        head = head_of(frame)
        if head.kind is not Kind.COMMAND or head.idcode != self._stream or "stall" in self.faults:
            return b"", None
        what = int.from_bytes(frame[HEAD.size : HEAD.size + CHECK_BYTES], "big")
        self.commands.append(what)
        t_ns = head.soc * 1_000_000_000  # the client's own time: this file reads no clock
        match what:
            case Command.START:
                return b"", True
            case Command.STOP:
                return b"", False
            case Command.SEND_HEADER:
                return writer.header(self._stream, HEADER, self._time_base, t_ns), None
            case Command.SEND_CFG1:
                return self._configuration(Kind.CFG1, t_ns), None
            case Command.SEND_CFG2:
                return self._configuration(Kind.CFG2, t_ns), None
            case Command.SEND_CFG3 if self.cfg3:
                frames = writer.configuration3(self._stream, self.pmus, self._time_base, self._rate, t_ns, self.most)
                return b"".join(frames), None
            case _:
                return b"", None

    def joined(self, link: _Link) -> None:
        """A TCP client."""
        self._links.add(link)

    def left(self, link: _Link) -> None:
        """It has gone."""
        self._links.discard(link)

    def datagram(self, octets: bytes, peer: Any) -> None:
        """What a UDP client said."""
        frames = Splitter(lambda *_: None).feed(octets)
        for frame in frames:
            answer, wanted = self.answer(frame)
            if wanted is not None:
                self._peers.pop(peer, None)
            if wanted:
                self._peers[peer] = None
                if len(self._peers) > MAX_CLIENTS:
                    del self._peers[next(iter(self._peers))]
            if answer and self._udp is not None:
                self._udp.sendto(answer, peer)


class _Link(asyncio.Protocol):
    """One TCP client."""

    def __init__(self, unit: SimulatedPmu) -> None:
        self._unit = unit
        self._splitter = Splitter(lambda *_: None)
        self._transport: Any = None
        self._wants = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._unit.joined(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's form
        self._unit.left(self)

    def data_received(self, octets: bytes) -> None:
        for frame in self._splitter.feed(octets):
            answer, wanted = self._unit.answer(frame)
            if wanted is not None:
                self._wants = wanted
            if answer:
                self._transport.write(answer)
        if self._splitter.lost:
            self.cut()

    def data(self, frame: bytes) -> None:
        """A data frame, if the client wants any and reads them."""
        if self._transport.get_write_buffer_size() > BACKLOG_BYTES:
            self.cut()
        elif self._wants:
            self._transport.write(frame)

    def cut(self) -> None:
        """Close at once."""
        self._transport.abort()


class _Datagrams(asyncio.DatagramProtocol):
    """All UDP clients."""

    def __init__(self, unit: SimulatedPmu) -> None:
        self._unit = unit

    def datagram_received(self, octets: bytes, peer: Any) -> None:
        self._unit.datagram(octets, peer)

    def error_received(self, error: Exception) -> None:
        """A client's port is closed: it is served until it says stop or others take its place."""
