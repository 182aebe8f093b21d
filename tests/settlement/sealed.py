"""A small ledger with a record of every kind, and what a forger does to it: for the tests of the verifier."""

from __future__ import annotations

import json
from copy import deepcopy

from settlement.ledger import Key, Ledger, encode
from settlement.verifier import RECORD, Checker, record_hash

NS = 1_000_000_000
START_NS = 1_700_000_100 * NS
KEY, NEW_KEY, FORGER = (Key(bytes([n]) * 32) for n in (1, 2, 3))
COLUMNS = ["vehicle", "start_ns", "end_ns", "delivered_kwh", "reason"]


def statement(start_ns: int, score: float) -> dict:
    return {
        "key": f"{start_ns}:ce_fcr", "product": "ce_fcr", "start_ns": start_ns, "end_ns": start_ns + 3 * NS,
        "stack": {"ce_fcr": 1000.0}, "score": score,
    }  # fmt: skip


def batch(ledger: Ledger, k: int, vehicles: int = 5) -> str:
    """One interval of three seconds, head included; the hash of its statement."""
    start_ns = START_NS + 3 * k * NS
    now_ns = start_ns + 10 * NS
    first_s = start_ns // NS
    item = statement(start_ns, 0.9)
    hashed = ledger.record("statement", {"key": item["key"], "statement": item}, now_ns)
    rows = [[first_s + n, 49.98, 100.0 + n, None] for n in range(3)]
    pool = {"start_ns": start_ns, "end_ns": start_ns + 3 * NS, "columns": ["t_s", "hz", "asked_kw", "metered_kw"]}
    ledger.record("pool", pool | {"rows": rows}, now_ns)
    ledger.record("facts", {"start_ns": start_ns, "end_ns": start_ns + 3 * NS, "facts": {"notes": []}}, now_ns)
    shares = [(f"EV{n}", start_ns, start_ns + 3 * NS, 0.1 * n, "none") for n in range(vehicles)]
    ledger.root(start_ns, start_ns + 3 * NS, COLUMNS, shares, now_ns)
    ledger.head(now_ns)
    return hashed


def begun(ledger: Ledger) -> None:
    ledger.open("ce", "2023-11-14", "live", START_NS)
    contract = [{"product": {"id": "ce_fcr", "curve": [[-0.2, 1.0], [0.2, -1.0]]}, "sold_kw": 1000.0}]
    ledger.record("contract", {"from_ns": START_NS, "contracts": contract}, START_NS)


def whole(vehicles: int = 5) -> list[bytes]:
    """A closed file: two intervals, a key in between, money, a correction."""
    ledger = Ledger(KEY)
    begun(ledger)
    first = batch(ledger, 0, vehicles)
    ledger.rotate(NEW_KEY, START_NS + 11 * NS)
    batch(ledger, 1, vehicles)
    line = {"what": "availability", "amount": "12.34", "currency": "EUR"}
    money = {"start_ns": START_NS, "end_ns": START_NS + 6 * NS, "lines": [line]}
    ledger.record("price", money, START_NS + 20 * NS)
    ledger.correct(first, "late history", statement(START_NS, 0.95), START_NS + 21 * NS)
    facts = {"start_ns": START_NS, "end_ns": START_NS + 3 * NS, "facts": {"notes": ["late"]}}
    ledger.record("facts", facts, START_NS + 21 * NS)
    ledger.head(START_NS + 22 * NS, closes=True)
    return ledger.take()


def problems(lines, key=None, **ending):
    checker = Checker(key)
    checker.file("f", lines)
    checker.end(**ending)
    return checker.problems


def body(line: bytes) -> dict:
    return json.loads(RECORD.fullmatch(line)[2])


def line_of(record: dict, stated: str | None = None) -> bytes:
    """A record as a line, with its own hash or a stated one."""
    text = encode(record)
    return b'{"hash":"' + (stated or record_hash(text)).encode() + b'","record":' + text + b"}\n"


def rechained(lines: list[bytes], at: int) -> list[bytes]:
    """All hashes after a change made right again, as a forger without the key would."""
    found, before = [], None
    for number, line in enumerate(lines):
        if RECORD.fullmatch(line) and before is not None and number > at:
            line = line_of(body(line) | {"prev": before})
        match = RECORD.fullmatch(line)
        before = match[1].decode() if match else before
        found.append(line)
    return found


def places(value, path=()):
    """Every value within a record, with the way to it."""
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*path, name))
    elif isinstance(value, list) and value:
        for k, item in enumerate(value):
            yield from places(item, (*path, k))
    else:
        yield path, value


def changed(record: dict, path: tuple, value) -> dict:
    """The record with another value at that place."""
    copy = deepcopy(record)
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    if isinstance(value, bool):
        inner[path[-1]] = not value
    elif isinstance(value, int | float):
        inner[path[-1]] = value + 1
    elif isinstance(value, str):
        inner[path[-1]] = ("0" if value[:1] != "0" else "1") + value[1:]
    else:
        inner[path[-1]] = "x"
    return copy
