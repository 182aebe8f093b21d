"""Report control blocks over libiec61850: looked at, set where they must be, enabled, and their reports handed on.

A block is set by one request after another, because a device may refuse to be set before it is reserved; and only where
it differs, because any change empties a buffered block's buffer (IEC 61850-7-2 17.2.2).
"""

from __future__ import annotations

import contextlib
import ctypes as c
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from telemetry.iec61850 import layout as lay
from telemetry.iec61850 import library as ied
from telemetry.iec61850.asking import Asking, Denied, text_of
from telemetry.iec61850.errors import BlockTaken, LinkLost, SubscribeError
from telemetry.iec61850.link import Ask, BlockStatus, Sink
from telemetry.iec61850.reading import Reader
from telemetry.iec61850.selftest import read_octets

RESERVED_S: Final = 60  # where a buffered block wants to be reserved first (edition 2.1)
CHANGES: Final = ied.TRG_DATA_CHANGED | ied.TRG_QUALITY_CHANGED | ied.TRG_DATA_UPDATE
TRIGGERS: Final = CHANGES | ied.TRG_INTEGRITY | ied.TRG_GI
OPTIONS: Final = ied.OPT_SEQ_NUM | ied.OPT_REASON
BUFFERED_OPTIONS: Final = OPTIONS | ied.OPT_BUFFER_OVERFLOW | ied.OPT_ENTRY_ID
SETTERS: Final = {
    ied.RCB_RPT_ENA: "RptEna",
    ied.RCB_RESV: "Resv",
    ied.RCB_TRG_OPS: "TrgOps",
    ied.RCB_INTG_PD: "IntgPd",
    ied.RCB_OPT_FLDS: "OptFlds",
    ied.RCB_RESV_TMS: "ResvTms",
}


class Blocks(Asking):
    """The listening half of an association."""

    def __init__(self, library: ied.Library, source: str, connection: int) -> None:
        super().__init__(library, source, connection)
        self._blocks: dict[str, int] = {}
        self._handlers: dict[str, Any] = {}
        self._kept: list[Any] = []  # handlers the library may call until it is destroyed

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
        data_set = text_of(call.ClientReportControlBlock_getDataSetReference(handle))
        rpt_id = text_of(call.ClientReportControlBlock_getRptId(handle))
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
                with contextlib.suppress(Denied):
                    self._write(ref, field, value)
            resumed = ask.entry is not None and self._resume(ref, ask.entry)
            if ask.entry is not None and not resumed:
                ask.refused()
            try:
                self._start(ref, resumed)
            except Denied:  # edition 2.1: not without a reservation
                if not status.buffered:
                    raise
                self._write(ref, ied.RCB_RESV_TMS, RESERVED_S)
                self._start(ref, resumed)
        except LinkLost:
            raise
        except SubscribeError:
            if not status.buffered:
                with contextlib.suppress(SubscribeError):
                    self._write(ref, ied.RCB_RESV, False)
            raise

    def _start(self, ref: str, resumed: bool) -> None:
        """Enable a block; with the EntryID once more, in one request, where it goes on after one.

        Devices there are that move their EntryID on with every report that they gather: one that came between two
        requests would be all that they still told.
        """
        if resumed:
            try:
                self._write(ref, ied.RCB_RPT_ENA, True, beside=ied.RCB_ENTRY_ID)
                return
            except LinkLost:
                raise
            except SubscribeError:
                pass  # not both at once
        self._write(ref, ied.RCB_RPT_ENA, True)

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

    def _write(self, ref: str, field: int, value: int | None, beside: int = 0) -> None:
        """beside : fields of the handle that go with it in one request, as they are"""
        handle = self._blocks[ref]
        if value is not None:
            getattr(self._call, f"ClientReportControlBlock_set{SETTERS[field]}")(handle, value)
        with self._request(f"enable {ref}"):
            self._call.IedConnection_setRCBValues(self._connection, c.byref(self._error), handle, field | beside, True)

    # ---- on the tick thread

    def _on_report(self, reader: Reader, sink: Sink, _parameter: Any, report: int) -> None:
        rx_ns = time.time_ns()
        try:
            sink.take(reader.report(report), rx_ns)
        except Exception as error:  # into C nothing may be raised
            sink.surprise(str(error), rx_ns)
