"""The data model that a utility sees: figures, status and one set-point, under names of the caller's choice.

What a figure means is the caller's affair; here it is a name, a kind and a unit. The names follow the form of IEC
61850-7-4 and 7-420 (LN class and instance, data object); that a name has the meaning 7-420 gives it is not claimed.
Data sets `Figures` (measured values and the set-point) and `Status` of LLN0 carry whole data objects, each in two
unbuffered and two buffered report control blocks, `figuresU01`.. and `statusB02`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final, Literal, NamedTuple

from telemetry.iec61850 import control_library as ctl
from telemetry.iec61850 import library as ied
from telemetry.iec61850.errors import ServerError
from telemetry.iec61850.mapping import VALIDITY_GOOD

BLOCKS: Final = 2  # of each kind and data set: a block serves one client
INTEGRITY_MS: Final = 1000
TRIGGERS: Final = ied.TRG_DATA_CHANGED | ied.TRG_QUALITY_CHANGED | ied.TRG_INTEGRITY | ied.TRG_GI
OPTIONS: Final = (
    ied.OPT_SEQ_NUM | ied.OPT_TIME_STAMP | ied.OPT_REASON | ied.OPT_DATA_SET
    | ied.OPT_BUFFER_OVERFLOW | ied.OPT_ENTRY_ID | ied.OPT_CONF_REV
)  # fmt: skip
DIRECT_ENHANCED: Final = 3  # ctlModel
SELECT_ENHANCED: Final = 4
SELECTION: Final = "sboTimeout"
CONTROL_MODELS: Final = {"direct": DIRECT_ENHANCED, "select": SELECT_ENHANCED}

# SIUnit and multiplier of IEC 61850-7-3 (annex A): kilowatt, hertz.
UNITS: Final = {"kW": (62, 3), "Hz": (33, 0)}
REFERENCE: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{3,10}\.[A-Za-z][A-Za-z0-9]{0,11}")
NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


class Kind(Enum):
    """A common data class, and where its value lies."""

    MEASURED = "mag.f"  # MV
    FLAG = "stVal bool"  # SPS
    CODE = "stVal int"  # ENS
    TEXT = "stVal text"  # VSS
    SETPOINT = "mxVal.f"  # APC

    @property
    def attribute(self) -> str:
        """Of the value, within the data object."""
        return self.value.partition(" ")[0]

    @property
    def constraint(self) -> str:
        """Functional constraint of the value."""
        return "MX" if self in (Kind.MEASURED, Kind.SETPOINT) else "ST"


class Point(NamedTuple):
    """One data object. figure : the caller's name for it; reference : LN.DO; unit : of `UNITS`, or none"""

    figure: str
    reference: str
    kind: Kind
    unit: str = ""
    text: str = ""  # description, attribute d


class Shown(NamedTuple):
    """A figure as it is shown. t_ns : when it was true; quality : of IEC 61850-7-3, bit 0 first"""

    value: float | bool | str
    t_ns: int
    quality: int = VALIDITY_GOOD


class Model(NamedTuple):
    """What the server shows. control : how the set-point is operated; select_s : life of a selection"""

    ied: str
    device: str
    points: tuple[Point, ...]
    control: Literal["direct", "select"] = "select"
    select_s: float = 30.0

    @property
    def domain(self) -> str:
        """MMS domain."""
        return f"{self.ied}{self.device}"

    @property
    def setpoint(self) -> Point:
        """The one that is operated."""
        return next(point for point in self.points if point.kind is Kind.SETPOINT)


def check(model: Model) -> Model:
    """The model itself. Raises ValueError for a name that cannot be, or is given twice, naming it."""
    for name in (model.ied, model.device):
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r}: names of an IED and of a logical device are letters and digits, at most 32")
    seen: dict[str, str] = {}
    for point in model.points:
        if not REFERENCE.fullmatch(point.reference):
            raise ValueError(f"{point.figure}: {point.reference!r} is no LN.DO such as MMXU1.TotW")
        if seen.setdefault(point.reference, point.figure) != point.figure:
            raise ValueError(f"{point.figure}: {seen[point.reference]} is {point.reference} already; name another")
    if sum(point.kind is Kind.SETPOINT for point in model.points) != 1:
        raise ValueError("a model has one set-point")
    return model


def build(model: Model) -> int:
    """The library's model; the caller destroys it after the server. Raises ServerError."""
    call, more = ied.load().call, ctl.load().call
    handle = call.IedModel_create(model.ied.encode())
    device = call.LogicalDevice_create(model.device.encode(), handle)
    lln0 = call.LogicalNode_create(b"LLN0", device)
    for status in (b"Mod", b"Beh", b"Health"):
        call.CDC_ENS_create(status, lln0, 0)
    call.CDC_ENS_create(b"PhyHealth", call.LogicalNode_create(b"LPHD1", device), 0)
    nodes: dict[str, int] = {"LLN0": lln0}
    for point in model.points:
        node, _, name = point.reference.partition(".")
        if node not in nodes:
            nodes[node] = call.LogicalNode_create(node.encode(), device)
            call.CDC_ENS_create(b"Beh", nodes[node], 0)
        made = _create(point.kind, name.encode(), nodes[node], model)
        if point.unit:
            more.CAC_Unit_create(b"units", made, True)
    for data_set, constraint in (("Figures", "MX"), ("Status", "ST")):
        members = [point.reference for point in model.points if point.kind.constraint == constraint]
        if members:
            _report(lln0, data_set, constraint, members, model.domain)
    return int(handle)


def _create(kind: Kind, name: bytes, parent: int, model: Model) -> int:
    """A data object of a kind, with its description."""
    call, more = ied.load().call, ctl.load().call
    match kind:
        case Kind.MEASURED:
            made = call.CDC_MV_create(name, parent, ctl.CDC_DESCRIPTION, False)
        case Kind.FLAG:
            made = more.CDC_SPS_create(name, parent, ctl.CDC_DESCRIPTION)
        case Kind.CODE:
            made = call.CDC_ENS_create(name, parent, ctl.CDC_DESCRIPTION)
        case Kind.TEXT:
            made = more.CDC_VSS_create(name, parent, ctl.CDC_DESCRIPTION)
        case Kind.SETPOINT:
            made = more.CDC_APC_create(name, parent, ctl.CDC_DESCRIPTION, _control_options(model), False)
            if model.control == "select":
                # The library looks for it and has no option that makes it; without it a selection lives for 15 s.
                more.DataAttribute_create(SELECTION.encode(), made, ctl.INT32U, ctl.FC_CF, 0, 0, 0)
    return int(made)


def _control_options(model: Model) -> int:
    options = CONTROL_MODELS[model.control] | ctl.CTL_ORIGIN | ctl.CTL_NUMBER
    if model.control == "select":
        options |= ctl.CTL_CANCEL | ctl.CTL_SELECTED
    return options


def _report(lln0: int, name: str, constraint: str, members: Sequence[str], domain: str) -> None:
    call = ied.load().call
    data_set = call.DataSet_create(name.encode(), lln0)
    for member in members:
        node, _, data = member.partition(".")
        # Whole data objects: with single attributes a change report leaves q and t out, and the figure has no time.
        call.DataSetEntry_create(data_set, f"{node}${constraint}${data}".encode(), -1, None)
    for number in range(1, BLOCKS + 1):
        for letter, buffered in (("U", False), ("B", True)):
            block = f"{name.lower()}{letter}{number:02d}"
            call.ReportControlBlock_create(
                block.encode(), lln0, f"{domain}/{block}".encode(), buffered, name.encode(), 1, TRIGGERS, OPTIONS, 0,
                INTEGRITY_MS,
            )  # fmt: skip


class Handles(NamedTuple):
    """Of one data object: attributes for triggers, values for silent writes."""

    value: int
    quality: int
    time: int


def handles(model: Model, library_model: int, server: int) -> dict[str, Handles]:
    """Of every point, by figure. Raises ServerError."""
    call = ied.load().call

    def time(reference: str) -> int:
        return int(call.IedServer_getAttributeValue(server, node(model, library_model, f"{reference}.t")))

    return {
        point.figure: Handles(
            node(model, library_model, f"{point.reference}.{point.kind.attribute}"),
            node(model, library_model, f"{point.reference}.q"),
            time(point.reference),
        )
        for point in model.points
    }


def node(model: Model, library_model: int, reference: str) -> int:
    """An attribute or data object. Raises ServerError if the model lacks it."""
    full = f"{model.domain}/{reference}"
    found = ied.load().call.IedModel_getModelNodeByObjectReference(library_model, full.encode())
    if not found:
        raise ServerError(f"the model has no {full}: choose another name for it")
    return int(found)


def constants(model: Model) -> Iterator[tuple[str, int | str]]:
    """(attribute, value) of what never changes: descriptions, units, behaviour `on`."""
    for point in model.points:
        yield f"{point.reference}.d", point.text
        if point.unit:
            unit, multiplier = UNITS[point.unit]
            yield f"{point.reference}.units.SIUnit", unit
            yield f"{point.reference}.units.multiplier", multiplier
    for logical in ("LLN0.Mod", *dict.fromkeys(f"{p.reference.partition('.')[0]}.Beh" for p in model.points)):
        yield f"{logical}.stVal", 1
