"""What is sealed of an interval: its rows second by second, all that its statements rest on, and the vehicles' rows.

Pure: columns in, JSON-ready data out and back. Two forms of the same time are sealed: `pool`, one row a second that
anybody can read and hold against his own meter (TenneT NL 4.7 asks for seconds), and `facts`, the recorded columns
bit for bit, from which `settlement.recompute` gives every figure of a statement again.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from droop.products import to_table
from settlement import align, baseline, delivered, expected, history, interval
from settlement.align import NS, Floats, Grid, Ints
from settlement.facts import Facts
from settlement.interval import Sold
from settlement.ledger import Ledger
from settlement.statement import Statement

Block = npt.NDArray[Any]

# What the vehicles' rows should have, in this order where they have it; further fields follow.
LEAF: Final = (
    "vehicle", "start_ns", "end_ns", "asked_up_kwh", "asked_down_kwh", "commanded_kwh", "acknowledged",
    "metered_up_kwh", "metered_down_kwh", "baseline_kwh", "delivered_kwh", "shortfall_kwh", "reason", "coverage_frac",
    "quality",
)  # fmt: skip
POOL: Final = (
    "t_s",  # the second, since 1970 UTC
    "hz",  # mean of the usable samples' time
    "asked_kw",  # of the fleet, baseline included
    "commanded_kw",  # sum of what the vehicles had been told
    "commands",  # set-points sent
    "reported",  # vehicles that reported
    "acknowledged",  # of those under a set-point, how many were seen to carry it out
    "metered_kw",
    "baseline_kw",  # as declared
    "quality",  # marks of the samples, all in one (`telemetry.samples.Quality`)
    "delay_ms",  # longest way of a sample from its source to us, by both clocks
    "coverage_frac",  # share of the second in which frequency, meter and baseline are all known
)
# Those that `facts` give again.
COMPUTED: Final = ("hz", "metered_kw", "baseline_kw", "coverage_frac")
TICK_HOLD_S: Final = 2.0  # as `delivered.TICK_HOLD_S`: a longer silence is no decision
CELLS_MAX: Final = 86_400


class EvidenceError(ValueError):
    """Evidence that cannot be built or read; the message names the field and the remedy."""


class Control(NamedTuple):
    """What the engine decided, tick by tick, in any order.

    t_ns                   : int64[n]
    asked_kw, commanded_kw : float64[n]
    commands               : int64[n]
    """

    t_ns: Ints
    asked_kw: Floats
    commanded_kw: Floats
    commands: Ints


class Heard(NamedTuple):
    """What came in, a row a second in which anything did.

    t_s      : int64[n]
    quality  : int64[n]    marks of the samples, all in one
    delay_ms : float64[n]  longest way of a sample; NaN without any
    reported, acknowledged : int64[n]
    """

    t_s: Ints
    quality: Ints
    delay_ms: Floats
    reported: Ints
    acknowledged: Ints


class Closed(NamedTuple):
    """An interval that was settled, with all that it rests on."""

    start_ns: int
    end_ns: int
    sold: tuple[Sold, ...]
    facts: Facts
    statements: tuple[Statement, ...]


def seal(
    ledger: Ledger, closed: Closed, control: Control, heard: Heard, vehicles: Block | None, sealed_ns: int,
    contract: list[dict[str, Any]] | None,
) -> dict[str, str]:  # fmt: skip
    """Add an interval to a ledger, head included; statement key -> hash of its record.

    vehicles : structured array, a row a vehicle; None: their rows are not known
    contract : what is sold, as sealed before; sealed anew where it differs
    """
    start_ns, end_ns = closed.start_ns, closed.end_ns
    now = sold(closed.sold)
    if now != contract:
        ledger.record("contract", {"from_ns": start_ns, "contracts": now}, sealed_ns)
    hashes: dict[str, str] = {}
    for item in closed.statements:
        hashes[item.key] = ledger.record("statement", {"key": item.key, "statement": item.to_dict()}, sealed_ns)
    used = cut(closed)
    ledger.record("pool", pool(closed.sold, used, control, heard, start_ns, end_ns), sealed_ns)
    ledger.record("facts", {"start_ns": start_ns, "end_ns": end_ns, "facts": to_plain(used)}, sealed_ns)
    if vehicles is not None:
        columns, rows = leaves(vehicles)
        ledger.root(start_ns, end_ns, columns, rows, sealed_ns)
    ledger.head(sealed_ns)
    return hashes


def seal_correction(ledger: Ledger, closed: Closed, corrects: Mapping[str, str], sealed_ns: int) -> dict[str, str]:
    """Add statements in the place of older ones, with the rows they rest on, head included; key -> hash.

    closed : with the new statements; corrects : statement key -> hash of the record that is put right
    """
    hashes: dict[str, str] = {}
    start_ns, end_ns = closed.start_ns, closed.end_ns
    for item in closed.statements:
        reason = f"late history through {item.history.through}" if item.history.through else "settled again"
        hashes[item.key] = ledger.correct(corrects[item.key], reason, item.to_dict(), sealed_ns)
    facts = {"start_ns": start_ns, "end_ns": end_ns, "facts": to_plain(cut(closed))}
    ledger.record("facts", facts, sealed_ns)
    ledger.head(sealed_ns)
    return hashes


def seal_prices(ledger: Ledger, data: Mapping[str, Any], sealed_ns: int) -> None:
    """Add money to a ledger, head included. data : `settlement.money.plain`"""
    ledger.record("price", data, sealed_ns)
    ledger.head(sealed_ns)


def cut(closed: Closed) -> Facts:
    """The rows that an interval's statements may use, its history and its sequel included; copies."""
    tail_ns = interval.tail_s(closed.sold) * NS
    used = interval.used(closed.sold, closed.facts, closed.start_ns, closed.end_ns + tail_ns)
    return Facts._make(_copied(value) for value in used)


def _copied(value: Any) -> Any:
    """The same in arrays of its own, whatever it is made of."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if hasattr(value, "_fields"):
        return type(value)(*(_copied(part) for part in value))
    if isinstance(value, Mapping):
        return {name: _copied(part) for name, part in value.items()}
    return value


def sold(items: Sequence[Sold]) -> list[dict[str, Any]]:
    """What is sold, products in full: neither catalogue nor configuration is needed to compute it again."""
    return [{"product": to_table(item.product), "sold_kw": item.sold_kw} for item in items]


# ---- second by second --------------------------------------------------------------------------------------------


def pool(
    items: Sequence[Sold], facts: Facts, control: Control, heard: Heard, start_ns: int, end_ns: int
) -> dict[str, Any]:
    """The interval's seconds, as the data of a `pool` record.

    Raises EvidenceError for an interval that is no whole number of seconds, or longer than a day.
    """
    if (start_ns % NS) or (end_ns - start_ns) % NS or not 0 < end_ns - start_ns <= CELLS_MAX * NS:
        raise EvidenceError(f"interval {start_ns}..{end_ns}: takes whole seconds, at most a day")
    grid = Grid(start_ns, NS, (end_ns - start_ns) // NS)
    hold_ns = round(TICK_HOLD_S * NS)
    place = (heard.t_s - start_ns // NS).astype(np.int64)
    inside = (place >= 0) & (place < grid.cells)
    columns: dict[str, Block] = {
        "t_s": start_ns // NS + np.arange(grid.cells),
        **computed(items, facts, grid),
        "asked_kw": align.of_samples(control.t_ns, control.asked_kw, grid, hold_ns).mean,
        "commanded_kw": align.of_samples(control.t_ns, control.commanded_kw, grid, hold_ns).mean,
        "commands": _counted(control.t_ns, control.commands, grid),
        "delay_ms": np.full(grid.cells, np.nan),
    }
    for name in ("quality", "reported", "acknowledged"):
        columns[name] = np.zeros(grid.cells, np.int64)
    for name in ("quality", "reported", "acknowledged", "delay_ms"):
        columns[name][place[inside]] = getattr(heard, name)[inside]
    rows = [list(row) for row in zip(*(plain(columns[name]) for name in POOL), strict=True)]
    return {"start_ns": start_ns, "end_ns": end_ns, "columns": list(POOL), "rows": rows}


def computed(items: Sequence[Sold], facts: Facts, grid: Grid) -> dict[str, Block]:
    """The columns of `pool` that follow from the recorded rows, by the methods that the statements follow."""
    lead = interval.lead_s(items)
    whole = Grid(grid.start_ns - lead * NS, grid.step_ns, grid.cells + lead)
    facts = facts._replace(samples=history.fill(facts.samples, facts.history).samples)
    facts = interval.based(items, facts, whole)
    metered = delivered.metered_kw(facts.meters, grid)
    declared = baseline.power_kw(facts.declarations, grid)
    dev = expected.deviation_hz(items[0].product, facts.samples, grid)
    known = np.minimum(np.minimum(metered.coverage_frac, declared.coverage_frac), dev.coverage_frac)
    return {
        "hz": dev.mean + items[0].product.nominal_hz,
        "metered_kw": metered.mean,
        "baseline_kw": declared.mean,
        "coverage_frac": known,
    }


def _counted(t_ns: Ints, count: Ints, grid: Grid) -> Ints:
    place = (t_ns - grid.start_ns) // grid.step_ns
    inside = (place >= 0) & (place < grid.cells)
    return np.bincount(place[inside], count[inside], grid.cells).astype(np.int64)


def plain(column: Block) -> list[Any]:
    """A column as JSON has it: NaN and infinities are null, text loses its padding."""
    if column.dtype.kind == "f":
        return [value if value - value == 0.0 else None for value in column.astype(np.float64).tolist()]
    if column.dtype.kind == "S":
        return [value.decode("utf-8", "backslashreplace") for value in column.tolist()]
    if column.dtype.kind in "iub":
        return list(column.tolist())
    raise EvidenceError(f"a column of {column.dtype} cannot be sealed: numbers and byte strings can")


# ---- the vehicles' rows ------------------------------------------------------------------------------------------


def leaves(rows: Block) -> tuple[list[str], list[tuple[Any, ...]]]:
    """(columns, rows) of a structured array as they are sealed, in order of vehicle.

    Raises EvidenceError for an array without a field `vehicle`, or with one that has no plain form.
    """
    names = rows.dtype.names or ()
    if "vehicle" not in names:
        raise EvidenceError("field `vehicle` is missing in the vehicles' rows")
    columns = ["vehicle", *(name for name in LEAF[1:] if name in names)]
    columns += [name for name in names if name not in columns and not name.startswith("pad")]
    ordered = rows[np.argsort(rows["vehicle"], kind="stable")]
    return columns, list(zip(*(plain(ordered[name]) for name in columns), strict=True))


# ---- facts, bit for bit ------------------------------------------------------------------------------------------


def to_plain(facts: Facts) -> dict[str, Any]:
    """Facts as JSON; every bit of every column comes back (`to_facts`)."""
    return {name: _plain(getattr(facts, name)) for name in facts._fields}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _packed(value)
    if hasattr(value, "_fields"):
        return {name: _plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return value


def _packed(column: Block) -> dict[str, Any]:
    """A column as base64 of deflated little-endian bytes; whole numbers as differences, which pack better."""
    column = np.ascontiguousarray(column)
    packed = column.astype(column.dtype.newbyteorder("<"))
    differs = packed.dtype.kind == "i" and packed.ndim == 1 and packed.size > 1
    if differs:
        packed = np.concatenate([packed[:1], np.diff(packed)])
    data = base64.b64encode(zlib.compress(packed.tobytes(), 6)).decode()
    return {"dtype": packed.dtype.str, "shape": list(packed.shape), "differences": bool(differs), "deflated": data}


def to_facts(found: Mapping[str, Any]) -> Facts:
    """The facts that `to_plain` wrote. Raises EvidenceError, which names the field."""
    values: dict[str, Any] = {}
    for name, kind in get_type_hints(Facts).items():
        if name not in found:
            if name in Facts._field_defaults:
                continue  # sealed before there was such a column
            raise EvidenceError(f"field `facts.{name}` is missing; it was sealed by another version")
        values[name] = _back(found[name], kind, f"facts.{name}")
    return Facts(**values)


def _back(value: Any, kind: Any, where: str) -> Any:
    inner = next((one for one in get_args(kind) if hasattr(one, "_fields")), kind)
    if get_origin(kind) is Mapping and isinstance(value, Mapping):
        return {name: _back(part, inner, f"{where}.{name}") for name, part in value.items()}
    kind = inner
    if value is None or not isinstance(value, Mapping):
        return tuple(value) if isinstance(value, list) else value
    if hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        if value.keys() != hints.keys():
            raise EvidenceError(f"field `{where}` has {sorted(value)}, {sorted(hints)} is wanted")
        return kind(**{name: _back(value[name], hints[name], f"{where}.{name}") for name in hints})
    return _unpacked(value, where)


def _unpacked(value: Mapping[str, Any], where: str) -> Block:
    try:
        dtype, shape = np.dtype(value["dtype"]), tuple(int(size) for size in value["shape"])
        data = zlib.decompress(base64.b64decode(value["deflated"], validate=True))
        column = np.frombuffer(data, dtype).reshape(shape)
        return np.cumsum(column, dtype=dtype) if value["differences"] else column.copy()
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise EvidenceError(f"field `{where}` is no packed column: {error}") from error
