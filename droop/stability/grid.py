"""A synchronous area as a study takes it: size, inertia, load and governors; data, one TOML file each, checked once.

The files lie in `droop/grids`; a user studies a grid with a file of his own. Every figure has its source and its mark
of confidence, as a product's has: one marked M is from memory, a parameter to be replaced by who knows better.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from droop import tomlfiles
from droop.promises import at_least
from droop.tables import TableError, record

GRIDS: Final = "grids"
CONFIDENCE: Final = ("V", "V2", "M", "D")


class GridError(ValueError):
    """A grid that cannot be studied; the message names the file or id, the field and the remedy."""


@dataclass(frozen=True)
class Governor:
    """The machines of one kind that hold the frequency, as one.

    strength_mw_hz : power a hertz; or by droop:
    droop_pu, share_frac : droop R, and the share of the grid's size that has it (Anderson and Mirheydar's K_m)
    reserve_mw     : the most that they give, each way
    deadband_hz    : half width; from its edge on the answer starts from 0
    servo_s        : first-order lag of gate or valve
    reheat_s, reheat_frac : reheat time, and the share of the power that does not wait for it (F_H)
    water_s        : water starting time: power first goes the wrong way
    transient_s, transient_ratio : reset time and temporary over permanent droop, which holds a water turbine back
    """

    title: str = ""
    strength_mw_hz: float = 0.0
    droop_pu: float = 0.0
    share_frac: float = 1.0
    reserve_mw: float = math.inf
    deadband_hz: float = 0.0
    servo_s: float = 0.0
    reheat_s: float = 0.0
    reheat_frac: float = 0.0
    water_s: float = 0.0
    transient_s: float = 0.0
    transient_ratio: float = 1.0

    def __post_init__(self) -> None:
        times = ("servo_s", "reheat_s", "water_s", "transient_s")
        at_least(self, "strength_mw_hz", "droop_pu", "deadband_hz", "reheat_frac", *times)
        at_least(self, "share_frac", above=True)
        at_least(self, "transient_ratio", least=1.0)
        if (self.strength_mw_hz > 0) == (self.droop_pu > 0):
            raise ValueError("fields `strength_mw_hz` and `droop_pu`: give one of them, above 0")
        if not self.reserve_mw > 0:
            raise ValueError("field `reserve_mw` takes a power above 0; leave it out where there is no limit")
        if self.share_frac > 1 or self.reheat_frac > 1:
            raise ValueError("fields `share_frac` and `reheat_frac` take a share of at most 1")

    def blocks(self) -> tuple[tuple[float, float], ...]:
        """(b, a) of each part (1 + b s)/(1 + a s) between command and power."""
        found = [
            (0.0, self.servo_s),
            (self.transient_s, self.transient_ratio * self.transient_s),
            (self.reheat_frac * self.reheat_s, self.reheat_s),
            (-self.water_s, 0.5 * self.water_s),
        ]
        return tuple((b, a) for b, a in found if a > 0.0 and a != b)


@dataclass(frozen=True)
class Grid:
    """One synchronous area.

    size_mw         : the base of everything per unit: the load, or the machines' rating
    inertia_s       : H, energy in rotation over the size
    load_damping_pu : D, share by which the load falls per share by which the frequency falls
    loss_mw         : the largest loss that the area is laid out for
    shed_hz         : where load is shed; told, not played
    secondary_pu_s  : gain of secondary control, an integral; 0: none
    marks           : figures whose confidence is not that of the whole
    """

    id: str
    title: str
    area: str
    nominal_hz: float
    size_mw: float
    inertia_s: float
    load_damping_pu: float
    loss_mw: float
    governor: tuple[Governor, ...] = ()
    shed_hz: tuple[float, ...] = ()
    secondary_pu_s: float = 0.0
    sources: tuple[str, ...] = ()
    confidence: Literal["V", "V2", "M", "D"] = "M"
    marks: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least(self, "size_mw", "inertia_s", "loss_mw", above=True)
        at_least(self, "load_damping_pu", "secondary_pu_s")
        if self.nominal_hz not in (50.0, 60.0):
            raise ValueError("field `nominal_hz` takes 50 or 60")
        if self.load_damping_pu == 0 and not self.governor:
            raise ValueError("fields `load_damping_pu` and `governor`: with neither of them the frequency never comes "
                             "to rest; give a damping above 0 or a governor")  # fmt: skip
        if any(not 0.8 * self.nominal_hz < hz < self.nominal_hz for hz in self.shed_hz):
            raise ValueError("field `shed_hz` takes frequencies below nominal, in Hz")
        for name, mark in (self.marks or {}).items():
            if name.split(".")[0] not in type(self).__dataclass_fields__ or mark not in CONFIDENCE:
                raise ValueError(f"field `marks.{name}` takes a field of the grid and one of {', '.join(CONFIDENCE)}")

    def strength_mw_hz(self, governor: Governor) -> float:
        """Power a hertz that a governor stands for [MW/Hz]."""
        if governor.strength_mw_hz > 0:
            return governor.strength_mw_hz
        return governor.share_frac * self.size_mw / (governor.droop_pu * self.nominal_hz)

    def gain_pu(self, governor: Governor) -> float:
        """The same per unit of power and frequency: K_m/R."""
        return self.strength_mw_hz(governor) * self.nominal_hz / self.size_mw

    @property
    def damping_mw_hz(self) -> float:
        """What the load gives by itself [MW/Hz]."""
        return self.load_damping_pu * self.size_mw / self.nominal_hz

    def mark(self, figure: str) -> str:
        """Confidence of one figure: its own mark, or the whole's."""
        return (self.marks or {}).get(figure, self.confidence)


def parse(table: Mapping[str, Any], where: str) -> Grid:
    """A grid from one TOML table. Raises GridError, which names `where`, the field and the remedy."""
    try:
        return record(Grid, table)
    except TableError as error:
        raise GridError(f"{where}: {error}") from error


def names() -> list[str]:
    """Ids of the grids that ship."""
    return tomlfiles.names(GRIDS)


def load(name: str) -> Grid:
    """A grid by id, or by the path of a user's own `.toml` file. Raises GridError."""
    if name.endswith(".toml"):
        return _own(Path(name))
    plain, known = name.lower(), names()
    if plain not in known:
        near = difflib.get_close_matches(plain, known, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}; or give a .toml file of your own"
        raise GridError(f"grid `{name}` is not in the catalogue; {hint}")
    return parse(tomlfiles.shipped(GRIDS, plain), f"{GRIDS}/{plain}.toml")


def _own(path: Path) -> Grid:
    try:
        table = tomlfiles.own(path, "grid", f"known without a file: {', '.join(names())}")
    except TableError as error:
        raise GridError(str(error)) from error
    return parse(table, str(path))
