"""Reports of an IED over libiec61850: one association, ticked by a thread of our own.

What the library does alone costs 10 ms polls and a connect race, so it gets no thread: we tick it, which blocks for at
most 10 ms with the GIL free. Synchronous requests run on the supervisor's thread while the tick thread carries the
answers, and time out by the library's own clock. The tick thread never sees an exception.
"""

from __future__ import annotations

import ctypes as c
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from telemetry.iec61850 import layout as lay
from telemetry.iec61850 import library as ied
from telemetry.iec61850.errors import SubscribeError
from telemetry.iec61850.intake import Intake
from telemetry.iec61850.mapping import Report, smallest
from telemetry.iec61850.references import candidates, concerns, hertz_and_volts
from telemetry.iec61850.supervisor import Supervisor

NOT_CONNECTED: Final = 1
CONNECTION_LOST: Final = 3
TIMEOUT: Final = 20
FATAL: Final = frozenset({NOT_CONNECTED, CONNECTION_LOST, TIMEOUT})  # no use in asking this peer anything more
IDLE_S: Final = 0.002  # between ticks of a closed connection, which do not block
TRIGGERS: Final = ied.TRG_DATA_CHANGED | ied.TRG_QUALITY_CHANGED | ied.TRG_DATA_UPDATE | ied.TRG_INTEGRITY | ied.TRG_GI


class ReportClient(Supervisor):
    """A `FrequencySource` on libiec61850.

    host, port        : the IED; IPv4 or a name
    report_block      : the first report control block to try; the next two instances follow if it is taken
    hz_ref, volt_ref  : the MV and the WYE; by default MMXU1.Hz and .PhV of the block's logical device
    nominal_volt      : phase to neutral, in the unit the IED reports
    integrity_ms      : period of repeated reports, which tell a silent grid from a dead IED
    silent_after_s    : without any report for so long the association is given up and made anew
    source            : number of the measuring point, copied into each row
    connect_timeout_s : for the connection and for each request

    Raises ValueError for a parameter that cannot be, BackendMissing or LibraryVersion if libiec61850 cannot be used.
    """

    def __init__(
        self,
        host: str,
        port: int,
        report_block: str = "GRIDMEAS/LLN0.RP.urcb01",
        hz_ref: str | None = None,
        volt_ref: str | None = None,
        nominal_volt: float = 230.0,
        integrity_ms: int = 1000,
        silent_after_s: float = 3.0,
        source: int = 0,
        connect_timeout_s: float = 1.0,
    ) -> None:
        library = ied.load()
        blocks = candidates(report_block)
        references = hertz_and_volts(report_block, hz_ref, volt_ref)
        intake = Intake(nominal_volt, source)

        def subscribe(give_up: Callable[[], bool]) -> _Association:
            association = _Association(library, intake, connect_timeout_s)
            try:
                association.connect(host, port, give_up)
                association.enable(blocks, *references, integrity_ms)
            except BaseException:
                association.close(polite=False)
                raise
            return association

        super().__init__(subscribe, intake, silent_after_s, stop_within_s=5.0 + 4 * connect_timeout_s)


class _Association:
    """One connection and, once enabled, its one report control block."""

    def __init__(self, library: ied.Library, intake: Intake, timeout_s: float) -> None:
        self._call, self._leaf = library.call, library.leaf
        self._intake = intake
        self._timeout_s = timeout_s
        self._error = c.c_int(0)
        self._connection: int | None = self._call.IedConnection_createEx(None, False)
        self._call.IedConnection_setConnectTimeout(self._connection, int(timeout_s * 1000))
        self._call.IedConnection_setRequestTimeout(self._connection, int(timeout_s * 1000))
        self._ticking = threading.Event()
        self._ticker: threading.Thread | None = None
        self._block: int | None = None
        self._installed = b""
        self._layout: lay.Layout | None = None
        self._used: tuple[int, ...] = ()  # members of the data set that the layout reads
        self._handler = ied.ReportHandler(self._on_report)  # the library calls it until destroyed: keep it alive
        self.name = ""

    def connect(self, host: str, port: int, give_up: Callable[[], bool]) -> None:
        """Associate. The synchronous connect of 1.6 may lose its own answer, the asynchronous one does not."""
        call, connection = self._call, self._connection
        call.IedConnection_connectAsync(connection, c.byref(self._error), host.encode(), port)
        self._check(f"connect to {host}:{port}")
        # The library's connect timeout ends with the TCP connection; a mute peer is ours to give up.
        until = time.monotonic() + self._timeout_s
        while call.IedConnection_getState(connection) == ied.STATE_CONNECTING:
            if give_up() or time.monotonic() > until:
                raise SubscribeError(f"connect to {host}:{port}", TIMEOUT)
            call.IedConnection_tick(connection)
        if not self.alive():
            raise SubscribeError(f"connect to {host}:{port}", reason="refused: is the IED running, and the port right?")
        self._ticking.set()
        self._ticker = threading.Thread(target=self._tick, args=(connection,), name="iec61850-tick", daemon=True)
        self._ticker.start()

    def enable(self, blocks: list[str], hz_ref: str, volt_ref: str, integrity_ms: int) -> None:
        """Take the first free report control block of `blocks`, and start its reports."""
        refusals = []
        for block in blocks:
            try:
                self._enable(block, hz_ref, volt_ref, integrity_ms)
            except SubscribeError as error:
                if error.code in FATAL:
                    raise
                refusals.append(str(error))
            else:
                self.name = block
                return
        raise SubscribeError("no report control block is free", reason="; ".join(refusals))

    def alive(self) -> bool:
        """Whether the library holds the connection for open."""
        return bool(self._call.IedConnection_getState(self._connection) == ied.STATE_CONNECTED)

    def close(self, polite: bool) -> None:
        """Handler out, connection down, tick thread joined, memory freed: in this order or the library crashes."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        call = self._call
        if polite and self._block is not None:
            call.ClientReportControlBlock_setRptEna(self._block, False)
            call.IedConnection_setRCBValues(connection, c.byref(self._error), self._block, ied.RCB_RPT_ENA, True)
        if self._installed:
            call.IedConnection_uninstallReportHandler(connection, self._installed)
        call.IedConnection_close(connection)
        self._ticking.clear()
        if self._ticker is not None:
            self._ticker.join()
        call.IedConnection_destroy(connection)
        self._free_block()

    # ---- tick thread

    def _tick(self, connection: int) -> None:
        tick, state = self._call.IedConnection_tick, self._call.IedConnection_getState
        while self._ticking.is_set():
            # True: nothing came. An open connection was polled for 10 ms; a closed one returns at once, and is ticked
            # on, slowly, because requests still waiting are timed out by the tick.
            if tick(connection) and state(connection) != ied.STATE_CONNECTED:
                time.sleep(IDLE_S)

    def _on_report(self, _parameter: Any, report: int) -> None:
        rx_ns = time.time_ns()
        try:
            self._intake.take(self._read(report), rx_ns)
        except Exception as error:  # into C nothing may be raised
            self._intake.surprise(str(error), rx_ns)

    def _read(self, report: int) -> Report:
        """The members of interest; ValueError where the peer sent something else than its model says."""
        leaf, layout = self._leaf, self._layout
        if layout is None:
            raise ValueError("before the layout is known")
        sequence = leaf.ClientReport_getSeqNum(report) if leaf.ClientReport_hasSeqNum(report) else None
        reasons, roots = self._included(report)
        volts = None
        if layout.volts and all(path[0] in roots for path in layout.volts):
            volts = smallest([leaf.MmsValue_toDouble(self._at(roots, path, lay.FLOAT)) for path in layout.volts])
        if layout.hz[0] not in roots:
            return Report(sequence, 0, None, 0, b"", volts)
        if layout.quality[0] not in roots or layout.utc[0] not in roots:
            raise ValueError("Hz without its q and t: use a data set with the whole data object (FCD)")
        hz = leaf.MmsValue_toDouble(self._at(roots, layout.hz, lay.FLOAT))
        quality = leaf.MmsValue_getBitStringAsInteger(self._at(roots, layout.quality, lay.BIT_STRING))
        octets = leaf.MmsValue_getUtcTimeBuffer(self._at(roots, layout.utc, lay.UTC_TIME))
        return Report(sequence, reasons[layout.hz[0]], hz, quality, c.string_at(octets, 8), volts)

    def _included(self, report: int) -> tuple[dict[int, int], dict[int, int]]:
        """(reason, value) of each member of ours that this report includes; others keep their old value in the library.

        The library does not check the index of a reason; a member its array lacks was never in a report.
        """
        values = self._leaf.ClientReport_getDataSetValues(report)
        reasons: dict[int, int] = {}
        roots: dict[int, int] = {}
        for member in self._used:
            value = (self._leaf.MmsValue_getElement(values, member) if values else None) or 0
            reason = self._leaf.ClientReport_getReasonForInclusion(report, member) if value else 0
            if reason:
                reasons[member], roots[member] = reason, value
        return reasons, roots

    def _at(self, roots: dict[int, int], path: lay.Path, kind: int) -> int:
        # Reading a value as another type reads foreign memory: check at every report.
        value = roots[path[0]]
        for index in path[1:]:
            value = self._leaf.MmsValue_getElement(value, index)
            if not value:
                raise ValueError(f"element {path} is missing")
        if self._leaf.MmsValue_getType(value) != kind:
            raise ValueError(f"element {path} has MMS type {self._leaf.MmsValue_getType(value)}, expected {kind}")
        return value

    # ---- requests, on the supervisor's thread

    def _enable(self, block: str, hz_ref: str, volt_ref: str, integrity_ms: int) -> None:
        call, ref = self._call, block.encode()
        buffered = ".BR." in block
        self._free_block()
        self._block = call.IedConnection_getRCBValues(self._connection, c.byref(self._error), ref, None)
        self._check(f"read {block}")
        if call.ClientReportControlBlock_getRptEna(self._block) or (
            not buffered and call.ClientReportControlBlock_getResv(self._block)
        ):
            raise SubscribeError(f"enable {block}", reason="taken by another client")
        members = list(self._members(call.ClientReportControlBlock_getDataSetReference(self._block), hz_ref, volt_ref))
        self._layout = layout = lay.resolve(members, hz_ref, volt_ref)
        self._used = tuple({path[0] for path in (layout.hz, layout.quality, layout.utc, *layout.volts)})
        self._intake.connected(buffered)
        # The handler before the block, or the first reports are lost.
        rpt_id = call.ClientReportControlBlock_getRptId(self._block)
        call.IedConnection_installReportHandler(self._connection, ref, rpt_id, self._handler, None)
        self._installed = ref
        try:
            self._configure(block, buffered, integrity_ms)
        except SubscribeError:
            call.IedConnection_uninstallReportHandler(self._connection, ref)
            self._installed = b""
            raise

    def _configure(self, block: str, buffered: bool, integrity_ms: int) -> None:
        call = self._call
        call.ClientReportControlBlock_setTrgOps(self._block, TRIGGERS)
        call.ClientReportControlBlock_setIntgPd(self._block, integrity_ms)
        call.ClientReportControlBlock_setRptEna(self._block, True)
        mask = ied.RCB_TRG_OPS | ied.RCB_INTG_PD | ied.RCB_RPT_ENA
        if not buffered:
            call.ClientReportControlBlock_setResv(self._block, True)
            mask |= ied.RCB_RESV
        # One request after another: an IED may refuse to be enabled before it is reserved.
        for bit in (ied.RCB_RESV, ied.RCB_TRG_OPS, ied.RCB_INTG_PD, ied.RCB_RPT_ENA):
            if mask & bit:
                call.IedConnection_setRCBValues(self._connection, c.byref(self._error), self._block, bit, True)
                self._check(f"enable {block}")

    def _members(self, data_set: bytes, hz_ref: str, volt_ref: str) -> Iterator[tuple[str, lay.Spec]]:
        """Every member of the data set in order; the type is asked only for those that matter."""
        for ref, constraint in self._directory(data_set):
            relevant = constraint == "MX" and (concerns(ref, hz_ref) or concerns(ref, volt_ref))
            yield ref, self._type_of(ref) if relevant else lay.Spec("", -1)

    def _directory(self, data_set: bytes) -> list[tuple[str, str]]:
        call, deletable = self._call, c.c_bool()
        entries = call.IedConnection_getDataSetDirectory(
            self._connection, c.byref(self._error), data_set, c.byref(deletable)
        )
        self._check(f"read data set {data_set.decode(errors='replace')}")
        found, entry = [], call.LinkedList_getNext(entries)
        while entry:
            text = c.string_at(call.LinkedList_getData(entry)).decode(errors="replace")
            ref, _, constraint = text.partition("[")  # "LD/LN.DO[MX]"
            found.append((ref, constraint.rstrip("]")))
            entry = call.LinkedList_getNext(entry)
        call.LinkedList_destroy(entries)
        return found

    def _type_of(self, ref: str) -> lay.Spec:
        call = self._call
        spec = call.IedConnection_getVariableSpecification(
            self._connection, c.byref(self._error), ref.encode(), ied.FC_MX
        )
        self._check(f"read type of {ref}")
        try:
            return self._spec(spec)
        finally:
            call.MmsVariableSpecification_destroy(spec)

    def _spec(self, spec: int) -> lay.Spec:
        call = self._call
        kind = call.MmsVariableSpecification_getType(spec)
        name = (call.MmsVariableSpecification_getName(spec) or b"").decode(errors="replace")
        if kind != lay.STRUCTURE:
            return lay.Spec(name, kind)
        size = call.MmsVariableSpecification_getSize(spec)
        child = call.MmsVariableSpecification_getChildSpecificationByIndex
        return lay.Spec(name, kind, tuple(self._spec(child(spec, index)) for index in range(size)))

    def _check(self, step: str) -> None:
        if self._error.value:
            raise SubscribeError(step, self._error.value)

    def _free_block(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            self._call.ClientReportControlBlock_destroy(block)
