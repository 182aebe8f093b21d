"""Housekeeping of a journal's folder: small parts merged, old ones removed. For the one writer of the folder.

`merge` makes parts of up to MERGED_BYTES out of neighbours in an hour that is over. The merged part is committed before
the small ones are deleted; they are superseded from its manifest on, so a crash at any byte loses and doubles nothing.

`thin` removes whole tables of hours that are over: those older than their kind's limit, then the oldest hours while the
journal is larger than its limit. What goes is written to `removed.jsonl` first, so that readers can tell a limit from a
loss. Never removed: the hour in progress and the RESTART_HOURS before it. What a restarted settlement needs of earlier
hours, settings and sessions (`calls`, `sessions`), is small: it goes by a limit that names it alone, and never while it
is the newest epoch's. Statements are not the journal's to remove.

Knows no clock: the hour in progress is that of the newest part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from aggregator.journal import JournalError
from aggregator.journal_parts import HOUR_NS, MANIFEST, REMOVED, Part, TableFile, create, hour_ns, write
from aggregator.journal_survey import survey
from aggregator.journal_tables import CALLS

MERGED_BYTES: Final = 64 << 20  # a second or two of work at a time
PIECE_ROWS: Final = 262_144  # of a merged table, in memory at once
RESTART_HOURS: Final = 2
DAY_NS: Final = 24 * HOUR_NS
NEEDED: Final = frozenset({CALLS, "sessions"})


class Limits(NamedTuple):
    """How long things are kept; 0 is for ever.

    days : of every table; kind_days : of some, by name, instead; size : bytes of all tables together
    """

    days: float = 0.0
    kind_days: Mapping[str, float] = {}
    size: int = 0


class Removed(NamedTuple):
    """What was taken: a line of `removed.jsonl`. why : `days` or `size`; table `part` is the manifest"""

    hour: str
    table: str
    stem: str
    rows: int
    size: int
    why: str


class Unmergeable(JournalError):
    """Parts that cannot be merged because one is damaged; `hour` is to be skipped from now on."""

    def __init__(self, hour: str, error: JournalError) -> None:
        super().__init__(error.reason, f"{hour}: {error}")
        self.hour = hour


def merge(folder: Path, skip: Collection[str] = (), limit: int = MERGED_BYTES) -> Part | None:
    """Merge one group of neighbours in an hour that is over; the merged part, None when there is nothing to merge.

    skip : hours to leave alone

    Raises OSError or pyarrow's ArrowException where the disk does not take it, Unmergeable for a damaged part: then
    nothing was changed.
    """
    parts = survey(folder).parts
    if not parts:
        return None
    running = max(part.hour.name for part in parts)
    for (name, _), together in groupby(parts, lambda part: (part.hour.name, part.epoch)):
        if name < running and name not in skip:
            for group in _groups(list(together), limit):
                try:
                    return _merged(group)
                except JournalError as error:
                    raise Unmergeable(name, error) from error
    return None


def _groups(parts: list[Part], limit: int) -> Iterator[list[Part]]:
    """Neighbours that follow on each other without a hole and together stay below the limit."""
    group: list[Part] = []
    for part in parts:
        fits = group and part.first == group[-1].last + 1 and sum(p.size for p in group) + part.size <= limit
        if part.missing or not fits:
            if len(group) > 1:
                yield group
            group = []
        if not part.missing:
            group.append(part)
    if len(group) > 1:
        yield group


def _merged(group: list[Part]) -> Part:
    times = [ns for part in group for ns in (part.first_ns, part.last_ns) if ns]
    whole = group[-1]._replace(
        first=group[0].first, first_ns=min(times, default=0), last_ns=max(times, default=0),
        entries=sum(part.entries for part in group), tables={},
    )  # fmt: skip
    names = sorted({name for part in group for name in part.tables})
    made = write(whole, {name: _pieces(group, name) for name in names})
    for part in group:
        _delete(part)
    return made


def _pieces(group: list[Part], name: str) -> Iterator[pa.Table]:
    """The rows of one table in all parts, in large pieces."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for part in group:
        if name not in part.tables:
            continue
        file = TableFile(part, name)
        for batch in file.batches():
            waiting.append(batch)
            rows += batch.num_rows
            if rows >= PIECE_ROWS:
                yield pa.Table.from_batches(waiting)
                waiting, rows = [], 0
        file.close()
    if waiting:
        yield pa.Table.from_batches(waiting)


def _delete(part: Part) -> None:
    part.manifest.unlink(missing_ok=True)
    for name in part.tables:
        part.table(name).unlink(missing_ok=True)


def thin(folder: Path, limits: Limits, tell: Callable[[Removed], None] = lambda _: None) -> list[Removed]:
    """Remove what the limits no longer cover; what that was. tell : told of each table before it goes

    Raises OSError where the folder cannot be written: what was not told is still there.
    """
    parts = survey(folder).parts
    if not parts:
        return []
    newest = parts[-1].epoch
    running_ns = max(hour_ns(part.hour.name) for part in parts)
    over = [part for part in parts if hour_ns(part.hour.name) < running_ns - RESTART_HOURS * HOUR_NS]
    over.sort(key=lambda part: (part.hour.name, part.epoch, part.first))
    going = list(_aged(over, limits, running_ns, newest))
    kept = sum(part.size for part in parts) - sum(row.size for _, row in going)
    chosen = {(part.stem, row.table) for part, row in going}
    if limits.size:
        for part in over:
            if kept <= limits.size:
                break
            for name in _free(part, newest):
                if name not in NEEDED and (part.stem, name) not in chosen:
                    going.append((part, _row(part, name, "size")))
                    kept -= part.tables[name].size
    _remove(folder, going, tell)
    return [row for _, row in going]


def _aged(parts: Iterable[Part], limits: Limits, running_ns: int, newest: int) -> Iterator[tuple[Part, Removed]]:
    for part in parts:
        age_ns = running_ns - hour_ns(part.hour.name)
        for name in _free(part, newest):
            days = limits.kind_days.get(name, 0.0 if name in NEEDED else limits.days)
            if days and age_ns > days * DAY_NS:
                yield part, _row(part, name, "days")


def _free(part: Part, newest: int) -> list[str]:
    """Tables of a part that are there and may go."""
    return sorted(name for name in part.tables.keys() - part.missing if part.epoch != newest or name not in NEEDED)


def _row(part: Part, name: str, why: str) -> Removed:
    held = part.tables[name]
    return Removed(part.hour.name, name, part.stem, held.rows, held.size, why)


def _remove(folder: Path, going: list[tuple[Part, Removed]], tell: Callable[[Removed], None]) -> None:
    for _, group in groupby(going, lambda pair: pair[0].hour):
        rows = list(group)
        by_part: dict[str, tuple[Part, list[Removed]]] = {}
        for part, row in rows:
            by_part.setdefault(part.stem, (part, []))[1].append(row)
        for part, gone in by_part.values():
            _note(folder, gone, emptied=not part.tables.keys() - part.missing - {row.table for row in gone})
            for row in gone:
                tell(row)
                part.table(row.table).unlink(missing_ok=True)
            if not any(part.table(name).exists() for name in part.tables):
                part.manifest.unlink(missing_ok=True)
        _forget(rows[0][0].hour)


def _note(folder: Path, rows: list[Removed], *, emptied: bool) -> None:
    """Write what is about to go, so that it survives a power cut; a part whose last table goes is named as well."""
    lines: list[dict[str, Any]] = [row._asdict() for row in rows]
    if emptied:
        lines.append(rows[0]._replace(table=MANIFEST, rows=0, size=0)._asdict())
    path = folder / REMOVED
    with path.open("ab") if path.exists() else create(path) as file:
        file.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())


def _forget(place: Path) -> None:
    """An hour's folder goes with its last file."""
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()


def size(parts: Iterable[Part]) -> int:
    """Bytes of all tables that are there."""
    return int(
        np.sum([held.size for p in parts for name, held in p.tables.items() if name not in p.missing], dtype=int)
    )
