"""The journal's reader: entries in order or rows of one kind, each once, with what is missing told beside.

Reads while the journal is being written, merged and thinned out: a part that was superseded meanwhile is looked up
again. Streaming: a batch of each table is in memory, whatever the length. What is damaged is passed over with a Problem
that names it, and is a gap: in `entries` a GAP entry in its place, in `read` and `gaps` a row. Reasons, besides those
of `journal_files`: `damaged` (a file that is not whole), `retention` (taken by the limits), `file` (no file has them
and nothing says why), `restart` (the journal lacks nothing, but the worker was away between two of its epochs).

Knows no stream and no clock; a folder that is not there is an empty journal.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from aggregator import journal, records
from aggregator.journal import TABLE_OF, Block, Entry, JournalError, Kind, Problem, Span
from aggregator.journal_parts import BACKFILL, MANIFEST, SOURCES, Part, TableFile
from aggregator.journal_survey import Survey, survey
from aggregator.journal_tables import CALLS, FREQUENCY_TABLE, NAMES, TABLES, Judged, block_of, entries_of
from aggregator.records import GAP

START: Final = -1
ROWS: Final = 65_536


class _Opened(NamedTuple):
    """A part with its tables open. after : the last number that earlier parts have given already"""

    part: Part
    after: int
    files: list[TableFile]


class Numbered(NamedTuple):
    """Rows and their entries. rows : of the kind's dtype, [n]; epoch, seq : int64[n]"""

    rows: Block
    epoch: Block
    seq: Block


def read(folder: Path, kind: Kind, start_ns: int | None = None, end_ns: int | None = None) -> Span:
    """See `journal.read`."""
    problems: list[Problem] = []
    found = list(blocks(folder, kind, start_ns, end_ns, problems))
    rows = np.concatenate([np.zeros(0, TABLES[_table(kind)][1]), *found])
    lacking = [gaps(home, start_ns, end_ns, {_table(kind)}, problems) for home in _homes(folder, kind)]
    return Span(rows, np.concatenate([np.zeros(0, GAP), *lacking]), _each(problems))


def blocks(
    folder: Path, kind: Kind, start_ns: int | None = None, end_ns: int | None = None,
    problems: list[Problem] | None = None,
) -> Iterator[Block]:  # fmt: skip
    """`read` for spans too long for memory: the same rows, a block at a time. problems : those met are added to it"""
    name = _table(kind)
    for home in _homes(folder, kind):
        for batch in _batches(home, name, start_ns, end_ns, problems):
            yield block_of(batch, TABLES[name][1])


def judged(
    folder: Path, start_ns: int | None = None, end_ns: int | None = None, problems: list[Problem] | None = None
) -> Iterator[Judged]:
    """Frequency samples with what became of each; those that never reached a worker are rows of `gaps`."""
    for batch in _batches(folder, FREQUENCY_TABLE, start_ns, end_ns, problems):
        rows = block_of(batch, TABLES[FREQUENCY_TABLE][1])
        yield Judged(rows, *(batch.column(name).to_numpy(zero_copy_only=False) for name in ("fate", "marks")))


def numbered(folder: Path, kind: Kind, problems: list[Problem] | None = None) -> Iterator[Numbered]:
    """`blocks` with the number of the entry that brought each row."""
    name = _table(kind)
    for home in _homes(folder, kind):
        for batch in _batches(home, name, None, None, problems):
            epoch, seq = (batch.column(f"entry_{of}").to_numpy().astype(np.int64) for of in ("epoch", "seq"))
            yield Numbered(block_of(batch, TABLES[name][1]), epoch, seq)


def entries(
    folder: Path, kinds: Collection[Kind] | None = None, start_ns: int | None = None, end_ns: int | None = None,
    problems: list[Problem] | None = None,
) -> Iterator[Entry]:  # fmt: skip
    """Entries in order, each once; GAP entries among them wherever entries of these kinds are missing.

    kinds : only these (and GAP, if there is a gap); problems : those met are added to it

    A START knows no time and lies with what follows it.
    """
    wanted = None if kinds is None else {*kinds, Kind.GAP}
    names = set(NAMES) if wanted is None else {TABLE_OF.get(kind, CALLS) for kind in wanted} | {CALLS}
    told = [] if problems is None else problems
    place = (START, START, 0)
    for opened in _walk(folder, names, start_ns, end_ns, told):
        if isinstance(opened, np.ndarray):
            yield _as_entry(opened, place[2])
            continue
        part, last = opened.part, opened.after
        try:
            for entry in heapq.merge(*(entries_of(f.name, f.batches()) for f in opened.files), key=lambda e: e.seq):
                if entry.seq <= opened.after or not _within(entry.now_ns or part.first_ns, start_ns, end_ns):
                    continue
                last = entry.seq
                if entry.kind is Kind.GAP:
                    last += int(journal.rows(entry, GAP)["last"][0]) - entry.seq
                if wanted is None or entry.kind in wanted:
                    place = (part.epoch, last, entry.now_ns)
                    yield entry
        except JournalError as error:
            told.append(Problem(_named(part, names, error), "damaged", str(error)))
            first = max(last + 1, part.first)
            yield journal.gap(first, part.last - first + 1, part.last_ns, "damaged", part.epoch, place[2])


def gaps(
    folder: Path, start_ns: int | None = None, end_ns: int | None = None, tables: Collection[str] | None = None,
    problems: list[Problem] | None = None,
) -> Block:  # fmt: skip
    """GAP rows between two times, in order: recorded ones and those that the files themselves show.

    tables : whose rows must be there, by name; None: all of them
    """
    told: list[Problem] = [] if problems is None else problems
    names = set(NAMES if tables is None else tables)
    samples = FREQUENCY_TABLE in names and not _beside(folder)
    found = [np.zeros(0, GAP)]
    for name in ("gaps", "lost") if samples else ("gaps",):
        found += [block_of(batch, GAP) for batch in _batches(folder, name, None, None, told)]
    holes, whole = _holes(survey(folder), names)
    found = [*(_restarts(whole) if samples else []), *found, *holes]
    damaged = {problem.path for problem in told if problem.reason == "damaged"}  # what only reading tells
    found += [
        _hole(part.epoch, part.first, part.last, "damaged", part.first_ns, part.last_ns)
        for part in whole
        if any(part.table(name) in damaged for name in part.tables.keys() & names)
    ]
    rows = np.concatenate(found)
    if name := _beside(folder):
        rows["of"] = name
    low_ns = np.where(rows["after_ns"] == 0, rows["before_ns"], rows["after_ns"])
    high_ns = np.where(rows["before_ns"] == 0, rows["after_ns"], rows["before_ns"])
    keep = np.ones(rows.size, bool)
    if start_ns is not None:
        keep &= high_ns >= start_ns
    if end_ns is not None:
        keep &= low_ns < end_ns
    return rows[keep][np.lexsort((rows["first"][keep], rows["epoch"][keep]))]


def _table(kind: Kind) -> str:
    name = TABLE_OF.get(kind, CALLS)
    if name not in TABLES:
        raise JournalError("kind", f"{kind.name} has no rows; read its entries (`journal_reader.entries`)")
    return name


def source_folders(folder: Path) -> list[Path]:
    """Where the record of each ingest's sources lies, in order of their names."""
    return sorted(path for path in (folder / SOURCES).glob("*") if path.is_dir())


def _homes(folder: Path, kind: Kind) -> list[Path]:
    """Where the rows of a kind lie: one folder, and of the sources one for each ingest."""
    if kind is Kind.SOURCES:
        return source_folders(folder)
    return [folder / BACKFILL if kind is Kind.BACKFILL else folder]


def _beside(folder: Path) -> str:
    """What a folder beside the journal numbers, as its gaps name it; empty for the journal itself."""
    if folder.parent.name == SOURCES:
        return f"{SOURCES}-{folder.name}"
    return BACKFILL if folder.name == BACKFILL else ""


def _each(problems: list[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))


def _within(now_ns: int, start_ns: int | None, end_ns: int | None) -> bool:
    return (start_ns is None or now_ns >= start_ns) and (end_ns is None or now_ns < end_ns)


def _batches(
    folder: Path, name: str, start_ns: int | None, end_ns: int | None, problems: list[Problem] | None
) -> Iterator[pa.RecordBatch]:
    """Rows of one table, those of entries between two times, each entry's once."""
    told = [] if problems is None else problems
    for opened in _walk(folder, {name}, start_ns, end_ns, told):
        if isinstance(opened, np.ndarray):
            continue  # `gaps` tells
        for file in opened.files:
            try:
                for batch in file.batches(ROWS):
                    yield _cut(batch, opened.after, start_ns, end_ns)
            except JournalError as error:
                told.append(Problem(file.path, "damaged", str(error)))


def _cut(batch: pa.RecordBatch, after: int, start_ns: int | None, end_ns: int | None) -> pa.RecordBatch:
    keep = np.ones(batch.num_rows, bool)
    if after > START:
        keep &= batch.column("entry_seq").to_numpy() > np.uint64(after)
    now_ns = batch.column("entry_ns").to_numpy()
    if start_ns is not None:
        keep &= now_ns >= start_ns
    if end_ns is not None:
        keep &= now_ns < end_ns
    return batch if keep.all() else batch.filter(pa.array(keep))


def _walk(
    folder: Path, names: set[str], start_ns: int | None, end_ns: int | None, problems: list[Problem]
) -> Iterator[_Opened | Block]:
    """Parts in order with these tables open, and a GAP row wherever one of these tables is not to be had."""
    done = (START, START)
    while True:
        seen = survey(folder)
        problems += [p for p in seen.problems if p not in problems]
        holes, whole = _holes(seen, names)
        line: list[tuple[tuple[int, int], Part | Block]] = [((part.epoch, part.first), part) for part in whole]
        line += [((int(hole["epoch"][0]), int(hole["first"][0])), hole) for hole in holes]
        again = False
        for _, item in sorted(line, key=lambda pair: pair[0]):
            if isinstance(item, np.ndarray):
                if (int(item["epoch"][0]), int(item["last"][0])) > done and _touches(item, start_ns, end_ns):
                    yield item
                    done = max(done, (int(item["epoch"][0]), int(item["last"][0])))
                continue
            if (item.epoch, item.last) <= done:
                continue
            if not _overlaps(item, start_ns, end_ns):
                done = max(done, (item.epoch, item.last))
                continue
            try:
                files = [TableFile(item, name) for name in sorted(item.tables.keys() & names)]
            except FileNotFoundError:
                again = True  # merged or removed since we looked
                break
            except JournalError as error:
                if error.reason == "schema":
                    raise
                problems.append(Problem(_named(item, names, error), "damaged", str(error)))
                yield _hole(item.epoch, max(item.first, done[1] + 1 if done[0] == item.epoch else 0), item.last,
                            "damaged", item.first_ns, item.last_ns)  # fmt: skip
                done = (item.epoch, item.last)
                continue
            yield _Opened(item, done[1] if done[0] == item.epoch else START, files)
            for file in files:
                file.close()
            done = (item.epoch, item.last)
        if not again:
            return


def _named(part: Part, names: set[str], error: JournalError) -> Path:
    """The file that an error names."""
    return next(
        (part.table(name) for name in part.tables.keys() & names if str(part.table(name)) in str(error)), part.hour
    )


def _overlaps(part: Part, start_ns: int | None, end_ns: int | None) -> bool:
    return (start_ns is None or part.last_ns >= start_ns) and (end_ns is None or part.first_ns < end_ns)


def _touches(hole: Block, start_ns: int | None, end_ns: int | None) -> bool:
    after_ns, before_ns = int(hole["after_ns"][0]), int(hole["before_ns"][0])
    return (start_ns is None or not before_ns or before_ns >= start_ns) and (end_ns is None or after_ns < end_ns)


def _holes(seen: Survey, names: set[str]) -> tuple[list[Block], list[Part]]:
    """(GAP rows, parts): numbers that no part has whole as far as these tables go, and the parts that are."""
    whole = [part for part in seen.parts if not part.missing & names]
    lacking = [part for part in seen.parts if part.missing & names]
    taken = {_numbers(row["stem"]) for row in seen.removed if row["table"] in names}
    # A part that went whole and held none of these tables leaves no hole in them.
    spans = {_numbers(row["stem"]): (0, 0) for row in seen.removed if row["table"] == MANIFEST}
    spans = {span: times for span, times in spans.items() if span not in taken}
    spans |= {(part.epoch, part.first, part.last): (part.first_ns, part.last_ns) for part in whole}
    holes: list[Block] = []
    for epoch in sorted({part.epoch for part in seen.parts} | {row[0] for row in taken}):
        at, after_ns = 0, 0
        for (_, first, last), times in sorted(item for item in spans.items() if item[0][0] == epoch):
            if first > at:
                holes.append(_explained((epoch, at, first - 1), after_ns, times[0], lacking, taken))
            at, after_ns = max(at, last + 1), max(after_ns, times[1])
        ends = [part.last for part in lacking if part.epoch == epoch] + [row[2] for row in taken if row[0] == epoch]
        if max(ends, default=-1) >= at:
            holes.append(_explained((epoch, at, max(ends)), after_ns, 0, lacking, taken))
    return holes, whole


def _numbers(stem: str) -> tuple[int, int, int]:
    epoch, first, last = stem.split("-")
    return int(epoch), int(first), int(last)


def _meet(a: tuple[int, int, int], b: tuple[int, int, int]) -> bool:
    """Whether two spans of (epoch, first, last) have a number in common."""
    return a[0] == b[0] and a[1] <= b[2] and b[1] <= a[2]


def _explained(
    span: tuple[int, int, int], after_ns: int, before_ns: int, lacking: list[Part], taken: set[tuple[int, int, int]]
) -> Block:
    """A hole with its reason, and times from the parts it swallowed where no neighbour has one."""
    inside = [part for part in lacking if _meet(span, (part.epoch, part.first, part.last))]
    removed = any(_meet(span, row) for row in taken)
    if inside:
        after_ns = after_ns or min(part.first_ns for part in inside)
        before_ns = before_ns or max(part.last_ns for part in inside)
    return _hole(*span, "retention" if removed else "damaged" if inside else "file", after_ns, before_ns)


def _hole(epoch: int, first: int, last: int, reason: str, after_ns: int, before_ns: int) -> Block:
    return records.gap("journal", reason, epoch, first, last, after_ns, before_ns)


def _restarts(parts: list[Part]) -> list[Block]:
    """A row for each time that one epoch of the worker gave way to the next."""
    found = []
    for before, after in pairwise(parts):
        if before.epoch != after.epoch:
            found.append(records.gap("frequency", "restart", after.epoch, 0, 0, before.last_ns, after.first_ns))
    return found


def _as_entry(hole: Block, now_ns: int) -> Entry:
    """A hole as the entry that stands in its place."""
    row = hole[0]
    return Entry(Kind.GAP, 0, int(row["first"]), int(row["before_ns"]) or now_ns, hole.tobytes())
