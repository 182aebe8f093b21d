"""Frequency by GOOSE: frames from the network's own layer, the shortest way from an instrument to us. Linux.

One raw socket, one thread, stamped by the kernel on arrival. Raw sockets need CAP_NET_RAW: without it the source is not
made, and says so. An interface that goes away is waited for. Frames the kernel has to drop because we are slow (its
buffer, 208 KiB as a rule, holds some hundred) show as `gaps` by their numbers. A publisher whose time to live has run
out is silent: not connected, and the next stage holds.

The frames are decoded by `goose_frame`, not by libiec61850: its parser keeps old values where a message has fewer than
before, has no time quality and milliseconds only, and would read what anybody on the network sends in unmanaged memory.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Final

from telemetry.goose_intake import GooseIntake, Subscription
from telemetry.source import OnBlock, SourceStatus

ETHERTYPE: Final = 0x88B8
FRAME_MAX: Final = 1600
SOL_PACKET: Final = 263  # linux/if_packet.h
ADD_MEMBERSHIP: Final = 1
MULTICAST: Final = 0
ALL_MULTICAST: Final = 2
STAMP: Final = 35  # SO_TIMESTAMPNS and SCM_TIMESTAMPNS, asm-generic/socket.h
TIMESPEC: Final = struct.Struct("@ll")
LOOK_S: Final = 0.1
RETRY_S: Final = (0.1, 2.0)
REMEDY: Final = (
    "setcap cap_net_raw+ep on the interpreter, AmbientCapabilities=CAP_NET_RAW for a service, or another source"
)


class GooseUnavailable(RuntimeError):
    """Raw sockets are not permitted to this process, or not known to this system."""


def permitted() -> bool:
    """Whether this process may open a raw socket."""
    try:
        _raw().close()
    except (OSError, GooseUnavailable):
        return False
    return True


def make_client(
    interface: str,
    _port: int = 0,
    *,
    reference: str,
    hz: Sequence[int] = (0,),
    quality: Sequence[int] | None = (1,),
    utc: Sequence[int] | None = (2,),
    volts: Sequence[Sequence[int]] = (),
    destination: str | None = None,
    app_id: int | None = None,
    revision: int | None = None,
    nominal_volt: float = 230.0,
    silent_after_s: float = 60.0,
    source: int = 0,
) -> GooseSource:
    """A source from plain settings, not started: those of `Subscription`, and the addresses.

    destination    : multicast address as text, 01-0C-CD-01-00-01
    silent_after_s : longest life of a message, whatever its publisher says

    Raises GooseUnavailable, ValueError.
    """
    address = None
    if destination is not None:
        try:
            address = bytes.fromhex(destination.replace("-", "").replace(":", ""))
        except ValueError:
            raise ValueError(f"destination {destination!r}: give it as 01-0C-CD-01-00-01") from None
    of = Subscription(
        reference, tuple(hz), None if quality is None else tuple(quality), None if utc is None else tuple(utc),
        tuple(tuple(place) for place in volts), nominal_volt, app_id, revision, source, silent_after_s,
    )  # fmt: skip
    return GooseSource(interface, of, address)


class GooseSource:
    """A `FrequencySource` of one GOOSE control block.

    interface   : name of the network interface, e.g. eth0
    destination : multicast address the publisher sends to, 6 octets; None: any

    Raises GooseUnavailable, ValueError.
    """

    def __init__(self, interface: str, subscription: Subscription, destination: bytes | None = None) -> None:
        if not 1 <= len(interface.encode()) <= 15:
            raise ValueError(f"interface {interface!r}: give its name, e.g. eth0")
        if destination is not None and (len(destination) != 6 or not destination[0] & 1):
            raise ValueError(f"destination {destination.hex(':')}: give the 6 octets of a multicast address")
        try:
            _raw().close()
        except PermissionError:
            raise GooseUnavailable(f"GOOSE on {interface} needs CAP_NET_RAW: {REMEDY}") from None
        self._interface, self._destination = interface, destination
        self._of = subscription
        self._intake = GooseIntake(subscription)
        self._on_block: OnBlock | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._handler_errors = 0
        self._detail = "not started"

    def start(self, on_block: OnBlock) -> None:
        """Begin to listen, and return at once. Raises RuntimeError if it is running already."""
        if self._thread is not None:
            raise RuntimeError("the source is running: stop it before it is started again")
        self._stopping.clear()
        self._on_block = on_block
        self._thread = threading.Thread(target=self._run, name="goose", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, within a tenth of a second or so. A second call does nothing."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(5.0)
            self._detail = "did not end in time" if thread.is_alive() else "stopped"

    def status(self) -> SourceStatus:
        """The counters now."""
        intake = self._intake
        connected = self._thread is not None and intake.alive(time.monotonic())
        silent = self._thread is not None and not connected and intake.last_rx_ns > 0
        return SourceStatus(
            connected=connected,
            reports=intake.reports,
            reconnects=intake.revivals,
            gaps=intake.gaps,
            repeats=intake.repeats,
            last_rx_ns=intake.last_rx_ns,
            detail="silent: the publisher's time to live has run out" if silent else intake.detail or self._detail,
            surprises=intake.surprises,
            handler_errors=self._handler_errors,
            refused=dict(intake.refused),
        )

    def _run(self) -> None:
        wait_s = RETRY_S[0]
        while not self._stopping.is_set():
            try:
                with self._open() as listener:
                    self._detail = f"listening on {self._interface} for {self._of.reference}"
                    wait_s = RETRY_S[0]
                    self._listen(listener)
            except OSError as error:
                self._detail = f"interface {self._interface}: {error.strerror or error}"
                self._stopping.wait(wait_s)
                wait_s = min(2 * wait_s, RETRY_S[1])

    def _open(self) -> socket.socket:
        listener = _raw()
        try:
            index = socket.if_nametoindex(self._interface)
            address = self._destination or bytes(6)
            kind = MULTICAST if self._destination else ALL_MULTICAST
            listener.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, struct.pack("@iHH8s", index, kind, 6, address))
            listener.setsockopt(socket.SOL_SOCKET, STAMP, 1)
            listener.settimeout(LOOK_S)
            listener.bind((self._interface, ETHERTYPE))
        except BaseException:
            listener.close()
            raise
        return listener

    def _listen(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                frame, extras, _, _ = listener.recvmsg(FRAME_MAX, socket.CMSG_SPACE(TIMESPEC.size))
            except TimeoutError:
                continue
            if self._destination is not None and frame[:6] != self._destination:
                continue
            block = self._intake.take(frame, _stamp(extras), time.monotonic())
            if block is not None and self._on_block is not None and not self._stopping.is_set():
                try:
                    self._on_block(block)
                except Exception:
                    self._handler_errors += 1


def _raw() -> socket.socket:
    """A raw socket that hears nothing until it is bound. Raises PermissionError, GooseUnavailable."""
    if not hasattr(socket, "AF_PACKET"):
        raise GooseUnavailable("GOOSE needs Linux (AF_PACKET): take another source on this system")
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)


def _stamp(extras: list[tuple[int, int, bytes]]) -> int:
    """The kernel's time of arrival [ns]; ours where it gave none."""
    for level, kind, octets in extras:
        if (level, kind) == (socket.SOL_SOCKET, STAMP) and len(octets) == TIMESPEC.size:
            seconds, ns = TIMESPEC.unpack(octets)
            return int(seconds) * 1_000_000_000 + int(ns)
    return time.time_ns()
