"""`flyball replay`: a recorded run once more, from its files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aggregator.cli.output import Json, app, emit, fail, figures


@app.command(epilog="Example: flyball replay var/run-20261121T080000.000")
def replay(
    folder: Annotated[Path, typer.Argument(help="A run's folder: its journal and its keys.")], json: Json = None
) -> None:
    """Drive the engine with a run's journal; every command must come out byte for byte as it was sent."""
    from aggregator import journal_reader
    from aggregator.cli.journalling import warn
    from aggregator.compiling import ensure
    from aggregator.journal import Problem
    from aggregator.keys import command_keys
    from aggregator.process import logger
    from aggregator.replay import replay as again

    if not (folder / "journal").is_dir():
        raise ValueError(f"FOLDER: {folder} has no journal; give the folder of a run, e.g. var/run-...")
    ensure(logger("replay"))
    problems: list[Problem] = []
    entries = journal_reader.entries(folder / "journal", problems=problems)
    found = again(entries, command_keys(folder / "keys", make=False))
    warn(problems)
    row = {**found.__dict__, "same": found.same}
    emit(row, json, figures(str(folder), row))
    if not found.same:
        fail(
            f"{found.commands - found.equal} of {found.commands} commands differ from what was sent, "
            f"{found.extra} were never sent",
            code=1,
        )
