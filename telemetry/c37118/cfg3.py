"""CFG-3: the configuration of 2011, in one frame or several, as the same `Configuration` that CFG-2 gives.

Pure. IEEE C37.118.2-2011, 6.4: CFG-3 differs from CFG-2 in names of any length (a length octet and UTF-8), scales in
floating point, the place and class of each PMU, and a CONT_IDX at its head, because it may be longer than a frame:
0 for a frame that is alone, 1 for the first of several, 2 and on for those that follow, 65535 for the last. What stands
behind CONT_IDX goes on from frame to frame, wherever it was cut. The order of fields is marked V2: read from two
independent implementations, not from the standard itself.

Losses: parts that do not follow on each other are refused (`fragment`), and what had been gathered is forgotten: a
unit that is asked again tells all of it. At most `LARGEST` octets are gathered.
"""

from __future__ import annotations

import math
import struct
from typing import Final, NamedTuple

from telemetry.c37118.configuration import (
    SCALE,
    Analog,
    Body,
    Configuration,
    Digital,
    Phasor,
    Station,
    configuration_of,
    printable,
)
from telemetry.c37118.errors import FrameError
from telemetry.c37118.frames import Head, Kind, body_of

ALONE: Final = 0
FIRST: Final = 1
LAST: Final = 0xFFFF
LARGEST: Final = 1 << 22
CURRENT: Final = 0x08  # of PHSCALE's type octet (table 11)
COMPONENT: Final = 0x07
_INDEX: Final = struct.Struct(">H")
_ID: Final = struct.Struct(">H16sHHHH")  # IDCODE, G_PMU_ID, FORMAT, PHNMR, ANNMR, DGNMR
_PHSCALE: Final = struct.Struct(">HBBff")  # modifications, type, user's, scale, angle
_ANSCALE: Final = struct.Struct(">ff")
_PLACE: Final = struct.Struct(">fffcii")  # latitude, longitude, elevation, SVC_CLASS, WINDOW, GRP_DLY
_END: Final = struct.Struct(">HH")


class _Gathered(NamedTuple):
    """Parts of one configuration so far. part : CONT_IDX of the latest"""

    idcode: int
    part: int
    octets: bytes


class Parts:
    """The frames of a CFG-3 put together."""

    def __init__(self) -> None:
        self._gathered: _Gathered | None = None

    def forget(self) -> None:
        """A new connection: what follows does not continue what came before."""
        self._gathered = None

    def take(self, frame: bytes, head: Head) -> bytes | None:
        """The whole body behind CONT_IDX once its last part has come; None before. frame : checked, of CFG-3

        Raises FrameError: layout, fragment.
        """
        body = body_of(frame)
        before, self._gathered = self._gathered, None
        if len(body) < _INDEX.size:
            raise FrameError("layout", f"a CFG-3 of {len(body)} octets has no room for CONT_IDX")
        (index,), rest = _INDEX.unpack_from(body), body[_INDEX.size :]
        if index == ALONE:
            return rest
        if index != FIRST:
            if before is None or before.idcode != head.idcode or index not in (before.part + 1, LAST):
                raise FrameError("fragment", f"part {index} of a CFG-3 does not follow on what came before")
            rest = before.octets + rest
        if len(rest) > LARGEST:
            raise FrameError("fragment", f"a CFG-3 of more than {LARGEST} octets")
        if index == LAST:
            return rest
        self._gathered = _Gathered(head.idcode, index, rest)
        return None


def read_cfg3(body: bytes, head: Head) -> Configuration:
    """What a whole CFG-3 says. body : as `Parts.take` gives it; head : of its last frame

    Raises FrameError: type, layout, time_base, rate.
    """
    if head.kind is not Kind.CFG3:
        raise FrameError("type", f"{head.kind.name} is no CFG-3")
    return configuration_of(Body(body), head, _station)


def _station(body: Body) -> Station:
    name = _name(body)
    idcode, _, form, phasors, analogs, digitals = body.take(_ID)
    if phasors + analogs + 16 * digitals > body.left:  # a wrong count is seen before anything is made
        raise FrameError("layout", f"{phasors + analogs + 16 * digitals} names in {body.left} octets")
    names = [_name(body) for _ in range(phasors + analogs + 16 * digitals)]
    words = names[phasors + analogs :]
    made = tuple(_phasor(body, each) for each in names[:phasors])
    scaled = tuple(_analog(body, each) for each in names[phasors : phasors + analogs])
    masks = [body.word() for _ in range(digitals)]
    body.take(_PLACE)
    fnom, changes = body.take(_END)
    return Station(
        name, idcode, form, made, scaled,
        tuple(Digital(tuple(words[16 * k : 16 * k + 16]), mask >> 16, mask & 0xFFFF) for k, mask in enumerate(masks)),
        fnom, changes,
    )  # fmt: skip


def _phasor(body: Body, name: str) -> Phasor:
    """A scale that is no positive number leaves the channel without a value."""
    _, kind, _, scale, angle_rad = body.take(_PHSCALE)
    usable = math.isfinite(scale) and scale > 0.0
    return Phasor(
        name, bool(kind & CURRENT), scale / SCALE if usable else 0.0, scale if usable else math.nan,
        angle_rad if math.isfinite(angle_rad) else 0.0, kind & COMPONENT,
    )  # fmt: skip


def _analog(body: Body, name: str) -> Analog:
    body.take(_ANSCALE)  # values are given as sent
    return Analog(name, 0, 0)


def _name(body: Body) -> str:
    return printable(body.octets(body.octets(1)[0]).decode("utf-8", "replace"))
