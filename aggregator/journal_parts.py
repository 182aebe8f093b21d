"""The journal's files: parts that are written whole or not at all.

    YYYY-MM-DDTHH/<table>-<epoch>-<first>-<last>.parquet    rows of one kind (`journal_tables`), UTC hour of the calls
    YYYY-MM-DDTHH/part-<epoch>-<first>-<last>.json          the part's manifest, written last: the commit point
    removed.jsonl                                           what retention took, a line each

A part holds every entry of an epoch from `first` to `last`. Its tables are written to temporary names, synced and
renamed, the folder is synced, then the same is done with the manifest: a crash at any byte leaves a whole part or
leftovers that the next writer removes; `journal_survey` says what stands in a folder. A table that is not whole by
Parquet's own page checksums, its number of rows and its columns is named with a reason: `TableFile`. Files are readable
by their owner alone. Knows no stream and no clock.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from aggregator import journal_tables
from aggregator.journal import JournalError
from aggregator.journal_tables import SCHEMA

MANIFEST: Final = "part"
REMOVED: Final = "removed.jsonl"
BACKFILL: Final = "backfill"
SOURCES: Final = "sources"
META: Final = b"flyball.journal"
HOUR_NS: Final = 3_600_000_000_000

TEMPORARY: Final = ".tmp"
WRITE_ERRORS: Final = (OSError, pa.ArrowException)


class Held(NamedTuple):
    """What a part's manifest says of one table."""

    rows: int
    entries: int
    size: int  # bytes


class Part(NamedTuple):
    """Entries `first` to `last` of an epoch, as they lie in one hour.

    last_id  : newest stream ID that is on disk whole, this part included; None where none is yet
    first_ns, last_ns : least and greatest time of its calls; 0 where none has a time
    tables   : what it holds; missing : those of them that are not there whole; all there are, and no tables, where its
               manifest cannot be read
    """

    epoch: int
    first: int
    last: int
    hour: Path
    first_ns: int
    last_ns: int
    last_id: str | None
    entries: int
    tables: dict[str, Held]
    missing: frozenset[str] = frozenset()

    @property
    def stem(self) -> str:
        """Its place in the order, as its files' names have it."""
        return f"{self.epoch:020d}-{self.first:020d}-{self.last:020d}"

    @property
    def manifest(self) -> Path:
        """Its commit point."""
        return self.hour / f"{MANIFEST}-{self.stem}.json"

    @property
    def size(self) -> int:
        """Bytes of its tables."""
        return sum(held.size for held in self.tables.values())

    def table(self, name: str) -> Path:
        """The file of one of its tables."""
        return self.hour / f"{name}-{self.stem}.parquet"


def hour(now_ns: int) -> str:
    """Folder of the entries of an hour."""
    return datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H")


def hour_ns(name: str) -> int:
    """When the hour of a folder began."""
    return int(datetime.strptime(name, "%Y-%m-%dT%H").replace(tzinfo=UTC).timestamp()) * 1_000_000_000


# ---- writing -----------------------------------------------------------------------------------------------------


def write(part: Part, tables: Mapping[str, Iterable[pa.Table]]) -> Part:
    """Write a part, whole or not at all; as it stands then, with the sizes of its files.

    tables : pieces of each table, in order, a row group each; one at a time is in memory

    Raises OSError or pa.ArrowException: nothing was committed, and what was begun is removed where that is possible.
    """
    part.hour.mkdir(mode=0o700, exist_ok=True)  # not its parent: a journal whose disk is gone waits for it
    held: dict[str, Held] = {}
    for name, pieces in tables.items():
        held[name] = _write_table(part, name, pieces)
    _sync(part.hour)
    whole = part._replace(tables=held, missing=frozenset())
    replace(whole.manifest, manifest(whole))
    _sync(part.hour.parent)
    return whole


def _write_table(part: Part, name: str, pieces: Iterable[pa.Table]) -> Held:
    rows = entries = 0
    about = {"table": name, "epoch": part.epoch, "first": part.first, "last": part.last, "schema": SCHEMA}
    columns = journal_tables.schema(name).with_metadata({META: orjson.dumps(about)})
    options: dict[str, Any] = {
        "compression": "zstd", "write_page_checksum": True, **journal_tables.encodings(columns)
    }  # fmt: skip
    with _created(part.table(name)) as file, pq.ParquetWriter(file, columns, **options) as writer:
        last = None
        for piece in pieces:
            if not piece.num_rows:
                continue
            writer.write_table(piece.cast(columns))
            rows += piece.num_rows
            seqs = piece.column("entry_seq").to_numpy()
            entries += int((seqs[1:] != seqs[:-1]).sum()) + int(last is None or seqs[0] != last)
            last = seqs[-1]
    return Held(rows, entries, part.table(name).stat().st_size)


def replace(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all, so that it survives a power cut."""
    with _created(path) as file:
        file.write(data)
    _sync(path.parent)


@contextmanager
def _created(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name once it is whole and on disk."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        with create(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # a full disk should not stay full because of what we could not finish
            temporary.unlink()
        raise


def create(path: Path) -> IO[bytes]:
    """A new file for its owner's eyes alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def manifest(part: Part) -> bytes:
    """A part's manifest, with a checksum of its own."""
    plain = {
        "schema": SCHEMA, "epoch": part.epoch, "first": part.first, "last": part.last, "first_ns": part.first_ns,
        "last_ns": part.last_ns, "last_id": part.last_id, "entries": part.entries,
        "tables": {name: held._asdict() for name, held in part.tables.items()},
    }  # fmt: skip
    return orjson.dumps({"part": plain, "crc32": _crc32(plain)}, option=orjson.OPT_INDENT_2)


def _crc32(plain: Any) -> int:
    return zlib.crc32(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS))


def decode(path: Path) -> Part:
    """The part of a manifest.

    Raises OSError, ValueError, TypeError, KeyError where it cannot be read; JournalError `schema` for a newer version.
    """
    document = orjson.loads(path.read_bytes())
    plain = document["part"]
    if document["crc32"] != _crc32(plain):
        raise ValueError("its checksum does not fit")
    if plain["schema"] > SCHEMA:
        raise JournalError("schema", f"{path}: version {plain['schema']}, this reader knows {SCHEMA}; upgrade flyball")
    tables = {name: Held(**held) for name, held in plain["tables"].items()}
    part = Part(
        plain["epoch"], plain["first"], plain["last"], path.parent, plain["first_ns"], plain["last_ns"],
        plain["last_id"], plain["entries"], tables,
    )  # fmt: skip
    if part.manifest.name != path.name:
        raise ValueError("it is another part's")
    return part


# ---- reading -----------------------------------------------------------------------------------------------------


class TableFile:
    """One table of a part, open for reading: what is deleted meanwhile is still read to its end.

    Raises FileNotFoundError, or JournalError `file` if it is damaged, `schema` if it is of a newer version.
    """

    def __init__(self, part: Part, name: str) -> None:
        self.part, self.name = part, name
        self.path = part.table(name)
        try:
            self._file = pq.ParquetFile(self.path, page_checksum_verification=True, pre_buffer=False)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from error
        about = self._file.schema_arrow.metadata or {}
        wanted = {"table": name, "epoch": part.epoch, "first": part.first, "last": part.last}
        try:
            told = orjson.loads(about.get(META, b""))
            version = told.pop("schema")
        except (orjson.JSONDecodeError, KeyError, AttributeError) as error:
            raise self._damaged("it does not say whose it is") from error
        if version > SCHEMA:
            raise JournalError("schema", f"{self.path}: version {version}, this reader knows {SCHEMA}; upgrade flyball")
        if told != wanted or not journal_tables.fits(self._file.schema_arrow, name):
            raise self._damaged("it is another table's, or has other columns")
        if self._file.metadata.num_rows != part.tables[name].rows:
            raise self._damaged(f"{self._file.metadata.num_rows} rows of {part.tables[name].rows}")

    def batches(self, rows: int = 65_536, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Its rows, so many at a time. Raises JournalError `file` where it is damaged."""
        count = 0
        try:
            for batch in self._file.iter_batches(rows, columns=columns, use_threads=False):
                count += batch.num_rows
                yield batch
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from error
        if count != self.part.tables[self.name].rows:
            raise self._damaged(f"{count} rows of {self.part.tables[self.name].rows}")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _damaged(self, why: object) -> JournalError:
        return JournalError("file", f"{self.path}: {' '.join(str(why).split())}; restore it or move it away")
