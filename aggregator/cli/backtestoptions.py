"""Options of a backtest: what drives it, what is sold, and where it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Traces = Annotated[list[Path] | None, typer.Argument(help="Recorded traces, one after the other, or folders of them.")]
SignalFile = Annotated[
    Path | None,
    typer.Option("--signal", help="Recorded signal of products on one: PJM's files, or CSV of time,signal -1..1."),
]
Begin = Annotated[str | None, typer.Option("--from", help="Only rows from this ISO time on; UTC.")]
End = Annotated[str | None, typer.Option("--to", help="Only rows before this ISO time; UTC.")]
ConfigFile = Annotated[
    Path | None, typer.Option(help="TOML configuration, as of `run`: contracts, fleet, sites, limits, engine, gate.")
]
Sold = Annotated[
    str, typer.Option(help="fixed: as --sold-kw says; bid: of each block what the bid-sizing rule would have sold.")
]
History = Annotated[
    list[Path] | None, typer.Option(help="Of --sold bid: history from before the run, as of `flyball bid`.")
]
Confidence = Annotated[float, typer.Option(help="Of --sold bid: that what is sold will be there.")]
Out = Annotated[Path | None, typer.Option(help="Folder for result, statements, series and checkpoints.")]
Resume = Annotated[Path | None, typer.Option(help="Go on with the stopped run in this folder.")]
