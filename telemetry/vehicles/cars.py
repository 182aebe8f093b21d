"""Car models as rows: what the battery holds and what the car takes, by name.

Powers are magnitudes at the plug; 0 where a car has no such inlet. This file judges what a reader found; what a figure
means for a charger is in `power_kw`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from telemetry.samples import Block
from telemetry.sessions.errors import Fault

F8 = npt.NDArray[np.float64]

CAR = np.dtype(
    [
        ("name", "U64"),
        ("usable_kwh", "<f8"),  # as new
        ("ac_kw", "<f8"),  # most on all its phases
        ("phases", "<i8"),  # that its on-board charger uses
        ("dc_kw", "<f8"),
        ("chemistry", "U12"),  # `lfp`, `nmc`, ...; empty where it is not known
    ]
)
USABLE_MAX_KWH: Final = 1000.0
POWER_MAX_KW: Final = 5000.0
# A charger above this rating is a DC one; up to the second it has one phase. Units of kW.
AC_MAX_KW: Final = 22.1
SINGLE_MAX_KW: Final = 7.5
# On-board chargers that do not tell: up to this power one phase, above it three.
SINGLE_CAR_KW: Final = 7.5


class Car(NamedTuple):
    """One model as a reader found it; fields as in CAR."""

    name: str
    usable_kwh: float
    ac_kw: float
    phases: int
    dc_kw: float = 0.0
    chemistry: str = ""


@dataclass(frozen=True)
class Cars:
    """A file of car models, read: CAR[n] in the file's order, and how many records were left out, by reason."""

    path: str
    format: str
    rows: Block
    rejected: Counter[str]


def judged(car: Car) -> Car:
    """The car, if there can be such a one. Raises Fault."""
    if not 0.0 < car.usable_kwh <= USABLE_MAX_KWH:
        raise Fault("usable_kwh", "capacity", f"{car.usable_kwh:g} is no battery's capacity")
    for name, kw in (("ac_kw", car.ac_kw), ("dc_kw", car.dc_kw)):
        if not 0.0 <= kw <= POWER_MAX_KW:
            raise Fault(name, "power", f"{kw:g} is no power that a car takes")
    if not car.ac_kw > 0.0 and not car.dc_kw > 0.0:
        raise Fault("ac_kw", "power", "a car that takes none cannot be charged")
    if car.phases not in (1, 2, 3):
        raise Fault("phases", "phases", f"{car.phases} is none of 1, 2, 3")
    return car


def table(found: list[Car]) -> Block:
    """CAR[n] of judged cars."""
    return np.array([tuple(car) for car in found], CAR)


def power_kw(cars: Block, rating_kw: npt.ArrayLike) -> F8:
    """What each car takes from a charger of a rating, broadcast over both [kW].

    cars : CAR[n]   An AC charger shares its rating among its lines, and the car uses as many as it has; a car of three
    phases takes a third of its power from a single line. Above `AC_MAX_KW` it is DC.
    """
    rating = np.asarray(rating_kw, np.float64)
    lines = np.where(rating > SINGLE_MAX_KW, 3, 1)
    each_kw = np.minimum(rating / lines, cars["ac_kw"] / cars["phases"])
    ac_kw = each_kw * np.minimum(lines, cars["phases"])
    return np.asarray(np.where(rating > AC_MAX_KW, np.minimum(rating, cars["dc_kw"]), ac_kw))
