"""Everything the core has learned, as bytes and back: columns as they lie in memory, the rest as JSON.

What a new owner of a fleet needs in order to go on as if nothing had happened: energies, throughput, what chargers
were told and how they respond, the declared baseline, the products' motion, running totals. No pickle: the bytes may
come from a store, and data must not be able to run anything. Scratch of a single tick is left out.

Bytes are a magic and version, the length of a head, the head in JSON (columns with name, dtype, shape and place; plain
values), then the columns. A copy is made of all of it, some 400 bytes a charger: 2 ms for 10 000 of them, 6 ms for
100 000.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from aggregator.alarms import Alarm
from aggregator.core import Aggregator, Sums
from droop.step import Tick

MAGIC: Final = b"FBST"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4sII")
Column = npt.NDArray[Any]

# What is sold is given anew; the others are written before they are read in every tick. Not so the outbox: what it
# knows of who may be moved outlives the tick.
LEFT_OUT: Final = ("terms.", "relay.", "room.scratch.", "room.heard", "room.least_kw", "room.most_kw")
CORE: Final = (
    "last_sample", "baseline_kw", "metered_kw", "meter_t_ns", "signal_kw", "_signal_until_ns", "_signal_door",
    "_signal_ns", "_first_ns", "_last_ns", "_sequence", "_told_second",
)  # fmt: skip
DECLARED: Final = ("_start_ns", "_end_ns", "_now_kw", "_next", "_before_kw", "_ramp_ns")


class StateError(ValueError):
    """Bytes that are not the state of such a core; `reason` is short and countable."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def capture(core: Aggregator, room: bytearray | None = None) -> bytearray:
    """The state of a core as it stands between two calls. room : of an earlier copy, used again where it fits"""
    columns = _columns(core)
    table, size = [], 0
    for name, column in columns.items():
        table.append([name, column.dtype.str, list(column.shape), size])
        size += column.nbytes
    head = orjson.dumps({"columns": table, "plain": _plain(_values(core))})
    # The head's length changes with its numbers; columns begin where it ends.
    head = head.ljust(-len(head) % 64 + len(head))
    whole = HEADER.size + len(head) + size
    data = room if room is not None and len(room) == whole else bytearray(whole)
    HEADER.pack_into(data, 0, MAGIC, VERSION, len(head))
    data[HEADER.size : HEADER.size + len(head)] = head
    place = HEADER.size + len(head)
    for column in columns.values():
        into = np.frombuffer(data, np.uint8, column.nbytes, place)
        into[:] = column.reshape(-1).view(np.uint8)
        place += column.nbytes
    return data


def restore(core: Aggregator, data: bytes | bytearray) -> None:
    """Put a captured state into a new core with the same settings.

    Raises StateError with reason `short`, `magic`, `version`, `head` or `column`; the core is of no use then.
    """
    if len(data) < HEADER.size:
        raise StateError("short", f"{len(data)} bytes, the header takes {HEADER.size}")
    magic, version, length = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise StateError("magic", f"{magic!r}")
    if version != VERSION:
        raise StateError("version", f"{version}, this reader knows {VERSION}")
    try:
        head = orjson.loads(bytes(data[HEADER.size : HEADER.size + length]))
        table = {str(name): (str(dtype), tuple(shape), int(at)) for name, dtype, shape, at in head["columns"]}
        values = _real(head["plain"])
        _fill(_columns(core), table, data, HEADER.size + length)
        _take(core, values)
    except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        raise StateError("head", f"{type(error).__name__}: {error}") from error


def _fill(columns: dict[str, Column], table: dict[str, Any], data: bytes | bytearray, begin: int) -> None:
    if columns.keys() != table.keys():
        raise StateError("column", f"{sorted(columns.keys() ^ table.keys())[:3]} not on both sides")
    for name, column in columns.items():
        dtype, shape, at = table[name]
        if (column.dtype.str, column.shape) != (dtype, shape):
            raise StateError("column", f"{name} is {dtype}{list(shape)}, wanted {column.dtype}{list(column.shape)}")
        if at < 0 or begin + at + column.nbytes > len(data):
            raise StateError("short", f"{len(data)} bytes, {name} ends beyond them")
        column[...] = np.frombuffer(data, column.dtype, column.size, begin + at).reshape(shape)


def _columns(core: Aggregator) -> dict[str, Column]:
    """Name -> array, each memory once."""
    found: dict[str, Column] = {}
    seen: set[tuple[int, int]] = set()
    registry = core.registry
    named = [
        *_walk("", core.engine), *_walk("accounts.", core.accounting.columns), ("vehicles", registry.vehicles),
        ("last_vehicles", registry._last), ("told_ns", registry._told_ns), ("wished_ns", registry._wished_ns),
        ("unserved_by_reason_kwh", core.sums.unserved_by_reason_kwh),
    ]  # fmt: skip
    for name, column in named:
        memory = column.ctypes.data, column.nbytes
        if column.nbytes and memory not in seen and not name.startswith(LEFT_OUT):
            seen.add(memory)
            found[name] = column
    return found


def _walk(prefix: str, record: Any) -> Iterator[tuple[str, Column]]:
    for name, value in zip(record._fields, record, strict=True):
        if isinstance(value, np.ndarray):
            yield prefix + name, value
        elif isinstance(value, tuple) and hasattr(value, "_fields"):
            yield from _walk(f"{prefix}{name}.", value)


def _values(core: Aggregator) -> dict[str, Any]:
    """What is no column."""
    sums = {item.name: getattr(core.sums, item.name) for item in fields(Sums)}
    del sums["unserved_by_reason_kwh"]
    return {
        "core": {name: getattr(core, name) for name in CORE},
        "last": None if core.last is None else list(core.last),
        "declared": {name: getattr(core._declared, name) for name in DECLARED},
        "sums": sums,
        "refused": core.registry.refused,
        "alarms": [asdict(alarm) for alarm in core.alarms.standing()],
        "raised": core.alarms.raised,
    }


def _take(core: Aggregator, values: dict[str, Any]) -> None:
    for name in CORE:
        setattr(core, name, values["core"][name])
    core.last_sample = tuple(values["core"]["last_sample"])
    core.last = None if values["last"] is None else Tick(*values["last"])
    for name in DECLARED:
        setattr(core._declared, name, values["declared"][name])
    for name, value in values["sums"].items():
        setattr(core.sums, name, Counter(value) if name == "rejected" else value)
    core.registry.refused = Counter(values["refused"])
    core.alarms._standing = {alarm["code"]: Alarm(**alarm) for alarm in values["alarms"]}
    core.alarms.raised = list(values["raised"])


def _plain(value: Any) -> Any:
    """JSON that keeps every bit of a float, and knows those that are no number."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return {"float": float(value).hex()}
    return int(value) if isinstance(value, np.integer) else value


def _real(value: Any) -> Any:
    if isinstance(value, dict):
        return float.fromhex(value["float"]) if value.keys() == {"float"} else {k: _real(v) for k, v in value.items()}
    return [_real(item) for item in value] if isinstance(value, list) else value
