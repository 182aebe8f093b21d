"""A settlement as a folder of files: all of it or nothing, and what was billed before is kept.

`statements`, `lines` and `totals` in the form asked for, `entries.jsonl` (the account, see `settlement.entries`) and
`manifest.json`, which names the files. The folder is made under another name, synced and renamed, so that a reader
never sees half of one. A folder that holds an earlier settlement is replaced by one that goes on from its account.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from aggregator.billing import Settled, line_rows, summary, total_rows
from aggregator.journal_parts import create
from settlement import entries
from settlement.entries import Entry

FORMATS: Final = ("csv", "parquet", "json")
MANIFEST: Final = "manifest.json"
ACCOUNT: Final = "entries.jsonl"
PRETTY: Final = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY

Row = Mapping[str, Any]


class ExportError(ValueError):
    """A folder that cannot be written to; the message names it and the remedy."""


def check(out: Path, form: str) -> None:
    """Refuse a folder that is not a settlement's, before the work is done. Raises ExportError, EntryError."""
    if form not in FORMATS:
        raise ExportError(f"--format {form}: takes one of {', '.join(FORMATS)}")
    _finish(out)
    if out.exists() and not out.is_dir():
        raise ExportError(f"--out {out}: is a file; give a folder")
    if not out.absolute().parent.is_dir():
        raise ExportError(f"--out {out}: no such folder to make it in; make it, or give another path")
    if out.is_dir() and any(out.iterdir()):
        theirs = {entry.name for entry in out.iterdir()} - _files(out)
        if theirs:
            raise ExportError(f"--out {out}: holds {min(theirs)}, which no settlement wrote; give an empty folder")
    account(out)


def account(out: Path) -> list[Entry]:
    """What was billed into a folder so far."""
    path = out / ACCOUNT
    return entries.load(path.read_text(encoding="utf-8"), str(path)) if path.exists() else []


def export(out: Path, form: str, settled: Settled, beside: Mapping[str, bytes] | None = None) -> dict[str, Any]:
    """Write the folder; what was written, as a result tells it.

    beside : more files to write with them, by name
    """
    check(out, form)
    before = account(out)
    files = {f"statements.{form}": table([flat(item.to_dict()) for item in settled.statements], form)}
    added: list[Entry] = []
    told: dict[str, Any] = {"out": str(out), "format": form, "intervals": len(settled.statements)}
    if settled.bill is not None:
        files[f"lines.{form}"] = table(line_rows(settled.bill), form)
        files[f"totals.{form}"] = table(total_rows(settled.bill), form)
        added = entries.post(before, settled.bill)
        told |= {"income": summary(settled.bill)}
    if before or added:
        files[ACCOUNT] = "".join(entries.dump(entry) + "\n" for entry in (*before, *added)).encode()
    files |= beside or {}
    told |= {"entries_added": len(added), "corrections": sum(entry.kind == "correction" for entry in added)}
    told["files"] = sorted([*files, MANIFEST])
    files[MANIFEST] = orjson.dumps(told, option=PRETTY) + b"\n"
    _replace(out, files)
    return told


def flat(plain: Row, prefix: str = "") -> dict[str, Any]:
    """A record with its inner records spelt out: `samples.count`, `unserved_kwh.soc`."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return found


def table(rows: Sequence[Row], form: str) -> bytes:
    """Rows as a file. Decimals stay decimals: digits in CSV, decimal columns in Parquet, texts in JSON."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if form == "json":
        return orjson.dumps(list(rows), default=str, option=PRETTY) + b"\n"
    if form == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
        return text.getvalue().encode()
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: _column([row.get(name) for row in rows]) for name in names}), buffer)
    return buffer.getvalue()


def _column(values: list[Any]) -> pa.Array:
    if any(isinstance(value, Decimal) for value in values):
        places = max(-int(value.as_tuple().exponent) for value in values if value is not None)
        return pa.array(values, pa.decimal128(38, max(places, 0)))
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        values = [None if value is None else float(value) for value in values]
    elif len(kinds) > 1:
        values = [None if value is None else str(value) for value in values]
    return pa.array(values)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return format(value, "f") if isinstance(value, Decimal) else value


def _files(out: Path) -> set[str]:
    """The files of an earlier settlement, its manifest included."""
    try:
        found = orjson.loads((out / MANIFEST).read_bytes())["files"]
        return {str(name) for name in found}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _replace(out: Path, files: Mapping[str, bytes]) -> None:
    """The folder whole or not at all: made beside its place, then renamed into it."""
    fresh, aside = _beside(out, "new"), _beside(out, "before")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(mode=0o700)
        for name, data in files.items():
            with create(fresh / name) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if out.exists():
            out.rename(aside)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        _finish(out)


def _finish(out: Path) -> None:
    """Whatever a crash between two renames left: the earlier folder goes back to its place, or away."""
    aside = _beside(out, "before")
    if aside.exists():
        if out.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(out)


def _beside(out: Path, what: str) -> Path:
    place = out.absolute()
    return place.with_name(f".{place.name}.{what}")
