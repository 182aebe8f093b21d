"""What a journal holds and what it lacks, as one plain document. Reads manifests, and of the tables only the gaps."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aggregator.journal import Problem
from aggregator.journal_keeping import size
from aggregator.journal_parts import BACKFILL, SOURCES, Part
from aggregator.journal_reader import gaps, source_folders
from aggregator.journal_survey import survey
from aggregator.journal_tables import SCHEMA


def listing(folder: Path, problems: list[Problem]) -> dict[str, Any]:
    """Spans by epoch, kinds, gaps, removals and problems of a journal, its late history and what its sources said.

    problems : files that were passed over are added to it

    Raises JournalError `schema` for a journal of a newer version.
    """
    homes = {"journal": folder, BACKFILL: folder / BACKFILL}
    homes |= {f"{SOURCES}-{home.name}": home for home in source_folders(folder)}
    found = {name: survey(home) for name, home in homes.items()}
    problems += [problem for one in found.values() for problem in one.problems]
    parts = [part for one in found.values() for part in one.parts]
    rows = [row for home in homes.values() for row in gaps(home, problems=problems)]
    return {
        "schema": SCHEMA,
        "entries": sum(part.entries for part in parts),
        "bytes": size(parts),
        "parts": sum(bool(part.tables) for part in parts),
        "spans": [span for name, one in found.items() for span in _spans(one.parts, name)],
        "kinds": _kinds(parts),
        "gaps": [_gap(row) for row in rows],
        "removed": [row for one in found.values() for row in one.removed if row.get("size")],
        "problems": [
            {"path": str(p.path), "reason": p.reason, "detail": p.detail} for p in dict.fromkeys(problems)
        ],
    }  # fmt: skip


def _spans(parts: list[Part], of: str) -> list[dict[str, Any]]:
    """One row for each stretch of an epoch without a hole between its parts."""
    spans: list[dict[str, Any]] = []
    for part in (part for part in parts if part.tables):
        row = spans[-1] if spans else None
        if row is None or row["epoch"] != part.epoch or part.first > row["last"] + 1:
            row = {
                "of": of,
                "epoch": part.epoch,
                "first": part.first,
                "last": -1,
                "start_ns": part.first_ns,
                "end_ns": 0,
            }
            spans.append(row)
        row["last"] = max(row["last"], part.last)
        row["end_ns"] = max(row["end_ns"], part.last_ns)
    for row in spans:
        row["start"], row["end"] = _iso(row["start_ns"]), _iso(row["end_ns"])
    return spans


def _kinds(parts: list[Part]) -> dict[str, dict[str, int]]:
    kinds: dict[str, dict[str, int]] = {}
    for part in parts:
        for name, held in part.tables.items():
            if name not in part.missing:
                row = kinds.setdefault(name, {"rows": 0, "entries": 0, "bytes": 0, "files": 0})
                for key, value in (("rows", held.rows), ("entries", held.entries), ("bytes", held.size), ("files", 1)):
                    row[key] += value
    return dict(sorted(kinds.items()))


def _gap(row: Any) -> dict[str, Any]:
    plain = {name: row[name].item() for name in row.dtype.names}
    plain["of"], plain["reason"] = plain["of"].decode(), plain["reason"].decode()
    plain["after"], plain["before"] = _iso(plain["after_ns"]), _iso(plain["before_ns"])
    return plain


def _iso(t_ns: int) -> str:
    """An instant as people read it; empty for none."""
    if not t_ns:
        return ""
    return datetime.fromtimestamp(t_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
