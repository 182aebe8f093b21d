"""`flyball compare`: two backtests side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from aggregator.cli.output import Json, app, emit, text, writable

# Of the many results those that one asks for first.
SHOWN = (
    "score", "income.totals.0.amount", "requested_up_kwh", "requested_down_kwh", "delivered_up_kwh",
    "delivered_down_kwh", "unserved_kwh", "throughput_kwh", "commands", "vehicles.losses_kwh", "vehicles.cycles",
    "vehicles.reversals", "drivers.left_short", "drivers.left_short_kwh", "wear.lfp.marginal_cost",
    "wear.nmc.marginal_cost", "gap_s",
)  # fmt: skip


@app.command(epilog="Example: flyball compare var/as-sold var/wide-band --out var/compared --json -")
def compare(
    a: Annotated[Path, typer.Argument(help="Folder of a backtest (`--out`).")],
    b: Annotated[Path, typer.Argument(help="Folder of another one.")],
    out: Annotated[Path | None, typer.Option(help="Folder for compare.json, days.parquet and compare.html.")] = None,
    any: Annotated[bool, typer.Option("--any", help="Although they are of another trace or span.")] = False,
    json: Json = None,
) -> None:
    """Say what two runs were asked differently, and what came of it: every result, and every day."""
    from aggregator.results.comparing import compare as compared
    from aggregator.results.comparing import load, write

    writable(json)
    first, second = load(a), load(b)
    found = compared(first, second, anyway=any)
    if out is not None:
        write(out, first, second, found)
    emit(found, json, shown(found))


def shown(found: dict[str, Any]) -> Table:
    """What was changed, and the first results."""
    title = f"{found['a']} and {found['b']}" + "".join(f"; of {note}" for note in found["notes"])
    table = Table(title=title, title_justify="left")
    for name in ("", "a", "b", "difference", "ratio"):
        table.add_column(name, justify="left" if not name else "right")
    for row in found["asked"]:
        table.add_row(row["name"], text(row["a"]), text(row["b"]), "", "")
    table.add_section()
    for row in found["results"]:
        if row["name"] in SHOWN:
            table.add_row(row["name"], *(text(row.get(name)) for name in ("a", "b", "difference", "ratio")))
    return table
