"""How a recorded trace is to be read, as options: the same words wherever a trace is given."""

from __future__ import annotations

from typing import Annotated

import typer

Format = Annotated[
    str | None, typer.Option("--format", help="Of the file, e.g. neso, rte, table; recognised by content.")
]
TimeCol = Annotated[str | None, typer.Option("--time-col", help="Time column of a table, by name or number from 1.")]
HzCol = Annotated[str | None, typer.Option("--hz-col", help="Frequency column of a table.")]
VoltCol = Annotated[str | None, typer.Option("--volt-col", help="Voltage columns of a table, set apart by commas.")]
Zone = Annotated[str | None, typer.Option("--tz", help="Zone of times that name none; UTC.")]
Site = Annotated[str | None, typer.Option("--site", help="Place, where a file has several.")]
Start = Annotated[str | None, typer.Option("--start", help="ISO time of row 0 of index_hz; day of times of day.")]
NominalHz = Annotated[float | None, typer.Option("--nominal-hz", help="50 or 60, for deviations; 50.")]
Repair = Annotated[
    str | None, typer.Option("--repair", help="day-month exchanges day and month; none takes dates as written.")
]
StepS = Annotated[float | None, typer.Option("--step-s", help="Seconds from row to row of index_hz.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Count malformed rows instead of stopping.")]
AnyDate = Annotated[
    bool, typer.Option("--any-date", help="Sell a product although its market does not have it on that day.")
]
