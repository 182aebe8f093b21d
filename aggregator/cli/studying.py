"""`flyball study`: every combination of products, fleets, traces and parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aggregator.cli.backtesting import progress_bar
from aggregator.cli.output import Json, app, emit, writable


@app.command(
    epilog="Example: flyball study study.toml --out study --workers 2; then look at study/study.html. "
    "On a cluster: flyball study study.toml --out study --scheduler tcp://127.0.0.1:8786"
)
def study(
    file: Annotated[
        Path, typer.Argument(help="TOML: kind, traces, [case] for all, [vary] with lists; docs/studies.md.")
    ],
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes on this machine.")] = 1,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, in place of processes.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the stopped study in this folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results as Parquet, CSV and a page.")] = None,
    json: Json = None,
) -> None:
    """Work out every combination of a study, each with one battery for the fleet or as a whole backtest."""
    from aggregator.process import settle_memory
    from aggregator.studies import plan, running, writing

    writable(json)
    asked = plan.read(file)
    settle_memory()
    with progress_bar("study") as told:
        results = running.run(
            asked, resume or out, resume=resume is not None, workers=workers, scheduler=scheduler,
            progress=lambda done, total: told(done * 10**9, total * 10**9),
        )  # fmt: skip
    folder = resume or out
    if results is None:
        remedy = f"go on with --resume {folder}" if folder else "use --out to be able to go on"
        raise RuntimeError(f"stopped before the end; {remedy}")
    rows = writing.rows(asked, results)
    if folder is not None:
        writing.write(folder, asked, rows)
    emit({"name": asked.name, "varied": list(asked.varied), "cases": rows}, json, writing.text(asked, rows))
