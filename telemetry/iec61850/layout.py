"""Where a peer's data set holds the frequency, its quality, its time and the voltages: by name, never by position.

Pure: it sees names and types, no library. IEC 61850-7-3 fixes the attributes of an MV and lets a device leave options
in or out, so `Hz` is (mag, q, t) here, (instMag, mag, range, q, t) there, and AnalogueValue may hold `i` before `f`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from telemetry.iec61850.errors import LayoutError

# MmsType of libiec61850; the other backend translates into these.
STRUCTURE: Final = 1
BIT_STRING: Final = 3
FLOAT: Final = 6
UTC_TIME: Final = 14

PHASES: Final = ("phsA", "phsB", "phsC")  # neut, net and res of a WYE are not phase voltages
LINES: Final = ("phsAB", "phsBC", "phsCA")  # of a DEL; taken only where it is asked for by name

Path = tuple[int, ...]  # member index, then element indexes


class Spec(NamedTuple):
    """One node of a type description."""

    name: str
    kind: int
    children: tuple[Spec, ...] = ()


class Layout(NamedTuple):
    """Paths to the leaves of one sample."""

    hz: Path
    quality: Path
    utc: Path
    volts: tuple[Path, ...]  # one per phase found; empty if the data set has no voltage
    size: int  # members in the data set

    @property
    def whole(self) -> bool:
        """Whether one member carries value, quality and time, so that no report leaves two of them out."""
        return self.hz[0] == self.quality[0] == self.utc[0]


def resolve(members: Sequence[tuple[str, Spec]], hz_ref: str, volt_ref: str) -> Layout:
    """The layout of a data set.

    members  : (reference without functional constraint, type) in the data set's order; both FCDs
               ("LD/MMXU1.Hz") and FCDAs ("LD/MMXU1.Hz.mag.f") serve
    hz_ref   : an MV, e.g. "GRIDMEAS/MMXU1.Hz"
    volt_ref : a WYE, DEL, CMV or MV, e.g. "GRIDMEAS/MMXU1.PhV"

    Raises LayoutError, naming what is missing and what the data set has instead.
    """
    leaves = dict(_leaves(members))
    wanted = ((f"{hz_ref}.mag.f", FLOAT), (f"{hz_ref}.q", BIT_STRING), (f"{hz_ref}.t", UTC_TIME))
    hz, quality, utc = (_find(leaves, ref, kind) for ref, kind in wanted)
    magnitudes = [f"{volt_ref}.{phase}.cVal.mag.f" for phase in (*PHASES, *LINES)]
    magnitudes += [f"{volt_ref}.cVal.mag.f", f"{volt_ref}.mag.f"]
    volts = tuple(_find(leaves, ref, FLOAT) for ref in magnitudes if ref in leaves)
    return Layout(hz, quality, utc, volts, len(members))


def _leaves(members: Sequence[tuple[str, Spec]]) -> Iterator[tuple[str, tuple[Path, int]]]:
    for index, (ref, spec) in enumerate(members):
        yield from _walk(ref, spec, (index,))


def _walk(ref: str, spec: Spec, path: Path) -> Iterator[tuple[str, tuple[Path, int]]]:
    if spec.kind != STRUCTURE:
        yield ref, (path, spec.kind)
    for index, child in enumerate(spec.children):
        yield from _walk(f"{ref}.{child.name}", child, (*path, index))


def _find(leaves: dict[str, tuple[Path, int]], ref: str, kind: int) -> Path:
    found = leaves.get(ref)
    if found is None:
        raise LayoutError(
            f"the data set has no {ref}: choose a report control block whose data set holds it; it has {sorted(leaves)}"
        )
    path, actual = found
    if actual != kind:
        raise LayoutError(f"{ref} has MMS type {actual}, expected {kind}: the peer's model is not an IEC 61850-7-3 MV")
    return path
