"""What stands in a journal's folder: its parts, what a crash left behind, and what is not as it should be.

A part that lies within another of the same hour is superseded by it. Policy for what is damaged: a file that is not the
journal's, or not whole by the size in its manifest, is named with a reason and passed over; what it held is a gap. Only
a version newer than ours is refused outright. Reads no rows; `journal_parts` does.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from aggregator.journal import JournalError, Problem
from aggregator.journal_parts import BACKFILL, MANIFEST, REMOVED, SOURCES, TEMPORARY, Part, decode
from aggregator.journal_tables import NAMES

# What else belongs in a journal's folder.
BESIDE: Final = frozenset({"statements", "accounts", REMOVED, BACKFILL, SOURCES, "lost+found"})

_HOUR: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}")
_FILE: Final = re.compile(r"([a-z]+)-(\d{20})-(\d{20})-(\d{20})\.(parquet|json)")


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
            if path.name.endswith(TEMPORARY) and _FILE.fullmatch(path.name[1 : -len(TEMPORARY)]):
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
        part = decode(path)
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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
