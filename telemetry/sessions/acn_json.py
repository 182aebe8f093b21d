"""ACN-Data sessions as its API gives them: JSON, `{"_items": [...]}` or the bare list, times RFC 1123 in GMT.

`userInputs` is a list of what the driver entered, in order, or null; the first entry is what was known when charging
was planned, and is kept as it was told. `doneChargingTime` is null in many sessions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import orjson

from telemetry.sessions.errors import Fault, UnknownSessions
from telemetry.sessions.instants import rfc_ns
from telemetry.sessions.stays import Row

NAME: Final = "acn_json"
ZONE: Final = "America/Los_Angeles"  # of the sites that the data set began with; each item names its own


def recognises(head: bytes) -> bool:
    """JSON that speaks of connection times."""
    return head.lstrip()[:1] in (b"{", b"[") and b'"connectionTime"' in head


def items(path: str, data: bytes) -> list[Any]:
    """The sessions of a file. Raises UnknownSessions."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UnknownSessions(path, None, f"no JSON: {error}") from None
    listed = found.get("_items") if isinstance(found, dict) else found
    if not isinstance(listed, list):
        raise UnknownSessions(path, None, "neither a list of sessions nor `_items`")
    return listed


def zone_of(path: str, data: bytes) -> str:
    """The zone that most sessions name."""
    named = Counter(str(item["timezone"]) for item in items(path, data) if _has(item, "timezone"))
    return named.most_common(1)[0][0] if named else ZONE


def read(path: str, data: bytes, zone: Any) -> Iterator[tuple[int, Row | Fault]]:
    """Each session, or what is wrong with it, with its number from 1. zone : not needed, every time names its own"""
    del zone
    for line, item in enumerate(items(path, data), 1):
        try:
            yield line, _row(item)
        except Fault as fault:
            yield line, fault


def _row(item: Any) -> Row:
    if not isinstance(item, dict):
        raise Fault("_items", "item", "not an object")
    if not _has(item, "connectionTime"):
        raise Fault("connectionTime", "arrive_time", "there is none")
    told = _first_input(item)
    return Row(
        arrive_ns=rfc_ns(item["connectionTime"], "arrive"),
        leave_ns=_time(item, "disconnectTime", "leave"),
        energy_kwh=_number(item, "kWhDelivered", "energy"),
        site=str(item.get("siteID") or ""),
        place=str(item.get("stationID") or item.get("spaceID") or ""),
        told_leave_ns=_time(told, "requestedDeparture", "told_leave"),
        done_ns=_time(item, "doneChargingTime", "done"),
        asked_kwh=_number(told, "kWhRequested", "asked") if _has(told, "kWhRequested") else math.nan,
    )


def _first_input(item: dict[str, Any]) -> dict[str, Any]:
    inputs = item.get("userInputs")
    if not inputs:
        return {}
    if not isinstance(inputs, list) or not isinstance(inputs[0], dict):
        raise Fault("userInputs", "inputs", "neither null nor a list of objects")
    return inputs[0]


def _has(item: Any, name: str) -> bool:
    return isinstance(item, dict) and item.get(name) is not None


def _time(item: dict[str, Any], name: str, field: str) -> int:
    return rfc_ns(item[name], field) if _has(item, name) else 0


def _number(item: dict[str, Any], name: str, reason: str) -> float:
    value = item.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Fault(name, reason, f"{value!r} is no number")
    return float(value)
