"""Car models: readers of the two open collections, and a small table for when there is neither.

cars = open_cars("ev-data.json")
cars.rows["usable_kwh"]
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from os import PathLike, fspath
from pathlib import Path
from types import ModuleType
from typing import Final

from telemetry.samples import Block
from telemetry.sessions.errors import Fault, MalformedSession, UnknownSessions
from telemetry.vehicles import chargeprice, open_ev_data
from telemetry.vehicles.cars import CAR, Car, Cars, judged, power_kw, table

__all__ = ["CAR", "FORMATS", "Cars", "builtin", "open_cars", "power_kw"]

READERS: Final[tuple[ModuleType, ...]] = (open_ev_data, chargeprice)
FORMATS: Final[dict[str, ModuleType]] = {module.NAME: module for module in READERS}
GZIP: Final = b"\x1f\x8b"

# Classes of cars, not models: round figures from memory, a parameter and no statistics of any market.
BUILTIN: Final = (
    Car("plug-in hybrid", 10.0, 3.7, 1, 0.0),
    Car("plug-in hybrid, large", 18.0, 7.4, 1, 0.0),
    Car("city car", 32.0, 6.6, 1, 50.0),
    Car("small car", 44.0, 11.0, 3, 100.0, "nmc"),
    Car("small car, iron phosphate", 50.0, 11.0, 3, 80.0, "lfp"),
    Car("compact car", 58.0, 11.0, 3, 120.0, "nmc"),
    Car("compact car, single phase", 62.0, 6.6, 1, 70.0, "nmc"),
    Car("family car, iron phosphate", 60.0, 11.0, 3, 170.0, "lfp"),
    Car("family car", 75.0, 11.0, 3, 170.0, "nmc"),
    Car("large car", 90.0, 22.0, 3, 200.0, "nmc"),
)


def builtin() -> Cars:
    """The built-in classes."""
    return Cars("built-in", "builtin", table([judged(car) for car in BUILTIN]), Counter())


def open_cars(path: str | PathLike[str], *, skip_bad: bool = True) -> Cars:
    """A file of car models. Collections hold records without a battery or an inlet: these are counted.

    skip_bad : False raises MalformedSession for the first record that is no car

    Raises SessionError; a file without any usable car is UnknownSessions.
    """
    name = fspath(path)
    try:
        data = Path(name).read_bytes()
        data = gzip.decompress(data) if data.startswith(GZIP) else data
    except (OSError, EOFError, zlib.error) as error:
        raise UnknownSessions(name, None, f"cannot be read: {error}; give a file of car models") from None
    reader = next((reader for reader in READERS if reader.recognises(name, data)), None)
    if reader is None:
        raise UnknownSessions(name, None, f"no car models that are known ({', '.join(FORMATS)})")
    try:
        found, rejected = _read(name, list(reader.read(data)), skip_bad)
    except MalformedSession:
        raise
    except ValueError as error:
        raise UnknownSessions(name, None, f"no {reader.NAME} file: {error}") from None
    if not found.size:
        raise UnknownSessions(name, None, f"no usable car in it ({dict(rejected)})")
    return Cars(name, reader.NAME, found, rejected)


def _read(name: str, records: list[tuple[int, Car | Fault]], skip_bad: bool) -> tuple[Block, Counter[str]]:
    cars: list[Car] = []
    rejected: Counter[str] = Counter()
    for line, car in records:
        fault = car if isinstance(car, Fault) else _fault(car)
        if fault is None and isinstance(car, Car):
            cars.append(car)
        elif fault is not None and skip_bad:
            rejected[fault.reason] += 1
        elif fault is not None:
            raise MalformedSession(name, line, fault)
    return table(cars), rejected


def _fault(car: Car) -> Fault | None:
    try:
        judged(car)
    except Fault as fault:
        return fault
    return None
