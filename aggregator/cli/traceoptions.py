"""How a recorded trace is to be read, as options: the same words wherever a trace is given."""

from __future__ import annotations

from typing import Annotated

import typer

Format = Annotated[str | None, typer.Option("--format", help="neso, table or index_hz; recognised by content.")]
TimeCol = Annotated[str | None, typer.Option("--time-col", help="Time column of a table, by name or number from 1.")]
HzCol = Annotated[str | None, typer.Option("--hz-col", help="Frequency column of a table.")]
VoltCol = Annotated[str | None, typer.Option("--volt-col", help="Voltage columns of a table, set apart by commas.")]
Zone = Annotated[str | None, typer.Option("--tz", help="Zone of times that name none; UTC.")]
Site = Annotated[str | None, typer.Option("--site", help="Place, where a table has several.")]
Start = Annotated[str | None, typer.Option("--start", help="ISO time of row 0 of index_hz.")]
StepS = Annotated[float | None, typer.Option("--step-s", help="Seconds from row to row of index_hz.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Count malformed rows instead of stopping.")]
