"""What a device offers, and which report control block would serve: the same for a device and for its SCL file.

Names are not to be trusted, types are: a frequency is an MV called `Hz` (IEC 61850-7-4, MMXU) whose `mag.f`, `q` and
`t` can be read, in whatever logical node, prefix and member order its maker chose. Only `choose` decides; nothing is
enabled here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from telemetry.iec61850 import layout as lay
from telemetry.iec61850.errors import LayoutError, LinkLost, SubscribeError
from telemetry.iec61850.link import BlockStatus, Browsable
from telemetry.iec61850.references import concerns

HZ: Final = re.compile(r"(?P<node>[^/]+/[^.]+)\.Hz(\.|$)")
MOST_BLOCKS: Final = 512  # asked of one device, so that a model that never ends does not keep us for ever


class Point(NamedTuple):
    """A logical node with a frequency."""

    node: str  # "LD/MMXU1"
    hz: str
    volt: str  # "LD/MMXU1.PhV"; empty: it has none
    phases: int  # phase voltages that can be read
    power: str  # "LD/MMXU1.TotW"; empty: it has none
    why_not: str  # empty: it can be read


class Found(NamedTuple):
    """A report control block, judged."""

    ref: str
    data_set: str
    hz: str
    phases: int
    whole: bool
    why_not: str  # empty: it would serve

    @property
    def buffered(self) -> bool:
        """Whether it is a BRCB."""
        return ".BR." in self.ref


class Description(NamedTuple):
    """A device."""

    source: str
    devices: tuple[str, ...]
    points: tuple[Point, ...]
    blocks: tuple[Found, ...]

    def choose(self, buffered: bool = False) -> list[str]:
        """The blocks to try, best first: with voltage, with whole data objects, unbuffered (or buffered) ones.

        Without a voltage a dead bus cannot be seen; with single attributes as members a change brings no time.
        """
        able = [block for block in self.blocks if not block.why_not and (block.buffered or not buffered)]
        able.sort(key=lambda block: (block.phases == 0, not block.whole, block.buffered != buffered))
        return [block.ref for block in able]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        first: list[str | None] = [next(iter(self.choose(buffered)), None) for buffered in (False, True)]
        return {
            "source": self.source,
            "devices": list(self.devices),
            "points": [point._asdict() for point in self.points],
            "blocks": [block._asdict() | {"buffered": block.buffered} for block in self.blocks],
            "report_block": first[0],
            "history_block": first[1],
        }


def browse(model: Browsable, hz_ref: str | None = None, volt_ref: str | None = None) -> Description:
    """Everything of interest in a model. hz_ref, volt_ref : only blocks that carry these are judged able

    Raises LinkLost, or SubscribeError where the device does not let itself be browsed.
    """
    devices, points, blocks = model.domains(), [], []
    for device in devices:
        names = model.variables(device)
        known = set(names)
        nodes = dict.fromkeys(name.partition("$")[0] for name in names if name.endswith("$MX$Hz"))
        points += [_point(model, device, node, known) for node in nodes]
        blocks += [f"{device}/{name.replace('$', '.')}" for name in names if _is_block(name)]
    found = [_judge(model, block, hz_ref, volt_ref) for block in dict.fromkeys(blocks[:MOST_BLOCKS])]
    return Description(model.source, tuple(devices), tuple(points), tuple(found))


def layout_of(
    model: Browsable, status: BlockStatus, hz_ref: str | None, volt_ref: str | None
) -> tuple[lay.Layout, str, str]:
    """(layout, the MV and the WYE it reads) of a block's data set.

    Raises LayoutError if the data set does not hold what is needed, SubscribeError if it cannot be read.
    """
    if not status.data_set:
        raise LayoutError("it has no data set")
    members = [ref if constraint == "MX" else "" for ref, constraint in model.members(status.data_set)]
    matches = [match for match in map(HZ.match, members) if match]
    if hz_ref is None and not matches:
        raise LayoutError(f"the data set {status.data_set} has no frequency (an MV called Hz)")
    hz = hz_ref or f"{matches[0]['node']}.Hz"
    volt = volt_ref or f"{hz.rpartition('.')[0]}.PhV"
    described = [
        (ref, model.type_of(ref) if ref and (concerns(ref, hz) or concerns(ref, volt)) else lay.Spec("", -1))
        for ref in members
    ]
    return lay.resolve(described, hz, volt), hz, volt


def pollable(model: Browsable, hz: str, volt: str | None) -> tuple[list[str], lay.Layout]:
    """What to read when no block serves, and how. Raises LayoutError or SubscribeError."""
    refs = [hz] + ([volt] if volt else [])
    return refs, lay.resolve([(ref, model.type_of(ref)) for ref in refs], hz, volt or "")


def _is_block(name: str) -> bool:
    parts = name.split("$")
    return len(parts) == 3 and parts[1] in ("RP", "BR")


def _point(model: Browsable, device: str, node: str, known: set[str]) -> Point:
    ref = f"{device}/{node}"
    volt, power = (f"{ref}.{name}" if f"{node}$MX${name}" in known else "" for name in ("PhV", "TotW"))
    try:
        layout = pollable(model, f"{ref}.Hz", volt)[1]
    except LinkLost:
        raise
    except (LayoutError, SubscribeError) as error:
        return Point(ref, f"{ref}.Hz", volt, 0, power, str(error))
    return Point(ref, f"{ref}.Hz", volt, len(layout.volts), power, "")


def _judge(model: Browsable, block: str, hz_ref: str | None, volt_ref: str | None) -> Found:
    data_set, hz, phases, whole = "", "", 0, False
    try:
        status = model.status(block)
        data_set, why_not = status.data_set, status.taken
        layout, hz, _ = layout_of(model, status, hz_ref, volt_ref)
        phases, whole = len(layout.volts), layout.whole
    except LinkLost:
        raise
    except (LayoutError, SubscribeError) as error:
        why_not = str(error)
    return Found(block, data_set, hz, phases, whole, why_not)


def points_in_order(description: Description) -> Sequence[Point]:
    """The readable points, those with voltage first."""
    return sorted((point for point in description.points if not point.why_not), key=lambda point: point.phases == 0)
