"""The journal's files: parts that are written whole or not at all, and what stands in a folder.

    YYYY-MM-DDTHH/<table>-<epoch>-<first>-<last>.parquet    rows of one kind (`journal_tables`), UTC hour of the calls
    YYYY-MM-DDTHH/part-<epoch>-<first>-<last>.json          the part's manifest, written last: the commit point
    removed.jsonl                                           what retention took, a line each

A part holds every entry of an epoch from `first` to `last`. Its tables are written to temporary names, synced and
renamed, the folder is synced, then the same is done with the manifest: a crash at any byte leaves a whole part or
leftovers that the next writer removes. A part that lies within another of the same hour is superseded by it.

Policy for what is damaged: a file that is not the journal's, or not whole (size against the manifest, then Parquet's
own page checksums, number of rows, columns), is named with a reason and passed over; what it held is a gap. Only a
version newer than ours is refused outright. Files are readable by their owner alone. Knows no stream and no clock.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from aggregator import journal_tables
from aggregator.journal import JournalError, Problem
from aggregator.journal_tables import NAMES, SCHEMA

MANIFEST: Final = "part"
REMOVED: Final = "removed.jsonl"
BACKFILL: Final = "backfill"
SOURCES: Final = "sources"
# What else belongs in a journal's folder.
BESIDE: Final = frozenset({"statements", "accounts", REMOVED, BACKFILL, SOURCES, "lost+found"})
META: Final = b"flyball.journal"
HOUR_NS: Final = 3_600_000_000_000

_HOUR: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}")
_FILE: Final = re.compile(r"([a-z]+)-(\d{20})-(\d{20})-(\d{20})\.(parquet|json)")
_TEMPORARY: Final = ".tmp"
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


class Survey(NamedTuple):
    """What stands in a folder.

    parts    : by epoch and number, superseded ones left out
    leftover : files of ours that a crash may have left: never committed, or superseded
    removed  : the lines of `removed.jsonl`
    """

    parts: list[Part]
    leftover: list[Path]
    problems: list[Problem]
    removed: list[dict[str, Any]]


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
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
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


# ---- looking -----------------------------------------------------------------------------------------------------


def survey(folder: Path) -> Survey:
    """What stands in a journal's folder. A missing folder is an empty journal.

    Raises JournalError `schema` for a part of a newer version.
    """
    problems: list[Problem] = []
    found: list[Part] = []
    leftover: list[Path] = []
    strays: list[Path] = []  # tables without a manifest
    for place in sorted(folder.iterdir()) if folder.is_dir() else []:
        if _HOUR.fullmatch(place.name) and place.is_dir():
            _look(place, found, leftover, strays, problems)
        elif place.name not in BESIDE and not place.name.startswith("."):
            problems.append(Problem(place, "foreign", "not the journal's; move it away"))
    parts, superseded = _standing(sorted(found))
    leftover += superseded
    _sort_strays(parts, strays, leftover, problems)
    removed = _removed(folder, problems)
    gone = {(row["hour"], row["table"], row["stem"]) for row in removed}
    for part in parts:
        problems += [
            Problem(part.table(name), *_defect(part, name))
            for name in sorted(part.missing & part.tables.keys())
            if (part.hour.name, name, part.stem) not in gone
        ]
    return Survey(parts, leftover, problems, removed)


def _look(
    place: Path, found: list[Part], leftover: list[Path], strays: list[Path], problems: list[Problem]
) -> None:  # fmt: skip
    """Sort the files of one hour."""
    stems: set[str] = set()
    tables: list[tuple[str, Path]] = []
    try:
        paths = sorted(place.iterdir())
    except FileNotFoundError:
        return  # its last file was removed at this moment
    for path in paths:
        name = _FILE.fullmatch(path.name)
        if name is None or (name[5] == "json") != (name[1] == MANIFEST) or name[1] not in (*NAMES, MANIFEST):
            if path.name.endswith(_TEMPORARY) and _FILE.fullmatch(path.name[1 : -len(_TEMPORARY)]):
                leftover.append(path)
            else:
                problems.append(Problem(path, "foreign", "not the journal's; move it away"))
        elif name[5] == "json":
            stems.add(path.stem.partition("-")[2])
            _take(path, found, problems)
        else:
            tables.append((path.stem.partition("-")[2], path))
    # Tables of a manifest that cannot be read stay: someone may mend it.
    strays += [path for stem, path in tables if stem not in stems]


def _take(path: Path, found: list[Part], problems: list[Problem]) -> None:
    try:
        part = _decode(path)
    except FileNotFoundError:
        return  # superseded at this moment
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, JournalError) and error.reason == "schema":
            raise
        problems.append(Problem(path, "manifest", f"cannot be read ({error}); restore it, or move its part away"))
        # Its name still says what is missing.
        epoch, first, last = (int(number) for number in path.stem.split("-")[1:])
        found.append(Part(epoch, first, last, path.parent, 0, 0, None, 0, {}, frozenset(NAMES)))
        return
    whole = {name for name, held in part.tables.items() if _size(part.table(name)) == held.size}
    found.append(part._replace(missing=frozenset(part.tables) - whole))


def _decode(path: Path) -> Part:
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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _standing(found: list[Part]) -> tuple[list[Part], list[Path]]:
    """Parts that no other one of the same hour holds whole, and the files of those that one does."""
    standing: list[Part] = []
    files: list[Path] = []
    for _, many in groupby(
        sorted(found, key=lambda p: (p.hour, p.epoch, p.first, -p.last)), lambda p: (p.hour, p.epoch)
    ):
        last = -1
        for part in many:
            if part.last <= last:
                files += [part.manifest, *(path for name in part.tables if (path := part.table(name)).exists())]
                continue
            standing.append(part)
            if not part.missing:
                last = part.last
    return sorted(standing), files


def _sort_strays(
    parts: list[Part], strays: list[Path], leftover: list[Path], problems: list[Problem]
) -> None:  # fmt: skip
    """Tables without a manifest: leftovers if what they hold will come again or lies elsewhere, else a loss."""
    end: dict[int, int] = {}
    for part in parts:
        end[part.epoch] = max(end.get(part.epoch, -1), part.last)
    newest = max(end, default=-1)
    for path in strays:
        _, epoch, first, last = path.stem.split("-")
        again = int(epoch) > newest or (int(epoch) == newest and int(first) > end[newest])
        if again or any(p.epoch == int(epoch) and p.first <= int(first) and int(last) <= p.last for p in parts):
            leftover.append(path)
        else:
            crossing = [p for p in parts if p.epoch == int(epoch) and p.first >= int(first) and p.last <= int(last)]
            if crossing and crossing[0].first == int(first) and crossing[-1].last == int(last):
                leftover.append(path)  # of a merging that did not get to its end
            else:
                problems.append(Problem(path, "orphan", "its part's manifest is missing; restore it or move it away"))


def _removed(folder: Path, problems: list[Problem]) -> list[dict[str, Any]]:
    path = folder / REMOVED
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            row = orjson.loads(line)
            found.append({**row, "hour": row["hour"], "table": row["table"], "stem": row["stem"]})
        except (orjson.JSONDecodeError, KeyError, TypeError):
            problems.append(Problem(path, "line", f"line {number} cannot be read"))
    return found


def _defect(part: Part, name: str) -> tuple[str, str]:
    path, wanted = part.table(name), part.tables[name].size
    if not path.exists():
        return "missing", f"its manifest has {part.tables[name].rows} rows in it; restore it"
    return "torn", f"{_size(path)} bytes of {wanted}; restore it"


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
