"""The ledger: records that each carry the hash of the one before, and heads that sign them. Bytes only, no file.

A record is written once and never changed; what was wrong is put right by a `correction` that names what it corrects.
The format is that of docs/evidence-format.md and is defined in `settlement.verifier`, which checks it; where the lines
go, and what time it is, the caller says.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from settlement import merkle, verifier
from settlement.verifier import VERSION, ZERO, head_text, key_text, record_hash

SEED_BYTES: Final = 32
ORIGINS: Final = ("live", "journal")


class LedgerError(ValueError):
    """A record that cannot be sealed; the message names the field and the remedy."""


class Place(NamedTuple):
    """Where a ledger stands: what the next record needs to know of those before it."""

    ledger: str
    area: str
    seq: int  # of the next record
    prev: str  # hash of the last one
    key: str  # public key in force


class Key:
    """A signing key (Ed25519, RFC 8032). seed : 32 bytes"""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw().hex()
        # Salts must be unknown to others and the same again; the seed itself goes nowhere.
        self.salting = hmac.digest(seed, b"flyball salts 1", "sha256")

    def sign(self, text: bytes) -> str:
        """The signature, hexadecimal."""
        return self._private.sign(text).hex()


class Ledger:
    """Makes lines, in order, until `take`.

    key   : signs the heads
    place : where an earlier life of the ledger ended; None: it begins

    Raises LedgerError `key` where the place is signed by another key than this one (`rotate` changes it).
    """

    def __init__(self, key: Key, place: Place | None = None) -> None:
        if place is not None and place.key != key.public:
            raise LedgerError(f"field `key`: the ledger is signed by {place.key}, not by {key.public}; give its key")
        self._key = key
        self._place = place
        self._lines: list[bytes] = []
        self.last = ""  # hash of the newest record

    @property
    def place(self) -> Place | None:
        """Where it stands; None before it begins."""
        return self._place

    def take(self) -> list[bytes]:
        """The lines made since, each ending with a newline."""
        made, self._lines = self._lines, []
        return made

    def open(self, area: str, day: str, origin: str, sealed_ns: int) -> None:
        """Begin a file. origin : `live`, or `journal` for what is sealed later from recorded rows"""
        if origin not in ORIGINS:
            raise LedgerError(f"field `origin` takes one of {', '.join(ORIGINS)}, not `{origin}`")
        if self._place is None:
            seed = f"{area}\n{self._key.public}\n{origin}\n{sealed_ns}"
            name = hashlib.sha256(seed.encode()).hexdigest()[:16]
            self._place = Place(f"{area}-{name}", area, 0, ZERO, self._key.public)
        p = self._place
        self.record(
            "open",
            {
                "version": VERSION, "ledger": p.ledger, "area": p.area, "key": p.key, "day": day, "origin": origin,
            },
            sealed_ns,
        )  # fmt: skip

    def record(self, kind: str, data: Mapping[str, Any], sealed_ns: int) -> str:
        """Add a record of any kind but those with a method of their own; its hash.

        data : JSON-ready, finite; numpy scalars and arrays are taken

        Raises LedgerError for an unknown kind, a missing field, or before `open`.
        """
        p = self._place
        if p is None:
            raise LedgerError(f"record `{kind}`: the ledger is not open; `open` it first")
        wanted = verifier.FIELDS.get(kind)
        if wanted is None:
            raise LedgerError(f"field `kind` takes one of {', '.join(verifier.FIELDS)}, not `{kind}`")
        for name in wanted:
            if name not in data:
                raise LedgerError(f"record `{kind}`: field `{name}` is missing")
        body = encode({"data": data, "kind": kind, "prev": p.prev, "sealed_ns": sealed_ns, "seq": p.seq})
        self.last = record_hash(body)
        self._lines.append(b'{"hash":"' + self.last.encode() + b'","record":' + body + b"}\n")
        self._place = p._replace(seq=p.seq + 1, prev=self.last)
        return self.last

    def root(
        self, start_ns: int, end_ns: int, columns: Sequence[str], rows: Iterable[Sequence[Any]], sealed_ns: int
    ) -> str:
        """Seal the rows of an interval, one a vehicle: a root, and the salted rows as its leaves; its hash."""
        p = self._place
        label = f"{p.ledger if p else ''}:{start_ns}:{end_ns}"
        rows = list(rows)
        salts = merkle.salts(self._key.salting, label, len(rows))
        texts = [encode([salt, *row]) for salt, row in zip(salts, rows, strict=True)]
        leaves = [merkle.leaf_hash(text) for text in texts]
        found = self.record(
            "root",
            {
                "start_ns": start_ns, "end_ns": end_ns, "columns": list(columns), "count": len(texts),
                "root": merkle.tree_root(leaves).hex(),
            },
            sealed_ns,
        )  # fmt: skip
        self._lines += [
            b'{"leaf":"' + leaf.hex().encode() + b'","row":' + text + b"}\n"
            for leaf, text in zip(leaves, texts, strict=True)
        ]
        return found

    def correct(self, corrects: str, reason: str, statement: Mapping[str, Any], sealed_ns: int) -> str:
        """A new statement in the place of an older one. corrects : hash of that one's record"""
        return self.record(
            "correction", {"corrects": corrects, "reason": reason, "statement": dict(statement)}, sealed_ns
        )

    def head(self, sealed_ns: int, *, closes: bool = False) -> str:
        """Sign everything so far. closes : nothing follows in this file"""
        p = self._standing("head")
        text = head_text(p.ledger, p.seq, p.prev, sealed_ns, closes)
        data = {"key": p.key, "closes": closes, "signature": self._key.sign(text)}
        return self.record("head", data, sealed_ns)

    def rotate(self, key: Key, sealed_ns: int) -> str:
        """From here on another key signs; the old one vouches for it."""
        p = self._standing("key")
        text = key_text(p.ledger, p.seq, p.prev, key.public)
        found = self.record("key", {"key": key.public, "signature": self._key.sign(text)}, sealed_ns)
        self._key = key
        self._place = self._standing("key")._replace(key=key.public)
        return found

    def _standing(self, kind: str) -> Place:
        if self._place is None:
            raise LedgerError(f"record `{kind}`: the ledger is not open; `open` it first")
        return self._place


def encode(value: Any) -> bytes:
    """A value as the bytes that are sealed: JSON without blanks, keys in order, no NaN (it becomes null)."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
