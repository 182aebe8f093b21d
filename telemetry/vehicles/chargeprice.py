"""The chargeprice open-ev-data file: `ev-data.json`, `{"data": [...]}`, one object a model. Cars alone are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from telemetry.sessions.errors import Fault
from telemetry.vehicles.cars import Car

NAME: Final = "chargeprice"


def recognises(path: str, data: bytes) -> bool:
    """JSON with batteries' usable sizes."""
    del path
    return data.lstrip()[:1] == b"{" and b'"usable_battery_size"' in data


def read(data: bytes) -> Iterator[tuple[int, Car | Fault]]:
    """Each model, or what is wrong with it, with its number from 1. Raises ValueError where it is no such file."""
    listed = orjson.loads(data).get("data")
    if not isinstance(listed, list):
        raise ValueError("`data` is no list")
    for line, item in enumerate(listed, 1):
        try:
            yield line, _car(item)
        except Fault as fault:
            yield line, fault
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            yield line, Fault(str(error).strip("'") or "data", "fields", "missing, or of another kind")


def _car(item: dict[str, Any]) -> Car:
    if item["vehicle_type"] != "car":
        raise Fault("vehicle_type", "no_car", f"{item['vehicle_type']!r} is no car")
    ac, dc = item.get("ac_charger") or {}, item.get("dc_charger") or {}
    name = " ".join(str(item.get(key) or "") for key in ("brand", "model", "variant"))
    return Car(
        " ".join(name.split()), float(item["usable_battery_size"]), float(ac.get("max_power") or 0.0),
        int(ac.get("usable_phases") or 1), float(dc.get("max_power") or 0.0),
    )  # fmt: skip
