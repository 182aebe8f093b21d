"""Evidence on disk: one file a day, appended to, a batch of records with a signed head at a time.

    YYYY-MM-DD-<number of its first record>.jsonl      UTC day of the intervals in it

A batch is written whole and synced before anyone is told. A crash in the middle of one leaves records without a head,
or a line without its end: nobody was told of them, they are cut off at the next start and sealed again. A line that is
whole and does not hold is damage, not a crash: the file is left as it is and refused by name. Files are readable by
their owner alone. Knows no clock and no journal.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from settlement.ledger import Key, Ledger, LedgerError, Place
from settlement.verifier import RECORD, lines, record_hash

FOLDER: Final = "evidence"
Sold = list[dict[str, Any]]  # as `settlement.evidence.sold` has it
# Adds a batch to a ledger, given what is sold as this file knows it; statement key -> hash, and what is sold now.
Filling = Callable[[Ledger, Sold | None], tuple[dict[str, str], Sold]]
_FILE: Final = re.compile(r"(\d{4}-\d{2}-\d{2})-(\d{10})\.jsonl")


class EvidenceDamaged(LedgerError):
    """A file of evidence that cannot be gone on with; the message names the line and the remedy."""


class _Ending:
    """What a file says of where its ledger stands, as far as it is signed."""

    def __init__(self) -> None:
        self.place: Place | None = None
        self.size = 0  # up to the end of the last head
        self.closed = False
        self.sealed: dict[str, str] = {}
        self.revisions: dict[str, int] = {}
        self.priced: dict[str, int] = {}
        self.contract: Sold | None = None


class EvidenceFiles:
    """The ledger of a folder; one writer.

    keys : all that have signed, the one that signs now last
    area : of the grid, for a ledger that begins

    sealed    : statement key -> hash of its newest record, of the last two days
    revisions : statement key -> revision of it, where it was corrected
    priced    : statement key -> revision whose money is sealed
    contract  : what was sold when the last record was made

    Raises EvidenceDamaged, LedgerError `key` where the ledger's key is not among them, OSError.
    """

    def __init__(self, folder: Path, keys: Sequence[Key], area: str, origin: str = "live") -> None:
        self._folder, self._keys, self._area, self._origin = folder, keys, area, origin
        self.sealed: dict[str, str] = {}
        self.revisions: dict[str, int] = {}
        self.priced: dict[str, int] = {}
        self.contract: Sold | None = None
        self.cut_bytes = 0  # taken off the end of the last file at the start
        self._place: Place | None = None
        self._path: Path | None = None
        self._size = 0
        self._day = ""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in _recent(evidence_files(folder)):
            self._resume(path)

    def hash_of(self, key: str) -> str | None:
        """Hash of the newest record of a statement, in any file; None where it was never sealed."""
        if key not in self.sealed:
            kept = {path.name for path in _recent(evidence_files(self._folder))}
            for path in reversed([p for p in evidence_files(self._folder) if p.name not in kept]):
                found = _ending(path, None).sealed
                if key in found:
                    return found[key]
        return self.sealed.get(key)

    @property
    def public(self) -> str:
        """The public key that signs now."""
        return self._keys[-1].public

    @property
    def head(self) -> str:
        """Hash of the newest head; empty before the first. Whoever keeps it can tell a history from another."""
        return self._place.prev if self._place else ""

    def append(self, day: str, fill: Filling, sealed_ns: int) -> Path:
        """Write what `fill` adds to the ledger, with the head it ends with; the file it stands in.

        Raises OSError: nothing counts as written, and the same may be tried again.
        """
        day = max(day, self._day)
        if self._path is not None and day > self._day:
            self._close(sealed_ns)
        ledger = Ledger(self._key(), self._place)
        path = self._path
        if path is None:
            seq = self._place.seq if self._place else 0
            path = self._folder / f"{day}-{seq:010d}.jsonl"
            ledger.open(self._area, day, self._origin, sealed_ns)
            self.contract = None  # every file says for itself what is sold
        if ledger.place is not None and ledger.place.key != self._keys[-1].public:
            ledger.rotate(self._keys[-1], sealed_ns)
        hashes, contract = fill(ledger, self.contract)
        self._write(path, ledger)
        self._path, self._day, self.contract = path, day, contract
        self.sealed |= hashes
        return path

    def close(self, sealed_ns: int) -> None:
        """End the file; what comes next begins another."""
        if self._path is not None:
            self._close(sealed_ns)

    def _close(self, sealed_ns: int) -> None:
        assert self._path is not None  # noqa: S101 - asked by the callers
        ledger = Ledger(self._key(), self._place)
        ledger.head(sealed_ns, closes=True)
        self._write(self._path, ledger)
        self._path, self._size = None, 0

    def _key(self) -> Key:
        """The key in force; it may be older than the one that is to sign."""
        if self._place is None:
            return self._keys[-1]
        for key in self._keys:
            if key.public == self._place.key:
                return key
        raise LedgerError(
            f"field `key`: the ledger in {self._folder} is signed by {self._place.key}, which is not among the keys; "
            "put its file back, or move the ledger away to begin another"
        )

    def _write(self, path: Path, ledger: Ledger) -> None:
        """Append the ledger's lines, whole or not at all."""
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(handle, self._size)  # what an attempt before this one may have left
            os.lseek(handle, self._size, os.SEEK_SET)
            data = memoryview(b"".join(ledger.take()))
            size, done = self._size + len(data), 0
            while done < len(data):
                done += os.write(handle, data[done:])
            os.fsync(handle)
        except OSError:
            with suppress(OSError):
                os.ftruncate(handle, self._size)
            raise
        finally:
            os.close(handle)
        if not self._size:
            _sync(self._folder)
        self._place, self._size = ledger.place, size

    def _resume(self, path: Path) -> None:
        found = _ending(path, self._place)
        last = path == evidence_files(self._folder)[-1]
        torn = path.stat().st_size - found.size
        if torn and not last:
            raise EvidenceDamaged(f"{path}: {torn} bytes after its last head, and a file after it; restore it")
        if torn:
            self.cut_bytes += torn
            with path.open("r+b") as file:
                file.truncate(found.size)
                os.fsync(file.fileno())
        if found.place is None:
            path.unlink()  # its first batch never got whole
            _sync(self._folder)
            return
        self._place, self.contract = found.place, found.contract
        self.sealed |= found.sealed
        self.revisions |= found.revisions
        self.priced |= found.priced
        self._day = path.name[:10]
        self._path, self._size = (None, 0) if found.closed else (path, found.size)


def evidence_files(folder: Path) -> list[Path]:
    """A folder's files of evidence, in the order of their records."""
    return sorted((p for p in folder.iterdir() if _FILE.fullmatch(p.name)), key=lambda p: (p.stem[-10:], p.name))


def _recent(paths: Sequence[Path]) -> list[Path]:
    """The files of the last two days; a day has one more for each time that the line was started."""
    days = sorted({path.name[:10] for path in paths})[-2:]
    return [path for path in paths if path.name[:10] in days]


def _ending(path: Path, place: Place | None) -> _Ending:
    """Read a file for where it ends. Leaves are passed over: they come after their root and before its head.

    place : where the file before it ended; None: not known
    """
    end = _Ending()
    size, seen = 0, _Ending()
    for number, line in enumerate(lines(path), 1):
        size += len(line)
        if not line.endswith(b"\n"):
            break
        if line.startswith(b'{"leaf"'):
            continue
        kind, record, found = _checked(path, number, line, place)
        data = record["data"]
        if kind == "open":
            place = Place(data["ledger"], data["area"], record["seq"], record["prev"], data["key"])
        if place is None:
            raise EvidenceDamaged(f"{path}: line {number} is no `open` record, with which a file begins; restore it")
        place = place._replace(seq=record["seq"] + 1, prev=found, key=data["key"] if kind == "key" else place.key)
        if kind == "statement":
            seen.sealed[data["key"]] = found
        elif kind == "correction":
            seen.sealed[data["statement"]["key"]] = found
            seen.revisions[data["statement"]["key"]] = data["statement"].get("revision", 0)
        elif kind == "price":
            seen.priced |= {named["key"]: named["revision"] for named in data.get("statements", ())}
        elif kind == "contract":
            seen.contract = data["contracts"]
        elif kind == "head":
            end.place, end.size, end.closed = place, size, data["closes"]
            end.sealed, end.revisions, end.contract = dict(seen.sealed), dict(seen.revisions), seen.contract
            end.priced = dict(seen.priced)
    return end


def _checked(path: Path, number: int, line: bytes, place: Place | None) -> tuple[str, dict[str, Any], str]:
    """A record that is whole and follows the one before it."""
    match = RECORD.fullmatch(line)
    found = record_hash(match[2]) if match else ""
    if match is None or found != match[1].decode():
        raise EvidenceDamaged(f"{path}: line {number} was changed; restore the file, or move it away")
    record: dict[str, Any] = json.loads(match[2])
    if place is not None and (record["seq"], record["prev"]) != (place.seq, place.prev):
        raise EvidenceDamaged(f"{path}: line {number} does not follow the one before it; restore the file")
    return str(record["kind"]), record, found


def read(paths: Sequence[Path]) -> Iterator[bytes]:
    """The lines of several files, one after the other."""
    for path in paths:
        yield from lines(path)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class EvidenceFile:
    """A ledger of its own in one file, whole or not at all: what is sealed later from a journal.

    path : taken once all is in it (`close`); until then a file beside it, which `drop` removes
    """

    def __init__(self, path: Path, keys: Sequence[Key], area: str) -> None:
        self.sealed: dict[str, str] = {}
        self.revisions: dict[str, int] = {}
        self.priced: dict[str, int] = {}
        self.public = keys[-1].public
        self.head = ""
        self._path, self._area = path, area
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        self._ledger = Ledger(keys[-1])
        self._contract: Sold | None = None
        self._file = os.fdopen(os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")

    def append(self, day: str, fill: Filling, sealed_ns: int) -> Path:
        """See `EvidenceFiles.append`."""
        if self._ledger.place is None:
            self._ledger.open(self._area, day, "journal", sealed_ns)
        hashes, self._contract = fill(self._ledger, self._contract)
        self._file.writelines(self._ledger.take())
        self.sealed |= hashes
        self.head = self._ledger.last
        return self._path

    def hash_of(self, key: str) -> str | None:
        """See `EvidenceFiles.hash_of`."""
        return self.sealed.get(key)

    def close(self, sealed_ns: int) -> None:
        """End it and let it take its name."""
        self._ledger.head(sealed_ns, closes=True)
        self._file.writelines(self._ledger.take())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self._path)
        _sync(self._path.parent)

    def drop(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)
