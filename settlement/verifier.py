"""Check sealed evidence: a file of records, or the proof of one vehicle's share. One file that needs nothing of ours.

Python's standard library and `cryptography` suffice: copy this file anywhere and run

    python verifier.py FILE [FILE ...] [--key PUBLIC_KEY] [--open] [--head HASH] [--json]

Exit status 0 only if everything holds, 2 otherwise, with a line for each thing found: where it is, what it is. The
format is described in docs/evidence-format.md; what is defined here is what the writer uses, too.

Everything is checked on the bytes as they stand, so that no reading of JSON can hide a change. What the figures of a
statement are worth is not decided here: `flyball verify --recompute` computes them again.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

VERSION: Final = 1
PROOF: Final = "flyball proof"
ZERO: Final = "0" * 64
PROBLEMS_MAX, KEPT_MAX = 20, 1000  # told, and kept
NS: Final = 1_000_000_000
# The frame of a line: the hash lies before what it covers, at a fixed place.
RECORD: Final = re.compile(rb'\{"hash":"([0-9a-f]{64})","record":(\{.*\})\}\n', re.DOTALL)
LEAF: Final = re.compile(rb'\{"leaf":"([0-9a-f]{64})"(?:,"row":(\[.*\]))?\}\n', re.DOTALL)
# kind -> fields of its data, each with the type it takes.
FIELDS: Final[dict[str, dict[str, type | tuple[type, ...]]]] = {
    "open": {"version": int, "ledger": str, "area": str, "key": str, "day": str, "origin": str},
    "key": {"key": str, "signature": str},
    "contract": {"from_ns": int, "contracts": list},
    "statement": {"key": str, "statement": dict},
    "pool": {"start_ns": int, "end_ns": int, "columns": list, "rows": list},
    "facts": {"start_ns": int, "end_ns": int, "facts": dict},
    "root": {"start_ns": int, "end_ns": int, "columns": list, "count": int, "root": str},
    "price": {"start_ns": int, "end_ns": int, "lines": list},
    "correction": {"corrects": str, "reason": str, "statement": dict},
    "head": {"key": str, "closes": bool, "signature": str},
}


class Problem(NamedTuple):
    """Something that does not hold. line : from 1, 0: the whole file; record : kind and number, as far as known"""

    file: str
    line: int
    record: str
    field: str
    what: str

    def __str__(self) -> str:
        where = [self.file, f"line {self.line}" if self.line else "", self.record]
        named = f"field `{self.field}`: " if self.field else ""
        return f"{', '.join(part for part in where if part)}: {named}{self.what}"


# ---- hashes and what is signed -----------------------------------------------------------------------------------


def leaf_hash(row: bytes) -> bytes:
    """RFC 6962 2.1: the hash of a leaf, apart from that of any node."""
    return hashlib.sha256(b"\x00" + row).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 2.1: the hash of a node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def record_hash(body: bytes) -> str:
    """The hash of a record, apart from those of leaves and nodes."""
    return hashlib.sha256(b"\x02" + body).hexdigest()


def tree_root(level: Sequence[bytes]) -> bytes:
    """RFC 6962 2.1: the root over the hashes of leaves in order; a last one without a partner goes up as it is."""
    if not level:
        return hashlib.sha256().digest()
    while len(level) > 1:
        pairs = [node_hash(level[k], level[k + 1]) for k in range(0, len(level) - 1, 2)]
        level = [*pairs, level[-1]] if len(level) % 2 else pairs
    return level[0]


def root_by_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """RFC 9162 2.1.3.2: the root that an inclusion path leads to; None for a path that does not fit the place."""
    if not 0 <= index < size:
        return None
    at, last, found = index, size - 1, leaf
    for step in path:
        if last == 0:
            return None
        if at % 2 or at == last:
            found = node_hash(step, found)
            while at % 2 == 0 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, step)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None


def head_text(ledger: str, seq: int, prev: str, sealed_ns: int, closes: bool) -> bytes:
    """What the signature of a head covers; `prev` covers every record before it."""
    return f"flyball head 1\n{ledger}\n{seq}\n{prev}\n{sealed_ns}\n{int(closes)}\n".encode()


def key_text(ledger: str, seq: int, prev: str, key: str) -> bytes:
    """What the old key signs where a new one takes its place."""
    return f"flyball key 1\n{ledger}\n{seq}\n{prev}\n{key}\n".encode()


def signed(key: str, signature: str, text: bytes) -> bool:
    """Whether an Ed25519 signature (RFC 8032) holds; key and signature in lower-case hexadecimal digits."""
    if not re.fullmatch("[0-9a-f]{64}", key) or not re.fullmatch("[0-9a-f]{128}", signature):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError):
        return False
    return True


# ---- a chain of records ------------------------------------------------------------------------------------------


class _Tree(NamedTuple):
    """The leaves of a root, as they come."""

    root: str
    size: int
    leaves: list[bytes]
    damaged: list[int]  # lines already reported
    at: tuple[int, str]  # line and name of the root


class Checker:
    """Follows one ledger through one file or several, line by line, and collects what does not hold.

    key : public key that must have signed; None: the one that the file names, which proves no more than wholeness
    """

    def __init__(self, key: str | None = None) -> None:
        self.problems: list[Problem] = []
        self.kinds: Counter[str] = Counter()
        self.leaves = self.redacted = 0
        self.ledger = self.area = self.key = self.origin = ""
        self.heads: list[tuple[int, str, int]] = []  # seq, hash, sealed_ns
        self.closed = False
        self.start_ns = self.end_ns = 0
        self.first_seq = -1
        self._given, self._signer = key, ""
        self._trusted = {key} if key else set()
        self._file, self._line, self._name = "", 0, ""
        self._next = -1  # number of the next record; -1: any
        self._prev: tuple[str, ...] = ()  # what the next record may be chained to; none: anything
        self._seen: dict[str, int] = {}  # hash of a record -> its line
        self._begins = True
        self._unsigned = 0
        self._tree: _Tree | None = None
        self._lost = False  # the record before these leaves is damaged, they cannot be held against it
        self._sold: dict[str, Any] | None = None
        self._stated: set[str] = set()
        self._record: dict[str, Any] = {}  # the one at hand, and its hash
        self._hash = ""
        self._backing: dict[tuple[Any, Any], set[str]] = {}  # interval -> kinds about it since the last head

    # -- files and lines

    def file(self, name: str, lines: Iterable[bytes]) -> None:
        """Check a file from its beginning to its end; files of one ledger in their order."""
        self._file, self._line, self._name, self._begins = name, 0, "", True
        if self._next >= 0 and not self.closed:
            self.report("the file before it is not closed: that was cut short, or one is missing", line=0)
        for line in lines:
            self._line += 1
            self._name = ""
            self._take(line)
        self._end_of_tree()
        if self._line == 0:
            self.report("the file is empty", line=0)
        elif self._unsigned:
            self.report(f"{self._unsigned} records after the last signed head: cut short, or never signed", line=0)

    def end(self, *, running: bool = False, head: str | None = None) -> None:
        """After the last file. running : it may still be written; head : hash of a head known before, to be in it"""
        self._name = ""
        if not self.closed and not running and not self.problems:
            self.report("no closing head: cut short, or still being written (--open lets that pass)", line=0)
        if head is not None and head not in (found for _, found, _ in self.heads):
            self.report(f"the head {head} is not in it: cut short before it, or another history", line=0)
        if self._given and self._signer not in self._trusted and not self.problems:
            self.report(f"signed by {self._signer or 'nobody'}, not by the key given", "key", line=0)

    def report(self, what: str, field: str = "", line: int | None = None) -> None:
        """Note a problem where we are."""
        if len(self.problems) < KEPT_MAX:
            at = self._line if line is None else line
            self.problems.append(Problem(self._file, at, self._name, field, what))

    def _take(self, line: bytes) -> None:
        if line.startswith(b'{"leaf"') or (self._tree is not None and not line.startswith(b'{"hash"')):
            self._leaf(line)
            return
        self._end_of_tree()
        self._unsigned += 1
        self._lost = True  # until this record is known to be whole
        match = RECORD.fullmatch(line)
        if match is None:
            self.report("not a whole line of evidence: changed, or cut short")
            self._prev, self._next, self._begins = (), self._next + (self._next >= 0), False
            return
        stated, found = match[1].decode(), record_hash(match[2])
        record = _record(match[2])
        if record is not None:
            self._name = f"{record['kind']} {record['seq']}"
        if stated != found:
            self.report("changed: its bytes and its hash do not belong together", "record")
            # Which of the two was changed the next record tells; its number cannot be trusted.
            self._prev, self._next = (stated, found), self._next + (self._next >= 0)
        elif record is None:
            self.report("not a record: `kind`, `seq`, `prev`, `sealed_ns` and `data` are wanted", "record")
            self._prev, self._next = (found,), self._next + (self._next >= 0)
        else:
            self._lost = False
            self._chain(record, found)
            self._prev, self._next = (found,), record["seq"] + 1
            self._content(record, found)
        self._begins = False

    def _chain(self, record: dict[str, Any], found: str) -> None:
        """A record must follow the one before it."""
        seq, prev = record["seq"], record["prev"]
        self.first_seq = seq if self.first_seq < 0 else self.first_seq
        if self._begins != (record["kind"] == "open"):
            self.report("a file begins with its `open` record, and has no other", "kind")
        if (seq == 0) != (prev == ZERO):
            self.report("the first record alone follows none", "prev")
        if found in self._seen:
            self.report(f"repeated: it stands in line {self._seen[found]} already", "seq")
        elif self._next >= 0 and seq > self._next:
            self.report(f"missing before it: {self._next}..{seq - 1}", "seq")
        elif 0 <= seq < self._next:
            self.report(f"out of order: {self._next} is due", "seq")
        elif self._prev and prev not in self._prev:
            self.report(f"it does not follow the record before it: {seq - 1} was replaced, or this one", "prev")
        self._seen.setdefault(found, self._line)

    # -- leaves

    def _leaf(self, line: bytes) -> None:
        self._name = f"leaf {len(self._tree.leaves)}" if self._tree else "leaf"
        if self._tree is None:
            if not self._lost:
                self.report("no root before it, or more leaves than it counts")
            return
        match = LEAF.fullmatch(line)
        if match is None or (match[2] is not None and leaf_hash(match[2]).hex() != match[1].decode()):
            about = f" (vehicle {_vehicle(match[2])})" if match is not None else ""
            self.report(f"changed: its row and its hash do not belong together{about}", "row")
            self._tree.damaged.append(self._line)
        self._tree.leaves.append(bytes.fromhex(match[1].decode()) if match is not None else b"")
        self.leaves += 1
        self.redacted += match is not None and match[2] is None
        if len(self._tree.leaves) == self._tree.size:
            self._end_of_tree()

    def _end_of_tree(self) -> None:
        """All leaves of a root are there, or something else follows."""
        tree, self._tree = self._tree, None
        if tree is None:
            return
        if len(tree.leaves) < tree.size:
            self.report(f"missing before it: leaves {len(tree.leaves)}..{tree.size - 1} of the root above")
        elif not tree.damaged and tree_root(tree.leaves).hex() != tree.root:
            self._name = tree.at[1]
            self.report("its leaves, or their order, are not those that were sealed", "root", line=tree.at[0])

    # -- records by kind

    def _content(self, record: dict[str, Any], found: str) -> None:
        kind, data = record["kind"], record["data"]
        wanted = FIELDS.get(kind)
        if wanted is None:
            self.report(f"`{kind}` is not known to version {VERSION}", "kind")
            return
        for field, types in wanted.items():
            if not isinstance(data.get(field), types) or (types is int and isinstance(data[field], bool)):
                self.report("missing, or of another type", field)
                return
        self.kinds[kind] += 1
        self.closed = False
        self._record, self._hash = record, found
        try:
            getattr(self, f"_on_{kind}")(data)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            self.report(f"a value of another type than the format has: {error}", "data")

    def _on_open(self, data: dict[str, Any]) -> None:
        if data["version"] != VERSION:
            self.report(f"{data['version']}; this verifier knows {VERSION}", "version")
        for field in ("ledger", "area", "key"):
            before = getattr(self, field)
            if before and before != data[field]:
                self.report(f"`{data[field]}`, before this file it was `{before}`", field)
            setattr(self, field, data[field])
        self.origin = data["origin"]

    def _on_key(self, data: dict[str, Any]) -> None:
        text = key_text(self.ledger, self._record["seq"], self._record["prev"], data["key"])
        if not signed(self.key, data["signature"], text):
            self.report("the key in force did not sign this one", "signature")
            return
        if self.key in self._trusted:
            self._trusted.add(data["key"])
        self.key = data["key"]

    def _on_contract(self, data: dict[str, Any]) -> None:
        self._sold = {item["product"]["id"]: item["sold_kw"] for item in data["contracts"]}

    def _on_statement(self, data: dict[str, Any]) -> None:
        item, key = data["statement"], data["key"]
        if key in self._stated:
            self.report(f"statement {key} is there already; a change is a `correction`", "key")
        self._stated.add(key)
        if item.get("key") != key:
            self.report(f"`{item.get('key')}`, the record itself says `{key}`", "statement.key")
        self._about(item, "statement")

    def _about(self, item: dict[str, Any], kind: str) -> None:
        """A statement, or one in the place of another, is of what is sold, and is backed before the next head."""
        if self._sold is None or item.get("stack") != self._sold:
            self.report(f"{item.get('stack')}, the contract before it says {self._sold}", "statement.stack")
        self._backing.setdefault((item.get("start_ns"), item.get("end_ns")), set()).add(kind)

    def _on_pool(self, data: dict[str, Any]) -> None:
        columns, rows = data["columns"], data["rows"]
        start_ns, end_ns = data["start_ns"], data["end_ns"]
        self._backing.setdefault((start_ns, end_ns), set()).add("pool")
        self.start_ns = min(self.start_ns or start_ns, start_ns)
        self.end_ns = max(self.end_ns, end_ns)
        seconds = range(start_ns // NS, -(-end_ns // NS))
        if columns[:1] != ["t_s"] or any(len(row) != len(columns) for row in rows):
            self.report("`t_s` comes first, and every row has a value for each", "columns")
            return
        wrong = next((k for k, (row, t_s) in enumerate(zip(rows, seconds, strict=False)) if row[0] != t_s), len(rows))
        if wrong < len(rows) or len(rows) != len(seconds):
            self.report(f"one a second is wanted: row {wrong} is not {seconds.start + wrong}", "rows")

    def _on_facts(self, data: dict[str, Any]) -> None:
        self._backing.setdefault((data["start_ns"], data["end_ns"]), set()).add("facts")

    def _on_root(self, data: dict[str, Any]) -> None:
        self._tree = _Tree(data["root"], data["count"], [], [], (self._line, self._name))
        if data["count"] == 0:
            self._end_of_tree()

    def _on_price(self, data: dict[str, Any]) -> None:
        """Sealed as it stands; what a line of money is worth, its market's rule says."""

    def _on_correction(self, data: dict[str, Any]) -> None:
        # What a file corrects may stand in an earlier one.
        if data["corrects"] not in self._seen and self.first_seq == 0:
            self.report(f"no record before it has the hash {data['corrects']}", "corrects")
        self._about(data["statement"], "correction")

    def _on_head(self, data: dict[str, Any]) -> None:
        if data["key"] != self.key:
            self.report(f"{data['key']}, in force is {self.key}", "key")
        seq, prev, sealed_ns = (self._record[name] for name in ("seq", "prev", "sealed_ns"))
        if not signed(data["key"], data["signature"], head_text(self.ledger, seq, prev, sealed_ns, data["closes"])):
            self.report("the signature does not hold: forged, or of another history", "signature")
            return
        for (start_ns, end_ns), kinds in self._backing.items():
            needed = {"statement": {"pool", "facts"}, "correction": {"facts"}}
            if lacking := set().union(*(needed.get(kind, set()) for kind in kinds)) - kinds:
                self.report(f"signed without {' and '.join(sorted(lacking))} of {start_ns}..{end_ns}")
        self._backing.clear()
        self._unsigned, self._signer, self.closed = 0, data["key"], data["closes"]
        self.heads.append((seq, self._hash, sealed_ns))


def _record(body: bytes) -> dict[str, Any] | None:
    """The record in its bytes; None for what is none."""
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(record, dict) and (
        type(record.get("seq")) is int and record["seq"] >= 0 and type(record.get("sealed_ns")) is int
        and isinstance(record.get("kind"), str) and isinstance(record.get("prev"), str)
        and isinstance(record.get("data"), dict)
    )  # fmt: skip
    return record if whole else None


def _vehicle(row: bytes) -> str:
    """Whose row it says it is, for a message."""
    found = re.match(rb'\["[^"]*","([^"]*)"', row)
    return repr(found[1].decode("utf-8", "replace")) if found else "unknown"


# ---- a proof of one vehicle --------------------------------------------------------------------------------------


def check_proof(proof: dict[str, Any], checker: Checker) -> list[dict[str, Any]]:
    """Hold the proof of one vehicle's share against the heads in it; its rows, as far as they hold, by column."""
    rows: list[dict[str, Any]] = []
    checker.ledger = str(proof.get("ledger"))
    if proof.get("version") != VERSION:
        checker.report(f"{proof.get('version')}; this verifier knows {VERSION}", "version")
        return rows
    seen: set[tuple[str, int]] = set()
    for number, item in enumerate(proof.get("items") or []):
        checker._line, checker._name = 0, f"item {number}"
        try:
            row = _proven(proof, item, checker)
            place = (item["records"][0], item["index"])
            if place in seen:
                checker.report("it stands in this proof already: the same share, told twice", "items")
                continue
            seen.add(place)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            checker.report(f"cannot be read: {error}")
            continue
        if row is not None:
            rows.append(row)
    if not rows and not checker.problems:
        checker.report("there is nothing in it", "items")
    return rows


def _proven(proof: dict[str, Any], item: dict[str, Any], checker: Checker) -> dict[str, Any] | None:
    """One quarter of an hour: row -> root -> records up to a signed head."""
    records = []
    for line in item["records"]:
        match = RECORD.fullmatch(line.encode() + b"\n")
        if match is None or record_hash(match[2]) != match[1].decode():
            checker.report("a record was changed: its bytes and its hash do not belong together", "records")
            return None
        records.append((json.loads(match[2]), match[1].decode()))
    for (_, before), (record, _) in pairwise(records):
        if record["prev"] != before:
            checker.report(f"record {record['seq']} does not follow the one before it", "records")
            return None
    (root, _), (head, _) = records[0], records[-1]
    if root["kind"] != "root" or head["kind"] != "head":
        checker.report("takes the records from a root to the next head", "records")
        return None
    data, signer = root["data"], head["data"]["key"]
    text = head_text(checker.ledger, head["seq"], head["prev"], head["sealed_ns"], head["data"]["closes"])
    if not signed(signer, head["data"]["signature"], text):
        checker.report("the signature of its head does not hold", "signature")
        return None
    if checker._given and signer != checker._given:
        checker.report(f"signed by {signer}, not by the key given", "key")
        return None
    path = [bytes.fromhex(step) for step in item["path"] if re.fullmatch("[0-9a-f]{64}", step)]
    found = root_by_path(leaf_hash(item["row"].encode()), item["index"], data["count"], path)
    if found is None or found.hex() != data["root"]:
        checker.report("this row, at this place, is not under the root that was sealed", "row")
        return None
    row = dict(zip(data["columns"], json.loads(item["row"])[1:], strict=True))
    if row.get("vehicle") != proof["vehicle"]:
        checker.report(f"a row of {row.get('vehicle')}, the proof is of {proof['vehicle']}", "vehicle")
        return None
    checker.key = signer
    checker.heads.append((head["seq"], records[-1][1], head["sealed_ns"]))
    checker.start_ns = min(checker.start_ns or data["start_ns"], data["start_ns"])
    checker.end_ns = max(checker.end_ns, data["end_ns"])
    return row


# ---- files -------------------------------------------------------------------------------------------------------


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, plain or gzipped. Raises OSError, EOFError where a gzipped one is damaged or cut short."""
    with path.open("rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if zipped else path.open("rb") as file:
        yield from file


def verify(
    paths: Sequence[Path], key: str | None = None, *, running: bool = False, head: str | None = None
) -> dict[str, Any]:
    """Verify evidence files in their order, or one proof; what was found, `ok` only if everything holds.

    Raises OSError where a file cannot be read.
    """
    checker = Checker(key)
    rows: list[dict[str, Any]] | None = None
    proof = _proof(paths[0]) if len(paths) == 1 else None
    if proof is not None:
        checker._file = str(paths[0])
        rows = check_proof(proof, checker)
    else:
        for path in paths:
            try:
                checker.file(str(path), lines(path))
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                checker.report(f"the compressed file is damaged or cut short from here on: {error}")
        checker.end(running=running, head=head)
    return {
        "ok": not checker.problems, "files": [str(path) for path in paths], "ledger": checker.ledger,
        "area": checker.area, "key": checker.key, "key_given": key is not None, "origin": checker.origin,
        "closed": checker.closed, "start_ns": checker.start_ns, "end_ns": checker.end_ns,
        "records": dict(checker.kinds), "leaves": checker.leaves, "redacted": checker.redacted,
        "heads": len(checker.heads), "head": checker.heads[-1][1] if checker.heads else None,
        "problems": [problem._asdict() | {"text": str(problem)} for problem in checker.problems[:PROBLEMS_MAX]],
        "problems_count": len(checker.problems), **({} if rows is None else {"rows": rows}),
    }  # fmt: skip


def _proof(path: Path) -> dict[str, Any] | None:
    """The proof in a file; None for a file of another kind."""
    with path.open("rb") as file:
        if not file.read(64).lstrip().startswith(b'{"format":"' + PROOF.encode()):
            return None
    try:
        proof = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return proof if isinstance(proof, dict) else {}


def public_key(text: str) -> str:
    """A public key as given: its 64 hexadecimal digits, or a file that begins with them. Raises ValueError."""
    found = text.strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", found) and Path(text).is_file():
        found = Path(text).read_text(encoding="ascii", errors="replace").split("\n")[0].strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", found):
        raise ValueError(f"--key {text}: give 64 hexadecimal digits, or a file with them")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description="Verify sealed evidence, or the proof of one vehicle's share.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--key", help="public key, as published by who sealed it")
    parser.add_argument("--open", action="store_true", help="the last file may still be written")
    parser.add_argument("--head", help="hash of a head known from before, which must be in it")
    parser.add_argument("--json", action="store_true", help="write what was found as JSON")
    asked = parser.parse_args(argv)
    try:
        key = public_key(asked.key) if asked.key else None
        found = verify(asked.files, key, running=asked.open, head=asked.head)
    except (OSError, ValueError) as error:
        print(f"verifier: {error}", file=sys.stderr)
        return 2
    if asked.json:
        print(json.dumps(found, indent=2))
    for problem in found["problems"]:
        print(problem["text"], file=sys.stderr)
    if not asked.json and found["ok"]:
        print(f"whole: {sum(found['records'].values())} records, {found['leaves']} leaves, key {found['key']}")
    return 0 if found["ok"] else 2


if __name__ == "__main__":
    raise SystemExit(main())
