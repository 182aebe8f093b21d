"""The open-ev-data dataset's sources: a tar of JSON records, `src/MAKE/MODEL/YEAR/RECORD.json`.

A record completes the one of its model and year (`YEAR/MODEL.json`), and that the model's `base.json`. The net capacity
is what can be used. Where the phases are not given they follow from the power (`cars.SINGLE_CAR_KW`).
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any, Final

import orjson

from telemetry.sessions.errors import Fault
from telemetry.vehicles.cars import SINGLE_CAR_KW, Car

NAME: Final = "open_ev_data"
# No record is longer, and no data set has more: a file that says otherwise is not unpacked.
RECORD_MAX: Final = 1_000_000
RECORDS_MAX: Final = 100_000


def recognises(path: str, data: bytes) -> bool:
    """A tar, packed or not."""
    return path.endswith((".tar", ".tar.gz", ".tgz")) or data[257:262] == b"ustar"


def read(data: bytes) -> Iterator[tuple[int, Car | Fault]]:
    """Each record, or what is wrong with it, with its number from 1. Raises ValueError where it is no such file."""
    try:
        records = _records(data)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"no tar: {error}") from None
    line = 0
    for name in sorted(records):
        parts = name.split("/")
        if len(parts) < 4 or parts[-1] == "base.json":
            continue
        line += 1
        whole: dict[str, Any] = {}
        for source in ("/".join([*parts[:-2], "base.json"]), "/".join([*parts[:-1], f"{parts[-3]}.json"]), name):
            whole = _merged(whole, records.get(source, {}))
        try:
            yield line, _car(whole)
        except Fault as fault:
            yield line, fault
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            yield line, Fault(f"{name}: {str(error).strip(chr(39))}", "fields", "missing, or of another kind")


def _records(data: bytes) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            usable = member.isfile() and member.name.endswith(".json") and member.size <= RECORD_MAX
            if not usable or not member.name.startswith("src/"):
                continue
            if len(found) >= RECORDS_MAX:
                raise ValueError(f"more than {RECORDS_MAX} records")
            file = archive.extractfile(member)
            record = orjson.loads(file.read()) if file is not None else None
            if isinstance(record, dict):
                found[member.name] = record
    return found


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """One record on top of another, tables within tables as well."""
    whole = dict(under)
    for key, value in over.items():
        below = whole.get(key)
        whole[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return whole


def _car(record: dict[str, Any]) -> Car:
    battery, charging = record.get("battery") or {}, record.get("charging") or {}
    ac, dc = charging.get("ac") or {}, charging.get("dc") or {}
    ac_kw = float(ac.get("max_power_kw") or 0.0)
    phases = ac.get("phases") or (1 if ac_kw <= SINGLE_CAR_KW else 3)
    named = [(record.get(key) or {}).get("name") for key in ("make", "model", "variant", "trim")]
    chemistry = battery.get("cathode_material") or battery.get("chemistry") or ""
    return Car(
        " ".join(dict.fromkeys(str(part) for part in named if part))[:64], float(battery["pack_capacity_kwh_net"]),
        ac_kw, int(phases), float(dc.get("max_power_kw") or 0.0),
        "" if chemistry == "li-ion" else str(chemistry)[:12],
    )  # fmt: skip
