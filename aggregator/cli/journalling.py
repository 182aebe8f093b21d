"""`flyball journal`: what a run's journal holds, and what it lacks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aggregator.cli.output import Json, app, emit, figures, writable

if TYPE_CHECKING:
    from aggregator.journal import Problem

SHOWN = 20


@app.command(epilog="Example: flyball journal var/run-20261121T080000.000 --json -")
def journal(folder: Annotated[Path, typer.Argument(help="A run's folder, or its journal.")], json: Json = None) -> None:
    """Say what a journal holds: spans, kinds with their rows and bytes, gaps with their reasons, files passed over."""
    from aggregator.journal_listing import listing

    writable(json)
    place = folder / "journal" if (folder / "journal").is_dir() else folder
    if not place.is_dir():
        raise ValueError(f"FOLDER: {folder} is no folder; give that of a run, e.g. var/run-...")
    problems: list[Problem] = []
    found = listing(place, problems)
    warn(problems)
    emit(found, json, figures(str(place), _lines(found)))


def warn(problems: list[Problem]) -> None:
    """Name the files that were passed over, on standard error."""
    each = list(dict.fromkeys(problems))
    for problem in each[:SHOWN]:
        print(f"flyball: passed over: {problem.path}: {problem.reason}: {problem.detail}", file=sys.stderr)
    if len(each) > SHOWN:
        print(f"flyball: passed over: {len(each) - SHOWN} more", file=sys.stderr)


def _lines(found: dict[str, Any]) -> dict[str, Any]:
    """The listing as people read it: one line a span, a kind and a gap."""
    lines: dict[str, Any] = {name: found[name] for name in ("entries", "bytes", "parts")}
    for row in found["spans"]:
        lines[f"epoch {row['epoch']}"] = f"{row['start']} .. {row['end']}, entries {row['first']}..{row['last']}"
    for name, row in found["kinds"].items():
        lines[name] = f"{row['rows']} rows, {row['bytes']} bytes"
    for row in found["gaps"][:SHOWN]:
        lines[f"gap in {row['of']}"] = (
            f"{row['reason']}: {row['epoch']}: {row['first']}..{row['last']}, {row['after']} .. {row['before']}"
        )
    lines["gaps"], lines["files passed over"] = len(found["gaps"]), len(found["problems"])
    return lines
