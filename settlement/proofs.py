"""Show one vehicle's share, or all but the vehicles' rows: from a file of evidence to a smaller one.

Lines in, lines or a document out; nothing is signed here and nothing can be added. Whoever gets a proof sees that
vehicle's own rows and hashes, the number of vehicles and the signed head; `settlement.verifier` checks it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from settlement import merkle
from settlement.verifier import LEAF, PROOF, RECORD, VERSION


class ProofError(ValueError):
    """What cannot be proven from this evidence; the message names the vehicle or the line, and the remedy."""


class _Open(NamedTuple):
    """A root with its leaves, and the records since; waiting for the next head."""

    records: list[str]
    leaves: list[bytes]
    own: list[tuple[int, str]]  # place and row of the vehicle


def prove(
    lines: Iterable[bytes], vehicle: str, start_ns: int | None = None, end_ns: int | None = None
) -> dict[str, Any]:
    """The proof of a vehicle's rows, JSON-ready.

    lines : of files that `settlement.verifier` found whole, in their order; start_ns, end_ns : of the intervals

    Raises ProofError where the vehicle is in none of them, or its rows were left out of the file.
    """
    items: list[dict[str, Any]] = []
    ledger = ""
    redacted = 0
    root: _Open | None = None
    for number, line in enumerate(lines, 1):
        if line.startswith(b'{"leaf"'):
            redacted += _leaf(line, number, vehicle, root)
            continue
        record, text = _record(line, number)
        if record["kind"] == "open":
            ledger = record["data"]["ledger"]
        if record["kind"] == "root":
            data = record["data"]
            wanted = (start_ns is None or data["end_ns"] > start_ns) and (end_ns is None or data["start_ns"] < end_ns)
            root = _Open([text], [], []) if wanted else None
        elif root is not None:
            root.records.append(text)
            if record["kind"] == "head":
                items += _items(root)
                root = None
    if not items:
        why = f"; the rows of {redacted} leaves were left out of this file" if redacted else ""
        raise ProofError(f"vehicle `{vehicle}` is in no interval of this evidence{why}; give another id or file")
    return {"format": PROOF, "version": VERSION, "ledger": ledger, "vehicle": vehicle, "items": items}


def redact(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The same evidence without the vehicles' rows: their hashes stay, so that the roots can still be checked."""
    for number, line in enumerate(lines, 1):
        match = LEAF.fullmatch(line)
        if match is None and line.startswith(b'{"leaf"'):
            raise ProofError(f"line {number} is no whole leaf; `flyball verify` says what is wrong")
        yield line if match is None else b'{"leaf":"' + match[1] + b'"}\n'


def _record(line: bytes, number: int) -> tuple[dict[str, Any], str]:
    match = RECORD.fullmatch(line)
    if match is None:
        raise ProofError(f"line {number} is no whole record; `flyball verify` says what is wrong")
    record: dict[str, Any] = json.loads(match[2])
    return record, line.decode().rstrip("\n")


def _leaf(line: bytes, number: int, vehicle: str, root: _Open | None) -> bool:
    """Take a leaf; whether its row was left out."""
    match = LEAF.fullmatch(line)
    if match is None:
        raise ProofError(f"line {number} is no whole leaf; `flyball verify` says what is wrong")
    if root is None:
        return False
    row = match[2]
    # Only a row with the name in it is worth reading; the vehicle comes right after the salt.
    if row is not None and vehicle.encode() in row and json.loads(row)[1] == vehicle:
        root.own.append((len(root.leaves), row.decode()))
    root.leaves.append(bytes.fromhex(match[1].decode()))
    return row is None


def _items(root: _Open) -> Iterator[dict[str, Any]]:
    for index, row in root.own:
        path = [step.hex() for step in merkle.path(root.leaves, index)]
        yield {"index": index, "path": path, "records": root.records, "row": row}
