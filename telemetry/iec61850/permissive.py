"""Reports of an IED over open61850: the client for places without a libiec61850 wheel. Apache-2.0, pure Python.

Same construction as `client`, same rows. Two differences the library makes: time stamps arrive to the microsecond, and
everything happens under the GIL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import numpy as np

from telemetry.iec61850 import layout as lay
from telemetry.iec61850.errors import BackendMissing, SubscribeError
from telemetry.iec61850.intake import Intake
from telemetry.iec61850.mapping import REASON_UNKNOWN, Report, encode_utc, quality_from_bits, smallest
from telemetry.iec61850.references import candidates, concerns, hertz_and_volts
from telemetry.iec61850.supervisor import Supervisor

try:
    from open61850 import data
    from open61850.mms import rcb, report, types
    from open61850.mms.client import MmsClient
    from open61850.mms.errors import MmsConnectionError, MmsError, MmsTimeout
    from open61850.mms.pdu import AccessResult, InformationReport, ObjectName
except ImportError as error:
    raise BackendMissing(f"open61850 is not here ({error}): pip install 'flyball[iec61850]'") from error

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
KINDS: Final = {"float": lay.FLOAT, "bit-string": lay.BIT_STRING, "utc-time": lay.UTC_TIME}
OTHER: Final = -1
T = TypeVar("T")
TRIGGERS: Final = report.TrgOps(True, True, True, True, True)


class ReportClient(Supervisor):
    """A `FrequencySource` on open61850; the parameters are those of `client.ReportClient`."""

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
        blocks = candidates(report_block)
        references = hertz_and_volts(report_block, hz_ref, volt_ref)
        intake = Intake(nominal_volt, source)

        def subscribe(_give_up: Callable[[], bool]) -> _Association:
            association = _Association(intake, host, port, connect_timeout_s)
            try:
                association.enable(blocks, *references, integrity_ms)
            except BaseException:
                association.close(polite=False)
                raise
            return association

        super().__init__(subscribe, intake, silent_after_s, stop_within_s=5.0 + 4 * connect_timeout_s)


class _Association:
    """One connection and, once enabled, its one report control block."""

    def __init__(self, intake: Intake, host: str, port: int, timeout_s: float) -> None:
        self._intake = intake
        self._layout: lay.Layout | None = None
        self._rpt_id = ""
        self._block: ObjectName | None = None
        self.name = ""
        try:
            self._client = MmsClient.connect(host, port, timeout=timeout_s, on_information_report=self._on_report)
        except (OSError, MmsError, OverflowError) as error:
            raise SubscribeError(f"connect to {host}:{port}", reason=str(error) or type(error).__name__) from error

    def enable(self, blocks: list[str], hz_ref: str, volt_ref: str, integrity_ms: int) -> None:
        """Take the first free report control block of `blocks`, and start its reports."""
        refusals = []
        for block in blocks:
            try:
                self._enable(block, hz_ref, volt_ref, integrity_ms)
            except (MmsConnectionError, MmsTimeout) as error:
                raise SubscribeError(f"enable {block}", reason=str(error)) from error
            except (MmsError, SubscribeError) as error:
                refusals.append(f"{block}: {error}")
            else:
                self.name = block
                return
        raise SubscribeError("no report control block is free", reason="; ".join(refusals))

    def alive(self) -> bool:
        """Whether the library holds the connection for open."""
        return self._client.is_connected

    def close(self, polite: bool) -> None:
        """Give the block back to a peer that answers, and close."""
        try:
            if polite and self._block is not None:
                rcb.disable(self._client, self._block)
        except (MmsError, OSError):
            pass  # the server frees the block when the connection goes
        finally:
            self._client.close()

    def _enable(self, block: str, hz_ref: str, volt_ref: str, integrity_ms: int) -> None:
        domain, _, item = block.partition("/")
        name = ObjectName(item.replace(".", "$"), domain)
        status = rcb.read_status(self._client, name)
        if not status.available_to(self._client.local_address):
            raise SubscribeError(f"enable {block}", reason=status.describe())
        if not status.dat_set:
            raise SubscribeError(f"enable {block}", reason="it has no data set, or does not exist")
        self._layout = lay.resolve(list(self._members(status.dat_set, hz_ref, volt_ref)), hz_ref, volt_ref)
        self._rpt_id = status.rpt_id or str(name)
        self._intake.connected(rcb.is_buffered(name))
        settings = rcb.RcbSettings(trg_ops=TRIGGERS, intg_pd_ms=integrity_ms, general_interrogation=False)
        rcb.enable(self._client, name, settings)
        self._block = name

    def _members(self, data_set: str, hz_ref: str, volt_ref: str) -> Iterator[tuple[str, lay.Spec]]:
        for member in self._client.get_data_set_members(data_set):
            node, _, path = member.item.partition("$")
            constraint, _, path = path.partition("$")
            ref = f"{member.domain}/{node}.{path.replace('$', '.')}"
            relevant = constraint == "MX" and (concerns(ref, hz_ref) or concerns(ref, volt_ref))
            yield ref, _spec("", self._client.get_type(member)) if relevant else lay.Spec("", OTHER)

    # ---- receive thread

    def _on_report(self, message: InformationReport) -> None:
        rx_ns = time.time_ns()
        try:
            if not report.is_report(message):
                return
            decoded = report.decode_report(message)
            if decoded.rpt_id == self._rpt_id:
                self._intake.take(self._read(decoded), rx_ns)
        except Exception as error:  # the library's receive thread would end without a word
            self._intake.surprise(str(error), rx_ns)

    def _read(self, decoded: report.Report) -> Report:
        layout = self._layout
        if layout is None:
            raise ValueError("before the layout is known")
        values = {entry.index: entry.value for entry in decoded.entries}
        volts = None
        if layout.volts and all(path[0] in values for path in layout.volts):
            volts = smallest([_number(_at(values, path, data.FloatData)) for path in layout.volts])
        if layout.hz[0] not in values:
            return Report(decoded.seq_num, 0, None, 0, b"", volts)
        if layout.quality[0] not in values or layout.utc[0] not in values:
            raise ValueError("Hz without its q and t: use a data set with the whole data object (FCD)")
        hz = _number(_at(values, layout.hz, data.FloatData))
        bits = _at(values, layout.quality, data.BitStringData).value
        stamp = _at(values, layout.utc, data.TimestampData)
        utc = encode_utc((stamp.value - EPOCH) // timedelta(microseconds=1) * 1000, stamp.quality)
        reason = next(_reason(entry) for entry in decoded.entries if entry.index == layout.hz[0])
        return Report(decoded.seq_num, reason, hz, quality_from_bits(bits), utc, volts)


def _number(value: data.FloatData) -> float:
    """The exact FLOAT32: the library rounds it to its shortest decimal, and the two backends are to agree."""
    return value.value if value.double else float(np.float32(value.value))


def _reason(entry: report.ReportEntry) -> int:
    why = entry.reason
    if why is None:
        return REASON_UNKNOWN
    flags = (why.data_change, why.quality_change, why.data_update, why.integrity, why.general_interrogation)
    return sum(1 << bit for bit, flag in enumerate(flags) if flag)


def _at(values: dict[int, AccessResult], path: lay.Path, kind: type[T]) -> T:
    value: object = values[path[0]]
    for index in path[1:]:
        if not isinstance(value, data.StructureData) or index >= len(value.members):
            raise ValueError(f"element {path} is missing")
        value = value.members[index]
    if not isinstance(value, kind):
        raise ValueError(f"element {path} is {value!r}, expected {kind.__name__}")
    return value


def _spec(name: str, described: types.MmsType) -> lay.Spec:
    if isinstance(described, types.StructureType):
        children = tuple(_spec(child, kind) for child, kind in described.components)
        return lay.Spec(name, lay.STRUCTURE, children)
    if isinstance(described, types.PrimitiveType):
        return lay.Spec(name, KINDS.get(described.kind, OTHER))
    return lay.Spec(name, OTHER)
