"""A measuring unit: an IEC 61850 server that shows one point's frequency and phase voltages, on libiec61850.

It publishes what it is given; where the numbers come from is the caller's affair. Positive or negative has no meaning
here. Report control blocks `urcb01`..`03` and `brcb01`..`03` of LLN0 carry the data set `Freq` = {MMXU1.Hz, MMXU1.PhV}.
"""

from __future__ import annotations

import threading
from typing import Final

from telemetry.iec61850 import library as ied
from telemetry.iec61850.address import claim
from telemetry.iec61850.errors import ServerError
from telemetry.iec61850.layout import PHASES
from telemetry.iec61850.mapping import VALIDITY_GOOD, VALIDITY_INVALID, encode_utc, time_quality

DATA_SET: Final = "Freq"
BLOCKS: Final = 3  # of each kind: a block serves one client
MAX_CONNECTIONS: Final = 8
INTEGRITY_MS: Final = 1000
TRIGGERS: Final = ied.TRG_DATA_CHANGED | ied.TRG_QUALITY_CHANGED | ied.TRG_DATA_UPDATE | ied.TRG_INTEGRITY | ied.TRG_GI
OPTIONS: Final = (
    ied.OPT_SEQ_NUM | ied.OPT_TIME_STAMP | ied.OPT_REASON | ied.OPT_DATA_SET
    | ied.OPT_BUFFER_OVERFLOW | ied.OPT_ENTRY_ID | ied.OPT_CONF_REV
)  # fmt: skip


class MeasuringUnit:
    """One simulated IED.

    port          : TCP port; 0 takes a free one, see `port` after the constructor
    host          : address to listen on, no other
    name          : IED name; with `logical_device` it makes the MMS domain, e.g. GRIDMEAS
    nominal_hz    : shown until the first `publish`, with validity invalid
    nominal_volt  : likewise [V]

    Raises PortInUse, ServerError, BackendMissing, LibraryVersion.
    """

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        name: str = "GRID",
        logical_device: str = "MEAS",
        nominal_hz: float = 50.0,
        nominal_volt: float = 230.0,
    ) -> None:
        self._library = ied.load()
        self.host, self.port = host, claim(host, port)
        self.domain = f"{name}{logical_device}"
        self._nominal = (nominal_hz, nominal_volt)
        self._lock = threading.Lock()
        self._model: int | None = None
        self._server: int | None = None
        self._names = (name, logical_device)

    def start(self) -> None:
        """Listen. Raises PortInUse or ServerError."""
        call = self._library.call
        with self._lock:
            if self._server is not None:
                raise ServerError("the measuring unit is running: stop it before it is started again")
            claim(self.host, self.port)  # the library would only fail to run, without saying why
            self._model = _build(self._library, *self._names)
            self._server = _create(self._library, self._model)
            self._find_nodes()
            self._set(0, *self._nominal, VALIDITY_INVALID, clock_ok=False)
            call.IedServer_setLocalIpAddress(self._server, self.host.encode())
            call.IedServer_start(self._server, self.port)
            if not call.IedServer_isRunning(self._server):
                self._destroy()
                raise ServerError(f"libiec61850 would not listen on {self.host}:{self.port}: is the address ours?")

    def publish(self, t_ns: int, hz: float, volts: float, quality: int = VALIDITY_GOOD, clock_ok: bool = True) -> None:
        """One measurement, one report to every subscriber, also if nothing but the time has changed.

        t_ns     : when it was true, ns since 1970 UTC; shown to 60 ns
        hz       : NaN is a value like others
        volts    : of each of the three phases [V]
        quality  : IEC 61850-7-3 Quality, bit 0 first (see mapping)
        clock_ok : False shows `clock not synchronised`

        Raises ServerError if the unit is not running, ValueError for a time outside 1970..2106.
        """
        with self._lock:
            if self._server is None:
                raise ServerError("the measuring unit is not running: start it before publishing")
            self._set(t_ns, hz, volts, quality, clock_ok)

    def stop(self) -> None:
        """Stop listening and close every association; a second call does nothing."""
        with self._lock:
            if self._server is not None:
                self._library.call.IedServer_stop(self._server)
                self._destroy()

    def _destroy(self) -> None:
        call = self._library.call
        server, self._server = self._server, None
        model, self._model = self._model, None
        call.IedServer_destroy(server)
        call.IedModel_destroy(model)

    def _find_nodes(self) -> None:
        """Handles of the attributes (for triggers) and of their values (for silent writes)."""
        self._hz_f, self._hz_q = self._node("Hz.mag.f"), self._node("Hz.q")
        self._volt_f, self._volt_q = self._node("PhV.phsA.cVal.mag.f"), self._node("PhV.phsA.q")
        self._times = [self._value("Hz.t")] + [self._value(f"PhV.{phase}.t") for phase in PHASES]
        self._volts = [self._value(f"PhV.{phase}.cVal.mag.f") for phase in PHASES[1:]]
        self._qualities = [self._value(f"PhV.{phase}.q") for phase in PHASES[1:]]

    def _node(self, attribute: str) -> int:
        reference = f"{self.domain}/MMXU1.{attribute}"
        node = self._library.call.IedModel_getModelNodeByObjectReference(self._model, reference.encode())
        if not node:
            raise ServerError(f"the model has no {reference}: name and logical_device must be short ASCII names")
        return int(node)

    def _value(self, attribute: str) -> int:
        return int(self._library.call.IedServer_getAttributeValue(self._server, self._node(attribute)))

    def _set(self, t_ns: int, hz: float, volts: float, quality: int, clock_ok: bool) -> None:
        """All attributes under one lock, each member triggered once per kind of trigger.

        The library sends a report early when a member is triggered a second time by the same kind, so only phase A of
        PhV goes through the triggering calls; the others are written to memory before. The report copies its values at
        the unlock. The update trigger fires also for an unchanged value.
        """
        call, leaf = self._library.call, self._library.leaf
        utc = encode_utc(t_ns, time_quality(clock_ok))
        call.IedServer_lockDataModel(self._server)
        try:
            for value in self._times:
                leaf.MmsValue_setUtcTimeByBuffer(value, utc)
            for value in self._volts:
                leaf.MmsValue_setFloat(value, volts)
            for value in self._qualities:
                leaf.MmsValue_setBitStringFromInteger(value, quality)
            call.IedServer_updateQuality(self._server, self._volt_q, quality)
            call.IedServer_updateFloatAttributeValue(self._server, self._volt_f, volts)
            call.IedServer_updateQuality(self._server, self._hz_q, quality)
            call.IedServer_updateFloatAttributeValue(self._server, self._hz_f, hz)
        finally:
            call.IedServer_unlockDataModel(self._server)


def _build(library: ied.Library, name: str, logical_device: str) -> int:
    """The data model: LLN0 with its blocks, LPHD1, and MMXU1 (IEC 61850-7-4)."""
    call = library.call
    model = call.IedModel_create(name.encode())
    device = call.LogicalDevice_create(logical_device.encode(), model)
    lln0 = call.LogicalNode_create(b"LLN0", device)
    for status in (b"Mod", b"Beh", b"Health"):
        call.CDC_ENS_create(status, lln0, 0)
    lphd = call.LogicalNode_create(b"LPHD1", device)
    call.CDC_ENS_create(b"PhyHealth", lphd, 0)
    mmxu = call.LogicalNode_create(b"MMXU1", device)
    call.CDC_MV_create(b"Hz", mmxu, 0, False)
    call.CDC_MV_create(b"TotW", mmxu, 0, False)
    phv = call.DataObject_create(b"PhV", mmxu, 0)  # a WYE without the optional neut, net and res
    for phase in PHASES:
        call.CDC_CMV_create(phase.encode(), phv, 0)
    data_set = call.DataSet_create(DATA_SET.encode(), lln0)
    # Whole data objects: with single attributes a change report leaves q and t out, and the sample has no time.
    for member in (b"MMXU1$MX$Hz", b"MMXU1$MX$PhV"):
        call.DataSetEntry_create(data_set, member, -1, None)
    for number in range(1, BLOCKS + 1):
        for kind, buffered in (("urcb", False), ("brcb", True)):
            block, rpt_id = f"{kind}{number:02d}".encode(), f"{name}{kind}{number:02d}".encode()
            call.ReportControlBlock_create(
                block, lln0, rpt_id, buffered, DATA_SET.encode(), 1, TRIGGERS, OPTIONS, 0, INTEGRITY_MS
            )
    return int(model)


def _create(library: ied.Library, model: int) -> int:
    """A server with what is needed and no more: no file service, no data sets made by clients, no logs."""
    call = library.call
    config = call.IedServerConfig_create()
    call.IedServerConfig_enableFileService(config, False)
    call.IedServerConfig_enableDynamicDataSetService(config, False)
    call.IedServerConfig_enableLogService(config, False)
    call.IedServerConfig_setMaxMmsConnections(config, MAX_CONNECTIONS)
    server = call.IedServer_createWithConfig(model, None, config)
    call.IedServerConfig_destroy(config)
    return int(server)
