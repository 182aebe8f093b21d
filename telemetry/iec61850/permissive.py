"""One association over open61850: the client for places without a libiec61850 wheel. Apache-2.0, pure Python.

A `link.Link` like `association.Association`, the same rows. What the library makes different: time stamps arrive to the
microsecond, everything happens under the GIL, and there is neither TLS nor a password: both are refused by name.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import numpy as np

from telemetry.iec61850 import layout as lay
from telemetry.iec61850.errors import BackendMissing, BlockTaken, LinkLost, SubscribeError, Unsupported
from telemetry.iec61850.link import Ask, BlockStatus, Connect, Link, Sink
from telemetry.iec61850.mapping import REASON_UNKNOWN, Report, encode_utc, quality_from_bits, smallest
from telemetry.iec61850.references import reference_of

try:
    from open61850 import data
    from open61850.mms import rcb, report, types
    from open61850.mms.client import MmsClient
    from open61850.mms.errors import DataAccessError, MmsConnectionError, MmsError, MmsTimeout
    from open61850.mms.pdu import AccessResult, InformationReport, ObjectName
except ImportError as error:
    raise BackendMissing(f"open61850 is not here ({error}): pip install 'flyball[iec61850]'") from error

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
KINDS: Final = {"float": lay.FLOAT, "bit-string": lay.BIT_STRING, "utc-time": lay.UTC_TIME}
OTHER: Final = -1
DOMAIN_CLASS: Final = 9  # of GetNameList: domains; 0 is named variables (ISO 9506-2)
VARIABLE_CLASS: Final = 0
TEMPORARILY_UNAVAILABLE: Final = 2  # DataAccessError (ISO 9506-2)
T = TypeVar("T")
ALL: Final = report.TrgOps(True, True, True, True, True)
CHANGES: Final = report.TrgOps(data_change=True, quality_change=True, data_update=True)


def connector(host: str, port: int, timeout_s: float, tls: object | None, password: str | None) -> Connect:
    """How to associate with one device; see `association.connector`. Raises Unsupported for tls and password."""
    for name, given in (("tls", tls), ("password", password)):
        if given is not None:
            raise Unsupported(f"open61850 knows no {name}: choose backend libiec61850, or leave {name} unset")

    def connect(_give_up: Callable[[], bool]) -> Link:
        return Association(host, port, timeout_s)

    return connect


class Association:
    """One connection and the blocks enabled over it."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.source = f"{host}:{port}"
        self._sinks: dict[str, tuple[lay.Layout, Sink]] = {}  # by RptID
        self._names: dict[str, rcb.RcbStatus] = {}
        try:
            self._client = MmsClient.connect(host, port, timeout=timeout_s, on_information_report=self._on_report)
        except (OSError, MmsError, OverflowError) as error:
            raise LinkLost(f"connect to {host}:{port}", reason=str(error) or type(error).__name__) from error

    def alive(self) -> bool:
        """Whether the library holds the connection for open."""
        return self._client.is_connected

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    # ---- model

    def domains(self) -> list[str]:
        """Names of the logical devices."""
        with _request("list logical devices"):
            return self._client.get_name_list(DOMAIN_CLASS)

    def variables(self, domain: str) -> list[str]:
        """MMS names of everything in a logical device."""
        with _request(f"list {domain}"):
            return self._client.get_name_list(VARIABLE_CLASS, domain)

    def members(self, data_set: str) -> list[tuple[str, str]]:
        """(reference, functional constraint) of each member of a data set, in its order."""
        with _request(f"read data set {data_set}"):
            return [
                reference_of(member.domain or "", member.item) for member in self._client.get_data_set_members(data_set)
            ]

    def type_of(self, ref: str) -> lay.Spec:
        """The type of a data object or attribute under MX."""
        with _request(f"read type of {ref}"):
            return _spec("", self._client.get_type(_name(ref, "MX")))

    def read(self, refs: Sequence[str], layout: lay.Layout) -> Report:
        """Read data objects once, as if they were the members of a data set with this layout."""
        with _request(f"read {refs[0]}"):
            values = dict(enumerate(self._client.read_many([_name(ref, "MX") for ref in refs])))
        try:
            return _read(layout, values, dict.fromkeys(values, REASON_UNKNOWN))
        except ValueError as error:
            raise SubscribeError(f"read {refs[0]}", reason=str(error)) from error

    # ---- report control blocks

    def status(self, block: str) -> BlockStatus:
        """One report control block."""
        domain, _, item = block.partition("/")
        name = ObjectName(item.replace(".", "$"), domain)
        with _request(f"read {block}"):
            status = rcb.read_status(self._client, name)
        if status.rpt_ena is None:
            raise SubscribeError(f"read {block}", reason="no such object")
        self._names[block] = status
        # A buffered block stays reserved for whoever had it last, us among others: the device knows, we try.
        tried = status.resv_tms is not None and status.resv_tms > 0 and not status.rpt_ena
        taken = "" if tried or status.available_to(self._client.local_address) else f"taken: {status.describe()}"
        return BlockStatus(block, status.dat_set or "", status.rpt_id or str(name), taken)

    def enable(self, status: BlockStatus, ask: Ask, layout: lay.Layout, sink: Sink) -> None:
        """Start the reports of a block whose `status` was read; from its oldest where the EntryID is refused."""
        if status.taken:
            raise BlockTaken(f"enable {status.ref}", reason=status.taken)
        name = self._names[status.ref].rcb
        settings = rcb.RcbSettings(
            trg_ops=ALL if ask.integrity_ms is not None else CHANGES, intg_pd_ms=ask.integrity_ms,
            entry_id=ask.entry, general_interrogation=False, resv_tms=None,
        )  # fmt: skip
        self._sinks[status.rpt_id] = layout, sink
        try:
            try:
                self._enable(status.ref, name, settings)
            except _EntryRefused:
                settings.entry_id = None
                ask.refused()
                self._enable(status.ref, name, settings)
        except SubscribeError:
            del self._sinks[status.rpt_id]
            raise

    def _enable(self, block: str, name: ObjectName, settings: rcb.RcbSettings) -> None:
        with _request(f"enable {block}"):
            try:
                rcb.enable(self._client, name, settings)
            except rcb.RcbError as error:
                if error.attribute == "EntryID":
                    raise _EntryRefused(f"enable {block}", reason=str(error)) from error
                if error.cause.code == TEMPORARILY_UNAVAILABLE:
                    raise BlockTaken(f"enable {block}", reason=str(error)) from error
                raise

    def disable(self, block: str) -> None:
        """Give a block back; the device does so itself when the association ends."""
        with contextlib.suppress(MmsError, OSError):
            rcb.disable(self._client, self._names[block].rcb)

    # ---- receive thread

    def _on_report(self, message: InformationReport) -> None:
        rx_ns = time.time_ns()
        sinks = [sink for _, sink in self._sinks.values()]
        try:
            if not report.is_report(message):
                return
            decoded = report.decode_report(message)
            known = self._sinks.get(decoded.rpt_id)
            if known is None:
                return
            layout, sinks = known[0], [known[1]]
            values = {entry.index: entry.value for entry in decoded.entries}
            read = _read(layout, values, {entry.index: _reason(entry) for entry in decoded.entries})
            sinks[0].take(
                read._replace(sequence=decoded.seq_num, entry=decoded.entry_id or b"", overflow=bool(decoded.buf_ovfl)),
                rx_ns,
            )
        except Exception as error:  # the library's receive thread would end without a word
            for sink in sinks[:1]:
                sink.surprise(str(error), rx_ns)


class _EntryRefused(SubscribeError):
    """The device does not know the EntryID."""


@contextlib.contextmanager
def _request(step: str) -> Iterator[None]:
    """One request: the library's errors become ours."""
    try:
        yield
    except (MmsConnectionError, MmsTimeout, OSError) as error:
        raise LinkLost(step, reason=str(error) or type(error).__name__) from error
    except (DataAccessError, MmsError) as error:
        raise SubscribeError(step, reason=str(error)) from error


def _name(ref: str, constraint: str) -> ObjectName:
    """ "LD/MMXU1.Hz" -> MMXU1$MX$Hz in LD."""
    domain, _, path = ref.partition("/")
    node, _, rest = path.partition(".")
    return ObjectName(f"{node}${constraint}${rest.replace('.', '$')}", domain)


def _read(layout: lay.Layout, values: Mapping[int, AccessResult], reasons: Mapping[int, int]) -> Report:
    """The members of interest. Raises ValueError where the peer sent something else than its model says."""
    volts = None
    if layout.volts and all(path[0] in values for path in layout.volts):
        volts = smallest([_number(_at(values, path, data.FloatData)) for path in layout.volts])
    if layout.hz[0] not in values:
        return Report(None, 0, None, 0, b"", volts)
    if layout.quality[0] not in values or layout.utc[0] not in values:
        raise ValueError("Hz without its q and t: use a data set with the whole data object (FCD)")
    hz = _number(_at(values, layout.hz, data.FloatData))
    bits = _at(values, layout.quality, data.BitStringData).value
    stamp = _at(values, layout.utc, data.TimestampData)
    utc = encode_utc((stamp.value - EPOCH) // timedelta(microseconds=1) * 1000, stamp.quality)
    return Report(None, reasons[layout.hz[0]], hz, quality_from_bits(bits), utc, volts)


def _number(value: data.FloatData) -> float:
    """The exact FLOAT32: the library rounds it to its shortest decimal, and the two backends are to agree."""
    return value.value if value.double else float(np.float32(value.value))


def _reason(entry: report.ReportEntry) -> int:
    why = entry.reason
    if why is None:
        return REASON_UNKNOWN
    flags = (why.data_change, why.quality_change, why.data_update, why.integrity, why.general_interrogation)
    return sum(1 << bit for bit, flag in enumerate(flags) if flag)


def _at(values: Mapping[int, AccessResult], path: lay.Path, kind: type[T]) -> T:
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
