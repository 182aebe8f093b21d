"""A measuring unit on open61850: the server for places without a libiec61850 wheel. Apache-2.0, pure Python.

Same construction, same data model as `server`. Time stamps are shown to the microsecond, all the library keeps.
"""

from __future__ import annotations

import socket
import struct
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

from telemetry.iec61850.address import claim
from telemetry.iec61850.errors import BackendMissing, ServerError
from telemetry.iec61850.layout import PHASES
from telemetry.iec61850.mapping import (
    VALIDITY_GOOD,
    VALIDITY_INVALID,
    encode_utc,
    quality_to_bits,
    time_quality,
)

try:
    from open61850.data import BitStringData, FloatData, IECData, StructureData, TimestampData
    from open61850.mms.pdu import ObjectName
    from open61850.scl import SclError
    from open61850.server import IedModel, MmsServer
except ImportError as error:
    raise BackendMissing(f"open61850 is not here ({error}): pip install 'flyball[iec61850]'") from error

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SEND_TIMEOUT: Final = struct.pack("@ll", 1, 0)  # timeval

# `t` carries dupd: the library triggers on attributes that changed, and of a stuck value nothing else changes.
MODEL: Final = """<SCL xmlns="http://www.iec.ch/61850/2003/SCL" version="2007" revision="B"><Header id="unit"/>
<IED name={name}><AccessPoint name="P"><Server><LDevice inst={device}>
 <LN0 lnClass="LLN0" inst="" lnType="LLN0">
  <DataSet name="Freq"><FCDA ldInst={device} lnClass="MMXU" lnInst="1" doName="Hz" fc="MX"/>
   <FCDA ldInst={device} lnClass="MMXU" lnInst="1" doName="PhV" fc="MX"/></DataSet>{blocks}</LN0>
 <LN lnClass="LPHD" inst="1" lnType="LPHD"/><LN lnClass="MMXU" inst="1" lnType="MMXU"/>
</LDevice></Server></AccessPoint></IED>
<DataTypeTemplates>
 <LNodeType id="LLN0" lnClass="LLN0"><DO name="Mod" type="ENS"/><DO name="Beh" type="ENS"/>
  <DO name="Health" type="ENS"/></LNodeType>
 <LNodeType id="LPHD" lnClass="LPHD"><DO name="PhyHealth" type="ENS"/></LNodeType>
 <LNodeType id="MMXU" lnClass="MMXU"><DO name="Hz" type="MV"/><DO name="TotW" type="MV"/>
  <DO name="PhV" type="WYE"/></LNodeType>
 <DOType id="ENS" cdc="ENS"><DA name="stVal" bType="INT32" fc="ST" dchg="true"/>
  <DA name="q" bType="Quality" fc="ST" qchg="true"/><DA name="t" bType="Timestamp" fc="ST"/></DOType>
 <DOType id="MV" cdc="MV"><DA name="mag" bType="Struct" type="Analogue" fc="MX" dchg="true"/>
  <DA name="q" bType="Quality" fc="MX" qchg="true"/><DA name="t" bType="Timestamp" fc="MX" dupd="true"/></DOType>
 <DOType id="CMV" cdc="CMV"><DA name="cVal" bType="Struct" type="Vector" fc="MX" dchg="true"/>
  <DA name="q" bType="Quality" fc="MX" qchg="true"/><DA name="t" bType="Timestamp" fc="MX" dupd="true"/></DOType>
 <DOType id="WYE" cdc="WYE"><SDO name="phsA" type="CMV"/><SDO name="phsB" type="CMV"/><SDO name="phsC" type="CMV"/>
 </DOType>
 <DAType id="Analogue"><BDA name="f" bType="FLOAT32"/></DAType>
 <DAType id="Vector"><BDA name="mag" bType="Struct" type="Analogue"/></DAType>
</DataTypeTemplates></SCL>"""
BLOCK: Final = """
  <ReportControl name="{kind}" datSet="Freq" rptID="" confRev="1" buffered="{buffered}" bufTime="0" intgPd="1000">
   <TrgOps dchg="true" qchg="true" dupd="true" period="true"/>
   <OptFields seqNum="true" timeStamp="true" reasonCode="true" dataSet="true" entryID="true" configRef="true"/>
   <RptEnabled max="3"/></ReportControl>"""


class MeasuringUnit:
    """One simulated IED; the parameters and errors are those of `server.MeasuringUnit`."""

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        name: str = "GRID",
        logical_device: str = "MEAS",
        nominal_hz: float = 50.0,
        nominal_volt: float = 230.0,
    ) -> None:
        self.host, self.port = host, claim(host, port)
        self.domain = f"{name}{logical_device}"
        self._nominal = (nominal_hz, nominal_volt)
        self._model = _build(name, logical_device)
        self._hz = ObjectName("MMXU1$MX$Hz", self.domain)
        self._phv = ObjectName("MMXU1$MX$PhV", self.domain)
        self._lock = threading.Lock()
        self._server: MmsServer | None = None

    def start(self) -> None:
        """Listen. Raises PortInUse or ServerError."""
        with self._lock:
            if self._server is not None:
                raise ServerError("the measuring unit is running: stop it before it is started again")
            claim(self.host, self.port)
            self._set(0, *self._nominal, VALIDITY_INVALID, clock_ok=False)
            server = MmsServer(self._model, self.host, self.port, vendor="flyball", controls=False)
            try:
                server.start()
            except OSError as error:
                raise ServerError(f"cannot listen on host {self.host}, port {self.port}: {error}") from error
            _bound_sends(server)
            self._server = server

    def publish(self, t_ns: int, hz: float, volts: float, quality: int = VALIDITY_GOOD, clock_ok: bool = True) -> None:
        """One measurement, one report to every subscriber; see `server.MeasuringUnit.publish`."""
        with self._lock:
            if self._server is None:
                raise ServerError("the measuring unit is not running: start it before publishing")
            self._set(t_ns, hz, volts, quality, clock_ok)

    def stop(self) -> None:
        """Stop listening and close every association; a second call does nothing."""
        with self._lock:
            server, self._server = self._server, None
            if server is not None:
                server.stop()

    def _set(self, t_ns: int, hz: float, volts: float, quality: int, clock_ok: bool) -> None:
        """Both data objects written whole, told to the report blocks together."""
        octet = time_quality(clock_ok)
        encode_utc(t_ns, octet)  # refuses what a UtcTime cannot say
        tail: list[IECData] = [
            BitStringData(quality_to_bits(quality), 3),
            TimestampData(EPOCH + timedelta(microseconds=(t_ns + 500) // 1000), octet),
        ]
        phase = StructureData([StructureData([StructureData([FloatData(volts)])]), *tail])
        with self._model.batch():
            self._model.set(self._phv, StructureData([phase] * len(PHASES)))
            self._model.set(self._hz, StructureData([StructureData([FloatData(hz)]), *tail]))


def _build(name: str, logical_device: str) -> IedModel:
    blocks = "".join(
        BLOCK.format(kind=kind, buffered=buffered) for kind, buffered in (("urcb", "false"), ("brcb", "true"))
    )
    text = MODEL.format(name=quoteattr(name), device=quoteattr(logical_device), blocks=blocks)
    with tempfile.TemporaryDirectory() as folder:  # the library reads files only
        path = Path(folder) / "unit.cid"
        path.write_text(text, encoding="utf-8")
        try:
            return IedModel.from_scl(path, name)
        except SclError as error:
            raise ServerError(f"name {name!r} and logical_device {logical_device!r} make no model: {error}") from error


def _bound_sends(server: MmsServer) -> None:
    """Bound each send to a second: `publish` sends itself, and a client that reads no more would block it for ever.

    Accepted sockets inherit the option from the listening one; the library closes a connection whose send fails.
    """
    listening = server._sock
    if listening is not None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, SEND_TIMEOUT)
