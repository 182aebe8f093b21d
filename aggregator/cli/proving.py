"""`flyball verify | seal | prove | redact | evidence`: what was delivered, so that others can check it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from aggregator.cli.output import Json, app, emit, figures, writable

Out = Annotated[Path, typer.Option("--out", help="File to write.")]


@app.command(epilog="Example: flyball verify var/latest/evidence/2026-11-21-0000000000.jsonl --key evidence-1.pub")
def verify(
    paths: Annotated[list[Path], typer.Argument(help="Evidence files in their order, a proof, or a run's folder.")],
    key: Annotated[str | None, typer.Option(help="Public key of who sealed it, or a file with it.")] = None,
    recompute: Annotated[bool, typer.Option("--recompute", help="Compute every statement again.")] = False,
    running: Annotated[bool, typer.Option("--open", help="The last file may still be written.")] = False,
    head: Annotated[str | None, typer.Option(help="Hash of a head known from before, which must be in it.")] = None,
    json: Json = None,
) -> None:
    """Say whether sealed evidence is whole, and what was changed, is missing or out of order if not."""
    from settlement import verifier

    writable(json)
    given = verifier.public_key(key) if key else None
    if len(paths) == 1 and paths[0].is_dir():
        result = _folder(paths[0], given, recompute, head)
    else:
        for path in paths:
            if not path.is_file():
                raise ValueError(f"PATHS: {path} is no file; give evidence, a proof, or one run's folder")
        result = verifier.verify(paths, given, running=running, head=head)
        if recompute and result["ok"] and "rows" not in result:
            result |= _recomputed(paths)
    emit(result, json, figures("evidence", {k: v for k, v in result.items() if k not in ("problems", "rows")}))
    if result["ok"] and not result["key_given"]:
        print("flyball: the key is the one that the file names; compare it with the one published", file=sys.stderr)
    for problem in result["problems"]:
        print(f"flyball: {problem['text']}", file=sys.stderr)
    if not result["ok"]:
        raise SystemExit(2)


def _folder(folder: Path, key: str | None, recompute: bool, head: str | None) -> dict[str, Any]:
    """A run's folder: its statements against its journal, and its evidence, which may still be written."""
    from aggregator.evidence_files import FOLDER, evidence_files
    from aggregator.settle import verify_folder
    from settlement import verifier

    if not (folder / "journal").is_dir():
        raise ValueError(f"PATHS: {folder} has no journal; give the folder of a run, e.g. var/run-...")
    statements = verify_folder(folder / "journal")
    paths = evidence_files(folder / FOLDER) if (folder / FOLDER).is_dir() else []
    if not paths:
        return {"ok": True, "key_given": True, "statements": statements, "files": [], "problems": []}
    result = verifier.verify(paths, key, running=True, head=head)
    if recompute and result["ok"]:
        result |= _recomputed(paths)
    return {"statements": statements} | result


def _recomputed(paths: list[Path]) -> dict[str, Any]:
    """Every statement computed again from the sealed rows."""
    from aggregator.compiling import ensure
    from aggregator.evidence_files import read
    from aggregator.process import logger
    from settlement.recompute import recompute

    ensure(logger("verify"))
    found = recompute(read(paths))
    problems = [{"text": str(item), **item._asdict()} for item in found.mismatches]
    return {
        "ok": not problems, "recomputed": found.statements, "recomputed_s": found.seconds,
        "recomputed_lines": found.lines, "unpriced": found.unpriced, "problems": problems,
        "problems_count": len(problems),
    }  # fmt: skip


@app.command(epilog="Example: flyball seal var/run-20261121T080000.000 --out evidence.jsonl")
def seal(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    out: Out,
    json: Json = None,
) -> None:
    """Seal a recorded run after the fact, into one file that says so."""
    import time

    from aggregator.cli.journalling import warn
    from aggregator.compiling import ensure
    from aggregator.journal import Problem
    from aggregator.process import logger
    from aggregator.sealing_late import seal_folder

    writable(json)
    writable(str(out), "--out")
    if not (folder / "journal").is_dir():
        raise ValueError(f"FOLDER: {folder} has no journal; give the folder of a run, e.g. var/run-...")
    ensure(logger("seal"))
    problems: list[Problem] = []
    result = seal_folder(folder, out, time.time_ns(), problems)
    warn(problems)
    emit(result, json, figures(str(out), result))


@app.command(epilog="Example: flyball prove evidence.jsonl EV00042 --out proof.json")
def prove(
    file: Annotated[Path, typer.Argument(help="A file of evidence.")],
    vehicle: Annotated[str, typer.Argument(help="Whose share.")],
    out: Out,
    start: Annotated[str | None, typer.Option(help="Intervals from here on, ISO 8601.")] = None,
    end: Annotated[str | None, typer.Option(help="Intervals up to here, ISO 8601.")] = None,
    json: Json = None,
) -> None:
    """Prove one vehicle's share without showing the others."""
    from settlement import verifier
    from settlement.proofs import prove as proven

    writable(json)
    writable(str(out), "--out")
    checked = verifier.verify([file], running=True)
    if not checked["ok"]:
        raise ValueError(checked["problems"][0]["text"])
    document = proven(verifier.lines(file), vehicle, _ns(start, "--start"), _ns(end, "--end"))
    _write(out, [orjson.dumps(document)])
    result = {"file": str(out), "vehicle": vehicle, "intervals": len(document["items"]), "key": checked["key"]}
    emit(result, json, figures(str(out), result))


@app.command(epilog="Example: flyball redact evidence.jsonl --out for-the-buyer.jsonl")
def redact(file: Annotated[Path, typer.Argument(help="A file of evidence.")], out: Out) -> None:
    """Leave the vehicles' rows out of a file of evidence; it can still be verified."""
    from settlement import verifier
    from settlement.proofs import redact as redacted

    writable(str(out), "--out")
    _write(out, redacted(verifier.lines(file)))


@app.command(epilog="Example: flyball evidence var/latest --json -")
def evidence(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new key; it signs from the next start on.")] = False,
    json: Json = None,
) -> None:
    """Show the public key of a run's evidence, its files and their newest signed head."""
    from aggregator.evidence_files import FOLDER, evidence_files
    from aggregator.evidence_keys import evidence_keys, next_key
    from settlement import verifier

    if not folder.is_dir():
        raise ValueError(f"FOLDER: {folder} is no folder; give that of a run, e.g. var/run-...")
    if rotate:
        next_key(folder / "keys")
    paths = evidence_files(folder / FOLDER) if (folder / FOLDER).is_dir() else []
    found = verifier.verify(paths, running=True) if paths else {"ok": True, "heads": 0, "head": None}
    result = {
        "key": evidence_keys(folder / "keys")[-1].public, "files": [str(path) for path in paths], "ok": found["ok"],
        "heads": found["heads"], "head": found["head"],
    }  # fmt: skip
    emit(result, json, figures(str(folder), result))


def _ns(text: str | None, option: str) -> int | None:
    from datetime import UTC, datetime

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{option} {text}: takes ISO 8601, e.g. 2026-11-21T12:00:00Z") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1_000_000_000


def _write(path: Path, parts: Iterable[bytes]) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
