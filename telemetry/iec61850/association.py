"""One association over libiec61850: connected, asked, listened to and taken down without ever holding the process up.

What the library does alone costs 10 ms polls and a connect race, so it gets no thread: we tick it, which blocks for at
most 10 ms with the GIL free. Requests run on the caller's thread while the tick thread carries their answers, and time
out by the library's own clock. The tick thread never sees an exception.
"""

from __future__ import annotations

import contextlib
import ctypes as c
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from telemetry.iec61850 import layout as lay
from telemetry.iec61850 import library as ied
from telemetry.iec61850.errors import BlockTaken, LinkLost, SubscribeError
from telemetry.iec61850.link import Ask, BlockStatus, Connect, Link, Sink
from telemetry.iec61850.mapping import Report
from telemetry.iec61850.reading import Reader
from telemetry.iec61850.references import reference_of
from telemetry.iec61850.selftest import read_octets
from telemetry.iec61850.tls import Protection, TlsFiles

NOT_CONNECTED: Final = 1
CONNECTION_LOST: Final = 3
TIMEOUT: Final = 20
ACCESS_DENIED: Final = 21
TEMPORARILY_UNAVAILABLE: Final = 26
FATAL: Final = frozenset({NOT_CONNECTED, CONNECTION_LOST, TIMEOUT})  # no use in asking this peer anything more
MMS_FATAL: Final = frozenset({2, 3})  # MmsError: connection lost, no answer in time
UNKNOWN: Final = 99
IDLE_S: Final = 0.002  # between ticks of a closed connection, which do not block
TLS_IDLE_S: Final = 0.0005  # with TLS no tick blocks
CONNECTING_S: Final = 0.001
RESERVED_S: Final = 60  # where a buffered block wants to be reserved first (edition 2.1)
_OPENING: Final = threading.Lock()  # one connect at a time, to know whose socket is whose
TRIGGERS: Final = ied.TRG_DATA_CHANGED | ied.TRG_QUALITY_CHANGED | ied.TRG_DATA_UPDATE | ied.TRG_INTEGRITY | ied.TRG_GI
CHANGES: Final = ied.TRG_DATA_CHANGED | ied.TRG_QUALITY_CHANGED | ied.TRG_DATA_UPDATE
OPTIONS: Final = ied.OPT_SEQ_NUM | ied.OPT_REASON
BUFFERED_OPTIONS: Final = OPTIONS | ied.OPT_BUFFER_OVERFLOW | ied.OPT_ENTRY_ID


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


class Association:
    """One connection and the blocks enabled over it; a `link.Link`."""

    def __init__(self, library: ied.Library, source: str, timeout_s: float, protection: Protection) -> None:
        self._call, self._leaf = library.call, library.leaf
        self.source = source
        self._timeout_s = timeout_s
        self._protection = protection
        self._error = c.c_int(0)
        self._asking = threading.Lock()  # one request at a time: they share `_error`
        self._connection: int | None = self._call.IedConnection_createEx(protection.tls, False)
        self._call.IedConnection_setConnectTimeout(self._connection, int(timeout_s * 1000))
        self._call.IedConnection_setRequestTimeout(self._connection, int(timeout_s * 1000))
        protection.apply(self._connection)
        self._ticking = threading.Event()
        self._ticker: threading.Thread | None = None
        self._sockets: set[tuple[int, str]] = set()
        self._port = 0
        self._blocks: dict[str, int] = {}
        self._handlers: dict[str, Any] = {}
        self._kept: list[Any] = []  # handlers the library may call until it is destroyed

    # ---- life

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
        return bool(self._call.IedConnection_getState(self._connection) == ied.STATE_CONNECTED)

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

        A TLS handshake with a mute peer is one call that never returns (seen in 1.6.1: it spins), and the library tells
        nobody its socket. What appeared as we connected and leads to our port is it.
        """
        for number, inode in self._sockets:
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{number}") != inode:  # noqa: PTH115
                    continue
                with socket.socket(fileno=os.dup(number)) as ours:
                    if ours.getpeername()[1] == self._port:
                        ours.shutdown(socket.SHUT_RDWR)

    def _tick(self, connection: int) -> None:
        tick, state = self._call.IedConnection_tick, self._call.IedConnection_getState
        idle_s = TLS_IDLE_S if self._protection.tls else 0.0
        while self._ticking.is_set():
            # True: nothing came. An open plain connection was polled for 10 ms; a closed one returns at once, and is
            # ticked on, slowly, because requests still waiting are timed out by the tick.
            if tick(connection):
                now = state(connection)
                if now == ied.STATE_CONNECTED:
                    if idle_s:
                        time.sleep(idle_s)
                else:
                    time.sleep(CONNECTING_S if now == ied.STATE_CONNECTING else IDLE_S)

    # ---- reports, on the tick thread

    def _on_report(self, reader: Reader, sink: Sink, _parameter: Any, report: int) -> None:
        rx_ns = time.time_ns()
        try:
            sink.take(reader.report(report), rx_ns)
        except Exception as error:  # into C nothing may be raised
            sink.surprise(str(error), rx_ns)

    # ---- model

    def domains(self) -> list[str]:
        """Names of the logical devices."""
        call = self._call
        with self._request("list logical devices", MMS_FATAL):
            found = call.MmsConnection_getDomainNames(self._mms(), c.byref(self._error))
        return self._strings(found)

    def variables(self, domain: str) -> list[str]:
        """MMS names of everything in a logical device."""
        with self._request(f"list {domain}"):
            found = self._call.IedConnection_getLogicalDeviceVariables(
                self._connection, c.byref(self._error), domain.encode()
            )
        return self._strings(found)

    def members(self, data_set: str) -> list[tuple[str, str]]:
        """(reference, functional constraint) of each member of a data set, in its order.

        Not by the library's own `getDataSetDirectory`: it turns a member's name into a reference by pointer arithmetic
        that a name without a constraint leads astray (seen in 1.6.1: a spoiled line crashed the process).
        """
        call, (domain, _, item) = self._call, data_set.partition("/")
        with self._request(f"read data set {data_set}", MMS_FATAL):
            found = call.MmsConnection_readNamedVariableListDirectory(
                self._mms(), c.byref(self._error), domain.encode(), item.replace(".", "$").encode(), c.byref(c.c_bool())
            )
        members = []
        for pointer in self._elements(found):
            entry = ied.AccessSpecification.from_address(pointer)
            members.append(reference_of(_text(entry.domain), _text(entry.item)))
            call.MmsVariableAccessSpecification_destroy(pointer)
        if found:
            call.LinkedList_destroyStatic(found)
        return members

    def _mms(self) -> int | None:
        connection: int | None = self._call.IedConnection_getMmsConnection(self._connection)
        return connection

    def type_of(self, ref: str) -> lay.Spec:
        """The type of a data object or attribute under MX."""
        with self._request(f"read type of {ref}"):
            spec = self._call.IedConnection_getVariableSpecification(
                self._connection, c.byref(self._error), ref.encode(), ied.FC_MX
            )
        if not spec:
            raise SubscribeError(f"read type of {ref}", reason="no answer that could be used")
        try:
            return self._spec(spec)
        finally:
            self._call.MmsVariableSpecification_destroy(spec)

    def _spec(self, spec: int) -> lay.Spec:
        call = self._call
        kind = call.MmsVariableSpecification_getType(spec)
        name = (call.MmsVariableSpecification_getName(spec) or b"").decode(errors="replace")
        if kind != lay.STRUCTURE:
            return lay.Spec(name, kind)
        size = call.MmsVariableSpecification_getSize(spec)
        child = call.MmsVariableSpecification_getChildSpecificationByIndex
        return lay.Spec(name, kind, tuple(self._spec(child(spec, index)) for index in range(size)))

    def _elements(self, found: int | None) -> Iterator[int]:
        element = self._call.LinkedList_getNext(found) if found else None
        while element:
            yield self._call.LinkedList_getData(element)
            element = self._call.LinkedList_getNext(element)

    def _strings(self, found: int | None) -> list[str]:
        texts = [_text(c.string_at(pointer)) for pointer in self._elements(found)]
        if found:
            self._call.LinkedList_destroy(found)
        return texts

    def read(self, refs: Sequence[str], layout: lay.Layout) -> Report:
        """Read data objects once, as if they were the members of a data set with this layout."""
        roots: dict[int, int] = {}
        try:
            for index, ref in enumerate(refs):
                with self._request(f"read {ref}"):
                    value = self._call.IedConnection_readObject(
                        self._connection, c.byref(self._error), ref.encode(), ied.FC_MX
                    )
                    if value:
                        roots[index] = value
            return Reader(self._leaf, layout).values(roots)
        except ValueError as error:
            raise SubscribeError(f"read {refs[0]}", reason=str(error)) from error
        finally:
            for value in roots.values():
                self._call.MmsValue_delete(value)

    # ---- report control blocks

    def status(self, block: str) -> BlockStatus:
        """One report control block; its handle is kept, with the device's own settings, until `close`."""
        call = self._call
        with self._request(f"read {block}"):
            handle = call.IedConnection_getRCBValues(
                self._connection, c.byref(self._error), block.encode(), self._blocks.get(block)
            )
        if not handle:
            raise SubscribeError(f"read {block}", reason="no answer that could be used")
        self._blocks[block] = handle
        data_set = _text(call.ClientReportControlBlock_getDataSetReference(handle))
        rpt_id = _text(call.ClientReportControlBlock_getRptId(handle))
        taken = ""
        if call.ClientReportControlBlock_getRptEna(handle):
            taken = "taken by another client"
        elif ".BR." not in block and call.ClientReportControlBlock_getResv(handle):
            taken = "reserved by another client"
        elif call.ClientReportControlBlock_hasResvTms(handle) and call.ClientReportControlBlock_getResvTms(handle) < 0:
            taken = "assigned to another client by configuration"
        return BlockStatus(block, data_set, rpt_id, taken)

    def enable(self, status: BlockStatus, ask: Ask, layout: lay.Layout, sink: Sink) -> None:
        """Start the reports of a block whose `status` was read; from its oldest where the EntryID is refused."""
        if status.taken:
            raise BlockTaken(f"enable {status.ref}", reason=status.taken)
        reader = Reader(self._leaf, layout, status.buffered)
        handler = ied.ReportHandler(partial(self._on_report, reader, sink))
        self._kept.append(handler)
        # The handler before the block, or the first reports are lost.
        ref = status.ref.encode()
        self._call.IedConnection_installReportHandler(self._connection, ref, status.rpt_id.encode(), handler, None)
        self._handlers[status.ref] = handler
        try:
            self._configure(status, ask)
        except SubscribeError:
            self._call.IedConnection_uninstallReportHandler(self._connection, ref)
            del self._handlers[status.ref]
            raise

    def disable(self, block: str) -> None:
        """Give a block back; the device does so itself when the association ends."""
        with contextlib.suppress(SubscribeError):
            self._write(block, ied.RCB_RPT_ENA, False)

    def _configure(self, status: BlockStatus, ask: Ask) -> None:
        """One request after another: a device may refuse to be set before it is reserved."""
        ref = status.ref
        if not status.buffered:
            self._write(ref, ied.RCB_RESV, True)
        try:
            for field, value in self._differences(ref, status.buffered, ask):
                with contextlib.suppress(_Fixed):
                    self._write(ref, field, value)
            if ask.entry is not None and not self._resume(ref, ask.entry):
                ask.refused()
            try:
                self._write(ref, ied.RCB_RPT_ENA, True)
            except _Fixed:  # edition 2.1: not without a reservation
                if not status.buffered:
                    raise
                self._write(ref, ied.RCB_RESV_TMS, RESERVED_S)
                self._write(ref, ied.RCB_RPT_ENA, True)
        except LinkLost:
            raise
        except SubscribeError:
            if not status.buffered:
                with contextlib.suppress(SubscribeError):
                    self._write(ref, ied.RCB_RESV, False)
            raise

    def _differences(self, ref: str, buffered: bool, ask: Ask) -> Iterator[tuple[int, int]]:
        """Settings that are not as we need them; what a device does not let be set stays as it is."""
        call, handle = self._call, self._blocks[ref]
        triggers = call.ClientReportControlBlock_getTrgOps(handle)
        wanted = TRIGGERS if ask.integrity_ms is not None else triggers | CHANGES
        if triggers != wanted:
            yield ied.RCB_TRG_OPS, wanted
        if ask.integrity_ms not in (None, call.ClientReportControlBlock_getIntgPd(handle)):
            yield ied.RCB_INTG_PD, int(ask.integrity_ms or 0)
        options = call.ClientReportControlBlock_getOptFlds(handle)
        needed = options | (BUFFERED_OPTIONS if buffered else OPTIONS)
        if options != needed:
            yield ied.RCB_OPT_FLDS, needed

    def _resume(self, ref: str, entry: bytes) -> bool:
        leaf = self._leaf
        octets = leaf.MmsValue_newOctetString(len(entry), max(len(entry), 8))
        try:
            leaf.MmsValue_setOctetString(octets, entry, len(entry))
            self._call.ClientReportControlBlock_setEntryId(self._blocks[ref], octets)
        finally:
            self._call.MmsValue_delete(octets)
        if read_octets(leaf, self._call.ClientReportControlBlock_getEntryId(self._blocks[ref])) != entry:
            return False  # of another length than this device's
        try:
            self._write(ref, ied.RCB_ENTRY_ID, None)
        except LinkLost:
            raise
        except SubscribeError:
            return False
        return True

    def _write(self, ref: str, field: int, value: int | None) -> None:
        handle = self._blocks[ref]
        if value is not None:
            getattr(self._call, f"ClientReportControlBlock_set{_SETTERS[field]}")(handle, value)
        with self._request(f"enable {ref}"):
            self._call.IedConnection_setRCBValues(self._connection, c.byref(self._error), handle, field, True)

    @contextlib.contextmanager
    def _request(self, step: str, fatal: frozenset[int] | None = None) -> Iterator[None]:
        """One request: what the library answers becomes an error of ours. fatal : codes of the table of MMS errors"""
        with self._asking:
            self._error.value = 0
            yield
            code = self._error.value
        if fatal is not None and code:
            code = TIMEOUT if code in fatal else UNKNOWN
        if code in FATAL:
            raise LinkLost(step, code)
        if code == TEMPORARILY_UNAVAILABLE:
            raise BlockTaken(step, code)
        if code == ACCESS_DENIED:
            raise _Fixed(step, code)
        if code:
            raise SubscribeError(step, code)


def _sockets() -> set[tuple[int, str]]:
    """(number, inode) of every socket of this process; the library has wheels for Linux alone."""
    found = set()
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            inode = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
            if inode.startswith("socket:"):
                found.add((int(number), inode))
    return found


def _text(octets: bytes | None) -> str:
    return (octets or b"").decode(errors="replace")


class _Fixed(SubscribeError):
    """The device does not let this be set."""


_SETTERS: Final = {
    ied.RCB_RPT_ENA: "RptEna",
    ied.RCB_RESV: "Resv",
    ied.RCB_TRG_OPS: "TrgOps",
    ied.RCB_INTG_PD: "IntgPd",
    ied.RCB_OPT_FLDS: "OptFlds",
    ied.RCB_RESV_TMS: "ResvTms",
}
